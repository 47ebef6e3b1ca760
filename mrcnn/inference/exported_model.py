"""`ExportedModel`: detection with a file that `mrcnn export` wrote, by the runtime of its format.

    images -> the file (runtimes.py), which resizes, detects and gives pixels of the image
           -> unmold (postprocessing.py) -> results

Neither TensorFlow nor Keras is imported, unless the file is a SavedModel.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config, without_functions
from ..data.image import match_channels, resize_to_config, to_uint8
from ..data.keypoints import decode_heatmaps
from ..nn.boxes import area, normalize, to_pixels
from . import runtimes
from .image_inputs import ImageReader, check_image_list, is_one_image
from .postprocessing import check_mask_form, image_boxes, unmold_detections
from .result import make_result
from .threads import prefetch_one
from .timing import seconds_of_detection

log = logging.getLogger("mrcnn")

MEGABYTE = 1_000_000


class Shape(NamedTuple):
    """The images that a file accepts: how many at once, and their size; None for any."""

    batch: int | None = 1
    height: int | None = None
    width: int | None = None


class ExportedModel:
    """An exported file with the interface of a network's detection.

    config: the settings of the network. Of them, detection reads DETECTION_MIN_CONFIDENCE, which
        can only be raised, and the settings of how masks and keypoints are placed.
    class_names: by class id, background first.
    shape: of the images that the file accepts.
    runtime: the one that runs the file, a key of `runtimes.RUNTIMES`.
    precision: of the file's kernels, "float32", "float16" or "int8".

        ExportedModel("shapes.onnx").detect("image.png").save("found.png")
    """

    mode = "inference"

    def __init__(self, path: str | os.PathLike):
        """Open a file.

        Raises:
            ValueError: the file is no export of this package, or its runtime cannot read it.
            ImportError: its runtime is not installed.
        """
        self.path = os.fspath(path)
        self.runtime = runtimes.FORMATS[runtimes.format_of(path)].runtime
        file = runtimes.open_file(path)
        self._run = file.run
        self.config, self.class_names, self.shape = _read(file.description, self.path)
        self.precision = str(file.description.get("precision", "float32"))
        self._lowest_score = self.config.DETECTION_MIN_CONFIDENCE
        self._has_warned = False

    def detect(
        self, images: Any, verbose: int = 0, batch_size: int | None = None, masks: str = "full"
    ) -> Any:
        """Detect objects in images; see `DetectionMethods.detect` for images, masks and results.

        verbose: unused. batch_size: how many images of one size a file that accepts any number
            sees at once; default 1.

        Raises: ValueError for an image of another size than the file accepts.
        """
        if is_one_image(images, self.config.IMAGE_CHANNEL_COUNT):
            (result,) = self.detect([images], verbose, batch_size, masks)
            return result
        check_image_list(images, "detect")
        check_mask_form(masks)
        self._check_settings()
        reader = ImageReader(images, self.config.IMAGE_CHANNEL_COUNT)
        found: list[dict[str, Any]] = []
        for batch in prefetch_one(self._batches(reader, batch_size or 1)):
            outputs = self._run(self._filled(batch))
            for i, image in enumerate(batch):
                arrays = result_arrays(outputs, i, image.shape, self.config, masks)
                found.append(arrays)
        seen = zip(found, reader.seen, strict=True)
        return [make_result(arrays, one, self.config, self.class_names) for arrays, one in seen]

    def heat_maps(self, image: Any) -> dict[str, np.ndarray]:
        """Raise ValueError: an exported file gives no scores of anchors."""
        raise ValueError(
            f"Heat maps need the weight file. Received: {self.path}. Try the .h5 file that it was "
            "exported from."
        )

    def summary_line(self, image_shape: Sequence[int] | None = None, repeats: int = 3) -> str:
        """Return a line about the file: runtime, precision, size, milliseconds.

        image_shape: (height, width) of an image to detect in; default IMAGE_SHAPE. A file of a
            fixed size takes its own.
        repeats: detections of a black image, after a first one, of which the median time is given;
            0: none, and no time.
        """
        size = runtimes.size_of(Path(self.path)) / MEGABYTE
        parts = [f"{self.path}: {self.config.NETWORK} in {self.precision} by {self.runtime}"]
        parts.append(f"{size:,.1f} MB")
        if repeats:
            default = self.config.IMAGE_SHAPE[:2] if image_shape is None else image_shape[:2]
            height, width = self.shape.height or default[0], self.shape.width or default[1]
            image = np.zeros((height, width, self.config.IMAGE_CHANNEL_COUNT), np.uint8)
            milliseconds = 1000 * seconds_of_detection(self.detect, image, repeats)
            parts.append(f"{milliseconds:,.0f} ms for an image of {height} x {width} pixels")
        return ", ".join(parts)

    def _check_settings(self) -> None:
        if len(self.config.TTA):
            raise ValueError(
                "Test-time augmentation needs the weight file. Received: TTA = "
                f"{self.config.TTA} for {self.path}. Try the .h5 file that it was exported from, "
                "or no --tta."
            )
        is_lower = self._lowest_score > self.config.DETECTION_MIN_CONFIDENCE
        if is_lower and not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s gives no detection that scores less than %g, the DETECTION_MIN_CONFIDENCE of "
                "its export. `mrcnn export --min-confidence` sets a lower one.",
                self.path,
                self._lowest_score,
            )

    def _batches(self, images: Iterable[Any], size: int) -> Iterator[list[np.ndarray]]:
        """Yield lists of consecutive images `[H, W, C]` uint8 of one size."""
        size = self.shape.batch or size
        batch: list[np.ndarray] = []
        for i, image in enumerate(images):
            pixels = self._pixels(image, i)
            if batch and (len(batch) == size or pixels.shape != batch[0].shape):
                yield batch
                batch = []
            batch.append(pixels)
        if batch:
            yield batch

    def _pixels(self, image: Any, number: int) -> np.ndarray:
        channels = self.config.IMAGE_CHANNEL_COUNT
        pixels = match_channels(to_uint8(np.asarray(image)), channels, f"image {number}")
        wanted = (self.shape.height, self.shape.width)
        if wanted[0] is not None and pixels.shape[:2] != wanted:
            raise ValueError(
                f"{self.path} accepts images of {wanted[0]} x {wanted[1]} pixels (height, width). "
                f"Received: image {number} of {pixels.shape[0]} x {pixels.shape[1]}. Try to resize "
                "it, or `mrcnn export` for another file with --size and this height and width."
            )
        return pixels

    def _filled(self, batch: list[np.ndarray]) -> np.ndarray:
        """`[B, H, W, C]` a batch, filled with black images if the file wants more."""
        missing = (self.shape.batch or len(batch)) - len(batch)
        return np.stack([*batch, *[np.zeros_like(batch[0])] * missing])


def _read(description: Mapping[str, Any], path: str) -> tuple[Config, list[str], Shape]:
    """The config, the class names and the accepted images of a description."""
    try:
        config = Config.from_dict(without_functions(description["config"]))
        names = [str(name) for name in description["class_names"]]
        wanted = description["input"]
        sides = [wanted[name] for name in Shape._fields]
        shape = Shape(*(None if side is None else int(side) for side in sides))
        config.validate()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "A file to detect with must be written by `mrcnn export`, which puts class names and "
            f"settings into it. Received: {path}, without usable ones ({type(error).__name__}: "
            f"{error})."
        ) from error
    if len(config.TTA):
        log.warning("%s detects in one view; TTA = %s is left out.", path, config.TTA)
        config.TTA = ()
    return config, names, shape


def result_arrays(
    outputs: Mapping[str, np.ndarray],
    index: int,
    image_shape: tuple[int, ...],
    config: Config,
    masks: str = "full",
) -> dict[str, Any]:
    """Return the detections of one image as the dict that `detect` describes.

    outputs: of an exported file, see `mrcnn.export.graph`. index: of the image in the batch.
    image_shape: `(H, W, ...)` of the image. masks: a key of `postprocessing.MASK_FORMS`.
    """
    count = int(outputs["count"][index])
    is_kept = outputs["scores"][index][:count] >= config.DETECTION_MIN_CONFIDENCE
    rows = {name: outputs[name][index][:count][is_kept] for name in outputs if name != "count"}
    frame = (image_shape, image_shape, (0, 0, *image_shape[:2]))
    detections = _detections(rows, image_shape, config)
    soft = rows["masks"][..., None] if "masks" in rows else None
    found = unmold_detections(detections, soft, *frame, masks=masks, config=config)
    arrays: dict[str, Any] = dict(zip(("rois", "class_ids", "scores"), found, strict=False))
    if soft is not None:
        arrays["masks"] = found[3]
    if "keypoints" in rows:
        is_real = area(image_boxes(detections[:, :4], *frame, config.CONTINUOUS_BOXES)) > 0
        real = {name: values[is_real] for name, values in rows.items()}
        arrays["keypoints"] = _keypoints(real, image_shape, config)
    return arrays


def _detections(
    rows: Mapping[str, np.ndarray], image_shape: tuple[int, ...], config: Config
) -> np.ndarray:
    """`[N, (y1, x1, y2, x2, class_id, score)]` normalized to the image."""
    boxes = normalize(rows["boxes"], image_shape[:2], config.CONTINUOUS_BOXES)
    others = (rows["class_ids"][:, None], rows["scores"][:, None])
    return np.concatenate([boxes, *others], axis=1).astype(np.float32)


def _keypoints(
    rows: Mapping[str, np.ndarray], image_shape: tuple[int, ...], config: Config
) -> np.ndarray:
    """`[N, K, (y, x, score)]`; heatmaps are as large as boxes are in the network's image."""
    blank = np.zeros((*image_shape[:2], config.IMAGE_CHANNEL_COUNT), np.uint8)
    mode = "pad64" if config.IMAGE_RESIZE_MODE == "crop" else config.IMAGE_RESIZE_MODE
    resized, window, *_ = resize_to_config(blank, config, mode=mode)
    continuous, shape = config.CONTINUOUS_BOXES, resized.shape[:2]
    inside = normalize(np.asarray(window), shape, continuous)
    start, size = inside[:2], inside[2:] - inside[:2]
    boxes = normalize(rows["boxes"], image_shape[:2], continuous)
    boxes = boxes * np.tile(size, 2) + np.tile(start, 2)  # normalized to the network's image
    keypoints = decode_heatmaps(rows["keypoints"], to_pixels(boxes, shape, continuous))
    y1, x1, y2, x2 = (float(side) for side in window)
    ratios = np.array([image_shape[0] / (y2 - y1), image_shape[1] / (x2 - x1)], np.float32)
    keypoints[..., :2] = (keypoints[..., :2] - np.array([y1, x1], np.float32)) * ratios
    return keypoints

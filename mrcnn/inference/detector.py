"""`Detector`: images in, boxes, classes and masks out; all that detection needs besides a network.

    images -> mold (preprocessing.py)
           -> predict (the compiled network)
           -> unmold (postprocessing.py) -> results

Shape shorthand: B images, A anchors, N proposals, D detections, C channels.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ..config import Config
from ..data.progress import with_progress
from ..nn import boxes as box_math
from ..nn.anchors import pyramid_anchors
from . import heat_maps, tiles, tta
from .image_inputs import ImageReader, Seen, check_image_list
from .postprocessing import (
    check_mask_form,
    unmold_detections,
    unmold_keypoints,
    unmold_proposals,
    why_nothing,
)
from .preprocessing import Molded, batches, mold, stack_if_equal
from .result import Result, make_result, numbered_classes
from .threads import ReadWriteLock, prefetch_one

if TYPE_CHECKING:
    import tensorflow as tf

# TensorFlow is imported by the methods that run a network: it takes seconds, and with it comes
# Keras, which imports matplotlib.

logger = logging.getLogger("mrcnn")


def log(text: str, array: Any = None) -> None:
    """Print a line; for an array also its shape, range and type."""
    if array is not None:
        array = np.asarray(array)
        low = f"{array.min():10.5f}" if array.size else ""
        high = f"{array.max():10.5f}" if array.size else ""
        text = f"{text:25}  shape: {array.shape!s:20}  min: {low:10}  max: {high:10}  {array.dtype}"
    print(text)


class Steps(Protocol):
    """The steps of a detection. `Detector` has its own; a caller may pass an object with others."""

    def mold_images(self, images: Sequence[Any], zoom: float = 1.0) -> list[Molded]: ...

    def mold_inputs(self, images: Sequence[Any]) -> tuple[Any, np.ndarray, np.ndarray]: ...

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray: ...

    def predict(self, inputs: Sequence[Any]) -> list[np.ndarray]: ...

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray | None,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Any,
    ) -> tuple: ...

    def unmold_proposals(
        self,
        proposals: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Any,
    ) -> dict[str, np.ndarray]: ...

    def detect(self, images: Any, *, masks: str) -> list[Result]: ...


class Anchors(NamedTuple):
    """The anchors of one molded image shape: `[A, (y1, x1, y2, x2)]` in pixels and normalized."""

    image_shape: tuple[int, int]
    pixels: np.ndarray
    normalized: np.ndarray


# How many image shapes keep their anchors: the sizes of test-time augmentation take turns. Those of
# 1024 x 1024 pixels take 12 MB.
CACHED_SHAPES = 4


class AnchorCache:
    """The anchors of the last `CACHED_SHAPES` image shapes."""

    def __init__(self) -> None:
        self._cached: tuple[Anchors, ...] = ()

    def get(self, image_shape: Sequence[int], config: Config) -> Anchors:
        """Return the anchors of a molded image of shape `(h, w, ...)`."""
        shape = (int(image_shape[0]), int(image_shape[1]))
        cached = self._cached  # read once: another thread may replace it
        for anchors in cached:
            if anchors.image_shape == shape:
                return anchors
        pixels = pyramid_anchors(config, shape)
        normalized = box_math.normalize(pixels, shape, config.CONTINUOUS_BOXES)
        anchors = Anchors(shape, pixels, normalized)
        self._cached = (anchors, *cached)[:CACHED_SHAPES]
        return anchors


class Batch(NamedTuple):
    """Images that the network sees together, and the seconds that preparing them took."""

    images: list[Any]
    molded: list[Molded]
    seconds: float


class Detector:
    """Detects objects in images with a Keras network; any number of threads may call it.

    network: has the inputs image, meta and anchors, see `MaskRCNN.build`.
    config: a `Config`; changed thresholds take effect at the next call.
    class_names: by class id, background first; for messages.
    read_outputs: `(outputs, config) -> [detections, probs, masks]`, the function with which a
        network says how its raw outputs become detections; by default `network.read_outputs`.
        It runs inside the compiled function. Its result is that of `predict`.

        detector = Detector(model.keras_model, model.config, model.class_names)
        result = detector.detect([image])[0]
    """

    def __init__(
        self,
        network: Any,
        config: Config,
        class_names: Sequence[str] | None = None,
        read_outputs: Callable[[Any, Config], list[tf.Tensor]] | None = None,
    ) -> None:
        self.network = network
        self.config = config
        self.class_names = class_names
        self.read_outputs = read_outputs or network.read_outputs
        # Readers detect; a writer changes the weights. No detection mixes old and new weights.
        self.weights_lock = ReadWriteLock()
        self._running = network  # or a faster network with the same inputs and outputs
        self._compiled: dict[tuple, Callable] = {}
        self._compiling = threading.Lock()
        self._anchors = AnchorCache()
        self._device_anchors: tuple[tuple[np.ndarray, tf.Tensor], ...] = ()

    def run_with(self, network: Callable[[list[tf.Tensor]], Any]) -> None:
        """Detect with this network from the next call on.

        network: called with the list of inputs; has the inputs and outputs of `self.network`.
        """
        with self.weights_lock.writing():
            if network is not self._running:  # new weights of the same network need no new trace
                self._running = network
                self._compiled = {}

    # --- Detection ---

    def detect(
        self,
        images: Iterable[Any],
        verbose: int = 0,
        batch_size: int | None = None,
        masks: str = "full",
        steps: Steps | None = None,
    ) -> list[Result]:
        """Detect objects in images of any number and any sizes; see `MaskRCNN.detect`.

        steps: whose steps to take; by default the detector's own.
        """
        check_image_list(images, "detect")
        check_mask_form(masks)
        if batch_size is not None and batch_size < 1:
            raise ValueError(
                f"batch_size must be at least 1. Received: {batch_size}. Try None, for BATCH_SIZE."
            )
        if verbose:
            count = f"{len(images)} images" if isinstance(images, Sized) else "images"
            log(f"Processing {count}")
        size, steps = batch_size or self.config.BATCH_SIZE, steps or self

        def detect(images: Iterable[Any], masks: str, zoom: float = 1.0) -> list[dict]:
            results: list[dict] = []
            # The next batch is prepared while the network runs.
            for batch in prefetch_one(self._prepare(images, size, steps, zoom)):
                if verbose:
                    for image in batch.images:
                        log("image", image)
                results += self._detect_batch(batch, steps, masks, verbose)
            return results

        reader = ImageReader(images, self.config.IMAGE_CHANNEL_COUNT)
        if len(self.config.TTA):
            found = tta.detect(detect, reader, masks, self.config)
        else:
            found = detect(reader, masks)
        return [self._result(*row) for row in zip(found, reader.seen, strict=True)]

    def _result(self, arrays: dict, seen: Seen) -> Result:
        """The arrays of one image as a `Result`, with what the config says about them."""
        names = self.class_names or numbered_classes(self.config.NUM_CLASSES)
        return make_result(arrays, seen, self.config, names)

    def detect_molded(
        self,
        molded_images: Any,
        image_metas: Any,
        verbose: int = 0,
        steps: Steps | None = None,
    ) -> list[Result]:
        """Detect objects in images that are already molded; results in their pixels.

        molded_images: `[B, h, w, C]` of `mold_inputs`. image_metas: `[B, IMAGE_META_SIZE]`.
        """
        molded = []
        for image, meta in zip(molded_images, image_metas, strict=True):
            window = (0, 0, *image.shape[:2])
            molded.append(Molded(image, meta, window, image.shape))
        batch = Batch(list(molded_images), molded, seconds=0.0)
        found = self._detect_batch(batch, steps or self, "full", verbose)
        seen = [Seen(one.original_shape[:2], None) for one in molded]
        return [self._result(*row) for row in zip(found, seen, strict=True)]

    def detect_tiled(
        self,
        image: Any,
        tile: int | None = None,
        overlap: int | None = None,
        verbose: int = 0,
        steps: Steps | None = None,
    ) -> Result:
        """Detect objects in an image of any size (satellite, microscope), tile by tile.

        image: `[H, W, C]`, a path, an image of Pillow; or an object that returns arrays when sliced
            (`np.memmap`, zarr, HDF5): memory does not grow with the image.
        tile: side of a tile in pixels; default IMAGE_MAX_DIM.
        overlap: pixels that neighbouring tiles share, more than the size of your objects; default
            a quarter of the tile.
        verbose: 1 shows the progress.

        Returns: the result of `detect` for one image with `masks="crop"`; an object that several
            tiles contain appears once, see `tiles.detect_tiled`.
        """
        steps = steps or self
        if self.config.RPN_ONLY:
            raise ValueError(
                "detect_tiled() needs a network with heads. "
                "Received: RPN_ONLY = True. Try detect()."
            )
        tile = tile or self.config.IMAGE_MAX_DIM
        overlap = tile // 4 if overlap is None else overlap
        counts = []

        def detect_one(part: np.ndarray) -> dict:
            (result,) = steps.detect([part], masks="crop")
            counts.append(len(result["rois"]))
            return result

        reader = ImageReader([image], self.config.IMAGE_CHANNEL_COUNT)
        (image,) = reader
        progress = functools.partial(with_progress, what="Detecting", noun="tiles")
        result = tiles.detect_tiled(detect_one, image, tile, overlap, progress if verbose else iter)
        limit = self.config.DETECTION_MAX_INSTANCES
        full = sum(count >= limit for count in counts)
        if full:
            logger.warning(
                "%d of %d tiles contain as many objects as one detection returns, "
                "DETECTION_MAX_INSTANCES = %d: more objects there may be missing. "
                "Try smaller tiles, or a higher limit.",
                full,
                len(counts),
                limit,
            )
        return self._result(result, *reader.seen)

    def _prepare(
        self, images: Iterable[Any], batch_size: int, steps: Steps, zoom: float
    ) -> Iterator[Batch]:
        """Yield molded batches; zoom: factor of the size, for a view of `Config.TTA`."""
        for batch in batches(images, self.config, batch_size):
            start = time.perf_counter()
            molded = steps.mold_images(batch) if zoom == 1 else steps.mold_images(batch, zoom)
            yield Batch(batch, molded, time.perf_counter() - start)

    def _detect_batch(self, batch: Batch, steps: Steps, masks: str, verbose: int) -> list[dict]:
        """The results of a batch, one dict per image."""
        start = time.perf_counter()
        images = np.stack([molded.image for molded in batch.molded])
        metas = np.stack([molded.meta for molded in batch.molded])
        anchors = self._batch_of_anchors(images, steps)
        if verbose:
            _log_inputs(images, metas, anchors)
        network_start = time.perf_counter()
        outputs = steps.predict([images, metas, anchors])
        network_end = time.perf_counter()
        results = []
        for i, molded in enumerate(batch.molded):
            result = self._unmold([output[i] for output in outputs], molded, steps, masks)
            results.append(result)
            if verbose and not self.config.RPN_ONLY and len(result["rois"]) == 0:
                log(why_nothing(outputs[1][i], self.config, self.class_names))
        if verbose:
            preparing = batch.seconds + network_start - start
            finishing = time.perf_counter() - network_end
            _log_times(preparing, network_end - network_start, finishing)
        return results

    def _unmold(
        self, outputs: list[np.ndarray], molded: Molded, steps: Steps, masks: str
    ) -> dict[str, Any]:
        """One image's result from its outputs, see `predict`."""
        shapes = (molded.original_shape, molded.image.shape, molded.window)
        if self.config.RPN_ONLY:
            return steps.unmold_proposals(outputs[0], *shapes)
        soft_masks = outputs[2] if self.config.has_mask_head() else None
        # Scripts replace unmold_detections with matterport's signature, which has no `masks`.
        form = {} if masks == "full" else {"masks": masks}
        rows = steps.unmold_detections(outputs[0], soft_masks, *shapes, **form)
        rois, class_ids, scores, unmolded_masks = rows
        result = {"rois": rois, "class_ids": class_ids, "scores": scores}
        if unmolded_masks is not None:
            result["masks"] = unmolded_masks
        if self.config.has_keypoint_head():
            continuous = self.config.CONTINUOUS_BOXES
            result["keypoints"] = unmold_keypoints(outputs[0], outputs[-1], *shapes, continuous)
        return result

    # --- Steps ---

    def mold_images(self, images: Sequence[Any], zoom: float = 1.0) -> list[Molded]:
        """One `Molded` per image; uint8 if there is a GPU, which subtracts the mean in `predict`.

        uint8 is a quarter of the bytes to transfer. Without a GPU, NumPy is faster.

        zoom: factor of the images' size in the network, for a view of `Config.TTA`.
        """
        import tensorflow as tf

        subtract_mean = not tf.config.list_logical_devices("GPU")
        return self._mold(images, subtract_mean, zoom)

    def _mold(self, images: Sequence[Any], subtract_mean: bool, zoom: float = 1.0) -> list[Molded]:
        return [
            mold(image, self.config, f"image {i}", subtract_mean, zoom)
            for i, image in enumerate(images)
        ]

    def mold_inputs(self, images: Sequence[Any]) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return images as the network reads them.

        images: a list of `[H, W, C]` uint8 (or what `data.image.to_uint8` accepts).

        Returns: molded_images `[B, h, w, C]` float32 (a list, if the sizes differ), image_metas
            `[B, IMAGE_META_SIZE]`, windows `[B, (y1, x1, y2, x2)]` pixels.
        """
        check_image_list(images, "mold_inputs")
        molded = self._mold(images, subtract_mean=True)
        molded_images = stack_if_equal([one.image for one in molded])
        metas = np.stack([one.meta for one in molded])
        windows = np.stack([one.window for one in molded])
        return molded_images, metas, windows

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """`[A, (y1, x1, y2, x2)]` normalized anchors for a molded image of this shape; cached."""
        return self._anchors.get(image_shape, self.config).normalized

    def _batch_of_anchors(self, images: np.ndarray, steps: Steps) -> tf.Tensor:
        """`[B, A, 4]` the anchors of molded images `[B, h, w, C]`, copied to the device once."""
        import tensorflow as tf

        anchors = steps.get_anchors(images.shape[1:])
        cached = self._device_anchors  # read once: another thread may replace it
        copies = [copy for original, copy in cached if original is anchors]
        if not copies:
            copies = [tf.constant(anchors[None])]
            self._device_anchors = ((anchors, copies[0]), *cached)[:CACHED_SHAPES]
        return tf.broadcast_to(copies[0], (len(images), *anchors.shape))

    def predict(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Run the network on a list of its inputs; compiled once per setting of the thresholds.

        Images of uint8 are molded on the device.

        Returns: what `read_outputs` gives. Of Mask R-CNN: detections `[B, D, 6]`, probs
            `[B, N, NUM_CLASSES]`, masks `[B, D, h, w, 1]` of the detections' classes (not if
            USE_MASK is False), heatmaps `[B, D, h, w, K]` with NUM_KEYPOINTS. With RPN_ONLY: all
            outputs, scored proposals first.
        """
        inputs = self._as_tensors(inputs)
        with self.weights_lock.reading():
            return [output.numpy() for output in self._compiled_network()(*inputs)]

    def _as_tensors(self, inputs: Sequence[Any]) -> list[tf.Tensor]:
        """Inputs of `predict` as the network reads them."""
        import tensorflow as tf

        from ..nn.molding import mold_on_device

        inputs = [tf.convert_to_tensor(x) for x in inputs]
        if inputs[0].dtype == tf.uint8:
            inputs[0] = mold_on_device(inputs[0], self.config)
        specs = self.network.inputs
        return [tf.cast(x, spec.dtype) for x, spec in zip(inputs, specs, strict=True)]

    def _compiled_network(self) -> Callable:
        """The compiled function for the present thresholds."""
        config = self.config
        # The thresholds are read when the graph is traced, so new values need a new trace.
        key = (
            config.DETECTION_MIN_CONFIDENCE,
            config.DETECTION_NMS_THRESHOLD,
            config.DETECTION_MAX_INSTANCES,
            config.PRE_NMS_LIMIT,
            config.CLASS_AGNOSTIC_NMS,
            config.DETECTION_ALL_CLASSES,
            config.PRE_NMS_LIMIT_INFERENCE,
            config.DETECTION_NMS,
            config.SOFT_NMS_SIGMA,
            config.BOX_VOTING_IOU,
        )
        with self._compiling:
            if key not in self._compiled:
                # A partial, because TensorFlow warns if it traces one `def` often.
                run = functools.partial(_run_network, self._running, self.read_outputs, config)
                self._compiled = {key: _compile(run, self.network.inputs)}
            return self._compiled[key]

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray | None,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Any,
        masks: str = "full",
    ) -> tuple:
        """One image's detections in its pixels; see `postprocessing.unmold_detections`."""
        return unmold_detections(
            detections,
            mrcnn_mask,
            original_image_shape,
            image_shape,
            window,
            masks,
            self.config,
        )

    def unmold_proposals(
        self,
        proposals: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Any,
    ) -> dict[str, np.ndarray]:
        """One image's proposals in its pixels; see `postprocessing.unmold_proposals`."""
        shapes = (original_image_shape, image_shape, window)
        return unmold_proposals(proposals, *shapes, self.config.CONTINUOUS_BOXES)

    # --- Looking inside ---

    def heat_maps(self, image: Any, steps: Steps | None = None) -> dict[str, np.ndarray]:
        """Name of a pyramid level -> `[H, W]` float32 in 0..1: what the network reacts to.

        The score of the level's best anchor at each pixel, of Mask R-CNN its objectness; see
        `inference.heat_maps`. Draw them with `visualize.draw_heat_maps`.

        image: `[H, W, C]` uint8.
        """
        steps = steps or self
        (molded,) = steps.mold_images([image])
        images, metas = molded.image[None], molded.meta[None]
        inputs = self._as_tensors([images, metas, self._batch_of_anchors(images, steps)])
        with self.weights_lock.reading():
            (scores,) = self._run_heat_maps(*inputs).numpy()
        return heat_maps.heat_maps(scores, molded, self.config)

    @functools.cached_property
    def _run_heat_maps(self) -> Callable:
        """The compiled function from the network's inputs to the anchors' scores `[B, A]`."""
        import keras

        inside = keras.Model(self.network.inputs, heat_maps.anchor_outputs(self.network))

        def run(*inputs):
            return heat_maps.anchor_scores(inside(list(inputs), training=False))

        return _compile(run, self.network.inputs)

    def run_graph(
        self,
        images: Any,
        outputs: Iterable[tuple[str, Any]],
        image_metas: Any = None,
        steps: Steps | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the values of any tensors of the network, by name, and print their ranges.

        images: a list of images; or, with image_metas, an array of molded images.
        outputs: `[(name, tensor)]`, tensors of layers (`network.get_layer(name).output`) or of
            `MaskRCNN.ancestor`.
        """
        import keras
        import tensorflow as tf

        steps = steps or self
        tensors = dict(outputs)
        missing = [name for name, tensor in tensors.items() if tensor is None]
        if missing:
            raise ValueError(
                f"Every output must be a tensor. Received: None for {', '.join(missing)}."
            )
        if image_metas is None:
            molded_images, image_metas, _ = steps.mold_inputs(images)
        else:
            molded_images = np.asarray(images)
        anchors = self._batch_of_anchors(molded_images, steps)
        inside = keras.Model(self.network.inputs, list(tensors.values()))
        run = tf.function(lambda *inputs: inside(list(inputs), training=False), autograph=False)
        inputs = [tf.cast(x, "float32") for x in (molded_images, image_metas, anchors)]
        values = tf.nest.flatten(run(*inputs))  # Keras returns a single output without a list
        found = {name: np.asarray(value) for name, value in zip(tensors, values, strict=True)}
        for name, value in found.items():
            log(name, value)
        return found


def _compile(run: Callable, inputs: Sequence[Any]) -> Callable:
    """The compiled function for tensors of the shapes and types of a network's inputs."""
    import tensorflow as tf

    signature = [tf.TensorSpec(x.shape, x.dtype) for x in inputs]
    return tf.function(run, signature, autograph=False, jit_compile=False)


def _run_network(network, read_outputs, config: Config, *inputs) -> list[tf.Tensor]:
    return read_outputs(network(list(inputs)), config)


def _log_inputs(images: np.ndarray, metas: np.ndarray, anchors: tf.Tensor) -> None:
    name = "images, molded on the GPU" if images.dtype == np.uint8 else "molded_images"
    log(name, images)
    log("image_metas", metas)
    log("anchors", anchors.numpy())


def _log_times(preparing: float, network: float, finishing: float) -> None:
    """Print the seconds of each step of a batch as milliseconds."""
    log(
        f"Preparing {1000 * preparing:.0f} ms, "
        f"network {1000 * network:.0f} ms, "
        f"finishing {1000 * finishing:.0f} ms"
    )

"""`Result`: the detections of one image, a dict that can also draw, write and convert itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..data.keypoints import Skeleton, skeleton_of
from ..data.result_rows import select_rows
from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.write_image import save_image
from .image_inputs import Seen, as_array

# Drawing and formats are imported by the methods that need them: a server needs neither.


class Result(dict[str, Any]):
    """The detections of one image: the dict that `detect` describes, with attributes and methods.

    The dict has what matterport's has: `result["rois"]`, `result["scores"]` and so on, and a copy
    by `dict(result)`. `len(result)` is the number of its keys; that of detections is `count`.

    image_shape: (height, width) of the image.
    class_names: by class id, background first; `labels` are the names of the detections.
    skeleton: names and lines of the keypoints, or None.
    path: of the image file, or None if `detect` got an array or an image of Pillow.
    mask_threshold: the probability from which on a pixel of a mask is inside, for "soft" masks.

    A result does not hold the pixels of its image, because the results of 10,000 images would hold
    10,000 images. `plot` and `save` read the file again, or take the image.
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        image_shape: Sequence[int],
        class_names: Sequence[str],
        skeleton: Skeleton | None = None,
        path: str | None = None,
        mask_threshold: float = 0.5,
    ):
        super().__init__(arrays)
        self.image_shape = tuple(int(side) for side in image_shape[:2])
        self.class_names = list(class_names)
        self.skeleton = skeleton
        self.path = path
        self.mask_threshold = mask_threshold

    # --- Arrays ---

    @property
    def count(self) -> int:
        """The number of detections."""
        return len(self["rois"])

    @property
    def boxes(self) -> np.ndarray:
        """`[N, (y1, x1, y2, x2)]` pixels; the same as `result["rois"]`."""
        return self["rois"]

    @property
    def class_ids(self) -> np.ndarray:
        """`[N]` int32."""
        return self["class_ids"]

    @property
    def labels(self) -> list[str]:
        """The class name of each detection."""
        from ..formats.writing import class_names_of

        return class_names_of(self, self.class_names)

    @property
    def scores(self) -> np.ndarray:
        """`[N]` float32, best first."""
        return self["scores"]

    @property
    def masks(self) -> np.ndarray | None:
        """`[H, W, N]` bool, whatever the form of `result["masks"]`; None without masks.

        Of another form than "full" they are made at each access.
        """
        from ..formats.mask_forms import full_masks

        if "masks" not in self:
            return None
        return full_masks(self["masks"], self.boxes, self.image_shape, self.mask_threshold)

    @property
    def rles(self) -> list[dict[str, Any]] | None:
        """The masks as COCO's run-length codes, whatever their form; None without masks."""
        from ..formats.mask_forms import rles

        if "masks" not in self:
            return None
        return rles(self["masks"], self.boxes, self.image_shape, self.mask_threshold)

    @property
    def keypoints(self) -> np.ndarray | None:
        """`[N, K, (y, x, score)]`, see `detect`; None without keypoints."""
        return self.get("keypoints")

    # --- Some of the detections ---

    def copy(self) -> Result:
        """Return a shallow copy."""
        return copy.copy(self)

    def select(self, keep: Any) -> Result:
        """Return the detections that `keep` selects: `[N]` bool, indices, or `slice(3, 5)`."""
        selected = self.copy()
        selected.update(select_rows(self, keep))
        return selected

    def above(self, score: float) -> Result:
        """Return the detections of at least this score."""
        return self.select(self.scores >= score)

    def of_class(self, *names: str) -> Result:
        """Return the detections of these classes.

        Raises: ValueError for a name that is not in `class_names`.
        """
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise ValueError(
                f"names must be among {', '.join(self.class_names[1:])}. Received: {unknown}. "
                "Try result.class_names."
            )
        return self.select(np.array([label in names for label in self.labels], bool))

    # --- Drawn and written ---

    def plot(self, image: Any = None) -> np.ndarray:
        """Return the image with its detections drawn, uint8 `[H', W', 3]`, as `mrcnn detect` draws.

        image: a path, an array `[H, W]` or `[H, W, C]`, or an image of Pillow; not needed if
            `detect` read the image from a file. A small one is magnified, see
            `visualize.draw_result`.

        Raises: ValueError if there is no image, or it has another size.
        """
        from ..drawing.pages import draw_result
        from ..formats.coco import check_result

        check_result(self)
        pixels = as_array(self._source(image))
        shape = np.shape(pixels)[:2]
        if shape != self.image_shape:
            raise ValueError(
                f"image must be the one of the result, of {self.image_shape} (height, width). "
                f"Received: {shape}. Try the image that detect() got."
            )
        drawn = dict(self)
        if "masks" in self:
            drawn["masks"] = self.masks
        lines = () if self.skeleton is None else self.skeleton.lines
        return draw_result(pixels, drawn, self.class_names, skeleton=lines)

    def save(self, path: str | Path, image: Any = None, format: str | None = None) -> None:
        """Write the result to a file.

        path: its suffix says what is written. .png, .jpg and others: the drawing of `plot`;
            .json: `to_dict`; .csv and .geojson: as `mrcnn detect --format` writes them.
        image: as for `plot`.
        format: "coco", "coco_polygons", "labelme" or "via" for the .json of these tools; "cvat",
            "labelstudio", "yolo" or "png" for a folder of that name in the folder `path`.

        Raises: ValueError for another suffix, or if the image is needed and there is none.
        """
        from ..formats import export
        from ..formats.writing import write_json

        path = Path(path)
        suffix = path.suffix.lower()
        if format is None and suffix in IMAGE_SUFFIXES:
            save_image(self.plot(image), path, marked=suffix == ".png")
        elif format is None and suffix == ".json":
            write_json(path, self.to_dict())
        elif format is None and suffix not in export.FORMAT_OF_SUFFIX:
            raise ValueError(
                "path must end in .png, .jpg, .json, .csv or .geojson unless format is given. "
                f"Received: {path}. Try {path}.png."
            )
        else:
            chosen = format or export.FORMAT_OF_SUFFIX[suffix]
            names = (self.class_names, self.skeleton)
            file = self._file()
            export.write_one(path, chosen, file, self.image_shape, self._for_formats(), *names)

    def _source(self, image: Any) -> Any:
        """Return what to draw on: the image that is given, or the path of the result's own."""
        if image is None and self.path is None:
            raise ValueError(
                "The result of an array does not hold the image. Received: no image. "
                "Try result.plot(image) or result.save(path, image)."
            )
        return self.path if image is None else image

    def _file(self) -> Path:
        if self.path is None:
            raise ValueError(
                "Files of other tools name the image's file. Received: the result of an array, "
                "which has none. Try result.path = 'image.png' first."
            )
        return Path(self.path)

    # --- Converted ---

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python numbers, for `json.dumps`.

        Returns: width, height and detections as in `detections.json`, with masks as RLE; file_name
            if the image came from a file, and keypoint_names if there are some.
        """
        from ..formats.detections_json import detection_entries

        height, width = self.image_shape
        content: dict[str, Any] = {} if self.path is None else {"file_name": self.path}
        content |= {"width": width, "height": height}
        if self.skeleton is not None:
            content["keypoint_names"] = list(self.skeleton.names)
        content["detections"] = detection_entries(self._for_formats(), self.class_names)
        return content

    def to_coco(
        self, image_id: int, category_ids: Mapping[int, int] | None = None
    ) -> list[dict[str, Any]]:
        """Return COCO result entries, ready for JSON; see `formats.coco.coco_results`.

        image_id: of the image in the ground truth. category_ids: class id -> category id; default
            the class ids themselves.
        """
        from ..formats.coco import coco_results

        return coco_results(image_id, self._for_formats(), category_ids)

    def to_supervision(self, compact: bool = True):
        """Return `supervision.Detections`; see `formats.to_supervision`.

        compact: masks are a `supervision.CompactMask`; False for an array `[N, H, W]`.

        Raises: ImportError if supervision is not installed.
        """
        from ..formats.to_supervision import to_supervision

        arrays = dict(self)
        if "masks" in self:
            arrays["masks"] = self.rles if compact else self.masks
        return to_supervision(arrays, self.class_names, self.image_shape)

    def to_pandas(self):
        """Return a `pandas.DataFrame`, a row per detection; see `formats.to_pandas`.

        Raises: ImportError if pandas is not installed.
        """
        from ..formats.to_pandas import to_pandas

        return to_pandas(self._for_formats(), self.class_names, self.path or "")

    def _for_formats(self) -> dict[str, Any]:
        """Return the arrays with masks in a form that `formats` reads: "full" or "rle"."""
        arrays = dict(self)
        if isinstance(arrays.get("masks"), list):
            arrays["masks"] = self.rles
        return arrays


def make_result(
    arrays: Mapping[str, Any], seen: Seen, config: Config, class_names: Sequence[str]
) -> Result:
    """Return the arrays of one image as a `Result`, with what the config says about them."""
    skeleton = skeleton_of(config)
    return Result(arrays, seen.shape, class_names, skeleton, seen.path, config.MASK_THRESHOLD)


def numbered_classes(count: int) -> list[str]:
    """Return names for the classes of a network whose weights name none. count: NUM_CLASSES."""
    return ["BG", *(f"class {i}" for i in range(1, count))]

"""YOLO's labels: a text file per image, a line per object, coordinates as fractions of the image.

A line is `class x1 y1 x2 y2 ...`, a polygon, or `class cx cy width height`, a box. The reader
parses the label files when it opens the data set and reads pixels on demand. `yolo_layout` locates
the files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from ..data.dataset import place_classes
from ..files.atomic import atomic_write
from ..files.image_files import read_size
from ..files.limits import LONGEST_SIDE, MOST_POINTS
from ..files.safe_text import clean_name
from .polygons import MAX_LENGTH, check_length, join_rings, polygons_to_rle, rectangle
from .reading import RLEImages, SkippedEntries
from .rle import RLE
from .values import short
from .writing import LabelFolder, Result, Writer, detections_of
from .yolo_layout import (
    choose_set,
    find_names,
    find_sets,
    images_of,
    label_file,
    labels_folder,
)

logger = logging.getLogger("mrcnn")

# Coordinates may exceed the image by this fraction of its size; larger ones are pixels.
MAX_OVERSHOOT = 1.0


class YOLODataset(RLEImages):
    """Labels of YOLO: polygons and boxes.

    The mask of a box is the filled box, and a warning counts the boxes. `load_bbox` returns boxes
    exactly as in the files; those of polygons enclose their points. Images without a label file are
    images without objects, and a warning counts them. `image_info[i]["id"]` is the image's path
    below its folder, without suffix.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        images_dir: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset.

        path: a data.yaml, its folder, or a folder of one set: of `images` and `labels`, of images
            whose labels are in a folder `labels` instead of `images`, or of images and label files.
        split: "train", "val" or "test". Default: the only set of `path`, else "train".
        images_dir: the folder of the images, if `path` contains only label files.
        class_names: all classes, in the order of their ids 1, 2, ...; labels map to them by name.
            Default: those of data.yaml, classes.txt or obj.names; without any, "class 0", ...
        strict: raise a ValueError at the first line that cannot be used, instead of skipping it.
        """
        super().__init__()
        path = Path(path)
        sources, start, labels = _find_data(path, split, images_dir)
        names, has_keypoints = find_names(start, path)
        images = _list_images(sources, labels, path)
        skipped = SkippedEntries(path, strict)
        lines = 0
        for image in images:
            lines += image.read_labels(has_keypoints, skipped)
        used = {each.index for image in images for each in image.objects}
        class_of = self._add_classes(names, class_names, used, path)
        for image in images:
            self._add_image(image, class_of, skipped)
        skipped.finish(self, lines, "lines")
        self._warn(path, images)
        self.prepare()

    def _add_classes(
        self,
        names: dict[int, str] | None,
        wanted: Sequence[str] | None,
        used: Iterable[int],
        path: Path,
    ) -> dict[int, _YOLOClass]:
        """Add the classes. Returns: class index of the label files -> class.

        names: class index -> name, if files give them. wanted: the classes of the training. used:
        the class indices of the lines.
        """
        if names is None:
            names = dict(enumerate(wanted or ())) or {i: f"class {i}" for i in sorted(used)}
        names = {index: clean_name(name) for index, name in sorted(names.items())}
        listed = list(dict.fromkeys(names.values()))
        classes = listed if wanted is None else [clean_name(name) for name in wanted]
        for class_id, name in enumerate(classes, start=1):
            self.add_class("yolo", class_id, name)
        places = place_classes(listed, classes, path)
        return {
            index: _YOLOClass(places[name] + 1, name)
            for index, name in names.items()
            if name in places
        }

    def _add_image(
        self, image: _YOLOImage, class_of: dict[int, _YOLOClass], skipped: SkippedEntries
    ) -> None:
        usable = []
        for each in image.objects:
            if each.index in class_of:
                usable.append(each)
                continue
            known = {index: yolo_class.name for index, yolo_class in class_of.items()}
            error = ValueError(
                f"A class must be one of {short(known, 300)}. Received: {each.index} in "
                f"{each.where}. Try to add it to the names in data.yaml, or to correct the line."
            )
            skipped.add(error)
        self.add_image(
            "yolo",
            image_id=image.name,
            path=str(image.path),
            file=str(image.file),
            class_ids=[class_of[each.index].class_id for each in usable],
            polygons=[each.polygon for each in usable],
            is_box=[each.is_box for each in usable],
        )

    def _warn(self, path: Path, images: list[_YOLOImage]) -> None:
        """Log how many images have no label file, and how many objects are boxes."""
        without = sum(not image.has_labels for image in images)
        if without:
            logger.warning(
                "%d of %d images in %s have no label file: taken as images without objects.",
                without,
                len(images),
                path,
            )
        boxes = sum(sum(info["is_box"]) for info in self.image_info)
        if boxes:
            logger.warning(
                "%d objects in %s are boxes without an outline: masks are the filled boxes.",
                boxes,
                path,
            )

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one RLE per line, in the order of the file, and class ids, int32 `[N]`."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [
            polygons_to_rle([_to_pixels(polygon, size).ravel().tolist()], size)
            for polygon in info["polygons"]
        ]
        return rles, self.map_class_ids("yolo", info["class_ids"])

    def load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes, cut at the border of the image, and class ids `[N]`.

        Boxes: float `[N, (y1, x1, y2, x2)]` pixels.
        """
        info = self.image_info[image_id]
        height, width = self.image_size(image_id)
        boxes = np.zeros((len(info["polygons"]), 4))
        for box, polygon in zip(boxes, info["polygons"], strict=True):
            points = np.clip(np.reshape(polygon, (-1, 2)), 0, 1)
            x1, y1 = points.min(axis=0) * (width, height)
            x2, y2 = points.max(axis=0) * (width, height)
            box[:] = y1, x1, y2, x2
        return boxes, self.map_class_ids("yolo", info["class_ids"])


def _to_pixels(polygon: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Return fractions x1, y1, ... as points `[N, (x, y)]` in pixels. size: (height, width)."""
    height, width = size
    return np.reshape(polygon, (-1, 2)) * (width, height)


def _find_data(
    path: Path, split: str | None, images_dir: str | Path | None
) -> tuple[list[Path], Path, Path | None]:
    """Return the folders or lists of images, where class names are searched, and the labels.

    The folder of the labels is None if each image implies its own.
    """
    if images_dir is not None:
        choose_set({"": [Path(images_dir)]}, split, path)
        return [Path(images_dir)], path, labels_folder(path)
    sources = choose_set(find_sets(path), split, path)
    return sources, path if path.is_file() else sources[0], None


# --- Label files ----------------------------------------------------------------------------------


class _YOLOClass(NamedTuple):
    class_id: int
    name: str


class _YOLOObject(NamedTuple):
    """A usable line of a label file."""

    index: int  # of the class, as in the file
    polygon: list[float]  # x1, y1, x2, y2, ... as fractions of width and height
    is_box: bool
    where: str


class _YOLOImage:
    """An image, its label file and the usable lines in that."""

    def __init__(self, name: str, path: Path, file: Path):
        """name: path of the image below its folder, without suffix. file: its label file."""
        self.name = name
        self.path = path
        self.file = file
        self.has_labels = file.is_file()
        self.objects: list[_YOLOObject] = []

    def read_labels(self, has_keypoints: bool, skipped: SkippedEntries) -> int:
        """Read the label file, if it exists. Returns: the number of lines.

        has_keypoints: the values after a box are keypoints (data.yaml has `kpt_shape`).
        """
        if not self.has_labels:
            return 0
        lines = 0
        text = self.file.read_text(encoding="utf-8-sig", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            values = line.split()
            if not values:
                continue
            lines += 1
            where = f"{self.file}, line {number}"
            try:
                index, numbers = _parse_line(values[:5] if has_keypoints else values, where)
                polygon, is_box = _polygon_of(numbers, where)
                self._check_length(polygon, where)
            except ValueError as error:
                skipped.add(error)
            else:
                self.objects.append(_YOLOObject(index, polygon, is_box, where))
        return lines

    def _check_length(self, polygon: list[float], where: str) -> None:
        """Raise a ValueError if a polygon is too long to be filled."""
        steps = np.diff(np.reshape(polygon, (-1, 2)), axis=0)
        if 2 * np.abs(steps).sum() * LONGEST_SIDE > MAX_LENGTH:  # possible in a large image
            size = read_size(self.path)
            check_length(_to_pixels(polygon, size), size, where)


def _list_images(sources: list[Path], labels: Path | None, path: Path) -> list[_YOLOImage]:
    """Return the images of folders or lists.

    Raises: ValueError if there is no image.
    """
    images = []
    for folder in sources:
        for image in images_of(folder):
            below = image.relative_to(folder) if folder.is_dir() else Path(image.name)
            if labels is None:
                file = label_file(image)
            else:
                file = (labels / below).with_suffix(".txt")
            images.append(_YOLOImage(below.with_suffix("").as_posix(), image, file))
    if not images:
        raise ValueError(
            f"{path} must name folders that contain images. "
            f"Received: none in {', '.join(map(str, sources))}. "
            "Try to put the images there, or to correct the paths in data.yaml."
        )
    return images


def _parse_line(values: list[str], where: str) -> tuple[int, list[float]]:
    """Return the class index and the coordinates of a line."""
    if len(values) > 2 * MOST_POINTS:
        raise ValueError(
            f"A polygon must have at most {MOST_POINTS:,} points. Received: {len(values):,} "
            f"numbers in {where}. Try to simplify it."
        )
    try:
        numbers = np.array(values, float)
    except ValueError:
        numbers = np.array([np.nan])
    if not np.isfinite(numbers).all() or numbers[0] != int(numbers[0]):
        raise ValueError(
            "A line must be a class number and coordinates. "
            f"Received: {short(' '.join(values[:40]))} in {where}. Try to export the labels again."
        )
    coordinates = numbers[1:]
    lowest, highest = coordinates.min(initial=0), coordinates.max(initial=0)
    if lowest < -MAX_OVERSHOOT or highest > 1 + MAX_OVERSHOOT:
        raise ValueError(
            "Coordinates must be fractions of the image's width and height, 0 to 1. "
            f"Received: {coordinates.min():g} to {coordinates.max():g} in {where}. "
            "Try to export the labels normalized."
        )
    return int(numbers[0]), coordinates.tolist()


def _polygon_of(numbers: list[float], where: str) -> tuple[list[float], bool]:
    """Return the polygon of a line's coordinates, and whether they are a box."""
    if len(numbers) == 4:
        cx, cy, width, height = numbers
        if width <= 0 or height <= 0:
            raise ValueError(
                f"A box must have a width and a height. Received: {width:g} and {height:g} in "
                f"{where}. Try to draw it again, or delete the line."
            )
        return rectangle(cy - height / 2, cx - width / 2, cy + height / 2, cx + width / 2), True
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError(
            "A line must contain a box, 4 numbers after the class, or a polygon, x and y of at "
            f"least 3 points. Received: {len(numbers)} numbers after the class in {where}. "
            "Try to export the labels again, without confidences."
        )
    return numbers, False


# --- Writing --------------------------------------------------------------------------------------


def yolo_lines(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int]
) -> list[str]:
    """Return the lines of the label file of one image, one per detection: `class x1 y1 x2 y2 ...`.

    Classes count from 0 without the background; coordinates are fractions of width and height.
    Parts and holes are joined by bridges (`join_rings`), as Ultralytics joins the parts of COCO's
    objects. Lines have no scores: they are labels to train on. Detections of box-only models are
    `class cx cy width height`.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    file_name: of the image, for messages. size: its (height, width).
    """
    height, width = size
    lines = []
    for detection in detections_of(result, class_names, file_name):
        if "masks" in result:
            rings = [ring for part in detection.parts for ring in part]
            values = join_rings(rings) / (width, height)
        else:
            (x1, y1), (x2, y2) = detection.parts[0][0][[0, 2]] / (width, height)
            values = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
        index = int(result["class_ids"][detection.index]) - 1
        numbers = [f"{value:.8g}" for value in values.ravel()]
        lines.append(" ".join([str(index), *numbers]))
    return lines


class YOLOWriter(Writer):
    """Writes `yolo/`: data.yaml, copies of the images, and a label file per image."""

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder / "yolo", class_names)
        self._labels = LabelFolder(self.folder, "labels", ".txt")
        self._written: list[Path] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Copy one image and write its label file."""
        lines = yolo_lines(result, self.class_names, str(image), size)
        path = self._labels.add(image)
        self._written.append(path)
        with atomic_write(str(path)) as part:
            Path(part).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def finish(self) -> list[Path]:
        """Write data.yaml."""
        names = dict(enumerate(self.class_names[1:]))
        content = {"train": "images", "val": "images", "names": names}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        path = self.folder / "data.yaml"
        with atomic_write(str(path)) as part:
            Path(part).write_text(text, encoding="utf-8")
        return [*self._written, path]

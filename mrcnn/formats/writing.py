"""What writers share: detections with their rings and class names, and files on the disk."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..files.atomic import atomic_write
from .polygons import Ring, rectangle, trace_mask
from .rle import mask_plane

logger = logging.getLogger("mrcnn")

LONGEST_STEM = 200  # bytes of a file name without suffix; file systems allow 255 in all

# What detect() returns for one image: rois, class_ids, scores, and masks, "full" or "rle".
Result = dict[str, Any]


class Writer(ABC):
    """Writes the detections of many images in one format: `add` each image, then `finish`.

    Writers keep in memory only what the files contain, no masks.
    """

    file_name = ""  # of the one file that covers all images, if the format has one

    def __init__(self, folder: Path, class_names: Sequence[str]):
        """Create a writer.

        folder: for the files; it must exist. class_names: by class id, background first.
        """
        self.folder = folder
        self.class_names = list(class_names)
        self.keypoint_names: Sequence[str] = ()
        self.keypoint_skeleton: Sequence[Sequence[int]] = ()

    @abstractmethod
    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image.

        image: path of the image file. size: (height, width). result: as `MaskRCNN.detect` returns.
        """

    @abstractmethod
    def finish(self) -> list[Path]:
        """Write the files that cover all images. Returns: the paths of all files written."""


class Detection(NamedTuple):
    """One detection of a result, ready to be written."""

    index: int  # in the arrays of the result
    class_name: str
    score: float
    parts: list[list[Ring]]  # each [outer ring, *holes]


def detections_of(result: Result, class_names: Sequence[str], where: str) -> list[Detection]:
    """Return the detections that have a ring; a warning counts those with an empty mask.

    result: as `MaskRCNN.detect` returns for one image; without masks the ring is the box.
    class_names: by class id, background first. where: names the image.

    Raises: ValueError if a class id has no name.
    """
    names = class_names_of(result, class_names)
    parts_of_each = _parts_of_each(result)
    empty = sum(not parts for parts in parts_of_each)
    if empty:
        logger.warning("%s: left out %d detections whose mask has no pixel.", where, empty)
    return [
        Detection(i, names[i], float(result["scores"][i]), parts)
        for i, parts in enumerate(parts_of_each)
        if parts
    ]


def class_names_of(result: Result, class_names: Sequence[str]) -> list[str]:
    """Return the class name of each detection.

    Raises: ValueError if a class id has no name.
    """
    ids = [int(class_id) for class_id in result["class_ids"]]
    unknown = sorted({class_id for class_id in ids if not 0 <= class_id < len(class_names)})
    if unknown:
        raise ValueError(
            f"class_ids must be positions in class_names, 0 to {len(class_names) - 1}. Received: "
            f"{unknown} with {list(class_names)}. "
            "Try dataset.class_names, whose first name is the background's."
        )
    return [class_names[class_id] for class_id in ids]


def _parts_of_each(result: Result) -> list[list[list[Ring]]]:
    """Return the parts of each detection: of its mask, or its box for box-only models."""
    if "masks" not in result:
        boxes = [box_of(result, i) for i in range(len(result["rois"]))]
        return [[[np.reshape(rectangle(*box), (4, 2))]] for box in boxes]
    if len(result["scores"]) == 0:
        return []
    masks = result["masks"]
    return [trace_mask(mask_plane(masks, i)) for i in range(len(result["scores"]))]


def box_of(result: Result, i: int) -> list[Any]:
    """Return the box [y1, x1, y2, x2] of detection `i` as Python numbers, for a text.

    Float boxes (CONTINUOUS_BOXES) are rounded to hundredths of a pixel.
    """
    box = np.asarray(result["rois"][i])
    if box.dtype.kind != "f":
        return [int(side) for side in box]
    return [round(float(side), 2) for side in box]


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(str(path)) as part:
        Path(part).write_text(json.dumps(content) + "\n", encoding="utf-8")


def relative_path(image: Path, folder: Path) -> str:
    """Return the path of an image as seen from a folder, with forward slashes."""
    return Path(os.path.relpath(image.resolve(), folder.resolve())).as_posix()


class ImageCopies:
    """Copies of images in the folder `images`, with names that differ without their suffix.

    Images are copied: tools find an image next to its labels or under their server's root, and some
    write to it.
    """

    def __init__(self, folder: Path):
        """Create the layout; the folder is made on the first `add`."""
        self.images = folder / "images"
        self._stems: set[str] = set()

    def add(self, image: Path) -> Path:
        """Copy an image, and return the path of the copy. No other image is overwritten."""
        stem = image.stem
        if len(os.fsencode(stem)) > LONGEST_STEM:
            stem = stem[:50]
        name, count = stem, 1
        while not self._is_free(name, image):
            count += 1
            name = f"{stem}_{count}"
        self._stems.add(name.casefold())
        copy = self.images / f"{name}{image.suffix}"
        if image.is_file() and not copy.exists():
            with atomic_write(str(copy)) as part:
                shutil.copyfile(image, part)
        return copy

    def _is_free(self, name: str, image: Path) -> bool:
        """Return whether a name is unused, or already that of the same image's copy."""
        if name.casefold() in self._stems:
            return False
        copy = self.images / f"{name}{image.suffix}"
        if not copy.exists():
            return True
        return image.is_file() and filecmp.cmp(copy, image, shallow=False)


class LabelFolder:
    """A folder of images in `images`, and for each a label file of its name in another folder."""

    def __init__(self, folder: Path, labels: str, suffix: str):
        """Create the layout; folders are made on the first `add`.

        labels: the folder of the label files. suffix: of their names.
        """
        self.labels = folder / labels
        self.suffix = suffix
        self._copies = ImageCopies(folder)

    def add(self, image: Path) -> Path:
        """Copy an image, and return the path for its label file.

        No existing image and no labels of another image are overwritten.
        """
        return self.labels / f"{self._copies.add(image).stem}{self.suffix}"

"""What writers share: the outlines and names of detections."""

from __future__ import annotations

import filecmp
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files.atomic import atomic_write
from .polygons import Ring, mask_outlines

logger = logging.getLogger("mrcnn")

Result = dict[str, np.ndarray]  # as detect() returns for one image


def _outlines(result: Result) -> list[list[list[Ring]]]:
    """The parts of every detection; of box-only models the box."""
    if "masks" in result:
        masks = np.moveaxis(np.asarray(result["masks"]), 2, 0) if len(result["scores"]) else []
        return [mask_outlines(mask) for mask in masks]
    corners = [
        (x1, y1, x2, y1, x2, y2, x1, y2)
        for y1, x1, y2, x2 in np.asarray(result["rois"]).reshape(-1, 4)
    ]
    return [[[np.array(corner).reshape(4, 2)]] for corner in corners]


def found_in(
    result: Result, class_names: Sequence[str], where: str
) -> list[tuple[int, str, float, list[list[Ring]]]]:
    """(index, class name, score, parts) of the detections that have an outline; says how many have none."""
    names = class_names_of(result, class_names)
    parts = _outlines(result)
    empty = sum(not part for part in parts)
    if empty:
        logger.warning("%s: %d detections have a mask without pixels: left out.", where, empty)
    return [(i, names[i], float(result["scores"][i]), part) for i, part in enumerate(parts) if part]


def class_names_of(result: Result, class_names: Sequence[str]) -> list[str]:
    unknown = sorted({int(i) for i in result["class_ids"] if not 0 <= i < len(class_names)})
    if unknown:
        raise ValueError(
            f"class_ids must be positions in class_names, 0 to {len(class_names) - 1}. Received: {unknown} with "
            f"{list(class_names)}. Try dataset.class_names, whose first name is the background's."
        )
    return [class_names[int(i)] for i in result["class_ids"]]


def to_supervision(result: Result, class_names: Sequence[str] | None = None):
    """The result of one image as `supervision.Detections`.

    result: as for `labelme`. class_names: by class id; where given, they stand in `data["class_name"]`.

    Returns: Detections with xyxy [N, (x1, y1, x2, y2)] float32, mask [N, H, W] bool (None for box-only models),
        confidence [N], class_id [N].
    Raises: ImportError where supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            f"to_supervision needs the package supervision ({error}). Try pip install supervision."
        ) from error
    names = (
        {}
        if class_names is None
        else {"class_name": np.array(class_names_of(result, class_names), dtype=str)}
    )
    boxes = np.asarray(result["rois"], np.float32).reshape(-1, 4)
    return supervision.Detections(
        xyxy=boxes[:, [1, 0, 3, 2]],
        mask=np.moveaxis(np.asarray(result["masks"], bool), 2, 0) if "masks" in result else None,
        confidence=np.asarray(result["scores"]),
        class_id=np.asarray(result["class_ids"], int),
        data=names,
    )


class ImagesAndLabels:
    """A folder with photos in `images`, and in another folder a label file of the same name for each.

    Photos are copied: tools look for the labels of a photo by its path, and some of them write to it.
    """

    def __init__(self, folder: Path, labels: str, suffix: str):
        """labels: the folder of the label files. suffix: of their names."""
        self.images, self.labels, self.suffix = folder / "images", folder / labels, suffix
        self._stems: set[str] = set()

    def add(self, image: Path) -> Path:
        """Copy a photo, and return the path for its label file; no photo and no other photo's labels are replaced."""
        stem = (
            image.stem if len(os.fsencode(image.stem)) <= 200 else image.stem[:50]
        )  # file systems allow 255 bytes
        count, name = 1, stem
        while name.casefold() in self._stems or not _is_free(
            self.images / f"{name}{image.suffix}", image
        ):
            count += 1
            name = f"{stem}_{count}"
        self._stems.add(name.casefold())
        copy = self.images / f"{name}{image.suffix}"
        if image.is_file() and not copy.exists():
            with atomic_write(str(copy)) as part:
                shutil.copyfile(image, part)
        return self.labels / f"{name}{self.suffix}"


def _is_free(copy: Path, image: Path) -> bool:
    """Whether an image can be copied to a path, or has been."""
    return not copy.exists() or (image.is_file() and filecmp.cmp(copy, image, shallow=False))


def seen_from(image: Path, folder: Path) -> str:
    """The path of an image as a tool sees it that opened a file of the folder."""
    return Path(os.path.relpath(image.resolve(), folder.resolve())).as_posix()

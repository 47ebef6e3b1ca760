"""What readers of annotation files share: files read, outlines checked, and outlines turned into masks.

Coordinates follow COCO: (0, 0) is the top left corner of the first pixel, and what lies beyond the border of the
image is cut off. Outlines become run-length codes, which are small and tell box and area without pixels
(`pycocotools.mask.toBbox`, `area`), and these become masks.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from .image import read_size
from .untrusted import LONGEST_SIDE

logger = logging.getLogger("mrcnn")

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif"}
LONGEST_WALK = 2_000_000  # pixels; pycocotools needs 100 bytes a pixel of an outline's length
CROSSINGS_AT_ONCE = 2**21  # of edges with columns: about 150 MB
Polygon = list[float]  # x1, y1, x2, y2, ... in pixels
RLE = dict[str, Any]  # COCO's run-length code: "size" [height, width] and compressed "counts"


# --- Datasets of files --------------------------------------------------------------------------------------


class ImageFiles:
    """Mixed into a `Dataset` whose images are files: what they are called, and how large they are."""

    image_info: list[dict]

    def image_reference(self, image_id: int) -> str:
        """The image's path, and the id that its annotations give it."""
        info = self.image_info[image_id]
        return f"{info['path']}, id {info['id']}"

    def image_size(self, image_id: int) -> tuple[int, int]:
        """(height, width) by the annotations, else by the image file's header; then remembered.

        Raises: ValueError where the annotations do not say it and the file cannot be read.
        """
        info = self.image_info[image_id]
        if not info.get("height") or not info.get("width"):
            if not os.path.isfile(info["path"]):
                raise ValueError(
                    f"An image file must exist. Received: {short(str(info['path']), 300)}. Try the full path, or "
                    "check its spelling."
                )
            info["height"], info["width"] = read_size(info["path"])
        return int(info["height"]), int(info["width"])


class OutlinedImages(ImageFiles):
    """Mixed into a `Dataset` whose masks are drawn from outlines; a subclass defines `load_outlines`."""

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """N run-length codes of the image's size, without a look at its pixels, and class ids, int32 [N]."""
        raise NotImplementedError

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per object, in the file's order: bool [H, W, N], and class ids, int32 [N], negative for crowds."""
        rles, class_ids = self.load_outlines(image_id)
        return decode(rles, self.image_size(image_id)), class_ids


class LeftOut:
    """Entries of an annotation file that cannot be used: left out, counted, and named in one warning.

    path: the file or folder. strict: raise at the first entry instead of leaving it out.
    `sentences` holds the reason of each, for `mrcnn check`; a reader keeps it as `Dataset.left_out`.
    """

    def __init__(self, path: str | Path, strict: bool = False):
        self.path, self.strict = path, strict
        self.sentences: list[str] = []

    def add(self, error: ValueError) -> None:
        """Count an entry. Raises: the error itself if strict."""
        if self.strict:
            raise error
        self.sentences.append(str(error))

    def warn(self, total: int, what: str = "entries") -> None:
        """Log how many of all entries were left out, and why the first one was."""
        if self.sentences:
            logger.warning(
                "%d of %d %s in %s were left out. The first: %s (--strict refuses it; `mrcnn check` lists all.)",
                len(self.sentences), total, what, self.path, self.sentences[0],
            )  # fmt: skip


# --- Outlines to masks --------------------------------------------------------------------------------------


def decode(rles: Sequence[RLE], size: tuple[int, int]) -> np.ndarray:
    """bool [H, W, N] from N compressed run-length codes. size: (height, width), for the case of none."""
    if not rles:
        return np.zeros((*size, 0), bool)
    return coco_mask.decode(rles).astype(bool)


def encode(mask: np.ndarray) -> RLE:
    """The compressed run-length code of a mask [H, W], nonzero inside."""
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))


def polygons_to_rle(polygons: Sequence[Polygon], size: tuple[int, int]) -> RLE:
    """One compressed run-length code of all parts of an object, cut at the border of the image.

    polygons: as `check_polygon` gives them. size: (height, width) of the image.
    """
    height, width = size
    reach = np.array([width, height])
    codes = []
    for polygon in polygons:
        # Wild coordinates would have pycocotools walk along kilometres of edge: bring them near first.
        points = np.clip(np.asarray(polygon, float).reshape(-1, 2), -reach, 2 * reach)
        if np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum() > LONGEST_WALK:
            codes.append(encode(fill_even_odd(points, size)))
        else:
            codes += coco_mask.frPyObjects([points.ravel().tolist()], height, width)
    return coco_mask.merge(codes)


def fill_even_odd(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: the pixels whose centre an outline encloses an odd number of times.

    For outlines so long and tangled (100,000 points to and fro) that the libraries take gigabytes or hours.

    points: [N, (x, y)] pixels. size: (height, width).
    """
    height, width = size
    start, end = points, np.roll(points, -1, axis=0)
    left = np.where(start[:, :1] <= end[:, :1], start, end)
    right = np.where(start[:, :1] <= end[:, :1], end, start)
    # Each edge crosses the columns whose centre lies in [left, right), each in one place: all pixels below toggle.
    first, last = (np.clip(np.ceil(side[:, 0] - 0.5), 0, width).astype(int) for side in (left, right))
    crossed = last - first
    toggles = np.zeros((height + 1) * width, np.int64)
    total = np.cumsum(crossed)
    cuts = np.searchsorted(total, np.arange(CROSSINGS_AT_ONCE, total[-1], CROSSINGS_AT_ONCE))
    for edges in np.split(np.arange(len(points)), cuts):
        edge = np.repeat(edges, crossed[edges])
        before = np.repeat(np.cumsum(crossed[edges]) - crossed[edges], crossed[edges])
        column = first[edge] + np.arange(len(edge)) - before
        run = right[edge] - left[edge]
        y = left[edge, 1] + (column + 0.5 - left[edge, 0]) * run[:, 1] / run[:, 0]
        row = np.clip(np.ceil(y - 0.5), 0, height).astype(int)
        toggles += np.bincount(row * width + column, minlength=len(toggles))
    return np.cumsum(toggles.reshape(height + 1, width)[:height], axis=0) % 2 == 1


def rectangle(y1: float, x1: float, y2: float, x2: float) -> Polygon:
    """The corners of a box."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def ellipse(cx: float, cy: float, rx: float, ry: float, theta: float = 0.0) -> Polygon:
    """A polygon of 100 points along an ellipse, or a circle; theta turns it, radians, clockwise on the screen."""
    t = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    along, across = rx * np.cos(t), ry * np.sin(t)
    x = cx + along * np.cos(theta) - across * np.sin(theta)
    y = cy + along * np.sin(theta) + across * np.cos(theta)
    return np.stack([x, y], axis=-1).ravel().tolist()


def segmentation_to_rle(segmentation: list | dict, size: tuple[int, int], where: str) -> RLE:
    """A compressed run-length code of the image's size from COCO's polygons or run-length code of either kind.

    segmentation: polygons as `check_polygon` lets pass, or a run-length code. where: names file and entry.

    Raises: ValueError where a run-length code does not fill the image.
    """
    if isinstance(segmentation, list):
        return polygons_to_rle(segmentation, size)
    check_rle(segmentation, size, where)
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    _check_runs(run_lengths(segmentation["counts"]), size, where)
    return segmentation


def run_lengths(counts: str) -> list[int]:
    """The runs of a compressed code: five bits a character, from the fourth run on as differences (COCO)."""
    runs, value, shift = [], 0, 0
    for character in counts.encode(errors="replace"):
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of this number; its highest bit is the sign
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


# --- Outlines checked ---------------------------------------------------------------------------------------


def check_polygon(points: Any, where: str) -> Polygon:
    """A flat list of at least three finite points, or a ValueError that says where they stand."""
    try:
        flat = np.asarray(points, dtype=float)
    except (TypeError, ValueError, OverflowError):
        flat = np.array([math.nan])
    if flat.ndim != 1 or not np.isfinite(flat).all():
        raise ValueError(
            f"Coordinates must be a list of finite numbers. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    if len(flat) % 2 or len(flat) < 6:
        raise ValueError(
            f"A polygon must have at least 3 points, x and y for each. Received: {len(flat)} numbers in "
            f"{where}. Try to draw this shape again, or delete the entry."
        )
    return flat.tolist()


def check_points(points: Any, where: str, least: int = 3) -> Polygon:
    """A flat list of points that a file lists as pairs [[x, y], ...], or a ValueError that says where they stand."""
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise ValueError(
            f"Points must be a list of pairs [x, y]. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    flat = [value for point in points for value in point]
    if not all(is_finite(value) for value in flat):
        raise ValueError(
            f"Coordinates must be finite numbers. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    if len(points) < least:
        raise ValueError(
            f"This shape must have at least {least} points. Received: {len(points)} in {where}. "
            "Try to draw it again, or delete the entry."
        )
    return [float(value) for value in flat]


def check_rle(rle: dict, size: tuple[int | None, int | None], where: str) -> None:
    """Raise a ValueError for a run-length code whose size is not its image's, or that makes no sense.

    size: (height, width) of the image, None where that is not known.
    """
    shape, counts = rle.get("size"), rle.get("counts")
    if not isinstance(shape, list) or len(shape) != 2 or not all(is_whole(side) for side in shape):
        shape = None
    if shape is None or not isinstance(counts, str | list) or (None not in size and tuple(shape) != size):
        raise ValueError(
            f"A run-length code must have counts, and the size {list(size)} (height, width) of its image. "
            f"Received: size {short(rle.get('size'))} in {where}. "
            "Try to export the annotation again for the image as it is now."
        )
    if isinstance(counts, list):
        _check_runs(counts, shape, where)


def _check_runs(runs: list, shape: Sequence[int], where: str) -> None:
    """Raise a ValueError unless the runs fill the image: pycocotools reads stray memory otherwise."""
    if not all(is_whole(run) and run >= 0 for run in runs) or sum(runs) != math.prod(shape):
        raise ValueError(
            "The counts of a run-length code must be whole numbers that add up to height x width = "
            f"{math.prod(shape)}. Received: {short(runs)} in {where}. Try to export the annotation again."
        )


def is_whole(value: Any) -> bool:
    """Whether a value from a file is a whole number (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a value from a file is a number that a float can hold."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def is_side(value: Any) -> bool:
    """Whether a value from a file can be a height or width; None says that the file does not tell."""
    return value is None or is_whole(value) and 0 < value <= LONGEST_SIDE


# --- Files --------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises: ValueError naming the file where it cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} must be a readable file. Received: {error}. Try another path.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be complete JSON. Received: a file that breaks off or is damaged ({error}). "
            "Try to export or download it again."
        ) from error


def read_indices(path: str | Path) -> np.ndarray:
    """int [H, W]: the number that each pixel of a label image stores: grey value, palette index, or colour as 0xRRGGBB.

    Raises: ValueError naming the file where it cannot be read or is no label image.
    """
    try:
        with Image.open(path) as photo:
            pixels = np.asarray(photo.convert("RGB") if photo.mode in ("RGBA", "CMYK", "YCbCr") else photo)
            mode = photo.mode
    except Exception as error:  # Pillow's decoders raise what they like
        raise ValueError(
            f"A mask file must be a readable image. Received: {path} ({type(error).__name__}: {error}). "
            "Try to export it again."
        ) from error
    if mode == "LA":
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3:
        return pixels.astype(np.int64) @ np.array([2**16, 2**8, 1])
    if pixels.ndim != 2 or pixels.dtype.kind not in "bui":
        raise ValueError(
            f"A mask file must hold whole numbers or colours. Received: {path} of {pixels.dtype}. "
            "Try to save it as a PNG of 8 or 16 bits."
        )
    return pixels.astype(np.int64)


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder by name; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != ".")


def short(value: Any, length: int = 80) -> str:
    """What a value looks like, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= length else text[:length] + "..."

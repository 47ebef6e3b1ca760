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
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import is_turned, read_pixels, read_size
from ..files.limits import LONGEST_SIDE, MOST_POINTS, check_masks, check_size

logger = logging.getLogger("mrcnn")

LONGEST_WALK = 2_000_000  # pixels; pycocotools needs 100 bytes a pixel of an outline's length
CROSSINGS_AT_ONCE = 2**21  # of edges with columns: about 150 MB
MERGED_AT_ONCE = 64  # parts of an object
MOST_SENTENCES = 10_000  # of entries that were left out; a file of 100 MB may hold 50 million
RUN_CHARACTERS = 7  # of a number in a compressed run-length code, at most: 35 bits
DEEPEST_XML = 100  # elements inside each other
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
        """(height, width) by the annotations, compared with the image file's header if there is one; then remembered.

        Raises: ValueError if the two differ, if the size is larger than this package reads, or if neither the
            annotations nor the file tell it.
        """
        info = self.image_info[image_id]
        if not info.get("size_is_checked"):
            claimed = (
                (int(info["height"]), int(info["width"]))
                if info.get("height") and info.get("width")
                else None
            )
            if claimed:
                check_size(*claimed, self.image_reference(image_id))
            if not info.get("embedded") and (claimed is None or os.path.isfile(info["path"])):
                info["height"], info["width"] = _size_of_file(
                    info["path"], claimed, info.get("file")
                )
            info["size_is_checked"] = True
        return int(info["height"]), int(info["width"])


def _size_of_file(
    path: str, claimed: tuple[int, int] | None, annotations: str | None
) -> tuple[int, int]:
    """(height, width) of an image file by its header; a ValueError if the annotations claim another one."""
    if not os.path.isfile(path):
        raise ValueError(
            f"An image file must exist. Received: {short(str(path), 300)}. Try the full path, or check its spelling."
        )
    size = read_size(path)
    check_size(*size, path)
    if claimed in (None, size):
        return size
    turned = claimed == size[::-1] and is_turned(path)
    why = (
        ": its EXIF orientation turns it, and it was annotated as it lies in the file. Try to remove that EXIF "
        "entry (exiftool -Orientation= FILE), or to annotate the image upright."
        if turned
        else ". Try to export the annotations again for the image as it is now."
    )
    raise ValueError(
        f"The annotated size of an image must be that of its file. Received: {claimed[0]} x {claimed[1]} (height x "
        f"width) in {annotations or 'the annotations'}, and {size[0]} x {size[1]} px of {path}{why}"
    )


class OutlinedImages(ImageFiles):
    """Mixed into a `Dataset` whose masks are drawn from outlines; a subclass defines `load_outlines`."""

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """N run-length codes of the image's size, without a look at its pixels, and class ids, int32 [N]."""
        raise NotImplementedError

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per object, in the file's order: bool [H, W, N], and class ids, int32 [N], negative for crowds."""
        rles, class_ids = self.load_outlines(image_id)
        size = self.image_size(image_id)
        check_masks(len(rles), *size, self.image_reference(image_id))
        return decode(rles, size), class_ids


class LeftOut:
    """Entries of an annotation file that cannot be used: left out, counted, and named in one warning.

    path: the file or folder. strict: raise at the first entry instead of leaving it out.
    `count` of them; `sentences` holds the reasons of the first `MOST_SENTENCES`, for `mrcnn check`; a reader keeps it
    as `Dataset.left_out`.
    """

    def __init__(self, path: str | Path, strict: bool = False):
        self.path, self.strict = path, strict
        self.sentences: list[str] = []
        self.count = 0

    def add(self, error: ValueError) -> None:
        """Count an entry. Raises: the error itself if strict."""
        self.count += 1
        if self.strict:
            raise error
        if self.count > MOST_SENTENCES:
            return
        self.sentences.append(str(error))

    def finish(self, dataset: ImageFiles, total: int, what: str = "entries") -> None:
        """Warn, and keep the reasons in `dataset.left_out`. Raises: ValueError if no image is left."""
        if self.sentences and not dataset.image_info:
            raise ValueError(f"{self.path} must hold images that can be used. Received: none. The first: "
                             f"{self.sentences[0]}")  # fmt: skip
        self.warn(total, what)
        warn_similar_names([info["name"] for info in dataset.class_info[1:]], self.path)
        dataset.left_out = list(self.sentences)

    def warn(self, total: int, what: str = "entries") -> None:
        """Log how many of all entries were left out, and why the first one was."""
        if self.sentences:
            logger.warning(
                "%d of %d %s in %s were left out. The first: %s (--strict refuses it; `mrcnn check` lists all.)",
                self.count, total, what, self.path, self.sentences[0],
            )  # fmt: skip


def warn_similar_names(names: Iterable[str], where: str | Path) -> None:
    """Warn of classes whose names differ in case or blanks only: often one class, typed in two ways.

    names: all classes of a dataset. where: names the file or folder.
    """
    names = list(dict.fromkeys(names))
    counts = Counter(" ".join(name.casefold().split()) for name in names)
    similar = [name for name in names if counts[" ".join(name.casefold().split())] > 1]
    if similar:
        logger.warning(
            "The classes %s in %s differ in case or blanks only, and are different classes. "
            "If they are meant to be one, give them one name.",
            ", ".join(map(repr, similar)), where,
        )  # fmt: skip


# --- Outlines to masks --------------------------------------------------------------------------------------


def decode(rles: Sequence[RLE], size: tuple[int, int]) -> np.ndarray:
    """bool [H, W, N] from N compressed run-length codes. size: (height, width), for the case of none."""
    if not rles:
        return np.zeros((*size, 0), bool)
    return coco_mask.decode(rles).view(bool)  # 0 or 1 in each byte


def encode(mask: np.ndarray) -> RLE:
    """The compressed run-length code of a mask [H, W], nonzero inside."""
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))


def polygons_to_rle(polygons: Sequence[Polygon], size: tuple[int, int]) -> RLE:
    """One compressed run-length code of all parts of an object, cut at the border of the image.

    polygons: as `check_polygon` gives them. size: (height, width) of the image.
    """
    # Merging takes the square of the number of codes: hundreds of thousands are merged by halves.
    if len(polygons) > MERGED_AT_ONCE:
        half = len(polygons) // 2
        return coco_mask.merge(
            [polygons_to_rle(polygons[:half], size), polygons_to_rle(polygons[half:], size)]
        )
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
    first, last = (
        np.clip(np.ceil(side[:, 0] - 0.5), 0, width).astype(int) for side in (left, right)
    )
    crossed = last - first
    odd = np.zeros((height + 1, width), bool)
    total = np.cumsum(crossed)
    cuts = np.searchsorted(total, np.arange(CROSSINGS_AT_ONCE, total[-1], CROSSINGS_AT_ONCE))
    for edges in np.split(np.arange(len(points)), cuts):
        edge = np.repeat(edges, crossed[edges])
        before = np.repeat(np.cumsum(crossed[edges]) - crossed[edges], crossed[edges])
        column = first[edge] + np.arange(len(edge)) - before
        run = right[edge] - left[edge]
        y = left[edge, 1] + (column + 0.5 - left[edge, 0]) * run[:, 1] / run[:, 0]
        row = np.clip(np.ceil(y - 0.5), 0, height).astype(int)
        np.logical_xor.at(odd, (row, column), True)
    np.logical_xor.accumulate(odd, axis=0, out=odd)
    return odd[:height]


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
    code = {"size": list(size), "counts": segmentation["counts"]}
    if isinstance(code["counts"], list):
        code["counts"] = [int(run) for run in code["counts"]]
        return coco_mask.frPyObjects(code, *size)
    return code


def run_lengths(counts: str, where: str = "") -> list[int]:
    """The runs of a compressed code: five bits a character, from the fourth run on as differences (COCO).

    where: names file and entry.

    Raises: ValueError if a number has more than `RUN_CHARACTERS` characters.
    """
    codes = np.frombuffer(counts.encode(errors="replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)  # the last character of each number
    starts = np.concatenate([[0], ends + 1])
    lengths = np.diff(starts, append=len(codes))  # the last is that of a number that breaks off
    if lengths.max() > RUN_CHARACTERS:
        raise ValueError(
            f"A number in a run-length code must have at most {RUN_CHARACTERS} characters. Received: "
            f"{lengths.max()} in {short(counts)} in {where}. Try to export the annotation again."
        )
    if len(ends) == 0:
        return []
    codes, lengths, starts = codes[: ends[-1] + 1], lengths[:-1], starts[:-1]
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * place, starts)
    runs -= (codes[ends] & 16) << (5 * lengths - 4)  # its highest bit is the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs.tolist()


# --- Outlines checked ---------------------------------------------------------------------------------------


def check_polygon(points: Any, where: str) -> Polygon:
    """A flat list of at least three finite points, or a ValueError that says where they stand."""
    if isinstance(points, list):
        _check_count(len(points) // 2, where)
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


def _check_count(points: int, where: str) -> None:
    if points > MOST_POINTS:
        raise ValueError(
            f"An outline must have at most {MOST_POINTS:,} points. Received: {points:,} in {where}. "
            "Try to simplify it, or delete the entry."
        )


def check_points(points: Any, where: str, least: int = 3) -> Polygon:
    """A flat list of points that a file lists as pairs [[x, y], ...], or a ValueError that says where they stand."""
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise ValueError(
            f"Points must be a list of pairs [x, y]. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    _check_count(len(points), where)
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
    """Raise a ValueError for a run-length code whose size is not its image's, or whose runs do not fill it.

    size: (height, width) of the image, None where that is not known.
    """
    shape, counts = rle.get("size"), rle.get("counts")
    if not isinstance(shape, list) or len(shape) != 2 or None in map(whole, shape):
        shape = None
    if (
        shape is None
        or not isinstance(counts, str | list)
        or (None not in size and tuple(shape) != tuple(size))
    ):
        raise ValueError(
            f"A run-length code must have counts, and the size {list(size)} (height, width) of its image. "
            f"Received: size {short(rle.get('size'))} in {where}. "
            "Try to export the annotation again for the image as it is now."
        )
    _check_runs(counts if isinstance(counts, list) else run_lengths(counts, where), shape, where)


def _check_runs(runs: list, shape: Sequence[int], where: str) -> None:
    """Raise a ValueError unless the runs fill the image: pycocotools reads stray memory otherwise."""
    pixels = math.prod(map(int, shape))
    if not all(whole(run) is not None and run >= 0 for run in runs) or sum(runs) != pixels:
        raise ValueError(
            "The counts of a run-length code must be whole numbers that add up to height x width = "
            f"{pixels}. Received: {short(runs)} in {where}. Try to export the annotation again."
        )


def is_whole(value: Any) -> bool:
    """Whether a value from a file is a whole number (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def whole(value: Any) -> int | None:
    """The whole number that a value from a file is, or None. 60.0 is one; True and False are none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if is_whole(value) else None


def is_finite(value: Any) -> bool:
    """Whether a value from a file is a number that a float can hold."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def to_number(text: str | None) -> float | None:
    """The finite number that a text says, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if is_finite(value) else None


def is_side(value: Any) -> bool:
    """Whether a value from a file can be a height or width; None says that the file does not tell."""
    return value is None or (whole(value) is not None and 0 < value <= LONGEST_SIDE)


# --- Files --------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises: ValueError naming the file where it cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"{path} must be a readable file. Received: {error}. Try another path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be complete JSON. Received: a file that breaks off or is damaged ({error}). "
            "Try to export or download it again."
        ) from error


class _PlainTree(ElementTree.TreeBuilder):
    """Builds a tree of elements; refuses a DOCTYPE, which may define entities, and deep nesting."""

    depth = 0

    def doctype(self, name, pubid, system):
        raise ValueError("a DOCTYPE")

    def start(self, tag, attrs):
        self.depth += 1
        if self.depth > DEEPEST_XML:
            raise ValueError(f"elements more than {DEEPEST_XML} deep inside each other")
        return super().start(tag, attrs)

    def end(self, tag):
        self.depth -= 1
        return super().end(tag)


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file. Entities are not expanded, and nothing outside the file is read.

    Raises: ValueError naming the file if it cannot be read or is damaged.
    """
    try:
        return ElementTree.fromstring(
            path.read_bytes(), parser=ElementTree.XMLParser(target=_PlainTree())
        )
    except OSError as error:
        raise ValueError(
            f"{path} must be a readable file. Received: {error}. Try to put it there."
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # of a name of no encoding
        raise ValueError(
            f"{path} must be complete XML without a DOCTYPE. Received: a file that breaks off, is damaged or "
            f"holds more than annotations ({error}). Try to export or download it again."
        ) from error


def read_indices(
    path: str | Path, size: tuple[int, int] | None = None, image: str = "the image"
) -> np.ndarray:
    """int [H, W]: the number that each pixel of a label image stores: grey value, palette index, or colour as 0xRRGGBB.

    size: (height, width) that the file must have, of the image that `image` names; asked of its header.

    Raises: ValueError naming the file where it cannot be read or is no label image.
    """
    pixels = read_pixels(path, "A mask file", indices=True, size=size, image=image)
    if pixels.dtype.kind not in "bui":
        raise ValueError(
            f"A mask file must hold whole numbers or colours. Received: {path} of {pixels.dtype}. "
            "Try to save it as a PNG of 8 or 16 bits."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3:
        return pixels[:, :, :3].astype(np.int64) @ np.array([2**16, 2**8, 1])
    return pixels.astype(np.int64)


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder by name; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."
    )


def short(value: Any, length: int = 80) -> str:
    """What a value looks like, cut off where it is long."""
    try:
        text = repr(value)
    except RecursionError:  # json reads a few levels more than repr writes
        text = f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= length else text[:length] + "..."

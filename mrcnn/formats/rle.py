"""Masks to and from COCO's run-length encoding (RLE).

An RLE is a dict of "size" [height, width] and "counts": the lengths of runs of 0, 1, 0, ... pixels,
column by column, as a list (uncompressed) or as the text that pycocotools compresses them to.

Only this file of `formats` calls pycocotools.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..data.masks import MaskCrop, unmold_crops
from .values import short, to_integer

RLE = dict[str, Any]  # "size" [height, width] and compressed "counts"
MAX_RUN_CHARACTERS = 7  # of one number in a compressed code: 35 bits


def _coco_mask() -> Any:
    """Return the module pycocotools.mask.

    It is imported on first use: inference imports this file and must not load pycocotools.
    """
    from pycocotools import mask

    return mask


def encode(mask: np.ndarray) -> RLE:
    """Return the compressed RLE of a mask `[H, W]` that is nonzero inside; counts are bytes."""
    return _coco_mask().encode(np.asfortranarray(mask != 0, dtype=np.uint8))


def encode_polygons(polygons: list[list[float]], size: tuple[int, int]) -> list[RLE]:
    """Return the compressed RLE of each polygon x1, y1, ... in an image of (height, width)."""
    return _coco_mask().frPyObjects(polygons, *size)


def encode_runs(runs: Sequence[Sequence[int]], size: tuple[int, int]) -> list[RLE]:
    """Return the compressed RLE of each list of run lengths, for an image of (height, width)."""
    if not runs:  # pycocotools refuses an empty list
        return []
    codes = [{"size": list(size), "counts": list(each)} for each in runs]
    return _coco_mask().frPyObjects(codes, *size)


def merge(rles: Sequence[RLE]) -> RLE:
    """Return the union of compressed RLEs of one size."""
    return _coco_mask().merge(rles)


def area(rle: RLE) -> int:
    """Return the number of pixels of a compressed RLE."""
    return int(_coco_mask().area(rle))


def bounding_box(rle: RLE) -> list[float]:
    """Return the box [x, y, width, height] of a compressed RLE, pixels."""
    return _coco_mask().toBbox(rle).tolist()


def decode(rles: Sequence[RLE], size: tuple[int, int]) -> np.ndarray:
    """Return the masks of N compressed RLEs, bool `[H, W, N]`.

    size: (height, width) of the result if N is 0.
    """
    if not rles:
        return np.zeros((*size, 0), bool)
    return _coco_mask().decode(rles).view(bool)  # each byte is 0 or 1


def mask_plane(masks: Any, i: int) -> np.ndarray:
    """Return mask `i` of a result, `[H, W]`. masks: `[H, W, N]`, or a list of N RLEs."""
    if isinstance(masks, list):
        return _coco_mask().decode(masks[i])
    return np.asarray(masks)[:, :, i]


def mask_to_rle(mask: np.ndarray) -> RLE:
    """Return a mask as a compressed RLE that JSON can represent.

    mask: `[H, W]`, nonzero inside.

    Returns: {"size": [H, W], "counts": str}.
    """
    return _with_text(encode(np.asarray(mask)))


def unmold_rles(
    masks: np.ndarray,
    bboxes: np.ndarray,
    image_shape: Sequence[int],
    exact: bool = False,
    rule: str = "matterport",
    threshold: float = 0.5,
) -> list[RLE]:
    """Return `mask_to_rle` of each mask that `unmold_masks` makes, equal up to rounding.

    Only the pixels inside the boxes are computed.

    masks: `[N, h, w]` float 0..1. bboxes: `[N, (y1, x1, y2, x2)]` pixels.
    image_shape: (H, W, ...). exact, rule, threshold: as for `unmold_masks`.
    """
    height, width = (int(side) for side in image_shape[:2])
    # RLEs run along columns: transpose masks, boxes and image.
    columns = np.swapaxes(masks, 1, 2)
    transposed_boxes = np.asarray(bboxes)[:, [1, 0, 3, 2]]
    shape = (width, height)
    crops = unmold_crops(columns, transposed_boxes, shape, exact, rule, threshold)
    return crop_rles(((y, x, crop.T) for x, y, crop in crops), (height, width))


def crop_rles(crops: Iterable[MaskCrop], image_shape: Sequence[int]) -> list[RLE]:
    """Return `mask_to_rle` of each mask of an image, from its crop; see `data.masks.paste_crops`.

    crops: of each mask all its pixels, `[h, w]` bool. image_shape: (H, W, ...).
    """
    height, width = (int(side) for side in image_shape[:2])
    runs = [_runs_of_crop(y, x, crop.T, height, width) for y, x, crop in crops]
    return [_with_text(rle) for rle in encode_runs(runs, (height, width))]


def _with_text(rle: RLE) -> RLE:
    """Return an RLE whose counts are a text, for JSON."""
    size = [int(side) for side in rle["size"]]
    return {"size": size, "counts": rle["counts"].decode("ascii")}


def _runs_of_crop(y: int, x: int, columns: np.ndarray, height: int, width: int) -> list[int]:
    """Return the run lengths of a mask `[height, width]` that is zero outside of a crop.

    y, x: top left corner of the crop, pixels. columns: the transposed crop, bool `[w, h]`.
    """
    count, rows = columns.shape
    # One zero before the first column and one after each column end every run at its column.
    flat = np.zeros(1 + count * (rows + 1), bool)
    flat[1:].reshape(count, rows + 1)[:, :rows] = columns
    places = np.flatnonzero(flat[1:] != flat[:-1])
    # Pixels that differ from the one before: place c * (rows + 1) + r is pixel
    # (x + c) * height + y + r of the image.
    changes = places + places // (rows + 1) * (height - rows - 1) + (x * height + y)
    if rows == height:  # a run may continue from the end of a column to the start of the next
        twice = np.flatnonzero(changes[1:] == changes[:-1])
        changes = np.delete(changes, np.concatenate([twice, twice + 1]))
    if len(changes) == 0:
        return [height * width]
    # `np.diff` with prepend and append takes ten times as long.
    between = (changes[1:] - changes[:-1]).tolist()
    last = height * width - int(changes[-1])
    runs = [int(changes[0]), *between, last]
    return runs if last else runs[:-1]  # pycocotools ends with the ones of the last pixel


def run_lengths(counts: str, where: str = "") -> list[int]:
    """Return the run lengths that a compressed code contains; an unfinished last number is ignored.

    Each character holds five bits; from the fourth run on, the code stores the difference from the
    run before the previous one (COCO's maskApi.c, `rleFrString`).

    where: names file and entry, for the message.

    Raises: ValueError if a number has more than `MAX_RUN_CHARACTERS` characters.
    """
    codes = np.frombuffer(counts.encode(errors="replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)  # the last character of each number
    starts = np.concatenate([[0], ends + 1])
    lengths = np.diff(starts, append=len(codes))  # the last is that of an unfinished number
    if lengths.max() > MAX_RUN_CHARACTERS:
        raise ValueError(
            f"A number in a run-length code must have at most {MAX_RUN_CHARACTERS} characters. "
            f"Received: {lengths.max()} in {short(counts)} in {where}. "
            "Try to export the annotation again."
        )
    if len(ends) == 0:
        return []
    codes, lengths, starts = codes[: ends[-1] + 1], lengths[:-1], starts[:-1]
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << 5 * place, starts)
    runs -= (codes[ends] & 16) << (5 * lengths - 4)  # the highest bit is the sign
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs.tolist()


def check_rle(rle: dict, size: tuple[int | None, int | None], where: str) -> None:
    """Check that an RLE has the size of its image and that its runs fill it.

    size: (height, width) of the image, None if unknown. where: names file and entry.

    Raises: ValueError otherwise.
    """
    shape, counts = _size_of(rle), rle.get("counts")
    is_wrong_size = None not in size and shape != tuple(size)
    if shape is None or is_wrong_size or not isinstance(counts, str | list):
        raise ValueError(
            f"A run-length code must have counts, and the size {list(size)} (height, width) of its "
            f"image. Received: size {short(rle.get('size'))} in {where}. "
            "Try to export the annotation again for the image as it is now."
        )
    runs = run_lengths(counts, where) if isinstance(counts, str) else counts
    _check_runs(runs, math.prod(shape), where)


def _size_of(rle: dict) -> tuple[int, int] | None:
    """Return the (height, width) of an RLE; None if they are not two integers."""
    size = rle.get("size")
    if not isinstance(size, list) or len(size) != 2:
        return None
    height, width = to_integer(size[0]), to_integer(size[1])
    return None if height is None or width is None else (height, width)


def _check_runs(runs: list, pixels: int, where: str) -> None:
    """Raise a ValueError unless runs fill an image; pycocotools would read stray memory."""
    lengths = [to_integer(run) for run in runs]
    usable = all(length is not None and length >= 0 for length in lengths)
    if not usable or sum(runs) != pixels:
        raise ValueError(
            "The counts of a run-length code must be whole numbers that add up to height x width = "
            f"{pixels}. Received: {short(runs)} in {where}. Try to export the annotation again."
        )

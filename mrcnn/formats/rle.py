"""Masks <-> COCO's run-length codes (RLE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..data.masks import unmold_crops
from .values import short, whole

RUN_CHARACTERS = 7  # of a number in a compressed run-length code, at most: 35 bits
RLE = dict[str, Any]  # COCO's run-length code: "size" [height, width] and compressed "counts"


def decode(rles: Sequence[RLE], size: tuple[int, int]) -> np.ndarray:
    """bool [H, W, N] from N compressed run-length codes. size: (height, width), for the case of none."""
    if not rles:
        return np.zeros((*size, 0), bool)
    return coco_mask.decode(rles).view(bool)  # 0 or 1 in each byte


def encode(mask: np.ndarray) -> RLE:
    """The compressed run-length code of a mask [H, W], nonzero inside."""
    return coco_mask.encode(np.asfortranarray(mask != 0, dtype=np.uint8))


def mask_to_rle(mask: np.ndarray) -> dict[str, Any]:
    """One mask as a COCO run-length code that JSON can hold.

    mask: [H, W], nonzero inside.

    Returns: {"size": [H, W], "counts": str}.
    """
    rle = coco_mask.encode(np.asfortranarray(np.asarray(mask).astype(bool), dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def unmold_rles(
    masks: np.ndarray, bboxes: np.ndarray, image_shape: Sequence[int], exact: bool = False
) -> list[dict]:
    """`mask_to_rle` of each mask of `unmold_masks`, from the pixels in its box alone (equal but for rounding).

    masks: [N, h, w] float 0..1. bboxes: [N, (y1, x1, y2, x2)] int pixels. image_shape: (H, W, ...).
    """
    height, width = (int(side) for side in image_shape[:2])
    # The codes go column by column: the rows of the masks turned over.
    turned = np.swapaxes(masks, 1, 2), np.asarray(bboxes)[:, [1, 0, 3, 2]], (width, height)
    counts = [_runs(y, x, columns, height, width) for x, y, columns in unmold_crops(*turned, exact)]
    if not counts:  # pycocotools takes no empty list
        return []
    rles = coco_mask.frPyObjects(
        [{"size": [height, width], "counts": runs} for runs in counts], height, width
    )
    return [{"size": [height, width], "counts": rle["counts"].decode("ascii")} for rle in rles]


def _runs(y: int, x: int, columns: np.ndarray, height: int, width: int) -> list[int]:
    """The lengths of the runs of zeros, ones, zeros, ... of a mask [height, width], read column by column.

    columns: [w, h] bool, the mask's pixels from (y, x) on, turned over; the others are zeros.
    """
    count, rows = columns.shape
    flat = np.zeros(1 + count * (rows + 1), bool)  # a zero before the first column, and after each
    flat[1:].reshape(count, rows + 1)[:, :rows] = columns
    places = np.flatnonzero(flat[1:] != flat[:-1])
    # The pixels that differ from the one before: place c * (rows + 1) + r is pixel (x + c) * height + y + r
    changes = places + places // (rows + 1) * (height - rows - 1) + (x * height + y)
    if rows == height:  # a run may go on from the end of a column to the start of the next
        twice = np.flatnonzero(changes[1:] == changes[:-1])
        changes = np.delete(changes, np.concatenate([twice, twice + 1]))
    if len(changes) == 0:
        return [height * width]
    runs = [
        int(changes[0]),
        *(changes[1:] - changes[:-1]).tolist(),
        height * width - int(changes[-1]),
    ]
    return runs if runs[-1] else runs[:-1]  # pycocotools ends with the ones of the last pixel


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

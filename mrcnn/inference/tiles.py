"""Images larger than a network can see at once: detected tile by tile, and put together."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable

import numpy as np

from ..data.image import is_unit, to_uint8

log = logging.getLogger("mrcnn")

# Two tiles' finds are one object where, in the strip both tiles see, this share of the smaller is the other's too.
SAME_OBJECT = 0.5
# A box that ends so many pixels from a tile's border is cut off there.
CUT_OFF = 2
# A box that ends within this share of the overlap from a border may be: little of what is beside it was seen.
NEAR_BORDER = 0.25


def detect_tiled(
    detect: Callable, image: np.ndarray, tile: int, overlap: int, progress: Callable = iter
) -> dict:
    """One entry of `detect`'s list for an image of any size, in memory that does not grow with the image.

    detect: `[H, W, C]` -> a dict of rois, class_ids, scores and masks, a bool array of its box each; masks may be
        left out. image: `[H, W, C]`, or whatever gives such arrays when sliced (a memory map).
    tile: side in pixels of what is seen at once. overlap: pixels that neighbouring tiles share; objects that are no
        larger are seen whole by one of them. progress: wraps the list of tiles, as `rich.progress.track`.

    Returns: rois `[N, (y1, x1, y2, x2)]` int32, class_ids `[N]`, scores `[N]` and masks, a list of N bool arrays
        `[y2 - y1, x2 - x1]`; best first.

    Values that are not uint8 are scaled for the image as one: float tiles that are dark stay dark.

    An object that several tiles found is there once: as the best-scored view that no tile's border cuts or comes
    close to; where every view is cut, as all of them together.

    Raises: ValueError where the overlap does not fit the tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(
            f"overlap must be at least 0 and below tile. Received: {overlap}, and tile {tile}. Try a fourth."
        )
    height, width = image.shape[:2]
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    corners = [(y, x) for y in rows for x in columns]
    finds, tiles = [], []
    dtype = image.dtype if hasattr(image, "dtype") else np.asarray(image[:1, :1]).dtype
    unit = dtype.kind == "f" and all(
        is_unit(np.asarray(image[y : y + tile, x : x + tile])) for y, x in corners
    )
    for y, x in progress(corners):
        window = np.array([y, x, min(y + tile, height), min(x + tile, width)])
        found = detect(
            to_uint8(image[y : window[2], x : window[3]], name="The tiled image", unit=unit)
        )
        finds.append(
            [_Find(found, i, window, (height, width), overlap) for i in range(len(found["rois"]))]
        )
        tiles.append(window)
    groups = _groups(finds, tiles, _neighbours(rows, columns, tile))
    objects = sorted((_together(group) for group in groups), key=lambda find: -find.score)
    log.info("%d objects in %d tiles", len(objects), len(tiles))
    result = {
        "rois": np.array([find.box for find in objects], np.int32).reshape(-1, 4),
        "class_ids": np.array([find.class_id for find in objects], np.int32),
        "scores": np.array([find.score for find in objects], np.float32),
    }
    if all(find.mask is not None for find in objects):
        result["masks"] = [find.mask for find in objects]
    return result


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where the tiles of an axis begin; the last one ends with the image."""
    starts = list(range(0, max(1, length - overlap), tile - overlap))
    return [max(0, min(start, length - tile)) for start in starts]


def _neighbours(rows, columns, tile):
    """Yields `(first, second)`: the numbers of every two tiles that share pixels, row by row; once, the lower first."""
    for row, y in enumerate(rows):
        for column, x in enumerate(columns):
            for other_row in range(bisect.bisect_right(rows, y - tile), row + 1):
                last = bisect.bisect_left(columns, x + tile) if other_row < row else column
                for other_column in range(bisect.bisect_right(columns, x - tile), last):
                    yield other_row * len(columns) + other_column, row * len(columns) + column


class _Find:
    """What one tile found: a box in pixels of the whole image, and its mask, cut to the box."""

    def __init__(self, found, i, window, size, overlap):
        self.box = np.asarray(found["rois"][i]) + np.tile(window[:2], 2)
        self.class_id, self.score = int(found["class_ids"][i]), float(found["scores"][i])
        self.mask = found["masks"][i] if "masks" in found else None
        inner = np.array([window[0] > 0, window[1] > 0, window[2] < size[0], window[3] < size[1]])
        distance = min(np.abs(self.box - window)[inner].tolist(), default=np.inf)
        self.cut, self.near = distance <= CUT_OFF, distance < NEAR_BORDER * overlap

    def pixels(self, region) -> np.ndarray:
        """Its mask in a region `(y1, x1, y2, x2)` that overlaps its box; without masks the box is filled."""
        y1, x1, y2, x2 = region
        canvas = np.zeros((y2 - y1, x2 - x1), bool)
        top, left, bottom, right = _common(self.box, region)
        part = True
        if self.mask is not None:
            part = self.mask[
                top - self.box[0] : bottom - self.box[0], left - self.box[1] : right - self.box[1]
            ]
        canvas[top - y1 : bottom - y1, left - x1 : right - x1] = part
        return canvas


def _common(first, second) -> np.ndarray:
    """The box that two boxes share; without area where there is none."""
    return np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])


def _has_area(box) -> bool:
    return bool(box[2] > box[0] and box[3] > box[1])


def _groups(finds, tiles, neighbours) -> list[list[_Find]]:
    """The finds of all tiles, those of one object together, the best view first. neighbours: of `_neighbours`.

    A whole view stands for the finds that agree with it, and for no more: one that took two objects for one must not
    join them. Views that are all cut are joined along the object, however many tiles it spans.
    """
    agreeing = {id(find): [] for row in finds for find in row}
    for first, second in neighbours:
        strip = _common(tiles[first], tiles[second])
        there = [find for find in finds[first] if _has_area(_common(find.box, strip))]
        for here in finds[second]:
            for other in there:
                if other.class_id == here.class_id and _agree(here, other, strip):
                    agreeing[id(here)].append(other)
                    agreeing[id(other)].append(here)
    taken, groups = set(), []
    for best in sorted(
        (find for row in finds for find in row), key=lambda find: (find.cut, find.near, -find.score)
    ):
        if id(best) in taken:
            continue
        taken.add(id(best))
        group = [best]
        for find in group:  # it grows meanwhile
            new = [
                other
                for other in agreeing[id(find)]
                if id(other) not in taken and (find is best or best.cut)
            ]
            taken.update(map(id, new))
            group += new
        groups.append(group)
    return groups


def _agree(first, second, strip) -> bool:
    """Whether two finds are the same object, as far as the strip tells that both tiles see."""
    if not _has_area(_common(_common(first.box, second.box), strip)):
        return False
    hull = _common(_hull([first, second]), strip)
    one, other = first.pixels(hull), second.pixels(hull)
    smaller = min(one.sum(), other.sum())
    return bool(smaller and (one & other).sum() > SAME_OBJECT * smaller)


def _hull(finds) -> np.ndarray:
    boxes = np.array([find.box for find in finds])
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _together(group) -> _Find:
    """One find for all of an object; the best view is first."""
    best = group[0]
    if best.cut and len(group) > 1:
        box = _hull(group)
        if best.mask is not None:
            best.mask = np.any([find.pixels(box) for find in group], axis=0)
        best.box, best.score = box, max(find.score for find in group)
    return best

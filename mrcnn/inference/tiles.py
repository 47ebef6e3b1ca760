"""Images larger than the network's input: detected tile by tile, duplicates merged.

Every two neighbouring tiles share a strip of pixels, the overlap. An object in the strip is
detected by both; its detections are grouped, and each group becomes one object of the result.
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..data.image import is_unit, to_uint8
from ..data.keypoints import surest_keypoints
from ..nn.boxes import outward

logger = logging.getLogger("mrcnn")

# Two detections of neighbouring tiles are the same object if their common pixels are more than
# this share of the smaller one, both cut to the strip that the two tiles share.
SAME_OBJECT = 0.5
# A tile's border cuts off a box that ends at most this many pixels from the border.
CUT_OFF = 2
# A box that ends within this share of the overlap from a tile's border is less reliable: the
# network saw little of the object's surroundings.
NEAR_BORDER = 0.25


def detect_tiled(
    detect: Callable[[np.ndarray], dict],
    image: Any,
    tile: int,
    overlap: int,
    progress: Callable[[list], Iterable] = iter,
) -> dict:
    """Detect the objects of an image of any size; memory does not grow with the image.

    detect: `[H, W, C]` uint8 -> a dict of rois, class_ids, scores and optional masks, one bool
        array of the size of its box per object, and keypoints.
    image: `[H, W, C]`, or an object that returns arrays when sliced (a memory map). Float images
        are scaled by one factor for all tiles, so that dark tiles stay dark.
    tile: side of a tile in pixels.
    overlap: pixels that neighbouring tiles share. An object that is not larger is completely
        inside at least one tile.
    progress: wraps the list of tiles, as `data.progress.with_progress` does.

    Returns: rois `[N, (y1, x1, y2, x2)]` int32, or float32 if `detect` returns floats, class_ids
        `[N]`, scores `[N]` and masks, a list of N bool arrays of the pixels that the roi touches,
        `[y2 - y1, x2 - x1]` for an int roi; best score first. Of an object that several tiles
        detected, the detection with the best score that is neither cut by a tile's border nor
        near one; if all are cut, their union. keypoints `[N, K, (y, x, score)]` if `detect`
        returns them.

    Raises: ValueError if the overlap does not fit the tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(
            "overlap must be at least 0 and below tile. "
            f"Received: {overlap}, and tile {tile}. Try a quarter of the tile."
        )
    height, width = image.shape[:2]
    rows = _starts(height, tile, overlap)
    columns = _starts(width, tile, overlap)
    windows = []
    for y in rows:
        for x in columns:
            bottom, right = min(y + tile, height), min(x + tile, width)
            windows.append(np.array([y, x, bottom, right]))
    unit = _is_unit_everywhere(image, windows)
    per_tile = []
    result = {}
    for window in progress(windows):
        y1, x1, y2, x2 = window
        pixels = to_uint8(image[y1:y2, x1:x2], name="The tiled image", unit=unit)
        result = detect(pixels)
        per_tile.append(_detections(result, window, (height, width), overlap))
    groups = _groups(per_tile, windows, _neighbours(rows, columns, tile))
    objects = [_merge(group) for group in groups]
    objects.sort(key=lambda detection: -detection.score)
    logger.info("%d objects in %d tiles", len(objects), len(windows))
    return _result(objects, result)


def _is_unit_everywhere(image: Any, windows: list[np.ndarray]) -> bool:
    """Whether the image has float values that all lie in 0..1; it is read tile by tile."""
    dtype = image.dtype if hasattr(image, "dtype") else np.asarray(image[:1, :1]).dtype
    if dtype.kind != "f":
        return False
    return all(is_unit(np.asarray(image[y1:y2, x1:x2])) for y1, x1, y2, x2 in windows)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """The first pixels of the tiles along an axis; the last tile ends with the image."""
    starts = list(range(0, max(1, length - overlap), tile - overlap))
    return [max(0, min(start, length - tile)) for start in starts]


def _neighbours(rows: list[int], columns: list[int], tile: int) -> Iterator[tuple[int, int]]:
    """Yield the indices of every two tiles that share pixels, each pair once, lower index first.

    rows, columns: the starts of the tiles; tiles are numbered row by row.
    """
    for row, y in enumerate(rows):
        first_row = bisect.bisect_right(rows, y - tile)
        for column, x in enumerate(columns):
            first_column = bisect.bisect_right(columns, x - tile)
            end_column = bisect.bisect_left(columns, x + tile)
            for other_row in range(first_row, row + 1):
                end = end_column if other_row < row else column
                for other_column in range(first_column, end):
                    other = other_row * len(columns) + other_column
                    yield other, row * len(columns) + column


class _Detection:
    """A detection of one tile: its box in pixels of the whole image, and the mask in the box.

    keypoints: `[K, (y, x, score)]` in pixels of the whole image, or None.
    touched: the box rounded outward to whole pixels, the frame of the mask.
    cut: whether a tile's border inside the image cuts it off. near: whether it ends near one.
    """

    def __init__(
        self,
        box: np.ndarray,
        class_id: int,
        score: float,
        mask: np.ndarray | None,
        keypoints: np.ndarray | None = None,
    ):
        self.box = box
        self.touched = outward(box)
        self.class_id = class_id
        self.score = score
        self.mask = mask
        self.keypoints = keypoints
        self.cut = False
        self.near = False

    def mark_borders(self, window: np.ndarray, size: tuple[int, int], overlap: int) -> None:
        """Set `cut` and `near`; the image's own borders do not count.

        window: `(y1, x1, y2, x2)` of the tile. size: `(height, width)` of the image.
        """
        height, width = size
        y1, x1, y2, x2 = window
        is_inner = np.array([y1 > 0, x1 > 0, y2 < height, x2 < width])
        distances = np.abs(self.box - window)[is_inner]
        distance = min(distances.tolist(), default=np.inf)
        self.cut = bool(distance <= CUT_OFF)
        self.near = bool(distance < NEAR_BORDER * overlap)

    def pixels(self, region: np.ndarray) -> np.ndarray:
        """`[h, w]` bool: its mask in a region that overlaps its box; without a mask the box.

        region: `(y1, x1, y2, x2)` in pixels of the whole image.
        """
        y1, x1, y2, x2 = region
        canvas = np.zeros((y2 - y1, x2 - x1), bool)
        shared = _intersection(self.touched, region)
        part: Any = True
        if self.mask is not None:
            part = self.mask[_slices(shared, origin=self.touched)]
        canvas[_slices(shared, origin=region)] = part
        return canvas


def _detections(
    result: dict, window: np.ndarray, size: tuple[int, int], overlap: int
) -> list[_Detection]:
    """The result of one tile in pixels of the whole image."""
    offset = np.tile(window[:2], 2)
    detections = []
    for i, roi in enumerate(result["rois"]):
        class_id = int(result["class_ids"][i])
        score = float(result["scores"][i])
        mask = result["masks"][i] if "masks" in result else None
        keypoints = None
        if "keypoints" in result:
            keypoints = result["keypoints"][i] + np.array([*window[:2], 0], np.float32)
        detection = _Detection(np.asarray(roi) + offset, class_id, score, mask, keypoints)
        detection.mark_borders(window, size, overlap)
        detections.append(detection)
    return detections


def _intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The box that two boxes share; without area if they share no pixel."""
    top_left = np.maximum(first[:2], second[:2])
    bottom_right = np.minimum(first[2:], second[2:])
    return np.concatenate([top_left, bottom_right])


def _slices(box: np.ndarray, origin: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a box in an array that begins at the first corner of `origin`."""
    y1, x1, y2, x2 = box - np.tile(origin[:2], 2)
    return slice(y1, y2), slice(x1, x2)


def _has_area(box: np.ndarray) -> bool:
    return bool(box[2] > box[0] and box[3] > box[1])


def _bounding_box(boxes: Sequence[np.ndarray]) -> np.ndarray:
    rows = np.array(boxes)
    top_left = rows[:, :2].min(axis=0)
    bottom_right = rows[:, 2:].max(axis=0)
    return np.concatenate([top_left, bottom_right])


def _groups(
    per_tile: list[list[_Detection]],
    windows: list[np.ndarray],
    neighbours: Iterable[tuple[int, int]],
) -> list[list[_Detection]]:
    """The detections of all tiles, grouped by object, the most reliable first in each group.

    A group around an uncut detection contains only detections that match it: one that covers two
    objects must not merge their groups. A group around a cut detection also contains the matches
    of its members, because the object may span many tiles.
    """
    matches = _matches(per_tile, windows, neighbours)
    detections = [detection for detections in per_tile for detection in detections]
    detections.sort(key=lambda detection: (detection.cut, detection.near, -detection.score))
    taken: set[int] = set()
    groups = []
    for best in detections:
        if id(best) in taken:
            continue
        taken.add(id(best))
        group = [best]
        for member in group:  # the group grows during the loop
            if member is not best and not best.cut:
                break
            for other in matches[id(member)]:
                if id(other) not in taken:
                    taken.add(id(other))
                    group.append(other)
        groups.append(group)
    return groups


def _matches(
    per_tile: list[list[_Detection]],
    windows: list[np.ndarray],
    neighbours: Iterable[tuple[int, int]],
) -> dict[int, list[_Detection]]:
    """`{id of a detection: the detections of neighbouring tiles that are the same object}`."""
    matches: dict[int, list[_Detection]] = {
        id(detection): [] for detections in per_tile for detection in detections
    }
    for first, second in neighbours:
        strip = _intersection(windows[first], windows[second])
        in_strip = [
            detection
            for detection in per_tile[first]
            if _has_area(_intersection(detection.touched, strip))
        ]
        for detection in per_tile[second]:
            for other in in_strip:
                if detection.class_id == other.class_id and _same_object(detection, other, strip):
                    matches[id(detection)].append(other)
                    matches[id(other)].append(detection)
    return matches


def _same_object(first: _Detection, second: _Detection, strip: np.ndarray) -> bool:
    """Whether two detections agree on the pixels of the strip that both tiles see."""
    common = _intersection(first.touched, second.touched)
    if not _has_area(_intersection(common, strip)):
        return False
    region = _intersection(_bounding_box([first.touched, second.touched]), strip)
    first_pixels, second_pixels = first.pixels(region), second.pixels(region)
    smaller = min(first_pixels.sum(), second_pixels.sum())
    shared = (first_pixels & second_pixels).sum()
    return bool(smaller and shared > SAME_OBJECT * smaller)


def _merge(group: list[_Detection]) -> _Detection:
    """One detection for a group: the first, or the union of all if the first is cut.

    Of each keypoint the union has the place with the best score.
    """
    best = group[0]
    if not best.cut or len(group) == 1:
        return best
    box = _bounding_box([detection.box for detection in group])
    mask = None
    if best.mask is not None:
        region = outward(box)
        mask = np.any([detection.pixels(region) for detection in group], axis=0)
    score = max(detection.score for detection in group)
    found = [detection.keypoints for detection in group if detection.keypoints is not None]
    keypoints = surest_keypoints(found) if found else None
    return _Detection(box, best.class_id, score, mask, keypoints)


def _result(detections: list[_Detection], of_tile: dict) -> dict:
    """The detections in the form of a tile's result: its keys and the type of its rois."""
    boxes = np.array([detection.box for detection in detections]).reshape(-1, 4)
    box_type = np.float32 if np.asarray(of_tile["rois"]).dtype.kind == "f" else np.int32
    class_ids = [detection.class_id for detection in detections]
    scores = [detection.score for detection in detections]
    result: dict[str, Any] = {
        "rois": boxes.astype(box_type),
        "class_ids": np.array(class_ids, np.int32),
        "scores": np.array(scores, np.float32),
    }
    if "masks" in of_tile:
        result["masks"] = [detection.mask for detection in detections]
    if "keypoints" in of_tile:
        keypoints = [detection.keypoints for detection in detections]
        shape = of_tile["keypoints"].shape[1:]
        result["keypoints"] = np.array(keypoints, np.float32).reshape(-1, *shape)
    return result

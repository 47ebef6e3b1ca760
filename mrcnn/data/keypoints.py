"""Keypoints as arrays: move them with their image, mirror their names, read them from heatmaps.

A keypoint is `(y, x)` in pixels counted from the corner of the image, as the corners of boxes are:
the center of the first pixel is (0.5, 0.5). COCO's files count from the center of the first pixel,
`(x, y)`; `formats/coco.py` converts. Visibility is COCO's: 0 not labelled, 1 hidden, 2 visible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..config import Config
from .image import Crop, Padding, Scale, by_axis


class Skeleton(NamedTuple):
    """The names of keypoints, and pairs of them, numbered from 0, that a line connects."""

    names: Sequence[str]
    lines: Sequence[Sequence[int]]


def skeleton_of(config: Config) -> Skeleton | None:
    """Return the keypoints that a network detects; None if it detects none."""
    if not config.has_keypoint_head():
        return None
    return Skeleton(config.KEYPOINT_NAMES or (), config.KEYPOINT_SKELETON)


def decode_heatmaps(heatmaps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the places of the maxima of heatmaps, `[N, K, (y, x, score)]` float32.

    Each heatmap is resized to the pixels of its box by bicubic interpolation (a = -0.75); the first
    of equal maxima counts. This is torchvision's decoding (Mask R-CNN, section 5).

    heatmaps: `[N, h, w, K]` logits. boxes: `[N, (y1, x1, y2, x2)]` pixels.
    """
    keypoints = np.zeros((len(boxes), heatmaps.shape[-1], 3), np.float32)
    boxes = np.asarray(boxes, np.float32)
    for i, (heatmap, box) in enumerate(zip(heatmaps, boxes, strict=True)):
        sides = np.maximum(box[2:] - box[:2], 1)  # height, width
        rows, columns = np.ceil(sides).astype(int)
        best = np.zeros(heatmaps.shape[-1], int)
        # One map at a time: NumPy finds the maximum of contiguous numbers several times faster.
        for k, logits in enumerate(np.ascontiguousarray(np.moveaxis(heatmap, -1, 0), np.float32)):
            # OpenCV's bicubic interpolation has a = -0.75 too, and repeats the border.
            resized = cv2.resize(logits, (columns, rows), interpolation=cv2.INTER_CUBIC)
            best[k] = resized.argmax()
            keypoints[i, k, 2] = resized.flat[best[k]]
        cells = np.stack(np.unravel_index(best, (rows, columns)), axis=-1)  # [K, (row, column)]
        scale = sides / np.array([rows, columns], np.float32)
        keypoints[i, :, :2] = (cells + np.float32(0.5)) * scale + box[:2]
    return keypoints


def surest_keypoints(found: Sequence[np.ndarray]) -> np.ndarray:
    """Return each keypoint of an object from where its score is highest, `[K, (y, x, score)]`.

    found: the keypoints of several detections of the object, `[K, 3]` each.
    """
    keypoints = np.stack(found)  # [detections, K, 3]
    best = keypoints[..., 2].argmax(axis=0)
    return keypoints[best, np.arange(len(best))]


def adopt_skeleton(config: Any, dataset: Any) -> None:
    """Give a config the names and lines of a dataset's keypoints, unless it has names.

    config: a `Config`, changed in place. dataset: a `Dataset`.
    """
    if not config.NUM_KEYPOINTS or config.KEYPOINT_NAMES is not None:
        return
    names = list(dataset.keypoint_names)
    if len(names) == config.NUM_KEYPOINTS:
        config.KEYPOINT_NAMES = names
        config.KEYPOINT_SKELETON = [list(line) for line in dataset.keypoint_skeleton]


# --- Moving with the image ----------------------------------------------------------------------


def resize_keypoints(
    keypoints: np.ndarray,
    scale: Scale,
    padding: Padding,
    crop: Crop | None,
    shape: Sequence[int],
) -> np.ndarray:
    """Scale, pad and crop keypoints as `resize_image` did with their image.

    Args:
        keypoints: `[N, K, (y, x, visibility)]` pixels of the original image.
        scale, padding, crop: as returned by `resize_image`.
        shape: `(height, width, ...)` of the resized image.

    Returns: `[N, K, 3]` float32; of those outside the resized image the visibility is 0.
    """
    crop_y, crop_x = (0, 0) if crop is None else crop[:2]
    offset = np.array([padding[0][0] - crop_y, padding[1][0] - crop_x])
    resized = np.array(keypoints, np.float32)
    resized[..., :2] = resized[..., :2] * by_axis(scale) + offset
    return without_outside(resized, shape)


def without_outside(keypoints: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return keypoints of which those outside the image have visibility 0.

    keypoints: `[N, K, (y, x, visibility)]`. shape: `(height, width, ...)` of the image.
    """
    places = keypoints[..., :2]
    is_inside = np.all((places >= 0) & (places <= shape[:2]), axis=-1)
    inside = keypoints.copy()
    inside[..., 2] *= is_inside
    return inside


def mirror(keypoints: np.ndarray, width: int, order: np.ndarray) -> np.ndarray:
    """Mirror keypoints left-right with their image.

    keypoints: `[N, K, (y, x, visibility)]`. width: of the image. order: see `mirrored_order`.
    """
    mirrored = keypoints[:, order]
    mirrored[..., 1] = width - mirrored[..., 1]
    return mirrored


def mirrored_order(
    count: int, names: Sequence[str] | None, pairs: Sequence[Sequence[int]] | None
) -> np.ndarray:
    """Return for each of `count` keypoints the one that takes its place in a mirrored image.

    A person's left eye becomes a right eye.

    names: in the order of the keypoints; those that differ only in the words left and right change
        places, for example left_eye and right_eye.
    pairs: those that change places, numbered from 0; None: those that the names tell.
    """
    order = np.arange(count)
    if count == 0:
        return order
    if pairs is None:
        pairs = _pairs_by_name(list(names or ()))
    for first, second in pairs:
        order[first], order[second] = second, first
    return order


def _pairs_by_name(names: list[str]) -> list[tuple[int, int]]:
    positions = {name.casefold(): i for i, name in enumerate(names)}
    pairs = []
    for i, name in enumerate(names):
        # "eye_left" as well as "left_eye"
        other = re.sub("left", "right", name.casefold(), count=1)
        if other != name.casefold() and other in positions:
            pairs.append((i, positions[other]))
    return pairs

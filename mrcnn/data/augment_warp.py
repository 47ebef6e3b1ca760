"""Augmentations that warp an image and its masks by an affine map: zoom and rotate.

Signature and shapes are those of `augment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .augment_color import channel_means

Box = Sequence[int]  # x, y, width, height, as OpenCV has them
MARGIN = 2  # pixels around a warped box, for rounding


class Moved(NamedTuple):
    """An augmented image and its masks, and where their points have gone.

    matrix: `[2, 3]`: the point (y, x) has gone to matrix @ (y, x, 1).
    """

    image: np.ndarray
    masks: np.ndarray
    matrix: np.ndarray


def move_by_scale(
    image: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    low: float = 0.7,
    high: float = 1.4,
) -> Moved:
    """Zoom around a random point by a factor between `low` and `high`; outside becomes black.

    If the center of every object would leave the image, the point is the center of one of them.
    """
    factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    height, width = image.shape[:2]
    y, x = rng.uniform(0, 1, 2) * (height, width)
    planes = _planes(masks)
    boxes = [cv2.boundingRect(plane) for plane in planes]
    centers = [_center(box) for box in boxes if box[2]]
    moved = [(y + (cy - y) * factor, x + (cx - x) * factor) for cy, cx in centers]
    if centers and not any(0 <= cy < height and 0 <= cx < width for cy, cx in moved):
        y, x = centers[int(rng.integers(len(centers)))]
    matrix = np.array([[factor, 0, x * (1 - factor)], [0, factor, y * (1 - factor)]])
    return _warp(image, planes, boxes, matrix)


def move_by_rotation(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, degrees: float = 10.0
) -> Moved:
    """Rotate around the center by at most `degrees`, to either side.

    Outside becomes the mean color: its edges are oblique, other than those of resizing.
    """
    height, width = image.shape[:2]
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, rng.uniform(-degrees, degrees), 1.0)
    planes = _planes(masks)
    boxes = [cv2.boundingRect(plane) for plane in planes]
    # OpenCV takes a value for four channels.
    fill = np.round(channel_means(image)[:4]).tolist()
    return _warp(image, planes, boxes, matrix, fill)


def _planes(masks: np.ndarray) -> np.ndarray:
    """`[N, H, W]` uint8 of masks `[H, W, N]`, each plane contiguous."""
    return np.ascontiguousarray(np.moveaxis(masks, -1, 0)).view(np.uint8)


def _center(box: Box) -> tuple[float, float]:
    """The center (y, x) of a box, counted from the center of the first pixel."""
    x, y, width, height = box
    return y + (height - 1) / 2, x + (width - 1) / 2


def _warp(
    image: np.ndarray,
    planes: np.ndarray,
    boxes: Sequence[Box],
    matrix: np.ndarray,
    fill: Sequence[float] = (),
) -> Moved:
    """Warp by OpenCV's `[2, 3]` matrix of (x, y), which counts from the center of the first pixel.

    planes: `[N, H, W]` uint8. boxes: of each plane; only this part of it is warped. fill: the color
    outside of the image; default black.
    """
    height, width = image.shape[:2]
    pixels = np.ascontiguousarray(image)
    options = {"flags": cv2.INTER_LINEAR, "borderValue": fill or 0}
    warped = cv2.warpAffine(pixels, matrix, (width, height), **options)
    moved = np.zeros_like(planes)
    for plane, box, target in zip(planes, boxes, moved, strict=True):
        if box[2]:
            _warp_part(plane, box, target, matrix)
    # OpenCV drops a single channel.
    warped = warped.reshape(image.shape)
    return Moved(warped, np.moveaxis(moved.view(bool), 0, -1), _matrix_of_points(matrix))


def _warp_part(plane: np.ndarray, box: Box, target: np.ndarray, matrix: np.ndarray) -> None:
    """Warp the part of a plane inside of its box into the target, an empty plane."""
    x, y, width, height = box
    corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]])
    reached = corners @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.maximum(np.floor(reached.min(axis=0)).astype(int) - MARGIN, 0)
    ends = np.ceil(reached.max(axis=0)).astype(int) + MARGIN
    right, bottom = np.minimum(ends, target.shape[::-1])
    if left >= right or top >= bottom:
        return
    local = matrix.copy()
    local[:, 2] += matrix[:, :2] @ (x, y) - (left, top)
    part = np.ascontiguousarray(plane[y : y + height, x : x + width])
    size = (int(right - left), int(bottom - top))
    target[top:bottom, left:right] = cv2.warpAffine(part, local, size, flags=cv2.INTER_NEAREST)


def _matrix_of_points(matrix: np.ndarray) -> np.ndarray:
    """`[2, 3]` matrix of points (y, x) counted from the corner of the image.

    matrix: OpenCV's, of points (x, y) counted from the center of the first pixel.
    """
    by_row = matrix[::-1, [1, 0, 2]]  # (x, y) to (y, x)
    by_row[:, 2] += 0.5 - by_row[:, :2] @ (0.5, 0.5)
    return by_row

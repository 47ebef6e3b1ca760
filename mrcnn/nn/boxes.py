"""Box arithmetic, written once for NumPy arrays and for tensors.

Boxes are `[..., (y1, x1, y2, x2)]`. In pixels, y2 and x2 are one past the box. In normalized
coordinates 0 and 1 are the first and the last pixel: `normalize` divides by `side - 1` and shifts
y2 and x2 by one (`continuous`: they are the edges of the image). Deltas are `[..., (dy, dx,
log(dh), log(dw))]` (R-CNN, appendix C).
"""

from __future__ import annotations

from typing import Any

import numpy as np

# An anchor or proposal with a higher IoU with a crowd is not background.
CROWD_IOU = 0.001

# exp of more overflows float32; the boxes of an untrained network stay finite and can be clipped.
MAX_LOG_SCALE = 80.0


def _namespace(array: Any) -> Any:
    """The module with the functions for this array: numpy, or keras.ops."""
    if isinstance(array, np.ndarray | np.generic | list | tuple):
        return np
    import keras

    return keras.ops


def sides(boxes: Any) -> tuple:
    """`[...]` each: y1, x1, y2, x2 of boxes `[..., 4]`."""
    xp = _namespace(boxes)
    if xp is np:
        return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]
    # One op; four slices would be sixteen ops to trace.
    return tuple(xp.unstack(boxes, 4, axis=-1))


def area(boxes: Any) -> Any:
    """`[...]` the area of each box of `[..., 4]`."""
    y1, x1, y2, x2 = sides(boxes)
    return (y2 - y1) * (x2 - x1)


def iou(boxes1: Any, boxes2: Any) -> Any:
    """`[..., N, M]` intersection over union of every pair; 0 if the union is empty.

    boxes1: `[..., N, 4]`. boxes2: `[..., M, 4]`, in the same unit.
    """
    xp = _namespace(boxes1)
    top1, left1, bottom1, right1 = sides(boxes1[..., :, None, :])
    top2, left2, bottom2, right2 = sides(boxes2[..., None, :, :])
    height = xp.minimum(bottom1, bottom2) - xp.maximum(top1, top2)
    width = xp.minimum(right1, right2) - xp.maximum(left1, left2)
    intersection = xp.maximum(height, 0) * xp.maximum(width, 0)
    union = area(boxes1)[..., :, None] + area(boxes2)[..., None, :] - intersection
    return intersection / xp.where(union > 0, union, xp.ones_like(union))


def encode(boxes: Any, gt_boxes: Any) -> Any:
    """`[N, 4]` deltas that turn `boxes` into `gt_boxes`; the inverse of `decode`.

    boxes, gt_boxes: `[N, 4]`, of positive size.
    """
    xp = _namespace(boxes)
    height, width, center_y, center_x = _center_form(boxes)
    gt_height, gt_width, gt_center_y, gt_center_x = _center_form(gt_boxes)
    dy = (gt_center_y - center_y) / height
    dx = (gt_center_x - center_x) / width
    return xp.stack([dy, dx, xp.log(gt_height / height), xp.log(gt_width / width)], axis=-1)


def decode(boxes: Any, deltas: Any, max_log_scale: float | None = None) -> Any:
    """`[..., 4]` the boxes `[..., 4]` moved and resized by deltas `[..., 4]`.

    Source: Faster R-CNN, equation 2.

    max_log_scale: see `Config.MAX_LOG_SCALE`.
    """
    limit = MAX_LOG_SCALE if max_log_scale is None else max_log_scale
    xp = _namespace(boxes)
    height, width, center_y, center_x = _center_form(boxes)
    dy, dx, log_dh, log_dw = sides(deltas)
    center_y = center_y + dy * height
    center_x = center_x + dx * width
    height = height * xp.exp(xp.minimum(log_dh, limit))
    width = width * xp.exp(xp.minimum(log_dw, limit))
    y1 = center_y - 0.5 * height
    x1 = center_x - 0.5 * width
    return xp.stack([y1, x1, y1 + height, x1 + width], axis=-1)


def _center_form(boxes):
    """Height, width, center y and center x, `[...]` each."""
    y1, x1, y2, x2 = sides(boxes)
    height, width = y2 - y1, x2 - x1
    return height, width, y1 + 0.5 * height, x1 + 0.5 * width


def clip(boxes: Any, window: Any) -> Any:
    """`[..., 4]` the boxes `[..., 4]` clipped to a window.

    window: `[4]`, or `[..., 1, 4]` to broadcast against the boxes.
    """
    xp = _namespace(boxes)
    y1, x1, y2, x2 = sides(window)
    low, high = xp.stack([y1, x1, y1, x1], axis=-1), xp.stack([y2, x2, y2, x2], axis=-1)
    return xp.maximum(xp.minimum(boxes, high), low)


def outward(boxes: np.ndarray) -> np.ndarray:
    """`[..., 4]` int64: the whole pixels that boxes `[..., 4]`, in pixels, touch."""
    boxes = np.asarray(boxes)
    if boxes.dtype.kind != "f":
        return boxes.astype(np.int64)
    corners = [np.floor(boxes[..., :2]), np.ceil(boxes[..., 2:])]
    return np.concatenate(corners, axis=-1).astype(np.int64)


def normalize(boxes: Any, shape: Any, continuous: bool = False) -> Any:
    """`[..., 4]` float32 in normalized coordinates.

    boxes: `[..., 4]` in pixels. shape: `(height, width)` of the image.
    continuous: 0 and 1 are the edges of the image, not its first and last pixel.
    """
    scale, shift = _normalization(boxes, shape, continuous)
    normalized = (boxes - shift) / scale
    return normalized.astype(np.float32) if _namespace(boxes) is np else normalized


def to_pixels(boxes: Any, shape: Any, continuous: bool = False) -> Any:
    """`[..., 4]` float in pixels; the inverse of `normalize`.

    boxes: `[..., 4]` normalized. shape, continuous: as for `normalize`.
    """
    scale, shift = _normalization(boxes, shape, continuous)
    return boxes * scale + shift


def denormalize(boxes: Any, shape: Any) -> Any:
    """`[..., 4]` int32 in pixels, rounded half to even; the inverse of `normalize`.

    boxes: `[..., 4]` normalized. shape: `(height, width)` of the image.
    """
    xp = _namespace(boxes)
    if xp is np:
        return np.around(to_pixels(boxes, shape)).astype(np.int32)
    return xp.cast(xp.round(to_pixels(boxes, shape)), "int32")


def _normalization(boxes, shape, continuous):
    """`[4]` each: scale and shift from normalized coordinates to pixels."""
    height, width = shape
    xp = _namespace(boxes)
    less, shift = (0, [0, 0, 0, 0]) if continuous else (1, [0, 0, 1, 1])
    if xp is np:
        sides = np.array([height, width, height, width])
        return sides - less, np.array(shift)
    scale = xp.cast(xp.stack([height, width, height, width]), "float32") - float(less)
    return scale, xp.convert_to_tensor(shift, "float32")


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """`[K]` int32 indices of the boxes kept, best score first.

    No two of them have an IoU above the threshold.

    boxes: `[N, 4]`. scores: `[N]`.
    """
    boxes = np.asarray(boxes)
    if boxes.dtype.kind != "f":
        boxes = boxes.astype(np.float32)
    # NumPy's order of equal float32 or float64 depends on the CPU, that of long doubles does not.
    order = np.argsort(np.asarray(scores, np.longdouble))[::-1]
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[iou(boxes[best][None], boxes[rest])[0] <= threshold]
    return np.array(kept, dtype=np.int32)

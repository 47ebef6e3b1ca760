"""Box and anchor arithmetic, written once: numpy arrays in, numpy arrays out; tensors in, tensors out.

Boxes are `[..., (y1, x1, y2, x2)]`. In pixels, y2 and x2 lie one past the box; normalised, 0 and 1 are the first
and the last pixel's coordinate, so that `normalize` divides by `side - 1` (and shifts y2, x2 by one).
Deltas are `[..., (dy, dx, log(dh), log(dw))]` (R-CNN, appendix C).
"""

from __future__ import annotations

import numpy as np

_MAX_LOG = (
    80.0  # exp of more is no float32: an untrained network's boxes stay finite, and can be clipped
)

# An anchor or proposal that overlaps a crowd by more than this is not taken as background.
CROWD_IOU = 0.001


def _xp(array):
    """The namespace that works on this array: numpy, or keras.ops."""
    if isinstance(array, np.ndarray | np.generic | list | tuple):
        return np
    import keras

    return keras.ops


def sides(boxes):
    """y1, x1, y2, x2, `[...]` each."""
    xp = _xp(boxes)
    # One op for the four: sliced one by one they are sixteen, and tracing is what a first call waits for.
    return tuple(boxes[..., i] for i in range(4)) if xp is np else xp.unstack(boxes, 4, axis=-1)


def area(boxes):
    """`[...]` area of each box."""
    y1, x1, y2, x2 = sides(boxes)
    return (y2 - y1) * (x2 - x1)


def iou(boxes1, boxes2):
    """`[..., N, M]` intersection over union of every pair; 0 where a union is empty.

    boxes1: `[..., N, (y1, x1, y2, x2)]`. boxes2: `[..., M, (y1, x1, y2, x2)]`, same unit.
    """
    xp = _xp(boxes1)
    top1, left1, bottom1, right1 = sides(boxes1[..., :, None, :])
    top2, left2, bottom2, right2 = sides(boxes2[..., None, :, :])
    height = xp.minimum(bottom1, bottom2) - xp.maximum(top1, top2)
    width = xp.minimum(right1, right2) - xp.maximum(left1, left2)
    intersection = xp.maximum(height, 0) * xp.maximum(width, 0)
    union = area(boxes1)[..., :, None] + area(boxes2)[..., None, :] - intersection
    return intersection / xp.where(union > 0, union, xp.ones_like(union))


def encode(boxes, gt_boxes):
    """`[N, 4]` deltas that turn `boxes` into `gt_boxes`; the inverse of `decode`.

    boxes, gt_boxes: `[N, (y1, x1, y2, x2)]` of positive size.
    """
    xp = _xp(boxes)
    height, width, center_y, center_x = _center_form(boxes)
    gt_height, gt_width, gt_center_y, gt_center_x = _center_form(gt_boxes)
    return xp.stack(
        [
            (gt_center_y - center_y) / height,
            (gt_center_x - center_x) / width,
            xp.log(gt_height / height),
            xp.log(gt_width / width),
        ],
        axis=-1,
    )


def decode(boxes, deltas):
    """`[..., (y1, x1, y2, x2)]` the boxes moved and stretched by the deltas (Faster R-CNN, equation 2)."""
    xp = _xp(boxes)
    height, width, center_y, center_x = _center_form(boxes)
    dy, dx, log_dh, log_dw = sides(deltas)
    center_y = center_y + dy * height
    center_x = center_x + dx * width
    height = height * xp.exp(xp.minimum(log_dh, _MAX_LOG))
    width = width * xp.exp(xp.minimum(log_dw, _MAX_LOG))
    y1 = center_y - 0.5 * height
    x1 = center_x - 0.5 * width
    return xp.stack([y1, x1, y1 + height, x1 + width], axis=-1)


def _center_form(boxes):
    y1, x1, y2, x2 = sides(boxes)
    height, width = y2 - y1, x2 - x1
    return height, width, y1 + 0.5 * height, x1 + 0.5 * width


def clip(boxes, window):
    """`[..., (y1, x1, y2, x2)]` the boxes cut to a window.

    window: `[(y1, x1, y2, x2)]`, or `[..., 1, (y1, x1, y2, x2)]` to broadcast against the boxes.
    """
    xp = _xp(boxes)
    y1, x1, y2, x2 = sides(window)
    low, high = xp.stack([y1, x1, y1, x1], axis=-1), xp.stack([y2, x2, y2, x2], axis=-1)
    return xp.maximum(xp.minimum(boxes, high), low)


def normalize(boxes, shape):
    """`[N, (y1, x1, y2, x2)]` float32 in normalised coordinates.

    boxes: `[N, (y1, x1, y2, x2)]` in pixels. shape: `(height, width)` of the image.
    """
    scale, shift = _normalization(boxes, shape)
    if _xp(boxes) is np:
        return ((boxes - shift) / scale).astype(np.float32)
    return (boxes - shift) / scale


def denormalize(boxes, shape):
    """`[N, (y1, x1, y2, x2)]` int32, in pixels; the inverse of `normalize`, rounded to the nearest (half to even)."""
    xp = _xp(boxes)
    scale, shift = _normalization(boxes, shape)
    if xp is np:
        return np.around(boxes * scale + shift).astype(np.int32)
    return xp.cast(xp.round(boxes * scale + shift), "int32")


def _normalization(boxes, shape):
    height, width = shape
    if _xp(boxes) is np:
        return np.array([height - 1, width - 1, height - 1, width - 1]), np.array([0, 0, 1, 1])
    import keras

    sides = keras.ops.cast(keras.ops.stack([height, width, height, width]), "float32")
    return sides - 1.0, keras.ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """`[K]` int32 indices of the boxes kept, best score first: no two overlap by more than `threshold` IoU.

    boxes: `[N, (y1, x1, y2, x2)]`. scores: `[N]`.
    """
    boxes = np.asarray(boxes)
    if boxes.dtype.kind != "f":
        boxes = boxes.astype(np.float32)
    # Equal scores: NumPy sorts float32 and float64 by what the CPU offers, long doubles the same way everywhere.
    order = np.argsort(np.asarray(scores, np.longdouble))[::-1]
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[iou(boxes[best][None], boxes[rest])[0] <= threshold]
    return np.array(kept, dtype=np.int32)

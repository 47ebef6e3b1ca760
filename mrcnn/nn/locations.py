"""FCOS' boxes and targets (Tian 2019, section 3): what a location of the image learns and predicts.

A location is the center of a square anchor `(y1, x1, y2, x2)`, whose side is the unit of the four
distances `(top, left, bottom, right)` from the location to the sides of its object's box.

Shape shorthand: B images, A locations, M ground-truth objects. Boxes are in pixels, or in any other
unit that the anchors have as well.
"""

from __future__ import annotations

from typing import Any

from . import boxes as box_math
from .dense_targets import AnchorTargets
from .keras_ops import ops

# A location learns an object if it is nearer than this to the center of its box on both axes
# (center sampling).
CENTER_RADIUS = 1.5
# A level learns the objects whose largest distance to a side lies between these. The first level
# learns smaller ones too, the last level larger ones.
LEAST_DISTANCE, LARGEST_DISTANCE = 4.0, 8.0


def location_targets(anchors: Any, gt_class_ids: Any, gt_boxes: Any) -> AnchorTargets:
    """Assign an object to each location: the smallest of those that it may learn.

    A location in a crowd, where unlabelled objects may be, does not count unless it learns one.
    Without an object the box is the anchor itself.

    anchors: `[B, A, 4]`, those of a level of the same side; no two levels have the same.
    gt_class_ids: `[B, M]`, zero-padded; a crowd's is negative. gt_boxes: `[B, M, 4]`.
    """
    gt_class_ids = ops.cast(gt_class_ids, "int32")
    distances = encode_sides(anchors[:, :, None], gt_boxes[:, None])  # [B, A, M, 4]
    is_inside = ops.min(distances, axis=-1) > 0
    is_learned = is_inside & _is_near_center(distances) & _fits_level(distances, anchors)
    is_learned = is_learned & (gt_class_ids > 0)[:, None]
    areas = ops.where(is_learned, box_math.area(gt_boxes)[:, None], float("inf"))  # [B, A, M]
    smallest = ops.argmin(areas, axis=-1)
    is_object = ops.any(is_learned, axis=-1)
    class_ids = ops.where(is_object, ops.take_along_axis(gt_class_ids, smallest, axis=1), 0)
    is_in_crowd = ops.any(is_inside & (gt_class_ids < 0)[:, None], axis=-1)
    class_ids = ops.where(is_in_crowd & ~is_object, -1, class_ids)
    boxes = ops.take_along_axis(gt_boxes, smallest[..., None], axis=1)
    return AnchorTargets(class_ids, ops.where(is_object[..., None], boxes, anchors))


def _is_near_center(distances):
    """`[B, A, M]` whether the location is near the center of the box; distances: `[B, A, M, 4]`."""
    top, left, bottom, right = box_math.sides(distances)
    offset = ops.maximum(ops.abs(bottom - top), ops.abs(right - left)) / 2
    return offset < CENTER_RADIUS


def _fits_level(distances, anchors):
    """`[B, A, M]` whether the largest distance is in the range of the location's level."""
    y1, _, y2, _ = box_math.sides(anchors)
    side = y2 - y1  # [B, A]
    is_first, is_last = side == ops.min(side), side == ops.max(side)
    low = ops.where(is_first, 0.0, LEAST_DISTANCE)[..., None]
    high = ops.where(is_last, float("inf"), LARGEST_DISTANCE)[..., None]
    largest = ops.max(distances, axis=-1)
    return (largest > low) & (largest < high)


def encode_sides(anchors: Any, boxes: Any) -> Any:
    """`[..., (top, left, bottom, right)]` the distances from the locations to the sides of boxes.

    anchors, boxes: `[..., 4]`.
    """
    center_y, center_x, height, width = _centers(anchors)
    y1, x1, y2, x2 = box_math.sides(boxes)
    top, bottom = (center_y - y1) / height, (y2 - center_y) / height
    left, right = (center_x - x1) / width, (x2 - center_x) / width
    return ops.stack([top, left, bottom, right], axis=-1)


def decode_sides(anchors: Any, distances: Any) -> Any:
    """`[..., 4]` the boxes that lie at these distances around the locations.

    anchors: `[..., 4]`. distances: `[..., (top, left, bottom, right)]`.
    """
    center_y, center_x, height, width = _centers(anchors)
    top, left, bottom, right = box_math.sides(distances)
    first = [center_y - top * height, center_x - left * width]
    last = [center_y + bottom * height, center_x + right * width]
    return ops.stack([*first, *last], axis=-1)


def _centers(anchors):
    """`[...]` each: center y, center x, height and width of anchors `[..., 4]`."""
    y1, x1, y2, x2 = box_math.sides(anchors)
    return (y1 + y2) / 2, (x1 + x2) / 2, y2 - y1, x2 - x1


def centerness(anchors: Any, boxes: Any) -> Any:
    """`[...]` how near locations are to the centers of boxes: 1 there, 0 on a side (equation 3).

    anchors: `[..., 4]`, whose locations lie inside. boxes: `[..., 4]`.
    """
    top, left, bottom, right = box_math.sides(encode_sides(anchors, boxes))
    vertical = ops.minimum(top, bottom) / ops.maximum(top, bottom)
    horizontal = ops.minimum(left, right) / ops.maximum(left, right)
    return ops.sqrt(vertical * horizontal)

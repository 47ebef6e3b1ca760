"""Random RoIs, and the targets of the heads for given RoIs, in NumPy.

Boxes are `(y1, x1, y2, x2)` in pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..nn import boxes
from .image import resize
from .masks import expand_mask


class RoITargets(NamedTuple):
    """T = TRAIN_ROIS_PER_IMAGE RoIs, and what the heads learn for them."""

    rois: np.ndarray  # [T, 4]
    class_ids: np.ndarray  # [T], 0 = background
    deltas: np.ndarray  # [T, NUM_CLASSES, 4]
    masks: np.ndarray  # [T, *MASK_SHAPE, NUM_CLASSES]


def generate_random_rois(
    image_shape: Any, count: int, gt_class_ids: Any, gt_boxes: np.ndarray, rng: Any = None
) -> np.ndarray:
    """`[count, 4]` int32 random boxes: nine in ten around the objects, the rest anywhere.

    image_shape: `(H, W, ...)`. gt_class_ids: unused. gt_boxes: `[N, 4]`.
    rng: a NumPy Generator; None draws from NumPy's global generator.
    """
    rng = rng or np.random
    height, width = image_shape[:2]
    rois = np.zeros((count, 4), dtype=np.int32)
    per_box = int(0.9 * count / len(gt_boxes)) if len(gt_boxes) else 0
    for i, (y1, x1, y2, x2) in enumerate(gt_boxes):
        h, w = y2 - y1, x2 - x1
        rows = max(y1 - h, 0), min(y2 + h, height)
        columns = max(x1 - w, 0), min(x2 + w, width)
        rois[per_box * i : per_box * (i + 1)] = _random_boxes(rows, columns, per_box, rng)
    done = per_box * len(gt_boxes)
    rois[done:] = _random_boxes((0, height), (0, width), count - done, rng)
    return rois


def _random_boxes(rows, columns, count, rng) -> np.ndarray:
    """`[count, 4]` boxes of at least one pixel inside the rows and columns `(first, end)`."""
    draw = rng.randint if hasattr(rng, "randint") else rng.integers
    while True:
        y = draw(*rows, (count * 2, 2))
        x = draw(*columns, (count * 2, 2))
        y = np.sort(y[y[:, 0] != y[:, 1]][:count], axis=1)
        x = np.sort(x[x[:, 0] != x[:, 1]][:count], axis=1)
        if len(y) == count and len(x) == count:
            return np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], axis=1)


def build_detection_targets(
    rpn_rois: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    gt_masks: np.ndarray,
    config: Any,
    rng: Any = None,
) -> RoITargets:
    """Sample RoIs and compute their targets, to inspect them or to train without the RPN.

    rpn_rois: `[N, 4]`. gt_class_ids: `[M]`. gt_boxes: `[M, 4]`.
    gt_masks: `[H, W, M]`, or mini-masks `[h, w, M]`.

    Raises: ValueError if there are no RoIs or no objects.
    """
    rng = rng or np.random
    real = np.flatnonzero(gt_class_ids > 0)
    if len(rpn_rois) == 0 or len(real) == 0:
        raise ValueError(
            f"Detection targets need RoIs and objects. Received: {len(rpn_rois)} RoIs, "
            f"{len(real)} objects. Try skipping images without objects when "
            "detection_targets=True."
        )
    gt_class_ids, gt_boxes, gt_masks = gt_class_ids[real], gt_boxes[real], gt_masks[:, :, real]
    overlaps = boxes.iou(rpn_rois, gt_boxes)
    best_gt, best_iou = overlaps.argmax(axis=1), overlaps.max(axis=1)
    class_ids = gt_class_ids[best_gt]
    class_ids[best_iou < config.ROI_POSITIVE_IOU] = 0
    kept = _sample(best_iou, config, rng)
    rois, class_ids, best_gt = rpn_rois[kept], class_ids[kept], best_gt[kept]

    deltas = np.zeros((len(kept), config.NUM_CLASSES, 4), dtype=np.float32)
    masks = np.zeros((len(kept), *config.MASK_SHAPE, config.NUM_CLASSES), dtype=np.float32)
    for i in np.flatnonzero(class_ids > 0):
        gt_box, mask = gt_boxes[best_gt[i]], gt_masks[:, :, best_gt[i]]
        roi = rois[i].astype(np.float32)
        deltas[i, class_ids[i]] = boxes.encode(roi, gt_box.astype(np.float32))
        masks[i, :, :, class_ids[i]] = _mask_target(rois[i], gt_box, mask, config)
    return RoITargets(rois, class_ids, deltas / config.BBOX_STD_DEV.astype(np.float32), masks)


def _sample(best_iou, config, rng) -> np.ndarray:
    """`[T]` indices of the RoIs: positives, then negatives; if they are too few, some twice."""
    total = config.TRAIN_ROIS_PER_IMAGE
    positive = np.flatnonzero(best_iou > config.ROI_POSITIVE_IOU)
    positive = _choose(positive, int(total * config.ROI_POSITIVE_RATIO), rng)
    negative = np.flatnonzero(best_iou < config.ROI_POSITIVE_IOU)
    negative = _choose(negative, total - len(positive), rng)
    kept = np.concatenate([positive, negative])
    if len(kept) < total:
        again = negative if len(negative) else kept
        kept = np.concatenate([kept, rng.choice(again, total - len(kept), replace=True)])
    return kept


def _choose(ids, count, rng) -> np.ndarray:
    """At most `count` of the ids, at random."""
    return rng.choice(ids, count, replace=False) if len(ids) > count else ids


def _mask_target(roi, gt_box, mask, config) -> np.ndarray:
    """`[*MASK_SHAPE]` the RoI's window of a mask `[H, W]` or mini-mask `[h, w]`."""
    if config.USE_MINI_MASK:
        full = expand_mask(gt_box[None], mask[:, :, None], config.IMAGE_SHAPE, exact=True)
        mask = full[:, :, 0]
    y1, x1, y2, x2 = roi.astype(int)
    return resize(mask[y1:y2, x1:x2], config.MASK_SHAPE)

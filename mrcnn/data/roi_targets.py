"""Random RoIs and the targets of the heads for given RoIs, in NumPy."""

from __future__ import annotations

import numpy as np

from ..nn import boxes
from .image import resize
from .masks import expand_mask


def generate_random_rois(image_shape, count, gt_class_ids, gt_boxes, rng=None) -> np.ndarray:
    """`[count, (y1, x1, y2, x2)]` int32 pixels: nine in ten around the objects, the rest anywhere.

    image_shape: `(height, width, ...)`. gt_class_ids: unused, kept for its place. gt_boxes: `[N, 4]` pixels.
    """
    rng = rng or np.random
    height, width = image_shape[:2]
    rois = np.zeros((count, 4), dtype=np.int32)
    per_box = int(0.9 * count / len(gt_boxes)) if len(gt_boxes) else 0
    for i, (y1, x1, y2, x2) in enumerate(gt_boxes):
        h, w = y2 - y1, x2 - x1
        rows, columns = (max(y1 - h, 0), min(y2 + h, height)), (max(x1 - w, 0), min(x2 + w, width))
        rois[per_box * i : per_box * (i + 1)] = _random_boxes(rows, columns, per_box, rng)
    done = per_box * len(gt_boxes)
    rois[done:] = _random_boxes((0, height), (0, width), count - done, rng)
    return rois


def _random_boxes(rows, columns, count, rng) -> np.ndarray:
    """`[count, 4]` boxes of at least one pixel inside the rows and columns."""
    draw = rng.randint if hasattr(rng, "randint") else rng.integers
    while True:
        y = draw(*rows, (count * 2, 2))
        x = draw(*columns, (count * 2, 2))
        y = np.sort(y[y[:, 0] != y[:, 1]][:count], axis=1)
        x = np.sort(x[x[:, 0] != x[:, 1]][:count], axis=1)
        if len(y) == count and len(x) == count:
            return np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], axis=1)


def build_detection_targets(rpn_rois, gt_class_ids, gt_boxes, gt_masks, config, rng=None):
    """Targets of the heads for given RoIs, in numpy: for looking at them, or training without the RPN.

    rpn_rois: `[N, (y1, x1, y2, x2)]` pixels. gt_class_ids: `[M]`. gt_boxes: `[M, 4]` pixels.
    gt_masks: `[H, W, M]`, or mini-masks.

    Returns, for TRAIN_ROIS_PER_IMAGE RoIs:
        rois `[T, 4]`; class ids `[T]`; deltas `[T, NUM_CLASSES, 4]`; masks `[T, *MASK_SHAPE, NUM_CLASSES]`.

    Raises: ValueError where there are no RoIs or no objects to match.
    """
    rng = rng or np.random
    real = np.flatnonzero(gt_class_ids > 0)
    if len(rpn_rois) == 0 or len(real) == 0:
        raise ValueError(
            f"Detection targets need RoIs and objects. Received: {len(rpn_rois)} RoIs, {len(real)} objects. "
            "Try skipping images without objects when detection_targets=True."
        )
    gt_class_ids, gt_boxes, gt_masks = gt_class_ids[real], gt_boxes[real], gt_masks[:, :, real]
    overlaps = boxes.iou(rpn_rois, gt_boxes)
    best_gt = overlaps.argmax(axis=1)
    best_iou = overlaps.max(axis=1)
    class_ids = gt_class_ids[best_gt]

    def sample(ids, count):
        return rng.choice(ids, count, replace=False) if len(ids) > count else ids

    total = config.TRAIN_ROIS_PER_IMAGE
    positive = sample(
        np.flatnonzero(best_iou > config.ROI_POSITIVE_IOU), int(total * config.ROI_POSITIVE_RATIO)
    )
    negative = sample(np.flatnonzero(best_iou < config.ROI_POSITIVE_IOU), total - len(positive))
    keep = np.concatenate([positive, negative])
    if len(keep) < total:  # too few: some come again
        again = negative if len(negative) else keep
        keep = np.concatenate([keep, rng.choice(again, total - len(keep), replace=True)])
    class_ids[negative] = 0

    rois, class_ids, best_gt = rpn_rois[keep], class_ids[keep], best_gt[keep]
    bboxes = np.zeros((total, config.NUM_CLASSES, 4), dtype=np.float32)
    masks = np.zeros((total, *config.MASK_SHAPE, config.NUM_CLASSES), dtype=np.float32)
    for i in np.flatnonzero(class_ids > 0):
        gt = best_gt[i]
        roi, gt_box = rois[i].astype(np.float32), gt_boxes[gt].astype(np.float32)
        bboxes[i, class_ids[i]] = boxes.encode(roi, gt_box)
        mask = gt_masks[:, :, gt]
        if config.USE_MINI_MASK:
            mask = expand_mask(
                gt_boxes[gt][None], mask[:, :, None], config.IMAGE_SHAPE, exact=True
            )[:, :, 0]
        y1, x1, y2, x2 = rois[i].astype(int)
        masks[i, :, :, class_ids[i]] = resize(mask[y1:y2, x1:x2], config.MASK_SHAPE)
    return rois, class_ids, bboxes / config.BBOX_STD_DEV.astype(np.float32), masks

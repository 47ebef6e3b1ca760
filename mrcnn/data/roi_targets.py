"""Random RoIs, and the targets of the heads for given RoIs, in NumPy.

Boxes are `(y1, x1, y2, x2)` in pixels. T = TRAIN_ROIS_PER_IMAGE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..nn import boxes
from .image import resize
from .masks import expand_mask


class DetectionTargets(NamedTuple):
    """What the heads should predict for the sampled RoIs of one image.

    rois: `[T, 4]`. class_ids: `[T]`, 0 for background. deltas: `[T, NUM_CLASSES, 4]` float32.
    masks: `[T, *MASK_SHAPE, NUM_CLASSES]` float32.
    """

    rois: np.ndarray
    class_ids: np.ndarray
    deltas: np.ndarray
    masks: np.ndarray


def generate_random_rois(
    image_shape: Sequence[int],
    count: int,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    rng: Any = None,
) -> np.ndarray:
    """Draw random RoIs: nine of ten near the objects, the others anywhere.

    Args:
        image_shape: `(height, width, ...)`.
        gt_class_ids: unused, as in matterport's code.
        gt_boxes: `[N, 4]`.
        rng: a NumPy Generator; None uses NumPy's global random state.

    Returns: `[count, 4]` int32.
    """
    rng = rng or np.random
    height, width = image_shape[:2]
    rois = np.zeros((count, 4), dtype=np.int32)
    per_box = int(0.9 * count / len(gt_boxes)) if len(gt_boxes) else 0
    for i, (y1, x1, y2, x2) in enumerate(boxes.outward(gt_boxes)):
        h, w = y2 - y1, x2 - x1
        rows = (max(y1 - h, 0), min(y2 + h, height))
        columns = (max(x1 - w, 0), min(x2 + w, width))
        rois[per_box * i : per_box * (i + 1)] = _random_boxes(rows, columns, per_box, rng)
    done = per_box * len(gt_boxes)
    rois[done:] = _random_boxes((0, height), (0, width), count - done, rng)
    return rois


def _random_boxes(
    rows: tuple[int, int], columns: tuple[int, int], count: int, rng: Any
) -> np.ndarray:
    """`[count, 4]` boxes of at least one pixel inside the rows and columns."""
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
    config: Config,
    rng: Any = None,
) -> DetectionTargets:
    """Sample RoIs and compute the targets of the heads, to inspect them or train without the RPN.

    Args:
        rpn_rois: `[N, 4]`.
        gt_class_ids: `[M]`; crowds (negative ids) are ignored.
        gt_boxes: `[M, 4]`.
        gt_masks: `[H, W, M]`, or mini-masks.
        rng: a NumPy Generator; None uses NumPy's global random state.

    Raises: ValueError if there are no RoIs or no objects to match.
    """
    rng = rng or np.random
    real = np.flatnonzero(gt_class_ids > 0)
    if len(rpn_rois) == 0 or len(real) == 0:
        raise ValueError(
            f"Detection targets need RoIs and objects. Received: {len(rpn_rois)} RoIs, {len(real)} "
            "objects. Try skipping images without objects if detection_targets=True."
        )
    gt_class_ids, gt_boxes, gt_masks = gt_class_ids[real], gt_boxes[real], gt_masks[:, :, real]
    overlaps = boxes.iou(rpn_rois, gt_boxes)
    best_gt = overlaps.argmax(axis=1)
    class_ids = gt_class_ids[best_gt]
    keep, negative = _sample_rois(overlaps.max(axis=1), config, rng)
    class_ids[negative] = 0

    rois, class_ids, best_gt = rpn_rois[keep], class_ids[keep], best_gt[keep]
    deltas = np.zeros((len(keep), config.NUM_CLASSES, 4), dtype=np.float32)
    masks = np.zeros((len(keep), *config.MASK_SHAPE, config.NUM_CLASSES), dtype=np.float32)
    for i in np.flatnonzero(class_ids > 0):
        gt_box, gt_mask = gt_boxes[best_gt[i]], gt_masks[:, :, best_gt[i]]
        roi = rois[i].astype(np.float32)
        deltas[i, class_ids[i]] = boxes.encode(roi, gt_box.astype(np.float32))
        masks[i, :, :, class_ids[i]] = _mask_in_roi(rois[i], gt_box, gt_mask, config)
    deltas = deltas / config.BBOX_STD_DEV.astype(np.float32)
    return DetectionTargets(rois, class_ids, deltas, masks)


def _sample_rois(best_iou: np.ndarray, config: Config, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sample T RoIs, at most ROI_POSITIVE_RATIO of them positive.

    best_iou: `[N]` IoU of each RoI with its best object.

    Returns: `[T]` positions of all samples, and `[K]` positions of the negative ones.
    """

    def sample(ids: np.ndarray, count: int) -> np.ndarray:
        return rng.choice(ids, count, replace=False) if len(ids) > count else ids

    total = config.TRAIN_ROIS_PER_IMAGE
    positive = np.flatnonzero(best_iou > config.ROI_POSITIVE_IOU)
    positive = sample(positive, int(total * config.ROI_POSITIVE_RATIO))
    negative = np.flatnonzero(best_iou < config.ROI_POSITIVE_IOU)
    negative = sample(negative, total - len(positive))
    keep = np.concatenate([positive, negative])
    if len(keep) < total:  # repeat some
        pool = negative if len(negative) else keep
        keep = np.concatenate([keep, rng.choice(pool, total - len(keep), replace=True)])
    return keep, negative


def _mask_in_roi(
    roi: np.ndarray, gt_box: np.ndarray, gt_mask: np.ndarray, config: Config
) -> np.ndarray:
    """The part of a mask inside a RoI, resized to MASK_SHAPE."""
    if config.USE_MINI_MASK:
        full = expand_mask(gt_box[None], gt_mask[:, :, None], config.IMAGE_SHAPE, exact=True)
        gt_mask = full[:, :, 0]
    y1, x1, y2, x2 = roi.astype(int)
    return resize(gt_mask[y1:y2, x1:x2], config.MASK_SHAPE)

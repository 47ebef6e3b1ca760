"""Matches of one image's detections with its ground truth, AP and recall by matterport's formulas."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import numpy as np

from ..data.masks import masks_iou
from ..nn import boxes

log = logging.getLogger("mrcnn")


def trim_zeros(x: np.ndarray) -> np.ndarray:
    """The rows of `x` that are not all zero: arrays of boxes are padded with zero rows.

    x: [N, columns].

    Returns: [M, columns], M <= N, in the order of `x`.
    """
    x = np.asarray(x)
    return x[np.any(x != 0, axis=1)]


def compute_matches(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which prediction found which object of one image; predictions choose in the order of their scores.

    A prediction looks at the objects by falling mask IoU and takes the first that is free and of its own
    class.

    gt_boxes: [N, (y1, x1, y2, x2)] pixels, zero rows are padding.
    gt_class_ids: [N]. gt_masks: [H, W, N].
    pred_boxes: [M, (y1, x1, y2, x2)] pixels, zero rows are padding.
    pred_class_ids: [M]. pred_scores: [M]. pred_masks: [H, W, M].
    iou_threshold: mask IoU from which a pair may match.
    score_threshold: despite its name, kept from the original, an *IoU* below which pairs are not looked at.

    Returns: gt_match [N] index of the prediction that found it, or -1; pred_match [M] index of the object it
        found, or -1; overlaps [M, N] mask IoU. Predictions are sorted by falling score in all three.
    """
    gt_real, pred_real = (
        np.any(np.asarray(b).reshape(-1, 4) != 0, axis=1) for b in (gt_boxes, pred_boxes)
    )
    gt_class_ids = np.asarray(gt_class_ids)[: len(gt_real)][gt_real]
    order = np.flatnonzero(pred_real)
    order = order[np.argsort(np.asarray(pred_scores)[order])[::-1]]
    pred_class_ids = np.asarray(pred_class_ids)[order]

    overlaps = masks_iou(
        select_masks(pred_masks, order), select_masks(gt_masks, np.flatnonzero(gt_real))
    )
    gt_match = -np.ones(len(gt_class_ids))
    pred_match = -np.ones(len(order))
    lowest = max(iou_threshold, score_threshold)
    for i, row in enumerate(overlaps):
        for j in np.argsort(row)[::-1]:
            if row[j] < lowest:
                break
            if gt_match[j] < 0 and pred_class_ids[i] == gt_class_ids[j]:
                gt_match[j], pred_match[i] = i, j
                break
    return gt_match, pred_match, overlaps


def select_masks(masks: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """masks[..., indices], and [H, W, 0] when there are none: users pass masks of any empty shape then."""
    masks = np.asarray(masks)
    if len(indices) == 0:
        return np.zeros((*masks.shape[:2], 0) if masks.ndim == 3 else (0, 0, 0), bool)
    return masks[..., indices]


def compute_ap(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The average precision of one image at one IoU: the area under its precision-recall curve (VOC 2010).

    The mean of this over images is what matterport's notebooks print as mAP. It is not COCO's AP, which
    pools the detections of all images: use `evaluate_dataset` for that.

    gt_boxes ... iou_threshold: as in `compute_matches`.

    Returns: AP in 0..1, nan when the image has no objects; precisions [M + 2], made non-increasing, and
        recalls [M + 2], both with the curve's two ends; overlaps [M, N], predictions sorted by falling score.
    """
    gt_match, pred_match, overlaps = compute_matches(
        gt_boxes,
        gt_class_ids,
        gt_masks,
        pred_boxes,
        pred_class_ids,
        pred_scores,
        pred_masks,
        iou_threshold,
    )
    found = np.cumsum(pred_match > -1)
    precisions = found / (np.arange(len(found)) + 1)
    recalls = found / max(len(gt_match), 1)
    precisions = np.concatenate([[0.0], precisions, [0.0]])
    recalls = np.concatenate([[0.0], recalls, [1.0]])

    # Precision at a recall is the best one still to be had at that recall or beyond.
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    ap = float(np.sum(np.diff(recalls) * precisions[1:])) if len(gt_match) else math.nan
    return ap, precisions, recalls, overlaps


def compute_ap_range(
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    iou_thresholds: Iterable[float] | None = None,
    verbose: int = 1,
) -> float:
    """The mean of one image's `compute_ap` over IoU thresholds.

    gt_box ... pred_mask: as in `compute_matches`.
    iou_thresholds: default COCO's 0.50, 0.55, ..., 0.95.
    verbose: 1 logs each threshold's AP.

    Returns: mean AP in 0..1, nan when the image has no objects.
    """
    thresholds = (
        np.arange(0.5, 1.0, 0.05) if iou_thresholds is None else np.asarray(list(iou_thresholds))
    )
    truth, prediction = (
        (gt_box, gt_class_id, gt_mask),
        (pred_box, pred_class_id, pred_score, pred_mask),
    )
    aps = []
    for threshold in thresholds:
        aps.append(compute_ap(*truth, *prediction, iou_threshold=threshold)[0])
        if verbose:
            log.info("AP @%.2f:\t %.3f", threshold, aps[-1])
    mean = float(np.mean(aps))
    if verbose:
        log.info("AP @%.2f-%.2f:\t %.3f", thresholds[0], thresholds[-1], mean)
    return mean


def compute_recall(
    pred_boxes: np.ndarray, gt_boxes: np.ndarray, iou: float
) -> tuple[float, np.ndarray]:
    """The share of objects that are the best match of some box with at least this IoU: for judging proposals.

    pred_boxes: [M, (y1, x1, y2, x2)] pixels. gt_boxes: [N, (y1, x1, y2, x2)] pixels.
    iou: box IoU from which a box counts.

    Returns: recall in 0..1 (nan without objects), and the indices of the boxes that count.
    """
    pred_boxes = np.asarray(pred_boxes, float).reshape(-1, 4)
    gt_boxes = np.asarray(gt_boxes, float).reshape(-1, 4)
    if len(gt_boxes) == 0:
        return math.nan, np.zeros(0, int)
    overlaps = boxes.iou(pred_boxes, gt_boxes)  # [M, N]
    positives = np.flatnonzero(overlaps.max(axis=1) >= iou)
    found = np.unique(overlaps.argmax(axis=1)[positives])
    return len(found) / len(gt_boxes), positives

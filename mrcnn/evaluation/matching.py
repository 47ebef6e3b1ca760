"""Matches of one image's predictions with its ground truth; AP and recall by matterport's formulas.

AP here has every precision step of one image and one IoU threshold. It is not COCO's AP, which
ranks the detections of all images together: `evaluate.evaluate_dataset` computes that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..data.masks import masks_iou
from ..data.result_rows import select_masks
from ..nn import boxes

log = logging.getLogger("mrcnn")


class ImageAP(NamedTuple):
    """Average precision of one image and the curve behind it; M predictions, N objects.

    AP: in 0..1, nan if the image has no objects.
    precisions: [M + 2], made non-increasing. recalls: [M + 2]. Both include the curve's two ends.
    overlaps: [M, N] mask IoU, predictions sorted by falling score.
    """

    AP: float
    precisions: np.ndarray
    recalls: np.ndarray
    overlaps: np.ndarray


def trim_zeros(x: ArrayLike) -> np.ndarray:
    """Remove the rows that are all zero: padding in arrays of boxes.

    x: [N, columns].

    Returns: [M, columns], M <= N, in the order of `x`.
    """
    x = np.asarray(x)
    return x[np.any(x != 0, axis=1)]


def compute_matches(
    gt_boxes: ArrayLike,
    gt_class_ids: ArrayLike,
    gt_masks: ArrayLike,
    pred_boxes: ArrayLike,
    pred_class_ids: ArrayLike,
    pred_scores: ArrayLike,
    pred_masks: ArrayLike,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match predictions with the objects of one image, the highest score first.

    A prediction takes the object of highest mask IoU among those that are free and of its class.

    gt_boxes: [N, (y1, x1, y2, x2)] pixels, zero rows are padding.
    gt_class_ids: [N]. gt_masks: [H, W, N].
    pred_boxes: [M, (y1, x1, y2, x2)] pixels, zero rows are padding.
    pred_class_ids: [M]. pred_scores: [M]. pred_masks: [H, W, M].
    iou_threshold: lowest mask IoU of a match.
    score_threshold: a second lower bound of the *IoU*, despite its name, which is matterport's.

    Returns: gt_match [N] index of the matched prediction, or -1; pred_match [M] index of the
        matched object, or -1; overlaps [M, N] mask IoU. Predictions are sorted by falling score
        in all three.
    """
    gt_real = _nonzero_rows(gt_boxes)
    gt_class_ids = np.asarray(gt_class_ids)[gt_real]
    pred_real = _nonzero_rows(pred_boxes)
    order = pred_real[np.argsort(np.asarray(pred_scores)[pred_real])[::-1]]
    pred_class_ids = np.asarray(pred_class_ids)[order]

    overlaps = masks_iou(select_masks(pred_masks, order), select_masks(gt_masks, gt_real))
    gt_match = -np.ones(len(gt_class_ids))
    pred_match = -np.ones(len(order))
    lowest = max(iou_threshold, score_threshold)
    for i, ious in enumerate(overlaps):
        for j in np.argsort(ious)[::-1]:
            if ious[j] < lowest:
                break
            if gt_match[j] < 0 and pred_class_ids[i] == gt_class_ids[j]:
                gt_match[j] = i
                pred_match[i] = j
                break
    return gt_match, pred_match, overlaps


def _nonzero_rows(boxes: ArrayLike) -> np.ndarray:
    """Return the indices of the boxes `[N, 4]` that are not padding."""
    return np.flatnonzero(np.any(np.asarray(boxes).reshape(-1, 4) != 0, axis=1))


def compute_ap(
    gt_boxes: ArrayLike,
    gt_class_ids: ArrayLike,
    gt_masks: ArrayLike,
    pred_boxes: ArrayLike,
    pred_class_ids: ArrayLike,
    pred_scores: ArrayLike,
    pred_masks: ArrayLike,
    iou_threshold: float = 0.5,
) -> ImageAP:
    """Return the average precision of one image at one IoU: the area under its curve (VOC 2010).

    matterport's notebooks print its mean over images as mAP.

    gt_boxes ... iou_threshold: as for `compute_matches`.
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
    matched = np.cumsum(pred_match > -1)
    precisions = matched / (np.arange(len(matched)) + 1)
    recalls = matched / max(len(gt_match), 1)
    precisions = np.concatenate([[0.0], precisions, [0.0]])
    recalls = np.concatenate([[0.0], recalls, [1.0]])

    # The precision at a recall is the highest one at that recall or a higher one.
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    AP = float(np.sum(np.diff(recalls) * precisions[1:])) if len(gt_match) else math.nan
    return ImageAP(AP, precisions, recalls, overlaps)


def compute_ap_range(
    gt_box: ArrayLike,
    gt_class_id: ArrayLike,
    gt_mask: ArrayLike,
    pred_box: ArrayLike,
    pred_class_id: ArrayLike,
    pred_score: ArrayLike,
    pred_mask: ArrayLike,
    iou_thresholds: Iterable[float] | None = None,
    verbose: int = 1,
) -> float:
    """Return the mean of one image's `compute_ap` over IoU thresholds.

    gt_box ... pred_mask: as for `compute_matches`.
    iou_thresholds: default COCO's 0.50, 0.55, ..., 0.95.
    verbose: 1 logs the AP of each threshold.

    Returns: mean AP in 0..1, nan if the image has no objects.
    """
    if iou_thresholds is None:
        thresholds = np.arange(0.5, 1.0, 0.05)
    else:
        thresholds = np.asarray(list(iou_thresholds))
    aps = []
    for threshold in thresholds:
        image_ap = compute_ap(
            gt_box,
            gt_class_id,
            gt_mask,
            pred_box,
            pred_class_id,
            pred_score,
            pred_mask,
            iou_threshold=threshold,
        )
        aps.append(image_ap.AP)
        if verbose:
            log.info("AP @%.2f:\t %.3f", threshold, image_ap.AP)
    mean = float(np.mean(aps))
    if verbose:
        log.info("AP @%.2f-%.2f:\t %.3f", thresholds[0], thresholds[-1], mean)
    return mean


def compute_recall(
    pred_boxes: ArrayLike, gt_boxes: ArrayLike, iou: float
) -> tuple[float, np.ndarray]:
    """Return the share of objects that are the best match of a box: a metric of proposals.

    pred_boxes: [M, (y1, x1, y2, x2)] pixels. gt_boxes: [N, (y1, x1, y2, x2)] pixels.
    iou: lowest box IoU of a match.

    Returns: recall in 0..1 (nan without objects), and the indices of the boxes that match.
    """
    pred_boxes = np.asarray(pred_boxes, float).reshape(-1, 4)
    gt_boxes = np.asarray(gt_boxes, float).reshape(-1, 4)
    if len(gt_boxes) == 0:
        return math.nan, np.zeros(0, int)
    overlaps = np.asarray(boxes.iou(pred_boxes, gt_boxes))  # [M, N]
    positives = np.flatnonzero(overlaps.max(axis=1) >= iou)
    matched = np.unique(overlaps.argmax(axis=1)[positives])
    return len(matched) / len(gt_boxes), positives

"""Who learns what: match anchors and proposals to the truth, sample them, encode what they should say.

Two routes lead here. The data generator matches anchors in numpy (`build_rpn_targets`); the network matches its
own proposals in tensors of fixed shape (`detection_targets`). Both exclude what a crowd covers: a crowd is an
instance with a negative class id, whose box stands for many objects nobody outlined.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from . import boxes
from .boxes import CROWD_IOU
from .roi_align import crop_and_resize, image_of_rois


def detection_targets(proposals, gt_class_ids, gt_boxes, gt_masks, priorities, config):
    """RoIs sampled from the proposals and what the heads should say of them (Mask R-CNN, 3.1).

    Fixed shapes throughout: T = TRAIN_ROIS_PER_IMAGE, positives first, then negatives, then zeros.

    proposals: `[B, N, (y1, x1, y2, x2)]` normalised, zero-padded. gt_class_ids: `[B, M]`, zero-padded.
    gt_boxes: `[B, M, (y1, x1, y2, x2)]` normalised. gt_masks: `[B, H, W, M]`, or mini-masks; None without masks.
    priorities: `[B, N]` in (0, 1]: of the candidates those with the highest are taken.

    Returns:
        rois `[B, T, 4]` normalised, target_class_ids `[B, T]` int32 (0 = background),
        target_deltas `[B, T, 4]`, target_masks `[B, T, *MASK_SHAPE]` of zeros and ones, or None.
    """
    total = config.TRAIN_ROIS_PER_IMAGE
    missing = max(
        0, total - proposals.shape[1]
    )  # a network may propose less than it could train on
    proposals = ops.pad(proposals, [[0, 0], [0, missing], [0, 0]])
    priorities = ops.pad(priorities, [[0, 0], [0, missing]])
    gt_class_ids = ops.cast(gt_class_ids, "int32")
    is_proposal = ops.any(proposals != 0, axis=-1)  # [B, N]; the rest is padding
    overlaps = boxes.iou(proposals, gt_boxes)  # [B, N, M]
    gt_overlaps = ops.where(gt_class_ids[:, None, :] > 0, overlaps, -1.0)
    crowd_overlaps = ops.where(gt_class_ids[:, None, :] < 0, overlaps, -1.0)
    best_gt = ops.argmax(gt_overlaps, axis=-1)  # [B, N]
    best_iou = ops.max(gt_overlaps, axis=-1)
    is_positive = (best_iou >= config.ROI_POSITIVE_IOU) & is_proposal
    is_negative = (
        (best_iou < config.ROI_POSITIVE_IOU)
        & is_proposal
        & (ops.max(crowd_overlaps, axis=-1) < CROWD_IOU)
    )

    # The best candidates of each kind; negatives as many as keep the ratio.
    slots = positive_slots(config)
    positive_rank, positive = _take(is_positive, priorities, slots)
    negative_rank, negative = _take(is_negative, priorities, total)
    positives = ops.sum(ops.cast(positive_rank, "int32"), axis=1, keepdims=True)  # [B, 1]
    wanted = (
        ops.cast(ops.cast(positives, "float32") * (1.0 / config.ROI_POSITIVE_RATIO), "int32")
        - positives
    )
    # Without any object all RoIs are background, so that images without objects teach too.
    wanted = ops.where(positives > 0, wanted, total)
    negative_rank = negative_rank & (ops.arange(ops.shape(negative)[1])[None] < wanted)

    # Close the gap between the last positive and the first negative.
    chosen = ops.concatenate([positive, negative], axis=1)
    is_chosen = ops.concatenate([positive_rank, negative_rank], axis=1)
    is_chosen, place = _take(is_chosen, _descending(is_chosen), total)
    chosen = ops.take_along_axis(chosen, place, axis=1)  # [B, T]
    is_positive = is_chosen & (place < ops.shape(positive)[1])

    rois = _gather(proposals, chosen) * ops.cast(is_chosen, "float32")[..., None]
    gt = ops.take_along_axis(best_gt, chosen, axis=1)  # [B, T]
    class_ids = ops.where(is_positive, ops.take_along_axis(gt_class_ids, gt, axis=1), 0)
    roi_gt_boxes = _gather(gt_boxes, gt)
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    safe_rois = ops.where(
        is_positive[..., None], rois, unit
    )  # no logarithm of zero where nothing is learned
    safe_gt = ops.where(is_positive[..., None], roi_gt_boxes, unit)
    deltas = boxes.encode(safe_rois, safe_gt) / ops.convert_to_tensor(
        np.float32(config.BBOX_STD_DEV)
    )

    if gt_masks is None:
        return rois, class_ids, deltas, None
    masks = _mask_targets(
        safe_rois[:, :slots],
        gt[:, :slots],
        safe_gt[:, :slots],
        gt_masks,
        config.USE_MINI_MASK,
        config.MASK_SHAPE,
    )
    masks = masks * ops.cast(is_positive[:, :slots], "float32")[..., None, None]
    return rois, class_ids, deltas, ops.pad(masks, [[0, 0], [0, total - slots], [0, 0], [0, 0]])


def positive_slots(config) -> int:
    """The most positives an image can have: they are the first so many of its RoIs."""
    return int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO)


def _take(candidates, priorities, count):
    """`[B, count]` bool which are candidates, and `[B, count]` int32 indices, highest priority first."""
    count = min(count, candidates.shape[1])
    priority, index = ops.top_k(ops.where(candidates, priorities, -1.0), count)
    return priority >= 0, index


def _descending(like):
    """`[B, N]` float32 priorities that keep the order, the first one highest."""
    count = like.shape[1]
    return (
        ops.zeros_like(like, dtype="float32")
        + 1.0
        - ops.arange(count, dtype="float32")[None] / count
    )


def _gather(rows, index):
    """`[B, K, D]` the rows `[B, N, D]` at `[B, K]`."""
    return ops.take_along_axis(rows, index[..., None], axis=1)


def _mask_targets(rois, gt, gt_boxes, gt_masks, mini, mask_shape):
    """`[B, P, *mask_shape]` zeros and ones: each RoI's window of its object's mask (Mask R-CNN, 3.1).

    rois, gt_boxes: `[B, P, 4]` normalised. gt: `[B, P]` which of the `[B, H, W, M]` masks.
    """
    if mini:  # a mini-mask covers its box, not the image: boxes relative to it
        size = gt_boxes[..., 2:] - gt_boxes[..., :2]
        corner = gt_boxes[..., :2]
        rois = ops.concatenate(
            [(rois[..., :2] - corner) / size, (rois[..., 2:] - corner) / size], axis=-1
        )
    # The RoI's window of all M masks, then its own: a copy of [H, W, M] with M first would cost far more.
    slots, masks = rois.shape[1], ops.cast(gt_masks, "uint8")
    crops = crop_and_resize(
        masks, ops.reshape(rois, [-1, 4]), image_of_rois(rois), mask_shape
    )  # [B * P, h, w, M]
    own = ops.one_hot(ops.reshape(gt, [-1]), ops.shape(gt_masks)[3], dtype="float32")  # [B * P, M]
    crops = ops.sum(crops * own[:, None, None, :], axis=-1)
    return ops.round(ops.reshape(crops, [-1, slots, *mask_shape]))

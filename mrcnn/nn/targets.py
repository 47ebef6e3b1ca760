"""RoIs that train the heads: proposals are matched to objects and sampled, in fixed shapes.

A crowd is an instance with a negative class id, whose box contains many unlabelled objects:
proposals in it are neither positive nor negative.

Shape shorthand: B images, N proposals, M ground-truth objects, T RoIs that train (positives first,
then negatives, then zeros), P slots of positives. Boxes are `(y1, x1, y2, x2)`, normalized.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from . import boxes
from .boxes import CROWD_IOU
from .crop_and_resize import crop_and_resize
from .keras_ops import ops
from .roi_align import image_of_rois
from .roi_taps import adaptive_taps, dense_weights, sample_grids


class DetectionTargets(NamedTuple):
    """RoIs, and the outputs that the heads learn for them."""

    rois: Any  # [B, T, 4]
    class_ids: Any  # [B, T] int32, 0 = background
    deltas: Any  # [B, T, 4]
    masks: Any  # [B, T, *MASK_SHAPE] from 0 to 1, or None
    keypoints: Any = None  # [B, T, K, (y, x, visibility)] of the objects, in pixels, or None


class Matches(NamedTuple):
    """The object that fits each proposal best, and which proposals may be sampled."""

    best_gt: Any  # [B, N] int32
    is_positive: Any  # [B, N] bool
    is_negative: Any  # [B, N] bool


class Sample(NamedTuple):
    """Indices of the sampled proposals."""

    index: Any  # [B, T] int32
    is_roi: Any  # [B, T] bool; the rest is padding
    is_positive: Any  # [B, T] bool


def detection_targets(
    proposals: Any,
    gt_class_ids: Any,
    gt_boxes: Any,
    gt_masks: Any,
    priorities: Any,
    config: Any,
    gt_keypoints: Any = None,
) -> DetectionTargets:
    """Sample RoIs from the proposals and compute their targets (Mask R-CNN, 3.1).

    proposals: `[B, N, 4]`, zero-padded. gt_class_ids: `[B, M]`, zero-padded. gt_boxes: `[B, M, 4]`.
    gt_masks: `[B, H, W, M]`, or mini-masks `[B, h, w, M]`, or None without masks.
    priorities: `[B, N]` in (0, 1]; the candidates with the highest are sampled.
    gt_keypoints: `[B, M, K, (y, x, visibility)]` in pixels, or None without keypoints.

    Returns: rois `[B, T, 4]`, class_ids `[B, T]`, deltas `[B, T, 4]`, masks `[B, T, *MASK_SHAPE]`,
        keypoints `[B, T, K, 3]`, those of RoIs without an object 0.
    """
    missing = max(0, config.TRAIN_ROIS_PER_IMAGE - proposals.shape[1])
    proposals = ops.pad(proposals, [[0, 0], [0, missing], [0, 0]])
    priorities = ops.pad(priorities, [[0, 0], [0, missing]])
    gt_class_ids = ops.cast(gt_class_ids, "int32")
    matches = match(proposals, gt_class_ids, gt_boxes, config)
    sample = draw_sample(matches, priorities, config)

    rois = _gather(proposals, sample.index) * ops.cast(sample.is_roi, "float32")[..., None]
    gt = ops.take_along_axis(matches.best_gt, sample.index, axis=1)  # [B, T]
    class_ids = ops.take_along_axis(gt_class_ids, gt, axis=1)
    class_ids = ops.where(sample.is_positive, class_ids, 0)
    # RoIs without an object get the unit box: no logarithm of zero, no division by zero.
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    is_positive = sample.is_positive[..., None]
    safe_rois = ops.where(is_positive, rois, unit)
    safe_gt = ops.where(is_positive, _gather(gt_boxes, gt), unit)
    std_dev = ops.convert_to_tensor(np.float32(config.BBOX_STD_DEV))
    deltas = boxes.encode(safe_rois, safe_gt) / std_dev
    masks = None
    if gt_masks is not None:
        masks = _mask_targets(safe_rois, gt, safe_gt, gt_masks, sample.is_positive, config)
    keypoints = None
    if gt_keypoints is not None:
        own = tf.gather(gt_keypoints, gt, batch_dims=1)  # [B, T, K, 3]
        keypoints = own * ops.cast(sample.is_positive, "float32")[..., None, None]
    return DetectionTargets(rois, class_ids, deltas, masks, keypoints)


def match(proposals: Any, gt_class_ids: Any, gt_boxes: Any, config: Any) -> Matches:
    """Match each proposal to the object of the highest IoU.

    proposals: `[B, N, 4]`, zero-padded. gt_class_ids: `[B, M]` int32. gt_boxes: `[B, M, 4]`.
    """
    is_proposal = ops.any(proposals != 0, axis=-1)  # [B, N]
    overlaps = boxes.iou(proposals, gt_boxes)  # [B, N, M]
    gt_overlaps = ops.where(gt_class_ids[:, None, :] > 0, overlaps, -1.0)
    crowd_overlaps = ops.where(gt_class_ids[:, None, :] < 0, overlaps, -1.0)
    best_iou = ops.max(gt_overlaps, axis=-1)
    is_outside_crowds = ops.max(crowd_overlaps, axis=-1) < CROWD_IOU
    is_overlapping = best_iou >= config.ROI_POSITIVE_IOU
    is_negative = (best_iou < config.ROI_POSITIVE_IOU) & is_proposal & is_outside_crowds
    return Matches(ops.argmax(gt_overlaps, axis=-1), is_overlapping & is_proposal, is_negative)


def draw_sample(matches: Matches, priorities: Any, config: Any) -> Sample:
    """Choose the candidates of the highest priority; negatives as `Config.ROI_SAMPLING` says.

    Without any positive all RoIs are negatives, so that images without objects train too.

    matches: `[B, N]` each. priorities: `[B, N]`.
    """
    total = config.TRAIN_ROIS_PER_IMAGE
    is_positive, positives = _take(matches.is_positive, priorities, positive_slots(config))
    is_negative, negatives = _take(matches.is_negative, priorities, total)
    count = ops.sum(ops.cast(is_positive, "int32"), axis=1, keepdims=True)  # [B, 1]
    wanted = total - count
    if config.ROI_SAMPLING == "ratio":
        all_rois = ops.cast(count, "float32") * (1.0 / config.ROI_POSITIVE_RATIO)
        wanted = ops.where(count > 0, ops.cast(all_rois, "int32") - count, total)
    is_negative = is_negative & (ops.arange(ops.shape(negatives)[1])[None] < wanted)

    # Close the gap between the last positive and the first negative.
    index = ops.concatenate([positives, negatives], axis=1)
    is_roi = ops.concatenate([is_positive, is_negative], axis=1)
    is_roi, place = _take(is_roi, _descending(is_roi), total)
    index = ops.take_along_axis(index, place, axis=1)  # [B, T]
    return Sample(index, is_roi, is_roi & (place < ops.shape(positives)[1]))


def draw_priorities(batch: Any, count: Any, seed_generator: Any) -> Any:
    """`[batch, count]` uniform random numbers.

    Each of several devices draws the numbers of all devices and takes its own rows, so that the
    sample does not depend on the number of devices.
    """
    context = tf.distribute.get_replica_context()
    devices = context.num_replicas_in_sync if context else 1
    numbers = keras.random.uniform((devices * batch, count), seed=seed_generator)
    if devices == 1:
        return numbers
    return numbers[context.replica_id_in_sync_group * batch :][:batch]


def detection_targets_graph(
    proposals: Any, gt_class_ids: Any, gt_boxes: Any, gt_masks: Any, config: Any
) -> list:
    """`detection_targets` of one image: arguments and results without the batch axis.

    Returns: rois `[T, 4]`, class_ids `[T]`, deltas `[T, 4]`, masks `[T, *MASK_SHAPE]`.
    """
    proposals, gt_class_ids = ops.expand_dims(proposals, 0), ops.expand_dims(gt_class_ids, 0)
    gt_boxes, gt_masks = ops.expand_dims(gt_boxes, 0), ops.expand_dims(gt_masks, 0)
    priorities = keras.random.uniform(ops.shape(proposals)[:2])
    found = detection_targets(proposals, gt_class_ids, gt_boxes, gt_masks, priorities, config)
    return [found.rois[0], found.class_ids[0], found.deltas[0], found.masks[0]]


def positive_slots(config: Any) -> int:
    """Return the scalar P: at most P of an image's RoIs are positive, and they are its first."""
    return int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO)


def _take(candidates, priorities, count):
    """`[B, count]` bool which are candidates, and `[B, count]` int32 indices, best first."""
    count = min(count, candidates.shape[1])
    priority, index = ops.top_k(ops.where(candidates, priorities, -1.0), count)
    return priority >= 0, index


def _descending(like):
    """`[B, K]` float32 priorities that keep the order, the first one highest."""
    count = like.shape[1]
    falling = 1.0 - ops.arange(count, dtype="float32") / count
    return ops.zeros_like(like, dtype="float32") + falling[None]


def _gather(rows, index):
    """`[B, K, D]` the rows of `[B, N, D]` at `[B, K]`."""
    return ops.take_along_axis(rows, index[..., None], axis=1)


def _mask_targets(rois, gt, gt_boxes, gt_masks, is_positive, config):
    """`[B, T, *MASK_SHAPE]` from 0 to 1: each positive RoI's window of its object's mask.

    rois, gt_boxes: `[B, T, 4]`. gt: `[B, T]` the index of the object. gt_masks: `[B, H, W, M]`.
    """
    slots = positive_slots(config)
    rois, gt, gt_boxes = rois[:, :slots], gt[:, :slots], gt_boxes[:, :slots]
    if config.USE_MINI_MASK:  # a mini-mask covers its box, not the image
        rois = _relative(rois, gt_boxes)
    is_positive = ops.cast(is_positive[:, :slots], "float32")
    if config.MASK_TARGETS == "crop":
        windows = _cropped_masks(rois, gt, gt_masks, config)
    else:
        # A RoI without a side has one sample per bin; one of the whole image would have many.
        windows = _aligned_masks(rois * is_positive[..., None], gt, gt_masks, config)
    windows = ops.reshape(windows, [-1, slots, *config.MASK_SHAPE]) * is_positive[..., None, None]
    padding = config.TRAIN_ROIS_PER_IMAGE - slots
    return ops.pad(windows, [[0, 0], [0, padding], [0, 0], [0, 0]])


def _cropped_masks(rois, gt, gt_masks, config):
    """`[B * P, *MASK_SHAPE]` zeros and ones: matterport's crop of the masks, rounded.

    rois: `[B, P, 4]` normalized. gt: `[B, P]`. gt_masks: `[B, H, W, M]`.
    """
    # Crops of all M masks, then selected: a copy of [H, W, M] with M first would cost far more.
    masks = ops.cast(gt_masks, "uint8")
    flat_rois = ops.reshape(rois, [-1, 4])  # [B * P, 4]
    crops = crop_and_resize(masks, flat_rois, image_of_rois(rois), config.MASK_SHAPE)
    own = ops.one_hot(ops.reshape(gt, [-1]), ops.shape(gt_masks)[3], dtype="float32")  # [B * P, M]
    return ops.round(ops.sum(crops * own[:, None, None, :], axis=-1))


def _aligned_masks(rois, gt, gt_masks, config):
    """`[B * P, *MASK_SHAPE]` RoIAlign of the masks: from 0 to 1, or cut at 0.5 if "hard".

    With one channel two matrix products are several times faster than the RoIAlign of feature maps.
    The arguments are those of `_cropped_masks`.
    """
    _, height, width, count = tf.unstack(tf.shape(gt_masks))
    masks = ops.transpose(ops.cast(gt_masks, "uint8"), [0, 3, 1, 2])
    masks = ops.reshape(masks, [-1, height, width])  # [B * M, H, W]
    masks = tf.gather(masks, image_of_rois(rois) * count + ops.reshape(gt, [-1]))  # [B * P, H, W]
    cells = boxes.to_pixels(rois, (height, width), config.CONTINUOUS_BOXES)
    # torchvision's half pixel is one of the image, of which a cell of a mini-mask has many.
    is_aligned = config.MASK_TARGETS == "hard" or config.USE_MINI_MASK
    grids = sample_grids(ops.reshape(cells, [-1, 4]), is_aligned)
    rows, columns = config.MASK_SHAPE
    rows = dense_weights(adaptive_taps(grids.y, grids.height, rows, height), height)
    columns = dense_weights(adaptive_taps(grids.x, grids.width, columns, width), width)
    windows = tf.matmul(tf.matmul(rows, ops.cast(masks, "float32")), columns, transpose_b=True)
    return windows if config.MASK_TARGETS == "soft" else ops.cast(windows >= 0.5, "float32")


def _relative(rois, gt_boxes):
    """`[B, P, 4]` the RoIs in the coordinates of their objects' boxes."""
    corner, size = gt_boxes[..., :2], gt_boxes[..., 2:] - gt_boxes[..., :2]
    first = (rois[..., :2] - corner) / size
    last = (rois[..., 2:] - corner) / size
    return ops.concatenate([first, last], axis=-1)

"""Non-max suppression of tensors; for NumPy see `boxes.non_max_suppression`.

Also its variants: Soft-NMS, and box voting after it. `suppress` does what the settings say.

Shape shorthand: B images, N boxes, K boxes kept at most. Boxes are `(y1, x1, y2, x2)`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from ..config import Config
from . import boxes as box_math
from .portable import is_portable


class Kept(NamedTuple):
    """The boxes `[B, K, 4]` kept, best first, their class ids and scores `[B, K]`; zero-padded."""

    boxes: Any
    class_ids: Any
    scores: Any


def non_max_suppression(
    boxes: Any, scores: Any, max_output: int, iou_threshold: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Suppress boxes that overlap a better one.

    boxes: `[B, N, 4]`. scores: `[B, N]`. max_output: K.

    Returns: `[B, K]` int32 indices of the boxes kept, best first, zero-padded, and `[B]` int32 how
        many were kept.
    """

    def one_image(inputs):
        kept = tf.raw_ops.NonMaxSuppressionV4(
            boxes=inputs[0],
            scores=inputs[1],
            max_output_size=max_output,
            iou_threshold=iou_threshold,
            score_threshold=float("-inf"),
            pad_to_max_output_size=True,
        )
        return kept.selected_indices, kept.valid_outputs

    inputs = (tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32))
    if is_portable():
        return _ordered_non_max_suppression(*inputs, max_output, one_image)
    indices, counts = tf.map_fn(one_image, inputs, fn_output_signature=(tf.int32, tf.int32))
    return tf.ensure_shape(indices, [None, max_output]), counts


def _ordered_non_max_suppression(boxes, scores, max_output, one_image):
    """`non_max_suppression` of sorted boxes: of equal scores, other runtimes take any first.

    one_image: suppresses the boxes of an image, `(boxes, scores) -> (indices, count)`.
    """
    count: Any = scores.shape[1] or tf.shape(scores)[1]
    order = tf.math.top_k(scores, k=count).indices
    rank = tf.cast(tf.range(count), tf.float32)
    inputs = (_with_area(tf.gather(boxes, order, batch_dims=1), rank), tf.zeros_like(scores) - rank)
    if scores.shape[0] is None:
        kept, counts = tf.map_fn(one_image, inputs, fn_output_signature=(tf.int32, tf.int32))
    else:  # a loop is slow, and LiteRT does not know it
        parts = [one_image(pair) for pair in zip(*map(tf.unstack, inputs), strict=True)]
        kept, counts = (tf.stack(part) for part in zip(*parts, strict=True))
    is_kept = tf.range(max_output)[None] < counts[:, None]
    kept = tf.reshape(kept, [tf.shape(scores)[0], max_output])
    order = tf.concat([order, tf.zeros_like(kept[:, :1])], axis=1)  # not empty: padding reads it
    indices = tf.gather(order, kept, batch_dims=1)
    return indices * tf.cast(is_kept, tf.int32), counts


def _with_area(boxes, rank):
    """Boxes `[B, N, 4]`; one without area is replaced by one that overlaps no other.

    TensorFlow keeps boxes without area; LiteRT returns the first of them again and again.

    rank: `[N]` float32, 0 to N - 1.
    """
    far = 1000.0 + 2.0 * rank  # the shifts of classes are smaller
    far = tf.stack([far, far, far + 1.0, far + 1.0], axis=-1)
    has_area = (boxes[..., 2:3] > boxes[..., :1]) & (boxes[..., 3:4] > boxes[..., 1:2])
    return tf.where(has_area, boxes, far)


# --- As the settings say ---


def suppress(boxes: Any, scores: Any, config: Config) -> Kept:
    """Keep the best boxes of each class: NMS or Soft-NMS, then box voting if it is on.

    boxes: `[B, N, classes, 4]`, or `[B, N, 1, 4]` for all classes; clipped.
    scores: `[B, N, classes]`; those of 0 are ignored.
    config: its DETECTION_MAX_INSTANCES (K), DETECTION_NMS, DETECTION_NMS_THRESHOLD, SOFT_NMS_SIGMA,
        DETECTION_MIN_CONFIDENCE and BOX_VOTING_IOU.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
    count, threshold = config.DETECTION_MAX_INSTANCES, config.DETECTION_NMS_THRESHOLD
    if config.DETECTION_NMS == "hard":
        kept = class_non_max_suppression(boxes, scores, count, threshold)
    else:
        found = soft_non_max_suppression(boxes, scores, count, *_decay_and_limit(config))
        kept = _gather(boxes, found)
    if config.BOX_VOTING_IOU is None:
        return kept
    return vote(kept, boxes, scores, config.BOX_VOTING_IOU)


def suppress_one_class(boxes: Any, class_ids: Any, scores: Any, config: Config) -> Kept:
    """Keep the best boxes of each class, if every box has one class; see `suppress`.

    boxes: `[B, N, 4]`. class_ids, scores: `[B, N]`.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
    is_class = tf.one_hot(class_ids, config.NUM_CLASSES, dtype=scores.dtype)
    per_class = scores[..., None] * is_class  # [B, N, NUM_CLASSES]
    if not is_portable() or config.DETECTION_NMS != "hard":
        return suppress(boxes[:, :, None], per_class, config)
    count, threshold = config.DETECTION_MAX_INSTANCES, config.DETECTION_NMS_THRESHOLD
    kept = shifted_non_max_suppression(
        boxes, class_ids, scores, config.NUM_CLASSES, count, threshold
    )
    if config.BOX_VOTING_IOU is None:
        return kept
    return vote(kept, boxes[:, :, None], per_class, config.BOX_VOTING_IOU)


def agnostic_suppress(boxes: Any, class_ids: Any, scores: Any, config: Config) -> Kept:
    """Keep the best boxes of all classes together; see `suppress`.

    boxes: `[B, N, 4]`. class_ids, scores: `[B, N]`.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
    count, threshold = config.DETECTION_MAX_INSTANCES, config.DETECTION_NMS_THRESHOLD
    one_class = boxes[:, :, None], scores[..., None]
    if config.DETECTION_NMS == "hard":
        kept = agnostic_non_max_suppression(boxes, class_ids, scores, count, threshold)
    else:
        found = soft_non_max_suppression(*one_class, count, *_decay_and_limit(config))
        ids = tf.cast(tf.gather(class_ids, found.rows, batch_dims=1), scores.dtype)
        kept = _gather(one_class[0], found)
        kept = kept._replace(class_ids=ids * tf.cast(found.scores > 0, scores.dtype))
    if config.BOX_VOTING_IOU is None:
        return kept
    as_one_class = kept._replace(class_ids=tf.zeros_like(kept.class_ids))
    return kept._replace(boxes=vote(as_one_class, *one_class, config.BOX_VOTING_IOU).boxes)


# --- Hard ---


def class_non_max_suppression(
    boxes: Any, scores: Any, max_output: int, iou_threshold: float
) -> Kept:
    """Suppress boxes that overlap a better one of their class, then keep the best of all classes.

    boxes: `[B, N, classes, 4]`, or `[B, N, 1, 4]` for all classes; clipped.
    scores: `[B, N, classes]`; those of 0 are ignored. max_output: K.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
    if is_portable():
        return _flat_non_max_suppression(boxes, scores, max_output, iou_threshold)
    kept = tf.image.combined_non_max_suppression(
        boxes, scores, max_output, max_output, iou_threshold, 0.0, clip_boxes=False
    )
    return Kept(kept.nmsed_boxes, kept.nmsed_classes, kept.nmsed_scores)


def agnostic_non_max_suppression(
    boxes: Any, class_ids: Any, scores: Any, max_output: int, iou_threshold: float
) -> Kept:
    """Suppress boxes that overlap a better one of any class; see `class_non_max_suppression`.

    boxes: `[B, N, 4]`. class_ids, scores: `[B, N]`.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
    kept, counts = non_max_suppression(boxes, scores, max_output, iou_threshold)
    return _gather_kept(boxes, class_ids, scores, kept, counts)


def _gather_kept(boxes: Any, class_ids: Any, scores: Any, kept: Any, counts: Any) -> Kept:
    """The rows `kept` `[B, K]` of boxes, class ids and scores; counts: `[B]`, how many are real."""
    boxes = tf.gather(boxes, kept, batch_dims=1)
    class_ids = tf.gather(class_ids, kept, batch_dims=1)
    scores = tf.gather(scores, kept, batch_dims=1)
    is_kept = (tf.range(kept.shape[1])[None] < counts[:, None]) & (scores > 0)
    real = tf.cast(is_kept, scores.dtype)
    return Kept(boxes * real[..., None], tf.cast(class_ids, scores.dtype) * real, scores * real)


def shifted_non_max_suppression(
    boxes: Any, class_ids: Any, scores: Any, classes: int, max_output: int, iou_threshold: float
) -> Kept:
    """`class_non_max_suppression` by one suppression of boxes that are moved apart by their class.

    The classes get places of a square grid, so that the shifts, and the rounding of small boxes in
    float32, stay small.

    boxes: `[B, N, 4]` in 0..1. class_ids: `[B, N]` int32 below `classes`. scores: `[B, N]`.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
    columns = math.ceil(math.sqrt(classes))
    row = class_ids // columns
    place = tf.stack([row, class_ids - row * columns], axis=-1)
    shift = tf.cast(tf.concat([place, place], axis=-1), boxes.dtype)  # [B, N, 4]
    kept, counts = non_max_suppression(boxes + shift, scores, max_output, iou_threshold)
    return _gather_kept(boxes, class_ids, scores, kept, counts)


def _flat_non_max_suppression(boxes, scores, max_output, iou_threshold) -> Kept:
    """`class_non_max_suppression` of one list of all boxes of all classes."""
    count, classes = tf.shape(scores)[1], scores.shape[2]
    every = boxes * tf.ones([classes, 1], boxes.dtype)  # [B, N, classes, 4]
    every = tf.reshape(every, [tf.shape(boxes)[0], count * classes, 4])
    flat = tf.reshape(scores, [tf.shape(boxes)[0], count * classes])
    class_ids = tf.broadcast_to(tf.range(classes)[None, None], tf.shape(scores))
    class_ids = tf.reshape(class_ids, [tf.shape(boxes)[0], count * classes])
    return shifted_non_max_suppression(every, class_ids, flat, classes, max_output, iou_threshold)


# --- Soft (Bodla 2017, section 3) ---


class SoftlyKept(NamedTuple):
    """`[B, K]` each: rows (of N) and classes of the boxes kept, and their lowered scores, or 0."""

    rows: Any
    class_ids: Any
    scores: Any


def linear_decay(overlaps: Any, threshold: float) -> Any:
    """`[...]` factors of scores: 1 - IoU from the threshold on, otherwise 1.

    overlaps: `[...]` IoU with a better box.
    """
    return tf.where(overlaps >= threshold, 1.0 - overlaps, 1.0)


def gaussian_decay(overlaps: Any, sigma: float) -> Any:
    """`[...]` factors of scores: exp(-IoU^2 / sigma).

    overlaps: `[...]` IoU with a better box.
    """
    return tf.exp(-tf.square(overlaps) / sigma)


def _decay_and_limit(config: Config) -> tuple[Callable, float]:
    """The last two arguments of `soft_non_max_suppression`."""
    decay = functools.partial(gaussian_decay, sigma=config.SOFT_NMS_SIGMA)
    if config.DETECTION_NMS == "linear":
        decay = functools.partial(linear_decay, threshold=config.DETECTION_NMS_THRESHOLD)
    return decay, config.DETECTION_MIN_CONFIDENCE


def soft_non_max_suppression(
    boxes: Any, scores: Any, max_output: int, decay: Callable[[Any], Any], min_score: float
) -> SoftlyKept:
    """Keep the best box of all classes, lower the scores of its class by their IoU, and repeat.

    The score of a box is final when it is kept, for scores only fall: this is Soft-NMS of each
    class, and then the best of all classes.

    boxes: `[B, N, classes, 4]`, or `[B, N, 1, 4]` for all classes. scores: `[B, N, classes]`; those
        of 0 are ignored. max_output: K. decay: from IoU `[B, N]` to factors `[B, N]`.
    min_score: boxes whose score falls below it are dropped.

    Returns: `[B, K]` rows, class ids and scores, best first, zero-padded.
    """
    count: Any = tf.shape(scores)[1]
    classes = scores.shape[2]
    boxes = tf.transpose(boxes, [0, 2, 1, 3])  # [B, classes or 1, N, 4]
    start = tf.transpose(scores, [0, 2, 1])  # [B, classes, N]

    def has_more(step, left, *_):
        return (step < max_output) & tf.reduce_any(left > 0)

    def keep_best(step, left, places, kept_scores):
        flat = tf.reshape(left, [tf.shape(left)[0], -1])  # [B, classes * N]
        place: Any = tf.argmax(flat, axis=1, output_type=tf.int32)
        score = tf.gather(flat, place, batch_dims=1)
        class_id, row = place // count, place % count
        group = class_id if boxes.shape[1] == classes else tf.zeros_like(class_id)
        of_class = tf.gather(boxes, group, batch_dims=1)  # [B, N, 4]
        best = tf.gather(of_class, row[:, None], batch_dims=1)  # [B, 1, 4]
        lowered = tf.gather(left, class_id, batch_dims=1) * decay(
            box_math.iou(best, of_class)[:, 0]
        )
        is_left = (lowered >= min_score) & (tf.range(count) != row[:, None])
        lowered = tf.where(is_left, lowered, 0.0)
        is_class = tf.range(classes) == class_id[:, None]  # [B, classes]
        left = tf.where(is_class[..., None], lowered[:, None], left)
        is_step = tf.range(max_output) == step
        places = tf.where(is_step, place[:, None], places)
        return step + 1, left, places, tf.where(is_step, score[:, None], kept_scores)

    empty = tf.zeros([tf.shape(scores)[0], max_output])
    state = (tf.constant(0), start, tf.cast(empty, tf.int32), empty)
    _, _, places, kept_scores = tf.while_loop(has_more, keep_best, state)
    is_kept = tf.cast(kept_scores > 0, tf.int32)
    per_class: Any = tf.maximum(count, 1)
    return SoftlyKept(places % per_class * is_kept, places // per_class * is_kept, kept_scores)


def _gather(boxes: Any, found: SoftlyKept) -> Kept:
    """The boxes `[B, K, 4]` of `[B, N, classes or 1, 4]` that were kept; zero-padded."""
    own = tf.gather(boxes, found.rows, batch_dims=1)  # [B, K, classes or 1, 4]
    columns = found.class_ids if boxes.shape[2] > 1 else tf.zeros_like(found.class_ids)
    own = tf.gather(own, columns, batch_dims=2)
    is_kept = tf.cast(found.scores > 0, own.dtype)
    return Kept(own * is_kept[..., None], tf.cast(found.class_ids, own.dtype), found.scores)


# --- Box voting (Gidaris 2015, section 5) ---


def vote(kept: Kept, boxes: Any, scores: Any, iou_threshold: float) -> Kept:
    """Replace each box by the mean, weighted by score, of the boxes of its class that overlap it.

    kept: boxes `[B, K, 4]` and class ids of an NMS, zero-padded.
    boxes: `[B, N, classes, 4]`, or `[B, N, 1, 4]` for all classes: those before the NMS, and with
        `scores` `[B, N, classes]`, of which 0 has no vote.
    iou_threshold: boxes from this IoU on have a vote.

    Returns: `[B, K, 4]` boxes, with the class ids and scores of `kept`.
    """
    class_ids = tf.cast(kept.class_ids, tf.int32)
    columns = class_ids if boxes.shape[2] > 1 else tf.zeros_like(class_ids)
    voters = tf.gather(tf.transpose(boxes, [0, 2, 1, 3]), columns, batch_dims=1)  # [B, K, N, 4]
    weights = tf.gather(tf.transpose(scores, [0, 2, 1]), class_ids, batch_dims=1)  # [B, K, N]
    overlaps = box_math.iou(kept.boxes[:, :, None], voters)[:, :, 0]
    weights: Any = tf.where(overlaps >= iou_threshold, weights, 0.0)
    total = tf.reduce_sum(weights, axis=-1, keepdims=True)  # [B, K, 1]
    mean = tf.reduce_sum(weights[..., None] * voters, axis=2) / tf.where(total > 0, total, 1.0)
    has_votes = (total > 0) & (kept.scores[..., None] > 0)
    return kept._replace(boxes=tf.where(has_votes, mean, kept.boxes))

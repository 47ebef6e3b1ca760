"""Non-max suppression of tensors; for NumPy see `boxes.non_max_suppression`.

Shape shorthand: B images, N boxes, K boxes kept at most. Boxes are `(y1, x1, y2, x2)`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


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
    indices, counts = tf.map_fn(one_image, inputs, fn_output_signature=(tf.int32, tf.int32))
    return tf.ensure_shape(indices, [None, max_output]), counts


def class_non_max_suppression(
    boxes: Any, scores: Any, max_output: int, iou_threshold: float
) -> Kept:
    """Suppress boxes that overlap a better one of their class, then keep the best of all classes.

    boxes: `[B, N, classes, 4]`, or `[B, N, 1, 4]` for all classes; clipped.
    scores: `[B, N, classes]`; those of 0 are ignored. max_output: K.

    Returns: `[B, K, 4]` boxes, `[B, K]` class ids, `[B, K]` scores.
    """
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
    boxes = tf.gather(boxes, kept, batch_dims=1)
    class_ids = tf.gather(class_ids, kept, batch_dims=1)
    scores = tf.gather(scores, kept, batch_dims=1)
    is_kept = (tf.range(max_output)[None] < counts[:, None]) & (scores > 0)
    real = tf.cast(is_kept, scores.dtype)
    return Kept(boxes * real[..., None], tf.cast(class_ids, scores.dtype) * real, scores * real)

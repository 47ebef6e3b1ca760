"""Non-max suppression of tensors."""

from __future__ import annotations

import tensorflow as tf


def non_max_suppression(boxes, scores, max_output, iou_threshold):
    """`[B, max_output]` int32 indices of the boxes kept, best first, and `[B]` int32 how many are valid.

    boxes: `[B, N, (y1, x1, y2, x2)]`. scores: `[B, N]`. The rest of each row of indices is 0.
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

    indices, valid = tf.map_fn(
        one_image,
        (tf.cast(boxes, tf.float32), tf.cast(scores, tf.float32)),
        fn_output_signature=(tf.int32, tf.int32),
    )
    return tf.ensure_shape(indices, [None, max_output]), valid


def class_non_max_suppression(boxes, class_ids, scores, num_classes, max_output, iou_threshold):
    """Per-class NMS, then the best of all classes: boxes `[B, K, 4]`, class ids `[B, K]`, scores `[B, K]`.

    boxes: `[B, N, (y1, x1, y2, x2)]`, clipped. class_ids: `[B, N]` the one class of each box.
    scores: `[B, N]`; a box with score 0 does not take part. Rows after the last are zeros.
    """
    per_class = scores[..., None] * tf.one_hot(
        class_ids, num_classes, dtype=scores.dtype
    )  # [B, N, classes]
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        per_class,
        max_output,
        max_output,
        iou_threshold,
        0.0,
        clip_boxes=False,
    )
    return kept.nmsed_boxes, kept.nmsed_classes, kept.nmsed_scores


def agnostic_non_max_suppression(boxes, class_ids, scores, max_output, iou_threshold):
    """`class_non_max_suppression` across the classes: a box is suppressed by a better one of any class."""
    kept, valid = non_max_suppression(boxes, scores, max_output, iou_threshold)
    boxes, class_ids, scores = (
        tf.gather(rows, kept, batch_dims=1) for rows in (boxes, class_ids, scores)
    )
    real = tf.cast((tf.range(max_output)[None] < valid[:, None]) & (scores > 0), scores.dtype)
    return boxes * real[..., None], tf.cast(class_ids, scores.dtype) * real, scores * real

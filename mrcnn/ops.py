"""The few image ops that need TensorFlow itself, one function each; all other tensor arithmetic is keras.ops."""

from __future__ import annotations

import tensorflow as tf


def crop_and_resize(images, boxes, box_indices, size):
    """`[N, height, width, channels]` float32: a bilinear crop of an image per box.

    images: `[B, H, W, channels]`. boxes: `[N, (y1, x1, y2, x2)]` normalised, no gradient flows into them.
    box_indices: `[N]` the image of each box. size: `(height, width)`.
    """
    if images.dtype == tf.bfloat16:  # the kernel refuses it
        images = tf.cast(images, tf.float32)
    return tf.image.crop_and_resize(images, tf.cast(boxes, tf.float32), box_indices, size)


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
    per_class = scores[..., None] * tf.one_hot(class_ids, num_classes, dtype=scores.dtype)  # [B, N, classes]
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :], per_class, max_output, max_output, iou_threshold, 0.0, clip_boxes=False
    )
    return kept.nmsed_boxes, kept.nmsed_classes, kept.nmsed_scores


def gather_rois_by_level(levels, count, pool):
    """`[N, ...]` the result of `pool(level, indices)` for the RoIs of each level, in the RoIs' own order.

    levels: `[N]` int32 in 0..count-1. pool: called once per level with the `[K]` int32 indices of its RoIs.
    """
    indices = [tf.cast(tf.where(tf.equal(levels, level))[:, 0], tf.int32) for level in range(count)]
    return tf.dynamic_stitch(indices, [pool(level, chosen) for level, chosen in enumerate(indices)])

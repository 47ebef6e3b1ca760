"""From the outputs of the heads to detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from . import boxes as box_math
from .keras_ops import ops
from .nms import Kept, agnostic_suppress, suppress, suppress_one_class
from .portable import is_portable


def refine_detections(rois: Any, probs: Any, deltas: Any, windows: Any, config: Any) -> Any:
    """`[B, D, (y1, x1, y2, x2, class_id, score)]` detections, best first, zero-padded.

    Each RoI keeps its best class (DETECTION_ALL_CLASSES: every class) and is refined by that
    class's deltas, then clipped to the window. Detections below DETECTION_MIN_CONFIDENCE are
    dropped, and those that a better one of their class suppresses (CLASS_AGNOSTIC_NMS: of any
    class; DETECTION_NMS: softly). Boxes are normalized.

    rois: `[B, N, 4]`. probs: `[B, N, NUM_CLASSES]`.
    deltas: `[B, N, NUM_CLASSES, 4]`, or `[B, N, 1, 4]` for all classes.
    windows: `[B, 4]` the part of the molded image that shows the original image.
    """
    if config.DETECTION_ALL_CLASSES and not config.CLASS_AGNOSTIC_NMS:
        kept = _detect_every_class(rois, probs, deltas, windows, config)
    else:
        kept = _detect_best_class(rois, probs, deltas, windows, config)
    return ops.concatenate([kept.boxes, kept.class_ids[..., None], kept.scores[..., None]], axis=-1)


def _detect_best_class(rois, probs, deltas, windows, config) -> Kept:
    class_ids: Any = tf.argmax(probs, axis=-1, output_type=tf.int32)
    scores = ops.max(probs, axis=-1)
    refined = refine_boxes(rois, deltas, class_ids, windows, config)
    scores = _without_low(scores, class_ids > 0, config)
    if config.CLASS_AGNOSTIC_NMS:
        return agnostic_suppress(refined, class_ids, scores, config)
    return suppress_one_class(refined, class_ids, scores, config)


def refine_boxes(rois: Any, deltas: Any, class_ids: Any, windows: Any, config: Any) -> Any:
    """`[B, N, 4]` the RoIs moved by the deltas of a class each, and clipped to the window.

    class_ids: `[B, N]` int32. rois, deltas, windows: as for `refine_detections`.
    """
    rows = ops.zeros_like(class_ids) if deltas.shape[2] == 1 else class_ids
    class_deltas = tf.gather(deltas, rows, batch_dims=2) * np.float32(config.BBOX_STD_DEV)
    refined = box_math.decode(rois, class_deltas, config.MAX_LOG_SCALE)
    return box_math.clip(refined, windows[:, None, :])


def _detect_every_class(rois, probs, deltas, windows, config) -> Kept:
    class_deltas = deltas * np.float32(config.BBOX_STD_DEV)
    refined = box_math.decode(rois[:, :, None], class_deltas, config.MAX_LOG_SCALE)
    refined = box_math.clip(refined, windows[:, None, None, :])  # [B, N, NUM_CLASSES or 1, 4]
    is_object = (ops.arange(probs.shape[-1]) > 0) & (box_math.area(refined) > 0)
    scores = _without_low(probs, is_object, config)
    return suppress(refined, scores, config)


def _without_low(scores, is_object, config):
    """The scores; 0 for the background and below DETECTION_MIN_CONFIDENCE."""
    if config.DETECTION_MIN_CONFIDENCE:
        is_object = is_object & (scores >= config.DETECTION_MIN_CONFIDENCE)
    return scores * ops.cast(is_object, "float32")


def select_class_masks(masks: Any, class_ids: Any) -> Any:
    """`[B, D, h, w, 1]` the mask of each detection's class.

    masks: `[B, D, h, w, NUM_CLASSES]`, or `[B, D, h, w, 1]` for all classes, which is returned.
    class_ids: `[B, D]`.
    """
    if masks.shape[-1] == 1:
        return masks
    class_ids = tf.cast(class_ids, tf.int32)
    if is_portable():
        is_class = tf.one_hot(class_ids, masks.shape[-1], dtype=masks.dtype)
        return tf.reduce_sum(masks * is_class[:, :, None, None, :], axis=-1, keepdims=True)
    selected = tf.gather(masks, class_ids, axis=-1, batch_dims=2)
    return selected[..., None]

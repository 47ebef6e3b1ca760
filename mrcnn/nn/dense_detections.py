"""From the predictions of every anchor, on every pyramid level, to detections.

Shape shorthand: B images, A anchors of a level, K candidates, D detections.
Boxes are `(y1, x1, y2, x2)`, normalized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import layers as KL

from . import boxes as box_math
from .image_meta import normalized_windows
from .keras_ops import ops
from .nms import agnostic_suppress, suppress_one_class


class Level(NamedTuple):
    """What the heads predict on one pyramid level, and its anchors."""

    class_logits: Any  # [B, A, NUM_CLASSES] of a sigmoid; column 0 is the background
    deltas: Any  # [B, A, 4]
    anchors: Any  # [B, A, 4]
    centerness: Any = None  # [B, A, 1] logits, of a network that has them


class Candidates(NamedTuple):
    """The best pairs of an anchor and a class."""

    anchors: Any  # [B, K, 4]
    deltas: Any  # [B, K, 4]
    class_ids: Any  # [B, K] int32, never the background
    scores: Any  # [B, K] best first, per level


def class_scores(class_logits: Any, centerness: Any = None) -> Any:
    """`[B, A, classes]` scores: probabilities, with a centerness its geometric mean with them.

    class_logits: `[B, A, classes]`. centerness: `[B, A, 1]` logits, or None.
    """
    scores = ops.sigmoid(class_logits)
    if centerness is None:
        return scores
    return ops.sqrt(scores * ops.sigmoid(centerness))  # FCOS, section 3.1 of its journal version


def best_candidates(level: Level, limit: int) -> Candidates:
    """Return the at most `limit` best pairs of an anchor and a class of a level, K = limit.

    level: predictions `[B, A, ...]`.
    """
    # The best pairs belong to the anchors whose best class is best, of which there are far fewer.
    logits = level.class_logits[..., 1:]
    best = class_scores(ops.max(logits, axis=-1, keepdims=True), level.centerness)[..., 0]
    _, rows = tf.math.top_k(best, k=ops.minimum(limit, ops.shape(best)[1]))  # [B, rows]
    centerness = level.centerness
    if centerness is not None:
        centerness = tf.gather(centerness, rows, batch_dims=1)
    scores = class_scores(tf.gather(logits, rows, batch_dims=1), centerness)
    classes = logits.shape[-1]
    flat = ops.reshape(scores, [ops.shape(scores)[0], -1])  # [B, rows * classes]
    scores, pairs = tf.math.top_k(flat, k=ops.minimum(limit, ops.shape(flat)[1]))
    rows = tf.gather(rows, pairs // classes, batch_dims=1)
    return Candidates(
        tf.gather(level.anchors, rows, batch_dims=1),
        tf.gather(level.deltas, rows, batch_dims=1),
        pairs % classes + 1,
        scores,
    )


def select_candidates(levels: list[Level], limit: int) -> Candidates:
    """Return the `best_candidates` of all levels, `[B, K, ...]`, one level after another.

    limit: per level.
    """
    parts = [best_candidates(level, limit) for level in levels]
    return Candidates(*(ops.concatenate(part, axis=1) for part in zip(*parts, strict=True)))


def suppress_candidates(boxes: Any, candidates: Candidates, config: Any) -> Any:
    """`[B, D, (y1, x1, y2, x2, class_id, score)]` detections, best first, zero-padded.

    Candidates below DETECTION_MIN_CONFIDENCE are dropped, and those that a better one of their
    class suppresses (CLASS_AGNOSTIC_NMS: of any class; DETECTION_NMS: softly).

    boxes: `[B, K, 4]`, decoded and clipped. candidates: `[B, K]` each.
    """
    class_ids, scores = candidates.class_ids, candidates.scores
    scores = ops.where(scores >= config.DETECTION_MIN_CONFIDENCE, scores, 0.0)
    if config.CLASS_AGNOSTIC_NMS:
        kept = agnostic_suppress(boxes, class_ids, scores, config)
    else:
        kept = suppress_one_class(boxes, class_ids, scores, config)
    return ops.concatenate([kept.boxes, kept.class_ids[..., None], kept.scores[..., None]], axis=-1)


def _scores_per_class(class_ids, scores, config):
    """`[B, K, NUM_CLASSES]` the score in the column of its class, 0 in the others."""
    is_class = tf.one_hot(class_ids, config.NUM_CLASSES, dtype=scores.dtype)
    return scores[..., None] * is_class


@keras.saving.register_keras_serializable("mrcnn")
class DenseDetectionLayer(KL.Layer):
    """`[B, D, 6]` detections, and the best score of each class `[B, 1, NUM_CLASSES]`.

    Inputs: a list of levels, each `[class_logits, deltas]` or `[class_logits, deltas, centerness]`;
    anchors `[B, all A, 4]` normalized; image_meta.

    decode: `(anchors, deltas) -> boxes`, all `[B, K, 4]`.
    """

    def __init__(self, config: Any, decode: Callable[[Any, Any], Any], **kwargs):
        super().__init__(**kwargs)
        self.config, self.decode = config, decode

    def call(self, inputs):
        outputs, anchors, image_meta = inputs
        counts = [ops.shape(class_logits)[1] for class_logits, *_ in outputs]
        levels = []
        for level, level_anchors in zip(outputs, tf.split(anchors, counts, axis=1), strict=True):
            class_logits, deltas, *centerness = level
            levels.append(Level(class_logits, deltas, level_anchors, *centerness))
        limit = self.config.PRE_NMS_LIMIT_INFERENCE or self.config.PRE_NMS_LIMIT
        candidates = select_candidates(levels, limit)
        windows = normalized_windows(image_meta, self.config.CONTINUOUS_BOXES)
        boxes = self.decode(candidates.anchors, candidates.deltas)
        boxes = box_math.clip(boxes, windows[:, None, :])
        per_class = _scores_per_class(candidates.class_ids, candidates.scores, self.config)
        best = ops.max(per_class, axis=1, keepdims=True)  # [B, 1, NUM_CLASSES]
        return suppress_candidates(boxes, candidates, self.config), best

    def compute_output_spec(self, inputs):
        count, classes = self.config.DETECTION_MAX_INSTANCES, self.config.NUM_CLASSES
        return (
            keras.KerasTensor((None, count, 6), "float32"),
            keras.KerasTensor((None, 1, classes), "float32"),
        )


def dense_outputs(outputs: list, config: Any) -> list:
    """Choose what `Detector` reads from the outputs of an inference network.

    Returns: detections `[B, D, 6]`, and the best score of each class `[B, 1, NUM_CLASSES]`.
    """
    return list(outputs[:2])

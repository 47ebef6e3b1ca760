"""From the outputs of the RPN to proposals, with every intermediate step."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers as KL

from . import boxes as box_math
from .keras_ops import ops
from .nms import non_max_suppression


class ProposalSteps(NamedTuple):
    """The steps from anchors to proposals; boxes are `(y1, x1, y2, x2)`, normalized.

    The fields have matterport's names of the tensors. K anchors remain after PRE_NMS_LIMIT.
    """

    pre_nms_anchors: Any  # [B, K, 4] the anchors of the best scores
    refined_anchors: Any  # [B, K, 4] moved by their deltas
    refined_anchors_clipped: Any  # [B, K, 4] clipped to the image
    rpn_non_max_suppression: Any  # [M] the boxes kept in the first image, indices into K
    proposals: Any  # [B, count, 4] zero-padded
    scores: Any  # [B, count] zero-padded


# The steps that `MaskRCNN.ancestor` offers.
STEP_NAMES = ProposalSteps._fields[:4]


class ProposalLimits(NamedTuple):
    """How many proposals remain, and the IoU above which NMS removes one."""

    before_nms: int
    after_nms: int
    nms_threshold: float


def propose(
    rpn_probs: Any, rpn_bbox: Any, anchors: Any, config: Any, limits: ProposalLimits
) -> ProposalSteps:
    """Return the best anchors: refined by their deltas, clipped, after non-max suppression.

    All results are constants to the gradient.

    rpn_probs: `[B, A, (background, object)]`. rpn_bbox: `[B, A, 4]` deltas.
    anchors: `[B, A, 4]` normalized.
    """
    best = _best(rpn_probs, rpn_bbox, anchors, config, limits.before_nms)
    clipped = box_math.clip(best.refined, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
    count = limits.after_nms
    kept, kept_count = non_max_suppression(clipped, best.scores, count, limits.nms_threshold)
    is_kept = ops.cast(ops.arange(count)[None] < kept_count[:, None], "float32")
    proposals = tf.gather(clipped, kept, batch_dims=1) * is_kept[..., None]
    scores = tf.gather(best.scores, kept, batch_dims=1) * is_kept
    first_kept = kept[0, : kept_count[0]]
    return ProposalSteps(best.anchors, best.refined, clipped, first_kept, proposals, scores)


# torchvision and detectron2 drop proposals without a side.
SMALLEST_SIDE = 1e-6  # normalized


def propose_per_level(
    rpn_probs: Any,
    rpn_bbox: Any,
    anchors: Any,
    windows: Any,
    level_counts: list,
    config: Any,
    limits: ProposalLimits,
) -> ProposalSteps:
    """`propose` level by level (FPN, section 4.1 of detectron2's and torchvision's code).

    The best anchors of each level are clipped to the image without its padding, and suppress each
    other only within the level. The best of all levels remain.

    rpn_probs, rpn_bbox, anchors: as for `propose`, one level after another.
    windows: `[B, 4]` normalized. level_counts: the anchors of each level.
    """
    parts = [tf.split(x, level_counts, axis=1) for x in (rpn_probs, rpn_bbox, anchors)]
    levels, clipped_levels, kept_levels, kept_scores, kept_boxes = [], [], [], [], []
    offset = 0
    for probs, deltas, level_anchors in zip(*parts, strict=True):
        best = _best(probs, deltas, level_anchors, config, limits.before_nms)
        clipped = box_math.clip(best.refined, windows[:, None, :])
        y1, x1, y2, x2 = box_math.sides(clipped)
        has_area = (y2 - y1 > SMALLEST_SIDE) & (x2 - x1 > SMALLEST_SIDE)
        scores = ops.where(has_area, best.scores, -1.0)
        kept, kept_count = non_max_suppression(
            clipped, scores, limits.after_nms, limits.nms_threshold
        )
        is_kept = ops.arange(limits.after_nms)[None] < kept_count[:, None]
        kept_scores.append(ops.where(is_kept, tf.gather(scores, kept, batch_dims=1), -1.0))
        kept_boxes.append(tf.gather(clipped, kept, batch_dims=1))
        kept_levels.append(kept + offset)
        offset += ops.shape(clipped)[1]
        levels.append(best)
        clipped_levels.append(clipped)
    scores, order = tf.math.top_k(ops.concatenate(kept_scores, axis=1), k=limits.after_nms)
    is_proposal = ops.cast(scores >= 0, "float32")
    proposals = tf.gather(ops.concatenate(kept_boxes, axis=1), order, batch_dims=1)
    kept = tf.gather(ops.concatenate(kept_levels, axis=1), order, batch_dims=1)
    return ProposalSteps(
        ops.concatenate([best.anchors for best in levels], axis=1),
        ops.concatenate([best.refined for best in levels], axis=1),
        ops.concatenate(clipped_levels, axis=1),
        tf.boolean_mask(kept[0], is_proposal[0] > 0),
        proposals * is_proposal[..., None],
        scores * is_proposal,
    )


class _Best(NamedTuple):
    """The anchors of the best scores, `[B, K, ...]`."""

    anchors: Any
    scores: Any
    refined: Any


def _best(rpn_probs, rpn_bbox, anchors, config, limit) -> _Best:
    """The at most `limit` best anchors and their refined boxes, as constants."""
    rpn_probs, rpn_bbox = ops.stop_gradient(rpn_probs), ops.stop_gradient(rpn_bbox)
    anchors = ops.stop_gradient(anchors)
    limit = ops.minimum(limit, ops.shape(anchors)[1])
    scores, top = tf.math.top_k(rpn_probs[:, :, 1], k=limit)
    deltas = tf.gather(rpn_bbox, top, batch_dims=1) * np.float32(config.RPN_BBOX_STD_DEV)
    best_anchors = tf.gather(anchors, top, batch_dims=1)
    refined = box_math.decode(best_anchors, deltas, config.MAX_LOG_SCALE)
    return _Best(best_anchors, scores, refined)


class ProposalStep(KL.Layer):
    """One step of a `ProposalLayer` on the same inputs, for `MaskRCNN.ancestor`.

    step: one of `STEP_NAMES`; the output has the shape of that field of `ProposalSteps`.
    """

    def __init__(self, proposal_layer: Any, step: str, **kwargs):
        super().__init__(**kwargs)
        self.proposal_layer = proposal_layer
        self.step = step

    def call(self, inputs):
        return getattr(self.proposal_layer.steps(inputs), self.step)

    def compute_output_spec(self, inputs):
        if self.step == "rpn_non_max_suppression":
            return keras.KerasTensor((None,), "int32")
        return keras.KerasTensor((None, None, 4), "float32")

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


def propose(
    rpn_probs: Any, rpn_bbox: Any, anchors: Any, config: Any, count: int, nms_threshold: float
) -> ProposalSteps:
    """Return the best anchors: refined by their deltas, clipped, after non-max suppression.

    All results are constants to the gradient.

    rpn_probs: `[B, A, (background, object)]`. rpn_bbox: `[B, A, 4]` deltas.
    anchors: `[B, A, 4]` normalized. count: proposals per image.
    """
    rpn_probs, rpn_bbox = ops.stop_gradient(rpn_probs), ops.stop_gradient(rpn_bbox)
    anchors = ops.stop_gradient(anchors)
    limit = ops.minimum(config.PRE_NMS_LIMIT, ops.shape(anchors)[1])
    scores, top = tf.math.top_k(rpn_probs[:, :, 1], k=limit)
    deltas = tf.gather(rpn_bbox, top, batch_dims=1) * np.float32(config.RPN_BBOX_STD_DEV)
    best_anchors = tf.gather(anchors, top, batch_dims=1)
    refined = box_math.decode(best_anchors, deltas)
    clipped = box_math.clip(refined, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
    kept, kept_count = non_max_suppression(clipped, scores, count, nms_threshold)
    is_kept = ops.cast(ops.arange(count)[None] < kept_count[:, None], "float32")
    proposals = tf.gather(clipped, kept, batch_dims=1) * is_kept[..., None]
    proposal_scores = tf.gather(scores, kept, batch_dims=1) * is_kept
    first_kept = kept[0, : kept_count[0]]
    return ProposalSteps(best_anchors, refined, clipped, first_kept, proposals, proposal_scores)


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

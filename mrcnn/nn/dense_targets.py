"""What networks without an RPN learn for each anchor, as a layer of their training network.

Shape shorthand: B images, A anchors of all levels, M ground-truth objects.
Boxes are `(y1, x1, y2, x2)` in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import layers as KL

from .keras_ops import ops


class AnchorTargets(NamedTuple):
    """What the head learns for each anchor."""

    class_ids: Any  # [B, A] int32 of its object, 0 without an object, -1: it does not count
    boxes: Any  # [B, A, 4] its object's box; without an object any


@keras.saving.register_keras_serializable("mrcnn")
class AnchorTargetLayer(KL.Layer):
    """`AnchorTargets` as constants.

    Inputs: anchors `[B, A, 4]`, gt_class_ids `[B, M]`, zero-padded, negative: a crowd, gt_boxes
    `[B, M, 4]`.

    match: `(anchors, gt_class_ids, gt_boxes) -> AnchorTargets`.
    """

    def __init__(self, match: Callable[[Any, Any, Any], AnchorTargets], **kwargs):
        super().__init__(**kwargs)
        self.match = match

    def call(self, inputs):
        return [ops.stop_gradient(x) for x in self.match(*inputs)]

    def compute_output_spec(self, inputs):
        batch, count, _ = inputs[0].shape
        class_ids = keras.KerasTensor((batch, count), "int32")
        return [class_ids, keras.KerasTensor((batch, count, 4), "float32")]

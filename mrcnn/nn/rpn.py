"""The region proposal network (Faster R-CNN, Ren 2015, section 3.1), on every pyramid level."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as KL

from ..config import Config
from .keras_ops import ops
from .layers import FLOAT32, Conv2D, SameConv2D


def rpn_graph(
    feature_map: Any,
    anchors_per_location: int,
    anchor_stride: int,
    channels: int = 512,
    conv_layers: int = 1,
    objectness: str = "softmax",
) -> list:
    """Objectness and deltas of every anchor of one pyramid level.

    feature_map: `[B, h, w, C]`.
    conv_layers, objectness: see `Config.RPN_CONV_LAYERS` and `Config.RPN_OBJECTNESS`.

    Returns: logits `[B, A, (background, object)]`, probs alike, deltas `[B, A, 4]`.
    """
    shared = feature_map
    for i in range(1, conv_layers + 1):
        shared = SameConv2D(
            channels,
            (3, 3),
            padding="same",
            activation="relu",
            strides=anchor_stride if i == 1 else 1,
            name="rpn_conv_shared" if i == 1 else f"rpn_conv_shared{i}",
        )(shared)
    scores = 1 if objectness == "sigmoid" else 2
    x = Conv2D(scores * anchors_per_location, (1, 1), name="rpn_class_raw")(shared)
    logits = KL.Reshape((-1, scores), **FLOAT32)(x)  # [B, h * w * anchors_per_location, scores]
    if scores == 1:  # sigmoid(x) = softmax(0, x)
        logits = ops.pad(logits, [[0, 0], [0, 0], [1, 0]])
    probs = KL.Activation("softmax", name="rpn_class_xxx", **FLOAT32)(logits)
    x = Conv2D(4 * anchors_per_location, (1, 1), name="rpn_bbox_pred")(shared)
    deltas = KL.Reshape((-1, 4), **FLOAT32)(x)  # [B, h * w * anchors_per_location, 4]
    return [logits, probs, deltas]


def build_rpn_model(
    anchor_stride: int, anchors_per_location: int, depth: int, channels: int = 512, **options: Any
) -> keras.Model:
    """The RPN as a model of its own, so that all levels share its weights.

    Input: feature map `[B, h, w, depth]`. Outputs: as `rpn_graph`.

    depth: channels of the feature maps. options: see `rpn_graph`.
    """
    feature_map = keras.Input([None, None, depth], name="input_rpn_feature_map")
    outputs = rpn_graph(feature_map, anchors_per_location, anchor_stride, channels, **options)
    return keras.Model(feature_map, outputs, name="rpn_model")


def rpn_of_levels(levels: list, config: Config) -> tuple[dict[str, Any], list]:
    """The outputs of the RPN by name, all levels in one tensor; and the probs of each level.

    levels: maps `[B, h, w, C]`, of one C.

    Returns: rpn_class_logits, rpn_class `[B, A, 2]`, rpn_bbox `[B, A, 4]`; a list of `[B, A', 2]`.
    """
    rpn = build_rpn_model(
        config.RPN_ANCHOR_STRIDE,
        len(config.RPN_ANCHOR_RATIOS) * len(config.anchor_scales()[0]),
        levels[0].shape[-1],
        config.RPN_CHANNELS,
        conv_layers=config.RPN_CONV_LAYERS,
        objectness=config.RPN_OBJECTNESS,
    )
    per_level = [rpn(level) for level in levels]
    outputs: dict[str, Any] = {}
    for i, name in enumerate(("rpn_class_logits", "rpn_class", "rpn_bbox")):
        join = KL.Concatenate(axis=1, name=name, **FLOAT32)
        outputs[name] = join([output[i] for output in per_level])
    return outputs, [probs for _, probs, _ in per_level]

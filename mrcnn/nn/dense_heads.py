"""The heads of networks without an RPN, on every pyramid level: towers and their predictions.

Shape shorthand: B images, A anchors of a level, C channels, h and w the sides of a feature map.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers as KL

from .layers import FLOAT32, Conv2D, SameConv2D, norm

# Probability of every class in a new network (RetinaNet, section 4.1): the many anchors without an
# object would otherwise dominate the first steps.
PRIOR_PROBABILITY = 0.01
PRIOR_LOGIT = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)


def tower(x: Any, name: str, config: Any, use_bias: bool) -> Any:
    """`[B, h, w, C]` the features `[B, h, w, C]` after TOWER_CONV_LAYERS 3x3 convolutions.

    Each is followed by TOWER_NORM and ReLU. Layers are `<name>_conv1`, `<name>_norm1` and so on.

    use_bias: of the convolutions.
    """
    for i in range(1, config.TOWER_CONV_LAYERS + 1):
        x = SameConv2D(
            config.TOP_DOWN_PYRAMID_SIZE,
            (3, 3),
            padding="same",
            use_bias=use_bias,
            name=f"{name}_conv{i}",
        )(x)
        x = norm(x, config.TOWER_NORM, config, f"{name}_norm{i}")
        x = KL.Activation("relu")(x)
    return x


def prediction(x: Any, name: str, anchors: int, size: int, bias: float = 0.0) -> Any:
    """`[B, A, size]` float32, predictions of every anchor: a 3x3 convolution of `[B, h, w, C]`.

    anchors: per cell, so that A = h * w * anchors. bias: of the convolution, at first.
    """
    # Keras' annotations say str.
    initializers: dict[str, Any] = {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.01),
        "bias_initializer": keras.initializers.Constant(bias),
    }
    x = Conv2D(anchors * size, (3, 3), padding="same", name=name, **initializers)(x)
    return KL.Reshape((-1, size), **FLOAT32)(x)  # [B, h * w * anchors, size]


def class_prediction(x: Any, name: str, anchors: int, config: Any) -> Any:
    """`[B, A, NUM_CLASSES]` logits of a sigmoid for each class, from features `[B, h, w, C]`.

    Column 0 is the background, as in torchvision's networks: it is no object's class.

    anchors: per cell.
    """
    return prediction(x, name, anchors, config.NUM_CLASSES, PRIOR_LOGIT)

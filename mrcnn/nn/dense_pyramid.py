"""The feature pyramid of networks without an RPN (RetinaNet, Lin 2017, section 4): P3 to P7."""

from __future__ import annotations

from typing import Any

from keras import layers as KL

from .fpn import fpn_graph
from .layers import Conv2D


def dense_pyramid(feature_maps: list, config: Any) -> list:
    """`[P3, ..., P7]`, maps `[B, h, w, C]`: FPN, then convolutions of stride 2.

    feature_maps: C3 to C5, the finest first.
    config: as for `fpn_graph`; P6_INPUT is the map from which P6 is made. P7 is made from P6.
    """
    pyramid = fpn_graph(feature_maps, config, pooled_levels=0)
    x = feature_maps[-1] if config.P6_INPUT == "c5" else pyramid[-1]
    for level in (6, 7):
        if level == 7:
            x = KL.Activation("relu")(x)
        padding = "same"
        if config.SYMMETRIC_PADDING:
            x, padding = KL.ZeroPadding2D(1)(x), "valid"
        size, name = config.TOP_DOWN_PYRAMID_SIZE, f"fpn_p{level}"
        x = Conv2D(size, (3, 3), strides=2, padding=padding, name=name)(x)
        pyramid.append(x)
    return pyramid

"""The feature pyramid (FPN, Lin 2017, section 3)."""

from __future__ import annotations

from typing import Any

from keras import layers as KL

from .layers import Conv2D, SameConv2D, has_bias, norm


def fpn_graph(feature_maps: list, config: Any, pooled_levels: int = 1) -> list:
    """`[P2, ..., P5, P6]`, maps `[B, h, w, C]`: top-down, with lateral 1x1 convolutions.

    feature_maps: C2 to C5; C1 to C5 for a pyramid from P1 on, C3 to C5 for one from P3 on.
    config: TOP_DOWN_PYRAMID_SIZE is C, FPN_NORM the norm after each convolution.
    pooled_levels: coarser levels made by subsampling the last one; only the RPN reads them.
    """
    first = config.finest_level()
    last = len(feature_maps) + first - 1
    merged = []
    for level in range(last, first - 1, -1):
        x = _convolution(Conv2D, 1, f"fpn_c{level}p{level}", config)(feature_maps[level - first])
        if merged:
            above = KL.UpSampling2D(2, name=f"fpn_p{level + 1}upsampled")(merged[0])
            x = KL.Add(name=f"fpn_p{level}add")([above, x])
        merged.insert(0, x)
    pyramid = []
    for level, x in enumerate(merged, start=first):
        pyramid.append(_convolution(SameConv2D, 3, f"fpn_p{level}", config)(x))
    for level in range(last + 1, last + 1 + pooled_levels):
        pool = KL.MaxPooling2D(pool_size=(1, 1), strides=2, name=f"fpn_p{level}")
        pyramid.append(pool(pyramid[-1]))
    return pyramid


def dense_pyramid(feature_maps: list, config: Any) -> list:
    """`[P3, ..., P7]`, maps `[B, h, w, C]`: FPN, then convolutions of stride 2 (Lin 2017b).

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


def _convolution(layer: Any, side: int, name: str, config: Any) -> Any:
    """A function: a convolution, and its norm if there is one."""
    use_bias = has_bias(config.FPN_NORM, config)
    size = config.TOP_DOWN_PYRAMID_SIZE
    convolve = layer(size, (side, side), padding="same", use_bias=use_bias, name=name)
    return lambda x: norm(convolve(x), config.FPN_NORM, config, f"{name}_bn")

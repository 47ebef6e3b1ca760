"""The feature pyramid (FPN, Lin 2017, section 3)."""

from __future__ import annotations

from typing import Any

from keras import layers as KL

from .layers import Conv2D, SameConv2D, has_bias, norm


def fpn_graph(feature_maps: list, config: Any, pooled_levels: int = 1) -> list:
    """`[P2, ..., P5, P6]`, maps `[B, h, w, C]`: top-down, with lateral 1x1 convolutions.

    feature_maps: C2 to C5, or C1 to C5 for a pyramid from P1 on.
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


def _convolution(layer: Any, side: int, name: str, config: Any) -> Any:
    """A function: a convolution, and its norm if there is one."""
    use_bias = has_bias(config.FPN_NORM, config)
    size = config.TOP_DOWN_PYRAMID_SIZE
    convolve = layer(size, (side, side), padding="same", use_bias=use_bias, name=name)
    return lambda x: norm(convolve(x), config.FPN_NORM, config, f"{name}_bn")

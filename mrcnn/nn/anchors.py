"""Anchors of pyramid levels, as NumPy arrays."""

from __future__ import annotations

import numpy as np


def generate_anchors(scales, ratios, shape, feature_stride, anchor_stride) -> np.ndarray:
    """`[N, (y1, x1, y2, x2)]` anchors of one pyramid level in pixels, row by row, per cell by ratio and scale.

    scales: side(s) in pixels. ratios: width / height. shape: `(height, width)` of the feature map.
    feature_stride: pixels per cell. anchor_stride: cells per anchor.
    """
    scales, ratios = np.meshgrid(np.array(scales), np.array(ratios))
    scales, ratios = scales.flatten(), ratios.flatten()
    heights, widths = scales / np.sqrt(ratios), scales * np.sqrt(ratios)
    center_y = np.arange(0, shape[0], anchor_stride) * feature_stride
    center_x = np.arange(0, shape[1], anchor_stride) * feature_stride
    center_x, center_y = np.meshgrid(center_x, center_y)
    centers = np.stack(
        [center_y.reshape(-1, 1), center_x.reshape(-1, 1)], axis=-1
    )  # [cells, 1, (y, x)]
    sizes = np.stack([heights, widths], axis=-1)[None]  # [1, shapes, (h, w)]
    return np.concatenate([centers - 0.5 * sizes, centers + 0.5 * sizes], axis=-1).reshape(-1, 4)


def generate_pyramid_anchors(
    scales, ratios, feature_shapes, feature_strides, anchor_stride
) -> np.ndarray:
    """`[N, (y1, x1, y2, x2)]` anchors in pixels, level after level, of the first levels: one scale per level."""
    if len(scales) > min(len(feature_shapes), len(feature_strides)):
        raise ValueError(
            f"Each scale needs a pyramid level. Received: {len(scales)} scales, {len(feature_shapes)} shapes and "
            f"{len(feature_strides)} strides. Try fewer scales."
        )
    levels = zip(scales, feature_shapes, feature_strides, strict=False)
    return np.concatenate(
        [
            generate_anchors(scale, ratios, shape, stride, anchor_stride)
            for scale, shape, stride in levels
        ]
    )


def compute_backbone_shapes(config, image_shape) -> np.ndarray:
    """`[5, (height, width)]` sizes of P2..P6 for an image of this shape."""
    if callable(config.BACKBONE):
        return config.COMPUTE_BACKBONE_SHAPE(image_shape)
    height, width = image_shape[:2]
    return np.array(
        [[-(-height // stride), -(-width // stride)] for stride in config.BACKBONE_STRIDES]
    )


def pyramid_anchors(config, image_shape) -> np.ndarray:
    """`[A, (y1, x1, y2, x2)]` pixel anchors of the config's network for an image of this shape.

    With k RPN_ANCHOR_SCALES the RPN looks at the first k pyramid levels.
    """
    return generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        compute_backbone_shapes(config, image_shape),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )

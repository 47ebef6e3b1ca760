"""Anchors of pyramid levels, as NumPy arrays: `(y1, x1, y2, x2)` in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def generate_anchors(
    scales: Any,
    ratios: Any,
    shape: Any,
    feature_stride: int | Sequence[int],
    anchor_stride: int,
    rounded: bool = False,
) -> np.ndarray:
    """`[A, 4]` anchors of one level: row by row, at each cell by ratio and then by scale.

    scales: side(s) in pixels. ratios: width / height. shape: `(height, width)` of the feature map.
    feature_stride: pixels per cell, or `(rows, columns)` of them. anchor_stride: cells per anchor.
    rounded: round the sides of an anchor at position 0 to whole pixels, half to even (torchvision).
    """
    row_stride, column_stride = np.broadcast_to(feature_stride, [2])
    scales, ratios = np.meshgrid(np.array(scales), np.array(ratios))
    scales, ratios = scales.flatten(), ratios.flatten()
    heights, widths = scales / np.sqrt(ratios), scales * np.sqrt(ratios)
    center_y = np.arange(0, shape[0], anchor_stride) * row_stride
    center_x = np.arange(0, shape[1], anchor_stride) * column_stride
    center_x, center_y = np.meshgrid(center_x, center_y)
    centers = np.stack([center_y.ravel(), center_x.ravel()], axis=-1)[:, None]  # [cells, 1, (y, x)]
    halves = 0.5 * np.stack([heights, widths], axis=-1)[None]  # [1, shapes, (h, w)]
    if rounded:
        halves = np.round(halves)
    anchors = np.concatenate([centers - halves, centers + halves], axis=-1)
    return anchors.reshape(-1, 4)


def generate_pyramid_anchors(
    scales: Sequence,
    ratios: Any,
    feature_shapes: Any,
    feature_strides: Sequence[int | Sequence[int]],
    anchor_stride: int,
    rounded: bool = False,
) -> np.ndarray:
    """`[A, 4]` anchors of the first levels, one level after another.

    scales: of each level the side, or several sides, in pixels.
    feature_shapes: `[levels, (height, width)]`. The other arguments: see `generate_anchors`.

    Raises: ValueError if there are more scales than levels.
    """
    if len(scales) > min(len(feature_shapes), len(feature_strides)):
        raise ValueError(
            f"Each scale needs a pyramid level. Received: {len(scales)} scales, "
            f"{len(feature_shapes)} shapes and {len(feature_strides)} strides. Try fewer scales."
        )
    levels = []
    for scale, shape, stride in zip(scales, feature_shapes, feature_strides, strict=False):
        levels.append(generate_anchors(scale, ratios, shape, stride, anchor_stride, rounded))
    return np.concatenate(levels)


def compute_backbone_shapes(config: Any, image_shape: Any) -> np.ndarray:
    """`[levels, (height, width)]` sizes of the pyramid's levels for an image `(H, W, ...)`."""
    if callable(config.BACKBONE) and len(config.BACKBONE_STRIDES) > 1:
        return config.COMPUTE_BACKBONE_SHAPE(image_shape)
    height, width = image_shape[:2]
    shapes = [[-(-height // stride), -(-width // stride)] for stride in config.BACKBONE_STRIDES]
    return np.array(shapes)


def pyramid_anchors(config: Any, image_shape: Any) -> np.ndarray:
    """`[A, 4]` anchors of the config's network for an image `(H, W, ...)`.

    With k RPN_ANCHOR_SCALES the RPN reads the first k pyramid levels. Without a pyramid, all of
    them are of the one level.
    """
    shapes, strides = compute_backbone_shapes(config, image_shape), config.BACKBONE_STRIDES
    if config.ROUND_ANCHORS:
        strides = [np.array(image_shape[:2]) // shape for shape in shapes]
    return generate_pyramid_anchors(
        config.anchor_scales(),
        config.RPN_ANCHOR_RATIOS,
        shapes,
        strides,
        config.RPN_ANCHOR_STRIDE,
        config.ROUND_ANCHORS,
    )

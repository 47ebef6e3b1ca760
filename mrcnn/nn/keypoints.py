"""The keypoint head (Mask R-CNN, section 5), and the heatmap cells that it learns.

A keypoint of a RoI is one cell of a heatmap that covers the RoI: cross-entropy over all cells.

Shape shorthand: B images, P RoIs, K keypoints, h and w the sides of a heatmap.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as KL

from .boxes import to_pixels
from .keras_ops import ops
from .layers import FLOAT32, RoIConv2D, RoIConv2DTranspose, RoIUpSampling2D
from .roi_align import roi_align


def keypoint_head(rois: Any, pyramid: list, image_meta: Any, config: Any) -> Any:
    """Eight 3x3 convolutions, a transposed one to twice the size, and bilinear doubling.

    rois: `[B, P, (y1, x1, y2, x2)]` normalized. pyramid: the levels from P2 on, `[B, H, W, C]`.
    image_meta: `[B, IMAGE_META_SIZE]`.

    Returns: heatmaps `[B, P, h, w, K]`, logits; h and w are 4 times KEYPOINT_POOL_SIZE.
    """
    size, channels = config.KEYPOINT_POOL_SIZE, config.KEYPOINT_CHANNELS
    x = roi_align(rois, image_meta, pyramid, size, config, "roi_align_keypoint")
    for i in range(1, config.KEYPOINT_CONV_LAYERS + 1):
        name = f"mrcnn_keypoint_conv{i}"
        x = RoIConv2D(channels, (3, 3), padding="same", activation="relu", name=name)(x)
    x = RoIConv2DTranspose(
        config.NUM_KEYPOINTS,
        (4, 4),
        strides=2,
        padding="same",
        name="mrcnn_keypoint_deconv",
        **FLOAT32,
    )(x)
    return RoIUpSampling2D(2, interpolation="bilinear", name="mrcnn_keypoint", **FLOAT32)(x)


class KeypointCells(KL.Layer):
    """`[B, P, K]` int32 the cell of each keypoint, row by row; -1 if it does not count.

    A keypoint outside its RoI, or of visibility 0, does not count.

    Inputs: rois `[B, P, (y1, x1, y2, x2)]` normalized, keypoints `[B, P, K, (y, x, visibility)]` in
    pixels, image `[B, H, W, C]`.
    side: h and w of the heatmaps. continuous: see `boxes.normalize`.
    """

    def __init__(self, side: int, continuous: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.side = side
        self.continuous = continuous

    def call(self, inputs):
        rois, keypoints, image = inputs
        pixels = to_pixels(rois, ops.shape(image)[1:3], self.continuous)
        return keypoint_cells(pixels, keypoints, self.side)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[1].shape[:-1], "int32")

    def compute_output_shape(self, input_shape):
        return input_shape[1][:-1]


def keypoint_cells(rois: Any, keypoints: Any, side: int) -> Any:
    """`[B, P, K]` int32 the cell of each keypoint; see `KeypointCells`.

    A keypoint on the lower or right edge of its RoI belongs to the last row or column.

    rois: `[B, P, (y1, x1, y2, x2)]` in pixels. keypoints: `[B, P, K, (y, x, visibility)]`.
    """
    corner, end = rois[:, :, None, :2], rois[:, :, None, 2:]
    places, visibility = keypoints[..., :2], keypoints[..., 2]
    # A RoI without a side is padding, and has no visible keypoint.
    scale = side / ops.maximum(end - corner, 1e-6)
    cells = ops.floor((places - corner) * scale)  # [B, P, K, (row, column)]
    cells = ops.where(places == end, side - 1.0, cells)
    is_inside = ops.all((cells >= 0) & (cells < side), axis=-1)
    cells = ops.cast(ops.clip(cells, 0, side - 1), "int32")
    index = cells[..., 0] * side + cells[..., 1]
    return ops.where(is_inside & (visibility > 0), index, -1)

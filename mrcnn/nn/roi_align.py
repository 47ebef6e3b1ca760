"""The features of RoIs, from the level of the pyramid that fits each of them.

Shape shorthand: B images, N RoIs, C channels. Boxes are `(y1, x1, y2, x2)`, normalized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers as KL

from . import boxes as box_math
from .crop_and_resize import crop_and_resize
from .image_meta import META_COLUMNS
from .keras_ops import ops
from .layers import FLOAT32, unfold_rois
from .portable import is_portable
from .roi_gather import gather_crops, gather_roi_align
from .roi_pooling import POOLINGS


def log2_graph(x: Any) -> Any:
    """`[...]` the logarithm to base 2 of each element of `[...]`."""
    return ops.log2(x)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(KL.Layer):
    """`[B, N, height, width, C]` features of each RoI from the pyramid level that fits its size.

    Inputs: rois `[B, N, 4]`, image_meta `[B, IMAGE_META_SIZE]`, then the levels, the finest first.
    pool_shape: `(height, width)`.
    canonical_size: a RoI of this side in pixels is read from P4 (FPN, equation 1).
    method, samples, gather, level_rule, continuous: see `Config.ROI_ALIGN`, `ROI_ALIGN_SAMPLES`,
        `ROI_ALIGN_GATHER`, `FPN_LEVEL_RULE` and `CONTINUOUS_BOXES`.
    finest_level: number of the first of the levels, 2 for P2.
    """

    def __init__(
        self,
        pool_shape: Sequence[int],
        canonical_size: float = 224.0,
        method: str = "crop_and_resize",
        samples: int = 2,
        level_rule: str = "round",
        continuous: bool = False,
        gather: bool = False,
        finest_level: int = 2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.pool_shape = tuple(pool_shape)
        self.canonical_size = canonical_size
        self.method = method
        self.samples = samples
        self.level_rule = level_rule
        self.continuous = continuous
        self.gather = gather
        self.finest_level = finest_level
        self.supports_jit = gather  # XLA cannot compile crop_and_resize and sparse products

    def call(self, inputs):
        rois, image_meta, *feature_maps = inputs
        flat = ops.reshape(ops.stop_gradient(rois), [-1, 4])  # [B * N, 4]
        image_shape = ops.cast(image_meta[0, META_COLUMNS["image_shape"]], "float32")
        height, width, _ = ops.unstack(image_shape, 3)
        levels = self.levels(flat, height * width, len(feature_maps))
        image_index = image_of_rois(rois)
        gather = self.gather or is_portable()
        if len(feature_maps) == 1 and not gather:
            pooled = self._pool(feature_maps[0], flat, image_index, (height, width))
            return unfold_rois(pooled, rois)
        if gather:
            pooled = self._gather(feature_maps, flat, levels, image_index, (height, width))
            return unfold_rois(pooled, rois)

        def pool(level, index):
            boxes, images = tf.gather(flat, index), tf.gather(image_index, index)
            return self._pool(feature_maps[level], boxes, images, (height, width))

        pooled = gather_rois_by_level(levels, len(feature_maps), pool)
        pooled = tf.ensure_shape(pooled, [None, *self.pool_shape, feature_maps[0].shape[-1]])
        return unfold_rois(pooled, rois)

    def _pool(self, feature_map, rois, image_index, image_shape):
        """`[K, height, width, C]` the features of rois `[K, 4]` of one level."""
        if self.method == "crop_and_resize":
            return crop_and_resize(feature_map, rois, image_index, self.pool_shape)
        scale = ops.tile(_cells_per_pixel(feature_map, image_shape), [2])
        cells = box_math.to_pixels(rois, image_shape, self.continuous) * scale
        pool = POOLINGS[self.method]
        return pool(feature_map, cells, image_index, self.pool_shape, self.samples)

    def _gather(self, feature_maps, rois, levels, image_index, image_shape):
        """`[K, height, width, C]` the features of rois `[K, 4]`, each of its level."""
        if self.method == "crop_and_resize":
            return gather_crops(feature_maps, rois, levels, image_index, self.pool_shape)
        return gather_roi_align(
            feature_maps,
            box_math.to_pixels(rois, image_shape, self.continuous),
            levels,
            image_index,
            ops.stack([_cells_per_pixel(x, image_shape) for x in feature_maps]),
            self.pool_shape,
            self.samples,
            is_aligned=self.method == "aligned",
        )

    def levels(self, rois: Any, image_area: Any, count: int) -> Any:
        """`[N]` int32 in 0..count-1: the pyramid level of each RoI, 0 for the finest.

        rois: `[N, 4]`. image_area: pixels of the image.
        """
        area = ops.maximum(box_math.area(rois), 1e-12)  # padding rows have no area
        size = ops.sqrt(area * image_area)  # pixels
        level = log2_graph(size / self.canonical_size)
        if self.level_rule == "round":
            level = 4.0 + ops.round(level)
        else:
            # 4 first, as in their code: it rounds away the error of a size at a limit. detectron2
            # adds less than float32 can hold.
            level = ops.floor(4.0 + level + (1e-6 if self.method == "unaligned" else 0.0))
        # Clipped as integers, so that the RoIs of a diverged training (NaN) have a level too.
        return ops.clip(ops.cast(level - self.finest_level, "int32"), 0, count - 1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:2], *self.pool_shape, input_shape[2][-1])


def roi_align(rois: Any, image_meta: Any, pyramid: list, side: int, config: Any, name: str) -> Any:
    """`[B, N, side, side, C]` features of the RoIs, by a `PyramidROIAlign` with the settings.

    rois: `[B, N, 4]`. image_meta: `[B, IMAGE_META_SIZE]`.
    pyramid: the levels, the finest first, `[B, h, w, C]`.
    """
    layer = PyramidROIAlign(
        (side, side),
        config.FPN_CANONICAL_SIZE,
        config.ROI_ALIGN,
        config.ROI_ALIGN_SAMPLES,
        config.FPN_LEVEL_RULE,
        config.CONTINUOUS_BOXES,
        config.ROI_ALIGN_GATHER,
        config.finest_level(),
        name=name,
        **FLOAT32,
    )
    return layer([rois, image_meta, *pyramid])


def _cells_per_pixel(feature_map, image_shape):
    """`[(y, x)]` the scale of a map `[B, H, W, C]` of images of shape `(height, width)`.

    A power of two, as in torchvision: a map whose size was rounded up reaches beyond the image.
    """
    sides = ops.cast(ops.shape(feature_map)[1:3], "float32")
    return ops.power(2.0, ops.round(log2_graph(sides / ops.stack(image_shape))))


def image_of_rois(rois: Any) -> tf.Tensor:
    """`[B * N]` int32 the image index of each RoI of `[B, N, ...]`."""
    count = rois.shape[1] or tf.shape(rois)[1]
    return tf.range(tf.shape(rois)[0] * count) // count


def gather_rois_by_level(levels: Any, count: int, pool: Callable) -> tf.Tensor:
    """`[N, ...]` the result of `pool(level, indices)` of each level, in the order of the RoIs.

    levels: `[N]` int32 in 0..count-1. pool: called once per level with the `[K]` int32 indices of
    the level's RoIs.
    """
    indices, pooled = [], []
    for level in range(count):
        found = tf.reshape(tf.where(levels == level), [-1])
        indices.append(tf.cast(found, tf.int32))
        pooled.append(pool(level, indices[-1]))
    return tf.dynamic_stitch(indices, pooled)

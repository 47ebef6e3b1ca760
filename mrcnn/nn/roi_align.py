"""RoI align on a feature pyramid, and `crop_and_resize` with its exact gradient.

Shape shorthand: B images, N RoIs, C channels. Boxes are `(y1, x1, y2, x2)`, normalized.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers as KL

from . import boxes as box_math
from .custom_gradient import traced_once
from .image_meta import META_COLUMNS
from .keras_ops import ops
from .layers import unfold_rois


def log2_graph(x: Any) -> Any:
    """`[...]` the logarithm to base 2 of each element of `[...]`."""
    return ops.log2(x)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(KL.Layer):
    """`[B, N, height, width, C]` features of each RoI from the pyramid level that fits its size.

    Inputs: rois `[B, N, 4]`, image_meta `[B, IMAGE_META_SIZE]`, then the levels from P2 on.
    pool_shape: `(height, width)`.
    canonical_size: a RoI of this side in pixels is read from P4 (FPN, equation 1).
    """

    def __init__(self, pool_shape: Sequence[int], canonical_size: float = 224.0, **kwargs):
        super().__init__(**kwargs)
        self.pool_shape = tuple(pool_shape)
        self.canonical_size = canonical_size
        self.supports_jit = False  # XLA cannot compile crop_and_resize

    def call(self, inputs):
        rois, image_meta, *feature_maps = inputs
        flat = ops.reshape(ops.stop_gradient(rois), [-1, 4])  # [B * N, 4]
        image_shape = ops.cast(image_meta[0, META_COLUMNS["image_shape"]], "float32")
        height, width, _ = ops.unstack(image_shape, 3)
        levels = self.levels(flat, height * width, len(feature_maps))
        image_index = image_of_rois(rois)

        def pool(level, index):
            boxes, images = tf.gather(flat, index), tf.gather(image_index, index)
            return crop_and_resize(feature_maps[level], boxes, images, self.pool_shape)

        pooled = gather_rois_by_level(levels, len(feature_maps), pool)
        pooled = tf.ensure_shape(pooled, [None, *self.pool_shape, feature_maps[0].shape[-1]])
        return unfold_rois(pooled, rois)

    def levels(self, rois: Any, image_area: Any, count: int) -> Any:
        """`[N]` int32 in 0..count-1: the pyramid level of each RoI, 0 for P2.

        rois: `[N, 4]`. image_area: pixels of the image.
        """
        area = ops.maximum(box_math.area(rois), 1e-12)  # padding rows have no area
        size = ops.sqrt(area * image_area)  # pixels
        level = 2.0 + ops.round(log2_graph(size / self.canonical_size))
        # Clipped as integers, so that the RoIs of a diverged training (NaN) have a level too.
        return ops.clip(ops.cast(level, "int32"), 0, count - 1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:2], *self.pool_shape, input_shape[2][-1])


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


def crop_and_resize(images: Any, boxes: Any, box_indices: Any, size: Sequence[int]) -> tf.Tensor:
    """`[N, height, width, C]` float32: a bilinear crop of an image for each box.

    The gradient is exact and repeatable. TensorFlow's own kernel on CPUs adds from several threads
    without a lock and loses additions at random (tensorflow issue 42033).

    images: `[B, H, W, C]`. boxes: `[N, 4]`, constants to the gradient.
    box_indices: `[N]` the image of each box. size: `(height, width)`.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.bfloat16:  # TensorFlow's kernel does not accept it
        images = tf.cast(images, tf.float32)
    boxes, box_indices = tf.cast(boxes, tf.float32), tf.cast(box_indices, tf.int32)
    crops = _crop_graph(images.dtype, tuple(size))(images, boxes, box_indices)
    return tf.ensure_shape(crops, [None, *size, images.shape[3]])


@functools.cache
def _crop_graph(dtype, size):
    @tf.custom_gradient
    def crop(images, boxes, box_indices):
        def gradients(crops):
            return _crop_gradient(crops, boxes, box_indices, size, tf.shape(images)), None, None

        return tf.image.crop_and_resize(images, boxes, box_indices, size), gradients

    images = tf.TensorSpec([None, None, None, None], dtype)
    return traced_once(crop, images, tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32))


def _crop_gradient(crops, boxes, box_indices, size, shape):
    """`[B, H, W, C]` the gradient with respect to the images.

    Each sample of a crop is a weighted sum of four pixels; its gradient is added to these four with
    the same weights: a product of a sparse matrix, `[pixels, samples]`, and the crops' gradients.

    crops: `[N, height, width, C]` the gradient with respect to the crops. shape: `[B, H, W, C]`.
    """
    rows, row_weights = _axis_samples(boxes[:, 0], boxes[:, 2], shape[1], size[0])
    columns, column_weights = _axis_samples(boxes[:, 1], boxes[:, 3], shape[2], size[1])
    batch, height, width, channels = tf.unstack(tf.cast(shape, tf.int64))
    rows += (tf.cast(box_indices, tf.int64) * height)[:, None, None]
    # All [N, height, width, 2, 2].
    pixels = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    crops = tf.reshape(tf.cast(crops, tf.float32), [-1, channels])  # [samples, C]
    count = tf.shape(crops, tf.int64)[0]
    sample_of_weight = tf.repeat(tf.range(count), 4)
    gradient = tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.stack([tf.reshape(pixels, [-1]), sample_of_weight], axis=1),
        a_values=tf.reshape(weights, [-1]),
        a_shape=[batch * height * width, count],
        b=crops,
    )
    return tf.reshape(gradient, shape)


def _axis_samples(low, high, length, count):
    """`[N, count, 2]` the two pixels next to each sample along an axis, and their weights.

    low, high: `[N]` normalized ends of the boxes. length: pixels of the axis. count: samples.
    """
    last = tf.cast(length - 1, tf.float32)
    if count > 1:
        step = ((high - low) * last / (count - 1))[:, None]
        position = (low * last)[:, None] + tf.range(count, dtype=tf.float32) * step
    else:
        position = (0.5 * (low + high) * last)[:, None]
    below = tf.floor(position)
    weights = tf.stack([1 - position + below, position - below], axis=-1)
    is_inside = (position >= 0) & (position <= last)
    weights = tf.where(is_inside[..., None], weights, 0.0)  # outside the image samples are 0
    pixels = tf.cast(tf.stack([below, tf.math.ceil(position)], axis=-1), tf.int64)
    return tf.clip_by_value(pixels, 0, tf.cast(length, tf.int64) - 1), weights

"""RoI align."""

from __future__ import annotations

import functools

import keras
import tensorflow as tf
from keras import layers as KL
from keras import ops

from . import boxes as box_math
from .custom_gradient import traced_once
from .image_meta import META_COLUMNS
from .layers import unfold_rois


def log2_graph(x):
    """The logarithm to base 2, element by element."""
    return ops.log2(x)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(KL.Layer):
    """`[B, N, height, width, C]` features of each RoI, read from the pyramid level that fits its size.

    Inputs: rois `[B, N, (y1, x1, y2, x2)]` normalised, image_meta `[B, IMAGE_META_SIZE]`, P2..P5.
    pool_shape: `(height, width)`. canonical_size: a RoI of so many pixels is read from P4 (FPN, equation 1).
    """

    def __init__(self, pool_shape, canonical_size=224.0, **kwargs):
        super().__init__(**kwargs)
        self.pool_shape = tuple(pool_shape)
        self.canonical_size = canonical_size
        self.supports_jit = (
            False  # crop_and_resize: XLA cannot compile it, and on a GPU Keras would try
        )

    def call(self, inputs):
        rois, image_meta, *feature_maps = inputs
        flat = ops.reshape(ops.stop_gradient(rois), [-1, 4])  # [B * N, 4]
        image_shape = ops.cast(image_meta[0, META_COLUMNS["image_shape"]], "float32")
        height, width, _ = ops.unstack(image_shape, 3)
        levels = self.levels(flat, height * width, len(feature_maps))
        image_index = image_of_rois(rois)

        def pool(level, index):
            crops = tf.gather(flat, index), tf.gather(image_index, index)
            return crop_and_resize(feature_maps[level], *crops, self.pool_shape)

        pooled = gather_rois_by_level(levels, len(feature_maps), pool)
        return unfold_rois(
            tf.ensure_shape(pooled, [None, *self.pool_shape, feature_maps[0].shape[-1]]), rois
        )

    def levels(self, rois, image_area, count):
        """`[N]` int32 in 0..count-1: the pyramid level of each RoI, 0 for P2."""
        size = ops.sqrt(
            ops.maximum(box_math.area(rois), 1e-12) * image_area
        )  # pixels; padding rows have no area
        level = 2.0 + ops.round(log2_graph(size / self.canonical_size))
        # Clipped as integers: what is not finite, once a training diverged, still has a level.
        return ops.clip(ops.cast(level, "int32"), 0, count - 1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:2], *self.pool_shape, input_shape[2][-1])


def crop_and_resize(images, boxes, box_indices, size):
    """`[N, height, width, channels]` float32: a bilinear crop of an image per box.

    images: `[B, H, W, channels]`. boxes: `[N, (y1, x1, y2, x2)]` normalised, no gradient flows into them.
    box_indices: `[N]` the image of each box. size: `(height, width)`.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.bfloat16:  # the kernel refuses it
        images = tf.cast(images, tf.float32)
    crops = _crop_graph(images.dtype, tuple(size))(
        images, tf.cast(boxes, tf.float32), tf.cast(box_indices, tf.int32)
    )
    return tf.ensure_shape(crops, [None, *size, images.shape[3]])


@functools.cache
def _crop_graph(dtype, size):
    @tf.custom_gradient
    def crop(images, boxes, box_indices):
        def gradients(crops):
            return _spread_crops(crops, boxes, box_indices, size, tf.shape(images)), None, None

        return tf.image.crop_and_resize(images, boxes, box_indices, size), gradients

    images = tf.TensorSpec([None, None, None, None], dtype)
    return traced_once(crop, images, tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32))


def _spread_crops(crops, boxes, box_indices, size, shape):
    """`[B, H, W, channels]` the gradient of `crop_and_resize`: what each crop's pixels took, given back and added up.

    TensorFlow's own kernel on CPUs lets several threads add to one pixel without a lock and so loses some of the
    additions, at random (tensorflow issue 42033): the gradients of one batch differed from call to call.
    """

    def samples(low, high, length, count):
        """`[N, count, 2]` the pixels on either side of each sample of an axis, and their shares in it."""
        last = tf.cast(length - 1, tf.float32)
        if count > 1:
            steps = tf.range(count, dtype=tf.float32) * ((high - low) * last / (count - 1))[:, None]
            position = (low * last)[:, None] + steps
        else:
            position = (0.5 * (low + high) * last)[:, None]
        below = tf.floor(position)
        shares = tf.stack([1 - position + below, position - below], axis=-1)
        shares = tf.where(
            ((position >= 0) & (position <= last))[..., None], shares, 0.0
        )  # outside the image is 0
        pixels = tf.cast(tf.stack([below, tf.math.ceil(position)], axis=-1), tf.int64)
        return tf.clip_by_value(pixels, 0, tf.cast(length, tf.int64) - 1), shares

    rows, row_shares = samples(boxes[:, 0], boxes[:, 2], shape[1], size[0])
    columns, column_shares = samples(boxes[:, 1], boxes[:, 3], shape[2], size[1])
    batch, height, width, channels = (tf.cast(length, tf.int64) for length in tf.unstack(shape))
    rows += (tf.cast(box_indices, tf.int64) * height)[:, None, None]
    pixels = (
        rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    )  # [N, height, width, 2, 2]
    shares = row_shares[:, :, None, :, None] * column_shares[:, None, :, None, :]
    pixels, crops = tf.reshape(pixels, [-1]), tf.reshape(tf.cast(crops, tf.float32), [-1, channels])
    count = tf.shape(crops, tf.int64)[0]
    spread = tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.stack([pixels, tf.repeat(tf.range(count), 4)], axis=1),
        a_values=tf.reshape(shares, [-1]),
        a_shape=[batch * height * width, count],
        b=crops,
    )
    return tf.reshape(spread, shape)


def image_of_rois(rois):
    """`[B * N]` int32 the image of each of `[B, N, ...]` RoIs."""
    count = rois.shape[1] or tf.shape(rois)[1]
    return tf.range(tf.shape(rois)[0] * count) // count


def gather_rois_by_level(levels, count, pool):
    """`[N, ...]` the result of `pool(level, indices)` for the RoIs of each level, in the RoIs' own order.

    levels: `[N]` int32 in 0..count-1. pool: called once per level with the `[K]` int32 indices of its RoIs.
    """
    indices = [
        tf.cast(tf.reshape(tf.where(levels == level), [-1]), tf.int32) for level in range(count)
    ]
    return tf.dynamic_stitch(indices, [pool(level, chosen) for level, chosen in enumerate(indices)])

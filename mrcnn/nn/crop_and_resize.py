"""`crop_and_resize` with its exact gradient.

Shape shorthand: N boxes, C channels. Boxes are `(y1, x1, y2, x2)`, normalized.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from .custom_gradient import traced_once
from .sparse_product import transposed_product


def crop_and_resize(images: Any, boxes: Any, box_indices: Any, size: Sequence[int]) -> tf.Tensor:
    """`[N, height, width, C]` float32: a bilinear crop of an image for each box.

    The gradient is exact and repeatable. TensorFlow's own kernel on CPUs adds from several threads
    without a lock and loses additions at random (tensorflow issue 42033).

    images: `[B, H, W, C]`. boxes: `[N, 4]`, constants to the gradient.
    box_indices: `[N]` the image of each box. size: `(height, width)`, or a tensor of them.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.bfloat16:  # TensorFlow's kernel does not accept it
        images = tf.cast(images, tf.float32)
    # In a graph that was traced before, the gradient of the boxes would be zeros, not None.
    boxes = tf.stop_gradient(tf.cast(boxes, tf.float32))
    box_indices = tf.cast(box_indices, tf.int32)
    crops = _crop_graph(images.dtype)(images, boxes, box_indices, tf.cast(size, tf.int32))
    sides = [None, None] if tf.is_tensor(size) else size
    return tf.ensure_shape(crops, [None, *sides, images.shape[3]])


@functools.cache
def _crop_graph(dtype):
    @tf.custom_gradient
    def crop(images, boxes, box_indices, size):
        def gradients(crops):
            gradient = _crop_gradient(crops, boxes, box_indices, size, tf.shape(images))
            return gradient, None, None, None

        return tf.image.crop_and_resize(images, boxes, box_indices, size), gradients

    return traced_once(
        crop,
        tf.TensorSpec([None, None, None, None], dtype),
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([2], tf.int32),
    )


def _crop_gradient(crops, boxes, box_indices, size, shape):
    """`[B, H, W, C]` the gradient with respect to the images.

    Each sample of a crop is a weighted sum of four pixels; its gradient is added to these four with
    the same weights: a product of a sparse matrix, `[pixels, samples]`, and the crops' gradients.

    crops: `[N, height, width, C]` the gradient with respect to the crops. size: `[2]`.
    shape: `[B, H, W, C]`.
    """
    rows, row_weights = _axis_samples(boxes[:, 0], boxes[:, 2], shape[1], size[0])
    columns, column_weights = _axis_samples(boxes[:, 1], boxes[:, 3], shape[2], size[1])
    batch, height, width, channels = tf.unstack(tf.cast(shape, tf.int64))
    rows += (tf.cast(box_indices, tf.int64) * height)[:, None, None]
    # All [N, height, width, 2, 2].
    pixels = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]
    crops = tf.reshape(tf.cast(crops, tf.float32), [-1, channels])  # [samples, C]
    sample_of_weight = tf.repeat(tf.range(tf.shape(crops, tf.int64)[0]), 4)
    indices = tf.stack([sample_of_weight, tf.reshape(pixels, [-1])], axis=1)
    weights = tf.reshape(weights, [-1])
    gradient = transposed_product(indices, weights, batch * height * width, crops)
    return tf.reshape(gradient, shape)


def _axis_samples(low, high, length, count):
    """`[N, count, 2]` the two pixels next to each sample along an axis, and their weights.

    low, high: `[N]` normalized ends of the boxes. length: pixels of the axis. count: samples.
    """
    last = tf.cast(length - 1, tf.float32)
    step = (high - low) * last / tf.cast(tf.maximum(count - 1, 1), tf.float32)
    # A single sample is that of the middle.
    first = tf.where(count > 1, low, 0.5 * (low + high)) * last
    position = first[:, None] + tf.cast(tf.range(count), tf.float32) * step[:, None]
    below = tf.floor(position)
    weights = tf.stack([1 - position + below, position - below], axis=-1)
    is_inside = (position >= 0) & (position <= last)
    weights = tf.where(is_inside[..., None], weights, 0.0)  # outside the image samples are 0
    pixels = tf.cast(tf.stack([below, tf.math.ceil(position)], axis=-1), tf.int64)
    return tf.clip_by_value(pixels, 0, tf.cast(length, tf.int64) - 1), weights

"""Keras layers that Keras does not have, or has slower."""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers as KL
from keras import ops

from . import boxes as box_math
from . import winograd
from .anchors import generate_anchors
from .custom_gradient import traced_once

# Of the layers that stay exact whatever PRECISION says: boxes, probabilities, RoI align.
FLOAT32 = {"dtype": "float32"}


def convolution(images, kernel):
    """`[B, H, W, filters]` the convolution of stride 1 and padding "same".

    The gradient with respect to the images is a convolution as well, with the kernel rotated by 180 degrees;
    TensorFlow's own op for it takes twice as long on a CPU without AVX-512. There, within `winograd.where_it_pays`,
    the convolution itself saves another third.
    images: `[B, H, W, C]`. kernel: `[h, w, C, filters]`, h and w odd.
    """
    if winograd.pays(kernel):
        return winograd.convolution(images, kernel)
    outputs = _convolution_graph(kernel.shape, kernel.dtype)(images, kernel)
    if not tf.executing_eagerly():
        outputs.set_shape([*images.shape[:3], kernel.shape[3]])
    return outputs


@functools.cache
def _convolution_graph(shape, dtype):
    @tf.custom_gradient
    def convolve(images, kernel):
        def gradients(outputs):
            height, width, channels, filters = shape
            rotated = tf.transpose(tf.reshape(kernel, [-1, channels, filters]), [0, 2, 1])
            rotated = tf.gather(
                rotated, range(height * width)[::-1]
            )  # `kernel[::-1, ::-1]` takes longer than the gain
            rotated = tf.reshape(rotated, [height, width, filters, channels])
            into_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=shape,
                out_backprop=outputs,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return tf.nn.conv2d(outputs, rotated, 1, "SAME"), into_kernel

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradients

    return traced_once(
        convolve, tf.TensorSpec([None, None, None, shape[2]], dtype), tf.TensorSpec(shape, dtype)
    )


@keras.saving.register_keras_serializable("mrcnn")
class Conv2D(KL.Conv2D):
    """Keras' convolution with its bias in one op, not four: an eighth of the time of tracing ResNet101."""

    def call(self, inputs):
        outputs = self.convolution_op(inputs, self.kernel)
        return self.activation(tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs)


@keras.saving.register_keras_serializable("mrcnn")
class SameConv2D(Conv2D):
    """`Conv2D` that keeps the size of its input by `ops.convolution`, the faster one to train; else Keras' own."""

    def convolution_op(self, inputs, kernel):
        plain = self.padding == "same" and self.strides == self.dilation_rate == (1, 1)
        if plain and all(side % 2 for side in self.kernel_size):
            return convolution(inputs, tf.convert_to_tensor(kernel))
        return super().convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(KL.BatchNormalization):
    """Batch norm whose statistics can stay as they are while gamma and beta learn.

    train_bn: False keeps the statistics (small batches); None or True learns them.
    """

    def __init__(self, train_bn=None, **kwargs):
        super().__init__(**kwargs)
        self.train_bn = train_bn

    def __call__(self, inputs, *args, **kwargs):
        # matterport's way to say it is BatchNorm(name=...)(x, training=False), which Keras 3 forgets in fit.
        if not self.built and self.train_bn is None:
            self.train_bn = kwargs.get("training")
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        # One fused kernel in place of Keras's chain of ops: 2 to 4 times faster on a CPU, the same numbers.
        learns = bool(training) and self.trainable and self.train_bn is not False
        # RoIs [B, N, h, w, C] fold into [B * N, h, w, C]; images stay as they are: the ops of a reshape, 110 times,
        # are a good part of what the first call waits for.
        rois = len(inputs.shape) != 4
        images = fold_rois(inputs) if rois else inputs
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images,
            scale=tf.cast(self.gamma.value, "float32"),
            offset=tf.cast(self.beta.value, "float32"),
            mean=[] if learns else self.moving_mean.value,
            variance=[] if learns else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(
                    moving * self.momentum + ops.stop_gradient(batch) * (1.0 - self.momentum)
                )
        return unfold_rois(outputs, inputs) if rois else outputs

    def get_config(self):
        return {**super().get_config(), "train_bn": self.train_bn}


@keras.saving.register_keras_serializable("mrcnn")
class Doubled(KL.Layer):
    """`[B, 2 H, 2 W, C]` of `[B, H, W, C]`: each pixel four times; `KL.UpSampling2D` of 2 in 8 ops, not 62."""

    def call(self, inputs):
        # Beside itself along the channels each pixel lies twice in its row; along the width then, each row twice.
        pixels = ops.concatenate([inputs, inputs], axis=3)
        rows = ops.concatenate([pixels, pixels], axis=2)  # [B, H, 2 W, 2 C]
        return tf.ensure_shape(
            tf.reshape(rows, tf.shape(inputs) * [1, 2, 2, 1]),
            self.compute_output_shape(inputs.shape),
        )

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return batch, height and 2 * height, width and 2 * width, channels


@keras.saving.register_keras_serializable("mrcnn")
class PerAnchor(KL.Reshape):
    """`[B, H * W * A, D]` of `[B, H, W, A * D]`: `KL.Reshape` that asks for the batch alone, not for every side."""

    def call(self, inputs):
        return tf.reshape(inputs, [tf.shape(inputs)[0], *self.target_shape])


class Anchors(KL.Layer):
    """`[B, A, (y1, x1, y2, x2)]` the anchors of IMAGE_SHAPE, normalised, once per image of the batch."""

    def __init__(self, anchors, **kwargs):
        super().__init__(**kwargs)
        self.anchors = np.float32(anchors)

    def call(self, image):
        return ops.broadcast_to(
            ops.convert_to_tensor(self.anchors), [ops.shape(image)[0], *self.anchors.shape]
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.anchors.shape)


class PyramidAnchors(KL.Layer):
    """`[B, A, (y1, x1, y2, x2)]` the anchors of images of any size, normalised.

    Inputs: image, then the pyramid levels that the RPN looks at, P2 first.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config

    def call(self, inputs):
        image, *pyramid = inputs
        step, levels = self.config.RPN_ANCHOR_STRIDE, []
        scales, strides = self.config.RPN_ANCHOR_SCALES, self.config.BACKBONE_STRIDES
        for scale, stride, level in zip(
            scales, strides, pyramid, strict=False
        ):  # as many levels as scales
            cell = generate_anchors(scale, self.config.RPN_ANCHOR_RATIOS, (1, 1), stride, 1)
            y, x = (
                ops.cast(tf.range(0, ops.shape(level)[axis], step) * stride, "float32")
                for axis in (1, 2)
            )
            y, x = ops.meshgrid(y, x, indexing="ij")
            shifts = ops.stack([y, x, y, x], axis=-1)[:, :, None]  # [rows, columns, 1, 4]
            levels.append(ops.reshape(shifts + np.float32(cell), [-1, 4]))
        anchors = box_math.normalize(ops.concatenate(levels), ops.shape(image)[1:3])
        return ops.broadcast_to(anchors, [ops.shape(image)[0], *ops.shape(anchors)])

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], None, 4)


class NormalizeBoxes(KL.Layer):
    """`[B, N, 4]` pixel boxes normalised by the image's own size. Inputs: boxes, image."""

    def call(self, inputs):
        pixel_boxes, image = inputs
        return box_math.normalize(ops.cast(pixel_boxes, "float32"), ops.shape(image)[1:3])

    def compute_output_shape(self, input_shape):
        return input_shape[0]


def fold_rois(x):
    """`[B * N, ...]` of `[B, N, ...]`: each RoI an image of its own."""
    return ops.reshape(x, [-1, *x.shape[2:]])


def unfold_rois(x, like):
    """`[B, N, ...]` of `[B * N, ...]`; like: `[B, N, ...]` what was folded."""
    batch, count = like.shape[:2]
    # The count is known as a rule, which saves a dozen ops.
    lead = [-1 if batch is None else batch, count] if count else ops.shape(like)[:2]
    return ops.reshape(x, [*lead, *x.shape[1:]])


class _PerRoI:
    """Lets an image layer see each RoI of `[B, N, h, w, C]` as one image of `[B * N, h, w, C]`.

    (TimeDistributed would unroll over the RoIs; folding them into the batch is a reshape without a copy.)
    """

    def build(self, input_shape):
        super().build((None, *input_shape[2:]))

    def call(self, inputs):
        return unfold_rois(super().call(fold_rois(inputs)), inputs)

    def compute_output_shape(self, input_shape):
        if len(input_shape) == 4:  # `build` asks for the folded shape
            return super().compute_output_shape(input_shape)
        folded = super().compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *folded[1:])

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), self.compute_dtype)


@keras.saving.register_keras_serializable("mrcnn")
class RoIConv2D(_PerRoI, SameConv2D):
    """`Conv2D` of each RoI: `[B, N, h, w, C]` in and out."""

    def call(self, inputs):
        whole = self.padding == "valid" and self.kernel_size == tuple(inputs.shape[2:4])
        if not whole and (self.kernel_size != (1, 1) or self.strides != (1, 1)):
            return super().call(inputs)
        # A kernel as large as the RoI is a matrix, and so is one of 1x1. As convolutions they take half as long again
        # on whole RoIs of 7x7, four times on RoIs of 1x1, and twice to train.
        size = math.prod(self.kernel_size) * inputs.shape[-1]
        x = ops.matmul(
            ops.reshape(inputs, [-1, size]), ops.reshape(self.kernel, [size, self.filters])
        )
        x = self.activation(tf.nn.bias_add(x, self.bias) if self.use_bias else x)
        sides = (1, 1) if whole else inputs.shape[2:4]
        return unfold_rois(ops.reshape(x, [-1, *sides, self.filters]), inputs)


@keras.saving.register_keras_serializable("mrcnn")
class RoIConv2DTranspose(_PerRoI, KL.Conv2DTranspose):
    """`Conv2DTranspose` of each RoI: `[B, N, h, w, C]` in and out."""

    def call(self, inputs):
        if self.strides != self.kernel_size:
            return super().call(inputs)
        # Each pixel gives a block of its own: a matrix product for each row of the blocks, in two fifths of the time.
        height, width, channels = inputs.shape[2:]
        rows, columns = self.kernel_size
        matrices = tf.reshape(self.kernel, [rows, columns * self.filters, channels])
        matrices = tf.unstack(
            tf.transpose(matrices, [0, 2, 1])
        )  # turned over first, in two thirds of the time
        pixels = ops.reshape(inputs, [-1, channels])
        x = [
            ops.reshape(ops.matmul(pixels, m), [-1, 1, width * columns * self.filters])
            for m in matrices
        ]
        x = ops.reshape(
            ops.concatenate(x, axis=1), [-1, height * rows, width * columns, self.filters]
        )
        return unfold_rois(
            self.activation(tf.nn.bias_add(x, self.bias) if self.use_bias else x), inputs
        )


@keras.saving.register_keras_serializable("mrcnn")
class RoIDense(_PerRoI, KL.Dense):
    """`Dense` of each RoI: `[B, N, C]` in and out; Keras' own asks for all shapes first, in 16 ops."""

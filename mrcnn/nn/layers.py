"""Layers that Keras does not have, or has in a much slower form.

Shape shorthand: B images, A anchors, N RoIs, C channels, h and w the sides of a pooled RoI.
"""

from __future__ import annotations

import functools
import math
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from keras import layers as KL

from . import boxes as box_math
from .anchors import generate_anchors
from .custom_gradient import traced_once
from .keras_ops import ops
from .portable import is_portable

# For layers that compute in float32 whatever PRECISION says: boxes, probabilities, RoI align.
FLOAT32: dict[str, Any] = {"dtype": "float32"}


# --- Convolutions ---


def convolution(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`[B, H, W, filters]` the convolution of stride 1 and padding "same".

    The gradient with respect to the images is a convolution with the kernel rotated by 180 degrees.
    TensorFlow's own op for that gradient takes twice as long on a CPU without AVX-512.

    images: `[B, H, W, C]`. kernel: `[h, w, C, filters]`, h and w odd.
    """
    outputs = _convolution_graph(kernel.shape, kernel.dtype)(images, kernel)
    if not tf.executing_eagerly():
        outputs.set_shape([*images.shape[:3], kernel.shape[3]])
    return outputs


@functools.cache
def _convolution_graph(shape, dtype):
    @tf.custom_gradient
    def convolve(images, kernel):
        def gradients(outputs):
            kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
                input=images,
                filter_sizes=shape,
                out_backprop=outputs,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return tf.nn.conv2d(outputs, _rotate(kernel, shape), 1, "SAME"), kernel_gradient

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradients

    images = tf.TensorSpec([None, None, None, shape[2]], dtype)
    return traced_once(convolve, images, tf.TensorSpec(shape, dtype))


def _rotate(kernel, shape):
    """`[h, w, filters, C]` the kernel rotated by 180 degrees; shape: `[h, w, C, filters]`."""
    height, width, channels, filters = shape
    matrices = tf.reshape(kernel, [height * width, channels, filters])
    matrices = tf.transpose(matrices, [0, 2, 1])  # [h * w, filters, C]
    # A gather, because the slice `[::-1]` takes longer than this gradient saves.
    matrices = tf.gather(matrices, range(height * width)[::-1])
    return tf.reshape(matrices, [height, width, filters, channels])


CHANNELS_AT_ONCE = 128


@functools.cache
def wide_convolutions_are_slow() -> bool:
    """Whether TensorFlow computes wide convolutions here with oneDNN and AVX-512.

    There, oneDNN gets the kernel of a variable as it lies, not packed: a 3x3 convolution of
    `[1, 128, 128, 256]` to 256 or 512 channels takes 1.4 to 1.6 times as long as in parts of 128
    channels, in training as well. With TensorFlow's own convolutions, parts are slower.
    """
    if tf.config.list_physical_devices("GPU"):
        return False
    settings = cast(dict, np.show_config(mode="dicts"))
    found = settings.get("SIMD Extensions", {}).get("found", ())
    return not {"AVX512_CLX", "AVX512_ICL"}.isdisjoint(found)  # VNNI: where oneDNN is the default


@keras.saving.register_keras_serializable("mrcnn")
class Conv2D(KL.Conv2D):
    """A convolution whose bias is one op, not four: a first detection takes 2.6 s, not 3.5.

    If `wide_convolutions_are_slow`, it computes `CHANNELS_AT_ONCE` output channels at a time.
    """

    def call(self, inputs):
        # Keras declares the tensors of all its backends.
        kernel = cast(Any, tf.convert_to_tensor(self.kernel))
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        count = self._count_of_parts()
        if count == 1:
            return self._convolve(inputs, kernel, bias)
        kernels: Any = tf.split(kernel, count, axis=-1)
        biases: Any = [None] * count if bias is None else tf.split(bias, count)
        parts: Any = [self._convolve(inputs, *part) for part in zip(kernels, biases, strict=True)]
        return tf.concat(parts, axis=-1)

    def _count_of_parts(self) -> int:
        """The number of equal parts into which the output channels are divided."""
        has_parts = self.filters % CHANNELS_AT_ONCE == 0 and self.groups == 1
        is_spatial = max(self.kernel_size) > 1
        if has_parts and is_spatial and not is_portable() and wide_convolutions_are_slow():
            return self.filters // CHANNELS_AT_ONCE
        return 1

    def _convolve(self, inputs, kernel, bias):
        outputs = cast(Any, self.convolution_op(inputs, kernel))
        if bias is not None:
            outputs = tf.nn.bias_add(outputs, bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable("mrcnn")
class SameConv2D(Conv2D):
    """A convolution that trains faster if it keeps the size of its input; see `convolution`."""

    def convolution_op(self, inputs, kernel):
        keeps_size = self.padding == "same" and self.strides == self.dilation_rate == (1, 1)
        is_odd = all(side % 2 for side in self.kernel_size)
        if keeps_size and is_odd and not is_portable():  # where no gradient is needed
            return convolution(inputs, tf.convert_to_tensor(kernel))
        return super().convolution_op(inputs, kernel)


# --- Batch norm ---


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(KL.BatchNormalization):
    """Batch norm whose statistics can stay fixed while gamma and beta are trained.

    One fused kernel replaces Keras' chain of ops: 2 to 4 times faster on a CPU, same numbers.

    Inputs: images `[B, H, W, C]` or RoIs `[B, N, h, w, C]`; the output has the same shape.
    counted: `[B, N]` bool, the RoIs of which trained statistics are; None: all.
    train_bn: False fixes the statistics (small batches); None or True trains them.
    """

    gamma: Any
    beta: Any
    moving_mean: Any
    moving_variance: Any

    def __init__(self, train_bn: bool | None = None, **kwargs):
        super().__init__(**kwargs)
        self.train_bn = train_bn

    def __call__(self, inputs, *args, **kwargs):
        # matterport fixes the statistics by BatchNorm(name=...)(x, training=False), which Keras 3
        # ignores in `fit`.
        if not self.built and self.train_bn is None:
            self.train_bn = kwargs.get("training")
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs, training=None, mask=None, counted=None):
        is_training = bool(training) and self.trainable and self.train_bn is not False
        if is_training and counted is not None:
            return self._normalize_counted(inputs, counted)
        # Images stay as they are: 110 reshapes are a good part of the time of the first call.
        are_rois = len(inputs.shape) != 4
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=fold_rois(inputs) if are_rois else inputs,
            scale=tf.cast(self.gamma.value, "float32"),
            offset=tf.cast(self.beta.value, "float32"),
            mean=[] if is_training else self.moving_mean.value,
            variance=[] if is_training else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        if is_training:
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance)
        return unfold_rois(outputs, inputs) if are_rois else outputs

    def _normalize_counted(self, inputs, counted):
        """`[B, N, h, w, C]` the RoIs, normalized by the statistics of the counted ones."""
        x = ops.cast(inputs, "float32")
        weights = ops.cast(counted, "float32")[:, :, None, None, None]
        count = ops.sum(weights) * x.shape[2] * x.shape[3]
        size, axes = ops.maximum(count, 1.0), [0, 1, 2, 3]
        mean = ops.sum(x * weights, axes) / size
        variance = ops.sum(ops.square(x - mean) * weights, axes) / size
        unbiased = variance * (size / ops.maximum(size - 1.0, 1.0))  # as that of the fused kernel
        self._move(self.moving_mean, ops.where(count > 0, mean, self.moving_mean))
        self._move(self.moving_variance, ops.where(count > 0, unbiased, self.moving_variance))
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast((x - mean) * scale + self.beta, inputs.dtype)

    def _move(self, moving, batch):
        """Move a moving average towards the statistic of the batch."""
        new = ops.stop_gradient(batch) * (1.0 - self.momentum)
        moving.assign(moving * self.momentum + new)

    def get_config(self):
        return {**super().get_config(), "train_bn": self.train_bn}


@keras.saving.register_keras_serializable("mrcnn")
class FrozenBatchNorm(BatchNorm):
    """Batch norm that is a constant: scale, shift and statistics stay as loaded."""

    @property
    def trainable(self) -> bool:
        """Always False."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        """Change nothing: `set_trainable` and Keras set it on every layer."""


# --- Layers of RoIs ---


def fold_rois(x: tf.Tensor) -> tf.Tensor:
    """`[B * N, ...]` from `[B, N, ...]`: each RoI becomes an image."""
    return ops.reshape(x, [-1, *x.shape[2:]])


def unfold_rois(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """`[B, N, ...]` from `[B * N, ...]`; like: `[B, N, ...]`, the tensor that was folded."""
    batch, count = like.shape[:2]
    if count is None:
        lead = ops.shape(like)[:2]
    else:
        lead = [-1 if batch is None else batch, count]
    return ops.reshape(x, [*lead, *x.shape[1:]])


class _PerRoI(KL.Layer):
    """Mixin: an image layer treats each RoI of `[B, N, h, w, C]` as an image of `[B * N, h, w, C]`.

    (TimeDistributed would unroll over the RoIs; this is a reshape without a copy.)
    """

    activation: Any
    bias: Any
    use_bias: bool

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

    def _add_bias(self, x):
        return self.activation(tf.nn.bias_add(x, self.bias) if self.use_bias else x)


@keras.saving.register_keras_serializable("mrcnn")
class RoIConv2D(_PerRoI, SameConv2D):
    """`Conv2D` of each RoI: `[B, N, h, w, C]` to `[B, N, h', w', filters]`.

    A kernel as large as the RoI, or of 1x1, is a matrix product. As a convolution it takes 1.5
    times as long on RoIs of 7x7, four times on RoIs of 1x1, and twice as long to train.
    """

    def _count_of_parts(self):
        return 1  # many small images gain nothing

    def call(self, inputs):
        is_whole = self.padding == "valid" and self.kernel_size == tuple(inputs.shape[2:4])
        is_pixelwise = self.kernel_size == (1, 1) and self.strides == (1, 1)
        if not is_whole and not is_pixelwise:
            return super().call(inputs)
        size = math.prod(self.kernel_size) * inputs.shape[-1]
        rows = ops.reshape(inputs, [-1, size])
        x = self._add_bias(ops.matmul(rows, ops.reshape(self.kernel, [size, self.filters])))
        sides = (1, 1) if is_whole else inputs.shape[2:4]
        x = ops.reshape(x, [-1, *sides, self.filters])  # [B * N, h', w', filters]
        return unfold_rois(x, inputs)


@keras.saving.register_keras_serializable("mrcnn")
class RoIConv2DTranspose(_PerRoI, KL.Conv2DTranspose):
    """`Conv2DTranspose` of each RoI: `[B, N, h, w, C]` to `[B, N, h * rows, w * columns, filters]`.

    If the blocks that the pixels give do not overlap, each row of the blocks is a matrix product,
    which takes two fifths of the time.
    """

    def call(self, inputs):
        if self.strides != self.kernel_size:
            return super().call(inputs)
        height, width, channels = inputs.shape[2:]
        rows, columns = self.kernel_size
        matrices = tf.reshape(self.kernel, [rows, columns * self.filters, channels])
        matrices = tf.transpose(matrices, [0, 2, 1])  # [rows, C, columns * filters]
        pixels = ops.reshape(inputs, [-1, channels])  # [B * N * h * w, C]
        block_rows = []
        for matrix in tf.unstack(matrices):
            block_row = ops.matmul(pixels, matrix)  # [B * N * h * w, columns * filters]
            block_rows.append(ops.reshape(block_row, [-1, 1, width * columns * self.filters]))
        x = ops.concatenate(block_rows, axis=1)  # [B * N * h, rows, w * columns * filters]
        x = ops.reshape(x, [-1, height * rows, width * columns, self.filters])
        return unfold_rois(self._add_bias(x), inputs)


@keras.saving.register_keras_serializable("mrcnn")
class RoIUpSampling2D(_PerRoI, KL.UpSampling2D):
    """`UpSampling2D` of each RoI: `[B, N, h, w, C]` to `[B, N, h * rows, w * columns, C]`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.input_spec = None  # that of an image


@keras.saving.register_keras_serializable("mrcnn")
class GroupNorm(KL.GroupNormalization):
    """Group norm (Wu 2018): `[B, ..., C]`, same shape.

    The means and variances of channels give those of groups. Keras' layer reduces axes in the
    middle of the shape, takes up to four times as long on a CPU, and is less precise.
    """

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        pixels = list(range(1, len(x.shape) - 1))
        channels = [-1, self.groups, x.shape[-1] // self.groups]
        mean, variance = (ops.reshape(v, channels) for v in ops.moments(x, pixels))  # [B, G, C / G]
        of_group = ops.mean(mean, axis=-1, keepdims=True)
        variance = ops.mean(variance + (mean - of_group) ** 2, axis=-1, keepdims=True)
        gamma, beta = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta))
        scale = ops.reshape(gamma, channels) * ops.rsqrt(variance + self.epsilon)
        shift = ops.reshape(beta, channels) - of_group * scale
        of_channels = [-1, *(1 for _ in pixels), x.shape[-1]]
        scale, shift = ops.reshape(scale, of_channels), ops.reshape(shift, of_channels)
        return ops.cast(x * scale + shift, self.compute_dtype)


@keras.saving.register_keras_serializable("mrcnn")
class RoIGroupNorm(_PerRoI, GroupNorm):
    """Group norm (Wu 2018) of each RoI: `[B, N, h, w, C]`, same shape."""

    def build(self, input_shape):
        super().build(input_shape)
        self.input_spec = None  # that of an image


def norm(
    x: Any,
    kind: str,
    config: Any,
    name: str,
    counted: Any = None,
    epsilon: float | None = None,
) -> Any:
    """`[..., C]` the input after the norm that a setting names; see `Config.BACKBONE_NORM`.

    x: images `[B, H, W, C]` or RoIs `[B, N, h, w, C]`.
    counted: `[B, N]` bool, the RoIs of which the statistics of "batch" are; None: all.
    epsilon: default NORM_EPSILON.
    """
    if kind == "none":
        return x
    settings = {"epsilon": config.NORM_EPSILON if epsilon is None else epsilon, "name": name}
    if kind == "frozen":
        return FrozenBatchNorm(train_bn=False, **settings)(x)
    if kind == "sync":
        return KL.BatchNormalization(synchronized=True, **settings)(x)
    if kind == "group":
        layer = GroupNorm if len(x.shape) == 4 else RoIGroupNorm
        return layer(groups=math.gcd(32, x.shape[-1]), **settings)(x)
    layer = BatchNorm(config.TRAIN_BN, **settings)
    return layer(x) if counted is None else layer(x, counted=counted)


def has_bias(kind: str, config: Any) -> bool:
    """Whether a convolution before a norm of this kind has a bias `[C]`."""
    return kind == "none" or config.BIAS_BEFORE_NORM


def mark_as_read(*inputs: Any) -> None:
    """Pass inputs `[...]` that only the losses read through a layer, which Keras 3.12 demands."""
    for x in inputs:
        KL.Identity()(x)


# --- Boxes ---


class Anchors(KL.Layer):
    """The same anchors `[A, (y1, x1, y2, x2)]` for each image of a batch: `[B, A, 4]`."""

    def __init__(self, anchors: np.ndarray, **kwargs):
        super().__init__(**kwargs)
        self.anchors = np.float32(anchors)

    def call(self, image):
        anchors = ops.convert_to_tensor(self.anchors)
        return ops.broadcast_to(anchors, [ops.shape(image)[0], *self.anchors.shape])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.anchors.shape)


class PyramidAnchors(KL.Layer):
    """`[B, A, (y1, x1, y2, x2)]` the normalized anchors of images of any size.

    Inputs: image `[B, H, W, C]`, then the pyramid levels that have anchors, the finest first.
    in_pixels: not normalized.
    """

    def __init__(self, config: Any, in_pixels: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.config, self.in_pixels = config, in_pixels

    def call(self, inputs):
        image, *pyramid = inputs
        scales, strides = self.config.anchor_scales(), self.config.BACKBONE_STRIDES
        levels = []
        for sides, stride, level in zip(scales, strides, pyramid, strict=False):
            shape = ops.shape(level)
            levels.append(self._level_anchors(sides, stride, shape, ops.shape(image)))
        anchors = ops.concatenate(levels)
        if not self.in_pixels:
            side, continuous = ops.shape(image)[1:3], self.config.CONTINUOUS_BOXES
            anchors = box_math.normalize(anchors, side, continuous)
        return ops.broadcast_to(anchors, [ops.shape(image)[0], *ops.shape(anchors)])

    def _level_anchors(self, sides, stride, shape, image_shape):
        """`[A, 4]` pixel anchors of a level of shape `[B, h, w, C]`."""
        step, is_rounded = self.config.RPN_ANCHOR_STRIDE, self.config.ROUND_ANCHORS
        cell = generate_anchors(sides, self.config.RPN_ANCHOR_RATIOS, (1, 1), stride, 1, is_rounded)
        strides = (stride, stride)
        if is_rounded:
            strides = image_shape[1] // shape[1], image_shape[2] // shape[2]
        y = ops.cast(tf.range(0, shape[1], step) * strides[0], "float32")
        x = ops.cast(tf.range(0, shape[2], step) * strides[1], "float32")
        y, x = ops.meshgrid(y, x, indexing="ij")
        centers = ops.stack([y, x, y, x], axis=-1)[:, :, None]  # [rows, columns, 1, 4]
        return ops.reshape(centers + np.float32(cell), [-1, 4])

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], None, 4)


class NormalizeBoxes(KL.Layer):
    """`[B, N, 4]` pixel boxes, normalized by the size of the image. Inputs: boxes, image.

    continuous: see `boxes.normalize`.
    """

    def __init__(self, continuous: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.continuous = continuous

    def call(self, inputs):
        pixel_boxes, image = inputs
        boxes = ops.cast(pixel_boxes, "float32")
        return box_math.normalize(boxes, ops.shape(image)[1:3], self.continuous)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

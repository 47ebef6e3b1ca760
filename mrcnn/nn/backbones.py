"""Backbones."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as KL

from .layers import FLOAT32, BatchNorm, Conv2D


def _conv_bn(
    x, filters, kernel, suffix, stage, block, train_bn, use_bias=True, strides=(1, 1), relu=True
):
    name = f"{stage}{block}_branch{suffix}"
    x = Conv2D(
        filters, kernel, strides=strides, padding="same", name=f"res{name}", use_bias=use_bias
    )(x)
    x = BatchNorm(train_bn, name=f"bn{name}")(x)
    return KL.Activation("relu")(x) if relu else x


def identity_block(input_tensor, kernel_size, filters, stage, block, use_bias=True, train_bn=True):
    """A bottleneck whose shortcut is the identity (ResNet, figure 5).

    filters: the widths of its three convolutions. stage, block: its place, `2` and `"a"` give `res2a_...`.
    """
    x = _conv_bn(input_tensor, filters[0], 1, "2a", stage, block, train_bn, use_bias)
    x = _conv_bn(x, filters[1], kernel_size, "2b", stage, block, train_bn, use_bias)
    x = _conv_bn(x, filters[2], 1, "2c", stage, block, train_bn, use_bias, relu=False)
    return KL.Activation("relu", name=f"res{stage}{block}_out")(KL.Add()([x, input_tensor]))


def conv_block(
    input_tensor, kernel_size, filters, stage, block, strides=(2, 2), use_bias=True, train_bn=True
):
    """A bottleneck that changes size or width: its first and its shortcut's 1x1 convolution carry the stride."""
    x = _conv_bn(input_tensor, filters[0], 1, "2a", stage, block, train_bn, use_bias, strides)
    x = _conv_bn(x, filters[1], kernel_size, "2b", stage, block, train_bn, use_bias)
    x = _conv_bn(x, filters[2], 1, "2c", stage, block, train_bn, use_bias, relu=False)
    shortcut = _conv_bn(
        input_tensor, filters[2], 1, "1", stage, block, train_bn, use_bias, strides, relu=False
    )
    return KL.Activation("relu", name=f"res{stage}{block}_out")(KL.Add()([x, shortcut]))


RESNET_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def resnet_graph(input_image, architecture, stage5=False, train_bn=True):
    """`[C1, C2, C3, C4, C5]` feature maps of strides 2, 4, 8, 16, 32; C5 is None without stage5.

    input_image: `[B, H, W, C]` molded. architecture: "resnet50" or "resnet101".
    """
    if architecture not in RESNET_BLOCKS:
        raise ValueError(
            f"architecture must be one of {list(RESNET_BLOCKS)}. Received: {architecture!r}."
        )
    x = KL.ZeroPadding2D((3, 3))(input_image)
    x = Conv2D(64, (7, 7), strides=(2, 2), name="conv1", use_bias=True)(x)
    x = BatchNorm(train_bn, name="bn_conv1")(x)
    x = KL.Activation("relu")(x)
    # matterport calls the pooled map C1; its stride is 4, and nothing reads it
    x = c1 = KL.MaxPooling2D((3, 3), strides=(2, 2), padding="same")(x)
    feature_maps = [c1]
    for stage, blocks in enumerate(RESNET_BLOCKS[architecture][: 4 if stage5 else 3], start=2):
        width = 32 * 2 ** (stage - 1)
        filters = [width, width, 4 * width]
        strides = (1, 1) if stage == 2 else (2, 2)
        x = conv_block(x, 3, filters, stage, "a", strides, train_bn=train_bn)
        for i in range(1, blocks):
            x = identity_block(x, 3, filters, stage, chr(ord("a") + i), train_bn=train_bn)
        feature_maps.append(x)
    return feature_maps if stage5 else [*feature_maps, None]


def mobilenet_v2_graph(input_image, config):
    """`[C1, ..., C5]` of keras.applications' MobileNetV2, its layers in place with their own names.

    input_image: `[B, H, W, C]` molded; the mean is added back and the range brought to -1..1, as it was trained.
    """
    mean = np.broadcast_to(config.MEAN_PIXEL, [config.IMAGE_CHANNEL_COUNT])
    x = KL.Rescaling(1 / 127.5, (mean / 127.5 - 1).tolist(), name="mobilenet_scaling", **FLOAT32)(
        input_image
    )
    network = keras.applications.MobileNetV2(input_tensor=x, include_top=False, weights=None)
    for layer in network.layers:
        if isinstance(layer, KL.BatchNormalization) and config.TRAIN_BN is False:
            layer.trainable = False
    ends = [
        "block_1_expand_relu",
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "out_relu",
    ]
    return [network.get_layer(name).output for name in ends]


def backbone_graph(input_image, config):
    """`[C1, C2, C3, C4, C5]` of the backbone the config names, or the user's own callable."""
    if callable(config.BACKBONE):
        # matterport called it with stage5 and train_bn; a callable that takes the image alone is welcome too
        try:
            return config.BACKBONE(input_image, stage5=True, train_bn=config.TRAIN_BN)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            return config.BACKBONE(input_image)
    if config.BACKBONE == "mobilenet_v2":
        return mobilenet_v2_graph(input_image, config)
    return resnet_graph(input_image, config.BACKBONE, stage5=True, train_bn=config.TRAIN_BN)


def keep_float32(image, features):
    """Layers between the two compute in float32 whatever PRECISION says.

    In bfloat16 a photo of 8 bits less its mean is rounded by up to half a gray level, and small objects are found a
    pixel beside: of nuclei 84 in 100 where float32 finds them; with C1 in float32 96 (docs/performance.md).
    """
    for layer in keras.Model(image, features).layers:
        layer.dtype_policy = keras.DTypePolicy(FLOAT32["dtype"])

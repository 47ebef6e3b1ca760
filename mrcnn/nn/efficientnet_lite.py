"""EfficientNet-Lite2, an EfficientNet (Tan 2019) for CPUs: ReLU6, no squeeze-excitation.

Source: models/official/efficientnet/lite of https://github.com/tensorflow/tpu. Its layers have the
names that keras.applications gives those of EfficientNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from keras import layers as KL

from .layers import Conv2D, norm
from .molding import scale_pixels
from .resnet_names import block_letters


class Stage(NamedTuple):
    """A row of the network's table: `count` blocks, of which the first may halve the size."""

    count: int
    kernel_size: int  # of the depthwise convolutions
    stride: int  # of the first block
    expansion: int  # channels of the depthwise convolution over those of the block's input
    filters: int


class Block(NamedTuple):
    """An inverted residual block (MobileNetV2, Sandler 2018, figure 3)."""

    name: str
    stage: int
    kernel_size: int
    stride: int
    expansion: int
    filters: int
    has_shortcut: bool


LITE2_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(3, 3, 2, 6, 24),
    Stage(3, 5, 2, 6, 48),
    Stage(4, 3, 2, 6, 88),
    Stage(4, 5, 1, 6, 120),
    Stage(5, 5, 2, 6, 208),
    Stage(1, 3, 1, 6, 352),
)
MAP_STAGES = (1, 2, 3, 5, 7)  # those that end with C1 to C5
STEM_FILTERS = 32
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
EPSILON = 1e-3  # of the norms, whatever NORM_EPSILON says: the weights were trained with it


def _blocks(stages: Sequence[Stage]) -> Iterator[Block]:
    for number, stage in enumerate(stages, start=1):
        for i in range(stage.count):
            yield Block(
                f"block{number}{block_letters(i)}",
                number,
                stage.kernel_size,
                stage.stride if i == 0 else 1,
                stage.expansion,
                stage.filters,
                has_shortcut=i > 0,
            )


LITE2_BLOCKS = tuple(_blocks(LITE2_STAGES))


def efficientnet_lite2_graph(input_image: Any, config: Any) -> list:
    """`[C1, C2, C3, C4, C5]`, maps `[B, h, w, C]` of 16, 24, 48, 120 and 352 channels.

    The layers for the classifier, which widen C5 to 1,280 channels, are left out.

    input_image: `[B, H, W, C]` molded.
    """
    x = scale_pixels(input_image, config, "efficientnet_lite2", PIXEL_MEAN, PIXEL_STD)
    x = KL.Activation("relu6")(_convolve(x, STEM_FILTERS, 3, "stem", config, strides=2))
    ends = {}
    for block in LITE2_BLOCKS:
        x = _inverted_residual(x, block, config)
        ends[block.stage] = x
    return [ends[stage] for stage in MAP_STAGES]


def _inverted_residual(x, block: Block, config):
    shortcut, name = x, block.name
    if block.expansion > 1:
        x = _convolve(x, block.expansion * x.shape[-1], 1, f"{name}_expand", config)
        x = KL.Activation("relu6")(x)
    x = KL.Activation("relu6")(_convolve_depthwise(x, block, config))
    x = _convolve(x, block.filters, 1, f"{name}_project", config)
    return KL.Add(name=f"{name}_add")([x, shortcut]) if block.has_shortcut else x


def _convolve(x, filters, size, name, config, strides=1):
    layer = Conv2D(filters, size, strides, "same", use_bias=_has_bias(config), name=f"{name}_conv")
    return norm(layer(x), config.BACKBONE_NORM, config, f"{name}_bn", epsilon=EPSILON)


def _convolve_depthwise(x, block: Block, config):
    layer = KL.DepthwiseConv2D(
        block.kernel_size,
        strides=block.stride,
        padding="same",
        use_bias=_has_bias(config),
        name=f"{block.name}_dwconv",
    )
    return norm(layer(x), config.BACKBONE_NORM, config, f"{block.name}_bn", epsilon=EPSILON)


def _has_bias(config) -> bool:
    """Whether convolutions have a bias; the released weights have none before a norm."""
    return config.BACKBONE_NORM == "none"

"""ResNet-C4 on generated shapes: one map of stride 16, whose stage 5 all branches share.

    mrcnn demo --config samples/shapes/c4.py --out c4_demo

The network itself, with the weights of ImageNet:

    mrcnn train DATA --weights imagenet --config BACKBONE=resnet50 "BACKBONE_STRIDES=[16]" \\
        BOX_HEAD=res5 "MASK_SHAPE=[14,14]"
"""

from keras import layers as KL

from mrcnn.app.demo import DemoConfig
from mrcnn.nn.layers import GroupNorm

STAGES = ((2, 32), (2, 64), (3, 128))  # blocks and channels of C2 to C4


def narrow_resnet(image):
    """`[C1, C2, C3, C4]` with group norm, because the batches are small (Wu 2018)."""
    x = KL.Activation("relu")(_convolution(KL.Rescaling(1 / 64)(image), 16, "conv1"))
    x = KL.Activation("relu")(_convolution(KL.MaxPooling2D()(x), 32, "conv2"))
    maps = [x]
    for stage, (blocks, channels) in enumerate(STAGES, start=2):
        x = KL.MaxPooling2D()(x)
        for block in range(1, blocks + 1):
            x = _residual_block(x, channels, f"stage{stage}_{block}")
        maps.append(x)
    return maps


def _convolution(x, channels, name, size=3):
    x = KL.Conv2D(channels, size, padding="same", use_bias=False, name=name)(x)
    return GroupNorm(8, name=f"{name}_gn")(x)


def _residual_block(x, channels, name):
    shortcut = x
    if x.shape[-1] != channels:
        shortcut = _convolution(x, channels, f"{name}_shortcut", size=1)
    x = KL.Activation("relu")(_convolution(x, channels, f"{name}_a"))
    x = _convolution(x, channels, f"{name}_b")
    return KL.Activation("relu")(KL.Add()([x, shortcut]))


class C4Config(DemoConfig):
    """As `DemoConfig`, at twice the size, because a cell of the one map has 16 pixels.

    RPN and heads read C4 (He 2017, figure 4 left).
    """

    NAME = "shapes_c4"
    BACKBONE = staticmethod(narrow_resnet)
    BACKBONE_STRIDES = [16]
    BACKBONE_NORM = "group"  # of stage 5
    BOX_HEAD = "res5"
    MASK_SHAPE = [14, 14]
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    IMAGES_PER_GPU = 4
    RPN_ANCHOR_SCALES = (32, 48, 64, 96, 128, 192)
    ROI_SAMPLING = "fill"
    TRAIN_ROIS_PER_IMAGE = 64

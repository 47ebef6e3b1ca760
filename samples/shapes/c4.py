"""ResNet-C4 on generated shapes: one map of stride 16, whose stage 5 all branches share.

    mrcnn demo --config samples/shapes/c4.py --out c4_demo

The network itself, with the weights of ImageNet:

    mrcnn train DATA --weights imagenet --config BACKBONE=resnet50 "BACKBONE_STRIDES=[16]" \\
        BOX_HEAD=res5 "MASK_SHAPE=[14,14]"
"""

from keras import layers as KL

from mrcnn.app.demo import DemoConfig
from mrcnn.model import BatchNorm, conv_block, identity_block

STAGES = ((2, 2, 16), (3, 2, 24), (4, 3, 32))  # stage, blocks, width of their 3x3 convolutions


def narrow_resnet(image):
    """`[C1, C2, C3, C4]`; poolings halve the size, which lose less of small shapes than strides."""
    x = _convolution(KL.Rescaling(1 / 64)(image), 16, "conv1")
    x = _convolution(KL.MaxPooling2D()(x), 32, "conv2")
    maps = [x]
    for stage, blocks, width in STAGES:
        filters = [width, width, 4 * width]
        x = KL.MaxPooling2D()(x)
        x = conv_block(x, 3, filters, stage, "a", strides=(1, 1), train_bn=None)
        for block in "bcd"[: blocks - 1]:
            x = identity_block(x, 3, filters, stage, block, train_bn=None)
        maps.append(x)
    return maps


def _convolution(x, channels, name):
    x = KL.Conv2D(channels, 3, padding="same", use_bias=False, name=name)(x)
    return KL.Activation("relu")(BatchNorm(name=f"bn_{name}")(x))


class C4Config(DemoConfig):
    """As `DemoConfig`, at twice the size, because a cell of the one map has 16 pixels.

    RPN and heads read C4 (He 2017, figure 4 left).
    """

    NAME = "shapes_c4"
    BACKBONE = staticmethod(narrow_resnet)
    BACKBONE_STRIDES = [16]
    BOX_HEAD = "res5"
    MASK_SHAPE = [14, 14]
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    IMAGES_PER_GPU = 4
    RPN_ANCHOR_SCALES = (32, 48, 64, 96, 128, 192)
    ROI_SAMPLING = "fill"
    TRAIN_ROIS_PER_IMAGE = 64

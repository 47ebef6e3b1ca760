"""Faster R-CNN's VGG16 on generated shapes: one map of stride 16, two fully connected layers.

    mrcnn demo --config samples/shapes/vgg16.py --out vgg16_demo

The 13 convolutions have a quarter of VGG16's channels, and batch norm, because VGG16 without either
does not train from random weights within minutes. The network itself, with the weights of ImageNet:

    mrcnn train DATA --weights imagenet --config BACKBONE=vgg16 "BACKBONE_STRIDES=[16]" \\
        FPN_CLASSIF_FC_LAYERS_SIZE=4096
"""

from keras import layers as KL

from mrcnn.app.demo import DemoConfig
from mrcnn.model import BatchNorm

BLOCKS = ((2, 16), (2, 32), (3, 64), (3, 128), (3, 128))  # convolutions and their channels


def vgg16(image):
    """`[C1, ..., C5]`; C4 is conv5_3, before the last pool."""
    x, maps = KL.Rescaling(1 / 64)(image), []
    for block, (count, channels) in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            x = KL.Conv2D(channels, 3, padding="same", use_bias=False, name=name)(x)
            x = BatchNorm(name=f"block{block}_bn{i}")(x)
            x = KL.Activation("relu")(x)
        maps.append(x)
        x = KL.MaxPooling2D(name=f"block{block}_pool")(x)
    return [*maps[1:], x]


class VGG16Config(DemoConfig):
    """As `DemoConfig`, at twice the size, because a cell of the one map has 16 pixels."""

    NAME = "shapes_vgg16"
    BACKBONE = staticmethod(vgg16)
    BACKBONE_STRIDES = [16]
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    IMAGES_PER_GPU = 4
    RPN_ANCHOR_SCALES = (32, 48, 64, 96, 128, 192)
    FPN_CLASSIF_FC_LAYERS_SIZE = 256
    ROI_SAMPLING = "fill"
    TRAIN_ROIS_PER_IMAGE = 64

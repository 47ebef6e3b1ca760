"""A small backbone and `Config` for the scripts of this folder.

Apart from importing it, they are written as for matterport's package.
"""

import keras.layers as KL
import numpy as np

from mrcnn import config
from mrcnn import model as modellib


def backbone(input_image, stage5=False, train_bn=True):
    """C1 to C5 of one 3x3 convolution each, with layer names of ResNet101."""
    x = KL.Conv2D(24, (3, 3), strides=(2, 2), padding="same", name="conv1", use_bias=True)(
        input_image
    )
    x = modellib.BatchNorm(name="bn_conv1")(x, training=train_bn)
    x = c1 = KL.Activation("relu")(x)
    stages = [c1]
    for block in ("2c", "3d", "4w", "5c"):
        x = KL.Conv2D(24, (3, 3), strides=(2, 2), padding="same", name="res" + block + "_branch2b")(
            x
        )
        x = modellib.BatchNorm(name="bn" + block + "_branch2b")(x, training=train_bn)
        x = KL.Activation("relu", name="res" + block + "_out")(x)
        stages.append(x)
    return stages


def backbone_shapes(image_shape):
    return np.array(
        [[int(np.ceil(side / stride)) for side in image_shape[:2]] for stride in (4, 8, 16, 32, 64)]
    )


class Config(config.Config):
    BACKBONE = staticmethod(backbone)
    COMPUTE_BACKBONE_SHAPE = staticmethod(backbone_shapes)
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 24, 32, 48)
    TOP_DOWN_PYRAMID_SIZE = 32
    RPN_CHANNELS = 24
    MASK_CHANNELS = 24
    FPN_CLASSIF_FC_LAYERS_SIZE = 40
    PRE_NMS_LIMIT = 300
    POST_NMS_ROIS_TRAINING = 60
    POST_NMS_ROIS_INFERENCE = 30
    TRAIN_ROIS_PER_IMAGE = 12
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    MAX_GT_INSTANCES = 10
    DETECTION_MAX_INSTANCES = 10
    DETECTION_MIN_CONFIDENCE = 0
    IMAGES_PER_GPU = 1
    STEPS_PER_EPOCH = 1
    VALIDATION_STEPS = 1

"""The demo: draw shapes, train Mask R-CNN on them from nothing, measure it, leave pictures to look at."""

from __future__ import annotations

import json
import logging
import os
import time

import cv2
import keras
import numpy as np
from keras import layers as KL

from . import evaluate, visualize
from .config import Config
from .datasets import ShapesDataset
from .model import BatchNorm, MaskRCNN

log = logging.getLogger("mrcnn")


def backbone(image):
    """`[C1, ..., C5]` of a small residual network: what squares and circles need, and two cores can train."""

    def conv(x, channels, stride, name, relu=True):
        x = KL.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = BatchNorm(name=f"{name}_bn")(x)
        return KL.Activation("relu")(x) if relu else x

    x = conv(KL.Rescaling(1 / 64)(image), 24, 2, "stage1")
    stages = [x]
    for stage, channels in enumerate((32, 64, 96, 128), start=2):
        shortcut = conv(x, channels, 2, f"stage{stage}_shortcut", relu=False)
        x = conv(x, channels, 2, f"stage{stage}_a")
        x = KL.Activation("relu")(KL.Add()([conv(x, channels, 1, f"stage{stage}_b", relu=False), shortcut]))
        stages.append(x)
    return stages


class DemoConfig(Config):
    """The whole network, narrow: 128 px images, three shapes, from random weights."""

    NAME = "shapes"
    BACKBONE = staticmethod(backbone)
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    NUM_CLASSES = 1 + 3
    IMAGES_PER_GPU = 8
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    TOP_DOWN_PYRAMID_SIZE = 64
    RPN_CHANNELS = 64
    FPN_CLASSIF_FC_LAYERS_SIZE = 256
    MASK_CHANNELS = 64
    TRAIN_ROIS_PER_IMAGE = 32
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    PRE_NMS_LIMIT = 500
    POST_NMS_ROIS_TRAINING = 100
    POST_NMS_ROIS_INFERENCE = 50
    DETECTION_MAX_INSTANCES = 20
    MAX_GT_INSTANCES = 8
    USE_MINI_MASK = False
    FPN_CANONICAL_SIZE = 56.0
    TRAIN_BN = None
    OPTIMIZER = "adam"
    LEARNING_RATE = 0.002
    LEARNING_RATE_SCHEDULE = "cosine"
    WARMUP_STEPS = 50
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 4

    @staticmethod
    def COMPUTE_BACKBONE_SHAPE(image_shape):
        return np.array([[image_shape[0] // stride, image_shape[1] // stride] for stride in (4, 8, 16, 32, 64)])

"""The settings in which the other networks differ from matterport's.

Learning rates are for 2 images a batch: 0.02 / 16 * 2 (Goyal 2017, linear scaling).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# What torchvision's and detectron2's Mask R-CNN have in common.
_DETECTRON: dict[str, Any] = {
    "BACKBONE": "resnet50",
    "BACKBONE_NORM": "frozen",
    "NORM_EPSILON": 1e-5,
    "SYMMETRIC_PADDING": True,
    "BIAS_BEFORE_NORM": False,
    "BOX_HEAD_NORM": "none",
    "MASK_HEAD_NORM": "none",
    "INITIAL_WEIGHTS": "detectron2",
    "MEAN_PIXEL": np.array([123.675, 116.28, 103.53]),
    "IMAGE_MIN_DIM": 800,
    "IMAGE_MAX_DIM": 1333,
    # In the order in which both have the anchors of a cell.
    "RPN_ANCHOR_RATIOS": [2, 1, 0.5],
    "RPN_CHANNELS": 256,
    "RPN_OBJECTNESS": "sigmoid",
    "RPN_BBOX_STD_DEV": np.array([1.0, 1.0, 1.0, 1.0]),
    "PROPOSAL_SELECTION": "per_level",
    "PRE_NMS_LIMIT": 2000,
    "PRE_NMS_LIMIT_INFERENCE": 1000,
    "POST_NMS_ROIS_INFERENCE": 1000,
    "CONTINUOUS_BOXES": True,
    "MAX_LOG_SCALE": math.log(1000 / 16),
    "FPN_LEVEL_RULE": "floor",
    "DETECTION_ALL_CLASSES": True,
    "DETECTION_MIN_CONFIDENCE": 0.05,
    "DETECTION_NMS_THRESHOLD": 0.5,
    # Training
    "TRAIN_ROIS_PER_IMAGE": 512,
    "ROI_POSITIVE_RATIO": 0.25,
    "ROI_SAMPLING": "fill",
    "ROIS_INCLUDE_GT": True,
    "LOSS_DENOMINATOR": "sampled",
    "LEARNING_RATE": 0.0025,
    "LEARNING_RATE_SCHEDULE": "step",
    "WARMUP_STEPS": 1000,
    "WEIGHT_DECAY_RULE": "plain",
    "GRADIENT_CLIP_NORM": None,
}

# detectron2's mask_rcnn_R_50_FPN_3x.
DETECTRON: dict[str, Any] = {
    **_DETECTRON,
    "IMAGE_RESIZE_MODE": "detectron2",
    "ROI_ALIGN": "aligned",
    "ROI_ALIGN_SAMPLES": 0,
    "MASK_PASTE": "detectron2",
    "MASK_TARGETS": "hard",
    "POST_NMS_ROIS_TRAINING": 1000,
    "RPN_SMOOTH_L1_BETA": 0.0,
    "BOX_SMOOTH_L1_BETA": 0.0,
}

# detectron2's scratch_mask_rcnn_R_50_FPN_3x_gn (He 2019, "Rethinking ImageNet Pre-training"):
# random weights have no statistics to freeze. RPN_BBOX_STD_DEV is matterport's: the demo
# reaches 0.03 box AP more with it (docs/results.md).
DETECTRON_SCRATCH: dict[str, Any] = {
    **DETECTRON,
    "BACKBONE_NORM": "group",
    "STRIDE_IN_1X1": False,
    "FPN_NORM": "group",
    "BOX_HEAD": "4conv1fc",
    "BOX_HEAD_NORM": "group",
    "MASK_HEAD_NORM": "group",
    "RPN_BBOX_STD_DEV": np.array([0.1, 0.1, 0.2, 0.2]),
}

# detectron2's mask_rcnn_R_50_C4_3x.
DETECTRON_C4: dict[str, Any] = {
    **DETECTRON,
    "BACKBONE_STRIDES": [16],
    "BOX_HEAD": "res5",
    "MASK_SHAPE": [14, 14],
    "RPN_CHANNELS": 1024,
    "PRE_NMS_LIMIT": 12000,
    "PRE_NMS_LIMIT_INFERENCE": 6000,
    "POST_NMS_ROIS_TRAINING": 2000,
}

# torchvision's maskrcnn_resnet50_fpn.
_TORCHVISION_1: dict[str, Any] = {
    **_DETECTRON,
    "NORM_EPSILON": 0.0,
    "STRIDE_IN_1X1": False,
    "STD_PIXEL": np.array([58.395, 57.12, 57.375]),
    "IMAGE_RESIZE_MODE": "torchvision",
    "ROUND_ANCHORS": True,
    "ROI_ALIGN": "unaligned",
    "ROI_ALIGN_SAMPLES": 2,
    "MASK_PASTE": "torchvision",
    "MASK_TARGETS": "soft",
    "POST_NMS_ROIS_TRAINING": 2000,
    "RPN_SMOOTH_L1_BETA": 1 / 9,
    "BOX_SMOOTH_L1_BETA": 1 / 9,
    "WEIGHT_DECAY_NORMS": True,
}

# torchvision's maskrcnn_resnet50_fpn_v2.
_TORCHVISION_2: dict[str, Any] = {
    **_TORCHVISION_1,
    "BACKBONE_NORM": "batch",
    "FPN_NORM": "batch",
    "BOX_HEAD_NORM": "batch",
    "MASK_HEAD_NORM": "batch",
    "NORM_EPSILON": 1e-5,
    "TRAIN_BN": True,
    "RPN_CONV_LAYERS": 2,
    "BOX_HEAD": "4conv1fc",
}

TORCHVISION = {1: _TORCHVISION_1, 2: _TORCHVISION_2}

# For CPUs: a sixth of the computation of the default network, from ImageNet weights that are part
# of this package. The geometry is detectron2's; group norm in the heads, for batches are small.
LITE: dict[str, Any] = {
    "BACKBONE": "efficientnet_lite2",
    "TOP_DOWN_PYRAMID_SIZE": 96,
    "RPN_CHANNELS": 96,
    "BOX_HEAD": "4conv1fc",
    "FPN_CLASSIF_FC_LAYERS_SIZE": 512,
    "MASK_CHANNELS": 96,
    "BOX_HEAD_NORM": "group",
    "MASK_HEAD_NORM": "group",
    "BIAS_BEFORE_NORM": False,
    "INITIAL_WEIGHTS": "detectron2",
    "RPN_OBJECTNESS": "sigmoid",
    "PROPOSAL_SELECTION": "per_level",
    "PRE_NMS_LIMIT": 2000,
    "POST_NMS_ROIS_INFERENCE": 500,
    "CONTINUOUS_BOXES": True,
    "MAX_LOG_SCALE": math.log(1000 / 16),
    "ROI_ALIGN": "aligned",
    "MASK_PASTE": "detectron2",
    "DETECTION_ALL_CLASSES": True,
    "DETECTION_MIN_CONFIDENCE": 0.5,
    "DETECTION_NMS_THRESHOLD": 0.5,
    # Training
    "POST_NMS_ROIS_TRAINING": 500,
    "TRAIN_ROIS_PER_IMAGE": 64,
    "ROI_SAMPLING": "fill",
    "ROIS_INCLUDE_GT": True,
    "MASK_TARGETS": "hard",
    "RPN_SMOOTH_L1_BETA": 0.0,
    "BOX_SMOOTH_L1_BETA": 0.0,
    "LOSS_DENOMINATOR": "sampled",
    "OPTIMIZER": "adam",
    "LEARNING_RATE": 0.0005,
    "LEARNING_RATE_SCHEDULE": "cosine",
    "WARMUP_STEPS": 100,
}

# What torchvision's networks without an RPN have in common: levels P3 to P7, boxes only.
_DENSE: dict[str, Any] = {
    "USE_MASK": False,
    "BACKBONE": "resnet50",
    "BACKBONE_NORM": "frozen",
    "STRIDE_IN_1X1": False,
    "SYMMETRIC_PADDING": True,
    "BIAS_BEFORE_NORM": False,
    "BACKBONE_STRIDES": [8, 16, 32, 64, 128],
    "MEAN_PIXEL": np.array([123.675, 116.28, 103.53]),
    "STD_PIXEL": np.array([58.395, 57.12, 57.375]),
    "IMAGE_RESIZE_MODE": "torchvision",
    "IMAGE_MIN_DIM": 800,
    "IMAGE_MAX_DIM": 1333,
    "ROUND_ANCHORS": True,
    "CONTINUOUS_BOXES": True,
    "PRE_NMS_LIMIT": 1000,
    "PRE_NMS_LIMIT_INFERENCE": 1000,
    # Training
    "FOCAL_ALPHA": 0.25,
    "FOCAL_GAMMA": 2.0,
    "LEARNING_RATE": 0.00125,  # torchvision's 0.01, of 16 images
    "LEARNING_RATE_SCHEDULE": "step",
    "WARMUP_STEPS": 1000,
    "WEIGHT_DECAY_RULE": "plain",
    "WEIGHT_DECAY_NORMS": True,
    "GRADIENT_CLIP_NORM": None,
}

# torchvision's retinanet_resnet50_fpn.
_RETINANET_1: dict[str, Any] = {
    **_DENSE,
    "NETWORK": "retinanet",
    "NORM_EPSILON": 0.0,
    "TOWER_NORM": "none",
    "P6_INPUT": "p5",
    # Three sides an octave: x, x 2^(1/3) and x 2^(2/3), rounded down.
    "RPN_ANCHOR_SCALES": tuple(
        (side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3)))
        for side in (32, 64, 128, 256, 512)
    ),
    "RPN_ANCHOR_RATIOS": [2, 1, 0.5],
    "RPN_BBOX_STD_DEV": np.array([1.0, 1.0, 1.0, 1.0]),
    "MAX_LOG_SCALE": math.log(1000 / 16),
    "RPN_POSITIVE_IOU": 0.5,
    "RPN_NEGATIVE_IOU": 0.4,
    "BOX_LOSS": "smooth_l1",
    "BOX_SMOOTH_L1_BETA": 0.0,
    "DETECTION_MIN_CONFIDENCE": 0.05,
    "DETECTION_NMS_THRESHOLD": 0.5,
    "DETECTION_MAX_INSTANCES": 300,
}

# torchvision's retinanet_resnet50_fpn_v2.
_RETINANET_2: dict[str, Any] = {
    **_RETINANET_1,
    "BACKBONE_NORM": "batch",
    "NORM_EPSILON": 1e-5,
    "TRAIN_BN": True,
    "TOWER_NORM": "group",
    "P6_INPUT": "c5",
    "BOX_LOSS": "giou",
}

RETINANET = {1: _RETINANET_1, 2: _RETINANET_2}

# torchvision's fcos_resnet50_fpn.
FCOS: dict[str, Any] = {
    **_DENSE,
    "NETWORK": "fcos",
    "NORM_EPSILON": 1e-5,
    "TOWER_NORM": "group",
    "P6_INPUT": "p5",
    "RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128),
    "RPN_ANCHOR_RATIOS": [1],
    "DETECTION_MIN_CONFIDENCE": 0.2,
    "DETECTION_NMS_THRESHOLD": 0.6,
    "DETECTION_MAX_INSTANCES": 100,
}

# Network -> its presets other than the default.
OF_NETWORK = {
    "mask_rcnn": (DETECTRON, *TORCHVISION.values(), LITE),
    "retinanet": tuple(RETINANET.values()),
    "fcos": (FCOS,),
}

# Settings that change what a network computes with its weights, and that no weight's shape shows.
HIDDEN_SETTINGS = (
    "NORM_EPSILON",
    "STRIDE_IN_1X1",
    "SYMMETRIC_PADDING",
    "MEAN_PIXEL",
    "STD_PIXEL",
    "RPN_ANCHOR_RATIOS",
    "RPN_ANCHOR_SCALES",
    "RPN_BBOX_STD_DEV",
    "BBOX_STD_DEV",
    "ROUND_ANCHORS",
    "CONTINUOUS_BOXES",
    "FPN_LEVEL_RULE",
    "ROI_ALIGN",
)

"""The config of docs/results.md: balloons on two CPU cores, from an ImageNet MobileNetV2."""

from mrcnn.config import Config


class BalloonConfig(Config):
    """Whole images at 384 px. There are only 61: a narrow network, and much augmentation."""

    NAME = "balloon"
    BACKBONE = "mobilenet_v2"
    NUM_CLASSES = 1 + 1

    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 384
    IMAGES_PER_GPU = 2

    RPN_ANCHOR_SCALES = (16, 32, 64, 128, 224)
    RPN_ANCHOR_RATIOS = [0.7, 1, 1.4]  # balloons are round
    TOP_DOWN_PYRAMID_SIZE = 96
    RPN_CHANNELS = 96
    MASK_CHANNELS = 96
    FPN_CLASSIF_FC_LAYERS_SIZE = 512

    RPN_TRAIN_ANCHORS_PER_IMAGE = 128
    TRAIN_ROIS_PER_IMAGE = 64
    ROIS_INCLUDE_GT = True
    PRE_NMS_LIMIT = 2000
    POST_NMS_ROIS_TRAINING = 500
    POST_NMS_ROIS_INFERENCE = 500
    MAX_GT_INSTANCES = 64
    DETECTION_MAX_INSTANCES = 100

    OPTIMIZER = "adam"
    LEARNING_RATE = 0.0005
    LEARNING_RATE_SCHEDULE = "cosine"
    WARMUP_STEPS = 100
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 7

"""The config of docs/results.md: nuclei on two CPU cores, from an ImageNet MobileNetV2."""

from mrcnn.config import Config


class NucleusConfig(Config):
    """Random crops of 256 px from images enlarged twice: half of the nuclei are under 18 px."""

    NAME = "nucleus"
    BACKBONE = "mobilenet_v2"
    NUM_CLASSES = 1 + 1

    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    IMAGE_MIN_SCALE = 2.0
    IMAGES_PER_GPU = 4

    RPN_ANCHOR_SCALES = (16, 32, 64, 128, 224)
    TOP_DOWN_PYRAMID_SIZE = 96
    RPN_CHANNELS = 96
    MASK_CHANNELS = 64
    FPN_CLASSIF_FC_LAYERS_SIZE = 512

    RPN_TRAIN_ANCHORS_PER_IMAGE = 128
    TRAIN_ROIS_PER_IMAGE = 64
    ROIS_INCLUDE_GT = True
    PRE_NMS_LIMIT = 2000
    POST_NMS_ROIS_TRAINING = 500
    POST_NMS_ROIS_INFERENCE = 1000
    MAX_GT_INSTANCES = 128
    DETECTION_MAX_INSTANCES = 300
    DETECTION_NMS_THRESHOLD = 0.5

    OPTIMIZER = "adam"
    LEARNING_RATE = 0.0006
    LEARNING_RATE_SCHEDULE = "cosine"
    WARMUP_STEPS = 200
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 5

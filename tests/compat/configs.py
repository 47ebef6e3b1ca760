"""Settings made in every way that projects make them: each ends in a network.

python configs.py
"""

import numpy as np
import tensorflow as tf
from small import Config, backbone, backbone_shapes

from mrcnn.model import MaskRCNN


class EarlyConfig(Config):
    """Values first, super().__init__() last."""

    NAME = "early"

    def __init__(self, num_classes, batch, classes_file=None):
        self.NUM_CLASSES = 1 + num_classes
        self.IMAGES_PER_GPU = batch
        self.IMAGE_MAX_DIM = 128
        self.CLASSES_FILE = classes_file
        super().__init__()


class SilentConfig(Config):
    """An __init__ of its own that never calls the other."""

    def __init__(self, name):
        self.NAME = name
        self.NUM_CLASSES = 5
        self.BACKBONE = backbone
        self.COMPUTE_BACKBONE_SHAPE = backbone_shapes
        self.BATCH_SIZE = 1
        self.note = "anything"


early = EarlyConfig(3, batch=2, classes_file="names.txt")
early.display()
model = MaskRCNN(mode="inference", config=early, model_dir="logs")


class InferenceConfig(early.__class__):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    DETECTION_MIN_CONFIDENCE = 0.5

    def __init__(self):
        super().__init__(3, batch=1)


inference_config = InferenceConfig()

silent = SilentConfig("silent")
silent.display()
with tf.device("/cpu:0"):
    silent_model = MaskRCNN(mode="inference", model_dir="logs", config=silent)

photo = np.random.RandomState(0).randint(0, 255, (40, 60, 3), dtype=np.uint8)
silent_model.config.DETECTION_MIN_CONFIDENCE = 0
many = silent_model.detect([photo])[0]
silent_model.config.DETECTION_MIN_CONFIDENCE = 0.99
few = silent_model.detect([photo], verbose=0)[0]
silent_model.config.DETECTION_MIN_CONFIDENCE = 0
again = silent_model.detect([photo], verbose=0)[0]

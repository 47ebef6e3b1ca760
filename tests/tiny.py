"""A Mask R-CNN that builds in a second: 64 x 64 pixels, a backbone of 3x3 convolutions."""

import functools
import os
import re
import subprocess
import sys

import numpy as np
import tensorflow as tf
from keras import layers as KL
from kinds import CASCADE, KEYPOINTS

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.detection_model import model_class
from mrcnn.model import BatchNorm
from mrcnn.nn.image_meta import compose_image_meta


def backbone(image, stage5=True, train_bn=None):
    """`[C1..C5]`; the layer names belong to the stages of "3+", "4+" and "5+"."""
    x, stages = image, []
    for stage in (1, 2, 3, 4, 5):
        x = KL.Conv2D(24, 3, strides=2, padding="same", name=f"res{stage}a_conv")(x)
        x = BatchNorm(train_bn, name=f"bn{stage}a")(x)
        x = KL.Activation("relu", name=f"res{stage}a_out")(x)
        stages.append(x)
    return stages


class TinyConfig(Config):
    NAME = "tiny"
    BACKBONE = staticmethod(backbone)
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    NUM_CLASSES = 3
    IMAGES_PER_GPU = 2
    RPN_ANCHOR_SCALES = (8, 16, 32, 48, 64)
    TOP_DOWN_PYRAMID_SIZE = 32
    RPN_CHANNELS = 24
    FPN_CLASSIF_FC_LAYERS_SIZE = 40
    MASK_CHANNELS = 24
    PRE_NMS_LIMIT = 400
    POST_NMS_ROIS_TRAINING = 200
    POST_NMS_ROIS_INFERENCE = 20
    TRAIN_ROIS_PER_IMAGE = 12
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    DETECTION_MAX_INSTANCES = 10
    DETECTION_MIN_CONFIDENCE = 0.0
    MAX_GT_INSTANCES = 4
    USE_MINI_MASK = False
    FPN_CANONICAL_SIZE = 32.0
    STEPS_PER_EPOCH = 1
    VALIDATION_STEPS = 1
    VALIDATION_PICTURES = 0
    LEARNING_RATE = 0.01
    SEED = 7

    @staticmethod
    def COMPUTE_BACKBONE_SHAPE(image_shape):
        return np.array(
            [[-(-image_shape[0] // s), -(-image_shape[1] // s)] for s in (4, 8, 16, 32, 64)]
        )

    def __init__(self, **values):
        super().__init__()
        for (
            name,
            value,
        ) in values.items():  # derived ones, such as BATCH_SIZE, stay only if set after it
            setattr(self, name, value)


def tiny_config(network="mask_rcnn", **values):
    """The tiny config of one of `KINDS` or "cascade": its preset, with sizes of `TinyConfig`."""
    config = TinyConfig()
    if network in ("keypoints", "cascade"):
        values = {**(KEYPOINTS if network == "keypoints" else CASCADE), **values}
    elif network != "mask_rcnn":
        config = getattr(TinyConfig, network)()
        # A few steps from random weights, as with the defaults of Config.
        few = {"WARMUP_STEPS": 0, "GRADIENT_CLIP_NORM": 5.0, "TOWER_CONV_LAYERS": 2}
        values = {**few, **values}
    for name, value in values.items():
        setattr(config, name, value)
    return config


class Squares(Dataset):
    """A light or a dark square (class 1, 2) on grey, in another place in each image.

    Its keypoints are the upper corners and the middle.
    """

    keypoint_names = ("left_top", "right_top", "middle")
    keypoint_skeleton = ((0, 1),)

    def __init__(self, count=4, side=64):
        super().__init__()
        self.side = side
        self.add_class("squares", 1, "light")
        self.add_class("squares", 2, "dark")
        for i in range(count):
            self.add_image("squares", i, path=None)
        self.prepare()

    def _square(self, image_id):
        y, x = 8 + 5 * image_id % 24, 8 + 11 * image_id % 24
        return slice(y, y + 24), slice(x, x + 20)

    def load_image(self, image_id):
        image = np.full((self.side, self.side, 3), 128, np.uint8)
        image[self._square(image_id)] = 250 if image_id % 2 else 20
        return image

    def load_mask(self, image_id):
        mask = np.zeros((self.side, self.side, 1), bool)
        mask[self._square(image_id)] = True
        return mask, np.array([1 if image_id % 2 else 2], np.int32)

    def load_keypoints(self, image_id):
        rows, columns = self._square(image_id)
        middle = (rows.start + rows.stop) / 2, (columns.start + columns.stop) / 2
        corners = (rows.start, columns.start), (rows.start, columns.stop)
        return np.array([[[*place, 2] for place in (*corners, middle)]])


def new_model(kind="mask_rcnn", mode="inference", folder="logs", **values):
    """A model of one of `KINDS`."""
    config = tiny_config(kind, **values)
    return model_class(config)(mode, config, str(folder))


def build(kind="mask_rcnn", mode="inference", folder="logs", seed=0, **values):
    """A model of one of `KINDS`, with the random weights of `shake`."""
    return shake(new_model(kind, mode, folder, **values), seed)


def keys_of(model):
    """The keys of a model's results."""
    keys = {"rois", "class_ids", "scores"}
    if model.config.has_mask_head():
        keys.add("masks")
    return keys | {"keypoints"} if model.config.has_keypoint_head() else keys


def assert_same_results(result, expected):
    """Compare two results of one model, with masks in any form."""
    assert set(result) == set(expected)
    for key, values in expected.items():
        if isinstance(values, list):
            assert len(result[key]) == len(values)
            for one, other in zip(result[key], values, strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_array_equal(result[key], values, err_msg=key)


def shake(model, seed=0):
    """The model with random weights of `seed`: it detects many and different objects."""
    rng = np.random.default_rng(seed)
    scales = {"res1a_conv": 0.02, "rpn_bbox_pred": 0.02, "mrcnn_bbox_fc": 0.3}
    if not model.config.has_rpn():  # its images are divided by STD_PIXEL
        scales = {"retinanet_deltas": 0.3, "fcos_sides": 0.3}
    for weight in model.keras_model.weights:
        layer, kind = weight.path.split("/")[-2:]
        if kind == "kernel":
            layer = re.sub(r"cascade\d_", "", layer)
            spread = scales.get(layer, 1.4) / np.sqrt(np.prod(weight.shape[:-1]))
            weight.assign(rng.normal(0, spread, weight.shape))
    return model


def noise_images(count, seed=0, sizes=((64, 64),)):
    """`count` images of noise, whose sizes take turns."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(count)]


def image_meta(height, width, window=None):
    """`[1, IMAGE_META_SIZE]` float32 of an image that fills the window."""
    shape = (height, width, 3)
    window = window or (0, 0, height, width)
    return np.float32(compose_image_meta(0, shape, shape, window, 1.0, np.zeros(3)))[None]


def operation_types(function):
    """The types of the operations of a function and of all functions it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for called in graph.library.function for node in called.node_def)]
    return {node.op for node in nodes}


def empty_batch_is_wrong() -> bool:
    """Whether tf.nn.conv2d of an empty batch keeps the input's channels, a bug of oneDNN."""
    return tf.nn.conv2d(tf.zeros((0, 1, 1, 2)), tf.zeros((1, 1, 2, 3)), 1, "SAME").shape[-1] != 3


@functools.cache
def passes_without_onednn(tests: str) -> bool:
    """Whether the tests of this name pass in a process where TensorFlow computes without oneDNN."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", tests]
    env = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(command, env=env, text=True, capture_output=True)
    assert done.returncode == 0 and " passed" in done.stdout, (
        done.stdout[-5000:] + done.stderr[-2000:]
    )
    return True

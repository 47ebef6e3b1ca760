"""The demo: show this package's models, then draw shapes, train Mask R-CNN on them, evaluate."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as KL
from PIL import Image

from ..config import Config
from ..data.dataset import Dataset
from ..data.shapes import ShapesDataset
from ..detection_model import DetectionModel, model_class
from ..drawing import curves, pages
from ..evaluation import evaluate
from ..files.atomic import atomic_write
from ..nn.layers import BatchNorm
from ..training.reports import peak_memory_mb
from .model_demo import show_models

log = logging.getLogger("mrcnn")

EPOCHS = 9
TRAINING_IMAGES = 4000
TEST_IMAGES = 100
DRAWN_IMAGES = 12


def backbone(image: keras.KerasTensor) -> list[keras.KerasTensor]:
    """A small residual network that two CPU cores can train on simple shapes.

    image: `[B, H, W, 3]` molded.

    Returns: `[C1, ..., C5]`, feature maps of strides 2, 4, 8, 16, 32.
    """
    return _residual_network(image, (24, 32, 64, 128, 160))


def narrow_backbone(image: keras.KerasTensor) -> list[keras.KerasTensor]:
    """`backbone` with a third of its weights, of the model `shapes` that this package contains."""
    return _residual_network(image, (24, 32, 48, 64, 96))


def _residual_network(image: keras.KerasTensor, channels_of_stages: Sequence[int]) -> list:
    """`[C1, ..., C5]`, two residual blocks per stage from C2 on."""
    first, *others = channels_of_stages
    x = _conv(KL.Rescaling(1 / 64)(image), first, 2, "stage1")
    stages = [x]
    for stage, channels in enumerate(others, start=2):
        x = _residual_block(x, channels, 2, f"stage{stage}_1")
        x = _residual_block(x, channels, 1, f"stage{stage}_2")
        stages.append(x)
    return stages


def _conv(x, channels: int, stride: int, name: str, relu: bool = True):
    x = KL.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(
        x
    )
    x = BatchNorm(name=f"{name}_bn")(x)
    return KL.Activation("relu")(x) if relu else x


def _residual_block(x, channels: int, stride: int, name: str):
    shortcut = x if stride == 1 else _conv(x, channels, stride, f"{name}_shortcut", relu=False)
    x = _conv(x, channels, stride, f"{name}_a")
    x = _conv(x, channels, 1, f"{name}_b", relu=False)
    return KL.Activation("relu")(KL.Add()([x, shortcut]))


class DemoConfig(Config):
    """The complete network with few channels: images of 128 px, three shapes, random weights."""

    NAME = "shapes"
    BACKBONE = staticmethod(backbone)
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    # The backbone scales the pixels itself.
    MEAN_PIXEL, STD_PIXEL = Config.MEAN_PIXEL, Config.STD_PIXEL
    NUM_CLASSES = 1 + 3
    IMAGES_PER_GPU = 8
    RPN_ANCHOR_SCALES = (16, 32, 64, 96, 128)
    TOP_DOWN_PYRAMID_SIZE = 64
    RPN_CHANNELS = 64
    FPN_CLASSIF_FC_LAYERS_SIZE = 256
    MASK_CHANNELS = 32
    TRAIN_ROIS_PER_IMAGE = 24
    ROIS_INCLUDE_GT = True
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    PRE_NMS_LIMIT = 1000
    RPN_NMS_THRESHOLD = 0.8
    POST_NMS_ROIS_TRAINING = 200
    POST_NMS_ROIS_INFERENCE = 100
    DETECTION_NMS_THRESHOLD = 0.5
    DETECTION_MAX_INSTANCES = 20
    MAX_GT_INSTANCES = 8
    USE_MINI_MASK = False
    TRAIN_BN = None
    OPTIMIZER = "adam"
    LEARNING_RATE = 0.001
    LEARNING_RATE_SCHEDULE = "cosine"
    WARMUP_STEPS = 50
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 3
    VALIDATION_PICTURES = 0  # the demo draws images at its end

    @staticmethod
    def COMPUTE_BACKBONE_SHAPE(image_shape):
        height, width = image_shape[:2]
        return np.array([[height // stride, width // stride] for stride in (4, 8, 16, 32, 64)])

    @classmethod
    def retinanet(cls, version: int = 1) -> Config:
        """Return a config of RetinaNet with few channels, for the same images."""
        config: Any = super().retinanet(version)
        # Shapes have sides of 13 to 64 pixels.
        config.RPN_ANCHOR_SCALES = tuple(
            (side, round(side * 2 ** (1 / 3)), round(side * 2 ** (2 / 3)))
            for side in (12, 24, 48, 96, 192)
        )
        # Random weights learn faster with them.
        config.FPN_NORM = config.TOWER_NORM = "group"
        config.TOWER_CONV_LAYERS, config.NORM_EPSILON, config.BOX_LOSS = 2, 1e-5, "giou"
        config.LEARNING_RATE, config.STEPS_PER_EPOCH, config.EMA_DECAY = 0.002, 200, 0.99
        return config

    @classmethod
    def fcos(cls) -> Config:
        """Return a config of FCOS with few channels, for the same images."""
        config: Any = super().fcos()
        # Random weights learn faster with them.
        config.FPN_NORM, config.TOWER_CONV_LAYERS = "group", 2
        config.LEARNING_RATE, config.STEPS_PER_EPOCH, config.EMA_DECAY = 0.002, 200, 0.99
        return config


def run(
    out: str = "mrcnn_demo", seed: int = 0, short: bool = False, config: Config | None = None
) -> dict:
    """Run the demo and return its metrics, which `metrics.json` contains as well.

    out: folder for weights, images, loss curves, AP table and metrics.
    seed: of weights, data and sampling.
    short: run too few steps to learn much, in a minute, to check that everything works.
    config: default: `DemoConfig()`.

    Returns: box_ap, box_ap50, mask_ap, mask_ap50 (0..1; of masks only if the network has them),
    seconds (without those of this package's models), peak_memory_mb.

    Raises: ValueError for a region proposal network, which has no detections.
    """
    config = config or DemoConfig()
    if config.RPN_ONLY:
        raise ValueError(
            "The demo measures detections, so RPN_ONLY must be False. Received: True. Try `mrcnn "
            "train shapes --config samples/shapes/shapes.py RPN_ONLY=True`, and `mrcnn evaluate "
            "shapes`."
        )
    os.makedirs(out, exist_ok=True)
    show_models(out)
    start = time.time()
    keras.utils.set_random_seed(seed)
    config.SEED = seed
    epochs, test_images = EPOCHS, TEST_IMAGES
    if short:
        config.STEPS_PER_EPOCH, config.VALIDATION_STEPS, epochs, test_images = 10, 1, 2, 10
    # No other run of either kind uses these seeds.
    train_shapes = ShapesDataset(TRAINING_IMAGES, seed=2 * seed)
    test_shapes = ShapesDataset(test_images, seed=2 * seed + 1)

    steps = epochs * config.STEPS_PER_EPOCH
    if short:
        log.info(
            "--short shows that everything works. It trains too few steps to find the shapes: "
            "an AP of 0 is right. `mrcnn demo` trains enough."
        )
    log.info("1/3 Training on drawn shapes, %d steps of %d images", steps, config.BATCH_SIZE)
    weights = _train(config, train_shapes, test_shapes, epochs, out)

    log.info("2/3 Detecting in %d images it has not seen", test_images)
    # With the config, because no file can name a backbone of the user's own.
    model = DetectionModel.from_weights(weights, copy.copy(config))
    model.config.DETECTION_MIN_CONFIDENCE = evaluate.EVALUATION_MIN_CONFIDENCE
    evaluation = evaluate.evaluate_dataset(
        lambda image: model.detect([image], masks="rle")[0], test_shapes
    )
    _write_text(evaluation.table() + "\n", os.path.join(out, "ap.txt"))

    log.info("3/3 Drawing detections next to the ground truth")
    _draw(model, test_shapes, _lowest_score_to_draw(evaluation), out)
    metrics = _metrics(evaluation, config.USE_MASK, time.time() - start)
    _write_text(json.dumps(metrics, indent=2), os.path.join(out, "metrics.json"))
    table, folder = evaluation.table(), os.path.abspath(out)
    log.info("%s\nEverything is in %s: start with detections_00.png", table, folder)
    return metrics


def _train(config: Config, train_data: Dataset, val_data: Dataset, epochs: int, out: str) -> str:
    """Train from random weights; returns the path of the weight file."""
    model = model_class(config)("training", config, os.path.join(out, "logs"))
    history = model.train(train_data, val_data, config.LEARNING_RATE, epochs, layers="all")
    weights = os.path.join(out, "shapes.h5")
    model.save_weights(weights)
    curves.plot_history(history.history, os.path.join(out, "losses.png"))
    return weights


def _lowest_score_to_draw(evaluation) -> float:
    """The default threshold, or the best one if that is lower, as after a short demo."""
    best = evaluation.confidence.score if evaluation.confidence else math.nan
    return 0.0 if math.isnan(best) else min(DemoConfig.DETECTION_MIN_CONFIDENCE, best)


def _draw(model: DetectionModel, dataset: Dataset, shown_from: float, out: str) -> None:
    for image_id in dataset.image_ids[:DRAWN_IMAGES]:
        image = dataset.load_image(image_id)
        found = model.detect([image])[0]
        drawn = pages.draw_next_to_ground_truth(dataset, image_id, image, found, shown_from)
        with atomic_write(os.path.join(out, f"detections_{image_id:02}.png")) as part:
            Image.fromarray(drawn).save(part, format="png")


def _metrics(evaluation, has_masks: bool, seconds: float) -> dict:
    metrics = {"box_ap": evaluation.box["AP"], "box_ap50": evaluation.box["AP50"]}
    if has_masks:
        metrics["mask_ap"] = evaluation.mask["AP"]
        metrics["mask_ap50"] = evaluation.mask["AP50"]
    metrics["seconds"] = round(seconds, 1)
    metrics["peak_memory_mb"] = peak_memory_mb()
    return metrics


def _write_text(text: str, path: str) -> None:
    with atomic_write(path) as part:
        Path(part).write_text(text, encoding="utf-8")

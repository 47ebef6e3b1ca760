"""The demo: draw shapes, train Mask R-CNN on them from nothing, measure it, leave pictures to look at."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers as KL
from PIL import Image

from ..config import Config
from ..data.shapes import ShapesDataset
from ..drawing import curves, pages
from ..evaluation import evaluate
from ..files.atomic import atomic_write
from ..model import BatchNorm, MaskRCNN

log = logging.getLogger("mrcnn")


def backbone(image):
    """`[C1, ..., C5]` of a small residual network: what squares and circles need, and two cores can train."""

    def conv(x, channels, stride, name, relu=True):
        x = KL.Conv2D(
            channels, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
        )(x)
        x = BatchNorm(name=f"{name}_bn")(x)
        return KL.Activation("relu")(x) if relu else x

    def block(x, channels, stride, name):
        shortcut = x if stride == 1 else conv(x, channels, stride, f"{name}_shortcut", relu=False)
        x = conv(x, channels, stride, f"{name}_a")
        return KL.Activation("relu")(
            KL.Add()([conv(x, channels, 1, f"{name}_b", relu=False), shortcut])
        )

    x = conv(KL.Rescaling(1 / 64)(image), 24, 2, "stage1")
    stages = [x]
    for stage, channels in enumerate((32, 64, 128, 160), start=2):
        x = block(x, channels, 2, f"stage{stage}_1")
        x = block(x, channels, 1, f"stage{stage}_2")
        stages.append(x)
    return stages


class DemoConfig(Config):
    """The whole network, narrow: 128 px images, three shapes, from random weights."""

    NAME = "shapes"
    BACKBONE = staticmethod(backbone)
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
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
    VALIDATION_PICTURES = 0  # pictures are drawn at the end

    @staticmethod
    def COMPUTE_BACKBONE_SHAPE(image_shape):
        return np.array(
            [[image_shape[0] // stride, image_shape[1] // stride] for stride in (4, 8, 16, 32, 64)]
        )


EPOCHS = 9
PICTURES = 12


def run(out="mrcnn_demo", seed=0, short=False, config=None) -> dict:
    """The demo's figures, as it also leaves them in `metrics.json`.

    out: folder for weights, pictures, loss curve, AP table and metrics. seed: of weights, data and samples.
    short: a check that everything works, in a minute: too few steps to learn much. config: default `DemoConfig()`.

    Returns: box_ap, box_ap50, mask_ap, mask_ap50 (0..1; of masks only where there are some), seconds, peak_memory_mb.

    Raises: ValueError for the region proposal network alone, which detects nothing.
    """
    start = time.time()
    keras.utils.set_random_seed(seed)
    config = config or DemoConfig()
    if config.RPN_ONLY:
        raise ValueError(
            "The demo measures detections, so RPN_ONLY must be False. Received: True. Try `mrcnn train shapes "
            "--config samples/shapes/shapes.py RPN_ONLY=True`, and `mrcnn evaluate shapes`."
        )
    config.SEED = seed
    epochs, held_out = EPOCHS, 100
    if short:
        config.STEPS_PER_EPOCH, config.VALIDATION_STEPS, epochs, held_out = 10, 1, 2, 10
    # Training and test shapes come from seeds that no other run of either kind uses.
    train_shapes = ShapesDataset(4000, seed=2 * seed)
    test_shapes = ShapesDataset(held_out, seed=2 * seed + 1)
    os.makedirs(out, exist_ok=True)

    log.info(
        "1/3 Training on drawn shapes, %d steps of %d images",
        epochs * config.STEPS_PER_EPOCH,
        config.BATCH_SIZE,
    )
    model = MaskRCNN("training", config, os.path.join(out, "logs"))
    history = model.train(train_shapes, test_shapes, config.LEARNING_RATE, epochs, layers="all")
    weights = os.path.join(out, "shapes.h5")
    model.save_weights(weights)
    curves.plot_history(history.history, os.path.join(out, "losses.png"))

    log.info("2/3 Detecting in %d images it has not seen", held_out)
    model = MaskRCNN.from_weights(weights)
    model.config.DETECTION_MIN_CONFIDENCE = evaluate.EVALUATION_MIN_CONFIDENCE
    evaluation = evaluate.evaluate_dataset(
        lambda image: model.detect([image], masks="rle")[0], test_shapes
    )
    with atomic_write(os.path.join(out, "ap.txt")) as part:
        Path(part).write_text(evaluation.table() + "\n", encoding="utf-8")

    log.info("3/3 Drawing detections beside the truth")
    # After the few steps of the short demo no score is high.
    best = evaluation.confidence.score if evaluation.confidence else math.nan
    shown_from = min(DemoConfig.DETECTION_MIN_CONFIDENCE, best) if not math.isnan(best) else 0.0
    for image_id in test_shapes.image_ids[:PICTURES]:
        image = test_shapes.load_image(image_id)
        found = model.detect([image])[0]
        picture = pages.draw_next_to_ground_truth(test_shapes, image_id, image, found, shown_from)
        with atomic_write(os.path.join(out, f"detections_{image_id:02}.png")) as part:
            Image.fromarray(picture).save(part, format="png")

    kinds = {"box": evaluation.box, **({"mask": evaluation.mask} if config.USE_MASK else {})}
    metrics = {
        **{
            f"{kind}_{ap.lower()}": figures[ap]
            for kind, figures in kinds.items()
            for ap in ("AP", "AP50")
        },
        "seconds": round(time.time() - start, 1),
        "peak_memory_mb": peak_memory_mb(),
    }
    with atomic_write(os.path.join(out, "metrics.json")) as part:
        Path(part).write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    log.info(
        "%s\nEverything is in %s: start with detections_00.png",
        evaluation.table(),
        os.path.abspath(out),
    )
    if short:
        log.info(
            "--short trains too little to find the shapes: the pictures show guesses. `mrcnn demo` trains enough."
        )
    return metrics


def peak_memory_mb() -> float | None:
    """The most memory this process has held, None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)

"""Training from torchvision's and detectron2's weights, without a network connection.

The weights are seeded ones with the true names, from MRCNN_SHARED/reference/torchvision.
"""

import os
import pickle
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.shapes import ShapesDataset
from mrcnn.model import MaskRCNN
from mrcnn.weights.weight_file import WeightFile

REFERENCE = Path(os.environ.get("MRCNN_SHARED", "")) / "reference" / "torchvision"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs MRCNN_SHARED/reference/torchvision"),
]
LEARNING_RATE = 2e-4  # the seeded weights are noise, whose gradients are large
DATA = ShapesDataset(8, size=(128, 128))


def shapes_config(preset):
    class ShapesConfig(Config):
        NAME = "shapes"
        NUM_CLASSES = 4
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
        IMAGES_PER_GPU = 1
        STEPS_PER_EPOCH = 6
        VALIDATION_STEPS = 0
        VALIDATION_PICTURES = 0
        WARMUP_STEPS = 0
        SEED = 1
        LEARNING_RATE_SCHEDULE = "constant"
        TRAIN_ROIS_PER_IMAGE = 64
        POST_NMS_ROIS_TRAINING = 200

    return {
        "torchvision 1": lambda: ShapesConfig.torchvision(1),
        "torchvision 2": lambda: ShapesConfig.torchvision(2),
        "detectron": ShapesConfig.detectron,
    }[preset]()


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """Preset -> path of a file with seeded weights."""
    sys.path.insert(0, str(REFERENCE))
    import rebuild

    sys.path.remove(str(REFERENCE))
    folder = tmp_path_factory.mktemp("seeded")
    tensors = {
        "torchvision 1": rebuild.state_dict("maskrcnn_resnet50_fpn"),
        "torchvision 2": rebuild.state_dict("maskrcnn_resnet50_fpn_v2"),
        "detectron": rebuild.detectron2_state_dict(),
    }
    paths = {}
    for preset, named in tensors.items():
        paths[preset] = folder / f"{preset.replace(' ', '_')}.pkl"
        paths[preset].write_bytes(pickle.dumps({"model": dict(named)}))
    return paths


class StopAfter(keras.callbacks.Callback):
    """Interrupt the training as Ctrl-C does."""

    def __init__(self, epoch):
        super().__init__()
        self.stop_epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.stop_epoch:
            raise KeyboardInterrupt


def start(preset, path, folder):
    keras.utils.set_random_seed(0)  # of the class heads, which are new
    model = MaskRCNN("training", shapes_config(preset), folder)
    report = model.load_weights(path)
    assert not report.missing
    return model


@pytest.mark.parametrize("preset", ["torchvision 1", "torchvision 2", "detectron"])
def test_the_loss_falls_and_a_resumed_training_is_exact(tmp_path, seeded, preset):
    model = start(preset, seeded[preset], tmp_path / "whole")
    history = model.train(DATA, None, LEARNING_RATE, epochs=3, layers="heads")
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    wanted = model.keras_model.get_weights()

    model = start(preset, seeded[preset], tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        stop = StopAfter(2)
        model.train(DATA, None, LEARNING_RATE, epochs=3, layers="heads", custom_callbacks=[stop])
    with WeightFile(model.checkpoint_path.format(epoch=2)) as file:
        saved = file.metadata
    assert saved["class_names"] == DATA.class_names
    assert saved["config"] == model.config.to_dict()
    resumed = MaskRCNN("training", shapes_config(preset), tmp_path / "parts")
    resumed.load_weights(resumed.find_last())
    resumed.train(DATA, None, LEARNING_RATE, epochs=3, layers="heads")
    for found, value in zip(resumed.keras_model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_known_classes_are_kept(tmp_path, seeded):
    model = MaskRCNN("training", shapes_config("torchvision 1"), tmp_path)
    report = model.load_weights(seeded["torchvision 1"], remap_classes={"kite": 2})
    assert report.remapped == {"kite": 2}
    import rebuild

    theirs = rebuild.state_dict("maskrcnn_resnet50_fpn")
    kernel, bias = model.keras_model.get_layer("mrcnn_class_logits").get_weights()
    kite = 38  # its id of COCO
    np.testing.assert_array_equal(
        kernel[:, 2], theirs["roi_heads.box_predictor.cls_score.weight"][kite]
    )
    assert bias[2] == theirs["roi_heads.box_predictor.cls_score.bias"][kite]

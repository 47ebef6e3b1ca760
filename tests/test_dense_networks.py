"""RetinaNet and FCOS, tiny: detection, weight files and training, the same for both."""

import numpy as np
import pytest
import tensorflow as tf
from tiny import Squares, TinyConfig, noise_images, shake, tiny_config

from mrcnn.config import NETWORKS
from mrcnn.detection_model import DetectionModel, model_class
from mrcnn.model import MaskRCNN

pytestmark = pytest.mark.usefixtures("eagerly")


def build(network, mode="inference", folder="logs", **values):
    config = tiny_config(network, **values)
    return model_class(config)(mode, config, str(folder))


@pytest.fixture(scope="module", params=[name for name in NETWORKS if name != "mask_rcnn"])
def model(request):
    return shake(build(request.param))


@pytest.fixture
def network(model):
    """The name of the network."""
    return model.network_name


# --- Detection ---


def test_empty_result_has_a_reason(network, capsys):
    quiet = build(network, DETECTION_MIN_CONFIDENCE=0.5)
    (found,) = quiet.detect(noise_images(1), verbose=1)
    assert found["rois"].shape == (0, 4)
    assert "Nothing detected: the best score was 0.0" in capsys.readouterr().out


# --- Weights ---


def test_weight_file_knows_its_network(model, tmp_path):
    model.class_names = ["BG", "light", "dark"]
    model.save_weights(tmp_path / "x.h5")
    loaded = type(model).from_weights(tmp_path / "x.h5", tiny_config(model.network_name))
    image = noise_images(1)
    np.testing.assert_array_equal(loaded.detect(image)[0]["rois"], model.detect(image)[0]["rois"])
    with pytest.raises(ValueError, match="with 3 classes for a model with 7"):
        type(model).from_weights(tmp_path / "x.h5", tiny_config(model.network_name, NUM_CLASSES=7))
    mask_rcnn = MaskRCNN("inference", TinyConfig())
    with pytest.raises(ValueError, match="region proposal network must be in the file"):
        mask_rcnn.load_weights(tmp_path / "x.h5")
    mask_rcnn.save_weights(tmp_path / "mask_rcnn.h5")
    with pytest.raises(ValueError, match="class and box towers.* must be in the file"):
        loaded.load_weights(tmp_path / "mask_rcnn.h5")


def test_base_class_builds_the_network_of_a_file(network, tmp_path):
    saved = build(network, BACKBONE="mobilenet_v2", TOP_DOWN_PYRAMID_SIZE=32)
    saved.save_weights(tmp_path / "x.h5")
    assert type(DetectionModel.from_weights(tmp_path / "x.h5")) is type(saved)


def test_classes_that_a_source_does_not_label_do_not_count(network, tmp_path):
    """The loss of a network that is sure of class 2 everywhere; no image has class 2 active."""
    network = build(network, "training", tmp_path).keras_model
    meta = np.zeros((1, 15), np.float32)
    meta[:, 4:7], meta[:, 12:] = (64, 64, 3), (1, 1, 0)
    inputs = [np.zeros((1, 64, 64, 3)), meta, np.zeros((1, 4)), np.zeros((1, 4, 4))]
    inputs = [tf.constant(x, tf.float32) for x in inputs[:2]] + [
        tf.constant(inputs[2], tf.int32),
        tf.constant(inputs[3], tf.float32),
    ]
    outputs = network(inputs)
    first = float(network.losses(inputs, outputs)["class_loss"][0])
    sure = outputs["class_logits"] + tf.constant([0.0, 0.0, 50.0])
    assert (
        float(network.losses(inputs, {**outputs, "class_logits": sure})["class_loss"][0]) == first
    )


def test_class_names_of_the_dataset_are_kept(network, tmp_path):
    trained = build(network, "training", tmp_path)
    trained.train(Squares(), None, 0.001, 1, "heads")
    assert trained.class_names == ["BG", "light", "dark"]
    assert f"{network}_tiny_0001.h5" in trained.find_last()

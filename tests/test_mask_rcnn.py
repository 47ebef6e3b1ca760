"""`MaskRCNN` besides detection and training: looking inside, logging, files of whole networks."""

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as KL
from tiny import TinyConfig, noise_images, shake

from mrcnn import detection_model
from mrcnn.config import Config
from mrcnn.model import MaskRCNN, log
from mrcnn.nn.image_meta import compose_image_meta
from mrcnn.weights import zoo
from mrcnn.weights.coco_classes import COCO_80
from mrcnn.weights.opening import read_metadata
from mrcnn.weights.saving import save_weights

pytestmark = pytest.mark.usefixtures("eagerly")


def build(mode="inference", folder="logs", **values):
    return MaskRCNN(mode, TinyConfig(**values), folder)


@pytest.fixture(scope="module")
def model():
    return shake(build())


@pytest.fixture
def class_names(model):
    """The class names that the model has during the test."""
    model.class_names = ["BG", "light", "dark"]
    yield model.class_names
    model.class_names = None


def network_inputs(model):
    """The three inputs of an inference network for one white image of 64 x 64 pixels."""
    image = np.ones((1, 64, 64, 3), np.float32)
    meta = compose_image_meta(0, (64, 64, 3), (64, 64, 3), (0, 0, 64, 64), 1, [1, 1, 1])
    anchors = model.get_anchors((64, 64))
    return [image, np.float32(meta[None]), np.float32(anchors[None])]


# --- Looking inside ---


STEPS = {
    "ROI/pre_nms_anchors:0": (1, 400, 4),
    "ROI/refined_anchors:0": (1, 400, 4),
    "ROI/refined_anchors_clipped:0": (1, 400, 4),
    "ROI/rpn_non_max_suppression:0": (20,),
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV2:0": (20,),
    "ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0": (20,),
}


def test_run_graph_accepts_what_ancestor_returns(model):
    roi = model.keras_model.get_layer("ROI").output
    outputs = [(name, model.ancestor(roi, name)) for name in STEPS]
    outputs.append(("ROI", roi))
    values = model.run_graph(noise_images(1), outputs)
    assert {name: values[name].shape for name in STEPS} == STEPS
    clipped = values["ROI/refined_anchors_clipped:0"]
    np.testing.assert_array_equal(clipped, np.clip(values["ROI/refined_anchors:0"], 0, 1))
    kept = values["ROI/rpn_non_max_suppression:0"]
    np.testing.assert_array_equal(clipped[0, kept], values["ROI"][0])


def test_indices_after_suppression_are_of_the_first_image_without_padding():
    """As matterport's notebooks use them: `ixs = rpn["post_nms_anchor_ix"][:limit]`."""
    limit = 10  # fewer than the 20 proposals
    model = shake(build(PRE_NMS_LIMIT=limit))
    roi = model.keras_model.get_layer("ROI").output
    indices = model.ancestor(roi, "ROI/rpn_non_max_suppression:0")
    values = model.run_graph(noise_images(2), [("kept", indices), ("rois", roi)])
    count = int(np.any(values["rois"][0] != 0, axis=1).sum())
    assert values["kept"].shape == (count,) and 0 < count <= limit


def test_ancestor_of_an_unknown_name_is_none(model):
    roi = model.keras_model.get_layer("ROI").output
    assert model.ancestor(roi, "ROI/nonsense:0") is None
    assert model.ancestor(roi, "nonsense") is None
    with pytest.raises(ValueError, match="Every output must be a tensor. Received: None for x"):
        model.run_graph(noise_images(1), [("x", None)])


def test_run_graph_accepts_a_list_or_molded_images(model):
    p2 = model.keras_model.get_layer("fpn_p2").output
    detections = model.keras_model.outputs[0]
    outputs = [("p2", p2), ("detections", detections)]
    images = noise_images(2)
    of_list = model.run_graph(images, outputs)
    molded, metas, _ = model.mold_inputs(images)
    of_molded = model.run_graph(molded, outputs, image_metas=metas)
    of_array = model.run_graph(np.stack(images), outputs)
    assert of_list["p2"].shape == (2, 16, 16, 32)
    np.testing.assert_array_equal(of_list["p2"], of_molded["p2"])
    np.testing.assert_array_equal(of_list["detections"], of_array["detections"])


def test_run_graph_keeps_the_batch_axis_of_a_single_output(model):
    image = model.keras_model.inputs[0]
    assert model.run_graph(noise_images(1), [("image", image)])["image"].shape == (1, 64, 64, 3)


def test_trainable_layers_have_weights(model):
    names = [layer.name for layer in model.get_trainable_layers()]
    assert {"res1a_conv", "bn1a", "rpn_model", "mrcnn_mask"} <= set(names)
    assert "fpn_p6" not in names and "ROI" not in names
    layer = model.keras_model.get_layer("fpn_p2")
    assert model.find_trainable_layer(layer) is layer
    assert model.find_trainable_layer(KL.TimeDistributed(layer)) is layer


# --- Logging ---


def test_log_handler_is_added_unless_the_program_has_one(monkeypatch, capsys):
    logger = detection_model.logger
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", 0)
    for _ in range(2):
        detection_model._ensure_log_handler()
    logger.info("epoch 1/10")
    assert capsys.readouterr().err == "epoch 1/10\n"
    own = [logging.NullHandler()]
    monkeypatch.setattr(logger, "handlers", own)
    detection_model._ensure_log_handler()
    assert logger.handlers == own and len(own) == 1


def test_building_a_model_adds_the_log_handler(monkeypatch):
    monkeypatch.setattr(detection_model.logger, "handlers", [])
    monkeypatch.setattr(detection_model.logger, "propagate", False)
    monkeypatch.setattr(detection_model.logger, "level", 0)
    build()
    assert len(detection_model.logger.handlers) == 1


def test_log_prints_shape_range_and_type(capsys):
    log("x", np.array([[1, 5]]))
    log("only words")
    log("empty", np.zeros((0, 4)))
    text = capsys.readouterr().out
    assert "shape: (1, 2)" in text and "1.00000" in text and "5.00000" in text
    assert "only words\n" in text and "shape: (0, 4)" in text


# --- Weight files of keras_model ---


def test_keras_model_saves_and_loads_any_h5_name(model, tmp_path):
    path = tmp_path / "x.h5"
    model.keras_model.save_weights(str(path))
    assert read_metadata(path)["config"]["NAME"] == "tiny"
    other = shake(build(), seed=5)
    other.keras_model.load_weights(str(path), by_name=True)
    for loaded, saved in zip(other.keras_model.weights, model.keras_model.weights, strict=True):
        np.testing.assert_array_equal(loaded, saved)
    with pytest.raises(ValueError, match="overwrite=False"):
        model.keras_model.save_weights(path, overwrite=False)


def test_keras_model_still_saves_files_of_keras(model, tmp_path):
    path = tmp_path / "x.weights.h5"
    model.keras_model.save_weights(path)
    other = shake(build(), seed=5)
    other.keras_model.load_weights(path)
    loaded, saved = (one.keras_model.get_layer("fpn_p2").kernel for one in (other, model))
    np.testing.assert_array_equal(loaded, saved)


# --- Whole networks ---


CUSTOM_OBJECTS = {
    "backbone": TinyConfig.BACKBONE,
    "TinyConfig.COMPUTE_BACKBONE_SHAPE": TinyConfig.COMPUTE_BACKBONE_SHAPE,
}


@pytest.mark.parametrize("name", ["x.keras", "x.h5"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_keras_saves_and_loads_the_whole_network(mode, name, tmp_path):
    path = tmp_path / name
    model = shake(build(mode, tmp_path, DETECTION_MIN_CONFIDENCE=0.25))
    model.class_names = ["BG", "light", "dark"]
    if mode == "training":
        model.set_trainable("(mrcnn_.*)|(rpn_.*)")
        model.compile(0.01, 0.9)
    network = model.keras_model
    network.save(path)
    loaded = keras.models.load_model(path, custom_objects=CUSTOM_OBJECTS)
    for ours, theirs in zip(loaded.weights, network.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    trainable = [weight.path for weight in network.trainable_weights]
    assert [weight.path for weight in loaded.trainable_weights] == trainable
    assert loaded.describe() == model.metadata()
    if name == "x.h5":
        other = build(mode, tmp_path)
        assert not other.load_weights(path, by_name=True).missing
    if mode == "inference":
        inputs = network_inputs(model)
        for ours, theirs in zip(loaded(inputs), network(inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_network_of_a_known_backbone_is_rebuilt_from_its_file(tmp_path):
    config = Config()
    config.NAME = "small"
    config.NUM_CLASSES = 2
    config.BACKBONE = "mobilenet_v2"
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = 64
    config.TOP_DOWN_PYRAMID_SIZE = config.RPN_CHANNELS = config.MASK_CHANNELS = 64
    network = MaskRCNN("inference", config, tmp_path).keras_model
    text = network.to_json()
    assert json.loads(text)["config"]["config"]["BACKBONE"] == "mobilenet_v2"
    rebuilt = keras.models.model_from_json(text)
    assert [w.shape for w in rebuilt.weights] == [w.shape for w in network.weights]
    assert "Lambda" not in text


def test_network_of_a_users_backbone_needs_that_function(model, tmp_path):
    model.keras_model.save(tmp_path / "x.keras")
    with pytest.raises(
        ValueError, match=r'BACKBONE function of your own.*Try custom_objects=\{"backbone": '
    ):
        keras.models.load_model(tmp_path / "x.keras")


def test_whole_network_is_exported_to_a_folder(model, tmp_path, compiled):
    model.keras_model.save(str(tmp_path / "folder"))
    served = tf.saved_model.load(str(tmp_path / "folder"))
    inputs = network_inputs(model)
    for ours, theirs in zip(served.serve(inputs), model.keras_model(inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


# --- from_weights ---


def test_from_weights_needs_a_config_for_a_users_backbone(model, class_names, tmp_path):
    model.save_weights(tmp_path / "tiny.h5")
    with pytest.raises(
        ValueError, match="BACKBONE function of your own cannot be rebuilt.*Try passing config="
    ):
        MaskRCNN.from_weights(tmp_path / "tiny.h5")
    loaded = MaskRCNN.from_weights(tmp_path / "tiny.h5", config=TinyConfig())
    assert loaded.class_names == class_names
    (result,), (expected,) = loaded.detect(noise_images(1)), model.detect(noise_images(1))
    assert result.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(result[name], expected[name])


def test_from_weights_takes_a_name_of_released_weights(model, tmp_path, monkeypatch):
    path = str(tmp_path / "mask_rcnn_coco.h5")
    save_weights(model.keras_model, path)  # without metadata, as matterport's file
    monkeypatch.setattr(zoo, "download", lambda *_, **__: path)
    loaded = MaskRCNN.from_weights("coco", config=TinyConfig())
    assert loaded.class_names == COCO_80
    with pytest.raises(FileNotFoundError, match="Did you mean coco"):
        MaskRCNN.from_weights("cocoa")


def test_from_weights_of_a_file_without_config_asks_for_one(model, tmp_path):
    save_weights(model.keras_model, tmp_path / "old.h5")
    with pytest.raises(ValueError, match="carries no config.*--config"):
        MaskRCNN.from_weights(tmp_path / "old.h5")


def test_default_config_has_matterports_sizes():
    config = Config()
    sizes = (config.RPN_CHANNELS, config.MASK_CHANNELS, config.TOP_DOWN_PYRAMID_SIZE)
    assert sizes == (512, 256, 256)

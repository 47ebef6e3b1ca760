"""The heads on the RoIs."""

import keras
import numpy as np
import pytest
from tiny import TinyConfig, image_meta

from mrcnn.nn.backbones import build_stage5_model, resnet_graph
from mrcnn.nn.heads import class_outputs, stage5_features
from mrcnn.weights.loading import load_backbone_weights
from mrcnn.weights.saving import save_weights

C4 = {"BACKBONE_STRIDES": [16], "BOX_HEAD": "res5"}


@pytest.mark.parametrize("strides", [{}, {"STRIDE_IN_1X1": False, "SYMMETRIC_PADDING": True}])
def test_stage_5_computes_the_same_on_a_roi_as_on_an_image(strides):
    config = TinyConfig(**C4, **strides)
    image = keras.Input([None, None, 3])
    maps = resnet_graph(image, "resnet50", stage5=True, config=config)
    backbone = keras.Model(maps[3], maps[4])
    stage5 = build_stage5_model(1024, config)
    weights = {weight.path: weight for weight in backbone.weights}
    assert {weight.path for weight in stage5.weights} == set(weights)
    for weight in stage5.weights:
        weight.assign(weights[weight.path])
    c4 = np.random.default_rng(0).normal(size=(2, 14, 14, 1024)).astype(np.float32)
    found = stage5(c4[None])  # an image with two RoIs
    assert found.shape == (1, 2, 7, 7, 2048)
    np.testing.assert_allclose(found[0], backbone(c4), rtol=1e-4, atol=1e-4)


def test_features_of_stage_5_are_of_rois_twice_as_large():
    config = TinyConfig(**C4, POOL_SIZE=2)
    stage5 = keras.Sequential([keras.layers.Identity()])
    c4 = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4, 1)
    rois = np.float32([[[0, 0, 1, 1]]])
    found = stage5_features(rois, [c4], image_meta(64, 64), stage5, config, "align")
    # One sample per bin from corner to corner of the map: its 4 x 4 cells.
    np.testing.assert_allclose(np.squeeze(found), c4[0, :, :, 0], atol=1e-5)


def test_last_layers_of_the_class_and_box_head():
    hidden = np.float32([[[0, 0, 0, 0], [1, 1, 1, 1]]])
    logits, probs, deltas = class_outputs(hidden, TinyConfig())
    assert (logits.shape, probs.shape, deltas.shape) == ((1, 2, 3), (1, 2, 3), (1, 2, 3, 4))
    np.testing.assert_allclose(probs[0, 0], [1 / 3] * 3, atol=1e-6)  # of zeros, without a bias
    assert np.ptp(probs[0, 1]) > 0


def test_imagenet_file_fills_stage_5_of_the_heads(tmp_path):
    config = TinyConfig(**C4)
    image = keras.Input([None, None, 3])
    c5 = resnet_graph(image, "resnet50", stage5=True, config=config)[4]
    path = save_weights(keras.Model(image, c5), tmp_path / "notop.h5")
    c4 = resnet_graph(image, "resnet50", config=config)[3]
    rois = keras.Input([None, 14, 14, 1024])
    network = keras.Model([image, rois], [c4, build_stage5_model(1024, config)(rois)])
    report = load_backbone_weights(network, path, "resnet50")
    assert not (report.missing or report.mismatched or report.unused)

"""Initial weights of RPN and heads."""

import keras
import numpy as np
import pytest
from tiny import TinyConfig

from mrcnn.config import Config
from mrcnn.detection_model import model_class
from mrcnn.nn.initial_weights import draw_initial_weights
from mrcnn.training.trainable import leaves

NEAR_ZERO = {
    "rpn_class_raw": 0.01,
    "rpn_bbox_pred": 0.01,
    "mrcnn_class_logits": 0.01,
    "mrcnn_bbox_fc": 0.001,
    "mrcnn_mask": 0.001,
}


def deviations(folder, **settings):
    """Name -> standard deviation of the kernel, of each layer with a kernel."""
    keras.utils.set_random_seed(1)
    config = TinyConfig()
    for name, value in settings.items():
        setattr(config, name, value)
    model = model_class(config)("training", config, folder)
    kernels = {layer.name: layer for layer in leaves(model.keras_model) if hasattr(layer, "kernel")}
    return {name: float(np.std(layer.kernel)) for name, layer in kernels.items()}


def test_no_layers_and_layers_of_other_names_stay_as_they_are():
    draw_initial_weights([], "detectron2")
    layer = keras.layers.Dense(3, name="other")
    layer.build((None, 4))
    before = layer.kernel.numpy()
    draw_initial_weights([layer, keras.layers.ReLU(name="mrcnn_mask_conv1_relu")], "detectron2")
    np.testing.assert_array_equal(layer.kernel, before)


def test_last_layers_start_near_zero_and_convolutions_before_a_relu_keep_the_variance(tmp_path):
    found = deviations(tmp_path, INITIAL_WEIGHTS="detectron2", BOX_HEAD="4conv1fc")
    for name, deviation in NEAR_ZERO.items():
        assert found[name] == pytest.approx(deviation, rel=0.2), name
    # A 3x3 kernel of 24 channels: sqrt(2 / (9 * 24)) = 0.096; of 32: sqrt(2 / (9 * 32)) = 0.083.
    assert found["mrcnn_mask_conv2"] == pytest.approx(0.096, rel=0.05)
    assert found["mrcnn_box_conv2"] == pytest.approx(0.083, rel=0.05)


def test_keypoint_head_keeps_the_variance_as_well(tmp_path):
    settings = {"NUM_KEYPOINTS": 3, "NUM_CLASSES": 2, "KEYPOINT_CHANNELS": 24}
    found = deviations(tmp_path, INITIAL_WEIGHTS="detectron2", **settings)
    assert found["mrcnn_keypoint_conv2"] == pytest.approx(0.096, rel=0.05)


def test_default_is_matterports(tmp_path):
    """Glorot's: 24 channels in and out give sqrt(2 / (9 * 24 + 9 * 24)) = 0.068."""
    found = deviations(tmp_path)
    assert found["mrcnn_mask_conv2"] == pytest.approx(0.068, rel=0.05)
    assert min(found[name] for name in NEAR_ZERO) > 0.05


def test_one_seed_gives_the_same_weights(tmp_path):
    first, second = (deviations(tmp_path, INITIAL_WEIGHTS="detectron2") for _ in range(2))
    assert first == second


@pytest.mark.parametrize("config", [Config.detectron(), Config.torchvision(1)], ids=["d2", "tv"])
def test_presets_have_detectron2s(config):
    assert config.INITIAL_WEIGHTS == "detectron2"
    assert Config().INITIAL_WEIGHTS == "glorot"

"""`DetectionModel`: which network a config and a weight file are for."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny import TinyConfig, noise_images, shake, tiny_config

import mrcnn
from mrcnn.config import NETWORKS, Config
from mrcnn.detection_model import DetectionModel, model_class
from mrcnn.model import MaskRCNN
from mrcnn.weights.shipping import pack


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", [*NETWORKS, "keypoints"])
def test_load_detects_in_files(name, tmp_path):
    config = tiny_config(**({"NUM_KEYPOINTS": 2} if name == "keypoints" else {"network": name}))
    model = shake(model_class(config)("inference", config))
    model.class_names = ["BG", "light", "dark"]
    model.save_weights(tmp_path / "a.h5")
    Image.fromarray(noise_images(1)[0]).save(tmp_path / "a.png")
    loaded = mrcnn.load(tmp_path / "a.h5", config)
    assert type(loaded) is model_class(config)
    result = loaded.detect(tmp_path / "a.png", masks="rle" if config.USE_MASK else "full")
    assert result.count and set(result.labels) <= {"light", "dark"}
    assert (result.masks is None) == (name in ("retinanet", "fcos"))
    assert (result.keypoints is not None) == (name == "keypoints")
    assert result.plot().shape == (768, 768, 3)
    json.dumps(result.to_dict())


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_has_a_class(name):
    class Named(Config):
        NETWORK = name

    found = model_class(Named())
    assert issubclass(found, DetectionModel) and found.network_name == name


def test_file_says_which_network_it_is_for(tmp_path):
    MaskRCNN("inference", TinyConfig()).save_weights(tmp_path / "a.h5")
    found = DetectionModel.from_weights(tmp_path / "a.h5", TinyConfig())
    assert type(found) is MaskRCNN


def test_config_of_another_network_is_refused(monkeypatch):
    class Other(MaskRCNN):
        network_name = "other"

    config = TinyConfig()
    config.NETWORK = "another"
    with pytest.raises(ValueError, match="Other needs a config with NETWORK = 'other'. Received"):
        Other("inference", config)


@pytest.mark.usefixtures("eagerly")
def test_summary_line_names_parameters_gflop_time_and_memory():
    model = MaskRCNN("inference", TinyConfig())
    parts = model.summary_line(repeats=1).split(", ")
    millions = model.complexity().parameters / 1e6
    assert parts[0] == f"mask_rcnn with backbone: {millions:.2f} million parameters"
    assert parts[1].endswith("GFLOP for an image of 64 x 64 pixels (64 x 64 in the network)")
    assert [part.rsplit(" ", 1)[1] for part in parts[2:]] == ["ms", "GB"]
    assert " ms" not in model.summary_line((32, 64), repeats=0)


def test_summary_line_of_a_training_has_the_parameters_only():
    line = MaskRCNN("training", TinyConfig()).summary_line()
    assert line.startswith("mask_rcnn with backbone: ") and line.endswith("million parameters")


@pytest.mark.usefixtures("eagerly")
def test_packed_network_detects_as_before(tmp_path):
    model = shake(MaskRCNN("inference", TinyConfig()))
    model.class_names = ["BG", "light", "dark"]
    model.save_weights(tmp_path / "a.h5")
    packed = pack(tmp_path / "a.h5", tmp_path / "b.h5")
    images = noise_images(1)
    found = DetectionModel.from_weights(packed, TinyConfig()).detect(images)[0]
    expected = model.detect(images)[0]
    # float16 has 11 binary digits, and a few rounded numbers add up.
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=5e-3)

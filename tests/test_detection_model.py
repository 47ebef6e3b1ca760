"""`DetectionModel`: which network a config and a weight file are for."""

import json

import pytest
from PIL import Image
from tiny import TinyConfig, noise_images, shake, tiny_config

import mrcnn
from mrcnn.config import NETWORKS, Config
from mrcnn.detection_model import DetectionModel, model_class
from mrcnn.model import MaskRCNN


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

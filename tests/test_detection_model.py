"""`DetectionModel`: which network a config and a weight file are for."""

import pytest
from tiny import TinyConfig

from mrcnn.config import NETWORKS, Config
from mrcnn.detection_model import DetectionModel, model_class
from mrcnn.model import MaskRCNN


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

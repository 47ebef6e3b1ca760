"""Settings and classes that weights bring to a training on other data."""

import json

import h5py
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.weights import transfer
from mrcnn.weights.weight_file import METADATA


@pytest.fixture
def weight_file(tmp_path):
    """Return a function that writes a weight file with this metadata."""

    def write(config=None, class_names=None):
        path = str(tmp_path / "w.h5")
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"fpn_c2p2"]
            file.create_group("fpn_c2p2").attrs["weight_names"] = [b"bias"]
            file["fpn_c2p2"]["bias"] = np.ones(2, np.float32)
            values = {} if config is None else {"config": config.to_dict()}
            if class_names is not None:
                values["class_names"] = class_names
            file.attrs[METADATA] = json.dumps(values, default=lambda value: value.tolist())
        return path

    return write


def test_settings_of_matterport_s_network_are_not_adopted(weight_file):
    config = Config()
    config.LEARNING_RATE = 0.5
    for weights in ("coco", weight_file(), weight_file(config)):
        assert transfer.network_settings(weights) == {}


def test_network_of_a_name_is_adopted_except_what_was_chosen():
    config = Config()
    config.LEARNING_RATE = 0.5
    transfer.adopt_network(config, "maskrcnn_resnet50_fpn_v2_coco", {"LEARNING_RATE"})
    expected = Config.torchvision(2)
    expected.LEARNING_RATE = 0.5
    assert config.to_dict() == expected.to_dict()
    assert config.NUM_CLASSES == 1  # the data's follow


def test_network_without_masks_is_adopted():
    config = Config()
    transfer.adopt_network(config, "fasterrcnn_resnet50_fpn_coco", ())
    assert not config.has_mask_head()


def test_checkpoint_brings_the_settings_of_its_network(weight_file):
    trained = Config.detectron()
    trained.BACKBONE = "resnet101"
    trained.NUM_CLASSES = 3
    trained.USE_MASK = False
    config = Config()
    transfer.adopt_network(config, weight_file(trained), ())
    expected = Config.detectron()
    expected.BACKBONE = "resnet101"
    expected.USE_MASK = False
    assert config.to_dict() == expected.to_dict()


@pytest.mark.parametrize("changes", [{}, {"CASCADE_IOUS": [0.6, 0.7], "ROI_POSITIVE_IOU": 0.6}])
def test_checkpoint_of_the_small_network_brings_its_widths_and_stages(weight_file, changes):
    trained, config = Config.lite(), Config()
    for name, value in changes.items():
        setattr(trained, name, value)
    transfer.adopt_network(config, weight_file(trained), ())
    assert config.MASK_CHANNELS == 96 and config.to_dict() == trained.to_dict()


class OfSample(Config):
    BACKBONE = "resnet101"
    MEAN_PIXEL = np.array([1.0, 2.0, 3.0])


def test_backbone_of_a_class_gives_way_and_its_other_settings_stay():
    config = OfSample()
    transfer.adopt_network(config, "maskrcnn_resnet50_fpn_coco", {"BACKBONE", "MEAN_PIXEL"})
    assert config.BACKBONE == "resnet50" and config.BACKBONE_NORM == "frozen"
    assert list(config.MEAN_PIXEL) == [1, 2, 3]


def test_another_backbone_is_refused():
    small = Config()
    small.BACKBONE = "mobilenet_v2"
    for weights, backbone in [("coco", "resnet101"), ("mask_rcnn_R_50_FPN_3x", "resnet50")]:
        with pytest.raises(ValueError, match=f"are of a {backbone}. Received: BACKBONE=mobilenet"):
            transfer.check_backbone(small, weights)
    transfer.check_backbone(OfSample(), "coco")
    transfer.check_backbone(OfSample(), "maskrcnn_resnet50_fpn_coco")  # it will be adopted


def test_classes_of_the_same_name_are_kept(weight_file):
    data = ["BG", "Dog", "unicorn", "person"]
    kept = {"dog": 1, "person": 3}
    assert transfer.kept_classes("maskrcnn_resnet50_fpn_coco", data) == kept
    assert transfer.kept_classes(weight_file(class_names=["BG", "person", "dog"]), data) == kept


def test_nothing_to_keep_is_an_error(weight_file):
    path = weight_file(class_names=["BG", "cat"])
    with pytest.raises(ValueError, match="w.h5 with cat ..., data with dog"):
        transfer.kept_classes(path, ["BG", "dog"])


def test_no_classes_are_kept_of_a_file_without_class_names(weight_file):
    with pytest.raises(ValueError, match="w.h5, which has none. .* in Python .*class_names="):
        transfer.kept_classes(weight_file(), ["BG", "dog"])


def test_background_is_no_class_to_keep():
    with pytest.raises(ValueError, match="classes of the same name"):
        transfer.kept_classes("coco", ["BG", "bg", "unicorn"])


def test_network_of_a_retinanet_is_adopted(weight_file):
    mine = Config.retinanet(2)
    mine.DETECTION_MAX_INSTANCES = 7
    for weights in ("retinanet_resnet50_fpn_v2_coco", weight_file(mine)):
        config = Config()
        transfer.adopt_network(config, weights, {"DETECTION_MAX_INSTANCES"})
        expected = Config.retinanet(2)
        expected.DETECTION_MAX_INSTANCES = 100
        np.testing.assert_equal(config.to_dict(), {**expected.to_dict(), "USE_MASK": False})


def test_backbone_function_of_a_file_is_not_adopted(weight_file):
    """A file has only the name of the function, which the config's class has."""

    class OfSample(Config):
        @staticmethod
        def BACKBONE(image, stage5, train_bn):
            return []

    trained = OfSample.retinanet()
    config = OfSample()
    transfer.adopt_network(config, weight_file(trained), {"BACKBONE"})
    assert config.NETWORK == "retinanet" and config.BACKBONE is OfSample.BACKBONE

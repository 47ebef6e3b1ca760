"""The table of released weights: each row against what its file name and its source say."""

import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.weights import tensor_weights
from mrcnn.weights.coco_classes import COCO_80, COCO_91
from mrcnn.weights.tensor_files import NamedTensors
from mrcnn.weights.zoo_table import RELEASED, Released

REFERENCE = Path(os.environ.get("MRCNN_SHARED", ""), "reference/torchvision/rebuild.py")

by_name = pytest.mark.parametrize("row", RELEASED, ids=lambda row: row.name)


def test_names_and_files_differ():
    names = [name for row in RELEASED for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names) == 12
    assert len({row.file.url for row in RELEASED}) == len(RELEASED)
    # They share a cache.
    assert len({row.file.url.rsplit("/", 1)[-1] for row in RELEASED}) == len(RELEASED)


@by_name
def test_file_name_begins_the_hash(row: Released):
    match = re.search(r"-([0-9a-f]{8})\.pth$", row.file.url)
    if "torchvision" in row.network:
        assert row.file.sha256[:8] == match[1] and row.file.url.endswith(
            f"{row.name}-{match[1]}.pth"
        )
    else:
        assert match is None
    assert row.file.sha256 is None or re.fullmatch("[0-9a-f]{64}|[0-9a-f]{8}", row.file.sha256)
    assert row.file.url.startswith("https://")


# "_metrics" and "_file_size" of the Weights enums of torchvision 0.29.1: box AP, AP of masks or
# keypoints, MiB. Keypoint R-CNN's are those of COCO_V1; COCO_LEGACY has 50.6 and 61.1.
PUBLISHED = {
    "maskrcnn_resnet50_fpn_v2_coco": (47.4, 41.8, 177.219),
    "maskrcnn_resnet50_fpn_coco": (37.9, 34.6, 169.84),
    "fasterrcnn_resnet50_fpn_v2_coco": (46.7, None, 167.104),
    "fasterrcnn_resnet50_fpn_coco": (37.0, None, 159.743),
    "keypointrcnn_resnet50_fpn_coco": (54.6, 65.0, 226.054),
    "retinanet_resnet50_fpn_v2_coco": (41.5, None, 146.037),
    "retinanet_resnet50_fpn_coco": (36.4, None, 130.267),
    "fcos_resnet50_fpn_coco": (39.2, None, 123.608),
}


@by_name
def test_torchvision_publishes_the_ap_and_the_size(row: Released):
    if "torchvision" not in row.network:
        pytest.skip("another publisher's")
    box_ap, other_ap, mebibytes = PUBLISHED[row.name]
    assert (row.box_ap, round(row.file.size / 2**20, 3)) == (box_ap, mebibytes)
    if row.config().has_keypoint_head():
        assert f"keypoint AP {other_ap / 100:.3f}" in row.ap_source
    else:
        assert row.mask_ap == other_ap


@by_name
def test_config_is_valid_and_describes_the_network(row: Released):
    config = row.config()
    config.validate()
    assert config.NAME == "coco" and len(row.class_names) == config.NUM_CLASSES
    assert config.has_mask_head() == (row.mask_ap is not None)
    assert ("resnet50" if re.search(r"50", row.name) else "resnet101") == config.BACKBONE
    assert ("Keypoint" in row.network) == config.has_keypoint_head()
    if config.has_keypoint_head():
        assert row.class_names == ["BG", "person"]
    else:
        assert row.class_names == (COCO_91 if "torchvision" in row.network else COCO_80)


def test_presets_are_those_of_config():
    make = {
        "matterport": Config.matterport,
        "torchvision(1)": lambda: Config.torchvision(1),
        "torchvision(2)": lambda: Config.torchvision(2),
        "detectron": Config.detectron,
        "retinanet(1)": lambda: Config.retinanet(1),
        "retinanet(2)": lambda: Config.retinanet(2),
        "fcos": Config.fcos,
    }
    assert {row.preset for row in RELEASED} == set(make)
    for row in RELEASED:
        expected = make[row.preset]()
        own = {"NAME": "coco", "NUM_CLASSES": len(row.class_names)}
        for setting, value in {**row.settings, **own}.items():
            setattr(expected, setting, value)
        assert row.config().to_dict() == expected.to_dict()


def test_rows_do_not_share_arrays():
    first, second = RELEASED[0].config(), RELEASED[0].config()
    first.MEAN_PIXEL[0] = -1
    assert second.MEAN_PIXEL[0] > 0


def test_files_describe_the_networks_of_their_rows(monkeypatch):
    """The config found in the tensors is the row's: a download changes nothing."""
    if not REFERENCE.is_file():
        pytest.skip("MRCNN_SHARED does not lead to the references")
    spec = importlib.util.spec_from_file_location("rebuild", REFERENCE)
    rebuild = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rebuild)
    # The values do not matter, and take long to draw.
    monkeypatch.setattr(rebuild, "coded", lambda name, shape, scale: np.zeros(shape, np.float32))
    for row in RELEASED:
        if "torchvision" in row.network:
            tensors = rebuild.state_dict(row.name.removesuffix("_coco"))
        elif row.name == "mask_rcnn_R_50_FPN_3x":
            tensors = rebuild.detectron2_state_dict()
        else:
            continue  # the reference has no such network
        read = NamedTensors(tensors, "torch")
        monkeypatch.setattr(tensor_weights, "read_tensors", lambda path, read=read: read)
        metadata = tensor_weights.TensorWeights("x.pth").metadata
        described = {**metadata["config"], "NAME": "coco"}
        assert described == row.config().to_dict()
        assert metadata["class_names"] == row.class_names

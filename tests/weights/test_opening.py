"""Weights are opened by path or by name."""

import pytest
from toy_network import build

from mrcnn.weights import opening, zoo
from mrcnn.weights.coco_classes import COCO_80
from mrcnn.weights.saving import save_weights


def test_name_is_opened_with_the_metadata_of_its_row(monkeypatch, tmp_path):
    path = save_weights(build(classes=81), tmp_path / "mask_rcnn_coco.h5")
    monkeypatch.setattr(zoo, "download", lambda url, where, **checks: path)
    metadata = opening.read_metadata("coco")
    assert metadata["config"]["NUM_CLASSES"] == 81 and metadata["class_names"] == COCO_80
    assert opening.read_metadata(path) is None


def test_wrong_name_is_refused():
    with pytest.raises(FileNotFoundError, match="Did you mean coco"):
        opening.open_weights("cocoa")


def test_script_of_2017_gets_its_hint():
    with pytest.raises(FileNotFoundError, match=r"find_last\(\)\[1\]"):
        opening.open_weights("h")

"""Released files: their names and their downloads."""

import socket

import pytest

from mrcnn.weights import zoo
from mrcnn.weights.imagenet import imagenet_weights
from mrcnn.weights.zoo_table import COCO_MODEL_MD5, COCO_MODEL_URL, RELEASED


def test_default_cache_is_that_of_keras(downloads, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    models = tmp_path / "home" / "models"
    assert imagenet_weights("mobilenet_v2").startswith(str(models))
    assert zoo.coco_weights() == str(models / "mask_rcnn_coco.h5")
    assert downloads[1][2]["md5"] == COCO_MODEL_MD5


@pytest.mark.parametrize("name", ["coco", "mask_rcnn_coco"])
def test_matterport_s_file_is_a_row(downloads, tmp_path, name):
    assert zoo.weight_path(name, tmp_path) == str(tmp_path / "mask_rcnn_coco.h5")
    assert downloads[0][0] == COCO_MODEL_URL


def test_name_is_the_file_in_the_cache(downloads, tmp_path):
    path = zoo.weight_path("maskrcnn_resnet50_fpn_coco", tmp_path)
    assert path == str(tmp_path / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth")
    ((url, _, checks),) = downloads
    assert url == "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    assert checks["sha256"].startswith("bf2d0c1e") and checks["size"] == 178_090_079


def test_existing_file_is_a_path_whatever_its_name(downloads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").write_bytes(b"")
    assert zoo.weight_path("coco") == "coco" and zoo.released("coco") is None
    assert zoo.weight_path(tmp_path / "coco") == str(tmp_path / "coco")
    assert downloads == []


def test_folder_of_a_name_does_not_hide_the_name(downloads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    assert zoo.weight_path("coco", "cache").endswith("mask_rcnn_coco.h5")


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (
            "maskrcnn_resnet50_fpn_v2",
            r"Did you mean maskrcnn_resnet50_fpn_v2_coco or \w+ or \w+\?",
        ),
        ("weights/mask_rcnn_R_50_FPN_3x.pth", "Did you mean mask_rcnn_R_50_FPN_3x"),
    ],
)
def test_wrong_name_lists_close_ones(downloads, wrong, advice):
    with pytest.raises(FileNotFoundError, match=f"Received: {wrong}, which .* {advice}"):
        zoo.weight_path(wrong)
    assert downloads == []


@pytest.mark.parametrize(
    "missing", ["logs/mine/epoch_7.h5", "logs/photos/mask_rcnn_photos_0020.h5", "", "h"]
)
def test_missing_file_that_is_like_no_name_is_reported_as_one(downloads, missing):
    with pytest.raises(FileNotFoundError, match=f"file must exist. Received: '{missing}'"):
        zoo.weight_path(missing)


def test_folder_is_no_weight_file(tmp_path):
    with pytest.raises(ValueError, match="must be a file. Received: the folder"):
        zoo.weight_path(tmp_path)


def test_without_network_the_error_names_file_address_and_path(tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/maskrcnn-bf2d0c1e.pth"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    row = RELEASED[0]._replace(file=RELEASED[0].file._replace(url=url))
    monkeypatch.setattr(zoo, "RELEASED", (row,))
    path = tmp_path / "maskrcnn-bf2d0c1e.pth"
    with pytest.raises(OSError, match="refused") as error:
        zoo.weight_path(row.name, tmp_path)
    assert f"{url} could not be downloaded to {path}" in str(error.value)
    assert f"on another machine and put it at {path}" in str(error.value)

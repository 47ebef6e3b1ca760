"""Released files and their downloads."""

import pytest

from mrcnn.weights import zoo


@pytest.fixture
def downloads(monkeypatch):
    """The arguments of each download, which is not carried out."""
    asked = []

    def download(url, path, **checks):
        asked.append((url, path, checks))
        return path

    monkeypatch.setattr(zoo, "download", download)
    return asked


def test_imagenet_weights_downloads_the_file_of_the_backbone(downloads, tmp_path):
    path = zoo.imagenet_weights("resnet101", tmp_path)
    assert path == str(tmp_path / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5")
    file = zoo.IMAGENET_FILES["resnet101"]
    checks = {"md5": "88cf7a10940856eca736dc7b7e228a21", "size": file.size, "older_md5s": ()}
    assert downloads == [(file.url, path, checks)]


def test_file_that_matterport_downloaded_in_2017_may_stay_in_the_cache(downloads, tmp_path):
    zoo.imagenet_weights("resnet50", tmp_path)
    (_, _, checks) = downloads[0]
    assert checks["md5"] == "4d473c1dd8becc155b73f8504c6f6626"
    assert checks["older_md5s"] == ("a268eb855778b3df3c7506639542a6af",)


def test_default_cache_is_that_of_keras(downloads, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    models = tmp_path / "home" / "models"
    assert zoo.imagenet_weights("mobilenet_v2").startswith(str(models))
    assert zoo.coco_weights() == str(models / "mask_rcnn_coco.h5")
    assert downloads[1][2]["md5"] == zoo.COCO_MODEL_MD5

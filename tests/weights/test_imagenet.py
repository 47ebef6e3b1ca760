"""ImageNet weights of each backbone."""

from pathlib import Path

from mrcnn.nn.backbones import BACKBONES
from mrcnn.weights.imagenet import imagenet_weights


def test_imagenet_weights_downloads_the_file_of_the_backbone(downloads, tmp_path):
    path = imagenet_weights("resnet101", tmp_path)
    assert path == str(tmp_path / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5")
    file = BACKBONES["resnet101"].imagenet
    checks = {"md5": "88cf7a10940856eca736dc7b7e228a21", "size": file.size, "older_md5s": ()}
    checks["sha256"] = None  # not published
    assert downloads == [(file.url, path, checks)]


def test_imagenet_weights_of_efficientnet_lite2_are_in_the_package(downloads, tmp_path):
    path = Path(imagenet_weights("efficientnet_lite2", tmp_path))
    assert path.is_file() and downloads == []
    names = {"NOTICE", "LICENSE-APACHE-2.0", "efficientnet_lite2_imagenet.h5"}
    assert names <= {file.name for file in path.parent.iterdir()}


def test_file_that_matterport_downloaded_in_2017_may_stay_in_the_cache(downloads, tmp_path):
    imagenet_weights("resnet50", tmp_path)
    (_, _, checks) = downloads[0]
    assert checks["md5"] == "4d473c1dd8becc155b73f8504c6f6626"
    assert checks["older_md5s"] == ("a268eb855778b3df3c7506639542a6af",)

"""Released files and their downloads."""

from mrcnn.weights import zoo
from mrcnn.weights.imagenet import imagenet_weights


def test_default_cache_is_that_of_keras(downloads, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    models = tmp_path / "home" / "models"
    assert imagenet_weights("mobilenet_v2").startswith(str(models))
    assert zoo.coco_weights() == str(models / "mask_rcnn_coco.h5")
    assert downloads[1][2]["md5"] == zoo.COCO_MODEL_MD5

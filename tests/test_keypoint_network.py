"""A network with masks and keypoints: trained, saved, loaded, and asked for keypoints."""

import json

import numpy as np
import pytest
import tensorflow as tf
from kinds import KEYPOINTS
from tiny import Squares, TinyConfig, noise_images, shake

from mrcnn.app.detect_command import detect_file
from mrcnn.config import KEYPOINT_LOSS
from mrcnn.data import augment
from mrcnn.data.keypoints import Skeleton
from mrcnn.formats.export import Export
from mrcnn.inference.postprocessing import unmold_keypoints
from mrcnn.model import MaskRCNN
from mrcnn.weights.opening import read_metadata

pytestmark = pytest.mark.usefixtures("eagerly")

NAMES = list(Squares.keypoint_names)


class KeypointConfig(TinyConfig):
    def __init__(self, **values):
        super().__init__(**{**KEYPOINTS, **values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The model after a step on a dataset, and its history."""
    folder = tmp_path_factory.mktemp("logs")
    model = shake(MaskRCNN("training", KeypointConfig(), str(folder)))
    augmentation = augment.compose(["flip", "scale"])
    data = Squares()
    tf.config.run_functions_eagerly(True)  # `eagerly` comes after fixtures of the module
    try:
        history = model.train(data, data, 0.01, 1, "all", augmentation=augmentation)
    finally:
        tf.config.run_functions_eagerly(False)
    return model, history.history


def load(trained, folder):
    """The trained model in inference mode.

    Every class of a RoI counts, so that each image has detections, whatever one step has changed.
    """
    config = KeypointConfig(IMAGES_PER_GPU=1, DETECTION_ALL_CLASSES=True)
    model = MaskRCNN("inference", config, str(folder))
    model.load_weights(trained[0].find_last())
    return model


def test_training_reports_the_loss(trained):
    _, history = trained
    # log(28 x 28) = 6.7 for heatmaps that know nothing
    assert 0 < history[KEYPOINT_LOSS][0] < 100 and np.isfinite(history[f"val_{KEYPOINT_LOSS}"][0])


def test_checkpoint_names_the_keypoints_and_detects(trained, tmp_path):
    model = load(trained, tmp_path)
    config = read_metadata(trained[0].find_last())["config"]
    assert config["KEYPOINT_NAMES"] == NAMES and config["KEYPOINT_SKELETON"] == [[0, 1]]
    images = [*noise_images(2, sizes=((64, 64), (40, 90))), Squares(side=90).load_image(0)]
    results = model.detect(images)
    counts = [len(result["rois"]) for result in results]
    # The best boxes in the second image lie in its padding.
    assert counts[0] > 0 and counts[2] > 0
    for image, result, count in zip(images, results, counts, strict=True):
        assert result["keypoints"].shape == (count, 3, 3)
        assert result["masks"].shape == (*image.shape[:2], count)
        # Inside the boxes, which are rounded to pixels; each is read as at least one pixel.
        corner, end = result["rois"][:, None, :2], result["rois"][:, None, 2:]
        places = result["keypoints"][..., :2]
        assert (places > corner - 2).all() and (places < end + 2).all()


def test_fused_network_and_tiles_have_keypoints(trained, tmp_path):
    model = load(trained, tmp_path)
    (image,) = noise_images(1, sizes=((100, 80),))
    tiled = model.detect_tiled(image, 64, 16)
    assert len(tiled["rois"]) > 0
    assert tiled["keypoints"].shape == (len(tiled["rois"]), 3, 3)
    (before,) = model.detect([image])
    model.optimize_for_inference()
    (after,) = model.detect([image])
    assert len(before["rois"]) == len(after["rois"]) > 0
    np.testing.assert_allclose(after["keypoints"][..., 2], before["keypoints"][..., 2], atol=1e-2)


def test_other_number_of_keypoints_keeps_the_rest_of_the_head(trained, tmp_path):
    path = trained[0].find_last()
    five = KeypointConfig(NUM_KEYPOINTS=5)
    model = MaskRCNN("training", five, tmp_path)
    report = model.load_weights(path)
    assert [mismatch.layer for mismatch in report.mismatched] == ["mrcnn_keypoint_deconv"]
    with pytest.raises(ValueError, match=r"NUM_KEYPOINTS. Received: .* with 3 for a model with 5"):
        MaskRCNN("inference", five, tmp_path).load_weights(path)


def test_command_writes_keypoints(trained, tmp_path):
    import cv2

    model = load(trained, tmp_path)
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), noise_images(1)[0])
    names = ["BG", "light", "dark"]
    exports = Export(tmp_path, ["coco"], names, Skeleton(NAMES, [[0, 1]]))
    entry = detect_file(model, names, file, tmp_path / "drawn.png", exports)
    assert np.shape(entry["detections"][0]["keypoints"]) == (3, 3)
    (path,) = exports.write()
    content = json.loads(path.read_text())
    assert content["categories"][0]["keypoints"] == NAMES
    assert len(content["annotations"][0]["keypoints"]) == 9


def test_keypoints_are_moved_to_the_original_image():
    """An image of 20 x 40, twice as large and padded to 80 x 80."""
    detections = np.zeros((2, 6), np.float32)
    # Rows 32 to 40, columns 0 to 8 of 80 x 80 pixels; the image is in rows 20 to 60.
    detections[0] = [32 / 80, 0, 40 / 80, 8 / 80, 1, 0.9]
    heatmaps = np.zeros((2, 8, 8, 1), np.float32)
    heatmaps[0, 3, 6] = 5
    found = unmold_keypoints(
        detections, heatmaps, (20, 40, 3), (80, 80, 3), (20, 0, 60, 80), continuous=True
    )
    # (35.5 - 20) / 2, 6.5 / 2
    assert found.tolist() == [[[7.75, 3.25, 5]]]


def test_without_detections_there_are_no_keypoints():
    found = unmold_keypoints(
        np.zeros((3, 6)), np.zeros((3, 8, 8, 4)), (20, 40, 3), (64, 64, 3), (0, 0, 64, 64)
    )
    assert found.shape == (0, 4, 3)

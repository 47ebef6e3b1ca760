"""RetinaNet: matching, box losses, configs, weights and detections of the tiny network."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig, noise_images, shake, tiny_config

from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from mrcnn.retinanet import AnchorTargets, RetinaNet, box_losses, match_anchors

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def model():
    return shake(RetinaNet("inference", tiny_config("retinanet")))


# --- Targets ---


def match(anchors, class_ids, boxes):
    targets = match_anchors(
        tf.constant([anchors], tf.float32),
        tf.constant([class_ids], tf.int32),
        tf.constant([boxes], tf.float32),
        Config.retinanet(),
    )
    return targets.class_ids.numpy()[0].tolist(), targets.boxes.numpy()[0]


def test_without_objects_every_anchor_is_negative():
    class_ids, _ = match([[0, 0, 10, 10], [5, 5, 9, 9]], [0, 0], np.zeros((2, 4)))
    assert class_ids == [0, 0]


def test_anchors_are_positive_neutral_or_negative_by_iou():
    """The object has 100 pixels; IoU of 60, 45 and 30 in it: 0.6, 0.45, 0.3."""
    anchors = [[0, 0, 10, 10], [0, 0, 6, 10], [0, 0, 4.5, 10], [0, 0, 3, 10]]
    class_ids, boxes = match(anchors, [2, 0], [[0, 0, 10, 10], [0, 0, 0, 0]])
    assert class_ids == [2, 2, -1, 0]
    np.testing.assert_array_equal(boxes[0], [0, 0, 10, 10])


def test_every_object_has_the_anchors_that_overlap_it_most():
    """IoU of 0.3 twice, and nothing is better: both anchors are positive."""
    anchors = [[0, 0, 3, 10], [7, 0, 10, 10], [0, 0, 1, 10]]
    assert match(anchors, [1], [[0, 0, 10, 10]])[0] == [1, 1, 0]


def test_best_anchor_of_an_object_still_belongs_to_the_one_that_it_overlaps_most():
    """The anchor is the best one of both objects, IoU 1 and 0.25."""
    class_ids, boxes = match([[0, 0, 10, 10]], [1, 2], [[0, 0, 5, 5], [0, 0, 10, 10]])
    assert class_ids == [2]
    np.testing.assert_array_equal(boxes[0], [0, 0, 10, 10])


def test_object_that_no_anchor_touches_matches_none():
    assert match([[0, 0, 10, 10]], [1], [[50, 50, 60, 60]])[0] == [0]


def test_anchors_in_a_crowd_are_neutral_unless_they_are_positive():
    anchors = [[0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 70, 70]]
    class_ids, _ = match(anchors, [1, -1], [[0, 0, 10, 10], [0, 0, 40, 40]])
    assert class_ids == [1, -1, 0]


def test_matches_equal_torchvision(torchvision_units):
    recorded = torchvision_units("boxes")
    anchors, gt = (recorded[name][:, [1, 0, 3, 2]] for name in ("match_anchors", "match_gt"))
    class_ids, _ = match(anchors, np.arange(1, len(gt) + 1), gt)
    # torchvision: -1 negative, -2 between the thresholds, else the object's index.
    expected = np.where(recorded["match_retinanet"] == -2, -1, recorded["match_retinanet"] + 1)
    np.testing.assert_array_equal(class_ids, expected)


# --- Box loss ---


def losses_of(loss, deltas, class_ids):
    config = Config.retinanet()
    config.BOX_LOSS = loss
    anchors = tf.constant([[[0.0, 0, 10, 10], [0, 0, 0, 0]]])
    targets = AnchorTargets(tf.constant([class_ids]), tf.constant([[[0.0, 5, 10, 15], [0] * 4]]))
    return box_losses(tf.constant([deltas], tf.float32), anchors, targets, config).numpy().tolist()


@pytest.mark.parametrize("loss", ["smooth_l1", "giou"])
def test_box_loss_without_positive_anchors_is_zero_and_finite(loss):
    assert losses_of(loss, [[1e6] * 4, [np.inf] * 4], [0, -1]) == [0]


def test_box_loss_by_hand():
    """The object lies half an anchor to the right: deltas 0, 0.5, 0, 0.

    L1 of 0.25, 0, 0, 0: 0.75. GIoU of no deltas: IoU 50 / 150, hull 150: 1 - 1 / 3.
    """
    assert losses_of("smooth_l1", [[0.25, 0, 0, 0], [9] * 4], [3, 0]) == pytest.approx([0.75])
    assert losses_of("giou", [[0] * 4, [9] * 4], [3, 0]) == pytest.approx([2 / 3])
    assert losses_of("giou", [[0, 0.5, 0, 0], [9] * 4], [3, 0]) == pytest.approx([0], abs=1e-6)


# --- Configs ---


def test_preset_keeps_the_settings_of_a_subclass():
    config = TinyConfig.retinanet()
    assert config.NETWORK == "retinanet" and config.IMAGE_MAX_DIM == 64
    assert config.loss_names() == ("class_loss", "bbox_loss")
    assert not config.has_rpn() and not config.has_mask_head()
    assert Config.from_dict(config.to_dict()).anchor_scales() == config.anchor_scales()
    with pytest.raises(ValueError, match="version must be 1 or 2. Received: 3"):
        Config.retinanet(3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"BACKBONE_STRIDES": [4, 8, 16, 32, 64]}, r"P3 to P7.*Config.retinanet\(\)"),
        ({"RPN_ANCHOR_SCALES": (8, 16)}, "an item for each of P3 to P7"),
        ({"RPN_ANCHOR_SCALES": ((8, 9), (16,), (32,), (64,), (99,))}, "as many sides"),
        ({"CONTINUOUS_BOXES": False}, "CONTINUOUS_BOXES must be True"),
        ({"RPN_ONLY": True}, "has no RPN"),
        ({"BOX_LOSS": "l3"}, "BOX_LOSS must be one of smooth_l1, giou"),
    ],
)
def test_invalid_config_raises(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        RetinaNet("inference", tiny_config("retinanet", **values))


def test_plain_config_names_the_preset():
    with pytest.raises(ValueError, match=r"Try Config.retinanet\(\), which sets them"):
        RetinaNet("inference", TinyConfig())


def test_config_of_another_network_is_refused():
    with pytest.raises(ValueError, match="MaskRCNN needs a config with NETWORK = 'mask_rcnn'"):
        MaskRCNN("inference", tiny_config("retinanet"))


# --- Layers and weights ---


def test_second_version_builds_with_group_norm():
    network = RetinaNet("inference", TinyConfig.retinanet(2)).keras_model
    head = network.get_layer("retinanet_head")
    assert isinstance(head.get_layer("retinanet_class_norm4"), keras.layers.GroupNormalization)
    assert network.get_layer("fpn_p6").kernel.shape == (3, 3, 24, 32)  # from C5


def test_fused_batch_norm_detects_the_same(tmp_path):
    model = shake(RetinaNet("inference", tiny_config("retinanet"), str(tmp_path)))
    images = noise_images(1)
    (before,) = model.detect(images)
    assert model.optimize_for_inference() == 5
    (after,) = model.detect(images)
    np.testing.assert_array_equal(after["class_ids"], before["class_ids"])
    np.testing.assert_allclose(after["rois"], before["rois"], atol=1e-3)


def test_known_classes_are_kept_for_every_anchor(model, tmp_path):
    """Class 2 of the file, "dark", becomes class 1; a cell has 3 anchors."""
    model.class_names = ["BG", "light", "dark"]
    model.save_weights(tmp_path / "x.h5")
    other = RetinaNet("training", tiny_config("retinanet", NUM_CLASSES=2), str(tmp_path))
    other.load_weights(tmp_path / "x.h5", remap_classes={"dark": 1})
    ours, theirs = (
        one.keras_model.get_layer("retinanet_head").get_layer("retinanet_class_logits").kernel
        for one in (other, model)
    )
    theirs = np.reshape(theirs, (*theirs.shape[:3], 3, 3))[..., [0, 2]]
    np.testing.assert_array_equal(np.reshape(ours, theirs.shape), theirs)

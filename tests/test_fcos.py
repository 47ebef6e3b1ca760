"""FCOS: its losses by hand, its config, its heads and its weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig, tiny_config

from mrcnn.config import Config
from mrcnn.fcos import FCOS, fcos_losses
from mrcnn.nn.image_meta import compose_image_meta

pytestmark = pytest.mark.usefixtures("eagerly")


# --- Losses ---


def losses_of(class_ids, boxes, sides, centerness):
    """`(numerator, count)` of each loss of one image; all anchors lie around (40, 40)."""
    config = tiny_config("fcos")
    count = len(class_ids)
    meta = compose_image_meta(0, (64, 64, 3), (64, 64, 3), (0, 0, 64, 64), 1.0, np.ones(3))
    outputs = {
        "anchors": tf.constant([[[36.0, 36, 44, 44]] * count]),
        "anchor_class_ids": tf.constant([class_ids]),
        "anchor_boxes": tf.constant([boxes], tf.float32),
        "class_logits": tf.zeros([1, count, 3]),
        "sides": tf.constant([sides], tf.float32),
        "centerness": tf.constant([centerness], tf.float32)[..., None],
    }
    found = fcos_losses([None, tf.constant(meta[None], tf.float32)], outputs, config)
    return {name: tuple(map(float, half)) for name, half in found.items()}


NO_OBJECT = [36, 36, 44, 44]  # the anchor itself


def test_losses_without_objects_are_those_of_background_and_finite():
    found = losses_of([0, -1], [NO_OBJECT] * 2, [[0] * 4, [np.inf] * 4], [5, 5])
    # 3 classes of one location: 0.75 * 0.5^2 * ln 2 each
    assert found["class_loss"] == (pytest.approx(3 * 0.1299651, rel=1e-5), 0)
    assert found["bbox_loss"] == found["centerness_loss"] == (0, 0)


def test_losses_by_hand():
    # The object's sides are 4, 20, 16 and 20 px away, its centerness is sqrt(4 / 16) = 0.5. The
    # predicted box has the same corner and half its height: IoU 1/2, and the hull is the object.
    found = losses_of(
        [2, 0], [[36, 20, 56, 60], NO_OBJECT], [[0.5, 2.5, 0.75, 2.5], [9] * 4], [0, 0]
    )
    # An object 0.25 * 0.5^2 * ln 2 = 0.0433217, five times none
    assert found["class_loss"] == (pytest.approx(5 * 0.1299651 + 0.0433217, rel=1e-5), 1)
    assert found["bbox_loss"] == (pytest.approx(0.5, rel=1e-5), 1)
    # -0.5 ln 0.5 - 0.5 ln 0.5
    assert found["centerness_loss"] == (pytest.approx(np.log(2), rel=1e-5), 1)


# --- Config ---


def test_preset_keeps_the_settings_of_a_subclass():
    config = TinyConfig.fcos()
    assert (config.NETWORK, config.IMAGE_MAX_DIM, config.TOWER_NORM) == ("fcos", 64, "group")
    assert config.loss_names() == ("class_loss", "bbox_loss", "centerness_loss")
    assert not config.has_rpn() and not config.has_anchors() and not config.has_mask_head()
    plain = Config.fcos()
    plain.NUM_CLASSES = 2
    plain.validate()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"RPN_ANCHOR_RATIOS": [0.5, 1, 2]}, r"one square anchor in a cell.*Config.fcos\(\)"),
        ({"RPN_ANCHOR_SCALES": (8, 16, 16, 32, 64)}, "RPN_ANCHOR_SCALES must grow"),
        ({"RPN_ANCHOR_SCALES": ((8, 9), (16, 17), (32, 33), (64, 65), (99, 100))}, "one side"),
        ({"CONTINUOUS_BOXES": False}, "CONTINUOUS_BOXES must be True"),
    ],
)
def test_invalid_config_raises(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        FCOS("inference", tiny_config("fcos", **values))


# --- Heads and weights ---


def test_distances_are_never_negative_and_all_levels_share_the_heads():
    heads = FCOS("inference", tiny_config("fcos")).keras_model.get_layer("fcos_heads")
    class_logits, sides, centerness = heads(tf.random.normal([2, 3, 5, 32]))
    assert (class_logits.shape, sides.shape, centerness.shape) == (
        (2, 15, 3),
        (2, 15, 4),
        (2, 15, 1),
    )
    assert float(tf.reduce_min(sides)) == 0
    assert isinstance(heads.get_layer("fcos_box_norm2"), keras.layers.GroupNormalization)


def test_known_classes_are_kept(tmp_path):
    """Class 2 of the file, "dark", becomes class 1."""
    model = FCOS("training", tiny_config("fcos"), str(tmp_path))
    model.class_names = ["BG", "light", "dark"]
    model.save_weights(tmp_path / "x.h5")
    other = FCOS("training", tiny_config("fcos", NUM_CLASSES=2), str(tmp_path))
    other.load_weights(tmp_path / "x.h5", remap_classes={"dark": 1})
    ours, theirs = (
        one.keras_model.get_layer("fcos_heads").get_layer("fcos_class_logits").kernel
        for one in (other, model)
    )
    np.testing.assert_array_equal(ours, np.asarray(theirs)[..., [0, 2]])

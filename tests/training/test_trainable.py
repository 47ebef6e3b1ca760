"""Which layers are trainable."""

import re

import keras
import pytest
from tiny import TinyConfig

from mrcnn.model import MaskRCNN
from mrcnn.training.trainable import HEADS, layer_regex, set_trainable

pytestmark = pytest.mark.usefixtures("eagerly")


LAYERS = [
    "conv1",
    "bn_conv1",
    "res2a_branch2a",
    "bn2a_branch2a",
    "res3a_branch1",
    "bn3d_branch2c",
    "res4w_branch2b",
    "bn4a_branch1",
]
LAYERS += [
    "res5c_branch2a",
    "bn5b_branch2c",
    "fpn_c2p2",
    "rpn_conv_shared",
    "rpn_class_raw",
    "mrcnn_mask",
    "mrcnn_bbox_fc",
]


@pytest.mark.parametrize(
    ("layers", "first"),
    [
        ("all", "conv1"),
        ("3+", "res3a_branch1"),
        ("4+", "res4w_branch2b"),
        ("5+", "res5c_branch2a"),
        ("heads", "fpn_c2p2"),
    ],
)
def test_stage_includes_all_later_layers(layers, first):

    learn = [name for name in LAYERS if re.fullmatch(layer_regex(layers), name)]
    assert learn == LAYERS[LAYERS.index(first) :]


def test_stage_5_of_the_heads_is_a_stage_of_the_backbone():
    config = TinyConfig(BACKBONE_STRIDES=[16], BOX_HEAD="res5")
    network = MaskRCNN("inference", config).keras_model
    assert "res5a_branch2a" in set_trainable(network, layer_regex("5+"), config, verbose=0)
    assert "res5a_branch2a" not in set_trainable(network, layer_regex("heads"), config, verbose=0)


def test_other_strings_are_regexes():
    assert layer_regex(r"(mrcnn\_mask.*)") == r"(mrcnn\_mask.*)"
    assert layer_regex("heads") == HEADS


def test_set_trainable(network):
    names = set_trainable(network, layer_regex("5+"), TinyConfig(), verbose=0)
    assert {"res5a_conv", "bn5a", "rpn_conv_shared", "mrcnn_mask"} <= set(names)
    assert not {"res4a_conv", "bn4a", "res1a_conv"} & set(names)
    learning = {weight.path.split("/")[-2] for weight in network.trainable_weights}
    assert learning == set(names)
    everything = set_trainable(network, ".*", TinyConfig(), verbose=0)
    assert {"res1a_conv", "bn1a"} <= set(everything)


def test_regex_without_a_match_is_an_error(network):
    with pytest.raises(
        ValueError, match="layers must be 'heads'.*Received: 'haeds', which matches no layer"
    ):
        set_trainable(network, "haeds", TinyConfig())
    set_trainable(network, ".*", TinyConfig(), verbose=0)


def test_log_counts_frozen_batch_norm_layers(caplog):
    x = keras.Input([8, 8, 3])
    y = keras.layers.BatchNormalization(name="a_BN")(keras.layers.Conv2D(2, 1, name="a")(x))
    small = keras.Model(x, keras.layers.BatchNormalization(name="b_BN")(y))
    with caplog.at_level("INFO", logger="mrcnn"):
        assert set_trainable(small, "a.*", TinyConfig()) == ["a"]
        set_trainable(small, "a.*", TinyConfig(TRAIN_BN=None))
    first, second = caplog.messages
    frozen = "1 batch-norm layers of the backbone stay frozen because TRAIN_BN is False"
    assert first.endswith(f"1 of 3 layers with weights; {frozen}")
    assert second.endswith("2 of 3 layers with weights")

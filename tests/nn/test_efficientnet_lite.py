"""EfficientNet-Lite2: its maps against a forward pass in NumPy, and its norms."""

import keras
import numpy as np
import pytest
from reference import efficientnet_lite as reference
from tiny import TinyConfig

from mrcnn.inference.fuse_batch_norm import BatchNormFusedModel
from mrcnn.nn.efficientnet_lite import LITE2_BLOCKS, efficientnet_lite2_graph
from mrcnn.nn.layers import BatchNorm, FrozenBatchNorm
from mrcnn.weights.imagenet import imagenet_weights
from mrcnn.weights.loading import load_backbone_weights


def build(shape=(33, 47, 3), **values):
    config = TinyConfig(BACKBONE="efficientnet_lite2", **values)
    image = keras.Input(shape)
    return keras.Model(image, efficientnet_lite2_graph(image, config)), config


@pytest.fixture(scope="module")
def pretrained():
    network, config = build()
    report = load_backbone_weights(network, imagenet_weights(config.BACKBONE), config.BACKBONE)
    assert not (report.missing or report.mismatched or report.unused)
    return network


def test_blocks_of_the_table():
    assert len(LITE2_BLOCKS) == 1 + 3 + 3 + 4 + 4 + 5 + 1
    assert [block.name for block in LITE2_BLOCKS[:3]] == ["block1a", "block2a", "block2b"]
    strided = [block.name for block in LITE2_BLOCKS if block.stride == 2]
    assert strided == ["block2a", "block3a", "block4a", "block6a"]
    assert [block.name for block in LITE2_BLOCKS if block.expansion == 1] == ["block1a"]
    shortcuts = [block for block in LITE2_BLOCKS if block.has_shortcut]
    assert len(shortcuts) == 2 + 2 + 3 + 3 + 4


@pytest.mark.parametrize("fused", [False, True])
def test_maps_of_the_packaged_weights_are_those_of_the_published_ones(pretrained, fused):
    """Within the rounding of the weights to float16, 0.4 % of a map's deviation."""
    molded = (reference.small_image() - TinyConfig().MEAN_PIXEL)[None].astype(np.float32)
    maps = BatchNormFusedModel(pretrained)([molded]) if fused else pretrained(molded)
    for found, expected in zip(maps, reference.read(), strict=True):
        assert found.shape[1:] == expected.shape
        difference = np.asarray(found[0]) - expected.astype(np.float32)
        assert np.sqrt(np.mean(difference**2)) < 0.004 * np.std(expected.astype(np.float32))


def test_every_relu6_and_norm_is_fused_with_its_convolution(pretrained):
    fused = BatchNormFusedModel(pretrained)
    # The stem, 20 blocks of three convolutions and the first of two.
    assert len(fused.convolutions) == 1 + 20 * 3 + 2
    kinds = {type(layer).__name__ for layer in fused.network.layers}
    assert kinds == {"InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "Add"}


@pytest.mark.parametrize(("kind", "layer"), [("batch", BatchNorm), ("frozen", FrozenBatchNorm)])
def test_norms_keep_the_epsilon_of_their_weights(kind, layer):
    network, _ = build(BACKBONE_NORM=kind, NORM_EPSILON=1e-5, TRAIN_BN=False)
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {type(x) for x in norms} == {layer} and {x.epsilon for x in norms} == {1e-3}
    assert {x.train_bn for x in norms} == {False}
    assert {x.trainable for x in norms} == {kind == "batch"}


def test_convolutions_have_a_bias_only_without_norms():
    network, _ = build(BACKBONE_NORM="none")
    assert {x.use_bias for x in network.layers if hasattr(x, "use_bias")} == {True}
    network, _ = build(BACKBONE_NORM="group")
    assert {x.use_bias for x in network.layers if hasattr(x, "use_bias")} == {False}


def test_packaged_weights_fit_images_of_another_number_of_channels():
    network, config = build((32, 32, 1), IMAGE_CHANNEL_COUNT=1, MEAN_PIXEL=np.array([120.0]))
    report = load_backbone_weights(network, imagenet_weights(config.BACKBONE), config.BACKBONE)
    assert report.adapted == [("stem_conv", (3, 3, 3, 32), (3, 3, 1, 32))]

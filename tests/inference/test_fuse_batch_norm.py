"""Batch norm fused with the convolutions before it."""

import keras
import numpy as np
import pytest
from keras import layers as KL
from kinds import KINDS
from tiny import TinyConfig, build, noise_images, shake

from mrcnn.inference.fuse_batch_norm import BatchNormFusedModel
from mrcnn.model import BatchNorm, MaskRCNN


def spread(network, seed=0):
    """The network with random batch-norm weights."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, KL.BatchNormalization):
            for weight in layer.weights:
                low, high = (
                    (0.5, 2.0) if weight.name in ("gamma", "moving_variance") else (-1.0, 1.0)
                )
                weight.assign(rng.uniform(low, high, weight.shape))
    return network


def test_fused_weights_by_hand():
    image = keras.Input([1, 1, 1])
    x = KL.Conv2D(1, 1, name="conv")(image)
    network = keras.Model(image, BatchNorm(epsilon=0.0, name="norm")(x))
    network.get_layer("conv").set_weights([np.full((1, 1, 1, 1), 3.0), np.array([1.0])])
    network.get_layer("norm").set_weights([np.array([value]) for value in (2.0, 5.0, 7.0, 16.0)])
    # (3 x + 1 - 7) * 2 / sqrt(16) + 5 = 1.5 x + 2
    found = BatchNormFusedModel(network)
    kernel, bias = found.convolutions["conv"].get_weights()
    assert (kernel.item(), bias.item()) == (1.5, 2.0)
    assert found([np.full((1, 1, 1, 1), 10.0)]).numpy().item() == 17.0


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda x: KL.BatchNormalization()(KL.Conv2D(6, 3, use_bias=False)(x)), 1),
        (lambda x: KL.BatchNormalization()(KL.DepthwiseConv2D(3, depth_multiplier=2)(x)), 1),
        (lambda x: KL.BatchNormalization(scale=False)(KL.Conv2D(6, 3)(x)), 1),
        (lambda x: KL.BatchNormalization(center=False)(KL.Conv2D(6, 3)(x)), 1),
        # an operation of keras.ops reads the input
        (lambda x: KL.BatchNormalization()(KL.Conv2D(6, 3)(x / 2.0)), 1),
        # a ReLU or ReLU6 is fused too, other activations are not
        (lambda x: KL.Activation("relu")(KL.BatchNormalization()(KL.Conv2D(6, 3)(x))), 1),
        (lambda x: KL.Activation("relu6")(KL.BatchNormalization()(KL.Conv2D(6, 3)(x))), 1),
        (lambda x: KL.Activation("tanh")(KL.BatchNormalization()(KL.Conv2D(6, 3)(x))), 1),
        (
            lambda x: KL.Add()(
                [y := KL.BatchNormalization()(KL.Conv2D(6, 3)(x)), KL.Activation("relu")(y)]
            ),
            1,
        ),
        # not fused: a layer between, another reader of the convolution, other layers before
        (lambda x: KL.BatchNormalization()(KL.Conv2D(6, 3, activation="relu")(x)), 0),
        (lambda x: KL.Add()([KL.BatchNormalization()(y := KL.Conv2D(6, 3)(x)), y]), 0),
        (lambda x: KL.BatchNormalization()(KL.Conv2DTranspose(6, 3)(x)), 0),
        (lambda x: KL.BatchNormalization()(x), 0),
    ],
)
def test_fused_network_gives_the_same_output(make, count):
    image = keras.Input([8, 8, 3])
    network = spread(keras.Model(image, make(image)))
    found = BatchNormFusedModel(network)
    assert len(found.convolutions) == count
    batch = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(found([batch]), network(batch, training=False), rtol=1e-4, atol=1e-5)


def test_model_in_the_network_is_fused_once_for_all_its_calls():
    """As stage 5 of ResNet-C4, which reads the RoIs of two branches."""
    x = keras.Input([8, 8, 3])
    inner = KL.BatchNormalization(name="inner_bn")(KL.Conv2D(3, 3, padding="same", name="inner")(x))
    inner = spread(keras.Model(x, inner, name="inner_model"))
    image = keras.Input([8, 8, 3])
    network = keras.Model(image, inner(inner(KL.Identity()(image))))
    found = BatchNormFusedModel(network)
    assert list(found.convolutions) == ["inner"]
    batch = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(found([batch]), network(batch, training=False), rtol=1e-4, atol=1e-5)
    inner.get_layer("inner_bn").gamma.assign([9.0, 9.0, 9.0])
    found.update_weights()
    np.testing.assert_allclose(found([batch]), network(batch, training=False), rtol=1e-4, atol=1e-4)


def test_relu_of_batch_norm_that_is_an_output_is_not_fused():
    image = keras.Input([8, 8, 3])
    x = KL.BatchNormalization()(KL.Conv2D(6, 3)(image))
    network = spread(keras.Model(image, [x, KL.Activation("relu")(x)]))
    found = BatchNormFusedModel(network)
    batch = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    for tensor, expected in zip(found([batch]), network(batch, training=False), strict=True):
        np.testing.assert_allclose(tensor, expected, rtol=1e-4, atol=1e-5)
    assert float(found([batch])[0].numpy().min()) < 0


def test_convolution_that_is_an_output_is_not_fused():
    image = keras.Input([8, 8, 3])
    x = KL.Conv2D(6, 3)(image)
    assert not BatchNormFusedModel(keras.Model(image, [x, KL.BatchNormalization()(x)])).convolutions


def test_optimized_model_detects_the_same_and_saves_unfused_weights(tmp_path):
    model = shake(MaskRCNN("inference", TinyConfig(), str(tmp_path)))
    spread(model.keras_model)
    before = {weight.path: weight.numpy() for weight in model.keras_model.weights}
    pictures = noise_images(2)
    expected = model.detect(pictures)
    assert len(expected[0]["rois"])
    assert model.optimize_for_inference() == 5 + 2 + 4  # backbone, class head, mask head
    fused = BatchNormFusedModel(model.keras_model)
    assert len(fused.convolutions) == 11
    for layer in fused.convolutions.values():
        assert layer.activation is keras.activations.relu
    activations = [x.activation for x in fused.network.layers if isinstance(x, KL.Activation)]
    assert keras.activations.relu not in activations
    assert not [x for x in fused.network.layers if isinstance(x, KL.BatchNormalization)]
    for found, same in zip(model.detect(pictures), expected, strict=True):
        np.testing.assert_allclose(found["scores"], same["scores"], atol=1e-4)
        assert np.abs(found["rois"] - same["rois"]).max() <= 1
    model.save_weights(tmp_path / "weights.h5")
    other = MaskRCNN("inference", TinyConfig(), str(tmp_path))
    other.load_weights(tmp_path / "weights.h5")
    assert all(
        np.array_equal(weight.numpy(), before[weight.path]) for weight in other.keras_model.weights
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_loaded_later_are_fused_without_a_new_trace(kind, tmp_path):
    model, other = (build(kind, seed=seed) for seed in (0, 1))
    other.save_weights(tmp_path / "other.h5")
    model.optimize_for_inference()
    model.detect(noise_images(1))
    (compiled,) = model.detector._compiled.values()
    model.load_weights(tmp_path / "other.h5")
    (found,), (expected,) = model.detect(noise_images(1)), other.detect(noise_images(1))
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    assert list(model.detector._compiled.values()) == [compiled]


def test_network_of_the_rpn_is_fused(tmp_path):
    model = shake(MaskRCNN("inference", TinyConfig(RPN_ONLY=True), str(tmp_path)))
    (expected,) = model.detect(noise_images(1))
    assert model.optimize_for_inference() == 5  # the backbone's
    (found,) = model.detect(noise_images(1))
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    assert np.abs(found["rois"] - expected["rois"]).max() <= 1 and len(found["rois"])


def test_optimize_needs_inference_mode(tmp_path):
    with pytest.raises(ValueError, match="needs a model in inference mode"):
        MaskRCNN("training", TinyConfig(), str(tmp_path)).optimize_for_inference()

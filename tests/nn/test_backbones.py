"""The backbones and their table."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig

from mrcnn import config
from mrcnn.nn.backbones import (
    BACKBONES,
    RESNET_BLOCKS,
    feature_maps,
    mobilenet_v2_graph,
    resnet_graph,
    vgg16_graph,
)
from mrcnn.weights.imagenet import CONVERSIONS


def test_each_backbone_has_a_name_in_config_and_a_conversion_of_its_imagenet_file():
    assert set(BACKBONES) == set(config.BACKBONES)
    assert {row.imagenet.layer_names for row in BACKBONES.values()} == set(CONVERSIONS)
    assert set(RESNET_BLOCKS) < set(BACKBONES)


def test_resnet_names_and_blocks():
    image = keras.Input([None, None, 3])
    c5 = resnet_graph(image, "resnet101", stage5=True)[-1]
    network = keras.Model(image, c5)
    names = {layer.name for layer in network.layers}
    assert {"conv1", "bn_conv1", "res2c_out", "res3d_out", "res4w_out", "res5c_out"} <= names
    stage4 = {f"res4{letter}_out" for letter in "abcdefghijklmnopqrstuvw"}
    assert stage4 == {name for name in names if name.startswith("res4") and name.endswith("_out")}
    assert network.get_layer("conv1").use_bias
    assert [w.shape for w in network.get_layer("conv1").get_weights()] == [(7, 7, 3, 64), (64,)]
    assert network.get_layer("bn_conv1").epsilon == 1e-3


def test_resnet_strides_and_unknown_architecture():
    image = keras.Input([128, 192, 3])
    shapes = [tuple(c.shape[1:]) for c in resnet_graph(image, "resnet50", stage5=True)]
    assert shapes == [(32, 48, 64), (32, 48, 256), (16, 24, 512), (8, 12, 1024), (4, 6, 2048)]
    assert resnet_graph(image, "resnet50")[-1] is None
    with pytest.raises(ValueError, match="architecture must be one of.*Received: 'resnet18'"):
        resnet_graph(image, "resnet18")


def test_mobilenet_scales_its_input_as_in_its_training():
    """A molded image is the image minus the mean; MobileNetV2 reads x / 127.5 - 1."""
    config = TinyConfig()
    image = keras.Input([64, 64, 3])
    stages = mobilenet_v2_graph(image, config)
    assert [tuple(c.shape[1:3]) for c in stages] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    scaling = next(
        layer for layer in keras.Model(image, stages).layers if layer.name == "mobilenet_scaling"
    )
    image = np.array([0.0, 127.5, 255.0])[:, None] * np.ones(3)
    found = scaling(tf.constant(image - config.MEAN_PIXEL, "float32"))
    np.testing.assert_allclose(found, [[-1] * 3, [0] * 3, [1] * 3], atol=1e-6)


OTHERS_THAN_RESNETS = {name: row.build for name, row in BACKBONES.items() if "resnet" not in name}


@pytest.mark.parametrize("name", OTHERS_THAN_RESNETS)
def test_maps_of_other_backbones_have_the_strides_of_c1_to_c5(name):
    """Each is the end of its stage: the next layers of the network halve the size."""
    image = keras.Input([64, 128, 3])
    maps = OTHERS_THAN_RESNETS[name](image, TinyConfig())
    first = (16, 32) if name == "convnext_tiny" else (32, 64)
    assert [tuple(x.shape[1:3]) for x in maps] == [first, (16, 32), (8, 16), (4, 8), (2, 4)]
    network = keras.Model(image, maps)
    names = [layer.name for layer in network.layers if layer.weights]
    for stage, regex in BACKBONES[name].stages.items():
        learned = [name for name in names if re.fullmatch(regex, name)]
        assert learned, f"no layer of stage {stage}"
    assert sum(np.prod(weight.shape) for weight in network.weights) == PARAMETERS[name]


# Without the classifier and, of EfficientNet and ConvNeXt, the last layers before it.
PARAMETERS = {
    "vgg16": 14_714_688,
    "mobilenet_v2": 2_257_984,
    "efficientnet_lite2": 4_413_488,
    "efficientnet_v2_b0": 5_919_312 - 192 * 1280 - 4 * 1280,
    "efficientnet_v2_s": 20_331_360 - 256 * 1280 - 4 * 1280,
    "convnext_tiny": 27_820_128 - 2 * 768,
}


@pytest.mark.parametrize(
    ("name", "strides", "sizes"),
    [
        ("resnet50", [4, 8, 16, 32, 64], [16, 8, 4, 2]),
        ("resnet50", [2, 4, 8, 16, 32, 64], [32, 16, 8, 4, 2]),
        ("resnet50", [2], [32]),
        ("mobilenet_v2", [2, 4, 8, 16, 32, 64], [32, 16, 8, 4, 2]),
        ("vgg16", [16], [4]),
    ],
)
def test_network_reads_the_maps_of_its_strides(name, strides, sizes):
    config = TinyConfig(BACKBONE=name, BACKBONE_STRIDES=strides)
    maps = feature_maps(keras.Input([64, 64, 3]), config)
    assert [x.shape[1] for x in maps] == sizes


def test_map_of_stride_2_is_refused_if_the_backbone_has_none():
    config = TinyConfig(BACKBONE="convnext_tiny", BACKBONE_STRIDES=[2, 4, 8, 16, 32])
    with pytest.raises(ValueError, match="must begin with 4 or more if BACKBONE is convnext_tiny"):
        feature_maps(keras.Input([64, 64, 3]), config)


def test_pixels_are_scaled_as_in_the_training_on_imagenet_whatever_the_mean_and_deviation():
    """A molded image is (pixels - MEAN_PIXEL) / STD_PIXEL; VGG16 reads pixels - mean."""
    mean, std = np.array([100.0, 110.0, 120.0]), np.array([50.0, 60.0, 70.0])
    image = keras.Input([32, 32, 3])
    maps = vgg16_graph(image, TinyConfig(MEAN_PIXEL=mean, STD_PIXEL=std))
    scaling = keras.Model(image, maps[0]).get_layer("vgg16_scaling")
    pixels = np.array([[10.0, 20.0, 250.0]])
    found = scaling(tf.constant((pixels - mean) / std, "float32"))
    np.testing.assert_allclose(found, pixels - vgg16_graph.mean, rtol=1e-5)


def test_images_of_other_channels_are_scaled_by_the_mean_of_the_means():
    image = keras.Input([64, 64, 2])
    config = TinyConfig(IMAGE_CHANNEL_COUNT=2, MEAN_PIXEL=np.array([0.0, 100.0]))
    (c1, *_) = vgg16_graph(image, config)
    scaling = keras.Model(image, c1).get_layer("vgg16_scaling")
    # (123.68 + 116.779 + 103.939) / 3 = 114.799
    np.testing.assert_allclose(scaling(np.zeros((1, 2))), [[-114.799, -14.799]], atol=1e-3)


# --- torchvision's padding and strides ---


def recorded_layers(torchvision_units, size):
    """Input, kernels and results of torch's layers, `[B, H, W, C]`, for an input of this size."""
    recorded = torchvision_units("layers")
    if f"x_{size}" not in recorded:
        pytest.skip("needs the shared reference data")
    names = ("x", "conv7_s2_p3", "conv3_s2_p1", "maxpool3_s2_p1")
    maps = {name: recorded[f"{name}_{size}"].transpose(0, 2, 3, 1) for name in names}
    kernels = {name: recorded[f"{name}_{size}"].transpose(2, 3, 1, 0) for name in ("k7", "k3")}
    return maps, kernels


@pytest.fixture(scope="module")
def torchvision_resnet():
    image = keras.Input([None, None, 3])
    settings = config.Config.torchvision()
    c3 = resnet_graph(image, "resnet50", stage5=True, config=settings)[2]
    return keras.Model(image, c3)


def set_kernel(layer, kernel):
    """Give the layer this kernel as its first channels and filters, and zeros otherwise."""
    whole = np.zeros(layer.kernel.shape, np.float32)
    whole[:, :, : kernel.shape[2], : kernel.shape[3]] = kernel
    layer.set_weights([whole])


SIZES = ["10x14", "11x13", "10x13"]  # even, odd, mixed


@pytest.mark.parametrize("size", SIZES)
def test_stem_pads_both_sides_as_torch(torchvision_units, torchvision_resnet, size):
    maps, kernels = recorded_layers(torchvision_units, size)
    stem = torchvision_resnet.get_layer("conv1")
    set_kernel(stem, kernels["k7"])
    found = keras.Model(torchvision_resnet.input, stem.output)(maps["x"])
    np.testing.assert_allclose(found[..., :4], maps["conv7_s2_p3"], rtol=0, atol=1e-5)
    # The pool, after a ReLU: max(0, x) of the recorded pool is the pool of max(0, x).
    pool = next(x for x in torchvision_resnet.layers if isinstance(x, keras.layers.MaxPooling2D))
    before = torchvision_resnet.get_layer("bn_conv1").output
    x = np.pad(maps["x"], [(0, 0), (0, 0), (0, 0), (0, 61)])  # of 64 channels
    pooled = keras.Model(before, pool.output)(x)
    expected = np.maximum(maps["maxpool3_s2_p1"], 0)
    np.testing.assert_array_equal(pooled[..., :3], expected)


@pytest.mark.parametrize("size", SIZES)
def test_strided_convolution_pads_both_sides_as_torch(torchvision_units, torchvision_resnet, size):
    maps, kernels = recorded_layers(torchvision_units, size)
    network = torchvision_resnet
    assert network.get_layer("res3a_branch2a").strides == (1, 1)
    layer = network.get_layer("res3a_branch2b")
    # A ReLU comes before: x = relu(x) - relu(-x).
    set_kernel(layer, np.concatenate([kernels["k3"], -kernels["k3"]], axis=2))
    x = np.concatenate([maps["x"], -maps["x"]], axis=-1)
    x = np.pad(x, [(0, 0), (0, 0), (0, 0), (0, 122)])  # of 128 channels
    found = keras.Model(network.get_layer("bn3a_branch2a").output, layer.output)(x)
    np.testing.assert_allclose(found[..., :4], maps["conv3_s2_p1"], rtol=0, atol=1e-5)

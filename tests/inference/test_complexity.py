"""Parameters and operations of networks, counted by hand."""

import keras
import pytest
from keras import layers as KL
from tiny import TinyConfig, tiny_config

from mrcnn.detection_model import model_class
from mrcnn.inference.complexity import network_complexity
from mrcnn.model import MaskRCNN
from mrcnn.nn.layers import RoIConv2D, RoIConv2DTranspose
from mrcnn.weights import zoo


def counted(inputs, outputs, image_shape=(8, 6)):
    """Parameters and multiply-adds."""
    found = network_complexity(keras.Model(inputs, outputs), image_shape)
    return found.parameters, round(found.gflop * 1e9 / 2)


def test_two_layers():
    image = keras.Input([None, None, 3])
    x = KL.Conv2D(4, 3, strides=2, padding="same")(image)  # 4 x 3 positions
    outputs = KL.Conv2DTranspose(5, 2, strides=2)(x)
    # Kernels of 3 * 3 * 3 * 4 = 108 and 2 * 2 * 4 * 5 = 80 numbers, 4 + 5 biases; each number is
    # multiplied at 4 * 3 positions.
    assert counted(image, outputs) == (108 + 80 + 9, 12 * (108 + 80))


def test_network_without_a_kernel():
    image = keras.Input([None, None, 3])
    assert counted(image, KL.Activation("relu")(image)) == (0, 0)


def test_depthwise_and_dense():
    image = keras.Input([None, None, 3])
    x = KL.DepthwiseConv2D(3, padding="same", use_bias=False)(image)  # 8 * 6 * (3 * 3 * 3)
    x = KL.GlobalAveragePooling2D()(x)
    outputs = KL.Dense(7, use_bias=False)(x)  # 3 * 7
    assert counted(image, outputs) == (27 + 21, 48 * 27 + 21)


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_shared_head_counts_for_each_level_and_its_parameters_once(kind):
    image = keras.Input([None, None, 2])
    convolution = KL.Conv2D(3, 1, use_bias=False)
    head = keras.Sequential([keras.Input([None, None, 2]), convolution])
    if kind == "functional":
        x = keras.Input([None, None, 2])
        head = keras.Model(x, convolution(x))
    outputs = [head(image), head(KL.MaxPooling2D(2)(image))]
    # 2 * 3 numbers, at 8 * 6 and at 4 * 3 positions
    assert counted(image, outputs) == (6, 6 * (48 + 12))


def test_shared_layer_and_operations_between_layers():
    image = keras.Input([None, None, 2])
    convolution = KL.Conv2D(2, 1, use_bias=False)
    outputs = convolution(convolution(image / 2.0)[:, ::2])
    # 2 * 2 numbers, at 8 * 6 and at 4 * 6 positions
    assert counted(image, outputs) == (4, 4 * (48 + 24))


def test_layers_of_rois():
    image, rois = keras.Input([None, None, 1]), keras.Input([10, 7, 7, 2])
    x = RoIConv2D(3, (7, 7), use_bias=False)(rois)  # 10 positions
    x = RoIConv2DTranspose(4, (2, 2), strides=2, use_bias=False)(x)  # 10 positions
    outputs = [KL.Conv2D(1, 1, use_bias=False)(image), x]  # 48 positions
    numbers = 7 * 7 * 2 * 3, 2 * 2 * 3 * 4
    assert counted([image, rois], outputs) == (1 + sum(numbers), 48 + 10 * sum(numbers))


def test_statistics_of_batch_norm_are_no_parameters():
    image = keras.Input([None, None, 3])
    x = KL.Conv2D(4, 1, use_bias=False)(image)
    outputs = KL.GroupNormalization(2)(KL.BatchNormalization()(x))
    # 3 * 4 numbers of the kernel, a scale and a shift of both norms
    assert counted(image, outputs) == (12 + 8 + 8, 48 * 12)


def test_network_stays_as_it_is():
    image = keras.Input([None, None, 3])
    layer = KL.Conv2D(4, 3)
    network = keras.Model(image, layer(image))
    weights, outputs = layer.weights, layer.output
    for _ in range(2):
        assert network_complexity(network, (8, 8)).parameters == 112
    assert layer.output is outputs and layer.weights == weights


def test_map_of_unknown_size_is_refused():
    image, boxes = keras.Input([None, None, 3]), keras.Input([None, 4])
    outputs = [KL.Conv2D(1, 1)(image), KL.Dense(2)(boxes)]
    with pytest.raises(ValueError, match=r"Received: a map of shape \(1, None, 2\)"):
        network_complexity(keras.Model([image, boxes], outputs), (8, 8))


def test_mask_head_of_ten_detections():
    with_masks = MaskRCNN("inference", TinyConfig()).complexity()
    without = MaskRCNN("inference", TinyConfig(USE_MASK=False)).complexity()
    # Convolutions of 32 and 3 times 24 to 24 channels at 14 x 14, one of 2 x 2 that gives 28 x 28,
    # and one of 1 x 1 to 3 classes there.
    kernels = 9 * 24 * (32 + 3 * 24)
    doubling = 2 * 2 * 24 * 24
    multiply_adds = 10 * (14 * 14 * (kernels + doubling) + 28 * 28 * 24 * 3)
    assert with_masks.gflop - without.gflop == pytest.approx(2 * multiply_adds / 1e9, rel=1e-9)
    # 4 convolutions and a transposed one have 24 biases, 4 batch norms 2 * 24 numbers each.
    parameters = kernels + doubling + 24 * 3 + 5 * 24 + 3 + 4 * 2 * 24
    assert with_masks.parameters - without.parameters == parameters


@pytest.mark.parametrize("network", ["retinanet", "fcos", "mask_rcnn"])
def test_larger_image_costs_more(network):
    config = tiny_config(network, RPN_ONLY=network == "mask_rcnn")
    model = model_class(config)("inference", config)
    small, large = model.complexity((64, 64)), model.complexity((128, 192))
    assert small == model.complexity() and small.parameters == large.parameters
    assert large.gflop == pytest.approx(6 * small.gflop, rel=0.2)  # borders of small maps


@pytest.mark.parametrize(
    ("name", "parameters", "giga_multiply_adds"),
    [
        ("fasterrcnn_resnet50_fpn_v2_coco", 43_712_278, 280.371),
        ("retinanet_resnet50_fpn_v2_coco", 38_198_935, 152.238),
    ],
)
def test_equals_what_torchvision_publishes(name, parameters, giga_multiply_adds):
    """`num_params` and `_ops` of its Weights enums (0.29.1), the latter for 800 x 800 pixels.

    It does not count the heads on detections, of which its random image has none.
    """
    config = zoo.row_of(name).config()
    found = model_class(config)("inference", config).complexity((800, 800))
    assert found.parameters == parameters
    assert found.gflop == pytest.approx(2 * giga_multiply_adds, abs=1e-3)


def test_training_network_is_refused():
    with pytest.raises(ValueError, match=r"complexity\(\) needs a model in inference mode"):
        MaskRCNN("training", TinyConfig()).complexity()

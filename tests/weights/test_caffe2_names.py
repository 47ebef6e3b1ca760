"""Caffe2's names of a ResNet's weights as torchvision's."""

import numpy as np
import pytest

from mrcnn.weights.caffe2_names import is_caffe2, torchvision_name, torchvision_names


def test_no_blobs():
    assert torchvision_names({}) == {} and not is_caffe2({})


@pytest.mark.parametrize(
    ("caffe2", "torchvision"),
    [
        ("conv1_w", "conv1.weight"),
        ("conv1_b", "conv1.bias"),
        ("res_conv1_bn_s", "bn1.weight"),
        ("res_conv1_bn_b", "bn1.bias"),
        ("res2_0_branch1_w", "layer1.0.downsample.0.weight"),
        ("res2_0_branch1_bn_s", "layer1.0.downsample.1.weight"),
        ("res2_0_branch2a_w", "layer1.0.conv1.weight"),
        ("res3_3_branch2b_bn_b", "layer2.3.bn2.bias"),
        ("res4_22_branch2c_bn_s", "layer3.22.bn3.weight"),
        ("res5_2_branch2c_w", "layer4.2.conv3.weight"),
        ("res5_2_branch2c_bn_rm", "layer4.2.bn3.running_mean"),
        ("res5_2_branch2c_bn_riv", "layer4.2.bn3.running_var"),
        ("fc1000_w", "fc.weight"),
        ("pred_b", "fc.bias"),
        ("conv_rpn_w", "conv_rpn_w"),
        ("res6_0_branch2a_w", "res6_0_branch2a_w"),
    ],
)
def test_name(caffe2, torchvision):
    assert torchvision_name(caffe2) == torchvision


def test_norm_without_statistics_gets_mean_0_and_variance_1():
    scale = np.array([2, 3], np.float32)
    blobs = {"conv1_w": np.ones((2, 3, 7, 7), np.float32), "res_conv1_bn_s": scale}
    blobs["res2_0_branch1_bn_s"] = scale
    blobs["conv1_w_momentum"] = blobs["conv1_w"]
    tensors = torchvision_names(blobs)
    assert sorted(tensors) == [
        "bn1.running_mean",
        "bn1.running_var",
        "bn1.weight",
        "conv1.weight",
        "layer1.0.downsample.1.running_mean",
        "layer1.0.downsample.1.running_var",
        "layer1.0.downsample.1.weight",
    ]
    assert tensors["bn1.running_mean"].tolist() == [0, 0]
    assert tensors["bn1.running_var"].tolist() == [1, 1]
    assert tensors["bn1.weight"] is scale and tensors["conv1.weight"] is blobs["conv1_w"]


def test_statistics_of_the_file_are_kept():
    mean = np.array([5], np.float32)
    blobs = {"res_conv1_bn_s": mean, "res_conv1_bn_rm": mean}
    assert torchvision_names(blobs)["bn1.running_mean"] is mean


def test_caffe2_is_recognized_by_a_block():
    assert is_caffe2({"res2_0_branch2a_w": 0}) and not is_caffe2({"layer1.0.conv1.weight": 0})

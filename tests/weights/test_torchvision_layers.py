"""Layers of our networks from torchvision's and detectron2's tensors, and back."""

import numpy as np
import pytest

from mrcnn.weights import torchvision_layers as tv


def test_no_tensors_give_no_layers():
    assert tv.to_layers({}) == {}
    assert tv.torchvision_names({}) == {}
    assert tv.to_tensors({}) == {}


def test_a_convolution_and_its_norm():
    kernel = np.arange(2 * 3 * 5 * 7).reshape(2, 3, 5, 7)  # [out, in, height, width]
    layers = tv.to_layers(
        {
            "backbone.body.layer1.0.conv2.weight": kernel,
            "backbone.body.layer1.0.bn2.weight": np.array([1.0, 2.0]),
            "backbone.body.layer1.0.bn2.running_var": np.array([3.0, 4.0]),
            "backbone.body.layer1.0.bn2.num_batches_tracked": np.array(7),
        }
    )
    assert list(layers) == ["res2a_branch2b", "bn2a_branch2b"]
    ((name, values),) = layers["res2a_branch2b"]
    assert name == "res2a_branch2b/kernel:0" and values.shape == (5, 7, 3, 2)
    assert values[4, 6, 2, 1] == kernel[1, 2, 4, 6]
    assert [name for name, _ in layers["bn2a_branch2b"]] == [
        "bn2a_branch2b/gamma:0",
        "bn2a_branch2b/moving_variance:0",
    ]


def test_deltas_change_from_xy_to_yx():
    layers = tv.to_layers({"rpn.head.bbox_pred.bias": np.arange(8.0)})
    # two anchors, (dx, dy, dw, dh) each
    np.testing.assert_array_equal(layers["rpn_bbox_pred"][0][1], [1, 0, 3, 2, 5, 4, 7, 6])


def test_fc6_reads_channel_row_column():
    """A RoI of 2 x 2 pixels and 3 channels: input (c, y, x) is number 4 c + 2 y + x."""
    pyramid = np.zeros((3, 3, 3, 3))
    matrix = np.arange(12.0)[None]  # [1 output, 12 inputs]
    layers = tv.to_layers(
        {"backbone.fpn.layer_blocks.0.0.weight": pyramid, "roi_heads.box_head.fc6.weight": matrix}
    )
    ((_, kernel),) = layers["mrcnn_class_conv1"]  # [height, width, in, out]
    assert kernel.shape == (2, 2, 3, 1)
    assert kernel[1, 0, 2, 0] == 4 * 2 + 2 * 1 + 0


def test_names_of_2019_and_of_detectron2_become_those_of_today():
    old = {"backbone.fpn.inner_blocks.3.weight": 0, "rpn.head.conv.bias": 1}
    old["roi_heads.mask_head.mask_fcn2.weight"] = 2
    assert list(tv.torchvision_names(old)) == [
        "backbone.fpn.inner_blocks.3.0.weight",
        "rpn.head.conv.0.0.bias",
        "roi_heads.mask_head.1.0.weight",
    ]
    theirs = {
        "backbone.bottom_up.stem.conv1.norm.running_var": 0,
        "backbone.bottom_up.res4.22.shortcut.norm.weight": 0,
        "backbone.bottom_up.res2.0.conv3.weight": 0,
        "backbone.fpn_lateral2.bias": 0,
        "proposal_generator.rpn_head.anchor_deltas.bias": 0,
        "roi_heads.box_head.fc2.weight": 0,
    }
    assert list(tv.torchvision_names(theirs)) == [
        "backbone.body.bn1.running_var",
        "backbone.body.layer3.22.downsample.1.weight",
        "backbone.body.layer1.0.conv3.weight",
        "backbone.fpn.inner_blocks.0.0.bias",
        "rpn.head.bbox_pred.bias",
        "roi_heads.box_head.fc7.weight",
    ]


def test_the_background_of_detectron2_becomes_the_first_class():
    tensors = tv.with_background_first(
        {
            "roi_heads.box_predictor.cls_score.bias": np.array([1.0, 2.0, 9.0]),  # 9: background
            "roi_heads.box_predictor.bbox_pred.bias": np.arange(8.0),
            "roi_heads.mask_predictor.mask_fcn_logits.bias": np.array([1.0, 2.0]),
            "backbone.body.conv1.weight": np.array([[[[1.0]], [[2.0]], [[3.0]]]]),
        }
    )
    score, box, mask, stem = tensors.values()
    np.testing.assert_array_equal(score, [9, 1, 2])
    np.testing.assert_array_equal(box, [0, 0, 0, 0, *range(8)])
    np.testing.assert_array_equal(mask, [0, 1, 2])
    np.testing.assert_array_equal(stem.ravel(), [3, 2, 1])  # from BGR to RGB


def test_layers_and_back_give_the_same_tensors():
    rng = np.random.default_rng(0)
    tensors = {
        "backbone.body.conv1.weight": rng.normal(size=(8, 3, 7, 7)),
        "backbone.fpn.layer_blocks.0.0.weight": rng.normal(size=(4, 4, 3, 3)),
        "backbone.fpn.layer_blocks.0.1.running_mean": rng.normal(size=4),
        "rpn.head.bbox_pred.weight": rng.normal(size=(12, 4, 1, 1)),
        "roi_heads.box_head.fc6.weight": rng.normal(size=(6, 4 * 49)),
        "roi_heads.box_head.fc7.weight": rng.normal(size=(6, 6)),
        "roi_heads.box_predictor.bbox_pred.weight": rng.normal(size=(8, 6)),
        "roi_heads.mask_predictor.conv5_mask.weight": rng.normal(size=(4, 5, 2, 2)),
    }
    layers = {}
    for name, weights in tv.to_layers(tensors).items():
        layers[name] = [(weight.split("/")[1].split(":")[0], value) for weight, value in weights]
    back = tv.to_tensors(layers)
    assert set(back) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)
    assert tv.unknown_names({**tensors, "roi_heads.other": 0}) == ["roi_heads.other"]


def test_a_layer_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"torchvision R-CNN. Received: block_1_expand"):
        tv.to_tensors({"block_1_expand": []})


def test_old_names_of_retinanet_become_those_of_today():
    """Each convolution was followed by a ReLU in the same list, so the third had number 4."""
    old = {
        "head.classification_head.conv.4.weight": 0,
        "head.regression_head.bbox_reg.weight": 1,
        "backbone.fpn.layer_blocks.0.bias": 2,
    }
    assert list(tv.torchvision_names(old)) == [
        "head.classification_head.conv.2.0.weight",
        "head.regression_head.bbox_reg.weight",
        "backbone.fpn.layer_blocks.0.0.bias",
    ]


def test_pyramid_of_retinanet_begins_with_level_3():
    tensors = {
        "backbone.fpn.inner_blocks.0.0.weight": np.zeros((4, 8, 1, 1)),
        "backbone.fpn.extra_blocks.p6.bias": np.zeros(4),
        "head.classification_head.conv.1.1.weight": np.zeros(4),
        "head.regression_head.bbox_reg.weight": np.zeros((8, 4, 3, 3)),
        "head.regression_head.bbox_reg.bias": np.arange(8.0),
    }
    layers = tv.to_layers(tensors)
    names = ["fpn_c3p3", "fpn_p6", "retinanet_class_norm2", "retinanet_deltas"]
    assert list(layers) == names
    np.testing.assert_array_equal(layers["retinanet_deltas"][1][1], [1, 0, 3, 2, 5, 4, 7, 6])
    assert not tv.unknown_names(tensors)
    back = {
        name: [(weight.split("/")[1][:-2], value) for weight, value in weights]
        for name, weights in layers.items()
    }
    for name, value in tv.to_tensors(back).items():
        np.testing.assert_array_equal(value, tensors[name])


def test_towers_of_fcos_are_lists_of_convolution_norm_and_relu():
    tensors = {
        "backbone.fpn.inner_blocks.0.0.weight": np.zeros((4, 8, 1, 1)),
        "head.classification_head.conv.3.weight": np.zeros((4, 4, 3, 3)),
        "head.classification_head.conv.10.bias": np.zeros(4),
        "head.regression_head.bbox_reg.bias": np.arange(4.0),
        "head.regression_head.bbox_ctrness.weight": np.zeros((1, 4, 3, 3)),
    }
    assert list(tv.torchvision_names(tensors)) == list(tensors)
    layers = tv.to_layers(tensors)
    names = ["fpn_c3p3", "fcos_class_conv2", "fcos_class_norm4", "fcos_sides", "fcos_centerness"]
    assert list(layers) == names
    # left, top, right, bottom
    np.testing.assert_array_equal(layers["fcos_sides"][0][1], [1, 0, 3, 2])
    assert not tv.unknown_names(tensors)


def test_layers_of_two_networks_are_refused():
    with pytest.raises(ValueError, match=r"Received: rpn_bbox_pred.*Config.retinanet\(\)"):
        tv.to_tensors({"retinanet_deltas": [], "rpn_bbox_pred": []})

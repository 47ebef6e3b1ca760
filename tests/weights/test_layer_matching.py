"""Layers of a file and of a model are matched by name."""

import logging

import h5py
import numpy as np
import pytest
from toy_network import HEADS, build, rename, same, set_names, values

from mrcnn.weights.loading import load_weights


def test_rpn_layers_may_be_outside_a_nested_model(model, other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
        inner = ["rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"]
        for name in inner:
            group = file.create_group(name)
            file.move(f"rpn_model/{name}", f"{name}/{name}")
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
        del file["rpn_model"]
        set_names(file, "layer_names", [n for n in names if n != "rpn_model"] + inner)
    load_weights(other, path)
    assert same(other.get_weights(), model.get_weights())


def test_additional_anchors_layer_is_unused(model, other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
        group = file.create_group("anchors")
        group["Variable:0"] = np.zeros((1, 9, 4), np.float32)
        group.attrs["weight_names"] = [b"Variable:0"]
        set_names(file, "layer_names", [*names, "anchors"])
    report = load_weights(other, path)
    assert report.unused == ["anchors"]
    assert same(other.get_weights(), model.get_weights())


def test_weights_of_a_layer_are_matched_by_name_in_any_order(model, other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file["bn_conv1"].attrs["weight_names"]]
        set_names(file["bn_conv1"], "weight_names", names[::-1])
    load_weights(other, path)
    assert same(values(other, "bn_conv1"), values(model, "bn_conv1"))


def test_weight_names_of_keras_1_are_matched_in_order(model, other, path):
    with h5py.File(path, "r+") as file:
        group = file["conv1"]
        kernel, bias = group["conv1/kernel:0"][()], group["conv1/bias:0"][()]
        del group["conv1"]
        group["conv1_W_1:0"], group["conv1_b_1:0"] = kernel, bias
        set_names(group, "weight_names", ["conv1_W_1:0", "conv1_b_1:0"])
    load_weights(other, path)
    assert same(values(other, "conv1"), values(model, "conv1"))


def test_renamed_fpn_layer_is_reported(other, path, caplog):
    before = values(other, "fpn_c2p2")
    with h5py.File(path, "r+") as file:
        rename(file, "fpn_c2p2", "fpn_c2")
    with caplog.at_level(logging.WARNING, "mrcnn"):
        report = load_weights(other, path)
    assert (report.missing, report.unused) == (["fpn_c2p2"], ["fpn_c2"])
    assert same(values(other, "fpn_c2p2"), before)
    assert "missing in the file (kept as initialised): fpn_c2p2" in caplog.text
    assert "unused in the file: fpn_c2" in caplog.text


@pytest.mark.parametrize("exclude", [HEADS, tuple(HEADS), iter(HEADS)])
def test_excluded_layers_keep_their_values(model, exclude, path):
    fresh = build(seed=1)
    before = values(fresh, "mrcnn_bbox_fc")
    report = load_weights(fresh, path, exclude=exclude)
    assert sorted(report.excluded) == sorted(set(HEADS) - {"mrcnn_bbox"})
    assert same(values(fresh, "mrcnn_bbox_fc"), before)
    assert same(values(fresh, "conv1"), values(model, "conv1"))
    assert report.unused == []


def test_exclude_may_be_none_or_one_name(model, other, path):
    assert load_weights(other, path, exclude="conv1").excluded == ["conv1"]
    assert load_weights(other, path, exclude=None).excluded == []


def test_excluding_an_unknown_layer_warns_with_a_similar_name(other, path, caplog):
    load_weights(other, path, exclude=["mrcnn_bbox", "mrcnn_class_logit"])
    assert "no layer 'mrcnn_class_logit'. Did you mean 'mrcnn_class_logits'?" in caplog.text
    assert "'mrcnn_bbox'" not in caplog.text

"""Loading weights, completely or not at all."""

import logging

import h5py
import keras
import numpy as np
import pytest
from toy_network import LEAVES, refused, rename, replace, same, set_names, values

from mrcnn.files import hdf5
from mrcnn.weights.loading import load_backbone_weights, load_weights
from mrcnn.weights.saving import save_weights

layers = keras.layers


def test_round_trip_is_bit_equal(model, other, path):
    assert not same(other.get_weights(), model.get_weights())
    report = load_weights(other, path)
    assert same(other.get_weights(), model.get_weights())
    assert sorted(report.loaded) == sorted(LEAVES)
    assert (report.excluded, report.mismatched, report.missing, report.unused) == ([], [], [], [])


def test_file_of_model_save_with_str_names_loads(model, other, path, tmp_path):
    whole = tmp_path / "whole_model.h5"
    with h5py.File(path) as old, h5py.File(whole, "w") as new:
        root = new.create_group("model_weights")
        for name in old:
            old.copy(name, root)
        root.attrs["layer_names"] = [n.decode() for n in old.attrs["layer_names"]]
        for name in ("conv1", "rpn_model"):
            names = [n.decode() for n in old[name].attrs["weight_names"]]
            set_names(root[name], "weight_names", names, as_bytes=False)
    load_weights(other, whole)
    assert same(other.get_weights(), model.get_weights())


def test_layer_names_split_into_pieces_load(model, other, path):
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:5], names[5:]
    load_weights(other, path)
    assert same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("name", ["conv1/conv1/kernel:0", "rpn_model/rpn_conv_shared/bias:0"])
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_nan_and_infinity_are_refused_with_the_name_of_the_array(other, path, name, number):
    with h5py.File(path, "r+") as file:
        value = file[name][()].astype(np.float64)
        value.flat[0] = number  # float32 cannot hold 1e300
        replace(file, name, value)
    refused(other, path, f"'{name}' in .* where 1 of .* numbers are NaN or infinite")


def test_integer_weights_are_refused(other, path):
    with h5py.File(path, "r+") as file:
        replace(file, "conv1/conv1/bias:0", np.zeros(6, np.int32))
    refused(other, path, "conv1/conv1/bias:0' in .*, of int32 where the network has float32")


def test_layers_that_do_not_fit_are_not_read(other, path, monkeypatch):
    read, reader = [], hdf5.read
    monkeypatch.setattr(
        hdf5,
        "read",
        lambda file, entry, dtype: read.append(entry.path) or reader(file, entry, dtype),
    )
    with h5py.File(path, "r+") as file:
        rename(file, "fpn_c2p2", "of_another_network")
        replace(file, "mrcnn_mask/mrcnn_mask/bias:0", np.zeros(9, np.float32))
        replace(file, "mrcnn_mask/mrcnn_mask/kernel:0", np.zeros((1, 1, 5, 9), np.float32))
    report = load_weights(other, path, exclude=["conv1"], allow_head_mismatch=True)
    assert report.unused == ["of_another_network"] and [name for name, *_ in report.mismatched] == [
        "mrcnn_mask"
    ]
    assert {name.split("/")[1] for name in read} == {
        "bn_conv1",
        "res2a_branch2a",
        "bn2a_branch2a",
        "rpn_model",
        "mrcnn_bbox_fc",
        "mrcnn_class_logits",
    }


def test_load_is_logged(other, path, caplog):
    with caplog.at_level(logging.INFO, "mrcnn"):
        load_weights(other, path)
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert f"{path}: 11 layers loaded" in caplog.text


def test_backbone_file_changes_only_the_backbone(other, tmp_path):
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(name="bn_conv1")(x)
    x = layers.Conv2D(8, 1, name="res2a_branch2a")(x)
    backbone = keras.Model(image, layers.BatchNormalization(name="bn2a_branch2a")(x))
    path = save_weights(backbone, tmp_path / "notop.h5")
    head = values(other, "mrcnn_mask")
    refused(other, path, "region proposal network.*Try load_backbone_weights .--backbone-weights")
    report = load_backbone_weights(other, path, "resnet50")
    assert sorted(report.loaded) == sorted(["conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a"])
    assert report.missing == []
    assert same(values(other, "conv1"), values(backbone, "conv1"))
    assert same(values(other, "mrcnn_mask"), head)


def test_unknown_backbone_is_refused(other, path):
    with pytest.raises(ValueError, match="one of resnet50, resnet101, .*. Received: 'vgg'"):
        load_backbone_weights(other, path, "vgg")

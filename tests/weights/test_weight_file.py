"""The contents of a weight file; files that are refused."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from toy_network import (
    kind_of,
    refused,
    set_names,
)

from mrcnn.weights.loading import load_weights
from mrcnn.weights.opening import check_file, read_metadata


def test_kind_of_a_whole_network_is_matterport(path):
    assert kind_of(path) == "matterport"


def test_keras_3_file_of_a_whole_network_is_refused_with_a_remedy(model, other, tmp_path):
    model.save_weights(tmp_path / "x.weights.h5")
    refused(other, tmp_path / "x.weights.h5", "Keras 3 weights.*load_backbone_weights")
    assert kind_of(tmp_path / "x.weights.h5") == "keras"


def test_training_state_is_not_a_weight_file(other, tmp_path):
    path = tmp_path / "training_state_0001.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["about"], file["optimizer/0000 iterations"] = "{}", np.int64(3)
    match = r"must hold weights.*a training state.*Try the mask_rcnn_\*.h5 of the same epoch"
    refused(other, path, match)
    for question in (check_file, read_metadata, kind_of):
        with pytest.raises(ValueError, match=match):
            question(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "with no JSON"),
        ("[" * 100_000, "with no JSON"),
        ("[1]", "JSON without NAME: value pairs"),
        ('{"config": [1]}', "JSON without NAME: value pairs"),
        ('{"class_names": "BG"}', "class_names that are no list of names"),
        ('{"class_names": [1]}', "class_names that are no list of names"),
    ],
)
def test_metadata_of_another_form_is_refused(path, text, match):
    with h5py.File(path, "r+") as file:
        file.attrs["mrcnn_metadata"] = text
    with pytest.raises(ValueError, match=f"attribute mrcnn_metadata.*{match}"):
        read_metadata(path)


def test_class_names_have_no_control_characters(path):
    with h5py.File(path, "r+") as file:
        file.attrs["mrcnn_metadata"] = json.dumps({"class_names": ["BG", "a\x1b[31m\nb"]})
    assert read_metadata(path)["class_names"] == ["BG", "a [31m b"]


def test_metadata_is_none_if_the_file_has_none(path, tmp_path):
    assert read_metadata(path) is None


def test_path_of_one_character_gets_a_hint_on_find_last(other):
    with pytest.raises(
        FileNotFoundError, match=r"'z'.*find_last\(\) instead of find_last\(\)\[1\]"
    ):
        load_weights(other, "z")


def test_missing_file_and_folder_are_refused(other, tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist.*absent.h5"):
        load_weights(other, tmp_path / "absent.h5")
    refused(other, tmp_path, "must be a file. Received: the folder")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, None])
def test_truncated_file_and_other_content_are_refused(other, path, content):
    data = content if content is not None else Path(path).read_bytes()[:-2000]
    Path(path).write_bytes(data)
    refused(other, path, "complete HDF5 file.*mask_rcnn_toy_0001.h5.*or is cut off")


def test_listed_weight_without_array_is_refused(other, path):
    with h5py.File(path, "r+") as file:
        del file["conv1/conv1/bias:0"]
    refused(other, path, "Every entry of the weight file must be readable")


def test_hdf5_file_without_layers_is_refused(other, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros(3)
    refused(other, tmp_path / "x.h5", "must have the attribute 'layer_names'")


def link_layer(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        file.copy("conv1", other)
    del file["conv1"]
    file["conv1"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/conv1")


def store_outside(file, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(24))
    del file["conv1/conv1/bias:0"]
    file.create_dataset(
        "conv1/conv1/bias:0", (6,), "f4", external=[(str(tmp_path / "secret"), 0, 24)]
    )


def list_layers_without_end(file, tmp_path):
    names = [f"x{i}" for i in range(6)]
    set_names(file, "layer_names", ["conv1", *names])
    set_names(file["conv1"], "weight_names", ["conv1/bias:0"] * 4000)
    for name in names:
        file[name] = file["conv1"]  # 7 * 4000 = 28,000 weights of one array


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (link_layer, "'conv1' in .*toy_0001.h5', which is a link to another place"),
        (store_outside, "'conv1/conv1/bias:0' in .*, which takes its data from another file"),
        (list_layers_without_end, "at most 20,000 weights"),
    ],
)
def test_file_that_does_not_hold_its_own_data_is_refused(other, path, tmp_path, damage, match):
    with h5py.File(path, "r+") as file:
        damage(file, tmp_path)
    refused(other, path, match)
    with pytest.raises(ValueError, match=match):
        check_file(path)

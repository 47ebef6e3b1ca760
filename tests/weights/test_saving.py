"""Saving weights in matterport's layout, whole or not at all."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from toy_network import build, same

from mrcnn.files import hdf5
from mrcnn.weights import saving
from mrcnn.weights.loading import load_weights
from mrcnn.weights.opening import read_metadata
from mrcnn.weights.saving import save_weights

layers = keras.layers


def test_layout_is_that_of_keras_2(model, path):
    with h5py.File(path) as file:
        assert list(file.attrs["layer_names"]) == [layer.name.encode() for layer in model.layers]
        assert file.attrs["layer_names"].dtype.kind == "S"
        assert file.attrs["backend"] == b"tensorflow"
        assert file.attrs["keras_version"].decode().startswith("2.")
        assert list(file["bn_conv1"].attrs["weight_names"]) == [
            b"bn_conv1/gamma:0",
            b"bn_conv1/beta:0",
            b"bn_conv1/moving_mean:0",
            b"bn_conv1/moving_variance:0",
        ]
        assert list(file["rpn_model"].attrs["weight_names"])[:2] == [
            b"rpn_conv_shared/kernel:0",
            b"rpn_conv_shared/bias:0",
        ]
        assert file["conv1/conv1/kernel:0"].shape == (3, 3, 3, 6)
        assert len(file["pool_squeeze"].attrs["weight_names"]) == 0


def test_legacy_reader_of_keras_reads_the_file(model, other, path):
    other.load_weights(path)  # by order, as Keras 2 does with by_name=False
    assert same(other.get_weights(), model.get_weights())


def layer_like(name, named):
    """Create an unconnected Keras layer with weights of a file, [(weight name, array)]."""
    inner = list(dict.fromkeys(weight.split("/")[0] for weight, _ in named))
    if len(inner) > 1:
        children = [
            layer_like(i, [(w, a) for w, a in named if w.split("/")[0] == i]) for i in inner
        ]
        return SimpleNamespace(name=name, layers=children)
    if not named:
        return layers.Layer(name=name)
    shape = named[0][1].shape
    if len(named) == 4:
        layer = layers.BatchNormalization(name=name)
        layer.build((None, *shape))
    elif len(shape) == 2:
        layer = layers.Dense(shape[1], kernel_initializer="zeros", name=name)
        layer.build((None, shape[0]))
    elif "deconv" in name:
        layer = layers.Conv2DTranspose(shape[2], shape[:2], kernel_initializer="zeros", name=name)
        layer.build((None, 8, 8, shape[3]))
    else:
        layer = layers.Conv2D(shape[3], shape[:2], kernel_initializer="zeros", name=name)
        layer.build((None, 8, 8, shape[2]))
    return layer


def listing(path):
    """[(layer, [(weight name, shape)])] of a weight file, in its order."""
    with h5py.File(path) as file:
        return [
            (name, [(w, file[name][w].shape) for w in hdf5.names(file[name], "weight_names")])
            for name in hdf5.names(file, "layer_names")
        ]


def test_original_file_is_saved_with_the_same_names_shapes_and_values(reference_weights, tmp_path):
    original, copy = reference_weights, tmp_path / "copy.h5"
    with h5py.File(original) as file:
        named = {
            name: [(w, file[name][w]) for w, _ in entries] for name, entries in listing(original)
        }
        network = SimpleNamespace(
            layers=[layer_like(name, entries) for name, entries in named.items()]
        )
    report = load_weights(network, original)
    assert not (report.missing or report.unused or report.mismatched)
    # Conv + BN of ResNet50 without top: 1 + 16 blocks * 3 + 4 shortcuts = 53 each; FPN 8; RPN 3;
    # heads: 2 conv, 2 BN, 2 dense, 4 conv, 4 BN, deconv, mask = 16
    assert len(report.loaded) == 53 * 2 + 8 + 3 + 16
    save_weights(network, copy)
    assert listing(copy) == listing(original)
    with h5py.File(original) as a, h5py.File(copy) as b:
        for name, entries in listing(original):
            for weight, _ in entries:
                assert np.array_equal(a[name][weight][()], b[name][weight][()]), weight


def test_list_of_names_longer_than_an_attribute_is_split_as_keras_does(tmp_path):
    # 700 names of 100 bytes are 70,000 bytes; 64,512 // 100 = 645 fit the first piece
    names = [f"{i:0100d}" for i in range(700)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        saving._write_names(file, "layer_names", names)
        assert sorted(file.attrs) == ["layer_names0", "layer_names1"]
        assert len(file.attrs["layer_names0"]) == 645
        assert hdf5.names(file, "layer_names") == names


def test_metadata_of_any_size_is_read_back_from_the_same_file(model, tmp_path):
    long_names = [f"a class with a long name, number {i:05d}" for i in range(5000)]
    names = ["BG", *long_names]  # about 200 KB
    metadata = {
        "class_names": names,
        "epoch": np.int64(3),
        "config": {"MEAN_PIXEL": np.array([1.5, 2, 3])},
    }
    path = save_weights(model, tmp_path / "run" / "x.h5", metadata)
    expected = {"class_names": names, "epoch": 3, "config": {"MEAN_PIXEL": [1.5, 2, 3]}}
    assert read_metadata(path) == expected
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["x.h5"]


def test_metadata_unknown_to_json_keeps_the_old_file(model, path):
    before = Path(path).read_bytes()
    with pytest.raises(TypeError, match="JSON-able"):
        save_weights(build(seed=1), path, {"model": object()})
    assert Path(path).read_bytes() == before


def test_old_file_is_replaced_in_one_step(path):
    before = Path(path).read_bytes()
    with open(path, "rb") as reader:  # a process that reads the old file
        save_weights(build(seed=1), path)
        assert reader.read() == before
    assert Path(path).read_bytes() != before


def test_failed_write_keeps_the_old_file_and_leaves_no_other(path, tmp_path):
    resource = pytest.importorskip("resource")
    before = Path(path).read_bytes()
    wide = build(width=60_000)  # over 1 MB of weights
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The effect is that of a full disk: writing more than 1 MB to a file fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(
            OSError, match=r"toy_0001.h5 must be writable.*Try freeing disk space"
        ) as error:
            save_weights(wide, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)  # not HDF5's own report
    assert Path(path).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mask_rcnn_toy_0001.h5"]


def test_folder_that_cannot_be_created_is_reported(model, path):
    with pytest.raises(OSError, match="must be writable"):
        save_weights(model, f"{path}/under_a_file.h5")


def test_interrupt_keeps_the_old_file(model, path, tmp_path, monkeypatch):
    before = Path(path).read_bytes()

    def interrupted(file, layers):
        file["half"] = np.zeros(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(saving, "write_layers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_weights(model, path)
    assert Path(path).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mask_rcnn_toy_0001.h5"]

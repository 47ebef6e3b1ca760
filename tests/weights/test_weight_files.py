"""Weight files: both ways, bit for bit, and never in silence."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from mrcnn.files import hdf5
from mrcnn.weights import weight_files as weights

layers = keras.layers

HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
LEAVES = [
    "conv1",
    "bn_conv1",
    "res2a_branch2a",
    "bn2a_branch2a",
    "fpn_c2p2",
    "rpn_conv_shared",
    "rpn_class_raw",
    "rpn_bbox_pred",
    "mrcnn_class_logits",
    "mrcnn_bbox_fc",
    "mrcnn_mask",
]


def build(classes=4, channels=3, width=5, seed=0):
    """A stand-in with matterport's names: backbone, FPN, nested RPN and three heads, all weights random."""
    image = keras.Input((16, 16, channels), name="input_image")
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(name="bn_conv1")(x)
    x = layers.Conv2D(8, 1, name="res2a_branch2a")(x)
    x = layers.BatchNormalization(name="bn2a_branch2a")(x)
    x = layers.Activation("relu", name="res2a_out")(x)
    x = layers.Conv2D(width, 1, name="fpn_c2p2")(x)

    feature_map = keras.Input((None, None, width), name="input_rpn_feature_map")
    y = layers.Conv2D(7, 3, padding="same", name="rpn_conv_shared")(feature_map)
    rpn = keras.Model(
        feature_map,
        [
            layers.Conv2D(6, 1, name="rpn_class_raw")(y),
            layers.Conv2D(12, 1, name="rpn_bbox_pred")(y),
        ],
        name="rpn_model",
    )
    pooled = layers.GlobalAveragePooling2D(name="pool_squeeze")(x)
    boxes = layers.Dense(4 * classes, name="mrcnn_bbox_fc")(pooled)
    outputs = [
        *rpn(x),
        layers.Dense(classes, name="mrcnn_class_logits")(pooled),
        layers.Reshape((classes, 4), name="mrcnn_bbox")(boxes),
        layers.Conv2D(classes, 1, name="mrcnn_mask")(x),
    ]
    model = keras.Model(image, outputs, name="mask_rcnn")
    rng = np.random.default_rng(seed)
    model.set_weights(
        [rng.uniform(0.1, 1, w.shape).astype(np.float32) for w in model.get_weights()]
    )
    return model


def leaf(model, name):
    return weights._layers(model)[name]


def values(model, name):
    return leaf(model, name).get_weights()


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def set_names(group, attribute, names, as_bytes=True):
    del group.attrs[attribute]
    group.attrs[attribute] = np.array([n.encode() for n in names]) if as_bytes else names


def rename(file, old, new):
    """Renames a layer of a weight file, its weights included."""
    names = [n.decode() for n in file.attrs["layer_names"]]
    set_names(file, "layer_names", [new if n == old else n for n in names])
    inner = [n.decode() for n in file[old].attrs["weight_names"]]
    file.move(old, new)
    file[new].move(old, new)
    set_names(file[new], "weight_names", [n.replace(f"{old}/", f"{new}/") for n in inner])


def remove(file, name):
    names = [n.decode() for n in file.attrs["layer_names"]]
    set_names(file, "layer_names", [n for n in names if n != name])
    del file[name]


def replace(file, dataset, value):
    del file[dataset]
    file[dataset] = value


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture
def other():
    return build(seed=1)


@pytest.fixture
def path(model, tmp_path):
    return weights.save_weights(model, tmp_path / "mask_rcnn_toy_0001.h5")


# ----------------------------------------------------------------------------------------------------------
# Round trip and layout


def test_round_trip_is_bit_equal_in_order(model, other, path):
    assert not same(other.get_weights(), model.get_weights())
    report = weights.load_weights(other, path)
    assert same(other.get_weights(), model.get_weights())
    assert sorted(report.loaded) == sorted(LEAVES)
    assert (report.excluded, report.mismatched, report.missing, report.unused) == ([], [], [], [])


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


def test_the_legacy_reader_of_keras_reads_it(model, other, path):
    other.load_weights(path)  # by order, as Keras 2 does with by_name=False
    assert same(other.get_weights(), model.get_weights())


def layer_like(name, named):
    """An unconnected Keras layer with the weights of a group of a file: [(weight name, array)]."""
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


def test_an_original_file_loads_and_is_written_with_the_same_names_and_shapes(
    reference_weights, tmp_path
):
    original, copy = reference_weights, tmp_path / "copy.h5"
    with h5py.File(original) as file:
        named = {
            name: [(w, file[name][w]) for w, _ in entries] for name, entries in listing(original)
        }
        network = SimpleNamespace(
            layers=[layer_like(name, entries) for name, entries in named.items()]
        )
    report = weights.load_weights(network, original)
    assert not (report.missing or report.unused or report.mismatched)
    # Conv + BN of ResNet50 without top: 1 + 16 blocks * 3 + 4 shortcuts = 53 each; FPN 8; RPN 3;
    # heads: 2 conv, 2 BN, 2 dense, 4 conv, 4 BN, deconv, mask = 16
    assert len(report.loaded) == 53 * 2 + 8 + 3 + 16
    weights.save_weights(network, copy)
    assert listing(copy) == listing(original)
    with h5py.File(original) as a, h5py.File(copy) as b:
        for name, entries in listing(original):
            for weight, _ in entries:
                assert np.array_equal(a[name][weight][()], b[name][weight][()]), weight


# ----------------------------------------------------------------------------------------------------------
# Variants of the layout


def test_under_model_weights_with_str_names(model, other, path, tmp_path):
    whole = tmp_path / "whole_model.h5"
    with h5py.File(path) as old, h5py.File(whole, "w") as new:
        root = new.create_group("model_weights")
        for name in old:
            old.copy(name, root)
        root.attrs["layer_names"] = [n.decode() for n in old.attrs["layer_names"]]
        for name in ("conv1", "rpn_model"):
            names = [n.decode() for n in old[name].attrs["weight_names"]]
            set_names(root[name], "weight_names", names, as_bytes=False)
    weights.load_weights(other, whole)
    assert same(other.get_weights(), model.get_weights())


def test_layer_names_cut_into_pieces(model, other, path):
    with h5py.File(path, "r+") as file:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:5], names[5:]
    weights.load_weights(other, path)
    assert same(other.get_weights(), model.get_weights())


def test_names_longer_than_an_attribute_holds_are_cut_as_keras_does(tmp_path):
    # 700 names of 100 bytes are 70,000 bytes; 64,512 // 100 = 645 fit the first piece
    names = [f"{i:0100d}" for i in range(700)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        weights._write_names(file, "layer_names", names)
        assert sorted(file.attrs) == ["layer_names0", "layer_names1"]
        assert len(file.attrs["layer_names0"]) == 645
        assert hdf5.names(file, "layer_names") == names


def test_rpn_layers_may_stand_flat(model, other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
        inner = ["rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"]
        for name in inner:
            group = file.create_group(name)
            file.move(f"rpn_model/{name}", f"{name}/{name}")
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
        del file["rpn_model"]
        set_names(file, "layer_names", [n for n in names if n != "rpn_model"] + inner)
    weights.load_weights(other, path)
    assert same(other.get_weights(), model.get_weights())


def test_a_stray_anchors_layer_is_unused_and_harmless(model, other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
        group = file.create_group("anchors")
        group["Variable:0"] = np.zeros((1, 9, 4), np.float32)
        group.attrs["weight_names"] = [b"Variable:0"]
        set_names(file, "layer_names", [*names, "anchors"])
    report = weights.load_weights(other, path)
    assert report.unused == ["anchors"]
    assert same(other.get_weights(), model.get_weights())


def test_weights_are_told_apart_by_name_whatever_their_order(model, other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file["bn_conv1"].attrs["weight_names"]]
        set_names(file["bn_conv1"], "weight_names", names[::-1])
    weights.load_weights(other, path)
    assert same(values(other, "bn_conv1"), values(model, "bn_conv1"))


def test_names_of_keras_1_are_taken_in_order(model, other, path):
    with h5py.File(path, "r+") as file:
        group = file["conv1"]
        kernel, bias = group["conv1/kernel:0"][()], group["conv1/bias:0"][()]
        del group["conv1"]
        group["conv1_W_1:0"], group["conv1_b_1:0"] = kernel, bias
        set_names(group, "weight_names", ["conv1_W_1:0", "conv1_b_1:0"])
    weights.load_weights(other, path)
    assert same(values(other, "conv1"), values(model, "conv1"))


# ----------------------------------------------------------------------------------------------------------
# Mutations: each is reported or refused, none loads in silence, none loads halfway


def refused(model, path, match, **kwargs):
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        weights.load_weights(model, path, **kwargs)
    assert same(model.get_weights(), before)


def test_a_renamed_backbone_layer_is_refused(other, path):
    with h5py.File(path, "r+") as file:
        rename(file, "res2a_branch2a", "res2a_branch2x")
    refused(
        other, path, r"All 4 backbone layers.*\(res2a_branch2a\).*res2a_branch2x.*--config BACKBONE"
    )


def test_a_group_renamed_without_its_weights_is_refused(other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
        set_names(file, "layer_names", ["conv_one" if n == "conv1" else n for n in names])
        file.move("conv1", "conv_one")
    refused(other, path, "without 1 of them")


def test_a_renamed_fpn_layer_is_reported(other, path, caplog):
    before = values(other, "fpn_c2p2")
    with h5py.File(path, "r+") as file:
        rename(file, "fpn_c2p2", "fpn_c2")
    with caplog.at_level(logging.WARNING, "mrcnn"):
        report = weights.load_weights(other, path)
    assert (report.missing, report.unused) == (["fpn_c2p2"], ["fpn_c2"])
    assert same(values(other, "fpn_c2p2"), before)
    assert "missing in the file (kept as initialised): fpn_c2p2" in caplog.text
    assert "unused in the file: fpn_c2" in caplog.text


def test_by_name_false_insists_on_every_layer(other, path):
    with h5py.File(path, "r+") as file:
        remove(file, "fpn_c2p2")
    refused(
        other, path, "by_name=False the file must have every layer.*without fpn_c2p2", by_name=False
    )


@pytest.mark.parametrize(
    "name", ["conv1", "res2a_branch2a", "fpn_c2p2", "mrcnn_class_logits", "mrcnn_mask"]
)
def test_a_transposed_kernel_is_refused(model, path, name):
    with h5py.File(path, "r+") as file:
        kernel = file[f"{name}/{name}/kernel:0"][()]
        replace(file, f"{name}/{name}/kernel:0", np.swapaxes(kernel, -1, -2))
    refused(
        build(seed=1),
        path,
        f"must have the model's shapes.*{name} .*--config",
        allow_head_mismatch=True,
    )


def test_a_file_without_rpn_is_refused_unless_excluded(other, path):
    before = values(other, "rpn_conv_shared")
    with h5py.File(path, "r+") as file:
        remove(file, "rpn_model")
    refused(
        other,
        path,
        "region proposal network.*without rpn_conv_shared, rpn_class_raw, rpn_bbox_pred",
    )
    report = weights.load_weights(other, path, exclude=["rpn_model"])
    assert report.excluded == ["rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"]
    assert same(values(other, "rpn_conv_shared"), before)


def test_81_classes_give_an_error_with_both_numbers(other, tmp_path):
    path = weights.save_weights(build(classes=81), tmp_path / "coco.h5")
    refused(
        other,
        path,
        r"with 81 classes for a model with 4 .*NUM_CLASSES = 81.*`mrcnn train --weights`.*exclude=",
    )


def test_81_classes_are_skipped_and_reported_for_training(other, tmp_path):
    coco = build(classes=81)
    path = weights.save_weights(coco, tmp_path / "coco.h5")
    before = values(other, "mrcnn_mask")
    report = weights.load_weights(other, path, allow_head_mismatch=True)
    assert sorted(name for name, _, _ in report.mismatched) == sorted(weights.CLASS_HEADS)
    assert ("mrcnn_bbox_fc", [(5, 324), (324,)], [(5, 16), (16,)]) in report.mismatched
    assert same(values(other, "mrcnn_mask"), before)
    assert same(values(other, "rpn_bbox_pred"), values(coco, "rpn_bbox_pred"))


def test_a_file_of_another_network_is_refused(other, tmp_path):
    image = keras.Input((4,))
    stranger = keras.Model(image, layers.Dense(3, name="dense_of_mine")(image))
    path = weights.save_weights(stranger, tmp_path / "x.h5")
    refused(other, path, "no layer matched: the file has dense_of_mine; the model has conv1")


def test_nothing_left_to_match_is_refused_whatever_is_excluded(other, path):
    backbone = ["conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a", "rpn_model"]
    with h5py.File(path, "r+") as file:
        for name in ("fpn_c2p2", "mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask"):
            remove(file, name)
    refused(other, path, "no layer matched", exclude=backbone)


# ----------------------------------------------------------------------------------------------------------
# Exclude


@pytest.mark.parametrize("exclude", [HEADS, tuple(HEADS), iter(HEADS)])
def test_excluded_layers_keep_their_values(model, exclude, path):
    fresh = build(seed=1)
    before = values(fresh, "mrcnn_bbox_fc")
    report = weights.load_weights(fresh, path, exclude=exclude)
    assert sorted(report.excluded) == sorted(set(HEADS) - {"mrcnn_bbox"})
    assert same(values(fresh, "mrcnn_bbox_fc"), before)
    assert same(values(fresh, "conv1"), values(model, "conv1"))
    assert report.unused == []


def test_exclude_may_be_none_or_one_name(model, other, path):
    assert weights.load_weights(other, path, exclude="conv1").excluded == ["conv1"]
    assert weights.load_weights(other, path, exclude=None).excluded == []


def test_excluding_an_unknown_layer_warns_with_the_near_name(other, path, caplog):
    weights.load_weights(other, path, exclude=["mrcnn_bbox", "mrcnn_class_logit"])
    assert "no layer 'mrcnn_class_logit'. Did you mean 'mrcnn_class_logits'?" in caplog.text
    assert "'mrcnn_bbox'" not in caplog.text


# ----------------------------------------------------------------------------------------------------------
# Image channels


def test_adapt_channels_by_hand():
    # one output, one pixel, RGB kernels 1, 2, 6: sum 9, mean 3
    rgb = np.float32([1, 2, 6]).reshape(1, 1, 3, 1)

    def adapted(kernel, channels):
        return weights.adapt_channels(kernel, channels).ravel().tolist()

    assert adapted(rgb, 1) == [9]
    assert adapted(rgb, 2) == [4.5, 4.5]
    assert adapted(rgb, 4) == [1, 2, 6, 3]
    assert adapted(rgb, 5) == [1, 2, 6, 3, 3]
    rgbd = np.float32([1, 2, 6, 50]).reshape(1, 1, 4, 1)
    assert adapted(rgbd, 3) == [1, 2, 6]
    assert adapted(rgbd, 1) == [9]  # the fourth channel is no colour
    grey = np.float32([9]).reshape(1, 1, 1, 1)
    assert adapted(grey, 3) == [3, 3, 3]


@pytest.mark.parametrize("in_file", [1, 3, 4])
@pytest.mark.parametrize("in_model", [1, 3, 4])
def test_conv1_fits_itself_to_the_image_channels(in_file, in_model, tmp_path):
    source, target = build(channels=in_file), build(channels=in_model, seed=1)
    report = weights.load_weights(target, weights.save_weights(source, tmp_path / "x.h5"))
    assert "conv1" in report.loaded
    if in_file == in_model:
        assert report.adapted == []
        assert same(values(target, "conv1"), values(source, "conv1"))
    else:
        assert report.adapted == [("conv1", (3, 3, in_file, 6), (3, 3, in_model, 6))]
        assert "fitted to the image channels" in str(report)
        expected = weights.adapt_channels(values(source, "conv1")[0], in_model)
        assert same(values(target, "conv1"), [expected, values(source, "conv1")[1]])


@pytest.mark.parametrize(("in_file", "in_model"), [(3, 1), (1, 3)])
def test_a_grey_image_gives_what_its_rgb_copy_gives(in_file, in_model, tmp_path):
    source, target = build(channels=in_file), build(channels=in_model, seed=1)
    weights.load_weights(target, weights.save_weights(source, tmp_path / "x.h5"))
    grey = np.random.default_rng(0).random((1, 16, 16, 1), np.float32)
    copies = {1: grey, 3: np.repeat(grey, 3, axis=3)}
    for a, b in zip(source(copies[in_file]), target(copies[in_model]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # float32 sums in another order


# ----------------------------------------------------------------------------------------------------------
# Classes


FILE_CLASSES = ["BG", "person", "dog", "cat"]


def test_remap_classes_copies_the_rows_of_the_named_classes(tmp_path):
    source, target = build(classes=4), build(classes=3, seed=1)
    before = {name: values(target, name) for name in weights.CLASS_HEADS}
    path = weights.save_weights(source, tmp_path / "x.h5", {"class_names": FILE_CLASSES})
    report = weights.load_weights(target, path, remap_classes={"cat": 1})
    assert report.remapped == {"cat": 1}
    assert not report.mismatched
    # file rows: 0 BG, 3 cat -> model rows 0, 1; model row 2 stays
    for name, rows in [("mrcnn_class_logits", 1), ("mrcnn_bbox_fc", 4), ("mrcnn_mask", 1)]:
        for theirs, own, now in zip(
            values(source, name), before[name], values(target, name), strict=True
        ):
            assert np.array_equal(now[..., :rows], theirs[..., :rows])
            assert np.array_equal(now[..., rows : 2 * rows], theirs[..., 3 * rows : 4 * rows])
            assert np.array_equal(now[..., 2 * rows :], own[..., 2 * rows :])
    assert same(values(target, "conv1"), values(source, "conv1"))


def test_remap_classes_takes_the_names_from_an_argument_and_appends(model, path):
    target = build(classes=6, seed=1)
    names = {"person": 1, "dog": 2, "cat": 3}
    weights.load_weights(target, path, remap_classes=names, class_names=FILE_CLASSES)
    kernel = values(target, "mrcnn_class_logits")[0]
    assert np.array_equal(kernel[:, :4], values(model, "mrcnn_class_logits")[0])
    assert np.array_equal(
        kernel[:, 4:], values(build(classes=6, seed=1), "mrcnn_class_logits")[0][:, 4:]
    )


@pytest.mark.parametrize(
    ("remap", "class_names", "match"),
    [
        ({"person": 1}, None, r"class names of the file.*class_names=\['BG'"),
        ({"persons": 1}, FILE_CLASSES, "'persons'. Did you mean 'person'"),
        ({"person": 4}, FILE_CLASSES, r"in 1..3.*'person': 4"),
        ({"person": 0}, FILE_CLASSES, r"in 1..3.*'person': 0"),
        ({"person": 1, "dog": 1}, FILE_CLASSES, "an id of its own"),
        (
            {"person": 1},
            FILE_CLASSES[1:],
            "file's 4 classes, the background 'BG' first. Received: 3",
        ),
    ],
)
def test_a_wrong_remap_is_refused(other, path, remap, class_names, match):
    refused(other, path, match, remap_classes=remap, class_names=class_names)


def test_remap_does_not_hide_heads_of_another_width(path):
    target = build(classes=6, width=9, seed=1)
    refused(
        target,
        path,
        "must have the model's shapes",
        remap_classes={"cat": 1},
        class_names=FILE_CLASSES,
    )


# ----------------------------------------------------------------------------------------------------------
# Paths and files that cannot be


def test_a_path_of_one_character_says_what_happened(other):
    with pytest.raises(
        FileNotFoundError, match=r"'z'.*find_last\(\) in place of find_last\(\)\[1\]"
    ):
        weights.load_weights(other, "z")


def test_a_missing_file_and_a_folder(other, tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist.*absent.h5"):
        weights.load_weights(other, tmp_path / "absent.h5")
    refused(other, tmp_path, "must be a file. Received: the folder")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, None])
def test_no_hdf5_file_or_a_truncated_one(other, path, content):
    data = content if content is not None else Path(path).read_bytes()[:-2000]
    Path(path).write_bytes(data)
    refused(other, path, "complete HDF5 file.*mask_rcnn_toy_0001.h5.*or is cut off")


def test_a_listed_weight_that_is_not_there(other, path):
    with h5py.File(path, "r+") as file:
        del file["conv1/conv1/bias:0"]
    refused(other, path, "Every entry of the weight file must be readable")


def test_an_hdf5_file_of_something_else(other, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"] = np.zeros(3)
    refused(other, tmp_path / "x.h5", "must have the attribute 'layer_names'")


def test_a_keras_3_file_names_the_way_out(model, other, tmp_path):
    model.save_weights(tmp_path / "x.weights.h5")
    refused(other, tmp_path / "x.weights.h5", "Keras 3 weights.*load_backbone_weights")
    assert not weights.is_backbone_file(tmp_path / "x.weights.h5")


# ----------------------------------------------------------------------------------------------------------
# Files of strangers; what each array may be is in test_hdf5.py


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
        weights.check_file(path)


@pytest.mark.parametrize("name", ["conv1/conv1/kernel:0", "rpn_model/rpn_conv_shared/bias:0"])
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused_with_the_name_of_the_layer(
    other, path, name, number
):
    with h5py.File(path, "r+") as file:
        value = file[name][()].astype(np.float64)
        value.flat[0] = number  # float32 cannot hold 1e300
        replace(file, name, value)
    refused(other, path, f"'{name}' in .* where 1 of .* numbers are NaN or infinite")


def test_whole_numbers_are_no_weights(other, path):
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
    report = weights.load_weights(other, path, exclude=["conv1"], allow_head_mismatch=True)
    assert report.unused == ["of_another_network"] and [name for name, *_ in report.mismatched] == [
        "mrcnn_mask"
    ]
    assert {name.split("/")[1] for name in read} == {
        "bn_conv1", "res2a_branch2a", "bn2a_branch2a", "rpn_model", "mrcnn_bbox_fc", "mrcnn_class_logits"
    }  # fmt: skip


def test_training_state_is_told_from_weights(other, tmp_path):
    path = tmp_path / "training_state_0001.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["about"], file["optimizer/0000 iterations"] = "{}", np.int64(3)
    match = r"must hold weights.*a training state.*Try the mask_rcnn_\*.h5 of the same epoch"
    refused(other, path, match)
    for question in (weights.check_file, weights.read_metadata, weights.is_backbone_file):
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
def test_metadata_that_is_none_is_refused(path, text, match):
    with h5py.File(path, "r+") as file:
        file.attrs["mrcnn_metadata"] = text
    with pytest.raises(ValueError, match=f"attribute mrcnn_metadata.*{match}"):
        weights.read_metadata(path)


def test_class_names_of_a_file_are_fit_to_print(path):
    with h5py.File(path, "r+") as file:
        file.attrs["mrcnn_metadata"] = json.dumps({"class_names": ["BG", "a\x1b[31m\nb"]})
    assert weights.read_metadata(path)["class_names"] == ["BG", "a [31m b"]


# ----------------------------------------------------------------------------------------------------------
# What is known before a network is built


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"NUM_CLASSES": 81}, "with 4 classes for a model with 81 .*Try NUM_CLASSES = 4"),
        (
            {"RPN_CHANNELS": 10**9},
            "RPN_CHANNELS. Received: .*toy_0001.h5' with 7 for a model with 1000000000",
        ),
    ],
)
def test_config_of_other_sizes_than_the_file_is_refused(path, values, match):
    weights.check_sizes(path, SimpleNamespace(NUM_CLASSES=4, RPN_CHANNELS=7))
    with pytest.raises(ValueError, match=match):
        weights.check_sizes(
            path, SimpleNamespace(**{"NUM_CLASSES": 4, "RPN_CHANNELS": 7, **values})
        )


def test_sizes_of_a_whole_network_are_all_found(reference_weights):
    right = {"NUM_CLASSES": 0, "TOP_DOWN_PYRAMID_SIZE": 0, "RPN_CHANNELS": 0, "FPN_CLASSIF_FC_LAYERS_SIZE": 0,
             "POOL_SIZE": 7, "MASK_CHANNELS": 0}  # fmt: skip
    for name in right:
        with pytest.raises(
            ValueError, match=f"the model's {name}. Received: .* for a model with -1"
        ):
            weights.check_sizes(reference_weights, SimpleNamespace(**{name: -1}))


@pytest.mark.parametrize(
    ("files", "last"),
    [
        (["a20260101T0000/mask_rcnn_a_9999.h5", "a20260101T0000/mask_rcnn_a_10000.h5"], 1),
        (["a20260101T0000/mask_rcnn_a_0005.h5", "a20260101T0000/mask_rcnn_b_0009.h5"], 0),
        (["a20260101T0000/mask_rcnn_a_0005.h5", "a20260101T0000/mask_rcnn_a_0006_copy.h5"], 0),
        (["a20260101T0000/mask_rcnn_a_0005.h5", "a20260101T0000/mask_rcnn_a_0006.json"], 0),
        (["a20260102T0000/mask_rcnn_a_0005.h5", "a20260102T0000_old/mask_rcnn_a_0006.h5"], 0),
        (["a20260102T0000/mask_rcnn_a_0005.h5", "a20260102T0000_2/mask_rcnn_a_0001.h5"], 1),
        (["a20260102T0000_10/mask_rcnn_a_0001.h5", "a20260102T0000_9/mask_rcnn_a_0001.h5"], 0),
        (["a20260102T0001/mask_rcnn_a_0001.h5", "a20260102T0000_2/mask_rcnn_a_0002.h5"], 0),
        (["a20260102T0000/mask_rcnn_a_0001.h5", "a20260103T0000/best.h5"], 0),
        (["a20260102T0000/mask_rcnn_a_0001.h5", "a_b20260103T0000/mask_rcnn_a_b_0001.h5"], 0),
    ],
)
def test_last_checkpoint_is_that_of_the_highest_epoch_of_the_newest_run(files, last, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert weights.last_checkpoint(tmp_path, "A") == str(tmp_path / files[last])


# ----------------------------------------------------------------------------------------------------------
# Metadata and failing writes


def test_metadata_of_any_size_comes_back_from_the_only_file(model, tmp_path):
    names = [
        "BG",
        *(f"a class with a long name, number {i:05d}" for i in range(5000)),
    ]  # about 200 KB
    metadata = {
        "class_names": names,
        "epoch": np.int64(3),
        "config": {"MEAN_PIXEL": np.array([1.5, 2, 3])},
    }
    path = weights.save_weights(model, tmp_path / "run" / "x.h5", metadata)
    expected = {"class_names": names, "epoch": 3, "config": {"MEAN_PIXEL": [1.5, 2, 3]}}
    assert weights.read_metadata(path) == expected
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["x.h5"]


def test_a_file_without_metadata_has_none(path, tmp_path):
    assert weights.read_metadata(path) is None


def test_metadata_that_json_does_not_know_leaves_the_old_file(model, path):
    before = Path(path).read_bytes()
    with pytest.raises(TypeError, match="JSON-able"):
        weights.save_weights(build(seed=1), path, {"model": object()})
    assert Path(path).read_bytes() == before


def test_a_new_file_takes_the_place_of_the_old_in_one_step(path):
    before = Path(path).read_bytes()
    with open(path, "rb") as reader:  # someone still reading the old file sees the old file
        weights.save_weights(build(seed=1), path)
        assert reader.read() == before
    assert Path(path).read_bytes() != before


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, tmp_path):
    resource = pytest.importorskip("resource")
    before = Path(path).read_bytes()
    wide = build(width=60_000)  # over 1 MB of weights
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 20, hard)
    )  # as a full disk: no file grows beyond 1 MB
    try:
        with pytest.raises(
            OSError, match=r"toy_0001.h5 must be writable.*Try freeing disk space"
        ) as error:
            weights.save_weights(wide, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)  # not HDF5's own report
    assert Path(path).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mask_rcnn_toy_0001.h5"]


def test_a_folder_that_cannot_be_made(model, path):
    with pytest.raises(OSError, match="must be writable"):
        weights.save_weights(model, f"{path}/under_a_file.h5")


def test_an_interrupt_leaves_the_old_file(model, path, tmp_path, monkeypatch):
    before = Path(path).read_bytes()

    def interrupted(file, model):
        file["half"] = np.zeros(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_write_layers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        weights.save_weights(model, path)
    assert Path(path).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["mask_rcnn_toy_0001.h5"]


# ----------------------------------------------------------------------------------------------------------
# The report


def test_the_report_reads_as_lines():
    missing = [f"m{i}" for i in range(8)]
    report = weights.LoadReport("w.h5", loaded=["a", "b"], missing=missing, remapped={"cat": 1})
    assert report.summary().splitlines() == [
        "w.h5: 2 layers loaded, 0 excluded, 0 of another shape, 8 missing in the file, 0 unused in the file",
        "  missing in the file (kept as initialised): m0, m1, m2, m3, m4, m5 and 2 more",
        "  classes moved: cat -> 1",
    ]
    assert str(report) == report.summary()


def test_a_load_is_logged(other, path, caplog):
    with caplog.at_level(logging.INFO, "mrcnn"):
        weights.load_weights(other, path)
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert f"{path}: 11 layers loaded" in caplog.text


# ----------------------------------------------------------------------------------------------------------
# ImageNet


OLD_NAMES = [
    "conv1",
    "bn_conv1",
    "res2a_branch2a",
    "bn2a_branch2a",
    "res2a_branch1",
    "bn2a_branch1",
]
NEW_NAMES = [
    "conv1_conv",
    "conv1_bn",
    "conv2_block1_1_conv",
    "conv2_block1_1_bn",
    "conv2_block1_0_conv",
    "conv2_block1_0_bn",
]


def build_resnet(names, epsilon, seed=0, more=(), channels=3):
    """The first layers of a ResNet under given names; small batch-norm variances make epsilon count."""
    image = keras.Input((8, 8, channels))
    x = layers.Conv2D(4, 3, name=names[0])(image)
    x = layers.BatchNormalization(epsilon=epsilon, name=names[1])(x)
    a = layers.Conv2D(5, 1, name=names[2])(x)
    a = layers.BatchNormalization(epsilon=epsilon, name=names[3])(a)
    b = layers.Conv2D(5, 1, name=names[4])(x)
    b = layers.BatchNormalization(epsilon=epsilon, name=names[5])(b)
    y = layers.Add(name="sum")([a, b])
    for name in more:
        y = layers.Conv2D(5, 1, name=name)(y)
    model = keras.Model(image, y)
    rng = np.random.default_rng(seed)
    model.set_weights(
        [rng.uniform(0.001, 0.02, w.shape).astype(np.float32) for w in model.get_weights()]
    )
    return model


def test_todays_resnet_names_give_the_same_network_on_rgb_with_our_epsilon(tmp_path):
    released = build_resnet(NEW_NAMES, 1.001e-5)
    ours = build_resnet(OLD_NAMES, 1e-3, seed=1)
    path = weights.save_weights(released, tmp_path / "notop.h5")
    report = weights.load_backbone_weights(ours, path, "resnet50")
    assert sorted(report.loaded) == sorted(OLD_NAMES)
    assert report.unused == []
    rgb = np.random.default_rng(2).random((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(ours(rgb), released(rgb[..., ::-1]), rtol=1e-5)
    assert np.array_equal(values(ours, "conv1")[0], values(released, "conv1_conv")[0][:, :, ::-1])


@pytest.mark.parametrize("channels", [1, 4, 8])
@pytest.mark.parametrize("names", [OLD_NAMES, NEW_NAMES], ids=["2017", "today"])
def test_a_backbone_file_fits_itself_to_the_image_channels(names, channels, tmp_path):
    released = build_resnet(names, 1e-3)
    ours = build_resnet(OLD_NAMES, 1e-3, seed=1, channels=channels)
    path = weights.save_weights(released, tmp_path / "notop.h5")
    report = weights.load_backbone_weights(ours, path, "resnet50")
    assert report.adapted == [("conv1", (3, 3, 3, 4), (3, 3, channels, 4))]
    rgb = values(released, names[0])[0]
    rgb = rgb if names is OLD_NAMES else rgb[:, :, ::-1]  # those of today were trained on BGR
    np.testing.assert_array_equal(values(ours, "conv1")[0], weights.adapt_channels(rgb, channels))


def test_the_names_of_2017_load_as_they_are(tmp_path):
    released, ours = build_resnet(OLD_NAMES, 1e-3), build_resnet(OLD_NAMES, 1e-3, seed=1)
    path = weights.save_weights(released, tmp_path / "notop.h5")
    assert weights.is_backbone_file(path)
    weights.load_backbone_weights(ours, path, "resnet50")
    assert same(ours.get_weights(), released.get_weights())


def test_a_backbone_fills_the_backbone_alone(other, tmp_path):
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(name="bn_conv1")(x)
    x = layers.Conv2D(8, 1, name="res2a_branch2a")(x)
    backbone = keras.Model(image, layers.BatchNormalization(name="bn2a_branch2a")(x))
    path = weights.save_weights(backbone, tmp_path / "notop.h5")
    head = values(other, "mrcnn_mask")
    refused(other, path, "region proposal network.*Try load_backbone_weights .--backbone-weights")
    report = weights.load_backbone_weights(other, path, "resnet50")
    assert sorted(report.loaded) == sorted(["conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a"])
    assert report.missing == []
    assert same(values(other, "conv1"), values(backbone, "conv1"))
    assert same(values(other, "mrcnn_mask"), head)


def test_a_mask_rcnn_file_is_no_backbone_file(path):
    assert not weights.is_backbone_file(path)


def test_a_shallower_and_a_deeper_resnet_are_refused(tmp_path):
    shallow = build_resnet(NEW_NAMES, 1.001e-5)
    deep = build_resnet(NEW_NAMES, 1.001e-5, more=["conv4_block7_1_conv"])
    old_deep = build_resnet(OLD_NAMES, 1e-3, more=["res4g_branch2a"])
    shallow_file = weights.save_weights(shallow, tmp_path / "resnet50.h5")
    deep_file = weights.save_weights(deep, tmp_path / "resnet101.h5")
    with pytest.raises(
        ValueError, match=r"All 7 .*resnet50.h5.*without 1 of them \(res4g_branch2a\)"
    ):
        weights.load_backbone_weights(old_deep, shallow_file, "resnet101")
    with pytest.raises(ValueError, match=r"resnet101.h5' with 1 further layers \(res4g_branch2a\)"):
        weights.load_backbone_weights(build_resnet(OLD_NAMES, 1e-3), deep_file, "resnet50")


def test_every_layer_of_resnet101_has_its_name_of_2017():
    new = ["conv1_conv", "conv1_bn"]
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 23, 3), strict=True):
        for block in range(1, blocks + 1):
            branches = (0, 1, 2, 3) if block == 1 else (1, 2, 3)
            new += [
                f"conv{stage}_block{block}_{i}_{kind}" for i in branches for kind in ("conv", "bn")
            ]
    old = [weights._matterport_name(name) for name in new]
    assert len(set(old)) == len(new) == 2 * (1 + 33 * 3 + 4)
    for letter in "abcdefghijklmnopqrstuvw":
        assert {f"res4{letter}_branch2{c}" for c in "abc"} <= set(old)
    assert {"res2a_branch1", "bn5a_branch1", "bn4w_branch2c", "res3d_branch2b"} <= set(old)
    assert "res4x_branch2a" not in old
    assert weights._matterport_name("predictions") is None


def test_the_names_strides_and_epsilon_of_keras_applications():
    network = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    with_weights = [layer for layer in network.layers if layer.weights]
    assert None not in [weights._matterport_name(layer.name) for layer in with_weights]
    assert {layer.epsilon for layer in with_weights if hasattr(layer, "epsilon")} == {1.001e-5}
    # the stride is in the first 1x1 convolution, as in matterport's network
    assert network.get_layer("conv3_block1_1_conv").strides == (2, 2)
    assert network.get_layer("conv3_block1_2_conv").strides == (1, 1)


def test_mobilenet_from_a_keras_3_file(shared):
    path = shared / "weights/mobilenetv2_1.00_imagenet_notop_dequant.weights.h5"
    assert weights.is_backbone_file(path)
    ours = keras.applications.MobileNetV2(input_shape=(64, 64, 1), include_top=False, weights=None)
    report = weights.load_backbone_weights(ours, path, "mobilenet_v2")
    assert not (report.missing or report.mismatched or report.unused)
    with h5py.File(path) as file:
        stored = {group["vars"].attrs["name"]: group["vars"] for group in file["layers"].values()}
        batch_norm = [stored["block_16_project_BN"][str(i)][()] for i in range(4)]
        rgb = stored["Conv1"]["0"][()]
    assert same(values(ours, "block_16_project_BN"), batch_norm)
    assert report.adapted == [("Conv1", (3, 3, 3, 32), (3, 3, 1, 32))]
    np.testing.assert_array_equal(values(ours, "Conv1")[0], rgb.sum(axis=2, keepdims=True))


@pytest.fixture(scope="module")
def mobilenet():
    return keras.applications.MobileNetV2(input_shape=(32, 32, 3), include_top=False, weights=None)


def test_mobilenet_from_a_keras_2_file_whatever_its_layers_are_called(mobilenet, tmp_path):
    path = weights.save_weights(mobilenet, tmp_path / "notop.h5")
    with h5py.File(path, "r+") as file:
        names = {n.decode(): f"old_{n.decode()}" for n in file.attrs["layer_names"]}
        set_names(file, "layer_names", list(names.values()))
        for old, new in names.items():
            file.move(old, new)
    for given in (path, weights.save_weights(mobilenet, tmp_path / "same_names.h5")):
        ours = keras.applications.MobileNetV2(
            input_shape=(32, 32, 3), include_top=False, weights=None
        )
        report = weights.load_backbone_weights(ours, given, "mobilenet_v2")
        assert not (report.missing or report.mismatched or report.unused)
        assert same(ours.get_weights(), mobilenet.get_weights())


def test_a_mobilenet_file_that_is_none(mobilenet, path):
    with pytest.raises(
        ValueError, match="must hold keras.applications.MobileNetV2.*toy_0001.h5.*conv1, bn_conv1"
    ):
        weights.load_backbone_weights(mobilenet, path, "mobilenet_v2")


def test_an_unknown_backbone(other, path):
    with pytest.raises(
        ValueError, match="one of resnet50, resnet101, mobilenet_v2. Received: 'vgg'"
    ):
        weights.load_backbone_weights(other, path, "vgg")


def test_imagenet_weights_asks_for_the_file_of_its_backbone(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        weights, "download", lambda url, path, *md5s, size: asked.append((url, path, *md5s)) or path
    )
    path = weights.imagenet_weights("resnet101", tmp_path)
    assert path == str(tmp_path / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5")
    assert asked == [
        (weights.IMAGENET_FILES["resnet101"][0], path, "88cf7a10940856eca736dc7b7e228a21")
    ]
    weights.imagenet_weights(
        "resnet50", tmp_path
    )  # Keras's own, and the one the original fetched in 2017
    assert asked[1][2:] == ("4d473c1dd8becc155b73f8504c6f6626", "a268eb855778b3df3c7506639542a6af")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    assert weights.imagenet_weights("mobilenet_v2").startswith(str(tmp_path / "home" / "models"))


# ----------------------------------------------------------------------------------------------------------
# Networks with less, or with one row for all classes


def without(path, *names):
    with h5py.File(path, "r+") as file:
        for name in names:
            remove(file, name)
    return path


def test_box_only_weights_leave_the_mask_head_random_for_training_and_are_refused_else(
    other, path, caplog
):
    without(path, "mrcnn_mask")
    before = values(other, "mrcnn_mask")
    refused(
        other,
        path,
        r"The mask head must be in the file.*without mrcnn_mask.*USE_MASK = False.*mode 'training'",
    )
    with caplog.at_level(logging.WARNING, "mrcnn"):
        report = weights.load_weights(other, path, allow_head_mismatch=True)
    assert report.missing == ["mrcnn_mask"] and same(values(other, "mrcnn_mask"), before)
    assert "missing in the file (kept as initialised): mrcnn_mask" in caplog.text
    assert weights.load_weights(other, path, exclude=["mrcnn_mask"]).excluded == ["mrcnn_mask"]


def test_weights_of_an_rpn_alone_fill_no_other_network_but_for_training(other, path):
    without(path, "mrcnn_mask", "mrcnn_class_logits", "mrcnn_bbox_fc")
    refused(
        other, path, r"The class and box head must be in the file.*mrcnn_bbox_fc.*RPN_ONLY = True"
    )
    report = weights.load_weights(other, path, allow_head_mismatch=True)
    assert sorted(report.missing) == sorted(weights.CLASS_HEADS)


def agnostic(head, seed=0):
    """The stand-in with one row for all classes in one of its heads."""
    model = build(seed=seed)
    x = model.get_layer("fpn_c2p2").output
    pooled = model.get_layer("pool_squeeze").output
    new = (
        layers.Dense(4, name=head)(pooled)
        if head == "mrcnn_bbox_fc"
        else layers.Conv2D(1, 1, name=head)(x)
    )
    old = {"mrcnn_bbox_fc": "mrcnn_bbox", "mrcnn_mask": "mrcnn_mask"}[head]
    outputs = [new if y is model.get_layer(old).output else y for y in model.outputs]
    return keras.Model(model.inputs, outputs, name="mask_rcnn")


@pytest.mark.parametrize(
    ("head", "setting"),
    [("mrcnn_bbox_fc", "CLASS_AGNOSTIC_BOX"), ("mrcnn_mask", "CLASS_AGNOSTIC_MASK")],
)
def test_a_head_for_all_classes_fills_no_head_per_class(
    model, other, path, tmp_path, head, setting
):
    one = agnostic(head)
    refused(
        one,
        path,
        f"model's {setting} = True.*has 4 rows of outputs where the model has 1.*{setting} = False",
    )
    theirs = weights.save_weights(one, tmp_path / "one.h5")
    refused(
        other,
        theirs,
        f"model's {setting} = False.*has 1 row of outputs where the model has 4.*{setting} = True",
    )
    report = weights.load_weights(other, theirs, allow_head_mismatch=True)
    assert [name for name, _, _ in report.mismatched] == [head]
    again = agnostic(head, seed=1)
    report = weights.load_weights(
        again, theirs, remap_classes={"b": 3}, class_names=["BG", "a", "b", "c"]
    )
    assert report.mismatched == [] and same(values(again, head), values(one, head))

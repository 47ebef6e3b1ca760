"""Files of other networks are refused or reported."""

import logging
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from toy_network import build, refused, remove, rename, replace, same, set_names, values

from mrcnn.weights.checks import check_sizes
from mrcnn.weights.class_heads import CLASS_HEADS
from mrcnn.weights.loading import load_weights
from mrcnn.weights.saving import save_weights
from mrcnn.weights.weight_file import WeightFile

layers = keras.layers


def check_sizes_of(path, config):
    with WeightFile(path) as file:
        check_sizes(file, config)


def test_renamed_backbone_layer_is_refused(other, path):
    with h5py.File(path, "r+") as file:
        rename(file, "res2a_branch2a", "res2a_branch2x")
    refused(
        other, path, r"All 4 backbone layers.*\(res2a_branch2a\).*res2a_branch2x.*--config BACKBONE"
    )


def test_group_renamed_without_its_weights_is_refused(other, path):
    with h5py.File(path, "r+") as file:
        names = [n.decode() for n in file.attrs["layer_names"]]
        set_names(file, "layer_names", ["conv_one" if n == "conv1" else n for n in names])
        file.move("conv1", "conv_one")
    refused(other, path, "without 1 of them")


def test_by_name_false_requires_every_layer(other, path):
    with h5py.File(path, "r+") as file:
        remove(file, "fpn_c2p2")
    refused(
        other, path, "by_name=False the file must have every layer.*without fpn_c2p2", by_name=False
    )


@pytest.mark.parametrize(
    "name", ["conv1", "res2a_branch2a", "fpn_c2p2", "mrcnn_class_logits", "mrcnn_mask"]
)
def test_transposed_kernel_is_refused(model, path, name):
    with h5py.File(path, "r+") as file:
        kernel = file[f"{name}/{name}/kernel:0"][()]
        replace(file, f"{name}/{name}/kernel:0", np.swapaxes(kernel, -1, -2))
    refused(
        build(seed=1),
        path,
        f"must have the model's shapes.*{name} .*--config",
        allow_head_mismatch=True,
    )


def test_file_without_rpn_is_refused_unless_excluded(other, path):
    before = values(other, "rpn_conv_shared")
    with h5py.File(path, "r+") as file:
        remove(file, "rpn_model")
    refused(
        other,
        path,
        "region proposal network.*without rpn_conv_shared, rpn_class_raw, rpn_bbox_pred",
    )
    report = load_weights(other, path, exclude=["rpn_model"])
    assert report.excluded == ["rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred"]
    assert same(values(other, "rpn_conv_shared"), before)


def test_other_number_of_classes_is_refused_with_both_numbers(other, tmp_path):
    path = save_weights(build(classes=81), tmp_path / "coco.h5")
    refused(
        other,
        path,
        r"with 81 classes for a model with 4 .*NUM_CLASSES = 81.*`mrcnn train --weights`.*exclude=",
    )


def test_other_number_of_classes_is_skipped_and_reported_for_training(other, tmp_path):
    coco = build(classes=81)
    path = save_weights(coco, tmp_path / "coco.h5")
    before = values(other, "mrcnn_mask")
    report = load_weights(other, path, allow_head_mismatch=True)
    assert sorted(name for name, _, _ in report.mismatched) == sorted(CLASS_HEADS)
    assert ("mrcnn_bbox_fc", [(5, 324), (324,)], [(5, 16), (16,)]) in report.mismatched
    assert same(values(other, "mrcnn_mask"), before)
    assert same(values(other, "rpn_bbox_pred"), values(coco, "rpn_bbox_pred"))


def test_file_of_another_network_is_refused(other, tmp_path):
    image = keras.Input((4,))
    stranger = keras.Model(image, layers.Dense(3, name="dense_of_mine")(image))
    path = save_weights(stranger, tmp_path / "x.h5")
    refused(other, path, "no layer matched: the file has dense_of_mine; the model has conv1")


def test_no_match_is_refused_even_if_the_rest_is_excluded(other, path):
    backbone = ["conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a", "rpn_model"]
    with h5py.File(path, "r+") as file:
        for name in ("fpn_c2p2", "mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask"):
            remove(file, name)
    refused(other, path, "no layer matched", exclude=backbone)


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
def test_config_with_other_sizes_than_the_file_is_refused(path, values, match):
    check_sizes_of(path, SimpleNamespace(NUM_CLASSES=4, RPN_CHANNELS=7))
    with pytest.raises(ValueError, match=match):
        check_sizes_of(path, SimpleNamespace(**{"NUM_CLASSES": 4, "RPN_CHANNELS": 7, **values}))


def test_every_size_is_read_from_a_whole_network(reference_weights):
    settings = (
        "NUM_CLASSES",
        "TOP_DOWN_PYRAMID_SIZE",
        "RPN_CHANNELS",
        "FPN_CLASSIF_FC_LAYERS_SIZE",
        "POOL_SIZE",
        "MASK_CHANNELS",
    )
    for name in settings:
        with pytest.raises(
            ValueError, match=f"the model's {name}. Received: .* for a model with -1"
        ):
            check_sizes_of(reference_weights, SimpleNamespace(**{name: -1}))


def without(path, *names):
    with h5py.File(path, "r+") as file:
        for name in names:
            remove(file, name)
    return path


def test_weights_without_mask_head_load_only_for_training(other, path, caplog):
    without(path, "mrcnn_mask")
    before = values(other, "mrcnn_mask")
    refused(
        other,
        path,
        r"The mask head must be in the file.*without mrcnn_mask.*USE_MASK = False.*mode 'training'",
    )
    with caplog.at_level(logging.WARNING, "mrcnn"):
        report = load_weights(other, path, allow_head_mismatch=True)
    assert report.missing == ["mrcnn_mask"] and same(values(other, "mrcnn_mask"), before)
    assert "missing in the file (kept as initialised): mrcnn_mask" in caplog.text
    assert load_weights(other, path, exclude=["mrcnn_mask"]).excluded == ["mrcnn_mask"]


def test_weights_of_an_rpn_load_into_a_whole_network_only_for_training(other, path):
    without(path, "mrcnn_mask", "mrcnn_class_logits", "mrcnn_bbox_fc")
    refused(
        other, path, r"The class and box head must be in the file.*mrcnn_bbox_fc.*RPN_ONLY = True"
    )
    report = load_weights(other, path, allow_head_mismatch=True)
    assert sorted(report.missing) == sorted(CLASS_HEADS)


def agnostic(head, seed=0):
    """The small network with one output for all classes in one of its heads."""
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
def test_class_agnostic_head_does_not_load_into_a_head_per_class(
    model, other, path, tmp_path, head, setting
):
    one = agnostic(head)
    refused(
        one,
        path,
        f"model's {setting} = True.*has 4 rows of outputs where the model has 1.*{setting} = False",
    )
    theirs = save_weights(one, tmp_path / "one.h5")
    refused(
        other,
        theirs,
        f"model's {setting} = False.*has 1 row of outputs where the model has 4.*{setting} = True",
    )
    report = load_weights(other, theirs, allow_head_mismatch=True)
    assert [name for name, _, _ in report.mismatched] == [head]
    again = agnostic(head, seed=1)
    report = load_weights(again, theirs, remap_classes={"b": 3}, class_names=["BG", "a", "b", "c"])
    assert report.mismatched == [] and same(values(again, head), values(one, head))

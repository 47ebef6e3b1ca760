"""Known classes are moved into the heads of a model with other classes."""

import numpy as np
import pytest
from toy_network import build, refused, same, values

from mrcnn.weights.class_heads import CLASS_HEADS
from mrcnn.weights.loading import load_weights
from mrcnn.weights.saving import save_weights

FILE_CLASSES = ["BG", "person", "dog", "cat"]


def test_remap_classes_copies_the_rows_of_the_named_classes(tmp_path):
    source, target = build(classes=4), build(classes=3, seed=1)
    before = {name: values(target, name) for name in CLASS_HEADS}
    path = save_weights(source, tmp_path / "x.h5", {"class_names": FILE_CLASSES})
    report = load_weights(target, path, remap_classes={"cat": 1})
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


def test_remap_classes_takes_the_file_s_names_from_an_argument(model, path):
    target = build(classes=6, seed=1)
    names = {"person": 1, "dog": 2, "cat": 3}
    load_weights(target, path, remap_classes=names, class_names=FILE_CLASSES)
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
def test_wrong_remap_is_refused(other, path, remap, class_names, match):
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

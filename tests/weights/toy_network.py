"""A small network with matterport's layer names, and changes of its weight files."""

import keras
import numpy as np
import pytest

from mrcnn.weights.loading import load_weights
from mrcnn.weights.model_layers import layers_with_weights
from mrcnn.weights.weight_file import WeightFile

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
    """A small network with the names of matterport's layers, all weights random."""
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
    return layers_with_weights(model)[name]


def values(model, name):
    return leaf(model, name).get_weights()


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def set_names(group, attribute, names, as_bytes=True):
    del group.attrs[attribute]
    group.attrs[attribute] = np.array([n.encode() for n in names]) if as_bytes else names


def rename(file, old, new):
    """Rename a layer of a weight file and its weights."""
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


def refused(model, path, match, **kwargs):
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        load_weights(model, path, **kwargs)
    assert same(model.get_weights(), before)


def kind_of(path):
    with WeightFile(path) as file:
        return file.kind

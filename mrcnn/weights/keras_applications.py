"""Convert the ImageNet files of `keras.applications` to the layers of our backbones.

`imagenet.py` lists which naming scheme needs which conversion.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ..nn.resnet_names import block_letters
from .load_report import first_names
from .matching import Change
from .model_layers import ModelLayers
from .weight_file import FileLayers, WeightFile

# Batch-norm epsilon of our ResNet (matterport's) and of the ResNet files of keras.applications.
_EPSILON, _APPLICATIONS_EPSILON = 1e-3, 1.001e-5


class BackboneLayers(NamedTuple):
    """The layers of a file under the names of our backbone.

    changes: layer name -> changes of its values, in this order.
    """

    layers: FileLayers
    changes: dict[str, list[Change]]


def convert_resnet(file: WeightFile, model_layers: ModelLayers) -> BackboneLayers:
    """Rename the layers of a ResNet file to matterport's names.

    Files of today were trained on BGR images and with another batch-norm epsilon: their values
    are changed. Layers that already have the names of 2017 (`res2a_branch2a`) stay as they are.
    """
    layers: FileLayers = {}
    changes: dict[str, list[Change]] = {}
    for name, weights in file.matterport_layers.items():
        new_name = matterport_name(name)
        if new_name is None:
            layers[name] = weights
            continue
        renamed = []
        for weight_name, stored in weights:
            kind = weight_name.rsplit("/", 1)[-1].split(":")[0]
            renamed.append((f"{new_name}/{kind}:0", stored))
        layers[new_name] = renamed
        if new_name == "conv1":
            changes[new_name] = [_bgr_to_rgb]
        elif any(weight_name.endswith("/gamma:0") for weight_name, _ in renamed):
            changes[new_name] = [_with_our_epsilon]
    return BackboneLayers(layers, changes)


def _bgr_to_rgb(values: list[np.ndarray]) -> list[np.ndarray]:
    kernel, *others = values
    if kernel.shape[2] == 3:
        kernel = kernel[:, :, ::-1]
    return [kernel, *others]


def _with_our_epsilon(values: list[np.ndarray]) -> list[np.ndarray]:
    """Scale gamma so that gamma / sqrt(variance + epsilon) is the same with our epsilon."""
    gamma, beta, mean, variance = values
    wide = variance.astype(np.float64)
    factor = np.sqrt((wide + _EPSILON) / (wide + _APPLICATIONS_EPSILON))
    return [(gamma * factor).astype(gamma.dtype), beta, mean, variance]


def matterport_name(name: str) -> str | None:
    """matterport's name of a ResNet layer of today's keras.applications; None for other layers."""
    stem = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}
    if name in stem:
        return stem[name]
    match = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", name)
    if match is None:
        return None
    stage, block, branch, kind = match.groups()
    letter = block_letters(int(block) - 1)
    branch = {"0": "1", "1": "2a", "2": "2b", "3": "2c"}[branch]
    prefix = "res" if kind == "conv" else "bn"
    return f"{prefix}{stage}{letter}_branch{branch}"


def convert_application(file: WeightFile, model_layers: ModelLayers) -> BackboneLayers:
    """The layers of a file that have their names in the model; those of nested models one by one.

    The last layers of the file, which our backbone leaves out, are left out here.
    """
    layers: FileLayers = {}
    for name, weights in file.matterport_layers.items():
        for weight_name, stored in weights:
            inner = weight_name.split("/")[-2] if "/" in weight_name else name
            owner = inner if inner in model_layers else name
            layers.setdefault(owner, []).append((weight_name, stored))
    known = {name: weights for name, weights in layers.items() if name in model_layers}
    return BackboneLayers(known or layers, {})


def convert_vgg(file: WeightFile, model_layers: ModelLayers) -> BackboneLayers:
    """The layers of a VGG file; its first kernel was trained on BGR images."""
    return BackboneLayers(file.matterport_layers, {"block1_conv1": [_bgr_to_rgb]})


def convert_mobilenet(file: WeightFile, model_layers: ModelLayers) -> BackboneLayers:
    """The layers of a MobileNetV2 file of Keras 3 (`.weights.h5`) or Keras 2 (`.h5`), unchanged.

    Layers of Keras 2 files with other names are matched in order, as Keras does.

    Raises:
        ValueError: the layers are those of another network.
    """
    layers = file.layers
    if len(layers) == len(model_layers) and not set(layers) & set(model_layers):
        layers = dict(zip(model_layers, layers.values(), strict=True))
    if not set(layers) & set(model_layers):
        raise ValueError(
            "The file must hold keras.applications.MobileNetV2(include_top=False), alpha 1. "
            f"Received: {file.path!r}, whose layers are others ({first_names(layers)}). Try "
            "--weights imagenet, or in Python imagenet_weights('mobilenet_v2')."
        )
    return BackboneLayers(layers, {})

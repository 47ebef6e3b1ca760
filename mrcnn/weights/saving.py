"""Write the weights of a model: in matterport's `.h5` layout, or as torchvision's state dict."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..files.atomic import atomic_write
from .model_layers import layers_with_weights, leaf_layers
from .torch_writing import write_torch
from .torchvision_layers import to_tensors
from .weight_file import METADATA

logger = logging.getLogger("mrcnn")

if TYPE_CHECKING:
    import keras

# Readers only ask whether the version is 1; the layout is that of Keras 2.
_LAYOUT_VERSION = "2.14.0"
# Bytes: HDF5 keeps an attribute in its object header of 64 KB. Keras 2 splits lists at this size.
_ATTRIBUTE_LIMIT = 64512
TORCH_SUFFIXES = (".pth", ".pt")


def save_weights(
    model: keras.Model, path: str | os.PathLike, metadata: dict[str, Any] | None = None
) -> str:
    """Write all weights of a Keras model to a file, whole or not at all.

    model: Keras model; its top-level layers become the groups of an `.h5` file.
    path: file to write; missing folders are created. With the suffix `.pth` or `.pt` the file is a
        state dict that torchvision's class of this network loads; see `save_torch`.
    metadata: JSON-able description of the network (config, class_names, epoch, ...).

    Returns: path as a string.

    Raises:
        OSError: the file cannot be written (full disk, no permission).
    """
    path = os.fspath(path)
    if path.endswith(TORCH_SUFFIXES):
        save_torch(model, path)
        return path
    text = None if metadata is None else json.dumps(metadata, default=_plain, indent=1)
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        write_layers(file, _layers(model))
        if text is not None:
            # A str becomes a variable-length string, which has no limit of size.
            file.attrs[METADATA] = text
    return path


def save_torch(model: keras.Model, path: str | os.PathLike) -> None:
    """Write the weights as torchvision's state dict, which `torch.load` reads.

    The file has no place for the config and the class names; a line in the log says so.

    model: a network of `Config.torchvision()`.

    Raises:
        ValueError: layers that torchvision's networks do not have.
        OSError: the file cannot be written.
    """
    layers = {}
    for name, layer in layers_with_weights(model).items():
        layers[name] = [(variable.name, variable.numpy()) for variable in layer.weights]
    tensors = to_tensors(layers)
    write_torch(path, tensors)
    logger.info(
        "Wrote %s: weights only. The config and the class names are not in it; "
        "save an .h5 as well to keep them.",
        os.fspath(path),
    )


def _plain(value: Any) -> Any:
    """A NumPy array or number as the plain Python value that JSON knows."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"metadata must be JSON-able. Received: {value!r} of {type(value)}.")


def write_layers(file: h5py.File, layers: Mapping[str, Mapping[str, Any]]) -> None:
    """Write arrays in matterport's layout.

    layers: layer name -> weight name -> array; the layers without weights as well.
    """
    file.attrs["backend"] = np.bytes_("tensorflow")
    file.attrs["keras_version"] = np.bytes_(_LAYOUT_VERSION)
    _write_names(file, "layer_names", list(layers))
    for layer_name, weights in layers.items():
        group = file.create_group(layer_name)
        _write_names(group, "weight_names", list(weights))
        for name, values in weights.items():
            group[name] = np.asarray(values)


def _layers(model: keras.Model) -> dict[str, dict[str, Any]]:
    """Layer name -> weight name -> variable; the layers of a nested model are in its group."""
    layers: dict[str, dict[str, Any]] = {}
    for layer in model.layers:
        variables = layers.setdefault(layer.name, {})
        for leaf in leaf_layers(layer):
            for variable in leaf.weights:
                variables[_weight_name(leaf, variable)] = variable
    return layers


def _weight_name(layer: keras.Layer, variable: keras.Variable) -> str:
    """The name that Keras 2 gave to a weight: `conv1/kernel:0`."""
    parts = variable.path.split("/")
    if layer.name in parts:
        parts = parts[parts.index(layer.name) + 1 :]
    return f"{layer.name}/{'/'.join(parts)}:0"


def _write_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Write fixed-length bytes, which every Keras 2 and h5py reads.

    A list that is too long is split into `attribute0`, `attribute1`, ...
    """
    data = np.array([name.encode() for name in names], dtype=bytes)
    if data.nbytes <= _ATTRIBUTE_LIMIT:
        group.attrs[attribute] = data
        return
    step = _ATTRIBUTE_LIMIT // data.itemsize
    for i, start in enumerate(range(0, len(data), step)):
        group.attrs[f"{attribute}{i}"] = data[start : start + step]

"""Read what a weight file holds: its kind, metadata and layers; the arrays only when asked.

A file in matterport's layout is one that Keras 2 wrote: the root attribute `layer_names`, one group
per layer with an attribute `weight_names`, and one dataset per weight (`conv1/conv1/kernel:0`).
The layers of the nested model `rpn_model` are in its group.
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from ..files import hdf5
from ..files.safe_text import clean_name

METADATA = "mrcnn_metadata"  # name of the attribute
# Beginnings of the names of the layers that are not the backbone's.
NOT_BACKBONE = ("fpn_", "rpn_", "mrcnn_", "retinanet_", "fcos_")

# Layer name in the file -> [(weight name, its array), ...], in the file's order.
# An array is a `hdf5.Stored`, or a `StoredTensor` of tensor_weights.py.
FileLayers = dict[str, list[tuple[str, Any]]]


class WeightFile:
    """A weight file, opened once; use it in a `with` statement.

    path: of an `.h5` file in matterport's layout, or of Keras 3 weights (`.weights.h5`).
    known_metadata: the metadata of a file that carries none, if it is known by other means.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not an HDF5 file, or a training state. The properties raise it for a damaged
            file, and for an array that refers to another file or is compressed.
    """

    def __init__(self, path: str | os.PathLike, known_metadata: dict | None = None):
        self.path = os.fspath(path)
        self._known_metadata = known_metadata or {}
        self._file = hdf5.open_for_reading(self.path)
        try:
            self._refuse_training_state()
        except ValueError:
            self.close()
            raise

    def _refuse_training_state(self) -> None:
        with self._damage_reported():
            is_training_state = hdf5.has(self._file, "optimizer") and "about" in self._file.attrs
        if is_training_state:
            raise ValueError(
                f"The file must hold weights. Received: {self.path!r}, a training state: the "
                "optimizer's variables, which a resumed training reads by itself. Try the "
                "mask_rcnn_*.h5 of the same epoch, in the same folder."
            )

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the values that were already read stay available."""
        self._file.close()

    def _damage_reported(self):
        return hdf5.damage_reported(self.path)

    @cached_property
    def is_keras3(self) -> bool:
        """Whether the file has the layout of Keras 3 (`.weights.h5`)."""
        with self._damage_reported():
            return hdf5.has(self._file, "layers") and "layer_names" not in self._file.attrs

    @cached_property
    def kind(self) -> str:
        """The kind of weights in the file.

        "backbone": only of a backbone (an ImageNet file), in either layout: the file has layers,
            but no FPN, RPN or head layer (`fpn_*`, `rpn_*`, `mrcnn_*`).
        "matterport": of a whole network, in matterport's layout.
        "keras": of a whole network, in the layout of Keras 3.
        "unknown": the file has no layers.
        """
        with self._damage_reported():
            if self.is_keras3:
                names = list(_keras3_groups(self._file))
            else:
                names = hdf5.names(_root(self._file), "layer_names")
        if not names:
            return "unknown"
        if not any(map(is_not_backbone, names)):
            return "backbone"
        return "keras" if self.is_keras3 else "matterport"

    @cached_property
    def metadata(self) -> dict:
        """The description that `save_weights` has written; otherwise the known one, or nothing.

        Keys: "config" (values of a Config), "class_names" (background first).

        Raises:
            ValueError: the description does not have this form.
        """
        with self._damage_reported():
            text = hdf5.text(self._file, METADATA)
        return self._known_metadata if text is None else _parse_metadata(text, self.path)

    @cached_property
    def layers(self) -> FileLayers:
        """Layer name -> [(weight name, its array), ...] of the layers that have weights.

        A nested model counts as one layer. No array is read yet.

        Raises:
            ValueError: not a weight file in a known layout, or an array that cannot be read.
        """
        with self._damage_reported():
            layers = _keras3_layers(self._file) if self.is_keras3 else _keras2_layers(self._file)
        return {name: weights for name, weights in layers.items() if weights}

    @property
    def matterport_layers(self) -> FileLayers:
        """`layers` of a file in matterport's layout.

        Raises:
            ValueError: as `layers` does, and for the layout of Keras 3.
        """
        if self.is_keras3:
            raise ValueError(
                f"The file must be in matterport's layout (.h5). Received: {self.path!r}, Keras 3 "
                "weights (.weights.h5), which load_backbone_weights (--backbone-weights) reads "
                "only for mobilenet_v2. For another network, build it, call its "
                "keras_model.load_weights and save it as .h5."
            )
        return self.layers

    def read(self, stored: Any, dtype: np.dtype | str) -> np.ndarray:
        """Read one array, as numbers of the model's `dtype`.

        Raises:
            ValueError: another kind of number, or NaN or infinity among the numbers.
        """
        with self._damage_reported():
            return hdf5.read(self._file, stored, dtype)


def is_not_backbone(layer_name: str) -> bool:
    """Whether a layer belongs to the FPN, the RPN or a head."""
    return layer_name.startswith(NOT_BACKBONE)


def _parse_metadata(text: str, path: str) -> dict:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_metadata(path, f"no JSON ({error})") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("config", {}), dict):
        raise _bad_metadata(path, "JSON without NAME: value pairs")
    names = metadata.get("class_names")
    if names is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _bad_metadata(path, "class_names that are no list of names")
        metadata["class_names"] = [clean_name(name) for name in names]
    return metadata


def _bad_metadata(path: str, received: str) -> ValueError:
    return ValueError(
        f"A weight file's description of its network (attribute {METADATA}) must be as "
        f"save_weights writes it. Received: {path!r} with {received}. Try another file, or "
        "removing the attribute and passing a config."
    )


def _root(file: h5py.File) -> h5py.Group:
    """The group with the layers: `model.save` of Keras 2 put them under `model_weights`."""
    return hdf5.group(file, "model_weights") if hdf5.has(file, "model_weights") else file


def _keras2_layers(file: h5py.File) -> FileLayers:
    root = _root(file)
    names = hdf5.names(root, "layer_names")
    if not names:
        raise ValueError(
            f"The weight file must have the attribute 'layer_names'. Received: {file.filename!r} "
            "without it: an HDF5 file, but not of Keras weights. Try a .h5 that save_weights wrote."
        )
    # tf.keras 2.x put weights outside any layer into this group; the report of a load names it.
    if hdf5.has(root, "top_level_model_weights"):
        names.append("top_level_model_weights")
    layers: FileLayers = {}
    total = 0
    for name in dict.fromkeys(names):
        group = hdf5.group(root, name)
        weight_names = hdf5.names(group, "weight_names")
        total += len(weight_names)
        if total > hdf5.MOST_NAMES:
            raise ValueError(
                f"A weight file must have at most {hdf5.MOST_NAMES:,} weights. Received: "
                f"{file.filename!r} with more. Try another file."
            )
        layers[name] = [(weight, hdf5.stored(group, weight)) for weight in weight_names]
    return layers


def _keras3_groups(file: h5py.File) -> dict[str, h5py.Group]:
    """Layer name -> group of its weights; Keras 3 keeps the names in attributes."""
    layers = hdf5.group(file, "layers")
    groups = {}
    for key in layers:
        group = hdf5.group(layers, f"{key}/vars")
        groups[hdf5.text(group, "name") or key] = group
    return groups


def _keras3_layers(file: h5py.File) -> FileLayers:
    layers = {}
    for name, group in _keras3_groups(file).items():
        keys = [str(key) for key in group]
        keys.sort(key=lambda key: (len(key), key))  # "10" comes after "2"
        layers[name] = [(key, hdf5.stored(group, key)) for key in keys]
    return layers

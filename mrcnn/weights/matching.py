"""Match the layers of a file with those of a model by name, and plan what to read for each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..files.hdf5 import Stored
from .image_channels import adapt_channels, only_channels_differ
from .load_report import AdaptedKernel, LoadReport, ShapeMismatch, did_you_mean
from .model_layers import ModelLayers, leaf_layers, weight_shapes
from .weight_file import FileLayers

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("mrcnn")

# From the values of a layer in the file to those for the model.
Change = Callable[[list[np.ndarray]], list[np.ndarray]]


class PlannedLayer(NamedTuple):
    """One layer of a model, and the arrays to read into its weights."""

    layer: keras.Layer
    stored: list[Stored]  # in the order of the layer's weights
    changes: list[Change]  # to apply to the values, in this order


def split_nested(file_layers: FileLayers, model: keras.Model) -> FileLayers:
    """Split the nested models of a file, as `rpn_model`, into their inner layers."""
    nested = {layer.name for layer in model.layers if getattr(layer, "layers", None) is not None}
    split: FileLayers = {}
    for name, weights in file_layers.items():
        for weight_name, stored in weights:
            parts = weight_name.split("/")
            inner = parts[-2] if name in nested and len(parts) > 1 else name
            split.setdefault(inner, []).append((weight_name, stored))
    return split


def excluded_leaves(
    exclude: Iterable[str] | None, model: keras.Model, file_layers: FileLayers
) -> set[str]:
    """Names of the leaves that `exclude` names, directly or by a nested model.

    A name that neither the model nor the file has gives a warning.
    """
    names = [exclude] if isinstance(exclude, str) else list(exclude or ())
    leaves = {layer.name: [leaf.name for leaf in leaf_layers(layer)] for layer in model.layers}
    leaves.update({leaf.name: [leaf.name] for leaf in leaf_layers(model)})
    excluded: set[str] = set()
    for name in names:
        if name not in leaves and name not in file_layers:
            hint = did_you_mean(name, leaves)
            logger.warning("exclude: the model has no layer %r.%s", name, hint)
        excluded.update(leaves.get(name, [name]))
    return excluded


def plan_load(
    model_layers: ModelLayers,
    file_layers: FileLayers,
    report: LoadReport,
    excluded: Collection[str] = (),
    changes: dict[str, list[Change]] | None = None,
    resized: Collection[str] = (),
) -> list[PlannedLayer]:
    """Decide for each layer of the model whether it is loaded, and write it into the report.

    model_layers: name -> layer of the model.
    file_layers: name -> weights in the file.
    excluded: names of layers to leave unchanged.
    changes: name -> changes of a layer's values.
    resized: names of layers whose changes fit their shapes to the model's.
    """
    plan = []
    changes = changes or {}
    stem = _first_convolution(model_layers)
    for name, layer in model_layers.items():
        if name in excluded:
            report.excluded.append(name)
            continue
        if name not in file_layers:
            report.missing.append(name)
            continue
        stored = in_model_order(layer, file_layers[name])
        in_file = [entry.shape for entry in stored]
        in_model = weight_shapes(layer)
        layer_changes = list(changes.get(name, ()))
        if name == stem and _only_image_channels_differ(in_file, in_model):
            report.adapted.append(AdaptedKernel(name, in_file[0], in_model[0]))
            layer_changes.append(_fit_channels(in_model[0][2]))
        elif in_file != in_model and name not in resized:
            report.mismatched.append(ShapeMismatch(name, in_file, in_model))
            continue
        report.loaded.append(name)
        plan.append(PlannedLayer(layer, stored, layer_changes))
    known = {*model_layers, *excluded}
    report.unused = [name for name in file_layers if name not in known]
    return plan


def in_model_order(layer: keras.Layer, weights: list[tuple[str, Stored]]) -> list[Stored]:
    """The arrays of a layer in the order of the model's variables.

    They are matched by the last part of their names, or keep the file's order if these differ:
    Keras 1 called them `conv1_W`, in the same order.
    """
    by_kind = {name.rsplit("/", 1)[-1].split(":")[0]: stored for name, stored in weights}
    kinds = [variable.name for variable in layer.weights]
    if len(by_kind) == len(weights) == len(kinds) and set(by_kind) == set(kinds):
        return [by_kind[kind] for kind in kinds]
    return [stored for _, stored in weights]


def _first_convolution(model_layers: ModelLayers) -> str | None:
    """Name of the convolution that reads the image."""
    for name, layer in model_layers.items():
        if len(layer.weights[0].shape) == 4:
            return name
    return None


def _only_image_channels_differ(in_file: list[tuple], in_model: list[tuple]) -> bool:
    return only_channels_differ(in_file[0], in_model[0]) and in_file[1:] == in_model[1:]


def _fit_channels(channels: int) -> Change:
    """The change of a first convolution's values to a number of image channels."""
    return lambda values: [adapt_channels(values[0], channels), *values[1:]]

"""The head layers whose outputs are classes: whether they differ, and moving known classes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .load_report import ShapeMismatch, did_you_mean, first_names
from .matching import Change, in_model_order
from .model_layers import ModelLayers, weight_shapes
from .weight_file import FileLayers

if TYPE_CHECKING:
    import keras

# (`mrcnn_bbox`, which scripts list as well, has no weights.)
CLASS_HEADS = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask")
# Network -> its class heads; the first has one output per class, RetinaNet's for each anchor.
HEADS_OF_NETWORK = {
    "mask_rcnn": CLASS_HEADS,
    "retinanet": ("retinanet_class_logits",),
    "fcos": ("fcos_class_logits",),
}
_ALL_HEADS = tuple(itertools.chain(*HEADS_OF_NETWORK.values()))
# Its outputs are keypoints: the last axis but one of its kernel, which is that of a transposed
# convolution.
KEYPOINT_HEAD = "mrcnn_keypoint_deconv"


def only_classes_differ(mismatch: ShapeMismatch) -> bool:
    """Whether a layer is a class head whose shapes differ only in the last axis, the classes.

    Or the keypoint head, and they differ only in the number of keypoints.
    """
    if mismatch.layer == KEYPOINT_HEAD:
        kernels = mismatch.in_file[0], mismatch.in_model[0]
        return len({(*shape[:-2], shape[-1]) for shape in kernels}) == 1
    in_file = [shape[:-1] for shape in mismatch.in_file]
    in_model = [shape[:-1] for shape in mismatch.in_model]
    return _of_first_stage(mismatch.layer) in _ALL_HEADS and in_file == in_model


def _of_first_stage(layer: str) -> str:
    """The name that a layer of a later stage of a cascade has in the first stage."""
    return re.sub(r"cascade\d_", "", layer)


def outputs_per_class(head: str) -> int:
    """Number of outputs of a head for each class: 4 box deltas, or 1."""
    return 4 if _of_first_stage(head) == "mrcnn_bbox_fc" else 1


def anchors_of_head(head: str, outputs: Mapping[str, int]) -> int:
    """Return for how many anchors a head has its outputs: RetinaNet's for all of a cell, else 1.

    outputs: layer name -> number of its outputs.
    """
    return outputs["retinanet_deltas"] // 4 if head == "retinanet_class_logits" else 1


class _ClassPairs(NamedTuple):
    """Class ids whose outputs are copied, the background first."""

    in_file: list[int]
    in_model: list[int]


def remap_heads(
    model_layers: ModelLayers,
    file_layers: FileLayers,
    remap: Mapping[str, int],
    class_names: Sequence[str],
) -> dict[str, list[Change]]:
    """Changes that put some classes of the file into the heads of the model.

    All other classes keep the model's own values.

    model_layers: name -> layer of the model.
    file_layers: name -> weights in the file.
    remap: {class name in the file: class id in the model}; background goes to background.
    class_names: the file's classes, background first.

    Returns: head -> changes; heads with one row for all classes are left out.

    Raises:
        ValueError: no heads in the file, unknown classes, or ids that are not the model's.
    """
    heads = [head for head in _ALL_HEADS if head in model_layers]
    absent = [head for head in heads if head not in file_layers]
    if absent:
        raise ValueError(
            "remap_classes needs the class heads in the file. Received: a file without "
            f"{first_names(absent)}."
        )
    sizes = {name: layer.weights[-1].shape[-1] for name, layer in model_layers.items()}
    anchors = anchors_of_head(heads[0], sizes)
    pairs = _class_pairs(heads[0], anchors, model_layers, file_layers, remap, class_names)
    changes: dict[str, list[Change]] = {}
    # A file without the later stages of a cascade may start one.
    both = [name for name in model_layers if name in file_layers]
    heads += [name for name in both if name not in heads and _of_first_stage(name) in heads]
    for head in heads:
        layer = model_layers[head]
        in_model = weight_shapes(layer)
        in_file = [stored.shape for stored in in_model_order(layer, file_layers[head])]
        if not only_classes_differ(ShapeMismatch(head, in_file, in_model)):
            continue  # the check of all shapes will refuse it
        outputs = outputs_per_class(head)
        is_class_agnostic = outputs in (in_model[-1][-1], in_file[-1][-1])
        if not is_class_agnostic:
            changes[head] = [_move_classes(layer, pairs, outputs, anchors)]
    return changes


def _move_classes(layer: keras.Layer, pairs: _ClassPairs, outputs: int, anchors: int) -> Change:
    """The change from a head's values in the file to the model's own with some classes replaced."""

    def change(values: list[np.ndarray]) -> list[np.ndarray]:
        moved = []
        for variable, value in zip(layer.weights, values, strict=True):
            moved.append(_with_classes(variable.numpy(), value, pairs, outputs, anchors))
        return moved

    return change


def _with_classes(
    own: np.ndarray, from_file: np.ndarray, pairs: _ClassPairs, outputs: int, anchors: int
) -> np.ndarray:
    """A copy of `own` with classes of the file.

    own: [..., anchors * classes * outputs] values of the model.
    from_file: [..., anchors * classes of the file * outputs]
    """
    result = own.reshape(*own.shape[:-1], anchors, -1, outputs).copy()
    source = from_file.reshape(*from_file.shape[:-1], anchors, -1, outputs)
    result[..., pairs.in_model, :] = source[..., pairs.in_file, :]
    return result.reshape(own.shape)


def _class_pairs(
    head: str,
    anchors: int,
    model_layers: ModelLayers,
    file_layers: FileLayers,
    remap: Mapping[str, int],
    class_names: Sequence[str],
) -> _ClassPairs:
    """The classes to copy, after every check on them.

    head: with one output per class, for each of the anchors.
    """
    _, stored = file_layers[head][-1]
    in_file = stored.shape[-1] // anchors
    in_model = model_layers[head].weights[-1].shape[-1] // anchors
    if len(class_names) != in_file:
        raise ValueError(
            f"class_names must name the file's {in_file} classes, the background 'BG' first. "
            f"Received: {len(class_names)} names ({first_names(class_names)})."
        )
    for name, new_id in remap.items():
        if name not in class_names:
            raise ValueError(
                f"remap_classes must name classes of the file. Received: {name!r}."
                f"{did_you_mean(name, class_names)}"
            )
        if not 1 <= new_id < in_model:
            raise ValueError(
                f"A new class id must be in 1..{in_model - 1}, NUM_CLASSES - 1. "
                f"Received: {name!r}: {new_id}."
            )
    if len(set(remap.values())) < len(remap):
        raise ValueError(
            f"remap_classes must give each class an id of its own. Received: {dict(remap)}."
        )
    names = list(class_names)
    return _ClassPairs([0, *map(names.index, remap)], [0, *remap.values()])

"""Load the weights of a file into a model: match all layers, check them, read them, then assign.

A load that is refused has not changed any weight.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import (
    refuse_deeper_resnet,
    refuse_missing_heads,
    refuse_other_network,
    refuse_shapes,
)
from .class_heads import remap_heads
from .imagenet import conversion_of
from .load_report import LoadReport, first_names
from .matching import Change, PlannedLayer, excluded_leaves, plan_load, split_nested
from .model_layers import layers_with_weights
from .opening import AnyWeightFile, open_weights
from .tensor_weights import TensorWeights
from .torch_backbone import convert_torch_resnet
from .weight_file import is_not_backbone

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("mrcnn")


def load_weights(
    model: keras.Model,
    file: AnyWeightFile | str | os.PathLike,
    exclude: Iterable[str] | None = (),
    by_name: bool = True,
    allow_head_mismatch: bool = False,
    remap_classes: Mapping[str, int] | None = None,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Load a Mask R-CNN's weights from a file in matterport's layout, completely or not at all.

    model: Keras model to fill.
    file: an opened WeightFile, or the path of an `.h5` file of this package, of matterport's or of
        a fork.
    exclude: names of layers to leave unchanged, for example the heads before a training on other
        classes.
    by_name: layers are always matched by name; False also requires that the file has every layer.
    allow_head_mismatch: for a training. Class heads may differ in NUM_CLASSES or CLASS_AGNOSTIC_*,
        and heads may be missing in the file; they stay as they are, and the report names them.
    remap_classes: {class name in the file: class id in the model}. The outputs of these classes
        and of the background are copied in the three class heads; others keep the model's values.
    class_names: the file's class names, "BG" first; the default is those of its metadata.

    Returns: the report, which is logged too.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a weight file; no layer matches; the backbone, the RPN or a head is missing;
            shapes differ; unknown classes in remap_classes.
    """
    with _opened(file) as weight_file:
        report = LoadReport(weight_file.path)
        model_layers = layers_with_weights(model)
        file_layers = split_nested(weight_file.matterport_layers, model)
        excluded = excluded_leaves(exclude, model, file_layers)
        changes: dict[str, list[Change]] = {}
        if remap_classes:
            names = _file_classes(weight_file, class_names)
            changes = remap_heads(model_layers, file_layers, remap_classes, names)
            report.remapped = dict(remap_classes)
        plan = plan_load(model_layers, file_layers, report, excluded, changes, resized=changes)
        refuse_other_network(model_layers, file_layers, report)
        refuse_shapes(report, allow_head_mismatch)
        if not allow_head_mismatch:
            refuse_missing_heads(file_layers, report)
        if report.missing and not by_name:
            raise ValueError(
                f"With by_name=False the file must have every layer. Received: {report.path!r} "
                f"without {first_names(report.missing)}. Try by_name=True."
            )
        _read_and_assign(weight_file, plan)
    _log(report)
    return report


def load_backbone_weights(
    model: keras.Model,
    file: AnyWeightFile | str | os.PathLike,
    backbone: object,
    std_pixel: Any = 1.0,
) -> LoadReport:
    """Load a backbone's ImageNet weights (a file without top), completely or not at all.

    ResNet files are read with the layer names of 2017 (`res2a_branch2a`), as they are, and with
    those of today's keras.applications (`conv2_block1_1_conv`). The latter were trained on BGR
    images and with another batch-norm epsilon: they are converted, so that a file saved afterwards
    is an ordinary matterport file. MobileNetV2 files are those that keras.applications itself
    reads, `.weights.h5` or `.h5`. ResNets of torchvision (`.pth`) and Caffe2 (detectron2's
    `R-50.pkl`) are converted too.

    model: Keras model to fill; FPN, RPN and heads stay unchanged.
    file: an opened weight file, or a path.
    backbone: name of the model's backbone.
    std_pixel: STD_PIXEL of the model, for files of torchvision.

    Returns: the report for the backbone's layers, which is logged too.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a file of another backbone, or some of the backbone's layers do not match.
    """
    convert = conversion_of(backbone)
    model_layers = {
        name: layer
        for name, layer in layers_with_weights(model).items()
        if not is_not_backbone(name)
    }
    with _opened(file) as weight_file:
        report = LoadReport(weight_file.path)
        if isinstance(weight_file, TensorWeights):
            file_layers, changes = convert_torch_resnet(weight_file, model_layers, std_pixel)
        else:
            file_layers, changes = convert(weight_file, model_layers)
        plan = plan_load(model_layers, file_layers, report, changes=changes)
        refuse_deeper_resnet(report, backbone)
        refuse_other_network(model_layers, file_layers, report)
        refuse_shapes(report, allow_head_mismatch=False)
        _read_and_assign(weight_file, plan)
    _log(report)
    return report


@contextmanager
def _opened(file: AnyWeightFile | str | os.PathLike) -> Iterator[AnyWeightFile]:
    """An opened file as it is; a path opened for the block."""
    if isinstance(file, str | os.PathLike):
        with open_weights(file) as weight_file:
            yield weight_file
    else:
        yield file


def _file_classes(file: AnyWeightFile, class_names: Sequence[str] | None) -> Sequence[str]:
    if class_names is None:
        class_names = file.metadata.get("class_names")
    if not class_names:
        raise ValueError(
            f"remap_classes needs the class names of the file. Received: {file.path!r}, which does "
            "not carry them. Try class_names=['BG', ...], in the order it was trained with."
        )
    return class_names


def _read_and_assign(file: AnyWeightFile, plan: list[PlannedLayer]) -> None:
    """Read and change all values before the first of them is assigned."""
    values = [_read(file, planned) for planned in plan]
    for planned, new_values in zip(plan, values, strict=True):
        for variable, value in zip(planned.layer.weights, new_values, strict=True):
            variable.assign(value)


def _read(file: AnyWeightFile, planned: PlannedLayer) -> list[np.ndarray]:
    values = []
    for stored, variable in zip(planned.stored, planned.layer.weights, strict=True):
        values.append(file.read(stored, variable.dtype))
    for change in planned.changes:
        values = change(values)
    return values


def _log(report: LoadReport) -> None:
    level = logging.WARNING if report.is_partial else logging.INFO
    logger.log(level, "Loaded weights. %s", report)

"""Refuse a weight file that is not of the model's network, before any of its arrays is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .class_heads import KEYPOINT_HEAD, anchors_of_head, only_classes_differ, outputs_per_class
from .load_report import LoadReport, ShapeMismatch, first_names
from .model_layers import ModelLayers
from .weight_file import FileLayers, is_not_backbone

if TYPE_CHECKING:
    from .opening import AnyWeightFile


class _Size(NamedTuple):
    """The dimension of a kernel that equals a setting of the config."""

    setting: str
    layer: str
    axis: int  # of its kernel


_SIZES = (
    _Size("NUM_CLASSES", "mrcnn_class_logits", -1),
    _Size("NUM_CLASSES", "fcos_class_logits", -1),
    _Size("TOP_DOWN_PYRAMID_SIZE", "fpn_c5p5", -1),
    _Size("RPN_CHANNELS", "rpn_conv_shared", -1),
    _Size("POOL_SIZE", "mrcnn_class_conv1", 0),
    _Size("FPN_CLASSIF_FC_LAYERS_SIZE", "mrcnn_class_conv1", -1),
    _Size("MASK_CHANNELS", "mrcnn_mask_conv1", -1),
    _Size("KEYPOINT_CHANNELS", "mrcnn_keypoint_conv1", -1),
    _Size("NUM_KEYPOINTS", "mrcnn_keypoint_deconv", -2),
)


class _Head(NamedTuple):
    """A head that a network may not have."""

    prefixes: tuple[str, ...]  # of the names of its layers
    setting: str  # that leaves it out


_HEADS = {
    "class and box head": _Head(("mrcnn_class", "mrcnn_bbox"), "RPN_ONLY = True"),
    "second stage of the cascade": _Head(("mrcnn_cascade2_",), "fewer CASCADE_IOUS"),
    "third stage of the cascade": _Head(("mrcnn_cascade3_",), "fewer CASCADE_IOUS"),
    "fourth stage of the cascade": _Head(("mrcnn_cascade4_",), "fewer CASCADE_IOUS"),
    "mask head": _Head(("mrcnn_mask",), "USE_MASK = False"),
    "keypoint head": _Head(("mrcnn_keypoint",), "NUM_KEYPOINTS = 0"),
    "class and box towers": _Head(("retinanet_",), 'NETWORK = "mask_rcnn"'),
    "class and box towers of FCOS": _Head(("fcos_",), "another NETWORK"),
}


def check_sizes(file: AnyWeightFile, config) -> None:
    """Compare a config with a file whose weights will all be used, before a network is built.

    Raises:
        ValueError: not a weight file, or of a network with other sizes.
    """
    kernels = _kernel_shapes(file)
    head = "retinanet_class_logits"
    if head in kernels and "retinanet_deltas" in kernels:
        anchors = anchors_of_head(head, {name: shape[-1] for name, shape in kernels.items()})
        in_file = kernels[head][-1] // anchors
        if in_file != config.NUM_CLASSES:
            raise _other_classes(file.path, in_file, config.NUM_CLASSES, head)
    for setting, layer, axis in _SIZES:
        in_config = getattr(config, setting, None)
        if in_config is None or layer not in kernels:
            continue
        in_file = kernels[layer][axis]
        if in_file == in_config:
            continue
        if setting == "NUM_CLASSES":
            raise _other_classes(file.path, in_file, in_config, layer)
        raise ValueError(
            f"The file must be of the model's {setting}. Received: {file.path!r} with {in_file} "
            f"for a model with {in_config}. Try {setting} = {in_file} "
            f"(--config {setting}={in_file})."
        )


def _kernel_shapes(file: AnyWeightFile) -> dict[str, tuple[int, ...]]:
    """Layer name -> shape of its kernel, the layers of nested models included."""
    shapes = {}
    for name, weights in file.matterport_layers.items():
        for weight_name, stored in weights:
            parts = [name, *weight_name.split("/")]
            layer, kind = parts[-2:]
            if kind.startswith("kernel") and stored.shape:
                shapes[layer] = stored.shape
    return shapes


def refuse_other_network(
    model_layers: ModelLayers, file_layers: FileLayers, report: LoadReport
) -> None:
    """Raise a ValueError if no layer matches, or if backbone or RPN layers are missing."""
    matched = len(report.loaded) + len(report.mismatched)
    if not matched and report.missing:
        raise ValueError(
            f"The file must hold weights of this model. Received: {report.path!r}, where no layer "
            f"matched: the file has {first_names(file_layers, 3)}; the model has "
            f"{first_names(model_layers, 3)}. Try the file this network was saved to."
        )
    _refuse_missing_backbone(model_layers, report)
    _refuse_missing_rpn(file_layers, report)


def _refuse_missing_backbone(model_layers: ModelLayers, report: LoadReport) -> None:
    missing = [name for name in report.missing if not is_not_backbone(name)]
    if not missing:
        return
    backbone = [
        name for name in model_layers if not is_not_backbone(name) and name not in report.excluded
    ]
    unused = first_names(report.unused) or "none"
    raise ValueError(
        f"All {len(backbone)} backbone layers of the model must be in the file. Received: "
        f"{report.path!r} without {len(missing)} of them ({first_names(missing)}); layers only "
        f"the file has: {unused}. Try the BACKBONE the file was trained with (--config BACKBONE=), "
        "or in Python name the layers in exclude."
    )


def _refuse_missing_rpn(file_layers: FileLayers, report: LoadReport) -> None:
    missing = [name for name in report.missing if name.startswith("rpn_")]
    if not missing:
        return
    if any(map(is_not_backbone, file_layers)):
        remedy = "another file, or in Python name rpn_model in exclude to train it from scratch"
    else:
        remedy = (
            "load_backbone_weights (--backbone-weights): the file holds only the weights of a "
            "backbone"
        )
    raise ValueError(
        f"The region proposal network must be in the file. Received: {report.path!r} without "
        f"{first_names(missing)}. Try {remedy}."
    )


def refuse_missing_heads(file_layers: FileLayers, report: LoadReport) -> None:
    """Raise a ValueError if the file has no layer of one of the model's heads."""
    known = [*file_layers, *report.excluded]
    for name, head in _HEADS.items():
        missing = [layer for layer in report.missing if layer.startswith(head.prefixes)]
        if missing and not any(layer.startswith(head.prefixes) for layer in known):
            raise ValueError(
                f"The {name} must be in the file. Received: {report.path!r} without "
                f"{first_names(missing, 3)}: weights of a network with {head.setting}. Try "
                f"{head.setting} to use them as they are; to train that head from random weights, "
                "load them in mode 'training' (`mrcnn train --weights`)."
            )


def refuse_deeper_resnet(report: LoadReport, backbone: object) -> None:
    """Raise a ValueError if an ImageNet file has more residual blocks than the model."""
    deeper = [name for name in report.unused if re.match(r"(res|bn)\d", name)]
    if deeper and not report.missing:
        raise ValueError(
            f"The file must be of the model's backbone, {backbone}. Received: {report.path!r} with "
            f"{len(deeper)} further layers ({first_names(deeper)}): a deeper ResNet. Try the file "
            f"of {backbone}, or BACKBONE = 'resnet101'."
        )


def refuse_shapes(report: LoadReport, allow_head_mismatch: bool) -> None:
    """Raise a ValueError if shapes differ.

    allow_head_mismatch: class heads may differ in their number of classes.
    """
    heads = [mismatch for mismatch in report.mismatched if only_classes_differ(mismatch)]
    others = [mismatch for mismatch in report.mismatched if mismatch not in heads]
    if others:
        raise ValueError(
            f"Weights must have the model's shapes. Received: {report.path!r} with "
            f"{first_names(others, 3)}. Try the config the file was trained with (--config), or in "
            "Python name the layers in exclude."
        )
    if heads and not allow_head_mismatch:
        raise _other_head(report.path, heads[0])


def _other_head(path: str, mismatch: ShapeMismatch) -> ValueError:
    """The error for a class head with another number of classes, or with one row for all."""
    head = mismatch.layer
    if head == "retinanet_class_logits":
        return ValueError(
            f"The file must be of the model's NUM_CLASSES. Received: {path!r} with "
            f"{mismatch.in_file[-1][-1]} outputs of {head} for a model with "
            f"{mismatch.in_model[-1][-1]}, the number of anchors of a cell times NUM_CLASSES. Try "
            "the config that the file contains; to train other classes from it, `mrcnn train "
            "--weights` with it."
        )
    if head == KEYPOINT_HEAD:
        in_file, in_model = mismatch.in_file[-1][-1], mismatch.in_model[-1][-1]
        return ValueError(
            f"The file must be of the model's NUM_KEYPOINTS. Received: {path!r} with {in_file} for "
            f"a model with {in_model}. Try NUM_KEYPOINTS = {in_file} "
            f"(--config NUM_KEYPOINTS={in_file}), or load the file in mode 'training'."
        )
    in_file = mismatch.in_file[-1][-1] // outputs_per_class(head)
    in_model = mismatch.in_model[-1][-1] // outputs_per_class(head)
    if 1 not in (in_file, in_model):  # NUM_CLASSES is at least 2
        return _other_classes(path, in_file, in_model, head)
    setting = "CLASS_AGNOSTIC_MASK" if head == "mrcnn_mask" else "CLASS_AGNOSTIC_BOX"
    rows = "1 row" if in_file == 1 else f"{in_file} rows"
    return ValueError(
        f"The file must be of the model's {setting} = {in_model == 1}. Received: {path!r}, whose "
        f"{head} has {rows} of outputs where the model has {in_model}. Try {setting} = "
        f"{in_file == 1} (--config {setting}={in_file == 1})."
    )


def _other_classes(path: str, in_file: int, in_model: int, head: str) -> ValueError:
    is_mrcnn = head.startswith("mrcnn_")
    heads = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
    return ValueError(
        f"The file must be of the model's NUM_CLASSES. Received: {path!r} with {in_file} classes "
        f"for a model with {in_model} (background included). Try NUM_CLASSES = {in_file} to detect "
        "with this file; to train other classes from it, `mrcnn train --weights` with it, or in "
        f"Python exclude={heads if is_mrcnn else [head]} or remap_classes."
    )

"""The tensors of torchvision's and detectron2's networks as layers of ours, and back.

Torch has kernels `[out, in, height, width]` and dense matrices `[out, in]`, deltas `(dx, dy, dw,
dh)`; Keras kernels are `[height, width, in, out]` (transposed ones `[height, width, out, in]`),
matrices `[in, out]`, our deltas `(dy, dx, dh, dw)`. FCOS' distances are (left, top, right, bottom)
in torch, (top, left, bottom, right) here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..nn.resnet_names import block_letters

Tensors = Mapping[str, np.ndarray]

_MOST_BLOCKS = 36  # of a stage: ResNet152
_MOST_CONVOLUTIONS = 10  # of a tower, see Config.TOWER_CONV_LAYERS
_TO_YX = [1, 0, 3, 2]  # from (x, y, w, h) to (y, x, h, w), and back
# Our name of a weight -> torch's, of convolutions and matrices, and of norms.
_KERNEL = {"kernel": "weight", "bias": "bias"}
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class _Layer(NamedTuple):
    """A layer under both names.

    kind: "convolution", "dense", "roi_dense" (a matrix that reads all pixels of a RoI), "norm".
    has_deltas: its outputs are box deltas or distances, in which x and y change places.
    """

    name: str  # ours
    module: str  # torchvision's
    kind: str = "convolution"
    has_deltas: bool = False

    @property
    def weights(self) -> dict[str, str]:
        return _NORM if self.kind == "norm" else _KERNEL


def _backbone() -> Iterator[_Layer]:
    """Yield all layers of a ResNet."""
    yield _Layer("conv1", "backbone.body.conv1")
    yield _Layer("bn_conv1", "backbone.body.bn1", "norm")
    for stage in (2, 3, 4, 5):
        for block in range(_MOST_BLOCKS):
            yield from _block(stage, block)


def _pyramid(first: int) -> Iterator[_Layer]:
    """Yield the layers of the pyramid from level `first` to 5."""
    for i, level in enumerate(range(first, 6)):
        for name, module in (
            (f"fpn_c{level}p{level}", f"backbone.fpn.inner_blocks.{i}"),
            (f"fpn_p{level}", f"backbone.fpn.layer_blocks.{i}"),
        ):
            yield _Layer(name, f"{module}.0")
            yield _Layer(f"{name}_bn", f"{module}.1", "norm")


def _rcnn_layers() -> Iterator[_Layer]:
    """Yield all layers that torchvision's Faster and Mask R-CNNs have, of both versions."""
    yield from _backbone()
    yield from _pyramid(first=2)
    for i in range(4):
        for head in ("box", "mask"):
            yield _Layer(f"mrcnn_{head}_conv{i + 1}", f"roi_heads.{head}_head.{i}.0")
            yield _Layer(f"mrcnn_{head}_bn{i + 1}", f"roi_heads.{head}_head.{i}.1", "norm")
    yield _Layer("rpn_conv_shared", "rpn.head.conv.0.0")
    yield _Layer("rpn_conv_shared2", "rpn.head.conv.1.0")
    yield _Layer("rpn_class_raw", "rpn.head.cls_logits")
    yield _Layer("rpn_bbox_pred", "rpn.head.bbox_pred", has_deltas=True)
    yield _Layer("mrcnn_class_conv1", "roi_heads.box_head.fc6", "roi_dense")
    yield _Layer("mrcnn_class_conv2", "roi_heads.box_head.fc7", "roi_dense")
    yield _Layer("mrcnn_box_fc", "roi_heads.box_head.5", "roi_dense")
    yield _Layer("mrcnn_class_logits", "roi_heads.box_predictor.cls_score", "dense")
    yield _Layer("mrcnn_bbox_fc", "roi_heads.box_predictor.bbox_pred", "dense", has_deltas=True)
    yield _Layer("mrcnn_mask_deconv", "roi_heads.mask_predictor.conv5_mask")
    yield _Layer("mrcnn_mask", "roi_heads.mask_predictor.mask_fcn_logits")
    for i in range(8):
        yield _Layer(f"mrcnn_keypoint_conv{i + 1}", f"roi_heads.keypoint_head.{2 * i}")
    yield _Layer("mrcnn_keypoint_deconv", "roi_heads.keypoint_predictor.kps_score_lowres")


def _dense_backbone() -> Iterator[_Layer]:
    """Yield the layers of backbone and pyramid of a network without an RPN, P3 to P7."""
    yield from _backbone()
    yield from _pyramid(first=3)
    for level in (6, 7):
        yield _Layer(f"fpn_p{level}", f"backbone.fpn.extra_blocks.p{level}")


# Our towers and torchvision's modules.
_TOWERS = (("class", "head.classification_head"), ("box", "head.regression_head"))


def _retinanet_layers() -> Iterator[_Layer]:
    """Yield all layers that torchvision's RetinaNets have, of both versions."""
    yield from _dense_backbone()
    for tower, module in _TOWERS:
        for i in range(_MOST_CONVOLUTIONS):
            yield _Layer(f"retinanet_{tower}_conv{i + 1}", f"{module}.conv.{i}.0")
            yield _Layer(f"retinanet_{tower}_norm{i + 1}", f"{module}.conv.{i}.1", "norm")
    yield _Layer("retinanet_class_logits", "head.classification_head.cls_logits")
    yield _Layer("retinanet_deltas", "head.regression_head.bbox_reg", has_deltas=True)


def _fcos_layers() -> Iterator[_Layer]:
    """Yield all layers of torchvision's FCOS, whose towers are lists: convolution, norm, ReLU."""
    yield from _dense_backbone()
    for tower, module in _TOWERS:
        for i in range(_MOST_CONVOLUTIONS):
            yield _Layer(f"fcos_{tower}_conv{i + 1}", f"{module}.conv.{3 * i}")
            yield _Layer(f"fcos_{tower}_norm{i + 1}", f"{module}.conv.{3 * i + 1}", "norm")
    yield _Layer("fcos_class_logits", "head.classification_head.cls_logits")
    yield _Layer("fcos_sides", "head.regression_head.bbox_reg", has_deltas=True)
    yield _Layer("fcos_centerness", "head.regression_head.bbox_ctrness")


def _block(stage: int, block: int) -> Iterator[_Layer]:
    """Yield the layers of a residual block; matterport counts the blocks from "a"."""
    ours = f"{stage}{block_letters(block)}_branch"
    module = f"backbone.body.layer{stage - 1}.{block}"
    for i, part in enumerate("abc", start=1):
        yield _Layer(f"res{ours}2{part}", f"{module}.conv{i}")
        yield _Layer(f"bn{ours}2{part}", f"{module}.bn{i}", "norm")
    yield _Layer(f"res{ours}1", f"{module}.downsample.0")
    yield _Layer(f"bn{ours}1", f"{module}.downsample.1", "norm")


# Network -> all layers that it may have, in torchvision's order of stages.
_TABLES = {
    "mask_rcnn": tuple(_rcnn_layers()),
    "retinanet": tuple(_retinanet_layers()),
    "fcos": tuple(_fcos_layers()),
}
# Network -> a tensor and a layer that none of those after it has.
_MARKS = {
    "fcos": ("head.regression_head.bbox_ctrness.weight", "fcos_centerness"),
    "retinanet": ("head.regression_head.bbox_reg.weight", "retinanet_deltas"),
}

# Network -> its name in errors, and its preset.
_NAMES = {
    "mask_rcnn": ("R-CNN", "torchvision"),
    "retinanet": ("RetinaNet", "retinanet"),
    "fcos": ("FCOS", "fcos"),
}


def network_of(names: Container[str]) -> str:
    """Return the network, of `config.NETWORKS`, of torchvision's tensors, or of our layers.

    names: of its tensors or of its layers.
    """
    for network, marks in _MARKS.items():
        if any(mark in names for mark in marks):
            return network
    return "mask_rcnn"


# Names of files of 2019 and 2020 -> torchvision's names of today.
_OLD_NAMES = (
    (
        r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)",
        r"backbone.fpn.\1_blocks.\2.0.\3",
    ),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
)
# RetinaNet's towers had a ReLU after each convolution in one list: conv.0, conv.2 and so on. FCOS's
# towers still have such names.
_OLD_TOWER = r"(head\.\w+_head\.conv)\.(\d)\.(weight|bias)"


def torchvision_names(tensors: Tensors) -> dict[str, np.ndarray]:
    """Return the tensors under the names of today's torchvision.

    tensors: under its names of today, those of its files of 2019, or detectron2's; or a ResNet,
        which becomes the backbone.
    """
    names = _from_detectron2 if is_detectron2(tensors) else _from_old
    if network_of(tensors) == "retinanet":
        names = _from_old_retinanet
    prefix = "" if "layer1.0.conv1.weight" not in tensors else "backbone.body."  # a ResNet
    return {names(prefix + name): value for name, value in tensors.items()}


def _from_old(name: str) -> str:
    for pattern, new in _OLD_NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name)
    match = re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)", name)
    if match:
        return f"roi_heads.mask_head.{int(match[1]) - 1}.0.{match[2]}"
    return name


def _from_old_retinanet(name: str) -> str:
    match = re.fullmatch(_OLD_TOWER, name)
    if match:
        return f"{match[1]}.{int(match[2]) // 2}.0.{match[3]}"
    return _from_old(name)


def is_detectron2(tensors: Tensors) -> bool:
    """Whether the names are detectron2's."""
    return any(name.startswith(("backbone.bottom_up.", "proposal_generator.")) for name in tensors)


_DETECTRON2 = (
    ("proposal_generator.rpn_head.conv.", "rpn.head.conv.0.0."),
    ("proposal_generator.rpn_head.objectness_logits.", "rpn.head.cls_logits."),
    ("proposal_generator.rpn_head.anchor_deltas.", "rpn.head.bbox_pred."),
    ("roi_heads.box_head.fc1.", "roi_heads.box_head.fc6."),
    ("roi_heads.box_head.fc2.", "roi_heads.box_head.fc7."),
    ("roi_heads.mask_head.deconv.", "roi_heads.mask_predictor.conv5_mask."),
    ("roi_heads.mask_head.predictor.", "roi_heads.mask_predictor.mask_fcn_logits."),
    ("backbone.bottom_up.stem.conv1.norm.", "backbone.body.bn1."),
    ("backbone.bottom_up.stem.conv1.", "backbone.body.conv1."),
)


def _from_detectron2(name: str) -> str:
    for old, new in _DETECTRON2:
        if name.startswith(old):
            return new + name[len(old) :]
    match = re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)\.(\w+)", name)
    if match:
        blocks = "inner" if match[1] == "lateral" else "layer"
        return f"backbone.fpn.{blocks}_blocks.{int(match[2]) - 2}.0.{match[3]}"
    match = re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)\.(\w+)", name)
    if match:
        return f"roi_heads.mask_head.{int(match[1]) - 1}.0.{match[2]}"
    match = re.fullmatch(r"backbone\.bottom_up\.res(\d)\.(\d+)\.(\w+)\.(norm\.)?(\w+)", name)
    if match is None:
        return name
    stage, block, part, is_norm, leaf = match.groups()
    if part == "shortcut":
        part = "downsample.1" if is_norm else "downsample.0"
    elif is_norm:
        part = part.replace("conv", "bn")
    return f"backbone.body.layer{int(stage) - 1}.{block}.{part}.{leaf}"


# --- Conversion ---


def to_layers(tensors: Tensors) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Return layer name -> [(weight name, its values), ...]; views where that is possible.

    tensors: under torchvision's names of today; those that no layer has are left out.
    """
    depth = _pyramid_channels(tensors)
    layers = {}
    for layer in _TABLES[network_of(tensors)]:
        weights = []
        for ours, theirs in layer.weights.items():
            value = tensors.get(f"{layer.module}.{theirs}")
            if value is not None:
                weights.append((f"{layer.name}/{ours}:0", _to_keras(layer, value, depth)))
        if weights:
            layers[layer.name] = weights
    return layers


def unknown_names(tensors: Tensors) -> list[str]:
    """Return the names of tensors that no layer of their network has."""
    table = _TABLES[network_of(tensors)]
    known = {f"{layer.module}.{leaf}" for layer in table for leaf in layer.weights.values()}
    return [name for name in tensors if name not in known and not name.endswith("batches_tracked")]


def to_tensors(layers: Mapping[str, list[tuple[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Return torchvision's tensors of layers; the inverse of `to_layers`.

    layers: layer name -> [(weight name such as "kernel", its values), ...].

    Raises:
        ValueError: a layer that torchvision's networks do not have.
    """
    network = network_of(layers)
    table = _TABLES[network]
    known = {layer.name for layer in table}
    unknown = [name for name in layers if name not in known]
    if unknown:
        name, preset = _NAMES[network]
        raise ValueError(
            f"All layers must be those of a torchvision {name}. Received: "
            f"{', '.join(unknown[:3])}. Try a model with the config Config.{preset}()."
        )
    tensors = {}
    for layer in table:
        for ours, value in layers.get(layer.name, ()):
            theirs = layer.weights[ours]
            tensors[f"{layer.module}.{theirs}"] = np.ascontiguousarray(_to_torch(layer, value))
    return tensors


def _pyramid_channels(tensors: Tensors) -> int:
    kernel = tensors.get("backbone.fpn.layer_blocks.0.0.weight")
    return 256 if kernel is None else kernel.shape[0]


def _to_keras(layer: _Layer, value: np.ndarray, depth: int) -> np.ndarray:
    if layer.has_deltas:
        value = _swap_deltas(value)
    if layer.kind == "roi_dense" and value.ndim == 2:
        outputs, inputs = value.shape
        channels = depth if inputs % depth == 0 and _is_square(inputs // depth) else inputs
        channels = inputs if layer.name == "mrcnn_class_conv2" else channels
        side = math.isqrt(inputs // channels)
        value = value.reshape(outputs, channels, side, side)
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T


def _to_torch(layer: _Layer, value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    else:
        value = value.T
    if layer.kind == "roi_dense" and value.ndim == 4:
        value = value.reshape(len(value), -1)
    return _swap_deltas(value) if layer.has_deltas else value


def _swap_deltas(value: np.ndarray) -> np.ndarray:
    """Swap x and y of the deltas along the first axis."""
    return value.reshape(-1, 4, *value.shape[1:])[:, _TO_YX].reshape(value.shape)


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


# --- detectron2's classes and channels ---


def with_background_first(tensors: Tensors) -> dict[str, np.ndarray]:
    """Return detectron2's tensors with torchvision's classes and channels.

    Its background is the last class, and has no box and no mask: their rows become 0. Its first
    kernel reads BGR.
    """
    result = dict(tensors)
    for name, value in tensors.items():
        if ".box_predictor.cls_score." in name:
            result[name] = np.roll(value, 1, axis=0)
        elif ".box_predictor.bbox_pred." in name:
            result[name] = _with_zeros_first(value, 4)
        elif ".mask_fcn_logits." in name:
            result[name] = _with_zeros_first(value, 1)
        elif name == "backbone.body.conv1.weight":
            result[name] = value[:, ::-1]
    return result


def _with_zeros_first(value: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([np.zeros_like(value[:rows]), value])

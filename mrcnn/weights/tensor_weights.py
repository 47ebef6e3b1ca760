"""A file of torchvision's or detectron2's tensors, with the interface of `WeightFile`."""

from __future__ import annotations

import copy
import os
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..presets import TORCHVISION
from .coco_classes import COCO_80, COCO_91, COCO_KEYPOINTS, COCO_SKELETON
from .tensor_files import NamedTensors, read_tensors
from .torchvision_layers import (
    Tensors,
    is_detectron2,
    network_of,
    to_layers,
    torchvision_names,
    unknown_names,
    with_background_first,
)
from .weight_file import FileLayers, is_not_backbone

_RESNETS = {6: "resnet50", 23: "resnet101", 36: "resnet152"}  # blocks of the third stage
# Setting -> a kernel under torchvision's name, and the axis with its size.
_SIZES = {
    "TOP_DOWN_PYRAMID_SIZE": ("backbone.fpn.layer_blocks.0.0.weight", 0),
    "RPN_CHANNELS": ("rpn.head.conv.0.0.weight", 0),
    "MASK_CHANNELS": ("roi_heads.mask_head.0.0.weight", 0),
    "KEYPOINT_CHANNELS": ("roi_heads.keypoint_head.0.weight", 0),
    "NUM_KEYPOINTS": ("roi_heads.keypoint_predictor.kps_score_lowres.weight", 1),
    "NUM_CLASSES": ("roi_heads.box_predictor.cls_score.weight", 0),
    "FPN_CLASSIF_FC_LAYERS_SIZE": ("roi_heads.box_predictor.cls_score.weight", 1),
}


class StoredTensor(NamedTuple):
    """A weight of a layer, as `hdf5.Stored`; its numbers are read when they are used."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    values: np.ndarray


class TensorWeights:
    """An opened file of tensors whose weights have the names and layouts of our layers.

    path: of a `.pth`, `.pkl` or `.safetensors` file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a file of tensors, or of another network than those with FPN.
    """

    is_keras3 = False

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        file: NamedTensors = read_tensors(self.path)
        self.is_detectron2 = is_detectron2(file.tensors)
        tensors = torchvision_names(file.tensors)
        reads_bgr = self.is_detectron2 or file.kind == "caffe2"
        self.tensors: Tensors = with_background_first(tensors) if reads_bgr else tensors
        # The standard deviation that images were divided by; Caffe2's networks divide by 1.
        self.std_pixel = np.ones(3) if reads_bgr else TORCHVISION[1]["STD_PIXEL"]
        self._refuse_other_networks(file.tensors)

    def _refuse_other_networks(self, tensors: Tensors) -> None:
        if any(name in self.layers for name in ("conv1", "res2a_branch2a")):
            return
        first = ", ".join(list(tensors)[:3])
        raise ValueError(
            "The file must hold a Faster or Mask R-CNN with FPN, a RetinaNet or an FCOS, of "
            "torchvision or detectron2. "
            f"Received: {self.path!r} with {first}. Try one of `mrcnn weights`."
        )

    def __enter__(self) -> TensorWeights:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: the arrays close the file with the last of them."""

    @cached_property
    def kind(self) -> str:
        """The kind of weights: "torchvision", "detectron2", or "backbone" without the rest."""
        if not any(map(is_not_backbone, self.layers)):
            return "backbone"
        return "detectron2" if self.is_detectron2 else "torchvision"

    @cached_property
    def layers(self) -> FileLayers:
        """Layer name -> [(weight name, its array), ...]; a tensor of no layer has its own name."""
        try:
            converted = to_layers(self.tensors)
        except ValueError as error:
            raise ValueError(
                "The tensors must have the shapes of a Faster or Mask R-CNN with FPN, of a "
                "RetinaNet or of an FCOS. "
                f"Received: {self.path!r} ({error}). Try one of `mrcnn weights`."
            ) from error
        for name in unknown_names(self.tensors):
            converted[name] = [(name, self.tensors[name])]
        return {
            name: [_stored(*weight) for weight in weights] for name, weights in converted.items()
        }

    @property
    def matterport_layers(self) -> FileLayers:
        """The same as `layers`: the names are matterport's."""
        return self.layers

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The network's config and class names, found from the names and shapes of the tensors."""
        config = self._config()
        metadata: dict[str, Any] = {"config": config.to_dict()}
        names = COCO_80 if self.is_detectron2 else COCO_91
        if len(names) == config.NUM_CLASSES:
            metadata["class_names"] = list(names)
        elif config.KEYPOINT_NAMES and config.NUM_CLASSES == 2:
            metadata["class_names"] = ["BG", "person"]
        return metadata

    def _config(self) -> Config:
        config = self._preset()
        blocks = sum(f"backbone.body.layer3.{i}.conv1.weight" in self.tensors for i in range(36))
        if blocks not in _RESNETS:
            raise ValueError(
                f"The backbone must be one of {', '.join(_RESNETS.values())}. Received: "
                f"{self.path!r} with {blocks} blocks in its third stage. Try another file."
            )
        config.BACKBONE = _RESNETS[blocks]
        for setting, (name, axis) in _SIZES.items():
            if name in self.tensors:
                setattr(config, setting, int(self.tensors[name].shape[axis]))
        config.USE_MASK = "roi_heads.mask_predictor.mask_fcn_logits.weight" in self.tensors
        if not config.has_rpn():
            logits = self.tensors["head.classification_head.cls_logits.weight"]
            deltas = self.tensors["head.regression_head.bbox_reg.weight"]
            config.NUM_CLASSES = len(logits) // (len(deltas) // 4)
        if len(COCO_KEYPOINTS) == config.NUM_KEYPOINTS:
            config.KEYPOINT_NAMES = list(COCO_KEYPOINTS)
            config.KEYPOINT_SKELETON = copy.deepcopy(COCO_SKELETON)
        return config

    def _preset(self) -> Config:
        if self.is_detectron2:
            return Config.detectron()
        network = network_of(self.tensors)
        if network == "fcos":
            return Config.fcos()
        if network == "retinanet":
            has_norm = "head.classification_head.conv.0.1.weight" in self.tensors
            return Config.retinanet(2 if has_norm else 1)
        return Config.torchvision(2 if "rpn.head.conv.1.0.weight" in self.tensors else 1)

    def read(self, stored: Any, dtype: np.dtype | str) -> np.ndarray:
        """Return the values as numbers of the model's `dtype`.

        Raises:
            ValueError: NaN or infinity among the numbers.
        """
        values = np.asarray(stored.values, dtype)
        if not np.isfinite(values).all():
            raise ValueError(
                "Weights must be finite numbers. Received: NaN or infinity in "
                f"{stored.path} of {self.path!r}. Try an earlier checkpoint."
            )
        return values


def _stored(name: str, values: np.ndarray) -> tuple[str, StoredTensor]:
    return name, StoredTensor(name, values.shape, values.dtype, values)

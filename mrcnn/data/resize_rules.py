"""torchvision's and detectron2's rules to resize an image: its new size and its pixels."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image


def rule_size(mode: str, height: int, width: int, min_dim: int, max_dim: int) -> tuple[int, int]:
    """Return height and width of a resized image: short side min_dim, long side at most max_dim.

    mode: "torchvision" rounds sides down, "detectron2" to the nearest pixel.
    """
    size = _torchvision_size if mode == "torchvision" else _detectron2_size
    new_height, new_width = size(height, width, min_dim, max_dim)
    return max(1, new_height), max(1, new_width)


def _torchvision_size(height: int, width: int, min_dim: int, max_dim: int) -> tuple[int, int]:
    """Source: torchvision, `models/detection/transform.py`, `_resize_image_and_masks`."""
    scale = min(min_dim / min(height, width), max_dim / max(height, width))
    return math.floor(height * scale), math.floor(width * scale)


def _detectron2_size(height: int, width: int, min_dim: int, max_dim: int) -> tuple[int, int]:
    """Source: detectron2, `data/transforms/augmentation_impl.py`, `ResizeShortestEdge`.

    Its order of multiplications decides which way some sides are rounded.
    """
    scale = min_dim / min(height, width)
    new_height, new_width = scale * height, scale * width
    if height < width:
        new_height = float(min_dim)
    else:
        new_width = float(min_dim)
    longest = max(new_height, new_width)
    if longest > max_dim:
        shrink = max_dim / longest
        new_height, new_width = new_height * shrink, new_width * shrink
    return int(new_height + 0.5), int(new_width + 0.5)


def rule_pixels(mode: str, image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the float32 pixels `[height, width, C]` of a resized image `[H, W, C]`.

    mode: "torchvision" interpolates bilinearly in float32, without antialiasing or rounding.
        "detectron2" lets Pillow resize uint8, which antialiases and rounds; other types of number
        are resized as by "torchvision".
    """
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    if image.dtype != np.uint8:
        return _bilinear(image.astype(np.float32, copy=False), height, width)
    if mode == "detectron2":
        return _pillow(image, height, width).astype(np.float32)
    return _bilinear(image, height, width)


def _bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize `[H, W, C]` by bilinear interpolation with half-pixel centers, `[height, width, C]`.

    Equal to torch's `interpolate` up to float32 rounding. OpenCV computes positions in float64: in
    an image of 640 pixels it differs by up to 5e-3 of a gray level.
    """
    return _interpolate(_interpolate(image, width, axis=1), height, axis=0)


def _interpolate(image: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Interpolate `[H, W, C]` along an axis, which gets `count` pixels; float32."""
    old = image.shape[axis]
    step = np.float64(np.float32(old) / np.float32(count))
    # Rounded to float32 once, as by a fused multiply-add.
    centers = ((np.arange(count) + 0.5) * step - 0.5).astype(np.float32)
    positions = np.maximum(centers, 0)
    first = np.minimum(positions.astype(int), old - 1)
    second = np.minimum(first + 1, old - 1)
    share = np.expand_dims(positions - first.astype(np.float32), (1, 2) if axis == 0 else (0, 2))
    result = image.take(first, axis) * (1 - share)
    result += image.take(second, axis) * share
    return result


def _pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize `[H, W, C]` uint8 with Pillow's bilinear filter."""
    # One by one, because Pillow weights the colors of four channels by the last one, the alpha.
    channels = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    planes = np.empty((len(channels), height, width), np.uint8)
    for source, target in zip(channels, planes, strict=True):
        resized = Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR)
        target[:] = np.asarray(resized)
    return np.moveaxis(planes, 0, -1)

"""image_meta: the row of numbers that accompanies an image through the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import boxes as box_math

META_COLUMNS = {
    "image_id": 0,
    "original_image_shape": slice(1, 4),
    "image_shape": slice(4, 7),
    "window": slice(7, 11),
    "scale": 11,
    "active_class_ids": slice(12, None),
}


def compose_image_meta(
    image_id: int,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int],
    scale: float | tuple[float, float],
    active_class_ids: Any,
) -> np.ndarray:
    """`[IMAGE_META_SIZE]` the row of an image; see `META_COLUMNS`.

    original_image_shape, image_shape: `(H, W, C)` before and after resizing.
    window: `(y1, x1, y2, x2)` pixels of the original image in the molded one.
    scale: from the original to the molded image; of one factor per axis the mean is stored.
    active_class_ids: `[NUM_CLASSES]` 1 for the classes that the image's source labels, else 0.
    """
    shapes = [*original_image_shape, *image_shape]
    return np.array([image_id, *shapes, *window, np.mean(scale), *active_class_ids])


def split_image_meta(meta: Any) -> dict[str, Any]:
    """`[..., columns]` by name: the columns of rows `[..., IMAGE_META_SIZE]`, array or tensor."""
    return {name: meta[..., columns] for name, columns in META_COLUMNS.items()}


def parse_image_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """`[B, columns]` by name: columns of rows `[B, IMAGE_META_SIZE]`, int32, the scale float32."""
    columns = {}
    for name, column in split_image_meta(meta).items():
        columns[name] = column.astype(np.float32 if name == "scale" else np.int32)
    return columns


def normalized_windows(meta: Any, continuous: bool = False) -> Any:
    """`[B, 4]` the windows of images, a tensor, normalized by the size of the molded images.

    meta: `[B, IMAGE_META_SIZE]` tensor. continuous: see `boxes.normalize`.
    """
    from .keras_ops import ops  # not for NumPy users

    meta = ops.cast(meta, "float32")
    height, width, _ = ops.unstack(meta[0, META_COLUMNS["image_shape"]], 3)
    return box_math.normalize(meta[:, META_COLUMNS["window"]], (height, width), continuous)

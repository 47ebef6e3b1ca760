"""The row of numbers that travels with an image through the network."""

from __future__ import annotations

import numpy as np


def compose_image_meta(
    image_id, original_image_shape, image_shape, window, scale, active_class_ids
) -> np.ndarray:
    """`[IMAGE_META_SIZE]` one row of numbers that travels with an image.

    image_id: int. original_image_shape, image_shape: `[H, W, C]` before and after resizing. window:
    `(y1, x1, y2, x2)` of the photo in the molded image. scale: float. active_class_ids: `[NUM_CLASSES]` 0 or 1.
    """
    parts = [[image_id], original_image_shape, image_shape, window, [scale], active_class_ids]
    return np.array([number for part in parts for number in part])


META_COLUMNS = {
    "image_id": 0,
    "original_image_shape": slice(1, 4),
    "image_shape": slice(4, 7),
    "window": slice(7, 11),
    "scale": 11,
    "active_class_ids": slice(12, None),
}


def split_image_meta(meta) -> dict:
    """The columns of `[..., IMAGE_META_SIZE]` rows by name, for arrays and tensors alike."""
    return {name: meta[..., columns] for name, columns in META_COLUMNS.items()}


def parse_image_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """`split_image_meta` with the numbers' own types: int32, the scale float32."""
    return {
        name: column.astype(np.float32 if name == "scale" else np.int32)
        for name, column in split_image_meta(meta).items()
    }

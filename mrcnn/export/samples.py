"""The images on which an exported file is compared with `detect`, in batches that it accepts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from ..config import Config
from ..data.image import match_channels, to_uint8
from ..data.shapes import ShapesDataset
from .settings import Shape

OPEN_BATCH = 3  # images at once, to try a file that accepts any number
FEWEST_PIXELS = 32  # of a side of a generated image


def sample_batches(config: Config, shape: Shape, images: Iterable[Any] = ()) -> list[np.ndarray]:
    """Return batches `[B, H, W, C]` uint8 of images that a file of this shape accepts.

    Each holds one image, in several mirrored views if B is larger than one. Of a file that accepts
    any batch, the batches alternate between one and three images.

    images: arrays `[H, W, ...]`; without any, `generated_images`.
    """
    chosen = list(images) or generated_images(config)
    batches = []
    for i, image in enumerate(chosen):
        pixels = match_channels(to_uint8(np.asarray(image)), config.IMAGE_CHANNEL_COUNT)
        if shape.height is not None and shape.width is not None:
            resized = cv2.resize(pixels, (shape.width, shape.height))
            pixels = resized.reshape(shape.height, shape.width, pixels.shape[2])
        count = shape.batch or (OPEN_BATCH if i % 2 else 1)
        batches.append(views(pixels, count))
    return batches


def views(image: np.ndarray, count: int) -> np.ndarray:
    """Return `[count, H, W, C]`: an image `[H, W, C]`, and mirrored."""
    mirrored = (image, image[:, ::-1], image[::-1], image[::-1, ::-1])
    return np.stack([mirrored[i % len(mirrored)] for i in range(count)])


def generated_images(config: Config) -> list[np.ndarray]:
    """Return images of shapes of three sizes, and a black one without objects."""
    height, width = (int(side) for side in config.IMAGE_SHAPE[:2])
    sizes = [(height, width), (height // 2, width), (height * 3 // 4, width // 3)]
    images = []
    for i, (rows, columns) in enumerate(sizes):
        size = (max(rows, FEWEST_PIXELS), max(columns, FEWEST_PIXELS))
        dataset = ShapesDataset(1, size, seed=i)
        images.append(match_channels(dataset.load_image(0), config.IMAGE_CHANNEL_COUNT))
    return [*images, np.zeros_like(images[0])]

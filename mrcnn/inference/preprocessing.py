"""From images of any size and type to the network's input; NumPy and OpenCV only."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..config import PAD32_MODES, Config
from ..data.image import match_channels, molded_float32, resize_to_config, to_uint8, zoom_to_config
from ..nn.image_meta import compose_image_meta

logger = logging.getLogger("mrcnn")


class Molded(NamedTuple):
    """One image as the network reads it ("molded" is matterport's term).

    image: `[h, w, C]` float32 minus the mean pixel; or uint8, if the device subtracts the mean.
    meta: `[IMAGE_META_SIZE]`, see `nn.image_meta.compose_image_meta`.
    window: `(y1, x1, y2, x2)`, the pixels of `image` that are not padding.
    original_shape: `(H, W, ...)` of the image before it was resized.
    """

    image: np.ndarray
    meta: np.ndarray
    window: Any
    original_shape: tuple[int, ...]


def mold(
    image: Any,
    config: Config,
    name: str = "image",
    subtract_mean: bool = True,
    zoom: float = 1.0,
) -> Molded:
    """Resize and pad an image as the config says, and subtract the mean pixel.

    image: `[H, W, C]` uint8, or whatever `data.image.to_uint8` and `match_channels` accept.
    name: how messages call the image.
    subtract_mean: False leaves an image uint8, unless the resize mode makes floats (PAD32_MODES).
    zoom: factor of the image's size in the network; see `data.image.zoom_to_config`.

    Raises: ValueError if the array is not an image, and in mode "none" if the sides are not
        multiples of 64.
    """
    original = _as_image(image, config, name)
    # A random crop would hide a part of the image from the network.
    mode = "pad64" if config.IMAGE_RESIZE_MODE == "crop" else config.IMAGE_RESIZE_MODE
    if zoom == 1:
        resized, window, scale, _, _ = resize_to_config(original, config, mode=mode)
    else:
        resized, window, scale, _, _ = zoom_to_config(original, config, zoom, mode)
    _check_sides(resized.shape, mode, name)
    active_class_ids = np.zeros(config.NUM_CLASSES, int)
    meta = compose_image_meta(0, original.shape, resized.shape, window, scale, active_class_ids)
    if subtract_mean or resized.dtype != np.uint8:
        resized = molded_float32(resized, config)
    return Molded(resized, meta, window, np.shape(image))


def _check_sides(shape: tuple[int, ...], mode: str, name: str) -> None:
    """Raise ValueError unless the network can halve the sides of a resized image."""
    step = 32 if mode in PAD32_MODES else 64
    if shape[0] % step or shape[1] % step:
        raise ValueError(
            f"In mode '{mode}' an image's sides must be multiples of {step}. "
            f"Received: {name} of {shape}. Try IMAGE_RESIZE_MODE = 'pad64' or 'square'."
        )


def _as_image(image: Any, config: Config, name: str) -> np.ndarray:
    """`[H, W, IMAGE_CHANNEL_COUNT]` uint8."""
    image = np.asarray(image)
    if image.dtype.kind == "f" and image.size and image.min() < 0:
        logger.warning(
            "%s has negative values: it looks already molded, so its mean is added again. "
            "detect() expects the original image.",
            name,
        )
        if image.ndim == 3 and image.shape[2] == config.IMAGE_CHANNEL_COUNT:
            image = np.round(image * config.STD_PIXEL + config.MEAN_PIXEL).astype(np.int32)
    image = match_channels(to_uint8(image), config.IMAGE_CHANNEL_COUNT, name)
    if not image.shape[0] or not image.shape[1]:
        raise ValueError(f"An image must have pixels. Received: {name} of shape {image.shape}.")
    return image


def batches(images: Iterable[Any], config: Config, size: int) -> Iterator[list[Any]]:
    """Yield lists of at most `size` consecutive images that are equally large when molded."""
    one_molded_size = config.IMAGE_RESIZE_MODE == "square"
    batch: list[Any] = []
    for image in images:
        fits = one_molded_size or not batch or np.shape(image)[:2] == np.shape(batch[0])[:2]
        if not fits:
            yield batch
            batch = []
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def stack_if_equal(images: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """`[B, h, w, C]` if all images have the same shape; otherwise the list itself."""
    shapes = {image.shape for image in images}
    return np.stack(images) if len(shapes) == 1 else images

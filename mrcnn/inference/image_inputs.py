"""The images that `detect` accepts, as arrays: paths of files, images of Pillow, arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..data.image import match_channels, read_image, to_uint8
from ..files.image_files import pixels_of
from ..files.safe_text import printable

OneImage = str | os.PathLike | Image.Image  # an array is one image or several


class Seen(NamedTuple):
    """What is remembered of an image: `(height, width)`, and the path if it came from a file."""

    shape: tuple[int, ...]
    path: str | None


class ImageReader:
    """Images as arrays, each one read when the iteration reaches it.

    images: whatever `as_array` accepts. channels: those of images that are no arrays.
    `seen` gets a `Seen` of each image, in their order.
    """

    def __init__(self, images: Iterable[Any], channels: int):
        self.images = images
        self.channels = channels
        self.seen: list[Seen] = []

    def __iter__(self) -> Iterator[Any]:
        for image in self.images:
            pixels = as_array(image, self.channels)
            is_path = isinstance(image, str | os.PathLike)
            self.seen.append(Seen(np.shape(pixels)[:2], os.fspath(image) if is_path else None))
            yield pixels


def as_array(image: Any, channels: int | None = None) -> Any:
    """Return the `[H, W, channels]` uint8 pixels of a file or of an image of Pillow.

    image: a path, read as `mrcnn detect` reads it (upright by EXIF, within the limits of size); an
        image of Pillow; an array, which is returned as it is.
    channels: None for those that the image has.

    Raises: ValueError that names a file that cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), channels)
    if isinstance(image, Image.Image):
        pixels = to_uint8(pixels_of(image))
        return pixels if channels is None else match_channels(pixels, channels)
    return image


def is_one_image(images: Any, channels: int) -> bool:
    """Whether the argument of `detect` is one image and not several.

    images: one image is a path, an image of Pillow, or an array `[H, W]` or `[H, W, C]`.
    channels: of the network's images.

    Raises: ValueError for an array of three axes that is no image.
    """
    if isinstance(images, OneImage):
        return True
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) == 3 and shape[2] not in (1, 2, 3, 4, channels):
        raise ValueError(
            "An array of three axes must be one image [H, W, C]. "
            f"Received: shape {shape}. Try list(images) for a stack of gray images."
        )
    return len(shape) in (2, 3)


def check_image_list(images: Any, method: str) -> None:
    """Raise ValueError for one image, which would be read as H images or as the letters of a path.

    method: which takes lists only.
    """
    if isinstance(images, OneImage):
        raise ValueError(
            "images must be a list of images. "
            f"Received: {printable(images)}. Try {method}([image])."
        )
    if getattr(images, "ndim", 4) in (0, 2, 3):
        raise ValueError(
            "images must be a list of images, or an array [B, H, W, C] of them. "
            f"Received: an array of shape {tuple(images.shape)}. Try {method}([image]); "
            "for a stack of grey images list(images)."
        )

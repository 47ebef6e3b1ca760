"""Pixels to network input and back: reading, resizing, padding, the mean.

Images are `[height, width, channels]`, boxes `(y1, x1, y2, x2)` in pixels with y2 and x2 one past
the last pixel.

`exact=True` takes scikit-image in its mode "constant" and scipy's zoom grid, as matterport did, to repeat its
numbers; the default is OpenCV (a hundred times faster, half-pixel centres, no dark border around an image), which
gives the same pixels within an image but for some in a thousand.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path

import cv2
import numpy as np

from ..files.image_files import read_pixels
from ..files.image_files import read_size as read_size
from ..files.safe_text import printable

log = logging.getLogger("mrcnn")


# --- Reading ---------------------------------------------------------------------------------------------------


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """`[H, W, channels]` uint8 image of a file, upright: turned as its EXIF orientation says.

    Phones store photos as the sensor lay; annotation tools show them upright, and so are their outlines.
    (matterport's code did not turn them: outlines of such photos lay beside the objects.)

    Raises: ValueError that names the file where it is missing, truncated, too large or no image.
    """
    return match_channels(to_uint8(read_pixels(path), name=str(path)), channels, name=str(path))


_MOST_CLIPPED = 0.02  # share of the values of an image; a larger one is logged
_told: set[str] = set()  # what the log has said once


def _tell_once(subject: str, text: str, *values) -> None:
    """Warn of a kind of image when its first one comes."""
    if subject not in _told:
        _told.add(subject)
        log.warning(f"{text} (Only the first image of this kind is reported.)", *values)


def is_unit(image: np.ndarray) -> bool:
    """Whether float values lie in 0..1, and not in 0..255."""
    return image.dtype.kind == "f" and image.size > 0 and bool(image.max() <= 1.0)


def to_uint8(image: np.ndarray, name: str = "An image", unit: bool | None = None) -> np.ndarray:
    """The image as uint8: 16-bit and float 0..1 images are scaled, float 0..255 images rounded, bool becomes 0, 255.

    Of other whole numbers, and of floats, what lies outside of 0..255 is cut off, with a warning if it is much.

    name: for the warning. unit: whether floats lie in 0..1; by default `is_unit` of this array tells.
    """
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "buif":
        raise ValueError(
            f"An image must be an array of numbers. Received: {image.dtype} of shape {image.shape}. Try checking "
            "that its file was read: some readers (cv2.imread) return None where they fail."
        )
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype == np.uint16:
        if image.size and 255 < image.max() < 4096:
            _tell_once(
                "12 bits",
                "%s has 16 bits and no value above 4095, as cameras of 12 bits leave them, and comes out nearly black. "
                "If your images are so, multiply them by 16 and save them again.",
                printable(name),
            )
        return np.round(image / 257).astype(np.uint8)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(
            "An image must hold finite numbers. Received: nan or inf. Try cleaning the file."
        )
    scaled = image
    if image.dtype.kind == "f" and (is_unit(image) if unit is None else unit):
        scaled = image * 255
    if image.size and np.mean((scaled < -0.5) | (scaled > 255.5)) > _MOST_CLIPPED:
        _tell_once(
            str(image.dtype),
            "%s holds %s values from %g to %g: what is below 0 or above 255 is cut off. Scale such images to 0..255 "
            "and save them with 8 bits.",
            *(printable(name), image.dtype, image.min(), image.max()),
        )
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def match_channels(image: np.ndarray, channels: int, name: str = "image") -> np.ndarray:
    """`[H, W, channels]`: grey is repeated, alpha dropped, colour averaged to grey where one channel is asked for.

    Raises: ValueError where that is no known conversion.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3:
        raise ValueError(
            f"An image must be [height, width] or [height, width, channels]. Received: {printable(name)} of shape "
            f"{image.shape}. Try one frame of an animation or volume."
        )
    found = image.shape[2]
    if found == channels:
        return image
    if found in (1, 2) and channels == 3:  # grey, grey + alpha
        return np.repeat(image[:, :, :1], 3, axis=2)
    if found == 4 and channels == 3:
        return image[:, :, :3]
    if found == 2 and channels == 1:
        return image[:, :, :1]
    if found in (3, 4) and channels == 1:
        weights = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
        return np.round(image[:, :, :3] @ weights).astype(image.dtype)[:, :, None]
    raise ValueError(
        f"An image must have IMAGE_CHANNEL_COUNT = {channels} channels. Received: {printable(name)} with {found}. "
        "Try setting IMAGE_CHANNEL_COUNT and MEAN_PIXEL, or return the channels you need from Dataset.load_image."
    )


# --- Resizing --------------------------------------------------------------------------------------------------


def resize(
    image,
    output_shape,
    order=1,
    mode="constant",
    cval=0,
    clip=True,
    preserve_range=False,
    anti_aliasing=False,
    anti_aliasing_sigma=None,
) -> np.ndarray:
    """scikit-image's `resize` with matterport's defaults (no anti-aliasing); bool images are taken as 0.0, 1.0."""
    import skimage.transform

    image = np.asarray(image)
    if image.dtype == bool:
        image = image.astype(np.float64)
    return skimage.transform.resize(
        image,
        output_shape,
        order=order,
        mode=mode,
        cval=cval,
        clip=clip,
        preserve_range=preserve_range,
        anti_aliasing=anti_aliasing,
        anti_aliasing_sigma=anti_aliasing_sigma,
    )


# Weights of float32 that should add up to 1 miss it by up to 2 units in the last place: 255 comes out as 254.99997.
_ROUNDING = np.float32(1 + 2**-22)


def _scale_image(image: np.ndarray, height: int, width: int, exact: bool) -> np.ndarray:
    """The image resized by bilinear interpolation; whole numbers are cut off, as matterport's `astype` did.

    OpenCV's own uint8 resize rounds, which makes a third of all pixels one grey level brighter than those that
    published weights were trained on.
    """
    if exact:
        return resize(image, (height, width), preserve_range=True).astype(image.dtype)
    scaled = cv2.resize(
        image.astype(np.float32, copy=False), (width, height), interpolation=cv2.INTER_LINEAR
    )
    if image.dtype.kind != "f":
        scaled *= _ROUNDING
    # OpenCV drops a single channel.
    return scaled.reshape(height, width, image.shape[2]).astype(image.dtype, copy=False)


def resize_image(
    image,
    min_dim=None,
    max_dim=None,
    min_scale=None,
    mode="square",
    shape=None,
    rng=None,
    exact=False,
):
    """The image scaled (never down-scaled below need), padded or cropped.

    image: `[H, W, channels]`. min_dim, max_dim, min_scale, mode: see `Config.IMAGE_*`.
    shape: `(height, width)` to pad or crop to, in place of the square of max_dim or min_dim.
    rng: draws the place of a crop; None: Python's global `random`.

    Returns:
        image: `[h, w, channels]`, same dtype.
        window: `(y1, x1, y2, x2)` where the photo lies in it.
        scale: factor from the photo to the window.
        padding: `[(top, bottom), (left, right), (0, 0)]`.
        crop: `(y1, x1, height, width)` cut from the scaled photo, or None.

    Raises: ValueError for an unknown mode, or for sides that mode "pad64" cannot bring to multiples of 64.
    """
    height, width = image.shape[:2]
    no_padding = [(0, 0), (0, 0), (0, 0)]
    if mode == "none":
        return image, (0, 0, height, width), 1, no_padding, None
    if mode not in ("square", "pad64", "crop"):
        raise ValueError(
            f"mode must be square, pad64, crop or none. Received: {mode!r}. Try 'square'."
        )
    target = tuple(int(side) for side in shape[:2]) if shape is not None else None

    scale = max(1, min_dim / min(height, width)) if min_dim else 1
    if min_scale and scale < min_scale:
        scale = min_scale
    if max_dim and mode == "square":
        limit = target or (max_dim, max_dim)
        if round(height * scale) > limit[0] or round(width * scale) > limit[1]:
            scale = min(limit[0] / height, limit[1] / width)
    if scale != 1:
        # A line of pixels keeps at least one.
        image = _scale_image(
            image, max(1, round(height * scale)), max(1, round(width * scale)), exact
        )
    height, width = image.shape[:2]

    if mode == "crop":
        crop_height, crop_width = target or (min_dim, min_dim)
        draw = (
            random.randint if rng is None else (lambda low, high: int(rng.integers(low, high + 1)))
        )
        y = draw(0, max(0, height - crop_height))
        x = draw(0, max(0, width - crop_width))
        crop = (y, x, crop_height, crop_width)
        image = image[y : y + crop_height, x : x + crop_width]
        # A photo smaller than a rectangular crop is padded at the bottom and the right.
        padding = [(0, crop_height - image.shape[0]), (0, crop_width - image.shape[1]), (0, 0)]
        window = (0, 0, *image.shape[:2])
        if padding != no_padding:
            image = np.pad(image, padding)
        return image, window, scale, padding, crop

    if mode == "square":
        full_height, full_width = target or (max_dim, max_dim)
    else:  # pad64
        if min_dim and min_dim % 64:
            raise ValueError(
                f"IMAGE_MIN_DIM must be a multiple of 64 in mode pad64. Received: {min_dim}. "
                f"Try {max(64, round(min_dim / 64) * 64)}."
            )
        full_height, full_width = -(-height // 64) * 64, -(-width // 64) * 64
    top, left = (full_height - height) // 2, (full_width - width) // 2
    padding = [(top, full_height - height - top), (left, full_width - width - left), (0, 0)]
    image = np.pad(image, padding)
    return image, (top, left, top + height, left + width), scale, padding, None


def resize_boxes(boxes, scale, padding, crop=None, shape=None) -> np.ndarray:
    """`[N, (y1, x1, y2, x2)]` int32 the boxes scaled, padded and cropped as `resize_image` said; outside: no area.

    boxes: `[N, 4]` pixels of the photo. scale, padding, crop: as returned by `resize_image`. shape: of its image, the
    padding included.
    """
    offset = np.array([padding[0][0], padding[1][0]] * 2)
    window = np.array([shape[0] - padding[0][1], shape[1] - padding[1][1]])
    if crop is not None:
        offset = offset - np.array([crop[0], crop[1]] * 2)
    moved = np.asarray(boxes, float).reshape(-1, 4) * scale + offset
    low, high = [padding[0][0], padding[1][0]] * 2, [*window, *window]
    return np.round(np.clip(moved, low, high)).astype(np.int32)


# --- The mean -------------------------------------------------------------------------------------------------


def mold_image(images, config) -> np.ndarray:
    """Float images less the mean pixel: what the network sees."""
    return np.asarray(images).astype(np.float32) - config.MEAN_PIXEL


def molded_photo(photo, config) -> np.ndarray:
    """`[H, W, C]` float32: `mold_image` as the network reads it; of uint8 looked up, five times as fast."""
    if photo.dtype != np.uint8:
        return mold_image(photo, config).astype(np.float32)
    molded = mold_image(np.arange(256)[:, None, None], config).astype(np.float32)  # of each value
    table = np.repeat(
        molded, photo.shape[2] // molded.shape[2], axis=2
    )  # one mean may be that of all channels
    return cv2.LUT(photo, table).reshape(photo.shape)


def unmold_image(normalized_images, config) -> np.ndarray:
    """uint8 images; the reverse of `mold_image`."""
    return (normalized_images + config.MEAN_PIXEL).astype(np.uint8)

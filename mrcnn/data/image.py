"""Images as arrays: read, convert to uint8, match channels, resize, subtract the mean.

Images are `[height, width, channels]`, boxes `(y1, x1, y2, x2)` in pixels with y2 and x2 one past
the last pixel.

`exact=True` uses scikit-image in its mode "constant" and the zoom grid of SciPy, as matterport did,
to repeat its numbers. The default is OpenCV (a hundred times faster, half-pixel centers, no dark
border around an image). Inside an image the two differ in about one pixel of a thousand.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..config import PAD32_MODES, Config
from ..files.image_files import Source, read_pixels
from ..files.safe_text import printable
from .resize_rules import rule_pixels, rule_size

log = logging.getLogger("mrcnn")

Padding = list[tuple[int, int]]  # (before, after) of each axis
Crop = tuple[int, int, int, int]  # y, x, height, width
Scale = float | tuple[float, float]  # one for both axes, or one each for y and x
NO_PADDING: Padding = [(0, 0), (0, 0), (0, 0)]


# --- Reading and converting -------------------------------------------------------------------


def read_image(path: Source, channels: int | None = 3, name: str | None = None) -> np.ndarray:
    """Return the `[H, W, channels]` uint8 image of a file, rotated as its EXIF orientation says.

    path: of a file, or its content as bytes.
    channels: None for those of the file, `[H, W]` if it is gray.
    name: how an error calls the file; its path by default.

    Phones store images in the orientation of the sensor. Annotation tools show them upright, and so
    are the outlines that they write. (matterport's code ignored the orientation.)

    Raises: ValueError that names a file that is missing, truncated, too large or not an image.
    """
    if name is None:
        name = "an embedded image" if isinstance(path, bytes) else str(path)
    pixels = to_uint8(read_pixels(path, name=name), name=name)
    return pixels if channels is None else match_channels(pixels, channels, name=name)


_MAX_CLIPPED = 0.02  # share of an image's values that may be clipped without a warning
_warned: set[str] = set()  # subjects of the warnings that were logged


def _warn_once(subject: str, text: str, *values: object) -> None:
    """Log a warning for the first image of a kind."""
    if subject not in _warned:
        _warned.add(subject)
        log.warning(f"{text} (Only the first image of this kind is reported.)", *values)


def is_unit(image: np.ndarray) -> bool:
    """Return whether float values lie in 0..1 rather than in 0..255."""
    return image.dtype.kind == "f" and image.size > 0 and bool(image.max() <= 1.0)


def to_uint8(image: Any, name: str = "An image", unit: bool | None = None) -> np.ndarray:
    """Return an image as uint8.

    16-bit images and floats in 0..1 are scaled, floats in 0..255 are rounded, bool becomes 0 and
    255. Other values outside 0..255 are clipped, with a warning if there are many.

    Args:
        image: an array of numbers of any shape.
        name: the image in the warning.
        unit: whether floats lie in 0..1; by default `is_unit` of this array.

    Raises: ValueError if the array holds other things than finite numbers.
    """
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "buif":
        raise ValueError(
            f"An image must be an array of numbers. Received: {image.dtype} of shape "
            f"{image.shape}. Try checking that its file was read: some readers (cv2.imread) return "
            "None if they fail."
        )
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if image.dtype == np.uint16:
        return _uint16_to_uint8(image, name)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError(
            "An image must hold finite numbers. Received: nan or inf. Try cleaning the file."
        )
    if unit is None:
        unit = is_unit(image)
    return _clip_to_uint8(image, name, 255 if unit and image.dtype.kind == "f" else 1)


def _uint16_to_uint8(image: np.ndarray, name: str) -> np.ndarray:
    if image.size and 255 < image.max() < 4096:
        _warn_once(
            "12 bits",
            "%s has 16 bits and no value above 4095, as cameras of 12 bits write them, and becomes "
            "nearly black. If your images are like that, multiply them by 16 and save them again.",
            printable(name),
        )
    return np.round(image / 257).astype(np.uint8)


def _clip_to_uint8(image: np.ndarray, name: str, factor: int) -> np.ndarray:
    scaled = image * factor
    if image.size and np.mean((scaled < -0.5) | (scaled > 255.5)) > _MAX_CLIPPED:
        _warn_once(
            str(image.dtype),
            "%s holds %s values from %g to %g: values below 0 or above 255 are clipped. Scale such "
            "images to 0..255 and save them with 8 bits.",
            *(printable(name), image.dtype, image.min(), image.max()),
        )
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def match_channels(image: np.ndarray, channels: int, name: str = "image") -> np.ndarray:
    """Return the image with this number of channels, `[H, W, channels]`.

    Gray is repeated, alpha is dropped, color is averaged to gray if one channel is asked for.

    Raises: ValueError if no conversion is known.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3:
        raise ValueError(
            "An image must be [height, width] or [height, width, channels]. Received: "
            f"{printable(name)} of shape {image.shape}. Try one frame of an animation or volume."
        )
    found = image.shape[2]
    if found == channels:
        return image
    if found in (1, 2) and channels == 3:  # gray, or gray and alpha
        return np.repeat(image[:, :, :1], 3, axis=2)
    if found == 4 and channels == 3:
        return image[:, :, :3]
    if found == 2 and channels == 1:
        return image[:, :, :1]
    if found in (3, 4) and channels == 1:
        weights = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
        return np.round(image[:, :, :3] @ weights).astype(image.dtype)[:, :, None]
    raise ValueError(
        f"An image must have IMAGE_CHANNEL_COUNT = {channels} channels. Received: "
        f"{printable(name)} with {found}. Try setting IMAGE_CHANNEL_COUNT and MEAN_PIXEL, or "
        "return the channels you need from Dataset.load_image."
    )


# --- Resizing ---------------------------------------------------------------------------------


class Resized(NamedTuple):
    """An image at the size of the network's input, and how it got there.

    image: `[h, w, channels]`, dtype of the original; float32 in the modes of PAD32_MODES.
    window: `(y1, x1, y2, x2)` of the original image inside the padding.
    scale: factor from the original to the resized image; in the modes of PAD32_MODES one per axis,
        `(y, x)`, because each side is rounded.
    padding: `[(top, bottom), (left, right), (0, 0)]`.
    crop: `(y, x, height, width)` cut from the scaled image, or None.
    """

    image: np.ndarray
    window: tuple[int, int, int, int]
    scale: Scale
    padding: Padding
    crop: Crop | None


def resize(
    image: Any,
    output_shape: Sequence[int],
    order: int | None = 1,
    mode: str = "constant",
    cval: int = 0,
    clip: bool = True,
    preserve_range: bool = False,
    anti_aliasing: bool = False,
    anti_aliasing_sigma: Any = None,
) -> np.ndarray:
    """Call scikit-image's `resize` with matterport's defaults (no anti-aliasing, bool as float)."""
    import skimage.transform

    image = np.asarray(image)
    if image.dtype == bool:
        image = image.astype(np.float64)
    resized = skimage.transform.resize(
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
    return np.asarray(resized)


# Interpolation weights in float32 may sum to 1 minus 2 units in the last place: 255 would become
# 254.99997, and 254 when truncated.
_ROUNDING = np.float32(1 + 2**-22)


def _scale_image(image: np.ndarray, height: int, width: int, exact: bool) -> np.ndarray:
    """Resize an image by bilinear interpolation; integers are truncated, as matterport's were.

    OpenCV's uint8 resize rounds, which makes a third of all pixels one gray level brighter than
    those that published weights were trained on.
    """
    if exact:
        return resize(image, (height, width), preserve_range=True).astype(image.dtype)
    floats = image.astype(np.float32, copy=False)
    scaled = cv2.resize(floats, (width, height), interpolation=cv2.INTER_LINEAR)
    if image.dtype.kind != "f":
        scaled *= _ROUNDING
    # OpenCV drops a single channel.
    return scaled.reshape(height, width, image.shape[2]).astype(image.dtype, copy=False)


def resize_image(
    image: np.ndarray,
    min_dim: int | None = None,
    max_dim: int | None = None,
    min_scale: float | None = None,
    mode: str = "square",
    shape: Sequence[int] | np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    exact: bool = False,
    mean: Any = 0,
) -> Resized:
    """Scale an image, and pad or crop it to the size of the network's input.

    Args:
        image: `[H, W, channels]`.
        min_dim, max_dim, min_scale, mode: see `Config.IMAGE_*`. The modes of PAD32_MODES ignore
            min_scale and exact.
        shape: `(height, width)` to pad or crop to, instead of the square of max_dim or min_dim.
        rng: draws the position of a crop; None uses Python's global `random`.
        mean: of each channel, or one for all: the padding in the modes of PAD32_MODES, so that it
            is 0 after the mean is subtracted.

    Raises: ValueError for an unknown mode, if mode "pad64" has a min_dim that is not a multiple of
        64, or if a mode of PAD32_MODES lacks min_dim or max_dim.
    """
    if mode in PAD32_MODES:
        return _resize_by_rule(image, min_dim, max_dim, mode, mean)
    if mode == "none":
        height, width = image.shape[:2]
        return Resized(image, (0, 0, height, width), 1, list(NO_PADDING), None)
    if mode not in ("square", "pad64", "crop"):
        raise ValueError(
            "mode must be torchvision, detectron2, square, pad64, crop or none. "
            f"Received: {mode!r}. Try 'square'."
        )
    target = None if shape is None else (int(shape[0]), int(shape[1]))
    limit = None
    if mode == "square" and max_dim:
        limit = target or (max_dim, max_dim)
    height, width = image.shape[:2]
    scale = _scale_factor(height, width, min_dim, min_scale, limit)
    if scale != 1:
        height, width = scaled_size(height, width, scale)
        image = _scale_image(image, height, width, exact)
    if mode == "crop":
        return _crop(image, scale, target or _square_of(min_dim), rng)
    if mode == "pad64":
        return _pad(image, scale, _multiples_of_64(height, width, min_dim))
    return _pad(image, scale, target or _square_of(max_dim))


def resize_to_config(
    image: np.ndarray,
    config: Config,
    rng: np.random.Generator | None = None,
    mode: str | None = None,
) -> Resized:
    """Resize an image as the settings `IMAGE_*` and `EXACT_RESIZE` say.

    rng: see `resize_image`. mode: instead of `IMAGE_RESIZE_MODE`.
    """
    mode = mode or config.IMAGE_RESIZE_MODE
    fixed_shape = mode in ("square", "crop")
    return resize_image(
        image,
        min_dim=config.IMAGE_MIN_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        max_dim=config.IMAGE_MAX_DIM,
        mode=mode,
        shape=config.IMAGE_SHAPE if fixed_shape else None,
        rng=rng,
        exact=config.EXACT_RESIZE,
        mean=config.MEAN_PIXEL,
    )


def zoom_to_config(image: np.ndarray, config: Config, zoom: float, mode: str) -> Resized:
    """Resize an image as `resize_to_config` does, but larger or smaller by a factor.

    zoom: factor of the image and of its padding, whose sides stay multiples of 64 (in the modes of
        PAD32_MODES of 32). mode: instead of `IMAGE_RESIZE_MODE`; not "crop".
    """
    if mode in PAD32_MODES:
        dims = [max(1, round(dim * zoom)) for dim in (config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM)]
        return resize_image(image, *dims, mode=mode, mean=config.MEAN_PIXEL)
    plain = resize_to_config(image, config, mode=mode)
    scale = by_axis(plain.scale)[0] * zoom  # one factor for both axes in these modes
    height, width = scaled_size(image.shape[0], image.shape[1], scale)
    padded = [
        _round_up(max(side, math.ceil(old * zoom)), 64)
        for side, old in zip((height, width), plain.image.shape[:2], strict=True)
    ]
    pixels = _scale_image(image, height, width, config.EXACT_RESIZE)
    return _pad(pixels, scale, (padded[0], padded[1]))


def by_axis(scale: Scale) -> tuple[float, float]:
    """Return the factors of y and x."""
    return scale if isinstance(scale, tuple) else (scale, scale)


def scaled_size(height: int, width: int, scale: Scale) -> tuple[int, int]:
    """Height and width of a scaled image, at least one pixel each."""
    scale_y, scale_x = by_axis(scale)
    return max(1, round(height * scale_y)), max(1, round(width * scale_x))


def _resize_by_rule(
    image: np.ndarray, min_dim: int | None, max_dim: int | None, mode: str, mean: Any
) -> Resized:
    """Resize as torchvision or detectron2 does; pad below and on the right with the mean."""
    if not min_dim or not max_dim:
        raise ValueError(
            f"IMAGE_MIN_DIM and IMAGE_MAX_DIM must be at least 1 in mode {mode}. "
            f"Received: {min_dim} and {max_dim}. Try 800 and 1333."
        )
    old_height, old_width = image.shape[:2]
    height, width = rule_size(mode, old_height, old_width, min_dim, max_dim)
    pixels = rule_pixels(mode, image, height, width)
    padded = pad_end(pixels, _round_up(height, 32), _round_up(width, 32), mean)
    padding = [(0, padded.shape[0] - height), (0, padded.shape[1] - width), (0, 0)]
    scale = (height / old_height, width / old_width)
    return Resized(padded, (0, 0, height, width), scale, padding, None)


def pad_end(image: np.ndarray, height: int, width: int, value: Any = 0) -> np.ndarray:
    """Pad an image below and on the right to this size.

    image: `[H, W, C]`. value: of the padding, one per channel or one for all.
    """
    rows, columns = image.shape[:2]
    padded = np.empty((height, width, image.shape[2]), image.dtype)
    padded[:rows, :columns] = image
    padded[rows:] = value
    padded[:rows, columns:] = value
    return padded


def _square_of(side: int | None) -> tuple[int, int]:
    if side is None:
        raise ValueError(
            "IMAGE_MIN_DIM (mode crop) and IMAGE_MAX_DIM (mode square) must be numbers. "
            "Received: None. Try 1024."
        )
    return side, side


def _scale_factor(
    height: int,
    width: int,
    min_dim: int | None,
    min_scale: float | None,
    limit: tuple[int, int] | None,
) -> float:
    """Factor that enlarges the short side to min_dim, and fits the image into the limit."""
    scale = max(1, min_dim / min(height, width)) if min_dim else 1
    if min_scale:
        scale = max(scale, min_scale)
    if limit and (round(height * scale) > limit[0] or round(width * scale) > limit[1]):
        return min(limit[0] / height, limit[1] / width)
    return scale


def _crop(
    image: np.ndarray, scale: float, size: tuple[int, int], rng: np.random.Generator | None
) -> Resized:
    """Cut out a random part of this size; a smaller image is padded below and on the right."""
    height, width = size
    y = _draw(max(0, image.shape[0] - height), rng)
    x = _draw(max(0, image.shape[1] - width), rng)
    part = image[y : y + height, x : x + width]
    window = (0, 0, *part.shape[:2])
    padding = [(0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)]
    if padding != NO_PADDING:
        part = np.pad(part, padding)
    return Resized(part, window, scale, padding, (y, x, height, width))


def _draw(largest: int, rng: np.random.Generator | None) -> int:
    """A random integer from 0 to `largest`, both included."""
    if rng is None:
        return random.randint(0, largest)
    return int(rng.integers(0, largest + 1))


def _multiples_of_64(height: int, width: int, min_dim: int | None) -> tuple[int, int]:
    """The sides rounded up to multiples of 64."""
    if min_dim and min_dim % 64:
        raise ValueError(
            f"IMAGE_MIN_DIM must be a multiple of 64 in mode pad64. Received: {min_dim}. "
            f"Try {max(64, round(min_dim / 64) * 64)}."
        )
    return _round_up(height, 64), _round_up(width, 64)


def _round_up(side: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `side`."""
    return -(-side // step) * step


def _pad(image: np.ndarray, scale: float, size: tuple[int, int]) -> Resized:
    """Pad the image with black on all sides to this size."""
    height, width = image.shape[:2]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padding = [(top, size[0] - height - top), (left, size[1] - width - left), (0, 0)]
    window = (top, left, top + height, left + width)
    return Resized(np.pad(image, padding), window, scale, padding, None)


def resize_boxes(
    boxes: Any,
    scale: Scale,
    padding: Padding,
    crop: Crop | None,
    shape: Sequence[int],
    rounded: bool = True,
) -> np.ndarray:
    """Scale, pad and crop boxes as `resize_image` did with their image.

    Args:
        boxes: `[N, (y1, x1, y2, x2)]` pixels of the original image.
        scale, padding, crop: as returned by `resize_image`.
        shape: `(height, width, ...)` of the resized image with its padding.
        rounded: round to whole pixels.

    Returns: `[N, (y1, x1, y2, x2)]` int32, or float32 unless rounded; a box outside the window has
        no area.
    """
    top, left = padding[0][0], padding[1][0]
    bottom, right = shape[0] - padding[0][1], shape[1] - padding[1][1]
    crop_y, crop_x = (0, 0) if crop is None else crop[:2]
    offset = np.array([top - crop_y, left - crop_x] * 2)
    moved = np.asarray(boxes, float).reshape(-1, 4) * np.array(by_axis(scale) * 2) + offset
    clipped = np.clip(moved, [top, left, top, left], [bottom, right, bottom, right])
    return np.round(clipped).astype(np.int32) if rounded else clipped.astype(np.float32)


# --- The mean and the standard deviation -------------------------------------------------------


def mold_image(images: Any, config: Config) -> np.ndarray:
    """Return float images minus `MEAN_PIXEL`, divided by `STD_PIXEL`: the network's input."""
    centered = np.asarray(images).astype(np.float32) - config.MEAN_PIXEL
    deviation = getattr(config, "STD_PIXEL", 1.0)  # scripts pass objects of their own
    return centered if np.all(deviation == 1.0) else centered / deviation


def molded_float32(image: np.ndarray, config: Config) -> np.ndarray:
    """Return `mold_image` of `[H, W, C]` as float32.

    The 256 values of uint8 are looked up: a training image of 1024 x 1024 takes 7 ms, not 19.
    """
    if config.IMAGE_RESIZE_MODE in PAD32_MODES:
        # In float32 the padding, which holds the mean, becomes 0 exactly.
        mean, deviation = np.float32(config.MEAN_PIXEL), np.float32(config.STD_PIXEL)
        return (image.astype(np.float32, copy=False) - mean) / deviation
    if image.dtype != np.uint8:
        return mold_image(image, config).astype(np.float32)
    values = np.arange(256)[:, None, None].repeat(image.shape[2], axis=2)  # [256, 1, C]
    table = mold_image(values, config).astype(np.float32)
    return cv2.LUT(image, table).reshape(image.shape)


def unmold_image(normalized_images: np.ndarray, config: Config) -> np.ndarray:
    """Return uint8 images, the inverse of `mold_image`."""
    deviation = getattr(config, "STD_PIXEL", 1.0)
    return (normalized_images * deviation + config.MEAN_PIXEL).astype(np.uint8)

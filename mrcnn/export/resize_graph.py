"""The resize of `data.image` inside a graph, by gathers that every runtime knows.

Positions are computed from integers: float32 would shift samples of large images, and few runtimes
have float64.

Shape shorthand: B images `[H, W, C]`, a canvas of h x w pixels that holds the resized image and its
padding.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from ..config import PAD32_MODES, Config
from ..inference.preprocessing import mold

# Weights in float32 may sum to less than 1; see `data.image._scale_image`.
ROUNDING = np.float32(1 + 2**-22)


class Placement(NamedTuple):
    """Where an image of `height` x `width` pixels lies on the canvas.

    Numbers of int32: Python's, or scalar tensors if the file accepts images of any size.
    """

    height: Any
    width: Any
    canvas: tuple[int, int]
    window: tuple[Any, Any, Any, Any]  # (y1, x1, y2, x2) on the canvas


class Taps(NamedTuple):
    """What each of `count` pixels along an axis reads: two pixels of the image, and their share."""

    first: Any  # [count] int32
    second: Any
    share: Any  # [count] float32, of the second one
    inside: Any  # [count] float32, 0 in the padding


def fixed_placement(height: int, width: int, config: Config) -> Placement:
    """Return the placement of images of this size, in any resize mode."""
    blank = np.zeros((height, width, config.IMAGE_CHANNEL_COUNT), np.uint8)
    molded = mold(blank, config)
    rows, columns = molded.image.shape[:2]
    window = tuple(int(side) for side in molded.window)
    return Placement(height, width, (rows, columns), (window[0], window[1], window[2], window[3]))


def square_placement(height: Any, width: Any, config: Config) -> Placement:
    """Return the placement of images of any size in resize mode "square".

    height, width: scalar int32 tensors.
    """
    rows, columns = (int(side) for side in config.IMAGE_SHAPE[:2])
    factor, divisor = _square_scale(height, width, (rows, columns), config)
    new_height = tf.maximum(_rounded(height * factor, divisor), 1)
    new_width = tf.maximum(_rounded(width * factor, divisor), 1)
    top, left = (rows - new_height) // 2, (columns - new_width) // 2
    window = (top, left, top + new_height, left + new_width)
    return Placement(height, width, (rows, columns), window)


def _square_scale(height, width, limit, config):
    """The scale of `data.image.resize_image` as a fraction of two int32 tensors."""
    shortest = tf.minimum(height, width)
    factor, divisor = tf.ones_like(height), tf.ones_like(height)
    if config.IMAGE_MIN_DIM:
        factor = tf.maximum(int(config.IMAGE_MIN_DIM), shortest)
        divisor = shortest
    if config.IMAGE_MIN_SCALE:
        least = Fraction(config.IMAGE_MIN_SCALE).limit_denominator(1000)
        is_less = factor * least.denominator < divisor * least.numerator
        factor = tf.where(is_less, least.numerator, factor)
        divisor = tf.where(is_less, least.denominator, divisor)
    rows, columns = limit
    is_tall = _rounded(height * factor, divisor) > rows
    is_wide = _rounded(width * factor, divisor) > columns
    is_limited_by_rows = rows * width < columns * height
    largest = tf.where(is_limited_by_rows, rows, columns)
    side = tf.where(is_limited_by_rows, height, width)
    is_large = is_tall | is_wide
    return tf.where(is_large, largest, factor), tf.where(is_large, side, divisor)


def _rounded(number, divisor):
    """`number / divisor`, rounded half to even, as Python's `round`; int32 tensors."""
    whole = number // divisor
    twice = 2 * (number - whole * divisor)
    is_odd = whole - 2 * (whole // 2) > 0
    is_up = (twice > divisor) | ((twice == divisor) & is_odd)
    return whole + tf.cast(is_up, tf.int32)


def resize_on_canvas(images: tf.Tensor, placement: Placement, config: Config) -> tf.Tensor:
    """`[B, h, w, C]` float32 resized and padded images minus the mean, as the network reads them.

    images: `[B, H, W, C]` uint8.
    """
    if config.IMAGE_RESIZE_MODE == "detectron2":
        return _pillow_on_canvas(images, placement, config)
    y1, x1, y2, x2 = placement.window
    rows = axis_taps(placement.height, y1, y2, placement.canvas[0], config)
    columns = axis_taps(placement.width, x1, x2, placement.canvas[1], config)
    upper = _mix_columns(tf.gather(images, rows.first, axis=1), columns)
    lower = _mix_columns(tf.gather(images, rows.second, axis=1), columns)
    share = tf.reshape(rows.share, [-1, 1, 1])
    pixels = upper * (1.0 - share) + lower * share
    inside = tf.reshape(rows.inside, [-1, 1, 1]) * tf.reshape(columns.inside, [1, -1, 1])
    mean, deviation = np.float32(config.MEAN_PIXEL), np.float32(config.STD_PIXEL)
    if config.IMAGE_RESIZE_MODE in PAD32_MODES:  # the padding holds the mean
        return (pixels - mean) / deviation * inside
    pixels = tf.floor(pixels * ROUNDING) * inside
    return (pixels - mean) / deviation


def _pillow_on_canvas(images, placement: Placement, config: Config):
    """`resize_on_canvas` with Pillow's filter, which antialiases and rounds after each axis."""
    y1, x1, y2, x2 = placement.window
    rows = _pillow_weights(placement.height, y1, y2, placement.canvas[0])
    columns = _pillow_weights(placement.width, x1, x2, placement.canvas[1])
    pixels = tf.transpose(tf.cast(images, tf.float32), [0, 1, 3, 2])  # [B, H, C, W]
    pixels = tf.floor(tf.matmul(pixels, columns) + 0.5)  # [B, H, C, w]
    pixels = tf.transpose(pixels, [0, 3, 2, 1])  # [B, w, C, H]
    pixels = tf.floor(tf.matmul(pixels, rows) + 0.5)  # [B, w, C, h]
    pixels = tf.transpose(pixels, [0, 3, 1, 2])  # [B, h, w, C]
    inside = np.any(rows, axis=0)[:, None, None] & np.any(columns, axis=0)[:, None]
    mean, deviation = np.float32(config.MEAN_PIXEL), np.float32(config.STD_PIXEL)
    return (pixels - mean) / deviation * inside.astype(np.float32)


def _pillow_weights(length: int, start: int, end: int, count: int) -> np.ndarray:
    """`[length, count]` float32 the weight of each pixel of the image in each of the canvas."""
    unit = Image.fromarray(np.eye(length, dtype=np.float32))
    resized = unit.resize((end - start, length), Image.Resampling.BILINEAR)
    weights = np.zeros((length, count), np.float32)
    weights[:, start:end] = np.asarray(resized)
    return weights


def _mix_columns(rows, columns: Taps):
    """`[B, h, w, C]` float32 from rows `[B, h, W, C]` uint8."""
    left = tf.cast(tf.gather(rows, columns.first, axis=2), tf.float32)
    right = tf.cast(tf.gather(rows, columns.second, axis=2), tf.float32)
    share = tf.reshape(columns.share, [1, -1, 1])
    return left * (1.0 - share) + right * share


def axis_taps(length: Any, start: Any, end: Any, count: int, config: Config) -> Taps:
    """Return what the `count` canvas pixels along an axis read.

    length: pixels of the image. start, end: of its window on the canvas. All int32, numbers or
        scalar tensors.
    """
    place = np.arange(count, dtype=np.int32)
    if not tf.is_tensor(length):
        return _fixed_taps(place, length, start, end, config)
    size = end - start
    offset = tf.clip_by_value(place - start, 0, size - 1)
    # The center of pixel i of the window lies at ((2 i + 1) length - size) / (2 size).
    # A negative one reads only the first pixel, as 0 does; runtimes divide them differently.
    centers = tf.maximum((2 * offset + 1) * length - size, 0)
    first = centers // (2 * size)
    rest = tf.cast(centers - first * 2 * size, tf.float32) / tf.cast(2 * size, tf.float32)
    whole = tf.cast(first, tf.float32)
    share = (whole + rest) - whole  # rounded to float32 as OpenCV rounds the position
    share = tf.where(first >= length - 1, 0.0, share)
    first = tf.minimum(first, length - 1)
    second = tf.minimum(first + 1, length - 1)
    inside = tf.cast((place >= start) & (place < end), tf.float32)
    return Taps(first, second, share, inside)


def _fixed_taps(place, length, start, end, config) -> Taps:
    """`axis_taps` in NumPy, by the rule of the config's mode."""
    size = end - start
    offset = np.clip(place - start, 0, size - 1)
    if config.IMAGE_RESIZE_MODE in PAD32_MODES:
        step = np.float64(np.float32(length) / np.float32(size))
        position = np.maximum(((offset + 0.5) * step - 0.5).astype(np.float32), 0)
    else:
        position = ((offset + 0.5) * (length / size) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int32)
    share = position - first.astype(np.float32)
    share[(first < 0) | (first >= length - 1)] = 0.0
    first = np.clip(first, 0, length - 1)
    second = np.minimum(first + 1, length - 1)
    inside = ((place >= start) & (place < end)).astype(np.float32)
    return Taps(first, second, share, inside)

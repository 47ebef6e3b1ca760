"""Keypoints and the lines between them, drawn on arrays with OpenCV, without a display."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .inputs import steady_colors

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
SHIFT = 4  # bits of a pixel's fraction in OpenCV's coordinates


def draw_keypoints(
    canvas: np.ndarray,
    keypoints: ArrayLike,
    skeleton: Sequence[Sequence[int]],
    colors: Sequence[tuple[int, ...]],
    line: int,
) -> None:
    """Draw the keypoints of instances on an image, in place.

    Lines have the color of their instance, each keypoint a color of its own.

    canvas: uint8 [H, W, 3].
    keypoints: [N, K, (y, x, visibility or score)] pixels counted from the corner of the image;
        those with 0 are not drawn.
    skeleton: pairs of keypoints, numbered from 0, that a line connects.
    colors: N colors in 0..255. line: thickness of lines in pixels.
    """
    keypoints = np.asarray(keypoints, float)
    inks = [[255 * channel for channel in color] for color in steady_colors(keypoints.shape[1])]
    for rows, color in zip(keypoints, colors, strict=True):
        is_shown = rows[:, 2] != 0
        places = [_place(row) for row in rows]
        lines = [ends for ends in skeleton if all(is_shown[end] for end in ends)]
        # Black below the color, so that lines are visible on the tint of their own mask.
        for thickness, ink in ((line + 2, BLACK), (line, color)):
            for first, last in lines:
                cv2.line(canvas, places[first], places[last], ink, thickness, cv2.LINE_AA, SHIFT)
        for place, shown, ink in zip(places, is_shown, inks, strict=True):
            if shown:
                _draw_point(canvas, place, ink, line)


def _place(row: np.ndarray) -> tuple[int, int]:
    """(x, y) of a keypoint for OpenCV, which counts from the center of the first pixel."""
    y, x = np.clip(row[:2], -1e6, 1e6) - 0.5
    return round(x * 2**SHIFT), round(y * 2**SHIFT)


def _draw_point(
    canvas: np.ndarray, place: tuple[int, int], color: Sequence[float], line: int
) -> None:
    for radius, ink in ((line + 4, BLACK), (line + 3, WHITE), (line + 2, color)):
        cv2.circle(canvas, place, radius << SHIFT, ink, cv2.FILLED, cv2.LINE_AA, SHIFT)

"""Masks, boxes and labels drawn on arrays with OpenCV, without a display.

Boxes are `(y1, x1, y2, x2)` in pixels of the image, y2 and x2 exclusive: an outline encloses
exactly the pixels of its box. Colors are RGB in 0..1 in arguments, 0..255 in private functions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..data.masks import extract_bboxes
from .inputs import (
    ClassNames,
    Color,
    as_rgb,
    check_counts,
    check_enough,
    checked_instances,
    steady_colors,
)
from .skeletons import draw_keypoints

log = logging.getLogger("mrcnn")

FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST_FONT = 0.25  # of Hershey's 22 px capitals; letters of a smaller font run together

MASK_ALPHA = 0.4
SHADOW = 0.5  # factor of the pixels around masks: contours are visible on their own color as well


class Pen(NamedTuple):
    """Thickness of lines in pixels and scale of OpenCV's font."""

    line: int
    font: float

    @property
    def stroke(self) -> int:
        """Thickness in pixels of the strokes of letters."""
        return max(1, round(1.5 * self.font))


class Label(NamedTuple):
    """A caption to be written at a box; color: its background, 0..255."""

    box: np.ndarray
    text: str
    color: tuple[int, ...]


class FittedText(NamedTuple):
    """A text with the font scale that fits into the image, and its size in pixels."""

    text: str
    scale: float
    text_height: int
    label_size: tuple[int, int]  # height and width, with the padding around the text


def apply_mask(image: np.ndarray, mask: ArrayLike, color: Color, alpha: float = 0.5) -> np.ndarray:
    """Tint the pixels of a mask in an image, in place, and return the image.

    image: [H, W, channels] of any number type, values in 0..255. Only three channels are tinted.
    mask: [H, W] bool, 0/1, 0/255 or probabilities (set above 0.5).
    color: RGB in 0..1. alpha: weight of the color.
    """
    inside = np.asarray(mask) > 0.5
    if inside.shape != image.shape[:2]:
        raise ValueError(
            "mask must be as high and wide as the image. "
            f"Received: mask {inside.shape}, image {image.shape}."
        )
    tint = np.array([alpha * channel * 255 for channel in color[:3]])
    pixels = image[:, :, :3]
    pixels[inside] = pixels[inside] * (1 - alpha) + tint
    return image


def draw_box(image: np.ndarray, box: Sequence[int] | np.ndarray, color: Any) -> np.ndarray:
    """Draw an outline of 2 pixels around a box in place, and return the image.

    box: (y1, x1, y2, x2) pixels. color: one value per channel, in the image's own range.
    """
    return _outline_box(image, box, color, thickness=2)


def draw_instances(
    image: ArrayLike,
    boxes: ArrayLike,
    masks: ArrayLike | None,
    class_ids: ArrayLike,
    class_names: ClassNames,
    scores: Sequence[float] | np.ndarray | None = None,
    colors: Sequence[Color] | None = None,
    captions: Sequence[str] | None = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    keypoints: ArrayLike | None = None,
    skeleton: Sequence[Sequence[int]] = (),
) -> np.ndarray:
    """Draw instances on a copy of an image. Needs no display.

    image: [H, W] or [H, W, channels] of any number type.
    boxes: [N, (y1, x1, y2, x2)] pixels.
    masks: [H, W, N] bool, 0/1, 0/255 or probabilities; None draws no masks.
    class_ids: [N] positions in class_names, or its keys; negative for crowds.
    scores: [N], written after the class name.
    colors: N RGB colors in 0..1; default N well-separated hues, the same on every call.
    captions: N texts that replace "class score"; "" leaves a label out.
    show_mask: tint and contour. show_bbox: outline.
    keypoints, skeleton: see `skeletons.draw_keypoints`; None draws no keypoints.

    Lines and letters suit the image and its objects, see `pen_for`. Labels stay inside the image,
    do not overlap and never hide more than half of a box. If there is not enough space, labels are
    left out, those of the lowest scores first.

    Returns: uint8 [H, W, 3].
    Raises: ValueError if the arrays do not describe the same instances.
    """
    canvas = as_rgb(image)
    boxes, masks, captions = checked_instances(
        canvas.shape, boxes, masks, class_ids, class_names, scores, captions, digits=2
    )
    colors = steady_colors(len(boxes)) if colors is None else colors
    check_enough("colors", colors, len(boxes))
    colors_8_bit = [to_8_bit_color(color) for color in colors]
    pen = pen_for(canvas.shape, boxes)
    if show_mask and masks is not None:
        _paint_masks(canvas, masks, colors_8_bit, pen.line)
    drawn = [i for i in range(len(boxes)) if np.any(boxes[i])]
    if show_bbox:
        for i in drawn:
            _outline_box(canvas, boxes[i], colors_8_bit[i], pen.line)
    if keypoints is not None:
        check_counts(boxes=boxes, keypoints=keypoints)
        draw_keypoints(canvas, keypoints, skeleton, colors_8_bit, pen.line)
    if scores is not None:
        drawn.sort(key=lambda i: -scores[i])
    labels = [Label(boxes[i], captions[i], colors_8_bit[i]) for i in drawn if captions[i]]
    _write_labels(canvas, labels, pen)
    return canvas


def to_8_bit_color(color: Color) -> tuple[int, ...]:
    """Convert a color from 0..1 to 0..255."""
    return tuple(round(255 * float(channel)) for channel in color[:3])


def pen_for(shape: Sequence[int], boxes: np.ndarray | None = None) -> Pen:
    """Return the line thickness and font scale that suit an image and its objects.

    Both grow with the image, up to a limit that grows with the median size of the objects.

    shape: (H, W, ...) of the image.
    boxes: [N, 4] pixels of the objects; zeros are padding. None sets no limit.
    """
    side = max(shape[:2])
    object_side = math.inf if boxes is None else _median_side(boxes)
    line = min(side / 500, object_side / 15)
    font = min(side / 2000, object_side / 60)
    return Pen(line=max(1, round(line)), font=max(0.35, font))


def _median_side(boxes: np.ndarray) -> float:
    """Return the square root of the median area of boxes `[N, 4]`, infinity if all are empty."""
    heights, widths = (boxes[:, 2:] - boxes[:, :2]).T
    areas = (heights * widths)[(heights > 0) & (widths > 0)]
    return float(np.sqrt(np.median(areas))) if len(areas) else math.inf


def _outline_box(
    image: np.ndarray, box: Sequence[int] | np.ndarray, color: Any, thickness: int
) -> np.ndarray:
    """Outline a box in place, just outside its pixels, or at the image border if it ends there.

    Padding (an empty box) and a box outside the image are not drawn.
    """
    height, width = image.shape[:2]
    y1, x1, y2, x2 = (int(round(float(side))) for side in box)
    empty = y2 <= y1 or x2 <= x1
    outside = y1 >= height or x1 >= width or y2 <= 0 or x2 <= 0
    if empty or outside:
        return image
    top, bottom = np.clip([y1 - thickness, y2], 0, max(height - thickness, 0))
    left, right = np.clip([x1 - thickness, x2], 0, max(width - thickness, 0))
    for y in (top, bottom):
        image[y : y + thickness, left : right + thickness] = color
    for x in (left, right):
        image[top : bottom + thickness, x : x + thickness] = color
    return image


def _paint_masks(
    canvas: np.ndarray, masks: np.ndarray, colors: Sequence[tuple[int, ...]], line: int
) -> None:
    """Paint masks `[H, W, N]` in place, see `paint_crops`."""
    extents = extract_bboxes(masks if masks.dtype == bool else masks > 0.5)
    crops = [masks[y1:y2, x1:x2, i] > 0.5 for i, (y1, x1, y2, x2) in enumerate(extents)]
    paint_crops(canvas, crops, extents[:, :2], colors, line)


def paint_crops(
    canvas: np.ndarray,
    crops: Sequence[np.ndarray],
    corners: np.ndarray,
    colors: Sequence[tuple[int, ...]],
    line: int,
) -> None:
    """Tint and contour masks in place, the largest first, so that small ones stay visible.

    A dark line around all masks separates them from a background of their own color.

    canvas: uint8 [H, W, 3]. crops: N masks `[h, w]` bool, which lie inside the canvas.
    corners: `[N, (y, x)]`, the first pixels of the crops in the canvas. colors: N RGB in 0..255.
    line: thickness of the contours in pixels.
    """
    places = [
        (slice(y, y + crop.shape[0]), slice(x, x + crop.shape[1]))
        for crop, (y, x) in zip(crops, corners, strict=True)
    ]
    covered = np.zeros(canvas.shape[:2], bool)
    for crop, place in zip(crops, places, strict=True):
        covered[place] |= crop
    _darken_around(canvas, covered, max(1, line // 2))
    for i in sorted(range(len(crops)), key=lambda i: -crops[i].size):
        if crops[i].size == 0:
            continue
        region = canvas[places[i]]
        apply_mask(region, crops[i], np.array(colors[i]) / 255, MASK_ALPHA)
        region[_rim(crops[i], line)] = colors[i]


def _darken_around(canvas: np.ndarray, covered: np.ndarray, line: int) -> None:
    """Darken, in place, the pixels at most `line` pixels from those of `covered`, bool [H, W]."""
    kernel = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    around = (cv2.dilate(covered.astype(np.uint8), kernel) > 0) & ~covered
    canvas[around] = (canvas[around] * SHADOW).astype(np.uint8)


def _rim(mask: np.ndarray, line: int) -> np.ndarray:
    """Return the pixels of a mask `[h, w]` that erosion by `line` pixels removes."""
    kernel = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    core = cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (core == 0)


# --- Labels -------------------------------------------------------------------------------------


def _write_labels(canvas: np.ndarray, labels: Sequence[Label], pen: Pen) -> None:
    """Write labels on the canvas in their order; each takes the free spot that hides least."""
    boxes = np.array([label.box for label in labels]).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    taken = np.zeros((0, 4), int)
    for label in labels:
        text = _fit_text(label.text, canvas.shape[1], pen)
        spots = _label_spots(label.box, text.label_size, canvas.shape[:2], pen.line)
        spots = spots[_shared_areas(spots, taken).sum(axis=1) == 0]
        hidden = _shared_areas(spots, boxes)
        readable = np.all(hidden <= areas / 2, axis=1)
        spots, hidden = spots[readable], hidden[readable].sum(axis=1)
        if text.scale < SMALLEST_FONT or len(spots) == 0:
            log.debug("No space for the label %r", label.text)
            continue
        spot = spots[np.argmin(hidden)]
        taken = np.vstack([taken, spot])
        _write_label(canvas, spot, text, label.color, pen)


def _fit_text(text: str, width: int, pen: Pen) -> FittedText:
    """Scale a text down if it is wider than the image. width: of the image, pixels."""
    padding = _label_padding(pen)
    (full_width, _), _ = cv2.getTextSize(text, FONT, pen.font, pen.stroke)
    scale = pen.font * min(1.0, (width - 2 * padding) / full_width)
    (text_width, text_height), baseline = cv2.getTextSize(text, FONT, scale, pen.stroke)
    size = (text_height + baseline + 2 * padding, text_width + 2 * padding)
    return FittedText(text, scale, text_height, size)


def _label_padding(pen: Pen) -> int:
    return pen.line + 1


def _write_label(
    canvas: np.ndarray, spot: np.ndarray, text: FittedText, color: tuple[int, ...], pen: Pen
) -> None:
    """Fill a spot with the color and write the text on it, white on dark and black on light."""
    y1, x1, y2, x2 = spot
    canvas[y1:y2, x1:x2] = color
    luminance = np.dot(color, (0.299, 0.587, 0.114))
    ink = (255, 255, 255) if luminance < 140 else (0, 0, 0)
    padding = _label_padding(pen)
    origin = (x1 + padding, y1 + padding + text.text_height)
    cv2.putText(canvas, text.text, origin, FONT, text.scale, ink, pen.stroke, cv2.LINE_AA)


def _label_spots(
    box: ArrayLike, size: tuple[int, int], shape: Sequence[int], line: int
) -> np.ndarray:
    """Return spots `[K, (y1, x1, y2, x2)]` for a label at a box, the best first.

    Above, below, at either side and inside the box, all within the image; K is 0 if the label is
    larger than the image.

    size: (height, width) of the label. shape: (H, W) of the image. line: thickness of outlines.
    """
    y1, x1, y2, x2 = np.round(np.asarray(box, float)).astype(int)
    label_height, label_width = size
    above, below = y1 - line - label_height, y2 + line
    left, right = x1 - line, x2 + line - label_width
    corners = np.array(
        [
            (above, left),
            (below, left),
            (above, right),
            (below, right),
            (y1, x2 + line),
            (y1, x1 - line - label_width),
            (y1, x1),
            (y2 - label_height, x1),
        ]
    )
    largest = np.array(shape) - size
    if largest.min() < 0:
        return np.zeros((0, 4), int)
    corners = np.clip(corners, 0, largest)
    return np.hstack([corners, corners + size])


def _shared_areas(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the intersection areas `[N, M]`, square pixels, of boxes `[N, 4]` and `[M, 4]`."""
    corner1 = np.maximum(boxes1[:, np.newaxis, :2], boxes2[np.newaxis, :, :2])
    corner2 = np.minimum(boxes1[:, np.newaxis, 2:], boxes2[np.newaxis, :, 2:])
    return np.maximum(corner2 - corner1, 0).prod(axis=2)

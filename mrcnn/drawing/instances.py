"""Instances drawn on arrays by OpenCV: masks, boxes and labels. Needs no display."""

import logging
from collections.abc import Sequence

import cv2
import numpy as np

from ..data.masks import extract_bboxes
from .inputs import as_rgb, check_enough, checked_instances, steady_colors

log = logging.getLogger("mrcnn")
FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST_FONT = 0.25  # of Hershey's 22 px capitals: below it letters run together
MASK_ALPHA = 0.4


def apply_mask(
    image: np.ndarray, mask: np.ndarray, color: Sequence[float], alpha: float = 0.5
) -> np.ndarray:
    """The image itself, its first three channels tinted in place where the mask is set.

    image: [H, W, channels] any number type with values in 0..255
    mask: [H, W] bool, 0/1, 0/255 or probabilities (set above 0.5)
    color: RGB in 0..1
    """
    inside = np.asarray(mask) > 0.5
    if inside.shape != image.shape[:2]:
        raise ValueError(
            f"mask must be as high and wide as the image. Received: mask {inside.shape}, image {image.shape}."
        )
    tint = np.array([alpha * channel * 255 for channel in color[:3]])
    pixels = image[:, :, :3]
    pixels[inside] = pixels[inside] * (1 - alpha) + tint
    return image


def draw_box(image: np.ndarray, box: Sequence[int], color) -> np.ndarray:
    """The image itself, with a 2 px outline drawn in place around a box.

    box: (y1, x1, y2, x2) pixels
    color: one value per channel, in the image's own range
    """
    return _outline_box(image, box, color, thickness=2)


def _outline_box(image, box, color, thickness):
    """Outlines a box in place: the lines lie just outside it, or on the image's border if it ends there."""
    height, width = image.shape[:2]
    y1, x1, y2, x2 = (int(round(float(v))) for v in box)
    if y2 <= y1 or x2 <= x1 or y1 >= height or x1 >= width or y2 <= 0 or x2 <= 0:
        return image  # padding, or wholly outside
    top, bottom = np.clip([y1 - thickness, y2], 0, max(height - thickness, 0))
    left, right = np.clip([x1 - thickness, x2], 0, max(width - thickness, 0))
    for y in (top, bottom):
        image[y : y + thickness, left : right + thickness] = color
    for x in (left, right):
        image[top : bottom + thickness, x : x + thickness] = color
    return image


def draw_instances(
    image: np.ndarray,
    boxes,
    masks,
    class_ids,
    class_names,
    scores=None,
    colors=None,
    captions=None,
    show_mask: bool = True,
    show_bbox: bool = True,
) -> np.ndarray:
    """uint8 [H, W, 3]: the image with its instances drawn over it. Needs no display; the input stays.

    image: [H, W] or [H, W, channels] of any number type
    boxes: [N, (y1, x1, y2, x2)] pixels
    masks: [H, W, N] bool, 0/1, 0/255 or probabilities; None draws none
    class_ids: [N] positions in class_names; negative for crowds
    scores: [N] shown after the class name
    colors: N RGB colours in 0..1; by default N well-separated hues, the same on every call
    captions: N texts in place of "class score"; "" for none
    show_mask: tint and contour. show_bbox: outlines.

    Lines and letters grow with the image. Labels stay inside it and never cover one another: where a crowd
    leaves no room, those of the lower scores are left out (their boxes and masks are drawn).
    Raises: ValueError when the inputs do not describe the same instances.
    """
    canvas = as_rgb(image)
    boxes, masks, captions = checked_instances(
        canvas.shape, boxes, masks, class_ids, class_names, scores, captions, digits=2
    )
    colors = steady_colors(len(boxes)) if colors is None else colors
    check_enough("colors", colors, len(boxes))
    colors = [tuple(round(255 * float(channel)) for channel in color[:3]) for color in colors]
    line, font = pen(canvas.shape)
    if show_mask and masks is not None:
        _paint_masks(canvas, masks, colors, line)
    drawn = [i for i in range(len(boxes)) if np.any(boxes[i])]
    for i in drawn if show_bbox else ():
        _outline_box(canvas, boxes[i], colors[i], line)
    if scores is not None:
        drawn.sort(key=lambda i: -scores[i])
    _write_labels(
        canvas, [(boxes[i], captions[i], colors[i]) for i in drawn if captions[i]], line, font
    )
    return canvas


def pen(shape) -> tuple[int, float]:
    """Line thickness in px and OpenCV font scale that suit an image of this shape."""
    side = max(shape[:2])
    return max(1, round(side / 500)), max(0.35, side / 2000)


def stroke_thickness(font: float) -> int:
    """Thickness in px of the letters' strokes at a font scale."""
    return max(1, round(1.5 * font))


def _paint_masks(canvas, masks, colors, line) -> None:
    """Tints and contours masks on the canvas, the largest first so that small ones stay visible."""
    extents = extract_bboxes(masks if masks.dtype == bool else masks > 0.5)
    areas = (extents[:, 2] - extents[:, 0]) * (extents[:, 3] - extents[:, 1])
    kernel = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    for i in np.argsort(-areas, kind="stable"):
        if areas[i] == 0:
            continue
        y1, x1, y2, x2 = extents[i]
        mask = masks[y1:y2, x1:x2, i] > 0.5
        region = canvas[y1:y2, x1:x2]
        apply_mask(region, mask, np.array(colors[i]) / 255, MASK_ALPHA)
        # The contour is the mask's own rim: pixels that erosion (with nothing beyond the crop) takes away.
        core = cv2.erode(
            mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
        )
        region[mask & (core == 0)] = colors[i]


def _write_labels(canvas, labels, line, font) -> None:
    """Writes (box, text, background colour) labels on the canvas; the first ones have the choice of place."""
    height, width = canvas.shape[:2]
    pad, stroke = line + 1, stroke_thickness(font)
    boxes = np.array([box for box, _, _ in labels]).reshape(-1, 4)
    taken = np.zeros((0, 4), int)
    for box, text, color in labels:
        (text_width, _), _ = cv2.getTextSize(text, FONT, font, stroke)
        scale = font * min(1.0, (width - 2 * pad) / text_width)
        (text_width, text_height), baseline = cv2.getTextSize(text, FONT, scale, stroke)
        size = (text_height + baseline + 2 * pad, text_width + 2 * pad)
        spots = _label_spots(box, size, (height, width), line)
        spots = spots[_overlap(spots, taken).sum(axis=1) == 0]
        if scale < SMALLEST_FONT or len(spots) == 0:
            log.debug("No room for the label %r", text)
            continue
        spot = spots[np.argmin(_overlap(spots, boxes).sum(axis=1))]  # the first that hides least
        taken = np.vstack([taken, spot])
        y1, x1, y2, x2 = spot
        canvas[y1:y2, x1:x2] = color
        dark_ground = np.dot(color, (0.299, 0.587, 0.114)) < 140
        ink = (255, 255, 255) if dark_ground else (0, 0, 0)
        cv2.putText(
            canvas, text, (x1 + pad, y1 + pad + text_height), FONT, scale, ink, stroke, cv2.LINE_AA
        )


def _label_spots(box, size, shape, line) -> np.ndarray:
    """[K, (y1, x1, y2, x2)] places for a label of `size` at a box, inside the image, the best first.

    Above, below, inside and beside it; none where the label is larger than the image.
    """
    y1, x1, y2, x2 = np.round(np.asarray(box, float)).astype(int)
    high, wide = size
    above, below, left, right = y1 - line - high, y2 + line, x1 - line, x2 + line - wide
    corners = np.array(
        [
            (above, left),
            (below, left),
            (above, right),
            (below, right),
            (y1, x2 + line),
            (y1, x1 - line - wide),
            (y1, x1),
            (y2 - high, x1),
        ]
    )
    room = np.array(shape) - size
    if room.min() < 0:
        return np.zeros((0, 4), int)
    corners = np.clip(corners, 0, room)
    return np.hstack([corners, corners + size])


def _overlap(boxes1, boxes2) -> np.ndarray:
    """[N, M] area in px that each box of the first set shares with each of the second."""
    corner1 = np.maximum(boxes1[:, np.newaxis, :2], boxes2[np.newaxis, :, :2])
    corner2 = np.minimum(boxes1[:, np.newaxis, 2:], boxes2[np.newaxis, :, 2:])
    return np.maximum(corner2 - corner1, 0).prod(axis=2)

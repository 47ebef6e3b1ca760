"""Results, comparisons with the ground truth and contact sheets as arrays, without a display.

A result is one entry of the list that `MaskRCNN.detect` returns: a dict of rois
[N, (y1, x1, y2, x2)] pixels, masks [H, W, N], class_ids [N] and scores [N], and with keypoints
keypoints [N, K, (y, x, score)].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ..data.dataset import Dataset, has_boxes_only, overrides
from ..data.masks import extract_bboxes
from ..data.result_rows import select_rows
from ..files.safe_text import printable
from .inputs import ClassNames, Color, as_boxes, as_masks, as_rgb, class_labels, steady_colors
from .instances import FONT, Pen, draw_instances, paint_crops, pen_for, to_8_bit_color

Skeleton = Sequence[Sequence[int]]  # pairs of keypoints

RESULT_SIDE = 768  # pixels; smaller images are magnified to about this
COMPARISON_SIDE = 512  # pixels; the same for each half of a comparison
GAP = 8  # pixels between the images of a page


def draw_result(
    image: ArrayLike,
    result: Mapping[str, Any],
    class_names: ClassNames,
    side: int = RESULT_SIDE,
    skeleton: Skeleton = (),
    colors: Sequence[Color] | None = None,
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw one entry of `detect`'s list on its image; see `draw_instances`. Needs no display.

    image: [H, W] or [H, W, channels]. A small one is magnified by a whole number to about `side`
        pixels, so that labels are readable and leave space for the objects.
    result: without "rois" the boxes are those of the masks; without "masks" (a box-only model)
        only boxes are drawn; "scores" are optional. Masks may also be a list of N arrays, each cut
        to the pixels that its box touches, as `detect_tiled` returns them: those of a large image
        would need too much memory as [H, W, N].
    class_names: if the background and one class, labels contain only the score.
    skeleton: pairs of keypoints, numbered from 0, that a line connects.
    colors: N RGB colors in 0..1; default: see `draw_instances`.
    captions: N labels; default `captions_of`.

    Returns: uint8 [H', W', 3].
    """
    canvas = as_rgb(image)
    keypoints = result.get("keypoints")
    crops = result["masks"] if isinstance(result.get("masks"), list) else None
    has_planes = "masks" in result and crops is None
    masks = as_masks(result["masks"], canvas.shape) if has_planes else None
    if "rois" in result:
        boxes = as_boxes(result["rois"])
    else:
        boxes = extract_bboxes(as_masks(result["masks"], canvas.shape) > 0.5)
    corners = np.floor(boxes[:, :2]).astype(int)
    factor = magnification(canvas.shape, side)
    if factor > 1:
        canvas = magnify(canvas, factor)
        masks = None if masks is None else magnify(masks, factor)
        boxes = boxes * factor
        if keypoints is not None:
            keypoints = np.asarray(keypoints) * [factor, factor, 1]
    if crops is not None:
        colors = steady_colors(len(boxes)) if colors is None else colors
        enlarged = [magnify(np.asarray(crop) > 0.5, factor) for crop in crops]
        line = pen_for(canvas.shape, boxes).line
        colors_8_bit = [to_8_bit_color(color) for color in colors]
        paint_crops(canvas, enlarged, corners * factor, colors_8_bit, line)
    if captions is None and len(class_names) == 2:
        captions = captions_of(result, class_names)
    return draw_instances(
        canvas,
        boxes,
        masks,
        result["class_ids"],
        class_names,
        result.get("scores"),
        colors=colors,
        captions=captions,
        keypoints=keypoints,
        skeleton=skeleton,
    )


def captions_of(result: Mapping[str, Any], class_names: ClassNames) -> list[str]:
    """Return the label of each detection: class and score; of an only class just the score.

    result, class_names: as for `draw_result`.
    """
    scores, class_ids = result.get("scores"), result["class_ids"]
    if len(class_names) != 2:
        return class_labels(class_ids, class_names, scores, digits=2)
    if scores is None:
        return [""] * len(class_ids)
    return [f"{score:.2f}" for score in scores]


def magnification(shape: Sequence[int], side: int = RESULT_SIDE) -> int:
    """Return the factor, a whole number, that enlarges an image (H, W, ...) to about `side`."""
    return max(1, round(side / max(shape[:2])))


def magnify(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeat each pixel of `[H, W, C]` along both sides: `[H * factor, W * factor, C]`."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def shrink(image: np.ndarray, longest: int) -> np.ndarray:
    """Return an image `[H, W, C]` whose longer side has at most `longest` pixels."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def draw_comparison(
    image: ArrayLike,
    ground_truth: Mapping[str, Any],
    detections: Mapping[str, Any],
    class_names: ClassNames,
    shown_from: float = 0.0,
    skeleton: Skeleton = (),
) -> np.ndarray:
    """Draw ground truth (left) and detections (right) on one titled page.

    image: [H, W] or [H, W, channels]; a small one is magnified, see `draw_result`.
    ground_truth, detections: results as for `draw_result`; the ground truth has no scores.
    shown_from: detections of a lower score are left out; the title shows the limit.
    skeleton: see `draw_result`.

    Returns: uint8 [H', W', 3].
    """
    title = "detections"
    if shown_from > 0:
        detections = _confident(detections, shown_from)
        title = f"detections from {shown_from:.2g} on"
    halves = []
    for result, heading in ((ground_truth, "ground truth"), (detections, title)):
        drawn = draw_result(image, result, class_names, COMPARISON_SIDE, skeleton)
        halves.append(titled(drawn, f"{heading}: {len(result['class_ids'])}"))
    return contact_sheet(halves, columns=2)


def _confident(result: Mapping[str, Any], lowest: float) -> dict[str, Any]:
    """Return the detections of a result whose score is at least `lowest`."""
    return select_rows(result, np.asarray(result["scores"]) >= lowest)


def draw_next_to_ground_truth(
    dataset: Dataset,
    image_id: int,
    image: np.ndarray,
    result: Mapping[str, Any],
    shown_from: float = 0.0,
) -> np.ndarray:
    """Draw a `draw_comparison` of a result with the ground truth that a dataset loads.

    image_id: of the dataset. image: the image that the dataset loads for this id.
    """
    boxes_only = has_boxes_only(dataset)
    load = dataset.load_bbox if boxes_only else dataset.load_mask
    shapes, class_ids = load(image_id)
    if len(class_ids) == 0:  # datasets return masks of any empty shape
        shapes = np.zeros((0, 4), np.int32)
        boxes_only = True
    ground_truth = {"rois" if boxes_only else "masks": shapes, "class_ids": class_ids}
    if "keypoints" in result and overrides(dataset, "load_keypoints"):
        count = np.shape(result["keypoints"])[1]
        keypoints = np.asarray(dataset.load_keypoints(image_id), float)
        ground_truth["keypoints"] = keypoints if len(class_ids) else np.zeros((0, count, 3))
    names, skeleton = dataset.class_names, dataset.keypoint_skeleton
    return draw_comparison(image, ground_truth, result, names, shown_from, skeleton)


def titled(image: np.ndarray, title: str) -> np.ndarray:
    """Add a white strip with a title above an image: uint8 `[H', W, 3]`."""
    title = printable(title)
    base = pen_for(image.shape)
    pen = Pen(base.line, 1.3 * base.font)
    (_, text_height), baseline = cv2.getTextSize(title, FONT, pen.font, pen.stroke)
    strip = np.full((text_height + 2 * baseline, image.shape[1], 3), 255, np.uint8)
    origin = (baseline // 2, text_height + baseline // 2)
    cv2.putText(strip, title, origin, FONT, pen.font, (0, 0, 0), pen.stroke, cv2.LINE_AA)
    return np.vstack([strip, image])


def contact_sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Arrange images of any sizes in rows of `columns` on white.

    Returns: uint8 [H, W, 3]; [0, 0, 3] without images.
    """
    if columns < 1:
        raise ValueError(f"columns must be at least 1. Received: {columns}.")
    if len(images) == 0:
        return np.zeros((0, 0, 3), np.uint8)
    images = [as_rgb(image) for image in images]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_height = max(image.shape[0] for image in images) + GAP
    cell_width = max(image.shape[1] for image in images) + GAP
    sheet = np.full((rows * cell_height - GAP, columns * cell_width - GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        y, x = row * cell_height, column * cell_width
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet

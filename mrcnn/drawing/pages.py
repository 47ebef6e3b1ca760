"""Pages of several images, as arrays: results, comparisons with the ground truth, contact sheets."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ..data.dataset import boxes_alone
from ..data.masks import extract_bboxes
from ..files.limits import printable
from .inputs import as_boxes, as_masks, as_rgb
from .instances import FONT, draw_instances, pen, stroke_thickness

RESULT_SIDE = 768  # px; smaller images are magnified to about this
COMPARISON_SIDE = 512  # px; the same for either half of a comparison


def draw_comparison(
    image: np.ndarray, truth: Mapping, detections: Mapping, class_names, shown_from: float = 0.0
) -> np.ndarray:
    """Truth at the left and detections at the right of one titled picture: uint8 [H', W', 3].

    image: [H, W] or [H, W, channels]; a small one is magnified by a whole number, so that labels can be read
    truth, detections: as from `detect`: "rois" [N, (y1, x1, y2, x2)], "masks" [H, W, N], "class_ids" [N] and,
        where known, "scores" [N]. Without "rois" the boxes are those of the masks; without "masks" boxes are drawn.
    shown_from: detections below this score are left out, and the title says so
    """
    if shown_from > 0:
        keep = np.asarray(detections["scores"]) >= shown_from
        rows = {
            key: np.asarray(detections[key])[keep]
            for key in ("rois", "class_ids", "scores")
            if key in detections
        }
        masks = (
            {"masks": np.asarray(detections["masks"])[:, :, keep]} if "masks" in detections else {}
        )
        detections = {**rows, **masks}
    found = f"detections from {shown_from:.2g} on" if shown_from > 0 else "detections"
    panes = [
        titled(
            draw_result(image, result, class_names, COMPARISON_SIDE),
            f"{title}: {len(result['class_ids'])}",
        )
        for title, result in (("truth", truth), (found, detections))
    ]
    return contact_sheet(panes, columns=2)


def draw_next_to_ground_truth(
    dataset, image_id: int, image: np.ndarray, result: Mapping, shown_from: float = 0.0
):
    """`draw_comparison` of a dataset's image, whose truth is loaded here, with one entry of `detect`'s list."""
    boxes_only = boxes_alone(dataset)
    shapes, class_ids = dataset.load_bbox(image_id) if boxes_only else dataset.load_mask(image_id)
    if len(class_ids) == 0:  # any empty shape is allowed
        shapes, boxes_only = np.zeros((0, 4), np.int32), True
    truth = {"rois" if boxes_only else "masks": shapes, "class_ids": class_ids}
    return draw_comparison(image, truth, result, dataset.class_names, shown_from)


def draw_result(
    image: np.ndarray, result: Mapping, class_names, side: int = RESULT_SIDE
) -> np.ndarray:
    """One entry of `detect`'s list drawn on its image: uint8 [H', W', 3]. Needs no display; see `draw_instances`.

    image: [H, W] or [H, W, channels]; a small one is magnified by a whole number to about `side` pixels, so that
        labels can be read and leave room for what they name
    result: "rois" [N, (y1, x1, y2, x2)], "masks" [H, W, N], "class_ids" [N] and, where known, "scores" [N].
        Without "rois" the boxes are those of the masks; without "masks" (box-only models) boxes alone are drawn.
    class_names: with a single class besides the background, labels hold only the score
    """
    picture = as_rgb(image)
    masks = as_masks(result["masks"], picture.shape) if "masks" in result else None
    boxes = as_boxes(result["rois"] if "rois" in result else extract_bboxes(masks > 0.5))
    times = max(1, round(side / max(picture.shape[:2])))
    if times > 1:
        picture = picture.repeat(times, axis=0).repeat(times, axis=1)
        boxes = boxes * times
        if masks is not None:
            planes = np.moveaxis(masks, 2, 0).repeat(times, axis=1).repeat(times, axis=2)
            masks = np.moveaxis(planes, 0, 2)
    scores, captions = result.get("scores"), None
    if len(class_names) == 2:
        captions = [""] * len(boxes) if scores is None else [f"{score:.2f}" for score in scores]
    return draw_instances(
        picture, boxes, masks, result["class_ids"], class_names, scores, captions=captions
    )


def titled(picture, title) -> np.ndarray:
    """The picture below a white strip with the title."""
    title = printable(title)
    font = 1.3 * pen(picture.shape)[1]
    stroke = stroke_thickness(font)
    (_, text_height), baseline = cv2.getTextSize(title, FONT, font, stroke)
    strip = np.full((text_height + 2 * baseline, picture.shape[1], 3), 255, np.uint8)
    foot = (baseline // 2, text_height + baseline // 2)
    cv2.putText(strip, title, foot, FONT, font, (0, 0, 0), stroke, cv2.LINE_AA)
    return np.vstack([strip, picture])


def contact_sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """uint8 [H, W, 3]: pictures of any sizes on white, `columns` to a row; [0, 0, 3] for none."""
    if columns < 1:
        raise ValueError(f"columns must be at least 1. Received: {columns}.")
    if len(pictures) == 0:
        return np.zeros((0, 0, 3), np.uint8)
    pictures = [as_rgb(picture) for picture in pictures]
    columns = min(columns, len(pictures))
    gap = 8
    high = max(picture.shape[0] for picture in pictures) + gap
    wide = max(picture.shape[1] for picture in pictures) + gap
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * high - gap, columns * wide - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * high, i % columns * wide
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet

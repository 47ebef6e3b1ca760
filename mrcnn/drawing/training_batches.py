"""Training images as the network receives them, with the targets that it learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ..config import Config
from ..data.check_report import count_noun
from ..data.image import unmold_image
from ..data.masks import expand_mask
from .pages import contact_sheet, draw_result, magnification, shrink, titled

SIDE = 400  # pixels of an image on the page
COLUMNS = 4
BRIGHT = 160  # the mean of the pixels from which lines are black


def draw_training_images(
    examples: Sequence[Mapping[str, np.ndarray]],
    class_names: Sequence[str],
    config: Config,
    anchors: Sequence[np.ndarray],
) -> np.ndarray:
    """Draw images of training batches with boxes, masks and, as thin lines, the positive anchors.

    examples: one per image, the network's inputs by name without their batch axis.
    class_names: background first. anchors: of each image `[A, (y1, x1, y2, x2)]` pixels; of a
        network without an RPN [0, 4].

    Returns: a page, uint8 [H, W, 3].
    """
    tiles = []
    for example, image_anchors in zip(examples, anchors, strict=True):
        tiles.append(_draw_example(example, class_names, config, image_anchors))
    return contact_sheet(tiles, COLUMNS)


def _draw_example(
    example: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    config: Config,
    anchors: np.ndarray,
) -> np.ndarray:
    image = example["input_image"]
    if image.dtype != np.uint8:
        image = unmold_image(image, config)
    objects = _objects(example, image.shape, config)
    canvas = draw_result(image, objects, class_names, SIDE, config.KEYPOINT_SKELETON)
    counts = []
    if "input_gt_class_ids" in example:
        counts.append(count_noun(len(objects["class_ids"]), "object"))
    if "input_rpn_match" in example:
        positive = anchors[example["input_rpn_match"][:, 0] == 1]
        canvas = _with_anchors(canvas, positive * magnification(image.shape, SIDE))
        counts.append(count_noun(len(positive), "anchor"))
    return titled(shrink(canvas, SIDE), ", ".join(counts))


def _objects(
    example: Mapping[str, np.ndarray], shape: Sequence[int], config: Config
) -> dict[str, Any]:
    """Return the ground truth of an example as a result, without the padding."""
    class_ids = example.get("input_gt_class_ids", np.zeros(0, int))
    present = np.flatnonzero(class_ids)
    boxes = example.get("input_gt_boxes", np.zeros((0, 4)))[present]
    result: dict[str, Any] = {"rois": boxes, "class_ids": class_ids[present]}
    if "input_gt_masks" in example:
        masks = example["input_gt_masks"][:, :, present]
        if config.USE_MINI_MASK:
            masks = expand_mask(np.round(boxes).astype(int), masks, shape)
        result["masks"] = masks
    if "input_gt_keypoints" in example:
        result["keypoints"] = example["input_gt_keypoints"][present]
    return result


def _with_anchors(canvas: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Outline boxes in half transparent white, or in black on a bright image."""
    ink = 0 if canvas.mean() > BRIGHT else 255
    outlined = canvas.copy()
    for y1, x1, y2, x2 in np.round(anchors).astype(int).tolist():
        cv2.rectangle(outlined, (x1, y1), (x2 - 1, y2 - 1), (ink, ink, ink), 1)
    return cv2.addWeighted(canvas, 0.4, outlined, 0.6, 0)

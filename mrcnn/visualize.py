"""matterport's `visualize.*` names, imported from `mrcnn.drawing`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .drawing.curves import LOSS_NAMES, plot_history, plot_overlaps, plot_precision_recall
from .drawing.figures import (
    HEADLESS_BACKENDS,
    display_images,
    display_instances,
    display_top_masks,
    draw_boxes,
    draw_rois,
)
from .drawing.heat_maps import draw_heat_maps
from .drawing.inputs import ClassNames, as_boxes, as_masks, check_counts, random_colors
from .drawing.instances import apply_mask, draw_box, draw_instances
from .drawing.pages import (
    contact_sheet,
    draw_comparison,
    draw_next_to_ground_truth,
    draw_result,
)
from .drawing.tables import display_table, display_weight_stats
from .evaluation.matching import compute_matches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "HEADLESS_BACKENDS",
    "LOSS_NAMES",
    "apply_mask",
    "contact_sheet",
    "display_differences",
    "display_images",
    "display_instances",
    "display_table",
    "display_top_masks",
    "display_weight_stats",
    "draw_box",
    "draw_boxes",
    "draw_comparison",
    "draw_heat_maps",
    "draw_instances",
    "draw_next_to_ground_truth",
    "draw_result",
    "draw_rois",
    "plot_history",
    "plot_overlaps",
    "plot_precision_recall",
    "random_colors",
]


class _Objects(NamedTuple):
    """Objects or detections of one image, without padding.

    boxes: [N, 4]. class_ids: [N]. masks: [H, W, N] bool. scores: [N].
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    masks: np.ndarray
    scores: np.ndarray


def display_differences(
    image: ArrayLike,
    gt_box: ArrayLike,
    gt_class_id: ArrayLike,
    gt_mask: ArrayLike,
    pred_box: ArrayLike,
    pred_class_id: ArrayLike,
    pred_score: ArrayLike,
    pred_mask: ArrayLike,
    class_names: ClassNames,
    title: str = "",
    ax: Axes | None = None,
    show_mask: bool = True,
    show_box: bool = True,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> None:
    """Draw ground truth in green and predictions in red, each captioned "score / IoU".

    The IoU is that with the matched object, or the highest with any object if there is no match.

    image, *_box, *_class_id, *_mask: as for `display_instances`; zero boxes are padding.
    iou_threshold, score_threshold: of the matching, see `mrcnn.utils.compute_matches`.
    """
    gt = _without_padding(image, gt_box, gt_class_id, gt_mask)
    pred = _without_padding(image, pred_box, pred_class_id, pred_mask, pred_score)
    _, matches, overlaps = compute_matches(
        *gt[:3],
        pred.boxes,
        pred.class_ids,
        pred.scores,
        pred.masks,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
    )
    display_instances(
        image,
        np.concatenate([gt.boxes, pred.boxes]),
        np.concatenate([gt.masks, pred.masks], axis=2),
        np.concatenate([gt.class_ids, pred.class_ids]),
        class_names,
        title=title or "Ground truth (green) and detections (red), captions: score / IoU",
        ax=ax,
        show_mask=show_mask,
        show_bbox=show_box,
        captions=[""] * len(gt.boxes) + _match_captions(pred.scores, matches, overlaps),
        colors=[(0, 1, 0, 0.8)] * len(gt.boxes) + [(1, 0, 0, 1)] * len(pred.boxes),
    )


def _match_captions(
    scores: np.ndarray, matches: np.ndarray, overlaps: Sequence[np.ndarray] | np.ndarray
) -> list[str]:
    """Return "score / IoU" for each prediction.

    scores: [N]. matches: [N] index of an object or -1. overlaps: [N, M] IoU. The last two are
    sorted by falling score, see `compute_matches`.
    """
    captions = [""] * len(scores)
    order = np.argsort(scores)[::-1]
    for i, match, ious in zip(order, matches, overlaps, strict=True):
        iou = ious[int(match)] if match > -1 else max(ious, default=0)
        captions[i] = f"{scores[i]:.2f} / {iou:.2f}"
    return captions


def _without_padding(
    image: ArrayLike,
    boxes: ArrayLike,
    class_ids: ArrayLike,
    masks: ArrayLike,
    scores: ArrayLike | None = None,
) -> _Objects:
    """Convert arrays and remove the instances whose box is zero; scores default to zeros."""
    boxes = as_boxes(boxes)
    class_ids = np.asarray(class_ids, int)
    scores = np.zeros(len(boxes)) if scores is None else np.asarray(scores)
    masks = as_masks(masks if len(boxes) else [], np.shape(image))
    planes = np.moveaxis(masks, 2, 0)
    check_counts(boxes=boxes, masks=planes, class_ids=class_ids, scores=scores)
    real = np.any(boxes != 0, axis=1)
    return _Objects(boxes[real], class_ids[real], masks[:, :, real] > 0.5, scores[real])

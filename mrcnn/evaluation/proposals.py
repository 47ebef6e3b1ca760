"""Recall of proposals: how many objects the best boxes of a region proposal network cover."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ..data.dataset import Dataset
from ..nn import boxes
from .images import FailedImages, evaluated, failure_lines, select_images
from .summary import NO_OBJECTS, without_nan

PROPOSAL_COUNTS = (100, 1000)
RECALL_IOUS = tuple(i / 100 for i in range(50, 100, 5))  # COCO's 0.50, 0.55, ..., 0.95


@dataclass
class ProposalRecall:
    """The share of objects that the best proposals of each image cover.

    recall: count of proposals -> {"AR": mean over `RECALL_IOUS`, "R50": at IoU 0.5, "R75": at
        0.75}; nan without objects.
    images, objects: how many were evaluated, without crowds.
    most: the highest number of proposals in an image.
    seconds: detection and matching together.
    failed: images that could not be read and are not counted, as `Evaluation.failed`.
    """

    recall: dict[int, dict[str, float]]
    images: int
    objects: int
    most: int
    seconds: float
    failed: list[dict] = field(default_factory=list)

    def table(self) -> str:
        """Return the metrics as text."""
        lines = [
            f"{self.images} images, {self.objects} objects, {self.seconds:.1f} s",
            "Recall of the best proposals, whatever the class: AR is the mean over IoU 0.50:0.95.",
            *failure_lines(self.failed),
        ]
        if self.objects == 0:
            lines.append(NO_OBJECTS)
        lines += ["", "proposals     AR  IoU .5  IoU .75"]
        for count, row in self.recall.items():
            lines.append(f"{count:9,d}  {row['AR']:5.3f}  {row['R50']:6.3f}  {row['R75']:7.3f}")
        if self.most < max(self.recall):
            lines.append(
                f"No image had more than {self.most:,} proposals: POST_NMS_ROIS_INFERENCE, "
                "PRE_NMS_LIMIT and RPN_NMS_THRESHOLD bound them."
            )
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """Return the metrics as a dict for strict JSON: undefined ones are None."""
        return without_nan(
            {
                "images": self.images,
                "objects": self.objects,
                "most_proposals": self.most,
                "seconds": self.seconds,
                "failed": self.failed,
                "proposal_recall": {str(count): row for count, row in self.recall.items()},
            }
        )


def match_proposals(proposals: ArrayLike, gt_boxes: ArrayLike) -> np.ndarray:
    """Return the IoU of each object with its proposal; pairs are formed by falling IoU.

    Each proposal and each object is in one pair, as in Detectron's evaluate_box_proposals.

    proposals: [M, (y1, x1, y2, x2)] pixels. gt_boxes: [N, (y1, x1, y2, x2)] pixels.

    Returns: [N] IoU, 0 for objects without a proposal.
    """
    proposals = np.asarray(proposals, float).reshape(-1, 4)
    gt_boxes = np.asarray(gt_boxes, float).reshape(-1, 4)
    overlaps = np.asarray(boxes.iou(proposals, gt_boxes))  # [M, N]
    ious = np.zeros(len(gt_boxes))
    for _ in range(min(overlaps.shape)):
        proposal, gt = np.unravel_index(np.argmax(overlaps), overlaps.shape)
        ious[gt] = max(0.0, overlaps[proposal, gt])
        overlaps[proposal, :] = -1
        overlaps[:, gt] = -1
    return ious


def proposal_recall(
    detect: Callable[[np.ndarray], dict[str, np.ndarray]],
    dataset: Dataset,
    image_ids: Iterable[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    counts: Sequence[int] = PROPOSAL_COUNTS,
) -> ProposalRecall:
    """Measure the share of a dataset's objects that the best proposals cover.

    detect: image [H, W, C] -> dict of rois [N, (y1, x1, y2, x2)] pixels and scores [N], as a model
        with RPN_ONLY returns: `lambda image: model.detect([image])[0]`.
    dataset: prepared; the boxes are those of its `load_bbox`, by default those of its masks.
        Crowds, and boxes without area, are left out.
    image_ids: default all images. limit: only the first ones. progress: show a progress bar.
    counts: numbers of best proposals per image, one recall each.

    An image whose pixels or annotations cannot be read is logged and left out
    (`ProposalRecall.failed`).

    Raises: ValueError if there is no image to evaluate; the error of the first image if no image
        can be read.
    """
    start = time.perf_counter()
    ids = select_images(dataset, image_ids, limit)
    failed = FailedImages(dataset)
    ious: dict[int, list[np.ndarray]] = {count: [np.zeros(0)] for count in counts}
    objects = most = 0
    for image_id in evaluated(ids, progress):
        loaded = failed.attempt(image_id, _load_image_and_boxes, dataset, image_id)
        if loaded is None:
            continue
        image, gt_boxes = loaded
        result = detect(image)
        order = np.argsort(-np.asarray(result["scores"]), kind="stable")
        proposals = np.asarray(result["rois"], float).reshape(-1, 4)[order]
        most = max(most, len(proposals))
        objects += len(gt_boxes)
        for count in counts:
            ious[count].append(match_proposals(proposals[:count], gt_boxes))
    if len(failed.errors) == len(ids):
        failed.raise_first()
    return ProposalRecall(
        {count: _recalls(np.concatenate(ious[count])) for count in counts},
        images=len(ids) - len(failed.errors),
        objects=objects,
        most=most,
        seconds=time.perf_counter() - start,
        failed=failed.entries(),
    )


def _load_image_and_boxes(dataset: Dataset, image_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Load an image and its boxes `[N, 4]`, without crowds and boxes without area."""
    image = dataset.load_image(image_id)
    gt_boxes, class_ids = dataset.load_bbox(image_id)
    gt_boxes = np.asarray(gt_boxes, float).reshape(-1, 4)
    class_ids = np.asarray(class_ids).reshape(-1)
    counted = (class_ids > 0) & (np.asarray(boxes.area(gt_boxes)) > 0)
    return image, gt_boxes[counted]


def _recalls(ious: np.ndarray) -> dict[str, float]:
    """Return AR, R50 and R75 of the IoUs of all objects with their proposals."""
    if len(ious) == 0:
        return dict.fromkeys(("AR", "R50", "R75"), math.nan)
    at = {iou: float(np.mean(ious >= iou)) for iou in RECALL_IOUS}
    return {"AR": float(np.mean(list(at.values()))), "R50": at[0.5], "R75": at[0.75]}

"""Recall of proposals: how many objects the best boxes of the RPN cover."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

from ..data.dataset import Dataset
from ..nn import boxes
from .evaluate import _failed_entry, _failed_lines, _log_failure, _without_nan

PROPOSAL_COUNTS = (100, 1000)
RECALL_IOUS = tuple(i / 100 for i in range(50, 100, 5))  # COCO's 0.50, 0.55, ..., 0.95


@dataclass
class ProposalRecall:
    """How many objects the best proposals of an image cover; `table()` for people, `to_dict()` for JSON.

    recall: count -> {"AR": mean over `RECALL_IOUS`, "R50": at IoU 0.5, "R75": at 0.75}; nan without objects.
    images, objects: how many were looked at, crowds left out. most: proposals of the image that has most.
    seconds: detection and matching together. failed: as of `Evaluation`.
    """

    recall: dict[int, dict[str, float]]
    images: int
    objects: int
    most: int
    seconds: float
    failed: list[dict] = field(default_factory=list)

    def table(self) -> str:
        """The report as text."""
        lines = [
            f"{self.images} images, {self.objects} objects, {self.seconds:.1f} s",
            "Recall of the best proposals, whatever the class: AR is the mean over IoU 0.50:0.95.",
            *_failed_lines(self.failed),
        ]
        if self.objects == 0:
            lines.append("These images hold no objects, so every figure is undefined (nan).")
        lines += ["", "proposals     AR  IoU .5  IoU .75"]
        for count, row in self.recall.items():
            lines.append(f"{count:9,d}  {row['AR']:5.3f}  {row['R50']:6.3f}  {row['R75']:7.3f}")
        if self.most < max(self.recall):
            lines.append(
                f"No image had more than {self.most:,} proposals: POST_NMS_ROIS_INFERENCE, PRE_NMS_LIMIT and "
                "RPN_NMS_THRESHOLD bound them."
            )
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """The report as a dict that strict JSON can hold: undefined figures are None."""
        recall = {str(count): row for count, row in self.recall.items()}
        counts = {
            "images": self.images,
            "objects": self.objects,
            "most_proposals": self.most,
            "seconds": self.seconds,
        }
        counts["failed"] = self.failed
        return _without_nan({**counts, "proposal_recall": recall})


def match_proposals(proposals: np.ndarray, gt_boxes: np.ndarray) -> np.ndarray:
    """The IoU with which each object is covered when pairs are taken by falling IoU, each box and object once.

    As Detectron's evaluate_box_proposals pairs them. proposals: [M, (y1, x1, y2, x2)] pixels.
    gt_boxes: [N, (y1, x1, y2, x2)] pixels. Returns: [N] IoU, 0 for objects that no proposal is left for.
    """
    overlaps = boxes.iou(
        np.asarray(proposals, float).reshape(-1, 4), np.asarray(gt_boxes, float).reshape(-1, 4)
    )
    found = np.zeros(overlaps.shape[1])
    for _ in range(min(overlaps.shape)):
        box, gt = np.unravel_index(np.argmax(overlaps), overlaps.shape)
        found[gt] = max(0.0, overlaps[box, gt])
        overlaps[box, :] = overlaps[:, gt] = -1
    return found


def proposal_recall(
    detect: Callable[[np.ndarray], dict[str, np.ndarray]],
    dataset: Dataset,
    image_ids: Iterable[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    counts: Sequence[int] = PROPOSAL_COUNTS,
) -> ProposalRecall:
    """How many of a dataset's objects the best proposals cover, at several numbers of proposals an image.

    detect: image [H, W, C] -> dict with rois [N, (y1, x1, y2, x2)] pixels and scores [N], as a model with RPN_ONLY
        gives: `lambda image: model.detect([image])[0]`.
    dataset: prepared; the boxes are those of its `load_bbox`, which by default are those of its masks. Crowds, and
        boxes without area, are left out.
    image_ids: default all images. limit: only the first so many of them. progress: show a progress bar.
    counts: how many of the best proposals of each image are looked at.

    An image whose pixels or annotations cannot be read is logged and left out (`ProposalRecall.failed`).

    Raises: ValueError when there is no image to evaluate; the first image's own error if none can be read.
    """
    start = time.perf_counter()
    ids = [int(i) for i in (dataset.image_ids if image_ids is None else image_ids)][:limit]
    if not ids:
        raise ValueError(
            f"An evaluation needs at least one image. Received: a dataset of {len(dataset.image_ids)} "
            f"images, limit={limit}. Try a larger limit, or check that the dataset was filled and prepared."
        )
    found, most = {count: [np.zeros(0)] for count in counts}, 0
    failed: dict[int, Exception] = {}
    bar = {"description": "Evaluating", "console": Console(stderr=True), "disable": not progress}
    for image_id in track(ids, **bar):
        try:
            image = dataset.load_image(image_id)
            gt_boxes, class_ids = dataset.load_bbox(image_id)
        except Exception as error:  # these may be the user's own, which raise anything
            failed[image_id] = _log_failure(dataset, image_id, error)
            continue
        result = detect(image)
        proposals = np.asarray(result["rois"], float).reshape(-1, 4)
        proposals = proposals[np.argsort(-np.asarray(result["scores"]), kind="stable")]
        most = max(most, len(proposals))
        gt_boxes = np.asarray(gt_boxes, float).reshape(-1, 4)
        gt_boxes = gt_boxes[(np.asarray(class_ids).reshape(-1) > 0) & (boxes.area(gt_boxes) > 0)]
        for count, ious in found.items():
            ious.append(match_proposals(proposals[:count], gt_boxes))
    if len(failed) == len(ids):
        raise next(iter(failed.values()))
    return ProposalRecall(
        {count: _recalls(np.concatenate(ious)) for count, ious in found.items()},
        images=len(ids) - len(failed),
        objects=sum(map(len, next(iter(found.values())))),
        most=most,
        seconds=time.perf_counter() - start,
        failed=[_failed_entry(dataset, image_id, error) for image_id, error in failed.items()],
    )


def _recalls(ious: np.ndarray) -> dict[str, float]:
    """AR, R50 and R75 of the IoUs with which objects are covered."""
    if len(ious) == 0:
        return dict.fromkeys(("AR", "R50", "R75"), math.nan)
    at = {iou: float(np.mean(ious >= iou)) for iou in RECALL_IOUS}
    return {"AR": float(np.mean(list(at.values()))), "R50": at[0.5], "R75": at[0.75]}

"""Score of Kaggle's 2018 Data Science Bowl: TP / (TP + FP + FN), the mean over IoU 0.5 to 0.95."""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from .scores import ious, load_coco, pycocotools_classes, shape_of

THRESHOLDS = np.arange(50, 100, 5) / 100  # a pair counts if its IoU is above


def image_scores(
    ground_truth: dict, results: list[dict], kind: str, confidence: float
) -> dict[int, float]:
    """Compute the score of each image.

    Detections and objects are matched one to one within their class, the highest IoU first. All
    detections from the confidence on count. Crowds are no objects, and a detection of which half
    lies in a crowd of its class is ignored.

    ground_truth, results, kind: as for `scores.coco_scores`.

    Returns: image id -> score in 0..1; 1 for an image without objects and without detections.
    """
    coco_class, _ = pycocotools_classes()
    shown = [entry for entry in results if entry["score"] >= confidence]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt, detected = load_coco(ground_truth, shown, kind, coco_class)
    scores = {}
    for image_id in sorted(coco_gt.getImgIds()):
        annotations = _by_category(coco_gt, image_id)
        found = _by_category(detected, image_id)
        counts = np.zeros((3, len(THRESHOLDS)), int)
        for category_id in annotations.keys() | found.keys():
            crowds = [entry for entry in annotations[category_id] if entry.get("iscrowd")]
            objects = [entry for entry in annotations[category_id] if not entry.get("iscrowd")]
            counts += _counts(
                _shapes(detected, found[category_id], kind),
                _shapes(coco_gt, objects, kind),
                _shapes(coco_gt, crowds, kind),
            )
        scores[int(image_id)] = score(*counts)
    return scores


def mean_score(scores: Mapping[int, float]) -> float:
    """Return the mean over images, as Kaggle ranked; nan without images."""
    return float(np.mean(list(scores.values()))) if scores else math.nan


def score(hits: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> float:
    """Return the mean of TP / (TP + FP + FN) over the thresholds; 1 without objects and detections.

    hits, wrong, missed: [thresholds], TP, FP and FN of one image.
    """
    total = hits + wrong + missed
    return float(np.mean(np.where(total == 0, 1.0, hits / np.maximum(total, 1))))


def _by_category(coco: Any, image_id: int) -> defaultdict[int, list[dict]]:
    """Return the annotations of an image by category id."""
    groups = defaultdict(list)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
        groups[annotation["category_id"]].append(annotation)
    return groups


def _shapes(coco: Any, annotations: list[dict], kind: str) -> list[Any]:
    return [shape_of(coco, annotation, kind) for annotation in annotations]


def _counts(found: list[Any], objects: list[Any], crowds: list[Any]) -> np.ndarray:
    """Return TP, FP and FN of one class in one image, `[3, thresholds]`, from boxes or RLEs."""
    in_crowds = ious(found, crowds, crowds=True).max(axis=1, initial=0)
    overlaps = ious(found, objects)[in_crowds < 0.5]
    hits = (_matched_ious(overlaps)[:, None] > THRESHOLDS).sum(axis=0)
    return np.stack([hits, len(overlaps) - hits, len(objects) - hits])


def _matched_ious(overlaps: np.ndarray) -> np.ndarray:
    """Match rows and columns one to one, the highest IoU first; return the IoUs of the pairs.

    The pairs above a threshold are those that a matching with only them would give.
    """
    matched = []
    remaining = overlaps.copy()
    while remaining.max(initial=0) > 0:
        row, column = np.unravel_index(np.argmax(remaining), remaining.shape)
        matched.append(remaining[row, column])
        remaining[row] = 0
        remaining[:, column] = 0
    return np.array(matched)

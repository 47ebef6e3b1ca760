"""Pascal VOC's average precision by the rules of 2007 and of 2010."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any, NamedTuple

import numpy as np

from .scores import MATCH_IOU, ious, load_coco, pycocotools_classes, shape_of


class VocAP(NamedTuple):
    """Average precision as the mean at eleven recalls (2007), and as the area (2010)."""

    eleven_points: float
    area: float


def voc_ap(hits: np.ndarray, objects: int) -> VocAP:
    """Compute VOC's average precision of ranked detections; nan without objects.

    hits: [M] whether each detection matches an object, highest score first.
    objects: number of objects in the ground truth.
    """
    if objects == 0:
        return VocAP(math.nan, math.nan)
    matched = np.cumsum(np.asarray(hits, bool))
    precision = matched / np.arange(1, len(matched) + 1)
    # The highest precision at that recall or a higher one
    best = np.maximum.accumulate(precision[::-1])[::-1]
    eleven_points = 0.0
    for tenth in range(11):
        reached = best[10 * matched >= tenth * objects]  # recall >= tenth / 10, without rounding
        if len(reached):
            eleven_points += float(reached[0])
    rises = np.diff(matched, prepend=0) > 0  # recall rises by 1 / objects at each hit
    return VocAP(eleven_points / 11, float(best[rises].sum()) / objects)


def voc_scores(ground_truth: dict, results: list[dict], kind: str) -> dict[int, VocAP]:
    """Compute VOC's AP at IoU 0.5 of every category id.

    As VOC defines it, a detection is compared with the object of its class that it overlaps
    most, and a second detection of the same object is wrong. Objects marked "difficult", and
    crowds, are ignored: a detection of one is neither right nor wrong.

    ground_truth, results, kind: as for `scores.coco_scores`. Annotations may have "difficult", and
        "voc_bbox" for the annotated box if "bbox" is that of the mask. All detections count.
    """
    coco_class, _ = pycocotools_classes()
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt, detected = load_coco(ground_truth, results, kind, coco_class)
    scores = {}
    for category_id in sorted(coco_gt.getCatIds()):
        ranked: list[tuple[float, bool]] = []
        objects = 0
        for image_id in coco_gt.getImgIds():
            annotations = _annotations(coco_gt, image_id, category_id)
            counted = [_is_counted(annotation) for annotation in annotations]
            objects += sum(counted)
            entries = _annotations(detected, image_id, category_id)
            entries.sort(key=lambda entry: -entry["score"])
            overlaps = ious(
                [shape_of(detected, entry, kind) for entry in entries],
                [_voc_shape(coco_gt, annotation, kind) for annotation in annotations],
            )
            for entry, hit in zip(entries, _voc_hits(overlaps, counted), strict=True):
                if hit is not None:
                    ranked.append((entry["score"], hit))
        ranked.sort(key=lambda pair: -pair[0])
        hits = np.array([hit for _, hit in ranked], bool)
        scores[int(category_id)] = voc_ap(hits, objects)
    return scores


def _annotations(coco: Any, image_id: int, category_id: int) -> list[dict]:
    """Return the annotations of one class in one image."""
    return coco.loadAnns(coco.getAnnIds(imgIds=[image_id], catIds=[category_id]))


def _is_counted(annotation: dict) -> bool:
    return not (annotation.get("difficult") or annotation.get("iscrowd"))


def _voc_shape(coco: Any, annotation: dict, kind: str) -> Any:
    """Return the annotated box of an object if it has one, else `shape_of`."""
    if kind == "bbox" and "voc_bbox" in annotation:
        return annotation["voc_bbox"]
    return shape_of(coco, annotation, kind)


def _voc_hits(overlaps: np.ndarray, counted: list[bool]) -> list[bool | None]:
    """Judge the detections of one image and class: right, wrong, or None for ignored.

    overlaps: [M, N] IoU, highest score first. counted: N, False for objects to be ignored.
    """
    hits: list[bool | None] = []
    matched: set[int] = set()
    for row in overlaps:
        best = int(np.argmax(row)) if len(row) else -1
        if best < 0 or row[best] < MATCH_IOU:
            hits.append(False)
        elif not counted[best]:
            hits.append(None)
        else:
            hits.append(best not in matched)
            matched.add(best)
    return hits

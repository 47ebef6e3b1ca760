"""Matches at IoU 0.5 in a whole dataset: the best confidence, and which classes are confused."""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from .scores import MATCH_IOU, ious, load_coco, pycocotools_classes, shape_of


@dataclass
class Matches:
    """Detections and the objects they match at IoU 0.5, within classes, by COCO's matching.

    Detections are sorted by falling score. Those on crowds, and those that are not among the 100
    best of an image and class, are left out.

    class_ids: category ids, ascending.
    image_ids, category_ids: [M], of the detections.
    object_ids: [M] annotation id of the matched object, or 0.
    result_ids: [M] index in the results.
    scores: [M].
    objects: annotation id -> (image id, category id), without crowds.
    detected_shapes: M boxes or RLEs. object_shapes: annotation id -> box or RLE.
    """

    class_ids: list[int]
    image_ids: np.ndarray
    category_ids: np.ndarray
    object_ids: np.ndarray
    result_ids: np.ndarray
    scores: np.ndarray
    objects: dict[int, tuple[int, int]]
    detected_shapes: list[Any]
    object_shapes: dict[int, Any]


def match(ground_truth: dict, results: list[dict], kind: str) -> Matches:
    """Match detections with objects at IoU 0.5 by pycocotools; arguments as for `coco_scores`."""
    coco_class, evaluation_class = pycocotools_classes()
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt, detected = load_coco(ground_truth, results, kind, coco_class)
        evaluation = evaluation_class(coco_gt, detected, kind)
        evaluation.params.iouThrs = np.array([MATCH_IOU])
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
    rows: list[tuple[int, int, int, int]] = []
    scores: list[float] = []
    objects: dict[int, tuple[int, int]] = {}
    for cell in evaluation.evalImgs:  # one per image and class, None if both sides are empty
        if cell is None:
            continue
        image_id, category_id = int(cell["image_id"]), int(cell["category_id"])
        for object_id, ignored in zip(cell["gtIds"], cell["gtIgnore"], strict=True):
            if not ignored:
                objects[object_id] = (image_id, category_id)
        for d in np.flatnonzero(~cell["dtIgnore"][0]):
            object_id = int(cell["dtMatches"][0, d])
            rows.append((image_id, category_id, object_id, cell["dtIds"][d] - 1))
            scores.append(cell["dtScores"][d])
    order = np.argsort(-np.array(scores, float), kind="stable")
    image_ids, category_ids, object_ids, result_ids = np.array(rows, int).reshape(-1, 4)[order].T
    return Matches(
        class_ids=sorted(int(category["id"]) for category in ground_truth["categories"]),
        image_ids=image_ids,
        category_ids=category_ids,
        object_ids=object_ids,
        result_ids=result_ids,
        scores=np.array(scores, float)[order],
        objects=objects,
        detected_shapes=[shape_of(detected, detected.anns[i + 1], kind) for i in result_ids],
        object_shapes={i: shape_of(coco_gt, coco_gt.anns[i], kind) for i in objects},
    )


# --- The best confidence ------------------------------------------------------------------------


@dataclass
class Confidence:
    """The score of the highest F1 at IoU 0.5, and the metrics of detections from that score on.

    score: nan, like the other values, without objects or detections.
    """

    score: float
    f1: float
    precision: float
    recall: float


def best_confidence(matches: Matches, class_id: int | None = None) -> Confidence:
    """Return the confidence of the highest F1 = 2 TP / (detections + objects).

    The highest confidence wins if several give the same F1. If no detection matches, no
    confidence is better than another: the score is nan and F1 is 0.

    class_id: of one class; default all classes together.
    """
    if class_id is None:
        chosen = np.ones(len(matches.scores), bool)
        objects = len(matches.objects)
    else:
        chosen = matches.category_ids == class_id
        objects = sum(category == class_id for _, category in matches.objects.values())
    scores = matches.scores[chosen]
    hits = matches.object_ids[chosen] != 0
    if not objects or not len(hits):
        return Confidence(math.nan, math.nan, math.nan, math.nan)
    if not hits.any():
        return Confidence(math.nan, 0.0, 0.0, 0.0)
    true_positives = np.cumsum(hits)
    shown = np.arange(1, len(hits) + 1)
    f1 = 2 * true_positives / (shown + objects)
    f1[:-1][scores[1:] == scores[:-1]] = -1  # a threshold cannot separate equal scores
    best = int(np.argmax(f1))
    correct = int(true_positives[best])
    return Confidence(float(scores[best]), float(f1[best]), correct / (best + 1), correct / objects)


# --- Confusions ---------------------------------------------------------------------------------


def confusion_matrix(matches: Matches, confidence: float) -> np.ndarray:
    """Count which class was detected as which, at IoU 0.5, from a confidence on.

    Detections are matched within their class first, as for AP. The rest is matched across
    classes by falling IoU.

    Returns: int [classes + 1, classes + 1], rows ground truth and columns detected, classes by
        category id. The last column counts missed objects, the last row detections without an
        object.
    """
    position = {category_id: k for k, category_id in enumerate(matches.class_ids)}
    background = len(position)
    counts = np.zeros((background + 1, background + 1), int)
    shown = np.flatnonzero(matches.scores >= confidence)
    missed: dict[int, list[int]] = defaultdict(list)  # image id -> annotation ids
    wrong: dict[int, list[int]] = defaultdict(list)  # image id -> indices of detections
    for i in shown:
        if matches.object_ids[i]:
            k = position[int(matches.category_ids[i])]
            counts[k, k] += 1
        else:
            wrong[int(matches.image_ids[i])].append(int(i))
    matched = set(matches.object_ids[shown].tolist())
    for object_id, (image_id, _) in matches.objects.items():
        if object_id not in matched:
            missed[image_id].append(object_id)
    for image_id in {**wrong, **missed}:
        for object_id, i in _pair_across_classes(matches, missed[image_id], wrong[image_id]):
            row = column = background
            if object_id is not None:
                row = position[matches.objects[object_id][1]]
            if i is not None:
                column = position[int(matches.category_ids[i])]
            counts[row, column] += 1
    return counts


def _pair_across_classes(
    matches: Matches, objects: list[int], detections: list[int]
) -> list[tuple[int | None, int | None]]:
    """Pair objects and detections of one image at IoU 0.5 or more, the highest IoU first.

    Returns: (annotation id, index of a detection); None for the missing partner.
    """
    overlaps = ious(
        [matches.detected_shapes[i] for i in detections],
        [matches.object_shapes[object_id] for object_id in objects],
    )
    pairs: list[tuple[int | None, int | None]] = []
    free_detections = dict.fromkeys(detections)  # an ordered set
    free_objects = dict.fromkeys(objects)
    for cell in np.argsort(-overlaps, axis=None, kind="stable"):
        row, column = divmod(int(cell), len(objects))
        if overlaps[row, column] < MATCH_IOU:
            break
        detection, object_id = detections[row], objects[column]
        if detection in free_detections and object_id in free_objects:
            pairs.append((object_id, detection))
            del free_detections[detection], free_objects[object_id]
    pairs += [(object_id, None) for object_id in free_objects]
    pairs += [(None, detection) for detection in free_detections]
    return pairs

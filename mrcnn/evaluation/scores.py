"""Truth and detections of a whole data set to figures: COCO's, VOC's, the best confidence, the confusions.

Everything here takes the truth as a COCO instances dict (`evaluate.dataset_to_coco` makes it, or a file holds it) and
the detections as COCO result entries (`evaluate.coco_results`), compared by box ("bbox") or mask ("segm"). COCO's own
numbers are pycocotools': 101 recall points, ten IoU thresholds, and at most the 100 best detections of each image and
class. faster-coco-eval computes the same in a fraction of the time and takes over where it is installed; its figures
differ by less than 1e-15, because pycocotools adds 2e-16 to what it divides by.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from pycocotools import coco as plain_coco
from pycocotools import cocoeval as plain_cocoeval
from pycocotools import mask as coco_mask

COCO_MAX_DETECTIONS = (
    100  # per image and class: the cap of COCO's protocol, kept so that figures compare
)
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
CURVE_IOUS = (0.5, 0.75)
RECALLS = np.linspace(0, 1, 101)  # where COCO reads precision off the curve
MATCH_IOU = 0.5  # from which a detection has found an object: VOC, confidences and confusions


# --- COCO ---------------------------------------------------------------------------------------------------


@dataclass
class CocoScores:
    """COCO's figures and the curves behind them, by box or by mask.

    figures: `FIGURES` name -> value; nan without truth of that kind, 0 with truth and no detections.
    per_class: category id -> AP. precision: [CURVE_IOUS, RECALLS, classes by category id], nan without truth.
    """

    figures: dict[str, float]
    per_class: dict[int, float]
    precision: np.ndarray


def coco_scores(truth: dict, results: list[dict], kind: str) -> CocoScores:
    """COCO's figures and curves, of pycocotools or the same numbers faster; its printing is captured.

    truth: COCO instances dict. results: COCO result entries; of each image and class the 100 best count.
    kind: "bbox" or "segm". For "segm" the size classes follow the mask's area, not the box's.
    """
    coco_class, evaluation_class = _tools()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluation_class(*_load(truth, results, kind, coco_class), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = evaluation.stats[: len(FIGURES)]  # faster-coco-eval adds AR50 and AR75
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]  # [IoUs, recalls, classes]
    rows = [int(np.argmin(np.abs(evaluation.params.iouThrs - iou))) for iou in CURVE_IOUS]
    return CocoScores(
        figures={name: _defined(value) for name, value in zip(FIGURES, values, strict=True)},
        per_class={
            int(c): _defined(precision[:, :, k].mean())
            for k, c in enumerate(evaluation.params.catIds)
        },
        precision=np.where(precision[rows] < 0, math.nan, precision[rows]),
    )


def coco_figures(
    truth: dict, results: list[dict], kind: str
) -> tuple[dict[str, float], dict[int, float]]:
    """COCO's twelve figures, and category id -> AP; see `coco_scores`."""
    scores = coco_scores(truth, results, kind)
    return scores.figures, scores.per_class


def _tools() -> tuple[type, type]:
    """The classes COCO and COCOeval: faster-coco-eval's where it is installed, else those of pycocotools."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        return plain_coco.COCO, plain_cocoeval.COCOeval
    return COCO, COCOeval_faster


def _load(truth: dict, results: list[dict], kind: str, coco_class: type) -> tuple:
    """Truth and detections as COCO objects."""
    if kind not in ("bbox", "segm"):
        raise ValueError(
            f'kind must be "bbox" or "segm". Received: {kind!r}. Try "segm" for masks.'
        )
    left_out = {"bbox": "segmentation", "segm": "bbox"}[
        kind
    ]  # loadRes would take a mask's area from its box
    entries = [
        {key: value for key, value in result.items() if key != left_out} for result in results
    ]

    def indexed(annotations: list[dict]):
        coco = coco_class()
        coco.dataset = {
            **truth,
            "annotations": [dict(a) for a in annotations],
        }  # they are written into
        coco.createIndex()
        return coco

    coco_truth = indexed(truth["annotations"])
    return coco_truth, coco_truth.loadRes(entries) if entries else indexed([])


def _defined(value: float) -> float:
    """A float, nan where pycocotools says -1 for "no truth of this kind"."""
    return math.nan if value < 0 else float(value)


# --- Who found whom at IoU 0.5 ------------------------------------------------------------------------------


@dataclass
class Matches:
    """Which detections found which objects at IoU 0.5, within classes, by COCO's matching.

    class_ids: category ids, rising.
    detections: [M, (image id, category id, id of the object found or 0, index in the results)], best score first.
    scores: [M], falling. Detections on crowds and beyond the 100 best of an image and class are not among them.
    objects: annotation id -> (image id, category id), crowds left out.
    detected_shapes: M. object_shapes: by annotation id. Boxes or run-length codes, as `pycocotools.mask.iou` takes.
    """

    class_ids: list[int]
    detections: np.ndarray
    scores: np.ndarray
    objects: dict[int, tuple[int, int]]
    detected_shapes: list
    object_shapes: dict


def match(truth: dict, results: list[dict], kind: str) -> Matches:
    """Detections matched with objects by pycocotools, at IoU 0.5; arguments as for `coco_scores`."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco_truth, found = _load(truth, results, kind, plain_coco.COCO)
        evaluation = plain_cocoeval.COCOeval(coco_truth, found, kind)
        evaluation.params.iouThrs = np.array([MATCH_IOU])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = (
            evaluation.params.areaRng[:1],
            ["all"],
        )
        evaluation.evaluate()
    rows, scores, objects = [], [], {}
    for cell in filter(None, evaluation.evalImgs):
        where = (int(cell["image_id"]), int(cell["category_id"]))
        objects |= {
            i: where
            for i, ignored in zip(cell["gtIds"], cell["gtIgnore"], strict=True)
            if not ignored
        }
        counts = np.flatnonzero(~cell["dtIgnore"][0])
        rows += [(*where, int(cell["dtMatches"][0, d]), cell["dtIds"][d] - 1) for d in counts]
        scores += [cell["dtScores"][d] for d in counts]
    order = np.argsort(-np.array(scores, float), kind="stable")
    detections = np.array(rows, int).reshape(-1, 4)[order]
    return Matches(
        class_ids=sorted(int(c["id"]) for c in truth["categories"]),
        detections=detections,
        scores=np.array(scores, float)[order],
        objects=objects,
        detected_shapes=[_shape(found, found.anns[index + 1], kind) for index in detections[:, 3]],
        object_shapes={i: _shape(coco_truth, coco_truth.anns[i], kind) for i in objects},
    )


# --- The confidence to use ----------------------------------------------------------------------------------


@dataclass
class Confidence:
    """The score from which detections are best shown, and what one gets: the highest F1 at IoU 0.5.

    score: show detections from it on; nan, as all else, without objects or detections.
    """

    score: float
    f1: float
    precision: float
    recall: float


def best_confidence(matches: Matches, class_id: int | None = None) -> Confidence:
    """The confidence with the highest F1 = 2 TP / (detections + objects); of equals the highest.

    class_id: of one class; default all classes pooled. Where no object was found, no confidence is better than another:
    nan, and F1 0.
    """
    mine = slice(None) if class_id is None else matches.detections[:, 1] == class_id
    scores, hits = matches.scores[mine], matches.detections[mine, 2] != 0
    objects = sum(class_id in (None, category) for _, category in matches.objects.values())
    if objects == 0 or len(scores) == 0:
        return Confidence(math.nan, math.nan, math.nan, math.nan)
    if not hits.any():
        return Confidence(math.nan, 0.0, 0.0, 0.0)
    found, shown = np.cumsum(hits), np.arange(1, len(hits) + 1)
    f1 = 2 * found / (shown + objects)
    f1[:-1][scores[1:] == scores[:-1]] = -1  # equal scores are shown together
    best = int(np.argmax(f1))
    right = int(found[best])
    return Confidence(float(scores[best]), float(f1[best]), right / (best + 1), right / objects)


# --- Confusions ---------------------------------------------------------------------------------------------


def confusion_matrix(matches: Matches, confidence: float) -> np.ndarray:
    """Which class was taken for which, at IoU 0.5 and from a confidence on.

    Detections are matched within their class first, as for AP; of what is left over, pairs of other classes are
    matched by falling IoU.

    Returns: int [classes + 1, classes + 1], rows truth and columns detected, classes by category id; the last column
        counts objects that were missed, the last row detections where nothing is.
    """
    position = {category: k for k, category in enumerate(matches.class_ids)}
    nothing = len(position)
    counts = np.zeros((nothing + 1, nothing + 1), int)
    shown = np.flatnonzero(matches.scores >= confidence)
    taken = set(matches.detections[shown, 2].tolist())
    lost, wrong = (
        defaultdict(list),
        defaultdict(list),
    )  # by image: annotation ids, rows of detections
    for row in shown:
        image, category, found, _ = matches.detections[row].tolist()
        if found:
            counts[position[category], position[category]] += 1
        else:
            wrong[image].append(row)
    for object_id, (image, _) in matches.objects.items():
        if object_id not in taken:
            lost[image].append(object_id)
    for image in {**wrong, **lost}:
        for object_id, row in _other_pairs(matches, lost[image], wrong[image]):
            truth = nothing if object_id is None else position[matches.objects[object_id][1]]
            seen = nothing if row is None else position[int(matches.detections[row, 1])]
            counts[truth, seen] += 1
    return counts


def _other_pairs(
    matches: Matches, objects: list[int], rows: list[int]
) -> list[tuple[int | None, int | None]]:
    """(object, detection) pairs of one image at IoU 0.5 or more, best first; then those that have no partner."""
    overlaps = _ious(
        [matches.detected_shapes[row] for row in rows], [matches.object_shapes[i] for i in objects]
    )
    pairs, free_rows, free_objects = [], set(range(len(rows))), set(range(len(objects)))
    for cell in np.argsort(-overlaps, axis=None, kind="stable"):
        r, o = divmod(int(cell), len(objects))
        if overlaps[r, o] < MATCH_IOU:
            break
        if r in free_rows and o in free_objects:
            pairs.append((objects[o], rows[r]))
            free_rows.discard(r)
            free_objects.discard(o)
    return (
        pairs
        + [(objects[o], None) for o in sorted(free_objects)]
        + [(None, rows[r]) for r in sorted(free_rows)]
    )


def _shape(coco, annotation: dict, kind: str):
    """The box [x, y, width, height] of an annotation, or its run-length code."""
    return annotation["bbox"] if kind == "bbox" else coco.annToRLE(annotation)


def _ious(found: list, truth: list) -> np.ndarray:
    """[M, N] IoU of boxes or run-length codes."""
    if not found or not truth:
        return np.zeros((len(found), len(truth)))
    return coco_mask.iou(found, truth, [0] * len(truth))


# --- VOC ----------------------------------------------------------------------------------------------------


def voc_ap(hits: np.ndarray, objects: int) -> tuple[float, float]:
    """VOC's average precision by the rules of 2007 (mean at eleven recalls) and of 2010 (area).

    hits: [M] whether each detection found an object, best score first. objects: how many there were to find.

    Returns: (AP 2007, AP 2010), nan without objects.
    """
    if objects == 0:
        return math.nan, math.nan
    found = np.cumsum(np.asarray(hits, bool))
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[
        ::-1
    ]  # the best precision at that recall or beyond
    steps = np.diff(found, prepend=0) > 0  # where recall rises, by 1 / objects each time
    eleven = [
        best[10 * found >= k * objects] for k in range(11)
    ]  # recall >= k / 10, without rounding
    return sum(float(b[0]) for b in eleven if len(b)) / 11, float(best[steps].sum()) / objects


def voc_scores(truth: dict, results: list[dict], kind: str) -> dict[int, tuple[float, float]]:
    """Category id -> VOC's AP at IoU 0.5, by the rules of 2007 and of 2010.

    As VOC has it, a detection answers for the object of its class that it overlaps most, and a second one for the
    same object is wrong. Objects marked "difficult", and crowds, count neither way.

    truth, results, kind: as for `coco_scores`; annotations may carry "difficult", and as "voc_bbox" the box that was
        annotated, where "bbox" is the mask's. All detections count.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco_truth, found = _load(truth, results, kind, plain_coco.COCO)
    scores = {}
    for category in sorted(coco_truth.getCatIds()):
        hits, objects = [], 0
        for image in coco_truth.getImgIds():
            there = coco_truth.loadAnns(coco_truth.getAnnIds(imgIds=[image], catIds=[category]))
            seen = found.loadAnns(found.getAnnIds(imgIds=[image], catIds=[category]))
            seen.sort(key=lambda entry: -entry["score"])
            free = [not (a.get("difficult") or a.get("iscrowd")) for a in there]
            objects += sum(free)
            overlaps = _ious(
                [_shape(found, a, kind) for a in seen],
                [_voc_shape(coco_truth, a, kind) for a in there],
            )
            hits += zip((-entry["score"] for entry in seen), _voc_hits(overlaps, free), strict=True)
        hits = [hit for _, hit in sorted(hits, key=lambda pair: pair[0]) if hit is not None]
        scores[int(category)] = voc_ap(np.array(hits, bool), objects)
    return scores


def _voc_shape(coco, annotation: dict, kind: str):
    """The annotated box of an object where there is one, else as `_shape`."""
    return (
        annotation["voc_bbox"]
        if kind == "bbox" and "voc_bbox" in annotation
        else _shape(coco, annotation, kind)
    )


def _voc_hits(overlaps: np.ndarray, counts: list[bool]) -> list[bool | None]:
    """For each detection of an image and class, best score first: right, wrong, or None for not counted."""
    hits, found = [], set()
    for row in overlaps:
        best = int(np.argmax(row)) if len(row) else -1
        if best < 0 or row[best] < MATCH_IOU:
            hits.append(False)
        elif not counts[best]:
            hits.append(None)
        else:
            hits.append(best not in found)
            found.add(best)
    return hits

"""COCO's twelve metrics of the detections of a dataset, by box or by mask.

All functions take the ground truth as a COCO instances dict, which `dataset_to_coco` of
`coco_ground_truth` makes, and the detections as COCO result entries, which `coco_results` of
`formats.coco` makes.

The numbers are pycocotools': 101 recall points, ten IoU thresholds, and at most the 100 best
detections of each image and class. faster-coco-eval computes the same in a fraction of the time
and is used if it is installed. Its metrics differ by less than 1e-15, because pycocotools adds
2e-16 to its divisors.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..weights.coco_classes import COCO_KEYPOINTS

# Per image and class: the limit of COCO's protocol, so that metrics are comparable.
COCO_MAX_DETECTIONS = 100
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
KEYPOINT_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
# COCO's, of `COCO_KEYPOINTS`: measured as the deviation of repeated annotations.
_COCO_SIGMAS_OF_PARTS = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)
COCO_SIGMAS = (0.026, *np.repeat(_COCO_SIGMAS_OF_PARTS, 2).tolist())  # nose; left, right
UNKNOWN_SIGMA = 0.05
CURVE_IOUS = (0.5, 0.75)
RECALLS = np.linspace(0, 1, 101)  # the recalls at which COCO samples the precision
_KEYS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}  # of result entries
MATCH_IOU = 0.5  # lowest IoU of a match: VOC, confidences and confusions


@dataclass
class CocoScores:
    """COCO's metrics and the curves behind them, by box or by mask.

    metrics: `METRICS` name -> value; nan without ground truth of that kind, 0 with ground truth
        and without detections.
    per_class: category id -> AP.
    precision: [CURVE_IOUS, RECALLS, classes by category id], nan without ground truth.
    """

    metrics: dict[str, float]
    per_class: dict[int, float]
    precision: np.ndarray


def keypoint_scores(
    ground_truth: dict, results: list[dict], sigmas: Sequence[float]
) -> tuple[dict[str, float], dict[int, float]]:
    """Compute COCO's metrics of keypoints: object keypoint similarity (OKS) instead of IoU.

    ground_truth: COCO instances dict with keypoints; objects without a labelled one do not count.
    results: COCO result entries with keypoints. sigmas: of each keypoint; a distance of 2 sigma
        times the root of the object's area gives it a similarity of exp(-1/2).

    Returns: `KEYPOINT_METRICS` name -> value, nan without ground truth, and category id -> AP.
    """
    coco_class, evaluation_class = pycocotools_classes()
    with contextlib.redirect_stdout(io.StringIO()):
        pair = load_coco(ground_truth, results, "keypoints", coco_class)
        evaluation = evaluation_class(*pair, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, float)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = zip(KEYPOINT_METRICS, evaluation.stats, strict=True)
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0]
    per_class = {}
    for k, category_id in enumerate(evaluation.params.catIds):
        per_class[int(category_id)] = _defined(precision[:, :, k].mean())
    return {name: _defined(value) for name, value in metrics}, per_class


def keypoint_sigmas(names: Sequence[str], count: int) -> list[float]:
    """Return the sigma of each of `count` keypoints: COCO's for COCO's names, otherwise 0.05."""
    if len(names) != count:
        return [UNKNOWN_SIGMA] * count
    known = dict(zip(COCO_KEYPOINTS, COCO_SIGMAS, strict=True))
    return [known.get(name, UNKNOWN_SIGMA) for name in names]


def coco_scores(ground_truth: dict, results: list[dict], kind: str) -> CocoScores:
    """Compute COCO's metrics and precision-recall curves. The output of pycocotools is captured.

    ground_truth: COCO instances dict. results: COCO result entries.
    kind: "bbox" or "segm". For "segm" the size classes follow the area of the mask.
    """
    coco_class, evaluation_class = _coco_classes()
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluation_class(*load_coco(ground_truth, results, kind, coco_class), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = evaluation.stats[: len(METRICS)]  # faster-coco-eval adds AR50 and AR75
    # [IoU thresholds, recalls, classes] of all sizes and of at most 100 detections
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    thresholds = np.asarray(evaluation.params.iouThrs)
    curves = precision[[int(np.argmin(np.abs(thresholds - iou))) for iou in CURVE_IOUS]]
    return CocoScores(
        metrics={name: _defined(value) for name, value in zip(METRICS, values, strict=True)},
        per_class={
            int(category_id): _defined(precision[:, :, k].mean())
            for k, category_id in enumerate(evaluation.params.catIds)
        },
        precision=np.where(curves < 0, math.nan, curves),
    )


def _defined(value: float) -> float:
    """Return nan for the -1 by which pycocotools marks missing ground truth."""
    return math.nan if value < 0 else float(value)


# --- pycocotools --------------------------------------------------------------------------------


def _coco_classes() -> tuple[Any, Any]:
    """Return the classes COCO and COCOeval of faster-coco-eval if installed, or of pycocotools."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        return pycocotools_classes()
    return COCO, COCOeval_faster


def pycocotools_classes() -> tuple[Any, Any]:
    """Return pycocotools' classes COCO and COCOeval."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def load_coco(
    ground_truth: dict, results: list[dict], kind: str, coco_class: Any
) -> tuple[Any, Any]:
    """Return ground truth and detections as objects of a COCO class; the input is not changed."""
    if kind not in _KEYS:
        raise ValueError(
            f'kind must be "bbox", "segm" or "keypoints". Received: {kind!r}. Try "segm" for masks.'
        )
    # With several keys, loadRes would compute the area of a mask from the box.
    unused = set(_KEYS.values()) - {_KEYS[kind]}
    entries = []
    for result in results:
        entries.append({key: value for key, value in result.items() if key not in unused})
    coco_gt = _index(ground_truth, ground_truth["annotations"], coco_class)
    detected = coco_gt.loadRes(entries) if entries else _index(ground_truth, [], coco_class)
    return coco_gt, detected


def _index(ground_truth: dict, annotations: list[dict], coco_class: Any) -> Any:
    """Return a COCO object of annotations; they are copied, because pycocotools changes them."""
    coco = coco_class()
    coco.dataset = {**ground_truth, "annotations": [dict(annotation) for annotation in annotations]}
    coco.createIndex()
    return coco


def shape_of(coco: Any, annotation: dict, kind: str) -> Any:
    """Return the box [x, y, width, height] of an annotation, or its RLE, as `ious` takes them."""
    return annotation["bbox"] if kind == "bbox" else coco.annToRLE(annotation)


def ious(detected: Sequence[Any], objects: Sequence[Any], crowds: bool = False) -> np.ndarray:
    """Return the IoU `[M, N]` of M boxes or RLEs with N.

    crowds: the objects are crowds; the IoU is then the share of the detection that lies in one.
    """
    from pycocotools import mask as coco_mask

    if not detected or not objects:
        return np.zeros((len(detected), len(objects)))
    is_crowd = [int(crowds)] * len(objects)
    return np.asarray(coco_mask.iou(list(detected), list(objects), is_crowd))

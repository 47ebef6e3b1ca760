"""Run a detector on a dataset and measure it: COCO's metrics and what comes with them.

Detections of confidence >= 0.05 count (EVALUATION_MIN_CONFIDENCE). A model with a higher
DETECTION_MIN_CONFIDENCE loses that part of the precision-recall curve: lower it to evaluate.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.dataset import Dataset, overrides
from ..data.result_rows import select_rows
from ..formats.coco import check_result, coco_results
from .coco_ground_truth import (
    ImageGroundTruth,
    image_ground_truth,
    is_measured_by_boxes,
    join_ground_truths,
)
from .confusion import Matches, best_confidence, confusion_matrix, match
from .images import FailedImages, evaluated, select_images
from .kaggle_score import image_scores
from .scores import CocoScores, coco_scores, keypoint_scores, keypoint_sigmas
from .summary import EVALUATION_MIN_CONFIDENCE, Evaluation
from .voc_scores import VocAP, voc_scores

Result = dict[str, Any]  # of one image: rois, class_ids, scores and, unless box-only, masks
COCO_KINDS = {"box": "bbox", "mask": "segm"}


class EvaluationInterrupted(KeyboardInterrupt):
    """Ctrl-C during an evaluation; `evaluation()` measures the images evaluated until then."""

    def __init__(self, evaluation: Callable[[], Evaluation]):
        super().__init__("interrupted")
        self.evaluation = evaluation


class _Measured(NamedTuple):
    """Ground truth and COCO result entries of one image, both with masks or both without."""

    ground_truth: ImageGroundTruth
    results: list[dict]
    has_masks: bool
    has_keypoints: bool


def coco(
    model: Any,
    dataset: Dataset,
    image_ids: Iterable[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    min_confidence: float = EVALUATION_MIN_CONFIDENCE,
) -> Evaluation:
    """Measure a model on a dataset with COCO's metrics.

    model: a `MaskRCNN` in inference mode. Its DETECTION_MIN_CONFIDENCE is min_confidence meanwhile.
    dataset ... min_confidence: as for `evaluate_dataset`, which does the same for any detector.
    """
    with detecting_from(model.config, min_confidence):
        return evaluate_dataset(
            lambda image: model.detect([image], masks="rle")[0],
            dataset,
            image_ids,
            limit,
            progress,
            min_confidence,
            sigmas=getattr(model.config, "KEYPOINT_SIGMAS", None),
        )


@contextlib.contextmanager
def detecting_from(
    config: Any, min_confidence: float = EVALUATION_MIN_CONFIDENCE
) -> Iterator[None]:
    """Set a config's DETECTION_MIN_CONFIDENCE during a block."""
    before = config.DETECTION_MIN_CONFIDENCE
    config.DETECTION_MIN_CONFIDENCE = min_confidence
    try:
        yield
    finally:
        config.DETECTION_MIN_CONFIDENCE = before


def evaluate_dataset(
    detect: Callable[[np.ndarray], Result] | Mapping[int, Result],
    dataset: Dataset,
    image_ids: Iterable[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    min_confidence: float = EVALUATION_MIN_CONFIDENCE,
    on_image: Callable[[int, np.ndarray, Result], None] | None = None,
    sigmas: Sequence[float] | None = None,
) -> Evaluation:
    """Measure a detector on a dataset with COCO's metrics, for boxes and, if it has them, masks.

    detect: image [H, W, C] -> dict of rois [N, (y1, x1, y2, x2)] pixels, class_ids [N],
        scores [N] and, unless box-only, masks [H, W, N] or a list of N RLEs, and with keypoints
        keypoints [N, K, (y, x, score)]:
        `lambda image: model.detect([image], masks="rle")[0]`; or the results of images that were
        detected before, image id -> such a dict.
    dataset: any prepared dataset; its ground truth is used at original resolution. A box-only
        model is measured by the dataset's own load_bbox if it has one, otherwise by the boxes of
        the masks. A dataset without masks gives metrics for boxes only.
    image_ids: default all images. limit: only the first ones.
    progress: show a progress bar.
    min_confidence: detections below it are not counted; the report states it.
    on_image: called with (image id, image, result of `detect`) after each image.
    sigmas: of the keypoints, see `scores.keypoint_scores`; default `scores.keypoint_sigmas`.

    An image whose pixels or annotations cannot be read is logged and left out
    (`Evaluation.failed`).

    Returns: `Evaluation`. Its metrics are 0 without detections and nan without ground truth. Of
        each image and class the 100 best detections count (COCO's maxDets). VOC's AP is included
        if the `image_info` of an image has "difficult" flags, one per instance; its "boxes" are
        then VOC's ground truth for boxes.
    Raises: ValueError if there is no image to evaluate; the error of the first image if no image
        can be read; EvaluationInterrupted, a KeyboardInterrupt, at Ctrl-C after the first image.
    """
    start = time.perf_counter()
    ids = select_images(dataset, image_ids, limit)
    failed = FailedImages(dataset)
    measured: list[_Measured] = []

    def summarize() -> Evaluation:
        evaluation = _summarize(dataset, measured, min_confidence)
        if all(image.has_keypoints for image in measured):
            _add_keypoints(evaluation, dataset, measured, sigmas)
        evaluation.failed = failed.entries()
        if len(measured) + len(failed.errors) < len(ids):
            evaluation.partial_of = len(ids)
        evaluation.seconds = time.perf_counter() - start
        return evaluation

    try:
        for image_id in evaluated(ids, progress):
            image = failed.attempt(image_id, dataset.load_image, image_id)
            if image is None:
                continue
            if isinstance(detect, Mapping):
                result = failed.attempt(image_id, detect.__getitem__, image_id)
            else:
                result = detect(image)
            if result is None:
                continue
            counted = _confident(result, min_confidence, image.shape[:2])
            by_boxes = is_measured_by_boxes(dataset, "masks" in counted)
            has_keypoints = "keypoints" in counted and overrides(dataset, "load_keypoints")
            how = (image.shape[:2], by_boxes, has_keypoints)
            ground_truth = failed.attempt(image_id, image_ground_truth, dataset, image_id, *how)
            if ground_truth is None:
                continue
            has_masks = "masks" in counted and not by_boxes
            results = coco_results(image_id, counted)
            measured.append(_Measured(ground_truth, results, has_masks, has_keypoints))
            if on_image is not None:
                on_image(image_id, image, result)
    except KeyboardInterrupt as stop:
        if not measured:
            raise
        raise EvaluationInterrupted(summarize) from stop
    if not measured:
        failed.raise_first()
    return summarize()


def _confident(result: Result, min_confidence: float, size: Sequence[int]) -> Result:
    """Return the detections of a result from a confidence on.

    size: (height, width) of the image, and so of the masks.
    """
    check_result(result)
    keep = np.flatnonzero(np.asarray(result["scores"]) >= min_confidence)
    kept = select_rows(result, keep)
    if "masks" not in result:
        return kept
    masks = result["masks"]
    encoded = isinstance(masks, list)
    sizes = {tuple(rle["size"]) for rle in masks} if encoded else {masks.shape[:2]}
    if len(result["scores"]) and sizes != {tuple(size)}:
        received = ", ".join(str(found) for found in sorted(sizes))
        raise ValueError(
            f"Detected masks must be as large as the image. Received: {received} for an image of "
            f"{tuple(size)} (height, width). Try masks in original pixels, as detect() returns."
        )
    return kept


# --- Metrics of the measured images -------------------------------------------------------------


def _summarize(
    dataset: Dataset, measured: Sequence[_Measured], min_confidence: float
) -> Evaluation:
    """Compute the metrics of images; detections below min_confidence are left out already."""
    ground_truth = join_ground_truths(dataset, [image.ground_truth for image in measured])
    results = [entry for image in measured for entry in image.results]
    has_masks = all(image.has_masks for image in measured)
    kinds = list(COCO_KINDS) if has_masks else ["box"]
    scores = {kind: coco_scores(ground_truth, results, COCO_KINDS[kind]) for kind in kinds}
    voc: dict[str, dict[int, VocAP]] = {}
    if any("difficult" in dataset.image_info[image["id"]] for image in ground_truth["images"]):
        voc = {kind: voc_scores(ground_truth, results, COCO_KINDS[kind]) for kind in kinds}
    kind = kinds[-1]
    matches = match(ground_truth, results, COCO_KINDS[kind])
    confidence = best_confidence(matches)
    shown_from = min_confidence if math.isnan(confidence.score) else confidence.score
    return Evaluation(
        box=scores["box"].metrics,
        mask=scores["mask"].metrics if has_masks else None,
        per_class=[
            _class_row(ground_truth, category, scores, voc, matches)
            for category in ground_truth["categories"]
        ],
        images=len(measured),
        objects=len(matches.objects),
        detections=len(results),
        min_confidence=min_confidence,
        kind=kind,
        precision=scores[kind].precision,
        confidence=confidence,
        confusion=confusion_matrix(matches, shown_from),
        image_scores=image_scores(ground_truth, results, COCO_KINDS[kind], shown_from),
        voc={kind: _mean_of_classes(aps) for kind, aps in voc.items()} or None,
    )


def _add_keypoints(
    evaluation: Evaluation,
    dataset: Dataset,
    measured: Sequence[_Measured],
    sigmas: Sequence[float] | None,
) -> None:
    """Add the metrics of keypoints to an evaluation.

    Raises: ValueError if detections and data differ in the number of keypoints.
    """
    ground_truth = join_ground_truths(dataset, [image.ground_truth for image in measured])
    results = [entry for image in measured for entry in image.results]
    entries = [*ground_truth["annotations"], *results]
    counts = {len(entry["keypoints"]) // 3 for entry in entries}
    count = max(counts, default=len(dataset.keypoint_names))
    if sigmas is None:
        sigmas = keypoint_sigmas(dataset.keypoint_names, count)
    if counts - {count} or len(sigmas) != count:
        raise ValueError(
            "Detections and data must have the same keypoints, with one sigma each. Received: "
            f"{sorted(counts)} keypoints and {len(sigmas)} sigmas. Try data with the keypoints "
            "that the weights were trained on."
        )
    evaluation.keypoints, per_class = keypoint_scores(ground_truth, results, sigmas)
    for row in evaluation.per_class:
        row["keypoint_AP"] = per_class[row["id"]]


def _class_row(
    ground_truth: dict,
    category: dict,
    scores: dict[str, CocoScores],
    voc: dict[str, dict[int, VocAP]],
    matches: Matches,
) -> dict:
    """Return the metrics of one class; see `Evaluation.per_class`."""
    class_id = category["id"]
    best = best_confidence(matches, class_id)
    objects = 0
    for annotation in ground_truth["annotations"]:
        objects += annotation["category_id"] == class_id and not annotation["iscrowd"]
    row = {
        "id": class_id,
        "name": category["name"],
        "objects": objects,
        "box_AP": scores["box"].per_class[class_id],
        "mask_AP": scores["mask"].per_class[class_id] if "mask" in scores else None,
        "confidence": best.score,
        "F1": best.f1,
    }
    if voc:
        row["VOC"] = {kind: list(aps[class_id]) for kind, aps in voc.items()}
    return row


def _mean_of_classes(aps: dict[int, VocAP]) -> list[float]:
    """Return the means of AP 2007 and AP 2010 over the classes with objects; nan without any."""
    defined = [ap for ap in aps.values() if not math.isnan(ap.area)]
    return np.mean(defined, axis=0).tolist() if defined else [math.nan, math.nan]

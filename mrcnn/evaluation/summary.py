"""The metrics of one evaluation, as values, as a table for people and as a dict for JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..files.safe_text import LONGEST_NAME, printable
from .confusion import Confidence
from .images import failure_lines
from .kaggle_score import mean_score
from .scores import COCO_MAX_DETECTIONS, METRICS

# Detections of a lower confidence are not counted. The limit is far below the confidence that one
# shows to users, because average precision is the area under the whole precision-recall curve.
EVALUATION_MIN_CONFIDENCE = 0.05

NO_OBJECTS = "These images have no objects, so every metric is undefined (nan)."


@dataclass(kw_only=True)
class Evaluation:
    """The metrics of one evaluation; `report` writes them to files.

    box, mask: COCO's twelve metrics by name (`scores.METRICS`), nan without ground truth of that
        kind; mask is None for a box-only model.
    keypoints: COCO's ten metrics of keypoints by name (`scores.KEYPOINT_METRICS`); None unless the
        model and the dataset have keypoints. Each class then has a keypoint_AP.
    per_class: one dict per class: id, name, objects (without crowds), box_AP, mask_AP, confidence
        and F1 (see `best_confidence`), and for VOC data VOC: {"box": [AP 2007, AP 2010],
        "mask": ...}.
    images, objects, detections: how many were evaluated.
    seconds: detection and scoring together.
    min_confidence: detections below it were not counted.
    kind: "mask", or "box" for a box-only model; of precision, confidence and confusion.
    precision: [IoU 0.5 and 0.75, 101 recalls, classes], COCO's curves; nan without ground truth.
    confidence: from which detections are best shown, all classes together.
    confusion: int [classes + 1, classes + 1] at IoU 0.5, see `confusion_matrix`; from that
        confidence on, or from min_confidence on if it is nan.
    image_scores: image id -> Kaggle's score of the detections from that confidence on, see
        `kaggle_score`; by mask, or by box for a box-only model.
    voc: {"box": [AP 2007, AP 2010], "mask": ...}, means over classes; None unless the data is
        VOC's.
    partial_of: if Ctrl-C stopped the evaluation, how many images were to be evaluated.
    failed: images that could not be read and are not counted: dicts of image_id, image (its path)
        and error.
    """

    box: dict[str, float]
    mask: dict[str, float] | None
    per_class: list[dict]
    images: int
    objects: int
    detections: int
    seconds: float = 0.0
    min_confidence: float = EVALUATION_MIN_CONFIDENCE
    kind: str = "mask"
    precision: np.ndarray
    confidence: Confidence
    confusion: np.ndarray
    image_scores: dict[int, float] = field(default_factory=dict)
    voc: dict[str, list[float]] | None = None
    keypoints: dict[str, float] | None = None
    partial_of: int | None = None
    failed: list[dict] = field(default_factory=list)

    def table(self) -> str:
        """Return the metrics as text."""
        lines = []
        if self.partial_of is not None:
            lines.append(f"PARTIAL: {self.partial_note()}.")
        lines += [
            f"{self.images} images, {self.objects} objects, {self.detections} detections at "
            f"confidence >= {self.min_confidence:g}, {self.seconds:.1f} s",
            f"Of each image and class the {COCO_MAX_DETECTIONS} best detections count, COCO's "
            "maxDets.",
        ]
        lines += failure_lines(self.failed)
        if self.objects == 0:
            lines.append(NO_OBJECTS)
        elif self.detections == 0:
            lines.append("Nothing was detected, so every metric is 0. Try to train longer.")
        lines += self._metric_lines()
        lines += self._class_lines()
        lines += self._voc_lines()
        lines += self._kaggle_lines()
        lines += self._confidence_lines()
        return "\n".join(lines)

    def partial_note(self) -> str:
        """Return how many images were evaluated before an interruption; empty without one."""
        if self.partial_of is None:
            return ""
        return f"interrupted after {self.images} of {self.partial_of} images"

    def _metric_lines(self) -> list[str]:
        lines = ["", " " * 6 + "".join(f"{name:>7}" for name in METRICS)]
        for label, metrics in (("box", self.box), ("mask", self.mask)):
            if metrics is not None:
                values = "".join(f"{metrics[name]:7.3f}" for name in METRICS)
                lines.append(f"{label:<6}{values}")
        return lines + self._keypoint_lines()

    def _keypoint_lines(self) -> list[str]:
        if self.keypoints is None:
            return []
        names = "".join(f"{name:>7}" for name in self.keypoints)
        values = "".join(f"{value:7.3f}" for value in self.keypoints.values())
        return ["", f"{'':9}{names}", f"keypoints{values}"]

    def _class_lines(self) -> list[str]:
        names = [printable(row["name"], LONGEST_NAME) for row in self.per_class]
        width = max(map(len, ["class", *names]))
        lines = ["", f"{'class':<{width}}  objects  box AP  mask AP  show from     F1"]
        for name, row in zip(names, self.per_class, strict=True):
            mask_ap = "-" if row["mask_AP"] is None else f"{row['mask_AP']:.3f}"
            confidence = rounded_down(row.get("confidence", math.nan))
            f1 = row.get("F1", math.nan)
            aps = f"{row['objects']:7d}  {row['box_AP']:6.3f}  {mask_ap:>7}"
            lines.append(f"{name:<{width}}  {aps}  {confidence:>9}  {f1:5.3f}")
        return lines

    def _voc_lines(self) -> list[str]:
        if self.voc is None:
            return []
        lines = [""]
        for kind, (eleven_points, area) in self.voc.items():
            lines.append(
                f"VOC's AP at {kind} IoU 0.5, objects marked difficult left out: "
                f"{eleven_points:.3f} by the rules of 2007, {area:.3f} by those of 2010"
            )
        return lines

    @property
    def shown_from(self) -> float:
        """The confidence from which detections are best shown; min_confidence if unknown."""
        best = self.confidence.score
        return self.min_confidence if math.isnan(best) else best

    @property
    def kaggle_score(self) -> float | None:
        """Kaggle's score of masks, the mean over images; None for a box-only model."""
        has_scores = self.kind == "mask" and len(self.image_scores) > 0
        return mean_score(self.image_scores) if has_scores else None

    def _kaggle_lines(self) -> list[str]:
        if self.kaggle_score is None or self.objects == 0:
            return []
        return [
            "",
            f"Kaggle's score of 2018 (Data Science Bowl), masks of confidence >= "
            f"{rounded_down(self.shown_from)}: {self.kaggle_score:.3f}",
        ]

    def _confidence_lines(self) -> list[str]:
        best = self.confidence
        if math.isnan(best.score):
            return []
        return [
            "",
            f"Confidence to use: {rounded_down(best.score)}, where F1 at {self.kind} IoU 0.5 is "
            f"highest: {best.f1:.3f} (precision {best.precision:.3f}, recall {best.recall:.3f}).",
        ]

    def to_dict(self) -> dict:
        """Return the metrics as a dict for strict JSON: undefined ones are None."""
        return without_nan(
            {
                "images": self.images,
                "partial_of": self.partial_of,
                "failed": self.failed,
                "objects": self.objects,
                "detections": self.detections,
                "min_confidence": self.min_confidence,
                "max_detections": COCO_MAX_DETECTIONS,
                "seconds": self.seconds,
                "box": self.box,
                "mask": self.mask,
                **({} if self.keypoints is None else {"keypoints": self.keypoints}),
                "per_class": self.per_class,
                "voc": self.voc,
                "kaggle_score": self.kaggle_score,
                "confidence": asdict(self.confidence),
                "confusion": self.confusion.tolist(),
            }
        )


def rounded_down(score: float) -> str:
    """Return a score with three digits, never above it: that very detection is still shown."""
    return "nan" if math.isnan(score) else f"{math.floor(score * 1000) / 1000:.3f}"


def without_nan(value: Any) -> Any:
    """Replace nan by None in a value of dicts, lists and numbers."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value

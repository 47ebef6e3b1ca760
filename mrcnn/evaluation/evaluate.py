"""How good detections are: matches, average precision, recall, and COCO's twelve figures for any dataset.

Convention of every report: detections at confidence >= 0.05 count (EVALUATION_MIN_CONFIDENCE), far below the
confidence one would show to a user, because average precision is the area under the whole precision-recall
curve and cutting the curve short lowers it. A model whose own DETECTION_MIN_CONFIDENCE is higher loses that
part of the curve before it gets here: lower it for an evaluation.

Two families live here. `compute_*` score one image with matterport's formulas (every precision step, one IoU
threshold). `coco` and `evaluate_dataset` run a model or any detector over a data set, and have `scores` compute
COCO's figures, which are those to publish, and what comes with them.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.progress import track

from ..data.dataset import Dataset, has_boxes_only, overrides, reference
from ..files.safe_text import LONGEST_NAME, printable
from ..formats.coco import check_result, coco_results
from ..formats.rle import mask_to_rle
from .matching import select_masks
from .scores import (
    COCO_MAX_DETECTIONS,
    FIGURES,
    Confidence,
    Matches,
    best_confidence,
    coco_figures,  # noqa: F401  a name of this room before scores.py
    coco_scores,
    confusion_matrix,
    match,
    voc_scores,
)

logger = logging.getLogger("mrcnn")

EVALUATION_MIN_CONFIDENCE = 0.05  # detections below it are not counted in reports
FAILED_NAMES = 10  # of images that could not be read, in a table


# --- COCO's formats -----------------------------------------------------------------------------------------


def dataset_to_coco(dataset: Dataset, image_ids: Iterable[int] | None = None) -> dict:
    """The truth of a dataset in COCO's instances format, at the dataset's original resolution.

    dataset: any prepared dataset. Category ids are its internal class ids and image ids its internal image
        ids.
    image_ids: default all images.

    Returns: {"images", "annotations", "categories"}, ready for JSON. Boxes and areas are those that the dataset's
        annotation file says itself (COCO's `bbox` and `area`), else those of the masks; crowds (negative class ids)
        get iscrowd 1. Instances without a pixel are left out, and that is logged.
    Raises: ValueError when masks and class ids of an image differ in number, or a class id is unknown.
    """
    ids = dataset.image_ids if image_ids is None else image_ids
    truth = _empty_truth(dataset)
    for image_id in ids:
        if has_boxes_only(dataset):
            _add_boxes(truth, dataset, int(image_id), dataset.load_image(image_id).shape[:2])
        else:
            _add_truth(truth, dataset, int(image_id))
    return truth


def _empty_truth(dataset: Dataset) -> dict:
    categories = [{"id": i, "name": name} for i, name in enumerate(dataset.class_names) if i > 0]
    return {"images": [], "annotations": [], "categories": categories}


def _boxes_are_truth(dataset: Dataset, has_masks: bool) -> bool:
    """Whether an image's truth is the dataset's own `load_bbox`: no masks were detected, or it has none."""
    return has_boxes_only(dataset) or (overrides(dataset, "load_bbox") and not has_masks)


def _add_boxes(truth: dict, dataset: Dataset, image_id: int, size: Sequence[int]) -> None:
    """Append an image's boxes, of `load_bbox`, to a COCO dict. size: the image's (height, width)."""
    where = f"image {image_id} ({reference(dataset, image_id)})"
    found, class_ids = dataset.load_bbox(image_id)
    found, class_ids = (
        np.asarray(found, float).reshape(-1, 4),
        np.asarray(class_ids, int).reshape(-1),
    )
    if len(found) != len(class_ids):
        raise ValueError(
            f"load_bbox must return one box (y1, x1, y2, x2) per class id. Received: {len(found)} boxes and "
            f"{len(class_ids)} class ids for {where}."
        )
    height, width = (int(side) for side in size)
    truth["images"].append({"id": image_id, "height": height, "width": width})
    found = np.clip(found, 0, [height, width, height, width])
    for (y1, x1, y2, x2), class_id in zip(found.tolist(), class_ids.tolist(), strict=True):
        if y2 <= y1 or x2 <= x1:
            if class_id != 0:  # an empty box of class 0 is how scripts say "nothing here"
                logger.warning(
                    "A box of %s has no area in the image: it is left out of the truth.", where
                )
            continue
        _check_class(truth, class_id, where, "load_bbox")
        box = [x1, y1, x2 - x1, y2 - y1]
        _annotate(truth, image_id, class_id, bbox=box, area=box[2] * box[3])


def _check_class(truth: dict, class_id: int, where: str, method: str) -> None:
    known = {category["id"] for category in truth["categories"]}
    if abs(class_id) not in known:
        raise ValueError(
            f"Class ids must be among {sorted(known)}, negative for crowds. Received: {class_id} for "
            f"{where}. Try map_source_class_id() in {method}."
        )


def _annotate(truth: dict, image_id: int, class_id: int, **shape) -> None:
    annotation = {
        "id": len(truth["annotations"]) + 1,  # never 0: pycocotools takes match 0 for none
        "image_id": image_id,
        "category_id": int(abs(class_id)),
        "iscrowd": int(class_id < 0),
    }
    truth["annotations"].append({**annotation, **shape})


def _add_truth(
    truth: dict, dataset: Dataset, image_id: int, size: Sequence[int] | None = None
) -> None:
    """Append an image's truth to a COCO dict. size: the image's (height, width) where the caller knows it."""
    masks, class_ids = dataset.load_mask(image_id)
    class_ids = np.asarray(class_ids, int).reshape(-1)
    where = f"image {image_id} ({reference(dataset, image_id)})"
    if len(class_ids) and (np.ndim(masks) != 3 or masks.shape[2] != len(class_ids)):
        raise ValueError(
            "load_mask must return one mask [H, W] per class id, stacked along the last axis. "
            f"Received: masks of shape {np.shape(masks)} and {len(class_ids)} class ids for {where}. "
            "Try np.stack(masks, axis=-1)."
        )
    if size is None:
        size = masks.shape[:2] if len(class_ids) else dataset.load_image(image_id).shape[:2]
    if len(class_ids) and tuple(masks.shape[:2]) != tuple(size):
        raise ValueError(
            f"Masks must be as large as their image. Received: masks of {masks.shape[:2]} and an image of "
            f"{tuple(size)} (height, width) for {where}. "
            "Try to find out which of the two was resized or rotated."
        )
    voc = _voc_marks(dataset.image_info[image_id], len(class_ids), where)
    annotated = _annotated_boxes(dataset, image_id, len(class_ids))
    height, width = (int(side) for side in size)
    truth["images"].append({"id": image_id, "height": height, "width": width})
    for i, class_id in enumerate(class_ids):
        rle = mask_to_rle(masks[:, :, i])
        shape = {
            "bbox": coco_mask.toBbox(rle).tolist(),
            "area": int(coco_mask.area(rle)),
            "segmentation": rle,
        }
        if shape["area"] == 0:
            if class_id != 0:  # an empty mask of class 0 is how scripts say "nothing here"
                logger.warning(
                    "Instance %d of %s has no pixels: it is left out of the truth.", i, where
                )
            continue
        _check_class(truth, class_id, where, "load_mask")
        _annotate(truth, image_id, class_id, **{**shape, **annotated[i]}, **(voc[i] if voc else {}))


def _annotated_boxes(dataset: Dataset, image_id: int, count: int) -> list[dict]:
    """`bbox` and `area` of each of an image's masks, as far as its annotation file says them itself.

    COCO's own evaluation takes these: the box of a mask is whole pixels, which lowers the IoU of small objects.
    """
    shapes = dataset.annotated_boxes(image_id) if hasattr(dataset, "annotated_boxes") else []
    # Of another number if somebody's load_mask leaves objects out.
    return shapes if len(shapes) == count else [{}] * count


def _voc_marks(info: dict, count: int, where: str) -> list[dict]:
    """What VOC's figures need of each instance: whether it is difficult, and its own box; empty for other data."""
    if "difficult" not in info:
        return []
    difficult, annotated = info["difficult"], info.get("boxes")
    if len(difficult) != count or (annotated is not None and len(annotated) != count):
        raise ValueError(
            f'"difficult" and "boxes" must have one entry per instance. Received: {len(difficult)} flags and {count} '
            f"instances for {where}. Try the order of load_mask."
        )
    marks = [{"difficult": int(bool(flag))} for flag in difficult]
    if annotated is not None:
        for mark, (y1, x1, y2, x2) in zip(
            marks, np.asarray(annotated, float).tolist(), strict=True
        ):
            mark["voc_bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return marks


# --- A data set ---------------------------------------------------------------------------------------------


@dataclass
class Evaluation:
    """The figures of one evaluation, by name; `table()` for people, `to_dict()` for JSON, `report` for files.

    box, mask: the twelve figures (`FIGURES`); mask is None for a box-only model. nan: no truth of that kind.
    per_class: one dict a class: id, name, objects (crowds not counted), box_AP, mask_AP, confidence and F1 (see
        `best_confidence`), and for VOC data VOC: {"box": [AP 2007, AP 2010], "mask": ...}.
    images, objects, detections: how many were evaluated.
    seconds: detection and scoring together.
    min_confidence: detections below it were not counted.
    kind: "mask", or "box" for a box-only model: what the next three compare.
    precision: [IoU 0.5 and 0.75, 101 recalls, classes], COCO's curves; nan without truth.
    confidence: from which detections are best shown, all classes pooled.
    confusion: int [classes + 1, classes + 1] at IoU 0.5 from that confidence on (`confusion_matrix`), from
        min_confidence on where there is none.
    voc: {"box": [AP 2007, AP 2010], "mask": ...}, means over classes; None where the data is not VOC's.
    partial_of: how many images were to be evaluated, where Ctrl-C came before the last; else None.
    failed: images whose pixels or annotations could not be read, which no figure counts: dicts of image_id, image (its
        path) and error.
    """

    box: dict[str, float]
    mask: dict[str, float] | None
    per_class: list[dict] = field(default_factory=list)
    images: int = 0
    objects: int = 0
    detections: int = 0
    seconds: float = 0.0
    min_confidence: float = EVALUATION_MIN_CONFIDENCE
    kind: str = "mask"
    precision: np.ndarray | None = None
    confidence: Confidence | None = None
    confusion: np.ndarray | None = None
    voc: dict[str, list[float]] | None = None
    partial_of: int | None = None
    failed: list[dict] = field(default_factory=list)

    def table(self) -> str:
        """The report as text."""
        lines = [] if self.partial_of is None else [f"PARTIAL: {self.partial_note()}."]
        lines += [
            f"{self.images} images, {self.objects} objects, {self.detections} detections at confidence >= "
            f"{self.min_confidence:g}, {self.seconds:.1f} s",
            f"Of each image and class the {COCO_MAX_DETECTIONS} best detections count, COCO's maxDets.",
        ]
        lines += _failed_lines(self.failed)
        if self.objects == 0:
            lines.append("These images hold no objects, so every figure is undefined (nan).")
        elif self.detections == 0:
            lines.append("Nothing was detected, so every figure is 0. Try to train longer.")
        lines += ["", " " * 6 + "".join(f"{name:>7}" for name in FIGURES)]
        for label, figures in (("box", self.box), ("mask", self.mask)):
            if figures is not None:
                lines.append(f"{label:<6}" + "".join(f"{figures[name]:7.3f}" for name in FIGURES))
        return "\n".join(lines + self._class_lines() + self._voc_lines() + self._confidence_lines())

    def partial_note(self) -> str:
        """Of how many images these figures are, in words; empty where they are of all."""
        return (
            ""
            if self.partial_of is None
            else f"interrupted after {self.images} of {self.partial_of} images"
        )

    def _class_lines(self) -> list[str]:
        names = [printable(row["name"], LONGEST_NAME) for row in self.per_class]
        width = max(map(len, ["class", *names]))
        lines = ["", f"{'class':<{width}}  objects  box AP  mask AP  show from     F1"]
        for name, row in zip(names, self.per_class, strict=True):
            mask_ap = "-" if row["mask_AP"] is None else f"{row['mask_AP']:.3f}"
            figures = f"{row['objects']:7d}  {row['box_AP']:6.3f}  {mask_ap:>7}"
            confidence, f1 = row.get("confidence", math.nan), row.get("F1", math.nan)
            lines.append(f"{name:<{width}}  {figures}  {rounded_down(confidence):>9}  {f1:5.3f}")
        return lines

    def _voc_lines(self) -> list[str]:
        return [] if self.voc is None else [""] + [
            f"VOC's AP at {kind} IoU 0.5, objects marked difficult left out: {eleven:.3f} by the rules of 2007, "
            f"{area:.3f} by those of 2010"
            for kind, (eleven, area) in self.voc.items()
        ]  # fmt: skip

    def _confidence_lines(self) -> list[str]:
        best = self.confidence
        if best is None or math.isnan(best.score):
            return []
        return [
            "",
            f"Confidence to use: {rounded_down(best.score)}, where F1 at {self.kind} IoU 0.5 is highest: "
            f"{best.f1:.3f} (precision {best.precision:.3f}, recall {best.recall:.3f}).",
        ]

    def to_dict(self) -> dict:
        """The report as a dict that strict JSON can hold: undefined figures are None."""
        return _without_nan(
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
                "per_class": self.per_class,
                "voc": self.voc,
                "confidence": None if self.confidence is None else asdict(self.confidence),
                "confusion": None if self.confusion is None else self.confusion.tolist(),
            }
        )


def rounded_down(score: float) -> str:
    """A score to three digits, never above it: a detection of that very score is still shown."""
    return "nan" if math.isnan(score) else f"{math.floor(score * 1000) / 1000:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _failed_lines(failed: list[dict]) -> list[str]:
    """The line of a table that counts and names the images left out; none if there is no such image."""
    if not failed:
        return []
    names = ", ".join(printable(entry["image"]) for entry in failed[:FAILED_NAMES])
    more = f" and {len(failed) - FAILED_NAMES} more" if len(failed) > FAILED_NAMES else ""
    noun = "image" if len(failed) == 1 else "images"
    return [f"Not counted: {len(failed)} {noun} that could not be used: {names}{more}."]


class EvaluationInterrupted(KeyboardInterrupt):
    """Ctrl-C during an evaluation. `figures()` gives those of the images measured until then, an `Evaluation`."""

    def __init__(self, figures: Callable[[], Evaluation]):
        super().__init__("interrupted")
        self.figures = figures


def coco(
    model,
    dataset: Dataset,
    image_ids: Iterable[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    min_confidence: float = EVALUATION_MIN_CONFIDENCE,
) -> Evaluation:
    """COCO's figures of a model on a dataset, and what comes with them.

    model: a `MaskRCNN` in inference mode. Its DETECTION_MIN_CONFIDENCE is min_confidence meanwhile.
    dataset ... min_confidence: as for `evaluate_dataset`, which does the same for any detector.
    """
    shown_from = model.config.DETECTION_MIN_CONFIDENCE
    model.config.DETECTION_MIN_CONFIDENCE = min_confidence
    try:
        return evaluate_dataset(
            lambda image: model.detect([image], masks="rle")[0],
            dataset,
            image_ids,
            limit,
            progress,
            min_confidence,
        )
    finally:
        model.config.DETECTION_MIN_CONFIDENCE = shown_from


def evaluate_dataset(
    detect: Callable[[np.ndarray], dict[str, np.ndarray]],
    dataset: Dataset,
    image_ids: Iterable[int] | None = None,
    limit: int | None = None,
    progress: bool = True,
    min_confidence: float = EVALUATION_MIN_CONFIDENCE,
    on_image: Callable[[int, np.ndarray, dict], None] | None = None,
) -> Evaluation:
    """COCO's figures of a detector on a dataset, for boxes and, where the detector gives masks, for masks.

    detect: image [H, W, C] -> dict with rois [N, (y1, x1, y2, x2)] pixels, class_ids [N], scores [N] and
        masks [H, W, N] or a list of N run-length codes (left out by box-only models):
        `lambda image: model.detect([image], masks="rle")[0]`.
    dataset: any prepared dataset; truth is taken from it at original resolution. A box-only model is measured by the
        dataset's own load_bbox where it has one, else by the boxes of the masks; a dataset without masks gives figures
        for boxes alone.
    image_ids: default all images. limit: only the first so many of them.
    progress: show a progress bar.
    min_confidence: detections below it are not counted; the report states it.
    on_image: called with (image id, image, what `detect` returned) after each image.

    An image whose pixels or annotations cannot be read is logged and left out (`Evaluation.failed`).

    Returns: `Evaluation`. Without detections its figures are 0, without truth nan. More than 100 detections
        of one class in one image: the 100 best count (COCO's maxDets). VOC's AP is among them where an image's
        `image_info` has "difficult" flags, one an instance; its "boxes" then are VOC's truth for boxes.
    Raises: ValueError when there is no image to evaluate; the first image's own error if none can be read;
        EvaluationInterrupted, a KeyboardInterrupt, at Ctrl-C after the first image.
    """
    start = time.perf_counter()
    ids = [int(i) for i in (dataset.image_ids if image_ids is None else image_ids)][:limit]
    if not ids:
        raise ValueError(
            f"An evaluation needs at least one image. Received: a dataset of {len(dataset.image_ids)} "
            f"images, limit={limit}. Try a larger limit, or check that the dataset was filled and prepared."
        )
    truth, results, has_masks, measured = _empty_truth(dataset), [], True, []
    failed: dict[int, Exception] = {}

    def figures():
        for entries, key in (
            (truth["images"], "id"),
            (truth["annotations"], "image_id"),
            (results, "image_id"),
        ):
            entries[:] = [entry for entry in entries if entry[key] in set(measured)]
        found = _figures(dataset, measured, truth, results, has_masks, min_confidence)
        found.failed = [
            _failed_entry(dataset, image_id, error) for image_id, error in failed.items()
        ]
        found.partial_of = None if len(measured) + len(failed) == len(ids) else len(ids)
        found.seconds = time.perf_counter() - start
        return found

    bar = {"description": "Evaluating", "console": Console(stderr=True), "disable": not progress}
    try:
        for image_id in track(ids, **bar):
            try:
                image = dataset.load_image(image_id)
            except Exception as error:  # load_image may be the user's own, which raises anything
                failed[image_id] = _log_failure(dataset, image_id, error)
                continue
            found = detect(image)
            result = _confident(found, min_confidence, image.shape[:2])
            boxes_only = _boxes_are_truth(dataset, "masks" in result)
            try:
                (_add_boxes if boxes_only else _add_truth)(
                    truth, dataset, image_id, image.shape[:2]
                )
            except Exception as error:  # likewise load_mask
                failed[image_id] = _log_failure(dataset, image_id, error)
                continue
            has_masks = has_masks and "masks" in result and not boxes_only
            results += coco_results(image_id, result)
            measured.append(image_id)
            if on_image is not None:
                on_image(image_id, image, found)
    except KeyboardInterrupt as stop:
        if not measured:
            raise
        raise EvaluationInterrupted(figures) from stop
    if not measured:
        raise next(iter(failed.values()))
    return figures()


def _log_failure(dataset: Dataset, image_id: int, error: Exception) -> Exception:
    """The error itself, after it was logged with the image's name."""
    entry = _failed_entry(dataset, image_id, error)
    logger.error(
        "Image %d (%s) is left out: %s",
        image_id,
        printable(entry["image"]),
        printable(entry["error"], 1000),
    )
    return error


def _failed_entry(dataset: Dataset, image_id: int, error: Exception) -> dict:
    """An entry of `Evaluation.failed`."""
    info = dataset.image_info[image_id]
    why = (
        str(error)
        if isinstance(error, ValueError | OSError)
        else f"{type(error).__name__}: {error}"
    )
    return {"image_id": image_id, "image": str(info.get("path") or info.get("id")), "error": why}


def _figures(
    dataset: Dataset,
    ids: list[int],
    truth: dict,
    results: list[dict],
    has_masks: bool,
    min_confidence: float,
) -> Evaluation:
    """The `Evaluation` of images whose truth and detections, from that confidence on, are in COCO's formats."""
    kinds = {"box": "bbox", "mask": "segm"} if has_masks else {"box": "bbox"}
    scores = {kind: coco_scores(truth, results, name) for kind, name in kinds.items()}
    is_voc = any("difficult" in dataset.image_info[i] for i in ids)
    voc = {kind: voc_scores(truth, results, name) for kind, name in kinds.items()} if is_voc else {}
    kind, name = list(kinds.items())[-1]
    matches = match(truth, results, name)
    confidence = best_confidence(matches)
    return Evaluation(
        box=scores["box"].figures,
        mask=scores["mask"].figures if has_masks else None,
        per_class=[
            _class_row(truth, category, scores, voc, matches) for category in truth["categories"]
        ],
        images=len(ids),
        objects=len(matches.objects),
        detections=len(results),
        min_confidence=min_confidence,
        kind=kind,
        precision=scores[kind].precision,
        confidence=confidence,
        confusion=confusion_matrix(
            matches, min_confidence if math.isnan(confidence.score) else confidence.score
        ),
        voc={kind: _mean_of_classes(aps) for kind, aps in voc.items()} or None,
    )


def _class_row(truth: dict, category: dict, scores: dict, voc: dict, matches: Matches) -> dict:
    """The figures of one class; see `Evaluation.per_class`."""
    class_id = category["id"]
    best = best_confidence(matches, class_id)
    row = {
        "id": class_id,
        "name": category["name"],
        "objects": sum(
            a["category_id"] == class_id and not a["iscrowd"] for a in truth["annotations"]
        ),
        "box_AP": scores["box"].per_class[class_id],
        "mask_AP": scores["mask"].per_class[class_id] if "mask" in scores else None,
        "confidence": best.score,
        "F1": best.f1,
    }
    return {**row, "VOC": {kind: list(aps[class_id]) for kind, aps in voc.items()}} if voc else row


def _mean_of_classes(aps: dict[int, tuple[float, float]]) -> list[float]:
    """The mean AP 2007 and the mean AP 2010 of the classes that have objects; nan without any."""
    defined = [pair for pair in aps.values() if not math.isnan(pair[0])]
    return np.mean(defined, axis=0).tolist() if defined else [math.nan, math.nan]


def _confident(
    result: dict[str, Any], min_confidence: float, size: Sequence[int]
) -> dict[str, Any]:
    """The part of a result from a confidence on; its masks must be of this (height, width)."""
    check_result(result)
    keep = np.flatnonzero(np.asarray(result["scores"]) >= min_confidence)
    kept = {key: np.asarray(result[key])[keep] for key in ("rois", "class_ids", "scores")}
    if "masks" in result:
        masks = result["masks"]
        coded = isinstance(masks, list)
        sizes = {tuple(rle["size"]) for rle in masks} if coded else {masks.shape[:2]}
        if len(result["scores"]) and sizes != {tuple(size)}:
            raise ValueError(
                f"Detected masks must be as large as the image. Received: {', '.join(map(str, sorted(sizes)))} for an "
                f"image of {tuple(size)} (height, width). Try masks in original pixels, as detect() gives."
            )
        kept["masks"] = [masks[i] for i in keep] if coded else select_masks(masks, keep)
    return kept

"""The files of an evaluation: `record_mAP.txt`, precision-recall curves and confusion matrix."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..drawing.curves import (
    NUMBERED_CLASSES,
    draw_confusion_matrix,
    draw_precision_recall,
    save_png,
)
from ..files.atomic import atomic_write
from ..files.safe_text import LONGEST_NAME, printable
from .scores import CURVE_IOUS, RECALLS
from .summary import Evaluation, rounded_down

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "record_mAP.txt"
CURVES = "precision_recall.png"
CONFUSION = "confusion_matrix.png"

MISSED = "missed"
BACKGROUND = "nothing there"
LISTED_CONFUSIONS = 40


def write(evaluation: Evaluation, folder: str | Path, heading: str = "") -> list[Path]:
    """Write the record and both images into a folder, and return their paths.

    heading: first line of the record, e.g. the weights and the data.
    """
    record_path, curves_path, confusion_path = (
        Path(folder, name) for name in (RECORD, CURVES, CONFUSION)
    )
    with atomic_write(record_path) as part:
        Path(part).write_text(record(evaluation, heading), encoding="utf-8")
    _write_figure(evaluation, draw_curves(evaluation), curves_path)
    _write_figure(evaluation, draw_confusion(evaluation), confusion_path)
    return [record_path, curves_path, confusion_path]


def _write_figure(evaluation: Evaluation, figure: Figure, path: Path) -> None:
    if evaluation.partial_of is not None:
        figure.suptitle(evaluation.partial_note())
    save_png(figure, path, dpi=110)


# --- Text ---------------------------------------------------------------------------------------


def record(evaluation: Evaluation, heading: str = "") -> str:
    """Return all metrics as text: table, VOC's AP of each class, mean curves, confusions."""
    parts = [
        printable(heading, 1000),
        evaluation.table(),
        _voc_text(evaluation),
        _curve_text(evaluation),
        _confusion_text(evaluation),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _voc_text(evaluation: Evaluation) -> str:
    if evaluation.voc is None:
        return ""
    names = _class_names(evaluation)
    width = max(len(name) for name in ["class", *names])
    header = f"{'class':<{width}}"
    for kind in evaluation.voc:
        header += f"  {kind + ' AP 2007':>12}  {kind + ' AP 2010':>12}"
    lines = ["VOC, IoU 0.5", header]
    for name, row in zip(names, evaluation.per_class, strict=True):
        line = f"{name:<{width}}"
        for kind in evaluation.voc:
            line += "".join(f"  {ap:12.3f}" for ap in row["VOC"][kind])
        lines.append(line)
    return "\n".join(lines)


def _curve_text(evaluation: Evaluation) -> str:
    """Return the precision at every tenth recall, the mean over classes."""
    tenths = slice(None, None, 10)
    lines = [
        f"Precision at a recall, {evaluation.kind}, mean over classes",
        "recall  " + "".join(f"{recall:6.1f}" for recall in RECALLS[tenths]),
    ]
    for iou, curve in zip(CURVE_IOUS, mean_curves(evaluation), strict=True):
        lines.append(f"IoU {iou:<4}" + "".join(f"{precision:6.3f}" for precision in curve[tenths]))
    return "\n".join(lines)


def _confusion_text(evaluation: Evaluation) -> str:
    columns = [*_class_names(evaluation), MISSED]
    rows = [*_class_names(evaluation), BACKGROUND]
    if len(rows) > NUMBERED_CLASSES:
        return _most_frequent_confusions(evaluation, rows, columns)
    width = max(len(name) for name in rows)
    lines = [_confusion_title(evaluation) + ": rows ground truth, columns detected"]
    lines.append(" " * width + "".join(f"  {name:>6}" for name in columns))
    for name, counts in zip(rows, evaluation.confusion, strict=True):
        line = f"{name:<{width}}"
        for count, column in zip(counts, columns, strict=True):
            line += f"  {count:>{max(6, len(column))}}"
        lines.append(line)
    return "\n".join(lines)


def _most_frequent_confusions(evaluation: Evaluation, rows: list[str], columns: list[str]) -> str:
    """Return one line per confusion; a matrix of many classes is not readable as text."""
    counts = evaluation.confusion.copy()
    np.fill_diagonal(counts, 0)
    lines = [_confusion_title(evaluation) + ": the most frequent, ground truth -> detected"]
    order = np.argsort(-counts, axis=None, kind="stable")
    for cell in order[:LISTED_CONFUSIONS]:
        row, column = divmod(int(cell), len(columns))
        if counts[row, column]:
            lines.append(f"{counts[row, column]:6d}  {rows[row]} -> {columns[column]}")
    return "\n".join(lines)


def _class_names(evaluation: Evaluation) -> list[str]:
    return [printable(row["name"], LONGEST_NAME) for row in evaluation.per_class]


def _confusion_title(evaluation: Evaluation) -> str:
    confidence = rounded_down(evaluation.shown_from)
    return f"Confusions at {evaluation.kind} IoU 0.5, confidence >= {confidence}"


def mean_curves(evaluation: Evaluation) -> np.ndarray:
    """Return the precision [IoU 0.5 and 0.75, 101 recalls], the mean over classes with objects.

    nan if no class has objects.
    """
    defined = ~np.isnan(evaluation.precision[0, 0])
    if not defined.any():
        return np.full(evaluation.precision.shape[:2], math.nan)
    return evaluation.precision[:, :, defined].mean(axis=2)


# --- Figures ------------------------------------------------------------------------------------


def draw_curves(evaluation: Evaluation) -> Figure:
    """Draw precision over recall at IoU 0.5 and at 0.75: the mean over classes, and each class."""
    return draw_precision_recall(
        RECALLS,
        evaluation.precision,
        mean_curves(evaluation),
        _class_names(evaluation),
        titles=[f"{evaluation.kind} IoU {iou}" for iou in CURVE_IOUS],
    )


def draw_confusion(evaluation: Evaluation) -> Figure:
    """Draw the confusion matrix of an evaluation."""
    return draw_confusion_matrix(
        evaluation.confusion,
        _class_names(evaluation),
        missed=MISSED,
        background=BACKGROUND,
        title=_confusion_title(evaluation),
    )

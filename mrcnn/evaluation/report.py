"""An evaluation in files: `record_mAP.txt`, and pictures of its precision-recall curves and its confusions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files.atomic import atomic_write
from ..files.safe_text import LONGEST_NAME, figure_text, printable
from .evaluate import Evaluation, rounded_down
from .scores import CURVE_IOUS, RECALLS

RECORD, CURVES, CONFUSION = "record_mAP.txt", "precision_recall.png", "confusion_matrix.png"
MISSED, NOTHING = "missed", "nothing there"
NAMED_CURVES = (
    10  # more classes than that are thin grey lines: a legend of eighty names hides the curves
)
NUMBERED_CLASSES = 25  # in larger matrices no number can be read
LISTED_CONFUSIONS = 40


def write(evaluation: Evaluation, folder: str | Path, heading: str = "") -> list[Path]:
    """Write the record and both pictures into a folder; returns their paths.

    heading: first line of the record, such as which weights were measured on which data.
    """
    paths = [Path(folder, name) for name in (RECORD, CURVES, CONFUSION)]
    with atomic_write(paths[0]) as part:
        Path(part).write_text(record(evaluation, heading), encoding="utf-8")
    for draw, path in zip((draw_curves, draw_confusion), paths[1:], strict=True):
        figure = draw(evaluation)
        if note := evaluation.partial_note():
            figure.suptitle(note)
        with atomic_write(path) as part:
            figure.savefig(part, format="png", dpi=110)
    return paths


# --- Text ---------------------------------------------------------------------------------------------------


def record(evaluation: Evaluation, heading: str = "") -> str:
    """All figures as text: the table, VOC's AP of each class, the mean curves, the confusions."""
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
    kinds = list(evaluation.voc)
    width = _name_width(evaluation)
    header = f"{'class':<{width}}" + "".join(
        f"  {kind + ' AP 2007':>12}  {kind + ' AP 2010':>12}" for kind in kinds
    )
    lines = ["VOC, IoU 0.5", header]
    for name, row in zip(_class_names(evaluation), evaluation.per_class, strict=True):
        lines.append(
            f"{name:<{width}}"
            + "".join(f"  {ap:12.3f}" for kind in kinds for ap in row["VOC"][kind])
        )
    return "\n".join(lines)


def _curve_text(evaluation: Evaluation) -> str:
    """Precision at every tenth recall, the mean over classes."""
    tenths = slice(None, None, 10)
    lines = [
        f"Precision at a recall, {evaluation.kind}, mean over classes",
        "recall  " + "".join(f"{recall:6.1f}" for recall in RECALLS[tenths]),
    ]
    for iou, curve in zip(CURVE_IOUS, mean_curves(evaluation), strict=True):
        lines.append(f"IoU {iou:<4}" + "".join(f"{precision:6.3f}" for precision in curve[tenths]))
    return "\n".join(lines)


def _confusion_text(evaluation: Evaluation) -> str:
    columns, rows = [*_class_names(evaluation), MISSED], [*_class_names(evaluation), NOTHING]
    if len(rows) > NUMBERED_CLASSES:
        return _worst_confusions(evaluation, rows, columns)
    width = max(len(name) for name in rows)
    lines = [_confusion_title(evaluation) + ": rows truth, columns detected"]
    lines.append(" " * width + "".join(f"  {name:>6}" for name in columns))
    for name, counts in zip(rows, evaluation.confusion, strict=True):
        cells = (
            f"  {count:>{max(6, len(column))}}"
            for count, column in zip(counts, columns, strict=True)
        )
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)


def _worst_confusions(evaluation: Evaluation, rows: list[str], columns: list[str]) -> str:
    """The most frequent confusions, a line each: as a matrix, so many classes could not be read."""
    counts = evaluation.confusion.copy()
    np.fill_diagonal(counts, 0)
    order = [
        np.unravel_index(cell, counts.shape)
        for cell in np.argsort(-counts, axis=None, kind="stable")
    ]
    lines = [
        f"{counts[r, c]:6d}  {rows[r]} -> {columns[c]}"
        for r, c in order[:LISTED_CONFUSIONS]
        if counts[r, c]
    ]
    return "\n".join(
        [_confusion_title(evaluation) + ": the most frequent, truth -> detected", *lines]
    )


def _class_names(evaluation: Evaluation) -> list[str]:
    return [printable(row["name"], LONGEST_NAME) for row in evaluation.per_class]


def _name_width(evaluation: Evaluation) -> int:
    return max([len("class"), *(len(name) for name in _class_names(evaluation))])


def _confusion_title(evaluation: Evaluation) -> str:
    best = evaluation.confidence.score
    confidence = evaluation.min_confidence if math.isnan(best) else best
    return f"Confusions at {evaluation.kind} IoU 0.5, confidence >= {rounded_down(confidence)}"


def mean_curves(evaluation: Evaluation) -> np.ndarray:
    """Precision [IoU 0.5 and 0.75, 101 recalls], the mean over the classes that have objects; nan without any."""
    defined = ~np.isnan(evaluation.precision[0, 0])
    if not defined.any():
        return np.full(evaluation.precision.shape[:2], math.nan)
    return evaluation.precision[:, :, defined].mean(axis=2)


# --- Pictures -----------------------------------------------------------------------------------------------


def draw_curves(evaluation: Evaluation) -> Figure:
    """Precision over recall at IoU 0.5 and at 0.75: the mean over classes, and each class."""
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    names = [figure_text(name) for name in _class_names(evaluation)]
    mean = mean_curves(evaluation)
    for i, (axes, iou) in enumerate(
        zip(figure.subplots(1, len(CURVE_IOUS), sharey=True), CURVE_IOUS, strict=True)
    ):
        for k, name in enumerate(names if len(names) > 1 else []):  # a single class is the mean
            curve = evaluation.precision[i, :, k]
            thin = {"color": "0.8", "linewidth": 0.6}
            axes.plot(
                RECALLS,
                curve,
                **(thin if len(names) > NAMED_CURVES else {"label": _label(name, curve)}),
            )
        label = "mean over classes" if len(names) > 1 else (names or ["no class"])[0]
        axes.plot(RECALLS, mean[i], color="black", linewidth=2.5, label=_label(label, mean[i]))
        axes.set(
            title=f"{evaluation.kind} IoU {iou}", xlabel="recall", xlim=(0, 1.01), ylim=(0, 1.03)
        )
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize=9)
    figure.axes[0].set_ylabel("precision")
    return figure


def _label(name: str, curve: np.ndarray) -> str:
    return f"{name}: no objects" if np.isnan(curve[0]) else f"{name}: AP {curve.mean():.3f}"


def draw_confusion(evaluation: Evaluation) -> Figure:
    """The confusion matrix: counts as numbers, shares of a class's objects as colour.

    The last row shows what is wrong of a class's detections.
    """
    names = [figure_text(name) for name in _class_names(evaluation)]
    counts = evaluation.confusion
    readable = len(names) <= NUMBERED_CLASSES
    cell, font, turn = (0.55, 9, 45) if readable else (0.17, 6, 90)  # inches, points, degrees
    side = max(5.0, cell * len(counts) + 2.5)
    figure = Figure(figsize=(side + 1.8, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares[-1] = counts[-1] / np.maximum(counts.sum(axis=0), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, fraction=0.04, pad=0.02)
    bar.set_label("share of the class's objects; last row: of its detections", fontsize=8)
    slope = {
        "rotation": turn,
        "ha": "right",
        "va": "center" if turn == 90 else "top",
        "rotation_mode": "anchor",
    }
    axes.set_xticks(range(len(counts)), [*names, MISSED], fontsize=font, **slope)
    axes.set_yticks(range(len(counts)), [*names, NOTHING], fontsize=font)
    axes.set(title=_confusion_title(evaluation), xlabel="detected", ylabel="truth")
    _rule_off(axes, len(names))
    if readable:
        for (row, column), count in np.ndenumerate(counts):
            if (row, column) != (
                len(names),
                len(names),
            ):  # nothing there and not detected: no number for that
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column, row, str(count), ha="center", va="center", color=color, fontsize=font
                )
    return figure


def _rule_off(axes: Axes, classes: int) -> None:
    """Lines that part the classes from what was missed and what was not there."""
    axes.axhline(classes - 0.5, color="0.4", linewidth=1)
    axes.axvline(classes - 0.5, color="0.4", linewidth=1)

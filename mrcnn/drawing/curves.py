"""Losses, metrics of the epochs, precision and recall, overlaps, confusions as matplotlib figures.

`plot_*` draw into pyplot's figures, as notebooks expect. `draw_*` return a `Figure` that pyplot
does not know, so that it needs neither a display nor closing. matplotlib is imported by the
functions that draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..config import KEYPOINT_LOSS
from ..config import LOSS_NAMES as PARTS
from ..files.atomic import atomic_write
from ..files.safe_text import figure_text
from .figures import new_figure
from .inputs import ClassNames, class_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS_NAMES = ("loss", *PARTS, KEYPOINT_LOSS)
# With more classes the curves of classes are thin gray lines without names in the legend.
NAMED_CURVES = 10
NUMBERED_CLASSES = 25  # counts are not readable in the figure of a larger confusion matrix
CONFUSION_CAPTION = "Color: share of the row's total; in the last row, of the column's total"
LOWEST_AP_TOP = 0.01  # the AP axis ends here or higher, so that its numbers need no power of ten


def save_png(figure: Figure, path: str | Path, dpi: int) -> None:
    """Write a figure as a PNG; its folder is created, and the file is complete or absent."""
    with atomic_write(path) as part:
        figure.savefig(part, format="png", dpi=dpi)


# --- Losses -------------------------------------------------------------------------------------


def plot_history(history: Mapping[str, Sequence[float]], path_or_ax: str | Path | Axes) -> None:
    """Draw the total loss of a training and its parts, with validation losses if present.

    history: {"loss": [one per epoch], "rpn_class_loss": [...], ..., "val_loss": [...]}; other
        keys are ignored.
    path_or_ax: path of a PNG with one panel per loss, or axes that take all curves.

    Raises: ValueError if the history has no loss.
    """
    names = [name for name in LOSS_NAMES if name in history or f"val_{name}" in history]
    if not names:
        raise ValueError(
            f"history must hold at least one of {', '.join(LOSS_NAMES)}. "
            f"Received: {sorted(history)}. Try model.keras_model.history.history."
        )
    if isinstance(path_or_ax, (str, Path)):
        save_png(_loss_panels(history, names), path_or_ax, dpi=100)
        return
    for i, name in enumerate(names):
        _plot_loss(path_or_ax, history, name, color=f"C{i}", labels=(name, f"val_{name}"))
    _finish_loss_axes(path_or_ax)
    _add_legend(path_or_ax)


def _loss_panels(history: Mapping[str, Sequence[float]], names: Sequence[str]) -> Figure:
    """Draw each loss in a panel of its own."""
    from matplotlib.figure import Figure

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.4 * rows), layout="constrained")
    for i, name in enumerate(names):
        title = "total loss" if name == "loss" else name
        ax = figure.add_subplot(rows, columns, i + 1)
        _plot_loss(ax, history, name, color="C0", labels=("training", "validation"))
        _finish_panel(ax, title)
    return figure


def _plot_loss(
    ax: Axes,
    history: Mapping[str, Sequence[float]],
    name: str,
    color: str,
    labels: tuple[str, str],
) -> None:
    """Draw one loss over the epochs: training solid, validation dashed."""
    for key, style, label in ((name, "-", labels[0]), (f"val_{name}", "--", labels[1])):
        values = history.get(key, ())
        if len(values) == 0:
            continue
        epochs = range(1, len(values) + 1)
        marker = "o" if len(values) == 1 else None  # a line needs two points
        ax.plot(epochs, values, style, color=color, label=label, marker=marker)


def _finish_loss_axes(ax: Axes) -> None:
    """Set grid and scales; the y axis starts at 0 and ends above the highest value."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.update_datalim([(1, 0)])
    ax.autoscale_view()
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)


def _finish_panel(ax: Axes, title: str) -> None:
    """Finish axes of losses; the legend is above them, below the title, and hides no point."""
    _finish_loss_axes(ax)
    ax.set_title(title, pad=22)  # points; the legend is lower
    _add_legend(
        ax,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=4,
        frameon=False,
        fontsize=8.5,
        borderaxespad=0.2,
        columnspacing=1.0,
        handlelength=1.0,
        handletextpad=0.5,
    )


def _add_legend(ax: Axes, **style: Any) -> None:
    """Add a legend if any curve has a label; it does not change the size of the axes."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**style).set_in_layout(False)


# --- The epochs of a training -------------------------------------------------------------------


def draw_results(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Draw the losses, AP and the learning rate over the epochs of a training.

    rows: of `results.csv`, see `training.reports.ResultsTable`; a metric that is absent is a gap.
    """
    from matplotlib.figure import Figure

    names = [name for name in LOSS_NAMES if any(row.get(name) for row in rows)]
    has_ap = any(row.get("val_mAP") for row in rows)
    panels = [*names, *(["AP"] if has_ap else []), "learning rate"]
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 3.3 * lines), layout="constrained")
    epochs = _numbers(rows, "epoch")
    for i, name in enumerate(panels):
        title = {"loss": "total loss", "AP": "AP on validation data"}.get(name, name)
        ax = figure.add_subplot(lines, columns, i + 1)
        if name == "AP":
            _plot_average_precision(ax, rows, epochs)
        elif name == "learning rate":
            _plot_column(ax, epochs, _numbers(rows, "learning_rate"), color="C2")
        else:
            _plot_column(ax, epochs, _numbers(rows, name), label="training")
            validation = _numbers(rows, f"val_{name}")
            _plot_column(ax, epochs, validation, color="C1", label="validation")
        _finish_panel(ax, title)
        if name == "AP":
            ax.set_ylim(top=max(ax.get_ylim()[1], LOWEST_AP_TOP))
        if len(epochs) == 1:  # one point gives the axis no length
            ax.set_xlim(epochs[0] - 1, epochs[0] + 1)
    return figure


def _plot_average_precision(
    ax: Axes, rows: Sequence[Mapping[str, str]], epochs: np.ndarray
) -> None:
    """Draw AP, AP50 and, of a network with masks, the AP of boxes; mark the best epoch."""
    average_precision = _numbers(rows, "val_mAP")
    boxes = _numbers(rows, "val_box_mAP")
    has_masks = bool(np.any(np.abs(boxes - average_precision) > 0))
    _plot_column(ax, epochs, average_precision, label="mask AP" if has_masks else "AP")
    _plot_column(ax, epochs, _numbers(rows, "val_mAP50"), color="C1", label="AP50")
    if has_masks:
        _plot_column(ax, epochs, boxes, color="C2", label="box AP")
    if np.isnan(average_precision).all():
        return
    best = int(np.nanargmax(average_precision))
    value = average_precision[best]
    # Hollow, so that the points below stay visible.
    star = {"marker": "*", "color": "C3", "markersize": 12, "markerfacecolor": "none"}
    ax.plot(epochs[best], value, linestyle="", label=f"best: {value:.3f}", **star)


def _plot_column(ax: Axes, epochs: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw values over epochs; a point among gaps, which no line shows, as a dot."""
    if np.isnan(values).all():
        return
    known = ~np.isnan(values)
    ax.plot(epochs[known], values[known], marker="." if known.sum() < 30 else None, **style)


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    """Return a column of a table as `[rows]` float, nan for an empty cell."""
    return np.array([float(row.get(name) or "nan") for row in rows])


# --- Precision and recall -----------------------------------------------------------------------


def plot_precision_recall(AP: float, precisions: ArrayLike, recalls: ArrayLike) -> None:
    """Draw the precision-recall curve of one image.

    AP: average precision at IoU 0.5, for the title. precisions, recalls: [K], see `compute_ap`.
    """
    ax = new_figure().add_subplot()
    ax.set_title(f"Precision-Recall Curve. AP@50 = {AP:.3f}")
    ax.set(xlim=(0, 1.1), ylim=(0, 1.1), xlabel="recall", ylabel="precision")
    ax.plot(recalls, precisions)


def draw_precision_recall(
    recalls: np.ndarray,
    precision: np.ndarray,
    mean: np.ndarray,
    class_names: Sequence[str],
    titles: Sequence[str],
) -> Figure:
    """Draw precision over recall, one panel per IoU threshold: the mean and each class.

    recalls: [R]. precision: [T, R, classes], nan for a class without objects.
    mean: [T, R] over the classes. class_names: one per class. titles: T, one per panel.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    names = [figure_text(name) for name in class_names]
    panels = figure.subplots(1, len(titles), sharey=True)
    for panel, title, curves, mean_curve in zip(panels, titles, precision, mean, strict=True):
        if len(names) > 1:  # the curve of a single class is the mean
            _plot_classes(panel, recalls, curves, names)
        mean_name = "mean over classes" if len(names) > 1 else (names or ["no class"])[0]
        label = _curve_label(mean_name, mean_curve)
        panel.plot(recalls, mean_curve, color="black", linewidth=2.5, label=label)
        panel.set(title=title, xlabel="recall", xlim=(0, 1.01), ylim=(0, 1.03))
        panel.grid(alpha=0.3)
        panel.legend(loc="best", fontsize=9)
    figure.axes[0].set_ylabel("precision")
    return figure


def _plot_classes(ax: Axes, recalls: np.ndarray, curves: np.ndarray, names: Sequence[str]) -> None:
    """Draw one curve per class. curves: [R, classes]."""
    for k, name in enumerate(names):
        if len(names) > NAMED_CURVES:
            ax.plot(recalls, curves[:, k], color="0.8", linewidth=0.6)
        else:
            ax.plot(recalls, curves[:, k], label=_curve_label(name, curves[:, k]))


def _curve_label(name: str, curve: np.ndarray) -> str:
    if np.isnan(curve[0]):
        return f"{name}: no objects"
    return f"{name}: AP {curve.mean():.3f}"


# --- Overlaps and confusions --------------------------------------------------------------------


def plot_overlaps(
    gt_class_ids: ArrayLike,
    pred_class_ids: ArrayLike,
    pred_scores: Sequence[float] | np.ndarray,
    overlaps: ArrayLike,
    class_names: ClassNames,
    threshold: float = 0.5,
) -> None:
    """Draw a grid of the IoU of every prediction (row) with every ground truth object (column).

    gt_class_ids: [G]. pred_class_ids: [P]. Zeros are padding.
    pred_scores: [P]. overlaps: [P, G].
    threshold: a pair of a higher IoU is marked "match", or "wrong" if the classes differ.
    """
    gt_class_ids = np.asarray(gt_class_ids)
    gt_class_ids = gt_class_ids[gt_class_ids != 0]
    pred_class_ids = np.asarray(pred_class_ids)
    pred_class_ids = pred_class_ids[pred_class_ids != 0]
    overlaps = _without_padding(overlaps, len(pred_class_ids), len(gt_class_ids))
    ax = new_figure((12, 10)).add_subplot()
    if overlaps.size:
        ax.imshow(overlaps, interpolation="nearest", cmap="Blues", vmin=0, vmax=1)
    rows = class_labels(pred_class_ids, class_names, pred_scores, digits=2)
    columns = class_labels(gt_class_ids, class_names, None, digits=0)
    ax.set_yticks(range(len(rows)), [figure_text(label) for label in rows])
    ax.set_xticks(range(len(columns)), [figure_text(label) for label in columns], rotation=90)
    ax.set(xlabel="ground truth", ylabel="predictions")
    for (i, j), iou in np.ndenumerate(overlaps):
        verdict = ""
        if iou > threshold:
            verdict = "match" if gt_class_ids[j] == pred_class_ids[i] else "wrong"
        _write_cell(ax, i, j, f"{iou:.3f}\n{verdict}", dark=bool(iou > 0.5), fontsize=9)


def _without_padding(overlaps: ArrayLike, predictions: int, objects: int) -> np.ndarray:
    """Return the first rows and columns of overlaps as `[predictions, objects]`."""
    overlaps = np.asarray(overlaps)
    if overlaps.ndim == 2:
        overlaps = overlaps[:predictions, :objects]
    if overlaps.shape != (predictions, objects):
        raise ValueError(
            "overlaps must have a row per prediction and a column per ground truth object. "
            f"Received: {overlaps.shape} for {predictions} predictions and "
            f"{objects} ground truth objects."
        )
    return overlaps


def _write_cell(ax: Axes, row: int, column: int, text: str, dark: bool, fontsize: int) -> None:
    """Write a text into a cell of a matrix, white if the cell is dark."""
    style: dict[str, Any] = {"color": "white" if dark else "black", "fontsize": fontsize}
    ax.text(column, row, text, ha="center", va="center", **style)


def draw_confusion_matrix(
    counts: np.ndarray, class_names: Sequence[str], missed: str, background: str, title: str
) -> Figure:
    """Draw a confusion matrix: counts as numbers, shares of the row as color.

    counts: [classes + 1, classes + 1], rows ground truth and columns detected. The last column
        counts missed objects, the last row detections without an object; that row is colored by
        shares of the columns.
    missed, background: names of the last column and of the last row.
    """
    from matplotlib.figure import Figure

    names = [figure_text(name) for name in class_names]
    readable = len(names) <= NUMBERED_CLASSES
    cell_inches = 0.55 if readable else 0.17
    fontsize = 9 if readable else 6
    side = max(5.0, cell_inches * len(counts) + 2.5)
    figure = Figure(figsize=(side + 1.8, side), layout="constrained")
    ax = figure.subplots()
    shares = _confusion_shares(counts)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=ax, shrink=0.8, fraction=0.04, pad=0.02, format="{x:.0%}")
    figure.supxlabel(CONFUSION_CAPTION, fontsize=9)
    ax.set_yticks(range(len(counts)), [*names, background], fontsize=fontsize)
    ax.set_xticks(range(len(counts)), [*names, missed], fontsize=fontsize, ha="right")
    for label in ax.get_xticklabels():
        label.set(rotation=45 if readable else 90, rotation_mode="anchor")
        label.set_verticalalignment("top" if readable else "center")
    ax.set(title=title, xlabel="detected", ylabel="ground truth")
    # Lines between the classes and the last row and column.
    ax.axhline(len(names) - 0.5, color="0.4", linewidth=1)
    ax.axvline(len(names) - 0.5, color="0.4", linewidth=1)
    if readable:
        _write_counts(ax, counts, shares, fontsize)
    return figure


def _confusion_shares(counts: np.ndarray) -> np.ndarray:
    """Divide rows by the objects of their class, the last row by the detections of each class."""
    objects = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(objects, 1)
    shares[-1] = counts[-1] / np.maximum(counts.sum(axis=0), 1)
    return shares


def _write_counts(ax: Axes, counts: np.ndarray, shares: np.ndarray, fontsize: int) -> None:
    """Write the counts into the cells, except the last one, which is undefined."""
    last = len(counts) - 1
    for (row, column), count in np.ndenumerate(counts):
        if (row, column) != (last, last):
            dark = bool(shares[row, column] > 0.5)
            _write_cell(ax, row, column, str(count), dark, fontsize)

"""Curves and matrices: losses of a training, precision over recall, overlaps, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..files.atomic import atomic_write
from ..files.limits import figure_text
from .figures import new_figure
from .inputs import class_labels

LOSS_NAMES = (
    "loss",
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
)


def plot_precision_recall(AP, precisions, recalls) -> None:
    """Draws the precision-recall curve.

    AP: average precision at IoU 0.5, for the title
    precisions, recalls: [K] as from `compute_ap`
    """
    ax = new_figure().add_subplot()
    ax.set_title(f"Precision-Recall Curve. AP@50 = {AP:.3f}")
    ax.set(xlim=(0, 1.1), ylim=(0, 1.1), xlabel="recall", ylabel="precision")
    ax.plot(recalls, precisions)


def plot_overlaps(
    gt_class_ids, pred_class_ids, pred_scores, overlaps, class_names, threshold=0.5
) -> None:
    """Draws a grid of the IoU of every prediction (row) with every true object (column).

    gt_class_ids: [G], pred_class_ids: [P]; zeros are padding
    pred_scores: [P]
    overlaps: [P, G]
    threshold: an IoU above it is a match, or wrong if the classes differ
    """
    gt_class_ids, pred_class_ids = np.asarray(gt_class_ids), np.asarray(pred_class_ids)
    gt_class_ids, pred_class_ids = (
        gt_class_ids[gt_class_ids != 0],
        pred_class_ids[pred_class_ids != 0],
    )
    predictions, truths = len(pred_class_ids), len(gt_class_ids)
    overlaps = np.asarray(overlaps)
    overlaps = overlaps[:predictions, :truths] if overlaps.ndim == 2 else overlaps
    if overlaps.shape != (predictions, truths):
        raise ValueError(
            "overlaps must have a row per prediction and a column per true object. "
            f"Received: {overlaps.shape} for {predictions} predictions and {truths} true objects."
        )
    ax = new_figure((12, 10)).add_subplot()
    if overlaps.size:
        ax.imshow(overlaps, interpolation="nearest", cmap="Blues", vmin=0, vmax=1)
    found = [
        figure_text(label)
        for label in class_labels(pred_class_ids, class_names, pred_scores, digits=2)
    ]
    there = [figure_text(label) for label in class_labels(gt_class_ids, class_names, None, 0)]
    ax.set_yticks(range(predictions), found)
    ax.set_xticks(range(truths), there, rotation=90)
    ax.set(xlabel="ground truth", ylabel="predictions")
    for i, j in np.ndindex(predictions, truths):
        iou, verdict = overlaps[i, j], ""
        if iou > threshold:
            verdict = "match" if gt_class_ids[j] == pred_class_ids[i] else "wrong"
        ax.text(
            j,
            i,
            f"{iou:.3f}\n{verdict}",
            horizontalalignment="center",
            verticalalignment="center",
            fontsize=9,
            color="white" if iou > 0.5 else "black",
        )


def plot_history(history: Mapping[str, Sequence[float]], path_or_ax) -> None:
    """Draws the loss curves of a training, the total and its five parts, with validation where there is any.

    history: {"loss": [one per epoch], "rpn_class_loss": [...], ..., "val_loss": [...]}; it may hold more
    path_or_ax: path of a PNG to write, one panel per loss (its folder is made); or axes that take all curves
    Raises: ValueError when the history holds no loss.
    """
    names = [name for name in LOSS_NAMES if name in history or f"val_{name}" in history]
    if not names:
        raise ValueError(
            f"history must hold at least one of {', '.join(LOSS_NAMES)}. Received: {sorted(history)}. "
            "Try model.keras_model.history.history."
        )
    if not isinstance(path_or_ax, (str, Path)):
        for i, name in enumerate(names):
            _plot_loss(path_or_ax, history, name, color=f"C{i}", labels=(name, f"val_{name}"))
        _finish_loss_axes(path_or_ax)
        return
    # A Figure of its own, not pyplot's: nothing to show and nothing to close.
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.4 * rows), layout="constrained")
    for i, name in enumerate(names):
        ax = figure.add_subplot(
            rows, columns, i + 1, title="total loss" if name == "loss" else name
        )
        _plot_loss(ax, history, name, color="C0", labels=("training", "validation"))
        _finish_loss_axes(ax)
    with atomic_write(path_or_ax) as part:
        figure.savefig(part, format="png", dpi=100)


def _plot_loss(ax, history, name, color, labels) -> None:
    """Draws one loss over the epochs: training solid, validation dashed."""
    for key, style, label in ((name, "-", labels[0]), (f"val_{name}", "--", labels[1])):
        values = history.get(key, ())
        if len(values) == 0:
            continue
        epochs = range(1, len(values) + 1)
        marker = "o" if len(values) == 1 else None  # one point makes no line
        ax.plot(epochs, values, style, color=color, label=label, marker=marker)


def _finish_loss_axes(ax) -> None:
    """Legend, grid and scales of a plot of losses over epochs."""
    ax.set_xlabel("epoch")
    ax.update_datalim(
        [(1, 0)]
    )  # from 0 on, and room above the highest line, be they ever so close together
    ax.autoscale_view()
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    if ax.lines:
        ax.legend()

"""Curves of losses and precision, grids of overlaps."""

import cv2
import numpy as np
import pytest
from drawing_cases import NAMES, texts_of
from matplotlib import pyplot as plt

from mrcnn.drawing import curves


def test_plot_precision_recall_draws_the_curve_and_the_ap():
    curves.plot_precision_recall(0.75, np.array([1, 1, 0.5]), np.array([0, 0.5, 1]))
    ax = plt.gca()
    assert "0.750" in ax.get_title()
    assert ax.lines[0].get_xydata().tolist() == [[0, 1], [0.5, 1], [1, 0.5]]


def test_plot_overlaps_marks_matches_and_wrong_classes():
    overlaps = np.array([[0.8, 0.1, 0], [0.3, 0.6, 0], [0, 0, 0]])
    curves.plot_overlaps(np.array([1, 1, 0]), np.array([1, 2, 0]), [0.9, 0.7, 0], overlaps, NAMES)
    ax = plt.gca()
    assert texts_of(ax) == ["0.800\nmatch", "0.100\n", "0.300\n", "0.600\nwrong"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["square 0.90", "circle 0.70"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["square", "square"]


def test_plot_overlaps_takes_zero_predictions_and_rejects_a_wrong_shape():
    none = np.zeros(0, int)
    curves.plot_overlaps(np.array([1]), none, [], np.zeros((0, 1)), NAMES)
    assert texts_of(plt.gca()) == []
    with pytest.raises(
        ValueError, match=r"Received: \(1, 1\) for 1 predictions and 2 ground truth objects"
    ):
        curves.plot_overlaps(np.array([1, 1]), np.array([1]), [0.5], np.zeros((1, 1)), NAMES)


def test_plot_history_writes_a_png_without_an_open_figure(tmp_path):
    history = {name: [3.0, 2.0, 1.0] for name in curves.LOSS_NAMES[:6]}
    history["val_loss"] = [3.5, 2.5, float("nan")]
    path = tmp_path / "new" / "losses.png"
    curves.plot_history(history, path)
    # 2 x 3 panels of 4.5 x 3.4 inches, 100 dots an inch
    assert cv2.imread(str(path)).shape == (680, 1350, 3)
    assert plt.get_fignums() == []
    curves.plot_history({"loss": [1.0]}, str(tmp_path / "one.png"))
    assert cv2.imread(str(tmp_path / "one.png")).shape == (340, 450, 3)


def test_plot_history_draws_all_losses_into_given_axes():
    _, ax = plt.subplots()
    history = {"loss": [2, 1], "val_loss": [3, 2], "mrcnn_mask_loss": [1], "learning_rate": [9, 9]}
    curves.plot_history(history, ax)
    assert [line.get_label() for line in ax.lines] == ["loss", "val_loss", "mrcnn_mask_loss"]
    assert ax.lines[1].get_xydata().tolist() == [[1, 3], [2, 2]]
    assert ax.lines[1].get_linestyle() == "--"
    low, high = ax.get_ylim()
    assert low == 0 and high > 3


def test_plot_history_has_a_margin_above_nearly_equal_losses():
    _, ax = plt.subplots()
    curves.plot_history(
        {"mrcnn_mask_loss": [0.69, 0.685], "val_mrcnn_mask_loss": [0.6931, 0.6931]}, ax
    )
    low, high = ax.get_ylim()
    assert low == 0 and high == pytest.approx(0.6931 * 1.05)


def test_plot_history_rejects_a_history_without_losses():
    with pytest.raises(ValueError, match=r"at least one of loss, .* Received: \['accuracy'\]"):
        curves.plot_history({"accuracy": [1]}, "never.png")


# --- The epochs of a training ---


def row(epoch, **values):
    """Return a row of `results.csv`."""
    return {"epoch": str(epoch), "loss": "2.0", "learning_rate": "0.01", **values}


def test_results_have_a_panel_per_loss_and_for_ap_and_rate():
    rows = [row(1, rpn_class_loss="1.0", val_loss="3.0"), row(2, val_mAP="0.5", val_box_mAP="0.6")]
    figure = curves.draw_results(rows)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["total loss", "rpn_class_loss", "AP on validation data", "learning rate"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[2].lines}
    assert lines == {"mask AP": [[2, 0.5]], "box AP": [[2, 0.6]], "best: 0.500": [[2, 0.5]]}
    total = figure.axes[0].lines
    assert [line.get_xydata().tolist() for line in total] == [[[1, 2], [2, 2]], [[1, 3]]]


def test_results_without_epochs_or_with_undefined_ap_are_drawn():
    assert [ax.get_title() for ax in curves.draw_results([]).axes] == ["learning rate"]
    figure = curves.draw_results([row(1, val_mAP="nan")])
    assert len(figure.axes[1].lines) == 0


def test_results_of_a_box_only_network_have_one_ap():
    figure = curves.draw_results([row(1, val_mAP="0.5", val_box_mAP="0.5", val_mAP50="0.8")])
    labels = [line.get_label() for line in figure.axes[1].lines]
    assert labels == ["AP", "AP50", "best: 0.500"]


def hidden_points(ax):
    """Return the points of curves, in pixels of the figure, that the legend of the axes hides."""
    ax.figure.draw_without_rendering()
    points = np.concatenate([ax.transData.transform(line.get_xydata()) for line in ax.lines])
    legend = ax.get_legend().get_window_extent()
    return [point for point in points if legend.contains(*point)]


@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_legends_of_results_hide_no_point_and_overlap_no_title(epochs):
    values = {"val_loss": "1.9", "val_mAP": "0.5", "val_box_mAP": "0.55", "val_mAP50": "0.6"}
    figure = curves.draw_results([row(i + 1, **values) for i in range(epochs)])
    for ax in figure.axes[:2]:
        assert hidden_points(ax) == []
        legend = ax.get_legend().get_window_extent()
        assert not legend.overlaps(ax.title.get_window_extent())
        assert ax.bbox.x0 <= legend.x0 and legend.x1 <= ax.bbox.x1


def test_star_at_the_best_epoch_leaves_the_points_below_visible():
    figure = curves.draw_results([row(1, val_mAP="0.5", val_box_mAP="0.5")])
    star = figure.axes[1].lines[-1]
    assert (star.get_marker(), star.get_markerfacecolor()) == ("*", "none")


def test_tiny_ap_is_drawn_near_zero():
    figure = curves.draw_results([row(1, val_mAP="2e-5"), row(2, val_mAP="3e-5")])
    assert figure.axes[1].get_ylim() == (0, 0.01)


# --- Confusions ---


def test_confusion_matrix_has_counts_shares_and_a_readable_caption():
    counts = np.array([[6, 2, 2], [0, 3, 1], [2, 0, 0]])
    figure = curves.draw_confusion_matrix(counts, ["cat", "dog"], "missed", "background", "At 0.5")
    ax, bar = figure.axes
    assert texts_of(ax) == ["6", "2", "2", "0", "3", "1", "2", "0"]
    shares = ax.images[0].get_array()
    assert shares[0].tolist() == [0.6, 0.2, 0.2]  # of 10 cats
    assert shares[2, :2].tolist() == [0.25, 0]  # of 8 and 5 detections
    figure.draw_without_rendering()
    assert [label.get_text() for label in bar.get_yticklabels()][-1] == "100%"
    caption = figure.get_supxlabel()
    assert "share of the row" in caption
    assert bar.get_ylabel() == ""

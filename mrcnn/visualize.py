"""matterport's `visualize.*` names, handed on from `mrcnn.drawing`."""

from .drawing.curves import LOSS_NAMES, plot_history, plot_overlaps, plot_precision_recall
from .drawing.figures import (
    HEADLESS_BACKENDS,
    display_differences,
    display_images,
    display_instances,
    display_top_masks,
    draw_boxes,
    draw_rois,
)
from .drawing.inputs import random_colors
from .drawing.instances import apply_mask, draw_box, draw_instances
from .drawing.pages import contact_sheet, draw_comparison, draw_next_to_ground_truth, draw_result
from .drawing.tables import display_table, display_weight_stats

__all__ = [
    "HEADLESS_BACKENDS",
    "LOSS_NAMES",
    "apply_mask",
    "contact_sheet",
    "display_differences",
    "display_images",
    "display_instances",
    "display_table",
    "display_top_masks",
    "display_weight_stats",
    "draw_next_to_ground_truth",
    "draw_box",
    "draw_boxes",
    "draw_comparison",
    "draw_instances",
    "draw_result",
    "draw_rois",
    "plot_history",
    "plot_overlaps",
    "plot_precision_recall",
    "random_colors",
]

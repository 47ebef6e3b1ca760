"""Images, boxes, masks and proposals as matplotlib figures, for notebooks.

Boxes are `(y1, x1, y2, x2)` in pixels of the image, y2 and x2 exclusive: an outline encloses
exactly the pixels of its box. Colors are RGB in 0..1. matplotlib is imported by the functions
that draw, because a server that imports this package does not need it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.masks import extract_bboxes, unmold_mask
from ..files.safe_text import LONGEST_NAME, figure_text, printable
from .inputs import (
    ClassNames,
    Color,
    as_boxes,
    as_masks,
    as_rgb,
    check_enough,
    checked_instances,
    class_labels,
    random_colors,
    steady_colors,
)
from .instances import apply_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger("mrcnn")

# Backends that only write files. Users do not close their figures; in a loop they would
# accumulate.
HEADLESS_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")

GRAY = (0.5, 0.5, 0.5)


# --- Figures and axes ---------------------------------------------------------------------------


def new_figure(figsize: tuple[float, float] | None = None) -> Figure:
    """Open a new current figure; on a headless backend it replaces the previous one.

    figsize: (width, height) in inches.
    """
    import matplotlib
    from matplotlib import pyplot as plt

    if matplotlib.get_backend().lower() not in HEADLESS_BACKENDS:
        return plt.figure(figsize=figsize)
    # It is not closed after plt.show(), because scripts call plt.savefig() next.
    plt.close("mrcnn")
    return plt.figure("mrcnn", figsize=figsize)


def _show() -> None:
    """Show the current figures, without matplotlib's warning if there is no display."""
    from matplotlib import pyplot as plt

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*non-interactive.*")
        plt.show()


def _set_limits(ax: Axes, shape: Sequence[int], margin: float, title: str) -> None:
    """Prepare axes for an image of shape (H, W, ...) with a margin for objects outside it."""
    ax.set_ylim(shape[0] + margin, -margin)
    ax.set_xlim(-margin, shape[1] + margin)
    ax.axis("off")
    ax.set_title(title)


def _add_box(ax: Axes, box: np.ndarray, color: Any, **style: Any) -> None:
    """Add the outline of a box. imshow draws pixel i from i - 0.5 to i + 0.5."""
    from matplotlib.patches import Rectangle

    y1, x1, y2, x2 = box
    corner = (x1 - 0.5, y1 - 0.5)
    style = {"edgecolor": color, "facecolor": "none", **style}
    ax.add_patch(Rectangle(corner, x2 - x1, y2 - y1, **style))


def _add_text(ax: Axes, y: float, x: float, text: object, **style: Any) -> None:
    """Add white text with a dark rim, readable on white and on black."""
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=2, foreground="black", alpha=0.7)]
    style = {"size": 11, "color": "w", "backgroundcolor": "none", "path_effects": rim, **style}
    ax.text(x, y, str(text).replace("$", r"\$"), **style)


def _add_mask(
    ax: Axes, image: np.ndarray, mask: np.ndarray, color: Color, tint: bool = True
) -> None:
    """Tint the pixels of a mask `[H, W]` in the image, and add its contours to the axes."""
    from matplotlib.patches import Polygon
    from skimage.measure import find_contours

    mask = np.asarray(mask) > 0.5
    y1, x1, y2, x2 = extract_bboxes(mask[:, :, np.newaxis])[0]
    mask = mask[y1:y2, x1:x2]
    if mask.size == 0:
        return
    if tint:
        apply_mask(image[y1:y2, x1:x2], mask, color)
    # A rim of zeros closes the contours of masks that touch the border.
    padded = np.pad(mask, 1).astype(np.float32)
    for contour in find_contours(padded, 0.5):
        points = contour[:, ::-1] - 1 + (x1, y1)
        ax.add_patch(Polygon(points, facecolor="none", edgecolor=color))


def _add_connection(ax: Axes, box: np.ndarray, refined_box: np.ndarray, color: Any) -> None:
    """Connect the top left corners of a box before and after refinement."""
    from matplotlib.lines import Line2D

    ax.add_line(Line2D([box[1], refined_box[1]], [box[0], refined_box[0]], color=color))


# --- Images -------------------------------------------------------------------------------------


def display_images(
    images: Sequence[Any],
    titles: Sequence[str] | None = None,
    cols: int = 4,
    cmap: Any = None,
    norm: Any = None,
    interpolation: str | None = None,
) -> None:
    """Show images in a grid.

    images: arrays [H, W] or [H, W, channels]. titles: one per image. cols: images per row.
    cmap, norm, interpolation: matplotlib's, for images of one channel (default: gray).
    """
    if len(images) == 0:
        log.warning("No images to display.")
        return
    titles = [""] * len(images) if titles is None else titles
    rows = -(-len(images) // cols)
    figure = new_figure(_grid_size(images, rows, cols))
    for i, (image, title) in enumerate(zip(images, titles, strict=False)):
        image = np.asarray(image)
        if image.ndim == 3:
            image = image[:, :, 0] if image.shape[2] == 1 else as_rgb(image)
        ax = figure.add_subplot(rows, cols, i + 1)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
        colormap = "gray" if cmap is None else cmap
        ax.imshow(image, cmap=colormap, norm=norm, interpolation=interpolation)
    _show()


def _grid_size(images: Sequence[Any], rows: int, cols: int) -> tuple[float, float]:
    """Return (width, height) in inches of a grid, with space for the titles."""
    tallest = max(np.shape(image)[0] / np.shape(image)[1] for image in images)
    cell_height = 14 / cols * min(1, tallest)
    return 14, max(1, rows * cell_height + 0.3 * rows)


def display_top_masks(
    image: np.ndarray,
    mask: ArrayLike,
    class_ids: ArrayLike,
    class_names: ClassNames,
    limit: int = 4,
) -> None:
    """Show an image and the masks of the classes that cover most of its area.

    mask: [H, W, N]. class_ids: [N]. limit: number of classes.
    """
    mask = as_masks(mask, image.shape) > 0.5
    class_ids = np.asarray(class_ids)
    areas = mask.sum(axis=(0, 1))
    present = set(class_ids.tolist())
    largest = sorted(present, key=lambda class_id: -areas[class_ids == class_id].sum())[:limit]
    images = [image]
    titles = [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for class_id in largest:
        planes = mask[:, :, class_ids == class_id]
        # Instance k of the class gets the gray level k; later instances cover earlier ones.
        images.append((planes * np.arange(1, planes.shape[2] + 1)).max(axis=2))
        titles.append(figure_text(class_labels([class_id], class_names, None, 0)[0]))
    for _ in range(limit - len(largest)):
        images.append(np.zeros(image.shape[:2], int))
        titles.append("-")
    display_images(images, titles=titles, cols=limit + 1, cmap="Blues_r")


# --- Instances ----------------------------------------------------------------------------------


def display_instances(
    image: ArrayLike,
    boxes: ArrayLike,
    masks: ArrayLike | None,
    class_ids: ArrayLike,
    class_names: ClassNames,
    scores: Sequence[float] | np.ndarray | None = None,
    title: str = "",
    figsize: tuple[float, float] = (16, 16),
    ax: Axes | None = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Sequence[Color] | None = None,
    captions: Sequence[Any] | None = None,
    **ignored: Any,
) -> None:
    """Draw instances on an image, into `ax` or into a figure that is shown.

    image: [H, W] or [H, W, channels] of any number type.
    boxes: [N, (y1, x1, y2, x2)] pixels.
    masks: [H, W, N] bool, 0/1, 0/255 or probabilities; None draws no masks.
    class_ids: [N] positions in class_names (the first is the background), or its keys if it is
        a dict; negative for crowds.
    scores: [N], written after the class name.
    show_mask: tint the masks; contours are drawn in any case. show_bbox: draw the boxes.
    colors: N RGB colors in 0..1; default random.
    captions: N texts that replace "class score".
    ignored: keywords of matterport's forks (making_image, making_video, show_class ...); they
        are unused, and a warning names them.

    Raises: ValueError if the arrays do not describe the same instances.
    """
    if ignored:
        log.warning("display_instances ignores %s: not among its arguments.", ", ".join(ignored))
    canvas = as_rgb(image)
    boxes, masks, captions = checked_instances(
        canvas.shape, boxes, masks, class_ids, class_names, scores, captions, digits=3
    )
    _warn_if_empty(boxes)
    if colors is None or len(colors) == 0:
        colors = random_colors(len(boxes))
    check_enough("colors", colors, len(boxes))
    axes = new_figure(figsize).add_subplot() if ax is None else ax
    _set_limits(axes, canvas.shape, margin=10, title=title)
    for i, box in enumerate(boxes):
        if not np.any(box):
            continue  # lost when the image was cropped
        if show_bbox:
            _add_box(axes, box, colors[i], linewidth=2, alpha=0.7, linestyle="dashed")
        if captions[i]:
            _add_text(axes, box[0] + 8, box[1], captions[i])
        if masks is not None:
            _add_mask(axes, canvas, masks[:, :, i], colors[i], tint=show_mask)
    axes.imshow(canvas)
    if ax is None:
        _show()


def _warn_if_empty(boxes: np.ndarray) -> None:
    """Log why an image without instances has no instances."""
    if len(boxes) == 0:
        log.warning(
            "No instances to display: zero boxes were given. If they come from detect(), no "
            "score reached DETECTION_MIN_CONFIDENCE of the config: detect(..., verbose=1) logs "
            "the highest score."
        )
    elif not boxes.any():
        log.warning(
            "No instances to display: all %d boxes are zero (padding, or cropped away).",
            len(boxes),
        )


# --- Proposals and RoIs -------------------------------------------------------------------------


def draw_rois(
    image: ArrayLike,
    rois: ArrayLike,
    refined_rois: ArrayLike,
    mask: ArrayLike,
    class_ids: ArrayLike,
    class_names: ClassNames,
    limit: int = 10,
) -> None:
    """Draw RoIs (dashed), refined RoIs (solid) and masks; RoIs of the background are gray.

    image: [H, W, channels].
    rois, refined_rois: [N, (y1, x1, y2, x2)] pixels.
    mask: [N, h, w], the mask of each RoI's class in the frame of the RoI.
    class_ids: [N].
    limit: maximum number of RoIs; a random choice by NumPy's global generator.
    """
    canvas = as_rgb(image)
    rois = as_boxes(rois)
    refined_rois = as_boxes(refined_rois)
    masks = np.asarray(mask, np.float32)
    class_ids = np.asarray(class_ids)
    positive = int(np.sum(class_ids > 0))
    chosen = np.arange(len(rois))
    if len(chosen) > limit:
        chosen = np.random.choice(chosen, limit, replace=False)
    ax = new_figure((12, 12)).add_subplot()
    title = f"{len(chosen)} of {len(rois)} ROIs; of all, {positive} positive"
    _set_limits(ax, canvas.shape, 20, title)
    for i, color in zip(chosen, steady_colors(len(chosen)), strict=True):
        if not class_ids[i]:
            _add_box(ax, rois[i], "gray", linewidth=2, linestyle="dashed")
            continue
        _add_box(ax, rois[i], color, linewidth=2, linestyle="dashed")
        _add_box(ax, refined_rois[i], color, linewidth=2)
        _add_connection(ax, rois[i], refined_rois[i], color)
        y1, x1 = refined_rois[i][:2]
        _add_text(ax, y1 + 8, x1, printable(class_names[class_ids[i]], LONGEST_NAME))
        pasted = unmold_mask(masks[i], rois[i].astype(np.int32), canvas.shape)
        apply_mask(canvas, pasted, color)
    ax.imshow(canvas)
    log.info("ROIs: %d positive, %d negative", positive, len(rois) - positive)


def draw_boxes(
    image: ArrayLike,
    boxes: ArrayLike | None = None,
    refined_boxes: ArrayLike | None = None,
    masks: ArrayLike | None = None,
    captions: Sequence[Any] | None = None,
    visibilities: Sequence[int] | np.ndarray | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> None:
    """Draw boxes (dotted), refined boxes (solid), masks and captions on an image.

    boxes, refined_boxes: [N, (y1, x1, y2, x2)] pixels; one of the two is optional.
    masks: [H, W, N].
    captions: N texts, written at the refined boxes if given.
    visibilities: [N] 0: gray and dotted, not refined; 1: colored and dotted; 2: colored and
        solid. Default: 1.
    """
    first = refined_boxes if boxes is None else boxes
    if first is None:
        raise ValueError("boxes or refined_boxes must be given. Received: neither.")
    canvas = as_rgb(image)
    before = None if boxes is None else as_boxes(boxes)
    after = None if refined_boxes is None else as_boxes(refined_boxes)
    planes = None if masks is None else np.moveaxis(as_masks(masks, canvas.shape), 2, 0)
    count = len(as_boxes(first))
    given = {
        "refined_boxes": after,
        "masks": planes,
        "captions": captions,
        "visibilities": visibilities,
    }
    for name, values in given.items():
        if values is not None:
            check_enough(name, values, count)
    colors = random_colors(count)
    axes = new_figure((12, 12)).add_subplot() if ax is None else ax
    _set_limits(axes, canvas.shape, canvas.shape[0] // 10, title)
    for i in range(count):
        visibility = 1 if visibilities is None else visibilities[i]
        color = colors[i] if visibility else GRAY
        box = None if before is None or not np.any(before[i]) else before[i]
        refined = None if after is None or not visibility else after[i]
        _add_refinement(axes, box, refined, color, visibility)
        labeled = box if refined is None else refined
        if labeled is None:
            continue
        if captions is not None and captions[i]:
            _add_caption(axes, labeled, captions[i], color)
        if planes is not None:
            _add_mask(axes, canvas, planes[i], color)
    axes.imshow(canvas)


def _add_refinement(
    ax: Axes,
    box: np.ndarray | None,
    refined_box: np.ndarray | None,
    color: Color,
    visibility: int,
) -> None:
    """Add a box, its refinement and the line between them, as far as they are given."""
    if box is not None:
        linestyle = "solid" if visibility == 2 else "dotted"
        alpha = 1 if visibility else 0.5
        _add_box(ax, box, color, linewidth=2, linestyle=linestyle, alpha=alpha)
    if refined_box is not None:
        _add_box(ax, refined_box, color, linewidth=2)
    if box is not None and refined_box is not None:
        _add_connection(ax, box, refined_box, color)


def _add_caption(ax: Axes, box: np.ndarray, caption: object, color: Color) -> None:
    """Add a caption on a half-transparent background at the top left corner of a box."""
    background = {"facecolor": color, "alpha": 0.5, "pad": 2, "edgecolor": "none"}
    _add_text(ax, box[0], box[1], caption, verticalalignment="top", bbox=background)

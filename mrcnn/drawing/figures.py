"""Figures of images, boxes, masks and proposals by matplotlib, for notebooks."""

import logging
import warnings

import matplotlib
import numpy as np
from matplotlib import lines, patches, patheffects
from matplotlib import pyplot as plt
from skimage.measure import find_contours

from ..data.masks import extract_bboxes, unmold_mask
from ..evaluation.matching import compute_matches
from ..files.limits import LONGEST_NAME, figure_text, printable
from .inputs import (
    as_boxes,
    as_masks,
    as_rgb,
    check_counts,
    check_enough,
    checked_instances,
    class_labels,
    random_colors,
    steady_colors,
)
from .instances import apply_mask

log = logging.getLogger("mrcnn")
# Backends that only write files. Nobody closes their figures, so a loop would pile them up.
HEADLESS_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")


def new_figure(figsize=None):
    """A new current figure. Where no window can show it, it takes the place of the one opened here before."""
    if matplotlib.get_backend().lower() not in HEADLESS_BACKENDS:
        return plt.figure(figsize=figsize)
    # It is not closed right after plt.show(): scripts call plt.savefig() next.
    plt.close("mrcnn")
    return plt.figure("mrcnn", figsize=figsize)


def _show() -> None:
    """Shows the current figures; in silence where there is no display."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*non-interactive.*")
        plt.show()


def _frame(ax, shape, margin, title) -> None:
    """Sets up the axes for an image of `shape`, with a margin in which things outside of it can be seen."""
    ax.set_ylim(shape[0] + margin, -margin)
    ax.set_xlim(-margin, shape[1] + margin)
    ax.axis("off")
    ax.set_title(title)


def _add_box(ax, box, color, **style) -> None:
    """Adds a box's outline. Pixel i spans i - 0.5 to i + 0.5 in an imshow picture."""
    y1, x1, y2, x2 = box
    corner = (x1 - 0.5, y1 - 0.5)
    ax.add_patch(
        patches.Rectangle(corner, x2 - x1, y2 - y1, edgecolor=color, facecolor="none", **style)
    )


def _add_text(ax, y, x, text, **style) -> None:
    """Adds white text with a dark rim, readable on white and on black."""
    rim = [patheffects.withStroke(linewidth=2, foreground="black", alpha=0.7)]
    ax.text(
        x,
        y,
        str(text).replace("$", r"\$"),
        size=11,
        color="w",
        backgroundcolor="none",
        path_effects=rim,
        **style,
    )


def _add_mask(ax, picture, mask, color, tint=True) -> None:
    """Tints the mask's pixels in the picture, and adds its contours to the axes."""
    mask = np.asarray(mask) > 0.5
    y1, x1, y2, x2 = extract_bboxes(mask[:, :, np.newaxis])[0]
    mask = mask[y1:y2, x1:x2]
    if mask.size == 0:
        return
    if tint:
        apply_mask(picture[y1:y2, x1:x2], mask, color)
    # A rim of zeros closes the contours of masks that touch the border.
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        points = contour[:, ::-1] - 1 + (x1, y1)
        ax.add_patch(patches.Polygon(points, facecolor="none", edgecolor=color))


def _add_connection(ax, box, refined_box, color) -> None:
    """Joins the top left corners of a box before and after refinement, so that the pair can be told."""
    ax.add_line(lines.Line2D([box[1], refined_box[1]], [box[0], refined_box[0]], color=color))


def display_images(images, titles=None, cols=4, cmap=None, norm=None, interpolation=None) -> None:
    """Shows images in a grid.

    images: list of [H, W] or [H, W, channels] arrays
    titles: one per image
    cols: images per row
    cmap, norm, interpolation: matplotlib's, for images of one channel (grey by default)
    """
    if len(images) == 0:
        log.warning("No images to display.")
        return
    titles = [""] * len(images) if titles is None else titles
    rows = -(-len(images) // cols)
    tallest = max(np.shape(image)[0] / np.shape(image)[1] for image in images)
    figure = new_figure(
        (14, max(1, 14 * rows / cols * min(1, tallest) + 0.3 * rows))
    )  # and room for the titles
    for i, (image, title) in enumerate(zip(images, titles, strict=False)):
        image = np.asarray(image)
        if image.ndim == 3:
            image = image[:, :, 0] if image.shape[2] == 1 else as_rgb(image)
        ax = figure.add_subplot(rows, cols, i + 1)
        ax.set_title(title, fontsize=9)
        ax.axis("off")
        ax.imshow(
            image, cmap="gray" if cmap is None else cmap, norm=norm, interpolation=interpolation
        )
    _show()


def display_instances(
    image,
    boxes,
    masks,
    class_ids,
    class_names,
    scores=None,
    title="",
    figsize=(16, 16),
    ax=None,
    show_mask=True,
    show_bbox=True,
    colors=None,
    captions=None,
    **ignored,
) -> None:
    """Draws instances over the image into `ax`, or shows them in a figure of their own.

    image: [H, W] or [H, W, channels] of any number type
    boxes: [N, (y1, x1, y2, x2)] pixels
    masks: [H, W, N] bool, 0/1, 0/255 or probabilities; None draws none
    class_ids: [N] positions in class_names (the first of which is the background), or keys of it if it is a dict;
        negative for crowds
    scores: [N] shown after the class name
    show_mask: tints the masks; their contours are drawn either way
    show_bbox: draws the boxes
    colors: N RGB colours in 0..1; random by default
    captions: N texts in place of "class score"
    ignored: keywords that only forks have (making_image, making_video, show_class ...); a warning names them.
    Raises: ValueError when the inputs do not describe the same instances.
    """
    if ignored:
        log.warning("display_instances ignores %s: not among its arguments.", ", ".join(ignored))
    picture = as_rgb(image)
    boxes, masks, captions = checked_instances(
        picture.shape, boxes, masks, class_ids, class_names, scores, captions, digits=3
    )
    _log_if_nothing(boxes)
    colors = random_colors(len(boxes)) if colors is None or len(colors) == 0 else colors
    check_enough("colors", colors, len(boxes))
    auto_show = ax is None
    ax = new_figure(figsize).add_subplot() if auto_show else ax
    _frame(ax, picture.shape, margin=10, title=title)
    for i, box in enumerate(boxes):
        if not np.any(box):
            continue  # lost when the image was cropped
        if show_bbox:
            _add_box(ax, box, colors[i], linewidth=2, alpha=0.7, linestyle="dashed")
        if captions[i]:
            _add_text(ax, box[0] + 8, box[1], captions[i])
        if masks is not None:
            _add_mask(ax, picture, masks[:, :, i], colors[i], tint=show_mask)
    ax.imshow(picture)
    if auto_show:
        _show()


def _log_if_nothing(boxes: np.ndarray) -> None:
    """Says why a picture without instances has none."""
    if len(boxes) == 0:
        log.warning(
            "No instances to display: zero boxes were given. If they come from detect(), no score reached "
            "DETECTION_MIN_CONFIDENCE of the config: detect(..., verbose=1) tells the best one."
        )
    elif not boxes.any():
        log.warning(
            "No instances to display: all %d boxes are zero (padding, or cropped away).", len(boxes)
        )


def display_differences(
    image,
    gt_box,
    gt_class_id,
    gt_mask,
    pred_box,
    pred_class_id,
    pred_score,
    pred_mask,
    class_names,
    title="",
    ax=None,
    show_mask=True,
    show_box=True,
    iou_threshold=0.5,
    score_threshold=0.5,
) -> None:
    """Draws truth in green and predictions in red, each captioned "score / IoU", as `display_instances` does.

    The IoU is that with the matched truth, or the best one with any where there is no match.
    iou_threshold, score_threshold: of the matching, see `mrcnn.utils.compute_matches`.
    """
    gt_box, gt_mask, gt_class_id, _ = _without_padding(image, gt_box, gt_mask, gt_class_id)
    pred_box, pred_mask, pred_class_id, pred_score = _without_padding(
        image, pred_box, pred_mask, pred_class_id, pred_score
    )
    _, matches, overlaps = compute_matches(
        gt_box,
        gt_class_id,
        gt_mask,
        pred_box,
        pred_class_id,
        pred_score,
        pred_mask,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
    )
    captions = [""] * len(pred_box)
    for i, match, ious in zip(np.argsort(pred_score)[::-1], matches, overlaps, strict=True):
        iou = ious[int(match)] if match > -1 else max(ious, default=0)
        captions[i] = f"{pred_score[i]:.2f} / {iou:.2f}"
    display_instances(
        image,
        np.concatenate([gt_box, pred_box]),
        np.concatenate([gt_mask, pred_mask], axis=2),
        np.concatenate([gt_class_id, pred_class_id]),
        class_names,
        title=title or "Ground truth (green) and detections (red), captions: score / IoU",
        ax=ax,
        show_mask=show_mask,
        show_bbox=show_box,
        captions=[""] * len(gt_box) + captions,
        colors=[(0, 1, 0, 0.8)] * len(gt_box) + [(1, 0, 0, 1)] * len(pred_box),
    )


def _without_padding(image, boxes, masks, class_ids, scores=None):
    """Boxes, bool masks, class ids and scores (zeros if None) of the instances whose box is not all zero."""
    boxes, class_ids = as_boxes(boxes), np.asarray(class_ids, int)
    scores = np.zeros(len(boxes)) if scores is None else np.asarray(scores)
    masks = as_masks(masks if len(boxes) else [], np.shape(image))
    check_counts(boxes=boxes, masks=np.moveaxis(masks, 2, 0), class_ids=class_ids, scores=scores)
    real = np.any(boxes != 0, axis=1)
    return boxes[real], masks[:, :, real] > 0.5, class_ids[real], scores[real]


def draw_rois(image, rois, refined_rois, mask, class_ids, class_names, limit=10) -> None:
    """Draws ROIs (dashed), what refinement makes of them (solid), and their masks; background ROIs are grey.

    image: [H, W, channels]
    rois, refined_rois: [N, (y1, x1, y2, x2)] pixels
    mask: [N, h, w] the mask of each ROI's class, in the frame of the ROI
    class_ids: [N]
    limit: so many at most, drawn at random by NumPy's global generator
    """
    picture = as_rgb(image)
    rois, refined_rois, class_ids = as_boxes(rois), as_boxes(refined_rois), np.asarray(class_ids)
    positive = int(np.sum(class_ids > 0))
    ids = np.arange(len(rois))
    if len(ids) > limit:
        ids = np.random.choice(ids, limit, replace=False)
    ax = new_figure((12, 12)).add_subplot()
    _frame(ax, picture.shape, 20, f"{len(ids)} of {len(rois)} ROIs; of all, {positive} positive")
    for i, color in zip(ids, steady_colors(len(ids)), strict=True):
        class_id, roi, refined = class_ids[i], rois[i], refined_rois[i]
        _add_box(ax, roi, color if class_id else "gray", linewidth=2, linestyle="dashed")
        if not class_id:
            continue
        _add_box(ax, refined, color, linewidth=2)
        _add_connection(ax, roi, refined, color)
        _add_text(ax, refined[0] + 8, refined[1], printable(class_names[class_id], LONGEST_NAME))
        pasted = unmold_mask(np.asarray(mask[i], np.float32), roi.astype(np.int32), picture.shape)
        apply_mask(picture, pasted, color)
    ax.imshow(picture)
    log.info("ROIs: %d positive, %d negative", positive, len(rois) - positive)


def draw_boxes(
    image,
    boxes=None,
    refined_boxes=None,
    masks=None,
    captions=None,
    visibilities=None,
    title="",
    ax=None,
) -> None:
    """Draws boxes (dashed), the refined ones (solid), masks and captions over an image.

    boxes, refined_boxes: [N, (y1, x1, y2, x2)] pixels; one of the two may be missing
    masks: [H, W, N]
    captions: N texts, put on the refined boxes where there are any
    visibilities: [N] 0: grey and dotted, 1: coloured and dotted, 2: coloured and solid. Default: 1
    """
    if boxes is None and refined_boxes is None:
        raise ValueError("boxes or refined_boxes must be given. Received: neither.")
    picture = as_rgb(image)
    boxes = None if boxes is None else as_boxes(boxes)
    refined_boxes = None if refined_boxes is None else as_boxes(refined_boxes)
    masks = None if masks is None else as_masks(masks, picture.shape)
    count = len(boxes if boxes is not None else refined_boxes)
    masks = None if masks is None else np.moveaxis(masks, 2, 0)
    given = (refined_boxes, masks, captions, visibilities)
    for name, values in zip(
        ("refined_boxes", "masks", "captions", "visibilities"), given, strict=True
    ):
        if values is not None:
            check_enough(name, values, count)
    colors = random_colors(count)
    ax = new_figure((12, 12)).add_subplot() if ax is None else ax
    _frame(ax, picture.shape, picture.shape[0] // 10, title)
    for i in range(count):
        visibility = 1 if visibilities is None else visibilities[i]
        color = colors[i] if visibility else (0.5, 0.5, 0.5)
        corner = None
        if boxes is not None and np.any(boxes[i]):
            corner = boxes[i]
            _add_box(
                ax,
                corner,
                color,
                linewidth=2,
                linestyle="solid" if visibility == 2 else "dotted",
                alpha=1 if visibility else 0.5,
            )
        if refined_boxes is not None and visibility:
            _add_box(ax, refined_boxes[i], color, linewidth=2)
            if corner is not None:
                _add_connection(ax, corner, refined_boxes[i], color)
            corner = refined_boxes[i]
        if corner is None:
            continue
        if captions is not None and captions[i]:
            ground = {"facecolor": color, "alpha": 0.5, "pad": 2, "edgecolor": "none"}
            _add_text(ax, corner[0], corner[1], captions[i], verticalalignment="top", bbox=ground)
        if masks is not None:
            _add_mask(ax, picture, masks[i], color)
    ax.imshow(picture)


def display_top_masks(image, mask, class_ids, class_names, limit=4) -> None:
    """Shows the image and, beside it, the masks of the `limit` classes that cover most of it.

    mask: [H, W, N]; class_ids: [N]
    """
    mask, class_ids = as_masks(mask, image.shape) > 0.5, np.asarray(class_ids)
    areas = mask.sum(axis=(0, 1))
    found = sorted(
        set(class_ids.tolist()), key=lambda class_id: -areas[class_ids == class_id].sum()
    )[:limit]
    images, titles = [image], [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for class_id in found:
        planes = mask[:, :, class_ids == class_id]
        # Instance k of the class gets the grey level k, the later ones on top.
        images.append((planes * np.arange(1, planes.shape[2] + 1)).max(axis=2))
        titles.append(figure_text(class_labels([class_id], class_names, None, 0)[0]))
    blank = np.zeros(image.shape[:2], int)
    images += [blank] * (limit - len(found))
    titles += ["-"] * (limit - len(found))
    display_images(images, titles=titles, cols=limit + 1, cmap="Blues_r")

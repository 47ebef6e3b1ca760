"""Pictures of data, proposals, detections and training.

Two painters. `display_*`, `draw_rois`, `draw_boxes` and `plot_*` open matplotlib figures, as notebooks like
them. `draw_instances`, `draw_comparison` and `contact_sheet` need no display: they return pixels, by OpenCV.

Boxes are `(y1, x1, y2, x2)` in pixels of the picture, y2 and x2 exclusive: every outline encloses exactly the
pixels of its box. Colours are RGB in 0..1; random ones come from the global generators, as in the original.
"""

import colorsys
import logging
import random
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import lines, patches, patheffects
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text
from skimage.measure import find_contours

from ..data.dataset import boxes_alone
from ..data.masks import extract_bboxes, unmold_mask
from ..evaluation.evaluate import compute_matches
from ..files.atomic import atomic_write
from ..files.limits import LONGEST_NAME, figure_text, printable, printable_lines

log = logging.getLogger("mrcnn")

LOSS_NAMES = (
    "loss",
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
)

# Backends that only write files. Nobody closes their figures, so a loop would pile them up.
HEADLESS_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")

FONT = cv2.FONT_HERSHEY_SIMPLEX
SMALLEST_FONT = 0.25  # of Hershey's 22 px capitals: below it letters run together

MASK_ALPHA = 0.4
RESULT_SIDE = 768  # px; smaller images are magnified to about this
COMPARISON_SIDE = 512  # px; the same for either half of a comparison


# --- What is to be drawn: checks, colours, captions ---------------------------------------------------------


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:
    """N colours evenly spread over the hues, shuffled by Python's global `random`.

    bright: full brightness; otherwise 70 %.
    """
    brightness = 1.0 if bright else 0.7
    colors = [colorsys.hsv_to_rgb(i / N, 1, brightness) for i in range(N)]
    random.shuffle(colors)
    return colors


def _steady_colors(count: int) -> list[tuple[float, float, float]]:
    """`count` colours in which neighbours differ: always the same ones, without the global `random`."""
    golden_ratio = 0.618034
    return [colorsys.hsv_to_rgb(i * golden_ratio % 1, 0.85, 1.0) for i in range(count)]


def _rgb(image) -> np.ndarray:
    """A fresh uint8 [H, W, 3] picture of an image of any channel count and number type.

    One or two channels are shown grey (the first), of more than three the first three. Values within 0..255
    are kept, bool and floats within 0..1 are scaled up, all else (16 bit, mean-subtracted) is stretched.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or image.shape[2] == 0:
        raise ValueError(
            f"An image must be [height, width] or [height, width, channels]. Received: shape {image.shape}. "
            "Try image[0] if this is a batch."
        )
    image = image[:, :, :3] if image.shape[2] >= 3 else np.repeat(image[:, :, :1], 3, axis=2)
    if image.dtype == np.uint8 or image.size == 0:
        return image.astype(np.uint8, order="C")  # a copy
    values = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
    low, high = min(values.min(), 0.0), values.max()
    unit_range = image.dtype == bool or (image.dtype.kind == "f" and high <= 1)
    if low == 0 and unit_range:
        values *= 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / max(high - low, 1e-6))
    return np.ascontiguousarray(np.round(values).astype(np.uint8))


def _as_boxes(boxes) -> np.ndarray:
    """[N, (y1, x1, y2, x2)], also for an empty list."""
    boxes = np.asarray(boxes)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [N, (y1, x1, y2, x2)]. Received: shape {boxes.shape}.")
    return boxes


def _as_masks(masks, shape) -> np.ndarray:
    """[H, W, N] masks that fit an image of `shape`; any empty shape stands for no masks."""
    masks = np.asarray(masks)
    if masks.size == 0:
        return np.zeros((*shape[:2], 0), bool)
    if masks.ndim != 3 or masks.shape[:2] != tuple(shape[:2]):
        raise ValueError(
            f"masks must be [height, width, N] of the image's size. Received: masks {masks.shape}, image "
            f"{tuple(shape)}. Try use_mini_mask=False, or mrcnn.utils.expand_mask() for mini-masks."
        )
    return masks


def _class_labels(class_ids, class_names, scores, digits: int) -> list[str]:
    """ "name score" for every instance; a negative class id marks a crowd."""
    names = class_names if isinstance(class_names, Mapping) else dict(enumerate(class_names))
    labels = []
    for i, class_id in enumerate(class_ids):
        if abs(int(class_id)) not in names:
            raise ValueError(
                f"class_names must have a name for every class id. Received: class id {int(class_id)} with "
                f"class_names {class_names}. Try adding 'BG' (background, id 0) as the first name if it is missing; "
                "dataset.class_names has it."
            )
        label = printable(names[abs(int(class_id))], LONGEST_NAME) + (
            " (crowd)" if class_id < 0 else ""
        )
        labels.append(label if scores is None else f"{label} {scores[i]:.{digits}f}")
    return labels


def _instances(shape, boxes, masks, class_ids, class_names, scores, captions, digits):
    """Boxes [N, 4], masks [H, W, N] or None, and N captions; checked to speak of the same N instances."""
    boxes, class_ids = _as_boxes(boxes), np.asarray(class_ids).reshape(-1)
    # A dataset's "no instances" may keep one all-zero plane; there is nothing in it to draw.
    masks = None if masks is None else _as_masks(masks if len(boxes) else [], shape)
    planes = None if masks is None else np.moveaxis(masks, 2, 0)
    _check_counts(boxes=boxes, masks=planes, class_ids=class_ids, scores=scores)
    if captions is None or len(captions) == 0:
        return boxes, masks, _class_labels(class_ids, class_names, scores, digits)
    _check_enough("captions", captions, len(boxes))
    return boxes, masks, ["" if caption is None else str(caption) for caption in captions]


def _check_counts(**arrays) -> None:
    """Raises ValueError unless the arrays (None: not given) have the same length."""
    counts = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(counts.values())) > 1:
        received = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(
            f"boxes, masks, class_ids and scores must describe the same instances. Received: {received}. "
            "Try passing all of them from one result: r['rois'], r['masks'], r['class_ids'], r['scores']."
        )


def _check_enough(name: str, values, count: int) -> None:
    """Raises ValueError if there is not one of `values` for every instance."""
    if len(values) < count:
        raise ValueError(
            f"{name} must have one entry per instance. Received: {len(values)} for {count} instances."
        )


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


# --- Arrays in, arrays out ----------------------------------------------------------------------------------


def apply_mask(
    image: np.ndarray, mask: np.ndarray, color: Sequence[float], alpha: float = 0.5
) -> np.ndarray:
    """The image itself, its first three channels tinted in place where the mask is set.

    image: [H, W, channels] any number type with values in 0..255
    mask: [H, W] bool, 0/1, 0/255 or probabilities (set above 0.5)
    color: RGB in 0..1
    """
    inside = np.asarray(mask) > 0.5
    if inside.shape != image.shape[:2]:
        raise ValueError(
            f"mask must be as high and wide as the image. Received: mask {inside.shape}, image {image.shape}."
        )
    tint = np.array([alpha * channel * 255 for channel in color[:3]])
    pixels = image[:, :, :3]
    pixels[inside] = pixels[inside] * (1 - alpha) + tint
    return image


def draw_box(image: np.ndarray, box: Sequence[int], color) -> np.ndarray:
    """The image itself, with a 2 px outline drawn in place around a box.

    box: (y1, x1, y2, x2) pixels
    color: one value per channel, in the image's own range
    """
    return _outline_box(image, box, color, thickness=2)


def _outline_box(image, box, color, thickness):
    """Outlines a box in place: the lines lie just outside it, or on the image's border if it ends there."""
    height, width = image.shape[:2]
    y1, x1, y2, x2 = (int(round(float(v))) for v in box)
    if y2 <= y1 or x2 <= x1 or y1 >= height or x1 >= width or y2 <= 0 or x2 <= 0:
        return image  # padding, or wholly outside
    top, bottom = np.clip([y1 - thickness, y2], 0, max(height - thickness, 0))
    left, right = np.clip([x1 - thickness, x2], 0, max(width - thickness, 0))
    for y in (top, bottom):
        image[y : y + thickness, left : right + thickness] = color
    for x in (left, right):
        image[top : bottom + thickness, x : x + thickness] = color
    return image


def draw_instances(
    image: np.ndarray,
    boxes,
    masks,
    class_ids,
    class_names,
    scores=None,
    colors=None,
    captions=None,
    show_mask: bool = True,
    show_bbox: bool = True,
) -> np.ndarray:
    """uint8 [H, W, 3]: the image with its instances drawn over it. Needs no display; the input stays.

    image: [H, W] or [H, W, channels] of any number type
    boxes: [N, (y1, x1, y2, x2)] pixels
    masks: [H, W, N] bool, 0/1, 0/255 or probabilities; None draws none
    class_ids: [N] positions in class_names; negative for crowds
    scores: [N] shown after the class name
    colors: N RGB colours in 0..1; by default N well-separated hues, the same on every call
    captions: N texts in place of "class score"; "" for none
    show_mask: tint and contour. show_bbox: outlines.

    Lines and letters grow with the image. Labels stay inside it and never cover one another: where a crowd
    leaves no room, those of the lower scores are left out (their boxes and masks are drawn).
    Raises: ValueError when the inputs do not describe the same instances.
    """
    canvas = _rgb(image)
    boxes, masks, captions = _instances(
        canvas.shape, boxes, masks, class_ids, class_names, scores, captions, digits=2
    )
    colors = _steady_colors(len(boxes)) if colors is None else colors
    _check_enough("colors", colors, len(boxes))
    colors = [tuple(round(255 * float(channel)) for channel in color[:3]) for color in colors]
    line, font = _pen(canvas.shape)
    if show_mask and masks is not None:
        _paint_masks(canvas, masks, colors, line)
    drawn = [i for i in range(len(boxes)) if np.any(boxes[i])]
    for i in drawn if show_bbox else ():
        _outline_box(canvas, boxes[i], colors[i], line)
    if scores is not None:
        drawn.sort(key=lambda i: -scores[i])
    _write_labels(
        canvas, [(boxes[i], captions[i], colors[i]) for i in drawn if captions[i]], line, font
    )
    return canvas


def _pen(shape) -> tuple[int, float]:
    """Line thickness in px and OpenCV font scale that suit an image of this shape."""
    side = max(shape[:2])
    return max(1, round(side / 500)), max(0.35, side / 2000)


def _stroke(font: float) -> int:
    """Thickness in px of the letters' strokes at a font scale."""
    return max(1, round(1.5 * font))


def _paint_masks(canvas, masks, colors, line) -> None:
    """Tints and contours masks on the canvas, the largest first so that small ones stay visible."""
    extents = extract_bboxes(masks if masks.dtype == bool else masks > 0.5)
    areas = (extents[:, 2] - extents[:, 0]) * (extents[:, 3] - extents[:, 1])
    kernel = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    for i in np.argsort(-areas, kind="stable"):
        if areas[i] == 0:
            continue
        y1, x1, y2, x2 = extents[i]
        mask = masks[y1:y2, x1:x2, i] > 0.5
        region = canvas[y1:y2, x1:x2]
        apply_mask(region, mask, np.array(colors[i]) / 255, MASK_ALPHA)
        # The contour is the mask's own rim: pixels that erosion (with nothing beyond the crop) takes away.
        core = cv2.erode(
            mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
        )
        region[mask & (core == 0)] = colors[i]


def _write_labels(canvas, labels, line, font) -> None:
    """Writes (box, text, background colour) labels on the canvas; the first ones have the choice of place."""
    height, width = canvas.shape[:2]
    pad, stroke = line + 1, _stroke(font)
    boxes = np.array([box for box, _, _ in labels]).reshape(-1, 4)
    taken = np.zeros((0, 4), int)
    for box, text, color in labels:
        (text_width, _), _ = cv2.getTextSize(text, FONT, font, stroke)
        scale = font * min(1.0, (width - 2 * pad) / text_width)
        (text_width, text_height), baseline = cv2.getTextSize(text, FONT, scale, stroke)
        size = (text_height + baseline + 2 * pad, text_width + 2 * pad)
        spots = _label_spots(box, size, (height, width), line)
        spots = spots[_overlap(spots, taken).sum(axis=1) == 0]
        if scale < SMALLEST_FONT or len(spots) == 0:
            log.debug("No room for the label %r", text)
            continue
        spot = spots[np.argmin(_overlap(spots, boxes).sum(axis=1))]  # the first that hides least
        taken = np.vstack([taken, spot])
        y1, x1, y2, x2 = spot
        canvas[y1:y2, x1:x2] = color
        dark_ground = np.dot(color, (0.299, 0.587, 0.114)) < 140
        ink = (255, 255, 255) if dark_ground else (0, 0, 0)
        cv2.putText(
            canvas, text, (x1 + pad, y1 + pad + text_height), FONT, scale, ink, stroke, cv2.LINE_AA
        )


def _label_spots(box, size, shape, line) -> np.ndarray:
    """[K, (y1, x1, y2, x2)] places for a label of `size` at a box, inside the image, the best first.

    Above, below, inside and beside it; none where the label is larger than the image.
    """
    y1, x1, y2, x2 = np.round(np.asarray(box, float)).astype(int)
    high, wide = size
    above, below, left, right = y1 - line - high, y2 + line, x1 - line, x2 + line - wide
    corners = np.array(
        [
            (above, left),
            (below, left),
            (above, right),
            (below, right),
            (y1, x2 + line),
            (y1, x1 - line - wide),
            (y1, x1),
            (y2 - high, x1),
        ]
    )
    room = np.array(shape) - size
    if room.min() < 0:
        return np.zeros((0, 4), int)
    corners = np.clip(corners, 0, room)
    return np.hstack([corners, corners + size])


def _overlap(boxes1, boxes2) -> np.ndarray:
    """[N, M] area in px that each box of the first set shares with each of the second."""
    corner1 = np.maximum(boxes1[:, np.newaxis, :2], boxes2[np.newaxis, :, :2])
    corner2 = np.minimum(boxes1[:, np.newaxis, 2:], boxes2[np.newaxis, :, 2:])
    return np.maximum(corner2 - corner1, 0).prod(axis=2)


def draw_comparison(
    image: np.ndarray, truth: Mapping, detections: Mapping, class_names, shown_from: float = 0.0
) -> np.ndarray:
    """Truth at the left and detections at the right of one titled picture: uint8 [H', W', 3].

    image: [H, W] or [H, W, channels]; a small one is magnified by a whole number, so that labels can be read
    truth, detections: as from `detect`: "rois" [N, (y1, x1, y2, x2)], "masks" [H, W, N], "class_ids" [N] and,
        where known, "scores" [N]. Without "rois" the boxes are those of the masks; without "masks" boxes are drawn.
    shown_from: detections below this score are left out, and the title says so
    """
    if shown_from > 0:
        keep = np.asarray(detections["scores"]) >= shown_from
        rows = {
            key: np.asarray(detections[key])[keep]
            for key in ("rois", "class_ids", "scores")
            if key in detections
        }
        masks = (
            {"masks": np.asarray(detections["masks"])[:, :, keep]} if "masks" in detections else {}
        )
        detections = {**rows, **masks}
    found = f"detections from {shown_from:.2g} on" if shown_from > 0 else "detections"
    panes = [
        _titled(
            draw_result(image, result, class_names, COMPARISON_SIDE),
            f"{title}: {len(result['class_ids'])}",
        )
        for title, result in (("truth", truth), (found, detections))
    ]
    return contact_sheet(panes, columns=2)


def draw_beside_truth(
    dataset, image_id: int, image: np.ndarray, result: Mapping, shown_from: float = 0.0
):
    """`draw_comparison` of a dataset's image, whose truth is loaded here, with one entry of `detect`'s list."""
    boxes_only = boxes_alone(dataset)
    shapes, class_ids = dataset.load_bbox(image_id) if boxes_only else dataset.load_mask(image_id)
    if len(class_ids) == 0:  # any empty shape is allowed
        shapes, boxes_only = np.zeros((0, 4), np.int32), True
    truth = {"rois" if boxes_only else "masks": shapes, "class_ids": class_ids}
    return draw_comparison(image, truth, result, dataset.class_names, shown_from)


def draw_result(
    image: np.ndarray, result: Mapping, class_names, side: int = RESULT_SIDE
) -> np.ndarray:
    """One entry of `detect`'s list drawn on its image: uint8 [H', W', 3]. Needs no display; see `draw_instances`.

    image: [H, W] or [H, W, channels]; a small one is magnified by a whole number to about `side` pixels, so that
        labels can be read and leave room for what they name
    result: "rois" [N, (y1, x1, y2, x2)], "masks" [H, W, N], "class_ids" [N] and, where known, "scores" [N].
        Without "rois" the boxes are those of the masks; without "masks" (box-only models) boxes alone are drawn.
    class_names: with a single class besides the background, labels hold only the score
    """
    picture = _rgb(image)
    masks = _as_masks(result["masks"], picture.shape) if "masks" in result else None
    boxes = _as_boxes(result["rois"] if "rois" in result else extract_bboxes(masks > 0.5))
    times = max(1, round(side / max(picture.shape[:2])))
    if times > 1:
        picture = picture.repeat(times, axis=0).repeat(times, axis=1)
        boxes = boxes * times
        if masks is not None:
            planes = np.moveaxis(masks, 2, 0).repeat(times, axis=1).repeat(times, axis=2)
            masks = np.moveaxis(planes, 0, 2)
    scores, captions = result.get("scores"), None
    if len(class_names) == 2:
        captions = [""] * len(boxes) if scores is None else [f"{score:.2f}" for score in scores]
    return draw_instances(
        picture, boxes, masks, result["class_ids"], class_names, scores, captions=captions
    )


def _titled(picture, title) -> np.ndarray:
    """The picture below a white strip with the title."""
    title = printable(title)
    font = 1.3 * _pen(picture.shape)[1]
    stroke = _stroke(font)
    (_, text_height), baseline = cv2.getTextSize(title, FONT, font, stroke)
    strip = np.full((text_height + 2 * baseline, picture.shape[1], 3), 255, np.uint8)
    foot = (baseline // 2, text_height + baseline // 2)
    cv2.putText(strip, title, foot, FONT, font, (0, 0, 0), stroke, cv2.LINE_AA)
    return np.vstack([strip, picture])


def contact_sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """uint8 [H, W, 3]: pictures of any sizes on white, `columns` to a row; [0, 0, 3] for none."""
    if columns < 1:
        raise ValueError(f"columns must be at least 1. Received: {columns}.")
    if len(pictures) == 0:
        return np.zeros((0, 0, 3), np.uint8)
    pictures = [_rgb(picture) for picture in pictures]
    columns = min(columns, len(pictures))
    gap = 8
    high = max(picture.shape[0] for picture in pictures) + gap
    wide = max(picture.shape[1] for picture in pictures) + gap
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * high - gap, columns * wide - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * high, i % columns * wide
        sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet


# --- Figures ------------------------------------------------------------------------------------------------


def _new_figure(figsize=None):
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
    figure = _new_figure(
        (14, max(1, 14 * rows / cols * min(1, tallest) + 0.3 * rows))
    )  # and room for the titles
    for i, (image, title) in enumerate(zip(images, titles, strict=False)):
        image = np.asarray(image)
        if image.ndim == 3:
            image = image[:, :, 0] if image.shape[2] == 1 else _rgb(image)
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
    picture = _rgb(image)
    boxes, masks, captions = _instances(
        picture.shape, boxes, masks, class_ids, class_names, scores, captions, digits=3
    )
    _log_if_nothing(boxes)
    colors = random_colors(len(boxes)) if colors is None or len(colors) == 0 else colors
    _check_enough("colors", colors, len(boxes))
    auto_show = ax is None
    ax = _new_figure(figsize).add_subplot() if auto_show else ax
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
    boxes, class_ids = _as_boxes(boxes), np.asarray(class_ids, int)
    scores = np.zeros(len(boxes)) if scores is None else np.asarray(scores)
    masks = _as_masks(masks if len(boxes) else [], np.shape(image))
    _check_counts(boxes=boxes, masks=np.moveaxis(masks, 2, 0), class_ids=class_ids, scores=scores)
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
    picture = _rgb(image)
    rois, refined_rois, class_ids = _as_boxes(rois), _as_boxes(refined_rois), np.asarray(class_ids)
    positive = int(np.sum(class_ids > 0))
    ids = np.arange(len(rois))
    if len(ids) > limit:
        ids = np.random.choice(ids, limit, replace=False)
    ax = _new_figure((12, 12)).add_subplot()
    _frame(ax, picture.shape, 20, f"{len(ids)} of {len(rois)} ROIs; of all, {positive} positive")
    for i, color in zip(ids, _steady_colors(len(ids)), strict=True):
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
    picture = _rgb(image)
    boxes = None if boxes is None else _as_boxes(boxes)
    refined_boxes = None if refined_boxes is None else _as_boxes(refined_boxes)
    masks = None if masks is None else _as_masks(masks, picture.shape)
    count = len(boxes if boxes is not None else refined_boxes)
    masks = None if masks is None else np.moveaxis(masks, 2, 0)
    given = (refined_boxes, masks, captions, visibilities)
    for name, values in zip(
        ("refined_boxes", "masks", "captions", "visibilities"), given, strict=True
    ):
        if values is not None:
            _check_enough(name, values, count)
    colors = random_colors(count)
    ax = _new_figure((12, 12)).add_subplot() if ax is None else ax
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
    mask, class_ids = _as_masks(mask, image.shape) > 0.5, np.asarray(class_ids)
    areas = mask.sum(axis=(0, 1))
    found = sorted(
        set(class_ids.tolist()), key=lambda class_id: -areas[class_ids == class_id].sum()
    )[:limit]
    images, titles = [image], [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for class_id in found:
        planes = mask[:, :, class_ids == class_id]
        # Instance k of the class gets the grey level k, the later ones on top.
        images.append((planes * np.arange(1, planes.shape[2] + 1)).max(axis=2))
        titles.append(figure_text(_class_labels([class_id], class_names, None, 0)[0]))
    blank = np.zeros(image.shape[:2], int)
    images += [blank] * (limit - len(found))
    titles += ["-"] * (limit - len(found))
    display_images(images, titles=titles, cols=limit + 1, cmap="Blues_r")


def plot_precision_recall(AP, precisions, recalls) -> None:
    """Draws the precision-recall curve.

    AP: average precision at IoU 0.5, for the title
    precisions, recalls: [K] as from `compute_ap`
    """
    ax = _new_figure().add_subplot()
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
    ax = _new_figure((12, 10)).add_subplot()
    if overlaps.size:
        ax.imshow(overlaps, interpolation="nearest", cmap="Blues", vmin=0, vmax=1)
    found = [
        figure_text(label)
        for label in _class_labels(pred_class_ids, class_names, pred_scores, digits=2)
    ]
    there = [figure_text(label) for label in _class_labels(gt_class_ids, class_names, None, 0)]
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


# --- Tables -------------------------------------------------------------------------------------------------


def display_table(table) -> None:
    """Shows a list of rows as a table: HTML in a notebook, plain text elsewhere."""
    notebook = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if notebook is not None and hasattr(notebook, "kernel"):
        from IPython.display import HTML, display  # not a dependency: only notebooks have it

        rows = ("".join(f"<td>{cell}</td>" for cell in row) for row in table)
        display(HTML("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"))
        return
    grid = Table.grid(padding=(0, 2))
    for row in table:
        grid.add_row(*(Text(printable_lines(cell)) for cell in row))
    Console().print(grid)


def display_weight_stats(model) -> None:
    """Shows minimum, maximum and spread of every weight that can be trained, and marks those that look wrong.

    model: a MaskRCNN
    """
    table = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for layer in model.get_trainable_layers():
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            numbers = (values.min(), values.max(), values.std())
            table.append(
                [
                    getattr(weight, "path", weight.name) + _weight_alert(layer, weight, values),
                    str(values.shape),
                    *(f"{number:+9.4f}" for number in numbers),
                ]
            )
    display_table(table)


def _weight_alert(layer, weight, values) -> str:
    """A mark after the name of a weight that is constant, enormous or not a number."""
    if not np.isfinite(values).all():
        return " *** not finite"
    if np.abs(values).max() > 1000:
        return " *** overflow?"
    may_be_constant = (
        type(layer).__name__.endswith("Conv2D") and weight.name == "bias"
    )  # zeros at the start
    return " *** dead?" if values.min() == values.max() and not may_be_constant else ""

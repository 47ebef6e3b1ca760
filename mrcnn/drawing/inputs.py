"""What is to be drawn: images, boxes and masks checked, colours, captions."""

import colorsys
import random
from collections.abc import Mapping

import numpy as np

from ..files.limits import LONGEST_NAME, printable


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:
    """N colours evenly spread over the hues, shuffled by Python's global `random`.

    bright: full brightness; otherwise 70 %.
    """
    brightness = 1.0 if bright else 0.7
    colors = [colorsys.hsv_to_rgb(i / N, 1, brightness) for i in range(N)]
    random.shuffle(colors)
    return colors


def steady_colors(count: int) -> list[tuple[float, float, float]]:
    """`count` colours in which neighbours differ: always the same ones, without the global `random`."""
    golden_ratio = 0.618034
    return [colorsys.hsv_to_rgb(i * golden_ratio % 1, 0.85, 1.0) for i in range(count)]


def as_rgb(image) -> np.ndarray:
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


def as_boxes(boxes) -> np.ndarray:
    """[N, (y1, x1, y2, x2)], also for an empty list."""
    boxes = np.asarray(boxes)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [N, (y1, x1, y2, x2)]. Received: shape {boxes.shape}.")
    return boxes


def as_masks(masks, shape) -> np.ndarray:
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


def class_labels(class_ids, class_names, scores, digits: int) -> list[str]:
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


def checked_instances(shape, boxes, masks, class_ids, class_names, scores, captions, digits):
    """Boxes [N, 4], masks [H, W, N] or None, and N captions; checked to speak of the same N instances."""
    boxes, class_ids = as_boxes(boxes), np.asarray(class_ids).reshape(-1)
    # A dataset's "no instances" may keep one all-zero plane; there is nothing in it to draw.
    masks = None if masks is None else as_masks(masks if len(boxes) else [], shape)
    planes = None if masks is None else np.moveaxis(masks, 2, 0)
    check_counts(boxes=boxes, masks=planes, class_ids=class_ids, scores=scores)
    if captions is None or len(captions) == 0:
        return boxes, masks, class_labels(class_ids, class_names, scores, digits)
    check_enough("captions", captions, len(boxes))
    return boxes, masks, ["" if caption is None else str(caption) for caption in captions]


def check_counts(**arrays) -> None:
    """Raises ValueError unless the arrays (None: not given) have the same length."""
    counts = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(counts.values())) > 1:
        received = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(
            f"boxes, masks, class_ids and scores must describe the same instances. Received: {received}. "
            "Try passing all of them from one result: r['rois'], r['masks'], r['class_ids'], r['scores']."
        )


def check_enough(name: str, values, count: int) -> None:
    """Raises ValueError if there is not one of `values` for every instance."""
    if len(values) < count:
        raise ValueError(
            f"{name} must have one entry per instance. Received: {len(values)} for {count} instances."
        )

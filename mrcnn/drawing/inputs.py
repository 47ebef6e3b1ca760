"""Checks and conversions of everything that is drawn: images, boxes, masks, captions, colors.

Boxes are `(y1, x1, y2, x2)` in pixels of the image, y2 and x2 exclusive. Colors are RGB in 0..1.
"""

from __future__ import annotations

import colorsys
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..files.safe_text import LONGEST_NAME, printable

ClassNames = Sequence[str] | Mapping[int, str]
Color = Sequence[float] | np.ndarray

GOLDEN_RATIO = 0.618034


class Instances(NamedTuple):
    """Checked arrays of N instances.

    boxes: [N, (y1, x1, y2, x2)]. masks: [H, W, N], or None. captions: N texts.
    """

    boxes: np.ndarray
    masks: np.ndarray | None
    captions: list[str]


# --- Colors -------------------------------------------------------------------------------------


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:
    """Return N colors of evenly spaced hues, shuffled with Python's global `random`.

    bright: full brightness; otherwise 70 %.
    """
    brightness = 1.0 if bright else 0.7
    colors = [colorsys.hsv_to_rgb(i / N, 1, brightness) for i in range(N)]
    random.shuffle(colors)
    return colors


def steady_colors(count: int) -> list[tuple[float, float, float]]:
    """Return `count` colors, the same on every call, in which neighbors differ clearly."""
    return [colorsys.hsv_to_rgb(i * GOLDEN_RATIO % 1, 0.85, 1.0) for i in range(count)]


# --- Arrays -------------------------------------------------------------------------------------


def as_rgb(image: ArrayLike) -> np.ndarray:
    """Copy an image of any channel count and number type to uint8 `[H, W, 3]`.

    One or two channels: the first one, as gray. More than three: the first three.
    Values within 0..255 are kept. Bool, and floats within 0..1, are multiplied by 255. All other
    values (16 bit, mean-subtracted) are stretched to 0..255.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or image.shape[2] == 0:
        raise ValueError(
            "An image must be [height, width] or [height, width, channels]. "
            f"Received: shape {image.shape}. Try image[0] if this is a batch."
        )
    if image.shape[2] < 3:
        image = np.repeat(image[:, :, :1], 3, axis=2)
    image = image[:, :, :3]
    if image.dtype == np.uint8 or image.size == 0:
        return image.astype(np.uint8, order="C")
    return np.ascontiguousarray(_to_8_bits(image))


def _to_8_bits(image: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
    low = min(values.min(), 0.0)
    high = values.max()
    unit_range = image.dtype == bool or (image.dtype.kind == "f" and high <= 1)
    if low == 0 and unit_range:
        values *= 255
    elif low < 0 or high > 255:
        values = (values - low) * (255 / max(high - low, 1e-6))
    return np.round(values).astype(np.uint8)


def as_boxes(boxes: ArrayLike) -> np.ndarray:
    """Return boxes as `[N, (y1, x1, y2, x2)]`; an empty list gives `[0, 4]`."""
    boxes = np.asarray(boxes)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [N, (y1, x1, y2, x2)]. Received: shape {boxes.shape}.")
    return boxes


def as_masks(masks: ArrayLike, shape: Sequence[int]) -> np.ndarray:
    """Return masks as `[H, W, N]` of an image's size; any empty array gives `[H, W, 0]`.

    shape: (H, W, ...) of the image.
    """
    masks = np.asarray(masks)
    if masks.size == 0:
        return np.zeros((*shape[:2], 0), bool)
    if masks.ndim != 3 or masks.shape[:2] != tuple(shape[:2]):
        raise ValueError(
            "masks must be [height, width, N] of the image's size. Received: "
            f"masks {masks.shape}, image {tuple(shape)}. "
            "Try use_mini_mask=False, or mrcnn.utils.expand_mask() for mini-masks."
        )
    return masks


# --- Instances ----------------------------------------------------------------------------------


def class_labels(
    class_ids: Sequence[int] | np.ndarray,
    class_names: ClassNames,
    scores: Sequence[float] | np.ndarray | None,
    digits: int,
) -> list[str]:
    """Return "name score" for every instance; a negative class id marks a crowd.

    scores: None leaves the score out. digits: decimals of the score.
    """
    names = class_names
    if not isinstance(names, Mapping):
        names = dict(enumerate(names))
    labels = []
    for i, class_id in enumerate(class_ids):
        if abs(int(class_id)) not in names:
            raise ValueError(
                f"class_names must have a name for every class id. Received: class id "
                f"{int(class_id)} with class_names {class_names}. Try adding 'BG' (background, "
                "id 0) as the first name if it is missing; dataset.class_names has it."
            )
        label = printable(names[abs(int(class_id))], LONGEST_NAME)
        if class_id < 0:
            label += " (crowd)"
        if scores is not None:
            label += f" {scores[i]:.{digits}f}"
        labels.append(label)
    return labels


def checked_instances(
    shape: Sequence[int],
    boxes: ArrayLike,
    masks: ArrayLike | None,
    class_ids: ArrayLike,
    class_names: ClassNames,
    scores: Sequence[float] | np.ndarray | None,
    captions: Sequence[Any] | None,
    digits: int,
) -> Instances:
    """Convert and check the arguments of the functions that draw instances.

    shape: (H, W, ...) of the image. captions: N texts; None or empty for "class score".
    digits: decimals of the score in a caption.

    Raises: ValueError unless all arrays describe the same N instances.
    """
    boxes = as_boxes(boxes)
    class_ids = np.asarray(class_ids).reshape(-1)
    if masks is not None:
        # A dataset's "no instances" may keep one all-zero plane; it is dropped with the boxes.
        masks = as_masks(masks if len(boxes) else [], shape)
    planes = None if masks is None else np.moveaxis(masks, 2, 0)
    check_counts(boxes=boxes, masks=planes, class_ids=class_ids, scores=scores)
    if captions is None or len(captions) == 0:
        return Instances(boxes, masks, class_labels(class_ids, class_names, scores, digits))
    check_enough("captions", captions, len(boxes))
    texts = ["" if caption is None else str(caption) for caption in captions]
    return Instances(boxes, masks, texts)


def check_counts(**arrays: Any) -> None:
    """Raise a ValueError unless the arrays have one length; those that are None are ignored."""
    counts = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(counts.values())) > 1:
        received = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(
            "boxes, masks, class_ids and scores must describe the same instances. "
            f"Received: {received}. Try passing all of them from one result: "
            "r['rois'], r['masks'], r['class_ids'], r['scores']."
        )


def check_enough(name: str, values: Sequence[Any] | np.ndarray, count: int) -> None:
    """Raise a ValueError if there are fewer values than instances."""
    if len(values) < count:
        raise ValueError(
            f"{name} must have one entry per instance. "
            f"Received: {len(values)} for {count} instances."
        )

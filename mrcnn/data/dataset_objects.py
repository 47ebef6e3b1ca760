"""What a dataset returns for one image, checked: masks, boxes, keypoints and class ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import Config
from ..nn.boxes import area
from .dataset import Dataset


def image_name(dataset: Dataset, image_id: int) -> str:
    """Return the id and path of an image for messages."""
    info = dataset.image_info[image_id]
    return f"image {image_id} ({info.get('path') or info.get('id')})"


def load_mask(
    dataset: Dataset, config: Config, image_id: int, image_shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load and check the masks `[H, W, N]` bool and class ids `[N]` int32 of an image.

    Returns: also `[M]` bool, which of the M objects of `load_mask` these are.
    """
    mask, class_ids = dataset.load_mask(image_id)
    mask, class_ids = np.asarray(mask), np.asarray(class_ids, dtype=np.int32).reshape(-1)
    name = image_name(dataset, image_id)
    if len(class_ids) == 0 and (mask.size == 0 or not mask.any()):
        # load_mask may return any empty shape.
        return np.zeros((*image_shape[:2], 0), dtype=bool), class_ids, np.zeros(0, bool)
    if mask.ndim == 2:
        mask = mask[:, :, None]
    if mask.shape[:2] != image_shape[:2] or mask.shape[2] != len(class_ids):
        raise ValueError(
            f"load_mask must return masks [{image_shape[0]}, {image_shape[1]}, N] and N class ids "
            f"for {name}. Received: masks {mask.shape} and {len(class_ids)} class ids. "
            "Try the image's own height and width, and one id per mask."
        )
    kept = _known_or_visible(class_ids, config, lambda ids: mask[:, :, ids].any(axis=(0, 1)))
    _check_class_ids(class_ids[kept], config, name)
    if not kept.all():
        mask = mask[:, :, kept]
    return mask.astype(bool, copy=False), class_ids[kept], kept


def load_keypoints(
    dataset: Dataset, config: Config, image_id: int, kept: np.ndarray
) -> np.ndarray | None:
    """Load and check the keypoints `[N, K, 3]` float32 of an image; None if the network has none.

    kept: `[M]` bool, of which of the dataset's objects.
    """
    if not config.has_keypoint_head():
        return None
    count, shape = config.NUM_KEYPOINTS, (len(kept), config.NUM_KEYPOINTS, 3)
    keypoints = np.asarray(dataset.load_keypoints(image_id), np.float32)
    if keypoints.size == 0 and len(kept) == 0:
        return np.zeros((0, count, 3), np.float32)  # load_keypoints may return any empty shape
    if keypoints.shape != shape or not np.isfinite(keypoints).all():
        raise ValueError(
            f"load_keypoints must return finite numbers [{len(kept)}, {count}, (y, x, visibility)] "
            f"for {image_name(dataset, image_id)}. Received: the shape {keypoints.shape}. Try one "
            "row per object, in their order, and NUM_KEYPOINTS = the number of keypoints."
        )
    return keypoints[kept]


def load_bbox(
    dataset: Dataset, config: Config, image_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Load and check the boxes `[N, 4]` float and class ids `[N]` int32 of an image.

    Returns: also `[M]` bool, which of the M objects of `load_bbox` these are.
    """
    boxes, class_ids = dataset.load_bbox(image_id)
    boxes = np.asarray(boxes, dtype=float)
    class_ids = np.asarray(class_ids, dtype=np.int32).reshape(-1)
    name = image_name(dataset, image_id)
    if len(class_ids) == 0 and boxes.size == 0:
        # load_bbox may return any empty shape.
        return np.zeros((0, 4)), class_ids, np.zeros(0, bool)
    if boxes.shape != (len(class_ids), 4) or not np.isfinite(boxes).all():
        raise ValueError(
            f"load_bbox must return boxes [N, (y1, x1, y2, x2)] and N class ids for {name}. "
            f"Received: boxes {boxes.shape} and {len(class_ids)} class ids. Try "
            "np.array(boxes).reshape(-1, 4), without nan."
        )
    inverted = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if inverted.any():
        raise ValueError(
            "A box must be (y1, x1, y2, x2) with y1 <= y2 and x1 <= x2. "
            f"Received: {boxes[inverted][0].tolist()} for {name}. Try converting "
            "x, y, width, height to y, x, y + height, x + width."
        )
    kept = _known_or_visible(class_ids, config, lambda ids: area(boxes[ids]) > 0)
    _check_class_ids(class_ids[kept], config, name)
    return boxes[kept], class_ids[kept], kept


def _is_unknown(class_ids: np.ndarray, config: Config) -> np.ndarray:
    """`[N]` bool: the class ids that the network does not have."""
    return (np.abs(class_ids) < 1) | (np.abs(class_ids) >= config.NUM_CLASSES)


def _known_or_visible(
    class_ids: np.ndarray, config: Config, is_visible: Callable[[np.ndarray], Any]
) -> np.ndarray:
    """`[N]` bool: False for instances of an unknown class that have no pixel.

    Published scripts mark an image without objects by an empty mask of class 0, so that is not an
    error.

    is_visible: returns for positions of instances whether they have a pixel. It reads whole masks,
        so it is called for unknown classes only.
    """
    kept = np.ones(len(class_ids), bool)
    unknown = np.flatnonzero(_is_unknown(class_ids, config))
    if len(unknown):
        kept[unknown] = is_visible(unknown)
    return kept


def _check_class_ids(class_ids: np.ndarray, config: Config, name: str) -> None:
    unknown = sorted(set(class_ids[_is_unknown(class_ids, config)].tolist()))
    if unknown:
        raise ValueError(
            f"Class ids must lie in 1..{config.NUM_CLASSES - 1} (NUM_CLASSES - 1; negative for a "
            f"crowd). Received: {unknown} for {name}. Try the ids of Dataset.class_names, and "
            "NUM_CLASSES = 1 + your classes."
        )

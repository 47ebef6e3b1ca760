"""torchvision's and detectron2's rules to paste soft masks into an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

SoftCrop = tuple[int, int, np.ndarray]  # y and x of its first pixel, `[h, w]` float32


def rule_crops(
    rule: str, masks: np.ndarray, boxes: np.ndarray, image_shape: Sequence[int]
) -> Iterator[SoftCrop]:
    """Yield `(y, x, soft)` of each mask: its probabilities in the image, and their position.

    Args:
        rule: "torchvision" or "detectron2", see `Config.MASK_PASTE`.
        masks: `[N, h, w]` float 0..1.
        boxes: `[N, (y1, x1, y2, x2)]` pixels of the image.
        image_shape: `(H, W, ...)`.
    """
    masks = np.asarray(masks, np.float32)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    crops = _torchvision_crops if rule == "torchvision" else _detectron2_crops
    return crops(masks, boxes, (int(image_shape[0]), int(image_shape[1])))


def _torchvision_crops(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> Iterator[SoftCrop]:
    """A border of one mask pixel is added, and the box with it is truncated to whole pixels.

    Source: torchvision, `models/detection/roi_heads.py`, `paste_masks_in_image`.
    """
    height, width = size
    padded = np.pad(masks, [(0, 0), (1, 1), (1, 1)])
    corners = _boxes_with_border(boxes, masks.shape[1:]).tolist()
    for mask, (y1, x1, y2, x2) in zip(padded, corners, strict=True):
        shape = (x2 - x1 + 1, y2 - y1 + 1)  # OpenCV's order
        soft = cv2.resize(mask, shape, interpolation=cv2.INTER_LINEAR)
        inside = soft[max(0, -y1) : max(0, height - y1), max(0, -x1) : max(0, width - x1)]
        yield max(0, y1), max(0, x1), inside


def _boxes_with_border(boxes: np.ndarray, mask_shape: Sequence[int]) -> np.ndarray:
    """`[N, 4]` int: boxes grown by one mask pixel on each side, truncated towards zero."""
    growth = np.array([(side + 2) / side for side in mask_shape], np.float32)
    first, last = boxes[:, :2], boxes[:, 2:]
    center = (first + last) * np.float32(0.5)
    half = (last - first) * np.float32(0.5) * growth
    return np.concatenate([center - half, center + half], axis=1).astype(np.int64)


def _detectron2_crops(
    masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> Iterator[SoftCrop]:
    """The center of each pixel is read from the mask, which fills the exact box.

    Source: detectron2, `layers/mask_ops.py`, `_do_paste_mask`.
    """
    mask_height, mask_width = masks.shape[1:]
    starts = np.clip(np.floor(boxes[:, :2]).astype(int) - 1, 0, size)
    ends = np.clip(np.ceil(boxes[:, 2:]).astype(int) + 1, 0, size)
    for mask, box, start, end in zip(masks, boxes, starts.tolist(), ends.tolist(), strict=True):
        rows = _reading_weights(box[0], box[2], start[0], end[0], mask_height)
        columns = _reading_weights(box[1], box[3], start[1], end[1], mask_width)
        yield start[0], start[1], rows @ mask @ columns.T


def _reading_weights(
    first: np.float32, last: np.float32, start: int, end: int, count: int
) -> np.ndarray:
    """`[end - start, count]`: the weight of each mask pixel at the centers of image pixels.

    first, last: sides of the box along this axis. start, end: the pixels. count: of mask pixels.
    Outside the mask everything is 0.
    """
    centers = np.arange(start, end, dtype=np.float32) + np.float32(0.5)
    side = np.maximum(last - first, np.float32(1e-6))
    positions = (centers - first) / side * np.float32(count) - np.float32(0.5)
    distances = np.abs(positions[:, None] - np.arange(count, dtype=np.float32))
    return np.maximum(1 - distances, 0)

"""Instance masks: resized with their image, their boxes, mini-masks, masks pasted back, IoU.

Masks are `[height, width, instances]` bool, boxes `(y1, x1, y2, x2)` in pixels with y2 and x2 one
past the last pixel. `exact=True` repeats matterport's numbers; see `data.image`.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Sequence

import cv2
import numpy as np

from .image import resize


def resize_mask(mask, scale, padding, crop=None, exact=False):
    """`[h, w, N]` the masks scaled (nearest), padded and cropped as `resize_image` said.

    mask: `[H, W, N]`. scale, padding, crop: as returned by `resize_image`.
    """
    rows = columns = slice(None)
    if crop is not None:
        y, x, crop_height, crop_width = crop
        rows, columns = slice(y, y + crop_height), slice(x, x + crop_width)
    if exact:
        import scipy.ndimage

        mask = scipy.ndimage.zoom(mask, [scale, scale, 1], order=0)[rows, columns]
    elif scale == 1:
        mask = mask[rows, columns]
    else:
        height, width = mask.shape[:2]
        rows = _nearest(height, max(1, round(height * scale)))[rows]
        columns = _nearest(width, max(1, round(width * scale)))[columns]
        planes = np.moveaxis(mask, -1, 0)
        if planes.strides[0] == max(
            planes.strides
        ):  # a view of [N, H, W]: along its memory is far faster
            mask = np.moveaxis(planes.take(rows, axis=1).take(columns, axis=2), 0, -1)
        else:
            mask = mask[rows][:, columns]
    return np.pad(mask, padding) if np.any(padding) else mask


def boxes_to_masks(boxes, shape) -> np.ndarray:
    """`[H, W, N]` bool masks that fill their boxes.

    boxes: `[N, (y1, x1, y2, x2)]` int pixels. shape: `(H, W, ...)`.
    """
    masks = np.zeros((len(boxes), *shape[:2]), dtype=bool)
    for mask, (y1, x1, y2, x2) in zip(masks, boxes, strict=True):
        mask[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = True
    return np.moveaxis(masks, 0, -1)


def _nearest(size: int, new_size: int) -> np.ndarray:
    """The source index of each new index, centres on centres."""
    return np.minimum(
        ((np.arange(new_size) + 0.5) * (size / max(new_size, 1))).astype(int), size - 1
    )


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """`[N, (y1, x1, y2, x2)]` int32 tight boxes of the masks; an empty mask gives zeros.

    mask: `[H, W, N]`.
    """
    height, width, count = mask.shape
    if mask.size == 0:
        return np.zeros((count, 4), dtype=np.int32)
    rows, columns = _any_in_row(mask), mask.any(axis=0)  # [H, N], [W, N]
    y1, y2 = rows.argmax(axis=0), height - rows[::-1].argmax(axis=0)
    x1, x2 = columns.argmax(axis=0), width - columns[::-1].argmax(axis=0)
    return np.where(rows.any(axis=0), [y1, x1, y2, x2], 0).T.astype(np.int32)


def _any_in_row(mask: np.ndarray) -> np.ndarray:
    """`[H, N]` bool: what `mask.any(axis=1)` says, without its slow walk through short last axes."""
    while (width := mask.shape[1]) > 1:
        half = (width + 1) // 2
        mask = np.logical_or(mask[:, :half], mask[:, width - half :])
    return mask[:, 0].astype(bool)


def minimize_mask(bbox, mask, mini_shape, exact=False) -> np.ndarray:
    """`[h, w, N]` bool mini-masks: each mask cut to its box and resized to one shape.

    bbox: `[N, (y1, x1, y2, x2)]`. mask: `[H, W, N]`. mini_shape: `(h, w)`.

    Raises: ValueError for a box without area.
    """
    mini = np.zeros((*mini_shape, mask.shape[-1]), dtype=bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(bbox)[:, :4]):
        part = mask[y1:y2, x1:x2, i].astype(bool)
        if part.size == 0:
            raise ValueError(
                f"Every box must have an area. Received: box {i} = {(int(y1), int(x1), int(y2), int(x2))}. "
                "Try dropping instances whose mask is empty."
            )
        mini[:, :, i] = _scale_mask(part, mini_shape, exact) > 0.5
    return mini


def expand_mask(bbox, mini_mask, image_shape, exact=False) -> np.ndarray:
    """`[H, W, N]` bool masks pasted back from mini-masks; the reverse of `minimize_mask`, but for its rounding.

    bbox: `[N, (y1, x1, y2, x2)]`. mini_mask: `[h, w, N]`. image_shape: `(H, W, ...)`.
    """
    masks = np.zeros((mini_mask.shape[-1], *image_shape[:2]), dtype=bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(bbox)[:, :4]):
        if y2 > y1 and x2 > x1:
            masks[i, y1:y2, x1:x2] = (
                _scale_mask(mini_mask[:, :, i], (y2 - y1, x2 - x1), exact) > 0.5
            )
    return np.moveaxis(masks, 0, -1)


def _scale_mask(mask: np.ndarray, shape, exact: bool) -> np.ndarray:
    """`[h, w]` float, bilinear, black outside the mask."""
    if exact:
        return resize(mask, shape)
    height, width = int(shape[0]), int(shape[1])
    mask = mask.astype(np.float32, copy=False)
    scaled = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    for lines, old in ((scaled, mask.shape[0]), (scaled.T, mask.shape[1])):
        first, last = _rim(old, len(lines))
        lines[: len(first)] *= first
        lines[len(lines) - len(last) :] *= last
    # scikit-image keeps to the values it was given: a full mask stays full (masks are cut at 0.5)
    if mask[0, 0] < 0.5 or (least := mask.min()) < 0.5:
        return scaled
    return np.maximum(scaled, least)


@functools.lru_cache(maxsize=4096)
def _rim(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """`[n, 1]` each: the share of a new pixel that the old ones make up, of the first and of the last that are below 1.

    An enlarged mask has pixels whose centres lie beyond the centres of the outermost old ones, up to half an old
    pixel: there the black outside shares in. OpenCV's bilinear resize repeats the outermost pixel instead.
    """
    centers = (np.arange(new_size, dtype=np.float32) + 0.5) * (size / new_size) - 0.5
    share = np.clip(np.minimum(centers + 1, size - centers), 0, 1)[:, None]
    whole = np.flatnonzero(share == 1)
    return (share[: whole[0]], share[whole[-1] + 1 :]) if len(whole) else (share, share[:0])


def mold_mask(mask, config):
    """The masks as they are: kept for its name, matterport's had no body."""
    return mask


def unmold_mask(mask, bbox, image_shape, exact=False) -> np.ndarray:
    """`[H, W]` bool: a soft mask of the network, resized to its box, cut at 0.5 and pasted.

    mask: `[h, w]` float 0..1. bbox: `(y1, x1, y2, x2)`. image_shape: `(H, W, ...)`.
    """
    y1, x1, y2, x2 = (int(side) for side in bbox)
    full = np.zeros(image_shape[:2], dtype=bool)
    full[y1:y2, x1:x2] = _scale_mask(mask, (y2 - y1, x2 - x1), exact) >= 0.5
    return full


def unmold_masks(masks: np.ndarray, bboxes: np.ndarray, image_shape, exact=False) -> np.ndarray:
    """`[H, W, N]` bool, a view of `[N, H, W]`: the soft masks pasted at their boxes, cut to the image.

    masks: `[N, h, w]` float 0..1. bboxes: `[N, (y1, x1, y2, x2)]` int pixels.
    """
    full = _blank_masks(len(masks), *image_shape[:2])
    for canvas, (y, x, crop) in zip(
        full, unmold_crops(masks, bboxes, image_shape, exact), strict=True
    ):
        canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return np.moveaxis(full, 0, -1)


def _blank_masks(count: int, height: int, width: int) -> np.ndarray:
    """`[count, height, width]` bool, False, in memory that is taken by 4 KB as it is written to.

    NumPy asks Linux for pages of 2 MB where an array is large: a few pixels of a mask then fill 2 MB with zeros.
    """
    size = count * height * width
    if size < 2**22 or not hasattr(mmap, "MAP_PRIVATE"):
        return np.zeros((count, height, width), bool)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, bool).reshape(count, height, width)


def unmold_crops(masks: np.ndarray, bboxes: np.ndarray, image_shape, exact=False):
    """Yields of each soft mask `(y, x, crop)`: `[h, w]` bool, the mask in its box, and where it lies in the image.

    masks, bboxes: as for `unmold_masks`. A box beside the image gives a crop without a pixel.
    """
    height, width = image_shape[:2]
    for mask, (y1, x1, y2, x2) in zip(masks, np.asarray(bboxes).tolist(), strict=True):
        soft = _scale_mask(mask, (y2 - y1, x2 - x1), exact)
        inside = soft[max(0, -y1) : max(0, height - y1), max(0, -x1) : max(0, width - x1)]
        yield max(0, y1), max(0, x1), inside >= 0.5


def masks_iou(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """`[N, M]` float32 intersection over union of every pair of masks (cut at 0.5); 0 where both are empty.

    masks1: `[H, W, N]`. masks2: `[H, W, M]`.
    """
    if masks1.shape[-1] == 0 or masks2.shape[-1] == 0:
        return np.zeros((masks1.shape[-1], masks2.shape[-1]))
    first = (masks1 > 0.5).reshape(-1, masks1.shape[-1]).astype(np.float32)
    second = (masks2 > 0.5).reshape(-1, masks2.shape[-1]).astype(np.float32)
    intersection = first.T @ second
    union = first.sum(axis=0)[:, None] + second.sum(axis=0)[None] - intersection
    return intersection / np.where(union > 0, union, 1)


def rle_areas(rles: Sequence[dict]) -> np.ndarray:
    """`[N]` int64: the pixels of each of N compressed run-length codes."""
    from pycocotools import mask as coco_mask

    # One by one: with NumPy 2 pycocotools' `area` of 256 codes or more raises an OverflowError.
    return np.array([coco_mask.area(rle) for rle in rles], np.int64)

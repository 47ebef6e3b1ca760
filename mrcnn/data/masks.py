"""Instance masks: resize, find their boxes, shrink to mini-masks, paste into images, compare.

Masks are `[height, width, instances]` bool, boxes `(y1, x1, y2, x2)` in pixels with y2 and x2 one
past the last pixel. `exact=True` repeats matterport's numbers; see `data.image`.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np

from ..nn.boxes import clip, outward
from .image import Crop, Padding, Scale, by_axis, resize, scaled_size
from .paste_rules import rule_crops

MaskCrop = tuple[int, int, np.ndarray]  # y and x of its first pixel, `[h, w]`

# --- Resizing ---------------------------------------------------------------------------------


def resize_mask(
    mask: np.ndarray,
    scale: Scale,
    padding: Padding,
    crop: Crop | None = None,
    exact: bool = False,
    half_pixel: bool = True,
) -> np.ndarray:
    """Scale (to the nearest pixel), pad and crop masks as `resize_image` did with their image.

    Args:
        mask: `[H, W, N]`.
        scale, padding, crop: as returned by `resize_image`.
        half_pixel: the nearest pixel by the centers of pixels; False: by their corners, as torch's
            "nearest" (mode "torchvision").

    Returns: `[h, w, N]`, dtype of `mask`.
    """
    rows = columns = slice(None)
    if crop is not None:
        y, x, crop_height, crop_width = crop
        rows, columns = slice(y, y + crop_height), slice(x, x + crop_width)
    if exact:
        import scipy.ndimage

        zoomed = scipy.ndimage.zoom(mask, [*by_axis(scale), 1], order=0)
        mask = np.asarray(zoomed)[rows, columns]
    elif by_axis(scale) == (1, 1):
        mask = mask[rows, columns]
    else:
        height, width = mask.shape[:2]
        new_height, new_width = scaled_size(height, width, scale)
        nearest = nearest_by_center if half_pixel else nearest_by_corner
        mask = _take(mask, nearest(height, new_height)[rows], nearest(width, new_width)[columns])
    return _pad(mask, padding) if np.any(padding) else mask


def _pad(mask: np.ndarray, padding: Padding) -> np.ndarray:
    """`np.pad`; a view of `[N, H, W]` stays one, which is faster here and for what follows."""
    if not _is_view_of_planes(mask):
        return np.pad(mask, padding)
    rows, columns, instances = padding
    return np.moveaxis(np.pad(np.moveaxis(mask, -1, 0), (instances, rows, columns)), 0, -1)


def _is_view_of_planes(mask: np.ndarray) -> bool:
    """Whether `[H, W, N]` masks are `[N, H, W]` in memory."""
    return mask.strides[-1] == max(mask.strides)


def nearest_by_center(size: int, new_size: int) -> np.ndarray:
    """Return for each of `new_size` positions the nearest of `size` old ones, by their centers."""
    positions = (np.arange(new_size) + 0.5) * (size / max(new_size, 1))
    return np.minimum(positions.astype(int), size - 1)


def nearest_by_corner(size: int, new_size: int) -> np.ndarray:
    """Return for each of `new_size` positions the one of `size` pixels at its first corner.

    Computed in float32, as by torch.
    """
    step = np.float32(size / max(new_size, 1))
    positions = np.arange(new_size, dtype=np.float32) * step
    return np.minimum(positions.astype(int), size - 1)


def _take(mask: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`mask[rows][:, columns]`, along the memory if the mask is a view of `[N, H, W]` (faster)."""
    if not _is_view_of_planes(mask):
        return mask[rows][:, columns]
    planes = np.moveaxis(mask, -1, 0)
    return np.moveaxis(planes.take(rows, axis=1).take(columns, axis=2), 0, -1)


# --- Masks and boxes --------------------------------------------------------------------------


def boxes_to_masks(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return `[H, W, N]` bool masks that fill their boxes.

    Args:
        boxes: `[N, (y1, x1, y2, x2)]` int pixels.
        shape: `(H, W, ...)` of the image.
    """
    masks = np.zeros((len(boxes), *shape[:2]), dtype=bool)
    for mask, (y1, x1, y2, x2) in zip(masks, boxes, strict=True):
        mask[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = True
    return np.moveaxis(masks, 0, -1)


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """Return the `[N, (y1, x1, y2, x2)]` int32 tight boxes of masks `[H, W, N]`; zeros if empty."""
    height, width, count = mask.shape
    if mask.size == 0:
        return np.zeros((count, 4), dtype=np.int32)
    rows = _any_in_row(mask)  # [H, N]
    columns = np.logical_or.reduce(mask, axis=0)  # [W, N]
    y1, y2 = rows.argmax(axis=0), height - rows[::-1].argmax(axis=0)
    x1, x2 = columns.argmax(axis=0), width - columns[::-1].argmax(axis=0)
    boxes = np.where(rows.any(axis=0), [y1, x1, y2, x2], 0)  # [4, N]
    return boxes.T.astype(np.int32)


def _any_in_row(mask: np.ndarray) -> np.ndarray:
    """`mask.any(axis=1)`, `[H, N]` bool, by halves: NumPy is slow if the last axis is short."""
    while (width := mask.shape[1]) > 1:
        half = (width + 1) // 2
        mask = np.logical_or(mask[:, :half], mask[:, width - half :])
    return mask[:, 0].astype(bool)


# --- Mini-masks -------------------------------------------------------------------------------


def minimize_mask(
    bbox: np.ndarray, mask: np.ndarray, mini_shape: Sequence[int], exact: bool = False
) -> np.ndarray:
    """Cut each mask to its box and resize it to one shape.

    Args:
        bbox: `[N, (y1, x1, y2, x2)]` pixels.
        mask: `[H, W, N]`.
        mini_shape: `(h, w)`.

    Returns: `[h, w, N]` bool.

    Raises: ValueError for a box without area.
    """
    mini = np.zeros((*mini_shape, mask.shape[-1]), dtype=bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(bbox)[:, :4].tolist()):
        part = mask[y1:y2, x1:x2, i].astype(bool)
        if part.size == 0:
            raise ValueError(
                f"Every box must have an area. Received: box {i} = {(y1, x1, y2, x2)}. "
                "Try dropping instances whose mask is empty."
            )
        mini[:, :, i] = _scale_mask(part, mini_shape, exact) > 0.5
    return mini


def expand_mask(
    bbox: np.ndarray,
    mini_mask: np.ndarray,
    image_shape: Sequence[int] | np.ndarray,
    exact: bool = False,
) -> np.ndarray:
    """Paste mini-masks into masks of the whole image; the inverse of `minimize_mask`, if rounded.

    Args:
        bbox: `[N, (y1, x1, y2, x2)]` pixels.
        mini_mask: `[h, w, N]`.
        image_shape: `(H, W, ...)`.

    Returns: `[H, W, N]` bool.
    """
    masks = np.zeros((mini_mask.shape[-1], *image_shape[:2]), dtype=bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(bbox)[:, :4].tolist()):
        if y2 > y1 and x2 > x1:
            part = _scale_mask(mini_mask[:, :, i], (y2 - y1, x2 - x1), exact)
            masks[i, y1:y2, x1:x2] = part > 0.5
    return np.moveaxis(masks, 0, -1)


def _scale_mask(
    mask: np.ndarray, shape: Sequence[int], exact: bool, threshold: float = 0.5
) -> np.ndarray:
    """`[h, w]` float: a mask resized by bilinear interpolation, as if it were surrounded by 0.

    threshold: what the caller compares the result with.

    OpenCV repeats the outermost pixels instead, so the new pixels near the border are multiplied
    with their share of old pixels.
    """
    if exact:
        return resize(mask, shape)
    height, width = int(shape[0]), int(shape[1])
    mask = mask.astype(np.float32, copy=False)
    scaled = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    for lines, old_size in ((scaled, mask.shape[0]), (scaled.T, mask.shape[1])):
        first, last = _border_shares(old_size, len(lines))
        lines[: len(first)] *= first
        lines[len(lines) - len(last) :] *= last
    # scikit-image keeps the range of values that it was given: a full mask stays full after the
    # threshold.
    if mask[0, 0] < threshold or (smallest := mask.min()) < threshold:
        return scaled
    return np.maximum(scaled, smallest)


@functools.lru_cache(maxsize=4096)
def _border_shares(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of old pixels in the first and last new pixels, as far as it is below 1; `[n, 1]` each.

    An enlarged mask has pixels whose centers lie outside the centers of the outermost old pixels,
    by up to half an old pixel: the 0 outside the mask contributes to them.
    """
    centers = (np.arange(new_size, dtype=np.float32) + 0.5) * (size / new_size) - 0.5
    share = np.clip(np.minimum(centers + 1, size - centers), 0, 1)[:, None]
    whole = np.flatnonzero(share == 1)
    if not len(whole):
        return share, share[:0]
    return share[: whole[0]], share[whole[-1] + 1 :]


# --- Soft masks of the network ----------------------------------------------------------------


def unmold_mask(
    mask: np.ndarray, bbox: Sequence[int], image_shape: Sequence[int], exact: bool = False
) -> np.ndarray:
    """Resize a soft mask to its box, threshold it at 0.5, and paste it into an image.

    Args:
        mask: `[h, w]` float 0..1.
        bbox: `(y1, x1, y2, x2)` pixels, inside the image.
        image_shape: `(H, W, ...)`.

    Returns: `[H, W]` bool.
    """
    y1, x1, y2, x2 = (int(side) for side in bbox)
    full = np.zeros(image_shape[:2], dtype=bool)
    full[y1:y2, x1:x2] = _scale_mask(mask, (y2 - y1, x2 - x1), exact) >= 0.5
    return full


def unmold_masks(
    masks: np.ndarray,
    bboxes: np.ndarray,
    image_shape: Sequence[int],
    exact: bool = False,
    rule: str = "matterport",
    threshold: float = 0.5,
) -> np.ndarray:
    """Apply `unmold_mask` to many masks, whose boxes may reach beyond the image.

    Args:
        masks: `[N, h, w]` float 0..1.
        bboxes: `[N, (y1, x1, y2, x2)]` pixels, int or float.
        image_shape: `(H, W, ...)`.
        rule, threshold: see `Config.MASK_PASTE` and `Config.MASK_THRESHOLD`. Only the rule
            "matterport" has an `exact` form; it rounds boxes to whole pixels.

    Returns: `[H, W, N]` bool, a view of `[N, H, W]`.
    """
    crops = unmold_crops(masks, bboxes, image_shape, exact, rule, threshold)
    return paste_crops(crops, len(masks), image_shape)


def paste_crops(crops: Iterable[MaskCrop], count: int, image_shape: Sequence[int]) -> np.ndarray:
    """Return `[H, W, count]` bool masks of an image, a view of `[count, H, W]`.

    crops: of each mask all its pixels, `[h, w]` bool. image_shape: `(H, W, ...)`.
    """
    full = _zero_masks(count, *image_shape[:2])
    for canvas, (y, x, crop) in zip(full, crops, strict=True):
        canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return np.moveaxis(full, 0, -1)


def _zero_masks(count: int, height: int, width: int) -> np.ndarray:
    """`[count, height, width]` bool zeros; pages of 4 KB are allocated when they are written.

    From 4 MB on NumPy asks Linux for pages of 2 MB, of which a mask fills a small part: pasting 100
    masks of 100 x 100 pixels into 1024 x 1024 then takes 270 ms and 90 MB, not 10 ms and 5 MB.
    """
    size = count * height * width
    if size < 2**22 or not hasattr(mmap, "MAP_PRIVATE"):
        return np.zeros((count, height, width), bool)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, bool).reshape(count, height, width)


def unmold_crops(
    masks: np.ndarray,
    bboxes: np.ndarray,
    image_shape: Sequence[int],
    exact: bool = False,
    rule: str = "matterport",
    threshold: float = 0.5,
) -> Iterator[MaskCrop]:
    """Yield `(y, x, crop)` of each soft mask: `[h, w]` bool, all its pixels, and its position.

    masks, bboxes, image_shape, exact, rule, threshold: as for `unmold_masks`. A box outside the
    image gives an empty crop.
    """
    for y, x, soft in _soft_crops(masks, bboxes, image_shape, exact, rule, threshold):
        yield y, x, soft >= threshold


def unmold_soft(
    masks: np.ndarray,
    bboxes: np.ndarray,
    image_shape: Sequence[int],
    exact: bool = False,
    rule: str = "matterport",
    threshold: float = 0.5,
) -> list[MaskCrop]:
    """Return N `(y, x, soft)`: the probabilities `[h, w]` of the pixels from (y, x) on.

    masks, bboxes, image_shape, exact, rule: as for `unmold_masks`.
    threshold: what the caller compares the probabilities with.
    """
    return list(_soft_crops(masks, bboxes, image_shape, exact, rule, threshold))


def _soft_crops(masks, bboxes, image_shape, exact, rule, threshold) -> Iterator[MaskCrop]:
    """Yield the items of `unmold_soft`."""
    if rule != "matterport":
        yield from rule_crops(rule, masks, bboxes, image_shape)
        return
    height, width = image_shape[:2]
    for mask, (y1, x1, y2, x2) in zip(masks, _whole_pixels(bboxes).tolist(), strict=True):
        soft = _scale_mask(mask, (y2 - y1, x2 - x1), exact, threshold)
        inside = soft[max(0, -y1) : max(0, height - y1), max(0, -x1) : max(0, width - x1)]
        yield max(0, y1), max(0, x1), inside


def _whole_pixels(boxes: Any) -> np.ndarray:
    """`[N, 4]` int: boxes `[N, 4]` rounded; of a float box at least one pixel."""
    boxes = np.asarray(boxes)
    if boxes.dtype.kind != "f":
        return boxes
    rounded = np.around(boxes).astype(int)
    rounded[:, 2:] = np.maximum(rounded[:, 2:], rounded[:, :2] + 1)
    return rounded


def unmold_in_boxes(
    masks: np.ndarray,
    bboxes: np.ndarray,
    image_shape: Sequence[int],
    exact: bool = False,
    rule: str = "matterport",
    threshold: float = 0.5,
) -> list[np.ndarray]:
    """Return N `[h, w]` bool: of each mask the pixels of the image that its box touches.

    masks, bboxes, image_shape, exact, rule, threshold: as for `unmold_masks`.
    """
    crops = unmold_crops(masks, bboxes, image_shape, exact, rule, threshold)
    return cut_crops(crops, bboxes, image_shape)


def cut_crops(
    crops: Iterable[MaskCrop], bboxes: np.ndarray, image_shape: Sequence[int]
) -> list[np.ndarray]:
    """Return N `[h, w]` bool: of each mask the pixels of the image that its box touches.

    crops, image_shape: as for `paste_crops`. bboxes: `[N, (y1, x1, y2, x2)]` pixels.
    """
    height, width = image_shape[:2]
    regions = clip(outward(bboxes), np.array([0, 0, height, width]))
    return [_cut(crop, y, x, region) for (y, x, crop), region in zip(crops, regions, strict=True)]


def _cut(crop: np.ndarray, y: int, x: int, region: np.ndarray) -> np.ndarray:
    """`[y2 - y1, x2 - x1]` bool: a region of the image; the crop at (y, x) fills its part of it."""
    y1, x1, y2, x2 = region.tolist()
    canvas = np.zeros((y2 - y1, x2 - x1), bool)
    top, left = max(y, y1), max(x, x1)
    bottom, right = min(y + crop.shape[0], y2), min(x + crop.shape[1], x2)
    if top < bottom and left < right:
        part = crop[top - y : bottom - y, left - x : right - x]
        canvas[top - y1 : bottom - y1, left - x1 : right - x1] = part
    return canvas


# --- Comparing and measuring ------------------------------------------------------------------


def masks_iou(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Return the `[N, M]` float32 IoU of every pair of masks; 0 if both are empty.

    masks1: `[H, W, N]`. masks2: `[H, W, M]`. Values above 0.5 are inside.
    """
    if masks1.shape[-1] == 0 or masks2.shape[-1] == 0:
        return np.zeros((masks1.shape[-1], masks2.shape[-1]))
    first = (masks1 > 0.5).reshape(-1, masks1.shape[-1]).astype(np.float32)
    second = (masks2 > 0.5).reshape(-1, masks2.shape[-1]).astype(np.float32)
    intersection = first.T @ second
    union = first.sum(axis=0)[:, None] + second.sum(axis=0)[None] - intersection
    return intersection / np.where(union > 0, union, 1)


def rle_areas(rles: list[Any]) -> np.ndarray:
    """Return the number of pixels of N compressed run-length codes, `[N]` int64."""
    from pycocotools import mask as coco_mask

    # One by one, because with NumPy 2 pycocotools' `area` of more than 255 codes overflows.
    return np.array([coco_mask.area(rle) for rle in rles], np.int64)


def rle_boxes(rles: list[Any]) -> np.ndarray:
    """Return the `[N, (y1, x1, y2, x2)]` int boxes of run-length codes; zeros for empty ones."""
    from pycocotools import mask as coco_mask

    if not len(rles):
        return np.zeros((0, 4), int)
    codes: Any = rles  # pycocotools declares the type of one code only
    x, y, width, height = coco_mask.toBbox(codes).astype(int).T
    boxes = np.stack([y, x, y + height, x + width], axis=1)
    boxes[rle_areas(rles) == 0] = 0  # pycocotools gives some empty codes a box
    return boxes

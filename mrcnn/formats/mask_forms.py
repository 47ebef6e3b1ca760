"""The masks of a result in the form that is needed: whole, or as run-length codes.

The forms are those of `detect(masks=...)`: "full" `[H, W, N]`, and three lists of N: "crop"
`[h, w]` bool in the pixels that the box touches, "rle" dicts, and "soft" `(y, x, probabilities)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..data.masks import MaskCrop, paste_crops
from ..nn.boxes import clip, outward
from .polygons import Polygon, join_rings, trace_mask
from .rle import RLE, crop_rles, decode, mask_plane, mask_to_rle


def full_masks(
    masks: Any, rois: np.ndarray, image_shape: Sequence[int], threshold: float = 0.5
) -> np.ndarray:
    """Return masks of any form as `[H, W, N]` bool.

    masks: of one result. rois: `[N, (y1, x1, y2, x2)]` its boxes. image_shape: (H, W, ...).
    threshold: the probability from which on a pixel of a "soft" mask is inside.
    """
    if not isinstance(masks, list):
        return np.asarray(masks)
    if _are_rles(masks):
        return decode(masks, (int(image_shape[0]), int(image_shape[1])))
    crops = _mask_crops(masks, rois, image_shape, threshold)
    return paste_crops(crops, len(masks), image_shape)


def rles(
    masks: Any, rois: np.ndarray, image_shape: Sequence[int], threshold: float = 0.5
) -> list[RLE]:
    """Return `rle.mask_to_rle` of each mask of any form; arguments as for `full_masks`."""
    if not isinstance(masks, list):
        return [mask_to_rle(masks[:, :, i]) for i in range(len(rois))]
    if _are_rles(masks):
        return masks
    return crop_rles(_mask_crops(masks, rois, image_shape, threshold), image_shape)


def polygons(
    masks: Any, rois: np.ndarray, image_shape: Sequence[int], threshold: float = 0.5
) -> list[list[Polygon]]:
    """Return the parts of each mask of any form; arguments as for `full_masks`.

    A part is a polygon along the corners of its pixels, whose holes are joined by `join_rings`.
    """
    if not isinstance(masks, list) or _are_rles(masks):
        planes = (mask_plane(masks, i) for i in range(len(rois)))
        return [_parts(0, 0, plane) for plane in planes]
    return [_parts(*crop) for crop in _mask_crops(masks, rois, image_shape, threshold)]


def _parts(y: int, x: int, mask: np.ndarray) -> list[Polygon]:
    """Return the polygons of a mask `[h, w]` whose first pixel is (y, x) of the image."""
    lines = [join_rings(rings) + (x, y) for rings in trace_mask(mask)]
    return [line.ravel().tolist() for line in lines]


def _are_rles(masks: list) -> bool:
    return len(masks) > 0 and isinstance(masks[0], dict)


def _mask_crops(
    masks: list, rois: np.ndarray, image_shape: Sequence[int], threshold: float
) -> Iterator[MaskCrop]:
    """Yield `(y, x, [h, w] bool)` of each mask of the forms "crop" and "soft"."""
    height, width = image_shape[:2]
    regions = clip(outward(rois), np.array([0, 0, height, width]))
    for mask, region in zip(masks, regions.tolist(), strict=True):
        if isinstance(mask, tuple):
            y, x, soft = mask
            yield y, x, soft >= threshold
        else:
            yield region[0], region[1], mask

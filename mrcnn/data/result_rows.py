"""Some of the detections of a result: the same rows of each of its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

ARRAYS = ("rois", "class_ids", "scores", "keypoints")  # with one row per detection; also masks


def select_rows(result: Mapping[str, Any], keep: Any) -> dict[str, Any]:
    """Return the arrays of a result with only the detections that `keep` selects.

    result: as `MaskRCNN.detect` returns for one image, with masks in any form.
    keep: whatever indexes `N` rows of an array: `[N]` bool, indices, or a slice.
    """
    indices = np.arange(len(result["rois"]))[keep]
    kept: dict[str, Any] = {
        name: np.asarray(result[name])[indices] for name in ARRAYS if name in result
    }
    if "masks" in result:
        masks = result["masks"]
        if isinstance(masks, list):
            kept["masks"] = [masks[i] for i in indices]
        else:
            kept["masks"] = select_masks(masks, indices)
    return kept


def select_masks(masks: ArrayLike, indices: np.ndarray) -> np.ndarray:
    """Return masks[..., indices]; without indices `[H, W, 0]`, whatever the shape of the masks."""
    masks = np.asarray(masks)
    if len(indices) > 0:
        return masks[..., indices]
    size = masks.shape[:2] if masks.ndim == 3 else (0, 0)
    return np.zeros((*size, 0), bool)

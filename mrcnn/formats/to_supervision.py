"""Detections as `supervision.Detections`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .rle import RLE, bounding_box
from .writing import Result, class_names_of


def to_supervision(
    result: Result,
    class_names: Sequence[str] | None = None,
    image_shape: Sequence[int] | None = None,
):
    """Return the result of one image as `supervision.Detections`.

    result: as `MaskRCNN.detect` returns; masks that are RLEs become a `supervision.CompactMask`,
        which holds each mask as run lengths inside its box.
    class_names: by class id, background first; if given, the names are in `data["class_name"]`.
    image_shape: (H, W, ...), the size of compact masks if there is no detection.

    Returns: Detections with xyxy `[N, (x1, y1, x2, y2)]` float32, mask `[N, H, W]` bool or compact
        (None for box-only models), confidence `[N]`, class_id `[N]`; with keypoints
        `data["keypoints"]` `[N, K, (x, y, score)]`.
    Raises: ImportError if supervision is not installed, or has no compact masks.
    """
    supervision = _supervision()
    boxes = np.asarray(result["rois"], np.float32).reshape(-1, 4)
    data = {}
    if class_names is not None:
        data["class_name"] = np.array(class_names_of(result, class_names), dtype=str)
    if "keypoints" in result:
        data["keypoints"] = np.asarray(result["keypoints"])[..., [1, 0, 2]]
    return supervision.Detections(
        xyxy=boxes[:, [1, 0, 3, 2]],
        mask=_masks(result, image_shape, supervision),
        confidence=np.asarray(result["scores"]),
        class_id=np.asarray(result["class_ids"], int),
        data=data,
    )


def _supervision() -> Any:
    """Return the module supervision."""
    try:
        import supervision  # pyright: ignore[reportMissingImports]  (not required)
    except ImportError as error:
        raise ImportError(
            f"to_supervision needs the package supervision ({error}). Try pip install supervision."
        ) from error
    return supervision


def _masks(result: Result, image_shape: Sequence[int] | None, supervision: Any) -> Any:
    """Return the masks as supervision has them; None without masks."""
    if "masks" not in result:
        return None
    masks = result["masks"]
    if not isinstance(masks, list):
        return np.moveaxis(np.asarray(masks, bool), 2, 0)
    return _compact_masks(masks, image_shape, supervision)


def _compact_masks(rles: list[RLE], image_shape: Sequence[int] | None, supervision: Any) -> Any:
    """Return RLEs as a `supervision.CompactMask`; None for no RLE of an unknown size."""
    if not hasattr(supervision, "CompactMask"):
        raise ImportError(
            "Masks that are run-length codes need a supervision with CompactMask. Received: an "
            "older one. Try pip install -U supervision, or detect(masks='full')."
        )
    if image_shape is None and not rles:
        return None
    height, width = rles[0]["size"] if image_shape is None else image_shape[:2]
    # supervision cuts masks at these boxes, whose last pixels count: those of the masks, because
    # a mask may leave the box of its detection by a pixel.
    corners = np.array([bounding_box(rle) for rle in rles]).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2] - 1  # [N, (x1, y1, x2, y2)]
    return supervision.CompactMask.from_coco_rle(rles, corners, (int(height), int(width)))

"""Detections as `supervision.Detections`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .writing import Result, class_names_of


def to_supervision(result: Result, class_names: Sequence[str] | None = None):
    """Return the result of one image as `supervision.Detections`.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first; if given, the
    names are in `data["class_name"]`.

    Returns: Detections with xyxy `[N, (x1, y1, x2, y2)]` float32, mask `[N, H, W]` bool (None for
        box-only models), confidence `[N]`, class_id `[N]`.
    Raises: ImportError if supervision is not installed.
    """
    try:
        import supervision  # pyright: ignore[reportMissingImports]  (not required)
    except ImportError as error:
        raise ImportError(
            f"to_supervision needs the package supervision ({error}). Try pip install supervision."
        ) from error
    boxes = np.asarray(result["rois"], np.float32).reshape(-1, 4)
    masks = None
    if "masks" in result:
        masks = np.moveaxis(np.asarray(result["masks"], bool), 2, 0)
    data = {}
    if class_names is not None:
        data["class_name"] = np.array(class_names_of(result, class_names), dtype=str)
    return supervision.Detections(
        xyxy=boxes[:, [1, 0, 3, 2]],
        mask=masks,
        confidence=np.asarray(result["scores"]),
        class_id=np.asarray(result["class_ids"], int),
        data=data,
    )

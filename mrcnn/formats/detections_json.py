"""Detections as plain Python numbers, as `detections.json` contains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .coco import check_result
from .rle import mask_to_rle
from .writing import Result, box_of, class_names_of


def detection_entries(result: Result, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a dict for each detection of one image, ready for JSON.

    result: as `MaskRCNN.detect` returns, with masks `[H, W, N]` or a list of N RLEs.
    class_names: by class id, background first.

    Returns: N dicts of class_id, class_name, score, box [y1, x1, y2, x2] in pixels; mask (RLE) and
        keypoints [K, [y, x, score]] if the result has them.
    Raises: ValueError if the arrays of the result differ in length, or a class id has no name.
    """
    check_result(result)
    masks = result.get("masks")
    entries = []
    for i, name in enumerate(class_names_of(result, class_names)):
        entry = {
            "class_id": int(result["class_ids"][i]),
            "class_name": name,
            "score": float(result["scores"][i]),
            "box": box_of(result, i),
        }
        if masks is not None:
            is_coded = isinstance(masks, list)
            entry["mask"] = masks[i] if is_coded else mask_to_rle(masks[:, :, i])
        if "keypoints" in result:
            entry["keypoints"] = result["keypoints"][i].tolist()
        entries.append(entry)
    return entries

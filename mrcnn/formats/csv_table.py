"""Detections as a table (CSV)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .results import Result, class_names_of

CSV_COLUMNS = ("image", "class", "score", "x1", "y1", "x2", "y2", "box_area", "mask_area")


def csv_rows(result: Result, class_names: Sequence[str], file_name: str) -> list[dict[str, Any]]:
    """One row a detection, with the columns `CSV_COLUMNS`: pixels and square pixels.

    result, class_names: as for `labelme`. mask_area is empty for box-only models.
    """
    areas = (
        np.asarray(result["masks"]).sum(axis=(0, 1))
        if "masks" in result and len(result["scores"])
        else None
    )
    rows = []
    for i, name in enumerate(class_names_of(result, class_names)):
        y1, x1, y2, x2 = (int(side) for side in result["rois"][i])
        area = "" if areas is None else int(areas[i])
        values = (
            str(file_name),
            name,
            float(result["scores"][i]),
            x1,
            y1,
            x2,
            y2,
            (y2 - y1) * (x2 - x1),
            area,
        )
        rows.append(dict(zip(CSV_COLUMNS, values, strict=True)))
    return rows

"""Writer of a CSV table with one row per detection."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.atomic import atomic_write
from ..files.safe_text import csv_cell
from .rle import area
from .writing import Result, Writer, box_of, class_names_of

CSV_COLUMNS: tuple[str, ...] = (
    "image",
    "class",
    "score",
    "x1",
    "y1",
    "x2",
    "y2",
    "box_area",
    "mask_area",
)


def csv_rows(result: Result, class_names: Sequence[str], file_name: str) -> list[dict[str, Any]]:
    """Return one row per detection with the columns `CSV_COLUMNS`: pixels and square pixels.

    mask_area is None for box-only models.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    """
    areas = _mask_areas(result)
    rows = []
    for i, name in enumerate(class_names_of(result, class_names)):
        y1, x1, y2, x2 = box_of(result, i)
        rows.append(
            {
                "image": str(file_name),
                "class": name,
                "score": float(result["scores"][i]),
                "x1": x1,
                "y1": y1,
                "x2": x2,
                "y2": y2,
                "box_area": round((y2 - y1) * (x2 - x1), 2),
                "mask_area": None if areas is None else int(areas[i]),
            }
        )
    return rows


def _mask_areas(result: Result) -> np.ndarray | None:
    """Return `[N]` the pixels of each mask; None without masks."""
    if "masks" not in result or len(result["scores"]) == 0:
        return None
    masks = result["masks"]
    if isinstance(masks, list):
        return np.array([area(mask) for mask in masks])
    return np.asarray(masks).sum(axis=(0, 1))


class CSVWriter(Writer):
    """Writes `detections.csv`: one row per detection of all images."""

    file_name = "detections.csv"

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder, class_names)
        self._rows: list[dict[str, Any]] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image."""
        self._rows += csv_rows(result, self.class_names, str(image))

    def finish(self) -> list[Path]:
        """Write the file; no cell is a formula for a spreadsheet."""
        path = self.folder / self.file_name
        with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(CSV_COLUMNS))
            table.writeheader()
            for row in self._rows:
                texts = {name: csv_cell(row[name]) for name in ("image", "class")}
                table.writerow({**row, **texts})
        return [path]

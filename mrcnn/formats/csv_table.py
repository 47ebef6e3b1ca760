"""Writer of a CSV table with one row per detection.

A second table has one row per image: the number of its objects, of each class and in total.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
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


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of `csv_rows` as a file; no cell is a formula for a spreadsheet."""
    cells = []
    for row in rows:
        texts = {name: csv_cell(row[name]) for name in ("image", "class")}
        cells.append([{**row, **texts}[name] for name in CSV_COLUMNS])
    _write_table(path, CSV_COLUMNS, cells)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        table.writerows(rows)


class CSVWriter(Writer):
    """Writes `detections.csv`, a row per detection of all images, and `counts.csv`.

    `counts.csv` has a row per image, also of those without detections: the image, the number of its
    detections of each class, and their total.
    """

    file_name = "detections.csv"
    counts_name = "counts.csv"

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder, class_names)
        self._rows: list[dict[str, Any]] = []
        self._counts: list[list[Any]] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image."""
        self._rows += csv_rows(result, self.class_names, str(image))
        ids = np.asarray(result["class_ids"], int)
        of_each_class = np.bincount(ids, minlength=len(self.class_names))[1:].tolist()
        self._counts.append([csv_cell(image), *of_each_class, len(ids)])

    def finish(self) -> list[Path]:
        """Write both files."""
        paths = [self.folder / self.file_name, self.folder / self.counts_name]
        write_csv(paths[0], self._rows)
        header = ["image", *map(csv_cell, self.class_names[1:]), "total"]
        _write_table(paths[1], header, self._counts)
        return paths

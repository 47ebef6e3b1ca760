"""Detections as a `pandas.DataFrame`."""

from __future__ import annotations

from collections.abc import Sequence

from .csv_table import CSV_COLUMNS, csv_rows
from .writing import Result


def to_pandas(result: Result, class_names: Sequence[str], file_name: str = ""):
    """Return a `pandas.DataFrame` with a row per detection, and the columns of `detections.csv`.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    file_name: of the image, for the column "image".

    Returns: the columns `CSV_COLUMNS`; mask_area is None for box-only models.
    Raises: ImportError if pandas is not installed.
    """
    try:
        import pandas  # pyright: ignore[reportMissingImports]  (not required)
    except ImportError as error:
        raise ImportError(
            f"to_pandas needs the package pandas ({error}). Try pip install pandas."
        ) from error
    rows = csv_rows(result, class_names, file_name)
    return pandas.DataFrame(rows, columns=list(CSV_COLUMNS))

"""Shards: files of rows, one row for each image of a block, as JSON lines or as parquet."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..files.atomic import atomic_write
from .inputs import import_parquet

FORMATS = ("jsonl", "parquet")
FOLDER = "shards"
_NAME = re.compile(r"(\d{6,})\.(jsonl|parquet)")

Row = dict[str, Any]  # file_name, and width, height, detections; or error


def to_lines(rows: Iterable[Row]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")


def from_lines(lines: bytes) -> list[Row]:
    """Return the rows of JSON lines."""
    return [json.loads(line) for line in lines.splitlines()]


def shard_path(folder: Path, number: int, format: str) -> Path:
    """Return the path of the shard of a block. folder: of the job."""
    return folder / FOLDER / f"{number:06d}.{format}"


def write_shard(path: Path, lines: bytes) -> None:
    """Write a shard atomically. lines: of `to_lines`. The suffix of the path names the format."""
    with atomic_write(path) as part:
        if path.suffix == ".parquet":
            _write_parquet(part, from_lines(lines))
        else:
            Path(part).write_bytes(lines)


def finished(folder: Path) -> set[int]:
    """Return the numbers of the blocks whose shards are written. folder: of the job."""
    matches = [_NAME.fullmatch(name) for name in os.listdir(folder / FOLDER)]
    return {int(match[1]) for match in matches if match}


def read_rows(folder: str | os.PathLike) -> Iterator[Row]:
    """Yield the rows of a job, in the order of its images. folder: --out of `mrcnn detect-many`.

    A row has file_name, width, height and detections as `detections.json` has them; or file_name
    and error. Memory holds one shard.
    """
    for path in _shard_paths(Path(folder)):
        if path.suffix == ".parquet":
            yield from map(_without_nulls, import_parquet().read_table(path).to_pylist())
        else:
            yield from from_lines(path.read_bytes())


def failed_rows(folder: Path) -> Iterator[Row]:
    """Yield the rows with an error, without reading the detections of the others."""
    for path in _shard_paths(folder):
        if path.suffix == ".parquet":
            table = import_parquet().read_table(path, columns=["file_name", "error"])
            yield from (row for row in table.to_pylist() if row["error"] is not None)
            continue
        with open(path, "rb") as file:
            # A row with an error is short; `"error"` may also be in a name.
            rows = (json.loads(line) for line in file if b'"error"' in line)
            yield from (row for row in rows if "error" in row)


def _shard_paths(folder: Path) -> list[Path]:
    paths = [folder / FOLDER / name for name in os.listdir(folder / FOLDER)]
    shards = [path for path in paths if _NAME.fullmatch(path.name)]
    return sorted(shards, key=lambda path: int(path.stem))


# --- Parquet ------------------------------------------------------------------------------------


def _schema() -> Any:
    """Return one schema for all shards, whatever their rows have."""
    import pyarrow as pa  # pyright: ignore[reportMissingImports]  (not required)

    mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    detection = pa.struct(
        [
            ("class_id", pa.int32()),
            ("class_name", pa.string()),
            ("score", pa.float64()),
            ("box", pa.list_(pa.float64())),
            ("mask", mask),
            ("keypoints", pa.list_(pa.list_(pa.float64()))),
        ]
    )
    return pa.schema(
        [
            ("file_name", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("detections", pa.list_(detection)),
            ("error", pa.string()),
        ]
    )


def _write_parquet(path: str, rows: list[Row]) -> None:
    import pyarrow as pa  # pyright: ignore[reportMissingImports]  (not required)

    for row in rows:  # parquet's texts are UTF-8, file names need not be
        row["file_name"] = os.fsencode(row["file_name"]).decode("utf-8", "backslashreplace")
    table = pa.Table.from_pylist(rows, schema=_schema())
    import_parquet().write_table(table, path, compression="zstd")


def _without_nulls(row: Row) -> Row:
    """Return a row of parquet without the columns that it does not have."""
    row = {name: value for name, value in row.items() if value is not None}
    for entry in row.get("detections", []):
        for name in [name for name, value in entry.items() if value is None]:
            del entry[name]
    return row

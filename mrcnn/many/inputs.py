"""The images of a job: their names, from folders, patterns, lists, parquet files and addresses."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..files.addresses import is_url, list_address, open_address, read_address
from ..files.image_files import SUFFIXES, Source
from ..files.safe_text import printable

log = logging.getLogger("mrcnn")

LIST, PARQUET = ".txt", ".parquet"
COLUMNS = ("path", "file_name", "image", "uri", "url")  # of a parquet file: the first that it has


def find_names(words: list[str]) -> Iterator[str]:
    """Yield the names of all images that the words stand for, in order; names may repeat.

    words: image files, folders (with the folders in them), patterns, lists (`.txt`, a name a line),
        parquet files (a column of names), and addresses of these. Names in a list or parquet file
        are relative to its folder.

    Raises: ValueError if a word stands for no image.
    """
    for word in words:
        count = 0
        for name in _names_of(word):
            count += 1
            yield name
        if count == 0:
            raise ValueError(
                f"INPUT must contain images. Received: {printable(word)}, which has none. Try a "
                "folder of images, a pattern in quotes, or a list .txt of their paths."
            )


def read_source(name: str, folder: str) -> Source:
    """Return what `read_image` reads for a name: a path, or the content behind an address.

    folder: that relative paths start from.
    """
    return read_address(name) if is_url(name) else Path(folder, name)


def _names_of(word: str) -> Iterator[str]:
    suffix = os.path.splitext(word)[1].lower()
    if suffix == LIST:
        yield from _resolved(word, _lines(word))
    elif suffix == PARQUET:
        yield from _resolved(word, _column(word))
    elif is_url(word):
        yield from _images_only(word, list_address(word))
    else:
        yield from _local_names(word)


# --- Paths --------------------------------------------------------------------------------------


def _local_names(word: str) -> Iterator[str]:
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        yield from _images_only(word, _files_below(path))
    elif os.path.exists(path) or not glob.has_magic(word):
        yield path  # of a file that does not exist, too: its row says so
    else:
        for found in sorted(glob.iglob(path, recursive=True)):
            if not os.path.isdir(found):
                yield found


def _files_below(folder: str) -> Iterator[str]:
    """Yield the files of a folder and of the folders in it, in a fixed order."""
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            yield os.path.join(root, name)


def _raise(error: OSError) -> None:
    raise error


def _images_only(word: str, names: Iterator[str]) -> Iterator[str]:
    """Yield the names of image files; all others are counted and logged.

    word: that named the folder. One file of its own stays, whatever its suffix.
    """
    skipped: Counter[str] = Counter()
    for name in names:
        base = name.rpartition("/")[2] if is_url(name) else os.path.basename(name)
        suffix = os.path.splitext(base)[1].lower()
        if name == word or (suffix in SUFFIXES and not base.startswith(".")):
            yield name
        else:
            skipped[printable(suffix or base, 20)] += 1
    if skipped:
        kinds = ", ".join(f"{count} {what}" for what, count in skipped.most_common(10))
        log.warning("%s: skipped files that are no images: %s.", printable(word), kinds)


# --- Lists --------------------------------------------------------------------------------------


def _resolved(word: str, names: Iterator[str]) -> Iterator[str]:
    """Yield names whose relative paths start from the folder of the list."""
    path = word if is_url(word) else os.path.expanduser(word)
    folder = os.path.dirname(path)
    for name in names:
        if is_url(name):
            yield name
        elif is_url(word) and not os.path.isabs(name):
            yield f"{folder}/{name}"
        else:
            yield os.path.join(folder, name)


def _lines(word: str) -> Iterator[str]:
    with _opened(word) as file:
        for line in file:
            name = os.fsdecode(line.strip(b"\r\n"))
            if name.strip():
                yield name


def _column(word: str) -> Iterator[str]:
    """Yield the values of the column of names of a parquet file, a batch of rows at a time."""
    parquet = import_parquet()
    with _opened(word) as stream:
        try:
            file = parquet.ParquetFile(stream)
            column = _column_name(word, file.schema_arrow)
            for batch in file.iter_batches(columns=[column]):
                yield from (name for name in batch.column(0).to_pylist() if name)
        except (OSError, file_errors()) as error:
            raise ValueError(
                f"A parquet file must be complete. Received: {word} ({error}). Try to write it "
                "again, or a list .txt with a path a line."
            ) from error


def _column_name(word: str, schema: Any) -> str:
    """Return the column of names: the first of `COLUMNS`, or the only column of texts."""
    texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
    named = [name for name in COLUMNS if name in texts]
    found = named or texts
    if not found or (not named and len(texts) > 1):
        raise ValueError(
            f"A parquet file of images must have a column of paths called {COLUMNS[0]}. Received: "
            f"{word} with the columns {', '.join(schema.names)}. Try to rename the column."
        )
    return found[0]


def _opened(word: str) -> BinaryIO:
    if is_url(word):
        return open_address(word)
    try:
        return open(os.path.expanduser(word), "rb")
    except OSError as error:
        raise ValueError(
            f"A list of images must be a readable file. Received: {word} ({error.strerror}). "
            "Try its full path."
        ) from error


def import_parquet() -> Any:
    """Return the module pyarrow.parquet. Raises: ValueError if it is not installed."""
    try:
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]  (not required)
    except ImportError as error:
        raise ValueError(
            f"Parquet files need the package pyarrow. Received: an installation without it "
            f"({error}). Try pip install pyarrow."
        ) from error
    return pyarrow.parquet


def file_errors() -> type[Exception]:
    """Return the class of pyarrow's errors about a file."""
    from pyarrow.lib import ArrowException  # pyright: ignore[reportMissingImports]

    return ArrowException

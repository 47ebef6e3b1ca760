"""Weight files that may be replaced at any time: which one is newest, and an unchanging copy."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..weights.checkpoints import last_of_run


class Stamp(NamedTuple):
    """The properties that change if a file is replaced or written to."""

    path: str
    inode: int
    size: int
    modified: int  # nanoseconds


class ChangedFile(OSError):
    """A file was written to while it was copied."""


def newest_file(weights: str) -> Path | None:
    """Return the file of the weights: a file, or the last checkpoint in the folder of a training.

    weights: None is returned for anything else, such as a name of released weights.
    """
    path = Path(weights)
    if path.is_dir():
        return last_of_run(path)
    return path if path.is_file() else None


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file. Raises: OSError if it does not exist."""
    status = path.stat()
    return Stamp(str(path), status.st_ino, status.st_size, status.st_mtime_ns)


def version_of(path: Path) -> str:
    """Return the first 12 hex digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:12]


@contextmanager
def unchanging_copy(path: Path, expected: Stamp) -> Iterator[Path]:
    """Yield a private copy of a file, which no other process changes; deleted afterwards.

    expected: the stamp that the file had, and must have after it was copied.

    Raises: ChangedFile if the file is not the expected one, or was changed meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="mrcnn_serve_") as folder:
        copy = Path(shutil.copyfile(path, Path(folder, path.name)))
        if stamp(path) != expected or copy.stat().st_size != expected.size:
            raise ChangedFile(
                f"A weight file must not change while it is read. Received: {path}, which did. "
                "Try to write it under another name, then to rename it."
            )
        yield copy

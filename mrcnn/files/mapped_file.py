"""Files of unknown source mapped into memory, and the error for what they must not hold."""

from __future__ import annotations

import mmap
import os


class RefusedContent(ValueError):
    """A file holds something that is not read; the reader that knows its path names it.

    what: continues "Received: FILE, ...".
    remedy: continues "Try ...".
    """

    def __init__(self, what: str, remedy: str = "downloading or copying it again"):
        super().__init__(
            "The file must hold arrays of plain numbers, and nothing else. "
            f"Received: a file {what}. Try {remedy}."
        )
        self.what, self.remedy = what, remedy


def missing_file_hint(path: str) -> str:
    """What to try instead of a path that does not exist."""
    if len(path) == 1:
        return (
            "Try find_last() instead of find_last()[1]: it returns the path; [1] is one character."
        )
    return "Try checking the path."


def require_file(path: str | os.PathLike, kind: str = "weight file") -> str:
    """Return the path of an existing file as text.

    kind: names the kind of the file in error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, a device or a pipe.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"The {kind} must exist. Received: {path!r}. {missing_file_hint(path)}"
        )
    if not os.path.isfile(path):
        other = "the folder" if os.path.isdir(path) else "a device or pipe,"
        raise ValueError(
            f"The {kind} must be a file. Received: {other} {path!r}. Try a file in a folder."
        )
    return path


def map_file(path: str | os.PathLike) -> memoryview:
    """Return the bytes of a file, read-only; the system reads them when they are used.

    The file stays mapped as long as the view, or an array on it, exists. It may be replaced in this
    time, but not shortened: the system ends a process that reads a byte that is gone.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a folder, a device or a pipe.
        RefusedContent: an empty file.
    """
    with open(require_file(path), "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            raise RefusedContent("which is empty")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

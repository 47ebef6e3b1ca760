"""The one reader of HDF5 files, weights and training states alike: they may come from strangers.

HDF5 can take its data from other files, and claim sizes that it does not hold. Here only numbers are read that the file
itself holds, uncompressed; links to other places are not followed. Everything is checked before a byte is read.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from typing import NamedTuple

import h5py
import numpy as np

from .atomic import reason
from .safe_text import printable

MOST_NAMES = 20_000  # of layers or weights in a file; ResNet101 has 700
_MOST_BYTES = 2**22  # of a list of names
_MOST_TEXT = 2**23  # bytes of a description
_HEAP = b"GCOL\x01\0\0\0"  # a global heap begins so
_LARGEST_CHUNK = 2**24  # bytes that a chunk may take although its array is smaller


class Stored(NamedTuple):
    """An array of a file that may be read; nothing of it has been read yet."""

    path: str  # from the root of the file
    shape: tuple[int, ...]
    dtype: np.dtype


@contextmanager
def open_file(path: str | os.PathLike, kind: str = "weight file") -> Iterator[h5py.File]:
    """Open an HDF5 file; the block does nothing but read it with the functions of this module.

    kind: what the file should be, for the messages.

    Raises: FileNotFoundError, or ValueError if it is no such file or is damaged.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        hint = "Try checking the path."
        if len(path) == 1:
            hint = "Try find_last() in place of find_last()[1]: it returns the path; [1] is one character."
        raise FileNotFoundError(f"The {kind} must exist. Received: {path!r}. {hint}")
    if not os.path.isfile(path):
        other = "the folder" if os.path.isdir(path) else "a device or pipe,"
        raise ValueError(
            f"The {kind} must be a file. Received: {other} {path!r}. Try a file in a folder."
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"The {kind} must be a complete HDF5 file (.h5). Received: {path!r}, which is not, or is "
            f"cut off ({reason(error)}). Try downloading or copying it again."
        ) from error
    with file:
        try:
            yield file
        except (
            KeyError,
            OSError,
            RuntimeError,
            TypeError,
            UnicodeError,
        ) as error:  # what h5py raises for damage
            raise ValueError(
                f"Every entry of the {kind} must be readable. Received: {path!r}, damaged ({reason(error)}). "
                "Try downloading or copying it again."
            ) from error


def has(group: h5py.Group, name: str) -> bool:
    """Whether a group has an entry of that name, without following it."""
    return group.id.links.exists(name.encode())


def group(parent: h5py.Group, path: str) -> h5py.Group:
    """Return a group below another."""
    item = _entry(parent, path)
    if not isinstance(item, h5py.Group):
        raise _refusal(parent, path, "which is no group")
    return item


def stored(parent: h5py.Group, path: str) -> Stored:
    """Return what an array below a group is, if it may be read.

    Raises: ValueError if it is no array of numbers that the file itself holds.
    """
    item = _entry(parent, path)
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise _refusal(parent, path, "which is no array")
    if item.external or item.is_virtual:
        raise _refusal(parent, path, "which takes its data from another file")
    if item.dtype.kind not in "fiu":
        raise _refusal(parent, path, f"which holds {item.dtype}, no plain numbers")
    if item.id.get_create_plist().get_nfilters():
        raise _refusal(
            parent, path, "which is compressed", "`h5repack -f NONE OLD NEW`, which unpacks a file"
        )
    size = math.prod(item.shape) * item.dtype.itemsize
    held = min(item.id.get_storage_size(), os.path.getsize(parent.file.filename))
    if size > held:
        raise _refusal(
            parent, path, f"which claims {size:,} bytes, of which the file holds {held:,}"
        )
    chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
    if chunk > max(size, _LARGEST_CHUNK):
        raise _refusal(parent, path, f"of {size:,} bytes in a chunk of {chunk:,}")
    return Stored(item.name, item.shape, item.dtype)


def read(file: h5py.File, entry: Stored, dtype: np.dtype | str) -> np.ndarray:
    """Return the numbers of an array whose shape the caller has compared with that of its own variable.

    dtype: of that variable; float numbers may have another size in the file.

    Raises: ValueError if it is no longer what `stored` saw, is of another kind of number, or is not finite.
    """
    dtype = np.dtype(dtype)
    if stored(file, entry.path) != entry:
        raise _refusal(file, entry.path, "which changed while it was read")
    if entry.dtype != dtype and not entry.dtype.kind == dtype.kind == "f":
        raise _refusal(file, entry.path, f"of {entry.dtype} where the network has {dtype}")
    with np.errstate(over="ignore"):  # a number too large for dtype becomes infinite
        value = file[entry.path][()].astype(dtype, copy=False)
    if dtype.kind == "f" and not np.isfinite(value).all():
        bad = np.count_nonzero(~np.isfinite(value))
        raise _refusal(
            file,
            entry.path,
            f"where {bad:,} of {value.size:,} numbers are NaN or infinite",
            "an earlier checkpoint",
        )
    return value


def names(parent: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names, stored as bytes or text, whole or in numbered pieces; empty if there is none."""
    pieces = [attribute]
    if attribute not in parent.attrs:
        pieces = takewhile(parent.attrs.__contains__, (f"{attribute}{i}" for i in count()))
    found = []
    for piece in pieces:
        stored_as = parent.attrs.get_id(piece)
        length = math.prod(stored_as.shape) if stored_as.shape is not None else 0
        if length == 0:
            continue  # Keras 2 wrote an empty list as one of numbers
        too_long = (
            len(found) + length > MOST_NAMES or length * stored_as.dtype.itemsize > _MOST_BYTES
        )
        if (
            too_long
            or h5py.check_string_dtype(stored_as.dtype) is None
            or len(stored_as.shape) != 1
        ):
            raise _refusal(
                parent,
                piece,
                f"no list of at most {MOST_NAMES:,} names, but {stored_as.dtype} {stored_as.shape}",
            )
        found += [_decoded(name) for name in _attribute(parent, piece, length)]
    return found


def text(parent: h5py.Group, attribute: str) -> str | None:
    """Return a text that is stored as an attribute; None if there is none."""
    if attribute not in parent.attrs:
        return None
    stored_as = parent.attrs.get_id(attribute)
    if stored_as.shape != () or h5py.check_string_dtype(stored_as.dtype) is None:
        raise _refusal(parent, attribute, "which is no text")
    if stored_as.dtype.itemsize > _MOST_TEXT:
        raise _refusal(parent, attribute, f"which is longer than {_MOST_TEXT:,} bytes")
    return _decoded(_attribute(parent, attribute, 1))


def _attribute(parent: h5py.Group, attribute: str, length: int):
    """The value of an attribute of so many texts, of a fixed length that was checked, or of any length."""
    if parent.attrs.get_id(attribute).dtype.kind == "O":  # text of any length lies in a heap
        longest = _longest_in_heaps(parent.file)
        if (
            longest is None
            or longest * length > 16 * _MOST_TEXT
            or (length == 1 and longest > _MOST_TEXT)
        ):
            raise _refusal(
                parent, attribute, f"which is longer than {_MOST_TEXT:,} bytes, or damaged"
            )
    return parent.attrs[attribute]


def _longest_in_heaps(file: h5py.File) -> int | None:
    """The bytes of the largest object in the global heaps of a file, where HDF5 keeps text; None for a damaged heap."""
    about = os.stat(file.filename)
    return _search_heaps(
        file.filename, file.id.get_create_plist().get_sizes()[1], about.st_size, about.st_mtime_ns
    )


@functools.lru_cache(maxsize=16)  # of a weight file several texts are read
def _search_heaps(path: str, width: int, size: int, changed: int) -> int | None:
    """As `_longest_in_heaps`; width: bytes of a length. size, changed: of the file, so that a new one is read again.

    HDF5 itself (1.14.6) never ends reading a heap with an object of size 0. Layout: HDF5 File Format
    Specification 3.0, III.E.
    """
    header = 8 + width + -width % 8
    longest = objects = 0
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_HEAP)
        while start >= 0:
            end = start + int.from_bytes(data[start + 8 : start + 8 + width], "little")
            position = start + header
            while position + header <= min(end, size):
                length = int.from_bytes(data[position + 8 : position + 8 + width], "little")
                used = (
                    data[position : position + 2] != b"\0\0"
                )  # else the rest of the heap, its header included
                step = header + length + -length % 8 if used else length
                objects += 1
                if not 0 < step <= end - position or objects > 10 * MOST_NAMES:
                    return None
                longest = max(longest, length if used else 0)
                position += step
            start = data.find(_HEAP, start + len(_HEAP))
    return longest


def _entry(parent: h5py.Group, path: str):
    """What stands at a path below a group; every step must be a hard link, which leads to the same file."""
    item = parent
    for name in filter(None, path.split("/")):
        if not isinstance(item, h5py.Group):
            raise _refusal(parent, path, "which is below no group")
        if item.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise _refusal(parent, path, "which is a link to another place")
        item = item[name]
    return item


def _decoded(value: bytes | str) -> str:
    if isinstance(value, str):
        value = value.encode(
            "utf-8", "surrogateescape"
        )  # h5py's way to keep bytes that are no UTF-8
    return value.decode("utf-8", "replace")


def _refusal(
    parent: h5py.Group, path: str, what: str, remedy: str = "fetching the file again, or another"
) -> ValueError:
    where = f"{parent.name.rstrip('/')}/{path.lstrip('/')}".lstrip("/")
    return ValueError(
        "An HDF5 file must hold its own data: plain finite numbers, uncompressed. "
        f"Received: {printable(where)!r} in {parent.file.filename!r}, {what}. Try {remedy}."
    )

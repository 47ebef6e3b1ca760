"""Read HDF5 files of unknown source safely; weights and training states are both read here.

HDF5 files can take their data from other files, and claim larger sizes than they hold. Only numbers
that the file itself holds, uncompressed, are read here; links to other places are not followed.
Everything is checked before the first number is read.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from typing import Any, NamedTuple

import h5py
import h5py.h5l
import numpy as np

from .atomic import reason
from .mapped_file import require_file
from .safe_text import printable

MOST_NAMES = 20_000  # of layers or weights in a file; ResNet101 has 700
_MOST_BYTES = 2**22  # of a list of names
_MOST_TEXT = 2**23  # bytes of a description
_HEAP = b"GCOL\x01\0\0\0"  # first bytes of a global heap
_LARGEST_CHUNK = 2**24  # bytes of a chunk that is larger than its array

# h5py raises these for a damaged file.
_DAMAGE = (KeyError, OSError, RuntimeError, TypeError, UnicodeError)


class Stored(NamedTuple):
    """An array of a file that may be read; its numbers have not been read yet."""

    path: str  # from the root of the file
    shape: tuple[int, ...]
    dtype: np.dtype


@contextmanager
def open_file(path: str | os.PathLike, kind: str = "weight file") -> Iterator[h5py.File]:
    """Open an HDF5 file for a block that only reads it, with the functions of this module.

    kind: names the kind of the file in error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not an HDF5 file, or a damaged one.
    """
    with open_for_reading(path, kind) as file, damage_reported(path, kind):
        yield file


def open_for_reading(path: str | os.PathLike, kind: str = "weight file") -> h5py.File:
    """Open an HDF5 file; the caller closes it, and reads it within `damage_reported`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not an HDF5 file.
    """
    path = require_file(path, kind)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"The {kind} must be a complete HDF5 file (.h5). Received: {path!r}, which is not, or "
            f"is cut off ({reason(error)}). Try downloading or copying it again."
        ) from error


@contextmanager
def damage_reported(path: str | os.PathLike, kind: str = "weight file") -> Iterator[None]:
    """Turn h5py's errors for a damaged file into a ValueError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(
            f"Every entry of the {kind} must be readable. Received: {os.fspath(path)!r}, damaged "
            f"({reason(error)}). Try downloading or copying it again."
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
    """Return the description of an array below a group, if it may be read.

    Raises:
        ValueError: not an array of numbers that the file itself holds, uncompressed.
    """
    item = _entry(parent, path)
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise _refusal(parent, path, "which is no array")
    if item.external or item.is_virtual:
        raise _refusal(parent, path, "which takes its data from another file")
    dtype = _dtype(item)
    if dtype.kind not in "fiu":
        raise _refusal(parent, path, f"which holds {dtype}, no plain numbers")
    if item.id.get_create_plist().get_nfilters():
        raise _refusal(
            parent, path, "which is compressed", "`h5repack -f NONE OLD NEW`, which unpacks a file"
        )
    size = math.prod(item.shape) * dtype.itemsize
    held = min(item.id.get_storage_size(), os.path.getsize(parent.file.filename))
    if size > held:
        raise _refusal(
            parent, path, f"which claims {size:,} bytes, of which the file holds {held:,}"
        )
    chunk = math.prod(item.chunks or ()) * dtype.itemsize
    if chunk > max(size, _LARGEST_CHUNK):
        raise _refusal(parent, path, f"of {size:,} bytes in a chunk of {chunk:,}")
    return Stored(str(item.name), item.shape, dtype)


def read(file: h5py.File, entry: Stored, dtype: np.dtype | str) -> np.ndarray:
    """Read the numbers of an array; the caller has compared its shape with that of a variable.

    dtype: of the variable; float numbers may have another size in the file.

    Raises:
        ValueError: the array has changed since `stored`, another kind of number, NaN or infinity.
    """
    dtype = np.dtype(dtype)
    if stored(file, entry.path) != entry:
        raise _refusal(file, entry.path, "which changed while it was read")
    if entry.dtype != dtype and not entry.dtype.kind == dtype.kind == "f":
        raise _refusal(file, entry.path, f"of {entry.dtype} where the network has {dtype}")
    with np.errstate(over="ignore"):  # a number too large for dtype becomes infinite
        array: Any = file[entry.path]
        value = array[()].astype(dtype, copy=False)
    if dtype.kind == "f" and not np.isfinite(value).all():
        bad = np.count_nonzero(~np.isfinite(value))
        problem = f"where {bad:,} of {value.size:,} numbers are NaN or infinite"
        raise _refusal(file, entry.path, problem, "an earlier checkpoint")
    return value


def names(parent: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names; empty without the attribute.

    They are stored as bytes or text, in one attribute or in several numbered ones.
    """
    pieces = [attribute]
    if attribute not in parent.attrs:
        numbered = (f"{attribute}{i}" for i in count())
        pieces = takewhile(parent.attrs.__contains__, numbered)
    found = []
    for piece in pieces:
        stored_as = parent.attrs.get_id(piece)
        shape = stored_as.shape
        if shape is None or 0 in shape:
            continue  # Keras 2 wrote an empty list as a list of numbers
        length, dtype = math.prod(shape), _dtype(stored_as)
        too_many = len(found) + length > MOST_NAMES
        too_long = length * dtype.itemsize > _MOST_BYTES
        is_list = h5py.check_string_dtype(dtype) is not None and len(shape) == 1
        if too_many or too_long or not is_list:
            problem = f"no list of at most {MOST_NAMES:,} names, but {dtype} {shape}"
            raise _refusal(parent, piece, problem)
        found += [_decoded(name) for name in _attribute(parent, piece, length)]
    return found


def text(parent: h5py.Group, attribute: str) -> str | None:
    """Return the text of an attribute; None without the attribute."""
    if attribute not in parent.attrs:
        return None
    stored_as = parent.attrs.get_id(attribute)
    dtype = _dtype(stored_as)
    if stored_as.shape != () or h5py.check_string_dtype(dtype) is None:
        raise _refusal(parent, attribute, "which is no text")
    if dtype.itemsize > _MOST_TEXT:
        raise _refusal(parent, attribute, f"which is longer than {_MOST_TEXT:,} bytes")
    return _decoded(_attribute(parent, attribute, 1))


def _attribute(parent: h5py.Group, attribute: str, length: int) -> Any:
    """The value of an attribute that is a text, or a list of `length` texts.

    Texts of a fixed length were checked by the caller; texts of variable length are in a heap.
    """
    is_variable = _dtype(parent.attrs.get_id(attribute)).kind == "O"
    if is_variable and not _heap_is_small(parent.file, length):
        raise _refusal(parent, attribute, f"which is longer than {_MOST_TEXT:,} bytes, or damaged")
    return parent.attrs[attribute]


def _heap_is_small(file: h5py.File, texts: int) -> bool:
    """Whether reading a number of texts from the heaps cannot fill the memory."""
    longest = _longest_in_heaps(file)
    if longest is None:
        return False
    if texts == 1:
        return longest <= _MOST_TEXT
    return longest * texts <= 16 * _MOST_TEXT


def _longest_in_heaps(file: h5py.File) -> int | None:
    """Bytes of the largest object in a file's global heaps, which hold text; None if damaged."""
    about = os.stat(file.filename)
    _, length_width = file.id.get_create_plist().get_sizes()
    return _search_heaps(file.filename, length_width, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=16)  # several texts of a weight file are read
def _search_heaps(path: str, width: int, size: int, changed: int) -> int | None:
    """Implement `_longest_in_heaps`.

    HDF5 itself (1.14.6) reads a heap with an object of size 0 for ever. Layout: HDF5 File Format
    Specification 3.0, III.E.

    width: bytes of a length.
    size, changed: of the file, so that the cache has no result of an earlier file.
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
                # An unused object is the rest of the heap, its header included.
                used = data[position : position + 2] != b"\0\0"
                step = header + length + -length % 8 if used else length
                objects += 1
                if not 0 < step <= end - position or objects > 10 * MOST_NAMES:
                    return None
                longest = max(longest, length if used else 0)
                position += step
            start = data.find(_HEAP, start + len(_HEAP))
    return longest


def _entry(parent: h5py.Group, path: str) -> Any:
    """The group or array at a path below a group.

    Every step must be a hard link, which cannot leave the file.
    """
    item = parent
    for name in filter(None, path.split("/")):
        if not isinstance(item, h5py.Group):
            raise _refusal(parent, path, "which is below no group")
        if item.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise _refusal(parent, path, "which is a link to another place")
        item = item[name]
    return item


def _dtype(item: Any) -> np.dtype:
    """The type of an array's or an attribute's numbers.

    Raises:
        TypeError: the type is damaged, for which h5py raises a ValueError as well.
    """
    try:
        return item.dtype
    except ValueError as error:
        raise TypeError(str(error)) from error


def _decoded(value: bytes | str) -> str:
    if isinstance(value, str):
        # h5py keeps bytes that are not UTF-8 as surrogates.
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace")


def _refusal(
    parent: h5py.Group, path: str, what: str, remedy: str = "fetching the file again, or another"
) -> ValueError:
    where = f"{parent.name}/{path}".strip("/")
    return ValueError(
        "An HDF5 file must hold its own data: plain finite numbers, uncompressed. "
        f"Received: {printable(where)!r} in {parent.file.filename!r}, {what}. Try {remedy}."
    )

"""Write tensors as a file that `torch.load` reads, without torch."""

from __future__ import annotations

import math
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

from ..files.atomic import atomic_write
from .torch_tensors import DTYPES

_ROOT = "archive"  # torch accepts any name
_VERSION = b"3\n"  # of the zip container, PyTorch 1.6 and newer
_ALIGNMENT = 64  # bytes: a mapped tensor then starts where processors read fastest
_LOCAL_HEADER = 30  # bytes, without name and extra field
_PADDING = 0x4246  # "FB": torch's own identifier of an extra field that only pads
_WHOLE_ZIP64 = 2**31  # bytes; zipfile wants to know before it writes
# BFloat16, which NumPy does not have, would be written for uint16.
_KINDS = {dtype: kind for kind, dtype in DTYPES.items() if dtype.kind != "u" or dtype.itemsize == 1}


def write_torch(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dict; `torch.load(path, weights_only=True)` returns it as an OrderedDict.

    path: `.pth` or `.pt`. An existing file is replaced when the new one is complete.
    tensors: name -> array of floats, signed integers, uint8 or booleans, in torch's layout.

    Raises:
        ValueError: a name that is not text, or an array that torch has no type for.
        OSError: the file cannot be written.
    """
    described = _state_dict(tensors)
    with (
        atomic_write(path) as part,
        open(part, "wb") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        _add(archive, file.tell(), "data.pkl", described)
        _add(archive, file.tell(), "byteorder", b"little")
        for key, array in enumerate(tensors.values()):
            _add(archive, file.tell(), f"data/{key}", _little_endian(array))
        _add(archive, file.tell(), "version", _VERSION)


def _little_endian(array: np.ndarray) -> memoryview:
    """The numbers of an array in C order; a view unless they must be rearranged."""
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data


def _add(archive: zipfile.ZipFile, position: int, name: str, data: bytes | memoryview) -> None:
    """Add an entry, uncompressed.

    position: of its header in the file.
    """
    entry = zipfile.ZipInfo(f"{_ROOT}/{name}")  # dated 1980, so that equal tensors are equal files
    start = position + _LOCAL_HEADER + len(entry.filename) + 4
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2H", _PADDING, padding) + bytes(padding)
    entry.file_size = len(data)
    with archive.open(entry, "w", force_zip64=len(data) >= _WHOLE_ZIP64) as file:
        file.write(data)


def _state_dict(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle of an OrderedDict of tensors, instruction by instruction."""
    parts = [pickle.PROTO, b"\x02", _global("collections", "OrderedDict"), pickle.EMPTY_TUPLE]
    parts += [pickle.REDUCE, pickle.MARK]
    for key, (name, array) in enumerate(tensors.items()):
        parts += [_text(_checked_name(name)), *_tensor(str(key), name, array)]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(
            f"The names of tensors must be text. Received: {name!r}. Try str(name) for each."
        )
    return name


def _tensor(key: str, name: str, array: np.ndarray) -> Iterator[bytes]:
    """Yield the instructions of `_rebuild_tensor_v2(storage, 0, shape, strides, False, {})`."""
    yield _global("torch._utils", "_rebuild_tensor_v2")
    yield pickle.MARK
    yield from _storage(key, _kind(name, array), array.size)
    yield _number(0)
    yield _numbers(array.shape)
    yield _numbers(_strides(array.shape))
    yield pickle.NEWFALSE
    yield _global("collections", "OrderedDict")
    yield pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE


def _storage(key: str, kind: str, count: int) -> Iterator[bytes]:
    """Yield the instructions of the persistent id `("storage", kind, key, "cpu", count)`."""
    yield pickle.MARK + _text("storage") + _global("torch", f"{kind}Storage")
    yield _text(key) + _text("cpu") + _number(count)
    yield pickle.TUPLE + pickle.BINPERSID


def _kind(name: str, array: np.ndarray) -> str:
    kind = _KINDS.get(array.dtype.newbyteorder("<"))
    if kind is None:
        names = ", ".join(sorted(dtype.name for dtype in _KINDS))
        raise ValueError(
            f"A tensor must be of one of {names}. Received: {name!r} of {array.dtype}. "
            "Try array.astype(numpy.float32)."
        )
    return kind


def _strides(shape: tuple[int, ...]) -> list[int]:
    """The strides of an array in C order, in numbers."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(number: int) -> bytes:
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\x09" + number.to_bytes(9, "little")


def _numbers(numbers: tuple[int, ...] | list[int]) -> bytes:
    return pickle.MARK + b"".join(map(_number, numbers)) + pickle.TUPLE

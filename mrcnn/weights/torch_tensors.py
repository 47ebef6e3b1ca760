"""Tensors and storages as the pickles of torch describe them, without torch.

A storage is a flat array of numbers; a tensor is a view of one: offset, shape and strides, all
counted in numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..files.mapped_file import RefusedContent
from ..files.pickled_numpy import NUMPY, checked_shape, checked_sides, numbers
from ..files.safe_pickle import CONTAINERS, Global, Ignored, Table
from ..files.safe_text import printable

_BFLOAT16 = "BFloat16"
# torch.<kind>Storage -> NumPy's type, little-endian; bfloat16 is read as uint16, then widened.
DTYPES = {
    "Double": np.dtype("<f8"),
    "Float": np.dtype("<f4"),
    "Half": np.dtype("<f2"),
    _BFLOAT16: np.dtype("<u2"),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("b1"),
}


class Storage:
    """A storage: its description first, its bytes when the reader of the container has them."""

    def __init__(self, kind: str, key: str, count: int):
        self.kind, self.key, self.count = kind, key, count
        self.data: memoryview | None = None
        self._values: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * DTYPES[self.kind].itemsize

    def values(self) -> np.ndarray:
        """Return the numbers `[count]`; bfloat16 as float32."""
        if self._values is None:  # once, as many tensors may share a storage
            if self.data is None:
                raise RefusedContent(f"without the numbers of storage {printable(self.key)!r}")
            found = numbers(self.data, DTYPES[self.kind], (self.count,))
            self._values = from_bfloat16(found) if self.kind == _BFLOAT16 else found
        return self._values


class Tensor(NamedTuple):
    """A view of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Return the tensor as a read-only view of its storage."""
        if math.prod(self.shape) == 0:
            return np.empty(self.shape, self.storage.values().dtype)
        values = self.storage.values()
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.ndarray(self.shape, values.dtype, values, self.offset * values.itemsize, steps)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return bfloat16 numbers, given as uint16, as float32: its upper half, so exactly."""
    widened = bits.astype(np.uint32)
    widened <<= 16
    widened.flags.writeable = False
    return widened.view(np.float32)


class Storages:
    """The storages that a pickle refers to, each of them once."""

    def __init__(self) -> None:
        self.by_key: dict[str, Storage] = {}

    def load(self, persistent_id: Any) -> Storage:
        """Return the storage of `("storage", kind, key, device, count[, view])`.

        Raises:
            RefusedContent: a persistent id of another kind.
        """
        if not isinstance(persistent_id, tuple) or len(persistent_id) not in (5, 6):
            raise _refused_id()
        word, kind, key, _, count = persistent_id[:5]
        is_whole = len(persistent_id) == 5 or persistent_id[5] is None
        if word != "storage" or not isinstance(kind, Global) or not is_whole:
            raise _refused_id()
        if not isinstance(key, str) or type(count) is not int or count < 0:
            raise _refused_id()
        name = kind.name.removeprefix("torch.").removesuffix("Storage")
        if name not in DTYPES:
            raise _refused_id()
        return self._same(Storage(name, key, count))

    def _same(self, new: Storage) -> Storage:
        known = self.by_key.setdefault(new.key, new)
        if (known.kind, known.count) != (new.kind, new.count):
            raise RefusedContent(f"that describes storage {printable(new.key)!r} in two ways")
        return known


def _refused_id() -> RefusedContent:
    return RefusedContent(
        "whose pickle has a persistent id that is not one of a storage in the file",
        "a file that torch.save wrote",
    )


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """Stand for `torch._utils._rebuild_tensor_v2`; the view must lie inside the storage.

    It may not repeat numbers either: a storage of one number could claim any size.
    """
    if not isinstance(storage, Storage):
        raise RefusedContent("with a tensor that has no storage")
    shape, strides = checked_shape(shape), checked_sides(strides)
    if type(offset) is not int or offset < 0 or len(strides) != len(shape):
        raise RefusedContent("with a tensor that has no possible offset and strides")
    count = math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if count and (last >= storage.count or count > storage.count):
        raise RefusedContent(
            f"with a tensor of shape {shape}, strides {strides} and offset {offset:,}, which "
            f"exceeds its storage of {storage.count:,} numbers"
        )
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


TORCH: Table = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": lambda *_: Ignored(),
    "torch.device": lambda *_: Ignored(),
    **{f"torch.{kind}Storage": None for kind in DTYPES},
}

# Every class and function that a file of torch.save may name; a test repeats the list.
ALLOWED: Table = {**CONTAINERS, **NUMPY, **TORCH}

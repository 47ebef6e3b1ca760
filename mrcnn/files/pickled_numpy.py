"""NumPy's arrays, types and scalars as pickles describe them; only plain numbers are accepted.

NumPy's own functions for pickles would accept arrays of objects, and sizes that the file merely
claims; these own ones take their place.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .mapped_file import RefusedContent
from .safe_pickle import Buildable, Global, Table, latin1_bytes

MOST_AXES = 8
LONGEST_AXIS = 2**40
_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_REMEDY = "a file whose arrays hold numbers, such as model.state_dict()"


class PickledType(Buildable):
    """A `numpy.dtype`; its byte order comes later in the pickle than the object."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or code not in _CODES:
            raise RefusedContent("with an array that holds objects, no plain numbers", _REMEDY)
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Accept `(version, byte order, base, names, fields, size, alignment, flags)`."""
        _, order, base, names, fields = state[:5]
        if (base, names, fields) != (None, None, None) or order not in ("<", ">", "|", "="):
            raise RefusedContent("with an array of structures, no plain numbers", _REMEDY)
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class PickledArray(Buildable):
    """A `numpy.ndarray`; its content comes later in the pickle than the object."""

    def __init__(self) -> None:
        self.state: tuple | None = None
        self._array: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Accept `([version, ]shape, type, is Fortran order, bytes)`."""
        if not isinstance(state, tuple) or not 4 <= len(state) <= 5:
            raise RefusedContent("with an array that is damaged")
        self.state = state[-4:]

    def array(self) -> np.ndarray:
        """Return the array, a view of the file if its bytes are stored as they are.

        Raises:
            RefusedContent: not an array of plain numbers whose bytes the file holds.
        """
        if self._array is None:  # once, as many names may share an array
            self._array = self._make()
        return self._array

    def _make(self) -> np.ndarray:
        if self.state is None:
            raise RefusedContent("with an array that has no bytes")
        shape, kind, is_fortran, data = self.state
        if not isinstance(kind, PickledType):
            raise RefusedContent("with an array that holds objects, no plain numbers", _REMEDY)
        if isinstance(data, list):
            raise RefusedContent("with an array that holds objects, no plain numbers", _REMEDY)
        values = numbers(latin1_bytes(data), kind.dtype, checked_shape(shape))
        return values.reshape(shape, order="F" if is_fortran else "C")


def checked_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape of at most `MOST_AXES` axes, none of them negative or absurd.

    Raises:
        RefusedContent: anything else.
    """
    sides = checked_sides(shape)
    if math.prod(side for side in sides if side) > LONGEST_AXIS:  # also of an empty array
        raise RefusedContent(f"with an array that claims more than {LONGEST_AXIS:,} numbers")
    return sides


def checked_sides(sides: Any) -> tuple[int, ...]:
    """Return the sides of a shape, or its strides, each of them possible by itself.

    Raises:
        RefusedContent: anything else.
    """
    if not isinstance(sides, tuple | list) or len(sides) > MOST_AXES:
        raise RefusedContent(f"with an array that has no shape of at most {MOST_AXES} axes")
    if not all(type(side) is int and 0 <= side <= LONGEST_AXIS for side in sides):
        raise RefusedContent("with an array whose shape is not a list of possible sizes")
    return tuple(sides)


def numbers(
    data: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return a flat read-only view of bytes as numbers of this machine's byte order.

    shape: of the array, to compare its size with that of the bytes; by default any size.

    Raises:
        RefusedContent: other sizes, or booleans that are neither 0 nor 1.
    """
    size = len(data) if shape is None else math.prod(shape) * dtype.itemsize
    if size != len(data) or size % dtype.itemsize:
        raise RefusedContent(f"with an array that claims {size:,} bytes and has {len(data):,}")
    values = np.frombuffer(data, np.uint8 if dtype.kind == "b" else dtype)
    values.flags.writeable = False
    if dtype.kind == "b":
        if values.size and values.max() > 1:
            raise RefusedContent("with an array of booleans that are neither 0 nor 1")
        return values.view(bool)
    native = dtype.newbyteorder("=")
    return values.view(native) if dtype.isnative else values.astype(native)


def _reconstruct(kind: Any, *_: Any) -> PickledArray:
    """Stand for `numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b"b")`."""
    if kind != Global("numpy.ndarray"):
        raise RefusedContent("with an array of another class than numpy.ndarray", _REMEDY)
    return PickledArray()


def _scalar(kind: Any, data: Any) -> PickledArray:
    """Stand for `numpy.core.multiarray.scalar(type, bytes)`."""
    made = PickledArray()
    made.state = ((), kind, False, data)
    return made


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
    """Stand for `numpy.core.numeric._frombuffer`, which pickle protocol 5 uses."""
    made = PickledArray()
    made.state = (shape, kind, order == "F", data)
    return made


NUMPY: Table = {
    "numpy.ndarray": None,
    "numpy.dtype": PickledType,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}

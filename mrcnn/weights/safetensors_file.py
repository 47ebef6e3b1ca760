"""Read `.safetensors` files: a header of JSON, then the numbers, which become views of the file.

Format: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..files.mapped_file import RefusedContent
from ..files.pickled_numpy import checked_shape, numbers
from ..files.safe_text import printable
from .torch_tensors import from_bfloat16

MOST_HEADER = 2**22  # bytes; a ResNet101's Mask R-CNN has 60,000
_LENGTH = 8  # bytes of the header's length
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # widened to float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("b1"),
}


def is_safetensors(data: memoryview) -> bool:
    """Whether a file begins with the length of a header, and the header with `{`."""
    length = int.from_bytes(data[:_LENGTH], "little")
    return 2 <= length <= MOST_HEADER and bytes(data[_LENGTH : _LENGTH + 1]) == b"{"


def read_safetensors(data: memoryview) -> dict[str, np.ndarray]:
    """Return the tensors by name, read-only views of the file; bfloat16 is copied as float32.

    data: the bytes of the file.

    Raises:
        RefusedContent: a damaged header, or tensors that do not fill the file exactly.
    """
    length = int.from_bytes(data[:_LENGTH], "little")
    if not 2 <= length <= min(MOST_HEADER, len(data) - _LENGTH):
        raise RefusedContent(f"whose header claims {length:,} bytes")
    header = _parse(data[_LENGTH : _LENGTH + length])
    header.pop("__metadata__", None)
    body = data[_LENGTH + length :]
    _check_ranges([_range(name, entry) for name, entry in header.items()], len(body))
    return {name: _tensor(name, entry, body) for name, entry in header.items()}


def _parse(text: memoryview) -> dict[str, Any]:
    try:
        header = json.loads(str(text, "utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise RefusedContent("whose header is no JSON") from error
    if not isinstance(header, dict):
        raise RefusedContent("whose header is no JSON object")
    return header


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _range(name: str, entry: Any) -> tuple[int, int]:
    """The first byte of a tensor, and the one behind its last."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
        raise RefusedContent(f"whose tensor {printable(name)!r} has no data_offsets")
    return offsets[0], offsets[1]


def _check_ranges(ranges: list[tuple[int, int]], size: int) -> None:
    """Refuse tensors that overlap, leave bytes between them, or do not fill the file exactly."""
    position = 0
    for start, end in sorted(ranges):
        if start != position or end < start:
            raise RefusedContent(f"whose tensors overlap or leave a gap at byte {position:,}")
        position = end
    if position != size:
        raise RefusedContent(f"whose tensors claim {position:,} bytes, of which it has {size:,}")


def _tensor(name: str, entry: dict[str, Any], body: memoryview) -> np.ndarray:
    kind = entry.get("dtype")
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        raise RefusedContent(
            f"whose tensor {printable(name)!r} has the dtype {printable(kind)!r}",
            f"saving it as one of {', '.join(_DTYPES)}",
        )
    start, end = _range(name, entry)
    shape = checked_shape(entry.get("shape"))
    values = numbers(body[start:end], dtype, shape)
    if kind == "BF16":
        values = from_bfloat16(values)
    return values.reshape(shape)

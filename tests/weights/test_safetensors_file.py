""".safetensors files: the tensors fill the file exactly, and the header is bounded."""

import json
import struct

import numpy as np
import pytest

from mrcnn.files.mapped_file import RefusedContent
from mrcnn.weights.safetensors_file import MOST_HEADER, is_safetensors, read_safetensors

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NUMBERS = np.array([1.5, -2], "<f4").tobytes()


def made(header, body=NUMBERS):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return memoryview(struct.pack("<Q", len(text)) + text + body)


def test_file_without_tensors():
    data = made({}, b"")
    assert is_safetensors(data) and read_safetensors(data) == {}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("F64", "f8"), ("F32", "f4"), ("F16", "f2"), ("I64", "i8"), ("I32", "i4"), ("I16", "i2"),
        ("I8", "i1"), ("U8", "u1"), ("BOOL", "?"),
    ],
)  # fmt: skip
def test_every_type(kind, dtype):
    expected = np.arange(6).reshape(2, 3).astype(dtype)
    data = expected.tobytes()
    entry = {"dtype": kind, "shape": [2, 3], "data_offsets": [0, len(data)]}
    header = {"__metadata__": {"format": "pt"}, "a": entry}
    array = read_safetensors(made(header, data))["a"]
    assert array.dtype == expected.dtype and np.array_equal(array, expected)
    assert not array.flags.writeable


def test_bfloat16_becomes_float32():
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    array = read_safetensors(made({"a": entry}, struct.pack("<2H", 0x3F80, 0xC000)))["a"]
    assert array.dtype == np.float32 and array.tolist() == [1.0, -2.0]


def test_arrays_are_views_in_any_order_of_names():
    body = np.arange(3, dtype="<f4").tobytes()
    second = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    first = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    empty = {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]}
    data = made({"first": first, "empty": empty, "second": second}, body)
    tensors = read_safetensors(data)
    assert list(tensors) == ["first", "empty", "second"]
    assert tensors["first"].tolist() == [1, 2] and tensors["second"] == 0
    assert np.shares_memory(tensors["first"], np.frombuffer(data, np.uint8))


def changed(**changes):
    return {"a": {**ENTRY, **changes}}


@pytest.mark.parametrize(
    ("header", "what"),
    [
        (changed(data_offsets=[0, 12]), "claim 12 bytes, of which it has 8"),
        (changed(data_offsets=[0, 10**10]), "claim 10,000,000,000 bytes, of which it has 8"),
        (changed(data_offsets=[0, 4]), "claim 4 bytes, of which it has 8"),
        (changed(data_offsets=[4, 8]), "overlap or leave a gap at byte 0"),
        (changed(data_offsets=[-8, 8]), "overlap or leave a gap at byte 0"),
        (changed(data_offsets=[0, -8]), "overlap or leave a gap at byte 0"),
        ({"a": ENTRY, "b": ENTRY}, "overlap or leave a gap at byte 8"),
        (changed(data_offsets=[0]), "'a' has no data_offsets"),
        (changed(data_offsets=[0, 8.0]), "'a' has no data_offsets"),
        (changed(data_offsets=[False, 8]), "'a' has no data_offsets"),
        (changed(data_offsets=None), "'a' has no data_offsets"),
        ({"a": None}, "'a' has no data_offsets"),
        (changed(shape=[3]), "claims 12 bytes and has 8"),
        (changed(shape=[2**62]), "not a list of possible sizes"),
        (changed(shape=[-2]), "not a list of possible sizes"),
        (changed(shape=[2.0]), "not a list of possible sizes"),
        (changed(shape=2), "no shape of at most 8 axes"),
        (changed(shape=[2] + [1] * 8), "no shape of at most 8 axes"),
        (changed(dtype="F8_E4M3"), "'a' has the dtype 'F8_E4M3'"),
        (changed(dtype=["F32"]), "'a' has the dtype"),
        (changed(dtype="BOOL", shape=[8]), "booleans that are neither 0 nor 1"),
        (b"[1]", "no JSON object"),
        (b"{{", "no JSON"),
        (b"\xff\xff", "no JSON"),
        (b'{"a":' + b"[" * 100_000, "no JSON"),
        (b'{"a":' + b"9" * 10_000 + b"}", "no JSON|no data_offsets"),
        (b'{"a": 1, "a": 2}', "no JSON"),
    ],
)
def test_impossible_header_is_refused(header, what):
    with pytest.raises(RefusedContent, match=what):
        read_safetensors(made(header))


@pytest.mark.parametrize("length", [0, 1, 10**10, 2**64 - 1, MOST_HEADER + 1])
def test_length_of_the_header_is_bounded(length):
    data = memoryview(struct.pack("<Q", length) + b"{}")
    assert not is_safetensors(data)
    with pytest.raises(RefusedContent, match=f"whose header claims {length:,} bytes"):
        read_safetensors(data)


@pytest.mark.parametrize("kept", range(20))
def test_truncated_file_is_refused(kept):
    data = made({"a": ENTRY})
    with pytest.raises(RefusedContent):
        read_safetensors(data[: len(data) * kept // 20])

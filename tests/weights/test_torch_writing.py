"""Files for torch.load: the own reader gives the same values, and torch does if it is installed."""

import numpy as np
import pytest
from torch_samples import values

from mrcnn.weights.tensor_files import read_tensors
from mrcnn.weights.torch_writing import write_torch

OTHERS = {
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "other byte order": np.arange(4, dtype=">f4"),
    "every second": np.arange(8, dtype=np.float32)[::2],
    "backwards": np.arange(4, dtype=np.float32)[::-1],
    "int8": np.arange(3, dtype=np.int8),
    "int16": np.arange(3, dtype=np.int16),
    "naïve ☃": np.ones(2, np.float32),
    "": np.float32([1]),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def check(tensors, expected):
    assert list(tensors) == list(expected)
    for name, array in tensors.items():
        wanted = expected[name]
        assert array.dtype == wanted.dtype.newbyteorder("=") and array.shape == wanted.shape, name
        assert np.array_equal(array, wanted), name


def test_no_tensors(path):
    write_torch(path, {})
    assert read_tensors(path) == ({}, "torch")


def test_own_reader_gives_the_same_values(path):
    expected = {**values(), **OTHERS}
    write_torch(path, expected)
    check(read_tensors(path).tensors, expected)


def test_torch_gives_the_same_values(path):
    torch = pytest.importorskip("torch")
    expected = {**values(), **OTHERS}
    write_torch(path, expected)
    for mmap in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mmap)
        check({name: tensor.numpy() for name, tensor in loaded.items()}, expected)


def test_tensors_start_at_multiples_of_64_bytes(path):
    expected = values()
    write_torch(path, expected)
    tensors = read_tensors(path).tensors
    for name, array in tensors.items():
        assert array.ctypes.data % 64 == 0 or not array.size, name


def test_equal_tensors_are_equal_files(path, tmp_path):
    write_torch(path, values())
    write_torch(tmp_path / "other.pth", values())
    assert path.read_bytes() == (tmp_path / "other.pth").read_bytes()


@pytest.mark.parametrize("dtype", ["u2", "u4", "u8", "c8", "O", "U1"])
def test_type_that_torch_lacks_is_refused_and_the_old_file_stays(path, dtype):
    write_torch(path, {"a": np.ones(1)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="A tensor must be of one of .*bool.* Received: 'b' of .*"):
        write_torch(path, {"b": np.zeros(1, dtype)})
    assert path.read_bytes() == before


def test_name_that_is_no_text_is_refused(path):
    with pytest.raises(ValueError, match="names of tensors must be text. Received: 1. Try str"):
        write_torch(path, {1: np.zeros(1)})
    assert not path.exists()

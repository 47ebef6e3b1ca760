"""Files for torch.load: the own reader gives the same values, and torch does if it is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

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


def run_with_torch(script, *arguments):
    """Run a script in a process of its own: torchvision and TensorFlow do not share one."""
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LOAD = """
import sys
import numpy as np, torch
for mmap in False, True:
    loaded = torch.load(sys.argv[1], weights_only=True, mmap=mmap)
    np.savez(f"{sys.argv[1]}_{mmap}.npz", *[tensor.numpy() for tensor in loaded.values()])
    assert list(loaded) == sys.argv[2:], list(loaded)
"""

LOAD_STRICTLY = """
import sys
import numpy as np, torch, torchvision
path, model = sys.argv[1:]
network = getattr(torchvision.models.detection, model)(weights=None, weights_backbone=None)
network.load_state_dict(torch.load(path, weights_only=True), strict=True)
np.savez(path, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
"""


def test_torch_gives_the_same_values(path):
    expected = {**values(), **OTHERS}
    write_torch(path, expected)
    run_with_torch(LOAD, path, *expected)
    for mmap in (False, True):
        with np.load(f"{path}_{mmap}.npz") as file:
            check(dict(zip(expected, file.values(), strict=True)), expected)


@pytest.mark.skipif("MRCNN_SHARED" not in os.environ, reason="needs the shared references")
@pytest.mark.parametrize("model", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_torchvision_loads_the_file_strictly(model, path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(os.environ["MRCNN_SHARED"], "reference", "torchvision")))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    expected = importlib.import_module("rebuild").state_dict(model)
    write_torch(path, expected)
    run_with_torch(LOAD_STRICTLY, path, model)
    with np.load(f"{path}.npz") as loaded:
        check({name: loaded[name] for name in expected}, expected)


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

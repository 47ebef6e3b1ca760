"""Files of tensors of every kind: chosen by their first bytes, read or refused in a sentence."""

import argparse
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_samples import SMALL, WITH_VALUES, plain, small, tensor, torch_zip, values

from mrcnn.weights.tensor_files import MOST_TENSORS, NamedTensors, is_tensor_file, read_tensors
from mrcnn.weights.torch_writing import write_torch

WEIGHTS = {"conv.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "conv.bias": np.ones(2)}
CAFFE2 = {"conv1_w": np.ones((1, 3)), "res2_0_branch2a_w": np.ones(2), "fc1000_b": np.ones(3)}


@pytest.fixture
def save(tmp_path):
    """`save(data)`: the path of a file with these bytes, or with the pickle of an object."""

    def write(data, protocol=4):
        path = tmp_path / "weights"
        path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
        return path

    return write


def safetensors():
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return struct.pack("<Q", len(header)) + header + np.ones(2, "<f4").tobytes()


def same(tensors, expected):
    assert list(tensors) == list(expected)
    for name, array in tensors.items():
        assert array.dtype == expected[name].dtype and np.array_equal(array, expected[name]), name


# --- Kinds ---


def test_empty_file_is_refused(save):
    path = save(b"")
    assert not is_tensor_file(path)
    with pytest.raises(ValueError, match="Received: '.*weights', which is empty. Try downloading"):
        read_tensors(path)


def test_empty_state_dict(save):
    assert read_tensors(save(torch_zip(b"\x80\x02}.", {}))) == NamedTensors({}, "torch")


@pytest.mark.parametrize("name", WITH_VALUES)
def test_files_that_torch_wrote(name, save):
    path = save(small(name))
    found = read_tensors(path)
    assert is_tensor_file(path) and found.kind == "torch"
    same(found.tensors, values())


def test_metadata_of_a_state_dict_is_no_tensor(save):
    tensors = read_tensors(save(small("small_state_dict_with_metadata_zip"))).tensors
    assert {name: array.shape for name, array in tensors.items()} == {
        "0.weight": (4, 3, 3, 3),
        "0.bias": (4,),
        "1.weight": (4,),
        "1.bias": (4,),
        "1.running_mean": (4,),
        "1.running_var": (4,),
        "1.num_batches_tracked": (),
    }


def test_safetensors(save):
    path = save(safetensors())
    found = read_tensors(path)
    assert is_tensor_file(path) and found.kind == "safetensors"
    same(found.tensors, {"a": np.ones(2, np.float32)})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_detectron2(save, protocol):
    path = save({"model": WEIGHTS, "__author__": "Detectron2 Model Zoo"}, protocol)
    found = read_tensors(path)
    assert is_tensor_file(path) and found.kind == "detectron2"
    same(found.tensors, WEIGHTS)


def test_detectron2_with_matching_heuristics_gets_full_names(save):
    weights = {"stem.conv1.weight": np.ones(1), "res2.0.conv1.norm.weight": np.ones(1)}
    weights["proposal_generator.x"] = np.ones(1)
    saved = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    assert list(read_tensors(save(saved)).tensors) == [
        "backbone.bottom_up.stem.conv1.weight",
        "backbone.bottom_up.res2.0.conv1.norm.weight",
        "proposal_generator.x",
    ]


@pytest.mark.parametrize(
    "saved",
    [
        {"blobs": CAFFE2, "cfg": "x: 1\n" * 2000},
        CAFFE2,
        {"model": CAFFE2, "__author__": "Caffe2", "matching_heuristics": True},
    ],
    ids=["blobs", "bare", "by detectron2"],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_caffe2(saved, protocol, save):
    found = read_tensors(save(saved, protocol))
    assert found.kind == "caffe2"
    assert list(found.tensors) == ["conv1.weight", "layer1.0.conv1.weight", "fc.bias"]


def test_caffe2_of_python_2(save):
    # Python 2 has its bytes as text: BINSTRING and SHORT_BINSTRING
    numbers = np.arange(300, dtype="<f4").tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    state = b"(K\x01M\x2c\x01\x85" + kind + b"K\x00tb\x89T\xb0\x04\0\0" + numbers + b"t"
    name = b"U\x11res2_0_branch2a_w"
    data = b"\x80\x02}U\x05blobs}" + name + array + state + b"bss."
    tensors = read_tensors(save(data)).tensors
    same(tensors, {"layer1.0.conv1.weight": np.arange(300, dtype=np.float32)})


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict"])
def test_training_checkpoint(key, save):
    state = b"}" + plain(key) + tensor()[2:-1] + plain("epoch") + b"K\x03"
    namespace = pickle.dumps(argparse.Namespace(lr=0.1), 2)[2:-1]
    pickled = b"\x80\x02" + state.replace(b"}", b"}(", 1) + plain("args") + namespace + b"u."
    found = read_tensors(save(torch_zip(pickled, {"0": bytes(24)})))
    same(found.tensors, {"a": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefix_of_all_names_is_removed(prefix, save, tmp_path):
    write_torch(tmp_path / "w.pth", {prefix + name: array for name, array in WEIGHTS.items()})
    same(read_tensors(tmp_path / "w.pth").tensors, WEIGHTS)


def test_prefix_of_some_names_stays(tmp_path):
    write_torch(tmp_path / "w.pth", {"module.a": np.ones(1), "b": np.ones(1)})
    assert list(read_tensors(tmp_path / "w.pth").tensors) == ["module.a", "b"]


def test_other_files_are_not_tensor_files(tmp_path, save):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["x"] = np.ones(3)
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as file:
        file.writestr("model.weights.h5", b"x")
    for name in ("w.h5", "w.keras"):
        assert not is_tensor_file(tmp_path / name)
        with pytest.raises(ValueError, match="which begins as no file of torch.save"):
            read_tensors(tmp_path / name)
    assert not is_tensor_file(save(b"<html>"))
    with pytest.raises(FileNotFoundError, match="must exist"):
        is_tensor_file(tmp_path / "absent")


# --- Refused ---


class Hostile:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model": {}, "optimizer": [x]}])
def test_code_is_not_executed_anywhere_in_the_file(wrap, save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(wrap(Hostile()), 2)
    sentence = (
        r"^The file must hold tensors of plain numbers, and nothing else but their containers\. "
        r"Received: '.*weights', whose pickle asks for '(posix|nt).system', which is not on the .*"
        r"\. Try a file from a source that you trust"
    )
    for data in (pickled, torch_zip(pickled, {})):
        with pytest.raises(ValueError, match=sentence):
            read_tensors(save(data))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("saved", "what"),
    [
        ([1, 2], "which holds no state dict. Try saving model.state_dict()"),
        (None, "which holds no state dict"),
        ({"epoch": 3}, "whose entry 'epoch' is no tensor. Try a state dict, or a checkpoint with"),
        ({1: np.ones(1)}, "whose entry '1' is no tensor"),
        ({"model": {"a": "b"}}, "whose entry 'a' is no tensor"),
        ({"blobs": {"a": None}}, "whose entry 'a' is no tensor"),
        ({"a": np.array([None])}, "holds objects, no plain numbers"),
        ({f"{i}": None for i in range(MOST_TENSORS + 1)}, "with 20,001 tensors, of at most"),
    ],
)
def test_object_without_tensors_is_refused(saved, what, save):
    with pytest.raises(ValueError, match=what):
        read_tensors(save(saved))


def test_names_that_share_an_array_may_not_claim_more_than_the_file_holds(save):
    array = np.ones(1000)
    assert len(read_tensors(save({"a": array, "b": array})).tensors) == 2
    with pytest.raises(ValueError, match="whose tensors claim"):
        read_tensors(save({f"{i}": array for i in range(100)}))


def test_compressed_archive_is_refused(save):
    bomb = torch_zip(tensor(), {"0": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    path = save(bomb)
    assert is_tensor_file(path)
    with pytest.raises(ValueError, match="is compressed or encrypted. Try saving it again with"):
        read_tensors(path)


# --- Damage ---

FILES = {name: small(name) for name in SMALL}
FILES["detectron2"] = pickle.dumps({"model": WEIGHTS, "__author__": "x"}, 4)
FILES["caffe2"] = pickle.dumps({"blobs": CAFFE2}, 2)
FILES["safetensors"] = safetensors()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", range(20))
def test_truncated_file_is_refused(name, kept, save):
    data = FILES[name]
    with pytest.raises(ValueError, match="The file must hold tensors .*Received: .*Try "):
        read_tensors(save(data[: len(data) * kept // 20]))


@pytest.mark.parametrize("name", FILES)
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_file_is_read_or_refused_in_little_memory(name, data, tmp_path_factory):
    damaged = bytearray(FILES[name])
    place = st.integers(0, len(damaged) - 1)
    for position, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=4)):
        damaged[position] = value
    path = tmp_path_factory.getbasetemp() / f"damaged_{name}"
    path.write_bytes(damaged)
    tracemalloc.start()
    try:
        try:
            arrays = read_tensors(path).tensors.values()
        except ValueError as error:
            assert str(error).startswith("The file must hold tensors of plain numbers, and ")
        else:
            assert all(isinstance(array, np.ndarray) for array in arrays)
            assert sum(array.nbytes for array in arrays) <= 2 * len(damaged)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(damaged) + 2**20  # Python's objects
    finally:
        tracemalloc.stop()


# --- Memory ---

# Most resident memory: of this process, unlike ru_maxrss, which a process inherits.
MEASURE = """
import re, sys
from mrcnn.weights.tensor_files import read_tensors
def most_resident():
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
before = most_resident()
tensors = read_tensors(sys.argv[1]).tensors
print(sum(float(array.sum(dtype="f8")) for array in tensors.values()), most_resident() - before)
"""


def test_numbers_stay_in_the_file(tmp_path):
    write_torch(tmp_path / "w.pth", {"a": np.ones(2**20, np.float32)})
    tracemalloc.start()
    assert read_tensors(tmp_path / "w.pth").tensors["a"].sum() == 2**20
    assert tracemalloc.get_traced_memory()[1] < 2**20  # of 4 MiB
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["zip", "pickle 4"])
def test_file_of_200_mb_is_read_within_its_size(kind, tmp_path):
    path = tmp_path / "w"
    tensors = {f"{i}": np.full((1024, 1024), i, np.float32) for i in range(50)}
    if kind == "zip":
        write_torch(path, tensors)
    else:
        path.write_bytes(pickle.dumps({"model": tensors}, 4))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    total, memory = map(float, done.stdout.split())
    assert total == 1024 * 1024 * 50 * 49 / 2
    held = path.stat().st_size
    print(f"{kind}: {held / 1e6:.0f} MB, read in {memory / 1e6:.0f} MB")
    assert memory < 1.2 * held


@pytest.mark.slow
def test_arrays_that_python_3_wrote_as_text_are_copied_once(save):
    path = save({"model": {f"{i}": np.full((1024, 1024), 0.1 * i) for i in range(25)}}, 2)
    tracemalloc.start()
    tensors = read_tensors(path).tensors
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"{path.stat().st_size / 1e6:.0f} MB, read in {memory / 1e6:.0f} MB")
    assert tensors["24"][0, 0] == 0.1 * 24
    assert memory < 1.2 * path.stat().st_size

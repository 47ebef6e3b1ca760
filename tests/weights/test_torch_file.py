"""torch.save's containers: both give the values that torch recorded, damaged ones are refused."""

import io
import struct
import zipfile

import numpy as np
import pytest
from torch_samples import SMALL, WITH_VALUES, plain, small, tensor, torch_zip, values

from mrcnn.files.mapped_file import RefusedContent
from mrcnn.weights import torch_file

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
LITTLE = b"\x80\x02}" + plain("little_endian") + b"\x88s."
BIG = b"\x80\x02}" + plain("little_endian") + b"\x89s."
NUMBERS = np.arange(6, dtype=np.float32).tobytes()


def read(data):
    data = memoryview(data)
    if torch_file.is_torch_zip(data):
        return torch_file.read_zip(data)
    assert torch_file.is_old_container(data)
    return torch_file.read_old_container(data)


def old_container(pickled, keys=("0",), count=6, header=LITTLE, numbers=NUMBERS):
    listed = b"\x80\x02" + plain(list(keys)) + b"."
    return MAGIC + header + pickled + listed + struct.pack("<q", count) + numbers


def test_empty_state_dict():
    assert read(torch_zip(b"\x80\x02}.", {})) == {}
    assert read(old_container(b"\x80\x02}.", [], numbers=b"")) == {}


@pytest.mark.parametrize("name", WITH_VALUES)
def test_values_are_those_that_torch_recorded(name):
    saved = read(small(name))
    saved = saved.get("model", saved)
    expected = values()
    assert list(saved) == list(expected)
    for key, tensor_ in saved.items():
        array = tensor_.array()
        assert (array.dtype, array.shape) == (expected[key].dtype, expected[key].shape), key
        assert np.array_equal(array, expected[key]), key


@pytest.mark.parametrize("name", SMALL)
def test_tensors_are_read_only_views(name):
    data = memoryview(small(name))
    saved = read(data)
    whole = np.frombuffer(data, np.uint8)
    for key, tensor_ in saved.get("model", saved).items():
        array = tensor_.array()
        if array.size:
            assert np.shares_memory(array, whole) == (key != "bf16"), key
            assert not array.flags.writeable


def test_made_containers():
    for data in (torch_zip(tensor(), {"0": NUMBERS}), old_container(tensor())):
        assert read(data)["a"].array().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("kept", range(1, 20))
def test_truncated_file_is_refused(name, kept):
    data = small(name)
    data = memoryview(data[: len(data) * kept // 20])
    is_zip = name != "small_legacy"
    with pytest.raises(RefusedContent):
        (torch_file.read_zip if is_zip else torch_file.read_old_container)(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (torch_zip(tensor(), {}), "without the numbers of storage '0'"),
        (torch_zip(tensor(), {"0": b"1234"}), "claims 24 bytes and has 4"),
        (torch_zip(tensor(), {"0": bytes(24), "../data.pkl": b""}), None),
        (torch_zip(tensor(), {"0": bytes(24), "/../../byteorder": b"big"}), None),
        (torch_zip(tensor(key="../../0"), {"0": bytes(24)}), "without the numbers"),
    ],
)
def test_storage_is_an_entry_of_the_archive(data, what):
    if what is None:
        assert not read(data)["a"].array().any()
        return
    with pytest.raises(RefusedContent, match=what):
        read(data)["a"].array()


@pytest.mark.parametrize(("name", "count"), [("x/data/data.pkl", 0), ("y/data.pkl", 2)])
def test_archive_has_exactly_one_pickle(name, count):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, b"N.")
        if count:
            archive.writestr("x/data.pkl", b"N.")
    data = memoryview(made.getvalue())
    assert torch_file.is_torch_zip(data) == bool(count)
    with pytest.raises(RefusedContent, match=f"with {count} entries data.pkl"):
        torch_file.read_zip(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (old_container(tensor(), header=BIG), "from a machine of the other byte order"),
        (old_container(tensor(), header=b"\x80\x02N."), "that is no file of torch.save"),
        (old_container(tensor(), keys=[]), "whose list of storages is not"),
        (old_container(tensor(), keys=["0", "0"]), "whose list of storages is not"),
        (old_container(tensor(), keys=["1"]), "whose list of storages is not"),
        (old_container(tensor(), keys=[("0",)]), "whose list of storages is not"),
        (old_container(tensor(), count=5), "a storage of 24 bytes is not at byte"),
        (old_container(tensor(), count=-1), "a storage of 24 bytes is not at byte"),
        (old_container(tensor(), numbers=b""), "a storage of 24 bytes is not at byte"),
        (old_container(tensor(count=10**10), count=10**10), "of 40,000,000,000 bytes is not"),
        (old_container(b"\x80\x02cos\nsystem\n."), "asks for 'os.system'"),
    ],
)
def test_impossible_old_container_is_refused(data, what):
    with pytest.raises(RefusedContent, match=what):
        read(data)


def test_big_endian_zip_is_refused():
    data = small("small_zip").replace(b"little", b"bigbig")
    with pytest.raises(RefusedContent, match="another checksum|other byte order"):
        read(data)


def nested(data):
    """The pickle of a tensor whose storage is a nested file, as pickle.dump writes a tensor."""
    loader = b"ctorch.storage\n_load_from_bytes\n"
    return tensor(storage=loader + b"B" + struct.pack("<I", len(data)) + data + b"\x85R")


def one_storage(**changes):
    """A file of the older container that holds one storage."""
    kind = b"(" + plain("storage") + b"ctorch\nFloatStorage\n"
    storage = kind + plain("0") + plain("cpu") + plain(6) + plain(None) + b"tQ"
    return old_container(b"\x80\x02" + storage + b".", **changes)


def test_tensor_of_a_plain_pickle():
    saved = torch_file.read_pickle(memoryview(nested(one_storage())))
    assert saved["a"].array().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_nested_files_are_bounded():
    assert set(torch_file.PICKLE) - set(torch_file.ALLOWED) == {"torch.storage._load_from_bytes"}
    with pytest.raises(RefusedContent, match="nested file that is no storage"):
        torch_file.read_pickle(memoryview(nested(old_container(b"\x80\x02}.", [], numbers=b""))))
    with pytest.raises(RefusedContent, match="more than 100 instructions"):
        torch_file.read_pickle(memoryview(nested(MAGIC + b"\x80\x02" + b"N0" * 200)))
    twice = old_container(nested(one_storage()), [], numbers=b"")
    with pytest.raises(RefusedContent, match="asks for 'torch.storage._load_from_bytes'"):
        torch_file.read_pickle(memoryview(nested(twice)))

"""Tensors and storages of torch's pickles: views inside their storage, an enumerated list."""

import numpy as np
import pytest
from torch_samples import plain, tensor

from mrcnn.files.mapped_file import RefusedContent
from mrcnn.files.safe_pickle import load
from mrcnn.weights.torch_tensors import ALLOWED, Storages, from_bfloat16

NUMBERS = np.arange(6, dtype=np.float32).tobytes()


def read(pickled, data=NUMBERS):
    storages = Storages()
    saved = load(memoryview(pickled), ALLOWED, storages.load).value
    for storage in storages.by_key.values():
        storage.data = memoryview(data)
    return saved["a"].array()


def test_empty_tensor():
    array = read(tensor(shape=(0, 4), strides=(4, 1), count=0), b"")
    assert array.shape == (0, 4) and array.dtype == np.float32


def test_the_whole_allow_list():
    kinds = ["BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short"]
    assert sorted(ALLOWED) == sorted(
        [
            "_codecs.encode",
            "argparse.Namespace",
            "collections.Counter",
            "collections.OrderedDict",
            "numpy._core.multiarray._reconstruct",
            "numpy._core.multiarray.scalar",
            "numpy._core.numeric._frombuffer",
            "numpy.core.multiarray._reconstruct",
            "numpy.core.multiarray.scalar",
            "numpy.core.numeric._frombuffer",
            "numpy.dtype",
            "numpy.ndarray",
            "torch.Size",
            "torch._utils._rebuild_parameter",
            "torch._utils._rebuild_tensor",
            "torch._utils._rebuild_tensor_v2",
            "torch.device",
            *(f"torch.{kind}Storage" for kind in kinds),
        ]
    )


def test_every_function_of_the_list_is_our_own():
    functions = [function for function in ALLOWED.values() if function is not None]
    assert {function.__module__.split(".")[0] for function in functions} == {"mrcnn"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[0, 1, 2], [3, 4, 5]]),
        ({"shape": (3, 2), "strides": (1, 3)}, [[0, 3], [1, 4], [2, 5]]),
        ({"shape": (2,), "strides": (2,), "offset": 1}, [1, 3]),
        ({"shape": (), "strides": (), "offset": 5}, 5),
        ({"shape": (1, 1), "strides": (10**9, 0), "offset": 5}, [[5]]),
        # A 1x1 kernel of 208 to 1,248 channels, transposed: the strides' product says nothing.
        (
            {"shape": (1, 6, 1, 1), "strides": (1, 1, 259_584, 259_584 * 1_248)},
            [[[[i]] for i in range(6)]],
        ),
    ],
    ids=["whole", "transposed", "sliced", "scalar", "axes of one", "axes of one, transposed"],
)
def test_views_of_a_storage(changes, expected):
    array = read(tensor(**changes))
    assert array.tolist() == expected and not array.flags.writeable


def test_bfloat16_is_the_upper_half_of_float32():
    # 1.0 is 0x3F800000; -2.0 is 0xC0000000
    assert from_bfloat16(np.array([0x3F80, 0xC000], "<u2")).tolist() == [1.0, -2.0]


HOSTILE = {
    "10 GB": {"shape": (2_500_000_000,), "strides": (1,)},
    "10 GB of one number": {"shape": (2_500_000_000,), "strides": (0,)},
    "more numbers than the storage": {"shape": (7,), "strides": (0,)},
    "behind the storage": {"offset": 1},
    "negative offset": {"offset": -1},
    "negative stride": {"strides": (-3, 1), "offset": 3},
    "negative size": {"shape": (-2, 3)},
    "overflowing stride": {"strides": (2**63, 1)},
    "overflowing offset": {"offset": 2**64},
    "overflowing shape": {"shape": (2**32, 2**32)},
    "overflowing empty shape": {"shape": (0, 2**63), "strides": (1, 1)},
    "wrapping stride": {"strides": (2**62, 1)},
    "missing stride": {"strides": (1,)},
    "too many axes": {"shape": (1,) * 9, "strides": (1,) * 9},
    "float size": {"shape": (2.0, 3)},
    "text as offset": {"offset": "0"},
    "no shape": {"shape": None},
    "huge count": {"count": 10**10, "shape": (10**10,), "strides": (1,)},
    "negative count": {"count": -1},
    "count that is no number": {"count": 6.0},
    "key that is no text": {"key": 0},
    "another persistent id": {"word": "module"},
    "list as a persistent id": {"storage": plain(["storage"]) + b"Q"},
    "short persistent id": {"storage": plain(("storage",)) + b"Q"},
    "path as a persistent id": {"storage": plain("/etc/passwd") + b"Q"},
    "view of a storage": {
        "storage": b"(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("0") + plain("cpu")
        + plain(6) + plain(("1", 0, 3)) + b"tQ"
    },
    "no storage": {"storage": plain(b"")},
    "unknown kind": {"kind": "ComplexFloat"},
    "quantized kind": {"kind": "QInt8"},
}  # fmt: skip


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_impossible_tensor_is_refused(changes):
    with pytest.raises(RefusedContent, match=r"^The file must hold .* Received: .*\. Try .*\.$"):
        read(tensor(**changes))


def test_storage_described_in_two_ways_is_refused():
    first, second = tensor()[3:-2], tensor(kind="Int")[3:-2].replace(plain("a"), plain("b"), 1)
    with pytest.raises(RefusedContent, match="describes storage '0' in two ways"):
        read(b"\x80\x02}(" + first + second + b"u.")


def test_missing_numbers_are_refused():
    saved = load(memoryview(tensor()), ALLOWED, Storages().load).value
    with pytest.raises(RefusedContent, match="without the numbers of storage '0'"):
        saved["a"].array()


@pytest.mark.parametrize("size", [0, 23, 25])
def test_storage_of_another_size_than_it_claims_is_refused(size):
    with pytest.raises(RefusedContent, match=f"claims 24 bytes and has {size}"):
        read(tensor(), bytes(size))

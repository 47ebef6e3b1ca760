"""NumPy's arrays in pickles: plain numbers whose bytes the pickle holds."""

import pickle

import numpy as np
import pytest

from mrcnn.files.mapped_file import RefusedContent
from mrcnn.files.pickled_numpy import NUMPY, PickledArray, checked_shape, numbers
from mrcnn.files.safe_pickle import CONTAINERS, load

TABLE = {**CONTAINERS, **NUMPY}
DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]


def read(data):
    value = load(memoryview(data), TABLE).value
    return value.array() if isinstance(value, PickledArray) else value


def test_empty_array():
    array = read(pickle.dumps(np.empty((0, 4), np.float32), 4))
    assert array.shape == (0, 4) and array.dtype == np.float32


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_in_every_protocol(dtype, protocol):
    expected = np.arange(6).reshape(2, 3).astype(dtype)
    array = read(pickle.dumps(expected, protocol))
    assert array.dtype == expected.dtype and np.array_equal(array, expected)
    assert not array.flags.writeable


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_fortran_order_other_byte_order_scalar_and_long_array(protocol):
    arrays = [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6, dtype=">f4"),
        np.array(2.5),
        np.arange(5000, dtype=np.float32),
    ]
    for array in arrays:
        found = read(pickle.dumps(array, protocol))
        assert np.array_equal(found, array) and found.dtype.isnative
    assert read(pickle.dumps(np.float32(2.5), protocol)) == 2.5


def test_array_is_a_view_of_the_file():
    data = memoryview(pickle.dumps(np.arange(5000.0), 4))
    array = load(data, TABLE).value.array()
    whole = np.frombuffer(data, np.uint8)
    assert np.shares_memory(array, whole)


def test_the_table():
    assert sorted(NUMPY) == [
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
    ]
    assert NUMPY["numpy.ndarray"] is None


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.array([None, {}], object), "holds objects, no plain numbers"),
        (np.array(["a"]), "holds objects, no plain numbers"),
        (np.array([b"a"]), "holds objects, no plain numbers"),
        (np.zeros(2, [("a", "f4")]), "holds objects, no plain numbers"),
        (np.zeros(2, "c8"), "holds objects, no plain numbers"),
        (np.zeros(2, "M8[s]"), "holds objects, no plain numbers"),
        (np.array([2], np.uint8).view(bool), "booleans that are neither 0 nor 1"),
        (np.zeros((1,) * 9), "no shape of at most 8 axes"),
    ],
    ids=["objects", "text", "bytes", "structures", "complex", "dates", "booleans", "axes"],
)
def test_array_of_other_things_is_refused(array, what, protocol):
    with pytest.raises(RefusedContent, match=what):
        read(pickle.dumps(array, protocol))


def reconstructed(state):
    """The pickle of an array with a state that NumPy would not write."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return b"\x80\x02" + array + pickle.dumps(state, 2)[2:-1] + b"b."


@pytest.mark.parametrize(
    "state",
    [
        (1, (10**10,), np.dtype("f4"), False, b"1234"),
        (1, (-1,), np.dtype("f4"), False, b"1234"),
        (1, (2**63, 2**63), np.dtype("f4"), False, b"1234"),
        (1, (0, 2**63), np.dtype("f4"), False, b""),
        (1, (1.0,), np.dtype("f4"), False, b"1234"),
        (1, (True,), np.dtype("f4"), False, b"1234"),
        (1, 4, np.dtype("f4"), False, b"1234"),
        (1, (1,), "f4", False, b"1234"),
        (1, (1,), np.dtype("f4"), False, [1.0]),
        (1, (1,), np.dtype("f4"), False, None),
        (1, (1,), np.dtype("f4"), False, "☃234"),
        (1, (1,), np.dtype("f4"), False, "☃" * 5000),
        (1, (1,), np.dtype("f4")),
        {"data": 1},
        None,
    ],
)
def test_impossible_state_is_refused(state):
    with pytest.raises(RefusedContent):
        read(reconstructed(state))


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\nK\x00\x85U\x01b\x87R.",
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
        b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.",
        b"cnumpy\ndtype\n]\x85R.",
        b"cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01<NU\x01aNtb.",
        b"cnumpy\ndtype\nU\x02f4\x85R(K\x03U\x01xNNNtb.",
        b"cnumpy\nload\nU\x01x\x85R.",
        b"cnumpy\nndarray\n(K\x01tR.",
    ],
)
def test_misuse_of_the_functions_is_refused(data):
    with pytest.raises(RefusedContent):
        read(b"\x80\x02" + data)


def test_shape_of_an_empty_array_is_bounded_as_well():
    assert checked_shape([0, 4]) == (0, 4)
    with pytest.raises(RefusedContent, match="claims more than 1,099,511,627,776 numbers"):
        checked_shape((0, 2**30, 2**30))


def test_numbers_of_a_partial_last_one_are_refused():
    with pytest.raises(RefusedContent, match="claims 5 bytes and has 5"):
        numbers(b"12345", np.dtype("f4"))

"""HDF5 files of unknown source: only plain numbers that the file itself holds are read."""

import os

import h5py
import numpy as np
import pytest

from mrcnn.files import hdf5

SECRET = np.arange(16, dtype=np.float32)


@pytest.fixture
def outside(tmp_path):
    """Another HDF5 file and a plain file, which must not be read."""
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["x"] = SECRET
    (tmp_path / "outside.bin").write_bytes(SECRET.tobytes())
    return str(tmp_path / "outside")


def external_storage(file, outside):
    file.create_dataset("x", (16,), "f4", external=[(f"{outside}.bin", 0, 64)])


def external_link(file, outside):
    file["x"] = h5py.ExternalLink(f"{outside}.h5", "/x")


def soft_link(file, outside):
    file["y"], file["x"] = SECRET, h5py.SoftLink("/y")


def virtual_dataset(file, outside):
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource(f"{outside}.h5", "x", (16,))
    file.create_virtual_dataset("x", layout)


def texts(file, outside):
    file.create_dataset("x", data=np.array(["a"] * 4, object), dtype=h5py.string_dtype())


def lists_of_numbers(file, outside):
    file.create_dataset("x", (4,), h5py.vlen_dtype(np.float32))


def references(file, outside):
    file["x"] = np.array([file.ref] * 2, h5py.ref_dtype)


def structures(file, outside):
    file["x"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def complex_numbers(file, outside):
    file["x"] = np.zeros(3, np.complex64)


def group(file, outside):
    file.create_group("x")


def empty(file, outside):
    file["x"] = h5py.Empty("f4")


def named_type(file, outside):
    file["x"] = np.dtype("f4")


def claimed_only(file, outside):
    file.create_dataset("x", (50_000, 50_000), "f4", chunks=(500, 500))


def never_written(file, outside):
    file.create_dataset("x", (4,), "f4")


def compressed(file, outside):
    file.create_dataset("x", (1000, 1000), "f4", compression="gzip", fillvalue=1)


def huge_chunk(file, outside):
    file.create_dataset("x", (4,), "f4", chunks=(2**23,), maxshape=(None,))
    file["x"][:] = 1


REFUSED = {
    external_storage: "which takes its data from another file",
    virtual_dataset: "which takes its data from another file",
    external_link: "which is a link to another place",
    soft_link: "which is a link to another place",
    texts: "which holds object, no plain numbers",
    lists_of_numbers: "which holds object, no plain numbers",
    references: "which holds object, no plain numbers",
    structures: "no plain numbers",
    complex_numbers: "which holds complex64, no plain numbers",
    group: "which is no array",
    empty: "which is no array",
    named_type: "which is no array",
    claimed_only: "which claims 10,000,000,000 bytes, of which the file holds 0",
    never_written: "which claims 16 bytes, of which the file holds 0",
    compressed: "which is compressed. Try `h5repack",
    huge_chunk: "of 16 bytes in a chunk of 33,554,432",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_array_that_is_not_plain_data_of_the_file_is_refused(make, outside, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        make(file, outside)
    sentence = f"must hold its own data.*'x' in .*{REFUSED[make]}"
    with hdf5.open_file(tmp_path / "x.h5") as file, pytest.raises(ValueError, match=sentence):
        hdf5.stored(file, "x")


@pytest.mark.parametrize("link", [h5py.SoftLink("/real"), h5py.ExternalLink("outside.h5", "/")])
def test_group_behind_a_link_is_not_entered(link, outside, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["real/x"], file["group"] = SECRET, link
    with hdf5.open_file(tmp_path / "x.h5") as file:
        assert hdf5.has(file, "group") and not hdf5.has(file, "other")
        for question in (hdf5.group, hdf5.stored):
            with pytest.raises(ValueError, match="which is a link to another place"):
                question(file, "group/x")
        with pytest.raises(ValueError, match="which is no group"):
            hdf5.group(file, "real/x")
        with pytest.raises(ValueError, match="which is below no group"):
            hdf5.stored(file, "real/x/y")
        assert hdf5.group(file, "real").name == "/real"


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f8", "i8", "u4"])
@pytest.mark.parametrize("layout", [{}, {"chunks": (4,)}])
def test_plain_numbers_are_read(dtype, layout, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/b", data=np.arange(16).astype(dtype), **layout)
    with hdf5.open_file(tmp_path / "x.h5") as file:
        entry = hdf5.stored(hdf5.group(file, "a"), "b")
        assert entry == ("/a/b", (16,), np.dtype(dtype))
        kind = "f4" if np.dtype(dtype).kind == "f" else dtype
        value = hdf5.read(file, entry, kind)
    assert value.dtype == np.dtype(kind)
    np.testing.assert_array_equal(value, np.arange(16))


@pytest.mark.parametrize(
    ("value", "dtype", "sentence"),
    [
        (np.float32([1, np.nan, np.inf]), "f4", "where 2 of 3 numbers are NaN or infinite"),
        (np.float64([1e39]), "f4", "where 1 of 1 numbers are NaN or infinite"),
        (np.int64([1]), "f4", "of int64 where the network has float32"),
        (np.int64([1]), "u4", "of int64 where the network has uint32"),
        (np.float32([1]), "i8", "of float32 where the network has int64"),
    ],
)
def test_other_kinds_of_numbers_nan_and_infinity_are_refused(value, dtype, sentence, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/b"] = value
    with (
        hdf5.open_file(tmp_path / "x.h5") as file,
        pytest.raises(ValueError, match=f"'a/b' in .*{sentence}"),
    ):
        hdf5.read(file, hdf5.stored(file, "a/b"), dtype)


def test_array_that_has_changed_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = SECRET
    with hdf5.open_file(tmp_path / "x.h5") as file:
        entry = hdf5.stored(file, "x")
        with pytest.raises(ValueError, match="which changed while it was read"):
            hdf5.read(file, entry._replace(shape=(4, 4)), "f4")


@pytest.mark.parametrize(
    "names",
    [
        np.array([b"a"] * 20_001),
        np.array([b"a" * 5000] * 1000),
        np.arange(3),
        np.zeros((2, 2), "S1"),
        np.bytes_("one"),
    ],
    ids=["many", "long", "numbers", "table", "scalar"],
)
def test_attribute_that_is_not_a_short_list_of_names_is_refused(names, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["names"] = names
    sentence = "'names' in .*, no list of at most 20,000 names"
    with hdf5.open_file(tmp_path / "x.h5") as file, pytest.raises(ValueError, match=sentence):
        hdf5.names(file, "names")


def test_list_of_names_is_read_in_every_form(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["bytes"], file.attrs["text"] = np.array([b"a", b"\xff"]), ["a", "\u00e9"]
        file.attrs["empty"] = np.array([])  # Keras 2 wrote this for a layer without weights
        file.attrs["cut0"], file.attrs["cut1"] = np.array([b"a", b"b"]), np.array([b"c"])
    with hdf5.open_file(tmp_path / "x.h5") as file:
        assert hdf5.names(file, "bytes") == ["a", "\ufffd"]
        assert hdf5.names(file, "text") == ["a", "\u00e9"]
        assert hdf5.names(file, "cut") == ["a", "b", "c"]
        assert hdf5.names(file, "empty") == hdf5.names(file, "absent") == []


def test_text_is_read_in_every_form(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["text"], file.attrs["bytes"] = "a" * 100_000, np.bytes_("b")
        file.attrs["list"], file.attrs["number"] = ["a"], 3
    with hdf5.open_file(tmp_path / "x.h5") as file:
        assert hdf5.text(file, "text") == "a" * 100_000
        assert hdf5.text(file, "bytes") == "b"
        assert hdf5.text(file, "absent") is None
        for name, sentence in {"list": "no text", "number": "no text"}.items():
            with pytest.raises(ValueError, match=f"'{name}' in .*{sentence}"):
                hdf5.text(file, name)


@pytest.mark.parametrize(
    "text", ["a" * (2**23 + 1), np.bytes_(b"a" * (2**23 + 1))], ids=["any length", "fixed length"]
)
def test_too_long_text_is_refused(text, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["text"] = text
    refused = pytest.raises(ValueError, match="'text' in .*, which is longer than 8,388,608 bytes")
    with hdf5.open_file(tmp_path / "x.h5") as file, refused:
        hdf5.text(file, "text")


def test_heap_that_hdf5_would_read_for_ever_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.attrs["text"], file.attrs["names"] = "abcdefgh" * 20, ["a", "b"]
    data = path.read_bytes()
    text = data.index(b"abcdefgh")
    for size in (0, 2**64 - 16, 10_000):  # of the unused space after the texts
        free = data.index(b"\0" * 8, text + 160 + 2 * 24) + 8
        assert 0 < int.from_bytes(data[free : free + 8], "little") < 4096
        path.write_bytes(data[:free] + size.to_bytes(8, "little") + data[free + 8 :])
        with hdf5.open_file(path) as file:
            for question, name in ((hdf5.text, "text"), (hdf5.names, "names")):
                with pytest.raises(ValueError, match=f"'{name}' in .*, or damaged"):
                    question(file, name)


def test_search_of_heaps_is_limited(tmp_path):
    # A heap of 16 MB begins every 16 bytes.
    heap = b"GCOL\x01\0\0\0" + (2**24).to_bytes(8, "little")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file.attrs["text"] = np.frombuffer(heap * 200_000, np.uint8), "text"
    with (
        hdf5.open_file(tmp_path / "x.h5") as file,
        pytest.raises(ValueError, match="'text' in .*, or damaged"),
    ):
        hdf5.text(file, "text")


def test_names_that_share_one_long_text_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file.attrs["text"] = "a" * 2**20
        file.attrs["names"] = ["a"] * 200  # each name may point at the text
    with hdf5.open_file(tmp_path / "x.h5") as file:
        assert len(hdf5.text(file, "text")) == 2**20
        with pytest.raises(ValueError, match="'names' in .*, which is longer than"):
            hdf5.names(file, "names")


def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "x.h5")
    refused = pytest.raises(
        ValueError, match="The training state must be a file. Received: a device or pipe"
    )
    with refused, hdf5.open_file(tmp_path / "x.h5", "training state"):
        pass


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_give_a_value_error(seed, tmp_path):
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file.attrs["names"], file.attrs["text"], file["a/b"] = np.array([b"a"] * 20), "text", SECRET
    whole = (tmp_path / "whole.h5").read_bytes()
    draw = np.random.default_rng(seed)
    for _ in range(100):
        data = bytearray(whole)
        for position in draw.integers(0, len(data), 4):
            data[position] = draw.integers(256)
        (tmp_path / "x.h5").write_bytes(data)
        try:
            with hdf5.open_file(tmp_path / "x.h5") as file:
                hdf5.names(file, "names")
                hdf5.text(file, "text")
                hdf5.read(file, hdf5.stored(file, "a/b"), "f4")
        except ValueError as error:
            assert "Received: " in str(error)

"""Stored zip entries as views of the file; lying, overlapping and compressed ones are refused."""

import io
import struct
import zipfile

import pytest

from mrcnn.files import stored_zip
from mrcnn.files.mapped_file import RefusedContent

CONTENT = {"a/data.pkl": b"pickle", "a/data/0": bytes(100), "a/empty": b""}


def archive(content=CONTENT, method=zipfile.ZIP_STORED, **options):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as file:
        for name, data in content.items():
            with file.open(name, "w", **options) as entry:
                entry.write(data)
    return bytearray(made.getvalue())


def contents(data):
    data = memoryview(bytes(data))
    entries = stored_zip.entries(data)
    return {name: bytes(stored_zip.read(data, entry)) for name, entry in entries.items()}


def central(data, index):
    """The position of a line of the directory."""
    position = -1
    for _ in range(index + 1):
        position = data.index(b"PK\x01\x02", position + 1)
    return position


def change(data, position, form, value):
    struct.pack_into(form, data, position, value)
    return data


def test_empty_archive():
    assert contents(archive({})) == {}


def test_entries_of_both_kinds_of_header():
    assert contents(archive()) == CONTENT
    assert contents(archive(force_zip64=True)) == CONTENT


def test_comment_at_the_end():
    made = io.BytesIO(archive())
    with zipfile.ZipFile(made, "a") as file:
        file.comment = b"x" * 1000
    assert contents(made.getvalue()) == CONTENT


def test_directory_of_64_bits():
    data = archive()
    end = data.index(b"PK\x05\x06")
    count, size, start = struct.unpack_from("<H2I", data, end + 10)
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 2**16 - 1, 2**16 - 1, *[2**32 - 1] * 2, 0)
    assert contents(data[:end] + record + locator + last) == CONTENT


def test_entries_are_views():
    data = memoryview(bytes(archive()))
    entry = stored_zip.entries(data)["a/data/0"]
    assert stored_zip.read(data, entry).obj is data.obj


def test_first_name_needs_no_directory():
    assert stored_zip.first_name(memoryview(bytes(archive()[:60]))) == "a/data.pkl"
    assert stored_zip.first_name(memoryview(b"")) == ""


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_entry_is_refused(method):
    bomb = archive({"a/data.pkl": bytes(10**7)}, method)
    with pytest.raises(RefusedContent, match="'a/data.pkl' is compressed.*Try saving it again"):
        contents(bomb)


# (position in the line of the directory, form, value) -> reason
LIES = {
    "encrypted": ((8, "<H", 1), "is compressed or encrypted"),
    "compressed in the directory": ((10, "<H", 8), "is compressed or encrypted"),
    "another packed size": ((20, "<I", 99), "is compressed or encrypted"),
    "zip64 without a field": ((24, "<I", 2**32 - 1), "directory is damaged"),
    "name outside": ((28, "<H", 2**16 - 1), "directory is damaged"),
    "offset outside": ((42, "<I", 2**31), "is outside of the file"),
    "offset inside": ((42, "<I", 1), "is not where the directory says"),
    "another name": ((46, "<B", 0x62), "is not where the directory says"),
    "checksum": ((16, "<I", 1), "has another checksum"),
    "no UTF-8": ((46, "<B", 0xFF), "directory is damaged"),
}


@pytest.mark.parametrize(("lie", "what"), LIES.values(), ids=LIES)
def test_lie_in_the_directory_is_refused(lie, what):
    data = archive()
    offset, form, value = lie
    change(data, central(data, 1) + offset, form, value)
    with pytest.raises(RefusedContent, match=what):
        contents(data)


def test_size_that_the_file_does_not_hold_is_refused():
    data = archive()
    for field in (20, 24):
        change(data, central(data, 1) + field, "<I", 2**31)
    with pytest.raises(RefusedContent, match="'a/data/0' claims 2,147,483,648 bytes, of which"):
        contents(data)


def test_overlapping_entries_are_refused():
    data = archive({"a": bytes(100), "b": bytes(100)})
    for field in (20, 24):
        change(data, central(data, 0) + field, "<I", 150)
    with pytest.raises(RefusedContent, match="'b' overlaps another"):
        contents(data)


def test_name_twice_is_refused():
    data = archive({"a": b"1", "b": b"2"}).replace(b"b", b"a")
    with pytest.raises(RefusedContent, match="has a name twice"):
        contents(data)


def test_absent_checksum_is_accepted():
    data = archive()
    change(data, central(data, 1) + 16, "<I", 0)  # torch.serialization.set_crc32_options(False)
    assert contents(data) == CONTENT


@pytest.mark.parametrize("count", [4, 2**16 - 1])
def test_count_that_the_directory_does_not_hold_is_refused(count):
    data = archive()
    with pytest.raises(RefusedContent, match="directory"):
        contents(change(data, data.index(b"PK\x05\x06") + 10, "<H", count))


@pytest.mark.parametrize("kept", range(20))
def test_truncated_archive_is_refused(kept):
    data = archive()
    with pytest.raises(RefusedContent):
        contents(data[: len(data) * kept // 20])

"""Zip archives of unknown source whose entries are stored uncompressed, as views of the file.

Python's `zipfile` believes the directory of an archive. Here nothing is unpacked, and an entry is
read only if it is where the directory says, inside the file, and overlaps no other.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from .mapped_file import RefusedContent
from .safe_text import printable

MOST_ENTRIES = 100_000  # a checkpoint with its optimizer has 2,000
LOCAL_HEADER = b"PK\x03\x04"

# APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16.
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LONGEST_COMMENT = 2**16
_FULL_32 = 2**32 - 1  # "the number is in the zip64 field"
_ENCRYPTED = 1


class Entry(NamedTuple):
    """A stored entry of an archive."""

    name: str
    start: int  # of its bytes in the file
    size: int
    crc32: int  # 0: not recorded, as torch.save can be told


class _Directory(NamedTuple):
    count: int
    start: int
    size: int


def entries(data: memoryview) -> dict[str, Entry]:
    """Return the entries of an archive by name; their bytes are not read.

    Raises:
        RefusedContent: compressed, encrypted, overlapping or misplaced entries, or a damaged file.
    """
    try:
        found = list(_read_directory(data))
    except (struct.error, UnicodeError) as error:
        raise RefusedContent("whose zip directory is damaged") from error
    by_name = {entry.name: entry for entry in found}
    if len(by_name) < len(found):
        raise RefusedContent("whose zip directory has a name twice")
    _check_overlap(found)
    return by_name


def read(data: memoryview, entry: Entry) -> memoryview:
    """Return the bytes of an entry, a view.

    Raises:
        RefusedContent: the checksum does not match.
    """
    view = data[entry.start : entry.start + entry.size]
    if entry.crc32 and zlib.crc32(view) != entry.crc32:
        raise RefusedContent(f"whose entry {printable(entry.name)!r} has another checksum")
    return view


def first_name(data: memoryview) -> str:
    """Return the name of the first entry, as its own header has it; "" if there is none."""
    if bytes(data[:4]) != LOCAL_HEADER or len(data) < _LOCAL.size:
        return ""
    length = _LOCAL.unpack_from(data)[9]
    return str(data[_LOCAL.size : _LOCAL.size + length], "utf-8", "replace")


def _read_directory(data: memoryview) -> Iterator[Entry]:
    directory = _find_directory(data)
    end = directory.start + directory.size
    if directory.count > MOST_ENTRIES or end > len(data):
        raise RefusedContent(f"whose zip directory claims {directory.count:,} entries")
    position = directory.start
    for _ in range(directory.count):
        signature, *fields = _CENTRAL.unpack_from(data, position)
        if signature != b"PK\x01\x02":
            raise RefusedContent("whose zip directory is damaged")
        lengths = fields[9:12]
        name_start = position + _CENTRAL.size
        extra_start = name_start + lengths[0]
        position = extra_start + lengths[1] + lengths[2]
        if position > end:
            raise RefusedContent("whose zip directory is damaged")
        name = str(data[name_start:extra_start], "utf-8")
        extra = data[extra_start : extra_start + lengths[1]]
        yield _entry(data, name, fields, extra, directory.start)


def _find_directory(data: memoryview) -> _Directory:
    tail = bytes(data[-(_END.size + _LONGEST_COMMENT) :])
    found = tail.rfind(b"PK\x05\x06")
    if found < 0:
        raise RefusedContent("a zip archive that is cut off: its directory is missing")
    position = len(data) - len(tail) + found
    count, size, start = _END.unpack_from(data, position)[4:7]
    locator = position - _END64_LOCATOR.size
    if locator < 0 or bytes(data[locator : locator + 4]) != b"PK\x06\x07":
        return _Directory(count, start, size)
    record = _END64_LOCATOR.unpack_from(data, locator)[2]
    if record > len(data):
        raise RefusedContent("whose zip directory is damaged")
    signature, *fields = _END64.unpack_from(data, record)
    if signature != b"PK\x06\x06":
        raise RefusedContent("whose zip directory is damaged")
    return _Directory(count=fields[6], start=fields[8], size=fields[7])


def _entry(data: memoryview, name: str, fields: list[int], extra: memoryview, end: int) -> Entry:
    """Check one line of the directory, `fields`, and the header of the entry itself.

    end: the entry's bytes lie before this position.
    """
    flags, method = fields[2:4]
    crc32, packed, size = fields[6:9]
    size, packed, offset = _zip64_numbers(extra, [size, packed, fields[15]])
    if method or flags & _ENCRYPTED or packed != size:
        raise RefusedContent(
            f"whose entry {printable(name)!r} is compressed or encrypted",
            "saving it again with torch.save, which stores entries uncompressed",
        )
    if offset + _LOCAL.size > end:
        raise RefusedContent(f"whose entry {printable(name)!r} is outside of the file")
    signature, *header = _LOCAL.unpack_from(data, offset)
    name_length, extra_length = header[8:10]
    name_start = offset + _LOCAL.size
    own_name = bytes(data[name_start : name_start + name_length])
    if signature != LOCAL_HEADER or header[2] != method or own_name != name.encode():
        raise RefusedContent(f"whose entry {printable(name)!r} is not where the directory says")
    start = name_start + name_length + extra_length
    if start + size > end:
        raise RefusedContent(
            f"whose entry {printable(name)!r} claims {size:,} bytes, of which the file holds "
            f"{max(end - start, 0):,}"
        )
    return Entry(name, start, size, crc32)


def _zip64_numbers(extra: memoryview, numbers: list[int]) -> list[int]:
    """Replace the numbers that do not fit into 32 bits by those of the zip64 field."""
    wide = _zip64_field(extra)
    result = []
    for number in numbers:
        if number == _FULL_32:
            number, wide = struct.unpack_from("<Q", wide)[0], wide[8:]
        result.append(number)
    return result


def _zip64_field(extra: memoryview) -> memoryview:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            return extra[position + 4 : position + 4 + length]
        position += 4 + length
    return extra[:0]


def _check_overlap(found: list[Entry]) -> None:
    end = 0
    for entry in sorted(found, key=lambda entry: entry.start):
        if entry.start < end:
            raise RefusedContent(f"whose entry {printable(entry.name)!r} overlaps another")
        end = entry.start + entry.size

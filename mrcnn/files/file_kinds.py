"""Recognize by its first bytes a file that is not an image, for an error with a remedy."""

from __future__ import annotations

from typing import NamedTuple

from .tiff import SIGNATURES as _TIFF


class FileKind(NamedTuple):
    """How an error describes a file that is not an image that this package reads."""

    name: str  # with its article
    remedy: str  # follows "Try"


_TO_PNG_OR_JPEG = "converting it to PNG or JPEG"
_UNPACK = "unpacking it"
OPEN_IN_VIEWER = (
    "opening it in a viewer; if it is damaged or truncated, fetch it again or remove it"
)

_VIDEO = FileKind(
    "a video",
    "naming it with its usual suffix, as film.mp4, to mrcnn detect, or one frame saved as PNG",
)
CAMERA_RAW = FileKind(
    "a camera's raw file",
    "developing it to JPEG or TIFF with the camera's software, RawTherapee or darktable",
)
_HEIC = FileKind(
    "a HEIC image", "converting it to JPEG, for example with: heif-convert photo.heic photo.jpg"
)
_JPEG_XL = FileKind("a JPEG XL image", _TO_PNG_OR_JPEG)
_JPEG_2000 = FileKind("a JPEG 2000 image", _TO_PNG_OR_JPEG)
_HTML = FileKind("an HTML page", "downloading the image itself")
_EMPTY = FileKind("an empty file", "fetching it again")
_UNKNOWN = FileKind("not an image of a known format", OPEN_IN_VIEWER)

_RAW_SUFFIXES = frozenset(
    [".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"]
)
# (offset, the bytes there, kind of file); the first match counts.
_MAGIC = [
    (
        0,
        b"version https://git-lfs",
        FileKind("a pointer of Git LFS instead of the file", "git lfs pull"),
    ),
    (0, b"%!PS", FileKind("a PostScript file", _TO_PNG_OR_JPEG)),
    (0, b"%PDF", FileKind("a PDF document", "saving its pages as PNG")),
    (0, b"PK\x03\x04", FileKind("a zip archive", _UNPACK)),
    (0, b"\x1f\x8b", FileKind("a gzip archive", _UNPACK)),
    (0, b"Rar!", FileKind("a RAR archive", _UNPACK)),
    (0, b"7z\xbc\xaf", FileKind("a 7z archive", _UNPACK)),
    (0, b"8BPS", FileKind("a Photoshop file", _TO_PNG_OR_JPEG)),
    (0, b"\xff\x0a", _JPEG_XL),
    (4, b"JXL ", _JPEG_XL),
    (4, b"jP  ", _JPEG_2000),
    (0, b"\xff\x4f\xff\x51", _JPEG_2000),
    (0, b"\x76\x2f\x31\x01", FileKind("an OpenEXR image", _TO_PNG_OR_JPEG)),
    (
        128,
        b"DICM",
        FileKind("a DICOM file", "converting it to PNG, for example with pydicom"),
    ),
    (0, b"\x93NUMPY", FileKind("a NumPy array", "saving it as PNG or TIFF")),
    (0, b"\x89HDF", FileKind("an HDF5 file", "an image file")),
    (0, b"\x00\x00\x01\x00", FileKind("an icon", _TO_PNG_OR_JPEG)),
    (4, b"ftypcrx", CAMERA_RAW),
    (4, b"ftypavi", FileKind("an AVIF image", _TO_PNG_OR_JPEG)),
    (4, b"ftyphe", _HEIC),
    (4, b"ftypmif1", _HEIC),
    (4, b"ftypmsf1", _HEIC),
    (4, b"ftyp", _VIDEO),
    (4, b"moov", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (0, b"\x00\x00\x01\xba", _VIDEO),
    (0, b"\x30\x26\xb2\x75", _VIDEO),
    (0, b"FLV", _VIDEO),
    (0, b"OggS", _VIDEO),
]
_TAGS = [
    (b"<svg", FileKind("an SVG drawing", _TO_PNG_OR_JPEG)),
    (b"<html", _HTML),
    (b"<!doctype html", _HTML),
]


def is_camera_raw(head: bytes, suffix: str) -> bool:
    """Whether a file is of a camera's raw format.

    Most of them are TIFF files, and Pillow would read the thumbnail in their first page.

    head: first bytes of the file.
    suffix: in lower case.
    """
    is_canon = head.startswith(_TIFF) and head[8:10] == b"CR"
    return is_canon or suffix in _RAW_SUFFIXES


def file_kind(head: bytes) -> FileKind:
    """The kind of a file that Pillow does not read.

    head: first bytes of the file, 1,024 are enough.
    """
    if not head:
        return _EMPTY
    for offset, magic, kind in _MAGIC:
        if head[offset:].startswith(magic):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for tag, kind in _TAGS:
        if text.startswith(b"<") and tag in text:
            return kind
    return _UNKNOWN

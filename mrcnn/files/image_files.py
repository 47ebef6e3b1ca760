"""Image files to arrays: the one opener of photos, masks and label images, for a closed list of formats.

Sizes are compared with the limits of `limits.py` by a file's header, before memory is allocated for its pixels.
"""

from __future__ import annotations

import functools
import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from .limits import MOST_MASK_BYTES, check_size, printable

if TYPE_CHECKING:
    import tifffile

# Pillow knows forty formats more; one of them starts Ghostscript. (It opens MPO, a JPEG with a second image, as JPEG.)
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
# Of the files that are taken for images in a folder.
SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".mpo",
        ".tif",
        ".tiff",
        ".bmp",
        ".webp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)

# `check_size` has the last word. (At the end, so that filters of the user's count first; not `catch_warnings`, which
# several threads at once may leave switched on.)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning, append=True)

Source = str | Path | bytes  # a path, or a file's content
Size = tuple[int, int]  # height, width


# --- What a file is -------------------------------------------------------------------------------------------

_CONVERT = "converting it to PNG or JPEG"
_VIDEO = (
    "a video",
    "the sample samples/video/video.py, which detects in every frame, or one frame saved as PNG",
)
_RAW = (
    "a camera's raw file",
    "developing it to JPEG or TIFF with the camera's software, RawTherapee or darktable",
)
_HEIC = "a HEIC image", "converting it to JPEG, for example with: heif-convert photo.heic photo.jpg"
_DAMAGED = "opening it in a viewer; if it is damaged or truncated, fetch it again or remove it"
_RAW_SUFFIXES = frozenset(
    [".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"]
)
# (offset, the bytes there, what the file is, the remedy); the first line that fits counts.
_MAGIC = [
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file", "git lfs pull"),
    (0, b"%!PS", "a PostScript file", _CONVERT),
    (0, b"%PDF", "a PDF document", "saving its pages as PNG"),
    (0, b"PK\x03\x04", "a zip archive", "unpacking it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpacking it"),
    (0, b"Rar!", "a RAR archive", "unpacking it"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpacking it"),
    (0, b"8BPS", "a Photoshop file", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL image", _CONVERT),
    (4, b"JXL ", "a JPEG XL image", _CONVERT),
    (4, b"jP  ", "a JPEG 2000 image", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _CONVERT),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", _CONVERT),
    (128, b"DICM", "a DICOM file", "converting it to PNG, for example with pydicom"),
    (0, b"\x93NUMPY", "a NumPy array", "saving it as PNG or TIFF"),
    (0, b"\x89HDF", "an HDF5 file", "the image in place of it"),
    (0, b"\x00\x00\x01\x00", "an icon", _CONVERT),
    (4, b"ftypcrx", *_RAW),
    (4, b"ftypavi", "an AVIF image", _CONVERT),
    (4, b"ftyphe", *_HEIC),
    (4, b"ftypmif1", *_HEIC),
    (4, b"ftypmsf1", *_HEIC),
    (4, b"ftyp", *_VIDEO),
    (4, b"moov", *_VIDEO),
    (8, b"AVI ", *_VIDEO),
    (0, b"\x1aE\xdf\xa3", *_VIDEO),
    (0, b"\x00\x00\x01\xba", *_VIDEO),
    (0, b"\x30\x26\xb2\x75", *_VIDEO),
    (0, b"FLV", *_VIDEO),
    (0, b"OggS", *_VIDEO),
]
_TAGS = [
    (b"<svg", "an SVG drawing", _CONVERT),
    (b"<html", "an HTML page", "downloading the image itself"),
    (b"<!doctype html", "an HTML page", "downloading the image itself"),
]
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


class ImageFileError(ValueError):
    """An image file cannot be used; the text names it, the reason and the remedy."""


def _refused(what: str, name: str, why: str, remedy: str) -> ImageFileError:
    return ImageFileError(
        f"{what} must be a readable image. Received: {name} ({why}). Try {remedy}."
    )


def _is_raw(head: bytes, suffix: str) -> bool:
    """Whether a file is of a camera's raw format: most are TIFF files whose first page is a thumbnail."""
    return suffix in _RAW_SUFFIXES or head[8:10] == b"CR" and head.startswith(_TIFF)


def _what_it_is(head: bytes) -> tuple[str, str]:
    """What a file that is none of `FORMATS` is by its first bytes, and the remedy."""
    if not head:
        return "an empty file", "fetching it again"
    for offset, magic, what, remedy in _MAGIC:
        if head[offset:].startswith(magic):
            return what, remedy
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for tag, what, remedy in _TAGS:
        if text.startswith(b"<") and tag in text:
            return what, remedy
    return "not an image of a known format", _DAMAGED


# --- Reading --------------------------------------------------------------------------------------------------


def read_pixels(
    source: Source,
    what: str = "The file",
    name: str | None = None,
    indices: bool = False,
    size: Size | None = None,
    image: str = "the image",
) -> np.ndarray:
    """`[H, W]` or `[H, W, channels]`: the pixels of an image file, upright, of the file's own number type.

    Palettes, CMYK, YCbCr and LAB become RGB (or RGBA). Of a TIFF whose further pages are of other sizes, thumbnails
    or levels of a pyramid, the first page is read; a stack of equal pages and an animation are refused.

    source: a path, or the content of a file. what, name: how an error calls it; its path by default.
    indices: keep the palette's indices, for label images.
    size: `(height, width)` that it must have by its header; image: names what has that size.

    Raises: ImageFileError, a ValueError, that names the file; ValueError if the image is too large.
    """
    with _opened(source, what, name) as file:
        if size is not None and tuple(size) != file.size:
            raise ImageFileError(
                f"A mask must be as large as its image. Received: {file.name} of {file.size} and {image} of "
                f"{tuple(size)} (height, width). Try to export the mask again."
            )
        if file.pages > 1:
            raise ImageFileError(
                f"An image file must hold one image. Received: {file.name} with {file.pages} pages or frames. "
                "Try to save each page that you need as a file of its own."
            )
        pixels = file.pixels(indices)
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def read_size(source: Source) -> Size:
    """`(height, width)` of the image that `read_pixels` gives, by the file's header.

    Raises: as `read_pixels` does.
    """
    with _opened(source, "The file", None) as file:
        return file.size


def is_turned(source: Source) -> bool:
    """Whether the EXIF orientation exchanges the height and width of a stored image.

    Raises: as `read_pixels` does.
    """
    with _opened(source, "The file", None) as file:
        return file.orientation >= 5


class _Opened:
    """An image file of which no more than the header was read.

    stream: the file. photo: Pillow's, or None for a TIFF that only tifffile understands. name: for errors.
    size: (height, width) of the upright image. pages: of equal size.
    """

    def __init__(self, stream: BinaryIO, photo: Image.Image | None, name: str):
        self.stream, self.photo, self.name = stream, photo, name
        self.orientation, self.pages = 1, 1
        if photo is None:
            height, width, self.orientation, self.pages = _tiff_header(stream)
        else:
            width, height = photo.size
            if photo.format != "TIFF":  # Pillow turns these itself
                self.orientation = photo.getexif().get(ExifTags.Base.Orientation)
            if photo.format == "TIFF" and (photo.n_frames > 1 or _DEPTH in photo.tag_v2):
                self.pages = _tiff_header(stream)[-1]
            elif photo.format != "MPO":  # a photo and its preview, or the other eye's
                self.pages = getattr(photo, "n_frames", 1)
        if self.orientation not in _UPRIGHT:
            self.orientation = 1
        self.size = (width, height) if self.orientation >= 5 else (height, width)

    def pixels(self, indices: bool) -> np.ndarray:
        if self.photo is None or _is_misread(self.photo):
            pixels = _tiff_pixels(self.stream)
        else:
            pixels = _decode(self.photo, indices)
        return _UPRIGHT[self.orientation](pixels)


@contextmanager
def _opened(source: Source, what: str, name: str | None) -> Iterator[_Opened]:
    """The file, its size within the limits; whatever is wrong in the block becomes an error that names it."""
    is_path = not isinstance(source, bytes)
    name = printable(name or (source if is_path else "an embedded image"), longest=1000)
    if is_path and Path(source).is_dir():
        raise _refused(what, name, "a folder", "the images in it")
    if is_path and not Path(source).is_file():
        raise ImageFileError(
            f"{what} must exist. Received: {name}. Try the full path, or check its spelling."
        )
    try:
        with open(source, "rb") if is_path else io.BytesIO(source) as stream:
            photo = _header(stream, what, name, Path(source).suffix.lower() if is_path else "")
            file = _Opened(stream, photo, name)
            try:
                check_size(*file.size, name)
            except ValueError as error:
                raise ImageFileError(str(error)) from error
            yield file
    except ImageFileError:
        raise
    except Image.DecompressionBombError as error:
        raise _refused(what, name, str(error), "cutting it into tiles") from error
    except Exception as error:  # decoders raise what they like
        reason = printable((str(error).strip().splitlines() or ["no reason given"])[0])
        raise _refused(what, name, f"{type(error).__name__}: {reason}", _DAMAGED) from error


def _header(stream: BinaryIO, what: str, name: str, suffix: str) -> Image.Image | None:
    """Pillow's image, its pixels not yet read; None for a TIFF of a kind that Pillow does not know."""
    head = stream.read(1024)
    if _is_raw(head, suffix):
        raise _refused(what, name, *_RAW)
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        if head.startswith(_TIFF):
            return None
        raise _refused(what, name, *_what_it_is(head)) from error


# What to do with a stored image by its EXIF orientation.
_UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image),
}


def _decode(photo: Image.Image, indices: bool) -> np.ndarray:
    """The pixels of Pillow's image, in grey or RGB colours."""
    if photo.mode == "LAB":
        photo = ImageCms.applyTransform(photo, _lab_to_rgb())
    elif photo.mode in ("P", "PA") and not indices:
        photo = photo.convert(
            "RGBA" if photo.mode == "PA" or "transparency" in photo.info else "RGB"
        )
    elif photo.mode in ("CMYK", "YCbCr", "HSV", "RGBX", "RGBa", "La"):
        photo = photo.convert("RGB")
    return np.asarray(photo)


@functools.cache
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


# --- TIFF -----------------------------------------------------------------------------------------------------

_ORIENTATION, _SAMPLES, _DEPTH = 274, 277, 32997  # TIFF's numbers of these tags
_DEFLATE = (8, 32946)  # TIFF's numbers of compressions
_BOUNDED = (
    1,
    32773,
    *_DEFLATE,
)  # none, PackBits, which grows 64 times at most, and Deflate, which is measured first


def _is_misread(photo: Image.Image) -> bool:
    """Whether Pillow reads a TIFF wrong: without the channels beyond colour and alpha, or with its bytes swapped."""
    if photo.format != "TIFF":
        return False
    more_channels = photo.tag_v2.get(_SAMPLES, 1) > len(photo.getbands())
    return more_channels or photo.mode in ("I", "F") and photo.tag_v2.prefix == b"MM"


def _tiff_header(stream: BinaryIO) -> tuple[int, int, int, int]:
    """Height, width, orientation, and the number of pages of this size in a TIFF file."""
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        size = page.imagelength, page.imagewidth
        pages = page.imagedepth
        if len(file.pages) > 1 and (file.pages[1].imagelength, file.pages[1].imagewidth) == size:
            pages *= len(file.pages)
        return *size, page.tags.valueof(_ORIENTATION, default=1), pages


def _tiff_pixels(stream: BinaryIO) -> np.ndarray:
    """`[H, W]` or `[H, W, channels]` of the first page of a TIFF file: any number of channels, any number type."""
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        if page.photometric not in (0, 1, 2):
            raise ValueError(
                f"a TIFF of {page.bitspersample} bits in {page.photometric.name} colours; save it as RGB"
            )
        if page.nbytes > MOST_MASK_BYTES:
            raise ValueError(f"{page.nbytes:,} bytes of pixels are more than {MOST_MASK_BYTES:,}")
        if page.compression not in _BOUNDED:
            raise ValueError(
                f"a TIFF of this kind compressed with {page.compression.name}; save it with Deflate, or uncompressed"
            )
        _check_strips(file.filehandle, page)
        # [separate channels, depth, height, width, interleaved channels]; one kind of channels has length 1
        pixels = page.asarray(squeeze=False)[:, 0]
        pixels = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels[..., 0], 0, -1)
        return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _check_strips(stream: BinaryIO, page: tifffile.TiffPage) -> None:
    """Raise a ValueError if a strip or tile holds more than its share of the image: a small file may hold gigabytes."""
    most = int(np.prod(page.chunks)) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count > stream.size:
            raise ValueError(f"a strip of {count:,} bytes in a file of {stream.size:,}")
        if page.compression in _DEFLATE:
            stream.seek(offset)
            if len(zlib.decompressobj().decompress(stream.read(count), most + 1)) > most:
                raise ValueError(f"a strip that holds more than its {most:,} bytes")

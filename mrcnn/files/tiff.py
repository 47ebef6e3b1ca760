"""TIFF files by tifffile: any number of channels, any number type, several pages.

Pillow reads the common ones; `image_files` asks this module for the others.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from .limits import MOST_MASK_BYTES

if TYPE_CHECKING:
    import tifffile

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # first bytes of TIFF and BigTIFF

ORIENTATION, SAMPLES_PER_PIXEL, IMAGE_DEPTH = 274, 277, 32997  # numbers of tags
_UNCOMPRESSED, _PACK_BITS, _DEFLATE = 1, 32773, (8, 32946)  # numbers of compressions
# Compressions that cannot fill the memory: PackBits grows at most 64 times, and the length of
# Deflate is measured before it is decoded.
_BOUNDED = (_UNCOMPRESSED, _PACK_BITS, *_DEFLATE)
_GREY_OR_RGB = (0, 1, 2)  # photometric interpretations: white is zero, black is zero, RGB


class TiffHeader(NamedTuple):
    """Facts of the first page of a TIFF file."""

    height: int  # pixels, as stored
    width: int
    orientation: int  # EXIF's, 1 to 8
    pages: int  # number of pages, or slices of a volume, that are as large as the first


def read_header(stream: BinaryIO) -> TiffHeader:
    """Read the header of a TIFF file, without its pixels."""
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        size = page.imagelength, page.imagewidth
        pages = page.imagedepth
        if len(file.pages) > 1:
            second = file.pages[1]
            if (second.imagelength, second.imagewidth) == size:
                pages *= len(file.pages)
        orientation = page.tags.valueof(ORIENTATION, default=1)
        return TiffHeader(*size, orientation, pages)


def read_first_page(stream: BinaryIO) -> np.ndarray:
    """Read the pixels of the first page, `[H, W]` or `[H, W, channels]`, of any number type.

    Raises:
        ValueError: not grey or RGB, too large, or compressed in a way that cannot be bounded.
    """
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page = file.pages[0]
        _check_page(page)
        _check_strips(file.filehandle, page)
        # [channels, depth, H, W, channels]: stored as separate planes, or interleaved; the other
        # of the two axes has length 1
        pixels = page.asarray(squeeze=False)[:, 0]
        if len(pixels) == 1:
            pixels = pixels[0]  # [H, W, channels]
        else:
            pixels = np.moveaxis(pixels[..., 0], 0, -1)  # [H, W, channels]
        return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _check_page(page: tifffile.TiffPage) -> None:
    photometric: Any = page.photometric
    compression: Any = page.compression
    if photometric not in _GREY_OR_RGB:
        raise ValueError(
            f"a TIFF of {page.bitspersample} bits in {photometric.name} colours; save it as RGB"
        )
    if page.nbytes > MOST_MASK_BYTES:
        raise ValueError(f"{page.nbytes:,} bytes of pixels are more than {MOST_MASK_BYTES:,}")
    if compression not in _BOUNDED:
        raise ValueError(
            f"a TIFF of this kind compressed with {compression.name}; "
            "save it with Deflate, or uncompressed"
        )


def _check_strips(stream: tifffile.FileHandle, page: tifffile.TiffPage) -> None:
    """Raise a ValueError if a strip or tile is larger than its share of the image.

    Otherwise a small file could fill gigabytes of memory.
    """
    if page.dtype is None:
        raise ValueError("a TIFF of an unknown type of numbers")
    most = int(np.prod(page.chunks)) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count > stream.size:
            raise ValueError(f"a strip of {count:,} bytes in a file of {stream.size:,}")
        if page.compression not in _DEFLATE:
            continue
        stream.seek(offset)
        decoded = zlib.decompressobj().decompress(stream.read(count), most + 1)
        if len(decoded) > most:
            raise ValueError(f"a strip that holds more than its {most:,} bytes")

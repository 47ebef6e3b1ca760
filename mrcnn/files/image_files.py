"""Read image files of a closed list of formats into arrays: images, masks and label images.

The size in a file's header is compared with `limits` before memory is allocated for its pixels.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from . import tiff
from .file_kinds import CAMERA_RAW, OPEN_IN_VIEWER, FileKind, file_kind, is_camera_raw
from .limits import check_size
from .safe_text import printable

# Pillow knows forty more formats; one of them starts Ghostscript. (It opens MPO, a JPEG with a
# second image, as JPEG.)
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
# Suffixes of the files of a folder that are images.
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

SEVERAL = 2**31  # frames of an animation, which are not counted

Source = str | Path | bytes  # a path, or a file's content
Size = tuple[int, int]  # height, width


class ImageFileError(ValueError):
    """An image file cannot be used; the text names it, the reason and the remedy."""


class ImageTooLarge(ImageFileError):
    """An image has more pixels than `limits` allow."""


def read_pixels(
    source: Source,
    what: str = "The file",
    name: str | None = None,
    indices: bool = False,
    size: Size | None = None,
    image: str = "the image",
) -> np.ndarray:
    """Read the pixels of an image file, rotated upright by its EXIF orientation.

    Palettes, CMYK, YCbCr and LAB become RGB (or RGBA). The first page of a TIFF is read if its
    other pages have other sizes (thumbnails, levels of a pyramid); a stack of equal pages and an
    animation are refused.

    source: a path, or the content of a file.
    what, name: how an error calls the file; its path by default.
    indices: keep the indices of a palette, for label images.
    size: `(height, width)` that the image must have.
    image: names the image that has that size.

    Returns: `[H, W]` or `[H, W, channels]` of the file's own number type.

    Raises:
        ImageFileError: a ValueError that names the file and the reason.
    """
    with _opened(source, what, name) as file:
        if size is not None and tuple(size) != file.size:
            raise ImageFileError(
                f"A mask must be as large as its image. Received: {file.name} of {file.size} and "
                f"{image} of {tuple(size)} (height, width). Try to export the mask again."
            )
        if file.pages > 1:
            count = "several" if file.pages == SEVERAL else file.pages
            raise ImageFileError(
                f"An image file must hold one image. Received: {file.name} with {count} pages "
                "or frames. Try to save each page that you need as a file of its own."
            )
        pixels = file.pixels(indices)
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return the pixels of Pillow's image as `read_pixels` reads those of its file.

    image: opened by Pillow or made in memory; of an animation the frame that it shows.

    Raises:
        ImageFileError: as `read_pixels` does.
    """
    name = printable(getattr(image, "filename", "") or "an image of Pillow", longest=1000)
    with _named_errors("The image", name):
        width, height = image.size
        _check_size(height, width, name)
        if _is_misread(image):
            kind = FileKind("a TIFF that Pillow reads wrong", "the path of its file instead")
            raise _unreadable("The image", name, kind)
        upright = _UPRIGHT.get(_exif_orientation(image) or 1, _UPRIGHT[1])
        pixels = upright(_decode(image, indices=False))
        return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def read_size(source: Source) -> Size:
    """Return the `(height, width)` that `read_pixels` gives, from the file's header.

    Raises:
        ImageFileError: as `read_pixels` does.
    """
    with _opened(source, "The file", None) as file:
        return file.size


def count_pixels(source: Source, name: str | None = None, most: int | None = None) -> int:
    """Return height times width by the file's header; no pixel is decoded.

    (`read_size` decodes a PNG: its EXIF orientation may follow its pixels.)

    name: how an error calls the file; its path by default.
    most: pixels; default `limits.MOST_PIXELS`.

    Raises:
        ImageTooLarge: more pixels than `most`.
        ImageFileError: as `read_pixels` does.
    """
    what = "The file"
    with _opened_stream(source, what, name) as (stream, suffix, shown_name):
        height, width = _stored_size(stream, _header(stream, what, shown_name, suffix))
        _check_size(height, width, shown_name, most)
        return height * width


def is_turned(source: Source) -> bool:
    """Whether the EXIF orientation exchanges the height and width of a stored image.

    Raises:
        ImageFileError: as `read_pixels` does.
    """
    with _opened(source, "The file", None) as file:
        return file.is_turned


class _ImageFile:
    """An image file of which only the header has been read.

    stream: the file.
    image: Pillow's image, or None for a TIFF that only tifffile reads.
    name: names the file in errors.
    orientation: EXIF's, 1 to 8.
    pages: number of pages or frames of equal size.
    size: (height, width) of the upright image.
    """

    def __init__(self, stream: BinaryIO, image: Image.Image | None, name: str):
        self.stream, self.image, self.name = stream, image, name
        if image is None:
            header = tiff.read_header(stream)
            height, width, orientation = header.height, header.width, header.orientation
            self.pages = header.pages
        else:
            width, height = image.size
            orientation = _exif_orientation(image)
            self.pages = _count_pages(stream, image)
        self.orientation = orientation if orientation in _UPRIGHT else 1
        self.size = (width, height) if self.is_turned else (height, width)

    @property
    def is_turned(self) -> bool:
        """Whether height and width are exchanged."""
        return self.orientation >= 5

    def pixels(self, indices: bool) -> np.ndarray:
        """Decode the pixels, `[H, W]` or `[H, W, channels]`, upright."""
        if self.image is None or _is_misread(self.image):
            pixels = tiff.read_first_page(self.stream)
        else:
            pixels = _decode(self.image, indices)
        return _UPRIGHT[self.orientation](pixels)


def _exif_orientation(image: Image.Image) -> int | None:
    if isinstance(image, TiffImageFile):  # Pillow rotates these itself
        return 1
    return image.getexif().get(ExifTags.Base.Orientation)


def _count_pages(stream: BinaryIO, image: Image.Image) -> int:
    if image.format == "MPO":  # an image and its preview, or the other eye's view
        return 1
    if not isinstance(image, TiffImageFile):
        # Not n_frames, which reads every frame of a GIF, of which there may be millions.
        return SEVERAL if getattr(image, "is_animated", False) else 1
    if getattr(image, "n_frames", 1) > 1 or tiff.IMAGE_DEPTH in image.tag_v2:
        return tiff.read_header(stream).pages
    return 1


@contextmanager
def _opened(source: Source, what: str, name: str | None) -> Iterator[_ImageFile]:
    """Open an image file whose size is within the limits.

    Any error of the decoders in the block becomes an ImageFileError that names the file.
    """
    with _opened_stream(source, what, name) as (stream, suffix, shown_name):
        image = _header(stream, what, shown_name, suffix)
        # Before the orientation is read, for which Pillow decodes the pixels of a PNG.
        _check_size(*_stored_size(stream, image), shown_name)
        yield _ImageFile(stream, image, shown_name)


@contextmanager
def _opened_stream(
    source: Source, what: str, name: str | None
) -> Iterator[tuple[BinaryIO, str, str]]:
    """Yield the stream of a file, the suffix of its path, and its name in errors."""
    is_path = not isinstance(source, bytes)
    name = printable(name or (source if is_path else "an embedded image"), longest=1000)
    if is_path:
        _check_path(Path(source), what, name)
    suffix = Path(source).suffix.lower() if is_path else ""
    with _named_errors(what, name), open(source, "rb") if is_path else io.BytesIO(source) as stream:
        yield stream, suffix, name


def _stored_size(stream: BinaryIO, image: Image.Image | None) -> Size:
    """Return the (height, width) of the stored pixels; image: None for a TIFF of tifffile."""
    if image is None:
        header = tiff.read_header(stream)
        return header.height, header.width
    return image.height, image.width


def _check_size(height: int, width: int, name: str, most: int | None = None) -> None:
    try:
        check_size(height, width, name, most)
    except ValueError as error:
        raise ImageTooLarge(str(error)) from error


@contextmanager
def _named_errors(what: str, name: str) -> Iterator[None]:
    """Make any error of the decoders in the block an ImageFileError that names the file."""
    try:
        yield
    except ImageFileError:
        raise
    except Image.DecompressionBombError as error:
        kind = FileKind(str(error), "cutting it into tiles")
        raise ImageTooLarge(str(_unreadable(what, name, kind))) from error
    except Exception as error:  # decoders raise any kind of error
        lines = str(error).strip().splitlines() or ["no reason given"]
        reason = f"{type(error).__name__}: {printable(lines[0])}"
        raise _unreadable(what, name, FileKind(reason, OPEN_IN_VIEWER)) from error


def _check_path(path: Path, what: str, name: str) -> None:
    if path.is_dir():
        raise _unreadable(what, name, FileKind("a folder", "the images in it"))
    if not path.is_file():
        raise ImageFileError(
            f"{what} must exist. Received: {name}. Try the full path, or check its spelling."
        )


def _unreadable(what: str, name: str, kind: FileKind) -> ImageFileError:
    return ImageFileError(
        f"{what} must be a readable image. Received: {name} ({kind.name}). Try {kind.remedy}."
    )


def _header(stream: BinaryIO, what: str, name: str, suffix: str) -> Image.Image | None:
    """Pillow's image, its pixels not yet read; None for a TIFF that Pillow does not read."""
    head = stream.read(1024)
    if is_camera_raw(head, suffix):
        raise _unreadable(what, name, CAMERA_RAW)
    _ignore_bomb_warning()
    try:
        return Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        if head.startswith(tiff.SIGNATURES):
            return None
        raise _unreadable(what, name, file_kind(head)) from error


def _ignore_bomb_warning() -> None:
    """Silence Pillow's warning about large images: `check_size` refuses the too large ones.

    The filter comes last, so that the user's filters count first. Not `warnings.catch_warnings`,
    which several threads may leave switched on.
    """
    category = Image.DecompressionBombWarning
    if all(filter_[2] is not category for filter_ in warnings.filters):
        warnings.filterwarnings("ignore", category=category, append=True)


# EXIF orientation -> the change of a stored image to the upright one.
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


def _decode(image: Image.Image, indices: bool) -> np.ndarray:
    """The pixels of Pillow's image, in grey, RGB or RGBA."""
    if image.mode == "LAB":
        return np.asarray(ImageCms.applyTransform(image, _lab_to_rgb()))
    if image.mode in ("P", "PA") and not indices:
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    elif image.mode in ("CMYK", "YCbCr", "HSV", "RGBX", "RGBa", "La"):
        image = image.convert("RGB")
    return np.asarray(image)


@functools.cache
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, rgb, "LAB", "RGB")


def _is_misread(image: Image.Image) -> bool:
    """Whether Pillow reads a TIFF wrong.

    It drops channels beyond colour and alpha, and swaps the bytes of some big-endian files.
    """
    if not isinstance(image, TiffImageFile):
        return False
    channels = image.tag_v2.get(tiff.SAMPLES_PER_PIXEL, 1)
    is_big_endian = image.tag_v2.prefix == b"MM"
    is_swapped = is_big_endian and image.mode in ("I", "F")
    return is_swapped or channels > len(image.getbands())

"""Image files: formats, colours, sizes, pages, and the errors for other files."""

import io
import resource
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
import skimage.color
import tifffile
from annotated import cut_or_changed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.data.image import read_image
from mrcnn.files import image_files, limits, tiff
from mrcnn.files.image_files import count_pixels, read_pixels, read_size

RED = (200, 30, 30)


def red(mode="RGB"):
    image = Image.new("RGB", (32, 24), RED)
    return image.quantize() if mode == "P" else image.convert(mode)


# --- Formats and colours ---


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"), ("RGB", "bmp"), ("RGB", "ppm"), ("RGB", "tif"), ("RGB", "webp"),
        ("RGB", "jpg"), ("RGB", "mpo"),
        ("P", "gif"), ("P", "png"), ("P", "tif"),
        ("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("YCbCr", "jpg"),
        ("RGBA", "png"), ("RGBA", "tif"),
    ],
)  # fmt: skip
def test_every_format_is_read_in_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"red.{suffix}"
    red(mode).save(path)
    assert read_size(path) == (24, 32)
    read = read_image(path)
    assert read.shape == (24, 32, 3) and read.dtype == np.uint8
    assert np.abs(read.astype(int) - RED).max() <= 8  # of a lossy format


def test_lab_becomes_rgb(tmp_path):
    """8-bit CIELAB, compared with scikit-image's formula."""
    lab = skimage.color.rgb2lab(np.uint8([[RED]]))[0, 0]
    values = np.int16([lab[0] * 2.55, lab[1], lab[2]]).astype(np.int8).view(np.uint8)
    page = np.broadcast_to(values, (24, 32, 3))
    tifffile.imwrite(tmp_path / "lab.tif", page, photometric="cielab")
    read = read_image(tmp_path / "lab.tif")
    assert np.abs(read.astype(int) - RED).max() <= 5  # because a* and b* are integers


def test_inverted_adobe_cmyk_jpeg_is_not_read_as_a_negative(tmp_path):
    red("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()[:100]
    assert np.abs(read_image(tmp_path / "a.jpg")[10, 10].astype(int) - RED).max() <= 3


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        (np.uint16, (6, 5)), (np.int16, (6, 5)), (np.int32, (6, 5)), (np.float32, (6, 5)),
        (np.float64, (6, 5)),
        (np.float32, (6, 5, 3)), (np.uint8, (6, 5, 7)), (np.uint16, (6, 5, 4)), (np.uint8, (1, 5)),
        (np.uint8, (6, 1, 5)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_any_number_type_and_any_number_of_channels(
    tmp_path, byteorder, dtype, shape, compression
):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    options = {"photometric": "minisblack", "compression": compression, "byteorder": byteorder}
    if len(shape) == 3:
        options["planarconfig"] = "contig"
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    read = read_pixels(tmp_path / "a.tif")
    np.testing.assert_array_equal(read, values)
    assert read.dtype.isnative and read_size(tmp_path / "a.tif") == shape[:2]


def test_tiff_of_separate_planes(tmp_path):
    values = np.arange(3 * 6 * 5, dtype=np.uint8).reshape(3, 6, 5)
    for dtype in (np.uint8, np.float32):
        tifffile.imwrite(
            tmp_path / "a.tif", values.astype(dtype), photometric="rgb", planarconfig="separate"
        )
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), np.moveaxis(values, 0, -1))


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])  # read by Pillow, and by tifffile
def test_tiff_is_read_upright(tmp_path, dtype):
    values = np.arange(30).reshape(5, 6).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), np.rot90(values, -1))
    assert read_size(tmp_path / "a.tif") == (6, 5)


def test_palette_indices_are_kept_on_request(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1, 2]]))
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png")
    assert read_pixels(tmp_path / "a.png", indices=True).tolist() == [[0, 1, 2]]
    assert read_pixels(tmp_path / "a.png").tolist() == [[[0, 0, 0], [200, 0, 0], [0, 200, 0]]]


def test_image_is_read_from_bytes():
    content = io.BytesIO()
    red().save(content, "png")
    np.testing.assert_array_equal(read_pixels(content.getvalue()), np.asarray(red()))
    with pytest.raises(
        ValueError, match=r"imageData must be a readable image. Received: a.json \(an empty file\)"
    ):
        read_pixels(b"", "imageData", name="a.json")


# --- Pages ---


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_several_frames_are_refused_and_a_single_one_is_read(tmp_path, suffix):
    frames = [
        red(),
        Image.new("RGB", (32, 24), (0, 99, 0)),
        Image.new("RGB", (32, 24), (0, 0, 255)),
    ]
    frames[0].save(tmp_path / f"one.{suffix}", save_all=True)
    assert np.abs(read_image(tmp_path / f"one.{suffix}").astype(int) - RED).max() <= 8
    frames[0].save(tmp_path / f"three.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(
        ValueError,
        match=rf"hold one image. Received: .*three\.{suffix} with (3|several) pages or frames. Try",
    ):
        read_image(tmp_path / f"three.{suffix}")


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])  # read by Pillow, and by tifffile
def test_volume_is_refused_and_thumbnails_are_ignored(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "zyx.tif", np.zeros((4, 24, 32), dtype), photometric="minisblack")
    with pytest.raises(ValueError, match=r"zyx\.tif with 4 pages"):
        read_image(tmp_path / "zyx.tif")
    tifffile.imwrite(
        tmp_path / "depth.tif",
        np.zeros((4, 32, 32), dtype),
        volumetric=True,
        photometric="minisblack",
    )
    with pytest.raises(ValueError, match=r"depth\.tif with 4 pages"):
        read_image(tmp_path / "depth.tif")
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(np.full((24, 32), 7, dtype), photometric="minisblack")
        file.write(np.zeros((6, 8), dtype), photometric="minisblack")
    assert (read_pixels(tmp_path / "pyramid.tif") == 7).all() and read_size(
        tmp_path / "pyramid.tif"
    ) == (24, 32)


# --- Claimed sizes ---


def png_header(width, height):
    """A PNG that claims a size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + bytes(12)
    )


def test_large_image_within_the_limit_gives_no_warning_of_pillow(tmp_path):
    Image.new("1", (10_000, 9_000)).save(tmp_path / "large.png")  # Pillow warns from 89 million
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        assert read_size(tmp_path / "large.png") == (9_000, 10_000)
    assert caught == []


@pytest.mark.parametrize("size", [(60000, 50000), (150_000, 10)])
def test_size_above_the_limit_is_refused_from_the_header(tmp_path, size):
    (tmp_path / "huge.png").write_bytes(png_header(*size))
    for read in (read_pixels, read_size, read_image):
        with pytest.raises(ValueError, match=r"Received: .*huge\.png"):
            read(tmp_path / "huge.png")


def test_mask_of_another_size_is_not_decoded(tmp_path, monkeypatch):
    red().save(tmp_path / "mask.png")
    monkeypatch.setattr(image_files, "_decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"mask\.png of \(24, 32\) and a\.jpg of \(9, 9\)"):
        read_pixels(tmp_path / "mask.png", size=(9, 9), image="a.jpg")


def test_tiffs_that_claim_or_hold_too_much_are_refused(tmp_path, monkeypatch):
    values = np.zeros((64, 64, 7), np.float32)
    path = tmp_path / "a.tif"
    options = {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
    tifffile.imwrite(path, values, **options)
    assert read_pixels(path).shape == (64, 64, 7)
    monkeypatch.setattr(tiff, "MOST_MASK_BYTES", values.nbytes - 1)
    with pytest.raises(ValueError, match=r"a\.tif .*114,688 bytes of pixels"):
        read_pixels(path)
    monkeypatch.undo()
    monkeypatch.setattr(limits, "MOST_PIXELS", 64 * 64 - 1)
    with pytest.raises(ValueError, match=r"64 x 64 \(height x width\) in .*a\.tif"):
        read_pixels(path)
    monkeypatch.undo()
    with tifffile.TiffFile(path, mode="r+b") as file:  # the strip claims a 7th of its size
        file.pages[0].tags["ImageLength"].overwrite(9)
        file.pages[0].tags["RowsPerStrip"].overwrite(9)
    with pytest.raises(
        ValueError, match=r"a\.tif \(ValueError: a strip that holds more than its 16,128 bytes"
    ):
        read_pixels(path)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite(2**31)
    with pytest.raises(ValueError, match=r"a strip of 2,147,483,648 bytes in a file of"):
        read_pixels(path)


# --- Other files ---


def test_postscript_does_not_start_ghostscript(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    for read in (read_image, read_pixels, read_size):
        with pytest.raises(ValueError, match=r"x\.png \(a PostScript file\)"):
            read(tmp_path / "x.png")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.mp4", b"\0\0\0\x18ftypmp42\0\0", r"a video\). Try naming it with its usual suffix"),
        ("a.avi", b"RIFF\0\0\0\0AVI LIST", "a video"),
        ("a.mkv", b"\x1aE\xdf\xa3\x01", "a video"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0", "a HEIC image.*heif-convert"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0", "an AVIF image"),
        ("a.cr2", b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file"),
        ("a.jpg", b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file"),
        ("a.NEF", b"MM\0*\0\0\0\x08", "a camera's raw file"),
        (
            "a.jpg",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1",
            r"Git LFS.*Try git lfs pull",
        ),
        ("a.jpg", b"\n<!DOCTYPE html>\n<html><body>Log in", "an HTML page"),
        ("a.png", b'<?xml version="1.0"?>\n<svg width="9">', "an SVG drawing"),
        ("a.png", b"<annotation><size>", "not an image of a known format"),
        ("a.jpg", b"PK\x03\x04\x14", "a zip archive"),
        ("a.jpg", b"%PDF-1.7", "a PDF document"),
        ("a.jpg", bytes(128) + b"DICM", "a DICOM file"),
        ("a.jpg", b"", "an empty file"),
        ("a.jpg", b"no image", "not an image of a known format"),
        ("a.tif", b"II*\0\xff\xff\0\0", r"a\.tif \(IndexError"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, read_size):
        with pytest.raises(
            ValueError, match=f"The file must be a readable image. Received: .*{said}"
        ):
            read(path)


def test_folder_and_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"\(a folder\). Try the images in it"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="must exist. Received: .*gone.png"):
        read_size(tmp_path / "gone.png")


def test_errors_show_names_without_control_characters(tmp_path):
    with pytest.raises(ValueError, match=r"gone \[2J\.png"):
        read_image(tmp_path / "gone\x1b[2J.png")


# --- Damaged files ---


def contents():
    """Small files of every format."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    kinds = [
        ("RGB", "png"), ("P", "png"), ("RGB", "jpeg"), ("CMYK", "jpeg"), ("RGB", "bmp"),
        ("RGB", "webp"), ("P", "gif"), ("RGB", "ppm"), ("RGB", "tiff"), ("LAB", "tiff"),
        ("YCbCr", "tiff"),
    ]  # fmt: skip
    for mode, kind in kinds:
        content = io.BytesIO()
        image = Image.fromarray(pixels)
        image = Image.fromarray(pixels, "LAB") if mode == "LAB" else image.convert(mode)
        image.save(content, kind)
        yield content.getvalue()
    deep = [
        (pixels.astype(np.float64), {}),
        (np.repeat(pixels, 2, axis=2), {"compression": "zlib"}),
        (pixels.astype(np.int16), {"byteorder": ">"}),
    ]
    for array, options in deep:
        content = io.BytesIO()
        tifffile.imwrite(content, array, photometric="minisblack", planarconfig="contig", **options)
        yield content.getvalue()


CONTENTS = list(contents())


def read_damaged(content):
    """Read the content or refuse it with our form of message, in 10 s and 4 GB."""
    began = time.monotonic()
    try:
        pixels = read_pixels(content)
        assert pixels.shape[:2] == read_size(content)
    except ValueError as error:
        assert all(part in str(error) for part in ("Received: ", "an embedded image", "Try "))
    assert time.monotonic() - began < 10
    most_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB, libraries included
    assert most_memory < 4 * 2**20


damaged = st.builds(cut_or_changed, st.sampled_from(CONTENTS), st.integers(0, 2**32))


@settings(max_examples=150)
@given(damaged)
def test_damaged_images_are_read_or_refused(content):
    read_damaged(content)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(damaged)
def test_ten_thousand_damaged_images_are_read_or_refused(content):
    read_damaged(content)


# --- Pixels by the header ---


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp", "bmp"])
def test_pixels_are_counted_by_the_header(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    red().save(path)
    assert count_pixels(path) == count_pixels(path.read_bytes()) == 24 * 32
    assert count_pixels(path, most=24 * 32) == 24 * 32
    with pytest.raises(image_files.ImageTooLarge, match=r"at most 767 pixels.*24 x 32 .* in b"):
        count_pixels(path.read_bytes(), "b", most=24 * 32 - 1)


def test_tiffs_that_only_tifffile_reads_are_counted(tmp_path):
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6, 7), np.float64), **options)
    assert count_pixels(tmp_path / "a.tif") == 5 * 6


def test_counting_decodes_nothing(tmp_path):
    file = io.BytesIO()
    red().save(file, "PNG")
    damaged = file.getvalue()[:-25]  # the end of its pixels is missing
    assert count_pixels(damaged) == 24 * 32
    with pytest.raises(ValueError):
        read_pixels(damaged)
    with pytest.raises(image_files.ImageFileError, match="readable image"):
        count_pixels(b"text")


def test_too_large_png_is_refused_before_its_orientation_is_read(monkeypatch):
    """Pillow decodes the pixels of a PNG to find its orientation."""
    file = io.BytesIO()
    red().save(file, "PNG")
    monkeypatch.setattr(limits, "MOST_PIXELS", 24 * 32 - 1)
    monkeypatch.setattr(Image.Image, "getexif", lambda _: pytest.fail("decodes the pixels"))
    with pytest.raises(image_files.ImageTooLarge):
        read_size(file.getvalue())


def test_animation_of_many_frames_is_refused_at_once():
    start = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    frame = b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    begin = time.process_time()
    with pytest.raises(ValueError, match="several pages or frames"):
        read_pixels(start + frame * 1_000_000 + b";")
    assert time.process_time() - begin < 1

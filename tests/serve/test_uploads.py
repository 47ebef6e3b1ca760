"""Images out of bodies: JSON, names, sizes before pixels, damage."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from fake_detector import boxes_image, png
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra [serve]")

from mrcnn.serve import uploads
from mrcnn.serve.errors import RequestError
from mrcnn.serve.settings import Settings
from mrcnn.serve.uploads import Upload

SETTINGS = Settings(max_pixels=10_000)


def status(function, *args):
    with pytest.raises(RequestError) as refused:
        function(*args)
    assert "Received: " in refused.value.sentence
    return refused.value.status


def encoded(data):
    return base64.b64encode(data).decode()


def test_json_takes_one_image_or_several_with_names():
    text = encoded(b"abc")
    assert uploads.from_json(json.dumps({"image": text}).encode()) == [Upload("image_1", b"abc")]
    both = [f"data:image/png;base64,{text}", {"name": "folder/a.png", "data": text}]
    found = uploads.from_json(json.dumps({"images": both}).encode())
    assert found == [Upload("image_1", b"abc"), Upload("a.png", b"abc")]
    assert uploads.from_json(b'{"images": []}') == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"image": 5}',
        b'{"images": "abcd"}',
        b'{"images": [{"name": 3, "data": "abcd"}]}',
        b'{"image": "ab!d"}',
        b'{"image": "abc"}',
        b'{"image": "\xc3\xa4"}',
    ],
)
def test_json_without_an_image_is_a_wrong_request(body):
    assert status(uploads.from_json, body) == 400


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "image"),
        ("", "image"),
        ("..", ".."),
        ("../../etc/passwd", "passwd"),
        ("C:\\images\\a.png", "a.png"),
        ("a\nb\u202e\x00.png", "a b .png"),
        ("x" * 500, f"{'x' * 98}...{'x' * 98}"),
    ],
)
def test_names_lose_folders_and_control_characters(name, expected):
    assert uploads._base_name(name) == expected


def test_sizes_come_from_headers():
    files = [Upload("a.png", png(boxes_image(size=(20, 30)))), Upload("b.png", png(boxes_image()))]
    assert uploads.check_sizes([], SETTINGS) == 0
    assert uploads.check_sizes(files, SETTINGS) == 20 * 30 + 40 * 60


def bomb(width, height):
    """A PNG that claims this size, with the pixels of another."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    written = [
        (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        for chunk in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize("size", [(101, 100), (30_000, 30_000), (2**31 - 1, 1), (1, 200_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(size):
    assert status(uploads.check_sizes, [Upload("a.png", bomb(*size))], SETTINGS) == 413


@pytest.mark.parametrize("data", [b"", b"text", b"%PDF-1.7", b"GIF89a", png(boxes_image())[:20]])
def test_what_is_no_image_is_refused(data):
    assert status(uploads.check_sizes, [Upload("a.png", data)], SETTINGS) == 415


def test_truncated_image_is_refused_by_its_name():
    data = png(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8))
    with pytest.raises(RequestError, match=r"a\.png") as refused:
        uploads.decode_images([Upload("a.png", data[: len(data) // 2])], 3)
    assert refused.value.status == 415


def test_images_are_upright_and_have_the_channels_of_the_network():
    image = Image.fromarray(np.uint8([[10, 20, 30], [40, 50, 60]]))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    (found,) = uploads.decode_images([Upload("a.png", file.getvalue())], 3)
    assert found.shape == (3, 2, 3)
    assert found[:, :, 0].tolist() == [[40, 10], [50, 20], [60, 30]]

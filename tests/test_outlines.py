"""Outlines to masks, by hand-counted pixels; and files that readers share."""

import base64
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn import outlines

SIZE = (30, 40)


def test_no_outlines_are_no_masks():
    assert outlines.decode([], SIZE).shape == (30, 40, 0)
    assert coco_mask.area(outlines.encode(np.zeros(SIZE, bool))) == 0


def test_a_rectangle_fills_the_pixels_between_its_sides():
    mask = outlines.decode([outlines.polygons_to_rle([outlines.rectangle(3, 4, 8, 14)], SIZE)], SIZE)[:, :, 0]
    expected = np.zeros(SIZE, bool)
    expected[3:8, 4:14] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(outlines.decode([outlines.encode(expected)], SIZE)[:, :, 0], expected)


def test_parts_are_joined_and_what_lies_outside_is_cut_off():
    parts = [outlines.rectangle(0, 0, 2, 2), outlines.rectangle(1, 1, 3, 3), outlines.rectangle(-5, 38, 4, 99)]
    rle = outlines.polygons_to_rle(parts, SIZE)
    assert coco_mask.area(rle) == 4 + 4 - 1 + 4 * 2  # two squares share a pixel; 4 rows of 2 columns are inside


def test_an_ellipse_has_its_area_and_its_extent():
    points = np.array(outlines.ellipse(20, 15, 8, 4, math.pi / 2)).reshape(-1, 2)
    assert len(points) == 100
    # turned by a quarter: 4 across and 8 down
    np.testing.assert_allclose([points.min(axis=0), points.max(axis=0)], [[16, 7], [24, 23]], atol=1e-9)
    x, y = points.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(8 * 4 * 50 * math.sin(2 * math.pi / 100))  # of a polygon of 100 corners


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        ([(0, 0), (40, 0), (40, 30), (0, 30)], 1200),
        ([(4, 3), (14, 3), (14, 8), (4, 8)], 50),
        ([(4, 3), (4, 8), (14, 8), (14, 3)], 50),  # the other way round
        ([(4, 3), (14, 3), (14, 8), (4, 8)] * 2, 0),  # enclosed twice is outside
        ([(-99, -99), (99, -99), (99, 99), (-99, 99)], 1200),
        ([(0, 0), (10, 0), (0, 10)], 45),  # centres under the diagonal: 9 + 8 + ... + 1, those on it are not
        ([(5, 5)] * 4, 0),
        ([(50, 0), (60, 0), (60, 30)], 0),
    ],
)
def test_even_odd_filling(points, pixels):
    assert outlines.fill_even_odd(np.array(points, float), SIZE).sum() == pixels


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-50, 90), st.integers(-50, 80)), min_size=3, max_size=8))
def test_even_odd_filling_is_what_point_by_point_says(points):
    points = np.array(points, float)
    filled = outlines.fill_even_odd(points, SIZE)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = np.zeros(SIZE, bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crossed = (x1 <= x) != (x2 <= x)  # a ray upwards crosses this edge where the edge lies above
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crossed & (y1 + (x - x1) * (y2 - y1) / (x2 - x1) <= y)
    assert (filled != inside).sum() <= 1  # a centre on the very edge may be rounded to either side


def test_100_000_tangled_points_just_work():
    around = outlines.rectangle(1, 1, 29, 39)
    # around and around, 28 + 38 + 28 + 38 px each time: 3.3 million px, of which pycocotools would make gigabytes
    assert outlines.LONGEST_WALK < 25_001 * 132
    rle = outlines.polygons_to_rle([around * 25_001], SIZE)
    assert coco_mask.area(rle) == 28 * 38  # enclosed an odd number of times


def test_the_two_ways_of_filling_agree_but_for_the_rim(monkeypatch):
    circle = outlines.ellipse(20, 15, 9, 9)
    usual = outlines.decode([outlines.polygons_to_rle([circle], SIZE)], SIZE)
    monkeypatch.setattr(outlines, "LONGEST_WALK", 0)
    other = outlines.decode([outlines.polygons_to_rle([circle], SIZE)], SIZE)
    assert (usual != other).sum() <= 2 * math.pi * 9 / 2  # pixels that the rim halves


@settings(max_examples=50)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_run_lengths_undo_the_compression(runs):
    side = sum(runs)
    code = coco_mask.frPyObjects({"size": [side, 1], "counts": runs}, side, 1)
    assert outlines.run_lengths(code["counts"].decode()) == runs


def test_points_as_pairs():
    assert outlines.check_points([[1, 2], [3.5, 4]], "x", least=2) == [1.0, 2.0, 3.5, 4.0]
    for bad in (None, [1, 2], [[1, 2, 3]], [{}]):
        with pytest.raises(ValueError, match=r"pairs \[x, y\].*f\.json, shape 3"):
            outlines.check_points(bad, "f.json, shape 3")
    for bad in (math.nan, math.inf, 10**400, "1", None):
        with pytest.raises(ValueError, match=r"finite numbers.*f\.json, shape 3"):
            outlines.check_points([[1, bad], [2, 3], [4, 5]], "f.json, shape 3")
    with pytest.raises(ValueError, match=r"at least 3 points. Received: 2 in f\.json, shape 3"):
        outlines.check_points([[1, 2], [3, 4]], "f.json, shape 3")


def save(path, pixels, **options):
    image = Image.fromarray(pixels)
    if "palette" in options:
        image.putpalette(options["palette"])
    image.save(path)
    return path


def test_label_images_of_every_depth(tmp_path):
    values = np.array([[0, 1, 255]], np.uint8)
    assert outlines.read_indices(save(tmp_path / "8.png", values)).tolist() == [[0, 1, 255]]
    assert outlines.read_indices(save(tmp_path / "1.png", values > 1)).tolist() == [[0, 0, 1]]
    deep = np.array([[0, 300, 65535]], np.uint16)
    assert outlines.read_indices(save(tmp_path / "16.png", deep)).tolist() == [[0, 300, 65535]]
    assert outlines.read_indices(save(tmp_path / "16.tif", deep)).tolist() == [[0, 300, 65535]]
    palette = [0, 0, 0, 9, 9, 9] + [7, 7, 7] * 254  # two indices of one colour stay two
    assert outlines.read_indices(save(tmp_path / "p.png", values, palette=palette)).tolist() == [[0, 1, 255]]
    colours = np.array([[[0, 0, 0, 255], [1, 0, 2, 255], [0, 1, 0, 0]]], np.uint8)
    expected = [[0, 0x10002, 0x100]]  # alpha is no colour
    assert outlines.read_indices(save(tmp_path / "rgb.png", colours[:, :, :3].copy())).tolist() == expected
    assert outlines.read_indices(save(tmp_path / "rgba.png", colours)).tolist() == expected
    Image.new("LA", (2, 1), (5, 0)).save(tmp_path / "la.png")
    assert outlines.read_indices(tmp_path / "la.png").tolist() == [[5, 5]]


def test_what_is_no_label_image_is_named(tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image. Received: .*no\.png"):
        outlines.read_indices(tmp_path / "no.png")
    with pytest.raises(ValueError, match=r"mask file must exist. Received: .*gone\.png"):
        outlines.read_indices(tmp_path / "gone.png")
    save(tmp_path / "f.tif", np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"whole numbers or colours. Received: .*f\.tif of float32"):
        outlines.read_indices(tmp_path / "f.tif")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b"[" + b"1" * 5000 + b"]"])
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json must be complete JSON"):
        outlines.read_json(path)
    with pytest.raises(ValueError, match=r"gone\.json must be a readable file"):
        outlines.read_json(tmp_path / "gone.json")


def test_long_values_are_cut():
    assert outlines.short([1, 2]) == "[1, 2]"
    assert outlines.short(base64.b64encode(bytes(90)), length=10) == "b'AAAAAAAA..."

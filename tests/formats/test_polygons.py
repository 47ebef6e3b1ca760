"""Outlines to masks, by hand-counted pixels; and files that readers share."""

import base64
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.data.dataset import Dataset
from mrcnn.files import limits
from mrcnn.formats import polygons as outlines

SIZE = (30, 40)


def test_no_outlines_are_no_masks():
    assert outlines.decode([], SIZE).shape == (30, 40, 0)
    assert coco_mask.area(outlines.encode(np.zeros(SIZE, bool))) == 0


def test_a_rectangle_fills_the_pixels_between_its_sides():
    mask = outlines.decode(
        [outlines.polygons_to_rle([outlines.rectangle(3, 4, 8, 14)], SIZE)], SIZE
    )[:, :, 0]
    expected = np.zeros(SIZE, bool)
    expected[3:8, 4:14] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(
        outlines.decode([outlines.encode(expected)], SIZE)[:, :, 0], expected
    )


def test_parts_are_joined_and_what_lies_outside_is_cut_off():
    parts = [
        outlines.rectangle(0, 0, 2, 2),
        outlines.rectangle(1, 1, 3, 3),
        outlines.rectangle(-5, 38, 4, 99),
    ]
    rle = outlines.polygons_to_rle(parts, SIZE)
    assert (
        coco_mask.area(rle) == 4 + 4 - 1 + 4 * 2
    )  # two squares share a pixel; 4 rows of 2 columns are inside


def test_50_000_parts_are_joined_in_no_quadratic_time():
    y, x = np.divmod(np.arange(50_000), 250)
    parts = [
        outlines.rectangle(2 * i, 2 * j, 2 * i + 1, 2 * j + 1) for i, j in zip(y, x, strict=True)
    ]
    rle = outlines.polygons_to_rle(parts, (400, 500))
    mask = outlines.decode([rle], (400, 500))[:, :, 0]  # every second pixel of every second row
    assert mask.sum() == 50_000 and mask[::2, ::2].all()


def test_an_ellipse_has_its_area_and_its_extent():
    points = np.array(outlines.ellipse(20, 15, 8, 4, math.pi / 2)).reshape(-1, 2)
    assert len(points) == 100
    # turned by a quarter: 4 across and 8 down
    np.testing.assert_allclose(
        [points.min(axis=0), points.max(axis=0)], [[16, 7], [24, 23]], atol=1e-9
    )
    x, y = points.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(
        8 * 4 * 50 * math.sin(2 * math.pi / 100)
    )  # of a polygon of 100 corners


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        ([(0, 0), (40, 0), (40, 30), (0, 30)], 1200),
        ([(4, 3), (14, 3), (14, 8), (4, 8)], 50),
        ([(4, 3), (4, 8), (14, 8), (14, 3)], 50),  # the other way round
        ([(4, 3), (14, 3), (14, 8), (4, 8)] * 2, 0),  # enclosed twice is outside
        ([(-99, -99), (99, -99), (99, 99), (-99, 99)], 1200),
        (
            [(0, 0), (10, 0), (0, 10)],
            45,
        ),  # centres under the diagonal: 9 + 8 + ... + 1, those on it are not
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
        crossed = (x1 <= x) != (
            x2 <= x
        )  # a ray upwards crosses this edge where the edge lies above
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


def test_a_number_without_end_in_a_code_is_refused_in_linear_time():
    with pytest.raises(
        ValueError, match=r"at most 7 characters. Received: 10000000 in 'oooo.*in f\.json"
    ):
        outlines.run_lengths("o" * 10**7, "f.json")


def test_a_broken_off_code_has_the_runs_before():
    assert outlines.run_lengths("") == outlines.run_lengths("abc") == []
    whole = coco_mask.frPyObjects({"size": [9, 1], "counts": [2, 3, 4]}, 9, 1)["counts"].decode()
    assert outlines.run_lengths(whole + "oo") == [2, 3, 4]


def test_whole_numbers():
    for value, number in (
        (3, 3),
        (60.0, 60),
        (-2, -2),
        (0.5, None),
        (math.nan, None),
        (math.inf, None),
    ):
        assert outlines.whole(value) == number
    for value in (True, "3", None, [3]):
        assert outlines.whole(value) is None
    assert (
        outlines.is_side(60.0)
        and outlines.is_side(None)
        and not outlines.is_side(0)
        and not outlines.is_side(1e9)
    )


def test_similar_names_are_told_of(caplog):
    outlines.warn_similar_names(["red", "blue", "red", "dark  blue"], "f.json")
    assert not caplog.text
    outlines.warn_similar_names(["red", "blue", "Red", "dark  blue", "dark blue"], "f.json")
    assert "'red', 'Red', 'dark  blue', 'dark blue' in f.json differ in case" in caplog.text


# --- Claimed sizes ----------------------------------------------------------------------------------------


class OneImage(outlines.OutlinedImages, Dataset):
    """An image of a file, with so many outlines."""

    def __init__(self, path, height=None, width=None, count=1, **info):
        super().__init__()
        self.count = count
        self.add_class("one", 1, "thing")
        self.add_image("one", 0, str(path), height=height, width=width, file="notes.json", **info)
        self.prepare()

    def load_outlines(self, image_id):
        size = self.image_size(image_id)
        return [
            outlines.polygons_to_rle([outlines.rectangle(0, 0, 5, 5)], size)
        ] * self.count, np.ones(self.count, int)


def test_a_claimed_size_is_compared_with_the_file(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for claim in ({}, {"height": 30, "width": 40}, {"height": 30.0, "width": 40.0}, {"height": 30}):
        assert OneImage(tmp_path / "a.png", **claim).load_mask(0)[0].shape == (30, 40, 1)
    for height, width in ((31, 40), (40, 30)):
        message = rf"Received: {height} x {width} .*in notes\.json, and 30 x 40 px of .*a\.png\. Try to export"
        with pytest.raises(ValueError, match=message):
            OneImage(tmp_path / "a.png", height, width).load_mask(0)
    assert OneImage(tmp_path / "gone.png", 31, 40).load_mask(0)[0].shape == (
        31,
        40,
        1,
    )  # nothing to compare with
    assert OneImage(tmp_path / "a.png", 31, 40, embedded=True).load_mask(0)[0].shape == (31, 40, 1)
    with pytest.raises(ValueError, match=r"must exist. Received: .*gone\.png"):
        OneImage(tmp_path / "gone.png").load_mask(0)


def test_a_size_claimed_before_the_exif_rotation_is_told_as_such(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert OneImage(tmp_path / "a.jpg", 40, 30).image_size(0) == (40, 30)
    with pytest.raises(
        ValueError,
        match=r"Received: 30 x 40 .*40 x 30 px of .*a\.jpg: its EXIF orientation turns it",
    ):
        OneImage(tmp_path / "a.jpg", 30, 40).image_size(0)


def test_masks_are_not_drawn_beyond_the_limits(tmp_path, monkeypatch):
    for size in ((100_000, 100_000), (1, 100_001)):
        with pytest.raises(ValueError, match=r"at most 178,956,970 pixels.*gone\.png"):
            OneImage(tmp_path / "gone.png", *size).load_mask(0)
    monkeypatch.setattr(limits, "MOST_MASK_BYTES", 5 * 1200)
    assert OneImage(tmp_path / "gone.png", 30, 40, count=5).load_mask(0)[0].shape == (30, 40, 5)
    with pytest.raises(ValueError, match=r"6 objects of 30 x 40 pixels in .*gone\.png"):
        OneImage(tmp_path / "gone.png", 30, 40, count=6).load_mask(0)


def test_more_points_than_an_outline_may_have_are_refused(monkeypatch):
    monkeypatch.setattr(outlines, "MOST_POINTS", 4)
    assert len(outlines.check_polygon([1.0] * 8, "x")) == 8
    with pytest.raises(ValueError, match=r"at most 4 points. Received: 5 in f\.json"):
        outlines.check_polygon([1.0] * 10, "f.json")
    with pytest.raises(ValueError, match=r"at most 4 points. Received: 5 in f\.json"):
        outlines.check_points([[1, 2]] * 5, "f.json")


def test_entries_left_out_are_counted_in_one_warning(caplog):
    out = outlines.LeftOut("f.json")
    out.warn(3)
    assert not caplog.text
    out.add(ValueError("one"))
    out.add(ValueError("two"))
    out.warn(3, "images")
    assert (
        out.sentences == ["one", "two"]
        and "2 of 3 images in f.json were left out. The first: one" in caplog.text
    )
    for _ in range(outlines.MOST_SENTENCES):
        out.add(ValueError("three"))
    out.warn(20_000)
    assert len(out.sentences) == outlines.MOST_SENTENCES and "10002 of 20000 entries" in caplog.text
    with pytest.raises(ValueError, match="one"):
        outlines.LeftOut("f.json", strict=True).add(ValueError("one"))


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
    assert outlines.read_indices(save(tmp_path / "p.png", values, palette=palette)).tolist() == [
        [0, 1, 255]
    ]
    colours = np.array([[[0, 0, 0, 255], [1, 0, 2, 255], [0, 1, 0, 0]]], np.uint8)
    expected = [[0, 0x10002, 0x100]]  # alpha is no colour
    assert (
        outlines.read_indices(save(tmp_path / "rgb.png", colours[:, :, :3].copy())).tolist()
        == expected
    )
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
    with pytest.raises(
        ValueError, match=r"whole numbers or colours. Received: .*f\.tif of float32"
    ):
        outlines.read_indices(tmp_path / "f.tif")


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b"[" + b"1" * 5000 + b"]"]
)
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json must be complete JSON"):
        outlines.read_json(path)
    with pytest.raises(ValueError, match=r"gone\.json must be a readable file"):
        outlines.read_json(tmp_path / "gone.json")


LAUGHS = "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 11))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("<a>", "no element found"),
        ("", "no element found"),
        ("<a>&b;</a>", "undefined entity"),
        ("<!DOCTYPE a><a/>", "a DOCTYPE"),
        (f"<!DOCTYPE a [<!ENTITY a0 'lol'>{LAUGHS}]><a>&a10;</a>", "a DOCTYPE"),
        ("<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>&e;</a>", "a DOCTYPE"),
        ("<a>" * 300_000, "100 deep"),
        ("<?xml version='1.0' encoding='nonsense'?><a/>", "unknown encoding"),
    ],
)
def test_xml_that_is_damaged_or_hostile_is_named(tmp_path, content, why):
    path = tmp_path / "bad.xml"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"bad\.xml must be complete XML.*{why}.*Try "):
        outlines.read_xml(path)


def test_xml_is_read(tmp_path):
    path = tmp_path / "good.xml"
    path.write_text("<?xml version='1.0'?><a>" + "<b>1 &amp; 2</b><b>3</b>" * 200 + "</a>")
    assert [b.text for b in outlines.read_xml(path)] == ["1 & 2", "3"] * 200
    with pytest.raises(ValueError, match=r"gone\.xml must be a readable file"):
        outlines.read_xml(tmp_path / "gone.xml")


def test_values_nested_too_deeply_are_named():
    value = []
    for _ in range(100_000):
        value = [value]
    assert outlines.short(value) == "a list nested too deeply"


def test_long_values_are_cut():
    assert outlines.short([1, 2]) == "[1, 2]"
    assert outlines.short(base64.b64encode(bytes(90)), length=10) == "b'AAAAAAAA..."

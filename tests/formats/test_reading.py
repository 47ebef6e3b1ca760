"""What readers share: sizes, skipped entries, files."""

import numpy as np
import pytest
from PIL import Image

from mrcnn.data.dataset import Dataset
from mrcnn.files import limits
from mrcnn.formats import polygons, reading


def test_similar_class_names_are_warned_of(caplog):
    reading.warn_similar_names(["red", "blue", "red", "dark  blue"], "f.json")
    assert not caplog.text
    reading.warn_similar_names(["red", "blue", "Red", "dark  blue", "dark blue"], "f.json")
    assert "'red', 'Red', 'dark  blue', 'dark blue' in f.json differ only in case" in caplog.text


class OneImage(reading.RLEImages, Dataset):
    """An image file with `count` objects."""

    def __init__(self, path, height=None, width=None, count=1, **info):
        super().__init__()
        self.count = count
        self.add_class("one", 1, "thing")
        self.add_image("one", 0, str(path), height=height, width=width, file="notes.json", **info)
        self.prepare()

    def load_rles(self, image_id):
        size = self.image_size(image_id)
        return [
            polygons.polygons_to_rle([polygons.rectangle(0, 0, 5, 5)], size)
        ] * self.count, np.ones(self.count, int)


def test_annotated_size_is_compared_with_the_file(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for claim in ({}, {"height": 30, "width": 40}, {"height": 30.0, "width": 40.0}, {"height": 30}):
        assert OneImage(tmp_path / "a.png", **claim).load_mask(0)[0].shape == (30, 40, 1)
    for height, width in ((31, 40), (40, 30)):
        received = rf"{height} x {width} .*in notes\.json, and 30 x 40 px of .*a\.png"
        message = rf"Received: {received}\. Try to export"
        with pytest.raises(ValueError, match=message):
            OneImage(tmp_path / "a.png", height, width).load_mask(0)
    assert OneImage(tmp_path / "gone.png", 31, 40).load_mask(0)[0].shape == (
        31,
        40,
        1,
    )  # no file to compare with
    assert OneImage(tmp_path / "a.png", 31, 40, embedded=True).load_mask(0)[0].shape == (31, 40, 1)
    with pytest.raises(ValueError, match=r"must exist. Received: .*gone\.png"):
        OneImage(tmp_path / "gone.png").load_mask(0)


def test_size_annotated_before_exif_rotation_has_its_own_message(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert OneImage(tmp_path / "a.jpg", 40, 30).image_size(0) == (40, 30)
    with pytest.raises(
        ValueError,
        match=r"Received: 30 x 40 .*40 x 30 px of .*a\.jpg: its EXIF orientation rotates it",
    ):
        OneImage(tmp_path / "a.jpg", 30, 40).image_size(0)


def test_masks_beyond_the_limits_are_refused(tmp_path, monkeypatch):
    for size in ((100_000, 100_000), (1, 100_001)):
        with pytest.raises(ValueError, match=r"at most 178,956,970 pixels.*gone\.png"):
            OneImage(tmp_path / "gone.png", *size).load_mask(0)
    monkeypatch.setattr(limits, "MOST_MASK_BYTES", 5 * 1200)
    assert OneImage(tmp_path / "gone.png", 30, 40, count=5).load_mask(0)[0].shape == (30, 40, 5)
    with pytest.raises(ValueError, match=r"6 objects of 30 x 40 pixels in .*gone\.png"):
        OneImage(tmp_path / "gone.png", 30, 40, count=6).load_mask(0)


def test_skipped_entries_are_counted_in_one_warning(caplog):
    out = reading.SkippedEntries("f.json")
    out.warn(3)
    assert not caplog.text
    out.add(ValueError("one"))
    out.add(ValueError("two"))
    out.warn(3, "images")
    assert (
        out.reasons == ["one", "two"]
        and "2 of 3 images in f.json were left out. The first: one" in caplog.text
    )
    for _ in range(reading.MAX_REASONS):
        out.add(ValueError("three"))
    out.warn(20_000)
    assert len(out.reasons) == reading.MAX_REASONS and "10002 of 20000 entries" in caplog.text
    with pytest.raises(ValueError, match="one"):
        reading.SkippedEntries("f.json", strict=True).add(ValueError("one"))


def save(path, pixels, **options):
    image = Image.fromarray(pixels)
    if "palette" in options:
        image.putpalette(options["palette"])
    image.save(path)
    return path


def test_label_images_of_every_depth(tmp_path):
    values = np.array([[0, 1, 255]], np.uint8)
    assert reading.read_indices(save(tmp_path / "8.png", values)).tolist() == [[0, 1, 255]]
    assert reading.read_indices(save(tmp_path / "1.png", values > 1)).tolist() == [[0, 0, 1]]
    deep = np.array([[0, 300, 65535]], np.uint16)
    assert reading.read_indices(save(tmp_path / "16.png", deep)).tolist() == [[0, 300, 65535]]
    assert reading.read_indices(save(tmp_path / "16.tif", deep)).tolist() == [[0, 300, 65535]]
    palette = [0, 0, 0, 9, 9, 9] + [7, 7, 7] * 254  # two indices of one color stay two
    assert reading.read_indices(save(tmp_path / "p.png", values, palette=palette)).tolist() == [
        [0, 1, 255]
    ]
    colors = np.array([[[0, 0, 0, 255], [1, 0, 2, 255], [0, 1, 0, 0]]], np.uint8)
    expected = [[0, 0x10002, 0x100]]  # alpha is no color
    assert (
        reading.read_indices(save(tmp_path / "rgb.png", colors[:, :, :3].copy())).tolist()
        == expected
    )
    assert reading.read_indices(save(tmp_path / "rgba.png", colors)).tolist() == expected
    Image.new("LA", (2, 1), (5, 0)).save(tmp_path / "la.png")
    assert reading.read_indices(tmp_path / "la.png").tolist() == [[5, 5]]


def test_other_files_than_label_images_are_refused(tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image. Received: .*no\.png"):
        reading.read_indices(tmp_path / "no.png")
    with pytest.raises(ValueError, match=r"mask file must exist. Received: .*gone\.png"):
        reading.read_indices(tmp_path / "gone.png")
    save(tmp_path / "f.tif", np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"whole numbers or colors. Received: .*f\.tif of float32"):
        reading.read_indices(tmp_path / "f.tif")


@pytest.mark.parametrize(
    "content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b"[" + b"1" * 5000 + b"]"]
)
def test_unreadable_json_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json must be complete JSON"):
        reading.read_json(path)
    with pytest.raises(ValueError, match=r"gone\.json must be a readable file"):
        reading.read_json(tmp_path / "gone.json")


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
def test_damaged_or_hostile_xml_is_refused(tmp_path, content, why):
    path = tmp_path / "bad.xml"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"bad\.xml must be complete XML.*{why}.*Try "):
        reading.read_xml(path)


def test_read_xml_returns_the_root_element(tmp_path):
    path = tmp_path / "good.xml"
    path.write_text("<?xml version='1.0'?><a>" + "<b>1 &amp; 2</b><b>3</b>" * 200 + "</a>")
    assert [b.text for b in reading.read_xml(path)] == ["1 & 2", "3"] * 200
    with pytest.raises(ValueError, match=r"gone\.xml must be a readable file"):
        reading.read_xml(tmp_path / "gone.xml")

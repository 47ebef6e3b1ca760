"""The reader of labelme's files, on small files with every trap, and on broken files."""

import base64
import io
import json
import math

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    JUNK,
    WIDTH,
    box_shape,
    boxes_of,
    cut_or_changed,
    labelme,
    names_of,
    read_or_refuse,
    rect,
    region,
    shape,
    spoiled,
    via,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.formats.labelme import LabelmeDataset
from mrcnn.formats.open_dataset import open_dataset
from mrcnn.formats.via import VIADataset

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def png(pixels) -> str:
    """A PNG in base64."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_labelme_without_shapes_keeps_its_image(tmp_path):
    dataset = LabelmeDataset(labelme(tmp_path))
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.dtype == np.int32
    assert dataset.class_names == ["BG"] and dataset.num_images == 1


def test_labelme_reads_every_shape_with_area(tmp_path):
    patch = np.zeros((4, 5), np.uint8)
    patch[1:3, 1:4] = 1
    shapes = [
        shape("dog", [[4, 3], [14, 3], [14, 8], [4, 8]]),
        shape("cat", [[14, 8], [4, 3]], "rectangle"),  # drawn from the lower right corner
        shape(
            "dog", [[20, 15], [23, 19]], "circle"
        ),  # the rim is 3 right and 4 down of the centre: 5 away
        shape("dog", [[30, 20], [34, 23]], "mask", mask=png(patch)),
        shape("cat", [[38, 28], [42, 31]], "mask", mask=png(patch)),  # reaches over the border
        shape("cat", [[-2, -2], [2, 1]], "mask", mask=png(patch)),
    ]
    dataset = LabelmeDataset(labelme(tmp_path, *shapes))
    assert dataset.class_names == ["BG", "cat", "dog"]
    assert names_of(dataset) == ["dog", "cat", "dog", "dog", "cat", "cat"]
    boxes = boxes_of(dataset)
    assert boxes[:3] == [[3, 4, 8, 14], [3, 4, 8, 14], [10, 15, 20, 25]]
    # The ones of the patch are in its rows 1..2 and columns 1..3; at (38, 28) one pixel is inside,
    # at (-2, -2) two.
    assert boxes[3:] == [[21, 31, 23, 34], [29, 39, 30, 40], [0, 0, 1, 2]]
    areas = dataset.load_mask(0)[0].sum(axis=(0, 1))
    assert areas[[0, 1, 3, 4, 5]].tolist() == [50, 50, 6, 1, 2]
    assert areas[2] == pytest.approx(25 * math.pi, rel=0.05)


def test_labelme_first_versions_name_no_shape_type(tmp_path):
    old = {"label": "dog", "points": [[4, 3], [14, 3], [14, 8], [4, 8]], "line_color": None}
    assert boxes_of(LabelmeDataset(labelme(tmp_path, old))) == [[3, 4, 8, 14]]


def test_labelme_shapes_of_one_group_and_label_are_one_object(tmp_path):
    shapes = [
        box_shape("dog", 0, 0, 5, 5, group=1),
        box_shape("cat", 0, 6, 5, 9, group=1),  # another label: another object
        box_shape("dog", 20, 20, 25, 30, group=1),
        box_shape("dog", 10, 0, 12, 3),
        box_shape("dog", 10, 5, 12, 8),  # no group: each an object
    ]
    dataset = LabelmeDataset(labelme(tmp_path, *shapes))
    assert boxes_of(dataset) == [[0, 0, 25, 30], [0, 6, 5, 9], [10, 0, 12, 3], [10, 5, 12, 8]]
    assert names_of(dataset) == ["dog", "cat", "dog", "dog"]
    assert dataset.load_mask(0)[0][:, :, 0].sum() == 25 + 50  # two boxes of 5 x 5 and 5 x 10


def test_labelme_logs_unused_shapes(tmp_path, caplog):
    labelme(
        tmp_path,
        box_shape("__ignore__"),
        box_shape("dog"),
        shape("dog", [[1, 1]], "point"),
        shape("dog", [[1, 1], [2, 2]], "line"),
        shape("dog", [[1, 1], [2, 2], [3, 1]], "linestrip"),
    )
    labelme(tmp_path, box_shape("__ignore__"), name="b")
    caplog.set_level("INFO", "mrcnn")
    dataset = LabelmeDataset(tmp_path)
    assert dataset.class_names == ["BG", "dog"] and len(boxes_of(dataset)) == 1
    assert "2 shapes labelled __ignore__" in caplog.text and "3 of 8 files or shapes" in caplog.text
    assert [
        kind in sentence
        for kind, sentence in zip(("point", "line", "linestrip"), dataset.left_out, strict=True)
    ]
    with pytest.raises(ValueError, match="must have an area. Received: a point in"):
        LabelmeDataset(tmp_path, strict=True)


@pytest.mark.parametrize("kind", ["oriented_rectangle", "rotation"])
def test_labelme_rotated_rectangles_are_their_four_corners(tmp_path, kind):
    corners = [[20, 5], [25, 10], [20, 15], [15, 10]]
    dataset = LabelmeDataset(labelme(tmp_path, shape("dog", corners, kind)))
    np.testing.assert_allclose(boxes_of(dataset), [[5, 15, 15, 25]], atol=1)
    assert abs(dataset.load_mask(0)[0].sum() - 50) <= 5


def test_unusable_labelme_files_are_skipped(tmp_path, caplog):
    labelme(tmp_path, box_shape(), name="good")
    labelme(tmp_path, box_shape(), name="larger", imageHeight=60, imageWidth=80)
    labelme(tmp_path, box_shape(), name="text", imageHeight="30")
    labelme(tmp_path, box_shape(), name="gone")
    (tmp_path / "gone.png").unlink()
    labelme(tmp_path, box_shape(), name="page")
    (tmp_path / "page.png").write_text("<html>404</html>")
    labelme(tmp_path, box_shape(), name="whole", imageHeight=30.0, imageWidth=40.0)
    (tmp_path / "torn.json").write_text('{"shapes": [')
    dataset = LabelmeDataset(tmp_path)
    assert [info["id"] for info in dataset.image_info] == ["good", "whole"]
    names = ("gone", "larger", "page", "text", "torn")
    assert [name in sentence for name, sentence in zip(names, dataset.left_out, strict=True)] == [
        True
    ] * 5
    assert "30 and 40. Received: [60, 80]" in dataset.left_out[1]
    with pytest.raises(ValueError, match="must exist, or be embedded"):
        LabelmeDataset(tmp_path, strict=True)


def test_truncated_file_before_others_does_not_hide_them(tmp_path, caplog):
    labelme(tmp_path, box_shape(), name="b")
    (tmp_path / "a.json").write_text('{"shapes": [')
    dataset = open_dataset(tmp_path)
    assert dataset.num_images == 1 and "a.json must be complete JSON" in dataset.left_out[0]
    (tmp_path / "b.json").unlink()
    with pytest.raises(
        ValueError, match=r"known format. Received: .*a\.json must be complete JSON"
    ):
        open_dataset(tmp_path)


def test_labelme_images_without_a_file_are_counted(tmp_path, caplog):
    labelme(tmp_path, box_shape())
    for name in ("b", "c"):
        write_image(tmp_path / f"{name}.png")
    assert LabelmeDataset(tmp_path).num_images == 1
    assert "2 images" in caplog.text and "no labelme file" in caplog.text and "b.png" in caplog.text


def test_labelme_finds_moved_images(tmp_path):
    file = labelme(tmp_path, box_shape(), imagePath="/home/alice/photos/a.png")
    assert LabelmeDataset(file).image_info[0]["path"] == str(tmp_path / "a.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "photos" / "a.png")
    assert boxes_of(LabelmeDataset(tmp_path, images_dir=tmp_path / "photos")) == [[3, 4, 8, 14]]


def test_labelme_embedded_image_of_a_file_that_names_itself(tmp_path):
    pixels = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)
    dataset = LabelmeDataset(
        labelme(tmp_path, box_shape(), imagePath="a.json", imageData=png(pixels))
    )
    np.testing.assert_array_equal(dataset.load_image(0), pixels)


def test_labelme_sizes_are_compared_before_pixels_are_read(tmp_path):
    content = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(content, "PNG")  # 196 million pixels in 24 KB
    large = base64.b64encode(content.getvalue()).decode()
    bomb = shape("dog", [[1, 1], [2, 2]], "mask", mask=large)
    dataset = LabelmeDataset(labelme(tmp_path, box_shape(), bomb))
    assert len(boxes_of(dataset)) == 1 and "a.json, shape 1" in dataset.left_out[0]
    with pytest.raises(ValueError, match="can be used"):
        LabelmeDataset(labelme(tmp_path, imagePath="gone.png", imageData=large))


def test_labelme_folders_and_lists(tmp_path, caplog):
    files = [
        labelme(tmp_path, box_shape("dog"), name="b"),
        labelme(tmp_path, box_shape("cat"), name="a"),
    ]
    (tmp_path / "package.json").write_text("{}")
    dataset = LabelmeDataset(tmp_path)
    assert [info["id"] for info in dataset.image_info] == ["a", "b"]
    assert dataset.image_from_source_map["labelme.b"] == 1
    assert "Skipped 1 JSON files" in caplog.text and "package.json" in caplog.text
    assert names_of(dataset, 1) == ["dog"] and dataset.get_source_class_id(2, "labelme") == 2
    assert [info["id"] for info in LabelmeDataset(files).image_info] == ["b", "a"]
    wider = LabelmeDataset(tmp_path, class_names=["dog", "bird", "cat"])
    assert wider.class_names == ["BG", "dog", "bird", "cat"] and names_of(wider) == ["cat"]
    with pytest.raises(ValueError, match=r"among \['dog'\]. Received: 'cat' in .*a\.json"):
        LabelmeDataset(tmp_path, class_names=["dog"], strict=True)
    assert names_of(LabelmeDataset(tmp_path, class_names=["dog"]), 1) == ["dog"]
    with pytest.raises(ValueError, match=r"package\.json must be a labelme file"):
        LabelmeDataset([*files, tmp_path / "package.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must contain labelme files"):
        LabelmeDataset(tmp_path / "empty")


@pytest.mark.parametrize("path", ["../photos/a.png", "..\\photos\\a.png"])
def test_labelme_images_are_found_relative_to_the_file(tmp_path, path):
    file = labelme(
        tmp_path / "json", box_shape(), imagePath=path, imageHeight=None, imageWidth=None
    )
    write_image(tmp_path / "photos" / "a.png", (31, 41, 3))
    dataset = LabelmeDataset(file)
    assert dataset.load_image(0).shape == (31, 41, 3) and dataset.load_mask(0)[0].shape[:2] == (
        31,
        41,
    )


def test_labelme_embedded_image_replaces_a_missing_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = labelme(tmp_path, box_shape(), imagePath="gone.png", imageData=png(pixels))
    np.testing.assert_array_equal(LabelmeDataset(file).load_image(0), pixels)
    file = labelme(tmp_path, box_shape(), imagePath=None, imageData=png(pixels), imageHeight=None)
    dataset = LabelmeDataset(file)
    assert dataset.load_mask(0)[0].shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(dataset.load_image(0), pixels)
    grey = labelme(tmp_path, imagePath="gone.png", imageData=png(pixels[:, :, 0].copy()))
    np.testing.assert_array_equal(LabelmeDataset(grey).load_image(0)[:, :, 2], pixels[:, :, 0])
    broken = labelme(tmp_path, imagePath="gone.png", imageData="no image")
    with pytest.raises(ValueError, match=r"imageData must hold an image.*a\.json"):
        LabelmeDataset(broken).load_image(0)
    with pytest.raises(ValueError, match=r"must exist, or be embedded.*'gone.png' in .*a\.json"):
        LabelmeDataset(labelme(tmp_path, imagePath="gone.png"))
    script = labelme(
        tmp_path,
        imagePath="gone.png",
        imageData=base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0").decode(),
    )
    with pytest.raises(ValueError, match=r"imageData must hold an image.*a PostScript file"):
        LabelmeDataset(script).load_image(0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("dog", [[1, 1], [2, 2]]), "at least 3 points. Received: 2 "),
        (shape("dog", [[1, 1], [2, math.nan], [3, 3]]), "finite numbers"),
        (shape("dog", [[1, 1], [2, None], [3, 3]]), "finite numbers"),
        (shape("dog", [1, 2, 3, 4, 5, 6]), r"pairs \[x, y\]"),
        (shape("dog", [[1, 1]], "rectangle"), "at least 2 points. Received: 1 "),
        (shape("dog", [[1, 1]], "circle"), "at least 2 points. Received: 1 "),
        (shape("dog", [[1e308, 1], [-1e308, 1]], "circle"), "finite radius"),
        (
            shape("dog", [[1, 1], [2, 2]], "blob"),
            "oriented_rectangle, circle or mask. Received: 'blob'",
        ),
        (shape("dog", [[1, 1], [2, 2]], "rectangle", group=[1]), r"group_id .*Received: \[1\]"),
        (shape("", [[1, 1], [2, 2]], "rectangle"), "must have a label"),
        (shape(None, [[1, 1], [2, 2]], "rectangle"), "must have a label"),
        ("text", "must have a label. Received: 'text'"),
        (shape("dog", [[1, 1], [1, 2]], "rectangle"), "a width and a height"),
        (shape("dog", [[1, 1], [2, 2]], "mask", mask="AAAA"), "PNG in base64. Received: 'AAAA'"),
        (shape("dog", [[1, 1], [2, 2]], "mask"), "PNG in base64. Received: None"),
    ],
)
def test_unusable_labelme_shapes_are_skipped(tmp_path, bad, message):
    file = labelme(tmp_path, box_shape(), bad)
    dataset = LabelmeDataset(file)
    assert boxes_of(dataset) == [[3, 4, 8, 14]] and len(dataset.left_out) == 1
    with pytest.raises(ValueError, match=message) as caught:
        LabelmeDataset(file, strict=True)
    assert "a.json, shape 1" in str(caught.value) and "Try " in str(caught.value)


def test_labelme_polygon_of_100_000_points(tmp_path):
    t = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = np.stack([20 + 8 * np.cos(t), 15 + 8 * np.sin(t)], axis=-1).tolist()
    masks, _ = LabelmeDataset(labelme(tmp_path, shape("dog", circle))).load_mask(0)
    assert masks.sum() == pytest.approx(64 * math.pi, abs=8 * math.pi)  # half a pixel all around


LABELME_SHAPES = [
    box_shape("dog", group=1),
    shape("dog", [[1, 1], [9, 1], [9, 9]], group=1),
    shape("cat", [[20, 15], [23, 19]], "circle"),
    shape("cat", [[3, 3], [5, 4]], "mask", mask=png(np.ones((2, 3), np.uint8))),
]


@FUZZ
@given(seed=st.integers(0, 2**32), junk=JUNK)
def test_corrupt_labelme_values_raise_only_value_errors_with_a_remedy(tmp_path, seed, junk):
    path = labelme(tmp_path, *LABELME_SHAPES)
    path.write_text(json.dumps(spoiled(json.loads(path.read_text()), seed, junk)))
    read_or_refuse(lambda: LabelmeDataset(path))


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_damaged_labelme_file_raises_only_value_errors_with_a_remedy(tmp_path, seed):
    path = labelme(tmp_path, *LABELME_SHAPES)
    path.write_bytes(cut_or_changed(path.read_bytes(), seed))
    read_or_refuse(lambda: LabelmeDataset(path))


@pytest.mark.parametrize("names", [("dog", "Dog"), ("big dog", "Big Dog")])
def test_classes_that_differ_in_case_are_warned_of(tmp_path, caplog, names):
    LabelmeDataset(labelme(tmp_path / "labelme", *map(box_shape, names)))
    VIADataset(via(tmp_path, *(region(rect(), kind=name) for name in names)))
    assert caplog.text.count("differ only in case or spaces") == 2

"""The readers of VIA's and labelme's files, on small files with every trap, and on broken files."""

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
    polygon,
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

from mrcnn.label_tools import LabelmeDataset, VIADataset

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])

# --- VIA ----------------------------------------------------------------------------------------------------


def test_via_without_regions_keeps_its_images(tmp_path):
    dataset = VIADataset(via(tmp_path), class_name="balloon")
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.dtype == np.int32
    assert dataset.class_names == ["BG", "balloon"]


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("project", [True, False])
def test_via_regions_of_both_versions_with_every_shape(tmp_path, as_dict, project):
    shapes = [
        polygon((4, 3), (14, 3), (14, 8), (4, 8)),
        rect(),
        {"name": "circle", "cx": 20, "cy": 15, "r": 5},
        {"name": "ellipse", "cx": 20, "cy": 15, "rx": 8, "ry": 4},
        {"name": "ellipse", "cx": 20, "cy": 15, "rx": 8, "ry": 4, "theta": math.pi / 2},
        rect(-5, -5, 15, 100),
    ]
    path = via(tmp_path, *[region(s) for s in shapes], as_dict=as_dict, project=project)
    dataset = VIADataset(path)
    boxes = boxes_of(dataset)
    # y 3..8, x 4..14; a circle of radius 5 about (15, 20); 4 up and 8 across; turned; cut at the border
    assert boxes[:2] == [[3, 4, 8, 14]] * 2
    assert boxes[2:5] == [[10, 15, 20, 25], [11, 12, 19, 28], [7, 16, 23, 24]]
    assert boxes[5] == [0, 0, HEIGHT, 10]
    areas = dataset.load_mask(0)[0].sum(axis=(0, 1))
    assert areas[0] == areas[1] == 50 and areas[5] == HEIGHT * 10
    np.testing.assert_allclose(areas[2:5], [25 * math.pi, 32 * math.pi, 32 * math.pi], rtol=0.05)


def test_via_classes_come_from_the_only_attribute(tmp_path):
    path = via(tmp_path, region(rect(), kind="dog", note=""), region(rect(), kind={"cat": True, "dog": False}))
    dataset = VIADataset(path)
    assert dataset.class_names == ["BG", "cat", "dog"]
    assert names_of(dataset) == ["dog", "cat"]
    wider = VIADataset(path, class_names=["dog", "bird", "cat"])
    assert wider.class_names == ["BG", "dog", "bird", "cat"] and names_of(wider) == ["dog", "cat"]
    with pytest.raises(ValueError, match=r"among \['dog'\]. Received: 'cat' in .*'a.png123'"):
        VIADataset(path, class_names=["dog"])


def test_via_asks_which_of_several_attributes(tmp_path):
    path = via(tmp_path, region(rect(), kind="dog", size="big"))
    with pytest.raises(ValueError, match=r"\['kind', 'size'\].*Try a copy .*in Python: attribute='kind'"):
        VIADataset(path)
    assert names_of(VIADataset(path, attribute="size")) == ["big"]
    with pytest.raises(ValueError, match="one class in its attribute 'breed'.*region 0"):
        VIADataset(path, attribute="breed")


def test_via_finds_its_file_in_a_folder(tmp_path):
    via(tmp_path, region(rect()), name="mine.json")
    (tmp_path / "package.json").write_text('{"name": "other"}')
    assert boxes_of(VIADataset(tmp_path)) == [[3, 4, 8, 14]]
    via(tmp_path, region(rect()), name="second.json")
    with pytest.raises(ValueError, match=r"one VIA file. Received: \['mine.json', 'second.json'\]"):
        VIADataset(tmp_path)
    via(tmp_path, region(rect(x=5)))
    assert boxes_of(VIADataset(tmp_path)) == [[3, 5, 8, 15]]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (polygon((1, 1), (2, 2)), "at least 3 points.*4 numbers.*'a.png123', region 1"),
        (polygon((1, 1), (2, math.nan), (3, 3)), "finite numbers.*region 1"),
        (polygon((1, 1), (2, None), (3, 3)), "finite numbers.*region 1"),
        (
            {"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]},
            "as many all_points_x.*region 1",
        ),
        (rect(width=math.inf), r"finite numbers. Received: \[4, 3, inf, 5\].*region 1"),
        ({"name": "circle", "cx": 3, "cy": 4}, r"finite numbers. Received: \[3, 4, None\].*region 1"),
        ({"name": "point", "cx": 3, "cy": 4}, "Received: 'point' in .*region 1"),
    ],
)
def test_via_shapes_that_cannot_be_drawn_are_named(tmp_path, shape, message):
    with pytest.raises(ValueError, match=message) as caught:
        VIADataset(via(tmp_path, region(rect()), region(shape)))
    assert "via_region_data.json" in str(caught.value) and "Try " in str(caught.value)


def test_via_missing_images_are_named(tmp_path):
    path = via(tmp_path, region(rect()))
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"'a.png' in .*entry 'a.png123'.*Try to put the image there.*images_dir="):
        VIADataset(path)
    write_image(tmp_path / "elsewhere" / "a.png")
    assert boxes_of(VIADataset(path, images_dir=tmp_path / "elsewhere")) == [[3, 4, 8, 14]]


def test_far_coordinates_and_many_points_are_no_trouble(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    many = polygon(*zip((20 + 8 * np.cos(angles)).tolist(), (15 + 8 * np.sin(angles)).tolist(), strict=True))
    far = polygon((-1e12, -1e12), (1e12, -1e12), (1e12, 1e12), (-1e12, 1e12))
    masks, _ = VIADataset(via(tmp_path, region(many), region(far))).load_mask(0)
    # a disc of radius 8, its outline of 16 pi moved by at most half a pixel
    assert masks[:, :, 0].sum() == pytest.approx(64 * math.pi, abs=8 * math.pi)
    assert masks[:, :, 1].all()


def test_via_keeps_its_own_ids(tmp_path):
    dataset = VIADataset(via(tmp_path, region(rect(), kind="dog"), region(rect(), kind="cat")))
    assert dataset.image_info[0]["id"] == "a.png123" and dataset.image_from_source_map == {"via.a.png123": 0}
    assert dataset.image_info[0]["class_ids"] == [2, 1] and dataset.map_source_class_id("via.2") == 2


VIA_REGIONS = [
    region(rect(), kind="dog"),
    region(polygon((1, 1), (9, 1), (9, 9)), kind="cat"),
    region({"name": "ellipse", "cx": 20, "cy": 15, "rx": 8, "ry": 4, "theta": 1.0}, kind="dog"),
]


@FUZZ
@given(seed=st.integers(0, 2**32), junk=JUNK)
def test_a_spoiled_via_file_is_read_or_refused_with_a_sentence(tmp_path, seed, junk):
    path = via(tmp_path, *VIA_REGIONS)
    path.write_text(json.dumps(spoiled(json.loads(path.read_text()), seed, junk)))
    read_or_refuse(lambda: VIADataset(path))


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_a_damaged_via_file_is_read_or_refused_with_a_sentence(tmp_path, seed):
    path = via(tmp_path, *VIA_REGIONS)
    path.write_bytes(cut_or_changed(path.read_bytes(), seed))
    read_or_refuse(lambda: VIADataset(path))


# --- labelme ------------------------------------------------------------------------------------------------


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
        shape("dog", [[20, 15], [23, 19]], "circle"),  # the rim is 3 right and 4 down of the centre: 5 away
        shape("dog", [[30, 20], [34, 23]], "mask", mask=png(patch)),
        shape("cat", [[38, 28], [42, 31]], "mask", mask=png(patch)),  # reaches over the border
        shape("cat", [[-2, -2], [2, 1]], "mask", mask=png(patch)),
    ]
    dataset = LabelmeDataset(labelme(tmp_path, *shapes))
    assert dataset.class_names == ["BG", "cat", "dog"]
    assert names_of(dataset) == ["dog", "cat", "dog", "dog", "cat", "cat"]
    boxes = boxes_of(dataset)
    assert boxes[:3] == [[3, 4, 8, 14], [3, 4, 8, 14], [10, 15, 20, 25]]
    # the patch's ones lie in rows 1..2 and columns 1..3 of it; at (38, 28) one pixel is inside, at (-2, -2) two
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


def test_labelme_says_what_it_leaves_out(tmp_path, caplog):
    labelme(
        tmp_path,
        box_shape("__ignore__"),
        box_shape("dog"),
        shape("dog", [[1, 1]], "point"),
        shape("dog", [[1, 1], [2, 2]], "line"),
        shape("dog", [[1, 1], [2, 2], [3, 1]], "linestrip"),
    )
    labelme(tmp_path, box_shape("__ignore__"), name="b")
    dataset = LabelmeDataset(tmp_path)
    assert dataset.class_names == ["BG", "dog"] and len(boxes_of(dataset)) == 1
    assert "2 __ignore__, 1 line, 1 linestrip, 1 point" in caplog.text


def test_labelme_folders_and_lists(tmp_path, caplog):
    files = [labelme(tmp_path, box_shape("dog"), name="b"), labelme(tmp_path, box_shape("cat"), name="a")]
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
        LabelmeDataset(tmp_path, class_names=["dog"])
    with pytest.raises(ValueError, match=r"package\.json must be a labelme file"):
        LabelmeDataset([*files, tmp_path / "package.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold labelme files"):
        LabelmeDataset(tmp_path / "empty")


@pytest.mark.parametrize("path", ["../photos/a.png", "..\\photos\\a.png"])
def test_labelme_images_are_found_from_the_file_on(tmp_path, path):
    file = labelme(tmp_path / "json", box_shape(), imagePath=path, imageHeight=None, imageWidth=None)
    write_image(tmp_path / "photos" / "a.png", (31, 41, 3))
    dataset = LabelmeDataset(file)
    assert dataset.load_image(0).shape == (31, 41, 3) and dataset.load_mask(0)[0].shape[:2] == (31, 41)


def test_labelme_uses_the_embedded_image_where_the_file_is_missing(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = labelme(tmp_path, box_shape(), imagePath="gone.png", imageData=png(picture))
    np.testing.assert_array_equal(LabelmeDataset(file).load_image(0), picture)
    file = labelme(tmp_path, box_shape(), imagePath=None, imageData=png(picture), imageHeight=None)
    dataset = LabelmeDataset(file)
    assert dataset.load_mask(0)[0].shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_array_equal(dataset.load_image(0), picture)
    grey = labelme(tmp_path, imagePath="gone.png", imageData=png(picture[:, :, 0].copy()))
    np.testing.assert_array_equal(LabelmeDataset(grey).load_image(0)[:, :, 2], picture[:, :, 0])
    broken = labelme(tmp_path, imagePath="gone.png", imageData="no image")
    with pytest.raises(ValueError, match=r"imageData must hold an image.*a\.json"):
        LabelmeDataset(broken).load_image(0)
    with pytest.raises(ValueError, match=r"must exist, or be embedded.*'gone.png' in .*a\.json"):
        LabelmeDataset(labelme(tmp_path, imagePath="gone.png"))


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
        (shape("dog", [[1, 1], [2, 2]], "blob"), "polygon, rectangle, circle or mask. Received: 'blob'"),
        (shape("dog", [[1, 1], [2, 2]], "rectangle", group=[1]), r"group_id .*Received: \[1\]"),
        (shape("", [[1, 1], [2, 2]], "rectangle"), "must have a label"),
        (shape(None, [[1, 1], [2, 2]], "rectangle"), "must have a label"),
        ("text", "must have a label. Received: 'text'"),
    ],
)
def test_labelme_shapes_that_cannot_be_drawn_are_named(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message) as caught:
        LabelmeDataset(labelme(tmp_path, box_shape(), bad))
    assert "a.json, shape 1" in str(caught.value) and "Try " in str(caught.value)


def test_labelme_sizes_and_masks_that_cannot_be_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"imageHeight and imageWidth .*'30', 40.*a\.json"):
        LabelmeDataset(labelme(tmp_path, imageHeight="30"))
    dataset = LabelmeDataset(labelme(tmp_path, shape("dog", [[1, 1], [2, 2]], "mask", mask="AAAA")))
    with pytest.raises(ValueError, match=r"PNG in base64. Received: 'AAAA' in .*a\.json, shape 0"):
        dataset.load_mask(0)


def test_labelme_outlines_of_100_000_points(tmp_path):
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
def test_a_spoiled_labelme_file_is_read_or_refused_with_a_sentence(tmp_path, seed, junk):
    path = labelme(tmp_path, *LABELME_SHAPES)
    path.write_text(json.dumps(spoiled(json.loads(path.read_text()), seed, junk)))
    read_or_refuse(lambda: LabelmeDataset(path))


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_a_damaged_labelme_file_is_read_or_refused_with_a_sentence(tmp_path, seed):
    path = labelme(tmp_path, *LABELME_SHAPES)
    path.write_bytes(cut_or_changed(path.read_bytes(), seed))
    read_or_refuse(lambda: LabelmeDataset(path))

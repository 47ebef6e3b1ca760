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

from mrcnn.formats.datasets import open_dataset
from mrcnn.formats.label_tools import LabelmeDataset, VIADataset, foreign_tool

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
    path = via(
        tmp_path,
        region(rect(), kind="dog", note=""),
        region(rect(), kind={"cat": True, "dog": False}),
    )
    dataset = VIADataset(path)
    assert dataset.class_names == ["BG", "cat", "dog"]
    assert names_of(dataset) == ["dog", "cat"]
    wider = VIADataset(path, class_names=["dog", "bird", "cat"])
    assert wider.class_names == ["BG", "dog", "bird", "cat"] and names_of(wider) == ["dog", "cat"]
    narrower = VIADataset(path, class_names=["dog"])
    assert names_of(narrower) == ["dog"] and "region 1" in narrower.left_out[0]
    with pytest.raises(ValueError, match=r"among \['dog'\]. Received: 'cat' in .*'a.png123'"):
        VIADataset(path, class_names=["dog"], strict=True)
    shortened = VIADataset(via(tmp_path, region(rect(), kind="light, red")), class_names=["light"])
    assert names_of(shortened) == ["light"]  # what training shows of that name


def test_via_classes_come_from_the_attribute_that_most_regions_have(tmp_path, caplog):
    regions = [region(rect(), kind="dog", size="big"), region(rect(), kind="cat"), region(rect())]
    path = via(tmp_path, *regions)
    dataset = VIADataset(path)
    assert names_of(dataset) == ["dog", "cat"] and "region 2" in dataset.left_out[0]
    assert (
        "'kind' names the class, which 2 of 3 regions have" in caplog.text
        and "'size'" in caplog.text
    )
    assert names_of(VIADataset(path, attribute="size")) == ["big"]
    with pytest.raises(
        ValueError, match=r"attribute must be among .*\['kind', 'size'\]. Received: 'breed'"
    ):
        VIADataset(path, attribute="breed")


def test_via_closed_polylines_are_outlines_and_open_ones_are_not(tmp_path):
    corners = polygon((4, 3), (14, 3), (14, 8), (4, 8))
    closed = polygon((4, 3), (14, 3), (14, 8), (4, 8), (4, 3))
    dataset = VIADataset(
        via(
            tmp_path,
            region({**corners, "name": "polyline"}),
            region({**closed, "name": "polyline"}),
        )
    )
    assert boxes_of(dataset) == [[3, 4, 8, 14]]
    assert (
        len(dataset.left_out) == 1
        and "an open one in" in dataset.left_out[0]
        and "region 0" in dataset.left_out[0]
    )


def test_via_entries_that_cannot_be_used_are_left_out(tmp_path, caplog):
    path = via(tmp_path, region(rect()), "no region")
    data = json.loads(path.read_text())
    data["gone.png1"] = {"filename": "gone.png", "size": 1, "regions": []}
    data["a.png2"] = {"filename": "a.png", "size": 1, "regions": 3}
    data["x"] = None
    path.write_text(json.dumps(data))
    dataset = VIADataset(path)
    assert dataset.num_images == 1 and boxes_of(dataset) == [[3, 4, 8, 14]]
    assert len(dataset.left_out) == 4 and caplog.text.count("4 of 6 images or regions") == 1
    with pytest.raises(ValueError, match="'gone.png' in"):
        VIADataset(path, strict=True)


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
        (
            {"name": "circle", "cx": 3, "cy": 4},
            r"finite numbers. Received: \[3, 4, None\].*region 1",
        ),
        ({"name": "point", "cx": 3, "cy": 4}, "Received: 'point' in .*region 1"),
        (rect(width=0), "must have a width and a height. Received: 0 and 5 in .*region 1"),
    ],
)
def test_via_shapes_that_cannot_be_drawn_are_left_out(tmp_path, shape, message):
    path = via(tmp_path, region(rect()), region(shape))
    dataset = VIADataset(path)
    assert boxes_of(dataset) == [[3, 4, 8, 14]] and len(dataset.left_out) == 1
    with pytest.raises(ValueError, match=message) as caught:
        VIADataset(path, strict=True)
    assert "via_region_data.json" in str(caught.value) and "Try " in str(caught.value)


def test_via_missing_images_are_named(tmp_path):
    path = via(tmp_path, region(rect()))
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        ValueError, match=r"'a.png' in .*entry 'a.png123'.*Try to put the image there.*--images DIR"
    ):
        VIADataset(path)
    write_image(tmp_path / "elsewhere" / "a.png")
    assert boxes_of(VIADataset(path, images_dir=tmp_path / "elsewhere")) == [[3, 4, 8, 14]]


def test_far_coordinates_and_many_points_are_no_trouble(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    many = polygon(
        *zip((20 + 8 * np.cos(angles)).tolist(), (15 + 8 * np.sin(angles)).tolist(), strict=True)
    )
    far = polygon((-1e12, -1e12), (1e12, -1e12), (1e12, 1e12), (-1e12, 1e12))
    masks, _ = VIADataset(via(tmp_path, region(many), region(far))).load_mask(0)
    # a disc of radius 8, its outline of 16 pi moved by at most half a pixel
    assert masks[:, :, 0].sum() == pytest.approx(64 * math.pi, abs=8 * math.pi)
    assert masks[:, :, 1].all()


def test_via_keeps_its_own_ids(tmp_path):
    dataset = VIADataset(via(tmp_path, region(rect(), kind="dog"), region(rect(), kind="cat")))
    assert dataset.image_info[0]["id"] == "a.png123" and dataset.image_from_source_map == {
        "via.a.png123": 0
    }
    assert (
        dataset.image_info[0]["class_ids"] == [2, 1] and dataset.map_source_class_id("via.2") == 2
    )


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


def test_labelme_files_that_cannot_be_used_are_left_out(tmp_path, caplog):
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


def test_a_torn_file_before_the_others_does_not_hide_them(tmp_path, caplog):
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
    picture = np.full((HEIGHT, WIDTH, 3), 7, np.uint8)
    dataset = LabelmeDataset(
        labelme(tmp_path, box_shape(), imagePath="a.json", imageData=png(picture))
    )
    np.testing.assert_array_equal(dataset.load_image(0), picture)


def test_labelme_claims_are_compared_before_pixels_are_read(tmp_path):
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
    with pytest.raises(ValueError, match="must hold labelme files"):
        LabelmeDataset(tmp_path / "empty")


@pytest.mark.parametrize("path", ["../photos/a.png", "..\\photos\\a.png"])
def test_labelme_images_are_found_from_the_file_on(tmp_path, path):
    file = labelme(
        tmp_path / "json", box_shape(), imagePath=path, imageHeight=None, imageWidth=None
    )
    write_image(tmp_path / "photos" / "a.png", (31, 41, 3))
    dataset = LabelmeDataset(file)
    assert dataset.load_image(0).shape == (31, 41, 3) and dataset.load_mask(0)[0].shape[:2] == (
        31,
        41,
    )


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
def test_labelme_shapes_that_cannot_be_drawn_are_left_out(tmp_path, bad, message):
    file = labelme(tmp_path, box_shape(), bad)
    dataset = LabelmeDataset(file)
    assert boxes_of(dataset) == [[3, 4, 8, 14]] and len(dataset.left_out) == 1
    with pytest.raises(ValueError, match=message) as caught:
        LabelmeDataset(file, strict=True)
    assert "a.json, shape 1" in str(caught.value) and "Try " in str(caught.value)


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


@pytest.mark.parametrize("names", [("dog", "Dog"), ("big dog", "Big Dog")])
def test_classes_that_differ_in_case_are_told(tmp_path, caplog, names):
    LabelmeDataset(labelme(tmp_path / "labelme", *map(box_shape, names)))
    VIADataset(via(tmp_path, *(region(rect(), kind=name) for name in names)))
    assert caplog.text.count("differ in case or blanks only") == 2


# --- Files of other tools -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "tool"),
    [
        ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "Cityscapes"),
        (
            {"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}},
            "VIA 3",
        ),
        ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
        ({"description": "", "tags": [], "size": {}, "objects": []}, "Supervisely"),
        ({"classes": [], "tags": []}, "Supervisely"),
        ({"classes": [], "tags": [], "projectType": "images"}, "Supervisely"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro"),
        ([{"id": 1, "data": {}, "annotations": []}], "Label Studio"),
        ([{"image_id": 1, "category_id": 1, "bbox": [], "score": 1.0}], "COCO results"),
        ([{"image": "a.png", "annotations": []}], "CreateML"),
        ({"weights": "", "class_names": [], "min_confidence": 0.7, "images": []}, "mrcnn detect"),
    ],
)
def test_files_of_other_tools_are_refused_by_name(tmp_path, data, tool):
    assert tool in foreign_tool(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(
        ValueError, match=rf"Received: a\.json, a file of {tool}.*, which is not read. Try "
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("data", [None, 3, "text", [], [1], [[]], {}, {"a": 1}])
def test_files_of_no_known_tool_have_no_name(data):
    assert foreign_tool(data) is None


@pytest.mark.parametrize(
    ("name", "tool"), [("a.geojson", "GeoJSON"), ("a.csv", "a table"), ("gtFine/x", "Cityscapes")]
)
def test_folders_of_other_tools_are_refused_by_name(tmp_path, name, tool):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=rf"Received: .*of {tool}.*, which is not read. Try "):
        open_dataset(tmp_path)

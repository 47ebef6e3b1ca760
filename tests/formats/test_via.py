"""The reader of VIA's files, on small files with every trap, and on broken files."""

import json
import math

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    JUNK,
    WIDTH,
    boxes_of,
    cut_or_changed,
    names_of,
    polygon,
    read_or_refuse,
    rect,
    region,
    spoiled,
    via,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn.formats.via import VIADataset

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
    # y 3..8, x 4..14; a circle of radius 5 about (15, 20); 4 up and 8 across; rotated; clipped
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


def test_via_says_that_no_attribute_names_the_class(tmp_path, caplog):
    caplog.set_level("INFO")
    assert VIADataset(via(tmp_path, region(rect()))).class_names == ["BG", "object"]
    assert "every object is an 'object'" in caplog.text
    caplog.clear()
    VIADataset(via(tmp_path, region(rect())), class_name="balloon")
    assert not caplog.text


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


def test_via_closed_polylines_are_polygons_and_open_ones_are_skipped(tmp_path):
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


def test_unusable_via_entries_are_skipped(tmp_path, caplog):
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
def test_unusable_via_shapes_are_skipped(tmp_path, shape, message):
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


def test_via_far_coordinates_and_many_points(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    many = polygon(
        *zip((20 + 8 * np.cos(angles)).tolist(), (15 + 8 * np.sin(angles)).tolist(), strict=True)
    )
    far = polygon((-1e12, -1e12), (1e12, -1e12), (1e12, 1e12), (-1e12, 1e12))
    masks, _ = VIADataset(via(tmp_path, region(many), region(far))).load_mask(0)
    # a disc of radius 8, its rim of 16 pi moved by at most half a pixel
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
def test_corrupt_via_values_raise_only_value_errors_with_a_remedy(tmp_path, seed, junk):
    path = via(tmp_path, *VIA_REGIONS)
    path.write_text(json.dumps(spoiled(json.loads(path.read_text()), seed, junk)))
    read_or_refuse(lambda: VIADataset(path))


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_damaged_via_file_raises_only_value_errors_with_a_remedy(tmp_path, seed):
    path = via(tmp_path, *VIA_REGIONS)
    path.write_bytes(cut_or_changed(path.read_bytes(), seed))
    read_or_refuse(lambda: VIADataset(path))

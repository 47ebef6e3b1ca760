"""The COCO reader on a small file with every trap of the format, and on broken files."""

import json
import math

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    JUNK,
    WIDTH,
    annotation,
    boxes_of,
    coco,
    cut_or_changed,
    read_or_refuse,
    spoiled,
    write_coco,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.coco import CocoDataset


def test_coco_reads_every_kind_of_segmentation(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    dataset = CocoDataset(write_coco(tmp_path, coco()))
    assert dataset.class_names == ["BG", "cat", "dog"]  # by category id
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [2, 1, -1] and masks.dtype == bool
    assert boxes_of(dataset) == [[3, 4, 25, 30], [10, 10, 20, 20], [0, 2, HEIGHT, 5]]
    # 10 x 5 twice; 100 less a hole of 9; three whole columns
    assert masks.sum(axis=(0, 1)).tolist() == [100, 91, 90]
    assert dataset.load_mask(1)[0].shape == (HEIGHT, WIDTH, 0)
    assert dataset.image_info[0]["id"] == 7 and dataset.get_source_class_id(2, "coco") == 90
    assert dataset.load_image(0).shape == (HEIGHT, WIDTH, 3)
    assert caplog.text == ""


def test_coco_without_any_annotation(tmp_path):
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[])))
    assert dataset.num_images == 2
    assert dataset.load_mask(0)[0].shape == (HEIGHT, WIDTH, 0)


def test_coco_keeps_chosen_classes_and_all_images(tmp_path):
    path = write_coco(tmp_path, coco())
    dataset = CocoDataset(path, class_ids=[90])
    assert dataset.class_names == ["BG", "dog"] and dataset.num_images == 2
    assert dataset.load_mask(0)[1].tolist() == [1]
    with pytest.raises(ValueError, match=r"Received: \[5\].*18: 'cat'"):
        CocoDataset(path, class_ids=[90, 5])


def test_coco_files_one_after_the_other_make_one_dataset(tmp_path):
    """As the sample loads `train` and `valminusminival` of 2014."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "a.png")
        write_image(tmp_path / name / "b.png")
    dataset = CocoDataset(write_coco(tmp_path / "one", coco()))
    dataset.add_file(write_coco(tmp_path / "two", coco()))
    dataset.prepare()
    assert dataset.num_images == 4 and dataset.class_names == ["BG", "cat", "dog"]
    np.testing.assert_array_equal(dataset.load_mask(2)[0], dataset.load_mask(0)[0])
    assert dataset.image_info[2]["path"] == str(tmp_path / "two" / "a.png")


def test_coco_finds_its_images_in_the_usual_places(tmp_path):
    for place in ("annotations", "val2017", "annotations/images"):
        folder = tmp_path / place.replace("/", "_")
        path = write_coco(folder / "annotations", coco(), "instances_val2017.json")
        file = write_image(folder / place / "a.png")
        assert CocoDataset(path).image_info[0]["path"] == str(file)
    write_image(tmp_path / "my" / "a.png")
    assert CocoDataset(path, tmp_path / "my").image_info[0]["path"] == str(tmp_path / "my" / "a.png")


def test_coco_missing_images_are_counted_and_named_when_asked_for(tmp_path, caplog):
    dataset = CocoDataset(write_coco(tmp_path, coco()))
    assert "2 of 2 images" in caplog.text and "a.png" in caplog.text and "Try to put them there" in caplog.text
    assert len(dataset.load_mask(0)[1]) == 3  # masks need no image where the file knows the sizes
    with pytest.raises(ValueError, match=r"a\.png"):
        dataset.load_image(0)


def test_coco_sizes_come_from_the_image_where_the_file_has_none(tmp_path):
    write_image(tmp_path / "a.png")
    data = coco(images=[{"id": 7, "file_name": "a.png"}])
    assert boxes_of(CocoDataset(write_coco(tmp_path, data)))[1] == [10, 10, 20, 20]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation(5, 90, [[1, 1, 2, 2]]), "at least 3 points.*annotation 5"),
        (annotation(5, 90, [[1, 1, 2, 2, 3, 3, 4]]), "at least 3 points.*7 numbers.*annotation 5"),
        (annotation(5, 90, [[1, 1, 2, math.nan, 3, 3]]), "finite numbers.*annotation 5"),
        (annotation(5, 90, [[1, 1, "x", 2, 3, 3]]), "finite numbers.*annotation 5"),
        (annotation(5, 90, []), r"segmentation.*Received: \[\].*annotation 5"),
        (annotation(5, 90, {"size": [40, 30], "counts": [1200]}), r"size \[40, 30\] in .*annotation 5"),
        (
            annotation(5, 90, {"size": [30, 40], "counts": [5, 200]}),
            r"add up to .* 1200.*\[5, 200\].*annotation 5",
        ),
        (annotation(5, 90, {"size": [30, 40], "counts": [1201, -1]}), "add up to .*annotation 5"),
        (annotation(5, 4, [[1, 1, 2, 2, 3, 1]]), "category_id .*Received: 4 in .*annotation 5"),
        (annotation(5, 90, [[1, 1, 2, 2, 3, 1]], image_id=8), "belong to an image.*annotation 5"),
        (annotation(5, [9], [[1, 1, 2, 2, 3, 1]]), "category_id .*annotation 5"),
        ("text", "belong to an image.*annotation 1"),
    ],
)
def test_coco_annotations_that_cannot_be_drawn_are_named(tmp_path, entry, message):
    path = write_coco(tmp_path, coco(annotations=[coco()["annotations"][0], entry]))
    with pytest.raises(ValueError, match=message) as caught:
        CocoDataset(path)
    assert "instances.json" in str(caught.value) and "Try " in str(caught.value)


@pytest.mark.parametrize("counts", ["", "abc", "oooooooooooooo", "\u00e9"])
def test_coco_damaged_codes_are_named_when_drawn(tmp_path, counts):
    entry = annotation(5, 90, {"size": [HEIGHT, WIDTH], "counts": counts})
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[entry])))
    with pytest.raises(ValueError, match=r"add up to height x width = 1200.*instances\.json, annotation 5"):
        dataset.load_mask(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 7}]}, "id, a file_name.*image 0"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 10**9}]}, "whole numbers as height.*image 0"),
        ({"images": [{"id": 7, "file_name": "a.png"}] * 2}, "unique. Received: 7 a second time.*image 1"),
        ({"images": [{"id": [7], "file_name": "a.png"}]}, "id, a file_name.*image 0"),
        ({"categories": [{"id": "x", "name": "cat"}]}, "whole number as id.*category 0"),
        ({"categories": None}, "must be a COCO instances file"),
    ],
)
def test_coco_files_of_another_form_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        CocoDataset(write_coco(tmp_path, coco(**changes)))


def test_coco_outlines_tell_boxes_without_an_image(tmp_path):
    dataset = CocoDataset(write_coco(tmp_path, coco()))
    rles, class_ids = dataset.load_outlines(0)
    # x, y, width, height of the two squares' box, the donut's and the crowd's three columns
    assert coco_mask.toBbox(rles).tolist() == [[4, 3, 26, 22], [10, 10, 10, 10], [2, 0, 3, 30]]
    assert class_ids.tolist() == [2, 1, -1] and dataset.image_size(0) == (HEIGHT, WIDTH)
    assert dataset.load_outlines(1)[0] == []


def test_coco_names_of_files_that_cannot_be(tmp_path):
    for name in ("x" * 5000, "a\0b", "\ud800", ""):
        data = coco(images=[{"id": 7, "file_name": name}])
        dataset = CocoDataset(write_coco(tmp_path, data))
        with pytest.raises(ValueError, match=r"must exist. Received: "):
            dataset.load_mask(0)


def test_coco_outlines_of_100_000_points(tmp_path):
    t = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = np.stack([20 + 8 * np.cos(t), 15 + 8 * np.sin(t)], axis=-1).ravel().tolist()
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[annotation(1, 90, [circle])])))
    assert dataset.load_mask(0)[0].sum() == pytest.approx(64 * math.pi, abs=8 * math.pi)  # half a pixel all around


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), junk=JUNK)
def test_a_spoiled_coco_file_is_read_or_refused_with_a_sentence(tmp_path, seed, junk):
    read_or_refuse(lambda: CocoDataset(write_coco(tmp_path, spoiled(coco(), seed, junk)), tmp_path))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_coco_file_is_read_or_refused_with_a_sentence(tmp_path, seed):
    path = tmp_path / "damaged.json"
    path.write_bytes(cut_or_changed(json.dumps(coco()).encode(), seed))
    read_or_refuse(lambda: CocoDataset(path))

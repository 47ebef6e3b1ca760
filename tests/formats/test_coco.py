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

from mrcnn.data.dataset import Dataset, overrides
from mrcnn.formats.coco import CocoDataset


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


def test_coco_files_added_in_sequence_are_one_dataset(tmp_path):
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


def test_subclass_adds_files_itself(tmp_path):
    class Own(CocoDataset):
        def __init__(self):
            Dataset.__init__(self)

    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    dataset = Own()
    dataset.add_file(write_coco(tmp_path, coco()))
    dataset.prepare()
    assert dataset.load_mask(0)[1].tolist() == [2, 1, -1] and not Own().boxes_only


def test_coco_images_are_found_in_the_usual_folders(tmp_path):
    for place in ("annotations", "val2017", "annotations/images"):
        folder = tmp_path / place.replace("/", "_")
        path = write_coco(folder / "annotations", coco(), "instances_val2017.json")
        file = write_image(folder / place / "a.png")
        assert CocoDataset(path).image_info[0]["path"] == str(file)
    write_image(tmp_path / "my" / "a.png")
    assert CocoDataset(path, tmp_path / "my").image_info[0]["path"] == str(
        tmp_path / "my" / "a.png"
    )


def test_coco_missing_images_are_counted_and_named_on_access(tmp_path, caplog):
    dataset = CocoDataset(write_coco(tmp_path, coco()))
    assert "--images DIR" in caplog.text and not dataset.left_out  # as `check --no-pixels` wants it
    assert (
        "2 of 2 images" in caplog.text
        and "a.png" in caplog.text
        and "Try to put them there" in caplog.text
    )
    assert len(dataset.load_mask(0)[1]) == 3  # masks need no image if the file gives the sizes
    with pytest.raises(ValueError, match=r"a\.png"):
        dataset.load_image(0)


def test_coco_unknown_sizes_come_from_the_image(tmp_path):
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
        (
            annotation(5, 90, {"size": [40, 30], "counts": [1200]}),
            r"size \[40, 30\] in .*annotation 5",
        ),
        (
            annotation(5, 90, {"size": [30, 40], "counts": [5, 200]}),
            r"add up to .* 1200.*\[5, 200\].*annotation 5",
        ),
        (annotation(5, 90, {"size": [30, 40], "counts": [1201, -1]}), "add up to .*annotation 5"),
        (annotation(5, 4, [[1, 1, 2, 2, 3, 1]]), "category_id .*Received: 4 in .*annotation 5"),
        (annotation(5, 90, [[1, 1, 2, 2, 3, 1]], image_id=8), "belong to an image.*annotation 5"),
        (annotation(5, [9], [[1, 1, 2, 2, 3, 1]]), "category_id .*annotation 5"),
        ("text", "belong to an image.*annotation 1"),
        (annotation(5, 90, [], bbox=[4, 4, 0, 9]), r"or a bbox.*\[4, 4, 0, 9\].*annotation 5"),
        *(
            (annotation(5, 90, {"size": [30, 40], "counts": c}), "add up to .*annotation 5")
            for c in ("", "abc", "\u00e9")
        ),
        (
            annotation(5, 90, {"size": [30, 40], "counts": "o" * 10**6}),
            "at most 7 characters.*annotation 5",
        ),
        (annotation(5, 90, [[1.5] * 2_000_002]), "at most 1,000,000 points.*annotation 5"),
    ],
)
def test_unusable_annotations_are_skipped_or_refused_if_strict(tmp_path, caplog, entry, message):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    path = write_coco(tmp_path, coco(annotations=[coco()["annotations"][0], entry]))
    with pytest.raises(ValueError, match=message) as caught:
        CocoDataset(path, strict=True)
    assert "instances.json" in str(caught.value) and "Try " in str(caught.value)
    dataset = CocoDataset(path)
    assert dataset.load_mask(0)[1].tolist() == [2]
    assert dataset.left_out == [str(caught.value)]
    assert caplog.text.count("were left out") == 1 and "1 of 2 annotations in" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 7}]}, "id, a file_name.*image 0"),
        (
            {"images": [{"id": 7, "file_name": "a.png", "height": 10**9}]},
            "whole numbers as height.*image 0",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]},
            "unique. Received: 7 a second time.*image 1",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.png", "height": 10**5, "width": 10**5}]},
            "at most 178,956,970 pixels",
        ),
        ({"images": [{"id": [7], "file_name": "a.png"}]}, "id, a file_name.*image 0"),
        ({"categories": [{"id": "x", "name": "cat"}]}, "whole number as id.*category 0"),
        ({"categories": None}, "must be a COCO instances file"),
    ],
)
def test_coco_files_of_another_form_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        CocoDataset(write_coco(tmp_path, coco(**changes)))


def test_coco_rles_give_boxes_without_an_image(tmp_path):
    dataset = CocoDataset(write_coco(tmp_path, coco()))
    rles, class_ids = dataset.load_rles(0)
    # x, y, width, height of the two squares' box, the donut's and the crowd's three columns
    assert coco_mask.toBbox(rles).tolist() == [[4, 3, 26, 22], [10, 10, 10, 10], [2, 0, 3, 30]]
    assert class_ids.tolist() == [2, 1, -1] and dataset.image_size(0) == (HEIGHT, WIDTH)
    assert dataset.load_rles(1)[0] == []


def test_coco_impossible_file_names_are_missing_images(tmp_path):
    for name in ("x" * 5000, "/" * 5000 + "y", "a\0b", "\ud800", ".."):
        data = coco(images=[{"id": 7, "file_name": name}])
        dataset = CocoDataset(write_coco(tmp_path, data))
        with pytest.raises(ValueError, match=r"must exist. Received: "):
            dataset.load_mask(0)


def test_coco_polygon_of_100_000_points(tmp_path):
    t = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    circle = np.stack([20 + 8 * np.cos(t), 15 + 8 * np.sin(t)], axis=-1).ravel().tolist()
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[annotation(1, 90, [circle])])))
    assert dataset.load_mask(0)[0].sum() == pytest.approx(
        64 * math.pi, abs=8 * math.pi
    )  # half a pixel all around


def square(annotation_id=1, image_id=7, category_id=90, **more):
    return annotation(annotation_id, category_id, [[4, 3, 14, 3, 14, 8, 4, 8]], image_id, **more)


def test_one_bad_part_is_skipped_and_the_object_kept(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    parts = [*square()["segmentation"], [1, 1, 9, 9], []]
    path = write_coco(tmp_path, coco(annotations=[annotation(1, 90, parts)]))
    assert boxes_of(CocoDataset(path)) == [[3, 4, 8, 14]]
    assert "at least 3 points" in caplog.text
    with pytest.raises(ValueError, match="at least 3 points"):
        CocoDataset(path, strict=True)


def test_polygon_too_long_to_fill_is_skipped_and_the_file_read(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    around = [1, 1, 39, 1, 39, 29, 1, 29] * 25_001  # 132 px each time: 3.3 million px
    path = write_coco(tmp_path, coco(annotations=[annotation(1, 90, [around]), square(2)]))
    dataset = CocoDataset(path)
    assert boxes_of(dataset) == [[3, 4, 8, 14]]
    assert "1 of 2 annotations" in caplog.text
    assert "at most 2,000,000 pixels long" in dataset.left_out[0]
    assert "annotation 1" in dataset.left_out[0] and "Try to simplify" in dataset.left_out[0]


def test_bad_entries_of_every_kind_are_skipped_and_counted(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    images = [
        *coco()["images"],  # b.png is missing
        {"id": 7, "file_name": "a.png"},  # again
        {"id": 10, "file_name": "c.png", "height": -5, "width": 4},
        {"file_name": "d.png"},
        "text",
    ]
    annotations = [
        square(),
        square(2, image_id=9),
        square(3, image_id=10),
        square(4, image_id=77),
        None,
    ]
    categories = [*coco()["categories"], {"id": 90, "name": "hen"}, {"name": "cow"}]
    path = write_coco(
        tmp_path, {"images": images, "annotations": annotations, "categories": categories}
    )
    dataset = CocoDataset(path)
    assert [info["id"] for info in dataset.image_info] == [7] and dataset.load_mask(0)[
        1
    ].tolist() == [2]
    assert dataset.class_names == ["BG", "cat", "dog"]
    for count in ("2 of 4 categories", "5 of 6 images", "2 of 5 annotations"):
        assert f"{count} in {path} were left out" in caplog.text
    assert len(dataset.left_out) == 9 and all(
        "Received: " in s and "Try " in s for s in dataset.left_out
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": [square(image_id=77)]},
        {"annotations": [annotation(1, 90, [[1, 1, 5, 5]])]},
        {"images": [*coco()["images"], {"id": 1}]},
        {"images": [*coco()["images"], {"id": 1, "file_name": "missing.png"}]},
        {"categories": [*coco()["categories"], {"id": "x", "name": "cow"}]},
    ],
)
def test_strict_refuses_a_file_with_one_bad_entry(tmp_path, changes):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    path = write_coco(tmp_path, coco(**changes))
    assert CocoDataset(path).left_out
    with pytest.raises(ValueError, match=r"instances\.json"):
        CocoDataset(path, strict=True)


def test_whole_numbers_may_be_written_as_floats_and_image_ids_as_text(tmp_path):
    write_image(tmp_path / "a.png")
    data = coco(
        images=[{"id": 7.0, "file_name": "a.png", "height": 30.0, "width": 40.0}],
        categories=[{"id": 90.0, "name": "dog"}, {"id": 18, "name": "cat"}],
        annotations=[
            square(image_id="7", category_id=90.0),
            annotation(2, 18, {"size": [30.0, 40.0], "counts": [60.0, 90.0, 1050.0]}),
        ],
    )
    dataset = CocoDataset(write_coco(tmp_path, data), strict=True)
    assert boxes_of(dataset) == [[3, 4, 8, 14], [0, 2, 30, 5]] and dataset.load_mask(0)[
        1
    ].tolist() == [2, 1]
    assert dataset.image_info[0]["id"] == 7 and dataset.image_size(0) == (30, 40)


def test_coco_sizes_of_0_come_from_the_image(tmp_path):
    write_image(tmp_path / "a.png")
    data = coco(images=[{"id": 7, "file_name": "a.png", "height": 0, "width": 0}])
    assert CocoDataset(write_coco(tmp_path, data), strict=True).image_size(0) == (HEIGHT, WIDTH)


# --- Classes --------------------------------------------------------------------------------------


def test_categories_of_one_name_are_one_class(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    categories = [{"id": 1, "name": "red"}, {"id": 5, "name": "red "}, {"id": 7, "name": "Red"}]
    path = write_coco(
        tmp_path, coco(categories=categories, annotations=[square(i, 7, i) for i in (1, 5, 7)])
    )
    dataset = CocoDataset(path)
    assert dataset.class_names == ["BG", "red", "Red"] and dataset.load_mask(0)[1].tolist() == [
        1,
        1,
        2,
    ]
    assert (
        dataset.map_source_class_id("coco.5") == 1 and dataset.get_source_class_id(1, "coco") == 1
    )
    assert "categories [1, 5]" in caplog.text and "one class" in caplog.text
    assert "'red', 'Red'" in caplog.text and "differ only in case" in caplog.text


def test_class_names_map_categories_by_name(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    path = write_coco(tmp_path, coco(annotations=[square(), square(2, category_id=18)]))
    dataset = CocoDataset(path, class_names=["dog", "cow", "cat"])
    assert dataset.class_names == ["BG", "dog", "cow", "cat"] and dataset.load_mask(0)[
        1
    ].tolist() == [1, 3]
    assert (
        dataset.get_source_class_id(1, "coco") == 90
        and dataset.get_source_class_id(2, "coco") == 91
    )
    assert CocoDataset(path, class_names=["dog"]).load_mask(0)[1].tolist() == [1]
    assert (
        "1 of 2 annotations" in caplog.text
        and "must be among ['dog']. Received: 'cat' in" in caplog.text
    )
    with pytest.raises(
        ValueError, match=r"must be among \['dog'\]. Received: 'cat' in .*annotation 2"
    ):
        CocoDataset(path, class_names=["dog"], strict=True)
    with pytest.raises(ValueError, match=r"must be \['cow'\]. Received: \['cat', 'dog'\]"):
        CocoDataset(path, class_names=["cow"])
    one = write_coco(tmp_path, coco(annotations=[square()]), "one.json")
    assert CocoDataset(one, class_names=["dog"]).num_classes == 2  # no object is a cat


def test_class_names_with_commas_stay_two_classes(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    names = ["person, standing", "person, sitting", "dog, any"]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    path = write_coco(
        tmp_path, coco(categories=categories, annotations=[square(i, 7, i) for i in (1, 2, 3)])
    )
    dataset = CocoDataset(path)
    assert dataset.class_names == ["BG", "person, standing", "person, sitting", "dog"]
    other = CocoDataset(path, class_names=["dog", *names[:2]])  # as prepared names of another file
    assert other.load_mask(0)[1].tolist() == [2, 3, 1]


# --- Files of the images --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("json_path", "folder"),
    [
        ("annotations/instances_default.json", "images"),  # CVAT
        ("annotations/instances_default.json", "images/default"),
        ("annotations/instances_val.json", "images/val"),  # Datumaro, ultralytics
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/val.json", "images"),  # mmdetection, PaddleDetection
        ("annotations/val.json", "val"),
        ("annotations/custom.json", ""),
        ("valid/_annotations.coco.json", "valid"),  # Roboflow
        ("result.json", "images"),  # Label Studio
        ("train.json", "train"),
    ],
)
def test_images_are_found_where_tools_put_them(tmp_path, caplog, json_path, folder):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / folder / name)
    file = tmp_path / json_path
    dataset = CocoDataset(write_coco(file.parent, coco(), file.name))
    assert [info["path"] for info in dataset.image_info] == [
        str(tmp_path / folder / n) for n in ("a.png", "b.png")
    ]
    assert not caplog.text


def listing(tmp_path, *names):
    """A COCO file of images with these names."""
    images = [
        {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for i, name in enumerate(names)
    ]
    return write_coco(tmp_path, coco(images=images, annotations=[]))


def paths(dataset):
    return [info["path"] for info in dataset.image_info]


def test_folder_with_most_images_is_chosen(tmp_path, caplog):
    files = [str(write_image(tmp_path / "images" / f"{name}.png")) for name in "bc"]
    assert paths(CocoDataset(listing(tmp_path, "a.png", "b.png", "c.png"))) == files
    assert "1 of 3 images in" in caplog.text and "'a.png'" in caplog.text


@pytest.mark.parametrize(
    ("name", "file", "is_renamed"),
    [
        ("img\\b.png", "img/b.png", False),
        ("C:\\data\\b.png", "b.png", True),
        ("/home/alice/data/b.png", "b.png", True),
        ("/home/alice/img/b.png", "img/b.png", True),
        ("http://images.cocodataset.org/val2017/b%20c.png?size=big", "b c.png", True),
        ("b.PNG", "b.png", True),
        ("img/b.png", "b.PNG", True),
        ("../other/b.png", "b.png", True),
        ("./b.png", "b.png", False),
    ],
)
def test_file_names_of_other_systems_are_found(tmp_path, caplog, name, file, is_renamed):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / file)
    dataset = CocoDataset(listing(tmp_path, "a.png", name), strict=True)
    assert dataset.image_info[1]["path"] == str(tmp_path / file)
    assert ("1 of 2 images" in caplog.text and "end of their path" in caplog.text) == is_renamed


def test_absolute_names_are_not_read_outside_of_the_images_folder(tmp_path):
    secret = write_image(tmp_path / "secret.png")
    folder = tmp_path / "data"
    write_image(folder / "a.png")
    for name in (
        str(secret),
        "x/../../secret.png",
        f"/..{secret}",
        f"file://{secret}",
        f"C:/../{secret}",
    ):
        dataset = CocoDataset(listing(folder, "a.png", name))
        assert paths(dataset) == [str(folder / "a.png")] and "must exist" in dataset.left_out[0]
        alone = CocoDataset(listing(folder, name))  # all are missing: kept, and not readable
        with pytest.raises(ValueError, match="must exist"):
            alone.load_image(0)


@pytest.mark.parametrize("name", ["../images/b.png", "..\\images\\b.png"])
def test_relative_names_are_followed_with_a_warning(tmp_path, caplog, name):
    write_image(tmp_path / "data" / "a.png")
    file = write_image(tmp_path / "images" / "b.png")
    path = listing(tmp_path / "data", "a.png", name)
    assert CocoDataset(path).load_image(1).shape == (HEIGHT, WIDTH, 3)
    assert (
        "1 of 2 images" in caplog.text and "outside of" in caplog.text and file.name in caplog.text
    )
    with pytest.raises(ValueError, match="must exist"):
        CocoDataset(path, strict=True)


def test_two_images_are_never_found_in_one_file(tmp_path):
    write_image(tmp_path / "b.png")
    dataset = CocoDataset(listing(tmp_path, "cam1/b.png", "b.png", "cam2/b.png"))
    assert [info["id"] for info in dataset.image_info] == [1] and len(dataset.left_out) == 2


# --- Boxes ----------------------------------------------------------------------------------------


def test_a_file_of_boxes_only_has_boxes_and_no_masks(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    entries = [
        annotation(1, 90, [], bbox=[5, 6, 20, 22.5]),
        annotation(2, 18, None, iscrowd=1, bbox=[30, 20, 99, 99]),
    ]
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=entries)), strict=True)
    boxes, class_ids = dataset.load_bbox(0)
    assert boxes.tolist() == [[6, 5, 28.5, 25], [20, 30, 30, 40]] and class_ids.tolist() == [2, -1]
    assert dataset.load_bbox(1)[0].shape == (0, 4) and dataset.load_class_ids(0).tolist() == [2, -1]
    assert dataset.boxes_only and not caplog.text
    with pytest.raises(
        ValueError, match=r"segmentation. Received: .*instances\.json.*USE_MASK=False"
    ):
        dataset.load_mask(0)


def test_boxes_among_polygons_are_objects_for_networks_without_masks(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    dataset = CocoDataset(
        write_coco(
            tmp_path, coco(annotations=[annotation(1, 18, [[]], bbox=[5, 6, 20, 22]), square()])
        )
    )
    assert "1 of 2 annotations" in caplog.text and "USE_MASK=False" in caplog.text
    assert boxes_of(dataset) == [[3, 4, 8, 14]] and dataset.load_mask(0)[1].tolist() == [2]
    boxes, class_ids = dataset.load_bbox(0)
    assert boxes.tolist() == [[6, 5, 28, 25], [3, 4, 8, 14]] and class_ids.tolist() == [1, 2]


def test_boxes_of_polygons_are_those_of_their_masks(tmp_path):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[square(bbox=[0, 0, 1, 1])])))
    assert not overrides(dataset, "load_bbox") and dataset.load_bbox(0)[0].tolist() == [
        [3, 4, 8, 14]
    ]


# --- Hostile files --------------------------------------------------------------------------------


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), junk=JUNK)
def test_corrupt_coco_values_raise_only_value_errors_with_a_remedy(tmp_path, seed, junk):
    read_or_refuse(lambda: CocoDataset(write_coco(tmp_path, spoiled(coco(), seed, junk)), tmp_path))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_coco_file_raises_only_value_errors_with_a_remedy(tmp_path, seed):
    path = tmp_path / "damaged.json"
    path.write_bytes(cut_or_changed(json.dumps(coco()).encode(), seed))
    read_or_refuse(lambda: CocoDataset(path))

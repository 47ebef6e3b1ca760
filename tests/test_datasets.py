"""Each reader on a small file with every trap of its format, on broken files, and on the real sets."""

import json
import math
import random

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn import datasets, evaluate, outlines
from mrcnn.datasets import CocoDataset, MaskFolderDataset, ShapesDataset, VIADataset, open_dataset
from mrcnn.image import extract_bboxes

HEIGHT, WIDTH = 30, 40


def write_image(path, shape=(HEIGHT, WIDTH, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(shape, 90, np.uint8))
    return path


def boxes_of(dataset, image_id=0):
    return extract_bboxes(dataset.load_mask(image_id)[0]).tolist()


def names_of(dataset, image_id=0):
    return [dataset.class_names[i] for i in dataset.load_mask(image_id)[1]]


# --- Shapes -----------------------------------------------------------------------------------------------


def test_shapes_are_the_same_every_time_and_other_seeds_are_other_pictures():
    one, again, other = ShapesDataset(3, seed=1), ShapesDataset(5, seed=1), ShapesDataset(3, seed=2)
    np.testing.assert_array_equal(one.load_image(2), again.load_image(2))
    np.testing.assert_array_equal(one.load_mask(2)[0], again.load_mask(2)[0])
    assert not np.array_equal(one.load_image(2), other.load_image(2))
    assert not np.array_equal(one.load_image(1), one.load_image(2))


def test_shapes_keep_what_they_promise():
    dataset = ShapesDataset(60, seed=3)
    assert dataset.class_names == ["BG", "square", "circle", "triangle"]
    counts, seen = [], set()
    for i in dataset.image_ids:
        image, (masks, class_ids) = dataset.load_image(i), dataset.load_mask(i)
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
        assert masks.shape == (128, 128, len(class_ids)) and masks.dtype == bool
        assert class_ids.dtype == np.int32
        assert masks.sum(axis=2).max() <= 1  # the upper shape takes the pixels of the lower
        boxes = extract_bboxes(masks)
        assert (boxes[:, 2:] - boxes[:, :2]).max() <= 64
        for k in range(len(class_ids)):
            assert len(np.unique(image[masks[:, :, k]], axis=0)) == 1  # a shape has one colour
        counts.append(len(class_ids))
        seen |= set(class_ids.tolist())
    assert set(counts) == {1, 2, 3, 4} and seen == {1, 2, 3}


def test_shapes_stand_out_from_what_surrounds_them():
    dataset = ShapesDataset(40, seed=4)
    for i in dataset.image_ids:
        image, (masks, _) = dataset.load_image(i), dataset.load_mask(i)
        background = image[~masks.any(axis=2)].mean(axis=0)
        colors = np.float32([background, *[image[masks[:, :, k]][0] for k in range(masks.shape[2])]])
        lab = cv2.cvtColor(colors[None] / 255, cv2.COLOR_RGB2LAB)[0]
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), k=1)]
        assert distances.min() > 30  # at least 40 before the noise is clipped to 0..255; an eye sees 2


def test_a_whole_shape_fills_the_right_share_of_its_box():
    expected = {1: 1.0, 2: math.pi / 4, 3: 0.5}  # square, disc, triangle
    dataset = ShapesDataset(1, size=(200, 200), seed=0)
    rng = np.random.default_rng(0)
    for class_id, share in expected.items():
        for _ in range(20):
            mask = dataset._shape(rng, dataset.class_names[class_id])
            y1, x1, y2, x2 = extract_bboxes(mask[:, :, None])[0]
            assert 12 <= y2 - y1 <= 64 and y2 - y1 == x2 - x1
            # pixels are whole: the outline may gain or lose half a pixel all around
            assert mask.sum() / (y2 - y1) ** 2 == pytest.approx(share, abs=1 / (y2 - y1))


def test_small_shapes_pictures_are_refused():
    assert ShapesDataset(1, size=(12, 40)).load_image(0).shape == (12, 40, 3)
    with pytest.raises(ValueError, match=r"at least 12 pixels each way. Received: \(8, 40\)"):
        ShapesDataset(1, size=(8, 40))


# --- Mask folders -----------------------------------------------------------------------------------------


def nuclei(folder, masks):
    """One image with masks from rectangles (y1, x1, y2, x2)."""
    write_image(folder / "images" / "a.png", (HEIGHT, WIDTH, 4))
    for i, (y1, x1, y2, x2) in enumerate(masks):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[y1:y2, x1:x2] = 255
        (folder / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "masks" / f"{i}.png"), mask)


def test_a_mask_folder_is_read_by_name(tmp_path, caplog):
    nuclei(tmp_path / "b", [(0, 0, 5, 6), (10, 10, 20, 40)])
    nuclei(tmp_path / "a", [])
    (tmp_path / "notes").mkdir()
    dataset = MaskFolderDataset(tmp_path, class_name="cell")
    assert [info["id"] for info in dataset.image_info] == ["a", "b"]
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.shape == (0,)
    assert "1 of 2 images" in caplog.text and "no masks folder" in caplog.text
    assert boxes_of(dataset, 1) == [[0, 0, 5, 6], [10, 10, 20, 40]]
    assert names_of(dataset, 1) == ["cell", "cell"]
    assert dataset.load_image(1).shape == (HEIGHT, WIDTH, 3)


def test_a_colour_mask_counts_where_any_colour_is_and_alpha_does_not(tmp_path):
    nuclei(tmp_path / "a", [(0, 0, 1, 1)])
    mask = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    mask[:, :, 3] = 255
    mask[2:4, 5:9, 1] = 1
    cv2.imwrite(str(tmp_path / "a" / "masks" / "0.png"), mask)
    assert boxes_of(MaskFolderDataset(tmp_path)) == [[2, 5, 4, 9]]


def test_bad_mask_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="must hold folders of the form.*an empty folder"):
        MaskFolderDataset(tmp_path)
    nuclei(tmp_path / "a", [(0, 0, 5, 5)])
    dataset = MaskFolderDataset(tmp_path)
    cv2.imwrite(str(tmp_path / "a" / "masks" / "0.png"), np.ones((5, 5), np.uint8))
    with pytest.raises(ValueError, match=r"0\.png of \(5, 5\).*a\.png of \(30, 40\)"):
        dataset.load_mask(0)
    (tmp_path / "a" / "masks" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image. Received: .*0\.png"):
        dataset.load_mask(0)
    fresh = MaskFolderDataset(tmp_path)
    (tmp_path / "a" / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"must exist. Received: .*a\.png"):
        fresh.load_mask(0)
    with pytest.raises(ValueError, match=r"exactly one image. Received: \[\]"):
        MaskFolderDataset(tmp_path)


# --- VIA --------------------------------------------------------------------------------------------------


def polygon(*points):
    return {
        "name": "polygon",
        "all_points_x": [x for x, _ in points],
        "all_points_y": [y for _, y in points],
    }


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def rect(x=4, y=3, width=10, height=5):
    return {"name": "rect", "x": x, "y": y, "width": width, "height": height}


def via(tmp_path, *regions, as_dict=False, project=False, name="via_region_data.json"):
    """A VIA file of one image with these regions."""
    write_image(tmp_path / "a.png")
    listed = {str(i): r for i, r in enumerate(regions)} if as_dict else list(regions)
    entries = {"a.png123": {"filename": "a.png", "size": 123, "regions": listed, "file_attributes": {}}}
    data = {"_via_settings": {}, "_via_img_metadata": entries} if project else entries
    (tmp_path / name).write_text(json.dumps(data))
    return tmp_path / name


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
    with pytest.raises(ValueError, match=r"\['kind', 'size'\].*Try attribute='kind'"):
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
    with pytest.raises(ValueError, match=r"'a.png' in .*entry 'a.png123'.*Try images_dir="):
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


# --- COCO -------------------------------------------------------------------------------------------------


def coco(**changes):
    """A small instances file: images 7 and 9, the second without annotations; no info, no licenses."""
    square = [4, 3, 14, 3, 14, 8, 4, 8]
    donut = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    donut[10:20, 10:20] = 1
    donut[13:16, 13:16] = 0
    compressed = coco_mask.encode(donut)
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 18, "name": "cat"}],
        "annotations": [
            annotation(1, 90, [square, [20, 20, 30, 20, 30, 25, 20, 25]]),
            annotation(2, 18, {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}),
            # column by column: 60 pixels are two columns of 30, then three columns inside
            annotation(3, 18, {"size": [HEIGHT, WIDTH], "counts": [60, 90, 1050]}, iscrowd=1),
        ],
        **changes,
    }


def annotation(annotation_id, category_id, segmentation, image_id=7, iscrowd=0):
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "iscrowd": iscrowd,
    }


def write_coco(folder, data, name="instances.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return folder / name


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
    assert "2 of 2 images" in caplog.text and "a.png" in caplog.text and "images_dir=" in caplog.text
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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_run_lengths_undo_the_compression(runs):
    side = sum(runs)
    code = coco_mask.frPyObjects({"size": [side, 1], "counts": runs}, side, 1)
    assert outlines.run_lengths(code["counts"].decode()) == runs


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


# --- Recognising ------------------------------------------------------------------------------------------


def test_open_dataset_recognises_what_is_there(tmp_path):
    assert isinstance(open_dataset("shapes", count=2, seed=5), ShapesDataset)
    via(tmp_path / "via", region(rect()), name="any.json")
    assert isinstance(open_dataset(tmp_path / "via"), VIADataset)
    assert isinstance(open_dataset(tmp_path / "via" / "any.json", class_name="x"), VIADataset)
    path = write_coco(tmp_path / "coco" / "annotations", coco(), "instances_val2017.json")
    assert isinstance(open_dataset(path), CocoDataset)
    assert open_dataset(tmp_path / "coco", class_ids=[18]).class_names == ["BG", "cat"]
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5)])
    opened = open_dataset(str(tmp_path / "nuclei"), class_name="nucleus")
    assert isinstance(opened, MaskFolderDataset) and opened.class_names == ["BG", "nucleus"]
    assert opened.num_images == 1  # prepared


def test_open_dataset_says_what_it_found_and_what_it_understands(tmp_path):
    with pytest.raises(ValueError, match=r"must exist. Received: nowhere(.|\n)*Understood are"):
        open_dataset("nowhere")
    nuclei(tmp_path / "train" / "one", [])
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(ValueError, match=r"readme.txt, train/ \(name one of train/(.|\n)*instances_") as caught:
        open_dataset(tmp_path)
    assert "the word shapes" in str(caught.value)
    with pytest.raises(ValueError, match="a file readme.txt"):
        open_dataset(tmp_path / "readme.txt")
    for name in ("instances_train.json", "instances_val.json"):
        write_coco(tmp_path / "annotations", coco(), name)
    with pytest.raises(ValueError, match=r"one annotation file. Received: instances_train.json, instances_val"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("reader", [CocoDataset, VIADataset, open_dataset])
def test_truncated_json_is_named(tmp_path, reader):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(coco())[:-20])
    with pytest.raises(ValueError, match=r"cut\.json must be complete JSON.*Try to export or download"):
        reader(path)


@pytest.mark.parametrize("reader", [CocoDataset, VIADataset])
def test_a_file_of_the_other_format_is_refused(tmp_path, reader):
    path = tmp_path / "other.json"
    path.write_text('{"shapes": [], "version": "5.0"}')
    with pytest.raises(ValueError, match=r"other\.json must be a (COCO|VIA)"):
        reader(path)


def spoil(data, rng, junk):
    """Replace one value somewhere inside nested dicts and lists."""
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(data)
    node, key = rng.choice(places)
    node[key] = junk


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # every example writes its file anew
@given(seed=st.integers(0, 2**32), junk=JUNK, kind=st.sampled_from(["coco", "via"]))
def test_a_spoiled_file_is_read_or_refused_with_a_sentence(tmp_path, seed, junk, kind):
    if kind == "coco":
        data = coco()
    else:
        data = json.loads(
            via(tmp_path, region(rect(), kind="dog"), region(polygon((1, 1), (9, 1), (9, 9)))).read_text()
        )
    spoil(data, random.Random(seed), junk)
    path = tmp_path / "spoiled.json"
    path.write_text(json.dumps(data))
    try:
        dataset = (CocoDataset if kind == "coco" else VIADataset)(path, tmp_path)
        for i in dataset.image_ids:
            masks, class_ids = dataset.load_mask(i)
            assert masks.shape[2] == len(class_ids)
    except ValueError as error:
        assert "Received: " in str(error)


# --- The real sets ----------------------------------------------------------------------------------------


def real(shared, name):
    return open_dataset(shared / "data" / name)


@pytest.mark.parametrize(
    ("name", "images", "objects"),
    [
        ("balloon/train", 61, 255),
        ("balloon/val", 13, 50),
        ("nuclei/train", 120, 3549),
        ("nuclei/val", 40, 1080),
    ],
)
def test_the_real_sets_have_the_stated_counts(shared, name, images, objects):
    dataset = real(shared, name)
    assert dataset.num_images == images and dataset.num_classes == 2
    infos = dataset.image_info
    if name.startswith("balloon"):
        assert sum(len(info["polygons"]) for info in infos) == objects
    else:
        assert sum(len(datasets.image_files(datasets.Path(info["masks"]))) for info in infos) == objects


def test_coco_tiny_has_the_stated_counts(shared):
    tiny = [real(shared, f"coco_tiny/annotations/instances_{subset}2017.json") for subset in ("train", "val")]
    assert [dataset.num_images for dataset in tiny] == [80, 80]
    assert [dataset.num_classes for dataset in tiny] == [81, 81]
    entries = [a for dataset in tiny for info in dataset.image_info for a in info["annotations"]]
    assert len(entries) == 1520 and sum(a["iscrowd"] for a in entries) == 17
    assert sum(isinstance(a["segmentation"], list) and len(a["segmentation"]) > 1 for a in entries) == 120


def truth_as_results(dataset, category_ids=None, image_ids=None):
    results = []
    for i in dataset.image_ids:
        masks, class_ids = dataset.load_mask(i)
        keep = np.flatnonzero(class_ids > 0)
        masks = masks[:, :, keep]
        result = {
            "rois": extract_bboxes(masks),
            "class_ids": class_ids[keep],
            "scores": np.ones(len(keep)),
            "masks": masks,
        }
        results += evaluate.coco_results(int(i) if image_ids is None else image_ids[i], result, category_ids)
    return results


@pytest.mark.parametrize("name", ["coco_tiny/annotations/instances_val2017.json", "balloon/val", "nuclei/val"])
def test_truth_as_detections_has_mask_ap_one(shared, name):
    dataset = real(shared, name)
    truth, results = evaluate.dataset_to_coco(dataset), truth_as_results(dataset)
    for kind in ("segm", "bbox"):
        assert evaluate.coco_figures(truth, results, kind)[0]["AP"] == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("subset", ["train", "val"])
def test_what_the_coco_reader_read_scores_one_against_the_file(shared, subset):
    path = shared / "data" / "coco_tiny" / "annotations" / f"instances_{subset}2017.json"
    dataset = CocoDataset(path)
    categories = {i: dataset.get_source_class_id(i, "coco") for i in range(1, dataset.num_classes)}
    results = truth_as_results(dataset, categories, [info["id"] for info in dataset.image_info])
    truth = json.loads(path.read_text())
    assert evaluate.coco_figures(truth, results, "segm")[0]["AP"] == pytest.approx(1, abs=5e-4)
    assert evaluate.coco_figures(truth, results, "bbox")[0]["AP"] >= 0.97  # boxes taken from masks

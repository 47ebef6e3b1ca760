"""YOLO: polygons, boxes, every layout, and files that are damaged or hostile."""

import json
import time

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, boxes_of, cut_or_changed, names_of, read_or_refuse, write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrcnn.data.masks import extract_bboxes
from mrcnn.formats.open_dataset import open_dataset
from mrcnn.formats.yolo import YOLODataset
from mrcnn.formats.yolo_layout import find_sets, read_yaml, yolo_pair

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
SQUARE = "0 0.1 0.1 0.35 0.1 0.35 0.5 0.1 0.5"  # x 4..14, y 3..15 of an image of 40 x 30
BOX = "1 0.5 0.5 0.25 0.2"  # x 15..25, y 12..18


def put(folder, *lines, name="a", images="images", labels="labels"):
    """An image and its label file; no label file without lines."""
    write_image(folder / images / f"{name}.png")
    (folder / labels).mkdir(parents=True, exist_ok=True)
    if lines:
        (folder / labels / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def yaml_file(
    folder, text="train: train/images\nval: valid/images\nnames: [cat, dog]\n", name="data.yaml"
):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_polygons_and_boxes_in_one_file(tmp_path, caplog):
    yaml_file(put(tmp_path / "train", SQUARE, BOX).parent)
    dataset = YOLODataset(tmp_path / "data.yaml")
    assert dataset.class_names == ["BG", "cat", "dog"] and names_of(dataset) == ["cat", "dog"]
    assert boxes_of(dataset) == [[3, 4, 15, 14], [12, 15, 18, 25]]
    assert dataset.load_mask(0)[0].sum(axis=(0, 1)).tolist() == [120, 60]
    boxes, class_ids = dataset.load_bbox(0)
    np.testing.assert_allclose(boxes, [[3, 4, 15, 14], [12, 15, 18, 25]])
    assert class_ids.tolist() == [1, 2]
    assert "1 objects" in caplog.text and caplog.text.count("filled boxes") == 1


def test_boxes_are_exact_and_end_at_the_border(tmp_path):
    put(tmp_path, "0 0.51 0.5 0.33 0.25", "0 1.0 0.5 0.5 0.5")
    boxes, _ = YOLODataset(tmp_path).load_bbox(0)
    np.testing.assert_allclose(boxes, [[11.25, 13.8, 18.75, 27.0], [7.5, 30, 22.5, 40]])
    masks = extract_bboxes(YOLODataset(tmp_path).load_mask(0)[0])
    assert np.abs(masks - boxes).max() <= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/val\ntest: # optional\n"
        "names:\n  0: cat\n  1: dog\n",
        "path: /content/datasets/mine\ntrain: images/train\nval: images/val\n"
        "names: ['cat', 'dog']\nnc: 2\n",
        "train: /home/alice/mine/images/train\nval: C:\\data\\images\\val\n"
        "names: {0: cat, 1: dog}\n",
        "train: [images/train]\nval: ../images/val\nnames: [cat, dog]\n"
        "download: |\n  import os\n  os._exit(1)\n",
    ],
)
def test_layout_of_ultralytics(tmp_path, text):
    put(tmp_path, SQUARE, images="images/train", labels="labels/train")
    put(tmp_path, BOX, name="b", images="images/val", labels="labels/val")
    file = yaml_file(tmp_path, text, "coco8-seg.yaml")
    assert sorted(find_sets(file)) == ["train", "val"]
    for path in (file, tmp_path):
        assert names_of(open_dataset(path)) == ["cat"]
        assert names_of(open_dataset(path, split="val")) == ["dog"]
    dataset = open_dataset(tmp_path / "images" / "val")
    assert names_of(dataset) == ["dog"] and dataset.image_info[0]["id"] == "b"
    with pytest.raises(ValueError, match="label files of the set test. Received: train, val"):
        open_dataset(file, split="test")
    pair = (tmp_path / "images" / "train", tmp_path / "images" / "val")
    assert tuple(path.resolve() for path in yolo_pair(file)) == pair == yolo_pair(tmp_path)
    file = file.rename(tmp_path.parent / f"{tmp_path.name}.yaml")
    file.write_text(f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    assert (
        names_of(YOLODataset(file)) == ["cat"] and yolo_pair(file) is None
    )  # the folders do not know the names
    assert yolo_pair(tmp_path / "images") is None


@pytest.mark.parametrize("prefix", ["../", "", "./"])
def test_layout_of_roboflow(tmp_path, prefix):
    put(tmp_path / "train", SQUARE)
    put(tmp_path / "valid", BOX)
    yaml_file(
        tmp_path,
        f"train: {prefix}train/images\nval: {prefix}valid/images\nnc: 2\nnames: ['cat', 'dog']\n",
    )
    for path in (
        tmp_path,
        tmp_path / "data.yaml",
        tmp_path / "train",
        tmp_path / "train" / "images",
    ):
        dataset = open_dataset(path)
        assert names_of(dataset) == ["cat"] and dataset.class_names == ["BG", "cat", "dog"]
    assert names_of(open_dataset(tmp_path / "valid")) == ["dog"]


def test_layouts_without_data_yaml(tmp_path):
    put(tmp_path / "one", SQUARE, BOX)
    assert open_dataset(tmp_path / "one").class_names == ["BG", "class 0", "class 1"]
    (tmp_path / "one" / "classes.txt").write_text("cat\ndog\nbird\n")  # Label Studio
    assert open_dataset(tmp_path / "one").class_names == ["BG", "cat", "dog", "bird"]
    put(tmp_path / "beside", BOX, images=".", labels=".")  # labelImg
    (tmp_path / "beside" / "classes.txt").write_text("cat\ndog\n")
    assert names_of(open_dataset(tmp_path / "beside")) == ["dog"]
    put(tmp_path / "darknet", BOX, images="obj_train_data", labels="obj_train_data")
    (tmp_path / "darknet" / "obj.names").write_text("cat\ndog\n")
    assert names_of(open_dataset(tmp_path / "darknet")) == ["dog"]
    put(tmp_path / "bare" / "train", SQUARE)
    put(tmp_path / "bare" / "valid", SQUARE)
    assert sorted(find_sets(tmp_path / "bare")) == ["train", "val"]


def test_a_list_of_images_is_a_set(tmp_path):
    put(tmp_path, SQUARE, BOX)
    put(tmp_path, SQUARE, name="b")
    (tmp_path / "train.txt").write_text(
        "./images/b.png\n/home/alice/images/a.png\nimages/gone.png\n\n"
    )
    file = yaml_file(tmp_path, "train: train.txt\nnames: [cat, dog]\n")
    dataset = YOLODataset(file)
    assert [len(info["class_ids"]) for info in dataset.image_info] == [1, 2]


def test_images_dir_of_label_files_elsewhere(tmp_path):
    put(tmp_path / "photos", images=".", labels=".")
    put(tmp_path / "mine", SQUARE, name="a")
    (tmp_path / "mine" / "images" / "a.png").unlink()
    yaml_file(tmp_path / "mine")
    dataset = YOLODataset(tmp_path / "mine", images_dir=tmp_path / "photos")
    assert names_of(dataset) == ["cat"] and dataset.image_info[0]["path"] == str(
        tmp_path / "photos" / "a.png"
    )


def test_images_without_label_files_are_negatives_and_counted(tmp_path, caplog):
    put(tmp_path, SQUARE)
    put(tmp_path, name="b")
    put(tmp_path, "", name="c")  # an empty label file: no objects
    dataset = YOLODataset(tmp_path)
    assert [len(dataset.load_class_ids(i)) for i in dataset.image_ids] == [1, 0, 0]
    assert dataset.load_mask(1)[0].shape == (HEIGHT, WIDTH, 0) and dataset.load_bbox(1)[
        0
    ].shape == (0, 4)
    assert "1 of 3 images" in caplog.text and "no label file" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0 0.2", "must have a width and a height. Received: 0 and 0.2"),
        ("0 0.5 0.5 -0.1 0.2", "must have a width"),
        ("0 0.1 0.1 0.2 0.2", None),
        ("0 0.5 0.5 0.1 0.2 0.93", "without confidences"),
        ("0 0.1 0.1", "4 numbers after the class, or a polygon"),
        ("0", "Received: 0 numbers"),
        ("0.5 0.1 0.1 0.2 0.2", "class number and coordinates"),
        ("cat 0.1 0.1 0.2 0.2", "class number and coordinates. Received: 'cat"),
        ("0 nan 0.1 0.2 0.2", "class number and coordinates"),
        ("0 1e999 0.1 0.2 0.2", "class number and coordinates"),
        ("0 24 20 48 40", "fractions of the image.*Received: 20 to 48"),
        ("7 0.1 0.1 0.2 0.2", r"one of \{0: 'cat', 1: 'dog'\}. Received: 7"),
        ("-1 0.1 0.1 0.2 0.2", "Received: -1"),
    ],
)
def test_unusable_yolo_lines_are_skipped(tmp_path, caplog, line, message):
    yaml_file(put(tmp_path / "train", SQUARE, line, BOX).parent)
    dataset = YOLODataset(tmp_path)
    assert names_of(dataset) == (["cat", "dog"] if message else ["cat", "cat", "dog"])
    assert len(dataset.left_out) == bool(message)
    if message:
        assert "1 of 3 lines" in caplog.text and "a.txt, line 2" in dataset.left_out[0]
        with pytest.raises(ValueError, match=message):
            YOLODataset(tmp_path, strict=True)


def test_yolo_polygon_too_long_to_fill_is_skipped(tmp_path):
    triangle = " .1 .1 .9 .9 .1 .9"  # 32 + 32 + 24 px in an image of 30 x 40
    yaml_file(put(tmp_path / "train", f"0{triangle * 30_000}", f"0{triangle * 101}", BOX).parent)
    dataset = YOLODataset(tmp_path)
    (reason,) = dataset.left_out
    assert "at most 2,000,000 pixels long. Received: 2,640,000 pixels" in reason
    assert "a.txt, line 1" in reason
    assert dataset.load_mask(0)[0].sum(axis=(0, 1)).all()


def test_yolo_classes_follow_class_names(tmp_path):
    yaml_file(put(tmp_path / "train", SQUARE, BOX).parent)
    dataset = YOLODataset(tmp_path, class_names=["dog", "bird", "cat"])
    assert dataset.class_names == ["BG", "dog", "bird", "cat"] and names_of(dataset) == [
        "cat",
        "dog",
    ]
    dataset = YOLODataset(tmp_path, class_names=["dog"])
    assert names_of(dataset) == ["dog"] and len(dataset.left_out) == 1
    put(tmp_path / "bare", SQUARE, BOX)
    (tmp_path / "data.yaml").unlink()
    assert names_of(YOLODataset(tmp_path / "bare", class_names=["cat", "dog"])) == ["cat", "dog"]


def test_yolo_names_stay_texts_and_are_cleaned(tmp_path):
    put(tmp_path / "train", SQUARE, BOX, "2 0.1 0.1 0.2 0.2")
    yaml_file(tmp_path, 'train: train/images\nnames: [no, 12, "a\\e[31m", null]\n')
    assert YOLODataset(tmp_path).class_names == ["BG", "no", "12", "a [31m", "null"]


def test_keypoints_behind_a_box_are_ignored(tmp_path):
    put(tmp_path / "train", BOX + " 0.5 0.5 2 0.6 0.6 2 0.1 0.2 0")
    yaml_file(tmp_path, "train: train/images\nkpt_shape: [3, 3]\nnames: [cat, dog]\n")
    assert boxes_of(YOLODataset(tmp_path)) == [[12, 15, 18, 25]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat", "must be YAML"),
        ("a: &a [1]\nb: *a\nnames: [cat]", "without aliases"),
        ("- 1\n", "must contain names"),
        ("", "must contain names"),
        ("train: train/images\nnames: {cat: 0}\n", "list of class names"),
        ("train: train/images\nnames: [[cat]]\n", "list of class names"),
        ("train: train/images\n", "list of class names"),
        (
            "train: gone\nnames: [cat]",
            "images and label files of the set train. Received: no images",
        ),
        ("!!python/object/apply:os.system ['exit 1']", "must contain names"),
        ("names: " + "x" * 300_000, "at most 262,144 bytes"),
        ("[" * 100_000, "must be YAML"),
    ],
)
def test_a_bad_data_yaml_is_named(tmp_path, text, message):
    put(tmp_path / "train", SQUARE)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=message) as caught:
        YOLODataset(yaml_file(tmp_path, text))
    assert "data.yaml" in str(caught.value) and "Try " in str(caught.value)
    assert time.perf_counter() - start < 10


def test_a_folder_without_labels_is_not_yolo(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "readme.txt").write_text("hello")
    assert find_sets(tmp_path) == {}
    with pytest.raises(ValueError, match="Received: no images with label files"):
        YOLODataset(tmp_path)
    with pytest.raises(ValueError, match="Received: no images with label files"):
        YOLODataset(tmp_path / "gone")


def test_a_yaml_of_something_else_does_not_hide_the_data(tmp_path):
    (tmp_path / "compose.yaml").write_text("services: [names: 1")
    write_image(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps({"shapes": [], "imagePath": "a.png"}))
    assert open_dataset(tmp_path).num_images == 1


def test_a_json_data_yaml_is_read(tmp_path):
    put(tmp_path / "train", SQUARE)
    assert read_yaml(yaml_file(tmp_path, '{"train": "train/images", "names": ["cat"]}'))[
        "names"
    ] == ["cat"]
    assert names_of(YOLODataset(tmp_path / "data.yaml")) == ["cat"]


@FUZZ
@given(seed=st.integers(0, 2**32), which=st.sampled_from(["data.yaml", "train/labels/a.txt"]))
def test_damaged_yolo_file_raises_only_value_errors_with_a_remedy(tmp_path, seed, which):
    yaml_file(put(tmp_path / "train", SQUARE, BOX).parent)
    file = tmp_path / which
    file.write_bytes(cut_or_changed(file.read_bytes(), seed))
    read_or_refuse(lambda: YOLODataset(tmp_path / "data.yaml"))


@FUZZ
@given(text=st.text("0123456789.-+einfax \n", max_size=60))
def test_any_yolo_label_file_is_read(tmp_path, text):
    yaml_file(put(tmp_path / "train", text or SQUARE).parent)
    read_or_refuse(lambda: YOLODataset(tmp_path))

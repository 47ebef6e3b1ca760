"""Files of a split: they are read again, and other tools' files hold the images of their part."""

import json

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, annotation, coco, voc, voc_object, write_coco, write_image

from mrcnn.data.dataset import overrides
from mrcnn.data.split import Split, draw_split, image_names, subset
from mrcnn.formats.open_dataset import open_dataset
from mrcnn.formats.split_files import read_split, write_lists, write_split


def test_split_is_read_as_it_was_written(tmp_path):
    split = Split(["a.png", "ü.png"], ["c.png"], 2)
    file = write_split(tmp_path, split, share=0.7, seed=3)
    assert read_split(file) == read_split(tmp_path) == split
    assert json.loads(file.read_text())["seed"] == 3


@pytest.mark.parametrize("content", ["[]", '{"train": ["a"]}', '{"train": ["a"], "val": [1]}'])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ValueError, match="lists train and val of image names. Received: .*split"):
        read_split(tmp_path)


def four_images(tmp_path, folder="."):
    return [write_image(tmp_path / folder / f"{name}x.png") for name in "abcd"]


def written(tmp_path, data):
    """Split 3 to 1; returns the split and the files written, by name."""
    dataset = open_dataset(data)
    split = draw_split(dataset, 0.75)
    assert (len(split.train), len(split.val)) == (3, 1)
    out = tmp_path / "out"
    out.mkdir()
    files = write_lists(out, data, dataset, split)
    paths = (out / "val.txt").read_text().splitlines()
    assert len(paths) == 1 and paths[0].endswith(split.val[0])
    return split, {file.relative_to(out).as_posix(): file for file in files}


def four_of_coco(tmp_path, **more):
    four_images(tmp_path)
    square = [[4, 3, 14, 3, 14, 8, 4, 8]]
    return coco(
        images=[
            {"id": i, "file_name": f"{name}x.png", "height": HEIGHT, "width": WIDTH}
            for i, name in enumerate("abcd")
        ],
        annotations=[annotation(10 + i, 18, square, image_id=i, **more) for i in range(4)],
    )


def test_coco_gets_a_file_for_each_part(tmp_path):
    data = write_coco(tmp_path, four_of_coco(tmp_path))
    split, files = written(tmp_path, data)
    assert sorted(files) == ["instances_train.json", "instances_val.json", "train.txt", "val.txt"]
    part = open_dataset(files["instances_train.json"], images_dir=tmp_path)
    assert image_names(part) == split.train and part.class_names == ["BG", "cat", "dog"]
    content = json.loads(files["instances_val.json"].read_text())
    assert [each["image_id"] for each in content["annotations"]] == [content["images"][0]["id"]]


def test_via_gets_a_file_for_each_part(tmp_path):
    region = {
        "shape_attributes": {"name": "rect", "x": 2, "y": 3, "width": 4, "height": 3},
        "region_attributes": {"kind": "cat"},
    }
    four_images(tmp_path)
    entries = {f"{i}1": {"filename": f"{i}x.png", "regions": [region]} for i in "abcd"}
    for project in (False, True):
        data = {"_via_settings": {}, "_via_img_metadata": entries} if project else entries
        file = tmp_path / f"{project}" / "v.json"
        file.parent.mkdir()
        file.write_text(json.dumps(data))
        four_images(file.parent)
        split, files = written(file.parent, file)
        part = open_dataset(files["via_val.json"], images_dir=file.parent)
        assert image_names(part) == split.val


def test_yolo_gets_a_data_yaml_of_lists(tmp_path):
    for path in four_images(tmp_path, "images"):
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{path.stem}.txt").write_text("1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    split, files = written(tmp_path, tmp_path / "data.yaml")
    for name in ("train", "val"):
        part = open_dataset(files["data.yaml"], split=name) if name == "val" else None
        part = part or open_dataset(files["data.yaml"])
        assert image_names(part) == getattr(split, name)
        assert part.class_names == ["BG", "cat", "dog"] and part.load_mask(0)[1].tolist() == [2]


def test_voc_gets_its_lists(tmp_path):
    for name in ("2007_a", "2007_b", "2007_c", "2007_d"):
        voc(tmp_path, voc_object(), name=name)
    split, files = written(tmp_path, tmp_path)
    listed = files["ImageSets/Main/val.txt"].read_text().split()
    assert [f"{name}.jpg" for name in listed] == split.val


def test_masks_get_lists_only(tmp_path):
    for i in range(4):
        write_image(tmp_path / str(i) / "images" / f"{i}x.png")
        write_image(tmp_path / str(i) / "masks" / "m.png", (HEIGHT, WIDTH))
    _, files = written(tmp_path, tmp_path)
    assert sorted(files) == ["train.txt", "val.txt"]


def test_part_of_boxes_only_loads_its_own_boxes(tmp_path):
    """COCO's reader puts `load_bbox` on the object; a part must not keep that of the whole."""
    content = four_of_coco(tmp_path)
    for i, each in enumerate(content["annotations"]):
        del each["segmentation"]
        each["bbox"] = [i, 0, 5, 5]
    dataset = open_dataset(write_coco(tmp_path, content))
    part = subset(dataset, [2, 3])
    assert overrides(part, "load_bbox")
    np.testing.assert_array_equal(part.load_bbox(0)[0], [[0, 2, 5, 7]])


def test_part_of_mask_folders_has_its_own_masks(tmp_path):
    for i in range(3):
        write_image(tmp_path / str(i) / "images" / f"{i}x.png")
        for k in range(i + 1):
            write_image(tmp_path / str(i) / "masks" / f"{k}.png", (HEIGHT, WIDTH))
    dataset = open_dataset(tmp_path)
    assert dataset.load_mask(0)[0].shape[2] == 1
    assert subset(dataset, [2]).load_mask(0)[0].shape[2] == 3

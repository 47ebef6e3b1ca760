"""Every format is recognized by its content."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    box_shape,
    coco,
    instance_images,
    labelme,
    nuclei,
    rect,
    region,
    via,
    voc,
    voc_object,
    voc_split,
    write_coco,
    write_image,
)

from mrcnn.data.shapes import ShapesDataset
from mrcnn.formats import reading
from mrcnn.formats.coco import CocoDataset
from mrcnn.formats.labelme import LabelmeDataset
from mrcnn.formats.mask_images import InstanceImageDataset, MaskFolderDataset
from mrcnn.formats.open_dataset import open_dataset, split_folders
from mrcnn.formats.via import VIADataset
from mrcnn.formats.voc import VOCDataset


def test_open_dataset_recognizes_each_format(tmp_path):
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


def test_open_dataset_error_lists_content_and_known_formats(tmp_path):
    with pytest.raises(ValueError, match=r"must exist. Received: nowhere(.|\n)*Understood are"):
        open_dataset("nowhere")
    nuclei(tmp_path / "train" / "one", [])
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"readme.txt, train/ \(name one of train/(.|\n)*annotations/"
    ) as caught:
        open_dataset(tmp_path)
    assert "the word shapes" in str(caught.value)
    with pytest.raises(ValueError, match="a file readme.txt"):
        open_dataset(tmp_path / "readme.txt")
    other = tmp_path / "other"
    other.mkdir()
    for content, holds in {
        "[]": "a list of 0",
        "{}": "an empty object",
        '{"images": [], "info": 1}': r"an object with the names \['images', 'info'\]",
        "3": "3",
    }.items():
        (other / "e.json").write_text(content)
        for path in (other, other / "e.json"):
            with pytest.raises(
                ValueError,
                match=f"Received: e.json contains {holds}. COCO's is an object with the lists",
            ):
                open_dataset(path)
    for name in ("instances_train.json", "instances_val.json"):
        write_coco(tmp_path / "annotations", coco(), name)
    with pytest.raises(
        ValueError, match=r"one annotation file. Received: instances_train.json, instances_val"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("reader", [CocoDataset, VIADataset, open_dataset])
def test_truncated_json_is_named(tmp_path, reader):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(coco())[:-20])
    with pytest.raises(
        ValueError, match=r"cut\.json must be complete JSON.*Try to export or download"
    ):
        reader(path)


@pytest.mark.parametrize("reader", [CocoDataset, VIADataset])
def test_readers_refuse_files_of_other_formats(tmp_path, reader):
    path = tmp_path / "other.json"
    path.write_text('{"shapes": [], "version": "5.0"}')
    with pytest.raises(ValueError, match=r"other\.json must be a (COCO|VIA)"):
        reader(path)


def test_open_dataset_recognizes_layouts_of_other_tools(tmp_path):
    labelme(tmp_path / "lm", box_shape("cat"), name="a")
    file = labelme(tmp_path / "lm", box_shape("dog"), name="b")
    opened = open_dataset(tmp_path / "lm", class_names=["dog", "cat"])
    assert isinstance(opened, LabelmeDataset) and opened.num_images == 2
    assert open_dataset(file).class_names == ["BG", "dog"]
    root = voc(tmp_path / "VOC2012", voc_object())
    assert isinstance(open_dataset(root), VOCDataset)
    listed = voc_split(root, "Segmentation/val", "2007_000001")
    assert isinstance(open_dataset(listed), VOCDataset) and open_dataset(listed).num_images == 1
    labels = np.ones((HEIGHT, WIDTH), np.uint8)
    assert isinstance(
        open_dataset(instance_images(tmp_path / "ids", labels), class_name="x"),
        InstanceImageDataset,
    )
    assert isinstance(
        open_dataset(instance_images(tmp_path / "id2", labels, masks="labels")),
        InstanceImageDataset,
    )


def test_open_dataset_class_names_are_those_requested(tmp_path):
    labelme(tmp_path / "lm", box_shape("dog"))
    assert open_dataset(tmp_path / "lm").class_names == ["BG", "dog"]
    wanted = open_dataset(tmp_path / "lm", ["cat", "dog"])  # this folder shows no cat
    assert wanted.class_names == ["BG", "cat", "dog"] and wanted.load_mask(0)[1].tolist() == [2]
    with pytest.raises(ValueError, match="'dog'"):
        open_dataset(tmp_path / "lm", ["cat"])
    folder = instance_images(tmp_path / "ids", np.ones((HEIGHT, WIDTH), np.uint8))
    assert open_dataset(folder, ["nucleus"]).class_names == ["BG", "nucleus"]
    with pytest.raises(ValueError, match=r"must be \['a', 'b'\]. Received: \['object'\]"):
        open_dataset(folder, ["a", "b"])


def test_open_dataset_passes_common_options_to_readers_that_take_them(tmp_path):
    path = write_coco(tmp_path / "labels", coco())
    image = write_image(tmp_path / "elsewhere" / "a.png")
    assert open_dataset(path, images_dir=tmp_path / "elsewhere").image_info[0]["path"] == str(image)
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5)])
    assert open_dataset(tmp_path / "nuclei", strict=True).num_images == 1
    with pytest.raises(
        ValueError, match=r"for annotation files.*elsewhere for data that MaskFolderDataset reads"
    ):
        open_dataset(tmp_path / "nuclei", images_dir=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("train", "valid"),  # Roboflow
        ("train", "validation"),
        ("train.json", "val.json"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        ("annotations/instances_Train.json", "annotations/instances_Validation.json"),
    ],
)
def test_split_folders_returns_training_and_validation_data(tmp_path, train, val):
    assert split_folders(tmp_path) is None and split_folders(tmp_path / "nowhere") is None
    write_coco(tmp_path / "annotations", coco(), "captions_train2017.json")
    for name in (train, val):
        assert split_folders(tmp_path) is None
        if name.endswith(".json"):
            write_coco((tmp_path / name).parent, coco(), (tmp_path / name).name)
        else:
            write_coco(tmp_path / name, coco(), "_annotations.coco.json")
    assert split_folders(str(tmp_path)) == (tmp_path / train, tmp_path / val)
    assert open_dataset(tmp_path / val).num_images == 2


def test_open_dataset_searches_the_folder_annotations(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
    (tmp_path / "info.json").write_text('{"author": "me"}')
    write_coco(tmp_path / "annotations", coco(), "train.json")
    assert open_dataset(tmp_path).load_mask(0)[1].tolist() == [2, 1, -1]
    write_coco(tmp_path / "annotations", coco(annotations=[]), "instances_default.json")
    assert open_dataset(tmp_path).load_mask(0)[1].tolist() == []  # COCO's own name counts first


def test_open_dataset_names_the_sets_of_roboflow(tmp_path):
    for name in ("train", "valid"):
        write_coco(tmp_path / name, coco(), "_annotations.coco.json")
    with pytest.raises(ValueError, match=r"name one of train/, valid/ to use it"):
        open_dataset(tmp_path)


def test_open_dataset_maps_coco_categories_by_name(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    path = write_coco(tmp_path, coco())
    dataset = open_dataset(path, class_names=["dog", "cow, brown", "cat"])
    assert dataset.class_names == ["BG", "dog", "cow", "cat"] and dataset.load_mask(0)[
        1
    ].tolist() == [1, 3, -3]


def test_open_dataset_distinguishes_layouts_of_images(tmp_path):
    labels = np.ones((HEIGHT, WIDTH), np.uint8)
    for name in ("train", "val"):  # two sets, and no folder an image
        instance_images(tmp_path / "sets" / name, labels, "a")
        instance_images(tmp_path / "sets" / name, labels, "b")
    with pytest.raises(ValueError, match=r"\(name one of train/, val/ to use it\)"):
        open_dataset(tmp_path / "sets")
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5), (6, 6, 9, 9)])
    with pytest.raises(
        ValueError, match=r"no image of that name.*<id>/images, <id>/masks name the folder above"
    ):
        open_dataset(tmp_path / "nuclei" / "one")
    voc(tmp_path / "VOCdevkit" / "VOC2007")
    with pytest.raises(ValueError, match=r"\(name one of VOC2007/ to use it\)"):
        open_dataset(tmp_path / "VOCdevkit")


def test_open_dataset_refuses_several_formats_in_one_folder(tmp_path):
    via(tmp_path, region(rect()), name="all.json")
    labelme(tmp_path, box_shape(), name="z")
    with pytest.raises(ValueError, match=r"one annotation file. Received: all\.json, z\.json"):
        open_dataset(tmp_path)


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
def test_real_data_sets_have_the_documented_counts(shared, name, images, objects):
    dataset = real(shared, name)
    assert dataset.num_images == images and dataset.num_classes == 2
    infos = dataset.image_info
    if name.startswith("balloon"):
        assert sum(len(info["polygons"]) for info in infos) == objects
    else:
        assert sum(len(reading.image_files(Path(info["masks"]))) for info in infos) == objects


def test_coco_tiny_has_the_documented_counts(shared):
    tiny = [
        real(shared, f"coco_tiny/annotations/instances_{subset}2017.json")
        for subset in ("train", "val")
    ]
    assert [dataset.num_images for dataset in tiny] == [80, 80]
    assert [dataset.num_classes for dataset in tiny] == [81, 81]
    entries = [a for dataset in tiny for info in dataset.image_info for a in info["annotations"]]
    assert len(entries) == 1520 and sum(a["iscrowd"] for a in entries) == 17
    assert (
        sum(isinstance(a["segmentation"], list) and len(a["segmentation"]) > 1 for a in entries)
        == 120
    )


def test_region_attribute_is_refused_except_for_via(tmp_path):
    via(tmp_path, region(rect(), kind="dog", mood="calm"))
    assert open_dataset(tmp_path, attribute="mood").class_names == ["BG", "calm"]
    with pytest.raises(
        ValueError, match=r"Received: 'mood' for data that ShapesDataset reads.*\(--attribute\)"
    ):
        open_dataset("shapes", attribute="mood")

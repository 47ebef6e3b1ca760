"""DATA: datasets, classes, counts."""

import json

import numpy as np
import pytest
from command_line import coco_file, image_file, run, via_file
from PIL import Image

from mrcnn.app import cli, data_option


def test_other_classes_than_required_are_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"classes of shapes must be \['cat'\]\. Received: \['square'"
    ):
        data_option.open_data("shapes", ["BG", "cat"])
    folder = via_file(tmp_path / "val", ["eel"])
    with pytest.raises(ValueError, match=r"must be among \['cat', 'dog'\]\. Received: \['eel'\]"):
        data_option.open_data(str(folder), ["BG", "cat", "dog"])


def test_single_class_takes_its_training_name(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "x" / part).mkdir(parents=True)
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "x" / part / "a.png")
    dataset = data_option.open_data(str(tmp_path), ["BG", "nucleus"])
    assert dataset.class_names == ["BG", "nucleus"]
    assert data_option.objects_per_class(dataset) == {"nucleus": 1}


def test_class_name_is_for_data_that_names_no_class(tmp_path, capsys):
    folder = via_file(tmp_path / "named", ["cat"])
    bare = via_file(tmp_path / "bare", ["cat"])
    content = json.loads((bare / "via_region_data.json").read_text())
    content["0"]["regions"][0]["region_attributes"] = {}
    (bare / "via_region_data.json").write_text(json.dumps(content))
    assert run("check", bare, "--class-name", " sea\nurchin ") == cli.OK
    assert "sea urchin" in capsys.readouterr().out
    for data in (folder, coco_file(tmp_path / "coco"), "shapes"):
        image_file(tmp_path / "coco" / "a.png")
        assert run("check", data, "--class-name", "eel") == cli.FAILED
        shown = capsys.readouterr().err
        assert "can be named for data that names none. Received: 'eel'" in shown
        assert "Try without it (--class-name)" in shown


def test_one_image_and_one_class_are_singular(tmp_path, caplog):
    with caplog.at_level("INFO", logger="mrcnn"):
        data_option.log_data(
            "Data", data_option.open_data(str(via_file(tmp_path / "one", ["cat"])))
        )
    assert caplog.messages[-1] == "Data: VIADataset, 1 image, 1 class (and their objects): cat 1"


def test_images_option_and_strict_option(tmp_path, capsys):
    image_file(tmp_path / "photos" / "a.png")
    bad = [{"id": 2, "image_id": 1, "category_id": 9}]
    good = json.loads(coco_file(tmp_path / "labels").read_text())["annotations"]
    file = coco_file(tmp_path / "labels", annotations=good + bad)
    assert run("check", file, "--images", tmp_path / "photos") == cli.OK
    shown = capsys.readouterr()
    assert "1 image, 1 object" in shown.out and "1 of 2 annotations" in shown.err
    assert run("check", file, "--images", tmp_path / "photos", "--strict") == cli.FAILED
    assert "category_id must be among" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["3", "null", "", "[1]"])
def test_json_file_is_not_read_as_yaml(content, tmp_path, capsys):
    file = tmp_path / "a.json"
    file.write_text(content)
    assert run("check", file) == cli.FAILED
    assert (
        "YOLO. " not in (shown := capsys.readouterr().err)
        and "data.yaml of YOLO" not in shown.split("Understood")[0]
    )


def test_coco_file_is_checked_without_pixels(shared, capsys):
    file = shared / "data" / "coco_tiny" / "annotations" / "instances_val2017.json"
    assert run("check", file, "--no-pixels", "--limit", 2) == cli.OK
    assert "\n2 images, " in "\n" + capsys.readouterr().out

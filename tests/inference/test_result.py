"""`Result`: a dict with attributes, drawn, written and converted."""

import copy
import csv
import json
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mrcnn.data.keypoints import Skeleton
from mrcnn.drawing.pages import draw_result
from mrcnn.files.write_image import is_own_image
from mrcnn.formats.coco import coco_results
from mrcnn.formats.open_dataset import open_dataset
from mrcnn.formats.rle import mask_to_rle
from mrcnn.inference.result import Result, numbered_classes

NAMES = ["BG", "cat", "dog"]
SHAPE = (8, 6)
MASKS = np.zeros((*SHAPE, 3), bool)
MASKS[1:3, 1:4, 0] = True
MASKS[4:8, 0:2, 1] = True
MASKS[0, 5, 2] = True
ROIS = np.array([[1, 1, 3, 4], [4, 0, 8, 2], [0, 5, 1, 6]], np.int32)
FORMS = {
    "full": MASKS,
    "crop": [np.ones((2, 3), bool), np.ones((4, 2), bool), np.ones((1, 1), bool)],
    "rle": [mask_to_rle(MASKS[:, :, i]) for i in range(3)],
    "soft": [
        (1, 1, np.full((2, 3), 0.9, np.float32)),
        (4, 0, np.full((4, 2), 0.9, np.float32)),
        (0, 5, np.full((1, 1), 0.9, np.float32)),
    ],
}
KEYPOINTS = np.array([[[1.5, 2.5, 3.0], [2.5, 3.5, -1.0]]] * 3, np.float32)
ARRAYS = {
    "rois": ROIS,
    "class_ids": np.array([2, 1, 2], np.int32),
    "scores": np.array([0.75, 0.5, 0.25], np.float32),
}
IMAGE = np.full((*SHAPE, 3), 90, np.uint8)


def make(form="full", path=None, keypoints=False, **changes):
    arrays = {**ARRAYS, **changes}
    if form is not None:
        arrays["masks"] = FORMS[form]
    skeleton = None
    if keypoints:
        arrays["keypoints"] = KEYPOINTS
        skeleton = Skeleton(["nose", "tail"], [[0, 1]])
    return Result(arrays, (*SHAPE, 3), NAMES, skeleton, path)


def nothing(path=None):
    """A result without detections."""
    return make(path=path).select([])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(IMAGE).save(path)
    return str(path)


# --- A dict ---


def test_a_result_is_the_dict_that_matterport_returned():
    result = make()
    assert list(result.keys()) == ["rois", "class_ids", "scores", "masks"]
    assert result["rois"] is ROIS and "keypoints" not in result and len(result) == 4
    assert type({**result}) is type(dict(result)) is dict
    assert (lambda rois, **others: sorted(others))(**result) == ["class_ids", "masks", "scores"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_results_are_whole(protocol):
    result = make(path="a.png", keypoints=True)
    found = pickle.loads(pickle.dumps(result, protocol))
    assert type(found) is Result and found.__dict__ == result.__dict__
    assert list(found) == list(result)
    np.testing.assert_array_equal(found["masks"], MASKS)


def test_copies_are_results():
    result = make(path="a.png")
    for found in (copy.copy(result), result.copy(), copy.deepcopy(result)):
        assert type(found) is Result and found.__dict__ == result.__dict__
        found["new"] = 1
        assert "new" not in result


# --- Attributes ---


def test_no_detections():
    result = nothing()
    assert result.count == 0 and result.labels == [] and result.rles == []
    assert result.boxes.shape == (0, 4) and result.masks.shape == (8, 6, 0)
    assert result.above(0.5).count == result.of_class("dog").count == 0
    assert result.to_dict() == {"width": 6, "height": 8, "detections": []}
    assert result.to_coco(1) == []
    assert result.plot(IMAGE).dtype == np.uint8


def test_attributes_name_the_arrays():
    result = make(keypoints=True)
    assert result.boxes is ROIS and result.scores is ARRAYS["scores"]
    assert result.class_ids is ARRAYS["class_ids"] and result.keypoints is KEYPOINTS
    assert (result.image_shape, result.class_names) == (SHAPE, NAMES)
    assert (result.count, result.labels) == (3, ["dog", "cat", "dog"])


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_every_form(form):
    result = make(form)
    np.testing.assert_array_equal(result.masks, MASKS)
    assert result.rles == FORMS["rle"]
    np.testing.assert_array_equal(result.select([2, 0]).masks, MASKS[:, :, [2, 0]])


def test_networks_without_masks_or_keypoints():
    result = make(None)
    assert result.masks is result.rles is result.keypoints is None
    assert "mask" not in result.to_dict()["detections"][0]
    assert result.plot(IMAGE).shape[2] == 3


def test_selections_keep_what_the_result_knows():
    result = make(path="a.png", keypoints=True)
    found = result.above(0.5)
    assert found.scores.tolist() == [0.75, 0.5] and found.__dict__ == result.__dict__
    assert found.masks.shape == (8, 6, 2) and found.keypoints.shape == (2, 2, 3)
    assert result.count == 3
    assert result.of_class("dog").scores.tolist() == [0.75, 0.25]
    assert result.select(slice(1, 3)).labels == ["cat", "dog"]
    with pytest.raises(ValueError, match="names must be among cat, dog. Received: \\['cow'\\]"):
        result.of_class("cow")


def test_classes_without_names_are_numbered():
    assert numbered_classes(3) == ["BG", "class 1", "class 2"]


# --- Drawn ---


@pytest.mark.parametrize("form", FORMS)
def test_plot_draws_as_the_command(form, file):
    drawn = draw_result(IMAGE, {**ARRAYS, "masks": MASKS}, NAMES)
    np.testing.assert_array_equal(make(form).plot(IMAGE), drawn)
    np.testing.assert_array_equal(make(form).plot(Image.fromarray(IMAGE)), drawn)
    np.testing.assert_array_equal(make(form, path=file).plot(), drawn)


def test_plot_draws_keypoints():
    drawn = draw_result(
        IMAGE, {**ARRAYS, "masks": MASKS, "keypoints": KEYPOINTS}, NAMES, skeleton=[[0, 1]]
    )
    np.testing.assert_array_equal(make(keypoints=True).plot(IMAGE), drawn)


def test_plot_needs_the_image_of_the_result():
    with pytest.raises(ValueError, match=r"Received: no image. Try result.plot\(image\)"):
        make().plot()
    with pytest.raises(ValueError, match=r"of \(8, 6\) \(height, width\). Received: \(6, 8\)"):
        make().plot(np.zeros((6, 8, 3), np.uint8))


def test_proposals_are_not_drawn():
    proposals = Result({key: ARRAYS[key] for key in ("rois", "scores")}, SHAPE, NAMES)
    with pytest.raises(ValueError, match="Received: one without class_ids"):
        proposals.plot(IMAGE)


# --- Written ---


@pytest.mark.parametrize("name", ["found.png", "found.JPG"])
def test_save_draws_an_image(name, file, tmp_path):
    make(path=file).save(tmp_path / "new" / name)
    found = np.asarray(Image.open(tmp_path / "new" / name))
    assert found.shape == make().plot(IMAGE).shape
    assert is_own_image(tmp_path / "new" / name) == name.endswith(".png")


def test_save_writes_json(tmp_path):
    make().save(tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == make().to_dict()


@pytest.mark.parametrize("form", FORMS)
def test_save_writes_tables(form, file, tmp_path):
    result = make(form, path=file)
    result.save(tmp_path / "new" / "found.csv")
    rows = list(csv.DictReader((tmp_path / "new" / "found.csv").open()))
    assert [(row["class"], row["mask_area"]) for row in rows] == [
        ("dog", "6"), ("cat", "8"), ("dog", "1"),
    ]  # fmt: skip
    result.save(tmp_path / "found.geojson")
    features = json.loads((tmp_path / "found.geojson").read_text())["features"]
    assert [feature["properties"]["class"] for feature in features] == ["dog", "cat", "dog"]


@pytest.mark.parametrize("format", ["coco", "labelme", "via"])
def test_save_writes_files_of_other_tools(format, file, tmp_path):
    make("crop", path=file).save(tmp_path / "found.json", format=format)
    dataset = open_dataset(tmp_path / "found.json")
    assert dataset.image_info[0]["path"] == file
    masks, class_ids = dataset.load_mask(0)
    names = [dataset.class_names[class_id] for class_id in class_ids]
    assert sorted(names) == ["cat", "dog", "dog"]
    assert masks[:, :, names.index("cat")].sum() == 8


@pytest.mark.parametrize("format", ["yolo", "png"])
def test_save_writes_folders(format, file, tmp_path):
    make("rle", path=file).save(tmp_path / "found", format=format)
    dataset = open_dataset(tmp_path / "found" / format)
    assert dataset.load_mask(dataset.image_ids[0])[0].sum() == 15  # 6 + 8 + 1


def test_save_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(ValueError, match="path must end in .png.*Received: found.txt"):
        make().save("found.txt")
    with pytest.raises(ValueError, match="Try result.path = 'image.png' first"):
        make().save(tmp_path / "found.csv")
    with pytest.raises(ValueError, match="formats must be among coco"):
        make(path="a.png").save(tmp_path / "a" / "found.json", format="word")
    assert list(tmp_path.iterdir()) == []


# --- Converted ---


def test_to_dict_holds_plain_numbers():
    result = make("crop", path="a.png", keypoints=True)
    content = result.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert (content["file_name"], content["width"], content["height"]) == ("a.png", 6, 8)
    assert content["keypoint_names"] == ["nose", "tail"]
    assert content["detections"][0] == {
        "class_id": 2,
        "class_name": "dog",
        "score": 0.75,
        "box": [1, 1, 3, 4],
        "mask": FORMS["rle"][0],
        "keypoints": [[1.5, 2.5, 3.0], [2.5, 3.5, -1.0]],
    }


@pytest.mark.parametrize("form", FORMS)
def test_to_coco_gives_result_entries(form):
    expected = coco_results(7, {**ARRAYS, "masks": MASKS}, {1: 10, 2: 20})
    assert make(form).to_coco(7, {1: 10, 2: 20}) == expected
    json.dumps(expected)


def test_to_pandas_gives_the_columns_of_the_table(monkeypatch):
    table = SimpleNamespace(DataFrame=lambda rows, columns: (rows, columns))
    monkeypatch.setitem(sys.modules, "pandas", table)
    rows, columns = make("rle", path="a.png").to_pandas()
    assert rows[0] == {
        "image": "a.png", "class": "dog", "score": 0.75, "x1": 1, "y1": 1, "x2": 4, "y2": 3,
        "box_area": 6, "mask_area": 6,
    }  # fmt: skip
    assert columns == list(rows[0])
    assert make(None).to_pandas()[0][0]["mask_area"] is None


class CompactMask:
    """A stub of supervision's."""

    @classmethod
    def from_coco_rle(cls, rles, xyxy, image_shape):
        return rles, xyxy.tolist(), image_shape


@pytest.mark.parametrize("form", FORMS)
def test_to_supervision_gives_compact_masks(form, monkeypatch):
    stub = SimpleNamespace(Detections=SimpleNamespace, CompactMask=CompactMask)
    monkeypatch.setitem(sys.modules, "supervision", stub)
    found = make(form).to_supervision()
    assert found.xyxy[0].tolist() == [1, 1, 4, 3]
    # The last pixel counts: x 1 to 3 and y 1 to 2.
    corners = [[1, 1, 3, 2], [0, 4, 1, 7], [5, 0, 5, 0]]
    assert found.mask == (FORMS["rle"], corners, SHAPE)
    assert found.data["class_name"].tolist() == ["dog", "cat", "dog"]
    np.testing.assert_array_equal(
        make(form).to_supervision(compact=False).mask, np.moveaxis(MASKS, 2, 0)
    )
    assert nothing().to_supervision().mask == ([], [], SHAPE)
    assert make(None).to_supervision().mask is None
    keypoints = make(keypoints=True).to_supervision().data["keypoints"]
    assert keypoints[0].tolist() == [[2.5, 1.5, 3.0], [3.5, 2.5, -1.0]]


def test_missing_packages_are_named(monkeypatch):
    for name in ("supervision", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=f"Try pip install {name}"):
            getattr(make(), f"to_{name}")()
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    with pytest.raises(ImportError, match="Try pip install -U supervision"):
        make().to_supervision()

"""Keypoints of COCO's files: read, written, and read again."""

import json

import numpy as np
import pytest
from annotated import coco, write_coco, write_image

from mrcnn.data.keypoints import Skeleton
from mrcnn.formats.coco import CocoDataset
from mrcnn.formats.coco_keypoints import coco_keypoints, read_keypoints
from mrcnn.formats.export import Export

NAMES = ["left_end", "right_end"]
BOX = [4, 3, 26, 22]


def keypoint_file(folder, *keypoints, **category):
    """A file whose annotations have these keypoints; None leaves the entry out."""
    write_image(folder / "a.png")
    write_image(folder / "b.png")
    annotations = []
    for i, numbers in enumerate(keypoints, start=1):
        entry = {"id": i, "image_id": 7, "category_id": 18, "bbox": BOX}
        annotations.append(entry if numbers is None else {**entry, "keypoints": numbers})
    categories = [{"id": 18, "name": "cat", **category}]
    return write_coco(folder, {**coco(), "annotations": annotations, "categories": categories})


def test_file_without_keypoints(tmp_path):
    dataset = CocoDataset(keypoint_file(tmp_path, None))
    assert list(dataset.keypoint_names) == []
    with pytest.raises(ValueError, match="CocoDataset, whose categories have no `keypoints`"):
        dataset.load_keypoints(0)


def test_pixels_are_counted_from_the_corner(tmp_path):
    path = keypoint_file(tmp_path, [5, 9, 2, 0, 0, 0], None, keypoints=NAMES, skeleton=[[1, 2]])
    dataset = CocoDataset(path)
    assert dataset.keypoint_names == NAMES and dataset.keypoint_skeleton == [[0, 1]]
    assert dataset.load_keypoints(0).tolist() == [[[9.5, 5.5, 2], [0, 0, 0]], [[0, 0, 0]] * 2]
    assert dataset.load_keypoints(1).shape == (0, 2, 3)
    assert dataset.load_bbox(0)[0].shape == (2, 4)


def test_unnamed_keypoints_are_numbered(tmp_path):
    dataset = CocoDataset(keypoint_file(tmp_path, None, [5, 9, 2, 1, 1, 1]))
    assert dataset.keypoint_names == ["keypoint_1", "keypoint_2"]


def test_categories_with_different_keypoints_are_not_read(tmp_path, caplog):
    path = keypoint_file(tmp_path, None, keypoints=NAMES)
    content = json.loads(path.read_text())
    content["categories"].append({"id": 19, "name": "dog", "keypoints": ["tail"]})
    path.write_text(json.dumps(content))
    assert list(CocoDataset(path).keypoint_names) == []
    assert "different keypoints" in caplog.text
    assert CocoDataset(path, class_ids=[19]).keypoint_names == ["tail"]


@pytest.mark.parametrize(
    "numbers", [[1, 2, 2], [1, 2, 2, 1, 2, None], "12", [1, 2, 2, 1, 2, 1e999]]
)
def test_wrong_numbers_name_the_annotation(numbers):
    with pytest.raises(ValueError, match="2 times x, y, visibility.*annotation 3"):
        read_keypoints({"keypoints": numbers}, 2, "annotation 3")


def test_wrong_skeletons_are_ignored(tmp_path):
    path = keypoint_file(tmp_path, None, keypoints=NAMES, skeleton=[[1, 3], "x", [0, 1], [2, 1]])
    assert CocoDataset(path).keypoint_skeleton == [[1, 0]]


def test_writing_is_the_inverse_of_reading():
    numbers = [5.25, 9.0, 2, 0.0, 0.0, 0]
    assert coco_keypoints(read_keypoints({"keypoints": numbers}, 2, "x")) == numbers


def test_export_is_read_again(tmp_path):
    image = tmp_path / "a.png"
    write_image(image)
    keypoints = np.float32([[[9.5, 5.5, 7.25], [8, 6, -1]]])
    result = {
        "rois": np.array([[3, 4, 25, 30]]),
        "class_ids": np.array([1]),
        "scores": np.array([0.5]),
        "keypoints": keypoints,
    }
    export = Export(tmp_path, ["coco"], ["BG", "cat"], Skeleton(NAMES, [[0, 1]]))
    export.add(image, (30, 40), result)
    (path,) = export.write()
    (entry,) = json.loads(path.read_text())["annotations"]
    assert entry["keypoints"] == [5, 9, 2, 5.5, 7.5, 2] and entry["num_keypoints"] == 2
    assert entry["keypoint_scores"] == [7.25, -1]
    dataset = CocoDataset(path)
    assert dataset.keypoint_names == NAMES and dataset.keypoint_skeleton == [[0, 1]]
    assert dataset.load_keypoints(0)[0, :, :2].tolist() == keypoints[0, :, :2].tolist()

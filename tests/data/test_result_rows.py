"""Some of the detections of a result."""

import numpy as np
import pytest

from mrcnn.data.result_rows import select_rows


def result(masks, count=3):
    return {
        "rois": np.arange(4 * count, dtype=np.int32).reshape(count, 4),
        "class_ids": np.arange(1, count + 1, dtype=np.int32),
        "scores": np.linspace(0.9, 0.5, count, dtype=np.float32),
        "masks": masks,
    }


def test_no_detections_stay_none():
    found = select_rows(result(np.zeros((2, 5, 0), bool), count=0), slice(0, 2))
    assert found["rois"].shape == (0, 4) and found["masks"].shape == (2, 5, 0)


@pytest.mark.parametrize(
    "keep", [[0, 2], slice(0, None, 2), np.array([True, False, True]), np.array([0, 2])]
)
def test_every_array_has_the_same_rows(keep):
    masks = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    found = select_rows({**result(masks), "keypoints": np.arange(9).reshape(3, 1, 3)}, keep)
    assert found["class_ids"].tolist() == [1, 3]
    assert found["rois"].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert found["keypoints"].tolist() == [[[0, 1, 2]], [[6, 7, 8]]]
    np.testing.assert_array_equal(found["masks"], masks[:, :, [0, 2]])


def test_masks_of_a_list_stay_a_list():
    assert select_rows(result(["a", "b", "c"]), [2, 0])["masks"] == ["c", "a"]


def test_boxes_only():
    boxes = {key: array for key, array in result([]).items() if key != "masks"}
    assert set(select_rows(boxes, [1])) == {"rois", "class_ids", "scores"}

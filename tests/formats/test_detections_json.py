"""Detections as plain Python numbers."""

import json

import numpy as np
import pytest

from mrcnn.formats.detections_json import detection_entries
from mrcnn.formats.rle import mask_to_rle

NAMES = ["BG", "cat"]


def arrays(count):
    return {
        "rois": np.array([[0, 1, 2, 3]] * count, np.int32).reshape(-1, 4),
        "class_ids": np.ones(count, np.int32),
        "scores": np.full(count, 0.5, np.float32),
    }


@pytest.mark.parametrize("masks", [{}, {"masks": []}, {"masks": np.zeros((4, 4, 0), bool)}])
def test_no_detections(masks):
    assert detection_entries({**arrays(0), **masks}, NAMES) == []


def test_masks_of_both_forms_give_the_same_entries():
    mask = np.zeros((4, 4, 1), bool)
    mask[0:2, 1:3] = True
    rle = mask_to_rle(mask[:, :, 0])
    (entry,) = detection_entries({**arrays(1), "masks": mask}, NAMES)
    assert [entry] == detection_entries({**arrays(1), "masks": [rle]}, NAMES)
    assert json.loads(json.dumps(entry)) == {
        "class_id": 1, "class_name": "cat", "score": 0.5, "box": [0, 1, 2, 3], "mask": rle,
    }  # fmt: skip


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one row per detection"):
        detection_entries({**arrays(2), "scores": np.ones(1)}, NAMES)

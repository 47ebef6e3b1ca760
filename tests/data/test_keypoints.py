"""Keypoints as arrays: decoding, moving, mirroring."""

import os
from pathlib import Path

import numpy as np
import pytest

from mrcnn.data.keypoints import decode_heatmaps

RECORDED = Path(os.environ.get("MRCNN_SHARED", "")) / "reference/torchvision/unit"


# --- Heatmaps -----------------------------------------------------------------------------------


def test_no_detections_have_no_keypoints():
    assert decode_heatmaps(np.zeros((0, 56, 56, 5)), np.zeros((0, 4))).shape == (0, 5, 3)


def test_maximum_is_the_center_of_its_cell():
    # A box of 4 x 8 pixels and a heatmap of the same size: nothing is interpolated.
    heatmaps = np.zeros((1, 4, 8, 2), np.float32)
    heatmaps[0, 2, 5, 0] = 3
    (keypoints,) = decode_heatmaps(heatmaps, np.array([[10, 20, 14, 28]]))
    np.testing.assert_allclose(keypoints, [[12.5, 25.5, 3], [10.5, 20.5, 0]])


def test_box_of_fractional_size_has_whole_cells():
    # 3.5 pixels high: 4 rows of 0.875 pixels; the last one is centered at 3.5 * 0.875.
    heatmaps = np.zeros((1, 4, 1, 1), np.float32)
    heatmaps[0, 3] = 1
    (keypoints,) = decode_heatmaps(heatmaps, np.array([[0, 0, 3.5, 0.5]]))
    np.testing.assert_allclose(keypoints[0], [3.0625, 0.5, 1])


@pytest.mark.skipif(not RECORDED.is_dir(), reason="needs MRCNN_SHARED/reference/torchvision")
def test_keypoints_are_those_of_torchvision():
    with np.load(RECORDED / "masks_keypoints.npz") as file:
        heatmaps, boxes = file["heatmaps"], file["heatmap_boxes"]
        places, scores = file["keypoints"][..., :2], file["keypoint_scores"]
    found = decode_heatmaps(heatmaps.transpose(0, 2, 3, 1), boxes[:, [1, 0, 3, 2]])
    np.testing.assert_allclose(found[..., [1, 0]], places, atol=1e-4)
    np.testing.assert_allclose(found[..., 2], scores, atol=1e-5)

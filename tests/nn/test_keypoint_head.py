"""The keypoint head: the cells that it learns, its loss and its shapes."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig

from mrcnn.model import MaskRCNN
from mrcnn.nn import losses
from mrcnn.nn.keypoints import keypoint_cells

RECORDED = Path(os.environ.get("MRCNN_SHARED", "")) / "reference/torchvision/unit"


def cells(rois, keypoints, side=4):
    return np.asarray(keypoint_cells(np.float32([rois]), np.float32([keypoints]), side))[0]


def test_without_rois_there_are_no_cells():
    assert cells(np.zeros((0, 4)), np.zeros((0, 2, 3))).shape == (0, 2)


def test_cell_counts_rows_of_the_roi():
    # 8 x 4 pixels in 4 x 4 cells of 2 x 1 pixels: y = 13 is in row 1, x = 22.5 in column 2.
    assert cells([[10, 20, 18, 24]], [[[13, 22.5, 2], [10, 20, 1]]]).tolist() == [[6, 0]]


def test_end_of_the_roi_is_its_last_cell():
    assert cells([[0, 0, 8, 8]], [[[8, 8, 2], [8, 0, 2]]]).tolist() == [[15, 12]]


def test_hidden_keypoints_count_and_unlabelled_or_outside_ones_do_not():
    keypoints = [[[1, 1, 1], [1, 1, 0], [-0.1, 1, 2], [1, 8.1, 2]]]
    assert cells([[0, 0, 8, 8]], keypoints).tolist() == [[0, -1, -1, -1]]


def test_padding_has_no_cell():
    assert cells([[0, 0, 0, 0]], [[[0, 0, 0]]]).tolist() == [[-1]]


@pytest.mark.skipif(not RECORDED.is_dir(), reason="needs MRCNN_SHARED/reference/torchvision")
def test_cells_are_those_of_torchvision():
    with np.load(RECORDED / "masks_keypoints.npz") as file:
        boxes, keypoints = file["heatmap_boxes"], file["gt_keypoints"]
        index, valid = file["gt_heatmap_index"], file["gt_heatmap_valid"]
    found = cells(boxes[:, [1, 0, 3, 2]], keypoints[..., [1, 0, 2]], side=56)
    np.testing.assert_array_equal(found, np.where(valid > 0, index, -1))


def test_loss_is_the_mean_cross_entropy_of_the_keypoints_that_count():
    # Of 4 equal logits each cell has probability 1/4; log 3 more makes it 3 of 6.
    heatmaps = np.zeros((1, 1, 2, 2, 3), np.float32)
    heatmaps[0, 0, 1, 0, 1] = math.log(3)
    total, count = losses.mrcnn_keypoint_loss(tf.constant([[[0, 2, -1]]]), heatmaps)
    assert float(count) == 2
    assert float(total) == pytest.approx(math.log(4) + math.log(2))


def test_loss_without_keypoints_is_zero():
    total, count = losses.mrcnn_keypoint_loss(tf.fill([1, 2, 3], -1), tf.zeros([1, 2, 4, 4, 3]))
    assert float(losses.mean(total, count)) == 0


@pytest.mark.parametrize("masks", [True, False])
def test_training_network_has_a_heatmap_of_four_times_the_pooled_size(tmp_path, masks):
    config = TinyConfig(NUM_KEYPOINTS=3, KEYPOINT_POOL_SIZE=7, KEYPOINT_CHANNELS=8, USE_MASK=masks)
    config.KEYPOINT_CONV_LAYERS = 2
    network = MaskRCNN("training", config, tmp_path).keras_model
    slots = int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO)
    assert network.output["mrcnn_keypoint"].shape == (None, slots, 28, 28, 3)
    assert network.output["target_keypoints"].shape == (None, slots, 3)
    assert ("mrcnn_mask" in network.output) == masks
    names = [x.name for x in network.inputs]
    assert names[-1] == "input_gt_keypoints" and ("input_gt_masks" in names) == masks

"""Anchors matched and sampled in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data import rpn_targets
from mrcnn.nn import boxes
from mrcnn.nn.anchors import pyramid_anchors


class Settings(Config):
    NUM_CLASSES = 4
    IMAGE_MIN_DIM = 128
    IMAGE_MAX_DIM = 128
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 8
    TRAIN_ROIS_PER_IMAGE = 12
    USE_MINI_MASK = False


SHAPE = (128, 128, 3)
NO_BOXES, NO_IDS = np.zeros((0, 4), np.int32), np.zeros(0, np.int32)


def config(**values):
    made = Settings()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def match(anchors, class_ids, gt_boxes, seed=0, **values):
    gt_boxes = np.array(gt_boxes, np.int32).reshape(-1, 4)
    return rpn_targets.build_rpn_targets(
        SHAPE,
        np.array(anchors, float),
        np.array(class_ids, np.int32),
        gt_boxes,
        config(**values),
        np.random.default_rng(seed),
    )


# --- Anchors ----------------------------------------------------------------------------------


def test_without_objects_anchors_are_background():
    rpn_match, rpn_bbox = match(pyramid_anchors(config(), SHAPE), [], [])
    assert (rpn_match == -1).sum() == 8 and not (rpn_match == 1).any()
    assert rpn_bbox.shape == (8, 4) and not rpn_bbox.any()


def test_anchors_are_matched_by_their_iou():
    anchors = [
        [0, 0, 10, 10],  # the object itself: positive
        [0, 0, 10, 8],  # 80 of 100 = 0.8 >= 0.7: positive
        [0, 0, 10, 5],  # 0.5: neutral
        [0, 0, 10, 2],  # 0.2 < 0.3: negative
        [50, 50, 60, 60],
        [0, 0, 10, 7],  # exactly 0.7: positive
        [0, 0, 10, 3],  # exactly 0.3: neutral
    ]
    rpn_match, rpn_bbox = match(anchors, [1], [[0, 0, 10, 10]])
    assert rpn_match.tolist() == [1, 1, 0, -1, -1, 1, 0]
    # Anchor 1: center (5, 4), 10 x 8 -> center (5, 5): dx = 1/8, dw = log(10/8), divided by 0.1,
    # 0.1, 0.2, 0.2.
    np.testing.assert_allclose(rpn_bbox[0], 0)
    np.testing.assert_allclose(rpn_bbox[1], [0, 0.125 / 0.1, 0, np.log(10 / 8) / 0.2])
    np.testing.assert_allclose(rpn_bbox[2], [0, 1.5 / 7 / 0.1, 0, np.log(10 / 7) / 0.2])
    assert not rpn_bbox[3:].any()


def test_each_object_gets_all_its_best_anchors():
    anchors = [[0, 0, 10, 10], [0, 10, 10, 20], [0, 20, 10, 30], [50, 50, 90, 90]]
    # The object lies half in anchor 0 and half in 1: 50 / (100 + 100 - 50) = 1/3 each, between 0.3
    # and 0.7.
    rpn_match, _ = match(anchors, [2], [[0, 5, 10, 15]])
    assert rpn_match.tolist() == [1, 1, -1, -1]
    # Even below 0.3, where both would be negative: 10 / (100 + 20 - 10) each.
    rpn_match, _ = match(anchors, [2], [[0, 9, 10, 11]])
    assert rpn_match.tolist() == [1, 1, -1, -1]


def test_object_outside_all_anchors_makes_no_anchor_positive():
    rpn_match, rpn_bbox = match([[0, 0, 10, 10], [20, 20, 30, 30]], [1], [[100, 100, 110, 110]])
    assert rpn_match.tolist() == [-1, -1] and not rpn_bbox.any()


def test_anchor_of_two_objects_gets_the_deltas_of_the_nearer():
    # IoU with the first 8/12 = 2/3, with the second 9/11
    gt_boxes = [[0, 2, 10, 12], [0, 1, 10, 11]]
    _, rpn_bbox = match([[0, 0, 10, 10], [60, 60, 70, 70]], [1, 1], gt_boxes)
    np.testing.assert_allclose(rpn_bbox[0], [0, 0.1 / 0.1, 0, 0])
    # a tie goes to the first object
    _, rpn_bbox = match([[0, 5, 10, 15]], [1, 1], [[0, 3, 10, 13], [0, 7, 10, 17]])
    np.testing.assert_allclose(rpn_bbox[0], [0, -0.2 / 0.1, 0, 0])


def test_small_object_gets_the_best_of_much_larger_anchors():
    # 2 x 2 pixels in anchors of 100 and 400: IoU 4 / 100 and 4 / 400. The first anchor learns them,
    # not the object of one pixel before them, whose best anchor it is as well: 1 / 100.
    anchors = [[0, 0, 10, 10], [0, 0, 20, 20], [50, 50, 60, 60]]
    rpn_match, rpn_bbox = match(anchors, [1, 1], [[0, 0, 1, 1], [4, 4, 6, 6]])
    assert rpn_match.tolist() == [1, -1, -1]
    # center (5, 5) -> (5, 5); log(2 / 10) / 0.2
    np.testing.assert_allclose(rpn_bbox[0], [0, 0, np.log(0.2) / 0.2, np.log(0.2) / 0.2])


@pytest.mark.parametrize("count", [0, 1, 8, 9, 30])
@pytest.mark.parametrize("known", [False, True])
def test_blocks_of_anchors_prune_no_match(count, known):
    """Same result as comparing all pairs; 4,092 anchors are not a whole number of blocks."""
    rng = np.random.default_rng(count)
    anchors = pyramid_anchors(config(), SHAPE)
    size = rng.integers(1, 128, (count, 2))
    corner = rng.integers(0, 129 - size)
    gt_boxes = np.concatenate([corner, corner + size], axis=1).astype(np.int32).reshape(-1, 4)
    class_ids = rng.choice([1, 2, 3, -1], count, p=[0.3, 0.3, 0.3, 0.1]).astype(np.int32)
    all_anchors = config(RPN_TRAIN_ANCHORS_PER_IMAGE=2 * len(anchors))  # no anchor is dropped
    blocks = rpn_targets.anchor_blocks(anchors) if known else None
    found, _ = rpn_targets.build_rpn_targets(
        SHAPE, anchors, class_ids, gt_boxes, all_anchors, rng, blocks
    )

    overlaps = boxes.iou(anchors, gt_boxes[class_ids > 0].astype(float))
    covered = (
        boxes.iou(anchors, gt_boxes[class_ids < 0].astype(float)).max(axis=1, initial=0) >= 0.001
    )
    best = overlaps.max(axis=1, initial=0)
    expected = np.where((best < 0.3) & ~covered, -1, 0)
    expected[((overlaps == overlaps.max(axis=0, initial=0)) & (overlaps > 0)).any(axis=1)] = 1
    expected[best >= 0.7] = 1
    np.testing.assert_array_equal(found, expected)


def test_anchors_on_a_crowd_are_neutral():
    anchors = [[0, 0, 10, 10], [50, 50, 60, 60], [55, 55, 65, 65], [100, 100, 110, 110]]
    rpn_match, _ = match(anchors, [1, -1], [[0, 0, 10, 10], [50, 50, 70, 70]])
    assert rpn_match.tolist() == [1, 0, 0, -1]
    # Only a crowd: no object, its area is still excluded.
    rpn_match, rpn_bbox = match(anchors, [-1], [[50, 50, 70, 70]])
    assert rpn_match.tolist() == [-1, 0, 0, -1] and not rpn_bbox.any()


def test_crowd_does_not_affect_positive_anchors():
    rpn_match, _ = match([[50, 50, 60, 60]], [-2, 1], [[50, 50, 60, 60], [50, 50, 60, 60]])
    assert rpn_match.tolist() == [1]


def test_at_most_half_of_the_sample_is_positive():
    anchors = np.array(
        [[i, 0, i + 40, 40] for i in range(9)] + [[60, i, 80, i + 20] for i in range(30)]
    )
    rpn_match, rpn_bbox = match(anchors, [1], [[4, 0, 44, 40]], RPN_TRAIN_ANCHORS_PER_IMAGE=8)
    assert (rpn_match == 1).sum() == 4 and (rpn_match == -1).sum() == 4
    assert len(rpn_bbox) == 8
    drawn = [match(anchors, [1], [[4, 0, 44, 40]], seed=seed)[0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_targets_equal_those_of_the_full_table_of_overlaps(seed, count):
    """Compared with all `[A, N]` overlaps, without sampling."""
    rng = np.random.default_rng(seed)
    made = config(RPN_TRAIN_ANCHORS_PER_IMAGE=10**6)
    anchors = pyramid_anchors(made, (64, 64, 3))
    corner = rng.integers(0, 50, (count, 2))
    gt_boxes = np.concatenate([corner, corner + rng.integers(1, 40, (count, 2))], axis=1)
    class_ids = rng.choice([1, 2, -1], count)
    rpn_match, _ = rpn_targets.build_rpn_targets(
        (64, 64, 3), anchors, class_ids, gt_boxes, made, rng
    )

    expected = np.zeros(len(anchors), int)
    table = boxes.iou(anchors, gt_boxes[class_ids > 0])
    best = table.max(axis=1, initial=0)
    crowds = boxes.iou(anchors, gt_boxes[class_ids < 0]).max(axis=1, initial=0)
    expected[(best < 0.3) & (crowds < 0.001)] = -1
    expected[((table == table.max(axis=0, initial=0)) & (table > 0)).any(axis=1)] = 1
    expected[best >= 0.7] = 1
    np.testing.assert_array_equal(rpn_match, expected)


def test_matches_equal_torchvision(torchvision_units):
    """All anchors are sampled: positive, negative (-1) and between (-2 in torchvision)."""
    recorded = torchvision_units("boxes")
    anchors = recorded["match_anchors"][:, [1, 0, 3, 2]].astype(np.float64)
    gt_boxes = recorded["match_gt"][:, [1, 0, 3, 2]].astype(np.float64)
    config = Config()
    config.RPN_TRAIN_ANCHORS_PER_IMAGE = 2 * len(anchors)
    found, _ = rpn_targets.build_rpn_targets(
        (200, 200, 3), anchors, np.array([1, 2, 3]), gt_boxes, config
    )
    expected = recorded["match_rpn"]
    np.testing.assert_array_equal(found, np.select([expected >= 0, expected == -1], [1, -1], 0))

"""Non-max suppression of tensors, against suppressions calculated by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.nn import boxes, nms

BOXES = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 20, 10, 30], [0, 0, 0, 0]], np.float32)[None]


def test_non_max_suppression_by_hand():
    # IoU of the first two: 90 / 110 = 0.82. The better one stays, then the third. The IoU of a
    # box without area is 0.
    kept, valid = nms.non_max_suppression(
        BOXES, np.array([[0.5, 0.9, 0.7, 0.1]], np.float32), 5, 0.7
    )
    np.testing.assert_array_equal(kept, [[1, 2, 3, 0, 0]])
    np.testing.assert_array_equal(valid, [3])
    kept, valid = nms.non_max_suppression(
        BOXES, np.array([[0.5, 0.9, 0.7, 0.1]], np.float32), 5, 0.83
    )
    np.testing.assert_array_equal(kept[:, :4], [[1, 2, 0, 3]])
    np.testing.assert_array_equal(valid, [4])


def test_non_max_suppression_stops_at_max_output():
    kept, valid = nms.non_max_suppression(
        BOXES, np.array([[0.5, 0.9, 0.7, 0.1]], np.float32), 1, 0.7
    )
    np.testing.assert_array_equal(kept, [[1]])
    np.testing.assert_array_equal(valid, [1])


def test_non_max_suppression_of_no_boxes():
    kept, valid = nms.non_max_suppression(np.zeros((2, 0, 4)), np.zeros((2, 0)), 3, 0.5)
    np.testing.assert_array_equal(kept, np.zeros((2, 3)))
    np.testing.assert_array_equal(valid, [0, 0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.3, 0.5, 0.7]))
def test_non_max_suppression_equals_numpy(seed, count, threshold):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 1, (count, 2)), rng.uniform(0.05, 0.6, (count, 2))
    these = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = rng.permutation(count).astype(np.float32)
    kept, valid = nms.non_max_suppression(these[None], scores[None], count, threshold)
    np.testing.assert_array_equal(
        kept[0, : int(valid[0])], boxes.non_max_suppression(these, scores, threshold)
    )


def class_nms(boxes, class_ids, scores, classes, count, threshold):
    """`class_non_max_suppression` of boxes that have one class each."""
    one_class = np.eye(classes, dtype=np.float32)[class_ids] * scores[..., None]
    return nms.class_non_max_suppression(boxes[:, :, None], one_class, count, threshold)


def test_boxes_of_each_class_suppress_each_other():
    """One RoI has a box per class: both classes are kept, each with its own box."""
    boxes = np.float32([[[[0, 0, 1, 1], [0, 0, 0.5, 0.5]], [[0, 0, 1, 0.9], [0.5, 0.5, 1, 1]]]])
    scores = np.float32([[[0.6, 0.3], [0.5, 0.4]]])
    kept, ids, best = nms.class_non_max_suppression(boxes, scores, 4, 0.5)
    # class 0: IoU 0.9, the second is suppressed; class 1: the boxes do not overlap
    np.testing.assert_allclose(best, [[0.6, 0.4, 0.3, 0]])
    np.testing.assert_array_equal(ids, [[0, 1, 1, 0]])
    np.testing.assert_array_equal(kept[0, 1], [0.5, 0.5, 1, 1])


def test_class_non_max_suppression_lets_other_classes_overlap():
    scores = np.array([[0.5, 0.9, 0.7, 0.0]], np.float32)
    same, _, _ = class_nms(BOXES, np.array([[1, 1, 1, 1]]), scores, 3, 4, 0.5)
    np.testing.assert_array_equal(same[0], [BOXES[0, 1], BOXES[0, 2], [0] * 4, [0] * 4])
    kept, ids, best = class_nms(BOXES, np.array([[1, 2, 1, 1]]), scores, 3, 4, 0.5)
    np.testing.assert_array_equal(kept[0], [BOXES[0, 1], BOXES[0, 2], BOXES[0, 0], [0] * 4])
    np.testing.assert_array_equal(ids, [[2, 1, 1, 0]])
    np.testing.assert_allclose(best, [[0.9, 0.7, 0.5, 0.0]])


def test_class_non_max_suppression_with_all_scores_zero_is_empty():
    found = class_nms(BOXES, np.array([[1, 2, 1, 1]]), np.zeros((1, 4), np.float32), 3, 2, 0.5)
    for part in found:
        assert not np.any(part)


def test_agnostic_non_max_suppression_by_hand():
    """The better box of another class suppresses the first; the box of score 0 is ignored."""
    ids, scores = np.array([[1, 2, 2, 1]], np.int32), np.array([[0.5, 0.9, 0.0, 0.3]], np.float32)
    found = BOXES.copy()
    found[0, 3] = [0, 40, 10, 50]
    boxes_kept, ids_kept, scores_kept = nms.agnostic_non_max_suppression(found, ids, scores, 3, 0.7)
    np.testing.assert_array_equal(boxes_kept, [[found[0, 1], found[0, 3], [0, 0, 0, 0]]])
    np.testing.assert_array_equal(ids_kept, [[2, 1, 0]])
    np.testing.assert_allclose(scores_kept, [[0.9, 0.3, 0]])


def test_agnostic_non_max_suppression_of_no_boxes():
    none = nms.agnostic_non_max_suppression(
        np.zeros((1, 1, 4)), np.ones((1, 1), np.int32), np.zeros((1, 1)), 2, 0.5
    )
    assert not any(np.any(rows) for rows in none)
    assert [tuple(rows.shape) for rows in none] == [(1, 2, 4), (1, 2), (1, 2)]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_agnostic_non_max_suppression_of_one_class_equals_class_nms(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (2, 20, 2))
    these = np.concatenate([corner, corner + rng.uniform(0.1, 0.6, (2, 20, 2))], axis=2).astype(
        np.float32
    )
    scores = rng.uniform(0, 1, (2, 20)).astype(np.float32) * (rng.uniform(size=(2, 20)) > 0.2)
    ids = np.full((2, 20), 2, np.int32)
    across = nms.agnostic_non_max_suppression(these, ids, scores, 6, 0.5)
    within = class_nms(these, ids, scores, 4, 6, 0.5)
    for a, b in zip(across, within, strict=True):
        np.testing.assert_array_equal(a, b)


# --- Against torchvision ---


def recorded_case(recorded, case):
    """Boxes, scores, groups (0 without groups), the IoU and the kept boxes of a recorded case."""
    if f"boxes_{case}" not in recorded:
        pytest.skip("needs the shared reference data")
    these = recorded[f"boxes_{case}"][:, [1, 0, 3, 2]]
    groups = recorded.get(f"groups_{case}", np.zeros(len(these), np.int64))
    threshold = float(recorded[f"threshold_{case}"])
    return these, recorded[f"scores_{case}"], groups, threshold, recorded[f"kept_{case}"]


@pytest.mark.parametrize("case", [0, 2, 3, 4, 5, 6])
def test_non_max_suppression_equals_torchvision(torchvision_units, case):
    """Not case 1, whose IoU is its threshold, 1/3, and is above it only as rounded by torch."""
    these, scores, _, threshold, expected = recorded_case(torchvision_units("nms"), case)
    count = len(these)
    kept, valid = nms.non_max_suppression(these[None], scores[None], count, threshold)
    found = np.asarray(kept[0, : int(valid[0])])
    np.testing.assert_array_equal(scores[found], scores[expected])
    if len(set(scores.tolist())) == count:  # equal scores have no order
        np.testing.assert_array_equal(found, expected)
        numpy_kept = boxes.non_max_suppression(these, scores, threshold)
        np.testing.assert_array_equal(numpy_kept, expected)


@pytest.mark.parametrize("case", [7, 8, 9])
def test_class_non_max_suppression_equals_torchvision(torchvision_units, case):
    these, scores, groups, threshold, expected = recorded_case(torchvision_units("nms"), case)
    classes = int(groups.max(initial=0)) + 1
    count = max(len(these), 1)
    kept = class_nms(these[None], groups[None], scores[None], classes, count, threshold)
    valid = np.asarray(kept.scores[0]) > 0
    np.testing.assert_array_equal(kept.scores[0][valid], scores[expected])
    np.testing.assert_array_equal(kept.boxes[0][valid], these[expected])
    np.testing.assert_array_equal(kept.class_ids[0][valid], groups[expected])

"""Non-max suppression of tensors, against suppressions calculated by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TinyConfig

from mrcnn.nn import boxes, nms
from mrcnn.nn.portable import portable_ops

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


# --- Soft-NMS ---

# In units of BOXES: IoU of the first two is 90 / 110 = 0.8182, the third is apart.
SCORES = np.array([[[0.5], [0.9], [0.7], [0.0]]], np.float32)


def softly(boxes, scores, count, decay, min_score=0.0):
    found = nms.soft_non_max_suppression(boxes, scores, count, decay, min_score)
    return [np.asarray(part) for part in found]


def gaussian(overlaps):
    return nms.gaussian_decay(overlaps, 0.5)


def linear(overlaps):
    return nms.linear_decay(overlaps, 0.3)


def test_soft_nms_of_scores_of_zero_keeps_nothing():
    for shape in ((2, 4, 3), (1, 0, 3)):
        found = softly(np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32), 5, gaussian)
        assert [part.shape for part in found] == [(shape[0], 5)] * 3
        assert not any(np.any(part) for part in found)


def test_decays_by_hand():
    overlaps = np.float32([0, 0.2, 0.3, 0.5, 1])
    np.testing.assert_allclose(nms.linear_decay(overlaps, 0.3), [1, 1, 0.7, 0.5, 0], atol=1e-7)
    # exp(-0.5^2 / 0.5) = exp(-0.5), exp(-1 / 0.5) = exp(-2)
    found = np.asarray(nms.gaussian_decay(overlaps, 0.5))
    np.testing.assert_allclose(found[[0, 3, 4]], [1, 0.60653066, 0.13533528], rtol=1e-6)


def test_soft_nms_lowers_the_score_of_an_overlapping_box():
    rows, class_ids, scores = softly(BOXES[:, :, None], SCORES, 4, gaussian)
    # The best is the second box; the first has 0.5 exp(-(9 / 11)^2 / 0.5) = 0.5 * 0.262149 left.
    np.testing.assert_array_equal(rows, [[1, 2, 0, 0]])
    np.testing.assert_array_equal(class_ids, np.zeros((1, 4)))
    np.testing.assert_allclose(scores, [[0.9, 0.7, 0.131074, 0]], rtol=1e-5)
    _, _, scores = softly(BOXES[:, :, None], SCORES, 4, linear)
    np.testing.assert_allclose(scores, [[0.9, 0.7, 0.5 * 2 / 11, 0]], atol=1e-6)


def test_soft_nms_drops_scores_below_the_lowest():
    _, _, scores = softly(BOXES[:, :, None], SCORES, 4, gaussian, min_score=0.2)
    np.testing.assert_allclose(scores, [[0.9, 0.7, 0, 0]])
    _, _, scores = softly(BOXES[:, :, None], SCORES, 1, gaussian, min_score=0.2)
    np.testing.assert_allclose(scores, [[0.9]])


def test_soft_nms_orders_by_lowered_scores():
    """Of three equal boxes the third is lowered twice."""
    same = np.tile(np.float32([0, 0, 1, 1]), (1, 3, 1, 1))
    apart = np.float32([5, 5, 6, 6])[None, None, None]
    scores = np.float32([[[0.8], [0.9], [0.7], [0.1]]])
    found = softly(np.concatenate([same, apart], axis=1), scores, 4, gaussian)
    factor = np.exp(-2)
    np.testing.assert_array_equal(found[0], [[1, 0, 3, 2]])
    np.testing.assert_allclose(found[2], [[0.9, 0.8 * factor, 0.1, 0.7 * factor**2]], rtol=1e-5)


def numpy_soft_nms(boxes_of_class, scores, decay, min_score):
    """Soft-NMS of one class as in the paper's figure 3: [(score, row)], best first."""
    left, kept = dict(enumerate(scores)), []
    while left:
        best = max(left, key=left.get)
        kept.append((left.pop(best), best))
        for row in list(left):
            overlap = boxes.iou(boxes_of_class[best][None], boxes_of_class[row][None])[0, 0]
            left[row] *= float(decay(np.float32(overlap)))
            if left[row] < min_score:
                del left[row]
    return kept


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("decay", [gaussian, linear])
def test_soft_nms_equals_the_papers_loop_over_each_class(decay, shared):
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 1, (2, 12, 1 if shared else 3, 2))
    these = np.concatenate([corner, corner + rng.uniform(0.2, 0.6, corner.shape)], axis=-1)
    these = these.astype(np.float32)
    scores = rng.uniform(0.1, 1, (2, 12, 3)).astype(np.float32)
    rows, class_ids, lowered = softly(these, scores, 20, decay, 0.05)
    for image in range(2):
        expected = []
        for class_id in range(3):
            own = these[image, :, 0 if shared else class_id]
            found = numpy_soft_nms(own, scores[image, :, class_id].tolist(), decay, 0.05)
            expected += [(score, class_id, row) for score, row in found]
        expected = sorted(expected, reverse=True)[:20]
        np.testing.assert_allclose(lowered[image], [score for score, _, _ in expected], rtol=1e-5)
        assert class_ids[image].tolist() == [class_id for _, class_id, _ in expected]
        assert rows[image].tolist() == [row for _, _, row in expected]


# --- Box voting ---


def test_votes_of_no_boxes_change_nothing():
    nothing = nms.Kept(*(np.zeros(shape, np.float32) for shape in ((1, 2, 4), (1, 2), (1, 2))))
    voted = nms.vote(nothing, BOXES[:, :, None], np.ones((1, 4, 3), np.float32), 0.0)
    assert not np.any(voted.boxes)


def test_votes_by_hand():
    kept = nms.Kept(BOXES[:, [1, 2]], np.float32([[0, 0]]), np.float32([[0.9, 0.7]]))
    voted = nms.vote(kept, BOXES[:, :, None], SCORES, 0.5)
    # x1 of the second box, IoU 0.82: (0.5 * 0 + 0.9 * 1) / (0.5 + 0.9); x2 is 10 more.
    np.testing.assert_allclose(voted.boxes[0, 0], [0, 0.9 / 1.4, 10, 10 + 0.9 / 1.4], rtol=1e-6)
    np.testing.assert_allclose(voted.boxes[0, 1], BOXES[0, 2])
    np.testing.assert_array_equal(voted.scores, kept.scores)
    voted = nms.vote(kept, BOXES[:, :, None], SCORES, 0.9)
    np.testing.assert_allclose(voted.boxes, kept.boxes)


def test_only_boxes_of_the_class_vote():
    """Each class has its own boxes, in the second image in the other order."""
    first = np.float32([[[0, 0, 10, 10], [0, 0, 10, 10]], [[0, 1, 10, 11], [0, 2, 10, 12]]])
    these = np.stack([first, first[:, ::-1]])  # [2 images, 2 boxes, 2 classes, 4]
    scores = np.ones((2, 2, 2), np.float32)
    kept = nms.Kept(
        np.tile(np.float32([0, 0, 10, 10]), (2, 1, 1)), np.float32([[0], [0]]), np.ones((2, 1))
    )
    voted = nms.vote(kept, these, scores, 0.5)
    np.testing.assert_allclose(voted.boxes[:, 0], [[0, 0.5, 10, 10.5], [0, 1, 10, 11]])


# --- As the settings say ---


def two_classes():
    """BOXES with the first two of other classes, and their scores `[1, 4, 3]`."""
    scores = np.zeros((1, 4, 3), np.float32)
    scores[0, [0, 1, 2], [1, 2, 1]] = 0.5, 0.9, 0.7
    return BOXES[:, :, None], scores


def test_settings_choose_the_suppression():
    config = TinyConfig(DETECTION_MAX_INSTANCES=4, DETECTION_NMS_THRESHOLD=0.5)
    hard = nms.suppress(BOXES[:, :, None], SCORES, config)
    expected = nms.class_non_max_suppression(BOXES[:, :, None], SCORES, 4, 0.5)
    for found, same in zip(hard, expected, strict=True):
        np.testing.assert_array_equal(found, same)
    config.DETECTION_NMS = "gaussian"
    soft = nms.suppress(BOXES[:, :, None], SCORES, config)
    np.testing.assert_array_equal(soft.boxes[0], [*BOXES[0, [1, 2, 0]], [0] * 4])
    np.testing.assert_allclose(soft.scores, [[0.9, 0.7, 0.131074, 0]], rtol=1e-5)
    config.BOX_VOTING_IOU = 0.5
    voted = nms.suppress(BOXES[:, :, None], SCORES, config)
    np.testing.assert_allclose(voted.boxes[0, 0, 1], 0.9 / 1.4, rtol=1e-6)
    np.testing.assert_allclose(voted.boxes[0, 2, 1], 0.9 / 1.4, rtol=1e-6)
    config.DETECTION_NMS = "linear"
    linear_scores = nms.suppress(BOXES[:, :, None], SCORES, config).scores.numpy()
    assert linear_scores[0, 2] == pytest.approx(1 / 11)


def test_suppression_lets_other_classes_overlap():
    config = TinyConfig(DETECTION_NMS="gaussian", DETECTION_MAX_INSTANCES=4)
    found = nms.suppress(*two_classes(), config)
    np.testing.assert_allclose(found.scores, [[0.9, 0.7, 0.5, 0]])
    np.testing.assert_array_equal(found.class_ids, [[2, 1, 1, 0]])


@pytest.mark.parametrize("method", ["hard", "gaussian"])
def test_agnostic_suppression_is_that_of_one_class(method):
    config = TinyConfig(
        DETECTION_NMS=method,
        BOX_VOTING_IOU=0.5,
        DETECTION_MAX_INSTANCES=4,
        DETECTION_NMS_THRESHOLD=0.5,
    )
    ids = np.int32([[1, 2, 1, 1]])
    found = nms.agnostic_suppress(BOXES, ids, SCORES[..., 0], config)
    expected = nms.suppress(BOXES[:, :, None], SCORES, config)
    np.testing.assert_allclose(found.boxes, expected.boxes)
    np.testing.assert_allclose(found.scores, expected.scores)
    count = {"hard": 2, "gaussian": 3}[method]
    assert found.class_ids.numpy().tolist() == [[2, 1, 1, 0][:count] + [0] * (4 - count)]


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


# --- In operations that every runtime knows ---


def many_boxes(seed, images, count, classes):
    """Boxes `[images, count, 4]` in 0..1, their class ids and different scores."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.7, (images, count, 2))
    size = rng.uniform(0.05, 0.3, (images, count, 2))
    these = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    scores = rng.permutation(images * count).reshape(images, count) / (images * count)
    return these, rng.integers(1, classes, (images, count), np.int32), np.float32(scores)


def assert_kept(found, expected):
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, others, rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])  # of the scores; 0: nothing is kept
@pytest.mark.parametrize("classes", [2, 81])
def test_shifted_boxes_are_suppressed_per_class(share, classes):
    config = TinyConfig(NUM_CLASSES=classes, DETECTION_MAX_INSTANCES=20)
    boxes, class_ids, scores = many_boxes(classes, 2, 60, classes)
    given = boxes, class_ids, scores * np.float32(share)
    expected = nms.suppress_one_class(*given, config)
    with portable_ops():
        found = nms.suppress_one_class(*given, config)
    assert_kept(found, expected)


@pytest.mark.parametrize("columns", [1, 4])
def test_portable_suppression_of_several_scores_a_box(columns):
    rng = np.random.default_rng(3)
    these, _, _ = many_boxes(3, 2, 30 * columns, 4)
    these = these.reshape(2, 30, columns, 4)
    scores = np.float32(rng.permutation(2 * 30 * 4).reshape(2, 30, 4) / 240)
    scores[:, :, 0] = 0  # the background
    expected = nms.class_non_max_suppression(these, scores, 15, 0.4)
    with portable_ops():
        found = nms.class_non_max_suppression(these, scores, 15, 0.4)
    assert_kept(found, expected)


def test_portable_suppression_keeps_boxes_without_area_and_the_order_of_equal_scores():
    these = np.float32([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 1, 0.99]])[None]
    scores = np.float32([[0.5, 0.5, 0.5, 0.5]])
    expected = nms.non_max_suppression(these, scores, 5, 0.5)
    with portable_ops():
        kept, count = nms.non_max_suppression(these, scores, 5, 0.5)
    np.testing.assert_array_equal(kept, expected[0])
    assert kept.numpy().tolist() == [[0, 1, 2, 0, 0]] and count.numpy().tolist() == [3]

"""Matches, AP and recall of one image, against hand-computed and recorded numbers."""

import math

import numpy as np
import pytest
from evaluation_cases import scene
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.evaluation import matching

RECORDED = ("trim_zeros", "compute_matches", "compute_ap", "compute_ap_range", "compute_recall")


def test_functions_reproduce_every_recorded_case_of_matterport(parity):
    archive = parity["helpers"]
    cases = sorted({tuple(key.split("/")[:2]) for key in archive if key.split("/")[0] in RECORDED})
    assert len(cases) == 1 + 9 + 6 + 3 + 3
    for function, case in cases:
        prefix = f"{function}/{case}/"
        inputs = {k[len(prefix) + 3 :]: archive[k] for k in archive if k.startswith(prefix + "in_")}
        inputs = {k: v.item() if v.ndim == 0 else v for k, v in inputs.items()}
        if function == "compute_ap_range":  # its own names are singular, the recorded keys plural
            result = matching.compute_ap_range(*inputs.values(), verbose=0)
        else:
            result = getattr(matching, function)(**inputs)
        outputs = [archive[k] for k in archive if k.startswith(prefix + "out")]
        results = result if isinstance(result, tuple) else (result,)
        assert len(results) == len(outputs), (function, case)
        for got, expected in zip(results, outputs, strict=True):
            # Recalls were recorded in float32, of which one step is 6e-8.
            np.testing.assert_allclose(
                got, expected, rtol=0, atol=2e-7, err_msg=f"{function}/{case}"
            )
            assert np.shape(got) == expected.shape


def test_float_boxes_match_as_their_masks_do():
    boxes, ids, masks = scene([[0, 0, 10, 10], [10, 10, 20, 20]], [1, 2])
    floats = np.float32(boxes) + np.float32([0.25, 0.25, -0.25, -0.25])
    found = matching.compute_ap(boxes, ids, masks, floats, ids, np.float32([0.9, 0.8]), masks)
    assert found.AP == 1


def test_matches_of_empty_sets():
    gt_match, pred_match, overlaps = matching.compute_matches(*scene([], []), *scene([], [], []))
    assert gt_match.shape == (0,) and pred_match.shape == (0,) and overlaps.shape == (0, 0)


def test_empty_masks_of_any_shape_are_accepted():
    ground_truth, (boxes, ids, scores, _) = scene([[0, 0, 10, 10]], [1]), scene([], [], [])
    gt_match, pred_match, _ = matching.compute_matches(
        *ground_truth, boxes, ids, scores, np.empty((0, 0, 0))
    )
    assert gt_match.tolist() == [-1] and len(pred_match) == 0


def test_the_higher_score_matches_first_and_an_object_matches_once():
    ground_truth = scene([[0, 0, 10, 10]], [1])
    predictions = scene(
        [[0, 0, 10, 9], [0, 0, 10, 10]], [1, 1], [0.9, 0.8]
    )  # IoU 90 / 100 = 0.9, and 1
    gt_match, pred_match, overlaps = matching.compute_matches(*ground_truth, *predictions)
    assert gt_match.tolist() == [0] and pred_match.tolist() == [0, -1]
    np.testing.assert_allclose(overlaps, [[0.9], [1.0]])


def test_a_match_is_within_the_class_even_if_another_overlaps_more():
    ground_truth = scene([[0, 0, 10, 10], [0, 0, 10, 8]], [2, 1])
    predictions = scene([[0, 0, 10, 10]], [1], [0.9])  # IoU 1 with the dog, 80 / 100 with the cat
    gt_match, pred_match, _ = matching.compute_matches(*ground_truth, *predictions)
    assert gt_match.tolist() == [-1, 0] and pred_match.tolist() == [1]


@pytest.mark.parametrize(("threshold", "matched"), [(0.5, True), (0.51, False)])
def test_an_iou_equal_to_the_threshold_matches(threshold, matched):
    ground_truth = scene([[0, 0, 10, 10]], [1])
    predictions = scene([[0, 0, 10, 5]], [1], [0.9])  # 50 / 100
    gt_match, _, _ = matching.compute_matches(*ground_truth, *predictions, iou_threshold=threshold)
    assert (gt_match[0] == 0) == matched


def test_zero_rows_are_padding_at_any_position():
    ground_truth = scene([[0, 0, 0, 0], [0, 0, 10, 10]], [0, 1])
    predictions = scene([[0, 0, 10, 10], [0, 0, 0, 0]], [1, 0], [0.9, 0.0])
    gt_match, pred_match, overlaps = matching.compute_matches(*ground_truth, *predictions)
    assert gt_match.tolist() == [0] and pred_match.tolist() == [0] and overlaps.shape == (1, 1)


def test_ap_without_objects_is_undefined_and_without_predictions_zero():
    one = ([[0, 0, 10, 10]], [1])
    assert math.isnan(matching.compute_ap(*scene([], []), *scene([], [], []))[0])
    assert math.isnan(matching.compute_ap(*scene([], []), *scene(*one, [0.9]))[0])
    assert matching.compute_ap(*scene(*one), *scene([], [], []))[0] == 0


def test_ap_is_the_area_under_the_non_increasing_curve():
    ground_truth = scene([[0, 0, 10, 10], [10, 10, 20, 20]], [1, 1])
    predictions = scene(
        [[0, 0, 10, 10], [0, 10, 10, 20], [10, 10, 20, 20]], [1, 1, 1], [0.9, 0.8, 0.7]
    )
    ap, precisions, recalls, _ = matching.compute_ap(*ground_truth, *predictions)
    # Right, wrong, right: precisions 1, 1/2, 2/3; the second rises to 2/3. Recalls 1/2, 1/2, 1.
    np.testing.assert_allclose(precisions, [1, 1, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(recalls, [0, 0.5, 0.5, 1, 1])
    assert ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_ap_range_is_the_mean_over_its_thresholds(caplog):
    ground_truth = scene([[0, 0, 10, 10]], [1])
    predictions = scene([[0, 0, 10, 7]], [1], [0.9])  # IoU 0.7: found at 0.5, 0.6, lost at 0.8, 0.9
    with caplog.at_level("INFO", logger="mrcnn"):
        assert matching.compute_ap_range(*ground_truth, *predictions, [0.5, 0.6, 0.8, 0.9]) == 0.5
    assert "AP @0.50-0.90" in caplog.text
    # IoU 72 / 100: of COCO's ten thresholds 0.50, 0.55, 0.60, 0.65, 0.70 lie below it
    assert (
        matching.compute_ap_range(*ground_truth, *scene([[0, 0, 9, 8]], [1], [0.9]), verbose=0)
        == 0.5
    )


def test_recall_counts_objects_that_are_the_best_match_of_a_box():
    gt = np.array([[0, 0, 10, 10], [10, 10, 20, 20], [0, 10, 10, 20]])
    proposals = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [10, 10, 20, 16], [15, 0, 20, 5]])
    recall, positives = matching.compute_recall(
        proposals, gt, 0.5
    )  # IoU 1, .9, .6, 0: two of three found
    assert recall == pytest.approx(2 / 3) and positives.tolist() == [0, 1, 2]
    assert matching.compute_recall(np.zeros((0, 4)), gt, 0.5)[0] == 0
    assert math.isnan(matching.compute_recall(proposals, np.zeros((0, 4)), 0.5)[0])


def test_trim_zeros_keeps_rows_with_a_nonzero_number():
    assert matching.trim_zeros(np.zeros((0, 4))).shape == (0, 4)
    assert matching.trim_zeros(np.array([[0, 0], [0, 1], [0, 0], [2, 0]])).tolist() == [
        [0, 1],
        [2, 0],
    ]


cells = st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(10, 20)] * 2)


@settings(max_examples=50, deadline=None)
@given(boxes=st.lists(st.tuples(cells, st.integers(1, 3)), min_size=1, max_size=6, unique=True))
def test_ground_truth_as_prediction_has_ap_one_and_fewer_predictions_less(boxes):
    where, ids = [b for b, _ in boxes], [c for _, c in boxes]
    ap = matching.compute_ap(*scene(where, ids), *scene(where, ids, np.linspace(1, 0.5, len(ids))))[
        0
    ]
    assert ap == pytest.approx(1)
    fewer = matching.compute_ap(
        *scene(where, ids), *scene(where[1:], ids[1:], np.ones(len(ids) - 1))
    )[0]
    assert fewer == pytest.approx((len(ids) - 1) / len(ids))

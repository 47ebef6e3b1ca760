"""Matches, the best confidence and confusions, against numbers computed in the comments."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_cases import HALF, LESS, A, B, C, ground_truth_of, kinds, random_set, results_of

from mrcnn.evaluation import confusion


def test_matches_of_empty_sets_at_dataset_level():
    matches = confusion.match(ground_truth_of([]), [], "segm")
    assert (len(matches.scores), len(matches.object_ids), matches.objects) == (0, 0, {})
    assert math.isnan(confusion.best_confidence(matches).score)
    assert confusion.confusion_matrix(matches, 0.5).tolist() == [[0] * 3] * 3


@kinds
def test_an_iou_of_a_half_matches_and_detections_on_crowds_are_ignored(kind):
    ground_truth = ground_truth_of([(1, A), (-1, B)])
    matches = confusion.match(
        ground_truth, results_of((0, 1, HALF, 0.9), (0, 1, B, 0.8), (0, 1, C, 0.7)), kind
    )
    # The first detection matches object 1, the second is on the crowd, the third has no object.
    assert matches.image_ids.tolist() == [0, 0]
    assert matches.category_ids.tolist() == [1, 1]
    assert matches.object_ids.tolist() == [1, 0]
    assert matches.result_ids.tolist() == [0, 2]
    assert matches.objects == {1: (0, 1)}
    below = confusion.match(ground_truth, results_of((0, 1, LESS, 0.9)), kind)
    assert below.object_ids.tolist() == [0]


def test_the_best_confidence_has_the_highest_f1():
    ground_truth = ground_truth_of([(1, A), (1, B), (2, C)])
    found = results_of(
        (0, 1, A, 0.9), (0, 1, C, 0.8), (0, 1, B, 0.7), (0, 2, C, 0.4), (0, 2, A, 0.3)
    )
    matches = confusion.match(ground_truth, found, "bbox")
    # all classes: right, wrong, right, right, wrong of 3 objects: F1 2/4, 2/5, 4/6, 6/7, 6/8
    best = confusion.best_confidence(matches)
    assert (best.score, best.f1, best.precision, best.recall) == (
        0.4,
        pytest.approx(6 / 7),
        3 / 4,
        1,
    )
    # class 1: right, wrong, right of 2: 2/3, 2/4, 4/5
    assert confusion.best_confidence(matches, 1) == confusion.Confidence(
        0.7, pytest.approx(0.8), pytest.approx(2 / 3), 1
    )
    assert confusion.best_confidence(matches, 2) == confusion.Confidence(0.4, 1, 1, 1)


def test_equal_scores_stay_together_and_the_higher_of_equal_f1_wins():
    ground_truth = ground_truth_of([(1, A), (1, B)])
    together = confusion.match(ground_truth, results_of((0, 1, A, 0.5), (0, 1, C, 0.5)), "bbox")
    # No threshold separates the two detections.
    assert confusion.best_confidence(together).precision == 0.5
    # right; right, wrong, wrong, right: F1 2/3 with one shown, and 4/6 with four
    equal = results_of((0, 1, A, 0.9), (0, 1, C, 0.8), (0, 1, (30, 30, 5, 5), 0.7), (0, 1, B, 0.6))
    assert confusion.best_confidence(confusion.match(ground_truth, equal, "bbox")).score == 0.9


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C, HALF, LESS]), st.integers(0, 5)), min_size=1, max_size=8
    )
)
def test_no_confidence_has_a_higher_f1(found):
    ground_truth = ground_truth_of([(1, A), (1, B)], classes=1)
    matches = confusion.match(
        ground_truth, results_of(*((0, 1, box, score / 5) for box, score in found)), "bbox"
    )
    best = confusion.best_confidence(matches)
    for confidence in {score / 5 for _, score in found}:
        counts = confusion.confusion_matrix(matches, confidence)
        f1 = 2 * counts[0, 0] / (2 * counts[0, 0] + counts[0, 1] + counts[1, 0])
        assert f1 <= best.f1 + 1e-12
        if confidence == best.score:
            assert f1 == pytest.approx(best.f1, rel=1e-12)


@kinds
def test_confusions_count_wrong_classes_misses_and_false_alarms(kind):
    ground_truth = ground_truth_of([(1, A), (2, B)], [(2, A)])
    found = results_of(
        (0, 1, A, 0.9),  # right
        (0, 1, B, 0.8),  # class 2 taken for class 1
        (0, 2, C, 0.7),  # nothing there
        (1, 2, A, 0.4),  # right, but below the confidence: missed
    )
    matches = confusion.match(ground_truth, found, kind)
    assert confusion.confusion_matrix(matches, 0.5).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert confusion.confusion_matrix(matches, 0.4).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_the_own_class_is_matched_before_other_classes():
    ground_truth = ground_truth_of([(1, A), (2, A)])  # two objects in one place
    found = results_of((0, 2, A, 0.9), (0, 1, HALF, 0.6))
    counts = confusion.confusion_matrix(confusion.match(ground_truth, found, "bbox"), 0.5)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_higher_overlap_is_the_confusion_and_the_other_a_false_alarm():
    ground_truth = ground_truth_of([(1, A)])
    found = results_of((0, 2, HALF, 0.9), (0, 2, A, 0.6))
    counts = confusion.confusion_matrix(confusion.match(ground_truth, found, "bbox"), 0.5)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.7, 1.1]))
def test_rows_sum_to_objects_and_columns_to_detections(seed, confidence):
    ground_truth, results = random_set(seed, images=3)
    matches = confusion.match(ground_truth, results, "bbox")
    counts = confusion.confusion_matrix(matches, confidence)
    for k, class_id in enumerate(matches.class_ids):
        assert counts[k].sum() == sum(
            category == class_id for _, category in matches.objects.values()
        )
        shown = (matches.scores >= confidence) & (matches.category_ids == class_id)
        assert counts[:, k].sum() == shown.sum()

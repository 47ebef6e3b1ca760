"""VOC's average precision, against numbers computed in the comments."""

import numpy as np
import pytest
from score_cases import LESS, A, B, C, ground_truth_of, kinds, results_of

from mrcnn.evaluation import voc_scores


def test_voc_ap_without_objects_or_hits():
    assert np.isnan(voc_scores.voc_ap(np.zeros(0, bool), 0)).all()
    assert voc_scores.voc_ap(np.zeros(0, bool), 3) == (0, 0)
    assert voc_scores.voc_ap(np.array([False, False]), 3) == (0, 0)


def test_voc_ap_by_eleven_recalls_and_by_area():
    # right, wrong, right of 4 objects: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 2/4.
    # 2007: precision 1 at recalls 0, .1, .2; 2/3 at .3, .4, .5; 0 at the other six:
    # (3 + 3 * 2/3) / 11 = 5/11
    # 2010: 1/4 * 1 + 1/4 * 2/3 = 5/12
    assert voc_scores.voc_ap(np.array([1, 0, 1]), 4) == (
        pytest.approx(5 / 11),
        pytest.approx(5 / 12),
    )
    assert voc_scores.voc_ap(np.ones(7), 7) == (1, 1)


def test_recalls_of_tenths_are_reached_without_rounding():
    # 3 of 10 found: recall 0.3 counts among 0, .1, .2, .3, though 0.1 + 0.2 > 0.3 in floats
    assert voc_scores.voc_ap(np.ones(3), 10) == (pytest.approx(4 / 11), pytest.approx(3 / 10))


@kinds
def test_difficult_objects_are_ignored(kind):
    ground_truth = ground_truth_of([(1, A), (1, B)], [(1, A)], difficult=[2])
    found = results_of((0, 1, B, 0.9), (0, 1, A, 0.8), (1, 1, C, 0.7), (1, 1, A, 0.6))
    # Without the difficult B: right, wrong, right of 2 objects.
    # Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    eleven, area = voc_scores.voc_scores(ground_truth, found, kind)[1]
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert area == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert np.isnan(voc_scores.voc_scores(ground_truth, found, kind)[2]).all()


def test_a_second_detection_of_an_object_is_wrong_despite_a_free_object():
    # Both detections overlap A most (IoU 1, and 80 / 120 against 60 / 140 with the shifted object).
    ground_truth = ground_truth_of([(1, A), (1, (5, 0, 10, 10))])
    found = results_of((0, 1, A, 0.9), (0, 1, (2, 0, 10, 10), 0.8))
    assert voc_scores.voc_scores(ground_truth, found, "bbox")[1] == (pytest.approx(6 / 11), 0.5)


def test_the_annotated_box_replaces_that_of_a_smaller_mask():
    ground_truth = ground_truth_of([(1, LESS)])  # IoU 0.4 with A
    ground_truth["annotations"][0]["voc_bbox"] = list(A)
    found = results_of((0, 1, A, 0.9))
    assert voc_scores.voc_scores(ground_truth, found, "bbox")[1] == (1, 1)
    assert voc_scores.voc_scores(ground_truth, found, "segm")[1] == (0, 0)


def test_detections_are_ranked_across_images():
    ground_truth = ground_truth_of([(1, A)], [(1, A)])
    found = results_of((0, 1, C, 0.5), (0, 1, A, 0.4), (1, 1, A, 0.9))
    # by score: right (image 1), wrong, right of 2
    assert voc_scores.voc_scores(ground_truth, found, "bbox")[1][1] == pytest.approx(
        1 / 2 + 1 / 2 * 2 / 3
    )

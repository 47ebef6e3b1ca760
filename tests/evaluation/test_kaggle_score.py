"""Kaggle's score of 2018, against numbers computed in the comments."""

import json

import numpy as np
import pytest
from evaluation_cases import CAT, DOG, Boxes, ground_truth_detector
from score_cases import HALF, A, B, C, ground_truth_of, kinds, results_of

from mrcnn.evaluation import kaggle_score
from mrcnn.evaluation.evaluate import evaluate_dataset


@kinds
def test_images_without_objects_score_one_unless_something_is_detected(kind):
    ground_truth = ground_truth_of([], [], [(1, A)])
    scores = kaggle_score.image_scores(ground_truth, results_of((1, 1, A, 0.9)), kind, 0.5)
    assert scores == {0: 1.0, 1: 0.0, 2: 0.0}


def test_mean_without_images_is_undefined():
    assert np.isnan(kaggle_score.mean_score({}))
    assert kaggle_score.mean_score({3: 1.0, 7: 0.5}) == 0.75


@kinds
def test_score_of_one_image_is_the_mean_over_ten_thresholds(kind):
    # Objects A, B, C; detections A (IoU 1), 8 of the 10 columns of B (IoU 80 / 100), one outside.
    # Thresholds .5 to .75 (6): TP 2, FP 1, FN 1: 2 / 4. At .8 and above (4): TP 1, FP 2, FN 2: 1/5.
    ground_truth = ground_truth_of([(1, A), (1, B), (1, C)])
    found = results_of((0, 1, A, 0.9), (0, 1, (20, 0, 8, 10), 0.8), (0, 1, (30, 30, 5, 5), 0.7))
    scores = kaggle_score.image_scores(ground_truth, found, kind, 0.5)
    assert scores[0] == pytest.approx((6 * 2 / 4 + 4 * 1 / 5) / 10)


@kinds
def test_an_iou_of_half_is_no_hit(kind):
    # Kaggle: "greater than" the threshold
    found = results_of((0, 1, HALF, 0.9))
    assert kaggle_score.image_scores(ground_truth_of([(1, A)]), found, kind, 0) == {0: 0.0}


@kinds
def test_detections_below_the_confidence_do_not_count(kind):
    found = results_of((0, 1, A, 0.6), (0, 1, B, 0.59))
    ground_truth = ground_truth_of([(1, A)])
    assert kaggle_score.image_scores(ground_truth, found, kind, 0.6) == {0: 1.0}
    assert kaggle_score.image_scores(ground_truth, found, kind, 0.1) == {0: 0.5}


@kinds
def test_an_object_has_one_detection_and_the_best_overlap_wins(kind):
    # Both overlap A by more than half; the exact one matches, the other is wrong: 1 / 2 everywhere.
    found = results_of((0, 1, (0, 0, 9, 10), 0.9), (0, 1, A, 0.5))
    assert kaggle_score.image_scores(ground_truth_of([(1, A)]), found, kind, 0) == {0: 0.5}


@kinds
def test_another_class_is_wrong_and_its_object_missed(kind):
    # Class 1: FN 1. Class 2: FP 1. Class 1 has a second, right one: 1 / 3.
    ground_truth = ground_truth_of([(1, A), (1, B)])
    found = results_of((0, 2, A, 0.9), (0, 1, B, 0.9))
    assert kaggle_score.image_scores(ground_truth, found, kind, 0)[0] == pytest.approx(1 / 3)


@kinds
def test_crowds_are_no_objects_and_detections_in_them_are_ignored(kind):
    # Half of (5, 20) is in the crowd C, so it is ignored; 4 of 10 columns of (6, 20) are: wrong.
    ground_truth = ground_truth_of([(1, A), (-1, C)])
    ignored, counted = (0, 1, (5, 20, 10, 10), 0.9), (0, 1, (6, 20, 10, 10), 0.9)
    right = (0, 1, A, 0.9)
    scores = kaggle_score.image_scores(ground_truth, results_of(right, ignored), kind, 0)
    assert scores == {0: 1.0}
    scores = kaggle_score.image_scores(ground_truth, results_of(right, counted), kind, 0)
    assert scores == {0: 0.5}


def test_evaluation_prints_the_score_of_masks_only():
    dataset = Boxes([[CAT, DOG], [], [CAT]])
    detect = ground_truth_detector(dataset)

    def blind_to_dogs(image):
        result = detect(image)
        kept = result["class_ids"] == 1
        return {
            key: values[..., kept] if key == "masks" else values[kept]
            for key, values in result.items()
        }

    # 1 of 2 objects, nothing in an empty image, 1 of 1: (1/2 + 1 + 1) / 3
    evaluation = evaluate_dataset(blind_to_dogs, dataset, progress=False)
    assert evaluation.image_scores == {0: 0.5, 1: 1.0, 2: 1.0}
    assert evaluation.kaggle_score == pytest.approx(2.5 / 3)
    line = "Kaggle's score of 2018 (Data Science Bowl), masks of confidence >= 1.000: 0.833"
    assert line in evaluation.table()
    assert json.loads(json.dumps(evaluation.to_dict()))["kaggle_score"] == evaluation.kaggle_score
    boxes = ground_truth_detector(dataset, masks=False)
    evaluation = evaluate_dataset(boxes, dataset, progress=False)
    assert evaluation.kaggle_score is None and "Kaggle" not in evaluation.table()
    assert evaluation.image_scores == {0: 1.0, 1: 1.0, 2: 1.0}

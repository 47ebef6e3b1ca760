"""COCO's metrics and curves, against pycocotools called as in its own demo."""

import json
import math
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from score_cases import A, ground_truth_of, kinds, pycocotools_evaluation, random_set, results_of

from mrcnn.evaluation import confusion, scores, voc_scores


@pytest.fixture(params=["pycocotools", "faster-coco-eval"])
def tools(request, monkeypatch):
    """Select each of the two implementations of COCO's evaluation."""
    if request.param == "pycocotools":
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
        assert scores._coco_classes() == (COCO, COCOeval)
    else:
        import faster_coco_eval

        assert scores._coco_classes() == (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)
    return request.param


@kinds
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_metrics_and_curves_are_those_of_pycocotools(tools, seed, kind):
    ground_truth, results = random_set(seed)
    expected = pycocotools_evaluation(ground_truth, results, kind)
    found = scores.coco_scores(ground_truth, results, kind)
    # pycocotools divides by (detections + 2.2e-16) and faster-coco-eval by the detections: a
    # precision of 1 differs in its last bit, and so may a mean of ten times 101 of them.
    same = {"rtol": 0, "atol": 0 if tools == "pycocotools" else 2 * np.spacing(1)}
    stats = [math.nan if s == -1 else s for s in expected.stats]
    np.testing.assert_allclose(list(found.metrics.values()), stats, **same)
    precision = expected.eval["precision"][:, :, :, 0, 2]
    np.testing.assert_allclose(
        found.precision, np.where(precision < 0, np.nan, precision)[[0, 5]], **same
    )
    means = [precision[:, :, k].mean() for k in range(3)]
    np.testing.assert_allclose(list(found.per_class.values()), means, **same)
    assert 0 < found.metrics["AP"] < 1


@kinds
def test_metrics_are_zero_without_detections_and_nan_without_objects(tools, kind):
    no_detections = scores.coco_scores(ground_truth_of([(1, A)]), [], kind)
    assert (
        no_detections.metrics["AP"] == 0
        and no_detections.per_class[1] == 0
        and math.isnan(no_detections.per_class[2])
    )
    assert (
        no_detections.precision.shape == (2, 101, 2) and not no_detections.precision[:, :, 0].any()
    )
    assert np.isnan(no_detections.precision[:, :, 1]).all()
    undefined = scores.coco_scores(ground_truth_of([]), results_of((0, 1, A, 0.5)), kind)
    assert np.isnan(list(undefined.metrics.values())).all()


def test_the_input_is_not_changed(tools):
    ground_truth, results = random_set(3)
    before = json.dumps([ground_truth, results])
    scores.coco_scores(ground_truth, results, "segm")
    confusion.match(ground_truth, results, "bbox")
    voc_scores.voc_scores(ground_truth, results, "segm")
    assert json.dumps([ground_truth, results]) == before


def test_no_output_is_printed(tools, capsys):
    ground_truth, results = random_set(0)
    scores.coco_scores(ground_truth, results, "bbox")
    confusion.match(ground_truth, results, "segm")
    voc_scores.voc_scores(ground_truth, results, "bbox")
    assert capsys.readouterr().out == ""


def test_an_unknown_kind_is_rejected():
    for score in (scores.coco_scores, confusion.match, voc_scores.voc_scores):
        with pytest.raises(ValueError, match='"bbox", "segm" or "keypoints". Received: \'mask\''):
            score(ground_truth_of([(1, A)]), [], "mask")

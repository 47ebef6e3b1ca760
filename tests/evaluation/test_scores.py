"""COCO's and VOC's figures, the best confidence and the confusions, against pycocotools and numbers made by hand."""

import contextlib
import io
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.evaluation import scores

SIDE = 40  # of every image, pixels


def rle(box):
    """A filled box [x, y, width, height] as a run-length code."""
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    x, y, width, height = box
    mask[y : y + height, x : x + width] = 1
    code = coco_mask.encode(mask)
    return {"size": code["size"], "counts": code["counts"].decode()}


def truth_of(*images, classes=2, difficult=()):
    """COCO truth: an image per argument, each a list of (class id, box); a negative id is a crowd."""
    annotations = []
    for image, objects in enumerate(images):
        for class_id, box in objects:
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": abs(class_id),
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": int(class_id < 0),
                "segmentation": rle(box),
            }
            annotations.append({**entry, "difficult": int(entry["id"] in difficult)})
    return {
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
    }


def results_of(*found):
    """COCO results of (image id, class id, box, score)."""
    return [
        {
            "image_id": i,
            "category_id": c,
            "bbox": list(map(float, b)),
            "score": s,
            "segmentation": rle(b),
        }
        for i, c, b, s in found
    ]


A, B, C = (0, 0, 10, 10), (20, 0, 10, 10), (0, 20, 10, 10)
HALF = (0, 0, 10, 5)  # IoU 50 / 100 with A
LESS = (0, 0, 10, 4)  # IoU 40 / 100 with A
kinds = pytest.mark.parametrize("kind", ["bbox", "segm"])


# --- COCO, both implementations ---------------------------------------------------------------------------


@pytest.fixture(params=["pycocotools", "faster-coco-eval"])
def tools(request, monkeypatch):
    """Both implementations, one after the other."""
    if request.param == "pycocotools":
        monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
        assert scores._tools() == (COCO, COCOeval)
    else:
        import faster_coco_eval

        assert scores._tools() == (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)
    return request.param


def random_set(seed, images=12, classes=3):
    """Truth with crowds and empty images, and detections: near misses, other classes, equal scores, nothing there."""
    rng = np.random.default_rng(seed)

    def box():
        x, y = rng.integers(0, 25, 2)
        return int(x), int(y), *(int(side) for side in rng.integers(2, 15, 2))

    objects, found = [], []
    for image in range(images):
        objects.append([(int(rng.choice([-1, 1])) if rng.random() < 0.1 else int(rng.integers(1, classes + 1)), box())
                        for _ in range(rng.integers(0, 6))])  # fmt: skip
        for class_id, (x, y, width, height) in objects[-1]:
            dx, dy = rng.integers(0, 2, 2)
            seen = abs(class_id) if rng.random() < 0.8 else int(rng.integers(1, classes + 1))
            found.append(
                (
                    image,
                    seen,
                    (int(x + dx), int(y + dy), width, height),
                    round(float(rng.random()), 1),
                )
            )
        found += [
            (image, int(rng.integers(1, classes + 1)), box(), float(rng.random())) for _ in range(2)
        ]
    return truth_of(*objects, classes=classes), results_of(*found)


def by_hand(truth, results, kind):
    """pycocotools as its own demo calls it."""
    left_out = {"bbox": "segmentation", "segm": "bbox"}[kind]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(truth))
        coco.createIndex()
        evaluation = COCOeval(
            coco,
            coco.loadRes([{k: v for k, v in r.items() if k != left_out} for r in results]),
            kind,
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@kinds
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_and_curves_are_those_of_pycocotools(tools, seed, kind):
    truth, results = random_set(seed)
    expected = by_hand(truth, results, kind)
    found = scores.coco_scores(truth, results, kind)
    # pycocotools divides by (detections + 2.2e-16) and faster-coco-eval by the detections: a precision of 1 differs
    # in its last bit, and so may a mean of ten times 101 of them.
    same = {"rtol": 0, "atol": 0 if tools == "pycocotools" else 2 * np.spacing(1)}
    stats = [math.nan if s == -1 else s for s in expected.stats]
    np.testing.assert_allclose(list(found.figures.values()), stats, **same)
    precision = expected.eval["precision"][:, :, :, 0, 2]
    np.testing.assert_allclose(
        found.precision, np.where(precision < 0, np.nan, precision)[[0, 5]], **same
    )
    means = [precision[:, :, k].mean() for k in range(3)]
    np.testing.assert_allclose(list(found.per_class.values()), means, **same)
    assert 0 < found.figures["AP"] < 1
    assert scores.coco_figures(truth, results, kind)[0]["AP"] == found.figures["AP"]


@kinds
def test_no_detections_and_no_truth(tools, kind):
    silent = scores.coco_scores(truth_of([(1, A)]), [], kind)
    assert (
        silent.figures["AP"] == 0 and silent.per_class[1] == 0 and math.isnan(silent.per_class[2])
    )
    assert silent.precision.shape == (2, 101, 2) and not silent.precision[:, :, 0].any()
    assert np.isnan(silent.precision[:, :, 1]).all()
    undefined = scores.coco_scores(truth_of([]), results_of((0, 1, A, 0.5)), kind)
    assert np.isnan(list(undefined.figures.values())).all()


def test_the_input_is_left_as_it_was(tools):
    truth, results = random_set(3)
    before = json.dumps([truth, results])
    scores.coco_scores(truth, results, "segm")
    scores.match(truth, results, "bbox")
    scores.voc_scores(truth, results, "segm")
    assert json.dumps([truth, results]) == before


def test_nothing_is_printed(tools, capsys):
    truth, results = random_set(0)
    scores.coco_scores(truth, results, "bbox")
    scores.match(truth, results, "segm")
    scores.voc_scores(truth, results, "bbox")
    assert capsys.readouterr().out == ""


# --- Matches and the best confidence ----------------------------------------------------------------------


def test_matches_of_nothing():
    matches = scores.match(truth_of([]), [], "segm")
    assert (matches.detections.shape, matches.objects) == ((0, 4), {})
    assert math.isnan(scores.best_confidence(matches).score)
    assert scores.confusion_matrix(matches, 0.5).tolist() == [[0] * 3] * 3


@kinds
def test_a_half_overlap_matches_and_crowds_count_neither_way(kind):
    truth = truth_of([(1, A), (-1, B)])
    matches = scores.match(
        truth, results_of((0, 1, HALF, 0.9), (0, 1, B, 0.8), (0, 1, C, 0.7)), kind
    )
    assert matches.detections.tolist() == [[0, 1, 1, 0], [0, 1, 0, 2]]  # found object 1, found none
    assert matches.objects == {1: (0, 1)}
    below = scores.match(truth, results_of((0, 1, LESS, 0.9)), kind)
    assert below.detections[:, 2].tolist() == [0]


def test_the_best_confidence_by_hand():
    truth = truth_of([(1, A), (1, B), (2, C)])
    found = results_of(
        (0, 1, A, 0.9), (0, 1, C, 0.8), (0, 1, B, 0.7), (0, 2, C, 0.4), (0, 2, A, 0.3)
    )
    matches = scores.match(truth, found, "bbox")
    # all classes: right, wrong, right, right, wrong of 3 objects: F1 2/4, 2/5, 4/6, 6/7, 6/8
    best = scores.best_confidence(matches)
    assert (best.score, best.f1, best.precision, best.recall) == (
        0.4,
        pytest.approx(6 / 7),
        3 / 4,
        1,
    )
    # class 1: right, wrong, right of 2: 2/3, 2/4, 4/5
    assert scores.best_confidence(matches, 1) == scores.Confidence(
        0.7, pytest.approx(0.8), pytest.approx(2 / 3), 1
    )
    assert scores.best_confidence(matches, 2) == scores.Confidence(0.4, 1, 1, 1)


def test_equal_scores_are_shown_together_and_of_equal_f1_the_higher_confidence_is_taken():
    truth = truth_of([(1, A), (1, B)])
    together = scores.match(truth, results_of((0, 1, A, 0.5), (0, 1, C, 0.5)), "bbox")
    assert scores.best_confidence(together).precision == 0.5  # the right one alone cannot be had
    # right; right, wrong, wrong, right: F1 2/3 with one shown, and 4/6 with four
    equal = results_of((0, 1, A, 0.9), (0, 1, C, 0.8), (0, 1, (30, 30, 5, 5), 0.7), (0, 1, B, 0.6))
    assert scores.best_confidence(scores.match(truth, equal, "bbox")).score == 0.9


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from([A, B, C, HALF, LESS]), st.integers(0, 5)), min_size=1, max_size=8
    )
)
def test_no_confidence_has_a_higher_f1(found):
    truth = truth_of([(1, A), (1, B)], classes=1)
    matches = scores.match(
        truth, results_of(*((0, 1, box, score / 5) for box, score in found)), "bbox"
    )
    best = scores.best_confidence(matches)
    for confidence in {score / 5 for _, score in found}:
        counts = scores.confusion_matrix(matches, confidence)
        f1 = 2 * counts[0, 0] / (2 * counts[0, 0] + counts[0, 1] + counts[1, 0])
        assert f1 <= best.f1 + 1e-12
        if confidence == best.score:
            assert f1 == pytest.approx(best.f1, rel=1e-12)


# --- Confusions -------------------------------------------------------------------------------------------


@kinds
def test_confusions_by_hand(kind):
    truth = truth_of([(1, A), (2, B)], [(2, A)])
    found = results_of(
        (0, 1, A, 0.9),  # right
        (0, 1, B, 0.8),  # class 2 taken for class 1
        (0, 2, C, 0.7),  # nothing there
        (1, 2, A, 0.4),  # right, but below the confidence: missed
    )
    matches = scores.match(truth, found, kind)
    assert scores.confusion_matrix(matches, 0.5).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert scores.confusion_matrix(matches, 0.4).tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


def test_the_own_class_is_matched_before_any_other():
    truth = truth_of([(1, A), (2, A)])  # two objects in one place
    found = results_of((0, 2, A, 0.9), (0, 1, HALF, 0.6))
    counts = scores.confusion_matrix(scores.match(truth, found, "bbox"), 0.5)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_the_better_overlap_is_confused_and_the_other_is_nowhere():
    truth = truth_of([(1, A)])
    found = results_of((0, 2, HALF, 0.9), (0, 2, A, 0.6))
    counts = scores.confusion_matrix(scores.match(truth, found, "bbox"), 0.5)
    assert counts.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.7, 1.1]))
def test_rows_add_up_to_objects_and_columns_to_detections(seed, confidence):
    truth, results = random_set(seed, images=3)
    matches = scores.match(truth, results, "bbox")
    counts = scores.confusion_matrix(matches, confidence)
    for k, class_id in enumerate(matches.class_ids):
        assert counts[k].sum() == sum(
            category == class_id for _, category in matches.objects.values()
        )
        shown = (matches.scores >= confidence) & (matches.detections[:, 1] == class_id)
        assert counts[:, k].sum() == shown.sum()


# --- VOC --------------------------------------------------------------------------------------------------


def test_voc_ap_of_nothing():
    assert np.isnan(scores.voc_ap(np.zeros(0, bool), 0)).all()
    assert scores.voc_ap(np.zeros(0, bool), 3) == (0, 0)
    assert scores.voc_ap(np.array([False, False]), 3) == (0, 0)


def test_voc_ap_by_hand():
    # right, wrong, right of 4 objects: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 2/4.
    # 2007: recalls 0, .1, .2 see precision 1; .3, .4, .5 see 2/3; six see none: (3 + 3 * 2/3) / 11 = 5/11
    # 2010: 1/4 * 1 + 1/4 * 2/3 = 5/12
    assert scores.voc_ap(np.array([1, 0, 1]), 4) == (pytest.approx(5 / 11), pytest.approx(5 / 12))
    assert scores.voc_ap(np.ones(7), 7) == (1, 1)


def test_recalls_of_tenths_are_met_exactly():
    # 3 of 10 found: recall 0.3 counts among 0, .1, .2, .3, though 0.1 + 0.2 > 0.3 in floats
    assert scores.voc_ap(np.ones(3), 10) == (pytest.approx(4 / 11), pytest.approx(3 / 10))


@kinds
def test_difficult_objects_count_neither_way(kind):
    truth = truth_of([(1, A), (1, B)], [(1, A)], difficult=[2])
    found = results_of((0, 1, B, 0.9), (0, 1, A, 0.8), (1, 1, C, 0.7), (1, 1, A, 0.6))
    # without the difficult B: right, wrong, right of 2 objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    eleven, area = scores.voc_scores(truth, found, kind)[1]
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert area == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert np.isnan(scores.voc_scores(truth, found, kind)[2]).all()


def test_a_second_detection_of_an_object_is_wrong_even_beside_a_free_one():
    # Both detections overlap A most (IoU 1, and 80 / 120 against 60 / 140 with the shifted object).
    truth = truth_of([(1, A), (1, (5, 0, 10, 10))])
    found = results_of((0, 1, A, 0.9), (0, 1, (2, 0, 10, 10), 0.8))
    assert scores.voc_scores(truth, found, "bbox")[1] == (pytest.approx(6 / 11), 0.5)


def test_vocs_own_box_counts_where_the_mask_is_smaller():
    truth = truth_of([(1, LESS)])  # IoU 0.4 with A
    truth["annotations"][0]["voc_bbox"] = list(A)
    found = results_of((0, 1, A, 0.9))
    assert scores.voc_scores(truth, found, "bbox")[1] == (1, 1)
    assert scores.voc_scores(truth, found, "segm")[1] == (0, 0)


def test_scores_rank_across_images():
    truth = truth_of([(1, A)], [(1, A)])
    found = results_of((0, 1, C, 0.5), (0, 1, A, 0.4), (1, 1, A, 0.9))
    # by score: right (image 1), wrong, right of 2
    assert scores.voc_scores(truth, found, "bbox")[1][1] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_the_kind_is_checked():
    for score in (scores.coco_scores, scores.match, scores.voc_scores):
        with pytest.raises(ValueError, match='"bbox" or "segm". Received: \'mask\''):
            score(truth_of([(1, A)]), [], "mask")

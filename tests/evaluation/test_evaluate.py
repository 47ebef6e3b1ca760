"""Evaluations of small datasets: metrics, confidence limit, interruption, unreadable images."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from evaluation_cases import (
    CAT,
    DOG,
    Boxes,
    OwnBoxes,
    Unreadable,
    box_detector,
    ground_truth_detector,
    no_detections,
    scene,
)
from score_cases import pycocotools_evaluation

from mrcnn.data import progress
from mrcnn.evaluation import evaluate, proposals, scores
from mrcnn.evaluation.coco_ground_truth import dataset_to_coco
from mrcnn.evaluation.confusion import Confidence
from mrcnn.formats.coco import coco_results
from mrcnn.formats.rle import mask_to_rle


def evaluation_of(detect, dataset, **options):
    return evaluate.evaluate_dataset(detect, dataset, progress=False, **options)


def encoded(result):
    """Return a result with its masks as RLEs."""
    planes = np.moveaxis(result["masks"], -1, 0)
    return {**result, "masks": [mask_to_rle(mask) for mask in planes]}


# --- Metrics ------------------------------------------------------------------------------------


def test_detecting_the_ground_truth_has_ap_one_despite_crowds_and_empty_images():
    dataset = Boxes([[CAT, DOG], [], [CAT, (-1, (10, 0, 20, 20))]])
    result = evaluation_of(ground_truth_detector(dataset), dataset)
    for metrics in (result.box, result.mask):
        assert tuple(metrics) == scores.METRICS
        perfect = [metrics[name] for name in ("AP", "AP50", "AR100", "APs")]
        assert perfect == [metrics["AP"]] * 4 and metrics["AP"] == pytest.approx(1)
        assert math.isnan(metrics["APl"])  # no object is large
    assert (result.images, result.objects, result.detections) == (3, 3, 3)
    assert [(r["name"], r["objects"], r["mask_AP"]) for r in result.per_class] == [
        ("cat", 2, pytest.approx(1)),
        ("dog", 1, pytest.approx(1)),
    ]


def test_float_boxes_are_measured_as_they_are():
    # CAT is 10 x 10; a box of 9.4 x 10 has the IoU 0.94 with it: found at 0.5, 0.55, ..., 0.9.
    dataset = Boxes([[CAT]])
    found = {
        "rois": np.float32([[0.3, 0, 9.7, 10]]),
        "class_ids": np.array([1]),
        "scores": np.float32([0.9]),
        "masks": dataset.load_mask(0)[0],
    }
    result = evaluation_of(lambda image: found, dataset)
    assert result.box["AP"] == pytest.approx(0.9) and result.mask["AP"] == pytest.approx(1)


def test_metrics_without_detections_are_zero():
    result = evaluation_of(no_detections, Boxes([[CAT]]))
    assert result.box["AP"] == result.mask["AP"] == 0
    assert "Nothing was detected, so every metric is 0" in result.table()


@pytest.mark.parametrize("detections", [0, 2])
def test_metrics_without_objects_are_undefined(detections):
    def cats(image):
        return ground_truth_detector(Boxes([[CAT]]))(image * 0)

    result = evaluation_of(cats if detections else no_detections, Boxes([[], []]))
    assert all(math.isnan(value) for value in [*result.box.values(), *result.mask.values()])
    assert "every metric is undefined (nan)" in result.table()
    assert result.detections == detections
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["mask"]["AP"] is None and values["per_class"][0]["box_AP"] is None


def test_a_box_only_detector_has_no_mask_metrics():
    dataset = Boxes([[CAT, DOG]])
    result = evaluation_of(ground_truth_detector(dataset, masks=False), dataset)
    assert result.box["AP"] == pytest.approx(1) and result.mask is None
    assert result.to_dict()["mask"] is None and "\nmask" not in result.table()


def test_metrics_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    images = [[(int(rng.integers(1, 3)), random_box(rng)) for _ in range(5)] for _ in range(4)]
    ground_truth, results = dataset_to_coco(Boxes(images)), []
    for i, objects in enumerate(images):
        boxes = np.clip([np.add(box, rng.integers(-1, 2, 4)) for _, box in objects], 0, 20)
        class_ids = [class_id for class_id, _ in objects]
        names = ("rois", "class_ids", "scores", "masks")
        result = dict(zip(names, scene(boxes, class_ids, rng.random(5)), strict=True))
        results += coco_results(i, result)
    for kind in ("bbox", "segm"):
        measured = scores.coco_scores(ground_truth, results, kind)
        stats = pycocotools_evaluation(ground_truth, results, kind).stats
        expected = [math.nan if value == -1 else value for value in stats]
        np.testing.assert_array_equal(list(measured.metrics.values()), expected)
        assert 0 < measured.metrics["AP"] < 1
        mean = np.mean(list(measured.per_class.values()))
        assert mean == pytest.approx(measured.metrics["AP"])


def random_box(rng):
    y, x = rng.integers(0, 10, 2)
    height, width = rng.integers(5, 11, 2)
    return int(y), int(x), int(y + height), int(x + width)


def test_curves_confidence_and_confusions_are_part_of_the_evaluation():
    dataset = Boxes([[CAT, DOG]])
    result = evaluation_of(ground_truth_detector(dataset), dataset)
    assert result.kind == "mask" and result.precision.shape == (2, 101, 2)
    assert result.confidence == Confidence(1, 1, 1, 1)
    assert result.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert "Confidence to use: 1.000, where F1 at mask IoU 0.5 is highest: 1.000" in result.table()
    assert [(row["confidence"], row["F1"]) for row in result.per_class] == [(1, 1), (1, 1)]
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["confidence"]["f1"] == 1
    assert values["confusion"][0] == [1, 0, 0]
    assert values["voc"] is None
    boxes = evaluation_of(ground_truth_detector(dataset, masks=False), dataset)
    assert boxes.kind == "box" and "F1 at box IoU" in boxes.table()


def test_only_the_hundred_best_detections_of_a_class_count():
    boxes = [(y, x, y + 1, x + 1) for y in range(20) for x in range(0, 20, 2)]  # 200 objects
    dataset = Boxes([[(1, box) for box in boxes]])
    result = evaluation_of(ground_truth_detector(dataset), dataset)
    assert result.mask["AR100"] == pytest.approx(100 / 200)
    assert "the 100 best detections count" in result.table()


# --- VOC ----------------------------------------------------------------------------------------


def difficult_dog():
    """Return a dataset whose dog is difficult, and a detector that misses the dog only."""
    dataset = Boxes([[CAT, DOG], [CAT]])
    for info, flags in zip(dataset.image_info, ([False, True], [False]), strict=True):
        info["difficult"] = np.array(flags)
    detect = ground_truth_detector(dataset)

    def detect_cats(image):
        result = detect(image)
        cats = {key: result[key][:1] for key in ("rois", "class_ids", "scores")}
        return {**cats, "masks": result["masks"][..., :1]}

    return dataset, detect_cats


def test_difficult_flags_add_vocs_ap_which_ignores_difficult_objects():
    dataset, detect_cats = difficult_dog()
    result = evaluation_of(detect_cats, dataset)
    assert result.voc == {"box": [1, 1], "mask": [1, 1]}
    assert result.per_class[0]["VOC"] == {"box": [1, 1], "mask": [1, 1]}
    assert np.isnan(result.per_class[1]["VOC"]["mask"]).all()
    assert result.box["AP"] == pytest.approx(0.5)  # COCO ignores the flags
    assert json.dumps(result.to_dict(), allow_nan=False)


def test_annotated_boxes_are_vocs_ground_truth_for_boxes():
    dataset, detect_cats = difficult_dog()
    far_from_the_cat = [10, 10, 20, 20]
    dataset.image_info[0]["boxes"] = np.array([far_from_the_cat, [0, 0, 5, 5]])
    result = evaluation_of(detect_cats, dataset)
    # Equal scores: wrong in image 0, right in image 1, of 2 objects: precision 1/2 up to recall 1/2
    assert result.voc["box"] == [pytest.approx(6 * 0.5 / 11), 0.25]
    assert result.voc["mask"] == [1, 1]


def test_an_image_with_a_wrong_number_of_difficult_flags_fails():
    dataset, detect_cats = difficult_dog()
    dataset.image_info[1]["difficult"] = []
    (entry,) = evaluation_of(detect_cats, dataset).failed
    assert "Received: 0 flags and 1 instances for image 1" in entry["error"]


# --- Arguments ----------------------------------------------------------------------------------


def test_min_confidence_removes_detections_and_is_stated():
    dataset = Boxes([[CAT, DOG]])

    def unsure(image):
        return {**ground_truth_detector(dataset)(image), "scores": np.array([0.05, 0.04])}

    assert evaluate.EVALUATION_MIN_CONFIDENCE == 0.05
    result = evaluation_of(unsure, dataset)
    assert [row["box_AP"] for row in result.per_class] == [pytest.approx(1), 0]
    assert "1 detections at confidence >= 0.05" in result.table()
    low = evaluation_of(unsure, dataset, min_confidence=0.01)
    assert low.box["AP"] == pytest.approx(1) and low.to_dict()["min_confidence"] == 0.01


def test_coco_lowers_the_confidence_limit_of_the_model_and_restores_it():
    dataset = Boxes([[CAT, DOG], []])
    config = SimpleNamespace(DETECTION_MIN_CONFIDENCE=0.7)
    seen = []

    def detect(images, masks):
        assert masks == "rle"
        seen.append(config.DETECTION_MIN_CONFIDENCE)
        return [encoded(ground_truth_detector(dataset)(image)) for image in images]

    result = evaluate.coco(SimpleNamespace(config=config, detect=detect), dataset, progress=False)
    assert result.mask["AP"] == pytest.approx(1) and result.images == 2
    assert seen == [0.05, 0.05] and config.DETECTION_MIN_CONFIDENCE == 0.7
    with pytest.raises(ValueError, match="at least one image"):
        evaluate.coco(SimpleNamespace(config=config, detect=detect), dataset, limit=0)
    assert config.DETECTION_MIN_CONFIDENCE == 0.7


def test_masks_as_rles_give_the_same_metrics():
    dataset = Boxes([[CAT, DOG], []])
    detect = ground_truth_detector(dataset)
    of_arrays = evaluation_of(detect, dataset)
    of_rles = evaluation_of(lambda image: encoded(detect(image)), dataset)
    assert of_rles.to_dict() | {"seconds": 0} == of_arrays.to_dict() | {"seconds": 0}
    assert of_rles.mask["AP"] == pytest.approx(1, abs=1e-12)


def test_masks_of_another_size_than_the_image_are_rejected():
    dataset = Boxes([[CAT]])
    result = ground_truth_detector(dataset)(dataset.load_image(0))
    resized = {**result, "masks": np.ones((10, 10, 1), bool)}
    with pytest.raises(ValueError, match=r"as large as the image.*\(10, 10\).*\(20, 20\)"):
        evaluation_of(lambda image: resized, dataset)
    resized["masks"] = [mask_to_rle(np.ones((3, 5)))]
    with pytest.raises(ValueError, match=r"as large as the image. Received: \(3, 5\)"):
        evaluation_of(lambda image: resized, dataset)


def test_ground_truth_masks_of_another_size_than_the_image_are_rejected():
    dataset = Boxes([[CAT]])
    dataset.load_mask = lambda image_id: (np.ones((10, 20, 1)), [1])
    with pytest.raises(ValueError, match=r"as large as their image.*\(10, 20\).*\(20, 20\)"):
        evaluation_of(no_detections, dataset)


def test_limit_and_image_ids_choose_the_images():
    dataset = Boxes([[CAT], [DOG], [CAT]])
    detect = ground_truth_detector(dataset)
    assert evaluation_of(detect, dataset, limit=2).images == 2
    assert evaluation_of(detect, dataset, image_ids=[1]).objects == 1
    with pytest.raises(ValueError, match="at least one image.*a dataset of 3 images, limit=0"):
        evaluation_of(detect, dataset, limit=0)


def test_progress_is_shown_on_stderr(caplog, capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    dataset = Boxes([[CAT], [CAT]])
    with caplog.at_level("INFO", logger="mrcnn"):
        evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset)
    assert "Evaluating: 1 of 2 images, 0:00 left." in caplog.messages
    assert capsys.readouterr().out == ""


def test_the_output_of_pycocotools_is_captured(capsys):
    dataset = Boxes([[CAT]])
    evaluation_of(ground_truth_detector(dataset), dataset)
    assert capsys.readouterr().out == ""


# --- Interruption -------------------------------------------------------------------------------


def interrupted_after(dataset, last):
    """Return a detector that raises KeyboardInterrupt after the image of id `last`."""
    perfect = ground_truth_detector(dataset)

    def detect(image):
        if int(image[0, 0, 0]) > last:
            raise KeyboardInterrupt
        return perfect(image)

    return detect


def test_an_interrupted_evaluation_measures_the_images_evaluated_so_far():
    dataset = Boxes([[CAT], [DOG], [CAT], [CAT]])
    with pytest.raises(evaluate.EvaluationInterrupted) as caught:
        evaluation_of(interrupted_after(dataset, 1), dataset, limit=3)
    partial = caught.value.evaluation()
    assert (partial.images, partial.objects, partial.detections, partial.partial_of) == (2, 2, 2, 3)
    assert partial.box["AP"] == pytest.approx(1)  # the cat of the third image is not counted
    assert partial.table().startswith(
        "PARTIAL: interrupted after 2 of 3 images.\n2 images, 2 objects, 2 detections"
    )
    assert partial.to_dict()["partial_of"] == 3
    complete = evaluation_of(ground_truth_detector(dataset), dataset)
    assert complete.to_dict()["partial_of"] is None and "PARTIAL" not in complete.table()


def test_an_interruption_before_the_first_image_is_a_plain_keyboard_interrupt():
    dataset = Boxes([[CAT]])
    with pytest.raises(KeyboardInterrupt) as caught:
        evaluation_of(interrupted_after(dataset, -1), dataset)
    assert not isinstance(caught.value, evaluate.EvaluationInterrupted)


# --- Boxes without masks ------------------------------------------------------------------------


def test_a_dataset_without_masks_has_box_metrics_only():
    dataset = OwnBoxes([[(1, (0, 0, 9, 9)), (2, (5, 5, 15, 15))], [], [(1, (2, 2, 8, 12))]])
    detect = box_detector(dataset)
    result = evaluation_of(detect, dataset)
    assert (result.box["AP"], result.mask, result.objects, result.kind) == (1.0, None, 3, "box")

    def detect_with_masks(image):
        boxes = detect(image)
        return {**boxes, "masks": np.zeros((20, 20, len(boxes["scores"])), bool)}

    result = evaluation_of(detect_with_masks, dataset)
    assert (result.box["AP"], result.mask) == (1.0, None)


def test_own_boxes_measure_a_box_only_model_and_masks_a_model_with_masks():
    class BoxesAndMasks(OwnBoxes):
        load_mask = Boxes.load_mask

    dataset = BoxesAndMasks([[CAT]])
    box_only = evaluation_of(box_detector(dataset), dataset)
    assert box_only.box["AP"] == pytest.approx(1, abs=1e-12)
    with_masks = evaluation_of(ground_truth_detector(dataset), dataset)
    assert (with_masks.box["AP"], with_masks.mask["AP"]) == pytest.approx((1, 1), abs=1e-12)


def test_results_of_a_proposal_network_are_rejected():
    def propose(image):
        return {"rois": np.zeros((0, 4)), "scores": np.zeros(0)}

    with pytest.raises(ValueError, match="without class_ids. Try proposal_recall"):
        evaluation_of(propose, Boxes([[CAT]]))


# --- Unreadable images --------------------------------------------------------------------------


def test_unreadable_images_are_left_out_and_named(caplog):
    images = [[CAT], [CAT], [CAT], [DOG]]
    dataset = Unreadable(images)
    seen = []
    detect = ground_truth_detector(Boxes(images))
    result = evaluation_of(detect, dataset, on_image=lambda i, *_: seen.append(i))
    assert (result.images, result.objects, result.box["AP"], result.partial_of) == (2, 2, 1, None)
    assert [(entry["image_id"], entry["error"]) for entry in result.failed] == [
        (1, "The image must be readable."),
        (2, "KeyError: 'masks'"),
    ]
    assert seen == [0, 3]
    assert "Not counted: 2 images that could not be used: 1.png, 2.png." in result.table()
    assert json.loads(json.dumps(result.to_dict()))["failed"] == result.failed
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    recall = proposals.proposal_recall(detect, dataset, progress=False)
    assert (recall.images, len(recall.failed)) == (2, 2)
    assert "Not counted: 2 images" in recall.table()


def test_an_image_loaded_as_none_is_left_out():
    dataset = Boxes([[CAT], [CAT]])
    load_image = dataset.load_image
    dataset.load_image = lambda image_id: load_image(image_id) if image_id else None
    result = evaluation_of(ground_truth_detector(dataset), dataset)
    assert result.images == 1
    assert result.failed[0]["error"] == "load_image must return an array. Received: None."


def test_the_first_error_is_raised_if_no_image_is_readable():
    dataset = Unreadable([[CAT], [CAT]])
    dataset.unreadable_images = (0, 1)
    for measure in (evaluate.evaluate_dataset, proposals.proposal_recall):
        with pytest.raises(ValueError, match="The image must be readable"):
            measure(no_detections, dataset, progress=False)

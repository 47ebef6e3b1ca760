"""Matches, AP and recall against hand-computed and recorded numbers; COCO's figures against pycocotools."""

import contextlib
import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from evaluation_cases import CAT, DOG, Boxes, Torn, ground_truth_detector, masks_of, nothing, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.data.dataset import Dataset
from mrcnn.data.masks import unmold_masks
from mrcnn.evaluation import evaluate, proposals
from mrcnn.formats.coco import CocoDataset
from mrcnn.formats.rle import unmold_rles


def coded(result):
    """A result with its masks as run-length codes."""
    return {
        **result,
        "masks": [evaluate.mask_to_rle(mask) for mask in np.moveaxis(result["masks"], -1, 0)],
    }


# --- COCO's formats ---------------------------------------------------------------------------------------


def test_coco_results_of_nothing():
    assert evaluate.coco_results(7, nothing(np.zeros((20, 20, 3)))) == []


def test_coco_results_by_hand_and_through_json():
    boxes, ids, scores, masks = scene([[2, 3, 8, 15]], [2], [0.5])
    result = {"rois": boxes, "class_ids": ids, "scores": scores.astype(np.float32), "masks": masks}
    (entry,) = json.loads(json.dumps(evaluate.coco_results(7, result, category_ids={2: 18})))
    assert entry["bbox"] == [3, 2, 12, 6]  # x1, y1, 15 - 3, 8 - 2
    assert (entry["image_id"], entry["category_id"], entry["score"]) == (7, 18, 0.5)
    assert isinstance(entry["segmentation"]["counts"], str)
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), masks[:, :, 0])


def test_a_view_with_the_masks_first_in_memory_encodes_the_same():
    masks = masks_of([(2, 3, 8, 15), (0, 0, 5, 5)])
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(masks, -1, 0)), 0, -1)
    assert evaluate.mask_to_rle(view[:, :, 1]) == evaluate.mask_to_rle(masks[:, :, 1])


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_codes_from_boxes_are_those_of_whole_masks(seed):
    """Boxes that fill the image, touch its sides or lie beside it; masks that are empty, full or noise."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2)
    low = rng.integers(-3, [height, width], (6, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 30, (6, 2))], axis=1)
    boxes[0] = 0, 0, height, width
    soft = rng.random((6, 5, 5), np.float32)
    soft[1:3] = [[[0]], [[1]]]
    full = unmold_masks(soft, boxes, (height, width))
    codes = unmold_rles(soft, boxes, (height, width))
    assert codes == [evaluate.mask_to_rle(full[:, :, i]) for i in range(6)]
    assert unmold_rles(soft[:0], boxes[:0], (height, width)) == []


def test_results_whose_arrays_disagree_are_refused():
    result = {**nothing(np.zeros((20, 20))), "scores": np.ones(2)}
    with pytest.raises(ValueError, match=r"one row per detection.*'scores': 2"):
        evaluate.coco_results(0, result)


def test_truth_of_a_dataset_by_hand():
    truth = evaluate.dataset_to_coco(Boxes([[CAT, (-2, (5, 0, 20, 4))], []]))
    assert json.loads(json.dumps(truth)) == truth
    assert truth["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [(i["id"], i["height"], i["width"]) for i in truth["images"]] == [
        (0, 20, 20),
        (1, 20, 20),
    ]
    cat, crowd = truth["annotations"]
    assert (cat["id"], cat["bbox"], cat["area"], cat["iscrowd"]) == (1, [0, 0, 10, 10], 100, 0)
    # x 0..4, y 5..20: width 4, height 15
    assert (crowd["category_id"], crowd["bbox"], crowd["area"], crowd["iscrowd"]) == (
        2,
        [0, 5, 4, 15],
        60,
        1,
    )


class Annotated(Boxes):
    """As COCO's reader: the file says boxes and areas that are not those of whole pixels."""

    def annotated_boxes(self, image_id):
        return self.image_info[image_id]["objects"][0][2]

    def load_mask(self, image_id):
        return masks_of([box for _, box, _ in self.image_info[image_id]["objects"]]), [1]


def test_boxes_and_areas_are_those_of_the_annotation_file_if_it_has_them():
    own = {"bbox": [0.4, 0.3, 9.2, 9.1], "area": 80.5}
    dataset = Annotated(
        [[(*CAT, [own])], [(*CAT, [{"area": 80.5}])], [(*CAT, [{}])], [(*CAT, [own, own])]]
    )
    truth = [(a["bbox"], a["area"]) for a in evaluate.dataset_to_coco(dataset)["annotations"]]
    drawn = [0.0, 0.0, 10.0, 10.0]  # also if load_mask gives another number of objects
    assert truth == [(own["bbox"], 80.5), (drawn, 80.5), (drawn, 100), (drawn, 100)]


def test_a_coco_file_is_measured_as_coco_does(tmp_path):
    from annotated import annotation, coco, write_coco, write_image

    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    outline = annotation(
        1, 90, [[4.3, 3, 13.6, 3, 13.6, 8, 4.3, 8]], bbox=[4.3, 3, 9.3, 5], area=46.5
    )
    crowd = annotation(
        2, 18, {"size": [30, 40], "counts": [60, 90, 1050]}, iscrowd=1, bbox=[2, 0, 3, 30], area=90
    )
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[outline, crowd])))
    truth = evaluate.dataset_to_coco(dataset)["annotations"]
    assert [(a["bbox"], a["area"], a["iscrowd"]) for a in truth] == [
        ([4.3, 3, 9.3, 5], 46.5, 0),
        ([2, 0, 3, 30], 90, 1),
    ]
    box = annotation(1, 90, [], bbox=[4.3, 3, 9.3, 5])
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[box])))
    truth = evaluate.dataset_to_coco(dataset)["annotations"]
    np.testing.assert_allclose(truth[0]["bbox"], [4.3, 3, 9.3, 5])
    assert len(truth) == 1 and "segmentation" not in truth[0]


def test_empty_mask_of_class_0_is_a_negative(caplog):
    """Published scripts say "nothing here" so; their image_reference may raise as well."""

    class Raises(Boxes):
        def image_reference(self, image_id):
            raise AttributeError("'super' object has no attribute 'image_info'")

    truth = evaluate.dataset_to_coco(Raises([[CAT], [(0, (0, 0, 0, 0))]]))
    assert [a["image_id"] for a in truth["annotations"]] == [0] and len(truth["images"]) == 2
    assert "no pixels" not in caplog.text
    with pytest.raises(ValueError, match=r"Received: 0 for image 1 \(picture 1\)"):
        evaluate.dataset_to_coco(Raises([[CAT], [(0, (0, 0, 2, 2))]]))


def test_an_instance_without_pixels_is_left_out_and_logged(caplog):
    truth = evaluate.dataset_to_coco(Boxes([[(1, (0, 0, 0, 0)), DOG]]))
    assert [a["id"] for a in truth["annotations"]] == [1]
    assert "Instance 0 of image 0 (picture 0) has no pixels" in caplog.text


def test_bad_truth_is_named():
    with pytest.raises(ValueError, match=r"among \[1, 2\].*Received: 3 for image 1 \(picture 1\)"):
        evaluate.dataset_to_coco(Boxes([[], [(3, (0, 0, 5, 5))]]))
    dataset = Boxes([[CAT]])
    dataset.load_mask = lambda image_id: (np.ones((20, 20, 2)), [1])
    with pytest.raises(ValueError, match=r"\(20, 20, 2\) and 1 class ids for image 0"):
        evaluate.dataset_to_coco(dataset)
    dataset.load_mask = lambda image_id: (np.ones((10, 20, 1)), [1])
    with pytest.raises(ValueError, match=r"as large as their image.*\(10, 20\).*\(20, 20\)"):
        evaluate.evaluate_dataset(nothing, dataset, progress=False)


# --- COCO's figures ---------------------------------------------------------------------------------------


def test_truth_as_detections_is_perfect_crowds_and_empty_images_included():
    dataset = Boxes([[CAT, DOG], [], [CAT, (-1, (10, 0, 20, 20))]])
    result = evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset, progress=False)
    for figures in (result.box, result.mask):
        assert tuple(figures) == evaluate.FIGURES
        assert (
            figures["AP"]
            == figures["AP50"]
            == figures["AR100"]
            == figures["APs"]
            == pytest.approx(1)
        )
        assert math.isnan(figures["APl"])  # no object is large
    assert (result.images, result.objects, result.detections) == (3, 3, 3)
    assert [(r["name"], r["objects"], r["mask_AP"]) for r in result.per_class] == [
        ("cat", 2, pytest.approx(1)),
        ("dog", 1, pytest.approx(1)),
    ]


def test_no_detections_give_zero_and_no_truth_nan_and_the_report_says_so():
    silent = evaluate.evaluate_dataset(nothing, Boxes([[CAT]]), progress=False)
    assert silent.box["AP"] == silent.mask["AP"] == 0
    assert "Nothing was detected, so every figure is 0" in silent.table()
    empty = Boxes([[], []])
    for detect in (nothing, lambda image: ground_truth_detector(Boxes([[CAT]]))(image * 0)):
        undefined = evaluate.evaluate_dataset(detect, empty, progress=False)
        assert all(math.isnan(v) for v in [*undefined.box.values(), *undefined.mask.values()])
        assert "every figure is undefined (nan)" in undefined.table()
    assert undefined.detections == 2
    figures = json.loads(json.dumps(undefined.to_dict(), allow_nan=False))
    assert figures["mask"]["AP"] is None and figures["per_class"][0]["box_AP"] is None


def test_a_box_only_detector_has_no_mask_figures():
    dataset = Boxes([[CAT, DOG]])
    result = evaluate.evaluate_dataset(
        ground_truth_detector(dataset, masks=False), dataset, progress=False
    )
    assert result.box["AP"] == pytest.approx(1) and result.mask is None
    assert result.to_dict()["mask"] is None and "\nmask" not in result.table()


def test_the_confidence_floor_is_applied_and_stated():
    dataset = Boxes([[CAT, DOG]])

    def unsure(image):
        return {
            **ground_truth_detector(dataset)(image),
            "scores": np.array([0.05, 0.04], np.float64),
        }

    assert evaluate.EVALUATION_MIN_CONFIDENCE == 0.05
    result = evaluate.evaluate_dataset(unsure, dataset, progress=False)
    assert [row["box_AP"] for row in result.per_class] == [
        pytest.approx(1),
        0,
    ]  # the dog at 0.04 is cut
    assert "1 detections at confidence >= 0.05" in result.table()
    low = evaluate.evaluate_dataset(unsure, dataset, progress=False, min_confidence=0.01)
    assert low.box["AP"] == pytest.approx(1) and low.to_dict()["min_confidence"] == 0.01


def test_coco_lowers_the_threshold_of_the_model_and_puts_it_back():
    dataset = Boxes([[CAT, DOG], []])
    config = SimpleNamespace(DETECTION_MIN_CONFIDENCE=0.7)
    seen = []

    def detect(images, masks):
        assert masks == "rle"
        seen.append(config.DETECTION_MIN_CONFIDENCE)
        return [coded(ground_truth_detector(dataset)(image)) for image in images]

    result = evaluate.coco(SimpleNamespace(config=config, detect=detect), dataset, progress=False)
    assert result.mask["AP"] == pytest.approx(1) and result.images == 2
    assert seen == [0.05, 0.05] and config.DETECTION_MIN_CONFIDENCE == 0.7
    with pytest.raises(ValueError, match="at least one image"):
        evaluate.coco(SimpleNamespace(config=config, detect=detect), dataset, limit=0)
    assert config.DETECTION_MIN_CONFIDENCE == 0.7


def test_masks_may_be_run_length_codes():
    dataset = Boxes([[CAT, DOG], []])
    detect = ground_truth_detector(dataset)
    full, codes = (
        evaluate.evaluate_dataset(function, dataset, progress=False)
        for function in (detect, lambda image: coded(detect(image)))
    )
    assert codes.to_dict() | {"seconds": 0} == full.to_dict() | {"seconds": 0} and codes.mask[
        "AP"
    ] == pytest.approx(1, abs=1e-12)
    small = {
        **nothing(np.zeros((20, 20))),
        "rois": np.ones((1, 4)),
        "class_ids": np.ones(1),
        "scores": np.ones(1),
    }
    small["masks"] = [evaluate.mask_to_rle(np.ones((3, 5)))]
    with pytest.raises(ValueError, match=r"as large as the image. Received: \(3, 5\)"):
        evaluate.evaluate_dataset(lambda image: small, dataset, progress=False)
    with pytest.raises(ValueError, match="one row per detection"):
        evaluate.coco_results(0, {**small, "masks": small["masks"] * 2})


def test_curves_confidence_and_confusions_come_with_the_figures():
    dataset = Boxes([[CAT, DOG]])
    result = evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset, progress=False)
    assert result.kind == "mask" and result.precision.shape == (2, 101, 2)
    assert result.confidence == evaluate.Confidence(1, 1, 1, 1)
    assert result.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert "Confidence to use: 1.000, where F1 at mask IoU 0.5 is highest: 1.000" in result.table()
    assert [(row["confidence"], row["F1"]) for row in result.per_class] == [(1, 1), (1, 1)]
    figures = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (
        figures["confidence"]["f1"] == 1
        and figures["confusion"][0] == [1, 0, 0]
        and figures["voc"] is None
    )
    boxes = evaluate.evaluate_dataset(
        ground_truth_detector(dataset, masks=False), dataset, progress=False
    )
    assert boxes.kind == "box" and "F1 at box IoU" in boxes.table()


def test_vocs_figures_come_with_difficult_flags_and_use_its_boxes():
    dataset = Boxes([[CAT, DOG], [CAT]])
    for info, flags in zip(dataset.image_info, ([False, True], [False]), strict=True):
        info["difficult"] = np.array(flags)
    detect = ground_truth_detector(dataset)

    def without_the_dog(image):
        return {
            key: values[..., :1] if key == "masks" else values[:1]
            for key, values in detect(image).items()
        }

    result = evaluate.evaluate_dataset(without_the_dog, dataset, progress=False)
    assert result.voc == {
        "box": [1, 1],
        "mask": [1, 1],
    }  # the dog is difficult, and no other is there
    assert result.per_class[0]["VOC"] == {"box": [1, 1], "mask": [1, 1]}
    assert np.isnan(result.per_class[1]["VOC"]["mask"]).all()
    assert result.box["AP"] == pytest.approx(0.5)  # COCO knows no difficult objects
    assert json.dumps(result.to_dict(), allow_nan=False)
    dataset.image_info[0]["boxes"] = np.array(
        [[10, 10, 20, 20], [0, 0, 5, 5]]
    )  # far from the cat's mask
    moved = evaluate.evaluate_dataset(without_the_dog, dataset, progress=False)
    # Equal scores: wrong in image 0, right in image 1, of 2 objects: precision 1/2 up to recall 1/2
    assert moved.voc["box"] == [pytest.approx(6 * 0.5 / 11), 0.25] and moved.voc["mask"] == [1, 1]
    dataset.image_info[1]["difficult"] = []
    (entry,) = evaluate.evaluate_dataset(without_the_dog, dataset, progress=False).failed
    assert "Received: 0 flags and 1 instances for image 1" in entry["error"]


def test_the_progress_bar_is_drawn_on_stderr(capsys):
    dataset = Boxes([[CAT]])
    evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset)
    printed = capsys.readouterr()
    assert "Evaluating" in printed.err and printed.out == ""


def test_only_the_hundred_best_detections_of_a_class_count():
    size = [(y, x, y + 1, x + 1) for y in range(20) for x in range(0, 20, 2)]  # 200 objects
    dataset = Boxes([[(1, box) for box in size]])
    result = evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset, progress=False)
    assert result.mask["AR100"] == pytest.approx(100 / 200)
    assert "the 100 best detections count" in result.table()


def test_limit_and_image_ids_choose_the_images():
    dataset = Boxes([[CAT], [DOG], [CAT]])
    detect = ground_truth_detector(dataset)
    assert evaluate.evaluate_dataset(detect, dataset, limit=2, progress=False).images == 2
    assert evaluate.evaluate_dataset(detect, dataset, image_ids=[1], progress=False).objects == 1
    with pytest.raises(ValueError, match="at least one image.*a dataset of 3 images, limit=0"):
        evaluate.evaluate_dataset(detect, dataset, limit=0, progress=False)


def test_ctrl_c_leaves_the_figures_of_the_images_measured():
    dataset = Boxes([[CAT], [DOG], [CAT], [CAT]])
    perfect = ground_truth_detector(dataset)

    def until(last):
        def detect(image):
            if image[0, 0, 0] > last:
                raise KeyboardInterrupt
            return perfect(image)

        return detect

    with pytest.raises(KeyboardInterrupt) as caught:
        evaluate.evaluate_dataset(until(1), dataset, limit=3, progress=False)
    partial = caught.value.figures()
    assert (partial.images, partial.objects, partial.detections, partial.partial_of) == (2, 2, 2, 3)
    assert partial.box["AP"] == pytest.approx(1)  # the cat of the third image was not looked for
    assert partial.table().startswith(
        "PARTIAL: interrupted after 2 of 3 images.\n2 images, 2 objects, 2 detections"
    )
    assert partial.to_dict()["partial_of"] == 3
    with pytest.raises(KeyboardInterrupt) as caught:  # of nothing there are no figures
        evaluate.evaluate_dataset(until(-1), dataset, progress=False)
    assert not isinstance(caught.value, evaluate.EvaluationInterrupted)
    whole = evaluate.evaluate_dataset(perfect, dataset, progress=False)
    assert whole.to_dict()["partial_of"] is None and "PARTIAL" not in whole.table()


def test_masks_that_are_not_in_original_pixels_are_refused():
    def shrunk(image):
        return {**ground_truth_detector(dataset)(image), "masks": np.ones((10, 10, 1), bool)}

    dataset = Boxes([[CAT]])
    with pytest.raises(ValueError, match=r"as large as the image.*\(10, 10\).*\(20, 20\)"):
        evaluate.evaluate_dataset(shrunk, dataset, progress=False)


def test_nothing_of_pycocotools_is_printed(capsys):
    dataset = Boxes([[CAT]])
    evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset, progress=False)
    assert capsys.readouterr().out == ""


def test_the_figures_kind_is_checked():
    with pytest.raises(ValueError, match='"bbox" or "segm". Received: \'mask\''):
        evaluate.coco_figures(evaluate.dataset_to_coco(Boxes([[CAT]])), [], "mask")


def test_the_figures_are_those_of_pycocotools_by_hand():
    rng = np.random.default_rng(0)
    images = [[(int(rng.integers(1, 3)), random_box(rng)) for _ in range(5)] for _ in range(4)]
    dataset = Boxes(images)
    truth, results = evaluate.dataset_to_coco(dataset), []
    for i, objects in enumerate(images):
        boxes = np.clip([np.add(box, rng.integers(-1, 2, 4)) for _, box in objects], 0, 20)
        ids = [class_id for class_id, _ in objects]
        names = ("rois", "class_ids", "scores", "masks")
        parts = dict(zip(names, scene(boxes, ids, rng.random(5)), strict=True))
        results += evaluate.coco_results(i, parts)
    for kind, left_out in (("bbox", "segmentation"), ("segm", "bbox")):
        figures, per_class = evaluate.coco_figures(truth, results, kind)
        with contextlib.redirect_stdout(io.StringIO()):
            by_hand = COCO()
            by_hand.dataset = json.loads(json.dumps(truth))
            by_hand.createIndex()
            entries = [{k: v for k, v in r.items() if k != left_out} for r in results]
            scores = COCOeval(by_hand, by_hand.loadRes(entries), kind)
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
        expected = [math.nan if s == -1 else s for s in scores.stats]
        np.testing.assert_array_equal(list(figures.values()), expected)  # to the last digit
        assert 0 < figures["AP"] < 1
        assert np.mean(list(per_class.values())) == pytest.approx(figures["AP"])


def random_box(rng):
    y, x = rng.integers(0, 10, 2)
    height, width = rng.integers(5, 11, 2)
    return int(y), int(x), int(y + height), int(x + width)


# --- Boxes without masks ----------------------------------------------------------------------------------


class OwnBoxes(Boxes):
    """Boxes alone, and those half a pixel beside what the masks of `Boxes` would give."""

    def load_bbox(self, image_id):
        objects = self.image_info[image_id]["objects"]
        return [np.add(box, 0.5) for _, box in objects], [class_id for class_id, _ in objects]

    load_mask = Dataset.load_mask


def box_detector(dataset):
    def detect(image):
        found, ids = dataset.load_bbox(int(image[0, 0, 0]))
        return {
            "rois": np.array(found).reshape(-1, 4),
            "class_ids": np.array(ids, int),
            "scores": np.ones(len(ids)),
        }

    return detect


def test_a_dataset_of_boxes_is_measured_by_them():
    dataset = OwnBoxes([[(1, (0, 0, 9, 9)), (2, (5, 5, 15, 15))], [], [(1, (2, 2, 8, 12))]])
    found = evaluate.evaluate_dataset(box_detector(dataset), dataset, progress=False)
    assert (found.box["AP"], found.mask, found.objects, found.kind) == (1.0, None, 3, "box")
    # a detector with masks too: no truth for masks, so box figures alone
    with_masks = lambda image: {  # noqa: E731
        **(boxes := box_detector(dataset)(image)),
        "masks": np.zeros((20, 20, len(boxes["scores"])), bool),
    }
    found = evaluate.evaluate_dataset(with_masks, dataset, progress=False)
    assert (found.box["AP"], found.mask) == (1.0, None)


def test_crowds_sizes_and_empty_boxes_of_a_dataset_of_boxes(caplog):
    dataset = OwnBoxes(
        [[(1, (0, 0, 9, 9)), (-1, (9, 9, 19, 19)), (2, (4, 4, 4, 9)), (2, (10, 10, 30, 30))]]
    )
    truth = evaluate._empty_truth(dataset)
    evaluate._add_boxes(truth, dataset, 0, (20, 20))
    assert [(a["bbox"], a["area"], a["iscrowd"]) for a in truth["annotations"]] == [
        ([0.5, 0.5, 9.0, 9.0], 81.0, 0),
        ([9.5, 9.5, 10.0, 10.0], 100.0, 1),
        ([10.5, 10.5, 9.5, 9.5], 90.25, 0),  # cut at the image's rim
    ]
    assert "no area" in caplog.text


def test_own_boxes_measure_a_box_only_model_and_masks_one_with_masks():
    class Both(OwnBoxes):
        load_mask = Boxes.load_mask

    dataset = Both([[CAT]])
    box_only = evaluate.evaluate_dataset(box_detector(dataset), dataset, progress=False)
    assert box_only.box["AP"] == pytest.approx(1, abs=1e-12)
    with_masks = evaluate.evaluate_dataset(ground_truth_detector(dataset), dataset, progress=False)
    assert (with_masks.box["AP"], with_masks.mask["AP"]) == pytest.approx((1, 1), abs=1e-12)


def test_wrong_boxes_of_a_dataset_are_named():
    dataset = OwnBoxes([[(3, (0, 0, 9, 9))]])
    with pytest.raises(ValueError, match=r"among \[1, 2\].*Received: 3 for image 0.*in load_bbox"):
        evaluate._add_boxes(evaluate._empty_truth(dataset), dataset, 0, (20, 20))
    dataset.load_bbox = lambda image_id: ([[0, 0, 9, 9]], [1, 2])
    with pytest.raises(ValueError, match="1 boxes and 2 class ids for image 0"):
        evaluate._add_boxes(evaluate._empty_truth(dataset), dataset, 0, (20, 20))


# --- Images that cannot be read -----------------------------------------------------------------------------


def test_an_image_that_cannot_be_read_is_left_out_and_named(caplog):
    dataset, drawn = Torn([[CAT], [CAT], [CAT], [DOG]]), []
    detect = ground_truth_detector(Boxes([[CAT], [CAT], [CAT], [DOG]]))
    result = evaluate.evaluate_dataset(
        detect, dataset, progress=False, on_image=lambda i, *_: drawn.append(i)
    )
    assert (result.images, result.objects, result.box["AP"], result.partial_of) == (2, 2, 1, None)
    assert [(entry["image_id"], entry["error"]) for entry in result.failed] == [
        (1, "The image must be readable."), (2, "KeyError: 'masks'"),
    ]  # fmt: skip
    assert drawn == [0, 3]
    assert "Not counted: 2 images that could not be used: picture 1, picture 2." in result.table()
    assert json.loads(json.dumps(result.to_dict()))["failed"] == result.failed
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    recall = proposals.proposal_recall(detect, dataset, progress=False)
    assert (recall.images, len(recall.failed)) == (
        2,
        2,
    ) and "Not counted: 2 images" in recall.table()


def test_no_image_that_can_be_read_is_an_error():
    dataset = Torn([[CAT], [CAT]])
    dataset.torn_images = (0, 1)
    for measure in (evaluate.evaluate_dataset, proposals.proposal_recall):
        with pytest.raises(ValueError, match="The image must be readable"):
            measure(nothing, dataset, progress=False)

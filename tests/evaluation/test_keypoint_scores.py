"""COCO's metrics of keypoints (OKS), computed by hand and by pycocotools' own sigmas."""

import json
import math

import numpy as np
import pytest

from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import evaluate
from mrcnn.evaluation.coco_ground_truth import dataset_to_coco
from mrcnn.evaluation.scores import COCO_SIGMAS, keypoint_sigmas
from mrcnn.weights.coco_classes import COCO_KEYPOINTS

SIDE = 20  # of the objects: their area is 400


class Marked(Dataset):
    """Images with one square of 20 x 20 pixels each, two of whose corners are keypoints."""

    keypoint_names = ("first", "second")
    keypoint_skeleton = ((0, 1),)

    def __init__(self, count=2, visibility=(2, 2)):
        super().__init__()
        self.add_class("marked", 1, "square")
        for i in range(count):
            self.add_image("marked", i, path=None)
        self.prepare()
        self.visibility = visibility

    def load_image(self, image_id):
        return np.zeros((64, 64, 3), np.uint8)

    def load_mask(self, image_id):
        mask = np.zeros((64, 64, 1), bool)
        mask[10 : 10 + SIDE, 30 : 30 + SIDE] = True
        return mask, np.array([1])

    def load_keypoints(self, image_id):
        places = np.array([[10.0, 30.0], [10.0 + SIDE, 30.0 + SIDE]])
        return np.column_stack([places, self.visibility])[None]


def detector(dataset, shift=0.0, scores=(0.9,), masks=True):
    """Detect the square, its keypoints shifted down."""

    def detect(image):
        found = np.repeat(dataset.load_keypoints(0), len(scores), axis=0)
        found[..., 0] += shift
        result = {
            "rois": np.tile([10, 30, 10 + SIDE, 30 + SIDE], (len(scores), 1)),
            "class_ids": np.ones(len(scores), int),
            "scores": np.array(scores),
            "keypoints": found,
        }
        if masks:
            result["masks"] = np.repeat(dataset.load_mask(0)[0], len(scores), axis=2)
        return result

    return detect


def measured(dataset, detect, **options):
    return evaluate.evaluate_dataset(detect, dataset, progress=False, **options)


def test_nothing_detected_is_zero():
    dataset = Marked()
    result = measured(dataset, detector(dataset, scores=()))
    assert result.keypoints["AP"] == 0 and result.keypoints["AR"] == 0


def test_data_without_labelled_keypoints_is_undefined():
    dataset = Marked(visibility=(0, 0))
    assert math.isnan(measured(dataset, detector(dataset)).keypoints["AP"])


@pytest.mark.parametrize("masks", [True, False])
def test_shift_of_a_pixel_has_the_similarity_of_the_formula(masks):
    """OKS is exp(-d^2 / (2 s^2 (2 sigma)^2)): exp(-1 / (2 x 400 x 0.01)) = 0.8825.

    Eight of the ten limits from 0.5 to 0.95 are below it.
    """
    dataset = Marked()
    result = measured(dataset, detector(dataset, shift=1.0, masks=masks))
    assert result.keypoints["AP"] == pytest.approx(0.8)
    assert result.keypoints["AP75"] == pytest.approx(1) and math.isnan(result.keypoints["APl"])
    assert result.per_class[0]["keypoint_AP"] == pytest.approx(0.8)
    assert result.box["AP"] == pytest.approx(1)


def test_keypoints_that_are_not_labelled_do_not_count():
    """One of the two is compared: its similarity is that of both before."""
    dataset = Marked(visibility=(1, 0))
    assert measured(dataset, detector(dataset, shift=1.0)).keypoints["AP"] == pytest.approx(0.8)


def test_sigmas_scale_the_distances():
    """With 0.1 the similarity is exp(-1 / 32) = 0.969: all ten limits are below it."""
    dataset = Marked()
    result = measured(dataset, detector(dataset, shift=1.0), sigmas=[0.1, 0.1])
    assert result.keypoints["AP"] == pytest.approx(1)
    with pytest.raises(
        ValueError, match="one sigma each. Received: \\[2\\] keypoints and 3 sigmas"
    ):
        measured(dataset, detector(dataset), sigmas=[0.1, 0.1, 0.1])


def test_sigmas_follow_from_the_names():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO_SIGMAS, Params("keypoints").kpt_oks_sigmas)
    assert keypoint_sigmas(COCO_KEYPOINTS, 17) == list(COCO_SIGMAS)
    assert keypoint_sigmas(["nose", "tail"], 2) == [0.026, 0.05]
    assert keypoint_sigmas([], 3) == [0.05] * 3


def test_data_or_models_without_keypoints_have_no_such_metrics():
    class Plain(Marked):
        load_keypoints = Dataset.load_keypoints

    plain, dataset = Plain(), Marked()
    result = measured(plain, detector(dataset))
    assert result.keypoints is None and "keypoint_AP" not in result.per_class[0]
    assert "keypoints" not in result.to_dict() and "keypoints" not in result.table()

    def boxes_only(image):
        found = detector(dataset)(image)
        del found["keypoints"]
        return found

    assert measured(dataset, boxes_only).keypoints is None


def test_table_and_json_have_the_metrics():
    dataset = Marked()
    result = measured(dataset, detector(dataset, shift=1.0))
    assert "keypoints  0.800  1.000" in result.table()
    assert json.loads(json.dumps(result.to_dict()))["keypoints"]["AP"] == pytest.approx(0.8)


def test_ground_truth_of_coco_has_keypoints():
    content = dataset_to_coco(Marked(1))
    assert content["categories"][0]["keypoints"] == ["first", "second"]
    assert content["categories"][0]["skeleton"] == [[1, 2]]
    (annotation,) = content["annotations"]
    assert annotation["keypoints"] == [29.5, 9.5, 2, 49.5, 29.5, 2]
    assert annotation["num_keypoints"] == 2


def test_wrong_rows_are_left_out_with_their_image():
    class Wrong(Marked):
        def load_keypoints(self, image_id):
            return super().load_keypoints(0)[:, :, : 2 if image_id else 3]

    result = measured(Wrong(2), detector(Marked()))
    assert result.images == 1 and "load_keypoints must return" in result.failed[0]["error"]

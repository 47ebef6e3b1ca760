"""Raw outputs to results, computed by hand."""

import numpy as np
import pytest
from tiny import TinyConfig

from mrcnn.inference.postprocessing import (
    MASK_FORMS,
    image_boxes,
    unmold_detections,
    unmold_proposals,
    why_nothing,
)
from mrcnn.nn import boxes


@pytest.mark.parametrize("form", MASK_FORMS)
def test_detections_are_those_of_a_computation_by_hand(form):
    """An image of 100 x 200 was halved into the middle 50 rows of 100 x 100."""
    window = (25, 0, 75, 100)
    # in the molded image the box covers rows 25..50 and columns 0..50: the upper left quarter
    box = boxes.normalize(np.array([[25, 0, 50, 50]]), (100, 100))[0]
    detections = np.zeros((3, 6), np.float32)
    detections[0] = [*box, 2, 0.9]
    detections[1] = [0.5, 0.5, 0.5, 0.5, 1, 0.8]  # no area: removed
    soft_masks = np.zeros((3, 28, 28, 3), np.float32)
    soft_masks[0, :, :14, 2] = 1.0
    rois, class_ids, scores, masks = unmold_detections(
        detections, soft_masks, (100, 200, 3), (100, 100, 3), window, masks=form
    )
    assert class_ids.tolist() == [2] and scores.tolist() == [np.float32(0.9)]
    np.testing.assert_allclose(rois, [[0, 0, 50, 100]], atol=1)
    if form == "full":
        assert masks.shape == (100, 200, 1)
        assert masks[:49, :49, 0].all()
        assert not masks[:, 51:, 0].any() and not masks[52:, :, 0].any()
    if form == "crop":
        y1, x1, y2, x2 = rois[0]
        assert masks[0].shape == (y2 - y1, x2 - x1)
    if form == "rle":
        assert masks[0]["size"] == [100, 200]


def test_masks_of_all_classes_have_one_channel():
    detections = np.array([[0, 0, 1, 1, 2, 0.9]], np.float32)
    shape = (10, 10, 3)
    soft_masks = np.ones((1, 28, 28, 1), np.float32)
    *_, masks = unmold_detections(detections, soft_masks, shape, shape, (0, 0, 10, 10))
    assert masks.shape == (10, 10, 1) and masks[1:-1, 1:-1].all()
    *_, masks = unmold_detections(detections, None, shape, shape, (0, 0, 10, 10))
    assert masks is None


def test_boxes_of_a_window_of_one_row_span_the_image():
    normalised = boxes.normalize(np.array([[31, 8, 32, 24]]), (64, 64))
    rois = image_boxes(normalised, (8, 512, 3), (64, 64, 3), (31, 0, 32, 64))
    assert rois.tolist() == [[0, 65, 8, 188]]  # 8 and 23 of 63, times 511


def test_proposals_are_those_of_a_computation_by_hand():
    # An image of 65 x 33 in columns 16 to 48 of 65 x 65: x of the image = (pixel - 16) / 32.
    proposals = np.float32(
        [
            [0, 0.25, 1, 0.75, 0.9],
            [0.5, 0.0, 1, 0.5, 0.8],  # begins left of the image
            [0, 0, 1, 0.2, 0.7],  # lies in the padding
            [0, 0, 0, 0, 0],
        ]
    )
    found = unmold_proposals(proposals, (65, 33, 3), (65, 65, 3), (0, 16, 65, 49))
    assert found["rois"].tolist() == [[0, 0, 65, 33], [32, 0, 65, 17]]
    np.testing.assert_allclose(found["scores"], [0.9, 0.8])


@pytest.mark.parametrize(
    ("threshold", "sentence"),
    [
        (0.7, "0.600 (cat), removed by DETECTION_MIN_CONFIDENCE = 0.7. Try a lower one"),
        (0.5, "0.600 (cat), but the background scored higher there."),
    ],
)
def test_reason_of_an_empty_result(threshold, sentence):
    probs = np.array([[0.9, 0.1, 0.0], [0.4, 0.0, 0.6]])
    config = TinyConfig(DETECTION_MIN_CONFIDENCE=threshold)
    assert sentence in why_nothing(probs, config, ["BG", "dog", "cat"])
    assert "(class 2)" in why_nothing(probs, config, None)

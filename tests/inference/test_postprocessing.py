"""Raw outputs to results, computed by hand."""

import numpy as np
import pytest
from tiny import TinyConfig

from mrcnn.formats.rle import decode
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
    if form == "soft":
        ((y, x, soft),) = masks
        assert (y, x) == tuple(rois[0][:2]) and soft.shape == (rois[0][2], rois[0][3])
        assert soft.dtype == np.float32 and soft[10, 10] == 1


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


FLOATS = {"CONTINUOUS_BOXES": True, "IMAGE_RESIZE_MODE": "torchvision"}


def test_continuous_boxes_return_by_the_ratio_of_each_axis():
    # An image of 100 x 205 was resized to 50 x 102 and padded to 64 x 128: ratios 2 and 2.0098.
    normalized = np.float32([[8 / 64, 16 / 128, 40 / 64, 96 / 128], [0, 0, 1, 1]])
    shapes = ((100, 205, 3), (64, 128, 3), (0, 0, 50, 102))
    rois = image_boxes(normalized, *shapes, continuous=True)
    assert rois.dtype == np.float32
    expected = [[16, 16 * 205 / 102, 80, 96 * 205 / 102], [0, 0, 100, 205]]  # clipped
    np.testing.assert_allclose(rois, expected, rtol=1e-6)
    # Centered in the padding, as matterport pads.
    centered = np.float32([[(7 + 8) / 64, (13 + 16) / 128, (7 + 40) / 64, (13 + 96) / 128]])
    moved = image_boxes(centered, *shapes[:2], (7, 13, 57, 115), continuous=True)
    np.testing.assert_allclose(moved, expected[:1], rtol=1e-6)
    assert image_boxes(np.zeros((0, 4), np.float32), *shapes, continuous=True).shape == (0, 4)


def test_continuous_boxes_are_the_recorded_ones(shared):
    folder = shared / "reference/torchvision"
    xy = [1, 0, 3, 2]
    for file, window, molded, found, final in (
        ("refs/maskrcnn_resnet50_fpn_a", (320, 426), (320, 448), "detections_0_boxes", "final_0_"),
        ("refs/maskrcnn_resnet50_fpn_b", (272, 544), (288, 544), "detections_0_boxes", "final_0_"),
        (
            "detectron2/mask_rcnn_R_50_FPN_3x_a",
            (320, 427),
            (320, 448),
            "detections_boxes",
            "final_",
        ),
    ):
        with np.load(folder / f"{file}.npz") as recorded:
            resized, expected = recorded[found][:, xy], recorded[f"{final}boxes"][:, xy]
        original = (300, 600) if file.endswith("_b") else (480, 640)
        normalized = boxes.normalize(resized, molded, continuous=True)
        rois = image_boxes(normalized, original, molded, (0, 0, *window), continuous=True)
        np.testing.assert_allclose(rois, expected, rtol=0, atol=1e-4)  # measured: 3e-5


@pytest.mark.parametrize("rule", ["matterport", "torchvision", "detectron2"])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_all_forms_show_the_same_mask_of_float_boxes(rule, threshold):
    rng = np.random.default_rng(0)
    config = TinyConfig(MASK_PASTE=rule, MASK_THRESHOLD=threshold, **FLOATS)
    detections = np.zeros((12, 6), np.float32)
    low = rng.uniform(0, 0.6, (10, 2))
    detections[:10, :4] = np.concatenate([low, low + rng.uniform(0.02, 0.5, (10, 2))], axis=1)
    detections[:10, 4:] = 1, 0.9
    detections[3, :4] = 0.5, 0.5, 0.5, 0.7  # no area: removed
    soft = rng.random((12, 28, 28, 1), np.float32)
    shapes = ((80, 120, 3), (64, 96, 3), (0, 0, 60, 90))
    found = {
        form: unmold_detections(detections, soft, *shapes, masks=form, config=config)
        for form in MASK_FORMS
    }
    rois, class_ids, scores, full = found["full"]
    assert rois.dtype == np.float32 and rois.shape == (9, 4) and full.shape == (80, 120, 9)
    assert len(class_ids) == len(scores) == 9
    for i, (y1, x1, y2, x2) in enumerate(boxes.outward(rois).tolist()):
        np.testing.assert_array_equal(found["crop"][3][i], full[y1:y2, x1:x2, i])
        y, x, part = found["soft"][3][i]
        region = full[y : y + part.shape[0], x : x + part.shape[1], i]
        np.testing.assert_array_equal(part >= threshold, region)
        (decoded,) = np.moveaxis(decode([found["rle"][3][i]], (80, 120)), -1, 0)
        assert (decoded != full[:, :, i]).sum() <= 1
    more = unmold_detections(
        detections, soft, *shapes, config=TinyConfig(MASK_PASTE=rule, MASK_THRESHOLD=0.6, **FLOATS)
    )[3]
    assert more.sum() < full.sum()


def test_continuous_proposals_are_floats():
    proposals = np.float32([[0, 0.25, 0.5, 0.75, 0.9], [0.9, 0, 1, 1, 0.8], [0, 0, 0, 0, 0]])
    shapes = ((65, 33, 3), (64, 64, 3), (0, 0, 50, 64))
    found = unmold_proposals(proposals, *shapes, continuous=True)
    # 0.5 of 64 rows, times 65 / 50; 16 and 48 columns, times 33 / 64; the second is padding.
    np.testing.assert_allclose(found["rois"], [[0, 8.25, 41.6, 24.75]], rtol=1e-6)
    assert found["rois"].dtype == np.float32


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

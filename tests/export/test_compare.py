"""How the agreement of two lists of detections is counted, by hand."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.export.compare import LIMITS, compare, mask_iou, match
from mrcnn.export.reference import Found, exported

LIMIT = LIMITS["float32"]


def found(boxes=(), class_ids=(), scores=(), masks=None):
    return Found(
        np.float32(boxes).reshape(-1, 4), np.array(class_ids, int), np.float32(scores), masks
    )


def agreement(mine, theirs, precision="float32", images=1):
    limits = LIMITS[precision]
    return compare([mine] * images, [theirs] * images, [(100, 100)] * images, Config(), limits)


def test_two_images_in_which_nothing_is_found_agree():
    seen = agreement(found(), found(), images=2)
    assert (seen.images, seen.compared, seen.matched) == (2, 0, 1.0)
    assert seen.keeps(LIMIT)


TWO = found([[0, 0, 10, 10], [20, 20, 40, 40]], [1, 2], [0.9, 0.6])


def test_order_does_not_matter_and_the_largest_difference_counts():
    other = found([[20, 20, 40, 40.25], [0, 0.125, 10, 10]], [2, 1], [0.6, 0.9])
    assert match(TWO, other).tolist() == [1, 0]
    seen = agreement(TWO, other)
    assert (seen.compared, seen.matched, seen.boxes, seen.scores) == (2, 1.0, 0.25, 0.0)
    assert seen.keeps(LIMIT)


@pytest.mark.parametrize(
    ("other", "matched"),
    [
        (found(), 0.0),  # two are missing
        (found([[0, 0, 10, 10]], [1], [0.9]), 0.5),  # one is missing
        (found(TWO.boxes, [1, 1], TWO.scores), 0.0),  # one of another class: 2 without a partner
        (found([*TWO.boxes, [50, 50, 60, 60]], [1, 2, 1], [0.9, 0.6, 0.7]), 0.5),  # one too many
    ],
)
def test_detections_without_a_partner_disagree(other, matched):
    seen = agreement(TWO, other)
    assert seen.matched == pytest.approx(matched)
    assert not seen.keeps(LIMIT)


def test_detections_below_a_half_are_compared_only_if_there_are_no_others():
    low = found([*TWO.boxes, [50, 50, 60, 60]], [1, 2, 1], [0.9, 0.6, 0.4])
    assert agreement(low, TWO).keeps(LIMIT)
    only = found([[50, 50, 60, 60]], [1], [0.25])
    seen = agreement(only, found())
    assert (seen.confidence, seen.compared, seen.matched) == (0.25, 1, 0.0)


@pytest.mark.parametrize(("shift", "score", "agrees"), [(0.5, 0, True), (0.625, 0, False)])
def test_limits_of_boxes(shift, score, agrees):
    other = found(TWO.boxes + np.float32(shift), TWO.class_ids, TWO.scores - np.float32(score))
    assert agreement(TWO, other).keeps(LIMIT) == agrees


def test_scores_of_float16_may_differ_more():
    other = found(TWO.boxes, TWO.class_ids, TWO.scores - np.float32(0.005))
    assert not agreement(TWO, other).keeps(LIMIT)
    assert agreement(TWO, other, "float16").keeps(LIMITS["float16"])


def test_boxes_without_area_can_be_partners():
    flat = found([[5, 0, 5, 10]], [1], [0.8])
    assert agreement(flat, flat).matched == 1.0


def test_mask_iou_in_a_box():
    # In a box of 2 x 4 pixels: 4 of the 8 pixels are in both masks, 6 in at least one.
    mine = np.float32([[1, 1, 1, 0], [1, 1, 0, 0]])
    theirs = np.float32([[1, 1, 0, 0], [1, 1, 1, 0]])
    box = np.array([10, 20, 12, 24])
    assert mask_iou(mine, theirs, box, (100, 100), Config()) == pytest.approx(4 / 6)
    assert mask_iou(mine * 0, theirs * 0, box, (100, 100), Config()) == 1.0


def test_masks_that_differ_disagree():
    masks = np.zeros((2, 28, 28), np.float32)
    masks[:, :14] = 1.0
    mine = TWO._replace(masks=masks)
    assert agreement(mine, mine).masks == 1.0
    assert not agreement(mine, mine._replace(masks=1 - masks)).keeps(LIMIT)


def test_outputs_of_a_file_are_cut_at_the_count():
    outputs = {
        "boxes": np.ones((2, 3, 4)),
        "class_ids": np.ones((2, 3), int),
        "scores": np.ones((2, 3)),
        "count": np.array([2, 0]),
    }
    assert [len(exported(outputs, i).scores) for i in (0, 1)] == [2, 0]
    assert exported(outputs, 0).masks is None

"""torchvision's and detectron2's paste rules, by hand and compared with their own results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.data.masks import unmold_crops, unmold_in_boxes, unmold_masks
from mrcnn.data.paste_rules import rule_crops

RULES = ["torchvision", "detectron2"]
XY = [1, 0, 3, 2]  # from (x1, y1, x2, y2) to (y1, x1, y2, x2) and back


def read(path, *keys):
    with np.load(path) as file:
        return [file[key] for key in keys]


def whole(rule, masks, boxes, shape):
    """The probabilities in the whole image, `[N, H, W]`."""
    images = np.zeros((len(masks), *shape), np.float32)
    for image, (y, x, soft) in zip(images, rule_crops(rule, masks, boxes, shape), strict=True):
        image[y : y + soft.shape[0], x : x + soft.shape[1]] = soft
    return images


@pytest.mark.parametrize("rule", RULES)
def test_no_masks_give_no_crops(rule):
    assert list(rule_crops(rule, np.zeros((0, 28, 28)), np.zeros((0, 4)), (8, 9))) == []
    full = unmold_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), (8, 9), rule=rule)
    assert full.shape == (8, 9, 0)


def test_torchvision_grows_and_truncates_the_box():
    # A mask of 2 x 2 gets a border: 4 x 4. The box 2..4 grows by 4 / 2 about its center 3: 1..5,
    # which are 5 pixels. Their centers in the mask: -0.1, 0.7, 1.5, 2.3, 3.1.
    ((y, x, soft),) = rule_crops("torchvision", np.ones((1, 2, 2)), [[2, 2, 4, 4]], (9, 9))
    line = np.array([0, 0.7, 1, 0.7, 0])
    assert (y, x) == (1, 1)
    np.testing.assert_allclose(soft, np.outer(line, line), atol=1e-6)
    # The box 2.9..4.9 becomes 1.9..5.9, truncated 1..5: the same pixels.
    ((y, x, moved),) = rule_crops(
        "torchvision", np.ones((1, 2, 2)), [[2.9] * 2 + [4.9] * 2], (9, 9)
    )
    assert (y, x) == (1, 1)
    np.testing.assert_array_equal(moved, soft)
    # The box 0..2 becomes -1..3; the image shows 0..3 of it.
    ((y, x, cut),) = rule_crops("torchvision", np.ones((1, 2, 2)), [[0, 0, 2, 2]], (9, 9))
    assert (y, x) == (0, 0)
    np.testing.assert_array_equal(cut, soft[1:, 1:])


def test_detectron2_reads_the_centers_of_pixels():
    # The box 1.5..4.5 has 2 mask pixels on 3 image pixels. The center c lies at
    # (c - 1.5) / 3 * 2 - 0.5: 0.5 at -1.17 (outside), 1.5 at -0.5, 2.5 at 0.17, 3.5 at 0.83,
    # 4.5 at 1.5, 5.5 at 2.17 (outside).
    (image,) = whole("detectron2", np.ones((1, 2, 2)), [[1.5, 1.5, 4.5, 4.5]], (7, 7))
    line = np.array([0, 0.5, 1, 1, 0.5, 0, 0])
    np.testing.assert_allclose(image, np.outer(line, line), atol=1e-6)
    # Whole pixels of a mask as large as its box stay what they are.
    mask = np.random.default_rng(0).random((1, 3, 4), np.float32)
    (image,) = whole("detectron2", mask, [[2, 1, 5, 5]], (7, 7))
    np.testing.assert_allclose(image[2:5, 1:5], mask[0], atol=1e-6)
    assert np.count_nonzero(image) == 12


@pytest.mark.parametrize("rule", RULES)
def test_boxes_outside_the_image_and_without_area(rule):
    boxes = [[-90, 1, -60, 5], [2, 80, 6, 120], [3, 3, 3, 3]]
    full = unmold_masks(np.ones((3, 28, 28)), boxes, (8, 8), rule=rule)
    assert not full[:, :, :2].any() and full[:, :, 2].sum() <= 1


def test_recorded_pastes_of_torchvision(shared):
    path = shared / "reference/torchvision/unit/masks_keypoints.npz"
    masks, boxes, expected = read(path, "paste_masks", "paste_boxes", "paste_100x120")
    found = whole("torchvision", masks[:, 0], boxes[:, XY], (100, 120))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # measured: 2e-6


def bits(packed):
    return np.unpackbits(packed, axis=-1).astype(bool)


@pytest.mark.parametrize("run", ["a", "b"])
def test_recorded_masks_of_torchvision(shared, run):
    path = shared / f"reference/torchvision/refs/maskrcnn_resnet50_fpn_{run}.npz"
    masks, boxes, packed = read(path, "masks_0", "final_0_boxes", "final_0_masks_bits")
    areas, soft = read(path, "final_0_mask_areas", "final_0_masks_soft")
    shape = soft.shape[1:]
    found = unmold_masks(masks, boxes[:, XY], shape, rule="torchvision")
    count = len(packed)
    expected = np.moveaxis(bits(packed)[:, :, : shape[1]], 0, -1)
    assert (found[:, :, :count] != expected).sum(axis=(0, 1)).max() <= 2  # measured: 0
    assert np.abs(found.sum(axis=(0, 1)) - areas).max() <= 2
    found_soft = whole("torchvision", masks[: len(soft)], boxes[: len(soft), XY], shape)
    assert np.abs(1000 * found_soft - soft).max() < 0.51  # recorded as whole thousandths


def test_recorded_masks_of_detectron2(shared):
    path = shared / "reference/torchvision/detectron2/mask_rcnn_R_50_FPN_3x_a.npz"
    masks, boxes, packed, areas = read(
        path, "masks", "final_boxes", "final_masks_bits", "final_mask_areas"
    )
    count = min(len(masks), len(packed))
    found = unmold_masks(masks[:count], boxes[:count, XY], (480, 640), rule="detectron2")
    expected = np.moveaxis(bits(packed)[:count, :, :640], 0, -1)
    assert (found != expected).sum(axis=(0, 1)).max() <= 2  # measured: 0
    assert np.abs(found.sum(axis=(0, 1)) - areas[:count]).max() <= 2


@pytest.mark.parametrize("rule", ["matterport", *RULES])
def test_threshold_is_inclusive_and_that_of_the_setting(rule):
    soft = np.full((1, 28, 28), 0.25, np.float32)
    boxes = np.array([[4, 4, 32, 32]])
    inner = (slice(6, 30), slice(6, 30), 0)
    assert unmold_masks(soft, boxes, (40, 40), rule=rule, threshold=0.25)[inner].all()
    assert not unmold_masks(soft, boxes, (40, 40), rule=rule, threshold=0.26).any()
    assert not unmold_masks(soft, boxes, (40, 40), rule=rule).any()


def test_matterports_rule_rounds_float_boxes():
    soft = np.ones((2, 28, 28), np.float32)
    boxes = np.float32([[2.4, 3.6, 8.6, 9.4], [5.1, 5.1, 5.3, 5.3]])  # the second: one pixel
    expected = unmold_masks(soft, np.array([[2, 4, 9, 9], [5, 5, 6, 6]]), (12, 12))
    np.testing.assert_array_equal(unmold_masks(soft, boxes, (12, 12)), expected)
    assert expected.sum(axis=(0, 1)).tolist() == [7 * 5, 1]


@pytest.mark.parametrize("rule", RULES)
@given(st.integers(0, 2**32 - 1))
def test_image_cuts_what_a_larger_image_shows(rule, seed):
    rng = np.random.default_rng(seed)
    soft = rng.random((4, 28, 28), np.float32)
    low = rng.uniform(-20, 40, (4, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 60, (4, 2))], axis=1).astype(np.float32)
    shift = np.float32(64)  # keeps the fractions of the boxes nearly as they are
    small = unmold_masks(soft, boxes, (30, 40), rule=rule)
    if rule == "detectron2":  # torchvision truncates negative sides towards zero
        large = unmold_masks(soft, boxes + shift, (200, 200), rule=rule)[64:94, 64:104]
    else:
        large = unmold_masks(soft, boxes, (200, 200), rule=rule)[:30, :40]
    assert (small != large).sum() <= 2
    for (y, x, crop), mask in zip(
        unmold_crops(soft, boxes, (30, 40), rule=rule), np.moveaxis(small, -1, 0), strict=True
    ):
        assert crop.sum() == mask.sum()
        np.testing.assert_array_equal(mask[y : y + crop.shape[0], x : x + crop.shape[1]], crop)


@pytest.mark.parametrize("rule", ["matterport", *RULES])
def test_masks_in_boxes_are_parts_of_the_whole_masks(rule):
    boxes = np.float32([[2.4, 3.6, 8.6, 19.5], [0, 0, 5, 5], [7.2, 7.2, 7.4, 7.4]])
    soft = np.random.default_rng(0).random((3, 28, 28), np.float32)
    full = unmold_masks(soft, boxes, (10, 20), rule=rule, threshold=0.4)
    parts = unmold_in_boxes(soft, boxes, (10, 20), rule=rule, threshold=0.4)
    np.testing.assert_array_equal(parts[0], full[2:9, 3:20, 0])
    np.testing.assert_array_equal(parts[1], full[:5, :5, 1])
    assert parts[2].shape == (1, 1)
    assert unmold_in_boxes(soft[:0], boxes[:0], (10, 20), rule=rule) == []
    (outside,) = unmold_in_boxes(soft[:1], np.array([[-9, 3, -2, 6]]), (10, 20), rule=rule)
    assert outside.shape == (0, 3)

"""Matching and sampling of proposals in the network, and their targets."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.nn import boxes, targets

T = 6  # RoIs that train; a third of them, two, may be positive


def settings(**changes):
    values = {
        "TRAIN_ROIS_PER_IMAGE": T,
        "ROI_POSITIVE_RATIO": 0.34,
        "ROI_POSITIVE_IOU": 0.5,
        "ROI_SAMPLING": "ratio",
        "CONTINUOUS_BOXES": True,
        "MASK_TARGETS": "crop",
        "BBOX_STD_DEV": np.array([0.1, 0.1, 0.2, 0.2]),
        "USE_MINI_MASK": False,
        "MASK_SHAPE": [4, 4],
    }
    return SimpleNamespace(**{**values, **changes})


GT = [0.0, 0.0, 0.4, 0.4]
FAR = [[0.5, 0.1 * i, 0.6, 0.1 * i + 0.1] for i in range(10)]  # ten boxes without overlap


def run(proposals, gt_ids, gt_boxes, masks=None, priorities=None, config=None):
    """Targets of one image, from lists; gt padded to three rows; priorities fall by default."""
    proposals = np.float32(proposals)
    gt_ids = np.int32(list(gt_ids) + [0] * (3 - len(gt_ids)))
    gt_boxes = np.float32(list(gt_boxes) + [[0.0] * 4] * (3 - len(gt_boxes)))
    masks = np.zeros((8, 8, 3), bool) if masks is None else masks
    if priorities is None:
        priorities = np.linspace(1, 0.1, len(proposals))
    found = targets.detection_targets(
        tf.constant(proposals[None]), gt_ids[None], tf.constant(gt_boxes[None]), masks[None],
        tf.constant(np.float32(priorities)[None]), config or settings(),
    )  # fmt: skip
    return [np.asarray(output[0]) for output in found[:4]]  # without keypoints


def test_shapes_are_fixed():
    for proposals in ([[0.0] * 4] * 3, [GT] * 20):
        rois, ids, deltas, masks = run(proposals, [1], [GT])
        assert (rois.shape, ids.shape, deltas.shape, masks.shape) == (
            (T, 4),
            (T,),
            (T, 4),
            (T, 4, 4),
        )
        assert ids.dtype == np.int32


def test_no_proposals_give_zeros():
    for output in run([[0.0] * 4] * 4, [1], [GT]):
        assert not output.any()


def test_positives_come_first_and_negatives_keep_the_ratio():
    rois, ids, _, _ = run([*FAR[:8], GT], [2], [GT])
    np.testing.assert_allclose(rois[0], GT)
    # one positive: int(1 / 0.34) = 2 RoIs together, so one negative
    np.testing.assert_array_equal(ids, [2, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rois[1], FAR[0])
    assert not rois[2:].any()


def test_at_most_the_ratio_is_positive():
    shifted = [[0.0, 0.0, 0.4, 0.4 + 0.01 * i] for i in range(4)]
    rois, ids, _, _ = run([*shifted, *FAR], [1], [GT])
    # int(6 * 0.34) = 2 positives; int(2 / 0.34) - 2 = 3 negatives; one row of padding
    np.testing.assert_array_equal(ids, [1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(rois[:2], shifted[:2])
    np.testing.assert_allclose(rois[2:5], np.float32(FAR[:3]))
    assert not rois[5].any()


def test_the_highest_priorities_are_taken():
    shifted = [[0.0, 0.0, 0.4, 0.4 + 0.01 * i] for i in range(4)]
    rois, *_ = run([*shifted, *FAR[:3]], [1], [GT], priorities=[0.1, 0.9, 0.2, 0.8, 0.3, 0.5, 0.4])
    np.testing.assert_allclose(rois[:2], np.float32([shifted[1], shifted[3]]))
    np.testing.assert_allclose(rois[2:5], np.float32([FAR[1], FAR[2], FAR[0]]))


def test_without_objects_all_rois_are_background():
    rois, ids, deltas, masks = run(FAR, [], [])
    np.testing.assert_allclose(rois, np.float32(FAR[:T]))
    assert not ids.any() and not deltas.any() and not masks.any()


def test_an_iou_of_one_half_is_positive():
    # 0.4 x 0.4 inside 0.4 x 0.8: IoU 1/2 exactly in float32; a sliver more is not
    _, ids, _, _ = run([[0.0, 0.0, 0.5, 1.0]], [1], [[0.0, 0.0, 0.5, 0.5]])
    assert ids[0] == 1
    _, ids, _, _ = run([[0.0, 0.0, 0.51, 1.0]], [1], [[0.0, 0.0, 0.5, 0.5]])
    assert ids[0] == 0


def test_of_equal_overlaps_the_first_object_counts():
    _, ids, _, _ = run([GT], [3, 1], [GT, GT])
    assert ids[0] == 3


def test_proposals_in_a_crowd_are_not_background():
    crowd = [0.5, 0.0, 0.6, 0.35]  # covers FAR[0] to half of FAR[3]
    rois, ids, _, _ = run([GT, *FAR], [1, -1], [GT, crowd], config=settings(ROI_POSITIVE_RATIO=0.2))
    assert ids[0] == 1
    # one positive: 5 - 1 = 4 negatives; the first four boxes lie in the crowd
    np.testing.assert_allclose(rois[1:5], np.float32(FAR[4:8]))


def test_crowd_gives_no_positives():
    rois, ids, _, _ = run([GT], [-1], [GT])
    assert not ids.any() and not rois.any()


def test_deltas_lead_to_the_object_in_units_of_the_deviation():
    roi, gt = [0.1, 0.1, 0.5, 0.5], [0.15, 0.1, 0.55, 0.6]
    _, ids, deltas, _ = run([roi], [1], [gt])
    assert ids[0] == 1
    # dy = 0.05 / 0.4 / 0.1 = 1.25; dx likewise; dh = 0; dw = log(0.5 / 0.4) / 0.2 = 1.1157
    np.testing.assert_allclose(deltas[0], [1.25, 1.25, 0.0, np.log(1.25) / 0.2], atol=1e-5)
    back = boxes.decode(np.float32([roi]), deltas[:1] * np.float32([0.1, 0.1, 0.2, 0.2]))
    np.testing.assert_allclose(back[0], gt, atol=1e-6)


def test_mask_target_is_the_rois_window_of_its_object():
    masks = np.zeros((9, 9, 3), bool)
    masks[:5, :, 1] = True  # the second object: the upper half
    masks[:, :, 0] = True
    objects = [[0.6, 0.6, 0.7, 0.7], [0.0, 0.0, 1.0, 1.0]]
    _, ids, _, found = run([[0.0, 0.0, 1.0, 1.0]], [1, 2], objects, masks=masks)
    assert ids[0] == 2
    # rows at 0, 8/3, 16/3, 8: the first two are inside; half is rounded away
    np.testing.assert_array_equal(found[0], [[1] * 4, [1] * 4, [0] * 4, [0] * 4])
    assert not found[1:].any()


def test_a_mini_mask_covers_its_box():
    """The window of a RoI equal to the box is the mini-mask; of its right half, the right half."""
    masks = np.zeros((4, 4, 3), bool)
    masks[:, 2:, 0] = True
    gt = [0.25, 0.25, 0.75, 0.75]
    _, _, _, found = run([gt], [1], [gt], masks=masks, config=settings(USE_MINI_MASK=True))
    np.testing.assert_array_equal(found[0], masks[:, :, 0])
    right = [0.25, 0.5, 0.75, 0.75]
    _, ids, _, found = run(
        [right], [1], [gt], masks=masks, config=settings(USE_MINI_MASK=True, ROI_POSITIVE_IOU=0.4)
    )
    assert ids[0] == 1
    # columns 1.5, 2, 2.5, 3 of the mini-mask: 0.5 is rounded away
    np.testing.assert_array_equal(found[0], [[0, 1, 1, 1]] * 4)


def test_targets_of_padding_are_finite():
    for output in run([GT, [0.2, 0.2, 0.2, 0.2], [0.0] * 4], [1, -1], [GT, [0.3, 0.3, 0.3, 0.3]]):
        assert np.isfinite(output).all()


def test_batch_equals_its_images():
    rng = np.random.default_rng(3)
    corner, size = rng.uniform(0, 0.5, (2, 12, 2)), rng.uniform(0.1, 0.5, (2, 12, 2))
    proposals = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    gt_boxes = proposals[:, :3] + np.float32(0.01)
    ids = np.int32([[1, -2, 2], [3, 0, 0]])
    masks = rng.uniform(size=(2, 8, 8, 3)) > 0.5
    priorities = rng.uniform(0.1, 1, (2, 12)).astype(np.float32)
    arguments = [proposals, ids, gt_boxes, masks, priorities]
    together = targets.detection_targets(*map(tf.constant, arguments), settings())
    for i in range(2):
        alone = targets.detection_targets(
            *(tf.constant(x[i : i + 1]) for x in arguments), settings()
        )
        for both, one in zip(together[:4], alone[:4], strict=True):
            np.testing.assert_allclose(both[i], one[0], rtol=1e-6, atol=1e-7)
    assert (np.asarray(together[1])[0] > 0).any()


@pytest.mark.parametrize("total, ratio, slots", [(200, 0.33, 66), (6, 0.34, 2), (32, 0.5, 16)])
def test_positive_slots(total, ratio, slots):
    assert (
        targets.positive_slots(
            SimpleNamespace(TRAIN_ROIS_PER_IMAGE=total, ROI_POSITIVE_RATIO=ratio)
        )
        == slots
    )


def test_targets_without_masks_are_the_same():
    priorities = tf.constant(np.linspace(1, 0.1, 11, dtype=np.float32)[None])
    proposals, ids = tf.constant(np.float32([[*FAR, GT]])), np.int32([[2]])
    boxes_ = tf.constant(np.float32([[GT]]))
    with_masks = targets.detection_targets(
        proposals, ids, boxes_, np.ones((1, 8, 8, 1), bool), priorities, settings()
    )
    *without, masks, _ = targets.detection_targets(
        proposals, ids, boxes_, None, priorities, settings()
    )
    assert masks is None
    for a, b in zip(without, with_masks[:3], strict=True):
        np.testing.assert_array_equal(a, b)


def test_matterport_function_takes_one_image():
    found = targets.detection_targets_graph(
        tf.constant(np.float32([*FAR, GT])),
        np.int32([2]),
        tf.constant(np.float32([GT])),
        np.ones((8, 8, 1), bool),
        settings(),
    )
    rois, class_ids, deltas, masks = found
    np.testing.assert_array_equal(class_ids, [2] + [0] * (len(class_ids) - 1))
    np.testing.assert_allclose(rois[0], GT)
    np.testing.assert_allclose(deltas[0], [0, 0, 0, 0], atol=1e-6)
    assert masks.shape[0] == len(class_ids)


def test_negatives_fill_the_sample():
    """One positive and five negatives; "ratio" would take one negative."""
    rois, ids, _, _ = run([*FAR[:8], GT], [2], [GT], config=settings(ROI_SAMPLING="fill"))
    np.testing.assert_array_equal(ids, [2, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rois, np.float32([GT, *FAR[:5]]))
    rois, ids, _, _ = run(FAR, [], [], config=settings(ROI_SAMPLING="fill"))
    assert rois.any(axis=1).all() and not ids.any()


# --- Mask targets by RoIAlign ---

STEPS = np.zeros((8, 8, 3), bool)
STEPS[:, 3:, 0] = True
STEPS[:2, :, 0] = True


def test_hard_mask_targets_are_means_of_whole_pixels():
    """A RoI of 8 x 8 pixels, 4 x 4 bins: each is the mean of 2 x 2 pixels, cut at 0.5."""
    _, ids, _, found = run(
        [[0.0, 0.0, 1.0, 1.0]], [1], [[0.0, 0.0, 1.0, 1.0]], STEPS,
        config=settings(MASK_TARGETS="hard"),
    )  # fmt: skip
    assert ids[0] == 1
    # columns 2 and 3: the mean 0.5 counts
    np.testing.assert_array_equal(found[0], [[1] * 4, *[[0, 1, 1, 1]] * 3])
    assert not found[1:].any()


def test_soft_mask_targets_are_half_a_pixel_off():
    """torchvision's samples lie at 0.5, 1.5, ...: between the centers of two pixels."""
    _, _, _, found = run(
        [[0.5, 0.0, 1.0, 1.0]], [1], [[0.5, 0.0, 1.0, 1.0]], STEPS,
        config=settings(MASK_TARGETS="soft"),
    )  # fmt: skip
    # columns 0 to 7 are 0 0 0 1 1 1 1 1, halfway 0 0 .5 1 1 1 1 1; a bin is the mean of two
    np.testing.assert_allclose(found[0], [[0, 0.75, 1, 1]] * 4, atol=1e-6)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_mask_targets_of_a_mini_mask_are_those_of_its_pixels(kind):
    gt = [0.25, 0.25, 0.75, 0.75]
    config = settings(MASK_TARGETS=kind, USE_MINI_MASK=True, MASK_SHAPE=[8, 8])
    _, _, _, found = run([gt], [1], [gt], STEPS, config=config)
    np.testing.assert_allclose(found[0], STEPS[:, :, 0], atol=1e-6)
    # the right half, of 8 x 4 pixels: each pixel is read twice, between its edges and its center
    right = [0.25, 0.5, 0.75, 0.75]
    config.ROI_POSITIVE_IOU, config.MASK_SHAPE = 0.4, [8, 4]
    _, ids, _, found = run([right], [1], [gt], STEPS, config=config)
    assert ids[0] == 1
    np.testing.assert_allclose(found[0], STEPS[:, 4:, 0], atol=1e-6)


def test_soft_mask_targets_are_those_of_torchvision(shared):
    unit = np.load(shared / "reference" / "torchvision" / "unit" / "masks_keypoints.npz")
    shape = tuple(unit["target_gt_shape"])
    masks = np.unpackbits(unit["target_gt"])[: np.prod(shape)].reshape(shape)
    masks = masks[unit["target_index"]].transpose(1, 2, 0).astype(bool)  # one for each box
    height, width = shape[1:]
    gt_boxes = unit["target_boxes"][:, [1, 0, 3, 2]] / np.float32([height, width, height, width])
    config = settings(
        MASK_TARGETS="soft", MASK_SHAPE=[28, 28], TRAIN_ROIS_PER_IMAGE=5, ROI_POSITIVE_RATIO=1.0
    )
    found = targets.detection_targets(
        tf.constant(gt_boxes[None]), np.ones((1, 5), np.int32), tf.constant(gt_boxes[None]),
        masks[None], tf.constant(np.linspace(1, 0.5, 5, dtype=np.float32)[None]), config,
    )  # fmt: skip
    np.testing.assert_allclose(found.masks[0], unit["target_28"], atol=1e-5)


def test_matches_of_rois_equal_torchvision(torchvision_units):
    recorded = torchvision_units("boxes")
    proposals = np.float32(recorded["match_anchors"][None, :, [1, 0, 3, 2]])
    gt_boxes = np.float32(recorded["match_gt"][None, :, [1, 0, 3, 2]])
    found = targets.match(proposals, np.int32([[1, 2, 3]]), gt_boxes, settings())
    expected = recorded["match_roi"]  # -1: background
    np.testing.assert_array_equal(found.is_positive[0], expected >= 0)
    np.testing.assert_array_equal(found.is_negative[0], expected < 0)
    best = np.asarray(found.best_gt[0])[expected >= 0]
    np.testing.assert_array_equal(best, expected[expected >= 0])

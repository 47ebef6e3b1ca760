"""Random RoIs and head targets in NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data import roi_targets


class Settings(Config):
    NUM_CLASSES = 4
    IMAGE_MIN_DIM = 128
    IMAGE_MAX_DIM = 128
    TRAIN_ROIS_PER_IMAGE = 12
    USE_MINI_MASK = False


SHAPE = (128, 128, 3)
NO_BOXES, NO_IDS = np.zeros((0, 4), np.int32), np.zeros(0, np.int32)


def config(**values):
    made = Settings()
    for name, value in values.items():
        setattr(made, name, value)
    return made


@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 40))
def test_random_rois_lie_in_the_image_and_near_the_objects(seed, objects, count):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 100, (objects, 2))
    gt_boxes = np.concatenate([corner, corner + rng.integers(1, 28, (objects, 2))], axis=1)
    rois = roi_targets.generate_random_rois(SHAPE, count, np.ones(objects, int), gt_boxes, rng)
    assert rois.shape == (count, 4) and rois.dtype == np.int32
    assert np.all(rois >= 0) and np.all(rois <= 128)
    assert np.all(rois[:, 2:] > rois[:, :2])
    each = int(0.9 * count / objects) if objects else 0
    for i, (y1, x1, y2, x2) in enumerate(gt_boxes):
        near = rois[each * i : each * (i + 1)]
        h, w = y2 - y1, x2 - x1
        assert np.all(near >= [y1 - h, x1 - w] * 2) and np.all(near <= [y2 + h, x2 + w] * 2)


def test_detection_targets_need_rois_and_objects():
    mask = np.zeros((128, 128, 0), bool)
    with pytest.raises(ValueError, match="Received: 1 RoIs, 0 objects"):
        roi_targets.build_detection_targets(
            np.array([[0, 0, 9, 9]]), NO_IDS, NO_BOXES, mask, config()
        )
    crowd = np.array([-1]), np.array([[0, 0, 9, 9]]), np.ones((128, 128, 1), bool)
    with pytest.raises(ValueError, match="0 objects"):
        roi_targets.build_detection_targets(np.array([[0, 0, 9, 9]]), *crowd, config())
    with pytest.raises(ValueError, match="Received: 0 RoIs, 1 objects"):
        roi_targets.build_detection_targets(NO_BOXES, np.array([1]), *crowd[1:], config())


def test_detection_targets_of_three_rois():
    gt_box, mask = np.array([[20, 20, 60, 60]]), np.zeros((128, 128, 1), bool)
    mask[20:60, 20:40] = True  # the left half of the box
    rois = np.array([[20, 20, 60, 60], [20, 20, 60, 100], [80, 80, 120, 120]])
    # IoU: 1; 1600 / 3200 = 0.5, which is neither above nor below 0.5; 0
    out_rois, class_ids, deltas, masks = roi_targets.build_detection_targets(
        rois, np.array([3]), gt_box, mask, config(), np.random.default_rng(0)
    )
    assert class_ids.tolist() == [3] + [0] * 11
    np.testing.assert_array_equal(out_rois, rois[[0] + [2] * 11])  # the only negative is repeated
    assert deltas.shape == (12, 4, 4) and masks.shape == (12, 28, 28, 4)
    assert not deltas.any()  # the RoI is the box
    np.testing.assert_array_equal(masks[0, 1:-1, 1:13, 3], 1)
    np.testing.assert_array_equal(masks[0, :, 15:, 3], 0)
    assert not masks[0, :, :, :3].any() and not masks[1:].any()


def test_deltas_of_detection_targets():
    # RoI 40 x 40 at 20, object 44 x 40: dy = 2 / 40, dh = log(1.1), divided by 0.1 and 0.2
    gt_box, mask = np.array([[20, 20, 64, 60]]), np.ones((128, 128, 1), bool)
    rois = np.array([[20, 20, 60, 60], [80, 80, 120, 120]])
    _, class_ids, deltas, _ = roi_targets.build_detection_targets(
        rois, np.array([2]), gt_box, mask, config(), np.random.default_rng(0)
    )
    np.testing.assert_allclose(deltas[0, 2], [0.05 / 0.1, 0, np.log(1.1) / 0.2, 0], rtol=1e-6)
    assert not deltas[0, [0, 1, 3]].any()


def test_at_most_a_third_is_positive_and_positives_repeat_without_background():
    gt_box, mask = np.array([[20, 20, 60, 60]]), np.ones((128, 128, 1), bool)
    same, other = np.tile(gt_box, (9, 1)), np.tile([[80, 80, 120, 120]], (20, 1))
    _, class_ids, *_ = roi_targets.build_detection_targets(
        np.concatenate([same, other]),
        np.array([1]),
        gt_box,
        mask,
        config(),
        np.random.default_rng(0),
    )
    assert class_ids.tolist() == [1] * 3 + [0] * 9  # int(12 * 0.33) = 3
    _, class_ids, *_ = roi_targets.build_detection_targets(
        same, np.array([1]), gt_box, mask, config(), np.random.default_rng(0)
    )
    assert class_ids.tolist() == [1] * 12

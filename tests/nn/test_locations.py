"""FCOS' targets and boxes: against numbers calculated by hand, and torchvision's."""

import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.config import Config
from mrcnn.nn import locations
from mrcnn.nn.anchors import pyramid_anchors

STEP = Path(os.environ.get("MRCNN_SHARED", ""), "reference/torchvision/train/fcos_resnet50_fpn.npz")
TO_YX = [1, 0, 3, 2]


def square(y, x, side):
    """The anchor of a location."""
    return [y - side / 2, x - side / 2, y + side / 2, x + side / 2]


def targets(anchors, class_ids, boxes):
    found = locations.location_targets(
        tf.constant([anchors], tf.float32),
        tf.constant([class_ids], tf.int32),
        tf.constant([boxes], tf.float32),
    )
    return [np.asarray(x)[0] for x in found]


LEVELS = [square(40, 40, 8), square(32, 48, 16), square(32, 32, 32)]  # a location of each level


def test_image_without_objects_is_background():
    ids, boxes = targets(LEVELS, [0, 0], np.zeros((2, 4)))
    assert ids.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(boxes, LEVELS)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        # The largest distance is 10, 1.25 units of 8: the first level has no lower limit; 18 are
        # 1.125 units of 16, less than 4.
        ([30, 30, 50, 50], [3, 0, 0]),
        # 55 px from (40, 40) are 6.9 units of 8; 63 px left of (32, 48) 3.94 units of 16.
        ([-15, -15, 95, 95], [3, 0, 0]),
        # 63 px are 7.9 units of 8, and 71 px 4.4 units of 16: two levels learn it.
        ([-23, -23, 103, 103], [3, 3, 0]),
        # 64 px are 8 units of 8, which is no longer less than 8.
        ([-24, -24, 104, 104], [0, 3, 0]),
        # The last level has no upper limit: 1000 px.
        ([-968, -968, 1032, 1032], [0, 0, 3]),
        # Center (40, 52): 12 px from (40, 40) are 1.5 units of 8, no longer near.
        ([20, 32, 60, 72], [0, 0, 0]),
        # Center (40, 51.5): 11.5 px are less than 1.5 units.
        ([20, 31.5, 60, 71.5], [3, 0, 0]),
        # (40, 40) lies on the left side, not inside.
        ([30, 40, 50, 60], [0, 0, 0]),
    ],
)
def test_level_of_an_object_and_center_sampling(box, expected):
    ids, boxes = targets(LEVELS, [3], [box])
    assert ids.tolist() == expected
    for i, class_id in enumerate(ids):
        np.testing.assert_allclose(boxes[i], box if class_id else LEVELS[i])


def test_smallest_object_wins_and_padding_is_none():
    nested = [[20, 20, 60, 60], [30, 30, 50, 50], [0, 0, 0, 0]]
    ids, boxes = targets(LEVELS[:1] + LEVELS[2:], [1, 2, 0], nested)
    assert ids.tolist() == [2, 0]
    np.testing.assert_allclose(boxes[0], nested[1])


def test_background_in_a_crowd_does_not_count():
    # The first location learns the object in the crowd; the second lies only in the crowd.
    anchors = [square(40, 40, 8), square(80, 80, 8), square(200, 200, 8), square(0, 0, 64)]
    ids, _ = targets(anchors, [2, -1], [[30, 30, 50, 50], [20, 20, 100, 100]])
    assert ids.tolist() == [2, -1, 0, 0]


def test_encode_and_decode_by_hand():
    anchor, box = square(40, 40, 8), [36.0, 20.0, 56.0, 60.0]
    # up 4, left 20, down 16, right 20, in units of 8
    sides = locations.encode_sides(tf.constant([anchor]), tf.constant([box]))
    np.testing.assert_allclose(sides, [[0.5, 2.5, 2.0, 2.5]])
    np.testing.assert_allclose(locations.decode_sides(tf.constant([anchor]), sides), [box])


def test_centerness_by_hand():
    anchors = tf.constant([square(40, 40, 8)] * 3)
    boxes = tf.constant([[30.0, 30, 50, 50], [36, 20, 56, 60], [40, 20, 60, 60]])
    # in the center 1; sqrt(4 / 16 * 20 / 20) = 0.5; on a side 0
    np.testing.assert_allclose(locations.centerness(anchors, boxes), [1, 0.5, 0], atol=1e-7)


def test_encode_and_decode_are_those_of_torchvision(torchvision_units):
    recorded = torchvision_units("boxes")
    if "fcos_encode" not in recorded:
        pytest.skip("needs the shared reference data")
    anchors, gt = (tf.constant(recorded[name][:, TO_YX]) for name in ("boxes", "gt"))
    encoded = np.asarray(locations.encode_sides(anchors, gt))[:, TO_YX]
    np.testing.assert_allclose(encoded, recorded["fcos_encode"], rtol=1e-5, atol=1e-5)
    sides = tf.constant(np.abs(recorded["deltas"][:, :4])[:, TO_YX])
    decoded = np.asarray(locations.decode_sides(anchors, sides))[:, TO_YX]
    np.testing.assert_allclose(decoded, recorded["fcos_decode"], rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(not STEP.is_file(), reason="needs the shared reference data")
def test_matches_are_those_of_torchvision():
    config = Config()
    config.ROUND_ANCHORS = True
    config.RPN_ANCHOR_SCALES, config.RPN_ANCHOR_RATIOS = (8, 16, 32, 64, 128), [1]
    config.BACKBONE_STRIDES = [8, 16, 32, 64, 128]
    anchors = pyramid_anchors(config, (320, 448))
    with np.load(STEP) as file:
        step = dict(file)
    boxes = step["boxes"][:, TO_YX] * np.float32([320 / 480, 426 / 640] * 2)
    ids, _ = targets(anchors, step["labels"], boxes)
    index = np.flatnonzero(ids)
    np.testing.assert_array_equal(index, step["anchor_matched_index"])
    np.testing.assert_array_equal(ids[index], step["labels"][step["anchor_matched_gt"]])

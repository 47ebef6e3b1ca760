"""Box arithmetic: numbers by hand, properties, and NumPy against tensors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from mrcnn.nn import boxes

NONE = np.zeros((0, 4), np.float32)


def random_boxes(count, seed, side=100.0):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, side, (count, 2)), rng.uniform(1, side, (count, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


BOXES = hnp.arrays(
    np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(0, 100, width=32)
).map(lambda a: np.concatenate([a[:, :2], a[:, :2] + 1 + a[:, 2:]], axis=1))


# --- Empty ---


def test_empty_input_gives_empty_output():
    some = random_boxes(3, 0)
    assert boxes.area(NONE).shape == (0,)
    assert boxes.iou(NONE, some).shape == (0, 3)
    assert boxes.iou(some, NONE).shape == (3, 0)
    assert boxes.encode(NONE, NONE).shape == boxes.decode(NONE, NONE).shape == (0, 4)
    assert boxes.clip(NONE, np.array([0, 0, 1, 1])).shape == (0, 4)
    assert boxes.normalize(NONE, (9, 9)).shape == boxes.denormalize(NONE, (9, 9)).shape == (0, 4)
    kept = boxes.non_max_suppression(NONE, np.zeros(0), 0.5)
    assert kept.shape == (0,) and kept.dtype == np.int32


# --- By hand ---


def test_iou_by_hand():
    one = np.array([[0, 0, 10, 10]])
    others = np.array(
        [
            [0, 0, 10, 10],  # itself: 1
            [0, 5, 10, 15],  # 50 shared of 100 + 100 - 50: 1/3
            [5, 5, 15, 15],  # 25 of 175: 1/7
            [2, 2, 4, 4],  # inside: 4 of 100
            [0, 10, 10, 20],  # touches: 0
            [50, 50, 60, 60],
            [3, 3, 3, 9],  # no area: 0
        ]
    )
    np.testing.assert_allclose(
        boxes.iou(one, others)[0], [1, 1 / 3, 1 / 7, 0.04, 0, 0, 0], rtol=1e-12
    )
    empty = np.array([[3, 3, 3, 3]])
    assert boxes.iou(empty, empty) == 0  # an empty union


def test_encode_and_decode_by_hand():
    box = np.array([[10.0, 20.0, 30.0, 60.0]])  # 20 x 40 around (20, 40)
    gt = np.array([[20.0, 20.0, 30.0, 140.0]])  # 10 x 120 around (25, 80)
    # dy = (25 - 20) / 20, dx = (80 - 40) / 40, log(10 / 20), log(120 / 40)
    deltas = np.array([[0.25, 1.0, np.log(0.5), np.log(3)]])
    np.testing.assert_allclose(boxes.encode(box, gt), deltas, rtol=1e-12)
    np.testing.assert_allclose(boxes.decode(box, deltas), gt, rtol=1e-12)
    np.testing.assert_array_equal(boxes.decode(box, np.zeros((1, 4))), box)


def test_clip_by_hand():
    box = np.array([[-5, 2, 50, 200], [20, 120, 30, 130]])
    clipped = boxes.clip(box, np.array([0, 0, 40, 100]))
    np.testing.assert_array_equal(clipped, [[0, 2, 40, 100], [20, 100, 30, 100]])


def test_normalize_by_hand():
    # height 11, width 21: divided by 10 and 20; y2 and x2 lie one past the box.
    pixels = np.array([[0, 0, 11, 21], [5, 10, 6, 11]])
    normalized = np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]], np.float32)
    np.testing.assert_array_equal(boxes.normalize(pixels, (11, 21)), normalized)
    np.testing.assert_array_equal(boxes.denormalize(normalized, (11, 21)), pixels)
    assert boxes.normalize(pixels, (11, 21)).dtype == np.float32
    assert boxes.denormalize(normalized, (11, 21)).dtype == np.int32


def test_denormalize_rounds_half_to_even():
    # side 11: 0.05 * 10 = 0.5 -> 0, 0.15 * 10 = 1.5 -> 2
    half = np.array([[0.05, 0.15, 0.25, 0.35]])
    np.testing.assert_array_equal(
        boxes.denormalize(half, (11, 11)), [[0, 2, 4, 4]]
    )  # 2.5 + 1 = 3.5, 3.5 + 1 = 4.5


def test_non_max_suppression_by_hand():
    candidates = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 10, 5], [20, 20, 30, 30]])
    scores = np.array([0.8, 0.9, 0.7, 0.1])
    # Box 1 wins; box 0 overlaps it by 100 / 110 = 0.91, box 2 by 50 / 110 = 0.45.
    assert boxes.non_max_suppression(candidates, scores, 0.5).tolist() == [1, 2, 3]
    assert boxes.non_max_suppression(candidates, scores, 0.3).tolist() == [1, 3]
    assert boxes.non_max_suppression(candidates, scores, 0.95).tolist() == [1, 0, 2, 3]
    # An overlap of exactly the threshold stays: 50 / 100.
    assert boxes.non_max_suppression(candidates[[0, 2]], scores[[0, 2]], 0.5).tolist() == [0, 1]


# --- Properties ---


@given(BOXES, BOXES)
def test_iou_is_symmetric_and_a_share(first, second):
    overlaps = boxes.iou(first, second)
    np.testing.assert_array_equal(overlaps, boxes.iou(second, first).T)
    assert np.all((overlaps >= 0) & (overlaps <= 1 + 1e-12))
    np.testing.assert_allclose(np.diag(boxes.iou(first, first)), 1, rtol=1e-9)


@given(BOXES, st.integers(0, 2**32 - 1))
def test_decode_undoes_encode(found, seed):
    gt = random_boxes(len(found), seed).astype(np.float64)
    np.testing.assert_allclose(
        boxes.decode(found, boxes.encode(found, gt)), gt, rtol=1e-9, atol=1e-9
    )


@given(BOXES)
def test_clip_keeps_what_is_inside_and_is_idempotent(found):
    window = np.array([10.0, 20.0, 60.0, 70.0])
    once = boxes.clip(found, window)
    np.testing.assert_array_equal(boxes.clip(once, window), once)
    assert np.all(once[:, :2] >= window[:2]) and np.all(once[:, 2:] <= window[2:])
    np.testing.assert_array_equal(boxes.clip(found, np.array([0.0, 0.0, 1e3, 1e3])), found)


@given(BOXES, st.integers(2, 2000), st.integers(2, 2000))
def test_denormalize_undoes_normalize(found, height, width):
    pixels = found.astype(np.int32)
    np.testing.assert_array_equal(
        boxes.denormalize(boxes.normalize(pixels, (height, width)), (height, width)), pixels
    )


@given(BOXES, st.integers(0, 99), st.sampled_from([0.0, 0.3, 0.7]))
def test_non_max_suppression_leaves_no_overlap_and_covers_all(found, seed, threshold):
    scores = np.random.default_rng(seed).integers(0, 4, len(found)) / 4  # with ties
    kept = boxes.non_max_suppression(found, scores, threshold)
    assert np.all(np.diff(scores[kept]) <= 0)
    among = boxes.iou(found[kept], found[kept])
    assert np.all(among[~np.eye(len(kept), dtype=bool)] <= threshold)
    for lost in set(range(len(found))) - set(kept.tolist()):
        stronger = kept[scores[kept] >= scores[lost]]
        assert boxes.iou(found[[lost]], found[stronger]).max() > threshold


# --- NumPy against tensors ---


def to_numpy(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_numpy_and_tensors_agree(count):
    first, second = random_boxes(count, 1), random_boxes(count, 2)
    deltas = boxes.encode(first, second)
    window = np.array([10, 20, 80, 90], np.float32)
    tensor = [ops.convert_to_tensor(array) for array in (first, second, deltas, window)]
    pairs = [
        (boxes.area(first), boxes.area(tensor[0])),
        (boxes.iou(first, second), boxes.iou(tensor[0], tensor[1])),
        (deltas, boxes.encode(tensor[0], tensor[1])),
        (boxes.decode(first, deltas), boxes.decode(tensor[0], tensor[2])),
        (boxes.clip(first, window), boxes.clip(tensor[0], tensor[3])),
        (boxes.normalize(first, (480, 640)), boxes.normalize(tensor[0], (480, 640))),
        (
            boxes.denormalize(first / 640, (480, 640)),
            boxes.denormalize(ops.convert_to_tensor(first / 640), (480, 640)),
        ),
    ]
    for of_numpy, of_tensor in pairs:
        of_tensor = to_numpy(of_tensor)
        assert of_numpy.shape == of_tensor.shape
        assert of_numpy.dtype == of_tensor.dtype
        scale = np.abs(of_numpy).max() if of_numpy.size else 1
        np.testing.assert_allclose(of_numpy / scale, of_tensor / scale, rtol=1e-6, atol=1e-6)


@settings(max_examples=20)
@given(BOXES, BOXES)
def test_iou_of_tensors(first, second):
    first, second = first.astype(np.float32), second.astype(np.float32)
    tensor = boxes.iou(ops.convert_to_tensor(first), ops.convert_to_tensor(second))
    np.testing.assert_allclose(boxes.iou(first, second), to_numpy(tensor), rtol=1e-6, atol=1e-6)


def test_outward_boxes_hold_every_pixel_that_a_box_touches():
    assert boxes.outward(np.zeros((0, 4))).shape == (0, 4)
    found = boxes.outward(np.float32([[1.2, 2.0, 3.0, 4.1], [-0.5, 0, 0, 7.999]]))
    assert found.tolist() == [[1, 2, 3, 5], [-1, 0, 0, 8]] and found.dtype == np.int64
    assert boxes.outward(np.int32([[1, 2, 3, 4]])).tolist() == [[1, 2, 3, 4]]


# --- Against torchvision ---


def swapped(rows):
    """`[..., 4]` boxes or deltas of torchvision, (x, y) first, as ours, (y, x) first."""
    return rows[..., [1, 0, 3, 2]]


@pytest.mark.parametrize("weights, name", [((1, 1, 1, 1), "1"), ((10, 10, 5, 5), "10_5")])
@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor])
def test_encode_and_decode_equal_torchvision(torchvision_units, weights, name, convert):
    recorded = torchvision_units("boxes")
    some, gt = convert(swapped(recorded["boxes"])), convert(swapped(recorded["gt"]))
    std_dev = np.float32(1 / np.array(weights))
    np.testing.assert_allclose(
        boxes.encode(some, gt) / std_dev, swapped(recorded[f"encode_{name}"]), rtol=1e-5, atol=1e-5
    )
    deltas = swapped(recorded["deltas"].reshape(25, 3, 4)) * std_dev
    limit = float(np.log(1000 / 16))  # two deltas are above it
    found = boxes.decode(some[:, None], convert(deltas), limit)
    expected = swapped(recorded[f"decode_{name}"].reshape(25, 3, 4))
    # 1e-5 of the sides, which the exponential of a delta of 40 enlarges by 62.5
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-2)


def test_clip_equals_torchvision(torchvision_units):
    recorded = torchvision_units("boxes")
    found = boxes.clip(swapped(recorded["boxes"]), np.float32([0, 0, 200, 250]))
    np.testing.assert_array_equal(found, swapped(recorded["clip_200_250"]))


@pytest.mark.parametrize("continuous", [False, True])
def test_to_pixels_is_the_inverse_of_normalize(continuous):
    some = random_boxes(20, 3)
    found = boxes.to_pixels(boxes.normalize(some, (97, 203), continuous), (97, 203), continuous)
    np.testing.assert_allclose(found, some, rtol=0, atol=1e-4)
    # The whole image: its edges are 0 and 1 if continuous, else its first and last pixel are.
    whole = boxes.normalize(np.array([0, 0, 97, 203]), (97, 203), continuous)
    np.testing.assert_allclose(whole, [0, 0, 1, 1])

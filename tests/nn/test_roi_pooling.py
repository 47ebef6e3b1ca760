"""RoIAlign, precise RoI pooling and RoI pooling, against torchvision's and numbers by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.nn.roi_pooling import POOLINGS

METHODS = [("aligned", 2), ("aligned", 0), ("unaligned", 2), ("unaligned", 0)]
METHODS += [("precise", 0), ("max", 0)]


def channels_last(maps):
    return tf.constant(maps.transpose(0, 2, 3, 1))


def pool_recorded(recorded, method, samples, side, maps=None):
    """`[N, side, side, C]` the recorded RoIs of the recorded maps."""
    rois = recorded["rois_in_map_pixels"]
    boxes = tf.constant(rois[:, [2, 1, 4, 3]])
    maps = channels_last(recorded["maps"]) if maps is None else maps
    return POOLINGS[method](maps, boxes, np.int32(rois[:, 0]), (side, side), samples)


@pytest.mark.parametrize("method, samples", METHODS)
def test_no_rois(method, samples):
    maps = tf.ones([2, 4, 5, 3])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        pooled = POOLINGS[method](maps, tf.zeros([0, 4]), tf.zeros([0], tf.int32), (2, 3), samples)
    assert pooled.shape == (0, 2, 3, 3)
    assert not np.any(tf.convert_to_tensor(tape.gradient(pooled, maps)))


@pytest.mark.parametrize("case", range(28))
def test_roi_align_equals_torchvision(torchvision_units, case):
    recorded = torchvision_units("roi_align")
    if f"out_{case}" not in recorded:
        pytest.skip("needs the shared reference data")
    # The boxes were recorded in cells: the scale of the case has no effect.
    aligned, samples, side, _ = recorded["cases_aligned_sampling_size_scale"][case]
    method = "aligned" if aligned else "unaligned"
    pooled = pool_recorded(recorded, method, int(samples), int(side))
    expected = recorded[f"out_{case}"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrap", [tf.function, lambda function: function])
@pytest.mark.parametrize("aligned, samples", [(0, 2), (1, 0)])
def test_gradient_of_roi_align_equals_torchvision(torchvision_units, aligned, samples, wrap):
    recorded = torchvision_units("roi_align")
    name = f"grad_aligned{aligned}_sampling{samples}"
    if name not in recorded:
        pytest.skip("needs the shared reference data")
    weights = channels_last(recorded["grad_weights"])

    @wrap
    def gradient(maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            method = "aligned" if aligned else "unaligned"
            total = tf.reduce_sum(pool_recorded(recorded, method, samples, 7, maps) * weights)
        return tape.gradient(total, maps)

    found = gradient(channels_last(recorded["maps"]))
    np.testing.assert_allclose(found, channels_last(recorded[name]), rtol=0, atol=1e-5)


def test_adaptive_roi_align_by_hand():
    """A RoI of 4 x 1 cells in one bin: four samples in y, one in x, each in a cell's center."""
    maps = tf.reshape(tf.range(12.0), [1, 4, 3, 1])
    pooled = POOLINGS["aligned"](maps, tf.constant([[0.0, 1.0, 4.0, 2.0]]), [0], (1, 1), 0)
    np.testing.assert_allclose(pooled[0, 0, 0], [(1 + 4 + 7 + 10) / 4])


def test_precise_pooling_by_hand():
    """Cells 1, 3, 7 at 0, 1, 2: the mean between 0 and 1 is 2, of 0.5 to 1.5 (2, 3, 5) 3.25."""
    maps = tf.reshape(tf.constant([1.0, 3.0, 7.0]), [1, 1, 3, 1])
    rois = tf.constant([[-1.0, 0.0, 1.0, 1.0], [-1.0, 0.5, 1.0, 1.5], [-1.0, 2.0, 1.0, 3.0]])
    pooled = POOLINGS["precise"](maps, rois, [0, 0, 0], (1, 1))
    # In y from 0 to 1 and back, mean 1/2. 0.5 to 1: mean 2.5; 1 to 1.5: mean 4. Beyond 2: 7 to 0.
    np.testing.assert_allclose(pooled[:, 0, 0, 0], [1, 3.25 / 2, 3.5 / 2], rtol=1e-6)


def interpolated_mean(feature_map, roi, size):
    """Means of the interpolation with zeros around; of two-sided cells, where it is linear."""
    padded = np.pad(feature_map, [(30, 30), (30, 30), (0, 0)]).astype(np.float64)
    means = np.zeros((*size, feature_map.shape[2]))
    edges = [np.linspace(roi[i], roi[i + 2], size[i] + 1) for i in (0, 1)]
    for row in range(size[0]):
        for column in range(size[1]):
            y, y_weights = linear_pieces(*edges[0][row : row + 2])
            x, x_weights = linear_pieces(*edges[1][column : column + 2])
            values = bilinear(padded, y + 30, x + 30)
            means[row, column] = np.einsum("yxc,y,x->c", values, y_weights, x_weights)
    return means


def linear_pieces(low, high):
    """Middles and shares of the pieces of low..high between integers: midpoints are exact there."""
    inner = np.arange(np.floor(low) + 1, np.ceil(high))
    ends = np.concatenate([[low], inner, [high]])
    return (ends[1:] + ends[:-1]) / 2, np.diff(ends) / (high - low)


def bilinear(image, y, x):
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[:, None, None], (x - left)[None, :, None]
    rows = image[top] * (1 - down) + image[top + 1] * down
    return rows[:, left] * (1 - right) + rows[:, left + 1] * right


def test_precise_pooling_equals_the_integral(torchvision_units):
    recorded = torchvision_units("roi_align")
    rois, maps = recorded["rois_in_map_pixels"], channels_last(recorded["maps"]).numpy()
    pooled = pool_recorded(recorded, "precise", 0, 7)
    for roi, found in zip(rois, pooled, strict=True):
        box = roi[[2, 1, 4, 3]].astype(np.float64)
        if np.all(box[2:] > box[:2]):
            expected = interpolated_mean(maps[int(roi[0])], box, (7, 7))
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        else:
            assert not np.any(found)


# torchvision 0.29.1: roi_pool(maps, rois, (2, 3)), and the gradient of sum(output * (1, 2, ...)).
MAX_MAP = [
    [7, 3, 0, -4, -4, -9],
    [-8, -9, -6, 6, 3, 8],
    [0, 2, 9, 4, 3, 1],
    [1, 8, -4, 6, 3, -9],
    [-2, 7, 1, -9, 5, 4],
]
MAX_ROIS = [  # (y1, x1, y2, x2)
    [0, 0, 4, 5],
    [0.5, 1.5, 2.5, 3.4],
    [-3, -4, 1, 1],
    [2, 2, 2, 2],
    [3.5, 4.5, 9, 9],
    [7, 7, 9, 9],
    [3, 3, 1, 1],
]
MAX_POOLED = [
    [[7, 9, 8], [8, 9, 5]],
    [[9, 9, 6], [9, 9, 6]],
    [[0, 0, 0], [0, 0, 7]],
    [[9, 9, 9], [9, 9, 9]],
    [[4, 0, 0], [0, 0, 0]],
    [[0, 0, 0], [0, 0, 0]],
    [[6, 6, 6], [6, 6, 6]],
]
MAX_GRADIENT = [
    [19, 0, 0, 0, 0, 0],
    [0, 0, 0, 9, 0, 3],
    [0, 0, 172, 0, 0, 0],
    [0, 4, 0, 249, 0, 0],
    [0, 0, 0, 0, 6, 25],
]


@pytest.mark.parametrize("wrap", [tf.function, lambda function: function])
def test_max_pooling_and_its_gradient_equal_torchvision(wrap):
    weights = tf.reshape(tf.range(1.0, 43.0), [7, 2, 3, 1])

    @wrap
    def pool(maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            pooled = POOLINGS["max"](maps, tf.constant(MAX_ROIS, tf.float32), [0] * 7, (2, 3))
            total = tf.reduce_sum(pooled * weights)
        return pooled, tf.convert_to_tensor(tape.gradient(total, maps))

    pooled, gradient = pool(tf.constant(MAX_MAP, tf.float32)[None, :, :, None])
    np.testing.assert_array_equal(pooled[..., 0], MAX_POOLED)
    np.testing.assert_array_equal(gradient[0, :, :, 0], MAX_GRADIENT)


@pytest.mark.parametrize("method, samples", METHODS)
def test_rois_without_a_finite_box_have_finite_features(method, samples):
    rois = [[np.nan] * 4, [0, 0, np.inf, 1], [-1e30, -1e30, 1e30, 1e30], [np.inf] * 4]
    rois = tf.constant([*rois, [3, 3, 1, 1], [1, 1, 1, 1]], tf.float32)
    pooled = POOLINGS[method](tf.ones([1, 4, 5, 2]), rois, [0] * 6, (3, 3), samples)
    assert pooled.shape == (6, 3, 3, 2) and np.all(np.isfinite(pooled))


@pytest.mark.parametrize("method, samples", METHODS)
def test_bfloat16_maps_are_read_as_float32(torchvision_units, method, samples):
    recorded = torchvision_units("roi_align")
    maps = tf.cast(channels_last(recorded["maps"]), tf.bfloat16)
    pooled = pool_recorded(recorded, method, samples, 7, maps)
    expected = pool_recorded(recorded, method, samples, 7, tf.cast(maps, tf.float32))
    assert pooled.dtype == tf.float32
    np.testing.assert_array_equal(pooled, expected)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(METHODS))
def test_rois_do_not_depend_on_each_other(seed, how):
    rng = np.random.default_rng(seed)
    maps = tf.constant(rng.normal(size=(2, 9, 7, 2)), tf.float32)
    start = rng.uniform(-3, 9, (5, 2))
    rois = tf.constant(np.concatenate([start, start + rng.uniform(0, 12, (5, 2))], 1), tf.float32)
    images = tf.constant(rng.integers(0, 2, 5), tf.int32)
    pooled = POOLINGS[how[0]](maps, rois, images, (3, 2), how[1])
    for i in range(5):
        # The same RoI of an image in a batch of one.
        one = POOLINGS[how[0]](
            maps[images[i] : images[i] + 1], rois[i : i + 1], [0], (3, 2), how[1]
        )
        np.testing.assert_allclose(one[0], pooled[i], rtol=0, atol=1e-6)

"""The image ops that need TensorFlow, against crops and suppressions worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import operation_types

from mrcnn.nn import roi_align


def test_crop_and_resize_samples_bilinearly():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    # The corners of 0..1 are the centres of the corner pixels; half way between lies the mean of 1 and 2.
    whole = roi_align.crop_and_resize(image, np.array([[0.0, 0.0, 1.0, 1.0]]), [0], (2, 2))
    np.testing.assert_allclose(whole[0, :, :, 0], [[0, 3], [12, 15]])
    row = roi_align.crop_and_resize(image, np.array([[0.0, 0.0, 0.0, 1.0]]), [0], (1, 3))
    np.testing.assert_allclose(row[0, :, :, 0], [[0, 1.5, 3]])


def test_crop_and_resize_takes_integers_and_bfloat16():
    image = np.arange(16).reshape(1, 4, 4, 1)
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    for dtype in (tf.uint8, tf.bfloat16):
        crop = roi_align.crop_and_resize(tf.cast(image, dtype), box, [0], (2, 2))
        assert crop.dtype == tf.float32
        np.testing.assert_allclose(crop[0, :, :, 0], [[0, 3], [12, 15]])


def test_crop_and_resize_of_no_boxes():
    assert roi_align.crop_and_resize(
        np.zeros((1, 4, 4, 3), np.float32), np.zeros((0, 4)), [], (2, 5)
    ).shape == (0, 2, 5, 3)


def crop_gradient(images, boxes, box_indices, size, weights):
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(roi_align.crop_and_resize(images, boxes, box_indices, size) * weights)
    return tape.gradient(total, images)


def test_functions_that_run_eagerly_take_the_same_gradient():
    boxes, weights = tf.constant([[-0.2, 0.1, 0.7, 1.1]] * 2), tf.ones((2, 3, 3, 1))
    images = tf.ones((1, 4, 4, 1))
    expected = crop_gradient(images, boxes, [0, 0], (3, 3), weights)
    tf.config.run_functions_eagerly(True)
    try:
        with tf.GradientTape() as tape:
            tape.watch(boxes)
            crops = roi_align.crop_and_resize(images, boxes, [0, 0], (3, 3))
        assert tape.gradient(crops, boxes) is None  # as TensorFlow's own gradient would not
        np.testing.assert_array_equal(
            crop_gradient(images, boxes, [0, 0], (3, 3), weights), expected
        )
    finally:
        tf.config.run_functions_eagerly(False)


def test_gradient_of_crop_and_resize():
    # One sample in the middle of 4 x 4: rows 1 and 2 and columns 1 and 2 each have a half, so a quarter of 8 each.
    images = tf.zeros((1, 4, 4, 1))
    found = crop_gradient(images, tf.constant([[0.0, 0.0, 1.0, 1.0]]), [0], (1, 1), 8.0)
    np.testing.assert_allclose(
        found[0, :, :, 0], [[0, 0, 0, 0], [0, 2, 2, 0], [0, 2, 2, 0], [0, 0, 0, 0]]
    )
    # Corners of a box that reaches outside: only the one inside, the first pixel, gets its gradient back.
    found = crop_gradient(images, tf.constant([[-1.0, -1.0, 0.0, 0.0]]), [0], (2, 2), 8.0)
    np.testing.assert_allclose(found[0, :, :, 0], [[8, 0, 0, 0]] + [[0] * 4] * 3)
    assert not np.any(crop_gradient(images, tf.zeros((0, 4)), [], (2, 2), 8.0))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3), st.integers(1, 5))
def test_gradient_of_crop_and_resize_equals_tensorflows(seed, count, height, width):
    """One box an image: no two threads of TensorFlow's kernel meet."""
    rng = np.random.default_rng(seed)
    images = tf.zeros((count, 5, 7, 2))
    boxes, indices = tf.constant(rng.uniform(-0.3, 1.3, (count, 4)), tf.float32), tf.range(count)
    weights = tf.constant(rng.normal(size=(count, height, width, 2)), tf.float32)
    theirs = tf.raw_ops.CropAndResizeGradImage(
        grads=weights, boxes=boxes, box_ind=indices, image_size=tf.shape(images), T=tf.float32
    )
    found = crop_gradient(images, boxes, indices, (height, width), weights)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


def test_gradient_of_crop_and_resize_loses_nothing():
    """TensorFlow's own kernel on CPUs loses additions: seldom, and so its name is looked for, not its effect."""
    boxes = tf.constant(
        np.random.default_rng(0).normal([0.2, 0.2, 0.8, 0.8], 0.05, (100, 4)), tf.float32
    )
    indices, weights = tf.zeros(100, tf.int32), tf.ones((100, 7, 7, 8))
    gradient = tf.function(lambda images: crop_gradient(images, boxes, indices, (7, 7), weights))
    found = gradient(tf.zeros((1, 32, 32, 8)))
    # Every sample lies inside, and its four shares add up to 1: 100 boxes of 49 samples.
    np.testing.assert_allclose(tf.reduce_sum(found, axis=(0, 1, 2)), 100 * 49, rtol=1e-5)
    types = operation_types(gradient.get_concrete_function(tf.zeros((1, 32, 32, 8))))
    assert "CropAndResize" in types and not types & {
        "CropAndResizeGradImage",
        "CropAndResizeGradBoxes",
    }


@pytest.mark.parametrize("shape", [[3, 2, 4], [None, None, 4]])
def test_image_of_rois(shape):
    find = tf.function(roi_align.image_of_rois, [tf.TensorSpec(shape)])
    assert find(tf.zeros([3, 2, 4])).numpy().tolist() == [0, 0, 1, 1, 2, 2]
    if shape[0] is None:
        assert find(tf.zeros([3, 0, 4])).shape == find(tf.zeros([0, 2, 4])).shape == (0,)


@pytest.mark.parametrize("levels", [[2, 0, 1, 0], [0, 0, 0, 0], []])
def test_gather_rois_by_level_keeps_the_order(levels):
    found = roi_align.gather_rois_by_level(
        tf.constant(levels, tf.int32),
        3,
        lambda level, index: 10.0 * level + tf.cast(index[:, None], tf.float32),
    )
    np.testing.assert_array_equal(found[:, 0], [10.0 * level + i for i, level in enumerate(levels)])

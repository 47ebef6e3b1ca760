"""The image ops that need TensorFlow, against crops and suppressions worked out by hand."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import empty_batch_is_wrong, passes_without_onednn

from mrcnn.nn import boxes, ops


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(1, 1), (3, 3), (1, 3), (5, 3)]),
    st.integers(0, 3),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_convolution_and_its_gradients_are_tensorflows(seed, sides, count, height, width):
    if count == 0 and empty_batch_is_wrong():
        assert passes_without_onednn(
            f"{__file__}::test_convolution_and_its_gradients_are_tensorflows"
        )
        return
    rng = np.random.default_rng(seed)
    images = tf.constant(rng.normal(size=(count, height, width, 2)), tf.float32)
    kernel = tf.constant(rng.normal(size=(*sides, 2, 4)), tf.float32)
    weights = tf.constant(rng.normal(size=(count, height, width, 4)), tf.float32)
    found = []
    for convolve in (
        ops.convolution,
        lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"),
    ):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            convolved = convolve(images, kernel)
            total = tf.reduce_sum(convolved * weights)
        found.append((convolved, *tape.gradient(total, [images, kernel])))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def operation_types(function):
    """The types of the operations of a function and of all functions it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for called in graph.library.function for node in called.node_def)]
    return {node.op for node in nodes}


def test_what_flows_back_through_a_convolution_is_one():
    """By hand: three pixels in a row, a kernel of 1, 2, 3, and what it gives counts 1, 10 and 100."""
    images, kernel = tf.zeros((1, 1, 3, 1)), tf.reshape(tf.constant([1.0, 2.0, 3.0]), (1, 3, 1, 1))

    @tf.function
    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(ops.convolution(images, kernel)[0, 0, :, 0] * [1.0, 10.0, 100.0])
        return tape.gradient(total, images)

    # out[i] = 1 in[i - 1] + 2 in[i] + 3 in[i + 1]; so in[0] gets 2 * 1 + 1 * 10, in[1] 3 * 1 + 2 * 10 + 1 * 100
    np.testing.assert_allclose(gradient(images)[0, 0, :, 0], [12, 123, 230])
    types = operation_types(gradient.get_concrete_function(images))
    assert "Conv2D" in types and "Conv2DBackpropInput" not in types


def test_a_graph_that_takes_gradients_can_be_freed():
    @tf.function
    def step(images, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            x = ops.convolution(images, kernel)
            x = ops.crop_and_resize(x, tf.constant([[0.0, 0.0, 1.0, 1.0]]), [0], (2, 2))
        return tape.gradient(x, kernel)

    graph = weakref.ref(
        step.get_concrete_function(tf.ones((1, 4, 4, 2)), tf.ones((3, 3, 2, 2))).graph
    )
    del step
    gc.collect()
    assert graph() is None


def test_functions_that_run_eagerly_take_the_same_gradient():
    boxes, weights = tf.constant([[-0.2, 0.1, 0.7, 1.1]] * 2), tf.ones((2, 3, 3, 1))
    images = tf.ones((1, 4, 4, 1))
    expected = crop_gradient(images, boxes, [0, 0], (3, 3), weights)
    tf.config.run_functions_eagerly(True)
    try:
        with tf.GradientTape() as tape:
            tape.watch(boxes)
            crops = ops.crop_and_resize(images, boxes, [0, 0], (3, 3))
        assert tape.gradient(crops, boxes) is None  # as TensorFlow's own gradient would not
        np.testing.assert_array_equal(
            crop_gradient(images, boxes, [0, 0], (3, 3), weights), expected
        )
    finally:
        tf.config.run_functions_eagerly(False)


def test_crop_and_resize_samples_bilinearly():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    # The corners of 0..1 are the centres of the corner pixels; half way between lies the mean of 1 and 2.
    whole = ops.crop_and_resize(image, np.array([[0.0, 0.0, 1.0, 1.0]]), [0], (2, 2))
    np.testing.assert_allclose(whole[0, :, :, 0], [[0, 3], [12, 15]])
    row = ops.crop_and_resize(image, np.array([[0.0, 0.0, 0.0, 1.0]]), [0], (1, 3))
    np.testing.assert_allclose(row[0, :, :, 0], [[0, 1.5, 3]])


def test_crop_and_resize_takes_integers_and_bfloat16():
    image = np.arange(16).reshape(1, 4, 4, 1)
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    for dtype in (tf.uint8, tf.bfloat16):
        crop = ops.crop_and_resize(tf.cast(image, dtype), box, [0], (2, 2))
        assert crop.dtype == tf.float32
        np.testing.assert_allclose(crop[0, :, :, 0], [[0, 3], [12, 15]])


def test_crop_and_resize_of_no_boxes():
    assert ops.crop_and_resize(
        np.zeros((1, 4, 4, 3), np.float32), np.zeros((0, 4)), [], (2, 5)
    ).shape == (0, 2, 5, 3)


def crop_gradient(images, boxes, box_indices, size, weights):
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(ops.crop_and_resize(images, boxes, box_indices, size) * weights)
    return tape.gradient(total, images)


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


BOXES = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 20, 10, 30], [0, 0, 0, 0]], np.float32)[None]


def test_non_max_suppression():
    # IoU of the first two: 90 / 110 = 0.82. The better one stays, then the third; the box without area overlaps none.
    kept, valid = ops.non_max_suppression(
        BOXES, np.array([[0.5, 0.9, 0.7, 0.1]], np.float32), 5, 0.7
    )
    np.testing.assert_array_equal(kept, [[1, 2, 3, 0, 0]])
    np.testing.assert_array_equal(valid, [3])
    kept, valid = ops.non_max_suppression(
        BOXES, np.array([[0.5, 0.9, 0.7, 0.1]], np.float32), 5, 0.83
    )
    np.testing.assert_array_equal(kept[:, :4], [[1, 2, 0, 3]])
    np.testing.assert_array_equal(valid, [4])


def test_non_max_suppression_stops_at_max_output():
    kept, valid = ops.non_max_suppression(
        BOXES, np.array([[0.5, 0.9, 0.7, 0.1]], np.float32), 1, 0.7
    )
    np.testing.assert_array_equal(kept, [[1]])
    np.testing.assert_array_equal(valid, [1])


def test_non_max_suppression_of_no_boxes():
    kept, valid = ops.non_max_suppression(np.zeros((2, 0, 4)), np.zeros((2, 0)), 3, 0.5)
    np.testing.assert_array_equal(kept, np.zeros((2, 3)))
    np.testing.assert_array_equal(valid, [0, 0])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([0.3, 0.5, 0.7]))
def test_non_max_suppression_equals_numpy(seed, count, threshold):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 1, (count, 2)), rng.uniform(0.05, 0.6, (count, 2))
    these = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = rng.permutation(count).astype(np.float32)
    kept, valid = ops.non_max_suppression(these[None], scores[None], count, threshold)
    np.testing.assert_array_equal(
        kept[0, : int(valid[0])], boxes.non_max_suppression(these, scores, threshold)
    )


def test_class_non_max_suppression_lets_other_classes_overlap():
    scores = np.array([[0.5, 0.9, 0.7, 0.0]], np.float32)
    same, _, _ = ops.class_non_max_suppression(BOXES, np.array([[1, 1, 1, 1]]), scores, 3, 4, 0.5)
    np.testing.assert_array_equal(same[0], [BOXES[0, 1], BOXES[0, 2], [0] * 4, [0] * 4])
    kept, ids, best = ops.class_non_max_suppression(
        BOXES, np.array([[1, 2, 1, 1]]), scores, 3, 4, 0.5
    )
    np.testing.assert_array_equal(kept[0], [BOXES[0, 1], BOXES[0, 2], BOXES[0, 0], [0] * 4])
    np.testing.assert_array_equal(ids, [[2, 1, 1, 0]])
    np.testing.assert_allclose(best, [[0.9, 0.7, 0.5, 0.0]])


def test_class_non_max_suppression_with_all_scores_zero_is_empty():
    found = ops.class_non_max_suppression(
        BOXES, np.array([[1, 2, 1, 1]]), np.zeros((1, 4), np.float32), 3, 2, 0.5
    )
    for part in found:
        assert not np.any(part)


@pytest.mark.parametrize("shape", [[3, 2, 4], [None, None, 4]])
def test_image_of_rois(shape):
    find = tf.function(ops.image_of_rois, [tf.TensorSpec(shape)])
    assert find(tf.zeros([3, 2, 4])).numpy().tolist() == [0, 0, 1, 1, 2, 2]
    if shape[0] is None:
        assert find(tf.zeros([3, 0, 4])).shape == find(tf.zeros([0, 2, 4])).shape == (0,)


@pytest.mark.parametrize("levels", [[2, 0, 1, 0], [0, 0, 0, 0], []])
def test_gather_rois_by_level_keeps_the_order(levels):
    found = ops.gather_rois_by_level(
        tf.constant(levels, tf.int32),
        3,
        lambda level, index: 10.0 * level + tf.cast(index[:, None], tf.float32),
    )
    np.testing.assert_array_equal(found[:, 0], [10.0 * level + i for i, level in enumerate(levels)])


def test_agnostic_non_max_suppression():
    """The second box, of another class, falls to the better first; score 0 takes no part; the rest is zeros."""
    ids, scores = np.array([[1, 2, 2, 1]], np.int32), np.array([[0.5, 0.9, 0.0, 0.3]], np.float32)
    found = BOXES.copy()
    found[0, 3] = [0, 40, 10, 50]
    boxes_kept, ids_kept, scores_kept = ops.agnostic_non_max_suppression(found, ids, scores, 3, 0.7)
    np.testing.assert_array_equal(boxes_kept, [[found[0, 1], found[0, 3], [0, 0, 0, 0]]])
    np.testing.assert_array_equal(ids_kept, [[2, 1, 0]])
    np.testing.assert_allclose(scores_kept, [[0.9, 0.3, 0]])


def test_agnostic_non_max_suppression_of_no_boxes():
    none = ops.agnostic_non_max_suppression(
        np.zeros((1, 1, 4)), np.ones((1, 1), np.int32), np.zeros((1, 1)), 2, 0.5
    )
    assert not any(np.any(rows) for rows in none)
    assert [tuple(rows.shape) for rows in none] == [(1, 2, 4), (1, 2), (1, 2)]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_agnostic_non_max_suppression_of_one_class_is_that_of_the_class(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (2, 20, 2))
    these = np.concatenate([corner, corner + rng.uniform(0.1, 0.6, (2, 20, 2))], axis=2).astype(
        np.float32
    )
    scores = rng.uniform(0, 1, (2, 20)).astype(np.float32) * (rng.uniform(size=(2, 20)) > 0.2)
    ids = np.full((2, 20), 2, np.int32)
    across = ops.agnostic_non_max_suppression(these, ids, scores, 6, 0.5)
    within = ops.class_non_max_suppression(these, ids, scores, 4, 6, 0.5)
    for a, b in zip(across, within, strict=True):
        np.testing.assert_array_equal(a, b)

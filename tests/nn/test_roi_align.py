"""RoI align and crop_and_resize, against crops calculated by hand."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import image_meta, operation_types

from mrcnn.nn import crop_and_resize, roi_align
from mrcnn.nn.roi_align import PyramidROIAlign


def test_crop_and_resize_samples_bilinearly():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    # 0 and 1 are the centres of the first and last pixel; half way is the mean of 1 and 2.
    whole = crop_and_resize.crop_and_resize(image, np.array([[0.0, 0.0, 1.0, 1.0]]), [0], (2, 2))
    np.testing.assert_allclose(whole[0, :, :, 0], [[0, 3], [12, 15]])
    row = crop_and_resize.crop_and_resize(image, np.array([[0.0, 0.0, 0.0, 1.0]]), [0], (1, 3))
    np.testing.assert_allclose(row[0, :, :, 0], [[0, 1.5, 3]])


def test_crop_and_resize_takes_integers_and_bfloat16():
    image = np.arange(16).reshape(1, 4, 4, 1)
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    for dtype in (tf.uint8, tf.bfloat16):
        crop = crop_and_resize.crop_and_resize(tf.cast(image, dtype), box, [0], (2, 2))
        assert crop.dtype == tf.float32
        np.testing.assert_allclose(crop[0, :, :, 0], [[0, 3], [12, 15]])


def test_crop_and_resize_of_no_boxes():
    assert crop_and_resize.crop_and_resize(
        np.zeros((1, 4, 4, 3), np.float32), np.zeros((0, 4)), [], (2, 5)
    ).shape == (0, 2, 5, 3)


def crop_gradient(images, boxes, box_indices, size, weights):
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(
            crop_and_resize.crop_and_resize(images, boxes, box_indices, size) * weights
        )
    return tape.gradient(total, images)


def test_eager_functions_use_the_same_gradient():
    boxes, weights = tf.constant([[-0.2, 0.1, 0.7, 1.1]] * 2), tf.ones((2, 3, 3, 1))
    images = tf.ones((1, 4, 4, 1))
    expected = crop_gradient(images, boxes, [0, 0], (3, 3), weights)
    tf.config.run_functions_eagerly(True)
    try:
        with tf.GradientTape() as tape:
            tape.watch(boxes)
            crops = crop_and_resize.crop_and_resize(images, boxes, [0, 0], (3, 3))
        assert tape.gradient(crops, boxes) is None  # TensorFlow's own gradient would have one
        np.testing.assert_array_equal(
            crop_gradient(images, boxes, [0, 0], (3, 3), weights), expected
        )
    finally:
        tf.config.run_functions_eagerly(False)


def test_gradient_of_crop_and_resize_by_hand():
    # One sample in the middle of 4 x 4: rows and columns 1 and 2 have weight 1/2, pixels 1/4.
    images = tf.zeros((1, 4, 4, 1))
    found = crop_gradient(images, tf.constant([[0.0, 0.0, 1.0, 1.0]]), [0], (1, 1), 8.0)
    np.testing.assert_allclose(
        found[0, :, :, 0], [[0, 0, 0, 0], [0, 2, 2, 0], [0, 2, 2, 0], [0, 0, 0, 0]]
    )
    # Corners of a box that reaches outside: only the one inside, the first pixel, has a gradient.
    found = crop_gradient(images, tf.constant([[-1.0, -1.0, 0.0, 0.0]]), [0], (2, 2), 8.0)
    np.testing.assert_allclose(found[0, :, :, 0], [[8, 0, 0, 0]] + [[0] * 4] * 3)
    assert not np.any(crop_gradient(images, tf.zeros((0, 4)), [], (2, 2), 8.0))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 3), st.integers(1, 5))
def test_gradient_of_crop_and_resize_equals_tensorflow(seed, count, height, width):
    """One box per image: no two threads of TensorFlow's kernel write to the same pixel."""
    rng = np.random.default_rng(seed)
    images = tf.zeros((count, 5, 7, 2))
    boxes, indices = tf.constant(rng.uniform(-0.3, 1.3, (count, 4)), tf.float32), tf.range(count)
    weights = tf.constant(rng.normal(size=(count, height, width, 2)), tf.float32)
    theirs = tf.raw_ops.CropAndResizeGradImage(
        grads=weights, boxes=boxes, box_ind=indices, image_size=tf.shape(images), T=tf.float32
    )
    found = crop_gradient(images, boxes, indices, (height, width), weights)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)


def test_gradient_of_crop_and_resize_is_exact():
    """TensorFlow's own kernel loses additions so rarely that the test checks for its name."""
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


def test_roi_align_chooses_level_by_area():
    """FPN, equation 1: k = 4 + log2(sqrt(w h) / 224), rounded, in 2..5; image 1024 x 1024."""
    layer = PyramidROIAlign([7, 7], 224.0)
    sides = [1.0, 50.0, 111.9, 150.0, 224.0, 316.0, 318.0, 448.0, 640.0, 1024.0]
    # P2 up to 224 / 4 * sqrt(2) = 79.2, P3 up to 158.4, P4 up to 316.8, then P5
    expected = [0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    rois = np.float32([[0, 0, side / 1024, side / 1024] for side in sides])
    np.testing.assert_array_equal(layer.levels(tf.constant(rois), 1024.0 * 1024.0, 4), expected)
    # a long thin RoI counts by its area: 56 x 896 is as large as 224 x 224; padding has none
    thin = np.float32([[0, 0, 56 / 1024, 896 / 1024], [0, 0, 0, 0]])
    np.testing.assert_array_equal(layer.levels(tf.constant(thin), 1024.0 * 1024.0, 4), [2, 0])


def test_levels_of_a_pyramid_from_p1_on():
    layer = PyramidROIAlign([7, 7], 224.0, finest_level=1)
    rois = np.float32([[0, 0, side / 1024, side / 1024] for side in (28.0, 56.0, 224.0, 1024.0)])
    found = layer.levels(tf.constant(rois), 1024.0 * 1024.0, 5)
    np.testing.assert_array_equal(found, [0, 1, 3, 4])  # P1, P2, P4, P5


def test_roi_align_crops_the_level_of_each_roi():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, 64 // 2**i, 64 // 2**i, 3)).astype(np.float32) for i in range(4)]
    # in 256 x 256 pixels, canonical 64: sides 12 -> P2, 32 -> P3, 64 -> P4, 200 -> P5
    rois = np.float32([[0.1, 0.2, 0.1 + s / 256, 0.2 + s / 256] for s in (200, 12, 64, 32)])
    rois = np.stack([rois, rois[::-1] * 0.99])
    found = PyramidROIAlign([3, 5], 64.0)([rois, image_meta(256, 256).repeat(2, axis=0), *maps])
    assert found.shape == (2, 4, 3, 5, 3)
    for image, levels in enumerate([(3, 0, 2, 1), (1, 2, 0, 3)]):
        for i, level in enumerate(levels):
            crop = tf.image.crop_and_resize(maps[level], rois[image, i : i + 1], [image], (3, 5))
            np.testing.assert_array_equal(found[image, i], crop[0])


@pytest.mark.parametrize("side", [1024.0, 1333.0])
@pytest.mark.parametrize(
    "method, origin", [("unaligned", "torchvision"), ("aligned", "detectron2")]
)
def test_levels_equal_those_of(method, origin, side, torchvision_units):
    """Boxes around 56, 112, 224 and 448 pixels; the two differ at 223.9999."""
    recorded = torchvision_units("levels")
    layer = PyramidROIAlign([7, 7], method=method, level_rule="floor", continuous=True)
    rois = np.float32(recorded["boxes"][:, [1, 0, 3, 2]] / side)
    found = layer.levels(tf.constant(rois), side * side, 4)
    np.testing.assert_array_equal(found, recorded[f"{origin}_level_minus_2"])


@pytest.mark.parametrize("gather", [False, True])
def test_pyramid_roi_align_equals_torchvision(gather, torchvision_units):
    recorded = torchvision_units("levels")
    if "pool_out" not in recorded:
        pytest.skip("needs the shared reference data")
    maps = [recorded[f"pool_map_{level}"].transpose(0, 2, 3, 1) for level in range(4)]
    boxes = np.stack([recorded["pool_boxes_0"], recorded["pool_boxes_1"]])
    rois = np.float32(boxes[:, :, [1, 0, 3, 2]] / [300, 432, 300, 432])
    layer = PyramidROIAlign(
        [7, 7], method="unaligned", level_rule="floor", continuous=True, gather=gather
    )
    meta = image_meta(300, 432).repeat(2, axis=0)
    pooled = tf.reshape(layer([rois, meta, *maps]), [24, 7, 7, 4])
    # Not 1e-5: normalized boxes are rounded, by 1e-5 cells, and the maps differ by 3 from one cell
    # to the next.
    expected = recorded["pool_out"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=2e-5)
    for image in (0, 1):
        alone = layer([rois[image : image + 1], meta[:1], *(x[image : image + 1] for x in maps)])
        np.testing.assert_allclose(alone[0], pooled[12 * image :][:12], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["unaligned", "precise", "max"])
def test_pyramid_roi_align_of_no_rois(method):
    maps = [np.ones((2, side, side, 3), np.float32) for side in (16, 8, 4, 2)]
    layer = PyramidROIAlign([7, 5], method=method)
    meta = image_meta(64, 64).repeat(2, axis=0)
    assert layer([np.zeros((2, 0, 4), np.float32), meta, *maps]).shape == (2, 0, 7, 5, 3)


def test_roi_align_gives_every_roi_a_level():
    rois = tf.constant([[np.nan] * 4, [0.0, 0.0, np.inf, 1.0]])
    assert set(np.asarray(PyramidROIAlign([7, 7]).levels(rois, 4096.0, 4))) <= {0, 1, 2, 3}

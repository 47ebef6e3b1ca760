"""RoIAlign as one gather, against the product with a sparse matrix."""

import numpy as np
import pytest
import tensorflow as tf
from tiny import image_meta

from mrcnn.nn.portable import portable_ops
from mrcnn.nn.roi_align import PyramidROIAlign


def pyramid_align(method, gather, samples=2):
    return PyramidROIAlign(
        [3, 2], 32.0, method, samples, level_rule="floor", continuous=True, gather=gather
    )


def example(count, seed=0):
    """Four levels of two images of 72 x 104 (5 x 7 cells on P5 are rounded up), and RoIs."""
    rng = np.random.default_rng(seed)
    shapes = [(-(-72 // stride), -(-104 // stride)) for stride in (4, 8, 16, 32)]
    maps = [tf.constant(rng.normal(size=(2, *shape, 3)), tf.float32) for shape in shapes]
    start = rng.uniform(-0.2, 0.9, (2, count, 2))
    sides = np.exp(rng.uniform(-4, 0.2, (2, count, 2)))
    rois = tf.constant(np.concatenate([start, start + sides], axis=-1), tf.float32)
    return rois, image_meta(72, 104).repeat(2, axis=0), maps


def test_gather_of_no_rois():
    rois, meta, maps = example(0)
    assert pyramid_align("aligned", True)([rois, meta, *maps]).shape == (2, 0, 3, 2, 3)


@pytest.mark.parametrize("method, samples", [("aligned", 1), ("aligned", 2), ("unaligned", 3)])
def test_gather_and_its_gradient_equal_the_sparse_product(method, samples):
    rois, meta, maps = example(20)
    weights = tf.constant(np.random.default_rng(1).normal(size=(2, 20, 3, 2, 3)), tf.float32)
    found = []
    for gather in (False, True):
        layer = pyramid_align(method, gather, samples)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            pooled = layer([rois, meta, *maps])
            total = tf.reduce_sum(pooled * weights)
        found.append([pooled, *tape.gradient(total, maps)])
    for ours, gathered in zip(*found, strict=True):
        np.testing.assert_allclose(ours, gathered, rtol=0, atol=1e-5)


def test_gather_gives_rois_without_a_finite_box_finite_features():
    _, meta, maps = example(0)
    rois = np.float32([[[np.nan] * 4, [0, 0, np.inf, 1], [0.5, 0.5, 0.5, 0.5]]] * 2)
    assert np.all(np.isfinite(pyramid_align("aligned", True)([rois, meta, *maps])))


def test_gather_can_be_compiled_by_xla():
    rois, meta, maps = example(4)
    layer = pyramid_align("unaligned", True)
    compiled = tf.function(lambda *inputs: layer(list(inputs)), jit_compile=True)
    np.testing.assert_allclose(
        compiled(rois, meta, *maps), layer([rois, meta, *maps]), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("count", [0, 20])
@pytest.mark.parametrize("shape", [(3, 2), (1, 4)])
def test_portable_crops_equal_crop_and_resize(count, shape):
    rois, meta, maps = example(count)
    layer = PyramidROIAlign(shape, 32.0)
    expected = layer([rois, meta, *maps])
    with portable_ops():
        found = layer([rois, meta, *maps])
    assert found.shape == (2, count, *shape, 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)  # float32 positions

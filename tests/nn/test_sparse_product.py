"""The sparse product, against TensorFlow's own."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.nn.sparse_product import sparse_product


def product_and_gradient(indices, values, row_count, matrix, weights):
    with tf.GradientTape() as tape:
        tape.watch(matrix)
        product = sparse_product(indices, values, row_count, matrix)
        total = tf.reduce_sum(product * weights)
    return product, tape.gradient(total, matrix)


@pytest.mark.parametrize("rows, matrix_rows", [(0, 5), (3, 5), (3, 0), (0, 0)])
def test_product_without_entries_is_zero(rows, matrix_rows):
    """TensorFlow's product of a matrix without rows ends the process."""
    indices, values = tf.zeros([0, 2], tf.int64), tf.zeros([0])
    found = product_and_gradient(indices, values, rows, tf.ones([matrix_rows, 2]), 1.0)
    np.testing.assert_array_equal(found[0], np.zeros((rows, 2)))
    np.testing.assert_array_equal(found[1], np.zeros((matrix_rows, 2)))


def test_product_by_hand():
    """Row 0 is 2 * a + 3 * b, row 1 is empty, row 2 adds a twice; b, a: columns in any order."""
    indices = tf.constant([[0, 1], [0, 0], [2, 0], [2, 0]], tf.int64)
    values, matrix = tf.constant([3.0, 2.0, 1.0, 4.0]), tf.constant([[1.0, 10.0], [100.0, 0.0]])
    weights = tf.constant([[1.0, 1.0], [7.0, 7.0], [1.0, 0.0]])
    product, gradient = product_and_gradient(indices, values, 3, matrix, weights)
    np.testing.assert_array_equal(product, [[302, 20], [0, 0], [5, 50]])
    # a: 2 * row 0 + 5 * row 2; b: 3 * row 0
    np.testing.assert_array_equal(gradient, [[7, 2], [3, 3]])


def test_product_and_gradient_equal_tensorflow():
    rng = np.random.default_rng(0)
    indices = np.stack([np.sort(rng.integers(0, 40, 500)), rng.integers(0, 30, 500)], axis=1)
    values = tf.constant(rng.normal(size=500), tf.float32)
    matrix, weights = (tf.constant(rng.normal(size=(n, 6)), tf.float32) for n in (30, 40))
    dense = np.zeros((40, 30), np.float32)
    np.add.at(dense, tuple(indices.T), values)
    product, gradient = product_and_gradient(indices, values, 40, matrix, weights)
    np.testing.assert_allclose(product, dense @ matrix, rtol=0, atol=1e-5)
    np.testing.assert_allclose(gradient, dense.T @ weights, rtol=0, atol=1e-5)


def test_graph_with_a_product_can_be_freed():
    """TensorFlow's registry of gradients would keep it."""
    indices, values = tf.constant([[0, 0]], tf.int64), tf.ones([1])
    gradient = tf.function(lambda matrix: product_and_gradient(indices, values, 1, matrix, 1.0)[1])
    graph = weakref.ref(gradient.get_concrete_function(tf.ones([1, 1])).graph)
    del gradient
    gc.collect()
    assert graph() is None

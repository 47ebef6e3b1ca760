"""Taps of RoIs along an axis, by hand."""

import numpy as np
import tensorflow as tf

from mrcnn.nn import roi_taps


def weights_of_cells(taps, length):
    """`[N, bins, length]` the weight of each cell."""
    weights = np.zeros((*taps.cells.shape[:2], length))
    for index in np.ndindex(*taps.cells.shape):
        weights[index[0], index[1], taps.cells.numpy()[index]] += taps.weights.numpy()[index]
    return weights


def test_taps_of_no_rois():
    none = tf.zeros([0])
    assert roi_taps.sampled_taps(none, none, 3, 2, 5).cells.shape == (0, 3, 4)
    assert roi_taps.adaptive_taps(none, none, 3, 5).cells.shape[:2] == (0, 3)
    none = tf.cast(none, tf.float64)
    assert roi_taps.integral_taps(none, none, 3, 5).cells.shape[:2] == (0, 3)


def test_samples_by_hand():
    """One bin from 0.5 to 2.5 has its two samples at 1 and 2; from -2 to 0 at -1.5 and -0.5."""
    taps = roi_taps.sampled_taps(tf.constant([0.5, -2.0]), tf.constant([2.0, 2.0]), 1, 2, 4)
    # -1.5 lies more than a cell outside; -0.5 has the value of the outermost cell.
    np.testing.assert_allclose(weights_of_cells(taps, 4)[:, 0], [[0, 0.5, 0.5, 0], [0.5, 0, 0, 0]])


def test_adaptive_samples_by_hand():
    """Bins of 1.5 cells have two samples, of half a cell one, of none no sample."""
    start, side = tf.constant([0.0, 1.0, 1.0, np.nan]), tf.constant([3.0, 1.0, 0.0, np.nan])
    taps = roi_taps.adaptive_taps(start, side, 2, 4)
    weights = weights_of_cells(taps, 4)
    # 3 / 2 bins: samples 0.375 and 1.125; 1.875 and 2.625
    first = np.array([0.625, 0.375 + 0.875, 0.125, 0]) / 2
    second = np.array([0, 0.125, 0.875 + 0.375, 0.625]) / 2
    np.testing.assert_allclose(weights[0], [first, second], rtol=1e-6)
    np.testing.assert_allclose(weights[1], [[0, 0.75, 0.25, 0], [0, 0.25, 0.75, 0]])
    assert not np.any(weights[2:])
    np.testing.assert_array_equal(taps.counts, [3, 2, 0, 0])


def test_integrals_by_hand():
    """From 0 to 2: half of cell 0, all of 1, half of 2, by the length 2; -1..1 in a map of two."""
    low, high = tf.constant([0.0, -1.0, 0.25], tf.float64), tf.constant([2, 1, 0.5], tf.float64)
    weights = weights_of_cells(roi_taps.integral_taps(low, high, 1, 3), 3)
    np.testing.assert_allclose(weights[0, 0], [0.25, 0.5, 0.25])
    np.testing.assert_allclose(weights[1, 0], [0.5, 0.25, 0])
    # 0.25 to 0.5: cell 1 has the mean 0.375, cell 0 the rest
    np.testing.assert_allclose(weights[2, 0], [0.625, 0.375, 0])


def test_dense_weights_add_the_taps_of_a_cell():
    cells, weights = [[[0, 2], [2, 2]]], [[[0.25, 0.75], [0.5, 0.125]]]
    taps = roi_taps.Taps(tf.constant(cells), tf.constant(weights))
    found = roi_taps.dense_weights(taps, 3)
    np.testing.assert_array_equal(found, [[[0.25, 0, 0.75], [0, 0, 0.625]]])

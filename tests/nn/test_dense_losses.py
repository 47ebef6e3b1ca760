"""Each loss of networks without an RPN against numbers calculated by hand."""

import math
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from mrcnn.nn import dense_losses


def _config(**values):
    return SimpleNamespace(
        **{"FOCAL_ALPHA": 0.25, "FOCAL_GAMMA": 2.0, "CLASS_WEIGHTS": None} | values
    )


def test_sigmoid_focal_loss_by_hand():
    """p = 0.5: an object 0.25 * 0.5^2 * ln 2 = 0.0433217, none 0.75 * 0.5^2 * ln 2 = 0.1299651."""
    found = dense_losses.sigmoid_focal_loss(tf.constant([True, False]), tf.zeros(2), 0.25, 2.0)
    np.testing.assert_allclose(found, [0.0433217, 0.1299651], rtol=1e-5)


def test_focal_loss_and_its_gradient_are_finite_everywhere():
    x = tf.Variable([-300.0, 300.0, -300.0, 300.0])
    with tf.GradientTape() as tape:
        value = dense_losses.sigmoid_focal_loss(
            tf.constant([True, True, False, False]), x, 0.25, 0.5
        )
    assert np.isfinite(value).all()
    assert np.isfinite(tape.gradient(value, x)).all()


def test_dense_class_loss_without_anchors_that_count_is_zero():
    found = dense_losses.dense_class_loss(
        tf.fill([2, 3], -1), tf.zeros([2, 3, 4]), tf.ones([2, 4]), _config()
    )
    assert found.numpy().tolist() == [0, 0]


def test_dense_class_loss_counts_active_classes_of_anchors_that_count():
    """Anchor 0 has class 2, 1 none, 2 is ignored; class 1 is not labelled in this image.

    Columns 0 and 2 of two anchors: three times 0.1299651 and once 0.0433217.
    """
    found = dense_losses.dense_class_loss(
        tf.constant([[2, 0, -1]]), tf.zeros([1, 3, 3]), tf.constant([[1, 0, 1]]), _config()
    )
    np.testing.assert_allclose(found, [3 * 0.1299651 + 0.0433217], rtol=1e-5)


def test_class_weights_are_factors_of_the_columns():
    """All of background: (1 + 2 + 3) * 0.1299651."""
    found = dense_losses.dense_class_loss(
        tf.zeros([1, 1], tf.int32),
        tf.zeros([1, 1, 3]),
        tf.ones([1, 3]),
        _config(CLASS_WEIGHTS=[1.0, 2.0, 3.0]),
    )
    np.testing.assert_allclose(found, [6 * 0.1299651], rtol=1e-5)


def test_sigmoid_cross_entropy_by_hand():
    """p = 1/2: log 2. p = 3/4, y = 1/4: -log(3/4) / 4 - 3 log(1/4) / 4 = log 4 - log(3) / 4.

    A certain probability costs nothing if it is right, and its logit if it is wrong.
    """
    found = dense_losses.sigmoid_cross_entropy(
        tf.constant([0.0, 0.3, 0.25, 1.0, 0.0]), tf.constant([0.0, 0.0, math.log(3), 200, 200])
    )
    quarter = math.log(4) - math.log(3) / 4
    np.testing.assert_allclose(found, [math.log(2), math.log(2), quarter, 0, 200], rtol=1e-6)


def test_giou_loss_by_hand():
    """Equal: 0. Apart by 1 in a hull of 1 x 3: IoU 0, 1 - 0 + 1/3. Half: 1 - 1/2 + 0."""
    first = tf.constant([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
    second = tf.constant([[0.0, 0, 1, 1], [0, 2, 1, 3], [0, 0, 1, 2]])
    np.testing.assert_allclose(dense_losses.giou_loss(first, second), [0, 4 / 3, 0.5], atol=1e-6)


def test_giou_loss_of_boxes_without_area_is_finite():
    assert float(dense_losses.giou_loss(tf.zeros([4]), tf.zeros([4]))) == 1.0


def test_focal_and_giou_loss_and_gradients_are_those_of_torchvision(torchvision_units):
    file = torchvision_units("losses")
    x, is_object = tf.Variable(file["focal_x"]), tf.constant(file["focal_t"] > 0)
    first, second = tf.Variable(file["iou_b1"]), tf.constant(file["iou_b2"])
    with tf.GradientTape(persistent=True) as tape:
        focal = dense_losses.sigmoid_focal_loss(is_object, x, 0.25, 2.0)
        giou = dense_losses.giou_loss(first, second)
    np.testing.assert_allclose(focal, file["focal_a0.25_g2.0"], rtol=1e-4, atol=1e-9)
    gradient = tape.gradient(focal, x)
    np.testing.assert_allclose(gradient, file["focal_a0.25_g2.0_grad"], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(giou, file["giou"], atol=1e-6)
    # Of equal boxes, and boxes that only touch, the gradient has several values.
    differs = np.flatnonzero(
        np.abs(tape.gradient(giou, first) - file["giou_grad"]).max(axis=1) > 1e-6
    )
    assert len(differs) <= 2

"""L2 regularization: matterport's rule and torch's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mrcnn.nn import weight_decay


def test_weight_decay():
    values = {"kernel": [[1.0, 2.0], [3.0, 4.0]], "bias": [2.0], "gamma": [9.0], "beta": [9.0]}
    weights = [keras.Variable(np.float32(value), name=name) for name, value in values.items()]
    # 0.1 * ((1 + 4 + 9 + 16) / 4 + 4 / 1)
    assert float(weight_decay.weight_decay(weights, 0.1)) == pytest.approx(1.15, rel=1e-6)
    assert float(weight_decay.weight_decay([], 0.1)) == 0.0


def test_plain_weight_decay():
    values = {"kernel": [[1.0, 2.0], [3.0, 4.0]], "bias": [2.0], "gamma": [3.0], "beta": [1.0]}
    weights = [keras.Variable(np.float32(value), name=name) for name, value in values.items()]
    # 0.1 / 2 * (1 + 4 + 9 + 16), with the bias + 4, with gamma and beta + 10
    for biases, norms, expected in (
        (False, False, 1.5),
        (True, False, 1.7),
        (False, True, 2.0),
        (True, True, 2.2),
    ):
        decay = weight_decay.plain_weight_decay(weights, 0.1, biases, norms)
        assert float(decay) == pytest.approx(expected, rel=1e-6)
    assert float(weight_decay.plain_weight_decay([], 0.1)) == 0.0


def test_gradient_of_plain_weight_decay_is_that_of_torch_sgd():
    weights = [keras.Variable(np.float32([1.0, -2.0]), name="kernel")]
    with tf.GradientTape() as tape:
        decay = weight_decay.plain_weight_decay(weights, 0.1)
    np.testing.assert_allclose(tape.gradient(decay, weights[0].value), [0.1, -0.2], rtol=1e-6)

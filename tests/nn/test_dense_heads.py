"""Towers and predictions of networks without an RPN: shapes, names, the first probabilities."""

import keras
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.nn.dense_heads import class_prediction, prediction, tower


def config(**values):
    small = Config()
    small.TOP_DOWN_PYRAMID_SIZE, small.NUM_CLASSES = 32, 3
    for name, value in values.items():
        setattr(small, name, value)
    return small


@pytest.mark.parametrize("norm", ["none", "group"])
def test_tower_has_the_layers_of_its_settings(norm):
    x = keras.Input([None, None, 32])
    small = config(TOWER_CONV_LAYERS=2, TOWER_NORM=norm)
    names = [layer.name for layer in keras.Model(x, tower(x, "t", small, True)).layers]
    assert {"t_conv1", "t_conv2"} <= set(names)
    assert ("t_norm2" in names) == (norm == "group")


def test_prediction_orders_rows_by_cell_and_then_by_anchor():
    x = keras.Input([None, None, 1])
    model = keras.Model(x, prediction(x, "p", anchors=2, size=3))
    kernel = np.zeros((3, 3, 1, 6), np.float32)
    kernel[1, 1] = [1, 2, 3, 10, 20, 30]
    model.get_layer("p").set_weights([kernel, np.zeros(6)])
    found = np.asarray(model(np.float32([[[[1], [2]]]])))
    assert found.tolist() == [[[1, 2, 3], [10, 20, 30], [2, 4, 6], [20, 40, 60]]]


def test_every_class_begins_with_a_probability_of_a_hundredth():
    x = keras.Input([None, None, 32])
    model = keras.Model(x, class_prediction(x, "p", 1, config()))
    logits = np.asarray(model(np.zeros((1, 1, 1, 32), np.float32)))
    assert logits.shape == (1, 1, 3)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), 0.01, rtol=1e-5)

"""Averaged weights."""

import keras
import numpy as np
import pytest
from tiny import TinyConfig
from tiny_training import build, values

from mrcnn.model import MaskRCNN

pytestmark = pytest.mark.usefixtures("eagerly")


def test_averages_equal_the_formula(tmp_path, dataset):
    """The decays of steps n = 1, 2 are min(0.9, (1 + n) / (10 + n)), that is 2/11 and 3/12."""
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(values(model))

        def on_test_begin(self, logs=None):
            seen.append(values(model))

    model = build(tmp_path, EMA_DECAY=0.9, STEPS_PER_EPOCH=2)
    first = values(model)
    model.train(dataset, dataset, 0.01, epochs=1, layers="heads", custom_callbacks=[Watch()])
    after_1, after_2, validated = seen
    saved = MaskRCNN.from_weights(model.find_last(), config=TinyConfig())
    path = "mrcnn_mask/kernel"
    average = 2 / 11 * first[path] + 9 / 11 * after_1[path]
    average = 3 / 12 * average + 9 / 12 * after_2[path]
    for found in (validated, values(model), values(saved)):
        np.testing.assert_allclose(found[path], average, rtol=1e-5, atol=1e-7)
    assert np.array_equal(
        values(model)["res1a_conv/kernel"], first["res1a_conv/kernel"]
    )  # not trainable

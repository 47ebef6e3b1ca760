"""`MeanAveragePrecisionCallback`: which epochs, which weights, which number."""

import logging
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tiny import Squares, TinyConfig

from mrcnn.model import MeanAveragePrecisionCallback


def network(value, name="dense"):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, name=name)(inputs))
    model.set_weights([np.full(weight.shape, value, np.float32) for weight in model.weights])
    return model


class Detector:
    """A stand-in for the inference model: right on images 0 and 1, blind on 2, right and wrong on 3."""

    mode = "inference"
    config = TinyConfig()

    def __init__(self, dataset):
        self.keras_model = network(0)
        self.dataset, self.calls = dataset, 0

    def detect(self, images):
        assert len(images) == 1
        image_id = self.calls % len(self.dataset.image_ids)
        self.calls += 1
        masks, class_ids = self.dataset.load_mask(image_id)
        ys, xs = np.nonzero(masks[:, :, 0])
        box = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
        count = [1, 1, 0, 2][image_id]
        scores = [0.5, 0.9][:count]
        ids = [class_ids[0], 3 - class_ids[0]][:count]  # the second is of the other class
        return [
            {
                "rois": np.array([box] * count, np.int32).reshape(-1, 4),
                "class_ids": np.array(ids, np.int32),
                "scores": np.array(scores, np.float32),
                "masks": np.repeat(masks, count, axis=2),
            }
        ]


@pytest.fixture
def dataset():
    return Squares(4)


def callback(dataset, **options):
    trained = SimpleNamespace(keras_model=network(7))
    return MeanAveragePrecisionCallback(trained, Detector(dataset), dataset, **options)


def test_the_mean_of_the_ap_of_each_image(dataset, caplog):
    logs = {}
    with caplog.at_level(logging.INFO, "mrcnn"):
        callback(dataset, calculate_map_at_every_X_epoch=1).on_epoch_end(0, logs)
    # Images 0 and 1: AP 1. Image 2: 0. Image 3: the better score is wrong, then 1 of 2 is right: AP 1/2.
    assert logs == {"val_mean_average_precision": (1 + 1 + 0 + 0.5) / 4}
    assert "epoch 1  mean average precision 0.625" in caplog.text


def test_a_limit_takes_the_first_images(dataset):
    logs = {}
    limited = callback(dataset, calculate_map_at_every_X_epoch=1, dataset_limit=3)
    limited.on_epoch_end(0, logs)
    assert logs["val_mean_average_precision"] == pytest.approx(2 / 3)
    assert limited.inference_model.calls == 3


def test_every_so_many_epochs(dataset, caplog):
    quiet = callback(dataset, calculate_map_at_every_X_epoch=2, verbose=0)
    rows = [{} for _ in range(5)]
    with caplog.at_level(logging.INFO, "mrcnn"):
        for epoch, logs in enumerate(rows):
            quiet.on_epoch_end(epoch, logs)
        quiet.on_epoch_end(5)  # Keras may pass no logs
    assert [bool(logs) for logs in rows] == [False, True, False, True, False]
    assert caplog.text == ""


def test_five_epochs_is_the_default(dataset):
    rows = [{} for _ in range(5)]
    for epoch, logs in enumerate(rows):
        callback(dataset).on_epoch_end(epoch, logs)
    assert [bool(logs) for logs in rows] == [False] * 4 + [True]


def test_the_inference_model_takes_over_the_weights(dataset):
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    watching.on_epoch_end(0, {})
    assert [float(np.ravel(w)[0]) for w in watching.inference_model.keras_model.get_weights()] == [7, 7]


def test_images_without_objects_do_not_count(dataset, monkeypatch):
    empty = (np.zeros((64, 64, 0), bool), np.zeros(0, np.int32))
    load_mask = dataset.load_mask
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    watching.inference_model.dataset = Squares(4)
    monkeypatch.setattr(dataset, "load_mask", lambda i: empty if i == 2 else load_mask(i))
    assert watching.mean_average_precision() == pytest.approx(2.5 / 3)
    monkeypatch.setattr(dataset, "load_mask", lambda i: empty)
    assert math.isnan(watching.mean_average_precision())


def test_other_layers_and_other_modes_are_refused(dataset):
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    watching.train_model.keras_model = network(1, name="other")
    with pytest.raises(ValueError, match="differ in dense/bias, dense/kernel, other/bias, other/kernel"):
        watching.on_epoch_end(0, {})
    training = SimpleNamespace(mode="training")
    with pytest.raises(ValueError, match="Received: mode 'training'"):
        MeanAveragePrecisionCallback(training, training, dataset)
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        callback(dataset, calculate_map_at_every_X_epoch=0)

"""The end of an overfitting: when it is perfect, and what the log says."""

import logging
from types import SimpleNamespace

import pytest

from mrcnn.training.overfitting import StopWhenPerfect


@pytest.mark.parametrize(
    ("scores", "stops_after", "said"),
    [
        ([], None, "no AP was measured"),
        ([float("nan"), float("nan")], None, "no AP was measured"),
        ([0.2, float("nan"), 0.6, 0.5], None, "at most 0.600 on the images"),
        ([0.2, 0.99, 1.0], 2, "Overfitting succeeded: AP at IoU 0.5 is 0.990"),
    ],
)
def test_training_stops_when_perfect(scores, stops_after, said, caplog):
    callback = StopWhenPerfect()
    callback.set_model(SimpleNamespace(stop_training=False))
    done = 0
    for epoch, score in enumerate(scores):
        callback.on_epoch_end(epoch, {"val_mAP50": score})
        done += 1
        if callback.model.stop_training:
            break
    assert done == (stops_after or len(scores))
    with caplog.at_level(logging.INFO, logger="mrcnn"):
        callback.on_train_end()
    assert said in caplog.text


def test_epoch_without_ap_changes_nothing():
    callback = StopWhenPerfect()
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.on_epoch_end(1, None)
    assert callback.best != callback.best  # nan

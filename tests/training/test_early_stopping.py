"""When a training may stop early, and when it does."""

import logging
from types import SimpleNamespace

import pytest

from mrcnn.training.early_stopping import EarlyStopping, early_stopping
from mrcnn.training.training_state import NEW_RECORD


def made(patience=3, epochs=10, measures_ap=True, one_host=True, **record):
    return early_stopping(patience, {**NEW_RECORD, **record}, epochs, measures_ap, one_host)


def test_off_without_a_patience(caplog):
    with caplog.at_level(logging.INFO, "mrcnn"):
        assert made(patience=None) is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"measures_ap": False}, "no AP is measured"),
        ({"one_host": False}, "only one of the hosts measures AP"),
        ({"epochs": 3}, "3 epochs are no more than its patience of 3"),
        ({"epochs": 2, "waited": 1}, "2 epochs are no more than its patience of 3"),
    ],
)
def test_off_with_a_reason_if_it_cannot_work(options, reason, caplog):
    with caplog.at_level(logging.INFO, "mrcnn"):
        assert made(**options) is None
    assert f"Early stopping is off: {reason}" in caplog.text


def test_on_if_it_can_stop_before_the_last_epoch(caplog):
    with caplog.at_level(logging.INFO, "mrcnn"):
        assert isinstance(made(epochs=4), EarlyStopping)
        assert isinstance(made(epochs=3, waited=1), EarlyStopping)
    assert caplog.text.count("Early stopping is on: after 3 epochs without a higher AP") == 2


def test_stops_when_the_patience_is_over(caplog):
    record = {**NEW_RECORD, "best": 0.25, "best_epoch": 7, "waited": 2}
    stopping, network = EarlyStopping(record, 3), SimpleNamespace(stop_training=False)
    stopping.set_model(network)
    stopping.on_epoch_end(8)
    assert not network.stop_training
    record["waited"] = 3
    with caplog.at_level(logging.INFO, "mrcnn"):
        stopping.on_epoch_end(9)
    assert network.stop_training
    assert "AP has not risen for 3 epochs, since epoch 7 (0.250)" in caplog.text

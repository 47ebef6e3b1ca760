"""Early stopping: the end of a training whose validation AP has ceased to rise."""

from __future__ import annotations

import logging
from typing import Any

import keras

log = logging.getLogger("mrcnn")


class EarlyStopping(keras.callbacks.Callback):
    """Stops a training after `patience` epochs without a higher `val_mAP`.

    It comes after `KeepBest`, which counts them. (Keras' own callback starts to count again in a
    resumed training.)

    record: of the training state.
    """

    def __init__(self, record: dict, patience: int):
        super().__init__()
        self.record, self.patience = record, patience

    def on_epoch_end(self, epoch, logs=None):
        network: Any = self.model
        if self.is_over():
            network.stop_training = True

    def is_over(self) -> bool:
        """Whether the training is to end; logs why."""
        waited = self.record["waited"]
        if waited < self.patience:
            return False
        log.info(
            "Early stopping: AP has not risen for %d epochs, since epoch %d (%.3f). "
            "EARLY_STOPPING_PATIENCE=None trains to the last epoch.",
            waited, self.record["best_epoch"], self.record["best"],
        )  # fmt: skip
        return True


def early_stopping(
    patience: int | None, record: dict, epochs: int, measures_ap: bool, one_host: bool
) -> EarlyStopping | None:
    """Return the callback of EARLY_STOPPING_PATIENCE; None if it is off, and log why it must be.

    epochs: number of epochs left. measures_ap: whether AP is measured after each epoch.
    one_host: whether this host trains without others.
    """
    if patience is None:
        return None
    obstacle = ""
    if not measures_ap:
        obstacle = "no AP is measured on validation data"
    elif not one_host:
        obstacle = "only one of the hosts measures AP"
    elif record["waited"] + epochs <= patience:
        obstacle = f"{epochs} epochs are no more than its patience of {patience}"
    if obstacle:
        log.info("Early stopping is off: %s.", obstacle)
        return None
    log.info(
        "Early stopping is on: after %d epochs without a higher AP (EARLY_STOPPING_PATIENCE).",
        patience,
    )
    return EarlyStopping(record, patience)

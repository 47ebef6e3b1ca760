"""Callbacks that write checkpoints: weights, training states, the best epoch."""

from __future__ import annotations

import logging
import math
import os
import shutil

import keras
import tensorflow as tf

from ..files.atomic import atomic_write
from ..weights.checkpoints import checkpoints
from .run import TrainingRun
from .schedule import current_rate
from .training_state import remove_older_states, save_state, state_path

log = logging.getLogger("mrcnn")

BEST = "best.h5"  # the checkpoint of the epoch with the best AP


class Checkpoint(keras.callbacks.Callback):
    """Writes the training state and the weights after each epoch.

    With KEEP_LAST_N, older checkpoints of the run are deleted.

    The state is written first, so that every checkpoint can be resumed exactly. If the disk cannot
    hold both, the weights matter more: the state is deleted to make space for them.

    record: read by a resumed training, see `training_state`; `Checkpoint` adds the epoch.
    """

    def __init__(self, run: TrainingRun, record: dict):
        super().__init__()
        self.run, self.record = run, record
        self.saved_rate = None  # learning rate in the last state that was written

    def on_epoch_end(self, epoch, logs=None):
        self.record["epoch"] = epoch + 1
        self.record["pending"] = {name: float(value) for name, value in (logs or {}).items()}
        path = self.run.checkpoint_path.format(epoch=epoch + 1)
        try:
            self._save_state()
            self.run.save(path)
        except OSError as error:
            if os.path.exists(self._state_path()):
                os.remove(self._state_path())
            self.run.save(path)
            self.run.epoch = epoch + 1
            raise OSError(
                f"A checkpoint and its training state must be written. Received: {error} "
                f"The weights of epoch {epoch + 1} are in {path}; a training that resumes from "
                "them starts with a fresh optimizer."
            ) from error
        self.run.epoch = epoch + 1
        remove_older_states(self._state_path())
        self._remove_older_checkpoints()

    def on_epoch_begin(self, epoch, logs=None):
        self._check_free_space(first=self.saved_rate is None)
        # ReduceLROnPlateau and others run after this callback, and may have changed the rate since.
        if self.saved_rate is not None and self.saved_rate != current_rate(self.run.network):
            self._save_state()

    def _save_state(self) -> None:
        self.saved_rate = current_rate(self.run.network)
        save_state(self._state_path(), self.run.network, self.record)

    def _check_free_space(self, first: bool) -> None:
        """Compare the free space with the size of a checkpoint: an epoch may take hours.

        first: before the first epoch.

        Raises: OSError before the first epoch if no checkpoint fits; later it is a warning.
        """
        variables = [*self.run.network.weights, *self.run.network.optimizer.variables]
        needed = sum(
            math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in variables
        )
        total, _, free = shutil.disk_usage(self.run.folder)
        if free >= needed or not total:  # some network drives report 0 for all three
            return
        message = (
            f"The disk of {self.run.folder} must have space for a checkpoint and its training "
            f"state, {_megabytes(needed)}. Received: {_megabytes(free)} free. Try to free some, "
            "KEEP_LAST_N to keep fewer checkpoints, or a folder on another disk (--logs)."
        )
        if first:
            raise OSError(message)
        log.warning("%s There is time until epoch %d ends.", message, self.record["epoch"] + 1)

    def _state_path(self) -> str:
        return state_path(self.run.folder, self.record["epoch"])

    def _remove_older_checkpoints(self) -> None:
        keep = self.run.config.KEEP_LAST_N
        if keep is None:
            return
        for path in checkpoints(self.run.folder, str(self.run.config.NAME))[:-keep]:
            path.unlink()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


class EpochCounter(keras.callbacks.Callback):
    """Counts the epochs of a run on a host that writes no checkpoints: all but the chief."""

    def __init__(self, run: TrainingRun):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        self.run.epoch = epoch + 1


class KeepBest(keras.callbacks.Callback):
    """Copies the checkpoint with the best `val_mAP` to `best.h5`, and counts the epochs since.

    It comes after the callbacks that may log `val_mAP`.

    record: as for `Checkpoint`; the best `val_mAP`, its epoch and the number of epochs since are
        saved in it, for a resumed training.
    """

    def __init__(self, run: TrainingRun, record: dict):
        super().__init__()
        self.run, self.record = run, record
        self.is_saved = True  # whether the training state has the record

    def on_epoch_end(self, epoch, logs=None):
        self.record["pending"] = None
        score = (logs or {}).get("val_mAP", math.nan)
        if math.isnan(score):
            return
        # Of several epochs with AP 0, before anything is found, the last is the best.
        if score < self.record["best"] or score == self.record["best"] > 0:
            self.record["waited"] += 1
            self.is_saved = False
            return
        self.record.update(best=float(score), best_epoch=epoch + 1, waited=0)
        with atomic_write(os.path.join(self.run.folder, BEST)) as part:
            shutil.copyfile(self.run.checkpoint_path.format(epoch=epoch + 1), part)
        self._save_record()
        log.info("epoch %d  best val_mAP so far, %.3f: saved as %s", epoch + 1, score, BEST)

    def on_train_end(self, logs=None):
        if not self.is_saved:  # the next epoch would have saved it
            self._save_record()

    def _save_record(self) -> None:
        save_state(state_path(self.run.folder, self.run.epoch), self.run.network, self.record)
        self.is_saved = True

"""The learning rate over the steps of a training: warm-up, cosine, drops."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ..config import Config

log = logging.getLogger("mrcnn")


@dataclass(frozen=True)
class Schedule:
    """The factor of the learning rate at a step, counted from the start of the run.

    kind: "constant"; "step": a tenth after each of `drops`; "cosine": half a cosine from 1 to 0.01.
    warmup: number of steps over which the factor grows linearly.
    total: step at which the training ends. drops: fractions of `total`.
    """

    kind: str = "constant"
    warmup: int = 0
    total: int = 1
    drops: tuple[float, ...] = ()

    def __call__(self, step: int) -> float:
        factor = 1.0
        if self.kind == "cosine":
            progress = (step - self.warmup) / max(1.0, self.total - self.warmup)
            progress = min(max(progress, 0.0), 1.0)
            factor = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress))
        elif self.kind == "step":
            passed = [drop for drop in self.drops if step >= round(drop * self.total)]
            factor = 0.1 ** len(passed)
        if self.warmup:
            factor *= min(1.0, (step + 1.0) / self.warmup)
        return factor


def scaled_learning_rate(rate: float, batch_size: int, of_batch_size: int = 16) -> float:
    """Return the learning rate for another batch size (Goyal et al. 2017, section 2.1).

    The rate is proportional to the batch size. The papers' rates are for 16 images (0.02 with SGD).
    Use a warm-up with a larger rate.
    """
    return rate * batch_size / of_batch_size


def schedule_callbacks(network: keras.Model, config: Config, epochs: int) -> list:
    """Return the callback of the config's schedule as a list; no callback for a constant rate.

    epochs: epoch at which the training ends.
    """
    if config.LEARNING_RATE_SCHEDULE == "constant" and not config.WARMUP_STEPS:
        return []
    if not has_settable_rate(network.optimizer):
        log.warning(
            "LEARNING_RATE_SCHEDULE and WARMUP_STEPS are unused: "
            "the OPTIMIZER has a schedule of its own."
        )
        return []
    steps = config.STEPS_PER_EPOCH
    drops = tuple(config.LEARNING_RATE_DROPS)
    schedule = Schedule(config.LEARNING_RATE_SCHEDULE, config.WARMUP_STEPS, epochs * steps, drops)
    return [ScheduledLearningRate(schedule, steps)]


def has_settable_rate(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether the learning rate can be set; a Keras schedule of an OPTIMIZER function cannot."""
    try:
        optimizer.learning_rate = float(np.asarray(optimizer.learning_rate))
    except TypeError:
        return False
    return True


def current_rate(network: Any) -> float:
    """Return the learning rate of the network's optimizer."""
    return float(np.asarray(network.optimizer.learning_rate))


def set_rate(network: Any, rate: float) -> None:
    """Set the learning rate of the network's optimizer."""
    network.optimizer.learning_rate = rate


class ScheduledLearningRate(keras.callbacks.Callback):
    """Multiplies the learning rate by the schedule's factor during each step.

    Between the steps the optimizer has the rate without the factor, which ReduceLROnPlateau,
    LearningRateScheduler and other callbacks read and set. (The rate of an optimizer with a Keras
    schedule cannot be set.)

    schedule: step of the run -> factor. steps: number of steps per epoch.
    """

    def __init__(self, schedule: Schedule, steps: int):
        super().__init__()
        self.schedule, self.steps = schedule, steps

    def on_epoch_begin(self, epoch, logs=None):
        self.first_step = epoch * self.steps

    def on_train_batch_begin(self, batch, logs=None):
        self.unscaled = current_rate(self.model)
        self.scaled = self.unscaled * self.schedule(self.first_step + batch)
        set_rate(self.model, self.scaled)

    def on_train_batch_end(self, batch, logs=None):
        set_rate(self.model, self.unscaled)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self.scaled

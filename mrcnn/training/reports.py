"""Callbacks that report the metrics of a training: progress, `results.csv`, TensorBoard."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import sys
import time
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from ..config import KEYPOINT_LOSS, LOSS_NAMES
from ..data.progress import duration
from ..files.atomic import atomic_write
from .schedule import current_rate, set_rate

log = logging.getLogger("mrcnn")

RESULTS = "results.csv"
OLD_RESULTS = "losses.csv"

UNKNOWN = "-:--:--"  # the time left, until two steps have been timed


class ThroughputLogger(keras.callbacks.Callback):
    """Adds `learning_rate` and `images_per_second` to the logs of an epoch, for later callbacks."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.seconds, self.steps = 0.0, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds += time.time() - self.start
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.seconds:
            logs.setdefault("learning_rate", current_rate(self.model))
            logs["images_per_second"] = self.steps * self.batch_size / self.seconds


class ResultsTable(keras.callbacks.Callback):
    """Writes a row of `results.csv` per epoch, with the seconds that it took and the memory.

    A resumed run appends to the same file. New metrics add columns. `losses.csv`, the name of
    version 0.1.0, is a copy.
    """

    def __init__(self, folder: str):
        super().__init__()
        self.folder = folder
        self.start: float | None = None

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.time()

    def on_epoch_end(self, epoch, logs=None):
        number = str(epoch + 1)
        rows = [row for row in read_results(self.folder) if row.get("epoch") != number]
        row = {"epoch": number, "loss": ""}
        row |= {name: _cell(value) for name, value in (logs or {}).items()}
        if self.start is not None:  # None: the last epoch of an earlier process
            row["seconds"] = f"{time.time() - self.start:.1f}"
        row |= {name: f"{value:.0f}" for name, value in memory_mb().items()}
        rows.append(row)
        columns = {}
        for row in rows:
            columns |= dict.fromkeys(row)
        path = os.path.join(self.folder, RESULTS)
        with atomic_write(path) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, list(columns), restval="")
            writer.writeheader()
            writer.writerows(rows)
        with atomic_write(os.path.join(self.folder, OLD_RESULTS)) as part:
            shutil.copyfile(path, part)


def read_results(folder: str) -> list[dict[str, str]]:
    """Return the rows of a run's `results.csv`, or of `losses.csv` of version 0.1.0; may be []."""
    for name in (RESULTS, OLD_RESULTS):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, newline="") as file:
                return list(csv.DictReader(file))
    return []


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.6f}"


def memory_mb() -> dict[str, float]:
    """Return the peak memory in MB: of this process, and of the first GPU if there is one.

    Without the first on Windows, which does not report it.
    """
    found = {}
    peak = peak_memory_mb()
    if peak is not None:
        found["memory_mb"] = peak
    if tf.config.list_physical_devices("GPU"):
        info = tf.config.experimental.get_memory_info("GPU:0")
        found["gpu_memory_mb"] = info["peak"] / 2**20
    return found


def peak_memory_mb() -> float | None:
    """Return the peak memory of this process in MB; None on Windows, which does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard, with the learning rate of the logs.

    (Keras writes the rate that the optimizer has between the steps, which lacks the schedule's
    factor.)
    """

    def on_epoch_end(self, epoch, logs=None):
        rate = current_rate(self.model)
        logged_rate = (logs or {}).get("learning_rate", rate)
        if logged_rate == rate:
            super().on_epoch_end(epoch, logs)
            return
        set_rate(self.model, logged_rate)
        super().on_epoch_end(epoch, logs)
        set_rate(self.model, rate)


class Progress(keras.callbacks.Callback):
    """Shows the losses and the time left: a bar on a terminal, else a line every 30 seconds."""

    INTERVAL_S = 30

    def __init__(self, first_epoch: int, epochs: int, steps: int):
        super().__init__()
        self.first_epoch, self.epochs, self.steps = first_epoch, epochs, steps
        self.done = 0
        self.bar = None

    def on_train_begin(self, logs=None):
        self.start = self.last_line = time.time()
        log.info("Tracing the graph: the first step takes a minute or so, the next ones do not.")

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        now = time.time()
        if self.done == 1:
            log.info("Traced; the first step took %.0f s.", now - self.start)
            self.start = now
            self._open_bar()
        left = self._time_left(now)
        if self.bar:
            self.bar.update(self.task, completed=self.done, text=_losses_text(logs), left=left)
        elif now - self.last_line > self.INTERVAL_S and batch + 1 < self.steps:
            self.last_line = now
            epoch = self.first_epoch + (self.done - 1) // self.steps + 1
            log.info(
                "epoch %d/%d step %d/%d  %s left  %s",
                epoch, self.epochs, batch + 1, self.steps, left, _losses_text(logs),
            )  # fmt: skip

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        training = {name: value for name, value in logs.items() if not name.startswith("val_")}
        validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        log.info("epoch %d/%d  %s", epoch + 1, self.epochs, _losses_text(training))
        if validation:
            log.info("      validation  %s", _losses_text(validation))
        self.last_line = time.time()

    def on_train_end(self, logs=None):
        self.stop()

    def stop(self) -> None:
        """Remove the bar from the terminal; needed after an error as well."""
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _total(self) -> int:
        return (self.epochs - self.first_epoch) * self.steps

    def _time_left(self, now: float) -> str:
        """Estimate from the steps after the first, which traces the graph."""
        timed = self.done - 1
        if not timed:
            return UNKNOWN
        return duration((now - self.start) / timed * (self._total() - self.done))

    def _open_bar(self) -> None:
        if not sys.stderr.isatty():
            return
        from rich import progress

        self.bar = progress.Progress(
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[left]} left  {task.fields[text]}"),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("", total=self._total(), text="", left=UNKNOWN)
        self.bar.start()


def _losses_text(logs) -> str:
    """Return the losses in the logs as text: `loss 2.1034  rpn_class 0.6931 ... decay 0.1000`."""
    logs = logs or {}
    texts = []
    for name in ("loss", *LOSS_NAMES, KEYPOINT_LOSS, "weight_decay"):
        if name in logs:
            short = "decay" if name == "weight_decay" else name.removesuffix("_loss")
            texts.append(f"{short} {float(logs[name]):.4f}")
    return "  ".join(texts)

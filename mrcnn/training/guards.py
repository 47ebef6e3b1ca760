"""Watches that stop or explain a training in trouble: non-finite losses, stalled steps, Ctrl-C."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time

import keras
from rich.console import Console

from ..files.file_names import free_name
from .pipeline import Batches
from .run import TrainingRun
from .schedule import current_rate

log = logging.getLogger("mrcnn")


class NotFinite(ValueError):
    """A loss became nan or infinite; the message names it, the step and the images."""


class StopAtNonFinite(keras.callbacks.Callback):
    """Stops the training at the first loss or gradient that is not finite.

    That step has changed no weights.

    writes: whether this host writes files.

    Raises: NotFinite.
    """

    def __init__(self, run: TrainingRun, batches: Batches, writes: bool = True):
        super().__init__()
        self.run, self.batches, self.writes = run, batches, writes

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        values = (logs or {}).items()
        broken = [f"{name} = {value}" for name, value in values if not math.isfinite(value)]
        if not broken:
            return
        path = "the chief's last_good.h5"
        if self.writes:
            path = free_name(os.path.join(self.run.folder, "last_good.h5"))
            self.run.save(path)
        images = self.batches.names(self.batches.batch_image_ids(self.epoch, batch))
        rate = current_rate(self.run.network)
        raise NotFinite(
            f"Every loss must be finite. Received: {', '.join(broken)} in epoch {self.epoch + 1}, "
            f"step {batch + 1}, images {images}. The weights before that step are in {path}. "
            f"Try a learning rate below {rate:g}, WARMUP_STEPS, and `mrcnn check` on the data."
        )


class StallWatchdog(keras.callbacks.Callback):
    """Logs the state of the workers if a step takes more than a minute, as in a hang."""

    PATIENCE_S = 60.0

    def __init__(self, batches: Batches):
        super().__init__()
        self.batches = batches
        self.step_since = None  # start of the current step
        self.traced = False  # the first step traces the graph and may take long
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def on_train_begin(self, logs=None):
        self.thread.start()

    def on_train_batch_begin(self, batch, logs=None):
        self.step_since = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self.step_since, self.traced = None, True

    def on_train_end(self, logs=None):
        self.stop()

    def stop(self) -> None:
        """End the thread; needed after an error as well."""
        self.over.set()
        if self.thread.is_alive():
            self.thread.join()

    def _watch(self) -> None:
        reported = 0  # minutes of this step with a warning
        while not self.over.wait(self.PATIENCE_S / 10):
            since = self.step_since
            waited = time.time() - since if since is not None and self.traced else 0.0
            reported = min(reported, int(waited / self.PATIENCE_S))
            if waited >= (reported + 1) * self.PATIENCE_S:
                reported += 1
                log.warning("No step has ended for %.0f s. %s", waited, self._work_in_progress())

    def _work_in_progress(self) -> str:
        now = time.time()
        texts = []
        for work in list(self.batches.in_progress.values()):
            names = self.batches.names(work.image_ids)
            texts.append(f"images {names} for {now - work.since:.0f} s")
        if not texts:
            return "No worker is reading images: the step itself takes that long."
        return f"{len(texts)} workers are making batches of {'; '.join(texts)}."


class Interrupts:
    """Answers Ctrl-C immediately, and ends the program at the second one.

    Python raises KeyboardInterrupt only after the current step, a minute later on a slow machine.
    The program is ended on a terminal only: a notebook would lose its kernel and variables.
    """

    reader: socket.socket
    writer: socket.socket
    PATIENCE_S = 1.0  # time after the second Ctrl-C in which Python may end by itself

    def __init__(self):
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch, in the main thread: Python handles signals only there."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return  # a handler of the user's program answers by itself
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.former = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End the watch."""
        if self.thread is None:
            return
        self.over.set()
        signal.set_wakeup_fd(self.former)
        self.writer.close()
        self.thread.join()
        self.reader.close()

    def _watch(self) -> None:
        presses = 0
        # Each byte is the number of a signal; an empty read means that the writer is closed.
        while received := self.reader.recv(1):
            if received[0] != signal.SIGINT:
                continue
            presses += 1
            if presses == 1:
                log.warning(
                    "Stopping after this step; then the weights are saved. "
                    "Ctrl-C again: stop without saving."
                )
            elif self._is_on_terminal() and not self.over.wait(self.PATIENCE_S):
                Console(stderr=True).show_cursor()
                os._exit(128 + signal.SIGINT)

    def _is_on_terminal(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty()

"""The progress of a job: images, rate and time left; a bar in a terminal, lines in a log."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

log = logging.getLogger("mrcnn")

LINE_SECONDS = 30  # between two lines of a log


class JobProgress:
    """Reports images as their shards are written; a context manager.

    total: images of the job. done: those that an earlier run has detected; they do not count for
    the rate.
    """

    def __init__(self, total: int, done: int):
        self.total = total
        self.done = done
        self.new = 0
        self.failed = 0
        self._start = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar = _make_bar(console) if console.is_terminal else None

    def __enter__(self) -> JobProgress:
        if self._bar is not None:
            self._bar.start()
            task = self._bar.add_task("Detecting", total=self.total, completed=self.done, rate="")
            self._task = task
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, images: int, failed: int) -> None:
        """Count images. failed: how many of them have no detections because of an error."""
        self.new += images
        self.failed += failed
        self.done += images
        if self._bar is not None:
            self._bar.update(self._task, advance=images, rate=self.rate_text())
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            log.info("%d of %d images, %s", self.done, self.total, self.rate_text())

    def rate_text(self) -> str:
        """Return the rate, the time left and the failures, as `3.2 images/s, 0:10:05 left`."""
        rate = self.new / max(self.seconds(), 1e-9)
        left = timedelta(seconds=round((self.total - self.done) / max(rate, 1e-9)))
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{rate:.1f} images/s, {left} left{failed}"

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start


def _make_bar(console: Console) -> Progress:
    columns = (TextColumn("Detecting"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TextColumn("{task.fields[rate]}"), console=console)

"""Progress of a loop on stderr: a bar on a terminal or in a notebook, else a line now and then."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

log = logging.getLogger("mrcnn")

LINE_SECONDS = 30.0  # between two lines, as in a training

T = TypeVar("T")


def with_progress(
    items: Sequence[T], what: str, transient: bool = False, noun: str = "images"
) -> Iterable[T]:
    """Iterate over items and show how far the loop has come.

    what: is done with each item, for example "Checking". transient: remove the bar at the end.
    noun: the items, in the plural.
    """
    console = Console(stderr=True)
    # rich draws its bar in a notebook with ipywidgets, and only warns if they are not installed.
    has_bar = console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None
    if console.is_terminal or has_bar:
        return track(items, what, console=console, transient=transient)
    return _with_lines(items, what, noun)


def _with_lines(items: Sequence[T], what: str, noun: str) -> Iterator[T]:
    lines = ProgressLines(what, len(items), noun)
    for i, item in enumerate(items):
        lines.update(i)
        yield item


class ProgressLines:
    """Logs a line every `LINE_SECONDS`: items done, of how many, and the time left."""

    def __init__(self, what: str, total: int | None, noun: str = "images"):
        """Start the clock. total: None if it is unknown. noun: the items, in the plural."""
        self.what, self.total, self.noun = what, total, noun
        self._start = self._last = time.monotonic()

    def update(self, done: int) -> None:
        """Log a line if it is time for one. done: items that are complete."""
        now = time.monotonic()
        if not done or now - self._last < LINE_SECONDS:
            return
        self._last = now
        if self.total is None:
            log.info("%s: %d %s.", self.what, done, self.noun)
            return
        seconds = (now - self._start) / done * (self.total - done)
        left = duration(seconds)
        log.info("%s: %d of %d %s, %s left.", self.what, done, self.total, self.noun, left)


def duration(seconds: float) -> str:
    """Return `minutes:seconds`, or `hours:minutes:seconds` from an hour on."""
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

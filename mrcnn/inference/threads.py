"""Thread helpers of detection: a lock for readers and writers, and a prefetching iterator."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")


class ReadWriteLock:
    """A lock that any number of readers share, and that a writer has for itself.

    A writer waits until the present readers have left; readers that arrive later wait for the
    writer. A thread that writes may acquire the lock for writing again.
    """

    def __init__(self) -> None:
        self._entrance = threading.RLock()  # a writer keeps it, so that no reader can enter
        self._reader_count = 0
        self._reader_left = threading.Condition()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Share the lock with other readers inside a `with` block."""
        with self._entrance, self._reader_left:
            self._reader_count += 1
        try:
            yield
        finally:
            with self._reader_left:
                self._reader_count -= 1
                self._reader_left.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Exclude readers and other writers inside a `with` block."""
        with self._entrance:
            with self._reader_left:
                self._reader_left.wait_for(lambda: self._reader_count == 0)
            yield


def prefetch_one(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items of an iterable; a thread computes the next item while one is in use."""
    iterator = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(next, iterator, end)
        while (item := future.result()) is not end:
            future = executor.submit(next, iterator, end)
            yield item

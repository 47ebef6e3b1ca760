"""One thread that detects, and the bounded queue in front of it that makes batches."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from .errors import RequestError

log = logging.getLogger("mrcnn")

DetectBatch = Callable[[list[np.ndarray]], Sequence[Any]]


class Job(NamedTuple):
    """An image that waits for its detections."""

    image: np.ndarray
    future: Future


class BatchQueue:
    """Images are detected in the order of their arrival, several together.

    detect: gives one result per image; only the thread of the queue calls it.
    size: images in a batch. most: images in the queue.
    seconds: how long a batch that is not full waits for more, as long as `expects_more()`.
    """

    def __init__(
        self,
        detect: DetectBatch,
        size: int,
        most: int,
        seconds: float = 0.0,
        expects_more: Callable[[int], bool] = lambda waiting: True,
    ):
        self._detect = detect
        self._size = size
        self._most = most
        self._seconds = seconds
        self._expects_more = expects_more
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="mrcnn-detect", daemon=True)
        self._thread.start()

    def submit(self, image: np.ndarray) -> Future:
        """Queue an image; the future gets its result.

        Raises: RequestError 503 if the queue is full or closed.
        """
        job = Job(image, Future())
        with self._changed:
            if self._is_closed or len(self._jobs) >= self._most:
                raise RequestError(
                    503,
                    "The queue must have a place for the image. Received: "
                    f"{len(self._jobs)} of {self._most} are taken. Try again in a second.",
                )
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def busy_seconds(self) -> float:
        """How long the present batch has been running; 0 without one."""
        since = self._busy_since  # read once: the thread replaces it
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Refuse new images, detect those in the queue, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            jobs = self._next_batch()
            if not jobs:
                return
            wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            self._busy_since = time.monotonic()
            if wanted:
                self._answer(wanted)
            self._busy_since = None
            del jobs, wanted  # otherwise their images stay in memory until the next batch

    def _next_batch(self) -> list[Job]:
        """Wait for a batch; an empty one means that the queue is closed and empty."""
        with self._changed:
            while not self._jobs and not self._is_closed:
                self._changed.wait()
            deadline = time.monotonic() + self._seconds
            while self._is_worth_waiting():
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._changed.wait(remaining):
                    break
            count = min(self._size, len(self._jobs))
            return [self._jobs.popleft() for _ in range(count)]

    def _is_worth_waiting(self) -> bool:
        waiting = len(self._jobs)
        return not self._is_closed and waiting < self._size and self._expects_more(waiting)

    def _answer(self, jobs: list[Job]) -> None:
        """Give each job its result; the error of one image is that of its job only."""
        try:
            results = self._detect([job.image for job in jobs])
            answered = list(zip(jobs, results, strict=True))
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            log.debug("A batch failed; its images are detected one by one.", exc_info=True)
            for job in jobs:
                self._answer([job])
            return
        for job, result in answered:
            job.future.set_result(result)

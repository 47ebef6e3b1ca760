"""Workers as processes of this machine; one that is killed is replaced, and its block repeated."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from .block import Answer, BlockWorker, Task
from .devices import worker_environments
from .image_list import Block

log = logging.getLogger("mrcnn")

# Not fork: a copy of a process that has used TensorFlow hangs.
_CONTEXT = multiprocessing.get_context("spawn")
MOST_DEATHS = 10  # of workers in a row, without one block that was detected
STOP_SECONDS = 10


class Processes:
    """Runs the blocks of a job in processes of this machine."""

    def __init__(self, task: Task, count: int):
        """count: of processes."""
        self.task = task
        self.count = count
        self.workers: list[_Worker] = []
        self._deaths_in_a_row = 0

    def run(self, blocks: Iterable[Block], attempts: int) -> Generator[Answer, None, None]:
        """Yield an answer to each block, in the order in which they are finished.

        attempts: how often a block is tried whose worker is killed; then its answer is `lost`.

        Raises: ValueError if workers die and no block is detected.
        """
        schedule = _Schedule(blocks, attempts)
        workers = self.workers
        try:
            for environment in worker_environments(self.count):
                block = schedule.next()
                if block is not None:
                    workers.append(_Worker(self.task, environment, block))
            while workers:
                for worker in _ready(workers):
                    answer = worker.receive()
                    if answer is None:
                        self._log_death(worker)
                        answer = schedule.lost(worker.block)
                    else:
                        self._deaths_in_a_row = 0
                    self._continue(worker, schedule, workers)
                    if answer is not None:
                        yield answer
        except BaseException:
            for worker in workers:
                worker.process.kill()
            raise
        finally:
            for worker in workers:
                worker.stop()
            workers.clear()

    def _continue(self, worker: _Worker, schedule: _Schedule, workers: list[_Worker]) -> None:
        """Give a worker, or the one that replaces it, its next block; without one it stops."""
        block = schedule.next()
        if block is not None and worker.send(block):
            return
        workers.remove(worker)
        worker.stop()
        if block is not None:
            workers.append(_Worker(self.task, worker.environment, block))

    def _log_death(self, worker: _Worker) -> None:
        self._deaths_in_a_row += 1
        how = worker.exit_reason()
        if self._deaths_in_a_row >= MOST_DEATHS:
            raise ValueError(
                f"Workers must live until a block is detected. Received: {MOST_DEATHS} that ended "
                f"in a row, the last one {how}. Try fewer --workers if memory is short, or "
                "`mrcnn detect` for one of the images."
            )
        log.warning(
            "A worker ended (%s); its block of %d images is repeated by another one.",
            how,
            len(worker.block.names),
        )


class _Schedule:
    """Which block comes next: those of killed workers first."""

    def __init__(self, blocks: Iterable[Block], attempts: int):
        self._blocks = iter(blocks)
        self._repeated: deque[Block] = deque()
        self._attempts: Counter[int] = Counter()
        self._most_attempts = attempts

    def next(self) -> Block | None:
        if self._repeated:
            return self._repeated.popleft()
        return next(self._blocks, None)

    def lost(self, block: Block) -> Answer | None:
        """Repeat the block of a killed worker; or return its answer after too many attempts."""
        self._attempts[block.number] += 1
        if self._attempts[block.number] >= self._most_attempts:
            return Answer(block.number, lost=True)
        self._repeated.append(block)
        return None


class _Worker:
    """A process, the pipe to it and the block that it detects."""

    def __init__(self, task: Task, environment: dict[str, str], block: Block):
        self.environment = environment
        self.pipe, end = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_work, args=(end, task, environment), name="mrcnn worker", daemon=True
        )
        with _ignoring_interrupts():
            self.process.start()
        end.close()  # so that the death of the process ends the pipe
        self.send(block)

    def send(self, block: Block) -> bool:
        """Give the process a block. Returns: whether it can receive one."""
        self.block = block
        try:
            self.pipe.send(block)
        except OSError:
            return False
        return True

    def receive(self) -> Answer | None:
        """Return the answer to the block; None if the process has ended."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def exit_reason(self) -> str:
        """Return how the process ended."""
        self.process.join(STOP_SECONDS)
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def stop(self) -> None:
        """End the process, which has no block, and wait until it has ended."""
        self.pipe.close()
        self.process.join(STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Wait for answers and deaths; return the workers that have one."""
    pipes: Any = {worker.pipe: worker for worker in workers}
    return [pipes[pipe] for pipe in wait(list(pipes))]


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all of them.

    The first process then ends the others; they would each print a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# --- In the process of a worker -----------------------------------------------------------------


def _work(pipe: Connection, task: Task, environment: dict[str, str]) -> None:
    """Answer the blocks of a pipe until it is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    if "CUDA_VISIBLE_DEVICES" in environment:  # one of those that the user set
        os.environ["CUDA_VISIBLE_DEVICES"] = environment["CUDA_VISIBLE_DEVICES"]
    worker = BlockWorker(task)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(worker.answer(pipe.recv()))


def _end_with_parent() -> None:
    """End this process when the one that started it has ended, in the middle of a block."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""Workers as actors of Ray Data, on this machine or on a cluster."""

from __future__ import annotations

import functools
import json
import logging
import os
import time
import warnings
from collections.abc import Generator, Iterable
from typing import Any

from .block import Answer, BlockWorker, Task
from .devices import thread_environment
from .image_list import Block

log = logging.getLogger("mrcnn")

START_SECONDS = 600  # for the processes of Ray, on a machine that is busy
START_ATTEMPTS = 4
# Ray's defaults suit an idle machine; with them `ray.init` fails three times of four on a busy one.
_ENVIRONMENT = {
    "RAY_raylet_start_wait_time_s": str(START_SECONDS),
    "RAY_AUTH_MODE": "disabled",  # otherwise a token is written below the home folder
    "RAY_USAGE_STATS_ENABLED": "0",  # no report to Ray's makers
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


class RayActors:
    """Runs the blocks of a job in actors of Ray Data; Ray repeats the blocks of killed actors."""

    def __init__(self, task: Task, count: int | None, address: str | None):
        """Connect to a cluster, or start Ray on this machine.

        count: of actors; default: one for each GPU of the cluster, or for each machine without.
        address: of a cluster, such as "auto" or "ray.example:6379"; None for this machine.

        Raises: ValueError if Ray is not installed or does not start.
        """
        self.task = task
        self.ray = _import_ray()
        _start(self.ray, address)
        resources = self.ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        machines = sum(node["Alive"] for node in self.ray.nodes())
        self.count = count or gpus or machines
        self.num_gpus = min(1.0, gpus / self.count) if gpus else 0
        self.num_cpus = _cpus_of_actor(self.ray.nodes(), self.count)

    def run(self, blocks: Iterable[Block], attempts: int) -> Generator[Answer, None, None]:
        """Yield an answer to each block, in any order; `lost` if its actors died each time."""
        rows = [{"number": block.number, "names": json.dumps(block.names)} for block in blocks]
        missing = {row["number"] for row in rows}
        if not rows:
            return
        for row in self._dataset(rows, attempts).iter_rows():
            answer = Answer(**row)
            missing.discard(answer.number)
            yield answer
        for number in sorted(missing):
            yield Answer(number, lost=True)

    def _dataset(self, rows: list[dict[str, Any]], attempts: int) -> Any:
        data = self.ray.data
        context = data.DataContext.get_current()
        context.max_errored_blocks = -1  # those of killed actors are tried again by the job
        context.enable_progress_bars = False
        context.verbose_stats_logs = False
        # A block of Ray for each of ours: an actor that dies loses no other.
        dataset = data.from_items(rows, override_num_blocks=len(rows))
        with warnings.catch_warnings():  # of what pyproject.toml bounds Ray's version for
            warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")
            return dataset.map(
                Actor,
                fn_constructor_args=(self.task,),
                compute=data.ActorPoolStrategy(
                    # All at once: Ray adds no actor by itself to such short queues.
                    size=min(self.count, len(rows)),
                    max_tasks_in_flight_per_actor=1,  # a killed actor costs one block an attempt
                ),
                num_cpus=self.num_cpus,
                num_gpus=self.num_gpus,
                ray_remote_args_fn=functools.partial(_retries, attempts - 1),
            )


class Actor:
    """A `BlockWorker` as Ray Data calls it."""

    def __init__(self, task: Task):
        """task: small, for Ray keeps it for the actors that replace killed ones."""
        for name, value in thread_environment(_own_cpus()).items():
            os.environ.setdefault(name, value)
        self.worker = BlockWorker(task)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        block = Block(int(row["number"]), json.loads(row["names"]))
        return self.worker.answer(block)._asdict()


def _retries(count: int) -> dict[str, int]:
    """Return how Ray replaces killed actors and repeats their blocks: by default for ever."""
    return {"max_restarts": -1, "max_task_retries": count}


def _own_cpus() -> int:
    """Return the number of threads of this actor: its share of the processor."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS", "1")))


def _cpus_of_actor(nodes: list[dict[str, Any]], count: int) -> float:
    """Return the cores to reserve for each of `count` actors.

    Whole ones if there are enough, for an actor must fit on one machine; otherwise a fraction, so
    that no actor waits for ever.
    """
    cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    share = sum(cpus) / count
    if share < 1:
        return max(0.01, int(share * 100) / 100)
    smallest = min(number for number in cpus if number)
    return float(min(int(share), smallest))


def _import_ray() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # pyright: ignore[reportMissingImports]  (the extra [ray])
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "--ray needs the libraries of its extra. Received: an installation without them "
            f"({error}). Try pip install 'mask-rcnn-keras3[ray]'."
        ) from error
    return ray


def _start(ray: Any, address: str | None) -> None:
    """Connect to Ray, with several attempts at starting it on this machine."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            ray.init(
                address=address or "local",
                ignore_reinit_error=True,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:  # Ray raises errors of any type
            ray.shutdown()
            if address or attempt == START_ATTEMPTS:
                raise ValueError(
                    f"Ray must start. Received: {type(error).__name__}: {error}. Try again when "
                    "the machine is less busy, or --workers without --ray."
                ) from error
            log.warning("Ray did not start (%s); attempt %d follows.", error, attempt + 1)
            time.sleep(attempt)

"""A job in a folder: started or resumed, its blocks given to workers, its shards written."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..files.atomic import atomic_write, remove_parts
from . import shards
from .block import Answer, failed_row
from .image_list import Block, ImageList, write_names
from .progress import JobProgress

log = logging.getLogger("mrcnn")

DESCRIPTION, IMAGES, FAILED, LOCK = "job.json", "images.jsonl", "failed.jsonl", ".lock"
# Of job.json, not compared: the weights are known by their version.
INFORMATION = ("weights", "class_names")
ATTEMPTS = 3  # at a block whose worker is killed, before its images are detected one by one
ATTEMPTS_AT_ONE = 2  # at one image
MOST_IN_BLOCK = 100
BLOCKS_PER_WORKER = 4  # at least, so that no worker waits long for the last one
KILLED = (
    "An image must not end the process that detects it. Received: one that did so each time, "
    "{name}. Try `mrcnn detect` with it; perhaps its size needs more memory than there is."
)


class Runner(Protocol):
    """Workers that detect blocks: `processes.Processes` or `on_ray.RayActors`."""

    def run(self, blocks: Iterable[Block], attempts: int) -> Generator[Answer, None, None]:
        """Yield an answer to each block, in any order; `lost` after `attempts` deaths."""
        ...


class Finished(NamedTuple):
    """The counts at the end of a job."""

    images: int
    failed: int
    new_images: int  # of this run
    seconds: float  # of this run


class Job:
    """A job whose folder is prepared; see `prepare`."""

    def __init__(self, folder: Path):
        description = read_description(folder)
        self.folder = folder
        self.format: str = description["format"]
        self.images = ImageList(folder / IMAGES, description["block"])
        self.block_size: int = description["block"]

    def run(self, runner: Runner) -> Finished:
        """Detect all images that have no row yet, and write `failed.jsonl`.

        A shard is written when all its rows are there; so each image has one row at the end,
        whatever was killed.
        """
        done = shards.finished(self.folder)
        pending = [number for number in range(len(self.images)) if number not in done]
        lost: list[int] = []
        with JobProgress(self.images.count, self._count_images(done)) as progress:
            answers = runner.run(self.images.blocks(pending), ATTEMPTS)
            with contextlib.closing(answers):  # an error here also ends the workers
                for answer in map(_checked, answers):
                    if answer.lost:
                        lost.append(answer.number)
                    else:
                        self._write(answer, progress)
            if lost:
                self._run_one_by_one(lost, runner, progress)
            failed = self._write_failed()
            return Finished(self.images.count, failed, progress.new, progress.seconds())

    def _count_images(self, blocks: Iterable[int]) -> int:
        last = len(self.images) - 1
        size_of_last = self.images.count - last * self.block_size
        sizes = [size_of_last if number == last else self.block_size for number in blocks]
        return sum(sizes)

    def _write(self, answer: Answer, progress: JobProgress) -> None:
        path = shards.shard_path(self.folder, answer.number, self.format)
        shards.write_shard(path, answer.lines)
        progress.add(answer.images, answer.failed)

    def _run_one_by_one(self, lost: list[int], runner: Runner, progress: JobProgress) -> None:
        """Detect the images of blocks that killed their workers, each as a block of its own."""
        log.warning(
            "The images of %d blocks whose workers ended are detected one by one.", len(lost)
        )
        for number in lost:
            names = self.images.block(number).names
            lines: dict[int, bytes] = {}
            failed = 0
            single = [Block(i, [name]) for i, name in enumerate(names)]
            for answer in map(_checked, runner.run(single, ATTEMPTS_AT_ONE)):
                if answer.lost:
                    row = failed_row(names[answer.number], KILLED.format(name=names[answer.number]))
                    answer = Answer(answer.number, shards.to_lines([row]), 1, failed=1)
                lines[answer.number] = answer.lines
                failed += answer.failed
            joined = b"".join(lines[i] for i in range(len(names)))
            self._write(Answer(number, joined, len(names), failed), progress)

    def _write_failed(self) -> int:
        """Write the rows with an error into a file of their own, and return their number."""
        count = 0
        with atomic_write(self.folder / FAILED) as part, open(part, "wb") as file:
            for row in shards.failed_rows(self.folder):
                file.write(shards.to_lines([row]))
                count += 1
        return count


def _checked(answer: Answer) -> Answer:
    """Return an answer. Raises: ValueError with the reason if the model could not be loaded."""
    if answer.error:
        raise ValueError(answer.error)
    return answer


# --- The folder of a job ------------------------------------------------------------------------


def check_folder(
    folder: Path, description: dict[str, Any], resume: bool, block: int | None = None
) -> bool:
    """Whether a folder has a job that the arguments of `prepare` resume.

    Raises: ValueError if the folder has a job and `resume` is False, or if it is another job.
    """
    if not (folder / DESCRIPTION).exists():
        if (folder / shards.FOLDER).exists() and shards.finished(folder):
            raise ValueError(
                f"The folder of a job must have a {DESCRIPTION}. Received: {folder}, which has "
                "shards only. Try another folder."
            )
        return False
    if not resume:
        raise ValueError(
            f"A new job needs a folder of its own. Received: {folder}, which has one. "
            "Try --resume to finish that job, or another --out."
        )
    before = read_description(folder)
    now = _as_read(description)
    if block is not None:
        now["block"] = block
    for name, value in now.items():
        if name not in INFORMATION and before.get(name) != value:
            raise ValueError(
                f"A resumed job must be the same. Received: {name} {value}, which was "
                f"{before.get(name)} in {folder / DESCRIPTION}. Try the same command, or another "
                "--out."
            )
    return True


def prepare(
    folder: Path,
    description: dict[str, Any],
    names: Iterable[str],
    resume: bool,
    block: int | None = None,
    workers: int = 1,
) -> Job:
    """Return the job of a folder: a new one, or the one that was started there.

    description: what decides the rows: weights, settings, inputs, format; plain values for JSON.
    names: of the images; not read if the job is resumed.
    resume: continue the job in the folder, if there is one.
    block: images in a shard; default 100, or fewer so that each worker has several blocks.

    Raises: ValueError as `check_folder` does.
    """
    if check_folder(folder, description, resume, block):
        for place in (folder, folder / shards.FOLDER):
            remove_parts(place)
        return Job(folder)
    (folder / shards.FOLDER).mkdir(parents=True, exist_ok=True)
    count = write_names(folder / IMAGES, names)
    if block is None:
        block = max(1, min(MOST_IN_BLOCK, count // (BLOCKS_PER_WORKER * workers)))
    content = {**description, "block": block, "images": count}
    with atomic_write(folder / DESCRIPTION) as part:  # the last file: with it the job is started
        Path(part).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Job(folder)


def read_description(folder: Path) -> dict[str, Any]:
    """Return what `job.json` contains."""
    return json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))


def _as_read(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description as it is read again: tuples become lists."""
    return json.loads(json.dumps(description))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the folder of a job; the lock ends with this process.

    Raises: ValueError if another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two runs would do the work twice, but write the same rows
        yield
        return
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Only one process may work on a job. Received: {folder}, which another one uses. "
                "Try to wait for it, or another --out."
            ) from error
        yield
    finally:
        os.close(file)

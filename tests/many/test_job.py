"""A job: started, killed, resumed; every image has one row, in order."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_model import ERROR, KILL, NOTHING, FakeLoader, image_files, side_of

from mrcnn.many import job
from mrcnn.many.block import Answer, BlockWorker, Task
from mrcnn.many.processes import Processes
from mrcnn.many.shards import read_rows, shard_path

ROOT = Path(__file__).resolve().parents[2]


class InProcess:
    """A runner without processes. order: of the blocks. stop_after: blocks, then Ctrl-C.

    lost: values whose blocks kill their worker.
    """

    def __init__(self, tmp_path, order=1, stop_after=None, lost=()):
        self.worker = BlockWorker(Task(FakeLoader(str(tmp_path)), 1))
        self.order = order
        self.stop_after = stop_after
        self.lost = set(lost)
        self.detected = []
        self.attempts = []

    def run(self, blocks, attempts):
        self.attempts.append(attempts)
        for count, block in enumerate(list(blocks)[:: self.order]):
            if count == self.stop_after:
                raise KeyboardInterrupt
            if self.lost & set(block.names):
                yield Answer(block.number, lost=True)
                continue
            self.detected += block.names
            yield self.worker.answer(block)


def prepare(folder, names, resume=False, block=2, **changes):
    description = {"weights": "w.h5", "tta": (0.5,), "format": "jsonl", **changes}
    folder.mkdir(exist_ok=True)
    return job.prepare(folder, description, names, resume, block)


def check_rows(folder, names, values):
    rows = list(read_rows(folder))
    assert [row["file_name"] for row in rows] == list(names)
    sides = {None: "error", ERROR: "error", KILL: "error", NOTHING: None}
    assert [side_of(row) for row in rows] == [
        sides[value] if value in sides else value % 5 + 1 for value in values
    ]


def test_a_job_without_images(tmp_path):
    finished = prepare(tmp_path / "out", []).run(InProcess(tmp_path))
    assert finished[:3] == (0, 0, 0)
    assert list(read_rows(tmp_path / "out")) == []


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_rows_are_in_the_order_of_the_images(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    values = [10, None, 12, NOTHING, ERROR]
    names = image_files(tmp_path / "in", values)
    out = tmp_path / "out"
    finished = prepare(out, [*names, names[0]], format=format).run(InProcess(tmp_path, order=-1))
    assert finished[:3] == (5, 2, 5)
    check_rows(out, names, values)
    assert sorted(path.name for path in (out / "shards").iterdir()) == [
        f"00000{i}.{format}" for i in range(3)
    ]
    failed = [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in failed] == [names[1], names[4]]
    description = job.read_description(out)
    assert (description["block"], description["images"]) == (2, 5)


def test_a_resumed_job_detects_what_is_missing_only(tmp_path):
    values = [10, 11, 12, 13, 14, 15, 16]
    names = image_files(tmp_path / "in", values)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare(out, names).run(InProcess(tmp_path, stop_after=2))
    part = out / "shards" / ".000002.jsonl.999999999.0123abcd.part"  # of a killed process
    part.write_text('{"file_name": "half')
    rest = InProcess(tmp_path)
    finished = prepare(out, pytest.fail, resume=True).run(rest)  # the names are not asked for
    assert finished[:3] == (7, 0, 3)
    assert rest.detected == names[4:]
    check_rows(out, names, values)
    assert not part.exists()
    before = {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    nothing = InProcess(tmp_path)
    assert prepare(out, names, resume=True).run(nothing)[:3] == (7, 0, 0)
    assert nothing.detected == []
    assert {path: path.stat().st_mtime_ns for path in (out / "shards").iterdir()} == before


def test_a_job_that_was_killed_before_it_started_starts_again(tmp_path):
    names = image_files(tmp_path / "in", [10, 11])
    out = tmp_path / "out"
    out.mkdir()
    (out / "images.jsonl").write_text('"half')
    prepare(out, names, resume=True).run(InProcess(tmp_path))
    check_rows(out, names, [10, 11])


def test_another_job_in_the_folder_is_refused(tmp_path):
    names = image_files(tmp_path / "in", [10, 11])
    out = tmp_path / "out"
    prepare(out, names)
    with pytest.raises(ValueError, match="Try --resume"):
        prepare(out, names)
    prepare(out, names, resume=True, weights="./w.h5")  # a version says whether they are the same
    with pytest.raises(ValueError, match=r"tta \[0.8\], which was \[0.5\]"):
        prepare(out, names, resume=True, tta=(0.8,))
    with pytest.raises(ValueError, match="block 3, which was 2"):
        prepare(out, names, resume=True, block=3)
    (out / "job.json").unlink()
    shard_path(out, 0, "jsonl").touch()
    with pytest.raises(ValueError, match="which has shards only"):
        prepare(out, names, resume=True)


@pytest.mark.parametrize(
    ("images", "workers", "block"),
    [(0, 1, 1), (3, 1, 1), (40, 2, 5), (2000, 2, 100), (3200, 16, 50)],
)
def test_default_size_of_a_block(tmp_path, images, workers, block):
    names = (str(i) for i in range(images))
    made = job.prepare(tmp_path, {"format": "jsonl"}, names, False, None, workers)
    assert made.block_size == block


def test_images_of_lost_blocks_are_detected_one_by_one(tmp_path):
    values = [10, 11, KILL, 13, 14]
    names = image_files(tmp_path / "in", values)
    runner = InProcess(tmp_path, lost=[names[2]])
    finished = prepare(tmp_path / "out", names).run(runner)
    assert finished[:3] == (5, 1, 5)
    check_rows(tmp_path / "out", names, values)
    assert runner.attempts == [job.ATTEMPTS, job.ATTEMPTS_AT_ONE]
    (row,) = [row for row in read_rows(tmp_path / "out") if "error" in row]
    assert row["error"].startswith("An image must not end the process that detects it.")


def test_a_model_that_cannot_be_loaded_ends_the_job(tmp_path):
    runner = InProcess(tmp_path)
    runner.worker.error = "The weights must fit."
    with pytest.raises(ValueError, match="The weights must fit"):
        prepare(tmp_path / "out", ["a.png"]).run(runner)
    assert list(read_rows(tmp_path / "out")) == []


def test_an_image_that_kills_its_process_becomes_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "ATTEMPTS", 1)
    monkeypatch.setattr(job, "ATTEMPTS_AT_ONE", 1)
    values = [10, KILL, 12]
    names = image_files(tmp_path / "in", values)
    task = Task(FakeLoader(str(tmp_path)), 1)
    finished = prepare(tmp_path / "out", names).run(Processes(task, 1))
    assert finished[:3] == (3, 1, 3)
    check_rows(tmp_path / "out", names, values)


def test_one_process_works_on_a_job(tmp_path):
    pytest.importorskip("fcntl")
    with (
        job.locked(tmp_path),
        pytest.raises(ValueError, match="which another one uses"),
        job.locked(tmp_path),
    ):
        pass
    with job.locked(tmp_path):
        pass


DRIVER = """
import sys
from pathlib import Path
from fake_model import FakeLoader
from mrcnn.many import job
from mrcnn.many.block import Task
from mrcnn.many.processes import Processes

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    prepared = job.prepare(Path(folder), {"format": "jsonl"}, names, True, 3)
    runner = Processes(Task(FakeLoader(folder, 0.01), 1), 2)
    with job.locked(Path(folder)):
        print("finished", prepared.run(runner).images)
"""


@pytest.mark.parametrize(
    "shards_before_kill", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 8))]
)
def test_a_killed_driver_loses_and_doubles_nothing(tmp_path, shards_before_kill):
    values = [10 + i for i in range(40)]
    names = image_files(tmp_path / "in", values)
    out = tmp_path / "out"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    paths = [str(ROOT), str(ROOT / "tests" / "many")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(script), str(out), *names]
    driver = subprocess.Popen(command, env=environment)
    end = time.time() + 60
    while not (out / "job.json").exists() or count(out) < shards_before_kill:
        assert time.time() < end and driver.poll() is None
        time.sleep(0.002)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    written = count(out)
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "finished 40\n"), done.stderr
    assert written < 14 and count(out) == 14  # 40 images in blocks of 3
    check_rows(out, names, values)


def count(out):
    return len(list((out / "shards").glob("*.jsonl")))

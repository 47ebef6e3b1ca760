"""Workers as processes: every block is answered, whichever process is killed."""

import contextlib
import os
import signal

import pytest
from fake_model import KILL, KILL_ONCE, FakeLoader, image_files, side_of

from mrcnn.many import processes
from mrcnn.many.block import Task
from mrcnn.many.image_list import Block
from mrcnn.many.processes import Processes
from mrcnn.many.shards import from_lines


def blocks_of(names, size=2):
    parts = [names[start : start + size] for start in range(0, len(names), size)]
    return [Block(i, part) for i, part in enumerate(parts)]


def run(tmp_path, blocks, count=2, attempts=3, **options):
    task = Task(FakeLoader(str(tmp_path), **options), 1)
    answers = list(Processes(task, count).run(iter(blocks), attempts))
    return sorted(answers, key=lambda answer: answer.number)


def test_no_blocks_no_processes(tmp_path):
    assert run(tmp_path, []) == []


def test_a_killed_process_loses_and_doubles_nothing(tmp_path, caplog):
    values = [10, 11, 12, KILL_ONCE, 13, 14, 15]
    names = image_files(tmp_path / "in", values)
    answers = run(tmp_path, blocks_of(names))
    assert [answer.number for answer in answers] == [0, 1, 2, 3]
    rows = [row for answer in answers for row in from_lines(answer.lines)]
    assert [row["file_name"] for row in rows] == names
    assert [side_of(row) for row in rows] == [value % 5 + 1 for value in values]
    assert "A worker ended (SIGKILL); its block of 2 images is repeated" in caplog.text


def test_a_block_that_kills_each_time_is_lost_and_the_others_follow(tmp_path):
    names = image_files(tmp_path / "in", [10, KILL, 12, 13])
    answers = run(tmp_path, blocks_of(names), count=1, attempts=2)
    assert [answer.lost for answer in answers] == [True, False]
    assert [side_of(row) for row in from_lines(answers[1].lines)] == [3, 4]


def test_workers_that_only_die_end_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "MOST_DEATHS", 2)
    names = image_files(tmp_path / "in", [KILL] * 8)
    with pytest.raises(ValueError, match="2 that ended in a row, the last one SIGKILL"):
        run(tmp_path, blocks_of(names, size=1), count=1, attempts=3)


def test_a_model_that_cannot_be_loaded_is_the_answer(tmp_path):
    (answer,) = run(tmp_path, blocks_of(["a.png"]), broken=True)
    assert answer.error == "ValueError: The weights must fit. Received: others."


def test_a_caller_that_stops_ends_the_processes(tmp_path):
    names = image_files(tmp_path / "in", [10] * 20)
    task = Task(FakeLoader(str(tmp_path), seconds=0.2), 1)
    runner = Processes(task, 2)
    with contextlib.closing(runner.run(iter(blocks_of(names, 1)), 3)) as answers:
        next(answers)
        ids = [worker.process.pid for worker in runner.workers]
    assert len(ids) == 2
    for process_id in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)


def test_interrupts_are_handled_again_after_the_start(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run(tmp_path, blocks_of(image_files(tmp_path / "in", [10])))
    assert signal.getsignal(signal.SIGINT) is before

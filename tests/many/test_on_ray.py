"""Actors of Ray: resources, start, and, if Ray is installed, a job whose actors are killed."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_model import KILL, KILL_ONCE, FakeLoader, image_files, loads, side_of

from mrcnn.many import job, on_ray
from mrcnn.many.block import Task
from mrcnn.many.image_list import Block
from mrcnn.many.shards import from_lines, read_rows


def node(cpus, alive=True):
    return {"Alive": alive, "Resources": {"CPU": cpus} if cpus else {}}


@pytest.mark.parametrize(
    ("nodes", "count", "cpus"),
    [
        ([node(2)], 2, 1),
        ([node(8)], 3, 2),  # 8 / 3, whole
        ([node(16), node(4)], 2, 4),  # 20 / 2 = 10 would not fit on the second machine
        ([node(2)], 8, 0.25),
        ([node(2), node(0), node(64, alive=False)], 1, 2),
    ],
)
def test_an_actor_fits_on_every_machine(nodes, count, cpus):
    assert on_ray._cpus_of_actor(nodes, count) == cpus


class FakeRay:
    """Starts after `failures` errors, on a cluster of two machines, one with two GPUs."""

    def __init__(self, failures=0, gpus=0):
        self.failures = failures
        self.gpus = gpus
        self.starts = []

    def init(self, **options):
        self.starts.append(options)
        if len(self.starts) <= self.failures:
            raise RuntimeError("node timed out during startup")

    def shutdown(self):
        pass

    def cluster_resources(self):
        return {"CPU": 12.0, **({"GPU": float(self.gpus)} if self.gpus else {})}

    def nodes(self):
        return [node(8), node(4)]


def actors(monkeypatch, ray, count=None, address=None):
    monkeypatch.setattr(on_ray, "_import_ray", lambda: ray)
    monkeypatch.setattr(on_ray.time, "sleep", lambda seconds: None)
    return on_ray.RayActors(Task(None, 1), count, address)


def test_one_actor_for_each_gpu_or_machine(monkeypatch):
    on_cpus = actors(monkeypatch, FakeRay())
    assert (on_cpus.count, on_cpus.num_cpus, on_cpus.num_gpus) == (2, 4, 0)
    on_gpus = actors(monkeypatch, FakeRay(gpus=3))
    assert (on_gpus.count, on_gpus.num_cpus, on_gpus.num_gpus) == (3, 4, 1)
    sharing = actors(monkeypatch, FakeRay(gpus=3), count=6)
    assert (sharing.count, sharing.num_cpus, sharing.num_gpus) == (6, 2, 0.5)


def test_a_local_start_is_tried_again(monkeypatch, caplog):
    ray = FakeRay(failures=3)
    actors(monkeypatch, ray)
    assert [start["address"] for start in ray.starts] == ["local"] * 4
    assert "attempt 4 follows" in caplog.text
    with pytest.raises(ValueError, match="Ray must start. Received: RuntimeError: node timed out"):
        actors(monkeypatch, FakeRay(failures=4))


def test_a_cluster_is_asked_once(monkeypatch):
    ray = FakeRay(failures=1)
    with pytest.raises(ValueError, match="Ray must start"):
        actors(monkeypatch, ray, address="10.0.0.1:6379")
    assert [start["address"] for start in ray.starts] == ["10.0.0.1:6379"]


def test_missing_libraries_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"mask-rcnn-keras3\[ray\]"):
        on_ray._import_ray()


def test_rows_without_an_answer_are_lost(monkeypatch, tmp_path):
    runner = actors(monkeypatch, FakeRay())
    (name,) = image_files(tmp_path, [12])
    actor = on_ray.Actor(Task(FakeLoader(str(tmp_path)), 1))
    row = actor({"number": 1, "names": json.dumps([name])})
    monkeypatch.setattr(runner, "_dataset", lambda *_: SimpleNamespace(iter_rows=lambda: [row]))
    blocks = [Block(i, [name]) for i in range(3)]
    answers = list(runner.run(blocks, 3))
    assert [(answer.number, answer.lost) for answer in answers] == [
        (1, False),
        (0, True),
        (2, True),
    ]
    assert [side_of(row) for row in from_lines(answers[0].lines)] == [3]


@pytest.fixture(scope="module")
def ray():
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    with pytest.MonkeyPatch.context() as patch:
        # The actors import `fake_model` as well.
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
        yield
        on_ray._import_ray().shutdown()


def test_killed_actors_lose_and_double_nothing(ray, tmp_path):
    values = [10, 11, KILL_ONCE, 13, 14, 15, KILL, 17]
    names = image_files(tmp_path / "in", values)
    out = tmp_path / "out"
    out.mkdir()
    prepared = job.prepare(out, {"format": "jsonl"}, names, False, 2)
    runner = on_ray.RayActors(Task(FakeLoader(str(tmp_path)), 1), 2, None)
    finished = prepared.run(runner)
    assert finished[:3] == (8, 1, 8)
    rows = list(read_rows(out))
    assert [row["file_name"] for row in rows] == names
    expected = ["error" if value == KILL else value % 5 + 1 for value in values]
    assert [side_of(row) for row in rows] == expected


def test_every_actor_works(ray, tmp_path):
    names = image_files(tmp_path / "in", range(10, 14))
    task = Task(FakeLoader(str(tmp_path), together=2), 1)
    blocks = [Block(i, [name]) for i, name in enumerate(names)]
    answers = list(on_ray.RayActors(task, 2, None).run(blocks, 3))
    assert sorted(answer.number for answer in answers) == list(range(4))
    assert loads(tmp_path) == 2


def test_a_model_that_cannot_be_loaded_is_the_answer(ray, tmp_path):
    task = Task(FakeLoader(str(tmp_path), broken=True), 1)
    runner = on_ray.RayActors(task, 1, None)
    (answer,) = runner.run([Block(0, ["a.png"])], 3)
    assert answer.error == "ValueError: The weights must fit. Received: others."

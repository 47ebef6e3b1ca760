"""`mrcnn detect-many`: the model of the workers, the job, messages and exit codes."""

import json
import sys

import pytest
from command_line import InProcess, StubModel, image_file, run

from mrcnn.app import cli, detect_command, detect_many_command
from mrcnn.many import shards


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The stub that the workers load, and a weight file without contents."""
    stub = StubModel()
    weights = tmp_path / "w.h5"
    weights.write_bytes(b"weights")
    changes = {
        "check_weights": lambda weights: None,
        "config_for_use": lambda weights, items: None,
        "load_for_use": lambda weights, items: (stub, stub.class_names),
        "read_metadata": lambda weights: {"class_names": stub.class_names},
        "Processes": InProcess,
        "set_up_logging": lambda: None,
        "set_up_libraries": lambda: None,
    }
    for name, change in changes.items():
        monkeypatch.setattr(detect_many_command, name, change)
    monkeypatch.setattr(detect_command, "check_model", changes["check_weights"])
    loaded = (stub, stub.class_names)
    monkeypatch.setattr(detect_command, "load_to_detect", lambda *_: loaded)
    return stub


def many(tmp_path, *words):
    weights = ("--weights", tmp_path / "w.h5", "--out", tmp_path / "out")
    return run("detect-many", *words, *weights)


def detected(out):
    """The entries of detections.json, as rows of shards."""
    entries = json.loads((out / "detections.json").read_text())["images"]
    return [{key: entry[key] for key in entry if key != "picture"} for entry in entries]


def test_rows_are_the_entries_of_detect(model, tmp_path, capsys):
    image_file(tmp_path / "in" / "b.png")
    image_file(tmp_path / "in" / "a.png", square=False)
    assert many(tmp_path, tmp_path / "in", "--min-confidence", 0.25) == cli.OK
    rows = list(shards.read_rows(tmp_path / "out"))
    assert model.floors == [0.25, 0.25]
    assert f"2 images: a row for each in {tmp_path / 'out' / 'shards'}" in capsys.readouterr().out
    assert run("detect", tmp_path / "in", "--weights", "w.h5", "--out", tmp_path / "one") == cli.OK
    assert rows == detected(tmp_path / "one")
    description = json.loads((tmp_path / "out" / "job.json").read_text())
    assert description["class_names"] == ["BG", "dark", "bright"]
    assert (description["images"], description["min_confidence"]) == (2, 0.25)
    assert len(description["weights_version"]) == 12


def test_bad_images_are_counted(model, tmp_path, capsys):
    image_file(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    assert many(tmp_path, tmp_path / "in") == cli.OK
    assert f"1 of 2 images have an error as row, see {tmp_path}" in capsys.readouterr().err
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    words = ("--weights", tmp_path / "w.h5", "--out", tmp_path / "second")
    assert run("detect-many", tmp_path / "in", *words) == cli.FAILED
    assert "2 of 2 images have an error as row" in capsys.readouterr().err


def test_ctrl_c_then_resume(model, tmp_path, capsys, monkeypatch):
    for i in range(4):
        image_file(tmp_path / "in" / f"{i}.png")
    words = (tmp_path / "in", "--block", 1)
    monkeypatch.setattr(InProcess, "stop_after", 2)
    assert many(tmp_path, *words) == cli.INTERRUPTED
    assert "the same command with --resume finishes the job" in capsys.readouterr().err
    monkeypatch.setattr(InProcess, "stop_after", None)
    assert many(tmp_path, *words) == cli.FAILED
    assert "Try --resume to finish that job" in capsys.readouterr().err
    (tmp_path / "w.h5").write_bytes(b"other weights")
    assert many(tmp_path, *words, "--resume") == cli.FAILED
    assert "A resumed job must be the same. Received: weights_version" in capsys.readouterr().err
    (tmp_path / "w.h5").write_bytes(b"weights")
    assert many(tmp_path, *words, "--resume") == cli.OK
    names = [row["file_name"] for row in shards.read_rows(tmp_path / "out")]
    assert names == [str(tmp_path / "in" / f"{i}.png") for i in range(4)]
    assert len(model.floors) == 4  # images that were detected, each once


def test_workers_need_the_weights_of_the_command(model, tmp_path, capsys):
    loader = detect_many_command.WorkerLoader(arguments(tmp_path), version="0" * 12)
    with pytest.raises(ValueError, match="All workers must have the same weights"):
        loader.load()


def test_a_region_proposal_network_is_refused(model, tmp_path, capsys):
    image_file(tmp_path / "a.png")
    model.config.RPN_ONLY = True
    assert many(tmp_path, tmp_path / "a.png") == cli.FAILED
    assert "need a network that knows classes" in capsys.readouterr().err


def arguments(tmp_path, *words):
    """The parsed words of a command."""
    required = ["detect-many", "a.png", "--weights", str(tmp_path / "w.h5"), "--out", "out"]
    return cli.build_parser().parse_args([*required, *words])


def test_paths_of_the_loader_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.h5").touch()
    (tmp_path / "c.json").touch()
    args = arguments(tmp_path, "--config", "c.json", "NUM_CLASSES=3")
    args.weights = "w.h5"
    loader = detect_many_command.WorkerLoader(args, "")
    assert loader.weights == str(tmp_path / "w.h5")
    assert loader.config == [str(tmp_path / "c.json"), "NUM_CLASSES=3"]
    args.weights = "coco"  # a name of released weights
    assert detect_many_command.WorkerLoader(args, "").weights == "coco"


def test_workers_are_the_gpus_or_one(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(detect_many_command, "Processes", lambda task, count: made.append(count))
    monkeypatch.setattr(detect_many_command, "gpu_names", lambda: ["0", "1"])
    for words in ((), ("--workers", "5")):
        detect_many_command.make_runner(arguments(tmp_path, *words), None)
    monkeypatch.setattr(detect_many_command, "gpu_names", list)
    detect_many_command.make_runner(arguments(tmp_path), None)
    assert made == [2, 5, 1]


def test_ray_without_its_extra_is_named(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    image_file(tmp_path / "a.png")
    assert many(tmp_path, tmp_path / "a.png", "--ray") == cli.FAILED
    assert "mask-rcnn-keras3[ray]" in capsys.readouterr().err

"""`mrcnn evaluate --workers` measures what the command without workers measures."""

import json
import pickle

import numpy as np
import pytest
from command_line import InProcess, run, via_file
from kinds import KINDS
from PIL import Image

from mrcnn.app import cli, detect_many_command, evaluate_workers
from mrcnn.many.processes import Processes


@pytest.fixture
def command(model, tmp_path, monkeypatch):
    """`command(*words)`: evaluate three images, of which the second has no object."""
    weights = tmp_path / "w.h5"
    weights.write_bytes(b"weights")
    folder = via_file(tmp_path / "val", ["bright"], count=3)
    for i in range(3):
        image = np.zeros((64, 64, 3), np.uint8)
        image[3:6, 2:6] = 0 if i == 1 else 255
        Image.fromarray(image).save(folder / f"{i}.png")
    monkeypatch.setattr(evaluate_workers, "network_config", lambda *_: model.config)
    for name in ("set_up_logging", "set_up_libraries"):
        monkeypatch.setattr(detect_many_command, name, lambda: None)
    loaded = (model, model.class_names)
    monkeypatch.setattr(detect_many_command, "load_for_use", lambda *_: loaded)
    monkeypatch.setattr(detect_many_command, "Processes", InProcess)
    monkeypatch.setattr("mrcnn.app.evaluate_command.network_config", lambda *_: model.config)

    def evaluate(out, *words):
        model.config.DETECTION_MIN_CONFIDENCE = 0.7
        return run("evaluate", folder, "--weights", weights, "--out", tmp_path / out, *words)

    return evaluate


def metrics(folder):
    content = json.loads((folder / "metrics.json").read_text())
    del content["seconds"]
    return content


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_metrics_are_those_without_workers(command, tmp_path, capsys):
    assert command("plain") == cli.OK
    assert command("many", "--workers", 2) == cli.OK
    assert metrics(tmp_path / "many") == metrics(tmp_path / "plain")


def test_drawings_are_those_without_workers(command, tmp_path, capsys):
    assert command("plain", "--pictures", "--limit", 2) == cli.OK
    assert command("many", "--pictures", "--limit", 2, "--workers", 1) == cli.OK
    for name in ("0000_0.png", "0001_1.png"):
        plain, many = (Image.open(tmp_path / folder / name) for folder in ("plain", "many"))
        np.testing.assert_array_equal(np.asarray(plain), np.asarray(many))


def test_resumed_evaluation_detects_the_rest(command, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(InProcess, "stop_after", 1)
    assert command("many", "--workers", 1) == cli.INTERRUPTED
    assert not (tmp_path / "many" / "metrics.json").exists()
    monkeypatch.setattr(InProcess, "stop_after", None)
    assert command("many", "--workers", 1, "--resume") == cli.OK
    assert len(model.floors) == 3  # images, each detected once
    assert command("many", "--workers", 1, "--resume", "--limit", 2) == cli.FAILED
    assert "limit 2, which was None" in capsys.readouterr().err
    assert command("many", "--workers", 1) == cli.OK
    assert len(model.floors) == 6  # without --resume all of them again


def test_an_image_that_cannot_be_detected_is_named(command, model, tmp_path, capsys, monkeypatch):
    detect = model.detect

    def broken(images, **options):
        if images[0].max() == 0:
            raise RuntimeError("no object")
        return detect(images, **options)

    monkeypatch.setattr(model, "detect", broken)
    assert command("many", "--workers", 1) == cli.FAILED
    assert "1 of 3 images failed" in capsys.readouterr().err
    (failed,) = metrics(tmp_path / "many")["failed"]
    assert failed["error"].startswith("RuntimeError: no object")


def test_proposals_need_a_command_without_workers(command, model, tmp_path, capsys):
    model.config.RPN_ONLY = True
    assert command("many", "--workers", 1) == cli.FAILED
    assert "Try without --workers" in capsys.readouterr().err


def test_rows_keep_every_bit_of_a_result():
    rois = np.array([[0.1, 1 / 3, 7.123456, 9]], np.float32)
    arrays = {
        "rois": rois,
        "class_ids": np.array([2], np.int32),
        "scores": np.array([1 / 3], np.float32),
        "keypoints": np.array([[[0.1, 0.2, -5.3]]], np.float32),
        "masks": [{"size": [10, 10], "counts": "x"}],
    }
    empty = {name: value[:0] for name, value in arrays.items()}
    empty["keypoints"] = np.zeros((0, 0, 3), np.float32)  # the number of keypoints is not known
    for result in (arrays, empty):
        row = evaluate_workers.DatasetLoader.row(None, result, [])
        back = evaluate_workers._result(json.loads(json.dumps(row)))
        assert set(back) == set(result) and back["masks"] == result["masks"]
        for name in ("class_ids", "scores", "keypoints"):
            np.testing.assert_array_equal(back[name], result[name])
            assert back[name].dtype == result[name].dtype
        np.testing.assert_array_equal(back["rois"], result["rois"])


def test_a_loader_is_small_and_can_be_sent_to_a_worker(command, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(
        detect_many_command, "Processes", lambda task, count: sent.append(task) or Stop()
    )
    assert command("many", "--workers", 3) == cli.INTERRUPTED
    data = pickle.dumps(sent[0])
    assert len(data) < 5000
    loader = pickle.loads(data).loader
    assert loader.measured.data == str(tmp_path / "val")
    assert loader.measured.open().num_images == 3


class Stop(Processes):
    """Workers that are interrupted at once."""

    def __init__(self):
        pass

    def run(self, blocks, attempts):
        raise KeyboardInterrupt


def test_options_that_ask_for_workers():
    parse = cli.build_parser().parse_args
    words = ["evaluate", "data", "--weights", "w.h5"]
    assert not evaluate_workers.wants_workers(parse(words))
    for more in (["--ray"], ["--workers", "2"], ["--address", "auto"]):
        assert evaluate_workers.wants_workers(parse([*words, *more]))

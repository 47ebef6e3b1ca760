"""--weights and --runtime of detect and evaluate: networks and exported files."""

import json

import numpy as np
import pytest
from command_line import StubModel, image_file, no_tensorflow, run

from mrcnn.app import cli, cli_support, model_option
from mrcnn.config import Config
from mrcnn.inference import runtimes
from mrcnn.inference.runtimes import ExportedFile

IMAGE = np.zeros((30, 40, 3), np.uint8)


def description():
    config = Config()
    config.NUM_CLASSES, config.USE_MASK = 3, False
    wanted = {"batch": None, "height": None, "width": None}
    names = ["BG", "dark", "bright"]
    return {"config": config.to_dict(), "class_names": names, "input": wanted}


@pytest.fixture
def onnx_file(monkeypatch, tmp_path):
    """A file `w.onnx` whose runtime finds one box of class 2 in every image."""

    def find(images):
        return {
            "boxes": np.float32([[[5, 20, 15, 30]]]),
            "class_ids": np.int32([[2]]),
            "scores": np.float32([[0.9]]),
            "count": np.int32([1]),
        }

    kind = runtimes.FORMATS["onnx"]
    fake = kind._replace(module="json", open=lambda path: ExportedFile(find, description()))
    monkeypatch.setitem(runtimes.FORMATS, "onnx", fake)
    path = tmp_path / "w.onnx"
    path.touch()
    return path


def test_detect_with_an_exported_file_loads_no_tensorflow(onnx_file, tmp_path, monkeypatch):
    no_tensorflow(monkeypatch)
    image_file(tmp_path / "in" / "a.png")
    words = ("--weights", onnx_file, "--out", tmp_path / "out", "--runtime", "onnxruntime")
    assert run("detect", tmp_path / "in", *words) == cli.OK
    (entry,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    (found,) = entry["detections"]
    assert (found["class_name"], found["box"]) == ("bright", [5, 20, 15, 30])
    assert (tmp_path / "out" / entry["picture"]).is_file()


def test_debug_says_what_the_exported_file_takes(onnx_file, tmp_path, capsys):
    image_file(tmp_path / "a.png")
    words = ("--weights", onnx_file, "--out", tmp_path / "out", "--debug")
    assert run("detect", tmp_path / "a.png", *words) == cli.OK
    assert "w.onnx: mask_rcnn in float32 by onnxruntime, 0.0 MB, " in capsys.readouterr().err


def test_missing_file_is_named(tmp_path, capsys):
    image_file(tmp_path / "a.png")
    words = ("--weights", tmp_path / "none.onnx", "--out", tmp_path / "out")
    assert run("detect", tmp_path / "a.png", *words) == cli.FAILED
    assert "--weights must be a file. Received: " in capsys.readouterr().err


def test_runtime_of_another_format_is_refused(onnx_file):
    with pytest.raises(cli_support.UsageError, match="openvino, and .*w.onnx for onnxruntime"):
        model_option.load_to_detect(str(onnx_file), [], "openvino")


def test_settings_of_the_graph_cannot_change(onnx_file):
    model, names = model_option.load_to_detect(str(onnx_file), ["DETECTION_MIN_CONFIDENCE=0.95"])
    assert names == ["BG", "dark", "bright"] and model.detect([IMAGE])[0].count == 0
    with pytest.raises(cli_support.UsageError, match="cannot change DETECTION_NMS_THRESHOLD of an"):
        model_option.load_to_detect(str(onnx_file), ["DETECTION_NMS_THRESHOLD=0.9"])


def test_weight_file_is_exported_for_another_runtime(onnx_file, monkeypatch, tmp_path):
    asked = []

    class Exportable(StubModel):
        def export(self, path, format):
            asked.append((path.name, format))
            path.touch()
            return type("Report", (), {"path": path})

    stub = Exportable()
    monkeypatch.setattr(model_option, "load_for_use", lambda *_: (stub, stub.class_names))
    weights = tmp_path / "w.h5"
    model, names = model_option.load_to_detect(str(weights), [], "onnxruntime")
    assert asked == [("w.onnx", "onnx")] and names == stub.class_names
    assert model.detect([IMAGE])[0].labels == ["bright"]
    same, _ = model_option.load_to_detect(str(weights), [], "tensorflow")
    assert same is stub


def test_runtime_that_is_not_installed_is_named(monkeypatch, tmp_path):
    kind = runtimes.FORMATS["litert"]._replace(module="no_such_module")
    monkeypatch.setitem(runtimes.FORMATS, "litert", kind)
    with pytest.raises(cli_support.UsageError, match="--runtime litert needs its package"):
        model_option.load_to_detect(str(tmp_path / "w.h5"), [], "litert")


def test_names_of_the_parser_are_those_of_the_table():
    assert set(cli.RUNTIMES) == set(runtimes.RUNTIMES)

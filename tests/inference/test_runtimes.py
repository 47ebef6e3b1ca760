"""The runtimes of exported files: formats by name, and measurements without a real file."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mrcnn.inference import runtimes


def test_format_is_known_by_the_name_or_the_files_of_a_folder(tmp_path):
    for folder, name in (("a", "model.xml"), ("b", "saved_model.pb")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    assert runtimes.format_of("x/shapes.onnx") == "onnx"
    assert runtimes.format_of("shapes.tflite") == "litert"
    assert runtimes.format_of(tmp_path / "a") == "openvino"
    assert runtimes.format_of(tmp_path / "b") == "saved_model"
    with pytest.raises(ValueError, match="Try `mrcnn export`"):
        runtimes.format_of(tmp_path)


def test_outputs_and_measurements_are_written(tmp_path, monkeypatch):
    def open_fake(path):
        return runtimes.ExportedFile(lambda images: {"count": images.sum(axis=(1, 2, 3))}, {})

    kind = runtimes.FORMATS["onnx"]._replace(module="json", open=open_fake)
    monkeypatch.setitem(runtimes.FORMATS, "onnx", kind)
    batches = [np.ones((2, 3, 3, 3), np.uint8), np.zeros((1, 5, 4, 3), np.uint8)]
    np.savez(tmp_path / "images.npz", batch_0=batches[0], batch_1=batches[1])
    runtimes.main("a.onnx", str(tmp_path / "images.npz"), str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as found:
        assert found["0/count"].tolist() == [27, 27] and found["1/count"].tolist() == [0]
        measured = json.loads(str(found["measured"]))
    assert set(measured) == {"start", "ms", "memory"}


def test_missing_runtime_and_unreadable_file_are_named(tmp_path, monkeypatch):
    kind = runtimes.FORMATS["onnx"]
    monkeypatch.setitem(runtimes.FORMATS, "onnx", kind._replace(module="no_such_module"))
    assert not runtimes.is_installed("onnxruntime")
    with pytest.raises(ImportError, match="a.onnx needs onnxruntime, which is not installed"):
        runtimes.open_file("a.onnx")

    def fail(path):
        raise RuntimeError("Protobuf parsing failed.\nat line 3")

    monkeypatch.setitem(runtimes.FORMATS, "onnx", kind._replace(module="json", open=fail))
    with pytest.raises(ValueError, match="Received: a.onnx, of which it says: Protobuf .* failed"):
        runtimes.open_file("a.onnx")


def test_memory_is_that_of_the_process_and_not_of_its_parent():
    filled = np.ones(100_000_000, np.uint8)  # 95 MB
    code = f"import runpy; print(runpy.run_path({runtimes.__file__!r})['peak_memory']())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 5 < float(done.stdout) < filled.nbytes / 2**20 + 5 or sys.platform != "linux"
    assert runtimes.peak_memory() > 95


def test_file_imports_nothing_of_the_package():
    with open(runtimes.__file__, encoding="utf-8") as file:
        assert not [line for line in file if line.startswith(("from .", "from mrcnn", "import mr"))]

"""`mrcnn benchmark`: the table of runtimes, and what becomes of those that cannot run."""

import json

import numpy as np
import pytest
from command_line import StubModel, image_file, run

from mrcnn.app import benchmark_command, cli
from mrcnn.export.compare import LIMITS, Agreement
from mrcnn.export.report import Report
from mrcnn.inference import runtimes
from mrcnn.inference.exported_model import Shape

MEASURED = {"start": 0.5, "ms": 20.0, "memory": 100.0}


@pytest.fixture
def network(monkeypatch, tmp_path):
    """A network that ONNX Runtime runs; OpenVINO's file disagrees, LiteRT is not installed."""

    class Exportable(StubModel):
        def export(self, path, format, precision, size, batch, images):
            if format == "openvino":
                raise ValueError("An exported file must find what detect() finds.")
            agreement = Agreement(1, 0.5, 3, 1.0, 0.01, 1e-6, 0.999, None)
            found = {"format": format, "precision": precision}
            return Report(path, found, agreement, LIMITS["float32"], 2_500_000, MEASURED, 30.0)

    stub = Exportable()
    monkeypatch.setattr(benchmark_command, "load_for_use", lambda *_: (stub, stub.class_names))
    monkeypatch.setattr(benchmark_command, "check_model", lambda *_: None)
    monkeypatch.setattr(benchmark_command, "is_installed", lambda name: name != "litert")
    return image_file(tmp_path / "a.png")


def test_table_has_detect_and_each_installed_runtime(network, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("benchmark", "w.h5", "--images", network, "--out", out) == cli.OK
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split()[0] == "runtime"
    names = [line.split()[0].rstrip(",") for line in lines[1:5]]
    assert names == ["detect", "tensorflow", "onnxruntime", "openvino"]
    assert lines[3].split()[:7] == ["onnxruntime,", "float32", "20.0", "50.00", "0.5", "100", "2.5"]
    assert lines[4].split()[2:7] == ["-"] * 5 and lines[4].endswith("no file, see above")
    assert "openvino: An exported file must find what detect() finds." in printed.err
    rows = json.loads((out / "benchmark.json").read_text())["rows"]
    assert [row["name"] for row in rows][:2] == ["detect", "tensorflow, float32"]


def test_runtime_that_is_asked_for_must_be_installed(network, capsys):
    words = ("--images", network, "--runtimes", "litert")
    assert run("benchmark", "w.h5", *words) == cli.USAGE
    assert "--runtimes litert needs its package" in capsys.readouterr().err


def test_exported_file_has_one_row(network, monkeypatch, tmp_path, capsys):
    path = tmp_path / "w.onnx"
    path.write_bytes(bytes(3_000_000))
    given = []

    def run_apart(path, batches):
        given.extend(batches)
        return [], MEASURED

    stub = StubModel()
    stub.shape = Shape(1)
    monkeypatch.setattr(benchmark_command, "load_to_detect", lambda *_: (stub, stub.class_names))
    monkeypatch.setattr(benchmark_command, "run_apart", run_apart)
    assert run("benchmark", path, "--images", network) == cli.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["onnxruntime", "20.0", "50.00", "0.5", "100", "3.0"]
    assert [batch.shape for batch in given] == [(1, 30, 40, 3)]
    assert given[0].dtype == np.uint8 and set(runtimes.FORMATS) == set(cli.EXPORT_FORMATS)

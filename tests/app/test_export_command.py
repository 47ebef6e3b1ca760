"""`mrcnn export`: options, messages, and an export with the command's own defaults."""

from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import StubModel, image_file, no_tensorflow, run

from mrcnn.app import cli, cli_support, export_command
from mrcnn.export import formats
from mrcnn.export.compare import LIMITS, Agreement
from mrcnn.export.report import Report


class Call(NamedTuple):
    path: Path
    format: str
    options: dict


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """The calls of `export`; nothing is written."""
    calls = []

    def export(path, format, **options):
        calls.append(Call(path, format, options))
        agreement = Agreement(4, 0.25, 3, 1.0, 0.01, 1e-6, 0.999, None)
        measured = {"start": 0.5, "ms": 20.0, "memory": 100.0}
        given = {"height": None, "batch": 1}
        description = {"format": format, "precision": options["precision"], "input": given}
        return Report(path, description, agreement, LIMITS["float32"], 2500000, measured, 30.0)

    model = StubModel()
    model.export, model.class_names = export, ["BG", "square", "circle", "triangle"]
    monkeypatch.setattr(export_command, "load_for_use", lambda *_: (model, model.class_names))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fruit.h5").touch()
    monkeypatch.setattr(export_command, "check_weights", lambda *_: None)
    return calls


def test_defaults(exported, capsys):
    assert run("export", "fruit.h5", "--format", "saved_model") == cli.OK
    (call,) = exported
    assert call.path == Path("fruit_saved_model")
    assert call.options == {
        "precision": "float32",
        "size": None,
        "batch": 1,
        "images": [],
        "calibration": (),
    }
    out = capsys.readouterr()
    lines = out.out.splitlines()
    assert lines[0] == "fruit_saved_model: saved_model, float32, batch 1, images of any size"
    assert [line.split() for line in lines[1:4]] == [
        ["found", "allowed"],
        ["detections", "3", "in", "4", "images", "(score", ">=", "0.25)"],
        ["matched", "100.0%", ">=", "100%"],
    ]
    assert "time per image  20.0 ms" in out.out and "detect 30.0 ms" in out.out
    assert lines[-1] == "Wrote fruit_saved_model and fruit_saved_model.json"
    assert "No object in the sample images scored 0.5" in out.err


def test_options(exported, tmp_path):
    image_file(tmp_path / "seen" / "a.png")
    words = "--format saved_model --out out/x --precision float16 --size 40 60 --batch dynamic"
    words += " --images seen --calibrate shapes --min-confidence 0.3"
    assert run("export", "fruit.h5", *words.split()) == cli.OK
    (call,) = exported
    assert call.path == Path("out/x")
    assert (call.options["size"], call.options["batch"]) == ([40, 60], None)
    assert [image.shape for image in call.options["images"]] == [(30, 40, 3)]
    assert len(call.options["calibration"].image_ids) == 100


@pytest.mark.parametrize(
    "words", ["--batch 0", "--batch many", "--size 0 5", "--format tflite", "--precision int4"]
)
def test_wrong_words_are_refused_before_tensorflow_is_loaded(monkeypatch, words):
    no_tensorflow(monkeypatch)
    format = [] if "--format" in words else ["--format", "onnx"]
    assert run("export", "fruit.h5", *format, *words.split()) == cli.USAGE


def test_weights_may_be_a_name(monkeypatch):
    no_tensorflow(monkeypatch)
    assert run("export", "nucleii", "--format", "saved_model") == cli.FAILED
    cli_support.check_weights("shapes", "WEIGHTS")


def test_names_of_the_parser_are_those_of_the_table():
    assert set(cli.EXPORT_FORMATS) == set(formats.FORMATS)
    assert cli.PRECISIONS == formats.PRECISIONS

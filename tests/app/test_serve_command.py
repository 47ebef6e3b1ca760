"""`mrcnn serve`: its words, and what it refuses before a network is loaded."""

import pytest
from command_line import no_tensorflow, run

from mrcnn.app import cli, serve_command
from mrcnn.app.cli_support import UsageError

TOKEN = "0123456789abcdef"


@pytest.fixture
def extra(monkeypatch):
    """Pretend that the extra is installed."""
    monkeypatch.setattr(serve_command, "MODULES", ("json",))


def test_missing_extra_is_a_sentence(monkeypatch, capsys):
    no_tensorflow(monkeypatch)
    monkeypatch.setattr(serve_command, "MODULES", ("json", "no_such_module"))
    assert run("serve", "a.h5") == cli.FAILED
    error = capsys.readouterr().err
    assert "without no_such_module" in error and "mask-rcnn-keras3[serve]" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "required: [NAME=]WEIGHTS"),
        (["a.h5", "--port", "70000"], "whole number from 0 to 65535"),
        (["a.h5", "--batch", "0"], "whole number of at least 1"),
        (["a.h5", "--max-megabytes", "0"], "a number above 0"),
        (["a.h5", "--bind", "0.0.0.0"], "Did you mean --host?"),
    ],
)
def test_wrong_words(words, sentence, capsys):
    assert run("serve", *words) == cli.USAGE
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.h5", "--host", "0.0.0.0"], "needs a token"),
        (["a.h5", "--host", ""], "needs a token"),
        (["a.h5", "--token", "short"], "at least 16 characters"),
        (["a/x.h5", "b/x.h5"], "Received: x twice"),
        (["n=a.h5", "n=b.h5"], "Received: n twice"),
    ],
)
def test_wrong_calls_are_refused_before_tensorflow(extra, monkeypatch, capsys, words, sentence):
    no_tensorflow(monkeypatch)
    monkeypatch.delenv("MRCNN_TOKEN", raising=False)
    assert run("serve", *words) == cli.USAGE
    assert sentence in capsys.readouterr().err


def test_token_of_the_environment(monkeypatch):
    monkeypatch.setenv("MRCNN_TOKEN", TOKEN)
    assert serve_command.read_token(None, "0.0.0.0") == TOKEN
    assert serve_command.read_token("another token of 16", "localhost") == "another token of 16"
    monkeypatch.setenv("MRCNN_TOKEN", "")
    assert serve_command.read_token(None, "127.0.0.1") is None
    with pytest.raises(UsageError):
        serve_command.read_token(None, "::")


def test_names_of_models(tmp_path):
    assert serve_command.named_weights([]) == []
    named = serve_command.named_weights(["runs/a.h5", "x/y=b.h5", "coco", "fruit=run/"])
    assert named == [("a", "runs/a.h5"), ("x_y", "b.h5"), ("coco", "coco"), ("fruit", "run/")]
    path = tmp_path / "a=b.h5"
    path.touch()
    assert serve_command.named_weights([str(path)]) == [("a=b", str(path))]


def test_missing_weights_are_a_sentence(monkeypatch, capsys):
    for name in serve_command.MODULES:
        pytest.importorskip(name, reason="needs the extra [serve]")
    assert run("serve", "no_such_file.h5", "--port", "0") == cli.FAILED
    assert "no_such_file.h5" in capsys.readouterr().err

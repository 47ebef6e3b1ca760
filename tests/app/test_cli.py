"""The command: imports, help, exit codes and error sentences."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from command_line import image_file, no_tensorflow, run

from mrcnn import __version__
from mrcnn.app import (
    cli,
    cli_support,
    demo,
    detect_command,
    doctor,
    evaluate_command,
    train_command,
)
from mrcnn.config import NETWORKS
from mrcnn.data import augment

ROOT = Path(__file__).resolve().parents[2]


def test_help_version_and_typing_errors_import_nothing_slow():
    script = """
import contextlib, io, sys
from mrcnn.app import cli
codes = []
calls = ["--help", "--version", "train --help", "detect", "train x --epochs 0"]
for words in map(str.split, calls):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            codes.append(cli.main(words))
        except SystemExit as stop:
            codes.append(stop.code)
slow = ("tensorflow", "keras", "cv2", "numpy", "matplotlib")
print(codes, [name for name in slow if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[0, 0, 0, 2, 2] []"


def test_python_m_mrcnn_prints_the_version():
    done = subprocess.run(
        [sys.executable, "-m", "mrcnn", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f"mrcnn {__version__}\n")


@pytest.mark.parametrize(
    "command",
    ["demo", "check", "split", "train", "detect", "evaluate", "serve", "weights", "doctor"],
)
def test_every_command_has_a_help(command, capsys):
    assert run(command, "--help") == cli.OK
    assert f"usage: mrcnn {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fly"], "Received: 'fly'.\n"),
        (["evalute", "x"], "Did you mean evaluate?"),
        (
            ["train", "x", "--network", "retina-net"],
            "--network: must be one of mask_rcnn, retinanet, fcos. Received: 'retina-net'. "
            "Did you mean retinanet?",
        ),
        (["check", "x", "--network", "FCOS"], "Received: 'FCOS'. Did you mean fcos?"),
        (["check", "x", "--class-name", " "], "--class-name: must be a name. Received: ' '"),
        (["detect", "a.jpg", "--out", "x"], "required: --weights"),
        (["detect", "a.jpg", "--weights", "w.h5"], "required: --out"),
        (["train", "x", "--epochs", "0"], "must be a whole number of at least 1. Received: '0'"),
        (
            ["train", "x", "--learning-rate", "nan"],
            "must be a number of at least 0. Received: 'nan'",
        ),
        (["train", "x", "--augment", "flop"], "Received: 'flop'. Did you mean flip?"),
        (
            ["evaluate", "x", "--weights", "w.h5", "--min-confidence", "5"],
            "must be a number from 0 to 1",
        ),
        (["demo", "--seed", "-1"], "must be a whole number from 0"),
        (
            ["detect", "--tta", "flip", "a.jpg"],
            "--tta: must be flip or a factor from 0.1 to 10. Received: 'a.jpg'",
        ),
    ],
)
def test_wrong_calls_exit_with_2(words, sentence, capsys):
    assert run(*words) == cli.USAGE
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("DATA must exist."), cli.FAILED, "mrcnn: DATA must exist.\n"),
        (OSError("disk full"), cli.FAILED, "mrcnn: disk full\n"),
        (
            ImportError("No module named 'x'."),
            cli.FAILED,
            "mrcnn: No module named 'x'. Try `mrcnn doctor`",
        ),
        (
            TypeError("odd\nvery odd"),
            cli.FAILED,
            "mrcnn: TypeError: odd (MRCNN_DEBUG=1 in the environment shows where)\n",
        ),
        (
            cli_support.UsageError("No such NAME."),
            cli.USAGE,
            "mrcnn: No such NAME. See mrcnn doctor --help.\n",
        ),
        (KeyboardInterrupt(), cli.INTERRUPTED, "mrcnn: interrupted\n"),
    ],
)
def test_errors_become_a_sentence_and_an_exit_code(error, code, sentence, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "examine", fail)
    assert run("doctor") == code
    stderr = capsys.readouterr().err
    assert stderr.startswith(sentence)
    assert "Traceback" not in stderr


def test_mrcnn_without_a_command_lists_the_commands(capsys):
    assert run() == cli.USAGE
    assert "mrcnn" in (shown := capsys.readouterr().err) and all(
        name in shown for name in ("demo", "train", "detect")
    )


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out"],
        ["check", "shapes", "--out"],
        ["train", "shapes", "--logs"],
        ["detect", "photo.png", "--weights", "x.h5", "--out"],
        ["evaluate", "shapes", "--weights", "x.h5", "--out"],
    ],
)
def test_unwritable_output_folder_exits_with_2(words, tmp_path, capsys, monkeypatch):
    no_tensorflow(monkeypatch)
    monkeypatch.setattr(evaluate_command, "_class_names_of", lambda _: None)
    monkeypatch.setattr(detect_command, "check_model", lambda _: None)
    taken = tmp_path / "taken"
    taken.write_text("a file")
    image_file(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    for path, why in ((taken, "File exists"), (taken / "x", "Not a directory")):
        assert run(*words, path) == cli.USAGE
        shown = (
            f"mrcnn: {words[-1]} must be a folder that can be written to. Received: {path} ({why})."
        )
        assert shown in capsys.readouterr().err


@pytest.mark.parametrize(("words", "environment"), [(["--debug"], "0"), ([], "1")])
def test_debug_shows_the_traceback(words, environment, monkeypatch):
    def fail():
        raise ValueError("with a traceback")

    monkeypatch.setattr(doctor, "examine", fail)
    os.environ["MRCNN_DEBUG"] = environment
    with pytest.raises(ValueError, match="with a traceback"):
        cli.main(["doctor", *words])


def test_names_match_those_of_their_modules():
    assert set(cli.AUGMENTATIONS) == set(augment.AUGMENTATIONS)
    assert tuple(augment.PRESETS) == cli.AUGMENTATION_PRESETS
    assert cli.NETWORKS == NETWORKS


def test_demo_of_another_network_takes_its_preset(monkeypatch, tmp_path):
    configs = []
    monkeypatch.setattr(demo, "run", lambda out, seed, short, config: configs.append(config) or {})
    words = ("demo", "--out", tmp_path, "--network", "retinanet", "--config", "FOCAL_GAMMA=1.5")
    assert run(*words) == cli.OK
    (config,) = configs
    assert (config.NETWORK, config.USE_MASK, config.FOCAL_GAMMA) == ("retinanet", False, 1.5)
    assert config.IMAGE_MAX_DIM == 128  # the demo's own settings stay


def test_demo_passes_its_options_and_prints_the_metrics(monkeypatch, tmp_path, capsys):
    calls = []

    def stub(out, seed, short, config):
        calls.append((out, seed, short, config.USE_MASK))
        return {"box_ap": 0.81234, "images": 100}

    monkeypatch.setattr(cli, "load_tensorflow", lambda: None)
    module = SimpleNamespace(
        run=stub, DemoConfig=lambda: cli_support.read_config(["NUM_CLASSES=4"])
    )
    monkeypatch.setitem(sys.modules, "mrcnn.app.demo", module)
    monkeypatch.setattr("mrcnn.app.demo", module, raising=False)
    assert (
        run("demo", "--out", tmp_path, "--seed", 7, "--short", "--config", "USE_MASK=False")
        == cli.OK
    )
    assert calls == [(str(tmp_path), 7, True, False)]
    printed = capsys.readouterr().out.split()
    assert printed[:4] == ["box_ap", "0.812", "images", "100"]


def test_options_may_be_abbreviated_and_debug_may_come_first(monkeypatch):
    calls = []
    monkeypatch.setattr(train_command, "run", lambda args: calls.append((args.epochs, args.debug)))
    assert (
        run("--debug", "train", "x", "--epoch", 3)
        == run("train", "x", "--debug")
        == run("train", "x")
        == cli.OK
    )
    assert calls == [(3, True), (None, True), (None, False)]


def hdf5(path, attributes=(), groups=()):
    with h5py.File(path, "w") as file:
        file.attrs.update(dict.fromkeys(attributes, [b"x"]))
        for group in groups:
            file.create_group(group)
    return path


@pytest.mark.parametrize("command", ["train", "evaluate", "detect"])
def test_files_without_weights_are_refused_before_a_network_is_built(
    command, tmp_path, capsys, monkeypatch
):
    no_tensorflow(monkeypatch)
    state = hdf5(tmp_path / "training_state_0002.hdf5", ["about"], ["optimizer"])
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"<html>")
    other = hdf5(tmp_path / "other.h5", ["title"])
    data = image_file(tmp_path / "a.png") if command == "detect" else "shapes"
    where = [] if command == "train" else ["--out", tmp_path / "out"]
    for file, sentence in (
        (state, "a training state: the optimizer's variables"),
        (broken, "must be a complete HDF5 file"),
        (other, "an HDF5 file, but not of Keras weights"),
    ):
        assert run(command, data, "--weights", file, *where) == cli.FAILED
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_checkpoint_is_reported_before_a_network_is_built(tmp_path, capsys, monkeypatch):
    no_tensorflow(monkeypatch)
    assert run("train", "shapes", "--weights", "last", "--logs", tmp_path) == cli.FAILED
    assert "training of 'shapes' to resume" in capsys.readouterr().err


def test_data_with_other_classes_is_refused_before_a_network_is_built(
    tmp_path, capsys, monkeypatch
):
    no_tensorflow(monkeypatch)
    weights = hdf5(tmp_path / "w.h5", ["layer_names"], ["x"])
    with h5py.File(weights, "a") as file:
        file["x"].attrs["weight_names"] = np.zeros(0)
        file.attrs["mrcnn_metadata"] = json.dumps({"class_names": ["BG", "cat\x1b"]})
    assert run("evaluate", "shapes", "--weights", weights, "--out", tmp_path / "out") == cli.FAILED
    assert "classes of shapes must be ['cat']" in capsys.readouterr().err

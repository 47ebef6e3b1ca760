"""Unknown options and the names of other tools."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

from mrcnn.app import cli
from mrcnn.app.arguments import SYNONYMS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["train", "x", "--lr", "0.1"],
            "mrcnn train: error: unrecognized option: --lr. Did you mean --learning-rate?",
        ),
        (["train", "x", "--batch=4"], "--batch. Did you mean --config IMAGES_PER_GPU=N?"),
        (
            ["train", "x", "--imgsz", "640"],
            "--imgsz. Did you mean --config IMAGE_MIN_DIM=N IMAGE_MAX_DIM=N?",
        ),
        (["train", "x", "--output", "y"], "--output. Did you mean --logs?"),
        (
            ["detect", "a.jpg", "--model", "w.h5"],
            "mrcnn detect: error: unrecognized option: --model. Did you mean --weig",
        ),
        (["detect", "a.jpg", "--wieghts", "w.h5"], "--wieghts. Did you mean --weights?"),
        (["train", "x", "--frobnicate"], "unrecognized option: --frobnicate.\n"),
        (["train", "data=coco.yaml", "epochs=3"], "must be a path. Received: 'data=coco.yaml'"),
        (
            ["train", "x", "epochs=3"],
            "mrcnn train: error: unrecognized arguments: epochs=3. Did you mean --epochs?",
        ),
    ],
)
def test_unknown_options_are_reported_under_their_command(words, sentence, capsys):
    assert run(*words) == cli.USAGE
    shown = capsys.readouterr().err
    assert sentence in shown and shown.startswith(f"usage: mrcnn {words[0]}")


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        ("fasterrcnn", "Try --config USE_MASK=False, without --network."),
        ("Faster_RCNN", "Try --config USE_MASK=False, without --network."),
        ("keypoint-rcnn", "Try --config NUM_KEYPOINTS=17 USE_MASK=False, without --network."),
        ("maskrcnn", "Did you mean mask_rcnn?"),
    ],
)
def test_networks_of_other_tools_are_settings_here(network, hint, capsys):
    assert run("train", "x", "--network", network) == cli.USAGE
    assert f"Received: '{network}'. {hint}" in capsys.readouterr().err


def test_every_synonym_names_an_existing_option():
    helps = subprocess.run(
        [sys.executable, "-m", "mrcnn", "train", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    for meant in ("--learning-rate", "--epochs", "--logs", "--weights", "--config", "--gpus"):
        assert meant in helps and any(
            meant in option for options in SYNONYMS.values() for option in options
        )

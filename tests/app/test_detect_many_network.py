"""`mrcnn detect-many` with a network in a process of its own."""

import json
import multiprocessing

import pytest
from PIL import Image
from tiny import build, noise_images

from mrcnn.app import cli
from mrcnn.many import shards

CONFIG = """
from tiny import TinyConfig

class Mine(TinyConfig):
    DETECTION_ALL_CLASSES = True  # otherwise random weights may find only background
"""


def test_a_network_in_a_process_finds_what_detect_finds(tmp_path, capsys):
    weights = tmp_path / "tiny.h5"
    build(DETECTION_ALL_CLASSES=True).save_weights(weights)
    (tmp_path / "mine.py").write_text(CONFIG)
    (tmp_path / "in").mkdir()
    for i, image in enumerate(noise_images(3, sizes=((64, 64), (40, 70)))):
        Image.fromarray(image).save(tmp_path / "in" / f"{i}.png")
    options = ("--weights", weights, "--config", tmp_path / "mine.py")
    assert run_command("detect-many", tmp_path / "in", *options, "--out", tmp_path / "many") == 0
    assert multiprocessing.active_children() == []
    assert run_command("detect", tmp_path / "in", *options, "--out", tmp_path / "one") == 0
    rows = list(shards.read_rows(tmp_path / "many"))
    entries = json.loads((tmp_path / "one" / "detections.json").read_text())["images"]
    expected = [{key: entry[key] for key in entry if key != "picture"} for entry in entries]
    assert sum(len(row["detections"]) for row in rows) > 3
    # Another number of threads may round otherwise.
    assert scores_of(rows) == pytest.approx(scores_of(expected), abs=1e-6)
    assert rows == expected


def scores_of(rows):
    """Remove the scores from rows, and return them."""
    return [entry.pop("score") for row in rows for entry in row["detections"]]


def run_command(*words):
    return cli.main([str(word) for word in words])

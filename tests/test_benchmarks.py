"""The scripts of benchmarks/: rows, JSON, one cheap row; the arithmetic of the others."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import TinyConfig, backbone

from mrcnn.formats.rle import mask_to_rle
from mrcnn.weights.zoo_table import RELEASED

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"
NAMES = [
    "detect_r101_1024_d35", "detect_r101_1024_d100", "detect_r101_1024_d100_bf16",
    "detect_r50_512_d35",
    "detect_r50_512_d35_bf16", "finish_1024_d100", "train_r50_256", "train_r50_256_bf16",
    "train_r50_256_boxes", "generator_1024_mini",
    "generator_1024_full", "generator_scaling", "rpn_targets", "paste_100", "paste_100_rle",
    "build_r101",
    "first_detect", "first_detect_optimized", "coco_eval_500x100", "help",
]  # fmt: skip
FIELDS = ["name", "value", "unit", "direction", "target", "reached", "note"]


@pytest.fixture
def script(monkeypatch):
    """`script(name)` imports a file of benchmarks/ and removes it from sys.modules afterwards."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == SCRIPT.parent:
            del sys.modules[name]


@pytest.fixture
def benchmark(script):
    return script("run")


def test_the_rows_are_those_of_the_issue(benchmark):
    assert [row.name for row in benchmark.ROWS] == NAMES
    assert {row.name: row.target for row in benchmark.ROWS if row.unit != "u"} == {
        "train_r50_256_boxes": 0.55,
        "generator_scaling": 1.8,
        "coco_eval_500x100": 0.35,
        "help": 0.3,
    }


def test_a_row_end_to_end(tmp_path):
    file = tmp_path / "results.json"
    command = [sys.executable, SCRIPT, "--only", "help", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads(file.read_text())
    (row,) = written["rows"]
    assert list(written) == ["unit_s", "cpu", "rows"] and list(row) == FIELDS
    assert written["unit_s"] is None and written["cpu"].endswith("cores")  # seconds, no units
    assert row["name"] == "help" and row["unit"] == "s" and row["reached"] == (row["value"] <= 0.3)
    assert float(row["note"].split()[1]) == pytest.approx(
        row["value"], rel=0.01
    )  # "wall 0.23 s ..."
    assert any(
        line.startswith("help ") and line.endswith(row["note"]) for line in done.stdout.splitlines()
    )


def test_a_value_is_the_median_of_the_steady_runs(benchmark, monkeypatch):
    units = [
        (0.5, 0.5),
        (0.5, 0.8),
        (0.4, 0.4),
        (0.5, 0.5),
    ]  # the second run's differ by more than 10 %
    times = benchmark.Times([3.0, 2.0, 2.0, 2.0], 5.0, units, gflop=100.0)
    record = benchmark.measure(benchmark.Row(lambda: times, target=4.9))
    # 3 / 0.5, 2 / 0.4 and 2 / 0.5: 6, 5 and 4 units, in the median 5, of 0.5 s;
    # 100 GFLOP / (5 * 0.5 s) = 40 GFLOP/s, of the unit's 77.3 / 0.5 = 154.6
    assert (record["value"], record["reached"], record["unit_s"]) == (5.0, False, 0.5)
    assert "wall 2 s (median 2 of 4); CPU 5 s; peak" in record["note"]
    assert "3 steady of 4; 100.0 GFLOP, 40 GFLOP/s, 0.26 of the unit's rate" in record["note"]


def test_row_without_steady_runs_is_marked(benchmark):
    times = benchmark.Times([3.0, 2.0], 5.0, [(0.5, 1.0), (1.0, 0.6)])
    record = benchmark.measure(benchmark.Row(lambda: times, target=4.9))
    assert (
        record["value"] == 3.25 and benchmark.UNSTEADY in record["note"]
    )  # 3 / 0.75 and 2 / 0.8: 4 and 2.5


def test_work_is_timed_between_units(benchmark, monkeypatch):
    units, calls = iter([1.0, 1.0, 2.0, 2.0, 2.1]), []
    monkeypatch.setattr(benchmark, "_unit", lambda: lambda: next(units))
    times = benchmark.timed(lambda: calls.append(1), warm_ups=2, seconds=0, enough=3)
    assert times.units == [(1.0, 1.0), (1.0, 2.0), (2.0, 2.0), (2.0, 2.1)] and len(times.wall) == 4
    assert times.steady() == [0, 2, 3] and len(calls) == 6  # two of them to warm up


def test_bfloat16_rows_need_hardware(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "has_bfloat16", lambda: False)
    (row,) = (row for row in benchmark.ROWS if row.name == "train_r50_256_bf16")
    record = benchmark.measure(row)
    assert list(record) == FIELDS
    assert record["value"] is record["reached"] is None and record["note"].startswith(
        "not applicable"
    )


def test_failed_row_has_the_error_as_its_note(benchmark, monkeypatch):
    row = next(row for row in benchmark.ROWS if row.name == "help")
    failed = subprocess.CompletedProcess(
        [], returncode=1, stdout="", stderr="Traceback ...\nValueError: too cold\n"
    )
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *args, **options: failed)
    record = benchmark.measured_apart(row)
    assert (
        list(record) == FIELDS
        and record["value"] is None
        and record["note"] == "failed: ValueError: too cold"
    )


def test_gflop_of_a_convolution_and_a_product(benchmark):
    """Forward and backward of a 3x3 convolution (2 to 4 channels) and a [1, 4] x [4, 3] product."""
    import tensorflow as tf

    kernel, matrix = tf.Variable(tf.ones([3, 3, 2, 4])), tf.Variable(tf.ones([4, 3]))

    def forward(image):
        return tf.reduce_mean(tf.nn.conv2d(image, kernel, 1, "SAME"), axis=(1, 2)) @ matrix

    def backward(image):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(forward(image))
        return loss, tape.gradient(loss, [kernel, matrix])

    image = tf.ones([1, 5, 5, 2])
    convolution, product = 2 * 25 * 3 * 3 * 2 * 4, 2 * 1 * 4 * 3
    assert benchmark.counted_gflop(forward, image) == pytest.approx((convolution + product) / 1e9)
    # again for the kernel's gradient, and twice for the product's two; the image has none
    assert benchmark.counted_gflop(backward, image) == pytest.approx(
        (2 * convolution + 3 * product) / 1e9
    )


@pytest.mark.parametrize(
    "row", ["detect_r50_512_d35", "train_r50_256", "finish_1024_d100", "first_detect_optimized"]
)
def test_rows_of_networks_run_and_count_gflop(benchmark, monkeypatch, row):
    """GFLOP is NaN if a change of the network leaves a shape unknown."""

    def config(side, **values):
        small = {"BACKBONE": backbone, "TRAIN_ROIS_PER_IMAGE": 12, "DETECTION_MAX_INSTANCES": 10}
        small["IMAGE_MIN_DIM"] = small["IMAGE_MAX_DIM"] = 64
        return TinyConfig(**{**values, **small})

    def once(work, **_):
        work()
        return benchmark.Times([2.0], 1.0, [(1.0, 1.0)])

    monkeypatch.setattr(benchmark, "timed", once)
    if row != "finish_1024_d100":
        monkeypatch.setattr(benchmark, "_config", config)
    times = getattr(benchmark, row)()
    assert len(times.wall) == 1
    if row in ("detect_r50_512_d35", "train_r50_256"):
        assert 0 < times.gflop < 1
    if row == "first_detect_optimized":
        assert times.note.startswith("11 fused in")


# --- growth.py ----------------------------------------------------------------------------------


@pytest.fixture
def growth(script):
    return script("growth")


def test_growth_exponent(growth):
    points = [{"value": 1, "time": 9.0}, {"value": 10, "time": 2.0}, {"value": 40, "time": 32.0}]
    assert growth.exponent(points, "time") == pytest.approx(
        2
    )  # 4 times the work, 16 times the time


def test_growth_is_measured_and_plotted(growth, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(growth, "CURVES", {"side": growth.CURVES["side"]})
    monkeypatch.setattr(
        growth,
        "measured_apart",
        lambda curve, n: {"value": n, "time": n * n / 1e5, "peak": n / 1e3, "steady": 3},
    )
    plot, file = tmp_path / "growth.png", tmp_path / "growth.json"
    monkeypatch.setattr(sys, "argv", ["growth.py", "--plot", str(plot), "--json", str(file)])
    assert growth.main() == 0
    assert "power 2.00 in time, 1.00 in memory; linear is 2" in capsys.readouterr().out
    assert [row["value"] for row in json.loads(file.read_text())["curves"]["side"]] == [
        256,
        512,
        1024,
        2048,
    ]
    assert plot.read_bytes().startswith(b"\x89PNG")


# --- agreement.py -------------------------------------------------------------------------------


@pytest.fixture
def agreement(script):
    return script("agreement")


def test_matches_need_class_and_iou(agreement):
    boxes = np.array([[0, 0, 10, 10], [0, 20, 10, 30], [20, 0, 30, 10]])
    first = {"rois": boxes, "class_ids": np.array([1, 1, 1]), "scores": np.array([0.9, 0.8, 0.4])}
    # The first is there, less sure; the second's class is another one; the third does not count.
    second = {"rois": boxes, "class_ids": np.array([1, 2, 1]), "scores": np.array([0.7, 0.8, 0.4])}
    assert agreement.matches([first], [second]) == (1, 2, pytest.approx(0.2))
    # shifted by one pixel of ten: an IoU of 90 / 110
    assert agreement.matches([first], [{**first, "rois": boxes + [0, 1, 0, 1]}]) == (0, 2, 0)
    nothing = {"rois": np.zeros((0, 4)), "class_ids": np.zeros(0), "scores": np.zeros(0)}
    assert agreement.matches([first, nothing], [nothing, nothing]) == (0, 2, 0)


def test_part_of_a_large_result(agreement):
    found = {
        "rois": np.array(
            [[98, 100, 108, 110], [0, 0, 9, 9]]
        ),  # the first starts two pixels above the image
        "class_ids": np.array([1, 2]),
        "scores": np.array([0.9, 0.8]),
        "masks": [np.ones((10, 10), bool), np.ones((9, 9), bool)],
    }
    own = agreement.part(found, 100, 95, 20, 30)
    assert own["rois"].tolist() == [[-2, 5, 8, 15]] and own["class_ids"].tolist() == [1]
    expected = np.zeros((20, 30))
    expected[:8, 5:15] = 1
    assert own["masks"] == [mask_to_rle(expected)]


# --- peers.py -----------------------------------------------------------------------------------


@pytest.fixture
def peers(script):
    return script("peers")


def test_peers_skips_without_an_environment_for_torch(peers, monkeypatch, capsys):
    monkeypatch.delenv("PEERS_PYTHON", raising=False)
    monkeypatch.setattr(sys, "argv", ["peers.py"])
    assert peers.main() == 0
    assert capsys.readouterr().out.startswith(
        "Skipped: the environment variable PEERS_PYTHON must name a Python"
    )


def test_peers_prints_medians_and_the_median_ratio_of_the_rounds(peers, monkeypatch, capsys):
    seconds = {"r50_512": ([2.0, 3.0, 1.0], [4.0, 4.0, 4.0]), "r101_1024": ([6.0], [5.0])}
    monkeypatch.setattr(peers, "compare", lambda name, python, repeat: seconds[name])
    monkeypatch.setenv("PEERS_PYTHON", "python")
    monkeypatch.setattr(sys, "argv", ["peers.py", "--only", "r50_512", "--only", "r101_1024"])
    assert peers.main() == 0
    machine, heading, *rows = capsys.readouterr().out.splitlines()
    assert machine.endswith("cores")
    assert heading.split() == ["case", "mrcnn,", "s", "torchvision,", "s", "ratio"]
    assert " ".join(rows[0].split()) == "r50_512 2.00 (1.00 to 3.00) 4.00 (4.00 to 4.00) 0.50"
    assert rows[1].split()[-1] == "1.20"


def test_peers_compares_networks_of_the_zoo(peers):
    zoo = {row.name: row for row in RELEASED}
    for case in peers.CASES.values():
        if case.network is not None:
            assert len(zoo[f"{case.network}_coco"].class_names) == case.classes


def test_peers_makes_every_anchor_an_object_of_class_1(peers):
    layer = keras.layers.Conv2D(2 * 3, 1)  # two anchors of a cell, three classes
    layer.build([None, 4, 4, 1])
    peers.set_random_weights("retinanet_class_logits", layer, classes=3)
    assert layer.bias.numpy().tolist() == [0, 6, 0, 0, 6, 0]


def test_peers_workers_take_turns(peers, monkeypatch):
    calls = []

    class Worker:
        def __init__(self, python, library, name, weights):
            self.library = library

        def seconds(self):
            calls.append(self.library)
            return float(len(calls))

        def close(self):
            calls.append("closed")

    monkeypatch.setattr(peers, "Worker", Worker)
    assert peers.compare("r50_512", "python", 2) == ([1.0, 3.0], [2.0, 4.0])
    assert calls == ["mrcnn", "torchvision"] * 2 + ["closed"] * 2


def test_peers_refuses_another_number_of_detections(peers, monkeypatch):
    monkeypatch.setitem(peers.DETECTORS, "mrcnn", lambda case, weights: lambda: 3)
    monkeypatch.setattr(sys, "stdin", iter(["detect\n"]))
    with pytest.raises(RuntimeError, match="35 objects must be detected. Received: 3 from mrcnn"):
        peers.serve("mrcnn", peers.CASES["r50_512"], "weights.pth")

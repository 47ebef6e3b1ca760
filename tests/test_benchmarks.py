"""benchmarks/run.py: its rows are those of the issue, its JSON is whole, and a cheap row runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "run.py"
NAMES = [
    "detect_r101_1024_d35", "detect_r101_1024_d100", "detect_r101_1024_d100_bf16", "detect_r50_512_d35",
    "detect_r50_512_d35_bf16", "finish_1024_d100", "train_r50_256", "train_r50_256_bf16",
    "train_r50_256_boxes", "generator_1024_mini",
    "generator_1024_full", "generator_scaling", "rpn_targets", "paste_100", "paste_100_rle", "build_r101",
    "first_detect", "coco_eval_500x100", "help",
]  # fmt: skip
FIELDS = ["name", "value", "unit", "direction", "target", "reached", "note"]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_run", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


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
    assert float(row["note"].split()[1]) == pytest.approx(row["value"], rel=0.01)  # "wall 0.23 s ..."
    assert any(line.startswith("help ") and line.endswith(row["note"]) for line in done.stdout.splitlines())


def test_a_value_is_the_least_time_over_the_least_unit(benchmark, monkeypatch):
    units = iter([benchmark.Times([0.6, 0.5], cpu=1.0), benchmark.Times([0.4, 0.9], cpu=0.8)])
    monkeypatch.setattr(benchmark, "unit", lambda: next(units))
    row = benchmark.Row(lambda: benchmark.Times([3.0, 2.0, 7.0], cpu=5.0, gflop=100.0), target=4.9)
    record = benchmark.measure(row)
    # 2 s / 0.4 s = 5 units, more than 4.9; 100 GFLOP / 2 s = 50 GFLOP/s of the unit's 77.3 / 0.4 = 193
    assert (record["value"], record["reached"], record["unit_s"]) == (5.0, False, 0.4)
    assert "wall 2 s (median 3 of 3); CPU 5 s, 6.25 times the unit's; peak" in record["note"]
    assert "100.0 GFLOP, 50 GFLOP/s, 0.26 of the unit's rate" in record["note"]
    assert record["note"].endswith("the unit was unsteady: 0.500 s before, 0.400 s after")


def test_no_bfloat16_no_row(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "has_bfloat16", lambda: False)
    (row,) = (row for row in benchmark.ROWS if row.name == "train_r50_256_bf16")
    record = benchmark.measure(row)
    assert list(record) == FIELDS
    assert record["value"] is record["reached"] is None and record["note"].startswith("not applicable")


def test_a_row_that_fails_is_told_of(benchmark, monkeypatch):
    row = next(row for row in benchmark.ROWS if row.name == "help")
    failed = subprocess.CompletedProcess([], returncode=1, stdout="", stderr="Traceback ...\nValueError: too cold\n")
    monkeypatch.setattr(benchmark.subprocess, "run", lambda *args, **options: failed)
    record = benchmark.measured_apart(row)
    assert list(record) == FIELDS and record["value"] is None and record["note"] == "failed: ValueError: too cold"


def test_gflop_by_hand(benchmark):
    """Forward and backward of a 3x3 convolution, 2 to 4 channels on 5 x 5 pixels, and of a [1, 4] x [4, 3] product."""
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
    assert benchmark.counted_gflop(backward, image) == pytest.approx((2 * convolution + 3 * product) / 1e9)

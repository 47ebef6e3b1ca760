"""Metrics in logs, table and progress."""

import filecmp
import os

import keras
import pytest
from tiny_training import PARTS, build

from mrcnn.training.reports import Progress, ResultsTable, peak_memory_mb, read_results

pytestmark = pytest.mark.usefixtures("eagerly")


def test_metrics_are_in_logs_table_and_history(tmp_path, dataset):
    class Figures(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                logs["val_mAP"] = 0.25

    model = build(tmp_path, STEPS_PER_EPOCH=1)
    history = model.train(
        dataset, None, 0.003, epochs=2, layers="all", custom_callbacks=[Figures()]
    ).history
    assert history["learning_rate"] == pytest.approx([0.003, 0.003])
    assert all(norm > 0 for norm in history["gradient_norm"]) and all(
        x > 0 for x in history["images_per_second"]
    )
    assert all(0 <= share <= 0.5 for share in history["positive_rois"])
    rows = read_results(model.log_dir)
    assert [row["val_mAP"] for row in rows] == ["", "0.250000"]  # a column that came later
    assert float(rows[0]["gradient_norm"]) == pytest.approx(history["gradient_norm"][0], rel=1e-4)
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert [int(row["memory_mb"]) > 100 for row in rows] == [peak_memory_mb() is not None] * 2


def test_old_name_of_the_table_is_a_copy(tmp_path, dataset):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    model.train(dataset, None, 0.01, epochs=1, layers="heads")
    files = [os.path.join(model.log_dir, name) for name in ("results.csv", "losses.csv")]
    assert filecmp.cmp(*files, shallow=False)


def test_table_of_an_older_version_is_continued(tmp_path):
    (tmp_path / "losses.csv").write_text("epoch,loss\n1,2.5\n")
    ResultsTable(str(tmp_path)).on_epoch_end(1, {"loss": 2.0, "val_mAP_images": 20})
    rows = read_results(str(tmp_path))
    assert [(row["epoch"], row["loss"]) for row in rows] == [("1", "2.5"), ("2", "2.000000")]
    assert [row["val_mAP_images"] for row in rows] == ["", "20"]


def test_epoch_that_is_reported_twice_has_one_row(tmp_path):
    table = ResultsTable(str(tmp_path))
    for loss in (2.0, 1.0):
        table.on_epoch_end(0, {"loss": loss})
    assert [row["loss"] for row in read_results(str(tmp_path))] == ["1.000000"]


def test_run_without_a_table_has_no_rows(tmp_path):
    assert read_results(str(tmp_path)) == []


def test_time_left_is_unknown_after_the_first_step(caplog):
    progress = Progress(0, 1, 5)
    progress.INTERVAL_S = -1
    with caplog.at_level("INFO", logger="mrcnn"):
        progress.on_train_begin()
        progress.on_train_batch_end(0, {"loss": 2.0})
        progress.on_train_batch_end(1, {"loss": 2.0})
    lines = [line for line in caplog.messages if "step " in line and " left " in line]
    assert lines[0] == "epoch 1/1 step 1/5  -:--:-- left  loss 2.0000"
    assert lines[1] == "epoch 1/1 step 2/5  0:00 left  loss 2.0000"


def test_custom_callbacks_get_all_metrics(tmp_path, dataset):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs)))
    )
    model = build(tmp_path)
    history = model.train(
        dataset, dataset, 0.0, epochs=2, layers="heads", custom_callbacks=[callback]
    ).history
    for epoch in (0, 1):
        total = sum(history[f"val_{part}"][epoch] for part in PARTS)
        assert history["val_loss"][epoch] == pytest.approx(total, rel=1e-6)
    watched = ("gradient_norm", "positive_rois", "learning_rate", "images_per_second")
    names = sorted(["loss", *PARTS, *watched, *(f"val_{name}" for name in ("loss", *PARTS))])
    assert seen == [(0, names), (1, names)]

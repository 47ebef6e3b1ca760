"""The images and the page in the folder of a run."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from tiny import Squares, tiny_config
from tiny_training import build

from mrcnn.training import run_report
from mrcnn.training.training_state import NEW_RECORD

pytestmark = pytest.mark.usefixtures("eagerly")

EVIL = "<script>light</script>"


class Named(Squares):
    """Squares of a class with a dangerous name, in files with one."""

    def __init__(self, count=2):
        super().__init__(count)
        for info in self.image_info:
            info["path"] = f"/home/me/{EVIL[:7]}{info['id']}.png"
        self.class_names[1] = EVIL


def watched(folder, network="mask_rcnn", **settings):
    return build(folder, network=network, RUN_REPORT=True, VALIDATION_AP_IMAGES="auto", **settings)


@pytest.mark.parametrize("network", ["mask_rcnn", "fcos"])
def test_folder_holds_images_and_a_page_without_scripts_and_paths(tmp_path, network):
    model = watched(tmp_path, network)
    model.train(Named(), Named(), 0.01, epochs=1, layers="all")
    folder = Path(model.log_dir)
    images = [path.name for path in folder.glob("*.png")]
    wanted = {"results.png", "confusion.png", "val_1.png", "val_2.png", "worst_1.png"}
    assert wanted | {"batch_1.png", "batch_2.png", "batch_3.png"} <= set(images)
    for name in images:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100
    page = (folder / "report.html").read_text()
    assert "<script" not in page and "/home/me" not in page
    assert "&lt;script&gt;light" in page and "Epoch 1 of 1" in page
    assert page.count("<img ") == len(images) and not re.search("https?:|src=.(?!data:)", page)
    metrics = json.loads((folder / "best_metrics.json").read_text())
    assert metrics["images"] == metrics["validation_images"] == 2
    scores = [entry["score"] for entry in metrics["worst_images"]]
    assert scores == sorted(scores) and scores[0] < 1
    assert (metrics["mask"] is None) == (network == "fcos")


def test_metrics_are_those_of_the_best_weights_if_the_drawing_ends_early(tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise OSError("stopped")

    monkeypatch.setattr(run_report, "draw_confusion", interrupted)
    model = watched(tmp_path)
    model.train(Squares(), Squares(), 0.01, epochs=1, layers="heads")
    metrics = json.loads((Path(model.log_dir) / "best_metrics.json").read_text())
    assert (metrics["epoch"], metrics["val_images"], metrics["worst_images"]) == (1, [], [])


def test_training_without_validation_data_has_curves_and_training_images(tmp_path):
    model = watched(tmp_path)
    model.train(Squares(), None, 0.01, epochs=1, layers="heads")
    folder = Path(model.log_dir)
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == ["batch_1.png", "batch_2.png", "batch_3.png", "results.png"]
    page = (folder / "report.html").read_text()
    assert "mask_rcnn_tiny_0001.h5 holds the weights of epoch 1" in page
    assert "Accuracy on validation data" not in page


@pytest.fixture
def report(tmp_path):
    """The report of a run of two epochs that has written its table."""
    (tmp_path / "results.csv").write_text("epoch,loss\n1,2.5\n2,1.5\n")
    run = SimpleNamespace(
        config=tiny_config(),
        epoch=2,
        folder=str(tmp_path),
        checkpoint_path=str(tmp_path / "tiny_{epoch:04d}.h5"),
    )
    batches = SimpleNamespace(dataset=Named())
    return run_report.RunReport(run, {**NEW_RECORD, "until": 3}, batches, None)


def test_page_is_written_at_most_once_a_minute_and_at_the_end(report, tmp_path):
    page = tmp_path / "report.html"
    report.on_epoch_end(1)
    assert "Epoch 2 of 3" in page.read_text()
    page.unlink()
    report.on_epoch_end(2)
    assert not page.exists() and (tmp_path / "results.png").is_file()
    report.stop()
    assert "tiny_0002.h5 holds the weights of epoch 2" in page.read_text()


def test_run_without_an_epoch_has_no_page(report, tmp_path):
    (tmp_path / "results.csv").unlink()
    report.stop()
    assert not (tmp_path / "report.html").exists()


def test_failure_of_a_drawing_is_logged_and_the_training_continues(report, monkeypatch, caplog):
    def full(*args, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(run_report, "save_png", full)
    report.on_epoch_end(1)
    assert "The report is incomplete: OSError: No space left on device" in caplog.text

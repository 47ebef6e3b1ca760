"""A training that watches its AP: best weights, early stopping, and both after a restart."""

import csv
import filecmp
import os
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import tiny_config
from tiny_training import build, values

from mrcnn.detection_model import DetectionModel
from mrcnn.training import validation
from mrcnn.training.training_state import NEW_RECORD, read_record, state_path
from mrcnn.training.writers import Writers

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def scripted(monkeypatch):
    """Function: let the AP of a model's epochs be these values; an exception is raised.

    Returns: the list of the epochs that were evaluated.
    """

    def script(model, *aps):
        evaluated = []

        def coco(detector, dataset, image_ids, progress):
            evaluated.append(model.epoch)
            ap = aps[model.epoch - 1]
            if isinstance(ap, BaseException):
                raise ap
            metrics = {"AP": ap, "AP50": ap}
            return SimpleNamespace(
                box=metrics, mask=metrics, keypoints=None, kind="mask", images=4, seconds=1.0
            )

        monkeypatch.setattr(validation, "coco", coco)
        return evaluated

    return script


def watched(folder, **settings):
    """A model that measures AP on all validation images."""
    return build(folder, STEPS_PER_EPOCH=1, VALIDATION_AP_IMAGES="auto", **settings)


def resumed(folder, **settings):
    """The model of the last checkpoint."""
    model = watched(folder, **settings)
    model.load_weights(model.find_last())
    return model


def best_is(model, epoch):
    """Whether best.h5 is the checkpoint of an epoch."""
    best = os.path.join(model.log_dir, "best.h5")
    return filecmp.cmp(best, model.checkpoint_path.format(epoch=epoch), shallow=False)


def column(model, name):
    """A column of the results, by epoch."""
    with open(os.path.join(model.log_dir, "results.csv"), newline="") as file:
        return {row["epoch"]: row[name] for row in csv.DictReader(file)}


def test_stops_early_and_a_resumed_training_knows(tmp_path, dataset, scripted, caplog):
    caplog.set_level("INFO", "mrcnn")
    model = watched(tmp_path, EARLY_STOPPING_PATIENCE=2)
    scripted(model, 0.1, 0.5, 0.3, 0.5)
    model.train(dataset, dataset, 0.01, epochs=6, layers="all")
    assert model.epoch == 4 and best_is(model, 2)
    record = read_record(state_path(model.log_dir, 4))
    assert (record["best"], record["best_epoch"], record["waited"]) == (0.5, 2, 2)
    assert record["pending"] is None and record["ap_images"] == 4

    again = resumed(tmp_path, EARLY_STOPPING_PATIENCE=2)
    evaluated = scripted(again)
    assert again.train(dataset, dataset, 0.01, epochs=6, layers="all") is None
    assert evaluated == [] and again.epoch == 4
    assert caplog.text.count("AP has not risen for 2 epochs, since epoch 2 (0.500)") == 2


def test_epoch_that_was_not_measured_is_measured_after_the_restart(tmp_path, dataset, scripted):
    model = watched(tmp_path, EARLY_STOPPING_PATIENCE=2)
    scripted(model, 0.1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, dataset, 0.01, epochs=9, layers="heads")
    again = resumed(tmp_path, EARLY_STOPPING_PATIENCE=2)
    evaluated = scripted(again, 0.1, 0.7, 0.3, 0.3)
    again.train(dataset, dataset, 0.01, epochs=9, layers="heads")
    assert evaluated == [2, 3, 4] and best_is(again, 2)
    aps = {epoch: float(ap) for epoch, ap in column(again, "val_mAP").items()}
    assert aps == {"1": 0.1, "2": 0.7, "3": 0.3, "4": 0.3}
    assert float(column(again, "loss")["2"]) > 0 and column(again, "seconds")["2"] == ""


def test_new_stage_starts_to_wait_again(tmp_path, dataset, scripted):
    model = watched(tmp_path, EARLY_STOPPING_PATIENCE=2)
    scripted(model, 0.5, 0.1, 0.1, 0.1, 0.1)
    model.train(dataset, dataset, 0.01, epochs=2, layers="heads")
    model.train(dataset, dataset, 0.01, epochs=5, layers="heads")
    assert model.epoch == 4 and best_is(model, 1)


def test_averaged_weights_of_the_checkpoint_are_evaluated(tmp_path, dataset, monkeypatch):
    found = []

    def coco(detector, *args, **options):
        found.append({w.path: w.numpy() for w in detector.keras_model.weights})
        raise ValueError

    monkeypatch.setattr(validation, "coco", coco)
    model = watched(tmp_path, EMA_DECAY=0.9)
    model.train(dataset, dataset, 0.01, epochs=1, layers="all")
    saved = DetectionModel.from_weights(model.find_last(), config=model.config)
    (evaluated,) = found
    for path, value in values(saved).items():
        np.testing.assert_array_equal(evaluated[path], value, err_msg=path)


def writers(folder, validation, **settings):
    """The callbacks of a run that has not begun."""
    run = SimpleNamespace(
        config=tiny_config(**settings),
        epoch=0,
        folder=str(folder),
        make_folder=lambda: None,
        network=None,
    )
    record = {**NEW_RECORD, "until": 9}
    return Writers(run, record, None, validation, lambda: None, one_host=True)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "there is no validation data"),
        ({"RPN_ONLY": True}, "a region proposal network detects no objects"),
    ],
)
def test_ap_is_off_with_a_reason_if_it_cannot_work(tmp_path, dataset, caplog, settings, reason):
    caplog.set_level("INFO", "mrcnn")
    validation = dataset if "RPN_ONLY" in settings else None
    settings = {"VALIDATION_AP_IMAGES": "auto", "EARLY_STOPPING_PATIENCE": 1, **settings}
    found = writers(tmp_path, validation, **settings)
    assert found.average_precision is None and found.early_stopping is None
    assert f"AP is not measured after the epochs: {reason}." in caplog.text
    assert "Early stopping is off: no AP is measured" in caplog.text


def test_ap_report_and_early_stopping_are_off_by_default(tmp_path, dataset, caplog):
    caplog.set_level("INFO", "mrcnn")
    found = writers(tmp_path, dataset)
    assert (found.average_precision, found.early_stopping, found.report) == (None, None, None)
    assert caplog.text == ""

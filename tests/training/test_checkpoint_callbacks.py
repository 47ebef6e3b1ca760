"""Checkpoints and training states on the disk."""

import errno
import filecmp
import glob
import math
import os
import shutil
from types import SimpleNamespace

import keras
import pytest
from kinds import KINDS
from tiny import assert_same_results, keys_of, noise_images, tiny_config
from tiny_training import build

from mrcnn.config import NETWORKS
from mrcnn.training import checkpoints
from mrcnn.training.training_state import NEW_RECORD, read_record, state_path
from mrcnn.weights import saving
from mrcnn.weights.opening import read_metadata

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.mark.parametrize("network", NETWORKS)
def test_last_and_best_checkpoints_are_kept(tmp_path, dataset, network):
    class Figures(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update({"val_mAP": [0.1, 0.5, 0.3, math.nan, 0.4][epoch]})

    model = build(tmp_path, network=network, KEEP_LAST_N=2, STEPS_PER_EPOCH=1)
    model.train(dataset, None, 0.01, epochs=3, layers="all", custom_callbacks=[Figures()])
    found = [name for name in os.listdir(model.log_dir) if name.startswith(("best", network))]
    assert sorted(found) == ["best.h5", f"{network}_tiny_0002.h5", f"{network}_tiny_0003.h5"]
    shutil.copy(
        model.checkpoint_path.format(epoch=2),
        os.path.join(model.log_dir, f"{network}_tiny_0002_copy.h5"),
    )
    assert filecmp.cmp(
        os.path.join(model.log_dir, "best.h5"), model.checkpoint_path.format(epoch=2), shallow=False
    )
    again = build(tmp_path, network=network, KEEP_LAST_N=1, STEPS_PER_EPOCH=1)
    again.load_weights(again.find_last())
    again.train(dataset, None, 0.01, epochs=5, layers="all", custom_callbacks=[Figures()])
    found = [name for name in os.listdir(model.log_dir) if name.startswith(("best", network))]
    assert sorted(found) == ["best.h5", f"{network}_tiny_0002_copy.h5", f"{network}_tiny_0005.h5"]
    assert (
        read_record(state_path(model.log_dir, 5))["best"] == 0.5
    )  # 0.4 of the fifth epoch is not the best of the run
    assert read_metadata(os.path.join(model.log_dir, "best.h5"))["class_names"] == [
        "BG",
        "light",
        "dark",
    ]


@pytest.mark.parametrize(
    ("aps", "best_epoch", "waited"),
    [
        ([0.5, 0.3, 0.5, 0.4], 1, 3),  # an equal AP is no better one
        ([0.5, 0.3, 0.6, 0.4], 3, 1),
        ([0.0, 0.0, 0.0], 3, 0),  # before anything is found, the last epoch is the best
        ([0.2, math.nan, None, 0.1], 1, 1),  # only measured epochs count
        ([math.nan, None], 0, 0),
    ],
)
def test_epochs_since_the_best_are_counted(tmp_path, monkeypatch, aps, best_epoch, waited):
    saved = []
    monkeypatch.setattr(checkpoints, "save_state", lambda path, network, record: saved.append(path))
    monkeypatch.setattr(checkpoints.shutil, "copyfile", lambda source, target: None)
    run = SimpleNamespace(folder=str(tmp_path), checkpoint_path="{epoch}", network=None, epoch=1)
    record = dict(NEW_RECORD)
    keep = checkpoints.KeepBest(run, record)
    for epoch, ap in enumerate(aps):
        record["pending"] = {"loss": 1.0}
        keep.on_epoch_end(epoch, {} if ap is None else {"val_mAP": ap})
    assert (record["best_epoch"], record["waited"], record["pending"]) == (best_epoch, waited, None)
    before = len(saved)
    for _ in range(2):
        keep.on_train_end()
    assert len(saved) - before == (waited > 0)  # once, unless the last epoch saved it


def test_full_disk_leaves_the_previous_checkpoint(tmp_path, dataset, monkeypatch):
    model = build(tmp_path)
    model.train(dataset, None, 0.001, epochs=1, layers="heads")
    path = model.find_last()
    with open(path, "rb") as file:
        before = file.read()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "write_layers", full)
    with pytest.raises(
        OSError, match="No space left on device.*the file that was there before is unchanged"
    ):
        model.train(dataset, None, 0.001, epochs=2, layers="heads")
    with pytest.raises(OSError, match="No space left"):
        model.save_weights(path)
    with open(path, "rb") as file:
        assert file.read() == before
    assert [name for name in os.listdir(model.log_dir) if "part" in name] == []
    assert model.find_last() == path


def test_weights_replace_the_state_if_only_one_fits(tmp_path, dataset, monkeypatch):
    """The disk can hold one file, and the training state is written first."""
    model, written = build(tmp_path, STEPS_PER_EPOCH=1), []
    save_weights, save_state = saving.save_weights, checkpoints.save_state

    def one_fits(save):
        def write(*args, **named):
            if glob.glob(f"{model.log_dir}/*_0001.*5"):
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(save)
            return save(*args, **named)

        return write

    monkeypatch.setattr(saving, "save_weights", one_fits(save_weights))
    monkeypatch.setattr(checkpoints, "save_state", one_fits(save_state))
    with pytest.raises(
        OSError, match=r"No space left on device(.|\n)*The weights of epoch 1 are in .*_0001.h5"
    ):
        model.train(dataset, None, 0.001, epochs=2, layers="heads")
    assert written == [save_state, save_weights]
    assert glob.glob(f"{model.log_dir}/training_state*") == []
    again = build(tmp_path, seed=1, STEPS_PER_EPOCH=1)
    again.load_weights(model.checkpoint_path.format(epoch=1))
    assert again.epoch == 1


def test_weights_are_saved_if_the_state_does_not_fit(tmp_path, dataset, monkeypatch):
    def full(*args, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_state", full)
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(
        OSError, match="The weights of epoch 1 are in .*_0001.h5; a training that resumes from them"
    ):
        model.train(dataset, None, 0.001, epochs=1, layers="heads")
    assert os.path.isfile(model.checkpoint_path.format(epoch=1))


def test_free_space_is_checked_before_each_epoch(tmp_path, dataset, monkeypatch, caplog):
    """An error before the first epoch, a warning before a later one; 0 bytes of 0 means unknown."""
    sizes, steps = iter([(100, 90, 10)]), []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: next(sizes))
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(
        OSError, match=r"space for a checkpoint and its training state, \d MB. Received: 0 MB free"
    ):
        model.train(dataset, None, 0.001, epochs=1, layers="heads", custom_callbacks=[count])
    assert steps == []
    sizes = iter([(0, 0, 0), (100, 90, 10)])
    model.train(dataset, None, 0.001, epochs=2, layers="heads", custom_callbacks=[count])
    assert steps == [0, 0] and caplog.text.count("0 MB free") == 1
    assert "There is time until epoch 2 ends." in caplog.text


@pytest.mark.parametrize("network", KINDS)
def test_detections_survive_saving_and_loading(tmp_path, dataset, network):
    model = build(tmp_path, network=network, STEPS_PER_EPOCH=1)
    model.train(dataset, None, 0.001, epochs=1, layers="all")
    found = []
    for name in ("a.h5", "b.h5"):
        model.save_weights(tmp_path / name)
        model = type(model).from_weights(tmp_path / name, config=tiny_config(network))
        found.append(model.detect(noise_images(1))[0])
    assert set(found[0]) == keys_of(model) and len(found[0]["rois"]) > 0
    assert_same_results(*found)

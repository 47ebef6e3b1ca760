"""Start, resume and end of a training."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import KINDS
from tiny import Squares, tiny_config
from tiny_training import build, values

from mrcnn.detection_model import DetectionModel
from mrcnn.training import loop
from mrcnn.training.loop import OutOfMemory
from mrcnn.training.pipeline import Batches
from mrcnn.training.reports import read_results
from mrcnn.training.training_state import read_record, state_path

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.mark.parametrize("network", KINDS)
def test_out_of_memory_names_the_settings(tmp_path, dataset, monkeypatch, network):
    def full(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nlong text")

    model = build(tmp_path, network=network)
    monkeypatch.setattr(type(model.keras_model), "losses", full)
    with pytest.raises(OutOfMemory) as error:
        model.train(dataset, None, 0.001, epochs=1, layers="all")
    text = str(error.value)
    assert "not enough memory for BATCH_SIZE = 2" in text
    assert "ResourceExhaustedError: OOM when allocating tensor)" in text and "long text" not in text
    assert "Try IMAGES_PER_GPU = 1 (now 2)" in text and "in this order." in text
    of_heads = ", or TRAIN_ROIS_PER_IMAGE = 8 (now 12), or USE_MINI_MASK = True (now False)"
    assert (of_heads in text) == model.config.has_rpn()
    assert isinstance(error.value, MemoryError)


def test_reached_epoch_warns_and_returns(tmp_path, dataset, caplog):
    model = build(tmp_path)
    model.epoch = 3
    with caplog.at_level("WARNING", "mrcnn"):
        assert model.train(dataset, None, 0.01, epochs=3, layers="all") is None
    assert "Nothing to train: epochs=3 means until epoch 3, and 3 are done" in caplog.text
    assert not os.path.exists(model.log_dir)


@pytest.mark.parametrize("network", KINDS)
def test_resuming_from_the_last_checkpoint(tmp_path, dataset, network):
    first = build(tmp_path, network=network, STEPS_PER_EPOCH=1)
    name = first.network_name
    first.train(dataset, None, 0.001, epochs=1, layers="heads")
    first.train(dataset, None, 0.001, epochs=2, layers="all")
    assert first.epoch == 2
    path = first.find_last()
    assert path == first.checkpoint_path.format(epoch=2)
    assert sorted(name for name in os.listdir(first.log_dir) if name.endswith(".h5")) == [
        f"{name}_tiny_0001.h5",
        f"{name}_tiny_0002.h5",
    ]

    second = build(tmp_path, seed=1, network=network, STEPS_PER_EPOCH=1)
    second.load_weights(path, by_name=True)
    assert (second.epoch, second.log_dir) == (2, first.log_dir)
    assert second.class_names == ["BG", "light", "dark"]
    for path, value in values(first).items():
        if "seed" not in path:
            np.testing.assert_array_equal(values(second)[path], value, err_msg=path)
    history = second.train(dataset, None, 0.001, epochs=3, layers="all")
    assert history.epoch == [2]
    assert second.find_last().endswith(f"{name}_tiny_0003.h5")
    with open(os.path.join(first.log_dir, "results.csv")) as file:
        lines = file.read().splitlines()
    assert lines[0].startswith("epoch,loss,") and [line.split(",")[0] for line in lines[1:]] == [
        "1",
        "2",
        "3",
    ]


class StopAfter(keras.callbacks.Callback):
    """Raises KeyboardInterrupt in the epoch after `epoch`."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch == self.epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now:
            raise KeyboardInterrupt


def losses_of(model):
    """The rows of `results.csv` without times and memory."""
    rows = read_results(model.log_dir)
    measured = ("images_per_second", "seconds", "memory_mb")
    return [[float(row[name]) for name in row if name not in measured] for row in rows]


def assert_same_training(model, reference):
    """Compare the losses of every epoch and the final weights, to 1e-6."""
    np.testing.assert_allclose(losses_of(model), losses_of(reference), rtol=1e-6, atol=1e-6)
    expected = values(reference)
    for path, value in values(model).items():
        np.testing.assert_allclose(value, expected[path], rtol=0, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(
    "settings",
    [
        {"SEED": 3},
        {"SEED": 3, "OPTIMIZER": "adam", "LEARNING_RATE_SCHEDULE": "cosine", "WARMUP_STEPS": 3},
        {"SEED": 3, "EMA_DECAY": 0.9},
        *({"SEED": 3, "network": network} for network in (*KINDS[1:], "cascade")),
    ],
    ids=["constant", "adam, warm-up, cosine", "averaged weights", *KINDS[1:], "cascade"],
)
def test_interrupted_and_resumed_training_equals_an_uninterrupted_one(tmp_path, dataset, settings):
    def train(model, *callbacks):
        model.train(dataset, dataset, 0.01, epochs=3, layers="all", custom_callbacks=callbacks)

    settings = {**settings, "STEPS_PER_EPOCH": 1, "VALIDATION_STEPS": 1}
    whole = build(tmp_path / "whole", **settings)
    train(whole)
    stopped = build(tmp_path / "stopped", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, StopAfter(1))
    again = build(tmp_path / "stopped", seed=1, **settings)
    again.load_weights(again.find_last())
    train(again)
    assert_same_training(again, whole)
    states = [name for name in os.listdir(again.log_dir) if name.startswith("training_state")]
    assert states == ["training_state_0003.hdf5"]


def test_interrupt_says_how_many_epochs_are_done(tmp_path, dataset, caplog):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with caplog.at_level("WARNING", "mrcnn"), pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    assert "Interrupted: 1 epoch is done, and the current weights are in" in caplog.text


def test_resumed_training_keeps_a_drawn_seed(tmp_path, dataset):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    first = read_record(state_path(model.log_dir, 1))["seed"]
    model = build(tmp_path, seed=1, STEPS_PER_EPOCH=1)
    model.load_weights(model.find_last())
    model.train(dataset, None, 0.01, epochs=2, layers="all")
    assert read_record(state_path(model.log_dir, 2))["seed"] == first


def test_next_stage_starts_with_a_fresh_optimizer(tmp_path, dataset, caplog):
    """The three stages of coco.py, interrupted after the first and during the second."""

    def stages(model, *callbacks):
        for layers, epochs in (("heads", 1), ("4+", 3), ("all", 4)):
            if epochs > model.epoch:
                model.train(
                    dataset, None, 0.01, epochs=epochs, layers=layers, custom_callbacks=callbacks
                )

    whole = build(tmp_path / "whole", SEED=3, STEPS_PER_EPOCH=1)
    stages(whole)
    model = build(tmp_path / "stopped", SEED=3, STEPS_PER_EPOCH=1)
    with caplog.at_level("INFO", "mrcnn"):
        for stop in (1, 2, None):
            if stop is None:
                stages(model)
            else:
                with pytest.raises(KeyboardInterrupt):
                    stages(model, StopAfter(stop))
                model = build(tmp_path / "stopped", seed=stop, SEED=3, STEPS_PER_EPOCH=1)
                model.load_weights(model.find_last())
    assert caplog.text.count("Resuming with the optimizer and the random state of epoch 2.") == 1
    assert "state of epoch 1" not in caplog.text
    assert_same_training(model, whole)


def test_checkpoint_without_state_warns_of_a_fresh_optimizer(tmp_path, dataset, caplog):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    model.train(dataset, None, 0.01, epochs=1, layers="all")
    os.remove(state_path(model.log_dir, 1))
    model.load_weights(model.find_last())
    with caplog.at_level("INFO", "mrcnn"):
        model.train(dataset, None, 0.01, epochs=2, layers="all")
    assert (
        "The checkpoint of epoch 1 has no training state: the optimizer starts fresh."
        in caplog.text
    )


def test_other_optimizer_starts_fresh_with_a_warning(tmp_path, dataset, caplog):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    other = build(tmp_path, STEPS_PER_EPOCH=1, OPTIMIZER="adam")
    other.load_weights(other.find_last())
    other.train(dataset, None, 0.01, epochs=2, layers="all")
    assert "The optimizer starts fresh after epoch 1: it differs" in caplog.text


def test_resumed_training_takes_a_new_learning_rate(tmp_path, dataset):
    model = build(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    model = build(tmp_path)
    model.load_weights(model.find_last())
    model.train(dataset, None, 0.004, epochs=2, layers="all")
    assert float(model.keras_model.optimizer.learning_rate) == pytest.approx(0.004)
    assert int(model.keras_model.optimizer.iterations) == 2 * model.config.STEPS_PER_EPOCH


def test_fractions_of_steps_are_rounded_up(tmp_path, dataset, caplog):
    """Keras 2 ran ceil(2.4) steps; scripts write `images / batch size` and `20 / 20`."""
    model, steps = build(tmp_path, VALIDATION_STEPS=20 / 20), []
    model.config.STEPS_PER_EPOCH = 2.4
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    with caplog.at_level("INFO", "mrcnn"):
        model.train(dataset, dataset, 0.001, 2, "heads", custom_callbacks=[count])
    assert steps == [0, 1, 2, 0, 1, 2]
    assert "Config: STEPS_PER_EPOCH = 2.4 is rounded up to 3." in caplog.messages


@pytest.mark.parametrize("network", KINDS)
def test_images_without_objects_train(tmp_path, caplog, network):
    class Pneumonia(Squares):
        def load_mask(self, image_id):
            if image_id:
                return np.zeros((self.side, self.side, 1), bool), np.zeros(1, np.int32)
            return super().load_mask(image_id)

        def image_reference(self, image_id):
            return super(self.__class__).image_reference(self, image_id)

    data = Pneumonia(8)
    model = build(tmp_path, network=network, STEPS_PER_EPOCH=4, MAX_IMAGE_ERRORS=0)
    history = model.train(data, data, 0.001, 1, "heads").history
    assert "Skipped" not in caplog.text
    assert np.isfinite(history["val_loss"]).all()


@pytest.mark.parametrize("network", KINDS)
def test_dataset_with_other_classes_is_refused(tmp_path, dataset, network):
    model = build(tmp_path, network=network, NUM_CLASSES=5)
    with pytest.raises(
        ValueError, match="NUM_CLASSES must be 1 .* Received: NUM_CLASSES = 5, and 3 classes"
    ):
        model.train(dataset, None, 0.001, epochs=1, layers="heads")


@pytest.mark.parametrize("network", KINDS)
def test_interrupt_saves_the_weights(tmp_path, dataset, network):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = build(tmp_path, network=network)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.001, epochs=1, layers="heads", custom_callbacks=[Stop()])
    path = os.path.join(model.log_dir, "interrupted.h5")
    saved = DetectionModel.from_weights(path, config=tiny_config(network))
    assert type(saved) is type(model) and saved.class_names == ["BG", "light", "dark"]


def test_second_interrupt_keeps_first_weights(tmp_path, dataset, caplog):
    stop = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: _interrupt())
    model = build(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            model.train(dataset, None, 0.001, epochs=1, layers="heads", custom_callbacks=[stop])
    assert sorted(f for f in os.listdir(model.log_dir) if f.endswith(".h5")) == [
        "interrupted.h5",
        "interrupted_2.h5",
    ]
    assert (
        "interrupted_2.h5" in caplog.text
        and "To start a new training from these weights: --weights " in caplog.text
    )
    assert "--weights last has nothing to resume" in caplog.text  # no epoch is complete
    with pytest.raises(FileNotFoundError, match=r"No epoch was complete.*interrupted_2\.h5"):
        model.find_last()
    model.train(dataset, None, 0.001, epochs=1, layers="heads")
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.001, epochs=2, layers="heads", custom_callbacks=[stop])
    assert "--weights last resumes from the last checkpoint, after epoch 1." in caplog.text
    assert (
        "find_last" not in caplog.text and "load_weights" not in caplog.text
    )  # names that users of the command do not know
    assert model.find_last().endswith("_0001.h5")
    again = build(tmp_path)
    again.load_weights(os.path.join(model.log_dir, "interrupted_3.h5"))
    assert again.epoch == 0


def _interrupt():
    raise KeyboardInterrupt


def test_rare_classes_are_repeated(tmp_path, monkeypatch):
    made = {}

    class Noted(Batches):
        def __init__(self, dataset, config, **options):
            super().__init__(dataset, config, **options)
            made.setdefault("repeats", []).append(options.get("repeats"))

    monkeypatch.setattr(loop, "Batches", Noted)
    dataset = Squares(count=5)  # dark: images 0, 2, 4; light: 1, 3
    for validation, settings in ((dataset, {"REPEAT_THRESHOLD": 0.5}), (None, {})):
        model = build(tmp_path, **settings)
        model.keras_model.fit = lambda *args, **options: None
        model.train(dataset, validation, 0.001, epochs=1, layers="heads")
    rare = (0.5 / 0.4) ** 0.5
    assert made["repeats"][0].tolist() == pytest.approx([1, rare, 1, rare, 1])
    assert made["repeats"][1:] == [None, None]  # validation; a training without the setting

"""The loop: what learns, what stays, what is minimised, what is on disk afterwards."""

import csv
import datetime
import errno
import filecmp
import glob
import hashlib
import itertools
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import Squares, TinyConfig, noise_images, shake

from mrcnn import model as modellib
from mrcnn.config import LOSS_NAMES, PRECISIONS
from mrcnn.data.generator import DataGenerator
from mrcnn.model import MaskRCNN
from mrcnn.training import callbacks
from mrcnn.training import loop as training
from mrcnn.training import run as training_run
from mrcnn.training.callbacks import MeanAveragePrecisionCallback
from mrcnn.training.loop import HEADS, Schedule, layer_regex, set_trainable
from mrcnn.training.training_state import read_about, state_path
from mrcnn.weights import saving
from mrcnn.weights.weight_file import read_metadata

pytestmark = pytest.mark.usefixtures("eagerly")
PARTS = (*LOSS_NAMES, "weight_decay")


def build(folder, seed=0, **values):
    return shake(MaskRCNN("training", TinyConfig(**values), str(folder)), seed)


def values(model):
    return {weight.path: weight.numpy() for weight in model.keras_model.weights}


@pytest.fixture(scope="module")
def dataset():
    return Squares()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """One network for the tests that do not train it."""
    return build(tmp_path_factory.mktemp("logs")).keras_model


# --- Which layers learn -----------------------------------------------------------------------------------------


LAYERS = [
    "conv1",
    "bn_conv1",
    "res2a_branch2a",
    "bn2a_branch2a",
    "res3a_branch1",
    "bn3d_branch2c",
    "res4w_branch2b",
    "bn4a_branch1",
]
LAYERS += [
    "res5c_branch2a",
    "bn5b_branch2c",
    "fpn_c2p2",
    "rpn_conv_shared",
    "rpn_class_raw",
    "mrcnn_mask",
    "mrcnn_bbox_fc",
]


@pytest.mark.parametrize(
    "layers, first", [("all", "conv1"), ("3+", "res3a_branch1"), ("4+", "res4w_branch2b"), ("5+", "res5c_branch2a"),
                      ("heads", "fpn_c2p2")],
)  # fmt: skip
def test_stages_are_the_rest_of_the_network(layers, first):
    import re

    learn = [name for name in LAYERS if re.fullmatch(layer_regex(layers), name)]
    assert learn == LAYERS[LAYERS.index(first) :]


def test_any_other_string_is_a_regex():
    assert layer_regex(r"(mrcnn\_mask.*)") == r"(mrcnn\_mask.*)"
    assert layer_regex("heads") == HEADS


def test_set_trainable(network):
    names = set_trainable(network, layer_regex("5+"), TinyConfig(), verbose=0)
    assert {"res5a_conv", "bn5a", "rpn_conv_shared", "mrcnn_mask"} <= set(names)
    assert not {"res4a_conv", "bn4a", "res1a_conv"} & set(names)
    learning = {weight.path.split("/")[-2] for weight in network.trainable_weights}
    assert learning == set(names)
    everything = set_trainable(network, ".*", TinyConfig(), verbose=0)
    assert {"res1a_conv", "bn1a"} <= set(everything)


def test_a_regex_that_matches_nothing(network):
    with pytest.raises(
        ValueError, match="layers must be 'heads'.*Received: 'haeds', which matches none"
    ):
        set_trainable(network, "haeds", TinyConfig())
    set_trainable(network, ".*", TinyConfig(), verbose=0)


def test_batch_norm_that_stays_frozen_is_told_of(caplog):
    x = keras.Input([8, 8, 3])
    y = keras.layers.BatchNormalization(name="a_BN")(keras.layers.Conv2D(2, 1, name="a")(x))
    small = keras.Model(x, keras.layers.BatchNormalization(name="b_BN")(y))
    with caplog.at_level("INFO", logger="mrcnn"):
        assert set_trainable(small, "a.*", TinyConfig()) == ["a"]
        set_trainable(small, "a.*", TinyConfig(TRAIN_BN=None))
    first, second = caplog.messages
    assert first.endswith(
        "1 of 3 layers with weights; 1 batch-norm layers of the backbone stay frozen, for TRAIN_BN is False"
    )
    assert second.endswith("2 of 3 layers with weights")


# --- Optimiser --------------------------------------------------------------------------------------------------


def factors(schedule, *steps):
    return [schedule(step) for step in steps]


def test_schedule_constant_with_warm_up():
    # a quarter of the rate per step, then all of it
    assert factors(Schedule(warmup=4), 0, 1, 3, 4, 100) == pytest.approx([0.25, 0.5, 1, 1, 1])
    assert factors(Schedule(), 0, 7) == [1, 1]


def test_schedule_cosine():
    # 0.01 + 0.99 * (1 + cos(pi * share)) / 2: 1 at the start, 0.505 half way, 0.01 at the end and after it
    assert factors(Schedule("cosine", total=100), 0, 50, 100, 150) == pytest.approx(
        [1, 0.505, 0.01, 0.01]
    )
    # warm-up of 20: the cosine starts after it
    assert factors(Schedule("cosine", 20, total=120), 9, 20, 70) == pytest.approx([0.5, 1, 0.505])


def test_schedule_steps_down():
    # of 90 steps, two thirds are 60 and eight ninths 80: a tenth from there on, a hundredth from there on
    schedule = Schedule("step", total=90, drops=(2 / 3, 8 / 9))
    assert factors(schedule, 0, 59, 60, 79, 80, 89) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


class Held(keras.callbacks.Callback):
    """The rate that the optimizer holds while each step runs, and between the steps."""

    def __init__(self):
        super().__init__()
        self.in_steps, self.between = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.in_steps.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch, logs=None):
        self.between.append(float(self.model.optimizer.learning_rate))


def test_callbacks_set_the_rate_that_warm_up_multiplies(tmp_path, dataset):
    """Warm-up over four steps of two epochs, and a callback that halves the rate each epoch (matterport#1228)."""
    model, held = build(tmp_path, STEPS_PER_EPOCH=3, WARMUP_STEPS=4), Held()
    halving = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.08 * 0.5**epoch)
    history = model.train(dataset, None, 0.08, 2, "heads", custom_callbacks=[halving, held])
    assert held.in_steps == pytest.approx([0.02, 0.04, 0.06, 0.04, 0.04, 0.04])
    assert held.between == pytest.approx([0.08] * 3 + [0.04] * 3)
    assert history.history["learning_rate"] == pytest.approx(
        [0.08, 0.04]
    )  # what Keras' callback puts there


def test_a_plateau_lowers_the_rate_of_a_schedule(tmp_path, dataset):
    model, held = (
        build(
            tmp_path, STEPS_PER_EPOCH=1, LEARNING_RATE_SCHEDULE="step", LEARNING_RATE_DROPS=(0.75,)
        ),
        Held(),
    )
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.5, patience=1, min_delta=1e9
    )
    model.train(dataset, None, 0.08, 4, "heads", custom_callbacks=[plateau, held])
    # the first loss is the best; each later one is on the plateau, and step 3 of 4 is a tenth of what is left
    assert held.in_steps == pytest.approx([0.08, 0.08, 0.04, 0.02 / 10])


def test_the_rate_in_logs_and_tensorboard_is_that_of_the_steps(tmp_path, dataset):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = build(
        tmp_path, STEPS_PER_EPOCH=1, LEARNING_RATE_SCHEDULE="step", LEARNING_RATE_DROPS=(0.5,)
    )
    history = model.train(dataset, None, 0.08, 2, "heads")
    assert history.history["learning_rate"] == pytest.approx([0.08, 0.008])
    events = EventAccumulator(os.path.join(model.log_dir, "train"))
    events.Reload()
    shown = [tf.make_ndarray(event.tensor_proto) for event in events.Tensors("epoch_learning_rate")]
    np.testing.assert_allclose(shown, [0.08, 0.008], rtol=1e-6)


def test_an_optimizer_with_its_own_schedule_keeps_it(tmp_path, dataset, caplog):
    own = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    model, held = (
        build(tmp_path, OPTIMIZER=lambda rate: keras.optimizers.SGD(own), WARMUP_STEPS=9),
        Held(),
    )
    model.config.STEPS_PER_EPOCH = 3
    model.train(dataset, None, 0.0, 1, "heads", custom_callbacks=[held])
    assert held.in_steps == [0.5, 0.5, 0.25]
    assert "WARMUP_STEPS are unused: the OPTIMIZER has a schedule of its own" in caplog.text


def test_learning_rate_scales_with_the_batch():
    # 0.02 is for 16 images: an eighth of it for 2
    assert training.scaled_learning_rate(0.02, 2) == pytest.approx(0.0025)
    assert training.scaled_learning_rate(0.001, 8, of_batch_size=2) == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ("sgd", keras.optimizers.SGD),
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("ADAM", keras.optimizers.Adam),
        ("SGD", keras.optimizers.SGD),
        (keras.optimizers.Lion, keras.optimizers.Lion),
        (lambda rate: keras.optimizers.RMSprop(rate, rho=0.5), keras.optimizers.RMSprop),
    ],
)
def test_optimizers_by_name_or_function(network, choice, kind):
    training.compile_network(network, TinyConfig(OPTIMIZER=choice), 0.25, 0.9)
    assert type(network.optimizer) is kind
    assert float(network.optimizer.learning_rate) == 0.25


def test_an_optimizer_that_only_its_name_is_left_of_cannot_train(network):
    with pytest.raises(ValueError, match="Received: 'mine:lion', the name of a function"):
        training.compile_network(network, TinyConfig(OPTIMIZER="mine:lion"), 0.25, 0.9)


def test_xla_stays_off_where_there_is_a_gpu(tmp_path, monkeypatch):
    """It cannot compile crop_and_resize, and Keras would let it: also in a `predict` or `compile` of the user's own."""
    training_model = build(tmp_path)
    network, detecting = training_model.keras_model, MaskRCNN("inference", TinyConfig(), tmp_path)
    gpu = SimpleNamespace(device_type="GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    anything = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    anything.compile("sgd")
    assert anything.jit_compile  # so it is in Keras
    training_model.compile(0.01, 0.9)
    assert network.jit_compile is False
    network.compile("sgd")
    assert network.jit_compile is False and detecting.keras_model.jit_compile is False
    options, function = [], tf.function
    monkeypatch.setattr(
        tf, "function", lambda *args, **named: options.append(named) or function(*args, **named)
    )
    detecting.detect(noise_images(1))
    assert options[0]["jit_compile"] is False  # that around the network; Keras makes others inside


def test_accumulated_gradients_move_the_weights_once(tmp_path, dataset):
    """Four steps, one move: by the mean gradient, clipped to 0.01, since plain SGD at rate 1 moves by just that."""
    config = {"STEPS_PER_EPOCH": 4, "GRADIENT_ACCUMULATION_STEPS": 4, "GRADIENT_CLIP_NORM": 0.01}
    model = build(tmp_path, LEARNING_MOMENTUM=0.0, **config)
    before = values(model)
    model.train(dataset, None, 1.0, epochs=1, layers="all")
    moved = np.sqrt(
        sum(np.sum((value - before[path]) ** 2) for path, value in values(model).items())
    )
    assert moved == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="GRADIENT_ACCUMULATION_STEPS must be 1"):
        training.compile_network(
            model.keras_model, TinyConfig(OPTIMIZER=keras.optimizers.Lion, **config), 0.1, 0.9
        )


def test_gradients_are_clipped_by_their_global_norm():
    # a norm of 50 is brought to 5 by a tenth; below the largest, and without one, gradients are left alone
    assert float(training.gradient_scale(tf.constant(50.0), 5.0)) == pytest.approx(0.1, rel=1e-6)
    for largest in (5.0, None, 0):
        assert float(training.gradient_scale(tf.constant(4.92), largest)) == 1.0
    assert float(training.gradient_scale(tf.constant(0.0), 5.0)) == 1.0
    assert float(training.gradient_scale(tf.constant(np.nan), 5.0)) == 0.0


def test_a_step_is_no_longer_than_the_norm(tmp_path, dataset):
    """Plain SGD at rate 1: the weights move by the clipped gradient."""
    model = build(tmp_path, GRADIENT_CLIP_NORM=0.01, LEARNING_MOMENTUM=0.0, STEPS_PER_EPOCH=1)
    before = values(model)
    model.train(dataset, None, 1.0, epochs=1, layers="all")
    moved = np.sqrt(
        sum(np.sum((value - before[path]) ** 2) for path, value in values(model).items())
    )
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_averaged_weights_by_hand(tmp_path, dataset):
    """After steps w1, w2 of a weight w0: the decays are min(0.9, (1 + n) / (10 + n)) for n = 1, 2, so 2/11 and 3/12."""
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(values(model))

        def on_test_begin(self, logs=None):
            seen.append(values(model))

    model = build(tmp_path, EMA_DECAY=0.9, STEPS_PER_EPOCH=2)
    first = values(model)
    model.train(dataset, dataset, 0.01, epochs=1, layers="heads", custom_callbacks=[Watch()])
    after_1, after_2, validated = seen
    saved = MaskRCNN.from_weights(model.find_last(), config=TinyConfig())
    path = "mrcnn_mask/kernel"
    average = 2 / 11 * first[path] + 9 / 11 * after_1[path]
    average = 3 / 12 * average + 9 / 12 * after_2[path]
    for found in (validated, values(model), values(saved)):
        np.testing.assert_allclose(found[path], average, rtol=1e-5, atol=1e-7)
    assert np.array_equal(
        values(model)["res1a_conv/kernel"], first["res1a_conv/kernel"]
    )  # it does not learn


def test_class_weights_and_focal_loss_reach_the_losses(tmp_path, dataset):
    logs = {
        name: build(tmp_path, **settings).train(dataset, None, 0.0, 1, "all").history
        for name, settings in {
            "plain": {},
            "focal": {"FOCAL_GAMMA": 2.0},
            "no background": {"CLASS_WEIGHTS": [0.0, 1.0, 1.0]},
        }.items()
    }
    for name in ("rpn_class_loss", "mrcnn_class_loss"):
        assert 0 < logs["focal"][name][0] < logs["plain"][name][0]
    assert logs["no background"]["rpn_class_loss"] == logs["plain"]["rpn_class_loss"]
    assert logs["no background"]["mrcnn_class_loss"][0] != pytest.approx(
        logs["plain"]["mrcnn_class_loss"][0], rel=0.01
    )


# --- Precision ----------------------------------------------------------------------------------------------------


def test_mixed_precision_trains_close_to_float32(tmp_path, dataset):
    """On the same RoIs every loss is that of float32 but for rounding: bfloat16 keeps 8 bits, 0.4 % an operation.

    The losses are those of the first step. Of the gradient's norm it is the mean of eight: of one step alone a ReLU
    near 0 that opens or closes moves it by up to 4 %. float16 skips its first steps, until the scale is found.
    """
    logs = {}
    for kind in PRECISIONS:
        model = build(tmp_path / kind, PRECISION=kind, USE_RPN_ROIS=False)
        before = values(model)
        logs[kind] = model.train(dataset, dataset, 1e-6, 8, "all").history  # a step each
        assert all(value.dtype == np.float32 for value in values(model).values())
        moved = values(model)
        assert all(
            not np.array_equal(moved[path], before[path])
            for path in ("fpn_p2/kernel", "mrcnn_mask/bias")
        )
    for kind, name in [
        *itertools.product(PRECISIONS[1:], ("val_rpn_class_loss", "val_rpn_bbox_loss")),
        *itertools.product(["mixed_bfloat16"], LOSS_NAMES),
    ]:
        np.testing.assert_allclose(
            logs[kind][name][0], logs["float32"][name][0], rtol=0.03, err_msg=f"{kind} {name}"
        )
    norm, exact = (np.mean(logs[kind]["gradient_norm"]) for kind in ("mixed_bfloat16", "float32"))
    np.testing.assert_allclose(norm, exact, rtol=0.03)
    assert (
        np.isfinite(logs["mixed_float16"]["gradient_norm"][-1])
        and logs["mixed_float16"]["gradient_norm"][-1] > 0
    )
    assert keras.config.dtype_policy().name == "float32"  # of what the user builds


# --- A step -----------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss(tmp_path, dataset, compiled):
    model = build(tmp_path, STEPS_PER_EPOCH=8, TRAIN_BN=None)
    history = model.train(dataset, None, 0.005, epochs=4, layers="all").history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert all(np.isfinite(history[name]).all() for name in PARTS)


def test_the_next_stage_has_a_graph_of_its_own(tmp_path, dataset, compiled):
    """That of the first would go on moving the backbone."""
    model = build(tmp_path, RPN_ONLY=True)
    model.train(dataset, None, 0.005, epochs=1, layers="all")
    before = values(model)
    model.train(dataset, None, 0.005, epochs=2, layers="heads")
    moved = {
        path for path, value in values(model).items() if not np.array_equal(value, before[path])
    }
    assert "fpn_p2/kernel" in moved and "res1a_conv/kernel" in before.keys() - moved


def test_three_trainings_at_rate_zero_agree(tmp_path, dataset):
    """matterport's forks add the losses again at every train(); here every loss stays what it was."""
    model = build(tmp_path)
    before = values(model)
    losses = []
    for _ in range(3):
        model.epoch = 0  # the same batches again
        history = model.train(dataset, None, 0.0, epochs=1, layers="all").history
        losses.append({name: history[name][0] for name in ("loss", *PARTS)})
        assert history["loss"][0] == pytest.approx(
            sum(history[name][0] for name in PARTS), rel=1e-6
        )
    assert all(losses[0][name] > 0 for name in ("loss", "rpn_class_loss", "weight_decay"))
    for again in losses[1:]:
        assert again == pytest.approx(losses[0], rel=1e-6, abs=1e-6)
    for path, value in values(model).items():
        if "seed" not in path:
            np.testing.assert_array_equal(value, before[path], err_msg=path)


def test_loss_weights_scale_their_losses(tmp_path, dataset):
    once, twice = {}, {}
    for factor, found in ((1.0, once), (2.0, twice)):
        model = build(tmp_path, LOSS_WEIGHTS={"mrcnn_class_loss": factor, "rpn_bbox_loss": 0.0})
        history = model.train(dataset, None, 0.0, epochs=1, layers="all").history
        found.update({name: value[0] for name, value in history.items()})
    assert twice["mrcnn_class_loss"] == pytest.approx(2 * once["mrcnn_class_loss"], rel=1e-5)
    assert once["rpn_bbox_loss"] == 0
    assert twice["loss"] - once["loss"] == pytest.approx(once["mrcnn_class_loss"], rel=1e-4)


@pytest.mark.parametrize("train_bn", [False, None])
def test_training_the_heads_leaves_the_backbone_bit_equal(tmp_path, dataset, train_bn):
    model = build(tmp_path, TRAIN_BN=train_bn)
    before = values(model)
    model.train(dataset, None, 0.01, epochs=1, layers="heads")
    changed = {
        path for path, value in values(model).items() if not np.array_equal(value, before[path])
    }
    backbone = {
        path
        for path in before
        if path.split("/")[-2][:3] in ("res", "bn1", "bn2", "bn3", "bn4", "bn5")
    }
    assert len(backbone) == 5 * (2 + 4)
    assert not changed & backbone
    moving = {path for path in changed if "moving" in path}
    assert moving == set() if train_bn is False else {"mrcnn_mask_bn1/moving_mean"} <= moving
    assert {"mrcnn_mask_bn1/gamma", "mrcnn_mask/kernel", "fpn_p2/bias"} <= changed


def test_frozen_statistics_still_let_gamma_learn(tmp_path, dataset):
    model = build(tmp_path, TRAIN_BN=False)
    before = values(model)
    model.train(dataset, None, 0.01, epochs=1, layers="all")
    after = values(model)
    assert not np.array_equal(after["bn3a/gamma"], before["bn3a/gamma"])
    for path in before:
        if "moving" in path:
            np.testing.assert_array_equal(after[path], before[path], err_msg=path)


def test_weight_decay_reaches_weights_and_biases_alone(tmp_path, dataset):
    """With every other loss weighted 0, a step moves w by -rate * 2 * decay * w / size(w)."""
    model = build(
        tmp_path, LOSS_WEIGHTS=dict.fromkeys(LOSS_NAMES, 0.0), WEIGHT_DECAY=0.1, STEPS_PER_EPOCH=1
    )
    bias = next(w for w in model.keras_model.weights if w.path.endswith("fpn_p2/bias"))
    bias.assign(np.ones(bias.shape))
    before = values(model)
    model.train(dataset, None, 0.5, epochs=1, layers="all")
    for path, value in values(model).items():
        if path.endswith(("kernel", "bias")):
            expected = before[path] * (1 - 0.5 * 2 * 0.1 / value.size)
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7, err_msg=path)
        elif "seed" not in path:
            np.testing.assert_array_equal(value, before[path], err_msg=path)


# --- What goes wrong overnight ----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_and_names_step_and_images(tmp_path, dataset, monkeypatch):
    model = build(tmp_path, IMAGES_PER_GPU=1, STEPS_PER_EPOCH=4)
    true = training.losses.rpn_bbox_loss
    steps = []

    def broken(*args):
        numerator, count = true(*args)
        steps.append(0)
        return numerator * (np.nan if len(steps) == 3 else 1.0), count

    monkeypatch.setattr(training.losses, "rpn_bbox_loss", broken)
    before, seen = [], []
    step = training.TrainingNetwork.train_step
    monkeypatch.setattr(
        training.TrainingNetwork,
        "train_step",
        lambda self, data: seen.append(int(data[0][1][0, 0])) or step(self, data),
    )

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            before.append(values(model))

    with pytest.raises(callbacks.NotFinite) as error:
        model.train(dataset, None, 0.001, epochs=1, layers="all", custom_callbacks=[Look()])
    text = str(error.value)
    assert "loss = nan" in text and "rpn_bbox_loss = nan" in text and "mrcnn_mask_loss" not in text
    assert f"epoch 1, step 3, images {seen[2]} (" in text and "learning rate below 0.001" in text
    saved = build(tmp_path / "other", seed=4)
    saved.load_weights(os.path.join(model.log_dir, "last_good.h5"))
    kept = values(saved)
    assert all(np.isfinite(value).all() for value in kept.values())
    # of the two good steps, but for what momentum still moved in the third
    moved = max(
        np.abs(value - before[-1][path]).max() for path, value in kept.items() if "seed" not in path
    )
    assert moved < 0.01


def test_out_of_memory_names_the_settings(tmp_path, dataset, monkeypatch):
    def full(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nlong text")

    monkeypatch.setattr(training.losses, "rpn_bbox_loss", full)
    model = build(tmp_path)
    with pytest.raises(training.OutOfMemory) as error:
        model.train(dataset, None, 0.001, epochs=1, layers="all")
    text = str(error.value)
    assert "ResourceExhaustedError: OOM when allocating tensor)" in text and "long text" not in text
    assert (
        "IMAGES_PER_GPU = 1 (now 2), or TRAIN_ROIS_PER_IMAGE = 8 (now 12), or USE_MINI_MASK = True (now False)"
        in text
    )
    assert isinstance(error.value, MemoryError)


def test_a_step_that_waits_for_data_is_told_of(caplog):
    """The original hung in silence."""
    batches = SimpleNamespace(
        being_made={}, names=lambda ids: ", ".join(f"{i} (a.png)" for i in ids)
    )
    stalls = callbacks.Stalls(batches)
    stalls.PATIENCE_S = 0.05
    stalls.on_train_begin()
    with caplog.at_level("WARNING", "mrcnn"):
        stalls.on_train_batch_begin(0)
        time.sleep(0.15)
        assert caplog.text == ""  # the first step may trace
        stalls.on_train_batch_end(0)
        time.sleep(0.15)
        assert caplog.text == ""  # between two steps callbacks may take their time
        batches.being_made[1] = ([5], time.time() - 7)
        stalls.on_train_batch_begin(1)
        time.sleep(0.15)
        stalls.on_train_batch_end(1)
        stalls.on_train_end()
    assert "1 workers are making batches of images 5 (a.png) for 7 s." in caplog.text
    assert caplog.text.count("No step has ended for") >= 2
    assert not stalls.thread.is_alive()


def test_the_workers_say_what_they_do(dataset):
    seen = []

    class Slow(Squares):
        def load_image(self, image_id):
            seen.append(dict(batches.being_made))
            return super().load_image(image_id)

    batches = training.Batches(Slow(), TinyConfig(), batch_size=2, steps=2, seed=7)
    batches[1]
    ((image_ids, since),) = seen[0].values()
    assert image_ids == batches.batch_image_ids(0, 1) == [int(i) for i in image_ids]
    assert time.time() - since < 60 and batches.being_made == {}
    assert batches.names([3]).startswith("3 (")


def test_no_worker_is_left_when_a_training_ends_by_an_error(tmp_path):
    """Python's exit waited forever for a worker that was making a batch."""
    begun = []

    class Slow(Squares):
        def load_image(self, image_id):
            begun.append(image_id)
            time.sleep(0.05)
            return super().load_image(image_id)

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        build(tmp_path, STEPS_PER_EPOCH=9).train(
            Slow(), None, 0.001, 1, "heads", custom_callbacks=[Fail()]
        )
    count = len(begun)
    time.sleep(0.3)
    assert len(begun) == count


def test_what_is_watched_is_in_the_logs_the_table_and_the_history(tmp_path, dataset):
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
    with open(os.path.join(model.log_dir, "losses.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val_mAP"] for row in rows] == ["", "0.250000"]  # a column that came later
    assert float(rows[0]["gradient_norm"]) == pytest.approx(history["gradient_norm"][0], rel=1e-4)


def test_tensorboard_shows_detections_of_the_same_images_each_epoch(tmp_path, caplog):
    class OneIsBroken(Squares):
        def load_image(self, image_id):
            if image_id == 1:
                raise ValueError("image 1 is broken")
            return super().load_image(image_id)

    model = build(tmp_path, VALIDATION_PICTURES=2)
    model.train(Squares(), OneIsBroken(), 0.01, epochs=2, layers="heads")
    shown = {}
    for path in Path(model.log_dir, "validation").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag.startswith("detections"):
                    width, height = (int(side) for side in value.tensor.string_val[:2])
                    shown[value.tag, event.step] = (width, height)
    assert sorted(shown) == [("detections/0", 0), ("detections/0", 1)]
    assert all(
        width > height >= 64 for width, height in shown.values()
    )  # truth and detections side by side
    assert "image 1 is broken" in caplog.text


# --- Epochs, checkpoints, going on ------------------------------------------------------------------------------


def test_epochs_already_reached_warn_and_return(tmp_path, dataset, caplog):
    model = build(tmp_path)
    model.epoch = 3
    with caplog.at_level("WARNING", "mrcnn"):
        assert model.train(dataset, None, 0.01, epochs=3, layers="all") is None
    assert "Nothing to train: epochs=3 means until epoch 3, and 3 are done" in caplog.text
    assert not os.path.exists(model.log_dir)


def test_no_run_yet_names_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        build(tmp_path).find_last()
    (tmp_path / "tiny20240101T0000").mkdir()
    with pytest.raises(FileNotFoundError, match="which has 1 runs of that name and no mask_rcnn"):
        build(tmp_path).find_last()


def test_going_on_from_the_last_checkpoint(tmp_path, dataset):
    first = build(tmp_path)
    first.train(dataset, None, 0.001, epochs=1, layers="heads")
    first.train(dataset, None, 0.001, epochs=2, layers="all")
    assert first.epoch == 2
    path = first.find_last()
    assert path == first.checkpoint_path.format(epoch=2)
    assert sorted(name for name in os.listdir(first.log_dir) if name.endswith(".h5")) == [
        "mask_rcnn_tiny_0001.h5",
        "mask_rcnn_tiny_0002.h5",
    ]

    second = build(tmp_path, seed=1)
    second.load_weights(path, by_name=True)
    assert (second.epoch, second.log_dir) == (2, first.log_dir)
    assert second.class_names == ["BG", "light", "dark"]
    for path, value in values(first).items():
        if "seed" not in path:
            np.testing.assert_array_equal(values(second)[path], value, err_msg=path)
    history = second.train(dataset, None, 0.001, epochs=3, layers="all")
    assert history.epoch == [2]
    assert second.find_last().endswith("mask_rcnn_tiny_0003.h5")
    with open(os.path.join(first.log_dir, "losses.csv")) as file:
        lines = file.read().splitlines()
    assert lines[0].startswith("epoch,loss,") and [line.split(",")[0] for line in lines[1:]] == [
        "1",
        "2",
        "3",
    ]


class StopAfter(keras.callbacks.Callback):
    """Ctrl-C in the middle of the epoch that follows `epoch`."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch == self.epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now:
            raise KeyboardInterrupt


def losses_of(model):
    """All of `losses.csv` but the speed."""
    with open(os.path.join(model.log_dir, "losses.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        [float(value) for name, value in row.items() if name != "images_per_second"] for row in rows
    ]


def assert_same_training(model, reference):
    """The same losses in every epoch, to 1e-6, and the same weights at the end."""
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
    ],
    ids=["constant", "adam, warm-up, cosine", "averaged weights"],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path, dataset, settings):
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


def test_without_a_seed_the_draws_go_on_too(tmp_path, dataset):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    first = read_about(state_path(model.log_dir, 1))["seed"]
    model = build(tmp_path, seed=1, STEPS_PER_EPOCH=1)
    model.load_weights(model.find_last())
    model.train(dataset, None, 0.01, epochs=2, layers="all")
    assert read_about(state_path(model.log_dir, 2))["seed"] == first


def test_the_next_stage_starts_with_a_fresh_optimiser_stopped_or_not(tmp_path, dataset, caplog):
    """The three stages of coco.py; stopped after the first, and in the middle of the second."""

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
    assert caplog.text.count("Going on with the optimiser and the random state of epoch 2.") == 1
    assert "state of epoch 1" not in caplog.text
    assert_same_training(model, whole)


def test_a_checkpoint_without_state_says_that_the_optimiser_starts_anew(tmp_path, dataset, caplog):
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


def test_another_optimiser_starts_anew_and_says_so(tmp_path, dataset, caplog):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    other = build(tmp_path, STEPS_PER_EPOCH=1, OPTIMIZER="adam")
    other.load_weights(other.find_last())
    other.train(dataset, None, 0.01, epochs=2, layers="all")
    assert "The optimiser starts anew after epoch 1: it is another one" in caplog.text


def test_another_learning_rate_is_taken_over(tmp_path, dataset):
    model = build(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.01, epochs=2, layers="all", custom_callbacks=[StopAfter(1)])
    model = build(tmp_path)
    model.load_weights(model.find_last())
    model.train(dataset, None, 0.004, epochs=2, layers="all")
    assert float(model.keras_model.optimizer.learning_rate) == pytest.approx(0.004)
    assert int(model.keras_model.optimizer.iterations) == 2 * model.config.STEPS_PER_EPOCH


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path, dataset):
    class Figures(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update({"val_mAP": [0.1, 0.5, 0.3, math.nan, 0.4][epoch]})

    model = build(tmp_path, KEEP_LAST_N=2, STEPS_PER_EPOCH=1)
    model.train(dataset, None, 0.01, epochs=3, layers="all", custom_callbacks=[Figures()])
    found = [name for name in os.listdir(model.log_dir) if name.startswith(("best", "mask"))]
    assert sorted(found) == ["best.h5", "mask_rcnn_tiny_0002.h5", "mask_rcnn_tiny_0003.h5"]
    shutil.copy(
        model.checkpoint_path.format(epoch=2),
        os.path.join(model.log_dir, "mask_rcnn_tiny_0002_copy.h5"),
    )
    assert filecmp.cmp(
        os.path.join(model.log_dir, "best.h5"), model.checkpoint_path.format(epoch=2), shallow=False
    )
    again = build(tmp_path, KEEP_LAST_N=1, STEPS_PER_EPOCH=1)
    again.load_weights(again.find_last())
    again.train(dataset, None, 0.01, epochs=5, layers="all", custom_callbacks=[Figures()])
    found = [name for name in os.listdir(model.log_dir) if name.startswith(("best", "mask"))]
    assert sorted(found) == ["best.h5", "mask_rcnn_tiny_0002_copy.h5", "mask_rcnn_tiny_0005.h5"]
    assert (
        read_about(state_path(model.log_dir, 5))["best"] == 0.5
    )  # 0.4 of the fifth epoch is not the best of the run
    assert read_metadata(os.path.join(model.log_dir, "best.h5"))["class_names"] == [
        "BG",
        "light",
        "dark",
    ]


def test_one_character_of_find_last_is_explained(tmp_path, dataset):
    """Scripts of 2017 write find_last()[1]."""
    model = build(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"find_last\(\) instead of find_last\(\)\[1\]"):
        model.load_weights("/logs/tiny20240101T0000/mask_rcnn_tiny_0001.h5"[1], by_name=True)


def test_runs_of_one_minute_have_folders_of_their_own(tmp_path, dataset, monkeypatch):
    """Named in one process before either trains; and two processes that took one name."""

    class Minute(datetime.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 1, 12, 30)

    monkeypatch.setattr(training_run.datetime, "datetime", Minute)

    def named():
        return shake(MaskRCNN("training", TinyConfig(STEPS_PER_EPOCH=1), tmp_path))

    first, second = named(), named()
    assert [os.path.basename(model.log_dir) for model in (first, second)] == [
        "tiny20260101T1230",
        "tiny20260101T1230_2",
    ]
    assert second.checkpoint_path == f"{second.log_dir}/mask_rcnn_tiny_{{epoch:04d}}.h5"
    first.set_log_dir()
    assert first.log_dir.endswith("T1230")  # a name that is its own and unused is kept
    assert MaskRCNN("inference", TinyConfig(), tmp_path).log_dir.endswith(
        "T1230"
    )  # writes nothing there

    os.makedirs(second.log_dir)  # by another process, after the name was taken
    for model, folder in ((second, "tiny20260101T1230_3"), (first, "tiny20260101T1230")):
        model.train(dataset, None, 0.001, 1, "heads")
        assert sorted(os.listdir(tmp_path / folder))[:2] == ["losses.csv", "mask_rcnn_tiny_0001.h5"]
    first.train(dataset, None, 0.001, 2, "heads")  # the next stage of a run stays
    assert os.path.isfile(tmp_path / "tiny20260101T1230" / "mask_rcnn_tiny_0002.h5")
    resumed = named()
    resumed.load_weights(tmp_path / "tiny20260101T1230_3" / "mask_rcnn_tiny_0001.h5")
    assert (resumed.epoch, resumed.log_dir) == (1, str(tmp_path / "tiny20260101T1230_3"))
    resumed.train(dataset, None, 0.001, 2, "heads")
    assert os.path.isfile(tmp_path / "tiny20260101T1230_3" / "mask_rcnn_tiny_0002.h5")


def test_a_folder_that_the_user_chose_is_kept(tmp_path, dataset):
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    model.log_dir = str(tmp_path / "mine")
    os.makedirs(model.log_dir)
    model.checkpoint_path = os.path.join(model.log_dir, "mask_rcnn_tiny_{epoch:04d}.h5")
    model.train(dataset, None, 0.001, 1, "heads")
    assert os.path.isfile(tmp_path / "mine" / "mask_rcnn_tiny_0001.h5")


@pytest.mark.parametrize(
    "path, epoch",
    [
        ("/logs/coco20171029T2315_2/mask_rcnn_coco_0003.h5", 3),
        ("/path/to/logs/coco20171029T2315/mask_rcnn_coco_0001.h5", 1),
        ("logs/balloon20180801T0917/mask_rcnn_balloon_0030.h5", 30),
        (r"C:\logs\shapes20200101T0000\mask_rcnn_shapes_0123.h5", 123),
        ("/logs/my-data_220200101T0000/mask_rcnn_my-data_2_0007.h5", 7),
        ("/logs/coco20171029T2315/mask_rcnn_coco_12345.h5", 12345),
        ("/weights/mask_rcnn_coco.h5", 0),
        ("/weights/mask_rcnn_balloon_0030.h5", 0),
        (None, 0),
    ],
)
def test_old_names_tell_the_epoch(tmp_path, path, epoch):
    model = MaskRCNN.__new__(MaskRCNN)
    model.mode, model.config, model.model_dir = "training", TinyConfig(), str(tmp_path)
    model.set_log_dir(path)
    assert model.epoch == epoch
    if epoch:
        assert model.log_dir == os.path.dirname(path.replace("\\", "/")) or "\\" in path
    else:
        assert model.log_dir.startswith(str(tmp_path / "tiny"))


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, dataset, monkeypatch):
    model = build(tmp_path)
    model.train(dataset, None, 0.001, epochs=1, layers="heads")
    path = model.find_last()
    with open(path, "rb") as file:
        before = file.read()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "_write_layers", full)
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


def test_weights_come_before_the_state_when_only_one_fits(tmp_path, dataset, monkeypatch):
    """A disk with room for one of two equal files: the state would take it, and the epoch would be lost."""
    model, written = build(tmp_path, STEPS_PER_EPOCH=1), []
    save_weights, save_state = saving.save_weights, callbacks.save_state

    def one_fits(save):
        def write(*args, **named):
            if glob.glob(f"{model.log_dir}/*_0001.*5"):
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(save)
            return save(*args, **named)

        return write

    monkeypatch.setattr(saving, "save_weights", one_fits(save_weights))
    monkeypatch.setattr(callbacks, "save_state", one_fits(save_state))
    with pytest.raises(
        OSError, match=r"No space left on device(.|\n)*The weights of epoch 1 are in .*_0001.h5"
    ):
        model.train(dataset, None, 0.001, epochs=2, layers="heads")
    assert written == [save_state, save_weights]
    assert glob.glob(f"{model.log_dir}/training_state*") == []
    again = build(tmp_path, seed=1, STEPS_PER_EPOCH=1)
    again.load_weights(model.checkpoint_path.format(epoch=1))
    assert again.epoch == 1


def test_a_state_that_does_not_fit_costs_no_weights(tmp_path, dataset, monkeypatch):
    def full(*args, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(callbacks, "save_state", full)
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(
        OSError, match="The weights of epoch 1 are in .*_0001.h5; a training that resumes from them"
    ):
        model.train(dataset, None, 0.001, epochs=1, layers="heads")
    assert os.path.isfile(model.checkpoint_path.format(epoch=1))


def test_a_full_disk_is_foreseen(tmp_path, dataset, monkeypatch, caplog):
    """Before the first epoch an error, before a later one a warning; a drive that says 0 of everything is believed."""
    sizes, steps = iter([(100, 90, 10)]), []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(batch)
    )
    monkeypatch.setattr(callbacks.shutil, "disk_usage", lambda path: next(sizes))
    model = build(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(
        OSError, match=r"room for a checkpoint and its training state, \d MB. Received: 0 MB free"
    ):
        model.train(dataset, None, 0.001, epochs=1, layers="heads", custom_callbacks=[count])
    assert steps == []
    sizes = iter([(0, 0, 0), (100, 90, 10)])
    model.train(dataset, None, 0.001, epochs=2, layers="heads", custom_callbacks=[count])
    assert steps == [0, 0] and caplog.text.count("0 MB free") == 1
    assert "Until epoch 2 ends there is time to do so." in caplog.text


@pytest.mark.parametrize("source", ["DataGenerator", "data_generator"])
@pytest.mark.parametrize("method", ["fit", "fit_generator"])
def test_scripts_with_a_training_loop_of_their_own(tmp_path, dataset, caplog, source, method):
    """Subclasses override `train` and call Keras themselves, in the words of Keras 2."""
    model = build(tmp_path)
    model.set_trainable("mrcnn_.*")
    model.compile(0.01, 0.9)
    made = {
        name: getattr(modellib, source)(dataset, model.config, batch_size=2)
        for name in ("train", "val")
    }
    history = getattr(model.keras_model, method)(
        made["train"],
        epochs=2,
        steps_per_epoch=2,
        validation_data=made["val"],
        validation_steps=1,
        max_queue_size=100,
        workers=4,
        use_multiprocessing=True,
        verbose=0,
    )
    assert {"loss", *PARTS, *(f"val_{name}" for name in PARTS)} <= history.history.keys()
    assert all(
        len(losses) == 2 and np.isfinite(losses).all() for losses in history.history.values()
    )
    assert (
        caplog.text.count("keras_model.fit ignores workers, use_multiprocessing, max_queue_size: ")
        == 1
    )


def test_no_generator_is_read_after_fit(tmp_path, dataset):
    """A thread of TensorFlow that is in one when Python exits would hang it."""
    model, given = build(tmp_path), []
    model.compile(0.01, 0.9)

    def slow():
        for batch in modellib.data_generator(dataset, model.config, batch_size=2):
            given.append(time.time())
            time.sleep(0.2)
            yield batch

    model.keras_model.fit(
        slow(), steps_per_epoch=1, validation_data=slow(), validation_steps=1, verbose=0
    )
    end = time.time()
    time.sleep(0.6)
    assert max(given) < end


def test_fit_generator_takes_its_arguments_by_position(tmp_path, dataset):
    model = build(tmp_path)
    model.compile(0.01, 0.9)
    batches = modellib.data_generator(dataset, model.config, batch_size=2)
    history = model.keras_model.fit_generator(batches, 2, 3, 0)
    assert len(history.history["loss"]) == 3 and history.params["steps"] == 2


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
    assert "STEPS_PER_EPOCH = 2.4 is rounded up to 3." in caplog.messages


def test_negatives_and_references_of_published_scripts_train(tmp_path, caplog):
    class Pneumonia(Squares):
        def load_mask(self, image_id):
            if image_id:
                return np.zeros((self.side, self.side, 1), bool), np.zeros(1, np.int32)
            return super().load_mask(image_id)

        def image_reference(self, image_id):
            return super(self.__class__).image_reference(self, image_id)

    data = Pneumonia(8)
    model = build(tmp_path, STEPS_PER_EPOCH=4, MAX_IMAGE_ERRORS=0)
    model.train(data, data, 0.001, 1, "heads")
    assert "Skipped" not in caplog.text


def test_an_unreadable_image_reaches_the_caller_as_its_own_sentence(tmp_path):
    class Broken(Squares):
        def load_image(self, image_id):
            raise ValueError(
                f"The image must be readable. Received: /data/{image_id}.jpg. Try fetching it again."
            )

    with pytest.raises(
        ValueError, match=r"At most 2 images may be unusable(.|\n)*Received: /data/\d.jpg"
    ):
        build(tmp_path, MAX_IMAGE_ERRORS=2).train(Broken(), None, 0.001, epochs=1, layers="heads")


def test_a_dataset_of_other_classes_is_refused(tmp_path, dataset):
    with pytest.raises(
        ValueError, match="NUM_CLASSES must be 1 .* Received: NUM_CLASSES = 5, and 3 classes"
    ):
        build(tmp_path, NUM_CLASSES=5).train(dataset, None, 0.001, epochs=1, layers="heads")


def test_ctrl_c_leaves_a_usable_file(tmp_path, dataset):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = build(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.001, epochs=1, layers="heads", custom_callbacks=[Stop()])
    path = os.path.join(model.log_dir, "interrupted.h5")
    assert MaskRCNN.from_weights(path, config=TinyConfig()).class_names == ["BG", "light", "dark"]


def test_the_next_ctrl_c_keeps_the_former_file_and_says_what_goes_on_from_where(
    tmp_path, dataset, caplog
):
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
        and "To start a new run from them, load that file" in caplog.text
    )
    assert "last checkpoint" not in caplog.text  # there is no whole epoch to resume from
    model.train(dataset, None, 0.001, epochs=1, layers="heads")
    with pytest.raises(KeyboardInterrupt):
        model.train(dataset, None, 0.001, epochs=2, layers="heads", custom_callbacks=[stop])
    assert (
        "The last checkpoint (--weights last) resumes after epoch 1, without them." in caplog.text
    )
    assert (
        "find_last" not in caplog.text and "load_weights" not in caplog.text
    )  # whoever calls the command knows none
    assert model.find_last().endswith("_0001.h5")
    again = build(tmp_path)
    again.load_weights(os.path.join(model.log_dir, "interrupted_3.h5"))
    assert again.epoch == 0


def _interrupt():
    raise KeyboardInterrupt


def slow_step(presses):
    """Ctrl-C so often, each 0.2 s after the other, in a call that keeps Python from handling it."""

    def press():
        for _ in range(presses):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)


@pytest.mark.parametrize(
    "presses, terminal, ended", [(1, True, []), (2, True, [130]), (2, False, [])]
)
def test_ctrl_c_in_a_slow_step_is_answered_at_once(monkeypatch, caplog, presses, terminal, ended):
    """The second one ends the program, in a step that does not return; a notebook's kernel stays."""
    previous = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a worker of pytest-xdist ignores Ctrl-C
    codes, interrupts = [], callbacks.Interrupts()
    interrupts.PATIENCE_S = 0.01
    monkeypatch.setattr(callbacks.sys, "stdin", SimpleNamespace(isatty=lambda: terminal))
    monkeypatch.setattr(callbacks.os, "_exit", codes.append)
    interrupts.start()
    try:
        slow_step(presses)
        raised = time.time()
    finally:
        interrupts.stop()
        signal.signal(signal.SIGINT, previous)
    assert codes == ended
    (said,) = [record for record in caplog.records if "Stopping after this step" in record.message]
    assert said.created < raised - 0.2
    assert signal.set_wakeup_fd(-1) == -1


def test_the_time_left_is_not_known_at_the_first_step(caplog):
    progress = callbacks.Progress(0, 1, 5)
    progress.INTERVAL_S = -1
    with caplog.at_level("INFO", logger="mrcnn"):
        progress.on_train_begin()
        progress.on_train_batch_end(0, {"loss": 2.0})
        progress.on_train_batch_end(1, {"loss": 2.0})
    lines = [line for line in caplog.messages if "step " in line and " left " in line]
    assert lines[0] == "epoch 1/1 step 1/5  -:--:-- left  loss 2.0000"
    assert lines[1] == "epoch 1/1 step 2/5  0:00 left  loss 2.0000"


def test_saved_and_loaded_it_detects_the_same(tmp_path, dataset):
    model = build(tmp_path)
    model.train(dataset, None, 0.001, epochs=1, layers="all")
    found = []
    for name in ("a.h5", "b.h5"):
        model.save_weights(tmp_path / name)
        model = MaskRCNN.from_weights(tmp_path / name, config=TinyConfig())
        found.append(model.detect(noise_images(1))[0])
    assert len(found[0]["rois"]) > 0
    for key in ("rois", "class_ids", "scores", "masks"):
        np.testing.assert_array_equal(found[0][key], found[1][key])


def test_random_rois_train_the_heads_without_the_rpn(tmp_path, dataset):
    model = build(tmp_path, USE_RPN_ROIS=False, STEPS_PER_EPOCH=2)
    history = model.train(dataset, None, 0.0, epochs=1, layers="heads").history
    assert history["mrcnn_bbox_loss"][0] > 0 and np.isfinite(history["loss"][0])


def test_mini_masks_train(tmp_path, dataset):
    model = build(tmp_path, USE_MINI_MASK=True, MINI_MASK_SHAPE=(28, 28), STEPS_PER_EPOCH=2)
    history = model.train(dataset, None, 0.0, epochs=1, layers="heads").history
    assert history["mrcnn_mask_loss"][0] > 0


def test_callbacks_of_the_user_are_called(tmp_path, dataset):
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


# --- Less than the whole network ----------------------------------------------------------------------------------


class BoxedSquares(Squares):
    """Boxes alone: `load_mask` may not be asked for."""

    def load_bbox(self, image_id):
        rows, columns = self._square(image_id)
        return [[rows.start, columns.start, rows.stop, columns.stop]], [1 if image_id % 2 else 2]

    def load_mask(self, image_id):
        pytest.fail("masks are not needed")


@pytest.mark.parametrize(
    ("mode", "losses"),
    [
        ({"USE_MASK": False}, LOSS_NAMES[:4]),
        ({"USE_MASK": False, "USE_RPN_ROIS": False}, LOSS_NAMES[:4]),
        ({"RPN_ONLY": True}, LOSS_NAMES[:2]),
    ],
)
def test_what_has_no_masks_trains_on_boxes_alone(tmp_path, mode, losses):
    model = build(tmp_path, **mode, STEPS_PER_EPOCH=2)
    before = values(model)
    history = model.train(BoxedSquares(), BoxedSquares(2), 0.01, 1, "all").history
    named = {name for name in history if name.endswith("loss") and not name.startswith("val_")}
    assert named == {"loss", *losses}
    assert ("positive_rois" in history) == (len(losses) > 2)
    assert history["loss"][0] == pytest.approx(
        sum(history[name][0] for name in (*losses, "weight_decay")), rel=1e-5
    )
    assert np.isfinite(history["val_loss"][0])
    moved = {
        path for path, value in values(model).items() if not np.array_equal(value, before[path])
    }
    assert any("rpn_conv_shared" in path for path in moved) and any(
        "res1a_conv" in path for path in moved
    )
    found = MaskRCNN("inference", TinyConfig(**mode), str(tmp_path))
    found.load_weights(model.find_last())
    assert set(found.detect(noise_images(1))[0]) == (
        {"rois", "scores"} if len(losses) == 2 else {"rois", "class_ids", "scores"}
    )


def test_box_losses_are_those_of_the_whole_network(tmp_path, dataset):
    """Same weights, same batch, same sample: the four losses without the mask's."""
    whole, has_boxes_only = build(tmp_path), build(tmp_path, USE_MASK=False)
    whole.save_weights(tmp_path / "whole.h5")
    has_boxes_only.load_weights(tmp_path / "whole.h5")
    logs = [model.train(dataset, None, 0.0, 1, "all").history for model in (whole, has_boxes_only)]
    for name in LOSS_NAMES[:4]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)


def test_heads_for_all_classes_train(tmp_path, dataset):
    model = build(tmp_path, CLASS_AGNOSTIC_BOX=True, CLASS_AGNOSTIC_MASK=True, STEPS_PER_EPOCH=2)
    before = values(model)
    history = model.train(dataset, None, 0.01, 1, "heads").history
    assert {"loss", *PARTS} <= set(history) and np.isfinite(history["loss"][0])
    moved = {
        path for path, value in values(model).items() if not np.array_equal(value, before[path])
    }
    assert {"mrcnn_bbox_fc/kernel", "mrcnn_mask/kernel"} <= moved


def test_a_box_only_training_watches_the_ap_of_boxes(tmp_path):
    model = build(tmp_path, USE_MASK=False)
    watching = MeanAveragePrecisionCallback(
        model, MaskRCNN("inference", TinyConfig(USE_MASK=False), str(tmp_path)), BoxedSquares(2), 1
    )
    history = model.train(BoxedSquares(), None, 0.01, 1, "all", custom_callbacks=[watching]).history
    assert history["val_mAP"] == history["val_box_mAP"] and 0 <= history["val_mAP"][0] <= 1


# --- Shapes -----------------------------------------------------------------------------------------------------


class Various(Squares):
    """The squares in photos of other heights and widths, and any number of channels."""

    def __init__(self, *shapes, channels=3):
        super().__init__(count=len(shapes))
        self.shapes, self.channels = shapes, channels

    def load_image(self, image_id):
        image = np.full((*self.shapes[image_id], self.channels), 128, np.uint8)
        image[self.load_mask(image_id)[0][:, :, 0]] = 250 if image_id % 2 else 20
        return image

    def load_mask(self, image_id):
        mask = np.zeros((*self.shapes[image_id], 1), bool)
        mask[self._square(image_id)] = True
        return mask, np.array([1 if image_id % 2 else 2], np.int32)


ODD = (64, 64), (70, 100), (100, 70), (64, 129), (120, 64)  # become 64, 128 and 192 in pad64
WHOLE = (64, 64), (64, 128), (128, 64), (64, 192), (128, 64)


@pytest.mark.parametrize(
    "shapes, settings",
    [
        (ODD, {"IMAGE_SHAPE": [64, 128, 3], "IMAGE_MAX_DIM": 128}),
        (ODD, {"IMAGE_SHAPE": [128, 64, 3], "IMAGE_MAX_DIM": 128, "USE_MINI_MASK": True}),
        (ODD, {"IMAGE_RESIZE_MODE": "crop"}),
        (ODD, {"IMAGE_RESIZE_MODE": "crop", "IMAGE_SHAPE": [64, 128, 3]}),
        (ODD, {"IMAGE_RESIZE_MODE": "pad64", "IMAGES_PER_GPU": 1}),
        (ODD, {"IMAGE_RESIZE_MODE": "pad64", "USE_MINI_MASK": True}),
        (WHOLE, {"IMAGE_RESIZE_MODE": "none", "IMAGES_PER_GPU": 1}),
        (WHOLE, {"IMAGE_RESIZE_MODE": "none", "USE_MINI_MASK": True}),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_images_of_every_shape_train(tmp_path, shapes, settings):
    model = build(tmp_path, **settings, STEPS_PER_EPOCH=1)
    history = model.train(Various(*shapes), None, 0.001, epochs=1, layers="all").history
    assert (
        all(np.isfinite(history[name]).all() for name in PARTS) and history["rpn_bbox_loss"][0] > 0
    )
    assert history["mrcnn_class_loss"][0] > 0


def test_sizes_that_change_from_batch_to_batch_train_as_one_graph(tmp_path, compiled):
    """Keras takes the sizes of the first two batches for those of all: here they agree, and the next ones differ."""
    dataset = Various((64, 128), (64, 128), (64, 128), (64, 128), (192, 64), (128, 64))
    model = build(tmp_path, IMAGE_RESIZE_MODE="pad64", STEPS_PER_EPOCH=3)
    traced = []
    step = model.keras_model.train_step
    model.keras_model.train_step = lambda data: traced.append(data[0][0].shape) or step(data)
    history = model.train(dataset, None, 0.001, epochs=1, layers="heads").history
    assert np.isfinite(history["loss"]).all()
    assert traced == [(None, None, None, 3)]


def noisy(channels=3):
    """The squares, with noise over all grey values."""
    dataset = Various(*[(64, 64)] * 2, channels=channels)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, channels), dtype=np.uint8)
    load_image = dataset.load_image
    dataset.load_image = lambda image_id: load_image(image_id) + noise
    return dataset


@pytest.mark.parametrize("channels, mean", [(3, [123.7, 116.8, 103.9]), (1, [99.9])])
def test_a_step_on_photos_is_that_on_molded_images(tmp_path, channels, mean):
    """The user's own loop feeds floats of `DataGenerator`, `train` feeds uint8."""
    found = []
    for kind, dtype in ((DataGenerator, np.float32), (training.Batches, np.uint8)):
        model = build(tmp_path, IMAGE_CHANNEL_COUNT=channels, MEAN_PIXEL=np.array(mean))
        inputs, _ = kind(noisy(channels), model.config, batch_size=2, seed=1)[0]
        assert inputs[0].dtype == dtype and np.ptp(inputs[0]) > 250
        network = model.keras_model
        model.compile(0.01, 0.9)
        steps = [network.test_on_batch(list(inputs), return_dict=True)]
        steps += [network.train_on_batch(list(inputs), return_dict=True) for _ in range(2)]
        found.append([[float(step[name]) for name in ("loss", *PARTS)] for step in steps])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert found[0][1][0] > found[0][2][0] > 0


def test_the_stream_sends_photos_of_uint8(network):
    def darken(image, masks, rng):
        return image * 0.5, masks  # floats

    for augmentation, grey in ((None, 128), (darken, 64)):
        batches = training.Batches(
            Squares(), TinyConfig(), batch_size=2, seed=3, steps=1, augmentation=augmentation
        )
        ((inputs,),) = training.stream(batches, network, endless=False)
        assert inputs[0].dtype == tf.uint8 and inputs[0][0, 0, 0].numpy().tolist() == [grey] * 3
        assert [x.dtype for x in inputs[1:]] == [i.dtype for i in network.inputs[1:]]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_stream_gives_the_batches_in_order(network, workers):
    config = TinyConfig(IMAGE_RESIZE_MODE="pad64")
    made = [
        training.Batches(Various(*ODD), config, batch_size=2, seed=3, steps=2, workers=w)
        for w in (1, workers)
    ]
    made[1].epoch = 1
    anywhere = MaskRCNN("training", config).keras_model
    streamed = training.stream(made[1], anywhere).take(4)
    for number, (inputs,) in enumerate(streamed, start=2):
        for x, y in zip(inputs, made[0].batch(number)[0], strict=True):
            np.testing.assert_array_equal(x.numpy(), np.asarray(y, x.numpy().dtype))


def test_the_stream_of_the_validation_is_the_same_each_time(network):
    batches = training.Batches(Squares(count=5), TinyConfig(), batch_size=2, seed=3, steps=2)
    streamed = training.stream(batches, network, endless=False)
    metas = [[inputs[1].numpy() for (inputs,) in streamed] for _ in range(2)]
    np.testing.assert_array_equal(metas[0], metas[1])
    assert np.array(metas[0])[:, :, 0].tolist() == [batches.batch_image_ids(0, i) for i in (0, 1)]


def test_a_stream_that_fails_says_why(tmp_path):
    dataset = Various((64, 100), (64, 64))
    with pytest.raises(
        ValueError, match=r"(?s)At most 0 images.*multiples of 64. Received: 64 x 100"
    ):
        model = build(tmp_path, IMAGE_RESIZE_MODE="none", IMAGES_PER_GPU=1, MAX_IMAGE_ERRORS=0)
        model.train(dataset, None, 0.001, epochs=1, layers="heads")


@pytest.mark.parametrize("channels", [1, 4, 8])
def test_images_of_other_channels_train_from_rgb_weights(tmp_path, channels):
    build(tmp_path).save_weights(tmp_path / "rgb.h5")
    model = build(
        tmp_path,
        IMAGE_CHANNEL_COUNT=channels,
        MEAN_PIXEL=np.full(channels, 110.0),
        STEPS_PER_EPOCH=1,
    )
    report = model.load_weights(tmp_path / "rgb.h5")
    assert report.adapted == [("res1a_conv", (3, 3, 3, 24), (3, 3, channels, 24))]
    history = model.train(
        Various(*[(64, 64)] * 4, channels=channels), None, 0.001, epochs=1, layers="all"
    ).history
    assert np.isfinite(history["loss"][0]) and history["rpn_bbox_loss"][0] > 0


def test_rare_classes_come_more_often(tmp_path, monkeypatch):
    made = {}

    class Noted(training.Batches):
        def __init__(self, dataset, config, **options):
            super().__init__(dataset, config, **options)
            made.setdefault("repeats", []).append(options.get("repeats"))

    monkeypatch.setattr(training, "Batches", Noted)
    dataset = Squares(count=5)  # dark: images 0, 2, 4; light: 1, 3
    for validation, settings in ((dataset, {"REPEAT_THRESHOLD": 0.5}), (None, {})):
        model = build(tmp_path, **settings)
        model.keras_model.fit = lambda *args, **options: None
        model.train(dataset, validation, 0.001, epochs=1, layers="heads")
    rare = (0.5 / 0.4) ** 0.5
    assert made["repeats"][0].tolist() == pytest.approx([1, rare, 1, rare, 1])
    assert made["repeats"][1:] == [None, None]  # the validation; a training without

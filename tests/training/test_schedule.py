"""The learning rate over the steps."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_training import build

from mrcnn.training.schedule import Schedule, scaled_learning_rate

pytestmark = pytest.mark.usefixtures("eagerly")


def factors(schedule, *steps):
    return [schedule(step) for step in steps]


def test_constant_schedule_with_warm_up():
    # the rate grows by a quarter per step, up to its full value
    assert factors(Schedule(warmup=4), 0, 1, 3, 4, 100) == pytest.approx([0.25, 0.5, 1, 1, 1])
    assert factors(Schedule(), 0, 7) == [1, 1]


def test_cosine_schedule():
    # 0.01 + 0.99 * (1 + cos(pi * progress)) / 2: 1, half way 0.505, from the end on 0.01
    assert factors(Schedule("cosine", total=100), 0, 50, 100, 150) == pytest.approx(
        [1, 0.505, 0.01, 0.01]
    )
    # warm-up of 20: the cosine starts after it
    assert factors(Schedule("cosine", 20, total=120), 9, 20, 70) == pytest.approx([0.5, 1, 0.505])


def test_step_schedule():
    # two thirds of 90 steps are 60, eight ninths are 80: a tenth from 60 on, a hundredth from 80
    schedule = Schedule("step", total=90, drops=(2 / 3, 8 / 9))
    assert factors(schedule, 0, 59, 60, 79, 80, 89) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


class RateRecorder(keras.callbacks.Callback):
    """Records the optimizer's rate during each step and between the steps."""

    def __init__(self):
        super().__init__()
        self.in_steps, self.between = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.in_steps.append(float(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch, logs=None):
        self.between.append(float(self.model.optimizer.learning_rate))


def test_callbacks_set_the_rate_that_warm_up_multiplies(tmp_path, dataset):
    """Warm-up over four steps, and a callback that halves the rate each epoch (matterport#1228)."""
    model, recorder = build(tmp_path, STEPS_PER_EPOCH=3, WARMUP_STEPS=4), RateRecorder()
    halving = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.08 * 0.5**epoch)
    history = model.train(dataset, None, 0.08, 2, "heads", custom_callbacks=[halving, recorder])
    assert recorder.in_steps == pytest.approx([0.02, 0.04, 0.06, 0.04, 0.04, 0.04])
    assert recorder.between == pytest.approx([0.08] * 3 + [0.04] * 3)
    assert history.history["learning_rate"] == pytest.approx([0.08, 0.04])  # from Keras' callback


def test_plateau_lowers_the_rate_of_a_schedule(tmp_path, dataset):
    model, recorder = (
        build(
            tmp_path, STEPS_PER_EPOCH=1, LEARNING_RATE_SCHEDULE="step", LEARNING_RATE_DROPS=(0.75,)
        ),
        RateRecorder(),
    )
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", factor=0.5, patience=1, min_delta=1e9
    )
    model.train(dataset, None, 0.08, 4, "heads", custom_callbacks=[plateau, recorder])
    # every epoch after the first is on the plateau; the schedule divides the last step by 10
    assert recorder.in_steps == pytest.approx([0.08, 0.08, 0.04, 0.02 / 10])


def test_logs_and_tensorboard_have_the_scheduled_rate(tmp_path, dataset):
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


def test_optimizer_keeps_its_own_schedule(tmp_path, dataset, caplog):
    own = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.5, 0.25])
    model, recorder = (
        build(tmp_path, OPTIMIZER=lambda rate: keras.optimizers.SGD(own), WARMUP_STEPS=9),
        RateRecorder(),
    )
    model.config.STEPS_PER_EPOCH = 3
    model.train(dataset, None, 0.0, 1, "heads", custom_callbacks=[recorder])
    assert recorder.in_steps == [0.5, 0.5, 0.25]
    assert "WARMUP_STEPS are unused: the OPTIMIZER has a schedule of its own" in caplog.text


def test_learning_rate_is_proportional_to_the_batch_size():
    # 0.02 for 16 images is an eighth of that for 2
    assert scaled_learning_rate(0.02, 2) == pytest.approx(0.0025)
    assert scaled_learning_rate(0.001, 8, of_batch_size=2) == pytest.approx(0.004)

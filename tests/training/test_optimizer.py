"""Optimizers and clipped gradients."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig, noise_images
from tiny_training import build, values

from mrcnn.model import MaskRCNN
from mrcnn.training.optimizer import compile_network, gradient_scale

pytestmark = pytest.mark.usefixtures("eagerly")


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
def test_optimizer_by_name_or_function(network, choice, kind):
    compile_network(network, TinyConfig(OPTIMIZER=choice), 0.25, 0.9)
    assert type(network.optimizer) is kind
    assert float(network.optimizer.learning_rate) == 0.25


def test_name_of_an_optimizer_function_cannot_train(network):
    with pytest.raises(ValueError, match="Received: 'mine:lion', the name of a function"):
        compile_network(network, TinyConfig(OPTIMIZER="mine:lion"), 0.25, 0.9)


def test_xla_stays_off_with_a_gpu(tmp_path, monkeypatch):
    """XLA cannot compile crop_and_resize, and Keras would use it by default."""
    training_model = build(tmp_path)
    network, detecting = training_model.keras_model, MaskRCNN("inference", TinyConfig(), tmp_path)
    gpu = SimpleNamespace(device_type="GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    anything = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    anything.compile("sgd")
    assert anything.jit_compile  # the default of Keras
    training_model.compile(0.01, 0.9)
    assert network.jit_compile is False
    network.compile("sgd")
    assert network.jit_compile is False and detecting.keras_model.jit_compile is False
    options, function = [], tf.function
    monkeypatch.setattr(
        tf, "function", lambda *args, **named: options.append(named) or function(*args, **named)
    )
    detecting.detect(noise_images(1))
    assert (
        options[0]["jit_compile"] is False
    )  # of the function around the network; Keras makes others


def test_accumulated_gradients_update_the_weights_once(tmp_path, dataset):
    """Four steps update once, by the mean gradient clipped to 0.01 (plain SGD at rate 1)."""
    config = {"STEPS_PER_EPOCH": 4, "GRADIENT_ACCUMULATION_STEPS": 4, "GRADIENT_CLIP_NORM": 0.01}
    model = build(tmp_path, LEARNING_MOMENTUM=0.0, **config)
    before = values(model)
    model.train(dataset, None, 1.0, epochs=1, layers="all")
    moved = np.sqrt(
        sum(np.sum((value - before[path]) ** 2) for path, value in values(model).items())
    )
    assert moved == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="GRADIENT_ACCUMULATION_STEPS must be 1"):
        compile_network(
            model.keras_model, TinyConfig(OPTIMIZER=keras.optimizers.Lion, **config), 0.1, 0.9
        )


def test_gradients_are_clipped_by_their_global_norm():
    # a norm of 50 is scaled to 5; shorter gradients are not, nor any without a maximum
    assert float(gradient_scale(tf.constant(50.0), 5.0)) == pytest.approx(0.1, rel=1e-6)
    for largest in (5.0, None, 0):
        assert float(gradient_scale(tf.constant(4.92), largest)) == 1.0
    assert float(gradient_scale(tf.constant(0.0), 5.0)) == 1.0
    assert float(gradient_scale(tf.constant(np.nan), 5.0)) == 0.0


def test_update_is_at_most_as_long_as_the_clip_norm(tmp_path, dataset):
    """Plain SGD at rate 1 moves the weights by the clipped gradient."""
    model = build(tmp_path, GRADIENT_CLIP_NORM=0.01, LEARNING_MOMENTUM=0.0, STEPS_PER_EPOCH=1)
    before = values(model)
    model.train(dataset, None, 1.0, epochs=1, layers="all")
    moved = np.sqrt(
        sum(np.sum((value - before[path]) ** 2) for path, value in values(model).items())
    )
    assert moved == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("choice", ["sgd", "adam", "adamw"])
def test_biases_learn_at_their_own_rate(choice):
    """One step on gradients of 1: the bias moves twice as far, the kernel as ever."""
    moved = {}
    for factor in (1.0, 2.0):
        dense = keras.layers.Dense(1, kernel_initializer="zeros")
        net = keras.Sequential([keras.Input([1]), dense])
        config = TinyConfig(OPTIMIZER=choice, BIAS_LEARNING_RATE_FACTOR=factor)
        compile_network(net, config, 0.25, 0.9)
        net.optimizer.apply([tf.ones([1, 1]), tf.ones([1])], net.trainable_variables)
        moved[factor] = [float(value.numpy().item()) for value in net.trainable_variables]
    (kernel, bias), (same_kernel, far_bias) = moved[1.0], moved[2.0]
    assert kernel == same_kernel == pytest.approx(-0.25, rel=1e-5)
    assert (bias, far_bias) == (pytest.approx(-0.25, rel=1e-5), pytest.approx(-0.5, rel=1e-5))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(net.optimizer))
    assert again.bias_factor == 2.0


def test_optimizer_function_has_one_rate_for_all_weights(network):
    config = TinyConfig(OPTIMIZER=keras.optimizers.Lion, BIAS_LEARNING_RATE_FACTOR=2.0)
    with pytest.raises(ValueError, match="BIAS_LEARNING_RATE_FACTOR must be 1 with"):
        compile_network(network, config, 0.25, 0.9)

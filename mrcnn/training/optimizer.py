"""The optimizer that the config asks for, and the clipping of its gradients."""

from __future__ import annotations

import re
from typing import Any

import keras
import tensorflow as tf

from ..config import Config


def compile_network(
    network: keras.Model, config: Config, learning_rate: float, momentum: float
) -> None:
    """Compile the network with a new optimizer; its `train_step` computes the losses.

    momentum: of SGD.

    Raises: ValueError if the optimizer is unknown, or cannot do what the config asks for.
    """
    _check_accumulation(network, config)
    _check_bias_factor(config)
    with network.distribute_strategy.scope():
        optimizer = _make_optimizer(config, learning_rate, momentum)
        # XLA cannot compile crop_and_resize; Keras' "auto" would try it on a GPU.
        options: dict[str, Any] = {"jit_compile": False}
        network.compile(optimizer=optimizer, **options)


def gradient_scale(norm: tf.Tensor, max_norm: float | None) -> tf.Tensor:
    """Return the factor that brings gradients of a global norm to at most `max_norm`.

    norm: scalar. max_norm: None or 0 does not clip.

    Returns: scalar; 0 if the norm is not finite, so that the step changes no weight.
    """
    scale = max_norm / tf.maximum(norm, max_norm) if max_norm else 1.0
    return tf.where(tf.math.is_finite(norm), scale, 0.0)


def _check_accumulation(network, config) -> None:
    steps = config.GRADIENT_ACCUMULATION_STEPS
    several_devices = network.distribute_strategy.num_replicas_in_sync > 1
    if steps > 1 and (several_devices or callable(config.OPTIMIZER)):
        raise ValueError(
            "GRADIENT_ACCUMULATION_STEPS must be 1 on several devices, which Keras cannot combine, "
            "and with an OPTIMIZER function, which sets its own number. "
            f"Received: {steps}. Try 1."
        )


def _check_bias_factor(config) -> None:
    if config.BIAS_LEARNING_RATE_FACTOR != 1 and callable(config.OPTIMIZER):
        raise ValueError(
            "BIAS_LEARNING_RATE_FACTOR must be 1 with an OPTIMIZER function, whose optimizer has "
            f"one rate for all weights. Received: {config.BIAS_LEARNING_RATE_FACTOR}. "
            "Try 1, or OPTIMIZER = 'sgd'."
        )


class _BiasRate:
    """Mixin of optimizers: biases have `bias_factor` times the learning rate.

    Biases are those of convolutions and fully connected layers, not the shift of a norm.
    """

    def __init__(self, *args, bias_factor: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.bias_factor = bias_factor

    def update_step(self, gradient, variable, learning_rate):
        if re.search(r"(^|/)bias(/replica_\d+)?(:\d+)?$", variable.name):
            learning_rate = learning_rate * self.bias_factor
        parent: Any = super()
        return parent.update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict:
        parent: Any = super()
        return {**parent.get_config(), "bias_factor": self.bias_factor}


@keras.saving.register_keras_serializable("mrcnn")
class BiasRateSGD(_BiasRate, keras.optimizers.SGD):
    """SGD with another learning rate for biases."""


@keras.saving.register_keras_serializable("mrcnn")
class BiasRateAdam(_BiasRate, keras.optimizers.Adam):
    """Adam with another learning rate for biases."""


@keras.saving.register_keras_serializable("mrcnn")
class BiasRateAdamW(_BiasRate, keras.optimizers.AdamW):
    """AdamW with another learning rate for biases."""


def _make_optimizer(
    config: Any, learning_rate: float, momentum: float
) -> keras.optimizers.Optimizer:
    choice: Any = config.OPTIMIZER
    if callable(choice):
        made: Any = choice(learning_rate)
        return made
    options: dict[str, Any] = {}
    if config.GRADIENT_ACCUMULATION_STEPS > 1:
        # Only the optimizer sees the mean gradient of the micro-batches, so it does the clipping.
        options["gradient_accumulation_steps"] = config.GRADIENT_ACCUMULATION_STEPS
        options["global_clipnorm"] = config.GRADIENT_CLIP_NORM or None
    factor = config.BIAS_LEARNING_RATE_FACTOR
    if factor != 1:
        options["bias_factor"] = factor
    name = str(choice).lower()  # scripts write "ADAM"
    if name == "sgd":
        kind = keras.optimizers.SGD if factor == 1 else BiasRateSGD
        return kind(learning_rate, momentum=momentum, **options)
    if name == "adam":
        kind = keras.optimizers.Adam if factor == 1 else BiasRateAdam
        return kind(learning_rate, **options)
    if name == "adamw":
        kind = keras.optimizers.AdamW if factor == 1 else BiasRateAdamW
        optimizer = kind(learning_rate, weight_decay=config.ADAMW_WEIGHT_DECAY, **options)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        return optimizer
    raise ValueError(
        "OPTIMIZER must be 'sgd', 'adam', 'adamw' or a function to train. "
        f"Received: {choice!r}, the name of a function that a weight file cannot hold. "
        "Try the config that the network was trained with."
    )

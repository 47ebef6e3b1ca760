"""Convert an ImageNet ResNet of torchvision or Caffe2 to the backbone of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .keras_applications import BackboneLayers
from .matching import Change
from .model_layers import ModelLayers
from .tensor_weights import StoredTensor, TensorWeights

_EPSILON = 1e-5  # of the batch norms in the file


def convert_torch_resnet(
    file: TensorWeights, model_layers: ModelLayers, std_pixel: Any
) -> BackboneLayers:
    """Fit the layers of a file to a backbone that may differ in bias, epsilon and input.

    A model's biases become 0. Its scales make up for another epsilon, and its first kernel for
    another standard deviation of the pixels.

    std_pixel: STD_PIXEL of the model.
    """
    layers, changes = {}, {}
    for name, weights in file.layers.items():
        layer = model_layers.get(name)
        if layer is None:
            layers[name] = weights  # the check of the names reports it
            continue
        layers[name] = _with_bias(name, weights, layer)
        changes[name] = _changes(name, layer, file.std_pixel / np.asarray(std_pixel))
    return BackboneLayers(layers, changes)


def _with_bias(name: str, weights: list, layer: Any) -> list:
    """The weights of a layer, and zeros for a bias that only the model has."""
    kinds = [weight.rsplit("/", 1)[-1].split(":")[0] for weight, _ in weights]
    is_missing = "bias" not in kinds and any(weight.name == "bias" for weight in layer.weights)
    if not is_missing:
        return weights
    zeros = np.zeros(layer.bias.shape, np.float32)
    return [*weights, (f"{name}/bias:0", StoredTensor(name, zeros.shape, zeros.dtype, zeros))]


def _changes(name: str, layer: Any, pixel_ratio: np.ndarray) -> list[Change]:
    if name == "conv1":
        return [_divide_input(pixel_ratio)]
    if hasattr(layer, "moving_variance") and layer.epsilon != _EPSILON:
        return [_with_epsilon(layer.epsilon)]
    return []


def _divide_input(ratio: np.ndarray) -> Callable:
    """The change of a kernel `[h, w, C, filters]` whose input is `ratio` times the file's."""

    def change(values: list[np.ndarray]) -> list[np.ndarray]:
        kernel, *others = values
        if kernel.shape[2] == np.size(ratio):
            kernel = (kernel / ratio.reshape(-1, 1)).astype(kernel.dtype)
        return [kernel, *others]

    return change


def _with_epsilon(epsilon: float) -> Callable:
    """The change of a norm's scale that makes up for another epsilon."""

    def change(values: list[np.ndarray]) -> list[np.ndarray]:
        gamma, beta, mean, variance = values
        wide = variance.astype(np.float64)
        factor = np.sqrt((wide + epsilon) / (wide + _EPSILON))
        return [(gamma * factor).astype(gamma.dtype), beta, mean, variance]

    return change

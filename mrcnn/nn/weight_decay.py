"""L2 regularization of the weights, a part of the loss: matterport's rule and torch's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .keras_ops import ops


def weight_decay(weights: Iterable, rate: float) -> Any:
    """`[]` matterport's: the sum of `rate * sum(w^2) / size(w)` over the weights w `[...]`.

    Batch norm's gamma and beta do not decay.
    """
    total = ops.zeros(())
    for weight in weights:
        if not _is_of_norm(weight):
            total += rate * ops.mean(ops.square(weight))
    return total


def plain_weight_decay(
    weights: Iterable, rate: float, biases: bool = True, norms: bool = False
) -> Any:
    """`[]` the sum of `0.5 * rate * sum(w^2)` over the weights w `[...]`; its gradient: `rate * w`.

    biases, norms: whether biases decay, and the gamma and beta of norms.
    """
    total = ops.zeros(())
    for weight in weights:
        decays = norms if _is_of_norm(weight) else biases or not is_bias(weight)
        if decays:
            total += 0.5 * rate * ops.sum(ops.square(weight))
    return total


def is_bias(weight: Any) -> bool:
    """Whether a weight `[...]` is the bias of a convolution or of a fully connected layer."""
    return weight.name.split("/")[-1] == "bias"


def _is_of_norm(weight) -> bool:
    return weight.name.split("/")[-1] in ("gamma", "beta")

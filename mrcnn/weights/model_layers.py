"""The layers of a Keras model that have weights, those of nested models included.

A *leaf* is a layer that is not a model itself: the layers of `rpn_model`, not `rpn_model`.
"""

from __future__ import annotations


def leaf_layers(layer) -> list:
    """The layer itself, or all leaves of a model."""
    children = getattr(layer, "layers", None)
    if children is None:
        return [layer]
    leaves = []
    for child in children:
        leaves += leaf_layers(child)
    return leaves


def layers_with_weights(model) -> dict:
    """Name -> leaf that has weights, in the model's order."""
    return {leaf.name: leaf for leaf in leaf_layers(model) if leaf.weights}


def weight_shapes(layer) -> list[tuple[int, ...]]:
    """Shapes of a layer's weights."""
    return [tuple(variable.shape) for variable in layer.weights]

"""The layers of a Keras model that have weights, those of nested models included.

A *leaf* is a layer that is not a model itself: the layers of `rpn_model`, not `rpn_model`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import keras

# Name -> layer of a model that has weights.
ModelLayers: TypeAlias = "dict[str, keras.Layer]"


def leaf_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layer itself, or all leaves of a model."""
    children = getattr(layer, "layers", None)
    if children is None:
        return [layer]
    leaves = []
    for child in children:
        leaves += leaf_layers(child)
    return leaves


def layers_with_weights(model: keras.Model) -> ModelLayers:
    """Name -> leaf that has weights, in the model's order."""
    return {leaf.name: leaf for leaf in leaf_layers(model) if leaf.weights}


def weight_shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    """Shapes of a layer's weights."""
    return [tuple(variable.shape) for variable in layer.weights]

"""Parameters and floating-point operations of a network, counted from the shapes of its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers as KL

from ..weights.model_layers import leaf_layers
from .fuse_batch_norm import readers

# Each number of a kernel is multiplied once for every position of the output,
OF_OUTPUTS = (KL.Conv2D, KL.DepthwiseConv2D, KL.Dense)
# or of the input.
OF_INPUTS = (KL.Conv2DTranspose,)


class Complexity(NamedTuple):
    """What a network costs.

    outputs: numbers that its layers compute for one image, all together: what a training step must
        remember of them.

    parameters: numbers of all weights, except the statistics of batch norm, which are not learned.
    gflop: 10^9 floating-point operations for one image, two for each multiply-add of a convolution
        or a dense layer. Everything else is left out, as usual: norms, pooling, RoIAlign, NMS.
        Heads on RoIs count for as many proposals and detections as the network can have.
    """

    parameters: int
    gflop: float
    outputs: int


def network_complexity(network: keras.Model, image_shape: Sequence[int]) -> Complexity:
    """Count the parameters of a network, and its operations for one image.

    network: functional; its first input is the image.
    image_shape: (height, width) of the network's input.
    """
    is_read = readers(network)
    # Keras 3.12 refuses an input that no layer reads (image_meta with RPN_ONLY).
    inputs = [x for x in network.inputs if is_read[id(x)]]
    shapes = [(1, *x.shape[1:]) for x in inputs]
    shapes[0] = (1, *image_shape[:2], inputs[0].shape[-1])
    counters = _counters(keras.Model(inputs, network.outputs), shapes)
    multiply_adds = sum(counter.multiply_adds for counter in counters)
    outputs = sum(counter.outputs for counter in counters)
    return Complexity(count_parameters(network), 2 * multiply_adds / 1e9, outputs)


def count_parameters(network: keras.Model) -> int:
    """Return the number of all weights without the statistics of batch norm."""
    norms = [layer for layer in leaf_layers(network) if isinstance(layer, KL.BatchNormalization)]
    statistics = {id(x) for norm in norms for x in (norm.moving_mean, norm.moving_variance)}
    learned = [x for x in network.weights if id(x) not in statistics]
    return sum(math.prod(x.shape) for x in learned)


def _counters(network: keras.Model, shapes: list) -> list[_Counter]:
    """What each layer of a model does on inputs of these shapes."""
    counters: list[_Counter] = []

    def counter_of(operation: Any) -> Any:
        if not isinstance(operation, KL.Layer):
            return operation
        counters.append(_Counter(operation))
        return counters[-1]

    inputs = [
        keras.Input(batch_shape=shape, dtype=x.dtype)
        for shape, x in zip(shapes, network.inputs, strict=True)
    ]
    structure = keras.tree.pack_sequence_as(network.input, inputs)
    keras.models.clone_model(network, structure, counter_of)
    return counters


class _Counter(KL.Layer):
    """Stands for a layer in a graph of shapes: it has no weights, and adds no node to the layer."""

    def __init__(self, layer: Any):
        super().__init__(name=layer.name, autocast=False)
        self.layer = layer
        self.multiply_adds = 0
        self.outputs = 0
        self.built = True

    def call(self, *args: Any, **options: Any) -> Any:
        return self.layer(*args, **options)

    def compute_output_spec(self, *args: Any, **options: Any) -> Any:
        outputs = self.layer.compute_output_spec(*args, **options)
        inputs = [x.shape for x in keras.tree.flatten(args[0])]
        layer: Any = self.layer
        if isinstance(layer, keras.Model):
            parts = _counters(layer, inputs)
            self.multiply_adds += sum(part.multiply_adds for part in parts)
            self.outputs += sum(part.outputs for part in parts)
            return outputs
        shapes = [x.shape for x in keras.tree.flatten(outputs)]
        self.outputs += sum(math.prod(side or 1 for side in shape) for shape in shapes)
        if isinstance(layer, (*OF_OUTPUTS, *OF_INPUTS)):
            positions = inputs[0] if isinstance(layer, OF_INPUTS) else outputs.shape
            kernel: Any = layer.kernel
            self.multiply_adds += _positions(positions) * math.prod(kernel.shape)
        return outputs


def _positions(shape: Sequence[int | None]) -> int:
    """The positions of a tensor `[B, ..., C]` of one image.

    Raises: ValueError if a side is unknown.
    """
    sides = [side for side in shape[1:-1] if side is not None]
    if len(sides) < len(shape) - 2:
        raise ValueError(
            "The operations of a layer can be counted if the sides of its maps follow from those "
            f"of the image. Received: a map of shape {tuple(shape)}. Try layers whose outputs "
            "have fixed sides."
        )
    return math.prod(sides)

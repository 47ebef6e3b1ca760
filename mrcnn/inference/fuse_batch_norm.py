"""An inference network whose batch norms are part of the convolutions before them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers as KL

CONVOLUTIONS = (KL.Conv2D, KL.DepthwiseConv2D)  # and their subclasses
RELUS = (keras.activations.relu, keras.activations.relu6)


class Block(NamedTuple):
    """Consecutive layers of a network, and the tensor that the first of them reads."""

    inputs: keras.KerasTensor
    convolution: Any
    norm: Any = None
    relu: Any = None


class BatchNormFusedModel:
    """The network with each batch norm, and the ReLU after it, as part of the convolution before.

    Batch norm with fixed statistics is `x * s + t` per channel, with
    `s = gamma / sqrt(variance + epsilon)` and `t = beta - mean * s`. A convolution does the same
    with its kernel times s, and its bias times s plus t. All other layers are the network's own and
    share its weights. The fused convolutions have weights of their own: call `update_weights` when
    the network's have changed.

    network: a functional Keras model; kept as `source`.
    convolutions: the fused convolutions, by the name of the convolution that each replaces.
    """

    def __init__(self, network: keras.Model):
        self.source = network
        self._readers = readers(network)
        self._blocks: dict[int, tuple[Any, Block]] = {}  # id of a new tensor -> itself, its block
        self._fused: dict[KL.Layer, Block] = {}
        self._nested: dict[str, BatchNormFusedModel] = {}  # of the models in the network, by name
        # Keras 3.12 refuses an input that no layer of the clone reads (image_meta with RPN_ONLY).
        self._reads = [bool(self._readers[id(x)]) for x in network.inputs]
        inputs = [x for x, is_read in zip(network.inputs, self._reads, strict=True) if is_read]
        self.network = keras.models.clone_model(
            keras.Model(inputs, network.outputs),
            clone_function=lambda layer: layer,
            call_function=self._call,
        )
        used = set(self.network.layers)
        self._fused = {layer: block for layer, block in self._fused.items() if layer in used}
        self._blocks.clear()
        self.convolutions = {block.convolution.name: layer for layer, block in self._fused.items()}
        for nested in self._nested.values():
            self.convolutions.update(nested.convolutions)
        self.update_weights()

    def __call__(self, inputs: list) -> Any:
        """Return the network's outputs for a list of its inputs, in inference mode."""
        read = [x for x, is_read in zip(inputs, self._reads, strict=True) if is_read]
        return self.network(read, training=False)

    def update_weights(self) -> None:
        """Compute the weights of the fused convolutions from those of the network."""
        for layer, block in self._fused.items():
            layer.set_weights(_fused_weights(block))
        for nested in self._nested.values():
            nested.update_weights()

    def _call(self, layer: KL.Layer, inputs: Any, *others: Any, **options: Any) -> Any:
        """Call a layer of the network on new inputs, or the fused convolution that replaces it."""
        if isinstance(layer, keras.Model) and _has_batch_norm(layer):
            return self._fuse_nested(layer).network(inputs)
        _, block = self._blocks.get(id(inputs), (None, None))
        block = _extend(block, layer, inputs)
        reader = self._only_reader(layer) if block else None
        if block is None or block.norm is None or (block.relu is None and _is_relu(reader)):
            outputs = layer(inputs, *others, **options)
        else:
            fused = _fused_layer(block)
            outputs = fused(block.inputs)
            self._fused[fused] = block
        # A second reader needs the output as it is: then fusing the next layer saves no time.
        if block is not None and reader is not None:
            self._blocks[id(outputs)] = outputs, block
        return outputs

    def _fuse_nested(self, model: keras.Model) -> BatchNormFusedModel:
        """Return a model in the network with its batch norms fused, the same for all its calls."""
        if model.name not in self._nested:
            self._nested[model.name] = BatchNormFusedModel(model)
        return self._nested[model.name]

    def _only_reader(self, layer: KL.Layer) -> KL.Layer | None:
        readers = self._readers[id(layer.output)]
        return readers[0] if len(readers) == 1 else None


def _extend(block: Block | None, layer: KL.Layer, inputs: Any) -> Block | None:
    """Return the block that ends with this layer, or None if no block can.

    block: of the layers that computed the inputs, or None.
    """
    if isinstance(layer, CONVOLUTIONS) and layer.activation is keras.activations.linear:
        return Block(inputs, layer)
    if block is None:
        return None
    if block.norm is None and isinstance(layer, KL.BatchNormalization):
        return block._replace(norm=layer)
    if block.norm is not None and block.relu is None and _is_relu(layer):
        return block._replace(relu=layer)
    return None


def _has_batch_norm(model: keras.Model) -> bool:
    return any(isinstance(layer, KL.BatchNormalization) for layer in model.layers)


def _is_relu(layer: KL.Layer | None) -> bool:
    return isinstance(layer, KL.Activation) and layer.activation in RELUS


def readers(network: keras.Model) -> dict[int, list]:
    """Return the layers and operations that read a tensor, by its id; None stands for an output.

    Of a layer that is called several times, the first call counts.
    """
    readers = defaultdict(list)
    for tensor in network.outputs:
        readers[id(tensor)].append(None)
    for operation in network.operations:  # of keras.ops as well: `image / 255`
        if not isinstance(operation, KL.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                readers[id(tensor)].append(operation)
    return readers


def _fused_layer(block: Block) -> KL.Layer:
    """Return a new convolution for the layers of a block; `_fused_weights` gives its weights."""
    convolution = block.convolution
    is_depthwise = isinstance(convolution, KL.DepthwiseConv2D)
    settings = convolution.get_config()
    settings["name"] += "_fused" if block.relu is None else "_fused_relu"
    settings["use_bias"] = True
    settings["activation"] = "linear" if block.relu is None else block.relu.activation.__name__
    # Random numbers would only be drawn to be overwritten.
    settings["depthwise_initializer" if is_depthwise else "kernel_initializer"] = "zeros"
    return type(convolution).from_config(settings)


def _fused_weights(block: Block) -> list[np.ndarray]:
    """Return kernel and bias of a convolution that computes the block's batch norm as well."""
    convolution, norm = block.convolution, block.norm
    mean = norm.moving_mean.numpy().astype(np.float64)
    variance = norm.moving_variance.numpy().astype(np.float64)
    gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else 1.0
    beta = norm.beta.numpy().astype(np.float64) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel = convolution.kernel.numpy()
    bias = convolution.bias.numpy().astype(np.float64) if convolution.use_bias else 0.0
    bias = np.asarray(beta + (bias - mean) * scale, np.float32)
    if isinstance(convolution, KL.DepthwiseConv2D):
        # The kernel is [h, w, channels, multiplier], its outputs are in the order of the last two.
        scale = scale.reshape(kernel.shape[-2:])
    return [(kernel * scale).astype(np.float32), bias]

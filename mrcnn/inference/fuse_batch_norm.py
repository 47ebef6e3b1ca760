"""A network for inference alone: batch norm, and the ReLU after it, folded into the convolution before."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as KL

CONVOLUTIONS = (KL.Conv2D, KL.DepthwiseConv2D)  # and their subclasses


class Folded:
    """The network with each batch norm that follows a convolution folded into it; called with a list of inputs.

    Batch norm with fixed statistics is `x * s + t` per channel, with `s = gamma / sqrt(variance + epsilon)` and
    `t = beta - mean * s`; so is the convolution before it with the kernel times s, and the bias times s plus t. All
    other layers are the network's own, and share its weights; the folded ones hold numbers of their own, which do not
    follow when the network's weights change. A ReLU that alone reads the batch norm becomes the activation of the
    convolution: TensorFlow fuses the two by itself, but not where a reshape lies between them, as in the heads.
    """

    def __init__(self, network):
        self.network = network
        self.convolutions: dict[str, KL.Layer] = {}  # the folded ones, by name
        self.passed: list[KL.Layer] = []  # the batch norms and ReLUs that are in these
        readers = _readers(network)
        for norm, convolution in _pairs(network, readers).items():
            relu = _relu(norm, readers)
            self.convolutions[convolution.name] = _folded(
                convolution, norm, "relu" if relu else "linear"
            )
            self.passed += [norm, relu] if relu else [norm]

    def __call__(self, inputs):
        # A clone of the network would be public API, and takes four times as long to make as these convolutions.
        instead = dict.fromkeys(map(id, self.passed), _as_it_is)
        return self.network._run_through_graph(
            inputs, lambda layer: instead.get(id(layer)) or self.convolutions.get(layer.name, layer)
        )


def _as_it_is(inputs, **_):
    return inputs


def _readers(network) -> dict[int, list]:
    """`{id of a tensor: the layers that read it}`; None stands for whoever reads an output of the network."""
    readers = {}
    for layer in network.layers:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(layer)
    for tensor in network.outputs:
        readers.setdefault(id(tensor), []).append(None)
    return readers


def _pairs(network, readers) -> dict:
    """`{batch norm: the convolution it follows}`, where it is the convolution's only reader and each is called once."""
    found = {}
    for layer in network.layers:
        if not isinstance(layer, KL.BatchNormalization) or len(layer._inbound_nodes) != 1:
            continue
        (tensor,) = layer._inbound_nodes[0].input_tensors
        convolution = tensor._keras_history.operation
        linear = (
            isinstance(convolution, CONVOLUTIONS)
            and convolution.activation is keras.activations.linear
        )
        once = linear and len(convolution._inbound_nodes) == 1
        if once and readers[id(tensor)] == [layer]:
            found[layer] = convolution
    return found


def _relu(norm, readers):
    """The ReLU that alone reads a batch norm and nothing else, or None."""
    (reader, *others) = readers.get(id(norm.output), [None])
    alone = not others and isinstance(reader, KL.Activation) and len(reader._inbound_nodes) == 1
    return reader if alone and reader.activation is keras.activations.relu else None


def _folded(convolution, norm, activation) -> KL.Layer:
    """The convolution that does both."""
    mean, variance = (
        x.numpy().astype(np.float64) for x in (norm.moving_mean, norm.moving_variance)
    )
    gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else 1.0
    beta = norm.beta.numpy().astype(np.float64) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel = convolution.kernel.numpy()
    bias = convolution.bias.numpy().astype(np.float64) if convolution.use_bias else 0.0
    # A depthwise kernel is [h, w, channels, multiplier], and gives channels * multiplier maps in this order.
    depthwise = isinstance(convolution, KL.DepthwiseConv2D)
    kernel = kernel * np.float32(scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    name = (
        "depthwise_initializer" if depthwise else "kernel_initializer"
    )  # no numbers are drawn to be thrown away
    changes = {"use_bias": True, "activation": activation, name: "zeros"}
    folded = type(convolution).from_config({**convolution.get_config(), **changes})
    folded.build(convolution.input.shape)
    folded.set_weights([kernel, np.asarray(beta + (bias - mean) * scale, np.float32)])
    return folded

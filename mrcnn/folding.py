"""A copy of a network for inference alone: batch norm, and the ReLU after it, folded into the convolution before."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as KL

CONVOLUTIONS = (KL.Conv2D, KL.DepthwiseConv2D)  # and their subclasses


class Passed(KL.Layer):
    """Stands where a batch norm or a ReLU stood, and is called like it."""

    def call(self, inputs, training=None, mask=None):
        return inputs


def folded(network) -> tuple[keras.Model, int]:
    """The network with each batch norm that follows a convolution folded into it, and how many were.

    Batch norm with fixed statistics is `x * s + t` per channel, with `s = gamma / sqrt(variance + epsilon)` and
    `t = beta - mean * s`; so is the convolution before it with the kernel times s, and the bias times s plus t. All
    other layers are the network's own, and share its weights; the folded ones hold numbers of their own, which do not
    follow when the network's weights change. A ReLU that alone reads the batch norm becomes the activation of the
    convolution: TensorFlow fuses the two by itself, but not where a reshape lies between them, as in the heads.
    """
    readers = _readers(network)
    pairs = _pairs(network, readers)
    relus = {id(norm): relu for norm in pairs if (relu := _relu(norm, readers)) is not None}
    norms = {id(convolution): id(norm) for norm, convolution in pairs.items()}
    gone = {*map(id, pairs), *map(id, relus.values())}

    def copy(layer):
        if id(layer) in norms:
            activation = "relu" if norms[id(layer)] in relus else "linear"
            return type(layer).from_config({**layer.get_config(), "use_bias": True, "activation": activation})
        return Passed(name=layer.name, dtype=layer.dtype_policy) if id(layer) in gone else layer

    clone = keras.models.clone_model(network, clone_function=copy)
    for norm, convolution in pairs.items():
        clone.get_layer(convolution.name).set_weights(_folded_weights(convolution, norm))
    return clone, len(pairs)


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
        linear = isinstance(convolution, CONVOLUTIONS) and convolution.activation is keras.activations.linear
        once = linear and len(convolution._inbound_nodes) == 1
        if once and readers[id(tensor)] == [layer]:
            found[layer] = convolution
    return found


def _relu(norm, readers):
    """The ReLU that alone reads a batch norm and nothing else, or None."""
    (reader, *others) = readers.get(id(norm.output), [None])
    alone = not others and isinstance(reader, KL.Activation) and len(reader._inbound_nodes) == 1
    return reader if alone and reader.activation is keras.activations.relu else None


def _folded_weights(convolution, norm) -> list[np.ndarray]:
    """Kernel and bias of the convolution that does both; computed in float64."""
    mean, variance = (np.float64(x.numpy()) for x in (norm.moving_mean, norm.moving_variance))
    gamma = np.float64(norm.gamma.numpy()) if norm.scale else 1.0
    beta = np.float64(norm.beta.numpy()) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel = np.float64(convolution.kernel.numpy())
    bias = np.float64(convolution.bias.numpy()) if convolution.use_bias else 0.0
    # A depthwise kernel is [h, w, channels, multiplier], and gives channels * multiplier maps in this order.
    depthwise = isinstance(convolution, KL.DepthwiseConv2D)
    kernel *= scale.reshape(kernel.shape[-2:]) if depthwise else scale
    return [np.float32(kernel), np.float32(beta + (bias - mean) * scale)]

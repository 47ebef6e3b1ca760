"""Functions with a gradient of their own, traced once per kind of input.

Each call of a `tf.custom_gradient` function in a graph leaves an entry in TensorFlow's registry,
whose closure keeps that graph, and with it the weights, in memory. So these calls stand in small
graphs of their own, which receive the weights as arguments.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def traced_once(function: Callable, *signature: tf.TensorSpec) -> Callable:
    """Return the function as a graph that belongs to no device, strategy or outer graph.

    signature: the type and shape of each argument, `[None]` for each open side.
    """
    with tf.init_scope():
        return tf.function(function, signature, autograph=False).get_concrete_function()

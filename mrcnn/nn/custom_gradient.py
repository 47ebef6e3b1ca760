"""Functions with a gradient of their own, traced once."""

from __future__ import annotations

import tensorflow as tf


def traced_once(function, *signature):
    """The function as a graph that belongs to no device, strategy or outer graph, wherever it is called first."""
    with tf.init_scope():
        return tf.function(function, signature, autograph=False).get_concrete_function()

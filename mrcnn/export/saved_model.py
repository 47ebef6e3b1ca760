"""Write a network as TensorFlow's SavedModel: for TensorFlow Serving, Java, C++, and LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from ..inference.runtimes import NOTE
from .description import as_text
from .graph import Source, export_function
from .settings import LEAST_HALF_VALUES, Job


def write_saved_model(path: Path, job: Job, is_portable: bool = False) -> None:
    """Write the folder of a SavedModel, whose signature is "serving_default".

    is_portable: see `export_function`.
    """
    source = job.source
    if job.precision == "float16":
        source = source._replace(network=HalfNetwork(source))
    function = export_function(source, job.shape, is_portable)
    concrete = function.get_concrete_function()
    module: Any = tf.Module()
    module.detect = function
    module.read_variables = list(concrete.variables)  # no others: the file would hold them twice
    tf.saved_model.save(module, str(path), signatures=concrete)
    extra = path / "assets.extra"  # a folder that TensorFlow leaves to its users
    extra.mkdir()
    (extra / NOTE).write_text(as_text(job.metadata), encoding="utf-8")


class HalfNetwork:
    """A network whose large kernels are stored as float16; it computes in float32."""

    def __init__(self, source: Source):
        self.network: Any = source.keras_model
        self.trainable = [_half(weight) for weight in self.network.trainable_variables]
        self.others = [_half(weight) for weight in self.network.non_trainable_variables]

    def __call__(self, inputs: list) -> Any:
        """Return the network's outputs for a list of its inputs, in inference mode."""
        trainable = [_read(weight) for weight in self.trainable]
        others = [_read(weight) for weight in self.others]
        outputs, _ = self.network.stateless_call(trainable, others, inputs, training=False)
        return outputs


def _half(weight: Any) -> tf.Variable:
    """A copy of a weight: float16 if it is a large kernel."""
    value = tf.convert_to_tensor(weight.value)
    is_kernel = value.dtype == tf.float32 and len(value.shape) > 1
    is_half = is_kernel and value.shape.num_elements() >= LEAST_HALF_VALUES
    return tf.Variable(tf.cast(value, tf.float16) if is_half else value)


def _read(variable: tf.Variable) -> tf.Tensor:
    value = tf.convert_to_tensor(variable)
    return tf.cast(value, tf.float32) if value.dtype == tf.float16 else value

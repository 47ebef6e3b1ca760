"""Large kernels of a .tflite file as float16."""

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.export.litert_float16 import store_float16
from mrcnn.export.settings import LEAST_HALF_VALUES

interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra [export]")

SIDE, CHANNELS = 6, 48  # 3 * 3 * 48 * 48 = 20,736 values: a large kernel


@pytest.fixture(scope="module")
def content():
    """A file of a large convolution, a small one, and a large constant that is no kernel."""
    rng = np.random.default_rng(0)
    large = tf.constant(rng.normal(0, 0.05, (3, 3, CHANNELS, CHANNELS)), tf.float32)
    small = tf.constant(rng.normal(0, 0.2, (1, 1, CHANNELS, 4)), tf.float32)
    table = tf.constant(rng.normal(0, 1, (SIDE * SIDE * 4, 128)), tf.float32)
    assert tf.size(large) >= LEAST_HALF_VALUES > tf.size(small)
    assert tf.size(table) >= LEAST_HALF_VALUES

    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, CHANNELS], tf.float32)])
    def network(images):
        maps = tf.nn.relu(tf.nn.conv2d(images, large, 1, "SAME"))
        maps = tf.nn.conv2d(maps, small, 1, "SAME")
        return {"maps": maps, "table": table + tf.reshape(maps, [-1, 1])}

    module = tf.Module()
    module.network = network
    function = network.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert()


def outputs(content, images):
    interpreter = interpreters.Interpreter(model_content=content)
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    return runner(**{name: images})


def tensors(content):
    """The types and shapes of the tensors."""
    interpreter = interpreters.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return [(row["dtype"], tuple(row["shape"])) for row in interpreter.get_tensor_details()]


def test_only_the_large_kernel_is_rounded(content):
    half = store_float16(content)
    images = np.random.default_rng(1).normal(0, 1, (1, SIDE, SIDE, CHANNELS)).astype(np.float32)
    before, after = outputs(content, images), outputs(half, images)
    difference = np.abs(before["maps"] - after["maps"]).max()
    assert 0 < difference < 2e-3 * np.abs(before["maps"]).max()
    sizes = [np.prod(shape) for kind, shape in tensors(half) if kind == np.float16]
    assert sizes == [3 * 3 * CHANNELS * CHANNELS]
    # 2 bytes less for each value; the new operation and tensor take less than 2,000.
    saved = len(content) - len(half)
    assert 0 <= 2 * sizes[0] - saved < 2000


def test_a_file_without_large_kernels_stays_the_same(content):
    once = store_float16(content)
    assert len(store_float16(once)) - len(once) < 200  # nothing is left to round

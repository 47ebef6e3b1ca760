"""Kernels of ONNX models in float16."""

import numpy as np
import pytest

from mrcnn.export.onnx_precision import store_float16
from mrcnn.export.settings import LEAST_HALF_VALUES

onnx = pytest.importorskip("onnx", reason="needs the extra [export]")


def two_convolutions(small, large):
    """A model of a small kernel and a large one, `[out, in, h, w]`."""
    helper, arrays = onnx.helper, onnx.numpy_helper
    kernels = [arrays.from_array(small, "small"), arrays.from_array(large, "large")]
    nodes = [
        helper.make_node("Conv", ["images", "small"], ["maps"]),
        helper.make_node("Conv", ["maps", "large"], ["found"]),
    ]
    kind = onnx.TensorProto.FLOAT
    given = helper.make_tensor_value_info("images", kind, [1, small.shape[1], 8, 8])
    found = helper.make_tensor_value_info("found", kind, [1, large.shape[0], 4, 4])
    graph = helper.make_graph(nodes, "two", [given], [found], kernels)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_small_kernels_stay_float32():
    """They are the first ones, whose rounding moves boxes by pixels."""
    rng = np.random.default_rng(0)
    small = rng.normal(size=(32, 3, 3, 3)).astype(np.float32)
    large = rng.normal(size=(64, 32, 3, 3)).astype(np.float32)
    assert small.size < LEAST_HALF_VALUES <= large.size
    model = two_convolutions(small, large)
    store_float16(model)
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer}
    assert {name: values.dtype for name, values in stored.items()} == {
        "small": np.float32,
        "large_float16": np.float16,
    }
    np.testing.assert_array_equal(stored["small"], small)
    np.testing.assert_array_equal(stored["large_float16"], large.astype(np.float16))
    onnx.checker.check_model(model)

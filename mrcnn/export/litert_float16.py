"""A .tflite file whose large kernels are stored as float16.

TensorFlow Lite's converter rounds all constants, also anchors and the first kernels of a network,
which moves boxes by pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .settings import LEAST_HALF_VALUES

# Operations that read a kernel, and its place among their inputs.
KERNELS = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "BATCH_MATMUL": 1,
}
DEQUANTIZE_VERSION = 3  # the first that reads float16
FILE_IDENTIFIER = b"TFL3"


def store_float16(content: bytes) -> bytes:
    """Return a .tflite file with its kernels of `LEAST_HALF_VALUES` or more values as float16.

    Each is read by a DEQUANTIZE operation, as in files of TensorFlow Lite's converter.

    content: a file in float32.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    code: Any = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = DEQUANTIZE_VERSION
    model.operatorCodes.append(code)
    places = {getattr(schema.BuiltinOperator, name): place for name, place in KERNELS.items()}
    for graph in model.subgraphs:
        readers = []
        for index in sorted(_kernels(model, graph, places)):
            if _is_large(model, graph.tensors[index], schema.TensorType.FLOAT32):
                reader: Any = schema.OperatorT()
                reader.opcodeIndex = len(model.operatorCodes) - 1
                reader.inputs = [_add_half(model, graph, index, schema)]
                reader.outputs = [index]
                readers.append(reader)
        graph.operators = [*readers, *graph.operators]
    _drop_unread(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _kernels(model: Any, graph: Any, places: dict[int, int]) -> set[int]:
    """The tensors that operations of a graph read as kernels."""
    found = set()
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code in places:
            found.add(int(operator.inputs[places[code]]))
    return found


def _is_large(model: Any, tensor: Any, float32: int) -> bool:
    is_constant = model.buffers[tensor.buffer].data is not None
    return is_constant and tensor.type == float32 and np.prod(tensor.shape) >= LEAST_HALF_VALUES


def _add_half(model: Any, graph: Any, index: int, schema: Any) -> int:
    """Add a kernel as float16, and leave the old tensor to be computed; return the new index."""
    tensor, half, buffer = graph.tensors[index], schema.TensorT(), schema.BufferT()
    values = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.float32)
    buffer.data = values.astype(np.float16).view(np.uint8)
    model.buffers.append(buffer)
    half.name, half.shape = tensor.name + b"_float16", tensor.shape
    half.type, half.buffer = schema.TensorType.FLOAT16, len(model.buffers) - 1
    graph.tensors.append(half)
    tensor.buffer = 0  # the empty one
    return len(graph.tensors) - 1


def _drop_unread(model: Any) -> None:
    """Empty the buffers that no tensor reads any more."""
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in read:
            buffer.data = None

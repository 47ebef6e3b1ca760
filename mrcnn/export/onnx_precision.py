"""ONNX models in fewer bits: kernels stored as float16, convolutions computed in int8."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .settings import LEAST_HALF_VALUES

# What reads a kernel; the arrays of box arithmetic stay float32.
KERNEL_READERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def store_float16(model: Any) -> None:
    """Store the large kernels of an ONNX model as float16, each followed by a cast to float32."""
    import onnx

    graph = model.graph
    kernels = {node.input[1] for node in graph.node if node.op_type in KERNEL_READERS}
    casts = []
    for initializer in graph.initializer:
        values = onnx.numpy_helper.to_array(initializer)
        is_large = values.dtype == np.float32 and values.size >= LEAST_HALF_VALUES
        if initializer.name not in kernels or not is_large:
            continue
        name, half = initializer.name, f"{initializer.name}_float16"
        initializer.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
        cast = onnx.helper.make_node(
            "Cast", [half], [name], name=f"{half}_cast", to=onnx.TensorProto.FLOAT
        )
        casts.append(cast)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def quantize(path: Path, calibration: Sequence[np.ndarray]) -> None:
    """Rewrite an ONNX file so that its convolutions compute in int8; all else stays float32.

    calibration: `[B, H, W, C]` uint8 images each, on which the ranges of values are measured.
    """
    import onnx
    from onnxruntime import quantization

    whole = path.with_suffix(".float32.onnx")
    os.replace(path, whole)
    quantization.quantize_static(
        str(whole),
        str(path),
        _reader(whole, calibration),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"CalibMovingAverage": True},
    )
    model = onnx.load(str(path))
    given = {prop.key for prop in model.metadata_props}
    before = onnx.load(str(whole))
    kept = [prop for prop in before.metadata_props if prop.key not in given]
    model.metadata_props.extend(kept)
    onnx.save(model, str(path))
    os.remove(whole)


def _reader(path: Path, calibration: Sequence[np.ndarray]) -> Any:
    """ONNX Runtime's iterator over the calibration images."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    (given,) = onnx.load(str(path)).graph.input
    batches = iter(calibration)

    class Reader(CalibrationDataReader):
        def get_next(self):
            images = next(batches, None)
            return None if images is None else {given.name: images}

    return Reader()

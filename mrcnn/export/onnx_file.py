"""Write a network as an ONNX file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ..inference.runtimes import KEY
from .description import as_text
from .graph import export_function
from .settings import Job

# Of 2021: every runtime of the last years reads it.
OPSET = 17


def write_onnx(path: Path, job: Job) -> None:
    """Write an ONNX file; float16 stores the kernels so, int8 computes convolutions so."""
    import onnx

    model = onnx_model(job)
    if job.precision == "float16":
        from .onnx_precision import store_float16

        store_float16(model)
    model.metadata_props.add(key=KEY, value=as_text(job.metadata))
    onnx.save(model, str(path))
    if job.precision == "int8":
        from .onnx_precision import quantize

        quantize(path, job.calibration)


def onnx_model(job: Job) -> Any:
    """Return the network as an ONNX model in float32."""
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = export_function(job.source, job.shape, is_portable=True)
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET
    )
    _name_sides(model, job)
    return model


def _name_sides(model: Any, job: Job) -> None:
    """Name the open sides of the input: tf2onnx numbers them."""
    (given,) = model.graph.input
    sides = (job.shape.batch, job.shape.height, job.shape.width)
    named = zip(given.type.tensor_type.shape.dim, ("batch", "height", "width"), sides, strict=False)
    for dimension, name, side in named:
        if side is None:
            dimension.dim_param = name

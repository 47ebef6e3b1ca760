"""Write a network as OpenVINO's IR: a folder with model.xml and model.bin."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..inference.runtimes import KEY
from .description import as_text
from .onnx_file import write_onnx
from .settings import Job


def write_openvino(path: Path, job: Job) -> None:
    """Write the folder, from the same network as an ONNX file."""
    import openvino

    precision = "int8" if job.precision == "int8" else "float32"
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder, "model.onnx")
        write_onnx(file, job._replace(precision=precision))
        _name_loop_outputs(file)
        model = openvino.convert_model(str(file))
        model.set_rt_info(as_text(job.metadata), KEY)
        path.mkdir()
        is_half = job.precision == "float16"
        openvino.save_model(model, str(path / "model.xml"), compress_to_fp16=is_half)
        del model  # it reads the ONNX file


def _name_loop_outputs(file: Path) -> None:
    """Give values that a loop hands on unchanged a name of their own.

    OpenVINO counts a value twice that is an input and an output of a loop's body.
    """
    import onnx

    model = onnx.load(str(file))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _separate(attribute.g, onnx.helper.make_node)
    onnx.save(model, str(file))


def _separate(body: Any, make_node: Any) -> None:
    given = {value.name for value in body.input}
    for value in body.output:
        if value.name in given:
            name = f"{value.name}_unchanged"
            body.node.append(make_node("Identity", [value.name], [name]))
            value.name = name

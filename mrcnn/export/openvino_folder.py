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
    """Write the folder, from an ONNX file of the same network and precision."""
    import openvino

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder, "model.onnx")
        write_onnx(file, job)
        _name_loop_outputs(file)
        # `convert_model` would fold the casts of float16 kernels, and store them as float32.
        model = openvino.Core().read_model(str(file))
        _keep_order_of_ties(model)
        model.set_rt_info(as_text(job.metadata), KEY)
        path.mkdir()
        openvino.save_model(model, str(path / "model.xml"), compress_to_fp16=False)
        del model  # it reads the ONNX file


def _keep_order_of_ties(model: Any) -> None:
    """Take equal scores in their order, as TensorFlow does, wherever the best are selected.

    A trained RPN gives thousands of anchors a probability of exactly 1.
    """
    for operation in model.get_ops():
        if operation.get_type_name() == "TopK":
            operation.set_attribute("stable", True)


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

"""Write a network as OpenVINO's IR: a folder with model.xml and model.bin."""

from __future__ import annotations

import tempfile
from pathlib import Path

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
        model = openvino.convert_model(str(file))
        model.set_rt_info(as_text(job.metadata), KEY)
        path.mkdir()
        is_half = job.precision == "float16"
        openvino.save_model(model, str(path / "model.xml"), compress_to_fp16=is_half)
        del model  # it reads the ONNX file

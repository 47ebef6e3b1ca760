"""The table of formats: how a file of each is named, written, and which packages write it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .litert_file import write_litert
from .onnx_file import write_onnx
from .openvino_folder import write_openvino
from .saved_model import write_saved_model
from .settings import PRECISIONS, Job


class Format(NamedTuple):
    """A format: the end of its files' names, its writer, and what it needs.

    packages: name of a module -> name of its package, for pip.
    """

    suffix: str
    write: Callable[[Path, Job], None]
    packages: dict[str, str]
    precisions: tuple[str, ...] = PRECISIONS
    is_portable: bool = True
    has_open_batch: bool = True  # whether a file can accept any number of images


_ONNX = {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"}
FORMATS = {
    "saved_model": Format(
        "_saved_model", write_saved_model, {}, ("float32", "float16"), is_portable=False
    ),
    "onnx": Format(".onnx", write_onnx, _ONNX),
    "litert": Format(
        ".tflite", write_litert, {"ai_edge_litert": "ai-edge-litert"}, has_open_batch=False
    ),
    "openvino": Format("_openvino", write_openvino, {**_ONNX, "openvino": "openvino"}),
}


def format_named(name: str) -> Format:
    """Return a row of the table whose packages are installed.

    Raises: ValueError if there is no such format, or if a package is missing.
    """
    if name not in FORMATS:
        raise ValueError(
            f"A format must be one of {', '.join(FORMATS)}. Received: {name!r}. Try 'onnx'."
        )
    found = FORMATS[name]
    missing = [pip for module, pip in found.packages.items() if not _is_installed(module)]
    if missing:
        raise ValueError(
            f"--format {name} needs the libraries of its extra. Received: an installation without "
            f"{', '.join(missing)}. Try pip install 'mask-rcnn-keras3[export]'."
        )
    return found


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def check_choice(name: str, precision: str, batch: int | None) -> None:
    """Raise ValueError unless files of this format can have this precision and batch.

    batch: None for any.
    """
    if batch is None and not FORMATS[name].has_open_batch:
        raise ValueError(
            f"A file of --format {name} needs a fixed batch. Received: any batch. Try --batch 1."
        )
    allowed = FORMATS[name].precisions
    if precision not in allowed:
        raise ValueError(
            f"--format {name} has the precisions {', '.join(allowed)}. Received: {precision}. "
            f"Try {allowed[-1]}, or another format."
        )

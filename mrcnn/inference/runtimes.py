"""Run an exported file with the runtime of its format; only NumPy is imported beforehand.

    file = open_file("shapes.onnx")
    found = file.run(images)  # [B, H, W, C] uint8 -> a dict of arrays, see `mrcnn.export.graph`
    file.description["class_names"]

This file imports no other file of the package: `python runtimes.py FILE IMAGES OUT` measures an
exported file in a process of its own, which needs neither the package nor Keras.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
MEGABYTE = 2**20
KEY = "mrcnn"  # of the description in a format's own metadata
NOTE = "mrcnn.json"  # the description's file, in formats that hold files
# Runs this file without its folder on the path of imports.
SCRIPT = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"


class ExportedFile(NamedTuple):
    """An exported file that is open.

    run: images `[B, H, W, C]` uint8 to arrays by name. description: see
        `mrcnn.export.description`; empty if the file has none.
    """

    run: Run
    description: dict[str, Any]


def open_onnx(path: str) -> ExportedFile:
    """Open an ONNX file with ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        values = session.run(names, {given.name: images})
        return dict(zip(names, map(np.asarray, values), strict=True))

    metadata = session.get_modelmeta().custom_metadata_map
    return ExportedFile(run, _read_description(metadata.get(KEY)))


def open_openvino(folder: str) -> ExportedFile:
    """Open a folder with OpenVINO's model.xml, to run on the CPU in float32."""
    import openvino

    core = openvino.Core()
    model = core.read_model(os.path.join(folder, "model.xml"))
    text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
    # Otherwise CPUs with AMX compute in bfloat16, which moves boxes by pixels.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled([images])
        return {output.get_any_name(): np.array(found[output]) for output in compiled.outputs}

    return ExportedFile(run, _read_description(text))


def open_litert(path: str) -> ExportedFile:
    """Open a .tflite file with LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        # The runner allocates memory for the shape of the images.
        return {key: np.array(value) for key, value in runner(**{name: images}).items()}

    text = None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(NOTE) if NOTE in archive.namelist() else None
    return ExportedFile(run, _read_description(text))


def open_saved_model(folder: str) -> ExportedFile:
    """Open a SavedModel with TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = signature(images=tf.constant(images))
        return {name: value.numpy() for name, value in found.items()}

    run.loaded = loaded  # type: ignore[attr-defined]  # the signature does not keep it
    note = Path(folder, "assets.extra", NOTE)
    return ExportedFile(run, _read_description(note.read_bytes() if note.is_file() else None))


def _read_description(text: str | bytes | None) -> dict[str, Any]:
    """Return a description from its JSON; without any, an empty one."""
    return {} if text is None else json.loads(text)


class Format(NamedTuple):
    """A format's runtime, the module of that runtime, and the function that opens a file."""

    runtime: str
    module: str
    open: Callable[[str], ExportedFile]


FORMATS = {
    "saved_model": Format("tensorflow", "tensorflow", open_saved_model),
    "onnx": Format("onnxruntime", "onnxruntime", open_onnx),
    "openvino": Format("openvino", "openvino", open_openvino),
    "litert": Format("litert", "ai_edge_litert", open_litert),
}
# Runtime -> the format of its files.
RUNTIMES = {row.runtime: name for name, row in FORMATS.items()}


def is_installed(runtime: str) -> bool:
    """Return whether a runtime, a key of `RUNTIMES`, can be imported."""
    return importlib.util.find_spec(FORMATS[RUNTIMES[runtime]].module) is not None


def format_of(path: str | os.PathLike) -> str:
    """Return the format of an exported file, a key of `FORMATS`.

    Raises: ValueError if it is none.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix == ".tflite":
        return "litert"
    if (path / "model.xml").is_file():
        return "openvino"
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    raise ValueError(
        "An exported file must be .onnx, .tflite, or a folder with model.xml or saved_model.pb. "
        f"Received: {path}. Try `mrcnn export`."
    )


def is_exported(path: str | os.PathLike) -> bool:
    """Return whether a path has the name, or a folder the files, of an exported file."""
    try:
        format_of(path)
    except ValueError:
        return False
    return True


def open_file(path: str | os.PathLike) -> ExportedFile:
    """Open an exported file.

    Raises:
        ValueError: it is none, or its runtime cannot read it.
        ImportError: its runtime is not installed.
    """
    kind = FORMATS[format_of(path)]
    if not is_installed(kind.runtime):
        raise ImportError(
            f"{os.fspath(path)} needs {kind.runtime}, which is not installed. Try pip install "
            "'mask-rcnn-keras3[export]'."
        )
    try:
        return kind.open(os.fspath(path))
    except Exception as error:  # runtimes raise errors of types of their own
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{kind.runtime} must be able to read the file. Received: {os.fspath(path)}, of which "
            f"it says: {first_line}. Try to export it again with `mrcnn export`."
        ) from error


def measure(path: str, groups: Sequence[np.ndarray], repeats: int = 3) -> tuple[list[dict], dict]:
    """Return the outputs of each group of images, and a dict of measurements.

    groups: `[B, H, W, C]` uint8 each. Measured are `start` (s, until the file can run), `ms` (per
    image of the first group, the best of `repeats`) and `memory` (MB, the process at most).
    """
    begin = time.perf_counter()
    run = open_file(path).run
    start = time.perf_counter() - begin
    outputs = [run(images) for images in groups]
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run(groups[0])
        seconds.append(time.perf_counter() - begin)
    milliseconds = 1000 * min(seconds) / len(groups[0])
    return outputs, {"start": start, "ms": milliseconds, "memory": peak_memory()}


def peak_memory() -> float | None:
    """Return the largest memory that this process has had, in MB; None if it is unknown."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return _peak_of_resource()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def _peak_of_resource() -> float | None:
    """`peak_memory` without /proc; on Linux this number would include the parent process."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


def run_apart(path: Path, batches: list[np.ndarray]) -> tuple[list[dict[str, Any]], dict]:
    """Return the outputs of an exported file for each batch, and its measurements.

    It runs in a process of its own, which needs the runtime only, so that the memory is the file's,
    and so that a runtime that crashes does not end this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder, "images.npz"), Path(folder, "found.npz")
        names = [f"batch_{i}" for i in range(len(batches))]
        arrays: dict[str, Any] = dict(zip(names, batches, strict=True))
        np.savez(given, **arrays)
        words = [__file__, str(path), str(given), str(out)]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *words],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise ValueError(
                f"An exported file must run. Received: {lines[-1]}. Try another format, or report "
                "this with the settings of the network."
            )
        return _read_outputs(out, len(batches))


def _read_outputs(path: Path, count: int) -> tuple[list[dict[str, Any]], dict]:
    outputs: list[dict[str, Any]] = [{} for _ in range(count)]
    with np.load(path) as file:
        measured = json.loads(str(file["measured"]))
        for key in file.files:
            if key != "measured":
                index, _, name = key.partition("/")
                outputs[int(index)][name] = file[key]
    return outputs, measured


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main(path: str, images: str, out: str) -> None:
    """Write the outputs and measurements of an exported file for the images of an .npz file."""
    with np.load(images) as file:
        groups = [file[name] for name in file.files]
    outputs, measured = measure(path, groups)
    arrays: dict[str, Any] = {
        f"{i}/{name}": value for i, found in enumerate(outputs) for name, value in found.items()
    }
    np.savez(out, **arrays, measured=np.array(json.dumps(measured)))


if __name__ == "__main__":
    main(*sys.argv[1:])

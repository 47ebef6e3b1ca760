"""Run an exported file with the runtime of its format; only NumPy is imported beforehand.

    detect = open_file("shapes.onnx")
    found = detect(images)  # [B, H, W, C] uint8 -> a dict of arrays, see `mrcnn.export.graph`

This file imports nothing of the package: `python runtimes.py FILE IMAGES OUT` measures an exported
file in a process of its own, where neither the package nor Keras is needed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
MEGABYTE = 2**20


def open_onnx(path: str) -> Run:
    """Return the function of an ONNX file, run by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        values = session.run(names, {given.name: images})
        return dict(zip(names, map(np.asarray, values), strict=True))

    return run


def open_openvino(folder: str) -> Run:
    """Return the function of a folder with OpenVINO's model.xml, run on the CPU in float32."""
    import openvino

    model = os.path.join(folder, "model.xml")
    # Otherwise CPUs with AMX compute in bfloat16, which moves boxes by pixels.
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled([images])
        return {output.get_any_name(): np.array(found[output]) for output in compiled.outputs}

    return run


def open_litert(path: str) -> Run:
    """Return the function of a .tflite file, run by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        # The runner allocates memory for the shape of the images.
        return {key: np.array(value) for key, value in runner(**{name: images}).items()}

    return run


def open_saved_model(folder: str) -> Run:
    """Return the function of a SavedModel's signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        found = signature(images=tf.constant(images))
        return {name: value.numpy() for name, value in found.items()}

    run.loaded = loaded  # type: ignore[attr-defined]  # the signature does not keep it
    return run


OPENERS: dict[str, Callable[[str], Run]] = {
    "saved_model": open_saved_model,
    "onnx": open_onnx,
    "openvino": open_openvino,
    "litert": open_litert,
}


def format_of(path: str | os.PathLike) -> str:
    """Return the format of an exported file, a key of `OPENERS`.

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


def open_file(path: str | os.PathLike) -> Run:
    """Return the function of an exported file: images `[B, H, W, C]` uint8 to arrays by name."""
    return OPENERS[format_of(path)](os.fspath(path))


def measure(path: str, groups: Sequence[np.ndarray], repeats: int = 3) -> tuple[list[dict], dict]:
    """Return the outputs of each group of images, and a dict of measurements.

    groups: `[B, H, W, C]` uint8 each. Measured are `start` (s, until the file can run), `ms` (per
    image of the first group, the best of `repeats`) and `memory` (MB, the process at most).
    """
    begin = time.perf_counter()
    run = open_file(path)
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
    """Return the largest memory that this process has had, in MB; None where it is unknown."""
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

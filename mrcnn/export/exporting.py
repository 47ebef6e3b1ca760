"""Export a model: write the file under another name, run it, compare it with `detect`, keep it.

model -> graph (graph.py) -> a file of a format (formats.py), under another name
      -> run in a process of its own (inference/runtimes.py)
      -> compared with `detect` (compare.py) -> renamed, with a description in a .json file
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import Dataset
from ..files.atomic import atomic_write
from ..inference.fuse_batch_norm import BatchNormFusedModel
from ..inference.runtimes import run_apart, size_of
from .compare import LIMITS, compare
from .description import describe
from .formats import FORMATS, Format, check_choice, format_named
from .graph import Source
from .precision_cost import first_images, precision_cost
from .reference import detected, exported
from .report import Report
from .samples import sample_batches
from .settings import Job, Shape, check_network, shape_of

CALIBRATION_IMAGES = 32
SAMPLES = 4  # of them, to compare a file on


def export_model(
    model: Any,
    path: str | os.PathLike,
    format: str,
    precision: str = "float32",
    size: Sequence[int] | None = None,
    batch: int | None = 1,
    images: Iterable[Any] = (),
    calibration: Dataset | Iterable[Any] = (),
) -> Report:
    """Write a model as a file of another runtime; see `DetectionModel.export`.

    Raises: ValueError if the model cannot be exported so, or if the detections of the file are not
        those of `detect`; then no file is left.
    """
    kind = format_named(format)
    check_choice(format, precision, batch)
    check_network(model.config, kind.is_portable)
    images = list(images)
    shape = shape_of(model.config, size, batch, images)
    dataset = calibration if isinstance(calibration, Dataset) else None
    seen = _calibration_images(calibration)
    if precision == "int8" and not seen:
        raise ValueError(
            "int8 needs images like those to detect in, on which it measures the ranges of "
            "values. Received: none. Try --calibrate DATA, or calibration=[image, ...]."
        )
    target = _checked_name(path, kind.suffix)
    description = describe(model.config, model.class_names, shape, format, precision)
    fused = BatchNormFusedModel(model.keras_model)
    source = Source(fused, type(model).read_outputs, model.config, fused.network)
    batches = sample_batches(model.config, shape, seen) if seen else []
    job = Job(source, shape, precision, description, batches)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        part = Path(folder, target.name)
        _write(kind, part, job)
        samples = sample_batches(model.config, shape, images or seen[:SAMPLES])
        report = _compared(model, part, samples, description, precision)
        if dataset is not None:
            cost = precision_cost(model, lambda given: run_apart(part, given)[0], dataset, shape)
            report = report._replace(cost=cost)
        if not report.agrees():
            raise ValueError(
                "An exported file must find what detect() finds. Received:\n"
                f"{report.text()}\nNo file is kept. Try another format or precision."
            )
        _replace(part, target)
    with atomic_write(f"{target}.json") as beside:
        text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
        Path(beside).write_text(f"{text}\n", encoding="utf-8")
    return report._replace(path=target)


def _write(kind: Format, part: Path, job: Job) -> None:
    """Write the file; converters raise errors of any type."""
    try:
        kind.write(part, job)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        (line, *_) = str(error).strip().splitlines() or [""]
        raise ValueError(
            "The converter of the format must know all operations of the network. Received: "
            f"{type(error).__name__}: {line} Try another format, or report this with the settings "
            "of the network."
        ) from error


def _calibration_images(calibration: Dataset | Iterable[Any]) -> list[Any]:
    """The images that int8 measures ranges on."""
    if isinstance(calibration, Dataset):
        return list(first_images(calibration, Shape(), CALIBRATION_IMAGES).values())
    return list(itertools.islice(calibration, CALIBRATION_IMAGES))


def _checked_name(path: str | os.PathLike, suffix: str) -> Path:
    """The path; runtimes know a file by the end of its name."""
    if suffix.startswith(".") and Path(path).suffix != suffix:
        raise ValueError(
            f"A file of this format must end in {suffix}. Received: {path}. Try {path}{suffix}."
        )
    return Path(path)


def _compared(
    model: Any, part: Path, samples: list[np.ndarray], description: dict, precision: str
) -> Report:
    """The report of a file that was just written."""
    outputs, measured = run_apart(part, samples)
    expected, found, shapes = [], [], []
    for batch, values in zip(samples, outputs, strict=True):
        for i, image in enumerate(batch):
            expected.append(detected(model, image))
            found.append(exported(values, i))
            shapes.append((image.shape[0], image.shape[1]))
    limits = LIMITS[precision]
    agreement = compare(expected, found, shapes, model.config, limits)
    size = size_of(part)
    milliseconds = _detect_ms(model, samples[0][0])
    return Report(part, description, agreement, limits, size, measured, milliseconds)


def _detect_ms(model: Any, image: np.ndarray, repeats: int = 3) -> float:
    """The best of several times that `detect` takes for an image, in ms."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        detected(model, image)
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds)


def _replace(part: Path, target: Path) -> None:
    """Give a new file or folder the place of the old one."""
    if target.is_dir() and not target.is_symlink():
        old = part.with_name(f"{part.name}.old")
        os.replace(target, old)  # removed with the temporary folder
    elif part.is_dir() and target.exists():
        target.unlink()
    os.replace(part, target)


def default_path(weights: str, format: str) -> Path:
    """Return the name of a file in the working folder, after the weights it is made of."""
    return Path(Path(weights).stem + FORMATS[format].suffix)

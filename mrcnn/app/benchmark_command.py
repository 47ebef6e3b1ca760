"""`mrcnn benchmark`: one network by each installed runtime, compared."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.image import read_image
from ..inference.runtimes import (
    FORMATS,
    RUNTIMES,
    format_of,
    is_exported,
    is_installed,
    peak_memory,
    run_apart,
    size_of,
)
from .cli_support import OK, UsageError, load_for_use, make_folder, say, write_json
from .detect_command import find_images
from .model_option import check_model, load_to_detect

log = logging.getLogger("mrcnn")

REPEATS = 3
MOST_IMAGES = 8
MEGABYTE = 1_000_000


class Row(NamedTuple):
    """What a runtime takes.

    start: seconds until an image can be given. ms: per image. memory: MB of the process at most.
    size: bytes of the file. agreement: how the file compares with detect, or why there is no file.
    """

    name: str
    start: float | None = None
    ms: float | None = None
    memory: float | None = None
    size: int | None = None
    agreement: str = ""

    def cells(self) -> list[str]:
        """Return the row of the table as texts."""
        rate = None if not self.ms else 1000 / self.ms
        megabytes = None if self.size is None else self.size / MEGABYTE
        numbers = [_text(self.ms, 1), _text(rate, 2), _text(self.start, 1), _text(self.memory, 0)]
        return [self.name, *numbers, _text(megabytes, 1), self.agreement]


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


HEADINGS = ["runtime", "ms/image", "images/s", "start s", "memory MB", "file MB", "against detect"]


def run(args) -> int:
    """Run `mrcnn benchmark`."""
    check_model(args.weights)
    out = None if args.out is None else make_folder(args.out, "--out")
    images = _read(args.images)
    measure = _rows_of_file if is_exported(args.weights) else _rows_of_network
    rows = measure(args, images)
    say(_table(rows))
    if out is not None:
        content = {"weights": str(args.weights), "cpus": os.cpu_count(), "batch": args.batch}
        content["rows"] = [row._asdict() for row in rows]
        write_json(content, out / "benchmark.json")
        say(f"benchmark.json is in {out.resolve()}")
    return OK


def _read(words: list[str]) -> list[np.ndarray]:
    if not words:
        return []
    return [read_image(file) for file in find_images(words).files[:MOST_IMAGES]]


def _rows_of_file(args, images: list[np.ndarray]) -> list[Row]:
    """The one row of an exported file."""
    from ..export.samples import sample_batches

    model, _ = load_to_detect(args.weights, args.config)
    batches = sample_batches(model.config, model.shape, images)  # pyright: ignore
    _, measured = run_apart(Path(args.weights), batches)
    runtime = FORMATS[format_of(args.weights)].runtime
    return [Row(runtime, **measured, size=size_of(Path(args.weights)))]


def _rows_of_network(args, images: list[np.ndarray]) -> list[Row]:
    """A row of `detect`, and one of each runtime."""
    start = time.perf_counter()
    model, _ = load_for_use(args.weights, [*args.config, "PRECISION=float32"])
    rows = [_detect_row(model, images, time.perf_counter() - start)]
    for runtime in args.runtimes or RUNTIMES:
        if is_installed(runtime):
            log.info("Exporting for %s", runtime)
            rows.append(_exported_row(model, runtime, args, images))
        elif args.runtimes:
            raise UsageError(
                f"--runtimes {runtime} needs its package. Received: an installation without it. "
                "Try pip install 'mask-rcnn-keras3[export]'."
            )
    return rows


def _detect_row(model: Any, images: list[np.ndarray], start: float) -> Row:
    """`detect` of a network in this process. start: the seconds that loading took."""
    from ..export.samples import generated_images

    (image, *_) = images or generated_images(model.config)
    first = _seconds(lambda: model.detect([image]))
    best = min(_seconds(lambda: model.detect([image])) for _ in range(REPEATS))
    start += first - best  # the first image waits for the graph
    return Row("detect", start, 1000 * best, peak_memory(), agreement="itself; masks are pasted")


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _exported_row(model: Any, runtime: str, args, images: list[np.ndarray]) -> Row:
    from ..export.exporting import default_path

    name = f"{runtime}, {args.precision}"
    batch = None if args.batch == "dynamic" else args.batch
    with tempfile.TemporaryDirectory(prefix="mrcnn_") as folder:
        path = Path(folder, default_path(args.weights, RUNTIMES[runtime]).name)
        try:
            report = model.export(
                path, RUNTIMES[runtime], args.precision, size=args.size, batch=batch, images=images
            )
        except ValueError as error:
            log.warning("%s: %s", runtime, error)
            return Row(name, agreement="no file, see above")
    found = report.agreement
    agreement = f"{found.matched:.0%} of {found.compared} found, boxes {found.boxes:.2g} px"
    return Row(name, **report.measured, size=report.size, agreement=agreement)


def _table(rows: list[Row]) -> str:
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADINGS))]
    lines = []
    for line in cells:
        first, *numbers, last = line
        padded = [text.rjust(width) for text, width in zip(numbers, widths[1:-1], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded, last]).rstrip())
    return "\n".join(lines)

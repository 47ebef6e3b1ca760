"""`mrcnn export`: a weight file becomes a file of another runtime, proved to find the same."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..data.dataset import Dataset
from ..data.image import read_image
from .cli_support import OK, check_weights, load_for_use, say
from .data_option import SHAPES_HELD_OUT, log_data, open_data, require_images
from .detect_command import find_images

log = logging.getLogger("mrcnn")

MOST_IMAGES = 32


def run(args) -> int:
    """Run `mrcnn export`."""
    check_weights(args.weights, "WEIGHTS")
    images = _read(args.images)
    model, names = load_for_use(args.weights, [*args.config, "PRECISION=float32"])
    if args.min_confidence is not None:
        model.config.DETECTION_MIN_CONFIDENCE = args.min_confidence
    from ..export.exporting import default_path

    path = default_path(args.weights, args.format) if args.out is None else Path(args.out)
    log.info("Exporting %s to %s", args.weights, path)
    batch = None if args.batch == "dynamic" else args.batch
    report = model.export(
        path,
        args.format,
        precision=args.precision,
        size=args.size,
        batch=batch,
        images=images,
        calibration=_data(args.calibrate, names),
    )
    say(report.text())
    if not args.images and args.calibrate is None:
        log.info("Compared on generated shapes. --images with images of your own says more.")
    if report.agreement.confidence < 0.5:
        log.warning(
            "No object in the sample images scored 0.5, so the comparison says little. Try "
            "--images with images that show objects of the network's classes."
        )
    say(f"Wrote {path} and {path}.json")
    return OK


def _data(path: str | None, class_names: list[str]) -> Dataset | tuple:
    """The annotated images of --calibrate; the word "shapes" stands for generated ones."""
    if path is None:
        return ()
    dataset = open_data(path, class_names, SHAPES_HELD_OUT)
    require_images(dataset, path)
    log_data("Data", dataset)
    return dataset


def _read(words: list[str]) -> list[np.ndarray]:
    """The first images that --images names."""
    if not words:
        return []
    files = find_images(words).files[:MOST_IMAGES]
    return [read_image(file) for file in files]

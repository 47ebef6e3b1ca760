"""`mrcnn export`: a weight file becomes a file of another runtime, proved to find the same."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..data.image import read_image
from .cli_support import OK, check_weights, load_for_use, say
from .detect_command import find_images

log = logging.getLogger("mrcnn")

MOST_IMAGES = 32  # of each option


def run(args) -> int:
    """Run `mrcnn export`."""
    check_weights(args.weights, "WEIGHTS")
    images, calibration = _read(args.images), _read(args.calibrate)
    model, _ = load_for_use(args.weights, [*args.config, "PRECISION=float32"])
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
        calibration=calibration,
    )
    say(report.text())
    if report.agreement.confidence < 0.5:
        log.warning(
            "No object in the sample images scored 0.5, so the comparison says little. Try "
            "--images with images that show objects of the network's classes."
        )
    say(f"Wrote {path} and {path}.json")
    return OK


def _read(words: list[str]) -> list[np.ndarray]:
    """The first images that words of the command line name."""
    if not words:
        return []
    files = find_images(words).files[:MOST_IMAGES]
    return [read_image(file) for file in files]

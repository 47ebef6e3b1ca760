"""Draw what the models in this package find in images that they were not trained on.

`mrcnn demo` begins with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..data.image import read_image
from ..data.shapes import ShapesDataset
from ..drawing.pages import contact_sheet
from ..files.write_image import save_image
from ..weights.shipped import Shipped, shipped_models

log = logging.getLogger("mrcnn")

EXAMPLES = Path(__file__).with_name("examples")  # NAME_*.png, images for the model NAME
UNSEEN_SHAPES = 1  # a seed; samples/shapes/shipped.py trains with another
DRAWN_SHAPES = 6
COLUMNS = 3


def show_models(out: str | os.PathLike) -> list[Path]:
    """Write an image `model_NAME.png` for each model in this package; return their paths."""
    paths = []
    for model in shipped_models():
        path = _show(model, Path(out) / f"model_{model.name}.png")
        if path is not None:
            paths.append(path)
    return paths


def _show(model: Shipped, path: Path) -> Path | None:
    """Draw the detections in the examples of a model; None for a model without examples."""
    from ..detection_model import load  # loads TensorFlow

    images = list(example_images(model.name))
    if not images:
        return None
    network = load(model.name)
    found = [network.detect(image) for image in images]
    pages = [each.plot(image) for each, image in zip(found, images, strict=True)]
    save_image(contact_sheet(pages, COLUMNS), path)
    log.info(
        "The model %s of this package (%s) finds %d objects in %d images: %s",
        model.name,
        model.title,
        sum(each.count for each in found),
        len(images),
        path,
    )
    return path


def example_images(name: str) -> Iterator[np.ndarray]:
    """Yield the example images of a model, uint8 `[H, W, 3]`."""
    if name == "shapes":
        dataset = ShapesDataset(DRAWN_SHAPES, seed=UNSEEN_SHAPES)
        for image_id in dataset.image_ids:
            yield dataset.load_image(image_id)
    for file in sorted(EXAMPLES.glob(f"{name}_*.png")):
        yield read_image(file)

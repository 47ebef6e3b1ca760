"""What an exported file loses in average precision on annotated images, against `detect`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..data.dataset import Dataset
from ..evaluation.evaluate import evaluate_dataset
from ..inference.exported_model import result_arrays
from .samples import views
from .settings import Shape

MOST_IMAGES = 50
LARGEST_LOSS = 0.01  # of any of the average precisions


class PrecisionCost(NamedTuple):
    """Average precision of boxes and, with masks, of masks: of `detect` and of a file."""

    images: int
    expected: dict[str, float]
    found: dict[str, float]

    def loss(self) -> float:
        """Return the largest loss; negative if the file is better, 0 without ground truth."""
        losses = [self.expected[name] - self.found[name] for name in self.expected]
        return max([loss for loss in losses if not math.isnan(loss)], default=0.0)


def precision_cost(
    model: Any,
    run: Callable[[list[np.ndarray]], list[dict]],
    dataset: Dataset,
    shape: Shape,
) -> PrecisionCost | None:
    """Return the cost on the first images of a dataset; None if the file accepts none of them.

    run: from batches of images to the outputs of the file. shape: of the file's images.
    """
    config = model.config
    images = first_images(dataset, shape, MOST_IMAGES)
    if not images:
        return None
    outputs = run([views(image, shape.batch or 1) for image in images.values()])
    shapes = [image.shape for image in images.values()]
    pairs = zip(outputs, shapes, strict=True)
    results = iter([result_arrays(found, 0, shape, config, "rle") for found, shape in pairs])
    options = {"progress": False, "min_confidence": config.DETECTION_MIN_CONFIDENCE}
    ids = list(images)
    ours = evaluate_dataset(
        lambda image: model.detect([image], masks="rle")[0], dataset, ids, **options
    )
    theirs = evaluate_dataset(lambda _: next(results), dataset, ids, **options)
    return PrecisionCost(len(ids), _precisions(ours), _precisions(theirs))


def _precisions(evaluation: Any) -> dict[str, float]:
    precisions = {"box AP": evaluation.box["AP"]}
    if evaluation.mask is not None:
        precisions["mask AP"] = evaluation.mask["AP"]
    return precisions


def first_images(dataset: Dataset, shape: Shape, limit: int) -> dict[int, np.ndarray]:
    """Return the first readable images that a file accepts, by their ids in the dataset."""
    images: dict[int, np.ndarray] = {}
    for image_id in dataset.image_ids:
        if len(images) == limit:
            break
        try:
            image = dataset.load_image(image_id)
        except (ValueError, OSError):
            continue  # the evaluation names the images that it cannot read
        if shape.height is None or image.shape[:2] == (shape.height, shape.width):
            images[int(image_id)] = image
    return images

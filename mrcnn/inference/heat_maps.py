"""Heat maps: the scores of a network's anchors as a map of the image that it reacts to.

Of Mask R-CNN these are the objectness scores of the RPN (Faster R-CNN, section 3.1): how likely
there is an object of any class. NumPy and OpenCV only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from ..config import Config
from ..nn.anchors import compute_backbone_shapes
from .preprocessing import Molded

# Layers whose outputs are probabilities `[B, A, classes]` of the anchors, and the first class that
# is no background. A network of another kind adds a row.
LAYERS = {"rpn_class": 1}


class AnchorScores(NamedTuple):
    """The tensor `[B, A, classes]` of a network, and its first class that is no background."""

    probs: Any
    first_class: int


def anchor_scores(network: Any) -> AnchorScores:
    """The scores of the anchors of an inference network.

    Raises: ValueError if no layer of the network is in `LAYERS`.
    """
    for layer in network.layers:
        if layer.name in LAYERS:
            return AnchorScores(layer.output, LAYERS[layer.name])
    raise ValueError(
        f"A heat map needs a network with a layer {' or '.join(LAYERS)}. "
        f"Received: {network.name}, which has none. Try a network of this package."
    )


def level_shapes(config: Config, image_shape: Any) -> np.ndarray:
    """`[levels, (rows, columns)]` of the anchors of a molded image of shape `(h, w, ...)`."""
    shapes = compute_backbone_shapes(config, image_shape)[: len(config.RPN_ANCHOR_SCALES)]
    return -(-np.asarray(shapes) // config.RPN_ANCHOR_STRIDE)


def heat_map(scores: np.ndarray, molded: Molded, config: Config) -> np.ndarray:
    """`[H, W]` float32 in 0..1, in pixels of the original image: the best score at each pixel.

    Of each cell of a pyramid level the best anchor counts; levels are enlarged to the image, and
    of each pixel the best level counts.

    scores: `[A]` of the image's anchors, of their best class.
    """
    shapes = level_shapes(config, molded.image.shape)
    cells = shapes.prod(axis=1)
    per_cell = len(scores) // cells.sum()
    ends = np.cumsum(cells * per_cell)
    height, width = molded.image.shape[:2]
    heat = np.zeros((height, width), np.float32)
    for level, (rows, columns) in zip(np.split(scores, ends[:-1]), shapes.tolist(), strict=True):
        best = level.reshape(rows, columns, per_cell).max(axis=-1).astype(np.float32)
        heat = np.maximum(heat, _enlarge(best, height, width))
    y1, x1, y2, x2 = (int(side) for side in molded.window)
    original_height, original_width = molded.original_shape[:2]
    size = (original_width, original_height)  # OpenCV's order
    return cv2.resize(heat[y1:y2, x1:x2], size, interpolation=cv2.INTER_LINEAR)


def _enlarge(level: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[height, width]` the scores of cells `[rows, columns]`, interpolated between the anchors.

    The anchors of cell i have their center at i times the stride.
    """
    rows, columns = level.shape
    y, x = rows / height, columns / width  # cells per pixel
    position = np.array([[x, 0, x / 2], [0, y, y / 2]])  # of a pixel's center among the cells
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_REPLICATE
    return cv2.warpAffine(level, position, (width, height), flags=flags, borderMode=border)

"""Heat maps: the scores of a network's anchors as a map of the image that it reacts to.

Of Mask R-CNN these are the objectness scores of the RPN (Faster R-CNN, section 3.1): how likely
there is an object of any class. Of RetinaNet and FCOS they are the scores of the best class.

Each pyramid level has a map of its own: a level without objects of its size in the training data
scores evenly, at any height, and would cover the others.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from ..config import Config
from ..nn.anchors import compute_backbone_shapes
from .preprocessing import Molded

# Layers whose outputs `[B, A, ...]` are read from a network that has them, see `anchor_scores`.
LAYERS = ("rpn_class", "class_logits", "centerness")


def anchor_outputs(network: Any) -> dict[str, Any]:
    """The tensors of an inference network from which `anchor_scores` follow, by layer.

    Raises: ValueError if the network has none of `LAYERS`.
    """
    found = {layer.name: layer.output for layer in network.layers if layer.name in LAYERS}
    if not found:
        raise ValueError(
            f"A heat map needs a network with a layer {' or '.join(LAYERS[:2])}. "
            f"Received: {network.name}, which has none. Try a network of this package."
        )
    return found


def anchor_scores(outputs: dict[str, Any]) -> Any:
    """`[B, A]` the score of each anchor, of its best class that is no background.

    outputs: the values of `anchor_outputs`: rpn_class `[B, A, 2]` probabilities; or class_logits
        `[B, A, NUM_CLASSES]` and, of a network that has it, centerness `[B, A, 1]` logits.
    """
    if "rpn_class" in outputs:
        return outputs["rpn_class"][..., 1]
    from ..nn.dense_detections import class_scores  # TensorFlow: only if it is used
    from ..nn.keras_ops import ops

    best = ops.max(outputs["class_logits"][..., 1:], axis=-1, keepdims=True)
    return class_scores(best, outputs.get("centerness"))[..., 0]


def level_shapes(config: Config, image_shape: Any) -> np.ndarray:
    """`[levels, (rows, columns)]` of the anchors of a molded image of shape `(h, w, ...)`."""
    shapes = compute_backbone_shapes(config, image_shape)[: len(config.RPN_ANCHOR_SCALES)]
    return -(-np.asarray(shapes) // config.RPN_ANCHOR_STRIDE)


def level_names(config: Config) -> list[str]:
    """A name for each level that has anchors, with their sides in pixels of the network's input."""
    if config.has_pyramid():
        count, first = len(config.RPN_ANCHOR_SCALES), config.finest_level()
        levels = [f"P{first + i}" for i in range(count)]
    else:
        levels = [f"C{round(math.log2(config.BACKBONE_STRIDES[0]))}"]
    if not config.has_anchors():
        return levels
    names = []
    for level, sides in zip(levels, config.anchor_scales(), strict=True):
        least, largest = min(sides), max(sides)
        span = f"{least:g}" if least == largest else f"{least:g} to {largest:g}"
        names.append(f"{level}, anchors of {span} px")
    return names


def heat_maps(scores: np.ndarray, molded: Molded, config: Config) -> dict[str, np.ndarray]:
    """Name of a level -> `[H, W]` float32 in 0..1, in pixels of the original image.

    Of each cell of a level the best anchor counts.

    scores: `[A]` of the image's anchors, of their best class.
    """
    shapes = level_shapes(config, molded.image.shape)
    cells = shapes.prod(axis=1)
    per_cell = len(scores) // cells.sum()
    ends = np.cumsum(cells * per_cell)
    maps = {}
    for name, of_level, (rows, columns) in zip(
        level_names(config), np.split(scores, ends[:-1]), shapes.tolist(), strict=True
    ):
        best = of_level.reshape(rows, columns, per_cell).max(axis=-1).astype(np.float32)
        maps[name] = _in_image(best, molded)
    return maps


def _in_image(level: np.ndarray, molded: Molded) -> np.ndarray:
    """`[H, W]` the scores of cells `[rows, columns]`, in pixels of the original image."""
    height, width = molded.image.shape[:2]
    y1, x1, y2, x2 = (int(side) for side in molded.window)
    shown = _enlarge(level, height, width)[y1:y2, x1:x2]
    original_height, original_width = molded.original_shape[:2]
    size = (original_width, original_height)  # OpenCV's order
    return cv2.resize(shown, size, interpolation=cv2.INTER_LINEAR)


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

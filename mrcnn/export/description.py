"""What an exported file says about itself: format, inputs, outputs, class names, settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..config import Config
from ..inference.result import numbered_classes
from .graph import output_names
from .settings import Shape

OUTPUTS = {
    "boxes": "[B, D, (y1, x1, y2, x2)] float32, pixels of the given image",
    "class_ids": "[B, D] int32, into class_names; 0 after the last detection",
    "scores": "[B, D] float32, best first",
    "count": "[B] int32, the detections of each image",
    "masks": "[B, D, h, w] float32, the probability of each cell of the box",
    "keypoints": "[B, D, h, w, K] float32, logits of the cells of the box",
}


def describe(
    config: Config, class_names: Sequence[str] | None, shape: Shape, format: str, precision: str
) -> dict[str, Any]:
    """Return the description of a file as JSON can hold it."""
    return {
        "made_by": f"mask-rcnn-keras3 {__version__}",
        "format": format,
        "precision": precision,
        "network": config.NETWORK,
        "input": {
            "images": "[B, H, W, C] uint8, not resized",
            "batch": shape.batch,
            "height": shape.height,
            "width": shape.width,
            "channels": config.IMAGE_CHANNEL_COUNT,
        },
        "outputs": {name: OUTPUTS[name] for name in output_names(config)},
        "class_names": list(class_names or numbered_classes(config.NUM_CLASSES)),
        "config": config.to_dict(),
    }


def as_text(description: dict[str, Any]) -> str:
    """Return a description as JSON in one line, for the metadata of a format."""
    return json.dumps(description, ensure_ascii=False)

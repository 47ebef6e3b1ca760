"""matterport's `utils.*` names, `Dataset` first, each handed on from its room."""

from .boxes import area as _area
from .boxes import (
    decode,
    denormalize,
    encode,
    generate_anchors,
    generate_pyramid_anchors,
    iou,
    non_max_suppression,
    normalize,
)
from .dataset import Dataset

__all__ = ["Dataset"]

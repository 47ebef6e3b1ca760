"""Mask R-CNN for Keras 3 and TensorFlow, in the matterport style.

The names in `__all__` are imported on first use, so that `import mrcnn` itself does not load
TensorFlow or NumPy and has no effect outside the package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Config
    from .data.dataset import Dataset
    from .detection_model import load
    from .fcos import FCOS
    from .formats.open_dataset import open_dataset
    from .model import MaskRCNN
    from .retinanet import RetinaNet

__version__ = "0.2.0"

__all__ = [
    "FCOS",
    "Config",
    "Dataset",
    "MaskRCNN",
    "RetinaNet",
    "__version__",
    "load",
    "open_dataset",
]

_MODULES = {
    "Config": "config",
    "Dataset": "data.dataset",
    "FCOS": "fcos",
    "MaskRCNN": "model",
    "RetinaNet": "retinanet",
    "load": "detection_model",
    "open_dataset": "formats.open_dataset",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

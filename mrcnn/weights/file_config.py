"""The config of the network that a weight file is for."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from ..config import Config
from ..presets import HIDDEN_SETTINGS
from .opening import AnyWeightFile

logger = logging.getLogger("mrcnn")


def config_of_file(file: AnyWeightFile) -> Config:
    """The config that a weight file of this package contains.

    Raises: ValueError if it has no config, or one that cannot rebuild the network.
    """
    if file.kind == "backbone":
        raise ValueError(
            f"Weights of a whole network are needed. Received: {file.path}, which has only those "
            "of a backbone. Try training from it: mrcnn train DATA --backbone-weights FILE."
        )
    if "config" not in file.metadata:
        raise ValueError(
            f"The weight file must say what network it is for. Received: {file.path}, which "
            "carries no config (only files written by this package do). "
            "Try passing config= (on the command line --config)."
        )
    config = Config.from_dict(file.metadata["config"])
    if isinstance(config.BACKBONE, str) and ":" in config.BACKBONE:
        raise ValueError(
            "A network with a BACKBONE function of your own cannot be rebuilt from its file. "
            f"Received: {file.path} ({config.BACKBONE}). "
            "Try passing config= (on the command line --config FILE.py) with it."
        )
    return config


def warn_of_other_settings(file: AnyWeightFile, config: Config) -> None:
    """Log a warning if tensors of torchvision or detectron2 were trained with other settings.

    Weights of the same shapes then fit, but the network is another one.
    """
    if file.kind not in ("torchvision", "detectron2"):
        return
    wanted: dict[str, Any] = file.metadata["config"]
    plain = config.to_dict()
    other = [name for name in HIDDEN_SETTINGS if not np.array_equal(wanted[name], plain[name])]
    if other:
        listed = ", ".join(f"{name} = {wanted[name]}" for name in other[:4])
        more = " ..." if len(other) > 4 else ""
        logger.warning(
            "%s was trained with other settings: %s%s. Detections will be worse than its network's "
            "until the training has adapted. Try MaskRCNN.from_weights(%r) without a config.",
            file.path,
            listed,
            more,
            file.path,
        )

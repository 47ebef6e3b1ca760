"""The config of the network that a weight file is for."""

from __future__ import annotations

from ..config import Config
from .weight_file import WeightFile


def config_of_file(file: WeightFile) -> Config:
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

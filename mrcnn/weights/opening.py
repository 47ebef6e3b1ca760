"""Open a weight file of any kind."""

from __future__ import annotations

import os

from .tensor_files import is_tensor_file
from .tensor_weights import TensorWeights
from .weight_file import WeightFile

AnyWeightFile = WeightFile | TensorWeights


def open_weights(path: str | os.PathLike) -> AnyWeightFile:
    """Open an `.h5` file of ours, matterport's or Keras', or tensors of torchvision or detectron2.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not a weight file of a known kind.
    """
    return TensorWeights(path) if is_tensor_file(path) else WeightFile(path)

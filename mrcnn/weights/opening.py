"""Open weights of any kind: a file, a model of this package, or a name of released weights."""

from __future__ import annotations

import os

from .tensor_files import is_tensor_file
from .tensor_weights import TensorWeights
from .weight_file import WeightFile
from .zoo import released, weight_path

AnyWeightFile = WeightFile | TensorWeights


def open_weights(weights: str | os.PathLike) -> AnyWeightFile:
    """Open an `.h5` file of ours, matterport's or Keras', or tensors of torchvision or detectron2.

    weights: a path, or a name that `mrcnn weights` lists; released weights are downloaded unless
        they are in the cache.

    Raises:
        FileNotFoundError: neither a file nor a name.
        DownloadError: the file of a name is not in the cache and cannot be downloaded.
        ValueError: not a weight file of a known kind.
    """
    row = released(weights)
    path = weight_path(weights)
    if is_tensor_file(path):
        return TensorWeights(path)
    return WeightFile(path, None if row is None else row.metadata())


def read_metadata(weights: str | os.PathLike) -> dict | None:
    """Return the description of the network and its classes; None if there is none.

    Raises:
        OSError, ValueError: as `open_weights`; a damaged description.
    """
    with open_weights(weights) as file:
        return file.metadata or None


def check_file(weights: str | os.PathLike) -> None:
    """Raise the error that loading weights would raise before their arrays are read.

    Raises:
        OSError, ValueError: as `open_weights`.
    """
    with open_weights(weights) as file:
        if not file.is_keras3:
            _ = file.layers  # raises

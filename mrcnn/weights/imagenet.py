"""ImageNet weights of each backbone: the released file, and its conversion to our layers.

To add the weights of a backbone (nn/backbones.py), add a row to `IMAGENET_WEIGHTS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from .keras_applications import BackboneLayers, convert_mobilenet, convert_resnet
from .model_layers import ModelLayers
from .weight_file import WeightFile
from .zoo import ReleasedFile, cached

_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"


class ImageNetWeights(NamedTuple):
    """Where the weights of a backbone come from, and how they are read."""

    file: ReleasedFile
    convert: Callable[
        [WeightFile, ModelLayers], BackboneLayers
    ]  # of a file, for the model's layers


# Backbone -> its weights without top. The MD5s are those that Keras publishes; the sizes are those
# of the downloads.
IMAGENET_WEIGHTS = {
    "resnet50": ImageNetWeights(
        ReleasedFile(
            f"{_KERAS_URL}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=94_765_736,
            md5="4d473c1dd8becc155b73f8504c6f6626",
            # of the file that matterport's package downloaded in 2017 under the same name
            older_md5s=("a268eb855778b3df3c7506639542a6af",),
        ),
        convert_resnet,
    ),
    "resnet101": ImageNetWeights(
        ReleasedFile(
            f"{_KERAS_URL}/resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
            size=171_446_536,
            md5="88cf7a10940856eca736dc7b7e228a21",
        ),
        convert_resnet,
    ),
    "mobilenet_v2": ImageNetWeights(
        ReleasedFile(
            f"{_KERAS_URL}/mobilenet_v2/"
            "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
            size=9_406_464,
        ),
        convert_mobilenet,
    ),
}


def imagenet_weights(backbone: object, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of a backbone's ImageNet weights, downloaded unless they are there.

    backbone: a name in `IMAGENET_WEIGHTS`.
    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
        ValueError: no weights are known for this backbone.
    """
    return cached(weights_of(backbone).file, cache_dir)


def weights_of(backbone: object) -> ImageNetWeights:
    """Return the row of a backbone.

    Raises:
        ValueError: no weights are known for this backbone.
    """
    if not isinstance(backbone, str) or backbone not in IMAGENET_WEIGHTS:
        raise ValueError(
            f"The backbone must be one of {', '.join(IMAGENET_WEIGHTS)}. Received: {backbone!r}. "
            "For a backbone of your own load its weights where you build it."
        )
    return IMAGENET_WEIGHTS[backbone]

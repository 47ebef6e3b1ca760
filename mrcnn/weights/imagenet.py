"""ImageNet weights of the backbones: the download, and the conversion to our layers.

The table of nn/backbones.py has the file of each backbone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from .keras_applications import (
    BackboneLayers,
    convert_application,
    convert_mobilenet,
    convert_resnet,
    convert_vgg,
)
from .model_layers import ModelLayers
from .shipped import PACKAGED
from .weight_file import WeightFile
from .zoo import cached
from .zoo_table import ReleasedFile

if TYPE_CHECKING:
    from ..nn.backbones import ImageNetFile, PackagedFile

Conversion = Callable[[WeightFile, ModelLayers], BackboneLayers]

# Naming scheme of a file's layers -> its conversion to the layers of the model.
CONVERSIONS: dict[str, Conversion] = {
    "resnet": convert_resnet,
    "mobilenet_v2": convert_mobilenet,
    "vgg16": convert_vgg,
    "keras.applications": convert_application,
}


def imagenet_weights(backbone: object, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of a backbone's ImageNet weights, downloaded unless they are there.

    Those of efficientnet_lite2 are a part of this package.

    backbone: a name in the table of nn/backbones.py.
    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
        ValueError: no weights are known for this backbone.
    """
    from ..nn.backbones import PackagedFile  # loads Keras

    file = _imagenet_file(backbone)
    if isinstance(file, PackagedFile):
        return str(PACKAGED / file.name)
    released = ReleasedFile(file.url, file.size, file.md5, file.older_md5s, file.sha256)
    return cached(released, cache_dir)


def conversion_of(backbone: object) -> Conversion:
    """Return the function that converts a file of a backbone to the layers of the model.

    Raises:
        ValueError: no weights are known for this backbone.
    """
    return CONVERSIONS[_imagenet_file(backbone).layer_names]


def _imagenet_file(backbone: object) -> ImageNetFile | PackagedFile:
    from ..nn.backbones import BACKBONES  # loads Keras

    if not isinstance(backbone, str) or backbone not in BACKBONES:
        raise ValueError(
            f"The backbone must be one of {', '.join(BACKBONES)}. Received: {backbone!r}. "
            "For a backbone of your own load its weights where you build it."
        )
    return BACKBONES[backbone].imagenet

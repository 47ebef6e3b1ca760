"""Released weight files: addresses, checksums, sizes, and their download into a cache."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..files.download import download


class ReleasedFile(NamedTuple):
    """A file that somebody has published."""

    url: str
    size: int  # bytes
    md5: str | None = None  # hexadecimal; None if none is published
    older_md5s: tuple[str, ...] = ()  # of earlier releases, which may stay in a cache


COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
# As published by NVIDIA with TensorRT's sample sampleUffMaskRCNN; nobody publishes a SHA-256.
COCO_MODEL_MD5 = "e98aaff6f99e307b5e2a8a3ff741a518"
COCO_MODEL_SIZE = 257_557_808  # bytes

COCO_MODEL = ReleasedFile(COCO_MODEL_URL, COCO_MODEL_SIZE, COCO_MODEL_MD5)

_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"

# Backbone -> ImageNet weights without top. The MD5s are those that Keras publishes; the sizes are
# those of the downloads.
IMAGENET_FILES = {
    "resnet50": ReleasedFile(
        f"{_KERAS_URL}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        94_765_736,
        "4d473c1dd8becc155b73f8504c6f6626",
        # of the file that matterport's package downloaded in 2017 under the same name
        older_md5s=("a268eb855778b3df3c7506639542a6af",),
    ),
    "resnet101": ReleasedFile(
        f"{_KERAS_URL}/resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        171_446_536,
        "88cf7a10940856eca736dc7b7e228a21",
    ),
    "mobilenet_v2": ReleasedFile(
        f"{_KERAS_URL}/mobilenet_v2/"
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        9_406_464,
    ),
}


def coco_weights(cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of matterport's COCO weights (246 MB), downloaded unless they are there.

    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
    """
    return _cached(COCO_MODEL, cache_dir)


def imagenet_weights(backbone: str, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of a backbone's ImageNet weights, downloaded unless they are there.

    backbone: a name in `IMAGENET_FILES`.
    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
        ValueError: no file is known for this backbone.
    """
    check_backbone(backbone)
    return _cached(IMAGENET_FILES[backbone], cache_dir)


def check_backbone(backbone: object) -> None:
    """Raise a ValueError if no ImageNet weights are known for a backbone."""
    if backbone not in IMAGENET_FILES:
        raise ValueError(
            f"The backbone must be one of {', '.join(IMAGENET_FILES)}. Received: {backbone!r}. "
            "For a backbone of your own load its weights where you build it."
        )


def _cached(file: ReleasedFile, cache_dir: str | os.PathLike | None) -> str:
    if cache_dir is None:
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        cache_dir = os.path.join(home, "models")
    path = os.path.join(cache_dir, file.url.rsplit("/", 1)[-1])
    return download(file.url, path, md5=file.md5, size=file.size, older_md5s=file.older_md5s)

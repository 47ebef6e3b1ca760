"""Released weight files: address, checksum, size, and the download into a cache."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..files.download import download


class ReleasedFile(NamedTuple):
    """A file that somebody has published."""

    url: str
    size: int  # bytes
    md5: str | None = None  # hexadecimal; None if it is not published
    older_md5s: tuple[str, ...] = ()  # of earlier releases, which may stay in a cache


COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
# As published by NVIDIA with TensorRT's sample sampleUffMaskRCNN; nobody publishes a SHA-256.
COCO_MODEL_MD5 = "e98aaff6f99e307b5e2a8a3ff741a518"
COCO_MODEL_SIZE = 257_557_808  # bytes

COCO_MODEL = ReleasedFile(COCO_MODEL_URL, COCO_MODEL_SIZE, COCO_MODEL_MD5)


def coco_weights(cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of matterport's COCO weights (246 MB), downloaded unless they are there.

    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
    """
    return cached(COCO_MODEL, cache_dir)


def cached(file: ReleasedFile, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of a released file, downloaded unless it is in the cache.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
    """
    if cache_dir is None:
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        cache_dir = os.path.join(home, "models")
    path = os.path.join(cache_dir, file.url.rsplit("/", 1)[-1])
    return download(file.url, path, md5=file.md5, size=file.size, older_md5s=file.older_md5s)

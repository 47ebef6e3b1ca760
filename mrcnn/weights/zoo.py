"""Weights by name: a model of this package, or a released file, downloaded unless it is cached."""

from __future__ import annotations

import difflib
import os

from ..files.download import download
from ..files.mapped_file import require_file
from .shipped import shipped, shipped_models
from .zoo_table import COCO_MODEL, RELEASED, Released, ReleasedFile


def names() -> list[str]:
    """Return the names of this package's models and of all released weights, aliases included."""
    of_package = [model.name for model in shipped_models()]
    return of_package + [name for row in RELEASED for name in (row.name, *row.aliases)]


def is_name(weights: str | os.PathLike) -> bool:
    """Whether weights are a name of this package's models or of released weights, not a path."""
    return shipped(weights) is not None or released(weights) is not None


def released(weights: str | os.PathLike) -> Released | None:
    """Return the row of the table that a name stands for; None for a path.

    weights: a name, or a path; a file that exists is a path, whatever its name.
    """
    return None if os.path.isfile(weights) else row_of(os.fspath(weights))


def row_of(name: str) -> Released | None:
    """Return the row of a name; None if the table has no such name."""
    return next((row for row in RELEASED if name in (row.name, *row.aliases)), None)


def weight_path(weights: str | os.PathLike, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of weights, downloaded if they are a name whose file is not in the cache.

    weights: the path of a file, or a name that `names` lists.
    cache_dir: as for `cached`.

    Raises:
        FileNotFoundError: neither a file nor a name.
        DownloadError: the file is not in the cache and cannot be downloaded.
        ValueError: a folder, a device or a pipe.
    """
    model = shipped(weights)
    if model is not None:
        return str(model.weights)
    row = known(weights)
    return require_file(weights) if row is None else cached(row.file, cache_dir)


def known(weights: str | os.PathLike, what: str = "Weights") -> Released | None:
    """Return `released(weights)`, unless the word is no path and like a name.

    what: names the weights in the message.

    Raises:
        FileNotFoundError: there is no such file, and some name is like it.
    """
    row = released(weights)
    if row is None and shipped(weights) is None and not os.path.exists(weights):
        wrong = os.fspath(weights)
        folder, file_name = os.path.split(wrong)
        close = close_names(file_name.split(".")[0])
        if folder:  # rather a file of the user's, like logs/mine/mask_rcnn_mine_0007.h5
            close = [name for name in close if file_name.startswith(f"{name}.")]
        if close:
            raise FileNotFoundError(
                f"{what} must be a file, or a name that `mrcnn weights` lists. "
                f"Received: {wrong}, which does not exist. Did you mean {' or '.join(close)}?"
            )
    return row


def close_names(wrong: str) -> list[str]:
    """Return the names that are most similar to a wrong one; [] without any."""
    return difflib.get_close_matches(wrong, names(), n=3, cutoff=0.6)


def coco_weights(cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of matterport's COCO weights (246 MB), downloaded unless they are there.

    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
    """
    return cached(COCO_MODEL, cache_dir)


def cache_path(file: ReleasedFile, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path that a released file has in the cache, whether it is there or not."""
    if cache_dir is None:
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        cache_dir = os.path.join(home, "models")
    return os.path.join(cache_dir, file.url.rsplit("/", 1)[-1])


def cached(file: ReleasedFile, cache_dir: str | os.PathLike | None = None) -> str:
    """Return the path of a released file, downloaded unless it is in the cache.

    cache_dir: folder of the downloads; the default is that of Keras, ~/.keras/models.

    Raises:
        DownloadError: the file is not there and cannot be downloaded.
    """
    return download(
        file.url,
        cache_path(file, cache_dir),
        md5=file.md5,
        size=file.size,
        older_md5s=file.older_md5s,
        sha256=file.sha256,
    )

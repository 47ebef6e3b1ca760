"""The images of an evaluation: which ones, with a progress bar, and those that cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..data.dataset import Dataset
from ..data.progress import with_progress
from ..files.safe_text import printable

log = logging.getLogger("mrcnn")

MAX_FAILED_NAMES = 10  # of images that could not be used, in a table

T = TypeVar("T")


def select_images(
    dataset: Dataset, image_ids: Iterable[int] | None, limit: int | None
) -> list[int]:
    """Return the ids of the images to evaluate.

    image_ids: default all images. limit: only the first ones.

    Raises: ValueError if there is no image.
    """
    ids = [int(i) for i in (dataset.image_ids if image_ids is None else image_ids)][:limit]
    if not ids:
        raise ValueError(
            "An evaluation needs at least one image. Received: a dataset of "
            f"{len(dataset.image_ids)} images, limit={limit}. "
            "Try a larger limit, or check that the dataset was filled and prepared."
        )
    return ids


def evaluated(ids: list[int], progress: bool) -> Iterable[int]:
    """Iterate over image ids, with progress on stderr or without."""
    return with_progress(ids, "Evaluating") if progress else ids


class FailedImages:
    """The images of a dataset whose pixels or annotations could not be read.

    errors: image id -> the exception.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.errors: dict[int, Exception] = {}

    def attempt(self, image_id: int, load: Callable[..., T], *args: object) -> T | None:
        """Return load(*args); if it raises, log and record the image, and return None."""
        try:
            loaded = load(*args)
            if loaded is None:  # cv2.imread in a load_image returns None for an unreadable file
                raise ValueError("load_image must return an array. Received: None.")
            return loaded
        except Exception as error:  # load may be the user's own method, which raises anything
            self.errors[image_id] = error
            entry = self._entry(image_id, error)
            log.error(
                "Image %d (%s) is left out: %s",
                image_id,
                printable(entry["image"]),
                printable(entry["error"], 1000),
            )
            return None

    def entries(self) -> list[dict]:
        """Return a dict of image_id, image (its path or id) and error for each failed image."""
        return [self._entry(image_id, error) for image_id, error in self.errors.items()]

    def _entry(self, image_id: int, error: Exception) -> dict:
        info = self.dataset.image_info[image_id]
        message = str(error)
        if not isinstance(error, ValueError | OSError):
            message = f"{type(error).__name__}: {error}"
        name = str(info.get("path") or info.get("id"))
        return {"image_id": image_id, "image": name, "error": message}

    def raise_first(self) -> None:
        """Raise the error of the first failed image."""
        raise next(iter(self.errors.values()))


def failure_lines(failed: list[dict]) -> list[str]:
    """Return the line of a table that counts and names failed images; empty without any."""
    if not failed:
        return []
    names = ", ".join(printable(entry["image"]) for entry in failed[:MAX_FAILED_NAMES])
    more = ""
    if len(failed) > MAX_FAILED_NAMES:
        more = f" and {len(failed) - MAX_FAILED_NAMES} more"
    noun = "image" if len(failed) == 1 else "images"
    return [f"Not counted: {len(failed)} {noun} that could not be used: {names}{more}."]

"""The order of the images in a training: epochs, repeated rare classes, batches of one orientation.

An epoch here shows each image of the dataset (as often as it is repeated); it need not end with an
epoch of Keras, which has STEPS_PER_EPOCH batches.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from ..files.image_files import read_size
from .dataset import Dataset
from .progress import with_progress

log = logging.getLogger("mrcnn")

T = TypeVar("T")

MANY_IMAGES = 1000  # more are read with progress


class ImageOrder:
    """Image ids by position, counted from the first batch of the training: `order[position]`.

    In an epoch each image is shown once, or as often as `repeats` says, before the next begins.
    """

    def __init__(
        self,
        image_ids: Sequence[int] | np.ndarray,
        seed: int,
        shuffle: bool = True,
        repeats: np.ndarray | None = None,
        tall: np.ndarray | None = None,
        batch_size: int = 1,
    ):
        """Create the order.

        Args:
            image_ids: `[images]`.
            seed: the same seed gives the same order.
            shuffle: use a new order in each epoch.
            repeats: `[images]` float, at least 1: how often an epoch shows each image on average;
                the fraction is drawn in each epoch.
            tall: `[images]` bool: batches of `batch_size` contain either tall images or others,
                except the last ones of an epoch.
        """
        self.image_ids, self.seed, self.shuffle = np.asarray(image_ids), seed, shuffle
        self.repeats, self.tall, self.batch_size = repeats, tall, batch_size
        self._starts = [0]  # the first position of each epoch, as far as they are known
        self._epochs: dict[int, np.ndarray] = {}  # image ids of the epochs last asked for
        self._lock = threading.Lock()

    @property
    def length(self) -> float:
        """The number of images that an epoch shows, on average."""
        return float(len(self.image_ids) if self.repeats is None else self.repeats.sum())

    def __getitem__(self, position: int) -> int:
        with self._lock:
            while self._starts[-1] <= position:
                count = int(self._counts(len(self._starts) - 1).sum())
                self._starts.append(self._starts[-1] + count)
            epoch = int(np.searchsorted(self._starts, position, side="right")) - 1
            if epoch not in self._epochs:
                self._epochs = {e: ids for e, ids in self._epochs.items() if abs(e - epoch) <= 1}
                self._epochs[epoch] = self._epoch(epoch)
            return self._epochs[epoch][position - self._starts[epoch]]

    def _counts(self, epoch: int) -> np.ndarray:
        """`[images]` int: how often an epoch shows each image."""
        if self.repeats is None:
            return np.ones(len(self.image_ids), int)
        whole = np.floor(self.repeats)
        rng = np.random.default_rng((self.seed, epoch, 2))
        return whole.astype(int) + (rng.random(len(whole)) < self.repeats - whole)

    def _epoch(self, epoch: int) -> np.ndarray:
        """The image ids of an epoch, in their order."""
        places = np.repeat(np.arange(len(self.image_ids)), self._counts(epoch))
        if self.shuffle:
            places = np.random.default_rng((self.seed, epoch)).permutation(places)
        if self.tall is not None:
            first = -self._starts[epoch] % self.batch_size
            places = _group(places, self.tall, self.batch_size, first)
        return self.image_ids[places]


def _group(places: np.ndarray, tall: np.ndarray, batch_size: int, first: int) -> np.ndarray:
    """Reorder places into batches of one kind; incomplete batches come last.

    places: `[P]` positions of images. tall: `[images]` bool. first: number of places that stay in
    front, because they complete the last batch of the epoch before.
    """
    grouped: list[int] = list(places[:first])
    waiting: tuple[list[int], list[int]] = ([], [])
    for place in places[first:]:
        batch = waiting[int(tall[place])]
        batch.append(place)
        if len(batch) == batch_size:
            grouped += batch
            batch.clear()
    return np.array([*grouped, *waiting[0], *waiting[1]], int)


# --- Rare classes -----------------------------------------------------------------------------


def repeat_factors(class_ids: Sequence[Iterable[int]], threshold: float) -> np.ndarray:
    """Return how often an epoch shows each image (repeat-factor sampling, LVIS, section 3).

    An image whose rarest class is in a share f < threshold of the images is repeated
    sqrt(threshold / f) times. (Gupta et al. 2019, LVIS: A Dataset for Large Vocabulary Instance
    Segmentation.)

    Args:
        class_ids: for each image the ids of its objects; negative ones, crowds, are ignored.
        threshold: share of the images, 0 to 1; 0 repeats no image.

    Returns: `[images]` float, at least 1.
    """
    present = [np.unique([i for i in ids if i > 0]).astype(int) for ids in class_ids]
    images = np.bincount(np.concatenate([*present, np.zeros(0, int)]))
    factors = np.maximum(1, np.sqrt(threshold * len(present) / np.maximum(images, 1)))
    return np.array([factors[ids].max(initial=1) for ids in present])


# Class ids take a while to read.
_class_ids: weakref.WeakKeyDictionary[Dataset, list[np.ndarray]] = weakref.WeakKeyDictionary()


def class_ids_per_image(dataset: Dataset) -> list[np.ndarray]:
    """Return the class ids of each image by `Dataset.load_class_ids`, cached.

    An image whose annotations cannot be read counts as one without objects. It is reported when
    it is loaded.
    """
    image_ids = list(dataset.image_ids)
    if len(_class_ids.get(dataset, ())) != len(image_ids):
        log.info(
            "Looking for the classes of each image: reading the annotations of %d images",
            len(image_ids),
        )
        no_objects = np.zeros(0, int)
        _class_ids[dataset] = [
            _read(dataset.load_class_ids, image_id, no_objects)
            for image_id in _with_progress(image_ids)
        ]
    return _class_ids[dataset]


# --- Orientation ------------------------------------------------------------------------------


def is_tall(dataset: Dataset) -> np.ndarray:
    """Return which images are higher than wide, `[images]` bool.

    The size is taken from the annotations, otherwise from the file's header, otherwise from the
    image itself. An image that cannot be read is not tall.
    """

    def tall(image_id: int) -> bool:
        height, width = size_of_image(dataset, image_id)
        return height > width

    image_ids = _with_progress(list(dataset.image_ids))
    return np.array([_read(tall, image_id, False) for image_id in image_ids], bool)


def size_of_image(dataset: Dataset, image_id: int) -> tuple[int, int]:
    """Return height and width of an image; only its header is read, if it is a file."""
    info = dataset.image_info[image_id]
    if info.get("height") and info.get("width"):
        return info["height"], info["width"]
    try:
        return read_size(info["path"])
    except (ValueError, OSError, TypeError, AttributeError):  # not a file: load_image makes it
        height, width = np.shape(dataset.load_image(image_id))[:2]
        return height, width


def _with_progress(image_ids: list[int]) -> Iterable[int]:
    """The ids, with progress if there are many."""
    if len(image_ids) <= MANY_IMAGES:
        return image_ids
    return with_progress(image_ids, "Reading", transient=True)


def _read(read: Callable[[int], T], image_id: int, default: T) -> T:
    """Call `read`, and return the default if the image cannot be read."""
    try:
        return read(image_id)
    except (ValueError, OSError):
        return default

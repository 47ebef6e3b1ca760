"""In which order the images of a training come: pass after pass, rare classes more often, alike shapes together."""

from __future__ import annotations

import logging
import threading
import weakref

import numpy as np
from rich.console import Console
from rich.progress import track

from ..files.image_files import read_size

log = logging.getLogger("mrcnn")


class ImageOrder:
    """The images of a training, by position: `order[position]`, counted from the first batch of all, is an image id.

    In a pass every image comes once, or as often as `repeats` says; no pass begins before the last one is through.

    image_ids: `[images]`. seed: the same seed gives the same order. shuffle: a new order in every pass.
    repeats: `[images]` float, 1 or more: how often a pass shows each image, on average; the fraction is drawn in
    every pass. tall: `[images]` bool: a batch of `batch_size` holds tall images or others, but for the last ones of a
    pass, where both kinds are left.
    """

    def __init__(self, image_ids, seed, shuffle=True, repeats=None, tall=None, batch_size=1):
        self.image_ids, self.seed, self.shuffle = np.asarray(image_ids), seed, shuffle
        self.repeats, self.tall, self.batch_size = repeats, tall, batch_size
        self._starts = [0]  # the first position of each pass, as far as they are known
        self._passes: dict[int, np.ndarray] = {}  # the image ids of the last passes asked for
        self._lock = threading.Lock()

    @property
    def length(self) -> float:
        """How many images a pass shows, on average."""
        return float(len(self.image_ids) if self.repeats is None else self.repeats.sum())

    def __getitem__(self, position: int) -> int:
        with self._lock:
            while self._starts[-1] <= position:
                self._starts.append(
                    self._starts[-1] + int(self._times(len(self._starts) - 1).sum())
                )
            turn = int(np.searchsorted(self._starts, position, side="right")) - 1
            if turn not in self._passes:
                self._passes = {t: ids for t, ids in self._passes.items() if abs(t - turn) <= 1}
                self._passes[turn] = self._pass(turn)
            return self._passes[turn][position - self._starts[turn]]

    def _times(self, turn):
        """`[images]` int: how often a pass shows each image."""
        if self.repeats is None:
            return np.ones(len(self.image_ids), int)
        whole = np.floor(self.repeats)
        drawn = (
            np.random.default_rng((self.seed, turn, 2)).random(len(whole)) < self.repeats - whole
        )
        return whole.astype(int) + drawn

    def _pass(self, turn):
        """The image ids of a pass, in their order."""
        places = np.repeat(np.arange(len(self.image_ids)), self._times(turn))
        if self.shuffle:
            places = np.random.default_rng((self.seed, turn)).permutation(places)
        if self.tall is not None:
            places = self._grouped(places, -self._starts[turn] % self.batch_size)
        return self.image_ids[places]

    def _grouped(self, places, first):
        """The places in another order: batches of one kind, what is left of both at the end.

        first: so many stay in front: they fill up the last batch of the pass before.
        """
        grouped, left = list(places[:first]), ([], [])
        for place in places[first:]:
            kind = left[int(self.tall[place])]
            kind.append(place)
            if len(kind) == self.batch_size:
                grouped += kind
                kind.clear()
        return np.array([*grouped, *left[0], *left[1]], int)


# --- Rare classes -----------------------------------------------------------------------------------------------


def repeat_factors(class_ids, threshold: float) -> np.ndarray:
    """`[images]` float: how often a pass shows each image, so that rare classes come more often (LVIS, 3).

    Of a class c that a share f of the images hold: max(1, sqrt(threshold / f)); of an image: the highest of its
    classes. (Gupta et al. 2019, LVIS: A Dataset for Large Vocabulary Instance Segmentation.)

    class_ids: for each image its objects' ids; negative ones, crowds, do not count. threshold: a share, 0 to 1.
    """
    present = [np.unique([i for i in ids if i > 0]).astype(int) for ids in class_ids]
    images = np.bincount(np.concatenate([*present, np.zeros(0, int)]))
    factors = np.maximum(1, np.sqrt(threshold * len(present) / np.maximum(images, 1)))
    return np.array([factors[ids].max(initial=1) for ids in present])


_counted: weakref.WeakKeyDictionary = (
    weakref.WeakKeyDictionary()
)  # dataset -> class ids; they take a while to read


def class_ids_per_image(dataset) -> list[np.ndarray]:
    """For each image its objects' class ids, by `Dataset.load_class_ids`; read once, and then remembered.

    An image whose annotations cannot be read counts as one without objects: it is told of when its turn comes.
    """
    image_ids = list(dataset.image_ids)
    if len(_counted.get(dataset, ())) != len(image_ids):
        log.info(
            "Looking for rare classes (REPEAT_THRESHOLD): reading the annotations of %d images",
            len(image_ids),
        )
        _counted[dataset] = [
            _or_none(dataset.load_class_ids, i, np.zeros(0, int)) for i in _shown(image_ids)
        ]
    return _counted[dataset]


# --- Shapes -----------------------------------------------------------------------------------------------------


def is_tall(dataset) -> np.ndarray:
    """`[images]` bool: which images are higher than wide.

    By the annotations or the file's header; where neither says it, the image is read.
    """

    def tall(image_id):
        info = dataset.image_info[image_id]
        size = info.get("height"), info.get("width")
        if not all(size):
            try:
                size = read_size(info["path"])
            except (
                ValueError,
                OSError,
                TypeError,
                AttributeError,
            ):  # no file of its own: load_image makes it
                size = np.shape(dataset.load_image(image_id))
        return size[0] > size[1]

    return np.array(
        [_or_none(tall, image_id, False) for image_id in _shown(list(dataset.image_ids))], bool
    )


def _shown(image_ids):
    """The ids one by one, with a bar on a terminal where it takes long."""
    console = Console(stderr=True)
    shown = console.is_terminal and len(image_ids) > 1000
    return track(
        image_ids, description="Reading", console=console, transient=True, disable=not shown
    )


def _or_none(read, image_id, none):
    """What `read` says of an image; `none` where it cannot be read."""
    try:
        return read(image_id)
    except (ValueError, OSError):
        return none

"""`Dataset`, the class users subclass: which images and classes there are, and how to load one."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np

from ..files.safe_text import clean_name, printable
from .image import read_image
from .masks import extract_bboxes

log = logging.getLogger("mrcnn")


class Dataset:
    """Images and classes of one or several sources.

    A subclass calls `add_class` and `add_image`, and overrides `load_mask` (and `load_image` where images are no
    plain files). For networks without masks (`USE_MASK = False`) `load_bbox` will do. `prepare()` numbers the classes
    0..num_classes-1 in the order they were added, background first.
    """

    def __init__(self, class_map=None):
        self._image_ids = []
        self.image_info = []
        self.class_info = [{"source": "", "id": 0, "name": "BG"}]  # background is always first
        self.source_class_ids = {}
        self.left_out: list[
            str
        ] = []  # why entries of the annotation file are missing here, a sentence each
        self.without_mask: list[
            str
        ] = []  # annotations that only a network without masks learns, a sentence each

    def add_class(self, source: str, class_id, class_name: str) -> None:
        """Add a class of a source; a second call with the same source and id does nothing.

        Control characters are removed from the name: it reaches terminals, pictures and tables.

        Raises: ValueError where the source's name holds a dot.
        """
        if "." in source:
            raise ValueError(
                f"A source's name must hold no dot. Received: {source!r}. Try an underscore."
            )
        if all((info["source"], info["id"]) != (source, class_id) for info in self.class_info):
            self.class_info.append(
                {"source": source, "id": class_id, "name": clean_name(class_name)}
            )

    def add_image(self, source: str, image_id, path, **kwargs) -> None:
        """Add an image; keyword arguments are kept in `image_info` beside `id`, `source` and `path`."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def image_reference(self, image_id) -> str:
        """Where the image comes from, for people; a subclass may return a link or path. Empty here."""
        return ""

    def prepare(self, class_map=None) -> None:
        """Number classes and images; call it after the last `add_*` and before use."""
        self.num_classes = len(self.class_info)
        self.class_ids = np.arange(self.num_classes)
        self.class_names = short_names([info["name"] for info in self.class_info])
        self.num_images = len(self.image_info)
        self._image_ids = np.arange(self.num_images)
        self.class_from_source_map = {
            f"{info['source']}.{info['id']}": class_id
            for info, class_id in zip(self.class_info, self.class_ids, strict=True)
        }
        self.image_from_source_map = {
            f"{info['source']}.{info['id']}": image_id
            for info, image_id in zip(self.image_info, self.image_ids, strict=True)
        }
        self.sources = list({info["source"] for info in self.class_info})
        # Background belongs to every source.
        self.source_class_ids = {
            source: [
                i for i, info in enumerate(self.class_info) if i == 0 or info["source"] == source
            ]
            for source in self.sources
        }

    def map_source_class_id(self, source_class_id: str) -> int:
        """The internal class id of `"source.id"`, e.g. `"coco.12"`."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str):
        """The id that a source gave to an internal class id.

        Raises: ValueError where the class is not of that source.
        """
        info = self.class_info[class_id]
        if info["source"] != source:
            raise ValueError(
                f"The class must belong to the source. Received: class {class_id} ({info['name']}) of "
                f"{info['source']!r}, asked for {source!r}. Try the source under which it was added."
            )
        return info["id"]

    @property
    def image_ids(self):
        return self._image_ids

    def source_image_link(self, image_id) -> str:
        """The path or URL of the image."""
        return self.image_info[image_id]["path"]

    def load_image(self, image_id) -> np.ndarray:
        """`[H, W, 3]` uint8 image of its file.

        Raises: ValueError naming the file where it cannot be read.
        """
        return read_image(self.image_info[image_id]["path"])

    def load_mask(self, image_id) -> tuple[np.ndarray, np.ndarray]:
        """`[H, W, N]` bool masks and `[N]` int32 class ids of an image; a negative id marks a crowd.

        None here: a subclass that does not override it trains on images without objects.
        """
        log.warning(
            "%s does not override load_mask: its images have no objects.", type(self).__name__
        )
        return np.empty([0, 0, 0], dtype=bool), np.empty([0], dtype=np.int32)

    def load_bbox(self, image_id) -> tuple[np.ndarray, np.ndarray]:
        """`[N, (y1, x1, y2, x2)]` boxes in pixels of the image and `[N]` class ids, negative for a crowd.

        Here those of the masks. Networks without masks learn and are measured by what an override says.
        """
        masks, class_ids = self.load_mask(image_id)
        masks = np.asarray(masks)
        if masks.size == 0:  # any empty shape will do
            masks = np.zeros((0, 0, len(class_ids)), bool)
        return extract_bboxes(masks if masks.ndim == 3 else masks[:, :, None]), np.asarray(
            class_ids
        )

    def load_class_ids(self, image_id) -> np.ndarray:
        """`[N]` int32 class ids as `load_mask` gives them; no mask is drawn where a reader has `load_rles`."""
        _, class_ids = (self.load_rles if has_rles(self) else self.load_mask)(image_id)
        return np.asarray(class_ids, np.int32).reshape(-1)


def short_names(names: list[str]) -> list[str]:
    """Each name up to its first comma, as matterport's; the whole name if two classes would become one."""
    short = [name.split(",")[0] for name in names]
    return [name if short.count(cut) > 1 else cut for name, cut in zip(names, short, strict=True)]


def match_class_names(names: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """Positions in `wanted` of the names that are there: name -> position.

    The whole name counts first; else the part before the first comma, which is what `Dataset.class_names` shows, if it
    is one of the two names and neither list has it twice.
    """
    cut, wanted_cut = ([name.split(",")[0] for name in listed] for listed in (names, wanted))
    found = {}
    for name, short in zip(names, cut, strict=True):
        if name in wanted:
            found[name] = wanted.index(name)
        elif cut.count(short) == wanted_cut.count(short) == 1:
            place = wanted_cut.index(short)
            if short in (name, wanted[place]):
                found[name] = place
    return found


def reference(dataset, image_id: int) -> str:
    """Return where an image comes from, for messages: its `image_reference`, path or id.

    `image_reference` is the user's own and needed for nothing else: if it raises, the path or id is taken.
    """
    info = dataset.image_info[image_id]
    try:
        own = dataset.image_reference(image_id)
    except Exception as error:  # the user's own: it raises anything
        log.debug("image_reference(%s) raised %s: %s", image_id, type(error).__name__, error)
        own = None
    return printable(own or info.get("path") or info.get("id"))


def shared_images(dataset, other) -> int:
    """Return how many image files of a dataset are in another one, too."""
    files, other_files = (
        {os.path.realpath(info["path"]) for info in each.image_info if info.get("path")}
        for each in (dataset, other)
    )
    return len(files & other_files)


def overrides(dataset, method: str) -> bool:
    """Whether a dataset has its own `load_mask` or `load_bbox`, not the one of `Dataset`."""
    own = getattr(dataset, method, None)
    return own is not None and getattr(own, "__func__", None) is not getattr(Dataset, method)


def boxes_alone(dataset: Dataset) -> bool:
    """Whether a dataset has a `load_bbox` of its own and no masks: no `load_mask`, or `boxes_only` is True."""
    has_masks = overrides(dataset, "load_mask") and not getattr(dataset, "boxes_only", False)
    return overrides(dataset, "load_bbox") and not has_masks


def has_rles(dataset: Dataset) -> bool:
    """Whether the dataset's masks are those of its `load_rles`: nobody below has overridden `load_mask`."""
    for names in (vars(dataset), *map(vars, type(dataset).__mro__)):
        if "load_rles" in names:
            return True
        if "load_mask" in names:
            return False
    return False


def place_classes(names: Sequence[str], wanted: Sequence[str], where: object) -> dict[str, int]:
    """`match_class_names`, for the classes of data and those that training names. where: names the data.

    Raises: ValueError if the data has classes, and none of them is wanted.
    """
    places = match_class_names(names, wanted)
    if names and not places:
        raise ValueError(
            f"The classes of {where} must be among {printable(list(wanted))}. Received: {printable(list(names))}. "
            "Try data with classes of the same names."
        )
    return places

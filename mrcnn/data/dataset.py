"""`Dataset`, the class that users subclass: images, classes, and how to load one image."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..files.safe_text import clean_name, printable
from .image import read_image
from .masks import extract_bboxes

log = logging.getLogger("mrcnn")


class Dataset:
    """Images and classes of one or several sources.

    A subclass calls `add_class` and `add_image`, and overrides `load_mask`, and `load_image` unless
    its images are files. For networks without masks (`USE_MASK = False`) it may override
    `load_bbox` instead; for networks with keypoints it overrides `load_keypoints`. `prepare()`
    numbers the classes 0..num_classes-1 in the order in which they were added, background first.

    Attributes:
        class_info: `{"source", "id", "name"}` of each class.
        image_info: `{"id", "source", "path", ...}` of each image.
        left_out: reasons why entries of the annotation file are not used, a sentence each.
        without_mask: annotations that only a network without masks can use, a sentence each.
        keypoint_names: of the keypoints of each object, in order; empty without keypoints.
        keypoint_skeleton: pairs of keypoints, numbered from 0, that a line connects in drawings.
        After `prepare()`: num_classes, class_ids, class_names, num_images, image_ids, sources,
        class_from_source_map, image_from_source_map, source_class_ids.
    """

    num_classes: int
    class_ids: np.ndarray
    class_names: list[str]
    num_images: int
    class_from_source_map: dict[str, int]
    image_from_source_map: dict[str, int]
    sources: list[str]
    # On the class, for scripts repeat the body of `__init__` without calling it.
    keypoint_names: Sequence[str] = ()
    keypoint_skeleton: Sequence[Sequence[int]] = ()
    # Why the dataset has no keypoints, and a remedy; for `no_keypoints`.
    _without_keypoints = "which does not override it. Try NUM_KEYPOINTS = 0."

    def __init__(self, class_map: Any = None):
        """Create an empty dataset. class_map: unused, as in matterport's code."""
        self._image_ids: Any = []
        self.image_info: list[dict] = []
        self.class_info: list[dict] = [{"source": "", "id": 0, "name": "BG"}]
        self.source_class_ids: dict[str, list[int]] = {}
        self.left_out: list[str] = []
        self.without_mask: list[str] = []

    def add_class(self, source: str, class_id: Any, class_name: str) -> None:
        """Add a class of a source; a second call with the same source and id has no effect.

        Control characters are removed from the name, which is printed and drawn.

        Raises: ValueError if the name of the source contains a dot.
        """
        if "." in source:
            raise ValueError(
                "The name of a source must not contain a dot. "
                f"Received: {source!r}. Try an underscore."
            )
        known = [(info["source"], info["id"]) for info in self.class_info]
        if (source, class_id) not in known:
            name = clean_name(class_name)
            self.class_info.append({"source": source, "id": class_id, "name": name})

    def add_image(self, source: str, image_id: Any, path: Any, **kwargs: Any) -> None:
        """Add an image; keyword arguments are stored in `image_info` as well."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def image_reference(self, image_id: int) -> str:
        """Return a link or a path that identifies the image to people; empty by default."""
        return ""

    def prepare(self, class_map: Any = None) -> None:
        """Number classes and images; call it after the last `add_*` and before use."""
        self.num_classes = len(self.class_info)
        self.class_ids = np.arange(self.num_classes)
        self.class_names = short_names([info["name"] for info in self.class_info])
        self.num_images = len(self.image_info)
        self._image_ids = np.arange(self.num_images)
        self.class_from_source_map = _positions(self.class_info)
        self.image_from_source_map = _positions(self.image_info)
        self.sources = list({info["source"] for info in self.class_info})
        self.source_class_ids = {source: self._classes_of(source) for source in self.sources}

    def _classes_of(self, source: str) -> list[int]:
        """The class ids of a source; background belongs to every source."""
        return [i for i, info in enumerate(self.class_info) if i == 0 or info["source"] == source]

    def map_source_class_id(self, source_class_id: str) -> int:
        """Return the internal class id of `"source.id"`, for example `"coco.12"`."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        """Return the id that a source gives to an internal class id.

        Raises: ValueError if the class does not belong to that source.
        """
        info = self.class_info[class_id]
        if info["source"] != source:
            raise ValueError(
                f"The class must belong to the source. Received: class {class_id} "
                f"({info['name']}) of {info['source']!r}, asked for {source!r}. Try the source "
                "under which it was added."
            )
        return info["id"]

    @property
    def image_ids(self) -> np.ndarray:
        """`[num_images]` internal image ids."""
        return self._image_ids

    def source_image_link(self, image_id: int) -> str:
        """Return the path or URL of the image."""
        return self.image_info[image_id]["path"]

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the `[H, W, 3]` uint8 image of the file at its path.

        Raises: ValueError that names a file that cannot be read.
        """
        return read_image(self.image_info[image_id]["path"])

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks and class ids of an image: no objects unless a subclass overrides it.

        Returns: `[H, W, N]` bool masks and `[N]` int32 class ids; a negative id marks a crowd.
        """
        log.warning(
            "%s does not override load_mask: its images have no objects.", type(self).__name__
        )
        return np.empty([0, 0, 0], dtype=bool), np.empty([0], dtype=np.int32)

    def load_bbox(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes and class ids of an image: the boxes of its masks unless overridden.

        Networks without masks are trained and evaluated with the boxes of an override.

        Returns: `[N, (y1, x1, y2, x2)]` boxes in pixels and `[N]` class ids, negative for a crowd.
        """
        masks, class_ids = self.load_mask(image_id)
        masks, class_ids = np.asarray(masks), np.asarray(class_ids)
        if masks.size == 0:  # load_mask may return any empty shape
            masks = np.zeros((0, 0, len(class_ids)), bool)
        if masks.ndim == 2:
            masks = masks[:, :, None]
        return extract_bboxes(masks), class_ids

    def load_keypoints(self, image_id: int) -> np.ndarray:
        """Return the keypoints of an image's objects; a subclass overrides it.

        Its objects are those of `load_mask` (of `load_bbox`, if that is overridden), in their
        order.

        Returns: `[N, K, (y, x, visibility)]`: pixels counted from the corner of the image, so that
            the center of the first one is (0.5, 0.5), and COCO's visibility: 0 not labelled, 1
            hidden, 2 visible.

        Raises: ValueError unless a subclass overrides it.
        """
        raise no_keypoints(self)

    def load_class_ids(self, image_id: int) -> np.ndarray:
        """Return the `[N]` int32 class ids of `load_mask`, without drawing masks if possible."""
        if has_rles(self):
            _, class_ids = self.load_rles(image_id)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            _, class_ids = self.load_mask(image_id)
        return np.asarray(class_ids, np.int32).reshape(-1)


def _positions(infos: list[dict]) -> dict[str, int]:
    """Positions of classes or images by `"source.id"`."""
    return {f"{info['source']}.{info['id']}": i for i, info in enumerate(infos)}


# --- Class names ------------------------------------------------------------------------------


def short_names(names: list[str]) -> list[str]:
    """Cut each name at its first comma, as matterport did, unless two names would become equal."""
    short = [name.split(",")[0] for name in names]
    return [name if short.count(cut) > 1 else cut for name, cut in zip(names, short, strict=True)]


def match_class_names(names: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """Map each name that is among `wanted` to its position there.

    Whole names are compared first. Otherwise the parts before the first comma are compared, which
    `Dataset.class_names` shows, if one of the two names is that part and neither list has it twice.
    """
    short_of_names = [name.split(",")[0] for name in names]
    short_of_wanted = [name.split(",")[0] for name in wanted]
    found = {}
    for name, short in zip(names, short_of_names, strict=True):
        if name in wanted:
            found[name] = wanted.index(name)
        elif short_of_names.count(short) == short_of_wanted.count(short) == 1:
            position = short_of_wanted.index(short)
            if short in (name, wanted[position]):
                found[name] = position
    return found


def place_classes(names: Sequence[str], wanted: Sequence[str], where: object) -> dict[str, int]:
    """Call `match_class_names` for the classes of data and those of a training.

    where: names the data in the message.

    Raises: ValueError if the data has classes, but no wanted one.
    """
    positions = match_class_names(names, wanted)
    if names and not positions:
        raise ValueError(
            f"The classes of {where} must be among {printable(list(wanted))}. Received: "
            f"{printable(list(names))}. Try data with classes of the same names."
        )
    return positions


# --- Questions about a dataset ----------------------------------------------------------------


def reference(dataset: Dataset, image_id: int) -> str:
    """Return a name of an image for messages: its `image_reference`, otherwise its path or id.

    An exception from `image_reference`, which is the user's code, does not stop the program.
    """
    info = dataset.image_info[image_id]
    try:
        own = dataset.image_reference(image_id)
    except Exception as error:
        log.debug("image_reference(%s) raised %s: %s", image_id, type(error).__name__, error)
        own = None
    return printable(own or info.get("path") or info.get("id"))


def shared_images(dataset: Dataset, other: Dataset) -> int:
    """Return the number of image files that two datasets have in common."""
    return len(_image_files(dataset) & _image_files(other))


def _image_files(dataset: Dataset) -> set[str]:
    return {os.path.realpath(info["path"]) for info in dataset.image_info if info.get("path")}


def overrides(dataset: object, method: str) -> bool:
    """Return whether a dataset has a `load_mask`, `load_bbox` or `load_keypoints` of its own."""
    own = getattr(dataset, method, None)
    return own is not None and getattr(own, "__func__", None) is not getattr(Dataset, method)


def no_keypoints(dataset: Dataset) -> ValueError:
    """Return the error about a dataset without keypoints for a network with them."""
    return ValueError(
        "A network with keypoints needs a dataset with load_keypoints. Received: "
        f"{type(dataset).__name__}, {dataset._without_keypoints}"
    )


def has_boxes_only(dataset: Dataset) -> bool:
    """Return whether a dataset overrides `load_bbox` and has no masks.

    It has no masks if it does not override `load_mask` or its `boxes_only` is True.
    """
    has_masks = overrides(dataset, "load_mask") and not getattr(dataset, "boxes_only", False)
    return overrides(dataset, "load_bbox") and not has_masks


def has_rles(dataset: Dataset) -> bool:
    """Return whether the masks of a dataset are its `load_rles`, drawn.

    False if a subclass of the class that defines `load_rles` overrides `load_mask`.
    """
    for names in (vars(dataset), *map(vars, type(dataset).__mro__)):
        if "load_rles" in names:
            return True
        if "load_mask" in names:
            return False
    return False

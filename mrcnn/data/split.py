"""Divide the images of one dataset into training and validation images.

Groups of images that show the same thing (frames of one film, tiles of one slide) stay together,
and every class is in both parts if possible.
"""

from __future__ import annotations

import copy
import os
import re
import types
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from .dataset import Dataset
from .image_order import class_ids_per_image
from .joined import JoinedDataset

FEWEST_GROUPS = 5  # with fewer groups a share such as 0.8 is out of reach
LARGEST_GROUP = 0.5  # share of the images; names such as IMG_0001 say nothing about groups
NO_OBJECTS = 0  # the label of an image without objects

# The end of a name that numbers it: _0001, -frame-12, _tile3, _x1024_y2048.
_NUMBERS = re.compile(r"(?:[ _.-]+[a-z]{0,6}[ _.-]?\d+)+$", re.IGNORECASE)
# A name that is only a number: 0001, frame12, IMG_0001.
_ONLY_NUMBER = re.compile(r"(?:im|img|image|dsc[nf]?|pict?|frame|tile)?[ _.-]?\d+", re.IGNORECASE)
# Roboflow's exports repeat an image with changes: NAME_jpg.rf.HASH.
_COPY = re.compile(r"(?:_(?:jpe?g|png|bmp|tiff?))?\.rf\.[0-9a-z]+$", re.IGNORECASE)


class Split(NamedTuple):
    """The names of the images to train and to validate on, see `image_names`.

    groups: number of groups that stayed together; None if each image was drawn by itself.
    """

    train: list[str]
    val: list[str]
    groups: int | None = None


def image_names(dataset: Dataset) -> list[str]:
    """Return a name for each image: its path below the folder that contains all of them.

    An image without a file is named by its id.
    """
    paths = [info.get("path") for info in dataset.image_info]
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths if path}
    root = os.path.commonpath(folders) if folders else ""
    names = []
    for info, path in zip(dataset.image_info, paths, strict=True):
        name = os.path.relpath(path, root) if path else str(info["id"])
        names.append(PurePath(name).as_posix())
    return names


def subset(dataset: Dataset, image_ids: Iterable[int]) -> Dataset:
    """Return a dataset of some of the images, with all classes.

    dataset: one that finds everything about an image in its `image_info`, as those of `formats` and
        those joined of them.
    """
    part = copy.copy(dataset)
    for name, value in vars(dataset).items():
        if getattr(value, "__self__", None) is dataset:  # a method that a reader has chosen
            setattr(part, name, types.MethodType(value.__func__, part))
    chosen = [int(image_id) for image_id in image_ids]
    part.image_info = [dataset.image_info[image_id] for image_id in chosen]
    if isinstance(part, JoinedDataset):
        part.origins = [part.origins[image_id] for image_id in chosen]
    part.prepare()
    return part


def divide(dataset: Dataset, split: Split) -> tuple[Dataset, Dataset]:
    """Return the datasets for training and validation; images of neither list are left out.

    Raises: ValueError if the dataset has no image of one of the lists.
    """
    parts = []
    names = image_names(dataset)
    for part, listed in (("train", split.train), ("val", split.val)):
        wanted = set(listed)
        image_ids = [i for i, name in enumerate(names) if name in wanted]
        if not image_ids:
            raise ValueError(
                f"The images of a split must be among those of the data. Received: no image of "
                f"its {len(listed)} for {part}, such as {(*listed, 'none')[0]}; the data has "
                f"{(*names, 'none')[0]}. Try the data for which the split was made."
            )
        parts.append(subset(dataset, image_ids))
    return parts[0], parts[1]


def draw_split(dataset: Dataset, share: float, seed: int = 0, by_names: bool = True) -> Split:
    """Draw a split: about `share` of the images to train on, the others to validate on.

    by_names: keep images together whose names say so, see `groups_by_name`.
    """
    names = image_names(dataset)
    labels = _labels(dataset)
    groups = copies = [_without_copy(name) for name in names]
    number = None
    if by_names:
        groups = groups_by_name(names)
        if is_useful(groups, labels):
            number = len(set(groups))
        else:
            groups = copies
    chosen = _draw(groups, labels, share, seed)
    train = [name for name, group in zip(names, groups, strict=True) if group not in chosen]
    val = [name for name, group in zip(names, groups, strict=True) if group in chosen]
    return Split(train, val, number)


def _labels(dataset: Dataset) -> list[set[int]]:
    """For each image its classes, or NO_OBJECTS. The images of one class are not read for it."""
    if dataset.num_classes <= 2:
        return [{1} for _ in dataset.image_ids]
    found = class_ids_per_image(dataset)
    return [{int(i) for i in ids if i > 0} or {NO_OBJECTS} for ids in found]


# --- Groups -------------------------------------------------------------------------------------


def groups_by_name(names: Sequence[str]) -> list[str]:
    """Return the group of each image: its folder and its name without the number at its end.

    `film1_0001.jpg` and `film1_0002.jpg` are of one group, as are `slide_x0_y512.png` and
    `slide_x512_y0.png`, and `film1/0001.jpg` and `film1/0002.jpg`.
    """
    groups = []
    for name in names:
        path = PurePath(_without_copy(name))
        is_number = _ONLY_NUMBER.fullmatch(path.name)
        stem = "" if is_number else _NUMBERS.sub("", path.name)
        groups.append((path.parent / stem).as_posix())
    return groups


def _without_copy(name: str) -> str:
    """A name without its suffix, and without what Roboflow adds to the copies of one image."""
    path = PurePath(name)
    return (path.parent / _COPY.sub("", path.stem)).as_posix()


def is_useful(groups: Sequence[str], labels: Sequence[Collection[int]]) -> bool:
    """Return whether groups can be divided as images can.

    False if there are few of them or each image has its own, if one is very large, or if they are
    the classes (`cat_1`, `cat_2`, `dog_1`).

    groups: of each image. labels: the classes of each image.
    """
    sizes = Counter(groups)
    if not FEWEST_GROUPS <= len(sizes) < len(groups):
        return False
    if max(sizes.values()) > LARGEST_GROUP * len(groups):
        return False
    groups_of: dict[int, set[str]] = {}
    images_of: Counter[int] = Counter()
    for group, classes in zip(groups, labels, strict=True):
        images_of.update(classes)
        for label in classes:
            groups_of.setdefault(label, set()).add(group)
    several = [label for label, count in images_of.items() if count > 1]
    in_one_group = [label for label in several if len(groups_of[label]) == 1]
    return len(in_one_group) <= len(several) / 2


# --- Draw ---------------------------------------------------------------------------------------


class _Part:
    """Training or validation: how many images of each label it still needs, and those it has."""

    def __init__(self, share: float, images_of: Counter[int]):
        self.need = {label: share * count for label, count in images_of.items()}
        self.labels: set[int] = set()

    def add(self, labels: Counter[int]) -> None:
        for label, count in labels.items():
            self.need[label] -= count
        self.labels |= labels.keys()


def _draw(
    groups: Sequence[str], labels: Sequence[Collection[int]], share: float, seed: int
) -> set[str]:
    """The groups to validate on: iterative stratification (Sechidis 2011), rare classes first.

    groups, labels: of each image.
    """
    images_of: Counter[int] = Counter()
    labels_of: dict[str, Counter[int]] = {}  # group -> label -> images
    for group, classes in zip(groups, labels, strict=True):
        images_of.update(classes)
        labels_of.setdefault(group, Counter()).update(classes)
    order = list(labels_of)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -labels_of[group].total())  # large ones are hard to place later
    parts = (_Part(share, images_of), _Part(1 - share, images_of))
    place: dict[str, _Part] = {}
    for label in sorted(images_of, key=lambda label: (images_of[label], label)):
        waiting = [group for group in order if group not in place and label in labels_of[group]]
        for i, group in enumerate(waiting):
            place[group] = _neediest(parts, label, groups_left=len(waiting) - i)
            place[group].add(labels_of[group])
    chosen = {group for group in order if place[group] is parts[1]}
    _move_missing(chosen, labels_of)
    return chosen


def _move_missing(chosen: set[str], labels_of: dict[str, Counter[int]]) -> None:
    """Move a group for each label that one part lacks, if the other part then keeps all."""
    groups_of: dict[int, list[str]] = {}
    for group, found in labels_of.items():
        for label in found:
            groups_of.setdefault(label, []).append(group)
    for groups in groups_of.values():
        is_split = 0 < len(chosen.intersection(groups)) < len(groups)
        if is_split or len(groups) < 2:
            continue
        movable = [group for group in groups if _can_leave(group, chosen, labels_of, groups_of)]
        if movable:
            chosen ^= {min(movable, key=lambda group: labels_of[group].total())}


def _can_leave(
    group: str,
    chosen: set[str],
    labels_of: dict[str, Counter[int]],
    groups_of: dict[int, list[str]],
) -> bool:
    """Whether each label of a group is in another group of its part, too."""
    for label in labels_of[group]:
        neighbors = [g for g in groups_of[label] if (g in chosen) == (group in chosen)]
        if len(neighbors) < 2:
            return False
    return True


def _neediest(parts: tuple[_Part, _Part], label: int, groups_left: int) -> _Part:
    """The part that needs a label most; the one without it if few groups are left."""
    lacking = [part for part in parts if label not in part.labels]
    if lacking and groups_left <= len(lacking):
        return lacking[0]
    train, val = parts
    return val if val.need[label] > train.need[label] else train

"""What readers share: datasets of image files, skipped entries, JSON, XML and label images."""

from __future__ import annotations

import json
import logging
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.dataset import Dataset
from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import is_turned, read_pixels, read_size
from ..files.limits import check_masks, check_size
from .rle import RLE, decode
from .values import short

logger = logging.getLogger("mrcnn")

MAX_REASONS = 10_000  # of skipped entries that are kept; a file of 100 MB can list 50 million
DEEPEST_XML = 100  # elements inside each other
# Names of the folders of training, validation and test data.
VALIDATION = ("val", "valid", "validation")
SETS = ("train", *VALIDATION, "test")


# --- Datasets of files ----------------------------------------------------------------------------


class ImageFiles(Dataset):
    """A `Dataset` whose images are files: their names and sizes."""

    def image_reference(self, image_id: int) -> str:
        """Return the path of the image and the id that its annotations give it."""
        info = self.image_info[image_id]
        return f"{info['path']}, id {info['id']}"

    def image_size(self, image_id: int) -> tuple[int, int]:
        """Return the (height, width) of an image.

        The first call compares the size in the annotations with the header of the image file, if it
        exists.

        Raises: ValueError if the two differ, if the size is above the limits of this package, or if
            neither the annotations nor the file give it.
        """
        info = self.image_info[image_id]
        if not info.get("size_is_checked"):
            self._check_image_size(info, image_id)
            info["size_is_checked"] = True
        return int(info["height"]), int(info["width"])

    def _check_image_size(self, info: dict, image_id: int) -> None:
        annotated = None
        if info.get("height") and info.get("width"):
            annotated = int(info["height"]), int(info["width"])
            check_size(*annotated, self.image_reference(image_id))
        if info.get("embedded"):
            return
        if annotated is None or os.path.isfile(info["path"]):
            size = _size_of_file(info["path"], annotated, info.get("file"))
            info["height"], info["width"] = size


def _size_of_file(
    path: str, annotated: tuple[int, int] | None, annotations: str | None
) -> tuple[int, int]:
    """Return the (height, width) of an image file by its header.

    annotated: the size in the annotations, if any. annotations: their file, for the message.

    Raises: ValueError if the file does not exist or the sizes differ.
    """
    if not os.path.isfile(path):
        raise ValueError(
            f"An image file must exist. Received: {short(str(path), 300)}. "
            "Try the full path, or check its spelling."
        )
    size = read_size(path)
    check_size(*size, path)
    if annotated in (None, size):
        return size
    if annotated == size[::-1] and is_turned(path):
        remedy = (
            ": its EXIF orientation rotates it, and it was annotated as stored. Try to remove that "
            "EXIF entry (exiftool -Orientation= FILE), or to annotate the image upright."
        )
    else:
        remedy = ". Try to export the annotations again for the image as it is now."
    raise ValueError(
        "The annotated size of an image must be that of its file. Received: "
        f"{annotated[0]} x {annotated[1]} (height x width) in {annotations or 'the annotations'}, "
        f"and {size[0]} x {size[1]} px of {path}{remedy}"
    )


class RLEImages(ImageFiles):
    """A dataset of image files whose masks are decoded from RLEs; subclasses define `load_rles`."""

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return N RLEs of the image's size and class ids, int32 `[N]`, negative for crowds.

        The image itself is not read.
        """
        raise NotImplementedError

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one mask per object, in the order of the annotations.

        Returns: masks, bool `[H, W, N]`; class ids, int32 `[N]`, negative for crowds.
        """
        rles, class_ids = self.load_rles(image_id)
        size = self.image_size(image_id)
        check_masks(len(rles), *size, self.image_reference(image_id))
        return decode(rles, size), class_ids

    def map_class_ids(self, source: str, class_ids: Iterable[int]) -> np.ndarray:
        """Return the internal class ids, int32 `[N]`, of a source's own ids."""
        ids = [self.map_source_class_id(f"{source}.{class_id}") for class_id in class_ids]
        return np.array(ids, np.int32)


# --- Skipped entries ------------------------------------------------------------------------------


class SkippedEntries:
    """Entries of an annotation file that cannot be used, counted and reported in one warning.

    `reasons` contains the messages of the first `MAX_REASONS`; a reader copies them to
    `Dataset.left_out`, which `mrcnn check` lists.
    """

    def __init__(self, path: object, strict: bool = False):
        """Start without skipped entries.

        path: names the file or folder. strict: raise at the first entry instead of skipping it.
        """
        self.path = path
        self.strict = strict
        self.reasons: list[str] = []
        self.count = 0

    def add(self, error: ValueError) -> None:
        """Count one entry.

        Raises: the error itself if `strict`.
        """
        self.count += 1
        if self.strict:
            raise error
        if self.count <= MAX_REASONS:
            self.reasons.append(str(error))

    def warn(self, total: int, what: str = "entries") -> None:
        """Log how many of all entries were skipped, with the first reason."""
        if self.reasons:
            logger.warning(
                "%d of %d %s in %s were left out. The first: %s "
                "(--strict refuses it; `mrcnn check` lists all.)",
                self.count,
                total,
                what,
                self.path,
                self.reasons[0],
            )

    def finish(self, dataset: Dataset, total: int, what: str = "entries") -> None:
        """Log a warning, and copy the reasons to `dataset.left_out`.

        Raises: ValueError if no image is left.
        """
        if self.reasons and not dataset.image_info:
            raise ValueError(
                f"{self.path} must contain images that can be used. Received: no such image. "
                f"The first: {self.reasons[0]}"
            )
        self.warn(total, what)
        warn_similar_names([info["name"] for info in dataset.class_info[1:]], self.path)
        dataset.left_out = list(self.reasons)


class AnnotatedObject(NamedTuple):
    """An object as a reader found it."""

    class_name: str
    parts: list  # polygons, or other shapes of the format
    where: str  # file and entry, for messages


def keep_known(
    objects: Sequence[AnnotatedObject],
    places: dict[str, int],
    names: list[str],
    skipped: SkippedEntries,
) -> list[AnnotatedObject]:
    """Return the objects whose class name is in `places`; skip the others."""
    known = []
    for annotated in objects:
        if annotated.class_name in places:
            known.append(annotated)
            continue
        error = ValueError(
            f"Every class must be among {short(names, 300)}. Received: {annotated.class_name!r} in "
            f"{annotated.where}. Try to correct it, or to train with this class as well "
            "(in Python: class_names=)."
        )
        skipped.add(error)
    return known


def warn_similar_names(names: Iterable[str], where: object) -> None:
    """Warn of class names that differ only in case or spaces: often one class in two spellings.

    names: all classes of a dataset. where: names the file or folder.
    """
    names = list(dict.fromkeys(names))
    spellings = Counter(_folded(name) for name in names)
    similar = [name for name in names if spellings[_folded(name)] > 1]
    if similar:
        logger.warning(
            "The classes %s in %s differ only in case or spaces, and are different classes. "
            "If they are meant to be one, give them one name.",
            ", ".join(map(repr, similar)),
            where,
        )


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


# --- Files ----------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises: ValueError that names the file if it cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"{path} must be a readable file. Received: {error}. Try another path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be complete JSON. Received: a truncated or damaged file ({error}). "
            "Try to export or download it again."
        ) from error


class _PlainTree(ElementTree.TreeBuilder):
    """Builds a tree of elements; refuses a DOCTYPE, which may define entities, and deep nesting."""

    depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a DOCTYPE")

    def start(self, tag: str, attrs: dict) -> ElementTree.Element:
        self.depth += 1
        if self.depth > DEEPEST_XML:
            raise ValueError(f"elements more than {DEEPEST_XML} deep inside each other")
        return super().start(tag, attrs)

    def end(self, tag: str) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)


def read_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file.

    Entities are not expanded, and no other file is read.

    Raises: ValueError that names the file if it cannot be read or is damaged.
    """
    parser = ElementTree.XMLParser(target=_PlainTree())
    try:
        return ElementTree.fromstring(path.read_bytes(), parser=parser)
    except OSError as error:
        raise ValueError(
            f"{path} must be a readable file. Received: {error}. Try to put it there."
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: encoding
        raise ValueError(
            f"{path} must be complete XML without a DOCTYPE. Received: a file that is truncated, "
            f"damaged or contains more than annotations ({error}). "
            "Try to export or download it again."
        ) from error


def read_indices(
    path: str | Path, size: tuple[int, int] | None = None, image: str = "the image"
) -> np.ndarray:
    """Return the number that each pixel of a label image stores, int `[H, W]`.

    It is a grey value, a palette index, or a color as 0xRRGGBB.

    size: (height, width) that the file must have, checked in its header. image: names the image
    that has this size, for the message.

    Raises: ValueError that names the file if it cannot be read or is not a label image.
    """
    pixels = read_pixels(path, "A mask file", indices=True, size=size, image=image)
    if pixels.dtype.kind not in "bui":
        raise ValueError(
            "A mask file must contain whole numbers or colors. "
            f"Received: {path} of {pixels.dtype}. "
            "Try to save it as a PNG of 8 or 16 bits."
        )
    if pixels.ndim == 2:
        return pixels.astype(np.int64)
    if pixels.shape[2] == 2:  # grey and alpha
        return pixels[:, :, 0].astype(np.int64)
    return pixels[:, :, :3].astype(np.int64) @ np.array([2**16, 2**8, 1])


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder, sorted; an empty list if the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def find_image(name: Any, folder: Path) -> Path | None:
    """Return the image that a file names, relative to a folder or by its last part; else None.

    name: with forward or backward slashes; anything but a text is not found.
    """
    if not isinstance(name, str) or not name:
        return None
    name = name.replace("\\", "/")
    for part in (name, name.rsplit("/", 1)[-1]):
        if os.path.isfile(folder / part):
            return folder / part
    return None


def listing(path: Path) -> str:
    """Return a short text of the content of a folder, with a hint if it contains train, val, ..."""
    if not path.is_dir():
        return f"a file {path.name}" if path.exists() else "nothing: it does not exist"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    if not names:
        return "an empty folder"
    found = ", ".join(names[:10])
    if len(names) > 10:
        found += f" and {len(names) - 10} more"
    sets = [
        name
        for name in names
        if name.rstrip("/").lower() in SETS or (path / name / "JPEGImages").is_dir()
    ]
    if sets:
        found += f" (name one of {', '.join(sets)} to use it)"
    return found

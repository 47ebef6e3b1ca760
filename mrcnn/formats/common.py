"""What readers share: datasets of image files, entries left out, and files read."""

from __future__ import annotations

import json
import logging
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import is_turned, read_pixels, read_size
from ..files.limits import check_masks, check_size
from .rle import RLE, decode
from .values import short

logger = logging.getLogger("mrcnn")

MOST_SENTENCES = 10_000  # of entries that were left out; a file of 100 MB may hold 50 million
DEEPEST_XML = 100  # elements inside each other
VALIDATION = ("val", "valid", "validation")
SETS = ("train", *VALIDATION, "test")


class ImageFiles:
    """Mixed into a `Dataset` whose images are files: what they are called, and how large they are."""

    image_info: list[dict]

    def image_reference(self, image_id: int) -> str:
        """The image's path, and the id that its annotations give it."""
        info = self.image_info[image_id]
        return f"{info['path']}, id {info['id']}"

    def image_size(self, image_id: int) -> tuple[int, int]:
        """(height, width) by the annotations, compared with the image file's header if there is one; then remembered.

        Raises: ValueError if the two differ, if the size is larger than this package reads, or if neither the
            annotations nor the file tell it.
        """
        info = self.image_info[image_id]
        if not info.get("size_is_checked"):
            claimed = (
                (int(info["height"]), int(info["width"]))
                if info.get("height") and info.get("width")
                else None
            )
            if claimed:
                check_size(*claimed, self.image_reference(image_id))
            if not info.get("embedded") and (claimed is None or os.path.isfile(info["path"])):
                info["height"], info["width"] = _size_of_file(
                    info["path"], claimed, info.get("file")
                )
            info["size_is_checked"] = True
        return int(info["height"]), int(info["width"])


def _size_of_file(
    path: str, claimed: tuple[int, int] | None, annotations: str | None
) -> tuple[int, int]:
    """(height, width) of an image file by its header; a ValueError if the annotations claim another one."""
    if not os.path.isfile(path):
        raise ValueError(
            f"An image file must exist. Received: {short(str(path), 300)}. Try the full path, or check its spelling."
        )
    size = read_size(path)
    check_size(*size, path)
    if claimed in (None, size):
        return size
    turned = claimed == size[::-1] and is_turned(path)
    why = (
        ": its EXIF orientation turns it, and it was annotated as it lies in the file. Try to remove that EXIF "
        "entry (exiftool -Orientation= FILE), or to annotate the image upright."
        if turned
        else ". Try to export the annotations again for the image as it is now."
    )
    raise ValueError(
        f"The annotated size of an image must be that of its file. Received: {claimed[0]} x {claimed[1]} (height x "
        f"width) in {annotations or 'the annotations'}, and {size[0]} x {size[1]} px of {path}{why}"
    )


class RLEImages(ImageFiles):
    """Mixed into a `Dataset` whose masks are drawn from outlines; a subclass defines `load_rles`."""

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """N run-length codes of the image's size, without a look at its pixels, and class ids, int32 [N]."""
        raise NotImplementedError

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per object, in the file's order: bool [H, W, N], and class ids, int32 [N], negative for crowds."""
        rles, class_ids = self.load_rles(image_id)
        size = self.image_size(image_id)
        check_masks(len(rles), *size, self.image_reference(image_id))
        return decode(rles, size), class_ids


class LeftOut:
    """Entries of an annotation file that cannot be used: left out, counted, and named in one warning.

    path: the file or folder. strict: raise at the first entry instead of leaving it out.
    `count` of them; `sentences` holds the reasons of the first `MOST_SENTENCES`, for `mrcnn check`; a reader keeps it
    as `Dataset.left_out`.
    """

    def __init__(self, path: str | Path, strict: bool = False):
        self.path, self.strict = path, strict
        self.sentences: list[str] = []
        self.count = 0

    def add(self, error: ValueError) -> None:
        """Count an entry. Raises: the error itself if strict."""
        self.count += 1
        if self.strict:
            raise error
        if self.count > MOST_SENTENCES:
            return
        self.sentences.append(str(error))

    def finish(self, dataset: ImageFiles, total: int, what: str = "entries") -> None:
        """Warn, and keep the reasons in `dataset.left_out`. Raises: ValueError if no image is left."""
        if self.sentences and not dataset.image_info:
            raise ValueError(f"{self.path} must hold images that can be used. Received: none. The first: "
                             f"{self.sentences[0]}")  # fmt: skip
        self.warn(total, what)
        warn_similar_names([info["name"] for info in dataset.class_info[1:]], self.path)
        dataset.left_out = list(self.sentences)

    def warn(self, total: int, what: str = "entries") -> None:
        """Log how many of all entries were left out, and why the first one was."""
        if self.sentences:
            logger.warning(
                "%d of %d %s in %s were left out. The first: %s (--strict refuses it; `mrcnn check` lists all.)",
                self.count, total, what, self.path, self.sentences[0],
            )  # fmt: skip


def warn_similar_names(names: Iterable[str], where: str | Path) -> None:
    """Warn of classes whose names differ in case or blanks only: often one class, typed in two ways.

    names: all classes of a dataset. where: names the file or folder.
    """
    names = list(dict.fromkeys(names))
    counts = Counter(" ".join(name.casefold().split()) for name in names)
    similar = [name for name in names if counts[" ".join(name.casefold().split())] > 1]
    if similar:
        logger.warning(
            "The classes %s in %s differ in case or blanks only, and are different classes. "
            "If they are meant to be one, give them one name.",
            ", ".join(map(repr, similar)), where,
        )  # fmt: skip


def keep_known(
    objects: list[tuple], places: dict[str, int], names: list[str], left_out: LeftOut
) -> list[tuple]:
    """Those (class name, outline, where) whose class has a place among the names; the others are left out."""
    known = []
    for entry in objects:
        name, _, where = entry
        if name in places:
            known.append(entry)
            continue
        left_out.add(
            ValueError(
                f"Every class must be among {short(names, 300)}. Received: {name!r} in {where}. "
                "Try to correct it, or to train with this class as well (in Python: class_names=)."
            )
        )
    return known


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises: ValueError naming the file where it cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"{path} must be a readable file. Received: {error}. Try another path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be complete JSON. Received: a file that breaks off or is damaged ({error}). "
            "Try to export or download it again."
        ) from error


class _PlainTree(ElementTree.TreeBuilder):
    """Builds a tree of elements; refuses a DOCTYPE, which may define entities, and deep nesting."""

    depth = 0

    def doctype(self, name, pubid, system):
        raise ValueError("a DOCTYPE")

    def start(self, tag, attrs):
        self.depth += 1
        if self.depth > DEEPEST_XML:
            raise ValueError(f"elements more than {DEEPEST_XML} deep inside each other")
        return super().start(tag, attrs)

    def end(self, tag):
        self.depth -= 1
        return super().end(tag)


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file. Entities are not expanded, and nothing outside the file is read.

    Raises: ValueError naming the file if it cannot be read or is damaged.
    """
    try:
        return ElementTree.fromstring(
            path.read_bytes(), parser=ElementTree.XMLParser(target=_PlainTree())
        )
    except OSError as error:
        raise ValueError(
            f"{path} must be a readable file. Received: {error}. Try to put it there."
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # of a name of no encoding
        raise ValueError(
            f"{path} must be complete XML without a DOCTYPE. Received: a file that breaks off, is damaged or "
            f"holds more than annotations ({error}). Try to export or download it again."
        ) from error


def read_indices(
    path: str | Path, size: tuple[int, int] | None = None, image: str = "the image"
) -> np.ndarray:
    """int [H, W]: the number that each pixel of a label image stores: grey value, palette index, or colour as 0xRRGGBB.

    size: (height, width) that the file must have, of the image that `image` names; asked of its header.

    Raises: ValueError naming the file where it cannot be read or is no label image.
    """
    pixels = read_pixels(path, "A mask file", indices=True, size=size, image=image)
    if pixels.dtype.kind not in "bui":
        raise ValueError(
            f"A mask file must hold whole numbers or colours. Received: {path} of {pixels.dtype}. "
            "Try to save it as a PNG of 8 or 16 bits."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # grey and alpha
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3:
        return pixels[:, :, :3].astype(np.int64) @ np.array([2**16, 2**8, 1])
    return pixels.astype(np.int64)


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder by name; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "."
    )


def find_image(name: Any, folders: Sequence[Path]) -> Path | None:
    """The image that a file names, with slashes of either kind: seen from a folder, else by its last part in it."""
    if not isinstance(name, str) or not name:
        return None
    name = name.replace("\\", "/")
    candidates = [folder / part for folder in folders for part in (name, name.rsplit("/", 1)[-1])]
    return next((file for file in candidates if os.path.isfile(file)), None)


def listing(path: Path) -> str:
    """What lies in a folder, shortly, and a hint when its sub-folders are the sets themselves."""
    if not path.is_dir():
        return f"a file {path.name}" if path.exists() else "nothing: it does not exist"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    found = ", ".join(names[:10]) + more or "an empty folder"
    sets = [
        name
        for name in names
        if name.rstrip("/").lower() in SETS or (path / name / "JPEGImages").is_dir()
    ]
    return found + (f" (name one of {', '.join(sets)} to use it)" if sets else "")

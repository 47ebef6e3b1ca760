"""Reader of Pascal VOC's files: XML files of boxes, and label images of objects and classes.

The reader checks every number when it opens the files and reads label images on demand. It skips
entries that cannot be used and logs one warning with their number; any other fault is a ValueError
that names the file and the remedy.
"""

from __future__ import annotations

import logging
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.dataset import match_class_names, place_classes
from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import read_size
from ..files.safe_text import clean_name
from .polygons import polygons_to_rle, rectangle
from .reading import (
    RLEImages,
    SkippedEntries,
    image_files,
    read_indices,
    read_json,
    read_xml,
)
from .rle import RLE, encode
from .values import is_integer, short, to_number

logger = logging.getLogger("mrcnn")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
VOC_CLASSES_FILE = "pascal_voc_classes.json"
# Folders of images and of XML files: VOC's, then those of other tools and tutorials.
LAYOUTS = (
    ("JPEGImages", "Annotations"),
    ("images", "annotations"),
    ("images", "Annotations"),
    ("images", "annots"),
    (".", "."),  # both in the folder itself
)
LABEL_IMAGES = ("JPEGImages", "SegmentationObject", "SegmentationClass")  # labelme's VOC export
VOID = 255  # in label images: the rims of objects, and regions that are not annotated
_ROOT = re.compile(rb"<annotation[\s>]")


class VOCDataset(RLEImages):
    """XML files of Pascal VOC, in the layout of VOC2007 and VOC2012 or next to their images.

    Objects are those of the XML file, in its order. Their masks come from `SegmentationObject`,
    whose pixels are the number of the object in the XML file (1 is the first, 0 background, 255
    void); their classes, if there is a `SegmentationClass` too, are the most frequent ones in it.
    If an image has no `SegmentationObject`, masks are the filled boxes, and a warning counts these
    images. labelme's own VOC export, `SegmentationObject` and `SegmentationClass` without XML
    files, is read with its `class_names.txt`.

    `image_info[i]` contains `id` (2007_000032), `boxes` `[N, (y1, x1, y2, x2)]` pixels,
    `difficult` bool `[N]` and `class_ids` `[N]` of the class list. VOC counts pixels from 1, and a
    box includes its last pixel; `boxes` count from 0 and end after the last pixel, as all boxes of
    this package do: x1 = xmin - 1, x2 = xmax.
    """

    # Value in SegmentationClass -> class id; None for a class that is not wanted.
    _class_of_value: dict[int, int | None]

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        class_names: Sequence[str] | None = None,
        images_dir: str | Path | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset.

        root: a folder of VOC (Annotations and JPEGImages), of XML files and their images, or of
            `images` and `annots` or `annotations`; or a list ImageSets/*/*.txt there.
        split: the name of a list in ImageSets/Segmentation, else in ImageSets/Main, like
            "train"; "Main/train" names the folder too. Default: the images of all lists in
            ImageSets/Segmentation; without any, every XML file.
        class_names: all classes, in the order of their ids 1, 2, ...; objects of other classes are
            skipped. Default: `pascal_voc_classes.json` (name -> id, as in SegmentationClass) in the
            folder or its parent; else VOC's 20 if they cover all objects; else the names in the XML
            files, sorted.
        images_dir: the folder of the images, if not one of the usual ones.
        strict: raise a ValueError at the first entry that cannot be used, instead of skipping it.
        """
        super().__init__()
        root, split = _root_and_split(Path(root), split)
        layout = _find_layout(root)
        if images_dir is not None:
            layout = layout._replace(images=Path(images_dir))
        skipped = SkippedEntries(root, strict)
        names = _image_names(layout, split)
        found, clipped = _read_images(layout, names, skipped)
        listed = _class_list(layout, found, class_names)
        used = {each.class_name for image in found for each in image.objects}
        class_of_name = self._add_classes(sorted(used), listed, class_names)
        for image in found:
            if image.file is not None:
                _keep_known(image, class_of_name, skipped)
            self._add_image(image, class_of_name)
        objects = sum(image.object_count for image in found)
        skipped.finish(self, len(names) + objects, "images or objects")
        _warn(root, self.image_info, clipped)
        self.prepare()

    def _add_classes(
        self, used: list[str], listed: dict[str, int] | None, wanted: Sequence[str] | None
    ) -> dict[str, int]:
        """Add the classes, and set `_class_of_value`. Returns: class name -> id.

        used: the names in the XML files. listed: name -> value of a class list. wanted: the classes
        of the training.
        """
        if wanted is None:
            classes = class_of_name = listed or {name: i for i, name in enumerate(used, 1)}
        else:
            classes = {clean_name(name): i for i, name in enumerate(wanted, 1)}
            place_classes(used, list(classes), "the XML files")
            places = match_class_names(sorted({*used, *(listed or {})}), list(classes))
            class_of_name = {**classes, **{name: place + 1 for name, place in places.items()}}
        for name, class_id in sorted(classes.items(), key=lambda item: item[1]):
            self.add_class("voc", class_id, name)
        values = listed
        if values is None:
            # Without a list, the values in SegmentationClass are unknown: the XML files decide.
            values = {} if wanted is None else classes
        self._class_of_value = {value: class_of_name.get(name) for name, value in values.items()}
        return class_of_name

    def _add_image(self, image: _VOCImage, class_of_name: dict[str, int]) -> None:
        info = {"file": image.file, "instances": image.instances, "semantics": image.semantics}
        if not self._class_of_value:
            info["semantics"] = None
        if image.file is not None:
            objects = image.objects
            boxes = [each.box for each in objects]
            info |= {
                "height": image.size[0],
                "width": image.size[1],
                "boxes": np.array(boxes, float).reshape(-1, 4),
                "difficult": np.array([each.difficult for each in objects], bool),
                "numbers": [each.number for each in objects],
                "object_count": image.object_count,
                "class_ids": [class_of_name[each.class_name] for each in objects],
            }
        self.add_image("voc", image_id=image.name, path=image.path, **info)

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one RLE per object of the XML file, and class ids, int32 `[N]`.

        The mask of an object that is not in SegmentationObject is empty.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        if info["instances"] is None:
            rles = [polygons_to_rle([rectangle(*box)], size) for box in info["boxes"]]
            return rles, self.map_class_ids("voc", info["class_ids"])
        instances = read_indices(info["instances"], size)
        present = np.unique(instances[(instances > 0) & (instances != VOID)]).tolist()
        if info["file"] is None:  # labelme's own export
            drawn = self._drawn_classes(info, instances, present)
            return [encode(instances == k) for k in drawn], self.map_class_ids(
                "voc", drawn.values()
            )
        if present and present[-1] > info["object_count"]:
            raise ValueError(
                "Every instance must be an object of the XML file. Received: instance "
                f"{present[-1]} in {info['instances']}, and {info['object_count']} objects in "
                f"{info['file']}. Try to add the object."
            )
        numbers = info["numbers"]
        drawn = self._drawn_classes(info, instances, [k for k in present if k in numbers])
        # SegmentationClass counts, otherwise the name in the XML file.
        class_of = {**dict(zip(numbers, info["class_ids"], strict=True)), **drawn}
        return [encode(instances == k) for k in numbers], self.map_class_ids(
            "voc", class_of.values()
        )

    def _drawn_classes(
        self, info: dict, instances: np.ndarray, present: list[int]
    ) -> dict[int, int]:
        """Return instance -> class id by SegmentationClass, of the instances drawn there.

        instances: int `[H, W]`. present: the numbers in it.
        """
        drawn: dict[int, int] = {}
        if info["semantics"] is None:
            return drawn
        height, width = instances.shape
        semantics = read_indices(info["semantics"], (height, width))
        for k in present:
            value = _most_frequent(semantics[instances == k])
            if value is None:
                continue
            if value not in self._class_of_value:
                raise ValueError(
                    "A class in SegmentationClass must be in the class list. "
                    f"Received: {value} in {info['semantics']}, instance {k}. "
                    f"Try {VOC_CLASSES_FILE} with the right ids."
                )
            class_id = self._class_of_value[value]
            if class_id is not None:
                drawn[k] = class_id
        return drawn


def _most_frequent(values: np.ndarray) -> int | None:
    """Return the most frequent value other than background and void; None if there is no such."""
    values, counts = np.unique(values[(values > 0) & (values != VOID)], return_counts=True)
    return int(values[counts.argmax()]) if len(values) else None


def _warn(root: Path, infos: list[dict], clipped: list[str]) -> None:
    """Log how many images have only boxes, and how many boxes exceeded their image."""
    boxed = sum(info["instances"] is None and len(info["class_ids"]) > 0 for info in infos)
    if boxed:
        logger.warning(
            "%d of %d images in %s have boxes only, no SegmentationObject: masks are the filled "
            "boxes.",
            boxed,
            len(infos),
            root,
        )
    if clipped:
        logger.warning(
            "%d boxes in %s reached beyond their image and were clipped. The first: %s",
            len(clipped),
            root,
            clipped[0],
        )


# --- Folders and lists ----------------------------------------------------------------------------


class _Layout(NamedTuple):
    """The folders of a data set of VOC."""

    root: Path
    images: Path
    annotations: Path | None  # the XML files; None for label images without any


def is_voc(path: Path) -> bool:
    """Return whether a path is a list of VOC, or a folder in one of its layouts."""
    if path.is_dir():
        return _layout_of(path) is not None
    return path.is_file() and _list_of(path) is not None


def _layout_of(folder: Path) -> _Layout | None:
    """Return the folders of images and XML files; None for other data."""
    if (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
        return _Layout(folder, folder / "JPEGImages", folder / "Annotations")
    for images, xml_files in LAYOUTS:
        files = islice((folder / xml_files).glob("*.xml"), 20)
        if (folder / images).is_dir() and any(_is_voc_xml(file) for file in files):
            return _Layout(folder, folder / images, folder / xml_files)
    if all((folder / name).is_dir() for name in LABEL_IMAGES):
        return _Layout(folder, folder / "JPEGImages", None)
    return None


def _is_voc_xml(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return bool(_ROOT.search(content.read(4096)))


def _find_layout(root: Path) -> _Layout:
    layout = _layout_of(root)
    if layout is None:
        raise ValueError(
            f"{root} must contain the folders Annotations and JPEGImages, or VOC's XML files next "
            "to their images. Received: a folder without them, or no folder. "
            "Try the folder of one year, such as VOCdevkit/VOC2012."
        )
    return layout


def _list_of(path: Path) -> tuple[Path, str] | None:
    """Return (root, split) of a list like VOC2012/ImageSets/Segmentation/val.txt, else None."""
    if path.suffix != ".txt" or path.parent.parent.name != "ImageSets":
        return None
    return path.parent.parent.parent, f"{path.parent.name}/{path.stem}"


def _root_and_split(path: Path, split: str | None) -> tuple[Path, str | None]:
    """Return the folder of the data and the list, of a folder or of the path of a list."""
    named = _list_of(path) if split is None and path.is_file() else None
    return (path, split) if named is None else named


def _image_names(layout: _Layout, split: str | None) -> list[str]:
    """Return the image ids of a list, or of all images."""
    lists = layout.root / "ImageSets"
    if split is None:
        files = sorted((lists / "Segmentation").glob("*.txt"))
    else:
        files = [_list_file(lists, split)]
    main = sorted((lists / "Main").glob("*.txt"))
    if not files and len(main) == 1:
        files = main
    if split is None and (len(files) > 1 or (not files and lists.is_dir())):
        logger.warning(
            "Reading the images of %s in %s. To train on some and validate on others, name a list "
            "in %s: %s",
            "all lists" if files else "every XML file",
            layout.root,
            lists,
            short(sorted(f.relative_to(lists).as_posix() for f in lists.glob("*/*.txt")), 400),
        )
    if files:
        return list(dict.fromkeys(name for file in files for name in _names_in(file)))
    if layout.annotations is None:
        return sorted({file.stem for file in image_files(layout.images)})
    return sorted({file.stem for file in layout.annotations.glob("*.xml")})


def _names_in(file: Path) -> list[str]:
    """Return the image ids in a list; the list of one class has a second column."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} must be a list of image ids. Received: {error}. Try another split."
        ) from error
    return [line.split()[0] for line in lines if line.strip()]


def _list_file(lists: Path, split: str) -> Path:
    """Return the list that a split names."""
    folders = [lists] if "/" in split else [lists / "Segmentation", lists / "Main"]
    for folder in folders:
        if os.path.isfile(folder / f"{split}.txt"):
            return folder / f"{split}.txt"
    names = sorted(f.relative_to(lists).with_suffix("").as_posix() for f in lists.glob("*/*.txt"))
    raise ValueError(
        f"A split must be one of the lists in {lists}: {short(names, 400)}. Received: {split!r}. "
        'Try the path of a list as DATA (in Python: split="train").'
    )


# --- Classes --------------------------------------------------------------------------------------


def _class_list(
    layout: _Layout, images: list[_VOCImage], class_names: Sequence[str] | None
) -> dict[str, int] | None:
    """Return class name -> value in SegmentationClass; None if only the XML files name classes.

    Raises: ValueError if no file names the values of labelme's own export.
    """
    listed = _listed_classes(layout.root)
    if layout.annotations is None:
        if not listed and not class_names:
            raise ValueError(
                f"{layout.root} must name the values of SegmentationClass. Received: no "
                f"class_names.txt. Try labelme's class_names.txt, or {VOC_CLASSES_FILE} with "
                "name: value of every class."
            )
        return listed
    used = {each.class_name for image in images for each in image.objects}
    if listed is None and used <= set(VOC_CLASSES):
        return {name: i for i, name in enumerate(VOC_CLASSES, 1)}
    return listed


def _listed_classes(root: Path) -> dict[str, int] | None:
    """Return class name -> value in SegmentationClass by the folder's class file, if any."""
    for folder in (root, root.parent):
        if (folder / VOC_CLASSES_FILE).is_file():
            return _read_class_file(folder / VOC_CLASSES_FILE)
    file = root / "class_names.txt"  # of labelme: a name per line, the background first
    if not file.is_file():
        return None
    names = file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    return {clean_name(name): i for i, name in enumerate(names) if i > 0 and name.strip()}


def _read_class_file(file: Path) -> dict[str, int]:
    classes = read_json(file)
    ids = list(classes.values()) if isinstance(classes, dict) else []
    are_ids = all(is_integer(i) and 0 < i != VOID for i in ids)
    if not ids or not are_ids or len(set(ids)) < len(ids):
        raise ValueError(
            f"{file} must give every class an id of its own, from 1 on and not {VOID}: "
            f'{{"aeroplane": 1, ...}}. Received: {short(classes)}. Try to number the classes.'
        )
    return {clean_name(name): i for name, i in classes.items()}


# --- One image ------------------------------------------------------------------------------------


class _VOCObject(NamedTuple):
    """An object of an XML file."""

    number: int  # in the XML file, from 1 on, as in SegmentationObject
    class_name: str
    box: list[float]  # y1, x1, y2, x2, pixels inside the image
    difficult: bool
    was_clipped: bool


@dataclass
class _VOCImage:
    """An image with its label images and objects."""

    name: str
    path: str
    instances: str | None  # its SegmentationObject file
    semantics: str | None  # its SegmentationClass file
    file: str | None = None  # the XML file; None for labelme's own export
    size: tuple[int, int] = (0, 0)  # height, width, if there is an XML file
    objects: list[_VOCObject] = field(default_factory=list)
    object_count: int = 0  # in the XML file, usable or not


def _read_images(
    layout: _Layout, names: list[str], skipped: SkippedEntries
) -> tuple[list[_VOCImage], list[str]]:
    """Return the usable images, and the places of boxes that were clipped."""
    found, clipped = [], []
    for name in names:
        try:
            image = _read_image(layout, name, skipped)
        except ValueError as error:
            skipped.add(error)
            continue
        found.append(image)
        clipped += [
            f"{image.file}, object {each.number - 1}" for each in image.objects if each.was_clipped
        ]
    return found, clipped


def _read_image(layout: _Layout, name: str, skipped: SkippedEntries) -> _VOCImage:
    """Return an image with its usable objects.

    Raises: ValueError if the image cannot be used.
    """
    instances = _existing(layout.root / "SegmentationObject" / f"{name}.png")
    semantics = _existing(layout.root / "SegmentationClass" / f"{name}.png")
    if layout.annotations is None:
        path = _find_image(layout.images, name, None, layout.root)
        if instances is None or semantics is None:
            raise ValueError(
                f"Every image must have a label image. Received: none of {name} in "
                f"SegmentationObject and SegmentationClass of {layout.root}. "
                "Try to export it with labelme again."
            )
        return _VOCImage(name, path, instances, semantics)
    file = layout.annotations / f"{name}.xml"
    tree = read_xml(file)
    path = _find_image(layout.images, name, tree, file)
    size = _read_image_size(tree, path, file)
    entries = tree.findall("object")
    image = _VOCImage(name, path, instances, semantics, str(file), size)
    image.object_count = len(entries)
    for i, entry in enumerate(entries):
        try:
            image.objects.append(_read_object(entry, i + 1, size, f"{file}, object {i}"))
        except ValueError as error:
            skipped.add(error)
    return image


def _existing(path: Path) -> str | None:
    return str(path) if os.path.isfile(path) else None


def _keep_known(image: _VOCImage, classes: dict[str, int], skipped: SkippedEntries) -> None:
    """Remove the objects whose class is not in `classes`."""
    known = []
    for each in image.objects:
        if each.class_name in classes:
            known.append(each)
            continue
        error = ValueError(
            f"An object's name must be one of {short(list(classes), 300)}. "
            f"Received: {each.class_name!r} in {image.file}, object {each.number - 1}. "
            "Try to correct the name, or to train with this class, too (these are the classes of "
            f"the training data, of the weights, or of {VOC_CLASSES_FILE})."
        )
        skipped.add(error)
    image.objects = known


def _read_object(
    entry: ElementTree.Element, number: int, size: tuple[int, int], where: str
) -> _VOCObject:
    """Return an object with its box clipped to the image.

    size: (height, width) of the image.

    Raises: ValueError if it has no name, or no box in the image.
    """
    name = clean_name(entry.findtext("name") or "")
    if not name:
        raise ValueError(
            f"An object must have a name. Received: none in {where}. Try to name it, or delete it."
        )
    ymin, xmin, ymax, xmax = _read_bndbox(entry, where)
    height, width = size
    if ymin > height or xmin > width or ymax <= 0 or xmax <= 0:
        raise ValueError(
            f"A box must lie in its image of {height} x {width} (height x width). "
            f"Received: ymin {ymin:g}, xmin {xmin:g}, ymax {ymax:g}, xmax {xmax:g} in {where}. "
            "Try to draw the box again, or delete the object."
        )
    # Boxes of some tools count from 0: a side of 0 is clipped as well.
    clipped = ymin < 0 or xmin < 0 or ymax > height or xmax > width
    y1, x1 = max(ymin - 1, 0.0), max(xmin - 1, 0.0)
    y2, x2 = min(ymax, float(height)), min(xmax, float(width))
    difficult = (entry.findtext("difficult") or "").strip() == "1"
    return _VOCObject(number, name, [y1, x1, y2, x2], difficult, clipped)


def _read_bndbox(entry: ElementTree.Element, where: str) -> tuple[float, float, float, float]:
    """Return (ymin, xmin, ymax, xmax) of an object, VOC's pixels from 1 on."""
    texts = [entry.findtext(f"bndbox/{side}") for side in ("ymin", "xmin", "ymax", "xmax")]
    sides = [number for text in texts if (number := to_number(text)) is not None]
    if len(sides) == 4:
        ymin, xmin, ymax, xmax = sides
        if ymin < ymax and xmin < xmax:
            return ymin, xmin, ymax, xmax
    raise ValueError(
        "A bndbox must contain finite numbers ymin < ymax and xmin < xmax. "
        f"Received: {texts} in {where}. Try to draw the box again, or delete the object."
    )


def _read_image_size(tree: ElementTree.Element, path: str, file: Path) -> tuple[int, int]:
    """Return the (height, width) of the image file.

    Raises: ValueError if the XML file gives other numbers; 0, no number and both swapped pass.
    """
    size = read_size(path)
    height = to_number(tree.findtext("size/height")) or 0
    width = to_number(tree.findtext("size/width")) or 0
    if min(height, width) > 0 and sorted((height, width)) != sorted(size):
        raise ValueError(
            f"An XML file must give the size of its image, {size[0]} x {size[1]} (height x width). "
            f"Received: {height:g} x {width:g} in {file}. "
            "Try the image that was annotated, or to correct the size."
        )
    return size


def _find_image(folder: Path, name: str, tree: ElementTree.Element | None, file: Path) -> str:
    """Return the path of an image by its id, else by the filename in the XML file."""
    suffixes = sorted(IMAGE_SUFFIXES)
    names = [f"{name}.jpg"]
    names += [f"{name}{suffix}" for suffix in suffixes]
    names += [f"{name}{suffix.upper()}" for suffix in suffixes]
    if tree is not None:
        filename = tree.findtext("filename") or ""
        names.append(filename.replace("\\", "/").rsplit("/", 1)[-1])
    for candidate in names:
        if candidate and os.path.isfile(folder / candidate):
            return str(folder / candidate)
    raise ValueError(
        f"Every annotated image must exist. Received: {names[0]!r} of {file}, which is not in "
        f"{folder}. Try to put it there, or remove it from the list."
    )

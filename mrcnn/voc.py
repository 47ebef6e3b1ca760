"""Reader of Pascal VOC's layout: XML files of boxes, and label images of objects and classes.

Every number is checked when the files are opened; label images are read when asked for. Whatever is wrong is a
ValueError that names the file, the entry and the remedy.
"""

from __future__ import annotations

import logging
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .dataset import Dataset
from .outlines import (
    IMAGE_SUFFIXES,
    RLE,
    OutlinedImages,
    encode,
    is_finite,
    is_side,
    is_whole,
    polygons_to_rle,
    read_indices,
    read_json,
    read_xml,
    rectangle,
    short,
)

logger = logging.getLogger("mrcnn")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_CLASSES_FILE = "pascal_voc_classes.json"
VOID = 255  # pixels of SegmentationObject and SegmentationClass that belong to nothing: rims, and what was not told


class VOCDataset(OutlinedImages, Dataset):
    """A folder laid out as VOC2007 and VOC2012: Annotations, JPEGImages, ImageSets and the Segmentation folders.

    Objects are those of the XML file, in its order. Their masks come from `SegmentationObject`, whose pixels say
    which object of the XML file is there (1 is the first, 0 background, 255 void), and whose classes, where
    `SegmentationClass` is there too, are the most frequent in that. Where an image has no `SegmentationObject`,
    masks are the filled boxes, and a warning says of how many images.

    `image_info[i]` holds `id` (2007_000032), `boxes` [N, (y1, x1, y2, x2)] pixels, `difficult` bool [N] and
    `class_ids` [N] of the class list. VOC counts pixels from 1 and a box's last pixel is inside; `boxes` count
    from 0 and end behind the last pixel, as all boxes here do: x1 = xmin - 1, x2 = xmax.
    """

    def __init__(self, root: str | Path, split: str | None = None, class_names: Sequence[str] | None = None):
        """A prepared dataset.

        root: the folder that holds Annotations and JPEGImages.
        split: the name of a list in ImageSets/Segmentation, else in ImageSets/Main, such as "train"; "Main/train"
            says which. Default the only list, or every XML file where there is no ImageSets.
        class_names: all classes, in the order of their ids 1, 2, ...; default `pascal_voc_classes.json`
            (name -> id, as in SegmentationClass) in the folder or above it, else VOC's 20.
        """
        super().__init__()
        root = Path(root)
        classes = _voc_classes(root) if class_names is None else {name: i for i, name in enumerate(class_names, 1)}
        for name, class_id in sorted(classes.items(), key=lambda item: item[1]):
            self.add_class("voc", class_id, name)
        boxed = 0
        for name in _voc_names(root, split):
            info = _voc_image(root, name, classes)
            boxed += info["instances"] is None and len(info["class_ids"]) > 0
            self.add_image("voc", image_id=name, **info)
        if boxed:
            logger.warning("%d of %d images in %s have boxes only, no SegmentationObject: masks are the filled boxes.",
                           boxed, len(self.image_info), root)  # fmt: skip
        self.prepare()

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per object of the XML file, and class ids, int32 [N].

        An object that SegmentationObject does not show has an empty mask.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        class_ids = info["class_ids"]
        if info["instances"] is None:
            rles = [polygons_to_rle([rectangle(*box)], size) for box in info["boxes"]]
        else:
            instances = _voc_pixels(info["instances"], size)
            present = np.unique(instances[(instances > 0) & (instances != VOID)])
            if len(present) and present[-1] > len(class_ids):
                raise ValueError(
                    f"Every instance must be an object of the XML file. Received: instance {present[-1]} in "
                    f"{info['instances']}, and {len(class_ids)} objects in {info['file']}. Try to add the object."
                )
            rles = [encode(instances == k) for k in range(1, len(class_ids) + 1)]
            if info["semantics"] is not None:
                class_ids = self._drawn_classes(info, instances, present)
        ids = [self.map_source_class_id(f"voc.{class_id}") for class_id in class_ids]
        return rles, np.array(ids, np.int32)

    def _drawn_classes(self, info: dict, instances: np.ndarray, present: np.ndarray) -> list[int]:
        """The class of each object by SegmentationClass, where that shows it."""
        semantics = _voc_pixels(info["semantics"], instances.shape)
        class_ids = list(info["class_ids"])
        for k in present:
            values = semantics[instances == k]
            values, counts = np.unique(values[(values > 0) & (values != VOID)], return_counts=True)
            if len(values) == 0:
                continue
            class_ids[k - 1] = int(values[counts.argmax()])
            if f"voc.{class_ids[k - 1]}" not in self.class_from_source_map:
                raise ValueError(
                    f"A class in SegmentationClass must be in the class list. Received: {class_ids[k - 1]} in "
                    f"{info['semantics']}, instance {k}. Try {VOC_CLASSES_FILE} with the right ids."
                )
        return class_ids


def is_voc(folder: Path) -> bool:
    """Whether a folder is laid out as VOC's of one year."""
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


def voc_list(path: Path) -> tuple[Path, str] | None:
    """(root, split) of a list such as VOC2012/ImageSets/Segmentation/val.txt; None for any other path."""
    if path.suffix != ".txt" or path.parent.parent.name != "ImageSets":
        return None
    return path.parent.parent.parent, f"{path.parent.name}/{path.stem}"


def _voc_classes(root: Path) -> dict[str, int]:
    """Class name -> id, by the class file where there is one."""
    file = next((f for f in (root / VOC_CLASSES_FILE, root.parent / VOC_CLASSES_FILE) if f.is_file()), None)
    if file is None:
        return {name: i for i, name in enumerate(VOC_CLASSES, 1)}
    classes = read_json(file)
    ids = list(classes.values()) if isinstance(classes, dict) else []
    if not ids or not all(is_whole(i) and 0 < i != VOID for i in ids) or len(set(ids)) < len(ids):
        raise ValueError(
            f'{file} must give every class an id of its own, from 1 on and not {VOID}: {{"aeroplane": 1, ...}}. '
            f"Received: {short(classes)}. Try to number the classes."
        )
    return classes


def _voc_names(root: Path, split: str | None) -> list[str]:
    """The image ids of a list."""
    if not is_voc(root):
        raise ValueError(
            f"{root} must hold the folders Annotations and JPEGImages. Received: a folder without them, or none. "
            "Try the folder of one year, such as VOCdevkit/VOC2012."
        )
    if split is None and not (root / "ImageSets").is_dir():
        return [file.stem for file in sorted((root / "Annotations").glob("*.xml"))]
    file = _voc_list_file(root, split)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be a list of image ids. Received: {error}. Try another split.") from error
    return [line.split()[0] for line in lines if line.strip()]  # a list of one class has a second column


def _voc_list_file(root: Path, split: str | None) -> Path:
    """The list that a split names; the only one where it names none."""
    lists = root / "ImageSets"
    if split is not None:
        usual = (
            [lists / f"{split}.txt"] if "/" in split else [lists / d / f"{split}.txt" for d in ("Segmentation", "Main")]
        )
        found = [file for file in usual if os.path.isfile(file)]
    else:
        found = sorted((lists / "Segmentation").glob("*.txt")) or sorted((lists / "Main").glob("*.txt"))
    if found and (split is not None or len(found) == 1):
        return found[0]
    there = sorted(f.relative_to(lists).with_suffix("").as_posix() for f in lists.glob("*/*.txt"))
    raise ValueError(
        f"A split must be one of the lists in {lists}: {short(there, 400)}. Received: {split!r}. "
        'Try the path of a list as DATA (in Python: split="train").'
    )


def _voc_image(root: Path, name: str, classes: dict[str, int]) -> dict:
    """What `add_image` takes, from an image's XML file."""
    file = root / "Annotations" / f"{name}.xml"
    tree = _read_xml(file)
    found = [_voc_object(entry, classes, f"{file}, object {i}") for i, entry in enumerate(tree.findall("object"))]
    folders = {"instances": "SegmentationObject", "semantics": "SegmentationClass"}
    masks = {key: root / folder / f"{name}.png" for key, folder in folders.items()}
    return {
        "path": _voc_path(root, name, tree, file),
        "file": str(file),
        **_voc_size(tree, file),
        "class_ids": [class_id for class_id, _, _ in found],
        "boxes": np.array([box for _, box, _ in found], float).reshape(-1, 4),
        "difficult": np.array([difficult for _, _, difficult in found], bool),
        **{key: str(path) if os.path.isfile(path) else None for key, path in masks.items()},
    }


def _read_xml(file: Path) -> ElementTree.Element:
    return read_xml(file)


def _voc_object(entry: ElementTree.Element, classes: dict[str, int], where: str) -> tuple[int, list[float], bool]:
    """Class id, box (y1, x1, y2, x2) and whether it is difficult, of an object of an XML file."""
    name = (entry.findtext("name") or "").strip()
    if name not in classes:
        raise ValueError(
            f"An object's name must be one of {short(list(classes), 300)}. Received: {name!r} in {where}. "
            f"Try a {VOC_CLASSES_FILE} of your classes, or to correct the name (in Python: class_names=)."
        )
    sides = [_number(entry.findtext(f"bndbox/{side}")) for side in ("ymin", "xmin", "ymax", "xmax")]
    if None in sides or sides[0] > sides[2] or sides[1] > sides[3]:
        raise ValueError(
            "A bndbox must hold finite numbers ymin <= ymax and xmin <= xmax. Received: "
            f"{[entry.findtext(f'bndbox/{side}') for side in ('ymin', 'xmin', 'ymax', 'xmax')]} in {where}. "
            "Try to draw the box again, or delete the object."
        )
    ymin, xmin, ymax, xmax = sides
    box = [max(ymin - 1, 0.0), max(xmin - 1, 0.0), ymax, xmax]
    return classes[name], box, (entry.findtext("difficult") or "").strip() == "1"


def _number(text: str | None) -> float | None:
    """The finite number that a text says, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if is_finite(value) else None


def _voc_size(tree: ElementTree.Element, file: Path) -> dict[str, int | None]:
    """Height and width by the XML file; None where it does not tell, or tells 0 as some tools do."""
    size = {}
    for side in ("height", "width"):
        text = tree.findtext(f"size/{side}")
        value = _number(text or "0")
        if value is None or value != int(value) or not is_side(int(value) or None):
            raise ValueError(
                f"An image's size must be whole numbers. Received: {side} {short(text)} in {file}. "
                "Try to correct it, or to remove the element size."
            )
        size[side] = int(value) or None
    return size


def _voc_path(root: Path, name: str, tree: ElementTree.Element, file: Path) -> str:
    """The image's path: by the id, else by the XML file."""
    folder = root / "JPEGImages"
    names = [f"{name}.jpg", *(f"{name}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))]
    names += [tree.findtext("filename") or ""]
    found = next((folder / n for n in names if os.path.isfile(folder / n)), None)
    if found is None:
        raise ValueError(
            f"Every annotated image must exist. Received: {names[0]!r} of {file}, which is not in {folder}. "
            "Try to put it there, or remove it from the list."
        )
    return str(found)


def _voc_pixels(path: str, size: tuple[int, int]) -> np.ndarray:
    """int [H, W] of a SegmentationObject or SegmentationClass file."""
    return read_indices(path, size)

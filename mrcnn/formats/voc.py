"""Reader of Pascal VOC's files: XML files of boxes, and label images of objects and classes.

Every number is checked when the files are opened; label images are read when asked for. Entries that cannot be used
are left out, and a warning says how many; whatever else is wrong is a ValueError that names the file and the remedy.
"""

from __future__ import annotations

import logging
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ..data.dataset import Dataset, match_class_names, place_classes
from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import read_size
from ..files.safe_text import clean_name
from .common import LeftOut, RLEImages, image_files, read_indices, read_json, read_xml
from .polygons import polygons_to_rle, rectangle
from .rle import RLE, encode
from .values import is_whole, short, to_number

logger = logging.getLogger("mrcnn")

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOC_CLASSES_FILE = "pascal_voc_classes.json"
# Folders of images and of XML files: VOC's, then those of other tools and tutorials; "." is the folder itself.
LAYOUTS = (
    ("JPEGImages", "Annotations"), ("images", "annotations"), ("images", "Annotations"), ("images", "annots"),
    (".", "."),
)  # fmt: skip
_ROOT = re.compile(rb"<annotation[\s>]")
VOID = 255  # pixels of SegmentationObject and SegmentationClass that belong to nothing: rims, and what was not told


class VOCDataset(RLEImages, Dataset):
    """XML files of Pascal VOC, in the layout of VOC2007 and VOC2012 or next to their images.

    Objects are those of the XML file, in its order. Their masks come from `SegmentationObject`, whose pixels say
    which object of the XML file is there (1 is the first, 0 background, 255 void), and whose classes, if there is a
    `SegmentationClass` too, are the most frequent in that. If an image has no `SegmentationObject`, masks are the
    filled boxes, and a warning says of how many images. labelme's own VOC export, `SegmentationObject` and
    `SegmentationClass` without XML files, is read by its `class_names.txt`.

    `image_info[i]` holds `id` (2007_000032), `boxes` [N, (y1, x1, y2, x2)] pixels, `difficult` bool [N] and
    `class_ids` [N] of the class list. VOC counts pixels from 1 and a box's last pixel is inside; `boxes` count
    from 0 and end behind the last pixel, as all boxes here do: x1 = xmin - 1, x2 = xmax.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        class_names: Sequence[str] | None = None,
        images_dir: str | Path | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset.

        root: a folder of VOC (Annotations and JPEGImages), of XML files and their images, or of `images` and `annots`
            or `annotations`.
        split: the name of a list in ImageSets/Segmentation, else in ImageSets/Main, such as "train"; "Main/train"
            says which. Default: the images of all lists in ImageSets/Segmentation; without any, every XML file.
        class_names: all classes, in the order of their ids 1, 2, ...; objects of other classes are left out. Default:
            `pascal_voc_classes.json` (name -> id, as in SegmentationClass) in the folder or above it; else VOC's 20
            if they cover all objects; else the names in the XML files, sorted.
        images_dir: where the images are, if not in one of the usual places.
        strict: raise a ValueError at the first entry that cannot be used, instead of leaving it out.
        """
        super().__init__()
        root = Path(root)
        images, annotations = _voc_folders(root)
        images = images if images_dir is None else Path(images_dir)
        listed = _listed_classes(root)
        left_out = LeftOut(root, strict)
        names = _voc_names(root, annotations, images, split)
        found, clipped = [], []
        for name in names:
            try:
                info, outside = _voc_image(root, images, annotations, name, left_out)
            except ValueError as error:
                left_out.add(error)
                continue
            found.append((name, info))
            clipped += outside
        used = {label for _, info in found for label in info["names"]}
        if listed is None and used <= set(VOC_CLASSES) and annotations is not None:
            listed = {name: i for i, name in enumerate(VOC_CLASSES, 1)}
        if annotations is None and not listed and not class_names:
            raise ValueError(
                f"{root} must say what the values of SegmentationClass mean. Received: no class_names.txt. "
                f"Try labelme's class_names.txt, or {VOC_CLASSES_FILE} with name: value of every class."
            )
        class_of_name = self._number_classes(sorted(used), listed, class_names)
        for name, info in found:
            if annotations is not None:
                _keep_known(info, class_of_name, left_out)
            if not self._class_of_value:
                info["semantics"] = None
            self.add_image("voc", image_id=name, **info)
        objects = sum(info.get("object_count", 0) for _, info in found)
        left_out.finish(self, len(names) + objects, "images or objects")
        _warn(root, self.image_info, clipped)
        self.prepare()

    def _number_classes(
        self, used: list[str], listed: dict[str, int] | None, wanted: Sequence[str] | None
    ) -> dict[str, int]:
        """Add the classes; return class name -> id, and keep `_class_of_value`, of values of SegmentationClass.

        used: the names in the XML files. listed: name -> value of a class list. wanted: the classes of training.
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
        # Without a list, the values of classes that XML files name are not known: the XML decides.
        values = listed if listed is not None else classes if wanted is not None else {}
        self._class_of_value = {
            value: class_of_name.get(name) for name, value in values.items()
        }  # None: not wanted
        return class_of_name

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one run-length code per object of the XML file, and class ids, int32 [N].

        An object that SegmentationObject does not show has an empty mask.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        if info["instances"] is None:
            rles = [polygons_to_rle([rectangle(*box)], size) for box in info["boxes"]]
            return rles, self._ids(info["class_ids"])
        instances = _voc_pixels(info["instances"], size)
        present = np.unique(instances[(instances > 0) & (instances != VOID)]).tolist()
        if info["file"] is None:  # labelme's own export
            drawn = self._drawn_classes(info, instances, present)
            return [encode(instances == k) for k in drawn], self._ids(drawn.values())
        if present and present[-1] > info["object_count"]:
            raise ValueError(
                f"Every instance must be an object of the XML file. Received: instance {present[-1]} in "
                f"{info['instances']}, and {info['object_count']} objects in {info['file']}. Try to add the object."
            )
        drawn = self._drawn_classes(info, instances, [k for k in present if k in info["numbers"]])
        class_ids = [
            drawn.get(k, told) for k, told in zip(info["numbers"], info["class_ids"], strict=True)
        ]
        return [encode(instances == k) for k in info["numbers"]], self._ids(class_ids)

    def _ids(self, class_ids: Iterable[int]) -> np.ndarray:
        return np.array(
            [self.map_source_class_id(f"voc.{class_id}") for class_id in class_ids], np.int32
        )

    def _drawn_classes(
        self, info: dict, instances: np.ndarray, present: list[int]
    ) -> dict[int, int]:
        """Instance -> class by SegmentationClass, of the instances that it shows."""
        drawn: dict[int, int] = {}
        if info["semantics"] is None:
            return drawn
        semantics = _voc_pixels(info["semantics"], instances.shape)
        for k in present:
            values = semantics[instances == k]
            values, counts = np.unique(values[(values > 0) & (values != VOID)], return_counts=True)
            if len(values) == 0:
                continue
            value = int(values[counts.argmax()])
            if value not in self._class_of_value:
                raise ValueError(
                    f"A class in SegmentationClass must be in the class list. Received: {value} in "
                    f"{info['semantics']}, instance {k}. Try {VOC_CLASSES_FILE} with the right ids."
                )
            if self._class_of_value[value] is not None:
                drawn[k] = self._class_of_value[value]
        return drawn


def _warn(root: Path, infos: list[dict], clipped: list[str]) -> None:
    """Say how many images have boxes only, and how many boxes reached beyond their image."""
    boxed = sum(info["instances"] is None and len(info["class_ids"]) > 0 for info in infos)
    if boxed:
        logger.warning("%d of %d images in %s have boxes only, no SegmentationObject: masks are the filled boxes.",
                       boxed, len(infos), root)  # fmt: skip
    if clipped:
        logger.warning("%d boxes in %s reached beyond their image and were clipped. The first: %s",
                       len(clipped), root, clipped[0])  # fmt: skip


# --- Folders and lists --------------------------------------------------------------------------------------


def is_voc(folder: Path) -> bool:
    """Whether a folder is laid out as VOC's of one year, or holds VOC's XML files next to its images."""
    return _layout(folder) is not None


def _layout(folder: Path) -> tuple[Path, Path | None] | None:
    """The folders of images and of XML files, of these None for label images without any; None for other data."""
    if (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
        return folder / "JPEGImages", folder / "Annotations"
    for images, xml_files in LAYOUTS:
        files = islice((folder / xml_files).glob("*.xml"), 20)
        if (folder / images).is_dir() and any(_is_voc_xml(file) for file in files):
            return folder / images, folder / xml_files
    if all(
        (folder / name).is_dir()
        for name in ("JPEGImages", "SegmentationObject", "SegmentationClass")
    ):
        return folder / "JPEGImages", None
    return None


def _is_voc_xml(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return bool(_ROOT.search(content.read(4096)))


def voc_list(path: Path) -> tuple[Path, str] | None:
    """(root, split) of a list such as VOC2012/ImageSets/Segmentation/val.txt; None for any other path."""
    if path.suffix != ".txt" or path.parent.parent.name != "ImageSets":
        return None
    return path.parent.parent.parent, f"{path.parent.name}/{path.stem}"


def _voc_folders(root: Path) -> tuple[Path, Path | None]:
    layout = _layout(root)
    if layout is None:
        raise ValueError(
            f"{root} must hold the folders Annotations and JPEGImages, or VOC's XML files next to their images. "
            "Received: a folder without them, or none. Try the folder of one year, such as VOCdevkit/VOC2012."
        )
    return layout


def _voc_names(root: Path, annotations: Path | None, images: Path, split: str | None) -> list[str]:
    """The image ids of a list, or of all."""
    lists = root / "ImageSets"
    files = (
        [_voc_list_file(root, split)]
        if split is not None
        else sorted((lists / "Segmentation").glob("*.txt"))
    )
    if not files and len(main := sorted((lists / "Main").glob("*.txt"))) == 1:
        files = main
    if split is None and (len(files) > 1 or not files and lists.is_dir()):
        there = sorted(f.relative_to(lists).as_posix() for f in lists.glob("*/*.txt"))
        logger.warning("Reading the images of %s in %s. To train on some and validate on others, name a list in %s: %s",
                       "all lists" if files else "every XML file", root, lists, short(there, 400))  # fmt: skip
    if not files:
        return sorted({file.stem for file in annotations.glob("*.xml")} if annotations is not None
                      else {file.stem for file in image_files(images)})  # fmt: skip
    names = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{file} must be a list of image ids. Received: {error}. Try another split."
            ) from error
        names += [
            line.split()[0] for line in lines if line.strip()
        ]  # a list of one class has a second column
    return list(dict.fromkeys(names))


def _voc_list_file(root: Path, split: str) -> Path:
    """The list that a split names."""
    lists = root / "ImageSets"
    usual = (
        [lists / f"{split}.txt"]
        if "/" in split
        else [lists / d / f"{split}.txt" for d in ("Segmentation", "Main")]
    )
    found = [file for file in usual if os.path.isfile(file)]
    if found:
        return found[0]
    there = sorted(f.relative_to(lists).with_suffix("").as_posix() for f in lists.glob("*/*.txt"))
    raise ValueError(
        f"A split must be one of the lists in {lists}: {short(there, 400)}. Received: {split!r}. "
        'Try the path of a list as DATA (in Python: split="train").'
    )


def _listed_classes(root: Path) -> dict[str, int] | None:
    """Class name -> value in SegmentationClass, by the class file of the folder; None if there is none."""
    file = next(
        (f for f in (root / VOC_CLASSES_FILE, root.parent / VOC_CLASSES_FILE) if f.is_file()), None
    )
    if file is not None:
        classes = read_json(file)
        ids = list(classes.values()) if isinstance(classes, dict) else []
        if (
            not ids
            or not all(is_whole(i) and 0 < i != VOID for i in ids)
            or len(set(ids)) < len(ids)
        ):
            raise ValueError(
                f'{file} must give every class an id of its own, from 1 on and not {VOID}: {{"aeroplane": 1, ...}}. '
                f"Received: {short(classes)}. Try to number the classes."
            )
        return {clean_name(name): i for name, i in classes.items()}
    file = root / "class_names.txt"  # of labelme: a name per line, the background first
    if not file.is_file():
        return None
    names = file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    return {clean_name(name): i for i, name in enumerate(names) if i > 0 and name.strip()}


# --- One image ----------------------------------------------------------------------------------------------


def _voc_image(
    root: Path, images: Path, annotations: Path | None, name: str, left_out: LeftOut
) -> tuple[dict, list[str]]:
    """What `add_image` takes, with the `names` of the objects' classes; and where boxes were clipped.

    Raises: ValueError if the image cannot be used.
    """
    masks = {"instances": root / "SegmentationObject" / f"{name}.png",
             "semantics": root / "SegmentationClass" / f"{name}.png"}  # fmt: skip
    masks = {key: str(path) if os.path.isfile(path) else None for key, path in masks.items()}
    if annotations is None:
        path = _voc_path(images, name, None, root)
        if None in masks.values():
            raise ValueError(
                f"Every image must have a label image. Received: none of {name} in SegmentationObject and "
                f"SegmentationClass of {root}. Try to export it with labelme again."
            )
        return {"path": path, "file": None, "names": [], **masks}, []
    file = annotations / f"{name}.xml"
    tree = read_xml(file)
    path = _voc_path(images, name, tree, file)
    height, width = _voc_size(tree, path, file)
    entries = tree.findall("object")
    numbers, names, boxes, difficult, clipped = [], [], [], [], []
    for i, entry in enumerate(entries):
        where = f"{file}, object {i}"
        try:
            label, box, outside = _voc_object(entry, (height, width), where)
        except ValueError as error:
            left_out.add(error)
            continue
        numbers.append(i + 1)
        names.append(label)
        boxes.append(box)
        difficult.append((entry.findtext("difficult") or "").strip() == "1")
        clipped += [where] * outside
    info = {
        "path": path,
        "file": str(file),
        "height": height,
        "width": width,
        "names": names,
        "boxes": np.array(boxes, float).reshape(-1, 4),
        "difficult": np.array(difficult, bool),
        "numbers": numbers,  # of the objects in the XML file, from 1 on, as in SegmentationObject
        "object_count": len(entries),
        **masks,
    }
    return info, clipped


def _keep_known(info: dict, classes: dict[str, int], left_out: LeftOut) -> None:
    """Replace the `names` of an image's objects by `class_ids`; objects of other classes are left out."""
    names = info.pop("names")
    for name, number in zip(names, info["numbers"], strict=True):
        if name not in classes:
            left_out.add(
                ValueError(
                    f"An object's name must be one of {short(list(classes), 300)}. Received: {name!r} in "
                    f"{info['file']}, object {number - 1}. Try to correct the name, or to train with this class, too "
                    f"(these are the classes of the training data, of the weights, or of {VOC_CLASSES_FILE})."
                )
            )
    known = [i for i, name in enumerate(names) if name in classes]
    info["class_ids"] = [classes[names[i]] for i in known]
    info["numbers"] = [info["numbers"][i] for i in known]
    info["boxes"], info["difficult"] = info["boxes"][known], info["difficult"][known]


def _voc_object(
    entry: ElementTree.Element, size: tuple[int, int], where: str
) -> tuple[str, list[float], bool]:
    """Class name, box (y1, x1, y2, x2) inside the image, and whether it had to be clipped, of an object."""
    name = clean_name(entry.findtext("name") or "")
    if not name:
        raise ValueError(
            f"An object must have a name. Received: none in {where}. Try to name it, or delete it."
        )
    texts = [entry.findtext(f"bndbox/{side}") for side in ("ymin", "xmin", "ymax", "xmax")]
    sides = [to_number(text) for text in texts]
    if None in sides or sides[0] >= sides[2] or sides[1] >= sides[3]:
        raise ValueError(
            f"A bndbox must hold finite numbers ymin < ymax and xmin < xmax. Received: {texts} in {where}. "
            "Try to draw the box again, or delete the object."
        )
    ymin, xmin, ymax, xmax = sides
    height, width = size
    if ymin > height or xmin > width or ymax <= 0 or xmax <= 0:
        raise ValueError(
            f"A box must lie in its image of {height} x {width} (height x width). Received: {texts} in {where}. "
            "Try to draw the box again, or delete the object."
        )
    outside = ymin < 0 or xmin < 0 or ymax > height or xmax > width  # some tools count from 0
    box = [
        max(ymin - 1, 0.0),
        max(xmin - 1, 0.0),
        min(ymax, float(height)),
        min(xmax, float(width)),
    ]
    return name, box, outside


def _voc_size(tree: ElementTree.Element, path: str, file: Path) -> tuple[int, int]:
    """Height and width of the image; the XML file must say the same, 0, nothing readable, or both swapped."""
    size = read_size(path)
    told = tuple(to_number(tree.findtext(f"size/{side}")) or 0 for side in ("height", "width"))
    if min(told) > 0 and sorted(told) != sorted(size):
        raise ValueError(
            f"An XML file must tell the size of its image, {size[0]} x {size[1]} (height x width). Received: "
            f"{told[0]:g} x {told[1]:g} in {file}. Try the image that was annotated, or to correct the size."
        )
    return size


def _voc_path(folder: Path, name: str, tree: ElementTree.Element | None, file: Path) -> str:
    """The image's path: by the id, else by the XML file."""
    names = [f"{name}.jpg", *(f"{name}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))]
    names += [f"{name}{suffix.upper()}" for suffix in sorted(IMAGE_SUFFIXES)]
    if tree is not None:
        names.append((tree.findtext("filename") or "").replace("\\", "/").rsplit("/", 1)[-1])
    found = next((folder / n for n in names if n and os.path.isfile(folder / n)), None)
    if found is None:
        raise ValueError(
            f"Every annotated image must exist. Received: {names[0]!r} of {file}, which is not in {folder}. "
            "Try to put it there, or remove it from the list."
        )
    return str(found)


def _voc_pixels(path: str, size: tuple[int, int]) -> np.ndarray:
    """int [H, W] of a SegmentationObject or SegmentationClass file."""
    return read_indices(path, size)

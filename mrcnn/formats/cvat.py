"""CVAT's own XML, "CVAT for images 1.1": reader and writer.

The reader parses polygons, boxes, ellipses and masks when it opens the file and reads pixels on
demand. The writer writes masks, or boxes for box-only models.
"""

from __future__ import annotations

import logging
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.dataset import place_classes
from ..files.atomic import atomic_write
from ..files.image_files import read_size
from ..files.limits import MOST_POINTS
from ..files.safe_text import clean_name, xml_text
from .polygons import Polygon, check_polygon, ellipse, polygons_to_rle, rectangle, rotated
from .reading import AnnotatedObject, RLEImages, SkippedEntries, read_xml
from .rle import RLE, encode, mask_plane, merge
from .values import short, to_number
from .writing import ImageCopies, Result, Writer, box_of, class_names_of

logger = logging.getLogger("mrcnn")

SHAPES = ("polygon", "box", "ellipse", "mask")
WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
# Other elements, like tag, describe the image as a whole and are not counted.
_ROOT = re.compile(rb"<annotations[\s>]")


class CVATDataset(RLEImages):
    """Annotations of CVAT, exported as "CVAT for images 1.1".

    That is `annotations.xml`, and the images next to it or in `images`. Shapes of one group and
    label are parts of one object, as in CVAT's COCO export. Polylines, points, cuboids and
    skeletons are skipped, and a warning counts them. Images without shapes are kept as images
    without objects.
    """

    def __init__(
        self,
        path: str | Path,
        images_dir: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset; `image_info[i]["id"]` is the image's name in the file.

        path: the XML file, or the folder that contains annotations.xml.
        images_dir: the folder of the images. Default: `images` next to the file, or its folder.
        class_names: all classes, in the order of their ids. Default: the labels of the task in
            their order; without labels there, those of the shapes, sorted.
        strict: raise a ValueError at the first entry that cannot be used, instead of skipping it.
        """
        super().__init__()
        path = _xml_file(Path(path))
        tree = _read_tree(path)
        skipped = SkippedEntries(path, strict)
        folders = [path.parent / "images", path.parent]
        if images_dir is not None:
            folders = [Path(images_dir)]
        entries = tree.findall("image")
        images = _read_images(entries, folders, path, skipped)
        labels = sorted({each.class_name for image in images for each in image.objects})
        all_names = map(clean_name, class_names or _task_labels(tree) or labels)
        names = list(dict.fromkeys(all_names))
        for class_id, name in enumerate(names, start=1):
            self.add_class("cvat", class_id, name)
        places = place_classes(labels, names, path)
        for image in images:
            self._add_image(image, places, names, skipped)
        if not entries:
            raise ValueError(f"{path} must list images. Received: no image. Try another export.")
        total = len(entries) + sum(len(entry) for entry in entries)
        skipped.finish(self, total, "images or shapes")
        self.prepare()

    def _add_image(
        self, image: _CVATImage, places: dict[str, int], names: list[str], skipped: SkippedEntries
    ) -> None:
        known = []
        for each in image.objects:
            if each.class_name in places:
                known.append(each)
                continue
            error = ValueError(
                f"A label must be among {short(names, 300)}. Received: {each.class_name!r} in "
                f"{each.where}. Try to add it to the task, or to correct the shape "
                "(in Python: class_names=)."
            )
            skipped.add(error)
        self.add_image(
            "cvat",
            image_id=image.name,
            path=image.path,
            height=image.size[0],
            width=image.size[1],
            class_ids=[places[each.class_name] + 1 for each in known],
            parts=[each.parts for each in known],
        )

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one RLE per object, in the order of their first shapes.

        Returns: N RLEs; class ids, int32 `[N]`.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [merge([_part_to_rle(part, size) for part in parts]) for parts in info["parts"]]
        return rles, self.map_class_ids("cvat", info["class_ids"])


def is_cvat(path: Path) -> bool:
    """Return whether a file, or annotations.xml of a folder, is CVAT's own XML."""
    file = _xml_file(path)
    if file.suffix.lower() != ".xml" or not file.is_file():
        return False
    with file.open("rb") as content:
        return bool(_ROOT.search(content.read(4096)))


def _xml_file(path: Path) -> Path:
    return path / "annotations.xml" if path.is_dir() else path


def _read_tree(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file of CVAT for images."""
    tree = read_xml(path)
    if tree.tag != "annotations":
        received = f"an element {short(tree.tag)}"
    elif tree.find("track") is not None:
        received = "tracks of a video"
    else:
        return tree
    raise ValueError(
        f"{path} must contain the images of CVAT. Received: {received}. "
        "Try to export the task as 'CVAT for images 1.1'."
    )


def _task_labels(tree: ElementTree.Element) -> list[str]:
    """Return the labels of the task, job or project in their order, without parts of skeletons."""
    labels = tree.findall("meta//labels/label")
    return [label.findtext("name") or "" for label in labels if not label.findtext("parent")]


# --- Images ---------------------------------------------------------------------------------------


class _CVATImage(NamedTuple):
    """An image with its usable objects."""

    name: str
    path: str
    size: tuple[int, int]  # height, width
    objects: list[AnnotatedObject]


def _read_images(
    entries: list[ElementTree.Element], folders: list[Path], path: Path, skipped: SkippedEntries
) -> list[_CVATImage]:
    """Return the usable images with their usable objects."""
    images = []
    for entry in entries:
        name = entry.get("name") or ""
        where = f"{path}, image {short(name)}"
        try:
            file = _find_image(name, entry.get("subset") or "", folders, where)
            size = read_size(file)
            _check_size(entry, size, where)
        except ValueError as error:
            skipped.add(error)
            continue
        objects = _read_objects(entry, size, where, skipped)
        images.append(_CVATImage(name, str(file), size, objects))
    return images


def _find_image(name: str, subset: str, folders: list[Path], where: str) -> Path:
    """Return the image of that name in one of the folders, or in their sub-folder of the subset."""
    name = name.replace("\\", "/")
    for folder in folders:
        for part in (subset, ""):
            if name and os.path.isfile(folder / part / name):
                return folder / part / name
    raise ValueError(
        f"Every annotated image must exist. Received: {where}, which is not in "
        f"{' or '.join(map(str, folders))}. Try to put it there, or to name its folder: "
        "--images DIR (in Python images_dir=)."
    )


def _check_size(entry: ElementTree.Element, size: tuple[int, int], where: str) -> None:
    """Raise a ValueError unless an image element gives the size (height, width) of its file."""
    height, width = entry.get("height"), entry.get("width")
    if (to_number(height), to_number(width)) != tuple(size):
        raise ValueError(
            "The size of an image must be that of its file, "
            f"{size[0]} x {size[1]} (height x width). Received: {height} x {width} in {where}. "
            "Try the image that was annotated."
        )


def _read_objects(
    entry: ElementTree.Element, size: tuple[int, int], where: str, skipped: SkippedEntries
) -> list[AnnotatedObject]:
    """Return the usable objects of an image."""
    objects: list[AnnotatedObject] = []
    groups: dict[tuple[str, str], AnnotatedObject] = {}
    for i, shape in enumerate(entry):
        if shape.tag not in SHAPES + WITHOUT_AREA:
            continue
        label, group = clean_name(shape.get("label") or ""), shape.get("group_id") or "0"
        try:
            part = _part_of(shape, label, size, f"{where}, shape {i}")
        except ValueError as error:
            skipped.add(error)
            continue
        if group != "0" and (label, group) in groups:
            groups[label, group].parts.append(part)
            continue
        annotated = AnnotatedObject(label, [part], where)
        objects.append(annotated)
        groups[label, group] = annotated
    return objects


# --- Shapes ---------------------------------------------------------------------------------------


class _PlacedMask(NamedTuple):
    """A mask inside of an image: its place, size and runs, row by row, background first."""

    top: int
    left: int
    height: int
    width: int
    runs: list[int]


def _part_of(
    shape: ElementTree.Element, label: str, size: tuple[int, int], where: str
) -> Polygon | _PlacedMask:
    """Return the polygon or the mask of a shape. size: (height, width) of the image.

    Raises: ValueError if it has no label or area.
    """
    if not label or shape.tag in WITHOUT_AREA:
        raise ValueError(
            f"A shape must have a label and an area. Received: {shape.tag} {label!r} in {where}. "
            "Try to draw this object as a polygon, or delete the shape."
        )
    if shape.tag == "polygon":
        return _polygon_of(shape, where)
    if shape.tag == "mask":
        return _mask_of(shape, size, where)
    angle = np.deg2rad(to_number(shape.get("rotation")) or 0.0)  # clockwise about the center
    if shape.tag == "box":
        return _box_of(shape, angle, where)
    return _ellipse_of(shape, angle, where)


def _polygon_of(shape: ElementTree.Element, where: str) -> Polygon:
    text = shape.get("points") or ""
    if text.count(",") > MOST_POINTS:
        raise ValueError(
            f"A polygon must have at most {MOST_POINTS:,} points. Received: more in {where}. "
            "Try to simplify it."
        )
    numbers = [to_number(value) for point in text.split(";") for value in point.split(",")]
    return check_polygon([np.nan if number is None else number for number in numbers], where)


def _box_of(shape: ElementTree.Element, angle: float, where: str) -> Polygon:
    """Return the corners of a box, rotated by an angle in radians, clockwise about its center."""
    x1, y1, x2, y2 = _numbers(shape, ("xtl", "ytl", "xbr", "ybr"), where)
    if x2 <= x1 or y2 <= y1:
        received = {"xtl": x1, "ytl": y1, "xbr": x2, "ybr": y2}
        raise _no_area(received, where)
    center = (x1 + x2) / 2, (y1 + y2) / 2
    return rotated(rectangle(y1, x1, y2, x2), center, angle)


def _ellipse_of(shape: ElementTree.Element, angle: float, where: str) -> Polygon:
    cx, cy, rx, ry = _numbers(shape, ("cx", "cy", "rx", "ry"), where)
    if rx <= 0 or ry <= 0:
        raise _no_area({"cx": cx, "cy": cy, "rx": rx, "ry": ry}, where)
    return ellipse(cx, cy, rx, ry, angle)


def _no_area(received: dict[str, float], where: str) -> ValueError:
    return ValueError(
        f"A shape must have a width and a height. Received: {received} in {where}. "
        "Try to draw it again, or delete it."
    )


def _numbers(shape: ElementTree.Element, names: Sequence[str], where: str) -> list[float]:
    """Return the attributes of those names as finite numbers."""
    texts = [shape.get(name) for name in names]
    numbers = [number for text in texts if (number := to_number(text)) is not None]
    if len(numbers) < len(names):
        raise ValueError(
            f"{', '.join(names)} must be finite numbers. Received: {short(texts)} in {where}. "
            "Try to draw this shape again, or delete it."
        )
    return numbers


def _mask_of(shape: ElementTree.Element, size: tuple[int, int], where: str) -> _PlacedMask:
    """Return a mask. size: (height, width) of its image.

    Raises: ValueError if it is not inside of the image, or if its runs do not fill it.
    """
    numbers = _numbers(shape, ("top", "left", "height", "width"), where)
    top, left, height, width = (int(number) for number in numbers)
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:  # not a number, or one of thousands of digits
        runs = [-1]
    is_inside = top >= 0 and left >= 0 and top + height <= size[0] and left + width <= size[1]
    is_filled = min(height, width) > 0 and min(runs) >= 0 and sum(runs) == height * width
    if not is_inside or not is_filled:
        raise ValueError(
            "A mask must lie in its image, and its runs must add up to its height x width. "
            f"Received: {height} x {width} at ({top}, {left}), runs {short(shape.get('rle'))} in "
            f"{where}. Try to draw it again, or export the task again."
        )
    return _PlacedMask(top, left, height, width, runs)


def _part_to_rle(part: Polygon | _PlacedMask, size: tuple[int, int]) -> RLE:
    """Return the RLE of a polygon, or of a mask at its place in the image."""
    if isinstance(part, list):
        return polygons_to_rle([part], size)
    values = np.arange(len(part.runs)) % 2
    patch = np.repeat(values, part.runs).reshape(part.height, part.width)
    bottom, right = part.top + part.height, part.left + part.width
    mask = np.zeros(size, bool)
    mask[part.top : bottom, part.left : right] = patch
    return encode(mask)


# --- Writing --------------------------------------------------------------------------------------


def cvat_image(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int], number: int
) -> ElementTree.Element:
    """Return the element `image` of one image with a shape for each detection.

    A shape is the exact mask, parts and holes included, or a box for box-only models. Its attribute
    "score" is ignored by CVAT unless the label has an attribute of that name.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    file_name: of the image in the task. size: (height, width) of the image. number: from 0 on.
    """
    height, width = (str(int(side)) for side in size)
    named = {"id": str(number), "name": xml_text(file_name)}
    image = ElementTree.Element("image", {**named, "width": width, "height": height})
    for i, name in enumerate(class_names_of(result, class_names)):
        tag, place = _shape_of(result, i)
        if not place:
            logger.warning("%s: left out a detection whose mask has no pixel.", file_name)
            continue
        shape = {"label": xml_text(name), "source": "auto", "occluded": "0", **place}
        element = ElementTree.SubElement(image, tag, {**shape, "z_order": "0"})
        score = ElementTree.SubElement(element, "attribute", name="score")
        score.text = f"{float(result['scores'][i]):.4f}"
    return image


def _shape_of(result: Result, i: int) -> tuple[str, dict[str, str]]:
    """Return the tag of the shape of detection `i` and its place; an empty mask has none."""
    if "masks" in result:
        return "mask", _mask_place(mask_plane(result["masks"], i) != 0)
    y1, x1, y2, x2 = box_of(result, i)
    corners = {"xtl": x1, "ytl": y1, "xbr": x2, "ybr": y2}
    return "box", {name: f"{corner:.2f}" for name, corner in corners.items()}


def _mask_place(mask: np.ndarray) -> dict[str, str]:
    """Return the runs of a mask bool `[H, W]` inside its box, row by row, and the box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return {}
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    changes = np.flatnonzero(np.diff(inside.ravel(), prepend=False))
    runs = np.diff(changes, prepend=0, append=inside.size)
    height, width = inside.shape
    sides = {"left": left, "top": top, "width": width, "height": height}
    text = ", ".join(map(str, runs.tolist()))
    return {"rle": text, **{name: str(side) for name, side in sides.items()}}


class CVATWriter(Writer):
    """Writes `cvat/`: annotations.xml, and copies of the images."""

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder / "cvat", class_names)
        self._copies = ImageCopies(self.folder)
        self._images: list[ElementTree.Element] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Copy one image and add its shapes."""
        name = self._copies.add(image).name
        number = len(self._images)
        self._images.append(cvat_image(result, self.class_names, name, size, number))

    def finish(self) -> list[Path]:
        """Write annotations.xml."""
        root = ElementTree.Element("annotations")
        ElementTree.SubElement(root, "version").text = "1.1"
        root.append(self._meta())
        root.extend(self._images)
        ElementTree.indent(root)
        path = self.folder / "annotations.xml"
        with atomic_write(str(path)) as part:
            ElementTree.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)
        return [path]

    def _meta(self) -> ElementTree.Element:
        """Return the description of the task: its size and its labels."""
        meta = ElementTree.Element("meta")
        task = ElementTree.SubElement(meta, "task")
        facts = {"name": "mrcnn detect", "size": str(len(self._images)), "mode": "annotation"}
        for name, text in facts.items():
            ElementTree.SubElement(task, name).text = text
        labels = ElementTree.SubElement(task, "labels")
        for name in self.class_names[1:]:
            label = ElementTree.SubElement(labels, "label")
            ElementTree.SubElement(label, "name").text = xml_text(name)
            ElementTree.SubElement(label, "attributes")
        return meta

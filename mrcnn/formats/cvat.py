"""Reader of CVAT's own XML, "CVAT for images 1.1": polygons, boxes, ellipses and masks.

The file is parsed when the data set is opened; pixels are read when asked for.
"""

from __future__ import annotations

import logging
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from ..data.dataset import Dataset, place_classes
from ..files.image_files import read_size
from ..files.limits import MOST_POINTS
from ..files.safe_text import clean_name
from .common import LeftOut, RLEImages, read_xml
from .polygons import Polygon, check_polygon, ellipse, polygons_to_rle, rectangle
from .rle import RLE, encode
from .values import short, to_number

logger = logging.getLogger("mrcnn")

SHAPES = ("polygon", "box", "ellipse", "mask")
WITHOUT_AREA = (
    "polyline",
    "points",
    "cuboid",
    "skeleton",
)  # a tag says something of the whole image: not counted
_ROOT = re.compile(rb"<annotations[\s>]")


class CVATDataset(RLEImages, Dataset):
    """Annotations of CVAT, exported as "CVAT for images 1.1": `annotations.xml`, and the images next to or in `images`.

    Shapes of one group and label are parts of one object, as in CVAT's COCO export. Polylines, points, cuboids and
    skeletons are left out, and a warning says how many. Images without shapes are kept as images without objects.
    """

    def __init__(
        self,
        path: str | Path,
        images_dir: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset; `image_info[i]["id"]` is the image's name in the file.

        path: the XML file, or the folder that holds annotations.xml.
        images_dir: where the images are. Default: `images` next to the file, or its folder.
        class_names: all classes, in the order of their ids. Default: the labels of the task in their order; if the
            file lists none, the labels of the shapes, sorted.
        strict: raise a ValueError at the first entry that cannot be used, instead of leaving it out.
        """
        super().__init__()
        path = _cvat_file(Path(path))
        tree = read_xml(path)
        if tree.tag != "annotations" or tree.find("track") is not None:
            kind = (
                "tracks of a video"
                if tree.tag == "annotations"
                else f"an element {short(tree.tag)}"
            )
            raise ValueError(
                f"{path} must hold the images of CVAT. Received: {kind}. "
                "Try to export the task as 'CVAT for images 1.1'."
            )
        self._left_out = LeftOut(path, strict)
        folders = (
            [Path(images_dir)] if images_dir is not None else [path.parent / "images", path.parent]
        )
        images = tree.findall("image")
        found = [
            image
            for image in (self._read_image(entry, folders, path) for entry in images)
            if image is not None
        ]
        labels = sorted({label for image in found for label in image["labels"]})
        names = list(dict.fromkeys(map(clean_name, class_names or _task_labels(tree) or labels)))
        for class_id, name in enumerate(names, start=1):
            self.add_class("cvat", class_id, name)
        ids = {label: place + 1 for label, place in place_classes(labels, names, path).items()}
        for image in found:
            self._add_image(image, ids, names)
        if not images:
            raise ValueError(f"{path} must list images. Received: no image. Try another export.")
        self._left_out.finish(self, len(images) + sum(map(len, images)), "images or shapes")
        self.prepare()

    def _read_image(
        self, entry: ElementTree.Element, folders: list[Path], path: Path
    ) -> dict | None:
        """What `add_image` takes, with the `labels` of the objects; None if the image cannot be used."""
        name = entry.get("name") or ""
        where = f"{path}, image {short(name)}"
        try:
            file = _image_file(name, entry.get("subset") or "", folders, where)
            size = read_size(file)
            if [to_number(entry.get(side)) for side in ("height", "width")] != list(size):
                raise ValueError(
                    f"The size of an image must be that of its file, {size[0]} x {size[1]} (height x width). Received: "
                    f"{entry.get('height')} x {entry.get('width')} in {where}. Try the image that was annotated."
                )
        except ValueError as error:
            self._left_out.add(error)
            return None
        labels, outlines = self._read_shapes(entry, size, where)
        return {
            "id": name,
            "path": str(file),
            "size": size,
            "where": where,
            "labels": labels,
            "outlines": outlines,
        }

    def _read_shapes(
        self, entry: ElementTree.Element, size: tuple[int, int], where: str
    ) -> tuple[list[str], list[list[Polygon | dict]]]:
        """The label and the parts of each object of an image."""
        labels, outlines, groups = [], [], {}
        for i, shape in enumerate(entry):
            if shape.tag not in SHAPES + WITHOUT_AREA:
                continue
            label, group = clean_name(shape.get("label") or ""), shape.get("group_id") or "0"
            try:
                part = _part_of(shape, label, size, f"{where}, shape {i}")
            except ValueError as error:
                self._left_out.add(error)
                continue
            if group == "0" or (label, group) not in groups:
                groups[label, group] = len(outlines)
                labels.append(label)
                outlines.append([part])
            else:
                outlines[groups[label, group]].append(part)
        return labels, outlines

    def _add_image(self, image: dict, ids: dict[str, int], names: list[str]) -> None:
        usable = []
        for label, outline in zip(image["labels"], image["outlines"], strict=True):
            if label in ids:
                usable.append((ids[label], outline))
                continue
            self._left_out.add(
                ValueError(
                    f"A label must be among {short(names, 300)}. Received: {label!r} in {image['where']}. "
                    "Try to add it to the task, or to correct the shape (in Python: class_names=)."
                )
            )
        self.add_image(
            "cvat",
            image_id=image["id"],
            path=image["path"],
            height=image["size"][0],
            width=image["size"][1],
            class_ids=[class_id for class_id, _ in usable],
            outlines=[outline for _, outline in usable],
        )

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one run-length code per object, in the order of their first shapes, and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [
            coco_mask.merge([_part_to_rle(part, size) for part in parts])
            for parts in info["outlines"]
        ]
        ids = [self.map_source_class_id(f"cvat.{class_id}") for class_id in info["class_ids"]]
        return rles, np.array(ids, np.int32)


def is_cvat(path: Path) -> bool:
    """Whether a file, or annotations.xml of a folder, is CVAT's own XML."""
    file = path / "annotations.xml" if path.is_dir() else path
    if file.suffix.lower() != ".xml" or not file.is_file():
        return False
    with file.open("rb") as content:
        return bool(_ROOT.search(content.read(4096)))


def _cvat_file(path: Path) -> Path:
    return path / "annotations.xml" if path.is_dir() else path


def _task_labels(tree: ElementTree.Element) -> list[str]:
    """The labels of the task, job or project in their order; parts of skeletons are no labels of their own."""
    labels = tree.findall("meta//labels/label")
    return [label.findtext("name") or "" for label in labels if not label.findtext("parent")]


def _image_file(name: str, subset: str, folders: list[Path], where: str) -> Path:
    """The image of that name in one of the folders, or in their sub-folder of the subset."""
    name = name.replace("\\", "/")
    places = [folder / part / name for folder in folders for part in (subset, "")]
    file = next((place for place in places if name and os.path.isfile(place)), None)
    if file is None:
        raise ValueError(
            f"Every annotated image must exist. Received: {where}, which is not in "
            f"{' or '.join(map(str, folders))}. Try to put it there, or to name its folder: --images DIR "
            "(in Python images_dir=)."
        )
    return file


def _part_of(
    shape: ElementTree.Element, label: str, size: Sequence[int], where: str
) -> Polygon | dict:
    """The polygon of a shape; of a mask its place and its runs."""
    if not label or shape.tag in WITHOUT_AREA:
        raise ValueError(
            f"A shape must have a label and an area. Received: {shape.tag} {label!r} in {where}. Try to draw this "
            "object as a polygon, or delete the shape."
        )
    if shape.tag == "polygon":
        text = shape.get("points") or ""
        if text.count(",") > MOST_POINTS:
            raise ValueError(
                f"A polygon must have at most {MOST_POINTS:,} points. Received: more in {where}. Try to simplify it."
            )
        values = [to_number(value) for point in text.split(";") for value in point.split(",")]
        return check_polygon([float("nan") if value is None else value for value in values], where)
    if shape.tag == "mask":
        return _mask_of(shape, size, where)
    names = ("xtl", "ytl", "xbr", "ybr") if shape.tag == "box" else ("cx", "cy", "rx", "ry")
    a, b, c, d = _numbers(shape, names, where)
    angle = np.deg2rad(
        to_number(shape.get("rotation") or "0") or 0.0
    )  # degrees, clockwise about the center
    if (shape.tag == "box" and (c <= a or d <= b)) or (
        shape.tag == "ellipse" and (c <= 0 or d <= 0)
    ):
        raise ValueError(
            f"A shape must have a width and a height. Received: {dict(zip(names, (a, b, c, d), strict=True))} in "
            f"{where}. Try to draw it again, or delete it."
        )
    if shape.tag == "ellipse":
        return ellipse(a, b, c, d, angle)
    if not angle:
        return rectangle(b, a, d, c)
    center = np.array([a + c, b + d]) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return ((np.reshape(rectangle(b, a, d, c), (4, 2)) - center) @ turn + center).ravel().tolist()


def _numbers(shape: ElementTree.Element, names: Sequence[str], where: str) -> list[float]:
    values = [to_number(shape.get(name)) for name in names]
    if None in values:
        raise ValueError(
            f"{', '.join(names)} must be finite numbers. Received: {short([shape.get(name) for name in names])} in "
            f"{where}. Try to draw this shape again, or delete it."
        )
    return values


def _mask_of(shape: ElementTree.Element, size: Sequence[int], where: str) -> dict:
    """Place (top, left), size and runs of a mask: row by row, starting with background."""
    numbers = _numbers(shape, ("top", "left", "height", "width"), where)
    top, left, height, width = (int(number) for number in numbers)
    try:
        runs = [int(run) for run in (shape.get("rle") or "").split(",")]
    except ValueError:  # no number, or one of thousands of digits
        runs = [-1]
    inside = (
        min(top, left) >= 0
        and min(height, width) > 0
        and top + height <= size[0]
        and left + width <= size[1]
    )
    if not inside or min(runs) < 0 or sum(runs) != height * width:
        raise ValueError(
            "A mask must lie in its image, and its runs must add up to its height x width. Received: "
            f"{height} x {width} at ({top}, {left}), runs {short(shape.get('rle'))} in {where}. "
            "Try to draw it again, or export the task again."
        )
    return {"top": top, "left": left, "height": height, "width": width, "runs": runs}


def _part_to_rle(part: Polygon | dict, size: tuple[int, int]) -> RLE:
    """The run-length code of a polygon, or of a mask at its place in the image."""
    if isinstance(part, list):
        return polygons_to_rle([part], size)
    values = np.arange(len(part["runs"])) % 2
    patch = np.repeat(values, part["runs"]).reshape(part["height"], part["width"])
    mask = np.zeros(size, bool)
    mask[part["top"] :, part["left"] :][: part["height"], : part["width"]] = patch
    return encode(mask)

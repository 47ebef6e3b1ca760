"""Readers of what annotation tools write: VGG Image Annotator and labelme; and which other tool wrote a file.

Every number is checked when the files are opened; pixels are read when asked for. Entries that cannot be used are
left out, and a warning says how many; whatever else is wrong is a ValueError that names the file and the remedy.
"""

from __future__ import annotations

import base64
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..data.dataset import Dataset, place_classes
from ..data.image import match_channels, to_uint8
from ..files.image_files import read_pixels, read_size
from ..files.limits import check_size
from ..files.safe_text import clean_name
from .polygons import (
    LONGEST_SIDE,
    RLE,
    LeftOut,
    OutlinedImages,
    Polygon,
    check_points,
    check_polygon,
    ellipse,
    encode,
    image_files,
    is_finite,
    is_side,
    polygons_to_rle,
    read_json,
    rectangle,
    short,
)

logger = logging.getLogger("mrcnn")


# --- VGG Image Annotator ------------------------------------------------------------------------------------


class VIADataset(OutlinedImages, Dataset):
    """Annotations of the VGG Image Annotator 1.x and 2.x: polygons, rectangles, circles and ellipses.

    The class of a region comes from one of its attributes. Points and open polylines have no area: they are left out,
    as are regions without a class and missing images, and a warning says how many. Images without regions are kept:
    they show what is not an object. All classes that the file uses are added in alphabetical order; give
    `class_names` if training and validation files might not use the same ones.
    """

    def __init__(
        self,
        path: str | Path,
        images_dir: str | Path | None = None,
        attribute: str | None = None,
        class_name: str = "object",
        class_names: Sequence[str] | None = None,
        data: dict | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset.

        path: the JSON file, an annotation export or a whole project, or the folder it lies in.
        images_dir: where the images are; default beside the file.
        attribute: the region attribute that names the class. Default: the one that most regions have; a warning names
            the others.
        class_name: the class of everything if regions have no attribute.
        class_names: all classes, in the order of their ids; default those in the file, sorted.
        data: the file's content if the caller has read it.
        strict: raise a ValueError at the first entry that cannot be used, instead of leaving it out.
        """
        super().__init__()
        path = _via_file(Path(path))
        images_dir = Path(images_dir) if images_dir is not None else path.parent
        entries = _via_entries(read_json(path) if data is None else data, path)
        left_out = LeftOut(path, strict)
        images = {}
        for key, entry in entries.items():
            where = f"{path}, entry {key!r}"
            try:
                images[key] = _via_image(entry, images_dir, where), _via_regions(entry, where)
            except ValueError as error:
                left_out.add(error)
        attribute = _class_attribute(
            [region for _, regions in images.values() for region in regions], attribute, path
        )
        found, total = [], len(entries)
        for key, (image, regions) in images.items():
            objects = []
            for i, region in enumerate(regions):
                where = f"{path}, entry {key!r}, region {i}"
                try:
                    name = _via_class(region, attribute, class_name, where)
                    objects.append((name, _via_polygon(region, where), where))
                except ValueError as error:
                    left_out.add(error)
            total += len(regions)
            found.append((key, image, objects))
        used = sorted({name for *_, objects in found for name, _, _ in objects})
        names = [clean_name(name) for name in class_names or used or [class_name]]
        for class_id, name in enumerate(names, start=1):
            self.add_class("via", class_id, name)
        places = place_classes(used, names, path)
        for key, image, objects in found:
            known = _keep_known(objects, places, names, left_out)
            self.add_image(
                "via",
                image_id=key,
                path=image,
                polygons=[polygon for _, polygon, _ in known],
                class_ids=[places[name] + 1 for name, _, _ in known],
            )
        left_out.finish(self, total, "images or regions")
        self.prepare()

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per region, in the file's order, and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [polygons_to_rle([polygon], size) for polygon in info["polygons"]]
        ids = [self.map_source_class_id(f"via.{class_id}") for class_id in info["class_ids"]]
        return rles, np.array(ids, np.int32)


def is_via(data: Any) -> bool:
    """Whether the content of a JSON file looks like an annotation export or a project of VIA."""
    if not isinstance(data, dict):
        return False
    if "_via_img_metadata" in data:
        return isinstance(data["_via_img_metadata"], dict)
    return any(
        isinstance(entry, dict) and {"filename", "regions"} <= set(entry) for entry in data.values()
    )


def _keep_known(
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


def _via_file(path: Path) -> Path:
    """The annotation file of a folder: via_region_data.json, or the only VIA file in it."""
    if not path.is_dir():
        return path
    if (path / "via_region_data.json").is_file():
        return path / "via_region_data.json"
    found = [p for p in sorted(path.glob("*.json")) if is_via(read_json(p))]
    if len(found) != 1:
        raise ValueError(
            f"{path} must hold via_region_data.json or one VIA file. Received: {[p.name for p in found]}. "
            "Try the path of the file itself."
        )
    return found[0]


def _via_entries(data: Any, path: Path) -> dict[str, dict]:
    """Image key -> entry, from an annotation export or from a project file."""
    if not is_via(data):
        raise ValueError(
            f"{path} must be a VIA annotation export or project. Received: {short(data)}. "
            "Try 'Export Annotations (as json)' in VIA."
        )
    return data.get("_via_img_metadata", data)


def _via_regions(entry: Any, where: str) -> list[dict]:
    """The regions of an entry as a list: VIA 1.x writes a dict of them, 2.x a list."""
    regions = entry.get("regions", []) if isinstance(entry, dict) else None
    if isinstance(regions, dict):
        regions = list(regions.values())
    if not isinstance(regions, list):
        raise ValueError(
            f"Regions must be a list or dict. Received: {short(regions)} in {where}. "
            "Try to export the annotations from VIA again."
        )
    return regions


def _is_region(region: Any) -> bool:
    """Whether an entry of "regions" can be used; region_attributes may be missing."""
    return (
        isinstance(region, dict)
        and isinstance(region.get("shape_attributes"), dict)
        and isinstance(region.get("region_attributes") or {}, dict)
    )


def _class_attribute(regions: list, attribute: str | None, path: Path) -> str | None:
    """The region attribute that names the class: the one that most regions have; None if there is none.

    Raises: ValueError if the wanted attribute is in no region.
    """
    counts = Counter(
        name
        for region in regions
        if _is_region(region)
        for name, value in (region.get("region_attributes") or {}).items()
        if value not in ("", None, {})
    )
    if attribute is not None:
        if regions and attribute not in counts:
            raise ValueError(
                f"attribute must be among those of the regions, {sorted(counts)}. Received: {attribute!r} for {path}. "
                "Try one of these."
            )
        return attribute
    names = [name for name, _ in counts.most_common()]
    if len(names) > 1:
        logger.warning(
            "Regions in %s have several attributes: %r names the class, which %d of %d regions have. Not used: %s. If "
            "another one is meant, name it: --attribute NAME (in Python: attribute=).",
            path, names[0], counts[names[0]], len(regions), short(names[1:], 300),
        )  # fmt: skip
    return names[0] if names else None


def _via_class(region: dict, attribute: str | None, class_name: str, where: str) -> str:
    """The class of a region: its attribute's value, or of a checkbox attribute the one that is ticked."""
    if not _is_region(region):
        raise ValueError(
            f"A region must have shape_attributes and region_attributes. Received: {short(region)} in {where}. "
            "Try to export the annotations from VIA again."
        )
    if attribute is None:
        return clean_name(class_name)
    value = (region.get("region_attributes") or {}).get(attribute)
    if isinstance(value, dict):
        ticked = [name for name, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else None
    name = clean_name(value) if isinstance(value, str | int) else ""
    if not name:
        raise ValueError(
            f"Every region must name one class in its attribute {attribute!r}. Received: "
            f"{short(region.get('region_attributes'))} in {where}. "
            "Try to fill it in with VIA, or another attribute."
        )
    return name


def _via_image(entry: Any, images_dir: Path, where: str) -> str:
    """The image's path: as named, else the file of that name in the folder."""
    name = entry.get("filename") if isinstance(entry, dict) else None
    found = _find_image(name, [images_dir])
    if found is None:
        raise ValueError(
            f"Every annotated image must exist. Received: {short(name)} in {where}, which is not in {images_dir}. "
            "Try to put the image there, or to name its folder: --images DIR (in Python images_dir=)."
        )
    return str(found)


def _find_image(name: Any, folders: Sequence[Path]) -> Path | None:
    """The image that a file names, with slashes of either kind: seen from a folder, else by its last part in it."""
    if not isinstance(name, str) or not name:
        return None
    name = name.replace("\\", "/")
    candidates = [folder / part for folder in folders for part in (name, name.rsplit("/", 1)[-1])]
    return next((file for file in candidates if os.path.isfile(file)), None)


def _via_polygon(region: dict, where: str) -> Polygon:
    """The outline of a region with an area, whatever its shape."""
    shape = region["shape_attributes"]

    def numbers(*names: str, default: float | None = None) -> list[float]:
        values = [shape.get(name, default) for name in names]
        if not all(is_finite(value) for value in values):
            raise ValueError(
                f"{', '.join(names)} must be finite numbers. Received: {values} in {where}. "
                "Try to draw this shape again, or delete the region."
            )
        return [float(value) for value in values]

    name = shape.get("name")
    if name in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError(
                f"A polygon must have as many all_points_x as all_points_y. Received: {short(shape)} in "
                f"{where}. Try to draw this shape again, or delete the region."
            )
        points = check_polygon(
            [value for point in zip(xs, ys, strict=True) for value in point], where
        )
        if name == "polyline" and points[:2] != points[-2:]:
            raise ValueError(
                f"A polyline must be closed, its last point the first. Received: an open one in {where}: it has no "
                "area. Try to draw this object as a polygon, or delete the region."
            )
        return points
    if name == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        if width <= 0 or height <= 0:
            raise ValueError(
                f"A rect must have a width and a height. Received: {width:g} and {height:g} in {where}. "
                "Try to draw it again, or delete the region."
            )
        return rectangle(y, x, y + height, x + width)
    if name == "circle":
        cx, cy, r = numbers("cx", "cy", "r")
        return ellipse(cx, cy, r, r)
    if name == "ellipse":
        return ellipse(*numbers("cx", "cy", "rx", "ry"), *numbers("theta", default=0.0))
    raise ValueError(
        f"A region must be a polygon, rect, circle, ellipse or closed polyline. Received: {name!r} in {where}. "
        "Try to draw this object with one of these, or delete the region."
    )


# --- labelme ------------------------------------------------------------------------------------------------

IGNORED_LABEL = "__ignore__"
WITHOUT_AREA = ("point", "points", "line", "linestrip")


class LabelmeDataset(OutlinedImages, Dataset):
    """Annotations of labelme, one JSON file an image: polygons, rectangles, circles and masks.

    Shapes of one `group_id` and label are parts of one object. Shapes labelled `__ignore__` are not used, and a log
    line counts them. Points and lines have no area: they are left out, as is whatever else cannot be used, and a
    warning says how many. If the image file is missing, the image embedded in the JSON file is used. Images of the
    folder without a JSON file are not used, and a warning says how many. All labels become classes in alphabetical
    order; give `class_names` if training and validation files might not use the same ones.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        class_names: Sequence[str] | None = None,
        images_dir: str | Path | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset; `image_info[i]["id"]` is the name of the JSON file without its suffix.

        path: a folder of JSON files (those of other programs are skipped), one such file, or a list of them.
        class_names: all classes, in the order of their ids; default the labels of the files, sorted.
        images_dir: where the images are; default where each file says.
        strict: raise a ValueError at the first entry that cannot be used, instead of leaving it out.
        """
        super().__init__()
        left_out = LeftOut(path if isinstance(path, str | Path) else "the files", strict)
        images, total = _labelme_images(path, images_dir, left_out)
        used = sorted({label for image in images for label, *_ in image["objects"]})
        names = [clean_name(name) for name in class_names or used]
        for class_id, name in enumerate(names, start=1):
            self.add_class("labelme", class_id, name)
        places = place_classes(used, names, path)
        for image in images:
            known = _keep_known(image.pop("objects"), places, names, left_out)
            self.add_image(
                "labelme",
                class_ids=[places[label] + 1 for label, _, _ in known],
                outlines=[parts for _, parts, _ in known],
                **image,
            )
        left_out.finish(self, total, "files or shapes")
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """The image of its file, uint8 [H, W, 3], or else the one embedded in the annotation file."""
        info = self.image_info[image_id]
        return _embedded_image(info["file"]) if info["embedded"] else super().load_image(image_id)

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per object, in the order of their first shapes, and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [
            coco_mask.merge([_part_to_rle(part, size) for part in parts])
            for parts in info["outlines"]
        ]
        ids = [self.map_source_class_id(f"labelme.{class_id}") for class_id in info["class_ids"]]
        return rles, np.array(ids, np.int32)


def is_labelme(data: Any) -> bool:
    """Whether the content of a JSON file looks like labelme's."""
    return (
        isinstance(data, dict)
        and isinstance(data.get("shapes"), list)
        and bool({"imagePath", "imageData"} & set(data))
    )


def _labelme_images(
    path: str | Path | Sequence[str | Path], images_dir: str | Path | None, left_out: LeftOut
) -> tuple[list[dict], int]:
    """One dict an image, with its objects, and the number of files and shapes; logs what was not used."""
    folder = Path(path) if isinstance(path, str | Path) and Path(path).is_dir() else None
    if folder is not None:
        files = sorted(folder.glob("*.json"))
    else:
        files = [Path(file) for file in ([path] if isinstance(path, str | Path) else path)]
    images, skipped, ignored, shapes = [], [], 0, 0
    for file in files:
        try:
            data = read_json(file)
            if is_labelme(data):
                shapes += len(data["shapes"])
                images.append(_labelme_image(data, file, images_dir, left_out))
                ignored += images[-1].pop("ignored")
                continue
        except ValueError as error:
            left_out.add(error)
            continue
        if folder is None:
            raise ValueError(
                f"{file} must be a labelme file: a list named shapes, and imagePath. Received: {short(data)}. "
                "Try to save it with labelme again."
            )
        skipped.append(file.name)
    if not images and not left_out.sentences:
        raise ValueError(
            f"{path} must hold labelme files (.json). Received: none. Try the folder where they are."
        )
    if skipped:
        logger.warning(
            "Skipped %d JSON files in %s that are not labelme's: %s",
            len(skipped),
            path,
            short(skipped),
        )
    if ignored:
        logger.info("%d shapes labelled %s are not used.", ignored, IGNORED_LABEL)
    if folder is not None:
        _warn_of_bare_images(folder, {image["path"] for image in images})
    return images, len(files) - len(skipped) + shapes


def _warn_of_bare_images(folder: Path, used: set[str]) -> None:
    """Say how many images of a folder have no labelme file."""
    bare = [image for image in image_files(folder)
            if str(image) not in used and not image.with_suffix(".json").is_file()]  # fmt: skip
    if bare:
        logger.warning(
            "%d images in %s have no labelme file and are not used, %s for one. To train on them as images without "
            "objects, save them in labelme.",
            len(bare), folder, bare[0].name,
        )  # fmt: skip


def _labelme_image(
    data: dict, file: Path, images_dir: str | Path | None, left_out: LeftOut
) -> dict:
    """What `add_image` takes, with `objects`, (label, parts, where) each, and the number of `ignored` shapes."""
    path, embedded = _labelme_picture(data, file, images_dir)
    size = _embedded_size(data, file) if embedded else read_size(path)
    check_size(*size, str(file))
    told = [int(side) if isinstance(side, float) and side.is_integer() else side
            for side in (data.get("imageHeight"), data.get("imageWidth"))]  # fmt: skip
    if not all(is_side(side) for side in told) or None not in told and tuple(told) != tuple(size):
        raise ValueError(
            f"imageHeight and imageWidth must be whole numbers, those of the image: {size[0]} and {size[1]}. Received: "
            f"{short(told)} in {file}. Try the image that was annotated, or to save the file with labelme again."
        )
    objects, places, ignored = [], {}, 0
    for i, shape in enumerate(data["shapes"]):
        where = f"{file}, shape {i}"
        try:
            label, group = _labelme_label(shape, where)
            if label == IGNORED_LABEL:
                ignored += 1
                continue
            part = _labelme_part(
                shape, shape.get("shape_type") or "polygon", where
            )  # the first versions drew no other
        except ValueError as error:
            left_out.add(error)
            continue
        if group is None or (label, group) not in places:
            places[label, group] = len(objects)
            objects.append((label, [part], where))
        else:
            objects[places[label, group]][1].append(part)
    return {
        "image_id": file.stem,
        "path": path,
        "embedded": embedded,
        "height": int(size[0]),
        "width": int(size[1]),
        "file": str(file),
        "objects": objects,
        "ignored": ignored,
    }


def _labelme_label(shape: Any, where: str) -> tuple[str, int | str | None]:
    """The label and the group of a shape."""
    if (
        not isinstance(shape, dict)
        or not isinstance(shape.get("label"), str)
        or not clean_name(shape["label"])
    ):
        raise ValueError(
            f"A shape must have a label. Received: {short(shape)} in {where}. Try to label it, or delete it."
        )
    group = shape.get("group_id")
    if not isinstance(group, int | str | None) and not (
        isinstance(group, float) and group.is_integer()
    ):
        raise ValueError(
            f"A group_id must be a whole number or null. Received: {short(shape['group_id'])} in {where}. "
            "Try to correct it in labelme."
        )
    return clean_name(shape["label"]), group


def _labelme_part(shape: dict, kind: Any, where: str) -> Polygon | dict:
    """The outline of a shape; of a mask its place and its still packed pixels."""
    points = shape.get("points")
    if kind in (
        "polygon",
        "oriented_rectangle",
        "rotation",
    ):  # the last is X-AnyLabeling's word: four corners
        return check_polygon(check_points(points, where), where)
    if kind in WITHOUT_AREA:
        raise ValueError(
            f"A shape must have an area. Received: a {kind} in {where}. Try to draw this object as a polygon."
        )
    if kind == "rectangle":
        corners = check_points(points, where, least=2)
        xs, ys = corners[::2], corners[1::2]
        if min(xs) == max(xs) or min(ys) == max(ys):
            raise ValueError(
                f"A rectangle must have a width and a height. Received: {short(points)} in {where}. "
                "Try to draw it again, or delete the shape."
            )
        return rectangle(min(ys), min(xs), max(ys), max(xs))
    if kind == "circle":
        cx, cy, x, y = check_points(points, where, least=2)[:4]
        radius = math.hypot(x - cx, y - cy)
        if not math.isfinite(radius):
            raise ValueError(
                f"A circle must have a finite radius. Received: {short(points)} in {where}. Try to draw it again."
            )
        return ellipse(cx, cy, radius, radius)
    if kind == "mask":
        x, y = check_points(points, where, least=2)[:2]
        _check_mask(shape.get("mask"), where)
        return {"x": x, "y": y, "mask": shape.get("mask"), "where": where}
    raise ValueError(
        f"A shape must be a polygon, rectangle, oriented_rectangle, circle or mask. Received: {short(kind)} in "
        f"{where}. Try to draw this object with one of these, or delete the shape."
    )


def _check_mask(mask: Any, where: str) -> None:
    """Raise a ValueError unless a mask is a PNG in base64 by its header, of a size that can be read."""
    try:
        read_size(base64.b64decode(mask))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A mask must be a PNG in base64. Received: {short(mask)} in {where}. "
            "Try to draw this object again, or delete the shape."
        ) from error


def _part_to_rle(part: Polygon | dict, size: tuple[int, int]) -> RLE:
    """The run-length code of a polygon, or of a mask that lies at its place in the image."""
    if isinstance(part, list):
        return polygons_to_rle([part], size)
    patch = _unpack_mask(part)
    height, width = size
    # What lies outside of the image is cut off on all four sides.
    y, x = (round(min(max(part[key], -LONGEST_SIDE), LONGEST_SIDE)) for key in ("y", "x"))
    patch = patch[max(0, -y) :, max(0, -x) :][
        : max(0, height - max(0, y)), : max(0, width - max(0, x))
    ]
    mask = np.zeros(size, bool)
    mask[max(0, y) :, max(0, x) :][: patch.shape[0], : patch.shape[1]] = patch
    return encode(mask)


def _unpack_mask(part: dict) -> np.ndarray:
    """bool [h, w] from the PNG that a shape of type mask holds."""
    try:
        pixels = read_pixels(base64.b64decode(part["mask"]), name=part["where"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A mask must be a PNG in base64. Received: {short(part['mask'])} in {part['where']}. "
            "Try to draw this object again, or delete the shape."
        ) from error
    return pixels > 0 if pixels.ndim == 2 else np.any(pixels[:, :, :3] > 0, axis=2)


def _labelme_picture(data: dict, file: Path, images_dir: str | Path | None) -> tuple[str, bool]:
    """The image's path, and whether the embedded image stands in for it."""
    name = data.get("imagePath")
    path = _find_image(name, [file.parent] if images_dir is None else [Path(images_dir)])
    if path is not None and path.suffix.lower() != ".json":  # some files name themselves
        return str(path), False
    if not isinstance(data.get("imageData"), str) or not data["imageData"]:
        raise ValueError(
            f"Every annotated image must exist, or be embedded as imageData. Received: imagePath {short(name)} in "
            f"{file}. Try to put the image there, to correct imagePath, or to name the folder of the image: "
            "--images DIR (in Python images_dir=)."
        )
    return str(file.parent / name if isinstance(name, str) and name else file), True


def _embedded_size(data: dict, file: Path) -> tuple[int, int]:
    """(height, width) of the upright image in imageData, by its header."""
    try:
        return read_size(base64.b64decode(data["imageData"]))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"imageData must hold an image. Received: {type(error).__name__}: {error} in {file}. "
            "Try to put the image file next to it, or to save it with labelme again."
        ) from error


def _embedded_image(file: str) -> np.ndarray:
    """uint8 [H, W, 3] from imageData of an annotation file."""
    data = read_json(Path(file))
    try:
        pixels = read_pixels(base64.b64decode(data["imageData"]), "imageData", name=file)
        return match_channels(to_uint8(pixels, name=file), 3, file)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"imageData must hold an image. Received: {type(error).__name__}: {error} in {file}. "
            "Try to put the image file next to it, or to save it with labelme again."
        ) from error


# --- Files of other tools -----------------------------------------------------------------------------------

# Names in the object that a JSON file holds, or in the entries of its list; the tool that writes them; what to do.
FOREIGN_OBJECTS = (
    (
        {"imgHeight", "imgWidth", "objects"},
        "Cityscapes",
        "the images of its json2instanceImg.py as masks/",
    ),
    (
        {"project", "config", "attribute", "file", "metadata"},
        "VIA 3",
        "its export to COCO, or VIA 2",
    ),
    ({"type", "features"}, "GeoJSON (QuPath, a map)", "an export of masks or of COCO instances"),
    ({"size", "objects", "tags"}, "Supervisely", "its export to COCO or Pascal VOC"),
    ({"classes", "tags"}, "Supervisely (meta.json)", "its export to COCO or Pascal VOC"),
    ({"info", "categories", "items"}, "Datumaro", "its export to COCO instances"),
    ({"label_classes", "images"}, "Hasty", "its export to COCO"),
    (
        {"class_names", "min_confidence", "images"},
        "mrcnn detect",
        "coco.json of `mrcnn detect --format coco`",
    ),
)
FOREIGN_LISTS = (
    ({"data", "annotations"}, "Label Studio", "its export 'COCO' or 'YOLO with images'"),
    ({"data", "completions"}, "Label Studio", "its export 'COCO' or 'YOLO with images'"),
    ({"data_row", "projects"}, "Labelbox", "its converter labelbox2coco"),
    (
        {"image_id", "category_id", "score"},
        "COCO results",
        "a file of annotations: these are detections",
    ),
    ({"image", "annotations"}, "CreateML", "an export to COCO"),
    ({"name", "labels"}, "BDD100K (Scalabel)", "its converter to COCO"),
)
FOREIGN_NAMES = (
    ("leftImg8bit", *FOREIGN_OBJECTS[0][1:]),
    ("gtFine", *FOREIGN_OBJECTS[0][1:]),
    ("*.geojson", *FOREIGN_OBJECTS[2][1:]),
    (
        "*.tfrecord",
        "TensorFlow's Object Detection API",
        "the annotations that the records were made of",
    ),
    ("*.csv", "a table", "an export to COCO, Pascal VOC, YOLO, labelme or VIA's JSON"),
)


def foreign_tool(data: Any) -> str | None:
    """Which other tool wrote the content of a JSON file, and what to export instead; None if that is not known."""
    tables, names = FOREIGN_OBJECTS, data
    if isinstance(data, list) and data and isinstance(data[0], dict):
        tables, names = FOREIGN_LISTS, data[0]
    if not isinstance(names, dict):
        return None
    found = next(((tool, remedy) for keys, tool, remedy in tables if keys <= set(names)), None)
    return None if found is None else f"a file of {found[0]}, which is not read. Try {found[1]}"


def foreign_files(path: Path) -> str | None:
    """The same by the name of a file, or by the names in a folder."""
    entries = list(path.iterdir()) if path.is_dir() else [path]
    for pattern, tool, remedy in FOREIGN_NAMES:
        entry = next((entry for entry in entries if entry.match(pattern)), None)
        if entry is not None:
            return f"{entry.name}, of {tool}, which is not read. Try {remedy}"
    return None

"""Readers of what annotation tools write: VGG Image Annotator and labelme.

Every number is checked when the files are opened; pixels are touched when asked for. Whatever is wrong is a
ValueError that names the file, the entry and the remedy.
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

from .dataset import Dataset
from .image import match_channels, to_uint8
from .image_files import read_pixels
from .outlines import (
    LONGEST_SIDE,
    RLE,
    OutlinedImages,
    Polygon,
    check_points,
    check_polygon,
    ellipse,
    encode,
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

    The class of a region comes from one of its attributes. Images without regions are kept: they show what
    is not an object. All classes that the file uses are added in alphabetical order; give `class_names`
    where training and validation files might not use the same ones.
    """

    def __init__(
        self,
        path: str | Path,
        images_dir: str | Path | None = None,
        attribute: str | None = None,
        class_name: str = "object",
        class_names: Sequence[str] | None = None,
        data: dict | None = None,
    ):
        """A prepared dataset.

        path: the JSON file, an annotation export or a whole project, or the folder it lies in.
        images_dir: where the images are; default beside the file.
        attribute: the region attribute that names the class; default the only one there is.
        class_name: the class of everything when regions have no attribute.
        class_names: all classes, in the order of their ids; default those in the file, sorted.
        data: the file's content where the caller has read it.
        """
        super().__init__()
        path = _via_file(Path(path))
        images_dir = Path(images_dir) if images_dir is not None else path.parent
        entries = _via_entries(read_json(path) if data is None else data, path)
        regions = {key: _via_regions(entry, f"{path}, entry {key!r}") for key, entry in entries.items()}
        attribute = attribute or _only_attribute(regions, path)
        classes = {
            key: [_via_class(r, attribute, class_name, f"{path}, entry {key!r}, region {i}")
                  for i, r in enumerate(rs)]
            for key, rs in regions.items()
        }  # fmt: skip
        names = list(class_names or sorted({c for cs in classes.values() for c in cs}) or [class_name])
        for class_id, name in enumerate(names, start=1):
            self.add_class("via", class_id, name)
        for key, entry in entries.items():
            where = f"{path}, entry {key!r}"
            for name in classes[key]:
                if name not in names:
                    raise ValueError(
                        f"Every class must be among {names}. Received: {name!r} in {where}. "
                        "Try to add it to class_names, or correct the region."
                    )
            self.add_image(
                "via",
                image_id=key,
                path=_via_image(entry, images_dir, where),
                polygons=[_via_polygon(r, f"{where}, region {i}") for i, r in enumerate(regions[key])],
                class_ids=[names.index(name) + 1 for name in classes[key]],
            )
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
    entries = data.get("_via_img_metadata", data)
    if not isinstance(entries, dict) or not ("_via_img_metadata" in data or entries):
        return False
    return all(isinstance(entry, dict) and {"filename", "regions"} <= set(entry) for entry in entries.values())


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
    if not isinstance(regions, list) or not all(_is_region(region) for region in regions):
        raise ValueError(
            "Regions must be a list or dict of entries with shape_attributes and region_attributes. "
            f"Received: {short(regions)} in {where}. Try to export the annotations from VIA again."
        )
    return regions


def _is_region(region: Any) -> bool:
    """Whether an entry of "regions" can be used; region_attributes may be missing."""
    return (
        isinstance(region, dict)
        and isinstance(region.get("shape_attributes"), dict)
        and isinstance(region.get("region_attributes") or {}, dict)
    )


def _only_attribute(regions: dict[str, list[dict]], path: Path) -> str | None:
    """The one region attribute that has values, or None when there is none."""
    names = sorted(
        {
            name
            for rs in regions.values()
            for r in rs
            for name, value in (r.get("region_attributes") or {}).items()
            if value not in ("", None, {})
        }
    )
    if len(names) > 1:
        raise ValueError(
            f"One region attribute must name the class. Received: {names} in {path}. "
            f"Try a copy of the file with one of them (in Python: attribute={names[0]!r})."
        )
    return names[0] if names else None


def _via_class(region: dict, attribute: str | None, class_name: str, where: str) -> str:
    """The class of a region: its attribute's value, or of a checkbox attribute the one that is ticked."""
    if attribute is None:
        return class_name
    value = (region.get("region_attributes") or {}).get(attribute)
    if isinstance(value, dict):
        ticked = [name for name, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else None
    if not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(
            f"Every region must name one class in its attribute {attribute!r}. Received: "
            f"{short(region.get('region_attributes'))} in {where}. "
            "Try to fill it in with VIA, or another attribute."
        )
    return str(value).strip()


def _via_image(entry: dict, images_dir: Path, where: str) -> str:
    name = entry.get("filename")
    if not isinstance(name, str) or not os.path.isfile(images_dir / name):
        raise ValueError(
            f"Every annotated image must exist. Received: {name!r} in {where}, which is not in {images_dir}. "
            "Try to put the image there, or to remove the entry (in Python: images_dir=)."
        )
    return str(images_dir / name)


def _via_polygon(region: dict, where: str) -> Polygon:
    """The outline of a region, whatever its shape."""
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
        return check_polygon([value for point in zip(xs, ys, strict=True) for value in point], where)
    if name == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return rectangle(y, x, y + height, x + width)
    if name == "circle":
        cx, cy, r = numbers("cx", "cy", "r")
        return ellipse(cx, cy, r, r)
    if name == "ellipse":
        return ellipse(*numbers("cx", "cy", "rx", "ry"), *numbers("theta", default=0.0))
    raise ValueError(
        f"A region must be a polygon, polyline, rect, circle or ellipse. Received: {name!r} in {where}. "
        "Try to draw this object with one of these, or delete the region."
    )


# --- labelme ------------------------------------------------------------------------------------------------

IGNORED_LABEL = "__ignore__"
WITHOUT_AREA = ("point", "points", "line", "linestrip")


class LabelmeDataset(OutlinedImages, Dataset):
    """Annotations of labelme, one JSON file an image: polygons, rectangles, circles and masks.

    Shapes of one `group_id` and label are parts of one object. Shapes labelled `__ignore__`, and those without
    area (points and lines), are left out, and a warning says how many. Where the image file is missing, the image
    embedded in the JSON file is used. All labels become classes in alphabetical order; give `class_names` where
    training and validation files might not use the same ones.
    """

    def __init__(self, path: str | Path | Sequence[str | Path], class_names: Sequence[str] | None = None):
        """A prepared dataset; `image_info[i]["id"]` is the name of the JSON file without its suffix.

        path: a folder of JSON files (those of other programs are skipped), one such file, or a list of them.
        class_names: all classes, in the order of their ids; default the labels of the files, sorted.
        """
        super().__init__()
        images = _labelme_images(path)
        names = list(class_names or sorted({label for image in images for label in image["labels"]}))
        for class_id, name in enumerate(names, start=1):
            self.add_class("labelme", class_id, name)
        for image in images:
            labels = image.pop("labels")
            for label in labels:
                if label not in names:
                    raise ValueError(
                        f"Every label must be among {names}. Received: {label!r} in {image['file']}. "
                        "Try to add it to class_names, or correct the shape."
                    )
            self.add_image("labelme", class_ids=[names.index(label) + 1 for label in labels], **image)
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """The image of its file, uint8 [H, W, 3], or else the one embedded in the annotation file."""
        info = self.image_info[image_id]
        return _embedded_image(info["file"]) if info["embedded"] else super().load_image(image_id)

    def image_size(self, image_id: int) -> tuple[int, int]:
        """(height, width) by the annotation file, else by the image; then remembered."""
        info = self.image_info[image_id]
        if info["embedded"] and not (info["height"] and info["width"]):
            info["height"], info["width"] = _embedded_image(info["file"]).shape[:2]
        return super().image_size(image_id)

    def load_outlines(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per object, in the order of their first shapes, and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [coco_mask.merge([_part_to_rle(part, size) for part in parts]) for parts in info["outlines"]]
        ids = [self.map_source_class_id(f"labelme.{class_id}") for class_id in info["class_ids"]]
        return rles, np.array(ids, np.int32)


def is_labelme(data: Any) -> bool:
    """Whether the content of a JSON file looks like labelme's."""
    return (
        isinstance(data, dict) and isinstance(data.get("shapes"), list) and bool({"imagePath", "imageData"} & set(data))
    )


def _labelme_images(path: str | Path | Sequence[str | Path]) -> list[dict]:
    """One dict an image, with labels and outlines of its objects; logs what was left out."""
    if isinstance(path, str | Path):
        folder = Path(path)
        files = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
    else:
        folder, files = None, [Path(file) for file in path]
    images, skipped, left_out = [], [], Counter()
    for file in files:
        data = read_json(file)
        if is_labelme(data):
            images.append(_labelme_image(data, file, left_out))
        elif folder is not None and folder.is_dir():
            skipped.append(file.name)
        else:
            raise ValueError(
                f"{file} must be a labelme file: a list named shapes, and imagePath. Received: {short(data)}. "
                "Try to save it with labelme again."
            )
    if not images:
        raise ValueError(f"{path} must hold labelme files (.json). Received: none. Try the folder where they are.")
    if skipped:
        logger.warning("Skipped %d JSON files in %s that are not labelme's: %s", len(skipped), path, short(skipped))
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        logger.warning("Left out of %s, as shapes to ignore or without area: %s", short(str(path)), kinds)
    return images


def _labelme_image(data: dict, file: Path, left_out: Counter) -> dict:
    """What `add_image` takes, and the label of each object."""
    sides = [data.get("imageHeight"), data.get("imageWidth")]
    if not all(is_side(side) for side in sides):
        raise ValueError(
            f"imageHeight and imageWidth must be whole numbers. Received: {short(sides)} in {file}. "
            "Try to save the file with labelme again."
        )
    path, embedded = _labelme_picture(data, file)
    labels, outlines, places = [], [], {}
    for i, shape in enumerate(data["shapes"]):
        where = f"{file}, shape {i}"
        label, group = _labelme_label(shape, where)
        kind = shape.get("shape_type") or "polygon"  # the first versions drew nothing else
        if label == IGNORED_LABEL or kind in WITHOUT_AREA:
            left_out[IGNORED_LABEL if label == IGNORED_LABEL else kind] += 1
            continue
        part = _labelme_part(shape, kind, where)
        if group is None or (label, group) not in places:
            places[label, group] = len(outlines)
            labels.append(label)
            outlines.append([part])
        else:
            outlines[places[label, group]].append(part)
    return {
        "image_id": file.stem,
        "path": path,
        "embedded": embedded,
        "height": sides[0],
        "width": sides[1],
        "file": str(file),
        "labels": labels,
        "outlines": outlines,
    }


def _labelme_label(shape: Any, where: str) -> tuple[str, int | str | None]:
    """The label and the group of a shape."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise ValueError(
            f"A shape must have a label. Received: {short(shape)} in {where}. Try to label it, or delete it."
        )
    if not isinstance(shape.get("group_id"), int | str | None):
        raise ValueError(
            f"A group_id must be a whole number or null. Received: {short(shape['group_id'])} in {where}. "
            "Try to correct it in labelme."
        )
    return shape["label"].strip(), shape.get("group_id")


def _labelme_part(shape: dict, kind: Any, where: str) -> Polygon | dict:
    """The outline of a shape; of a mask its place and its still packed pixels."""
    points = shape.get("points")
    if kind == "polygon":
        return check_polygon(check_points(points, where), where)
    if kind == "rectangle":
        corners = check_points(points, where, least=2)
        xs, ys = corners[::2], corners[1::2]
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
        return {"x": x, "y": y, "mask": shape.get("mask"), "where": where}
    raise ValueError(
        f"A shape must be a polygon, rectangle, circle or mask. Received: {short(kind)} in {where}. "
        "Try to draw this object with one of these, or delete the shape."
    )


def _part_to_rle(part: Polygon | dict, size: tuple[int, int]) -> RLE:
    """The run-length code of a polygon, or of a mask that lies at its place in the image."""
    if isinstance(part, list):
        return polygons_to_rle([part], size)
    patch = _unpack_mask(part)
    height, width = size
    # What lies outside of the image is cut off on all four sides.
    y, x = (round(min(max(part[key], -LONGEST_SIDE), LONGEST_SIDE)) for key in ("y", "x"))
    patch = patch[max(0, -y) :, max(0, -x) :][: max(0, height - max(0, y)), : max(0, width - max(0, x))]
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


def _labelme_picture(data: dict, file: Path) -> tuple[str, bool]:
    """The image's path, which may have slashes of either kind, and whether the embedded image stands in for it."""
    name = data.get("imagePath")
    path = file.parent / name.replace("\\", "/") if isinstance(name, str) and name else None
    if path is not None and os.path.isfile(path):
        return str(path), False
    if not isinstance(data.get("imageData"), str) or not data["imageData"]:
        raise ValueError(
            f"Every annotated image must exist, or be embedded as imageData. Received: imagePath {short(name)} in "
            f"{file}. Try to put the image there, or to correct imagePath."
        )
    return str(path or file), True


def _embedded_image(file: str) -> np.ndarray:
    """uint8 [H, W, 3] from imageData of an annotation file."""
    data = read_json(Path(file))
    try:
        pixels = read_pixels(base64.b64decode(data["imageData"]), "imageData", name=file)
        return match_channels(to_uint8(pixels, name=file), 3, file)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"imageData must hold an image. Received: {type(error).__name__}: {error} in {file}. "
            "Try to put the image file beside it, or to save it with labelme again."
        ) from error

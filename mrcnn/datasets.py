"""Datasets ready to train from what annotation tools write: one class a format, and `open_dataset` for any.

Every reader checks the numbers of an annotation file when it opens it and touches no pixels then; images and
masks are read when asked for. Whatever is wrong is a ValueError that names the file, the entry and the
remedy. Coordinates follow COCO: (0, 0) is the top left corner of the first pixel, and what lies beyond the
border of the image is cut off.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .dataset import Dataset
from .image import read_size

logger = logging.getLogger("mrcnn")

# Masks read from files are kept, a bit a pixel, up to this many bytes.
PACKED_BYTES = 2**28
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
LONGEST_SIDE = 100_000  # pixels; a larger height or width in an annotation file is taken for damage
Polygon = list[float]  # x1, y1, x2, y2, ... in pixels


class _FileDataset(Dataset):
    """A dataset whose images are files."""

    def image_reference(self, image_id: int) -> str:
        """The image's path, and the id that its annotations give it."""
        info = self.image_info[image_id]
        return f"{info['path']}, id {info['id']}"


# --- Made data ----------------------------------------------------------------------------------------------


class ShapesDataset(Dataset):
    """Pictures of squares, circles and triangles, drawn on the fly: the data of `mrcnn demo`.

    Each picture has a noisy background and one to four shapes of 12 to 64 px in colours that stand out from
    the background and from each other. Shapes may overlap: the upper one takes its pixels from the masks
    below. A shape that would hide more than three tenths of another is not drawn at all (the original's sample
    allowed boxes to overlap as much), so everything in a picture can be recognised. A picture depends on (seed,
    image_id) only: different seeds are disjoint sets.
    """

    CLASSES = ("square", "circle", "triangle")
    SIDES = (12, 64)  # smallest and largest side, pixels
    MOST_SHAPES = 4
    LEAST_VISIBLE = 0.7  # of a shape's own pixels
    LEAST_CONTRAST = 40.0  # CIELAB distance of two colours; about 2 is the least an eye tells apart
    NOISE = 12.0  # standard deviation of the background, in grey levels

    def __init__(self, count: int, size: tuple[int, int] = (128, 128), seed: int = 0):
        """A prepared dataset of made pictures.

        count: number of pictures. size: (height, width), pixels, at least 12 each. seed: names the set.
        """
        super().__init__()
        if min(size) < self.SIDES[0]:
            raise ValueError(
                f"size must be at least {self.SIDES[0]} pixels each way. Received: {size}. Try (128, 128)."
            )
        self.size, self.seed = (int(size[0]), int(size[1])), int(seed)
        for class_id, name in enumerate(self.CLASSES, start=1):
            self.add_class("shapes", class_id, name)
        for i in range(count):
            self.add_image("shapes", image_id=i, path=None, height=self.size[0], width=self.size[1])
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """The picture, uint8 [H, W, 3]."""
        masks, _, (background, *colors), rng = self._scene(image_id)
        noise = rng.normal(0, self.NOISE, (*self.size, 3))
        image = np.clip(background + noise, 0, 255).astype(np.uint8)
        for mask, color in zip(masks, colors, strict=True):
            image[mask] = color
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The visible part of each shape, bool [H, W, N], and class ids, int32 [N]."""
        masks, class_ids, _, _ = self._scene(image_id)
        return np.stack(masks, axis=-1), np.array(class_ids, np.int32)

    def image_reference(self, image_id: int) -> str:
        """Which picture it is, in words."""
        return f"shapes, seed {self.seed}, picture {image_id}"

    def _scene(self, image_id: int) -> tuple[list, list, list, np.random.Generator]:
        """Visible masks, class ids, colours (the background's first), and the generator for the noise."""
        rng = np.random.default_rng([self.seed, int(image_id)])
        colors = [rng.integers(0, 256, 3)]
        whole, visible, class_ids = [], [], []
        for _ in range(rng.integers(1, self.MOST_SHAPES + 1)):
            class_id = int(rng.integers(1, len(self.CLASSES) + 1))
            shape = self._shape(rng, self.CLASSES[class_id - 1])
            below = [mask & ~shape for mask in visible]
            left = [now.sum() / full.sum() for now, full in zip(below, whole, strict=True)]
            if left and min(left) < self.LEAST_VISIBLE:
                continue
            colors.append(self._standout_color(rng, colors))
            whole, visible, class_ids = [*whole, shape], [*below, shape], [*class_ids, class_id]
        return visible, class_ids, colors, rng

    def _shape(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """The mask of one shape at a random place, wholly inside the picture."""
        height, width = self.size
        side = int(rng.integers(self.SIDES[0], min(self.SIDES[1], height, width) + 1))
        y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        mask = np.zeros(self.size, np.uint8)
        if name == "square":
            mask[y : y + side, x : x + side] = 1
        elif name == "circle":
            rows, columns = np.ogrid[:side, :side]
            middle = (side - 1) / 2
            inside = (rows - middle) ** 2 + (columns - middle) ** 2 <= (side / 2) ** 2
            mask[y : y + side, x : x + side] = inside
        else:
            corners = [(x, y + side - 1), (x + side - 1, y + side - 1), (x + (side - 1) // 2, y)]
            cv2.fillPoly(mask, [np.array(corners)], 1)
        return mask.astype(bool)

    def _standout_color(self, rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
        """A random colour that an eye tells from each of the others, uint8 [3]."""
        while True:  # five colours leave most of the colour space free: a few tries
            color = rng.integers(0, 256, 3)
            lab = cv2.cvtColor(np.float32([[color, *others]]) / 255, cv2.COLOR_RGB2LAB)[0]
            if np.linalg.norm(lab[1:] - lab[0], axis=1).min() >= self.LEAST_CONTRAST:
                return color


# --- One mask file per instance -----------------------------------------------------------------------------


class MaskFolderDataset(_FileDataset):
    """A folder an image, a mask file an object: `<id>/images/*.png` and `<id>/masks/*.png`, one class.

    The layout of the 2018 Data Science Bowl (nuclei). A mask file is nonzero inside the object. An image
    without a `masks` folder counts as an image without objects, and a warning says how many there are.
    """

    def __init__(self, folder: str | Path, class_name: str = "object"):
        """A prepared dataset.

        folder: holds one sub-folder per image. class_name: what every object is.
        """
        super().__init__()
        self._packed: dict[int, tuple] = {}  # a hundred mask files an image are slow to read in every epoch
        self._packed_bytes = 0
        folder = Path(folder)
        self.add_class("masks", 1, class_name)
        bare = 0
        for entry in _image_folders(folder):
            images = _image_files(entry / "images")
            if len(images) != 1:
                raise ValueError(
                    f"{entry / 'images'} must hold exactly one image. Received: {[p.name for p in images]}. "
                    "Try to remove this folder, or the files that do not belong to it."
                )
            bare += not (entry / "masks").is_dir()
            self.add_image("masks", image_id=entry.name, path=str(images[0]), masks=str(entry / "masks"))
        if not self.image_info:
            raise ValueError(
                f"{folder} must hold folders of the form <id>/images/*.png and <id>/masks/*.png. "
                f"Received: {_listing(folder)}. Try the folder above or below it."
            )
        if bare:
            logger.warning("%d of %d images in %s have no masks folder: taken as images without objects.",
                           bare, len(self.image_info), folder)  # fmt: skip
        self.prepare()

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per file, by file name: bool [H, W, N], and class ids, int32 [N]."""
        info = self.image_info[image_id]
        if image_id in self._packed:
            bits, shape = self._packed[image_id]
            masks = np.unpackbits(bits, count=np.prod(shape)).reshape(shape).view(bool)
            return np.moveaxis(masks, 0, -1), np.ones(len(masks), np.int32)
        files = _image_files(Path(info["masks"]))
        height, width = _image_size(info)
        masks = np.zeros((len(files), height, width), bool)
        for i, file in enumerate(files):
            mask = _read_mask(file)
            if mask.shape != (height, width):
                raise ValueError(
                    f"A mask must be as large as its image. Received: {file} of {mask.shape} and "
                    f"{info['path']} of {(height, width)} (height, width). Try to export the mask again."
                )
            masks[i] = mask
        if self._packed_bytes < PACKED_BYTES:
            self._packed[image_id] = np.packbits(masks), masks.shape
            self._packed_bytes += masks.size // 8
        return np.moveaxis(masks, 0, -1), np.ones(len(files), np.int32)


def _image_folders(folder: Path) -> list[Path]:
    """The sub-folders that look like `<id>/images`, by name."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if (entry / "images").is_dir()]


def _image_files(folder: Path) -> list[Path]:
    """The image files of a folder by name; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != ".")


def _read_mask(file: Path) -> np.ndarray:
    """bool [H, W]: where any colour channel of a mask file is nonzero (alpha is not a colour)."""
    mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise ValueError(f"A mask file must be a readable image. Received: {file}. Try to export it again.")
    return mask > 0 if mask.ndim == 2 else np.any(mask[:, :, :3] > 0, axis=2)


# --- Polygons and run-length codes --------------------------------------------------------------------------


def _decode(rles: list[dict], size: tuple[int, int]) -> np.ndarray:
    """bool [H, W, N] from N compressed run-length codes."""
    if not rles:
        return np.zeros((*size, 0), bool)
    return coco_mask.decode(rles).astype(bool)


def _polygons_to_rle(polygons: list[Polygon], size: tuple[int, int]) -> dict:
    """One compressed run-length code of all parts of an object, cut at the border of the image."""
    height, width = size
    parts = []
    for polygon in polygons:
        points = np.asarray(polygon, float).reshape(-1, 2)
        # Wild coordinates would have pycocotools walk along kilometres of edge: bring them near first.
        reach = np.array([width, height])
        parts.append(np.clip(points, -reach, 2 * reach).ravel().tolist())
    return coco_mask.merge(coco_mask.frPyObjects(parts, height, width))


def _check_polygon(points: Any, where: str) -> Polygon:
    """A flat list of at least three finite points, or a ValueError that says where they stand."""
    try:
        flat = np.asarray(points, dtype=float)
    except (TypeError, ValueError, OverflowError):
        flat = np.array([math.nan])
    if flat.ndim != 1 or not np.isfinite(flat).all():
        raise ValueError(
            f"Coordinates must be finite numbers. Received: {_short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    if len(flat) % 2 or len(flat) < 6:
        raise ValueError(
            f"A polygon must have at least 3 points, x and y for each. Received: {len(flat)} numbers in "
            f"{where}. Try to draw this shape again, or delete the entry."
        )
    return flat.tolist()


def _image_size(info: dict) -> tuple[int, int]:
    """(height, width) of an image by its annotations, else by the image file's header; then remembered."""
    if not info.get("height") or not info.get("width"):
        info["height"], info["width"] = read_size(info["path"])
    return int(info["height"]), int(info["width"])


def _short(value: Any, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else text[:length] + "..."


# --- VGG Image Annotator ------------------------------------------------------------------------------------


class VIADataset(_FileDataset):
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
        entries = _via_entries(_read_json(path) if data is None else data, path)
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

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per region, in the file's order: bool [H, W, N], and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = _image_size(info)
        masks = _decode([_polygons_to_rle([polygon], size) for polygon in info["polygons"]], size)
        ids = [self.map_source_class_id(f"via.{class_id}") for class_id in info["class_ids"]]
        return masks, np.array(ids, np.int32)


def _via_file(path: Path) -> Path:
    """The annotation file of a folder: via_region_data.json, or the only VIA file in it."""
    if not path.is_dir():
        return path
    if (path / "via_region_data.json").is_file():
        return path / "via_region_data.json"
    found = [p for p in sorted(path.glob("*.json")) if _kind_of_json(_read_json(p)) == "via"]
    if len(found) != 1:
        raise ValueError(
            f"{path} must hold via_region_data.json or one VIA file. Received: {[p.name for p in found]}. "
            "Try the path of the file itself."
        )
    return found[0]


def _via_entries(data: Any, path: Path) -> dict[str, dict]:
    """Image key -> entry, from an annotation export or from a project file."""
    if _kind_of_json(data) != "via":
        raise ValueError(
            f"{path} must be a VIA annotation export or project. Received: {_short(data)}. "
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
            f"Received: {_short(regions)} in {where}. Try to export the annotations from VIA again."
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
            f"Try attribute={names[0]!r}, or another of them."
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
            f"{_short(region.get('region_attributes'))} in {where}. "
            "Try to fill it in with VIA, or another attribute."
        )
    return str(value).strip()


def _via_image(entry: dict, images_dir: Path, where: str) -> str:
    name = entry.get("filename")
    if not isinstance(name, str) or not (images_dir / name).is_file():
        raise ValueError(
            f"Every annotated image must exist. Received: {name!r} in {where}, which is not in {images_dir}. "
            "Try images_dir=, put the image there, or remove the entry."
        )
    return str(images_dir / name)


def _via_polygon(region: dict, where: str) -> Polygon:
    """The outline of a region, whatever its shape."""
    shape = region["shape_attributes"]

    def numbers(*names: str, default: float | None = None) -> list[float]:
        values = [shape.get(name, default) for name in names]
        if not all(isinstance(v, int | float) and abs(v) <= sys.float_info.max for v in values):
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
                f"A polygon must have as many all_points_x as all_points_y. Received: {_short(shape)} in "
                f"{where}. Try to draw this shape again, or delete the region."
            )
        return _check_polygon([value for point in zip(xs, ys, strict=True) for value in point], where)
    if name == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return [x, y, x + width, y, x + width, y + height, x, y + height]
    if name == "circle":
        cx, cy, r = numbers("cx", "cy", "r")
        return _ellipse(cx, cy, r, r, 0.0)
    if name == "ellipse":
        return _ellipse(*numbers("cx", "cy", "rx", "ry"), *numbers("theta", default=0.0))
    raise ValueError(
        f"A region must be a polygon, polyline, rect, circle or ellipse. Received: {name!r} in {where}. "
        "Try to draw this object with one of these, or delete the region."
    )


def _ellipse(cx: float, cy: float, rx: float, ry: float, theta: float) -> Polygon:
    """A polygon of 100 points along an ellipse; theta turns it, radians, clockwise on the screen."""
    t = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    along, across = rx * np.cos(t), ry * np.sin(t)
    x = cx + along * np.cos(theta) - across * np.sin(theta)
    y = cy + along * np.sin(theta) + across * np.cos(theta)
    return np.stack([x, y], axis=-1).ravel().tolist()


# --- COCO ---------------------------------------------------------------------------------------------------


class CocoDataset(_FileDataset):
    """COCO instances JSON: polygons of several parts, run-length codes of both kinds, and crowds.

    Category ids may be any numbers: `map_source_class_id("coco.18")` and `get_source_class_id(id, "coco")`
    translate.
    Crowds get a negative class id. Images without annotations are kept: they show what is not an object.
    """

    def __init__(
        self,
        json_path: str | Path,
        images_dir: str | Path | None = None,
        class_ids: Iterable[int] | None = None,
        data: dict | None = None,
    ):
        """A prepared dataset.

        json_path: the instances file. `info` and `licenses` may be missing.
        images_dir: where the images are; default beside the file, or for `instances_<subset><year>.json` the
            folder `../<subset><year>`.
        class_ids: COCO category ids to keep; default all. All images are kept in either case.
        data: the file's content where the caller has read it.
        """
        super().__init__()
        path = Path(json_path)
        data = _read_json(path) if data is None else data
        if _kind_of_json(data) != "coco":
            raise ValueError(
                f"{path} must be a COCO instances file: lists named images, annotations and categories. "
                f"Received: {_short(data)}. Try an instances_*.json file."
            )
        self._add_categories(data["categories"], class_ids, path)
        annotations = self._by_image(data, path)
        images_dir = Path(images_dir) if images_dir is not None else _coco_images_dir(path, data["images"])
        missing = []
        for image in data["images"]:
            file = images_dir / image["file_name"]
            if not file.is_file():
                missing.append(file)
            self.add_image(
                "coco",
                image_id=image["id"],
                path=str(file),
                height=image.get("height"),
                width=image.get("width"),
                annotations=annotations[image["id"]],
                file=str(path),
            )
        if missing:
            logger.warning("%d of %d images that %s lists are missing, %s for one. Try images_dir=.",
                           len(missing), len(data["images"]), path, missing[0])  # fmt: skip
        self.prepare()

    def _add_categories(self, categories: list[dict], class_ids: Iterable[int] | None, path: Path) -> None:
        names = {}
        for i, category in enumerate(categories):
            if not isinstance(category, dict) or "name" not in category or not _is_whole(category.get("id")):
                raise ValueError(
                    f"A category must have a whole number as id, and a name. Received: {_short(category)} in "
                    f"{path}, category {i}. Try to export the annotations again."
                )
            names[category["id"]] = str(category["name"])
        unknown = sorted(set(class_ids or ()) - set(names))
        if unknown:
            raise ValueError(
                f"class_ids must be category ids of {path}. Received: {unknown}. Try some of {_short(names, 400)}."
            )
        self._known = set(names)
        for category_id in sorted(names if class_ids is None else set(class_ids)):
            self.add_class("coco", category_id, names[category_id])

    def _by_image(self, data: dict, path: Path) -> dict[Any, list[dict]]:
        """Image id -> its annotations, checked, of the chosen classes."""
        chosen = {info["id"] for info in self.class_info if info["source"] == "coco"}
        sizes = {}
        for i, image in enumerate(data["images"]):
            if not _is_image(image):
                raise ValueError(
                    f"An image must have an id, a file_name, and whole numbers as height and width. "
                    f"Received: {_short(image)} in {path}, image {i}. Try to export the annotations again."
                )
            if image["id"] in sizes:
                raise ValueError(
                    f"Image ids must be unique. Received: {image['id']!r} a second time in {path}, "
                    f"image {i}. Try to renumber the images of one of the files that were merged."
                )
            sizes[image["id"]] = (image.get("height"), image.get("width"))
        found: dict[Any, list[dict]] = {image_id: [] for image_id in sizes}
        for i, annotation in enumerate(data["annotations"]):
            annotation_id = annotation.get("id", i) if isinstance(annotation, dict) else i
            where = f"{path}, annotation {annotation_id}"
            _check_annotation(annotation, sizes, self._known, where)
            if annotation["category_id"] in chosen:
                found[annotation["image_id"]].append(annotation)
        return found

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """One mask per annotation, in the file's order: bool [H, W, N], and class ids, int32 [N].

        Crowds have negative class ids.
        """
        info = self.image_info[image_id]
        size = _image_size(info)
        rles, ids = [], []
        for annotation in info["annotations"]:
            rles.append(_segmentation_to_rle(annotation, size, info["file"]))
            class_id = self.map_source_class_id(f"coco.{annotation['category_id']}")
            ids.append(-class_id if annotation.get("iscrowd") else class_id)
        return _decode(rles, size), np.array(ids, np.int32)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_among(value: Any, known: Iterable[Any]) -> bool:
    return isinstance(value, int | str) and value in known


def _is_side(value: Any) -> bool:
    return value is None or _is_whole(value) and 0 < value <= LONGEST_SIDE


def _is_image(image: Any) -> bool:
    """Whether an entry of "images" can be used; height and width may be missing."""
    return (
        isinstance(image, dict)
        and isinstance(image.get("file_name"), str)
        and isinstance(image.get("id"), int | str)
        and all(_is_side(image.get(key)) for key in ("height", "width"))
    )


def _check_annotation(annotation: Any, sizes: dict, categories: set[int], where: str) -> None:
    """Raise a ValueError for an annotation that cannot be drawn; looks at its numbers only."""
    if not isinstance(annotation, dict) or not _is_among(annotation.get("image_id"), sizes):
        raise ValueError(
            f"An annotation must belong to an image of the file. Received: {_short(annotation)} as {where}. "
            "Try to remove the annotation, or to add the image."
        )
    if not _is_among(annotation.get("category_id"), categories):
        raise ValueError(
            f"A category_id must be among the file's categories. Received: "
            f"{_short(annotation.get('category_id'))} in {where}. "
            "Try to add the category, or to remove the annotation."
        )
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        for polygon in segmentation:
            _check_polygon(polygon, where)
    elif isinstance(segmentation, dict):
        _check_rle(segmentation, sizes[annotation["image_id"]], where)
    else:
        raise ValueError(
            f"An annotation must have a segmentation: polygons or a run-length code. Received: "
            f"{_short(segmentation)} in {where}. Try to annotate the object's outline, or remove the entry."
        )


def _check_rle(rle: dict, size: tuple[int | None, int | None], where: str) -> None:
    """Raise a ValueError for a run-length code whose size is not its image's, or that makes no sense."""
    shape, counts = rle.get("size"), rle.get("counts")
    if not isinstance(shape, list) or len(shape) != 2 or not all(_is_whole(side) for side in shape):
        shape = None
    if shape is None or not isinstance(counts, str | list) or (None not in size and tuple(shape) != size):
        raise ValueError(
            f"A run-length code must have counts, and the size {list(size)} (height, width) of its image. "
            f"Received: size {_short(rle.get('size'))} in {where}. "
            "Try to export the annotation again for the image as it is now."
        )
    if isinstance(counts, list):
        _check_runs(counts, shape, where)


def _check_runs(runs: list, shape: Sequence[int], where: str) -> None:
    """Raise a ValueError unless the runs fill the image: pycocotools reads stray memory otherwise."""
    if not all(_is_whole(run) and run >= 0 for run in runs) or sum(runs) != math.prod(shape):
        raise ValueError(
            "The counts of a run-length code must be whole numbers that add up to height x width = "
            f"{math.prod(shape)}. Received: {_short(runs)} in {where}. Try to export the annotation again."
        )


def _segmentation_to_rle(annotation: dict, size: tuple[int, int], file: str) -> dict:
    """A compressed run-length code of the image's size, whichever way the object is stored."""
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        return _polygons_to_rle(segmentation, size)
    where = f"{file}, annotation {annotation.get('id')}"
    _check_rle(segmentation, size, where)
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, *size)
    _check_runs(_run_lengths(segmentation["counts"]), size, where)
    return segmentation


def _run_lengths(counts: str) -> list[int]:
    """The runs of a compressed code: five bits a character, from the fourth run on as differences (COCO)."""
    runs, value, shift = [], 0, 0
    for character in counts.encode():
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last character of this number; its highest bit is the sign
            value -= (bits & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _coco_images_dir(path: Path, images: list[dict]) -> Path:
    """The first of the usual places that holds the first image of the file; else the most likely of them."""
    subset = re.fullmatch(r"instances_(.+)", path.stem)
    beside = [path.parent, path.parent / "images"]
    usual = [path.parent.parent / subset[1], path.parent / subset[1], *beside] if subset else beside
    return next((p for p in usual if images and (p / images[0]["file_name"]).is_file()), usual[0])


# --- Recognising a format -----------------------------------------------------------------------------------

UNDERSTOOD = """\
Understood are:
  the word shapes                     made pictures of squares, circles and triangles
  a COCO instances file (.json)       or a folder that holds one, or annotations/instances_*.json
  a VGG Image Annotator file (.json)  or a folder that holds one beside its images
  a folder of <id>/images/*.png and <id>/masks/*.png, one mask file per object"""


def open_dataset(path: str | Path, **options: Any) -> Dataset:
    """A prepared dataset from whatever lies at `path`, recognised by its content.

    path: the word "shapes", an annotation file, or a folder.
    options: handed to the reader: `ShapesDataset` (count, default 500), `CocoDataset`, `VIADataset` or
        `MaskFolderDataset`.

    Raises: ValueError that lists what was found and what is understood.
    """
    if str(path) == "shapes":
        return ShapesDataset(**{"count": 500, **options})
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"DATA must exist. Received: {path}. {UNDERSTOOD}")
    if path.is_dir() and _image_folders(path):
        return MaskFolderDataset(path, **options)
    readers = {"coco": CocoDataset, "via": VIADataset}
    files = [path] if path.is_file() else _json_files(path)
    found = []  # only contents that are recognised stay in memory
    for file in files:
        if file.is_dir() or file.suffix.lower() != ".json":
            continue
        data = _read_json(file)
        if _kind_of_json(data) in readers:
            found.append((file, data))
        if len(found) > 1:
            raise ValueError(
                f"{path} must hold one annotation file. Received: {', '.join(p.name for p, _ in found)}, "
                "perhaps "
                "more. Try the path of the file itself."
            )
    if not found:
        raise ValueError(f"{path} must hold a known format. Received: {_listing(path)}. {UNDERSTOOD}")
    file, data = found[0]
    return readers[_kind_of_json(data)](file, data=data, **options)


def _json_files(folder: Path) -> list[Path]:
    """The annotation files to look at in a folder: VIA's usual one, else all, else those in COCO's place."""
    if (folder / "via_region_data.json").is_file():
        return [folder / "via_region_data.json"]
    return sorted(folder.glob("*.json")) or sorted((folder / "annotations").glob("instances_*.json"))


def _kind_of_json(data: Any) -> str | None:
    """ "coco", "via" or None, by what a JSON file's content looks like."""
    if not isinstance(data, dict):
        return None
    if all(isinstance(data.get(key), list) for key in ("images", "annotations", "categories")):
        return "coco"
    entries = data.get("_via_img_metadata", data)
    if isinstance(entries, dict) and ("_via_img_metadata" in data or entries):
        keys = {"filename", "regions"}
        return "via" if all(isinstance(e, dict) and keys <= set(e) for e in entries.values()) else None
    return None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} must be a readable file. Received: {error}. Try another path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"{path} must be complete JSON. Received: a file that breaks off or is damaged ({error}). "
            "Try to export or download it again."
        ) from error


def _listing(path: Path) -> str:
    """What lies in a folder, shortly, and a hint when its sub-folders are the sets themselves."""
    if not path.is_dir():
        return f"a file {path.name}" if path.exists() else "nothing: it does not exist"
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    listing = ", ".join(names[:10]) + more or "an empty folder"
    sets = [name for name in names if name in ("train/", "val/", "test/")]
    return listing + (f" (name one of {', '.join(sets)} to use it)" if sets else "")

"""VGG Image Annotator's JSON files: reader and writer.

The reader checks every number when it opens the file and reads pixels on demand. It skips entries
that cannot be used and logs one warning with their number; any other fault is a ValueError that
names the file and the remedy.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import place_classes
from ..files.safe_text import clean_name
from .polygons import Polygon, check_polygon, ellipse, join_rings, polygons_to_rle, rectangle
from .reading import (
    AnnotatedObject,
    RLEImages,
    SkippedEntries,
    find_image,
    keep_known,
    read_json,
)
from .rle import RLE
from .values import is_finite, short
from .writing import Result, Writer, detections_of, relative_path, write_json

logger = logging.getLogger("mrcnn")


class VIADataset(RLEImages):
    """Annotations of VIA 1.x and 2.x: polygons, rectangles, circles and ellipses.

    One attribute of the regions names the class. Points and open polylines have no area: they are
    skipped, as are regions without a class and missing images, and a warning counts them. Images
    without regions are kept: they show the background. All classes of the file are added in
    alphabetical order; give `class_names` if training and validation files may use different ones.
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

        path: the JSON file, an annotation export or a project, or the folder that contains it.
        images_dir: the folder of the images; default the folder of the file.
        attribute: the region attribute that names the class. Default: the one that most regions
            have; a warning names the others.
        class_name: the class of every object if regions have no attribute.
        class_names: all classes, in the order of their ids; default those in the file, sorted.
        data: the content of the file, if it has been read.
        strict: raise a ValueError at the first entry that cannot be used, instead of skipping it.
        """
        super().__init__()
        path = _find_via_file(Path(path))
        folder = path.parent if images_dir is None else Path(images_dir)
        entries = _entries(read_json(path) if data is None else data, path)
        skipped = SkippedEntries(path, strict)
        images = _read_images(entries, folder, path, skipped)
        all_regions = [region for _, regions in images.values() for region in regions]
        attribute = _class_attribute(all_regions, attribute, path)
        found = {}
        for key, (image, regions) in images.items():
            where = f"{path}, entry {key!r}"
            found[key] = image, _read_regions(regions, attribute, class_name, where, skipped)
        if attribute is None and all_regions and class_name == "object" and not class_names:
            logger.info(
                "%s: no region has an attribute that names its class, so every object is an "
                "'object'. To name it: --class-name NAME (in Python: class_name=), or an attribute "
                "of the regions in VIA.",
                path,
            )
        used = sorted({each.class_name for _, objects in found.values() for each in objects})
        names = [clean_name(name) for name in class_names or used or [class_name]]
        for class_id, name in enumerate(names, start=1):
            self.add_class("via", class_id, name)
        places = place_classes(used, names, path)
        for key, (image, objects) in found.items():
            known = keep_known(objects, places, names, skipped)
            self.add_image(
                "via",
                image_id=key,
                path=image,
                file=str(path),
                polygons=[polygon for each in known for polygon in each.parts],
                class_ids=[places[each.class_name] + 1 for each in known],
            )
        skipped.finish(self, len(entries) + len(all_regions), "images or regions")
        self.prepare()

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one RLE per region, in the order of the file, and class ids, int32 `[N]`."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [polygons_to_rle([polygon], size) for polygon in info["polygons"]]
        return rles, self.map_class_ids("via", info["class_ids"])


def is_via(data: Any) -> bool:
    """Return whether the content of a JSON file has the form of VIA's export or project."""
    if not isinstance(data, dict):
        return False
    if "_via_img_metadata" in data:
        return isinstance(data["_via_img_metadata"], dict)
    return any(
        isinstance(entry, dict) and {"filename", "regions"} <= set(entry) for entry in data.values()
    )


def _find_via_file(path: Path) -> Path:
    """Return the annotation file of a folder: via_region_data.json, or its only VIA file."""
    if not path.is_dir():
        return path
    if (path / "via_region_data.json").is_file():
        return path / "via_region_data.json"
    found = [file for file in sorted(path.glob("*.json")) if is_via(read_json(file))]
    if len(found) != 1:
        raise ValueError(
            f"{path} must contain via_region_data.json or one VIA file. "
            f"Received: {[file.name for file in found]}. Try the path of the file itself."
        )
    return found[0]


def _entries(data: Any, path: Path) -> dict[str, Any]:
    """Return image key -> entry of an annotation export or a project."""
    if not is_via(data):
        raise ValueError(
            f"{path} must be a VIA annotation export or project. Received: {short(data)}. "
            "Try 'Export Annotations (as json)' in VIA."
        )
    return data.get("_via_img_metadata", data)


# --- Images and regions ---------------------------------------------------------------------------


def _read_images(
    entries: dict[str, Any], folder: Path, path: Path, skipped: SkippedEntries
) -> dict[str, tuple[str, list]]:
    """Return image key -> path of the image, and its regions as in the file."""
    images = {}
    for key, entry in entries.items():
        where = f"{path}, entry {key!r}"
        try:
            images[key] = _find_image_of(entry, folder, where), _regions_of(entry, where)
        except ValueError as error:
            skipped.add(error)
    return images


def _find_image_of(entry: Any, folder: Path, where: str) -> str:
    """Return the path of an entry's image."""
    name = entry.get("filename") if isinstance(entry, dict) else None
    found = find_image(name, folder)
    if found is None:
        raise ValueError(
            f"Every annotated image must exist. Received: {short(name)} in {where}, which is not "
            f"in {folder}. Try to put the image there, or to name its folder: --images DIR "
            "(in Python images_dir=)."
        )
    return str(found)


def _regions_of(entry: Any, where: str) -> list[Any]:
    """Return the regions of an entry as a list: VIA 1.x writes a dict of them, 2.x a list."""
    regions = entry.get("regions", []) if isinstance(entry, dict) else None
    if isinstance(regions, dict):
        regions = list(regions.values())
    if not isinstance(regions, list):
        raise ValueError(
            f"Regions must be a list or dict. Received: {short(regions)} in {where}. "
            "Try to export the annotations from VIA again."
        )
    return regions


def _read_regions(
    regions: list, attribute: str | None, class_name: str, where: str, skipped: SkippedEntries
) -> list[AnnotatedObject]:
    """Return the usable regions of an image as objects."""
    objects = []
    for i, region in enumerate(regions):
        place = f"{where}, region {i}"
        try:
            name = _class_of(region, attribute, class_name, place)
            polygon = _polygon_of(region["shape_attributes"], place)
        except ValueError as error:
            skipped.add(error)
            continue
        objects.append(AnnotatedObject(name, [polygon], place))
    return objects


# --- Classes --------------------------------------------------------------------------------------


def _is_region(region: Any) -> bool:
    """Return whether an entry of "regions" can be used; region_attributes may be missing."""
    return (
        isinstance(region, dict)
        and isinstance(region.get("shape_attributes"), dict)
        and isinstance(region.get("region_attributes") or {}, dict)
    )


def _class_attribute(regions: list, attribute: str | None, path: Path) -> str | None:
    """Return the region attribute that names the class; None if there is no attribute.

    attribute: the wanted one; default the one that most regions have.

    Raises: ValueError if no region has the wanted attribute.
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
                f"attribute must be among those of the regions, {sorted(counts)}. "
                f"Received: {attribute!r} for {path}. Try one of these."
            )
        return attribute
    names = [name for name, _ in counts.most_common()]
    if len(names) > 1:
        logger.warning(
            "Regions in %s have several attributes: %r names the class, which %d of %d regions "
            "have. Not used: %s. If another one is meant, name it: --attribute NAME (in Python: "
            "attribute=).",
            path, names[0], counts[names[0]], len(regions), short(names[1:], 300),
        )  # fmt: skip
    return names[0] if names else None


def _class_of(region: Any, attribute: str | None, class_name: str, where: str) -> str:
    """Return the class of a region: the attribute's value, of a checkbox the ticked one."""
    if not _is_region(region):
        raise ValueError(
            "A region must have shape_attributes and region_attributes. "
            f"Received: {short(region)} in {where}. Try to export the annotations from VIA again."
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


# --- Shapes ---------------------------------------------------------------------------------------


def _polygon_of(shape: dict, where: str) -> Polygon:
    """Return the polygon of a region's shape_attributes, whatever the shape."""
    name = shape.get("name")
    if name in ("polygon", "polyline"):
        return _points_of(shape, where)
    if name == "rect":
        x, y, width, height = _numbers(shape, ("x", "y", "width", "height"), where)
        if width <= 0 or height <= 0:
            raise ValueError(
                f"A rect must have a width and a height. Received: {width:g} and {height:g} in "
                f"{where}. Try to draw it again, or delete the region."
            )
        return rectangle(y, x, y + height, x + width)
    if name == "circle":
        cx, cy, r = _numbers(shape, ("cx", "cy", "r"), where)
        return ellipse(cx, cy, r, r)
    if name == "ellipse":
        cx, cy, rx, ry = _numbers(shape, ("cx", "cy", "rx", "ry"), where)
        (theta,) = _numbers({"theta": 0.0, **shape}, ("theta",), where)
        return ellipse(cx, cy, rx, ry, theta)
    raise ValueError(
        "A region must be a polygon, rect, circle, ellipse or closed polyline. "
        f"Received: {name!r} in {where}. "
        "Try to draw this object with one of these, or delete the region."
    )


def _points_of(shape: dict, where: str) -> Polygon:
    """Return the points of a polygon or a closed polyline."""
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise ValueError(
            "A polygon must have as many all_points_x as all_points_y. "
            f"Received: {short(shape)} in {where}. "
            "Try to draw this shape again, or delete the region."
        )
    flat = [value for point in zip(xs, ys, strict=True) for value in point]
    points = check_polygon(flat, where)
    if shape["name"] == "polyline" and points[:2] != points[-2:]:
        raise ValueError(
            "A polyline must be closed, its last point the first. "
            f"Received: an open one in {where}: it has no area. "
            "Try to draw this object as a polygon, or delete the region."
        )
    return points


def _numbers(shape: dict, names: Sequence[str], where: str) -> list[float]:
    values: list[Any] = [shape.get(name) for name in names]
    if not all(is_finite(value) for value in values):
        raise ValueError(
            f"{', '.join(names)} must be finite numbers. Received: {values} in {where}. "
            "Try to draw this shape again, or delete the region."
        )
    return [float(value) for value in values]


# --- Writing --------------------------------------------------------------------------------------


def via_entry(
    result: Result, class_names: Sequence[str], file_name: str, file_bytes: int = -1
) -> dict[str, dict]:
    """Return the entry of one image in a VIA 2.x file: {key: entry}.

    Each detection is one polygon region, its parts and holes joined by bridges (`join_rings`), or a
    rect for box-only models. The region attribute "class" names the class; the score, 0 to 1, is
    the region's "score".

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    file_name: of the image, relative to VIA's folder.
    file_bytes: size of the image file, -1 if unknown; VIA makes its key of name and size.
    """
    regions = []
    for detection in detections_of(result, class_names, file_name):
        rings = [ring for part in detection.parts for ring in part]
        xs, ys = join_rings(rings).T.tolist()
        if "masks" in result:
            shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
        else:
            size = {"width": round(xs[2] - xs[0], 2), "height": round(ys[2] - ys[0], 2)}
            shape = {"name": "rect", "x": xs[0], "y": ys[0], **size}
        regions.append(
            {
                "shape_attributes": shape,
                "region_attributes": {"class": detection.class_name},
                "score": detection.score,
            }
        )
    entry = {
        "filename": str(file_name),
        "size": file_bytes,
        "regions": regions,
        "file_attributes": {},
    }
    return {f"{file_name}{file_bytes}": entry}


class VIAWriter(Writer):
    """Writes `via.json`: an annotation export of all images."""

    file_name = "via.json"

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder, class_names)
        self._entries: dict[str, dict] = {}

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image."""
        file_bytes = image.stat().st_size if image.is_file() else -1
        name = relative_path(image, self.folder)
        self._entries |= via_entry(result, self.class_names, name, file_bytes)

    def finish(self) -> list[Path]:
        """Write the file."""
        path = self.folder / self.file_name
        write_json(path, self._entries)
        return [path]

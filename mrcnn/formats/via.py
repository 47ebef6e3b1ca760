"""VGG Image Annotator's files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import (
    Dataset,
    place_classes,
)
from ..files.safe_text import clean_name
from .common import LeftOut, RLEImages, find_image, keep_known, read_json
from .polygons import Polygon, check_polygon, ellipse, one_outline, polygons_to_rle, rectangle
from .results import Result, found_in
from .rle import RLE
from .values import is_finite, short

logger = logging.getLogger("mrcnn")


class VIADataset(RLEImages, Dataset):
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
            known = keep_known(objects, places, names, left_out)
            self.add_image(
                "via",
                image_id=key,
                path=image,
                polygons=[polygon for _, polygon, _ in known],
                class_ids=[places[name] + 1 for name, _, _ in known],
            )
        left_out.finish(self, total, "images or regions")
        self.prepare()

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
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
    found = find_image(name, [images_dir])
    if found is None:
        raise ValueError(
            f"Every annotated image must exist. Received: {short(name)} in {where}, which is not in {images_dir}. "
            "Try to put the image there, or to name its folder: --images DIR (in Python images_dir=)."
        )
    return str(found)


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


def via_entry(
    result: Result, class_names: Sequence[str], file_name: str, file_bytes: int = -1
) -> dict[str, dict]:
    """The entry of one image in a VGG Image Annotator 2.x file: {key: entry}.

    result, class_names: as for `labelme`. file_name: of the image, seen from VIA's folder.
    file_bytes: size of the image file; VIA makes its key of name and size, -1 where it is not known.

    Returns: one polygon region a detection, its parts and holes joined by bridges (`one_outline`). The class stands
        in the region attribute "class"; the score, a number between 0 and 1, in the region's "score" beside it.
        Detections of box-only models are rectangles.
    """
    regions = []
    for _, name, score, parts in found_in(result, class_names, file_name):
        xs, ys = one_outline([ring for part in parts for ring in part]).T.tolist()
        shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
        if "masks" not in result:
            shape = {
                "name": "rect",
                "x": xs[0],
                "y": ys[0],
                "width": xs[2] - xs[0],
                "height": ys[2] - ys[0],
            }
        regions.append(
            {"shape_attributes": shape, "region_attributes": {"class": name}, "score": score}
        )
    entry = {
        "filename": str(file_name),
        "size": file_bytes,
        "regions": regions,
        "file_attributes": {},
    }
    return {f"{file_name}{file_bytes}": entry}

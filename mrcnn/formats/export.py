"""What `MaskRCNN.detect` found, in the files of other tools.

`Export` writes the results of many images, a line of code each; the functions below it make the content for one.
Masks become outlines along the *corners* of their pixels: (0, 0) is the top left corner of the first pixel, x goes
right and y goes down, the convention of COCO and of every reader of this package. So no rim is lost: an outline
filled by COCO's rule (`pycocotools`, and with it our readers) is the mask again, pixel for pixel.

Thousands of masks are kept as run-length codes: `evaluate.mask_to_rle` makes one, `pycocotools.mask.decode` reads it,
and `evaluate.coco_results` does it for a whole result.
"""

from __future__ import annotations

import csv
import filecmp
import json
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from ..evaluation.evaluate import coco_results
from ..files.atomic import atomic_write, short_name
from ..files.limits import csv_cell

log = logging.getLogger("mrcnn")

FORMATS = ("coco", "labelme", "via", "geojson", "csv", "yolo", "png")
CSV_COLUMNS = ("image", "class", "score", "x1", "y1", "x2", "y2", "box_area", "mask_area")
LABELME_VERSION = "5.5.0"  # the newest whose form this is; labelme reads every 5.x file

Ring = np.ndarray  # [K, (x, y)] int pixel corners, closed without repeating the first
Result = dict[str, np.ndarray]  # as detect() returns for one image


# --- Outlines -----------------------------------------------------------------------------------------------


def mask_outlines(mask: np.ndarray) -> list[list[Ring]]:
    """The parts of a mask, each as its outer ring and then its holes: exactly along the corners of its pixels.

    Parts are connected by the sides of pixels, so every ring is simple; rings may touch in a corner.

    mask: [H, W], nonzero inside.

    Returns: one list a part: [outer ring, *holes], each ring [K, (x, y)] int. None for an empty mask.
    """
    mask = np.asarray(mask).astype(bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return []
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    parts = []
    for label in range(1, count):
        x, y, width, height = (int(side) for side in boxes[label, :4])
        part = labels[y : y + height, x : x + width] == label
        parts.append([ring + (left + x, top + y) for ring in _rings(part)])
    return parts


def _rings(part: np.ndarray) -> list[Ring]:
    """The outer ring of one connected part, and its holes."""
    # OpenCV runs through the centres of the outermost pixels. Magnified twice, every corner has a pixel of its own
    # on the inside: pixel u of the larger mask stands for the corner (u + 1) // 2.
    large = cv2.resize(part.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0, :, 3]
    order = np.argsort(parents >= 0, kind="stable")  # the outer ring has no parent
    return [_corners(contours[i][:, 0, :]) for i in order]


def _corners(contour: np.ndarray) -> Ring:
    """The corners in which a contour of the magnified mask turns."""
    points = (contour + 1) // 2
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def one_outline(rings: Sequence[Ring]) -> Ring:
    """All rings as one closed line, for formats that know neither holes nor parts.

    Each ring is reached over a bridge of no width, walked there and back. What fills an outline by counting crossings
    (COCO, matplotlib, most tools) sees no bridge; what also paints the line itself shows it one pixel wide.

    rings: at least one, [K, (x, y)] each. Returns: [K, (x, y)].
    """
    line = rings[0]
    for ring in rings[1:]:
        at = int(np.argmin(np.abs(line - ring[0]).sum(axis=1)))
        line = np.concatenate([line[: at + 1], ring, ring[:1], line[at:]])
    return line


def _outlines(result: Result) -> list[list[list[Ring]]]:
    """The parts of every detection; of box-only models the box."""
    if "masks" in result:
        masks = np.moveaxis(np.asarray(result["masks"]), 2, 0) if len(result["scores"]) else []
        return [mask_outlines(mask) for mask in masks]
    corners = [
        (x1, y1, x2, y1, x2, y2, x1, y2)
        for y1, x1, y2, x2 in np.asarray(result["rois"]).reshape(-1, 4)
    ]
    return [[[np.array(corner).reshape(4, 2)]] for corner in corners]


def _found(
    result: Result, class_names: Sequence[str], where: str
) -> list[tuple[int, str, float, list[list[Ring]]]]:
    """(index, class name, score, parts) of the detections that have an outline; says how many have none."""
    names = _names(result, class_names)
    parts = _outlines(result)
    empty = sum(not part for part in parts)
    if empty:
        log.warning("%s: %d detections have a mask without pixels: left out.", where, empty)
    return [(i, names[i], float(result["scores"][i]), part) for i, part in enumerate(parts) if part]


def _names(result: Result, class_names: Sequence[str]) -> list[str]:
    unknown = sorted({int(i) for i in result["class_ids"] if not 0 <= i < len(class_names)})
    if unknown:
        raise ValueError(
            f"class_ids must be positions in class_names, 0 to {len(class_names) - 1}. Received: {unknown} with "
            f"{list(class_names)}. Try dataset.class_names, whose first name is the background's."
        )
    return [class_names[int(i)] for i in result["class_ids"]]


# --- One image ----------------------------------------------------------------------------------------------


def labelme(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int]
) -> dict:
    """The content of the labelme file of one image.

    result: what `MaskRCNN.detect` returns for the image. class_names: by class id, background first.
    file_name: of the image, seen from the folder of the labelme file. size: (height, width) of the image.

    Returns: a dict for JSON. Shapes carry the score; the parts of a detection share a group_id; holes are joined
        to the outline by a bridge (`one_outline`). Detections of box-only models are rectangles.
    """
    is_box = "masks" not in result
    shapes = []
    for i, name, score, parts in _found(result, class_names, file_name):
        for part in parts:
            shape = {
                "label": name,
                "points": (part[0][[0, 2]] if is_box else one_outline(part)).astype(float).tolist(),
                "group_id": i if len(parts) > 1 else None,
                "description": "",
                "shape_type": "rectangle" if is_box else "polygon",
                "flags": {},
                "mask": None,
                "score": score,
            }
            shapes.append(shape)
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": str(file_name),
        "imageData": None,
        "imageHeight": int(size[0]),
        "imageWidth": int(size[1]),
    }


def via(
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
    for _, name, score, parts in _found(result, class_names, file_name):
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


def geojson(result: Result, class_names: Sequence[str], file_name: str) -> list[dict]:
    """The GeoJSON features of one image, a feature a detection: holes and parts are kept.

    Coordinates are pixel corners, y down: no degrees. Outer rings turn from x to y (clockwise on the screen), holes
    the other way, which is RFC 7946's order read with y as written.

    result, class_names, file_name: as for `labelme`.

    Returns: Polygon or, for several parts, MultiPolygon features with image, class, score and box in `properties`.
    """
    features = []
    for i, name, score, parts in _found(result, class_names, file_name):
        polygons = [
            [_closed(outer, 1), *(_closed(hole, -1) for hole in holes)] for outer, *holes in parts
        ]
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        y1, x1, y2, x2 = (int(side) for side in result["rois"][i])
        properties = {
            "image": str(file_name),
            "class": name,
            "score": score,
            "box": [x1, y1, x2, y2],
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return features


def _closed(ring: Ring, turn: int) -> list[list[int]]:
    """The ring with its first point repeated at the end; turn 1: from x to y, -1: the other way."""
    x, y = ring.T.astype(np.int64)
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    ring = ring if np.sign(area) == turn else ring[::-1]
    return [*ring.tolist(), ring[0].tolist()]


def table(result: Result, class_names: Sequence[str], file_name: str) -> list[dict[str, Any]]:
    """One row a detection, with the columns `CSV_COLUMNS`: pixels and square pixels.

    result, class_names: as for `labelme`. mask_area is empty for box-only models.
    """
    areas = (
        np.asarray(result["masks"]).sum(axis=(0, 1))
        if "masks" in result and len(result["scores"])
        else None
    )
    rows = []
    for i, name in enumerate(_names(result, class_names)):
        y1, x1, y2, x2 = (int(side) for side in result["rois"][i])
        area = "" if areas is None else int(areas[i])
        values = (
            str(file_name),
            name,
            float(result["scores"][i]),
            x1,
            y1,
            x2,
            y2,
            (y2 - y1) * (x2 - x1),
            area,
        )
        rows.append(dict(zip(CSV_COLUMNS, values, strict=True)))
    return rows


def yolo(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int]
) -> list[str]:
    """Return the lines of the YOLO label file of one image, a line per detection: `class x1 y1 x2 y2 ...`.

    Classes count from 0 without the background; coordinates are fractions of width and height. Parts and holes are
    joined by bridges (`one_outline`), as Ultralytics joins the parts of COCO's objects. Lines carry no scores: they
    are labels to train on. Detections of box-only models are `class cx cy width height`.

    result, class_names, file_name, size: as for `labelme`.
    """
    height, width = size
    lines = []
    for i, _, _, parts in _found(result, class_names, file_name):
        if "masks" in result:
            points = one_outline([ring for part in parts for ring in part]) / (width, height)
        else:
            (x1, y1), (x2, y2) = parts[0][0][[0, 2]] / (width, height)
            points = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
        lines.append(
            " ".join(
                [
                    str(int(result["class_ids"][i]) - 1),
                    *(f"{value:.8g}" for value in points.ravel()),
                ]
            )
        )
    return lines


def instance_image(result: Result, size: Sequence[int]) -> np.ndarray:
    """Return one image of all masks, uint8 or uint16 [H, W]: 0 is background, k the k-th detection.

    A pixel of several masks goes to the detection with the highest score. Box-only models give filled boxes.

    result, size: as for `labelme`.
    """
    labels = np.zeros(size, np.uint8 if len(result["scores"]) < 256 else np.uint16)
    for i in np.argsort(result["scores"], kind="stable"):
        if "masks" in result:
            labels[np.asarray(result["masks"])[:, :, i].astype(bool)] = i + 1
        else:
            y1, x1, y2, x2 = (int(side) for side in result["rois"][i])
            labels[y1:y2, x1:x2] = i + 1
    return labels


def to_supervision(result: Result, class_names: Sequence[str] | None = None):
    """The result of one image as `supervision.Detections`.

    result: as for `labelme`. class_names: by class id; where given, they stand in `data["class_name"]`.

    Returns: Detections with xyxy [N, (x1, y1, x2, y2)] float32, mask [N, H, W] bool (None for box-only models),
        confidence [N], class_id [N].
    Raises: ImportError where supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            f"to_supervision needs the package supervision ({error}). Try pip install supervision."
        ) from error
    names = (
        {}
        if class_names is None
        else {"class_name": np.array(_names(result, class_names), dtype=str)}
    )
    boxes = np.asarray(result["rois"], np.float32).reshape(-1, 4)
    return supervision.Detections(
        xyxy=boxes[:, [1, 0, 3, 2]],
        mask=np.moveaxis(np.asarray(result["masks"], bool), 2, 0) if "masks" in result else None,
        confidence=np.asarray(result["scores"]),
        class_id=np.asarray(result["class_ids"], int),
        data=names,
    )


# --- Many images --------------------------------------------------------------------------------------------


class Export:
    """Results of many images, written to files of several formats: `add` each image, then `write`.

    Only what the files hold is kept in memory: outlines and run-length codes, no masks.
    """

    def __init__(self, folder: str | Path, formats: Iterable[str], class_names: Sequence[str]):
        """An export without images.

        folder: for the files; it must exist. formats: some of `FORMATS`. class_names: by class id, background first.
        """
        self.folder, self.formats, self.class_names = (
            Path(folder),
            list(dict.fromkeys(formats)),
            list(class_names),
        )
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise ValueError(
                f"formats must be among {', '.join(FORMATS)}. Received: {unknown}. Try 'coco'."
            )
        self.written: list[Path] = []
        self._content: dict[str, list] = {name: [] for name in self.formats}
        self._yolo = _PhotosAndLabels(self.folder / "yolo", "labels", ".txt")
        self._png = _PhotosAndLabels(self.folder / "png", "masks", ".png")

    def add(self, image: str | Path, size: Sequence[int], result: Result) -> None:
        """Take in one image; its files of labelme, yolo and png are written at once, with a copy of the photo.

        image: path of the image file. size: (height, width). result: what `MaskRCNN.detect` returns for it.
        """
        image = Path(image)
        if "coco" in self.formats:
            entries = coco_results(len(self._content["coco"]) + 1, result)
            self._content["coco"].append((_from_folder(image, self.folder), size, entries))
        if "labelme" in self.formats:
            path = self._free(image.stem)
            self._write_json(
                path, labelme(result, self.class_names, _from_folder(image, path.parent), size)
            )
        if "via" in self.formats:
            file_bytes = image.stat().st_size if image.is_file() else -1
            name = _from_folder(image, self.folder)
            self._content["via"].append(via(result, self.class_names, name, file_bytes))
        if "geojson" in self.formats:
            self._content["geojson"] += geojson(result, self.class_names, str(image))
        if "csv" in self.formats:
            self._content["csv"] += table(result, self.class_names, str(image))
        if "yolo" in self.formats:
            lines = yolo(result, self.class_names, str(image), size)
            with self._label_file(self._yolo, image) as part:
                Path(part).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        if "png" in self.formats:
            labels = instance_image(result, size)
            hidden = len(result["scores"]) - np.count_nonzero(np.unique(labels))
            if hidden:
                log.warning(
                    "%s: %d detections are hidden by others in the mask image.", image, hidden
                )
            with self._label_file(self._png, image) as part:
                Image.fromarray(labels).save(part, "PNG")

    def _label_file(self, folder: _PhotosAndLabels, image: Path):
        """A path to write the labels of an image to (`atomic_write`)."""
        path = folder.add(image)
        self.written.append(path)
        return atomic_write(str(path))

    def write(self) -> list[Path]:
        """Write the files that hold all images; returns the paths of all files, labelme's included.

        Names: coco.json, via.json, detections.geojson, detections.csv, labelme/<image>.json; yolo/ with data.yaml,
        images and labels; png/ with images and masks.
        """
        for name, file in (
            ("coco", "coco.json"),
            ("via", "via.json"),
            ("geojson", "detections.geojson"),
        ):
            if name in self.formats:
                self._write_json(self.folder / file, getattr(self, f"_{name}")())
        if "csv" in self.formats:
            path = self.folder / "detections.csv"
            with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, CSV_COLUMNS)
                writer.writeheader()
                for row in self._content["csv"]:
                    writer.writerow(
                        {**row, "image": csv_cell(row["image"]), "class": csv_cell(row["class"])}
                    )
            self.written.append(path)
        if "yolo" in self.formats:
            content = {
                "train": "images",
                "val": "images",
                "names": dict(enumerate(self.class_names[1:])),
            }
            path = self.folder / "yolo" / "data.yaml"
            with atomic_write(str(path)) as part:
                Path(part).write_text(
                    yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
                )
            self.written.append(path)
        return self.written

    def _coco(self) -> dict:
        """COCO's instances format; its annotations are also COCO result entries (`coco_results`)."""
        images, annotations = [], []
        for image_id, (name, (height, width), entries) in enumerate(self._content["coco"], start=1):
            images.append(
                {"id": image_id, "file_name": name, "height": int(height), "width": int(width)}
            )
            for entry in entries:
                annotations.append(
                    {"id": len(annotations) + 1, **entry, "area": _area(entry), "iscrowd": 0}
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(self.class_names) if i > 0]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _via(self) -> dict:
        return {key: entry for entries in self._content["via"] for key, entry in entries.items()}

    def _geojson(self) -> dict:
        return {"type": "FeatureCollection", "features": self._content["geojson"]}

    def _free(self, stem: str) -> Path:
        """A path in the folder labelme that is not written yet: photos of two folders may share a name."""
        folder = self.folder / "labelme"
        folder.mkdir(exist_ok=True)
        written = {path.name.casefold() for path in self.written}
        name, count = short_name(stem, ".json"), 1
        while name.casefold() in written:
            count += 1
            name = short_name(stem, f"_{count}.json")
        return folder / name

    def _write_json(self, path: Path, content: dict) -> None:
        with atomic_write(path) as part:
            Path(part).write_text(json.dumps(content) + "\n", encoding="utf-8")
        self.written.append(path)


class _PhotosAndLabels:
    """A folder with photos in `images`, and in another folder a label file of the same name for each.

    Photos are copied: tools look for the labels of a photo by its path, and some of them write to it.
    """

    def __init__(self, folder: Path, labels: str, suffix: str):
        """labels: the folder of the label files. suffix: of their names."""
        self.images, self.labels, self.suffix = folder / "images", folder / labels, suffix
        self._stems: set[str] = set()

    def add(self, image: Path) -> Path:
        """Copy a photo, and return the path for its label file; no photo and no other photo's labels are replaced."""
        stem = (
            image.stem if len(os.fsencode(image.stem)) <= 200 else image.stem[:50]
        )  # file systems allow 255 bytes
        count, name = 1, stem
        while name.casefold() in self._stems or not _is_free(
            self.images / f"{name}{image.suffix}", image
        ):
            count += 1
            name = f"{stem}_{count}"
        self._stems.add(name.casefold())
        copy = self.images / f"{name}{image.suffix}"
        if image.is_file() and not copy.exists():
            with atomic_write(str(copy)) as part:
                shutil.copyfile(image, part)
        return self.labels / f"{name}{self.suffix}"


def _is_free(copy: Path, image: Path) -> bool:
    """Whether an image can be copied to a path, or has been."""
    return not copy.exists() or (image.is_file() and filecmp.cmp(copy, image, shallow=False))


def _from_folder(image: Path, folder: Path) -> str:
    """The path of an image as a tool sees it that opened a file of the folder."""
    return Path(os.path.relpath(image.resolve(), folder.resolve())).as_posix()


def _area(entry: dict) -> float:
    """The area of a COCO result entry: its mask's, without one its box's."""
    if "segmentation" in entry:
        return int(coco_mask.area(entry["segmentation"]))
    return entry["bbox"][2] * entry["bbox"][3]

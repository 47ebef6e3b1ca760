"""Detections of many images in the files of other tools."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ..files.atomic import atomic_write
from ..files.file_names import short_name
from ..files.safe_text import csv_cell
from .coco import coco_results, entry_area
from .csv_table import CSV_COLUMNS, csv_rows
from .geojson import geojson_features
from .labelme import labelme_file
from .mask_images import instance_image
from .results import ImagesAndLabels, Result, seen_from
from .via import via_entry
from .yolo import yolo_lines

log = logging.getLogger("mrcnn")

FORMATS = ("coco", "labelme", "via", "geojson", "csv", "yolo", "png")


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
        self._yolo = ImagesAndLabels(self.folder / "yolo", "labels", ".txt")
        self._png = ImagesAndLabels(self.folder / "png", "masks", ".png")

    def add(self, image: str | Path, size: Sequence[int], result: Result) -> None:
        """Take in one image; its files of labelme, yolo and png are written at once, with a copy of the photo.

        image: path of the image file. size: (height, width). result: what `MaskRCNN.detect` returns for it.
        """
        image = Path(image)
        if "coco" in self.formats:
            entries = coco_results(len(self._content["coco"]) + 1, result)
            self._content["coco"].append((seen_from(image, self.folder), size, entries))
        if "labelme" in self.formats:
            path = self._free(image.stem)
            self._write_json(
                path, labelme_file(result, self.class_names, seen_from(image, path.parent), size)
            )
        if "via" in self.formats:
            file_bytes = image.stat().st_size if image.is_file() else -1
            name = seen_from(image, self.folder)
            self._content["via"].append(via_entry(result, self.class_names, name, file_bytes))
        if "geojson" in self.formats:
            self._content["geojson"] += geojson_features(result, self.class_names, str(image))
        if "csv" in self.formats:
            self._content["csv"] += csv_rows(result, self.class_names, str(image))
        if "yolo" in self.formats:
            lines = yolo_lines(result, self.class_names, str(image), size)
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

    def _label_file(self, folder: ImagesAndLabels, image: Path):
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
                    {"id": len(annotations) + 1, **entry, "area": entry_area(entry), "iscrowd": 0}
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

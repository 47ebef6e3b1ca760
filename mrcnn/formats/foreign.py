"""Files of other tools that no reader here reads: who wrote them, and what to export instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

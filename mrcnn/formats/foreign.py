"""Files of other tools that no reader here reads: which tool wrote them, and what to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class ForeignTool(NamedTuple):
    """A tool whose files are not read."""

    name: str
    remedy: str  # after "Try"


CITYSCAPES = ForeignTool("Cityscapes", "the images of its json2instanceImg.py as masks/")
GEOJSON = ForeignTool("GeoJSON (QuPath, a map)", "an export of masks or of COCO instances")
LABEL_STUDIO = ForeignTool("Label Studio", "its export 'JSON' of a current version")
SUPERVISELY = ForeignTool("Supervisely", "its export to COCO or Pascal VOC")
SUPERVISELY_META = ForeignTool("Supervisely (meta.json)", "its export to COCO or Pascal VOC")
VIA_3 = ForeignTool("VIA 3", "its export to COCO, or VIA 2")
DATUMARO = ForeignTool("Datumaro", "its export to COCO instances")
HASTY = ForeignTool("Hasty", "its export to COCO")
MRCNN_DETECT = ForeignTool("mrcnn detect", "coco.json of `mrcnn detect --format coco`")
LABELBOX = ForeignTool("Labelbox", "its converter labelbox2coco")
COCO_RESULTS = ForeignTool("COCO results", "a file of annotations: these are detections")
CREATE_ML = ForeignTool("CreateML", "an export to COCO")
BDD100K = ForeignTool("BDD100K (Scalabel)", "its converter to COCO")
TF_RECORDS = ForeignTool(
    "TensorFlow's Object Detection API", "the annotations that the records were made of"
)
TABLE = ForeignTool("a table", "an export to COCO, Pascal VOC, YOLO, labelme or VIA's JSON")

# Names that the object in a JSON file has.
OBJECTS = (
    ({"imgHeight", "imgWidth", "objects"}, CITYSCAPES),
    ({"project", "config", "attribute", "file", "metadata"}, VIA_3),
    ({"type", "features"}, GEOJSON),
    ({"size", "objects", "tags"}, SUPERVISELY),
    ({"classes", "tags"}, SUPERVISELY_META),
    ({"info", "categories", "items"}, DATUMARO),
    ({"label_classes", "images"}, HASTY),
    ({"class_names", "min_confidence", "images"}, MRCNN_DETECT),
)
# Names that the entries of the list in a JSON file have.
LISTS = (
    ({"data", "completions"}, LABEL_STUDIO),
    ({"annotator", "annotation_id", "lead_time"}, LABEL_STUDIO),  # its export JSON-MIN
    ({"data_row", "projects"}, LABELBOX),
    ({"image_id", "category_id", "score"}, COCO_RESULTS),
    ({"image", "annotations"}, CREATE_ML),
    ({"name", "labels"}, BDD100K),
)
# Patterns of the names of files and folders.
NAMES = (
    ("leftImg8bit", CITYSCAPES),
    ("gtFine", CITYSCAPES),
    ("*.geojson", GEOJSON),
    ("*.tfrecord", TF_RECORDS),
    ("*.csv", TABLE),
)


def foreign_tool(data: Any) -> str | None:
    """Return which other tool wrote the content of a JSON file, and what to export; else None."""
    table, content = OBJECTS, data
    if isinstance(data, list) and data:
        table, content = LISTS, data[0]
    if not isinstance(content, dict):
        return None
    for names, tool in table:
        if names <= set(content):
            return f"a file of {tool.name}, which is not read. Try {tool.remedy}"
    return None


def foreign_files(path: Path) -> str | None:
    """Return the same by the name of a file, or by the names in a folder."""
    entries = list(path.iterdir()) if path.is_dir() else [path]
    for pattern, tool in NAMES:
        for entry in entries:
            if entry.match(pattern):
                return f"{entry.name}, of {tool.name}, which is not read. Try {tool.remedy}"
    return None

"""`Export`: the detections of many images, written in several formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..data.keypoints import Skeleton
from .coco import CocoPolygonsWriter, CocoWriter
from .csv_table import CSVWriter, csv_rows, write_csv
from .cvat import CVATWriter
from .geojson import GeoJSONWriter
from .label_studio import LabelStudioWriter
from .labelme import LabelmeWriter, labelme_file
from .mask_images import MaskImageWriter
from .via import VIAWriter
from .writing import Result, Writer, relative_path, write_json
from .yolo import YOLOWriter

# One row per format: the name that `--format` takes -> its writer.
WRITERS: dict[str, type[Writer]] = {
    "coco": CocoWriter,
    "coco_polygons": CocoPolygonsWriter,
    "labelme": LabelmeWriter,
    "via": VIAWriter,
    "cvat": CVATWriter,
    "labelstudio": LabelStudioWriter,
    "geojson": GeoJSONWriter,
    "csv": CSVWriter,
    "yolo": YOLOWriter,
    "png": MaskImageWriter,
}
FORMATS = tuple(WRITERS)
# The format of a file's suffix; .json is that of several.
FORMAT_OF_SUFFIX = {".csv": "csv", ".geojson": "geojson"}


def write_one(
    path: Path,
    format: str,
    image: Path,
    size: Sequence[int],
    result: Result,
    class_names: Sequence[str],
    skeleton: Skeleton | None = None,
) -> None:
    """Write the detections of one image in one format.

    path: the file to write; for "cvat", "labelstudio", "yolo" and "png", which are folders, the
        folder that gets them.
    format: one of `FORMATS`. image, size, result: as for `Export.add`.
    class_names, skeleton: as for `Export`.

    Raises: ValueError for an unknown format.
    """
    is_file = format == "labelme" or (format in WRITERS and WRITERS[format].file_name != "")
    folder = path.parent if is_file else path
    export = Export(folder, [format], class_names, skeleton)
    folder.mkdir(parents=True, exist_ok=True)
    if format == "csv":
        write_csv(path, csv_rows(result, class_names, str(image)))
        return
    if format == "labelme":
        name = relative_path(image, folder)
        write_json(path, labelme_file(result, class_names, name, size))
        return
    if is_file:
        export.set_file_name(path.name)
    export.add(image, size, result)
    export.write()


class Export:
    """Writes the detections of many images in several formats: `add` each image, then `write`."""

    def __init__(
        self,
        folder: str | Path,
        formats: Iterable[str],
        class_names: Sequence[str],
        skeleton: Skeleton | None = None,
    ):
        """Create an export without images.

        folder: for the files; it must exist. formats: some of `FORMATS`.
        class_names: by class id, background first.
        skeleton: of the keypoints, which coco.json has.

        Raises: ValueError for an unknown format.
        """
        names = set(formats)
        unknown = sorted(names - set(WRITERS))
        if unknown:
            raise ValueError(
                f"formats must be among {', '.join(FORMATS)}. Received: {unknown}. Try 'coco'."
            )
        self._writers = [
            writer(Path(folder), class_names) for name, writer in WRITERS.items() if name in names
        ]
        if skeleton is not None:
            for writer in self._writers:
                writer.keypoint_names, writer.keypoint_skeleton = skeleton

    def set_file_name(self, name: str) -> None:
        """Replace the name of the one file that each format writes for all images."""
        for writer in self._writers:
            writer.file_name = name

    def add(self, image: str | Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image.

        The files of labelme, yolo and png are written immediately, as are the copies of the image
        that cvat, labelstudio, yolo and png have.

        image: path of the image file. size: (height, width). result: as `MaskRCNN.detect` returns.
        """
        for writer in self._writers:
            writer.add(Path(image), size, result)

    def write(self) -> list[Path]:
        """Write the files that cover all images.

        Names: coco.json, coco_polygons.json, via.json, detections.geojson, detections.csv with
        counts.csv (the number of objects in each image), labelme/<image>.json; cvat/ with
        annotations.xml and images; labelstudio/ with tasks.json, labelling_interface.xml and
        images; yolo/ with data.yaml, images and labels; png/ with images and masks.

        Returns: the paths of all files written, those of `add` too.
        """
        return [path for writer in self._writers for path in writer.finish()]

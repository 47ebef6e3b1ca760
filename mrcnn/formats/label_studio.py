"""Label Studio's JSON: reader of its export, writer of tasks with predictions to correct.

Coordinates are percentages of the image's width and height. The reader checks every region when it
opens the file; masks drawn with the brush become run-length codes then.
"""

from __future__ import annotations

import logging
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.dataset import place_classes
from ..files.atomic import atomic_write
from ..files.image_files import SUFFIXES as IMAGE_SUFFIXES
from ..files.image_files import read_size
from ..files.safe_text import clean_name, xml_text
from .brush_rle import decode_brush, encode_brush
from .find_images import ImageSearch, images_folder, path_parts
from .polygons import (
    Polygon,
    check_points,
    check_polygon,
    ellipse,
    polygons_to_rle,
    rectangle,
    rotated,
)
from .reading import AnnotatedObject, RLEImages, SkippedEntries, keep_known, read_json
from .rle import RLE, encode, mask_plane
from .values import is_finite, short, to_integer
from .writing import ImageCopies, Result, Writer, box_of, class_names_of, write_json

logger = logging.getLogger("mrcnn")

SHAPES = ("polygon", "rectangle", "ellipse", "brush")
LABELS = "labels"  # a region's type ends in it if the region has a class
IMAGE, LABEL = "image", "label"  # names of the tags in the labelling interface
# The address of an image in a folder that Label Studio serves, below its document root.
LOCAL_FILES = "/data/local-files/?d="
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # before the names of uploaded files


class LabelStudioDataset(RLEImages):
    """Annotations of Label Studio, exported as "JSON".

    Regions of polygons, rectangles, ellipses and brushes are objects; of several annotations of a
    task the last one counts. Tasks without an annotation (predictions are none), key points, and
    other regions that cannot be used are skipped, and a warning counts them. Annotated tasks
    without regions are images without objects. All labels become classes in alphabetical order;
    give `class_names` if training and validation files may use different ones.
    """

    def __init__(
        self,
        path: str | Path,
        images_dir: str | Path | None = None,
        class_names: Sequence[str] | None = None,
        data: list | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset; `image_info[i]["id"]` is the task's id.

        path: the JSON file.
        images_dir: the folder of the images. Default: the file's, `images` in it, or other usual
            ones. Names of uploaded files are also found without what the upload put before them.
        class_names: all classes, in the order of their ids; default the labels, sorted.
        data: the content of the file, if it has been read.
        strict: raise a ValueError at the first entry that cannot be used, instead of skipping it.
        """
        super().__init__()
        path = Path(path)
        tasks = read_json(path) if data is None else data
        if not is_label_studio(tasks):
            raise ValueError(
                f"{path} must be an export of Label Studio. Received: {short(tasks)}. "
                "Try its export 'JSON'."
            )
        skipped = SkippedEntries(path, strict)
        images, regions = _read_tasks(tasks, path, images_dir, skipped)
        used = sorted({each.class_name for image in images for each in image.objects})
        names = [clean_name(name) for name in class_names or used]
        for class_id, name in enumerate(names, start=1):
            self.add_class("label_studio", class_id, name)
        places = place_classes(used, names, path)
        for image in images:
            known = keep_known(image.objects, places, names, skipped)
            self.add_image(
                "label_studio",
                image_id=image.task_id,
                path=image.path,
                height=image.size[0],
                width=image.size[1],
                class_ids=[places[each.class_name] + 1 for each in known],
                parts=[each.parts for each in known],
            )
        skipped.finish(self, len(tasks) + regions, "tasks or regions")
        self.prepare()

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one RLE per region, in the order of the file.

        Returns: N RLEs; class ids, int32 `[N]`.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [_part_to_rle(part, size) for (part,) in info["parts"]]
        return rles, self.map_class_ids("label_studio", info["class_ids"])


def is_label_studio(data: Any) -> bool:
    """Return whether the content of a JSON file has the form of Label Studio's tasks."""
    if not isinstance(data, list) or not data or not isinstance(data[0], dict):
        return False
    is_task = isinstance(data[0].get("data"), dict)
    return is_task and bool({"annotations", "predictions"} & set(data[0]))


# --- Tasks ----------------------------------------------------------------------------------------


class _Task(NamedTuple):
    """A task with an annotation, before its image is found."""

    task_id: int | str
    name: str  # of the image
    result: list
    where: str


class _LabelledImage(NamedTuple):
    """An image with its usable objects."""

    task_id: int | str
    path: str
    size: tuple[int, int]  # height, width
    objects: list[AnnotatedObject]


def _read_tasks(
    entries: list, path: Path, images_dir: str | Path | None, skipped: SkippedEntries
) -> tuple[list[_LabelledImage], int]:
    """Return the images that can be used, and the number of regions."""
    tasks = []
    for i, entry in enumerate(entries):
        try:
            tasks.append(_read_task(entry, i, path))
        except ValueError as error:
            skipped.add(error)
    names = {str(i): task.name for i, task in enumerate(tasks)}
    former = {f"former {key}": _UPLOAD.sub("", Path(name).name) for key, name in names.items()}
    folder = images_folder({**names, **former}, path, images_dir)
    files = _find_files(names, folder)
    images = []
    for i, task in enumerate(tasks):
        try:
            file = _existing(files.get(str(i)), task, folder)
            size = read_size(file)
        except ValueError as error:
            skipped.add(error)
            continue
        objects = _read_regions(task, size, skipped)
        images.append(_LabelledImage(task.task_id, str(file), size, objects))
    return images, sum(len(task.result) for task in tasks)


def _read_task(entry: Any, index: int, path: Path) -> _Task:
    """Return a task.

    Raises: ValueError if it has no annotation or no image.
    """
    number = to_integer(entry.get("id")) if isinstance(entry, dict) else None
    task_id = index + 1 if number is None else number
    where = f"{path}, task {task_id}"
    data = entry.get("data") if isinstance(entry, dict) else None
    listed = entry.get("annotations") if isinstance(data, dict) else None
    listed = listed if isinstance(listed, list) else []
    annotations = [each for each in listed if _is_annotation(each)]
    if not annotations:
        raise ValueError(
            "A task must have an annotation. "
            f"Received: none in {where}; predictions are not used. "
            "Try to submit the task in Label Studio, and to export it as 'JSON'."
        )
    return _Task(task_id, _image_name(data, where), annotations[-1]["result"], where)


def _is_annotation(value: Any) -> bool:
    """Return whether a value is an annotation that its annotator did not skip."""
    if not isinstance(value, dict) or not isinstance(value.get("result"), list):
        return False
    return not value.get("was_cancelled")


def _image_name(data: Any, where: str) -> str:
    """Return the path of a task's image below a folder, from its address."""
    texts = [value for value in data.values() if isinstance(value, str)]
    named = data.get(IMAGE)
    if isinstance(named, str) and named:
        texts = [named]
    for text in texts:
        name = "/".join(_address_parts(text))
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return name
    raise ValueError(
        f"A task must name an image. Received: {short(data)} in {where}. "
        "Try to export a project that labels images."
    )


def _address_parts(address: str) -> list[str]:
    """Return the folders and the name of an image from its address in Label Studio."""
    query = urllib.parse.urlsplit(address.partition(" ")[0]).query
    served = urllib.parse.parse_qs(query).get("d")
    if served and "local-files" in address:
        return path_parts(served[0])
    return path_parts(urllib.parse.unquote(address))


def _find_files(names: dict[str, str], folder: Path) -> dict[str, Path]:
    """Return key -> path of the images that exist; uploaded ones also by their former name."""
    search = ImageSearch(folder)
    found = search.find(names)
    former = {key: _UPLOAD.sub("", Path(names[key]).name) for key in names if key not in found}
    return {**search.find(former), **found}


def _existing(file: Path | None, task: _Task, folder: Path) -> Path:
    if file is not None:
        return file
    raise ValueError(
        f"Every annotated image must exist. Received: {short(task.name)} in {task.where}, which is "
        f"not in {folder}. Try to put it there, or to name its folder: --images DIR "
        "(in Python images_dir=)."
    )


# --- Regions --------------------------------------------------------------------------------------


def _read_regions(
    task: _Task, size: tuple[int, int], skipped: SkippedEntries
) -> list[AnnotatedObject]:
    """Return the usable objects of a task. size: (height, width) of its image."""
    # The tag <Labels> gives each region twice: the shape, and the shape with its label.
    labelled = {_id_of(region) for region in task.result if _type_of(region).endswith(LABELS)}
    objects = []
    for i, region in enumerate(task.result):
        kind = _type_of(region)
        is_shape = kind in SHAPES and _id_of(region) not in labelled
        if not is_shape and not kind.endswith(LABELS):
            continue  # a choice or a text about the image, a relation
        where = f"{task.where}, region {i}"
        try:
            label = _label_of(region, where)
            part = _part_of(region, size, where)
        except ValueError as error:
            skipped.add(error)
            continue
        objects.append(AnnotatedObject(label, [part], where))
    return objects


def _type_of(region: Any) -> str:
    kind = region.get("type") if isinstance(region, dict) else None
    return kind if isinstance(kind, str) else ""


def _id_of(region: dict) -> str:
    return short(region.get("id"))


def _label_of(region: dict, where: str) -> str:
    """Return the class name of a region."""
    value = region.get("value")
    labels = value.get(_type_of(region)) if isinstance(value, dict) else None
    name = labels[0] if isinstance(labels, list) and len(labels) == 1 else None
    if not isinstance(name, str) or not clean_name(name):
        raise ValueError(
            f"A region must have one label. Received: {short(labels)} in {where}. "
            "Try to label it in Label Studio, or to delete it."
        )
    return clean_name(name)


def _part_of(region: dict, size: tuple[int, int], where: str) -> Polygon | RLE:
    """Return the polygon of a region in pixels, or the run-length code of a brush's mask.

    size: (height, width) of the image.
    """
    _check_image(region, size, where)
    value = region["value"]
    if "rle" in value:
        return encode(decode_brush(value["rle"], size, where))
    if "points" in value:
        points = np.reshape(check_points(value["points"], where), (-1, 2)) * _percent(size)
        return check_polygon(points.ravel().tolist(), where)
    if "radiusX" in value:
        return _ellipse_of(value, size, where)
    if "height" in value:
        return _rectangle_of(value, size, where)
    raise ValueError(
        "A region must be a polygon, rectangle, ellipse or brush. "
        f"Received: {short(_type_of(region))} in {where}. "
        "Try to draw this object with one of these, or to delete the region."
    )


def _check_image(region: dict, size: tuple[int, int], where: str) -> None:
    """Raise a ValueError unless a region is about the image as it is, neither resized nor rotated.

    size: (height, width) of the image file.
    """
    annotated = (to_integer(region.get(f"original_{side}")) for side in ("height", "width"))
    received = tuple(annotated)
    turned = region.get("image_rotation") or 0
    if received == tuple(size) and turned == 0:
        return
    raise ValueError(
        f"A region must be of the image as its file is, {size[0]} x {size[1]} (height x width). "
        f"Received: {received[0]} x {received[1]}, rotated by {short(turned)} degrees, in {where}. "
        "Try the image that was annotated, without the rotation of Label Studio."
    )


def _percent(size: tuple[int, int]) -> np.ndarray:
    """Return the pixels in one percent of the width and of the height."""
    height, width = size
    return np.array([width, height]) / 100


def _rectangle_of(value: dict, size: tuple[int, int], where: str) -> Polygon:
    """Return the corners of a rectangle, rotated clockwise about its top left corner."""
    x, y, width, height, angle = _numbers(value, ("x", "y", "width", "height", "rotation"), where)
    if width <= 0 or height <= 0:
        raise _no_area({"width": width, "height": height}, where)
    across, down = _percent(size)
    corners = rectangle(y * down, x * across, (y + height) * down, (x + width) * across)
    return rotated(corners, (x * across, y * down), np.deg2rad(angle))


def _ellipse_of(value: dict, size: tuple[int, int], where: str) -> Polygon:
    """Return the points of an ellipse, rotated clockwise about its center."""
    x, y, rx, ry, angle = _numbers(value, ("x", "y", "radiusX", "radiusY", "rotation"), where)
    if rx <= 0 or ry <= 0:
        raise _no_area({"radiusX": rx, "radiusY": ry}, where)
    across, down = _percent(size)
    return ellipse(x * across, y * down, rx * across, ry * down, np.deg2rad(angle))


def _numbers(value: dict, names: Sequence[str], where: str) -> list[float]:
    """Return the values of those names as floats; a missing rotation is 0."""
    numbers: list[Any] = [value.get(name) for name in names]
    if numbers[-1] is None:
        numbers[-1] = 0.0
    if not all(is_finite(number) for number in numbers):
        raise ValueError(
            f"{', '.join(names)} must be finite numbers. Received: {short(numbers)} in {where}. "
            "Try to draw this region again, or to delete it."
        )
    return [float(number) for number in numbers]


def _no_area(received: dict[str, float], where: str) -> ValueError:
    return ValueError(
        f"A region must have a width and a height. Received: {received} in {where}. "
        "Try to draw it again, or to delete it."
    )


def _part_to_rle(part: Polygon | RLE, size: tuple[int, int]) -> RLE:
    return polygons_to_rle([part], size) if isinstance(part, list) else part


# --- Writing --------------------------------------------------------------------------------------


def label_studio_task(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int]
) -> dict[str, Any]:
    """Return the task of one image with its detections as a prediction, ready for JSON.

    A detection is one region: a brush with its exact mask, parts and holes included, or a rectangle
    for box-only models. Regions carry the score; the prediction has their mean, by which Label
    Studio can sort tasks.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    file_name: of the image, relative to the document root of Label Studio's local files.
    size: (height, width) of the image.
    """
    names = class_names_of(result, class_names)
    height, width = (int(side) for side in size)
    regions = []
    for i, name in enumerate(names):
        kind, shape = _region_shape(result, i, (height, width))
        if kind == "brushlabels" and not np.any(mask_plane(result["masks"], i)):
            logger.warning("%s: left out a detection whose mask has no pixel.", file_name)
            continue
        regions.append(
            {
                "id": f"detection_{i + 1}",
                "type": kind,
                "from_name": LABEL,
                "to_name": IMAGE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {**shape, kind: [name]},
                "score": float(result["scores"][i]),
            }
        )
    prediction: dict[str, Any] = {"model_version": "mrcnn", "result": regions}
    if regions:
        prediction["score"] = float(np.mean([region["score"] for region in regions]))
    address = LOCAL_FILES + urllib.parse.quote(file_name, errors="replace")
    return {"data": {IMAGE: address}, "predictions": [prediction]}


def _region_shape(result: Result, i: int, size: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    """Return the type of the region of detection `i`, and its shape."""
    if "masks" in result:
        code = encode_brush(mask_plane(result["masks"], i))
        return "brushlabels", {"format": "rle", "rle": code}
    y1, x1, y2, x2 = box_of(result, i)
    height, width = size
    shape = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
    }
    return "rectanglelabels", shape


def labelling_interface(class_names: Sequence[str], has_masks: bool) -> str:
    """Return the labelling interface (XML) of a project for these tasks.

    class_names: background first. has_masks: whether regions are brushes, otherwise rectangles.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoomControl="true")
    tag = "BrushLabels" if has_masks else "RectangleLabels"
    labels = ElementTree.SubElement(view, tag, name=LABEL, toName=IMAGE)
    for name in class_names[1:]:
        ElementTree.SubElement(labels, "Label", value=xml_text(name))
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


class LabelStudioWriter(Writer):
    """Writes `labelstudio/`: tasks.json, the labelling interface, and copies of the images."""

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder / "labelstudio", class_names)
        self._images = ImageCopies(self.folder)
        self._tasks: list[dict[str, Any]] = []
        self._has_masks = True

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Copy one image and add its task."""
        copy = self._images.add(image)
        self._has_masks = "masks" in result
        name = copy.relative_to(self.folder).as_posix()
        self._tasks.append(label_studio_task(result, self.class_names, name, size))

    def finish(self) -> list[Path]:
        """Write tasks.json and labelling_interface.xml."""
        self.folder.mkdir(exist_ok=True)
        tasks, interface = self.folder / "tasks.json", self.folder / "labelling_interface.xml"
        write_json(tasks, self._tasks)
        with atomic_write(str(interface)) as part:
            text = labelling_interface(self.class_names, self._has_masks)
            Path(part).write_text(text, encoding="utf-8")
        return [tasks, interface]

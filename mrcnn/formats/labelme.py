"""labelme's JSON files, one per image: reader and writer.

The reader checks every number when it opens the files and reads pixels on demand. It skips entries
that cannot be used and logs one warning with their number; any other fault is a ValueError that
names the file and the remedy.
"""

from __future__ import annotations

import base64
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.dataset import place_classes
from ..data.image import match_channels, to_uint8
from ..files.file_names import short_name
from ..files.image_files import read_pixels, read_size
from ..files.limits import LONGEST_SIDE, check_size
from ..files.safe_text import clean_name
from .polygons import (
    Polygon,
    check_points,
    check_polygon,
    ellipse,
    join_rings,
    polygons_to_rle,
    rectangle,
)
from .reading import (
    AnnotatedObject,
    RLEImages,
    SkippedEntries,
    find_image,
    image_files,
    keep_known,
    read_json,
)
from .rle import RLE, encode, merge
from .values import is_side, short, to_integer
from .writing import Result, Writer, detections_of, relative_path, write_json

logger = logging.getLogger("mrcnn")

IGNORED_LABEL = "__ignore__"
POLYGONS = ("polygon", "oriented_rectangle", "rotation")  # the last is written by X-AnyLabeling
WITHOUT_AREA = ("point", "points", "line", "linestrip")
LABELME_VERSION = "5.5.0"  # the newest of this form; labelme reads every 5.x file


class LabelmeDataset(RLEImages):
    """Annotations of labelme, one JSON file per image: polygons, rectangles, circles and masks.

    Shapes of one `group_id` and label are parts of one object. Shapes labelled `__ignore__` are
    unused, and a log line counts them. Points and lines have no area: they are skipped, as is every
    other entry that cannot be used, and a warning counts them. If the image file is missing, the
    image embedded in the JSON file is used. Images of the folder without a JSON file are unused,
    and a warning counts them. All labels become classes in alphabetical order; give `class_names`
    if training and validation files may use different ones.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        class_names: Sequence[str] | None = None,
        images_dir: str | Path | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset; `image_info[i]["id"]` is the JSON file's name without suffix.

        path: a folder of JSON files (those of other programs are skipped), one file, or a list.
        class_names: all classes, in the order of their ids; default the labels of the files,
            sorted.
        images_dir: the folder of the images; default as each file says.
        strict: raise a ValueError at the first entry that cannot be used, instead of skipping it.
        """
        super().__init__()
        skipped = SkippedEntries(path if isinstance(path, str | Path) else "the files", strict)
        images, total = _read_files(path, images_dir, skipped)
        used = sorted({each.class_name for image in images for each in image.objects})
        names = [clean_name(name) for name in class_names or used]
        for class_id, name in enumerate(names, start=1):
            self.add_class("labelme", class_id, name)
        places = place_classes(used, names, path)
        for image in images:
            known = keep_known(image.objects, places, names, skipped)
            self.add_image(
                "labelme",
                image_id=image.file.stem,
                path=image.path,
                embedded=image.embedded,
                height=image.size[0],
                width=image.size[1],
                file=str(image.file),
                class_ids=[places[each.class_name] + 1 for each in known],
                parts=[each.parts for each in known],
            )
        skipped.finish(self, total, "files or shapes")
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the image, uint8 `[H, W, 3]`, from its file or the annotation file."""
        info = self.image_info[image_id]
        return _embedded_image(info["file"]) if info["embedded"] else super().load_image(image_id)

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """Return one RLE per object, in the order of their first shapes.

        Returns: N RLEs; class ids, int32 `[N]`.
        """
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [merge([_part_to_rle(part, size) for part in parts]) for parts in info["parts"]]
        return rles, self.map_class_ids("labelme", info["class_ids"])


def is_labelme(data: Any) -> bool:
    """Return whether the content of a JSON file has the form of labelme's."""
    return (
        isinstance(data, dict)
        and isinstance(data.get("shapes"), list)
        and bool({"imagePath", "imageData"} & set(data))
    )


# --- Files ----------------------------------------------------------------------------------------


@dataclass
class _LabelmeImage:
    """An image as its JSON file describes it."""

    file: Path  # the JSON file
    path: str
    embedded: bool  # the pixels come from the JSON file
    size: tuple[int, int]  # height, width
    objects: list[AnnotatedObject] = field(default_factory=list)
    ignored: int = 0  # shapes labelled __ignore__


def _read_files(
    path: str | Path | Sequence[str | Path],
    images_dir: str | Path | None,
    skipped: SkippedEntries,
) -> tuple[list[_LabelmeImage], int]:
    """Return the images of a folder, file or list, and the number of files and shapes."""
    if not isinstance(path, str | Path):
        folder, files = None, [Path(file) for file in path]
    elif Path(path).is_dir():
        folder, files = Path(path), sorted(Path(path).glob("*.json"))
    else:
        folder, files = None, [Path(path)]
    images, foreign, shapes = [], [], 0
    for file in files:
        try:
            data = read_json(file)
            if is_labelme(data):
                shapes += len(data["shapes"])
                images.append(_read_image(data, file, images_dir, skipped))
                continue
        except ValueError as error:
            skipped.add(error)
            continue
        if folder is None:
            raise ValueError(
                f"{file} must be a labelme file: a list named shapes, and imagePath. "
                f"Received: {short(data)}. Try to save it with labelme again."
            )
        foreign.append(file.name)
    if not images and not skipped.reasons:
        raise ValueError(
            f"{path} must contain labelme files (.json). Received: none. "
            "Try the folder where they are."
        )
    _log_unused(images, foreign, folder)
    return images, len(files) - len(foreign) + shapes


def _log_unused(images: list[_LabelmeImage], foreign: list[str], folder: Path | None) -> None:
    """Log which JSON files, shapes and images of a folder are unused."""
    if foreign:
        logger.warning(
            "Skipped %d JSON files in %s that are not labelme's: %s",
            len(foreign),
            folder,
            short(foreign),
        )
    ignored = sum(image.ignored for image in images)
    if ignored:
        logger.info("%d shapes labelled %s are not used.", ignored, IGNORED_LABEL)
    if folder is None:
        return
    used = {image.path for image in images}
    bare = [
        image
        for image in image_files(folder)
        if str(image) not in used and not image.with_suffix(".json").is_file()
    ]
    if bare:
        logger.warning(
            "%d images in %s have no labelme file and are not used, %s for one. To train on them "
            "as images without objects, save them in labelme.",
            len(bare), folder, bare[0].name,
        )  # fmt: skip


# --- One file -------------------------------------------------------------------------------------


def _read_image(
    data: dict, file: Path, images_dir: str | Path | None, skipped: SkippedEntries
) -> _LabelmeImage:
    """Return the image of a JSON file with its usable objects.

    Raises: ValueError if the image is missing or has another size.
    """
    path, embedded = _find_image_of(data, file, images_dir)
    size = _embedded_size(data, file) if embedded else read_size(path)
    check_size(*size, str(file))
    _check_annotated_size(data, size, file)
    image = _LabelmeImage(file, path, embedded, (int(size[0]), int(size[1])))
    groups: dict[tuple[str, Any], AnnotatedObject] = {}
    for i, shape in enumerate(data["shapes"]):
        where = f"{file}, shape {i}"
        try:
            label, group = _label_of(shape, where)
            if label == IGNORED_LABEL:
                image.ignored += 1
                continue
            part = _part_of(shape, where)
        except ValueError as error:
            skipped.add(error)
            continue
        if group is not None and (label, group) in groups:
            groups[label, group].parts.append(part)
            continue
        annotated = AnnotatedObject(label, [part], where)
        image.objects.append(annotated)
        groups[label, group] = annotated
    return image


def _check_annotated_size(data: dict, size: tuple[int, int], file: Path) -> None:
    annotated = [data.get("imageHeight"), data.get("imageWidth")]
    are_sides = all(is_side(side) for side in annotated)
    if are_sides and (None in annotated or [to_integer(side) for side in annotated] == list(size)):
        return
    raise ValueError(
        "imageHeight and imageWidth must be whole numbers, those of the image: "
        f"{size[0]} and {size[1]}. Received: {short(annotated)} in {file}. "
        "Try the image that was annotated, or to save the file with labelme again."
    )


def _find_image_of(data: dict, file: Path, images_dir: str | Path | None) -> tuple[str, bool]:
    """Return the path of the image, and whether the embedded image replaces a missing file."""
    name = data.get("imagePath")
    path = find_image(name, file.parent if images_dir is None else Path(images_dir))
    if path is not None and path.suffix.lower() != ".json":  # some files name themselves
        return str(path), False
    if not isinstance(data.get("imageData"), str) or not data["imageData"]:
        raise ValueError(
            "Every annotated image must exist, or be embedded as imageData. "
            f"Received: imagePath {short(name)} in {file}. "
            "Try to put the image there, to correct imagePath, or to name the folder of the image: "
            "--images DIR (in Python images_dir=)."
        )
    named = file.parent / name if isinstance(name, str) and name else file
    return str(named), True


def _embedded_size(data: dict, file: Path) -> tuple[int, int]:
    """Return the (height, width) of the upright image in imageData, by its header."""
    try:
        return read_size(base64.b64decode(data["imageData"]))
    except (TypeError, ValueError) as error:
        raise _damaged_image_data(error, file) from error


def _embedded_image(file: str) -> np.ndarray:
    """Return the image in imageData of a JSON file, uint8 `[H, W, 3]`."""
    data = read_json(Path(file))
    try:
        pixels = read_pixels(base64.b64decode(data["imageData"]), "imageData", name=file)
        return match_channels(to_uint8(pixels, name=file), 3, file)
    except (TypeError, ValueError) as error:
        raise _damaged_image_data(error, file) from error


def _damaged_image_data(error: Exception, file: object) -> ValueError:
    return ValueError(
        f"imageData must hold an image. Received: {type(error).__name__}: {error} in {file}. "
        "Try to put the image file next to it, or to save it with labelme again."
    )


# --- Shapes ---------------------------------------------------------------------------------------


class _EncodedMask(NamedTuple):
    """A shape of type mask: a PNG in base64, and its top left corner in the image."""

    x: float
    y: float
    png: Any
    where: str


def _label_of(shape: Any, where: str) -> tuple[str, int | str | float | None]:
    """Return the label and the group of a shape."""
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not clean_name(label):
        raise ValueError(
            f"A shape must have a label. Received: {short(shape)} in {where}. "
            "Try to label it, or delete it."
        )
    group = shape.get("group_id")
    is_group = isinstance(group, int | str | None) or to_integer(group) is not None
    if not is_group:
        raise ValueError(
            f"A group_id must be a whole number or null. Received: {short(group)} in {where}. "
            "Try to correct it in labelme."
        )
    return clean_name(label), group


def _part_of(shape: dict, where: str) -> Polygon | _EncodedMask:
    """Return the polygon of a shape, or its mask, not yet decoded."""
    kind = shape.get("shape_type") or "polygon"  # the first versions of labelme name no type
    points = shape.get("points")
    if kind in POLYGONS:
        return check_polygon(check_points(points, where), where)
    if kind in WITHOUT_AREA:
        raise ValueError(
            f"A shape must have an area. Received: a {kind} in {where}. "
            "Try to draw this object as a polygon."
        )
    if kind == "rectangle":
        return _rectangle_of(points, where)
    if kind == "circle":
        return _circle_of(points, where)
    if kind == "mask":
        x, y = check_points(points, where, least=2)[:2]
        _check_mask(shape.get("mask"), where)
        return _EncodedMask(x, y, shape.get("mask"), where)
    raise ValueError(
        "A shape must be a polygon, rectangle, oriented_rectangle, circle or mask. "
        f"Received: {short(kind)} in {where}. "
        "Try to draw this object with one of these, or delete the shape."
    )


def _rectangle_of(points: Any, where: str) -> Polygon:
    """Return the rectangle that encloses points."""
    corners = check_points(points, where, least=2)
    xs, ys = corners[::2], corners[1::2]
    if min(xs) == max(xs) or min(ys) == max(ys):
        raise ValueError(
            f"A rectangle must have a width and a height. Received: {short(points)} in {where}. "
            "Try to draw it again, or delete the shape."
        )
    return rectangle(min(ys), min(xs), max(ys), max(xs))


def _circle_of(points: Any, where: str) -> Polygon:
    """Return the circle given by its center and a point on its line."""
    cx, cy, x, y = check_points(points, where, least=2)[:4]
    radius = math.hypot(x - cx, y - cy)
    if not math.isfinite(radius):
        raise ValueError(
            f"A circle must have a finite radius. Received: {short(points)} in {where}. "
            "Try to draw it again."
        )
    return ellipse(cx, cy, radius, radius)


def _check_mask(png: Any, where: str) -> None:
    """Raise a ValueError unless a mask is an image in base64, by its header, within the limits."""
    try:
        read_size(base64.b64decode(png))
    except (TypeError, ValueError) as error:
        raise _damaged_mask(png, where) from error


def _decode_mask(mask: _EncodedMask) -> np.ndarray:
    """Return the mask that a shape of type mask contains, bool `[h, w]`."""
    try:
        pixels = read_pixels(base64.b64decode(mask.png), name=mask.where)
    except (TypeError, ValueError) as error:
        raise _damaged_mask(mask.png, mask.where) from error
    return pixels > 0 if pixels.ndim == 2 else np.any(pixels[:, :, :3] > 0, axis=2)


def _damaged_mask(png: Any, where: str) -> ValueError:
    return ValueError(
        f"A mask must be a PNG in base64. Received: {short(png)} in {where}. "
        "Try to draw this object again, or delete the shape."
    )


def _part_to_rle(part: Polygon | _EncodedMask, size: tuple[int, int]) -> RLE:
    """Return the RLE of a polygon, or of a mask at its place in the image, cut at the border."""
    if isinstance(part, list):
        return polygons_to_rle([part], size)
    patch = _decode_mask(part)
    height, width = size
    y, x = (round(min(max(start, -LONGEST_SIDE), LONGEST_SIDE)) for start in (part.y, part.x))
    top, left = max(0, y), max(0, x)
    patch = patch[top - y :, left - x :][: max(0, height - top), : max(0, width - left)]
    mask = np.zeros(size, bool)
    mask[top:, left:][: patch.shape[0], : patch.shape[1]] = patch
    return encode(mask)


# --- Writing --------------------------------------------------------------------------------------


def labelme_file(
    result: Result, class_names: Sequence[str], file_name: str, size: Sequence[int]
) -> dict[str, Any]:
    """Return the content of the labelme file of one image, ready for JSON.

    Shapes carry the score; the parts of a detection share a group_id; holes are joined to the
    outline by a bridge (`join_rings`). Detections of box-only models are rectangles.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.
    file_name: of the image, relative to the folder of the labelme file.
    size: (height, width) of the image.
    """
    is_box = "masks" not in result
    shapes = []
    for detection in detections_of(result, class_names, file_name):
        group = detection.index if len(detection.parts) > 1 else None
        for part in detection.parts:
            points = part[0][[0, 2]] if is_box else join_rings(part)
            shape = {
                "label": detection.class_name,
                "points": points.astype(float).tolist(),
                "group_id": group,
                "description": "",
                "shape_type": "rectangle" if is_box else "polygon",
                "flags": {},
                "mask": None,
                "score": detection.score,
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


class LabelmeWriter(Writer):
    """Writes `labelme/<image>.json`, one file per image."""

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder / "labelme", class_names)
        self._written: list[Path] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Write the file of one image."""
        self.folder.mkdir(exist_ok=True)
        path = self._free_path(image.stem)
        name = relative_path(image, self.folder)
        write_json(path, labelme_file(result, self.class_names, name, size))
        self._written.append(path)

    def _free_path(self, stem: str) -> Path:
        """Return a path that is not written yet: images of two folders may share a name."""
        written = {path.name.casefold() for path in self._written}
        name, count = short_name(stem, ".json"), 1
        while name.casefold() in written:
            count += 1
            name = short_name(stem, f"_{count}.json")
        return self.folder / name

    def finish(self) -> list[Path]:
        """Return the paths of the files."""
        return self._written

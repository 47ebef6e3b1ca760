"""labelme's files."""

from __future__ import annotations

import base64
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..data.dataset import (
    Dataset,
    place_classes,
)
from ..data.image import match_channels, to_uint8
from ..files.image_files import read_pixels, read_size
from ..files.limits import LONGEST_SIDE, check_size
from ..files.safe_text import clean_name
from .common import LeftOut, RLEImages, find_image, image_files, keep_known, read_json
from .polygons import (
    Polygon,
    check_points,
    check_polygon,
    ellipse,
    one_outline,
    polygons_to_rle,
    rectangle,
)
from .results import Result, found_in
from .rle import RLE, encode
from .values import is_side, short

logger = logging.getLogger("mrcnn")

IGNORED_LABEL = "__ignore__"
WITHOUT_AREA = ("point", "points", "line", "linestrip")
LABELME_VERSION = "5.5.0"  # the newest whose form this is; labelme reads every 5.x file


class LabelmeDataset(RLEImages, Dataset):
    """Annotations of labelme, one JSON file an image: polygons, rectangles, circles and masks.

    Shapes of one `group_id` and label are parts of one object. Shapes labelled `__ignore__` are not used, and a log
    line counts them. Points and lines have no area: they are left out, as is whatever else cannot be used, and a
    warning says how many. If the image file is missing, the image embedded in the JSON file is used. Images of the
    folder without a JSON file are not used, and a warning says how many. All labels become classes in alphabetical
    order; give `class_names` if training and validation files might not use the same ones.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        class_names: Sequence[str] | None = None,
        images_dir: str | Path | None = None,
        strict: bool = False,
    ):
        """Create a prepared dataset; `image_info[i]["id"]` is the name of the JSON file without its suffix.

        path: a folder of JSON files (those of other programs are skipped), one such file, or a list of them.
        class_names: all classes, in the order of their ids; default the labels of the files, sorted.
        images_dir: where the images are; default where each file says.
        strict: raise a ValueError at the first entry that cannot be used, instead of leaving it out.
        """
        super().__init__()
        left_out = LeftOut(path if isinstance(path, str | Path) else "the files", strict)
        images, total = _labelme_images(path, images_dir, left_out)
        used = sorted({label for image in images for label, *_ in image["objects"]})
        names = [clean_name(name) for name in class_names or used]
        for class_id, name in enumerate(names, start=1):
            self.add_class("labelme", class_id, name)
        places = place_classes(used, names, path)
        for image in images:
            known = keep_known(image.pop("objects"), places, names, left_out)
            self.add_image(
                "labelme",
                class_ids=[places[label] + 1 for label, _, _ in known],
                outlines=[parts for _, parts, _ in known],
                **image,
            )
        left_out.finish(self, total, "files or shapes")
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """The image of its file, uint8 [H, W, 3], or else the one embedded in the annotation file."""
        info = self.image_info[image_id]
        return _embedded_image(info["file"]) if info["embedded"] else super().load_image(image_id)

    def load_rles(self, image_id: int) -> tuple[list[RLE], np.ndarray]:
        """One run-length code per object, in the order of their first shapes, and class ids, int32 [N]."""
        info = self.image_info[image_id]
        size = self.image_size(image_id)
        rles = [
            coco_mask.merge([_part_to_rle(part, size) for part in parts])
            for parts in info["outlines"]
        ]
        ids = [self.map_source_class_id(f"labelme.{class_id}") for class_id in info["class_ids"]]
        return rles, np.array(ids, np.int32)


def is_labelme(data: Any) -> bool:
    """Whether the content of a JSON file looks like labelme's."""
    return (
        isinstance(data, dict)
        and isinstance(data.get("shapes"), list)
        and bool({"imagePath", "imageData"} & set(data))
    )


def _labelme_images(
    path: str | Path | Sequence[str | Path], images_dir: str | Path | None, left_out: LeftOut
) -> tuple[list[dict], int]:
    """One dict an image, with its objects, and the number of files and shapes; logs what was not used."""
    folder = Path(path) if isinstance(path, str | Path) and Path(path).is_dir() else None
    if folder is not None:
        files = sorted(folder.glob("*.json"))
    else:
        files = [Path(file) for file in ([path] if isinstance(path, str | Path) else path)]
    images, skipped, ignored, shapes = [], [], 0, 0
    for file in files:
        try:
            data = read_json(file)
            if is_labelme(data):
                shapes += len(data["shapes"])
                images.append(_labelme_image(data, file, images_dir, left_out))
                ignored += images[-1].pop("ignored")
                continue
        except ValueError as error:
            left_out.add(error)
            continue
        if folder is None:
            raise ValueError(
                f"{file} must be a labelme file: a list named shapes, and imagePath. Received: {short(data)}. "
                "Try to save it with labelme again."
            )
        skipped.append(file.name)
    if not images and not left_out.sentences:
        raise ValueError(
            f"{path} must hold labelme files (.json). Received: none. Try the folder where they are."
        )
    if skipped:
        logger.warning(
            "Skipped %d JSON files in %s that are not labelme's: %s",
            len(skipped),
            path,
            short(skipped),
        )
    if ignored:
        logger.info("%d shapes labelled %s are not used.", ignored, IGNORED_LABEL)
    if folder is not None:
        _warn_of_bare_images(folder, {image["path"] for image in images})
    return images, len(files) - len(skipped) + shapes


def _warn_of_bare_images(folder: Path, used: set[str]) -> None:
    """Say how many images of a folder have no labelme file."""
    bare = [image for image in image_files(folder)
            if str(image) not in used and not image.with_suffix(".json").is_file()]  # fmt: skip
    if bare:
        logger.warning(
            "%d images in %s have no labelme file and are not used, %s for one. To train on them as images without "
            "objects, save them in labelme.",
            len(bare), folder, bare[0].name,
        )  # fmt: skip


def _labelme_image(
    data: dict, file: Path, images_dir: str | Path | None, left_out: LeftOut
) -> dict:
    """What `add_image` takes, with `objects`, (label, parts, where) each, and the number of `ignored` shapes."""
    path, embedded = _labelme_picture(data, file, images_dir)
    size = _embedded_size(data, file) if embedded else read_size(path)
    check_size(*size, str(file))
    told = [int(side) if isinstance(side, float) and side.is_integer() else side
            for side in (data.get("imageHeight"), data.get("imageWidth"))]  # fmt: skip
    if not all(is_side(side) for side in told) or None not in told and tuple(told) != tuple(size):
        raise ValueError(
            f"imageHeight and imageWidth must be whole numbers, those of the image: {size[0]} and {size[1]}. Received: "
            f"{short(told)} in {file}. Try the image that was annotated, or to save the file with labelme again."
        )
    objects, places, ignored = [], {}, 0
    for i, shape in enumerate(data["shapes"]):
        where = f"{file}, shape {i}"
        try:
            label, group = _labelme_label(shape, where)
            if label == IGNORED_LABEL:
                ignored += 1
                continue
            part = _labelme_part(
                shape, shape.get("shape_type") or "polygon", where
            )  # the first versions drew no other
        except ValueError as error:
            left_out.add(error)
            continue
        if group is None or (label, group) not in places:
            places[label, group] = len(objects)
            objects.append((label, [part], where))
        else:
            objects[places[label, group]][1].append(part)
    return {
        "image_id": file.stem,
        "path": path,
        "embedded": embedded,
        "height": int(size[0]),
        "width": int(size[1]),
        "file": str(file),
        "objects": objects,
        "ignored": ignored,
    }


def _labelme_label(shape: Any, where: str) -> tuple[str, int | str | None]:
    """The label and the group of a shape."""
    if (
        not isinstance(shape, dict)
        or not isinstance(shape.get("label"), str)
        or not clean_name(shape["label"])
    ):
        raise ValueError(
            f"A shape must have a label. Received: {short(shape)} in {where}. Try to label it, or delete it."
        )
    group = shape.get("group_id")
    if not isinstance(group, int | str | None) and not (
        isinstance(group, float) and group.is_integer()
    ):
        raise ValueError(
            f"A group_id must be a whole number or null. Received: {short(shape['group_id'])} in {where}. "
            "Try to correct it in labelme."
        )
    return clean_name(shape["label"]), group


def _labelme_part(shape: dict, kind: Any, where: str) -> Polygon | dict:
    """The outline of a shape; of a mask its place and its still packed pixels."""
    points = shape.get("points")
    if kind in (
        "polygon",
        "oriented_rectangle",
        "rotation",
    ):  # the last is X-AnyLabeling's word: four corners
        return check_polygon(check_points(points, where), where)
    if kind in WITHOUT_AREA:
        raise ValueError(
            f"A shape must have an area. Received: a {kind} in {where}. Try to draw this object as a polygon."
        )
    if kind == "rectangle":
        corners = check_points(points, where, least=2)
        xs, ys = corners[::2], corners[1::2]
        if min(xs) == max(xs) or min(ys) == max(ys):
            raise ValueError(
                f"A rectangle must have a width and a height. Received: {short(points)} in {where}. "
                "Try to draw it again, or delete the shape."
            )
        return rectangle(min(ys), min(xs), max(ys), max(xs))
    if kind == "circle":
        cx, cy, x, y = check_points(points, where, least=2)[:4]
        radius = math.hypot(x - cx, y - cy)
        if not math.isfinite(radius):
            raise ValueError(
                f"A circle must have a finite radius. Received: {short(points)} in {where}. Try to draw it again."
            )
        return ellipse(cx, cy, radius, radius)
    if kind == "mask":
        x, y = check_points(points, where, least=2)[:2]
        _check_mask(shape.get("mask"), where)
        return {"x": x, "y": y, "mask": shape.get("mask"), "where": where}
    raise ValueError(
        f"A shape must be a polygon, rectangle, oriented_rectangle, circle or mask. Received: {short(kind)} in "
        f"{where}. Try to draw this object with one of these, or delete the shape."
    )


def _check_mask(mask: Any, where: str) -> None:
    """Raise a ValueError unless a mask is a PNG in base64 by its header, of a size that can be read."""
    try:
        read_size(base64.b64decode(mask))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A mask must be a PNG in base64. Received: {short(mask)} in {where}. "
            "Try to draw this object again, or delete the shape."
        ) from error


def _part_to_rle(part: Polygon | dict, size: tuple[int, int]) -> RLE:
    """The run-length code of a polygon, or of a mask that lies at its place in the image."""
    if isinstance(part, list):
        return polygons_to_rle([part], size)
    patch = _unpack_mask(part)
    height, width = size
    # What lies outside of the image is cut off on all four sides.
    y, x = (round(min(max(part[key], -LONGEST_SIDE), LONGEST_SIDE)) for key in ("y", "x"))
    patch = patch[max(0, -y) :, max(0, -x) :][
        : max(0, height - max(0, y)), : max(0, width - max(0, x))
    ]
    mask = np.zeros(size, bool)
    mask[max(0, y) :, max(0, x) :][: patch.shape[0], : patch.shape[1]] = patch
    return encode(mask)


def _unpack_mask(part: dict) -> np.ndarray:
    """bool [h, w] from the PNG that a shape of type mask holds."""
    try:
        pixels = read_pixels(base64.b64decode(part["mask"]), name=part["where"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"A mask must be a PNG in base64. Received: {short(part['mask'])} in {part['where']}. "
            "Try to draw this object again, or delete the shape."
        ) from error
    return pixels > 0 if pixels.ndim == 2 else np.any(pixels[:, :, :3] > 0, axis=2)


def _labelme_picture(data: dict, file: Path, images_dir: str | Path | None) -> tuple[str, bool]:
    """The image's path, and whether the embedded image stands in for it."""
    name = data.get("imagePath")
    path = find_image(name, [file.parent] if images_dir is None else [Path(images_dir)])
    if path is not None and path.suffix.lower() != ".json":  # some files name themselves
        return str(path), False
    if not isinstance(data.get("imageData"), str) or not data["imageData"]:
        raise ValueError(
            f"Every annotated image must exist, or be embedded as imageData. Received: imagePath {short(name)} in "
            f"{file}. Try to put the image there, to correct imagePath, or to name the folder of the image: "
            "--images DIR (in Python images_dir=)."
        )
    return str(file.parent / name if isinstance(name, str) and name else file), True


def _embedded_size(data: dict, file: Path) -> tuple[int, int]:
    """(height, width) of the upright image in imageData, by its header."""
    try:
        return read_size(base64.b64decode(data["imageData"]))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"imageData must hold an image. Received: {type(error).__name__}: {error} in {file}. "
            "Try to put the image file next to it, or to save it with labelme again."
        ) from error


def _embedded_image(file: str) -> np.ndarray:
    """uint8 [H, W, 3] from imageData of an annotation file."""
    data = read_json(Path(file))
    try:
        pixels = read_pixels(base64.b64decode(data["imageData"]), "imageData", name=file)
        return match_channels(to_uint8(pixels, name=file), 3, file)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"imageData must hold an image. Received: {type(error).__name__}: {error} in {file}. "
            "Try to put the image file next to it, or to save it with labelme again."
        ) from error


def labelme_file(
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
    for i, name, score, parts in found_in(result, class_names, file_name):
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

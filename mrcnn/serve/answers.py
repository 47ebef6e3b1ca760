"""The detections of a request as JSON, as COCO's or labelme's file, or drawn on the image."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from ..drawing.inputs import as_rgb
from ..files.limits import MOST_MASK_BYTES
from ..formats import mask_forms
from ..formats.coco import CocoWriter
from ..formats.labelme import labelme_file
from ..inference.result import Result
from .errors import RequestError

Format = Literal["json", "coco", "labelme", "png", "jpg"]
Masks = Literal["rle", "polygons", "both", "none"]

MOST_DRAWN_BYTES = MOST_MASK_BYTES // 4  # of the masks of a drawing, which takes them whole
LONGEST_JPEG = 65_500  # pixels, of libjpeg
JSON = "application/json"


class Found(NamedTuple):
    """The detections of one image that the client asked for.

    image: `[H, W, C]` uint8. version: of the weights that found them.
    """

    name: str
    image: np.ndarray
    result: Result
    version: str


class Answer(NamedTuple):
    """The body of an answer, and its media type."""

    body: bytes
    media_type: str


def answer(found: Sequence[Found], model: str, format: Format, masks: Masks) -> Answer:
    """Return the answer to a request in a format.

    found: of each image of the request. masks: their form in JSON.

    Raises: RequestError 400 if the format is that of one image and there are several, 413 if the
        masks of a drawing take too much memory.
    """
    if format == "json":
        return _as_json(found, model, masks)
    if format == "coco":
        return _json_answer(coco_content(found))
    if len(found) > 1:
        raise RequestError(
            400,
            f"An answer in the format {format} has one image. Received: {len(found)}. "
            "Try a request for each image, or the format json.",
        )
    one = found[0]
    if format == "labelme":
        return _json_answer(labelme_content(one))
    return drawing(one, format)


def _json_answer(content: Any) -> Answer:
    return Answer(json.dumps(content).encode(), JSON)


def _as_json(found: Sequence[Found], model: str, masks: Masks) -> Answer:
    entries = [image_entry(one, masks) for one in found]
    return _json_answer({"model": model, "images": entries})


def image_entry(found: Found, masks: Masks) -> dict[str, Any]:
    """Return the detections of one image as `detections.json` has them, with their version."""
    result = found.result.copy()
    result.path = found.name
    polygons = _polygons(result) if masks in ("polygons", "both") else None
    if masks in ("polygons", "none"):
        result.pop("masks", None)
    entry = result.to_dict()
    if polygons is not None:
        for detection, parts in zip(entry["detections"], polygons, strict=True):
            detection["polygons"] = parts
    return {**entry, "version": found.version}


def _polygons(result: Result) -> list[list[list[float]]] | None:
    """Return COCO's polygons of each mask; None without masks."""
    if "masks" not in result:
        return None
    shape, threshold = result.image_shape, result.mask_threshold
    return mask_forms.polygons(result["masks"], result.boxes, shape, threshold)


def coco_content(found: Sequence[Found]) -> dict[str, Any]:
    """Return the content of a COCO instances file of all images."""
    first = found[0].result
    writer = CocoWriter(Path(), first.class_names)
    if first.skeleton is not None:
        writer.keypoint_names, writer.keypoint_skeleton = first.skeleton
    for one in found:
        writer.add_named(one.name, one.result.image_shape, _with_rles(one.result))
    return writer.content()


def labelme_content(found: Found) -> dict[str, Any]:
    """Return the content of the labelme file of one image."""
    result = found.result
    return labelme_file(_with_rles(result), result.class_names, found.name, result.image_shape)


def _with_rles(result: Result) -> dict[str, Any]:
    """Return the arrays of a result, with masks as run-length codes."""
    arrays = dict(result)
    if "masks" in result:
        arrays["masks"] = result.rles
    return arrays


def drawing(found: Found, format: Literal["png", "jpg"]) -> Answer:
    """Return the image with its detections drawn.

    Raises: RequestError 413 if the masks take too much memory.
    """
    height, width = found.result.image_shape
    if found.result.count * height * width > MOST_DRAWN_BYTES:
        raise RequestError(
            413,
            f"The masks of a drawing must take at most {MOST_DRAWN_BYTES:,} bytes. Received: "
            f"{found.result.count} of {height:,} x {width:,} pixels. "
            "Try a higher min_confidence, a smaller image, or the format json.",
        )
    return encoded(found.result.plot(found.image), format)


def encoded(image: np.ndarray, format: Literal["png", "jpg"]) -> Answer:
    """Return an image `[H, W, C]` uint8 as the content of an image file.

    Raises: RequestError 413 for a JPEG with a longer side than the format has.
    """
    if format == "jpg" and max(image.shape[:2]) > LONGEST_JPEG:
        raise RequestError(
            413,
            f"A JPEG must have sides of at most {LONGEST_JPEG:,} pixels. "
            f"Received: {image.shape[0]:,} x {image.shape[1]:,}. Try the format png.",
        )
    kind = "PNG" if format == "png" else "JPEG"
    file = io.BytesIO()
    Image.fromarray(as_rgb(image)).save(file, format=kind)
    return Answer(file.getvalue(), f"image/{kind.lower()}")

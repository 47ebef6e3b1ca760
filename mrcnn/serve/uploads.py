"""Images out of a request's body, checked before they are decoded: multipart, or JSON with base64.

Everything here comes from strangers: bodies and images have limits, and names are text.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..data.image import read_image
from ..files.image_files import ImageFileError, ImageTooLarge, count_pixels
from ..files.safe_text import printable
from .errors import RequestError
from .settings import Settings

LONGEST_NAME = 200  # characters of a file name in an answer
EXAMPLE = "Try curl -F image=@image.jpg"


class Upload(NamedTuple):
    """The content of an image file, and its name."""

    name: str
    data: bytes


async def read_uploads(request: Request, settings: Settings) -> list[Upload]:
    """Return the images of a request, 1 to `settings.batch_size`.

    Raises: RequestError 400, 413 or 415, also from reading the body.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        uploads = await _from_form(request, settings)
    elif kind == "application/json":
        # In a thread, for other requests must not wait until megabytes of JSON are read.
        uploads = await asyncio.to_thread(from_json, await request.body())
    else:
        raise RequestError(
            415,
            "The body must be multipart/form-data or application/json. "
            f"Received: {printable(kind) or 'no content type'}. {EXAMPLE}.",
        )
    return _counted(uploads, settings)


def _counted(uploads: list[Upload], settings: Settings) -> list[Upload]:
    if not 1 <= len(uploads) <= settings.batch_size:
        raise RequestError(
            400,
            f"A request must have 1 to {settings.batch_size} images. "
            f"Received: {len(uploads)}. {EXAMPLE}.",
        )
    return uploads


async def _from_form(request: Request, settings: Settings) -> list[Upload]:
    """Return every part of a form that is a file."""
    limits = {"max_files": settings.batch_size, "max_fields": 16}
    async with request.form(**limits, max_part_size=settings.max_bytes) as form:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        return [Upload(_base_name(file.filename), await file.read()) for file in files]


def from_json(body: bytes) -> list[Upload]:
    """Return the images of a JSON body.

    body: `{"image": BASE64}` or `{"images": [BASE64, {"name": "a.png", "data": BASE64}, ...]}`.

    Raises: RequestError 400.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = f"{type(error).__name__}: {printable(error)}"
        raise RequestError(400, f"The body must be JSON. Received: {reason}. {EXAMPLE}.") from error
    images = None
    if isinstance(content, dict):
        images = content.get("images", [content["image"]] if "image" in content else None)
    if not isinstance(images, list):
        raise RequestError(
            400,
            'The JSON must be {"image": BASE64} or {"images": [BASE64, ...]}. '
            f"Received: neither. {EXAMPLE}.",
        )
    return [_from_entry(entry, i) for i, entry in enumerate(images)]


def _from_entry(entry: Any, i: int) -> Upload:
    """Return image `i` of a JSON body."""
    name, text = f"image_{i + 1}", entry
    if isinstance(entry, dict):
        name, text = entry.get("name", name), entry.get("data")
    if not isinstance(text, str) or not isinstance(name, str):
        raise RequestError(
            400,
            'An image must be text in base64, or {"name": TEXT, "data": BASE64}. '
            f"Received: {type(entry).__name__} as image {i + 1}. {EXAMPLE}.",
        )
    return Upload(_base_name(name), decode_base64(text, f"image {i + 1}"))


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes of a text in base64, or of a data URL.

    Raises: RequestError 400.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            400, f"{what} must be base64. Received: {printable(error)}. Try standard base64."
        ) from error


def _base_name(name: str | None) -> str:
    """Return a client's file name without folders and control characters."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return printable(last, LONGEST_NAME) or "image"


def check_sizes(uploads: Sequence[Upload], settings: Settings) -> int:
    """Return the number of pixels of all images, by their headers.

    Raises: RequestError 413 for one of too many pixels, 415 for one that is no image.
    """
    try:
        counts = [count_pixels(one.data, one.name, settings.max_pixels) for one in uploads]
    except ImageFileError as error:
        raise _unreadable(error) from error
    return sum(counts)


def decode_images(uploads: Sequence[Upload], channels: int) -> list[np.ndarray]:
    """Return the pixels of all images, `[H, W, channels]` uint8, upright by EXIF.

    Raises: RequestError 415 for one that cannot be decoded.
    """
    images = []
    for upload in uploads:
        try:
            images.append(read_image(upload.data, channels, upload.name))
        except ValueError as error:
            raise _unreadable(error) from error
    return images


def _unreadable(error: ValueError) -> RequestError:
    return RequestError(413 if isinstance(error, ImageTooLarge) else 415, str(error))

"""What a worker does with a block of images, in a process or in an actor: read, detect, rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.image import read_image
from ..formats.detections_json import detection_entries
from ..formats.mask_forms import rles
from ..inference.threads import prefetch_one
from .image_list import Block
from .inputs import read_source
from .shards import Row, to_lines

log = logging.getLogger("mrcnn")


class Loader(Protocol):
    """What a worker needs besides its blocks; small, because each worker receives a copy."""

    def load(self) -> tuple[Any, list[str]]:
        """Return a model that detects, and its class names, background first."""
        ...

    def read(self, name: str, channels: int) -> np.ndarray:
        """Return the image `[H, W, channels]` of a name. channels: those of the network."""
        ...

    def row(self, result: dict[str, Any], class_names: list[str]) -> Row:
        """Return what the row of an image says about its result, whose masks are RLEs."""
        ...

    def explain(self, error: Exception) -> str:
        """Return the reason of an error as a sentence for users."""
        ...


class FileLoader:
    """The part of a `Loader` for images in files: names are paths and addresses.

    folder: that relative paths start from.
    """

    folder: str

    def read(self, name: str, channels: int) -> np.ndarray:
        """Return the image `[H, W, channels]` of a path or address."""
        return read_image(read_source(name, self.folder), channels, name)

    def row(self, result: dict[str, Any], class_names: list[str]) -> Row:
        """Return the detections as `detections.json` has them."""
        return {"detections": detection_entries(result, class_names)}


class Task(NamedTuple):
    """What the workers of a job do. batch: how many images the network sees together."""

    loader: Loader
    batch: int


class Answer(NamedTuple):
    """What a worker returns for a block.

    lines: rows as JSON lines. error: why the model could not be loaded, or empty.
    lost: whether the workers that detected the block were killed, so that there are no rows.
    """

    number: int
    lines: bytes = b""
    images: int = 0
    failed: int = 0
    error: str = ""
    lost: bool = False


class ReadImage(NamedTuple):
    """An image of a block: its pixels `[H, W, C]`, or the error of reading it."""

    name: str
    pixels: np.ndarray | None
    error: Exception | None = None


class BlockWorker:
    """Detects the images of blocks with a model that is loaded once."""

    def __init__(self, task: Task):
        self.task = task
        self.error = ""  # why the model could not be loaded
        try:
            self.model, self.class_names = task.loader.load()
        except Exception as error:
            log.debug("Traceback:", exc_info=True)
            self.error = task.loader.explain(error)

    def answer(self, block: Block) -> Answer:
        """Detect the images of a block."""
        if self.error:
            return Answer(block.number, error=self.error)
        rows = list(self.rows(block.names))
        failed = sum("error" in row for row in rows)
        return Answer(block.number, to_lines(rows), len(rows), failed)

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """Yield a row for each image, in their order; memory holds two batches of images."""
        for images in prefetch_one(self._batches(names)):
            yield from self._detect(images)

    def _batches(self, names: Sequence[str]) -> Iterator[list[ReadImage]]:
        size = self.task.batch
        for start in range(0, len(names), size):
            yield [self._read(name) for name in names[start : start + size]]

    def _read(self, name: str) -> ReadImage:
        channels = self.model.config.IMAGE_CHANNEL_COUNT
        try:
            return ReadImage(name, self.task.loader.read(name, channels))
        except Exception as error:  # image libraries and file systems raise errors of any type
            return ReadImage(name, None, error)

    def _detect(self, images: list[ReadImage]) -> Iterator[Row]:
        """Yield the rows of a batch; if it fails, its images are detected one by one."""
        readable = [image.pixels for image in images if image.pixels is not None]
        try:
            results = self._results(readable)
        except Exception as error:
            if len(images) > 1:
                for image in images:
                    yield from self._detect([image])
            else:
                yield self._failed_row(images[0].name, error)
            return
        remaining = iter(results)
        for image in images:
            if image.pixels is None:
                yield self._failed_row(image.name, image.error or ValueError("unreadable"))
            else:
                yield self._row(image.name, image.pixels, next(remaining))

    def _results(self, images: list[np.ndarray]) -> list[dict[str, Any]]:
        if not images:
            return []
        return self.model.detect(images, batch_size=self.task.batch, masks="crop")

    def _row(self, name: str, pixels: np.ndarray, result: dict[str, Any]) -> Row:
        arrays = dict(result)
        height, width = pixels.shape[:2]
        if "masks" in arrays:
            arrays["masks"] = rles(arrays["masks"], arrays["rois"], (height, width))
        row = {"file_name": name, "width": int(width), "height": int(height)}
        return {**row, **self.task.loader.row(arrays, self.class_names)}

    def _failed_row(self, name: str, error: Exception) -> Row:
        log.debug("Traceback:", exc_info=error)
        return failed_row(name, self.task.loader.explain(error))


def failed_row(name: str, reason: str) -> Row:
    """Return the row of an image that has no detections. reason: a sentence."""
    return {"file_name": name, "error": reason}

"""The served models: their names, their weight files, and the reloads of newer files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.keypoints import skeleton_of
from ..files.safe_text import clean_name, printable
from ..inference.result import Result, numbered_classes
from ..weights.shipped import shipped
from .batching import BatchQueue
from .errors import RequestError
from .metrics import Metrics
from .settings import Settings
from .weight_files import (
    ChangedFile,
    Stamp,
    newest_file,
    stamp,
    unchanging_copy,
    version_of,
)

log = logging.getLogger("mrcnn")


class Loader(Protocol):
    """How weights become a model that detects, such as a `DetectionModel`."""

    def load(self, weights: str) -> Any: ...

    def describe(self, weights: str) -> dict | None:
        """Return the description of the network in a file: only equal ones can swap weights."""


class Detected(NamedTuple):
    """The detections of one image, and the version of the weights that found them."""

    result: Result
    version: str


class Prepared(NamedTuple):
    """A model that has detected once, its class names, and the confidence of its config."""

    model: Any
    class_names: list[str]
    min_confidence: float


def _first_version(weights: str, path: Path | None) -> str:
    """The version of weights by their file; of a downloaded name the word "released"."""
    if path is None:
        model = shipped(weights)
        path = None if model is None else model.weights
    return "released" if path is None else version_of(path)


class ServedModel:
    """A model under a name; its weights may change between two batches, never within one.

    weights: a file, the folder of a training, or a name of released weights.
    """

    def __init__(
        self, name: str, weights: str, loader: Loader, settings: Settings, metrics: Metrics
    ):
        self.name = name
        self.weights = weights
        self._loader = loader
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.Lock()  # a batch holds it, or the exchange of weights
        self._seen: Stamp | None = None  # of the file at the last look, if it was a new one
        path = newest_file(weights)
        if path is None and Path(weights).is_dir():
            raise ValueError(
                "A folder of weights must be that of a training with a checkpoint. "
                f"Received: {weights}. Try a weight file in it."
            )
        self._loaded = None if path is None else stamp(path)
        self.version = _first_version(weights, path)
        source = weights if path is None else str(path)
        self._description = loader.describe(source)
        self._use(self._prepared(loader.load(source)))

    def _prepared(self, model: Any) -> Prepared:
        """Set up a new model, and try it on an empty image."""
        config = model.config
        confidence = float(config.DETECTION_MIN_CONFIDENCE)
        config.DETECTION_MIN_CONFIDENCE = min(confidence, self._settings.lowest_score)
        names = _clean_names(model)
        # TensorFlow compiles the network at the first detection, which takes seconds.
        model.detect([np.zeros((64, 64, config.IMAGE_CHANNEL_COUNT), np.uint8)], masks="crop")
        return Prepared(model, names, confidence)

    def _use(self, prepared: Prepared) -> None:
        """Detect with a model from now on."""
        self.model, self.class_names, self.min_confidence = prepared

    @property
    def channels(self) -> int:
        """The number of channels of the network's images."""
        return int(self.model.config.IMAGE_CHANNEL_COUNT)

    def describe(self) -> dict[str, Any]:
        """Return what a client may know of the model, ready for JSON."""
        config = self.model.config
        skeleton = skeleton_of(config)
        return {
            "name": self.name,
            "version": self.version,
            "class_names": self.class_names,
            "min_confidence": self.min_confidence,
            "lowest_score": float(config.DETECTION_MIN_CONFIDENCE),
            "has_masks": bool(config.has_mask_head()),
            "keypoint_names": [] if skeleton is None else list(skeleton.names),
            "keypoint_lines": [] if skeleton is None else [list(line) for line in skeleton.lines],
        }

    def detect(self, images: list[np.ndarray]) -> list[Detected]:
        """Detect objects in images `[H, W, C]` uint8, all with the same weights."""
        with self._lock, self._metrics.batch_seconds.labels(self.name).time():
            results = self.model.detect(images, batch_size=len(images), masks="crop")
            version = self.version
        self._metrics.batch_images.labels(self.name).observe(len(images))
        found = sum(len(result["rois"]) for result in results)
        self._metrics.detections.labels(self.name).inc(found)
        return [Detected(result, version) for result in results]

    # --- Newer weights ---

    def look_for_newer(self) -> bool:
        """Load the weight file if it is another one than the loaded; return whether it was loaded.

        A file counts if it has not changed since the last look. One that cannot be loaded is
        logged, and the present weights stay.
        """
        try:
            path = newest_file(self.weights)
            found = None if path is None else stamp(path)
        except OSError:
            return False  # between the deletion of a file and its replacement
        if path is None or found is None or found == self._loaded:
            return False
        if found != self._seen:
            self._seen = found
            return False
        try:
            with unchanging_copy(path, found) as copy:
                self._load_newer(str(copy), version_of(copy))
        except ChangedFile:
            self._seen = None
            return False
        except Exception as error:  # whatever the file makes Keras or HDF5 raise
            self._loaded = found  # not tried again until it changes
            self._metrics.reloads.labels(self.name, "failed").inc()
            reason = printable(error, 1000)
            log.error("%s: the newer weights %s are not used: %s", self.name, path, reason)
            return False
        self._loaded = found
        self._metrics.reloads.labels(self.name, "done").inc()
        log.info("%s: now detects with %s (version %s)", self.name, path, self.version)
        return True

    def _load_newer(self, path: str, version: str) -> None:
        """Exchange the weights, or the whole model if the network is another one."""
        description = self._loader.describe(path)
        if description is not None and description == self._description:
            with self._lock:
                self.model.load_weights(path)
                self.class_names = _clean_names(self.model)
                self.version = version
            return
        prepared = self._prepared(self._loader.load(path))
        with self._lock:
            self._use(prepared)
            self._description = description
            self.version = version


def _clean_names(model: Any) -> list[str]:
    """Give a model class names in one line, without control characters, and return them."""
    names = model.class_names or numbered_classes(model.config.NUM_CLASSES)
    model.class_names = [clean_name(name) for name in names]
    return model.class_names


class Models:
    """All served models, each with its queue, and the thread that looks for newer weights.

    expects_more: see `BatchQueue`.
    """

    def __init__(
        self,
        models: Iterable[ServedModel],
        settings: Settings,
        expects_more: Callable[[int], bool] = lambda waiting: True,
    ):
        self._models = {model.name: model for model in models}
        self._settings = settings
        self.queues = {
            name: BatchQueue(
                model.detect,
                settings.batch_size,
                settings.max_images,
                settings.batch_seconds,
                expects_more,
            )
            for name, model in self._models.items()
        }
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="mrcnn-reload", daemon=True)
        self._watcher.start()

    def __iter__(self):
        return iter(self._models.values())

    def get(self, name: str | None) -> ServedModel:
        """Return the model of a name; the first one for None.

        Raises: RequestError 404 for an unknown name.
        """
        if name is None:
            return next(iter(self))
        if name not in self._models:
            raise RequestError(
                404,
                f"model must be one of {', '.join(self._models)}. "
                f"Received: {printable(name)}. Try GET /v1/models.",
            )
        return self._models[name]

    def busy_seconds(self) -> float:
        """How long the longest of the running batches has been running."""
        return max(queue.busy_seconds for queue in self.queues.values())

    def close(self) -> None:
        """Detect what is queued, then end all threads."""
        self._stopping.set()
        for queue in self.queues.values():
            queue.close()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._settings.reload_seconds):
            for model in self:
                try:
                    model.look_for_newer()
                except Exception:  # the other models and later files still count
                    log.exception("%s: the look for newer weights failed.", model.name)


def load_models(
    named: Sequence[tuple[str, str]], loader: Loader, settings: Settings, metrics: Metrics
) -> list[ServedModel]:
    """Load the models of `(name, weights)` pairs, one after another."""
    return [ServedModel(name, weights, loader, settings, metrics) for name, weights in named]

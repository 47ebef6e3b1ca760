"""--weights and --runtime of the command: a network to detect with, or an exported file."""

from __future__ import annotations

import atexit
import copy
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.safe_text import clean_name
from ..inference.runtimes import FORMATS, RUNTIMES, format_of, is_exported, is_installed
from .cli_support import (
    UsageError,
    check_weights,
    load_for_use,
    load_tensorflow,
    read_config,
    validated,
)

if TYPE_CHECKING:
    from ..detection_model import DetectionModel
    from ..inference.exported_model import ExportedModel

log = logging.getLogger("mrcnn")

# Settings that may change after an export; all others are part of the exported graph.
FREE_SETTINGS = ("DETECTION_MIN_CONFIDENCE", "MASK_THRESHOLD")


def check_model(path: str) -> None:
    """Raise before a network is built if a file does not exist or is no model.

    Raises: FileNotFoundError, or ValueError that says what the file is.
    """
    if not is_exported(path):
        check_weights(path)
    elif not os.path.exists(path):
        raise FileNotFoundError(
            f"--weights must be a file. Received: {path}, which does not exist. Try its full path."
        )


def load_to_detect(
    weights: str, items: list[str], runtime: str | None = None
) -> tuple[DetectionModel | ExportedModel, list[str]]:
    """A model to detect with, and its class names.

    weights: a weight file, a name that `mrcnn weights` lists, or a file that `mrcnn export` wrote.
    items: of --config. runtime: of --runtime; a weight file is exported for another runtime than
    TensorFlow, into a folder that is removed at the end.

    Raises: UsageError for a runtime that cannot run the file.
    """
    if is_exported(weights):
        return _load_exported(weights, items, runtime)
    if runtime in (None, "tensorflow"):
        return load_for_use(weights, items)
    if not is_installed(runtime):
        raise UsageError(
            f"--runtime {runtime} needs its package. Received: an installation without it. Try "
            "pip install 'mask-rcnn-keras3[export]'."
        )
    model, names = load_for_use(weights, [*items, "PRECISION=float32"])
    return _load_exported(_exported_for(model, weights, runtime), [], runtime)[0], names


def _exported_for(model: DetectionModel, weights: str, runtime: str) -> str:
    """The path of a file for a runtime, exported from a model."""
    from ..export.exporting import default_path

    folder = tempfile.mkdtemp(prefix="mrcnn_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log.info("Exporting %s for %s; `mrcnn export` keeps such a file.", weights, runtime)
    path = Path(folder, default_path(weights, RUNTIMES[runtime]).name)
    return str(model.export(path, RUNTIMES[runtime]).path)


def _load_exported(
    path: str, items: list[str], runtime: str | None
) -> tuple[ExportedModel, list[str]]:
    from ..inference.exported_model import ExportedModel

    own = FORMATS[format_of(path)].runtime
    if runtime not in (None, own):
        raise UsageError(
            f"--runtime must be the one of the file. Received: {runtime}, and {path} for {own}. "
            f"Try the weight file, or `mrcnn export --format {RUNTIMES[runtime]}`."
        )
    if own == "tensorflow":
        load_tensorflow()
    model = ExportedModel(path)
    before = model.config.to_dict()
    config = validated(read_config(items, copy.copy(model.config)))
    changed = [name for name, value in config.to_dict().items() if value != before.get(name)]
    fixed = [name for name in changed if name not in FREE_SETTINGS]
    if fixed:
        raise UsageError(
            f"--config cannot change {', '.join(fixed)} of an exported file. Received: {path}. "
            "Try the same option at `mrcnn export`."
        )
    model.config = config
    return model, [clean_name(name) for name in model.class_names]

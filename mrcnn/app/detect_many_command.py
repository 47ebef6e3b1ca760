"""`mrcnn detect-many`: very many images to files of rows, by processes or on Ray."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.safe_text import printable
from ..many.block import FileLoader, Task
from ..many.devices import gpu_names
from ..many.inputs import find_names, import_parquet
from ..many.job import FAILED as FAILED_ROWS
from ..many.job import Finished, Runner, check_folder, locked, prepare
from ..many.processes import Processes
from ..many.shards import FOLDER
from ..serve.weight_files import version_of
from ..weights.opening import read_metadata
from ..weights.zoo import weight_path
from .cli_support import (
    FAILED,
    OK,
    check_weights,
    config_for_use,
    error_sentence,
    failure,
    load_for_use,
    make_folder,
    say,
    set_up_libraries,
    set_up_logging,
    use_views,
)
from .data_option import counted

if TYPE_CHECKING:
    from ..detection_model import DetectionModel

log = logging.getLogger("mrcnn")


class WorkerLoader(FileLoader):
    """Loads the model of a worker, with the settings of the command."""

    def __init__(self, args, version: str):
        """version: of the weight file."""
        self.folder = os.getcwd()
        self.weights = absolute(args.weights)
        self.config = [item if "=" in item else absolute(item) for item in args.config]
        self.min_confidence: float | None = args.min_confidence
        self.tta: list | None = args.tta
        self.version = version

    def load(self) -> tuple[DetectionModel, list[str]]:
        """Return a model that detects, and its class names.

        Raises: ValueError if the weight file of this machine is not that of the command, or the
            network knows no classes.
        """
        set_up_logging()
        log.setLevel(logging.WARNING)  # each worker would say the same
        set_up_libraries()
        path = Path(weight_path(self.weights))
        if version_of(path) != self.version:
            raise ValueError(
                "All workers must have the same weights. Received: another file at "
                f"{path.resolve()} on {platform.node()}. Try to copy the file there."
            )
        model, class_names = load_for_use(self.weights, self.config)
        if model.config.RPN_ONLY:
            raise ValueError(
                "Workers need a network that knows classes. Received: "
                f"{self.weights}, a region proposal network only (RPN_ONLY). "
                "Try MaskRCNN.detect in Python."
            )
        if self.min_confidence is not None:
            model.config.DETECTION_MIN_CONFIDENCE = self.min_confidence
        use_views(model.config, self.tta)
        return model, class_names

    def explain(self, error: Exception) -> str:
        """Return the reason of an error as a sentence."""
        return printable(error_sentence(error), 1000)


def absolute(path: str) -> str:
    """The absolute path of a file; another word, such as the name of weights, stays."""
    return os.path.abspath(path) if os.path.exists(path) else path


def run(args) -> int:
    """Run `mrcnn detect-many`."""
    check_weights(args.weights)
    if args.format == "parquet":
        import_parquet()
    out = make_folder(args.out, "--out")
    loader = WorkerLoader(args, version_of(Path(weight_path(args.weights))))
    description = _description(args, loader)
    with locked(out):
        check_folder(out, description, args.resume, args.block)  # before Ray starts
        runner, workers = make_runner(args, Task(loader, args.batch))
        names = find_names(args.images)
        job = prepare(out, description, names, args.resume, args.block, workers)
        try:
            finished = job.run(runner)
        except KeyboardInterrupt:
            log.warning("Interrupted: the same command with --resume finishes the job.")
            raise
    return _report(finished, out)


def make_runner(args, task: Task) -> tuple[Runner, int]:
    """Return the workers that --workers, --ray and --address ask for, and their number."""
    if args.ray or args.address is not None:
        from ..many.on_ray import RayActors

        actors = RayActors(task, args.workers, args.address)
        return actors, actors.count
    workers = args.workers or len(gpu_names()) or 1
    return Processes(task, workers), workers


def _description(args, loader: WorkerLoader) -> dict[str, Any]:
    """Return what decides the rows; a resumed job must have the same."""
    metadata = read_metadata(args.weights) or {}
    config = config_for_use(args.weights, args.config)
    return {
        "weights": args.weights,
        "weights_version": loader.version,
        "class_names": metadata.get("class_names"),
        "config": None if config is None else config.to_dict(),
        "min_confidence": args.min_confidence,
        "tta": args.tta,
        "inputs": args.images,
        "folder": os.getcwd(),  # that relative paths start from
        "format": args.format,
    }


def _report(finished: Finished, out: Path) -> int:
    """Say what was written. Returns: FAILED if no image could be detected, otherwise OK."""
    rate = finished.new_images / max(finished.seconds, 1e-9)
    images = counted(finished.images, "image")
    log.info("%s in %.0f s, %.1f images/s", finished.new_images, finished.seconds, rate)
    say(f"{images}: a row for each in {(out / FOLDER).resolve()}")
    if not finished.failed:
        return OK
    text = f"{finished.failed} of {images} have an error as row, see {out / FAILED_ROWS}"
    if finished.failed == finished.images:
        return failure(FAILED, "mrcnn", text)
    log.warning("%s", text)
    return OK

"""`mrcnn evaluate --workers` and `--ray`: the detections of a dataset, found by workers."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..data.dataset import Dataset
from ..data.split import divide
from ..formats.split_files import read_split
from ..many.block import Task
from ..many.job import DESCRIPTION, locked, prepare
from ..many.shards import Row, read_rows
from ..serve.weight_files import version_of
from ..weights.file_config import config_of_file
from ..weights.opening import open_weights
from ..weights.zoo import weight_path
from .cli_support import config_for_use
from .data_option import SHAPES_HELD_OUT, data_options, open_data
from .detect_many_command import WorkerLoader, absolute, make_runner

log = logging.getLogger("mrcnn")

FOLDER = "detections"  # of the job, in --out
# The arrays of a result, by which numbers of a row become again what `detect` returned.
TYPES = {"class_ids": np.int32, "scores": np.float32, "keypoints": np.float32}


class Measured(NamedTuple):
    """DATA of `mrcnn evaluate`: what opens its dataset, in the command and in each worker.

    class_names: those of the weights, or None. options: of `open_data`.
    """

    data: str
    split: str | None
    class_names: list[str] | None
    options: dict[str, Any]

    def open(self) -> Dataset:
        """Open the dataset: all its images, or those that a split sets aside."""
        dataset = open_data(self.data, self.class_names, SHAPES_HELD_OUT, **self.options)
        if self.split is not None:
            _, dataset = divide(dataset, read_split(Path(self.split)))
        return dataset


class DatasetLoader(WorkerLoader):
    """Loads the model and the dataset of a worker; the names of images are their ids."""

    def __init__(self, args: argparse.Namespace, version: str, measured: Measured):
        """version: of the weight file."""
        super().__init__(args, version)
        options = dict(measured.options)
        if options["images_dir"] is not None:
            options["images_dir"] = absolute(options["images_dir"])
        split = None if measured.split is None else absolute(measured.split)
        self.measured = measured._replace(
            data=absolute(measured.data), split=split, options=options
        )

    def load(self) -> tuple[Any, list[str]]:
        """Return a model that detects, and its class names; the dataset is opened as well."""
        loaded = super().load()
        self.dataset = self.measured.open()
        return loaded

    def read(self, name: str, channels: int) -> np.ndarray:
        """Return the image `[H, W, C]` of an image id."""
        return self.dataset.load_image(int(name))

    def row(self, result: dict[str, Any], class_names: list[str]) -> Row:
        """Return the arrays of a result, unrounded, as lists."""
        return {
            name: value if name == "masks" else np.asarray(value).tolist()
            for name, value in result.items()
        }


class Results(dict[int, dict[str, Any]]):
    """Image id -> result; errors: image id -> why there is none."""

    def __init__(self, results: dict[int, dict[str, Any]], errors: dict[int, str]):
        super().__init__(results)
        self.errors = errors

    def __missing__(self, image_id: int) -> dict[str, Any]:
        raise ValueError(self.errors[image_id])


def measured_data(args: argparse.Namespace, class_names: list[str] | None) -> Measured:
    """Return what the options of the command say about DATA."""
    return Measured(args.data, args.split, class_names, data_options(args))


def wants_workers(args: argparse.Namespace) -> bool:
    """Whether the options ask for workers."""
    return bool(args.workers or args.ray or args.address is not None)


def network_config(weights: str, items: list[str]) -> Config:
    """Return the config of the network of a weight file, without TensorFlow.

    items: of --config.
    """
    config = config_for_use(weights, items)
    if config is not None:
        return config
    with open_weights(weights) as file:
        return config_of_file(file)


def detect_by_workers(
    args: argparse.Namespace, measured: Measured, config: Config, image_ids: list[int], out: Path
) -> Results:
    """Detect the images of a dataset as a job in a folder of `out`, and return its results.

    With --resume the images of an unfinished job are not detected again; otherwise an earlier job
    in the folder is deleted. config: with the settings of the options, for the description.
    """
    version = version_of(Path(weight_path(args.weights)))
    loader = DatasetLoader(args, version, measured)
    description = {
        "weights": args.weights,
        "weights_version": version,
        "config": config.to_dict(),
        "data": loader.measured._asdict(),
        "limit": args.limit,
        "folder": os.getcwd(),
        "format": "jsonl",
    }
    folder = out / FOLDER
    if (folder / DESCRIPTION).exists() and not args.resume:
        shutil.rmtree(folder)
    folder.mkdir(exist_ok=True)
    with locked(folder):
        runner, workers = make_runner(args, Task(loader, batch=1))
        job = prepare(folder, description, map(str, image_ids), args.resume, None, workers)
        job.run(runner)
    return read_results(folder)


def read_results(folder: Path) -> Results:
    """Return the results of a job of `detect_by_workers`."""
    results: dict[int, dict[str, Any]] = {}
    errors: dict[int, str] = {}
    for row in read_rows(folder):
        image_id = int(row["file_name"])
        if "error" in row:
            errors[image_id] = row["error"]
        else:
            results[image_id] = _result(row)
    return Results(results, errors)


def _result(row: Row) -> dict[str, Any]:
    """Return the result of a row, as `detect` returned it."""
    boxes = np.reshape(row["rois"], (-1, 4))
    is_whole = all(isinstance(side, int) for box in row["rois"] for side in box)
    result: dict[str, Any] = {"rois": boxes.astype(np.int32 if is_whole else np.float32)}
    for name, kind in TYPES.items():
        if name in row:
            result[name] = np.array(row[name], kind)
    if "masks" in row:
        result["masks"] = row["masks"]
    if "keypoints" in row and len(boxes) == 0:
        result["keypoints"] = result["keypoints"].reshape(0, 0, 3)
    return result

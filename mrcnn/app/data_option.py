"""DATA of the command: open it, describe it in the log, and reject data that cannot be used."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..data.dataset import Dataset
from ..files.addresses import is_url
from ..formats.class_counts import objects_per_class

log = logging.getLogger("mrcnn")

# DATA "shapes": a seed names a set of generated images; no training, not even the demo's, uses the
# second seed.
SHAPES_TO_TRAIN = {"count": 500, "seed": 0}
SHAPES_HELD_OUT = {"count": 100, "seed": 2**40}


def open_data(
    path: str, class_names: list[str] | None = None, shapes: dict | None = None, **options
) -> Dataset:
    """Open the dataset at a path.

    class_names: the classes that it must have, background first; default: those it has.
    shapes: the generated images that the word "shapes" stands for.
    options: of `open_dataset`; see `data_options`.

    Raises: ValueError if no known format is there, the classes are others, or a class name is given
        and the data names its classes.
    """
    from ..formats.open_dataset import open_dataset

    if is_url(path):
        raise ValueError(
            f"DATA must be on this machine. Received: the URL {path}. Try to download it first."
        )
    class_name = options.get("class_name")
    if path == "shapes":
        options = shapes or {}
    names = None if class_names is None else class_names[1:]
    dataset = open_dataset(path, class_names=names, **options)
    if class_name is not None and dataset.class_names[1:] != [class_name]:
        raise ValueError(
            "A class can be named for data that names none. "
            f"Received: {class_name!r} for {path}, which has {dataset.class_names[1:]}. "
            "Try without it (--class-name)."
        )
    return dataset


def data_options(args) -> dict:
    """The arguments of `open_dataset` that --images, --strict, --attribute and --class-name
    stand for.

    Raises: ValueError if --images is not a folder.
    """
    if args.images is not None and not Path(args.images).is_dir():
        raise ValueError(
            f"--images must be a folder. Received: {args.images}, which is no folder. "
            "Try its full path."
        )
    options = {"images_dir": args.images, "strict": args.strict}
    if args.attribute is not None:
        options["attribute"] = args.attribute
    if args.class_name is not None:
        options["class_name"] = args.class_name
    return options


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 image`, `2 images`; plural: if it is not the noun with an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def log_data(role: str, dataset: Dataset) -> None:
    """Log the reader, images, classes and objects of a dataset. role: for example "Data"."""
    counts = objects_per_class(dataset)
    names = dataset.class_names[1:]
    classes = counted(len(names), "class", "classes")
    if counts is not None:
        classes += " (and their objects)"
        names = [f"{name} {counts[name]}" for name in names]
    images = counted(len(dataset.image_ids), "image")
    log.info("%s: %s, %s, %s: %s", role, type(dataset).__name__, images, classes, ", ".join(names))


def require_images(dataset: Dataset, data: str) -> None:
    """Raise a ValueError if not one image file exists, before a network is built."""
    on_disk = [info for info in dataset.image_info if not info.get("embedded")]
    paths = [info["path"] for info in on_disk if info.get("path")]
    if paths and not any(os.path.isfile(path) for path in paths):
        raise ValueError(
            f"The images of DATA must exist. Received: {data}, of whose {len(paths)} images not "
            f"one exists ({paths[0]} for example). Try to name the folder of the images: --images "
            f"DIR."
        )

"""--split and --overfit: one dataset becomes the data to train on and to validate on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..data.dataset import Dataset
from ..data.split import Split, divide, draw_split, image_names
from ..formats.split_files import FILE, read_record, read_split, write_split
from ..weights.zoo import is_name
from .cli_support import UsageError, resumed_checkpoint
from .data_option import counted, log_data, objects_per_class

log = logging.getLogger("mrcnn")

SHARE = 0.8  # of the images to train on, unless --split says otherwise
DEVIATION = 0.05  # of the share, from which on it is explained
FEWEST_IMAGES = 10  # of data that is split without --split


class DividedData(NamedTuple):
    """The data of a training, and how it was divided.

    validation: None trains without. split: None if the user named the validation data, or it
    does not exist. drawn: how the split was drawn, for split.json.
    """

    train: Dataset
    validation: Dataset | None
    split: Split | None = None
    drawn: dict[str, Any] | None = None

    def write(self, folder: str | Path) -> None:
        """Write split.json into a folder, for a resumed training and for `mrcnn evaluate`."""
        if self.split is not None:
            write_split(Path(folder), self.split, **(self.drawn or {}))


def divide_data(
    train_data: Dataset, validation: Dataset | None, config: Config, args, name: str
) -> DividedData:
    """Divide the training data as --overfit, --split, or the split of the resumed run says.

    Without these, and without validation data, it is split if it has enough images.

    name: of the run, unless the config sets one.

    Raises: UsageError for options that contradict each other.
    """
    _check_options(validation, args)
    if validation is not None and args.overfit is None:
        return DividedData(train_data, validation)
    split = _stored_split(train_data, config, args, name)
    drawn = {}
    if split is None:
        split, drawn = _new_split(train_data, args)
    if split is None:
        return DividedData(train_data, None)
    train_part, validation = divide(train_data, split)
    if args.overfit is None:
        _log_parts(train_part, validation)
    return DividedData(train_part, validation, split, drawn)


def _check_options(validation: Dataset | None, args) -> None:
    """Raise a UsageError for options of which only one can hold."""
    if args.overfit is not None and args.split is not None:
        raise UsageError(
            "--overfit validates on the images that it trains on. Received: --split, too. "
            "Try one of them."
        )
    if validation is not None and args.split is not None:
        raise UsageError(
            "--split divides data without validation data. Received: --split, and validation "
            "data (--val, or folders train and val in DATA). Try without --split, or the folder "
            "train itself."
        )


# --- A split that exists --------------------------------------------------------------------------


def _stored_split(dataset: Dataset, config: Config, args, name: str) -> Split | None:
    """The split of the run that --weights resumes, otherwise of the file that --split names."""
    of_run = _split_of_run(config, args, name)
    if of_run is not None and not _is_of(dataset, read_split(of_run)):
        log.info("%s is the split of other data, and is not used.", of_run)
        of_run = None
    if of_run is not None:
        _check_same(of_run, args)
    elif not isinstance(args.split, str):
        return None
    file = of_run or Path(args.split)
    split = read_split(file)
    log.info("Split: %s lists the images.", file)
    _log_unlisted(dataset, split)
    return split


def _is_of(dataset: Dataset, split: Split) -> bool:
    return not {*split.train, *split.val}.isdisjoint(image_names(dataset))


def _check_same(of_run: Path, args) -> None:
    """Raise a UsageError if the options ask for another split than that of the resumed run."""
    record = read_record(of_run)
    if isinstance(args.split, str):
        is_same = read_split(Path(args.split)) == read_split(of_run)
    else:
        is_same = args.split in (None, record.get("share"))
    if not is_same or args.overfit not in (None, record.get("overfit")):
        raise UsageError(
            f"A resumed training has the split of its run, {of_run}. Received: another --split "
            "or --overfit. Try without it, or a new run."
        )


def _split_of_run(config: Config, args, name: str) -> Path | None:
    """The split.json next to the checkpoint that --weights names; None without one."""
    checkpoint = resumed_checkpoint(config, args, name)
    file = None if checkpoint is None else checkpoint.parent / FILE
    return file if file is not None and file.is_file() else None


def _log_unlisted(dataset: Dataset, split: Split) -> None:
    names = set(image_names(dataset))
    unlisted = names - {*split.train, *split.val}
    missing = {*split.train, *split.val} - names
    if unlisted:
        log.warning("%s of the data are in neither part.", counted(len(unlisted), "image"))
    if missing:
        log.warning("%s of the split are not in the data.", counted(len(missing), "image"))


# --- A new split ----------------------------------------------------------------------------------


def _new_split(dataset: Dataset, args) -> tuple[Split | None, dict[str, Any]]:
    """A split, and how it was drawn; None for a training without validation data."""
    if args.overfit is not None:
        names = _names_with_objects(dataset, args.overfit)
        log.info(
            "Overfitting: %s, without augmentation, and validation on the same. A network that "
            "works finds all their objects in the end; otherwise annotations or settings are "
            "wrong.",
            counted(len(names), "image"),
        )
        return Split(names, names), {"overfit": len(names)}
    share = args.split
    count = len(dataset.image_ids)
    # A file may be a checkpoint of a run that set aside no images.
    is_resumed = args.weights not in (None, "imagenet") and not is_name(args.weights)
    if share is None and not is_resumed and count >= FEWEST_IMAGES:
        share = SHARE
        log.info("No validation data: some images of DATA are set aside (--split off: none).")
    if not share:
        log.info("No validation data. Try --val, --split, or a DATA folder with train and val.")
        return None, {}
    if count < 2:
        raise UsageError(f"--split needs at least two images. Received: {count}.")
    split = draw_split(dataset, share, args.split_seed, args.split_by == "names")
    log_split(split, share, args.split_seed)
    return split, {"share": share, "seed": args.split_seed, "by": args.split_by}


def _names_with_objects(dataset: Dataset, count: int) -> list[str]:
    """The names of images with objects, drawn from the dataset, the same at each call."""
    all_names = image_names(dataset)
    names: list[str] = []
    for image_id in np.random.default_rng(0).permutation(len(all_names)):
        if len(names) == count:
            break
        try:
            class_ids = dataset.load_class_ids(int(image_id))
        except (ValueError, OSError):
            continue
        if np.any(np.asarray(class_ids) > 0):
            names.append(all_names[image_id])
    if not names:
        raise ValueError("--overfit needs an image with objects. Received: none that can be read.")
    return names


def log_split(split: Split, share: float, seed: int) -> None:
    """Log how a split was drawn."""
    found = len(split.train) / (len(split.train) + len(split.val))
    log.info(
        "Split: %s to train on, %d to validate on (share %g, seed %d).",
        counted(len(split.train), "image"), len(split.val), share, seed,
    )  # fmt: skip
    if abs(found - share) > DEVIATION:
        log.info(
            "The share is %.2f, so that rare classes are in both parts and groups stay whole.",
            found,
        )
    if split.groups is not None:
        log.info(
            "By their names the images are %d groups, such as frames of one film: images of one "
            "group stay together (--split-by images draws each by itself).",
            split.groups,
        )


def _log_parts(train_part: Dataset, validation: Dataset) -> None:
    """Log the objects of both parts, and the classes that only one of them has."""
    log_data("To train on", train_part)
    log_data("To validate on", validation)
    counts = objects_per_class(train_part)
    counts_of_validation = objects_per_class(validation)
    if counts is None or counts_of_validation is None:  # only the masks' pixels show it
        return
    for verb, some, others in (
        ("train", counts, counts_of_validation),
        ("validate", counts_of_validation, counts),
    ):
        missing = [name for name, count in some.items() if count == 0 and others[name]]
        if missing:
            log.warning("No object to %s on of: %s", verb, ", ".join(missing))

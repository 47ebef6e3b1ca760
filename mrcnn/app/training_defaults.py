"""What `mrcnn train` chooses from the data unless options say otherwise.

These are anchors, limits of objects, learning rate, averages of the weights and augmentation. Each
choice is logged.
The class `Config` keeps matterport's values.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..data.check import check
from ..data.check_anchors import FITTING_IOU, spread_evenly
from ..data.check_report import Report
from ..data.dataset import Dataset
from ..files.safe_text import printable
from ..formats.reading import read_json
from .cli_support import own_names, read_config, resumed_checkpoint, write_json
from .data_option import counted

log = logging.getLogger("mrcnn")

# Settings that the command chooses: those of a network, which its weights imply, and all.
OF_NETWORK = ("BACKBONE", "RPN_ANCHOR_SCALES")
OF_RUN = (
    *OF_NETWORK, "LEARNING_RATE", "EMA_DECAY", "IMAGES_PER_GPU", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM"
)  # fmt: skip

# Settings of the data or the machine, which a resumed training takes from its own options.
OF_DATA = {
    "NAME",
    "NUM_CLASSES",
    "GPU_COUNT",
    "STEPS_PER_EPOCH",
    "VALIDATION_STEPS",
    "WARMUP_STEPS",
    "SEED",
}

CPU_PRESET = "lite"  # its ImageNet weights need no download
IMAGES_FOR_OBJECTS = 200  # whose objects are compared with the settings
MOST_OBJECTS = 400  # of an image, that limits are raised to; memory and time grow with them
RATE_BATCH = 2  # images of a batch that LEARNING_RATE of Config and of all presets is for
AUGMENTATION = "standard"
AVERAGED_SHARE = 1 / 6  # of the training's steps; 600 steps are averaged over 100: EMA_DECAY 0.99
AVERAGED_STEPS = (10, 1000)  # at least and at most
OPTIONS = "options.json"  # in the folder of a run: options of its command that are no settings
OVERFITTING_STEPS = 100  # of an epoch


def user_settings(config: Config, args) -> set[str]:
    """The settings that --config itself names; those of presets are not among them.

    config: what was read from these options.
    """
    items = [item for item in args.config if not item.startswith("PRESET=")]
    has_preset = len(items) < len(args.config) or args.network is not None
    names = own_names(read_config(items) if has_preset else config)
    if args.learning_rate is not None:
        names.add("LEARNING_RATE")
    return names


def adopt_checkpoint(config: Config, args, by_user: set[str], name: str) -> None:
    """Take what the command chose for the training whose weights are loaded.

    Of the run that --weights last resumes all settings but those of the data, so that a run which
    started from a model of this package has its network again; of other files what is part of the
    network.

    by_user: settings that stay. name: of the run, unless the config sets one.
    """
    from ..weights.opening import read_metadata

    checkpoint = resumed_checkpoint(config, args, name)
    values = {} if checkpoint is None else (read_metadata(checkpoint) or {}).get("config", {})
    if values.get("NETWORK", config.NETWORK) != config.NETWORK:
        return
    stored, adopted = Config.from_dict(values), []
    settings = set(OF_NETWORK)
    if args.weights == "last":
        settings = {*OF_RUN, *stored.changed()} - OF_DATA
    for setting in sorted(settings & values.keys() - by_user):
        value, current = getattr(stored, setting), getattr(config, setting, None)
        is_function = isinstance(value, str) and ":" in value  # of the user's
        if is_function or _plain(value) == _plain(current):
            continue
        setattr(config, setting, tuple(value) if isinstance(current, tuple) else value)
        adopted.append(f"{setting}={values[setting]}")
    if adopted:
        log.info("As in %s: %s.", checkpoint, ", ".join(adopted))


def adopt_length(config: Config, args, by_user: set[str], name: str) -> None:
    """Take the length of the run that --weights last resumes, unless options name it.

    That is the steps of an epoch, if a batch has as many images as then; and the last epoch, the
    layers and the warm-up, if --epochs names no other epoch.

    by_user, name: as for `adopt_checkpoint`.
    """
    from ..training.training_state import newest_record
    from ..weights.opening import read_metadata

    checkpoint = resumed_checkpoint(config, args, name)
    if args.weights != "last" or checkpoint is None:
        return
    stored = Config.from_dict((read_metadata(checkpoint) or {}).get("config", {}))
    if "STEPS_PER_EPOCH" not in by_user and stored.BATCH_SIZE == config.BATCH_SIZE:
        config.STEPS_PER_EPOCH = stored.STEPS_PER_EPOCH
    record = newest_record(checkpoint.parent) or {}
    if not record or args.epochs not in (None, record["until"]):
        return
    args.epochs = record["until"]
    args.layers = args.layers or record["layers"]
    if "WARMUP_STEPS" not in by_user:
        config.WARMUP_STEPS = stored.WARMUP_STEPS


def _plain(value: Any) -> Any:
    """A setting as JSON has it: lists instead of tuples and arrays."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def leaves_backbone_open(config: Config) -> bool:
    """Whether the user names no network: no preset, no config class.

    Single settings (`--config IMAGE_MAX_DIM=512`) leave it open, except those about the backbone.
    """
    about_backbone = [
        name for name in own_names(config) if name.startswith("BACKBONE") or name == "BOX_HEAD"
    ]
    return type(config) is Config and not about_backbone


def fit_to_objects(config: Config, args, by_user: set[str], dataset: Dataset) -> None:
    """Set anchors and limits that fit the objects of a sample of the images.

    A resumed run keeps its own, and so do settings of the user.
    """
    if args.weights == "last":
        return
    some = spread_evenly(len(dataset.image_ids), IMAGES_FOR_OBJECTS)
    image_ids = [int(dataset.image_ids[i]) for i in some]
    report = check(dataset, config, image_ids, pixels=False, progress=False)
    raise_limits(config, by_user, max(report.objects_per_image, default=0))
    if config.has_anchors() and "RPN_ANCHOR_SCALES" not in by_user and args.fit_anchors:
        _fit_anchors(config, args, report)


def raise_limits(config: Config, by_user: set[str], most: int) -> None:
    """Raise MAX_GT_INSTANCES and DETECTION_MAX_INSTANCES for images of up to `most` objects."""
    limit = min(-(-most // 50) * 50, MOST_OBJECTS)
    raised = []
    for name in ("MAX_GT_INSTANCES", "DETECTION_MAX_INSTANCES"):
        if getattr(config, name) < min(most, limit) and name not in by_user:
            setattr(config, name, limit)
            raised.append(f"{name}={limit}")
    if raised:
        log.info("Images have up to %d objects: %s.", most, " ".join(raised))


def _fit_anchors(config: Config, args, report: Report) -> None:
    """Set RPN_ANCHOR_SCALES that fit the objects, if the present ones fit them badly.

    Weights of a whole network fix the anchors that it has learned.
    """
    if args.weights not in (None, "imagenet"):
        log.info("Anchors: those of the weights, RPN_ANCHOR_SCALES=%s.", config.RPN_ANCHOR_SCALES)
        return
    if report.under is None:
        return
    objects = f"{counted(report.objects, 'object')} in {counted(report.images, 'image')}"
    now = f"{1 - report.under:.1%}"
    if report.suggested_scales is None or report.suggested_under is None:
        log.info(
            "Anchors: RPN_ANCHOR_SCALES=%s fit: %s of %s overlap one by %g or more.",
            config.RPN_ANCHOR_SCALES, now, objects, FITTING_IOU,
        )  # fmt: skip
        return
    scales = tuple(report.suggested_scales)
    log.info(
        "Anchors: RPN_ANCHOR_SCALES=%s instead of %s, so that %.1f%% instead of %s of %s overlap "
        "one by %g or more (--no-fit-anchors keeps them).",
        scales, config.RPN_ANCHOR_SCALES,
        100 * (1 - report.suggested_under), now, objects, FITTING_IOU,
    )  # fmt: skip
    config.RPN_ANCHOR_SCALES = scales  # pyright: ignore[reportAttributeAccessIssue]


def scale_rate(config: Config, args, by_user: set[str]) -> None:
    """Make the learning rate proportional to the batch size (Goyal 2017, section 2.1).

    Only for SGD; the rule does not hold for Adam.
    """
    batch_size = max(1, config.BATCH_SIZE)  # Config.validate reports 0
    if "LEARNING_RATE" in by_user or config.OPTIMIZER != "sgd" or args.weights == "last":
        return
    if batch_size == RATE_BATCH:
        return
    rate = config.LEARNING_RATE * batch_size / RATE_BATCH
    log.info(
        "Learning rate: %g instead of %g, which is for %d images a batch, for there are %d "
        "(linear rule of Goyal 2017; --learning-rate sets another).",
        rate, config.LEARNING_RATE, RATE_BATCH, batch_size,
    )  # fmt: skip
    config.LEARNING_RATE = rate


def average_weights(config: Config, args, by_user: set[str], epochs: int) -> None:
    """Set EMA_DECAY, so that the weights are averaged over the last sixth of the training's steps.

    --overfit, which ends at once when the network is perfect, goes without averages.
    """
    if "EMA_DECAY" in by_user or args.weights == "last" or args.overfit is not None:
        return
    steps = config.STEPS_PER_EPOCH * epochs * AVERAGED_SHARE
    least, most = AVERAGED_STEPS
    window = int(min(max(steps, least), most))
    config.EMA_DECAY = round(1 - 1 / window, 6)
    log.info(
        "The weights of about %d steps are averaged: EMA_DECAY=%g (--config EMA_DECAY=0 saves "
        "those of the last step).",
        window, config.EMA_DECAY,
    )  # fmt: skip


def set_overfitting_steps(config: Config, args, by_user: set[str]) -> None:
    """Make an epoch on the few images of --overfit long enough to be worth a validation."""
    if args.overfit is not None and "STEPS_PER_EPOCH" not in by_user:
        config.STEPS_PER_EPOCH = OVERFITTING_STEPS


def choose_augmentation(args, folder: Path) -> Any:
    """The augmentation of the training images; or None. Sets args.augment to its names.

    folder: of the run; one that --weights last resumes keeps its own, unless --augment is given.
    """
    from ..data import augment

    if args.augment is None and args.weights == "last":
        args.augment = _stored_augmentation(folder / OPTIONS)
    if args.augment is None:
        args.augment = ["none"] if args.overfit is not None else [AUGMENTATION]
        log.info(
            "Augmentation: %s (--augment NAME chooses another, none for none).", args.augment[0]
        )
    composed = augment.compose(args.augment)
    return composed if composed.steps else None


def _stored_augmentation(file: Path) -> list[str] | None:
    """The names of the augmentation in the options of a run; None without a valid file."""
    options = read_json(file) if file.is_file() else {}
    names = options.get("augment") if isinstance(options, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    log.info("Augmentation: %s, as before.", " ".join(map(printable, names)))
    return names


def write_run_files(folder: str, data: Any, config: Config, augmentation: Any, names: Any) -> None:
    """Write split.json, options.json and augmentation.png into the run's folder.

    Without an augmentation there is no image.

    data: a `DividedData`. names: of the augmentation.
    """
    from ..drawing.augmentations import augmentation_sheet
    from ..files.write_image import save_image

    data.write(folder)
    write_json({"augment": names}, Path(folder) / OPTIONS)
    sheet = None
    if augmentation is not None:
        sheet = augmentation_sheet(data.train, config, augmentation)
    if sheet is not None:
        save_image(sheet, Path(folder) / "augmentation.png")
        log.info("What the augmentation does: %s", Path(folder) / "augmentation.png")

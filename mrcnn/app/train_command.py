"""`mrcnn train`: data and options to a Config, a network and a training run."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from .. import presets
from ..config import Config
from ..data.dataset import Dataset, has_boxes_only, shared_images
from ..data.keypoints import adopt_skeleton
from ..formats.open_dataset import split_folders
from ..formats.reading import SETS
from ..formats.split_files import FILE as SPLIT_FILE
from . import training_defaults as defaults
from .auto_sizes import choose_sizes
from .cli_support import (
    OK,
    UsageError,
    adopt_network,
    check_start,
    has_gpu,
    load_start,
    load_tensorflow,
    log_settings,
    make_folder,
    own_names,
    read_config,
    say,
    validated,
    with_network,
    with_preset,
)
from .data_option import (
    SHAPES_HELD_OUT,
    SHAPES_TO_TRAIN,
    data_options,
    log_data,
    objects_per_class,
    open_data,
    require_images,
)
from .split_option import DividedData, divide_data

log = logging.getLogger("mrcnn")

# Settings with which a training measures and reports itself. --config changes each of them; None
# and False turn it off.
SELF_WATCHING = {
    "VALIDATION_AP_IMAGES": "auto",
    "EARLY_STOPPING_PATIENCE": 15,
    "RUN_REPORT": True,
}
WARMUP_STEPS = 500  # at most; a tenth of a short training
EPOCHS = 10  # unless --epochs is given
ALL_LAYERS = "all"  # unless --layers is given
# Few images get more and longer epochs: at least these steps of the training, and of an epoch.
FEWEST_STEPS, FEWEST_STEPS_PER_EPOCH = 1000, 50
LARGE_BACKBONES = ("resnet50", "resnet101", "resnet152", "vgg16", "convnext_tiny")


def run(args) -> int:
    """Run `mrcnn train`."""
    config = read_config(with_network(args.config, args.network))
    check_layers(args.layers or ALL_LAYERS)
    if args.weights != "last":  # the run's name may follow from DATA
        check_start(config, args.logs, args.weights, args.backbone_weights)
    by_user = defaults.user_settings(config, args)
    train_data, val_data = open_training_data(args.data, args.val, **data_options(args))
    data = divide_data(train_data, val_data, config, args, _run_name(args.data))
    train_data, val_data = data.train, data.validation
    defaults.adopt_checkpoint(config, args, by_user, _run_name(args.data))
    defaults.set_overfitting_steps(config, args, by_user)
    fit_config(config, args, train_data, val_data)
    adopt_network(config, args.logs, args.weights)
    adopt_skeleton(config, train_data)  # as the checkpoint of a resumed training has it
    validated(config)
    _require_masks(config, train_data, args.data)
    check_start(config, args.logs, args.weights, args.backbone_weights)
    kept = _kept_classes(args, train_data)
    make_folder(args.logs, "--logs")
    no_weights = not (args.weights or args.backbone_weights)
    if no_weights and defaults.leaves_backbone_open(config) and not has_gpu():
        config = _for_cpu(config, args)
    larger = None
    if args.auto and args.weights != "last":
        larger = choose_sizes(config, by_user, train_data, has_gpu())
        _fit_steps(config, args, by_user, data)
    defaults.adopt_length(config, args, by_user, _run_name(args.data))
    epochs: int = args.epochs or _choose_length(config, args, by_user)
    defaults.fit_to_objects(config, args, by_user, train_data)
    defaults.scale_rate(config, args, by_user)
    defaults.average_weights(config, args, by_user, epochs)
    watch_itself(config, args.overfit is not None)
    log_settings(config)
    model = _train(config, args, data, kept)
    _say_results(model.checkpoint_path.format(epoch=model.epoch), args.data, larger)
    return OK


def watch_itself(config: Config, overfits: bool = False) -> None:
    """Set what makes a training measure and report itself, unless the user sets it.

    overfits: whether --overfit ends the training when it is perfect, and not before.
    """
    chosen = own_names(config)
    settings = dict(SELF_WATCHING)
    if overfits:
        settings.pop("EARLY_STOPPING_PATIENCE")
    elif config.LEARNING_RATE_SCHEDULE != "constant":
        # The last epochs, at the lowest rates, bring the highest AP.
        settings.pop("EARLY_STOPPING_PATIENCE")
        log.info(
            "No early stopping: the learning rate falls until the last epoch. "
            "--config EARLY_STOPPING_PATIENCE=%d stops nevertheless.",
            SELF_WATCHING["EARLY_STOPPING_PATIENCE"],
        )
    for name, value in settings.items():
        if name not in chosen:
            setattr(config, name, value)


def _say_results(checkpoint: str, data: str, larger: int | None = None) -> None:
    """Print the files of a finished training: weights, the best ones, the report.

    larger: as `choose_sizes` returns it.
    """
    weights, folder = checkpoint, Path(checkpoint).parent
    say(f"Weights: {checkpoint}")
    if (folder / "best.h5").is_file():
        weights = str(folder / "best.h5")
        say(f"Weights with the highest AP: {weights}")
    if (folder / "report.html").is_file():
        say(f"Report: {folder / 'report.html'}")
    log.info("Next: mrcnn detect IMAGE --weights %s --out found", weights)
    if larger is not None:
        log.info(
            "The images are larger than those of the training. `mrcnn detect` and `mrcnn evaluate` "
            "may find more of the small objects with --config IMAGE_MIN_DIM=%d IMAGE_MAX_DIM=%d.",
            larger, larger,
        )  # fmt: skip
    split = folder / SPLIT_FILE
    if split.is_file():
        log.info("Or: mrcnn evaluate %s --split %s --weights %s", data, split, weights)


def _for_cpu(config: Config, args) -> Config:
    """Return the config with a network for CPUs, which starts from weights in this package."""
    small = with_preset(config, defaults.CPU_PRESET)
    log.info(
        "No GPU, no weights and no backbone named: training the network of PRESET=%s, %s from the "
        "ImageNet weights in this package, instead of %s from random weights "
        "(--config PRESET=NAME or BACKBONE=NAME chooses another).",
        defaults.CPU_PRESET, small.BACKBONE, config.BACKBONE,
    )  # fmt: skip
    args.weights = "imagenet"
    args.auto = args.auto is not False
    return small


def _kept_classes(args, train_data: Dataset) -> dict[str, int] | None:
    """Class name in the initial weights -> class id in the data, if --keep-classes asks for it."""
    if not args.keep_classes or args.weights == "last":  # a resumed training keeps all of its own
        return None
    from ..weights.transfer import kept_classes

    if args.weights in (None, "imagenet"):
        raise UsageError(
            "--keep-classes needs --weights of a network that knows classes. Received: --weights "
            f"{args.weights}. Try a name that `mrcnn weights` lists."
        )
    return kept_classes(args.weights, train_data.class_names)


def _train(config: Config, args, data: DividedData, kept_classes: dict[str, int] | None):
    """Build the network, load its initial weights and train it; returns the model."""
    load_tensorflow()
    import keras

    from ..detection_model import model_class

    _warn_of_slow_cpu(config, args.weights)
    if config.SEED is not None:
        keras.utils.set_random_seed(config.SEED)
    model = model_class(config)("training", config, args.logs)
    is_default_warmup = _default_warmup(config, args) == config.WARMUP_STEPS
    computed = {"WARMUP_STEPS"} if is_default_warmup else set()
    load_start(model, args.weights, args.backbone_weights, computed, kept_classes)
    log.info("Network: %s.", model.summary_line())
    augmentation = defaults.choose_augmentation(args, Path(model.log_dir))
    model.train(
        data.train,
        data.validation,
        learning_rate=config.LEARNING_RATE,
        epochs=args.epochs,
        layers=args.layers or ALL_LAYERS,
        augmentation=augmentation,
        custom_callbacks=_callbacks(model, data, augmentation, args),
    )
    return model


def _callbacks(model, data: DividedData, augmentation, args) -> list:
    """Callbacks that write the files of the command, and that end an overfitting."""
    import keras

    from ..training.distributed import hosts_of
    from ..training.overfitting import StopWhenPerfect

    def write(logs):
        config = model.config
        defaults.write_run_files(model.log_dir, data, config, augmentation, args.augment)

    callbacks = []
    hosts = hosts_of(model.keras_model.distribute_strategy)
    if hosts is None or hosts.is_chief:
        callbacks.append(keras.callbacks.LambdaCallback(on_train_begin=write))  # the folder exists
    if args.overfit is not None:
        callbacks.append(StopWhenPerfect())
    return callbacks


def check_layers(layers: str) -> None:
    """Raise a UsageError if --layers is neither a stage nor a valid regular expression."""
    try:
        re.compile(layers)
    except re.error as error:
        raise UsageError(
            "--layers must be heads, 5+, 4+, 3+, all, or a regex that matches a layer's whole "
            "name. "
            f"Received: {layers}, which is no regex ({error}). Try heads."
        ) from error


def _require_masks(config: Config, dataset: Dataset, data: str) -> None:
    if config.has_mask_head() and has_boxes_only(dataset):
        raise ValueError(
            f"A network with masks needs outlines to learn from. Received: {data}, whose "
            f"annotations "
            "are boxes only. Try --config USE_MASK=False, or annotate outlines."
        )


def _warn_of_slow_cpu(config: Config, weights: str | None) -> None:
    """Log a warning if a large network is to be trained without a GPU.

    weights: those it starts from, as --weights names them.
    """
    side = max(config.IMAGE_SHAPE[:2])
    if config.BACKBONE not in LARGE_BACKBONES or side <= 512 or has_gpu():
        return
    remedy = f"--config BACKBONE={presets.LITE['BACKBONE']} IMAGE_MIN_DIM=256 IMAGE_MAX_DIM=256"
    if weights not in (None, "imagenet", "last"):  # they fix the network
        remedy = "--config IMAGE_MIN_DIM=512 IMAGE_MAX_DIM=512 --layers heads, or no --weights"
    log.warning(
        "There is no GPU: a step of %s at %d pixels takes many seconds here, and several GB. "
        "For a CPU try %s.",
        config.BACKBONE, side, remedy,
    )  # fmt: skip


def open_training_data(data: str, val: str | None, **options) -> tuple[Dataset, Dataset | None]:
    """The datasets for training and validation; the second may be None.

    options: of `open_data`.
    """
    data, val = _with_validation(data, val)
    train_data = open_data(data, shapes=SHAPES_TO_TRAIN, **options)
    require_images(train_data, data)
    log_data("Training data", train_data)
    _require_objects(train_data, data)
    if val is None:
        return train_data, None
    val_data = open_data(val, train_data.class_names, shapes=SHAPES_HELD_OUT, **options)
    require_images(val_data, val)
    log_data("Validation data", val_data)
    _warn_of_shared_images(train_data, val_data)
    return train_data, val_data


def _with_validation(data: str, val: str | None) -> tuple[str, str | None]:
    """The paths for training and validation; both parts if DATA is a folder that contains them."""
    split = split_folders(data) if val is None else None
    if split:
        train_part, val_part = map(str, split)
        log.info("Found data to train on in %s, and to validate on in %s", train_part, val_part)
        return train_part, val_part
    if val is None and data == "shapes":
        val = "shapes"
    return data, val


def _require_objects(dataset: Dataset, data: str) -> None:
    counts = objects_per_class(dataset)
    if counts is not None and sum(counts.values()) == 0:
        raise ValueError(
            f"DATA must hold objects to learn from. Received: {data}, {len(dataset.image_ids)} "
            f"images "
            "and not one object. `mrcnn train --help` says where masks and annotations belong."
        )


def _warn_of_shared_images(train_data: Dataset, val_data: Dataset) -> None:
    shared = shared_images(train_data, val_data)
    if shared:
        log.warning(
            "%d of %d validation images are among the training images: metrics on them say little "
            "about other images. Try --val with images of its own.",
            shared,
            len(val_data.image_ids),
        )


def fit_config(config: Config, args, train_data: Dataset, val_data: Dataset | None) -> None:
    """Set what follows from the data unless --config sets it, then what other options set."""
    chosen = own_names(config)
    if args.gpus is not None:
        config.GPU_COUNT = args.gpus
    for name, value in _settings_of_data(config, args.data, train_data, val_data).items():
        if name not in chosen:
            setattr(config, name, value)
    if "WARMUP_STEPS" not in chosen:
        config.WARMUP_STEPS = _default_warmup(config, args)
    if config.NUM_CLASSES not in (1, train_data.num_classes):  # Config.validate reports 1
        raise UsageError(
            f"NUM_CLASSES must be 1 (background) + the classes of DATA, {train_data.num_classes}. "
            f"Received: {config.NUM_CLASSES}. Try to leave it out of --config: it follows from "
            f"DATA."
        )
    if args.seed is not None:
        config.SEED = args.seed
    if args.learning_rate is not None:
        config.LEARNING_RATE = args.learning_rate


def _fit_steps(config: Config, args, by_user: set[str], data: DividedData) -> None:
    """Set the steps of an epoch and of the warm-up again, for another batch size."""
    settings = _settings_of_data(config, args.data, data.train, data.validation)
    for name in ("STEPS_PER_EPOCH", "VALIDATION_STEPS"):
        is_long = args.overfit is not None and name == "STEPS_PER_EPOCH"
        if name in settings and name not in by_user and not is_long:
            setattr(config, name, settings[name])
    if "WARMUP_STEPS" not in by_user:
        config.WARMUP_STEPS = _default_warmup(config, args)


def _choose_length(config: Config, args, by_user: set[str]) -> int:
    """Set --epochs, which is returned, and the steps of an epoch unless the user sets them."""
    if "STEPS_PER_EPOCH" not in by_user and args.overfit is None:
        config.STEPS_PER_EPOCH = max(config.STEPS_PER_EPOCH, FEWEST_STEPS_PER_EPOCH)
    steps = max(1, config.STEPS_PER_EPOCH)  # Config.validate reports 0
    args.epochs = max(EPOCHS, -(-FEWEST_STEPS // steps))
    if "WARMUP_STEPS" not in by_user:
        config.WARMUP_STEPS = _default_warmup(config, args)
    log.info("Epochs: %d of %d steps (--epochs N).", args.epochs, config.STEPS_PER_EPOCH)
    return args.epochs


def _default_warmup(config: Config, args) -> int:
    return min(WARMUP_STEPS, config.STEPS_PER_EPOCH * (args.epochs or EPOCHS) // 10)


def _settings_of_data(
    config: Config, data: str, train_data: Dataset, val_data: Dataset | None
) -> dict:
    """Run name, classes and steps per epoch, as they follow from the datasets."""
    batch_size = max(1, config.BATCH_SIZE)  # Config.validate reports 0
    settings = {
        "NAME": _run_name(data),
        "NUM_CLASSES": train_data.num_classes,
        "STEPS_PER_EPOCH": -(-len(train_data.image_ids) // batch_size),
    }
    if val_data is not None:
        settings["VALIDATION_STEPS"] = -(-len(val_data.image_ids) // batch_size)
    return settings


def _run_name(data: str) -> str:
    """Letters and digits of the folder's name, or of its parent's if it is called train or so."""
    path = Path(data).resolve()
    folder = path.parent if path.is_file() else path
    if folder.name in (*SETS, "annotations"):
        folder = folder.parent
    return "".join(c for c in folder.name if c.isascii() and c.isalnum()) or "mrcnn"

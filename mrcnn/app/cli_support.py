"""Shared by the command and the samples: messages, exit codes, settings, weights, output files.

Modules that load slowly are imported inside functions.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import functools
import importlib.util
import io
import json
import logging
import os
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Collection, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.safe_text import clean_name, printable_lines

# The samples import these from here.
from ..files.write_image import free_image_path as free_image_path
from ..files.write_image import is_own_image as is_own_image
from ..files.write_image import save_image as save_image

if TYPE_CHECKING:
    from ..config import Config
    from ..detection_model import DetectionModel

log = logging.getLogger("mrcnn")


# Exit codes: done; an error in data or weights; a wrong call; Ctrl-C.
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """The command was called wrongly: exit code 2."""


# --- Messages -----------------------------------------------------------------------------------


def set_up_logging(debug: bool = False) -> None:
    """Write the log of `mrcnn` to stderr as plain lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter())
    log.handlers = [handler]
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.propagate = False


class _PlainFormatter(logging.Formatter):
    """The message, with its level in front if it is a warning or worse."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable_lines(super().format(record))
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


# TF_CPP_MIN_LOG_LEVEL: TensorFlow's C++ code logs thousands of lines per training; errors also
# raise. TF_CPU_ALLOCATOR_USE_BFC: without oneDNN (a CPU without AVX-512) TensorFlow returns the
# memory of each large tensor to the system after every op, which takes 7 % of a detection; this
# allocator keeps it. TF_CPU_BFC_MEM_LIMIT_IN_MB: lifts that allocator's limit of 64 GB.
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "Agg",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_CPU_ALLOCATOR_USE_BFC": "1",
    "TF_CPU_BFC_MEM_LIMIT_IN_MB": str(2**24),
}


def set_up_libraries() -> None:
    """Silence TensorFlow, open no matplotlib window, keep freed memory; the user's settings stay.

    To be called before TensorFlow is imported.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def hold_stderr() -> Iterator[None]:
    """Hold stderr back during a block, and write it only if the block raises.

    TensorFlow 2.21 writes to stderr during its import, whatever TF_CPP_MIN_LOG_LEVEL says.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def load_tensorflow() -> None:
    """Import TensorFlow silently, before any module that imports it."""
    for name, value in _ENVIRONMENT.items():
        if name.startswith("TF_"):
            os.environ.setdefault(name, value)
    with hold_stderr():
        import tensorflow  # noqa: F401


def has_gpu() -> bool:
    """Whether TensorFlow, which is imported for it, sees a GPU."""
    load_tensorflow()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def run_script(main: Callable) -> None:
    """Run a sample's `main` and exit with a code; MRCNN_DEBUG=1 shows tracebacks."""
    sys.exit(exit_code(main, Path(sys.argv[0]).name))


def exit_code(run: Callable, program: str, debug: bool = False, help_hint: str = "") -> int:
    """Call `run()` and return its code, OK for None; turn errors into a sentence and a code.

    program: the name at the start of the sentence. debug, or MRCNN_DEBUG=1 in the environment: let
    errors pass. help_hint: added to the sentence about a wrong call.
    """
    debug = debug or os.environ.get("MRCNN_DEBUG", "0") not in ("", "0")
    set_up_logging(debug)
    set_up_libraries()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal or file must not end a run
            stream.reconfigure(errors="backslashreplace")
    try:
        return run() or OK
    except KeyboardInterrupt:
        return failure(INTERRUPTED, program, "interrupted")
    except Exception as error:
        if debug:
            raise
        if isinstance(error, UsageError):
            return failure(USAGE, program, f"{error}{help_hint}")
        return failure(FAILED, program, error_sentence(error))


def failure(code: int, program: str, why: str) -> int:
    """Print the reason on stderr and return the code."""
    print(printable_lines(f"{program}: {why}"), file=sys.stderr)
    return code


def say(text: object) -> None:
    """Print a result without control characters, because names from files may be in the text."""
    print(printable_lines(text))


def error_sentence(error: Exception) -> str:
    """The message of an error for users; other libraries' errors keep type and first line."""
    if isinstance(error, ImportError):
        return f"{error} Try `mrcnn doctor`, which says what is missing and how to install it."
    if (
        isinstance(error, OSError) and error.errno
    ):  # raised by the system; ours have a sentence only
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return f"{what}. Try another path; the folder must be writable, the disk not full."
    if isinstance(error, ValueError | OSError):
        return str(error)
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line} (MRCNN_DEBUG=1 in the environment shows where)"


def add_training_options(
    parser: ArgumentParser, epochs: tuple, stages: tuple, start: str = "--weights"
) -> None:
    """Add the options of samples that train: initial weights, run folder, settings, epochs.

    epochs: the default epoch to reach with each of `stages`, their names. start: the name of the
    option for initial weights, as the original sample had it.
    """
    parser.add_argument(
        start,
        metavar="FILE|NAME",
        required=True,
        help="a weight file, a name that `mrcnn weights` lists, 'imagenet' or 'last'",
    )
    parser.add_argument(
        "--logs", metavar="DIR", default="logs", help="folder of the runs (default: logs)"
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings, or a file of them",
    )
    default = " ".join(str(epoch) for epoch in epochs)
    parser.add_argument(
        "--epochs",
        nargs=len(epochs),
        type=int,
        default=epochs,
        metavar=stages,
        help=f"the epoch to reach with each stage of layers (default: {default})",
    )


# --- Settings -----------------------------------------------------------------------------------


def read_config(items: list[str], base: Config | None = None) -> Config:
    """A Config with the settings of all items; later items win.

    items: `NAME=VALUE`, `.json` files (as `Config.to_dict` gives them), `.py` files that define
    one Config subclass, and `PRESET=NAME`. base: the settings that no item names; default:
    `Config()`.

    Raises: UsageError naming the item.
    """
    from ..config import Config

    config = Config() if base is None else base
    for item in items:
        name, equals, text = item.partition("=")
        if equals and name == "PRESET":
            config = with_preset(config, text)
        elif equals and name.isidentifier():
            _assign(config, name, text)
        else:
            earlier, config = config, _read_config_file(Path(item))
            for name in own_names(earlier) - own_names(config):
                setattr(config, name, getattr(earlier, name))
    return config


def with_network(items: list[str], network: str | None) -> list[str]:
    """The items of --config after those of --network: its preset; mask_rcnn has none."""
    if network is None:
        return items
    first = "NETWORK=mask_rcnn" if network == "mask_rcnn" else f"PRESET={network}"
    return [first, *items]


def with_preset(config: Config, name: str) -> Config:
    """The preset of this name for the config's class; what the config itself sets stays."""
    presets = {
        "detectron": type(config).detectron,
        "detectron_c4": type(config).detectron_c4,
        "detectron_scratch": type(config).detectron_scratch,
        "fcos": type(config).fcos,
        "lite": type(config).lite,
        "matterport": type(config).matterport,
        "retinanet": type(config).retinanet,
        "retinanet2": functools.partial(type(config).retinanet, 2),
        "torchvision1": functools.partial(type(config).torchvision, 1),
        "torchvision2": functools.partial(type(config).torchvision, 2),
    }
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=3, cutoff=0.6) or ["detectron"]
        raise UsageError(
            f"--config PRESET must be one of {', '.join(presets)}. Received: {name}. "
            f"Try PRESET={' or PRESET='.join(near)}."
        )
    found = presets[name]()
    network = vars(found).get("NETWORK", config.NETWORK)
    if network != config.NETWORK and "NETWORK" in own_names(config):
        raise UsageError(
            f"--config PRESET={name} needs the network {network}. "
            f"Received: {config.NETWORK}, by --network or --config. Try to leave out one of them."
        )
    # `mrcnn train` makes the warm-up as long as fits the training.
    vars(found).pop("WARMUP_STEPS", None)
    vars(found).update(vars(config))
    return found


def own_names(config: Config) -> set[str]:
    """The settings that a config or its class sets, as opposed to Config's defaults."""
    from ..config import Config

    names = set(vars(config))
    for cls in type(config).__mro__:
        if cls is Config:
            break
        names |= set(vars(cls))
    # A derived value that was set is stored as _NAME.
    return {name.lstrip("_") for name in names if name.isupper()}


def _check_setting(name: str, config: Config, where: str = "") -> None:
    """Raise a UsageError if a config has no setting of that name."""
    known = [known for known in dir(config) if known.isupper() and not known.startswith("_")]
    if name in known:
        return
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else "mrcnn/config.py lists them all."
    raise UsageError(
        f"--config {where}must name a setting of mrcnn.config.Config. Received: {name}. {hint}"
    )


def _assign(config: Config, name: str, text: str) -> None:
    """Set one attribute from its text: a Python literal, or a bare word."""
    import numpy as np

    from ..config import Config

    _check_setting(name, config)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    old = getattr(config, name)
    if value is None and getattr(Config, name, 0) is None:  # the default: off
        old = None
    for kinds, accepted, words in (
        (bool, (bool, type(None)), "True, False or None"),
        ((int, float, np.number), (int, float), "a number"),
        (str, (str,), "a word"),
        ((list, tuple), (list, tuple), f"a list such as '{_short(old)}'"),
        (np.ndarray, (list, tuple, int, float), f"a list such as '{np.asarray(old).tolist()}'"),
        (dict, (dict,), f'a dict such as "{_short(old)}"'),
    ):
        if isinstance(old, kinds):
            is_bool = isinstance(value, bool)  # bool is a subclass of int
            if not isinstance(value, accepted) or (is_bool and bool not in accepted):
                raise UsageError(f"--config {name} must be {words}. Received: {text}.")
            break
    setattr(config, name, np.array(value) if isinstance(old, np.ndarray) else value)


def _read_config_file(path: Path) -> Config:
    """The Config of a `.json` or `.py` file."""
    if not path.is_file() or path.suffix not in (".json", ".py"):
        why = "which is neither" if path.exists() else "and there is no such file"
        raise UsageError(
            "--config must be NAME=VALUE without spaces, or a .json or .py file. "
            f"Received: {path}, {why}."
        )
    return _config_of_json(path) if path.suffix == ".json" else _config_of_script(path)


def _config_of_json(path: Path) -> Config:
    from ..config import Config

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config: {path} must be complete JSON. Received: {error}.") from error
    # The file next to a weight file has a "config" entry, and may contain settings of the user's
    # own.
    written_here = isinstance(values, dict) and "config" in values
    if written_here:
        values = values["config"]
    if not isinstance(values, dict):
        raise UsageError(
            f"--config: {path} must hold NAME: value pairs. Received: a {type(values).__name__}."
        )
    if not written_here:
        for name in values:
            _check_setting(name, Config(), f"{path}: ")
    try:
        return Config.from_dict(values)
    except ValueError as error:
        raise UsageError(f"--config: {path}: {error}") from error


def _config_of_script(path: Path) -> Config:
    """Run a script and return an instance of the one Config subclass that it defines."""
    try:
        loader = SourceFileLoader(path.stem, str(path))
        spec = importlib.util.spec_from_loader(path.stem, loader)
        if spec is None:
            raise ImportError(f"Python cannot load {path}.")
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return _only_config_class(vars(module), path)()
    except (Exception, SystemExit) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"--config: {path} must run. Received: {type(error).__name__}: {error}."
        ) from error


def _only_config_class(variables: dict, path: Path) -> type[Config]:
    """The Config subclass among a script's variables that the script itself defines."""
    from ..config import Config

    classes = [value for value in variables.values() if isinstance(value, type)]
    own = [cls for cls in classes if cls.__module__ == path.stem and issubclass(cls, Config)]
    if len(own) != 1:
        names = ", ".join(cls.__name__ for cls in own) or "none"
        raise UsageError(
            f"--config: {path} must define one subclass of mrcnn.config.Config. Received: {names}."
        )
    return own[0]


def _short(value: object, length: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= length else text[:length] + "..."


def log_settings(config: Config) -> None:
    """Log the settings that differ from Config's defaults; those that follow from others do not."""
    changed = [f"{name}={value}" for name, value in config.changed().items()]
    log.info("Settings that differ from the defaults: %s", ", ".join(changed) or "none")


def validated(config: Config) -> Config:
    """The config itself, or a UsageError, for only --config can have made it invalid."""
    try:
        config.validate()
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


# --- Weights ------------------------------------------------------------------------------------


def check_file(path: str | None, option: str) -> None:
    """Raise a FileNotFoundError if a file does not exist, before minutes of other work."""
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(
            f"{option} must be a file. Received: {path}, which does not exist. Try its full path."
        )


def check_weights(path: str | None, option: str = "--weights") -> None:
    """Raise before a network is built if a file does not exist or contains no weights.

    path: None for no file; unless it is of a backbone also a name that `mrcnn weights` lists, which
    is not downloaded yet. option: the option that named it.

    Raises: FileNotFoundError, or ValueError that says what the file is.
    """
    from ..weights.opening import check_file as check_weight_file
    from ..weights.zoo import is_name, known

    if option != "--backbone-weights" and path is not None:
        known(path, option)  # raises if it is only like a name
        if is_name(path):
            return
    check_file(path, option)
    if path is None or Path(path).suffix == ".keras":
        return
    check_weight_file(path)


_WITHOUT_FILE = (None, "imagenet")  # initial weights that are no file of a whole network


def check_start(
    config: Config, logs: str, start: str | None, backbone_weights: str | None = None
) -> None:
    """Raise before a network is built if `load_start` could not load the initial weights.

    Raises: UsageError if released weights are of another network or backbone; FileNotFoundError or
        ValueError if the file does not exist, there is no run in `logs`, or no weights in the file.
    """
    from ..weights.transfer import check_backbone, check_network

    check_weights(backbone_weights, "--backbone-weights")
    if start == "last":
        find_weights(start, config, logs)
    elif start not in _WITHOUT_FILE:
        check_weights(start)
        try:
            check_network(config, start, own_names(config))
            check_backbone(config, start)
        except ValueError as error:
            raise UsageError(str(error)) from error


def adopt_network(config: Config, logs: str, start: str | None) -> None:
    """Give a config the settings of the network that its initial weights are of.

    Settings that the config sets, or its class, stay as they are. start: as for `load_start`.
    """
    from ..weights import transfer

    if start not in _WITHOUT_FILE:
        weights = find_weights(start, config, logs) if start == "last" else start
        transfer.adopt_network(config, weights, own_names(config))


def load_for_use(
    weights: str, items: list[str], base: Config | None = None
) -> tuple[DetectionModel, list[str]]:
    """An inference model with the weights of a file, and its class names.

    weights: a file, or a name of released weights.
    items: of --config, on top of the config in the file.
    base: the Config for a file without one, like matterport's files.
    """
    check_weights(weights)
    config = config_for_use(weights, items, base)
    load_tensorflow()
    from ..detection_model import load
    from ..inference.result import numbered_classes

    model = load(weights, config)
    names = model.class_names or numbered_classes(model.config.NUM_CLASSES)
    return model, [clean_name(name) for name in names]


def config_for_use(weights: str, items: list[str], base: Config | None = None) -> Config | None:
    """The config of the network of a weight file; None for the one in the file.

    Arguments as for `load_for_use`.
    """
    from ..config import Config, without_functions
    from ..weights.opening import read_metadata

    if not items and base is None:
        return None
    metadata = read_metadata(weights) or {}
    if "config" in metadata:
        if without_functions(metadata["config"]) != metadata["config"]:
            load_tensorflow()  # silently, before a function of the demo brings it
        base = Config.from_dict(metadata["config"])
    if items or "config" not in metadata:
        return validated(read_config(items, base))
    return None


def use_views(config: Config, views: list | None) -> None:
    """Set the views of test-time augmentation that --tta names; None leaves the config's.

    Raises: UsageError if the network cannot detect in several views.
    """
    if views is not None:
        config.TTA = tuple(views)
        validated(config)


def load_for_training(config: Config, logs: str, start: str | None) -> DetectionModel:
    """A model to be trained, with the initial weights `start`, as for `load_start`."""
    check_start(config, logs, start)
    adopt_network(config, logs, start)
    validated(config)
    load_tensorflow()
    from ..detection_model import model_class

    model = model_class(config)("training", config, logs)
    load_start(model, start)
    return model


def last_or(start: str | None, config: Config, logs: str | Path) -> str | None:
    """The word "last" if `logs` has a checkpoint of the config's run; otherwise `start`.

    So the command that began a training also resumes it.
    """
    try:
        find_weights("last", config, logs)
    except FileNotFoundError:
        return start
    return "last"


def find_weights(start: str, config: Config, logs: str | Path) -> str:
    """The path of initial weights.

    start: "last" (the newest checkpoint in `logs`; of the config's network, if it sets one), a name
    that `mrcnn weights` lists such as "coco" (downloaded unless cached), or a file.
    """
    from ..config import NETWORKS
    from ..weights.checkpoints import last_checkpoint
    from ..weights.zoo import is_name, weight_path

    if start == "last":
        networks = [config.NETWORK] if "NETWORK" in own_names(config) else NETWORKS
        return last_checkpoint(logs, str(config.NAME), networks)
    return weight_path(start) if is_name(start) else start


def resumed_checkpoint(config: Config, args, name: str) -> Path | None:
    """The weight file that --weights names; None for weights that are no file here.

    name: of the run of --weights last, unless the config sets one.
    """
    from ..weights.zoo import is_name

    start = args.weights
    if start in _WITHOUT_FILE or (start != "last" and is_name(start)):
        return None
    if start == "last":
        config = copy.copy(config)
        if "NAME" not in own_names(config):
            config.NAME = name
        start = find_weights(start, config, args.logs)
    return Path(start)


def load_start(
    model: DetectionModel,
    start: str | None,
    backbone_weights: str | None = None,
    computed: Collection[str] = (),
    kept_classes: dict[str, int] | None = None,
) -> None:
    """Load the initial weights of a model to be trained; it keeps random weights for None.

    start: a name of released weights, "imagenet", "last", a file, or None. backbone_weights: a file
    of the backbone, or None. computed: settings that the command has set by itself, which may
    differ after "last". kept_classes: class name in the weights -> class id in the data.

    Raises: the errors of `check_start`.
    """
    check_start(model.config, model.model_dir, start, backbone_weights)
    if start == "last":
        path = find_weights(start, model.config, model.model_dir)
        model.load_weights(path)
        _warn_of_other_settings(path, model.config, computed)
        return
    if backbone_weights is not None:
        model.load_backbone_weights(backbone_weights)
    if start == "imagenet":
        model.load_backbone_weights(model.get_imagenet_weights())
    elif start is not None:
        _load_network(model, start, kept_classes)
    elif backbone_weights is None:
        _warn_of_random_weights(model.config)


def _load_network(model: DetectionModel, start: str, kept_classes: dict[str, int] | None) -> None:
    """Load a whole network; class heads of released weights are left out but for kept classes."""
    from ..weights.class_heads import HEADS_OF_NETWORK
    from ..weights.zoo import released

    if kept_classes:
        model.load_weights(start, remap_classes=kept_classes)
    elif released(start) is not None:
        model.load_weights(start, exclude=HEADS_OF_NETWORK[model.config.NETWORK])
    else:
        model.load_weights(start)


def _warn_of_random_weights(config: Config) -> None:
    hint, needed = "", "for batch norm must be trained too"
    has_norm_setting = str(config.BACKBONE).startswith(("resnet", "efficientnet_lite"))
    if config.BACKBONE_NORM == "frozen" and has_norm_setting:
        hint = f", and without them --config BACKBONE_NORM=group, {needed}: a frozen one never is"
    elif config.TRAIN_BN is False:
        hint = f", and without them --config TRAIN_BN=None, {needed}"
    log.warning(
        "Starting from random weights. --weights imagenet, or a name that `mrcnn weights` lists, "
        "would need far fewer epochs%s.",
        hint,
    )


def _warn_of_other_settings(checkpoint: str, config: Config, computed: Collection[str]) -> None:
    """Name the settings that differ from those with which a checkpoint was trained.

    computed: as for `load_start`.
    """
    from ..weights.opening import read_metadata

    then = (read_metadata(checkpoint) or {}).get("config", {})
    now = config.to_dict()
    both = [name for name in then if name in now and name not in computed]
    changed = [f"{name}={now[name]} (was {then[name]})" for name in both if then[name] != now[name]]
    if changed:
        log.warning("Resuming with other settings than before: %s", ", ".join(changed))


# --- Output files -------------------------------------------------------------------------------


def make_folder(path: str | Path, option: str) -> Path:
    """The folder, created if it does not exist; a UsageError if no file can be written into it."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return Path(path)
    except OSError as error:
        raise UsageError(
            f"{option} must be a folder that can be written to. "
            f"Received: {path} ({error.strerror}). Try another path."
        ) from error


def write_json(content: object, path: Path) -> None:
    """Write a JSON file atomically."""
    from ..files.atomic import atomic_write

    with atomic_write(path) as part:
        Path(part).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

"""What every command and sample begins with: messages, settings from words, and a model with its weights.

Modules that load slowly are imported where they are used.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from ..files.safe_text import clean_name, printable_lines

log = logging.getLogger("mrcnn")


# Exit codes: done; data or weights; a wrong call; Ctrl-C.
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """The command was called wrongly: exit code 2."""


# --- Messages ---------------------------------------------------------------------------------------------------


def set_up_logging(debug: bool = False) -> None:
    """Show what `mrcnn` logs as plain lines on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter())
    log.handlers = [handler]
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.propagate = False


class _PlainFormatter(logging.Formatter):
    """The message, after the level where it is a warning or worse."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable_lines(super().format(record))
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def quiet_libraries() -> None:
    """Keep TensorFlow's own messages away, and matplotlib's windows; settings of the user stay."""
    for name, value in {"KERAS_BACKEND": "tensorflow", "MPLBACKEND": "Agg"}.items():
        os.environ.setdefault(name, value)
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def hushed():
    """A block in which stderr is held back, and shown only where the block fails.

    TensorFlow 2.21 writes there while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says.
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
    """Import TensorFlow, in silence; before everything that imports it."""
    with hushed():
        import tensorflow  # noqa: F401


def run_script(main) -> None:
    """Run a sample's `main` and leave with an exit code; with MRCNN_DEBUG=1 errors show their traceback."""
    sys.exit(exit_code(main, Path(sys.argv[0]).name))


def exit_code(run, program: str, debug: bool = False, help_hint: str = "") -> int:
    """What `run()` returns, OK for None; an error is told in a sentence on stderr and becomes a code.

    program: the name the sentence begins with. debug, or MRCNN_DEBUG=1 in the environment: errors pass through.
    help_hint: added to what is said of a wrong call.
    """
    debug = debug or os.environ.get("MRCNN_DEBUG", "0") not in ("", "0")
    set_up_logging(debug)
    quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal or file of few letters must not end a run
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
        return failure(FAILED, program, sentence(error))


def failure(code: int, program: str, why: str) -> int:
    """The code, after saying on stderr why."""
    print(printable_lines(f"{program}: {why}"), file=sys.stderr)
    return code


def say(text: object) -> None:
    """Print a result: names from files may be in it, so without control characters."""
    print(printable_lines(text))


def sentence(error: Exception) -> str:
    """What went wrong, for people: our own errors as they are, a stranger's with its type and one line."""
    if isinstance(error, ImportError):
        return f"{error} Try `mrcnn doctor`, which says what is missing and how to mend it."
    if isinstance(error, OSError) and error.errno:  # the system's own; ours carry a sentence only
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return f"{what}. Try another path, or check that the folder may be written to and the disk has space."
    if isinstance(error, ValueError | OSError):
        return str(error)
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line} (with MRCNN_DEBUG=1 in the environment it shows where)"


def add_training_options(parser, epochs: tuple, stages: tuple, start: str = "--weights") -> None:
    """The options that samples which train share: where to start, where runs go, settings, and epochs by stage.

    epochs: to reach with each of `stages`, by default; their names. start: the option's name, as the original had it.
    """
    parser.add_argument(
        start,
        metavar="FILE|WORD",
        required=True,
        help="a weight file, 'coco', 'imagenet' or 'last'",
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
    parser.add_argument(
        "--epochs", nargs=len(epochs), type=int, default=epochs, metavar=stages,
        help=f"the epoch to reach with each stage of layers (default: {' '.join(map(str, epochs))})",
    )  # fmt: skip


# --- Settings ---------------------------------------------------------------------------------------------------


def read_config(items: list[str], base=None):
    """A Config with the settings of all items, later ones winning.

    items: `NAME=VALUE`, `.json` files (as `Config.to_dict` gives them) and `.py`
    files that define one Config subclass. base: what holds where no item says otherwise; default `Config()`.

    Raises: UsageError naming the item.
    """
    from ..config import Config

    config = Config() if base is None else base
    for item in items:
        name, equals, text = item.partition("=")
        if equals and name.isidentifier():
            _assign(config, name, text)
        else:
            earlier, config = config, _read_config_file(Path(item))
            for name in own_names(earlier) - own_names(config):
                setattr(config, name, getattr(earlier, name))
    return config


def own_names(config) -> set[str]:
    """The settings that a config or its class has set itself, apart from Config's defaults."""
    from ..config import Config

    names = set(vars(config))
    for cls in type(config).__mro__:
        if cls is Config:
            break
        names |= set(vars(cls))
    return {
        name.lstrip("_") for name in names if name.isupper()
    }  # derived values that are set are kept as _NAME


def _check_setting(name: str, config, where: str = "") -> None:
    """Raise a UsageError where a config has no setting of that name."""
    import difflib

    known = [known for known in dir(config) if known.isupper() and not known.startswith("_")]
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
        hint = f"Did you mean {near[0]}?" if near else "mrcnn/config.py lists them all."
        raise UsageError(
            f"--config {where}must name a setting of mrcnn.config.Config. Received: {name}. {hint}"
        )


def _assign(config, name: str, text: str) -> None:
    """Set one attribute from its text: a Python literal, or a bare word."""
    import ast

    import numpy as np

    _check_setting(name, config)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    old = getattr(config, name)
    for kinds, accepted, words in (
        (bool, (bool, type(None)), "True, False or None"),
        ((int, float, np.number), (int, float), "a number"),
        (str, (str,), "a word"),
        ((list, tuple), (list, tuple), f"a list such as '{_short(old)}'"),
        (np.ndarray, (list, tuple, int, float), f"a list such as '{np.asarray(old).tolist()}'"),
        (dict, (dict,), f'a dict such as "{_short(old)}"'),
    ):
        if isinstance(old, kinds):
            if not isinstance(value, accepted) or (
                isinstance(value, bool) and bool not in accepted
            ):
                raise UsageError(f"--config {name} must be {words}. Received: {text}.")
            break
    setattr(config, name, np.array(value) if isinstance(old, np.ndarray) else value)


def _read_config_file(path: Path):
    """The Config of a `.json` or `.py` file."""
    if not path.is_file() or path.suffix not in (".json", ".py"):
        why = "which is neither" if path.exists() else "and there is no such file"
        raise UsageError(
            f"--config must be NAME=VALUE without spaces, or a .json or .py file. Received: {path}, {why}."
        )
    return _config_of_json(path) if path.suffix == ".json" else _config_of_script(path)


def _config_of_json(path: Path):
    from ..config import Config

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--config: {path} must be complete JSON. Received: {error}.") from error
    # Beside a weight file it was written by this package, and may hold names of the user's own.
    written_here = isinstance(values, dict) and "config" in values
    values = values["config"] if written_here else values
    if not isinstance(values, dict):
        raise UsageError(
            f"--config: {path} must hold NAME: value pairs. Received: a {type(values).__name__}."
        )
    for name in () if written_here else values:
        _check_setting(name, Config(), f"{path}: ")
    try:
        return Config.from_dict(values)
    except ValueError as error:
        raise UsageError(f"--config: {path}: {error}") from error


def _config_of_script(path: Path):
    import importlib.util

    from ..config import Config

    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        own = [
            cls
            for cls in vars(module).values()
            if isinstance(cls, type) and cls.__module__ == path.stem
        ]
        classes = [cls for cls in own if issubclass(cls, Config)]
        if len(classes) != 1:
            names = ", ".join(cls.__name__ for cls in classes) or "none"
            raise UsageError(
                f"--config: {path} must define one subclass of mrcnn.config.Config. Received: {names}."
            )
        return classes[0]()
    except (Exception, SystemExit) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"--config: {path} must run. Received: {type(error).__name__}: {error}."
        ) from error


def _short(value, length: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= length else text[:length] + "..."


def log_settings(config) -> None:
    """Log the settings that differ from Config's defaults."""
    from ..config import Config

    defaults = Config().to_dict()
    values = config.to_dict()
    changed = [
        f"{name}={value}" for name, value in values.items() if defaults.get(name, ...) != value
    ]
    log.info("Settings that differ from the defaults: %s", ", ".join(changed) or "none")


# --- Weights ----------------------------------------------------------------------------------------------------


def check_file(path: str | None, option: str) -> None:
    """Raise before minutes are spent on the rest, where a file of the user's is not there."""
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(
            f"{option} must be a file. Received: {path}, which is none. Try its full path."
        )


def check_weights(path: str | None, option: str = "--weights") -> None:
    """Raise before a network is built if a file is not there, or holds no weights.

    path: None for no file. option: the one that named it.

    Raises: FileNotFoundError, or ValueError that says what the file is.
    """
    check_file(path, option)
    if path is None or Path(path).suffix == ".keras":
        return
    from ..weights import weight_files as weights

    weights.check_file(path)


def check_start(config, logs: str, start: str | None, backbone_weights: str | None = None) -> None:
    """Raise before a network is built if `load_start` could not load what --weights and --backbone-weights name.

    Raises: UsageError if the COCO weights, of a ResNet-101, are asked for another backbone; FileNotFoundError or
        ValueError if there is no such file, no run in `logs`, or no weights in the file.
    """
    check_weights(backbone_weights, "--backbone-weights")
    if start == "coco" and config.BACKBONE != "resnet101":  # before 246 MB are downloaded in vain
        raise UsageError(
            f"The COCO weights are of a resnet101. Received: BACKBONE={config.BACKBONE}. Try --weights imagenet, "
            "or leave BACKBONE as it is."
        )
    if start == "last":
        find_weights(start, config, logs)
    elif start not in (None, "coco", "imagenet"):
        check_weights(start)


def load_for_use(weight_file: str, items: list[str], base=None):
    """An inference model with the weights of a file, and the class names it answers in.

    items: of --config, on top of what the file says of itself.
    base: the Config of a file that says nothing of itself, as those of matterport's package.
    """
    from ..config import Config
    from ..weights import weight_files as weights

    check_weights(weight_file)
    config = None
    if items or base is not None:
        metadata = weights.read_metadata(weight_file) or {}
        if "config" in metadata:
            base = Config.from_dict(metadata["config"])
        if items or "config" not in metadata:
            config = validated(read_config(items, base))

    load_tensorflow()
    from ..model import MaskRCNN

    model = MaskRCNN.from_weights(weight_file, config=config)
    model.optimize_for_inference()  # its first photo is already found sooner for it
    names = model.class_names or ["BG", *(f"class {i}" for i in range(1, model.config.NUM_CLASSES))]
    return model, [clean_name(name) for name in names]


def load_for_training(config, logs: str, start: str | None):
    """A model to be trained, with the weights that --weights names; `start` as of `load_start`."""
    validated(config)
    check_start(config, logs, start)
    load_tensorflow()
    from ..model import MaskRCNN

    model = MaskRCNN("training", config, logs)
    load_start(model, start)
    return model


def validated(config):
    """The config itself, or a UsageError: only --config can have made it wrong."""
    try:
        config.validate()
    except ValueError as error:
        raise UsageError(str(error)) from error
    return config


# Stands at the start of the PNG files that `save_picture` marks.
_MARK = ("Software", "mrcnn")


def save_picture(picture, path: str | Path, marked: bool = False) -> None:
    """Write a picture `[H, W, 3]` uint8, whole or not at all; its folder is made if it does not exist.

    marked: let `is_own_picture` recognise the file, which must be a PNG.
    """
    from PIL import Image, PngImagePlugin

    from ..files.atomic import atomic_write

    file_format = Image.registered_extensions().get(Path(path).suffix.lower())
    if file_format is None:
        raise ValueError(
            f"A picture's name must end in .png or .jpg. Received: {path}. Try {path}.png."
        )
    options = {}
    if marked:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text(*_MARK)
    with atomic_write(path) as part:
        Image.fromarray(picture).save(part, format=file_format, **options)


def is_own_picture(path: str | Path) -> bool:
    """Whether a file is a picture that `save_picture` marked."""
    try:
        with open(path, "rb") as file:
            return b"tEXt" + "\0".join(_MARK).encode() in file.read(100)
    except OSError:
        return False


def free_picture(
    folder: str | Path, stem: str, ending: str = ".png", taken: Collection[str] = ()
) -> Path:
    """A path `<stem><ending>` in a folder that no other file has; `<stem>_2<ending>` and so on if one has it.

    A picture that `save_picture` marked before may be overwritten, anything else is somebody's photo.

    taken: names that are not to be used, in lower case.
    """
    path, count = Path(folder, f"{stem}{ending}"), 1
    while path.name.casefold() in taken or os.path.exists(path) and not is_own_picture(path):
        count += 1
        path = path.with_name(f"{stem}_{count}{ending}")
    return path


def find_weights(start: str, config, logs: str | Path) -> str:
    """The path of what --weights names: "coco" (downloaded where it is not cached), "last" (of `logs`), or a file."""
    from ..files import download
    from ..weights import weight_files as weights

    if start == "last":
        return weights.last_checkpoint(logs, config.NAME)
    if start == "coco":
        cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "models")
        path = cache / weights.COCO_MODEL_URL.rsplit("/", 1)[-1]
        return download.download(
            weights.COCO_MODEL_URL, path, md5=weights.COCO_MODEL_MD5, size=weights.COCO_MODEL_SIZE
        )
    return start


def load_start(model, start: str | None, backbone_weights: str | None = None) -> None:
    """Load into a model to be trained what --weights and --backbone-weights name; random weights for None.

    start: "coco", "imagenet", "last", a file, or None. backbone_weights: a file of the backbone alone, or None.

    Raises: as `check_start`.
    """
    check_start(model.config, model.model_dir, start, backbone_weights)
    if start == "last":
        path = find_weights(start, model.config, model.model_dir)
        model.load_weights(path)
        _warn_of_other_settings(path, model.config)
        return
    if backbone_weights is not None:
        model.load_backbone_weights(backbone_weights)
    if start == "coco":
        from ..weights import weight_files as weights

        model.load_weights(
            find_weights(start, model.config, model.model_dir), exclude=weights.CLASS_HEADS
        )
    elif start == "imagenet":
        model.load_backbone_weights(model.get_imagenet_weights())
    elif start is not None:
        model.load_weights(start)
    elif backbone_weights is None:
        frozen = model.config.TRAIN_BN is False
        log.warning(
            "Starting from random weights. --weights imagenet would need far fewer epochs%s.",
            ", and without it --config TRAIN_BN=None, for batch norm must learn too"
            if frozen
            else "",
        )


def _warn_of_other_settings(checkpoint: str, config) -> None:
    """Say which settings are not those with which a checkpoint was trained."""
    from ..weights import weight_files as weights

    then, now = (weights.read_metadata(checkpoint) or {}).get("config", {}), config.to_dict()
    other = [
        f"{name}={now[name]} (was {then[name]})"
        for name in then
        if name in now and then[name] != now[name]
    ]
    if other:
        log.warning("Going on with other settings than before: %s", ", ".join(other))

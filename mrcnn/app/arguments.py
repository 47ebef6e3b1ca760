"""The argument parser of `mrcnn`: types of option values, and errors that name the option meant."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Callable

from ..files.safe_text import clean_name

# Option names of other tools -> the options here; the first that the command has is suggested.
SYNONYMS = {
    "lr": ("--learning-rate",),
    "batch": ("--config IMAGES_PER_GPU=N",),
    "batch-size": ("--config IMAGES_PER_GPU=N",),
    "epoch": ("--epochs",),
    "img": ("--config IMAGE_MIN_DIM=N IMAGE_MAX_DIM=N",),
    "imgsz": ("--config IMAGE_MIN_DIM=N IMAGE_MAX_DIM=N",),
    "img-size": ("--config IMAGE_MIN_DIM=N IMAGE_MAX_DIM=N",),
    "device": ("--gpus", "the environment variable CUDA_VISIBLE_DEVICES"),
    "output": ("--out", "--logs"),
    "project": ("--out", "--logs"),
    "name": ("--config NAME=WORD",),
    "model": ("--weights",),
    "checkpoint": ("--weights",),
    "resume": ("--weights last",),
    "pretrained": ("--weights coco",),
    "conf": ("--min-confidence",),
    "threshold": ("--min-confidence",),
    "save-json": ("--format coco",),
    "augment": ("--tta flip",),
    "val-split": ("--split 0.8",),
    "validation-split": ("--split 0.8",),
    "soft-nms": ("--config DETECTION_NMS=gaussian",),
    "heatmap": ("--heat-map",),
    "cam": ("--heat-map",),
    "tracker": ("--track",),
    "data": ("its path as a word without --",),
    "dataset": ("its path as a word without --",),
    "source": ("its path as a word without --",),
    "input": ("its path as a word without --",),
    "bind": ("--host",),
    "address": ("--host",),
    "workers": ("--batch N",),
    "max-batch-size": ("--batch N",),
    "api-key": ("--token",),
}

# Networks of other tools that --network does not name -> their settings here.
NETWORK_SETTINGS = {
    "fasterrcnn": "--config USE_MASK=False",
    "keypointrcnn": "--config NUM_KEYPOINTS=17 USE_MASK=False",
}


class Parser(argparse.ArgumentParser):
    """A parser that reports unknown options under its own usage and suggests the option meant."""

    def __init__(self, **options):
        self.names: list[str] = []
        super().__init__(**options)

    def add_argument(self, *names, **options):
        action = super().add_argument(*names, **options)
        self.names += action.option_strings
        return action

    def _check_value(self, action, value):
        """Refuse a value that is no choice, and suggest the one meant.

        It replaces argparse's own method, which lists the choices only.
        """
        if action.choices is None or value in action.choices:
            return
        near = difflib.get_close_matches(str(value).lower(), action.choices, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]}?" if near else ""
        settings = NETWORK_SETTINGS.get(str(value).lower().replace("_", "").replace("-", ""))
        if settings and "--network" in action.option_strings:
            hint = f" Try {settings}, without --network."
        listed = ", ".join(action.choices)
        message = f"must be one of {listed}. Received: {str(value)!r}.{hint}"
        raise argparse.ArgumentError(action, message)

    def parse_known_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else list(args)
        is_command = " " in self.prog
        if is_command:
            self._refuse_unknown_options(words)
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}.{self._suggestion(rest[0])}")
        return found, rest

    def _refuse_unknown_options(self, words: list[str]) -> None:
        end = words.index("--") if "--" in words else len(words)
        for word in words[:end]:
            name = word.partition("=")[0]
            known = any(known.startswith(name) for known in self.names)
            if word.startswith("--") and not known:
                self.error(f"unrecognized option: {name}.{self._suggestion(name)}")

    def _suggestion(self, word: str) -> str:
        """`" Did you mean ...?"` if an option is similar or has this name elsewhere, else ""."""
        name = word.lstrip("-").partition("=")[0].replace("_", "-").lower()
        for option in SYNONYMS.get(name, ()):
            if not option.startswith("--") or option.split()[0] in self.names:
                return f" Did you mean {option}?"
        near = difflib.get_close_matches(f"--{name}", self.names, n=1, cutoff=0.7)
        return f" Did you mean {near[0]}?" if near else ""


def _number(kind: type, is_valid: Callable, rule: str) -> Callable:
    """An argparse type: a number for which `is_valid` is true; the error quotes the rule."""

    def convert(text: str):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if is_valid(value):
                return value
        raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text!r}")

    return convert


seed = _number(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")
at_least_1 = _number(int, lambda value: value >= 1, "a whole number of at least 1")
non_negative = _number(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")
positive = _number(float, lambda value: 0 < value < float("inf"), "a number above 0")
port = _number(int, lambda value: 0 <= value < 2**16, "a whole number from 0 to 65535")
share = _number(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")
inner_share = _number(float, lambda value: 0 < value < 1, "a number between 0 and 1")


def split(text: str) -> str | float:
    """An argparse type: a share of images, `off` (0.0), or the path of a split."""
    if text == "off":
        return 0.0
    if os.path.exists(text):
        return text
    try:
        return inner_share(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be a number between 0 and 1, off, or a file that exists. Received: {text!r}"
        ) from None


def view(text: str) -> str | float:
    """An argparse type: a view of test-time augmentation, `flip` or a factor of the size."""
    if text == "flip":
        return text
    with contextlib.suppress(ValueError):
        factor = float(text)
        if 0.1 <= factor <= 10:
            return factor
    raise argparse.ArgumentTypeError(f"must be flip or a factor from 0.1 to 10. Received: {text!r}")


def batch(text: str) -> int | str:
    """An argparse type: a number of images, or `dynamic`."""
    if text == "dynamic":
        return text
    try:
        return at_least_1(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be a whole number of at least 1, or dynamic. Received: {text!r}"
        ) from None


def class_name(text: str) -> str:
    """An argparse type: the name of a class, in one line."""
    name = clean_name(text)
    if name:
        return name
    raise argparse.ArgumentTypeError(f"must be a name. Received: {text!r}")


def path(text: str) -> str:
    """An argparse type: a path. `data=images`, the option syntax of other tools, is refused."""
    name, equals, value = text.partition("=")
    if equals and name.isidentifier() and not os.path.exists(text):
        raise argparse.ArgumentTypeError(
            f"must be a path. Received: {text!r}, and there is no such file. "
            f"Try {value or 'a path'}; options have the form --epochs 10."
        )
    return text

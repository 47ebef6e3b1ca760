"""The command `mrcnn`: demo, check, train, detect, evaluate, doctor.

Modules that load slowly are imported where they are used, so that `--help` and typing errors answer at once.
Results go to stdout, what happens on the way to stderr.
Exit codes: 0 done; 1 something is wrong with data, weights or the installation; 2 a wrong call; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import glob
import json
import logging
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from .. import __version__
from ..files.safe_text import clean_name, printable
from .cli_support import (
    FAILED,
    INTERRUPTED,  # noqa: F401 - with the others, for who calls main()
    OK,
    USAGE,
    UsageError,
    check_start,
    check_weights,
    exit_code,
    failure,
    free_picture,
    hushed,
    is_own_picture,
    load_for_use,
    load_start,
    load_tensorflow,
    log_settings,
    own_names,
    read_config,
    save_picture,
    say,
    sentence,
    validated,
)

log = logging.getLogger("mrcnn")

MOST_NAMES = 20  # of photos that failed, in a message
WARMUP_STEPS = 500  # of `mrcnn train`, at most: a tenth of a short training
# Of augment.py, which loads OpenCV.
AUGMENTATIONS = ("flip", "fliplr", "rotate90", "scale", "jitter", "color", "copy_paste")
FORMATS = (
    "coco",
    "labelme",
    "via",
    "geojson",
    "csv",
    "yolo",
    "png",
)  # of export.py, which loads OpenCV
DATA = (
    "the word shapes (made pictures), a COCO instances file, a VGG Image Annotator file, labelme files, a Pascal VOC "
    "folder or one of its lists (ImageSets/Segmentation/train.txt), VOC's XML files beside their images, YOLO's "
    "data.yaml or images/ and labels/, CVAT's annotations.xml, a folder of images/ and masks/ with one image of "
    "instance ids per photo, or a folder of <id>/images/*.png and <id>/masks/*.png; a folder that holds such a file "
    "will do"
)
# The word "shapes" names these pictures. A seed names a set; no training, the demo's included, uses the second.
SHAPES_TO_TRAIN = {"count": 500, "seed": 0}
SHAPES_HELD_OUT = {"count": 100, "seed": 2**40}


def main(argv: list[str] | None = None) -> int:
    """The exit code, after the command has run.

    argv: words after `mrcnn`; default those of the command line. A wrong word leaves by SystemExit(2).
    """
    args = build_parser().parse_args(argv)
    return exit_code(
        lambda: args.run(args), "mrcnn", args.debug, f" See mrcnn {args.command} --help."
    )


# --- Words ------------------------------------------------------------------------------------------------------


# What options are called elsewhere -> what says it here; only the first of them that the command has is named.
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
    "data": ("its path as a word without --",),
    "dataset": ("its path as a word without --",),
    "source": ("its path as a word without --",),
    "input": ("its path as a word without --",),
}


class _Parser(argparse.ArgumentParser):
    """A parser that refuses unknown options itself, under its own usage, and names the option that was meant."""

    def __init__(self, **options):
        self.names: list[str] = []
        super().__init__(**options)

    def add_argument(self, *names, **options):
        action = super().add_argument(*names, **options)
        self.names += action.option_strings
        return action

    def parse_known_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else list(args)
        for word in words[: words.index("--") if "--" in words else None]:
            name = word.partition("=")[0]
            if (
                self.prog.count(" ")
                and word.startswith("--")
                and not any(n.startswith(name) for n in self.names)
            ):
                self.error(f"unrecognized option: {name}.{self._meant(name)}")
        found, rest = super().parse_known_args(words, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}.{self._meant(rest[0])}")
        return found, rest

    def _meant(self, word: str) -> str:
        """`" Did you mean ...?"` if one of the options is near, or has another name elsewhere; else empty."""
        import difflib

        name = word.lstrip("-").partition("=")[0].replace("_", "-").lower()
        for meant in SYNONYMS.get(name, ()):
            if not meant.startswith("--") or meant.split()[0] in self.names:
                return f" Did you mean {meant}?"
        near = difflib.get_close_matches(f"--{name}", self.names, n=1, cutoff=0.7)
        return f" Did you mean {near[0]}?" if near else ""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `args.run(args)` runs the chosen one."""
    parser = _Parser(
        prog="mrcnn",
        description="Mask R-CNN: find objects in photos, with a box, a class and a mask for each.",
        epilog="New here? `mrcnn doctor` checks the installation, `mrcnn demo` shows everything on made pictures. "
        "`mrcnn COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"mrcnn {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    parser.set_defaults(run=lambda args: _show_help(parser))
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for add in (_add_demo, _add_check, _add_train, _add_detect, _add_evaluate, _add_doctor):
        add(commands)
    return parser


def _show_help(parser) -> int:
    """`mrcnn` alone."""
    parser.print_help(sys.stderr)
    return USAGE


def _add_command(commands, name, run, summary, details="", example="") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. {details}",
        epilog=f"Example: {example}" if example else None,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the whole traceback of an error",
    )
    return parser


def _add_config(parser, default: str) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE|NAME=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="settings of mrcnn.config.Config: NAME=VALUE, a .json file of them, or a .py file that defines one "
        f"Config subclass; later ones win. Default: {default}",
    )


def _add_data(parser, help_text: str = DATA) -> None:
    parser.add_argument("data", metavar="DATA", type=_path, help=help_text)
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="folder of the images that annotation files list. Default: the usual places",
    )
    parser.add_argument(
        "--attribute",
        metavar="NAME",
        help="region attribute of VIA that names the class. Default: the most frequent",
    )
    parser.add_argument(
        "--strict", action="store_true",
        help="refuse data with an entry that cannot be used. Default: leave such entries out, with a warning",
    )  # fmt: skip


def _add_demo(commands) -> None:
    parser = _add_command(
        commands,
        "demo",
        run_demo,
        "train on made pictures, measure, and leave pictures to look at",
        "Draws squares, circles and triangles, trains a small Mask R-CNN on them from nothing and evaluates it on "
        "pictures it has not seen. Downloads nothing.",
        "mrcnn demo --out my_demo",
    )
    parser.add_argument(
        "--out", metavar="DIR", default="mrcnn_demo", help="folder for the results (%(default)s)"
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="another seed, another run (%(default)s)"
    )
    parser.add_argument(
        "--short", action="store_true", help="a few steps only, to see that everything works"
    )
    _add_config(parser, "those of mrcnn.app.demo.DemoConfig")


def _add_check(commands) -> None:
    parser = _add_command(
        commands,
        "check",
        run_check,
        "look for what is wrong with your pictures and annotations, before training on them",
        "Reads every image and mask, and names images that cannot be read, masks that do not fit, and objects that are "
        "empty, annotated twice or too small once resized. Counts the objects of each class, and suggests "
        "RPN_ANCHOR_SCALES where the anchors do not fit their sizes. Exit code 1 where something would spoil the "
        "training, 0 otherwise, warnings or not.",
        "mrcnn check photos/train --out checked",
    )
    _add_data(
        parser, DATA + "; or a folder with such folders train and val, which are both checked"
    )
    _add_config(
        parser, "Config's own, with the classes taken from DATA; give what you will train with"
    )
    parser.add_argument("--limit", type=_at_least_1, metavar="N", help="the first N images only")
    parser.add_argument(
        "--no-pixels",
        action="store_true",
        help="look at the annotations alone: faster, and without the images",
    )
    parser.add_argument(
        "--out", metavar="DIR",
        help="folder for check.json, with every finding, and contact_sheet.png, twelve images with their annotations "
        "drawn on. Default: only print",
    )  # fmt: skip


def _add_train(commands) -> None:
    parser = _add_command(
        commands,
        "train",
        run_train,
        "train on your pictures",
        "Writes a folder in --logs with a weight file per epoch, losses.csv and TensorBoard's files. The same command "
        "with --weights last goes on after the last whole epoch; Ctrl-C also leaves the weights of that moment in "
        "interrupted.h5, for a new run to start from.",
        "mrcnn train photos/train --val photos/val --weights coco --layers heads --epochs 10",
    )
    _add_data(parser, DATA + "; or a folder with such folders train and val")
    parser.add_argument(
        "--val", metavar="DATA", type=_path, help="data for validation, of the same forms"
    )
    _add_config(parser, "Config's own, with name, classes and steps per epoch taken from DATA")
    parser.add_argument(
        "--weights",
        metavar="coco|imagenet|last|FILE",
        help="where to start: matterport's COCO weights without their heads (downloaded; needs BACKBONE=resnet101, "
        "the default); ImageNet weights for the backbone (downloaded); the newest checkpoint in --logs, to go on "
        "with; or a weight file, whose heads are left out where the classes differ. Default: random weights",
    )
    parser.add_argument(
        "--backbone-weights", metavar="FILE", help="ImageNet weights for the backbone, from a file"
    )
    parser.add_argument(
        "--layers",
        default="all",
        help="what learns: heads, 5+, 4+, 3+, all, or a regex of layer names (%(default)s)",
    )
    parser.add_argument(
        "--epochs",
        type=_at_least_1,
        default=10,
        help="the epoch to reach, counted from the first (%(default)s)",
    )
    parser.add_argument(
        "--learning-rate",
        type=_positive,
        metavar="RATE",
        help="default: the config's LEARNING_RATE",
    )
    parser.add_argument(
        "--seed", type=_seed, help="same seed, same initial weights and batches (the config's SEED)"
    )
    parser.add_argument(
        "--gpus", type=_at_least_1, metavar="N",
        help="spread each batch over N GPUs, IMAGES_PER_GPU on each (the config's GPU_COUNT); with several hosts in "
        "TF_CONFIG the GPUs of all of them",
    )  # fmt: skip
    parser.add_argument(
        "--logs", metavar="DIR", default="logs", help="folder for the runs (%(default)s)"
    )
    parser.add_argument(
        "--augment", metavar="NAME", nargs="+", choices=AUGMENTATIONS, default=[],
        help=f"random changes to the training pictures, in this order: {', '.join(AUGMENTATIONS)}. Default: none",
    )  # fmt: skip


def _add_detect(commands) -> None:
    parser = _add_command(
        commands,
        "detect",
        run_detect,
        "find objects in photos",
        "Writes a picture per photo, and detections.json with every object: class, score, box (y1, x1, y2, x2 in "
        "pixels) and, where the network has masks, mask (COCO's run-length code). Photos that cannot be read are "
        "named, and the others go on.",
        "mrcnn detect photo.jpg holiday/ --weights mask_rcnn_nuclei_0040.h5 --out found",
    )
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", type=_path, help="image files, or folders of them"
    )
    parser.add_argument(
        "--weights", metavar="FILE", required=True, help="a weight file, such as training leaves"
    )
    parser.add_argument(
        "--out", metavar="DIR", required=True, help="folder for the pictures and detections.json"
    )
    _add_config(parser, "what the weight file says")
    parser.add_argument(
        "--min-confidence",
        type=_share,
        metavar="SCORE",
        help="show objects from this score on, 0 to 1 (the config's)",
    )
    parser.add_argument(
        "--format", dest="formats", metavar="NAME", nargs="+", choices=FORMATS, default=[],
        help="also write the objects for other tools: coco (coco.json), labelme (a file a photo in labelme/), via "
        "(via.json), geojson (detections.geojson), csv (detections.csv), yolo (yolo/, a data set: data.yaml, images, "
        "labels), png (png/: images, and in masks an image of instance ids per photo). Default: none",
    )  # fmt: skip


def _add_evaluate(commands) -> None:
    parser = _add_command(
        commands,
        "evaluate",
        run_evaluate,
        "measure a weight file on annotated pictures",
        "Prints COCO's twelve figures for boxes and for masks, the AP of each class, VOC's AP where the data is VOC's, "
        "and the confidence to use. Writes them to metrics.json and record_mAP.txt, with precision-recall curves and "
        "the confusion matrix as pictures. Ctrl-C leaves the figures of the images measured so far, marked PARTIAL. "
        "Weights trained with RPN_ONLY give their recall at 100 and 1,000 proposals, to metrics.json alone.",
        "mrcnn evaluate photos/val --weights mask_rcnn_nuclei_0040.h5 --out measured --pictures",
    )
    _add_data(parser)
    parser.add_argument(
        "--weights", metavar="FILE", required=True, help="a weight file, such as training leaves"
    )
    parser.add_argument("--limit", type=_at_least_1, metavar="N", help="the first N images only")
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="mrcnn_evaluation",
        help="folder for what is written (%(default)s)",
    )
    parser.add_argument(
        "--pictures", action="store_true", help="also draw truth beside detections for every image"
    )
    _add_config(parser, "what the weight file says")
    parser.add_argument(
        "--min-confidence", type=_share, metavar="SCORE", default=0.05,
        help="count detections from this score on, 0 to 1 (%(default)s)",
    )  # fmt: skip


def _add_doctor(commands) -> None:
    _add_command(
        commands,
        "doctor",
        run_doctor,
        "check the installation",
        "Shows versions and devices, and for what is missing or broken the command that mends it.",
    )


def _number(kind, holds, rule):
    """An argparse type: a number for which `holds`, or a sentence with the rule."""

    def convert(text):
        with contextlib.suppress(ValueError):
            if holds(value := kind(text)):
                return value
        raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text!r}")

    return convert


def _path(text: str) -> str:
    """An argparse type: a path; `data=photos`, as other tools write options, is told from it."""
    name, equals, value = text.partition("=")
    if equals and name.isidentifier() and not os.path.exists(text):
        raise argparse.ArgumentTypeError(
            f"must be a path. Received: {text!r}, and there is no such file. Try {value or 'a path'}; options have "
            "the form --epochs 10."
        )
    return text


_seed = _number(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")
_at_least_1 = _number(int, lambda value: value >= 1, "a whole number of at least 1")
_positive = _number(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")
_share = _number(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


# --- Data and weights -------------------------------------------------------------------------------------------


def open_data(
    path: str, class_names: list[str] | None = None, shapes: dict | None = None, **options
):
    """The dataset at a path.


    class_names: what its classes must be, background first; default those it has. shapes: which made pictures the
    word "shapes" stands for. options: of `open_dataset`, see `_data_options`.

    Raises: ValueError where nothing is understood there, or the classes are others.
    """
    from ..formats.datasets import open_dataset

    if _is_url(path):
        raise ValueError(
            f"DATA must be on this machine. Received: the URL {path}. Try to download it first."
        )
    options = (shapes or {}) if path == "shapes" else options
    return open_dataset(
        path, class_names=None if class_names is None else class_names[1:], **options
    )


def _data_options(args) -> dict:
    """What the options of `_add_data` mean to `open_dataset`.

    Raises: ValueError if --images is not a folder.
    """
    if args.images is not None and not Path(args.images).is_dir():
        raise ValueError(
            f"--images must be a folder. Received: {args.images}, which is none. Try its full path."
        )
    options = {"images_dir": args.images, "strict": args.strict}
    return options if args.attribute is None else {**options, "attribute": args.attribute}


def objects_per_class(dataset) -> dict[str, int] | None:
    """Class name -> objects, crowds not counted, where the annotations say so without reading pixels; else None."""
    counts = dict.fromkeys(dataset.class_names[1:], 0)
    for info in dataset.image_info:
        if "class_ids" in info:  # VGG Image Annotator, Pascal VOC
            found = info["class_ids"]
        elif "annotations" in info:  # COCO
            found = [
                entry["category_id"] for entry in info["annotations"] if not entry.get("iscrowd")
            ]
        elif "masks" in info:  # a file an object
            found = [1] * len(_image_files(Path(info["masks"])))
        else:
            return None
        for class_id in found:
            counts[
                dataset.class_names[dataset.map_source_class_id(f"{info['source']}.{class_id}")]
            ] += 1
    return counts


def _image_files(folder: Path) -> list[Path]:
    """The image files in a folder, by name; none where there is no such folder."""
    from ..formats.datasets import IMAGE_SUFFIXES

    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        file
        for file in files
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]


def _log_data(role: str, dataset) -> None:
    counts = objects_per_class(dataset)
    names, images = dataset.class_names[1:], len(dataset.image_ids)
    classes = names if counts is None else [f"{name} {counts[name]}" for name in names]
    log.info(
        "%s: %s, %d image%s, %d class%s%s: %s",
        role, type(dataset).__name__, images, "s" * (images != 1), len(names), "es" * (len(names) != 1),
        " (and their objects)" * (counts is not None), ", ".join(classes),
    )  # fmt: skip


def _require_images(dataset, data: str) -> None:
    """Raise a ValueError if not one image file is there: it would be said only after the network is built."""
    paths = [
        info["path"] for info in dataset.image_info if info.get("path") and not info.get("embedded")
    ]
    if paths and not any(map(os.path.isfile, paths)):
        raise ValueError(
            f"The images of DATA must exist. Received: {data}, and none of its {len(paths)} images, {paths[0]} for "
            "one. Try to name the folder of the images: --images DIR."
        )


def _make_folder(path: str, option: str) -> Path:
    """The folder, made where it is not there; a UsageError where no file can be written into it."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return Path(path)
    except OSError as error:
        raise UsageError(
            f"{option} must be a folder that can be written to. Received: {path} ({error.strerror}). Try another path."
        ) from error


def _write_json(content, path: Path) -> None:
    from ..files.atomic import atomic_write

    with atomic_write(path) as part:
        Path(part).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# --- Commands ---------------------------------------------------------------------------------------------------


def run_demo(args) -> int:
    """`mrcnn demo`."""
    _make_folder(args.out, "--out")
    load_tensorflow()
    from . import demo

    config = validated(read_config(args.config, base=demo.DemoConfig()))
    metrics = demo.run(args.out, args.seed, short=args.short, config=config)
    for name, value in metrics.items():
        say(f"{name:16} {value:.3f}" if isinstance(value, float) else f"{name:16} {value}")
    return OK


def run_check(args) -> int:
    """`mrcnn check`."""
    from ..formats.datasets import split_folders

    out = None if args.out is None else _make_folder(args.out, "--out")
    config = read_config(args.config)
    parts = split_folders(args.data)
    if parts is None:
        return _check(args, args.data, config, out)[1]
    names, code = None, OK
    for part, name in zip(parts, ("train", "val"), strict=True):
        say(f"--- {part}")
        folder = None if out is None else _make_folder(out / name, "--out")
        names, part_code = _check(args, str(part), config, folder, names)
        code = max(code, part_code)
        say("")
    return code


def _check(args, data: str, config, out: Path | None, class_names=None) -> tuple[list[str], int]:
    """Check one dataset, print what was found and write it; returns its class names and the exit code."""
    from ..data import check

    dataset = open_data(data, class_names, SHAPES_TO_TRAIN, **_data_options(args))
    if "NUM_CLASSES" not in own_names(config):
        config.NUM_CLASSES = dataset.num_classes
    report = check.check(dataset, validated(config), limit=args.limit, pixels=not args.no_pixels)
    say(report)
    if out is not None:
        _write_json({"data": data, **report.to_dict()}, out / "check.json")
        bad = {finding.image_id for finding in report.errors}
        image_ids = [int(i) for i in dataset.image_ids[: args.limit] if i not in bad]
        if image_ids:
            save_picture(
                _annotated_images(dataset, image_ids, not args.no_pixels), out / "contact_sheet.png"
            )
        say(f"\ncheck.json{' and contact_sheet.png' * bool(image_ids)} in {out.resolve()}")
    return dataset.class_names, FAILED if report.errors else OK


def _annotated_images(dataset, image_ids: list[int], pixels: bool):
    """A contact sheet of at most 12 of the images, spread evenly, with their annotations; on grey without pixels."""
    import numpy as np

    from ..data.dataset import boxes_alone
    from ..data.image import boxes_to_masks
    from ..drawing import pictures as visualize

    count, columns = min(len(image_ids), 12), 4
    chosen = [image_ids[i * len(image_ids) // count] for i in range(count)]
    pictures = []
    for image_id in chosen:
        if boxes_alone(dataset):
            boxes, class_ids = dataset.load_bbox(image_id)
            masks = boxes_to_masks(np.round(boxes).astype(int), dataset.image_size(image_id))
        else:
            masks, class_ids = dataset.load_mask(image_id)
        size = masks.shape[:2] if len(class_ids) else (64, 64)
        image = dataset.load_image(image_id) if pixels else np.full((*size, 3), 128, np.uint8)
        picture = _draw_small(image, masks, class_ids, dataset.class_names)
        name = Path(dataset.image_info[image_id]["path"] or "").name
        pictures.append(visualize._titled(picture, f"{image_id} {name[-32:]}: {len(class_ids)}"))
    return visualize.contact_sheet(pictures, columns)


def _draw_small(image, masks, class_ids, class_names: list[str], side: int = 480):
    """An image with its instances, its long side brought to `side` pixels: labels can be read on a large one too."""
    import numpy as np

    from ..data.image import extract_bboxes, resize_image, resize_mask
    from ..drawing import pictures as visualize

    if len(class_ids) == 0:
        masks = np.zeros((*image.shape[:2], 0), bool)  # any empty shape is allowed
    image, (y1, x1, y2, x2), scale, padding, _ = resize_image(image, min_dim=side, max_dim=side)
    image, masks = image[y1:y2, x1:x2], resize_mask(masks, scale, padding)[y1:y2, x1:x2]
    captions = (
        [""] * len(class_ids) if len(class_names) == 2 else None
    )  # the name of the only class would hide objects
    return visualize.draw_instances(
        image, extract_bboxes(masks), masks, class_ids, class_names, captions=captions
    )


def run_train(args) -> int:
    """`mrcnn train`."""
    from ..data.dataset import boxes_alone

    config = read_config(args.config)
    if not callable(config.BACKBONE):
        _check_layers(args.layers)
    if args.weights != "last":  # its name may follow from DATA
        check_start(config, args.logs, args.weights, args.backbone_weights)
    train_data, val_data = _open_training_data(args.data, args.val, **_data_options(args))
    _fit_config(config, args, train_data, val_data)
    log_settings(validated(config))
    if config.learns_masks() and boxes_alone(train_data):
        raise ValueError(
            f"A network with masks needs outlines to learn from. Received: {args.data}, whose annotations are boxes "
            "only. Try --config USE_MASK=False, or annotate outlines."
        )
    check_start(config, args.logs, args.weights, args.backbone_weights)
    _make_folder(args.logs, "--logs")

    load_tensorflow()
    import keras

    from ..data import augment
    from ..model import MaskRCNN

    _warn_of_slow_cpu(config)
    if config.SEED is not None:
        keras.utils.set_random_seed(config.SEED)
    model = MaskRCNN("training", config, args.logs)
    load_start(model, args.weights, args.backbone_weights)
    model.train(
        train_data,
        val_data,
        learning_rate=config.LEARNING_RATE,
        epochs=args.epochs,
        layers=args.layers,
        augmentation=augment.compose(args.augment) if args.augment else None,
    )
    path = model.checkpoint_path.format(epoch=model.epoch)
    say(f"Weights: {path}")
    log.info("Next: mrcnn detect PHOTO --weights %s --out found", path)
    return OK


def _warn_of_slow_cpu(config) -> None:
    """Log a warning if a large network is to be trained without a GPU."""
    import tensorflow as tf

    large = config.BACKBONE in ("resnet50", "resnet101") and max(config.IMAGE_SHAPE[:2]) > 512
    if large and not tf.config.list_physical_devices("GPU"):
        log.warning(
            "There is no GPU: a step of %s at %d pixels takes many seconds here, and several GB. For a CPU try "
            "--config BACKBONE=mobilenet_v2 IMAGE_MIN_DIM=256 IMAGE_MAX_DIM=256.",
            config.BACKBONE, max(config.IMAGE_SHAPE[:2]),
        )  # fmt: skip


def _open_training_data(data: str, val: str | None, **options):
    """The datasets to train and to validate on; the second is None if there is none. options: of `open_data`."""
    from ..data.dataset import shared_images
    from ..formats.datasets import split_folders

    split = split_folders(data) if val is None else None
    if split:
        data, val = map(str, split)
        log.info("Found data to train on in %s, and to validate on in %s", data, val)
    elif val is None and data == "shapes":
        val = "shapes"
    train_data = open_data(data, shapes=SHAPES_TO_TRAIN, **options)
    _require_images(train_data, data)
    _log_data("Training data", train_data)
    if sum((objects_per_class(train_data) or {"not known": 1}).values()) == 0:
        raise ValueError(
            f"DATA must hold objects to learn from. Received: {data}, {len(train_data.image_ids)} images and not one "
            "object. `mrcnn train --help` says where masks and annotations belong."
        )
    if val is None:
        log.info("No validation data. Try --val, or a DATA folder with folders train and val.")
        return train_data, None
    val_data = open_data(val, train_data.class_names, shapes=SHAPES_HELD_OUT, **options)
    _require_images(val_data, val)
    _log_data("Validation data", val_data)
    if shared := shared_images(train_data, val_data):
        log.warning(
            "%d of %d validation images are among the training images: what is measured on them says little about "
            "other images. Try --val with images of its own.", shared, len(val_data.image_ids),
        )  # fmt: skip
    return train_data, val_data


def _fit_config(config, args, train_data, val_data) -> None:
    """Fill in what follows from the data, where --config does not say it, and what other options say."""
    from ..formats.datasets import SETS

    chosen = own_names(config)
    path = Path(args.data).resolve()
    folder = path.parent if path.is_file() else path
    if folder.name in (*SETS, "annotations"):  # such a name says nothing of the data
        folder = folder.parent
    if args.gpus is not None:
        config.GPU_COUNT = args.gpus
    batch_size = max(1, config.BATCH_SIZE)  # 0 is told of by Config itself
    found = {
        "NAME": "".join(c for c in folder.name if c.isascii() and c.isalnum()) or "mrcnn",
        "NUM_CLASSES": train_data.num_classes,
        "STEPS_PER_EPOCH": -(-len(train_data.image_ids) // batch_size),
    }
    if val_data is not None:
        found["VALIDATION_STEPS"] = -(-len(val_data.image_ids) // batch_size)
    for name, value in found.items():
        if name not in chosen:
            setattr(config, name, value)
    if "WARMUP_STEPS" not in chosen:
        config.WARMUP_STEPS = min(WARMUP_STEPS, config.STEPS_PER_EPOCH * args.epochs // 10)
    if config.NUM_CLASSES not in (1, train_data.num_classes):  # 1 is told of by Config itself
        raise UsageError(
            f"NUM_CLASSES must be 1 (background) + the classes of DATA, {train_data.num_classes}. Received: "
            f"{config.NUM_CLASSES}. Try to leave it out of --config: it follows from DATA."
        )
    if args.seed is not None:
        config.SEED = args.seed
    if args.learning_rate is not None:
        config.LEARNING_RATE = args.learning_rate


def _check_layers(layers: str) -> None:
    """A UsageError for a --layers that no network of ours has, before one is built."""
    if layers in ("heads", "all", "3+", "4+", "5+"):
        return
    try:
        if any(re.fullmatch(layers, name) for name in layer_names()):
            return
        why = "which matches none"
    except re.error as error:
        why = f"which is no regex ({error})"
    raise UsageError(
        f"--layers must be heads, 5+, 4+, 3+, all, or a regex that matches a layer's whole name. Received: {layers}, "
        f"{why}. Try heads."
    )


def layer_names() -> list[str]:
    """The names that layers with weights may have, in a network of any of our backbones."""
    resnet = [
        f"{kind}{stage}{block}_branch{branch}"
        for kind in ("res", "bn")
        for stage in "2345"
        for block in "abcdefghijklmnopqrstuvw"
        for branch in ("1", "2a", "2b", "2c")
    ]
    mobilenet = [
        f"{block}_{part}{bn}"
        for block in ("expanded_conv", *(f"block_{i}" for i in range(1, 17)))
        for part in ("expand", "depthwise", "project")
        for bn in ("", "_BN")
    ]
    heads = [
        "rpn_conv_shared",
        "rpn_class_raw",
        "rpn_bbox_pred",
        "mrcnn_class_logits",
        "mrcnn_bbox_fc",
        "mrcnn_mask",
    ]
    heads += [f"fpn_{name}" for i in "2345" for name in (f"c{i}p{i}", f"p{i}")]
    heads += [f"mrcnn_class_{kind}{i}" for kind in ("conv", "bn") for i in "12"]
    heads += [f"mrcnn_mask_{kind}{i}" for kind in ("conv", "bn") for i in "1234"]
    heads += [f"mrcnn_mask_deconv{i}" for i in ("", "2", "3")]
    return [
        "conv1",
        "bn_conv1",
        *resnet,
        "Conv1",
        "bn_Conv1",
        *mobilenet,
        "Conv_1",
        "Conv_1_bn",
        *heads,
    ]


def run_detect(args) -> int:
    """`mrcnn detect`."""
    from ..formats import export

    names, files, failed = _files_to_detect(args.images)
    out = _make_folder(args.out, "--out")
    model, class_names = load_for_use(args.weights, args.config)
    if model.config.RPN_ONLY:
        raise ValueError(
            f"mrcnn detect needs a network that knows classes. Received: {args.weights}, of a region proposal network "
            "alone (RPN_ONLY). Try `mrcnn evaluate`, which measures its proposals, or MaskRCNN.detect in Python."
        )
    if args.min_confidence is not None:
        model.config.DETECTION_MIN_CONFIDENCE = args.min_confidence

    others = export.Export(out, args.formats, class_names)
    entries, stopped = [], None
    try:
        for file, picture in zip(files, _pictures(files, out), strict=True):
            try:
                entries.append(detect_file(model, class_names, file, picture, others))
            except Exception as error:
                if isinstance(error, OSError) and not _is_of_the_name(
                    error
                ):  # of the folder, not of this photo
                    raise
                failed[str(file)] = sentence(error)
                log.error("%s: %s", printable(file), printable(sentence(error), 1000))
                log.debug("It was raised here:", exc_info=True)
                continue
            count = len(entries[-1]["detections"])
            log.info("%s: %d object%s", printable(file), count, "s" * (count != 1))
    except (KeyboardInterrupt, OSError) as error:
        stopped = error
        log.warning(
            "Interrupted: written is what was found in the first %d of %d images.",
            len(entries),
            len(files),
        )
    report = {
        "weights": str(args.weights),
        "class_names": class_names,
        "min_confidence": model.config.DETECTION_MIN_CONFIDENCE,
        **({"partial": True} if stopped else {}),
        "images": entries,
        **(
            {"failed": [{"file_name": n, "error": failed[n]} for n in names if n in failed]}
            if failed
            else {}
        ),
    }
    _write_json(report, out / "detections.json")
    more = "".join(
        f", {name}"
        for name in dict.fromkeys(_top_folder_or_file(out, path) for path in others.write())
    )
    say(f"{len(entries)} pictures, detections.json{more} are in {out.resolve()}")
    if stopped:
        raise stopped
    return (
        _tell_of_failures(len(names), [name for name in names if name in failed]) if failed else OK
    )


def _tell_of_failures(images: int, names: list[str]) -> int:
    """The exit code, after saying how many images failed, and the first of them."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    first = ", ".join(map(printable, names[:MOST_NAMES]))
    return failure(FAILED, "mrcnn", f"{len(names)} of {images} images failed: {first}{more}")


def _is_of_the_name(error: OSError) -> bool:
    """Whether a file could not be written because of its own name, too long for example."""
    number = getattr(error.__cause__ or error, "errno", None)
    return number in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def _top_folder_or_file(folder: Path, path: Path) -> str:
    """What of a path inside a folder one sees in that folder."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) == 1 else f"{parts[0]}/"


def _files_to_detect(words: list[str]) -> tuple[list[str], list[Path], dict[str, str]]:
    """The names of all images that the words stand for, the files among them, and why the others are none.

    A word is an image, a folder (for the images in it) or a pattern. Headers are read here, before minutes are
    spent on building a network.

    Raises: ValueError if a folder holds no images, or none of all images can be read.
    """
    from ..data.image import read_size

    names: dict[str, None] = {}
    for word in words:
        if _is_url(word):
            names[word] = None
        for path in () if _is_url(word) else _matches(word):
            names.update(dict.fromkeys(map(str, _images_in(path) if path.is_dir() else [path])))
    files, failed = [], {}
    for name in names:
        try:
            if _is_url(name):
                raise ValueError(
                    f"An image must be a file on this machine. Received: the URL {name}. Try to download it first."
                )
            read_size(name)
            files.append(Path(name))
        except Exception as error:  # readers of images raise what they like
            failed[name] = sentence(error)
    if not files:
        first = list(failed.values())[:MOST_NAMES]
        if len(failed) == 1:
            raise ValueError(first[0])
        raise ValueError(
            "\n  ".join([f"None of the {len(failed)} images can be read:", *map(printable, first)])
        )
    for name, why in failed.items():
        log.error("%s: %s", printable(name), printable(why, 1000))
    return list(names), files, failed


def _is_url(word: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+://", word, re.IGNORECASE) is not None


def _matches(word: str) -> list[Path]:
    """The path itself, or those that match a pattern which the shell has left as it is."""
    path = Path(word).expanduser()
    if os.path.exists(path) or not glob.has_magic(word):
        return [path]
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        raise ValueError(
            f"A pattern must match files. Received: {word}, which matches none. Try a folder."
        )
    return found


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder; what else lies there is logged, with counts.

    Raises: ValueError if there is no image.
    """
    from ..formats.datasets import IMAGE_SUFFIXES

    images, skipped = [], Counter()
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            skipped["sub-folder"] += 1
        elif entry.suffix.lower() not in IMAGE_SUFFIXES or entry.name.startswith("."):
            skipped[printable(entry.suffix or entry.name, 20)] += 1
        elif is_own_picture(entry):
            skipped["earlier picture"] += 1
        else:
            images.append(entry)
    others = ", ".join(
        f"{count} {what}{'s' * (count > 1 and what[0] != '.')}" for what, count in skipped.items()
    )
    if not images:
        inside = (*sorted(folder.glob("*")), *sorted(folder.glob("*/*")))
        below = next((folder for folder in inside if _image_files(folder)), None)
        hint = f" Try the folders in it, as {printable(below)}." if below else ""
        holds = others and f" ({others})"
        raise ValueError(
            f"A folder must itself hold images. Received: {printable(folder)}, which holds none{holds}.{hint}"
        )
    if skipped:
        log.warning(
            "%s: %d images; skipped are %s. Sub-folders must be named themselves, photos in other formats "
            "converted to JPEG or PNG; samples/video reads videos.",
            printable(folder), len(images), others,
        )  # fmt: skip
    return images


def _pictures(files: list[Path], out: Path) -> list[Path]:
    """A path for each picture; none comes twice, and none is that of a photo."""
    folders = {
        file.parent: os.path.realpath(file.parent) == os.path.realpath(out) for file in files
    }
    taken = {file.name.casefold() for file in files if folders[file.parent]}
    paths = []
    for file in files:
        path = free_picture(out, file.stem, "_detected.png", taken)
        taken.add(path.name.casefold())
        paths.append(path)
    return paths


def detect_file(model, class_names: list[str], file: Path, picture: Path, others) -> dict:
    """The entry of `detections.json` for one image file; its picture is drawn on the way.

    others: the `export.Export` for other tools' files, which takes in the image too.

    Raises: ValueError where the image cannot be read or used, OSError where nothing can be written.
    """
    from ..data.image import read_image
    from ..drawing import pictures as visualize
    from ..evaluation.evaluate import mask_to_rle

    image = read_image(file, channels=model.config.IMAGE_CHANNEL_COUNT)
    result = model.detect([image])[0]
    save_picture(visualize.draw_result(image, result, class_names), picture, marked=True)
    others.add(file, image.shape[:2], result)
    return {
        "file_name": str(file),
        "picture": picture.name,
        "width": int(image.shape[1]),
        "height": int(image.shape[0]),
        "detections": [
            {
                "class_id": int(class_id),
                "class_name": class_names[class_id],
                "score": float(score),
                "box": [int(side) for side in box],
                **({"mask": mask_to_rle(result["masks"][:, :, i])} if "masks" in result else {}),
            }
            for i, (class_id, score, box) in enumerate(
                zip(result["class_ids"], result["scores"], result["rois"], strict=True)
            )
        ],
    }


def run_evaluate(args) -> int:
    """`mrcnn evaluate`."""
    from ..evaluation import evaluate, report
    from ..formats.datasets import split_folders

    out = _make_folder(args.out, "--out")
    if split := split_folders(args.data):
        args.data = str(split[1])
        log.info("Found data to train on and to validate on: measuring on %s", args.data)
    dataset = open_data(
        args.data, _class_names_of(args.weights), SHAPES_HELD_OUT, **_data_options(args)
    )
    _require_images(dataset, args.data)
    model, _ = load_for_use(args.weights, args.config)
    if dataset.num_classes != model.config.NUM_CLASSES:
        raise ValueError(
            f"{args.data} must have the classes of the weights. Received: {dataset.class_names[1:]}, and weights for "
            f"{model.config.NUM_CLASSES - 1} classes. Try data annotated with the same classes."
        )
    _log_data("Data", dataset)
    if model.config.RPN_ONLY:
        return _evaluate_proposals(model, dataset, args, out)
    shown_from = model.config.DETECTION_MIN_CONFIDENCE
    model.config.DETECTION_MIN_CONFIDENCE = args.min_confidence
    image_ids = list(dataset.image_ids)[: args.limit]
    heading = f"{args.weights} on {args.data}"
    if len(image_ids) < len(dataset.image_ids):
        first = f"the first {len(image_ids)} of {len(dataset.image_ids)} images"
        heading += f", {first}"
        log.info("Measured are %s.", first)

    def detect(image):
        return model.detect([image], masks="full" if args.pictures else "rle")[0]

    def draw(image_id, image, result):
        _draw_beside_truth(dataset, image_id, image, result, shown_from, out)

    stopped = None
    try:
        evaluation = evaluate.evaluate_dataset(
            detect,
            dataset,
            image_ids,
            min_confidence=args.min_confidence,
            on_image=draw if args.pictures else None,
        )
    except evaluate.EvaluationInterrupted as interrupted:
        stopped = interrupted
        log.warning("Interrupted: the figures of the images measured until now follow.")
        evaluation = stopped.figures()
    say(evaluation.table())
    _write_json(
        {"data": args.data, "weights": args.weights, **evaluation.to_dict()}, out / "metrics.json"
    )
    files = report.write(evaluation, out, heading)
    drawn = (
        f" and {evaluation.images} pictures (objects from score {shown_from:g} on: --config DETECTION_MIN_CONFIDENCE)"
        if args.pictures
        else ""
    )
    say(f"metrics.json, {', '.join(file.name for file in files)}{drawn} in {out.resolve()}")
    if stopped is not None:
        raise stopped
    return _failures_of(evaluation, len(image_ids))


def _failures_of(evaluation, images: int) -> int:
    """The exit code, after saying how many images of an evaluation could not be read."""
    if not evaluation.failed:
        return OK
    return _tell_of_failures(images, [entry["image"] for entry in evaluation.failed])


def _class_names_of(weight_file: str) -> list[str] | None:
    """The class names that a weight file carries, background first, as datasets name them; else None."""
    from ..weights import weight_files as weights

    check_weights(weight_file)
    names = (weights.read_metadata(weight_file) or {}).get("class_names")
    return [clean_name(name) for name in names] if names else None


def _evaluate_proposals(model, dataset, args, out: Path) -> int:
    """`mrcnn evaluate` for weights of the region proposal network alone: its recall."""
    from ..evaluation import evaluate

    if args.pictures:
        log.warning(
            "--pictures: proposals have no classes, and there are too many to draw: no pictures."
        )
    recall = evaluate.proposal_recall(
        lambda image: model.detect([image])[0], dataset, limit=args.limit
    )
    say(recall.table())
    _write_json(
        {"data": args.data, "weights": args.weights, **recall.to_dict()}, out / "metrics.json"
    )
    say(f"metrics.json in {out.resolve()}")
    return _failures_of(recall, recall.images + len(recall.failed))


def _draw_beside_truth(
    dataset, image_id: int, image, result: dict, shown_from: float, out: Path
) -> None:
    from ..drawing import pictures as visualize
    from ..files.file_names import short_name

    info = dataset.image_info[image_id]
    name = Path(info["path"]).stem if info["path"] else info["source"]
    picture = visualize.draw_beside_truth(dataset, image_id, image, result, shown_from)
    path = free_picture(out, short_name(f"{image_id:04d}_{name}", ""))
    save_picture(picture, path, marked=True)


def run_doctor(args) -> int:
    """`mrcnn doctor`."""
    from . import doctor

    with hushed():
        findings = doctor.examine()
    say(doctor.report(findings))
    return FAILED if any(finding.broken for finding in findings) else OK

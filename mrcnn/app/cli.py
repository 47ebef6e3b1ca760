"""The command `mrcnn` and its options: check, split, train, detect, evaluate, serve and others.

Each command runs in a module of its own, imported when the command runs, so that `--help` and
typing errors answer immediately. Results go to stdout, progress and warnings to stderr.
Exit codes: 0 done; 1 an error in data, weights or the installation; 2 a wrong call; 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable

from .. import __version__
from . import arguments
from .cli_support import (
    FAILED,
    INTERRUPTED,
    OK,
    USAGE,
    exit_code,
    hold_stderr,
    load_tensorflow,
    make_folder,
    read_config,
    say,
    validated,
    with_network,
)

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "build_parser", "main"]

# Copies of the names in config.py, data/augment.py and formats/: those import NumPy or OpenCV.
NETWORKS = ("mask_rcnn", "retinanet", "fcos")
AUGMENTATIONS = (
    "flip",
    "fliplr",
    "rotate90",
    "rotate",
    "scale",
    "jitter",
    "color",
    "hue",
    "blur",
    "noise",
    "copy_paste",
)
AUGMENTATION_PRESETS = ("none", "standard", "strong", "microscopy", "aerial")
EXPORT_FORMATS = ("saved_model", "onnx", "openvino", "litert")
PRECISIONS = ("float32", "float16", "int8")
RUNTIMES = ("tensorflow", "onnxruntime", "openvino", "litert")
ROW_FORMATS = ("jsonl", "parquet")
FORMATS = (
    "coco",
    "coco_polygons",
    "labelme",
    "via",
    "cvat",
    "labelstudio",
    "geojson",
    "csv",
    "yolo",
    "png",
)

DATA = (
    "the word shapes (generated images), a COCO instances file, a VGG Image Annotator file, "
    "labelme files, a Pascal VOC folder or one of its lists (ImageSets/Segmentation/train.txt), "
    "VOC's XML files next to their images, YOLO's data.yaml or images/ and labels/, CVAT's "
    "annotations.xml, Label Studio's JSON, a folder of images/ and masks/ with one image of "
    "instance ids per image, or a folder of <id>/images/*.png and <id>/masks/*.png; a folder that "
    "contains such a file also works"
)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    argv: the words after `mrcnn`; default: those of the command line.

    Raises: SystemExit(2) for a word that the parser does not know.
    """
    args = build_parser().parse_args(argv)
    help_hint = f" See mrcnn {args.command} --help."
    return exit_code(lambda: args.run(args), "mrcnn", args.debug, help_hint)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; `args.run(args)` runs the chosen one."""
    parser = arguments.Parser(
        prog="mrcnn",
        description="Mask R-CNN: find objects in images, with a box, a class and a mask for each.",
        epilog="New here? `mrcnn doctor` checks the installation, `mrcnn demo` shows everything on "
        "generated images. `mrcnn COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"mrcnn {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    parser.set_defaults(run=lambda args: _show_help(parser))
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for add in (
        _add_demo,
        _add_check,
        _add_split_command,
        _add_train,
        _add_detect,
        _add_detect_many,
        _add_evaluate,
        _add_export,
        _add_benchmark,
        _add_serve,
        _add_released_weights,
        _add_doctor,
    ):
        add(commands)
    return parser


def _show_help(parser: argparse.ArgumentParser) -> int:
    """Answer `mrcnn` without a command."""
    parser.print_help(sys.stderr)
    return USAGE


def _runner(module: str) -> Callable:
    """A function that imports a module of this folder and calls its `run`."""
    return lambda args: importlib.import_module(f".{module}", __package__).run(args)


def _add_command(
    commands, name: str, run: Callable, summary: str, details: str, example: str = ""
) -> argparse.ArgumentParser:
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
        help="settings of mrcnn.config.Config: NAME=VALUE, a .json file of them, or a .py file "
        "that "
        f"defines one Config subclass; later ones win. Default: {default}",
    )


def _add_network(parser) -> None:
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        help="the network, with the settings of its preset, Config.<network>(); --config changes "
        "them. Default: mask_rcnn, or the network of --config",
    )


def _add_data(parser, help_text: str = DATA) -> None:
    parser.add_argument("data", metavar="DATA", type=arguments.path, help=help_text)
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
        "--class-name",
        metavar="NAME",
        type=arguments.class_name,
        help="the class of every object of data that names none: VIA's regions without attributes, "
        "mask files. Default: object",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse data with an unusable entry. Default: leave such entries out, with a warning",
    )


def _add_demo(commands) -> None:
    parser = _add_command(
        commands,
        "demo",
        run_demo,
        "see what the models in this package find, then train on generated images and evaluate",
        "Writes what the models in this package find in example images to model_NAME.png. Then "
        "draws squares, circles and triangles, trains a small Mask R-CNN on them from random "
        "weights and evaluates it on images that it has not seen. Downloads nothing.",
        "mrcnn demo --out my_demo",
    )
    parser.add_argument(
        "--out", metavar="DIR", default="mrcnn_demo", help="folder for the results (%(default)s)"
    )
    parser.add_argument(
        "--seed",
        type=arguments.seed,
        default=0,
        help="seed of weights, data and sampling (%(default)s)",
    )
    parser.add_argument(
        "--short", action="store_true", help="a few steps only, to see that everything works"
    )
    _add_network(parser)
    _add_config(parser, "those of mrcnn.app.demo.DemoConfig")


def _add_check(commands) -> None:
    parser = _add_command(
        commands,
        "check",
        _runner("check_command"),
        "find errors in your images and annotations before you train on them",
        "Reads every image and mask, and names images that cannot be read, masks that do not fit, "
        "and objects that are empty, annotated twice or too small after resizing. Counts the "
        "objects of each class, and suggests RPN_ANCHOR_SCALES if the anchors do not fit their "
        "sizes. Exit code 1 if something would spoil the training, otherwise 0, with or without "
        "warnings.",
        "mrcnn check fruit/train --out checked",
    )
    _add_data(
        parser, f"{DATA}; or a folder with such folders train and val, which are both checked"
    )
    _add_network(parser)
    _add_config(
        parser,
        "Config's own, with the classes taken from DATA; give the settings you will train with",
    )
    parser.add_argument(
        "--limit", type=arguments.at_least_1, metavar="N", help="the first N images only"
    )
    parser.add_argument(
        "--no-pixels",
        action="store_true",
        help="check the annotations only: faster, and without the images",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder for check.json, with every finding, and contact_sheet.png, twelve images with "
        "their annotations drawn on. Default: only print",
    )


def _add_split_command(commands) -> None:
    parser = _add_command(
        commands,
        "split",
        _runner("split_command"),
        "divide your images into those to train on and those to validate on",
        "Writes split.json, which --split of train and evaluate takes, and train.txt and val.txt, "
        "lists of image files. COCO and VIA also get an annotation file for each part, YOLO a "
        "data.yaml, VOC the lists ImageSets/Main. Images and annotations stay where they are.",
        "mrcnn split fruit --out fruit_split",
    )
    _add_data(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the files")
    parser.add_argument(
        "--share",
        type=arguments.inner_share,
        default=0.8,
        help="share of the images to train on (%(default)s)",
    )
    _add_split_draw(parser)


def _add_train(commands) -> None:
    parser = _add_command(
        commands,
        "train",
        _runner("train_command"),
        "train on your images",
        "Writes a folder in --logs with a weight file per epoch, results.csv, curves, images, "
        "report.html and TensorBoard's files. With validation data it measures AP after each "
        "epoch, keeps the best weights in best.h5, and stops if AP does not rise for 15 epochs; "
        "--config VALIDATION_AP_IMAGES=None EARLY_STOPPING_PATIENCE=None RUN_REPORT=False turns "
        "these off. The same command with --weights last resumes after the last complete epoch; "
        "Ctrl-C also saves the current weights in interrupted.h5, from which a new run can start.",
        "mrcnn train fruit/train --val fruit/val --weights maskrcnn_resnet50_fpn_v2_coco "
        "--layers heads --epochs 10",
    )
    _add_data(parser, f"{DATA}; or a folder with such folders train and val")
    parser.add_argument(
        "--val", metavar="DATA", type=arguments.path, help="validation data, in the same formats"
    )
    _add_network(parser)
    _add_config(parser, "Config's own, with name, classes and steps per epoch taken from DATA")
    parser.add_argument(
        "--weights",
        metavar="NAME|imagenet|last|FILE",
        help="initial weights: a name that `mrcnn weights` lists (downloaded, unless it is a model "
        "of this package), for example maskrcnn_resnet50_fpn_v2_coco, or coco for matterport's: "
        "its network, with new class heads; imagenet: ImageNet weights of the backbone "
        "(downloaded, but those of efficientnet_lite2 are part of this package); last: the newest "
        "checkpoint in --logs, to resume from; or a weight file, whose heads are left out if the "
        "classes differ. Default: "
        "random weights, or without a GPU, unless another option or --config names a backbone, "
        "the network of PRESET=lite, from ImageNet weights",
    )
    parser.add_argument(
        "--keep-classes",
        action="store_true",
        help="keep what --weights NAME or FILE knows of classes that DATA has under the same name. "
        "Default: class heads start from random weights",
    )
    parser.add_argument(
        "--backbone-weights", metavar="FILE", help="ImageNet weights of the backbone, from a file"
    )
    parser.add_argument(
        "--layers",
        help="layers to train: heads, 5+, 4+, 3+, all, or a regex of layer names (default: all, or "
        "those of the run that --weights last resumes)",
    )
    _add_training_schedule(parser)
    _add_split(parser)
    _add_training_defaults(parser)
    parser.add_argument(
        "--logs", metavar="DIR", default="logs", help="folder for the runs (%(default)s)"
    )


def _add_split(parser) -> None:
    parser.add_argument(
        "--split",
        metavar="SHARE|FILE|off",
        type=arguments.split,
        help="without --val: divide DATA, this share of its images to train on, the others to "
        "validate on, so that every class is in both if possible; or as a file that `mrcnn split` "
        "or a training wrote. A resumed training keeps its split. Default: 0.8 if DATA has at "
        "least ten images and no folders train and val",
    )
    _add_split_draw(parser)
    parser.add_argument(
        "--overfit",
        type=arguments.at_least_1,
        metavar="N",
        help="train on N images with objects and validate on the same, without augmentation, to "
        "see whether annotations and settings can work at all: AP must come near 1",
    )


def _add_split_draw(parser) -> None:
    parser.add_argument(
        "--split-by",
        choices=("names", "images"),
        default="names",
        help="names: images whose names differ only in a number at the end (film1_0001.jpg, "
        "slide_tile3.png) or that are numbered in one folder are a group and stay together, if "
        "there are at least five groups; images: each is drawn by itself (%(default)s)",
    )
    parser.add_argument(
        "--split-seed", type=arguments.seed, default=0, help="seed of the split (%(default)s)"
    )


def _add_training_defaults(parser) -> None:
    parser.add_argument(
        "--augment",
        metavar="NAME",
        nargs="+",
        choices=(*AUGMENTATION_PRESETS, *AUGMENTATIONS),
        help="random augmentation of the training images: a preset, single ones, or both, in this "
        f"order. Presets: {', '.join(AUGMENTATION_PRESETS)}; single: {', '.join(AUGMENTATIONS)}. "
        "Default: standard (mirrored, zoomed, other colors). augmentation.png in the run's folder "
        "shows what they do",
    )
    parser.add_argument(
        "--auto",
        action=argparse.BooleanOptionalAction,
        help="choose IMAGE_MIN_DIM, IMAGE_MAX_DIM and IMAGES_PER_GPU, unless --config names them, "
        "by the sizes of the images and the memory at hand (default: on if the command chooses "
        "the backbone because there is no GPU)",
    )
    parser.add_argument(
        "--fit-anchors",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="set RPN_ANCHOR_SCALES that fit the objects of DATA, if those of the config fit them "
        "badly and no weights of a whole network are loaded (default: on)",
    )


def _add_training_schedule(parser) -> None:
    parser.add_argument(
        "--epochs",
        type=arguments.at_least_1,
        help="the epoch to reach, counted from the first. Default: 10, or more if these have fewer "
        "than 1,000 steps, or those of the run that --weights last resumes",
    )
    parser.add_argument(
        "--learning-rate",
        type=arguments.non_negative,
        metavar="RATE",
        help="default: the config's LEARNING_RATE",
    )
    parser.add_argument(
        "--seed",
        type=arguments.seed,
        help="the same seed gives the same initial weights and batches (the config's SEED)",
    )
    parser.add_argument(
        "--gpus",
        type=arguments.at_least_1,
        metavar="N",
        help="spread each batch over N GPUs, IMAGES_PER_GPU on each (the config's GPU_COUNT); with "
        "several hosts in TF_CONFIG the GPUs of all hosts",
    )


def _add_detect(commands) -> None:
    parser = _add_command(
        commands,
        "detect",
        _runner("detect_command"),
        "find objects in images",
        "Writes an image with the detections for each input image, and detections.json with every "
        "object: class, score, box (y1, x1, y2, x2 in pixels) and, if the network has masks, mask "
        "(COCO's run-length code). Of a video it writes a drawn copy, and a .jsonl file with the "
        "objects of each frame in a line. Images that cannot be read are named and skipped.",
        "mrcnn detect image.jpg holiday/ --weights mask_rcnn_fruit_0040.h5 --out found",
    )
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        type=arguments.path,
        help="image files or folders of them, video files (.mp4, .avi, .mov, .mkv, .webm ...)",
    )
    _add_model(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the results")
    _add_config(parser, "the config in the weight file")
    parser.add_argument(
        "--min-confidence",
        type=arguments.share,
        metavar="SCORE",
        help="keep objects from this score on, 0 to 1 (the config's)",
    )
    _add_tta(parser)
    parser.add_argument(
        "--track",
        action="store_true",
        help="give the objects in a video ids that stay the same over its frames, and colors by id "
        "(ByteTrack, Zhang 2022). Objects of lower scores than --min-confidence continue tracks. "
        "Needs the extra [video]",
    )
    parser.add_argument(
        "--heat-map",
        action="store_true",
        help="also write an image IMAGE_heat_map.png that shows where the network suspects objects "
        "of any kind: the scores on each level of its pyramid, from dark (low) to yellow (high)",
    )
    _add_tiles(parser)
    parser.add_argument(
        "--format",
        dest="formats",
        metavar="NAME",
        nargs="+",
        choices=FORMATS,
        default=[],
        help="also write the objects for other tools: coco (coco.json), coco_polygons (the same "
        "for tools that read no run-length codes), labelme (one file per image in labelme/), via "
        "(via.json), cvat (cvat/: annotations.xml, images), labelstudio (labelstudio/: tasks with "
        "predictions, images), geojson (detections.geojson), csv (detections.csv, and in "
        "counts.csv the number of objects in each image), yolo (yolo/, a data set: data.yaml, "
        "images, labels), png (png/: images, and in masks an image of instance ids per image). "
        "Default: none",
    )


def _add_tiles(parser) -> None:
    parser.add_argument(
        "--tile",
        type=arguments.at_least_1,
        metavar="N",
        nargs="?",
        const=0,  # detect_command.WHOLE_NETWORK
        help="detect images that are larger than N x N pixels in tiles of this size, at full "
        "resolution: for small objects in large images (microscope, satellite). An object in "
        "several tiles is found once. Without N: the size of the network's input",
    )
    parser.add_argument(
        "--overlap",
        type=arguments.at_least_1,
        metavar="M",
        help="pixels that neighbouring tiles share, more than the size of your objects. Default: a "
        "quarter of a tile",
    )


def _add_detect_many(commands) -> None:
    parser = _add_command(
        commands,
        "detect-many",
        _runner("detect_many_command"),
        "find objects in very many images, by several processes or machines",
        "Writes shards, files of one row per image: width, height and detections as in "
        "detections.json, or the reason why there are none. Whatever is killed, the same command "
        "with --resume finishes the job, and each image has one row.",
        "mrcnn detect-many images/ --weights mask_rcnn_fruit_0040.h5 --out found --workers 4",
    )
    parser.add_argument(
        "images",
        metavar="INPUT",
        nargs="+",
        type=arguments.path,
        help="image files, folders (with the folders in them), patterns in quotes, lists .txt with "
        "a path a line, parquet files with a column path; or addresses such as s3://bucket/folder",
    )
    _add_weights(parser)
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the job")
    _add_config(parser, "the config in the weight file")
    parser.add_argument(
        "--min-confidence",
        type=arguments.share,
        metavar="SCORE",
        help="keep objects from this score on, 0 to 1 (the config's)",
    )
    _add_tta(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="finish the job in --out; without one there, start it",
    )
    _add_workers(
        parser,
        "one for each GPU, or one; with --address without GPUs one for each machine",
    )
    parser.add_argument(
        "--batch",
        type=arguments.at_least_1,
        metavar="N",
        default=1,
        help="images that a network sees together; more than one is faster on a GPU (%(default)s)",
    )
    parser.add_argument(
        "--block",
        type=arguments.at_least_1,
        metavar="N",
        help="images in a shard, which one worker detects in one go. Default: 100, or fewer so "
        "that each worker has at least four",
    )
    parser.add_argument(
        "--format",
        choices=ROW_FORMATS,
        default="jsonl",
        help="of the shards: JSON lines, or parquet, which needs pyarrow (%(default)s)",
    )


def _add_workers(parser, default: str) -> None:
    parser.add_argument(
        "--workers",
        type=arguments.at_least_1,
        metavar="N",
        help=f"processes that detect, each with its own model. Default: {default}",
    )
    parser.add_argument(
        "--ray",
        action="store_true",
        help="run the workers as actors of Ray Data on this machine (extra [ray])",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="run the workers on this Ray cluster: auto, or HOST:PORT",
    )


def _add_weights(parser) -> None:
    parser.add_argument(
        "--weights",
        metavar="FILE|NAME",
        required=True,
        help="a weight file, such as training writes, or a name that `mrcnn weights` lists: a "
        "model of this package, or released weights (downloaded)",
    )


def _add_model(parser) -> None:
    parser.add_argument(
        "--weights",
        metavar="FILE|NAME",
        required=True,
        help="a weight file, such as training writes, a name that `mrcnn weights` lists "
        "(downloaded), or a file or folder of `mrcnn export`",
    )
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        help="what computes the network; a weight file is exported first for another than "
        "tensorflow. Default: the runtime of the exported file, tensorflow for a weight file",
    )


def _add_tta(parser) -> None:
    parser.add_argument(
        "--tta",
        metavar="VIEW",
        nargs="+",
        type=arguments.view,
        help="test-time augmentation: detect each image also flipped (the word flip) and at other "
        "sizes (factors such as 0.8 1.2), and merge what is found. Each view takes the time of a "
        "detection; with flip every size has two. Default: the config's TTA, usually none",
    )


def _add_released_weights(commands) -> None:
    parser = _add_command(
        commands,
        "weights",
        _runner("weights_command"),
        "list the models of this package and released weights, and download these",
        "Without a name, lists the weights that --weights of the other commands takes by name: "
        "classes, COCO's AP for boxes and masks, size, network and licence, and the place of the "
        "file. With names, prints the cards of this package's models, downloads the files of "
        "released weights, and prints their paths.",
        "mrcnn weights maskrcnn_resnet50_fpn_v2_coco",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="models and weights. Default: only list them"
    )


def _add_evaluate(commands) -> None:
    parser = _add_command(
        commands,
        "evaluate",
        _runner("evaluate_command"),
        "evaluate a weight file on annotated images",
        "Prints COCO's twelve metrics for boxes and for masks, the AP of each class, VOC's AP if "
        "the data is VOC's, Kaggle's score of 2018 for masks, and the confidence to use. Writes "
        "them to metrics.json and record_mAP.txt, with precision-recall curves and the confusion "
        "matrix as images. Ctrl-C writes the metrics of the images evaluated until then, marked "
        "PARTIAL. Weights trained with RPN_ONLY give their recall at 100 and 1,000 proposals, in "
        "metrics.json only.",
        "mrcnn evaluate fruit/val --weights mask_rcnn_fruit_0040.h5 --out measured --pictures",
    )
    _add_data(parser)
    _add_model(parser)
    parser.add_argument(
        "--split",
        metavar="FILE",
        help="only the images of DATA that this file sets aside for validation: split.json of the "
        "training, or of `mrcnn split`",
    )
    parser.add_argument(
        "--limit", type=arguments.at_least_1, metavar="N", help="the first N images only"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="mrcnn_evaluation",
        help="folder for the results (%(default)s)",
    )
    parser.add_argument(
        "--pictures",
        action="store_true",
        help="also draw ground truth and detections of every image, side by side",
    )
    _add_config(parser, "the config in the weight file")
    parser.add_argument(
        "--min-confidence",
        type=arguments.share,
        metavar="SCORE",
        default=0.05,
        help="count detections from this score on, 0 to 1 (%(default)s)",
    )
    _add_tta(parser)
    _add_workers(parser, "detect in this process, without workers")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="with workers: images that an interrupted evaluation in --out has detected are not "
        "detected again",
    )


def _add_export(commands) -> None:
    parser = _add_command(
        commands,
        "export",
        _runner("export_command"),
        "write a network as a file that runs without this package",
        "The file takes uint8 images that are not resized, and gives boxes in their pixels, class "
        "ids, scores, masks of 28 x 28 and counts. It is run at once on sample images in a process "
        "of its own and compared with detect; a file that finds something else is not kept. Class "
        "names and settings are in its metadata, and in a .json file next to it. All formats but "
        "saved_model need the extra [export].",
        "mrcnn export mask_rcnn_fruit_0040.h5 --format onnx --images fruit/val",
    )
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="a weight file, or a name that `mrcnn weights` lists"
    )
    parser.add_argument(
        "--format", required=True, choices=EXPORT_FORMATS, help="the runtime that is to read it"
    )
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="the file, or of saved_model and openvino the folder. Default: the name of the weight "
        "file, in the current folder",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the kernels; float16 halves the file, int8 computes convolutions in integers "
        "(%(default)s)",
    )
    parser.add_argument(
        "--calibrate",
        metavar="DATA",
        type=arguments.path,
        help="annotated images, as for `mrcnn evaluate`: int8 measures the ranges of values on "
        "them, and the file may lose at most 0.01 of average precision on the first 50",
    )
    _add_export_shape(parser, "those of --calibrate, or generated shapes")
    _add_config(parser, "the config in the weight file")
    parser.add_argument(
        "--min-confidence",
        type=arguments.share,
        metavar="SCORE",
        help="the file returns objects from this score on, 0 to 1 (the config's)",
    )


def _add_benchmark(commands) -> None:
    parser = _add_command(
        commands,
        "benchmark",
        _runner("benchmark_command"),
        "compare the runtimes that are installed: time, memory, start",
        "Measures detect, and exports the network for each runtime into a temporary folder and "
        "measures that file in a process of its own: milliseconds per image (the best of three), "
        "images per second, seconds until it can run, the most memory. Every file is also compared "
        "with detect, as `mrcnn export` does. WEIGHTS may also be an exported file.",
        "mrcnn benchmark mask_rcnn_fruit_0040.h5 --images fruit/val --out measured",
    )
    parser.add_argument(
        "weights",
        metavar="WEIGHTS",
        help="a weight file, a name that `mrcnn weights` lists, or an exported file",
    )
    parser.add_argument(
        "--runtimes",
        nargs="+",
        choices=RUNTIMES,
        metavar="NAME",
        help=f"of {', '.join(RUNTIMES)}. Default: those that are installed",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16"),
        default="float32",
        help="of the exported files (%(default)s)",
    )
    _add_export_shape(parser, "generated shapes")
    parser.add_argument(
        "--out", metavar="DIR", help="folder for benchmark.json. Default: only print"
    )
    _add_config(parser, "the config in the weight file")


def _add_export_shape(parser, default_images: str) -> None:
    parser.add_argument(
        "--size",
        type=arguments.at_least_1,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the images that the file accepts. Default: any size, which networks of resize "
        "mode square can",
    )
    parser.add_argument(
        "--batch",
        metavar="N|dynamic",
        type=arguments.batch,
        default=1,
        help="images that the file accepts at once; dynamic: any number (%(default)s)",
    )
    parser.add_argument(
        "--images",
        metavar="IMAGE",
        type=arguments.path,
        nargs="+",
        default=[],
        help="images, or folders of them, on which the file is compared with detect, resized to "
        f"--size. Default: {default_images}",
    )


def _add_serve(commands) -> None:
    parser = _add_command(
        commands,
        "serve",
        _runner("serve_command"),
        "serve models over HTTP, with a page for the browser",
        "Answers POST /v1/detect and KServe's V2 protocol; /docs describes them. The page at / "
        "takes images, draws what is found and downloads it. Several requests are detected "
        "together; a server that is full answers 503. A weight file that is replaced is loaded. "
        "SIGTERM or Ctrl-C answers what was accepted, then stops. Needs the extra [serve].",
        "mrcnn serve mask_rcnn_fruit_0040.h5 --port 8000",
    )
    parser.add_argument(
        "weights",
        metavar="[NAME=]WEIGHTS",
        nargs="+",
        type=str,
        help="a weight file, the folder of a training (its last checkpoint), or a name that `mrcnn "
        "weights` lists. NAME: of the model in requests; default: the file's",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (%(default)s, for this machine only)",
    )
    parser.add_argument(
        "--port", type=arguments.port, default=8000, help="0 for any free one (%(default)s)"
    )
    parser.add_argument(
        "--token",
        help="what requests must send as Authorization: Bearer TOKEN. Other users of this machine "
        "see the words of a command, so prefer MRCNN_TOKEN in the environment. Required unless "
        "--host is this machine only",
    )
    _add_config(parser, "the config in the weight file")
    parser.add_argument(
        "--min-confidence",
        type=arguments.share,
        metavar="SCORE",
        default=0.05,
        help="lowest score that a request may ask for, 0 to 1 (%(default)s)",
    )
    _add_serve_limits(parser)


def _add_serve_limits(parser) -> None:
    parser.add_argument(
        "--batch",
        type=arguments.at_least_1,
        metavar="N",
        default=8,
        help="images that the network sees together, and the most of a request (%(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=arguments.at_least_1,
        metavar="N",
        default=64,
        help="images that may wait; further requests are answered with 503 (%(default)s)",
    )
    parser.add_argument(
        "--max-megabytes",
        type=arguments.positive,
        metavar="N",
        default=20,
        help="size of a request (%(default)s)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=arguments.positive,
        metavar="N",
        default=50,
        help="size of an image (%(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=arguments.positive,
        metavar="SECONDS",
        default=60,
        help="in which an image must be detected (%(default)s)",
    )


def _add_doctor(commands) -> None:
    _add_command(
        commands,
        "doctor",
        run_doctor,
        "check the installation",
        "Shows versions and devices, and the command that repairs whatever is missing or broken.",
    )


def run_demo(args) -> int:
    """Run `mrcnn demo`."""
    make_folder(args.out, "--out")
    load_tensorflow()
    from . import demo

    items = with_network(args.config, args.network)
    config = validated(read_config(items, base=demo.DemoConfig()))
    metrics = demo.run(args.out, args.seed, short=args.short, config=config)
    for name, value in metrics.items():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        say(f"{name:16} {text}")
    return OK


def run_doctor(args) -> int:
    """Run `mrcnn doctor`."""
    from . import doctor

    with hold_stderr():
        findings = doctor.examine()
    say(doctor.report(findings))
    return FAILED if any(finding.broken for finding in findings) else OK

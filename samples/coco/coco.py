"""COCO: train on it, and evaluate with its twelve metrics.

    python samples/coco/coco.py train --dataset DIR --year 2017 --model imagenet
    python samples/coco/coco.py evaluate --dataset DIR --year 2017 --model coco --limit 500

DIR has the layout of COCO's unpacked archives: `annotations/instances_<subset><year>.json`,
`<subset><year>/*.jpg`. `--download` downloads and unpacks missing ones (20 GB).
"""

import argparse
import logging
import zipfile
from pathlib import Path

from pycocotools.coco import COCO

from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import evaluate
from mrcnn.files.download import download
from mrcnn.formats import coco as coco_format

log = logging.getLogger("mrcnn")

DEFAULT_DATASET_YEAR = "2014"
COCO_URL = "http://images.cocodataset.org"
# MD5 of the archives; COCO publishes no other checksum.
MD5 = {
    "annotations_trainval2014.zip": "0a379cfc70b0e71301e0f377548639bd",
    "train2014.zip": "0da8c0bd3d6becc4dcb32757491aca88",
    "val2014.zip": "a3d79f5ed8d289b7a7554ce06a5782b3",
    "annotations_trainval2017.zip": "f4bbac642086de4f52a3fdda2de5fa2c",
    "train2017.zip": "cced6f7f71b7629ddf16f17bbcfab6b2",
    "val2017.zip": "442b8da7639aecaf257c1dceb8ba8c80",
}
# The paper's split of the 2014 validation images: all except 5,000, and those 5,000.
SUBSETS_OF_2014 = {"valminusminival": "val", "minival": "val"}


class CocoConfig(Config):
    """ResNet-101 at 1024 px, for a GPU of 12 GB; other sizes: `--config NAME=VALUE`."""

    NAME = "coco"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 80


class CocoDataset(coco_format.CocoDataset):
    """COCO, loaded as in matterport's sample: `load_coco` once per subset, then `prepare`."""

    def __init__(self, class_names=None):
        """class_names: all classes, background first; default: the categories, sorted by id."""
        Dataset.__init__(self)
        if class_names is not None:
            self._wanted = class_names[1:]

    def load_coco(
        self,
        dataset_dir,
        subset,
        year=DEFAULT_DATASET_YEAR,
        class_ids=None,
        class_map=None,
        return_coco=False,
        auto_download=False,
    ):
        """Add a subset ("train", "val"; in 2014 also "minival" and "valminusminival") of a year.

        class_ids: category ids to keep.
        class_map: unused. return_coco: return the `pycocotools.coco.COCO` of the file.
        auto_download: download missing archives first.
        """
        file = Path(dataset_dir, "annotations", f"instances_{subset}{year}.json")
        images = Path(dataset_dir, f"{SUBSETS_OF_2014.get(subset, subset)}{year}")
        if auto_download:
            self.auto_download(dataset_dir, subset, year)
        if not file.is_file():
            advice = "--download"
            if subset in SUBSETS_OF_2014:
                advice = "--year 2017, because COCO's archives lack this file"
            raise FileNotFoundError(
                f"The dataset must have the annotation file of the subset. Received: {file}, which "
                f"does not exist. Try its full path, or {advice}."
            )
        self.add_file(file, images, class_ids)
        return COCO(str(file)) if return_coco else None

    def auto_download(self, dataset_dir, subset, year):
        """Download and unpack the archives of images and annotations if they are missing."""
        name = f"{SUBSETS_OF_2014.get(subset, subset)}{year}"
        root = Path(dataset_dir)
        fetch(
            f"{COCO_URL}/annotations/annotations_trainval{year}.zip",
            root,
            f"annotations/instances_{name}.json",
        )
        fetch(f"{COCO_URL}/zips/{name}.zip", root, name)


def fetch(url, folder, content):
    """Download an archive and unpack it, unless `folder/content` exists."""
    if (folder / content).exists():
        return
    name = url.rsplit("/", 1)[-1]
    archive = Path(download(url, folder / name, MD5.get(name)))
    log.info("Unpacking %s ...", archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    archive.unlink()


def load(dataset_dir, subsets, year, download=False, class_names=None):
    """Return a prepared dataset of one or more subsets, with the classes of `class_names`."""
    dataset = CocoDataset(class_names)
    for subset in subsets:
        dataset.load_coco(dataset_dir, subset, year=year, auto_download=download)
    dataset.prepare()
    return dataset


def train(model, training, validation, epochs=(40, 120, 160)):
    """Train by matterport's schedule: heads, then stage 4 and up, then all at a tenth of the rate.

    epochs: the last epoch of each of the three stages.
    """
    rate = model.config.LEARNING_RATE
    changes = augment.compose(["fliplr"])
    stages = (("heads", rate), ("4+", rate), ("all", rate * 0.1))
    for epoch, (layers, stage_rate) in zip(epochs, stages, strict=True):
        model.train(training, validation, stage_rate, epoch, layers, augmentation=changes)


def evaluate_coco(model, dataset, limit=None, image_ids=None):
    """Print and return COCO's metrics on a dataset, or on its first `limit` images."""
    evaluation = evaluate.coco(model, dataset, image_ids=image_ids, limit=limit)
    print(evaluation.table())
    return evaluation


def yes_or_no(word):
    """Parse the value of `--download=<True|False>`."""
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be True or False. Received: {word}")
    return word.lower() == "true"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["train", "evaluate"], help="train; or print COCO's metrics"
    )
    parser.add_argument("--dataset", metavar="DIR", required=True, help="folder of COCO")
    parser.add_argument("--year", default=DEFAULT_DATASET_YEAR, help="2014 or 2017 (default: 2014)")
    parser.add_argument(
        "--limit", type=int, metavar="N", default=500, help="images to evaluate on (default: 500)"
    )
    parser.add_argument(
        "--download", nargs="?", type=yes_or_no, const=True, default=False, metavar="True|False",
        help="download missing archives of COCO (20 GB)",
    )  # fmt: skip
    cli_support.add_training_options(parser, (40, 120, 160), ("HEADS", "FROM_4", "ALL"), "--model")
    args = parser.parse_args()
    config = cli_support.read_config(args.config, CocoConfig())
    held_out = "minival" if args.year == "2014" else "val"

    if args.command == "train":
        subsets = ["train", "valminusminival"] if args.year == "2014" else ["train"]
        training = load(args.dataset, subsets, args.year, args.download)
        validation = load(args.dataset, [held_out], args.year, args.download)
        train(
            cli_support.load_for_training(config, args.logs, args.model),
            training,
            validation,
            args.epochs,
        )
        return
    dataset = load(args.dataset, [held_out], args.year, args.download)
    weight_file = cli_support.find_weights(args.model, config, args.logs)
    model, class_names = cli_support.load_for_use(weight_file, args.config, CocoConfig())
    if model.class_names and class_names != dataset.class_names:  # torchvision's 91, for example
        dataset = load(args.dataset, [held_out], args.year, class_names=class_names)
    evaluate_coco(model, dataset, args.limit)


if __name__ == "__main__":
    cli_support.run_script(main)

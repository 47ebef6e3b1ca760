"""Your own classes: copy this file, change the four lines marked with "yours", and train.

    python samples/custom/custom.py train --dataset DIR --weights coco
    python samples/custom/custom.py detect --weights last --images image.jpg more.jpg

DIR holds the folders `train` and `val`, each with images and either one VGG Image Annotator file
(`*.json`) or a labelme file (`<image>.json`) next to each image. Run `mrcnn check DIR/train` first.
"""

import argparse
from pathlib import Path

from mrcnn import visualize
from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.image import read_image
from mrcnn.evaluation import evaluate
from mrcnn.formats.open_dataset import open_dataset

CLASSES = ["apple", "banana", "orange"]  # yours: as spelled in the annotation files


class CustomConfig(Config):
    NAME = "fruit"  # yours: names the runs
    NUM_CLASSES = 1 + len(CLASSES)
    BACKBONE = "resnet101"  # of the COCO weights; from ImageNet also "resnet50"
    IMAGES_PER_GPU = 2
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 512  # yours: the smallest object needs about 16 px
    STEPS_PER_EPOCH = 100  # yours: about images / IMAGES_PER_GPU
    DETECTION_MIN_CONFIDENCE = 0.7


def load(folder):
    """A prepared dataset; class ids follow CLASSES even if a class is absent."""
    return open_dataset(folder, class_names=CLASSES)


def train(model, training, validation, epochs):
    """Train the new heads, then all layers at a tenth of the rate; then print the metrics."""
    rate, changes = model.config.LEARNING_RATE, augment.compose(["fliplr", "scale", "color"])
    model.train(training, validation, rate, epochs[0], layers="heads", augmentation=changes)
    model.train(training, validation, rate / 10, epochs[1], layers="all", augmentation=changes)
    trained, _ = cli_support.load_for_use(model.find_last(), [])
    print(evaluate.coco(trained, validation).table())


def detect(model, class_names, images, out):
    """Draw the detections of each image into a file in the folder `out`."""
    for path in images:
        image = read_image(path)
        found = model.detect([image])[0]
        drawn = visualize.draw_instances(
            image, found["rois"], found["masks"], found["class_ids"], class_names, found["scores"]
        )
        cli_support.save_image(drawn, cli_support.free_image_path(out, Path(path).stem))
        cli_support.say(
            f"{path}: {', '.join(class_names[i] for i in found['class_ids']) or 'nothing'}"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["train", "detect"], help="train, or draw detections")
    parser.add_argument("--dataset", metavar="DIR", help="folder with train and val (for train)")
    parser.add_argument(
        "--images", nargs="+", metavar="FILE", default=[], help="images (for detect)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="found",
        help="folder of the drawn images (default: found)",
    )
    cli_support.add_training_options(parser, (20, 40), ("HEADS", "ALL"))
    args = parser.parse_args()
    if args.command == "train" and not args.dataset:
        parser.error("train needs --dataset")
    if args.command == "detect" and not args.images:
        parser.error("detect needs --images")
    config = cli_support.read_config(args.config, CustomConfig())
    if args.command == "train":
        training, validation = load(Path(args.dataset, "train")), load(Path(args.dataset, "val"))
        train(
            cli_support.load_for_training(config, args.logs, args.weights),
            training,
            validation,
            args.epochs,
        )
        return
    model, class_names = cli_support.load_for_use(
        cli_support.find_weights(args.weights, config, args.logs), args.config
    )
    detect(model, class_names, args.images, args.out)


if __name__ == "__main__":
    cli_support.run_script(main)

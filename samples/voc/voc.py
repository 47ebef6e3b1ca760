"""Pascal VOC 2007 or 2012: train on it, and evaluate with VOC's AP at IoU 0.5 and COCO's metrics.

    python samples/voc/voc.py train --dataset VOCdevkit/VOC2012 --weights coco
    python samples/voc/voc.py evaluate --dataset VOCdevkit/VOC2012 --weights last

The folder holds `Annotations`, `ImageSets`, `JPEGImages` and, for masks, `SegmentationObject`.
Without masks the boxes are learned as masks, which the reader says.
"""

import argparse

from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.evaluation import evaluate
from mrcnn.formats.voc import VOCDataset


class VOCConfig(Config):
    """For a GPU of 12 GB; VOC's images have at most 500 px, so 512 px are enough."""

    NAME = "voc"
    IMAGES_PER_GPU = 4
    NUM_CLASSES = 1 + 20
    BACKBONE = "resnet101"  # of the COCO weights; from ImageNet also "resnet50"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 512
    STEPS_PER_EPOCH = 350
    VALIDATION_STEPS = 20


def train(model, training, validation, epochs):
    """Train the heads, then all layers at a tenth of the rate."""
    rate, changes = model.config.LEARNING_RATE, augment.compose(["fliplr", "color"])
    model.train(training, validation, rate, epochs[0], layers="heads", augmentation=changes)
    model.train(training, validation, rate / 10, epochs[1], layers="all", augmentation=changes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["train", "evaluate"], help="train, or print VOC's and COCO's metrics"
    )
    parser.add_argument(
        "--dataset", metavar="DIR", required=True, help="folder of one year, e.g. VOCdevkit/VOC2012"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="images to evaluate on (default: all)"
    )
    cli_support.add_training_options(parser, (10, 20), ("HEADS", "ALL"))
    args = parser.parse_args()
    config = cli_support.read_config(args.config, VOCConfig())
    validation = VOCDataset(args.dataset, "val")
    if args.command == "train":
        training = VOCDataset(args.dataset, "train")
        train(
            cli_support.load_for_training(config, args.logs, args.weights),
            training,
            validation,
            args.epochs,
        )
        return
    weight_file = cli_support.find_weights(args.weights, config, args.logs)
    model, _ = cli_support.load_for_use(weight_file, args.config, VOCConfig())
    print(evaluate.coco(model, validation, limit=args.limit).table())


if __name__ == "__main__":
    cli_support.run_script(main)

"""Pascal VOC 2007 or 2012: train on it, and evaluate with VOC's AP at IoU 0.5 and COCO's figures.

    python samples/voc/voc.py train --dataset VOCdevkit/VOC2012 --weights coco
    python samples/voc/voc.py evaluate --dataset VOCdevkit/VOC2012 --weights last

The folder holds `Annotations`, `ImageSets`, `JPEGImages` and, for masks, `SegmentationObject`. Without masks the boxes
are learned as masks, which the reader says.
"""

import argparse

from mrcnn import augment, datasets, evaluate, session
from mrcnn.config import Config
from mrcnn.model import MaskRCNN


class VOCConfig(Config):
    """For a GPU of 12 GB; VOC's photos are at most 500 px, so the network sees them at 512."""

    NAME = "voc"
    IMAGES_PER_GPU = 4
    NUM_CLASSES = 1 + 20
    BACKBONE = "resnet50"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 512
    STEPS_PER_EPOCH = 350
    VALIDATION_STEPS = 20


def train(model, folder, epochs):
    """The heads, then everything at a tenth of the rate."""
    training, validation = (datasets.VOCDataset(folder, subset) for subset in ("train", "val"))
    rate, changes = model.config.LEARNING_RATE, augment.compose(["fliplr", "color"])
    model.train(training, validation, rate, epochs[0], layers="heads", augmentation=changes)
    model.train(training, validation, rate / 10, epochs[1], layers="all", augmentation=changes)


def main():
    parser = argparse.ArgumentParser(description="Mask R-CNN for Pascal VOC.")
    parser.add_argument("command", choices=["train", "evaluate"])
    parser.add_argument("--dataset", required=True, help="folder of one year, e.g. VOCdevkit/VOC2012")
    parser.add_argument("--weights", required=True, help="a weight file, 'coco', 'imagenet' or 'last'")
    parser.add_argument("--logs", default="logs", help="folder of the runs")
    parser.add_argument("--limit", type=int, help="images to evaluate on (default: all)")
    parser.add_argument("--config", nargs="+", default=[], metavar="NAME=VALUE", help="other settings, or a file")
    parser.add_argument("--epochs", nargs=2, type=int, default=(10, 20), help="to reach with the heads, with all")
    args = parser.parse_args()
    session.set_up_logging()
    config = session.read_config(args.config, VOCConfig())
    if args.command == "train":
        model = MaskRCNN("training", config, args.logs)
        session.load_start(model, args.weights)
        train(model, args.dataset, args.epochs)
        return
    model, _ = session.load_for_use(session.find_weights(args.weights, config, args.logs), args.config)
    print(evaluate.coco(model, datasets.VOCDataset(args.dataset, "val"), limit=args.limit))


if __name__ == "__main__":
    main()

"""Nuclei of the 2018 Data Science Bowl: train, and write detections as its submission file.

    python samples/nucleus/nucleus.py train --dataset DIR --subset train --weights imagenet
    python samples/nucleus/nucleus.py detect --dataset DIR --subset stage1_test --weights last

DIR has the subsets as folders (`stage1_train`, `stage1_test`, or any other) of
`<id>/images/*.png` and `<id>/masks/*.png`.
"""

import argparse
import csv
import datetime
import zlib
from pathlib import Path

import numpy as np

from mrcnn import visualize
from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.files.atomic import atomic_write
from mrcnn.formats import mask_images

RESULTS_DIR = Path("results", "nucleus")
VALIDATION_SHARE = 10  # one of this many images of stage1_train is held out for validation


class NucleusConfig(Config):
    """matterport's settings, for a GPU of 12 GB; those in `config.py` are for two CPU cores."""

    NAME = "nucleus"
    IMAGES_PER_GPU = 6
    NUM_CLASSES = 1 + 1
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 10
    DETECTION_MIN_CONFIDENCE = 0
    BACKBONE = "resnet50"
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 512
    IMAGE_MIN_SCALE = 2.0
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    POST_NMS_ROIS_TRAINING = 1000
    POST_NMS_ROIS_INFERENCE = 2000
    RPN_NMS_THRESHOLD = 0.9
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    TRAIN_ROIS_PER_IMAGE = 128
    MAX_GT_INSTANCES = 200
    DETECTION_MAX_INSTANCES = 400


class NucleusInferenceConfig(NucleusConfig):
    """Whole images, one at a time, padded to multiples of 64."""

    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.7


class NucleusDataset(mask_images.MaskFolderDataset):
    """Nuclei, loaded as in matterport's sample: `load_nucleus`, then `prepare`."""

    def __init__(self):
        Dataset.__init__(self)

    def load_nucleus(self, dataset_dir, subset):
        """Add the images of a subset.

        subset: a folder of dataset_dir. If `train` or `val` is not a folder, nine tenths or one
            tenth of `stage1_train`, chosen by the image's id.
        """
        folder = Path(dataset_dir, subset)
        if folder.is_dir() or subset not in ("train", "val"):
            super().__init__(folder, class_name="nucleus")
            return
        super().__init__(Path(dataset_dir, "stage1_train"), class_name="nucleus")
        chosen = []
        for info in self.image_info:
            held_out = zlib.crc32(info["id"].encode()) % VALIDATION_SHARE == 0
            if held_out == (subset == "val"):
                chosen.append(info)
        self.image_info = chosen


def load(dataset_dir, subset):
    """Return a prepared dataset of one subset."""
    dataset = NucleusDataset()
    dataset.load_nucleus(dataset_dir, subset)
    dataset.prepare()
    return dataset


def train(model, training, validation, epochs=(20, 40)):
    """Train the heads first, then the whole network."""
    changes = augment.compose(["flip", "rotate90", "color"])
    rate = model.config.LEARNING_RATE
    model.train(training, validation, rate, epochs[0], layers="heads", augmentation=changes)
    model.train(training, validation, rate, epochs[1], layers="all", augmentation=changes)


# --- Run-length encoding of the submission file -------------------------------------------------


def rle_encode(mask):
    """Encode a mask `[H, W]` as "start length start length ...".

    Pixels are counted from 1, column by column.
    """
    pixels = np.concatenate([[0], np.asarray(mask, np.uint8).T.ravel(), [0]])
    changes = np.flatnonzero(np.diff(pixels)) + 1
    changes[1::2] -= changes[::2]
    return " ".join(map(str, changes))


def rle_decode(rle, shape):
    """Decode the text of `rle_encode` to a bool mask `[H, W]`. shape: (H, W)."""
    numbers = np.array(rle.split(), int).reshape(-1, 2)
    mask = np.zeros(shape[0] * shape[1], bool)
    for start, length in numbers:
        mask[start - 1 : start - 1 + length] = True
    return mask.reshape(shape[1], shape[0]).T


def mask_to_rle(image_id, mask, scores):
    """Return the lines "image id,code" of one image's masks `[H, W, N]`.

    A pixel of several masks goes to the one with the highest score. An image without a nucleus
    has one line that ends after the comma.
    """
    free = np.ones(mask.shape[:2], bool)
    lines = []
    for i in np.argsort(-np.asarray(scores)):
        own = mask[:, :, i] & free
        free &= ~own
        if own.any():
            lines.append(f"{image_id},{rle_encode(own)}")
    return "\n".join(lines) or f"{image_id},"


def detect(model, dataset):
    """Detect in every image; write images and `submit.csv` into a new folder of RESULTS_DIR."""
    out = RESULTS_DIR / f"submit_{datetime.datetime.now():%Y%m%dT%H%M%S}"
    out.mkdir(parents=True)
    lines = ["ImageId,EncodedPixels"]
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        name = dataset.image_info[image_id]["id"]
        found = model.detect([image])[0]
        lines.append(mask_to_rle(name, found["masks"], found["scores"]))
        drawn = visualize.draw_instances(
            image,
            found["rois"],
            found["masks"],
            found["class_ids"],
            dataset.class_names,
            found["scores"],
        )
        cli_support.save_image(drawn, out / f"{name}.png")
    with atomic_write(out / "submit.csv") as part:
        Path(part).write_text("\n".join(lines) + "\n", encoding="utf-8")
    objects = sum(1 for row in csv.reader("\n".join(lines[1:]).splitlines()) if row[1])
    print(f"{objects} nuclei in {len(dataset.image_ids)} images: {out / 'submit.csv'}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["train", "detect"], help="train; or write images and submit.csv"
    )
    parser.add_argument("--dataset", metavar="DIR", required=True, help="folder of the subsets")
    parser.add_argument(
        "--subset", help="folder of images to train on (default: train), or to detect in"
    )
    cli_support.add_training_options(parser, (20, 40), ("HEADS", "ALL"))
    args = parser.parse_args()
    if args.command == "detect" and not args.subset:
        parser.error("detect needs --subset")
    if args.command == "train":
        config = cli_support.read_config(args.config, NucleusConfig())
        training, validation = load(args.dataset, args.subset or "train"), load(args.dataset, "val")
        train(
            cli_support.load_for_training(config, args.logs, args.weights),
            training,
            validation,
            args.epochs,
        )
        return
    config = cli_support.read_config(args.config, NucleusInferenceConfig())
    dataset = load(args.dataset, args.subset)
    weight_file = cli_support.find_weights(args.weights, config, args.logs)
    # The threshold of the training, 0.9, leaves too many proposals.
    fewer_proposals = f"RPN_NMS_THRESHOLD={NucleusInferenceConfig.RPN_NMS_THRESHOLD}"
    model, _ = cli_support.load_for_use(
        weight_file, [fewer_proposals, *args.config], NucleusInferenceConfig()
    )
    detect(model, dataset)


if __name__ == "__main__":
    cli_support.run_script(main)

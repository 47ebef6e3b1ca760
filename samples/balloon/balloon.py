"""Balloons: train on a VGG Image Annotator file; keep only balloons in color ("color splash").

    python samples/balloon/balloon.py train --dataset DIR --weights coco
    python samples/balloon/balloon.py splash --weights last --image balloons.jpg
    python samples/balloon/balloon.py splash --weights last --video party.mp4

DIR has the folders `train` and `val`, each with its images and `via_region_data.json`.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np

from mrcnn.app import cli_support, video
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.data.image import read_image
from mrcnn.formats import via as via_format


class BalloonConfig(Config):
    """matterport's settings, for a GPU of 12 GB; those in `config.py` are for two CPU cores."""

    NAME = "balloon"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 1
    STEPS_PER_EPOCH = 100
    DETECTION_MIN_CONFIDENCE = 0.9


class BalloonDataset(via_format.VIADataset):
    """Balloons, loaded as in matterport's sample: `load_balloon`, then `prepare`."""

    def __init__(self):
        Dataset.__init__(self)

    def load_balloon(self, dataset_dir, subset):
        """Add the images of a subset: "train" or "val"."""
        super().__init__(Path(dataset_dir, subset), class_name="balloon", class_names=["balloon"])


def load(dataset_dir, subset):
    """Return a prepared dataset of one subset."""
    dataset = BalloonDataset()
    dataset.load_balloon(dataset_dir, subset)
    dataset.prepare()
    return dataset


def train(model, training, validation, epochs=30):
    """Train the heads only: the images are few, and COCO's weights are a good start."""
    changes = augment.compose(["fliplr", "scale", "color"])
    model.train(
        training,
        validation,
        model.config.LEARNING_RATE,
        epochs,
        layers="heads",
        augmentation=changes,
    )


def color_splash(image, mask):
    """Turn an image gray, except the pixels of the masks.

    image: [H, W, RGB] uint8. mask: [H, W, N].
    """
    luminance = (image @ [0.299, 0.587, 0.114]).round().astype(np.uint8)
    gray = np.repeat(luminance[:, :, None], 3, axis=2)
    return np.where(np.any(mask, axis=-1, keepdims=True), image, gray)


def detect_and_color_splash(model, image_path=None, video_path=None):
    """Write the color splash of an image or a video into the working directory."""
    name = f"splash_{datetime.datetime.now():%Y%m%dT%H%M%S}"
    if image_path:
        image = read_image(image_path)
        out = Path(f"{name}.png")
        cli_support.save_image(color_splash(image, model.detect([image])[0]["masks"]), out)
    else:
        out = Path(f"{name}.mp4")

        def splash_frame(frame):
            return color_splash(frame, model.detect([frame])[0]["masks"])

        rate = video.change_video(video_path, out, splash_frame).rate
        print(f"{rate:.1f} frames per second")
    print(f"Saved to {out}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["train", "splash"], help="train; or turn all but the balloons gray"
    )
    parser.add_argument("--dataset", metavar="DIR", help="folder with train and val (for train)")
    parser.add_argument(
        "--weights",
        metavar="FILE|NAME",
        required=True,
        help="a weight file, a name that `mrcnn weights` lists, 'imagenet' or 'last'",
    )
    parser.add_argument(
        "--logs", metavar="DIR", default="logs", help="folder of the runs (default: logs)"
    )
    parser.add_argument("--image", metavar="FILE", help="image to splash")
    parser.add_argument("--video", metavar="FILE", help="video to splash")
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings, or a file of them",
    )
    parser.add_argument(
        "--epochs", type=int, default=30, metavar="N", help="to train (default: 30)"
    )
    args = parser.parse_args()
    if args.command == "train" and not args.dataset:
        parser.error("train needs --dataset")
    if args.command == "splash" and bool(args.image) == bool(args.video):
        parser.error("splash needs --image or --video, one of them")
    config = cli_support.read_config(args.config, BalloonConfig())
    if args.command == "train":
        training, validation = load(args.dataset, "train"), load(args.dataset, "val")
        train(
            cli_support.load_for_training(config, args.logs, args.weights),
            training,
            validation,
            args.epochs,
        )
        return
    weight_file = cli_support.find_weights(args.weights, config, args.logs)
    model, _ = cli_support.load_for_use(weight_file, args.config, BalloonConfig())
    detect_and_color_splash(model, args.image, args.video)


if __name__ == "__main__":
    cli_support.run_script(main)

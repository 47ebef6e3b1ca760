"""Arrows whose corners are keypoints: a training without a download.

python samples/keypoints/keypoints.py train
python samples/keypoints/keypoints.py detect --weights last --out found
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from mrcnn import visualize
from mrcnn.app import cli_support
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import evaluate

with cli_support.hold_stderr():  # TensorFlow's messages
    from mrcnn.app.demo import DemoConfig


class ArrowsConfig(DemoConfig):
    """The demo's small network with a keypoint head instead of the mask head."""

    NAME = "arrows"
    NUM_CLASSES = 1 + 1
    USE_MASK = False
    NUM_KEYPOINTS = 4
    KEYPOINT_CHANNELS = 64
    INITIAL_WEIGHTS = "detectron2"  # the keypoint head has eight convolutions and no norm
    ROI_ALIGN = "aligned"
    CONTINUOUS_BOXES = True
    TRAIN_ROIS_PER_IMAGE = 12
    ROI_POSITIVE_RATIO = 0.5
    LEARNING_RATE = 0.002
    STEPS_PER_EPOCH = 140
    VALIDATION_STEPS = 5


class ArrowsDataset(Dataset):
    """Generated images of one to three arrows, turned in all directions.

    An arrow is a polygon of four corners. Left and right are those of somebody who walks in its
    direction: in a mirrored image they change places, which their names tell the package.
    """

    keypoint_names = ("tip", "right_wing", "notch", "left_wing")
    keypoint_skeleton = ((0, 1), (1, 2), (2, 3), (3, 0))
    CORNERS = np.array([(-1.0, 0.0), (0.8, 0.75), (0.35, 0.0), (0.8, -0.75)])  # (y, x), tip up
    RADII = (18, 34)  # smallest and largest distance of the tip from the middle, px
    MOST_ARROWS = 3
    FRACTION_BITS = 6  # of OpenCV's coordinates

    def __init__(self, count, size, seed):
        """size: (height, width) px. seed: selects the set of images."""
        super().__init__()
        self.size, self.seed = (int(size[0]), int(size[1])), seed
        self.add_class("arrows", 1, "arrow")
        for i in range(count):
            self.add_image("arrows", i, path=None, height=self.size[0], width=self.size[1])
        self.prepare()

    def load_image(self, image_id):
        """Return arrows of random colors on a noisy background."""
        polygons, rng = self._scene(image_id)
        background = rng.integers(0, 256, 3)
        image = np.clip(background + rng.normal(0, 12, (*self.size, 3)), 0, 255).astype(np.uint8)
        for polygon in polygons:
            color = (background + rng.integers(70, 186, 3)) % 256  # far from the background
            self._fill(image, polygon, color.tolist(), cv2.LINE_AA)
        return image

    def load_mask(self, image_id):
        """Return one mask per arrow, and their class ids."""
        polygons, _ = self._scene(image_id)
        masks = np.zeros((len(polygons), *self.size), np.uint8)
        for mask, polygon in zip(masks, polygons, strict=True):
            self._fill(mask, polygon, 1, cv2.LINE_8)
        return np.moveaxis(masks.astype(bool), 0, -1), np.ones(len(polygons), np.int32)

    def load_keypoints(self, image_id):
        """Return the corners, [N, 4, (y, x, visibility)], all visible."""
        polygons, _ = self._scene(image_id)
        visible = np.full((len(polygons), len(self.keypoint_names), 1), 2.0)
        return np.concatenate([polygons, visible], axis=2)

    def _scene(self, image_id):
        """The corners of the arrows of an image, [N, 4, (y, x)], and a generator for its colors."""
        rng = np.random.default_rng([self.seed, int(image_id)])
        polygons, taken = [], []
        for _ in range(rng.integers(1, self.MOST_ARROWS + 1)):
            radius = rng.uniform(*self.RADII)
            center = rng.uniform(radius + 1, np.array(self.size) - radius - 1)
            is_free = all(
                np.hypot(*(center - other)) > radius + other_radius for other, other_radius in taken
            )
            if is_free:
                angle = rng.uniform(0, 2 * np.pi)
                sine, cosine = np.sin(angle), np.cos(angle)
                turned = self.CORNERS @ np.array([[cosine, sine], [-sine, cosine]])
                polygons.append(center + 0.85 * radius * turned)
                taken.append((center, radius))
        return np.array(polygons), rng

    def _fill(self, image, polygon, color, line_type):
        """Fill a polygon; OpenCV counts (x, y) from the center of the first pixel."""
        points = np.round((polygon[:, ::-1] - 0.5) * 2**self.FRACTION_BITS).astype(np.int32)
        cv2.fillPoly(image, [points], color, line_type, self.FRACTION_BITS)


def load(count, seed, config):
    """Return a dataset of `count` images of the config's size."""
    return ArrowsDataset(count, config.IMAGE_SHAPE[:2], seed)


def train(config, weights, epochs, logs):
    """Train, and evaluate on 100 held-out images."""
    model = cli_support.load_for_training(config, logs, weights)
    held_out = load(100, 2, config)
    model.train(
        load(4000, 1, config),
        held_out,
        config.LEARNING_RATE,
        epochs,
        layers="all",
        augmentation=augment.compose(["fliplr"]),
    )
    trained, _ = cli_support.load_for_use(model.find_last(), [])
    print(evaluate.coco(trained, held_out).table())


def detect(model, out):
    """Draw ground truth and detections of eight new images."""
    dataset = load(8, 3, model.config)
    pages = []
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        result = model.detect([image])[0]
        pages.append(visualize.draw_next_to_ground_truth(dataset, image_id, image, result))
    path = Path(out, "arrows.png")
    cli_support.save_image(visualize.contact_sheet(pages, columns=2), path)
    print(f"Saved to {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["train", "detect"], help="train; or draw detections in new images"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a weight file, or 'last'; for train, default: random weights",
    )
    parser.add_argument("--epochs", type=int, default=9, metavar="N", help="to train (default: 9)")
    parser.add_argument(
        "--logs", metavar="DIR", default="logs", help="folder of the runs (default: logs)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="arrows_found",
        help="folder for the image that detect draws (default: arrows_found)",
    )
    parser.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="other settings",
    )
    args = parser.parse_args()
    config = cli_support.read_config(args.config, ArrowsConfig())
    if args.command == "train":
        train(config, args.weights, args.epochs, args.logs)
        return
    weight_file = cli_support.find_weights(args.weights or "last", config, args.logs)
    model, _ = cli_support.load_for_use(weight_file, args.config, ArrowsConfig())
    detect(model, args.out)


if __name__ == "__main__":
    cli_support.run_script(main)

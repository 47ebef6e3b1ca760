"""Generated images of squares, circles and triangles: a training without a download.

    python samples/shapes/shapes.py train
    python samples/shapes/shapes.py detect --weights last --out found

The notebook `train_shapes.ipynb` explains the same steps with figures.
"""

import argparse
from pathlib import Path

from mrcnn import visualize
from mrcnn.app import cli_support
from mrcnn.data import shapes as generated
from mrcnn.evaluation import evaluate

with cli_support.hold_stderr():  # TensorFlow's messages
    from mrcnn.app.demo import DemoConfig


class ShapesConfig(DemoConfig):
    """The demo's small network: a third of a second per step on two CPU cores."""

    NAME = "shapes"
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 5


class ShapesDataset(generated.ShapesDataset):
    """Generated images, loaded as in matterport's sample: `load_shapes`, then `prepare`."""

    def __init__(self):
        generated.Dataset.__init__(self)

    def load_shapes(self, count, height, width, seed=0):
        """Add `count` images of `height` x `width` pixels; sets of different seeds are disjoint."""
        super().__init__(count, (height, width), seed)


def load(count, seed, config):
    """Return a prepared dataset of `count` images of the config's size."""
    dataset = ShapesDataset()
    dataset.load_shapes(count, *config.IMAGE_SHAPE[:2], seed=seed)
    dataset.prepare()
    return dataset


def train(config, weights, epochs, logs):
    """Train, and evaluate on 50 held-out images."""
    model = cli_support.load_for_training(config, logs, weights)
    held_out = load(50, 2, config)
    model.train(load(500, 1, config), held_out, config.LEARNING_RATE, epochs, layers="all")
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
    path = Path(out, "shapes.png")
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
        metavar="FILE|NAME",
        help="a weight file, a name that `mrcnn weights` lists, or 'last'; for train, default: "
        "random weights",
    )
    parser.add_argument(
        "--epochs", type=int, default=10, metavar="N", help="to train (default: 10)"
    )
    parser.add_argument(
        "--logs", metavar="DIR", default="logs", help="folder of the runs (default: logs)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="shapes_found",
        help="folder for the image that detect draws (default: shapes_found)",
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
    config = cli_support.read_config(args.config, ShapesConfig())
    if args.command == "train":
        train(config, args.weights, args.epochs, args.logs)
        return
    weight_file = cli_support.find_weights(args.weights or "last", config, args.logs)
    model, _ = cli_support.load_for_use(weight_file, args.config, ShapesConfig())
    detect(model, args.out)


if __name__ == "__main__":
    cli_support.run_script(main)

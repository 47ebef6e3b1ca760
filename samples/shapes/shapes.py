"""Made pictures of squares, circles and triangles: train on them without downloading anything.

    python samples/shapes/shapes.py train
    python samples/shapes/shapes.py detect --weights last --out found

The notebook `train_shapes.ipynb` walks through the same with pictures.
"""

import argparse
from pathlib import Path

from mrcnn import visualize
from mrcnn.app import cli_support
from mrcnn.data import shapes as made
from mrcnn.evaluation import evaluate

with cli_support.hold_stderr():  # TensorFlow, in silence
    from mrcnn.app.demo import DemoConfig


class ShapesConfig(DemoConfig):
    """The demo's small network: a third of a second a step on two CPU cores."""

    NAME = "shapes"
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 5


class ShapesDataset(made.ShapesDataset):
    """The made pictures, loaded as the original's sample loads them: `load_shapes`, then `prepare`."""

    def __init__(self):
        made.Dataset.__init__(self)

    def load_shapes(self, count, height, width, seed=0):
        """Add `count` pictures of `height` x `width` pixels; another seed names another, disjoint set."""
        super().__init__(count, (height, width), seed)


def load(count, seed, config):
    """A prepared dataset of `count` pictures of the size the config says."""
    dataset = ShapesDataset()
    dataset.load_shapes(count, *config.IMAGE_SHAPE[:2], seed=seed)
    dataset.prepare()
    return dataset


def train(config, weights, epochs, logs):
    """Train and measure on 50 pictures that were not trained on."""
    model = cli_support.load_for_training(config, logs, weights)
    held_out = load(50, 2, config)
    model.train(load(500, 1, config), held_out, config.LEARNING_RATE, epochs, layers="all")
    trained, _ = cli_support.load_for_use(model.find_last(), [])
    print(evaluate.coco(trained, held_out).table())


def detect(model, out):
    """Draw what the model finds in eight new pictures beside what is there."""
    dataset = load(8, 3, model.config)
    pictures = []
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        pictures.append(
            visualize.draw_next_to_ground_truth(dataset, image_id, image, model.detect([image])[0])
        )
    path = Path(out, "shapes.png")
    cli_support.save_image(visualize.contact_sheet(pictures, columns=2), path)
    print(f"Saved to {path}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "command", choices=["train", "detect"], help="learn; or draw what is found in new pictures"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE|WORD",
        help="a weight file or 'last'; for train, default: random weights",
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
        help="where detect puts its picture (default: shapes_found)",
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

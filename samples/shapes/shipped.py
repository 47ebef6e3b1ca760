"""The model `shapes` of this package: its settings and its schedule, in one command.

    python samples/shapes/shipped.py --logs runs/shapes

The same command resumes a training that was stopped. docs/results.md has what it reached, `card.md`
of this folder the text of the model's card.
"""

import argparse

from mrcnn.app import cli_support
from mrcnn.data.shapes import ShapesDataset

with cli_support.hold_stderr():  # TensorFlow's messages
    import keras

    from mrcnn.app.demo import DemoConfig, narrow_backbone

EPOCHS = 16
IMAGES = 12_800  # each is seen once
TRAIN_SEED, VALIDATION_SEED = 0, 1


class ShapesConfig(DemoConfig):
    """The demo's network, narrower; `detectron_scratch()` of it adds norms and finer boxes."""

    BACKBONE = staticmethod(narrow_backbone)
    IMAGE_RESIZE_MODE = "square"
    TOP_DOWN_PYRAMID_SIZE = 48
    RPN_CHANNELS = 48
    FPN_CLASSIF_FC_LAYERS_SIZE = 128
    DETECTION_MIN_CONFIDENCE = 0.5
    SEED = 0
    EMA_DECAY = 0.995
    VALIDATION_AP_IMAGES = 30
    KEEP_LAST_N = 2
    RUN_REPORT = True


def train(logs, epochs):
    """Train, from the last checkpoint if there is one; return the path of the last one."""
    config = ShapesConfig.detectron_scratch()
    keras.utils.set_random_seed(config.SEED)
    model = cli_support.load_for_training(config, logs, cli_support.last_or(None, config, logs))
    training = ShapesDataset(IMAGES, seed=TRAIN_SEED)
    validation = ShapesDataset(100, seed=VALIDATION_SEED)
    model.train(training, validation, config.LEARNING_RATE, epochs, layers="all")
    return model.find_last()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--logs", metavar="DIR", default="runs/shapes", help="folder of the run (%(default)s)"
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="to train in all (%(default)s)"
    )
    args = parser.parse_args()
    print(f"Weights: {train(args.logs, args.epochs)}")


if __name__ == "__main__":
    cli_support.run_script(main)

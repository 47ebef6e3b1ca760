"""The model `nuclei` of this package: its data, its settings, its schedule.

    python samples/nucleus/shipped.py --data nuclei/train nuclei_more --val nuclei/val

The same command resumes a training that was stopped; `--start nuclei --logs runs/more` trains the
model of the package further. docs/results.md has both trainings of that model and what it reached,
`card.md` of this folder the text of its card.
"""

import argparse
import math

from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.joined import JoinedDataset
from mrcnn.formats.open_dataset import open_dataset

EPOCHS = 18
USUAL_SIDE = 256  # pixels; most of the images have it


class NucleiConfig(Config):
    """A network of 5.5 million parameters on crops of images enlarged 2.5 times."""

    NAME = "nuclei"
    BACKBONE = "efficientnet_lite2"
    NUM_CLASSES = 1 + 1
    SEED = 0

    # Half of the nuclei are under 22 px, one in twenty under 8 px: two cells of P2 if not enlarged.
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_SCALE = 2.5
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 320
    IMAGES_PER_GPU = 4

    # Two sides a level: 73 % instead of 34 % of the nuclei have an IoU of 0.7 with an anchor.
    RPN_ANCHOR_SCALES = ((16, 24), (32, 48), (64, 96), (128, 192), (256, 320))
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    PROPOSAL_SELECTION = "per_level"
    PRE_NMS_LIMIT = 2000
    POST_NMS_ROIS_TRAINING = 500
    POST_NMS_ROIS_INFERENCE = 1000

    # Narrow, so that the file has less than 12 MB. Group norm in the heads only: that of the
    # pyramid would see crops in training, and whole images later.
    TOP_DOWN_PYRAMID_SIZE = 64
    RPN_CHANNELS = 64
    RPN_OBJECTNESS = "sigmoid"
    BIAS_BEFORE_NORM = False
    BOX_HEAD = "4conv1fc"
    BOX_HEAD_NORM = MASK_HEAD_NORM = "group"
    FPN_CLASSIF_FC_LAYERS_SIZE = 192
    MASK_CHANNELS = 64

    # detectron2's geometry and losses: a pixel counts in objects of 8 px.
    CONTINUOUS_BOXES = True
    MAX_LOG_SCALE = math.log(1000 / 16)
    ROI_ALIGN = "aligned"
    MASK_TARGETS = "hard"
    MASK_PASTE = "detectron2"
    RPN_SMOOTH_L1_BETA = BOX_SMOOTH_L1_BETA = 0.0
    LOSS_DENOMINATOR = "sampled"
    ROI_SAMPLING = "fill"
    ROIS_INCLUDE_GT = True
    TRAIN_ROIS_PER_IMAGE = 96

    MAX_GT_INSTANCES = 128
    DETECTION_MAX_INSTANCES = 400
    DETECTION_ALL_CLASSES = True  # also RoIs that are rather background, for AP
    DETECTION_MIN_CONFIDENCE = 0.5
    DETECTION_NMS_THRESHOLD = 0.5

    OPTIMIZER = "adam"
    LEARNING_RATE = 0.0006
    LEARNING_RATE_SCHEDULE = "cosine"
    WARMUP_STEPS = 200
    EMA_DECAY = 0.998
    STEPS_PER_EPOCH = 300
    VALIDATION_STEPS = 5
    VALIDATION_AP_IMAGES = 10
    KEEP_LAST_N = 2
    RUN_REPORT = True


def load(folders):
    """Return the images of all folders, the large ones several times."""
    datasets = [open_dataset(folder, class_names=["nucleus"]) for folder in folders]
    for dataset in datasets:
        repeat_large_images(dataset)
    return JoinedDataset(datasets)


def repeat_large_images(dataset):
    """List an image as often as its side contains USUAL_SIDE: a crop shows a small part of it."""
    repeated = []
    for image_id in dataset.image_ids:
        height, width = dataset.image_size(image_id)
        count = max(1, round(math.sqrt(height * width) / USUAL_SIDE))
        repeated += [dataset.image_info[image_id]] * count
    dataset.image_info = repeated
    dataset.prepare()


def train(data, val, start, logs, epochs):
    """Train, from the last checkpoint if there is one; return the path of the last one.

    start: initial weights of the first time.
    """
    cli_support.load_tensorflow()
    import keras

    config = NucleiConfig()
    keras.utils.set_random_seed(config.SEED)
    model = cli_support.load_for_training(config, logs, cli_support.last_or(start, config, logs))
    model.train(
        load(data),
        open_dataset(val, class_names=["nucleus"]),
        config.LEARNING_RATE,
        epochs,
        layers="all",
        augmentation=augment.compose(["microscopy"]),
    )
    return model.find_last()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", metavar="DIR", nargs="+", required=True, help="folders of images to train on"
    )
    parser.add_argument(
        "--val", metavar="DIR", required=True, help="images on which AP is measured meanwhile"
    )
    parser.add_argument(
        "--start", default="imagenet", metavar="WEIGHTS", help="initial weights (%(default)s)"
    )
    parser.add_argument(
        "--logs", metavar="DIR", default="runs/nuclei", help="folder of the run (%(default)s)"
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="to train in all (%(default)s)"
    )
    args = parser.parse_args()
    print(f"Weights: {train(args.data, args.val, args.start, args.logs, args.epochs)}")


if __name__ == "__main__":
    cli_support.run_script(main)

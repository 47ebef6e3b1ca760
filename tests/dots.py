"""A model `dots` as this package holds models: a float16 file of one kernel, and a card."""

import json

import h5py
import numpy as np

from mrcnn.config import Config
from mrcnn.weights.saving import write_layers
from mrcnn.weights.weight_file import METADATA

CARD = "# dots: white dots\n\nLicence: CC0.\n"


def write_dots(folder):
    """Write dots.h5 and dots.md, and a weight file without a card, into a folder."""
    config = Config()
    config.NAME, config.NUM_CLASSES, config.TOP_DOWN_PYRAMID_SIZE = "dots", 2, 48
    config.RPN_ANCHOR_SCALES = ((8, 12), (16, 24), (32, 48), (64, 96), (128, 192))
    description = {
        "config": config.to_dict(),
        "class_names": ["BG", "dot"],
        "results": {"box_ap": 0.5, "mask_ap": 0.4, "data": "3 images"},
    }
    with h5py.File(folder / "dots.h5", "w") as file:
        write_layers(file, {"conv1": {"conv1/kernel:0": np.ones((1, 1), np.float16)}})
        file.attrs[METADATA] = json.dumps(description)
    (folder / "dots.md").write_text(CARD)
    (folder / "other.h5").touch()

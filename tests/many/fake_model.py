"""A model without a network for tests of workers: the value of an image's first pixel decides.

An image of one value has one object, a rectangle whose side is value % 5 + 1. Processes import this
file, so that it loads no TensorFlow.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mrcnn.config import Config
from mrcnn.inference.result import Result
from mrcnn.many.block import FileLoader

NOTHING, ERROR, KILL_ONCE, KILL = 0, 201, 202, 203


WAIT_SECONDS = 300  # for another worker, on a machine that is busy


class FakeModel:
    """See the file. seconds: how long an image takes.

    killed: a file that exists after the first kill. together: how many workers must have loaded
    the model before the first image is detected.
    """

    def __init__(self, killed, seconds=0.0, together=0):
        self.config = Config()
        self.killed = Path(killed)
        self.seconds = seconds
        self.together = together
        self.batches = []

    def detect(self, images, batch_size=None, masks="full"):
        self.batches.append(len(images))
        return [self._found(image, masks) for image in images]

    def _found(self, image, masks):
        end = time.monotonic() + WAIT_SECONDS
        while loads(self.killed.parent) < self.together and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(self.seconds)
        value = int(image[0, 0, 0])
        if value == ERROR:
            raise RuntimeError("this image breaks the network")
        if value == KILL or (value == KILL_ONCE and not self.killed.exists()):
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        side = value % 5 + 1
        count = int(value != NOTHING)
        arrays = {
            "rois": np.array([[1, 2, 1 + side, 2 + side]] * count, np.int32).reshape(-1, 4),
            "class_ids": np.array([1] * count, np.int32),
            "scores": np.array([value / 256] * count, np.float32),
            "masks": [np.ones((side, side), bool)] * count,
        }
        return Result(arrays, image.shape, ["BG", "square"])


class FakeLoader(FileLoader):
    """Loads a `FakeModel` in a worker, and leaves a file that names the worker's process.

    broken: raise instead.
    """

    def __init__(self, folder, seconds=0.0, broken=False, together=0):
        self.folder = folder
        self.killed = os.path.join(folder, "killed")
        self.seconds = seconds
        self.broken = broken
        self.together = together

    def load(self):
        if self.broken:
            raise ValueError("The weights must fit. Received: others.")
        Path(self.folder, f"loaded_by_{os.getpid()}").touch()
        return FakeModel(self.killed, self.seconds, self.together), ["BG", "square"]

    def explain(self, error):
        return f"{type(error).__name__}: {error}"


def loads(folder):
    """How many processes have loaded the model."""
    return len(list(Path(folder).glob("loaded_by_*")))


def image_files(folder, values):
    """The names of images of 8 x 9 pixels, one for each value; None: a file that is no image."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i, value in enumerate(values):
        path = folder / f"{i:04d}.png"
        if value is None:
            path.write_bytes(b"no image")
        else:
            Image.fromarray(np.full((8, 9, 3), value, np.uint8)).save(path)
        names.append(str(path))
    return names


def side_of(row):
    """The side of the object of a row, None without one, or the word error."""
    if "error" in row:
        return "error"
    boxes = [entry["box"] for entry in row["detections"]]
    return boxes[0][2] - boxes[0][0] if boxes else None

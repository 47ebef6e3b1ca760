"""Several devices train as one: two logical CPU devices, each in a process of its own (they are set up once)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]

TRAINING = """
import sys
import numpy as np
import tensorflow as tf

devices, folder = int(sys.argv[1]), sys.argv[2]
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)

from mrcnn.model import MaskRCNN
from tiny import Squares, TinyConfig, shake

config = TinyConfig(
    SEED=3, STEPS_PER_EPOCH=4, GPU_COUNT=devices, IMAGES_PER_GPU=4 // devices, GRADIENT_CLIP_NORM=1.0, WEIGHT_DECAY=0.1,
    EMA_DECAY=0.9,
)
model = shake(MaskRCNN("training", config, folder), 0)
squares = Squares()
history = model.train(squares, squares, 0.01, epochs=2, layers="all").history
weights = {weight.path.replace("/", "|"): weight.numpy() for weight in model.keras_model.weights}
np.savez(f"{folder}/trained.npz", loss=history["loss"], **weights)
"""


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path):
    """The same batch of four, spread: losses and weights within 1e-5. Clipping is on, and in every step so."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    found = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        command = [sys.executable, "-c", TRAINING, str(devices), str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(folder / "trained.npz") as file:
            found.append({name: file[name] for name in file.files})
    one, two = found
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-4)
    for name in one.keys() - {"loss"}:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)

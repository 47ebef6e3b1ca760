"""Several devices, and several hosts, train as one; on CPUs, in one process per setup."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kinds import KINDS
from tiny import tiny_config

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}

TRAINING = """
import sys
import numpy as np
import tensorflow as tf

kind, devices, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
logical = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)

from tiny import Squares, build

model = build(
    kind, "training", folder, SEED=3, STEPS_PER_EPOCH=4, GPU_COUNT=devices,
    IMAGES_PER_GPU=4 // devices, GRADIENT_CLIP_NORM=1.0, WEIGHT_DECAY=0.1, EMA_DECAY=0.9,
)
squares = Squares()
history = model.train(squares, squares, 0.01, epochs=2, layers="all").history
weights = {weight.path.replace("/", "|"): weight.numpy() for weight in model.keras_model.weights}
np.savez(f"{folder}/trained.npz", loss=history["loss"], **weights)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", (*KINDS, "cascade"))
def test_two_devices_train_as_one(tmp_path, kind):
    """The same batch of four: weights agree within 1e-5. Every step clips its gradients."""
    found = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        command = [sys.executable, "-c", TRAINING, kind, str(devices), str(folder)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(folder / "trained.npz") as file:
            found.append({name: file[name] for name in file.files})
    one, two = found
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-4)
    for name in one.keys() - {"loss"}:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-5, err_msg=name)


TRAINING_OF_HOSTS = """
import sys
import keras
import numpy as np

kind, hosts, folder, result = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

from mrcnn.data import augment
from tiny import Squares, build


class Uneven(Squares):  # every second image is empty
    def load_mask(self, image_id):
        mask, class_ids = super().load_mask(image_id)
        return (mask[..., :0], class_ids[:0]) if image_id % 2 else (mask, class_ids)

    def load_keypoints(self, image_id):
        return super().load_keypoints(image_id)[: 1 - image_id % 2]


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


model = build(
    kind, "training", folder, SEED=3, STEPS_PER_EPOCH=4, GPU_COUNT=hosts,
    IMAGES_PER_GPU=4 // hosts, TRAIN_BN=False, GRADIENT_CLIP_NORM=1.0, WEIGHT_DECAY=0.1,
    VALIDATION_STEPS=2,
)
data, options = Uneven(6), {"layers": "all", "augmentation": augment.compose(["flip", "color"])}
first = model.train(data, data, 0.01, epochs=2, custom_callbacks=[Stop()], **options).history
print(model.epoch, model.checkpoint_path)
model.load_weights(model.find_last())  # resumes with the state of epoch 1
second = model.train(data, None, 0.01, epochs=2, **options).history
print(model.epoch, model.find_last())
assert min(first["gradient_norm"] + second["gradient_norm"]) > 1  # clipped
weights = {weight.path.replace("/", "|"): weight.numpy() for weight in model.keras_model.weights}
np.savez(result, loss=first["loss"] + second["loss"], val_loss=first["val_loss"], **weights)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", (*KINDS, "cascade"))
def test_two_hosts_train_as_one(tmp_path, kind):
    """The same batches of four in two processes, with two rows each; often only one has objects.

    The training is stopped after an epoch and resumed with its state; only the chief writes files.
    """
    done = {1: _run_hosts(tmp_path / "one", kind, 1), 2: _run_hosts(tmp_path / "two", kind, 2)}
    (one,), (chief, other) = (
        _trained(tmp_path / name, count) for name, count in (("one", 1), ("two", 2))
    )
    assert (len(one["loss"]), len(one["val_loss"])) == (2, 1)
    for host in (chief, other):
        for name, values in one.items():
            tolerance = {"rtol": 1e-4} if name.endswith("loss") else {"rtol": 0, "atol": 1e-5}
            np.testing.assert_allclose(host[name], values, **tolerance, err_msg=name)

    (out, log), (out_2, log_2) = done[2]
    assert out == out_2
    assert [line[:2] for line in out.splitlines()] == ["1 ", "2 "]
    assert out.strip().endswith(f"{tiny_config(kind).NETWORK}_tiny_0002.h5")
    assert ("writes no files" in log, log_2.count("This host writes no files")) == (False, 2)
    (log_dir,) = (tmp_path / "two" / "logs").iterdir()
    with open(log_dir / "losses.csv") as table:
        assert [line.split(",")[0] for line in table] == ["epoch", "1", "2"]
    assert len(list(log_dir.glob("train/events*"))) == 2


def _run_hosts(folder, kind, count) -> list[tuple[str, str]]:
    """Run the hosts; return `(stdout, stderr)` of each. kind: see `tiny_config`."""
    folder.mkdir()
    running = []
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in (first, second)]
    for index in range(count):
        config = json.dumps(
            {"cluster": {"worker": addresses[:count]}, "task": {"type": "worker", "index": index}}
        )
        arguments = [kind, str(count), str(folder / "logs"), str(folder / f"host_{index}.npz")]
        with (
            open(folder / f"stdout_{index}", "w") as out,
            open(folder / f"stderr_{index}", "w") as log,
        ):
            command = [sys.executable, "-c", TRAINING_OF_HOSTS, *arguments]
            environment = {**ENVIRONMENT, "TF_CONFIG": config}
            running.append(subprocess.Popen(command, env=environment, stdout=out, stderr=log))
    try:
        codes = [process.wait(timeout=1800) for process in running]
    finally:
        for process in running:
            process.kill()
    found = [
        tuple((folder / f"{name}_{index}").read_text() for name in ("stdout", "stderr"))
        for index in range(count)
    ]
    assert not any(codes), "\n".join(log[-3000:] for _, log in found)
    return found


def _trained(folder, count) -> list[dict]:
    found = []
    for index in range(count):
        with np.load(folder / f"host_{index}.npz") as file:
            found.append({name: file[name] for name in file.files})
    return found

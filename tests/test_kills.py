"""A training that is killed many times ends like one that was not."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kinds import KINDS

ROOT = Path(__file__).resolve().parents[1]
# Network, number of kills, number of epochs. All networks share the loop and what writes files.
RUNS = [("mask_rcnn", 25, 60), *((kind, 8, 20) for kind in KINDS if kind != "mask_rcnn")]

TRAINING = """
import sys
import keras
import numpy as np
import tensorflow as tf
from tiny import Squares, build

tf.config.run_functions_eagerly(True)  # starts sooner
kind, epochs, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]

class Report(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("done", epoch + 1, flush=True)

model = build(kind, "training", folder, STEPS_PER_EPOCH=1, KEEP_LAST_N=2)
try:
    model.load_weights(model.find_last())
except FileNotFoundError:
    pass
print("begin", model.epoch, flush=True)
model.train(Squares(), None, 0.001, epochs=epochs, layers="all", custom_callbacks=[Report()])
weights = {weight.path.replace("/", "|"): weight.numpy() for weight in model.keras_model.weights}
np.savez(folder + "/trained.npz", **weights)
"""


def start(kind, epochs, folder, output):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", TRAINING, kind, str(epochs), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)


def wait_for(process, moment, patience=300):
    """Wait until `moment()` is true or the process has ended."""
    end = time.time() + patience
    while not moment() and process.poll() is None:
        assert time.time() < end, "the training did not reach this point"
        time.sleep(0.001)


def kill_somewhere(process, folder, log, draw) -> bool:
    """Kill after up to three epochs, at a random time or while a file is written.

    Returns: whether a file was being written.
    """
    epochs, part = (
        draw.randrange(4),
        draw.choice([".*_tiny_*.part", ".training_state*.part", None]),
    )
    wait_for(
        process,
        lambda: "Training until" in log.read_text() and log.read_text().count("\ndone ") >= epochs,
    )
    if part is None:
        time.sleep(draw.uniform(0.0, 1.0))
    else:
        wait_for(process, lambda: any(folder.glob(f"*/{part}")))
    writing = part is not None and process.poll() is None
    process.send_signal(signal.SIGKILL)
    return writing


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills", "epochs"), RUNS)
def test_killed_training_ends_like_an_uninterrupted_one(tmp_path, kind, kills, epochs):
    """Kills at random times or while a checkpoint is written lose at most the current epoch."""
    draw = random.Random(0)
    reference, killed = tmp_path / "reference", tmp_path / "killed"
    for folder in (reference, killed):
        folder.mkdir()
    with open(tmp_path / "reference.log", "w") as output:
        assert start(kind, epochs, reference, output).wait() == 0

    whole, begun, while_writing = 0, [], 0
    for kill in range(kills + 1):
        log = tmp_path / f"killed_{kill}.log"
        with open(log, "w") as output:
            process = start(kind, epochs, killed, output)
            if kill < kills:
                while_writing += kill_somewhere(process, killed, log, draw)
            process.wait()
        text = log.read_text()
        begun.append(int(re.search(r"begin (\d+)", text)[1]))
        assert begun[-1] >= whole, (
            f"epoch {whole} was complete, and the next start resumed after {begun[-1]}"
        )
        if begun[-1]:
            assert (
                f"Resuming after epoch {begun[-1]}" in text
                and "optimizer and the random state" in text
            )
        whole = max([whole, *(int(epoch) for epoch in re.findall(r"done (\d+)", text))])
        if process.returncode == 0:
            break
    assert process.returncode == 0 and while_writing >= kills // 8
    assert not list(killed.glob("*/*.part"))
    with np.load(reference / "trained.npz") as expected, np.load(killed / "trained.npz") as found:
        for name in expected.files:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-6, err_msg=name)

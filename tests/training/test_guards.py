"""Non-finite losses, stalled steps, Ctrl-C."""

import hashlib
import os
import re
import signal
import threading
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from kinds import KINDS
from tiny_training import build, values

from mrcnn.training import guards
from mrcnn.training.guards import Interrupts, NotFinite, StallWatchdog
from mrcnn.training.network import TrainingNetwork
from mrcnn.training.pipeline import Work

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.mark.parametrize("network", KINDS)
def test_non_finite_loss_stops_the_training(tmp_path, dataset, monkeypatch, network):
    model = build(tmp_path, network=network, IMAGES_PER_GPU=1, STEPS_PER_EPOCH=4)
    broken_name, other_name = model.config.loss_names()[1], model.config.loss_names()[0]
    true = type(model.keras_model).losses
    steps = []

    def broken(*args):
        halves = true(*args)
        numerator, count = halves[broken_name]
        steps.append(0)
        return {**halves, broken_name: (numerator * (np.nan if len(steps) == 3 else 1.0), count)}

    monkeypatch.setattr(type(model.keras_model), "losses", broken)
    before, seen = [], []
    step = TrainingNetwork.train_step
    monkeypatch.setattr(
        TrainingNetwork,
        "train_step",
        lambda self, data: seen.append(int(data[0][1][0, 0])) or step(self, data),
    )

    class RecordWeights(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            before.append(values(model))

    with pytest.raises(NotFinite) as error:
        model.train(
            dataset, None, 0.001, epochs=1, layers="all", custom_callbacks=[RecordWeights()]
        )
    text = str(error.value)
    assert "loss = nan" in text and f"{broken_name} = nan" in text and other_name not in text
    assert f"epoch 1, step 3, images {seen[2]} (" in text and "learning rate below 0.001" in text
    saved = build(tmp_path / "other", seed=4, network=network)
    saved.load_weights(os.path.join(model.log_dir, "last_good.h5"))
    kept = values(saved)
    assert all(np.isfinite(value).all() for value in kept.values())
    # those after two good steps; in the third only the momentum moved them
    moved = max(
        np.abs(value - before[-1][path]).max() for path, value in kept.items() if "seed" not in path
    )
    assert moved < 0.01


def test_watchdog_reports_a_stalled_step(caplog):
    """The original hung without a message."""
    batches = SimpleNamespace(
        in_progress={}, names=lambda ids: ", ".join(f"{i} (a.png)" for i in ids)
    )
    stalls = StallWatchdog(batches)
    stalls.PATIENCE_S = 0.05
    stalls.on_train_begin()
    with caplog.at_level("WARNING", "mrcnn"):
        stalls.on_train_batch_begin(0)
        time.sleep(0.15)
        assert caplog.text == ""  # the first step traces the graph
        stalls.on_train_batch_end(0)
        time.sleep(0.15)
        assert caplog.text == ""  # callbacks between two steps may take long
        batches.in_progress[1] = Work([5], time.time() - 7)
        stalls.on_train_batch_begin(1)
        end = time.monotonic() + 30
        while caplog.text.count("No step has ended for") < 2 and time.monotonic() < end:
            time.sleep(0.01)
        stalls.on_train_batch_end(1)
        stalls.on_train_end()
    assert re.search(r"1 workers are making batches of images 5 \(a.png\) for \d+ s", caplog.text)
    assert caplog.text.count("No step has ended for") >= 2
    assert not stalls.thread.is_alive()


def slow_step(presses):
    """Send SIGINT `presses` times, 0.2 s apart, during a call that delays Python's handler."""

    def press():
        for _ in range(presses):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)


@pytest.mark.parametrize(
    "presses, terminal, ended", [(1, True, []), (2, True, [130]), (2, False, [])]
)
def test_ctrl_c_is_answered_during_a_slow_step(monkeypatch, caplog, presses, terminal, ended):
    """The second Ctrl-C ends a program on a terminal; a notebook keeps its kernel."""
    previous = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a worker of pytest-xdist ignores Ctrl-C
    codes, interrupts = [], Interrupts()
    interrupts.PATIENCE_S = 0.01
    monkeypatch.setattr(guards.sys, "stdin", SimpleNamespace(isatty=lambda: terminal))
    monkeypatch.setattr(guards.os, "_exit", codes.append)
    interrupts.start()
    try:
        slow_step(presses)
        raised = time.time()
    finally:
        interrupts.stop()
        signal.signal(signal.SIGINT, previous)
    assert codes == ended
    (said,) = [record for record in caplog.records if "Stopping after this step" in record.message]
    assert said.created < raised - 0.2
    assert signal.set_wakeup_fd(-1) == -1

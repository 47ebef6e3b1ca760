"""Long runs: memory does not grow, and threads get the results of a single thread."""

import gc
import json
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny import TinyConfig, photos, shake

from mrcnn.model import MaskRCNN, ReadWriteLock

ROOT = Path(__file__).resolve().parents[1]
FIRST, LAST = 200, 2000  # memory is read after these steps or calls
SIZES = ((64, 64), (60, 100), (120, 70), (128, 128), (40, 190), (200, 64))

STEPS = """
import json, re, sys, tempfile
import keras
from mrcnn.model import MaskRCNN
from tiny import Squares, TinyConfig, photos, shake

first, last, sizes = json.loads(sys.argv[1])
seen = {}


def resident(count):
    if count in (first, last) or count % 200 == 0 or last < 200:
        with open("/proc/self/status") as file:
            seen[count] = int(re.search(r"VmRSS:\\s+(\\d+) kB", file.read())[1])
"""

TRAINING = """
class Memory(keras.callbacks.Callback):
    step = 0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        resident(self.step)


per_epoch = first // 2  # the first reading comes after a validation and a checkpoint
config = TinyConfig(
    STEPS_PER_EPOCH=per_epoch, KEEP_LAST_N=2, IMAGES_PER_GPU=1, PRE_NMS_LIMIT=100,
    POST_NMS_ROIS_TRAINING=40, TRAIN_ROIS_PER_IMAGE=4,
)
squares = Squares(8)
with tempfile.TemporaryDirectory() as folder:
    model = MaskRCNN("training", config, folder)
    epochs = last // per_epoch
    model.train(squares, squares, 1e-4, epochs, layers="all", custom_callbacks=[Memory()])
"""

DETECTION = """
config = TinyConfig(IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=128)
model = shake(MaskRCNN("inference", config))
images = photos(24, sizes=sizes)
for call in range(1, last + 1):
    model.detect([images[call % len(images)]])
    resident(call)
"""

# Half of the calls make a model of 97 MB, half set a new threshold, which traces a new graph.
MODELS = """
import gc
from mrcnn.config import Config


class Fat(Config):
    NAME, NUM_CLASSES, BACKBONE, IMAGE_MIN_DIM, IMAGE_MAX_DIM = "fat", 2, "mobilenet_v2", 64, 64
    TOP_DOWN_PYRAMID_SIZE = RPN_CHANNELS = 32
    FPN_CLASSIF_FC_LAYERS_SIZE, MASK_CHANNELS, POST_NMS_ROIS_INFERENCE = 4096, 16, 16


for count in range(1, last + 1):
    if count <= last // 2:
        model = None  # free it before the next one is made
        gc.collect()
        model = MaskRCNN("inference", Fat())
    else:
        model.config.DETECTION_MIN_CONFIDENCE = 0.5 + count / 100
    model.detect(photos(1))
    gc.collect()  # old graphs are reference cycles
    resident(count)
seen["weights"] = sum(weight.numpy().nbytes for weight in model.keras_model.weights) // 1024
"""

SAY = "\nprint(json.dumps(seen))\n"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory from /proc")
@pytest.mark.parametrize(
    ("work", "sizes"),
    [
        pytest.param(TRAINING, None, id="training"),
        pytest.param(DETECTION, SIZES[:1], id="detection"),
        pytest.param(DETECTION, SIZES, id="detection-of-many-sizes"),
    ],
)
def test_memory_does_not_grow(work, sizes):
    seen = memory_of(work, FIRST, LAST, sizes)
    assert seen[str(LAST)] <= 1.03 * seen[str(FIRST)], seen


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory from /proc")
def test_ten_models_and_ten_thresholds_leak_no_memory():
    seen = memory_of(MODELS, 2, 24)  # the first two models and thresholds fill the caches
    assert seen["12"] - seen["2"] < 0.1 * seen["weights"], seen
    assert seen["24"] - seen["14"] < 0.1 * seen["weights"], seen


def memory_of(work, first, last, sizes=None):
    """Run the work in a process; return its resident memory as `{step: kilobytes}`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", STEPS + work + SAY, json.dumps([first, last, sizes])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    print(seen)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES], ids=["one-size", "many-sizes"])
@pytest.mark.parametrize("mode", ["square", "pad64"])
def test_eight_threads_get_the_results_of_one(mode, sizes):
    """They start together with a new model, which is compiled while they wait."""
    model = shake(
        MaskRCNN(
            "inference", TinyConfig(IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=128)
        )
    )
    images = photos(96, sizes=sizes)
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda image: model.detect([image])[0], images))
    assert sum(len(found["scores"]) for found in at_once) > len(images)
    for image, found in zip(images, at_once, strict=True):
        (single,) = model.detect([image])
        for name, values in single.items():
            np.testing.assert_array_equal(found[name], values)


def same(result, other):
    return all(np.array_equal(values, other[name]) for name, values in result.items())


def test_writer_waits_for_readers_and_blocks_new_ones():
    lock, order = ReadWriteLock(), []
    inside, leave = threading.Barrier(3), threading.Event()

    def read(name):
        with lock.reading():
            inside.wait()  # both first readers hold the lock together
            leave.wait()
            order.append(name)

    def write():
        with lock.writing(), lock.writing():
            order.append("writer")

    def read_later():
        with lock.reading():
            order.append("later")

    threads = [threading.Thread(target=read, args=["reader"]) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    for target in (write, read_later):
        threads.append(threading.Thread(target=target))
        threads[-1].start()
        time.sleep(0.05)
    assert order == []
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["reader", "reader", "writer", "later"]


@pytest.mark.parametrize("optimized", [False, True])
def test_detections_during_a_load_use_the_weights_of_one_file(optimized, tmp_path):
    model, expected = MaskRCNN("inference", TinyConfig()), []
    for seed in (0, 1):
        shake(model, seed).save_weights(tmp_path / f"{seed}.h5")
        if optimized:
            model.optimize_for_inference()
        model._compiled = {}
        expected.append(model.detect(photos(1))[0])
    loaded = threading.Event()
    with ThreadPoolExecutor(3) as threads:

        def detect_until_loaded():
            found = []
            while not loaded.is_set():
                found += model.detect(photos(1))
            return found

        waiting = [threads.submit(detect_until_loaded) for _ in range(3)]
        for i in range(10):
            model.load_weights(tmp_path / f"{i % 2}.h5")
        loaded.set()
        found = [result for future in waiting for result in future.result()]
    assert all(any(same(result, one) for one in expected) for result in found)


@pytest.mark.parametrize("optimized", [False, True])
def test_deleted_model_is_freed_with_its_graph(optimized):
    model = MaskRCNN("inference", TinyConfig())
    if optimized:
        model.optimize_for_inference()
    model.detect(photos(1))
    (run,) = model._compiled.values()
    gone = [weakref.ref(x) for x in (model, model.keras_model, run.get_concrete_function().graph)]
    del model, run
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3

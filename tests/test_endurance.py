"""Long trainings and services: memory does not grow, and threads get the results of one thread.

The slow tests train for 2,000 steps and detect 2,000 times.
"""

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from kinds import KINDS
from tiny import assert_same_results, build, new_model, noise_images, shake

ROOT = Path(__file__).resolve().parents[1]
FIRST, LAST = 200, 2000  # the steps, or calls, after which memory is compared
SIZES = ((64, 64), (60, 100), (120, 70), (128, 128), (40, 190), (200, 64))

STEPS = """
import json, re, sys, tempfile
import keras
from tiny import Squares, build, new_model, noise_images

kind, first, last, sizes = json.loads(sys.argv[1])
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


per_epoch = first // 2  # so that a validation and a checkpoint come before the first reading
settings = {
    "STEPS_PER_EPOCH": per_epoch,
    "KEEP_LAST_N": 2,
    "IMAGES_PER_GPU": 1,
    "PRE_NMS_LIMIT": 100,
    "POST_NMS_ROIS_TRAINING": 40,
    "TRAIN_ROIS_PER_IMAGE": 4,
}
squares = Squares(8)
with tempfile.TemporaryDirectory() as folder:
    model = new_model(kind, "training", folder, **settings)
    epochs = last // per_epoch
    model.train(squares, squares, 1e-4, epochs, layers="all", custom_callbacks=[Memory()])
"""

DETECTION = """
model = build(kind, IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=128)
images = noise_images(24, sizes=sizes)
for call in range(1, last + 1):
    model.detect([images[call % len(images)]])
    resident(call)
"""

# Ten models one after the other, then ten thresholds, each of which needs a new trace; about 90 MB
# each.
MODELS = """
import gc

FAT = {
    "mask_rcnn": {"FPN_CLASSIF_FC_LAYERS_SIZE": 4096},
    "keypoints": {"FPN_CLASSIF_FC_LAYERS_SIZE": 4096},
    "retinanet": {"TOP_DOWN_PYRAMID_SIZE": 512},
    "fcos": {"TOP_DOWN_PYRAMID_SIZE": 512},
}

for count in range(1, last + 1):
    if count <= last // 2:
        model = None  # freed before the next one is built
        gc.collect()
        model = new_model(kind, **FAT[kind])
    else:
        model.config.DETECTION_MIN_CONFIDENCE = 0.5 + count / 100
    model.detect(noise_images(1))
    gc.collect()  # a graph that is no longer used is a reference cycle
    resident(count)
seen["weights"] = sum(weight.numpy().nbytes for weight in model.keras_model.weights) // 1024
"""

REPORT = "\nprint(json.dumps(seen))\n"


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"),
    reason="reads the memory from /proc, which only Linux has",
)
@pytest.mark.parametrize(
    ("kind", "work", "sizes"),
    [
        *(pytest.param(kind, TRAINING, None, id=f"{kind}-training") for kind in KINDS),
        *(pytest.param(kind, DETECTION, SIZES, id=f"{kind}-many-sizes") for kind in KINDS),
        pytest.param("mask_rcnn", DETECTION, SIZES[:1], id="mask_rcnn-one-size"),
    ],
)
def test_memory_of_a_long_run_does_not_grow(kind, work, sizes):
    seen = memory_of(work, kind, FIRST, LAST, sizes)
    assert seen[str(LAST)] <= 1.03 * seen[str(FIRST)], seen


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"),
    reason="reads the memory from /proc, which only Linux has",
)
@pytest.mark.parametrize("kind", KINDS)
def test_deleted_models_and_former_thresholds_free_their_memory(kind):
    # The first two models, and the first two thresholds, fill caches that stay.
    seen = memory_of(MODELS, kind, 2, 24)
    assert seen["12"] - seen["2"] < 0.1 * seen["weights"], seen
    assert seen["24"] - seen["14"] < 0.1 * seen["weights"], seen


def memory_of(work, kind, first, last, sizes=None):
    """`{number of steps: kilobytes}`, the resident memory of a process that does this work.

    kind: of the network, see `tiny_config`.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-c", STEPS + work + REPORT, json.dumps([kind, first, last, sizes])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    print(seen)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "mode", "sizes"),
    [
        pytest.param("mask_rcnn", "square", SIZES[:1], id="mask_rcnn-square-one-size"),
        pytest.param("mask_rcnn", "square", SIZES, id="mask_rcnn-square-many-sizes"),
        pytest.param("mask_rcnn", "pad64", SIZES[:1], id="mask_rcnn-pad64-one-size"),
        *(pytest.param(kind, "pad64", SIZES, id=f"{kind}-pad64-many-sizes") for kind in KINDS),
    ],
)
def test_eight_threads_get_the_results_of_one_thread(kind, mode, sizes):
    """The model has not detected before: one thread compiles the network, the others wait."""
    model = build(kind, IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=128)
    images = noise_images(96, sizes=sizes)
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda image: model.detect([image])[0], images))
    assert sum(len(result["scores"]) for result in results) > len(images)
    for image, result in zip(images, results, strict=True):
        assert_same_results(result, model.detect([image])[0])


def same(result, other):
    return all(np.array_equal(values, other[name]) for name, values in result.items())


# Networks, and whether batch norm is fused into their convolutions.
DETECTING = [("mask_rcnn", False), *((kind, True) for kind in KINDS)]


@pytest.mark.parametrize(("kind", "optimized"), DETECTING)
def test_detection_during_load_weights_uses_the_weights_of_one_file(kind, optimized, tmp_path):
    model, expected = new_model(kind), []
    for seed in (0, 1):
        shake(model, seed).save_weights(tmp_path / f"{seed}.h5")
        if optimized:
            model.optimize_for_inference()
        model.detector._compiled = {}
        expected.append(model.detect(noise_images(1))[0])
    assert not same(*expected)
    loaded = threading.Event()
    with ThreadPoolExecutor(3) as threads:

        def detect_until_loaded():
            found = []
            while not loaded.is_set():
                found += model.detect(noise_images(1))
            return found

        waiting = [threads.submit(detect_until_loaded) for _ in range(3)]
        for i in range(10):
            model.load_weights(tmp_path / f"{i % 2}.h5")
        loaded.set()
        found = [result for future in waiting for result in future.result()]
    assert all(any(same(result, one) for one in expected) for result in found)


@pytest.mark.parametrize(("kind", "optimized"), DETECTING)
def test_deleted_model_frees_its_network_and_graph(kind, optimized):
    model = new_model(kind)
    if optimized:
        model.optimize_for_inference()
    model.detect(noise_images(1))
    (run,) = model.detector._compiled.values()
    objects = (model, model.keras_model, run.get_concrete_function().graph)
    references = [weakref.ref(one) for one in objects]
    del model, run, objects
    gc.collect()
    assert [reference() for reference in references] == [None] * 3

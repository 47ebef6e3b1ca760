"""Measure the speed in units that compare across machines: `python benchmarks/run.py`.

One unit (u) is the time of a float32 3x3 convolution, 256 to 256 channels, on `[1, 256, 256, 256]`
(77.3 GFLOP), with the same TensorFlow, in the same process, before and after the work. Each row
runs in a fresh process, so no row warms up another one, and the peak of resident memory is its own
(including TensorFlow and 0.2 GB for the unit). A shared machine may run at half its speed for some
seconds, so each run of the work is timed between two units, and runs whose two units differ by more
than 10 % are dropped; a value is the median of the others.

A GPU is used if TensorFlow finds one. Weights and images are random: the time does not depend on
their content, and `_check_count` makes sure that the row's number of objects is detected.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
UNIT_GFLOP = 2 * 256 * 256 * 3 * 3 * 256 * 256 / 1e9  # 77.3
STEADY = 1.1  # the units before and after a run may differ by this factor
TRIES = 4  # processes for a row where all differ by more
UNSTEADY, FAILED = "no unit was steady", "failed:"
NOT_APPLICABLE = (
    "not applicable: this processor has no avx512_bf16 or amx_bf16, and there is no GPU"
)


# --- Measuring ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Times:
    """Result of a row: wall seconds of each run, CPU seconds of a run, and optional details.

    units: wall seconds of the unit before and after each run; empty if the row is not in units.
    gflop: of the network, for one run. value: replaces the time in units. note: for people.
    """

    wall: list[float]
    cpu: float
    units: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    gflop: float | None = None
    value: float | None = None
    note: str = ""

    def steady(self) -> list[int]:
        """The runs whose two units agree."""
        return [i for i, pair in enumerate(self.units) if max(pair) <= STEADY * min(pair)]

    def unit_s(self) -> float:
        """Seconds of a unit: median over the steady runs, or over all if no run is steady."""
        return statistics.median(
            statistics.fmean(self.units[i]) for i in self.steady() or range(len(self.units))
        )

    def in_units(self) -> float:
        """Median over the steady runs, or all if no run is steady, relative to their units."""
        runs = self.steady() or range(len(self.units))
        return statistics.median(self.wall[i] / statistics.fmean(self.units[i]) for i in runs)


def timed(
    work: Callable[[], object],
    warm_ups: int = 1,
    rounds: int = 12,
    seconds: float = 0.3,
    enough: int = 5,
):
    """Time `work()` after the warm-ups, until `enough` runs are steady or `rounds` are done.

    Work that takes less than `seconds` is repeated between two units; the minimum is the run's
    time.
    """
    for _ in range(warm_ups):
        work()
    unit = _unit()
    times, cpu, count = Times([], 0.0), 0.0, 0
    before = unit()
    for _ in range(rounds):
        walls, begin, end = [], time.process_time(), time.perf_counter() + seconds
        while not walls or time.perf_counter() < end:
            start = time.perf_counter()
            work()
            walls.append(time.perf_counter() - start)
        cpu, count = cpu + time.process_time() - begin, count + len(walls)
        after = unit()
        times.wall.append(min(walls))
        times.units.append((before, after))
        before = after
        if len(times.steady()) == enough:
            break
    times.cpu = cpu / count
    return times


def plain(work: Callable[[], object], runs: int = 1) -> Times:
    """Time `work()` without units."""
    walls, cpu = [], time.process_time()
    for _ in range(runs):
        start = time.perf_counter()
        work()
        walls.append(time.perf_counter() - start)
    return Times(walls, (time.process_time() - cpu) / runs)


def _unit() -> Callable[[], float]:
    """A warm function that returns the seconds of the unit's convolution."""
    import tensorflow as tf

    image, kernel = tf.random.normal([1, 256, 256, 256]), tf.random.normal([3, 3, 256, 256])

    def unit():
        start = time.perf_counter()
        tf.nn.conv2d(image, kernel, 1, "SAME")[
            0, 0, 0, 0
        ].numpy()  # a GPU returns before the result is computed
        return time.perf_counter() - start

    unit(), unit()
    return unit


def counted_gflop(function, *inputs) -> float:
    """GFLOP of a function's convolutions and matrix products; NaN if a shape is unknown."""
    import numpy as np
    import tensorflow as tf

    specs = tf.nest.map_structure(
        lambda x: tf.TensorSpec(np.shape(x), tf.convert_to_tensor(x).dtype), inputs
    )
    # Convolutions with their own gradient are calls of another graph; here they must be ops of this
    # one.
    with mock.patch(
        "mrcnn.nn.layers.convolution",
        lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"),
    ):
        graph = tf.function(function, autograph=False).get_concrete_function(*specs).graph

    def size(shape):
        return float(np.prod(shape.as_list())) if shape.is_fully_defined() else np.nan

    needed, waiting = set(), [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    while waiting:  # ops that no output needs are not computed
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs] + op.control_inputs
    total = 0.0
    for op in needed:
        if op.type == "Conv2D":
            total += size(op.inputs[1].shape) * size(op.outputs[0].shape[:-1])
        elif op.type == "Conv2DBackpropInput":
            total += size(tf.TensorShape(op.inputs[1].shape)) * size(op.inputs[2].shape[:-1])
        elif op.type == "Conv2DBackpropFilter":
            total += size(op.outputs[0].shape) * size(op.inputs[2].shape[:-1])
        elif op.type in ("MatMul", "BatchMatMulV2"):
            transposed = op.type == "MatMul" and op.get_attr("transpose_a")
            total += size(op.outputs[0].shape) * (
                op.inputs[0].shape[0 if transposed else -1] or np.nan
            )
    return 2 * total / 1e9


def peak_gb() -> float:
    """Peak memory of this process and of those it started, in GB (1e9 bytes)."""
    most = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return most * (1 if sys.platform == "darwin" else 1024) / 1e9


def has_bfloat16() -> bool:
    """Whether hardware computes bfloat16: a GPU, or instructions of the processor."""
    import tensorflow as tf

    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else ()
    return (
        bool(tf.config.list_physical_devices("GPU"))
        or "avx512_bf16" in flags
        or "amx_bf16" in flags
    )


# --- Rows: the network --------------------------------------------------------------------------


def _config(side: int, **values):
    """A `Config` for square images, batches of one, and COCO's number of classes."""
    from mrcnn.config import Config

    config = Config()
    config.NAME, config.NUM_CLASSES, config.IMAGES_PER_GPU = "benchmark", 81, 1
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = side
    for name, value in values.items():
        setattr(config, name, value)
    return config


def random_image(side: int):
    """`[side, side, 3]` uint8, the same each time."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)


def detector(backbone: str, side: int, count: int, **values):
    """A model that detects exactly `count` objects: no RoI is background, and NMS drops few."""
    from mrcnn.model import MaskRCNN

    settings = {
        "DETECTION_MIN_CONFIDENCE": 0,
        "DETECTION_NMS_THRESHOLD": 0.7,
        "DETECTION_MAX_INSTANCES": count,
    }
    model = MaskRCNN("inference", _config(side, BACKBONE=backbone, **settings, **values))
    logits = model.keras_model.get_layer("mrcnn_class_logits")
    kernel, bias = logits.get_weights()
    bias[0] = -1e9  # no RoI is background
    logits.set_weights([kernel, bias])
    return model


def _check_count(model, image) -> None:
    """Detect once; raise unless `DETECTION_MAX_INSTANCES` objects are detected."""
    (result,) = model.detect([image])
    wanted = model.config.DETECTION_MAX_INSTANCES
    if result["masks"].shape[-1] != wanted:
        raise RuntimeError(
            f"{wanted} objects must be detected. Received: {result['masks'].shape[-1]}."
        )


def _detect(backbone: str, side: int, count: int, **values) -> Times:
    import numpy as np

    model, image = detector(backbone, side, count, **values), random_image(side)
    model.optimize_for_inference()
    _check_count(model, image)
    times = timed(lambda: model.detect([image]))
    molded, metas, _ = model.mold_inputs([image])
    inputs = [np.float32(x) for x in (molded, metas, model.get_anchors(molded.shape[1:])[None])]
    network = model.keras_model
    times.gflop = counted_gflop(lambda *x: network(list(x), training=False), *inputs)
    return times


def detect_r101_1024_d35() -> Times:
    """ResNet101, one image of 1024 x 1024, 35 objects detected."""
    return _detect("resnet101", 1024, 35)


def detect_r101_1024_d100() -> Times:
    """ResNet101, one image of 1024 x 1024, 100 objects detected."""
    return _detect("resnet101", 1024, 100)


def detect_r101_1024_d100_bf16() -> Times:
    """The same in bfloat16."""
    return _detect("resnet101", 1024, 100, PRECISION="mixed_bfloat16")


def detect_r50_512_d35() -> Times:
    """ResNet50, one image of 512 x 512, 35 objects detected."""
    return _detect("resnet50", 512, 35)


def detect_r50_512_d35_bf16() -> Times:
    """The same in bfloat16."""
    return _detect("resnet50", 512, 35, PRECISION="mixed_bfloat16")


def _training_step(**values):
    """A training step as a function, its network, and its inputs."""
    from mrcnn.model import MaskRCNN

    # More objects than positive slots, and ground truth among the proposals, fill every slot.
    config = _config(
        256, BACKBONE="resnet50", IMAGES_PER_GPU=2, NUM_CLASSES=4, ROIS_INCLUDE_GT=True, **values
    )
    config.RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    model = MaskRCNN("training", config)
    model.set_trainable(".*", verbose=0)
    model.compile(config.LEARNING_RATE, config.LEARNING_MOMENTUM)
    network = model.keras_model
    network.optimizer.build(network.trainable_variables)
    inputs, _ = _batches(config, instances=config.MAX_GT_INSTANCES)[0]
    inputs = [x.astype(i.dtype) for x, i in zip(inputs, network.inputs, strict=True)]

    slots = (
        network.train_on_batch(list(inputs), return_dict=True)["positive_rois"]
        * config.TRAIN_ROIS_PER_IMAGE
    )
    if round(float(slots)) != int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO):
        raise RuntimeError(f"All positive slots must be filled. Received: {slots} per image.")
    return lambda: network.train_on_batch(list(inputs)), network, inputs


def _train(**values) -> Times:
    import tensorflow as tf

    step, network, inputs = _training_step(**values)
    times = timed(step, warm_ups=2)

    def forward_and_backward(*inputs):  # without the optimizer
        with tf.GradientTape() as tape:
            inputs = network.inputs_of((list(inputs),))
            loss = network.weighted_losses(inputs, network(inputs, training=True))["loss"]
        return tape.gradient(loss, network.trainable_variables)

    times.gflop = counted_gflop(forward_and_backward, *inputs)
    return times


def train_r50_256() -> Times:
    """A step of ResNet50, two 256 x 256 images, all layers, 66 positive RoIs per image."""
    return _train()


def train_r50_256_bf16() -> Times:
    """The same in bfloat16."""
    return _train(PRECISION="mixed_bfloat16")


def train_r50_256_boxes() -> Times:
    """The step without masks (Faster R-CNN), relative to the step with masks, in turns."""
    steps = [_training_step(USE_MASK=masks)[0] for masks in (True, False)]
    masks, boxes = zip(*([plain(step) for step in steps] for _ in range(8)), strict=True)
    least, wall = (
        min(times.wall[0] for times in masks[1:]),
        [times.wall[0] for times in boxes[1:]],
    )  # warm by then
    note = f"with masks {least:.2f} s, without {min(wall):.2f} s"
    return Times(wall, boxes[-1].cpu, value=min(wall) / least, note=note)


def build_r101() -> Times:
    """The first network of a process: ResNet101 for inference."""
    from mrcnn.model import MaskRCNN

    return timed(lambda: MaskRCNN("inference", _config(1024)), warm_ups=0, rounds=1, seconds=0)


def first_detect(optimized: bool = False) -> Times:
    """The first `detect` of a ResNet101 model, minus a later one."""
    model, image = detector("resnet101", 1024, 35), random_image(1024)
    start = time.perf_counter()
    note = (
        f"{model.optimize_for_inference()} fused in {time.perf_counter() - start:.1f} s"
        if optimized
        else ""
    )
    first = timed(lambda: model.detect([image]), warm_ups=0, rounds=1, seconds=0)
    later = timed(lambda: model.detect([image]), rounds=6, enough=3)
    warm = later.in_units() * statistics.fmean(first.units[0])
    return dataclasses.replace(
        first, wall=[first.wall[0] - warm], cpu=first.cpu - later.cpu, note=note
    )


def first_detect_optimized() -> Times:
    """The same after `optimize_for_inference`, as `mrcnn detect` does."""
    return first_detect(optimized=True)


# --- Rows: around the network -------------------------------------------------------------------


def _boxes(count: int, side: int, seed: int = 0):
    """`[count, (y1, x1, y2, x2)]` int32 boxes, sides from 1/32 to 1/4 of the image's."""
    import numpy as np

    rng = np.random.default_rng(seed)
    sizes = rng.integers(side // 32, side // 4, (count, 2))
    corners = rng.integers(0, side - sizes)
    return np.concatenate([corners, corners + sizes], axis=1).astype(np.int32)


def finish_1024_d100() -> Times:
    """All of `detect` except the network: an image of 1024 x 1024 molded, 100 masks pasted."""
    import numpy as np
    import tensorflow as tf

    import mrcnn.model
    from mrcnn.nn.boxes import normalize

    model = mrcnn.model.MaskRCNN("inference", _config(1024, BACKBONE="resnet50"))
    rng = np.random.default_rng(0)
    class_ids, scores = rng.integers(1, 81, (100, 1)), np.linspace(1, 0.7, 100)[:, None]
    detections = np.concatenate(
        [normalize(_boxes(100, 1024), (1024, 1024)), class_ids, scores], axis=1
    )
    outputs = detections, rng.random((1000, 81)), 0, rng.random((100, 28, 28, 1))
    outputs = [tf.constant(np.float32(output)[None]) for output in outputs]

    model.detector.run_with(lambda inputs: outputs)  # instead of the network
    image = random_image(1024)
    _check_count(model, image)
    return timed(lambda: model.detect([image]))


def _batches(config, instances: int, generator=None, **values):
    """A generator whose images are all the same one with `instances` filled ellipses."""
    import cv2
    import numpy as np

    from mrcnn.data.dataset import Dataset
    from mrcnn.data.generator import DataGenerator

    side = config.IMAGE_MAX_DIM
    masks = np.zeros((instances, side, side), np.uint8)
    for mask, (y1, x1, y2, x2) in zip(masks, _boxes(instances, side).tolist(), strict=True):
        cv2.ellipse(
            mask,
            ((x1 + x2) // 2, (y1 + y2) // 2),
            ((x2 - x1) // 2, (y2 - y1) // 2),
            0,
            0,
            360,
            1,
            -1,
        )
    image, masks = (
        random_image(side),
        np.ascontiguousarray(np.moveaxis(masks, 0, -1)).astype(bool),
    )  # [H, W, N]
    class_ids = np.arange(instances, dtype=np.int32) % (config.NUM_CLASSES - 1) + 1

    class Ellipses(Dataset):
        def load_image(self, image_id):
            return image

        def load_mask(self, image_id):
            return masks, class_ids

    dataset = Ellipses()
    for class_id in range(1, config.NUM_CLASSES):
        dataset.add_class("benchmark", class_id, str(class_id))
    for i in range(64):
        dataset.add_image("benchmark", i, path=None)
    dataset.prepare()
    return (generator or DataGenerator)(
        dataset, config, batch_size=config.BATCH_SIZE, seed=0, **values
    )


def _generator(**values) -> Times:
    batches = _batches(_config(1024, **values), instances=10)
    return timed(lambda: batches[0])


def generator_1024_mini() -> Times:
    """A training example from an image of 1024 x 1024 with 10 instances as mini-masks."""
    return _generator()


def generator_1024_full() -> Times:
    """The same with full masks."""
    return _generator(USE_MINI_MASK=False)


def generator_scaling() -> Times:
    """Images per second in the training pipeline: two workers relative to one."""
    os.environ.update(
        dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    )
    import cv2

    from mrcnn.model import MaskRCNN
    from mrcnn.training.pipeline import Batches, stream

    cv2.setNumThreads(1)
    config, images, rounds, walls = _config(1024, BACKBONE="resnet50"), 40, 7, {1: [], 2: []}
    network = MaskRCNN("training", config).keras_model
    batches = {
        workers: _batches(config, 10, Batches, workers=workers, steps=images) for workers in walls
    }
    streams = {workers: iter(stream(made, network)) for workers, made in batches.items()}
    for _ in range(rounds):  # in turns, so that a disturbance meets both
        for workers, seconds in walls.items():
            for _ in range(10):  # examples prefetched while the other stream was read
                next(streams[workers])
            times = plain(lambda: next(streams[workers]), images)  # noqa: B023
            seconds.append(sum(times.wall))
    for made in batches.values():
        made.stop()
    gain = statistics.median(one / two for one, two in zip(walls[1], walls[2], strict=True))
    rates = [images / statistics.median(seconds) for seconds in walls.values()]
    processes = _gain_of_processes(images, rounds)
    note = f"{rates[0]:.1f} and {rates[1]:.1f} images/s; two processes {processes:.2f} times"
    return Times(walls[2], times.cpu, value=gain, note=note)


def _gain_of_processes(images: int, rounds: int) -> float:
    """Images per second of two processes, which share no lock, relative to one process."""
    context = multiprocessing.get_context("spawn")
    barrier, seconds = (
        context.Barrier(3, timeout=300),
        [],
    )  # so that no process waits for ever if another one dies
    workers = [
        context.Process(target=_make_images, args=(first, images, rounds, barrier))
        for first in (True, False)
    ]
    for worker in workers:
        worker.start()
    for _ in range(2 * rounds):
        barrier.wait()
        start = time.perf_counter()
        barrier.wait()
        seconds.append(time.perf_counter() - start)
    for worker in workers:
        worker.join()
    return statistics.median(
        2 * one / two for one, two in zip(seconds[::2], seconds[1::2], strict=True)
    )


def _make_images(first: bool, images: int, rounds: int, barrier) -> None:
    """Make images between barriers: the first process in each turn, the second in every other."""
    import cv2

    cv2.setNumThreads(1)
    batches = _batches(_config(1024, BACKBONE="resnet50"), instances=10)
    batches[0]
    for turn in range(2 * rounds):
        barrier.wait()
        for i in range(images if first or turn % 2 else 0):
            batches[i]
        barrier.wait()


def rpn_targets() -> Times:
    """RPN targets of 261,888 anchors for 20 boxes."""
    import numpy as np

    from mrcnn.data.rpn_targets import build_rpn_targets
    from mrcnn.nn.anchors import pyramid_anchors

    config = _config(1024)
    anchors, gt_boxes = pyramid_anchors(config, (1024, 1024)), _boxes(20, 1024)
    rng, class_ids = np.random.default_rng(0), np.ones(20, np.int32)
    return timed(lambda: build_rpn_targets((1024, 1024), anchors, class_ids, gt_boxes, config, rng))


def _soft_masks(count: int):
    """`[count, 28, 28]` float32: discs with a soft edge, like the output of a trained network."""
    import numpy as np

    y, x = np.mgrid[:28, :28] - 13.5
    radii = np.random.default_rng(0).uniform(8, 14, (count, 1, 1))
    return np.float32(1 / (1 + np.exp(np.hypot(y, x) - radii)))


def paste_100() -> Times:
    """100 masks of 28 x 28 pasted into an image of 1024 x 1024."""
    from mrcnn.data.masks import unmold_masks

    masks, boxes = _soft_masks(100), _boxes(100, 1024)
    return timed(lambda: unmold_masks(masks, boxes, (1024, 1024)))


def paste_100_rle() -> Times:
    """The same masks as run-length encodings of the image."""
    from mrcnn.formats.rle import unmold_rles

    masks, boxes = _soft_masks(100), _boxes(100, 1024)
    return timed(lambda: unmold_rles(masks, boxes, (1024, 1024)))


def coco_eval_500x100() -> Times:
    """COCO's mask AP of 500 images x 100 detections: faster-coco-eval relative to pycocotools."""
    import faster_coco_eval
    from pycocotools import coco, cocoeval

    truth, results = _coco_data(500, objects=10, detections=100)

    def work(coco_class, eval_class):
        with contextlib.redirect_stdout(None):
            known = coco_class()
            known.dataset = truth
            known.createIndex()
            evaluation = eval_class(
                known, known.loadRes([dict(result) for result in results]), "segm"
            )
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()

    slow = plain(lambda: work(coco.COCO, cocoeval.COCOeval))
    faster = plain(lambda: work(faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster))
    note = f"pycocotools {slow.wall[0]:.2f} s, faster-coco-eval {faster.wall[0]:.2f} s"
    return dataclasses.replace(faster, value=faster.wall[0] / slow.wall[0], note=note)


def _coco_data(images: int, objects: int, detections: int) -> tuple[dict, list[dict]]:
    """Ground truth and results in COCO's format: rectangles, each detected once, shifted."""
    import numpy as np
    from pycocotools import mask as coco_mask

    def shape(box):
        y1, x1, y2, x2 = (float(side) for side in box)
        (rle,) = coco_mask.frPyObjects([[x1, y1, x2, y1, x2, y2, x1, y2]], 512, 512)
        rle["counts"] = rle["counts"].decode("ascii")
        return {
            "segmentation": rle,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
        }

    rng, annotations, results = np.random.default_rng(0), [], []
    for image_id in range(1, images + 1):
        boxes, classes = _boxes(detections, 512, image_id), rng.integers(1, 81, detections)
        for i, (box, class_id) in enumerate(zip(boxes, classes.tolist(), strict=True)):
            row = {"image_id": image_id, "category_id": class_id}
            if i < objects:
                annotations.append({**row, **shape(box), "id": len(annotations) + 1, "iscrowd": 0})
            results.append(
                {**row, **shape(box + rng.integers(-3, 4, 4)), "score": float(rng.random())}
            )
    truth = {
        "images": [{"id": i, "height": 512, "width": 512} for i in range(1, images + 1)],
        "categories": [{"id": i, "name": str(i)} for i in range(1, 81)],
        "annotations": annotations,
    }
    return truth, results


def help() -> Times:  # noqa: A001 - the name of the row
    """`mrcnn --help`, a process of its own."""
    command = [sys.executable, "-m", "mrcnn", "--help"]
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = plain(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), 8)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    return dataclasses.replace(times, cpu=seconds / len(times.wall), value=min(times.wall))


# --- The table ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Row:
    """One line of the table. target: value to reach, or None. unit: "u", or the unit of `value`."""

    work: Callable[[], Times]
    target: float | None
    unit: str = "u"
    direction: str = "lower"  # is better

    @property
    def name(self) -> str:
        return self.work.__name__

    def record(self, note: str, value: float | None = None, reached: bool | None = None) -> dict:
        """The row as an entry of the JSON file."""
        about = {"unit": self.unit, "direction": self.direction, "target": self.target}
        return {"name": self.name, "value": value, **about, "reached": reached, "note": note}


ROWS = (
    Row(detect_r101_1024_d35, 9.9),
    Row(detect_r101_1024_d100, 10.9),
    Row(detect_r101_1024_d100_bf16, 6.2),
    Row(detect_r50_512_d35, 2.75),
    Row(detect_r50_512_d35_bf16, 1.75),
    Row(finish_1024_d100, 0.17),
    Row(train_r50_256, 9.8),
    Row(train_r50_256_bf16, 6.2),
    Row(train_r50_256_boxes, 0.55, "of train_r50_256"),
    Row(generator_1024_mini, 0.095),
    Row(generator_1024_full, 0.19),
    Row(generator_scaling, 1.8, "times", "higher"),
    Row(rpn_targets, 0.05),
    Row(paste_100, 0.06),
    Row(paste_100_rle, 0.03),
    Row(build_r101, 7),
    Row(first_detect, 9),
    Row(first_detect_optimized, 9),
    Row(coco_eval_500x100, 0.35, "of pycocotools"),
    Row(help, 0.3, "s"),
)


def measure(row: Row) -> dict:
    """Measure a row in this process: its JSON record, with the seconds of its unit as "unit_s"."""
    if row.name.endswith("_bf16") and not has_bfloat16():
        return row.record(NOT_APPLICABLE)
    times = row.work()
    note = [
        f"wall {min(times.wall):.3g} s "
        f"(median {statistics.median(times.wall):.3g} of {len(times.wall)})"
    ]
    note += [f"CPU {times.cpu:.3g} s", f"peak {peak_gb():.2f} GB"]
    value, seconds = times.value, None
    if row.unit == "u":
        seconds, value = times.unit_s(), times.in_units()
        note.append(
            f"{len(times.steady())} steady of {len(times.wall)}" if times.steady() else UNSTEADY
        )
    if times.gflop:
        rate = times.gflop / (value * seconds)
        note.append(
            f"{times.gflop:.1f} GFLOP, {rate:.0f} GFLOP/s, "
            f"{rate * seconds / UNIT_GFLOP:.2f} of the unit's rate"
        )
    if times.note:
        note.append(times.note)
    reached = (
        None
        if row.target is None
        else value <= row.target
        if row.direction == "lower"
        else value >= row.target
    )
    return {**row.record("; ".join(note), float(f"{value:.4g}"), reached), "unit_s": seconds}


def environment() -> dict[str, str]:
    """Environment of a measuring process: this checkout, TensorFlow as the command sets it."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    defaults = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_CPU_ALLOCATOR_USE_BFC": "1",
        "TF_CPU_BFC_MEM_LIMIT_IN_MB": str(2**24),
    }
    return {**defaults, **os.environ, "PYTHONPATH": path}


def measured_apart(row: Row) -> dict:
    """Measure a row in a fresh process; repeat while no unit is steady."""
    command = [sys.executable, __file__, "--child", row.name]
    for _ in range(TRIES):
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        if done.returncode:
            return row.record(f"{FAILED} {(done.stderr.splitlines() or ['no message'])[-1]}")
        record = json.loads(done.stdout.splitlines()[-1])
        if UNSTEADY not in record["note"]:
            break
    return record


def cpu_name() -> str:
    """Name of the processor and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def line(record: dict) -> str:
    """A record as a line of the table."""
    sign = "<=" if record["direction"] == "lower" else ">="
    value = "-" if record["value"] is None else f"{record['value']:.4g}"
    target = "" if record["target"] is None else f"{sign} {record['target']:g}"
    reached = {True: "yes", False: "NO", None: ""}[record["reached"]]
    columns = f"{record['name']:27}{value:>8} {record['unit']:15}{target:>9}  {reached:4}"
    return f"{columns} {record['note']}"


def main() -> int:
    rows = {row.name: row for row in ROWS}
    names = list(rows)
    parser = argparse.ArgumentParser(
        description="Measure how fast the package is, in units of one convolution."
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there too")
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=names, help=f"of {', '.join(names)}"
    )
    parser.add_argument("--child", metavar="NAME", choices=names, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(rows[args.child])))
        return 0
    chosen, records, units = args.only or names, [], []
    print(f"{cpu_name()}\n{'row':27}{'value':>8} {'unit':15}{'target':>9}  {'':4} note", flush=True)
    for i, name in enumerate(chosen, start=1):
        if sys.stderr.isatty():
            print(f"{i}/{len(chosen)} {name} ...", end="\r", file=sys.stderr, flush=True)
        record = measured_apart(rows[name])
        units.append(record.pop("unit_s", None))
        records.append(record)
        print(line(record), flush=True)
    units = [seconds for seconds in units if seconds]
    seconds = statistics.median(units) if units else None
    if seconds:
        spread = f"median of {min(units):.3f} to {max(units):.3f}"
        print(f"1 unit = {seconds:.3f} s = {UNIT_GFLOP / seconds:.0f} GFLOP/s ({spread})")
    if args.json:
        args.json.write_text(
            json.dumps({"unit_s": seconds, "cpu": cpu_name(), "rows": records}, indent=1) + "\n"
        )
    return 1 if any(record["note"].startswith(FAILED) for record in records) else 0


if __name__ == "__main__":
    sys.exit(main())

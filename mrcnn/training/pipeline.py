"""Batches of a dataset as a tf.data pipeline that feeds the training step."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..config import PAD32_MODES
from ..data.generator import DataGenerator
from ..data.image import to_uint8
from .distributed import hosts_of


class Work(NamedTuple):
    """The work of a worker thread. image_ids: of its batch. since: its start, `time.time()`."""

    image_ids: list[int]
    since: float


class Batches(DataGenerator):
    """The generator of a training: its images `[B, H, W, C]` are uint8, see `image_type`.

    in_progress: by worker thread, the batch that it makes.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.in_progress: dict[int, Work] = {}
        self.stopped = False

    def batch(self, number: int, rows: range | None = None):
        worker = threading.get_ident()
        image_ids = self.batch_image_ids(0, number)
        if rows is not None:
            image_ids = [image_ids[row] for row in rows]
        self.in_progress[worker] = Work(image_ids, time.time())
        try:
            return super().batch(number, rows)
        finally:
            del self.in_progress[worker]

    @property
    def image_type(self) -> str:
        """The type of the images: float32 if the resize mode makes floats (PAD32_MODES)."""
        return "float32" if self.config.IMAGE_RESIZE_MODE in PAD32_MODES else "uint8"

    def as_input(self, image: np.ndarray) -> np.ndarray:
        """Return the image as uint8: a quarter of the bytes to transfer; `train_step` molds it.

        Images of float32 are molded here.
        """
        if self.image_type == "float32":
            return super().as_input(image)
        return to_uint8(image)  # an augmentation may have returned floats

    def stop(self) -> None:
        """Make no more batches and wait for the workers: a busy one would hang Python's exit."""
        self.stopped = True
        while self.in_progress:
            time.sleep(0.01)

    def batch_image_ids(self, epoch: int, index: int) -> list[int]:
        """Return the image ids of a batch, assuming that every image is readable."""
        start = (epoch * self.steps + index) * self.batch_size
        return [int(self.image_id(start + i)) for i in range(self.batch_size)]

    def names(self, image_ids: list[int]) -> str:
        """Return the images as text: `3 (/data/a.png), 7 (/data/b.png)`."""
        names = []
        for image_id in image_ids:
            info = self.dataset.image_info[image_id]
            names.append(f"{image_id} ({info.get('path') or info.get('id')})")
        return ", ".join(names)


def stream(
    batches: Batches, network: keras.Model, endless: bool = True
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Return a tf.data pipeline of the batches from their current epoch on.

    Several hosts: each host makes only its own rows of every batch, one piece per device in turn.

    (From a `DataGenerator` itself, Keras would make an epoch of batches before the first and drop
    it. If images vary in size, it would take the size of the first two batches for that of all.)

    endless: False ends the pipeline after one epoch, the same one at each iteration.

    Returns: elements `(inputs,)`, as the inputs of the network.
    """
    strategy = network.distribute_strategy
    dtypes = [batches.image_type, *(i.dtype for i in network.inputs[1:])]
    shapes = [i.shape for i in network.inputs]
    specs = [tf.TensorSpec(*spec) for spec in zip(shapes, dtypes, strict=True)]

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return _pipeline(batches, specs, context, endless)

    if hosts_of(strategy):
        return strategy.distribute_datasets_from_function(pipeline)
    return pipeline(
        tf.distribute.InputContext()
    )  # whole batches: Keras splits them over the devices


def _pipeline(batches, specs, context, endless) -> tf.data.Dataset:
    pieces = context.num_replicas_in_sync // context.num_input_pipelines  # of a batch on this host
    size = batches.batch_size // context.num_replicas_in_sync
    dtypes = [spec.dtype for spec in specs]

    def load(position) -> list[np.ndarray]:
        if batches.stopped:
            raise StopIteration
        number, piece = divmod(int(position), pieces)
        start = (context.input_pipeline_id * pieces + piece) * size
        inputs, _ = batches.batch(number, range(start, start + size))
        return [np.asarray(x, spec.dtype.name) for x, spec in zip(inputs, specs, strict=True)]

    def tensors(position: tf.Tensor) -> tuple[tuple[tf.Tensor, ...]]:
        loaded = tf.numpy_function(load, [position], dtypes)
        shaped = (tf.ensure_shape(x, spec.shape) for x, spec in zip(loaded, specs, strict=True))
        return (tuple(shaped),)

    first = batches.epoch * batches.steps * pieces
    end = np.iinfo(np.int64).max if endless else first + batches.steps * pieces
    # No parameter is left to tune, and the tuning thread delays the end of a pipeline.
    options = tf.data.Options()
    options.autotune.enabled = False
    positions = tf.data.Dataset.range(first, end)
    loaded = positions.map(tensors, num_parallel_calls=batches.workers)
    return loaded.prefetch(2).with_options(options)

"""The Keras models behind a `DetectionModel`: weight files by name, and the training step."""

from __future__ import annotations

import logging
import os
import threading
import types
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from ..config import Config
from ..nn.losses import mean
from ..nn.molding import mold_on_device
from ..nn.weight_decay import plain_weight_decay, weight_decay
from ..weights import loading, saving
from .distributed import all_reduce_sum, device_count, hosts_of
from .optimizer import gradient_scale
from .trainable import leaves

log = logging.getLogger("mrcnn")


# Metrics of a training besides its losses: the global norm of the gradient before clipping, and the
# share of RoIs that match an object.
EXTRA_METRICS = ("gradient_norm", "positive_rois")


@keras.saving.register_keras_serializable("mrcnn")
class Network(keras.Model):
    """A Keras model that can also save and load its weights in matterport's `.h5` format.

    The path decides: `.h5` and `.hdf5` are matterport's, `.weights.h5` and other names are Keras'.
    """

    # Returns the description of the network in files: config and class names. `MaskRCNN` sets it.
    describe: Any = None

    def get_config(self) -> dict:
        """Return the data to rebuild the network: config, class names, names of frozen layers."""
        frozen = [layer.name for layer in leaves(self) if not layer.trainable]
        return {**self.describe(), "frozen": frozen}

    def save(self, filepath, overwrite: bool = True, **kwargs):
        """Save the whole network as `keras.Model.save` does; export a SavedModel to a folder."""
        if os.path.splitext(filepath)[1]:
            return super().save(filepath, overwrite=overwrite, **kwargs)
        return self.export(filepath)

    def _make_predict_function(self) -> None:
        """Accept the call of scripts for Keras 2, which make it before threads call `predict`."""

    def save_weights(self, filepath, overwrite: bool = True, **kwargs):
        """Save the weights in the format that the path asks for."""
        if not _is_matterport_name(filepath):
            return super().save_weights(filepath, overwrite=overwrite, **kwargs)
        if not overwrite and os.path.exists(filepath):
            raise ValueError(
                "With overwrite=False the file must not exist. "
                f"Received: {filepath}. Try another name."
            )
        metadata = self.describe() if self.describe else None
        return saving.save_weights(self, filepath, metadata=metadata)

    def load_weights(
        self, filepath, skip_mismatch: bool = False, by_name: bool = True, exclude=None, **kwargs
    ):
        """Load weights in the format that the path asks for.

        by_name: unused; layers of a matterport file are always matched by name.
        exclude: names of layers that keep their weights.
        """
        if not _is_matterport_name(filepath):
            return super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        return loading.load_weights(
            self, filepath, exclude=exclude, allow_head_mismatch=skip_mismatch
        )

    def fit(
        self, x=None, *args, workers=None, use_multiprocessing=None, max_queue_size=None, **kwargs
    ):
        """Train as `keras.Model.fit` does.

        No thread reads from a Python generator after this has returned: a TensorFlow thread that
        is still inside one would hang Python's exit.

        workers, use_multiprocessing, max_queue_size: arguments of Keras 2; unused, with a warning.
            In Keras 3 a `DataGenerator` has its own number of workers.
        """
        keras_2 = {
            "workers": workers,
            "use_multiprocessing": use_multiprocessing,
            "max_queue_size": max_queue_size,
        }
        unused = [name for name, value in keras_2.items() if value is not None]
        if unused:
            names = ", ".join(unused)
            log.warning("keras_model.fit ignores %s: Keras 3 does not have these arguments.", names)
        generators: list[StoppableGenerator] = []
        if "validation_data" in kwargs:
            kwargs["validation_data"] = _make_stoppable(kwargs["validation_data"], generators)
        try:
            return super().fit(_make_stoppable(x, generators), *args, **kwargs)
        finally:
            for generator in generators:
                generator.stop()

    def fit_generator(
        self, generator, steps_per_epoch=None, epochs=1, verbose=1, callbacks=None, **kwargs
    ):
        """Call `fit`, which takes generators; scripts for Keras 2 use this name."""
        return self.fit(
            generator,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            **kwargs,
        )


class StoppableGenerator:
    """A Python generator of batches that another thread reads until `stop` is called."""

    def __init__(self, batches: types.GeneratorType):
        self.batches = batches
        self.stopped = False
        self.lock = threading.Lock()

    def read(self) -> Iterator:
        """Yield the generator's items."""
        while True:
            with self.lock:
                if self.stopped:
                    return
                try:
                    batch = next(self.batches)
                except StopIteration:
                    return
            yield batch

    def stop(self) -> None:
        """Wait until no thread is inside the generator, and keep all threads out from then on."""
        with self.lock:
            self.stopped = True


def _make_stoppable(data, generators: list[StoppableGenerator]):
    """Return the data to read; a Python generator is wrapped and appended to `generators`."""
    if not isinstance(data, types.GeneratorType):
        return data
    generator = StoppableGenerator(data)
    generators.append(generator)
    return generator.read()


def _is_matterport_name(path) -> bool:
    name = os.fspath(path)
    return name.endswith((".h5", ".hdf5")) and not name.endswith(".weights.h5")


@keras.saving.register_keras_serializable("mrcnn")
class TrainingNetwork(Network):
    """The functional network with the training step: named outputs to losses to an update.

    A subclass defines `losses`.
    """

    def __init__(self, *args, config: Config | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.config = config or Config()
        names = ("loss", *self.config.loss_names(), "weight_decay", *EXTRA_METRICS)
        self.means = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.means.values())

    def weighted_losses(self, inputs, outputs) -> dict[str, Any]:
        """Return each loss times its LOSS_WEIGHTS, the weight decay, and their sum as `"loss"`.

        On several devices these are this device's shares, which add up to those of the whole batch.
        """
        halves = self.losses(inputs, outputs)
        counts = all_reduce_sum(count for _, count in halves.values())
        weights: dict[Any, float] = self.config.LOSS_WEIGHTS
        values = {}
        for (key, (numerator, _)), count in zip(halves.items(), counts, strict=True):
            name = key.split("/")[0]  # the losses of one name are added up
            values[name] = values.get(name, 0.0) + mean(numerator, count) * weights.get(name, 1.0)
        values["weight_decay"] = self._weight_decay() / device_count()
        return {"loss": sum(values.values()), **values}

    def _weight_decay(self) -> Any:
        config, weights = self.config, self.trainable_weights
        if config.WEIGHT_DECAY_RULE == "matterport":
            return weight_decay(weights, config.WEIGHT_DECAY)
        return plain_weight_decay(
            weights, config.WEIGHT_DECAY, config.WEIGHT_DECAY_BIASES, config.WEIGHT_DECAY_NORMS
        )

    def losses(self, inputs, outputs) -> dict[str, tuple]:
        """Return `(numerator, count)` of each loss by name, or name/number for parts of a sum."""
        raise NotImplementedError

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        """Skip Keras' build: the network and its optimizer are built before `fit`.

        Keras calls this on several devices, and averages a batch over them, which fails for bool
        masks. If Keras renames the method, tests/test_devices.py fails.
        """

    def train_step(self, data) -> dict[str, Any]:
        inputs = self.inputs_of(data)
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            values = self.weighted_losses(inputs, outputs)
            scaled_loss = self.optimizer.scale_loss(values["loss"])
        norm, is_finite = self._apply(tape.gradient(scaled_loss, self.trainable_variables))
        for name, value in values.items():
            self.means[name].update_state(value * device_count())
        self.means["gradient_norm"].update_state(norm, sample_weight=is_finite)
        names = [*values, "gradient_norm"]
        if "target_class_ids" in outputs:
            is_positive = tf.cast(outputs["target_class_ids"] > 0, tf.float32)
            self.means["positive_rois"].update_state(tf.reduce_mean(is_positive))
            names.append("positive_rois")
        return self._results(names)

    def test_step(self, data) -> dict[str, Any]:
        inputs = self.inputs_of(data)
        outputs = self(inputs, training=False)
        values = self.weighted_losses(inputs, outputs)
        for name, value in values.items():
            self.means[name].update_state(value * device_count())
        return self._results(values)

    def inputs_of(self, data) -> list[tf.Tensor]:
        """Return the network's inputs for a batch; images of uint8 are molded here."""
        images, *others = (tf.convert_to_tensor(x) for x in data[0])
        if images.dtype == tf.uint8:
            images = mold_on_device(images, self.config)
        return [images, *others]

    def _apply(self, gradients) -> tuple[tf.Tensor, tf.Tensor | bool]:
        """Update the weights by this device's gradients, clipped by their global norm.

        Returns: the norm before clipping, and False if float16 gradients overflowed:
            LossScaleOptimizer then skips the step and lowers the loss scale.
        """
        variables = self.trainable_variables
        # Clipped after the sum over all devices: Keras would clip the gradients of each device.
        gradients = all_reduce_sum(gradients)
        norm = tf.linalg.global_norm(gradients) / self.optimizer.scale_loss(1.0)
        max_norm = self.config.GRADIENT_CLIP_NORM
        if self.config.GRADIENT_ACCUMULATION_STEPS > 1:
            max_norm = (
                None  # these are the gradients of one micro-batch; the optimizer clips their mean
            )
        # The optimizer adds up the gradients of all devices.
        scale = gradient_scale(norm, max_norm) / device_count()
        is_finite = True
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            is_finite = tf.math.is_finite(norm)
            norm = tf.where(is_finite, norm, 0.0)
            scale = tf.where(is_finite, scale, 1.0)
        scaled = [tf.math.multiply_no_nan(gradient, scale) for gradient in gradients]
        self.optimizer.apply(scaled, variables)
        return norm, is_finite

    def _results(self, names) -> dict[str, Any]:
        """Return the running means by name."""
        results: dict[str, Any] = {name: self.means[name].result() for name in names}
        if hosts_of(tf.distribute.get_strategy()):
            # Keras averages over the hosts along the first axis, and fails for scalars.
            return {name: result[None] for name, result in results.items()}
        return results

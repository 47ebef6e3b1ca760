"""The loop: the network that trains, which layers learn, compile, fit, going on where it stopped."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
import types
import zlib
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ..config import LOSS_NAMES
from ..data.check import check_before_training
from ..data.generator import DataGenerator
from ..data.image import to_uint8
from ..data.image_order import class_ids_per_image, repeat_factors
from ..files.atomic import remove_parts
from ..files.file_names import free_name
from ..nn import losses
from ..nn.backbones import BACKBONES
from ..nn.image_meta import split_image_meta
from ..nn.molding import mold_on_device
from ..weights import loading, saving
from . import distributed as hosts
from .callbacks import (
    AveragedWeights,
    Checkpoint,
    CountEpochs,
    DetectionPictures,
    Interrupts,
    KeepBest,
    LossTable,
    Progress,
    Rates,
    ScheduledRate,
    Stalls,
    StopAtNonFinite,
    TensorBoard,
)
from .run import FolderName, TrainingRun
from .training_state import read_about, restore_state, state_path

log = logging.getLogger("mrcnn")


# What a training logs besides its losses: the global norm of the gradient before it is clipped, and the share of
# RoIs that have an object.
WATCHED = ("gradient_norm", "positive_rois")


# --- The network that trains ------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn")
class Network(keras.Model):
    """A Keras model that also keeps its weights in matterport's `.h5`, whatever the file's name.

    (Keras itself writes only names ending in `.weights.h5`, and still does.)
    """

    describe = None  # what a file says of its network: a function that MaskRCNN sets

    def get_config(self):
        """What builds the network again, as data: settings, class names, and the layers that do not learn."""
        return {
            **self.describe(),
            "frozen": [layer.name for layer in leaves(self) if not layer.trainable],
        }

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the whole network as `keras.Model.save` does; to a folder, export it as a SavedModel."""
        if os.path.splitext(filepath)[1]:
            return super().save(filepath, overwrite=overwrite, **kwargs)
        return self.export(filepath)

    def _make_predict_function(self):
        """Nothing: Keras 2 needed it before threads called predict(), and scripts still call it."""

    def save_weights(self, filepath, overwrite=True, **kwargs):
        if not _is_matterport_name(filepath):
            return super().save_weights(filepath, overwrite=overwrite, **kwargs)
        if not overwrite and os.path.exists(filepath):
            raise ValueError(
                f"With overwrite=False the file must not exist. Received: {filepath}. Try another name."
            )
        return saving.save_weights(
            self, filepath, metadata=self.describe() if self.describe else None
        )

    def load_weights(self, filepath, skip_mismatch=False, by_name=True, exclude=None, **kwargs):
        if not _is_matterport_name(filepath):
            return super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        return loading.load_weights(
            self, filepath, exclude=exclude, allow_head_mismatch=skip_mismatch
        )

    def fit(
        self, x=None, *args, workers=None, use_multiprocessing=None, max_queue_size=None, **kwargs
    ):
        """Train as `keras.Model.fit` does. The three keywords are Keras 2's; they are unused, and a warning says so.

        In Keras 3 a `DataGenerator` has its own number of workers. Python generators are not read any more once this
        returns: a thread of TensorFlow that is still in one would hang Python's exit.
        """
        keywords = {
            "workers": workers,
            "use_multiprocessing": use_multiprocessing,
            "max_queue_size": max_queue_size,
        }
        unused = [name for name, value in keywords.items() if value is not None]
        if unused:
            log.warning(
                "keras_model.fit ignores %s: Keras 3 has no such arguments.", ", ".join(unused)
            )
        generators = []

        def stoppable(batches):
            if isinstance(batches, types.GeneratorType):
                generators.append(StoppableGenerator(batches))
                batches = generators[-1].read()
            return batches

        if "validation_data" in kwargs:
            kwargs["validation_data"] = stoppable(kwargs["validation_data"])
        try:
            return super().fit(stoppable(x), *args, **kwargs)
        finally:
            for generator in generators:
                generator.stop()

    def fit_generator(
        self, generator, steps_per_epoch=None, epochs=1, verbose=1, callbacks=None, **kwargs
    ):
        """Call `fit`, which has taken generators since Keras 2.1; scripts still use the old name."""
        options = {
            "steps_per_epoch": steps_per_epoch,
            "epochs": epochs,
            "verbose": verbose,
            "callbacks": callbacks,
        }
        return self.fit(generator, **options, **kwargs)


class StoppableGenerator:
    """A Python generator of batches that another thread reads until `stop`."""

    def __init__(self, batches):
        self.batches, self.stopped, self.lock = batches, False, threading.Lock()

    def read(self):
        """Yield its items."""
        while True:
            with self.lock:
                if self.stopped:
                    return
                try:
                    batch = next(self.batches)
                except StopIteration:
                    return
            yield batch

    def stop(self):
        """Return when nobody is in the generator; nobody enters it any more."""
        with self.lock:
            self.stopped = True


def _is_matterport_name(path) -> bool:
    name = os.fspath(path)
    return name.endswith((".h5", ".hdf5")) and not name.endswith(".weights.h5")


@keras.saving.register_keras_serializable("mrcnn")
class TrainingNetwork(Network):
    """The functional network whose named outputs meet the losses in `train_step`."""

    def __init__(self, *args, config=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = config
        names = ("loss", *(config.loss_names() if config else LOSS_NAMES), "weight_decay", *WATCHED)
        self.means = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self):
        return list(self.means.values())

    def weighted_losses(self, inputs, outputs) -> dict:
        """Each loss times its LOSS_WEIGHTS, the weight decay, and `"loss"`, their sum.

        On several devices: this device's share; the shares add up to the loss of the whole batch.
        """
        _, meta, rpn_match, rpn_bbox, *_ = inputs
        focal_gamma = self.settings.FOCAL_GAMMA
        halves = {
            "rpn_class_loss": losses.rpn_class_loss(
                rpn_match, outputs["rpn_class_logits"], focal_gamma
            ),
            "rpn_bbox_loss": losses.rpn_bbox_loss(rpn_bbox, rpn_match, outputs["rpn_bbox"]),
        }
        if "mrcnn_bbox" in outputs:
            target_class_ids = outputs["target_class_ids"]
            halves["mrcnn_class_loss"] = losses.mrcnn_class_loss(
                target_class_ids,
                outputs["mrcnn_class_logits"],
                split_image_meta(meta)["active_class_ids"],
                self.settings.CLASS_WEIGHTS,
                focal_gamma,
            )
            halves["mrcnn_bbox_loss"] = losses.mrcnn_bbox_loss(
                outputs["target_bbox"], target_class_ids, outputs["mrcnn_bbox"]
            )
        if "mrcnn_mask" in outputs:
            halves["mrcnn_mask_loss"] = losses.mrcnn_mask_loss(
                outputs["target_mask"], target_class_ids, outputs["mrcnn_mask"]
            )
        weight = self.settings.LOSS_WEIGHTS
        counts = over_devices([count for _, count in halves.values()])
        parts = {
            name: losses.mean(numerator, count) * weight.get(name, 1.0)
            for (name, (numerator, _)), count in zip(halves.items(), counts, strict=True)
        }
        decay = losses.weight_decay(self.trainable_weights, self.settings.WEIGHT_DECAY)
        parts["weight_decay"] = decay / device_count()
        return {"loss": sum(parts.values()), **parts}

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing is left to build. On several devices Keras would average a batch for it, which masks refuse."""

    def train_step(self, data):
        inputs = self.inputs_of(data)
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            values = self.weighted_losses(inputs, outputs)
            scaled_loss = self.optimizer.scale_loss(values["loss"])
        variables = self.trainable_variables
        # Clipped once they are those of the whole batch: Keras would clip each device's own.
        gradients = over_devices(tape.gradient(scaled_loss, variables))
        norm = tf.linalg.global_norm(gradients) / self.optimizer.scale_loss(1.0)
        # With several micro-batches a step, the optimiser clips their mean: here is only one of them.
        largest = (
            self.settings.GRADIENT_CLIP_NORM
            if self.settings.GRADIENT_ACCUMULATION_STEPS == 1
            else None
        )
        scale = (
            gradient_scale(norm, largest) / device_count()
        )  # the optimiser adds up what the devices give it
        held = True  # whether float16 could hold the gradients; an optimiser for it skips the step and scales less
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            held = tf.math.is_finite(norm)
            norm, scale = tf.where(held, norm, 0.0), tf.where(held, scale, 1.0)
        self.optimizer.apply(
            [tf.math.multiply_no_nan(gradient, scale) for gradient in gradients], variables
        )
        watched = {"gradient_norm": norm}
        if "target_class_ids" in outputs:
            watched["positive_rois"] = tf.reduce_mean(
                tf.cast(outputs["target_class_ids"] > 0, tf.float32)
            )
        values = {name: value * device_count() for name, value in values.items()}
        return self._update({**values, **watched}, {"gradient_norm": held})

    def test_step(self, data):
        inputs = self.inputs_of(data)
        outputs = self(inputs, training=False)
        values = self.weighted_losses(inputs, outputs)
        return self._update({name: value * device_count() for name, value in values.items()})

    def inputs_of(self, data) -> list:
        """The network's inputs from a batch: images of uint8 are photos still, those of floats are molded."""
        images, *others = (tf.convert_to_tensor(x) for x in data[0])
        return [
            mold_on_device(images, self.settings) if images.dtype == tf.uint8 else images,
            *others,
        ]

    def _update(self, values, counts=None):
        """The running means; over several devices, of what each of them gives. counts: by name, whether it counts."""
        for name, value in values.items():
            self.means[name].update_state(value, (counts or {}).get(name, True))
        results = {name: self.means[name].result() for name in values}
        if hosts.of(
            tf.distribute.get_strategy()
        ):  # then Keras averages along a first axis too, and fails without one
            return {name: result[None] for name, result in results.items()}
        return results


# --- Several devices --------------------------------------------------------------------------------------------


def device_count() -> int:
    """How many devices share the batch of the step that runs here."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def over_devices(tensors) -> list:
    """The sums over all devices, constants to the gradient; on one device the tensors themselves."""
    if device_count() == 1:
        return list(tensors)
    context = tf.distribute.get_replica_context()
    return context.all_reduce(
        tf.distribute.ReduceOp.SUM, [tf.stop_gradient(tensor) for tensor in tensors]
    )


def gradient_scale(norm, largest):
    """What gradients of that global norm are multiplied by, together, so that it is at most `largest`; None: 1.

    0 where the norm is not finite: such a step moves nothing, and the training stops with the weights as they are.
    """
    scale = largest / tf.maximum(norm, largest) if largest else 1.0
    return tf.where(tf.math.is_finite(norm), scale, 0.0)


def strategy(config):
    """The `tf.distribute` strategy that GPU_COUNT asks for: each of the GPUs holds the network and takes its images.

    Without GPUs, logical CPU devices count: `tf.config.set_logical_device_configuration`. With several hosts in
    TF_CONFIG: the strategy of them all, see `hosts`.
    """
    if together := hosts.read_hosts():
        return hosts.joined(together, config)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if 1 < config.GPU_COUNT <= len(devices):
        return tf.distribute.MirroredStrategy(
            [device.name for device in devices[: config.GPU_COUNT]]
        )
    if config.GPU_COUNT > 1:
        log.warning(
            "GPU_COUNT is %d, and TensorFlow sees %d %s: one of them takes the whole batch of %d images.",
            config.GPU_COUNT, len(devices), devices[0].device_type, config.BATCH_SIZE,
        )  # fmt: skip
    return tf.distribute.get_strategy()


# --- Which layers learn -----------------------------------------------------------------------------------------

HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"


def layer_regex(layers: str) -> str:
    """The regex of layer names for "heads", "5+", "4+", "3+", "all"; any other string is one already."""
    if layers == "all":
        return ".*"
    if layers == "heads":
        return HEADS
    if re.fullmatch(r"[345]\+", layers):
        return f"{_stage_regex(layers[0])}|{HEADS}"
    return layers


def _stage_regex(first: str) -> str:
    """The regex of the layers of every backbone's stages from `first` ("3", "4", "5") on."""
    regexes = []
    for backbone in BACKBONES.values():
        regexes += [regex for stage, regex in backbone.stages.items() if stage >= first]
    return "|".join(dict.fromkeys(regexes))


def set_trainable(network, regex, config, verbose=1) -> list[str]:
    """Let the layers whose names match learn, and no others; returns their names.

    Batch-norm layers of keras.applications stay frozen while TRAIN_BN is False.

    Raises: ValueError where no layer matches.
    """
    names, frozen = [], 0
    for layer in leaves(network):
        learns = bool(re.fullmatch(regex, layer.name))
        keeps_still = isinstance(layer, keras.layers.BatchNormalization) and not hasattr(
            layer, "train_bn"
        )
        if learns and keeps_still and config.TRAIN_BN is False:
            learns, frozen = False, frozen + 1
        layer.trainable = learns
        if learns and layer.weights:
            names.append(layer.name)
            if verbose > 1:
                log.info("%-30s (%s)", layer.name, type(layer).__name__)
    if not names:
        raise ValueError(
            "layers must be 'heads', '3+', '4+', '5+', 'all' or a regex that matches a layer. "
            f"Received: {regex!r}, which matches none. Try 'heads'."
        )
    if verbose:
        still = (
            f"; {frozen} batch-norm layers of the backbone stay frozen, for TRAIN_BN is False"
            if frozen
            else ""
        )
        count = sum(bool(layer.weights) for layer in leaves(network))
        log.info("Training %d of %d layers with weights%s", len(names), count, still)
    return names


def leaves(network):
    """The layers of the network and of the models in it, all of which become trainable themselves."""
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            layer.trainable = True  # each of its layers says for itself
            yield from leaves(layer)
        else:
            yield layer


# --- Optimiser --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """What the learning rate is multiplied by at a step, counted from the first of the run: `schedule(step)`.

    kind: "constant"; "step": a tenth from each of `drops` on, shares of the training; "cosine": half a cosine from 1
    down to a hundredth. warmup: the factor grows linearly over so many steps. total: the step the training ends at.
    """

    kind: str = "constant"
    warmup: int = 0
    total: int = 1
    drops: tuple = ()

    def __call__(self, step: int) -> float:
        factor = 1.0
        if self.kind == "cosine":
            share = min(max((step - self.warmup) / max(1.0, self.total - self.warmup), 0.0), 1.0)
            factor = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share))
        if self.kind == "step":
            factor = 0.1 ** sum(step >= round(share * self.total) for share in self.drops)
        if self.warmup:
            factor *= min(1.0, (step + 1.0) / self.warmup)
        return factor


def scaled_learning_rate(rate, batch_size, of_batch_size=16) -> float:
    """The rate for another batch size than the one it was found with: proportional to it (Goyal et al. 2017, 2.1).

    The papers' rates are for 16 images (0.02 with SGD). Warm up when it grows.
    """
    return rate * batch_size / of_batch_size


def has_schedule(config) -> bool:
    """Whether the learning rate follows the steps."""
    return config.LEARNING_RATE_SCHEDULE != "constant" or config.WARMUP_STEPS > 0


def can_be_set(optimizer) -> bool:
    """Whether the learning rate of an optimizer is a number, not a Keras schedule that its OPTIMIZER function made."""
    try:
        optimizer.learning_rate = float(np.asarray(optimizer.learning_rate))
    except TypeError:
        return False
    return True


def compile_network(network, config, learning_rate, momentum) -> None:
    """Compile with the config's optimiser; `train_step` clips the gradients by their global norm."""
    steps = config.GRADIENT_ACCUMULATION_STEPS
    options = {}
    if steps > 1:
        if network.distribute_strategy.num_replicas_in_sync > 1 or callable(config.OPTIMIZER):
            raise ValueError(
                "GRADIENT_ACCUMULATION_STEPS must be 1 on several devices, where Keras cannot do both, and with an "
                f"OPTIMIZER of your own, which sets its own. Received: {steps}. Try 1."
            )
        options = {
            "gradient_accumulation_steps": steps,
            "global_clipnorm": config.GRADIENT_CLIP_NORM or None,
        }
    with network.distribute_strategy.scope():
        kind = str(config.OPTIMIZER).lower()  # scripts write "ADAM"
        if callable(config.OPTIMIZER):
            optimizer = config.OPTIMIZER(learning_rate)
        elif kind == "adamw":
            optimizer = keras.optimizers.AdamW(
                learning_rate, weight_decay=config.ADAMW_WEIGHT_DECAY, **options
            )
            optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        elif kind == "adam":
            optimizer = keras.optimizers.Adam(learning_rate, **options)
        elif kind == "sgd":
            optimizer = keras.optimizers.SGD(learning_rate, momentum=momentum, **options)
        else:
            raise ValueError(
                f"OPTIMIZER must be a name or a function to train. Received: {config.OPTIMIZER!r}, the name of a "
                "function that a weight file cannot hold. Try the config it was trained with."
            )
        # crop_and_resize cannot be compiled by XLA, which "auto" would try on a GPU
        network.compile(optimizer=optimizer, jit_compile=False)


def average_variables(network) -> dict:
    """Averages of the weights that learn, as they are now: `{path of the weight: variable}`.

    They are kept among the optimiser's own variables, and so in the state of a checkpoint.
    """
    optimizer = getattr(network.optimizer, "inner_optimizer", network.optimizer)
    averages = {}
    for weight in network.trainable_variables:
        averages[weight.path] = optimizer.add_variable_from_reference(weight, name="average")
        averages[weight.path].assign(weight)
    return averages


# --- Train ------------------------------------------------------------------------------------------------------


class Batches(DataGenerator):
    """The generator, saying which images it is reading; its images are photos still, `[B, H, W, C]` uint8."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.being_made: dict[
            int, tuple
        ] = {}  # by worker thread: the batch's image ids, and since when
        self.stopped = False

    def batch(self, number, rows=None):
        worker = threading.get_ident()
        image_ids = self.batch_image_ids(0, number)
        self.being_made[worker] = (
            [image_ids[row] for row in rows or range(self.batch_size)],
            time.time(),
        )
        try:
            return super().batch(number, rows)
        finally:
            del self.being_made[worker]

    def as_input(self, image):
        """Not molded: a fourth of the bytes on the way to the device, where the network's step does it."""
        return to_uint8(image)  # an augmentation may have made floats of it

    def stop(self):
        """No batch is made any more, and none is in the making: a worker left in one would hang Python's exit."""
        self.stopped = True
        while self.being_made:
            time.sleep(0.01)

    def batch_image_ids(self, epoch, index) -> list[int]:
        """The images of a batch, where none of them was unreadable."""
        start = (epoch * self.steps + index) * self.batch_size
        return [int(self.image_id(start + i)) for i in range(self.batch_size)]

    def names(self, image_ids) -> str:
        """The images for people: `3 (/data/a.png), 7 (/data/b.png)`."""
        infos = [self.dataset.image_info[image_id] for image_id in image_ids]
        return ", ".join(
            f"{image_id} ({info.get('path') or info.get('id')})"
            for image_id, info in zip(image_ids, infos, strict=True)
        )


def stream(batches, network, endless=True):
    """A tf.data pipeline of the batches, from their current epoch on; or of one epoch, the same each time it is read.

    (Given the batches themselves, Keras would make an epoch of them in vain before the first, and where images vary
    in size, take the sizes on which two batches agree for those of all.)

    Several hosts: each makes its own rows of every batch alone, a piece for each of its devices in turn.
    """
    inputs, strategy = network.inputs, network.distribute_strategy
    dtypes = ["uint8", *(i.dtype for i in inputs[1:])]  # the images as `Batches` give them

    def pipeline(context):
        pieces = (
            context.num_replicas_in_sync // context.num_input_pipelines
        )  # of a batch, on this host
        rows = batches.batch_size // context.num_replicas_in_sync

        def load(place):
            if batches.stopped:
                raise StopIteration
            number, piece = divmod(int(place), pieces)
            start = (context.input_pipeline_id * pieces + piece) * rows
            values, _ = batches.batch(number, range(start, start + rows))
            return [np.asarray(x, dtype) for x, dtype in zip(values, dtypes, strict=True)]

        def tensors(place):
            values = tf.numpy_function(load, [place], dtypes)
            return (
                tuple(
                    tf.ensure_shape(value, i.shape) for value, i in zip(values, inputs, strict=True)
                ),
            )

        first = batches.epoch * batches.steps * pieces
        end = np.iinfo(np.int64).max if endless else first + batches.steps * pieces
        numbers = tf.data.Dataset.range(first, end)
        return (
            numbers.map(tensors, num_parallel_calls=batches.workers)
            .prefetch(2)
            .with_options(options)
        )

    # Nothing is left to tune, and the thread that would do it holds up the end of a pipeline, by as long as it ran.
    options = tf.data.Options()
    options.autotune.enabled = False

    if hosts.of(strategy):
        return strategy.distribute_datasets_from_function(pipeline)
    return pipeline(
        tf.distribute.InputContext()
    )  # whole batches: Keras hands each device its piece


def train(
    run: TrainingRun,
    train_dataset,
    val_dataset,
    learning_rate,
    epochs,
    layers,
    augmentation=None,
    custom_callbacks=None,
    no_augmentation_sources=None,
    make_detector=None,
):
    """Fit up to epoch `epochs`; see `MaskRCNN.train`. Returns Keras's history, or None where nothing was left to do."""
    config, network = run.config, run.network
    seed, is_chief = config.SEED, True
    if together := hosts.of(network.distribute_strategy):
        is_chief = together.is_chief
        if is_chief:
            run.make_folder()  # before the others are told its name
        seed = _agree(run, train_dataset, val_dataset)
    if epochs <= run.epoch:
        log.warning(
            "Nothing to train: epochs=%d means until epoch %d, and %d are done. Ask for more epochs.",
            epochs, epochs, run.epoch,
        )  # fmt: skip
        return None
    if not config.USE_RPN_ROIS and val_dataset is not None:
        log.info("USE_RPN_ROIS is False: the heads learn on random RoIs.")
    steps, validation_steps = (
        whole_steps(config, name) for name in ("STEPS_PER_EPOCH", "VALIDATION_STEPS")
    )
    former = _former(run, layers)
    options = {
        "batch_size": config.BATCH_SIZE,
        "random_rois": 0 if config.USE_RPN_ROIS else config.POST_NMS_ROIS_TRAINING,
        "seed": former["seed"] if former and config.SEED is None else seed,
    }
    repeats = None
    if config.REPEAT_THRESHOLD:
        repeats = repeat_factors(class_ids_per_image(train_dataset), config.REPEAT_THRESHOLD)
    batches = Batches(
        train_dataset,
        config,
        shuffle=True,
        augmentation=augmentation,
        no_augmentation_sources=no_augmentation_sources,
        steps=steps,
        repeats=repeats,
        **options,
    )
    batches.epoch = run.epoch
    validation = None
    if val_dataset is not None and len(val_dataset.image_ids) and validation_steps:
        validation = Batches(val_dataset, config, shuffle=True, steps=validation_steps, **options)
    check_before_training(train_dataset, config)
    if validation is not None:
        check_before_training(val_dataset, config, "validation data", learns=False)

    set_trainable(network, layer_regex(layers), config)
    compile_network(network, config, learning_rate, config.LEARNING_MOMENTUM)
    schedule = []
    if has_schedule(config) and can_be_set(network.optimizer):
        kind, drops = config.LEARNING_RATE_SCHEDULE, config.LEARNING_RATE_DROPS
        schedule = [
            ScheduledRate(Schedule(kind, config.WARMUP_STEPS, epochs * steps, tuple(drops)), steps)
        ]
    elif has_schedule(config):
        log.warning(
            "LEARNING_RATE_SCHEDULE and WARMUP_STEPS are unused: the OPTIMIZER has a schedule of its own."
        )
    # Built here: variables made inside the first step would make TensorFlow trace it a second time.
    with network.distribute_strategy.scope():
        network.optimizer.build(network.trainable_variables)
        averages = average_variables(network) if config.EMA_DECAY else {}
    _seed(network, config)
    if former and not _restore(run, former, learning_rate):
        former = None
    about = {
        "until": epochs,
        "layers": layers,
        "learning_rate": float(learning_rate),
        "seed": batches.seed,
        "best": _best(run),
    }

    if is_chief:
        run.make_folder()
    log.info(
        "Training until epoch %d, learning rate %g, checkpoints in %s",
        epochs,
        learning_rate,
        run.folder,
    )
    stalls = Stalls(batches)
    averaging = (
        [AveragedWeights(config.EMA_DECAY, averages, between_epochs=former is not None)]
        if averages
        else []
    )
    progress = Progress(run.epoch, epochs, steps)
    watching = [progress, stalls, *(custom_callbacks or [])]
    if is_chief:
        pictures = []
        if validation is not None and config.VALIDATION_PICTURES and not config.RPN_ONLY:
            pictures = [
                DetectionPictures(run, make_detector, val_dataset, config.VALIDATION_PICTURES)
            ]
        remove_parts(run.folder)
        writing = [
            Checkpoint(run, about),
            *pictures,
            *watching,
            # After those, which may add figures to the logs.
            TensorBoard(log_dir=run.folder, histogram_freq=0, write_graph=False),
            LossTable(os.path.join(run.folder, "losses.csv")),
            KeepBest(run, about),
        ]
    else:
        log.info("This host writes no files: checkpoints, state and tables are the chief's.")
        writing = [CountEpochs(run), *watching]
    stop_at_non_finite = StopAtNonFinite(run, batches, keeps=is_chief)
    callbacks = [*averaging, stop_at_non_finite, *schedule, Rates(config.BATCH_SIZE), *writing]
    interrupts = Interrupts()
    try:
        interrupts.start()
        history = network.fit(
            stream(batches, network),
            initial_epoch=run.epoch,
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=stream(validation, network, endless=False) if validation else None,
            validation_steps=validation_steps if validation else None,
            callbacks=callbacks,
            shuffle=False,  # the generator does it; Keras would shuffle the batches by an unseeded draw
            verbose=0,
        )
        if together:  # the others wait until the chief has written its last epoch
            hosts.gathered(network.distribute_strategy, [run.epoch])
        return history
    except KeyboardInterrupt:
        if not is_chief:
            raise
        path = free_name(os.path.join(run.folder, "interrupted.h5"))
        run.save(path)
        log.warning(
            "Interrupted: %d epochs are done, and the weights of this moment are in %s.",
            run.epoch,
            path,
        )
        if run.epoch:
            log.warning(
                "The last checkpoint (--weights last) resumes after epoch %d, without them.",
                run.epoch,
            )
        log.warning("To start a new run from them, load that file (--weights FILE).")
        raise
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise OutOfMemory(_memory_advice(config, error)) from error
    except Exception:
        for generator in (batches, validation):
            if generator is not None and generator.failure is not None:
                raise generator.failure from None
        raise
    finally:
        interrupts.stop()
        progress.stop()
        stalls.stop()
        for generator in (batches, validation):
            if generator is not None:
                generator.stop()


def whole_steps(config, name: str) -> int:
    """The setting STEPS_PER_EPOCH or VALIDATION_STEPS as a whole number: scripts divide images by the batch size."""
    given = getattr(config, name)
    steps = math.ceil(given)
    if steps != given:
        log.info("%s = %g is rounded up to %d.", name, given, steps)
    return steps


# --- Where a training starts ------------------------------------------------------------------------------------


def _agree(run, train_dataset, val_dataset) -> int:
    """The seed of all hosts: SEED, or what the chief draws. The chief's log folder becomes that of all.

    Raises: ValueError, on every host, where they would not start from the same.
    """
    network = run.network
    checksum = 0
    for weight in network.weights:
        checksum = zlib.crc32(np.asarray(weight).tobytes(), checksum)
    same = {
        "epoch": run.epoch,
        "checksum of the weights": checksum,
        "state of the optimiser (0: none)": run.resume
        and os.path.isfile(state_path(run.folder, run.epoch)),
        "images to train on": len(train_dataset.image_ids),
        "images to validate on": len(val_dataset.image_ids) if val_dataset is not None else 0,
    }
    drawn = np.random.SeedSequence().generate_state(1)[0]
    # Hosts start in different minutes.
    folder_name = run.folder_name or FolderName(0, 0)
    table = hosts.gathered(network.distribute_strategy, [*same.values(), drawn, *folder_name])
    for what, values in zip(same, table.T, strict=False):
        if len(set(values)) > 1:
            raise ValueError(
                f"All hosts must start from the same. Received: {what} = {', '.join(map(str, values))}, the chief's "
                "first. Try a model_dir (mrcnn train --logs) and data that all hosts can read, or a copy on each."
            )
    chief = table[0].tolist()
    if run.folder_name is not None:
        run.adopt_folder_name(FolderName(*chief[-2:]))
    return run.config.SEED if run.config.SEED is not None else chief[len(same)]


def _former(run, layers) -> dict | None:
    """What the loaded checkpoint's state says of the training it stopped; None where there is nothing to go on with.

    A checkpoint that ended its training (all epochs it was asked for) begins a new one, as it would have without a
    stop in between: the next stage of a schedule starts with a fresh optimiser.
    """
    if not run.resume:
        return None
    run.resume = False
    about = read_about(state_path(run.folder, run.epoch))
    if about is None:
        log.warning(
            "The checkpoint of epoch %d has no training state: the optimizer starts fresh.",
            run.epoch,
        )
    elif about["until"] > run.epoch and about["layers"] == layers:
        return about
    return None


def _restore(run, former, learning_rate) -> bool:
    """Take over the state of the checkpoint that was loaded, if the optimiser is still of its kind."""
    network = run.network
    if not restore_state(state_path(run.folder, run.epoch), network):
        log.warning(
            "The optimiser starts anew after epoch %d: it is another one than that of the checkpoint.",
            run.epoch,
        )
        return False
    if former["learning_rate"] != float(learning_rate) and can_be_set(network.optimizer):
        network.optimizer.learning_rate = learning_rate
    log.info("Going on with the optimiser and the random state of epoch %d.", run.epoch)
    return True


def _best(run) -> float:
    """The best val_mAP of the run so far; -1 where there is none."""
    return (read_about(state_path(run.folder, run.epoch)) or {}).get("best", -1.0)


class OutOfMemory(ValueError, MemoryError):
    """A step does not fit into memory; the text names the settings that matter, with values to try."""


def _memory_advice(config, error) -> str:
    rows = [
        ("IMAGES_PER_GPU", config.IMAGES_PER_GPU, max(1, config.IMAGES_PER_GPU // 2)),
        ("IMAGE_MAX_DIM", config.IMAGE_MAX_DIM, max(64, config.IMAGE_MAX_DIM * 3 // 4 // 64 * 64)),
        (
            "TRAIN_ROIS_PER_IMAGE",
            config.TRAIN_ROIS_PER_IMAGE,
            max(8, config.TRAIN_ROIS_PER_IMAGE // 2),
        ),
        ("USE_MINI_MASK", config.USE_MINI_MASK, True),
    ]
    tries = [f"{name} = {value} (now {now})" for name, now, value in rows if value != now]
    first_line = str(error).strip().split("\n")[0]
    return (
        f"A training step must fit into memory. Received: not enough of it ({type(error).__name__}: {first_line}). "
        f"Try {', or '.join(tries) or 'a smaller BACKBONE'}, in this order."
    )


def _seed(network, config) -> None:
    """Let the RoI sample start from SEED again, so that the same seed trains the same."""
    if config.SEED is None:
        return
    for layer in network.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign(keras.random.SeedGenerator(config.SEED).state)

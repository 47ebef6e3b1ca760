"""The loop: the network that trains, which layers learn, compile, callbacks, fit, going on where it stopped."""

from __future__ import annotations

import csv
import logging
import math
import os
import re
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from . import losses, weights
from .check import check_before_training
from .config import LOSS_NAMES
from .data import DataGenerator
from .evaluate import EVALUATION_MIN_CONFIDENCE, compute_ap, evaluate_dataset
from .image import extract_bboxes, split_image_meta
from .sampling import class_ids_per_image, repeat_factors

log = logging.getLogger("mrcnn")


# --- The network that trains ------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn")
class Network(keras.Model):
    """A Keras model that also keeps its weights in matterport's `.h5`, whatever the file's name.

    (Keras itself writes only names ending in `.weights.h5`, and still does.)
    """

    describe = None  # what a file says of its network: a function that MaskRCNN sets

    def save_weights(self, filepath, overwrite=True, **kwargs):
        if not _is_matterport_name(filepath):
            return super().save_weights(filepath, overwrite=overwrite, **kwargs)
        if not overwrite and os.path.exists(filepath):
            raise ValueError(f"With overwrite=False the file must not exist. Received: {filepath}. Try another name.")
        return weights.save_weights(self, filepath, metadata=self.describe() if self.describe else None)

    def load_weights(self, filepath, skip_mismatch=False, by_name=True, exclude=None, **kwargs):
        if not _is_matterport_name(filepath):
            return super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        return weights.load_weights(self, filepath, exclude=exclude, allow_head_mismatch=skip_mismatch)


def _is_matterport_name(path) -> bool:
    name = os.fspath(path)
    return name.endswith((".h5", ".hdf5")) and not name.endswith(".weights.h5")


@keras.saving.register_keras_serializable("mrcnn")
class TrainingNetwork(Network):
    """The functional network whose named outputs meet the losses in `train_step`."""

    def __init__(self, *args, config=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = config
        names = ("loss", *LOSS_NAMES, "weight_decay")
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in names}

    @property
    def metrics(self):
        return list(self.loss_means.values())

    def weighted_losses(self, inputs, outputs) -> dict:
        """Each loss times its LOSS_WEIGHTS, the weight decay, and `"loss"`, their sum."""
        _, meta, rpn_match, rpn_bbox, *_ = inputs
        halves = {
            "rpn_class_loss": losses.rpn_class_loss(rpn_match, outputs["rpn_class_logits"]),
            "rpn_bbox_loss": losses.rpn_bbox_loss(rpn_bbox, rpn_match, outputs["rpn_bbox"]),
            "mrcnn_class_loss": losses.mrcnn_class_loss(
                outputs["target_class_ids"],
                outputs["mrcnn_class_logits"],
                split_image_meta(meta)["active_class_ids"],
            ),
            "mrcnn_bbox_loss": losses.mrcnn_bbox_loss(
                outputs["target_bbox"], outputs["target_class_ids"], outputs["mrcnn_bbox"]
            ),
            "mrcnn_mask_loss": losses.mrcnn_mask_loss(
                outputs["target_mask"], outputs["target_class_ids"], outputs["mrcnn_mask"]
            ),
        }
        weight = self.settings.LOSS_WEIGHTS
        parts = {name: losses.mean(*half) * weight.get(name, 1.0) for name, half in halves.items()}
        parts["weight_decay"] = losses.weight_decay(self.trainable_weights, self.settings.WEIGHT_DECAY)
        return {"loss": sum(parts.values()), **parts}

    def train_step(self, data):
        inputs = data[0]
        with tf.GradientTape() as tape:
            values = self.weighted_losses(inputs, self(inputs, training=True))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(values["loss"], variables), variables)
        return self._update(values)

    def test_step(self, data):
        inputs = data[0]
        return self._update(self.weighted_losses(inputs, self(inputs, training=False)))

    def _update(self, values):
        for name, value in values.items():
            self.loss_means[name].update_state(value)
        return {name: metric.result() for name, metric in self.loss_means.items()}


# --- Which layers learn -----------------------------------------------------------------------------------------

HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"
# The backbone's stages from its end; "4+" is every stage from 4 on, and the heads.
STAGES = {
    "5": r"(res5.*)|(bn5.*)|(block_1[3-6]_.*)|(Conv_1.*)",
    "4": r"(res4.*)|(bn4.*)|(block_([6-9]|1[0-2])_.*)",
    "3": r"(res3.*)|(bn3.*)|(block_[3-5]_.*)",
}


def layer_regex(layers: str) -> str:
    """The regex of layer names for "heads", "5+", "4+", "3+", "all"; any other string is one already."""
    if layers == "all":
        return ".*"
    if layers == "heads":
        return HEADS
    if re.fullmatch(r"[345]\+", layers):
        return "|".join([*(regex for stage, regex in STAGES.items() if stage >= layers[0]), HEADS])
    return layers


def set_trainable(network, regex, config, verbose=1) -> list[str]:
    """Let the layers whose names match learn, and no others; returns their names.

    Batch-norm layers of keras.applications stay frozen while TRAIN_BN is False.

    Raises: ValueError where no layer matches.
    """
    names, frozen = [], 0
    for layer in _leaves(network):
        learns = bool(re.fullmatch(regex, layer.name))
        keeps_still = isinstance(layer, keras.layers.BatchNormalization) and not hasattr(layer, "train_bn")
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
        still = f"; {frozen} batch-norm layers of the backbone stay frozen, for TRAIN_BN is False" if frozen else ""
        count = sum(bool(layer.weights) for layer in _leaves(network))
        log.info("Training %d of %d layers with weights%s", len(names), count, still)
    return names


def _leaves(network):
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            layer.trainable = True  # each of its layers says for itself
            yield from _leaves(layer)
        else:
            yield layer


# --- Optimiser --------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then the rate itself or a half cosine down to a hundredth of it.

    start: the step the training begins at (after resuming). total: the step it ends at.
    """

    def __init__(self, rate, kind="constant", warmup=0, start=0, total=1):
        self.rate, self.kind, self.warmup, self.start, self.total = rate, kind, warmup, start, total

    def __call__(self, step):
        step = tf.cast(step, tf.float32) + float(self.start)
        rate = tf.constant(float(self.rate))
        if self.kind == "cosine":
            share = tf.clip_by_value((step - self.warmup) / max(1.0, self.total - self.warmup), 0.0, 1.0)
            rate = rate * (0.01 + 0.99 * 0.5 * (1.0 + tf.cos(math.pi * share)))
        if self.warmup:
            rate = rate * tf.minimum(1.0, (step + 1.0) / float(self.warmup))
        return rate

    def get_config(self):
        return {name: getattr(self, name) for name in ("rate", "kind", "warmup", "start", "total")}


def compile_network(network, config, learning_rate, momentum) -> None:
    """Compile with the config's optimiser; gradients are clipped by their global norm."""
    clip = {"global_clipnorm": config.GRADIENT_CLIP_NORM or None}
    if config.OPTIMIZER == "adam":
        optimizer = keras.optimizers.Adam(learning_rate, **clip)
    else:
        optimizer = keras.optimizers.SGD(learning_rate, momentum=momentum, **clip)
    # crop_and_resize cannot be compiled by XLA, which "auto" would try on a GPU
    network.compile(optimizer=optimizer, jit_compile=False)


# --- Callbacks --------------------------------------------------------------------------------------------------


class Checkpoint(keras.callbacks.Callback):
    """After each epoch, the weights (that know their network) at `checkpoint_path`."""

    def __init__(self, facade):
        super().__init__()
        self.facade = facade

    def on_epoch_end(self, epoch, logs=None):
        path = self.facade.checkpoint_path.format(epoch=epoch + 1)
        self.facade.save_weights(path)
        self.facade.epoch = epoch + 1


class LossTable(keras.callbacks.Callback):
    """A line of `losses.csv` per epoch; a run that goes on goes on in the same file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: f"{float(value):.6f}" for name, value in (logs or {}).items()}}
        new = not os.path.exists(self.path)
        with open(self.path, "a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


UNKNOWN = "-:--:--"  # the time left, before a second step was timed


class Progress(keras.callbacks.Callback):
    """A bar with the time left on a terminal, a line now and then in a log file; every loss by its name."""

    INTERVAL_S = 30

    def __init__(self, first_epoch, epochs, steps):
        super().__init__()
        self.first_epoch, self.epochs, self.steps = first_epoch, epochs, steps
        self.done = 0
        self.bar = None

    def on_train_begin(self, logs=None):
        self.start = self.last_line = time.time()
        log.info("Tracing the graph: the first step takes up to a minute, the next ones do not.")

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        now = time.time()
        if self.done == 1:
            log.info("Traced; the first step took %.0f s.", now - self.start)
            self.start, self.started_at = now, self.done
            self._open_bar()
        to_do = (self.epochs - self.first_epoch) * self.steps - self.done
        left = _duration((now - self.start) / (self.done - 1) * to_do) if self.done > 1 else UNKNOWN
        if self.bar:
            self.bar.update(self.task, completed=self.done, text=_losses_text(logs), left=left)
        elif now - self.last_line > self.INTERVAL_S and batch + 1 < self.steps:
            self.last_line = now
            epoch = self.first_epoch + (self.done - 1) // self.steps + 1
            log.info(
                "epoch %d/%d step %d/%d  %s left  %s",
                epoch, self.epochs, batch + 1, self.steps, left, _losses_text(logs),
            )  # fmt: skip

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        training = {name: value for name, value in logs.items() if not name.startswith("val_")}
        validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        log.info("epoch %d/%d  %s", epoch + 1, self.epochs, _losses_text(training))
        if validation:
            log.info("      validation  %s", _losses_text(validation))
        self.last_line = time.time()

    def on_train_end(self, logs=None):
        self._close_bar()

    def _open_bar(self):
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self.bar = Bar(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left  {task.fields[text]}"),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("", total=(self.epochs - self.first_epoch) * self.steps, text="", left=UNKNOWN)
        self.bar.start()

    def _close_bar(self):
        if self.bar:
            self.bar.stop()
            self.bar = None


class MeanAveragePrecisionCallback(keras.callbacks.Callback):
    """Detects on a dataset every few epochs, and puts into the logs what comes of it.

    `val_mAP`, `val_mAP50`: COCO's AP of masks (of boxes for a box-only model), as `mrcnn evaluate` prints it.
    `val_box_mAP`: COCO's AP of boxes.
    `val_mean_average_precision`: matterport's, the mean over images of `compute_ap` at IoU 0.5, for detections from
    the inference model's DETECTION_MIN_CONFIDENCE on.

    Callbacks after it in `custom_callbacks` find them: EarlyStopping(monitor="val_mAP", mode="max"). In the epochs
    between there are none, and Keras' callbacks say that they miss them and go on.

    train_model: the `MaskRCNN` that trains. inference_model: one in inference mode, of the same network; it takes
    over the weights each time. dataset: prepared. calculate_map_at_every_X_epoch: after epochs X, 2X, ...
    dataset_limit: only the first so many images. verbose: 0 logs nothing.
    """

    def __init__(
        self, train_model, inference_model, dataset, calculate_map_at_every_X_epoch=5, dataset_limit=None, verbose=1
    ):
        super().__init__()
        if inference_model.mode != "inference":
            raise ValueError(
                f"inference_model must be in inference mode. Received: mode {inference_model.mode!r}. "
                "Try MaskRCNN(mode='inference', ...), with the same settings."
            )
        if calculate_map_at_every_X_epoch < 1:
            raise ValueError(
                f"calculate_map_at_every_X_epoch must be at least 1. Received: {calculate_map_at_every_X_epoch}."
            )
        self.train_model, self.inference_model, self.dataset = train_model, inference_model, dataset
        self.every, self.limit, self.verbose = calculate_map_at_every_X_epoch, dataset_limit, verbose

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        _copy_weights(self.train_model.keras_model, self.inference_model.keras_model)
        figures = self.figures()
        if self.verbose:
            mean, ap = figures["val_mean_average_precision"], figures["val_mAP"]
            log.info("epoch %d  mean average precision %.3f  mAP %.3f", epoch + 1, mean, ap)
        if logs is not None:
            logs.update(figures)

    def figures(self) -> dict[str, float]:
        """What goes into the logs; nan where no image has objects."""
        config, aps = self.inference_model.config, []
        shown_from = config.DETECTION_MIN_CONFIDENCE
        image_ids = list(self.dataset.image_ids)[: self.limit]
        to_come = iter(image_ids)

        def detect(image):
            (found,) = self.inference_model.detect([image])
            aps.append(self._average_precision(next(to_come), found, shown_from))
            return found

        config.DETECTION_MIN_CONFIDENCE = EVALUATION_MIN_CONFIDENCE
        try:
            evaluation = evaluate_dataset(detect, self.dataset, image_ids, progress=False)
        finally:
            config.DETECTION_MIN_CONFIDENCE = shown_from
        aps = [ap for ap in aps if not math.isnan(ap)]
        best_kind = evaluation.mask or evaluation.box
        return {
            "val_mAP": best_kind["AP"],
            "val_mAP50": best_kind["AP50"],
            "val_box_mAP": evaluation.box["AP"],
            "val_mean_average_precision": float(np.mean(aps)) if aps else math.nan,
        }

    def mean_average_precision(self) -> float:
        """The mean AP of the images that have objects; nan where none has."""
        return self.figures()["val_mean_average_precision"]

    def _average_precision(self, image_id, found, shown_from) -> float:
        masks, class_ids = self.dataset.load_mask(image_id)
        objects = np.flatnonzero(np.asarray(class_ids) > 0)  # no crowds
        shown = np.flatnonzero(np.asarray(found["scores"]) >= shown_from)
        if len(objects) == 0 or "masks" not in found:
            return math.nan
        masks = np.asarray(masks)[:, :, objects]
        detections = (found[name][shown] for name in ("rois", "class_ids", "scores"))
        return compute_ap(
            extract_bboxes(masks), np.asarray(class_ids)[objects], masks, *detections, found["masks"][:, :, shown]
        )[0]


def _copy_weights(source, target) -> None:
    """Give the target network the weights of the source, name by name."""
    values = {weight.path: weight for weight in source.weights}
    differing = sorted(values.keys() ^ {weight.path for weight in target.weights})
    if differing:
        raise ValueError(
            "Both models must have the same layers, by name. "
            f"Received: models that differ in {', '.join(differing[:6])}. Try the same config, and layers with names."
        )
    for weight in target.weights:
        weight.assign(values[weight.path])


def _losses_text(logs) -> str:
    short = {"weight_decay": "decay"}
    names = [name for name in ("loss", *LOSS_NAMES, "weight_decay") if name in (logs or {})]
    return "  ".join(f"{short.get(name, name.removesuffix('_loss'))} {float(logs[name]):.4f}" for name in names)


def _duration(seconds) -> str:
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Batches(DataGenerator):
    """The generator's inputs alone: Keras turns batches into a tf.data pipeline, which knows no empty list."""

    def __getitem__(self, index):
        return (super().__getitem__(index)[0],)


def stream(batches, network):
    """What `fit` reads: the batches themselves; where their images vary in size, a tf.data pipeline of them.

    (Keras looks at two batches and takes the sizes on which they agree for those of all.)
    """
    config = batches.config
    if config.IMAGE_RESIZE_MODE not in ("pad64", "none"):
        return batches
    inputs = network.inputs

    def load(number):
        return [np.asarray(x, i.dtype) for x, i in zip(batches.batch(int(number))[0], inputs, strict=True)]

    def tensors(number):
        values = tf.numpy_function(load, [number], [i.dtype for i in inputs])
        return (tuple(tf.ensure_shape(value, i.shape) for value, i in zip(values, inputs, strict=True)),)

    first = batches.epoch * batches.steps
    numbers = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
    return numbers.map(tensors, num_parallel_calls=batches.workers).prefetch(1)


# --- Train ------------------------------------------------------------------------------------------------------


def train(
    facade,
    train_dataset,
    val_dataset,
    learning_rate,
    epochs,
    layers,
    augmentation=None,
    custom_callbacks=None,
    no_augmentation_sources=None,
):
    """Fit up to epoch `epochs`; see `MaskRCNN.train`. Returns Keras's history, or None where nothing was left to do."""
    config, network = facade.config, facade.keras_model
    if epochs <= facade.epoch:
        log.warning(
            "Nothing to train: epochs=%d means until epoch %d, and %d are done. Ask for more epochs.",
            epochs, epochs, facade.epoch,
        )  # fmt: skip
        return None
    if not config.USE_RPN_ROIS and val_dataset is not None:
        log.info("USE_RPN_ROIS is False: the heads learn on random RoIs.")
    options = {
        "batch_size": config.BATCH_SIZE,
        "random_rois": 0 if config.USE_RPN_ROIS else config.POST_NMS_ROIS_TRAINING,
        "seed": config.SEED,
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
        steps=config.STEPS_PER_EPOCH,
        repeats=repeats,
        **options,
    )
    batches.epoch = facade.epoch
    validation = None
    if val_dataset is not None and len(val_dataset.image_ids) and config.VALIDATION_STEPS:
        validation = Batches(val_dataset, config, shuffle=True, steps=config.VALIDATION_STEPS, **options)
    check_before_training(train_dataset, config)
    if validation is not None:
        check_before_training(val_dataset, config, "validation data", learns=False)

    set_trainable(network, layer_regex(layers), config)
    rate = learning_rate
    if config.LEARNING_RATE_SCHEDULE != "constant" or config.WARMUP_STEPS:
        rate = Schedule(
            learning_rate,
            config.LEARNING_RATE_SCHEDULE,
            config.WARMUP_STEPS,
            start=facade.epoch * config.STEPS_PER_EPOCH,
            total=epochs * config.STEPS_PER_EPOCH,
        )
    compile_network(network, config, rate, config.LEARNING_MOMENTUM)
    # Built here: variables made inside the first step would make TensorFlow trace it a second time.
    network.optimizer.build(network.trainable_variables)
    _seed(network, config)

    os.makedirs(facade.log_dir, exist_ok=True)
    log.info("Training until epoch %d, learning rate %g, checkpoints in %s", epochs, learning_rate, facade.log_dir)
    callbacks = [
        Checkpoint(facade),
        keras.callbacks.TensorBoard(log_dir=facade.log_dir, histogram_freq=0, write_graph=False),
        LossTable(os.path.join(facade.log_dir, "losses.csv")),
        Progress(facade.epoch, epochs, config.STEPS_PER_EPOCH),
        *(custom_callbacks or []),
    ]
    try:
        return network.fit(
            stream(batches, network),
            initial_epoch=facade.epoch,
            epochs=epochs,
            steps_per_epoch=config.STEPS_PER_EPOCH,
            validation_data=stream(validation, network) if validation else None,
            validation_steps=config.VALIDATION_STEPS if validation else None,
            callbacks=callbacks,
            shuffle=False,  # the generator does it; Keras would shuffle the batches by an unseeded draw
            verbose=0,
        )
    except KeyboardInterrupt:
        path = _free_name(os.path.join(facade.log_dir, "interrupted.h5"))
        facade.save_weights(path)
        log.warning("Interrupted: %d epochs are done, and the weights of this moment are in %s.", facade.epoch, path)
        if facade.epoch:
            log.warning(
                "find_last() (--weights last) goes on after epoch %d, the last whole one, without them.", facade.epoch
            )
        log.warning("To start a new run from them, at epoch 1: load_weights (--weights) with that file.")
        raise
    except Exception:
        for generator in (batches, validation):
            if generator is not None and generator.failure is not None:
                raise generator.failure from None
        raise


def _free_name(path) -> str:
    """The path itself, or where there is such a file, the first of `_2`, `_3`, ... that is free."""
    free, count, (stem, suffix) = path, 1, os.path.splitext(path)
    while os.path.exists(free):
        count += 1
        free = f"{stem}_{count}{suffix}"
    return free


def _seed(network, config) -> None:
    """Let the RoI sample start from SEED again, so that the same seed trains the same."""
    if config.SEED is None:
        return
    for layer in network.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign(keras.random.SeedGenerator(config.SEED).state)

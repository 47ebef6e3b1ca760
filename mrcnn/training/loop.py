"""The training loop: the start of a training, `fit` with its callbacks, and the end."""

from __future__ import annotations

import contextlib
import logging
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ..config import Config
from ..data.check import check_before_training
from ..data.dataset import Dataset
from ..data.image_order import class_ids_per_image, repeat_factors
from ..files.file_names import free_name
from . import distributed
from .averages import WeightAverages, add_average_variables
from .checkpoints import EpochCounter
from .guards import Interrupts, StallWatchdog, StopAtNonFinite
from .optimizer import compile_network
from .pipeline import Batches, stream
from .reports import Progress, ThroughputLogger
from .run import FolderName, TrainingRun
from .schedule import has_settable_rate, schedule_callbacks
from .trainable import layer_regex, set_trainable
from .training_state import NEW_RECORD, read_record, restore_state, state_path
from .writers import Writers

log = logging.getLogger("mrcnn")


class Stage(NamedTuple):
    """One stage of a training. epochs: the epoch to reach. layers: see `layer_regex`."""

    learning_rate: float
    epochs: int
    layers: str


class TrainingData(NamedTuple):
    """The datasets of a training, see `MaskRCNN.train`."""

    train: Dataset
    validation: Dataset | None = None
    augmentation: Any = None
    no_augmentation_sources: Iterable[str] | None = None

    def validation_count(self) -> int:
        return 0 if self.validation is None else len(self.validation.image_ids)


def train(
    run: TrainingRun,
    data: TrainingData,
    stage: Stage,
    make_detector: Callable[[], Any],
    custom_callbacks: Iterable[keras.callbacks.Callback] | None = None,
) -> keras.callbacks.History | None:
    """Train up to epoch `stage.epochs`; see `MaskRCNN.train`.

    make_detector: as `make` of `CurrentDetector`.

    Returns: Keras' history; None if that epoch, or the end by early stopping, has been reached
        already.
    Raises: OutOfMemory; NotFinite; KeyboardInterrupt, after the weights were saved.
    """
    config = run.config
    seed = _common_seed(run, data)
    if stage.epochs <= run.epoch:
        log.warning(
            "Nothing to train: epochs=%d means until epoch %d, and %d are done. "
            "Ask for more epochs.",
            stage.epochs, stage.epochs, run.epoch,
        )  # fmt: skip
        return None
    if not config.USE_RPN_ROIS and data.validation is not None:
        log.info("USE_RPN_ROIS is False: the heads learn on random RoIs.")
    config.check_steps()
    record = _resumable(run, stage)
    if record is not None and config.SEED is None:
        seed = record["seed"]
    fitting = _Fitting(run, data, stage, *_make_batches(run, data, seed))
    fitting.prepare_network()
    resumed = record is not None and _restore(run, record, stage)
    fitting.add_callbacks(resumed, make_detector, list(custom_callbacks or []))
    return fitting.fit()


# --- Where a training starts ---


def _common_seed(run: TrainingRun, data: TrainingData) -> int | None:
    """Return the seed of all hosts, after a check that they start from the same state.

    It is SEED, or what the chief draws; None on a single host without a SEED. All hosts take the
    chief's log folder.

    Raises: ValueError, on every host, if they would start from different states.
    """
    strategy = run.network.distribute_strategy
    hosts = distributed.hosts_of(strategy)
    if hosts is None:
        return run.config.SEED
    if hosts.is_chief:
        run.make_folder()  # before the others adopt its name
    equal = {
        "epoch": run.epoch,
        "checksum of the weights": _checksum(run.network),
        "state of the optimizer (0: absent)": run.resume and os.path.isfile(_state_path(run)),
        "images to train on": len(data.train.image_ids),
        "images to validate on": data.validation_count(),
    }
    drawn = np.random.SeedSequence().generate_state(1)[0]
    folder_name = run.folder_name or FolderName(0, 0)  # hosts start in different minutes
    chosen = distributed.agree(strategy, equal, [drawn, *folder_name])
    if run.folder_name is not None:
        run.adopt_folder_name(FolderName(*chosen[1:]))
    return chosen[0] if run.config.SEED is None else run.config.SEED


def _checksum(network: keras.Model) -> int:
    checksum = 0
    for weight in network.weights:
        checksum = zlib.crc32(np.asarray(weight).tobytes(), checksum)
    return checksum


def _state_path(run: TrainingRun) -> str:
    return state_path(run.folder, run.epoch)


def _resumable(run: TrainingRun, stage: Stage) -> dict | None:
    """Return the record of the loaded checkpoint, if its training was stopped in this stage.

    A checkpoint at the end of its stage starts the next stage with a fresh optimizer, as a training
    that was not stopped in between does.
    """
    if not run.resume:
        return None
    run.resume = False
    record = read_record(_state_path(run))
    if record is None:
        log.warning(
            "The checkpoint of epoch %d has no training state: the optimizer starts fresh.",
            run.epoch,
        )
        return None
    same_stage = record["until"] > run.epoch and record["layers"] == stage.layers
    return record if same_stage else None


def _restore(run: TrainingRun, record: dict, stage: Stage) -> bool:
    """Restore the checkpoint's state; False if the optimizer is of another kind."""
    optimizer = run.network.optimizer
    if not restore_state(_state_path(run), run.network):
        log.warning(
            "The optimizer starts fresh after epoch %d: it differs from that of the checkpoint.",
            run.epoch,
        )
        return False
    if record["learning_rate"] != float(stage.learning_rate) and has_settable_rate(optimizer):
        optimizer.learning_rate = stage.learning_rate
    log.info("Resuming with the optimizer and the random state of epoch %d.", run.epoch)
    return True


def _make_batches(
    run: TrainingRun, data: TrainingData, seed: int | None
) -> tuple[Batches, Batches | None]:
    """Return the batches to train and to validate on, after a check of the datasets."""
    config = run.config
    options = {
        "batch_size": config.BATCH_SIZE,
        "random_rois": 0 if config.USE_RPN_ROIS else config.POST_NMS_ROIS_TRAINING,
        "seed": seed,
        "shuffle": True,
    }
    repeats = None
    if config.REPEAT_THRESHOLD:
        repeats = repeat_factors(class_ids_per_image(data.train), config.REPEAT_THRESHOLD)
    batches = Batches(
        data.train,
        config,
        augmentation=data.augmentation,
        no_augmentation_sources=data.no_augmentation_sources,
        steps=config.STEPS_PER_EPOCH,
        repeats=repeats,
        **options,
    )
    batches.epoch = run.epoch
    validation = None
    if data.validation_count() and config.VALIDATION_STEPS:
        validation = Batches(data.validation, config, steps=config.VALIDATION_STEPS, **options)
    check_before_training(data.train, config)
    if validation is not None:
        check_before_training(validation.dataset, config, "validation data", learns=False)
    return batches, validation


def _reset_random_state(network: keras.Model, seed: int) -> None:
    """Make the sampling of RoIs start from the seed, so that the same seed trains the same."""
    for layer in network.layers:
        if hasattr(layer, "seed_generator"):
            layer.seed_generator.state.assign(keras.random.SeedGenerator(seed).state)


# --- Fit ---


@dataclass
class _Fitting:
    """One call of Keras' `fit`, with all that it needs.

    Call `prepare_network`, `add_callbacks` and `fit` in this order.

    validation: None trains without validation.
    """

    run: TrainingRun
    data: TrainingData
    stage: Stage
    batches: Batches
    validation: Batches | None

    def __post_init__(self):
        self.strategy = self.run.network.distribute_strategy
        self.hosts = distributed.hosts_of(self.strategy)
        self.is_chief = self.hosts is None or self.hosts.is_chief
        self.progress = Progress(self.run.epoch, self.stage.epochs, self.batches.steps)
        self.watchdog = StallWatchdog(self.batches)
        self.writers: Writers | None = None  # of the chief

    def prepare_network(self) -> None:
        """Choose the trainable layers, compile, and set the random state."""
        network, config = self.run.network, self.run.config
        set_trainable(network, layer_regex(self.stage.layers), config)
        compile_network(network, config, self.stage.learning_rate, config.LEARNING_MOMENTUM)
        # Variables that the first step would create make TensorFlow trace it a second time.
        with self.strategy.scope():
            network.optimizer.build(network.trainable_variables)
            self.averages = add_average_variables(network) if config.EMA_DECAY else {}
        if config.SEED is not None:
            _reset_random_state(network, config.SEED)

    def add_callbacks(self, resumed: bool, make_detector, custom_callbacks: list) -> None:
        """Set `callbacks`, in the order in which they add to the logs and read them."""
        run, config = self.run, self.run.config
        self.callbacks = []
        if self.averages:
            decay = config.EMA_DECAY
            self.callbacks.append(WeightAverages(run.network, decay, self.averages, resumed))
        self.callbacks.append(StopAtNonFinite(run, self.batches, writes=self.is_chief))
        self.callbacks += schedule_callbacks(run.network, config, self.stage.epochs)
        self.callbacks.append(ThroughputLogger(config.BATCH_SIZE))
        watching = [self.progress, self.watchdog, *custom_callbacks]
        if self.is_chief:
            self.writers = self._make_writers(resumed, make_detector)
            self.callbacks += self.writers.around(watching)
        else:
            self.callbacks += [EpochCounter(run), *watching]

    def _make_writers(self, resumed: bool, make_detector) -> Writers:
        """Return the callbacks that write files, with what a resumed training knows already."""
        last = read_record(_state_path(self.run)) or {}
        if not resumed:
            last["waited"] = 0  # a new stage begins
        # Read by a resumed training, see `training_state`.
        record = {
            **NEW_RECORD,
            **last,
            "until": self.stage.epochs,
            "layers": self.stage.layers,
            "learning_rate": float(self.stage.learning_rate),
            "seed": self.batches.seed,
        }
        one_host = self.hosts is None
        return Writers(
            self.run, record, self.batches, self.data.validation, make_detector, one_host
        )

    def fit(self) -> keras.callbacks.History | None:
        """Call Keras' `fit`; whatever ends it, stop the workers and give the terminal back."""
        run = self.run
        log.info(
            "Training until epoch %d, learning rate %g, checkpoints in %s",
            self.stage.epochs, self.stage.learning_rate, run.folder,
        )  # fmt: skip
        if not self.is_chief:
            log.info("This host writes no files: checkpoints, state and tables are the chief's.")
        interrupts = Interrupts()
        with contextlib.ExitStack() as stack:
            for batches in self._all_batches():
                stack.callback(batches.stop)
            for watch in (self.watchdog, self.progress, interrupts):
                stack.callback(watch.stop)
            if self.writers is not None:
                stack.callback(self.writers.stop)
            try:
                interrupts.start()
                if self.writers is not None and self.writers.has_ended():
                    return None
                return self._fit()
            except KeyboardInterrupt:
                if self.is_chief:
                    _save_interrupted(run)
                raise
            except (MemoryError, tf.errors.ResourceExhaustedError) as error:
                raise OutOfMemory(memory_advice(run.config, error)) from error
            except Exception:
                for batches in self._all_batches():
                    if batches.failure is not None:
                        raise batches.failure from None
                raise

    def _fit(self) -> keras.callbacks.History:
        run, network = self.run, self.run.network
        options = {}
        if self.validation is not None:
            options["validation_data"] = stream(self.validation, network, endless=False)
            options["validation_steps"] = self.validation.steps
        history = network.fit(
            stream(self.batches, network),
            initial_epoch=run.epoch,
            epochs=self.stage.epochs,
            steps_per_epoch=self.batches.steps,
            callbacks=self.callbacks,
            shuffle=False,  # `Batches` does it; Keras would shuffle the batches without the seed
            verbose=0,
            **options,
        )
        if self.hosts is not None:  # wait until the chief has written its last epoch
            distributed.gather(self.strategy, [run.epoch])
        return history

    def _all_batches(self) -> list[Batches]:
        return [self.batches] if self.validation is None else [self.batches, self.validation]


# --- How a training ends ---


class OutOfMemory(ValueError, MemoryError):
    """A step does not fit into memory; the message names settings and values to try."""


def memory_advice(config: Config, error: Exception) -> str:
    """Return the message of `OutOfMemory`: smaller values of the settings that take memory."""
    rois, side = config.TRAIN_ROIS_PER_IMAGE, config.IMAGE_MAX_DIM
    smaller = {
        "IMAGES_PER_GPU": max(1, config.IMAGES_PER_GPU // 2),
        "IMAGE_MAX_DIM": max(64, side * 3 // 4 // 64 * 64),
    }
    if config.has_rpn():
        smaller |= {"TRAIN_ROIS_PER_IMAGE": max(8, rois // 2), "USE_MINI_MASK": True}
    tries = []
    for name, value in smaller.items():
        now = getattr(config, name)
        if value != now:
            tries.append(f"{name} = {value} (now {now})")
    first_line = str(error).strip().split("\n")[0]
    return (
        "A training step must fit into memory. "
        f"Received: not enough memory for BATCH_SIZE = {config.BATCH_SIZE} "
        f"({type(error).__name__}: {first_line}). "
        f"Try {', or '.join(tries) or 'a smaller BACKBONE'}, in this order."
    )


def _save_interrupted(run: TrainingRun) -> None:
    """Save the current weights, and log how to continue."""
    path = free_name(os.path.join(run.folder, "interrupted.h5"))
    run.save(path)
    done = "1 epoch is" if run.epoch == 1 else f"{run.epoch} epochs are"
    log.warning("Interrupted: %s done, and the current weights are in %s.", done, path)
    if run.epoch:
        log.warning("--weights last resumes from the last checkpoint, after epoch %d.", run.epoch)
    else:
        log.warning("There is no checkpoint yet, so that --weights last has nothing to resume.")
    log.warning("To start a new training from these weights: --weights %s", path)

"""What happens around the steps of a training: checkpoints, tables, progress, evaluation."""

from __future__ import annotations

import csv
import logging
import math
import os
import shutil
import signal
import socket
import sys
import threading
import time

import cv2
import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from ..config import LOSS_NAMES
from ..data.masks import extract_bboxes
from ..drawing.pages import draw_next_to_ground_truth
from ..evaluation.evaluate import EVALUATION_MIN_CONFIDENCE, evaluate_dataset
from ..evaluation.matching import compute_ap
from ..files.atomic import atomic_write
from ..files.file_names import free_name
from ..weights.checkpoints import checkpoints
from .training_state import remove_older_states, save_state, state_path

log = logging.getLogger("mrcnn")


class Checkpoint(keras.callbacks.Callback):
    """After each epoch, what the training needs to go on, and the weights (that know their network).

    run: the `TrainingRun`. about: what the next start must know of this training, see `state`.

    With KEEP_LAST_N, checkpoints before the last N of the run are deleted.

    The state is written first, so that a checkpoint that is there can be resumed exactly. On a full disk the weights
    come first: a state that leaves no room for them is deleted.
    """

    def __init__(self, run, about):
        super().__init__()
        self.run, self.about = run, about
        self.rate = None

    def on_epoch_end(self, epoch, logs=None):
        self.about["epoch"] = epoch + 1
        path = self.run.checkpoint_path.format(epoch=epoch + 1)
        try:
            self._save_state()
            self.run.save(path)
        except OSError as error:
            if os.path.exists(self._state_path()):
                os.remove(self._state_path())
            self.run.save(path)
            self.run.epoch = epoch + 1
            raise OSError(
                f"A checkpoint and its training state must be written. Received: {error} The weights of epoch "
                f"{epoch + 1} are in {path}; a training that resumes from them starts with a fresh optimizer."
            ) from error
        self.run.epoch = epoch + 1
        remove_older_states(self._state_path())
        self._remove_older_checkpoints()

    def on_epoch_begin(self, epoch, logs=None):
        self._foresee_full_disk(first=self.rate is None)
        # Callbacks that come later may have changed the rate since the state was written: ReduceLROnPlateau.
        if self.rate is not None and self.rate != _rate(self.model):
            self._save_state()

    def _save_state(self):
        self.rate = _rate(self.model)
        save_state(self._state_path(), self.model, self.about)

    def _foresee_full_disk(self, first):
        """Compare the free space with the size of a checkpoint and its state before the epoch, which may take hours.

        first: nothing was written yet. Raises: OSError if then not even one fits; later it is a warning.
        """
        variables = [*self.model.weights, *self.model.optimizer.variables]
        needed = sum(
            math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in variables
        )
        total, _, free = shutil.disk_usage(self.run.folder)
        if free >= needed or not total:  # some network drives say 0 of everything
            return
        sentence = (
            f"The disk of {self.run.folder} must have room for a checkpoint and its training state, "
            f"{_megabytes(needed)}. Received: {_megabytes(free)} free. Try to free some, KEEP_LAST_N to keep fewer "
            "checkpoints, or a folder on another disk (--logs)."
        )
        if first:
            raise OSError(sentence)
        log.warning(
            "%s Until epoch %d ends there is time to do so.", sentence, self.about["epoch"] + 1
        )

    def _state_path(self):
        return state_path(self.run.folder, self.about["epoch"])

    def _remove_older_checkpoints(self):
        keep = self.run.config.KEEP_LAST_N
        if keep is None:
            return
        for path in checkpoints(self.run.folder, self.run.config.NAME)[:-keep]:
            path.unlink()


def _megabytes(count) -> str:
    return f"{count / 1e6:,.0f} MB"


class CountEpochs(keras.callbacks.Callback):
    """Counts the epochs of a run that writes no checkpoints: on a host that is not the chief."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        self.run.epoch = epoch + 1


class AveragedWeights(keras.callbacks.Callback):
    """Averages the weights over the steps; between the epochs the network holds the averages.

    So validation and checkpoints are of the averages, and the weights that learn wait in the optimiser's state, from
    which a training that goes on takes them back. (Polyak 1992; the decay grows with the steps, so that the
    random start is soon forgotten.)

    decay: share of the former average in the new one. averages: `{path of the weight: variable}`, of all that learn.
    between_epochs: whether the network holds averages now, as after loading a checkpoint with its state.
    """

    def __init__(self, decay, averages, between_epochs):
        super().__init__()
        self.decay, self.averages, self.between_epochs = decay, averages, between_epochs

    def on_train_begin(self, logs=None):
        self.pairs = [
            (weight, self.averages[weight.path])
            for weight in self.model.weights
            if weight.path in self.averages
        ]

        @tf.function
        def follow(share):
            for weight, average in self.pairs:
                average.assign(average + (weight - average) * share)

        self.follow = follow

    def on_train_batch_end(self, batch, logs=None):
        steps = int(self.model.optimizer.iterations.numpy())
        self.follow(tf.constant(1.0 - min(self.decay, (1 + steps) / (10 + steps))))

    def on_epoch_begin(self, epoch, logs=None):
        if self.between_epochs:
            self._swap()

    def on_test_begin(self, logs=None):
        self._show_averages()

    def on_epoch_end(self, epoch, logs=None):
        self._show_averages()

    def _show_averages(self):
        if not self.between_epochs:
            self._swap()

    def _swap(self):
        self.between_epochs = not self.between_epochs
        for weight, average in self.pairs:
            value = weight.numpy()
            weight.assign(average)
            average.assign(value)


class KeepBest(keras.callbacks.Callback):
    """Keeps the checkpoint of the best `val_mAP` as `best.h5`; the last of the callbacks, which may log one.

    about: as for `Checkpoint`; the best figure is kept there, so that a training that goes on knows it.
    """

    def __init__(self, run, about):
        super().__init__()
        self.run, self.about = run, about

    def on_epoch_end(self, epoch, logs=None):
        figure = (logs or {}).get("val_mAP", math.nan)
        if math.isnan(figure) or figure <= self.about["best"]:
            return
        self.about["best"] = float(figure)
        with atomic_write(os.path.join(self.run.folder, "best.h5")) as part:
            shutil.copyfile(self.run.checkpoint_path.format(epoch=epoch + 1), part)
        save_state(state_path(self.run.folder, epoch + 1), self.model, self.about)
        log.info("epoch %d  the best val_mAP so far, %.3f: kept as best.h5", epoch + 1, figure)


class LossTable(keras.callbacks.Callback):
    """A line of `losses.csv` per epoch; a run that goes on goes on in the same file. New figures add a column."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        rows = []
        if os.path.exists(self.path):
            with open(self.path, newline="") as file:
                rows = list(csv.DictReader(file))
        figures = {name: f"{float(value):.6f}" for name, value in (logs or {}).items()}
        rows.append({"epoch": epoch + 1, "loss": figures.pop("loss", ""), **figures})
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with atomic_write(self.path) as part, open(part, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def _rate(network) -> float:
    """The learning rate that the optimizer of a network holds."""
    return float(np.asarray(network.optimizer.learning_rate))


class ScheduledRate(keras.callbacks.Callback):
    """Multiplies the learning rate by the factor of a schedule while a step runs.

    Between the steps the optimizer holds the rate without the factor: ReduceLROnPlateau, LearningRateScheduler and
    other callbacks read and set that one. (Keras itself lets nobody set the rate of an optimizer with a schedule.)

    schedule: step of the run -> factor. steps: of an epoch.
    """

    def __init__(self, schedule, steps):
        super().__init__()
        self.schedule, self.steps = schedule, steps

    def on_epoch_begin(self, epoch, logs=None):
        self.first_step = epoch * self.steps

    def on_train_batch_begin(self, batch, logs=None):
        self.unscaled = _rate(self.model)
        self.scaled = self.unscaled * self.schedule(self.first_step + batch)
        self.model.optimizer.learning_rate = self.scaled

    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.unscaled

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = self.scaled


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' own, which shows the rate that the optimizer holds, in place of the one in the logs."""

    def on_epoch_end(self, epoch, logs=None):
        held = _rate(self.model)
        shown = (logs or {}).get("learning_rate", held)
        if shown == held:
            super().on_epoch_end(epoch, logs)
            return
        self.model.optimizer.learning_rate = shown
        super().on_epoch_end(epoch, logs)
        self.model.optimizer.learning_rate = held


class Rates(keras.callbacks.Callback):
    """Adds `learning_rate` and `images_per_second` to the logs of an epoch, for the callbacks after it."""

    def __init__(self, batch_size):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.seconds = self.steps = 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds, self.steps = self.seconds + time.time() - self.start, self.steps + 1

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None and self.seconds:
            logs.setdefault("learning_rate", _rate(self.model))
            logs["images_per_second"] = self.steps * self.batch_size / self.seconds


class NotFinite(ValueError):
    """A loss became nan or infinite; the text names it, the step and the images."""


class StopAtNonFinite(keras.callbacks.Callback):
    """Stops the training at the first loss or gradient that is not finite; that step has changed no weights.

    run: the `TrainingRun`. batches: its `Batches`. keeps: whether this host keeps the weights.

    Raises: NotFinite.
    """

    def __init__(self, run, batches, keeps=True):
        super().__init__()
        self.run, self.batches, self.keeps = run, batches, keeps

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        broken = [f"{name} = {value}" for name, value in logs.items() if not math.isfinite(value)]
        if not broken:
            return
        path = "the chief's last_good.h5"
        if self.keeps:
            path = free_name(os.path.join(self.run.folder, "last_good.h5"))
            self.run.save(path)
        images = self.batches.names(self.batches.batch_image_ids(self.epoch, batch))
        rate = _rate(self.model)
        raise NotFinite(
            f"Every loss must be finite. Received: {', '.join(broken)} in epoch {self.epoch + 1}, step {batch + 1}, "
            f"images {images}. The weights from before it are in {path}. Try a learning rate below {rate:g}, "
            "WARMUP_STEPS, and `mrcnn check` on the data."
        )


class Stalls(keras.callbacks.Callback):
    """Says what the workers are doing where a step does not end for a minute, which looks like a hang.

    batches: the `Batches` of the training.
    """

    PATIENCE_S = 60.0

    def __init__(self, batches):
        super().__init__()
        self.batches = batches
        self.step_since = None  # while a step runs
        self.traced = False  # the first step may take long
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def on_train_begin(self, logs=None):
        self.thread.start()

    def on_train_batch_begin(self, batch, logs=None):
        self.step_since = time.time()

    def on_train_batch_end(self, batch, logs=None):
        self.step_since, self.traced = None, True

    def on_train_end(self, logs=None):
        self.stop()

    def stop(self):
        """End the watch; for a training that ended by an error too."""
        self.over.set()
        if self.thread.is_alive():
            self.thread.join()

    def _watch(self):
        told = 0  # minutes of this step that were told of
        while not self.over.wait(self.PATIENCE_S / 10):
            since = self.step_since
            waited = time.time() - since if since is not None and self.traced else 0.0
            told = min(told, int(waited / self.PATIENCE_S))
            if waited >= (told + 1) * self.PATIENCE_S:
                told += 1
                log.warning("No step has ended for %.0f s. %s", waited, self._doings())

    def _doings(self) -> str:
        now = time.time()
        making = [
            f"images {self.batches.names(ids)} for {now - since:.0f} s"
            for ids, since in list(self.batches.being_made.values())
        ]
        if not making:
            return "No worker is reading images: the step itself takes that long."
        return f"{len(making)} workers are making batches of " + "; ".join(making) + "."


class Interrupts:
    """Says at once that Ctrl-C was seen, and ends the program at the next one.

    Python raises KeyboardInterrupt only when the step that runs has returned, a minute later on a slow machine. The
    program is ended on a terminal only: in a notebook its kernel would be lost with all that it holds.
    """

    PATIENCE_S = 1.0  # between the second Ctrl-C and the end, for Python to end by itself

    def __init__(self):
        self.over = threading.Event()
        self.reader = self.writer = self.thread = None

    def start(self):
        """Begin to watch, in the main thread; there only are signals handled."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return  # whoever handles Ctrl-C otherwise says what comes of it
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.former = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self):
        """End the watch."""
        if self.thread is None:
            return
        self.over.set()
        signal.set_wakeup_fd(self.former)
        self.writer.close()
        self.thread.join()
        self.reader.close()

    def _watch(self):
        seen = 0
        while received := self.reader.recv(
            1
        ):  # the number of a signal; nothing once the writer is closed
            if received[0] != signal.SIGINT:
                continue
            seen += 1
            if seen == 1:
                log.warning(
                    "Stopping after this step; then the weights are saved. Ctrl-C again: stop without saving."
                )
            elif (
                sys.stdin is not None and sys.stdin.isatty() and not self.over.wait(self.PATIENCE_S)
            ):
                Console(stderr=True).show_cursor()
                os._exit(128 + signal.SIGINT)


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
        log.info("Tracing the graph: the first step takes a minute or so, the next ones do not.")

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
        self.stop()

    def _open_bar(self):
        if not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self.bar = Bar(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]} left  {task.fields[text]}"),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(
            "", total=(self.epochs - self.first_epoch) * self.steps, text="", left=UNKNOWN
        )
        self.bar.start()

    def stop(self):
        """Give the terminal back; for a training that ended by an error too."""
        if self.bar:
            self.bar.stop()
            self.bar = None


class MeanAveragePrecisionCallback(keras.callbacks.Callback):
    """Detects on a dataset every few epochs, and puts into the logs what comes of it.

    `val_mAP`, `val_mAP50`: COCO's AP of masks (of boxes for a box-only model), as `mrcnn evaluate` prints it.
    `val_box_mAP`: COCO's AP of boxes.
    `val_mean_average_precision`: matterport's, the mean over images of `compute_ap` at IoU 0.5, for detections from
    the inference model's DETECTION_MIN_CONFIDENCE on; it compares masks, and is nan for a box-only model.

    Callbacks after it in `custom_callbacks` find them: EarlyStopping(monitor="val_mAP", mode="max"). In the epochs
    between there are none, and Keras' callbacks say that they miss them and go on.

    train_model: the `MaskRCNN` that trains. inference_model: one in inference mode, of the same network; it takes
    over the weights each time. dataset: prepared. calculate_map_at_every_X_epoch: after epochs X, 2X, ...
    dataset_limit: only the first so many images. verbose: 0 logs nothing.
    """

    def __init__(
        self,
        train_model,
        inference_model,
        dataset,
        calculate_map_at_every_X_epoch=5,
        dataset_limit=None,
        verbose=1,
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
        self.every, self.limit, self.verbose = (
            calculate_map_at_every_X_epoch,
            dataset_limit,
            verbose,
        )

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
        if "masks" not in found:
            return math.nan
        masks, class_ids = self.dataset.load_mask(image_id)
        objects = np.flatnonzero(np.asarray(class_ids) > 0)  # no crowds
        shown = np.flatnonzero(np.asarray(found["scores"]) >= shown_from)
        if len(objects) == 0:
            return math.nan
        masks = np.asarray(masks)[:, :, objects]
        detections = (found[name][shown] for name in ("rois", "class_ids", "scores"))
        return compute_ap(
            extract_bboxes(masks),
            np.asarray(class_ids)[objects],
            masks,
            *detections,
            found["masks"][:, :, shown],
        )[0]


class DetectionPictures(keras.callbacks.Callback):
    """Shows TensorBoard, after each epoch, what is detected in the first images of a dataset, beside the truth.

    run: the `TrainingRun`. make_detector: returns a model in inference mode
    of the same network, for one image at a time. dataset: prepared. count: of images.
    """

    LARGEST_SIDE = 1024

    def __init__(self, run, make_detector, dataset, count):
        super().__init__()
        self.run, self.make_detector, self.dataset = run, make_detector, dataset
        self.image_ids = list(dataset.image_ids)[:count]
        self.detector = self.writer = None

    def on_epoch_end(self, epoch, logs=None):
        if self.detector is None:
            self.detector = self.make_detector()
            self.writer = tf.summary.create_file_writer(os.path.join(self.run.folder, "validation"))
        _copy_weights(self.model, self.detector.keras_model)
        with self.writer.as_default(step=epoch):
            for place, image_id in enumerate(self.image_ids):
                try:
                    tf.summary.image(f"detections/{place}", self._picture(image_id)[None])
                except (
                    ValueError,
                    OSError,
                ) as error:  # an unreadable image does not end a training
                    log.warning("No picture of detections in image %d: %s", image_id, error)
        self.writer.flush()

    def on_train_end(self, logs=None):
        if self.writer:
            self.writer.close()

    def _picture(self, image_id) -> np.ndarray:
        image = self.dataset.load_image(image_id)
        (found,) = self.detector.detect([image])
        shown_from = self.detector.config.DETECTION_MIN_CONFIDENCE
        picture = draw_next_to_ground_truth(self.dataset, image_id, image, found, shown_from)
        shrink = self.LARGEST_SIDE / max(picture.shape)
        return (
            picture
            if shrink >= 1
            else cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        )


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
    return "  ".join(
        f"{short.get(name, name.removesuffix('_loss'))} {float(logs[name]):.4f}" for name in names
    )


def _duration(seconds) -> str:
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

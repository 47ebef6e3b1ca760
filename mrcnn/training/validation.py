"""Callbacks that detect on a validation dataset: average precision, images for TensorBoard."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.check_anchors import spread_evenly
from ..data.dataset import Dataset
from ..data.masks import extract_bboxes
from ..drawing.pages import draw_next_to_ground_truth, shrink
from ..evaluation.evaluate import coco, detecting_from, evaluate_dataset
from ..evaluation.matching import compute_ap
from ..evaluation.summary import EVALUATION_MIN_CONFIDENCE, Evaluation

log = logging.getLogger("mrcnn")


class MeanAveragePrecisionCallback(keras.callbacks.Callback):
    """Evaluates the model on a dataset every few epochs, and adds the metrics to the logs.

    `val_mAP`, `val_mAP50`: COCO's AP of masks (of boxes for a box-only model), as `mrcnn evaluate`
        prints it.
    `val_box_mAP`: COCO's AP of boxes.
    `val_keypoint_mAP`: COCO's AP of keypoints, of a network that has them.
    `val_mean_average_precision`: matterport's, the mean over images of `compute_ap` at IoU 0.5, of
        detections from the inference model's DETECTION_MIN_CONFIDENCE on; it compares masks, and is
        nan for a box-only model.

    Callbacks after it in `custom_callbacks` read them, as
    `EarlyStopping(monitor="val_mAP", mode="max")` does. In the epochs between, the metrics are
    absent, and Keras' callbacks warn and continue.

    train_model: the `MaskRCNN` that trains.
    inference_model: one in inference mode, of the same network; it gets the weights each time.
    dataset: prepared.
    calculate_map_at_every_X_epoch: after epochs X, 2X, ...
    dataset_limit: number of images, the first of the dataset; None takes all.
    verbose: 0 is silent.

    Raises: ValueError if the inference model is in another mode, or X < 1.
    """

    def __init__(
        self,
        train_model,
        inference_model,
        dataset: Dataset,
        calculate_map_at_every_X_epoch: int = 5,
        dataset_limit: int | None = None,
        verbose: int = 1,
    ):
        super().__init__()
        if inference_model.mode != "inference":
            raise ValueError(
                "inference_model must be in inference mode. "
                f"Received: mode {inference_model.mode!r}. "
                "Try MaskRCNN(mode='inference', ...), with the same settings."
            )
        if calculate_map_at_every_X_epoch < 1:
            raise ValueError(
                "calculate_map_at_every_X_epoch must be at least 1. "
                f"Received: {calculate_map_at_every_X_epoch}."
            )
        self.train_model, self.inference_model, self.dataset = train_model, inference_model, dataset
        self.every = calculate_map_at_every_X_epoch
        self.limit, self.verbose = dataset_limit, verbose

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        copy_weights(self.train_model.keras_model, self.inference_model.keras_model)
        scores = self.scores()
        if self.verbose:
            mean, ap = scores["val_mean_average_precision"], scores["val_mAP"]
            log.info("epoch %d  mean average precision %.3f  mAP %.3f", epoch + 1, mean, ap)
        if logs is not None:
            logs.update(scores)

    def scores(self) -> dict[str, float]:
        """Return the metrics for the logs; nan if no image has objects."""
        config = self.inference_model.config
        shown_from = config.DETECTION_MIN_CONFIDENCE
        aps = []

        def detect(image: np.ndarray) -> dict:
            return self.inference_model.detect([image])[0]

        def add_ap(image_id: int, image: np.ndarray, result: dict) -> None:
            ap = self._average_precision(image_id, result, shown_from)
            if not math.isnan(ap):
                aps.append(ap)

        with detecting_from(config):
            evaluation = evaluate_dataset(
                detect,
                self.dataset,
                limit=self.limit,
                progress=False,
                on_image=add_ap,
                sigmas=config.KEYPOINT_SIGMAS,
            )
        mean = float(np.mean(aps)) if aps else math.nan
        return {**coco_metrics(evaluation), "val_mean_average_precision": mean}

    def mean_average_precision(self) -> float:
        """Return the mean AP of the images that have objects; nan if no image has any."""
        return self.scores()["val_mean_average_precision"]

    def _average_precision(self, image_id: int, result: dict, shown_from: float) -> float:
        if "masks" not in result:
            return math.nan
        masks, class_ids = self.dataset.load_mask(image_id)
        objects = np.flatnonzero(np.asarray(class_ids) > 0)  # crowds have negative ids
        if len(objects) == 0:
            return math.nan
        masks = np.asarray(masks)[:, :, objects]
        shown = np.flatnonzero(np.asarray(result["scores"]) >= shown_from)
        mean_ap, *_ = compute_ap(
            extract_bboxes(masks),
            np.asarray(class_ids)[objects],
            masks,
            result["rois"][shown],
            result["class_ids"][shown],
            result["scores"][shown],
            result["masks"][:, :, shown],
        )
        return mean_ap


def coco_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return COCO's AP by its names in the logs, see `MeanAveragePrecisionCallback`."""
    best_known = evaluation.mask or evaluation.box
    metrics = {
        "val_mAP": best_known["AP"],
        "val_mAP50": best_known["AP50"],
        "val_box_mAP": evaluation.box["AP"],
    }
    if evaluation.keypoints:
        metrics["val_keypoint_mAP"] = evaluation.keypoints["AP"]
    return metrics


class CurrentDetector:
    """Returns, when called, a model in inference mode with the current weights of a training.

    make: returns such a model of the same network, for one image per batch; called once.
    """

    def __init__(self, network: keras.Model, make: Callable[[], Any]):
        self.network, self.make = network, make
        self.detector: Any = None

    def __call__(self) -> Any:
        if self.detector is None:
            self.detector = self.make()
        copy_weights(self.network, self.detector.keras_model)
        return self.detector


class ValidationAP(keras.callbacks.Callback):
    """Measures COCO's AP on the validation data after each epoch, and adds it to the logs.

    It adds the names of `coco_metrics`, and `val_mAP_images`, the number of images. A sample is
    spread evenly over the dataset and stays the same in all epochs, also of a resumed training.

    detector: see `CurrentDetector`. dataset: prepared. images: see VALIDATION_AP_IMAGES.
    record: of the training state; "ap_images" is the size of the sample, 0 if not yet known.
    evaluation: of the last epoch; None before the first, and if it failed.
    """

    SHARE = 0.2  # of the time of an epoch
    FEWEST = 16  # images; the AP of fewer is mostly chance

    def __init__(
        self,
        detector: Callable[[], Any],
        dataset: Dataset,
        images: int | str,
        record: dict,
    ):
        super().__init__()
        self.detector, self.dataset = detector, dataset
        self.images, self.record = images, record
        self.evaluation: Evaluation | None = None
        self.image_ids: list[int] = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start, self.steps = time.perf_counter(), 0

    def on_train_batch_end(self, batch, logs=None):
        params: Any = self.params
        now = time.perf_counter()
        seconds = now - self.start
        if self.steps:
            seconds /= self.steps
        else:
            self.start = now  # the first step is left out: it may trace the graph
        self.steps += 1
        self.record["epoch_seconds"] = seconds * params["steps"]

    def on_epoch_end(self, epoch, logs=None):
        self.evaluation = self._attempt()
        evaluation = self.evaluation
        if evaluation is None:
            return
        metrics = coco_metrics(evaluation)
        log.info(
            "epoch %d  %s AP %.3f, AP50 %.3f on %d images in %.0f s",
            epoch + 1, evaluation.kind, metrics["val_mAP"], metrics["val_mAP50"],
            evaluation.images, evaluation.seconds,
        )  # fmt: skip
        if logs is not None:
            logs.update({**metrics, "val_mAP_images": evaluation.images})

    def _attempt(self) -> Evaluation | None:
        """Evaluate the current weights; an error is logged, because it must not end a training."""
        try:
            if not self.image_ids:
                self.image_ids = self._choose_images()
            return self._evaluate(self.image_ids)
        except Exception as error:  # of the user's dataset, or of a GPU whose memory is full
            log.warning(
                "AP of this epoch could not be measured: %s: %s", type(error).__name__, error
            )
            return None

    def _evaluate(self, image_ids: Sequence[int]) -> Evaluation:
        return coco(self.detector(), self.dataset, image_ids, progress=False)

    def _choose_images(self) -> list[int]:
        """Return the image ids of the sample, and log which they are."""
        total = len(self.dataset.image_ids)
        count = self.images if isinstance(self.images, int) else self.record["ap_images"]
        if not count:
            count = self._affordable(total)
        chosen = spread_evenly(total, count)
        self.record["ap_images"] = len(chosen)
        if len(chosen) < total:
            log.info(
                "AP is measured on %d of the %d validation images, evenly spread: %s, ... "
                "(VALIDATION_AP_IMAGES=%d takes all).",
                len(chosen), total, ", ".join(map(str, chosen[:3])), total,
            )  # fmt: skip
        return [int(self.dataset.image_ids[position]) for position in chosen]

    def _affordable(self, total: int) -> int:
        """Return the number of images that take SHARE of an epoch, from the time of three."""
        if total <= self.FEWEST:
            return total
        first, *others = self.dataset.image_ids[spread_evenly(total, 4)]
        self._evaluate([first])  # traces the graph
        seconds = self._evaluate(others).seconds / len(others)
        limit = self.SHARE * self.record["epoch_seconds"]
        if total * seconds > limit:
            log.info(
                "Detection on all %d validation images would take %.0f s, more than a fifth of "
                "an epoch's %.0f s.",
                total, total * seconds, self.record["epoch_seconds"],
            )  # fmt: skip
        return min(total, max(self.FEWEST, int(limit / seconds)))


class DetectionImages(keras.callbacks.Callback):
    """Writes images of detections next to the ground truth for TensorBoard, after each epoch.

    folder: log folder of the run. detector: see `CurrentDetector`.
    dataset: prepared. count: number of images, the first of the dataset.
    """

    LARGEST_SIDE = 1024

    def __init__(self, folder: str, detector: Callable[[], Any], dataset: Dataset, count: int):
        super().__init__()
        self.folder, self.detector, self.dataset = folder, detector, dataset
        self.image_ids = [int(image_id) for image_id in dataset.image_ids[:count]]
        self.writer: Any = None

    def on_epoch_end(self, epoch, logs=None):
        if self.writer is None:
            self.writer = tf.summary.create_file_writer(os.path.join(self.folder, "validation"))
        detector = self.detector()
        with self.writer.as_default(step=epoch):
            for i, image_id in enumerate(self.image_ids):
                try:
                    drawn = self._draw(detector, image_id)
                    tf.summary.image(f"detections/{i}", drawn[None])
                except (ValueError, OSError) as error:
                    # An unreadable image does not end a training.
                    log.warning("Detections in image %d could not be drawn: %s", image_id, error)
        self.writer.flush()

    def on_train_end(self, logs=None):
        if self.writer:
            self.writer.close()

    def _draw(self, detector: Any, image_id: int) -> np.ndarray:
        image = self.dataset.load_image(image_id)
        shown_from = detector.config.DETECTION_MIN_CONFIDENCE
        # As `ValidationAP` detects: another confidence would compile the network again.
        with detecting_from(detector.config, min(shown_from, EVALUATION_MIN_CONFIDENCE)):
            (result,) = detector.detect([image])
        drawn = draw_next_to_ground_truth(self.dataset, image_id, image, result, shown_from)
        return shrink(drawn, self.LARGEST_SIDE)


def copy_weights(source: Any, target: Any) -> None:
    """Set the weights of a Keras model to those of another with the same paths.

    Raises: ValueError if the models have different layers.
    """
    values = {weight.path: weight for weight in source.weights}
    differing = sorted(values.keys() ^ {weight.path for weight in target.weights})
    if differing:
        raise ValueError(
            "Both models must have layers of the same names. "
            f"Received: models that differ in {', '.join(differing[:6])}. "
            "Try the same config, and layers with names."
        )
    for weight in target.weights:
        weight.assign(values[weight.path])

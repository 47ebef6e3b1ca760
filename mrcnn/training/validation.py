"""Callbacks that detect on a validation dataset: average precision, images for TensorBoard."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf

from ..data.dataset import Dataset
from ..data.masks import extract_bboxes
from ..drawing.pages import draw_next_to_ground_truth
from ..evaluation.evaluate import EVALUATION_MIN_CONFIDENCE, evaluate_dataset
from ..evaluation.matching import compute_ap

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

        image_ids = [int(image_id) for image_id in self.dataset.image_ids[: self.limit]]
        config.DETECTION_MIN_CONFIDENCE = EVALUATION_MIN_CONFIDENCE
        try:
            evaluation = evaluate_dataset(
                detect,
                self.dataset,
                image_ids,
                progress=False,
                on_image=add_ap,
                sigmas=config.KEYPOINT_SIGMAS,
            )
        finally:
            config.DETECTION_MIN_CONFIDENCE = shown_from
        coco = evaluation.mask or evaluation.box
        scores = {
            "val_mAP": coco["AP"],
            "val_mAP50": coco["AP50"],
            "val_box_mAP": evaluation.box["AP"],
            "val_mean_average_precision": float(np.mean(aps)) if aps else math.nan,
        }
        if evaluation.keypoints:
            scores["val_keypoint_mAP"] = evaluation.keypoints["AP"]
        return scores

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


class DetectionImages(keras.callbacks.Callback):
    """Writes images of detections next to the ground truth for TensorBoard, after each epoch.

    folder: log folder of the run.
    make_detector: returns a model in inference mode of the same network, for one image per batch.
    dataset: prepared. count: number of images, the first of the dataset.
    """

    LARGEST_SIDE = 1024

    def __init__(self, folder: str, make_detector: Callable[[], Any], dataset: Dataset, count: int):
        super().__init__()
        self.folder, self.make_detector, self.dataset = folder, make_detector, dataset
        self.image_ids = [int(image_id) for image_id in dataset.image_ids[:count]]
        self.detector: Any = None
        self.writer: Any = None

    def on_epoch_end(self, epoch, logs=None):
        if self.detector is None:
            self.detector = self.make_detector()
            self.writer = tf.summary.create_file_writer(os.path.join(self.folder, "validation"))
        copy_weights(self.model, self.detector.keras_model)
        with self.writer.as_default(step=epoch):
            for i, image_id in enumerate(self.image_ids):
                try:
                    tf.summary.image(f"detections/{i}", self._draw(image_id)[None])
                except (ValueError, OSError) as error:
                    # An unreadable image does not end a training.
                    log.warning("Detections in image %d could not be drawn: %s", image_id, error)
        self.writer.flush()

    def on_train_end(self, logs=None):
        if self.writer:
            self.writer.close()

    def _draw(self, image_id: int) -> np.ndarray:
        image = self.dataset.load_image(image_id)
        (result,) = self.detector.detect([image])
        shown_from = self.detector.config.DETECTION_MIN_CONFIDENCE
        drawn = draw_next_to_ground_truth(self.dataset, image_id, image, result, shown_from)
        scale = self.LARGEST_SIDE / max(drawn.shape)
        if scale >= 1:
            return drawn
        return cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


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

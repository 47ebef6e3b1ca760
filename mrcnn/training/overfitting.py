"""The end of a training on a few images: it stops when their objects are found."""

from __future__ import annotations

import logging
import math

import keras

log = logging.getLogger("mrcnn")

PERFECT = 0.99  # AP at IoU 0.5; the objects of a few images have no more digits


class StopWhenPerfect(keras.callbacks.Callback):
    """Stops the training when `val_mAP50` is PERFECT, and logs how it ended.

    It comes after the callback that logs `val_mAP50`. The validation images are those of the
    training.
    """

    def __init__(self):
        super().__init__()
        self.best = math.nan

    def on_epoch_end(self, epoch, logs=None):
        score = (logs or {}).get("val_mAP50", math.nan)
        self.best = float(max(score, self.best)) if self.best >= 0 else float(score)
        if score >= PERFECT and self.model is not None:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.best >= PERFECT:
            log.info(
                "Overfitting succeeded: AP at IoU 0.5 is %.3f on the images trained on. "
                "Annotations and settings can work; train on all images.",
                self.best,
            )
        elif math.isnan(self.best):
            log.info("Overfitting ended; no AP was measured.")
        else:
            log.warning(
                "Overfitting has not succeeded yet: AP at IoU 0.5 is at most %.3f on the images "
                "trained on. Try more --epochs; if it stays, `mrcnn check` the annotations, or a "
                "larger --learning-rate.",
                self.best,
            )

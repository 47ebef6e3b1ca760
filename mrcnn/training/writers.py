"""The callbacks of the host that writes files, in the order in which they use the logs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import keras

from ..data.dataset import Dataset
from ..files.atomic import remove_parts
from .checkpoints import Checkpoint, KeepBest
from .early_stopping import early_stopping
from .pipeline import Batches
from .reports import ResultsTable, TensorBoard
from .run import TrainingRun
from .run_report import RunReport
from .validation import CurrentDetector, DetectionImages, ValidationAP

log = logging.getLogger("mrcnn")


class Writers:
    """The callbacks of the host that writes files: checkpoints, AP, tables, report.

    record: of the training state. batches: to train on. validation: None trains without.
    make_detector: as `make` of `CurrentDetector`. one_host: whether no other host trains.
    """

    def __init__(
        self,
        run: TrainingRun,
        record: dict,
        batches: Batches,
        validation: Dataset | None,
        make_detector: Callable[[], Any],
        one_host: bool,
    ):
        run.make_folder()
        remove_parts(run.folder)
        self.run, self.record = run, record
        has_images = validation is not None and len(validation.image_ids) > 0
        self.validation = validation if has_images else None
        self.detector = CurrentDetector(run.network, make_detector)
        self.average_precision = self._make_average_precision()
        self.table, self.best = ResultsTable(run.folder), KeepBest(run, record)
        self.early_stopping = early_stopping(
            run.config.EARLY_STOPPING_PATIENCE,
            record,
            record["until"] - run.epoch,
            self.average_precision is not None,
            one_host,
        )
        self.report = None
        if run.config.RUN_REPORT:
            self.report = RunReport(run, record, batches, self.average_precision)

    def _make_average_precision(self) -> ValidationAP | None:
        """Return the callback of VALIDATION_AP_IMAGES; None if it is off, or cannot work."""
        images, validation = self.run.config.VALIDATION_AP_IMAGES, self.validation
        if images is None:
            return None
        if validation is None or self.run.config.RPN_ONLY:
            has_data = "a region proposal network detects no objects"
            reason = "there is no validation data" if validation is None else has_data
            log.info("AP is not measured after the epochs: %s.", reason)
            return None
        log.info(
            "AP on validation data is measured after each epoch (VALIDATION_AP_IMAGES=%s); "
            "best.h5 is the checkpoint of the highest.",
            images,
        )
        return ValidationAP(self.detector, validation, images, self.record)

    def around(self, watching: list) -> list[keras.callbacks.Callback]:
        """Return all callbacks of this host.

        watching: callbacks that read metrics, or add their own.
        """
        run = self.run
        count = run.config.VALIDATION_PICTURES
        images = None
        if self.validation is not None and count and not run.config.RPN_ONLY:
            images = DetectionImages(run.folder, self.detector, self.validation, count)
        callbacks = [
            Checkpoint(run, self.record),
            self.average_precision,
            images,
            *watching,
            TensorBoard(log_dir=run.folder, histogram_freq=0, write_graph=False),
            self.table,
            self.best,
            self.early_stopping,
            self.report,
        ]
        return [callback for callback in callbacks if callback is not None]

    def has_ended(self) -> bool:
        """Whether a resumed training has ended by early stopping; measures its last epoch first."""
        self._complete_last_epoch()
        return self.early_stopping is not None and self.early_stopping.is_over()

    def _complete_last_epoch(self) -> None:
        """Measure AP of the last checkpoint if the training was killed before that was done."""
        logs, epoch = self.record["pending"], self.run.epoch
        is_whole = os.path.exists(self.run.checkpoint_path.format(epoch=epoch))
        if not logs or self.average_precision is None or not is_whole:
            return
        log.info("Measuring AP of epoch %d, which is not known yet.", epoch)
        for callback in (self.average_precision, self.table, self.best, self.report):
            if callback is not None:
                callback.on_epoch_end(epoch - 1, logs)

    def stop(self) -> None:
        """Write the report of a training that ended, also after an error."""
        if self.report is not None:
            self.report.stop()

"""The images, curves and `report.html` in the folder of a run, written while it trains."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import __version__
from ..data.check_anchors import spread_evenly
from ..data.dataset import Dataset
from ..drawing.curves import draw_results, save_png
from ..drawing.pages import draw_next_to_ground_truth, shrink
from ..drawing.run_page import RunFacts, run_page
from ..drawing.training_batches import draw_training_images
from ..evaluation.evaluate import detecting_from
from ..evaluation.report import draw_confusion
from ..evaluation.summary import Evaluation, without_nan
from ..files.atomic import atomic_write
from ..files.write_image import save_image
from ..formats.class_counts import objects_per_class
from .checkpoints import BEST
from .pipeline import Batches
from .reports import read_results
from .run import TrainingRun
from .validation import ValidationAP

log = logging.getLogger("mrcnn")

PAGE, BEST_METRICS = "report.html", "best_metrics.json"
NETWORK_NAMES = {"mask_rcnn": "Mask R-CNN", "retinanet": "RetinaNet", "fcos": "FCOS"}
BATCH_PAGES, IMAGES_PER_PAGE = 3, 8  # of training images
VALIDATION_IMAGES, WORST_IMAGES = 6, 6
LONGEST_SIDE = 1200  # pixels of a drawn validation image


class RunReport(keras.callbacks.Callback):
    """Writes images and a page into the folder of a run (RUN_REPORT).

    `batch_*.png` at the start: training images with their targets. `results.png` after each epoch.
    With each new best epoch `confusion.png`, `best_metrics.json`, and `val_*.png` and
    `worst_*.png`, detections next to the ground truth. `report.html` contains them all.

    A failure is logged: it must not end a training.

    record: of the training state. average_precision: None if AP is not measured.
    """

    INTERVAL_S = 60  # the page is not written more often

    def __init__(
        self,
        run: TrainingRun,
        record: dict,
        batches: Batches,
        average_precision: ValidationAP | None,
    ):
        super().__init__()
        self.run, self.record, self.batches = run, record, batches
        self.average_precision = average_precision
        self.folder = Path(run.folder)
        self.written: float | None = None  # when the page was written
        log.info("A report is kept in %s (RUN_REPORT).", self.folder / PAGE)

    def on_train_begin(self, logs=None):
        self._attempt(self._draw_batches)

    def on_epoch_end(self, epoch, logs=None):
        self._attempt(self._draw_curves)
        if self.record["best_epoch"] == epoch + 1:
            self._attempt(self._draw_best)
        if self.written is None or time.time() - self.written > self.INTERVAL_S:
            self._attempt(self._write_page)

    def stop(self) -> None:
        """Write the page of a training that ended, also after an error."""
        if read_results(self.run.folder):
            self._attempt(self._write_page)

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # of the user's dataset, or of a full disk
            log.warning("The report is incomplete: %s: %s", type(error).__name__, error)

    def _draw_curves(self) -> None:
        figure = draw_results(read_results(self.run.folder))
        save_png(figure, self.folder / "results.png", dpi=90)

    def _draw_batches(self) -> None:
        """Draw the first images of the epoch that begins."""
        names = [tensor.name for tensor in self.run.network.inputs]
        number = self.run.epoch * self.batches.steps
        for page in range(BATCH_PAGES):
            examples: list[dict[str, np.ndarray]] = []
            while len(examples) < IMAGES_PER_PAGE:
                inputs, _ = self.batches.batch(number)
                number += 1
                for row in range(len(inputs[0])):
                    values = [values[row] for values in inputs]
                    examples.append(dict(zip(names, values, strict=True)))
            examples = examples[:IMAGES_PER_PAGE]
            class_names = self.batches.dataset.class_names
            anchors = [self._anchors(example) for example in examples]
            drawn = draw_training_images(examples, class_names, self.run.config, anchors)
            save_image(drawn, self.folder / f"batch_{page + 1}.png")

    def _anchors(self, example: dict[str, np.ndarray]) -> np.ndarray:
        """Return the anchors of an image of a batch, `[A, 4]`; empty without an RPN."""
        if "input_rpn_match" not in example:
            return np.zeros((0, 4))
        return self.batches.anchors(example["input_image"].shape)[0]

    def _draw_best(self) -> None:
        """Write what belongs to the weights of `best.h5`, which the network has now."""
        ap = self.average_precision
        if ap is None or ap.evaluation is None:  # the user's own callback measured it
            return
        evaluation = ap.evaluation
        worst = sorted(evaluation.image_scores, key=lambda image: evaluation.image_scores[image])
        worst = [image for image in worst if evaluation.image_scores[image] < 1][:WORST_IMAGES]
        spread = spread_evenly(len(ap.image_ids), VALIDATION_IMAGES)
        content = {
            "epoch": self.record["best_epoch"],
            "validation_images": len(ap.dataset.image_ids),
            **evaluation.to_dict(),
            "val_images": [],
            "worst_images": [],
        }
        self._write_best(content)  # at once: Ctrl-C may end the drawing
        save_png(draw_confusion(evaluation), self.folder / "confusion.png", dpi=80)
        chosen = [ap.image_ids[i] for i in spread]
        content["val_images"] = self._draw_images("val", chosen, evaluation)
        content["worst_images"] = self._draw_images("worst", worst, evaluation)
        self._write_best(content)

    def _write_best(self, content: dict[str, Any]) -> None:
        with atomic_write(self.folder / BEST_METRICS) as part:
            text = json.dumps(without_nan(content), indent=1)
            Path(part).write_text(text + "\n", encoding="utf-8")

    def _draw_images(self, kind: str, image_ids: list[int], evaluation: Evaluation) -> list[dict]:
        """Write `<kind>_1.png` and so on; return file, name and score of each image."""
        ap: Any = self.average_precision
        detector, dataset = ap.detector(), ap.dataset
        for path in self.folder.glob(f"{kind}_*.png"):
            path.unlink()
        entries = []
        for image_id in image_ids:
            image = dataset.load_image(image_id)
            with detecting_from(detector.config):
                (result,) = detector.detect([image])
            shown_from = evaluation.shown_from
            drawn = draw_next_to_ground_truth(dataset, image_id, image, result, shown_from)
            file = f"{kind}_{len(entries) + 1}.png"
            save_image(shrink(drawn, LONGEST_SIDE), self.folder / file)
            score = evaluation.image_scores.get(image_id)
            entries.append({"file": file, "name": _name(dataset, image_id), "score": score})
        return entries

    def _write_page(self) -> None:
        page = run_page(self.folder, self._facts())
        with atomic_write(self.folder / PAGE) as part:
            Path(part).write_text(page, encoding="utf-8")
        self.written = time.time()

    def _facts(self) -> RunFacts:
        run, config = self.run, self.run.config
        best = None
        if (self.folder / BEST_METRICS).is_file():
            best = json.loads((self.folder / BEST_METRICS).read_text(encoding="utf-8"))
        has_best = (self.folder / BEST).is_file()
        now = time.strftime("%d %B %Y, %H:%M")
        last = Path(run.checkpoint_path.format(epoch=run.epoch)).name
        return RunFacts(
            name=self.folder.name,
            network=_network(config),
            state=f"Epoch {run.epoch} of {self.record['until']}, {now}",
            rows=read_results(run.folder),
            best=best,
            data=self._data(),
            settings=config.changed(),
            weights=BEST if has_best else last,
            epoch=self.record["best_epoch"] if has_best else run.epoch,
            has_masks=config.has_mask_head(),
            versions=f"mrcnn {__version__}, Keras {keras.__version__}, TensorFlow {tf.__version__}",
            class_names=self.batches.dataset.class_names,
        )

    def _data(self) -> list[tuple[str, int, dict[str, int] | None]]:
        roles = {"training": self.batches.dataset}
        if self.average_precision is not None:
            roles["validation"] = self.average_precision.dataset
        return [(role, len(data.image_ids), _counts(data)) for role, data in roles.items()]


def _network(config: Any) -> str:
    """Return a network in words, such as "Mask R-CNN, resnet50, 1024 x 1024 pixels"."""
    name = NETWORK_NAMES[config.NETWORK]
    if config.NETWORK == "mask_rcnn" and not config.USE_MASK:
        name = "Faster R-CNN"
    backbone = config.BACKBONE
    if not isinstance(backbone, str):
        backbone = "a backbone of its own"
    height, width = config.IMAGE_SHAPE[:2]
    return f"{name}, {backbone}, {height} x {width} pixels"


def _counts(dataset: Dataset) -> dict[str, int] | None:
    """Return the objects of each class; None if unknown, as for entries of the user's own form."""
    try:
        return objects_per_class(dataset)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _name(dataset: Dataset, image_id: int) -> str:
    """Return the file name of an image, or its id; no folder: the page may be sent to others."""
    info = dataset.image_info[image_id]
    return Path(str(info["path"])).name if info.get("path") else f"image {image_id}"

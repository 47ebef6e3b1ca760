"""`mrcnn evaluate`: metrics of a weight file on a dataset, with curves and drawn images."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import numpy as np

from ..config import Config
from ..data.dataset import Dataset
from ..drawing import pages
from ..evaluation import evaluate, report
from ..evaluation.proposals import proposal_recall
from ..files.file_names import short_name
from ..files.safe_text import clean_name
from ..formats.mask_forms import full_masks
from ..formats.open_dataset import split_folders
from ..inference.runtimes import is_exported
from ..weights.opening import read_metadata
from .cli_support import (
    UsageError,
    free_image_path,
    make_folder,
    save_image,
    say,
    use_views,
    write_json,
)
from .data_option import log_data, require_images
from .detect_command import report_failures
from .evaluate_workers import (
    Measured,
    detect_by_workers,
    measured_data,
    network_config,
    wants_workers,
)
from .model_option import check_model, load_to_detect

log = logging.getLogger("mrcnn")


def run(args) -> int:
    """Run `mrcnn evaluate`."""
    folders = split_folders(args.data) if args.split is None else None
    if folders:
        args.data = str(folders[1])
        log.info("Found data to train on and to validate on: measuring on %s", args.data)
    measured = measured_data(args, _class_names_of(args.weights))
    dataset = measured.open()
    require_images(dataset, args.data)
    if args.split is not None:
        log.info("Measuring on the images that %s sets aside for validation.", args.split)
    out = make_folder(args.out, "--out")
    if wants_workers(args):
        _refuse_other_runtimes(args)
        model, config = None, network_config(args.weights, args.config)
    else:
        model, _ = load_to_detect(args.weights, args.config, args.runtime)
        config = model.config
    _check_classes(dataset, config, args.data)
    use_views(config, args.tta)
    log_data("Data", dataset)
    if config.RPN_ONLY:
        return _evaluate_proposals(model, dataset, args, out)
    return _evaluate_detections(model, config, measured, dataset, args, out)


def _refuse_other_runtimes(args) -> None:
    """Raise a UsageError for what workers cannot detect with."""
    if is_exported(args.weights) or args.runtime not in (None, "tensorflow"):
        raise UsageError(
            "Workers detect with weight files, in TensorFlow. Received: "
            f"{args.weights} and --runtime {args.runtime}. Try without --workers and --ray."
        )


def _check_classes(dataset: Dataset, config: Config, data: str) -> None:
    """Raise a ValueError if data and weights differ in the number of classes."""
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            f"{data} must have the classes of the weights. Received: "
            f"{dataset.class_names[1:]}, and weights for {config.NUM_CLASSES - 1} classes. "
            "Try data annotated with the same classes."
        )


def _evaluate_detections(
    model, config: Config, measured: Measured, dataset: Dataset, args, out: Path
) -> int:
    """Evaluate detections on the first --limit images; prints and writes the metrics.

    model: None if workers detect.
    """
    shown_from = config.DETECTION_MIN_CONFIDENCE
    config.DETECTION_MIN_CONFIDENCE = args.min_confidence
    image_ids = [int(i) for i in dataset.image_ids[: args.limit]]
    heading = f"{args.weights} on {args.data}"
    if len(image_ids) < len(dataset.image_ids):
        first = f"the first {len(image_ids)} of {len(dataset.image_ids)} images"
        heading += f", {first}"
        log.info("Evaluating %s.", first)

    if model is None:
        detect = detect_by_workers(args, measured, config, image_ids, out)
    else:
        detect = functools.partial(_detect, model, "full" if args.pictures else "rle")

    def draw(image_id, image, result):
        _draw(dataset, image_id, image, result, shown_from, out)

    interruption = None
    try:
        evaluation = evaluate.evaluate_dataset(
            detect,
            dataset,
            image_ids,
            min_confidence=args.min_confidence,
            on_image=draw if args.pictures else None,
            sigmas=config.KEYPOINT_SIGMAS,
        )
    except evaluate.EvaluationInterrupted as interrupted:
        interruption = interrupted
        log.warning("Interrupted: the metrics of the images evaluated so far follow.")
        evaluation = interrupted.evaluation()
    say(evaluation.table())
    content = {"data": args.data, "weights": args.weights, **evaluation.to_dict()}
    if len(config.TTA):
        content["tta"] = list(config.TTA)
    write_json(content, out / "metrics.json")
    names = ["metrics.json", *(file.name for file in report.write(evaluation, out, heading))]
    drawn = ""
    if args.pictures:
        drawn = (
            f" and {evaluation.images} images (objects with a score from {shown_from:g} on: "
            "--config DETECTION_MIN_CONFIDENCE)"
        )
    say(f"{', '.join(names)}{drawn} in {out.resolve()}")
    if interruption is not None:
        raise interruption
    return report_failures(len(image_ids), [entry["image"] for entry in evaluation.failed])


def _detect(model, masks: str, image: np.ndarray) -> dict:
    """Return the result of one image. masks: the form of its masks."""
    return model.detect([image], masks=masks)[0]


def _class_names_of(weights: str) -> list[str] | None:
    """The class names in a model, background first, or None; cleaned like a dataset's."""
    check_model(weights)
    if is_exported(weights):
        return load_to_detect(weights, [])[1]
    names = (read_metadata(weights) or {}).get("class_names")
    return [clean_name(name) for name in names] if names else None


def _evaluate_proposals(model, dataset: Dataset, args, out: Path) -> int:
    """Evaluate the recall of a region proposal network."""
    if model is None:
        raise ValueError(
            "Workers need a network that knows classes. Received: "
            f"{args.weights}, a region proposal network only (RPN_ONLY). Try without --workers, "
            "--ray and --address."
        )
    if args.pictures:
        log.warning(
            "--pictures: proposals have no classes, and there are too many to draw: no images."
        )
    recall = proposal_recall(lambda image: model.detect([image])[0], dataset, limit=args.limit)
    say(recall.table())
    content = {"data": args.data, "weights": args.weights, **recall.to_dict()}
    write_json(content, out / "metrics.json")
    say(f"metrics.json in {out.resolve()}")
    failed = [entry["image"] for entry in recall.failed]
    return report_failures(recall.images + len(failed), failed)


def _draw(
    dataset: Dataset, image_id: int, image: np.ndarray, result: dict, shown_from: float, out: Path
) -> None:
    """Write one image with its ground truth and its detections side by side."""
    info = dataset.image_info[image_id]
    name = Path(info["path"]).stem if info["path"] else info["source"]
    if "masks" in result:
        result = {**result, "masks": full_masks(result["masks"], result["rois"], image.shape)}
    drawn = pages.draw_next_to_ground_truth(dataset, image_id, image, result, shown_from)
    path = free_image_path(out, short_name(f"{image_id:04d}_{name}", ""))
    save_image(drawn, path, marked=True)

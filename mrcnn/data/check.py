"""Check a dataset before it is used for training: `check`, and its brief form for `train()`.

Any prepared `Dataset` is checked through `load_image` and `load_mask`, which the training calls. If
a reader has `load_rles`, the run-length codes from which its masks are drawn, these are used and no
mask is drawn. An error spoils a training; a warning deserves attention. Sizes are in pixels after
resizing, as the network sees them.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..config import Config
from .check_anchors import FITTING_IOU, AnchorFit, fit_anchors, spread_evenly
from .check_image import BoxResizer, Fault, ImageCheck, check_image, load_objects
from .check_report import ERROR, KINDS, Finding, Report, count_noun
from .dataset import Dataset, has_boxes_only
from .progress import with_progress

log = logging.getLogger("mrcnn")

BRIEF_IMAGES = 20  # number of images that are checked before a training
LISTED_CLASSES = 10  # in the finding of classes without objects


def check(
    dataset: Dataset,
    config: Config | None = None,
    image_ids: Iterable[int] | None = None,
    pixels: bool = True,
    limit: int | None = None,
    progress: bool = True,
) -> Report:
    """Report the faults of a dataset, its number of objects, and how the anchors fit them.

    Args:
        dataset: any prepared dataset.
        config: the settings of the training; default: `Config()` with the dataset's classes.
        image_ids: the images to check; default: all.
        pixels: read the images, too; False checks annotations whose images are missing.
        limit: check only the first `limit` images.
        progress: show a progress bar on a terminal, else log a line every 30 seconds.

    Raises: ValueError if the dataset is not prepared, or the config is invalid.
    """
    if not hasattr(dataset, "num_classes"):
        raise ValueError(
            "The dataset must be prepared. Received: one without class ids. Try dataset.prepare()."
        )
    ids = [int(i) for i in (dataset.image_ids if image_ids is None else image_ids)][:limit]
    findings = _check_classes(dataset, config)
    findings += _left_out(dataset, "left_out")
    if config is None:
        config = Config()
    else:
        config.validate()
    if config.has_mask_head() and has_boxes_only(dataset):
        sentence = "The annotations are boxes; the network learns masks."
        findings.append(Finding("boxes alone", sentence))
        config = copy.copy(config)
        # The boxes can still be checked. (Pyright takes the default for the type.)
        config.USE_MASK = False  # pyright: ignore[reportAttributeAccessIssue]
    elif config.has_mask_head():
        findings += _left_out(dataset, "without_mask")
    resizer = BoxResizer(config)
    checked = with_progress(ids, "Checking", transient=True) if progress else ids
    results = [check_image(dataset, image_id, config, resizer, pixels) for image_id in checked]
    report = _report(dataset, results, config, resizer)
    findings += [finding for result in results for finding in result.findings]
    findings += _check_whole(report)
    return replace(report, findings=sorted(findings, key=lambda each: each.severity != ERROR))


def _left_out(dataset: Dataset, attribute: str) -> list[Finding]:
    """Findings on the entries that a reader did not use."""
    return [Finding("left out", sentence) for sentence in getattr(dataset, attribute, ())]


def _check_classes(dataset: Dataset, config: Config | None) -> list[Finding]:
    """Find names that differ in case or spaces only, and an unexpected number of classes."""
    alike: dict[str, list[str]] = {}
    for name in dataset.class_names[1:]:
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    findings = []
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(map(repr, names))
            sentence = f"{len(names)} classes are called {listed}."
            findings.append(Finding("alike names", sentence))
    if config is not None and dataset.num_classes != config.NUM_CLASSES:
        sentence = (
            f"NUM_CLASSES is {config.NUM_CLASSES}, and the dataset has {dataset.num_classes} "
            f"classes, background included: {', '.join(dataset.class_names)}."
        )
        findings.append(Finding("classes", sentence))
    return findings


def _check_whole(report: Report) -> list[Finding]:
    """Find faults of the dataset as a whole."""
    if not report.images:
        return [Finding("no images", "The dataset has no image to check.")]
    if not report.objects:
        images = count_noun(report.images, "image")
        return [Finding("no objects", f"None of the {images} has an object to learn.")]
    findings = []
    unused = [name for name, count in report.counts.items() if not count]
    if unused:
        listed = ", ".join(unused[:LISTED_CLASSES])
        if len(unused) > LISTED_CLASSES:
            listed += f" and {len(unused) - LISTED_CLASSES} more"
        findings.append(Finding("unused class", f"There is no object of {listed}."))
    if report.suggested_scales:
        sentence = f"{report.under:.1%} of the objects overlap no anchor by {FITTING_IOU:g}."
        findings.append(Finding("anchors", sentence))
    return findings


def _report(
    dataset: Dataset, results: Sequence[ImageCheck], config: Config, resizer: BoxResizer
) -> Report:
    """Count the objects, by class and by image, and compare them with the anchors."""
    class_ids = np.concatenate([np.zeros(0, int), *(result.class_ids for result in results)])
    numbers = np.bincount(class_ids[class_ids > 0], minlength=dataset.num_classes)
    counts: Counter[str] = Counter()  # two classes may have one name
    for name, number in zip(dataset.class_names[1:], numbers[1:].tolist(), strict=True):
        counts[name] += number
    per_image = Counter(result.objects for result in results if result.read)
    fit = AnchorFit()
    if numbers.sum():
        boxes = [result.boxes[result.class_ids > 0] for result in results]
        shapes = [np.tile(result.shape, (result.objects, 1)) for result in results]
        fit = fit_anchors(np.concatenate(boxes), np.concatenate(shapes), config)
    return Report(
        images=len(results),
        objects=int(numbers.sum()),
        crowds=int(np.sum(class_ids < 0)),
        counts=dict(counts),
        objects_per_image=dict(sorted(per_image.items())),
        resized=resizer.words,
        **vars(fit),
    )


# --- Before a training ------------------------------------------------------------------------


def check_before_training(
    dataset: Dataset, config: Config, name: str = "training data", learns: bool = True
) -> None:
    """Check a few images before a training; log their faults and raise for serious ones.

    Args:
        name: of the dataset, in messages.
        learns: whether the network learns from the dataset, so that it needs objects.

    Raises: ValueError if more of these images are unusable than MAX_IMAGE_ERRORS, or if no image
        of the dataset has an object.
    """
    count = len(dataset.image_ids)
    ids = [int(dataset.image_ids[i]) for i in spread_evenly(count, BRIEF_IMAGES)]
    report = check(dataset, config, ids, progress=False)
    unusable: dict[int, Finding] = {}  # image id -> its first error
    for finding in report.errors:
        if finding.image_id is not None:
            unusable.setdefault(finding.image_id, finding)
    limit = min(config.MAX_IMAGE_ERRORS, count - 1)
    if len(unusable) > limit:
        listed = "".join(f"\n  {unusable[image_id]}" for image_id in sorted(unusable))
        raise ValueError(
            f"At most {limit} images may be unusable (MAX_IMAGE_ERRORS, and one must be left). "
            f"Received: {len(unusable)} of {len(ids)} images of the {name} that were checked:"
            f"{listed}\nTry repairing or removing them; `mrcnn check` checks all."
        )
    if learns and not report.objects and not _any_object(dataset, config, unusable):
        raise ValueError(
            f"The {name} must have objects. Received: {count} images, and no object of a known "
            "class with a pixel. Try checking that the annotations belong to these images; a "
            "Dataset of your own must override load_mask (or load_bbox if USE_MASK = False)."
        )
    _log_summary(report, name, learns)


def _any_object(dataset: Dataset, config: Config, skipped: Collection[int]) -> bool:
    """Return whether an image that is not skipped has an object."""
    for image_id in map(int, dataset.image_ids):
        if image_id in skipped:
            continue
        try:
            objects = load_objects(dataset, image_id, config, (None, None))
        except Fault:
            continue
        known = (objects.class_ids > 0) & (objects.class_ids < dataset.num_classes)
        if objects.boxes[known].any():
            return True
    return False


def _log_summary(report: Report, name: str, learns: bool) -> None:
    """Log the faults in one line, those of the anchors only if the network learns."""
    numbers = Counter(finding.kind for finding in report.findings if finding.image_id is not None)
    faults = [
        f"{KINDS[kind].title} ({count_noun(numbers[kind], 'image')})"
        for kind in KINDS
        if numbers[kind]
    ]
    if report.suggested_scales and learns:
        faults.append(f"{report.under:.0%} of the objects overlap no anchor by {FITTING_IOU:g}")
    if faults:
        log.warning(
            "In %s of the %s: %s. `mrcnn check DATA`, or mrcnn.data.check.check(dataset, config), "
            "reports more.",
            count_noun(report.images, "image"), name, "; ".join(faults),
        )  # fmt: skip

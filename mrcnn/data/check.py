"""What would go wrong with a dataset in training, found before it: `check`, and its brief form for `train()`.

Any prepared `Dataset` is looked at through `load_image` and `load_mask`, as the training does; where a reader has
`load_rles`, the run-length codes that its masks are drawn from, these tell the same, and no mask is drawn. An
error spoils the training; a warning is worth a look. Sizes are those after resizing, in pixels of the molded image:
what the network sees.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from ..config import Config
from ..nn import boxes
from .check_anchors import (
    FITTING_IOU,
    LEAST_GAIN,
    OBJECTS_TO_FIT,
    anchor_overlaps,
    spread_evenly,
    suggest_scales,
)
from .check_image import BoxResizer, Fault, ImageCheck, check_image, load_objects
from .check_report import ERROR, KINDS, Finding, Report, count_noun
from .dataset import Dataset, has_boxes_only

log = logging.getLogger("mrcnn")

BRIEF_IMAGES = 20  # looked at before a training


def check(
    dataset: Dataset,
    config: Config | None = None,
    image_ids: Iterable[int] | None = None,
    pixels: bool = True,
    limit: int | None = None,
    progress: bool = True,
) -> Report:
    """A `Report` of what is wrong with a dataset, how many objects it has, and how the anchors fit them.

    dataset: any prepared dataset. config: the settings it is to be trained with; default `Config()`, with the
        dataset's number of classes.
    image_ids: default all images. limit: only the first so many of them.
    pixels: read the images too; False looks at the masks alone, for annotations without their images.
    progress: show a progress bar.

    Raises: ValueError where the dataset is not prepared, or the config builds no network.
    """
    if not hasattr(dataset, "num_classes"):
        raise ValueError(
            "The dataset must be prepared. Received: one without class ids. Try dataset.prepare()."
        )
    ids = [int(i) for i in (dataset.image_ids if image_ids is None else image_ids)][:limit]
    findings = _check_classes(dataset, config)
    findings += [Finding("left out", sentence) for sentence in getattr(dataset, "left_out", ())]
    if config is None:
        config = Config()
    else:
        config.validate()
    if config.has_mask_head() and has_boxes_only(dataset):
        findings.append(
            Finding("boxes alone", "The annotations are boxes; the network learns masks.")
        )
        config = copy.copy(config)
        config.USE_MASK = False  # the boxes are looked at
    elif config.has_mask_head():
        findings += [
            Finding("left out", sentence) for sentence in getattr(dataset, "without_mask", ())
        ]
    resizer = BoxResizer(config)
    console = Console(stderr=True)
    shown = progress and (console.is_terminal or console.is_jupyter)
    bar = track(ids, description="Checking", console=console, transient=True, disable=not shown)
    looks = [check_image(dataset, image_id, config, resizer, pixels) for image_id in bar]

    report = Report(images=len(ids), resized=resizer.words)
    _count_objects(report, dataset, looks)
    _fit_anchors(report, looks, config)
    findings += [finding for look in looks for finding in look.findings]
    findings += _check_whole(report, looks)
    report.findings = sorted(findings, key=lambda finding: finding.severity != ERROR)
    return report


def _check_classes(dataset: Dataset, config: Config | None) -> list[Finding]:
    """Findings on the classes: other ones than the config's, and names that differ only in case or spaces."""
    alike: dict[str, list[str]] = {}
    for name in dataset.class_names[1:]:
        alike.setdefault("".join(name.casefold().split()), []).append(name)
    found = [
        Finding("alike names", f"{len(names)} classes are called {', '.join(map(repr, names))}.")
        for names in alike.values()
        if len(names) > 1
    ]
    if config is None or dataset.num_classes == config.NUM_CLASSES:
        return found
    return found + [
        Finding(
            "classes",
            f"NUM_CLASSES is {config.NUM_CLASSES}, and the dataset has {dataset.num_classes} classes, background "
            f"included: {', '.join(dataset.class_names)}.",
        )
    ]


def _check_whole(report: Report, looks: Sequence[ImageCheck]) -> list[Finding]:
    """Findings on the dataset as a whole."""
    if not looks:
        return [Finding("no images", "There is no image to look at.")]
    if not report.objects:
        return [
            Finding(
                "no objects",
                f"None of the {count_noun(len(looks), 'image')} has an object to learn.",
            )
        ]
    findings = []
    unused = [name for name, count in report.counts.items() if not count]
    if unused:
        more = f" and {len(unused) - 10} more" if len(unused) > 10 else ""
        findings.append(
            Finding("unused class", f"There is no object of {', '.join(unused[:10])}{more}.")
        )
    if report.suggested_scales:
        findings.append(
            Finding(
                "anchors",
                f"{report.under:.1%} of the objects overlap no anchor by {FITTING_IOU:g}.",
            )
        )
    return findings


def _count_objects(report: Report, dataset: Dataset, looks: Sequence[ImageCheck]) -> None:
    """Fill in how many objects there are, of which class, and in how many images."""
    class_ids = np.concatenate([np.zeros(0, int), *(look.class_ids for look in looks)])
    numbers = np.bincount(class_ids[class_ids > 0], minlength=dataset.num_classes)
    for name, number in zip(dataset.class_names[1:], numbers[1:], strict=True):
        report.counts[name] = report.counts.get(name, 0) + int(
            number
        )  # two classes may have one name
    report.objects, report.crowds = int(numbers.sum()), int(np.sum(class_ids < 0))
    per_image = Counter(look.objects for look in looks if look.read)
    report.objects_per_image = {number: per_image[number] for number in sorted(per_image)}


def _fit_anchors(report: Report, looks: Sequence[ImageCheck], config: Config) -> None:
    """Fill in the sizes of the objects, how the anchors overlap them, and scales that would fit better."""
    if not report.objects:
        return
    molded = np.concatenate([look.boxes[look.class_ids > 0] for look in looks])
    shapes = np.concatenate([np.tile(look.shape, (look.objects, 1)) for look in looks])
    sizes = np.sqrt(boxes.area(molded))
    quantiles = (0, 5, 25, 50, 75, 95, 100)
    report.sizes = dict(
        zip(quantiles, np.percentile(sizes, quantiles).round(1).tolist(), strict=True)
    )

    levels = list(
        zip(config.RPN_ANCHOR_SCALES, config.BACKBONE_STRIDES, strict=False)
    )  # the first ones
    overlaps = np.stack(
        [anchor_overlaps(molded, shapes, *level, config) for level in levels]
    )  # [levels, N]
    best, under = overlaps.argmax(axis=0), overlaps.max(axis=0) < FITTING_IOU
    report.under = float(under.mean())
    for i, (scale, stride) in enumerate(levels):
        mine = best == i
        share = float(under[mine].mean()) if mine.any() else None
        report.anchors.append(
            {"scale": scale, "stride": stride, "objects": int(mine.sum()), "under": share}
        )

    spread = np.argsort(sizes, kind="stable")[spread_evenly(len(sizes), OBJECTS_TO_FIT)]
    scales = suggest_scales(molded[spread], shapes[spread], config)
    levels = zip(scales, config.BACKBONE_STRIDES, strict=True)
    fitted = np.max([anchor_overlaps(molded, shapes, *level, config) for level in levels], axis=0)
    left = float((fitted < FITTING_IOU).mean())
    if report.under - left >= LEAST_GAIN:
        report.suggested_scales, report.suggested_under = scales, left


def check_before_training(
    dataset: Dataset, config: Config, name: str = "training data", learns: bool = True
) -> None:
    """Look at a few images before a training, say what is odd, and stop what would come to nothing.

    name: of the dataset, in messages. learns: the network learns from it, so that it needs objects.

    Raises: ValueError where more of these images are unusable than a training bears (MAX_IMAGE_ERRORS), or where no
    image at all has an object.
    """
    ids = [int(dataset.image_ids[i]) for i in spread_evenly(len(dataset.image_ids), BRIEF_IMAGES)]
    report = check(dataset, config, ids, progress=False)
    bad = {
        finding.image_id: finding
        for finding in reversed(report.errors)
        if finding.image_id is not None
    }
    most = min(config.MAX_IMAGE_ERRORS, len(dataset.image_ids) - 1)
    if len(bad) > most:
        raise ValueError(
            f"At most {most} images may be unusable (MAX_IMAGE_ERRORS, and one must be left). Received: "
            f"{len(bad)} of {len(ids)} images of the {name} that were looked at:"
            + "".join(f"\n  {bad[image_id]}" for image_id in sorted(bad))
            + "\nTry mending or removing them; `mrcnn check` looks at all."
        )
    if learns and not report.objects and not _any_object(dataset, config, bad):
        raise ValueError(
            f"The {name} must hold objects. Received: {len(dataset.image_ids)} images, and not one object of a known "
            "class with a pixel. Try to check that the annotations belong to these images; a Dataset of your own must "
            "override load_mask (with USE_MASK = False, load_bbox will do)."
        )
    _log_briefly(report, name)


def _any_object(dataset: Dataset, config: Config, skipped: Iterable[int]) -> bool:
    """Whether some image has an object: looks until it finds one."""
    for image_id in dataset.image_ids:
        if int(image_id) not in skipped:
            try:
                truth = load_objects(dataset, int(image_id), config, (None, None))
            except Fault:
                continue
            known = (truth.class_ids > 0) & (truth.class_ids < dataset.num_classes)
            if truth.boxes[known].any():
                return True
    return False


def _log_briefly(report: Report, name: str) -> None:
    """One line on what a training bears."""
    numbers = Counter(finding.kind for finding in report.findings if finding.image_id is not None)
    odd = [
        f"{KINDS[kind].title} ({count_noun(numbers[kind], 'image')})"
        for kind in KINDS
        if numbers[kind]
    ]
    if report.suggested_scales:
        odd.append(f"{report.under:.0%} of the objects overlap no anchor by {FITTING_IOU:g}")
    if odd:
        log.warning(
            "In %s of the %s: %s. `mrcnn check`, or mrcnn.data.check.check(dataset, config), says more.",
            count_noun(report.images, "image"), name, "; ".join(odd),
        )  # fmt: skip

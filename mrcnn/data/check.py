"""What would go wrong with a dataset in training, found before it: `check`, and its brief form for `train()`.

Any prepared `Dataset` is looked at through `load_image` and `load_mask`, as the training does; where a reader has
`load_rles`, the run-length codes that its masks are drawn from, these tell the same, and no mask is drawn. An
error spoils the training; a warning is worth a look. Sizes are those after resizing, in pixels of the molded image:
what the network sees.
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.progress import track

from ..config import Config
from ..files.limits import LONGEST_NAME, printable
from ..nn import boxes
from ..nn.anchors import generate_anchors
from .dataset import Dataset, boxes_alone, has_rles, overrides, reference
from .image import match_channels, resize_image, to_uint8
from .masks import extract_bboxes, rle_areas

log = logging.getLogger("mrcnn")

SMALLEST_SIDE = 4  # px of a box after resizing: a cell of P2, the finest map of the pyramid
FITTING_IOU = 0.5  # an anchor that overlaps an object by less has to be stretched far
# What RPN_ANCHOR_SCALES are suggested from: powers of two and their middles.
LADDER = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
OBJECTS_TO_FIT = 1000  # more, spread over all sizes, give the same scales and take longer
LEAST_GAIN = 0.05  # share of objects that other scales must bring above FITTING_IOU to be suggested
BRIEF_IMAGES = 20  # looked at before a training
EXAMPLES = 3  # findings of a kind that a printed report shows
LINE = 96  # characters that the printed table of classes fills
LONGEST_SENTENCE = 1000  # characters of a printed finding

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Kind:
    """What the findings of one kind have in common."""

    severity: str
    title: str
    remedy: str


KINDS = {
    "no images": Kind(ERROR, "No images", "Check the path that the dataset was read from."),
    "no objects": Kind(
        ERROR,
        "No objects",
        "Check that the annotations belong to these images (a Dataset of your own must override load_mask).",
    ),
    "classes": Kind(
        ERROR, "Other classes than the config", "Set NUM_CLASSES to 1 (background) + your classes."
    ),
    "image": Kind(
        ERROR,
        "Images that cannot be read",
        "Fetch them again, or remove them; --no-pixels (in Python pixels=False) checks only the annotations.",
    ),
    "masks": Kind(
        ERROR,
        "Masks that cannot be read",
        "Correct what the sentence names, or take the image out.",
    ),
    "mask count": Kind(
        ERROR,
        "Masks and class ids that do not pair up",
        "Correct the annotations (a Dataset of your own: load_mask must return one class id per mask).",
    ),
    "mask size": Kind(
        ERROR,
        "Masks of another size than their image",
        "Find out which of the two was resized or turned.",
    ),
    "class id": Kind(
        ERROR,
        "Class ids out of range",
        "Correct the annotations (a Dataset of your own: map_source_class_id gives the id); 0 is the background.",
    ),
    "left out": Kind(
        WARNING,
        "Entries that cannot be used",
        "Correct them. They are left out: training takes objects that they mark for background. --strict refuses them.",
    ),
    "boxes alone": Kind(
        ERROR,
        "No outlines",
        "Train without masks (--config USE_MASK=False), or annotate the objects' outlines.",
    ),
    "alike names": Kind(
        WARNING,
        "Class names that are nearly the same",
        "Give one class one name, if these are not two classes.",
    ),
    "empty": Kind(WARNING, "Objects without a pixel", "Delete them; training leaves them out."),
    "duplicate": Kind(
        WARNING,
        "Objects annotated twice (same class, same mask)",
        "Delete one of each pair: both count, in the training and in the evaluation.",
    ),
    "vanishing": Kind(
        WARNING,
        "Objects whose box has no area after resizing",
        "Raise IMAGE_MIN_DIM and IMAGE_MAX_DIM, or train on parts of the images (IMAGE_RESIZE_MODE=crop).",
    ),
    "tiny": Kind(
        WARNING,
        f"Objects under {SMALLEST_SIDE} px after resizing",
        "Raise IMAGE_MIN_DIM and IMAGE_MAX_DIM, or train on parts of the images (IMAGE_RESIZE_MODE=crop).",
    ),
    "crowded": Kind(
        WARNING,
        "Images of more objects than MAX_GT_INSTANCES",
        "Raise MAX_GT_INSTANCES: what is beyond it is left out, others in each epoch.",
    ),
    "unused class": Kind(
        WARNING, "Classes without objects", "Annotate some, or leave the classes out."
    ),
    "anchors": Kind(WARNING, "Anchors that do not fit", "Set RPN_ANCHOR_SCALES as suggested."),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one image, or with the whole dataset.

    kind: a key of `KINDS`. sentence: what was found. image_id: internal image id, None for the dataset. where: the
    image for people, its file where there is one. instances: positions of the objects in `load_mask`'s answer.
    """

    kind: str
    sentence: str
    image_id: int | None = None
    where: str = ""
    instances: tuple[int, ...] = ()

    @property
    def severity(self) -> str:
        """ "error" spoils the training, "warning" does not."""
        return KINDS[self.kind].severity

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}" if self.where else self.sentence

    def to_dict(self) -> dict:
        """The finding as JSON can hold it."""
        return {
            "severity": self.severity,
            **asdict(self),
            "instances": list(self.instances),
            "remedy": self.remedy,
        }


@dataclass
class Report:
    """What a check found: `str()` for people, `to_dict()` for JSON.

    findings: `Finding`s, errors first. images: how many were looked at. objects: crowds not counted. crowds: how many.
    counts: class name -> objects. objects_per_image: number of objects -> images that hold so many.
    resized: how the config resizes, in words. sizes: quantile in percent -> square root of the box area, px after
    resizing.
    anchors: a dict a scale: scale, stride, objects (whose best anchor is of this scale), under (the share of those
    with an IoU below `FITTING_IOU`). under: that share of all objects.
    suggested_scales: RPN_ANCHOR_SCALES that fit better, None where those of the config do. suggested_under: the share
    they would leave.
    """

    findings: list[Finding] = field(default_factory=list)
    images: int = 0
    objects: int = 0
    crowds: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    objects_per_image: dict[int, int] = field(default_factory=dict)
    resized: str = ""
    sizes: dict[int, float] = field(default_factory=dict)
    anchors: list[dict] = field(default_factory=list)
    under: float | None = None
    suggested_scales: list[int] | None = None
    suggested_under: float | None = None

    @property
    def errors(self) -> list[Finding]:
        """The findings that spoil the training."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are worth a look."""
        return [finding for finding in self.findings if finding.severity == WARNING]

    def to_dict(self) -> dict:
        """The report as a dict that strict JSON can hold."""
        plain = {name: value for name, value in vars(self).items() if name != "findings"}
        return {
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            **plain,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        return "\n\n".join("\n".join(part) for part in self._parts() if part)

    def _parts(self) -> Iterator[list[str]]:
        crowds = f", {_count(self.crowds, 'crowd')}" if self.crowds else ""
        yield [f"{_count(self.images, 'image')}, {_count(self.objects, 'object')}{crowds}"]
        yield self._classes()
        yield self._per_image()
        yield self._sizes()
        yield self._anchors()
        for kind in KINDS:
            yield self._of_kind(kind)
        if not self.findings:
            yield ["Nothing is wrong with what was looked at."]
        else:
            yield [self._verdict()]

    def _verdict(self) -> str:
        """The number of errors and warnings as they are printed, one for each kind, and of findings in all."""
        errors, warnings = (
            {finding.kind for finding in found} for found in (self.errors, self.warnings)
        )
        verdict = f"{_count(len(errors), 'error')}, {_count(len(warnings), 'warning')}"
        if len(self.findings) == len(errors) + len(warnings):
            return verdict
        return f"{verdict} ({len(self.findings)} findings)"

    def _classes(self) -> list[str]:
        if not self.counts:
            return []
        names = [printable(name, LONGEST_NAME) for name in self.counts]
        name_width, width = max(map(len, names)), len(str(max(self.counts.values())))
        numbers = self.counts.values()
        cells = [
            f"{name:<{name_width}} {count:>{width}}"
            for name, count in zip(names, numbers, strict=True)
        ]
        columns = max(1, LINE // (len(cells[0]) + 3))
        rows = -(-len(cells) // columns)
        return ["Objects per class:", *("  " + "   ".join(cells[i::rows]) for i in range(rows))]

    def _per_image(self) -> list[str]:
        numbers = sorted(Counter(self.objects_per_image).elements())
        if not numbers:
            return []
        line = f"Objects per image: {numbers[0]} to {numbers[-1]}, median {np.median(numbers):g}"
        empty = self.objects_per_image.get(0)
        return [line + (f"; {_count(empty, 'image')} without any" if empty else "")]

    def _sizes(self) -> list[str]:
        if not self.sizes:
            return []
        names = {0: "smallest", 50: "median", 100: "largest"}
        return [
            f"Sizes after resizing ({self.resized}), square root of the box area in px:",
            "  "
            + "".join(f"{names.get(quantile, f'{quantile} %'):>10}" for quantile in self.sizes),
            "  " + "".join(f"{size:10.0f}" for size in self.sizes.values()),
        ]

    def _anchors(self) -> list[str]:
        if not self.anchors:
            return []
        lines = [
            f"The best anchor of each object, and the share with an IoU under {FITTING_IOU:g}:",
            "     scale  stride  objects  under",
        ]
        for row in self.anchors:
            under = "-" if row["under"] is None else f"{row['under']:.1%}"
            lines.append(
                f"  {row['scale']:>8g}  {row['stride']:>6g}  {row['objects']:>7d}  {under:>5}"
            )
        lines.append(f"  {'all':>8}  {'':>6}  {self.objects_with_anchor():>7d}  {self.under:>5.1%}")
        if self.suggested_scales is None:
            return [
                *lines,
                f"Other scales would bring less than {LEAST_GAIN:.0%} of the objects above it.",
            ]
        scales = ", ".join(map(str, self.suggested_scales))
        return [
            *lines,
            f"Scales that leave {self.suggested_under:.1%} under it:",
            f'  --config "RPN_ANCHOR_SCALES=({scales})"',
        ]

    def objects_with_anchor(self) -> int:
        """How many objects the table of anchors counts: those that have a box."""
        return sum(row["objects"] for row in self.anchors)

    def _of_kind(self, kind: str) -> list[str]:
        found = [finding for finding in self.findings if finding.kind == kind]
        if not found:
            return []
        objects = sum(len(finding.instances) for finding in found)
        number = f"{objects} in {_count(len(found), 'image')}" if objects else str(len(found))
        counted = found[0].where or kind == "left out"
        title = f"{KINDS[kind].severity}: {KINDS[kind].title}" + (f": {number}" if counted else "")
        examples = [f"  {printable(finding, LONGEST_SENTENCE)}" for finding in found[:EXAMPLES]]
        more = [f"  and {len(found) - EXAMPLES} more"] if len(found) > EXAMPLES else []
        return [title, *examples, *more, f"  Remedy: {KINDS[kind].remedy}"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


# --- The check --------------------------------------------------------------------------------------------------


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
    if config.has_mask_head() and boxes_alone(dataset):
        findings.append(
            Finding("boxes alone", "The annotations are boxes; the network learns masks.")
        )
        config = copy.copy(config)
        config.USE_MASK = False  # the boxes are looked at
    elif config.has_mask_head():
        findings += [
            Finding("left out", sentence) for sentence in getattr(dataset, "without_mask", ())
        ]
    resizer = _Resizer(config)
    console = Console(stderr=True)
    shown = progress and (console.is_terminal or console.is_jupyter)
    bar = track(ids, description="Checking", console=console, transient=True, disable=not shown)
    looks = [_look(dataset, image_id, config, resizer, pixels) for image_id in bar]

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


def _check_whole(report: Report, looks: Sequence[_Look]) -> list[Finding]:
    """Findings on the dataset as a whole."""
    if not looks:
        return [Finding("no images", "There is no image to look at.")]
    if not report.objects:
        return [
            Finding(
                "no objects", f"None of the {_count(len(looks), 'image')} has an object to learn."
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


# --- One image --------------------------------------------------------------------------------------------------


@dataclass
class _Look:
    """What one image holds.

    class_ids: `[N]`, negative for crowds. boxes: `[N, (y1, x1, y2, x2)]` float, px after resizing. shape: (height,
    width) after resizing. Instances without a pixel or of an unknown class are left out. read: its masks could be read.
    """

    findings: list[Finding]
    class_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    shape: tuple[int, int] = (0, 0)
    read: bool = False

    @property
    def objects(self) -> int:
        return int(np.sum(self.class_ids > 0))


class _Fault(Exception):
    """An image that cannot be looked at any further; the arguments are those of its `Finding`."""


def _look(
    dataset: Dataset, image_id: int, config: Config, resizer: _Resizer, pixels: bool
) -> _Look:
    """What one image holds, and what is wrong with it."""
    where = _where(dataset, image_id)
    look = _Look([])

    def find(kind, sentence, instances=()):
        look.findings.append(
            Finding(kind, sentence, image_id, where, tuple(int(i) for i in instances))
        )

    info = dataset.image_info[image_id]
    size = (info.get("height"), info.get("width"))
    unreadable = None
    if pixels:
        try:
            size = _image_size(dataset, image_id, config)
        except _Fault as fault:
            find(*fault.args)
            unreadable = fault.args[1]
    try:
        truth = _load_truth(dataset, image_id, config, size)
        if len(truth.class_ids) and None not in size and truth.size != tuple(size):
            raise _Fault(
                "mask size",
                f"Its masks are {_by(truth.size)} and it is {_by(size)} px (height x width).",
            )
    except _Fault as fault:
        if (
            fault.args[1] != unreadable
        ):  # some readers take the size of the masks from the image file
            find(*fault.args)
        return look
    look.read = True

    class_ids, pixel_boxes = truth.class_ids, truth.boxes
    empty = boxes.area(pixel_boxes) == 0
    wrong = ~empty & ((np.abs(class_ids) < 1) | (np.abs(class_ids) >= dataset.num_classes))
    if wrong.any():
        ids = sorted(set(class_ids[wrong].tolist()))
        sentence = f"Its class ids must be 1 to {dataset.num_classes - 1}, and some are {ids}."
        find("class id", sentence, wrong.nonzero()[0])
    odd = empty & (class_ids != 0)  # an empty mask of class 0 is how scripts say "nothing here"
    if odd.any():
        find("empty", f"{_objects(odd)} without a pixel.", odd.nonzero()[0])
    twins = _duplicates(truth)
    if twins:
        find("duplicate", f"{_objects(twins)} repeated.", twins)

    kept = ~empty & ~wrong
    if not kept.any():
        return look
    look.class_ids = class_ids[kept]
    look.boxes, look.shape, rounded = resizer.resize(pixel_boxes[kept], truth.size)
    places = kept.nonzero()[0]
    objects = look.class_ids > 0  # crowds teach no box
    vanishing = objects & (boxes.area(rounded) == 0)
    if vanishing.any():
        find("vanishing", f"{_objects(vanishing)} lost between pixels.", places[vanishing])
    sides = np.minimum(*(look.boxes[:, 2:] - look.boxes[:, :2]).T)
    tiny = objects & (sides < SMALLEST_SIDE) & ~vanishing
    if tiny.any():
        find("tiny", f"{_objects(tiny)} down to {sides[tiny].min():.1f} px.", places[tiny])
    if len(look.class_ids) > config.MAX_GT_INSTANCES:
        find(
            "crowded",
            f"It holds {len(look.class_ids)}, and MAX_GT_INSTANCES is {config.MAX_GT_INSTANCES}.",
        )
    return look


def _where(dataset: Dataset, image_id: int) -> str:
    return f"image {image_id} ({reference(dataset, image_id)})"


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(int(side)) for side in size)


def _objects(chosen: np.ndarray | list[int]) -> str:
    number = len(chosen) if isinstance(chosen, list) else int(chosen.sum())
    return f"{_count(number, 'object')} {'is' if number == 1 else 'are'}"


def _image_size(dataset: Dataset, image_id: int, config: Config) -> tuple[int, int]:
    """(height, width) of an image that can be read and has the config's channels, else a `_Fault`."""
    try:
        image = match_channels(to_uint8(dataset.load_image(image_id)), config.IMAGE_CHANNEL_COUNT)
    except Exception as error:  # load_image is the user's own: it raises anything
        raise _Fault("image", _sentence(error)) from error
    return image.shape[:2]


@dataclass
class _Truth:
    """The objects of an image as they are annotated.

    class_ids: `[N]` int. boxes: `[N, (y1, x1, y2, x2)]` int px, zeros for a mask without a pixel. size: (height, width)
    of the masks. outline: position -> bytes; where they are equal, and the boxes too, the masks are.
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    size: tuple[int, int]
    outline: Callable[[int], bytes]


def _load_truth(dataset: Dataset, image_id: int, config: Config, size: tuple) -> _Truth:
    """The objects of an image, else a `_Fault`; from their outlines where the dataset has them, which is faster.

    size: (height, width) of the image, None where they are not known.
    """
    if not config.has_mask_head() and overrides(dataset, "load_bbox"):
        return _truth_of_boxes(dataset, image_id, size)
    if not overrides(dataset, "load_mask"):  # it would warn at each image
        return _truth_of_masks(np.zeros((0, 0, 0), bool), np.zeros(0, int))
    outlined = has_rles(dataset)
    load = dataset.load_rles if outlined else dataset.load_mask
    try:
        masks, class_ids = load(image_id)
        class_ids = np.asarray(class_ids).reshape(-1).astype(int)
        masks = masks if outlined else np.asarray(masks)
    except Exception as error:  # these are the user's own: they raise anything
        raise _Fault("masks", _sentence(error)) from error
    return (_truth_of_outlines if outlined else _truth_of_masks)(masks, class_ids)


def _truth_of_outlines(rles: Sequence[dict], class_ids: np.ndarray) -> _Truth:
    """From one compressed run-length code of COCO's per object."""
    pixel_boxes = np.zeros((0, 4), int)
    if rles:
        x, y, width, height = coco_mask.toBbox(rles).astype(int).T
        pixel_boxes = np.stack([y, x, y + height, x + width], axis=1)
        pixel_boxes[rle_areas(rles) == 0] = 0  # the box of some codes without a pixel is none
    size = tuple(int(side) for side in rles[0]["size"]) if rles else (0, 0)
    return _Truth(class_ids, pixel_boxes, size, lambda i: rles[i]["counts"])


def _truth_of_masks(masks: np.ndarray, class_ids: np.ndarray) -> _Truth:
    """From what `load_mask` says, else a `_Fault`."""
    if len(class_ids) == 0 and not masks.any():
        masks = np.zeros((0, 0, 0), bool)  # any empty shape will do
    masks = masks[:, :, None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or masks.shape[2] != len(class_ids):
        raise _Fault(
            "mask count",
            f"Its masks have the shape {masks.shape}, for {_count(len(class_ids), 'class id')}.",
        )
    pixel_boxes = extract_bboxes(masks.astype(bool, copy=False))

    def outline(i):
        y1, x1, y2, x2 = pixel_boxes[i]
        return np.packbits(masks[y1:y2, x1:x2, i] != 0).tobytes()

    return _Truth(class_ids, pixel_boxes, masks.shape[:2], outline)


def _truth_of_boxes(dataset: Dataset, image_id: int, size: tuple) -> _Truth:
    """From what `load_bbox` says, else a `_Fault`; for networks without masks. Equal boxes count as repeated."""
    try:
        found, class_ids = dataset.load_bbox(image_id)
        class_ids = np.asarray(class_ids).reshape(-1).astype(int)
        found = np.asarray(found, float).reshape(-1, 4)
    except Exception as error:  # the user's own: it raises anything
        raise _Fault("masks", _sentence(error)) from error
    if len(found) != len(class_ids):
        raise _Fault(
            "mask count", f"It has {len(found)} boxes, for {_count(len(class_ids), 'class id')}."
        )
    if None in size:  # not known without the pixels: as far as the boxes reach
        size = (
            tuple(int(side) for side in np.ceil(found[:, 2:].max(axis=0))) if len(found) else (0, 0)
        )
    pixel_boxes = np.clip(np.round(found), 0, [*size, *size]).astype(int)
    pixel_boxes[boxes.area(pixel_boxes) <= 0] = 0
    return _Truth(class_ids, pixel_boxes, size, lambda i: b"")


def _sentence(error: Exception) -> str:
    return (
        str(error)
        if isinstance(error, ValueError | OSError)
        else f"{type(error).__name__}: {error}"
    )


def _duplicates(truth: _Truth) -> list[int]:
    """The instances whose class and mask an earlier one has, too; those without a pixel aside."""
    alike: dict[tuple, list[int]] = {}
    for i, key in enumerate(
        zip(truth.class_ids.tolist(), map(tuple, truth.boxes.tolist()), strict=True)
    ):
        if any(key[1]):
            alike.setdefault(key, []).append(i)
    twins = []
    for group in alike.values():
        seen = set()
        for i in group if len(group) > 1 else ():
            outline = truth.outline(i)
            if outline in seen:
                twins.append(i)
            seen.add(outline)
    return sorted(twins)


class _Resizer:
    """Where boxes lie after resizing; each size of image is worked out once."""

    def __init__(self, config: Config):
        self.config = config
        self.known: dict[tuple[int, int], tuple] = {}
        low, high, mode = config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_RESIZE_MODE
        self.words = {
            "none": "as they are",
            "square": f"short side up to {low}, long side at most {high} px",
        }.get(mode, f"mode {mode}, short side at least {low} px")

    def resize(self, pixel_boxes: np.ndarray, size: tuple[int, int]):
        """The boxes after resizing, `[N, 4]` float; (height, width) of their image; the boxes of the resized masks.

        In mode "crop" the whole image is meant, for the crop is another one in each epoch.
        """
        if size not in self.known:
            self.known[size] = self._geometry(size)
        shape, (top, left), factors = self.known[size]
        offset = np.array([top, left, top, left])
        scaled = pixel_boxes * factors
        # A mask pixel is taken from the pixel below its centre: rows j with y1 <= (j + 0.5) / factor < y2.
        return scaled + offset, shape, np.ceil(scaled - 0.5).astype(int)

    def _geometry(self, size):
        config = self.config
        rectangle = config.IMAGE_SHAPE if config.IMAGE_RESIZE_MODE in ("square", "crop") else None
        molded, window, scale, _, crop = resize_image(
            np.zeros((*size, 1), np.uint8),
            min_dim=config.IMAGE_MIN_DIM,
            min_scale=config.IMAGE_MIN_SCALE,
            max_dim=config.IMAGE_MAX_DIM,
            mode=config.IMAGE_RESIZE_MODE,
            shape=rectangle,
            rng=np.random.default_rng(
                0
            ),  # of the crop, whose place does not count; the global state stays
        )
        scaled = [round(side * scale) for side in size]
        factors = np.array([new / old for new, old in zip(scaled, size, strict=True)] * 2)
        return (molded.shape[:2] if crop is None else tuple(scaled)), window[:2], factors


# --- All images -------------------------------------------------------------------------------------------------


def _count_objects(report: Report, dataset: Dataset, looks: Sequence[_Look]) -> None:
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


def _fit_anchors(report: Report, looks: Sequence[_Look], config: Config) -> None:
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

    spread = np.argsort(sizes, kind="stable")[_spread(len(sizes), OBJECTS_TO_FIT)]
    scales = suggest_scales(molded[spread], shapes[spread], config)
    levels = zip(scales, config.BACKBONE_STRIDES, strict=True)
    fitted = np.max([anchor_overlaps(molded, shapes, *level, config) for level in levels], axis=0)
    left = float((fitted < FITTING_IOU).mean())
    if report.under - left >= LEAST_GAIN:
        report.suggested_scales, report.suggested_under = scales, left


def anchor_overlaps(
    molded: np.ndarray, shapes: np.ndarray, scale: float, stride: int, config: Config
) -> np.ndarray:
    """`[N]` the best IoU of each box with an anchor of one pyramid level, at its place in the grid.

    molded: `[N, (y1, x1, y2, x2)]` px. shapes: `[N, (height, width)]` of their molded images. scale: side of the
    anchors, px. stride: of the level, px.
    """
    step = stride * config.RPN_ANCHOR_STRIDE
    last = (-(-shapes // stride) - 1) // config.RPN_ANCHOR_STRIDE * step
    centers = (molded[:, :2] + molded[:, 2:]) / 2
    nearest = np.clip(
        np.round(centers / step) * step, 0, last
    )  # of its shape, the nearest overlaps most
    shapes_of_anchors = generate_anchors(
        scale, config.RPN_ANCHOR_RATIOS, (1, 1), stride, 1
    )  # around (0, 0)
    anchors = np.tile(nearest, 2)[:, None] + shapes_of_anchors
    return boxes.iou(molded[:, None], anchors)[:, 0].max(axis=1)


def suggest_scales(molded: np.ndarray, shapes: np.ndarray, config: Config) -> list[int]:
    """Growing RPN_ANCHOR_SCALES, one a pyramid level, that leave the fewest boxes without a fitting anchor.

    Among equals, those of the highest mean IoU. Every choice of the `LADDER` is tried, at the levels' own strides: a
    small scale on a coarse level falls between the objects.
    """
    strides = config.BACKBONE_STRIDES
    table = np.array(
        [
            [anchor_overlaps(molded, shapes, scale, stride, config) for scale in LADDER]
            for stride in strides
        ],
        np.float32,
    )  # [levels, ladder, N]
    choices = np.array(list(itertools.combinations(range(len(LADDER)), len(strides))))
    best = np.zeros((len(choices), len(molded)), np.float32)
    for level, steps in enumerate(choices.T):
        np.maximum(best, table[level, steps], out=best)
    merits = zip((best >= FITTING_IOU).mean(axis=1), best.mean(axis=1), strict=True)
    chosen = max(zip(merits, choices.tolist(), strict=True), key=lambda pair: pair[0])[1]
    return [LADDER[step] for step in chosen]


def _spread(count: int, limit: int) -> np.ndarray:
    """At most `limit` of the positions 0..count-1, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


# --- Before a training ------------------------------------------------------------------------------------------


def check_before_training(
    dataset: Dataset, config: Config, name: str = "training data", learns: bool = True
) -> None:
    """Look at a few images before a training, say what is odd, and stop what would come to nothing.

    name: of the dataset, in messages. learns: the network learns from it, so that it needs objects.

    Raises: ValueError where more of these images are unusable than a training bears (MAX_IMAGE_ERRORS), or where no
    image at all has an object.
    """
    ids = [int(dataset.image_ids[i]) for i in _spread(len(dataset.image_ids), BRIEF_IMAGES)]
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
                truth = _load_truth(dataset, int(image_id), config, (None, None))
            except _Fault:
                continue
            known = (truth.class_ids > 0) & (truth.class_ids < dataset.num_classes)
            if truth.boxes[known].any():
                return True
    return False


def _log_briefly(report: Report, name: str) -> None:
    """One line on what a training bears."""
    numbers = Counter(finding.kind for finding in report.findings if finding.image_id is not None)
    odd = [
        f"{KINDS[kind].title} ({_count(numbers[kind], 'image')})" for kind in KINDS if numbers[kind]
    ]
    if report.suggested_scales:
        odd.append(f"{report.under:.0%} of the objects overlap no anchor by {FITTING_IOU:g}")
    if odd:
        log.warning(
            "In %s of the %s: %s. `mrcnn check`, or mrcnn.data.check.check(dataset, config), says more.",
            _count(report.images, "image"), name, "; ".join(odd),
        )  # fmt: skip

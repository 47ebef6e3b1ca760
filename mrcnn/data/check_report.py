"""The findings of a check, and the report that prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from ..files.safe_text import LONGEST_NAME, printable
from .check_anchors import FITTING_IOU, MIN_GAIN

MIN_SIDE = 4  # px of a box after resizing: a cell of P2, the finest level of the pyramid
EXAMPLES = 3  # findings of each kind in a printed report
LINE = 96  # characters of a line in the printed table of classes
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
        "Check that the annotations belong to these images (a Dataset of your own must override "
        "load_mask).",
    ),
    "classes": Kind(
        ERROR,
        "Other classes than the config",
        "Set NUM_CLASSES to 1 (background) + your classes.",
    ),
    "image": Kind(
        ERROR,
        "Images that cannot be read",
        "Download them again, or remove them; --no-pixels (in Python pixels=False) checks only the "
        "annotations.",
    ),
    "masks": Kind(
        ERROR,
        "Masks that cannot be read",
        "Correct the named entry, or remove the image.",
    ),
    "keypoints": Kind(
        ERROR,
        "Keypoints that cannot be used",
        "Correct the named entry, or remove the image; each object needs NUM_KEYPOINTS keypoints.",
    ),
    "keypoints outside": Kind(
        WARNING,
        "Keypoints outside the image",
        "Nothing, if they should not be learned; otherwise correct them.",
    ),
    "mask count": Kind(
        ERROR,
        "Masks and class ids of different number",
        "Correct the annotations (a Dataset of your own: load_mask must return one class id per "
        "mask).",
    ),
    "mask size": Kind(
        ERROR,
        "Masks of another size than their image",
        "Find out which of the two was resized or rotated.",
    ),
    "class id": Kind(
        ERROR,
        "Class ids out of range",
        "Correct the annotations (a Dataset of your own: map_source_class_id returns the id); 0 is "
        "the background.",
    ),
    "left out": Kind(
        WARNING,
        "Entries that cannot be used",
        "Correct them. They are left out: training treats their objects as background. --strict "
        "refuses them.",
    ),
    "boxes alone": Kind(
        ERROR,
        "No outlines",
        "Train without masks (--config USE_MASK=False), or annotate the outlines of the objects.",
    ),
    "alike names": Kind(
        WARNING,
        "Class names that are nearly the same",
        "Give one class one name, unless these are two classes.",
    ),
    "empty": Kind(WARNING, "Objects without a pixel", "Delete them; training ignores them."),
    "duplicate": Kind(
        WARNING,
        "Objects annotated twice (same class, same mask)",
        "Delete one of each pair: both count, in the training and in the evaluation.",
    ),
    "vanishing": Kind(
        WARNING,
        "Objects whose box has no area after resizing",
        "Raise IMAGE_MIN_DIM and IMAGE_MAX_DIM, or train on parts of the images "
        "(IMAGE_RESIZE_MODE=crop).",
    ),
    "tiny": Kind(
        WARNING,
        f"Objects under {MIN_SIDE} px after resizing",
        "Raise IMAGE_MIN_DIM and IMAGE_MAX_DIM, or train on parts of the images "
        "(IMAGE_RESIZE_MODE=crop).",
    ),
    "crowded": Kind(
        WARNING,
        "Images of more objects than MAX_GT_INSTANCES",
        "Raise MAX_GT_INSTANCES, and DETECTION_MAX_INSTANCES for detection, as `mrcnn train` does "
        "by itself up to 400: more objects are left out, different ones in each epoch.",
    ),
    "unused class": Kind(
        WARNING, "Classes without objects", "Annotate some, or leave the classes out."
    ),
    "anchors": Kind(
        WARNING,
        "Anchors that do not fit",
        "`mrcnn train` sets those that do, unless --config names some; in Python set "
        "RPN_ANCHOR_SCALES as suggested.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One fault of one image, or of the whole dataset.

    kind: a key of `KINDS`. sentence: the fault. image_id: internal image id, None for the dataset.
    where: the image for people, with its file if it has one. instances: positions of the objects
    in the result of `load_mask`.
    """

    kind: str
    sentence: str
    image_id: int | None = None
    where: str = ""
    instances: tuple[int, ...] = ()

    @property
    def severity(self) -> str:
        """ "error" if it spoils a training, otherwise "warning"."""
        return KINDS[self.kind].severity

    @property
    def remedy(self) -> str:
        """How to correct it."""
        return KINDS[self.kind].remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.sentence}" if self.where else self.sentence

    def to_dict(self) -> dict:
        """Return the finding as a dict for JSON."""
        return {
            "severity": self.severity,
            **asdict(self),
            "instances": list(self.instances),
            "remedy": self.remedy,
        }


@dataclass
class Report:
    """The result of a check: `str()` for people, `to_dict()` for JSON.

    findings: errors first. images: number of checked images. objects: number without crowds.
    crowds: number. counts: class name -> objects. objects_per_image: number of objects -> number of
    images. resized: how the config resizes, in words. sizes, anchors, under, suggested_scales,
    suggested_under: see `check_anchors.AnchorFit`.
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
        """The findings that spoil a training."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """The other findings."""
        return [finding for finding in self.findings if finding.severity == WARNING]

    def to_dict(self) -> dict:
        """Return the report as a dict for strict JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "findings"}
        return {
            "errors": _number_of_kinds(self.errors),
            "warnings": _number_of_kinds(self.warnings),
            **plain,
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        return "\n\n".join("\n".join(part) for part in self._parts() if part)

    def _parts(self) -> Iterator[list[str]]:
        yield [self._totals()]
        yield self._classes()
        yield self._per_image()
        yield self._sizes()
        yield self._anchors()
        for kind in KINDS:
            yield self._of_kind(kind)
        yield [self._verdict()]

    def _totals(self) -> str:
        totals = f"{count_noun(self.images, 'image')}, {count_noun(self.objects, 'object')}"
        if self.crowds:
            totals += f", {count_noun(self.crowds, 'crowd')}"
        return totals

    def _verdict(self) -> str:
        """Number of errors and warnings as they are printed, one for each kind, and of findings."""
        if not self.findings:
            return "No faults were found."
        errors, warnings = _number_of_kinds(self.errors), _number_of_kinds(self.warnings)
        verdict = f"{count_noun(errors, 'error')}, {count_noun(warnings, 'warning')}"
        if len(self.findings) == errors + warnings:
            return verdict
        return f"{verdict} ({len(self.findings)} findings)"

    def _classes(self) -> list[str]:
        """The table of objects per class, in columns that are read downwards."""
        if not self.counts:
            return []
        names = [printable(name, LONGEST_NAME) for name in self.counts]
        numbers = list(self.counts.values())
        name_width, width = max(map(len, names)), len(str(max(numbers)))
        cells = [
            f"{name:<{name_width}} {number:>{width}}"
            for name, number in zip(names, numbers, strict=True)
        ]
        columns = max(1, LINE // (len(cells[0]) + 3))
        rows = -(-len(cells) // columns)
        lines = ["  " + "   ".join(cells[i::rows]) for i in range(rows)]
        return ["Objects per class:", *lines]

    def _per_image(self) -> list[str]:
        numbers = sorted(Counter(self.objects_per_image).elements())
        if not numbers:
            return []
        line = f"Objects per image: {numbers[0]} to {numbers[-1]}, median {np.median(numbers):g}"
        empty = self.objects_per_image.get(0)
        if empty:
            line += f"; {count_noun(empty, 'image')} without any"
        return [line]

    def _sizes(self) -> list[str]:
        if not self.sizes:
            return []
        names = {0: "smallest", 50: "median", 100: "largest"}
        heads = [names.get(quantile, f"{quantile} %") for quantile in self.sizes]
        return [
            f"Sizes after resizing ({self.resized}), square root of the box area in px:",
            "  " + "".join(f"{head:>10}" for head in heads),
            "  " + "".join(f"{size:10.0f}" for size in self.sizes.values()),
        ]

    def _anchors(self) -> list[str]:
        if not self.anchors:
            return []
        lines = [
            f"Objects by the scale of their best anchor, and how many of them have an IoU under "
            f"{FITTING_IOU:g} with it:",
            f"     scale  stride  objects  < {FITTING_IOU:g}",
        ]
        for row in self.anchors:
            under = "-" if row["under"] is None else f"{row['under']:.1%}"
            lines.append(
                f"  {row['scale']:>8g}  {row['stride']:>6g}  {row['objects']:>7d}  {under:>5}"
            )
        lines.append(f"  {'all':>8}  {'':>6}  {self.objects_with_anchor():>7d}  {self.under:>5.1%}")
        if self.suggested_scales is None:
            hint = f"No other scales bring {MIN_GAIN:.0%} more of the objects to that IoU."
            return [*lines, hint]
        scales = ", ".join(map(str, self.suggested_scales))
        return [
            *lines,
            f"With these scales {self.suggested_under:.1%} instead of {self.under:.1%} of the "
            f"objects have an IoU under {FITTING_IOU:g}:",
            f'  --config "RPN_ANCHOR_SCALES=({scales})"',
        ]

    def objects_with_anchor(self) -> int:
        """Return the number of objects in the table of anchors: those that have a box."""
        return sum(row["objects"] for row in self.anchors)

    def _of_kind(self, kind: str) -> list[str]:
        found = [finding for finding in self.findings if finding.kind == kind]
        if not found:
            return []
        title = f"{KINDS[kind].severity}: {KINDS[kind].title}"
        objects = sum(len(finding.instances) for finding in found)
        if objects:
            title += f": {objects} in {count_noun(len(found), 'image')}"
        elif found[0].where or kind == "left out":
            title += f": {len(found)}"
        lines = [title]
        lines += [f"  {printable(finding, LONGEST_SENTENCE)}" for finding in found[:EXAMPLES]]
        if len(found) > EXAMPLES:
            lines.append(f"  and {len(found) - EXAMPLES} more")
        lines.append(f"  Remedy: {KINDS[kind].remedy}")
        return lines


def _number_of_kinds(findings: list[Finding]) -> int:
    return len({finding.kind for finding in findings})


def count_noun(number: int, noun: str) -> str:
    """Return for example "1 image" or "3 images"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

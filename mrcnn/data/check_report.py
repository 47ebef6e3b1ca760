"""The findings of a check, and the report that prints them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np

from ..files.safe_text import LONGEST_NAME, printable
from .check_anchors import FITTING_IOU, LEAST_GAIN

SMALLEST_SIDE = 4  # px of a box after resizing: a cell of P2, the finest map of the pyramid
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
        crowds = f", {count_noun(self.crowds, 'crowd')}" if self.crowds else ""
        yield [f"{count_noun(self.images, 'image')}, {count_noun(self.objects, 'object')}{crowds}"]
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
        verdict = f"{count_noun(len(errors), 'error')}, {count_noun(len(warnings), 'warning')}"
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
        return [line + (f"; {count_noun(empty, 'image')} without any" if empty else "")]

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
        number = f"{objects} in {count_noun(len(found), 'image')}" if objects else str(len(found))
        counted = found[0].where or kind == "left out"
        title = f"{KINDS[kind].severity}: {KINDS[kind].title}" + (f": {number}" if counted else "")
        examples = [f"  {printable(finding, LONGEST_SENTENCE)}" for finding in found[:EXAMPLES]]
        more = [f"  and {len(found) - EXAMPLES} more"] if len(found) > EXAMPLES else []
        return [title, *examples, *more, f"  Remedy: {KINDS[kind].remedy}"]


def count_noun(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)

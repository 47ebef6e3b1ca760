"""The table that `mrcnn export` prints: how a file compares with `detect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from .compare import Agreement, Limits
from .precision_cost import LARGEST_LOSS, PrecisionCost

MEGABYTE = 1_000_000


class Report(NamedTuple):
    """An exported file, how it agrees with `detect`, and what it costs.

    measured: of `inference.runtimes.measure`. detect_ms: of `detect`, for one image.
    cost: in average precision, if there are annotated images.
    """

    path: Path
    description: dict[str, Any]
    agreement: Agreement
    limits: Limits
    size: int  # bytes
    measured: dict[str, float]
    detect_ms: float
    cost: PrecisionCost | None = None

    def agrees(self) -> bool:
        """Return whether the file detects the same as `detect`."""
        is_precise = self.cost is None or self.cost.loss() <= LARGEST_LOSS
        return is_precise and self.agreement.keeps(self.limits)

    def to_dict(self) -> dict[str, Any]:
        """Return the description and the measurements as JSON can hold them."""
        comparison = {**self.agreement._asdict(), "bytes": self.size, **self.measured}
        comparison["detect_ms"] = self.detect_ms
        if self.cost is not None:
            comparison["average_precision"] = self.cost._asdict()
        return {**self.description, "comparison": comparison}

    def text(self) -> str:
        """Return the table."""
        agreement, limits = self.agreement, self.limits
        confidence = f"score >= {agreement.confidence:.2g}"
        compared = f"{agreement.compared} in {agreement.images} images ({confidence})"
        rows = [
            ("detections", compared, ""),
            ("matched", f"{agreement.matched:.1%}", f">= {limits.matched:.0%}"),
            ("boxes", f"{agreement.boxes:.2g} px", _at_most(limits.boxes, " px")),
            ("scores", f"{agreement.scores:.2g}", _at_most(limits.scores)),
        ]
        if agreement.masks is not None:
            rows.append(("mask IoU", f"{agreement.masks:.4f}", f">= {limits.masks:g}"))
        if agreement.keypoints is not None:
            keypoints = f"{agreement.keypoints:.2g} of their range"
            rows.append(("keypoint logits", keypoints, _at_most(limits.keypoints)))
        rows += _cost_rows(self.cost)
        memory = self.measured["memory"]
        rows += [
            ("size", f"{self.size / MEGABYTE:.1f} MB", ""),
            ("time per image", f"{self.measured['ms']:.1f} ms", f"detect {self.detect_ms:.1f} ms"),
            ("start", f"{self.measured['start']:.1f} s", ""),
            ("memory", "unknown" if memory is None else f"{memory:.0f} MB", ""),
        ]
        return "\n".join([self._title(), *_columns(rows)])

    def _title(self) -> str:
        wanted = self.description["input"]
        batch = wanted["batch"] or "any"
        size = "any size" if wanted["height"] is None else f"{wanted['height']} x {wanted['width']}"
        words = (self.description["format"], self.description["precision"])
        return f"{self.path.name}: {', '.join(words)}, batch {batch}, images of {size}"


def _cost_rows(cost: PrecisionCost | None) -> list[tuple[str, str, str]]:
    if cost is None:
        return []
    rows = []
    for name, expected in cost.expected.items():
        found = f"{cost.found[name]:.4f} in {cost.images} images"
        rows.append((name, found, f">= {expected - LARGEST_LOSS:.4f} (detect {expected:.4f})"))
    return rows


def _at_most(limit: float, unit: str = "") -> str:
    return "" if limit == float("inf") else f"<= {limit:g}{unit}"


def _columns(rows: list[tuple[str, str, str]]) -> list[str]:
    rows = [("", "found", "allowed"), *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [
        f"  {name.ljust(widths[0])}  {value.ljust(widths[1])}  {limit}".rstrip()
        for name, value, limit in rows
    ]

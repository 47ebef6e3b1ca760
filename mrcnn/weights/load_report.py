"""The report of a load: the fate of each layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..files.safe_text import printable

Shape = tuple[int, ...]


class ShapeMismatch(NamedTuple):
    """A layer whose weights have other shapes in the file than in the model."""

    layer: str
    in_file: list[Shape]
    in_model: list[Shape]

    def __str__(self) -> str:
        return f"{self.layer} (file {self.in_file}, model {self.in_model})"


class AdaptedKernel(NamedTuple):
    """A first convolution that was fitted to the image channels, with the shapes of its kernel."""

    layer: str
    in_file: Shape
    in_model: Shape

    def __str__(self) -> str:
        return f"{self.layer} (file {self.in_file}, model {self.in_model})"


@dataclass
class LoadReport:
    """The result of one load, layer by layer.

    path: the file.
    loaded: names of the layers that now have the file's weights.
    excluded: layers left out on request.
    mismatched: layers left unchanged because their shapes differ.
    missing: layers of the model that the file does not have.
    unused: layers of the file that the model does not have.
    adapted: first convolution, if it was fitted to another number of image channels; it is among
        `loaded` too.
    remapped: {class name in the file: class id in the model} of class rows that were moved.
    """

    path: str
    loaded: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    mismatched: list[ShapeMismatch] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    adapted: list[AdaptedKernel] = field(default_factory=list)
    remapped: dict[str, int] = field(default_factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether some layers are missing, unused or of another shape."""
        return bool(self.missing or self.mismatched or self.unused)

    def summary(self) -> str:
        """Return a few readable lines: the counts above zero, then the names behind them."""
        counts = {
            "excluded": len(self.excluded),
            "of another shape": len(self.mismatched),
            "missing in the file": len(self.missing),
            "unused in the file": len(self.unused),
        }
        not_loaded = [f", {count} {what}" for what, count in counts.items() if count]
        lines = [f"{self.path}: {len(self.loaded)} layers loaded{''.join(not_loaded)}"]
        moved = [f"{name} -> {new_id}" for name, new_id in self.remapped.items()]
        details = {
            "excluded": self.excluded,
            "of another shape (kept as initialised)": self.mismatched,
            "missing in the file (kept as initialised)": self.missing,
            "unused in the file": self.unused,
            "fitted to the image channels": self.adapted,
            "classes moved": moved,
        }
        for title, entries in details.items():
            if entries:
                lines.append(f"  {title}: {first_names(entries)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def first_names(names: Iterable[object], count: int = 6) -> str:
    """The first few names, and the number of the others, for a message."""
    names = list(names)
    text = ", ".join(printable(name) for name in names[:count])
    return f"{text} and {len(names) - count} more" if len(names) > count else text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`' Did you mean ...?'` if one of the known names is similar, else the empty string."""
    similar = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {similar[0]!r}?" if similar else ""

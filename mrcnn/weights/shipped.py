"""Models that this package contains: a weight file in float16, and a card that describes it.

A model NAME is the two files `packaged/NAME.h5` and `packaged/NAME.md`; `shipping.py` writes them.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Config
from .weight_file import WeightFile

PACKAGED = Path(__file__).with_name("packaged")  # folder of the weights in this package
LICENCE = "Licence: "  # beginning of the card's line about it

# What a training on other data does not take from the model: its name and its classes.
_OF_DATA = ("NAME", "NUM_CLASSES")


class Results(NamedTuple):
    """COCO's AP of a model, 0 to 1, and the data on which it was measured.

    mask_ap: None for a network without masks.
    """

    box_ap: float
    mask_ap: float | None
    data: str


class Shipped(NamedTuple):
    """A model in this package."""

    name: str
    weights: Path
    card_file: Path

    @property
    def card(self) -> str:
        """The card, as Markdown."""
        return self.card_file.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The objects that the model detects: the first line of the card."""
        return self.card.splitlines()[0].lstrip("# ").partition(": ")[2]

    @property
    def licence(self) -> str:
        """The licence, as the card states it."""
        lines = [line for line in self.card.splitlines() if line.startswith(LICENCE)]
        return lines[0].removeprefix(LICENCE)

    @property
    def metadata(self) -> dict[str, Any]:
        """The description in the weight file: config, class_names, results."""
        with WeightFile(self.weights) as file:
            return file.metadata

    @property
    def results(self) -> Results:
        """The measured AP."""
        return Results(**self.metadata["results"])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the network, its use and its training, for a training on other data."""
        config = Config.from_dict(self.metadata["config"])
        names = [name for name in config.changed() if name not in _OF_DATA]
        return {name: copy.copy(getattr(config, name)) for name in names}


def shipped_models() -> list[Shipped]:
    """Return all models in this package, sorted by name."""
    cards = sorted(PACKAGED.glob("*.md"))
    return [Shipped(card.stem, card.with_suffix(".h5"), card) for card in cards]


def shipped(weights: str | os.PathLike) -> Shipped | None:
    """Return the model that a name stands for; None for another name, or a path.

    weights: a name, or a path; a file that exists is a path, whatever its name.
    """
    if os.path.isfile(weights):
        return None
    name = os.fspath(weights)
    return next((model for model in shipped_models() if model.name == name), None)

"""Checks of single values that an annotation file contains."""

from __future__ import annotations

import sys
from typing import Any

from ..files.limits import LONGEST_SIDE


def short(value: Any, length: int = 80) -> str:
    """Return the `repr` of a value, cut after `length` characters."""
    try:
        text = repr(value)
    except RecursionError:  # json reads a few levels more than repr writes
        text = f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= length else text[:length] + "..."


def is_integer(value: Any) -> bool:
    """Return whether a value is an int; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def to_integer(value: Any) -> int | None:
    """Return a value as an int if it is an integer, as 60 and 60.0 are; otherwise None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return None


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that a float can represent."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def to_number(text: str | None) -> float | None:
    """Return the finite number that a text spells, otherwise None."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_finite(value) else None


def is_side(value: Any) -> bool:
    """Return whether a value can be a height or width in pixels; None means unknown and passes."""
    if value is None:
        return True
    side = to_integer(value)
    return side is not None and 0 < side <= LONGEST_SIDE

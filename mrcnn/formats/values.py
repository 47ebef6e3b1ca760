"""Checks of single values that an annotation file holds."""

from __future__ import annotations

import sys
from typing import Any

from ..files.limits import LONGEST_SIDE


def short(value: Any, length: int = 80) -> str:
    """What a value looks like, cut off where it is long."""
    try:
        text = repr(value)
    except RecursionError:  # json reads a few levels more than repr writes
        text = f"a {type(value).__name__} nested too deeply"
    return text if len(text) <= length else text[:length] + "..."


def is_whole(value: Any) -> bool:
    """Whether a value from a file is a whole number (True and False are none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def whole(value: Any) -> int | None:
    """The whole number that a value from a file is, or None. 60.0 is one; True and False are none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if is_whole(value) else None


def is_finite(value: Any) -> bool:
    """Whether a value from a file is a number that a float can hold."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def to_number(text: str | None) -> float | None:
    """The finite number that a text says, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if is_finite(value) else None


def is_side(value: Any) -> bool:
    """Whether a value from a file can be a height or width; None says that the file does not tell."""
    return value is None or (whole(value) is not None and 0 < value <= LONGEST_SIDE)

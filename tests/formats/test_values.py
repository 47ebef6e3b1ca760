"""Checks of single values."""

import base64
import math

from mrcnn.formats import (
    values,
)


def test_to_integer_and_is_side():
    for value, number in (
        (3, 3),
        (60.0, 60),
        (-2, -2),
        (0.5, None),
        (math.nan, None),
        (math.inf, None),
    ):
        assert values.to_integer(value) == number
    for value in (True, "3", None, [3]):
        assert values.to_integer(value) is None
    assert (
        values.is_side(60.0)
        and values.is_side(None)
        and not values.is_side(0)
        and not values.is_side(1e9)
    )


def test_short_of_values_nested_too_deeply():
    value = []
    for _ in range(100_000):
        value = [value]
    assert values.short(value) == "a list nested too deeply"


def test_short_cuts_long_values():
    assert values.short([1, 2]) == "[1, 2]"
    assert values.short(base64.b64encode(bytes(90)), length=10) == "b'AAAAAAAA..."

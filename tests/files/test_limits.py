"""Limits on the sizes that files may claim."""

import pytest

from mrcnn.files import limits


def test_sizes_above_the_limits_are_refused():
    limits.check_size(10_000, 10_000, "x.json")
    with pytest.raises(ValueError, match=r"100,000 x 100,000 .* in x\.json"):
        limits.check_size(100_000, 100_000, "x.json")
    limits.check_masks(100, 1024, 1024, "a.png")
    with pytest.raises(ValueError, match=r"5,000 objects"):
        limits.check_masks(5000, 2000, 2000, "a.png")


def test_another_limit_of_pixels():
    limits.check_size(10, 10, "a.png", most=100)
    with pytest.raises(ValueError, match=r"at most 99 pixels, .*10 x 10"):
        limits.check_size(10, 10, "a.png", most=99)

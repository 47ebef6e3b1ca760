"""Colors and captions."""

import random

from mrcnn.drawing import inputs


def test_zero_random_colors():
    assert inputs.random_colors(0) == []


def test_random_colors_are_even_hues_shuffled_by_the_global_generator():
    # hues 0, 1/4, 1/2, 3/4: red, chartreuse, cyan, violet
    expected = [(1, 0, 0), (0.5, 1, 0), (0, 1, 1), (0.5, 0, 1)]
    random.seed(3)
    random.shuffle(expected)
    random.seed(3)
    assert inputs.random_colors(4) == expected
    assert {max(color) for color in inputs.random_colors(5, bright=False)} == {0.7}

"""Own augmentations: image and masks move together, chance comes from the generator alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.augment import AUGMENTATIONS, color, compose, flip, fliplr, rotate90, scale

GEOMETRIC = ["flip", "fliplr", "rotate90", "scale"]


def picture(side=64, count=3):
    """Masks of rectangles, and an image that shows the first one: 255 inside, 0 outside."""
    masks = np.zeros((side, side, count), bool)
    for i in range(count):
        masks[8 + 4 * i : 30 + 6 * i, 5 + 3 * i : 20 + 9 * i, i] = True
    image = np.repeat(masks[:, :, :1], 3, axis=2).astype(np.uint8) * 255
    return image, masks


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_masks(name):
    image, masks = picture(count=1)
    out, moved = AUGMENTATIONS[name](image, masks[:, :, :0], np.random.default_rng(0))
    assert out.shape == image.shape and moved.shape == (64, 64, 0)


@pytest.mark.parametrize("name", GEOMETRIC)
@given(seed=st.integers(0, 2**32 - 1))
def test_masks_move_with_the_image(name, seed):
    image, masks = picture()
    out, moved = compose([name])(image, masks, np.random.default_rng(seed))
    assert out.shape == image.shape and out.dtype == np.uint8 and moved.dtype == bool
    differing = (out[:, :, 0] > 127) != moved[:, :, 0]
    if name == "scale":  # bilinear against nearest: the outline may differ, by a pixel
        assert differing.mean() < 0.03
    else:
        assert not differing.any()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_same_seed_same_result_and_the_input_stays(name):
    image, masks = picture()
    before = image.copy(), masks.copy()
    results = [AUGMENTATIONS[name](image, masks, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(masks, before[1])


def outcomes(function, draws=200):
    image, masks = picture()
    rng = np.random.default_rng(0)
    return [function(image, masks, rng)[0] for _ in range(draws)], image


def test_mirrors_and_turns_come_half_of_the_time():
    found, image = outcomes(fliplr)
    mirrored = sum(np.array_equal(out, image[:, ::-1]) for out in found)
    assert mirrored + sum(np.array_equal(out, image) for out in found) == 200
    assert 70 < mirrored < 130  # 100 expected, standard deviation 7
    found, image = outcomes(rotate90)
    assert 70 < sum(np.array_equal(out, np.rot90(image)) for out in found) < 130
    found, image = outcomes(flip)
    for wanted in (image, image[::-1], image[:, ::-1], image[::-1, ::-1]):
        assert 25 < sum(np.array_equal(out, wanted) for out in found) < 80  # 50 expected, deviation 6


def test_rotate90_leaves_a_rectangle():
    image, masks = np.ones((4, 6, 3), np.uint8), np.ones((4, 6, 1), bool)
    rng = np.random.default_rng(0)
    assert {rotate90(image, masks, rng)[0].shape for _ in range(20)} == {(4, 6, 3)}


def test_scale_by_one_factor():
    image, masks = picture()
    out, moved = scale(image, masks, np.random.default_rng(0), low=2, high=2)
    # twice the size both ways is four times the area, as long as nothing leaves the image
    assert moved[:, :, 0].sum() > 1.5 * masks[:, :, 0].sum()
    same, kept = scale(image, masks, np.random.default_rng(0), low=1, high=1)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(kept, masks)


def test_scale_keeps_any_number_of_channels():
    image, masks = np.full((16, 16, 1), 9, np.uint8), np.zeros((16, 16, 2), bool)
    out, moved = scale(image, masks, np.random.default_rng(0))
    assert out.shape == (16, 16, 1) and moved.shape == (16, 16, 2)


def test_color_changes_colours_only():
    image, masks = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8), np.ones((16, 16, 1), bool)
    out, moved = color(image, masks, np.random.default_rng(0))
    assert out.dtype == np.uint8 and not np.array_equal(out, image)
    assert moved is masks
    same, _ = color(image, masks, np.random.default_rng(0), strength=0)
    assert np.abs(same.astype(int) - image).max() <= 1


def test_compose_applies_in_order_and_refuses_unknown_names():
    image, masks = picture()
    out, moved = compose(["fliplr", "flip"])(image, masks, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    expected, expected_masks = flip(*fliplr(image, masks, rng), rng)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(moved, expected_masks)
    assert out.flags.c_contiguous
    unchanged, _ = compose([])(image, masks, rng)
    np.testing.assert_array_equal(unchanged, image)
    with pytest.raises(ValueError, match="flip, fliplr, rotate90, scale, color. Received: 'blur'"):
        compose(["blur"])

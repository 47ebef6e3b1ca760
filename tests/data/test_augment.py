"""Own augmentations: image and masks move together, chance comes from the generator alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.data import augment
from mrcnn.data.augment import (
    AUGMENTATIONS,
    color,
    compose,
    copy_paste,
    flip,
    fliplr,
    jitter,
    rotate90,
    scale,
)

GEOMETRIC = ["flip", "fliplr", "rotate90", "scale"]
PLAIN = [name for name, function in AUGMENTATIONS.items() if not hasattr(function, "pastes")]


def picture(side=64, count=3):
    """Masks of rectangles, and an image that shows the first one: 255 inside, 0 outside."""
    masks = np.zeros((side, side, count), bool)
    for i in range(count):
        masks[8 + 4 * i : 30 + 6 * i, 5 + 3 * i : 20 + 9 * i, i] = True
    image = np.repeat(masks[:, :, :1], 3, axis=2).astype(np.uint8) * 255
    return image, masks


@pytest.mark.parametrize("name", PLAIN)
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


@pytest.mark.parametrize("name", PLAIN)
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
        assert (
            25 < sum(np.array_equal(out, wanted) for out in found) < 80
        )  # 50 expected, deviation 6


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
    image, masks = (
        np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8),
        np.ones((16, 16, 1), bool),
    )
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
    with pytest.raises(
        ValueError, match="rotate90, scale, jitter, color, copy_paste. Received: 'blur'"
    ):
        compose(["blur"])


# --- Jitter -------------------------------------------------------------------------------------------------------


def photo(height=64, width=64, channels=3, value=200):
    """A photo of one light value, and a dark object of 16 x 20 pixels at (24, 20)."""
    image, mask = (
        np.full((height, width, channels), value, np.uint8),
        np.zeros((height, width, 1), bool),
    )
    mask[24:40, 20:40] = True
    image[mask[:, :, 0]] = 40
    return image, mask


@pytest.mark.parametrize("seed", range(5))
def test_jitter_by_a_half_and_by_two(seed):
    image, mask = photo()
    out, moved = jitter(image, mask, np.random.default_rng(seed), low=0.5, high=0.5)
    (y1, y2), (x1, x2) = (np.flatnonzero(moved[:, :, 0].any(axis=axis))[[0, -1]] for axis in (1, 0))
    assert (y2 - y1 + 1, x2 - x1 + 1) == (8, 10) and moved.sum() == 80
    np.testing.assert_array_equal(out[moved[:, :, 0]], 40)
    # 200 outside the object and 40 in its 320 of 4096 pixels: 187.5 on average, which fills three quarters
    assert (out[:, :, 0] == 188).sum() == 64 * 64 - 32 * 32 and (
        out[:, :, 0] == 200
    ).sum() == 32 * 32 - 80
    out, moved = jitter(image, mask, np.random.default_rng(seed), low=2, high=2)
    assert 0 < moved.sum() <= 32 * 40 and set(np.unique(out[moved[:, :, 0]])) <= set(range(40, 161))
    assert not moved.all(axis=2).all() and out.shape == image.shape


def test_jitter_by_one_changes_nothing():
    image, mask = photo()
    out, moved = jitter(image, mask, np.random.default_rng(0), low=1, high=1)
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(moved, mask)


@given(seed=st.integers(0, 2**32 - 1))
def test_jittered_masks_move_with_the_image(seed):
    image, mask = photo(48, 64)
    out, moved = jitter(image, mask, np.random.default_rng(seed))
    assert out.shape == image.shape and moved.shape == mask.shape and moved.dtype == bool
    # a pixel of the outline is between the object's 40 and the photo's 200; what is padded has 187 or 188
    assert ((out[:, :, 0] < 120) != moved[:, :, 0]).mean() < 0.03


def test_jitter_keeps_an_object_in_view():
    image, mask = np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64, 1), bool)
    mask[0:6, 0:6] = True  # in a corner: at twice the size three places of four do not show it
    rng = np.random.default_rng(0)
    assert all(jitter(image, mask, rng, 2, 2)[1].any() for _ in range(50))
    assert all(jitter(image[:, ::-1], mask[:, ::-1], rng, 1.3, 1.9)[1].any() for _ in range(50))
    assert jitter(image, mask[:, :, :0], rng, 2, 2)[1].shape == (64, 64, 0)


def test_jitter_leaves_no_black_rim():
    image, mask = photo()
    image[:16] = image[-12:] = 0  # as resizing pads a wide photo
    for seed in range(30):
        assert jitter(image, mask, np.random.default_rng(seed))[0].min() >= 40
    black, masks = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 1), bool)
    masks[1:3, 1:3] = True
    assert jitter(black, masks, np.random.default_rng(0))[0].max() == 0
    assert jitter(black, masks[:, :, :0], np.random.default_rng(0))[0].max() == 0


@pytest.mark.parametrize("channels", [1, 4, 8])
@pytest.mark.parametrize("name", PLAIN)
def test_any_number_of_channels(name, channels):
    image, mask = photo(channels=channels)
    for seed in range(4):
        out, moved = AUGMENTATIONS[name](image, mask, np.random.default_rng(seed))
        assert out.shape == image.shape and moved.shape == mask.shape and out.dtype == np.uint8


# --- Copy-paste ---------------------------------------------------------------------------------------------------


class Always(np.random.Generator):
    """Chance that takes every object and mirrors nothing: 0 where objects are chosen, 0.9 for a single draw."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self, size=None):
        return 0.9 if size is None else np.zeros(size)


@pytest.fixture
def unmoved(monkeypatch):
    """What is pasted stays where it is in its own image."""
    monkeypatch.setattr(
        augment,
        "_jitter",
        lambda image, masks, *_: augment._Jittered(image, masks, masks.sum(axis=(0, 1))),
    )


def layers(*boxes, side=20):
    masks = np.zeros((side, side, len(boxes)), bool)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, i] = True
    return masks


def other(value, masks, ids):
    return lambda rng: (np.full((*masks.shape[:2], 3), value, np.uint8), masks, np.array(ids))


def test_pasted_objects_cover_what_is_below(unmoved):
    image = np.full((20, 20, 3), 100, np.uint8)
    below = layers((0, 0, 10, 10), (10, 10, 20, 20), (12, 0, 16, 4))
    pasted = layers((0, 0, 9, 10), (10, 10, 15, 20))  # nine tenths and the half of the first two
    out, masks, ids = copy_paste(
        image, below, Always(), np.array([1, 2, 3]), other(200, pasted, [4, 5])
    )
    assert ids.tolist() == [1, 2, 3, 4, 5]
    assert masks.sum(axis=(0, 1)).tolist() == [10, 50, 16, 90, 50]
    assert masks.sum(axis=2).max() == 1
    assert (out[2, 2] == 200).all() and (out[13, 2] == 100).all()
    # a pixel on the border has 6 of its 9 neighbours in the object: 100 + 6 / 9 * 100
    assert (out[8, 5] == 167).all() and (out[9, 5] == 100).all()
    assert (image == 100).all() and below.sum() == 216  # the inputs stay


def test_instances_with_less_than_a_tenth_left_are_dropped(unmoved):
    image = np.full((20, 20, 3), 100, np.uint8)
    below = layers((0, 0, 10, 10), (0, 10, 10, 20), (12, 12, 14, 14))
    pasted = layers((0, 0, 10, 9), (0, 11, 10, 20), (12, 12, 14, 14))
    pasted[9, 9, 0] = True  # 91 of 100 pixels
    _, masks, ids = copy_paste(
        image, below, Always(), np.array([1, 2, -3]), other(9, pasted, [4, 5, 6])
    )
    assert ids.tolist() == [2, 4, 5, 6] and masks.shape == (20, 20, 4)


def test_nothing_to_paste(unmoved):
    image, masks, ids = np.full((20, 20, 3), 100, np.uint8), layers((0, 0, 5, 5)), np.array([1])
    none = layers()
    for another in (
        lambda rng: None,
        other(9, none, []),
        other(9, masks, [-1]),
    ):  # crowds are not pasted
        result = copy_paste(image, masks, Always(), ids, another)
        assert all(
            after is before for after, before in zip(result, (image, masks, ids), strict=True)
        )
    # onto an image without objects
    out, masks, ids = copy_paste(
        image, none, Always(), np.zeros(0, int), other(9, layers((0, 0, 5, 5)), [3])
    )
    assert masks.sum() == 25 and ids.tolist() == [3] and (out[1, 1] == 9).all()


def test_half_of_the_objects_are_pasted():
    image, ids = np.full((20, 20, 3), 100, np.uint8), np.zeros(0, int)
    pasted = layers(*[(2 * i, 0, 2 * i + 2, 20) for i in range(10)])
    rng, counts = np.random.default_rng(0), []
    for _ in range(200):
        counts.append(len(copy_paste(image, layers(), rng, ids, other(9, pasted, [1] * 10))[2]))
    assert 3 < np.mean(counts) < 5  # 5 chosen on average, some of them outside


def test_nothing_is_pasted_on_the_black_rim():
    image, ids = np.full((40, 40, 3), 100, np.uint8), np.zeros(0, int)
    image[:10] = image[30:] = 0
    for seed in range(30):
        out, masks, _ = copy_paste(
            image,
            layers(side=40),
            np.random.default_rng(seed),
            ids,
            other(200, layers((0, 0, 40, 40), side=40), [1]),
        )
        assert (
            not masks[:10].any() and not masks[30:].any() and out[:10].max() == out[30:].max() == 0
        )


def test_pasted_objects_of_another_shape_and_the_same_seed():
    image, masks = photo()
    big = other(9, layers((10, 10, 90, 90), (0, 0, 30, 30), side=100), [1, 2])
    results = [
        copy_paste(image, masks, np.random.default_rng(5), np.array([1]), big) for _ in range(2)
    ]
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    assert results[0][0].shape == image.shape and results[0][1].shape == (
        64,
        64,
        len(results[0][2]),
    )


def test_compose_with_copy_paste_hands_on_class_ids(unmoved):
    image = np.full((20, 20, 3), 100, np.uint8)
    changes = compose(["fliplr", "copy_paste", "color"])
    assert changes.pastes and not compose(["flip"]).pastes
    out, masks, ids = changes(
        image,
        layers((0, 0, 5, 5)),
        np.random.default_rng(1),
        np.array([1]),
        other(9, layers((8, 8, 12, 12)), [2]),
    )
    assert masks.shape == (20, 20, len(ids)) and ids[0] == 1 and out.flags.c_contiguous

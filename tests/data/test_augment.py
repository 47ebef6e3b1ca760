"""Augmentations: masks move with the image, random numbers come from the generator only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.data import augment
from mrcnn.data.augment import (
    AUGMENTATIONS,
    PRESETS,
    color,
    compose,
    copy_paste,
    flip,
    fliplr,
    jitter,
    rotate90,
    scale,
)

GEOMETRIC = ["flip", "fliplr", "rotate90", "rotate", "scale"]
PLAIN = [name for name, function in AUGMENTATIONS.items() if not hasattr(function, "pastes")]


def rectangles_image(side=64, count=3):
    """An image of the first of some rectangles, 255 inside and 0 outside, and their masks."""
    masks = np.zeros((side, side, count), bool)
    for i in range(count):
        masks[8 + 4 * i : 30 + 6 * i, 5 + 3 * i : 20 + 9 * i, i] = True
    image = np.repeat(masks[:, :, :1], 3, axis=2).astype(np.uint8) * 255
    return image, masks


@pytest.mark.parametrize("name", PLAIN)
def test_image_without_objects(name):
    image, masks = rectangles_image(count=1)
    out, moved = AUGMENTATIONS[name](image, masks[:, :, :0], np.random.default_rng(0))
    assert out.shape == image.shape and moved.shape == (64, 64, 0)


@pytest.mark.parametrize("name", GEOMETRIC)
@given(seed=st.integers(0, 2**32 - 1))
def test_masks_move_with_the_image(name, seed):
    image, masks = rectangles_image()
    out, moved = compose([name])(image, masks, np.random.default_rng(seed))
    assert out.shape == image.shape and out.dtype == np.uint8 and moved.dtype == bool
    differing = (out[:, :, 0] > 127) != moved[:, :, 0]
    if name in ("rotate", "scale"):  # bilinear and nearest: outlines may differ by a pixel
        assert differing.mean() < 0.03
    else:
        assert not differing.any()


@pytest.mark.parametrize("name", PLAIN)
def test_same_seed_gives_same_result_and_inputs_are_unchanged(name):
    image, masks = rectangles_image()
    before = image.copy(), masks.copy()
    results = [AUGMENTATIONS[name](image, masks, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(masks, before[1])


def outcomes(function, draws=200):
    image, masks = rectangles_image()
    rng = np.random.default_rng(0)
    return [function(image, masks, rng)[0] for _ in range(draws)], image


def test_mirrors_and_rotations_have_probability_one_half():
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


def test_rotate90_does_not_change_a_rectangle():
    image, masks = np.ones((4, 6, 3), np.uint8), np.ones((4, 6, 1), bool)
    rng = np.random.default_rng(0)
    assert {rotate90(image, masks, rng)[0].shape for _ in range(20)} == {(4, 6, 3)}


def test_scale_by_one_factor():
    image, masks = rectangles_image()
    out, moved = scale(image, masks, np.random.default_rng(0), low=2, high=2)
    # Twice the side is four times the area unless the object leaves the image.
    assert moved[:, :, 0].sum() > 1.5 * masks[:, :, 0].sum()
    same, kept = scale(image, masks, np.random.default_rng(0), low=1, high=1)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(kept, masks)


def test_scale_supports_one_channel():
    image, masks = np.full((16, 16, 1), 9, np.uint8), np.zeros((16, 16, 2), bool)
    out, moved = scale(image, masks, np.random.default_rng(0))
    assert out.shape == (16, 16, 1) and moved.shape == (16, 16, 2)


def test_color_does_not_change_masks():
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
    image, masks = rectangles_image()
    out, moved = compose(["fliplr", "flip"])(image, masks, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    expected, expected_masks = flip(*fliplr(image, masks, rng), rng)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(moved, expected_masks)
    assert out.flags.c_contiguous
    unchanged, _ = compose([])(image, masks, rng)
    np.testing.assert_array_equal(unchanged, image)
    with pytest.raises(ValueError, match="noise, copy_paste, or a preset: none, .*: 'sepia'"):
        compose(["sepia"])


# --- Jitter -----------------------------------------------------------------------------------


def dark_object(height=64, width=64, channels=3, value=200):
    """An image of one light value with a dark object of 16 x 20 pixels at (24, 20)."""
    image, mask = (
        np.full((height, width, channels), value, np.uint8),
        np.zeros((height, width, 1), bool),
    )
    mask[24:40, 20:40] = True
    image[mask[:, :, 0]] = 40
    return image, mask


@pytest.mark.parametrize("seed", range(5))
def test_jitter_with_factor_one_half_and_two(seed):
    image, mask = dark_object()
    out, moved = jitter(image, mask, np.random.default_rng(seed), low=0.5, high=0.5)
    (y1, y2), (x1, x2) = (np.flatnonzero(moved[:, :, 0].any(axis=axis))[[0, -1]] for axis in (1, 0))
    assert (y2 - y1 + 1, x2 - x1 + 1) == (8, 10) and moved.sum() == 80
    np.testing.assert_array_equal(out[moved[:, :, 0]], 40)
    # 200 outside the object and 40 in its 320 of 4096 pixels: the mean 187.5 pads three quarters.
    assert (out[:, :, 0] == 188).sum() == 64 * 64 - 32 * 32 and (
        out[:, :, 0] == 200
    ).sum() == 32 * 32 - 80
    out, moved = jitter(image, mask, np.random.default_rng(seed), low=2, high=2)
    assert 0 < moved.sum() <= 32 * 40 and set(np.unique(out[moved[:, :, 0]])) <= set(range(40, 161))
    assert not moved.all(axis=2).all() and out.shape == image.shape


def test_jitter_with_factor_one_is_the_identity():
    image, mask = dark_object()
    out, moved = jitter(image, mask, np.random.default_rng(0), low=1, high=1)
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(moved, mask)


@given(seed=st.integers(0, 2**32 - 1))
def test_jittered_masks_move_with_the_image(seed):
    image, mask = dark_object(48, 64)
    out, moved = jitter(image, mask, np.random.default_rng(seed))
    assert out.shape == image.shape and moved.shape == mask.shape and moved.dtype == bool
    # A pixel of the outline is between 40 and 200; padding has 187 or 188.
    assert ((out[:, :, 0] < 120) != moved[:, :, 0]).mean() < 0.03


def test_jitter_keeps_an_object_in_view():
    image, mask = np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64, 1), bool)
    mask[0:6, 0:6] = True  # in a corner: at twice the size three of four positions hide it
    rng = np.random.default_rng(0)
    assert all(jitter(image, mask, rng, 2, 2)[1].any() for _ in range(50))
    assert all(jitter(image[:, ::-1], mask[:, ::-1], rng, 1.3, 1.9)[1].any() for _ in range(50))
    assert jitter(image, mask[:, :, :0], rng, 2, 2)[1].shape == (64, 64, 0)


def test_jitter_removes_the_black_border():
    image, mask = dark_object()
    image[:16] = image[-12:] = 0  # as resizing pads a wide image
    for seed in range(30):
        assert jitter(image, mask, np.random.default_rng(seed))[0].min() >= 40
    black, masks = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 1), bool)
    masks[1:3, 1:3] = True
    assert jitter(black, masks, np.random.default_rng(0))[0].max() == 0
    assert jitter(black, masks[:, :, :0], np.random.default_rng(0))[0].max() == 0


@pytest.mark.parametrize("channels", [1, 4, 8])
@pytest.mark.parametrize("name", PLAIN)
def test_any_number_of_channels(name, channels):
    image, mask = dark_object(channels=channels)
    for seed in range(4):
        out, moved = AUGMENTATIONS[name](image, mask, np.random.default_rng(seed))
        assert out.shape == image.shape and moved.shape == mask.shape and out.dtype == np.uint8


# --- Presets ----------------------------------------------------------------------------------


def test_preset_without_objects_and_on_gray():
    image = np.full((64, 64, 1), 9, np.uint8)
    for name in PRESETS:
        out, masks = compose([name])(image, np.zeros((64, 64, 0), bool), np.random.default_rng(0))
        assert out.shape == image.shape and masks.shape == (64, 64, 0)


def test_preset_none_changes_nothing():
    image, masks = rectangles_image()
    out, moved = compose(["none"])(image, masks, np.random.default_rng(0))
    np.testing.assert_array_equal(out, image)
    np.testing.assert_array_equal(moved, masks)


@pytest.mark.parametrize("name", ["standard", "strong", "microscopy", "aerial"])
def test_preset_moves_masks_with_the_image(name):
    image, masks = rectangles_image()
    for seed in range(20):
        out, moved = compose([name])(image, masks, np.random.default_rng(seed))
        bright = out.mean(axis=2) > out.mean() + 20
        assert out.shape == image.shape
        # Blurred, noisy and turned: outlines may differ.
        assert (bright != moved[:, :, 0]).mean() < 0.1


def test_presets_and_single_augmentations_combine():
    steps = compose(["fliplr", "aerial", "copy_paste"]).steps
    names = ["fliplr", "color", "hue", "scale", "flip", "rotate90", "copy_paste"]
    assert [step.name for step in steps] == names
    assert compose(["aerial"]).moves_points and not compose(["aerial", "copy_paste"]).moves_points


def test_border_of_resizing_stays_black():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 8:50] = 100
    for seed in range(10):
        rng = np.random.default_rng(seed)
        out, _ = compose(["color", "hue", "noise"])(image, np.zeros((64, 64, 0), bool), rng)
        assert not out[:, :8].any() and not out[:, 50:].any() and out[:, 8:50].any()


def test_objects_of_an_image_are_never_all_lost():
    """A pixel that jitter shrinks by 2 to 3 would be lost in half of the draws or more."""
    image, masks = np.full((64, 64, 3), 9, np.uint8), np.zeros((64, 64, 1), bool)
    masks[40, 3] = True
    lost = kept = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        lost += not jitter(image, masks, rng, 0.3, 0.5)[1].any()
        kept += compose(["strong"])(image, masks, np.random.default_rng(seed))[1].any()
    assert lost > 5 and kept == 40


def test_unchanged_image_keeps_its_points_and_class_ids(monkeypatch):
    image, masks = rectangles_image()
    for lose in ("scale", "fliplr"):
        monkeypatch.setitem(
            augment._MOVES, lose, lambda i, m, r: augment.Moved(i * 0, m & False, np.zeros((2, 3)))
        )
    points = np.array([[3.0, 4.0]])
    out, moved, found = compose(["scale"])(image, masks, np.random.default_rng(0), points=points)
    assert found.tolist() == [[3, 4]] and moved.any() and out.max() == 255


# --- Copy-paste -------------------------------------------------------------------------------


class Always(np.random.Generator):
    """Chooses every object (draws of 0) and never mirrors (single draws of 0.9)."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self, size=None):
        return 0.9 if size is None else np.zeros(size)


@pytest.fixture
def unmoved(monkeypatch):
    """Paste objects at their own position, without jitter."""
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


def test_pasted_objects_hide_pixels_below(unmoved):
    image = np.full((20, 20, 3), 100, np.uint8)
    below = layers((0, 0, 10, 10), (10, 10, 20, 20), (12, 0, 16, 4))
    pasted = layers((0, 0, 9, 10), (10, 10, 15, 20))  # 90 % and 50 % of the first two
    out, masks, ids = copy_paste(
        image, below, Always(), np.array([1, 2, 3]), other(200, pasted, [4, 5])
    )
    assert ids.tolist() == [1, 2, 3, 4, 5]
    assert masks.sum(axis=(0, 1)).tolist() == [10, 50, 16, 90, 50]
    assert masks.sum(axis=2).max() == 1
    assert (out[2, 2] == 200).all() and (out[13, 2] == 100).all()
    # A pixel on the border has 6 of its 9 neighbors in the object: 100 + 6 / 9 * 100.
    assert (out[8, 5] == 167).all() and (out[9, 5] == 100).all()
    assert (image == 100).all() and below.sum() == 216  # the inputs are unchanged


def test_instances_with_less_than_a_tenth_left_are_dropped(unmoved):
    image = np.full((20, 20, 3), 100, np.uint8)
    below = layers((0, 0, 10, 10), (0, 10, 10, 20), (12, 12, 14, 14))
    pasted = layers((0, 0, 10, 9), (0, 11, 10, 20), (12, 12, 14, 14))
    pasted[9, 9, 0] = True  # 91 of 100 pixels
    _, masks, ids = copy_paste(
        image, below, Always(), np.array([1, 2, -3]), other(9, pasted, [4, 5, 6])
    )
    assert ids.tolist() == [2, 4, 5, 6] and masks.shape == (20, 20, 4)


def test_copy_paste_without_objects_to_paste(unmoved):
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
    # Onto an image without objects.
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


def test_objects_are_not_pasted_on_the_black_border():
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


def test_copy_paste_from_an_image_of_another_shape_is_reproducible():
    image, masks = dark_object()
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


def test_compose_with_copy_paste_returns_class_ids(unmoved):
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

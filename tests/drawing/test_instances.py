"""Instances on arrays: which pixels get which color, where labels go, which inputs are rejected."""

import random

import numpy as np
import pytest
from drawing_cases import NAMES, painted, rectangle, written_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from mrcnn.drawing import curves, figures, inputs, instances


def test_draw_instances_does_not_use_global_random_state():
    boxes, masks, ids = rectangle()
    python_state, numpy_state = random.getstate(), np.random.get_state()[1].copy()
    instances.draw_instances(np.zeros((20, 24, 3), np.uint8), boxes, masks, ids, NAMES)
    assert random.getstate() == python_state
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize(
    "scale, dtype", [(1, bool), (1, np.uint8), (255, np.uint8), (0.9, np.float32)]
)
def test_apply_mask_tints_in_place_where_the_mask_is_set(scale, dtype):
    image = np.full((2, 2, 3), 100, np.uint8)
    mask = (np.array([[1, 0], [0, 0]]) * scale).astype(dtype)
    assert instances.apply_mask(image, mask, (1, 0, 0.5), alpha=0.25) is image
    # 100 * 0.75 = 75; + 0.25 * 255 = 138.75; + 0.25 * 127.5 = 106.875; uint8 cuts the fraction off
    assert image[0, 0].tolist() == [138, 75, 106]
    assert (image.reshape(-1, 3)[1:] == 100).all()


def test_apply_mask_defaults_to_half_and_ignores_a_fourth_channel():
    image = np.zeros((1, 1, 4), np.uint32)
    assert instances.apply_mask(image, np.ones((1, 1)), (1, 1, 0, 0.8)).tolist() == [
        [[127, 127, 0, 0]]
    ]


def test_apply_mask_rejects_a_mask_of_another_size():
    with pytest.raises(ValueError, match=r"mask \(28, 28\), image \(4, 5, 3\)"):
        instances.apply_mask(np.zeros((4, 5, 3)), np.ones((28, 28)), (1, 0, 0))


def test_draw_box_outlines_its_pixels_from_outside():
    image = np.zeros((20, 24, 3), np.uint8)
    assert instances.draw_box(image, np.array([5, 6, 10, 14], np.int32), [255, 0, 9]) is image
    expected = np.zeros((20, 24), bool)
    expected[3:12, 4:16] = True  # 2 px around ...
    expected[5:10, 6:14] = False  # ... but not on the box
    np.testing.assert_array_equal(painted(image, (255, 0, 9)), expected)


def test_draw_box_at_the_image_border_stays_visible():
    image = np.zeros((8, 8, 1), np.uint8)
    instances.draw_box(image, (0, 0, 8, 8), 7)
    assert (image[:, :, 0] == 7).sum() == 8 * 8 - 4 * 4  # two pixels from every side


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (4, 2, 4, 6), (30, 2, 40, 6), (2, -9, 6, -2)])
def test_draw_box_ignores_padding_and_boxes_outside(box):
    assert not instances.draw_box(np.zeros((8, 8, 3)), box, (1, 1, 1)).any()


@pytest.mark.parametrize(
    "masks", [[], np.zeros((20, 24, 0)), np.zeros((0, 0, 0)), np.zeros((9, 9, 1)), None]
)
def test_draw_instances_without_instances_copies_the_image(masks):
    image = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
    drawn = instances.draw_instances(image, [], masks, [], NAMES, scores=[])
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_outline_encloses_exactly_the_pixels_of_the_box():
    image = np.zeros((20, 24, 3), np.uint8)
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    drawn = instances.draw_instances(
        image, boxes, masks, ids, NAMES, colors=[(1, 0, 0)], captions=[""], show_mask=False
    )
    ring = painted(drawn, (255, 0, 0))
    assert ring.sum() == 2 * (8 + 2) + 2 * 5
    assert np.flatnonzero(ring.any(axis=1)).tolist() == list(range(4, 11))
    assert np.flatnonzero(ring.any(axis=0)).tolist() == list(range(5, 15))
    assert not ring[masks[:, :, 0]].any()
    assert not image.any()  # the input is not drawn on


def test_mask_has_a_contour_and_a_tinted_interior():
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    drawn = instances.draw_instances(
        np.zeros((20, 24, 3), np.uint8),
        boxes,
        masks,
        ids,
        NAMES,
        colors=[(1, 0, 0)],
        captions=[""],
        show_bbox=False,
    )
    rim = painted(drawn, (255, 0, 0))
    assert rim.sum() == 2 * 8 + 2 * 3
    inside = masks[:, :, 0] & ~rim
    assert (drawn[inside] == (int(instances.MASK_ALPHA * 255), 0, 0)).all()
    assert not drawn[~masks[:, :, 0]].any()


@pytest.mark.parametrize("color", [(1, 0, 0), (1, 1, 1)])
def test_mask_of_the_color_of_its_background_has_a_visible_outline(color):
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    background = tuple(round(255 * channel) for channel in color)
    drawn = instances.draw_instances(
        np.full((20, 24, 3), background, np.uint8),
        boxes,
        masks,
        ids,
        NAMES,
        colors=[color],
        captions=[""],
        show_bbox=False,
    )
    ring = np.zeros((20, 24), bool)
    ring[4:11, 5:15] = True
    ring[5:10, 6:14] = False
    dark = tuple(channel // 2 for channel in background)
    np.testing.assert_array_equal(painted(drawn, dark), ring)
    np.testing.assert_array_equal(painted(drawn, background), ~ring)


def test_outline_of_a_mask_does_not_darken_its_neighbor():
    masks = np.zeros((20, 24, 2), bool)
    masks[5:10, 4:10, 0] = masks[5:10, 10:16, 1] = True
    colors = [(1, 0, 0), (0, 1, 0)]
    style = {"class_ids": [1, 1], "class_names": NAMES, "captions": ["", ""], "show_bbox": False}
    drawn = instances.draw_instances(
        np.full((20, 24, 3), 200), [[5, 4, 10, 10], [5, 10, 10, 16]], masks, colors=colors, **style
    )
    assert painted(drawn, (255, 0, 0))[5:10, 9].all()
    assert painted(drawn, (0, 255, 0))[5:10, 10].all()


def test_contour_of_a_mask_in_two_parts_stays_on_the_mask():
    masks = np.zeros((20, 24, 1), bool)
    masks[5, 6] = masks[9:11, 12:14] = True
    drawn = instances.draw_instances(
        np.zeros((20, 24)),
        [[5, 6, 11, 14]],
        masks,
        [1],
        NAMES,
        colors=[(0, 1, 0)],
        captions=[""],
        show_bbox=False,
    )
    np.testing.assert_array_equal(painted(drawn, (0, 255, 0)), masks[:, :, 0])


@pytest.mark.parametrize(
    "scale, dtype", [(1, np.uint8), (255, np.uint8), (0.9, np.float32), (1, np.int64)]
)
def test_masks_of_any_number_type_draw_the_same(scale, dtype):
    image = np.full((20, 24, 3), 90, np.uint8)
    boxes, masks, ids = rectangle()
    expected = instances.draw_instances(image, boxes, masks, ids, NAMES, [0.9])
    masks = (masks * scale).astype(dtype)
    other = instances.draw_instances(image, boxes.tolist(), masks, ids.tolist(), NAMES, [0.9])
    np.testing.assert_array_equal(other, expected)


GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # 0..220


@pytest.mark.parametrize(
    "image, expected",
    [
        (GRAY, GRAY),
        (GRAY[:, :, None], GRAY),
        (np.dstack([GRAY, GRAY + 1]), GRAY),  # gray and alpha
        (np.dstack([GRAY, GRAY, GRAY, 255 - GRAY]), GRAY),  # RGBA: alpha is dropped
        (np.dstack([GRAY] * 7), GRAY),
        (GRAY.astype(np.uint16), GRAY),  # 8 bit values in 16 bit numbers
        # 16 bit: the maximum becomes 255
        (GRAY.astype(np.uint16) * 256, np.round(GRAY * (255 / 220))),
        (GRAY.astype(np.float64), GRAY),
        (GRAY / 255, GRAY),
        (GRAY > 100, (GRAY > 100) * 255),
        (GRAY.astype(np.float32) - 110, np.round(GRAY * (255 / 220))),  # molded: -110..110
        (np.where(GRAY == 220, np.nan, GRAY), np.where(GRAY == 220, 0, GRAY)),
    ],
)
def test_images_of_any_channels_and_number_type_are_shown(image, expected):
    drawn = instances.draw_instances(image, [], [], [], NAMES)
    assert drawn.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(drawn[:, :, channel], expected)


def test_a_batch_is_rejected_as_an_image():
    with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\).*image\[0\]"):
        instances.draw_instances(np.zeros((1, 8, 8, 3)), [], [], [], NAMES)


def test_arrays_of_different_lengths_are_rejected():
    boxes, masks, ids = rectangle()
    image = np.zeros((20, 24, 3), np.uint8)
    for draw in (instances.draw_instances, figures.display_instances):
        with pytest.raises(ValueError, match="1 boxes, 1 masks, 2 class_ids"):
            draw(image, boxes, masks, [1, 2], NAMES)
        with pytest.raises(ValueError, match="3 boxes, 1 masks, 3 class_ids, 2 scores"):
            draw(image, np.repeat(boxes, 3, axis=0), masks, [1, 1, 1], NAMES, [0.5, 0.6])
        with pytest.raises(
            ValueError, match="colors must have one entry per instance.*0.*|1 for 2"
        ):
            draw(image, np.repeat(boxes, 2, axis=0), None, [1, 1], NAMES, colors=[(1, 0, 0)])
        with pytest.raises(ValueError, match="captions must have .* 1 for 2 instances"):
            draw(image, np.repeat(boxes, 2, axis=0), None, [1, 1], NAMES, captions=["a"])
        with pytest.raises(
            ValueError, match=r"masks \(28, 28, 1\), image \(20, 24, 3\).*expand_mask"
        ):
            draw(image, boxes, np.ones((28, 28, 1)), ids, NAMES)
        with pytest.raises(ValueError, match=r"boxes must be \[N, .*shape \(4,\)"):
            draw(image, boxes[0], masks, ids, NAMES)


def test_error_for_an_unknown_class_id_mentions_the_background():
    boxes, masks, _ = rectangle()
    for draw in (instances.draw_instances, figures.display_instances):
        with pytest.raises(ValueError, match="class id 1 with class_names .'balloon'.*'BG'"):
            draw(np.zeros((20, 24, 3)), boxes, masks, [1], ["balloon"])


def test_class_names_may_be_a_dict(monkeypatch):
    texts, (boxes, masks, _) = written_texts(monkeypatch), rectangle()
    instances.draw_instances(np.zeros((200, 200, 3)), boxes, None, [1], {1: "x"})
    assert texts == ["x"]
    shown = []
    monkeypatch.setattr(figures, "_show", lambda: shown.append(plt.gcf()))
    figures.display_instances(np.zeros((20, 24, 3)), boxes, masks, [7], {7: "y"})
    with pytest.raises(
        ValueError,
        match=r"a name for every class id. Received: class id 1 with class_names \{2: 'x'\}",
    ):
        figures.display_instances(np.zeros((20, 24, 3)), boxes, masks, [1], {2: "x"})


def test_class_names_are_unused_if_captions_are_given():
    boxes, masks, ids = rectangle()
    image = np.zeros((20, 24, 3), np.uint8)
    drawn = instances.draw_instances(image, boxes, masks, ids, None, captions=["x"])
    named = instances.draw_instances(image, boxes, masks, ids, ["BG", "x"])
    np.testing.assert_array_equal(drawn, named)


def test_label_of_a_crowd_says_crowd(monkeypatch):
    texts = written_texts(monkeypatch)
    instances.draw_instances(np.zeros((200, 200, 3)), [[50, 50, 90, 90]], None, [-2], NAMES, [0.5])
    assert texts == ["circle (crowd) 0.50"]


def test_zero_boxes_are_not_drawn(monkeypatch):
    texts = written_texts(monkeypatch)
    nothing = np.zeros((99, 99, 2))
    drawn = instances.draw_instances(
        np.zeros((99, 99, 3)), np.zeros((2, 4)), nothing, [1, 1], NAMES
    )
    assert not drawn.any() and texts == []


def test_two_labels_at_the_same_box_are_both_written_best_score_first(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes = [[80, 80, 120, 140]] * 2
    instances.draw_instances(np.zeros((200, 300, 3)), boxes, None, [1, 2], NAMES, [0.7, 0.8])
    assert texts == ["circle 0.80", "square 0.70"]  # the better score has the choice


def test_labels_of_the_lowest_scores_are_omitted_without_space(monkeypatch):
    texts = written_texts(monkeypatch)
    scores = np.linspace(0.99, 0.2, 80)
    instances.draw_instances(
        np.zeros((128, 128, 3)), [[60, 60, 64, 64]] * 80, None, [1] * 80, NAMES, scores
    )
    assert 2 <= len(texts) < 10
    assert texts[0] == "square 0.99"


def test_labels_that_would_hide_a_small_object_are_omitted(monkeypatch):
    texts = written_texts(monkeypatch)
    # 8 px boxes every 14 px: every spot of a label (about 14 x 50 px) hides one of them.
    y, x = np.mgrid[3:120:14, 3:120:14]
    boxes = np.stack([y, x, y + 8, x + 8], axis=-1).reshape(-1, 4)
    image = np.zeros((128, 128, 3))
    instances.draw_instances(image, boxes, None, [1] * len(boxes), NAMES)
    assert texts == []
    instances.draw_instances(image, boxes[:1], None, [1], NAMES)
    assert texts == ["square"]


@pytest.mark.parametrize("side", [1, 8, 20, 64])
def test_tiny_images_are_drawn(side):
    boxes, masks, ids = rectangle((0, 0, side, side), (side, side))
    drawn = instances.draw_instances(
        np.zeros((side, side, 3), np.uint8), boxes, masks, ids, NAMES, [0.5]
    )
    assert drawn.shape == (side, side, 3) and drawn.any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    box=st.tuples(*[st.integers(-50, 350)] * 4),
    size=st.tuples(st.integers(1, 60), st.integers(1, 120)),
    line=st.integers(1, 4),
)
def test_labels_stay_inside_the_image(shape, box, size, line):
    spots = instances._label_spots(box, size, shape, line)
    fits = size[0] <= shape[0] and size[1] <= shape[1]
    assert len(spots) == (8 if fits else 0)
    assert (spots[:, :2] >= 0).all() and (spots[:, 2:] <= shape).all()
    assert (spots[:, 2:] - spots[:, :2] == size).all()


def test_lines_and_letters_grow_with_the_image():
    assert instances.pen_for((128, 96)) == (1, 0.35)
    assert instances.pen_for((1024, 2000)) == (4, 1.0)  # 2000 / 500, 2000 / 2000


def test_lines_and_letters_are_not_too_large_for_the_median_object():
    def pen(*boxes):
        return instances.pen_for((2000, 2000), np.array(boxes).reshape(-1, 4))

    large, small, padding = [0, 0, 60, 60], [100, 100, 120, 120], [0, 0, 0, 0]
    assert pen() == pen(padding) == pen(large) == pen(small, large, large) == (4, 1.0)
    assert pen(small) == pen(small, small, large, padding, padding) == (1, 0.35)
    assert pen([0, 0, 90, 10]) == (2, 0.5)  # as large as a square of 30 px: 30 / 15, 30 / 60


def test_small_objects_in_a_large_image_have_small_labels_and_a_visible_interior():
    boxes = np.array([[y, x, y + 10, x + 10] for y in (500, 900) for x in (500, 900)])
    masks = np.stack([rectangle(box, (1500, 1500))[1][:, :, 0] for box in boxes], axis=2)
    image = np.zeros((1500, 1500, 3), np.uint8)
    drawn = instances.draw_instances(image, boxes, masks, [1] * 4, NAMES, colors=[(1, 0, 0)] * 4)
    tinted = painted(drawn, (int(instances.MASK_ALPHA * 255), 0, 0))
    assert tinted[500:510, 500:510].sum() == 8 * 8  # inside a rim of 1 px
    rows = np.flatnonzero(drawn[:700].any(axis=(1, 2)))
    assert rows[-1] + 1 - rows[0] < 30  # box, outline and label


def test_class_names_with_odd_characters_are_drawn():
    boxes, masks, class_ids = rectangle()
    image = np.zeros((20, 24, 3), np.uint8)
    for name in (r"$\frac{$", "\x1b[31mcat\r", "cat\ud800", "a\0b", "x" * 10_000):
        names = ["BG", name]
        instances.draw_instances(image, boxes, masks, class_ids, names, [0.5])
        figures.display_instances(image, boxes, masks, class_ids, names, [0.5])
        curves.plot_overlaps(class_ids, class_ids, [0.5], np.ones((1, 1)), names)
        figures.display_top_masks(image, masks, class_ids, names)
        plt.gcf().canvas.draw()
    assert inputs.class_labels([1], ["BG", "\x1b[31mcat\r"], None, 0) == ["[31mcat"]

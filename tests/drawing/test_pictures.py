"""Pictures: what is drawn where, in which colour, and what is said when the inputs do not fit."""

import inspect
import json
import logging
import os
import random
import re
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import patches
from matplotlib import pyplot as plt

from mrcnn.drawing import pictures as visualize

NAMES = ["BG", "square", "circle"]


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def rectangle(box=(5, 6, 10, 14), shape=(20, 24)):
    """boxes [1, 4], masks [H, W, 1] and class ids [1] of one rectangle."""
    y1, x1, y2, x2 = box
    mask = np.zeros((*shape, 1), bool)
    mask[y1:y2, x1:x2] = True
    return np.array([box], np.int32), mask, np.array([1], np.int32)


def painted(picture, color):
    """[H, W] bool: which pixels have exactly this colour."""
    return (picture == np.array(color)).all(axis=2)


# --- The contract -------------------------------------------------------------------------------------------


def test_every_function_of_the_original_keeps_its_parameters(shared):
    api = json.loads((shared / "design" / "matterport_api.json").read_text())["mrcnn.visualize"]
    assert len(api) == 13
    for name, entry in api.items():
        parameters = inspect.signature(getattr(visualize, name)).parameters.values()
        found = [[p.name, None if p.default is p.empty else repr(p.default)] for p in parameters]
        assert found[: len(entry["args"])] == entry["args"], name


def test_works_without_a_display_or_any_setting():
    code = (
        "import numpy as np; from mrcnn import visualize; import matplotlib.pyplot as plt;"
        "visualize.display_instances(np.zeros((9, 9, 3), np.uint8), [[1, 1, 5, 5]], None, [1], ['BG', 'a']);"
        "print(plt.get_backend())"
    )
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:matplotlib", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )
    assert done.returncode == 0, done.stderr
    assert sys.platform != "linux" or done.stdout.strip().lower() == "agg"


# --- Colours ------------------------------------------------------------------------------------------------


def test_random_colors_of_nothing():
    assert visualize.random_colors(0) == []


def test_random_colors_are_even_hues_shuffled_by_the_global_generator():
    # hues 0, 1/4, 1/2, 3/4: red, chartreuse, cyan, violet
    expected = [(1, 0, 0), (0.5, 1, 0), (0, 1, 1), (0.5, 0, 1)]
    random.seed(3)
    random.shuffle(expected)
    random.seed(3)
    assert visualize.random_colors(4) == expected
    assert {max(color) for color in visualize.random_colors(5, bright=False)} == {0.7}


def test_draw_instances_leaves_the_global_generators_alone():
    boxes, masks, ids = rectangle()
    python_state, numpy_state = random.getstate(), np.random.get_state()[1].copy()
    visualize.draw_instances(np.zeros((20, 24, 3), np.uint8), boxes, masks, ids, NAMES)
    assert random.getstate() == python_state
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


# --- apply_mask, draw_box -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scale, dtype", [(1, bool), (1, np.uint8), (255, np.uint8), (0.9, np.float32)]
)
def test_apply_mask_tints_in_place_where_the_mask_is_set(scale, dtype):
    image = np.full((2, 2, 3), 100, np.uint8)
    mask = (np.array([[1, 0], [0, 0]]) * scale).astype(dtype)
    assert visualize.apply_mask(image, mask, (1, 0, 0.5), alpha=0.25) is image
    # 100 * 0.75 = 75; + 0.25 * 255 = 138.75; + 0.25 * 127.5 = 106.875; uint8 cuts the fraction off
    assert image[0, 0].tolist() == [138, 75, 106]
    assert (image.reshape(-1, 3)[1:] == 100).all()


def test_apply_mask_defaults_to_half_and_spares_a_fourth_channel():
    image = np.zeros((1, 1, 4), np.uint32)
    assert visualize.apply_mask(image, np.ones((1, 1)), (1, 1, 0, 0.8)).tolist() == [
        [[127, 127, 0, 0]]
    ]


def test_apply_mask_needs_a_mask_of_the_image_size():
    with pytest.raises(ValueError, match=r"mask \(28, 28\), image \(4, 5, 3\)"):
        visualize.apply_mask(np.zeros((4, 5, 3)), np.ones((28, 28)), (1, 0, 0))


def test_draw_box_surrounds_its_pixels():
    image = np.zeros((20, 24, 3), np.uint8)
    assert visualize.draw_box(image, np.array([5, 6, 10, 14], np.int32), [255, 0, 9]) is image
    expected = np.zeros((20, 24), bool)
    expected[3:12, 4:16] = True  # 2 px around ...
    expected[5:10, 6:14] = False  # ... but not on the box
    np.testing.assert_array_equal(painted(image, (255, 0, 9)), expected)


def test_draw_box_at_the_image_border_stays_visible():
    image = np.zeros((8, 8, 1), np.uint8)
    visualize.draw_box(image, (0, 0, 8, 8), 7)
    assert (image[:, :, 0] == 7).sum() == 8 * 8 - 4 * 4  # two pixels from every side


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (4, 2, 4, 6), (30, 2, 40, 6), (2, -9, 6, -2)])
def test_draw_box_ignores_padding_and_boxes_outside(box):
    assert not visualize.draw_box(np.zeros((8, 8, 3)), box, (1, 1, 1)).any()


# --- draw_instances -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "masks", [[], np.zeros((20, 24, 0)), np.zeros((0, 0, 0)), np.zeros((9, 9, 1)), None]
)
def test_draw_instances_of_nothing_is_the_image(masks):
    image = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
    picture = visualize.draw_instances(image, [], masks, [], NAMES, scores=[])
    np.testing.assert_array_equal(picture, image)
    assert picture is not image


def test_outline_encloses_exactly_the_pixels_of_the_mask():
    image = np.zeros((20, 24, 3), np.uint8)
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    picture = visualize.draw_instances(
        image, boxes, masks, ids, NAMES, colors=[(1, 0, 0)], captions=[""], show_mask=False
    )
    ring = painted(picture, (255, 0, 0))
    assert ring.sum() == 2 * (8 + 2) + 2 * 5
    assert np.flatnonzero(ring.any(axis=1)).tolist() == list(range(4, 11))
    assert np.flatnonzero(ring.any(axis=0)).tolist() == list(range(5, 15))
    assert not ring[masks[:, :, 0]].any()
    assert not image.any()  # the input is not drawn on


def test_contour_is_the_rim_of_the_mask_and_tint_its_inside():
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    picture = visualize.draw_instances(
        np.zeros((20, 24, 3), np.uint8),
        boxes,
        masks,
        ids,
        NAMES,
        colors=[(1, 0, 0)],
        captions=[""],
        show_bbox=False,
    )
    rim = painted(picture, (255, 0, 0))
    assert rim.sum() == 2 * 8 + 2 * 3
    inside = masks[:, :, 0] & ~rim
    assert (picture[inside] == (int(visualize.MASK_ALPHA * 255), 0, 0)).all()
    assert not picture[~masks[:, :, 0]].any()


def test_contour_of_a_mask_in_parts_stays_on_the_mask():
    masks = np.zeros((20, 24, 1), bool)
    masks[5, 6] = masks[9:11, 12:14] = True
    picture = visualize.draw_instances(
        np.zeros((20, 24)),
        [[5, 6, 11, 14]],
        masks,
        [1],
        NAMES,
        colors=[(0, 1, 0)],
        captions=[""],
        show_bbox=False,
    )
    np.testing.assert_array_equal(painted(picture, (0, 255, 0)), masks[:, :, 0])


@pytest.mark.parametrize(
    "scale, dtype", [(1, np.uint8), (255, np.uint8), (0.9, np.float32), (1, np.int64)]
)
def test_masks_of_any_number_type_draw_the_same(scale, dtype):
    image = np.full((20, 24, 3), 90, np.uint8)
    boxes, masks, ids = rectangle()
    expected = visualize.draw_instances(image, boxes, masks, ids, NAMES, [0.9])
    masks = (masks * scale).astype(dtype)
    other = visualize.draw_instances(image, boxes.tolist(), masks, ids.tolist(), NAMES, [0.9])
    np.testing.assert_array_equal(other, expected)


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # 0..220


@pytest.mark.parametrize(
    "image, expected",
    [
        (GREY, GREY),
        (GREY[:, :, None], GREY),
        (np.dstack([GREY, GREY + 1]), GREY),  # grey and alpha
        (np.dstack([GREY, GREY, GREY, 255 - GREY]), GREY),  # RGBA: alpha is dropped
        (np.dstack([GREY] * 7), GREY),
        (GREY.astype(np.uint16), GREY),  # 8 bit values in 16 bit numbers
        (
            GREY.astype(np.uint16) * 256,
            np.round(GREY * (255 / 220)),
        ),  # 16 bit: the maximum becomes 255
        (GREY.astype(np.float64), GREY),
        (GREY / 255, GREY),
        (GREY > 100, (GREY > 100) * 255),
        (GREY.astype(np.float32) - 110, np.round(GREY * (255 / 220))),  # molded: -110..110
        (np.where(GREY == 220, np.nan, GREY), np.where(GREY == 220, 0, GREY)),
    ],
)
def test_images_of_any_channels_and_number_type_are_shown(image, expected):
    picture = visualize.draw_instances(image, [], [], [], NAMES)
    assert picture.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(picture[:, :, channel], expected)


def test_a_batch_is_no_image():
    with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\).*image\[0\]"):
        visualize.draw_instances(np.zeros((1, 8, 8, 3)), [], [], [], NAMES)


def test_counts_must_agree():
    boxes, masks, ids = rectangle()
    image = np.zeros((20, 24, 3), np.uint8)
    for draw in (visualize.draw_instances, visualize.display_instances):
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


def test_class_id_outside_the_names_hints_at_the_background():
    boxes, masks, _ = rectangle()
    for draw in (visualize.draw_instances, visualize.display_instances):
        with pytest.raises(ValueError, match="class id 1 with class_names .'balloon'.*'BG'"):
            draw(np.zeros((20, 24, 3)), boxes, masks, [1], ["balloon"])


def test_class_names_may_be_a_dict(monkeypatch):
    texts, (boxes, masks, _) = written_texts(monkeypatch), rectangle()
    visualize.draw_instances(np.zeros((200, 200, 3)), boxes, None, [1], {1: "x"})
    assert texts == ["x"]
    figures = []
    monkeypatch.setattr(visualize, "_show", lambda: figures.append(plt.gcf()))
    visualize.display_instances(np.zeros((20, 24, 3)), boxes, masks, [7], {7: "y"})
    with pytest.raises(
        ValueError,
        match=r"a name for every class id. Received: class id 1 with class_names \{2: 'x'\}",
    ):
        visualize.display_instances(np.zeros((20, 24, 3)), boxes, masks, [1], {2: "x"})


def test_keywords_of_forks_are_ignored_with_a_warning(caplog, monkeypatch):
    monkeypatch.setattr(visualize, "_show", lambda: None)
    boxes, masks, ids = rectangle()
    visualize.display_instances(
        np.zeros((20, 24, 3)),
        boxes,
        masks,
        ids,
        NAMES,
        making_image=True,
        making_video=False,
        show_class=True,
    )
    assert "display_instances ignores making_image, making_video, show_class" in caplog.text


def test_captions_make_class_names_unnecessary():
    boxes, masks, ids = rectangle()
    image = np.zeros((20, 24, 3), np.uint8)
    drawn = visualize.draw_instances(image, boxes, masks, ids, None, captions=["x"])
    named = visualize.draw_instances(image, boxes, masks, ids, ["BG", "x"])
    np.testing.assert_array_equal(drawn, named)


def test_crowds_are_named_so(monkeypatch):
    texts = written_texts(monkeypatch)
    visualize.draw_instances(np.zeros((200, 200, 3)), [[50, 50, 90, 90]], None, [-2], NAMES, [0.5])
    assert texts == ["circle (crowd) 0.50"]


def written_texts(monkeypatch):
    """The list that every text written through OpenCV is appended to from now on."""
    texts, put_text = [], cv2.putText

    def write(canvas, text, *rest):
        texts.append(text)
        return put_text(canvas, text, *rest)

    monkeypatch.setattr(cv2, "putText", write)
    return texts


def test_padding_and_lost_instances_are_not_drawn(monkeypatch):
    texts = written_texts(monkeypatch)
    nothing = np.zeros((99, 99, 2))
    picture = visualize.draw_instances(
        np.zeros((99, 99, 3)), np.zeros((2, 4)), nothing, [1, 1], NAMES
    )
    assert not picture.any() and texts == []


def test_two_labels_at_the_same_box_do_not_hide_each_other(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes = [[80, 80, 120, 140]] * 2
    visualize.draw_instances(np.zeros((200, 300, 3)), boxes, None, [1, 2], NAMES, [0.7, 0.8])
    assert texts == ["circle 0.80", "square 0.70"]  # the better score has the choice


def test_where_there_is_no_room_the_lowest_scores_go_unlabelled(monkeypatch):
    texts = written_texts(monkeypatch)
    scores = np.linspace(0.99, 0.2, 80)
    visualize.draw_instances(
        np.zeros((128, 128, 3)), [[60, 60, 64, 64]] * 80, None, [1] * 80, NAMES, scores
    )
    assert 2 <= len(texts) < 10
    assert texts[0] == "square 0.99"


@pytest.mark.parametrize("side", [1, 8, 20, 64])
def test_tiny_images(side):
    boxes, masks, ids = rectangle((0, 0, side, side), (side, side))
    picture = visualize.draw_instances(
        np.zeros((side, side, 3), np.uint8), boxes, masks, ids, NAMES, [0.5]
    )
    assert picture.shape == (side, side, 3) and picture.any()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    box=st.tuples(*[st.integers(-50, 350)] * 4),
    size=st.tuples(st.integers(1, 60), st.integers(1, 120)),
    line=st.integers(1, 4),
)
def test_labels_stay_inside_the_image(shape, box, size, line):
    spots = visualize._label_spots(box, size, shape, line)
    fits = size[0] <= shape[0] and size[1] <= shape[1]
    assert len(spots) == (8 if fits else 0)
    assert (spots[:, :2] >= 0).all() and (spots[:, 2:] <= shape).all()
    assert (spots[:, 2:] - spots[:, :2] == size).all()


def test_lines_and_letters_grow_with_the_image():
    assert visualize._pen((128, 96)) == (1, 0.35)
    assert visualize._pen((1024, 2000)) == (4, 1.0)  # 2000 / 500, 2000 / 2000


# --- draw_result, draw_comparison, contact_sheet ------------------------------------------------------------


def test_result_magnifies_a_small_image_and_needs_no_name_for_the_only_class(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    result = {"rois": boxes, "masks": masks, "class_ids": ids, "scores": np.array([0.875])}
    picture = visualize.draw_result(np.zeros((128, 128, 3), np.uint8), result, ["BG", "square"])
    assert picture.shape == (768, 768, 3)
    across = np.flatnonzero(picture[400].any(axis=1))  # magnified six times: 40 to 240, 90 to 540
    assert (across[0], across[-1]) == (
        238,
        541,
    )  # the outline, 768 / 500 = 2 wide, lies just outside
    visualize.draw_result(
        np.zeros((1000, 1000)), {"masks": np.zeros((1000, 1000, 0)), "class_ids": []}, NAMES
    )
    visualize.draw_result(np.zeros((128, 128)), result, ["BG", "square", "circle"])
    assert texts == ["0.88", "square 0.88"]


def test_comparison_magnifies_a_small_image_and_titles_both_sides(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    truth = {"masks": masks, "class_ids": ids}
    none = {
        "rois": np.zeros((0, 4)),
        "masks": np.zeros((128, 128, 0)),
        "class_ids": [],
        "scores": [],
    }
    picture = visualize.draw_comparison(np.zeros((128, 128, 3), np.uint8), truth, none, NAMES)
    assert texts == ["square", "truth: 1", "detections: 0"]
    assert picture.shape[1] == 2 * 512 + 8  # 4 x 128 each, and a gap
    strip = picture.shape[0] - 512
    right = picture[strip:, 512 + 8 :]
    assert not right.any()
    # magnified four times, the mask's red rim begins at column 160 and ends at 359
    left = picture[strip:, :512]
    across = np.flatnonzero(left[250].any(axis=1))
    assert (across[0], across[-1]) == (159, 360)  # the outline lies just outside


def test_comparison_leaves_out_what_is_below_a_score_and_says_so(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    twice = {
        "rois": np.repeat(boxes, 2, 0),
        "masks": np.repeat(masks, 2, 2),
        "class_ids": np.repeat(ids, 2),
    }
    found = {**twice, "scores": np.array([0.9, 0.6])}
    visualize.draw_comparison(
        np.zeros((128, 128, 3), np.uint8), {"masks": masks, "class_ids": ids}, found, NAMES, 0.7
    )
    assert texts == ["square", "truth: 1", "square 0.90", "detections from 0.7 on: 1"]


def test_comparison_leaves_a_large_image_its_size():
    picture = visualize.draw_comparison(
        np.zeros((400, 600), np.uint8),
        *[{"masks": np.zeros((400, 600, 0)), "class_ids": []}] * 2,
        NAMES,
    )
    assert picture.shape[1] == 2 * 600 + 8


def test_contact_sheet():
    assert visualize.contact_sheet([], columns=3).shape == (0, 0, 3)
    small, large = np.full((2, 3, 3), 10, np.uint8), np.full((4, 5), 20, np.uint8)
    sheet = visualize.contact_sheet([small, large, small], columns=2)
    assert sheet.shape == (4 + 8 + 4, 5 + 8 + 5, 3)
    assert painted(sheet, (10, 10, 10)).sum() == 2 * 2 * 3
    assert painted(sheet, (20, 20, 20))[:4, 13:].all()
    assert visualize.contact_sheet([small], columns=5).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="columns must be at least 1. Received: 0"):
        visualize.contact_sheet([small], columns=0)


# --- Figures ------------------------------------------------------------------------------------------------


def texts_of(ax):
    return [text.get_text() for text in ax.texts]


def test_display_instances_shows_and_leaves_the_figure_for_savefig(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: shown.append(plt.gcf()))
    boxes, masks, ids = rectangle()
    visualize.display_instances(
        np.zeros((20, 24, 3)), boxes, masks, ids, NAMES, [0.98765], title="T"
    )
    assert shown == [plt.gcf()]
    ax = plt.gca()
    assert texts_of(ax) == ["square 0.988"] and ax.get_title() == "T"
    assert plt.gcf().get_size_inches().tolist() == [16, 16]


def test_display_instances_in_a_loop_neither_warns_nor_piles_up_figures():
    boxes, masks, ids = rectangle()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            visualize.display_instances(
                np.zeros((20, 24, 3)), boxes, masks, ids, NAMES, figsize=(1, 1)
            )
    assert len(plt.get_fignums()) == 1


def test_display_instances_draws_into_given_axes_without_showing(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("must not show"))
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    _, (left, right) = plt.subplots(1, 2)
    visualize.display_instances(
        np.zeros((20, 24, 3)),
        boxes,
        masks,
        ids,
        NAMES,
        ax=right,
        colors=[(1, 0, 0)],
        captions=["hello"],
    )
    assert not left.images and texts_of(right) == ["hello"]
    (box,) = [p for p in right.patches if isinstance(p, patches.Rectangle)]
    (contour,) = [p for p in right.patches if isinstance(p, patches.Polygon)]
    # pixels 6..13 and 5..9 reach from 5.5 to 13.5 and from 4.5 to 9.5 in an imshow picture
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (5.5, 4.5, 8, 5)
    assert contour.get_xy().min(axis=0).tolist() == [5.5, 4.5]
    assert contour.get_xy().max(axis=0).tolist() == [13.5, 9.5]
    picture = right.images[0].get_array()
    np.testing.assert_array_equal(picture[:, :, 0], masks[:, :, 0] * 127)  # half of red


def test_display_instances_without_tint_or_boxes_keeps_the_contour():
    boxes, masks, ids = rectangle()
    visualize.display_instances(
        np.zeros((20, 24, 3)), boxes, masks, ids, NAMES, show_mask=False, show_bbox=False
    )
    ax = plt.gca()
    assert [type(p) for p in ax.patches] == [patches.Polygon]
    assert not ax.images[0].get_array().any()


@pytest.mark.parametrize(
    "boxes, masks, ids, message",
    [
        ([], [], [], "zero boxes were given.*DETECTION_MIN_CONFIDENCE"),
        (np.zeros((2, 4)), np.zeros((20, 24, 2)), [1, 1], "all 2 boxes are zero"),
    ],
)
def test_display_instances_of_nothing_says_so_and_shows_the_image(
    boxes, masks, ids, message, caplog
):
    with caplog.at_level(logging.WARNING, "mrcnn"):
        visualize.display_instances(np.full((20, 24, 3), 7, np.uint8), boxes, masks, ids, NAMES)
    (record,) = caplog.records
    assert "No instances to display" in record.getMessage()
    assert re.search(message, record.getMessage())
    assert (plt.gca().images[0].get_array() == 7).all()


def test_display_images(caplog):
    images = [
        np.zeros((4, 5), bool),
        np.zeros((4, 5, 1)),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5, 9)),
        np.full((4, 5, 3), 4000, np.uint16),
    ]
    visualize.display_images(images, titles=list("abcde"), cols=2)
    assert [ax.get_title() for ax in plt.gcf().axes] == list("abcde")
    assert [ax.images[0].get_array().shape for ax in plt.gcf().axes] == [
        (4, 5),
        (4, 5),
        *[(4, 5, 3)] * 3,
    ]
    assert plt.gcf().axes[0].get_subplotspec().get_gridspec().get_geometry() == (3, 2)
    wide = plt.gcf().get_size_inches()
    visualize.display_images(
        [np.zeros((4, 16))] * 2, cols=1
    )  # as high as a quarter of its width, and the titles
    assert plt.gcf().get_size_inches() == pytest.approx((14, 2 * (14 / 4 + 0.3)))
    assert wide == pytest.approx((14, 3 * (7 * 4 / 5 + 0.3)))
    visualize.display_images([])
    assert "No images to display" in caplog.text


def test_display_top_masks_puts_the_largest_class_first():
    masks = np.zeros((10, 10, 3), bool)
    masks[0, :3, 0] = masks[1, :4, 1] = masks[5:9, :, 2] = True  # areas 3, 4, 40
    visualize.display_top_masks(np.zeros((10, 10, 3)), masks, np.array([1, 1, 2]), NAMES, limit=3)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["H x W=10x10", "circle", "square", "-"]
    grey = np.asarray(axes[2].images[0].get_array())
    assert grey[0, 0] == 1 and grey[1, 0] == 2 and grey.sum() == 3 * 1 + 4 * 2
    visualize.display_top_masks(np.zeros((10, 10, 3)), np.zeros((10, 10, 0)), [], NAMES, limit=1)
    assert [ax.get_title() for ax in plt.gcf().axes] == ["H x W=10x10", "-"]


def test_display_differences_captions_score_and_iou():
    gt_boxes, gt_masks, _ = rectangle((0, 0, 10, 10), (20, 24))
    other_boxes, other_masks, _ = rectangle((0, 2, 10, 12), (20, 24))
    lost_boxes, lost_masks, _ = rectangle((12, 12, 14, 14), (20, 24))
    padding = np.zeros((1, 4), np.int32), np.zeros((20, 24, 1), bool)
    visualize.display_differences(
        np.zeros((20, 24, 3)),
        np.concatenate([gt_boxes, padding[0]]),
        [1, 0],
        np.dstack([gt_masks, padding[1]]),
        np.concatenate([lost_boxes, padding[0], other_boxes]),
        [1, 0, 1],
        [0.25, 0, 0.75],
        np.dstack([lost_masks, padding[1], other_masks]),
        NAMES,
    )
    ax = plt.gca()
    # shifted by 2 of 10 columns: 80 shared of 120 pixels = 0.67
    assert texts_of(ax) == ["0.25 / 0.00", "0.75 / 0.67"]
    boxes = [p for p in ax.patches if isinstance(p, patches.Rectangle)]
    assert [p.get_edgecolor()[:3] for p in boxes] == [(0, 1, 0), (1, 0, 0), (1, 0, 0)]
    assert [p.get_x() for p in boxes] == [-0.5, 11.5, 1.5]


def test_display_differences_of_equal_scores_and_of_nothing():
    boxes, masks, ids = rectangle((0, 0, 4, 4))
    far_boxes, far_masks, _ = rectangle((8, 8, 12, 12))
    image = np.zeros((20, 24, 3))
    visualize.display_differences(
        image,
        boxes,
        ids,
        masks,
        np.concatenate([far_boxes, boxes]),
        [1, 1],
        [0.9, 0.9],
        np.dstack([far_masks, masks]),
        NAMES,
    )
    assert texts_of(plt.gca()) == ["0.90 / 0.00", "0.90 / 1.00"]
    visualize.display_differences(image, [], [], [], boxes, ids, [0.5], masks, NAMES)
    assert texts_of(plt.gca()) == ["0.50 / 0.00"]
    visualize.display_differences(image, boxes, ids, masks, [], [], [], [], NAMES)
    assert texts_of(plt.gca()) == []


def test_draw_rois_pastes_positive_masks_only():
    rois = np.array([[2, 3, 6, 9], [10, 10, 14, 18]])
    image, masks = np.zeros((20, 24, 3)), np.ones((2, 28, 28))
    visualize.draw_rois(image, rois, rois + 1, masks, np.array([2, 0]), NAMES)
    ax = plt.gca()
    assert texts_of(ax) == ["circle"] and ax.get_title() == "2 of 2 ROIs; of all, 1 positive"
    assert [p.get_y() for p in ax.patches] == [1.5, 2.5, 9.5]
    assert [p.get_linestyle() for p in ax.patches] == ["dashed", "solid", "dashed"]
    assert ax.lines[0].get_xydata().tolist() == [[3, 2], [4, 3]]
    tinted = np.asarray(ax.images[0].get_array()).any(axis=2)
    assert tinted.sum() == 4 * 6 and tinted[2:6, 3:9].all()


def test_draw_rois_limits_how_many_and_takes_none():
    rois = np.tile([2, 3, 6, 9], (30, 1))
    image = np.zeros((20, 24, 3))
    visualize.draw_rois(image, rois, rois, np.ones((30, 8, 8)), np.zeros(30, int), NAMES, limit=4)
    assert len(plt.gca().patches) == 4
    empty = np.zeros((0, 4))
    visualize.draw_rois(image, empty, empty, np.zeros((0, 28, 28)), np.zeros(0, int), NAMES)
    assert not plt.gca().patches


def test_draw_boxes_styles_by_visibility():
    boxes = np.array([[1, 2, 5, 6], [2, 3, 6, 7], [3, 4, 8, 9], [0, 0, 0, 0]])
    masks = np.zeros((20, 24, 4), bool)
    masks[1:5, 2:6, 0] = True
    visualize.draw_boxes(
        np.zeros((20, 24, 3)),
        boxes,
        boxes + 1,
        masks,
        list("abcd"),
        visibilities=[0, 1, 2, 0],
        title="T",
    )
    ax = plt.gca()
    outlines = [p for p in ax.patches if isinstance(p, patches.Rectangle)]
    # grey is not refined; the others are followed by their refined box; the zero box is skipped
    assert [p.get_linestyle() for p in outlines] == ["dotted", "dotted", "solid", "solid", "solid"]
    assert outlines[0].get_edgecolor() == (0.5, 0.5, 0.5, 0.5)
    assert len(ax.lines) == 2 and texts_of(ax) == ["a", "b", "c"]
    assert ax.texts[1].get_position() == (4, 3)  # on the refined box
    assert sum(isinstance(p, patches.Polygon) for p in ax.patches) == 1


def test_draw_boxes_needs_boxes_and_takes_none():
    with pytest.raises(ValueError, match="boxes or refined_boxes must be given. Received: neither"):
        visualize.draw_boxes(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="captions must have .* 1 for 2"):
        visualize.draw_boxes(np.zeros((4, 4, 3)), refined_boxes=np.ones((2, 4)), captions=["a"])
    _, ax = plt.subplots()
    visualize.draw_boxes(np.zeros((4, 4, 3)), np.zeros((0, 4)), ax=ax)
    assert ax.images and not ax.patches


# --- Curves and tables --------------------------------------------------------------------------------------


def test_plot_precision_recall():
    visualize.plot_precision_recall(0.75, np.array([1, 1, 0.5]), np.array([0, 0.5, 1]))
    ax = plt.gca()
    assert "0.750" in ax.get_title()
    assert ax.lines[0].get_xydata().tolist() == [[0, 1], [0.5, 1], [1, 0.5]]


def test_plot_overlaps_tells_match_from_wrong():
    overlaps = np.array([[0.8, 0.1, 0], [0.3, 0.6, 0], [0, 0, 0]])
    visualize.plot_overlaps(
        np.array([1, 1, 0]), np.array([1, 2, 0]), [0.9, 0.7, 0], overlaps, NAMES
    )
    ax = plt.gca()
    assert texts_of(ax) == ["0.800\nmatch", "0.100\n", "0.300\n", "0.600\nwrong"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["square 0.90", "circle 0.70"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["square", "square"]


def test_plot_overlaps_of_nothing_and_of_a_wrong_shape():
    none = np.zeros(0, int)
    visualize.plot_overlaps(np.array([1]), none, [], np.zeros((0, 1)), NAMES)
    assert texts_of(plt.gca()) == []
    with pytest.raises(
        ValueError, match=r"Received: \(1, 1\) for 1 predictions and 2 true objects"
    ):
        visualize.plot_overlaps(np.array([1, 1]), np.array([1]), [0.5], np.zeros((1, 1)), NAMES)


def test_plot_history_writes_a_png_and_leaves_no_figure(tmp_path):
    history = {name: [3.0, 2.0, 1.0] for name in visualize.LOSS_NAMES}
    history["val_loss"] = [3.5, 2.5, float("nan")]
    path = tmp_path / "new" / "losses.png"
    visualize.plot_history(history, path)
    assert cv2.imread(str(path)).shape == (
        680,
        1350,
        3,
    )  # 2 x 3 panels of 4.5 x 3.4 inches, 100 dots an inch
    assert plt.get_fignums() == []
    visualize.plot_history({"loss": [1.0]}, str(tmp_path / "one.png"))
    assert cv2.imread(str(tmp_path / "one.png")).shape == (340, 450, 3)


def test_plot_history_into_axes():
    _, ax = plt.subplots()
    history = {"loss": [2, 1], "val_loss": [3, 2], "mrcnn_mask_loss": [1], "learning_rate": [9, 9]}
    visualize.plot_history(history, ax)
    assert [line.get_label() for line in ax.lines] == ["loss", "val_loss", "mrcnn_mask_loss"]
    assert ax.lines[1].get_xydata().tolist() == [[1, 3], [2, 2]]
    assert ax.lines[1].get_linestyle() == "--"
    low, high = ax.get_ylim()
    assert low == 0 and high > 3


def test_plot_history_leaves_room_above_losses_close_together():
    _, ax = plt.subplots()
    visualize.plot_history(
        {"mrcnn_mask_loss": [0.69, 0.685], "val_mrcnn_mask_loss": [0.6931, 0.6931]}, ax
    )
    low, high = ax.get_ylim()
    assert low == 0 and high == pytest.approx(0.6931 * 1.05)


def test_plot_history_without_losses():
    with pytest.raises(ValueError, match=r"at least one of loss, .* Received: \['accuracy'\]"):
        visualize.plot_history({"accuracy": [1]}, "never.png")


def test_display_table(capsys):
    visualize.display_table([["name", "value"], ["[a]", 2.5]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["name", "value"], ["[a]", "2.5"]]


def test_display_weight_stats_marks_what_looks_wrong(capsys, monkeypatch):
    class Weight:
        def __init__(self, name, values):
            self.name, self.values = name, np.array(values, np.float32)
            self.path = f"layer/{name}"

    class Layer:
        def __init__(self, *weights):
            self.weights = weights

        def get_weights(self):
            return [weight.values for weight in self.weights]

    class Conv2D(Layer):
        pass

    class Model:
        def get_trainable_layers(self):
            return [
                Conv2D(Weight("kernel", [[-1, 3]]), Weight("bias", [0, 0])),
                Layer(
                    Weight("gamma", [2, 2]), Weight("beta", [0, 4000]), Weight("sick", [0, np.nan])
                ),
            ]

    monkeypatch.setenv("COLUMNS", "200")
    visualize.display_weight_stats(Model())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["WEIGHT", "NAME", "SHAPE", "MIN", "MAX", "STD"]
    # mean of -1 and 3 is 1, both 2 away from it
    assert lines[1] == ["layer/kernel", "(1,", "2)", "-1.0000", "+3.0000", "+2.0000"]
    assert lines[2][:2] == ["layer/bias", "(2,)"]
    assert [" ".join(line[1:3]) for line in lines[3:]] == ["*** dead?", "*** overflow?", "*** not"]


# --- Real pictures ------------------------------------------------------------------------------------------


def test_nuclei_with_a_hundred_instances(shared, monkeypatch):
    folders = sorted((shared / "data/nuclei/val").iterdir())
    folder = next(path for path in folders if len(list(path.glob("masks/*"))) == 100)
    image = cv2.imread(str(next(folder.glob("images/*.png"))), cv2.IMREAD_UNCHANGED)
    masks = np.stack(
        [cv2.imread(str(path), 0) for path in sorted(folder.glob("masks/*.png"))], axis=-1
    )
    texts = written_texts(monkeypatch)
    result = {"masks": masks, "class_ids": np.ones(100, int), "scores": np.ones(100)}
    picture = visualize.draw_comparison(image, result, result, ["BG", "nucleus"])
    assert picture.shape[1] == 2 * image.shape[1] + 8
    assert texts.count("1.00") > 2 * 80  # most find room


def test_boxes_alone_are_drawn_where_there_are_no_masks(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    found = {"rois": boxes, "class_ids": ids, "scores": np.array([0.9])}
    image = np.zeros((128, 128, 3), np.uint8)
    picture = visualize.draw_result(image, found, NAMES)
    assert texts == ["square 0.90"]
    times = picture.shape[0] // 128
    # rims at rows 40 and 80 and columns 40 and 90, and within them, below the label, no tint
    assert picture[:, 85 * times].any() and picture[75 * times].any()
    assert not picture[70 * times : 78 * times, 45 * times : 85 * times].any()
    picture = visualize.draw_comparison(
        image, {"masks": masks, "class_ids": ids}, found, NAMES, 0.7
    )
    assert texts[-1] == "detections from 0.7 on: 1"
    none = {"rois": np.zeros((0, 4)), "class_ids": [], "scores": []}
    assert not visualize.draw_result(image, none, NAMES).any()


# --- Names from strangers -----------------------------------------------------------------------------------


def test_any_class_name_is_drawn():
    boxes, masks, class_ids = rectangle()
    image = np.zeros((20, 24, 3), np.uint8)
    for name in (r"$\frac{$", "\x1b[31mcat\r", "cat\ud800", "a\0b", "x" * 10_000):
        names = ["BG", name]
        visualize.draw_instances(image, boxes, masks, class_ids, names, [0.5])
        visualize.display_instances(image, boxes, masks, class_ids, names, [0.5])
        visualize.plot_overlaps(class_ids, class_ids, [0.5], np.ones((1, 1)), names)
        visualize.display_top_masks(image, masks, class_ids, names)
        plt.gcf().canvas.draw()
    assert visualize._class_labels([1], ["BG", "\x1b[31mcat\r"], None, 0) == ["[31mcat"]


def test_a_table_does_not_steer_the_terminal(capsys):
    visualize.display_table([["[bold]cat\x1b[31m", 1]])
    assert capsys.readouterr().out.startswith("[bold]cat [31m")

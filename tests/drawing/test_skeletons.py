"""Keypoints and their lines on an image."""

import numpy as np
import pytest

from mrcnn.drawing.instances import draw_instances
from mrcnn.drawing.pages import draw_comparison, draw_result
from mrcnn.drawing.skeletons import draw_keypoints

RED = (255, 0, 0)


def drawn(keypoints, skeleton=()):
    canvas = np.full((60, 80, 3), 128, np.uint8)
    draw_keypoints(canvas, keypoints, skeleton, [RED] * len(keypoints), line=1)
    return canvas


def changed(canvas):
    return (canvas != 128).any(axis=2)


def test_nothing_is_drawn_without_instances_or_visible_keypoints():
    assert not changed(drawn(np.zeros((0, 4, 3)))).any()
    assert not changed(drawn([[[10, 10, 0], [30, 30, 0]]], [[0, 1]])).any()


def test_keypoint_is_centered_on_its_pixel():
    """(20.5, 30.5) is the center of the pixel in row 20, column 30; the circle's radius is 5."""
    y, x = np.nonzero(changed(drawn([[[20.5, 30.5, 2]]])))
    assert (y.min() + y.max(), x.min() + x.max()) == (40, 60)
    assert 5 <= (y.max() - y.min()) / 2 <= 6


def test_lines_connect_visible_keypoints_only():
    keypoints = [[[10.5, 10, 2], [10.5, 70, 1], [50, 10, 0]]]
    canvas = drawn(keypoints, [[0, 1], [0, 2]])
    assert np.abs(canvas[10, 40] - np.array(RED)).max() < 40
    assert not changed(canvas)[30].any()


def test_keypoints_outside_the_image_do_no_harm():
    assert changed(drawn([[[-1e9, 5, 1], [30, 1e9, 1]]], [[0, 1]])).any() in (True, False)


def test_instances_with_keypoints_must_be_as_many():
    image, boxes = np.zeros((60, 80, 3), np.uint8), [[5, 5, 50, 70]]
    with pytest.raises(ValueError, match="keypoints"):
        draw_instances(image, boxes, None, [1], ["BG", "a"], keypoints=np.zeros((2, 3, 3)))


def test_result_is_magnified_with_its_keypoints():
    """A pixel of 40 becomes 19 x 19: (10.5, 20.5) is at (199.5, 389.5)."""
    result = {
        "rois": np.array([[5, 5, 30, 30]]),
        "class_ids": np.array([1]),
        "keypoints": np.array([[[10.5, 20.5, 7.0]]]),
    }
    image = np.full((40, 40, 3), 128, np.uint8)
    plain = {key: result[key] for key in ("rois", "class_ids")}
    difference = draw_result(image, result, ["BG", "a"]) != draw_result(image, plain, ["BG", "a"])
    y, x = np.nonzero(difference.any(axis=2))
    assert abs(y.mean() - 199) < 1 and abs(x.mean() - 389) < 1


def test_comparison_leaves_out_keypoints_of_low_scores():
    result = {
        "rois": np.array([[5, 5, 30, 30], [8, 8, 20, 20]]),
        "class_ids": np.array([1, 1]),
        "scores": np.array([0.9, 0.1]),
        "keypoints": np.ones((2, 4, 3)),
    }
    page = draw_comparison(np.zeros((40, 40, 3), np.uint8), result, result, ["BG", "a"], 0.5)
    assert page.shape[2] == 3

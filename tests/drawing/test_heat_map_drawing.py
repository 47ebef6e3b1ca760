"""Heat maps drawn on images."""

import numpy as np
import pytest
from drawing_cases import written_texts

from mrcnn.drawing.heat_maps import draw_heat_maps
from mrcnn.drawing.pages import GAP


def draw(image, scores, side):
    """The image with one map, without the title above it."""
    drawn = draw_heat_maps(image, {"P2": scores}, side)
    return drawn[-np.shape(image)[0] * (drawn.shape[1] // np.shape(image)[1]) :]


def test_without_maps_the_page_is_empty():
    assert draw_heat_maps(np.zeros((4, 6, 3)), {}).shape == (0, 0, 3)


def test_scores_of_zero_leave_the_gray_image():
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 90  # the mean of (90, 0, 0) is 30
    drawn = draw(image, np.zeros((4, 6)), side=6)
    assert drawn.shape == (4, 6, 3) and drawn.dtype == np.uint8
    assert (drawn == 30).all()


def test_high_scores_are_bright_and_yellow():
    heat = np.zeros((4, 8))
    heat[:, 4:] = 1
    drawn = draw(np.zeros((4, 8), np.uint8), heat, side=8).astype(int)
    assert not drawn[:, :4].any()
    red, green, blue = drawn[0, 5]
    assert red > 180 and green > 180 and blue < red - 50


def test_small_images_are_magnified_with_their_map():
    drawn = draw(np.zeros((4, 8, 3)), np.full((4, 8), 2.0), side=16)  # 2 counts as 1
    assert drawn.shape == (8, 16, 3)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_three_maps_are_a_row_of_the_page():
    maps = {f"P{i}": np.zeros((40, 60)) for i in range(2, 7)}
    page = draw_heat_maps(np.zeros((40, 60)), maps, side=60)
    assert page.shape[1] == 3 * 60 + 2 * GAP
    assert (page[-10:, -60:] == 255).all()  # the sixth place


def test_scale_of_colors_is_above_the_maps(monkeypatch):
    texts = written_texts(monkeypatch)
    maps = {"P2": np.full((60, 90), 0.5), "P3": np.zeros((60, 90))}
    page = draw_heat_maps(np.zeros((60, 90)), maps, side=90).astype(int)
    assert "colors of the scores 0 (left) to 1 (right)" in texts
    above = page[:-60, :90]
    begins_black = (above[:, 0] == 0).all(axis=1)  # titles begin white
    scale = above[begins_black][0]
    brightness = scale.sum(axis=1)
    assert brightness[-1] == brightness.max() > 500
    in_map = page[-30, 40]
    assert np.abs(scale - in_map).sum(axis=1).argmin() in (44, 45)  # its middle stands for 0.5


def test_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"as high and wide as its image. Received: \(4, 4\)"):
        draw_heat_maps(np.zeros((4, 8, 3)), {"P2": np.zeros((4, 4))})

"""Polygons to masks and masks to polygons, by hand-counted pixels."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from mrcnn.formats import polygons, rle

SIZE = (30, 40)


def test_zero_rles_are_zero_masks():
    assert rle.decode([], SIZE).shape == (30, 40, 0)
    assert coco_mask.area(rle.encode(np.zeros(SIZE, bool))) == 0


def test_a_rectangle_fills_the_pixels_between_its_sides():
    mask = rle.decode([polygons.polygons_to_rle([polygons.rectangle(3, 4, 8, 14)], SIZE)], SIZE)[
        :, :, 0
    ]
    expected = np.zeros(SIZE, bool)
    expected[3:8, 4:14] = True
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_array_equal(rle.decode([rle.encode(expected)], SIZE)[:, :, 0], expected)


def test_parts_are_merged_and_clipped_to_the_image():
    parts = [
        polygons.rectangle(0, 0, 2, 2),
        polygons.rectangle(1, 1, 3, 3),
        polygons.rectangle(-5, 38, 4, 99),
    ]
    rle = polygons.polygons_to_rle(parts, SIZE)
    assert (
        coco_mask.area(rle) == 4 + 4 - 1 + 4 * 2
    )  # two squares share a pixel; 4 rows of 2 columns are inside


def test_50_000_parts_are_merged_below_quadratic_time():
    y, x = np.divmod(np.arange(50_000), 250)
    parts = [
        polygons.rectangle(2 * i, 2 * j, 2 * i + 1, 2 * j + 1) for i, j in zip(y, x, strict=True)
    ]
    code = polygons.polygons_to_rle(parts, (400, 500))
    mask = rle.decode([code], (400, 500))[:, :, 0]  # every second pixel of every second row
    assert mask.sum() == 50_000 and mask[::2, ::2].all()


def test_an_ellipse_has_its_area_and_its_extent():
    points = np.array(polygons.ellipse(20, 15, 8, 4, math.pi / 2)).reshape(-1, 2)
    assert len(points) == 100
    # turned by a quarter: 4 across and 8 down
    np.testing.assert_allclose(
        [points.min(axis=0), points.max(axis=0)], [[16, 7], [24, 23]], atol=1e-9
    )
    x, y = points.T
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(
        8 * 4 * 50 * math.sin(2 * math.pi / 100)
    )  # of a polygon of 100 corners


def test_polygons_longer_than_the_limit_are_refused():
    around = polygons.rectangle(1, 1, 29, 39)
    # 28 + 38 + 28 + 38 px each time around: 3.3 million px
    assert polygons.MAX_LENGTH < 25_001 * 132
    message = r"at most 2,000,000 pixels long. Received: 3,300,.* pixels, 100,004 points in f\.json"
    with pytest.raises(ValueError, match=message):
        polygons.check_polygon(around * 25_001, "f.json, shape 3")
    assert polygons.check_polygon(around * 15_000, "f.json") == around * 15_000


def test_far_points_are_clipped_before_the_length_is_measured():
    far = [-1e12, -1e12, 1e12, -1e12, 1e12, 1e12, -1e12, 1e12]
    assert polygons.check_polygon(far, "f.json") == far  # 4 sides of 300,000 px
    with pytest.raises(ValueError, match="Received: 2,400,000 pixels, 8 points"):
        polygons.check_polygon(far * 2, "f.json")
    polygons.check_length(far * 2, (30, 40), "f.json")  # in an image of 30 x 40 it is short


def test_polygons_of_too_many_points_are_refused(monkeypatch):
    monkeypatch.setattr(polygons, "MOST_POINTS", 4)
    assert len(polygons.check_polygon([1.0] * 8, "x")) == 8
    with pytest.raises(ValueError, match=r"at most 4 points. Received: 5 in f\.json"):
        polygons.check_polygon([1.0] * 10, "f.json")
    with pytest.raises(ValueError, match=r"at most 4 points. Received: 5 in f\.json"):
        polygons.check_points([[1, 2]] * 5, "f.json")


def test_points_as_pairs():
    assert polygons.check_points([[1, 2], [3.5, 4]], "x", least=2) == [1.0, 2.0, 3.5, 4.0]
    for bad in (None, [1, 2], [[1, 2, 3]], [{}]):
        with pytest.raises(ValueError, match=r"pairs \[x, y\].*f\.json, shape 3"):
            polygons.check_points(bad, "f.json, shape 3")
    for bad in (math.nan, math.inf, 10**400, "1", None):
        with pytest.raises(ValueError, match=r"finite numbers.*f\.json, shape 3"):
            polygons.check_points([[1, bad], [2, 3], [4, 5]], "f.json, shape 3")
    with pytest.raises(ValueError, match=r"at least 3 points. Received: 2 in f\.json, shape 3"):
        polygons.check_points([[1, 2], [3, 4]], "f.json, shape 3")


# Two parts, one of them with a hole: 3 x 3 less its middle, and 1 x 2 at its right.
RING_AND_BAR = np.array(
    [[1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool
)


def filled(rings, size):
    """bool [H, W]: closed lines filled by COCO's rule, as the readers do it."""
    flat = [np.asarray(ring, float).ravel().tolist() for ring in rings]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *size))).astype(bool)


masks_of_any_shape = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_empty_masks_have_no_rings():
    assert polygons.trace_mask(np.zeros((3, 4), bool)) == []
    assert polygons.trace_mask(np.zeros((0, 0), bool)) == []


def test_rings_follow_the_corners_of_pixels():
    (ring, hole), (bar,) = polygons.trace_mask(RING_AND_BAR)
    assert {tuple(point) for point in ring.tolist()} == {(0, 0), (3, 0), (3, 3), (0, 3)}
    assert {tuple(point) for point in hole.tolist()} == {(1, 1), (2, 1), (2, 2), (1, 2)}
    assert {tuple(point) for point in bar.tolist()} == {(4, 1), (6, 1), (6, 2), (4, 2)}


def test_pixels_that_touch_in_a_corner_are_two_parts():
    parts = polygons.trace_mask(np.eye(2))
    assert [len(part) for part in parts] == [1, 1]
    assert [len(part[0]) for part in parts] == [4, 4]


def test_rings_of_every_small_mask_fill_it_exactly():
    """All 511 masks of 3 x 3 pixels: parts apart, all in one line, and by the area of the rings."""
    for bits in list(product([False, True], repeat=9))[1:]:
        mask = np.array(bits).reshape(3, 3)
        parts = polygons.trace_mask(mask)
        assert np.array_equal(filled(map(polygons.join_rings, parts), mask.shape), mask)
        rings = [ring for part in parts for ring in part]
        assert np.array_equal(filled([polygons.join_rings(rings)], mask.shape), mask)
        assert sum(area(part[0]) - sum(map(area, part[1:])) for part in parts) == mask.sum()


def area(ring):
    x, y = np.asarray(ring).T
    return abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


@given(masks_of_any_shape)
def test_rings_of_any_mask_fill_it_exactly(mask):
    parts = polygons.trace_mask(mask)
    if not mask.any():
        assert parts == []
        return
    assert np.array_equal(filled(map(polygons.join_rings, parts), mask.shape), mask)
    rings = [ring for part in parts for ring in part]
    assert np.array_equal(filled([polygons.join_rings(rings)], mask.shape), mask)
    for ring in rings:  # simple: no corner twice
        assert len({tuple(point) for point in ring.tolist()}) == len(ring)

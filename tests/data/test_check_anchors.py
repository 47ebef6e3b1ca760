"""Anchors that fit or do not: overlaps against the full grid, suggested scales."""

import numpy as np
import pytest
from checked import GREY, Hand, Small, rectangles
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.data.check import check
from mrcnn.data.check_anchors import LADDER, anchor_overlaps, fit_anchors, suggest_scales
from mrcnn.nn import boxes
from mrcnn.nn.anchors import generate_pyramid_anchors


def test_sizes_are_those_after_resizing():
    # 64 x 64 to 128 x 128: 10 x 20 becomes 20 x 40, and the square root of 800 is 28.28
    report = check(
        Hand((GREY, rectangles((8, 8, 18, 28)), [1]), classes=["cat"]),
        Small(NUM_CLASSES=2, IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128),
    )
    assert report.sizes[50] == 28.3
    assert report.sizes[0] == report.sizes[100]


def overlap(*box, scale=32, stride=4, side=256, **values):
    molded = np.array([box], float)
    return anchor_overlaps(molded, np.array([[side, side]]), scale, stride, Small(**values))[0]


def test_overlap_with_the_nearest_anchor():
    assert overlap(48, 48, 80, 80) == 1  # 32 x 32 around (64, 64), which is a center
    # Around (66, 66), halfway between centers: 30 * 30 = 900 of 2 * 1024 - 900 = 1148.
    assert overlap(50, 50, 82, 82) == pytest.approx(900 / 1148)
    # Every second cell only: the nearest center to (68, 68) is 4 px away,
    # 28 * 28 = 784 of 2048 - 784 = 1264.
    assert overlap(52, 52, 84, 84, RPN_ANCHOR_STRIDE=2) == pytest.approx(784 / 1264)
    # Twice as wide as high: the ratio 2 has 32 * sqrt(2) by 32 / sqrt(2), here the box itself.
    half = 16 / np.sqrt(2)
    assert overlap(64 - half, 64 - 2 * half, 64 + half, 64 + 2 * half) == pytest.approx(1)
    # At the border: the last center of a side of 64 at stride 64 is 0,
    # so 16 * 16 of 32 * 32 * 2 - 256.
    assert overlap(0, 0, 32, 32, side=64, stride=64) == pytest.approx(256 / (2048 - 256))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(4, 8, 16, 32, 64), (8, 16, 32, 64, 128)]),
    st.sampled_from([(64, 64), (128, 192)]),
    st.sampled_from([1, 2]),
)
def test_overlap_is_the_best_of_all_anchors(seed, scales, shape, anchor_stride):
    """Only the nearest anchors are compared; no other anchor overlaps more."""
    rng = np.random.default_rng(seed)
    config = Small(RPN_ANCHOR_SCALES=scales, RPN_ANCHOR_STRIDE=anchor_stride)
    corners = rng.uniform(0, 0.9, (5, 2)) * shape
    sides = rng.uniform(2, 60, (5, 2))
    molded = np.concatenate([corners, np.minimum(corners + sides, shape)], axis=1)
    shapes = np.tile(shape, (5, 1))
    found = [
        anchor_overlaps(molded, shapes, *level, config)
        for level in zip(scales, config.BACKBONE_STRIDES, strict=True)
    ]
    maps = [[-(-shape[0] // s), -(-shape[1] // s)] for s in config.BACKBONE_STRIDES]
    every = generate_pyramid_anchors(
        scales, config.RPN_ANCHOR_RATIOS, maps, config.BACKBONE_STRIDES, anchor_stride
    )
    np.testing.assert_allclose(
        np.max(found, axis=0), boxes.iou(molded, every).max(axis=1), atol=1e-12
    )


def test_table_of_anchors_counts_each_object_once():
    # The squares of 16 px are anchors of P2. The stripe of 4 x 64 is not: 4 * 22.6 = 90 of
    # 256 + 256 - 90 for scale 16, 4 * 67.9 > 4 * 64 of 48 * 48 for scale 48.
    masks = rectangles((8, 8, 24, 24), (32, 32, 48, 48), (0, 0, 4, 64))
    report = check(Hand((GREY, masks, [1, 2, 1])), Small())
    assert [(row["scale"], row["stride"]) for row in report.anchors] == [
        (16, 4),
        (24, 8),
        (32, 16),
        (48, 32),
        (64, 64),
    ]
    assert sum(row["objects"] for row in report.anchors) == report.objects_with_anchor() == 3
    assert report.anchors[0]["objects"] >= 2
    assert report.under == pytest.approx(1 / 3)
    missed = sum(row["objects"] * row["under"] for row in report.anchors if row["objects"])
    assert missed == pytest.approx(1)
    assert {row["under"] for row in report.anchors if not row["objects"]} == {None}


def small_squares(side, count=30):
    """Images of 512 x 512 with one square each at a random position."""
    rng = np.random.default_rng(0)
    entries = []
    for _ in range(count):
        y, x = rng.integers(0, 512 - side, 2)
        mask = rectangles((y, x, y + side, x + side), size=(512, 512))
        entries.append((np.zeros((512, 512, 3), np.uint8), mask, [1]))
    return Hand(*entries, classes=["cat"])


def test_scales_are_suggested_for_small_objects_and_fit():
    config = Small(
        NUM_CLASSES=2,
        IMAGE_MIN_DIM=512,
        IMAGE_MAX_DIM=512,
        RPN_ANCHOR_SCALES=(32, 64, 128, 256, 512),
    )
    dataset = small_squares(12)
    report = check(dataset, config)
    # 12 x 12 in 32 x 32 is 144 / 1024 = 0.14 at best
    assert (report.under, [finding.kind for finding in report.findings]) == (1.0, ["anchors"])
    assert report.suggested_scales[0] == 12
    assert report.suggested_under == 0
    line = next(line for line in str(report).splitlines() if "--config" in line)
    item = line.split('"')[1]
    pasted = cli_support.read_config([item], config)
    assert list(pasted.RPN_ANCHOR_SCALES) == report.suggested_scales
    assert check(dataset, pasted).under == report.suggested_under


def test_no_scales_are_suggested_if_the_config_fits():
    config = Small(
        NUM_CLASSES=2,
        IMAGE_MIN_DIM=512,
        IMAGE_MAX_DIM=512,
        RPN_ANCHOR_SCALES=(32, 64, 128, 256, 512),
    )
    report = check(small_squares(40), config)
    assert (report.findings, report.suggested_scales) == ([], None)
    assert "No other scales bring 5% more of the objects to that IoU." in str(report)


def test_network_without_anchors_gets_sizes_only():
    config = Small.fcos()
    config.NUM_CLASSES = 2
    report = check(small_squares(2), config)
    assert report.sizes and not report.anchors
    assert report.suggested_scales is None
    assert "anchors" not in [finding.kind for finding in report.findings]


def test_scales_of_a_network_without_a_pyramid_are_all_of_its_level():
    config = Small(
        NUM_CLASSES=2,
        IMAGE_MIN_DIM=512,
        IMAGE_MAX_DIM=512,
        BACKBONE_STRIDES=[16],
        RPN_ANCHOR_SCALES=(64, 128, 256),
    )
    report = check(small_squares(24), config)
    assert [(row["scale"], row["stride"]) for row in report.anchors] == [
        (64, 16),
        (128, 16),
        (256, 16),
    ]
    # 24 x 24 in 64 x 64 is 576 / 4096 = 0.14 at best
    assert report.under == 1.0
    assert len(report.suggested_scales) == 3 and 24 in report.suggested_scales


@settings(max_examples=20)  # each tries all 6188 choices
@given(st.integers(0, 2**32 - 1))
def test_no_other_scales_fit_more_objects_than_the_suggested_ones(seed):
    rng = np.random.default_rng(seed)
    config = Small()
    centers, sides = rng.uniform(60, 450, (8, 2)), rng.uniform(4, 120, (8, 2))
    molded, shapes = (
        np.concatenate([centers - sides / 2, centers + sides / 2], axis=1),
        np.full((8, 2), 512),
    )

    def fitting(scales):
        levels = zip(scales, config.BACKBONE_STRIDES, strict=True)
        return np.mean(
            np.max([anchor_overlaps(molded, shapes, *level, config) for level in levels], axis=0)
            >= 0.5
        )

    scales = suggest_scales(molded, shapes, config)
    assert scales == sorted(set(scales)) and set(scales) <= set(LADDER)
    other = sorted(rng.choice(LADDER, 5, replace=False).tolist())
    assert fitting(scales) >= fitting(other)


def test_levels_with_several_sides_have_a_row_for_each():
    """Boxes of 40 x 40 fit the second side of P3 exactly."""
    config = Config.retinanet()
    molded = np.array([[4.0, 4, 44, 44]] * 3)
    fit = fit_anchors(molded, np.full((3, 2), 1024), config)
    assert len(fit.anchors) == 15
    assert [row["objects"] for row in fit.anchors[:3]] == [0, 3, 0]
    assert fit.under == 0 and fit.suggested_scales is None


def test_suggested_sides_keep_the_ratios_of_the_first_level():
    """Boxes of 6 x 6: an anchor of 32 x 32 overlaps them by 36 / 1024."""
    config = Config.retinanet()
    molded = np.array([[5.0, 5, 11, 11]] * 3)
    fit = fit_anchors(molded, np.full((3, 2), 1024), config)
    first = fit.suggested_scales[0]
    assert len(first) == 3 and first[1] / first[0] == pytest.approx(40 / 32, rel=0.1)

"""Anchors of one level and of a pyramid."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.nn import anchors as nn_anchors


def test_anchors_by_hand():
    anchors = nn_anchors.generate_anchors(32, [0.25, 1, 4], (2, 2), 16, 1)
    # ratio 1/4: 32 / sqrt(1/4) = 64 high, 32 * 1/2 = 16 wide; ratio 4: 16 high, 64 wide
    first = [[-32, -8, 32, 8], [-16, -16, 16, 16], [-8, -32, 8, 32]]
    np.testing.assert_allclose(anchors[:3], first)
    # row by row: the next cell is 16 to the right, the one after the row 16 down
    np.testing.assert_allclose(anchors[3:6], np.array(first) + [0, 16, 0, 16])
    np.testing.assert_allclose(anchors[6:9], np.array(first) + [16, 0, 16, 0])
    assert anchors.shape == (2 * 2 * 3, 4)


def test_every_second_cell_gets_anchors():
    anchors = nn_anchors.generate_anchors(8, [1], (3, 4), 4, 2)
    # rows 0 and 2, columns 0 and 2: centres at 0, 8 and 0, 8
    np.testing.assert_allclose(
        anchors, [[-4, -4, 4, 4], [-4, 4, 4, 12], [4, -4, 12, 4], [4, 4, 12, 12]]
    )


def test_pyramid_anchors_follow_the_levels():
    anchors = nn_anchors.generate_pyramid_anchors((8, 16), [1], [(2, 2), (1, 1)], [4, 8], 1)
    assert anchors.shape == (2 * 2 + 1, 4)
    np.testing.assert_allclose(anchors[-1], [-8, -8, 8, 8])
    first_level = nn_anchors.generate_pyramid_anchors((8,), [1], [(2, 2), (1, 1)], [4, 8], 1)
    np.testing.assert_array_equal(first_level, anchors[:4])
    with pytest.raises(
        ValueError, match="Each scale needs a pyramid level. Received: 3 scales, 2 shapes"
    ):
        nn_anchors.generate_pyramid_anchors((8, 16, 32), [1], [(2, 2), (1, 1)], [4, 8, 16], 1)


def test_backbone_shapes():
    # 128 / (4, 8, 16, 32, 64), 192 / ..., rounded up
    shapes = nn_anchors.compute_backbone_shapes(Config(), (128, 192, 3))
    assert shapes.tolist() == [[32, 48], [16, 24], [8, 12], [4, 6], [2, 3]]
    own = Config()
    own.BACKBONE, own.COMPUTE_BACKBONE_SHAPE = abs, lambda shape: [shape[:2]]
    assert nn_anchors.compute_backbone_shapes(own, (128, 192, 3)) == [(128, 192)]


def test_without_a_pyramid_the_one_level_has_all_scales():
    config = Config()
    config.BACKBONE_STRIDES, config.RPN_ANCHOR_SCALES = [16], (8, 32)
    config.RPN_ANCHOR_RATIOS = [1]
    anchors = nn_anchors.pyramid_anchors(config, (16, 32, 3))
    expected = [[-4, -4, 4, 4], [-16, -16, 16, 16], [-4, 12, 4, 20], [-16, 0, 16, 32]]
    np.testing.assert_array_equal(anchors, expected)  # cells at 0 and 16, each with both scales


def test_pyramid_anchors_are_three_a_cell():
    anchors = nn_anchors.pyramid_anchors(Config(), (128, 192, 3))
    assert anchors.shape == (3 * (32 * 48 + 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3), 4)


def torchvision_anchors(recorded, size):
    """Ours for a padded image of this size, (x, y) first, and the recorded sizes of the levels."""
    height, width = (int(side) for side in size.split("x"))
    config = Config.torchvision()
    shapes = nn_anchors.compute_backbone_shapes(config, (height, width, 3))
    np.testing.assert_array_equal(shapes, recorded[f"rcnn_{size}_sizes"])
    strides = [(height // rows, width // columns) for rows, columns in shapes]
    np.testing.assert_array_equal(strides, recorded[f"rcnn_{size}_strides"])
    return nn_anchors.pyramid_anchors(config, (height, width, 3))[:, [1, 0, 3, 2]]


@pytest.mark.parametrize("size", ["320x448", "288x544", "800x1088", "96x160", "32x64"])
def test_anchors_equal_torchvision(torchvision_units, size):
    """They are rounded, and strides follow the padded image: 57 rows on P6 of 288 x 544."""
    recorded = torchvision_units("anchors")
    if f"rcnn_{size}_sizes" not in recorded:
        pytest.skip("needs the shared reference data")
    found = torchvision_anchors(recorded, size)
    assert len(found) == recorded[f"rcnn_{size}_count"]
    np.testing.assert_array_equal(found[-4:], recorded[f"rcnn_{size}_last"])
    if f"rcnn_{size}_sum" in recorded:
        np.testing.assert_array_equal(found.sum(axis=0), recorded[f"rcnn_{size}_sum"])
        np.testing.assert_array_equal(found[::97], recorded[f"rcnn_{size}_every_97th"])


def test_anchors_of_a_cell_equal_torchvision(torchvision_units):
    cells = torchvision_units("anchors")["rcnn_cells"]
    config = Config.torchvision()
    for scale, expected in zip(config.RPN_ANCHOR_SCALES, cells.reshape(5, 3, 4), strict=True):
        ratios = config.RPN_ANCHOR_RATIOS
        found = nn_anchors.generate_anchors(scale, ratios, (1, 1), 4, 1, rounded=True)
        np.testing.assert_array_equal(found[:, [1, 0, 3, 2]], expected)


def test_anchors_of_detectron2_are_not_rounded():
    """Its DefaultAnchorGenerator: w = sqrt(area / ratio), h = ratio * w, strides 4 to 64."""
    found = nn_anchors.pyramid_anchors(Config.detectron(), (288, 544, 3))
    root = 2**0.5  # area 32^2, ratio h / w 0.5: w = 32 * root, h = 16 * root
    expected = [[-8 * root, -16 * root, 8 * root, 16 * root], [-16, -16, 16, 16]]
    np.testing.assert_allclose(found[:2], expected)
    # P6 has 5 x 9 cells; the last lies at 4 * 64, 8 * 64. The last anchor: ratio 2, side 512.
    high, wide = 256 * root, 128 * root
    np.testing.assert_allclose(found[-1], [256 - high, 512 - wide, 256 + high, 512 + wide])

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


def test_pyramid_anchors_are_three_a_cell():
    anchors = nn_anchors.pyramid_anchors(Config(), (128, 192, 3))
    assert anchors.shape == (3 * (32 * 48 + 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3), 4)

"""The pyramid of networks without an RPN."""

import keras
import pytest

from mrcnn.config import Config
from mrcnn.nn.dense_pyramid import dense_pyramid


@pytest.mark.parametrize(("source", "channels"), [("p5", 8), ("c5", 4)])
def test_dense_pyramid_has_levels_3_to_7(source, channels):
    """C5 of 5 x 7 cells: P6 has 3 x 4, P7 2 x 2, rounded up."""
    config = Config()
    config.NETWORK, config.SYMMETRIC_PADDING = "retinanet", True
    config.TOP_DOWN_PYRAMID_SIZE, config.P6_INPUT = 8, source
    maps = [keras.Input((20, 28, 4)), keras.Input((10, 14, 4)), keras.Input((5, 7, 4))]
    pyramid = dense_pyramid(maps, config)
    sizes = [tuple(level.shape[1:3]) for level in pyramid]
    assert sizes == [(20, 28), (10, 14), (5, 7), (3, 4), (2, 2)]
    layer = keras.Model(maps, pyramid).get_layer("fpn_p6")
    assert layer.kernel.shape == (3, 3, channels, 8)

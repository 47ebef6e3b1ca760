"""The feature pyramid, against torch's layers."""

import keras
import numpy as np
import pytest
from tiny import TinyConfig

from mrcnn.nn.fpn import fpn_graph


def test_pyramid_from_p1_on_has_the_names_of_its_levels():
    config = TinyConfig(
        BACKBONE="resnet50", BACKBONE_STRIDES=[2, 4, 8, 16, 32, 64], TOP_DOWN_PYRAMID_SIZE=3
    )
    maps = [keras.Input([side, side, 2]) for side in (32, 16, 8, 4, 2)]  # C1 to C5
    pyramid = fpn_graph(maps, config)
    assert [x.shape[1] for x in pyramid] == [32, 16, 8, 4, 2, 1]
    names = {layer.name for layer in keras.Model(maps, pyramid).layers}
    assert {"fpn_c1p1", "fpn_p1add", "fpn_p1", "fpn_c5p5", "fpn_p5", "fpn_p6"} <= names


@pytest.mark.parametrize("size", ["10x14", "11x13", "10x13"])
def test_doubling_and_subsampling_equal_torch(torchvision_units, size):
    """P6 is every second pixel of P5, rounded up; P5 is doubled by repeating pixels."""
    recorded = torchvision_units("layers")
    if f"x_{size}" not in recorded:
        pytest.skip("needs the shared reference data")
    x, doubled, p6 = (
        recorded[f"{name}_{size}"].transpose(0, 2, 3, 1)
        for name in ("x", "nearest_double", "p6_maxpool1_s2")
    )
    maps = [keras.Input([None, None, 2]) for _ in range(4)]  # C2 to C5
    pyramid = fpn_graph(maps, TinyConfig(TOP_DOWN_PYRAMID_SIZE=3))
    network = keras.Model(maps, pyramid)
    of_p5 = keras.Model(network.get_layer("fpn_p5").output, network.get_layer("fpn_p6").output)
    np.testing.assert_array_equal(of_p5(x), p6)
    above = network.get_layer("fpn_c5p5").output
    of_above = keras.Model(above, network.get_layer("fpn_p5upsampled").output)
    np.testing.assert_array_equal(of_above(x), doubled)

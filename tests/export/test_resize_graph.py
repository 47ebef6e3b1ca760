"""The resize in a graph gives the pixels of `data.image`."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data.image import molded_float32, resize_to_config
from mrcnn.export.resize_graph import fixed_placement, resize_on_canvas, square_placement


def config_of(mode="square", min_dim=64, max_dim=128, min_scale=0):
    config = Config()
    config.IMAGE_RESIZE_MODE = mode
    config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_MIN_SCALE = min_dim, max_dim, min_scale
    return config


def smooth(height, width, seed=0):
    """An image without edges: a sample that is slightly off changes little."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 5, 3)).astype(np.float32)
    return tf.image.resize(coarse, (height, width)).numpy().astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.sampled_from([0, 64, 96]),
    st.sampled_from([0, 0.5, 2.0]),
)
def test_window_is_that_of_the_resize(height, width, min_dim, min_scale):
    config = config_of(min_dim=min_dim, min_scale=min_scale)
    expected = resize_to_config(np.zeros((height, width, 3), np.uint8), config)
    placement = square_placement(tf.constant(height), tf.constant(width), config)
    assert tuple(int(side) for side in placement.window) == tuple(expected.window)
    assert placement.canvas == expected.image.shape[:2]


@pytest.mark.parametrize("size", [(128, 128), (90, 200), (300, 120), (64, 20), (1, 1)])
@pytest.mark.parametrize("is_fixed", [True, False])
def test_pixels_are_those_of_the_resize(size, is_fixed):
    config, image = config_of(), smooth(*size)
    expected = molded_float32(resize_to_config(image, config).image, config)
    if is_fixed:
        placement = fixed_placement(*size, config)
    else:
        placement = square_placement(*(tf.constant(side) for side in size), config)
    found = resize_on_canvas(tf.constant(image[None]), placement, config)[0].numpy()
    difference = np.abs(found - expected)
    # Truncation turns the last bit of a sample into one gray level.
    assert difference.max() <= 1.001
    assert np.mean(difference > 0.01) < 0.002


@pytest.mark.parametrize("size", [(60, 80), (200, 150), (96, 120)])
@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_pixels_of_other_modes(mode, size):
    config, image = config_of(mode, 96, 160), smooth(*size)
    expected = molded_float32(resize_to_config(image, config).image, config)
    placement = fixed_placement(*size, config)
    found = resize_on_canvas(tf.constant(image[None]), placement, config)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)

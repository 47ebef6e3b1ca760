"""Molding on the device: the same numbers as NumPy's."""

import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig

from mrcnn.data.image import mold_image
from mrcnn.nn.molding import mold_on_device


@pytest.mark.parametrize(
    ("channels", "mean"),
    [(3, [123.7, 116.8, 103.9]), (3, [127.3]), (1, [99.9]), (4, [1.1, 2.2, 3.3, 250.7])],
)
def test_molding_on_the_device_equals_numpy_bit_for_bit(channels, mean):
    config = TinyConfig(IMAGE_CHANNEL_COUNT=channels, MEAN_PIXEL=np.array(mean))
    images = np.arange(256 * channels).reshape(2, 16, 8, channels).astype(np.uint8)
    molded = mold_on_device(tf.constant(images), config).numpy()
    np.testing.assert_array_equal(molded, mold_image(images, config).astype(np.float32))
    assert molded.dtype == np.float32 and molded[0, 0, 0, 0] == np.float32(-mean[0])

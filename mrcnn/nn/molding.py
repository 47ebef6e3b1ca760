"""Images as the network's input, computed on the device that runs the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers as KL

from .layers import FLOAT32


def mold_on_device(images: tf.Tensor, config) -> tf.Tensor:
    """Return the images minus MEAN_PIXEL over STD_PIXEL, in every bit as `data.image.mold_image`.

    Sent as uint8, images take a quarter of the transfer that float32 would take.

    images: `[B, H, W, C]` uint8.

    Returns: `[B, H, W, C]` float32.
    """
    # NumPy subtracts the float64 mean and rounds once; float32 arithmetic would round twice.
    difference = tf.cast(images, tf.float64) - np.asarray(config.MEAN_PIXEL, np.float64)
    return tf.cast(difference / np.asarray(config.STD_PIXEL, np.float64), tf.float32)


def scale_pixels(input_image: Any, config: Any, name: str, mean: Any, std: Any) -> Any:
    """`[B, H, W, C]` the pixels as a backbone read them on ImageNet, from those that are molded.

    input_image: `[B, H, W, C]` molded.
    name: of the layer, `<name>_scaling`.
    mean, std: of the pixels that the backbone reads are subtracted, and divide the difference;
        numbers, or `[3]` by channel.
    """
    if np.size(mean) != config.IMAGE_CHANNEL_COUNT:
        mean, std = np.mean(mean), np.mean(std)
    shape = [config.IMAGE_CHANNEL_COUNT]
    scale = np.broadcast_to(config.STD_PIXEL / std, shape).tolist()
    offset = np.broadcast_to((config.MEAN_PIXEL - mean) / std, shape).tolist()
    return KL.Rescaling(scale, offset, name=f"{name}_scaling", **FLOAT32)(input_image)

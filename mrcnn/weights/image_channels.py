"""Fit the first convolution of a network to another number of image channels."""

from __future__ import annotations

import numpy as np


def only_channels_differ(in_file: tuple[int, ...], in_model: tuple[int, ...]) -> bool:
    """Whether two kernel shapes `[height, width, in, out]` differ only in their input channels."""
    if len(in_file) != 4 or in_file[2] == in_model[2]:
        return False
    return in_file[:2] == in_model[:2] and in_file[3] == in_model[3]


def adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Fit a first convolution's kernel to images with another number of channels.

    To or from fewer than three channels, the sum of the colours is spread evenly, so that a grey
    image gives the same result as its RGB copy. Channels beyond the file's start from the mean of
    the colours, which responds to edges in any kind of channel. Surplus channels are dropped.

    kernel: [height, width, in, out]; of three or more inputs, the first three are colours.
    channels: number of inputs wanted.

    Returns: [height, width, channels, out]
    """
    channels_in_file = kernel.shape[2]
    colours = kernel[:, :, :3]
    if min(channels_in_file, channels) < 3:
        share = colours.sum(axis=2, keepdims=True) / channels
        return np.repeat(share, channels, axis=2)
    if channels <= channels_in_file:
        return kernel[:, :, :channels]
    mean = colours.mean(axis=2, keepdims=True)
    extra = np.repeat(mean, channels - channels_in_file, axis=2)
    return np.concatenate([kernel, extra], axis=2)

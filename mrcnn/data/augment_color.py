"""Augmentations that change pixels, not positions: color, hue, blur and noise.

Signature and shapes are those of `augment`; the masks are returned as they are.
"""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np

Augmented = tuple[np.ndarray, np.ndarray]  # image, masks

MAX_MEAN_CHANNELS = 4  # of OpenCV's mean
# RGB to YIQ: brightness, and two axes of color in which a rotation changes the hue (NTSC, 1953).
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
# The 256 bytes -> numbers of a normal distribution with mean 0 and standard deviation 1.
_NORMAL = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])


def color(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, strength: float = 0.3
) -> Augmented:
    """Change brightness, contrast and the gain of each channel a little."""
    contrast = rng.uniform(-strength, strength)
    channel_gains = rng.uniform(-strength / 3, strength / 3, image.shape[2])
    gain = 1 + contrast + channel_gains
    shift = 255 * rng.uniform(-strength, strength) / 3
    mean = channel_means(image)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - mean) * gain + mean + shift, 0, 255).astype(np.uint8)  # [256, C]
    return cv2.LUT(np.ascontiguousarray(image), table[None]).reshape(image.shape), masks


def channel_means(image: np.ndarray) -> np.ndarray:
    """Return the `[C]` mean of each channel of an image `[H, W, C]`."""
    channels = image.shape[2]
    if channels > MAX_MEAN_CHANNELS:
        return image.mean(axis=(0, 1))
    return np.array(cv2.mean(np.ascontiguousarray(image))[:channels])


def hue(
    image: np.ndarray,
    masks: np.ndarray,
    rng: np.random.Generator,
    degrees: float = 8.0,
    saturation: float = 0.3,
) -> Augmented:
    """Change the hue by at most `degrees`, and the saturation by a factor of 1 +- `saturation`.

    Gray stays gray. Images of other than three channels have no hue and stay as they are.
    """
    angle = np.radians(rng.uniform(-degrees, degrees))
    factor = 1 + rng.uniform(-saturation, saturation)
    if image.shape[2] != 3:
        return image, masks
    cos, sin = factor * np.cos(angle), factor * np.sin(angle)
    rotation = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = np.linalg.inv(_YIQ) @ rotation @ _YIQ
    return cv2.transform(np.ascontiguousarray(image), matrix.astype(np.float32)), masks


def blur(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, strongest: float = 1.5
) -> Augmented:
    """Blur with probability 0.5, by a Gaussian whose sigma is at most `strongest` pixels."""
    sigma = rng.uniform(0.1, strongest)
    if rng.random() < 0.5:
        return image, masks
    blurred = cv2.GaussianBlur(np.ascontiguousarray(image), (0, 0), sigma)
    return blurred.reshape(image.shape), masks


def noise(
    image: np.ndarray, masks: np.ndarray, rng: np.random.Generator, strongest: float = 8.0
) -> Augmented:
    """Add Gaussian noise with probability 0.5, of at most `strongest` gray levels (sigma)."""
    sigma = rng.uniform(0, strongest)
    if rng.random() < 0.5:
        return image, masks
    # Random bytes and a table are ten times as fast as NumPy's normal distribution.
    random_bytes = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    table = np.round(sigma * _NORMAL).astype(np.int16)
    added = cv2.LUT(random_bytes, table[None]).reshape(image.shape)
    noisy = cv2.add(np.ascontiguousarray(image), added, dtype=cv2.CV_8U)
    return noisy.reshape(image.shape), masks

"""Augmentation made on NumPy and OpenCV: callables `(image, masks, rng) -> (image, masks)`.

image: `[H, W, C]` uint8. masks: `[H, W, N]` bool, moved together with it. rng: a numpy Generator, the only source
of chance. The shape of the image stays; instances that leave it are dropped by the caller.
"""

from __future__ import annotations

import cv2
import numpy as np


def flip(image, masks, rng):
    """A left-right and an up-down mirror, each half of the time."""
    if rng.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, ::-1]
    if rng.random() < 0.5:
        image, masks = image[::-1], masks[::-1]
    return image, masks


def fliplr(image, masks, rng):
    """A left-right mirror half of the time."""
    return (image[:, ::-1], masks[:, ::-1]) if rng.random() < 0.5 else (image, masks)


def rotate90(image, masks, rng):
    """A quarter turn half of the time, on square images; others stay."""
    if image.shape[0] != image.shape[1] or rng.random() < 0.5:
        return image, masks
    return np.rot90(image), np.rot90(masks)


def scale(image, masks, rng, low=0.7, high=1.4):
    """Zoomed around a random point by a factor between `low` and `high`; what lies outside becomes black."""
    factor = np.exp(rng.uniform(np.log(low), np.log(high)))
    height, width = image.shape[:2]
    y, x = rng.uniform(0, 1, 2) * (height, width)
    matrix = np.array([[factor, 0, x * (1 - factor)], [0, factor, y * (1 - factor)]])
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR).reshape(image.shape)
    moved = np.zeros((masks.shape[-1], height, width), np.uint8)
    for i in range(masks.shape[-1]):
        layer = np.ascontiguousarray(masks[:, :, i]).view(np.uint8)
        cv2.warpAffine(layer, matrix, (width, height), dst=moved[i], flags=cv2.INTER_NEAREST)
    return warped, np.moveaxis(moved.view(bool), 0, -1)


def color(image, masks, rng, strength=0.3):
    """Brightness, contrast and each channel's gain changed a little."""
    gain = 1 + rng.uniform(-strength, strength) + rng.uniform(-strength / 3, strength / 3, image.shape[2])
    shift = 255 * rng.uniform(-strength, strength) / 3
    mean = image.mean(axis=(0, 1))
    return np.clip((image - mean) * gain + mean + shift, 0, 255).astype(np.uint8), masks


AUGMENTATIONS = {"flip": flip, "fliplr": fliplr, "rotate90": rotate90, "scale": scale, "color": color}


def compose(names):
    """One callable that applies the named augmentations in this order.

    Raises: ValueError for an unknown name.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(f"An augmentation must be one of {', '.join(AUGMENTATIONS)}. Received: {name!r}.")

    def augment(image, masks, rng):
        for name in names:
            image, masks = AUGMENTATIONS[name](image, masks, rng)
        return np.ascontiguousarray(image), masks

    return augment

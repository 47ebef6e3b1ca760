"""torchvision's input image, bit by bit, so that a comparison of networks begins with one image.

torchvision normalizes and then resizes; this package resizes first, which rounds differently (by
at most 7e-7). If batch norm trains, this changes norms of gradients by up to 6e-3.
"""

import numpy as np

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def torchvision_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`[height, width, 3]` float32, normalized and resized as by `GeneralizedRCNNTransform`.

    As torch's kernel for channels-last images computes it, with fused multiply-adds.

    image: `[H, W, 3]` uint8.
    """
    image = (image.astype(np.float32) / np.float32(255) - MEAN) / DEVIATION
    (top, bottom, down), (left, right, along) = _taps(image, height, 0), _taps(image, width, 1)
    up, back = np.float32(1) - down, np.float32(1) - along
    corners = {
        (y, x): (image[rows][:, columns], weight_y * weight_x)
        for y, (rows, weight_y) in enumerate([(top, up), (bottom, down)])
        for x, (columns, weight_x) in enumerate([(left, back), (right, along)])
    }
    pixels = np.multiply(*corners[0, 1])
    for corner in ((0, 0), (1, 0), (1, 1)):
        pixels = _fused(*corners[corner], pixels)
    return pixels


def _taps(image, count, axis):
    """The two pixels between which each new one lies, and the share of the second."""
    old = image.shape[axis]
    step = np.float32(old) / np.float32(count)
    places = np.maximum(_fused(np.arange(count) + 0.5, step, -0.5), np.float32(0))
    first = np.minimum(places.astype(int), old - 1)
    share = (places - first.astype(np.float32)).astype(np.float32)
    share = np.expand_dims(share, (1, 2) if axis == 0 else (0, 2))
    return first, np.minimum(first + 1, old - 1), share


def _fused(a, b, c):
    """`a * b + c`, rounded once."""
    return (a.astype(np.float64) * b + c).astype(np.float32)

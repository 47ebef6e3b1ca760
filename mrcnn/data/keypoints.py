"""Keypoints as arrays: move them with their image, mirror their names, read them from heatmaps.

A keypoint is `(y, x)` in pixels counted from the corner of the image, as the corners of boxes are:
the center of the first pixel is (0.5, 0.5). COCO's files count from the center of the first pixel,
`(x, y)`; `formats/coco.py` converts. Visibility is COCO's: 0 not labelled, 1 hidden, 2 visible.
"""

from __future__ import annotations

import cv2
import numpy as np


def decode_heatmaps(heatmaps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the places of the maxima of heatmaps, `[N, K, (y, x, score)]` float32.

    Each heatmap is resized to the pixels of its box by bicubic interpolation (a = -0.75); the first
    of equal maxima counts. This is torchvision's decoding (Mask R-CNN, section 5).

    heatmaps: `[N, h, w, K]` logits. boxes: `[N, (y1, x1, y2, x2)]` pixels.
    """
    keypoints = np.zeros((len(boxes), heatmaps.shape[-1], 3), np.float32)
    for i, (heatmap, box) in enumerate(zip(heatmaps, np.float32(boxes), strict=True)):
        sides = np.maximum(box[2:] - box[:2], 1)  # height, width
        rows, columns = np.ceil(sides).astype(int)
        # OpenCV's bicubic interpolation has a = -0.75 too, and repeats the border.
        resized = cv2.resize(np.float32(heatmap), (columns, rows), interpolation=cv2.INTER_CUBIC)
        resized = resized.reshape(rows * columns, -1)  # [pixels, K]
        best = resized.argmax(axis=0)
        cells = np.stack(np.unravel_index(best, (rows, columns)), axis=-1)  # [K, (row, column)]
        scale = sides / np.float32([rows, columns])
        keypoints[i, :, :2] = (cells + np.float32(0.5)) * scale + box[:2]
        keypoints[i, :, 2] = resized[best, np.arange(len(best))]
    return keypoints

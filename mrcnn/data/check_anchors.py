"""How the anchors fit a dataset's objects, and RPN_ANCHOR_SCALES that fit better."""

from __future__ import annotations

import itertools

import numpy as np

from ..config import Config
from ..nn import boxes
from ..nn.anchors import generate_anchors

FITTING_IOU = 0.5  # an anchor that overlaps an object by less has to be stretched far
# What RPN_ANCHOR_SCALES are suggested from: powers of two and their middles.
LADDER = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
OBJECTS_TO_FIT = 1000  # more, spread over all sizes, give the same scales and take longer
LEAST_GAIN = 0.05  # share of objects that other scales must bring above FITTING_IOU to be suggested


def anchor_overlaps(
    molded: np.ndarray, shapes: np.ndarray, scale: float, stride: int, config: Config
) -> np.ndarray:
    """`[N]` the best IoU of each box with an anchor of one pyramid level, at its place in the grid.

    molded: `[N, (y1, x1, y2, x2)]` px. shapes: `[N, (height, width)]` of their molded images. scale: side of the
    anchors, px. stride: of the level, px.
    """
    step = stride * config.RPN_ANCHOR_STRIDE
    last = (-(-shapes // stride) - 1) // config.RPN_ANCHOR_STRIDE * step
    centers = (molded[:, :2] + molded[:, 2:]) / 2
    nearest = np.clip(
        np.round(centers / step) * step, 0, last
    )  # of its shape, the nearest overlaps most
    shapes_of_anchors = generate_anchors(
        scale, config.RPN_ANCHOR_RATIOS, (1, 1), stride, 1
    )  # around (0, 0)
    anchors = np.tile(nearest, 2)[:, None] + shapes_of_anchors
    return boxes.iou(molded[:, None], anchors)[:, 0].max(axis=1)


def suggest_scales(molded: np.ndarray, shapes: np.ndarray, config: Config) -> list[int]:
    """Growing RPN_ANCHOR_SCALES, one a pyramid level, that leave the fewest boxes without a fitting anchor.

    Among equals, those of the highest mean IoU. Every choice of the `LADDER` is tried, at the levels' own strides: a
    small scale on a coarse level falls between the objects.
    """
    strides = config.BACKBONE_STRIDES
    table = np.array(
        [
            [anchor_overlaps(molded, shapes, scale, stride, config) for scale in LADDER]
            for stride in strides
        ],
        np.float32,
    )  # [levels, ladder, N]
    choices = np.array(list(itertools.combinations(range(len(LADDER)), len(strides))))
    best = np.zeros((len(choices), len(molded)), np.float32)
    for level, steps in enumerate(choices.T):
        np.maximum(best, table[level, steps], out=best)
    merits = zip((best >= FITTING_IOU).mean(axis=1), best.mean(axis=1), strict=True)
    chosen = max(zip(merits, choices.tolist(), strict=True), key=lambda pair: pair[0])[1]
    return [LADDER[step] for step in chosen]


def spread_evenly(count: int, limit: int) -> np.ndarray:
    """At most `limit` of the positions 0..count-1, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))

"""How the anchors fit a dataset's objects, and RPN_ANCHOR_SCALES that fit better."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..config import Config
from ..nn import boxes
from ..nn.anchors import generate_anchors

FITTING_IOU = 0.5  # an anchor with less IoU needs large deltas to become the object's box
# RPN_ANCHOR_SCALES are suggested from these: powers of two and the steps between them.
LADDER = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
OBJECTS_TO_FIT = 1000  # more objects give the same scales and take longer
MIN_GAIN = 0.05  # share of objects that suggested scales must bring above FITTING_IOU
QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent


@dataclass
class AnchorFit:
    """How the anchors fit the objects.

    sizes: quantile in percent -> square root of the box area, px after resizing.
    anchors: a dict for each scale: scale, stride, objects (whose best anchor is of this scale),
        under (share of them with an IoU below `FITTING_IOU`).
    under: that share of all objects.
    suggested_scales: RPN_ANCHOR_SCALES that fit better, None if the config's fit.
    suggested_under: the share that they would leave.
    """

    sizes: dict[int, float] = field(default_factory=dict)
    anchors: list[dict] = field(default_factory=list)
    under: float | None = None
    suggested_scales: list[int] | None = None
    suggested_under: float | None = None


def fit_anchors(molded: np.ndarray, shapes: np.ndarray, config: Config) -> AnchorFit:
    """Compare objects with the config's anchors, and with those of other scales.

    Args:
        molded: `[N, (y1, x1, y2, x2)]` boxes, px after resizing, N > 0.
        shapes: `[N, (height, width)]` of their images after resizing.
    """
    sizes = np.sqrt(boxes.area(molded))
    percentiles = np.percentile(sizes, QUANTILES).round(1).tolist()
    fit = AnchorFit(sizes=dict(zip(QUANTILES, percentiles, strict=True)))

    # With k scales the RPN has the first k levels; without a pyramid all are of the one level.
    levels = list(zip(config.RPN_ANCHOR_SCALES, _strides(config), strict=False))
    overlaps = _overlaps_of_levels(molded, shapes, levels, config)
    best_level, is_under = overlaps.argmax(axis=0), overlaps.max(axis=0) < FITTING_IOU
    for i, (scale, stride) in enumerate(levels):
        own = best_level == i
        under = float(is_under[own].mean()) if own.any() else None
        row = {"scale": scale, "stride": stride, "objects": int(own.sum()), "under": under}
        fit.anchors.append(row)
    fit.under = float(is_under.mean())

    some = np.argsort(sizes, kind="stable")[spread_evenly(len(sizes), OBJECTS_TO_FIT)]
    scales = suggest_scales(molded[some], shapes[some], config)
    levels = list(zip(scales, _strides(config), strict=True))
    overlaps = _overlaps_of_levels(molded, shapes, levels, config)
    suggested_under = float((overlaps.max(axis=0) < FITTING_IOU).mean())
    if fit.under - suggested_under >= MIN_GAIN:
        fit.suggested_scales, fit.suggested_under = scales, suggested_under
    return fit


def _strides(config: Config) -> list[int]:
    """The stride for each scale: those of the levels, or that of the one level for all scales."""
    strides = list(config.BACKBONE_STRIDES)
    return strides if config.has_pyramid() else strides * len(config.RPN_ANCHOR_SCALES)


def _overlaps_of_levels(
    molded: np.ndarray, shapes: np.ndarray, levels: Sequence[tuple[float, int]], config: Config
) -> np.ndarray:
    """`[levels, N]` `anchor_overlaps` of each level. levels: `(scale, stride)`."""
    rows = [anchor_overlaps(molded, shapes, scale, stride, config) for scale, stride in levels]
    return np.stack(rows)


def anchor_overlaps(
    molded: np.ndarray, shapes: np.ndarray, scale: float, stride: int, config: Config
) -> np.ndarray:
    """Return the `[N]` best IoU of each box with an anchor of one pyramid level.

    Args:
        molded: `[N, (y1, x1, y2, x2)]` px.
        shapes: `[N, (height, width)]` of their images, px.
        scale: side of the anchors, px.
        stride: of the level, px.
    """
    step = stride * config.RPN_ANCHOR_STRIDE
    last = (-(-shapes // stride) - 1) // config.RPN_ANCHOR_STRIDE * step
    centers = (molded[:, :2] + molded[:, 2:]) / 2
    # Of the anchors of one shape, the nearest one overlaps most.
    nearest = np.clip(np.round(centers / step) * step, 0, last)
    around_zero = generate_anchors(scale, config.RPN_ANCHOR_RATIOS, (1, 1), stride, 1)
    anchors = np.tile(nearest, 2)[:, None] + around_zero  # [N, ratios, 4]
    return boxes.iou(molded[:, None], anchors)[:, 0].max(axis=1)


def suggest_scales(molded: np.ndarray, shapes: np.ndarray, config: Config) -> list[int]:
    """Return increasing RPN_ANCHOR_SCALES that fit the largest share of boxes.

    With a pyramid it is one scale per level, otherwise as many as the config has.

    Among equal choices that of the highest mean IoU wins. All choices from `LADDER` are tried with
    the strides of the levels, because small anchors of a coarse level miss objects between them.

    molded, shapes: as for `fit_anchors`.
    """
    strides = _strides(config)
    table = np.zeros((len(strides), len(LADDER), len(molded)), np.float32)
    for level, stride in enumerate(strides):
        for step, scale in enumerate(LADDER):
            table[level, step] = anchor_overlaps(molded, shapes, scale, stride, config)
    choices = np.array(list(itertools.combinations(range(len(LADDER)), len(strides))))
    best = np.zeros((len(choices), len(molded)), np.float32)
    for level, steps in enumerate(choices.T):
        np.maximum(best, table[level, steps], out=best)
    fitting_share, mean_iou = (best >= FITTING_IOU).mean(axis=1), best.mean(axis=1)
    # lexsort orders by its last key first; of equal choices the first one is taken.
    order = np.lexsort((-np.arange(len(choices)), mean_iou, fitting_share))
    return [LADDER[step] for step in choices[order[-1]]]


def spread_evenly(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` of the positions 0..count-1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))

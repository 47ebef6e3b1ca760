"""Targets of the RPN, in NumPy: which anchors are positive or negative, and the deltas to learn.

Boxes and anchors are `(y1, x1, y2, x2)` in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..nn import boxes
from ..nn.boxes import CROWD_IOU

_BLOCK = 64  # consecutive anchors, which lie near each other, are compared with a box together
_BOXES_AT_ONCE = 8


class AnchorBlocks(NamedTuple):
    """Bounds of the anchors in each block of `_BLOCK`, `[K]` each."""

    y1: np.ndarray
    x1: np.ndarray
    y2: np.ndarray
    x2: np.ndarray
    smallest_area: np.ndarray
    largest_area: np.ndarray


class Pairs(NamedTuple):
    """Pairs of a box and an anchor: positions of both and their IoU, `[P]` each."""

    box: np.ndarray
    anchor: np.ndarray
    iou: np.ndarray


def build_rpn_targets(
    image_shape: Sequence[int],
    anchors: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    config: Config,
    rng: Any = None,
    blocks: AnchorBlocks | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Match anchors with objects, sample them, and encode the deltas (Faster R-CNN, 3.1.2).

    Args:
        image_shape: unused, as in matterport's code.
        anchors: `[A, 4]`.
        gt_class_ids: `[N]` int, negative for crowds. Anchors on a crowd are not negative.
        gt_boxes: `[N, 4]`.
        rng: a NumPy Generator; None uses NumPy's global random state, in matterport's order.
        blocks: `anchor_blocks(anchors)`, if they are known.

    Returns:
        rpn_match: `[A]` int32: 1 positive, -1 negative, 0 neutral.
        rpn_bbox: `[RPN_TRAIN_ANCHORS_PER_IMAGE, (dy, dx, log(dh), log(dw))]` of the positive
            anchors, in their order, padded with zeros.
    """
    rng = rng or np.random
    blocks = blocks or anchor_blocks(anchors)
    crowds, objects = gt_boxes[gt_class_ids < 0], gt_boxes[gt_class_ids >= 0]
    best_iou, best_anchors = _match(objects, anchors, blocks, config)
    negative = (best_iou < config.RPN_NEGATIVE_IOU) & _outside(crowds, anchors, blocks)

    rpn_match = np.zeros(len(anchors), dtype=np.int32)
    rpn_match[negative] = -1
    # Each object gets its best anchors, however low their IoU; equal ones all count.
    rpn_match[best_anchors] = 1
    rpn_match[best_iou >= config.RPN_POSITIVE_IOU] = 1

    # At most half of the sample is positive; negatives complete it.
    count = config.RPN_TRAIN_ANCHORS_PER_IMAGE
    _subsample(rpn_match, 1, count // 2, rng)
    _subsample(rpn_match, -1, count - int(np.sum(rpn_match == 1)), rng)

    rpn_bbox = np.zeros((count, 4))
    positive = np.flatnonzero(rpn_match == 1)
    if len(positive):
        best_gt = boxes.iou(anchors[positive], objects).argmax(axis=1)
        deltas = boxes.encode(anchors[positive], objects[best_gt])
        rpn_bbox[: len(positive)] = deltas / config.RPN_BBOX_STD_DEV
    return rpn_match, rpn_bbox


def _match(
    objects: np.ndarray, anchors: np.ndarray, blocks: AnchorBlocks, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU of each anchor, and the best anchors of the objects.

    Returns: `[A]` best IoU, too low for some anchors below both thresholds; `[K]` anchor positions.
    """
    min_iou = min(config.RPN_NEGATIVE_IOU, config.RPN_POSITIVE_IOU)
    best_iou = np.zeros(len(anchors))
    best_anchors = [np.zeros(0, dtype=int)]
    for some in _chunks(objects):
        pairs = _overlaps(some, anchors, blocks, min_iou)
        np.maximum.at(best_iou, pairs.anchor, pairs.iou)
        best = np.zeros(len(some))
        np.maximum.at(best, pairs.box, pairs.iou)
        is_best = (pairs.iou == best[pairs.box]) & (pairs.iou >= min_iou)
        best_anchors.append(pairs.anchor[is_best])
        for box in some[best < min_iou]:  # its best anchors may have been pruned
            pairs = _overlaps(box[None], anchors, blocks, 0)
            best_anchors.append(pairs.anchor[pairs.iou == pairs.iou.max(initial=0)])
    return best_iou, np.concatenate(best_anchors)


def _outside(crowds: np.ndarray, anchors: np.ndarray, blocks: AnchorBlocks) -> np.ndarray:
    """`[A]` bool: the anchors that do not overlap a crowd by CROWD_IOU."""
    outside = np.ones(len(anchors), dtype=bool)
    for some in _chunks(crowds):
        pairs = _overlaps(some, anchors, blocks, CROWD_IOU)
        outside[pairs.anchor[pairs.iou >= CROWD_IOU]] = False
    return outside


def anchor_blocks(anchors: np.ndarray) -> AnchorBlocks:
    """Return the bounds of each block of anchors `[A, 4]`, the same for all images of one shape."""
    starts = np.arange(0, len(anchors), _BLOCK)
    y1, x1, y2, x2 = anchors.T
    area = boxes.area(anchors)
    return AnchorBlocks(
        np.minimum.reduceat(y1, starts),
        np.minimum.reduceat(x1, starts),
        np.maximum.reduceat(y2, starts),
        np.maximum.reduceat(x2, starts),
        np.minimum.reduceat(area, starts),
        np.maximum.reduceat(area, starts),
    )


def _chunks(gt_boxes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a few boxes at a time, which limits the memory of `_overlaps`."""
    for i in range(0, len(gt_boxes), _BOXES_AT_ONCE):
        yield gt_boxes[i : i + _BOXES_AT_ONCE]


def _overlaps(
    gt_boxes: np.ndarray, anchors: np.ndarray, blocks: AnchorBlocks, min_iou: float
) -> Pairs:
    """Pairs of a box and an anchor that overlap.

    Pairs with IoU < `min_iou` may be missing (pruned by the ratio of their areas), and a pair may
    be repeated.
    """
    gt_boxes = gt_boxes.astype(float)
    y1, x1, y2, x2 = gt_boxes.T[:, :, None]  # [N, 1] each
    meets = (blocks.y1 < y2) & (blocks.y2 > y1) & (blocks.x1 < x2) & (blocks.x2 > x1)  # [N, K]
    area = boxes.area(gt_boxes)[:, None]
    ratio = 0.999 * min_iou  # rounding must not prune a pair
    alike = (blocks.largest_area >= ratio * area) & (area >= ratio * blocks.smallest_area)
    box, block = np.nonzero(meets & alike)
    ids = block[:, None] * _BLOCK + np.arange(_BLOCK)  # [pairs of box and block, _BLOCK]
    ids = np.minimum(ids, len(anchors) - 1)  # the last block may be shorter
    iou = boxes.iou(anchors[ids], gt_boxes[box, None])[..., 0]
    pair, position = np.nonzero(iou)
    return Pairs(box[pair], ids[pair, position], iou[pair, position])


def _subsample(rpn_match: np.ndarray, label: int, count: int, rng: Any) -> None:
    """Set randomly chosen anchors of a label to neutral until `count` are left."""
    labelled = rpn_match == label
    ids = np.flatnonzero(labelled)
    if len(ids) <= count:
        return
    if isinstance(rng, np.random.Generator):
        # Drawing the few that stay is faster than drawing the many that go.
        kept = rng.choice(ids, count, replace=False)
        rpn_match[labelled] = 0
        rpn_match[kept] = label
    else:
        rpn_match[rng.choice(ids, len(ids) - count, replace=False)] = 0

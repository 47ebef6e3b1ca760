"""Targets of the RPN: anchors are matched to the objects of an image and sampled, in NumPy.

Shape shorthand: A anchors, K blocks of anchors, N boxes, P pairs of a box and an anchor.
Boxes and anchors are `(y1, x1, y2, x2)` in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..nn import boxes
from ..nn.boxes import CROWD_IOU

# Anchors per block. Consecutive anchors are neighbours, so most blocks can be skipped as a whole.
_BLOCK = 64


class AnchorBlocks(NamedTuple):
    """`[K]` each: the bounds and the areas of the anchors in blocks of `_BLOCK`."""

    y1: np.ndarray
    x1: np.ndarray
    y2: np.ndarray
    x2: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray


class Pairs(NamedTuple):
    """`[P]` each: a box and an anchor that intersect, by their indices, and their IoU."""

    box: np.ndarray
    anchor: np.ndarray
    iou: np.ndarray


def build_rpn_targets(
    image_shape: Any,
    anchors: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    config: Any,
    rng: Any = None,
    blocks: AnchorBlocks | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Match and sample anchors (Faster R-CNN, 3.1.2).

    image_shape: unused. anchors: `[A, 4]`. gt_class_ids: `[N]` int, crowds negative.
    gt_boxes: `[N, 4]`.
    rng: a NumPy Generator; None draws from NumPy's global generator, in matterport's order.
    blocks: `anchor_blocks(anchors)`, if it exists already.

    Returns:
        rpn_match: `[A]` int32: 1 positive, -1 negative, 0 neutral.
        rpn_bbox: `[RPN_TRAIN_ANCHORS_PER_IMAGE, (dy, dx, log(dh), log(dw))]` deltas of the
            positives, in their order, zero-padded.
    """
    rng = rng or np.random
    blocks = blocks or anchor_blocks(anchors)
    crowds, gt_boxes = gt_boxes[gt_class_ids < 0], gt_boxes[gt_class_ids >= 0]
    best_iou, best_anchors = _match(anchors, gt_boxes, blocks, config)

    rpn_match = np.zeros(len(anchors), dtype=np.int32)
    is_background = _outside_crowds(anchors, crowds, blocks)
    rpn_match[(best_iou < config.RPN_NEGATIVE_IOU) & is_background] = -1
    rpn_match[best_anchors] = 1
    rpn_match[best_iou >= config.RPN_POSITIVE_IOU] = 1

    # At most half of the sample is positive; negatives fill it up.
    total = config.RPN_TRAIN_ANCHORS_PER_IMAGE
    _keep_sample(rpn_match, 1, total // 2, rng)
    _keep_sample(rpn_match, -1, total - np.sum(rpn_match == 1), rng)

    rpn_bbox = np.zeros((total, 4))
    positive = np.flatnonzero(rpn_match == 1)
    if len(positive):
        best_gt = boxes.iou(anchors[positive], gt_boxes).argmax(axis=1)
        deltas = boxes.encode(anchors[positive], gt_boxes[best_gt])
        rpn_bbox[: len(positive)] = deltas / config.RPN_BBOX_STD_DEV
    return rpn_match, rpn_bbox


def anchor_blocks(anchors: np.ndarray) -> AnchorBlocks:
    """Return the bounds of blocks of the anchors `[A, 4]`.

    They take half of the time of `build_rpn_targets` and are the same for all images of one shape.
    """
    starts = np.arange(0, len(anchors), _BLOCK)
    y1, x1, y2, x2 = anchors.T
    area = boxes.area(anchors)
    return AnchorBlocks(
        y1=np.minimum.reduceat(y1, starts),
        x1=np.minimum.reduceat(x1, starts),
        y2=np.maximum.reduceat(y2, starts),
        x2=np.maximum.reduceat(x2, starts),
        smallest=np.minimum.reduceat(area, starts),
        largest=np.maximum.reduceat(area, starts),
    )


def _match(anchors, gt_boxes, blocks, config) -> tuple[np.ndarray, np.ndarray]:
    """`[A]` the best IoU of each anchor, and the indices of the best anchors of each object.

    An IoU below both thresholds may be too low. Each object has a best anchor, however low its IoU;
    all of equally good ones count.
    """
    best_iou = np.zeros(len(anchors))
    best_anchors = [np.zeros(0, dtype=int)]
    min_iou = min(config.RPN_NEGATIVE_IOU, config.RPN_POSITIVE_IOU)
    for chunk in _chunks(gt_boxes):
        pairs = _overlaps(chunk, anchors, blocks, min_iou)
        np.maximum.at(best_iou, pairs.anchor, pairs.iou)
        best = np.zeros(len(chunk))
        np.maximum.at(best, pairs.box, pairs.iou)
        is_best = (pairs.iou == best[pairs.box]) & (pairs.iou >= min_iou)
        best_anchors.append(pairs.anchor[is_best])
        for box in chunk[best < min_iou]:  # its best anchors may have been pruned
            pairs = _overlaps(box[None], anchors, blocks, 0)
            best_anchors.append(pairs.anchor[pairs.iou == pairs.iou.max(initial=0)])
    return best_iou, np.concatenate(best_anchors)


def _outside_crowds(anchors, crowds, blocks) -> np.ndarray:
    """`[A]` bool: the anchors that no crowd `[N, 4]` overlaps by CROWD_IOU."""
    is_outside = np.ones(len(anchors), dtype=bool)
    for chunk in _chunks(crowds):
        pairs = _overlaps(chunk, anchors, blocks, CROWD_IOU)
        is_outside[pairs.anchor[pairs.iou >= CROWD_IOU]] = False
    return is_outside


def _chunks(gt_boxes) -> Iterator[np.ndarray]:
    """Yield a few boxes at a time, which bounds the memory of `_overlaps`."""
    for start in range(0, len(gt_boxes), 8):
        yield gt_boxes[start : start + 8]


def _overlaps(gt_boxes, anchors, blocks: AnchorBlocks, min_iou) -> Pairs:
    """Return the pairs of a box `[N, 4]` and an anchor `[A, 4]` that intersect.

    Pairs with IoU < min_iou may be missing (pruned by area ratio). A pair may occur twice.
    """
    gt_boxes = gt_boxes.astype(float)
    y1, x1, y2, x2 = gt_boxes.T[:, :, None]  # [N, 1] each
    intersects = (blocks.y1 < y2) & (blocks.y2 > y1) & (blocks.x1 < x2) & (blocks.x2 > x1)
    area = boxes.area(gt_boxes)[:, None]
    ratio = 0.999 * min_iou  # a little lower, because areas are rounded
    is_similar = (blocks.largest >= ratio * area) & (area >= ratio * blocks.smallest)
    box, block = np.nonzero(intersects & is_similar)
    ids = block[:, None] * _BLOCK + np.arange(_BLOCK)  # [pairs of box and block, _BLOCK]
    ids = np.minimum(ids, len(anchors) - 1)  # the last block may be shorter
    overlaps = boxes.iou(anchors[ids], gt_boxes[box, None])[..., 0]
    row, column = np.nonzero(overlaps)
    return Pairs(box[row], ids[row, column], overlaps[row, column])


def _keep_sample(rpn_match, label, count, rng) -> None:
    """Make all but `count` of the anchors with this label neutral, at random."""
    has_label = rpn_match == label
    ids = np.flatnonzero(has_label)
    if len(ids) <= count:
        return
    if isinstance(rng, np.random.Generator):
        # Drawing the few that stay is faster than drawing the many that go.
        kept = rng.choice(ids, count, replace=False)
        rpn_match[has_label] = 0
        rpn_match[kept] = label
    else:
        rpn_match[rng.choice(ids, len(ids) - count, replace=False)] = 0

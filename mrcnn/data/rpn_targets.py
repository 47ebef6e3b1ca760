"""Which anchors of an image are objects, and the deltas that the RPN learns, in NumPy."""

from __future__ import annotations

import numpy as np

from ..nn import boxes
from ..nn.boxes import CROWD_IOU

_BLOCK = (
    64  # anchors that follow one another, and so lie side by side, are first looked at together
)


def build_rpn_targets(image_shape, anchors, gt_class_ids, gt_boxes, config, rng=None, blocks=None):
    """Which anchors are objects, which are background, and the deltas of those that are objects.

    image_shape: `(height, width, ...)`, unused, kept for its place. anchors: `[A, (y1, x1, y2, x2)]` pixels.
    gt_class_ids: `[N]` int. gt_boxes: `[N, (y1, x1, y2, x2)]` pixels. rng: a numpy Generator; None draws from
    NumPy's global generator, in matterport's order. blocks: `anchor_blocks(anchors)`, if made before.

    Returns:
        rpn_match: `[A]` int32: 1 positive, -1 negative, 0 neutral (Faster R-CNN, 3.1.2).
        rpn_bbox: `[RPN_TRAIN_ANCHORS_PER_IMAGE, (dy, dx, log(dh), log(dw))]` of the positives, in their order.
    """
    rng = rng or np.random
    rpn_match = np.zeros(len(anchors), dtype=np.int32)
    rpn_bbox = np.zeros((config.RPN_TRAIN_ANCHORS_PER_IMAGE, 4))

    blocks = blocks or anchor_blocks(anchors)
    background = np.ones(len(anchors), dtype=bool)
    for crowd in _some(gt_boxes[gt_class_ids < 0]):
        _, ids, overlaps = _overlaps(crowd, anchors, blocks, CROWD_IOU)
        background[ids[overlaps >= CROWD_IOU]] = False

    gt_boxes = gt_boxes[gt_class_ids >= 0]
    best_iou = np.zeros(len(anchors))  # those below the thresholds may stand too low
    best_of_gt = [np.zeros(0, dtype=int)]
    least = min(config.RPN_NEGATIVE_IOU, config.RPN_POSITIVE_IOU)
    for some in _some(gt_boxes):
        which, ids, overlaps = _overlaps(some, anchors, blocks, least)
        np.maximum.at(best_iou, ids, overlaps)
        best = np.zeros(len(some))
        np.maximum.at(best, which, overlaps)
        best_of_gt.append(ids[(overlaps == best[which]) & (overlaps >= least)])
        for box in some[best < least]:  # its best ones may be among those that were left out
            _, ids, overlaps = _overlaps(box[None], anchors, blocks, 0)
            best_of_gt.append(ids[overlaps == overlaps.max(initial=0)])
    rpn_match[(best_iou < config.RPN_NEGATIVE_IOU) & background] = -1
    # Every object gets its best anchors, however low their IoU; ties all count.
    rpn_match[np.concatenate(best_of_gt)] = 1
    rpn_match[best_iou >= config.RPN_POSITIVE_IOU] = 1

    # At most half of the sample is positive; negatives fill it up.
    _drop(rpn_match, 1, config.RPN_TRAIN_ANCHORS_PER_IMAGE // 2, rng)
    _drop(rpn_match, -1, config.RPN_TRAIN_ANCHORS_PER_IMAGE - np.sum(rpn_match == 1), rng)

    positive = np.flatnonzero(rpn_match == 1)
    if len(positive):
        best_gt = boxes.iou(anchors[positive], gt_boxes).argmax(axis=1)
        deltas = boxes.encode(anchors[positive], gt_boxes[best_gt])
        rpn_bbox[: len(positive)] = deltas / config.RPN_BBOX_STD_DEV
    return rpn_match, rpn_bbox


def anchor_blocks(anchors):
    """`[K]` each: the least y1 and x1, the largest y2 and x2, the least and the largest area in a block of anchors.

    Half of what `build_rpn_targets` takes, and the same for all images of one shape.
    """
    starts = np.arange(0, len(anchors), _BLOCK)
    y1, x1, y2, x2 = anchors.T
    area = boxes.area(anchors)
    least = [np.minimum.reduceat(side, starts) for side in (y1, x1, area)]
    largest = [np.maximum.reduceat(side, starts) for side in (y2, x2, area)]
    return *least[:2], *largest[:2], least[2], largest[2]


def _some(gt_boxes):
    """A few boxes at a time: fewer steps than one by one, and a bound on the memory of `_overlaps`."""
    return (gt_boxes[i : i + 8] for i in range(0, len(gt_boxes), 8))


def _overlaps(gt_boxes, anchors, blocks, least):
    """Pairs of a box and an anchor that share some area: `[P]` index of the box, index of the anchor, and IoU.

    Not all: of those with an IoU below `least`, many are left out, because one area is so much larger than the other.
    A pair may come twice. gt_boxes: `[N, 4]`. blocks: of `anchor_blocks`.
    """
    gt_boxes = gt_boxes.astype(float)
    *bounds, smallest, largest = blocks
    share, area = 0.999 * least, boxes.area(gt_boxes)[:, None]  # rounding leaves out none
    near = (
        _meets(bounds, gt_boxes.T[:, :, None])
        & (largest >= share * area)
        & (area >= share * smallest)
    )  # [N, K]
    which, block = np.nonzero(near)
    ids = np.minimum(
        block[:, None] * _BLOCK + np.arange(_BLOCK), len(anchors) - 1
    )  # the last block may be shorter
    overlaps = boxes.iou(anchors[ids], gt_boxes[which, None])[
        ..., 0
    ]  # [pairs of box and block, _BLOCK]
    pair, place = np.nonzero(overlaps)
    return which[pair], ids[pair, place], overlaps[pair, place]


def _meets(sides, box):
    """Which of some boxes share some area with a box; both by their sides `[(y1, x1, y2, x2), ...]`."""
    y1, x1, y2, x2 = sides
    return (y1 < box[2]) & (y2 > box[0]) & (x1 < box[3]) & (x2 > box[1])


def _drop(rpn_match, label, keep, rng) -> None:
    labelled = rpn_match == label
    ids = np.flatnonzero(labelled)
    if len(ids) <= keep:
        return
    if isinstance(
        rng, np.random.Generator
    ):  # the few that stay are drawn faster than the many that go
        kept = rng.choice(ids, keep, replace=False)
        rpn_match[labelled] = 0
        rpn_match[kept] = label
    else:
        rpn_match[rng.choice(ids, len(ids) - keep, replace=False)] = 0

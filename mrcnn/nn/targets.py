"""Who learns what: match anchors and proposals to the truth, sample them, encode what they should say.

Two routes lead here. The data generator matches anchors in numpy (`build_rpn_targets`); the network matches its
own proposals in tensors of fixed shape (`detection_targets`). Both exclude what a crowd covers: a crowd is an
instance with a negative class id, whose box stands for many objects nobody outlined.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from ..data.image import resize
from ..data.masks import expand_mask
from . import boxes
from .ops import crop_and_resize, image_of_rois

# An anchor or proposal that overlaps a crowd by more than this is not taken as background.
CROWD_IOU = 0.001

_BLOCK = (
    64  # anchors that follow one another, and so lie side by side, are first looked at together
)


# --- Anchors of a network ---------------------------------------------------------------------------------------


def compute_backbone_shapes(config, image_shape) -> np.ndarray:
    """`[5, (height, width)]` sizes of P2..P6 for an image of this shape."""
    if callable(config.BACKBONE):
        return config.COMPUTE_BACKBONE_SHAPE(image_shape)
    height, width = image_shape[:2]
    return np.array(
        [[-(-height // stride), -(-width // stride)] for stride in config.BACKBONE_STRIDES]
    )


def pyramid_anchors(config, image_shape) -> np.ndarray:
    """`[A, (y1, x1, y2, x2)]` pixel anchors of the config's network for an image of this shape.

    With k RPN_ANCHOR_SCALES the RPN looks at the first k pyramid levels.
    """
    return boxes.generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        compute_backbone_shapes(config, image_shape),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )


# --- Anchors (numpy, in the data generator) --------------------------------------------------------------------


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


# --- RoIs (numpy, when the heads are trained on random RoIs) ---------------------------------------------------


def generate_random_rois(image_shape, count, gt_class_ids, gt_boxes, rng=None) -> np.ndarray:
    """`[count, (y1, x1, y2, x2)]` int32 pixels: nine in ten around the objects, the rest anywhere.

    image_shape: `(height, width, ...)`. gt_class_ids: unused, kept for its place. gt_boxes: `[N, 4]` pixels.
    """
    rng = rng or np.random
    height, width = image_shape[:2]
    rois = np.zeros((count, 4), dtype=np.int32)
    per_box = int(0.9 * count / len(gt_boxes)) if len(gt_boxes) else 0
    for i, (y1, x1, y2, x2) in enumerate(gt_boxes):
        h, w = y2 - y1, x2 - x1
        rows, columns = (max(y1 - h, 0), min(y2 + h, height)), (max(x1 - w, 0), min(x2 + w, width))
        rois[per_box * i : per_box * (i + 1)] = _random_boxes(rows, columns, per_box, rng)
    done = per_box * len(gt_boxes)
    rois[done:] = _random_boxes((0, height), (0, width), count - done, rng)
    return rois


def _random_boxes(rows, columns, count, rng) -> np.ndarray:
    """`[count, 4]` boxes of at least one pixel inside the rows and columns."""
    draw = rng.randint if hasattr(rng, "randint") else rng.integers
    while True:
        y = draw(*rows, (count * 2, 2))
        x = draw(*columns, (count * 2, 2))
        y = np.sort(y[y[:, 0] != y[:, 1]][:count], axis=1)
        x = np.sort(x[x[:, 0] != x[:, 1]][:count], axis=1)
        if len(y) == count and len(x) == count:
            return np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], axis=1)


def build_detection_targets(rpn_rois, gt_class_ids, gt_boxes, gt_masks, config, rng=None):
    """Targets of the heads for given RoIs, in numpy: for looking at them, or training without the RPN.

    rpn_rois: `[N, (y1, x1, y2, x2)]` pixels. gt_class_ids: `[M]`. gt_boxes: `[M, 4]` pixels.
    gt_masks: `[H, W, M]`, or mini-masks.

    Returns, for TRAIN_ROIS_PER_IMAGE RoIs:
        rois `[T, 4]`; class ids `[T]`; deltas `[T, NUM_CLASSES, 4]`; masks `[T, *MASK_SHAPE, NUM_CLASSES]`.

    Raises: ValueError where there are no RoIs or no objects to match.
    """
    rng = rng or np.random
    real = np.flatnonzero(gt_class_ids > 0)
    if len(rpn_rois) == 0 or len(real) == 0:
        raise ValueError(
            f"Detection targets need RoIs and objects. Received: {len(rpn_rois)} RoIs, {len(real)} objects. "
            "Try skipping images without objects when detection_targets=True."
        )
    gt_class_ids, gt_boxes, gt_masks = gt_class_ids[real], gt_boxes[real], gt_masks[:, :, real]
    overlaps = boxes.iou(rpn_rois, gt_boxes)
    best_gt = overlaps.argmax(axis=1)
    best_iou = overlaps.max(axis=1)
    class_ids = gt_class_ids[best_gt]

    def sample(ids, count):
        return rng.choice(ids, count, replace=False) if len(ids) > count else ids

    total = config.TRAIN_ROIS_PER_IMAGE
    positive = sample(
        np.flatnonzero(best_iou > config.ROI_POSITIVE_IOU), int(total * config.ROI_POSITIVE_RATIO)
    )
    negative = sample(np.flatnonzero(best_iou < config.ROI_POSITIVE_IOU), total - len(positive))
    keep = np.concatenate([positive, negative])
    if len(keep) < total:  # too few: some come again
        again = negative if len(negative) else keep
        keep = np.concatenate([keep, rng.choice(again, total - len(keep), replace=True)])
    class_ids[negative] = 0

    rois, class_ids, best_gt = rpn_rois[keep], class_ids[keep], best_gt[keep]
    bboxes = np.zeros((total, config.NUM_CLASSES, 4), dtype=np.float32)
    masks = np.zeros((total, *config.MASK_SHAPE, config.NUM_CLASSES), dtype=np.float32)
    for i in np.flatnonzero(class_ids > 0):
        gt = best_gt[i]
        roi, gt_box = rois[i].astype(np.float32), gt_boxes[gt].astype(np.float32)
        bboxes[i, class_ids[i]] = boxes.encode(roi, gt_box)
        mask = gt_masks[:, :, gt]
        if config.USE_MINI_MASK:
            mask = expand_mask(
                gt_boxes[gt][None], mask[:, :, None], config.IMAGE_SHAPE, exact=True
            )[:, :, 0]
        y1, x1, y2, x2 = rois[i].astype(int)
        masks[i, :, :, class_ids[i]] = resize(mask[y1:y2, x1:x2], config.MASK_SHAPE)
    return rois, class_ids, bboxes / config.BBOX_STD_DEV.astype(np.float32), masks


# --- RoIs (tensors, in the network) ----------------------------------------------------------------------------


def detection_targets(proposals, gt_class_ids, gt_boxes, gt_masks, priorities, config):
    """RoIs sampled from the proposals and what the heads should say of them (Mask R-CNN, 3.1).

    Fixed shapes throughout: T = TRAIN_ROIS_PER_IMAGE, positives first, then negatives, then zeros.

    proposals: `[B, N, (y1, x1, y2, x2)]` normalised, zero-padded. gt_class_ids: `[B, M]`, zero-padded.
    gt_boxes: `[B, M, (y1, x1, y2, x2)]` normalised. gt_masks: `[B, H, W, M]`, or mini-masks; None without masks.
    priorities: `[B, N]` in (0, 1]: of the candidates those with the highest are taken.

    Returns:
        rois `[B, T, 4]` normalised, target_class_ids `[B, T]` int32 (0 = background),
        target_deltas `[B, T, 4]`, target_masks `[B, T, *MASK_SHAPE]` of zeros and ones, or None.
    """
    total = config.TRAIN_ROIS_PER_IMAGE
    missing = max(
        0, total - proposals.shape[1]
    )  # a network may propose less than it could train on
    proposals = ops.pad(proposals, [[0, 0], [0, missing], [0, 0]])
    priorities = ops.pad(priorities, [[0, 0], [0, missing]])
    gt_class_ids = ops.cast(gt_class_ids, "int32")
    is_proposal = ops.any(proposals != 0, axis=-1)  # [B, N]; the rest is padding
    overlaps = boxes.iou(proposals, gt_boxes)  # [B, N, M]
    gt_overlaps = ops.where(gt_class_ids[:, None, :] > 0, overlaps, -1.0)
    crowd_overlaps = ops.where(gt_class_ids[:, None, :] < 0, overlaps, -1.0)
    best_gt = ops.argmax(gt_overlaps, axis=-1)  # [B, N]
    best_iou = ops.max(gt_overlaps, axis=-1)
    is_positive = (best_iou >= config.ROI_POSITIVE_IOU) & is_proposal
    is_negative = (
        (best_iou < config.ROI_POSITIVE_IOU)
        & is_proposal
        & (ops.max(crowd_overlaps, axis=-1) < CROWD_IOU)
    )

    # The best candidates of each kind; negatives as many as keep the ratio.
    slots = positive_slots(config)
    positive_rank, positive = _take(is_positive, priorities, slots)
    negative_rank, negative = _take(is_negative, priorities, total)
    positives = ops.sum(ops.cast(positive_rank, "int32"), axis=1, keepdims=True)  # [B, 1]
    wanted = (
        ops.cast(ops.cast(positives, "float32") * (1.0 / config.ROI_POSITIVE_RATIO), "int32")
        - positives
    )
    # Without any object all RoIs are background, so that images without objects teach too.
    wanted = ops.where(positives > 0, wanted, total)
    negative_rank = negative_rank & (ops.arange(ops.shape(negative)[1])[None] < wanted)

    # Close the gap between the last positive and the first negative.
    chosen = ops.concatenate([positive, negative], axis=1)
    is_chosen = ops.concatenate([positive_rank, negative_rank], axis=1)
    is_chosen, place = _take(is_chosen, _descending(is_chosen), total)
    chosen = ops.take_along_axis(chosen, place, axis=1)  # [B, T]
    is_positive = is_chosen & (place < ops.shape(positive)[1])

    rois = _gather(proposals, chosen) * ops.cast(is_chosen, "float32")[..., None]
    gt = ops.take_along_axis(best_gt, chosen, axis=1)  # [B, T]
    class_ids = ops.where(is_positive, ops.take_along_axis(gt_class_ids, gt, axis=1), 0)
    roi_gt_boxes = _gather(gt_boxes, gt)
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    safe_rois = ops.where(
        is_positive[..., None], rois, unit
    )  # no logarithm of zero where nothing is learned
    safe_gt = ops.where(is_positive[..., None], roi_gt_boxes, unit)
    deltas = boxes.encode(safe_rois, safe_gt) / ops.convert_to_tensor(
        np.float32(config.BBOX_STD_DEV)
    )

    if gt_masks is None:
        return rois, class_ids, deltas, None
    masks = _mask_targets(
        safe_rois[:, :slots],
        gt[:, :slots],
        safe_gt[:, :slots],
        gt_masks,
        config.USE_MINI_MASK,
        config.MASK_SHAPE,
    )
    masks = masks * ops.cast(is_positive[:, :slots], "float32")[..., None, None]
    return rois, class_ids, deltas, ops.pad(masks, [[0, 0], [0, total - slots], [0, 0], [0, 0]])


def positive_slots(config) -> int:
    """The most positives an image can have: they are the first so many of its RoIs."""
    return int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO)


def _take(candidates, priorities, count):
    """`[B, count]` bool which are candidates, and `[B, count]` int32 indices, highest priority first."""
    count = min(count, candidates.shape[1])
    priority, index = ops.top_k(ops.where(candidates, priorities, -1.0), count)
    return priority >= 0, index


def _descending(like):
    """`[B, N]` float32 priorities that keep the order, the first one highest."""
    count = like.shape[1]
    return (
        ops.zeros_like(like, dtype="float32")
        + 1.0
        - ops.arange(count, dtype="float32")[None] / count
    )


def _gather(rows, index):
    """`[B, K, D]` the rows `[B, N, D]` at `[B, K]`."""
    return ops.take_along_axis(rows, index[..., None], axis=1)


def _mask_targets(rois, gt, gt_boxes, gt_masks, mini, mask_shape):
    """`[B, P, *mask_shape]` zeros and ones: each RoI's window of its object's mask (Mask R-CNN, 3.1).

    rois, gt_boxes: `[B, P, 4]` normalised. gt: `[B, P]` which of the `[B, H, W, M]` masks.
    """
    if mini:  # a mini-mask covers its box, not the image: boxes relative to it
        size = gt_boxes[..., 2:] - gt_boxes[..., :2]
        corner = gt_boxes[..., :2]
        rois = ops.concatenate(
            [(rois[..., :2] - corner) / size, (rois[..., 2:] - corner) / size], axis=-1
        )
    # The RoI's window of all M masks, then its own: a copy of [H, W, M] with M first would cost far more.
    slots, masks = rois.shape[1], ops.cast(gt_masks, "uint8")
    crops = crop_and_resize(
        masks, ops.reshape(rois, [-1, 4]), image_of_rois(rois), mask_shape
    )  # [B * P, h, w, M]
    own = ops.one_hot(ops.reshape(gt, [-1]), ops.shape(gt_masks)[3], dtype="float32")  # [B * P, M]
    crops = ops.sum(crops * own[:, None, None, :], axis=-1)
    return ops.round(ops.reshape(crops, [-1, slots, *mask_shape]))

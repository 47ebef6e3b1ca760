"""Every loss that training minimises, as pure functions.

Each loss is a mean over the elements that count, returned as `(numerator, count)`, so that several
devices can add both before they divide. If no element counts, the loss is 0, never NaN.

Shape shorthand: B images, A anchors, K RPN targets, T RoIs, h and w the sides of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .keras_ops import ops

# Keras 2 kept probabilities between EPSILON and the float32 below 1, and then added EPSILON again.
EPSILON, BELOW_ONE = 1e-7, 2**-23


def mean(numerator: Any, count: Any) -> Any:
    """`[]` the loss: numerator / count, scalars; 0 if count is 0."""
    return numerator / ops.maximum(count, 1.0)


def smooth_l1(y_true: Any, y_pred: Any, beta: float = 1.0) -> Any:
    """`[...]` smooth L1 of each element of `[...]` (Fast R-CNN, equation 3, where beta is 1).

    `0.5 d^2 / beta` for a difference d below beta, `d - 0.5 beta` above; beta 0 is L1.
    """
    difference = ops.abs(y_true - y_pred)
    if beta == 0:
        return difference
    quadratic = 0.5 / beta * difference**2
    return ops.where(difference < beta, quadratic, difference - 0.5 * beta)


def rpn_class_loss(
    rpn_match: Any, rpn_class_logits: Any, focal_gamma: float = 0.0
) -> tuple[Any, Any]:
    """Cross-entropy over positive and negative anchors; neutral ones do not count.

    rpn_match: `[B, A, 1]` or `[B, A]`: 1 positive, -1 negative, 0 neutral.
    rpn_class_logits: `[B, A, (background, object)]`. focal_gamma: see `Config.FOCAL_GAMMA`.
    """
    rpn_match = ops.reshape(rpn_match, ops.shape(rpn_class_logits)[:2])
    counts = ops.cast(rpn_match != 0, "float32")
    loss = _cross_entropy(ops.cast(rpn_match == 1, "int32"), rpn_class_logits, focal_gamma)
    return ops.sum(loss * counts), ops.sum(counts)


def rpn_bbox_loss(
    target_bbox: Any, rpn_match: Any, rpn_bbox: Any, beta: float = 1.0, per_sampled: bool = False
) -> tuple[Any, Any]:
    """Smooth L1 over the deltas of the positive anchors.

    target_bbox: `[B, K, 4]` deltas of the positives in their order, zero-padded.
    rpn_match: `[B, A, 1]` or `[B, A]`. rpn_bbox: `[B, A, 4]`.
    beta: see `Config.RPN_SMOOTH_L1_BETA`.
    per_sampled: count the positive and negative anchors, not the deltas of the positive ones.
    """
    rpn_match = ops.reshape(rpn_match, ops.shape(rpn_bbox)[:2])
    anchors, rows = rpn_bbox.shape[1] or ops.shape(rpn_bbox)[1], target_bbox.shape[1]
    positive = ops.cast(rpn_match == 1, "int32")
    # The first `rows` positives, in order: the earlier the anchor, the higher its rank.
    rank, index = ops.top_k(positive * (anchors - ops.arange(anchors, dtype="int32")), rows)
    is_positive = ops.cast(rank > 0, "float32")
    predicted = ops.take_along_axis(rpn_bbox, ops.cast(index, "int32")[..., None], axis=1)
    loss = smooth_l1(ops.cast(target_bbox, "float32"), predicted, beta) * is_positive[..., None]
    if per_sampled:
        return ops.sum(loss), ops.sum(ops.cast(rpn_match != 0, "float32"))
    return ops.sum(loss), ops.sum(is_positive) * 4.0


def mrcnn_class_loss(
    target_class_ids: Any,
    pred_class_logits: Any,
    active_class_ids: Any,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 0.0,
    is_roi: Any = None,
) -> tuple[Any, Any]:
    """Cross-entropy over the RoIs whose predicted class is active in their image.

    target_class_ids: `[B, T]`. pred_class_logits: `[B, T, NUM_CLASSES]`.
    active_class_ids: `[B, NUM_CLASSES]` 1 for the classes that the image's source labels, else 0.
    class_weights: `[NUM_CLASSES]` the weight of a RoI of each class, in the numerator and in the
        count; None: 1.
    focal_gamma: see `Config.FOCAL_GAMMA`.
    is_roi: `[B, T]` False for padding; None: padding counts as background, as in matterport's loss.
    """
    best = ops.argmax(pred_class_logits, axis=-1)
    counts = ops.take_along_axis(ops.cast(active_class_ids, "float32"), best, axis=1)
    if class_weights is not None:
        counts *= ops.take(ops.convert_to_tensor(class_weights, "float32"), target_class_ids)
    if is_roi is not None:
        counts *= ops.cast(is_roi, "float32")
    loss = _cross_entropy(target_class_ids, pred_class_logits, focal_gamma)
    return ops.sum(loss * counts), ops.sum(counts)


def mrcnn_bbox_loss(
    target_bbox: Any, target_class_ids: Any, pred_bbox: Any, beta: float = 1.0, is_roi: Any = None
) -> tuple[Any, Any]:
    """Smooth L1 over the positive RoIs' deltas for their own class.

    target_bbox: `[B, T, 4]`. target_class_ids: `[B, T]`.
    pred_bbox: `[B, T, NUM_CLASSES, 4]`, or `[B, T, 1, 4]` for all classes.
    beta: see `Config.BOX_SMOOTH_L1_BETA`.
    is_roi: `[B, T]` False for padding: count these RoIs; None: the deltas of the positive ones.
    """
    own = _own_row(target_class_ids, pred_bbox.shape[2])[..., None]
    positive = ops.cast(target_class_ids > 0, "float32")
    loss = smooth_l1(target_bbox, ops.sum(pred_bbox * own, axis=2), beta) * positive[..., None]
    if is_roi is not None:
        return ops.sum(loss), ops.sum(ops.cast(is_roi, "float32"))
    return ops.sum(loss), ops.sum(positive) * 4.0


def mrcnn_mask_loss(target_masks: Any, target_class_ids: Any, pred_masks: Any) -> tuple[Any, Any]:
    """Binary cross-entropy over the pixels of the positive RoIs' masks of their own class.

    Source: Mask R-CNN, section 3.

    target_masks: `[B, T, h, w]` from 0 to 1. target_class_ids: `[B, T]`.
    pred_masks: `[B, P, h, w, NUM_CLASSES]` probabilities, or `[B, P, h, w, 1]` for all classes, of
        the first P <= T RoIs, which include all positives.
    """
    slots = pred_masks.shape[1]
    target_masks, target_class_ids = target_masks[:, :slots], target_class_ids[:, :slots]
    own = _own_row(target_class_ids, pred_masks.shape[4])[:, :, None, None, :]
    loss = _binary_cross_entropy(target_masks, ops.sum(pred_masks * own, axis=-1))
    positive = ops.cast(target_class_ids > 0, "float32")
    pixels = pred_masks.shape[2] * pred_masks.shape[3]
    return ops.sum(loss * positive[..., None, None]), ops.sum(positive) * pixels


def mrcnn_keypoint_loss(target_cells: Any, heatmaps: Any) -> tuple[Any, Any]:
    """Cross-entropy over the cells of a heatmap, of the keypoints that count.

    Source: Mask R-CNN, section 5.

    target_cells: `[B, P, K]` int32, row by row; -1 does not count. heatmaps: `[B, P, h, w, K]`.
    """
    cells = heatmaps.shape[2] * heatmaps.shape[3]
    logits = ops.reshape(heatmaps, [-1, cells, heatmaps.shape[4]])  # [B * P, cells, K]
    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=1)
    target = ops.reshape(target_cells, [-1, 1, heatmaps.shape[4]])  # [B * P, 1, K]
    own = ops.take_along_axis(log_p, ops.maximum(target, 0), axis=1)
    counts = ops.cast(target >= 0, "float32")
    return ops.sum(-own * counts), ops.sum(counts)


def _cross_entropy(class_ids, logits, focal_gamma):
    """`[...]` cross-entropy of each row of logits; times `(1 - p)^gamma`, p the true class's."""
    own = _one_hot(class_ids, logits.shape[-1])
    log_p = ops.sum(own * ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)
    if not focal_gamma:
        return -log_p
    # EPSILON, because the gradient of a root at 0 is infinite.
    return -log_p * ops.maximum(-ops.expm1(log_p), EPSILON) ** focal_gamma


def _binary_cross_entropy(y_true, probs):
    """`[...]` of each element; a saturated probability costs `-log(2e-7)`, as in Keras 2."""
    # Not `1 - p + EPSILON`, which the graph optimizer would turn into `(1 + EPSILON) - p`.
    is_object = ops.maximum(probs, EPSILON) + EPSILON
    is_background = ops.maximum(1.0 - probs, BELOW_ONE) + EPSILON
    return -(y_true * ops.log(is_object) + (1.0 - y_true) * ops.log(is_background))


def _own_row(class_ids, rows):
    """`[..., rows]` one-hot: the row of each class; a single row is that of every class."""
    return _one_hot(ops.zeros_like(class_ids) if rows == 1 else class_ids, rows)


def _one_hot(class_ids, classes):
    return ops.one_hot(ops.cast(class_ids, "int32"), classes, dtype="float32")

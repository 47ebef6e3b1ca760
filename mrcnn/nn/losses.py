"""Every scalar that is minimised, as pure functions, and their weighted sum.

Each loss is a mean over what counts, given as its two halves `(numerator, count)`, so that replicas can add up both
before they divide; nothing to count gives 0, never NaN.
"""

from __future__ import annotations

from keras import ops

# Keras 2 kept probabilities this far from 0, and the next float32 below 1 from 1, and then added it once more.
EPSILON, BELOW_ONE = 1e-7, 2**-23


def mean(numerator, count):
    """The loss: numerator / count, 0 where nothing counts."""
    return numerator / ops.maximum(count, 1.0)


def smooth_l1(y_true, y_pred):
    """Element by element: `0.5 d^2` below a difference of 1, `d - 0.5` above (Fast R-CNN, equation 3)."""
    difference = ops.abs(y_true - y_pred)
    return ops.where(difference < 1.0, 0.5 * difference**2, difference - 0.5)


def rpn_class_loss(rpn_match, rpn_class_logits, focal_gamma=0.0):
    """Cross-entropy over positive and negative anchors; neutral ones do not count.

    rpn_match: `[B, A, 1]` or `[B, A]`: 1, -1, 0. rpn_class_logits: `[B, A, (background, object)]`.
    focal_gamma: see `Config.FOCAL_GAMMA`.
    """
    rpn_match = ops.reshape(rpn_match, ops.shape(rpn_class_logits)[:2])
    counts = ops.cast(rpn_match != 0, "float32")
    loss = _cross_entropy(ops.cast(rpn_match == 1, "int32"), rpn_class_logits, focal_gamma)
    return ops.sum(loss * counts), ops.sum(counts)


def rpn_bbox_loss(target_bbox, rpn_match, rpn_bbox):
    """Smooth L1 over the positive anchors' deltas.

    target_bbox: `[B, K, 4]` deltas of the positives in their order, zero-padded. rpn_match: `[B, A, 1]`.
    rpn_bbox: `[B, A, 4]`.
    """
    rpn_match = ops.reshape(rpn_match, ops.shape(rpn_bbox)[:2])
    anchors, rows = rpn_bbox.shape[1] or ops.shape(rpn_bbox)[1], target_bbox.shape[1]
    positive = ops.cast(rpn_match == 1, "int32")
    # The first `rows` positives, in order: the earlier the anchor, the higher its rank.
    rank, index = ops.top_k(positive * (anchors - ops.arange(anchors, dtype="int32")), rows)
    is_positive = ops.cast(rank > 0, "float32")
    predicted = ops.take_along_axis(rpn_bbox, ops.cast(index, "int32")[..., None], axis=1)
    loss = smooth_l1(ops.cast(target_bbox, "float32"), predicted) * is_positive[..., None]
    return ops.sum(loss), ops.sum(is_positive) * 4.0


def mrcnn_class_loss(
    target_class_ids, pred_class_logits, active_class_ids, class_weights=None, focal_gamma=0.0
):
    """Cross-entropy over the RoIs; a RoI whose best class its image's source does not know does not count.

    target_class_ids: `[B, T]`. pred_class_logits: `[B, T, NUM_CLASSES]`. active_class_ids: `[B, NUM_CLASSES]`.
    class_weights: how much a RoI of each class counts, in the sum and in what it is divided by; None: 1.
    focal_gamma: see `Config.FOCAL_GAMMA`.
    """
    best = ops.argmax(pred_class_logits, axis=-1)
    counts = ops.take_along_axis(ops.cast(active_class_ids, "float32"), best, axis=1)
    if class_weights is not None:
        counts *= ops.take(ops.convert_to_tensor(class_weights, "float32"), target_class_ids)
    return ops.sum(
        _cross_entropy(target_class_ids, pred_class_logits, focal_gamma) * counts
    ), ops.sum(counts)


def mrcnn_bbox_loss(target_bbox, target_class_ids, pred_bbox):
    """Smooth L1 over the positive RoIs' deltas for their own class.

    target_bbox: `[B, T, 4]`. target_class_ids: `[B, T]`. pred_bbox: `[B, T, NUM_CLASSES, 4]`, or `[B, T, 1, 4]`
    for all classes.
    """
    own = _own(target_class_ids, pred_bbox.shape[2])[..., None]
    positive = ops.cast(target_class_ids > 0, "float32")
    loss = smooth_l1(target_bbox, ops.sum(pred_bbox * own, axis=2)) * positive[..., None]
    return ops.sum(loss), ops.sum(positive) * 4.0


def mrcnn_mask_loss(target_masks, target_class_ids, pred_masks):
    """Binary cross-entropy over the positive RoIs' pixels, on the mask of their own class (Mask R-CNN, 3).

    target_masks: `[B, T, h, w]` zeros and ones. target_class_ids: `[B, T]`.
    pred_masks: `[B, T, h, w, NUM_CLASSES]` probabilities, or `[..., 1]` for all classes; or only the first P <= T
    RoIs, where all positives lie.
    """
    slots = pred_masks.shape[1]
    target_masks, target_class_ids = target_masks[:, :slots], target_class_ids[:, :slots]
    own = _own(target_class_ids, pred_masks.shape[4])[:, :, None, None, :]
    loss = _binary_cross_entropy(target_masks, ops.sum(pred_masks * own, axis=-1))
    positive = ops.cast(target_class_ids > 0, "float32")
    pixels = pred_masks.shape[2] * pred_masks.shape[3]
    return ops.sum(loss * positive[..., None, None]), ops.sum(positive) * pixels


def weight_decay(weights, rate):
    """`rate * sum(w^2) / size(w)`, summed over the weights that decay: all but batch norm's gamma and beta."""
    decayed = [weight for weight in weights if weight.name.split("/")[-1] not in ("gamma", "beta")]
    return sum((rate * ops.mean(ops.square(weight)) for weight in decayed), ops.zeros(()))


def _cross_entropy(class_ids, logits, focal_gamma):
    """`[...]` cross-entropy of each row of logits; times `(1 - p)^gamma`, p the probability of its class."""
    own = _one_hot(class_ids, logits.shape[-1])
    log_p = ops.sum(own * ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)
    if not focal_gamma:
        return -log_p
    return (
        -log_p * ops.maximum(-ops.expm1(log_p), EPSILON) ** focal_gamma
    )  # a root has no slope at 0


def _binary_cross_entropy(y_true, probs):
    """Element by element; a saturated probability costs `-log(2e-7)`, as in Keras 2."""
    # Not written as `1 - p + EPSILON`: the graph optimiser would turn it into `(1 + EPSILON) - p`.
    is_object = ops.maximum(probs, EPSILON) + EPSILON
    is_background = ops.maximum(1.0 - probs, BELOW_ONE) + EPSILON
    return -(y_true * ops.log(is_object) + (1.0 - y_true) * ops.log(is_background))


def _own(class_ids, rows):
    """`[..., rows]` one-hot: each class's own row; where there is one alone, it serves every class."""
    return _one_hot(ops.zeros_like(class_ids) if rows == 1 else class_ids, rows)


def _one_hot(class_ids, classes):
    return ops.one_hot(ops.cast(class_ids, "int32"), classes, dtype="float32")

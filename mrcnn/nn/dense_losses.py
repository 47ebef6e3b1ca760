"""The losses of networks without an RPN, of every anchor, as pure functions.

Shape shorthand: B images, A anchors of all levels.
"""

from __future__ import annotations

from typing import Any

from . import boxes as box_math
from .keras_ops import ops
from .losses import EPSILON


def sigmoid_focal_loss(is_object: Any, logits: Any, alpha: float, gamma: float) -> Any:
    """`[...]` focal loss of each element (Lin 2017, equation 5), of a sigmoid.

    `-alpha (1 - p)^gamma log(p)` for an object of probability p, and `-(1 - alpha) p^gamma
    log(1 - p)` for none.

    is_object: `[...]` bool. logits: `[...]`.
    """
    # z is the logit of being wrong: sigmoid(z) = 1 - p for an object, p for none.
    z = ops.where(is_object, -logits, logits)
    cross_entropy = ops.softplus(z)
    weight = ops.where(is_object, alpha, 1.0 - alpha)
    # Not a power of sigmoid(z), whose gradient is infinite at 0 if gamma is below 1.
    return weight * cross_entropy * ops.exp(gamma * (z - cross_entropy))


def dense_class_loss(
    class_ids: Any,
    class_logits: Any,
    active_class_ids: Any,
    config: Any,
) -> Any:
    """`[B]` the sum of the focal loss over the anchors and classes of each image.

    FOCAL_ALPHA and FOCAL_GAMMA are its alpha and gamma, CLASS_WEIGHTS factors of the classes.

    class_ids: `[B, A]` of the object of each anchor, 0 for none, -1: the anchor does not count.
    class_logits: `[B, A, NUM_CLASSES]`; column 0, the background, is never an object's class.
    active_class_ids: `[B, NUM_CLASSES]` 1 for the classes that the image's source labels, else 0.
    """
    classes = ops.arange(class_logits.shape[-1], dtype="int32")
    is_object = (class_ids[..., None] == classes) & (classes > 0)
    loss = sigmoid_focal_loss(is_object, class_logits, config.FOCAL_ALPHA, config.FOCAL_GAMMA)
    weights = ops.cast(active_class_ids, "float32")
    if config.CLASS_WEIGHTS is not None:
        weights *= ops.convert_to_tensor(config.CLASS_WEIGHTS, "float32")
    counts = ops.cast(class_ids >= 0, "float32")
    return ops.sum(ops.sum(loss * weights[:, None, :], axis=-1) * counts, axis=-1)


def sigmoid_cross_entropy(y_true: Any, logits: Any) -> Any:
    """`[...]` binary cross-entropy of each element: `-y log(p) - (1 - y) log(1 - p)`.

    y_true: `[...]` from 0 to 1. logits: `[...]` of a sigmoid, whose probability is p.
    """
    return ops.softplus(logits) - y_true * logits


def giou_loss(boxes1: Any, boxes2: Any) -> Any:
    """`[...]` 1 - generalized IoU of each pair of boxes `[..., 4]` (Rezatofighi 2019), in pixels.

    The generalized IoU is the IoU minus the share of the smallest box around both, the hull, that
    neither of them covers.
    """
    top1, left1, bottom1, right1 = box_math.sides(boxes1)
    top2, left2, bottom2, right2 = box_math.sides(boxes2)
    height = ops.minimum(bottom1, bottom2) - ops.maximum(top1, top2)
    width = ops.minimum(right1, right2) - ops.maximum(left1, left2)
    intersection = ops.maximum(height, 0.0) * ops.maximum(width, 0.0)
    union = box_math.area(boxes1) + box_math.area(boxes2) - intersection
    hull_height = ops.maximum(bottom1, bottom2) - ops.minimum(top1, top2)
    hull_width = ops.maximum(right1, right2) - ops.minimum(left1, left2)
    hull = hull_height * hull_width
    return 1.0 - intersection / (union + EPSILON) + (hull - union) / (hull + EPSILON)

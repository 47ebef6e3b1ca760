"""Compare the detections of an exported file with those of `detect`, and say if they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..config import Config
from ..data.masks import unmold_masks
from ..nn.boxes import iou
from .reference import Found

CONFIDENCE = 0.5  # detections from here on are compared, unless none scores as much
SAME_OBJECT = 0.5  # IoU of two boxes of one class from which on they are one detection


class Limits(NamedTuple):
    """What a file must keep: shares and IoU at least, differences at most."""

    matched: float
    boxes: float  # pixels
    scores: float
    masks: float  # IoU
    keypoints: float  # share of the range of a heatmap's logits


NO_LIMIT = float("inf")
LIMITS = {
    "float32": Limits(1.0, 0.5, 1e-3, 0.99, 1e-3),
    "float16": Limits(1.0, 0.5, 1e-2, 0.99, 1e-2),
    # Of int8 the average precision counts, which needs ground truth; see docs/export.md.
    "int8": Limits(0.9, NO_LIMIT, NO_LIMIT, 0.0, NO_LIMIT),
}


class Agreement(NamedTuple):
    """How well a file agrees with `detect` on all images: the worst of each difference."""

    images: int
    confidence: float
    compared: int  # detections of `detect` from this confidence on
    matched: float  # share of them, and of the file's, that have a partner
    boxes: float
    scores: float
    masks: float | None
    keypoints: float | None

    def keeps(self, limits: Limits) -> bool:
        """Return whether no difference is beyond its limit."""
        return (
            self.matched >= limits.matched
            and self.boxes <= limits.boxes
            and self.scores <= limits.scores
            and (self.masks is None or self.masks >= limits.masks)
            and (self.keypoints is None or self.keypoints <= limits.keypoints)
        )


class Pair(NamedTuple):
    """The differences of two detections of one object."""

    boxes: float
    scores: float
    masks: float | None
    keypoints: float | None


def compare(
    expected: Sequence[Found],
    found: Sequence[Found],
    shapes: Sequence[tuple[int, int]],
    config: Config,
    limits: Limits,
) -> Agreement:
    """Return the agreement of a file's detections with those of `detect`.

    shapes: `(height, width)` of each image.
    """
    best = max((float(one.scores.max(initial=0.0)) for one in expected), default=0.0)
    confidence = min(CONFIDENCE, best)
    pairs: list[Pair] = []
    compared = alone = 0
    margin = 0.0 if np.isinf(limits.scores) else limits.scores
    for mine, theirs, shape in zip(expected, found, shapes, strict=True):
        partners = match(mine, theirs)
        is_certain = (mine.scores >= confidence) & (mine.scores > 0)
        compared += int(is_certain.sum())
        alone += int((is_certain & (partners < 0)).sum())
        others = theirs.scores > confidence + margin
        alone += int((~np.isin(np.flatnonzero(others), partners)).sum())
        for row in np.flatnonzero(is_certain & (partners >= 0)):
            pairs.append(_differences(mine, theirs, int(row), int(partners[row]), shape, config))
    matched = 1.0 - alone / max(compared, alone, 1)
    return Agreement(
        len(expected),
        confidence,
        compared,
        matched,
        max((pair.boxes for pair in pairs), default=0.0),
        max((pair.scores for pair in pairs), default=0.0),
        min((pair.masks for pair in pairs if pair.masks is not None), default=None),
        max((pair.keypoints for pair in pairs if pair.keypoints is not None), default=None),
    )


def match(mine: Found, theirs: Found) -> np.ndarray:
    """`[N]` for each detection the row of its partner: same class, highest IoU; -1 without one."""
    partners = np.full(len(mine.scores), -1)
    if not len(theirs.scores):
        return partners
    boxes = (np.asarray(found.boxes, np.float64) for found in (mine, theirs))
    overlaps = iou(*boxes)  # [N, M]
    overlaps[mine.class_ids[:, None] != theirs.class_ids[None]] = -1.0
    for row in np.argsort(-mine.scores, kind="stable"):
        column = int(overlaps[row].argmax())
        is_same = overlaps[row, column] >= SAME_OBJECT
        # A box without area has no IoU with itself.
        if is_same or _is_equal_empty(mine, theirs, row, column):
            partners[row] = column
            overlaps[:, column] = -2.0
    return partners


def _is_equal_empty(mine: Found, theirs: Found, row: int, column: int) -> bool:
    is_class = mine.class_ids[row] == theirs.class_ids[column]
    return bool(is_class and np.abs(mine.boxes[row] - theirs.boxes[column]).max() < SAME_OBJECT)


def _differences(
    mine: Found, theirs: Found, row: int, column: int, shape: tuple[int, int], config: Config
) -> Pair:
    masks = keypoints = None
    if mine.masks is not None and theirs.masks is not None:
        masks = mask_iou(mine.masks[row], theirs.masks[column], mine.boxes[row], shape, config)
    if mine.keypoints is not None and theirs.keypoints is not None:
        logits = mine.keypoints[row]
        size = max(float(np.ptp(logits)), 1e-6)
        keypoints = float(np.abs(logits - theirs.keypoints[column]).max()) / size
    return Pair(
        float(np.abs(mine.boxes[row] - theirs.boxes[column]).max()),
        float(abs(mine.scores[row] - theirs.scores[column])),
        masks,
        keypoints,
    )


def mask_iou(
    mine: np.ndarray, theirs: np.ndarray, box: np.ndarray, shape: tuple[int, int], config: Config
) -> float:
    """Return the IoU of two soft masks `[h, w]`, both pasted into the same box `[4]`."""
    boxes = np.stack([box, box])
    if not config.CONTINUOUS_BOXES:
        boxes = np.around(boxes).astype(np.int32)
    rule, threshold = config.MASK_PASTE, config.MASK_THRESHOLD
    pasted = unmold_masks(np.stack([mine, theirs]), boxes, shape, False, rule, threshold)
    union = int(pasted.any(axis=-1).sum())
    return float(pasted.all(axis=-1).sum()) / union if union else 1.0

"""Keypoints in COCO's files: the names in a category, the numbers in an annotation.

COCO has `x, y, visibility` and counts pixels from the center of the first one; we have
`(y, x, visibility)` and count from its corner, as boxes do: half a pixel more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.keypoints import Skeleton
from ..files.safe_text import clean_name
from .values import is_finite, short, to_integer

logger = logging.getLogger("mrcnn")

CENTER = 0.5  # of a pixel, counted from its corner
MOST_KEYPOINTS = 1000


def read_skeleton(
    categories: list, annotations: list, chosen: Collection[int], path: Path
) -> Skeleton | None:
    """Return the keypoints that a file's categories name; None if it has no keypoints.

    If no category names them, they are numbered as far as the first annotation has any.

    categories, annotations: the lists of the file. chosen: ids of the categories to use.
    path: of the file, for messages.
    """
    found: list[Skeleton] = []
    for category in categories:
        if not isinstance(category, dict) or to_integer(category.get("id")) not in chosen:
            continue
        skeleton = _skeleton_of(category)
        if skeleton is not None and skeleton not in found:
            found.append(skeleton)
    if len(found) > 1:
        logger.warning(
            "The categories of %s have different keypoints, and a network has the same ones for "
            "all classes: none are read. Try to choose categories with the same ones.",
            path,
        )
        return None
    return found[0] if found else _numbered(annotations)


def _skeleton_of(category: dict) -> Skeleton | None:
    names = category.get("keypoints")
    if not isinstance(names, list) or not 0 < len(names) <= MOST_KEYPOINTS:
        return None
    lines = []
    pairs = category.get("skeleton")
    for pair in pairs if isinstance(pairs, list) else []:
        ends = [to_integer(end) for end in pair] if isinstance(pair, list) else []
        if len(ends) == 2 and all(end is not None and 1 <= end <= len(names) for end in ends):
            lines.append([int(end or 0) - 1 for end in ends])  # COCO counts from 1
    return Skeleton([clean_name(name) for name in names], lines)


def _numbered(annotations: list) -> Skeleton | None:
    for annotation in annotations:
        numbers = annotation.get("keypoints") if isinstance(annotation, dict) else None
        if isinstance(numbers, list) and numbers and len(numbers) % 3 == 0:
            count = min(len(numbers) // 3, MOST_KEYPOINTS)
            return Skeleton([f"keypoint_{i + 1}" for i in range(count)], [])
    return None


def read_keypoints(annotation: dict, count: int, where: str) -> np.ndarray:
    """Return the keypoints `[count, (y, x, visibility)]` of an annotation; zeros without any.

    where: names the annotation.

    Raises: ValueError unless they are 3 * count numbers.
    """
    numbers = annotation.get("keypoints")
    if not numbers:
        return np.zeros((count, 3), np.float32)
    is_list = isinstance(numbers, list) and len(numbers) == 3 * count
    if not is_list or not all(is_finite(number) for number in numbers):
        raise ValueError(
            f"keypoints must be {count} times x, y, visibility. Received: {short(numbers)} in "
            f"{where}. Try to correct the annotation, or NUM_KEYPOINTS = 0."
        )
    x, y, visibility = np.reshape(numbers, (count, 3)).T
    keypoints = np.stack([y + CENTER, x + CENTER, visibility], axis=1)
    keypoints[visibility <= 0] = 0
    return keypoints.astype(np.float32)


def coco_keypoints(keypoints: np.ndarray) -> list[float]:
    """Return `[K, (y, x, visibility)]` as COCO's list of x, y, visibility."""
    keypoints = np.asarray(keypoints, float)
    y, x, visibility = keypoints.T
    rows = np.stack([x - CENTER, y - CENTER, visibility], axis=1)
    rows[visibility <= 0] = 0
    return [int(n) if i % 3 == 2 else float(n) for i, n in enumerate(rows.ravel())]


def detected_keypoints(keypoints: np.ndarray) -> dict[str, Any]:
    """Return what a result entry has of detected keypoints `[K, (y, x, score)]`.

    All count as visible; their scores are in a list of their own.
    """
    visible = np.array(keypoints, float)
    visible[:, 2] = 2
    scores = [float(score) for score in keypoints[:, 2]]
    return {"keypoints": coco_keypoints(visible), "keypoint_scores": scores}


def category_keypoints(names: Sequence[str], lines: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the entries of a category that name its keypoints; none without names."""
    if not names:
        return {}
    return {
        "keypoints": list(names),
        "skeleton": [[int(end) + 1 for end in line] for line in lines],
    }

"""From the network's raw outputs to boxes, classes and masks in pixels of the original image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import Config
from ..data.keypoints import decode_heatmaps
from ..data.masks import unmold_in_boxes, unmold_masks, unmold_soft
from ..nn import boxes as box_math


class Paste(NamedTuple):
    """How soft masks become pixels; see `data.masks.unmold_masks`."""

    exact: bool
    rule: str
    threshold: float


def unmold_detections(
    detections: np.ndarray,
    mrcnn_mask: np.ndarray | None,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Any,
    masks: str = "full",
    config: Config | type[Config] = Config,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """One image's detections in pixels of the original image, without padding and empty boxes.

    detections: `[D, (y1, x1, y2, x2, class_id, score)]` normalized, zero-padded.
    mrcnn_mask: `[D, h, w, NUM_CLASSES]` or `[D, h, w, 1]` probabilities, or None.
    original_image_shape: `(H, W, ...)`. image_shape: `(h, w, ...)` of the molded image.
    window: `(y1, x1, y2, x2)`, the pixels of the molded image that are not padding.
    masks: a key of `MASK_FORMS`. config: its CONTINUOUS_BOXES, EXACT_RESIZE, MASK_PASTE and
        MASK_THRESHOLD; by default those of matterport.

    Returns: boxes `[N, 4]` int32 (float32 with CONTINUOUS_BOXES), class_ids `[N]` int32, scores
        `[N]`, and the masks in the given form (`[H, W, N]` bool for "full") or None.
    """
    count = _count(detections)
    class_ids = detections[:count, 4].astype(np.int32)
    scores = detections[:count, 5]
    shapes = (original_image_shape, image_shape, window)
    boxes = image_boxes(detections[:count, :4], *shapes, config.CONTINUOUS_BOXES)
    real = box_math.area(boxes) > 0
    if mrcnn_mask is None:
        return boxes[real], class_ids[real], scores[real], None
    channels = class_ids if mrcnn_mask.shape[-1] > 1 else 0
    soft_masks = mrcnn_mask[np.arange(count), :, :, channels]  # [count, h, w]
    to_form = MASK_FORMS[masks]
    paste = Paste(config.EXACT_RESIZE, config.MASK_PASTE, config.MASK_THRESHOLD)
    unmolded = to_form(soft_masks[real], boxes[real], original_image_shape, *paste)
    return boxes[real], class_ids[real], scores[real], unmolded


def _count(detections: np.ndarray) -> int:
    """The number of detections before the zeros."""
    padding = np.flatnonzero(detections[:, 4] == 0)
    return int(padding[0]) if len(padding) else len(detections)


def unmold_keypoints(
    detections: np.ndarray,
    heatmaps: np.ndarray,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Any,
    continuous: bool = False,
) -> np.ndarray:
    """`[N, K, (y, x, score)]` float32 keypoints of the detections that `unmold_detections` returns.

    y and x are pixels of the original image: (0, 0) is its corner, (0.5, 0.5) the center of its
    first pixel. A score is the logit of the keypoint's place, not a probability.

    detections: `[D, 6]`. heatmaps: `[D, h, w, K]` logits.
    original_image_shape, image_shape, window: as for `unmold_detections`.
    continuous: see `Config.CONTINUOUS_BOXES`.
    """
    count = _count(detections)
    shapes = (original_image_shape, image_shape, window)
    boxes = image_boxes(detections[:count, :4], *shapes, continuous)
    real = np.flatnonzero(box_math.area(boxes) > 0)
    # As torchvision, in pixels of the network's input, where the size of the heatmaps is decided.
    pixels = box_math.to_pixels(detections[real, :4], image_shape[:2], continuous)
    keypoints = decode_heatmaps(heatmaps[real], pixels)
    y1, x1, y2, x2 = (float(side) for side in window)
    height, width = original_image_shape[:2]
    ratios = np.array([height / (y2 - y1), width / (x2 - x1)], np.float32)
    keypoints[..., :2] = (keypoints[..., :2] - np.array([y1, x1], np.float32)) * ratios
    return keypoints


def unmold_proposals(
    proposals: np.ndarray,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Any,
    continuous: bool = False,
) -> dict[str, np.ndarray]:
    """One image's proposals in pixels of the original image: `rois` `[N, 4]`, `scores` `[N]`.

    Best first; proposals that lie in the padding are removed. rois are int32, or float32 if
    continuous.

    proposals: `[P, (y1, x1, y2, x2, objectness)]` normalized, zero-padded.
    original_image_shape, image_shape, window: as for `unmold_detections`. continuous: see
    `Config.CONTINUOUS_BOXES`.
    """
    height, width = original_image_shape[:2]
    rois = image_boxes(proposals[:, :4], original_image_shape, image_shape, window, continuous)
    rois = box_math.clip(rois, np.array([0, 0, height, width], rois.dtype))
    real = (box_math.area(rois) > 0) & (proposals[:, 4] > 0)
    return {"rois": rois[real], "scores": proposals[real, 4]}


def image_boxes(
    boxes: np.ndarray,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Any,
    continuous: bool = False,
    rounded: bool = True,
) -> np.ndarray:
    """`[N, (y1, x1, y2, x2)]` boxes in pixels of the original image.

    boxes: `[N, 4]` normalized to the molded image.
    original_image_shape, image_shape, window: as for `unmold_detections`.
    continuous: see `Config.CONTINUOUS_BOXES`. rounded: False leaves fractions of pixels.

    Returns: int32, rounded; if continuous float32, clipped to the image.
    """
    if continuous:
        return _continuous_boxes(boxes, original_image_shape, image_shape, window)
    y1, x1, y2, x2 = box_math.normalize(np.asarray(window), image_shape[:2])
    shift = np.array([y1, x1, y1, x1])
    height, width = y2 - y1, x2 - x1
    scale = np.array([height, width, height, width])
    # A window of one row or column has no extent in normalized coordinates: its boxes then
    # span the image.
    whole_image = np.tile([0.0, 0.0, 1.0, 1.0], (len(boxes), 1))
    boxes = np.divide(boxes - shift, scale, out=whole_image, where=scale > 0)
    if not rounded:
        return box_math.to_pixels(boxes, original_image_shape[:2])
    return box_math.denormalize(boxes, original_image_shape[:2])


def _continuous_boxes(boxes, original_image_shape, image_shape, window) -> np.ndarray:
    """`image_boxes` whose normalized coordinates are pixels divided by the side.

    Each axis has its own ratio, that of the original image to the resized one.
    """
    y1, x1, y2, x2 = (float(side) for side in window)
    height, width = (float(side) for side in original_image_shape[:2])
    ratios = np.array([height / (y2 - y1), width / (x2 - x1)] * 2, np.float32)
    resized = box_math.to_pixels(boxes, image_shape[:2], continuous=True) - [y1, x1, y1, x1]
    found = resized.astype(np.float32) * ratios
    return box_math.clip(found, np.array([0, 0, height, width], np.float32))


def _mask_rles(masks, boxes, image_shape, *paste) -> list[dict]:
    """A list of N run-length codes as COCO stores them."""
    from ..formats.rle import unmold_rles  # pycocotools: only if it is used

    return unmold_rles(masks, boxes, image_shape, *paste)


# The forms of a result's masks, by the names that `detect(masks=...)` accepts.
MASK_FORMS = {"full": unmold_masks, "crop": unmold_in_boxes, "rle": _mask_rles, "soft": unmold_soft}


def check_mask_form(masks: str) -> None:
    """Raise ValueError unless masks is a key of `MASK_FORMS`."""
    if masks not in MASK_FORMS:
        raise ValueError(
            f"masks must be one of {', '.join(MASK_FORMS)}. Received: {masks!r}. Try 'full'."
        )


def why_nothing(probs: np.ndarray, config: Config, class_names: Sequence[str] | None) -> str:
    """A sentence with the best score of an object class, and what removed it.

    probs: `[N, NUM_CLASSES]` class probabilities of the proposals, background first.
    """
    object_probs = probs[:, 1:]
    best = float(object_probs.max())
    class_id = int(object_probs.max(axis=0).argmax()) + 1
    name = class_names[class_id] if class_names else f"class {class_id}"
    start = f"Nothing detected: the best score was {best:.3f} ({name})"
    threshold = config.DETECTION_MIN_CONFIDENCE
    if best < threshold:
        return (
            f"{start}, removed by DETECTION_MIN_CONFIDENCE = {threshold}. "
            "Try a lower one, or train longer."
        )
    return f"{start}, but the background scored higher there."

"""The detections of `detect` in an image, in the form of an exported file's outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..inference.postprocessing import image_boxes


class Found(NamedTuple):
    """The detections of one image, as an exported file gives them; N of them.

    boxes: `[N, (y1, x1, y2, x2)]` pixels, not rounded. class_ids, scores: `[N]`.
    masks: `[N, h, w]` probabilities, or None. keypoints: `[N, h, w, K]` logits, or None.
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None


def detected(model: Any, image: np.ndarray) -> Found:
    """Return the detections of a model, by the steps of its `detect`."""
    config = model.config
    (molded,) = model.mold_images([image])
    anchors = model.get_anchors(molded.image.shape)
    outputs = model.predict([molded.image[None], molded.meta[None], anchors[None]])
    detections, _, *heads = (output[0] for output in outputs)
    class_ids = detections[:, 4].astype(np.int32)
    count = int(np.sum(class_ids > 0))
    shapes = (molded.original_shape, molded.image.shape, molded.window)
    boxes = image_boxes(detections[:, :4], *shapes, config.CONTINUOUS_BOXES, rounded=False)
    masks = heads.pop(0)[:count, :, :, 0] if config.has_mask_head() else None
    keypoints = heads[0][:count] if config.has_keypoint_head() else None
    return Found(boxes[:count], class_ids[:count], detections[:count, 5], masks, keypoints)


def exported(outputs: dict[str, np.ndarray], index: int) -> Found:
    """Return the detections of one image of a batch from the outputs of a file."""
    count = int(outputs["count"][index])
    rows = {name: values[index][:count] for name, values in outputs.items() if name != "count"}
    return Found(
        rows["boxes"],
        rows["class_ids"],
        rows["scores"],
        rows.get("masks"),
        rows.get("keypoints"),
    )

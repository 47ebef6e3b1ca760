"""Test-time augmentation: an image detected in several views, whose detections are merged.

The boxes of all views are one set, which is suppressed as the settings say; detectron2 does the
same (`modeling/test_time_augmentation.py`, `GeneralizedRCNNWithTTA`). The mask of an object is the
mean of its masks in the views that found it. (detectron2 computes masks of the merged boxes in
every view instead, in a second run of the network.) Each of its keypoints is that of the view with
the highest score there.

This works with the results of any network: dicts of rois, class_ids, scores, and optional masks and
keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import TTA_FLIP, Config
from ..data.keypoints import mirror, mirrored_order, surest_keypoints
from ..data.masks import MaskCrop, cut_crops
from ..formats.mask_forms import full_masks, rles
from ..nn import boxes as box_math

# A detection of a view belongs to a merged one if their boxes have at least this IoU.
SAME_OBJECT = 0.5
KEYS = ("rois", "class_ids", "scores", "masks", "keypoints")

Result = dict[str, Any]  # of one image, see `MaskRCNN.detect`; here with masks="soft"
Detect = Callable[[Sequence[Any], str, float], list[Result]]


class View(NamedTuple):
    """How an image is shown to the network: a factor of its size, and whether it is flipped."""

    zoom: float
    flip: bool


def views(settings: Iterable[Any]) -> list[View]:
    """All views that `Config.TTA` asks for, the image itself first, each once."""
    settings = list(settings)
    zooms = [1.0, *(float(item) for item in settings if item != TTA_FLIP)]
    flips = [False, True] if TTA_FLIP in settings else [False]
    return [View(zoom, flip) for zoom in dict.fromkeys(zooms) for flip in flips]


def detect(detect_views: Detect, images: Iterable[Any], masks: str, config: Config) -> list[Result]:
    """Detect objects in all views of each image, and merge them; see `MaskRCNN.detect`.

    detect_views: `(images, masks, zoom) -> results`, one per image; zoom is a factor of the size
        that an image has in the network.
    masks: the form of the masks in the results.
    """
    chosen = views(config.TTA)
    order = mirrored_order(config.NUM_KEYPOINTS, config.KEYPOINT_NAMES, config.KEYPOINT_PAIRS)
    results = []
    for image in images:
        image = np.asarray(image)
        found = list(_detect_all(detect_views, image, chosen, order))
        results.append(merge(found, image.shape, masks, config))
    return results


def _detect_all(
    detect_views: Detect, image: np.ndarray, chosen: list[View], order: np.ndarray
) -> Iterator[Result]:
    """Yield the result of each view, in pixels of the image. order: see `unflip`."""
    for zoom in dict.fromkeys(view.zoom for view in chosen):
        flips = [view.flip for view in chosen if view.zoom == zoom]
        shown = [np.ascontiguousarray(image[:, ::-1]) if flip else image for flip in flips]
        for flip, result in zip(flips, detect_views(shown, "soft", zoom), strict=True):
            yield unflip(result, image.shape[1], order) if flip else result


def unflip(result: Result, width: int, order: np.ndarray) -> Result:
    """Return the result of a flipped image of a width, in pixels of the image itself.

    result: with masks of the form "soft", or without.
    order: `[K]` of its keypoints, see `keypoints.mirrored_order`.
    """
    rois = result["rois"].copy()
    rois[:, [1, 3]] = width - rois[:, [3, 1]]
    flipped = {**result, "rois": rois}
    if "masks" in result:
        flipped["masks"] = [
            (y, width - x - soft.shape[1], soft[:, ::-1]) for y, x, soft in result["masks"]
        ]
    if "keypoints" in result:
        flipped["keypoints"] = mirror(result["keypoints"], width, order)
    return flipped


def merge(
    results: Sequence[Result], image_shape: Sequence[int], masks: str, config: Config
) -> Result:
    """Merge the results of several views of one image, all in its pixels.

    results: with masks of the form "soft", or without masks.
    masks: the form of the masks in the merged result.
    config: its settings of suppression, see `nn.nms.suppress`, and MASK_THRESHOLD.

    Raises: ValueError if a result has more than boxes, classes, scores, masks and keypoints.
    """
    for result in results:
        others = sorted(set(result) - set(KEYS))
        if others:
            raise ValueError(
                f"TTA merges {', '.join(KEYS)}. Received: a result with {', '.join(others)}. "
                "Try TTA = ()."
            )
    merged = _merge_boxes(results, config)
    members = _members(merged, results, config)
    if all("masks" in result for result in results):
        means = [_mean_mask([member.of("masks") for member in same]) for same in members]
        merged["masks"] = _in_form(masks, means, merged["rois"], image_shape, config)
    if all("keypoints" in result for result in results):
        keypoints = np.zeros((len(members), *results[0]["keypoints"].shape[1:]), np.float32)
        for i, same in enumerate(members):
            if same:
                keypoints[i] = surest_keypoints([member.of("keypoints") for member in same])
        merged["keypoints"] = keypoints
    return merged


def _merge_boxes(results: Sequence[Result], config: Config) -> Result:
    """The boxes, class ids and scores of all results that remain after suppression."""
    from ..nn.nms import agnostic_suppress, suppress  # TensorFlow: only if there are views

    rois = np.concatenate([result["rois"] for result in results])
    class_ids = np.concatenate([result["class_ids"] for result in results]).astype(np.int32)
    scores = np.concatenate([result["scores"] for result in results]).astype(np.float32)
    if len(rois) == 0:
        return {"rois": rois, "class_ids": class_ids, "scores": scores}
    boxes = rois.astype(np.float32)[None]
    if config.CLASS_AGNOSTIC_NMS:
        kept = agnostic_suppress(boxes, class_ids[None], scores[None], config)
    else:
        of_class = np.eye(class_ids.max() + 1, dtype=np.float32)[class_ids]  # [N, classes]
        kept = suppress(boxes[:, :, None], (of_class * scores[:, None])[None], config)
    boxes, class_ids, scores = (np.asarray(part)[0] for part in kept)
    is_kept = scores > 0
    if rois.dtype.kind != "f":
        boxes = np.around(boxes)
    return {
        "rois": boxes[is_kept].astype(rois.dtype),
        "class_ids": class_ids[is_kept].astype(np.int32),
        "scores": scores[is_kept],
    }


class _Member(NamedTuple):
    """The detection of a view that is most like a merged one, and the IoU of the two boxes."""

    overlap: float
    result: Result
    position: int

    def of(self, key: str) -> Any:
        """The detection's entry of a key of its view's result."""
        return self.result[key][self.position]


def _members(merged: Result, results: Sequence[Result], config: Config) -> list[list[_Member]]:
    """For each merged detection those of its object, at most one of each view."""
    of_views = [_most_alike(merged, result, config) for result in results if len(result["rois"])]
    members = []
    for found in zip(*of_views, strict=True):
        near = [member for member in found if member.overlap > 0]
        near.sort(key=lambda member: -member.overlap)
        same = [member for member in near if member.overlap >= SAME_OBJECT]
        # Votes may move a box far away from those that it was made of.
        members.append(same or near[:1])
    return members


def _most_alike(merged: Result, result: Result, config: Config) -> list[_Member]:
    """For each merged detection the one of a view whose box is most like its own, of its class."""
    overlaps = box_math.iou(merged["rois"].astype(float), result["rois"].astype(float))
    if not config.CLASS_AGNOSTIC_NMS:
        overlaps *= merged["class_ids"][:, None] == result["class_ids"]
    best = overlaps.argmax(axis=1).tolist()
    return [_Member(row[j], result, j) for row, j in zip(overlaps, best, strict=True)]


def _mean_mask(masks: Sequence[MaskCrop]) -> MaskCrop:
    """The mean of soft masks, each of which is 0 outside of its pixels; in all their pixels."""
    if not masks:
        return 0, 0, np.zeros((0, 0), np.float32)
    top = min(y for y, _, _ in masks)
    left = min(x for _, x, _ in masks)
    bottom = max(y + soft.shape[0] for y, _, soft in masks)
    right = max(x + soft.shape[1] for _, x, soft in masks)
    total = np.zeros((bottom - top, right - left), np.float32)
    for y, x, soft in masks:
        total[y - top : y - top + soft.shape[0], x - left : x - left + soft.shape[1]] += soft
    return top, left, total / len(masks)


def _in_form(
    form: str, masks: list[MaskCrop], rois: np.ndarray, image_shape: Sequence[int], config: Config
) -> Any:
    """Soft masks in a form of `postprocessing.MASK_FORMS`."""
    if form == "soft":
        return masks
    if form == "crop":
        crops = [(y, x, soft >= config.MASK_THRESHOLD) for y, x, soft in masks]
        return cut_crops(crops, rois, image_shape)
    convert = full_masks if form == "full" else rles
    return convert(masks, rois, image_shape, config.MASK_THRESHOLD)

"""The ground truth of a dataset in COCO's instances format, at original resolution."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.dataset import Dataset, has_boxes_only, overrides, reference
from ..formats.coco_keypoints import category_keypoints, coco_keypoints
from ..formats.rle import mask_to_rle

log = logging.getLogger("mrcnn")


class ImageGroundTruth(NamedTuple):
    """Ground truth of one image: COCO's image entry, and annotations without an id."""

    image: dict[str, int]
    annotations: list[dict[str, Any]]


def dataset_to_coco(dataset: Dataset, image_ids: Iterable[int] | None = None) -> dict:
    """Convert the ground truth of a dataset to COCO's instances format.

    dataset: any prepared dataset. Category ids are its internal class ids, image ids its internal
        image ids.
    image_ids: default all images.

    Returns: {"images", "annotations", "categories"}, ready for JSON. Boxes and areas are those of
        the dataset's annotation file if it has them (COCO's `bbox` and `area`), otherwise those of
        the masks. Crowds (negative class ids) get iscrowd 1. Instances without pixels are left
        out with a warning.
    Raises: ValueError if an image has different numbers of masks and class ids, or a class id is
        unknown.
    """
    ground_truths = []
    for image_id in dataset.image_ids if image_ids is None else image_ids:
        by_boxes = has_boxes_only(dataset)
        size = dataset.load_image(image_id).shape[:2] if by_boxes else None
        with_keypoints = overrides(dataset, "load_keypoints")
        ground_truth = image_ground_truth(dataset, int(image_id), size, by_boxes, with_keypoints)
        ground_truths.append(ground_truth)
    return join_ground_truths(dataset, ground_truths)


def join_ground_truths(dataset: Dataset, ground_truths: Iterable[ImageGroundTruth]) -> dict:
    """Return the instances dict of images, with annotation ids from 1.

    pycocotools takes the id 0 for "no match".
    """
    keypoints = category_keypoints(dataset.keypoint_names, dataset.keypoint_skeleton)
    categories = []
    for i, name in enumerate(dataset.class_names[1:], start=1):
        categories.append({"id": i, "name": name, **keypoints})
    images: list[dict] = []
    annotations: list[dict] = []
    for ground_truth in ground_truths:
        images.append(ground_truth.image)
        for annotation in ground_truth.annotations:
            annotations.append({"id": len(annotations) + 1, **annotation})
    return {"images": images, "annotations": annotations, "categories": categories}


def is_measured_by_boxes(dataset: Dataset, has_masks: bool) -> bool:
    """Return True if the ground truth of an image is the dataset's own `load_bbox`.

    That is if the dataset has only boxes, or if it has its own boxes and no masks were detected.
    """
    return has_boxes_only(dataset) or (overrides(dataset, "load_bbox") and not has_masks)


def image_ground_truth(
    dataset: Dataset,
    image_id: int,
    size: Sequence[int] | None,
    by_boxes: bool,
    with_keypoints: bool = False,
) -> ImageGroundTruth:
    """Load the ground truth of one image.

    size: (height, width) of the image; if None, that of the masks.
    by_boxes: load boxes (`load_bbox`, which needs the size) and no masks (`load_mask`).
    with_keypoints: load keypoints (`load_keypoints`) too.
    """
    where = f"image {image_id} ({reference(dataset, image_id)})"
    if by_boxes:
        size = dataset.load_image(image_id).shape[:2] if size is None else size
        shapes, class_ids = _box_annotations(dataset, image_id, size, where, with_keypoints)
    else:
        shapes, class_ids, size = _mask_annotations(dataset, image_id, size, where, with_keypoints)
    height, width = (int(side) for side in size)
    annotations = []
    for shape, class_id in zip(shapes, class_ids, strict=True):
        _check_class(dataset, class_id, where, "load_bbox" if by_boxes else "load_mask")
        entry = {
            "image_id": image_id,
            "category_id": abs(class_id),
            "iscrowd": int(class_id < 0),
        }
        annotations.append({**entry, **shape})
    return ImageGroundTruth({"id": image_id, "height": height, "width": width}, annotations)


def _check_class(dataset: Dataset, class_id: int, where: str, method: str) -> None:
    known = list(range(1, len(dataset.class_names)))
    if abs(class_id) not in known:
        raise ValueError(
            f"Class ids must be among {known}, negative for crowds. Received: {class_id} for "
            f"{where}. Try map_source_class_id() in {method}."
        )


# --- Boxes --------------------------------------------------------------------------------------


def _box_annotations(
    dataset: Dataset, image_id: int, size: Sequence[int], where: str, with_keypoints: bool
) -> tuple[list[dict], list[int]]:
    """Return `bbox` and `area` of an image's boxes, clipped to the image, and their class ids."""
    boxes, class_ids = dataset.load_bbox(image_id)
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    class_ids = np.asarray(class_ids, int).reshape(-1)
    if len(boxes) != len(class_ids):
        raise ValueError(
            "load_bbox must return one box (y1, x1, y2, x2) per class id. "
            f"Received: {len(boxes)} boxes and {len(class_ids)} class ids for {where}."
        )
    height, width = size
    boxes = np.clip(boxes, 0, [height, width, height, width])
    keypoints = _keypoints(dataset, image_id, len(boxes), where, with_keypoints)
    shapes: list[dict] = []
    kept: list[int] = []
    rows = zip(boxes.tolist(), class_ids.tolist(), keypoints, strict=True)
    for (y1, x1, y2, x2), class_id, own_keypoints in rows:
        if y2 <= y1 or x2 <= x1:
            _warn_if_lost(class_id, "A box of %s has no area in the image", where)
            continue
        box = [x1, y1, x2 - x1, y2 - y1]
        shapes.append({"bbox": box, "area": box[2] * box[3], **own_keypoints})
        kept.append(class_id)
    return shapes, kept


def _warn_if_lost(class_id: int, message: str, *args: object) -> None:
    """Warn that an instance is left out; an empty one of class 0 is how scripts mark a negative."""
    if class_id != 0:
        log.warning(message + ": it is left out of the ground truth.", *args)


# --- Masks --------------------------------------------------------------------------------------


class _Masks(NamedTuple):
    """Annotations, class ids and image size (height, width) of an image with masks."""

    shapes: list[dict]
    class_ids: list[int]
    size: Sequence[int]


def _mask_annotations(
    dataset: Dataset, image_id: int, size: Sequence[int] | None, where: str, with_keypoints: bool
) -> _Masks:
    """Return `bbox`, `area` and `segmentation` of an image's masks, and VOC's marks if any."""
    from pycocotools import mask as coco_mask

    masks, class_ids = dataset.load_mask(image_id)
    class_ids = np.asarray(class_ids, int).reshape(-1).tolist()
    size = _checked_size(dataset, image_id, masks, len(class_ids), size, where)
    voc_marks = _voc_marks(dataset.image_info[image_id], len(class_ids), where)
    annotated = _annotated_boxes(dataset, image_id, len(class_ids))
    keypoints = _keypoints(dataset, image_id, len(class_ids), where, with_keypoints)
    shapes: list[dict] = []
    kept: list[int] = []
    for i, class_id in enumerate(class_ids):
        rle: Any = mask_to_rle(masks[:, :, i])
        area = int(coco_mask.area(rle))
        if area == 0:
            _warn_if_lost(class_id, "Instance %d of %s has no pixels", i, where)
            continue
        shape = {"bbox": coco_mask.toBbox(rle).tolist(), "area": area, "segmentation": rle}
        shapes.append({**shape, **annotated[i], **voc_marks[i], **keypoints[i]})
        kept.append(class_id)
    return _Masks(shapes, kept, size)


def _checked_size(
    dataset: Dataset,
    image_id: int,
    masks: np.ndarray,
    count: int,
    size: Sequence[int] | None,
    where: str,
) -> Sequence[int]:
    """Return (height, width) of an image, after a check that its `count` masks have that size."""
    if count == 0:
        return dataset.load_image(image_id).shape[:2] if size is None else size
    if np.ndim(masks) != 3 or masks.shape[2] != count:
        raise ValueError(
            "load_mask must return one mask [H, W] per class id, stacked along the last axis. "
            f"Received: masks of shape {np.shape(masks)} and {count} class ids for {where}. "
            "Try np.stack(masks, axis=-1)."
        )
    if size is not None and tuple(masks.shape[:2]) != tuple(size):
        raise ValueError(
            "Masks must be as large as their image. "
            f"Received: masks of {masks.shape[:2]} and an image of {tuple(size)} "
            f"(height, width) for {where}. "
            "Try to find out which of the two was resized or rotated."
        )
    return masks.shape[:2]


def _annotated_boxes(dataset: Dataset, image_id: int, count: int) -> list[dict]:
    """Return `bbox` and `area` of each mask, as far as the annotation file has them.

    COCO's own evaluation uses these: the box of a mask is whole pixels, which lowers the IoU of
    small objects.
    """
    load = getattr(dataset, "annotated_boxes", None)
    shapes = [] if load is None else load(image_id)
    # The numbers differ if a user's load_mask leaves objects out.
    return shapes if len(shapes) == count else [{}] * count


def _keypoints(
    dataset: Dataset, image_id: int, count: int, where: str, with_keypoints: bool
) -> list[dict]:
    """Return `keypoints` and `num_keypoints` of each instance; empty dicts unless asked for."""
    if not with_keypoints:
        return [{}] * count
    found = np.asarray(dataset.load_keypoints(image_id), float)
    if count == 0:
        return []
    if found.ndim != 3 or found.shape[0] != count or found.shape[2] != 3:
        raise ValueError(
            f"load_keypoints must return [{count}, K, (y, x, visibility)], one row per object. "
            f"Received: the shape {found.shape} for {where}. Try the order of load_mask."
        )
    entries = []
    for rows in found:
        labelled = int(np.sum(rows[:, 2] > 0))
        entries.append({"keypoints": coco_keypoints(rows), "num_keypoints": labelled})
    return entries


def _voc_marks(info: dict, count: int, where: str) -> list[dict]:
    """Return what VOC's metrics need of each instance; empty dicts if the data is not VOC's.

    Returns: count dicts of difficult, 0 or 1, and, if annotated, voc_bbox [x, y, width, height].
    """
    if "difficult" not in info:
        return [{}] * count
    difficult = info["difficult"]
    boxes = info.get("boxes")
    if len(difficult) != count or (boxes is not None and len(boxes) != count):
        raise ValueError(
            '"difficult" and "boxes" must have one entry per instance. '
            f"Received: {len(difficult)} flags and {count} instances for {where}. "
            "Try the order of load_mask."
        )
    marks: list[dict] = [{"difficult": int(bool(flag))} for flag in difficult]
    if boxes is not None:
        for mark, (y1, x1, y2, x2) in zip(marks, np.asarray(boxes, float).tolist(), strict=True):
            mark["voc_bbox"] = [x1, y1, x2 - x1, y2 - y1]
    return marks

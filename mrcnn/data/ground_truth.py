"""One image with its ground truth: loaded, checked, resized, augmented."""

from __future__ import annotations

import random

import numpy as np

from ..config import as_config
from ..nn.boxes import area
from ..nn.image_meta import compose_image_meta
from .apply_augmentation import apply_augmentation
from .dataset import overrides
from .image import match_channels, resize_boxes, resize_image, to_uint8
from .masks import boxes_to_masks, extract_bboxes, minimize_mask, resize_mask

TRIES = 100  # draws of another image until one is of the same source, and can be read


def load_image_gt(
    dataset, config, image_id, augment=False, augmentation=None, use_mini_mask=False, rng=None
):
    """One image with its truth, as the network sees it but for the mean.

    augment: old flag, mirrors left-right half of the time. augmentation: an imgaug augmenter, an albumentations
    transform, or a callable `(image, masks, rng) -> (image, masks)`; `augment.py` says what one that pastes other
    images' objects is given.
    use_mini_mask: cut masks to their boxes and resize them.
    rng: a numpy Generator; None draws from the global generators, in matterport's order.

    A network without masks (USE_MASK = False, RPN_ONLY) takes the boxes of the dataset's own `load_bbox`. They are
    scaled and mirrored as boxes; augmentations know masks only, so they are given each box as a filled mask, and what
    becomes of it is boxed again (larger than the object would be after a rotation). Without a `load_bbox` the boxes
    are those of the masks, augmented with them.

    Returns:
        image: `[h, w, C]` uint8, molded size. image_meta: `[IMAGE_META_SIZE]`. class_ids: `[N]` int32.
        bbox: `[N, (y1, x1, y2, x2)]` pixels. mask: `[h, w, N]` bool, or mini-masks; None for a network without masks.

    Raises: ValueError naming the image where its masks, or its boxes, and class ids do not fit.
    """
    config = as_config(config)
    image, truth, class_ids, (original_shape, window, scale) = _load_resized(
        dataset, config, image_id, rng
    )
    mirrored = augment and (random.randint(0, 1) if rng is None else rng.integers(2))
    image = np.fliplr(image) if mirrored else image
    # Cropping and augmentation can remove an instance altogether.
    if truth.ndim == 2:  # boxes
        if mirrored:
            truth[:, [1, 3]] = image.shape[1] - truth[:, [3, 1]]
        visible = area(truth) > 0
        bbox, class_ids = truth[visible], class_ids[visible]
        mask = boxes_to_masks(bbox, image.shape) if augmentation else None
    else:
        mask, class_ids, bbox = _visible(np.fliplr(truth) if mirrored else truth, class_ids)
    if augmentation:

        def another(rng):
            return _another(dataset, config, image_id, rng)

        image, mask, class_ids = apply_augmentation(
            augmentation, image, mask, class_ids, another, rng
        )
        mask, class_ids, bbox = _visible(mask, class_ids)
    active_class_ids = np.zeros([dataset.num_classes], dtype=np.int32)
    active_class_ids[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    if not config.has_mask_head():
        mask = None
    elif use_mini_mask:
        mask = minimize_mask(bbox, mask, config.MINI_MASK_SHAPE, exact=config.EXACT_RESIZE)
    image_meta = compose_image_meta(
        image_id, original_shape, image.shape, window, scale, active_class_ids
    )
    return image, image_meta, class_ids, bbox, mask


def _load_resized(dataset, config, image_id, rng):
    """Image, masks and class ids of molded size; and what image_meta needs: original shape, window and scale.

    For a network without masks, of a dataset with boxes of its own: boxes `[N, (y1, x1, y2, x2)]` in place of masks.
    """
    image = match_channels(
        to_uint8(dataset.load_image(image_id)),
        config.IMAGE_CHANNEL_COUNT,
        image_name(dataset, image_id),
    )
    from_boxes = not config.has_mask_head() and overrides(dataset, "load_bbox")
    load = _load_bbox if from_boxes else _load_mask
    truth, class_ids = load(dataset, config, image_id, image.shape)
    original_shape = image.shape
    rectangle = config.IMAGE_SHAPE if config.IMAGE_RESIZE_MODE in ("square", "crop") else None
    image, window, scale, padding, crop = resize_image(
        image,
        min_dim=config.IMAGE_MIN_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        max_dim=config.IMAGE_MAX_DIM,
        mode=config.IMAGE_RESIZE_MODE,
        shape=rectangle,
        rng=rng,
        exact=config.EXACT_RESIZE,
    )
    if from_boxes:
        return (
            image,
            resize_boxes(truth, scale, padding, crop, image.shape),
            class_ids,
            (original_shape, window, scale),
        )
    mask = resize_mask(truth, scale, padding, crop, exact=config.EXACT_RESIZE)
    return image, mask, class_ids, (original_shape, window, scale)


def _another(dataset, config, image_id, rng):
    """Image, masks and class ids of another image of the same source, of molded size; None where none is found."""
    for _ in range(TRIES):
        other = dataset.image_ids[int(rng.integers(len(dataset.image_ids)))]
        if (
            other == image_id
            or dataset.image_info[other]["source"] != dataset.image_info[image_id]["source"]
        ):
            continue
        try:
            image, truth, class_ids, _ = _load_resized(dataset, config, other, rng)
            return (
                image,
                boxes_to_masks(truth, image.shape) if truth.ndim == 2 else truth,
                class_ids,
            )
        except (ValueError, OSError):  # it is told of when its own turn comes
            continue
    return None


def _visible(mask, class_ids):
    """Masks, class ids and boxes of the instances that have a pixel left."""
    bbox = extract_bboxes(mask)
    visible = bbox[:, 2] > 0
    return (
        (mask, class_ids, bbox)
        if visible.all()
        else (mask[:, :, visible], class_ids[visible], bbox[visible])
    )


def image_name(dataset, image_id) -> str:
    info = dataset.image_info[image_id]
    return f"image {image_id} ({info.get('path') or info.get('id')})"


def _load_mask(dataset, config, image_id, image_shape):
    """The masks `[H, W, N]` bool and class ids `[N]` int32 of an image, checked."""
    mask, class_ids = dataset.load_mask(image_id)
    mask, class_ids = np.asarray(mask), np.asarray(class_ids, dtype=np.int32).reshape(-1)
    name = image_name(dataset, image_id)
    if len(class_ids) == 0 and (mask.size == 0 or not mask.any()):
        return np.zeros((*image_shape[:2], 0), dtype=bool), class_ids  # any empty shape will do
    if mask.ndim == 2:
        mask = mask[:, :, None]
    if mask.shape[:2] != image_shape[:2] or mask.shape[2] != len(class_ids):
        raise ValueError(
            f"load_mask must return masks [{image_shape[0]}, {image_shape[1]}, N] and N class ids for {name}. "
            f"Received: masks {mask.shape} and {len(class_ids)} class ids. "
            "Try the image's own height and width, and one id per mask."
        )
    real = _known_or_visible(class_ids, config, lambda wrong: mask[:, :, wrong].any(axis=(0, 1)))
    _check_class_ids(class_ids[real], config, name)
    return (mask if real.all() else mask[:, :, real]).astype(bool, copy=False), class_ids[real]


def _load_bbox(dataset, config, image_id, image_shape):
    """The boxes `[N, 4]` float and class ids `[N]` int32 of an image, checked."""
    boxes, class_ids = dataset.load_bbox(image_id)
    boxes, class_ids = (
        np.asarray(boxes, dtype=float),
        np.asarray(class_ids, dtype=np.int32).reshape(-1),
    )
    name = image_name(dataset, image_id)
    if len(class_ids) == 0 and boxes.size == 0:
        return np.zeros((0, 4)), class_ids  # any empty shape will do
    if boxes.shape != (len(class_ids), 4) or not np.isfinite(boxes).all():
        raise ValueError(
            f"load_bbox must return boxes [N, (y1, x1, y2, x2)] and N class ids for {name}. Received: boxes "
            f"{boxes.shape} and {len(class_ids)} class ids. Try np.array(boxes).reshape(-1, 4), without nan."
        )
    turned = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if turned.any():
        raise ValueError(
            f"A box must be (y1, x1, y2, x2) with y1 <= y2 and x1 <= x2. Received: {boxes[turned][0].tolist()} for "
            f"{name}. Try x, y, width, height turned into y, x, y + height, x + width."
        )
    real = _known_or_visible(class_ids, config, lambda wrong: area(boxes[wrong]) > 0)
    _check_class_ids(class_ids[real], config, name)
    return boxes[real], class_ids[real]


def _is_unknown(class_ids, config) -> np.ndarray:
    """`[N]` bool: which class ids the network does not have."""
    return (np.abs(class_ids) < 1) | (np.abs(class_ids) >= config.NUM_CLASSES)


def _known_or_visible(class_ids, config, visible) -> np.ndarray:
    """`[N]` bool: False for instances of an unknown class that have no pixel.

    Scripts say "nothing here" by an empty mask of class 0: such an image is a negative, not a fault.

    visible: `visible(positions)` says which of those instances have a pixel; asked only if a class is unknown, because
    it reads whole masks.
    """
    real = np.ones(len(class_ids), bool)
    unknown = np.flatnonzero(_is_unknown(class_ids, config))
    if len(unknown):
        real[unknown] = visible(unknown)
    return real


def _check_class_ids(class_ids, config, name) -> None:
    wrong = sorted(set(class_ids[_is_unknown(class_ids, config)].tolist()))
    if wrong:
        raise ValueError(
            f"Class ids must lie in 1..{config.NUM_CLASSES - 1} (NUM_CLASSES - 1; negative for a crowd). "
            f"Received: {wrong} for {name}. Try the ids of Dataset.class_names, and NUM_CLASSES = 1 + your classes."
        )

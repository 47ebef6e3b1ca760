"""One image with its ground truth: loaded, checked, resized, augmented."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np

from ..config import PAD32_MODES, Config, as_config
from ..nn.boxes import area, outward
from ..nn.image_meta import compose_image_meta
from .apply_augmentation import DrawOther, Instances, apply_augmentation, augment_keypoints
from .dataset import Dataset, overrides
from .dataset_objects import image_name, load_bbox, load_keypoints, load_mask
from .image import (
    NO_PADDING,
    Resized,
    match_channels,
    pad_end,
    resize_boxes,
    resize_to_config,
    to_uint8,
)
from .keypoints import mirror, mirrored_order, resize_keypoints
from .masks import boxes_to_masks, extract_bboxes, minimize_mask, resize_mask

MAX_DRAWS = 100  # of another image, until one is of the same source and can be read

Rng = np.random.Generator | None


class GroundTruth(NamedTuple):
    """An image at the size of the network's input, and its objects.

    image: `[h, w, C]` uint8, or float32 in the resize modes of PAD32_MODES. image_meta:
    `[IMAGE_META_SIZE]`. class_ids: `[N]` int32, negative for a crowd. bbox: `[N, (y1, x1, y2, x2)]`
    int pixels; float32 if they are those of `load_bbox` and CONTINUOUS_BOXES is set. mask:
    `[h, w, N]` bool, or mini-masks; None for a network without masks.
    """

    image: np.ndarray
    image_meta: np.ndarray
    class_ids: np.ndarray
    bbox: np.ndarray
    mask: np.ndarray | None


class LabelledImage(NamedTuple):
    """An image with its ground truth, and the keypoints of its objects.

    keypoints: `[N, K, (y, x, visibility)]` float32 pixels; None for a network without keypoints.
    """

    ground_truth: GroundTruth
    keypoints: np.ndarray | None


def load_image_gt(
    dataset: Dataset,
    config: Config,
    image_id: int,
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
    rng: Rng = None,
) -> GroundTruth:
    """Load one image with its ground truth, resized and augmented, the mean not yet subtracted.

    A network without masks (USE_MASK = False, RPN_ONLY) takes the boxes of the dataset's own
    `load_bbox`. They are scaled and mirrored as boxes. Augmentations know masks only, so they get
    each box as a filled mask, and the box of the result is taken, which after a rotation is larger
    than the object. Without a `load_bbox` the boxes are those of the masks, augmented with them.

    In the resize modes of PAD32_MODES the image is padded after it was mirrored and augmented: its
    window stays at the top left, and no augmentation moves the padding into the image.
    Augmentations know uint8 only, so they get rounded pixels.

    Args:
        augment: deprecated, mirrors left-right with probability 0.5.
        augmentation: an imgaug augmenter, an albumentations transform, or a callable
            `(image, masks, rng) -> (image, masks)`; see `data.augment` for callables that paste.
        use_mini_mask: cut masks to their boxes and resize them to MINI_MASK_SHAPE.
        rng: source of random numbers; None uses the global generators, in matterport's order.

    Raises: ValueError that names the image if its masks or boxes and its class ids do not match.
    """
    options = (augment, augmentation, use_mini_mask, rng)
    return load_labelled_image(dataset, config, image_id, *options).ground_truth


def load_labelled_image(
    dataset: Dataset,
    config: Config,
    image_id: int,
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
    rng: Rng = None,
) -> LabelledImage:
    """Load one image as `load_image_gt` does, with its keypoints if the network has any.

    In a mirrored image, keypoints of the left and of the right change places; see
    `Config.KEYPOINT_PAIRS`.
    """
    config = as_config(config)
    loaded = _load_resized(dataset, config, image_id, rng)
    order = _mirrored_order(config, dataset)
    if augment and _heads(rng):
        loaded = loaded.mirrored(order)
    image, objects = loaded.image, _visible(loaded.objects)
    if augmentation:

        def draw_other(rng: np.random.Generator) -> Instances | None:
            return _draw_other(dataset, config, image_id, rng)

        image, objects = _augmented(image, objects, augmentation, draw_other, rng, order)
    class_ids, bbox, mask, keypoints = objects
    if config.IMAGE_RESIZE_MODE in PAD32_MODES:
        image, mask = _pad_to_network(image, mask, loaded.resized, config)
    if not config.has_mask_head():
        mask = None
    elif use_mini_mask and mask is not None:
        mask = minimize_mask(bbox, mask, config.MINI_MASK_SHAPE, exact=config.EXACT_RESIZE)
    meta = compose_image_meta(
        image_id,
        loaded.original_shape,
        image.shape,
        loaded.resized.window,
        loaded.resized.scale,
        _active_class_ids(dataset, image_id),
    )
    return LabelledImage(GroundTruth(image, meta, class_ids, bbox, mask), keypoints)


def _augmented(
    image: np.ndarray,
    objects: _Objects,
    augmentation: Any,
    draw_other: DrawOther,
    rng: Rng,
    order: np.ndarray,
) -> tuple[np.ndarray, _Objects]:
    """The augmented image, uint8, and its visible objects. order: see `mirrored_order`."""
    class_ids, boxes, masks, keypoints = objects
    if masks is None:
        masks = boxes_to_masks(outward(boxes), image.shape)
    instances = Instances(_as_uint8(image), masks, class_ids)
    if keypoints is None:
        instances = apply_augmentation(augmentation, instances, draw_other, rng)
    else:
        instances, keypoints = augment_keypoints(augmentation, instances, keypoints, order, rng)
    image, masks, class_ids = instances
    return image, _visible(_Objects(class_ids, boxes, masks, keypoints))


def _mirrored_order(config: Config, dataset: Dataset) -> np.ndarray:
    """`[K]`, see `keypoints.mirrored_order`; empty for a network without keypoints."""
    if not config.has_keypoint_head():
        return np.zeros(0, int)
    names = config.KEYPOINT_NAMES or dataset.keypoint_names
    return mirrored_order(config.NUM_KEYPOINTS, names, config.KEYPOINT_PAIRS)


def _heads(rng: Rng) -> bool:
    return bool(random.randint(0, 1) if rng is None else rng.integers(2))


def _as_uint8(image: np.ndarray) -> np.ndarray:
    """A resized image with pixels rounded to uint8."""
    return image if image.dtype == np.uint8 else np.round(image).astype(np.uint8)


def _pad_to_network(
    image: np.ndarray, mask: np.ndarray | None, resized: Resized, config: Config
) -> tuple[np.ndarray, np.ndarray | None]:
    """Image, float32, and masks padded to the size of the resized image."""
    height, width = resized.image.shape[:2]
    image = pad_end(image.astype(np.float32, copy=False), height, width, config.MEAN_PIXEL)
    return image, None if mask is None else np.pad(mask, resized.padding)


def _active_class_ids(dataset: Dataset, image_id: int) -> np.ndarray:
    """`[num_classes]` int32: 1 for the classes of the image's source."""
    active = np.zeros([dataset.num_classes], dtype=np.int32)
    active[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    return active


# --- Loading and resizing ---------------------------------------------------------------------


class _Objects(NamedTuple):
    """The objects of an image.

    class_ids: `[N]`. boxes: `[N, 4]`; those of the masks only after `_visible`.
    masks: `[h, w, N]`, or None if the boxes are given.
    keypoints: `[N, K, 3]`, or None for a network without keypoints.
    """

    class_ids: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray | None
    keypoints: np.ndarray | None

    def at(self, kept: np.ndarray) -> _Objects:
        """The objects at `[N]` bool."""
        masks = None if self.masks is None else self.masks[:, :, kept]
        keypoints = None if self.keypoints is None else self.keypoints[kept]
        return _Objects(self.class_ids[kept], self.boxes[kept], masks, keypoints)


class _Loaded(NamedTuple):
    """A resized image and its objects: with masks or, for a network without masks, with boxes.

    In the resize modes of PAD32_MODES image and masks have no padding yet.

    image: `[h, w, C]`. original_shape: of the image before resizing. resized: how it was resized.
    """

    image: np.ndarray
    objects: _Objects
    original_shape: tuple[int, ...]
    resized: Resized

    def mirrored(self, order: np.ndarray) -> _Loaded:
        """The same, mirrored left-right. order: see `keypoints.mirrored_order`."""
        class_ids, boxes, masks, keypoints = self.objects
        width = self.image.shape[1]
        if masks is None:
            boxes = boxes.copy()
            boxes[:, [1, 3]] = width - boxes[:, [3, 1]]
        else:
            masks = np.fliplr(masks)
        if keypoints is not None:
            keypoints = mirror(keypoints, width, order)
        objects = _Objects(class_ids, boxes, masks, keypoints)
        return self._replace(image=np.fliplr(self.image), objects=objects)


def _load_resized(dataset: Dataset, config: Config, image_id: int, rng: Rng) -> _Loaded:
    """Load an image with its masks or boxes, and resize them to the size of the network's input."""
    name = image_name(dataset, image_id)
    image = to_uint8(dataset.load_image(image_id))
    image = match_channels(image, config.IMAGE_CHANNEL_COUNT, name)
    mode = config.IMAGE_RESIZE_MODE
    from_boxes = not config.has_mask_head() and overrides(dataset, "load_bbox")
    if from_boxes:
        boxes, class_ids, kept = load_bbox(dataset, config, image_id)
        keypoints = load_keypoints(dataset, config, image_id, kept)
        resized = resize_to_config(image, config, rng)
        _, _, scale, padding, crop = resized
        rounded = not config.CONTINUOUS_BOXES
        boxes = resize_boxes(boxes, scale, padding, crop, resized.image.shape, rounded)
        objects = _Objects(class_ids, boxes, None, _resized_keypoints(keypoints, resized))
        return _Loaded(_content(resized, mode), objects, image.shape, resized)
    masks, class_ids, kept = load_mask(dataset, config, image_id, image.shape)
    keypoints = load_keypoints(dataset, config, image_id, kept)
    resized = resize_to_config(image, config, rng)
    _, _, scale, padding, crop = resized
    padding = NO_PADDING if mode in PAD32_MODES else padding
    exact, half_pixel = config.EXACT_RESIZE and mode not in PAD32_MODES, mode != "torchvision"
    masks = resize_mask(masks, scale, padding, crop, exact, half_pixel)
    no_boxes = np.zeros((len(class_ids), 4))
    objects = _Objects(class_ids, no_boxes, masks, _resized_keypoints(keypoints, resized))
    return _Loaded(_content(resized, mode), objects, image.shape, resized)


def _resized_keypoints(keypoints: np.ndarray | None, resized: Resized) -> np.ndarray | None:
    if keypoints is None:
        return None
    image, _, scale, padding, crop = resized
    return resize_keypoints(keypoints, scale, padding, crop, image.shape)


def _content(resized: Resized, mode: str) -> np.ndarray:
    """A resized image, in the modes of PAD32_MODES without its padding."""
    if mode not in PAD32_MODES:
        return resized.image
    _, _, bottom, right = resized.window
    return resized.image[:bottom, :right]


def _draw_other(
    dataset: Dataset, config: Config, image_id: int, rng: np.random.Generator
) -> Instances | None:
    """Draw another readable image of the same source, resized; None if no draw succeeds."""
    source = dataset.image_info[image_id]["source"]
    for _ in range(MAX_DRAWS):
        other = dataset.image_ids[int(rng.integers(len(dataset.image_ids)))]
        if other == image_id or dataset.image_info[other]["source"] != source:
            continue
        try:
            loaded = _load_resized(dataset, config, other, rng)
        except (ValueError, OSError):  # reported when it is loaded for itself
            continue
        class_ids, boxes, masks, _ = loaded.objects
        if masks is None:
            masks = boxes_to_masks(outward(boxes), loaded.image.shape)
        return Instances(_as_uint8(loaded.image), masks, class_ids)
    return None


def _visible(objects: _Objects) -> _Objects:
    """The objects that resizing or augmentation left a pixel, with the boxes of their masks."""
    if objects.masks is not None:
        objects = objects._replace(boxes=extract_bboxes(objects.masks))
    visible = area(objects.boxes) > 0
    return objects if visible.all() else objects.at(visible)

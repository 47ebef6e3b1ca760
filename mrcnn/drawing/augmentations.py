"""A grid of one training image as augmentations change it, with its masks, without a display."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..config import Config
from ..data.dataset import Dataset
from ..data.ground_truth import LabelledImage, load_labelled_image
from ..data.image import NO_PADDING, scaled_size
from ..data.masks import extract_bboxes, resize_mask
from .instances import draw_instances
from .pages import contact_sheet, titled

COLUMNS = 4
TILES = 12
TILE_SIDE = 360  # pixels; larger images are shrunk, smaller ones magnified
IMAGES_TRIED = 20  # until one has GOOD_OBJECTS
GOOD_OBJECTS = 3


def augmentation_sheet(
    dataset: Dataset, config: Config, augmentation: Any, seed: int = 0
) -> np.ndarray | None:
    """Draw an image without augmentation, and eleven draws of it, on one page.

    The image is one with some objects, at the size of the network's input. augmentation: as of
    `train`, not None.

    Returns: uint8 `[H, W, 3]`; None if no image can be loaded.
    """
    image_id = _image_with_objects(dataset, config)
    if image_id is None:
        return None
    tiles = []
    for number in range(TILES):
        rng = np.random.default_rng((seed, number))
        changes = augmentation if number else None
        labelled = load_labelled_image(dataset, config, image_id, augmentation=changes, rng=rng)
        title = f"draw {number}" if number else "as it is"
        tiles.append(titled(_draw(labelled, dataset), title))
    return contact_sheet(tiles, COLUMNS)


def _image_with_objects(dataset: Dataset, config: Config) -> int | None:
    """The first of some images with GOOD_OBJECTS, otherwise the one with most; None without any."""
    chosen, most = None, -1
    count = min(IMAGES_TRIED, len(dataset.image_ids))
    for i in range(count):
        image_id = int(dataset.image_ids[i * len(dataset.image_ids) // count])
        try:
            found = load_labelled_image(dataset, config, image_id, rng=np.random.default_rng(0))
        except (ValueError, OSError):  # the training reports it
            continue
        objects = len(found.ground_truth.class_ids)
        if objects > most:
            chosen, most = image_id, objects
        if objects >= GOOD_OBJECTS:
            break
    return chosen


def _draw(labelled: LabelledImage, dataset: Dataset) -> np.ndarray:
    """`[H, W, 3]` uint8: the image with outlines, keypoints and no labels, of TILE_SIDE pixels."""
    image, _, class_ids, boxes, masks = labelled.ground_truth
    pixels = np.clip(np.round(image), 0, 255).astype(np.uint8)
    factor = TILE_SIDE / max(pixels.shape[:2])
    small = _resize(pixels, factor)
    boxes = boxes * factor
    if masks is not None:
        masks = resize_mask(masks, factor, NO_PADDING)
        boxes = extract_bboxes(masks)
    keypoints = labelled.keypoints
    if keypoints is not None:
        keypoints = keypoints * [factor, factor, 1]
    return draw_instances(
        small,
        boxes,
        masks,
        class_ids,
        dataset.class_names,
        captions=[""] * len(class_ids),
        show_bbox=masks is None,
        keypoints=keypoints,
        skeleton=dataset.keypoint_skeleton,
    )


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = scaled_size(image.shape[0], image.shape[1], factor)
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    return resized.reshape(height, width, -1)  # OpenCV drops a single channel

"""Apply a user's augmentation (imgaug, albumentations or a callable) to an image and its masks."""

from __future__ import annotations

import copy

import numpy as np

from .imgaug_support import augment_with_imgaug


def apply_augmentation(augmentation, image, mask, class_ids, another, rng):
    """Image, masks and class ids after augmentation; another: see `augment.py`."""
    shape = image.shape
    if hasattr(augmentation, "to_deterministic"):
        image, mask = augment_with_imgaug(augmentation, image, mask, rng)
    elif _is_of_albumentations(augmentation):
        image, mask = _albumentations_augment(augmentation, image, mask, rng)
    elif callable(augmentation):
        rng = rng if rng is not None else np.random.default_rng()
        if getattr(augmentation, "pastes", False):
            image, mask, class_ids = augmentation(image, mask, rng, class_ids, another)
        else:
            image, mask = augmentation(image, mask, rng)
    else:
        raise TypeError(
            "augmentation must be an imgaug augmenter, an albumentations transform, or a callable "
            f"(image, masks, rng) -> (image, masks). Received: {augmentation!r}. Try imgaug.augmenters.Fliplr(0.5)."
        )
    if image.shape != shape or mask.shape != (*shape[:2], len(class_ids)):
        raise ValueError(
            f"Augmentation must keep the image's shape {shape}, and a mask for each of {len(class_ids)} instances. "
            f"Received: image {image.shape}, masks {mask.shape}. Try keep_size=True where the augmenter offers it, and "
            "an empty mask for an instance to drop."
        )
    return image, mask.astype(bool, copy=False), class_ids


def _is_of_albumentations(augmentation) -> bool:
    """Whether it is a transform of albumentations, which need not be installed."""
    return any(
        kind.__module__.partition(".")[0] == "albumentations" for kind in type(augmentation).__mro__
    )


def _albumentations_augment(augmentation, image, mask, rng):
    """Image and masks through one call of an albumentations transform; a copy of it draws from `rng`.

    Raises: TypeError if it asks for boxes or keypoints.
    """
    wanted = getattr(augmentation, "processors", None)
    if wanted:
        raise TypeError(
            "An albumentations transform must need the image and its masks only; boxes follow from the masks. "
            f"Received: one that asks for {', '.join(wanted)}. Try it without bbox_params and keypoint_params."
        )
    if rng is not None and hasattr(augmentation, "set_random_seed"):
        augmentation = copy.deepcopy(augmentation)  # several threads augment at once
        augmentation.set_random_seed(int(rng.integers(2**31)))
    image = np.ascontiguousarray(image)
    if mask.shape[2] == 0:
        after = augmentation(image=image)
        masks = mask
    else:
        after = augmentation(
            image=image, masks=list(np.ascontiguousarray(np.moveaxis(mask, -1, 0)).view(np.uint8))
        )
        masks = np.stack(after["masks"], axis=-1) != 0
    image = np.asarray(after["image"])
    return image[:, :, None] if image.ndim == 2 else image, masks

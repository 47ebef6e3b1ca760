"""Apply a user's augmentation (imgaug, albumentations or a callable) to an image and its masks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .imgaug_support import augment_with_imgaug


class Instances(NamedTuple):
    """An image and its objects.

    image: `[H, W, C]` uint8. masks: `[H, W, N]` bool. class_ids: `[N]` int, negative for a crowd.
    """

    image: np.ndarray
    masks: np.ndarray
    class_ids: np.ndarray


# Draws another image of the same source, or None.
DrawOther = Callable[[np.random.Generator], Instances | None]


def apply_augmentation(
    augmentation: Any,
    instances: Instances,
    draw_other: DrawOther,
    rng: np.random.Generator | None,
) -> Instances:
    """Apply an augmentation of any kind to an image and its objects.

    Args:
        augmentation: an imgaug augmenter, an albumentations transform, or a callable as described
            in `data.augment`.
        draw_other: given to callables that paste objects of other images.
        rng: source of random numbers; None uses the library's own.

    Raises: TypeError for an augmentation of another kind. ValueError if the result has another
        shape or number of masks.
    """
    image, mask, class_ids = instances
    if hasattr(augmentation, "to_deterministic"):
        image, mask = augment_with_imgaug(augmentation, image, mask, rng)
    elif _is_from_albumentations(augmentation):
        image, mask = _augment_with_albumentations(augmentation, image, mask, rng)
    elif callable(augmentation):
        rng = rng if rng is not None else np.random.default_rng()
        function: Callable[..., Any] = augmentation
        if getattr(augmentation, "pastes", False):
            image, mask, class_ids = function(image, mask, rng, class_ids, draw_other)
        else:
            image, mask = function(image, mask, rng)
    else:
        raise TypeError(
            "augmentation must be an imgaug augmenter, an albumentations transform, or a callable "
            f"(image, masks, rng) -> (image, masks). Received: {augmentation!r}. Try "
            "imgaug.augmenters.Fliplr(0.5)."
        )
    shape = instances.image.shape
    if image.shape != shape or mask.shape != (*shape[:2], len(class_ids)):
        raise ValueError(
            f"Augmentation must keep the image's shape {shape}, and a mask for each of "
            f"{len(class_ids)} instances. Received: image {image.shape}, masks {mask.shape}. Try "
            "keep_size=True if the augmenter has it, and an empty mask to remove an instance."
        )
    return Instances(image, mask.astype(bool, copy=False), class_ids)


def _is_from_albumentations(augmentation: Any) -> bool:
    """Return whether it is an albumentations transform, without importing albumentations."""
    return any(
        kind.__module__.partition(".")[0] == "albumentations" for kind in type(augmentation).__mro__
    )


def _augment_with_albumentations(
    augmentation: Any, image: np.ndarray, mask: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Apply a transform to image and masks in one call; `rng` seeds a copy of the transform.

    Raises: TypeError if it asks for boxes or keypoints.
    """
    wanted = getattr(augmentation, "processors", None)
    if wanted:
        raise TypeError(
            "An albumentations transform must need the image and its masks only; boxes follow from "
            f"the masks. Received: one that asks for {', '.join(wanted)}. Try it without "
            "bbox_params and keypoint_params."
        )
    if rng is not None and hasattr(augmentation, "set_random_seed"):
        augmentation = copy.deepcopy(augmentation)  # worker threads share the transform
        augmentation.set_random_seed(int(rng.integers(2**31)))
    image = np.ascontiguousarray(image)
    if mask.shape[2] == 0:
        augmented = augmentation(image=image)
    else:
        planes = np.ascontiguousarray(np.moveaxis(mask, -1, 0)).view(np.uint8)  # [N, H, W]
        augmented = augmentation(image=image, masks=list(planes))
        mask = np.stack(augmented["masks"], axis=-1) != 0
    image = np.asarray(augmented["image"])
    if image.ndim == 2:
        image = image[:, :, None]
    return image, mask

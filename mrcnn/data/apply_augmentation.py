"""Apply a user's augmentation (imgaug, albumentations or a callable) to an image and its masks."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .imgaug_support import augment_with_imgaug
from .keypoints import without_outside


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
        image, mask, _ = augment_with_imgaug(augmentation, image, mask, rng)
    elif _is_from_albumentations(augmentation):
        image, mask, _ = _augment_with_albumentations(augmentation, image, mask, rng)
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
    return _checked(Instances(image, mask, class_ids), instances.image.shape)


def augment_keypoints(
    augmentation: Any,
    instances: Instances,
    keypoints: np.ndarray,
    order: np.ndarray,
    rng: np.random.Generator | None,
) -> tuple[Instances, np.ndarray]:
    """Apply an augmentation of any kind to an image, its objects and their keypoints.

    Args:
        augmentation: as for `apply_augmentation`; a callable must be one that moves points, see
            `data.augment`.
        keypoints: `[N, K, (y, x, visibility)]` pixels.
        order: `[K]`, see `keypoints.mirrored_order`.
        rng: source of random numbers; None uses the library's own.

    Returns: the instances, and `[N, K, 3]` keypoints in the order of a mirrored image if it is
        mirrored; those that left the image have visibility 0.

    Raises: TypeError for an augmentation that cannot move points. ValueError as
        `apply_augmentation`.
    """
    image, mask, class_ids = instances
    shape = image.shape
    moved: Any
    # Three points more, whose order around their center tells a mirror from a rotation.
    probe = np.array([[0.5, 0.5], [0.75, 0.5], [0.5, 0.75]]) * shape[:2]
    points = np.concatenate([keypoints[..., :2].reshape(-1, 2), probe])
    if hasattr(augmentation, "to_deterministic"):
        image, mask, moved = augment_with_imgaug(augmentation, image, mask, rng, points)
    elif _is_from_albumentations(augmentation):
        image, mask, moved = _augment_with_albumentations(augmentation, image, mask, rng, points)
    elif getattr(augmentation, "moves_points", False):
        rng = rng if rng is not None else np.random.default_rng()
        image, mask, moved = augmentation(image, mask, rng, points=points)
    else:
        raise TypeError(
            "With keypoints, augmentation must be an imgaug augmenter, an albumentations transform "
            "or a callable with moves_points = True, and paste no objects. Received: "
            f"{augmentation!r}. Try mrcnn.data.augment.compose(['fliplr', 'scale'])."
        )
    first, second, third = moved[-3:]
    is_mirrored = np.linalg.det([second - first, third - first]) < 0
    found = keypoints.astype(np.float32)
    found[..., :2] = moved[:-3].reshape(*keypoints.shape[:2], 2)
    if is_mirrored:
        found = found[:, order]
    return _checked(Instances(image, mask, class_ids), shape), without_outside(found, shape)


def _checked(instances: Instances, shape: tuple[int, ...]) -> Instances:
    """The augmented instances of an image of this shape, their masks as bool."""
    image, mask, class_ids = instances
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
    augmentation: Any,
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator | None,
    points: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Apply a transform to image, masks and `[P, (y, x)]` points in one call.

    `rng` seeds a copy of the transform.

    Raises: TypeError if it asks for boxes or keypoints.
    """
    wanted = getattr(augmentation, "processors", None)
    if wanted:
        raise TypeError(
            "An albumentations transform must need the image and its masks only; boxes follow from "
            f"the masks. Received: one that asks for {', '.join(wanted)}. Try it without "
            "bbox_params and keypoint_params."
        )
    if points is not None:
        library: Any = sys.modules["albumentations"]  # the transform is from there
        all_points = library.KeypointParams(format="yx", remove_invisible=False)
        augmentation = library.Compose([augmentation], keypoint_params=all_points)
    if rng is not None and hasattr(augmentation, "set_random_seed"):
        augmentation = copy.deepcopy(augmentation)  # worker threads share the transform
        augmentation.set_random_seed(int(rng.integers(2**31)))
    inputs: dict[str, Any] = {"image": np.ascontiguousarray(image)}
    if points is not None:
        inputs["keypoints"] = points - 0.5  # albumentations counts from the center of a pixel
    if mask.shape[2]:
        planes = np.ascontiguousarray(np.moveaxis(mask, -1, 0)).view(np.uint8)  # [N, H, W]
        inputs["masks"] = list(planes)
    augmented = augmentation(**inputs)
    if mask.shape[2]:
        mask = np.stack(augmented["masks"], axis=-1) != 0
    if points is not None:
        points = np.asarray(augmented["keypoints"], float).reshape(points.shape) + 0.5
    image = np.asarray(augmented["image"])
    if image.ndim == 2:
        image = image[:, :, None]
    return image, mask, points

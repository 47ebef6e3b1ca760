"""imgaug on NumPy 2: import it, and apply its augmenters to an image and its masks."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np

# Names that imgaug 0.4.0 reads when it is imported, and that NumPy 2 removed.
_REMOVED_FROM_NUMPY = {
    "sctypes": {
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
        "float": [np.float16, np.float32, np.float64],
        "complex": [np.complex64, np.complex128],
        "others": [bool, object, bytes, str, np.void],
    },
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
}


@functools.cache
def import_imgaug() -> ModuleType:
    """Import imgaug; NumPy has the names that it needs during the import only.

    Raises: ImportError that says what to install.
    """
    missing = {
        name: value for name, value in _REMOVED_FROM_NUMPY.items() if name not in np.__dict__
    }
    try:
        for name, value in missing.items():
            setattr(np, name, value)
        import imgaug
    except ImportError as error:
        raise ImportError(
            f"imgaug cannot be imported ({error}). Try `pip install imgaug 'opencv-python<5'`; if "
            "libGL is missing (a server without a screen), `apt-get install libgl1` or "
            "`pip install 'opencv-python-headless<5'`."
        ) from error
    finally:
        for name in missing:
            delattr(np, name)
    _fix_elastic_transformation(imgaug.augmenters.ElasticTransformation)
    return imgaug


def _fix_elastic_transformation(elastic: Any) -> None:
    """Make its shift maps float32, as OpenCV requires: NumPy 2 computes them in float64."""
    shift_maps = elastic._generate_shift_maps

    def shift_maps_float32(*args: Any, **kwargs: Any) -> list[np.ndarray]:
        return [shift.astype(np.float32) for shift in shift_maps(*args, **kwargs)]

    elastic._generate_shift_maps = staticmethod(shift_maps_float32)


def augment_with_imgaug(
    augmentation: Any,
    image: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator | None,
    points: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Apply an imgaug augmenter to an image, its masks and points, with the same random values.

    Args:
        augmentation: an imgaug augmenter, which knows whether it applies to masks.
        image: `[H, W, C]` uint8.
        mask: `[H, W, N]` bool.
        rng: seeds the augmenter; None uses imgaug's own random state.
        points: `[P, (y, x)]` pixels counted from the corner of the image, or None.
    """
    from imgaug.augmentables.kps import KeypointsOnImage
    from imgaug.augmentables.segmaps import SegmentationMapsOnImage

    fixed = augmentation.to_deterministic()
    if rng is not None:
        fixed.seed_(int(rng.integers(2**31)), deterministic_too=True)
    augmented = fixed.augment_image(np.ascontiguousarray(image))
    if points is not None:
        placed = KeypointsOnImage.from_xy_array(points[:, ::-1], shape=image.shape)
        points = fixed.augment_keypoints(placed).to_xy_array()[:, ::-1]
    if mask.shape[-1] == 0:
        return augmented, mask, points
    maps = SegmentationMapsOnImage(np.ascontiguousarray(mask), shape=image.shape)
    return augmented, fixed.augment_segmentation_maps(maps).get_arr(), points

"""imgaug on NumPy 2, and imgaug's augmenters applied to an image and its masks."""

from __future__ import annotations

import numpy as np


def import_imgaug():
    """The imgaug module. Version 0.4.0 reads names at import that NumPy 2 no longer has: they are lent to it.

    Raises: ImportError that says what to install.
    """
    lent = {
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
    lent = {name: value for name, value in lent.items() if name not in np.__dict__}
    try:
        for name, value in lent.items():
            setattr(np, name, value)
        import imgaug
    except ImportError as error:
        raise ImportError(
            f"imgaug cannot be imported ({error}). Try `pip install imgaug 'opencv-python<5'`; where libGL is missing "
            "(a server without a screen), `apt-get install libgl1` or `pip install 'opencv-python-headless<5'`."
        ) from error
    finally:
        for name in lent:
            delattr(np, name)
    _mend_elastic_transformation(imgaug.augmenters.ElasticTransformation)
    return imgaug


def _mend_elastic_transformation(elastic) -> None:
    """Have it move pixels by float32, as OpenCV wants: under NumPy 2's rules float32 + float64 became float64."""
    shift_maps = elastic._generate_shift_maps
    elastic._generate_shift_maps = staticmethod(
        lambda *args, **kwargs: [shift.astype(np.float32) for shift in shift_maps(*args, **kwargs)]
    )


def augment_with_imgaug(augmentation, image, mask, rng):
    """Image and masks through the same draw; imgaug knows which of its augmenters move masks."""
    from imgaug.augmentables.segmaps import SegmentationMapsOnImage

    drawn = augmentation.to_deterministic()
    if rng is not None:
        drawn.seed_(int(rng.integers(2**31)), deterministic_too=True)
    image_after = drawn.augment_image(np.ascontiguousarray(image))
    if mask.shape[-1] == 0:
        return image_after, mask
    maps = SegmentationMapsOnImage(np.ascontiguousarray(mask), shape=image.shape)
    return image_after, drawn.augment_segmentation_maps(maps).get_arr()

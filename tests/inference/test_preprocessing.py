"""Images to network input."""

import numpy as np
import pytest
from tiny import TinyConfig, noise_images

from mrcnn.data.image import mold_image
from mrcnn.inference.preprocessing import batches, mold, stack_if_equal
from mrcnn.nn.image_meta import parse_image_meta


def test_molded_image_carries_its_window_and_original_shape():
    (image,) = noise_images(1, sizes=[(30, 60)])
    config = TinyConfig()
    molded = mold(image, config)
    assert molded.image.shape == (64, 64, 3) and molded.image.dtype == np.float32
    assert molded.original_shape == (30, 60, 3)
    assert tuple(molded.window) == (16, 0, 48, 64)
    meta = parse_image_meta(molded.meta)
    assert meta["window"].tolist() == [16, 0, 48, 64]
    assert meta["original_image_shape"].tolist() == [30, 60, 3]
    padding = mold_image(np.zeros((16, 64, 3), np.uint8), config)
    np.testing.assert_allclose(molded.image[:16], padding, rtol=1e-6)


def test_uint8_image_differs_by_the_mean_only():
    (image,) = noise_images(1, sizes=[(30, 60)])
    config = TinyConfig()
    resized = mold(image, config, subtract_mean=False).image
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(
        mold(image, config).image, mold_image(resized, config).astype(np.float32)
    )


def test_crop_mode_shows_the_whole_image():
    (image,) = noise_images(1, sizes=[(100, 70)])
    config = TinyConfig(IMAGE_RESIZE_MODE="crop")
    assert tuple(mold(image, config).window) == (14, 29, 114, 99)


def test_mode_none_needs_multiples_of_64():
    config = TinyConfig(IMAGE_RESIZE_MODE="none")
    assert mold(np.zeros((64, 128, 3), np.uint8), config).image.shape == (64, 128, 3)
    with pytest.raises(ValueError, match=r"multiples of 64. Received: image 3 of \(60, 64, 3\)"):
        mold(np.zeros((60, 64, 3), np.uint8), config, name="image 3")


@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_sides_are_multiples_of_32_by_the_rules_of_other_libraries(mode):
    (image,) = noise_images(1, sizes=[(50, 70)])
    config = TinyConfig(IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=40, IMAGE_MAX_DIM=96)
    for subtract_mean in (True, False):  # a device would not know where the padding is
        molded = mold(image, config, subtract_mean=subtract_mean)
        assert molded.image.shape == (64, 64, 3) and molded.image.dtype == np.float32
        assert tuple(molded.window) == (0, 0, 40, 56)
        assert not molded.image[40:].any() and not molded.image[:, 56:].any()
        assert molded.image[:40, :56].all()
    meta = parse_image_meta(molded.meta)
    assert meta["window"].tolist() == [0, 0, 40, 56] and meta["scale"] == np.float32(0.8)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("square", [2, 2, 1]), ("pad64", [1, 2, 1, 1]), ("none", [1, 2, 1, 1])]
    + [("torchvision", [1, 2, 1, 1]), ("detectron2", [1, 2, 1, 1])],
)
def test_images_of_one_batch_have_one_molded_size(mode, expected):
    sizes = [(64, 64), (40, 90), (40, 90), (40, 90), (64, 64)]
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    config = TinyConfig(IMAGE_RESIZE_MODE=mode)
    found = list(batches(images, config, size=2))
    assert [len(batch) for batch in found] == expected
    assert [image.shape for batch in found for image in batch] == [image.shape for image in images]


def test_equal_shapes_are_stacked():
    assert stack_if_equal([np.zeros((2, 3))] * 2).shape == (2, 2, 3)
    unequal = [np.zeros((2, 3)), np.zeros((3, 3))]
    assert stack_if_equal(unequal) is unequal

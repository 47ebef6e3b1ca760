"""torchvision's and detectron2's resize rules, compared with their own results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.config import Config
from mrcnn.data.image import molded_float32, resize_boxes, resize_image, resize_to_config
from mrcnn.data.masks import resize_mask
from mrcnn.data.resize_rules import rule_pixels, rule_size
from mrcnn.files.image_files import read_pixels

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
MODES = ["torchvision", "detectron2"]
NO_PADDING = [(0, 0)] * 3


@pytest.fixture(scope="module")
def unit(shared):
    with np.load(shared / "reference/torchvision/unit/resize.npz") as file:
        return dict(file)


def test_sides_are_rounded_as_each_library_rounds_them():
    # Scale 10 / 4 = 2.5: 7 * 2.5 = 17.5.
    assert rule_size("torchvision", 4, 7, 10, 100) == (10, 17)
    assert rule_size("detectron2", 4, 7, 10, 100) == (10, 18)
    # The long side binds: scale 10 / 7, 4 * 10 / 7 = 5.71.
    assert rule_size("torchvision", 4, 7, 10, 10) == (5, 10)
    assert rule_size("detectron2", 4, 7, 10, 10) == (6, 10)
    # Both reduce: scale 2 / 4, 7 * 0.5 = 3.5.
    assert rule_size("torchvision", 4, 7, 2, 100) == (2, 3)
    assert rule_size("detectron2", 4, 7, 2, 100) == (2, 4)
    # A side of 1 * 10 / 100 = 0.1 stays a pixel.
    assert rule_size("torchvision", 1, 100, 10, 10) == (1, 10)
    assert rule_size("detectron2", 1, 100, 10, 10) == (1, 10)


@pytest.mark.parametrize("mode", MODES)
def test_recorded_sizes(unit, mode):
    rows = zip(unit["height_width"], unit["min_max"], unit[mode], strict=True)
    for size, limits, expected in rows:
        assert rule_size(mode, *size.tolist(), *limits.tolist()) == tuple(expected.tolist())


def test_torchvision_interpolates_floats_without_antialiasing():
    row = np.uint8([0, 100, 50, 250]).reshape(1, 4, 1)
    # Centers of 8 columns: -0.25 (the first pixel), 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25.
    expected = [0, 25, 75, 87.5, 62.5, 100, 200, 250]
    found = rule_pixels("torchvision", row, 1, 8)
    assert found.dtype == np.float32 and found.ravel().tolist() == expected
    # Half the columns: centers 0.5 and 2.5.
    assert rule_pixels("torchvision", row, 1, 2).ravel().tolist() == [50, 150]
    # A quarter: center 1.5; antialiasing would give 100, the mean.
    assert rule_pixels("torchvision", row, 1, 1).ravel().tolist() == [75]


def test_detectron2_antialiases_and_rounds():
    row = np.uint8([0, 100, 50, 250]).reshape(1, 4, 1)
    # Triangle of half-width 4 around the center 2: weights 5, 7, 7, 5 of 24: 95.8.
    assert rule_pixels("detectron2", row, 1, 1).ravel().tolist() == [96]
    # Colors are not weighted by a fourth channel, as Pillow's RGBA would be.
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    image[..., 3] = 0
    found = rule_pixels("detectron2", image, 5, 4)
    np.testing.assert_array_equal(found[..., :3], rule_pixels("detectron2", image[..., :3], 5, 4))


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_other_numbers_are_interpolated_in_float32(dtype):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 2), dtype=np.uint8)
    for mode in MODES:
        found = rule_pixels(mode, image.astype(dtype), 12, 5)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, rule_pixels("torchvision", image, 12, 5))


@pytest.mark.parametrize("limits", ["25_60", "64_90", "80_100", "64_200"])
def test_recorded_transforms(unit, limits):
    image = unit["image"].transpose(1, 2, 0)
    min_dim, max_dim = (int(side) for side in limits.split("_"))
    resized = resize_image(image, min_dim, max_dim, mode="torchvision", mean=MEAN)
    assert resized.window[2:] == tuple(unit[f"transform_{limits}_size"][0])
    expected = unit[f"transform_{limits}"][0].transpose(1, 2, 0)
    found = (resized.image - MEAN) / DEVIATION
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)  # measured: 7e-7
    np.testing.assert_array_equal(found == 0, expected == 0)


def test_recorded_masks_and_boxes(unit):
    _, _, scale, _, _ = resize_image(np.zeros((37, 50, 3)), 64, 90, mode="torchvision")
    masks = resize_mask(unit["masks"].transpose(1, 2, 0), scale, NO_PADDING, half_pixel=False)
    np.testing.assert_array_equal(masks.transpose(2, 0, 1), unit["masks_64_90"])
    boxes = unit["boxes_in"][:, [1, 0, 3, 2]]
    free = [(0, 1000)] * 2 + [(0, 0)]  # the recorded boxes are no real boxes: do not clip them
    found = resize_boxes(boxes, scale, free, None, (2000, 2000), rounded=False)
    expected = unit["boxes_37x50_to_64x86"][:, [1, 0, 3, 2]]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


class TorchvisionSettings(Config):
    IMAGE_RESIZE_MODE = "torchvision"
    IMAGE_MIN_DIM, IMAGE_MAX_DIM = 320, 544
    MEAN_PIXEL = np.array([123.675, 116.28, 103.53])
    STD_PIXEL = np.array([58.395, 57.12, 57.375])


@pytest.mark.parametrize("run", ["a", "b"])
def test_recorded_network_input(shared, run):
    folder = shared / "reference/torchvision"
    resized = resize_to_config(read_pixels(folder / f"photos/{run}.png"), TorchvisionSettings())
    with np.load(folder / f"refs/maskrcnn_resnet50_fpn_{run}.npz") as file:
        expected, size, shape = file["images"][0], file["image_sizes"][0], file["batch_shape"]
    assert resized.window == (0, 0, *size) and resized.image.shape[:2] == tuple(shape[2:])
    found = molded_float32(resized.image, TorchvisionSettings())[::2, ::2].transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)  # measured: 7e-7
    np.testing.assert_array_equal(found == 0, expected == 0)


def test_recorded_image_of_detectron2(shared):
    folder = shared / "reference/torchvision"
    image = read_pixels(folder / "photos/a.png")
    resized = resize_image(image, 320, 544, mode="detectron2")
    with np.load(folder / "detectron2/mask_rcnn_R_50_FPN_3x_a.npz") as file:
        expected = file["resized_bgr"]
    assert resized.window == (0, 0, *expected.shape[:2])
    found = resized.image[: expected.shape[0], : expected.shape[1], ::-1]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", MODES)
def test_padding_is_0_after_molding(mode):
    settings = TorchvisionSettings()
    settings.IMAGE_RESIZE_MODE = mode
    settings.IMAGE_MIN_DIM, settings.IMAGE_MAX_DIM = 40, 90
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    resized = resize_to_config(image, settings)
    assert resized.window == (0, 0, 40, 56) and resized.image.dtype == np.float32
    assert resized.image.shape == (64, 64, 3) and resized.crop is None
    assert resized.padding == [(0, 24), (0, 8), (0, 0)] and resized.scale == (40 / 50, 56 / 70)
    molded = molded_float32(resized.image, settings)
    assert not molded[40:].any() and not molded[:, 56:].any() and molded[:40, :56].all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limits", [(None, 90), (0, 90), (40, None)])
def test_limits_are_needed(mode, limits):
    with pytest.raises(ValueError, match=f"at least 1 in mode {mode}. Received: "):
        resize_image(np.zeros((8, 8, 3)), *limits, mode=mode)


@pytest.mark.parametrize("mode", MODES)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    limits=st.tuples(st.integers(1, 70), st.integers(0, 60)),
)
def test_masks_and_boxes_follow_the_image(mode, size, limits):
    """A resized image, mask and box have one size; boxes return by the factor of each axis."""
    resized = resize_image(
        np.full((*size, 1), 7, np.uint8), limits[0], sum(limits), mode=mode, mean=0
    )
    _, _, bottom, right = resized.window
    height, width = resized.image.shape[:2]
    assert height % 32 == width % 32 == 0 and height - bottom < 32 and width - right < 32
    np.testing.assert_allclose(resized.image[:bottom, :right], 7, rtol=1e-6)
    assert np.count_nonzero(resized.image) == bottom * right
    masks = resize_mask(np.ones((*size, 1), bool), resized.scale, resized.padding)
    np.testing.assert_array_equal(masks, resized.image > 0)
    box = [[0, 0, *size], [size[0] / 4, size[1] / 3, size[0] / 2, size[1]]]
    found = resize_boxes(
        box, resized.scale, resized.padding, None, resized.image.shape, rounded=False
    )
    np.testing.assert_allclose(found[0], [0, 0, bottom, right], rtol=1e-6)
    back = found / np.tile(resized.scale, 2)
    np.testing.assert_allclose(back, box, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_image_of_its_final_size_keeps_its_pixels(mode):
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    resized = resize_image(image, 64, 96, mode=mode)
    np.testing.assert_array_equal(resized.image, image)
    assert resized.scale == (1, 1) and resized.padding == NO_PADDING


@pytest.mark.parametrize("mode", MODES)
def test_enlarged_and_reduced_again_is_nearly_the_same(mode):
    yy, xx = np.mgrid[:40, :60]
    smooth = np.uint8(127 + 60 * np.sin(yy / 9) + 60 * np.cos(xx / 11))[:, :, None]
    large = rule_pixels(mode, smooth, 120, 180)
    back = rule_pixels(mode, np.round(large).astype(np.uint8), 40, 60)
    assert np.abs(back - smooth).max() <= 3

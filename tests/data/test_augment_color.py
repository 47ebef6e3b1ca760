"""Changes of pixels: values by hand, gray stays gray, sizes of the changes."""

import numpy as np
import pytest

from mrcnn.data.augment_color import blur, channel_means, color, hue, noise

NO_MASKS = np.zeros((32, 32, 0), bool)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_channel_means(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    np.testing.assert_allclose(channel_means(image), image.mean(axis=(0, 1)))
    np.testing.assert_allclose(channel_means(image[:, ::-1]), image.mean(axis=(0, 1)))


def test_color_is_its_formula():
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out, _ = color(image, NO_MASKS, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    gain = 1 + rng.uniform(-0.3, 0.3) + rng.uniform(-0.1, 0.1, 3)
    mean, shift = image.mean(axis=(0, 1)), 255 * rng.uniform(-0.3, 0.3) / 3
    expected = np.clip((image - mean) * gain + mean + shift, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(out, expected)


def test_gray_stays_gray_in_another_hue():
    gray = np.repeat(np.arange(32, dtype=np.uint8)[:, None, None] * 8, 32, axis=1).repeat(3, axis=2)
    for seed in range(5):
        out, _ = hue(gray, NO_MASKS, np.random.default_rng(seed), degrees=90, saturation=0.9)
        assert np.abs(out.astype(int) - gray).max() <= 1


def test_hue_turned_by_120_degrees_makes_red_green_or_blue():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 120

    class Fixed:
        def uniform(self, low, high):
            return 120.0 if high > 1 else 0.0

    out, _ = hue(red, NO_MASKS, Fixed(), degrees=120)
    assert out[0, 0].argmax() != 0 and out[0, 0, 0] < 60


def test_one_channel_has_no_hue():
    image = np.full((32, 32, 1), 7, np.uint8)
    assert hue(image, NO_MASKS, np.random.default_rng(0))[0] is image


def test_blur_and_noise_have_probability_one_half():
    image = np.random.default_rng(0).integers(60, 190, (32, 32, 3), dtype=np.uint8)
    for function in (blur, noise):
        draws = [function(image, NO_MASKS, np.random.default_rng(seed))[0] for seed in range(200)]
        unchanged = sum(out is image for out in draws)
        assert 70 < unchanged < 130  # 100 +- 7 of 200


def test_noise_is_normal_and_of_the_drawn_size():
    image = np.full((128, 128, 3), 128, np.uint8)

    class Strong:
        def uniform(self, low, high):
            return high

        def random(self):
            return 0.9

        def bytes(self, count):
            return np.random.default_rng(0).bytes(count)

    out, _ = noise(image, NO_MASKS, Strong(), strongest=8.0)
    difference = out.astype(float) - 128
    assert abs(difference.mean()) < 0.1 and difference.std() == pytest.approx(8, abs=0.2)
    assert (np.abs(difference) > 16).mean() == pytest.approx(0.0455, abs=0.02)  # two sigma

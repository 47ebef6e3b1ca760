"""What `detect` accepts as an image."""

import numpy as np
import pytest
from PIL import Image

from mrcnn.files.image_files import ImageFileError
from mrcnn.inference.image_inputs import ImageReader, as_array, is_one_image

RED_OVER_BLUE = np.zeros((2, 1, 3), np.uint8)  # [H, W, C]
RED_OVER_BLUE[0, 0, 0] = RED_OVER_BLUE[1, 0, 2] = 200


@pytest.fixture
def turned(tmp_path):
    """The path of an image that EXIF rotates by 90 degrees clockwise: 1 x 2 pixels, upright."""
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RED_OVER_BLUE).save(path, exif=exif)
    return path


def test_no_images():
    reader = ImageReader([], 3)
    assert (list(reader), reader.seen) == ([], [])


def test_files_and_pillow_images_are_upright_and_have_the_channels_of_the_network(turned):
    upright = np.rot90(RED_OVER_BLUE, -1)
    np.testing.assert_array_equal(as_array(turned, 3), upright)
    np.testing.assert_array_equal(as_array(str(turned), 3), upright)
    np.testing.assert_array_equal(as_array(Image.open(turned), 3), upright)
    assert as_array(turned, 1).shape == as_array(Image.open(turned), 1).shape == (1, 2, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pillow_images_of_any_mode(mode):
    image = Image.fromarray(np.full((2, 3), 255, np.uint8))
    image = image.convert("L").convert(mode) if mode != "I;16" else image.convert("I;16")
    found = as_array(image, 3)
    assert found.shape == (2, 3, 3) and found.dtype == np.uint8
    assert (found == (1 if mode == "I;16" else 255)).all()  # 255 / 257


def test_arrays_stay_as_they_are():
    assert as_array(RED_OVER_BLUE, 1) is RED_OVER_BLUE


def test_images_are_read_when_they_are_reached(turned):
    reader = ImageReader(iter([RED_OVER_BLUE, turned, str(turned.parent / "missing.png")]), 3)
    images = iter(reader)
    assert next(images) is RED_OVER_BLUE
    assert next(images).shape == (1, 2, 3)
    assert reader.seen == [((2, 1), None), ((1, 2), str(turned))]
    with pytest.raises(ImageFileError, match="must exist. Received: .*missing.png"):
        next(images)


def test_unusable_pillow_images_are_named(tmp_path, monkeypatch):
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ImageFileError, match="must be a readable image. Received: .*cut.png"):
        as_array(Image.open(path), 3)
    monkeypatch.setattr("mrcnn.files.limits.MOST_PIXELS", 100)
    with pytest.raises(ImageFileError, match="at most 100 pixels"):
        as_array(Image.new("RGB", (20, 10)), 3)


@pytest.mark.parametrize(
    "one",
    ["a.png", Image.new("L", (2, 2)), np.zeros((9, 9)), np.zeros((9, 9, 3)), np.zeros((9, 9, 5))],
)
def test_one_image(one):
    assert is_one_image(one, channels=5)


@pytest.mark.parametrize("several", [[], ["a.png"], (), np.zeros((2, 9, 9, 3)), iter(["a.png"])])
def test_several_images(several):
    assert not is_one_image(several, channels=3)


def test_stack_of_gray_images_needs_a_list():
    with pytest.raises(ValueError, match=r"one image \[H, W, C\]. Received: .*Try list\(images\)"):
        is_one_image(np.zeros((4, 30, 50)), channels=3)

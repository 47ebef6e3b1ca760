"""Image files written atomically, and recognized."""

import numpy as np
import pytest
from PIL import Image

from mrcnn.files import write_image


def test_image_is_saved_in_a_new_folder(tmp_path):
    write_image.save_image(np.full((4, 6, 3), 200, np.uint8), tmp_path / "new" / "drawn.png")
    assert np.asarray(Image.open(tmp_path / "new" / "drawn.png")).shape == (4, 6, 3)


def test_only_marked_images_are_overwritten(tmp_path):
    pixels = np.full((4, 6, 3), 200, np.uint8)
    write_image.save_image(pixels, tmp_path / "a.png", marked=True)
    write_image.save_image(pixels, tmp_path / "b.png")
    assert [write_image.is_own_image(tmp_path / name) for name in ("a.png", "b.png", "c.png")] == [
        True,
        False,
        False,
    ]
    assert write_image.free_image_path(tmp_path, "a").name == "a.png"
    assert write_image.free_image_path(tmp_path, "b").name == "b_2.png"
    assert write_image.free_image_path(tmp_path, "C", taken={"c.png"}).name == "C_2.png"
    with pytest.raises(ValueError, match="must end in .png or .jpg. Received: .*a.image"):
        write_image.save_image(pixels, tmp_path / "a.image")

"""Training images with their targets."""

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.drawing.training_batches import draw_training_images

NAMES = ["BG", "cat", "dog"]


def example(**values):
    """Return a gray 64 x 64 image with one object, a square, and a row of padding."""
    masks = np.zeros((64, 64, 2), bool)
    masks[10:30, 10:30, 0] = True
    given = {
        "input_image": np.full((64, 64, 3), 128, np.uint8),
        "input_gt_class_ids": np.array([2, 0]),
        "input_gt_boxes": np.array([[10, 10, 30, 30], [0, 0, 0, 0]]),
        "input_gt_masks": masks,
        "input_rpn_match": np.array([[1], [-1], [0]]),
    }
    return {**given, **values}


ANCHORS = np.array([[8, 8, 40, 40], [0, 0, 60, 60], [2, 2, 5, 5]])


def config(**values):
    found = Config()
    found.USE_MINI_MASK = False
    for name, value in values.items():
        setattr(found, name, value)
    return found


def test_page_without_images_is_empty():
    assert draw_training_images([], NAMES, config(), []).shape == (0, 0, 3)


def test_objects_are_tinted_and_only_positive_anchors_outlined():
    page = draw_training_images([example()], NAMES, config(), [ANCHORS])
    height, width = page.shape[:2]
    canvas = page[height - width :]  # below the title; 64 pixels become 384
    assert canvas.shape == (384, 384, 3)
    assert np.ptp(canvas[125, 170]) > 50  # color in the object, (20.8, 28.3) in the image
    assert np.ptp(canvas[330, 330]) == 0
    # 128 * 0.4 + 255 * 0.6 = 204.2
    assert (canvas[8 * 6, 230] == 204).all()  # the first anchor
    assert (canvas[60 * 6 - 1, 300] == 128).all()  # the second, which is negative


@pytest.mark.parametrize("mode", ["square", "torchvision"])
def test_images_of_any_resize_mode_have_their_colors(mode):
    settings = config(IMAGE_RESIZE_MODE=mode)
    image = np.full((64, 64, 3), 90, np.uint8)
    if mode == "torchvision":  # float32 minus the mean
        image = np.float32(image - settings.MEAN_PIXEL)
    only_image = {"input_image": image}
    page = draw_training_images([only_image], NAMES, settings, [ANCHORS[:0]])
    np.testing.assert_allclose(page[-5, 5], 90, atol=1)


def test_mini_masks_are_pasted_into_the_image():
    mini = np.ones((28, 28, 2), bool)
    settings = config(USE_MINI_MASK=True)
    pages = [
        draw_training_images([example(**masks)], NAMES, settings_of, [ANCHORS])
        for masks, settings_of in (({"input_gt_masks": mini}, settings), ({}, config()))
    ]
    np.testing.assert_array_equal(*pages)


def test_keypoints_are_drawn():
    keypoints = np.zeros((2, 1, 3))
    keypoints[0, 0] = 50, 50, 2
    settings = config(NUM_KEYPOINTS=1)
    page = draw_training_images([example(input_gt_keypoints=keypoints)], NAMES, settings, [ANCHORS])
    canvas = page[page.shape[0] - 384 :]
    assert np.ptp(canvas[300, 300]) > 50

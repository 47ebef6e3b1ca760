"""Warps of an image and its masks: positions, and objects that stay in the image."""

import cv2
import numpy as np

from mrcnn.data.augment_warp import move_by_rotation, move_by_scale


def square(y, x, side=64):
    """An image with a bright 4 x 4 square whose corner is (y, x), and its mask."""
    mask = np.zeros((side, side, 1), bool)
    mask[y : y + 4, x : x + 4] = True
    return np.repeat(mask, 3, axis=2).astype(np.uint8) * 255, mask


def test_image_without_objects():
    image, masks = square(8, 8)
    for move in (move_by_scale, move_by_rotation):
        moved = move(image, masks[:, :, :0], np.random.default_rng(0))
        assert moved.image.shape == image.shape and moved.masks.shape == (64, 64, 0)


def test_center_of_an_object_stays_in_the_image():
    """Eight times larger, 1/64 of the image is shown, and the square is always in it."""
    image, masks = square(3, 57)
    for seed in range(50):
        moved = move_by_scale(image, masks, np.random.default_rng(seed), 8, 8)
        # 4 x 4 pixels become 32 x 32, and the center is inside: at least a quarter is.
        assert moved.masks.sum() > 200


def test_parts_are_warped_as_the_whole_mask_is():
    rng = np.random.default_rng(0)
    for seed in range(20):
        masks = rng.random((48, 64, 3)) < 0.02
        image = np.zeros((48, 64, 3), np.uint8)
        moved = move_by_scale(image, masks, np.random.default_rng(seed))
        factor, (y, x) = _draws(seed, 48, 64)
        matrix = np.array([[factor, 0, x * (1 - factor)], [0, factor, y * (1 - factor)]])
        for i in range(3):
            plane = np.ascontiguousarray(masks[:, :, i]).view(np.uint8)
            whole = cv2.warpAffine(plane, matrix, (64, 48), flags=cv2.INTER_NEAREST)
            # A position between two pixels may be rounded either way.
            assert (moved.masks[:, :, i] != whole.astype(bool)).mean() < 0.005


def _draws(seed, height, width):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(np.log(0.7), np.log(1.4))), rng.uniform(0, 1, 2) * (height, width)


def test_matrix_moves_points_with_the_pixels():
    image, masks = square(20, 40)
    for move in (move_by_scale, move_by_rotation):
        for seed in range(10):
            moved = move(image, masks, np.random.default_rng(seed))
            rows, columns = np.nonzero(moved.masks[:, :, 0])
            y, x = moved.matrix @ (22, 42, 1)  # the center of the square
            np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], [y, x], atol=0.8)


def test_rotation_by_at_most_the_given_degrees():
    image, masks = square(8, 30)
    angles = []
    for seed in range(50):
        matrix = move_by_rotation(image, masks, np.random.default_rng(seed), 15.0).matrix
        angles.append(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
        np.testing.assert_allclose(matrix @ (32, 32, 1), (32, 32), atol=1e-9)  # the center
    assert -15 <= min(angles) < -10 and 10 < max(angles) <= 15

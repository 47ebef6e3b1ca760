"""The sample of arrows: its keypoints are the corners of its masks."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

from mrcnn.data.ground_truth import load_labelled_image

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "keypoints" / "keypoints.py"


@pytest.fixture(scope="module")
def sample():
    spec = importlib.util.spec_from_file_location("sample_keypoints", SAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_clockwise(keypoints):
    """Whether tip, right wing, notch, left wing go around clockwise, y downwards."""
    y, x = keypoints[:, 0], keypoints[:, 1]
    return np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0


def test_keypoints_are_the_corners_of_the_masks(sample):
    dataset = sample.load(30, 5, sample.ArrowsConfig())
    for image_id in dataset.image_ids:
        keypoints, (masks, class_ids) = (
            dataset.load_keypoints(image_id),
            dataset.load_mask(image_id),
        )
        assert len(keypoints) == len(class_ids) == masks.shape[2] >= 1
        assert masks.sum(axis=2).max() == 1 and masks.any(axis=(0, 1)).all()
        for corners, mask in zip(keypoints, np.moveaxis(masks, -1, 0), strict=True):
            outside = np.uint8(1 - mask)
            rim = cv2.distanceTransform(1 - outside, cv2.DIST_L2, 3)
            away = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
            for y, x in corners[:, :2].astype(int):
                assert rim[y, x] <= 2 and away[y, x] <= 1.5
            assert is_clockwise(corners)


class Mirrored:
    def integers(self, *_):
        return 1


def test_mirrored_arrows_have_their_right_wing_on_the_right(sample):
    config = sample.ArrowsConfig()
    dataset = sample.load(5, 5, config)
    for image_id in dataset.image_ids:
        plain, _ = dataset.load_keypoints(image_id), config.validate()
        labelled = load_labelled_image(dataset, config, image_id, augment=True, rng=Mirrored())
        np.testing.assert_allclose(
            labelled.keypoints[:, 0, 1], dataset.size[1] - plain[:, 0, 1], rtol=1e-6
        )
        assert all(map(is_clockwise, labelled.keypoints))

"""Images of shapes: reproducible, recognizable, complete."""

import math

import cv2
import numpy as np
import pytest

from mrcnn.data.masks import extract_bboxes
from mrcnn.data.shapes import ShapesDataset


def test_shapes_depend_on_the_seed_only():
    one, again, other = ShapesDataset(3, seed=1), ShapesDataset(5, seed=1), ShapesDataset(3, seed=2)
    np.testing.assert_array_equal(one.load_image(2), again.load_image(2))
    np.testing.assert_array_equal(one.load_mask(2)[0], again.load_mask(2)[0])
    assert not np.array_equal(one.load_image(2), other.load_image(2))
    assert not np.array_equal(one.load_image(1), one.load_image(2))


def test_shapes_have_the_documented_sizes_colors_and_visibility():
    dataset = ShapesDataset(60, seed=3)
    assert dataset.class_names == ["BG", "square", "circle", "triangle"]
    counts, seen = [], set()
    for i in dataset.image_ids:
        image, (masks, class_ids) = dataset.load_image(i), dataset.load_mask(i)
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
        assert masks.shape == (128, 128, len(class_ids)) and masks.dtype == bool
        assert class_ids.dtype == np.int32
        assert masks.sum(axis=2).max() <= 1  # the upper shape takes the pixels of the lower
        boxes = extract_bboxes(masks)
        assert (boxes[:, 2:] - boxes[:, :2]).max() <= 64
        for k in range(len(class_ids)):
            assert len(np.unique(image[masks[:, :, k]], axis=0)) == 1  # a shape has one color
        counts.append(len(class_ids))
        seen |= set(class_ids.tolist())
    assert set(counts) == {1, 2, 3, 4} and seen == {1, 2, 3}


def test_shapes_contrast_with_their_surroundings():
    dataset = ShapesDataset(40, seed=4)
    for i in dataset.image_ids:
        image, (masks, _) = dataset.load_image(i), dataset.load_mask(i)
        background = image[~masks.any(axis=2)].mean(axis=0)
        colors = np.float32(
            [background, *[image[masks[:, :, k]][0] for k in range(masks.shape[2])]]
        )
        lab = cv2.cvtColor(colors[None] / 255, cv2.COLOR_RGB2LAB)[0]
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), k=1)]
        assert distances.min() > 30  # at least 40 before the noise is clipped to 0..255


def test_whole_shape_fills_the_expected_share_of_its_box():
    expected = {1: 1.0, 2: math.pi / 4, 3: 0.5}  # square, disc, triangle
    dataset = ShapesDataset(1, size=(200, 200), seed=0)
    rng = np.random.default_rng(0)
    for class_id, share in expected.items():
        for _ in range(20):
            mask = dataset._shape(rng, dataset.class_names[class_id])
            y1, x1, y2, x2 = extract_bboxes(mask[:, :, None])[0]
            assert 12 <= y2 - y1 <= 64 and y2 - y1 == x2 - x1
            # The outline is rounded to pixels, by up to half a pixel on each side.
            assert mask.sum() / (y2 - y1) ** 2 == pytest.approx(share, abs=1 / (y2 - y1))


def test_too_small_images_of_shapes_are_refused():
    assert ShapesDataset(1, size=(12, 40)).load_image(0).shape == (12, 40, 3)
    with pytest.raises(ValueError, match=r"at least 12 pixels. Received: \(8, 40\)"):
        ShapesDataset(1, size=(8, 40))

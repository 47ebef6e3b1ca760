"""Masks of every form as whole masks and as run-length codes."""

import numpy as np
import pytest

from mrcnn.formats.mask_forms import full_masks, polygons, rles
from mrcnn.formats.polygons import polygons_to_rle
from mrcnn.formats.rle import decode, mask_to_rle

SHAPE = (4, 6)
# Two masks in a 4 x 6 image: rows 1 to 2 of columns 2 to 4 without a corner; the last pixel.
FIRST = np.array([[1, 1, 1], [1, 1, 0]], bool)
MASKS = np.zeros((*SHAPE, 2), bool)
MASKS[1:3, 2:5, 0] = FIRST
MASKS[3, 5, 1] = True
ROIS = np.array([[1, 2, 3, 5], [3, 5, 4, 6]], np.int32)

FORMS = {
    "full": MASKS,
    "crop": [FIRST, np.ones((1, 1), bool)],
    "rle": [mask_to_rle(MASKS[:, :, i]) for i in range(2)],
    # 0.4 is inside from a threshold of 0.4 on, 0.3 is not.
    "soft": [
        (1, 2, np.where(FIRST, 0.9, 0.3).astype(np.float32)),
        (3, 5, np.full((1, 1), 0.4, np.float32)),
    ],
}


@pytest.mark.parametrize("masks", [np.zeros((*SHAPE, 0), bool), []])
def test_no_masks(masks):
    none = np.zeros((0, 4), np.int32)
    assert full_masks(masks, none, SHAPE).shape == (4, 6, 0)
    assert rles(masks, none, SHAPE) == polygons(masks, none, SHAPE) == []


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_pixels(form):
    found = full_masks(FORMS[form], ROIS, (*SHAPE, 3), threshold=0.4)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, MASKS)
    assert rles(FORMS[form], ROIS, SHAPE, threshold=0.4) == FORMS["rle"]


def test_crops_of_float_boxes_begin_at_the_pixel_that_they_touch():
    # (0.6, 1.7) to (2.2, 4.1) touches rows 0 to 2 and columns 1 to 4.
    crop = np.ones((3, 4), bool)
    found = full_masks([crop], np.array([[0.6, 1.7, 2.2, 4.1]], np.float32), SHAPE)
    assert found[:3, 1:5].all() and found.sum() == 12


@pytest.mark.parametrize("form", FORMS)
def test_polygons_of_every_form_are_the_masks_again(form):
    parts = polygons(FORMS[form], ROIS, SHAPE, threshold=0.4)
    coded = [polygons_to_rle(of_one_mask, SHAPE) for of_one_mask in parts]
    np.testing.assert_array_equal(decode(coded, SHAPE), MASKS)

"""Instance masks: resizing, boxes, mini-masks, pasting, IoU."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.data import image
from mrcnn.data.masks import (
    _scale_mask,
    boxes_to_masks,
    expand_mask,
    extract_bboxes,
    masks_iou,
    minimize_mask,
    resize_mask,
    rle_areas,
    unmold_crops,
    unmold_mask,
    unmold_masks,
)
from mrcnn.formats.mask_images import MaskFolderDataset
from mrcnn.formats.via import VIADataset


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([0, 16, 32, 64]),
    st.sampled_from(["square", "pad64"]),
)
def test_resized_mask_of_the_whole_image_is_its_window(height, width, min_dim, mode):
    original = np.full((height, width, 3), 255, np.uint8)
    min_dim = 64 if mode == "pad64" else min_dim
    out, window, scale, padding, crop = image.resize_image(
        original, min_dim=min_dim, max_dim=64, mode=mode
    )
    mask = resize_mask(np.ones((height, width, 2), bool), scale, padding, crop)
    assert mask.shape == (*out.shape[:2], 2)
    y1, x1, y2, x2 = window
    inside = np.zeros(out.shape[:2], bool)
    inside[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(mask[:, :, 1], inside)
    np.testing.assert_array_equal(out[:, :, 0] == 255, inside)


def test_resize_of_no_masks():
    assert resize_mask(np.zeros((90, 140, 0), bool), 2, [(1, 2), (3, 4), (0, 0)]).shape == (
        183,
        287,
        0,
    )


def test_view_of_planes_is_resized_like_a_copy():
    mask = np.random.default_rng(0).random((3, 20, 30)) > 0.5
    view = np.moveaxis(mask, 0, -1)
    for arguments in [(1.5, [(1, 1), (0, 0), (0, 0)]), (0.4, [(0, 0)] * 3, (2, 1, 5, 6))]:
        expected = resize_mask(np.ascontiguousarray(view), *arguments)
        np.testing.assert_array_equal(resize_mask(view, *arguments), expected)


def test_boxes_of_masks():
    mask = np.zeros((10, 12, 3), bool)
    mask[2:5, 3:9, 0] = True
    mask[9, 11, 2] = True  # one pixel, in the corner; mask 1 is empty
    boxes = extract_bboxes(mask)
    np.testing.assert_array_equal(boxes, [[2, 3, 5, 9], [0, 0, 0, 0], [9, 11, 10, 12]])
    assert boxes.dtype == np.int32
    np.testing.assert_array_equal(extract_bboxes(mask.astype(float) * 0.3), boxes)
    np.testing.assert_array_equal(extract_bboxes(mask.astype(np.uint8) * 255), boxes)


@pytest.mark.parametrize("shape", [(10, 12, 0), (0, 0, 0), (0, 5, 2)])
def test_boxes_of_no_masks(shape):
    boxes = extract_bboxes(np.zeros(shape, bool))
    assert boxes.shape == (shape[2], 4) and boxes.dtype == np.int32 and not boxes.any()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_boxes_of_masks_are_tight(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width, 4)) > 0.9
    for i, (y1, x1, y2, x2) in enumerate(extract_bboxes(mask)):
        ys, xs = np.nonzero(mask[:, :, i])
        expected = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1) if len(ys) else (0, 0, 0, 0)
        assert (y1, x1, y2, x2) == expected


def disc(side, y, x, radius):
    ys, xs = np.mgrid[:side, :side]
    return (ys - y) ** 2 + (xs - x) ** 2 <= radius**2


@pytest.mark.parametrize("exact", [False, True])
def test_mini_masks_expand_to_the_original_masks(exact):
    mask = np.stack(
        [disc(128, 60, 50, 30), disc(128, 30, 100, 12), np.ones((128, 128), bool)], axis=-1
    )
    boxes = extract_bboxes(mask)
    mini = minimize_mask(boxes, mask, (56, 56), exact=exact)
    assert mini.shape == (56, 56, 3) and mini.dtype == bool
    back = expand_mask(boxes, mini, (128, 128, 3), exact=exact)
    assert back.shape == mask.shape and back.dtype == bool
    for i in range(3):
        both, either = (back[:, :, i] & mask[:, :, i]).sum(), (back[:, :, i] | mask[:, :, i]).sum()
        assert both / either > (0.9 if exact else 0.97)
    if not exact:  # a full mask stays full; scikit-image's mode "constant" shrinks it
        assert back[:, :, 2].all()


def test_mini_masks_without_instances_or_area():
    none = np.zeros((0, 4), np.int32)
    assert minimize_mask(none, np.zeros((9, 9, 0), bool), (4, 4)).shape == (4, 4, 0)
    assert expand_mask(none, np.zeros((4, 4, 0), bool), (9, 9, 3)).shape == (9, 9, 0)
    with pytest.raises(ValueError, match=r"box 0 = \(3, 3, 3, 5\)"):
        minimize_mask(np.array([[3, 3, 3, 5]]), np.zeros((9, 9, 1), bool), (4, 4))


def test_unmold_mask_thresholds_at_one_half():
    soft = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
    full = unmold_mask(soft, (2, 4, 6, 8), (10, 10, 3))
    expected = np.zeros((10, 10), bool)
    expected[2:6, 4:6] = True  # the left half of the box; half-pixel centers: .9, .7, .3, .1
    np.testing.assert_array_equal(full, expected)


def test_unmold_masks_is_unmold_mask_clipped_to_the_image():
    soft = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
    boxes = np.array([[2, 3, 40, 50], [0, 0, 1, 1], [20, 10, 60, 64]])
    many = unmold_masks(soft, boxes, (60, 64, 3))
    for i in range(3):
        np.testing.assert_array_equal(many[:, :, i], unmold_mask(soft[i], boxes[i], (60, 64, 3)))
    across = unmold_masks(soft[:1], np.array([[-10, -5, 30, 40]]), (20, 64))
    wide = unmold_masks(soft[:1], np.array([[0, 0, 40, 45]]), (50, 80))
    np.testing.assert_array_equal(across[:, :40, 0], wide[10:30, 5:45, 0])
    assert unmold_masks(soft[:0], boxes[:0], (60, 64)).shape == (60, 64, 0)


@pytest.mark.parametrize("exact", [False, True])
def test_thin_image_keeps_one_line_of_pixels(exact):
    line = np.full((2, 3000, 3), 9, np.uint8)
    resized, window, scale, padding, _ = image.resize_image(
        line, 64, 128, mode="square", exact=exact
    )
    assert resized.shape == (128, 128, 3) and window == (
        63,
        0,
        64,
        128,
    )  # 2 * 128 / 3000 = 0.09 px: one
    masks = resize_mask(np.ones((2, 3000, 1), bool), scale, padding)
    assert masks.shape == (128, 128, 1) and masks.sum() == 128


def test_masks_iou():
    masks = np.zeros((10, 10, 3), bool)
    masks[:, :6, 0] = True
    masks[:, 4:, 1] = True  # 20 pixels shared of 60 + 60 - 20
    np.testing.assert_allclose(masks_iou(masks, masks), [[1, 0.2, 0], [0.2, 1, 0], [0, 0, 0]])
    assert masks_iou(masks[:, :, :0], masks).shape == (0, 3)


def test_opencv_agrees_with_scikit_image_on_real_nuclei(shared):
    """On 99.5 % of the mask pixels of each image: resized, mini-masks, expanded, pasted."""
    dataset = MaskFolderDataset(shared / "data" / "nuclei" / "val")
    compare_paths(dataset, dataset.image_ids[:8])


def test_opencv_agrees_with_scikit_image_on_real_balloons(shared):
    dataset = VIADataset(shared / "data" / "balloon" / "val")
    compare_paths(dataset, dataset.image_ids)


def compare_paths(dataset, image_ids):
    agree = {"resized": 1.0, "mini": 1.0, "expanded": 1.0, "pasted": 1.0}  # of the worst image
    for image_id in image_ids:
        original, (masks, _) = dataset.load_image(image_id), dataset.load_mask(image_id)
        masks = masks[:, :, :20]
        _, _, scale, padding, crop = image.resize_image(original, min_dim=256, max_dim=256)
        fast, slow = (
            resize_mask(masks, scale, padding, crop, exact=exact) for exact in (False, True)
        )
        agree["resized"] = min(agree["resized"], np.mean(fast == slow))
        boxes = extract_bboxes(slow)
        real = boxes[:, 2] > 0
        boxes, slow = boxes[real], slow[:, :, real]
        mini = [minimize_mask(boxes, slow, (56, 56), exact=exact) for exact in (False, True)]
        agree["mini"] = min(agree["mini"], np.mean(mini[0] == mini[1]))
        back = [expand_mask(boxes, mini[1], slow.shape, exact=exact) for exact in (False, True)]
        in_boxes = expand_mask(boxes, np.ones_like(mini[1]), slow.shape)
        agree["expanded"] = min(agree["expanded"], np.mean((back[0] == back[1])[in_boxes]))
        soft = (
            cv2.resize(mini[1].astype(np.float32), (28, 28)).reshape(28, 28, -1).transpose(2, 0, 1)
        )
        pasted = [unmold_masks(soft, boxes, slow.shape, exact=exact) for exact in (False, True)]
        agree["pasted"] = min(agree["pasted"], np.mean((pasted[0] == pasted[1])[in_boxes]))
    assert {name: round(float(share), 4) for name, share in agree.items() if share < 0.995} == {}


# In a process of its own, with small pages: a large page is in memory as a whole.
MEMORY_OF_MASKS = """
import ctypes, re
from pathlib import Path

PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
import numpy as np
from mrcnn.data.masks import unmold_masks

def resident_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+) kB", status)[1])

soft = np.ones((100, 28, 28), np.float32)
boxes = np.tile([500, 500, 520, 520], (100, 1))
before = resident_bytes()
full = unmold_masks(soft, boxes, (1024, 1024, 3))
assert full.nbytes == 100 * 1024**2
assert resident_bytes() - before < 0.2 * full.nbytes
assert full[510, 510].all() and full.sum() <= 100 * 400
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_pasted_masks_take_memory_for_their_boxes_only():
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    subprocess.run([sys.executable, "-c", MEMORY_OF_MASKS], check=True, env=environment)


def test_box_outside_the_image_pastes_no_pixel():
    boxes = np.array(
        [[-9, 1, -2, 5], [2, 8, 6, 12], [2, 3, 6, 7]]
    )  # above, to the right of, and inside 8 x 8 pixels
    soft = np.ones((3, 28, 28), np.float32)
    crops = list(unmold_crops(soft, boxes, (8, 8)))
    assert [(y, x, crop.shape) for y, x, crop in crops] == [
        (0, 1, (0, 4)),
        (2, 8, (4, 0)),
        (2, 3, (4, 4)),
    ]
    full = unmold_masks(soft, boxes, (8, 8))
    assert full.sum(axis=(0, 1)).tolist() == [0, 0, 16] and full[2:6, 3:7, 2].all()


@pytest.mark.parametrize("size, new_size", [(1, 5), (2, 9), (28, 28), (28, 7), (28, 57), (56, 131)])
def test_border_pixels_have_their_share_of_old_pixels(size, new_size):
    """Each new pixel interpolates two old ones; those outside the mask are 0."""
    white = _scale_mask(np.ones((size, size), np.float32), (new_size, size), False)
    assert (white == 1).all()  # not below the smallest value
    some = np.ones((size, 2), np.float32)
    some[:, 1] = 0  # the smallest value is 0: the first column shows the border
    border = _scale_mask(some, (new_size, 2), False)[:, 0]
    centers = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    np.testing.assert_allclose(
        border, np.clip(np.minimum(centers + 1, size - centers), 0, 1), atol=1e-6
    )


@pytest.mark.parametrize("mode", ["square", "pad64", "crop"])
def test_boxes_are_resized_as_their_masks_are(mode):
    boxes = np.array([[4, 6, 30, 40], [10, 0, 50, 70]])
    original, _, scale, padding, crop = image.resize_image(
        np.zeros((50, 70, 3), np.uint8),
        min_dim=64,
        max_dim=128,
        mode=mode,
        rng=np.random.default_rng(3),
    )
    masks = resize_mask(boxes_to_masks(boxes, (50, 70)), scale, padding, crop)
    found = image.resize_boxes(boxes, scale, padding, crop, original.shape)
    np.testing.assert_allclose(found, extract_bboxes(masks), atol=1)  # rounding of pixels


def test_boxes_become_filled_masks():
    assert boxes_to_masks(np.zeros((0, 4), int), (8, 8, 3)).shape == (8, 8, 0)
    masks = boxes_to_masks(np.array([[1, 2, 3, 5], [-2, 0, 1, 9]]), (4, 6))
    assert masks.shape == (4, 6, 2) and masks.dtype == bool
    assert masks.sum(axis=(0, 1)).tolist() == [2 * 3, 1 * 6]
    assert extract_bboxes(masks).tolist() == [[1, 2, 3, 5], [0, 0, 1, 6]]


def test_rle_areas_of_more_than_255_codes():
    assert rle_areas([]).shape == (0,)
    mask = np.zeros((20, 30), np.uint8, order="F")
    mask[3:8, 4:14] = 1
    found = rle_areas([coco_mask.encode(mask)] * 300)
    assert found.dtype == np.int64 and found.tolist() == [50] * 300

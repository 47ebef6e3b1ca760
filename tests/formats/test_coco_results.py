"""Detections as COCO result entries, and masks as run-length encodings."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.data.masks import unmold_masks
from mrcnn.formats.coco import coco_results
from mrcnn.formats.rle import decode, mask_to_rle, unmold_rles


def result_of(count):
    """Return a result of `count` detections in an image of 20 x 20 pixels."""
    masks = np.zeros((20, 20, count), bool)
    masks[2:8, 3:15] = True
    return {
        "rois": np.tile([2, 3, 8, 15], (count, 1)),
        "class_ids": np.full(count, 2),
        "scores": np.full(count, 0.5, np.float32),
        "masks": masks,
    }


def test_zero_detections_are_zero_entries():
    assert coco_results(7, result_of(0)) == []


def test_an_entry_has_coco_box_score_and_rle():
    result = result_of(1)
    (entry,) = json.loads(json.dumps(coco_results(7, result, category_ids={2: 18})))
    assert entry["bbox"] == [3, 2, 12, 6]  # x1, y1, 15 - 3, 8 - 2
    assert (entry["image_id"], entry["category_id"], entry["score"]) == (7, 18, 0.5)
    assert isinstance(entry["segmentation"]["counts"], str)
    np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), result["masks"][:, :, 0])


def test_arrays_of_different_lengths_are_rejected():
    with pytest.raises(ValueError, match=r"one row per detection.*'scores': 2"):
        coco_results(0, {**result_of(0), "scores": np.ones(2)})
    rle = mask_to_rle(np.ones((20, 20)))
    with pytest.raises(ValueError, match="one row per detection"):
        coco_results(0, {**result_of(1), "masks": [rle, rle]})


def test_the_memory_layout_of_masks_does_not_change_their_rle():
    masks = np.zeros((20, 20, 2), bool)
    masks[2:8, 3:15, 0] = masks[:5, :5, 1] = True
    view = np.moveaxis(np.ascontiguousarray(np.moveaxis(masks, -1, 0)), 0, -1)
    assert mask_to_rle(view[:, :, 1]) == mask_to_rle(masks[:, :, 1])


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_unmold_rles_encodes_the_masks_of_unmold_masks(seed):
    """Boxes that fill, touch or miss the image; masks that are empty, full or noise."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2)
    low = rng.integers(-3, [height, width], (6, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 30, (6, 2))], axis=1)
    boxes[0] = 0, 0, height, width
    soft = rng.random((6, 5, 5), np.float32)
    soft[1:3] = [[[0]], [[1]]]
    full = unmold_masks(soft, boxes, (height, width))
    rles = unmold_rles(soft, boxes, (height, width))
    assert rles == [mask_to_rle(full[:, :, i]) for i in range(6)]
    assert unmold_rles(soft[:0], boxes[:0], (height, width)) == []


@pytest.mark.parametrize("rule", ["torchvision", "detectron2"])
@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_rles_of_other_paste_rules_are_those_of_their_masks(rule, seed):
    """Masks are pasted transposed, which may round a pixel in a million differently."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 40, 2))
    low = rng.uniform(-3, [height, width], (6, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 30, (6, 2))], axis=1).astype(np.float32)
    soft = rng.random((6, 14, 28), np.float32)
    full = unmold_masks(soft, boxes, (height, width), rule=rule, threshold=0.4)
    rles = unmold_rles(soft, boxes, (height, width), rule=rule, threshold=0.4)
    assert (decode(rles, (height, width)) != full).sum() <= 1


def test_float_boxes_are_kept():
    result = {**result_of(1), "rois": np.float32([[2.25, 3.5, 8.75, 15]])}
    (entry,) = coco_results(7, result)
    assert entry["bbox"] == [3.5, 2.25, 11.5, 6.5]

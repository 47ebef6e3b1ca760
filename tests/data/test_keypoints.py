"""Keypoints as arrays: decoding, moving, mirroring."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from squares import Squares, config

from mrcnn.data import augment
from mrcnn.data.apply_augmentation import Instances, augment_keypoints
from mrcnn.data.check import check
from mrcnn.data.generator import DataGenerator
from mrcnn.data.ground_truth import load_image_gt, load_labelled_image
from mrcnn.data.image import resize_image
from mrcnn.data.imgaug_support import import_imgaug
from mrcnn.data.joined import JoinedDataset
from mrcnn.data.keypoints import (
    decode_heatmaps,
    mirror,
    mirrored_order,
    resize_keypoints,
    surest_keypoints,
)
from mrcnn.weights.coco_classes import COCO_KEYPOINTS

iaa = import_imgaug().augmenters

RECORDED = Path(os.environ.get("MRCNN_SHARED", "")) / "reference/torchvision/unit"


# --- Heatmaps -----------------------------------------------------------------------------------


def test_no_detections_have_no_keypoints():
    assert decode_heatmaps(np.zeros((0, 56, 56, 5)), np.zeros((0, 4))).shape == (0, 5, 3)


def test_maximum_is_the_center_of_its_cell():
    # A box of 4 x 8 pixels and a heatmap of the same size: nothing is interpolated.
    heatmaps = np.zeros((1, 4, 8, 2), np.float32)
    heatmaps[0, 2, 5, 0] = 3
    (keypoints,) = decode_heatmaps(heatmaps, np.array([[10, 20, 14, 28]]))
    np.testing.assert_allclose(keypoints, [[12.5, 25.5, 3], [10.5, 20.5, 0]])


def test_box_of_fractional_size_has_whole_cells():
    # 3.5 pixels high: 4 rows of 0.875 pixels; the last one is centered at 3.5 * 0.875.
    heatmaps = np.zeros((1, 4, 1, 1), np.float32)
    heatmaps[0, 3] = 1
    (keypoints,) = decode_heatmaps(heatmaps, np.array([[0, 0, 3.5, 0.5]]))
    np.testing.assert_allclose(keypoints[0], [3.0625, 0.5, 1])


@pytest.mark.skipif(not RECORDED.is_dir(), reason="needs MRCNN_SHARED/reference/torchvision")
def test_keypoints_are_those_of_torchvision():
    with np.load(RECORDED / "masks_keypoints.npz") as file:
        heatmaps, boxes = file["heatmaps"], file["heatmap_boxes"]
        places, scores = file["keypoints"][..., :2], file["keypoint_scores"]
    found = decode_heatmaps(heatmaps.transpose(0, 2, 3, 1), boxes[:, [1, 0, 3, 2]])
    np.testing.assert_allclose(found[..., [1, 0]], places, atol=1e-4)
    np.testing.assert_allclose(found[..., 2], scores, atol=1e-5)


# --- Mirrored images ----------------------------------------------------------------------------


def test_keypoints_of_left_and_right_change_places():
    names = ["nose", "left_eye", "right_eye", "Ear right", "ear LEFT", "left_tail"]
    assert mirrored_order(6, names, None).tolist() == [0, 2, 1, 4, 3, 5]
    assert mirrored_order(2, None, None).tolist() == [0, 1]
    assert mirrored_order(0, names, [[0, 2]]).tolist() == []  # a network without keypoints
    assert mirrored_order(3, None, [[0, 2]]).tolist() == [2, 1, 0]
    order = mirrored_order(17, COCO_KEYPOINTS, None)
    assert [COCO_KEYPOINTS[i] for i in order[:3]] == ["nose", "right_eye", "left_eye"]


def test_mirror_keeps_the_input():
    keypoints = np.array([[[4, 1, 2], [5, 3, 1]]], float)
    mirrored = mirror(keypoints, 10, np.array([1, 0]))
    assert mirrored.tolist() == [[[5, 7, 1], [4, 9, 2]]]
    assert keypoints[0, 0, 1] == 1


# --- Resizing -----------------------------------------------------------------------------------


def test_keypoints_move_with_a_padded_image():
    # 20 x 40 becomes 40 x 80, with 20 rows of padding above: (3, 5) is at (6 + 20, 10).
    _, _, scale, padding, crop = resize_image(np.zeros((20, 40, 3), np.uint8), 40, 80)
    resized = resize_keypoints([[[3, 5, 2]]], scale, padding, crop, (80, 80))
    assert resized.tolist() == [[[26, 10, 2]]]


def test_cropped_keypoints_are_not_labelled():
    padding = [(0, 0), (0, 0), (0, 0)]
    keypoints = [[[10, 10, 2], [3, 10, 2], [10, 24, 1]]]
    resized = resize_keypoints(keypoints, 2.0, padding, (8, 4, 32, 32), (32, 32))
    assert resized.tolist() == [[[12, 16, 2], [-2, 16, 0], [12, 44, 0]]]


# --- Augmentation -------------------------------------------------------------------------------


class Corners(Squares):
    """A rectangle of rows 10 to 30 and columns 20 to 50, with three of its corners."""

    keypoint_names = ("top_left", "top_right", "bottom_left")
    keypoints = ((10.0, 20.0, 2.0), (10.0, 50.0, 2.0), (30.0, 20.0, 2.0))

    def load_keypoints(self, image_id):
        return np.array([self.keypoints])


def with_keypoints(**values):
    return config(NUM_KEYPOINTS=3, **values)


class Fixed:
    """A generator whose random numbers are all the same, so that everything with 0.5 happens."""

    def random(self, *_):
        return 0.0

    def integers(self, *_):
        return 1


def test_image_without_objects_has_no_keypoints():
    class Empty(Corners):
        def load_keypoints(self, image_id):
            return []

    empty = Empty(masks=np.zeros((64, 64, 0)), class_ids=[])
    augmentation = augment.compose(["flip", "scale"])
    rng = np.random.default_rng(0)
    labelled = load_labelled_image(empty, with_keypoints(), 0, True, augmentation, rng=rng)
    assert labelled.keypoints.shape == (0, 3, 3)


def test_mirrored_image_has_the_names_of_the_mirrored_object():
    """The left corner lies on the left again: the rectangle is now in columns 14 to 44."""
    labelled = load_labelled_image(Corners(), with_keypoints(), 0, augment=True, rng=Fixed())
    assert labelled.keypoints[0].tolist() == [[10, 14, 2], [10, 44, 2], [30, 44, 2]]
    assert labelled.ground_truth.bbox.tolist() == [[10, 14, 30, 44]]


def test_named_flips_give_the_same_as_augment():
    labelled = load_labelled_image(
        Corners(), with_keypoints(), 0, augmentation=augment.compose(["fliplr"]), rng=Fixed()
    )
    assert labelled.keypoints[0].tolist() == [[10, 14, 2], [10, 44, 2], [30, 44, 2]]


def test_two_mirrors_are_a_rotation():
    """Left-right and up-down together: no keypoint changes its name."""
    labelled = load_labelled_image(
        Corners(), with_keypoints(), 0, augmentation=augment.compose(["flip"]), rng=Fixed()
    )
    assert labelled.keypoints[0].tolist() == [[54, 44, 2], [54, 14, 2], [34, 44, 2]]


def blobs():
    """An image, five masks of 5 x 5 pixels, and the centers of the masks."""
    masks = np.zeros((64, 64, 5), bool)
    centers = np.array([[20, 12], [32, 33], [12, 50], [40, 20], [50, 44]])
    for i, (y, x) in enumerate(centers):
        masks[y - 2 : y + 3, x - 2 : x + 3, i] = True
    image = np.repeat(masks.any(axis=2)[:, :, None], 3, axis=2).astype(np.uint8) * 255
    visible = np.full((5, 1), 2.0)
    keypoints = np.concatenate([centers + 0.5, visible], axis=1)[:, None]  # [5, 1, 3]
    return image, masks, keypoints


MOVING = {
    **{name: augment.compose([name]) for name in ("flip", "rotate90", "rotate", "scale", "jitter")},
    **{name: augment.compose([name]) for name in ("standard", "microscopy", "aerial")},
    "all": augment.compose(["flip", "rotate90", "color", "jitter"]),
    "imgaug flip": iaa.Fliplr(1.0),
    "imgaug affine": iaa.Affine(rotate=(-30, 30), scale=(0.8, 1.2), shear=(-8, 8)),
    "imgaug rot90": iaa.Rot90(1),
    "imgaug sequence": iaa.Sequential([iaa.Flipud(1.0), iaa.Affine(rotate=20), iaa.Add(5)]),
}


@pytest.mark.parametrize("augmentation", MOVING.values(), ids=MOVING)
def test_keypoints_move_with_the_masks(augmentation):
    """A keypoint stays at the center of its mask, if all of the mask is inside."""
    image, masks, keypoints = blobs()
    instances = Instances(image, masks, np.ones(5, int))
    compared = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        (_, moved, _), found = augment_keypoints(
            augmentation, instances, keypoints, np.arange(1), rng
        )
        for i in range(5):
            y, x = np.nonzero(moved[:, :, i])
            is_whole = len(y) > 8 and y.min() > 0 and y.max() < 63 and x.min() > 0 and x.max() < 63
            if is_whole:
                center = y.mean() + 0.5, x.mean() + 0.5
                np.testing.assert_allclose(found[i, 0, :2], center, atol=1)
                compared += 1
            if len(y) == 0:
                # Masks are cut at whole pixels, and jitter makes them small.
                assert found[i, 0, 2] == 0 or "jitter" in getattr(augmentation, "names", ())
    assert compared > 10


def test_only_mirrors_swap_left_and_right():
    image, masks, keypoints = blobs()
    instances = Instances(image, masks, np.ones(5, int))
    pair = np.concatenate([keypoints, keypoints + [5, 0, 0]], axis=1)  # [5, 2, 3]
    order = np.array([1, 0])
    for augmentation, is_mirror in (
        (iaa.Fliplr(1.0), True),
        (iaa.Flipud(1.0), True),
        (iaa.Rot90(1), False),
        (iaa.Rot90(2), False),
        (iaa.Affine(rotate=40, scale=0.8), False),
        (iaa.Sequential([iaa.Fliplr(1.0), iaa.Affine(rotate=10)]), True),
    ):
        rng = np.random.default_rng(0)
        _, plain = augment_keypoints(augmentation, instances, pair, np.arange(2), rng)
        rng = np.random.default_rng(0)
        _, found = augment_keypoints(augmentation, instances, pair, order, rng)
        np.testing.assert_array_equal(found, plain[:, order] if is_mirror else plain)


def test_augmentations_that_do_not_move_points_are_refused():
    with_callable = lambda image, masks, rng: (image, masks)  # noqa: E731
    for augmentation in (augment.compose(["copy_paste"]), with_callable):
        with pytest.raises(TypeError, match="With keypoints, augmentation must be .*'fliplr'"):
            load_labelled_image(Corners(), with_keypoints(), 0, augmentation=augmentation)


def test_callable_that_moves_points():
    def shift(image, masks, rng, points):
        return np.roll(image, 3, axis=0), np.roll(masks, 3, axis=0), points + [3, 0]

    shift.moves_points = True
    labelled = load_labelled_image(Corners(), with_keypoints(), 0, augmentation=shift)
    assert labelled.keypoints[0].tolist() == [[13, 20, 2], [13, 50, 2], [33, 20, 2]]
    assert labelled.ground_truth.bbox.tolist() == [[13, 20, 33, 50]]


class Mirror:
    """A transform with the protocol of albumentations 2 that mirrors."""

    __module__ = "albumentations.core.composition"

    def __init__(self, transforms=(), keypoint_params=None):
        self.keypoint_params = keypoint_params

    def __call__(self, image, masks, keypoints):
        assert self.keypoint_params == {"format": "yx", "remove_invisible": False}
        moved = [(y, image.shape[1] - 1 - x) for y, x in keypoints]
        masks = [mask[:, ::-1] for mask in masks]
        return {"image": image[:, ::-1], "masks": masks, "keypoints": moved}


def test_albumentations_gets_keypoints_from_the_center_of_a_pixel(monkeypatch):
    """Run by hand with albumentations 2.0.8: flips and rotations agree with the masks."""
    library = SimpleNamespace(Compose=Mirror, KeypointParams=dict)
    monkeypatch.setitem(sys.modules, "albumentations", library)
    labelled = load_labelled_image(Corners(), with_keypoints(), 0, augmentation=Mirror())
    assert labelled.keypoints[0].tolist() == [[10, 14, 2], [10, 44, 2], [30, 44, 2]]
    assert labelled.ground_truth.bbox.tolist() == [[10, 14, 30, 44]]


# --- Ground truth and batches -------------------------------------------------------------------


def test_ground_truth_without_keypoints_has_five_parts():
    assert len(load_image_gt(Corners(), config(), 0)) == 5
    assert load_labelled_image(Corners(), config(), 0).keypoints is None


@pytest.mark.parametrize("masks", [True, False])
def test_batches_hold_keypoints_after_the_masks(masks):
    made = with_keypoints(USE_MASK=masks, USE_MINI_MASK=False)
    inputs, _ = DataGenerator(Corners(), made, batch_size=2, seed=0)[0]
    assert len(inputs) == (8 if masks else 7)
    assert inputs[-1].shape == (2, made.MAX_GT_INSTANCES, 3, 3) and inputs[-1].dtype == np.float32
    assert inputs[-1][0, 0].tolist() == [[10, 20, 2], [10, 50, 2], [30, 20, 2]]
    assert not inputs[-1][:, 1:].any()


def test_dataset_must_have_the_keypoints_of_the_config():
    with pytest.raises(ValueError, match="Squares, which does not override it"):
        DataGenerator(Squares(), with_keypoints())
    with pytest.raises(ValueError, match="NUM_KEYPOINTS = 2, and 3 in the dataset"):
        DataGenerator(Corners(), config(NUM_KEYPOINTS=2))


def test_wrong_number_of_rows_names_the_image():
    class Wrong(Corners):
        def load_keypoints(self, image_id):
            return np.zeros((2, 3, 3))

    with pytest.raises(ValueError, match=r"image 0 .*Received: the shape \(2, 3, 3\)"):
        load_labelled_image(Wrong(), with_keypoints(), 0)


def test_joined_datasets_have_keypoints_if_all_have_the_same():
    joined = JoinedDataset([Corners(2), Corners(1)])
    assert joined.keypoint_names == list(Corners.keypoint_names)
    assert joined.load_keypoints(2).shape == (1, 3, 3)
    with pytest.raises(ValueError, match="does not override it"):
        JoinedDataset([Corners(2), Squares(1)]).load_keypoints(0)


# --- Check --------------------------------------------------------------------------------------


def kinds(dataset, **values):
    report = check(dataset, with_keypoints(**values), progress=False)
    return {finding.kind for finding in report.findings} & {"keypoints", "keypoints outside"}


def test_check_finds_faults_of_keypoints():
    assert kinds(Corners()) == set()
    assert kinds(Squares()) == {"keypoints"}

    class Wrong(Corners):
        keypoints = ((10.0, 20.0, 2.0),)

    class Outside(Corners):
        keypoints = ((70.0, 20.0, 2.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))

    assert kinds(Wrong()) == {"keypoints"}
    assert kinds(Outside()) == {"keypoints outside"}


def test_surest_keypoints_have_the_highest_score_of_several_detections():
    first, second = np.float32([[1, 1, 5], [3, 3, 2]]), np.float32([[1, 2, 4], [3, 4, 3]])
    assert surest_keypoints([first]).tolist() == first.tolist()
    assert surest_keypoints([first, second]).tolist() == [[1, 1, 5], [3, 4, 3]]

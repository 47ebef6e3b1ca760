"""Augmentations of imgaug, of albumentations and of callables; imgaug on NumPy 2."""

import random

import numpy as np
import pytest
from squares import BoxedSquares, Shown, Squares, box_only, config, load

from mrcnn.data import augment
from mrcnn.data.ground_truth import load_image_gt
from mrcnn.data.imgaug_support import import_imgaug

iaa = import_imgaug().augmenters


MOVING = {
    "Fliplr": iaa.Fliplr(1.0),
    "Flipud": iaa.Flipud(1.0),
    "Affine": iaa.Affine(rotate=(-30, 30), scale=(0.8, 1.2), shear=(-8, 8)),
    "CropAndPad": iaa.CropAndPad(percent=(-0.2, 0.2)),
    "Rot90": iaa.Rot90(1),
    "Sequential": iaa.Sequential([iaa.Fliplr(1.0), iaa.Affine(rotate=20)]),
    "SomeOf": iaa.SomeOf((1, 2), [iaa.Fliplr(1.0), iaa.Flipud(1.0), iaa.Affine(rotate=90)]),
    "OneOf": iaa.OneOf([iaa.Fliplr(1.0), iaa.Flipud(1.0)]),
    "Sometimes": iaa.Sometimes(0.99, iaa.Fliplr(1.0)),
    "PerspectiveTransform": iaa.PerspectiveTransform(scale=0.1),
    "ElasticTransformation": iaa.ElasticTransformation(alpha=40.0, sigma=4.0),
}


COLORS = {
    "Multiply": iaa.Multiply((0.8, 0.9)),
    "Add": iaa.Add((5, 15)),
    "LinearContrast": iaa.LinearContrast(1.3),
    "GaussianBlur": iaa.GaussianBlur(0.5),
    "AdditiveGaussianNoise": iaa.AdditiveGaussianNoise(scale=5),
    "Grayscale": iaa.Grayscale(0.5),
    "AddToHueAndSaturation": iaa.AddToHueAndSaturation((20, 30)),
    "SomeOf": iaa.SomeOf(2, [iaa.Multiply(0.8), iaa.Add(9), iaa.GaussianBlur(0.3)]),
}


@pytest.mark.parametrize("count", [1, 3, 140])
@pytest.mark.parametrize("augmentation", MOVING.values(), ids=MOVING)
def test_imgaug_moves_masks_with_the_image(augmentation, count):
    dataset = Shown(count)
    image, _, class_ids, _, mask = load(dataset, augmentation=augmentation)
    assert mask.shape == (64, 64, count) and mask.dtype == bool and len(class_ids) == count
    assert not np.array_equal(mask, dataset.masks)
    # The image is interpolated, the mask takes the nearest pixel: outlines may differ by a pixel.
    assert np.mean((image[:, :, 0] > 120) != mask[:, :, 0]) < 0.03


@pytest.mark.parametrize("augmentation", COLORS.values(), ids=COLORS)
def test_imgaug_color_augmenters_do_not_change_masks(augmentation):
    dataset = Shown()
    _, _, _, _, mask = load(dataset, augmentation=augmentation)
    np.testing.assert_array_equal(mask, dataset.masks)


def test_imgaug_is_seeded_by_the_generator():
    results = [
        load_image_gt(
            Shown(), config(), 0, augmentation=MOVING["Affine"], rng=np.random.default_rng(seed)
        )[0]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_imgaug_without_objects():
    none = Squares(masks=np.zeros((64, 64, 0)), class_ids=[])
    assert load(none, augmentation=MOVING["Affine"])[4].shape == (64, 64, 0)


def test_augment_and_augmentation_combine_and_a_callable_is_accepted():
    dataset = Shown()
    mirror = lambda image, masks, rng: (image[:, ::-1], masks[:, ::-1])  # noqa: E731
    mask = load(dataset, augment=False, augmentation=mirror)[4]
    np.testing.assert_array_equal(mask, dataset.masks[:, ::-1])
    twice = load(dataset, augment=True, augmentation=iaa.Fliplr(1.0))[4]
    assert any(
        np.array_equal(twice, expected) for expected in (dataset.masks, dataset.masks[:, ::-1])
    )


class Albumentations:
    """A transform with the protocol of albumentations 2 that mirrors with probability 0.5."""

    __module__ = "albumentations.core.composition"

    def __init__(self, change=lambda array: array[:, ::-1]):
        self.change, self.draw, self.processors = change, None, {}

    def set_random_seed(self, seed):
        self.draw = random.Random(seed)

    def __call__(self, *args, image, **targets):
        assert not args and image.flags.c_contiguous
        if self.draw.random() < 0.5:
            return {"image": image, **targets}
        return {
            "image": self.change(image),
            **{name: [self.change(mask) for mask in masks] for name, masks in targets.items()},
        }


def test_albumentations_moves_masks_with_the_image():
    """Number and order of masks are unchanged; the image's generator seeds the transform."""
    masks = np.zeros((64, 64, 3), bool)
    masks[4:9, 5:20, 0] = masks[30:40, 50:64, 1] = masks[50:60, :6, 2] = True
    dataset, transform, mirrored = Squares(masks=masks, class_ids=[2, 1, -2]), Albumentations(), []
    dataset.load_image = lambda image_id: np.tile(
        np.arange(64, dtype=np.uint8)[:, None], (64, 1, 3)
    )
    for seed in range(8):
        found = [
            load_image_gt(
                dataset, config(), 0, augmentation=transform, rng=np.random.default_rng(seed)
            )
            for _ in range(2)
        ]
        np.testing.assert_array_equal(found[0][0], found[1][0])
        image, _, class_ids, bbox, mask = found[0]
        mirrored.append(image[0, 0, 0] == 63)
        assert class_ids.tolist() == [2, 1, -2] and mask.dtype == bool
        np.testing.assert_array_equal(mask, masks[:, ::-1] if mirrored[-1] else masks)
    assert (
        set(mirrored) == {True, False} and transform.draw is None
    )  # a copy is seeded, because threads share the transform


def test_albumentations_without_objects_and_with_objects_that_vanish():
    none = Squares(masks=np.zeros((64, 64, 0)), class_ids=[])
    image, _, class_ids, _, mask = load(none, augmentation=Albumentations())
    assert image.shape == (64, 64, 3) and len(class_ids) == 0 and mask.shape == (64, 64, 0)
    for seed in range(8):
        _, _, class_ids, bbox, _ = load_image_gt(
            Squares(),
            config(),
            0,
            augmentation=Albumentations(np.zeros_like),
            rng=np.random.default_rng(seed),
        )
        assert len(class_ids) == len(bbox) <= 1


def test_albumentations_that_change_the_size_or_need_boxes_are_refused():
    transform = Albumentations(lambda array: array[:32])
    with pytest.raises(
        ValueError,
        match=r"must keep the image's shape \(64, 64, 3\).*Received: image \(32, 64, 3\)",
    ):
        for seed in range(8):
            load_image_gt(
                Squares(), config(), 0, augmentation=transform, rng=np.random.default_rng(seed)
            )
    transform.processors = {"bboxes": None}
    with pytest.raises(TypeError, match="asks for bboxes. Try it without bbox_params"):
        load(Squares(), augmentation=transform)


def test_augmentation_of_unknown_type_or_with_another_shape_is_refused():
    with pytest.raises(
        TypeError, match="an albumentations transform, or a callable.*Received: 'flip'"
    ):
        load(Squares(), augmentation="flip")
    with pytest.raises(ValueError, match="keep the image's shape"):
        load(Squares(), augmentation=iaa.Crop(px=5, keep_size=False))


def shift_right(image, masks, rng):
    """Shift by half the width; the masks of the right half leave the image."""
    return np.roll(image, 32, axis=1), np.concatenate(
        [np.zeros_like(masks[:, :32]), masks[:, :32]], axis=1
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        iaa.Affine(translate_px={"x": 32}),
        shift_right,
        lambda i, m, rng: augment.jitter(i, m, rng, 2, 2),
    ],
    ids=["imgaug", "callable", "built in"],
)
@pytest.mark.parametrize("use_mini_mask", [False, True])
def test_instances_that_vanish_are_dropped(augmentation, use_mini_mask):
    masks = np.zeros((64, 64, 3), bool)
    masks[2:8, 2:8, 0] = masks[20:50, 20:50, 1] = masks[56:62, 56:62, 2] = True
    dataset, counts = Squares(masks=masks, class_ids=[1, 2, -1]), []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        options = {"augmentation": augmentation, "use_mini_mask": use_mini_mask, "rng": rng}
        _, _, class_ids, bbox, mask = load_image_gt(dataset, config(), 0, **options)
        assert len(class_ids) == len(bbox) == mask.shape[-1] and mask.any(axis=(0, 1)).all()
        assert (bbox[:, 2:] > bbox[:, :2]).all() and class_ids.tolist() in (
            [1, 2],
            [1],
            [2],
            [2, -1],
            [-1],
        )
        counts.append(len(class_ids))
    assert min(counts) >= 1


def test_augmentation_that_drops_masks_is_refused():
    with pytest.raises(
        ValueError, match="a mask for each of 1 instances. Received: .* masks .64, 64, 0."
    ):
        load(Squares(), augmentation=lambda image, masks, rng: (image, masks[:, :, :0]))


def test_import_of_imgaug_leaves_numpy_unchanged():
    before = set(vars(np))
    assert import_imgaug().__name__ == "imgaug"
    assert set(vars(np)) == before


def test_augmentations_move_boxes_as_filled_masks():
    for augmentation in (
        lambda image, masks, rng: (image[:, ::-1], masks[:, ::-1]),
        iaa.Fliplr(1.0),
    ):
        _, _, _, bbox, mask = load(BoxedSquares(), config=box_only(), augmentation=augmentation)
        assert bbox.tolist() == [[10, 64 - 50, 30, 64 - 20]] and mask is None
    gone = lambda image, masks, rng: (image, np.zeros_like(masks))  # noqa: E731
    _, _, class_ids, bbox, _ = load(BoxedSquares(), config=box_only(), augmentation=gone)
    assert bbox.shape == (0, 4) and class_ids.shape == (0,)

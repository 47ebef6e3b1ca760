"""One image with its truth, imgaug on NumPy 2, and batches: their order, their chance, their errors."""

import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data import generator as data
from mrcnn.data.dataset import Dataset
from mrcnn.training.loop import Batches, stream

iaa = data.import_imgaug().augmenters


class Settings(Config):
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 16
    MAX_GT_INSTANCES = 4
    MINI_MASK_SHAPE = (14, 14)
    MAX_IMAGE_ERRORS = 2


def config(**values):
    made = Settings()
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Squares(Dataset):
    """Images whose pixels are their number, 64 x 64, with one square each; what load_mask returns can be set."""

    def __init__(self, count=6, masks=None, class_ids=None, broken=()):
        super().__init__()
        self.add_class("squares", 1, "small")
        self.add_class("squares", 2, "big")
        for i in range(count):
            self.add_image("squares", i, path=f"{i}.png")
        self.prepare()
        self.masks, self.ids, self.broken = masks, class_ids, broken

    def load_image(self, image_id):
        if image_id in self.broken:
            raise ValueError(f"no such file {image_id}")
        return np.full((64, 64, 3), image_id, np.uint8)

    def load_mask(self, image_id):
        if self.masks is not None:
            return self.masks, self.ids
        mask = np.zeros((64, 64, 1), bool)
        mask[10:30, 20:50, 0] = True
        return mask, np.array([1])


def load(dataset, **options):
    settings = options.pop("config", config())
    return data.load_image_gt(dataset, settings, 0, rng=np.random.default_rng(0), **options)


# --- One image ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (0, 0, 0), (64, 64, 0), (64, 64), (10, 10, 0)])
@pytest.mark.parametrize("use_mini_mask", [False, True])
def test_any_empty_mask_means_no_objects(shape, use_mini_mask):
    image, meta, class_ids, bbox, mask = load(
        Squares(masks=np.zeros(shape), class_ids=[]), use_mini_mask=use_mini_mask
    )
    assert class_ids.shape == (0,) and bbox.shape == (0, 4)
    assert mask.shape == ((14, 14, 0) if use_mini_mask else (64, 64, 0))
    assert image.shape == (64, 64, 3) and meta.shape == (15,)


def test_an_image_with_its_truth():
    image, meta, class_ids, bbox, mask = load(Squares())
    np.testing.assert_array_equal(bbox, [[10, 20, 30, 50]])
    assert class_ids.tolist() == [1] and class_ids.dtype == np.int32
    assert mask.dtype == bool and mask.sum() == 20 * 30
    # id, original shape, molded shape, window, scale, background and both classes
    np.testing.assert_array_equal(meta, [0, 64, 64, 3, 64, 64, 3, 0, 0, 64, 64, 1, 1, 1, 1])


@pytest.mark.parametrize(
    "dtype, inside", [(bool, True), (np.uint8, 255), (np.float32, 1.0), (np.float64, 0.3)]
)
@pytest.mark.parametrize("ids", [[2, -1], np.array([2, -1], np.int64), (2.0, -1.0)])
def test_masks_and_ids_of_any_type(dtype, inside, ids):
    masks = np.zeros((64, 64, 2), dtype)
    masks[5:9, 5:9, 0] = masks[40:60, 30:60, 1] = inside
    _, _, class_ids, bbox, mask = load(Squares(masks=masks, class_ids=ids))
    assert class_ids.tolist() == [2, -1] and class_ids.dtype == np.int32 and mask.dtype == bool
    np.testing.assert_array_equal(bbox, [[5, 5, 9, 9], [40, 30, 60, 60]])


def test_one_mask_without_its_last_axis():
    _, _, _, bbox, mask = load(Squares(masks=np.ones((64, 64)), class_ids=[1]))
    assert mask.shape == (64, 64, 1) and bbox.tolist() == [[0, 0, 64, 64]]


def test_empty_masks_among_others_are_dropped():
    masks = np.zeros((64, 64, 3), bool)
    masks[5:9, 5:9, 1] = True
    _, _, class_ids, bbox, mask = load(
        Squares(masks=masks, class_ids=[1, 2, 1]), use_mini_mask=True
    )
    assert (
        class_ids.tolist() == [2] and bbox.tolist() == [[5, 5, 9, 9]] and mask.shape == (14, 14, 1)
    )


@pytest.mark.parametrize("ids", [[0, 2, 7], [0, 2, -9], [-4, 2, 0]])
def test_empty_masks_of_an_unknown_class_are_dropped(ids):
    """Published scripts say "nothing here" by an empty mask of class 0 (RSNA, SIIM, Airbus)."""
    masks = np.zeros((64, 64, 3), bool)
    masks[5:9, 5:9, 1] = True
    _, _, class_ids, bbox, mask = load(Squares(masks=masks, class_ids=ids))
    assert (
        class_ids.tolist() == [2] and bbox.tolist() == [[5, 5, 9, 9]] and mask.shape == (64, 64, 1)
    )
    _, _, class_ids, bbox, mask = load(
        Squares(masks=masks[:, :, :1], class_ids=ids[:1]), use_mini_mask=True
    )
    assert len(class_ids) == 0 and bbox.shape == (0, 4) and mask.shape[-1] == 0


def test_negatives_of_class_0_are_no_errors():
    batches = data.DataGenerator(
        Squares(8, masks=np.zeros((64, 64, 1)), class_ids=[0]), config(), batch_size=2
    )
    assert all(not batches[i][0][4].any() for i in range(4)) and batches.errors == {}


@pytest.mark.parametrize(
    "shape, ids, sentence",
    [
        (
            (32, 64, 1),
            [1],
            r"masks \[64, 64, N\].*image 0 \(0.png\).*Received: masks \(32, 64, 1\) and 1",
        ),
        ((64, 64, 2), [1], r"masks \(64, 64, 2\) and 1 class ids"),
        ((64, 64, 1), [], r"masks \(64, 64, 1\) and 0 class ids"),
        ((0,), [1], r"masks \(0,\) and 1 class ids"),
        (
            (64, 64, 2),
            [1, 3],
            r"1..2 \(NUM_CLASSES - 1; negative for a crowd\). Received: \[3\] for image 0",
        ),
        ((64, 64, 2), [0, -3], r"Received: \[-3, 0\]"),
    ],
)
def test_masks_and_ids_that_do_not_fit_are_named(shape, ids, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(Squares(masks=np.ones(shape), class_ids=ids))


@pytest.mark.parametrize(
    "photo",
    [
        np.full((64, 64), 9, np.uint8),
        np.full((64, 64, 1), 9, np.uint8),
        np.full((64, 64, 4), 9, np.uint8),
        np.full((64, 64, 3), 9 * 257, np.uint16),
        np.full((64, 64, 3), 9 / 255),
        np.concatenate([np.full((64, 63, 3), 9.0), np.full((64, 1, 3), 255.0)], axis=1),
    ],
    ids=["grey", "one channel", "RGBA", "16 bit", "float 0..1", "float 0..255"],
)
def test_images_of_other_kinds(photo, monkeypatch):
    monkeypatch.setattr(Squares, "load_image", lambda self, image_id: photo)
    image = load(Squares())[0]
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and np.all(image[:, :63] == 9)


def test_no_image_is_a_sentence(monkeypatch):
    monkeypatch.setattr(Squares, "load_image", lambda self, image_id: None)  # as cv2.imread does
    with pytest.raises(ValueError, match="array of numbers.*cv2.imread"):
        load(Squares())


def test_one_and_five_channels(monkeypatch):
    for channels in (1, 5):
        monkeypatch.setattr(
            Squares, "load_image", lambda self, _, n=channels: np.full((64, 64, n), 7, np.uint8)
        )
        made = config(IMAGE_CHANNEL_COUNT=channels, MEAN_PIXEL=np.full(channels, 100.0))
        assert load(Squares(), config=made)[0].shape == (64, 64, channels)


@pytest.mark.parametrize(
    "mode, shape", [("square", (64, 128, 3)), ("crop", (64, 128, 3)), ("pad64", (64, 64, 3))]
)
def test_rectangles(mode, shape):
    made = config(IMAGE_RESIZE_MODE=mode)
    if mode != "pad64":
        made.IMAGE_SHAPE = shape
    image, meta, _, bbox, mask = load(Squares(), config=made)
    assert image.shape == shape and mask.shape == (*shape[:2], 1)
    left = 32 if mode == "square" else 0  # (128 - 64) / 2
    np.testing.assert_array_equal(bbox, [[10, 20 + left, 30, 50 + left]])


def test_the_old_flag_mirrors_from_the_global_generator():
    dataset = Squares()
    for seed in range(6):
        random.seed(seed)
        mirrored = random.randint(0, 1)
        random.seed(seed)
        bbox = data.load_image_gt(dataset, config(), 0, augment=True, augmentation=None)[3]
        np.testing.assert_array_equal(bbox, [[10, 14, 30, 44] if mirrored else [10, 20, 30, 50]])


# --- imgaug -----------------------------------------------------------------------------------------------------------


class Shown(Squares):
    """The image shows its first mask: whatever moves one must move the other."""

    def __init__(self, count=3):
        super().__init__()
        masks = np.zeros((64, 64, count), bool)
        for i in range(count):
            masks[12 + i % 5 : 50 - i % 7, 8 + i % 3 : 40 + i % 9, i] = True
        masks[20:30, 20:30, 0] = False  # no symmetry
        self.masks, self.ids = masks, np.ones(count, int)

    def load_image(self, image_id):
        return np.repeat(self.masks[:, :, :1], 3, axis=2).astype(np.uint8) * 200 + 20


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
COLOURS = {
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
    # the image is interpolated, the mask takes the nearest: a pixel of the outline may differ
    assert np.mean((image[:, :, 0] > 120) != mask[:, :, 0]) < 0.03


@pytest.mark.parametrize("augmentation", COLOURS.values(), ids=COLOURS)
def test_imgaug_colours_leave_the_masks(augmentation):
    dataset = Shown()
    _, _, _, _, mask = load(dataset, augmentation=augmentation)
    np.testing.assert_array_equal(mask, dataset.masks)


def test_imgaug_takes_its_chance_from_the_generator():
    results = [
        data.load_image_gt(
            Shown(), config(), 0, augmentation=MOVING["Affine"], rng=np.random.default_rng(seed)
        )[0]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_imgaug_without_objects():
    none = Squares(masks=np.zeros((64, 64, 0)), class_ids=[])
    assert load(none, augmentation=MOVING["Affine"])[4].shape == (64, 64, 0)


def test_both_keywords_and_a_callable():
    dataset = Shown()
    mirror = lambda image, masks, rng: (image[:, ::-1], masks[:, ::-1])  # noqa: E731
    mask = load(dataset, augment=False, augmentation=mirror)[4]
    np.testing.assert_array_equal(mask, dataset.masks[:, ::-1])
    twice = load(dataset, augment=True, augmentation=iaa.Fliplr(1.0))[4]
    assert any(
        np.array_equal(twice, expected) for expected in (dataset.masks, dataset.masks[:, ::-1])
    )


class Albumentations:
    """The protocol of albumentations 2: keywords, a list of masks, a seed; mirrors half of the time."""

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
    """Their number and order stay; the chance is the image's own generator, not the transform's."""
    masks = np.zeros((64, 64, 3), bool)
    masks[4:9, 5:20, 0] = masks[30:40, 50:64, 1] = masks[50:60, :6, 2] = True
    dataset, transform, mirrored = Squares(masks=masks, class_ids=[2, 1, -2]), Albumentations(), []
    dataset.load_image = lambda image_id: np.tile(
        np.arange(64, dtype=np.uint8)[:, None], (64, 1, 3)
    )
    for seed in range(8):
        found = [
            data.load_image_gt(
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
    )  # a copy draws: threads share the transform


def test_albumentations_without_objects_and_with_objects_that_leave():
    none = Squares(masks=np.zeros((64, 64, 0)), class_ids=[])
    image, _, class_ids, _, mask = load(none, augmentation=Albumentations())
    assert image.shape == (64, 64, 3) and len(class_ids) == 0 and mask.shape == (64, 64, 0)
    for seed in range(8):
        _, _, class_ids, bbox, _ = data.load_image_gt(
            Squares(),
            config(),
            0,
            augmentation=Albumentations(np.zeros_like),
            rng=np.random.default_rng(seed),
        )
        assert len(class_ids) == len(bbox) <= 1


def test_albumentations_that_change_the_size_or_ask_for_boxes_are_refused():
    transform = Albumentations(lambda array: array[:32])
    with pytest.raises(
        ValueError,
        match=r"must keep the image's shape \(64, 64, 3\).*Received: image \(32, 64, 3\)",
    ):
        for seed in range(8):
            data.load_image_gt(
                Squares(), config(), 0, augmentation=transform, rng=np.random.default_rng(seed)
            )
    transform.processors = {"bboxes": None}
    with pytest.raises(TypeError, match="asks for bboxes. Try it without bbox_params"):
        load(Squares(), augmentation=transform)


def test_augmentation_of_another_kind_or_shape_is_refused():
    with pytest.raises(
        TypeError, match="an albumentations transform, or a callable.*Received: 'flip'"
    ):
        load(Squares(), augmentation="flip")
    with pytest.raises(ValueError, match="keep the image's shape"):
        load(Squares(), augmentation=iaa.Crop(px=5, keep_size=False))


def out_of_view(image, masks, rng):
    """Moved to the right until only the right half is left, shown on the left."""
    return np.roll(image, 32, axis=1), np.concatenate(
        [np.zeros_like(masks[:, :32]), masks[:, :32]], axis=1
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        iaa.Affine(translate_px={"x": 32}),
        out_of_view,
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
        _, _, class_ids, bbox, mask = data.load_image_gt(dataset, config(), 0, **options)
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


def test_another_number_of_masks_is_refused():
    with pytest.raises(
        ValueError, match="a mask for each of 1 instances. Received: .* masks .64, 64, 0."
    ):
        load(Squares(), augmentation=lambda image, masks, rng: (image, masks[:, :, :0]))


# --- Objects of other images ----------------------------------------------------------------------------------------


def take_over(image, masks, rng, class_ids, another):
    """The other image in place of this one."""
    other = another(rng)
    return (image, masks, class_ids) if other is None else other


take_over.pastes = True


def test_another_image_is_of_the_same_source_and_readable():
    dataset = Squares(6, broken=[3])
    for image_id in (1, 2):
        dataset.image_info[image_id]["source"] = "elsewhere"
    dataset.source_class_ids["elsewhere"] = [0, 1]
    found = {int(load_from(dataset, 0, seed)[0][0, 0, 0]) for seed in range(30)}
    assert found == {4, 5}  # neither itself, nor the unreadable one
    image, meta, *_ = load_from(dataset, 1, 0)
    assert image[0, 0, 0] == 2 and meta[0] == 1 and meta[-3:].tolist() == [1, 1, 0]
    alone = Squares(1)
    assert load_from(alone, 0, 0)[0][0, 0, 0] == 0


def load_from(dataset, image_id, seed):
    rng = np.random.default_rng(seed)
    return data.load_image_gt(dataset, config(), image_id, augmentation=take_over, rng=rng)


def test_an_unreadable_other_image_is_not_held_against_this_one():
    batches = data.DataGenerator(Squares(8, broken=[3]), config(), augmentation=take_over, seed=0)
    for i in range(40):
        batches[i]
    assert list(batches.errors) == [3]


@pytest.mark.parametrize("mode", ["square", "crop", "pad64"])
def test_copy_paste_on_photos_of_several_sizes(mode):
    dataset, made = (
        sizes((64, 128), (128, 64), (64, 64), (200, 100)),
        config(IMAGE_RESIZE_MODE=mode),
    )
    made.MAX_GT_INSTANCES = 2
    most = 0
    for seed in range(20):
        batches = data.DataGenerator(
            dataset, made, augmentation=augment.compose(["flip", "copy_paste"]), seed=seed
        )
        inputs, _ = batches[0]
        most = max(most, int((inputs[4] != 0).sum()))
    assert most == 2


# --- The same batches whatever the workers --------------------------------------------------------------------------


def trained_on(workers, augmentation, network, **options):
    """The inputs of ten batches as a training reads them."""
    batches = Batches(
        Shown(),
        config(),
        batch_size=2,
        augmentation=augmentation,
        seed=4,
        workers=workers,
        steps=5,
        **options,
    )
    return [[x.numpy() for x in inputs] for (inputs,) in stream(batches, network).take(10)]


CHANCE = {
    "imgaug": iaa.Sequential([iaa.Affine(rotate=(-30, 30)), iaa.Multiply((0.5, 1.5))]),
    "built in": augment.compose(["flip", "jitter", "color", "copy_paste"]),
}


@pytest.mark.parametrize("augmentation", CHANCE.values(), ids=CHANCE)
def test_the_same_batches_whatever_the_number_of_workers(augmentation):
    repeats = np.array([1, 1, 2.5, 1, 1, 1])
    shapes = [(x.shape, x.dtype) for x in Batches(Shown(), config(), batch_size=2).batch(0)[0]]
    inputs = [SimpleNamespace(shape=shape, dtype=dtype.name) for shape, dtype in shapes]
    network = SimpleNamespace(inputs=inputs, distribute_strategy=None)
    found = [trained_on(workers, augmentation, network, repeats=repeats) for workers in (1, 2, 4)]
    assert len(found[0]) == 10 and not np.array_equal(found[0][0][0], found[0][1][0])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            for x, y in zip(one, two, strict=True):
                np.testing.assert_array_equal(x, y)


def test_importing_imgaug_leaves_numpy_as_it_was():
    before = set(vars(np))
    assert data.import_imgaug().__name__ == "imgaug"
    assert set(vars(np)) == before


# --- Batches ----------------------------------------------------------------------------------------------------------


def ids_of(batches, count=None):
    """The image ids of the batches in turn, over as many epochs as needed."""
    found = []
    for i in range(count if count is not None else len(batches)):
        if i and i % len(batches) == 0:
            batches.on_epoch_end()
        inputs, outputs = batches[i % len(batches)]
        assert outputs == ()
        found += inputs[1][:, 0].astype(int).tolist()
    return found


def test_an_item_has_the_seven_inputs_of_the_network():
    inputs, outputs = data.DataGenerator(Squares(), config(), shuffle=False, batch_size=2)[1]
    assert outputs == ()
    assert [x.shape for x in inputs] == [
        (2, 64, 64, 3),
        (2, 15),
        (2, 1023, 1),
        (2, 16, 4),
        (2, 4),
        (2, 4, 4),
        (2, 14, 14, 4),
    ]  # anchors: 3 * (16^2 + 8^2 + 4^2 + 2^2 + 1) = 1023
    np.testing.assert_allclose(inputs[0][0, 0, 0], 2 - Settings.MEAN_PIXEL, rtol=1e-6)
    assert inputs[4].tolist() == [[1, 0, 0, 0]] * 2
    assert inputs[5][0, 0].tolist() == [10, 20, 30, 50] and not inputs[5][:, 1:].any()
    assert (inputs[2] == 1).any(axis=(1, 2)).all()


def test_without_shuffling_items_walk_in_order_and_depend_on_their_index():
    batches = data.DataGenerator(Squares(5), config(), shuffle=False, batch_size=2)
    assert len(batches) == 3
    assert ids_of(batches, 5) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    batches = data.DataGenerator(Squares(5), config(), shuffle=False, batch_size=2)
    assert batches[2][0][1][:, 0].tolist() == [4, 0]
    assert batches[0][0][1][:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_with_shuffling_none_repeats_before_all_were_seen(steps):
    """An epoch of any length: passes over the dataset go on where the last epoch stopped."""
    batches = data.DataGenerator(Squares(6), config(), batch_size=2, steps=steps, seed=3)
    found = ids_of(batches, 9)
    passes = [found[0:6], found[6:12], found[12:18]]
    assert all(sorted(ids) == list(range(6)) for ids in passes)
    assert len({tuple(ids) for ids in passes}) > 1


def test_same_seed_same_batches_in_any_order_of_asking():
    arguments = {"batch_size": 2, "augmentation": iaa.Affine(rotate=(-30, 30))}
    made = [
        data.DataGenerator(Squares(6), config(), seed=seed, workers=workers, **arguments)
        for seed, workers in ((1, 1), (1, 4), (2, 1))
    ]
    forward = [made[0][i][0] for i in range(3)]
    backward = [made[1][i][0] for i in (2, 1, 0)][::-1]
    for one, two in zip(forward, backward, strict=True):
        for x, y in zip(one, two, strict=True):
            np.testing.assert_array_equal(x, y)
    assert any(not np.array_equal(made[2][i][0][0], forward[i][0]) for i in range(3))


def test_images_without_objects_are_kept():
    inputs, _ = data.DataGenerator(
        Squares(2, masks=np.zeros((0,)), class_ids=[]), config(), batch_size=2
    )[0]
    assert inputs[0].shape == (2, 64, 64, 3) and not inputs[4].any() and not inputs[6].any()
    assert not (inputs[2] == 1).any() and (inputs[2] == -1).sum() == 2 * 16


def test_more_objects_than_fit_are_drawn_and_crowds_kept():
    masks = np.zeros((64, 64, 6), bool)
    for i in range(6):
        masks[8 * i : 8 * i + 6, 5:30, i] = True
    inputs, _ = data.DataGenerator(Squares(1, masks, [1, 2, 1, 2, -1, -1]), config())[0]
    assert (inputs[4] != 0).sum() == 4 and inputs[6].any(axis=(0, 1, 2)).all()
    for class_id, (y1, *_rest) in zip(inputs[4][0], inputs[5][0], strict=True):
        assert class_id == [1, 2, 1, 2, -1, -1][y1 // 8]  # ids and boxes stay together


def test_no_augmentation_sources():
    arguments = {"augmentation": iaa.Fliplr(1.0), "no_augmentation_sources": ["squares"]}
    inputs, _ = data.DataGenerator(Squares(), config(), **arguments)[0]
    assert inputs[5][0, 0].tolist() == [10, 20, 30, 50]
    inputs, _ = data.DataGenerator(Squares(), config(), augmentation=iaa.Fliplr(1.0))[0]
    assert inputs[5][0, 0].tolist() == [10, 14, 30, 44]


def sizes(*shapes):
    """Images of these sizes with the square of `Squares`, as a dataset."""

    class Sized(Squares):
        def load_image(self, image_id):
            return np.full((*shapes[image_id], 3), 100 + image_id, np.uint8)

        def load_mask(self, image_id):
            mask = np.zeros((*shapes[image_id], 1), bool)
            mask[10:30, 20:50, 0] = True
            return mask, np.array([1])

    return Sized(len(shapes))


@pytest.mark.parametrize("mini", [False, True])
@pytest.mark.parametrize("mode", ["pad64", "none"])
def test_a_batch_is_padded_to_its_largest_image(mode, mini):
    made = config(IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=None, USE_MINI_MASK=mini)
    dataset = sizes((64, 128), (64, 64))
    inputs, _ = data.DataGenerator(dataset, made, shuffle=False, batch_size=2)[0]
    image, meta, rpn_match, _, ids, boxes, masks = inputs
    assert image.shape == (2, 64, 128, 3)
    shown = np.round(image[1] + made.MEAN_PIXEL)
    assert (shown[:, :64] == 101).all() and (shown[:, 64:] == 0).all()
    np.testing.assert_array_equal(
        meta[1, 1:12], [64, 64, 3, 64, 128, 3, 0, 0, 64, 64, 1]
    )  # the window stays
    np.testing.assert_array_equal(boxes[:, 0], [[10, 20, 30, 50]] * 2)
    assert masks.shape == ((2, 14, 14, 4) if mini else (2, 64, 128, 4)) and ids[:, 0].tolist() == [
        1,
        1,
    ]
    anchors = 3 * (16 * 32 + 8 * 16 + 4 * 8 + 2 * 4 + 1 * 2)
    assert rpn_match.shape == (2, anchors, 1) and (rpn_match == 1).any(axis=(1, 2)).all()
    one_by_one = data.DataGenerator(dataset, made, shuffle=False)
    assert [one_by_one[i][0][0].shape for i in range(2)] == [(1, 64, 128, 3), (1, 64, 64, 3)]


def test_tall_and_wide_images_are_kept_apart():
    dataset = sizes(*[(64, 128), (128, 64)] * 4)
    made = config(IMAGE_RESIZE_MODE="pad64")
    batches = data.DataGenerator(dataset, made, batch_size=2, seed=0)
    assert sorted(ids_of(batches, 4)) == list(range(8))
    assert {batches[i][0][0].shape[1:3] for i in range(4)} == {(64, 128), (128, 64)}


def test_in_mode_none_sides_must_be_multiples_of_64():
    with pytest.raises(
        ValueError, match=r"(?s)must be multiples of 64. Received: 64 x 100. Try IMAGE_RESIZE_MODE"
    ):
        data.DataGenerator(sizes((64, 100)), config(IMAGE_RESIZE_MODE="none"))[0]


def test_repeats_lengthen_the_pass():
    batches = data.DataGenerator(
        Squares(4), config(), batch_size=2, seed=0, repeats=np.array([1, 1, 3.0, 1])
    )
    assert len(batches) == 3
    assert sorted(ids_of(batches, 3)) == [0, 1, 2, 2, 2, 3]


def test_random_rois_and_their_targets():
    arguments = {"random_rois": 20, "batch_size": 2}
    inputs, outputs = data.DataGenerator(Squares(), config(), **arguments)[0]
    assert len(inputs) == 8 and inputs[7].shape == (2, 20, 4) and outputs == ()
    made = config(TRAIN_ROIS_PER_IMAGE=6)
    inputs, outputs = data.DataGenerator(Squares(), made, **arguments, detection_targets=True)[0]
    assert [x.shape for x in outputs] == [(2, 6, 1), (2, 6, 3, 4), (2, 6, 28, 28, 3)]
    assert inputs[8].shape == (2, 6, 4)


def test_the_python_generator_runs_on_and_on():
    batches = data.data_generator(Squares(3), config(), shuffle=False)
    item = next(batches)
    assert type(item) is tuple and all(type(part) is tuple for part in item)  # Keras takes no lists
    batches = data.data_generator(Squares(3), config(), shuffle=False)
    found = [int(next(batches)[0][1][0, 0]) for _ in range(7)]
    assert found == [0, 1, 2, 0, 1, 2, 0]


def test_an_unreadable_image_is_logged_once_and_replaced(caplog):
    batches = data.DataGenerator(Squares(4, broken=[1]), config(), shuffle=False)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert (
            ids_of(batches, 12) == [0, 2, 2, 3] * 3
        )  # three passes: one image broken, not three errors
    assert caplog.text.count("Skipped image 1 (1.png): no such file 1") == 1


def test_too_many_unreadable_images_stop_and_are_listed():
    batches = data.DataGenerator(Squares(6, broken=[1, 2, 4]), config(), shuffle=False)
    assert ids_of(batches, 4) == [0, 3, 3, 3]
    with pytest.raises(
        ValueError, match=r"At most 2 images.*(?s:.*)1.png(?s:.*)2.png(?s:.*)4.png"
    ) as error:
        batches[4]
    assert batches.failure is error.value


def test_a_dataset_of_unreadable_images_stops():
    with pytest.raises(ValueError, match="one must be left"):
        data.DataGenerator(Squares(2, broken=[0, 1]), config(MAX_IMAGE_ERRORS=50))[0]


def test_a_truncated_file_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    dataset = Dataset()
    dataset.add_class("files", 1, "a")
    dataset.add_class("files", 2, "b")
    dataset.add_image("files", 0, tmp_path / "cut.jpg")
    dataset.add_image("files", 1, tmp_path / "gone.jpg")
    dataset.prepare()
    with pytest.raises(ValueError, match=r"(?s)cut.jpg.*gone.jpg"):
        data.DataGenerator(dataset, config(), shuffle=False)[0]


def test_datasets_that_cannot_be_trained_on():
    with pytest.raises(ValueError, match=r"prepared.*Try dataset.prepare\(\)"):
        data.DataGenerator(Dataset(), config())
    with pytest.raises(ValueError, match="must hold images. Received: none"):
        data.DataGenerator(Squares(0), config())
    with pytest.raises(
        ValueError, match=r"NUM_CLASSES = 2, and 3 classes.*'big'\]. Try NUM_CLASSES = 3"
    ):
        data.DataGenerator(Squares(), config(NUM_CLASSES=2))
    batches = data.DataGenerator(Squares(3, masks=np.ones((64, 64, 1)), class_ids=[7]), config())
    with pytest.raises(ValueError, match=r"(?s)Received: \[7\] for image"):
        batches[0]


# --- Boxes without masks ------------------------------------------------------------------------------------------


class BoxedSquares(Squares):
    """Boxes alone: `load_mask` may not be asked for."""

    def __init__(self):
        super().__init__()
        self.boxes, self.ids = [[10, 20, 30, 50]], [1]

    def load_bbox(self, image_id):
        return self.boxes, self.ids

    def load_mask(self, image_id):
        pytest.fail("masks are not needed")


def box_only(**values):
    return config(USE_MASK=False, **values)


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_no_boxes_mean_no_objects(shape):
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = np.zeros(shape), []
    for augmentation in (None, lambda image, masks, rng: (image, masks)):
        _, _, class_ids, bbox, mask = load(dataset, config=box_only(), augmentation=augmentation)
        assert class_ids.shape == (0,) and bbox.shape == (0, 4) and mask is None


def test_boxes_without_area_of_an_unknown_class_are_dropped():
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = [[0, 0, 0, 0], [10, 20, 30, 50]], [0, 1]
    _, _, class_ids, bbox, _ = load(dataset, config=box_only())
    assert class_ids.tolist() == [1] and bbox.tolist() == [[10, 20, 30, 50]]
    dataset.boxes[0] = [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"Received: \[0\] for image 0"):
        load(dataset, config=box_only())


def test_boxes_are_scaled_and_mirrored_without_masks():
    settings = box_only(IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128)
    _, _, class_ids, bbox, mask = load(BoxedSquares(), config=settings)
    assert bbox.tolist() == [[20, 40, 60, 100]] and class_ids.tolist() == [1] and mask is None
    mirrored = {tuple(data.load_image_gt(BoxedSquares(), settings, 0, augment=True, rng=np.random.default_rng(i))[3][0])
                for i in range(8)}  # fmt: skip
    assert mirrored == {(20, 40, 60, 100), (20, 28, 60, 88)}  # 128 - 100, 128 - 40


@pytest.mark.parametrize("settings", [box_only(), config(RPN_ONLY=True)])
def test_without_own_boxes_they_are_those_of_the_masks(settings):
    _, _, class_ids, bbox, mask = load(Squares(), config=settings, use_mini_mask=True)
    assert bbox.tolist() == [[10, 20, 30, 50]] and class_ids.tolist() == [1] and mask is None


def test_masks_are_asked_for_where_the_network_has_them():
    class Both(Squares):
        def load_bbox(self, image_id):
            pytest.fail("boxes are those of the masks")

    assert load(Both())[3].tolist() == [[10, 20, 30, 50]]


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


def test_boxes_outside_are_dropped_and_cut():
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = [[70, 0, 80, 10], [50, 50, 90, 90], [5, 5, 5, 9]], [1, 2, 1]
    _, _, class_ids, bbox, _ = load(dataset, config=box_only())
    assert bbox.tolist() == [[50, 50, 64, 64]] and class_ids.tolist() == [2]


@pytest.mark.parametrize(
    ("boxes", "ids", "sentence"),
    [
        (
            [[1, 2, 3, 4]],
            [1, 2],
            r"boxes \[N, \(y1, x1, y2, x2\)\] and N class ids for image 0 \(0.png\)",
        ),
        ([1, 2, 3, 4], [1], r"Received: boxes \(4,\) and 1 class ids"),
        ([[1, 2, float("nan"), 4]], [1], "without nan"),
        ([[9, 2, 3, 4]], [1], r"y1 <= y2 and x1 <= x2. Received: \[9.0, 2.0, 3.0, 4.0\]"),
        ([[1, 2, 3, 4]], [3], r"Class ids must lie in 1..2"),
    ],
)
def test_wrong_boxes_are_named(boxes, ids, sentence):
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = boxes, ids
    with pytest.raises(ValueError, match=sentence):
        load(dataset, config=box_only())


def test_batches_hold_what_the_network_learns_from():
    names = lambda settings, **options: [  # noqa: E731
        x.shape for x in data.DataGenerator(BoxedSquares(), settings, batch_size=2, **options)[0][0]
    ]
    image, meta, match, deltas, ids, boxes = names(box_only())
    assert (image, ids, boxes, deltas) == ((2, 64, 64, 3), (2, 4), (2, 4, 4), (2, 16, 4))
    assert names(box_only(), random_rois=20) == [image, meta, match, deltas, ids, boxes, (2, 20, 4)]
    assert names(config(RPN_ONLY=True)) == [image, meta, match, deltas]
    with pytest.raises(ValueError, match="detection_targets needs a network with masks"):
        names(box_only(), random_rois=20, detection_targets=True)


def test_more_boxes_than_fit_are_drawn_from():
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = [[i, i, i + 9, i + 9] for i in range(7)], [1] * 7
    (*_, ids, boxes), _ = data.DataGenerator(dataset, box_only())[0]
    assert ids.tolist() == [[1] * 4] and len({tuple(box) for box in boxes[0].tolist()}) == 4

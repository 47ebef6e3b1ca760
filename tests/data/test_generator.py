"""Batches: their order, their random numbers, their errors."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from squares import BoxedSquares, Settings, Shown, Squares, box_only, config, sizes, take_over

from mrcnn.data import augment
from mrcnn.data import generator as data
from mrcnn.data.dataset import Dataset
from mrcnn.data.imgaug_support import import_imgaug
from mrcnn.training.pipeline import Batches, stream

iaa = import_imgaug().augmenters


def test_empty_masks_of_class_0_are_not_errors():
    batches = data.DataGenerator(
        Squares(8, masks=np.zeros((64, 64, 1)), class_ids=[0]), config(), batch_size=2
    )
    assert all(not batches[i][0][4].any() for i in range(4)) and batches.errors == {}


def test_unreadable_other_image_does_not_count_as_an_error_of_this_one():
    batches = data.DataGenerator(Squares(8, broken=[3]), config(), augmentation=take_over, seed=0)
    for i in range(40):
        batches[i]
    assert list(batches.errors) == [3]


@pytest.mark.parametrize("mode", ["square", "crop", "pad64"])
def test_copy_paste_on_images_of_several_sizes(mode):
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


# --- The same batches whatever the workers ----------------------------------------------------


def trained_on(workers, augmentation, network, **options):
    """The inputs of ten batches from the pipeline of the training."""
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


RANDOM = {
    "imgaug": iaa.Sequential([iaa.Affine(rotate=(-30, 30)), iaa.Multiply((0.5, 1.5))]),
    "built in": augment.compose(["flip", "jitter", "color", "copy_paste"]),
}


@pytest.mark.parametrize("augmentation", RANDOM.values(), ids=RANDOM)
def test_batches_do_not_depend_on_the_number_of_workers(augmentation):
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


# --- Batches ----------------------------------------------------------------------------------


def ids_of(batches, count=None):
    """The image ids of consecutive batches, over as many epochs as needed."""
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


def test_without_shuffling_images_come_in_order_and_depend_on_the_index():
    batches = data.DataGenerator(Squares(5), config(), shuffle=False, batch_size=2)
    assert len(batches) == 3
    assert ids_of(batches, 5) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    batches = data.DataGenerator(Squares(5), config(), shuffle=False, batch_size=2)
    assert batches[2][0][1][:, 0].tolist() == [4, 0]
    assert batches[0][0][1][:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_with_shuffling_no_image_repeats_before_all_were_shown(steps):
    """Also if an epoch of Keras does not end with one of the dataset."""
    batches = data.DataGenerator(Squares(6), config(), batch_size=2, steps=steps, seed=3)
    found = ids_of(batches, 9)
    passes = [found[0:6], found[6:12], found[12:18]]
    assert all(sorted(ids) == list(range(6)) for ids in passes)
    assert len({tuple(ids) for ids in passes}) > 1


def test_same_seed_gives_same_batches_in_any_order_of_access():
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


def test_objects_beyond_the_maximum_are_sampled_with_crowds():
    masks = np.zeros((64, 64, 6), bool)
    for i in range(6):
        masks[8 * i : 8 * i + 6, 5:30, i] = True
    inputs, _ = data.DataGenerator(Squares(1, masks, [1, 2, 1, 2, -1, -1]), config())[0]
    assert (inputs[4] != 0).sum() == 4 and inputs[6].any(axis=(0, 1, 2)).all()
    for class_id, (y1, *_rest) in zip(inputs[4][0], inputs[5][0], strict=True):
        assert class_id == [1, 2, 1, 2, -1, -1][y1 // 8]  # ids and boxes match


def test_no_augmentation_sources_are_not_augmented():
    arguments = {"augmentation": iaa.Fliplr(1.0), "no_augmentation_sources": ["squares"]}
    inputs, _ = data.DataGenerator(Squares(), config(), **arguments)[0]
    assert inputs[5][0, 0].tolist() == [10, 20, 30, 50]
    inputs, _ = data.DataGenerator(Squares(), config(), augmentation=iaa.Fliplr(1.0))[0]
    assert inputs[5][0, 0].tolist() == [10, 14, 30, 44]


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
    )  # the window is unchanged
    np.testing.assert_array_equal(boxes[:, 0], [[10, 20, 30, 50]] * 2)
    assert masks.shape == ((2, 14, 14, 4) if mini else (2, 64, 128, 4)) and ids[:, 0].tolist() == [
        1,
        1,
    ]
    anchors = 3 * (16 * 32 + 8 * 16 + 4 * 8 + 2 * 4 + 1 * 2)
    assert rpn_match.shape == (2, anchors, 1) and (rpn_match == 1).any(axis=(1, 2)).all()
    one_by_one = data.DataGenerator(dataset, made, shuffle=False)
    assert [one_by_one[i][0][0].shape for i in range(2)] == [(1, 64, 128, 3), (1, 64, 64, 3)]


PAD32 = {
    "IMAGE_MIN_DIM": 80,
    "IMAGE_MAX_DIM": 120,
    "MEAN_PIXEL": np.array([123.675, 116.28, 103.53]),
    "STD_PIXEL": np.array([58.395, 57.12, 57.375]),
}


@pytest.mark.parametrize("mini", [False, True])
@pytest.mark.parametrize("augmentation", [None, augment.compose(["flip", "jitter", "copy_paste"])])
@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_images_by_the_rules_of_other_libraries(mode, augmentation, mini):
    made = config(IMAGE_RESIZE_MODE=mode, USE_MINI_MASK=mini, **PAD32)
    # Resized to 80 x 93, padded to 96 x 96, and to 60 x 120, padded to 64 x 128.
    dataset = sizes((60, 70), (60, 120))
    batches = data.DataGenerator(
        dataset, made, shuffle=False, batch_size=2, augmentation=augmentation, augment=True, seed=3
    )
    inputs, _ = batches[0]
    image, meta, rpn_match, _, ids, boxes, masks = inputs
    assert image.shape == (2, 96, 128, 3) and image.dtype == np.float32
    windows = [[0, 0, 80, 93], [0, 0, 60, 120]]
    assert meta[:, 7:11].tolist() == windows
    assert meta[:, 4:7].tolist() == [[96, 128, 3]] * 2
    for pixels, (_, _, bottom, right) in zip(image, windows, strict=True):
        assert not pixels[bottom:].any() and not pixels[:, right:].any()
        assert pixels[:bottom, :right].any()
    anchors = 3 * (24 * 32 + 12 * 16 + 6 * 8 + 3 * 4 + 2 * 2)
    assert rpn_match.shape == (2, anchors, 1)
    assert masks.shape == ((2, 14, 14, 4) if mini else (2, 96, 128, 4))
    found = ids[..., None] > 0
    assert found.any()
    assert (boxes <= np.tile(np.array(windows)[:, None, 2:], 2))[
        np.broadcast_to(found, boxes.shape)
    ].all()


@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_batch_of_two_equals_two_of_one_by_the_rules_of_other_libraries(mode):
    made = config(IMAGE_RESIZE_MODE=mode, **PAD32)
    dataset = sizes((60, 70), (60, 70))
    both, _ = data.DataGenerator(dataset, made, shuffle=False, batch_size=2, seed=3)[0]
    one = data.DataGenerator(dataset, made, shuffle=False, seed=3)
    for i in range(2):
        for x, y in zip(both, one[i][0], strict=True):
            np.testing.assert_array_equal(x[i : i + 1], y)


def test_pipeline_sends_images_by_the_rules_of_other_libraries_as_floats():
    made = config(IMAGE_RESIZE_MODE="torchvision", **PAD32)
    dataset = sizes((60, 70), (60, 120))
    batches = Batches(dataset, made, batch_size=2, shuffle=False, seed=3, workers=1)
    expected, _ = data.DataGenerator(dataset, made, batch_size=2, shuffle=False, seed=3)[0]
    specs = [SimpleNamespace(shape=x.shape, dtype=x.dtype.name) for x in expected]
    network = SimpleNamespace(inputs=specs, distribute_strategy=None)
    ((inputs,),) = stream(batches, network).take(1)
    assert inputs[0].dtype == "float32"
    for x, y in zip(inputs, expected, strict=True):
        np.testing.assert_array_equal(x, y)


def test_tall_and_wide_images_are_in_separate_batches():
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


def test_repeats_lengthen_the_epoch():
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


def test_python_generator_is_endless():
    batches = data.data_generator(Squares(3), config(), shuffle=False)
    item = next(batches)
    assert type(item) is tuple and all(
        type(part) is tuple for part in item
    )  # Keras accepts no lists
    batches = data.data_generator(Squares(3), config(), shuffle=False)
    found = [int(next(batches)[0][1][0, 0]) for _ in range(7)]
    assert found == [0, 1, 2, 0, 1, 2, 0]


def test_unreadable_image_is_logged_once_and_replaced(caplog):
    batches = data.DataGenerator(Squares(4, broken=[1]), config(), shuffle=False)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert (
            ids_of(batches, 12) == [0, 2, 2, 3] * 3
        )  # three epochs: one unreadable image, not three
    assert caplog.text.count("Skipped image 1 (1.png): no such file 1") == 1


def test_too_many_unreadable_images_raise_and_are_listed():
    batches = data.DataGenerator(Squares(6, broken=[1, 2, 4]), config(), shuffle=False)
    assert ids_of(batches, 4) == [0, 3, 3, 3]
    with pytest.raises(
        ValueError, match=r"At most 2 images.*(?s:.*)1.png(?s:.*)2.png(?s:.*)4.png"
    ) as error:
        batches[4]
    assert batches.failure is error.value


def test_dataset_of_unreadable_images_raises():
    with pytest.raises(ValueError, match="one must be left"):
        data.DataGenerator(Squares(2, broken=[0, 1]), config(MAX_IMAGE_ERRORS=50))[0]


def test_truncated_file_is_named(tmp_path):
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


def test_datasets_that_do_not_match_the_config_are_refused():
    with pytest.raises(ValueError, match=r"prepared.*Try dataset.prepare\(\)"):
        data.DataGenerator(Dataset(), config())
    with pytest.raises(ValueError, match="must contain images. Received: none"):
        data.DataGenerator(Squares(0), config())
    with pytest.raises(
        ValueError, match=r"NUM_CLASSES = 2, and 3 classes.*'big'\]. Try NUM_CLASSES = 3"
    ):
        data.DataGenerator(Squares(), config(NUM_CLASSES=2))
    batches = data.DataGenerator(Squares(3, masks=np.ones((64, 64, 1)), class_ids=[7]), config())
    with pytest.raises(ValueError, match=r"(?s)Received: \[7\] for image"):
        batches[0]


def test_batches_without_masks_have_the_inputs_of_their_network():
    names = lambda settings, **options: [  # noqa: E731
        x.shape for x in data.DataGenerator(BoxedSquares(), settings, batch_size=2, **options)[0][0]
    ]
    image, meta, match, deltas, ids, boxes = names(box_only())
    assert (image, ids, boxes, deltas) == ((2, 64, 64, 3), (2, 4), (2, 4, 4), (2, 16, 4))
    assert names(box_only(), random_rois=20) == [image, meta, match, deltas, ids, boxes, (2, 20, 4)]
    assert names(config(RPN_ONLY=True)) == [image, meta, match, deltas]
    with pytest.raises(ValueError, match="detection_targets needs a network with masks"):
        names(box_only(), random_rois=20, detection_targets=True)


def test_boxes_beyond_the_maximum_are_sampled():
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = [[i, i, i + 9, i + 9] for i in range(7)], [1] * 7
    (*_, ids, boxes), _ = data.DataGenerator(dataset, box_only())[0]
    assert ids.tolist() == [[1] * 4] and len({tuple(box) for box in boxes[0].tolist()}) == 4

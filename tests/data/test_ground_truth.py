"""One image with its ground truth: forms of masks and boxes, channels, resize modes."""

import random

import numpy as np
import pytest
from squares import BoxedSquares, Squares, box_only, config, load, take_over

from mrcnn.data.ground_truth import load_image_gt


@pytest.mark.parametrize("shape", [(0,), (0, 0, 0), (64, 64, 0), (64, 64), (10, 10, 0)])
@pytest.mark.parametrize("use_mini_mask", [False, True])
def test_any_empty_mask_means_no_objects(shape, use_mini_mask):
    image, meta, class_ids, bbox, mask = load(
        Squares(masks=np.zeros(shape), class_ids=[]), use_mini_mask=use_mini_mask
    )
    assert class_ids.shape == (0,) and bbox.shape == (0, 4)
    assert mask.shape == ((14, 14, 0) if use_mini_mask else (64, 64, 0))
    assert image.shape == (64, 64, 3) and meta.shape == (15,)


def test_image_with_its_ground_truth():
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


def test_single_mask_without_its_last_axis():
    _, _, _, bbox, mask = load(Squares(masks=np.ones((64, 64)), class_ids=[1]))
    assert mask.shape == (64, 64, 1) and bbox.tolist() == [[0, 0, 64, 64]]


def test_empty_masks_are_dropped():
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
    """Published scripts mark images without objects so (RSNA, SIIM, Airbus)."""
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
def test_masks_and_class_ids_that_do_not_match_are_refused(shape, ids, sentence):
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
def test_images_of_other_dtypes_and_channels(photo, monkeypatch):
    monkeypatch.setattr(Squares, "load_image", lambda self, image_id: photo)
    image = load(Squares())[0]
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and np.all(image[:, :63] == 9)


def test_load_image_that_returns_none_is_refused(monkeypatch):
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
def test_rectangular_image_shapes(mode, shape):
    made = config(IMAGE_RESIZE_MODE=mode)
    if mode != "pad64":
        made.IMAGE_SHAPE = shape
    image, meta, _, bbox, mask = load(Squares(), config=made)
    assert image.shape == shape and mask.shape == (*shape[:2], 1)
    left = 32 if mode == "square" else 0  # (128 - 64) / 2
    np.testing.assert_array_equal(bbox, [[10, 20 + left, 30, 50 + left]])


@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_window_stays_at_the_top_left_of_a_mirrored_image(mode):
    # 64 x 64 resized to 40 x 40, padded to 64 x 64. The square 10:30, 20:50 becomes, by 40 / 64,
    # 6.25:18.75, 12.5:31.25; of its mirror image the columns are 8.75:27.5.
    made = config(IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=40)
    first = 1 if mode == "torchvision" else 0  # by corners the first pixel is rounded up
    expected = {(6 + first, 12 + first, 19, 31 + first), (6 + first, 9 - first, 19, 28 - first)}
    found = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        image, meta, _, bbox, mask = load_image_gt(Squares(), made, 0, augment=True, rng=rng)
        assert image.shape == (64, 64, 3) and image.dtype == np.float32 and mask.shape[2] == 1
        np.testing.assert_allclose(image[40:], np.broadcast_to(made.MEAN_PIXEL, (24, 64, 3)), 1e-6)
        assert not image[:40, :40].any() and meta[7:11].tolist() == [0, 0, 40, 40]
        found.add(tuple(bbox[0].tolist()))
    assert found == expected


@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_augmentations_see_uint8_without_padding(mode):
    made = config(IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=40)
    seen = []

    def look(image, masks, rng):
        seen.append((image.dtype, image.shape, masks.shape))
        return image, masks

    def look_at_other(image, masks, rng, class_ids, draw_other):
        other = draw_other(rng)
        seen.append((other.image.dtype, other.image.shape, other.masks.shape))
        return image, masks, class_ids

    look_at_other.pastes = True
    for augmentation in (look, look_at_other):
        load(Squares(), config=made, augmentation=augmentation)
    assert seen == [(np.uint8, (40, 40, 3), (40, 40, 1))] * 2


def test_continuous_boxes_are_not_rounded():
    settings = box_only(IMAGE_RESIZE_MODE="torchvision", IMAGE_MIN_DIM=40, CONTINUOUS_BOXES=True)
    bbox = load(BoxedSquares(), config=settings)[3]
    assert bbox.dtype == np.float32 and bbox.tolist() == [[6.25, 12.5, 18.75, 31.25]]
    # An augmentation sees the pixels that the box touches.
    augmented = load(BoxedSquares(), config=settings, augmentation=lambda i, m, rng: (i, m))
    assert augmented.bbox.tolist() == [[6, 12, 19, 32]]


def test_augment_flag_uses_the_global_random_state():
    dataset = Squares()
    for seed in range(6):
        random.seed(seed)
        mirrored = random.randint(0, 1)
        random.seed(seed)
        bbox = load_image_gt(dataset, config(), 0, augment=True, augmentation=None)[3]
        np.testing.assert_array_equal(bbox, [[10, 14, 30, 44] if mirrored else [10, 20, 30, 50]])


def test_other_image_is_of_the_same_source_and_readable():
    dataset = Squares(6, broken=[3])
    for image_id in (1, 2):
        dataset.image_info[image_id]["source"] = "elsewhere"
    dataset.source_class_ids["elsewhere"] = [0, 1]
    found = {int(load_from(dataset, 0, seed)[0][0, 0, 0]) for seed in range(30)}
    assert found == {4, 5}  # neither itself nor the unreadable one
    image, meta, *_ = load_from(dataset, 1, 0)
    assert image[0, 0, 0] == 2 and meta[0] == 1 and meta[-3:].tolist() == [1, 1, 0]
    alone = Squares(1)
    assert load_from(alone, 0, 0)[0][0, 0, 0] == 0


def load_from(dataset, image_id, seed):
    rng = np.random.default_rng(seed)
    return load_image_gt(dataset, config(), image_id, augmentation=take_over, rng=rng)


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_empty_boxes_of_any_shape_mean_no_objects(shape):
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
    found = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        result = load_image_gt(BoxedSquares(), settings, 0, augment=True, rng=rng)
        found.add(tuple(result.bbox[0].tolist()))
    assert found == {(20, 40, 60, 100), (20, 28, 60, 88)}  # 128 - 100, 128 - 40


@pytest.mark.parametrize("settings", [box_only(), config(RPN_ONLY=True)])
def test_boxes_are_those_of_the_masks_unless_overridden(settings):
    _, _, class_ids, bbox, mask = load(Squares(), config=settings, use_mini_mask=True)
    assert bbox.tolist() == [[10, 20, 30, 50]] and class_ids.tolist() == [1] and mask is None


def test_network_with_masks_does_not_load_boxes():
    class Both(Squares):
        def load_bbox(self, image_id):
            pytest.fail("boxes are those of the masks")

    assert load(Both())[3].tolist() == [[10, 20, 30, 50]]


def test_boxes_are_clipped_and_dropped_if_outside():
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
def test_invalid_boxes_are_refused(boxes, ids, sentence):
    dataset = BoxedSquares()
    dataset.boxes, dataset.ids = boxes, ids
    with pytest.raises(ValueError, match=sentence):
        load(dataset, config=box_only())

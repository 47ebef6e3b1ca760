"""Large images, detected tile by tile: every object appears once and complete."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import KINDS
from tiny import TinyConfig, assert_same_results, build, keys_of, noise_images

from mrcnn.inference import tiles
from mrcnn.inference.tiles import detect_tiled
from mrcnn.model import MaskRCNN


def detect(image):
    """A perfect detector: each connected spot is an object, its brightness its class."""
    image = image[:, :, 0]
    result = {"rois": [], "class_ids": [], "scores": [], "masks": []}
    for level in np.unique(image[image > 0]):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(np.uint8(image == level))
        for i in range(1, count):
            x, y, width, height, area = stats[i]
            result["rois"].append((y, x, y + height, x + width))
            result["class_ids"].append(level)
            result["scores"].append(area / 1e6)
            result["masks"].append(labels[y : y + height, x : x + width] == i)
    result["rois"] = np.array(result["rois"], np.int32).reshape(-1, 4)
    return result


def as_set(result):
    rows = zip(result["rois"], result["class_ids"], result["masks"], strict=True)
    return {(*box.tolist(), int(class_id), mask.tobytes()) for box, class_id, mask in rows}


# --- Objects in several tiles ---


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(60, 200),
    st.integers(60, 200),
    st.integers(40, 90),
    st.integers(10, 20),
)
def test_every_object_is_detected_once_and_complete(seed, height, width, tile, overlap):
    """Up to 12 spots that do not touch; some are larger than the overlap."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 1), np.uint8)
    for _ in range(12):
        y, x = rng.integers(0, height), rng.integers(0, width)
        radius = int(rng.integers(2, 25))
        spot = cv2.circle(np.zeros((height, width), np.uint8), (int(x), int(y)), radius, 1, -1)
        surroundings = cv2.dilate(spot, np.ones((5, 5), np.uint8))
        if not (image[:, :, 0] * surroundings).any():
            image[:, :, 0] += spot * np.uint8(rng.integers(1, 3))
    whole = detect(image)
    tiled = detect_tiled(detect, image, tile, overlap)
    assert as_set(tiled) == as_set(whole)
    assert len(tiled["rois"]) == len(whole["rois"])
    assert list(tiled["scores"]) == sorted(tiled["scores"], reverse=True)


def test_image_without_objects_gives_an_empty_result():
    result = detect_tiled(detect, np.zeros((100, 120, 1), np.uint8), 64, 16)
    assert result["rois"].shape == (0, 4)
    assert len(result["class_ids"]) == len(result["masks"]) == 0


def test_without_masks_boxes_are_merged():
    image = np.zeros((100, 160, 1), np.uint8)
    image[20:30, 10:150] = 1  # longer than a tile

    def detect_boxes(tile):
        result = detect(tile)
        del result["masks"]
        return result

    result = detect_tiled(detect_boxes, image, 64, 16)
    assert result["rois"].tolist() == [[20, 10, 30, 150]] and "masks" not in result


def test_float_boxes_keep_their_fractions_and_their_masks():
    """Boxes end a quarter of a pixel inside the pixels of their masks."""

    def detect_floats(tile):
        result = detect(tile)
        result["rois"] = np.float32(result["rois"] + np.array([0.25, 0.25, -0.25, -0.25]))
        return result

    image = np.zeros((100, 160, 1), np.uint8)
    image[20:30, 10:150] = 1  # longer than a tile
    image[50:60, 50:60] = 2
    image[52:55, 52:55] = 0  # a hole
    for with_masks in (True, False):
        result = detect_tiled(
            lambda tile, kept=with_masks: {
                key: value for key, value in detect_floats(tile).items() if kept or key != "masks"
            },
            image,
            64,
            16,
        )
        assert result["rois"].dtype == np.float32
        expected = [[20.25, 10.25, 29.75, 149.75], [50.25, 50.25, 59.75, 59.75]]
        assert sorted(result["rois"].tolist()) == expected
        if with_masks:
            shapes = {(mask.shape, int(mask.sum())) for mask in result["masks"]}
            assert shapes == {((10, 140), 1400), ((10, 10), 91)}


def test_objects_of_different_classes_are_not_merged():
    image = np.zeros((64, 100, 1), np.uint8)
    image[20:30, 45:60] = 1
    image[32:40, 45:60] = 2
    result = detect_tiled(detect, image, 64, 24)
    assert sorted(result["class_ids"].tolist()) == [1, 2]


def test_uncut_detection_is_preferred_to_a_cut_one_with_a_better_score():
    """Tile 0 cuts the object off and scores it higher; tile 1 contains all of it."""

    def surer_of_cut_objects(tile):
        result = detect(tile)
        result["scores"] = [0.9 if box[3] == 64 else 0.6 for box in result["rois"]]
        return result

    image = np.zeros((64, 110, 1), np.uint8)
    image[20:30, 55:70] = 1
    result = detect_tiled(surer_of_cut_objects, image, 64, 18)
    assert result["rois"].tolist() == [[20, 55, 30, 70]]
    np.testing.assert_allclose(result["scores"], [0.6])


def test_detection_far_from_borders_is_preferred_to_one_near_a_border():
    """Tile 0 ends at 64, 4 pixels after the object (overlap / 4 is 5); tile 1 begins at 44."""

    def surer_near_borders(tile):
        result = detect(tile)
        result["scores"] = [0.9 if box[3] == 60 else 0.6 for box in result["rois"]]
        return result

    image = np.zeros((64, 108, 1), np.uint8)
    image[20:30, 54:60] = 1
    np.testing.assert_allclose(detect_tiled(surer_near_borders, image, 64, 20)["scores"], [0.6])


def test_detection_that_covers_two_objects_does_not_merge_them():
    def blurred(tile):
        """In the second tile, marked in its corner, one detection covers both objects."""
        if tile[0, 0, 0] == 2:
            return {
                "rois": np.array([[20, 12, 30, 26]]),
                "class_ids": [1],
                "scores": [0.5],
                "masks": [np.ones((10, 14), bool)],
            }
        result = detect(tile)
        keep = [i for i, class_id in enumerate(result["class_ids"]) if class_id == 1]
        return {
            "rois": result["rois"][keep],
            "class_ids": [1] * len(keep),
            "scores": [0.9] * len(keep),
            "masks": [result["masks"][i] for i in keep],
        }

    image = np.zeros((64, 104, 1), np.uint8)
    image[20:30, 50:56] = image[20:30, 58:64] = 1  # tile 1 begins at column 40
    image[0, 40] = 2
    image[20:30, 62:64] = 0  # neither object touches a border
    result = detect_tiled(blurred, image, 64, 24)
    assert sorted(result["rois"].tolist()) == [[20, 50, 30, 56], [20, 58, 30, 62]]


# --- The tiles ---


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        # the first tile by itself looks like values in 0..1
        (np.float32([[0.5, 0.9, 120.0, 200.4]]), [0, 1, 120, 200]),
        (np.float32([[0.5, 0.9, 0.1, 0.2]]), [128, 230, 26, 51]),
        (np.uint16([[257, 0, 65535, 514]]), [1, 0, 255, 2]),
    ],
)
def test_all_tiles_are_scaled_to_uint8_alike(image, expected):
    values = []

    def record(tile):
        assert tile.dtype == np.uint8
        values.extend(tile[0, :, 0].tolist())
        return detect(np.zeros_like(tile))

    detect_tiled(record, image[:, :, None], 2, 0)
    assert values == expected


def test_image_smaller_than_a_tile_is_one_tile():
    shapes = []

    def record(image):
        shapes.append(image.shape)
        return detect(image)

    image = np.zeros((30, 50, 1), np.uint8)
    image[5:10, 40:] = 1
    result = detect_tiled(record, image, 64, 16)
    assert shapes == [(30, 50, 1)] and result["rois"].tolist() == [[5, 40, 10, 50]]


def test_tiles_cover_the_image_and_overlap():
    read_count = np.zeros((200, 150), int)

    class Image:
        """Returns arrays when sliced, as a memory map does."""

        shape, dtype = (200, 150, 1), np.dtype(np.uint8)

        def __getitem__(self, key):
            read_count[key] += 1
            return np.zeros((200, 150, 1), np.uint8)[key]

    detect_tiled(detect, Image(), 64, 16)
    # rows begin at 0, 48, 96, 136 (the last tile ends with the image), columns at 0, 48, 86
    assert read_count.min() == 1 and read_count.max() == 4
    assert read_count[0, 0] == 1 and read_count[50, 0] == 2 and read_count[50, 50] == 4


@pytest.mark.parametrize("overlap", [-1, 64, 100])
def test_overlap_that_does_not_fit_the_tile_is_an_error(overlap):
    with pytest.raises(ValueError, match="overlap must be at least 0 and below tile"):
        detect_tiled(detect, np.zeros((10, 10, 1), np.uint8), 64, overlap)


@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_neighbours_are_the_tiles_that_share_pixels(overlap):
    rows, columns = tiles._starts(23, 10, overlap), tiles._starts(31, 10, overlap)
    corners = [(y, x) for y in rows for x in columns]
    expected = set()
    for second, (y, x) in enumerate(corners):
        for first, (v, u) in enumerate(corners[:second]):
            if abs(y - v) < 10 and abs(x - u) < 10:
                expected.add((first, second))
    pairs = list(tiles._neighbours(rows, columns, 10))
    assert set(pairs) == expected and len(pairs) == len(expected)


# --- With a model ---


@pytest.mark.parametrize("kind", KINDS)
def test_model_detects_a_large_image_by_tiles(kind):
    model = build(kind)
    (image,) = noise_images(1, sizes=((64, 64),))
    (expected,) = model.detect([image], masks="crop")
    assert_same_results(model.detect_tiled(image), expected)
    (large,) = noise_images(1, sizes=((150, 100),))
    result = model.detect_tiled(large)
    assert set(result) == keys_of(model)
    assert len(result["rois"]) and result["rois"].min() >= 0
    assert (result["rois"].max(axis=0) <= [150, 100, 150, 100]).all()
    if "masks" in result:
        for (y1, x1, y2, x2), mask in zip(result["rois"], result["masks"], strict=True):
            assert mask.shape == (y2 - y1, x2 - x1) and mask.dtype == bool
    if "keypoints" in result:
        assert result["keypoints"].shape == (len(result["rois"]), 3, 3)
    model.config.DETECTION_MIN_CONFIDENCE = 1.0
    nothing = model.detect_tiled(image)
    assert len(nothing["rois"]) == 0 and nothing["rois"].dtype == expected["rois"].dtype
    assert {key: len(values) for key, values in nothing.items()} == dict.fromkeys(keys_of(model), 0)


@pytest.mark.parametrize(("objects", "warned"), [(2, True), (1, False), (0, False)])
def test_tiles_with_the_most_objects_that_detect_returns_give_a_warning(
    objects, warned, tmp_path, monkeypatch, caplog
):
    model = MaskRCNN("inference", TinyConfig(DETECTION_MAX_INSTANCES=2), str(tmp_path))
    squares = np.zeros((64, 100, 3), np.uint8)
    for i in range(objects):
        squares[5:15, 5 + 20 * i : 15 + 20 * i] = 1  # in the first of two tiles
    monkeypatch.setattr(model, "detect", lambda images, masks: [detect(images[0])])
    with caplog.at_level("WARNING", "mrcnn"):
        assert len(model.detect_tiled(squares, overlap=8)["rois"]) == objects
    warning = "1 of 2 tiles contain as many objects as one detection returns"
    assert (warning in caplog.text) == warned


def test_keypoints_are_those_of_the_whole_image():
    """The keypoints of each spot are two corners of its box."""

    def with_keypoints(image):
        result = detect(image)
        corners = result["rois"].reshape(-1, 2, 2).astype(np.float32)
        scores = np.full((len(corners), 2, 1), 3, np.float32)
        return {**result, "keypoints": np.concatenate([corners, scores], axis=2)}

    image = np.zeros((150, 90, 1), np.uint8)
    image[30:50, 20:30], image[60:66, 50:80] = 1, 2
    tiled = detect_tiled(with_keypoints, image, 64, 24)
    assert len(tiled["rois"]) == 2 and tiled["keypoints"].dtype == np.float32
    np.testing.assert_array_equal(tiled["keypoints"][..., :2], tiled["rois"].reshape(-1, 2, 2))
    empty = detect_tiled(with_keypoints, np.zeros_like(image), 64, 24)
    assert empty["keypoints"].shape == (0, 2, 3)
    assert "keypoints" not in detect_tiled(detect, image, 64, 24)


def test_keypoints_of_an_object_that_all_tiles_cut_have_the_best_scores():
    """Two tiles see halves of a spot of 100 columns; each knows one end of it."""

    def half_knowing(image):
        result = detect(image)
        is_left = image[0, 0, 0] == 0 and len(result["rois"]) and result["rois"][0][1] > 0
        ends = [[[10, 10, 9], [10, 60, 1]]] if is_left else [[[10, 0, 1], [10, 40, 9]]]
        keypoints = np.array(ends * len(result["rois"]), np.float32).reshape(-1, 2, 3)
        return {**result, "keypoints": keypoints}

    image = np.zeros((64, 120, 1), np.uint8)
    image[8:12, 10:110] = 1
    tiled = detect_tiled(half_knowing, image, 64, 8)
    assert len(tiled["rois"]) == 1
    # The second tile begins at column 56.
    assert tiled["keypoints"][0].tolist() == [[10, 10, 9], [10, 96, 9]]

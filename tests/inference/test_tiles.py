"""Large images, tile by tile: what is there comes out once and whole."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TinyConfig, photos, shake

from mrcnn.inference import tiles
from mrcnn.inference.tiles import detect_tiled
from mrcnn.model import MaskRCNN


def detect(image):
    """A detector that errs nowhere: each connected spot is an object, its brightness its class."""
    image = image[:, :, 0]
    found = {"rois": [], "class_ids": [], "scores": [], "masks": []}
    for level in np.unique(image[image > 0]):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(np.uint8(image == level))
        for i in range(1, count):
            x, y, width, height, area = stats[i]
            found["rois"].append((y, x, y + height, x + width))
            found["class_ids"].append(level)
            found["scores"].append(area / 1e6)
            found["masks"].append(labels[y : y + height, x : x + width] == i)
    found["rois"] = np.array(found["rois"], np.int32).reshape(-1, 4)
    return found


def as_set(result):
    return {
        (*box.tolist(), int(class_id), mask.tobytes())
        for box, class_id, mask in zip(
            result["rois"], result["class_ids"], result["masks"], strict=True
        )
    }


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(60, 200),
    st.integers(60, 200),
    st.integers(40, 90),
    st.integers(10, 20),
)
def test_every_spot_is_found_once_and_whole(seed, height, width, tile, overlap):
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 1), np.uint8)
    for _ in range(
        12
    ):  # on a grid of its own each, so that spots do not touch; some larger than the overlap
        y, x = rng.integers(0, height), rng.integers(0, width)
        radius = int(rng.integers(2, 25))
        spot = cv2.circle(np.zeros((height, width), np.uint8), (int(x), int(y)), radius, 1, -1)
        around = cv2.dilate(spot, np.ones((5, 5), np.uint8))
        if not (image[:, :, 0] * around).any():
            image[:, :, 0] += spot * np.uint8(rng.integers(1, 3))
    whole, tiled = detect(image), detect_tiled(detect, image, tile, overlap)
    assert as_set(tiled) == as_set(whole)
    assert len(tiled["rois"]) == len(whole["rois"])
    assert list(tiled["scores"]) == sorted(tiled["scores"], reverse=True)


def test_nothing_there():
    result = detect_tiled(detect, np.zeros((100, 120, 1), np.uint8), 64, 16)
    assert result["rois"].shape == (0, 4) and len(result["class_ids"]) == len(result["masks"]) == 0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (
            np.float32([[0.5, 0.9, 120.0, 200.4]]),
            [0, 1, 120, 200],
        ),  # the first tile alone would be scaled by 255
        (np.float32([[0.5, 0.9, 0.1, 0.2]]), [128, 230, 26, 51]),
        (np.uint16([[257, 0, 65535, 514]]), [1, 0, 255, 2]),
    ],
)
def test_values_are_scaled_for_the_image_as_one(image, expected):
    seen = []

    def watch(tile):
        assert tile.dtype == np.uint8
        seen.extend(tile[0, :, 0].tolist())
        return detect(np.zeros_like(tile))

    detect_tiled(watch, image[:, :, None], 2, 0)
    assert seen == expected


def test_an_image_smaller_than_a_tile_is_one_tile():
    seen = []

    def watch(image):
        seen.append(image.shape)
        return detect(image)

    image = np.zeros((30, 50, 1), np.uint8)
    image[5:10, 40:] = 1
    result = detect_tiled(watch, image, 64, 16)
    assert seen == [(30, 50, 1)] and result["rois"].tolist() == [[5, 40, 10, 50]]


def test_tiles_cover_the_image_and_overlap():
    seen = np.zeros((200, 150), int)

    class Image:
        """Gives arrays when sliced, as a memory map does."""

        shape, dtype = (200, 150, 1), np.dtype(np.uint8)

        def __getitem__(self, key):
            seen[key] += 1
            return np.zeros((200, 150, 1), np.uint8)[key]

    detect_tiled(detect, Image(), 64, 16)
    # rows begin at 0, 48, 96, 136 (the last ends with the image), columns at 0, 48, 86
    assert (
        seen.min() == 1
        and seen.max() == 4
        and seen[0, 0] == 1
        and seen[50, 0] == 2
        and seen[50, 50] == 4
    )


def test_without_masks_boxes_are_put_together():
    image = np.zeros((100, 160, 1), np.uint8)
    image[20:30, 10:150] = 1  # longer than a tile

    def boxes_alone(tile):
        found = detect(tile)
        del found["masks"]
        return found

    result = detect_tiled(boxes_alone, image, 64, 16)
    assert result["rois"].tolist() == [[20, 10, 30, 150]] and "masks" not in result


def test_other_classes_stay_apart():
    image = np.zeros((64, 100, 1), np.uint8)
    image[20:30, 45:60] = 1
    image[32:40, 45:60] = 2
    result = detect_tiled(detect, image, 64, 24)
    assert sorted(result["class_ids"].tolist()) == [1, 2]


def test_the_whole_view_is_kept_before_a_better_cut_one():
    """Tile 0 cuts the object at its border and is surer of it; tile 1 sees it whole."""

    def unsure(tile):
        found = detect(tile)
        found["scores"] = [0.9 if box[3] == 64 else 0.6 for box in found["rois"]]
        return found

    image = np.zeros((64, 110, 1), np.uint8)
    image[20:30, 55:70] = 1
    result = detect_tiled(unsure, image, 64, 18)
    assert result["rois"].tolist() == [[20, 55, 30, 70]]
    np.testing.assert_allclose(result["scores"], [0.6])


def test_a_view_far_from_the_border_is_kept_before_a_better_one_beside_it():
    """Tile 0 ends at 64, four pixels beyond the object, less than a fourth of the overlap; tile 1 begins at 44."""

    def sure_near_borders(tile):
        found = detect(tile)
        found["scores"] = [0.9 if box[3] == 60 else 0.6 for box in found["rois"]]
        return found

    image = np.zeros((64, 108, 1), np.uint8)
    image[20:30, 54:60] = 1
    np.testing.assert_allclose(detect_tiled(sure_near_borders, image, 64, 20)["scores"], [0.6])


def test_two_objects_that_one_tile_took_for_one_stay_two():
    def blurred(tile):
        """Sees one object of it all in the second tile, with less confidence."""
        found = detect(tile)
        if tile[0, 0, 0] == 2:  # its corner is marked
            boxes = np.array([[20, 12, 30, 26]])
            return {
                "rois": boxes,
                "class_ids": [1],
                "scores": [0.5],
                "masks": [np.ones((10, 14), bool)],
            }
        keep = [i for i, class_id in enumerate(found["class_ids"]) if class_id == 1]
        masks = [found["masks"][i] for i in keep]
        return {
            "rois": found["rois"][keep],
            "class_ids": [1] * len(keep),
            "scores": [0.9] * len(keep),
            "masks": masks,
        }

    image = np.zeros((64, 104, 1), np.uint8)
    image[20:30, 50:56] = image[20:30, 58:64] = (
        1  # tile 1 begins at 40 and sees them as one, from 52 to 66
    )
    image[0, 40] = 2
    image[20:30, 62:64] = 0  # neither touches a border
    result = detect_tiled(blurred, image, 64, 24)
    assert sorted(result["rois"].tolist()) == [[20, 50, 30, 56], [20, 58, 30, 62]]


@pytest.mark.parametrize("overlap", [-1, 64, 100])
def test_an_overlap_that_does_not_fit(overlap):
    with pytest.raises(ValueError, match="overlap must be at least 0 and below tile"):
        detect_tiled(detect, np.zeros((10, 10, 1), np.uint8), 64, overlap)


def test_a_model_sees_a_large_image_as_its_tiles(tmp_path):
    """One tile is what `detect` says; several give objects inside the image, each with a mask of its box's size."""
    model = shake(MaskRCNN("inference", TinyConfig(), str(tmp_path)))
    (photo,) = photos(1, sizes=((64, 64),))
    (expected,), whole = model.detect([photo], masks="crop"), model.detect_tiled(photo)
    np.testing.assert_array_equal(whole["rois"], expected["rois"])
    assert all(
        np.array_equal(found, same)
        for found, same in zip(whole["masks"], expected["masks"], strict=True)
    )
    (large,) = photos(1, sizes=((150, 100),))
    found = model.detect_tiled(large)
    assert (
        len(found["rois"])
        and found["rois"].min() >= 0
        and (found["rois"].max(axis=0) <= [150, 100, 150, 100]).all()
    )
    for (y1, x1, y2, x2), mask in zip(found["rois"], found["masks"], strict=True):
        assert mask.shape == (y2 - y1, x2 - x1) and mask.dtype == bool


@pytest.mark.parametrize(("in_one", "told"), [(2, True), (1, False), (0, False)])
def test_tiles_that_hold_more_than_is_found_in_one_are_told_of(
    in_one, told, tmp_path, monkeypatch, caplog
):
    """With DETECTION_MAX_INSTANCES = 2, the limit of a demo's 20 once hid four objects in five of a large image."""
    model = MaskRCNN("inference", TinyConfig(DETECTION_MAX_INSTANCES=2), str(tmp_path))
    squares = np.zeros((64, 100, 3), np.uint8)
    for i in range(in_one):
        squares[5:15, 5 + 20 * i : 15 + 20 * i] = 1  # in the first of two tiles
    monkeypatch.setattr(model, "detect", lambda images, masks: [detect(images[0])])
    with caplog.at_level("WARNING", "mrcnn"):
        assert len(model.detect_tiled(squares, overlap=8)["rois"]) == in_one
    assert ("1 of 2 tiles contain as many objects as one detection returns" in caplog.text) == told


@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_neighbours_are_the_tiles_that_share_pixels(overlap):
    rows, columns = tiles._starts(23, 10, overlap), tiles._starts(31, 10, overlap)
    corners = [(y, x) for y in rows for x in columns]
    expected = {
        (first, second)
        for second, (y, x) in enumerate(corners)
        for first, (v, u) in enumerate(corners[:second])
        if abs(y - v) < 10 and abs(x - u) < 10
    }
    found = list(tiles._neighbours(rows, columns, 10))
    assert set(found) == expected and len(found) == len(expected)

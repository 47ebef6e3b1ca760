"""Results, comparisons and contact sheets."""

import cv2
import numpy as np
import pytest
from drawing_cases import NAMES, painted, rectangle, written_texts

from mrcnn.data.dataset import Dataset
from mrcnn.drawing import pages


def test_result_is_magnified_and_omits_the_name_of_the_only_class(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    result = {"rois": boxes, "masks": masks, "class_ids": ids, "scores": np.array([0.875])}
    drawn = pages.draw_result(np.zeros((128, 128, 3), np.uint8), result, ["BG", "square"])
    assert drawn.shape == (768, 768, 3)
    across = np.flatnonzero(drawn[400].any(axis=1))  # magnified six times: 40 to 240, 90 to 540
    # The outline, 768 / 500 = 2 wide, lies just outside.
    assert (across[0], across[-1]) == (238, 541)
    pages.draw_result(
        np.zeros((1000, 1000)), {"masks": np.zeros((1000, 1000, 0)), "class_ids": []}, NAMES
    )
    pages.draw_result(np.zeros((128, 128)), result, ["BG", "square", "circle"])
    assert texts == ["0.88", "square 0.88"]


@pytest.mark.parametrize("size", [(90, 128), (900, 1200)])  # magnified, and as it is
def test_masks_cut_to_their_boxes_are_drawn_as_whole_ones(size):
    boxes = np.array([[10, 20, 70, 80], [0, 0, 90, 60], [15, 30, 25, 45]], np.int32)
    masks = np.zeros((*size, 3), bool)
    ys, xs = np.mgrid[: size[0], : size[1]]
    masks[..., 0] = (ys - 40) ** 2 + (xs - 50) ** 2 < 29**2  # a disk, inside its box
    masks[:90, :60, 1] = masks[15:25, 30:45, 2] = True  # both fill their boxes
    result = {"rois": boxes, "class_ids": [1, 2, 1], "scores": np.array([0.9, 0.8, 0.7])}
    crops = [masks[y1:y2, x1:x2, i] for i, (y1, x1, y2, x2) in enumerate(boxes)]
    image = np.full((*size, 3), 60, np.uint8)
    whole = pages.draw_result(image, {**result, "masks": masks}, NAMES).astype(int)
    cut = pages.draw_result(image, {**result, "masks": crops}, NAMES).astype(int)
    np.testing.assert_array_equal(whole, cut)
    floats = {**result, "rois": boxes + np.float32([0.4, 0.3, -0.4, -0.3]), "masks": crops}
    pages.draw_result(image, floats, NAMES)  # of CONTINUOUS_BOXES: cut to the pixels they touch
    nothing = {"rois": np.zeros((0, 4)), "masks": [], "class_ids": [], "scores": []}
    assert len(np.unique(pages.draw_result(image, nothing, NAMES))) == 1


def test_captions_and_colors_can_be_given(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    result = {"rois": boxes, "masks": masks, "class_ids": ids, "scores": np.array([0.875])}
    assert pages.captions_of(result, ["BG", "square", "circle"]) == ["square 0.88"]
    assert pages.captions_of(result, ["BG", "square"]) == ["0.88"]
    assert pages.captions_of({"class_ids": ids}, ["BG", "square"]) == [""]
    image = np.zeros((128, 128, 3), np.uint8)
    drawn = pages.draw_result(
        image, result, ["BG", "square"], colors=[(0, 1, 0)], captions=["#3 square"]
    )
    assert texts == ["#3 square"]
    assert drawn[239, 239].tolist() == [0, 255, 0]  # the outline's corner, just outside


def test_float_boxes_are_drawn_at_the_nearest_pixels():
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    result = {"rois": boxes, "masks": masks, "class_ids": ids, "scores": np.array([0.875])}
    floats = {**result, "rois": np.float32([[40.02, 39.97, 79.95, 90.03]])}
    image = np.zeros((128, 128, 3), np.uint8)
    np.testing.assert_array_equal(
        pages.draw_result(image, floats, NAMES), pages.draw_result(image, result, NAMES)
    )


def test_comparison_is_magnified_and_both_halves_have_titles(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    ground_truth = {"masks": masks, "class_ids": ids}
    none = {
        "rois": np.zeros((0, 4)),
        "masks": np.zeros((128, 128, 0)),
        "class_ids": [],
        "scores": [],
    }
    drawn = pages.draw_comparison(np.zeros((128, 128, 3), np.uint8), ground_truth, none, NAMES)
    assert texts == ["square", "ground truth: 1", "detections: 0"]
    assert drawn.shape[1] == 2 * 512 + 8  # 4 x 128 each, and a gap
    strip = drawn.shape[0] - 512
    right = drawn[strip:, 512 + 8 :]
    assert not right.any()
    # magnified four times, the mask's red rim begins at column 160 and ends at 359
    left = drawn[strip:, :512]
    across = np.flatnonzero(left[250].any(axis=1))
    assert (across[0], across[-1]) == (159, 360)  # the outline lies just outside


def test_comparison_omits_low_scores_and_its_title_names_the_limit(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    twice = {
        "rois": np.repeat(boxes, 2, 0),
        "masks": np.repeat(masks, 2, 2),
        "class_ids": np.repeat(ids, 2),
    }
    found = {**twice, "scores": np.array([0.9, 0.6])}
    pages.draw_comparison(
        np.zeros((128, 128, 3), np.uint8), {"masks": masks, "class_ids": ids}, found, NAMES, 0.7
    )
    assert texts == ["square", "ground truth: 1", "square 0.90", "detections from 0.7 on: 1"]


def test_comparison_keeps_the_size_of_a_large_image():
    drawn = pages.draw_comparison(
        np.zeros((400, 600), np.uint8),
        *[{"masks": np.zeros((400, 600, 0)), "class_ids": []}] * 2,
        NAMES,
    )
    assert drawn.shape[1] == 2 * 600 + 8


def test_contact_sheet_places_images_row_by_row():
    assert pages.contact_sheet([], columns=3).shape == (0, 0, 3)
    small, large = np.full((2, 3, 3), 10, np.uint8), np.full((4, 5), 20, np.uint8)
    sheet = pages.contact_sheet([small, large, small], columns=2)
    assert sheet.shape == (4 + 8 + 4, 5 + 8 + 5, 3)
    assert painted(sheet, (10, 10, 10)).sum() == 2 * 2 * 3
    assert painted(sheet, (20, 20, 20))[:4, 13:].all()
    assert pages.contact_sheet([small], columns=5).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="columns must be at least 1. Received: 0"):
        pages.contact_sheet([small], columns=0)


def test_most_labels_of_a_hundred_nuclei_are_written(shared, monkeypatch):
    folders = sorted((shared / "data/nuclei/val").iterdir())
    folder = next(path for path in folders if len(list(path.glob("masks/*"))) == 100)
    image = cv2.imread(str(next(folder.glob("images/*.png"))), cv2.IMREAD_UNCHANGED)
    masks = np.stack(
        [cv2.imread(str(path), 0) for path in sorted(folder.glob("masks/*.png"))], axis=-1
    )
    texts = written_texts(monkeypatch)
    result = {"masks": masks, "class_ids": np.ones(100, int), "scores": np.ones(100)}
    drawn = pages.draw_comparison(image, result, result, ["BG", "nucleus"])
    assert drawn.shape[1] == 2 * image.shape[1] + 8
    assert texts.count("1.00") > 2 * 80


def test_result_without_masks_draws_boxes_only(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    found = {"rois": boxes, "class_ids": ids, "scores": np.array([0.9])}
    image = np.zeros((128, 128, 3), np.uint8)
    drawn = pages.draw_result(image, found, NAMES)
    assert texts == ["square 0.90"]
    times = drawn.shape[0] // 128
    # rims at rows 40 and 80 and columns 40 and 90, and within them, below the label, no tint
    assert drawn[:, 85 * times].any() and drawn[75 * times].any()
    assert not drawn[70 * times : 78 * times, 45 * times : 85 * times].any()
    drawn = pages.draw_comparison(image, {"masks": masks, "class_ids": ids}, found, NAMES, 0.7)
    assert texts[-1] == "detections from 0.7 on: 1"
    none = {"rois": np.zeros((0, 4)), "class_ids": [], "scores": []}
    assert not pages.draw_result(image, none, NAMES).any()


class OneImage(Dataset):
    """One image of 128 x 128 pixels with `boxes` of class 1."""

    def __init__(self, boxes):
        super().__init__()
        self.boxes = boxes
        self.add_class("test", 1, "square")
        self.add_image("test", 0, path=None)
        self.prepare()


class WithBoxes(OneImage):
    def load_bbox(self, image_id):
        return np.array(self.boxes).reshape(-1, 4), np.ones(len(self.boxes), int)


class WithMasks(OneImage):
    def load_mask(self, image_id):
        if not self.boxes:
            return np.empty((0, 0, 0)), []
        planes = [rectangle(box, (128, 128))[1] for box in self.boxes]
        return np.concatenate(planes, axis=2), np.ones(len(self.boxes), int)


@pytest.mark.parametrize("kind", [WithBoxes, WithMasks])
@pytest.mark.parametrize("boxes", [[], [(40, 40, 80, 90)]])
def test_ground_truth_of_masks_or_boxes_is_drawn_next_to_a_result(kind, boxes, monkeypatch):
    texts = written_texts(monkeypatch)
    result = {"rois": np.zeros((0, 4)), "class_ids": [], "scores": []}
    image = np.zeros((128, 128, 3), np.uint8)
    drawn = pages.draw_next_to_ground_truth(kind(boxes), 0, image, result)
    assert texts == [f"ground truth: {len(boxes)}", "detections: 0"]
    ground_truth = drawn[-512:, :512]
    tinted = ground_truth[70 * 4, 60 * 4].any()  # inside the box
    assert ground_truth.any() == bool(boxes)
    assert tinted == (bool(boxes) and kind is WithMasks)

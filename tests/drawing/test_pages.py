"""Results, comparisons and contact sheets."""

import cv2
import numpy as np
import pytest
from drawing_cases import NAMES, painted, rectangle, written_texts

from mrcnn.drawing import pages


def test_result_magnifies_a_small_image_and_needs_no_name_for_the_only_class(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    result = {"rois": boxes, "masks": masks, "class_ids": ids, "scores": np.array([0.875])}
    picture = pages.draw_result(np.zeros((128, 128, 3), np.uint8), result, ["BG", "square"])
    assert picture.shape == (768, 768, 3)
    across = np.flatnonzero(picture[400].any(axis=1))  # magnified six times: 40 to 240, 90 to 540
    assert (across[0], across[-1]) == (
        238,
        541,
    )  # the outline, 768 / 500 = 2 wide, lies just outside
    pages.draw_result(
        np.zeros((1000, 1000)), {"masks": np.zeros((1000, 1000, 0)), "class_ids": []}, NAMES
    )
    pages.draw_result(np.zeros((128, 128)), result, ["BG", "square", "circle"])
    assert texts == ["0.88", "square 0.88"]


def test_comparison_magnifies_a_small_image_and_titles_both_sides(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    truth = {"masks": masks, "class_ids": ids}
    none = {
        "rois": np.zeros((0, 4)),
        "masks": np.zeros((128, 128, 0)),
        "class_ids": [],
        "scores": [],
    }
    picture = pages.draw_comparison(np.zeros((128, 128, 3), np.uint8), truth, none, NAMES)
    assert texts == ["square", "truth: 1", "detections: 0"]
    assert picture.shape[1] == 2 * 512 + 8  # 4 x 128 each, and a gap
    strip = picture.shape[0] - 512
    right = picture[strip:, 512 + 8 :]
    assert not right.any()
    # magnified four times, the mask's red rim begins at column 160 and ends at 359
    left = picture[strip:, :512]
    across = np.flatnonzero(left[250].any(axis=1))
    assert (across[0], across[-1]) == (159, 360)  # the outline lies just outside


def test_comparison_leaves_out_what_is_below_a_score_and_says_so(monkeypatch):
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
    assert texts == ["square", "truth: 1", "square 0.90", "detections from 0.7 on: 1"]


def test_comparison_leaves_a_large_image_its_size():
    picture = pages.draw_comparison(
        np.zeros((400, 600), np.uint8),
        *[{"masks": np.zeros((400, 600, 0)), "class_ids": []}] * 2,
        NAMES,
    )
    assert picture.shape[1] == 2 * 600 + 8


def test_contact_sheet():
    assert pages.contact_sheet([], columns=3).shape == (0, 0, 3)
    small, large = np.full((2, 3, 3), 10, np.uint8), np.full((4, 5), 20, np.uint8)
    sheet = pages.contact_sheet([small, large, small], columns=2)
    assert sheet.shape == (4 + 8 + 4, 5 + 8 + 5, 3)
    assert painted(sheet, (10, 10, 10)).sum() == 2 * 2 * 3
    assert painted(sheet, (20, 20, 20))[:4, 13:].all()
    assert pages.contact_sheet([small], columns=5).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="columns must be at least 1. Received: 0"):
        pages.contact_sheet([small], columns=0)


def test_nuclei_with_a_hundred_instances(shared, monkeypatch):
    folders = sorted((shared / "data/nuclei/val").iterdir())
    folder = next(path for path in folders if len(list(path.glob("masks/*"))) == 100)
    image = cv2.imread(str(next(folder.glob("images/*.png"))), cv2.IMREAD_UNCHANGED)
    masks = np.stack(
        [cv2.imread(str(path), 0) for path in sorted(folder.glob("masks/*.png"))], axis=-1
    )
    texts = written_texts(monkeypatch)
    result = {"masks": masks, "class_ids": np.ones(100, int), "scores": np.ones(100)}
    picture = pages.draw_comparison(image, result, result, ["BG", "nucleus"])
    assert picture.shape[1] == 2 * image.shape[1] + 8
    assert texts.count("1.00") > 2 * 80  # most find room


def test_boxes_alone_are_drawn_where_there_are_no_masks(monkeypatch):
    texts = written_texts(monkeypatch)
    boxes, masks, ids = rectangle((40, 40, 80, 90), (128, 128))
    found = {"rois": boxes, "class_ids": ids, "scores": np.array([0.9])}
    image = np.zeros((128, 128, 3), np.uint8)
    picture = pages.draw_result(image, found, NAMES)
    assert texts == ["square 0.90"]
    times = picture.shape[0] // 128
    # rims at rows 40 and 80 and columns 40 and 90, and within them, below the label, no tint
    assert picture[:, 85 * times].any() and picture[75 * times].any()
    assert not picture[70 * times : 78 * times, 45 * times : 85 * times].any()
    picture = pages.draw_comparison(image, {"masks": masks, "class_ids": ids}, found, NAMES, 0.7)
    assert texts[-1] == "detections from 0.7 on: 1"
    none = {"rois": np.zeros((0, 4)), "class_ids": [], "scores": []}
    assert not pages.draw_result(image, none, NAMES).any()

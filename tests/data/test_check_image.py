"""The faults of one image, in made images."""

import json
import random

import numpy as np
import pytest
from checked import GOOD, GREY, ONE, Hand, HandBoxes, Small, kinds, or_raise, rectangles
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.data.check import check
from mrcnn.data.check_image import BoxResizer, _objects_of_rles
from mrcnn.data.check_report import KINDS
from mrcnn.data.image import resize_boxes, resize_to_config
from mrcnn.data.masks import extract_bboxes, resize_mask
from mrcnn.nn import boxes

GONE = ValueError("It is gone.")
FIVE_CHANNELS = np.zeros((64, 64, 5), np.uint8)
THREE_EQUAL = ONE.repeat(3, axis=2)
FOUR = rectangles(*[(8, 8, 24, 24 + i) for i in range(4)])
ONE_EMPTY = rectangles((8, 8, 24, 24), (0, 0, 0, 0))
NARROW_AND_SQUARE = rectangles((8, 8, 24, 11), (8, 8, 12, 12))
SHAPE = "Its masks have the shape (64, 64, 1), for"
SIZE = "Its masks are 64 x 64 and it is 32 x 64 px (height x width)."
IDS = "Its class ids must be 1 to 2, and some are"


@pytest.mark.parametrize(
    ("entry", "kind", "sentence", "instances"),
    [
        ((GONE, ONE, [1]), "image", "It is gone.", ()),
        ((KeyError("x"), ONE, [1]), "image", "KeyError: 'x'", ()),
        ((GONE, GONE, [1]), "image", "It is gone.", ()),
        ((FIVE_CHANNELS, ONE, [1]), "image", "must have IMAGE_CHANNEL_COUNT = 3 channels", ()),
        ((None, ONE, [1]), "image", "An image must be an array of numbers", ()),
        ((GREY, ValueError("No such mask."), [1]), "masks", "No such mask.", ()),
        ((GREY, ONE, IndexError("far")), "masks", "IndexError: far", ()),
        ((GREY, ONE, ["cat"]), "masks", "'cat'", ()),
        ((GREY, ONE, [1, 2]), "mask count", f"{SHAPE} 2 class ids.", ()),
        ((GREY, ONE, []), "mask count", f"{SHAPE} 0 class ids.", ()),
        ((GREY, ONE[None], [1]), "mask count", "shape (1, 64, 64, 1), for 1 class id.", ()),
        ((GREY[:32], ONE, [1]), "mask size", SIZE, ()),
        ((GREY, ONE, [0]), "class id", f"{IDS} [0].", (0,)),
        ((GREY, GOOD[1], [1, 3]), "class id", f"{IDS} [3].", (1,)),
        ((GREY, GOOD[1], [-3, 1]), "class id", f"{IDS} [-3].", (0,)),
        ((GREY, ONE_EMPTY, [1, 1]), "empty", "1 object is without a pixel.", (1,)),
        ((GREY, THREE_EQUAL, [2, 1, 2]), "duplicate", "1 object is repeated.", (2,)),
        ((GREY, THREE_EQUAL, [1, 1, 1]), "duplicate", "2 objects are repeated.", (1, 2)),
        ((GREY, NARROW_AND_SQUARE, [1, 2]), "tiny", "1 object is down to 3.0 px.", (0,)),
        ((GREY, FOUR, [1] * 4), "crowded", "has 4 instances, and MAX_GT_INSTANCES is 3.", ()),
    ],
)
def test_each_fault_is_found_in_its_image_only(entry, kind, sentence, instances):
    report = check(Hand(GOOD, entry), Small())
    (finding,) = (finding for finding in report.findings if finding.image_id is not None)
    assert (finding.kind, finding.image_id, finding.where) == (kind, 1, "image 1 (no1)")
    assert sentence in finding.sentence
    assert finding.instances == instances
    assert finding.severity == KINDS[kind].severity
    assert f"{finding.severity}: {KINDS[kind].title}" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["remedy"] == KINDS[kind].remedy


@pytest.mark.parametrize(
    "masks", [np.zeros((0, 0, 0)), np.zeros((64, 64, 0)), np.zeros((64, 64, 1)), np.zeros(0)]
)
def test_an_image_without_objects_may_have_masks_of_any_empty_shape(masks):
    report = check(Hand(GOOD, (GREY, masks, [])), Small())
    assert kinds(report) == []
    assert report.objects_per_image == {0: 1, 2: 1}
    assert "Objects per image: 0 to 2, median 1; 1 image without any" in str(report)


def test_single_mask_may_lack_its_last_axis():
    report = check(Hand((GREY, ONE[:, :, 0], [1]), GOOD), Small())
    assert (kinds(report), report.objects) == ([], 3)


def test_equal_boxes_with_different_masks_are_not_duplicates():
    corner = ONE.copy()
    corner[8, 8] = False  # the box stays: the rest of row 8 and of column 8 is there
    masks = np.concatenate([ONE, corner], axis=2)
    assert extract_bboxes(masks).tolist() == [[8, 8, 24, 24]] * 2
    assert kinds(check(Hand((GREY, masks, [1, 1]), GOOD), Small())) == []


def test_empty_masks_are_not_duplicates():
    assert kinds(check(Hand((GREY, np.zeros((64, 64, 2)), [1, 1]), GOOD), Small())) == ["empty"]


def test_empty_masks_of_class_0_are_negatives():
    """Published scripts mark images without objects so; unknown classes with pixels are errors."""
    report = check(Hand(GOOD, (GREY, rectangles((0, 0, 0, 0)), [0])), Small())
    assert kinds(report) == [] and report.objects_per_image == {0: 1, 2: 1}
    report = check(Hand(GOOD, (GREY, rectangles((0, 0, 0, 0)), [7])), Small())
    assert kinds(report) == ["empty"]
    report = check(Hand(GOOD, (GREY, rectangles((0, 0, 9, 9)), [0])), Small())
    assert kinds(report) == ["class id"]


def test_exception_in_image_reference_is_ignored():
    class Raises(Hand):
        def image_reference(self, image_id):
            return self.image_info[image_id]["no_such_key"]

    report = check(Raises((GREY, rectangles((0, 0, 0, 0)), [1])), Small())
    (finding,) = (finding for finding in report.findings if finding.kind == "empty")
    assert finding.where == "image 0 (no0)"


class WithRles(Hand):
    """Entries (image, run-length codes, class ids), as readers of annotation files have."""

    def load_rles(self, image_id):
        return self.entries[image_id][1], np.array(self.entries[image_id][2])

    def load_mask(self, image_id):
        rles, class_ids = self.load_rles(image_id)
        return coco_mask.decode(rles) if rles else np.zeros((64, 64, 0)), class_ids


class NeverDrawn(WithRles):
    """A dataset whose masks must not be drawn."""

    def load_rles(self, image_id):
        return super().load_rles(image_id)

    def load_mask(self, image_id):
        raise RuntimeError("This mask was drawn.")


class Drawn(WithRles):
    """The same masks through `load_mask`."""

    def load_mask(self, image_id):
        return super().load_mask(image_id)


class Redrawn(WithRles):
    """A subclass whose masks differ from the run-length codes."""

    def load_mask(self, image_id):
        masks, class_ids = super().load_mask(image_id)
        return masks[:, :, :1], class_ids[:1]


def rles_of(*runs):
    """Compressed codes of 64 x 64 masks from runs down the columns, outside first."""
    return [
        coco_mask.frPyObjects({"size": [64, 64], "counts": list(counts)}, 64, 64) for counts in runs
    ]


def test_rles_give_the_same_report_as_masks_without_drawing_them():
    # 16 whole columns from column 8 on; the same; empty, with a run of 0 at the end; one pixel.
    rles = rles_of((512, 1024, 2560), (512, 1024, 2560), (4096, 0), (4095, 1))
    dataset = NeverDrawn((GREY, rles, [1, 1, 2, 2]), (GREY, [], []))
    report = check(dataset, Small())
    assert [(f.kind, f.instances) for f in report.findings if f.image_id == 0] == [
        ("empty", (2,)), ("duplicate", (1,)), ("tiny", (3,)),
    ]  # fmt: skip
    assert report.counts == {"cat": 2, "dog": 1}
    assert report.objects_per_image == {0: 1, 3: 1}
    assert report.to_dict() == check(Drawn(*dataset.entries), Small()).to_dict()


def test_load_mask_of_a_subclass_overrides_rles():
    entry = (GREY, rles_of((512, 1024, 2560), (0, 4096)), [1, 2])
    assert check(WithRles(entry), Small()).objects == 2
    assert check(Redrawn(entry), Small()).objects == 1
    dataset = WithRles(entry)
    dataset.load_mask = lambda image_id: (ONE, [2])
    assert check(dataset, Small()).counts == {"cat": 0, "dog": 1}


def test_rles_of_another_size_or_that_cannot_be_read():
    entry = (GREY[:32], rles_of((512, 1024, 2560)), [1])
    assert (
        "Its masks are 64 x 64 and it is 32 x 64 px"
        in check(WithRles(entry), Small()).findings[0].sentence
    )
    broken = WithRles((GREY, None, [1]))
    broken.load_rles = lambda image_id: or_raise(ValueError("Annotation 3 is damaged."))
    assert check(broken, Small()).findings[0].sentence == "Annotation 3 is damaged."


def test_boxes_are_shifted_by_the_padding():
    # 32 x 64 gets 16 rows of padding on top: the box moves by 16 in y.
    resizer = BoxResizer(Small())
    moved, shape, _ = resizer.resize(np.array([[2, 3, 10, 20]]), (32, 64))
    assert (moved.tolist(), shape) == ([[18, 3, 26, 20]], (64, 64))


@pytest.mark.parametrize("mode", ["square", "pad64", "crop", "none"])
def test_all_resize_modes_work_and_the_global_random_state_is_unchanged(mode):
    random.seed(1)
    expected = random.Random(1).random()
    image = np.zeros((128, 192, 3), np.uint8)
    dataset = Hand((image, rectangles((8, 8, 40, 40), size=(128, 192)), [1]), classes=["cat"])
    report = check(dataset, Small(NUM_CLASSES=2, IMAGE_RESIZE_MODE=mode))
    # square: 192 to 64, a third: 32 / 3 = 10.67; other modes do not scale down.
    assert report.sizes[50] == {"square": 10.7}.get(mode, 32.0)
    assert random.random() == expected


def test_objects_between_the_resized_pixels_vanish():
    # 256 to 64: the third of each four rows is taken (0.5 * 4 = 2). A pixel in row 0 is lost, one
    # in row 2 is not.
    image = np.zeros((256, 256, 3), np.uint8)
    masks = rectangles((0, 0, 1, 1), (2, 2, 3, 3), (64, 64, 192, 192), size=(256, 256))
    report = check(Hand((image, masks, [1, 1, 2])), Small())
    assert [(f.kind, f.instances) for f in report.findings] == [("vanishing", (0,)), ("tiny", (1,))]


@example((58, 41), (0.46875, 0.0, 0.09375, 0.0), "pad64")  # an edge at 45.5, up to rounding
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(["square", "pad64"]),
)
def test_mask_box_is_the_box_of_the_resized_mask(size, corners, mode):
    """Boxes are computed without resizing a mask, and are those of the resized mask."""
    height, width = size
    y1, x1 = int(corners[0] * (height - 1)), int(corners[1] * (width - 1))
    y2, x2 = (
        y1 + 1 + int(corners[2] * (height - y1 - 1)),
        x1 + 1 + int(corners[3] * (width - x1 - 1)),
    )
    mask = rectangles((y1, x1, y2, x2), size=size)
    config = Small(IMAGE_RESIZE_MODE=mode)
    _, _, rounded = BoxResizer(config).resize(np.array([[y1, x1, y2, x2]]), size)
    scale = max(1, 64 / min(size))  # the short side up to 64
    if mode == "square" and round(scale * max(size)) > 64:  # but the long side at most 64
        scale = 64 / max(size)
    (found,) = extract_bboxes(resize_mask(mask, scale, [(0, 0)] * 3))
    lost = boxes.area(rounded)[0] == 0
    assert lost == (not found.any())
    assert lost or found.tolist() == rounded[0].tolist()


@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_mask_box_is_the_box_of_the_resized_mask_by_the_rules_of_other_libraries(
    mode, size, corners
):
    """Each axis has its own factor; torchvision takes the nearest pixel by corners."""
    height, width = size
    y1, x1 = int(corners[0] * (height - 1)), int(corners[1] * (width - 1))
    y2, x2 = (
        y1 + 1 + int(corners[2] * (height - y1 - 1)),
        x1 + 1 + int(corners[3] * (width - x1 - 1)),
    )
    config = Small(IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=40, IMAGE_MAX_DIM=64)
    resized = resize_to_config(np.zeros((*size, 3), np.uint8), config)
    boxes_resized = BoxResizer(config).resize(np.array([[y1, x1, y2, x2]]), size)
    assert boxes_resized.shape == resized.image.shape[:2]
    expected = resize_boxes(
        [[y1, x1, y2, x2]], resized.scale, resized.padding, None, resized.image.shape, False
    )
    np.testing.assert_allclose(boxes_resized.boxes, expected, rtol=1e-6)
    mask = rectangles((y1, x1, y2, x2), size=size)
    half_pixel = mode != "torchvision"
    mask = resize_mask(mask, resized.scale, resized.padding, half_pixel=half_pixel)
    (found,) = extract_bboxes(mask)
    lost = boxes.area(boxes_resized.mask_boxes)[0] == 0
    assert lost == (not found.any())
    assert lost or found.tolist() == boxes_resized.mask_boxes[0].tolist()


def test_words_name_both_limits():
    config = Small(IMAGE_RESIZE_MODE="torchvision", IMAGE_MIN_DIM=40, IMAGE_MAX_DIM=64)
    assert BoxResizer(config).words == "short side to 40, long side at most 64 px"


def test_boxes_are_checked_if_the_network_has_no_masks():
    config = Small(USE_MASK=False)
    report = check(
        HandBoxes((GREY, [[8, 8, 24, 24], [32, 32, 48, 48]], [1, 2]), (GREY, [], [])), config
    )
    assert "mask size" not in kinds(report) and report.errors == []
    assert (report.objects, report.counts) == (2, {"cat": 1, "dog": 1})
    report = check(
        HandBoxes((GREY, [[8, 8, 24, 24], [8, 8, 24, 24], [70, 0, 90, 9]], [1, 1, 1])), config
    )
    assert {"duplicate", "empty"} <= set(kinds(report)) and report.objects == 2
    report = check(
        HandBoxes((GREY, [[8, 8, 24, 24]], [1, 2]), (GREY, ValueError("torn"), [1])), config
    )
    assert kinds(report)[:2] == ["mask count", "masks"]


def test_boxes_without_pixels():
    report = check(
        HandBoxes((ValueError("not read"), [[8, 8, 24, 24]], [1])),
        Small(USE_MASK=False),
        pixels=False,
    )
    assert report.errors == [] and report.objects == 1


def test_image_with_more_than_255_rles():
    mask = np.zeros((8, 8), np.uint8)
    rle = coco_mask.encode(np.asfortranarray(mask | 1))
    truth = _objects_of_rles(
        [rle] * 300 + [coco_mask.encode(np.asfortranarray(mask))], np.ones(301, int)
    )
    assert truth.boxes[:300].tolist() == [[0, 0, 8, 8]] * 300 and not truth.boxes[300].any()

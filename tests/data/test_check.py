"""What a check finds, by hand-made faults; its arithmetic, by hand and by the slow way; the command around it."""

import json
import logging
import random
import shutil

import numpy as np
import pytest
from annotated import annotation, coco, write_coco, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.app import cli, cli_support
from mrcnn.config import Config
from mrcnn.data import check as module
from mrcnn.data.check import (
    KINDS,
    LADDER,
    Finding,
    Report,
    anchor_overlaps,
    check,
    check_before_training,
    suggest_scales,
)
from mrcnn.data.dataset import Dataset
from mrcnn.data.masks import extract_bboxes, resize_mask
from mrcnn.data.shapes import ShapesDataset
from mrcnn.formats.coco import CocoDataset
from mrcnn.nn import boxes
from mrcnn.nn.anchors import generate_pyramid_anchors

GREY = np.full((64, 64, 3), 128, np.uint8)


class Small(Config):
    """Images of 64 x 64 stay as they are; a square of 16 px around a multiple of 4 is an anchor."""

    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (16, 24, 32, 48, 64)
    MAX_GT_INSTANCES = 3

    def __init__(self, **values):
        for name, value in values.items():
            setattr(self, name, value)
        super().__init__()


class Hand(Dataset):
    """Images given as (image, masks, class ids); an exception in a place is raised there."""

    def __init__(self, *entries, classes=("cat", "dog")):
        super().__init__()
        self.entries = entries
        for i, name in enumerate(classes, start=1):
            self.add_class("hand", i, name)
        for i in range(len(entries)):
            self.add_image("hand", f"no{i}", path=None)
        self.prepare()

    def load_image(self, image_id):
        return _or_raise(self.entries[image_id][0])

    def load_mask(self, image_id):
        return _or_raise(self.entries[image_id][1]), np.array(_or_raise(self.entries[image_id][2]))


def _or_raise(value):
    if isinstance(value, Exception):
        raise value
    return value


def rectangles(*corners, size=(64, 64)):
    """Masks [H, W, N] of rectangles (y1, x1, y2, x2)."""
    masks = np.zeros((*size, len(corners)), bool)
    for i, (y1, x1, y2, x2) in enumerate(corners):
        masks[y1:y2, x1:x2, i] = True
    return masks


GOOD = (GREY, rectangles((8, 8, 24, 24), (32, 32, 48, 48)), [1, 2])  # two squares of 16 px


def kinds(report):
    """The kinds of the findings; anchors have tests of their own."""
    return [finding.kind for finding in report.findings if finding.kind != "anchors"]


# --- Findings -----------------------------------------------------------------------------------------------------


def test_an_empty_dataset_has_one_error():
    report = check(Hand())
    assert kinds(report) == ["no images"]
    assert (report.images, report.objects, report.counts) == (0, 0, {"cat": 0, "dog": 0})
    assert (report.anchors, report.sizes, report.objects_per_image) == ([], {}, {})
    assert report.suggested_scales is None
    text = str(report)
    assert text.startswith("0 images, 0 objects\n")
    assert "error: No images\n  There is no image to look at.\n  Remedy: Check the path" in text
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["errors"] == 1


def test_a_dataset_must_be_prepared():
    with pytest.raises(
        ValueError, match=r"must be prepared\. Received: .* Try dataset.prepare\(\)"
    ):
        check(Dataset())


def test_a_sound_dataset_has_no_findings():
    report = check(Hand(GOOD, GOOD), Small())
    assert kinds(report) == []
    assert (report.images, report.objects, report.crowds) == (2, 4, 0)
    assert report.counts == {"cat": 2, "dog": 2}
    assert report.objects_per_image == {2: 2}
    assert str(report).endswith("Nothing is wrong with what was looked at.")


ONE = rectangles((8, 8, 24, 24))


@pytest.mark.parametrize(
    ("entry", "kind", "sentence", "instances"),
    [
        ((ValueError("It is gone."), ONE, [1]), "image", "It is gone.", ()),
        ((KeyError("x"), ONE, [1]), "image", "KeyError: 'x'", ()),
        ((ValueError("It is gone."), ValueError("It is gone."), [1]), "image", "It is gone.", ()),
        ((np.zeros((64, 64, 5), np.uint8), ONE, [1]), "image", "must have IMAGE_CHANNEL_COUNT = 3 channels", ()),
        ((None, ONE, [1]), "image", "An image must be an array of numbers", ()),
        ((GREY, ValueError("No such mask."), [1]), "masks", "No such mask.", ()),
        ((GREY, ONE, IndexError("far")), "masks", "IndexError: far", ()),
        ((GREY, ONE, ["cat"]), "masks", "'cat'", ()),
        ((GREY, ONE, [1, 2]), "mask count", "Its masks have the shape (64, 64, 1), for 2 class ids.", ()),
        ((GREY, ONE, []), "mask count", "Its masks have the shape (64, 64, 1), for 0 class ids.", ()),
        ((GREY, ONE[None], [1]), "mask count", "Its masks have the shape (1, 64, 64, 1), for 1 class id.", ()),
        ((GREY[:32], ONE, [1]), "mask size", "Its masks are 64 x 64 and it is 32 x 64 px (height x width).", ()),
        ((GREY, ONE, [0]), "class id", "Its class ids must be 1 to 2, and some are [0].", (0,)),
        ((GREY, GOOD[1], [1, 3]), "class id", "Its class ids must be 1 to 2, and some are [3].", (1,)),
        ((GREY, GOOD[1], [-3, 1]), "class id", "Its class ids must be 1 to 2, and some are [-3].", (0,)),
        ((GREY, rectangles((8, 8, 24, 24), (0, 0, 0, 0)), [1, 1]), "empty", "1 object is without a pixel.", (1,)),
        ((GREY, ONE.repeat(3, axis=2), [2, 1, 2]), "duplicate", "1 object is repeated.", (2,)),
        ((GREY, ONE.repeat(3, axis=2), [1, 1, 1]), "duplicate", "2 objects are repeated.", (1, 2)),
        ((GREY, rectangles((8, 8, 24, 11), (8, 8, 12, 12)), [1, 2]), "tiny", "1 object is down to 3.0 px.", (0,)),
        ((GREY, rectangles(*[(8, 8, 24, 24 + i) for i in range(4)]), [1, 1, 1, 1]), "crowded",
         "It holds 4, and MAX_GT_INSTANCES is 3.", ()),
    ],
)  # fmt: skip
def test_each_fault_is_found_in_its_image_alone(entry, kind, sentence, instances):
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


def test_a_single_mask_may_lack_its_last_axis():
    report = check(Hand((GREY, ONE[:, :, 0], [1]), GOOD), Small())
    assert (kinds(report), report.objects) == ([], 3)


def test_equal_boxes_are_no_duplicates_where_masks_differ():
    corner = ONE.copy()
    corner[8, 8] = False  # the box stays: the rest of row 8 and of column 8 is there
    masks = np.concatenate([ONE, corner], axis=2)
    assert extract_bboxes(masks).tolist() == [[8, 8, 24, 24]] * 2
    assert kinds(check(Hand((GREY, masks, [1, 1]), GOOD), Small())) == []


def test_empty_masks_are_not_called_duplicates_of_each_other():
    assert kinds(check(Hand((GREY, np.zeros((64, 64, 2)), [1, 1]), GOOD), Small())) == ["empty"]


def test_empty_masks_of_class_0_are_negatives():
    """Published scripts say "nothing here" so; an unknown class with pixels stays an error."""
    report = check(Hand(GOOD, (GREY, rectangles((0, 0, 0, 0)), [0])), Small())
    assert kinds(report) == [] and report.objects_per_image == {0: 1, 2: 1}
    report = check(Hand(GOOD, (GREY, rectangles((0, 0, 0, 0)), [7])), Small())
    assert kinds(report) == ["empty"]
    report = check(Hand(GOOD, (GREY, rectangles((0, 0, 9, 9)), [0])), Small())
    assert kinds(report) == ["class id"]


def test_image_reference_that_raises_is_not_needed():
    class Raises(Hand):
        def image_reference(self, image_id):
            return self.image_info[image_id]["no_such_key"]

    report = check(Raises((GREY, rectangles((0, 0, 0, 0)), [1])), Small())
    (finding,) = (finding for finding in report.findings if finding.kind == "empty")
    assert finding.where == "image 0 (no0)"


def test_no_object_at_all_is_an_error():
    assert kinds(check(Hand((GREY, np.zeros((64, 64, 0)), [])), Small())) == ["no objects"]
    crowd = Hand((GREY, ONE, [-1]))
    assert kinds(check(crowd, Small())) == ["no objects"]


def test_a_dataset_that_does_not_override_load_mask_is_told_once(caplog):
    dataset = Dataset()
    dataset.add_class("x", 1, "cat")
    for i in range(9):
        dataset.add_image("x", i, path=None)
    dataset.prepare()
    assert kinds(check(dataset, pixels=False)) == ["no objects"]
    assert caplog.text == ""


def test_a_class_without_objects_is_named():
    report = check(Hand((GREY, ONE, [1])), Small())
    assert kinds(report) == ["unused class"]
    assert report.findings[0].sentence == "There is no object of dog."
    many = check(
        Hand((GREY, ONE, [1]), classes=["cat", *(f"c{i}" for i in range(12))]),
        Small(NUM_CLASSES=14),
    )
    assert many.findings[0].sentence.endswith("c8, c9 and 2 more.")


def test_other_classes_than_the_config_are_an_error():
    report = check(Hand(GOOD), Small(NUM_CLASSES=81))
    assert kinds(report) == ["classes"]
    assert (
        "NUM_CLASSES is 81, and the dataset has 3 classes, background included: BG, cat, dog."
        in str(report)
    )


def test_a_config_that_builds_no_network_is_refused():
    with pytest.raises(
        ValueError, match="RPN_ANCHOR_SCALES must hold at most one scale per pyramid level"
    ):
        check(Hand(GOOD), Small(RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128, 256)))


def test_errors_come_before_warnings():
    tiny = (GREY, rectangles((8, 8, 10, 10)), [1])
    report = check(Hand(tiny, GOOD, (GREY, ONE, [0])), Small())
    assert kinds(report) == ["class id", "tiny"]
    assert [f.kind for f in report.errors] == ["class id"]
    assert [f.kind for f in report.warnings] == ["tiny"]
    assert str(report).endswith("1 error, 1 warning")


def test_crowds_are_counted_apart_and_may_be_tiny():
    report = check(Hand(GOOD, (GREY, rectangles((8, 8, 10, 10)), [-2])), Small())
    assert kinds(report) == []
    assert (report.objects, report.crowds, report.counts) == (2, 1, {"cat": 1, "dog": 1})
    assert str(report).startswith("2 images, 2 objects, 1 crowd\n")


def test_without_pixels_no_image_is_loaded_and_the_size_is_what_the_reader_knows():
    dataset = Hand((RuntimeError("never"), *GOOD[1:]), (RuntimeError("never"), *GOOD[1:]))
    assert kinds(check(dataset, Small(), pixels=False)) == []
    dataset.image_info[1].update(height=64, width=32)
    report = check(dataset, Small(), pixels=False)
    assert kinds(report) == ["mask size"]
    assert "Its masks are 64 x 64 and it is 64 x 32 px" in report.findings[0].sentence


def test_only_the_chosen_images_are_looked_at():
    dataset = Hand((GREY, ONE, [0]), GOOD, GOOD)
    assert check(dataset, Small(), limit=1).images == 1
    assert kinds(check(dataset, Small(), image_ids=[1, 2])) == []
    assert check(dataset, Small(), image_ids=[1, 2], limit=1).objects == 2


def test_a_printed_report_shows_some_of_many_and_counts_the_rest():
    findings = [Finding("tiny", "small", i, f"image {i}", (0, 1)) for i in range(7)]
    text = str(Report(findings, images=7))
    assert (
        "warning: Objects under 4 px after resizing: 14 in 7 images\n  image 0: small\n  image 1: small\n"
        in text
    )
    assert "image 3" not in text and "\n  and 4 more\n" in text


def test_many_classes_stand_in_columns():
    text = str(Report(counts={f"class {i:02}": i for i in range(80)}))
    lines = [line for line in text.splitlines() if "class " in line and ":" not in line]
    # "class 00  0" is 11 characters, 14 with the gap: 96 // 14 = 6 columns, 80 / 6 -> 14 rows
    assert len(lines) == 14
    assert lines[0].split("   ")[0].strip() == "class 00  0"
    assert max(map(len, lines)) <= 100


# --- Outlines in place of masks -----------------------------------------------------------------------------------


class Outlined(Hand):
    """Entries (image, run-length codes, class ids), as the readers of annotation files have them."""

    def load_rles(self, image_id):
        return self.entries[image_id][1], np.array(self.entries[image_id][2])

    def load_mask(self, image_id):
        rles, class_ids = self.load_rles(image_id)
        return coco_mask.decode(rles) if rles else np.zeros((64, 64, 0)), class_ids


class NeverDrawn(Outlined):
    """Outlines alone are enough."""

    def load_rles(self, image_id):
        return super().load_rles(image_id)

    def load_mask(self, image_id):
        raise RuntimeError("This mask was drawn.")


class Drawn(Outlined):
    """The same masks, drawn: the slow way."""

    def load_mask(self, image_id):
        return super().load_mask(image_id)


class Redrawn(Outlined):
    """A user's subclass with other masks: the outlines are not those any more."""

    def load_mask(self, image_id):
        masks, class_ids = super().load_mask(image_id)
        return masks[:, :, :1], class_ids[:1]


def codes(*runs):
    """Compressed codes of 64 x 64 masks; runs go down the columns, outside and inside in turn."""
    return [
        coco_mask.frPyObjects({"size": [64, 64], "counts": list(counts)}, 64, 64) for counts in runs
    ]


def test_outlines_say_the_same_as_masks_and_none_is_drawn():
    # 16 columns of 64 from column 8 on, whole; the same again; nothing, its runs ending with a 0; one pixel
    rles = codes((512, 1024, 2560), (512, 1024, 2560), (4096, 0), (4095, 1))
    dataset = NeverDrawn((GREY, rles, [1, 1, 2, 2]), (GREY, [], []))
    report = check(dataset, Small())
    assert [(f.kind, f.instances) for f in report.findings if f.image_id == 0] == [
        ("empty", (2,)), ("duplicate", (1,)), ("tiny", (3,)),
    ]  # fmt: skip
    assert report.counts == {"cat": 2, "dog": 1}
    assert report.objects_per_image == {0: 1, 3: 1}
    assert report.to_dict() == check(Drawn(*dataset.entries), Small()).to_dict()


def test_masks_that_a_subclass_draws_otherwise_count():
    entry = (GREY, codes((512, 1024, 2560), (0, 4096)), [1, 2])
    assert check(Outlined(entry), Small()).objects == 2
    assert check(Redrawn(entry), Small()).objects == 1
    dataset = Outlined(entry)
    dataset.load_mask = lambda image_id: (ONE, [2])
    assert check(dataset, Small()).counts == {"cat": 0, "dog": 1}


def test_outlines_of_another_size_or_that_cannot_be_read():
    entry = (GREY[:32], codes((512, 1024, 2560)), [1])
    assert (
        "Its masks are 64 x 64 and it is 32 x 64 px"
        in check(Outlined(entry), Small()).findings[0].sentence
    )
    broken = Outlined((GREY, None, [1]))
    broken.load_rles = lambda image_id: _or_raise(ValueError("Annotation 3 is damaged."))
    assert check(broken, Small()).findings[0].sentence == "Annotation 3 is damaged."


# --- Sizes after resizing -----------------------------------------------------------------------------------------


def test_sizes_are_those_after_resizing():
    # 64 x 64 to 128 x 128: 10 x 20 becomes 20 x 40, and the square root of 800 is 28.28
    report = check(
        Hand((GREY, rectangles((8, 8, 18, 28)), [1]), classes=["cat"]),
        Small(NUM_CLASSES=2, IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128),
    )
    assert report.sizes[50] == 28.3
    assert report.sizes[0] == report.sizes[100]


def test_boxes_move_with_the_padding():
    # 32 x 64 stays, and 16 rows of padding come on top: the box moves by 16 in y
    resizer = module._Resizer(Small())
    moved, shape, _ = resizer.resize(np.array([[2, 3, 10, 20]]), (32, 64))
    assert (moved.tolist(), shape) == ([[18, 3, 26, 20]], (64, 64))


@pytest.mark.parametrize("mode", ["square", "pad64", "crop", "none"])
def test_every_mode_of_resizing_is_known_and_the_global_draw_stays(mode):
    random.seed(1)
    expected = random.Random(1).random()
    image = np.zeros((128, 192, 3), np.uint8)
    dataset = Hand((image, rectangles((8, 8, 40, 40), size=(128, 192)), [1]), classes=["cat"])
    report = check(dataset, Small(NUM_CLASSES=2, IMAGE_RESIZE_MODE=mode))
    # square: 192 to 64, a third: 32 / 3 = 10.67; the other modes never make an image smaller
    assert report.sizes[50] == {"square": 10.7}.get(mode, 32.0)
    assert random.random() == expected


def test_what_falls_between_the_pixels_vanishes():
    # 256 to 64: of each four rows the third is taken (0.5 * 4 = 2). One pixel in row 0 is lost, in row 2 it stays.
    image = np.zeros((256, 256, 3), np.uint8)
    masks = rectangles((0, 0, 1, 1), (2, 2, 3, 3), (64, 64, 192, 192), size=(256, 256))
    report = check(Hand((image, masks, [1, 1, 2])), Small())
    assert [(f.kind, f.instances) for f in report.findings] == [("vanishing", (0,)), ("tiny", (1,))]


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.sampled_from(["square", "pad64"]),
)
def test_the_rounded_box_is_that_of_the_resized_mask(size, corners, mode):
    """Law: boxes are worked out without resizing a mask, and are those of the resized mask."""
    height, width = size
    y1, x1 = int(corners[0] * (height - 1)), int(corners[1] * (width - 1))
    y2, x2 = (
        y1 + 1 + int(corners[2] * (height - y1 - 1)),
        x1 + 1 + int(corners[3] * (width - x1 - 1)),
    )
    mask = rectangles((y1, x1, y2, x2), size=size)
    config = Small(IMAGE_RESIZE_MODE=mode)
    _, _, rounded = module._Resizer(config).resize(np.array([[y1, x1, y2, x2]]), size)
    scale = max(1, 64 / min(size))  # the short side up to 64 ...
    if mode == "square" and round(scale * max(size)) > 64:  # ... unless the long side passes 64
        scale = 64 / max(size)
    (found,) = extract_bboxes(resize_mask(mask, scale, [(0, 0)] * 3))
    lost = boxes.area(rounded)[0] == 0
    assert lost == (not found.any())
    assert lost or found.tolist() == rounded[0].tolist()


# --- Anchors ------------------------------------------------------------------------------------------------------


def overlap(*box, scale=32, stride=4, side=256, **values):
    molded = np.array([box], float)
    return anchor_overlaps(molded, np.array([[side, side]]), scale, stride, Small(**values))[0]


def test_the_overlap_with_an_anchor_at_its_place():
    assert overlap(48, 48, 80, 80) == 1  # 32 x 32 around (64, 64), which is a centre
    # around (66, 66), half-way between centres: 30 * 30 = 900 of 2 * 1024 - 900 = 1148
    assert overlap(50, 50, 82, 82) == pytest.approx(900 / 1148)
    # every second cell only: the next centre of (68, 68) is 4 px away, 28 * 28 = 784 of 2048 - 784 = 1264
    assert overlap(52, 52, 84, 84, RPN_ANCHOR_STRIDE=2) == pytest.approx(784 / 1264)
    # twice as wide as high: the ratio 2 has 32 * sqrt(2) by 32 / sqrt(2), here the box itself
    half = 16 / np.sqrt(2)
    assert overlap(64 - half, 64 - 2 * half, 64 + half, 64 + 2 * half) == pytest.approx(1)
    # at the border: the last centre of a side of 64 at stride 64 is 0, so 16 * 16 of 32 * 32 * 2 - 256
    assert overlap(0, 0, 32, 32, side=64, stride=64) == pytest.approx(256 / (2048 - 256))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(4, 8, 16, 32, 64), (8, 16, 32, 64, 128)]),
    st.sampled_from([(64, 64), (128, 192)]),
    st.sampled_from([1, 2]),
)
def test_the_overlap_is_the_best_of_all_anchors(seed, scales, shape, anchor_stride):
    """Law: only the nearest anchors are looked at, and no other one of all overlaps more."""
    rng = np.random.default_rng(seed)
    config = Small(RPN_ANCHOR_SCALES=scales, RPN_ANCHOR_STRIDE=anchor_stride)
    corners = rng.uniform(0, 0.9, (5, 2)) * shape
    sides = rng.uniform(2, 60, (5, 2))
    molded = np.concatenate([corners, np.minimum(corners + sides, shape)], axis=1)
    shapes = np.tile(shape, (5, 1))
    found = [
        anchor_overlaps(molded, shapes, *level, config)
        for level in zip(scales, config.BACKBONE_STRIDES, strict=True)
    ]
    maps = [[-(-shape[0] // s), -(-shape[1] // s)] for s in config.BACKBONE_STRIDES]
    every = generate_pyramid_anchors(
        scales, config.RPN_ANCHOR_RATIOS, maps, config.BACKBONE_STRIDES, anchor_stride
    )
    np.testing.assert_allclose(
        np.max(found, axis=0), boxes.iou(molded, every).max(axis=1), atol=1e-12
    )


def test_the_table_of_anchors_counts_every_object_once():
    # the squares of 16 px are anchors of P2; the stripe of 4 x 64 is not: 4 * 22.6 = 90 of 256 + 256 - 90 for scale 16,
    # 4 * 67.9 > 4 * 64 of 48 * 48 for scale 48
    masks = rectangles((8, 8, 24, 24), (32, 32, 48, 48), (0, 0, 4, 64))
    report = check(Hand((GREY, masks, [1, 2, 1])), Small())
    assert [(row["scale"], row["stride"]) for row in report.anchors] == [
        (16, 4),
        (24, 8),
        (32, 16),
        (48, 32),
        (64, 64),
    ]
    assert sum(row["objects"] for row in report.anchors) == report.objects_with_anchor() == 3
    assert report.anchors[0]["objects"] >= 2
    assert report.under == pytest.approx(1 / 3)
    missed = sum(row["objects"] * row["under"] for row in report.anchors if row["objects"])
    assert missed == pytest.approx(1)
    assert {row["under"] for row in report.anchors if not row["objects"]} == {None}


def small_squares(side, count=30):
    """Images of 512 x 512 with one square each, anywhere."""
    rng = np.random.default_rng(0)
    entries = []
    for _ in range(count):
        y, x = rng.integers(0, 512 - side, 2)
        mask = rectangles((y, x, y + side, x + side), size=(512, 512))
        entries.append((np.zeros((512, 512, 3), np.uint8), mask, [1]))
    return Hand(*entries, classes=["cat"])


def test_scales_are_suggested_for_small_objects_and_fit():
    config = Small(
        NUM_CLASSES=2,
        IMAGE_MIN_DIM=512,
        IMAGE_MAX_DIM=512,
        RPN_ANCHOR_SCALES=(32, 64, 128, 256, 512),
    )
    dataset = small_squares(12)
    report = check(dataset, config)
    # 12 x 12 in 32 x 32 is 144 / 1024 = 0.14 at best
    assert (report.under, [finding.kind for finding in report.findings]) == (1.0, ["anchors"])
    assert report.suggested_scales[0] == 12
    assert report.suggested_under == 0
    line = next(line for line in str(report).splitlines() if "--config" in line)
    item = line.split('"')[1]
    pasted = cli_support.read_config([item], config)
    assert list(pasted.RPN_ANCHOR_SCALES) == report.suggested_scales
    assert check(dataset, pasted).under == report.suggested_under


def test_nothing_is_suggested_where_the_scales_fit():
    config = Small(
        NUM_CLASSES=2,
        IMAGE_MIN_DIM=512,
        IMAGE_MAX_DIM=512,
        RPN_ANCHOR_SCALES=(32, 64, 128, 256, 512),
    )
    report = check(small_squares(40), config)
    assert (report.findings, report.suggested_scales) == ([], None)
    assert "Other scales would bring less than 5% of the objects above it." in str(report)


@settings(max_examples=20)  # each tries all 6188 choices
@given(st.integers(0, 2**32 - 1))
def test_no_choice_of_the_ladder_fits_more_objects_than_the_suggested_one(seed):
    rng = np.random.default_rng(seed)
    config = Small()
    centers, sides = rng.uniform(60, 450, (8, 2)), rng.uniform(4, 120, (8, 2))
    molded, shapes = (
        np.concatenate([centers - sides / 2, centers + sides / 2], axis=1),
        np.full((8, 2), 512),
    )

    def fitting(scales):
        levels = zip(scales, config.BACKBONE_STRIDES, strict=True)
        return np.mean(
            np.max([anchor_overlaps(molded, shapes, *level, config) for level in levels], axis=0)
            >= 0.5
        )

    scales = suggest_scales(molded, shapes, config)
    assert scales == sorted(set(scales)) and set(scales) <= set(LADDER)
    other = sorted(rng.choice(LADDER, 5, replace=False).tolist())
    assert fitting(scales) >= fitting(other)


# --- Before a training --------------------------------------------------------------------------------------------

NOTHING = (GREY, np.zeros((64, 64, 0)), [])


def test_a_sound_dataset_trains_without_a_word(caplog):
    check_before_training(Hand(GOOD, NOTHING), Small())
    assert caplog.text == ""


def test_a_training_without_objects_is_stopped():
    with pytest.raises(
        ValueError, match=r"training data must hold objects\. Received: 2 images, and not one"
    ):
        check_before_training(Hand(NOTHING, NOTHING), Small())
    with pytest.raises(ValueError, match="must hold objects"):
        check_before_training(Hand((GREY, ONE, [0]), (GREY, ONE, [3]), *[NOTHING] * 30), Small())


def test_validation_needs_no_objects():
    check_before_training(Hand(NOTHING, NOTHING), Small(), "validation data", learns=False)


def test_an_object_in_an_image_that_was_not_looked_at_is_enough(monkeypatch):
    monkeypatch.setattr(module, "BRIEF_IMAGES", 2)  # the first and the last
    check_before_training(Hand(NOTHING, (GREY, KeyError("x"), [1]), GOOD, NOTHING), Small())


def test_more_unusable_images_than_a_training_bears_stop_it():
    entries = [(GREY, ONE, [7])] * 3 + [GOOD] * 3
    with pytest.raises(
        ValueError,
        match=r"(?s)At most 2 images .*Received: 3 of 6 .*image 2 \(no2\): Its class ids",
    ):
        check_before_training(Hand(*entries), Small(MAX_IMAGE_ERRORS=2))
    check_before_training(Hand(*entries), Small(MAX_IMAGE_ERRORS=3))


def test_what_a_training_bears_is_told_in_one_line(caplog):
    crowded = (GREY, rectangles(*[(8, 8, 24, 24 + i) for i in range(4)]), [1, 1, 1, 1])
    dataset = Hand(GOOD, crowded, (GREY, ONE, [5]))
    with caplog.at_level(logging.WARNING, logger="mrcnn"):
        check_before_training(dataset, Small())
    (record,) = caplog.records
    assert record.getMessage() == (
        "In 3 images of the training data: Class ids out of range (1 image); Images of more objects than "
        "MAX_GT_INSTANCES (1 image). `mrcnn check`, or mrcnn.data.check.check(dataset, config), says more."
    )


def test_train_looks_before_it_trains(tmp_path, caplog):
    from tiny import TinyConfig

    from mrcnn.model import MaskRCNN

    model = MaskRCNN("training", TinyConfig(NAME="nothing"), tmp_path)
    with pytest.raises(ValueError, match="training data must hold objects"):
        model.train(Hand(NOTHING, NOTHING), None, 0.001, epochs=1, layers="heads")
    bad = Hand((GREY, ONE, [7]), (GREY, ONE, [8]))
    with pytest.raises(
        ValueError,
        match=r"At most 1 images may be unusable .* 2 of 2 images of the validation data",
    ):
        model.train(Hand(GOOD), bad, 0.001, epochs=1, layers="heads")
    assert not list(tmp_path.iterdir())  # stopped before a folder was made


def test_a_few_images_spread_evenly_are_looked_at(monkeypatch):
    looked = []
    plain = module.check
    monkeypatch.setattr(
        module,
        "check",
        lambda data, config, ids, **rest: looked.extend(ids) or plain(data, config, ids),
    )
    check_before_training(
        ShapesDataset(100), Small(NUM_CLASSES=4, IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128)
    )
    assert len(looked) == 20 and looked[0] == 0 and looked[-1] == 99
    assert max(np.diff(looked)) <= 6  # 99 / 19 = 5.2


# --- The command --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A COCO file of two images, 64 x 64: a square of 16 px in the first, nothing in the second."""
    log = logging.getLogger("mrcnn")
    before = log.handlers, log.level, log.propagate
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 64, "width": 64} for i in (5, 6)],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 3,
                "segmentation": [[8, 8, 24, 8, 24, 24, 8, 24]],
            }
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    for i in (5, 6):
        Image.fromarray(GREY).save(tmp_path / f"{i}.png")
    yield tmp_path
    log.handlers, log.level, log.propagate = before


SMALL = ["--config", "IMAGE_MIN_DIM=64", "IMAGE_MAX_DIM=64", "RPN_ANCHOR_SCALES=[16,24,32,48,64]"]


def run(*words):
    return cli.main(["check", *map(str, words)])


def test_the_command_prints_and_leaves_a_json_and_a_contact_sheet(folder, capsys):
    out = folder / "out"
    assert run(folder, *SMALL, "--out", out) == cli.OK
    printed = capsys.readouterr().out
    assert "2 images, 1 object" in printed and "Nothing is wrong" in printed
    content = json.loads((out / "check.json").read_text())
    assert (content["data"], content["errors"], content["counts"]) == (str(folder), 0, {"cat": 1})
    sheet = np.asarray(Image.open(out / "contact_sheet.png"))
    assert sheet.shape[1] == 480 + 8 + 480  # two panes, their long side 480 px, and the gap
    assert (sheet != 128).any(axis=2)[-300:, :300].any()  # the square is drawn on the grey
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "contact_sheet.png"]


def test_errors_are_exit_code_1_and_warnings_0(folder, capsys):
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"].append(
        {
            "id": 2,
            "image_id": 5,
            "category_id": 3,
            "segmentation": [[32, 32, 56, 32, 56, 56, 32, 56]],
        }
    )
    (folder / "instances.json").write_text(json.dumps(content))
    assert run(folder, *SMALL, "MAX_GT_INSTANCES=1") == cli.OK
    assert "warning: Images of more objects than MAX_GT_INSTANCES" in capsys.readouterr().out
    (folder / "6.png").write_bytes(b"no image")
    assert run(folder, *SMALL, "--out", folder / "out") == cli.FAILED
    assert "error: Images that cannot be read: 1" in capsys.readouterr().out
    assert run(folder, *SMALL, "--limit", 1) == cli.OK
    assert run(folder, *SMALL, "NUM_CLASSES=9") == cli.FAILED
    assert "NUM_CLASSES is 9, and the dataset has 2 classes" in capsys.readouterr().out


def test_annotations_are_checked_without_their_images(folder, capsys):
    for i in (5, 6):
        (folder / f"{i}.png").unlink()
    assert run(folder, *SMALL, "--no-pixels", "--out", folder / "out") == cli.OK
    assert "2 images, 1 object" in capsys.readouterr().out
    assert (folder / "out" / "contact_sheet.png").is_file()
    assert run(folder, *SMALL, "--out", folder / "none") == cli.FAILED  # nothing to draw on either
    assert [path.name for path in (folder / "none").iterdir()] == ["check.json"]


def test_a_wrong_setting_is_a_wrong_call(folder, capsys):
    assert run(folder, "--config", "IMAGE_MAX_DIM=100") == cli.USAGE
    assert "multiples of 64" in capsys.readouterr().err


# --- Real data ----------------------------------------------------------------------------------------------------


def test_real_annotations(shared):
    """The counts of the sets' own README: 50 balloons; 1,520 annotations of COCO, 17 of them crowds."""
    from mrcnn.formats.open_dataset import open_dataset

    balloon = check(open_dataset(shared / "data" / "balloon" / "val"), pixels=False)
    assert (balloon.images, balloon.objects, balloon.errors) == (13, 50, [])
    sets = [
        check(
            open_dataset(
                shared / "data" / "coco_tiny" / "annotations" / f"instances_{part}2017.json"
            ),
            pixels=False,
        )
        for part in ("train", "val")
    ]
    assert sum(report.objects + report.crowds for report in sets) == 1520
    assert sum(report.crowds for report in sets) == 17
    assert [report.errors for report in sets] == [[], []]


@pytest.mark.parametrize("part", ["train", "val"])
def test_outlines_of_real_annotations_say_the_same_as_their_masks(shared, part):
    from mrcnn.formats.open_dataset import open_dataset

    dataset = open_dataset(
        shared / "data" / "coco_tiny" / "annotations" / f"instances_{part}2017.json"
    )
    quick = check(dataset, pixels=False)
    load_mask = dataset.load_mask
    dataset.load_mask = lambda image_id: load_mask(image_id)
    assert quick.to_dict() == check(dataset, pixels=False).to_dict()


# --- Boxes without masks ------------------------------------------------------------------------------------------


class HandBoxes(Hand):
    """Images given as (image, boxes, class ids)."""

    def load_bbox(self, image_id):
        return super().load_mask(image_id)

    def load_mask(self, image_id):
        pytest.fail("masks are not needed")


def test_boxes_are_looked_at_where_the_network_has_no_masks():
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


# --- What readers say ---------------------------------------------------------------------------------------------


def test_entries_that_a_reader_left_out_are_all_in_the_report():
    dataset = Hand(GOOD)
    dataset.left_out = [f"annotation {i} has 2 points" for i in range(5)]
    report = check(dataset, Small(), pixels=False)
    assert [f.sentence for f in report.findings if f.kind == "left out"] == dataset.left_out
    assert len(report.to_dict()["findings"]) == len(report.findings)
    text = str(report)
    assert (
        "warning: Entries that cannot be used: 5\n  annotation 0 has 2 points\n" in text
        and "and 2 more" in text
    )
    assert text.endswith("0 errors, 1 warning (5 findings)") and report.errors == []


def test_headings_are_counted_as_they_are_printed():
    twins = (GREY, rectangles((8, 8, 24, 24), (8, 8, 24, 24)), [1, 1])
    report = check(Hand(GOOD, twins, twins, classes=("cat", "dog")), Small())
    assert str(report).endswith("0 errors, 1 warning (2 findings)")
    assert str(report).count("warning: ") == 1


def test_class_names_that_differ_only_in_case_are_named():
    report = check(Hand(GOOD, classes=("red", "Red")), Small())
    assert kinds(report) == ["alike names"]
    assert "2 classes are called 'red', 'Red'." in str(report)


def test_two_classes_of_one_name_are_counted_together():
    report = check(Hand(GOOD, classes=("red", "red")), Small())
    assert report.counts == {"red": 2} and kinds(report) == ["alike names"]


def test_an_image_may_hold_more_than_255_outlines():
    mask = np.zeros((8, 8), np.uint8)
    rle = coco_mask.encode(np.asfortranarray(mask | 1))
    truth = module._truth_of_outlines(
        [rle] * 300 + [coco_mask.encode(np.asfortranarray(mask))], np.ones(301, int)
    )
    assert truth.boxes[:300].tolist() == [[0, 0, 8, 8]] * 300 and not truth.boxes[300].any()


def test_the_command_checks_train_and_val(folder, capsys, tmp_path_factory):
    both, out = tmp_path_factory.mktemp("both"), tmp_path_factory.mktemp("out")
    for part in ("train", "val"):
        shutil.copytree(folder, both / part)
    code = cli.main(["check", str(both), "--out", str(out)])
    assert code == cli.main(["check", str(folder)])
    told = capsys.readouterr().out
    assert f"--- {both / 'train'}\n" in told and f"--- {both / 'val'}\n" in told
    (both / "val").rename(both / "valid")
    assert cli.main(["check", str(both), "--out", str(out)]) == code
    (both / "valid").rename(both / "val")
    assert json.loads((out / "val" / "check.json").read_text())["data"] == str(both / "valid")
    assert cli.main(["check", str(both), "--out", str(out)]) == code
    for part in ("train", "val"):
        assert json.loads((out / part / "check.json").read_text())["data"] == str(both / part)


def test_check_refuses_the_settings_that_train_refuses(folder, capsys, tmp_path):
    said = []
    for command in (["check"], ["train", "--logs", str(tmp_path / "logs")]):
        assert (
            cli.main([*command, str(folder), "--config", "IMAGE_MAX_DIM=100"]) == cli_support.USAGE
        )
        said.append(capsys.readouterr().err.splitlines()[-1].split(" See mrcnn")[0])
    assert said[0] == said[1]


def test_check_hands_strict_and_images_to_the_reader(monkeypatch, tmp_path, capsys):
    calls = []
    photos = str(tmp_path)

    def open_dataset(path, class_names=None, **options):
        calls.append(options)
        raise ValueError("enough")

    monkeypatch.setattr("mrcnn.formats.open_dataset.open_dataset", open_dataset)
    assert (
        cli.main(["check", "x", "--strict", "--images", photos])
        == cli.main(["check", "x"])
        == cli_support.FAILED
    )
    assert calls == [{"strict": True, "images_dir": photos}, {"strict": False, "images_dir": None}]
    assert cli.main(["check", "x", "--images", str(tmp_path / "elsewhere")]) == cli_support.FAILED
    assert "--images must be a folder. Received: " in capsys.readouterr().err and len(calls) == 2


def _coco_file(tmp_path, *segmentations):
    annotations = [
        {**annotation(i, 90, s), "bbox": [4, 3, 10, 5]} for i, s in enumerate(segmentations, 1)
    ]
    write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png")
    return CocoDataset(write_coco(tmp_path, coco(annotations=annotations)))


def test_annotations_without_an_outline_are_findings_of_a_network_with_masks(tmp_path):
    dataset = _coco_file(tmp_path, [[4, 3, 14, 3, 14, 8, 4, 8]], [])
    config = Small(NUM_CLASSES=3)
    (finding,) = [
        f for f in check(dataset, config, progress=False).findings if f.kind == "left out"
    ]
    assert "annotation 2, image 'a.png'" in str(finding)
    config.USE_MASK = False
    assert not [f for f in check(dataset, config, progress=False).findings if f.kind == "left out"]


def test_boxes_alone_are_one_error_for_a_network_with_masks(tmp_path):
    report = check(_coco_file(tmp_path, [], []), Small(NUM_CLASSES=3), progress=False)
    assert [finding.kind for finding in report.errors] == ["boxes alone"] and report.objects == 2
    assert "USE_MASK=False" in str(report)

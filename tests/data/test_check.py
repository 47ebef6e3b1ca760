"""Faults of a whole dataset, and the brief check before a training."""

import json
import logging

import numpy as np
import pytest
from annotated import annotation, coco, write_coco, write_image
from checked import GOOD, GREY, NOTHING, ONE, Hand, Small, kinds, rectangles

from mrcnn.data import check as module
from mrcnn.data.check import check, check_before_training
from mrcnn.data.dataset import Dataset
from mrcnn.data.shapes import ShapesDataset
from mrcnn.formats.coco import CocoDataset

# --- Findings ---------------------------------------------------------------------------------


def test_an_empty_dataset_has_one_error():
    report = check(Hand())
    assert kinds(report) == ["no images"]
    assert (report.images, report.objects, report.counts) == (0, 0, {"cat": 0, "dog": 0})
    assert (report.anchors, report.sizes, report.objects_per_image) == ([], {}, {})
    assert report.suggested_scales is None
    text = str(report)
    assert text.startswith("0 images, 0 objects\n")
    assert (
        "error: No images\n  The dataset has no image to check.\n  Remedy: Check the path" in text
    )
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["errors"] == 1


def test_unprepared_dataset_is_refused():
    with pytest.raises(
        ValueError, match=r"must be prepared\. Received: .* Try dataset.prepare\(\)"
    ):
        check(Dataset())


def test_valid_dataset_has_no_findings():
    report = check(Hand(GOOD, GOOD), Small())
    assert kinds(report) == []
    assert (report.images, report.objects, report.crowds) == (2, 4, 0)
    assert report.counts == {"cat": 2, "dog": 2}
    assert report.objects_per_image == {2: 2}
    assert str(report).endswith("No faults were found.")


def test_dataset_without_objects_is_an_error():
    assert kinds(check(Hand((GREY, np.zeros((64, 64, 0)), [])), Small())) == ["no objects"]
    crowd = Hand((GREY, ONE, [-1]))
    assert kinds(check(crowd, Small())) == ["no objects"]


def test_dataset_without_load_mask_logs_no_warnings(caplog):
    dataset = Dataset()
    dataset.add_class("x", 1, "cat")
    for i in range(9):
        dataset.add_image("x", i, path=None)
    dataset.prepare()
    assert kinds(check(dataset, pixels=False)) == ["no objects"]
    assert caplog.text == ""


def test_class_without_objects_is_named():
    report = check(Hand((GREY, ONE, [1])), Small())
    assert kinds(report) == ["unused class"]
    assert report.findings[0].sentence == "There is no object of dog."
    many = check(
        Hand((GREY, ONE, [1]), classes=["cat", *(f"c{i}" for i in range(12))]),
        Small(NUM_CLASSES=14),
    )
    assert many.findings[0].sentence.endswith("c8, c9 and 2 more.")


def test_number_of_classes_other_than_the_config_is_an_error():
    report = check(Hand(GOOD), Small(NUM_CLASSES=81))
    assert kinds(report) == ["classes"]
    assert (
        "NUM_CLASSES is 81, and the dataset has 3 classes, background included: BG, cat, dog."
        in str(report)
    )


def test_invalid_config_is_refused():
    with pytest.raises(
        ValueError, match="RPN_ANCHOR_SCALES must hold at most one scale per pyramid level"
    ):
        check(Hand(GOOD), Small(RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128, 256)))


def test_crowds_are_counted_separately_and_may_be_tiny():
    report = check(Hand(GOOD, (GREY, rectangles((8, 8, 10, 10)), [-2])), Small())
    assert kinds(report) == []
    assert (report.objects, report.crowds, report.counts) == (2, 1, {"cat": 1, "dog": 1})
    assert str(report).startswith("2 images, 2 objects, 1 crowd\n")


def test_without_pixels_images_are_not_loaded_and_the_annotated_size_is_used():
    dataset = Hand((RuntimeError("never"), *GOOD[1:]), (RuntimeError("never"), *GOOD[1:]))
    assert kinds(check(dataset, Small(), pixels=False)) == []
    dataset.image_info[1].update(height=64, width=32)
    report = check(dataset, Small(), pixels=False)
    assert kinds(report) == ["mask size"]
    assert "Its masks are 64 x 64 and it is 64 x 32 px" in report.findings[0].sentence


def test_only_the_chosen_images_are_checked():
    dataset = Hand((GREY, ONE, [0]), GOOD, GOOD)
    assert check(dataset, Small(), limit=1).images == 1
    assert kinds(check(dataset, Small(), image_ids=[1, 2])) == []
    assert check(dataset, Small(), image_ids=[1, 2], limit=1).objects == 2


# --- Before a training ------------------------------------------------------------------------


def test_check_before_training_of_a_valid_dataset_logs_no_messages(caplog):
    check_before_training(Hand(GOOD, NOTHING), Small())
    assert caplog.text == ""


def test_training_without_objects_is_refused():
    with pytest.raises(
        ValueError, match=r"training data must have objects\. Received: 2 images, and no object"
    ):
        check_before_training(Hand(NOTHING, NOTHING), Small())
    with pytest.raises(ValueError, match="must have objects"):
        check_before_training(Hand((GREY, ONE, [0]), (GREY, ONE, [3]), *[NOTHING] * 30), Small())


def test_validation_needs_no_objects():
    check_before_training(Hand(NOTHING, NOTHING), Small(), "validation data", learns=False)


def test_object_in_an_unchecked_image_suffices(monkeypatch):
    monkeypatch.setattr(module, "BRIEF_IMAGES", 2)  # the first and the last
    check_before_training(Hand(NOTHING, (GREY, KeyError("x"), [1]), GOOD, NOTHING), Small())


def test_more_unusable_images_than_allowed_are_refused():
    entries = [(GREY, ONE, [7])] * 3 + [GOOD] * 3
    with pytest.raises(
        ValueError,
        match=r"(?s)At most 2 images .*Received: 3 of 6 .*image 2 \(no2\): Its class ids",
    ):
        check_before_training(Hand(*entries), Small(MAX_IMAGE_ERRORS=2))
    check_before_training(Hand(*entries), Small(MAX_IMAGE_ERRORS=3))


def test_tolerated_faults_are_logged_in_one_line(caplog):
    crowded = (GREY, rectangles(*[(8, 8, 24, 24 + i) for i in range(4)]), [1, 1, 1, 1])
    dataset = Hand(GOOD, crowded, (GREY, ONE, [5]))
    with caplog.at_level(logging.WARNING, logger="mrcnn"):
        check_before_training(dataset, Small())
    (record,) = caplog.records
    assert record.getMessage() == (
        "In 3 images of the training data: Class ids out of range (1 image); Images of more "
        "objects than MAX_GT_INSTANCES (1 image). `mrcnn check DATA`, or "
        "mrcnn.data.check.check(dataset, config), reports more."
    )


def test_anchors_matter_for_the_training_data_only(caplog):
    # 16 px squares with anchors from 64 px on: an IoU of 256 / 4096
    config = Small(RPN_ANCHOR_SCALES=(64, 64, 64, 64, 64))
    check_before_training(Hand(*[GOOD] * 8), config, "validation data", learns=False)
    assert caplog.text == ""
    check_before_training(Hand(*[GOOD] * 8), config)
    assert "100% of the objects overlap no anchor by 0.5" in caplog.text


def test_train_checks_its_data_first(tmp_path, caplog):
    from tiny import TinyConfig

    from mrcnn.model import MaskRCNN

    model = MaskRCNN("training", TinyConfig(NAME="nothing"), tmp_path)
    with pytest.raises(ValueError, match="training data must have objects"):
        model.train(Hand(NOTHING, NOTHING), None, 0.001, epochs=1, layers="heads")
    bad = Hand((GREY, ONE, [7]), (GREY, ONE, [8]))
    with pytest.raises(
        ValueError,
        match=r"At most 1 images may be unusable .* 2 of 2 images of the validation data",
    ):
        model.train(Hand(GOOD), bad, 0.001, epochs=1, layers="heads")
    assert not list(tmp_path.iterdir())  # before a folder is created


def test_evenly_spread_images_are_checked(monkeypatch):
    checked_ids = []
    plain = module.check
    monkeypatch.setattr(
        module,
        "check",
        lambda data, config, ids, **rest: checked_ids.extend(ids) or plain(data, config, ids),
    )
    check_before_training(
        ShapesDataset(100), Small(NUM_CLASSES=4, IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128)
    )
    assert len(checked_ids) == 20 and checked_ids[0] == 0 and checked_ids[-1] == 99
    assert max(np.diff(checked_ids)) <= 6  # 99 / 19 = 5.2


# --- Real data --------------------------------------------------------------------------------


def test_counts_of_real_annotations(shared):
    """The counts in the README of the data: 50 balloons; 1,520 annotations of COCO, 17 crowds."""
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
def test_rles_and_masks_of_real_annotations_give_the_same_report(shared, part):
    from mrcnn.formats.open_dataset import open_dataset

    dataset = open_dataset(
        shared / "data" / "coco_tiny" / "annotations" / f"instances_{part}2017.json"
    )
    quick = check(dataset, pixels=False)
    load_mask = dataset.load_mask
    dataset.load_mask = lambda image_id: load_mask(image_id)
    assert quick.to_dict() == check(dataset, pixels=False).to_dict()


# --- Entries of readers -----------------------------------------------------------------------


def test_report_lists_all_entries_that_a_reader_left_out():
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


def test_class_names_that_differ_in_case_only_are_named():
    report = check(Hand(GOOD, classes=("red", "Red")), Small())
    assert kinds(report) == ["alike names"]
    assert "2 classes are called 'red', 'Red'." in str(report)


def test_two_classes_of_one_name_are_counted_together():
    report = check(Hand(GOOD, classes=("red", "red")), Small())
    assert report.counts == {"red": 2} and kinds(report) == ["alike names"]


def _coco_file(tmp_path, *segmentations):
    annotations = [
        {**annotation(i, 90, s), "bbox": [4, 3, 10, 5]} for i, s in enumerate(segmentations, 1)
    ]
    write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png")
    return CocoDataset(write_coco(tmp_path, coco(annotations=annotations)))


def test_annotations_without_outline_are_findings_for_a_network_with_masks(tmp_path):
    dataset = _coco_file(tmp_path, [[4, 3, 14, 3, 14, 8, 4, 8]], [])
    config = Small(NUM_CLASSES=3)
    (finding,) = [
        f for f in check(dataset, config, progress=False).findings if f.kind == "left out"
    ]
    assert "annotation 2, image 'a.png'" in str(finding)
    config.USE_MASK = False
    assert not [f for f in check(dataset, config, progress=False).findings if f.kind == "left out"]


def test_boxes_without_masks_are_one_error_for_a_network_with_masks(tmp_path):
    report = check(_coco_file(tmp_path, [], []), Small(NUM_CLASSES=3), progress=False)
    assert [finding.kind for finding in report.errors] == ["boxes alone"] and report.objects == 2
    assert "USE_MASK=False" in str(report)

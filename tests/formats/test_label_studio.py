"""Label Studio's JSON: every region is read, broken files are refused, predictions are written."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    JUNK,
    WIDTH,
    boxes_of,
    cut_or_changed,
    names_of,
    read_or_refuse,
    spoiled,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mrcnn.formats.brush_rle import encode_brush
from mrcnn.formats.label_studio import (
    LabelStudioDataset,
    LabelStudioWriter,
    label_studio_task,
    labelling_interface,
)
from mrcnn.formats.open_dataset import open_dataset

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ["BG", "cat", "dog & <co>"]
# Percentages of an image of 30 x 40 pixels: x 10 % is 4 px, y 10 % is 3 px.
BOX = {"x": 10, "y": 10, "width": 25, "height": 50 / 3, "rotation": 0}
CORNERS = [[10, 10], [35, 10], [35, 80 / 3], [10, 80 / 3]]


def region(kind, shape, label="cat", **changes):
    labels = {kind: [label]} if label else {}
    return {
        "id": "r",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**shape, **labels},
        **changes,
    }


def task(*regions, number=1, image="/data/local-files/?d=images/a.png", **changes):
    return {
        "id": number,
        "data": {"image": image},
        "annotations": [{"result": list(regions), "was_cancelled": False}],
        "predictions": [],
        **changes,
    }


def export(folder, *tasks):
    """An export of Label Studio next to the image images/a.png."""
    write_image(folder / "images" / "a.png")
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def test_task_without_regions_is_an_image_without_objects(tmp_path):
    dataset = open_dataset(export(tmp_path, task(), task(region("rectanglelabels", BOX))))
    assert isinstance(dataset, LabelStudioDataset) and dataset.class_names == ["BG", "cat"]
    assert dataset.load_mask(0)[0].shape == (HEIGHT, WIDTH, 0)
    assert boxes_of(dataset, 1) == [[3, 4, 8, 14]]


def test_every_region_with_area_is_read(tmp_path):
    donut = np.zeros((HEIGHT, WIDTH), bool)
    donut[10:20, 10:20] = True
    donut[13:16, 13:16] = False
    # A quarter turn about the top left corner (10, 12): 8 px to the right become 8 px down.
    turned = {"x": 25, "y": 40, "width": 20, "height": 10, "rotation": 90}
    ellipse = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 40 / 3, "rotation": 0}
    file = export(
        tmp_path,
        task(
            region("polygonlabels", {"points": CORNERS}),
            region("rectanglelabels", turned, "dog"),
            region("ellipselabels", ellipse, "dog"),
            region("brushlabels", {"format": "rle", "rle": encode_brush(donut)}),
        ),
    )
    dataset = LabelStudioDataset(file)
    assert dataset.class_names == ["BG", "cat", "dog"] and dataset.image_info[0]["id"] == 1
    assert names_of(dataset) == ["cat", "dog", "dog", "cat"]
    # 8 x 3 px at (10, 12), turned clockwise: x 7 to 10, y 12 to 20
    assert boxes_of(dataset)[:2] == [[3, 4, 8, 14], [12, 7, 20, 10]]
    assert boxes_of(dataset)[2] == [11, 12, 19, 28]  # as CVAT's ellipse of the same numbers
    assert np.array_equal(dataset.load_mask(0)[0][:, :, 3], donut)


def test_shape_and_its_label_are_one_object(tmp_path):
    shape = region("rectangle", BOX, None)
    named = {**region("labels", {**BOX, "labels": ["dog"]}, None), "id": "r"}
    other = region("choices", {"choices": ["blurred"]}, None)
    dataset = LabelStudioDataset(export(tmp_path, task(shape, named, other, {"type": "relation"})))
    assert names_of(dataset) == ["dog"] and dataset.left_out == []


def test_last_annotation_that_was_not_skipped_counts(tmp_path):
    annotations = [
        {"result": [region("rectanglelabels", BOX, "dog")], "was_cancelled": False},
        {"result": [region("rectanglelabels", BOX, "cat")]},
        {"result": [], "was_cancelled": True},
    ]
    dataset = LabelStudioDataset(export(tmp_path, task(annotations=annotations)))
    assert names_of(dataset) == ["cat"]


@pytest.mark.parametrize(
    "image",
    [
        "/data/local-files/?d=found/images/a.png",
        "/data/upload/3/0a1b2c3d-a.png",
        "http://localhost:8080/data/local-files/?d=a.png",
        "s3://bucket/some/a.png",
        "https://example.com/a.png?signature=x",
        "../../a.png",
        "a.png",
    ],
)
@pytest.mark.parametrize("folder", ["images", "."])
def test_images_are_found_by_their_address(tmp_path, image, folder):
    file = export(tmp_path, task(region("rectanglelabels", BOX), image=image))
    (tmp_path / "images" / "a.png").rename(tmp_path / folder / "a.png")
    assert boxes_of(LabelStudioDataset(file)) == [[3, 4, 8, 14]]
    elsewhere = LabelStudioDataset(file, images_dir=tmp_path / folder)
    assert elsewhere.image_info[0]["path"] == str(tmp_path / folder / "a.png")


def test_image_may_have_another_key(tmp_path):
    file = export(tmp_path, task(data={"text": "a cat", "photo": "/data/upload/1/a.png"}))
    assert LabelStudioDataset(file).num_images == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (region("rectanglelabels", BOX, None), "must have one label"),
        (region("rectangle", BOX, None), "must have one label"),
        (region("rectanglelabels", {**BOX, "rectanglelabels": ["a", "b"]}, None), "one label"),
        (region("rectanglelabels", {**BOX, "width": 0}), "a width and a height"),
        (region("rectanglelabels", {**BOX, "x": None}), "finite numbers"),
        (region("ellipselabels", {"x": 1, "y": 1, "radiusX": 0, "radiusY": 9}), "a width and"),
        (region("polygonlabels", {"points": [[1, 1], [2, 2]]}), "at least 3 points"),
        (region("polygonlabels", {"points": [[1, 1], [2, 2], [3, "x"]]}), "finite"),
        (region("keypointlabels", {"x": 1, "y": 1, "width": 1}), "must be a polygon, rectangle"),
        (region("brushlabels", {"format": "rle", "rle": [1, 2, 3]}), "complete run-length code"),
        (region("rectanglelabels", BOX, original_width=41), "Received: 30 x 41, rotated by 0"),
        (region("rectanglelabels", BOX, image_rotation=90), "rotated by 90 degrees"),
        (region("rectanglelabels", BOX, value=None), "must have one label"),
    ],
)
def test_unusable_regions_are_skipped(tmp_path, caplog, entry, message):
    file = export(tmp_path, task(region("rectanglelabels", BOX), {**entry, "id": "other"}))
    dataset = LabelStudioDataset(file)
    assert names_of(dataset) == ["cat"] and len(dataset.left_out) == 1
    assert "1 of 3 tasks or regions" in caplog.text
    with pytest.raises(ValueError, match=message) as caught:
        LabelStudioDataset(file, strict=True)
    assert "task 1, region 1" in str(caught.value) and "Try " in str(caught.value)


def test_unusable_tasks_are_skipped(tmp_path):
    predicted = {"data": {"image": "a.png"}, "predictions": [{"result": []}]}
    file = export(
        tmp_path,
        task(region("rectanglelabels", BOX)),
        predicted,
        task(number=7, image="gone.png"),
        task(data={"text": "no image"}),
        None,
    )
    dataset = LabelStudioDataset(file)
    assert dataset.num_images == 1 and len(dataset.left_out) == 4
    assert "task 2; predictions are not used. Try to submit" in dataset.left_out[0]
    assert any("'gone.png'" in sentence and "task 7" in sentence for sentence in dataset.left_out)
    with pytest.raises(ValueError, match="such image. The first: A task must have an annotation"):
        LabelStudioDataset(export(tmp_path, predicted))


def test_label_outside_of_the_wanted_classes_is_skipped(tmp_path):
    file = export(
        tmp_path, task(region("rectanglelabels", BOX), region("rectanglelabels", BOX, "x"))
    )
    dataset = LabelStudioDataset(file, class_names=["dog", "cat"])
    assert names_of(dataset) == ["cat"] and len(dataset.left_out) == 1


def test_other_content_is_refused(tmp_path):
    file = export(tmp_path, {"data": 3})
    with pytest.raises(ValueError, match="must be an export of Label Studio"):
        LabelStudioDataset(file)


@FUZZ
@given(seed=st.integers(0, 2**32), junk=JUNK)
def test_damaged_export_raises_only_value_errors_with_a_remedy(tmp_path, seed, junk):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:9, 4:20] = True
    regions = [
        region("polygonlabels", {"points": CORNERS}),
        region("rectanglelabels", BOX),
        region("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10}),
        region("brushlabels", {"format": "rle", "rle": encode_brush(mask)}),
    ]
    file = export(tmp_path, *spoiled([task(*regions)], seed, junk))
    read_or_refuse(lambda: LabelStudioDataset(file))
    file.write_bytes(cut_or_changed(file.read_bytes(), seed))
    read_or_refuse(lambda: LabelStudioDataset(file))


# --- Writing --------------------------------------------------------------------------------------


def detections(*masks, class_ids):
    """A result as detect() gives it, with one box for all."""
    count = len(class_ids)
    parts = {
        "rois": np.tile(np.int32([3, 4, 8, 14]), (count, 1)),
        "class_ids": np.int32(class_ids),
        "scores": np.linspace(1, 0.5, count, dtype=np.float32),
    }
    return {**parts, "masks": np.stack(masks, axis=-1)} if masks else parts


def test_no_detections_give_a_prediction_without_regions():
    content = label_studio_task(detections(class_ids=[]), NAMES, "images/a b.png", (HEIGHT, WIDTH))
    assert content == {
        "data": {"image": "/data/local-files/?d=images/a%20b.png"},
        "predictions": [{"model_version": "mrcnn", "result": []}],
    }


def test_boxes_are_rectangles_in_percent():
    found = detections(class_ids=[1, 2])
    content = label_studio_task(found, NAMES, "images/a.png", (HEIGHT, WIDTH))
    (prediction,) = content["predictions"]
    first, second = prediction["result"]
    # x: 4 of 40 px are 10 %, 10 of 40 are 25 %; y: 3 of 30 are 10 %, 5 of 30 are 16.7 %
    assert first["value"] == {**BOX, "rectanglelabels": ["cat"]}
    assert (first["type"], first["score"], second["score"]) == ("rectanglelabels", 1.0, 0.5)
    assert prediction["score"] == 0.75 and first["id"] != second["id"]
    assert (first["original_width"], first["original_height"]) == (WIDTH, HEIGHT)


def test_empty_mask_is_left_out(caplog):
    found = detections(np.zeros((HEIGHT, WIDTH), bool), class_ids=[1])
    content = label_studio_task(found, NAMES, "a.png", (HEIGHT, WIDTH))
    assert content["predictions"] == [{"model_version": "mrcnn", "result": []}]
    assert "left out a detection whose mask has no pixel" in caplog.text


@pytest.mark.parametrize(("has_masks", "tag"), [(True, "BrushLabels"), (False, "RectangleLabels")])
def test_labelling_interface_names_the_classes(has_masks, tag):
    view = ElementTree.fromstring(labelling_interface(NAMES, has_masks))
    assert [element.tag for element in view] == ["Image", tag]
    assert view.find("Image").get("value") == "$image"
    assert [label.get("value") for label in view.find(tag)] == NAMES[1:]


@FUZZ
@given(arrays(bool, (HEIGHT, WIDTH)))
def test_submitted_predictions_come_back_as_they_were(tmp_path, mask):
    mask[5, 5] = True
    writer = LabelStudioWriter(tmp_path, NAMES)
    image = write_image(tmp_path / "in" / "a & b.png")
    writer.add(image, (HEIGHT, WIDTH), detections(mask, class_ids=[2]))
    tasks, _ = writer.finish()
    (entry,) = json.loads(tasks.read_text())
    submitted = [{"result": entry["predictions"][0]["result"], "was_cancelled": False}]
    tasks.write_text(json.dumps([{**entry, "annotations": submitted}]))
    dataset = open_dataset(tmp_path / "labelstudio")
    assert names_of(dataset) == ["dog & <co>"]
    assert np.array_equal(dataset.load_mask(0)[0][:, :, 0], mask)

"""Detection with exported files: a fake file, and files of TensorFlow."""

import json

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.inference import runtimes
from mrcnn.inference.exported_model import ExportedModel, result_arrays
from mrcnn.inference.runtimes import ExportedFile

SIDES = {"batch": None, "height": None, "width": None}


def description(config=None, **sides):
    """What a file of a network with two classes says about itself, after a way through JSON."""
    config = config or two_classes()
    names = ["BG", "cell", "dish"]
    found = {"config": config.to_dict(), "class_names": names, "input": {**SIDES, **sides}}
    return json.loads(json.dumps(found))


def two_classes(**settings):
    config = Config()
    config.NUM_CLASSES = 3
    config.DETECTION_MIN_CONFIDENCE = 0.5
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def found_in(images):
    """The outputs of a file that finds a cell of 4 x 6 pixels, and a dish of the whole image."""
    count, height, width = images.shape[:3]
    return {
        "boxes": np.tile(np.float32([[2, 3, 6, 9], [0, 0, height, width], [0] * 4]), (count, 1, 1)),
        "class_ids": np.tile(np.int32([1, 2, 0]), (count, 1)),
        "scores": np.tile(np.float32([0.9, 0.6, 0]), (count, 1)),
        "count": np.full(count, 2, np.int32),
        "masks": np.ones((count, 3, 28, 28), np.float32),
    }


class FakeFile:
    """Opens as an ONNX file; remembers the shapes of what it was given."""

    def __init__(self, monkeypatch, description):
        self.shapes = []
        kind = runtimes.FORMATS["onnx"]._replace(
            module="json", open=lambda path: ExportedFile(self.run, description)
        )
        monkeypatch.setitem(runtimes.FORMATS, "onnx", kind)

    def run(self, images):
        assert images.dtype == np.uint8
        self.shapes.append(images.shape)
        return found_in(images)


def test_no_image_has_no_result(monkeypatch):
    file = FakeFile(monkeypatch, description())
    assert ExportedModel("a.onnx").detect([]) == [] and file.shapes == []


def test_result_has_boxes_classes_scores_and_masks_in_pixels_of_the_image(monkeypatch):
    FakeFile(monkeypatch, description())
    result = ExportedModel("a.onnx").detect(np.zeros((20, 30, 3), np.uint8))
    assert result["rois"].tolist() == [[2, 3, 6, 9], [0, 0, 20, 30]]
    assert result["rois"].dtype == np.int32
    assert result.labels == ["cell", "dish"]
    assert result["masks"].shape == (20, 30, 2)
    assert result["masks"].sum(axis=(0, 1)).tolist() == [24, 600]


def test_images_of_one_size_go_together_if_the_file_accepts_any_number(monkeypatch):
    file = FakeFile(monkeypatch, description())
    images = [np.zeros((20, 30, 3), np.uint8)] * 3 + [np.zeros((8, 30, 3), np.uint8)]
    results = ExportedModel("a.onnx").detect(images, batch_size=2)
    assert file.shapes == [(2, 20, 30, 3), (1, 20, 30, 3), (1, 8, 30, 3)]
    assert [result["rois"][1, 2] for result in results] == [20, 20, 20, 8]


def test_file_of_a_fixed_batch_gets_black_images_for_missing_ones(monkeypatch):
    file = FakeFile(monkeypatch, description(batch=4))
    assert len(ExportedModel("a.onnx").detect([np.zeros((20, 30, 3), np.uint8)] * 5)) == 5
    assert file.shapes == [(4, 20, 30, 3)] * 2


def test_image_of_another_size_than_the_file_accepts_is_refused(monkeypatch):
    FakeFile(monkeypatch, description(batch=1, height=20, width=30))
    model = ExportedModel("a.onnx")
    assert model.detect(np.zeros((20, 30, 3), np.uint8)).count == 2
    with pytest.raises(ValueError, match="accepts images of 20 x 30 .* Received: image 0 of 30 x"):
        model.detect(np.zeros((30, 20, 3), np.uint8))


def test_summary_line_names_runtime_precision_size_and_time(monkeypatch, tmp_path):
    file = FakeFile(monkeypatch, {**description(height=20, width=30), "precision": "float16"})
    path = tmp_path / "a.onnx"
    path.write_bytes(bytes(2_500_000))
    line = ExportedModel(path).summary_line((80, 90), repeats=1)  # the file accepts 20 x 30
    assert "mask_rcnn in float16 by onnxruntime, 2.5 MB" in line
    assert "ms for an image of 20 x 30 pixels" in line
    assert file.shapes == [(1, 20, 30, 3)] * 2
    assert "ms" not in ExportedModel(path).summary_line(repeats=0)


def test_confidence_can_be_raised_but_not_lowered(monkeypatch, caplog):
    FakeFile(monkeypatch, description())
    model = ExportedModel("a.onnx")
    image = np.zeros((20, 30, 3), np.uint8)
    model.config.DETECTION_MIN_CONFIDENCE = 0.7
    assert model.detect(image).labels == ["cell"] and not caplog.text
    model.config.DETECTION_MIN_CONFIDENCE = 0.1
    assert model.detect(image).count == model.detect(image).count == 2
    assert caplog.text.count("no detection that scores less than 0.5") == 1


def test_views_and_heat_maps_need_the_weight_file(monkeypatch, caplog):
    FakeFile(monkeypatch, description(two_classes(TTA=("flip",))))
    model = ExportedModel("a.onnx")
    assert "TTA = " in caplog.text and not model.config.TTA
    with pytest.raises(ValueError, match="Heat maps need the weight file"):
        model.heat_maps(np.zeros((20, 30, 3), np.uint8))
    model.config.TTA = ("flip",)
    with pytest.raises(ValueError, match="Test-time augmentation needs the weight file"):
        model.detect([np.zeros((20, 30, 3), np.uint8)])


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {**description(), "config": [1]},
        {**description(), "input": {}},
        {**description(), "class_names": None},
        {**description(), "input": {**SIDES, "batch": "all"}},
    ],
)
def test_file_without_a_usable_description_is_refused(monkeypatch, broken):
    FakeFile(monkeypatch, broken)
    with pytest.raises(ValueError, match="must be written by `mrcnn export`.*a.onnx"):
        ExportedModel("a.onnx")


def test_boxes_without_area_are_left_out():
    outputs = {
        "boxes": np.float32([[[1.6, 2.4, 5.6, 8.0], [3.0, 3.0, 3.4, 9.0]]]),
        "class_ids": np.int32([[1, 2]]),
        "scores": np.float32([[0.9, 0.8]]),
        "count": np.int32([2]),
        "masks": np.ones((1, 2, 28, 28), np.float32),
    }
    result = result_arrays(outputs, 0, (20, 30), two_classes(), "rle")
    assert result["rois"].tolist() == [[2, 2, 6, 8]]
    assert result["class_ids"].tolist() == [1]
    (code,) = result["masks"]
    assert code["size"] == [20, 30]
    outputs["count"] = np.int32([0])
    assert len(result_arrays(outputs, 0, (20, 30), two_classes())["rois"]) == 0

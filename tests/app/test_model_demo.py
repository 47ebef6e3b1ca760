"""What the demo shows of the models in this package."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mrcnn
from mrcnn import detection_model
from mrcnn.app import model_demo
from mrcnn.inference.result import Result
from mrcnn.weights.shipped import Shipped, shipped_models

NUCLEI = (28, 53, 33)  # annotated in the example images, app/examples/README.md


class Finder:
    """Finds the upper left quarter of an image, as a shape of class 1."""

    def detect(self, image):
        height, width = image.shape[:2]
        mask = np.zeros((height, width, 1), bool)
        mask[: height // 2, : width // 2] = True
        arrays = {
            "rois": np.array([[0, 0, height // 2, width // 2]]),
            "class_ids": np.array([1]),
            "scores": np.array([0.9], np.float32),
            "masks": mask,
        }
        return Result(arrays, image.shape, ["BG", "thing"])


@pytest.fixture
def models(monkeypatch, tmp_path):
    """Models of this package with these names; the card of each says that it finds things."""
    names = []
    (tmp_path / "card.md").write_text("# any: things\n")

    def listed():
        return [Shipped(name, Path("none.h5"), tmp_path / "card.md") for name in names]

    monkeypatch.setattr(model_demo, "shipped_models", listed)
    monkeypatch.setattr(detection_model, "load", lambda name: Finder())
    return names


def test_package_without_models_shows_nothing(models, tmp_path):
    assert model_demo.show_models(tmp_path) == []


def test_each_model_is_drawn_in_its_examples(models, tmp_path, caplog):
    models += ["nuclei", "shapes", "without_examples"]
    with caplog.at_level("INFO", "mrcnn"):
        paths = model_demo.show_models(tmp_path)
    assert [path.name for path in paths] == ["model_nuclei.png", "model_shapes.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.size[0] > 1000
    assert "nuclei of this package (things) finds 3 objects in 3 images" in caplog.text


def test_example_images_are_rgb_and_none_belong_to_an_unknown_model():
    assert [image.shape for image in model_demo.example_images("nuclei")] == [
        (256, 256, 3),
        (256, 256, 3),
        (256, 320, 3),
    ]
    assert {image.shape for image in model_demo.example_images("shapes")} == {(128, 128, 3)}
    assert list(model_demo.example_images("other")) == []


@pytest.mark.skipif(
    "nuclei" not in {model.name for model in shipped_models()}, reason="no model nuclei"
)
def test_nuclei_finds_nine_of_ten_annotated_nuclei():
    model = mrcnn.load("nuclei")
    counts = [model.detect(image).count for image in model_demo.example_images("nuclei")]
    for found, annotated in zip(counts, NUCLEI, strict=True):
        assert 0.85 * annotated <= found <= 1.25 * annotated

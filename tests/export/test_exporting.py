"""Files are run in a process of their own, compared, and kept only if they agree."""

import json

import numpy as np
import pytest
from exporting import exportable, images, needs

from mrcnn.export import exporting, formats
from mrcnn.export.samples import sample_batches
from mrcnn.export.settings import Shape
from mrcnn.inference import runtimes
from mrcnn.inference.exported_model import ExportedModel

# Finders that do not find some packages, as if they were not installed.
BLOCK = """
import sys
class Block:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Block(finder) for finder in sys.meta_path]
"""


@pytest.fixture(scope="module")
def model():
    return exportable()


@pytest.fixture
def blocked(monkeypatch):
    """Let an exported file run where some packages cannot be imported."""

    def block(*names):
        monkeypatch.setattr(runtimes, "SCRIPT", BLOCK.format(blocked=names) + runtimes.SCRIPT)

    return block


def test_samples_have_the_batch_and_size_of_the_file(model):
    config = model.config
    assert [len(batch) for batch in sample_batches(config, Shape(3))] == [3, 3, 3, 3]
    assert [len(batch) for batch in sample_batches(config, Shape(None))] == [1, 3, 1, 3]
    sizes = {batch.shape[1:] for batch in sample_batches(config, Shape(1, 50, 70))}
    assert sizes == {(50, 70, 3)}
    (grey,) = sample_batches(config, Shape(2), [np.zeros((20, 30))])
    assert grey.shape == (2, 20, 30, 3) and grey.dtype == np.uint8


def test_saved_model_runs_without_this_package(model, tmp_path, blocked):
    blocked("mrcnn", "keras")
    path = tmp_path / "tiny_saved_model"
    report = model.export(path, "saved_model", batch=None, images=images())
    assert report.agrees() and report.agreement.compared > 3
    assert report.agreement.boxes < 0.01 and report.agreement.scores < 1e-4
    assert "matched" in report.text() and report.measured["memory"] > 10
    beside = json.loads((tmp_path / "tiny_saved_model.json").read_text())
    inside = json.loads((path / "assets.extra" / "mrcnn.json").read_text())
    assert beside["class_names"] == inside["class_names"] == ["BG", "class 1", "class 2"]
    assert beside["comparison"]["matched"] == 1.0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "tiny_saved_model",
        "tiny_saved_model.json",
    ]


@pytest.mark.parametrize("kind", ["mask_rcnn", "keypoints", "retinanet"])
def test_exported_model_detects_what_the_network_detects(kind, tmp_path):
    model = exportable(kind)
    path = tmp_path / "tiny_saved_model"
    is_square = model.config.IMAGE_RESIZE_MODE == "square"
    size, given = (None, images()) if is_square else ((48, 64), images(sizes=[(48, 64)]))
    model.export(path, "saved_model", size=size, batch=None, images=given)
    exported = ExportedModel(path)
    assert (exported.runtime, exported.class_names) == ("tensorflow", ["BG", "class 1", "class 2"])
    given = [*given, given[0]]
    for ours, theirs in zip(model.detect(given), exported.detect(given, batch_size=2), strict=True):
        assert ours.count > 3 and set(ours) == set(theirs)
        np.testing.assert_array_equal(ours["class_ids"], theirs["class_ids"])
        np.testing.assert_allclose(ours["rois"], theirs["rois"], atol=1)
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-4)
        if "masks" in ours:
            assert np.mean(ours["masks"] == theirs["masks"]) > 0.99
        if "keypoints" in ours:
            # An untrained network has several nearly equal maxima, so places jump; scores do not.
            scores = [result["keypoints"][..., 2] for result in (ours, theirs)]
            np.testing.assert_allclose(*scores, atol=0.02 * np.ptp(scores[0]))
            distances = np.abs(ours["keypoints"] - theirs["keypoints"])[..., :2]
            assert np.median(distances) < 1


@pytest.mark.parametrize(
    ("format", "batch"),
    [("onnx", 1), ("onnx", None), ("litert", 1), ("openvino", 1), ("openvino", None)],
)
def test_other_formats_run_without_tensorflow(model, tmp_path, blocked, format, batch):
    needs(format)
    blocked("mrcnn", "keras", "tensorflow")
    path = tmp_path / f"tiny{formats.FORMATS[format].suffix}"
    report = model.export(path, format, batch=batch, images=images())
    assert report.agreement.compared > 3
    assert report.agreement.boxes < 0.01 and report.agreement.scores < 1e-4


def test_file_that_disagrees_is_not_kept(model, tmp_path, monkeypatch):
    path = tmp_path / "tiny_saved_model"
    path.mkdir()
    (path / "old").touch()

    def run_apart(path, batches):
        nothing = {
            "boxes": np.zeros((1, 10, 4)),
            "class_ids": np.zeros((1, 10), int),
            "scores": np.zeros((1, 10)),
            "count": np.zeros(1, int),
        }
        return [nothing] * len(batches), {"start": 1.0, "ms": 1.0, "memory": None}

    monkeypatch.setattr(exporting, "run_apart", run_apart)
    no_write = formats.FORMATS["saved_model"]._replace(write=lambda path, job: path.mkdir())
    monkeypatch.setitem(formats.FORMATS, "saved_model", no_write)
    with pytest.raises(ValueError, match="matched +0.0%"):
        model.export(path, "saved_model", images=images())
    assert [file.name for file in tmp_path.rglob("*")] == ["tiny_saved_model", "old"]


def test_file_that_does_not_run_is_not_kept(model, tmp_path, monkeypatch):
    broken = formats.FORMATS["saved_model"]._replace(write=lambda path, job: path.mkdir())
    monkeypatch.setitem(formats.FORMATS, "saved_model", broken)
    with pytest.raises(ValueError, match=r"must run. Received: .*saved_model.pb"):
        model.export(tmp_path / "tiny_saved_model", "saved_model")
    assert list(tmp_path.iterdir()) == []


def test_litert_needs_a_fixed_batch(model, tmp_path):
    needs("litert")
    with pytest.raises(ValueError, match="--format litert needs a fixed batch"):
        model.export(tmp_path / "tiny.tflite", "litert", batch=None)


def test_converter_that_fails_says_so_in_a_sentence(model, tmp_path, monkeypatch):
    def fail(path, job):
        path.write_bytes(b"half a file")
        raise RuntimeError("Loop-17 was not converted.\n  at somewhere")

    monkeypatch.setitem(
        formats.FORMATS, "saved_model", formats.FORMATS["saved_model"]._replace(write=fail)
    )
    with pytest.raises(ValueError, match=r"Received: RuntimeError: Loop-17 was .*Try another for"):
        model.export(tmp_path / "tiny", "saved_model")
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_calibration_images(model, tmp_path):
    needs("onnx")
    with pytest.raises(ValueError, match="--calibrate DATA"):
        model.export(tmp_path / "tiny.onnx", "onnx", precision="int8")


def test_name_of_a_file_must_fit_its_format(model, tmp_path):
    needs("onnx")
    with pytest.raises(ValueError, match=r"must end in \.onnx. Received: .*tiny. Try .*tiny\.onnx"):
        model.export(tmp_path / "tiny", "onnx")

"""Served models: names, confidence, and newer weights, whole or not at all."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("prometheus_client", reason="needs the extra [serve]")

from fake_detector import FakeLoader, boxes_image, numbered_image, png, weight_file
from serving import wait_until

from mrcnn.serve.errors import RequestError
from mrcnn.serve.metrics import Metrics
from mrcnn.serve.models import Models, ServedModel
from mrcnn.serve.settings import Settings

IMAGE = boxes_image((5, 6, 15, 26))


@pytest.fixture
def path(tmp_path):
    weight_file(tmp_path / "w", "one")
    return tmp_path / "w"


@pytest.fixture
def model(path):
    return ServedModel("fake", str(path), FakeLoader(), Settings(), Metrics())


def label_of(model):
    (detected,) = model.detect([IMAGE])
    return detected.result.labels[0]


def reloads(model, result):
    return model._metrics.reloads.labels(model.name, result)._value.get()


def write(path, text):
    """Replace a file whole, with another time of change."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.utime(other, ns=(write.time, write.time))
    write.time += 1
    other.replace(path)


write.time = 10**18


def test_confidence_of_the_config_is_kept_and_the_network_detects_below_it(model):
    assert (model.min_confidence, model.model.config.DETECTION_MIN_CONFIDENCE) == (0.7, 0.05)
    (detected,) = model.detect([boxes_image((5, 6, 15, 26), score=0.4)])
    assert detected.result.count == 1 and detected.version == model.version


def test_no_images_are_no_detections(model):
    assert model.detect([]) == []


def test_file_is_loaded_when_it_has_come_to_rest(model, path):
    assert not model.look_for_newer() and label_of(model) == "wideone"
    before = model.version
    write(path, "fake two")
    assert not model.look_for_newer()  # it may still be written to
    write(path, "fake three")
    assert not model.look_for_newer()
    assert model.look_for_newer() and label_of(model) == "widethree"
    assert model.version != before and reloads(model, "done") == 1
    assert model._loader.loads == 1  # the same network has taken the new weights
    assert not model.look_for_newer()


def test_other_network_is_loaded_next_to_the_present_one(model, path):
    first = model.model
    write(path, "another two")
    model.look_for_newer()
    assert model.look_for_newer() and label_of(model) == "widetwo"
    assert model.model is not first and model._loader.loads == 2
    assert (model.min_confidence, model.model.config.DETECTION_MIN_CONFIDENCE) == (0.7, 0.05)


def test_damaged_file_is_reported_once_and_the_present_weights_stay(model, path, caplog):
    version = model.version
    write(path, "half")
    assert [model.look_for_newer() for _ in range(4)] == [False] * 4
    assert (model.version, label_of(model)) == (version, "wideone")
    assert reloads(model, "failed") == 1
    assert len([row for row in caplog.records if "not used" in row.message]) == 1
    write(path, "fake two")
    model.look_for_newer()
    assert model.look_for_newer() and label_of(model) == "widetwo"


def test_missing_file_changes_nothing(model, path):
    path.unlink()
    assert not model.look_for_newer() and label_of(model) == "wideone"
    write(path, "fake two")
    model.look_for_newer()
    assert model.look_for_newer() and label_of(model) == "widetwo"


def test_new_checkpoint_of_a_training_is_loaded(tmp_path):
    run = tmp_path / "shapes20260101T1200"
    run.mkdir()
    weight_file(run / "mask_rcnn_shapes_0001.h5", "one")
    model = ServedModel("run", str(run), FakeLoader(), Settings(), Metrics())
    weight_file(run / "mask_rcnn_shapes_0002.h5", "two")
    model.look_for_newer()
    assert model.look_for_newer() and label_of(model) == "widetwo"


def test_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="with a checkpoint"):
        ServedModel("run", str(tmp_path), FakeLoader(), Settings(), Metrics())


def test_models_by_name(model):
    models = Models([model], Settings(reload_seconds=0.01))
    assert models.get(None) is model and models.get("fake") is model
    with pytest.raises(RequestError, match="must be one of fake") as refused:
        models.get("<b>other")
    assert refused.value.status == 404
    models.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not {"mrcnn-reload", "mrcnn-detect"} & names


def test_answers_during_reloads_are_of_one_version_each(serve, tmp_path):
    client = serve(seconds=0.002)
    path = tmp_path / "weights"
    stopped = threading.Event()
    found = set()

    def ask():
        while not stopped.is_set():
            status, _, content = client.detect(("a.png", png(numbered_image(1))))
            assert status == 200
            (image,) = content["images"]
            found.add((image["version"], image["detections"][0]["class_name"]))

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask) for _ in range(4)]
        try:
            for label in ("1", "two", "three", "four"):
                if label != "1":
                    write(path, f"fake {label}")
                wait_until(lambda label=label: f"wide{label}" in {name for _, name in list(found)})
        finally:
            stopped.set()
        for future in futures:
            future.result()
    # One version for each of the four weights, never a mixture.
    assert len(found) == len({version for version, _ in found}) == 4

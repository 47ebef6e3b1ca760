"""The graph of an export finds what `detect` finds, in TensorFlow and in portable operations."""

import numpy as np
import pytest
from exporting import exportable, images, source_of
from kinds import KINDS

from mrcnn.export.graph import export_function, output_names
from mrcnn.export.reference import detected, exported
from mrcnn.export.settings import Shape

PORTABLE = {False: "tensorflow", True: "portable"}


def assert_equal(found, expected):
    """Equal up to float32 rounding."""
    assert len(found.scores) == len(expected.scores)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    for name in ("masks", "keypoints"):
        if getattr(expected, name) is not None:
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), atol=1e-3, rtol=1e-3
            )


@pytest.fixture(scope="module")
def mask_rcnn():
    return exportable()


@pytest.mark.parametrize("is_portable", PORTABLE, ids=PORTABLE.get)
def test_graph_finds_what_detect_finds(mask_rcnn, is_portable):
    detect = export_function(source_of(mask_rcnn), Shape(1), is_portable)
    for image in images():
        outputs = {name: value.numpy() for name, value in detect(image[None]).items()}
        assert list(outputs) == sorted(output_names(mask_rcnn.config)) or set(outputs) == set(
            output_names(mask_rcnn.config)
        )
        expected = detected(mask_rcnn, image)
        assert len(expected.scores) > 3
        assert_equal(exported(outputs, 0), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_one_size_in_batches(kind):
    model = exportable(kind, DETECTION_MIN_CONFIDENCE=0.01)
    batch = np.stack(images(3, [(40, 60)]))
    detect = export_function(source_of(model), Shape(3, 40, 60), is_portable=True)
    outputs = {name: value.numpy() for name, value in detect(batch).items()}
    for i, image in enumerate(batch):
        expected = detected(model, image)
        assert len(expected.scores) > 0
        assert_equal(exported(outputs, i), expected)


def test_nothing_found(mask_rcnn):
    mask_rcnn.config.DETECTION_MIN_CONFIDENCE = 1.0
    detect = export_function(source_of(mask_rcnn), Shape(1), is_portable=True)
    outputs = {name: value.numpy() for name, value in detect(images(1)[0][None]).items()}
    mask_rcnn.config.DETECTION_MIN_CONFIDENCE = 0.0
    assert outputs["count"].tolist() == [0]
    for name in ("boxes", "class_ids", "scores"):
        assert not outputs[name].any()

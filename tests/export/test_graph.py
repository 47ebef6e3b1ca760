"""The graph of an export, in operations that every runtime knows, finds what `detect` finds."""

import numpy as np
import pytest
from exporting import exportable, images, source_of

from mrcnn.export.graph import export_function, output_names
from mrcnn.export.reference import detected, exported
from mrcnn.export.settings import Shape


def run(model, shape, batch):
    """The outputs of the portable graph, as arrays."""
    detect = export_function(source_of(model), shape, is_portable=True)
    return {name: value.numpy() for name, value in detect(batch).items()}


def assert_equal(found, expected):
    """Equal but for pixels of noise that are truncated to the next gray level."""
    assert len(found.scores) == len(expected.scores) > 0
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=5e-4)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
    for name in ("masks", "keypoints"):
        if getattr(expected, name) is not None:
            values, others = getattr(found, name), getattr(expected, name)
            np.testing.assert_allclose(values, others, atol=0.01, rtol=0.01)


def test_graph_for_images_of_any_size():
    model = exportable()
    detect = export_function(source_of(model), Shape(1), is_portable=True)
    for image in images():
        outputs = {name: value.numpy() for name, value in detect(image[None]).items()}
        assert set(outputs) == set(output_names(model.config))
        assert_equal(exported(outputs, 0), detected(model, image))


@pytest.mark.parametrize("kind", ["retinanet", "fcos", "keypoints", "cascade"])
def test_graph_for_three_images_of_one_size(kind):
    model = exportable(kind)
    batch = np.stack(images(3, [(40, 60)]))
    outputs = run(model, Shape(3, 40, 60), batch)
    for i, image in enumerate(batch):
        assert_equal(exported(outputs, i), detected(model, image))


def test_any_number_of_images_in_which_nothing_is_found():
    model = exportable(USE_MASK=False, DETECTION_MIN_CONFIDENCE=1.0)
    outputs = run(model, Shape(None), np.stack(images(2, [(64, 64)])))
    assert set(outputs) == {"boxes", "class_ids", "scores", "count"}
    assert outputs["count"].tolist() == [0, 0]
    for name in ("boxes", "class_ids", "scores"):
        assert outputs[name].shape[:2] == (2, 10) and not outputs[name].any()

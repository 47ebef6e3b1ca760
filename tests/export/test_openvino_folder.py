"""What OpenVINO needs to find the same as TensorFlow."""

import numpy as np
import pytest

from mrcnn.export.openvino_folder import _keep_order_of_ties

openvino = pytest.importorskip("openvino", reason="needs the extra [export]")


def selected(keep_order):
    """The places of the 300 best of 5,000 scores, a third of which are exactly 1."""
    from openvino import opset11

    scores = opset11.parameter([1, 5000], np.float32)
    best = opset11.topk(scores, np.int64(300), -1, "max", "value")
    model = openvino.Model([best.output(0), best.output(1)], [scores])
    if keep_order:
        _keep_order_of_ties(model)
    values = np.where(np.arange(5000) % 3 == 1, 1.0, 0.5).astype(np.float32)[None]
    return openvino.Core().compile_model(model, "CPU")([values])[1][0]


def test_equal_scores_are_taken_in_their_order():
    """As TensorFlow takes them: a trained RPN gives thousands of anchors exactly 1."""
    in_order = 1 + 3 * np.arange(300)
    np.testing.assert_array_equal(selected(keep_order=True), in_order)

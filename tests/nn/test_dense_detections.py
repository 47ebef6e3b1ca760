"""Selection and NMS of the predictions of every anchor; logits are chosen by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.config import Config
from mrcnn.nn.dense_detections import (
    DenseDetectionLayer,
    Level,
    best_candidates,
    class_scores,
    select_candidates,
    suppress_candidates,
)
from mrcnn.nn.image_meta import compose_image_meta

LOW = -20.0


def config(**values):
    small = Config()
    small.NUM_CLASSES, small.DETECTION_MAX_INSTANCES, small.CONTINUOUS_BOXES = 3, 4, True
    small.DETECTION_MIN_CONFIDENCE, small.DETECTION_NMS_THRESHOLD = 0.05, 0.5
    for name, value in values.items():
        setattr(small, name, value)
    return small


def level(logits, boxes=None, centerness=None):
    """One image's level `[1, A, ...]`; the deltas are numbered."""
    logits = np.float32(logits)[None]
    count = logits.shape[1]
    if boxes is None:
        boxes = [[0.1 * i, 0, 0.1 * i + 0.05, 1] for i in range(count)]
    deltas = np.repeat(np.arange(count, dtype=np.float32)[None, :, None], 4, axis=2)
    if centerness is not None:
        centerness = tf.constant(np.float32(centerness)[None, :, None])
    boxes = np.float32(boxes)[None]
    return Level(tf.constant(logits), tf.constant(deltas), tf.constant(boxes), centerness)


def detect(levels, settings):
    candidates = select_candidates(levels, 10)
    return suppress_candidates(candidates.anchors, candidates, settings).numpy()[0]


@pytest.mark.parametrize("agnostic", [False, True])
def test_without_any_score_above_the_threshold_all_rows_are_zero(agnostic):
    found = detect([level(np.full((5, 3), LOW))], config(CLASS_AGNOSTIC_NMS=agnostic))
    assert found.shape == (4, 6)
    assert not found.any()


def test_background_is_never_a_candidate():
    found = best_candidates(level([[9, 1, LOW], [9, LOW, 2]]), 10)
    assert found.class_ids.numpy()[0, :2].tolist() == [2, 1]
    np.testing.assert_allclose(found.scores[0, :2], [0.880797, 0.731059], rtol=1e-5)


def test_best_pairs_of_anchor_and_class_remain():
    """Of [[2, 1], [0, 3], [1.5, -1]] the best three pairs are 3, 2, 1.5."""
    found = best_candidates(level([[0, 2, 1], [0, 0, 3], [0, 1.5, -1]]), 3)
    assert found.deltas.numpy()[0, :, 0].tolist() == [1, 0, 2]
    assert found.class_ids.numpy()[0].tolist() == [2, 1, 1]


def test_limit_is_of_each_level():
    levels = [level([[0, 3, LOW], [0, 2, LOW]]), level([[0, -1, LOW], [0, -2, LOW]])]
    found = select_candidates(levels, 1)
    np.testing.assert_allclose(found.scores[0], [0.952574, 0.268941], rtol=1e-5)


def test_centerness_decides_which_anchor_is_best():
    """sqrt(sigmoid(0) * sigmoid(0)) = 0.5; sqrt(sigmoid(2) * sigmoid(-3)) = 0.204."""
    found = best_candidates(level([[0, 2, LOW], [0, 0, LOW]], centerness=[-3, 0]), 2)
    np.testing.assert_allclose(found.scores[0], [0.5, 0.204403], rtol=1e-4)
    np.testing.assert_allclose(class_scores(tf.zeros([1, 1, 2]), tf.zeros([1, 1, 1])), 0.5)


def test_nms_is_of_each_class_unless_it_is_agnostic():
    same = [[0, 0, 1, 1], [0, 0, 1, 0.9]]
    first = level([[0, 2, LOW], [0, 1, LOW]], same)
    other = level([[0, 2, LOW], [0, LOW, 1]], same)
    assert detect([first], config())[:, 4].tolist() == [1, 0, 0, 0]
    assert detect([other], config())[:, 4].tolist() == [1, 2, 0, 0]
    assert detect([other], config(CLASS_AGNOSTIC_NMS=True))[:, 4].tolist() == [1, 0, 0, 0]


def test_layer_clips_to_the_window_and_reports_the_best_score_of_each_class():
    settings = config()
    layer = DenseDetectionLayer(settings, lambda anchors, deltas: anchors + 0 * deltas)
    first = level([[0, 2, LOW]], [[-0.5, 0, 0.5, 2]])
    meta = compose_image_meta(0, (64, 64, 3), (64, 64, 3), (0, 0, 64, 32), 1.0, [1, 1, 1])
    inputs = [[[first.class_logits, first.deltas]], first.anchors, tf.constant(meta[None])]
    detections, best = layer(inputs)
    np.testing.assert_allclose(detections[0, 0], [0, 0, 0.5, 0.5, 1, 0.880797], rtol=1e-5)
    np.testing.assert_allclose(best[0, 0], [0, 0.880797, 0], atol=1e-6)

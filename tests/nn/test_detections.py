"""Detections from the outputs of the heads."""

import numpy as np
import pytest
import tensorflow as tf
from tiny import TinyConfig, image_meta

from mrcnn.model import DetectionLayer
from mrcnn.nn import boxes
from mrcnn.nn.detections import refine_detections, select_class_masks
from mrcnn.nn.matterport_names import refine_detections_graph

WHOLE = np.float32([[0, 0, 1, 1]])


def numpy_detections(rois, probs, deltas, window, config):
    """The detections of one image, computed in NumPy."""
    class_ids = probs.argmax(axis=1)
    scores = probs.max(axis=1)
    own = deltas[np.arange(len(rois)), class_ids] * config.BBOX_STD_DEV
    refined = boxes.clip(boxes.decode(rois, own), np.asarray(window))
    rows = []
    for class_id in range(1, probs.shape[1]):
        candidates = np.flatnonzero(
            (class_ids == class_id) & (scores >= config.DETECTION_MIN_CONFIDENCE)
        )
        kept = boxes.non_max_suppression(
            refined[candidates], scores[candidates], config.DETECTION_NMS_THRESHOLD
        )
        rows += [[*refined[i], class_id, scores[i]] for i in candidates[kept]]
    rows = sorted(rows, key=lambda row: -row[5])[: config.DETECTION_MAX_INSTANCES]
    return np.array(rows + [[0] * 6] * (config.DETECTION_MAX_INSTANCES - len(rows)))


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.7])
def test_detection_layer_equals_numpy(confidence):
    config = TinyConfig(DETECTION_MIN_CONFIDENCE=confidence)
    rng = np.random.default_rng(1)
    corner, size = rng.uniform(0, 0.6, (2, 40, 2)), rng.uniform(0.1, 0.4, (2, 40, 2))
    rois = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    probs = rng.dirichlet([0.5] * 3, (2, 40)).astype(np.float32)
    deltas = rng.normal(0, 1, (2, 40, 3, 4)).astype(np.float32)
    metas = np.concatenate([image_meta(64, 64), image_meta(64, 64, window=(8, 0, 56, 64))])
    found = np.asarray(DetectionLayer(config)([rois, probs, deltas, metas]))
    windows = [(0, 0, 1, 1), boxes.normalize(np.array([[8, 0, 56, 64]]), (64, 64))[0]]
    for i, window in enumerate(windows):
        expected = numpy_detections(rois[i], probs[i], deltas[i], window, config)
        assert (expected[:, 4] > 0).sum() >= 5
        np.testing.assert_allclose(found[i], expected, atol=1e-6)
        one = refine_detections_graph(rois[i], probs[i], deltas[i], np.float32(window), config)
        np.testing.assert_array_equal(one, found[i])


def test_detection_layer_of_only_background_is_empty():
    probs = np.zeros((1, 5, 3), np.float32)
    probs[..., 0] = 0.9
    rois = np.tile(np.float32([0, 0, 1, 1]), (1, 5, 1))
    found = DetectionLayer(TinyConfig())(
        [rois, probs, np.zeros((1, 5, 3, 4), np.float32), image_meta(64, 64)]
    )
    assert not np.any(found)


def test_one_set_of_deltas_is_one_for_each_class():
    rng = np.random.default_rng(5)
    rois = boxes.clip(
        np.float32(rng.uniform(0, 0.5, (1, 8, 4)) + [0, 0, 0.4, 0.4]), np.float32([0, 0, 1, 1])
    )
    probs = np.float32(rng.dirichlet([1, 1, 1], (1, 8)))
    deltas = np.float32(rng.normal(size=(1, 8, 1, 4)))
    config = TinyConfig()
    one = refine_detections(tf.constant(rois), probs, tf.constant(deltas), WHOLE, config)
    each = refine_detections(
        tf.constant(rois), probs, tf.constant(deltas.repeat(3, axis=2)), WHOLE, config
    )
    assert np.any(one)
    np.testing.assert_array_equal(one, each)


def test_a_second_class_for_the_same_object_is_suppressed_across_classes():
    rois = np.float32([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.52], [0.6, 0.6, 0.9, 0.9]]])
    probs = np.float32([[[0.2, 0.8, 0], [0.1, 0, 0.9], [0.3, 0.7, 0]]])
    deltas = np.zeros((1, 3, 3, 4), np.float32)
    found = {}
    for agnostic in (False, True):
        config = TinyConfig(CLASS_AGNOSTIC_NMS=agnostic, DETECTION_MIN_CONFIDENCE=0.5)
        found[agnostic] = np.asarray(
            refine_detections(tf.constant(rois), probs, deltas, WHOLE, config)
        )[0]
    assert found[False][:, 4].tolist() == [2, 1, 1] + [0] * 7
    assert found[True][:, 4].tolist() == [2, 1] + [0] * 8
    np.testing.assert_allclose(found[True][:2], found[False][[0, 2]])


SOFT = {"DETECTION_NMS": "gaussian", "BOX_VOTING_IOU": 0.5}


@pytest.mark.parametrize("values", [{}, {"DETECTION_ALL_CLASSES": True}])
@pytest.mark.parametrize("agnostic", [False, True])
def test_soft_nms_and_voting_in_a_graph_equal_those_of_each_image(values, agnostic):
    config = TinyConfig(**SOFT, **values, CLASS_AGNOSTIC_NMS=agnostic, DETECTION_MIN_CONFIDENCE=0.1)
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 0.5, (2, 9, 2))
    rois = np.float32(np.concatenate([corner, corner + 0.4], axis=-1))
    probs = np.float32(rng.dirichlet([0.5] * 3, (2, 9)))
    probs[1] = [1, 0, 0]  # nothing in the second image
    deltas = np.float32(rng.normal(size=(2, 9, 3, 4)))
    layer = DetectionLayer(config)
    metas = np.concatenate([image_meta(64, 64)] * 2)
    signature = [tf.TensorSpec([None, *x.shape[1:]]) for x in (rois, probs, deltas, metas)]
    graph = tf.function(lambda *inputs: layer(list(inputs)), signature)
    found = graph(rois, probs, deltas, metas).numpy()
    assert found.shape == (2, 10, 6) and not found[1].any()
    kept = found[0][found[0, :, 5] > 0]
    assert len(kept) > 3 and (kept[:, 5] >= 0.1).all() and (np.diff(kept[:, 5]) <= 0).all()
    assert (kept[:, :4] >= 0).all() and (kept[:, :4] <= 1).all()
    alone = layer([rois[:1], probs[:1], deltas[:1], metas[:1]])
    np.testing.assert_allclose(found[:1], alone, atol=1e-6)
    hard = TinyConfig(**values, CLASS_AGNOSTIC_NMS=agnostic, DETECTION_MIN_CONFIDENCE=0.1)
    plain = np.asarray(DetectionLayer(hard)([rois, probs, deltas, metas]))[0]
    assert (plain[:, 5] > 0).sum() < len(kept)  # Soft-NMS keeps more


def test_select_class_masks():
    masks = tf.reshape(tf.range(2 * 3 * 1 * 1 * 4), (2, 3, 1, 1, 4))
    selected = select_class_masks(masks, tf.constant([[0.0, 3.0, 1.0], [2.0, 2.0, 0.0]]))
    # row r of image b starts at 12 b + 4 r
    assert selected[:, :, 0, 0, 0].numpy().tolist() == [[0, 7, 9], [14, 18, 20]]
    shared = masks[..., :1]
    assert select_class_masks(shared, None) is shared

"""Proposals from the outputs of the RPN."""

import numpy as np
import tensorflow as tf
from tiny import TinyConfig

from mrcnn.model import ProposalLayer
from mrcnn.nn.proposals import ProposalLimits, propose_per_level


def test_proposals_are_the_best_anchors_after_nms():
    config = TinyConfig(PRE_NMS_LIMIT=3)
    anchors = np.float32(
        [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.55], [0.5, 0.5, 1.0, 1.0], [0.5, 0.0, 0.7, 0.2]]
    )
    deltas = np.zeros((1, 4, 4), np.float32)
    deltas[0, 2] = [2.0, 0.0, 0.0, 0.0]  # dy = 2 * 0.1 of a height of 0.5: 0.1 down, then cut at 1
    probs = np.float32([[0.3, 0.7], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])[None]
    layer = ProposalLayer(4, 0.7, config)
    found = layer([probs, deltas, anchors[None]])
    # best 0.9; next 0.8; then 0.7, whose IoU with the first is 0.25 / 0.275 = 0.91; the fourth
    # is beyond PRE_NMS_LIMIT
    np.testing.assert_allclose(
        found[0], [anchors[1], [0.6, 0.5, 1.0, 1.0], [0] * 4, [0] * 4], atol=1e-6
    )


def test_huge_deltas_give_boxes_inside_the_image():
    """The exponential of such deltas, of a diverged training, overflows float32."""
    deltas = np.full((1, 4, 4), 1e4, np.float32)
    anchors = np.tile(np.float32([0.2, 0.2, 0.4, 0.4]), (1, 4, 1))
    found = ProposalLayer(4, 0.7, TinyConfig())(
        [np.full((1, 4, 2), 0.5, np.float32), deltas, anchors]
    )
    assert np.isfinite(found).all() and np.max(found) <= 1 and np.min(found) >= 0


# --- Level by level ---


def per_level(boxes, scores, counts, limits, windows=((0.0, 0.0, 1.0, 1.0),)):
    """`propose_per_level` of anchors without deltas, with these boxes `[B, A, 4]` and scores."""
    probs = np.stack([1 - scores, scores], axis=-1)
    config = TinyConfig(RPN_BBOX_STD_DEV=np.ones(4))
    return propose_per_level(
        *(tf.constant(x, tf.float32) for x in (probs, np.zeros_like(boxes), boxes, windows)),
        counts,
        config,
        ProposalLimits(*limits),
    )


def test_boxes_of_different_levels_do_not_suppress_each_other():
    box, near = [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.49]
    boxes = np.float32([[box, near, near, [0.5, 0.5, 0.8, 0.8]]])
    found = per_level(boxes, np.float32([[0.6, 0.7, 0.8, 0.5]]), [2, 2], (10, 4, 0.7))
    # Level 1: 0.7 suppresses 0.6. Level 2 keeps both. Indices are by level, then by score.
    np.testing.assert_allclose(found.scores, [[0.8, 0.7, 0.5, 0]])
    np.testing.assert_allclose(found.proposals[0], [near, near, boxes[0, 3], [0] * 4])
    np.testing.assert_array_equal(found.rpn_non_max_suppression, [2, 0, 3])


def test_each_level_gives_its_best_anchors():
    boxes = np.float32([[[0, 0.1 * i, 0.1, 0.1 * i + 0.1] for i in range(6)]])
    scores = np.float32([[0.1, 0.2, 0.3, 0.9, 0.8, 0.7]])
    found = per_level(boxes, scores, [3, 3], (2, 3, 0.7))
    # 0.3 and 0.2 of the first level, 0.9 and 0.8 of the second; the best three of them
    np.testing.assert_allclose(found.scores, [[0.9, 0.8, 0.3]])
    np.testing.assert_allclose(found.refined_anchors[0], boxes[0, [2, 1, 3, 4]], atol=1e-6)


def test_proposals_are_clipped_to_the_window_and_have_an_area():
    boxes = np.float32([[[0.1, 0.1, 0.6, 0.9], [0.7, 0.1, 0.9, 0.9], [0.2, 0.3, 0.2, 0.9]]] * 2)
    scores = np.float32([[0.5, 0.9, 0.8]] * 2)
    windows = [[0, 0, 0.5, 1], [0, 0, 1, 1]]
    found = per_level(boxes, scores, [3], (3, 3, 0.7), windows)
    np.testing.assert_allclose(found.scores, [[0.5, 0, 0], [0.9, 0.5, 0]])
    np.testing.assert_allclose(found.proposals[0, 0], [0.1, 0.1, 0.5, 0.9])


def test_proposals_equal_torchvisions_batched_nms(torchvision_units):
    """Each recorded group is a level."""
    recorded = torchvision_units("nms")
    groups = recorded["groups_7"]
    order = np.argsort(groups, kind="stable")
    boxes, scores = recorded["boxes_7"][:, [1, 0, 3, 2]] / 256, recorded["scores_7"]
    counts = np.bincount(groups).tolist()
    threshold = float(recorded["threshold_7"])
    found = per_level(boxes[None, order], scores[None, order], counts, (200, 200, threshold))
    kept = recorded["kept_7"]
    np.testing.assert_allclose(found.scores[0, : len(kept)], scores[kept])
    np.testing.assert_allclose(found.proposals[0, : len(kept)], boxes[kept], rtol=1e-5)
    assert not np.any(found.scores[0, len(kept) :])

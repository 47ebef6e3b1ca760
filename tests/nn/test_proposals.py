"""Proposals from the outputs of the RPN."""

import numpy as np
from tiny import TinyConfig

from mrcnn.model import ProposalLayer


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

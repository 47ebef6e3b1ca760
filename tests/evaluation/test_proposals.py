"""Recall of proposals, against hand-computed numbers."""

import json
import math

import numpy as np
import pytest
from evaluation_cases import CAT, DOG, Boxes

from mrcnn.evaluation import evaluate, proposals


def test_match_proposals_by_hand():
    assert proposals.match_proposals(np.zeros((0, 4)), np.zeros((0, 4))).tolist() == []
    assert proposals.match_proposals(np.zeros((0, 4)), [[0, 0, 9, 9]]).tolist() == [0]
    assert proposals.match_proposals([[0, 0, 9, 9]], np.zeros((0, 4))).tolist() == []
    objects = [[0, 0, 10, 10], [0, 2, 10, 12], [50, 50, 60, 60]]
    # One box lies right on the second object (IoU 1), and shares 8 of 12 columns with the first: it covers the second
    # alone. The other box covers the left half of the first. Nothing is left for the third.
    assert proposals.match_proposals([[0, 2, 10, 12], [0, 0, 10, 5]], objects).tolist() == [
        0.5,
        1.0,
        0.0,
    ]


def test_proposal_recall_by_hand():
    """Image 0: one object found at rank 1 with IoU 1, one at rank 3 with IoU 0.6. Image 1: a crowd. Image 2: none."""
    dataset = Boxes([[CAT, DOG], [(-1, (0, 0, 10, 10))], []])
    rois = [[0, 0, 10, 10], [0, 10, 5, 15], [10, 10, 20, 16]]

    def detect(image):  # in the wrong order: the scores count
        return {"rois": np.array(rois)[::-1], "scores": np.array([0.1, 0.2, 0.9])}

    found = proposals.proposal_recall(detect, dataset, progress=False, counts=(1, 2, 3))
    assert (found.images, found.objects, found.most) == (3, 2, 3)
    assert found.recall[1] == found.recall[2] == {"AR": 0.5, "R50": 0.5, "R75": 0.5}
    # the second is found at 0.50, 0.55 and 0.60, three of ten thresholds: (1 + 0.3) / 2
    assert found.recall[3] == {"AR": pytest.approx(0.65), "R50": 1.0, "R75": 0.5}
    text = found.table()
    assert "3 images, 2 objects" in text and "        3  0.650   1.000    0.500" in text
    assert "No image had more than 3 proposals" not in text
    assert (
        json.loads(json.dumps(found.to_dict(), allow_nan=False))["proposal_recall"]["1"]["R50"]
        == 0.5
    )


def test_proposal_recall_of_nothing():
    none = lambda image: {"rois": np.zeros((0, 4)), "scores": np.zeros(0)}  # noqa: E731
    found = proposals.proposal_recall(none, Boxes([[]]), progress=False)
    assert found.objects == 0 and all(
        math.isnan(value) for row in found.recall.values() for value in row.values()
    )
    assert found.to_dict()["proposal_recall"]["100"]["AR"] is None
    assert (
        "hold no objects" in found.table() and "No image had more than 0 proposals" in found.table()
    )
    found = proposals.proposal_recall(none, Boxes([[CAT]]), progress=False)
    assert found.recall[1000] == {"AR": 0.0, "R50": 0.0, "R75": 0.0}
    with pytest.raises(ValueError, match="at least one image"):
        proposals.proposal_recall(none, Boxes([]), progress=False)


def test_proposals_are_no_detections():
    no_classes = lambda image: {"rois": np.zeros((0, 4)), "scores": np.zeros(0)}  # noqa: E731
    with pytest.raises(ValueError, match="without class_ids. Try proposal_recall"):
        evaluate.evaluate_dataset(no_classes, Boxes([[CAT]]), progress=False)

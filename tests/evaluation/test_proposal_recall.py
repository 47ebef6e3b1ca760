"""Recall of proposals, against numbers computed in the comments."""

import json
import math

import numpy as np
import pytest
from evaluation_cases import CAT, DOG, Boxes

from mrcnn.evaluation import proposals


def test_each_proposal_covers_one_object_the_best_pair_first():
    assert proposals.match_proposals(np.zeros((0, 4)), np.zeros((0, 4))).tolist() == []
    assert proposals.match_proposals(np.zeros((0, 4)), [[0, 0, 9, 9]]).tolist() == [0]
    assert proposals.match_proposals([[0, 0, 9, 9]], np.zeros((0, 4))).tolist() == []
    objects = [[0, 0, 10, 10], [0, 2, 10, 12], [50, 50, 60, 60]]
    # The first proposal is the second object (IoU 1), and shares 8 of 12 columns with the first
    # object: it covers the second one. The other proposal covers the left half of the first.
    # There is no proposal for the third.
    assert proposals.match_proposals([[0, 2, 10, 12], [0, 0, 10, 5]], objects).tolist() == [
        0.5,
        1.0,
        0.0,
    ]


def test_proposal_recall_grows_with_the_number_of_proposals():
    """One object is covered at rank 1 with IoU 1, the other one at rank 3 with IoU 0.6."""
    crowd = (-1, (0, 0, 10, 10))
    dataset = Boxes([[CAT, DOG], [crowd], []])
    rois = [[0, 0, 10, 10], [0, 10, 5, 15], [10, 10, 20, 16]]

    def propose(image):  # unsorted: the scores give the order
        return {"rois": np.array(rois)[::-1], "scores": np.array([0.1, 0.2, 0.9])}

    found = proposals.proposal_recall(propose, dataset, progress=False, counts=(1, 2, 3))
    assert (found.images, found.objects, found.most) == (3, 2, 3)
    assert found.recall[1] == found.recall[2] == {"AR": 0.5, "R50": 0.5, "R75": 0.5}
    # the second is covered at 0.50, 0.55 and 0.60, three of ten thresholds: (1 + 0.3) / 2
    assert found.recall[3] == {"AR": pytest.approx(0.65), "R50": 1.0, "R75": 0.5}
    text = found.table()
    assert "3 images, 2 objects" in text and "        3  0.650   1.000    0.500" in text
    assert "No image had more than 3 proposals" not in text
    assert (
        json.loads(json.dumps(found.to_dict(), allow_nan=False))["proposal_recall"]["1"]["R50"]
        == 0.5
    )


def test_proposal_recall_without_proposals_or_objects():
    def propose(image):
        return {"rois": np.zeros((0, 4)), "scores": np.zeros(0)}

    found = proposals.proposal_recall(propose, Boxes([[]]), progress=False)
    assert found.objects == 0 and all(
        math.isnan(value) for row in found.recall.values() for value in row.values()
    )
    assert found.to_dict()["proposal_recall"]["100"]["AR"] is None
    assert (
        "have no objects" in found.table() and "No image had more than 0 proposals" in found.table()
    )
    found = proposals.proposal_recall(propose, Boxes([[CAT]]), progress=False)
    assert found.recall[1000] == {"AR": 0.0, "R50": 0.0, "R75": 0.0}
    with pytest.raises(ValueError, match="at least one image"):
        proposals.proposal_recall(propose, Boxes([]), progress=False)

"""Run-length codes, by hand-counted pixels."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mrcnn.formats import rle

SIZE = (30, 40)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=12))
def test_run_lengths_undo_the_compression(runs):
    side = sum(runs)
    code = coco_mask.frPyObjects({"size": [side, 1], "counts": runs}, side, 1)
    assert rle.run_lengths(code["counts"].decode()) == runs


def test_endless_number_in_an_rle_is_refused_in_linear_time():
    with pytest.raises(
        ValueError, match=r"at most 7 characters. Received: 10000000 in 'oooo.*in f\.json"
    ):
        rle.run_lengths("o" * 10**7, "f.json")


def test_truncated_rle_has_the_runs_before_the_cut():
    assert rle.run_lengths("") == rle.run_lengths("abc") == []
    whole = coco_mask.frPyObjects({"size": [9, 1], "counts": [2, 3, 4]}, 9, 1)["counts"].decode()
    assert rle.run_lengths(whole + "oo") == [2, 3, 4]

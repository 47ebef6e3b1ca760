"""Ids of objects over frames; the tests with boxes need the extra [video] and skip without it."""

import importlib.util

import numpy as np
import pytest

from mrcnn.inference import tracking

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("trackers") is None, reason="needs pip install trackers"
)


def frame(*boxes, scores=None):
    """A result of boxes (y1, x1, y2, x2)."""
    return {
        "rois": np.int32(boxes).reshape(-1, 4),
        "class_ids": np.ones(len(boxes), np.int32),
        "scores": np.float32([0.9] * len(boxes) if scores is None else scores),
    }


def square(x, y=10):
    return (y, x, y + 20, x + 20)


def test_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"Try pip install 'mask-rcnn-keras3\[video\]'"):
        tracking.ObjectTracker(0.5)


@needs_extra
def test_frames_without_objects_have_no_ids():
    tracker = tracking.ObjectTracker(0.5, 10)
    assert tracker.update(frame()) == []
    assert tracker.update(frame(square(0))) == [None]  # seen once: not yet a track
    assert tracker.update(frame(square(2))) == [1]
    assert tracker.update(frame()) == []


@needs_extra
def test_ids_follow_objects_whatever_their_order():
    tracker = tracking.ObjectTracker(0.5, 10)
    ids = []
    for step in range(6):  # one moves right by 4 px a frame, one below it left
        objects = [square(4 * step), square(60 - 4 * step, y=60)]
        order = [0, 1] if step % 2 else [1, 0]
        found = tracker.update(frame(*[objects[i] for i in order]))
        ids.append([found[order.index(0)], found[order.index(1)]])
    assert ids[0] == [None, None]
    assert set(map(tuple, ids[1:])) in ({(1, 2)}, {(2, 1)})


@needs_extra
def test_hidden_object_keeps_its_id_and_a_new_one_gets_the_next():
    tracker = tracking.ObjectTracker(0.5, 30)
    for _ in range(3):
        ids = tracker.update(frame(square(0)))
    for _ in range(10):  # a third of a second
        assert tracker.update(frame()) == []
    assert ids == tracker.update(frame(square(0))) == [1]
    tracker.update(frame(square(0), square(100)))
    assert tracker.update(frame(square(100), square(0))) == [2, 1]


@needs_extra
def test_low_scores_continue_tracks_and_start_none():
    tracker = tracking.ObjectTracker(0.5, 30)
    for _ in range(3):
        assert tracker.update(frame(square(100), scores=[0.2])) == [None]
    for _ in range(2):
        tracker.update(frame(square(0), scores=[0.9]))
    assert tracker.update(frame(square(0), square(100), scores=[0.2, 0.2])) == [1, None]


@needs_extra
def test_ids_of_one_film_begin_at_one():
    for _ in range(2):
        tracker = tracking.ObjectTracker(0.5, 30)
        tracker.update(frame(square(0)))
        assert tracker.update(frame(square(0))) == [1]

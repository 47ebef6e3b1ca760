"""Ids of objects that stay the same over the frames of a video: ByteTrack, with `[video]`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

LOWEST_SCORE = 0.1  # of detections that may continue a track; the value of ByteTrack's authors


def check_extra() -> None:
    """Raise a ValueError if the library of the extra is missing."""
    if importlib.util.find_spec("trackers") is None:
        raise ValueError(
            "Tracking needs the library of the extra [video]. Received: an installation without "
            "trackers. Try pip install 'mask-rcnn-keras3[video]'."
        )


class ObjectTracker:
    """Gives the detections of successive frames ids, by the overlap of their boxes.

    ByteTrack (Zhang 2022) moves each track on by a Kalman filter and matches it with the boxes of
    the frame: those of at least `min_confidence` first, then the weaker ones, which may only
    continue a track. An object that was hidden for up to a second keeps its id. Classes are not
    compared.
    """

    def __init__(self, min_confidence: float, frame_rate: float = 30.0):
        """Start before the first frame.

        min_confidence: the score from which on a detection can start a track.
        frame_rate: frames per second.

        Raises: ValueError without the extra `[video]`.
        """
        check_extra()
        import trackers  # pyright: ignore[reportMissingImports]  (not required)

        self._tracker = trackers.ByteTrackTracker(
            frame_rate=frame_rate,
            track_activation_threshold=min_confidence,
            high_conf_det_threshold=min_confidence,
        )

    def update(self, result: Mapping[str, Any]) -> list[int | None]:
        """Return the ids of the detections of the next frame, from 1 on.

        None for a detection without a track: in the first frame in which an object is seen, and of
        a score below `min_confidence` that continues no track.

        result: as `MaskRCNN.detect` returns, with detections from `LOWEST_SCORE` on.
        """
        import supervision  # pyright: ignore[reportMissingImports]  (trackers requires it)

        count = len(result["rois"])
        boxes = np.asarray(result["rois"], np.float32).reshape(-1, 4)
        detections = supervision.Detections(
            xyxy=boxes[:, [1, 0, 3, 2]],
            confidence=np.asarray(result["scores"], np.float32),
            data={"index": np.arange(count)},
        )
        tracked = self._tracker.update(detections)
        ids: list[int | None] = [None] * count
        track_ids = tracked.tracker_id
        if track_ids is None or not len(track_ids):
            return ids
        for index, track_id in zip(tracked.data["index"], track_ids, strict=True):
            if track_id >= 0:
                ids[int(index)] = int(track_id) + 1
        return ids

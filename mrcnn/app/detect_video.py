"""Detections in a video: a copy with the detections drawn, and a file of JSON, a line per frame."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from ..data.result_rows import select_rows
from ..drawing import pages
from ..drawing.inputs import Color, steady_colors
from ..files.atomic import atomic_write
from ..formats.detections_json import detection_entries
from . import video

# Loaded when it is needed: mrcnn.inference.tracking.

NO_TRACK = (0.6, 0.6, 0.6)  # color of detections without an id


class VideoDetections(NamedTuple):
    """entry: of detections.json. interrupted: by Ctrl-C; the files have the frames until then."""

    entry: dict[str, Any]
    interrupted: bool


def detect_video(
    model, class_names: list[str], file: Path, drawing: Path, track: bool = False
) -> VideoDetections:
    """Detect in every frame of a video file.

    drawing: the path of the drawn video; the JSON lines are next to it. track: give objects ids.

    Raises: ValueError if the video cannot be read, OSError if a file cannot be written.
    """
    lines = drawing.with_suffix(".jsonl")
    rate = video.frame_rate(file)
    with tempfile.TemporaryFile("w+", dir=drawing.parent, encoding="utf-8") as text:
        frames = _Frames(model, class_names, rate, text)
        if track:
            frames.start_tracking()
        try:
            written = video.change_video(file, drawing, frames.detect)
        finally:
            frames.stop_tracking()
        text.seek(0)
        with atomic_write(lines) as part, open(part, "w", encoding="utf-8") as whole:
            shutil.copyfileobj(text, whole)
    entry = {
        "file_name": str(file),
        "video": drawing.name,
        "detections": lines.name,
        "width": frames.size[1],
        "height": frames.size[0],
        "frames": written.frames,
        "frame_rate": rate,
    }
    if track:
        entry["tracks"] = len(frames.track_ids)
    if written.interrupted:
        entry["partial"] = True
    return VideoDetections(entry, written.interrupted)


@dataclass
class _Frames:
    """Detects in frame after frame, writes their lines, and returns them drawn."""

    model: Any
    class_names: list[str]
    rate: float
    text: TextIO
    count: int = 0
    size: tuple[int, ...] = (0, 0)  # height, width
    track_ids: set[int] = field(default_factory=set)
    _tracker: Any = None
    _min_confidence: float = 0.0

    def start_tracking(self) -> None:
        """Track objects, and let detections of low scores continue tracks."""
        from ..inference.tracking import LOWEST_SCORE, ObjectTracker

        config = self.model.config
        self._min_confidence = config.DETECTION_MIN_CONFIDENCE
        self._tracker = ObjectTracker(self._min_confidence, self.rate)
        config.DETECTION_MIN_CONFIDENCE = min(LOWEST_SCORE, self._min_confidence)

    def stop_tracking(self) -> None:
        """Restore the lowest score."""
        if self._tracker is not None:
            self.model.config.DETECTION_MIN_CONFIDENCE = self._min_confidence

    def detect(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame `[H, W, RGB]` with its detections drawn; write its line."""
        self.size = frame.shape[:2]
        result = self.model.detect([frame])[0]
        ids = None
        if self._tracker is not None:
            result, ids = self._track(result)
        self._write_line(result, ids)
        self.count += 1
        return pages.draw_result(
            frame,
            result,
            self.class_names,
            skeleton=self.model.config.KEYPOINT_SKELETON,
            colors=_colors(result, self.class_names, ids),
            captions=_captions(result, self.class_names, ids),
        )

    def _track(self, result: dict[str, Any]) -> tuple[dict[str, Any], list[int | None]]:
        """Return the detections to show and their ids.

        Those of low scores that continue no track are left out.
        """
        ids = self._tracker.update(result)
        is_tracked = np.array([track_id is not None for track_id in ids], bool)
        keep = is_tracked | (np.asarray(result["scores"]) >= self._min_confidence)
        kept_ids = [ids[i] for i in np.flatnonzero(keep)]
        self.track_ids |= {track_id for track_id in kept_ids if track_id is not None}
        return select_rows(result, keep), kept_ids

    def _write_line(self, result: dict[str, Any], ids: list[int | None] | None) -> None:
        entries = detection_entries(result, self.class_names)
        for i, entry in enumerate(entries):
            if ids is not None:
                entry["track_id"] = ids[i]
        seconds = round(self.count / self.rate, 3)
        line = {"frame": self.count, "seconds": seconds, "detections": entries}
        self.text.write(json.dumps(line) + "\n")


def _colors(
    result: dict[str, Any], class_names: Sequence[str], ids: list[int | None] | None
) -> list[Color]:
    """Return a color for each detection that it keeps from frame to frame: of its id or class."""
    if ids is None:
        of_class = steady_colors(len(class_names))
        return [of_class[class_id - 1] for class_id in result["class_ids"]]
    of_id = steady_colors(max((track_id or 0 for track_id in ids), default=0) + 1)
    return [NO_TRACK if track_id is None else of_id[track_id] for track_id in ids]


def _captions(
    result: dict[str, Any], class_names: Sequence[str], ids: list[int | None] | None
) -> list[str]:
    """Return `#id class score` for each detection, without an id if it has none."""
    captions = pages.captions_of(result, class_names)
    if ids is None:
        return captions
    return [
        caption if track_id is None else f"#{track_id} {caption}"
        for track_id, caption in zip(ids, captions, strict=True)
    ]

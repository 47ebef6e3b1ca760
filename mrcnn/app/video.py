"""Video files and cameras: read each frame, change it by a function, write a playable file."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..data.progress import ProgressLines
from ..files.limits import check_size
from ..files.safe_text import printable

log = logging.getLogger("mrcnn")

# Codecs that OpenCV writes without further libraries, by file suffix.
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
# Of files that `mrcnn detect` takes as videos; OpenCV reads them.
SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
_DEFAULT_RATE = 25.0  # of a camera that does not report its own


class WrittenVideo(NamedTuple):
    """frames: how many were written. rate: frames processed per second. interrupted: by Ctrl-C."""

    frames: int
    rate: float
    interrupted: bool = False


def read_frames(source: str | Path | int) -> Iterator[np.ndarray]:
    """Yield the frames `[H, W, RGB]` uint8 of a video file or a camera, in order.

    source: the path of a file, or the number of a camera (0: the first).

    Raises: ValueError if the file or camera does not exist, or has no readable frame.
    """
    capture = _open(source)
    try:
        while True:
            found, frame = capture.read()
            if not found:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def check_video(path: str | Path) -> None:
    """Raise a ValueError unless a file is a video whose frames have a permitted size."""
    capture = _open(path)
    try:
        height, width = (
            capture.get(cv2.CAP_PROP_FRAME_HEIGHT),
            capture.get(cv2.CAP_PROP_FRAME_WIDTH),
        )
        check_size(int(height), int(width), str(path))
        found, _ = capture.read()
    finally:
        capture.release()
    if not found:
        raise _unreadable(path)


def frame_rate(source: str | Path | int) -> float:
    """Frames per second of a video; 25 if the file does not say."""
    capture = _open(source)
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return rate if np.isfinite(rate) and 0 < rate <= 1000 else _DEFAULT_RATE


def change_video(
    source: str | Path | int,
    out: str | Path,
    change: Callable[[np.ndarray], np.ndarray],
    limit: int | None = None,
) -> WrittenVideo:
    """Write a video whose frames are `change(frame)`.

    source: the path of a video file, or the number of a camera, which is read until Ctrl-C or
    `limit`.
    out: a `.mp4` or `.avi` file, which appears when it is complete. After Ctrl-C it contains the
    frames until then.
    change: `[H, W, RGB]` uint8 -> the same; all results must have one size.

    Raises: ValueError naming the file that cannot be read or written.
    """
    out = Path(out)
    if out.suffix.lower() not in _CODECS:
        raise ValueError(
            f"A video must be written as .mp4 or .avi. Received: {out}. Try "
            f"{out.with_suffix('.mp4')}."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last, because OpenCV derives the container from the suffix.
    part = out.with_name(f"{out.stem[:100]}.{secrets.token_hex(4)}.part{out.suffix}")
    writer = _Writer(part, frame_rate(source))
    started = time.perf_counter()
    interrupted = False
    try:
        with _progress_bar() as bar:
            total = _total(source, limit)
            lines = ProgressLines(printable(out.name), total, "frames")
            task = bar.add_task(escape(printable(out.name)), total=total, rate="")
            for frame in read_frames(source):
                writer.write(change(frame))
                rate = writer.count / (time.perf_counter() - started)
                bar.update(task, completed=writer.count, rate=f"{rate:.1f} frames/s")
                if bar.disable:
                    lines.update(writer.count)
                if writer.count == limit:
                    break
    except KeyboardInterrupt:
        if not writer.count:
            raise
        interrupted = True
        log.warning("Stopped after %d frames.", writer.count)
    except BaseException:
        writer.close()
        part.unlink(missing_ok=True)
        raise
    if not writer.count:
        raise _unreadable(source)
    writer.close()
    os.replace(part, out)
    rate = writer.count / (time.perf_counter() - started)
    return WrittenVideo(writer.count, rate, interrupted)


def _unreadable(source: str | Path | int) -> ValueError:
    return ValueError(
        f"A video must contain readable frames. Received: {source}. Try to play it elsewhere."
    )


class _Writer:
    """Writes frames `[H, W, RGB]` uint8; the first one gives the size."""

    def __init__(self, path: Path, rate: float):
        self.path, self.rate = path, rate
        self.count = 0
        self._shape: tuple[int, ...] = ()
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        if self._writer is None:
            self._shape = frame.shape
            self._writer = _open_writer(self.path, self.rate, frame.shape)
        if frame.shape != self._shape:  # OpenCV would drop the frame silently
            raise ValueError(
                f"All frames of a video must have one size. Received: {frame.shape} after "
                f"{self._shape}. Try resizing them in the function that changes the frames."
            )
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self.count += 1

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


def _open_writer(path: Path, rate: float, shape: tuple[int, ...]) -> cv2.VideoWriter:
    height, width = shape[:2]
    codec = cv2.VideoWriter.fourcc(*_CODECS[path.suffix.lower()])
    writer = cv2.VideoWriter(str(path), codec, rate, (width, height))
    if not writer.isOpened():
        raise ValueError(f"OpenCV must be able to write {path}. Try a writable folder, or .avi.")
    return writer


def _open(source: str | Path | int) -> cv2.VideoCapture:
    if not isinstance(source, int) and not Path(source).is_file():
        raise ValueError(
            f"A video file must exist. Received: {source}. Try the full path, or a camera's number."
        )
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        kind = f"camera {source}" if isinstance(source, int) else f"the file {source}"
        raise ValueError(
            f"OpenCV must be able to open a video. Received: {kind}, which it cannot open. Try "
            f"another "
            "camera number, or convert the file, for instance with: ffmpeg -i old new.mp4"
        )
    return capture


def _total(source: str | Path | int, limit: int | None) -> int | None:
    """The expected number of frames; None if it is unknown, as for a camera without a limit."""
    if isinstance(source, int):
        return limit
    capture = _open(source)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    if count <= 0:
        return limit
    return count if limit is None else min(count, limit)


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        console=console,
        disable=not console.is_terminal,
    )

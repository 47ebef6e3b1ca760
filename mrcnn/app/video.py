"""Video files and cameras: each frame read, changed by a function, and written to a file that plays."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..files.safe_text import printable

log = logging.getLogger("mrcnn")

# What OpenCV writes without further libraries, by the file's ending.
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
_DEFAULT_RATE = 25.0  # of a camera, which may not know its own


def read_frames(source: str | Path | int) -> Iterator[np.ndarray]:
    """The frames `[H, W, RGB]` uint8 of a video file, in order, or of a camera until it ends.

    source: the path of a file, or the number of a camera (0: the first).

    Raises: ValueError where there is no such file or camera, or where it holds no frame that can be read.
    """
    capture = _open(source)
    try:
        frame = None
        while True:
            found, frame = capture.read()
            if not found:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def frame_rate(source: str | Path | int) -> float:
    """Frames a second, as the file says; 25 where it does not."""
    capture = _open(source)
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return rate if np.isfinite(rate) and 0 < rate <= 1000 else _DEFAULT_RATE


def change_video(
    source: str | Path | int,
    out: str | Path,
    change: Callable[[np.ndarray], np.ndarray],
    limit: int | None = None,
) -> tuple[int, float]:
    """Write a video whose frames are `change(frame)`; returns their number, and frames a second of the work.

    source: the path of a video file, or the number of a camera; a camera goes on until Ctrl-C, or `limit`.
    out: a `.mp4` or `.avi` file, which appears when it is complete. After Ctrl-C it holds the frames up to then.
    change: `[H, W, RGB]` uint8 -> the same; all its pictures must be of one size.

    Raises: ValueError naming the file that cannot be read or written.
    """
    out = Path(out)
    codec = _CODECS.get(out.suffix.lower())
    if codec is None:
        raise ValueError(
            f"A video must be written as .mp4 or .avi. Received: {out}. Try {out.with_suffix('.mp4')}."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(
        f"{out.stem[:100]}.{secrets.token_hex(4)}.part{out.suffix}"
    )  # OpenCV goes by the suffix
    rate, total = frame_rate(source), _frame_count(source)
    if limit is not None:
        total = min(total or limit, limit)
    writer, count, started = None, 0, time.perf_counter()
    try:
        with _progress() as bar:
            task = bar.add_task(escape(printable(out.name)), total=total, rate="")
            for frame in read_frames(source):
                picture = change(frame)
                if writer is None:
                    size = picture.shape
                    writer = _writer(part, codec, rate, size)
                if picture.shape != size:  # OpenCV would leave the frame out in silence
                    raise ValueError(
                        f"All pictures of a video must have one size. Received: {picture.shape} after {size}. Try "
                        "resizing them in the function that changes the frames."
                    )
                writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
                count += 1
                bar.update(
                    task,
                    completed=count,
                    rate=f"{count / (time.perf_counter() - started):.1f} frames/s",
                )
                if count == limit:
                    break
    except KeyboardInterrupt:
        if not count:
            raise
        log.warning("Stopped after %d frames.", count)
    except BaseException:
        if writer is not None:
            writer.release()
            part.unlink(missing_ok=True)
        raise
    if not count:
        raise ValueError(
            f"A video must hold frames that can be read. Received: {source}. Try to play it elsewhere."
        )
    writer.release()
    os.replace(part, out)
    return count, count / (time.perf_counter() - started)


def _open(source: str | Path | int) -> cv2.VideoCapture:
    if not isinstance(source, int) and not Path(source).is_file():
        raise ValueError(
            f"A video file must exist. Received: {source}. Try the full path, or a camera's number."
        )
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    if not capture.isOpened():
        kind = f"camera {source}" if isinstance(source, int) else f"the file {source}"
        raise ValueError(
            f"OpenCV must be able to open a video. Received: {kind}, which it cannot. Try another camera number, or "
            "convert the file, for instance with: ffmpeg -i old new.mp4"
        )
    return capture


def _frame_count(source: str | Path | int) -> int | None:
    """How many frames a file says it has; None for a camera, and where it does not say."""
    if isinstance(source, int):
        return None
    capture = _open(source)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return count if count > 0 else None


def _writer(path: Path, codec: str, rate: float, shape: tuple[int, ...]) -> cv2.VideoWriter:
    height, width = shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (width, height))
    if not writer.isOpened():
        raise ValueError(
            f"OpenCV must be able to write {path}. Try a folder that may be written to, or .avi."
        )
    return writer


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(
        *columns,
        TextColumn("{task.fields[rate]}"),
        console=console,
        disable=not console.is_terminal,
    )

"""Videos frame by frame, on small generated files."""

import logging

import cv2
import numpy as np
import pytest

from mrcnn.app import video
from mrcnn.data import progress


@pytest.fixture(params=[".avi", ".mp4"])
def clip(request, tmp_path):
    """Eight red frames of 48 x 64, 10 per second, with a white square moving 4 px to the right."""
    path = tmp_path / f"clip{request.param}"
    codec = {".avi": "MJPG", ".mp4": "mp4v"}[request.param]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (64, 48))
    for i in range(8):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[..., 2] = 200  # BGR
        frame[16:32, 4 * i : 4 * i + 16] = 255
        writer.write(frame)
    writer.release()
    return path


def test_frames_are_rgb_and_in_order(clip):
    frames = list(video.read_frames(clip))
    assert len(frames) == 8 and {frame.shape for frame in frames} == {(48, 64, 3)}
    assert (
        frames[0].dtype == np.uint8 and frames[0][2, 60, 0] > 150 > 60 > frames[0][2, 60, 2]
    )  # red, not blue
    for i, frame in enumerate(frames):  # the square's centre: 4 i + 8
        assert np.flatnonzero(frame[24, :, 2] > 128).mean() == pytest.approx(4 * i + 7.5, abs=1)
    assert video.frame_rate(clip) == 10


def test_video_is_changed_frame_by_frame(clip, tmp_path):
    out = tmp_path / "new" / f"out{clip.suffix}"
    count, rate, interrupted = video.change_video(clip, out, lambda frame: frame[:, ::-1].copy())
    assert count == 8 and rate > 0 and not interrupted
    turned = list(video.read_frames(out))
    assert len(turned) == 8 and video.frame_rate(out) == 10
    assert np.flatnonzero(turned[0][24, :, 2] > 128).mean() == pytest.approx(63 - 7.5, abs=1)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_limit_and_interrupt_leave_a_playable_video(clip, tmp_path, caplog):
    out = tmp_path / "short.mp4"
    assert video.change_video(clip, out, lambda frame: frame, limit=3)[0] == 3
    assert len(list(video.read_frames(out))) == 3
    seen = []

    def stop_at_the_fifth(frame):
        seen.append(frame)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return frame

    with caplog.at_level(logging.WARNING, "mrcnn"):
        written = video.change_video(clip, out, stop_at_the_fifth)
    assert (written.frames, written.interrupted) == (4, True)
    assert len(list(video.read_frames(out))) == 4
    assert "Stopped after 4 frames" in caplog.text


def test_lines_report_the_progress_without_a_terminal(clip, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with caplog.at_level(logging.INFO, "mrcnn"):
        video.change_video(clip, tmp_path / "out.mp4", lambda frame: frame)
    assert len(caplog.messages) == 8 and "out.mp4: 8 of 8 frames, 0:00 left." in caplog.messages


def test_size_of_frames_is_checked(clip, tmp_path, monkeypatch):
    video.check_video(clip)
    sizes = []
    monkeypatch.setattr(video, "check_size", lambda *size: sizes.append(size))
    video.check_video(clip)
    assert sizes == [(48, 64, str(clip))]
    with pytest.raises(ValueError, match="must exist"):
        video.check_video(tmp_path / "none.mp4")


def test_failure_leaves_no_partial_video(clip, tmp_path):
    sizes = iter([(48, 64, 3), (48, 60, 3)])
    with pytest.raises(ValueError, match=r"one size. Received: \(48, 60, 3\) after \(48, 64, 3\)"):
        video.change_video(
            clip, tmp_path / "new" / "out.mp4", lambda frame: np.zeros(next(sizes), np.uint8)
        )
    assert not list((tmp_path / "new").iterdir())


def test_unreadable_and_unwritable_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must exist. Received: .*none.mp4"):
        list(video.read_frames(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"cannot.*ffmpeg|cannot\. Try"):
        list(video.read_frames(tmp_path / "text.mp4"))
    with pytest.raises(ValueError, match=r"\.mp4 or \.avi. Received: .*out.gif"):
        video.change_video(tmp_path / "text.mp4", tmp_path / "out.gif", lambda frame: frame)
    assert not (tmp_path / "out.gif").exists()

"""`mrcnn detect` of videos, with a model that finds the bright square and a tracker that counts."""

import json

import cv2
import numpy as np
import pytest
from command_line import image_file, run

from mrcnn.app import cli, detect_command, detect_video, video
from mrcnn.inference import tracking

SIZE = (48, 64)  # height, width


def film(path, positions=(0, 4, 8, 12)):
    """Dark frames of 48 x 64, 10 per second, with a white square of 16 px; None: without it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE[::-1])
    for x in positions:
        frame = np.zeros((*SIZE, 3), np.uint8)
        if x is not None:
            frame[16:32, x : x + 16] = 255
        writer.write(frame)
    writer.release()
    return path


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class CountingTracker:
    """Gives every detection of the n-th frame with objects the id n, but the first none."""

    def __init__(self, min_confidence, frame_rate):
        self.seen = 0
        assert (min_confidence, frame_rate) == (0.7, 10)

    def update(self, result):
        count = len(result["rois"])
        self.seen += count
        return [self.seen if self.seen > 1 else None] * count


@pytest.fixture
def tracker(monkeypatch):
    monkeypatch.setattr(tracking, "check_extra", lambda: None)
    monkeypatch.setattr(tracking, "ObjectTracker", CountingTracker)


def test_film_without_objects_is_copied(model, tmp_path, capsys):
    source, out = film(tmp_path / "in" / "dark.avi", [None, None]), tmp_path / "out"
    assert run("detect", source, "--weights", "w.h5", "--out", out) == cli.OK
    assert ": 1 video, detections.json\n" in capsys.readouterr().out
    assert [line["detections"] for line in lines_of(out / "dark_detected.jsonl")] == [[], []]
    assert len(list(video.read_frames(out / "dark_detected.mp4"))) == 2


def test_film_and_image_give_their_files(model, tmp_path, capsys):
    source, out = film(tmp_path / "in" / "a.avi"), tmp_path / "out"
    words = ["detect", source, image_file(tmp_path / "a.png"), "--weights", "w.h5", "--out", out]
    assert run(*words) == cli.OK
    shown = capsys.readouterr()
    assert ": 1 image, 1 video, detections.json\n" in shown.out
    assert "a.avi: 4 frames" in shown.err
    report = json.loads((out / "detections.json").read_text())
    assert len(report["images"]) == 1 and report["videos"] == [
        {
            "file_name": str(source),
            "video": "a_detected.mp4",
            "detections": "a_detected.jsonl",
            "width": 64,
            "height": 48,
            "frames": 4,
            "frame_rate": 10,
        }
    ]
    lines = lines_of(out / "a_detected.jsonl")
    assert [line["frame"] for line in lines] == [0, 1, 2, 3]
    assert [line["seconds"] for line in lines] == [0, 0.1, 0.2, 0.3]
    (found,) = lines[2]["detections"]
    assert found["class_name"] == "bright" and "track_id" not in found
    assert found["mask"]["size"] == [48, 64]
    y1, x1, y2, x2 = found["box"]  # the codec moves edges by a pixel or two
    assert abs(np.array([y1, x1, y2, x2]) - [16, 8, 32, 24]).max() <= 2
    (first, *_) = video.read_frames(out / "a_detected.mp4")
    assert first.shape == (48 * 12, 64 * 12, 3)  # magnified to about 768
    assert run(*words) == cli.OK  # no film is overwritten
    assert (out / "a_2_detected.mp4").exists() or (out / "a_detected_2.mp4").exists()


def test_tracked_film_has_ids_and_lower_scores(model, tracker, tmp_path, monkeypatch):
    source, out = film(tmp_path / "a.avi", [0, 4, None, 8]), tmp_path / "out"
    drawn = []
    plain = detect_video.pages.draw_result
    monkeypatch.setattr(
        detect_video.pages, "draw_result", lambda *a, **k: drawn.append(k) or plain(*a, **k)
    )
    assert run("detect", source, "--weights", "w.h5", "--out", out, "--track") == cli.OK
    assert model.floors == [tracking.LOWEST_SCORE] * 4
    assert model.config.DETECTION_MIN_CONFIDENCE == 0.7
    lines = lines_of(out / "a_detected.jsonl")
    ids = [[each["track_id"] for each in line["detections"]] for line in lines]
    assert ids == [[None], [2], [], [3]]
    assert [each["captions"] for each in drawn] == [
        ["bright 0.90"], ["#2 bright 0.90"], [], ["#3 bright 0.90"],
    ]  # fmt: skip
    assert drawn[0]["colors"] == [detect_video.NO_TRACK] != drawn[1]["colors"]
    (entry,) = json.loads((out / "detections.json").read_text())["videos"]
    assert entry["tracks"] == 2


def test_low_score_without_a_track_is_not_shown(model, tracker, tmp_path, monkeypatch):
    plain = model.detect
    monkeypatch.setattr(
        model, "detect", lambda images: [{**plain(images)[0], "scores": np.float32([0.3])}]
    )
    source, out = film(tmp_path / "a.avi", [0, 4]), tmp_path / "out"
    assert run("detect", source, "--weights", "w.h5", "--out", out, "--track") == cli.OK
    counts = [len(line["detections"]) for line in lines_of(out / "a_detected.jsonl")]
    assert counts == [0, 1]


def test_colors_without_tracking_are_those_of_the_classes(model, tmp_path):
    result = {"class_ids": [2, 1, 2]}
    first, second, third = detect_video._colors(result, ["BG", "dark", "bright"], None)
    assert first == third != second


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.png", "--track"], "--track follows objects over the frames of a video. Received: a.p"),
        (["a.avi", "--format", "coco"], "--format is for images. Received: the video a.avi"),
        (["a.avi", "--heat-map"], "--heat-map is for images."),
        (["a.avi", "--tile"], "--tile is for images. Received: the video a.avi"),
        (["a.avi", "--tile", "256"], "--tile is for images."),
    ],
)
def test_options_that_do_not_fit_exit_with_2(
    model, tracker, words, sentence, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    image_file(tmp_path / "a.png")
    film(tmp_path / "a.avi")
    assert run("detect", *words, "--weights", "w.h5", "--out", "out") == cli.USAGE
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_tracking_without_the_extra_names_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(detect_command, "load_to_detect", lambda *_: pytest.fail("too late"))
    words = ["detect", film(tmp_path / "a.avi"), "--weights", "w.h5", "--out", tmp_path / "out"]
    assert run(*words, "--track") == cli.FAILED
    assert "Try pip install 'mask-rcnn-keras3[video]'." in capsys.readouterr().err


def test_unreadable_film_is_named_and_the_others_are_processed(model, tmp_path, capsys):
    bad, good, out = tmp_path / "bad.mp4", film(tmp_path / "good.avi", [0]), tmp_path / "out"
    bad.write_text("no video")
    assert run("detect", bad, good, "--weights", "w.h5", "--out", out) == cli.FAILED
    assert f"1 of 2 images failed: {bad}" in capsys.readouterr().err
    report = json.loads((out / "detections.json").read_text())
    assert [entry["file_name"] for entry in report["videos"]] == [str(good)]
    assert "cannot open" in report["failed"][0]["error"]


def test_error_in_a_frame_leaves_no_files_of_that_film(model, tmp_path, capsys, monkeypatch):
    plain = model.detect

    def detect(images):
        if len(model.floors) == 2:
            raise RuntimeError("out of memory")
        return plain(images)

    monkeypatch.setattr(model, "detect", detect)
    out = tmp_path / "out"
    assert run("detect", film(tmp_path / "a.avi"), "--weights", "w.h5", "--out", out) == cli.FAILED
    assert [path.name for path in out.iterdir()] == ["detections.json"]
    report = json.loads((out / "detections.json").read_text())
    assert "RuntimeError: out of memory" in report["failed"][0]["error"]


def test_interrupted_film_has_the_frames_until_then(model, tmp_path, capsys, monkeypatch):
    plain = model.detect

    def detect(images):
        if len(model.floors) == 3:
            raise KeyboardInterrupt
        return plain(images)

    monkeypatch.setattr(model, "detect", detect)
    source, out = film(tmp_path / "a.avi"), tmp_path / "out"
    assert run("detect", source, "--weights", "w.h5", "--out", out) == cli.INTERRUPTED
    report = json.loads((out / "detections.json").read_text())
    assert report["partial"] and report["videos"][0]["partial"]
    assert report["videos"][0]["frames"] == len(lines_of(out / "a_detected.jsonl")) == 3
    assert len(list(video.read_frames(out / "a_detected.mp4"))) == 3

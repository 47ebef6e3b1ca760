"""`mrcnn detect`, with a model that finds the bright square."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import image_file, run
from kinds import KINDS
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.app import cli, detect_command
from mrcnn.formats import export


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_detect_writes_one_drawing_per_image_and_one_json(model, tmp_path, capsys):
    image_file(tmp_path / "in" / "b.png")
    image_file(tmp_path / "in" / "a.png", square=False)
    other = image_file(tmp_path / "b.png")
    out = tmp_path / "out"
    words = [
        "detect",
        tmp_path / "in",
        other,
        "--weights",
        "w.h5",
        "--out",
        out,
        "--min-confidence",
        0.25,
    ]
    assert run(*words) == cli.OK
    report = json.loads((out / "detections.json").read_text())
    keys = {"weights", "class_names", "min_confidence", "images"}
    has_masks, has_keypoints = model.config.has_mask_head(), model.config.has_keypoint_head()
    assert set(report) == (keys | {"keypoint_names"} if has_keypoints else keys)
    assert (report["min_confidence"], report["class_names"]) == (0.25, ["BG", "dark", "bright"])
    assert model.floors == [0.25] * 3
    empty, full, same_name = report["images"]
    assert (empty["file_name"], empty["detections"]) == (str(tmp_path / "in" / "a.png"), [])
    assert (full["file_name"], full["width"], full["height"]) == (
        str(tmp_path / "in" / "b.png"),
        40,
        30,
    )
    (found,) = full["detections"]
    keys = {"class_id", "class_name", "score", "box"}
    keys |= {"mask"} if has_masks else set()
    assert set(found) == (keys | {"keypoints"} if has_keypoints else keys)
    assert (found["class_id"], found["class_name"], found["box"]) == (2, "bright", [5, 20, 15, 30])
    assert found["score"] == pytest.approx(0.9)
    if has_masks:
        assert found["mask"]["size"] == [30, 40] and isinstance(found["mask"]["counts"], str)
        mask = coco_mask.decode(found["mask"])
        assert mask.sum() == 100 and mask[5:15, 20:30].all()
    if has_keypoints:
        assert report["keypoint_names"] == ["corner"] and found["keypoints"] == [[5, 20, 5]]
    assert full["picture"] == "b_detected.png" and same_name["picture"] == "b_2_detected.png"
    assert Image.open(out / "b_detected.png").size == (760, 570)  # magnified 19 times, to about 768
    assert sorted(p.name for p in out.iterdir()) == [
        "a_detected.png",
        "b_2_detected.png",
        "b_detected.png",
        "detections.json",
    ]


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_views_of_tta_reach_the_model_and_the_report(model, tmp_path, capsys):
    words = ["detect", image_file(tmp_path / "a.png"), "--weights", "w.h5", "--out", tmp_path / "o"]
    assert run(*words) == cli.OK
    assert model.config.TTA == ()
    assert run(*words, "--tta", "flip", "0.8", "1.2") == cli.OK
    assert model.config.TTA == ("flip", 0.8, 1.2)
    report = json.loads((tmp_path / "o" / "detections.json").read_text())
    assert report["tta"] == ["flip", 0.8, 1.2]


def test_heat_map_is_an_image_of_its_own(model, tmp_path, capsys):
    first, second = image_file(tmp_path / "in" / "a.png"), image_file(tmp_path / "a.png")
    out = tmp_path / "out"
    kept = image_file(out / "a_2_heat_map.png")  # a file of the user's
    before = kept.read_bytes()
    words = ["detect", first, second, "--weights", "w.h5", "--out", out, "--heat-map"]
    assert run(*words) == cli.OK
    entries = json.loads((out / "detections.json").read_text())["images"]
    names = [entry["heat_map"] for entry in entries]
    assert names == ["a_heat_map.png", "a_2_2_heat_map.png"]
    assert kept.read_bytes() == before
    for name in names:
        width, height = Image.open(out / name).size
        assert width == 520 and height > 390  # 13 times 40 and 30 pixels, to about 512; a title


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_every_format_can_be_written(model, tmp_path, capsys):
    files = [image_file(tmp_path / "a.png"), image_file(tmp_path / "b.png", square=False)]
    words = ["--weights", "w.h5", "--out", tmp_path / "out", "--format", *cli.FORMATS]
    assert run("detect", *files, *words) == cli.OK
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [len(entry["detections"]) for entry in report["images"]] == [1, 0]


def test_detect_writes_the_files_of_other_tools(model, tmp_path, capsys):
    assert tuple(cli.FORMATS) == tuple(export.FORMATS)
    first, second = image_file(tmp_path / "a.png"), image_file(tmp_path / "b.png", square=False)
    out = tmp_path / "out"
    words = [
        "detect",
        first,
        second,
        "--weights",
        "w.h5",
        "--out",
        out,
        "--format",
        "labelme",
        "csv",
        "geojson",
    ]
    assert run(*words) == cli.OK
    assert (
        ": 2 images, detections.json, labelme/, detections.geojson, detections.csv, counts.csv\n"
        in capsys.readouterr().out
    )
    (shape,) = json.loads((out / "labelme" / "a.json").read_text())["shapes"]
    assert sorted(shape["points"]) == [[20, 5], [20, 15], [30, 5], [30, 15]]
    assert (out / "detections.csv").read_text().splitlines()[1].endswith(",20,5,30,15,100,100")
    assert run("detect", first, "--weights", "w.h5", "--out", out, "--format", "kml") == cli.USAGE


def test_unreadable_image_is_named_and_the_others_are_processed(model, tmp_path, capsys):
    good, bad = image_file(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:60])
    missing = tmp_path / "missing.png"
    assert (
        run("detect", bad, missing, good, "--weights", "w.h5", "--out", tmp_path / "out")
        == cli.FAILED
    )
    assert (
        capsys.readouterr().err.rstrip().endswith(f"mrcnn: 2 of 3 images failed: {bad}, {missing}")
    )
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["file_name"] for entry in report["images"]] == [str(good)]


def test_any_error_of_one_image_leaves_the_others(model, tmp_path, capsys, monkeypatch):
    thin, good = tmp_path / "a.png", image_file(tmp_path / "b.png")
    Image.fromarray(np.zeros((2, 3000, 3), np.uint8)).save(thin)
    plain = model.detect

    def detect(images):
        if images[0].shape[0] == 2:
            raise cv2.error("!dsize.empty() in function 'resize'")
        return plain(images)

    monkeypatch.setattr(model, "detect", detect)
    assert run("detect", thin, good, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    shown = capsys.readouterr().err
    assert f"{thin}: error: !dsize.empty()" in shown and f"1 of 2 images failed: {thin}" in shown
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["file_name"] for entry in report["images"]] == [str(good)]


def test_folder_without_images_is_an_error(model, tmp_path, capsys):
    assert run("detect", tmp_path, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    assert "must itself hold images" in capsys.readouterr().err
    nested = tmp_path / "abc" / "images"
    nested.mkdir(parents=True)
    cv2.imwrite(str(nested / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert run("detect", tmp_path, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    assert f"Try the folders in it, as {nested}." in capsys.readouterr().err


def test_interrupted_detection_writes_the_results_so_far(model, tmp_path, capsys, monkeypatch):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        cv2.imwrite(str(file), np.full((8, 8, 3), 255, np.uint8))
    detect = model.detect

    def detect_two(images):
        if len(model.floors) == 2:
            raise KeyboardInterrupt
        return detect(images)

    monkeypatch.setattr(model, "detect", detect_two)
    out = tmp_path / "out"
    assert (
        run("detect", *files, "--weights", "w.h5", "--out", out, "--format", "csv")
        == cli.INTERRUPTED
    )
    assert "of the first 2 of 3 images" in capsys.readouterr().err
    report = json.loads((out / "detections.json").read_text())
    assert report["partial"] and [entry["file_name"] for entry in report["images"]] == [
        str(file) for file in files[:2]
    ]
    assert len((out / "detections.csv").read_text().splitlines()) == 1 + 2


def test_detect_into_the_input_folder_keeps_the_input_images(model, tmp_path, capsys):
    image_file(tmp_path / "a.png")
    image_file(tmp_path / "a_detected.png", square=False)
    before = (tmp_path / "a_detected.png").read_bytes()
    for _ in range(2):  # the drawings of the first run are no input of the second
        assert run("detect", tmp_path, "--weights", "w.h5", "--out", tmp_path) == cli.OK
        entries = json.loads((tmp_path / "detections.json").read_text())["images"]
        names = {Path(entry["file_name"]).name: entry["picture"] for entry in entries}
        assert names == {"a.png": "a_2_detected.png", "a_detected.png": "a_detected_detected.png"}
        assert (tmp_path / "a_detected.png").read_bytes() == before
    assert "skipped are 2 earlier results, 1 .json." in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_images_with_equal_names_get_different_drawings(model, tmp_path):
    files = [
        image_file(tmp_path / "x" / "a.png"),
        image_file(tmp_path / "y" / "A.png"),
        image_file(tmp_path / "z" / "a.jpg"),
    ]
    assert (
        run("detect", *files, "--weights", "w.h5", "--out", tmp_path / "out", "--format", "labelme")
        == cli.OK
    )
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert [entry["picture"] for entry in entries] == [
        "a_detected.png",
        "A_2_detected.png",
        "a_3_detected.png",
    ]
    labelme = sorted(path.name for path in (tmp_path / "out" / "labelme").iterdir())
    assert labelme == ["A_2.json", "a.json", "a_3.json"]


def test_too_long_image_name_fails_only_that_image(model, tmp_path, capsys):
    long, good = image_file(tmp_path / f"{'b' * 245}.png"), image_file(tmp_path / "c.png")
    assert run("detect", long, good, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["file_name"] for entry in report["images"]] == [str(good)]
    ((name, why),) = (entry.values() for entry in report["failed"])
    assert name == str(long) and "File name too long" in why
    assert "1 of 2 images failed" in capsys.readouterr().err


def test_full_disk_keeps_the_results_so_far(model, tmp_path, capsys, monkeypatch):
    files, plain = (
        [image_file(tmp_path / f"{name}.png") for name in "abc"],
        detect_command.save_image,
    )

    def save(image, path, **options):
        if path.name.startswith("b"):
            raise OSError("disk full")
        plain(image, path, **options)

    monkeypatch.setattr(detect_command, "save_image", save)
    assert run("detect", *files, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert report["partial"] and [entry["file_name"] for entry in report["images"]] == [
        str(files[0])
    ]
    assert capsys.readouterr().err.endswith("mrcnn: disk full\n")


def test_failed_write_keeps_the_old_results(model, tmp_path, monkeypatch):
    file, out = image_file(tmp_path / "a.png"), tmp_path / "out"
    words = ["detect", file, "--weights", "w.h5", "--out", out, "--format", "csv", "via"]
    assert run(*words) == cli.OK
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert run(*words) == cli.FAILED
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_other_files_in_a_folder_are_counted(model, tmp_path, capsys):
    image_file(tmp_path / "in" / "a.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "in" / "b.bmp")
    for name in ("c.HEIC", "d.HEIC", "e.mp4"):
        (tmp_path / "in" / name).touch()
    image_file(tmp_path / "in" / "more" / "f.png")
    assert run("detect", tmp_path / "in", "--weights", "w.h5", "--out", tmp_path / "out") == cli.OK
    shown = capsys.readouterr().err
    assert f"{tmp_path / 'in'}: 2 images; skipped are 2 .HEIC, 1 .mp4, 1 sub-folder." in shown
    names = [
        Path(e["file_name"]).name
        for e in json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    ]
    assert names == ["a.png", "b.bmp"]


def test_unexpanded_patterns_are_expanded(model, tmp_path, capsys):
    for name in ("a.png", "b.png", "c.jpg"):
        image_file(tmp_path / name)
    assert (
        run("detect", tmp_path / "*.png", "--weights", "w.h5", "--out", tmp_path / "out") == cli.OK
    )
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 2
    assert (
        run("detect", tmp_path / "*.bmp", "--weights", "w.h5", "--out", tmp_path / "out")
        == cli.FAILED
    )
    assert "A pattern must match files. Received:" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["https://example.com/a.png", "missing.png"])
def test_words_that_are_no_image_are_reported_before_a_network_is_built(
    word, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(detect_command, "load_to_detect", lambda *_: pytest.fail("too late"))
    monkeypatch.chdir(tmp_path)
    assert run("detect", word, "--weights", "w.h5", "--out", "out") == cli.FAILED
    assert (shown := capsys.readouterr().err).startswith("mrcnn: ") and word in shown
    assert not word.startswith("http") or "Try to download it first." in shown
    assert run("detect", word, "other.png", "--weights", "w.h5", "--out", "out") == cli.FAILED
    assert capsys.readouterr().err.startswith("mrcnn: None of the 2 images can be read:\n  ")
    assert not (tmp_path / "out").exists()
    assert run("check", "https://example.com/data.zip") == cli.FAILED
    assert (
        "the URL https://example.com/data.zip. Try to download it first." in capsys.readouterr().err
    )


def test_control_characters_in_names_do_not_reach_the_terminal(model, tmp_path, capsys):
    bad = tmp_path / "a\x1b[31m.png"
    bad.write_bytes(b"no image")
    good = image_file(tmp_path / "b\x07.png")
    assert (
        run("detect", bad, good, "--weights", "w.h5", "--out", tmp_path / "out\x1b[0m")
        == cli.FAILED
    )
    shown = "".join(capsys.readouterr())
    assert "a [31m.png" in shown and "b .png: 1 object" in shown
    assert not any(character in shown for character in "\x1b\x07")


def with_tiles(model):
    """Let the model detect in tiles too, as `DetectionMethods.detect_tiled`; returns the calls."""
    calls = []

    def detect_tiled(image, tile=None, overlap=None, verbose=0):
        calls.append((image.shape[:2], tile, overlap))
        assert verbose == 1  # it shows its progress on stderr
        (result,) = model.detect([image])
        if "masks" in result:
            boxes = np.concatenate([np.floor(result["rois"][:, :2]), result["rois"][:, 2:]], axis=1)
            corners = np.ceil(boxes).astype(int)
            masks = enumerate(corners)
            result["masks"] = [result["masks"][y1:y2, x1:x2, i] for i, (y1, x1, y2, x2) in masks]
        return result

    model.detect_tiled = detect_tiled
    return calls


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_tiles_find_and_write_what_a_whole_image_does(model, tmp_path):
    files = [image_file(tmp_path / "a.png"), image_file(tmp_path / "b.png", square=False)]
    calls = with_tiles(model)
    words = ["detect", *files, "--weights", "w.h5", "--format", *cli.FORMATS]
    assert run(*words, "--out", tmp_path / "whole") == cli.OK
    assert run(*words, "--out", tmp_path / "tiles", "--tile", 32, "--overlap", 10) == cli.OK
    assert calls == [((30, 40), 32, 10)] * 2
    reports = []
    for folder in ("whole", "tiles"):
        reports.append(json.loads((tmp_path / folder / "detections.json").read_text()))
    assert (reports[1].pop("tile"), reports[1].pop("overlap")) == (32, 10)
    assert reports[0] == reports[1]
    names = sorted(path.relative_to(tmp_path / "whole") for path in tmp_path.glob("whole/**/*.*"))
    assert len(names) > len(cli.FORMATS)
    for name in names:
        whole, tiles = (tmp_path / folder / name for folder in ("whole", "tiles"))
        if name.suffix == ".png":
            pixels = [np.asarray(Image.open(path)).astype(int) for path in (whole, tiles)]
            assert np.abs(pixels[0] - pixels[1]).max() <= 1  # the tint is rounded differently
        elif name.name != "detections.json":
            assert tiles.read_bytes() == whole.read_bytes(), name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tile", 39], [((30, 40), 39, 9)]),
        (["--tile", 40], []),  # the image fits into one tile
        (["--tile"], [((30, 40), 36, 9)]),
        (["--tile", "--overlap", 12], [((30, 40), 36, 12)]),
    ],
)
def test_size_and_overlap_of_tiles(model, tmp_path, words, expected):
    model.config.IMAGE_MAX_DIM = 36
    calls = with_tiles(model)
    file = image_file(tmp_path / "a.png")
    assert run("detect", file, *words, "--weights", "w.h5", "--out", tmp_path / "out") == cli.OK
    assert calls == expected
    (entry,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert len(entry["detections"]) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--overlap", 5], "Received: --overlap 5, and no --tile. Try --tile too."),
        (["--tile", 32, "--overlap", 32], "Received: 32, and tiles of 32 pixels. Try --overlap 8"),
        (["--tile", "--overlap", 36], "Received: 36, and tiles of 36 pixels. Try --overlap 9"),
        (["--tile", 32, "--heat-map"], "Try one of the two."),
        (["--tile", 32, "--runtime", "onnxruntime"], "Received: --runtime onnxruntime. Try the"),
        (["--tile", 32, "--weights", "w.onnx"], "Received: w.onnx. Try the .h5 file"),
        (["--tile", 0], "must be a whole number of at least 1. Received: '0'"),
    ],
)
def test_tiles_that_cannot_be_are_refused(model, tmp_path, capsys, words, sentence):
    model.config.IMAGE_MAX_DIM = 36
    with_tiles(model)
    file = image_file(tmp_path / "a.png")
    first = ["detect", file, "--weights", "w.h5", "--out", tmp_path / "out"]
    assert run(*first, *words) == cli.USAGE
    assert sentence in capsys.readouterr().err


def test_image_with_as_many_objects_as_allowed_is_named(model, tmp_path, capsys):
    full, empty = image_file(tmp_path / "a.png"), image_file(tmp_path / "b.png", square=False)
    words = ["detect", full, empty, "--weights", "w.h5", "--out", tmp_path / "out"]
    assert run(*words) == cli.OK
    assert "DETECTION_MAX_INSTANCES" not in capsys.readouterr().err
    model.config.DETECTION_MAX_INSTANCES = 1
    assert run(*words) == cli.OK
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "MAX_INSTANCES" in line]
    assert line == (
        f"warning: {full}: 1 object, as many as DETECTION_MAX_INSTANCES allows: "
        "--config DETECTION_MAX_INSTANCES=2 may find more."
    )
    with_tiles(model)  # which warns itself
    assert run(*words, "--tile", 32) == cli.OK
    assert "MAX_INSTANCES" not in capsys.readouterr().err

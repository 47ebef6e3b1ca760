"""`mrcnn evaluate`, with a model that finds the bright square."""

import json

import numpy as np
import pytest
from command_line import image_file, run, via_file
from kinds import KINDS
from PIL import Image

from mrcnn.app import cli


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_evaluate_prints_the_table_and_writes_the_metrics(model, tmp_path, capsys):
    folder = via_file(tmp_path / "val", ["bright"], count=3)
    image = np.zeros((64, 64, 3), np.uint8)
    image[3:6, 2:6] = 255  # the rectangle of the ground truth: x 2, y 3, 4 wide, 3 high
    for i in (0, 1, 2):
        Image.fromarray(image).save(folder / f"{i}.png")
    out = tmp_path / "out"
    words = ["evaluate", folder, "--weights", "w.h5", "--limit", 2, "--out", out, "--pictures"]
    assert run(*words) == cli.OK
    assert "2 images, 2 objects, 2 detections at confidence >= 0.05" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["box"]["AP"] == pytest.approx(1)
    has_masks = model.config.has_mask_head()
    assert metrics["mask"]["AP"] == pytest.approx(1) if has_masks else metrics["mask"] is None
    assert (metrics["data"], metrics["weights"], metrics["images"]) == (str(folder), "w.h5", 2)
    assert model.floors == [0.05, 0.05]
    assert sorted(p.name for p in out.iterdir()) == [
        "0000_0.png",
        "0001_1.png",
        "confusion_matrix.png",
        "metrics.json",
        "precision_recall.png",
        "record_mAP.txt",
    ]
    # detect() answers with scores of 0.9 in float32, a trifle below 0.9
    assert metrics["confidence"] == {
        "score": float(np.float32(0.9)),
        "f1": 1,
        "precision": 1,
        "recall": 1,
    }
    assert metrics["confusion"] == [[0, 0, 0], [0, 2, 0], [0, 0, 0]] and metrics["voc"] is None
    assert (
        (out / "record_mAP.txt")
        .read_text()
        .startswith(f"w.h5 on {folder}, the first 2 of 3 images\n")
    )


def test_views_of_tta_are_in_the_metrics(model, tmp_path, capsys):
    folder, out = via_file(tmp_path / "val", ["bright"]), tmp_path / "out"
    words = ["evaluate", folder, "--weights", "w.h5", "--out", out]
    assert run(*words, "--tta", "1.5") == cli.OK
    assert json.loads((out / "metrics.json").read_text())["tta"] == [1.5]
    model.config.RPN_ONLY = True
    assert run(*words, "--tta", "flip") == cli.USAGE
    assert (
        "TTA merges boxes with their classes, so RPN_ONLY must be False" in capsys.readouterr().err
    )


def test_interrupted_evaluation_writes_partial_metrics(model, tmp_path, capsys, monkeypatch):
    folder, out = via_file(tmp_path / "val", ["bright"], count=4), tmp_path / "out"
    plain, calls = model.detect, []

    def detect(images, masks):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(images, masks)

    monkeypatch.setattr(model, "detect", detect)
    words = ["evaluate", folder, "--weights", "w.h5", "--limit", 3, "--out", out]
    assert run(*words) == cli.INTERRUPTED
    shown = capsys.readouterr()
    assert "Evaluating the first 3 of 4 images." in shown.err and shown.err.endswith(
        "mrcnn: interrupted\n"
    )
    assert shown.out.startswith("PARTIAL: interrupted after 2 of 3 images.\n")
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["images"], metrics["partial_of"], metrics["objects"]) == (2, 3, 2)
    record = (out / "record_mAP.txt").read_text()
    assert record.startswith(
        f"w.h5 on {folder}, the first 3 of 4 images\n\nPARTIAL: interrupted after 2 of 3 "
    )


def test_evaluate_refuses_data_with_other_classes(model, tmp_path, capsys):
    assert run("evaluate", "shapes", "--weights", "w.h5", "--out", tmp_path) == cli.FAILED
    assert "classes of shapes must be ['dark', 'bright']" in capsys.readouterr().err


def test_region_proposal_network_is_evaluated_by_its_recall(model, tmp_path, capsys, monkeypatch):
    model.config.RPN_ONLY, model.config.NUM_CLASSES = True, 2
    model.class_names = ["BG", "bright"]
    proposals = {
        "rois": np.array([[3, 2, 6, 6]]),
        "scores": np.array([0.9]),
    }  # the rectangle of the ground truth
    monkeypatch.setattr(model, "detect", lambda images: [proposals])
    folder, out = via_file(tmp_path / "val", ["bright"], count=2), tmp_path / "out"
    assert (
        run("evaluate", folder, "--weights", "w.h5", "--out", out, "--pictures", "--limit", 1)
        == cli.OK
    )
    shown = capsys.readouterr()
    assert "1 images, 1 objects" in shown.out and "    1,000  1.000   1.000    1.000" in shown.out
    assert "no images" in shown.err
    assert json.loads((out / "metrics.json").read_text())["proposal_recall"]["100"]["AR"] == 1.0
    assert (
        run("detect", image_file(tmp_path / "a.png"), "--weights", "w.h5", "--out", out)
        == cli.FAILED
    )
    assert "needs a network that knows classes" in capsys.readouterr().err


def test_model_without_masks_detects_and_is_evaluated(model, tmp_path, capsys, monkeypatch):
    detect = model.detect

    def without(images, **_):
        return [{k: v for k, v in r.items() if k != "masks"} for r in detect(images)]

    monkeypatch.setattr(model, "detect", without)
    words = ["--weights", "w.h5", "--out", tmp_path / "out"]
    assert run("detect", image_file(tmp_path / "a.png"), *words, "--format", *cli.FORMATS) == cli.OK
    (found,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"][0][
        "detections"
    ]
    assert set(found) == {"class_id", "class_name", "score", "box"} and found["box"] == [
        5,
        20,
        15,
        30,
    ]
    folder = via_file(tmp_path / "val", ["bright"], count=1)
    model.class_names = ["BG", "bright"]
    model.config.NUM_CLASSES = 2
    assert run("evaluate", folder, *words, "--pictures") == cli.OK
    assert (metrics := json.loads((tmp_path / "out" / "metrics.json").read_text()))["mask"] is None
    assert metrics["box"]["AP"] == 0  # nothing bright in it
    assert "1 images (" in capsys.readouterr().out


def test_unreadable_image_does_not_end_an_evaluation(model, tmp_path, capsys):
    folder, out = via_file(tmp_path / "val", ["bright"], count=3), tmp_path / "out"
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:60])
    words = ["evaluate", folder, "--weights", "w.h5", "--out", out, "--pictures"]
    assert run(*words) == cli.FAILED
    shown = capsys.readouterr()
    assert shown.err.endswith(f"mrcnn: 1 of 3 images failed: {folder / '1.png'}\n")
    assert (
        "2 images, 2 objects" in shown.out
        and "Not counted: 1 image that could not be used" in shown.out
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["images"], metrics["failed"][0]["image"]) == (2, str(folder / "1.png"))
    assert sorted(path.name for path in out.glob("0*.png")) == ["0000_0.png", "0002_2.png"]


def test_detected_float_boxes_keep_hundredths_of_a_pixel(model, tmp_path, monkeypatch):
    detect = model.detect

    def floats(images, **_):
        return [{**r, "rois": np.float32(r["rois"]) + np.float32(0.126)} for r in detect(images)]

    monkeypatch.setattr(model, "detect", floats)
    words = ["--weights", "w.h5", "--out", tmp_path / "out"]
    assert run("detect", image_file(tmp_path / "a.png"), *words, "--format", *cli.FORMATS) == cli.OK
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    (found,) = report["images"][0]["detections"]
    assert found["box"] == [5.13, 20.13, 15.13, 30.13]

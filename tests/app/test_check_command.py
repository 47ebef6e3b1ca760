"""`mrcnn check`: its output, files and exit codes."""

import json
import logging
import shutil

import numpy as np
import pytest
from checked import GREY
from PIL import Image

from mrcnn.app import cli, cli_support


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A COCO file of two images, 64 x 64 px: a square of 16 px in the first only."""
    log = logging.getLogger("mrcnn")
    before = log.handlers, log.level, log.propagate
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 64, "width": 64} for i in (5, 6)],
        "annotations": [
            {
                "id": 1,
                "image_id": 5,
                "category_id": 3,
                "segmentation": [[8, 8, 24, 8, 24, 24, 8, 24]],
            }
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    for i in (5, 6):
        Image.fromarray(GREY).save(tmp_path / f"{i}.png")
    yield tmp_path
    log.handlers, log.level, log.propagate = before


SMALL = ["--config", "IMAGE_MIN_DIM=64", "IMAGE_MAX_DIM=64", "RPN_ANCHOR_SCALES=[16,24,32,48,64]"]


def run(*words):
    return cli.main(["check", *map(str, words)])


def test_check_prints_its_report_and_writes_json_and_contact_sheet(folder, capsys):
    out = folder / "out"
    assert run(folder, *SMALL, "--out", out) == cli.OK
    printed = capsys.readouterr().out
    assert "2 images, 1 object" in printed and "No faults were found" in printed
    content = json.loads((out / "check.json").read_text())
    assert (content["data"], content["errors"], content["counts"]) == (str(folder), 0, {"cat": 1})
    sheet = np.asarray(Image.open(out / "contact_sheet.png"))
    assert sheet.shape[1] == 480 + 8 + 480  # two panes of 480 px and the gap
    assert (sheet != 128).any(axis=2)[-300:, :300].any()  # the square is drawn on the gray
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "contact_sheet.png"]


def test_check_without_settings_takes_those_of_a_training_here(folder, capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)  # no GPU
    assert run(folder) == cli.OK
    printed = capsys.readouterr().out
    assert "without a GPU: PRESET=lite, images of 256 px" in printed
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert run(folder) == cli.OK
    assert "PRESET=lite" not in capsys.readouterr().out


def test_data_that_cannot_be_opened_leaves_no_folder(tmp_path, capsys):
    assert run(tmp_path / "missing", "--out", tmp_path / "out") == cli.FAILED
    assert "DATA must exist" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_errors_exit_with_1_and_warnings_with_0(folder, capsys):
    content = json.loads((folder / "instances.json").read_text())
    content["annotations"].append(
        {
            "id": 2,
            "image_id": 5,
            "category_id": 3,
            "segmentation": [[32, 32, 56, 32, 56, 56, 32, 56]],
        }
    )
    (folder / "instances.json").write_text(json.dumps(content))
    assert run(folder, *SMALL, "MAX_GT_INSTANCES=1") == cli.OK
    assert "warning: Images of more objects than MAX_GT_INSTANCES" in capsys.readouterr().out
    (folder / "6.png").write_bytes(b"no image")
    assert run(folder, *SMALL, "--out", folder / "out") == cli.FAILED
    assert "error: Images that cannot be read: 1" in capsys.readouterr().out
    assert run(folder, *SMALL, "--limit", 1) == cli.OK
    assert run(folder, *SMALL, "NUM_CLASSES=9") == cli.FAILED
    assert "NUM_CLASSES is 9, and the dataset has 2 classes" in capsys.readouterr().out


def test_annotations_are_checked_without_their_images(folder, capsys):
    for i in (5, 6):
        (folder / f"{i}.png").unlink()
    assert run(folder, *SMALL, "--no-pixels", "--out", folder / "out") == cli.OK
    assert "2 images, 1 object" in capsys.readouterr().out
    assert (folder / "out" / "contact_sheet.png").is_file()
    assert run(folder, *SMALL, "--out", folder / "none") == cli.FAILED  # no image to draw on
    assert [path.name for path in (folder / "none").iterdir()] == ["check.json"]


def test_invalid_setting_is_a_usage_error(folder, capsys):
    assert run(folder, "--config", "IMAGE_MAX_DIM=100") == cli.USAGE
    assert "multiples of 64" in capsys.readouterr().err


def test_check_reports_on_train_and_val(folder, capsys, tmp_path_factory):
    both, out = tmp_path_factory.mktemp("both"), tmp_path_factory.mktemp("out")
    for part in ("train", "val"):
        shutil.copytree(folder, both / part)
    code = cli.main(["check", str(both), "--out", str(out)])
    assert code == cli.main(["check", str(folder)])
    told = capsys.readouterr().out
    assert f"--- {both / 'train'}\n" in told and f"--- {both / 'val'}\n" in told
    (both / "val").rename(both / "valid")
    assert cli.main(["check", str(both), "--out", str(out)]) == code
    (both / "valid").rename(both / "val")
    assert json.loads((out / "val" / "check.json").read_text())["data"] == str(both / "valid")
    assert cli.main(["check", str(both), "--out", str(out)]) == code
    for part in ("train", "val"):
        assert json.loads((out / part / "check.json").read_text())["data"] == str(both / part)


def test_check_refuses_the_settings_that_train_refuses(folder, capsys, tmp_path):
    said = []
    for command in (["check"], ["train", "--logs", str(tmp_path / "logs")]):
        assert (
            cli.main([*command, str(folder), "--config", "IMAGE_MAX_DIM=100"]) == cli_support.USAGE
        )
        said.append(capsys.readouterr().err.splitlines()[-1].split(" See mrcnn")[0])
    assert said[0] == said[1]


def test_check_passes_strict_and_images_to_the_reader(monkeypatch, tmp_path, capsys):
    calls = []
    photos = str(tmp_path)

    def open_dataset(path, class_names=None, **options):
        calls.append(options)
        raise ValueError("enough")

    monkeypatch.setattr("mrcnn.formats.open_dataset.open_dataset", open_dataset)
    assert (
        cli.main(["check", "x", "--strict", "--images", photos])
        == cli.main(["check", "x"])
        == cli_support.FAILED
    )
    assert calls == [{"strict": True, "images_dir": photos}, {"strict": False, "images_dir": None}]
    assert cli.main(["check", "x", "--images", str(tmp_path / "elsewhere")]) == cli_support.FAILED
    assert "--images must be a folder. Received: " in capsys.readouterr().err and len(calls) == 2

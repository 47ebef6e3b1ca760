"""--split, --overfit and `mrcnn split`: which images are trained on, and what is stored."""

import json
import logging
from types import SimpleNamespace

import pytest
from command_line import no_tensorflow, run, via_file

from mrcnn.app import cli
from mrcnn.app.cli_support import UsageError
from mrcnn.app.split_option import divide_data
from mrcnn.config import Config
from mrcnn.data.shapes import ShapesDataset
from mrcnn.data.split import image_names
from mrcnn.formats.open_dataset import open_dataset


class OneClass(ShapesDataset):
    """Squares only, so that shares are exact."""

    CLASSES = ("square",)


@pytest.fixture
def divided(caplog):
    """Divide a dataset as options say; defaults are those of the command."""

    def divide(dataset, validation=None, config=None, name="run", **options):
        args = SimpleNamespace(
            split=None,
            split_by="names",
            split_seed=0,
            overfit=None,
            weights=None,
            logs="nowhere",
        )
        vars(args).update(options)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="mrcnn"):
            return divide_data(dataset, validation, config or Config(), args, name)

    return divide


def counts(data):
    return len(data.train.image_ids), len(data.validation.image_ids)


def test_data_of_few_images_is_not_split_without_the_option(divided, caplog):
    data = divided(OneClass(9))
    assert data.validation is None and data.split is None
    assert "No validation data. Try --val, --split" in caplog.text


def test_data_without_validation_data_is_split_by_default(divided, caplog):
    data = divided(OneClass(10))
    assert counts(data) == (8, 2)
    assert "some images of DATA are set aside (--split off: none)" in caplog.text
    assert "8 images to train on, 2 to validate on (share 0.8, seed 0)" in caplog.text
    assert divided(OneClass(10), split=0.0).validation is None


def test_share_that_classes_decide_is_explained(divided, caplog):
    divided(OneClass(20), split=0.8)
    assert "The share is" not in caplog.text
    divided(OneClass(3), split=0.99)  # one of three images is needed to validate
    assert "The share is 0.67, so that rare classes are in both parts" in caplog.text


def test_validation_data_of_the_user_stays(divided):
    validation = OneClass(3)
    data = divided(OneClass(20), validation)
    assert data.validation is validation and len(data.train.image_ids) == 20
    with pytest.raises(UsageError, match="--split divides data without validation data"):
        divided(OneClass(20), validation, split=0.5)


def test_share_and_seed(divided):
    first, second = (divided(OneClass(20), split=0.5, split_seed=seed) for seed in (0, 1))
    assert counts(first) == counts(second) == (10, 10)
    assert first.split != second.split
    with pytest.raises(UsageError, match="at least two images. Received: 1"):
        divided(OneClass(1), split=0.5)


def test_stored_split_is_that_of_the_resumed_run(divided, tmp_path, caplog):
    first = divided(OneClass(20), split=0.5, split_seed=4)
    folder = tmp_path / "run20260101T0000"
    folder.mkdir()
    first.write(folder)
    assert json.loads((folder / "split.json").read_text())["seed"] == 4
    checkpoint = folder / "mask_rcnn_run_0001.h5"
    checkpoint.write_bytes(b"")
    for weights in ("last", str(checkpoint)):
        again = divided(OneClass(20), weights=weights, logs=str(tmp_path))
        assert again.split == first.split and "split.json lists the images" in caplog.text
    # The same command as before, with --weights last.
    for same in (0.5, str(folder), str(folder / "split.json")):
        again = divided(OneClass(20), weights="last", logs=str(tmp_path), split=same)
        assert again.split == first.split
    divided(OneClass(20), split=0.8).write(tmp_path)
    for other in ({"split": 0.8}, {"split": 0.0}, {"split": str(tmp_path)}, {"overfit": 2}):
        with pytest.raises(UsageError, match="has the split of its run"):
            divided(OneClass(20), weights="last", logs=str(tmp_path), **other)
    # More images than before: those of the split stay where they were.
    grown = divided(OneClass(25), weights="last", logs=str(tmp_path))
    assert counts(grown) == (10, 10) and "5 images of the data are in neither part" in caplog.text


def test_resumed_run_without_a_split_is_not_split(divided, tmp_path):
    folder = tmp_path / "run20260101T0000"
    folder.mkdir()
    (folder / "mask_rcnn_run_0001.h5").write_bytes(b"")
    assert divided(OneClass(20), weights="last", logs=str(tmp_path)).validation is None


def test_weights_of_a_run_on_other_data_do_not_bring_its_split(divided, tmp_path, caplog):
    folder = via_file(tmp_path / "data", ["cat"], count=10)
    divided(open_dataset(folder), split=0.5).write(tmp_path)
    (tmp_path / "w.h5").write_bytes(b"")
    data = divided(OneClass(30), weights=str(tmp_path / "w.h5"), split=0.5)
    # Names of both are numbers: 0 to 29, and 0.png to 9.png
    assert counts(data) == (15, 15) and "is the split of other data" in caplog.text


def test_overfitting_trains_and_validates_on_the_same_images(divided, caplog, tmp_path):
    data = divided(OneClass(20), OneClass(5), overfit=3)
    assert counts(data) == (3, 3)
    assert image_names(data.train) == image_names(data.validation)
    assert "Overfitting: 3 images, without augmentation" in caplog.text
    assert divided(OneClass(20), overfit=3).split == data.split
    folder = tmp_path / "run20260101T0000"
    folder.mkdir()
    (folder / "mask_rcnn_run_0001.h5").write_bytes(b"")
    data.write(folder)
    for same in (3, None):
        again = divided(OneClass(20), weights="last", logs=str(tmp_path), overfit=same)
        assert again.split == data.split
    assert counts(divided(OneClass(2), overfit=3)) == (2, 2)
    with pytest.raises(UsageError, match="Try one of them"):
        divided(OneClass(20), overfit=3, split=0.5)


# --- The command ---


def test_split_command_writes_files_that_train_and_evaluate_take(tmp_path, capsys, model):
    data = via_file(tmp_path / "data", ["bright"], count=10)
    out = tmp_path / "out"
    assert run("split", data, "--out", out, "--share", 0.7) == cli.OK
    shown = capsys.readouterr()
    assert "7 images to train on, 3 to validate on: split.json, train.txt, val.txt" in shown.out
    assert f"Next: mrcnn train {data} --split {out / 'split.json'}" in shown.err
    words = ["--weights", "w.h5", "--out", tmp_path / "measured", "--split", out]
    assert run("evaluate", data, *words) == cli.OK
    assert "3 images, 3 objects" in capsys.readouterr().out


def test_split_command_needs_image_files(tmp_path, capsys):
    assert run("split", "shapes", "--out", tmp_path) == cli.USAGE
    assert "DATA must be at least two image files" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["0", "1", "1.5", "nowhere.json"])
def test_wrong_share_is_a_usage_error(word, tmp_path, capsys, monkeypatch):
    no_tensorflow(monkeypatch)
    assert run("train", "shapes", "--split", word) == cli.USAGE
    assert "must be a number between 0 and 1, off, or a file" in capsys.readouterr().err

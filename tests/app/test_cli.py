"""The command: what it imports, its exit codes, its files and its sentences."""

import importlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn import __version__
from mrcnn.app import cli, doctor
from mrcnn.app import cli_support as session
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.evaluation.evaluate import mask_to_rle
from mrcnn.formats import export
from mrcnn.formats.datasets import ShapesDataset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def same_log_and_environment(monkeypatch):
    """The command configures logging and the environment of its own process: put both back."""
    log = logging.getLogger("mrcnn")
    before = log.handlers, log.level, log.propagate
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    log.handlers, log.level, log.propagate = before


def run(*words):
    """The exit code of the command in this process."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code


# --- What it imports, and how it ends ----------------------------------------------------------------------------


def test_help_version_and_typing_errors_import_nothing_slow():
    script = """
import contextlib, io, sys
from mrcnn.app import cli
codes = []
for words in (["--help"], ["--version"], ["train", "--help"], ["detect"], ["train", "x", "--epochs", "0"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            codes.append(cli.main(words))
        except SystemExit as stop:
            codes.append(stop.code)
print(codes, [name for name in ("tensorflow", "keras", "cv2", "numpy", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[0, 0, 0, 2, 2] []"


def test_python_m_mrcnn_tells_the_version():
    done = subprocess.run(
        [sys.executable, "-m", "mrcnn", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f"mrcnn {__version__}\n")


@pytest.mark.parametrize("command", ["demo", "check", "train", "detect", "evaluate", "doctor"])
def test_every_command_has_a_help(command, capsys):
    assert run(command, "--help") == cli.OK
    assert f"usage: mrcnn {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["detect", "a.jpg", "--out", "x"], "required: --weights"),
        (["detect", "a.jpg", "--weights", "w.h5"], "required: --out"),
        (["train", "x", "--epochs", "0"], "must be a whole number of at least 1. Received: '0'"),
        (
            ["train", "x", "--learning-rate", "nan"],
            "must be a number of at least 0. Received: 'nan'",
        ),
        (["train", "x", "--augment", "flop"], "invalid choice: 'flop'"),
        (
            ["evaluate", "x", "--weights", "w.h5", "--min-confidence", "5"],
            "must be a number from 0 to 1",
        ),
        (["demo", "--seed", "-1"], "must be a whole number from 0"),
    ],
)
def test_a_wrong_call_is_2(words, sentence, capsys):
    assert run(*words) == cli.USAGE
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("DATA must exist."), cli.FAILED, "mrcnn: DATA must exist.\n"),
        (OSError("disk full"), cli.FAILED, "mrcnn: disk full\n"),
        (
            ImportError("No module named 'x'."),
            cli.FAILED,
            "mrcnn: No module named 'x'. Try `mrcnn doctor`",
        ),
        (
            TypeError("odd\nvery odd"),
            cli.FAILED,
            "mrcnn: TypeError: odd (with MRCNN_DEBUG=1 in the environment it shows where)\n",
        ),
        (
            session.UsageError("No such NAME."),
            cli.USAGE,
            "mrcnn: No such NAME. See mrcnn doctor --help.\n",
        ),
        (KeyboardInterrupt(), cli.INTERRUPTED, "mrcnn: interrupted\n"),
    ],
)
def test_errors_become_a_sentence_and_an_exit_code(error, code, sentence, monkeypatch, capsys):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "examine", fail)
    assert run("doctor") == code
    stderr = capsys.readouterr().err
    assert stderr.startswith(sentence)
    assert "Traceback" not in stderr


def test_alone_it_shows_its_commands(capsys):
    assert run() == cli.USAGE
    assert "mrcnn" in (shown := capsys.readouterr().err) and all(
        name in shown for name in ("demo", "train", "detect")
    )


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out"],
        ["check", "shapes", "--out"],
        ["train", "shapes", "--logs"],
        ["detect", "photo.png", "--weights", "x.h5", "--out"],
        ["evaluate", "shapes", "--weights", "x.h5", "--out"],
    ],
)
def test_a_folder_that_takes_no_files_is_a_wrong_call(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    taken = tmp_path / "taken"
    taken.write_text("a file")
    photo(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    for path, why in ((taken, "File exists"), (taken / "x", "Not a directory")):
        assert run(*words, path) == cli.USAGE
        told = (
            f"mrcnn: {words[-1]} must be a folder that can be written to. Received: {path} ({why})."
        )
        assert told in capsys.readouterr().err


def test_a_folder_without_leave_to_write_is_refused(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        cli.tempfile, "TemporaryFile", refuse
    )  # tests may run as root, whom nothing is refused
    with pytest.raises(session.UsageError, match="--out must be a folder.*Permission denied"):
        cli._make_folder(tmp_path / "new", "--out")


@pytest.mark.parametrize(("words", "environment"), [(["--debug"], "0"), ([], "1")])
def test_debugging_shows_the_traceback(words, environment, monkeypatch):
    def fail():
        raise ValueError("with a traceback")

    monkeypatch.setattr(doctor, "examine", fail)
    os.environ["MRCNN_DEBUG"] = environment
    with pytest.raises(ValueError, match="with a traceback"):
        cli.main(["doctor", *words])


def test_the_names_of_augmentations_are_those_of_their_room():
    assert set(cli.AUGMENTATIONS) == set(augment.AUGMENTATIONS)


def test_demo_hands_its_options_on_and_prints_the_metrics(monkeypatch, tmp_path, capsys):
    calls = []

    def stub(out, seed, short, config):
        calls.append((out, seed, short, config.USE_MASK))
        return {"box_ap": 0.81234, "images": 100}

    monkeypatch.setattr(cli, "load_tensorflow", lambda: None)
    room = SimpleNamespace(run=stub, DemoConfig=lambda: session.read_config(["NUM_CLASSES=4"]))
    monkeypatch.setitem(sys.modules, "mrcnn.app.demo", room)
    monkeypatch.setattr("mrcnn.app.demo", room, raising=False)
    assert (
        run("demo", "--out", tmp_path, "--seed", 7, "--short", "--config", "USE_MASK=False")
        == cli.OK
    )
    assert calls == [(str(tmp_path), 7, True, False)]
    printed = capsys.readouterr().out.split()
    assert printed[:4] == ["box_ap", "0.812", "images", "100"]


# --- Settings -----------------------------------------------------------------------------------------------------


def test_settings_follow_from_the_data_unless_chosen(tmp_path):
    args = SimpleNamespace(
        data=str(tmp_path / "my photos-2" / "train"), seed=9, learning_rate=0.5, gpus=2, epochs=20
    )
    train, val = ShapesDataset(9), ShapesDataset(5)

    config = session.read_config(["IMAGES_PER_GPU=2"])
    cli._fit_config(config, args, train, val)
    assert config.NAME == "myphotos2"  # of the folder above train
    assert config.NUM_CLASSES == 4
    assert config.STEPS_PER_EPOCH == 3  # 9 images / (2 on each of 2 GPUs), rounded up
    assert config.VALIDATION_STEPS == 2  # 5 images / 4, rounded up
    assert config.WARMUP_STEPS == 6  # a tenth of 20 epochs of 3 steps
    assert (config.SEED, config.LEARNING_RATE, config.GPU_COUNT) == (9, 0.5, 2)

    config = session.read_config(["NAME=mine", "STEPS_PER_EPOCH=7", "VALIDATION_STEPS=1"])
    cli._fit_config(config, args, train, None)
    assert (config.NAME, config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == ("mine", 7, 1)


def test_a_setting_that_builds_no_network_is_a_usage_error(capsys):
    assert run("train", "shapes", "--config", "IMAGE_MAX_DIM=100") == cli.USAGE
    assert "multiples of 64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--layers", "nonsense"], "Received: nonsense, which matches none. Try heads."),
        (["--layers", "res5"], "a regex that matches a layer's whole name. Received: res5"),
        (["--layers", "(res5"], "Received: (res5, which is no regex ("),
        (
            ["--config", "NUM_CLASSES=5"],
            "1 (background) + the classes of DATA, 4. Received: 5. Try to leave it out",
        ),
        (["--config", "NUM_CLASSES=1"], "NUM_CLASSES must count the background"),
        (
            ["--config", "STEPS_PER_EPOCH=0"],
            "STEPS_PER_EPOCH must be at least 1, a whole number. Received: 0",
        ),
        (
            ["--config", "IMAGES_PER_GPU=0"],
            "IMAGES_PER_GPU must be at least 1, a whole number. Received: 0",
        ),
    ],
)
def test_what_fits_no_network_or_data_is_told_before_one_is_built(
    words, sentence, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    assert run("train", "shapes", "--logs", tmp_path, *words) == cli.USAGE
    assert sentence in capsys.readouterr().err


def test_the_names_of_layers_are_those_of_the_networks():
    import keras
    from tiny import TinyConfig

    from mrcnn.model import MaskRCNN, mobilenet_v2_graph, resnet_graph

    image = keras.Input([64, 64, 3])
    outputs = [*resnet_graph(image, "resnet101", stage5=True), *mobilenet_v2_graph(image, Config())]
    real = {layer.name for layer in keras.Model(image, outputs).layers if layer.weights}
    tiny = MaskRCNN("inference", TinyConfig(MASK_SHAPE=[112, 112])).get_trainable_layers()
    leaves = [leaf for layer in tiny for leaf in getattr(layer, "layers", [layer]) if leaf.weights]
    real |= {leaf.name for leaf in leaves if leaf.name.startswith(("fpn_", "rpn_", "mrcnn_"))}
    assert len(real) > 300
    assert real - set(cli.layer_names()) == set()
    for words in ("heads", "all", "3+", "res5.*", "fpn_p2", "mrcnn_mask_deconv3|nothing"):
        cli._check_layers(words)


# --- Data ---------------------------------------------------------------------------------------------------------


def via_file(folder, names, count=1):
    """A folder of `count` grey images with a VIA file: in each image a 4 x 3 rectangle of every class."""
    folder.mkdir(parents=True)
    entries = {}
    for i in range(count):
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / f"{i}.png")
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": 2, "y": 3, "width": 4, "height": 3},
                "region_attributes": {"kind": name},
            }
            for name in names
        ]
        entries[f"{i}"] = {"filename": f"{i}.png", "regions": regions}
    (folder / "via_region_data.json").write_text(json.dumps(entries))
    return folder


def test_validation_classes_follow_the_training_classes(tmp_path, caplog):
    via_file(tmp_path / "train", ["cat", "dog", "dog"], count=2)
    via_file(tmp_path / "val", ["dog"])
    with caplog.at_level("INFO", logger="mrcnn"):
        train, val = cli._open_training_data(str(tmp_path), None)
    assert train.class_names == val.class_names == ["BG", "cat", "dog"]
    assert val.load_mask(0)[1].tolist() == [2]  # alone in its file, yet still class 2
    assert "Found data to train on in" in caplog.text
    assert "VIADataset, 2 images, 2 classes (and their objects): cat 2, dog 4" in caplog.text


def test_validation_on_the_training_images_is_warned_of(tmp_path, caplog):
    via_file(tmp_path / "train", ["cat"], count=3)
    cli._open_training_data(str(tmp_path / "train"), str(tmp_path / "train" / ".." / "train"))
    assert "3 of 3 validation images are among the training images" in caplog.text
    caplog.clear()
    via_file(tmp_path / "val", ["cat"])
    cli._open_training_data(str(tmp_path / "train"), str(tmp_path / "val"))
    assert "are among the training images" not in caplog.text


def test_other_classes_than_asked_for_are_an_error(tmp_path):
    with pytest.raises(
        ValueError, match=r"classes of shapes must be \['cat'\]\. Received: \['square'"
    ):
        cli.open_data("shapes", ["BG", "cat"])
    folder = via_file(tmp_path / "val", ["eel"])
    with pytest.raises(ValueError, match=r"must be among \['cat', 'dog'\]\. Received: \['eel'\]"):
        cli.open_data(str(folder), ["BG", "cat", "dog"])


def test_one_class_takes_the_name_it_had_in_training(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "x" / part).mkdir(parents=True)
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(tmp_path / "x" / part / "a.png")
    dataset = cli.open_data(str(tmp_path), ["BG", "nucleus"])
    assert dataset.class_names == ["BG", "nucleus"]
    assert cli.objects_per_class(dataset) == {"nucleus": 1}


def test_one_is_no_plural(tmp_path, caplog):
    with caplog.at_level("INFO", logger="mrcnn"):
        cli._log_data("Data", cli.open_data(str(via_file(tmp_path / "one", ["cat"]))))
    assert caplog.messages[-1] == "Data: VIADataset, 1 image, 1 class (and their objects): cat 1"


def test_images_without_any_mask_are_nothing_to_train_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    for name in ("a", "b"):
        photo(tmp_path / "data" / name / "images" / "a.png")
    assert run("train", tmp_path / "data", "--logs", tmp_path / "logs") == cli.FAILED
    assert "DATA must hold objects to learn from" in (told := capsys.readouterr().err)
    assert f"Received: {tmp_path / 'data'}, 2 images and not one object." in told


def coco_file(folder, name="x.json", **changes):
    """A COCO file of one image "a.png" with a square."""
    outline = [[2, 3, 12, 3, 12, 13, 2, 13]]
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": outline,
                "bbox": [2, 3, 10, 10],
            }
        ],
        "categories": [{"id": 1, "name": "cat"}],
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return folder / name


def test_images_may_lie_elsewhere_and_strict_refuses_bad_entries(tmp_path, capsys):
    photo(tmp_path / "photos" / "a.png")
    bad = [{"id": 2, "image_id": 1, "category_id": 9}]
    good = json.loads(coco_file(tmp_path / "labels").read_text())["annotations"]
    file = coco_file(tmp_path / "labels", annotations=good + bad)
    assert run("check", file, "--images", tmp_path / "photos") == cli.OK
    told = capsys.readouterr()
    assert "1 image, 1 object" in told.out and "1 of 2 annotations" in told.err
    assert run("check", file, "--images", tmp_path / "photos", "--strict") == cli.FAILED
    assert "category_id must be among" in capsys.readouterr().err


def test_data_without_its_images_is_told_before_a_network_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    file = coco_file(tmp_path, images=[{"id": 1, "file_name": "a.png", "height": 64, "width": 64}])
    assert run("train", file, "--logs", tmp_path / "logs") == cli.FAILED
    assert "none of its 1 images" in (told := capsys.readouterr().err) and "--images DIR" in told
    assert run("check", file, "--no-pixels") == cli.OK


def test_boxes_only_are_told_before_a_network_with_masks_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    photo(tmp_path / "a.png")
    box = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [], "bbox": [2, 3, 10, 10]}
    file = coco_file(tmp_path, annotations=[box])
    assert run("train", file, "--logs", tmp_path / "logs") == cli.FAILED
    assert "boxes only. Try --config USE_MASK=False" in capsys.readouterr().err
    assert run("check", file, "--config", "USE_MASK=False", "--out", tmp_path / "out") == cli.OK
    assert (
        "1 image, 1 object" in capsys.readouterr().out
        and (tmp_path / "out" / "contact_sheet.png").is_file()
    )


def test_training_and_validation_files_of_coco_are_found(tmp_path, capsys):
    photo(tmp_path / "images" / "a.png")
    coco_file(tmp_path / "annotations", "instances_train.json")
    coco_file(
        tmp_path / "annotations", "instances_valid.json", categories=[{"id": 1, "name": "cat"}]
    )
    train, val = cli._open_training_data(str(tmp_path), None)
    assert train.class_names == val.class_names == ["BG", "cat"]
    assert Path(val.image_info[0]["file"]).name == "instances_valid.json"


def test_made_pictures_to_measure_are_not_those_to_train():
    train, val = cli._open_training_data("shapes", None)
    assert train.seed != val.seed
    assert cli.objects_per_class(train) is None  # not known without drawing them


def test_a_missing_file_is_told_before_anything_slow(tmp_path, capsys):
    missing = tmp_path / "w.h5"
    assert run("evaluate", "shapes", "--weights", missing) == cli.FAILED
    assert run("train", "shapes", "--weights", missing) == cli.FAILED
    assert run("train", "shapes", "--backbone-weights", missing) == cli.FAILED
    assert run("train", tmp_path / "nowhere") == cli.FAILED
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mrcnn: ")]
    assert [line.split(" must ")[0] for line in lines] == [
        "mrcnn: --weights", "mrcnn: --weights", "mrcnn: --backbone-weights", "mrcnn: DATA",
    ]  # fmt: skip


# --- Detect and evaluate, with a model that finds the bright square ------------------------------------------------


class StubModel:
    """Finds the bright pixels of an image as one object of class 2."""

    class_names = ["BG", "dark", "bright"]

    def __init__(self):
        self.config = Config()
        self.config.NUM_CLASSES = 3
        self.floors = []

    def detect(self, images, masks="full"):
        self.floors.append(self.config.DETECTION_MIN_CONFIDENCE)
        mask = images[0].max(axis=2) > 200
        ys, xs = np.nonzero(mask)
        found = len(ys) > 0
        box = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1] if found else []
        full = mask[:, :, None] if found else np.zeros((*mask.shape, 0), bool)
        return [
            {
                "rois": np.array(box, np.int32).reshape(-1, 4),
                "class_ids": np.array([2] * found, np.int32),
                "scores": np.array([0.9] * found, np.float32),
                "masks": full if masks == "full" else [mask_to_rle(mask)] * found,
            }
        ]


@pytest.fixture
def model(monkeypatch):
    stub = StubModel()
    monkeypatch.setattr(cli, "_class_names_of", lambda _: stub.class_names)
    monkeypatch.setattr(cli, "load_for_use", lambda weights, items: (stub, stub.class_names))
    return stub


def photo(path, square=True):
    """A 30 x 40 photo (height x width), with a bright square in rows 5..14 and columns 20..29."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((30, 40, 3), np.uint8)
    if square:
        image[5:15, 20:30] = 255
    Image.fromarray(image).save(path)
    return path


def test_detect_writes_a_picture_an_image_and_one_json(model, tmp_path, capsys):
    photo(tmp_path / "in" / "b.png")
    photo(tmp_path / "in" / "a.png", square=False)
    other = photo(tmp_path / "b.png")
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
    assert set(report) == {"weights", "class_names", "min_confidence", "images"}
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
    assert set(found) == {"class_id", "class_name", "score", "box", "mask"}
    assert (found["class_id"], found["class_name"], found["box"]) == (2, "bright", [5, 20, 15, 30])
    assert found["score"] == pytest.approx(0.9)
    assert found["mask"]["size"] == [30, 40] and isinstance(found["mask"]["counts"], str)
    mask = coco_mask.decode(found["mask"])
    assert mask.sum() == 100 and mask[5:15, 20:30].all()
    assert full["picture"] == "b_detected.png" and same_name["picture"] == "b_2_detected.png"
    assert Image.open(out / "b_detected.png").size == (760, 570)  # magnified 19 times, to about 768
    assert sorted(p.name for p in out.iterdir()) == [
        "a_detected.png", "b_2_detected.png", "b_detected.png", "detections.json",
    ]  # fmt: skip


def test_detect_writes_the_files_of_other_tools(model, tmp_path, capsys):
    assert tuple(cli.FORMATS) == tuple(export.FORMATS)
    first, second = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", square=False)
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
        "2 pictures, detections.json, labelme/, detections.geojson, detections.csv are in"
        in capsys.readouterr().out
    )
    (shape,) = json.loads((out / "labelme" / "a.json").read_text())["shapes"]
    assert sorted(shape["points"]) == [[20, 5], [20, 15], [30, 5], [30, 15]]
    assert (out / "detections.csv").read_text().splitlines()[1].endswith(",20,5,30,15,100,100")
    assert run("detect", first, "--weights", "w.h5", "--out", out, "--format", "kml") == cli.USAGE


def test_an_unreadable_image_is_named_and_the_others_go_on(model, tmp_path, capsys):
    good, bad = photo(tmp_path / "good.png"), tmp_path / "bad.png"
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


def test_whatever_one_photo_does_the_others_go_on(model, tmp_path, capsys, monkeypatch):
    thin, good = tmp_path / "a.png", photo(tmp_path / "b.png")
    Image.fromarray(np.zeros((2, 3000, 3), np.uint8)).save(thin)
    plain = model.detect

    def detect(images):
        if images[0].shape[0] == 2:
            raise cv2.error("!dsize.empty() in function 'resize'")
        return plain(images)

    monkeypatch.setattr(model, "detect", detect)
    assert run("detect", thin, good, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    told = capsys.readouterr().err
    assert f"{thin}: error: !dsize.empty()" in told and f"1 of 2 images failed: {thin}" in told
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["file_name"] for entry in report["images"]] == [str(good)]


def test_a_folder_without_images_is_an_error(model, tmp_path, capsys):
    assert run("detect", tmp_path, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    assert "must itself hold images" in capsys.readouterr().err
    nested = tmp_path / "abc" / "images"
    nested.mkdir(parents=True)
    cv2.imwrite(str(nested / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert run("detect", tmp_path, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    assert f"Try the folders in it, as {nested}." in capsys.readouterr().err


def test_detect_interrupted_leaves_what_was_found(model, tmp_path, capsys, monkeypatch):
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
    assert "in the first 2 of 3 images" in capsys.readouterr().err
    report = json.loads((out / "detections.json").read_text())
    assert report["partial"] and [entry["file_name"] for entry in report["images"]] == [
        str(file) for file in files[:2]
    ]
    assert len((out / "detections.csv").read_text().splitlines()) == 1 + 2


def test_evaluate_prints_the_table_and_writes_the_figures(model, tmp_path, capsys):
    folder = via_file(tmp_path / "val", ["bright"], count=3)
    image = np.zeros((64, 64, 3), np.uint8)
    image[3:6, 2:6] = 255  # the rectangle of the truth: x 2, y 3, 4 wide, 3 high
    for i in (0, 1, 2):
        Image.fromarray(image).save(folder / f"{i}.png")
    out = tmp_path / "out"
    words = ["evaluate", folder, "--weights", "w.h5", "--limit", 2, "--out", out, "--pictures"]
    assert run(*words) == cli.OK
    assert "2 images, 2 objects, 2 detections at confidence >= 0.05" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["box"]["AP"] == pytest.approx(1) and metrics["mask"]["AP"] == pytest.approx(1)
    assert (metrics["data"], metrics["weights"], metrics["images"]) == (str(folder), "w.h5", 2)
    assert model.floors == [0.05, 0.05]
    assert sorted(p.name for p in out.iterdir()) == [
        "0000_0.png", "0001_1.png", "confusion_matrix.png", "metrics.json", "precision_recall.png", "record_mAP.txt",
    ]  # fmt: skip
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


def test_evaluate_interrupted_leaves_the_figures_so_far(model, tmp_path, capsys, monkeypatch):
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
    assert "Measured are the first 3 of 4 images." in shown.err and shown.err.endswith(
        "mrcnn: interrupted\n"
    )
    assert shown.out.startswith("PARTIAL: interrupted after 2 of 3 images.\n")
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["images"], metrics["partial_of"], metrics["objects"]) == (2, 3, 2)
    record = (out / "record_mAP.txt").read_text()
    assert record.startswith(
        f"w.h5 on {folder}, the first 3 of 4 images\n\nPARTIAL: interrupted after 2 of 3 "
    )


def test_evaluate_refuses_data_of_other_classes(model, tmp_path, capsys):
    assert run("evaluate", "shapes", "--weights", "w.h5", "--out", tmp_path) == cli.FAILED
    assert "classes of shapes must be ['dark', 'bright']" in capsys.readouterr().err


# --- Doctor -------------------------------------------------------------------------------------------------------


def broken_import(monkeypatch, module_name, error):
    """Let one module fail to import with this error."""
    plain = importlib.import_module

    def import_module(name, *args):
        if name == module_name:
            raise error
        return plain(name, *args)

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)


def test_every_dependency_is_demanded():
    names = {doctor._name(requirement) for requirement in doctor.requirements()}
    assert {
        "tensorflow",
        "keras",
        "numpy",
        "opencv-python",
        "imgaug",
        "pycocotools",
        "rich",
        "pillow",
    } <= names
    assert "pytest" not in names  # of the tests only


def test_a_sound_dependency():
    finding = doctor.check_dependency("numpy>=2")
    assert (finding.name, finding.state, finding.broken) == ("numpy", np.__version__, False)


def test_a_missing_dependency_comes_with_its_command(monkeypatch):
    broken_import(monkeypatch, "rich", ModuleNotFoundError("No module named 'rich'", name="rich"))
    finding = doctor.check_dependency("rich>=13")
    assert finding.broken
    assert finding.state == "missing (No module named 'rich')"
    assert finding.remedy == "pip install 'rich>=13'"


def test_opencv_without_libgl_names_the_package_of_the_system(monkeypatch):
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    broken_import(monkeypatch, "cv2", ImportError(reason))
    finding = doctor.check_dependency("opencv-python>=4.9,<5")
    assert finding.broken
    assert "libGL.so.1" in finding.state
    assert finding.remedy.startswith("apt-get install libgl1 ")
    assert "pip install 'opencv-python-headless>=4.9,<5'" in finding.remedy


def test_imgaug_is_not_blamed_for_the_libraries_below_it(monkeypatch):
    broken_import(
        monkeypatch,
        "mrcnn.data.imgaug_support",
        ImportError("libGL.so.1: cannot open shared object file"),
    )
    finding = doctor.check_dependency("imgaug>=0.4")
    assert finding.broken
    assert finding.remedy == "what is broken above first, then pip install 'imgaug>=0.4'"


@pytest.mark.parametrize(
    ("module_name", "version", "requirement"),
    [("cv2", "5.0.0", "opencv-python>=4.9,<5"), ("numpy", "1.26.4", "numpy>=2")],
)
def test_a_wrong_version_is_broken(module_name, version, requirement, monkeypatch):
    monkeypatch.setitem(sys.modules, module_name, SimpleNamespace(__version__=version))
    finding = doctor.check_dependency(requirement)
    assert finding.broken and finding.state.startswith(f"{version}, but mrcnn needs ")
    assert finding.remedy == f"pip install '{requirement}'"


@pytest.mark.parametrize(
    ("headless", "findings"), [(None, []), ("4.12.0.88", [False]), ("4.10.0.84", [True])]
)  # fmt: skip
def test_two_distributions_of_opencv_clash(headless, findings, monkeypatch):
    def version(name):
        known = {"opencv-python": "4.12.0.88", "opencv-python-headless": headless}
        if known.get(name) is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(doctor, "requirements", lambda: ["opencv-python>=4.12,<5"])
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = doctor._opencv_clash()
    assert [finding.broken for finding in found] == findings
    for finding in found:
        assert finding.state.startswith("opencv-python 4.12.0.88 and opencv-python-headless")
        assert finding.remedy.startswith(
            "pip uninstall -y opencv-python opencv-python-headless && pip install 'opencv"
        )


def test_doctor_survives_without_tensorflow(monkeypatch, capsys):
    """One broken dependency: exit code 1, every other one still looked at, no device asked for."""
    broken_import(
        monkeypatch,
        "tensorflow",
        ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"),
    )
    monkeypatch.setattr(doctor, "requirements", lambda: ["tensorflow>=2.18", "numpy>=2"])
    assert run("doctor") == cli.FAILED
    printed = capsys.readouterr().out
    assert "BROKEN  tensorflow" in printed
    assert "ok      numpy" in printed
    assert "devices" not in printed
    assert printed.rstrip().endswith("To be mended: tensorflow")


# --- Networks with less than masks --------------------------------------------------------------------------------


def test_a_box_only_model_detects_and_is_measured(model, tmp_path, capsys, monkeypatch):
    detect = model.detect

    def without(images, **_):
        return [{k: v for k, v in r.items() if k != "masks"} for r in detect(images)]

    monkeypatch.setattr(model, "detect", without)
    words = ["--weights", "w.h5", "--out", tmp_path / "out"]
    assert run("detect", photo(tmp_path / "a.png"), *words, "--format", *cli.FORMATS) == cli.OK
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
    assert "1 pictures" in capsys.readouterr().out


def test_an_rpn_alone_is_measured_by_its_recall(model, tmp_path, capsys, monkeypatch):
    model.config.RPN_ONLY, model.config.NUM_CLASSES = True, 2
    model.class_names = ["BG", "bright"]
    proposals = {
        "rois": np.array([[3, 2, 6, 6]]),
        "scores": np.array([0.9]),
    }  # the rectangle of the truth
    monkeypatch.setattr(model, "detect", lambda images: [proposals])
    folder, out = via_file(tmp_path / "val", ["bright"], count=2), tmp_path / "out"
    assert (
        run("evaluate", folder, "--weights", "w.h5", "--out", out, "--pictures", "--limit", 1)
        == cli.OK
    )
    told = capsys.readouterr()
    assert "1 images, 1 objects" in told.out and "    1,000  1.000   1.000    1.000" in told.out
    assert "no pictures" in told.err
    assert json.loads((out / "metrics.json").read_text())["proposal_recall"]["100"]["AR"] == 1.0
    assert run("detect", photo(tmp_path / "a.png"), "--weights", "w.h5", "--out", out) == cli.FAILED
    assert "needs a network that knows classes" in capsys.readouterr().err


def test_doctor_drops_requirements_of_other_pythons(monkeypatch):
    demanded = [
        'pillow>=13; python_version >= "3.0"',
        'pillow>=12.3; python_version < "3.0"',
        "numpy>=2",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: demanded)
    assert doctor.requirements() == ["pillow>=13", "numpy>=2"]


# --- Nothing is lost ----------------------------------------------------------------------------------------------


def test_detect_into_the_folder_of_the_photos_keeps_them(model, tmp_path, capsys):
    photo(tmp_path / "a.png")
    photo(tmp_path / "a_detected.png", square=False)
    before = (tmp_path / "a_detected.png").read_bytes()
    for _ in range(2):  # the pictures of the first run are no photos of the second
        assert run("detect", tmp_path, "--weights", "w.h5", "--out", tmp_path) == cli.OK
        entries = json.loads((tmp_path / "detections.json").read_text())["images"]
        names = {Path(entry["file_name"]).name: entry["picture"] for entry in entries}
        assert names == {"a.png": "a_2_detected.png", "a_detected.png": "a_detected_detected.png"}
        assert (tmp_path / "a_detected.png").read_bytes() == before
    assert "skipped are 2 earlier pictures, 1 .json." in capsys.readouterr().err
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_photos_of_one_name_from_two_folders_keep_their_pictures(model, tmp_path):
    files = [
        photo(tmp_path / "x" / "a.png"),
        photo(tmp_path / "y" / "A.png"),
        photo(tmp_path / "z" / "a.jpg"),
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


def test_a_name_too_long_for_its_picture_is_the_fault_of_that_photo(model, tmp_path, capsys):
    long, good = photo(tmp_path / f"{'b' * 245}.png"), photo(tmp_path / "c.png")
    assert run("detect", long, good, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["file_name"] for entry in report["images"]] == [str(good)]
    ((name, why),) = (entry.values() for entry in report["failed"])
    assert name == str(long) and "File name too long" in why
    assert "1 of 2 images failed" in capsys.readouterr().err


def test_a_full_disk_leaves_what_was_found(model, tmp_path, capsys, monkeypatch):
    files, plain = [photo(tmp_path / f"{name}.png") for name in "abc"], cli.save_picture

    def save(picture, path, **options):
        if path.name.startswith("b"):
            raise OSError("disk full")
        plain(picture, path, **options)

    monkeypatch.setattr(cli, "save_picture", save)
    assert run("detect", *files, "--weights", "w.h5", "--out", tmp_path / "out") == cli.FAILED
    report = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert report["partial"] and [entry["file_name"] for entry in report["images"]] == [
        str(files[0])
    ]
    assert capsys.readouterr().err.endswith("mrcnn: disk full\n")


def test_a_failed_write_leaves_the_old_results(model, tmp_path, monkeypatch):
    file, out = photo(tmp_path / "a.png"), tmp_path / "out"
    words = ["detect", file, "--weights", "w.h5", "--out", out, "--format", "csv", "via"]
    assert run(*words) == cli.OK
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    monkeypatch.setattr(
        os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    assert run(*words) == cli.FAILED
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


# --- What is no photo ---------------------------------------------------------------------------------------------


def test_what_a_folder_holds_besides_images_is_counted(model, tmp_path, capsys):
    photo(tmp_path / "in" / "a.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "in" / "b.bmp")
    for name in ("c.HEIC", "d.HEIC", "e.mp4"):
        (tmp_path / "in" / name).touch()
    photo(tmp_path / "in" / "more" / "f.png")
    assert run("detect", tmp_path / "in", "--weights", "w.h5", "--out", tmp_path / "out") == cli.OK
    told = capsys.readouterr().err
    assert f"{tmp_path / 'in'}: 2 images; skipped are 2 .HEIC, 1 .mp4, 1 sub-folder." in told
    names = [
        Path(e["file_name"]).name
        for e in json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    ]
    assert names == ["a.png", "b.bmp"]


def test_a_pattern_that_the_shell_left_is_expanded(model, tmp_path, capsys):
    for name in ("a.png", "b.png", "c.jpg"):
        photo(tmp_path / name)
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
def test_what_is_no_photo_is_said_before_a_network_is_built(word, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_for_use", lambda *_: pytest.fail("too late"))
    monkeypatch.chdir(tmp_path)
    assert run("detect", word, "--weights", "w.h5", "--out", "out") == cli.FAILED
    assert (told := capsys.readouterr().err).startswith("mrcnn: ") and word in told
    assert not word.startswith("http") or "Try to download it first." in told
    assert run("detect", word, "other.png", "--weights", "w.h5", "--out", "out") == cli.FAILED
    assert capsys.readouterr().err.startswith("mrcnn: None of the 2 images can be read:\n  ")
    assert not (tmp_path / "out").exists()
    assert run("check", "https://example.com/data.zip") == cli.FAILED
    assert (
        "the URL https://example.com/data.zip. Try to download it first." in capsys.readouterr().err
    )


# --- Names from strangers -----------------------------------------------------------------------------------------


def test_names_do_not_steer_the_terminal(model, tmp_path, capsys):
    bad = tmp_path / "a\x1b[31m.png"
    bad.write_bytes(b"no image")
    good = photo(tmp_path / "b\x07.png")
    assert (
        run("detect", bad, good, "--weights", "w.h5", "--out", tmp_path / "out\x1b[0m")
        == cli.FAILED
    )
    told = "".join(capsys.readouterr())
    assert "a [31m.png" in told and "b .png: 1 object" in told
    assert not any(character in told for character in "\x1b\x07")


# --- Words of other tools, and slips ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["train", "x", "--lr", "0.1"],
            "mrcnn train: error: unrecognized option: --lr. Did you mean --learning-rate?",
        ),
        (["train", "x", "--batch=4"], "--batch. Did you mean --config IMAGES_PER_GPU=N?"),
        (
            ["train", "x", "--imgsz", "640"],
            "--imgsz. Did you mean --config IMAGE_MIN_DIM=N IMAGE_MAX_DIM=N?",
        ),
        (["train", "x", "--output", "y"], "--output. Did you mean --logs?"),
        (
            ["detect", "a.jpg", "--model", "w.h5"],
            "mrcnn detect: error: unrecognized option: --model. Did you mean --weig",
        ),
        (["detect", "a.jpg", "--wieghts", "w.h5"], "--wieghts. Did you mean --weights?"),
        (["train", "x", "--frobnicate"], "unrecognized option: --frobnicate.\n"),
        (["train", "data=coco.yaml", "epochs=3"], "must be a path. Received: 'data=coco.yaml'"),
        (
            ["train", "x", "epochs=3"],
            "mrcnn train: error: unrecognized arguments: epochs=3. Did you mean --epochs?",
        ),
    ],
)
def test_an_unknown_option_is_told_under_its_command(words, sentence, capsys):
    assert run(*words) == cli.USAGE
    told = capsys.readouterr().err
    assert sentence in told and told.startswith(f"usage: mrcnn {words[0]}")


def test_every_synonym_names_an_option_of_some_command():
    helps = subprocess.run(
        [sys.executable, "-c", "from mrcnn.app.cli import main\nimport sys\nmain(sys.argv[1:])", "train", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    for meant in ("--learning-rate", "--epochs", "--logs", "--weights", "--config", "--gpus"):
        assert meant in helps and any(
            meant in option for options in cli.SYNONYMS.values() for option in options
        )


def test_options_may_be_shortened_and_debug_stand_first(monkeypatch):
    calls = []
    monkeypatch.setattr(cli, "run_train", lambda args: calls.append((args.epochs, args.debug)))
    assert (
        run("--debug", "train", "x", "--epoch", 3)
        == run("train", "x", "--debug")
        == run("train", "x")
        == cli.OK
    )
    assert calls == [(3, True), (10, True), (10, False)]


# --- Before a network is built ------------------------------------------------------------------------------------


def hdf5(path, attributes=(), groups=()):
    with h5py.File(path, "w") as file:
        file.attrs.update(dict.fromkeys(attributes, [b"x"]))
        for group in groups:
            file.create_group(group)
    return path


@pytest.mark.parametrize("command", ["train", "evaluate", "detect"])
def test_what_holds_no_weights_is_said_before_a_network_is_built(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(session, "load_tensorflow", lambda: pytest.fail("too late"))
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    state = hdf5(tmp_path / "training_state_0002.hdf5", ["about"], ["optimizer"])
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"<html>")
    other = hdf5(tmp_path / "other.h5", ["title"])
    data = photo(tmp_path / "a.png") if command == "detect" else "shapes"
    where = [] if command == "train" else ["--out", tmp_path / "out"]
    for file, sentence in (
        (state, "a training state: the optimizer's variables"),
        (broken, "must be a complete HDF5 file"),
        (other, "an HDF5 file, but not of Keras weights"),
    ):
        assert run(command, data, "--weights", file, *where) == cli.FAILED
        assert sentence in capsys.readouterr().err


def test_no_run_to_resume_is_said_before_a_network_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "load_tensorflow", lambda: pytest.fail("too late"))
    assert run("train", "shapes", "--weights", "last", "--logs", tmp_path) == cli.FAILED
    assert "There must be a checkpoint of 'shapes'" in capsys.readouterr().err


def test_coco_weights_for_another_backbone_are_refused_before_the_data_is_read(tmp_path, capsys):
    words = ["--weights", "coco", "--config", "BACKBONE=resnet50"]
    assert run("train", tmp_path / "nowhere", *words) == cli.USAGE
    assert "COCO weights are of a resnet101" in capsys.readouterr().err


def test_data_of_other_classes_is_refused_before_a_network_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(session, "load_tensorflow", lambda: pytest.fail("too late"))
    weights = hdf5(tmp_path / "w.h5", ["layer_names"], ["x"])
    with h5py.File(weights, "a") as file:
        file["x"].attrs["weight_names"] = np.zeros(0)
        file.attrs["mrcnn_metadata"] = json.dumps({"class_names": ["BG", "cat\x1b"]})
    assert run("evaluate", "shapes", "--weights", weights, "--out", tmp_path / "out") == cli.FAILED
    assert "classes of shapes must be ['cat']" in capsys.readouterr().err


def test_one_unreadable_image_does_not_end_an_evaluation(model, tmp_path, capsys):
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


@pytest.mark.parametrize("content", ["3", "null", "", "[1]"])
def test_a_json_file_is_not_taken_for_yaml(content, tmp_path, capsys):
    file = tmp_path / "a.json"
    file.write_text(content)
    assert run("check", file) == cli.FAILED
    assert (
        "YOLO. " not in (told := capsys.readouterr().err)
        and "data.yaml of YOLO" not in told.split("Understood")[0]
    )


def test_a_large_coco_file_is_checked(shared, capsys):
    file = shared / "data" / "coco_tiny" / "annotations" / "instances_val2017.json"
    assert run("check", file, "--no-pixels", "--limit", 2) == cli.OK
    assert capsys.readouterr().out.startswith("2 images, ")

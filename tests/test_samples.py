"""The samples: matterport's command lines, wrong calls, and the functions that compute."""

import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from mrcnn.app import cli_support
from mrcnn.data.dataset import Dataset
from mrcnn.files import download
from mrcnn.model import MaskRCNN
from mrcnn.weights.coco_classes import COCO_91

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["balloon", "coco", "custom", "nucleus", "shapes", "video", "voc"]


def load(name):
    """Import a sample as a module."""
    spec = importlib.util.spec_from_file_location(
        f"sample_{name}", ROOT / "samples" / name / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def same_log_and_environment(monkeypatch):
    """Restore logging and environment, which samples configure for their own process."""
    log = logging.getLogger("mrcnn")
    before = log.handlers, log.level, log.propagate
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    log.handlers, log.level, log.propagate = before


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that runs a sample: exit code, and calls of the replaced slow functions."""
    monkeypatch.chdir(tmp_path)

    def run_sample(name, *words):
        module, calls = load(name), []
        network = SimpleNamespace(
            detect=no_detections,
            config=SimpleNamespace(DETECTION_MIN_CONFIDENCE=0.7),
            class_names=None,
        )

        def note(what, answer=None):
            return lambda *arguments: calls.append((what, *arguments)) or answer

        monkeypatch.setattr(cli_support, "load_for_training", note("for training", network))
        monkeypatch.setattr(
            cli_support, "load_for_use", note("for use", (network, ["BG", "thing"]))
        )
        monkeypatch.setattr(
            cli_support, "find_weights", lambda start, config, logs: f"{logs}/{config.NAME}/{start}"
        )
        if name != "shapes":  # its `train` builds the model
            monkeypatch.setattr(module, "train", note("train"), raising=False)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli_support.run_script(module.main)
        return stop.value.code, calls

    return run_sample


def no_detections(images, masks="full"):
    shape = images[0].shape[:2]
    empty = np.zeros(0, np.int32)
    result = {
        "rois": np.zeros((0, 4), np.int32),
        "masks": np.zeros((*shape, 0), bool),
        "class_ids": empty,
        "scores": empty.astype(float),
    }
    return [result]


@pytest.fixture
def balloons(tmp_path):
    for subset in ("train", "val"):
        (tmp_path / "balloon" / subset).mkdir(parents=True)
        shape = {"name": "polygon", "all_points_x": [5, 30, 20], "all_points_y": [6, 10, 35]}
        entry = {
            "filename": "a.png",
            "size": 1,
            "regions": {"0": {"shape_attributes": shape, "region_attributes": {}}},
        }
        Image.new("RGB", (40, 40), (200, 40, 40)).save(tmp_path / "balloon" / subset / "a.png")
        (tmp_path / "balloon" / subset / "via_region_data.json").write_text(
            json.dumps({"a.png1": entry})
        )
    return tmp_path / "balloon"


@pytest.fixture
def nuclei(tmp_path):
    """Create 20 images in stage1_train, and one without masks in stage1_test."""
    for subset, count in (("stage1_train", 20), ("stage1_test", 1)):
        for i in range(count):
            folder = tmp_path / "nuclei" / subset / f"{subset}{i}"
            (folder / "images").mkdir(parents=True)
            Image.new("RGBA", (32, 24), (9, 9, 9, 255)).save(
                folder / "images" / f"{folder.name}.png"
            )
            if subset == "stage1_train":
                (folder / "masks").mkdir()
                Image.fromarray(np.eye(24, 32, dtype=np.uint8) * 255).save(
                    folder / "masks" / "0.png"
                )
    return tmp_path / "nuclei"


@pytest.fixture
def coco(tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (7, 8)]
    content = {"images": images, "annotations": [], "categories": [{"id": 3, "name": "car"}]}
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    for name in ("train2017", "val2017", "train2014", "minival2014", "valminusminival2014"):
        (tmp_path / "coco" / "annotations" / f"instances_{name}.json").write_text(
            json.dumps(content)
        )
    for name in ("train2017", "val2017", "train2014", "val2014"):
        (tmp_path / "coco" / name).mkdir()
        for image in images:
            Image.new("RGB", (30, 20)).save(tmp_path / "coco" / name / image["file_name"])
    return tmp_path / "coco"


# --- Calls --------------------------------------------------------------------------------------


def test_import_and_help_load_no_tensorflow_and_write_no_file(tmp_path):
    script = f"""
import contextlib, importlib.util, io, sys
from mrcnn.app import cli_support
from mrcnn.data.dataset import Dataset
for name in {[name for name in NAMES if name != "shapes"]}:
    path = {str(ROOT / "samples")!r} + f"/{{name}}/{{name}}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        module.main()
    assert "usage" in text.getvalue()
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", ["coco", "last", "imagenet", "some/file.h5"])
def test_balloon_train_loads_both_subsets(start, run, balloons):
    code, calls = run(
        "balloon", "train", f"--dataset={balloons}", f"--weights={start}", "--logs=runs"
    )
    assert code == 0
    (_, config, logs, weight_file), (_, _, training, validation, epochs) = calls
    assert (config.NAME, config.NUM_CLASSES, logs, weight_file, epochs) == (
        "balloon",
        2,
        "runs",
        start,
        30,
    )
    assert (
        training.class_names == ["BG", "balloon"]
        and len(training.image_ids) == len(validation.image_ids) == 1
    )


def test_balloon_splash_writes_an_image_and_a_video(run, balloons, tmp_path):
    code, calls = run(
        "balloon", "splash", "--weights=last", f"--image={balloons}/val/a.png", "--logs=runs"
    )
    assert code == 0
    ((_, weight_file, items, base),) = calls
    assert (weight_file, items, base.NAME) == ("runs/balloon/last", [], "balloon")
    (image,) = tmp_path.glob("splash_*.png")
    assert len(np.unique(np.asarray(Image.open(image)))) == 1  # no balloon: all gray

    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (40, 32))
    for _ in range(3):
        writer.write(np.full((32, 40, 3), (0, 0, 200), np.uint8))
    writer.release()
    assert run("balloon", "splash", "--weights=x.h5", "--video=v.avi")[0] == 0
    (clip,) = tmp_path.glob("splash_*.mp4")
    assert cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize(
    ("subset", "trained_on"), [("train", 18), ("stage1_train", 20), (None, 18)]
)
def test_nucleus_train_splits_stage1_train_unless_it_is_named(subset, trained_on, run, nuclei):
    words = [] if subset is None else [f"--subset={subset}"]
    code, calls = run("nucleus", "train", f"--dataset={nuclei}", *words, "--weights=imagenet")
    assert code == 0
    (_, config, logs, start), (_, _, training, validation, epochs) = calls
    assert (config.IMAGE_RESIZE_MODE, logs, start, tuple(epochs)) == (
        "crop",
        "logs",
        "imagenet",
        (20, 40),
    )
    assert (len(training.image_ids), len(validation.image_ids)) == (trained_on, 2)


def test_nucleus_detect_writes_a_submission_file(run, nuclei, tmp_path):
    code, calls = run(
        "nucleus", "detect", f"--dataset={nuclei}", "--subset=stage1_test", "--weights=last"
    )
    assert code == 0
    ((_, weight_file, items, base),) = calls
    assert (weight_file, items) == ("logs/nucleus/last", ["RPN_NMS_THRESHOLD=0.7"])
    assert base.IMAGE_RESIZE_MODE == "pad64"
    (folder,) = (tmp_path / "results" / "nucleus").iterdir()
    assert (folder / "submit.csv").read_text() == "ImageId,EncodedPixels\nstage1_test0,\n"
    assert (folder / "stage1_test0.png").is_file()


def test_coco_is_opened_with_the_classes_of_the_network(coco):
    """Class 3 of torchvision's 91 is car, also in data that has no other category."""
    sample = load("coco")
    assert sample.load(coco, ["val"], "2017").class_names == ["BG", "car"]
    dataset = sample.load(coco, ["val"], "2017", class_names=COCO_91)
    assert dataset.class_names == COCO_91
    assert dataset.map_source_class_id("coco.3") == COCO_91.index("car") == 3


@pytest.mark.parametrize(("year", "images"), [("2014", 4), ("2017", 2)])
def test_coco_train_and_evaluate(year, images, run, coco, capsys):
    code, calls = run(
        "coco", "train", f"--dataset={coco}", f"--year={year}", "--model=coco", "--logs=runs"
    )
    assert code == 0
    (_, config, logs, start), (_, _, training, validation, epochs) = calls
    assert (config.NAME, logs, start, tuple(epochs)) == ("coco", "runs", "coco", (40, 120, 160))
    assert (len(training.image_ids), len(validation.image_ids)) == (images, 2)

    words = [] if year == "2014" else [f"--year={year}"]
    code, calls = run(
        "coco",
        "evaluate",
        f"--dataset={coco}",
        *words,
        "--model=last",
        "--limit=1",
        "--download=False",
    )
    assert code == 0
    ((_, weight_file, _, base),) = calls
    assert (weight_file, base.NUM_CLASSES) == ("logs/coco/last", 81)
    assert capsys.readouterr().out.startswith("1 images, 0 objects, 0 detections")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["balloon", "fly", "--weights=x"], "invalid choice: 'fly'"),
        (["balloon", "train", "--dataset=D"], "required: --weights"),
        (["balloon", "train", "--weights=coco"], "train needs --dataset"),
        (["balloon", "splash", "--weights=x"], "splash needs --image or --video"),
        (
            ["balloon", "splash", "--weights=x", "--image=i", "--video=v"],
            "splash needs --image or --video",
        ),
        (
            ["balloon", "train", "--dataset=D", "--weights=x", "--config", "STEPS=1"],
            "--config must name a setting",
        ),
        (["nucleus", "detect", "--dataset=D", "--weights=x"], "detect needs --subset"),
        (["nucleus", "train", "--weights=x"], "required: --dataset"),
        (["coco", "evaluate", "--dataset=D"], "required: --model"),
        (
            ["coco", "train", "--dataset=D", "--model=coco", "--download=maybe"],
            "must be True or False",
        ),
        (["custom", "train", "--weights=x"], "train needs --dataset"),
        (["custom", "detect", "--weights=x"], "detect needs --images"),
        (["voc", "train", "--weights=x"], "required: --dataset"),
        (["video", "--weights=x"], "required: --source"),
        (["shapes", "fly"], "invalid choice: 'fly'"),
    ],
)
def test_a_wrong_call_is_a_usage_error(words, sentence, run, capsys):
    assert run(*words) == (2, [])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["balloon", "train", "--dataset=D", "--weights=x"], "D/train"),
        (["nucleus", "detect", "--dataset=D", "--subset=s", "--weights=x"], "D/s"),
        (
            ["coco", "train", "--dataset=D", "--year=2017", "--model=x"],
            "instances_train2017.json.* --download",
        ),
        (
            ["coco", "evaluate", "--dataset=D", "--model=x"],
            "instances_minival2014.json.* --year 2017",
        ),
        (["custom", "train", "--dataset=D", "--weights=x"], "D/train"),
        (
            ["voc", "evaluate", "--dataset=D", "--weights=x"],
            "D must contain the folders Annotations",
        ),
        (["video", "--weights=x", "--source=v.mp4"], "A video file must exist"),
    ],
)
def test_missing_data_is_reported_in_one_sentence(words, sentence, run, capsys):
    assert run(*words)[0] == 1
    error = capsys.readouterr().err
    assert error.startswith(f"{words[0]}.py: ") and "Traceback" not in error
    assert re.search(sentence, error)


def test_coco_download_without_a_network_is_reported(run, tmp_path, monkeypatch, capsys):
    def no_network(url, path, size):
        raise OSError("no network")

    monkeypatch.setattr(download, "_fetch", no_network)
    assert run("coco", "train", "--dataset=D", "--year=2017", "--model=coco", "--download")[0] == 1
    error = capsys.readouterr().err
    assert (
        "annotations_trainval2017.zip could not be downloaded" in error
        and "fetch the file in a browser" in error
    )


@pytest.mark.parametrize(
    ("name", "config"),
    [("balloon", "BalloonConfig"), ("custom", "CustomConfig"), ("voc", "VOCConfig")],
)
def test_samples_that_start_from_coco_have_its_backbone(name, config):
    sample = load(name)
    assert "--weights coco" in sample.__doc__ and getattr(sample, config).BACKBONE == "resnet101"


# --- Functions of the samples -------------------------------------------------------------------


def test_color_splash_turns_all_but_the_masks_gray():
    image = np.zeros((2, 3, 3), np.uint8)
    image[...] = (100, 200, 50)  # gray: 0.299 * 100 + 0.587 * 200 + 0.114 * 50 = 153
    masks = np.zeros((2, 3, 2), bool)
    masks[0, 0, 0] = masks[1, 2, 1] = True
    splash = load("balloon").color_splash(image, masks)
    assert splash.dtype == np.uint8
    for y in range(2):
        for x in range(3):
            assert splash[y, x].tolist() == (
                [100, 200, 50] if (y, x) in ((0, 0), (1, 2)) else [153, 153, 153]
            )


def test_run_length_encoding_counts_from_1_down_the_columns():
    nucleus = load("nucleus")
    mask = np.array([[0, 1, 1], [1, 1, 0], [1, 0, 1]], bool)  # columns: 0 1 1, 1 1 0, 1 0 1
    code = nucleus.rle_encode(mask)
    assert code == "2 4 7 1 9 1"
    np.testing.assert_array_equal(nucleus.rle_decode(code, mask.shape), mask)
    assert nucleus.rle_encode(np.zeros((2, 2), bool)) == ""
    assert nucleus.rle_encode(np.ones((2, 3), bool)) == "1 6"


def test_submission_lines_share_no_pixel_and_empty_masks_have_no_line():
    lines_of = load("nucleus").mask_to_rle
    masks = np.zeros((2, 3, 4), bool)
    masks[:, :2, 0] = True  # pixels 1 to 4, second best: keeps 1, 2
    masks[:, 1:, 1] = True  # pixels 3 to 6, best
    masks[0, 0, 2] = True  # hidden behind the first
    assert lines_of("a", masks, [0.8, 0.9, 0.5, 0.7]) == "a,3 4\na,1 2"
    assert lines_of("a", masks[..., :0], []) == "a,"
    assert lines_of("a", masks[..., 3:], [0.7]) == "a,"  # a nucleus without a pixel


def test_weights_without_a_config_are_loaded_with_the_config_of_the_sample(tmp_path, monkeypatch):
    """matterport's files have no config; --config changes that of the sample."""
    import h5py

    from mrcnn import detection_model

    built, folded = [], []

    def from_weights(path, config=None):
        built.append(config)
        return SimpleNamespace(
            class_names=None, config=config, optimize_for_inference=lambda: folded.append(config)
        )

    monkeypatch.setattr(detection_model.DetectionModel, "from_weights", from_weights)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
        file.create_group("conv1").attrs["weight_names"] = [b"kernel"]
        file["conv1"]["kernel"] = np.ones(2, np.float32)
    base = load("balloon").BalloonConfig
    _, names = cli_support.load_for_use(str(tmp_path / "old.h5"), [], base())
    cli_support.load_for_use(str(tmp_path / "old.h5"), ["DETECTION_MIN_CONFIDENCE=0.2"], base())
    assert [config.DETECTION_MIN_CONFIDENCE for config in built] == [0.9, 0.2]
    assert folded == built
    assert names == ["BG", "class 1"] and built[0].NAME == "balloon"


# --- Settings of the demo ---


@pytest.mark.parametrize("name", ["c4", "vgg16"])
def test_networks_of_shapes_without_a_pyramid_read_one_map_of_stride_16(name):
    config = cli_support.read_config([str(ROOT / "samples" / "shapes" / f"{name}.py")])
    config.validate()
    network = MaskRCNN("training", config).keras_model
    layers = {layer.name: layer for layer in network.layers}
    assert layers["anchors"].output.shape == (None, 16 * 16 * 3 * 6, 4)  # 256 / 16 cells a side
    assert ("res5_model" in layers) == (name == "c4")
    assert not any(layer.startswith("fpn_") for layer in layers)


# --- Recipes of the models in the package ---


def load_recipe(name):
    """Import shipped.py of a sample as a module."""
    path = ROOT / "samples" / name / "shipped.py"
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "recipe"), [("nuclei", "nucleus"), ("shapes", "shapes")])
def test_settings_of_a_recipe_are_valid_and_its_card_names_the_model(name, recipe):
    config = cli_support.read_config([str(ROOT / "samples" / recipe / "shipped.py")])
    config.validate()
    card = (ROOT / "samples" / recipe / "card.md").read_text()
    assert name == config.NAME and card.startswith(f"# {name}: ")


def test_large_images_of_nuclei_are_listed_several_times():
    sizes = {256: (256, 256), 600: (520, 696), 1024: (1024, 1024)}  # 256, 602 and 1024 a side
    dataset = Dataset()
    dataset.add_class("made", 1, "nucleus")
    for side in sizes:
        dataset.add_image("made", image_id=side, path="")
    dataset.prepare()
    dataset.image_size = lambda image_id: sizes[dataset.image_info[image_id]["id"]]
    load_recipe("nucleus").repeat_large_images(dataset)
    assert [info["id"] for info in dataset.image_info] == [256, 600, 600, *[1024] * 4]
    assert len(dataset.image_ids) == 7


@pytest.mark.parametrize("is_begun", [False, True])
def test_command_of_a_recipe_resumes_its_training(is_begun, monkeypatch, tmp_path, capsys):
    recipe, starts = load_recipe("shapes"), []
    run = tmp_path / "shapes20260101T1200"
    run.mkdir()
    if is_begun:
        (run / "mask_rcnn_shapes_0003.h5").touch()
    model = SimpleNamespace(train=lambda *args, **options: None, find_last=lambda: "last.h5")
    monkeypatch.setattr(
        cli_support, "load_for_training", lambda *args: starts.append(args[-1]) or model
    )
    monkeypatch.setattr(sys, "argv", ["shipped.py", "--logs", str(tmp_path)])
    recipe.main()
    assert starts == (["last"] if is_begun else [None])
    assert capsys.readouterr().out == "Weights: last.h5\n"

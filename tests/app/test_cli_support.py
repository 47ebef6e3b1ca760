"""Messages, settings from words, weights by name, output files."""

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mrcnn.app import cli_support
from mrcnn.config import Config
from mrcnn.weights import opening, zoo, zoo_table

# --- Messages -------------------------------------------------------------------------------------


def test_held_back_stderr_is_shown_when_the_block_fails(capfd):
    with cli_support.hold_stderr():
        os.write(2, b"noise")
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError, match="broken"), cli_support.hold_stderr():
        os.write(2, b"the reason")
        raise OSError("broken")
    assert capfd.readouterr().err == "the reason"


def test_settings_that_name_a_function_bring_tensorflow_silently(monkeypatch):
    calls = []
    monkeypatch.setattr(cli_support, "load_tensorflow", lambda: calls.append("silent"))
    items = ["DETECTION_MIN_CONFIDENCE=0.6"]
    assert cli_support.config_for_use("shapes", items).DETECTION_MIN_CONFIDENCE == 0.6
    assert calls == ["silent"]


# --- Settings -------------------------------------------------------------------------------------


def test_no_items_give_the_defaults():
    assert cli_support.read_config([]).to_dict() == Config().to_dict()


def test_none_turns_off_what_is_off_by_default():
    base = Config()
    base.BOX_VOTING_IOU = 0.8
    assert cli_support.read_config(["BOX_VOTING_IOU=None"], base).BOX_VOTING_IOU is None
    with pytest.raises(cli_support.UsageError, match="must be a number"):
        cli_support.read_config(["LEARNING_RATE=None"])


def test_values_are_literals_or_bare_words():
    config = cli_support.read_config(
        [
            "BACKBONE=resnet50",
            "RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128)",
            "MEAN_PIXEL=[1, 2, 3]",
            "TRAIN_BN=None",
            "LEARNING_RATE=1e-2",
            "NAME=photos",
            "IMAGE_SHAPE=[128, 192, 3]",
            "SEED=5",
        ]
    )
    assert config.BACKBONE == "resnet50"
    assert config.RPN_ANCHOR_SCALES == (8, 16, 32, 64, 128)
    assert isinstance(config.MEAN_PIXEL, np.ndarray) and config.MEAN_PIXEL.tolist() == [1, 2, 3]
    assert config.TRAIN_BN is None
    assert (config.LEARNING_RATE, config.NAME, config.SEED) == (0.01, "photos", 5)
    assert config.IMAGE_SHAPE.tolist() == [128, 192, 3]
    assert cli_support.own_names(config) == {
        "BACKBONE",
        "RPN_ANCHOR_SCALES",
        "MEAN_PIXEL",
        "TRAIN_BN",
        "LEARNING_RATE",
        "NAME",
        "IMAGE_SHAPE",
        "SEED",
    }


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("STEP_PER_EPOCH=3", r"Received: STEP_PER_EPOCH\. Did you mean STEPS_PER_EPOCH\?"),
        ("learning_rate=3", r"Received: learning_rate\. Did you mean LEARNING_RATE\?"),
        ("QQQ=3", r"Received: QQQ\. mrcnn/config.py lists them all"),
        ("STEPS_PER_EPOCH=many", r"STEPS_PER_EPOCH must be a number\. Received: many"),
        ("STEPS_PER_EPOCH=True", r"STEPS_PER_EPOCH must be a number\. Received: True"),
        ("USE_MINI_MASK=false", r"USE_MINI_MASK must be True, False or None\. Received: false"),
        ("BACKBONE=50", r"BACKBONE must be a word\. Received: 50"),
        ("MASK_SHAPE=28", r"MASK_SHAPE must be a list such as '\[28, 28\]'\. Received: 28"),
        ("MEAN_PIXEL=grey", r"MEAN_PIXEL must be a list such as"),
        ("nothing.json", r"Received: nothing\.json, and there is no such file"),
        (
            "docs",
            r"--config must be NAME=VALUE without spaces, or a .json or .py file. Received: docs,",
        ),
    ],
)
def test_wrong_setting_is_named(item, sentence):
    with pytest.raises(cli_support.UsageError, match=sentence):
        cli_support.read_config([item])


def test_later_items_win_whatever_their_kind(tmp_path):
    script, values = str(tmp_path / "mine.py"), str(tmp_path / "values.json")
    Path(script).write_text(
        "from mrcnn.config import Config\n\n"
        "class Base(object):\n    IMAGES_PER_GPU = 3\n\n"
        "class Mine(Base, Config):\n    NAME = 'mine'\n    STEPS_PER_EPOCH = 11\n    OWN_THING = "
        "1\n"
    )
    Path(values).write_text(
        json.dumps({"STEPS_PER_EPOCH": 22, "IMAGES_PER_GPU": 4, "BATCH_SIZE": 4})
    )

    config = cli_support.read_config(
        ["STEPS_PER_EPOCH=1", "VALIDATION_STEPS=1", script]
    )  # later wins: 11
    assert (config.NAME, config.STEPS_PER_EPOCH, config.VALIDATION_STEPS, config.BATCH_SIZE) == (
        "mine",
        11,
        1,
        3,
    )
    assert type(config).__name__ == "Mine"

    config = cli_support.read_config([script, values, "OWN_THING=2"])
    assert (config.NAME, config.STEPS_PER_EPOCH, config.OWN_THING) == ("mine", 22, 2)
    assert config.BATCH_SIZE == 4

    config = cli_support.read_config(
        [values, "IMAGES_PER_GPU=8"]
    )  # BATCH_SIZE 4 = 4 * 1 was no choice: it still follows
    assert config.BATCH_SIZE == 8


def test_json_file_next_to_a_weight_file_is_a_config(tmp_path):
    file = tmp_path / "mask_rcnn_x_0001.json"
    base = cli_support.read_config(["NUM_CLASSES=4", "BACKBONE=resnet50"])
    file.write_text(json.dumps({"config": base.to_dict(), "class_names": ["BG", "a", "b", "c"]}))
    assert cli_support.read_config([str(file)]).to_dict() == base.to_dict()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", "{", "must be complete JSON"),
        (
            "a.json",
            '{"IMAGE_MAXDIM": 256}',
            r"a\.json: must name a setting.*IMAGE_MAXDIM\. Did you mean IMAGE_MAX_DIM\?",
        ),
        ("a.json", "[1]", r"must hold NAME: value pairs\. Received: a list"),
        ("a.py", "x = 1", "must define one subclass of mrcnn.config.Config. Received: none"),
        (
            "a.py",
            "from mrcnn.config import Config\nclass A(Config): pass\nclass B(A): pass",
            "must define one subclass of mrcnn.config.Config. Received: A, B",
        ),
        ("a.py", "1 / 0", "must run. Received: ZeroDivisionError"),
        ("a.txt", "", "which is neither"),
    ],
)
def test_wrong_config_file_is_named(name, text, sentence, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(cli_support.UsageError, match=sentence) as caught:
        cli_support.read_config([str(tmp_path / name)])
    assert str(tmp_path / name) in str(caught.value)


def test_preset_keeps_what_the_items_and_the_class_set(tmp_path):
    class Mine(Config):
        POOL_SIZE = 5
        ROI_ALIGN = "max"

    items = ["LEARNING_RATE=0.5", "PRESET=torchvision2", "BOX_HEAD=2fc"]
    config = cli_support.read_config(items, Mine())
    assert type(config) is Mine and config.LEARNING_RATE == 0.5
    assert (config.POOL_SIZE, config.ROI_ALIGN, config.BOX_HEAD) == (5, "max", "2fc")
    assert config.RPN_CONV_LAYERS == 2  # the preset's


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tv", "detectron"),
        ("torchvision", "torchvision2 or PRESET=torchvision1"),
        ("retina", "retinanet or PRESET=retinanet2"),
    ],
)
def test_unknown_preset_is_named_with_similar_ones(name, hint):
    sentence = rf"torchvision1.* Received: {name}\. Try PRESET={hint}\.$"
    with pytest.raises(cli_support.UsageError, match=sentence):
        cli_support.read_config([f"PRESET={name}"])


def test_preset_of_another_network_than_that_of_the_option_is_refused():
    items = cli_support.with_network(["PRESET=fcos"], "mask_rcnn")
    with pytest.raises(cli_support.UsageError, match="network fcos. Received: mask_rcnn"):
        cli_support.read_config(items)
    assert cli_support.read_config(["NETWORK=fcos", "PRESET=lite"]).NETWORK == "fcos"


# --- Weights --------------------------------------------------------------------------------------


def test_weights_are_found_by_name(tmp_path, monkeypatch):
    class Mine(Config):
        NAME = "Mine"

    for run, names in {
        "mine20260101T1200": ["mask_rcnn_mine_0001.h5", "mask_rcnn_mine_0002.h5"],
        "mine20260102T1200": [],
        "other20260103T1200": ["mask_rcnn_other_0009.h5"],
        "minesweeper20260104T1200": ["mask_rcnn_minesweeper_0003.h5"],
    }.items():
        (tmp_path / run).mkdir()
        for file in names:
            (tmp_path / run / file).touch()
    last = str(tmp_path / "mine20260101T1200" / "mask_rcnn_mine_0002.h5")
    assert cli_support.find_weights("last", Mine(), tmp_path) == last
    (tmp_path / "mine20260103T1200").mkdir()
    newest = tmp_path / "mine20260103T1200" / "retinanet_mine_0001.h5"
    newest.touch()
    assert cli_support.find_weights("last", Mine(), tmp_path) == str(newest)
    Mine.NETWORK = "mask_rcnn"  # asks for this network
    assert cli_support.find_weights("last", Mine(), tmp_path) == last
    assert cli_support.find_weights("some.h5", Mine(), tmp_path) == "some.h5"
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(zoo, "download", lambda url, path, **checks: (url, str(path)))
    assert cli_support.find_weights("coco", Mine(), tmp_path) == (
        zoo_table.COCO_MODEL_URL,
        str(tmp_path / "home" / "models" / "mask_rcnn_coco.h5"),
    )
    with pytest.raises(
        FileNotFoundError, match="training of 'mine' to resume.*Received: no such training"
    ):
        cli_support.find_weights("last", Mine(), tmp_path / "home")


def test_coco_weights_for_another_backbone_are_refused_before_the_download(monkeypatch):
    class Small(Config):
        BACKBONE = "mobilenet_v2"

    monkeypatch.setattr(zoo, "download", lambda *_, **__: pytest.fail("nothing may be downloaded"))
    with pytest.raises(
        cli_support.UsageError, match="of a resnet101. Received: BACKBONE=mobilenet_v2"
    ):
        cli_support.load_start(SimpleNamespace(config=Small(), model_dir="logs"), "coco")


class WithLog:
    """A model that records what it is asked to load."""

    def __init__(self, config):
        self.config, self.model_dir, self.loads = config, "logs", []

    def load_weights(self, path, **options):
        self.loads.append((path, options))


def test_class_heads_of_released_weights_are_left_out_unless_classes_are_kept(monkeypatch):
    monkeypatch.setattr(cli_support, "check_start", lambda *_: None)
    model = WithLog(Config())
    cli_support.load_start(model, "mask_rcnn_R_50_FPN_3x")
    cli_support.load_start(model, "mask_rcnn_R_50_FPN_3x", kept_classes={"dog": 1})
    cli_support.load_start(model, "mine.h5")
    cli_support.load_start(model, "mine.h5", kept_classes={"dog": 1})
    heads = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask")
    assert model.loads == [
        ("mask_rcnn_R_50_FPN_3x", {"exclude": heads}),
        ("mask_rcnn_R_50_FPN_3x", {"remap_classes": {"dog": 1}}),
        ("mine.h5", {}),
        ("mine.h5", {"remap_classes": {"dog": 1}}),
    ]


def test_settings_of_a_name_are_adopted_but_not_over_those_of_config():
    config = cli_support.read_config(["IMAGE_MIN_DIM=320"])
    cli_support.adopt_network(config, "logs", "fasterrcnn_resnet50_fpn_v2_coco")
    assert (config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.USE_MASK) == (320, 1333, False)
    before = Config().to_dict()
    for start in (None, "imagenet", "coco"):
        unchanged = Config()
        cli_support.adopt_network(unchanged, "logs", start)
        assert unchanged.to_dict() == before


def test_name_of_another_backbone_than_that_of_config_is_a_usage_error():
    config = cli_support.read_config(["BACKBONE=resnet101"])
    with pytest.raises(cli_support.UsageError, match="are of a resnet50. Received: BACKBONE=resn"):
        cli_support.check_start(config, "logs", "maskrcnn_resnet50_fpn_coco")


@pytest.mark.parametrize(
    ("items", "advice", "useless"),
    [
        ([], "TRAIN_BN=None", "BACKBONE_NORM"),
        (["PRESET=fcos"], "BACKBONE_NORM=group", "TRAIN_BN"),
        (["PRESET=fcos", "BACKBONE=mobilenet_v2"], "TRAIN_BN=None", "BACKBONE_NORM"),
        (["PRESET=retinanet2"], "`mrcnn weights` lists", "--config"),
    ],
)
def test_random_weights_bring_advice_for_the_norm_of_the_network(items, advice, useless, caplog):
    model = SimpleNamespace(config=cli_support.read_config(items), model_dir="logs")
    cli_support.load_start(model, None)
    assert advice in caplog.text and useless not in caplog.text


def test_resuming_names_changed_settings_but_not_computed_ones(monkeypatch, caplog):
    then = {"config": {**Config().to_dict(), "WARMUP_STEPS": 1, "WEIGHT_DECAY": 0.5}}
    monkeypatch.setattr(opening, "read_metadata", lambda path: then)
    cli_support._warn_of_other_settings("last.h5", Config(), computed={"WARMUP_STEPS"})
    assert "WEIGHT_DECAY=0.0001 (was 0.5)" in caplog.text and "WARMUP_STEPS" not in caplog.text


def test_ascii_terminal_does_not_end_a_run(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    assert (
        cli_support.exit_code(lambda: cli_support.say("Großer \ud800 \x1b[31m"), "mrcnn")
        == cli_support.OK
    )
    stdout.flush()
    assert stdout.buffer.getvalue() == b"Gro\\xdfer \\ufffd  [31m\n"


def test_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        cli_support.tempfile, "TemporaryFile", refuse
    )  # tests may run as root, whom nothing is refused
    with pytest.raises(cli_support.UsageError, match="--out must be a folder.*Permission denied"):
        cli_support.make_folder(tmp_path / "new", "--out")

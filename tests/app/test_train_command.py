"""`mrcnn train`: settings from data, validation data, errors before a network is built."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import coco_file, image_file, no_tensorflow, run, via_file

from mrcnn.app import cli, cli_support, data_option, train_command
from mrcnn.config import Config
from mrcnn.data.shapes import ShapesDataset


def test_settings_follow_from_the_data_unless_given(tmp_path):
    args = SimpleNamespace(
        data=str(tmp_path / "my fruit-2" / "train"), seed=9, learning_rate=0.5, gpus=2, epochs=20
    )
    train, val = ShapesDataset(9), ShapesDataset(5)

    config = cli_support.read_config(["IMAGES_PER_GPU=2"])
    train_command.fit_config(config, args, train, val)
    assert config.NAME == "myfruit2"  # of the folder above train
    assert config.NUM_CLASSES == 4
    assert config.STEPS_PER_EPOCH == 3  # 9 images / (2 on each of 2 GPUs), rounded up
    assert config.VALIDATION_STEPS == 2  # 5 images / 4, rounded up
    assert config.WARMUP_STEPS == 6  # a tenth of 20 epochs of 3 steps
    assert (config.SEED, config.LEARNING_RATE, config.GPU_COUNT) == (9, 0.5, 2)

    config = cli_support.read_config(["NAME=mine", "STEPS_PER_EPOCH=7", "VALIDATION_STEPS=1"])
    train_command.fit_config(config, args, train, None)
    assert (config.NAME, config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == ("mine", 7, 1)


def test_invalid_setting_is_a_usage_error(capsys):
    assert run("train", "shapes", "--config", "IMAGE_MAX_DIM=100") == cli.USAGE
    assert "multiples of 64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
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
def test_invalid_options_are_reported_before_a_network_is_built(
    words, sentence, capsys, monkeypatch, tmp_path
):
    no_tensorflow(monkeypatch)
    assert run("train", "shapes", "--logs", tmp_path, *words) == cli.USAGE
    assert sentence in capsys.readouterr().err


def test_validation_classes_follow_the_training_classes(tmp_path, caplog):
    via_file(tmp_path / "train", ["cat", "dog", "dog"], count=2)
    via_file(tmp_path / "val", ["dog"])
    with caplog.at_level("INFO", logger="mrcnn"):
        train, val = train_command.open_training_data(str(tmp_path), None)
    assert train.class_names == val.class_names == ["BG", "cat", "dog"]
    assert val.load_mask(0)[1].tolist() == [2]  # the only class of its file, yet class 2
    assert "Found data to train on in" in caplog.text
    assert "VIADataset, 2 images, 2 classes (and their objects): cat 2, dog 4" in caplog.text


def test_validation_on_training_images_is_warned_about(tmp_path, caplog):
    via_file(tmp_path / "train", ["cat"], count=3)
    train_command.open_training_data(
        str(tmp_path / "train"), str(tmp_path / "train" / ".." / "train")
    )
    assert "3 of 3 validation images are among the training images" in caplog.text
    caplog.clear()
    via_file(tmp_path / "val", ["cat"])
    train_command.open_training_data(str(tmp_path / "train"), str(tmp_path / "val"))
    assert "are among the training images" not in caplog.text


def test_images_without_masks_are_refused_for_training(tmp_path, capsys, monkeypatch):
    no_tensorflow(monkeypatch)
    for name in ("a", "b"):
        image_file(tmp_path / "data" / name / "images" / "a.png")
    assert run("train", tmp_path / "data", "--logs", tmp_path / "logs") == cli.FAILED
    assert "DATA must hold objects to learn from" in (shown := capsys.readouterr().err)
    assert f"Received: {tmp_path / 'data'}, 2 images and not one object." in shown


def test_missing_images_are_reported_before_a_network_is_built(tmp_path, capsys, monkeypatch):
    no_tensorflow(monkeypatch)
    file = coco_file(tmp_path, images=[{"id": 1, "file_name": "a.png", "height": 64, "width": 64}])
    assert run("train", file, "--logs", tmp_path / "logs") == cli.FAILED
    assert (
        "of whose 1 images not one exists" in (shown := capsys.readouterr().err)
        and "--images DIR" in shown
    )
    assert run("check", file, "--no-pixels") == cli.OK


def test_box_annotations_are_refused_for_a_network_with_masks(tmp_path, capsys, monkeypatch):
    no_tensorflow(monkeypatch)
    image_file(tmp_path / "a.png")
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
    image_file(tmp_path / "images" / "a.png")
    coco_file(tmp_path / "annotations", "instances_train.json")
    coco_file(
        tmp_path / "annotations", "instances_valid.json", categories=[{"id": 1, "name": "cat"}]
    )
    train, val = train_command.open_training_data(str(tmp_path), None)
    assert train.class_names == val.class_names == ["BG", "cat"]
    assert Path(val.image_info[0]["file"]).name == "instances_valid.json"


def test_generated_validation_images_differ_from_the_training_images():
    train, val = train_command.open_training_data("shapes", None)
    assert train.seed != val.seed
    assert data_option.objects_per_class(train) is None  # not known without drawing them


def test_missing_files_are_reported_before_slow_work(tmp_path, capsys):
    missing = tmp_path / "w.h5"
    assert run("evaluate", "shapes", "--weights", missing) == cli.FAILED
    assert run("train", "shapes", "--weights", missing) == cli.FAILED
    assert run("train", "shapes", "--backbone-weights", missing) == cli.FAILED
    assert run("train", tmp_path / "nowhere") == cli.FAILED
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mrcnn: ")]
    assert [line.split(" must ")[0] for line in lines] == [
        "mrcnn: --weights",
        "mrcnn: --weights",
        "mrcnn: --backbone-weights",
        "mrcnn: DATA",
    ]


def test_coco_weights_for_another_backbone_are_refused_before_the_data_is_read(tmp_path, capsys):
    words = ["--weights", "coco", "--config", "BACKBONE=resnet50"]
    assert run("train", tmp_path / "nowhere", *words) == cli.USAGE
    assert "weights coco are of a resnet101" in capsys.readouterr().err


# --- Released weights ---


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Run `mrcnn train` on two rectangles of a cat and a dog; return its config and classes."""

    def train(*words):
        calls = []

        def note(config, args, data, kept_classes):
            calls.append((config, kept_classes))
            train.weights, train.data, train.args = args.weights, data, args
            return SimpleNamespace(checkpoint_path="x", epoch=1)

        monkeypatch.setattr(train_command, "_train", note)
        data = tmp_path / "data"
        if not data.exists():
            via_file(data, ["cat", "dog"])
        assert run("train", data, "--logs", tmp_path / "logs", *words) == cli.OK
        return calls[0]

    return train


def test_name_brings_its_network(trained):
    name = "maskrcnn_resnet50_fpn_v2_coco"
    config, kept = trained("--weights", name, "--config", "IMAGE_MIN_DIM=320")
    expected = Config.torchvision(2)
    expected.IMAGE_MIN_DIM = 320
    computed = ("NAME", "NUM_CLASSES", "STEPS_PER_EPOCH", "WARMUP_STEPS", "EMA_DECAY")
    for setting in (*computed, *train_command.SELF_WATCHING):
        setattr(expected, setting, getattr(config, setting))
    assert config.to_dict() == expected.to_dict()
    assert (config.NUM_CLASSES, config.WARMUP_STEPS) == (3, 100)  # a tenth of 1,000 steps
    assert kept is None


def test_learning_rate_of_the_command_line_wins(trained):
    config, _ = trained("--weights", "mask_rcnn_R_50_FPN_3x", "--learning-rate", "0.5")
    assert config.LEARNING_RATE == 0.5 and config.ROI_ALIGN == "aligned"


def test_known_classes_are_kept_on_request(trained):
    _, kept = trained("--weights", "coco", "--keep-classes")
    assert kept == {"cat": 1, "dog": 2}


@pytest.mark.parametrize("words", [[], ["--weights", "imagenet"]])
def test_classes_are_kept_of_a_whole_network_only(words, tmp_path, capsys):
    via_file(tmp_path / "data", ["cat"])
    assert run("train", tmp_path / "data", *words, "--keep-classes") == cli.USAGE
    assert "--keep-classes needs --weights of a network" in capsys.readouterr().err


def test_wrong_name_is_refused_before_the_data_is_read(tmp_path, capsys):
    assert run("train", tmp_path / "nowhere", "--weights", "maskrcnn_resnet50") == cli.FAILED
    shown = capsys.readouterr().err
    assert "--weights must be a file, or a name that `mrcnn weights` lists" in shown
    assert "Did you mean maskrcnn_resnet50_fpn_coco" in shown


def test_network_option_takes_its_preset_and_the_warmup_of_the_training(trained):
    config, _ = trained("--network", "retinanet", "--config", "FOCAL_GAMMA=1.5")
    assert (config.NETWORK, config.FOCAL_GAMMA, config.CONTINUOUS_BOXES) == ("retinanet", 1.5, True)
    assert config.WARMUP_STEPS == 100  # a tenth of 1,000 steps


@pytest.mark.parametrize(
    ("weights", "words", "needed", "remedy"),
    [
        (
            "maskrcnn_resnet50_fpn_v2_coco",
            ["--network", "fcos"],
            "mask_rcnn",
            "--weights fcos_resnet50_fpn_coco",
        ),
        ("nuclei", ["--network", "fcos"], "mask_rcnn", "--weights fcos_resnet50_fpn_coco"),
        (
            "coco",
            ["--config", "NETWORK=retinanet"],
            "mask_rcnn",
            "--weights retinanet_resnet50_fpn_v2_coco",
        ),
        (
            "fcos_resnet50_fpn_coco",
            ["--network", "mask_rcnn"],
            "fcos",
            "--weights maskrcnn_resnet50_fpn_v2_coco",
        ),
    ],
)
def test_name_of_another_network_is_refused_before_the_data_is_read(
    weights, words, needed, remedy, tmp_path, capsys
):
    assert run("train", tmp_path / "nowhere", "--weights", weights, *words) == cli.USAGE
    shown = capsys.readouterr().err
    assert f"The weights {weights} need the network {needed}. Received: " in shown
    assert f"Try {remedy}, or leave out the network." in shown


def test_name_of_the_network_of_the_option_is_accepted(trained):
    for network, name in [
        ("mask_rcnn", "maskrcnn_resnet50_fpn_coco"),
        ("fcos", "fcos_resnet50_fpn_coco"),
    ]:
        config, _ = trained("--weights", name, "--network", network)
        assert (network, "resnet50") == (config.NETWORK, config.BACKBONE)


def test_weights_bring_another_network(trained):
    config, _ = trained("--weights", "retinanet_resnet50_fpn_v2_coco")
    assert (config.NETWORK, config.BOX_LOSS, config.NUM_CLASSES) == ("retinanet", "giou", 3)


# --- A training that watches itself ---


def watching(config):
    return config.VALIDATION_AP_IMAGES, config.EARLY_STOPPING_PATIENCE, config.RUN_REPORT


def test_training_watches_itself_unless_told_otherwise(trained, capsys):
    config, _ = trained("--config", "BACKBONE=resnet50")
    assert watching(config) == ("auto", 15, True)
    shown = capsys.readouterr().err
    for setting in ("VALIDATION_AP_IMAGES=auto", "EARLY_STOPPING_PATIENCE=15", "RUN_REPORT=True"):
        assert setting in shown
    off = ["VALIDATION_AP_IMAGES=None", "EARLY_STOPPING_PATIENCE=None", "RUN_REPORT=False"]
    assert watching(trained("--config", *off)[0]) == (None, None, False)
    assert watching(trained("--config", "VALIDATION_AP_IMAGES=50")[0])[0] == 50


def test_no_early_stopping_while_the_learning_rate_falls(trained, capsys):
    schedule = ["--config", "LEARNING_RATE_SCHEDULE=cosine"]
    assert watching(trained(*schedule)[0]) == ("auto", None, True)
    assert "No early stopping: the learning rate falls" in capsys.readouterr().err
    assert watching(trained(*schedule, "EARLY_STOPPING_PATIENCE=7")[0]) == ("auto", 7, True)


def test_overfitting_does_not_stop_early():
    config = Config()
    train_command.watch_itself(config, overfits=True)
    assert watching(config) == ("auto", None, True)


def test_end_of_a_training_names_best_weights_and_report(trained, tmp_path, monkeypatch, capsys):
    trained()
    assert capsys.readouterr().out == "Weights: x\n"
    for name in ("best.h5", "report.html", "split.json"):
        (tmp_path / name).touch()
    train_command._say_results(str(tmp_path / "mask_rcnn_data_0010.h5"), "data", larger=704)
    shown = capsys.readouterr()
    best = tmp_path / "best.h5"
    assert f"Weights with the highest AP: {best}" in shown.out
    assert f"Report: {tmp_path / 'report.html'}" in shown.out
    assert f"mrcnn detect IMAGE --weights {best} --out found" in shown.err
    measure = f"mrcnn evaluate data --split {tmp_path / 'split.json'} --weights {best}"
    assert measure in shown.err
    assert "small objects with --config IMAGE_MIN_DIM=704 IMAGE_MAX_DIM=704." in shown.err


# --- The network and the length that the command chooses ---


@pytest.fixture
def gpu(monkeypatch):
    """Function: let the command see a GPU, or none; TensorFlow is not loaded."""

    def set_sizes(config, by_user, dataset, has_gpu):
        config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = 320
        config.IMAGES_PER_GPU = 1

    monkeypatch.setattr(train_command, "choose_sizes", set_sizes)
    return lambda exists: monkeypatch.setattr(train_command, "has_gpu", lambda: exists)


@pytest.mark.parametrize("words", [[], ["--config", "IMAGE_MAX_DIM=512", "IMAGE_MIN_DIM=512"]])
def test_without_a_gpu_a_small_network_starts_from_the_packaged_weights(
    words, trained, gpu, capsys
):
    gpu(False)
    config, _ = trained(*words)
    assert (config.BACKBONE, trained.weights) == ("efficientnet_lite2", "imagenet")
    assert (config.MASK_CHANNELS, config.OPTIMIZER, config.LEARNING_RATE) == (96, "adam", 0.0005)
    log = capsys.readouterr().err
    assert "PRESET=lite, efficientnet_lite2 from the ImageNet weights in this package" in log
    assert "BACKBONE=efficientnet_lite2" in log.split("Settings that differ from the defaults")[1]


def test_settings_stay_as_the_user_has_them_in_the_small_network(trained, gpu):
    gpu(False)
    config, _ = trained("--config", "MASK_CHANNELS=32", "NAME=mine", "--learning-rate", "0.002")
    assert (config.BACKBONE, config.MASK_CHANNELS) == ("efficientnet_lite2", 32)
    assert (config.NAME, config.NUM_CLASSES, config.LEARNING_RATE) == ("mine", 3, 0.002)


@pytest.mark.parametrize(
    ("weights", "advice"),
    [(None, "BACKBONE=efficientnet_lite2"), ("coco", "--layers heads, or no --weights")],
)
def test_advice_for_a_cpu_suits_the_weights(weights, advice, gpu, caplog):
    gpu(False)
    train_command._warn_of_slow_cpu(Config(), weights)
    assert advice in caplog.text


def test_a_training_has_ten_epochs_or_a_thousand_steps(trained, gpu, capsys):
    gpu(True)
    trained("--config", "STEPS_PER_EPOCH=300")
    assert trained.args.epochs == 10
    config, _ = trained("--config", "STEPS_PER_EPOCH=31")
    assert (trained.args.epochs, config.WARMUP_STEPS) == (33, 102)  # 33 * 31 = 1,023
    assert "Epochs: 33 of 31 steps (--epochs N)." in capsys.readouterr().err
    config, _ = trained()  # two images would be epochs of one step
    assert (trained.args.epochs, config.STEPS_PER_EPOCH, config.WARMUP_STEPS) == (20, 50, 100)
    config, _ = trained("--epochs", "3")
    assert (trained.args.epochs, config.STEPS_PER_EPOCH) == (3, 1)


def test_with_a_gpu_the_backbone_is_that_of_config(trained, gpu):
    gpu(True)
    config, _ = trained()
    assert (config.BACKBONE, trained.weights) == ("resnet101", None)
    assert (config.IMAGE_MAX_DIM, config.IMAGES_PER_GPU) == (1024, 2)


# --- What the command chooses from the data and the machine ---


@pytest.mark.parametrize(
    ("has_gpu", "words", "side"),
    [
        (False, [], 320),  # the command chooses the backbone, too
        (False, ["--no-auto"], 1024),
        (True, ["--auto"], 320),
        (False, ["--weights", "imagenet"], 1024),
        (False, ["--weights", "imagenet", "--auto"], 320),
    ],
)
def test_sizes_are_chosen_with_the_backbone_or_on_request(has_gpu, words, side, trained, gpu):
    gpu(has_gpu)
    config, _ = trained(*words, "--epochs", "10")
    assert side == config.IMAGE_MAX_DIM
    chosen = side == 320
    # One image a batch instead of two: one step an epoch of one image, half the rate.
    assert (1 if chosen else 2, 1) == (config.IMAGES_PER_GPU, config.STEPS_PER_EPOCH)
    is_lite = config.OPTIMIZER == "adam"  # has a rate of its own, whatever the batch
    assert (0.0005 if chosen or is_lite else 0.001) == config.LEARNING_RATE


def test_one_folder_is_split_and_its_steps_are_those_of_the_part(tmp_path, trained, gpu, capsys):
    gpu(True)
    via_file(tmp_path / "data", ["cat"], count=20)
    config, _ = trained("--epochs", "10")
    assert (config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == (8, 2)  # 16 and 4 images / 2
    assert len(trained.data.validation.image_ids) == 4
    assert "16 images to train on, 4 to validate on" in capsys.readouterr().err
    config, _ = trained("--split", "off", "--epochs", "10")
    assert config.STEPS_PER_EPOCH == 10 and trained.data.validation is None


def test_overfitting_has_long_epochs_of_few_images(tmp_path, trained, gpu):
    gpu(False)
    via_file(tmp_path / "data", ["cat"], count=20)
    config, _ = trained("--overfit", "2")
    assert len(trained.data.train.image_ids) == len(trained.data.validation.image_ids) == 2
    assert (config.STEPS_PER_EPOCH, config.VALIDATION_STEPS) == (100, 2)
    assert config.WARMUP_STEPS == 100  # a tenth of 10 epochs


def test_anchors_and_rate_of_the_user_stay(trained, gpu):
    gpu(True)
    words = ["RPN_ANCHOR_SCALES=(16,32,64,128,256)", "IMAGES_PER_GPU=4"]
    config, _ = trained("--learning-rate", "0.1", "--config", *words)
    assert (config.RPN_ANCHOR_SCALES, config.LEARNING_RATE) == ((16, 32, 64, 128, 256), 0.1)


@pytest.mark.parametrize(
    "words",
    [
        ["--weights", "imagenet"],
        ["--weights", "coco"],
        ["--network", "fcos"],
        ["--config", "PRESET=detectron"],
        ["--config", "BACKBONE=resnet101"],
        ["--config", "BACKBONE_STRIDES=[16]", "BOX_HEAD=res5"],
        ["--config", "BACKBONE_NORM=group"],
    ],
)
def test_backbone_of_the_user_stays_without_a_gpu(words, trained, gpu):
    gpu(False)
    config, _ = trained(*words)
    assert config.BACKBONE in ("resnet50", "resnet101")
    assert trained.weights == (words[1] if words[0] == "--weights" else None)


def test_config_class_and_backbone_file_of_the_user_stay_without_a_gpu(
    trained, gpu, tmp_path, monkeypatch
):
    gpu(False)
    script = tmp_path / "mine.py"
    script.write_text("from mrcnn.config import Config\nclass Mine(Config):\n    NAME = 'mine'\n")
    assert trained("--config", script)[0].BACKBONE == "resnet101"
    monkeypatch.setattr(train_command, "check_start", lambda *_: None)
    assert trained("--backbone-weights", "r101.h5")[0].BACKBONE == "resnet101"

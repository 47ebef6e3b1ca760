"""What `mrcnn train` chooses: anchors, learning rate, augmentation; and what keeps it from it."""

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from squares import Squares

from mrcnn.app import training_defaults as defaults
from mrcnn.app.cli_support import read_config, with_network

NOWHERE = Path("nowhere")


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO, logger="mrcnn")


def options(*items, **changes):
    args = SimpleNamespace(
        config=list(items),
        network=None,
        weights=None,
        logs="nowhere",
        learning_rate=None,
        fit_anchors=True,
        overfit=None,
        augment=None,
    )
    vars(args).update(changes)
    return args


def config_of(args):
    config = read_config(with_network(args.config, args.network))
    config.NUM_CLASSES = 3
    return config


def by_user(args):
    return defaults.user_settings(config_of(args), args) - {"NUM_CLASSES"}


# --- Anchors ---


class Small(Squares):
    """Objects of 6 x 6 px in images of 64 x 64."""

    def load_mask(self, image_id):
        mask = np.zeros((64, 64, 1), bool)
        mask[10 + image_id : 16 + image_id, 20:26, 0] = True
        return mask, np.array([1])


SIDE = ("IMAGE_MIN_DIM=64", "IMAGE_MAX_DIM=64")


def scales_after(dataset, *items, **changes):
    args = options(*SIDE, *items, **changes)
    config = config_of(args)
    defaults.fit_to_objects(config, args, by_user(args), dataset)
    return config.RPN_ANCHOR_SCALES


def test_anchors_are_fitted_to_small_objects(caplog):
    scales = scales_after(Small())
    assert scales == (6, 8, 12, 16, 24)
    # A square of 6 px has an IoU of 36 / 1024 = 0.035 with an anchor of 32 around it. One of 6
    # has at least 0.5 unless it lies 2 px aside in both directions, as in two of the six images.
    assert "so that 66.7% instead of 0.0% of 6 objects in 6 images overlap" in caplog.text


def test_anchors_that_fit_stay(caplog):
    assert scales_after(Squares()) == (32, 64, 128, 256, 512)
    assert "fit: 100.0% of 6 objects" in caplog.text


def test_anchors_stay_without_objects():
    empty = Squares(masks=np.zeros((64, 64, 0), bool), class_ids=[])
    assert scales_after(empty) == (32, 64, 128, 256, 512)


@pytest.mark.parametrize(
    "changes", [{"weights": "coco"}, {"weights": "x.h5"}, {"fit_anchors": False}]
)
def test_anchors_of_weights_and_on_request_stay(changes):
    assert scales_after(Small(), **changes) == (32, 64, 128, 256, 512)


def test_anchors_of_the_user_stay_and_those_of_a_preset_do_not():
    assert scales_after(Small(), "RPN_ANCHOR_SCALES=[64,65,66,67,68]") == [64, 65, 66, 67, 68]
    fitted = scales_after(Small(), network="retinanet")
    assert len(fitted[0]) == 3 and fitted[0][0] < 32  # three sides a level, as before
    assert scales_after(Small(), network="fcos") == (8, 16, 32, 64, 128)  # it has no anchors


# --- Limits of objects ---


@pytest.mark.parametrize(
    ("most", "items", "expected"),
    [
        (0, (), (100, 100)),
        (100, (), (100, 100)),
        (101, (), (150, 150)),
        (313, ("DETECTION_MAX_INSTANCES=50",), (350, 50)),
        (5000, (), (400, 400)),
    ],
)
def test_limits_are_raised_to_the_fullest_image(most, items, expected, caplog):
    config = config_of(options(*items))
    defaults.raise_limits(config, by_user(options(*items)), most)
    limits = config.MAX_GT_INSTANCES, config.DETECTION_MAX_INSTANCES
    assert limits == expected
    assert ("Images have up to" in caplog.text) == (expected[0] > 100)


def test_limits_follow_from_the_data_but_not_of_a_resumed_run():
    full = Squares(masks=np.ones((64, 64, 120), bool), class_ids=[1] * 120)

    def limit(**changes):
        args = options(*SIDE, **changes)
        config = config_of(args)
        defaults.fit_to_objects(config, args, by_user(args), full)
        return config.MAX_GT_INSTANCES

    assert limit() == limit(weights="coco") == limit(fit_anchors=False) == 150
    assert limit(weights="last") == 100


# --- Learning rate ---


@pytest.mark.parametrize(
    ("items", "changes", "rate"),
    [
        ([], {}, 0.001),
        (["IMAGES_PER_GPU=8"], {}, 0.004),  # 0.001 / 2 * 8
        (["IMAGES_PER_GPU=1"], {}, 0.0005),
        (["IMAGES_PER_GPU=16"], {"network": "retinanet"}, 0.01),  # torchvision's, of 16
        (["PRESET=detectron", "IMAGES_PER_GPU=16"], {}, 0.02),  # detectron2's, of 16
        (["IMAGES_PER_GPU=8", "LEARNING_RATE=0.3"], {}, 0.3),
        (["IMAGES_PER_GPU=8"], {"learning_rate": 0.3}, 0.001),  # set by `fit_config`
        (["IMAGES_PER_GPU=8", "OPTIMIZER=adam"], {}, 0.001),
        (["IMAGES_PER_GPU=8"], {"weights": "last"}, 0.001),  # adopted from the checkpoint
    ],
)
def test_rate_is_proportional_to_the_batch(items, changes, rate):
    args = options(*items, **changes)
    config = config_of(args)
    defaults.scale_rate(config, args, by_user(args))
    assert pytest.approx(rate) == config.LEARNING_RATE


def test_rate_says_why(caplog):
    args = options("IMAGES_PER_GPU=4")
    defaults.scale_rate(config_of(args), args, set())
    assert "0.002 instead of 0.001, which is for 2 images a batch, for there are 4" in caplog.text


@pytest.mark.parametrize(
    ("items", "changes", "epochs", "decay"),
    [
        (["STEPS_PER_EPOCH=100"], {}, 6, 0.99),  # 600 / 6 = 100 steps, 1 - 1 / 100
        (["STEPS_PER_EPOCH=100"], {}, 1000, 0.999),  # at most 1,000 steps
        (["STEPS_PER_EPOCH=1"], {}, 1, 0.9),  # at least 10
        (["STEPS_PER_EPOCH=100", "EMA_DECAY=0"], {}, 6, 0.0),
        (["STEPS_PER_EPOCH=100"], {"overfit": 2}, 6, 0.0),
        (["STEPS_PER_EPOCH=100"], {"weights": "last"}, 6, 0.0),  # adopted from the checkpoint
    ],
)
def test_weights_are_averaged_over_a_sixth_of_the_steps(items, changes, epochs, decay):
    args = options(*items, **changes)
    config = config_of(args)
    defaults.average_weights(config, args, by_user(args), epochs)
    assert pytest.approx(decay) == config.EMA_DECAY


# --- A checkpoint ---


@pytest.fixture
def checkpoint(monkeypatch, tmp_path):
    """Weights whose config has these settings."""

    def make(**settings):
        config = config_of(options())
        for name, value in settings.items():
            setattr(config, name, value)
        monkeypatch.setattr(defaults, "resumed_checkpoint", lambda *_: tmp_path / "w.h5")
        monkeypatch.setattr(
            "mrcnn.weights.opening.read_metadata", lambda _: {"config": config.to_dict()}
        )

    return make


def test_resumed_training_has_what_the_command_chose(checkpoint, caplog):
    checkpoint(
        RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128), LEARNING_RATE=0.004, BACKBONE="resnet50", SEED=4,
        EMA_DECAY=0.99,
    )  # fmt: skip
    args = options("IMAGE_MAX_DIM=512", weights="last")
    config = config_of(args)
    defaults.adopt_checkpoint(config, args, by_user(args), "run")
    assert config.RPN_ANCHOR_SCALES == (8, 16, 32, 64, 128)
    assert (config.LEARNING_RATE, config.BACKBONE) == (0.004, "resnet50")
    assert config.EMA_DECAY == 0.99
    assert (config.IMAGE_MAX_DIM, config.SEED) == (512, None)
    assert "RPN_ANCHOR_SCALES=[8, 16, 32, 64, 128]" in caplog.text


def test_run_from_a_model_of_this_package_is_resumed_with_its_network(checkpoint):
    checkpoint(
        TOP_DOWN_PYRAMID_SIZE=48, MASK_SHAPE=[14, 14], TRAIN_BN=None, STEPS_PER_EPOCH=7, SEED=4,
        MEAN_PIXEL=np.array([1.0, 2.0, 3.0]), RPN_CHANNELS=64,
    )  # fmt: skip
    args = options("RPN_CHANNELS=32", weights="last")
    config = config_of(args)
    defaults.adopt_checkpoint(config, args, by_user(args), "run")
    assert (config.TOP_DOWN_PYRAMID_SIZE, config.MASK_SHAPE, config.TRAIN_BN) == (
        48,
        [14, 14],
        None,
    )
    assert config.MEAN_PIXEL.tolist() == [1.0, 2.0, 3.0] and config.RPN_CHANNELS == 32
    assert (config.SEED, config.STEPS_PER_EPOCH) == (None, 1000)


def test_resumed_training_is_as_long_as_it_was_to_be(checkpoint, tmp_path, monkeypatch):
    checkpoint(STEPS_PER_EPOCH=16, WARMUP_STEPS=32)
    record = {"until": 20, "layers": "heads"}
    monkeypatch.setattr("mrcnn.training.training_state.newest_record", lambda _: record)

    def resumed(*items, **changes):
        args = options(*items, **{"weights": "last", "epochs": None, "layers": None, **changes})
        config = config_of(args)
        defaults.adopt_length(config, args, by_user(args), "run")
        return args.epochs, args.layers, config.STEPS_PER_EPOCH, config.WARMUP_STEPS

    as_now = config_of(options()).STEPS_PER_EPOCH, config_of(options()).WARMUP_STEPS
    assert resumed() == (20, "heads", 16, 32)
    assert resumed(epochs=20, layers="all") == (20, "all", 16, 32)
    assert resumed(epochs=30) == (30, None, 16, as_now[1])  # another stage
    assert resumed("STEPS_PER_EPOCH=50", "WARMUP_STEPS=0") == (20, "heads", 50, 0)
    assert resumed("IMAGES_PER_GPU=4")[2] == as_now[0]  # fewer steps for larger batches
    assert resumed(weights="coco") == (None, None, *as_now)


def test_other_weights_bring_their_network_only(checkpoint):
    checkpoint(RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128), LEARNING_RATE=0.004)
    args = options("BACKBONE=resnet101", weights="x.h5")
    config = config_of(args)
    defaults.adopt_checkpoint(config, args, by_user(args), "run")
    assert config.RPN_ANCHOR_SCALES == (8, 16, 32, 64, 128) and config.LEARNING_RATE == 0.001


def test_weights_of_another_network_bring_nothing(checkpoint):
    checkpoint(NETWORK="fcos", RPN_ANCHOR_SCALES=(8, 16, 32, 64, 128))
    args = options(weights="x.h5")
    config = config_of(args)
    defaults.adopt_checkpoint(config, args, set(), "run")
    assert config.RPN_ANCHOR_SCALES == (32, 64, 128, 256, 512)


# --- Augmentation and overfitting ---


def test_augmentation_is_the_standard_one_unless_named():
    assert defaults.choose_augmentation(options(), NOWHERE).names == ("standard",)
    assert defaults.choose_augmentation(options(augment=["none"]), NOWHERE) is None
    assert defaults.choose_augmentation(options(overfit=2), NOWHERE) is None
    named = options(augment=["microscopy", "copy_paste"], overfit=2)
    assert defaults.choose_augmentation(named, NOWHERE).names == ("microscopy", "copy_paste")


@pytest.mark.parametrize(
    ("stored", "changes", "expected"),
    [
        ('{"augment": ["flip", "hue"]}', {}, ("flip", "hue")),
        ('{"augment": ["flip", "hue"]}', {"augment": ["blur"]}, ("blur",)),
        ('{"augment": ["flip", "hue"]}', {"weights": "x.h5"}, ("standard",)),
        ('{"augment": [["flip"]]}', {}, ("standard",)),
        ("[]", {}, ("standard",)),
        (None, {}, ("standard",)),
    ],
)
def test_resumed_training_keeps_its_augmentation(stored, changes, expected, tmp_path):
    if stored is not None:
        (tmp_path / "options.json").write_text(stored)
    args = options(**{"weights": "last", **changes})
    assert defaults.choose_augmentation(args, tmp_path).names == expected


def test_epochs_of_overfitting_are_long_unless_set():
    for items, steps in ((), 100), (("STEPS_PER_EPOCH=7",), 7):
        args = options(*items, overfit=2)
        config = config_of(args)
        defaults.set_overfitting_steps(config, args, by_user(args))
        assert steps == config.STEPS_PER_EPOCH


def test_files_of_the_run(tmp_path):
    class Data:
        train = Squares()

        def write(self, folder):
            (tmp_path / "split").touch()

    config = config_of(options(*SIDE))
    defaults.write_run_files(str(tmp_path), Data(), config, None, ["none"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["options.json", "split"]
    augmentation = defaults.choose_augmentation(options(), NOWHERE)
    defaults.write_run_files(str(tmp_path), Data(), config, augmentation, ["standard"])
    assert (tmp_path / "augmentation.png").stat().st_size > 1000

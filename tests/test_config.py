"""Config: values, derived values, names, checks, and values read from a file."""

import copy
import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn import config as config_module
from mrcnn.config import Config, as_config


def test_derived_values_follow_the_others():
    class Settings(Config):
        IMAGES_PER_GPU = 3
        GPU_COUNT = 2
        IMAGE_MAX_DIM = 512
        IMAGE_MIN_DIM = 256
        NUM_CLASSES = 5

    config = Settings()
    assert config.BATCH_SIZE == 3 * 2
    assert config.IMAGE_SHAPE.tolist() == [512, 512, 3]
    assert config.IMAGE_META_SIZE == 1 + 3 + 3 + 4 + 1 + 5
    config.IMAGES_PER_GPU, config.IMAGE_RESIZE_MODE, config.IMAGE_CHANNEL_COUNT = 1, "crop", 1
    assert config.BATCH_SIZE == 2
    assert config.IMAGE_SHAPE.tolist() == [256, 256, 1]


def test_derived_values_may_be_assigned():
    config = Config()
    config.BATCH_SIZE, config.IMAGE_SHAPE, config.IMAGE_META_SIZE = 7, [128, 256, 3], 20
    assert (config.BATCH_SIZE, config.IMAGE_META_SIZE) == (7, 20)
    assert isinstance(config.IMAGE_SHAPE, np.ndarray) and config.IMAGE_SHAPE.tolist() == [
        128,
        256,
        3,
    ]
    assert Config().BATCH_SIZE == 2  # only of this instance


def test_values_set_before_init_are_kept():
    class Early(Config):
        def __init__(self, classes):
            self.NUM_CLASSES = classes
            self.IMAGES_PER_GPU = 1
            super().__init__()

    config = Early(4)
    assert (config.NUM_CLASSES, config.BATCH_SIZE, config.IMAGE_META_SIZE) == (4, 1, 16)


def test_init_of_a_subclass_need_not_call_that_of_config():
    class Late(Config):
        def __init__(self):
            self.IMAGES_PER_GPU = 5

    assert Late().BATCH_SIZE == 5
    assert Late().IMAGE_SHAPE.tolist() == [1024, 1024, 3]


def test_class_derived_from_the_class_of_an_instance():
    class Training(Config):
        NUM_CLASSES = 3
        IMAGES_PER_GPU = 8

    config = Training()

    class Inference(config.__class__):
        IMAGES_PER_GPU = 1

    assert (Inference().BATCH_SIZE, Inference().NUM_CLASSES) == (1, 3)


def test_name_similar_to_a_setting_warns_and_other_names_do_not(caplog):
    class Settings(Config):
        IMAGE_MAX_DIMS = 512
        CLASS_WEIGHTS_OF_MINE = 1

    with caplog.at_level(logging.WARNING, "mrcnn"):
        config = Settings()
    assert [record.getMessage() for record in caplog.records] == [
        "Config: IMAGE_MAX_DIMS is no setting of mrcnn; did you mean IMAGE_MAX_DIM?"
    ]
    assert config.CLASS_WEIGHTS_OF_MINE == 1


def test_display_prints_every_value(capsys):
    config = Config()
    config.MY_OWN = "seen"
    config.BACKBONE = test_display_prints_every_value
    config.display()
    printed = capsys.readouterr().out
    assert "MY_OWN" in printed and "seen" in printed
    assert "test_display_prints_every_value" in printed and " at 0x" not in printed
    for name in Config().to_dict():
        assert name in printed


def test_to_dict_is_json():
    text = json.dumps(Config().to_dict())
    assert json.loads(text)["MEAN_PIXEL"] == [123.7, 116.8, 103.9]


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "NAME": st.text(max_size=5),
        "NUM_CLASSES": st.integers(2, 90),
        "IMAGES_PER_GPU": st.integers(1, 9),
        "IMAGE_MAX_DIM": st.integers(1, 20).map(lambda n: 64 * n),
        "IMAGE_CHANNEL_COUNT": st.integers(1, 5),
        "IMAGE_RESIZE_MODE": st.sampled_from(["square", "pad64", "crop", "none"]),
        "MEAN_PIXEL": st.lists(st.floats(0, 255), min_size=3, max_size=3).map(np.array),
        "BATCH_SIZE": st.integers(1, 9),
        "IMAGE_SHAPE": st.just([64, 128, 3]),
        "MINI_MASK_SHAPE": st.just((28, 14)),
        "EXTRA": st.floats(allow_nan=False),
    },
)


@given(VALUES)
def test_from_dict_reads_the_values_of_to_dict(values):
    config = Config()
    for name, value in values.items():
        setattr(config, name, value)
    again = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict()
    assert isinstance(again.MEAN_PIXEL, np.ndarray)


def test_derived_values_still_follow_after_from_dict():
    config = Config.from_dict(Config().to_dict())
    config.IMAGES_PER_GPU = 9
    assert config.BATCH_SIZE == 9


WRONG = {
    "IMAGE_SHAPE": ({"IMAGE_MAX_DIM": 1000}, "multiples of 64.*1000.*1024"),
    "channels": ({"IMAGE_SHAPE": [64, 64, 4]}, "channels must equal IMAGE_CHANNEL_COUNT = 3"),
    "MEAN_PIXEL": ({"IMAGE_CHANNEL_COUNT": 1}, "MEAN_PIXEL must have one value per channel"),
    "BACKBONE": ({"BACKBONE": "vgg"}, "BACKBONE must be one of resnet50.*'vgg'"),
    "COMPUTE_BACKBONE_SHAPE": ({"BACKBONE": abs}, "needs COMPUTE_BACKBONE_SHAPE"),
    "IMAGE_RESIZE_MODE": ({"IMAGE_RESIZE_MODE": "fit"}, "square, pad64, crop, none.*'fit'"),
    "RPN_ANCHOR_SCALES": (
        {"RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128, 256)},
        r"SCALES must hold at most one scale.*: 5\)",
    ),
    "MASK_SHAPE": ({"MASK_SHAPE": [30, 30]}, "times 2, 4 or 8.*30"),
    "one stride": ({"BACKBONE_STRIDES": [12]}, r"C1 to C5: one of 2, 4, .*: \[12\]. Try \[16\]"),
    "res5": ({"BOX_HEAD": "res5"}, r"reads the backbone's map C4.*Try BACKBONE_STRIDES = \[16\]"),
    "CASCADE_IOUS": (
        {"CASCADE_IOUS": [0.5, 60]},
        r"must be a list of 0 to 4 IoUs from 0 to 1, one a stage. Received: \[0.5, 60\]",
    ),
    "cascade of res5": (
        {
            "CASCADE_IOUS": (0.5, 0.6),
            "BACKBONE_STRIDES": [16],
            "BOX_HEAD": "res5",
            "MASK_SHAPE": [14, 14],
        },
        r'unless NETWORK is .* BOX_HEAD is "2fc" .*res5.*Try CASCADE_IOUS = \(\)',
    ),
    "cascade without heads": (
        {"CASCADE_IOUS": (0.5, 0.6), "RPN_ONLY": True},
        r"RPN_ONLY is False.*True.*Try CASCADE_IOUS = \(\)",
    ),
    "cascade with another first IoU": (
        {"CASCADE_IOUS": (0.4, 0.6)},
        r"must begin with ROI_POSITIVE_IOU \(0.5\).*\[0.4, 0.6\]. Try ROI_POSITIVE_IOU = 0.4",
    ),
    "masks of res5": (
        {"BACKBONE_STRIDES": [16], "BOX_HEAD": "res5", "MASK_SHAPE": [30, 30]},
        r"must be POOL_SIZE \(7\) times 2, 4 or 8",
    ),
    "REPEAT_THRESHOLD": (
        {"REPEAT_THRESHOLD": 2},
        "REPEAT_THRESHOLD must be from 0 to 1. Received: 2. Try the default, 0",
    ),
    "NUM_CLASSES": ({"NUM_CLASSES": 1}, "at least 2"),
    "STEPS_PER_EPOCH": (
        {"STEPS_PER_EPOCH": 0},
        "STEPS_PER_EPOCH must be at least 1, a whole number. Received: 0",
    ),
    "TRAIN_ROIS_PER_IMAGE": (
        {"TRAIN_ROIS_PER_IMAGE": -3},
        "TRAIN_ROIS_PER_IMAGE must be from 1 to 1000000, a whole number. Received: -3",
    ),
    "GPU_COUNT": ({"GPU_COUNT": 0}, "GPU_COUNT must be at least 1, a whole number. Received: 0"),
    "NAME": ({"NAME": "a/b"}, "no / or.*'a/b'"),
    "LOSS_WEIGHTS": ({"LOSS_WEIGHTS": {"mask": 1.0}}, "LOSS_WEIGHTS must be a dict that may name"),
    "steps that are no number": (
        {"VALIDATION_STEPS": -2.5},
        "VALIDATION_STEPS must be at least 0, a whole number",
    ),
    "percent": (
        {"DETECTION_MIN_CONFIDENCE": 70},
        "DETECTION_MIN_CONFIDENCE must be from 0 to 1. Received: 70",
    ),
    "LEARNING_RATE": ({"LEARNING_RATE": -1}, "LEARNING_RATE must be at least 0. Received: -1"),
    "text for a number of at least 0": (
        {"FOCAL_GAMMA": "2"},
        "FOCAL_GAMMA must be at least 0. Received: '2'",
    ),
    "EMA_DECAY": ({"EMA_DECAY": 1.0}, "EMA_DECAY must be from 0 to 0.999999"),
    "no scale": (
        {"RPN_ANCHOR_SCALES": (0, 8, 16, 32, 64)},
        "RPN_ANCHOR_SCALES must be a list of 1 to 100 numbers",
    ),
    "no ratio": ({"RPN_ANCHOR_RATIOS": []}, "RPN_ANCHOR_RATIOS must be a list of 1 to 100 numbers"),
    "MINI_MASK_SHAPE": (
        {"MINI_MASK_SHAPE": (0, 0)},
        "MINI_MASK_SHAPE must be a list of 2 whole numbers of at least 1",
    ),
    "SEED": ({"SEED": "abc"}, "SEED must be None or a whole number"),
    "GRADIENT_CLIP_NORM": (
        {"GRADIENT_CLIP_NORM": -5},
        "GRADIENT_CLIP_NORM must be at least 0, or None",
    ),
    "negative loss": ({"LOSS_WEIGHTS": {"rpn_class_loss": -1}}, "each with a number of at least 0"),
    "CLASS_WEIGHTS": (
        {"CLASS_WEIGHTS": [1.0, 1.0, 1.0]},
        r"one number of at least 0 per class.*\(2\)",
    ),
    "weights of nothing": ({"CLASS_WEIGHTS": [0, 0]}, "CLASS_WEIGHTS must hold one number"),
    "PRECISION": (
        {"PRECISION": "float8"},
        "PRECISION must be one of float32, mixed_bfloat16, mixed_float16",
    ),
    "OPTIMIZER": ({"OPTIMIZER": "rmsprop"}, "'sgd', 'adam', 'adamw' or a function"),
    "one number for two": (
        {"MINI_MASK_SHAPE": 56},
        "MINI_MASK_SHAPE must be a list of 2 .*. Received: 56. Try",
    ),
    "text for a number": (
        {"NUM_CLASSES": "3"},
        "NUM_CLASSES must be .* a whole number. Received: '3'",
    ),
    "NaN": ({"LEARNING_RATE": float("nan")}, "LEARNING_RATE must be at least 0. Received: nan"),
    "infinity": (
        {"STEPS_PER_EPOCH": float("inf")},
        "STEPS_PER_EPOCH must be at least 1.* Received: inf",
    ),
    "True for a number": ({"IMAGES_PER_GPU": True}, "IMAGES_PER_GPU must be .* Received: True"),
    "a number for True": ({"USE_MASK": 2}, "USE_MASK must be True or False. Received: 2"),
    "larger than the largest": (
        {"IMAGE_MIN_DIM": 1088},
        r"IMAGE_MIN_DIM must be at most IMAGE_MAX_DIM. Received: \[1088, 1024\]. "
        "Try IMAGE_MIN_DIM = 1024",
    ),
    "no mean": (
        {"MEAN_PIXEL": None},
        "MEAN_PIXEL must be a number, or a list of one per channel. Received: None",
    ),
    "two means": (
        {"MEAN_PIXEL": [1, 2]},
        r"MEAN_PIXEL must have one value per channel .*Received: \[1, 2\]",
    ),
    "one scale": ({"RPN_ANCHOR_SCALES": 5}, "RPN_ANCHOR_SCALES must be a list of .* Received: 5"),
    "two sides": (
        {"IMAGE_SHAPE": [128, 128]},
        r"IMAGE_SHAPE must be a list of 3 whole numbers, \[height, width, channels\]. "
        r"Received: \[128, 128\]",
    ),
    "strides": (
        {"BACKBONE_STRIDES": [4, 8.5]},
        "BACKBONE_STRIDES must be a list of 1 to 6 whole numbers, of each level",
    ),
    "meta": (
        {"IMAGE_META_SIZE": 15},
        "IMAGE_META_SIZE must be 12 . NUM_CLASSES.* Received: 15. Try 14",
    ),
    "deviations": (
        {"BBOX_STD_DEV": [0.1, 0.1, 0.2]},
        "BBOX_STD_DEV must be a list of 4 numbers above 0",
    ),
    "DETECTION_NMS": ({"DETECTION_NMS": "soft"}, "must be one of hard, linear, gaussian"),
    "SOFT_NMS_SIGMA": ({"SOFT_NMS_SIGMA": 0}, "SOFT_NMS_SIGMA must be a number above 0"),
    "BOX_VOTING_IOU": ({"BOX_VOTING_IOU": 2}, "BOX_VOTING_IOU must be from 0 to 1, or None"),
    "TTA": (
        {"TTA": ["flop"]},
        r"TTA must be a list of 0 to 16 views, each 'flip' or a factor from 0.1 to 10. "
        r"Received: \['flop'\]. Try the default, \(\)",
    ),
    "TTA of proposals": ({"TTA": ["flip"], "RPN_ONLY": True}, "so RPN_ONLY must be False"),
    "LEARNING_RATE_SCHEDULE": (
        {"LEARNING_RATE_SCHEDULE": "poly"},
        "'constant', 'step' or 'cosine'",
    ),
}


@pytest.mark.parametrize("values, sentence", WRONG.values(), ids=WRONG)
def test_invalid_settings_are_refused_by_name(values, sentence):
    config = Config()
    config.NUM_CLASSES = 2
    config.validate()
    for name, value in values.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=f"{sentence}.*Try|{sentence}") as error:
        config.validate()
    assert "Received:" in str(error.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just(10**400),
    lambda values: (
        st.lists(values, max_size=6) | st.dictionaries(st.text(max_size=5), values, max_size=3)
    ),
    max_leaves=12,
)


def test_every_setting_has_a_rule_and_a_valid_default():
    assert set(config_module._RULES) == set(Config().to_dict())
    Config()._check(*config_module._RULES)


@pytest.mark.parametrize("name", sorted(config_module._RULES))
@settings(max_examples=40)
@given(value=JSON, how=st.booleans())
def test_any_value_of_a_setting_is_accepted_or_refused_by_name(name, value, how):
    """Values set in Python, and values read from a file."""
    try:
        config = (
            Config()
            if how
            else Config.from_dict({**Config().to_dict(), name: value, "NUM_CLASSES": 2})
        )
        if how:
            config.NUM_CLASSES = 2
            setattr(config, name, value)
        elif name == "NUM_CLASSES":
            config.NUM_CLASSES = value
        config.validate()
    except ValueError as error:
        assert name in str(error) and "Received: " in str(error)
        return
    config.to_dict()
    config.validate()


def test_integers_given_as_floats_become_int():
    config = Config()
    config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.NUM_CLASSES, config.USE_MASK = (
        512.0,
        1024.0,
        np.int64(3),
        1,
    )
    config.MASK_SHAPE, config.IMAGES_PER_GPU = [28.0, 28.0], 2.0
    config.validate()
    values = [
        config.IMAGE_MAX_DIM,
        config.NUM_CLASSES,
        config.BATCH_SIZE,
        *config.MASK_SHAPE,
        config.USE_MASK,
    ]
    assert [(value, type(value)) for value in values] == [
        (1024, int), (3, int), (2, int), (28, int), (28, int), (True, bool)
    ]  # fmt: skip
    assert config.IMAGE_SHAPE.dtype.kind == "i" and "_BATCH_SIZE" not in vars(config)


@pytest.mark.parametrize(("steps", "whole"), [(1.0, 1), (2.4, 3), (20 / 20, 1), (0.3, 1), (5, 5)])
def test_fractional_steps_are_rounded_up_and_logged(steps, whole, caplog):
    config = Config()
    config.NUM_CLASSES, config.STEPS_PER_EPOCH, config.VALIDATION_STEPS = 2, steps, steps
    with caplog.at_level(logging.INFO, "mrcnn"):
        config.validate()
        config.validate()
    assert (whole, whole) == (config.STEPS_PER_EPOCH, config.VALIDATION_STEPS)
    assert isinstance(config.STEPS_PER_EPOCH, int)
    said = [
        f"Config: {name} = {steps} is rounded up to {whole}."
        for name in ("STEPS_PER_EPOCH", "VALIDATION_STEPS")
    ]
    assert [record.getMessage() for record in caplog.records] == (said if steps != whole else [])


@pytest.mark.parametrize("scales", [(16, 32, 64, 128), (32, 64)])
def test_fewer_anchor_scales_than_levels_give_one_warning(scales, caplog):
    config = Config()
    config.NUM_CLASSES, config.RPN_ANCHOR_SCALES = 2, scales
    config.validate()
    config.validate()
    assert [record.getMessage() for record in caplog.records] == [
        f"Config: RPN_ANCHOR_SCALES has {len(scales)} scales for 5 pyramid levels: "
        f"the RPN uses the first {len(scales)} levels only."
    ]


@pytest.mark.parametrize("mode", ["pad64", "crop", "none"])
def test_min_dim_may_exceed_max_dim_unless_the_mode_is_square(mode):
    config = Config()
    config.NUM_CLASSES, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGE_RESIZE_MODE = (
        2,
        1088,
        1024,
        mode,
    )
    config.validate()


@pytest.mark.parametrize("optimizer", ["ADAM", "SGD", "AdamW", "mine:optimizer", abs])
def test_optimizer_names_are_case_insensitive(optimizer):
    config = Config()
    config.NUM_CLASSES, config.OPTIMIZER = 2, optimizer
    config.validate()


def test_derived_values_set_before_init_are_recomputed():
    class Early(Config):
        BATCH_SIZE = 64  # matterport's __init__ replaced it

        def __init__(self):
            self.IMAGE_SHAPE, self.IMAGE_META_SIZE, self.IMAGE_MAX_DIM = [128, 128], 5, 128
            super().__init__()
            self.AFTER = 1

    config = Early()
    assert config.IMAGE_SHAPE.tolist() == [128, 128, 3]
    assert (config.IMAGE_META_SIZE, config.BATCH_SIZE) == (13, 2)

    class Late(Early):
        def __init__(self):
            super().__init__()
            self.IMAGE_SHAPE = [64, 192, 3]

    assert Late().IMAGE_SHAPE.tolist() == [64, 192, 3]


@pytest.mark.parametrize("side, doublings", [(28, 1), (56, 2), (112, 3), (30, None)])
def test_mask_doublings_lead_from_pool_size_to_mask_shape(side, doublings):
    config = Config()
    config.MASK_SHAPE = [side, side]
    assert config.mask_doublings() == doublings


def test_loss_names_are_those_of_the_heads():
    config = Config()
    assert config.has_mask_head() and len(config.loss_names()) == 5
    config.USE_MASK = False
    assert not config.has_mask_head()
    assert config.loss_names() == (
        "rpn_class_loss",
        "rpn_bbox_loss",
        "mrcnn_class_loss",
        "mrcnn_bbox_loss",
    )
    config.USE_MASK, config.RPN_ONLY = True, True
    assert not config.has_mask_head()
    assert config.loss_names() == ("rpn_class_loss", "rpn_bbox_loss")


@pytest.mark.parametrize("preset", [Config.retinanet, Config.fcos])
def test_networks_without_proposals_have_no_cascade(preset):
    config = preset()
    config.NUM_CLASSES, config.CASCADE_IOUS = 2, (0.5, 0.6)
    with pytest.raises(ValueError, match='CASCADE_IOUS must be .* unless NETWORK is "mask_rcnn"'):
        config.validate()


@pytest.mark.parametrize("ious", [(), (0.5,), [0.5, 0.6, 0.7], np.array([0.5, 0.6])])
def test_stages_of_a_cascade_count_from_two(ious):
    config = Config()
    config.NUM_CLASSES, config.CASCADE_IOUS = 2, ious
    config.validate()
    assert list(config.cascade_stages()) == [2, 3][: max(0, len(ious) - 1)]


def test_rpn_only_requires_use_rpn_rois():
    config = Config()
    config.NUM_CLASSES, config.RPN_ONLY, config.USE_RPN_ROIS = 2, True, False
    with pytest.raises(
        ValueError,
        match="RPN_ONLY trains the region proposal network, so USE_RPN_ROIS must be True",
    ):
        config.validate()


@pytest.mark.parametrize("method, samples", [("aligned", 0), ("precise", 2), ("max", 2)])
def test_gather_needs_roi_align_with_a_fixed_number_of_samples(method, samples):
    config = Config()
    config.NUM_CLASSES, config.ROI_ALIGN, config.ROI_ALIGN_SAMPLES = 2, method, samples
    config.validate()
    config.ROI_ALIGN_GATHER = True
    with pytest.raises(ValueError, match="ROI_ALIGN_GATHER needs ROI_ALIGN"):
        config.validate()
    config.ROI_ALIGN, config.ROI_ALIGN_SAMPLES = "unaligned", 2
    config.validate()


class Plain:
    """The config of a script that does not derive it from `Config`."""

    NAME, NUM_CLASSES, IMAGES_PER_GPU, BATCH_SIZE = "plain", 3, 4, 4
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    MEAN_PIXEL = [1, 2, 3]
    of_its_own = 5

    def __init__(self):
        self.IMAGE_SHAPE = [128, 64, 3]


@pytest.mark.parametrize("plain", [Plain(), Plain])
def test_config_that_is_not_a_subclass_is_copied(plain):
    config = as_config(plain)
    config.validate()
    assert isinstance(config, Config)
    assert (config.NAME, config.NUM_CLASSES, config.IMAGE_META_SIZE) == ("plain", 3, 15)
    assert config.IMAGE_SHAPE.tolist() == [128, 64, 3]  # differs from the value that follows: kept
    config.IMAGES_PER_GPU = 1
    assert config.BATCH_SIZE == 1  # it still follows


def test_config_is_returned_unchanged():
    config = Config()
    assert as_config(config) is config


def test_object_without_settings_is_refused():
    with pytest.raises(
        ValueError, match="config must be a mrcnn.config.Config.*Received: 'settings.json'"
    ):
        as_config("settings.json")


# --- Values read from a file ---


@pytest.mark.parametrize(
    "name",
    [
        "__class__",
        "_setattr_hook",
        "validate",
        "to_dict",
        "/bin/sh",
        "lower",
        "A-B",
        "A\n",
        "",
        "__dict__",
    ],
)
def test_from_dict_leaves_out_names_that_are_not_settings(name, caplog):
    config = Config.from_dict({name: "mrcnn.model:os.execv", "NUM_CLASSES": 3, "MINE": [1]})
    assert type(config) is Config and vars(config) == {"NUM_CLASSES": 3, "MINE": [1]}
    assert "left out 1 names that are no settings" in caplog.text and repr(name) in caplog.text


@pytest.mark.parametrize(
    "name", ["BACKBONE", "COMPUTE_BACKBONE_SHAPE", "OPTIMIZER", "MINE", "NAME"]
)
@pytest.mark.parametrize(
    "text",
    [
        "os:system",
        "mrcnn.model:os.execv",
        "mrcnn.config:importlib.import_module",
        "mrcnn.app.demo:run",
        "mrcnn.demo:",
    ],
)
def test_from_dict_does_not_turn_text_into_functions(name, text):
    assert getattr(Config.from_dict({name: text}), name) == text


@pytest.mark.parametrize("module", ["mrcnn.app.demo", "mrcnn.demo"])
def test_from_dict_turns_listed_text_into_a_function_only_for_its_setting(monkeypatch, module):
    shapes = SimpleNamespace(COMPUTE_BACKBONE_SHAPE=max)
    demo = SimpleNamespace(backbone=abs, narrow_backbone=min, DemoConfig=shapes)
    monkeypatch.setitem(sys.modules, "mrcnn.app.demo", demo)
    names = {
        "BACKBONE": f"{module}:backbone",
        "COMPUTE_BACKBONE_SHAPE": f"{module}:DemoConfig.COMPUTE_BACKBONE_SHAPE",
        "OPTIMIZER": f"{module}:backbone",
    }
    assert Config.from_dict({"BACKBONE": f"{module}:narrow_backbone"}).BACKBONE is min
    config = Config.from_dict(names)
    assert (abs, max, f"{module}:backbone") == (
        config.BACKBONE,
        config.COMPUTE_BACKBONE_SHAPE,
        config.OPTIMIZER,
    )


def own_function(image):
    return image


def test_from_dict_of_a_class_keeps_its_own_functions():
    class Mine(Config):
        BACKBONE = staticmethod(own_function)

        @property
        def HALF(self):
            return self.IMAGE_MAX_DIM // 2

    values = json.loads(json.dumps(Mine().to_dict()))
    assert values["BACKBONE"].endswith(":own_function") and values["HALF"] == 512
    assert Mine.from_dict(values).BACKBONE is own_function
    assert values["BACKBONE"] == Config.from_dict(values).BACKBONE


@pytest.mark.parametrize("value", [object(), abs, [[object()]], [[[[[[[[[[1]]]]]]]]]]])
def test_from_dict_leaves_out_values_that_are_not_data(value, caplog):
    assert "MINE" not in vars(Config.from_dict({"MINE": value}))
    assert "'MINE'" in caplog.text


def test_from_dict_refuses_other_types_than_dict():
    with pytest.raises(ValueError, match="must be NAME: value pairs. Received: \\[1"):
        Config.from_dict([1, 2])


def test_keypoint_settings_must_fit_their_number():
    config = Config()
    config.NUM_CLASSES = 2
    config.KEYPOINT_NAMES = ["left", "right"]  # nothing is checked without keypoints
    config.validate()
    assert not config.has_keypoint_head() and "mrcnn_keypoint_loss" not in config.loss_names()
    config.NUM_KEYPOINTS, config.KEYPOINT_SKELETON = 2, [[0, 1]]
    config.validate()
    assert config.has_keypoint_head() and config.loss_names()[-1] == "mrcnn_keypoint_loss"
    for setting, value, message in (
        ("KEYPOINT_NAMES", ["left", "left"], "2\\) different names"),
        ("KEYPOINT_SKELETON", [[0, 2]], "from 0 to 1. Received: \\[\\[0, 2\\]\\]"),
        ("KEYPOINT_PAIRS", [[0, 1, 1]], "pairs of whole numbers"),
        ("KEYPOINT_PAIRS", [[0, 5]], "from 0 to 1"),
        ("KEYPOINT_SIGMAS", [0.1], "must hold NUM_KEYPOINTS \\(2\\) numbers"),
    ):
        wrong = copy.copy(config)
        setattr(wrong, setting, value)
        with pytest.raises(ValueError, match=f"{setting} .*{message}"):
            wrong.validate()
    assert Config.from_dict(config.to_dict()).KEYPOINT_SKELETON == [[0, 1]]


def test_changed_settings_are_those_that_differ_from_the_defaults_without_derived_ones():
    config = Config()
    assert config.changed() == {}
    config.IMAGES_PER_GPU, config.MEAN_PIXEL = 4, np.array([1.0, 2.0, 3.0])
    assert config.BATCH_SIZE == 4  # derived
    assert config.changed() == {"IMAGES_PER_GPU": 4, "MEAN_PIXEL": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [(None, True), ("auto", True), (1, True), ("all", False), (0, False), (True, False)],
)
def test_number_of_images_for_ap(value, is_valid):
    config = Config()
    config.NUM_CLASSES, config.VALIDATION_AP_IMAGES = 2, value
    if is_valid:
        config.validate()
    else:
        with pytest.raises(ValueError, match='VALIDATION_AP_IMAGES must be "auto" or a whole'):
            config.validate()

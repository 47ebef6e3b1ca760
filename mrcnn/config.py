"""Every knob of the network, its training and its use: default, meaning, check.

Subclass `Config` and override what differs. Values may also be set on an instance, before or after
`super().__init__()`. Sizes are pixels of the molded (resized, padded) image unless they say otherwise.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import math
import numbers
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

log = logging.getLogger("mrcnn")

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
BACKBONES = ("resnet50", "resnet101", "mobilenet_v2")
OPTIMIZERS = ("sgd", "adam", "adamw")
RESIZE_MODES = ("square", "pad64", "crop", "none")
LOSS_NAMES = (
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
)


class Config:
    """Settings with matterport's names and defaults; each group says what it drives."""

    # Names the log folder and the checkpoint files: <NAME><date>/mask_rcnn_<NAME>_<epoch>.h5
    NAME = None

    # --- Batch and epoch. BATCH_SIZE = IMAGES_PER_GPU * GPU_COUNT, the GPUs of all hosts together.
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    STEPS_PER_EPOCH = 1000
    VALIDATION_STEPS = 50

    # --- Backbone: "resnet50", "resnet101", "mobilenet_v2", or a callable (image tensor) -> [C1..C5] feature
    # maps, which then needs COMPUTE_BACKBONE_SHAPE(image_shape) -> [5, (height, width)] of P2..P6.
    BACKBONE = "resnet101"
    COMPUTE_BACKBONE_SHAPE = None
    BACKBONE_STRIDES = [4, 8, 16, 32, 64]  # of P2..P6

    # --- Feature pyramid and heads: channels.
    TOP_DOWN_PYRAMID_SIZE = 256
    RPN_CHANNELS = 512  # of the convolution that both RPN outputs share
    FPN_CLASSIF_FC_LAYERS_SIZE = 1024
    MASK_CHANNELS = 256  # of the mask head's convolutions

    # Classes, background included.
    NUM_CLASSES = 1

    # --- Less than the whole network. USE_MASK = False: Faster R-CNN, boxes without masks; a dataset then may have
    # load_bbox in place of load_mask. RPN_ONLY: the region proposal network alone, whose results are proposals.
    USE_MASK = True
    RPN_ONLY = False
    # One set of deltas, one mask for all classes in place of one per class (Detectron's CLS_AGNOSTIC_BBOX_REG and
    # CLS_AGNOSTIC_MASK).
    CLASS_AGNOSTIC_BOX = False
    CLASS_AGNOSTIC_MASK = False

    # --- Arithmetic of the convolutions; C1, weights, boxes, NMS, RoI align and losses are float32 in any case.
    # "mixed_bfloat16" and "mixed_float16" take half the memory, and are faster on hardware made for them: GPUs, and
    # CPUs with avx512_bf16 or amx_bf16. Elsewhere they are slower.
    PRECISION = "float32"

    # --- Anchors: side in pixels per pyramid level, width / height ratios, one anchor every STRIDE cells.
    RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
    RPN_ANCHOR_RATIOS = [0.5, 1, 2]
    RPN_ANCHOR_STRIDE = 1

    # --- RPN: NMS threshold on proposals; anchors that learn; IoU from which an anchor is positive, below which
    # it is negative (Faster R-CNN, 3.1.2).
    RPN_NMS_THRESHOLD = 0.7
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    RPN_POSITIVE_IOU = 0.7
    RPN_NEGATIVE_IOU = 0.3

    # Boxes kept by score before NMS, and after it.
    PRE_NMS_LIMIT = 6000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000

    # --- Masks of the truth: mini-masks are cut to the box and resized, which saves memory.
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)

    # --- From photo to network input. "square": scale so that the short side is MIN_DIM unless the long side
    # would pass MAX_DIM, pad to a square of MAX_DIM; "pad64": pad to multiples of 64; "crop": a random crop of
    # MIN_DIM; "none": as it is, its sides multiples of 64. In pad64 and none the images of a training batch are padded
    # to the largest of them, and are all tall or all wide, but for the last ones of a pass.
    # MIN_SCALE: scale up at least this much (before the limit of MAX_DIM).
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 1024
    IMAGE_MIN_SCALE = 0
    IMAGE_CHANNEL_COUNT = 3
    MEAN_PIXEL = np.array([123.7, 116.8, 103.9])  # RGB, one per channel
    # True: scikit-image's resize as matterport used it (slow, its numbers to the last bit); False: OpenCV, whose pixels
    # are cut off to whole numbers as matterport's were: equal within a photo, but for some in a thousand.
    EXACT_RESIZE = False

    # --- RoIs that teach the heads: how many an image, the share of positives, and the IoU that makes one.
    TRAIN_ROIS_PER_IMAGE = 200
    ROI_POSITIVE_RATIO = 0.33
    ROI_POSITIVE_IOU = 0.5
    # True: the truth's boxes join the proposals, so that the heads learn before the RPN does (as in Detectron;
    # matterport did not). Worth it for short trainings.
    ROIS_INCLUDE_GT = False

    # --- RoI align. A RoI of CANONICAL_SIZE pixels is read from P4 (FPN, equation 1).
    POOL_SIZE = 7
    MASK_POOL_SIZE = 14
    MASK_SHAPE = [28, 28]  # MASK_POOL_SIZE times 2, 4 or 8: as many deconvolutions follow
    FPN_CANONICAL_SIZE = 224.0

    MAX_GT_INSTANCES = 100

    # Deltas are divided by these before they are learned.
    RPN_BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])
    BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])

    # --- Detections: at most so many, from this score, NMS per class. CLASS_AGNOSTIC_NMS: a better one suppresses
    # those of other classes too, where one object is found as two classes.
    DETECTION_MAX_INSTANCES = 100
    DETECTION_MIN_CONFIDENCE = 0.7
    DETECTION_NMS_THRESHOLD = 0.3
    CLASS_AGNOSTIC_NMS = False

    # --- Optimiser. "sgd" (momentum), "adam", "adamw", or a function (learning rate) -> Keras optimizer.
    # LEARNING_RATE_SCHEDULE: "constant"; "step": a tenth from each of DROPS on, shares of all epochs; "cosine" from
    # the rate to a hundredth of it over all epochs. WARMUP_STEPS: the rate grows linearly over the first steps of a
    # training. For another batch size see `training.scaled_learning_rate`.
    OPTIMIZER = "sgd"
    LEARNING_RATE = 0.001
    LEARNING_MOMENTUM = 0.9
    LEARNING_RATE_SCHEDULE = "constant"
    LEARNING_RATE_DROPS = (2 / 3, 8 / 9)
    WARMUP_STEPS = 0
    # So many steps add up their gradients before the weights move, as a batch so many times as large would.
    GRADIENT_ACCUMULATION_STEPS = 1
    ADAMW_WEIGHT_DECAY = 0.05  # of "adamw" alone, apart from the loss; not of batch norm and biases
    WEIGHT_DECAY = 0.0001
    GRADIENT_CLIP_NORM = 5.0  # of the global norm
    # Averaged weights, over about 1 / (1 - decay) steps, are what is validated and saved; 0: those of the last step.
    EMA_DECAY = 0.0

    LOSS_WEIGHTS = dict.fromkeys(LOSS_NAMES, 1.0)
    # How much the RoIs of each class count in the class loss, background first; None: all the same.
    CLASS_WEIGHTS = None
    # Both class losses: cross-entropy times (1 - p)^gamma, which leaves out what is easy (Focal loss, Lin 2017,
    # equation 4; 2 there). 0: cross-entropy.
    FOCAL_GAMMA = 0.0

    # False: take the RoIs of the data generator (random_rois) in place of the RPN's, to train the heads alone.
    USE_RPN_ROIS = True

    # False: batch-norm statistics stay as loaded (small batches); None or True: they are learned.
    TRAIN_BN = False

    # --- The loop around it. SEED: same seed, same batches and samples; None: a new one each run.
    SEED = None
    # Images of rare classes come more often: a class in a share f of the training images, f below this threshold, as
    # often as sqrt(threshold / f) says (LVIS, 3; 0.001 there). 0: every image once a pass.
    REPEAT_THRESHOLD = 0
    # Unreadable images a training skips before it stops.
    MAX_IMAGE_ERRORS = 5
    # Validation images whose detections TensorBoard shows beside the truth after each epoch.
    VALIDATION_PICTURES = 4
    # Checkpoints of a run that are kept on the disk, the newest; None: all.
    KEEP_LAST_N = None

    def __init__(self):
        """Recompute the derived values, whatever was set before, as the original did, and check the names."""
        for name, sources in _DERIVED.items():
            self.__dict__.pop(f"_{name}", None)
            if not isinstance(
                getattr(type(self), name), property
            ):  # a subclass has a plain value there
                self._check(*sources)
                self.__dict__[name] = vars(Config)[name].fget(self)
        self.check_names()

    # Derived values follow from the others, and may be assigned as well.
    @property
    def BATCH_SIZE(self) -> int:
        return self.__dict__.get("_BATCH_SIZE", self.IMAGES_PER_GPU * self.GPU_COUNT)

    @BATCH_SIZE.setter
    def BATCH_SIZE(self, value: int) -> None:
        self.__dict__["_BATCH_SIZE"] = value

    @property
    def IMAGE_SHAPE(self) -> np.ndarray:
        """`[height, width, channels]` of the network's input."""
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        return self.__dict__.get("_IMAGE_SHAPE", np.array([side, side, self.IMAGE_CHANNEL_COUNT]))

    @IMAGE_SHAPE.setter
    def IMAGE_SHAPE(self, value) -> None:
        self.__dict__["_IMAGE_SHAPE"] = (
            np.array(value) if _RULES["IMAGE_SHAPE"].holds(value) else value
        )

    @property
    def IMAGE_META_SIZE(self) -> int:
        """id (1), original shape (3), molded shape (3), window (4), scale (1), one flag per class."""
        return self.__dict__.get("_IMAGE_META_SIZE", 1 + 3 + 3 + 4 + 1 + self.NUM_CLASSES)

    @IMAGE_META_SIZE.setter
    def IMAGE_META_SIZE(self, value: int) -> None:
        self.__dict__["_IMAGE_META_SIZE"] = value

    def to_dict(self) -> dict[str, Any]:
        """Every value as JSON can hold it; callables by their name."""
        return {name: _plain(getattr(self, name)) for name in _names(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Return a config with these values, as `to_dict` gives them and JSON holds them.

        The values are data: a file with them cannot name code to run. Names must be in upper case; others, and values
        that are no plain data, are left out with a warning. Text becomes a function only if the class has that very
        function itself, or `_FUNCTIONS` lists it; otherwise it stays text, `module:name`. Derived values that still
        follow from the others go on following.

        Raises: ValueError if a value from which others are derived is of the wrong type.
        """
        if not isinstance(values, dict):
            raise ValueError(
                f"The config must be NAME: value pairs. Received: {repr(values)[:60]}. Try the JSON of `to_dict`."
            )
        config = cls()
        unusable = [name for name in values if not (_is_setting(name) and _is_data(values[name]))]
        if unusable:
            listed = ", ".join(repr(name)[:60] for name in unusable[:5])
            log.warning(
                "Config: left out %d names that are no settings, or whose values are no plain data: %s%s",
                len(unusable), listed, " ..." if len(unusable) > 5 else "",
            )  # fmt: skip
        _set_all(
            config,
            {name: _as_read(config, name, values[name]) for name in values if name not in unusable},
        )
        return config

    def display(self) -> None:
        """Print every value."""
        print("\nConfigurations:")
        for name in _names(self):
            value = getattr(self, name)
            print(f"{name:30} {_plain(value) if callable(value) else value}")
        print()

    def check_names(self) -> None:
        """Warn of names that look like a misspelt setting; unknown names are allowed."""
        known = set(_names(Config))
        for name in _names(self):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
                if near:
                    log.warning(
                        "Config: %s is no setting of mrcnn; did you mean %s?", name, near[0]
                    )

    def validate(self) -> None:
        """Check every setting by itself, its type first, and then how they fit together.

        Whole numbers given as floats (2.0) become int; a fraction of a step is rounded up, with a line in the log.

        Raises: ValueError naming the setting, what must hold, what was received and what to try.
        """
        self._check(*_RULES)
        for holds, must, received, remedy in self._relations():
            if not holds:
                raise ValueError(f"{must}. Received: {_short(_plain(received))}. Try {remedy}.")
        self._warn_of_levels_without_anchors()

    def _check(self, *names: str) -> None:
        """Check some settings by themselves."""
        for name in names:
            rule, value = _RULES[name], getattr(self, name)
            if not rule.holds(value):
                remedy = rule.remedy or f"the default, {getattr(Config, name)!r}"
                raise ValueError(
                    f"{name} must be {rule.text}. Received: {_short(_plain(value))}. Try {remedy}."
                )
            converted = rule.convert(value)
            if converted is not value:
                setattr(self, name, converted)
            if rule.convert is whole_steps and converted != value:
                log.info("Config: %s = %s is rounded up to %d.", name, value, converted)

    def _relations(self) -> Iterator[tuple[bool, str, Any, str]]:
        """Yield (whether it holds, what must hold, what was received, a remedy) for settings that depend on others.

        Each is computed only if those before it hold.
        """
        shape, channels = [int(side) for side in self.IMAGE_SHAPE], self.IMAGE_CHANNEL_COUNT
        yield (
            not shape[0] % 64 and not shape[1] % 64,
            "IMAGE_SHAPE: height and width must be multiples of 64, so that the image can be halved six times",
            shape,
            f"IMAGE_MIN_DIM and IMAGE_MAX_DIM such as {_near_64(shape[0])} (crop mode: IMAGE_MIN_DIM)",
        )
        yield (
            self.IMAGE_RESIZE_MODE != "square" or (self.IMAGE_MIN_DIM or 0) <= self.IMAGE_MAX_DIM,
            "IMAGE_MIN_DIM must be at most IMAGE_MAX_DIM",
            (self.IMAGE_MIN_DIM, self.IMAGE_MAX_DIM),
            f"IMAGE_MIN_DIM = {self.IMAGE_MAX_DIM}",
        )
        yield (
            shape[2] == channels,
            f"IMAGE_SHAPE's channels must equal IMAGE_CHANNEL_COUNT = {channels}",
            shape,
            "setting IMAGE_CHANNEL_COUNT, which IMAGE_SHAPE follows",
        )
        yield (
            np.size(self.MEAN_PIXEL) in (1, channels),
            f"MEAN_PIXEL must have one value per channel (IMAGE_CHANNEL_COUNT = {channels})",
            self.MEAN_PIXEL,
            "one mean per channel, e.g. np.array([127.5])",
        )
        yield (
            self.NUM_CLASSES >= 2,
            "NUM_CLASSES must count the background and your classes: at least 2",
            self.NUM_CLASSES,
            "1 + the number of your classes",
        )
        yield (
            self.IMAGE_META_SIZE == 12 + self.NUM_CLASSES,
            "IMAGE_META_SIZE must be 12 + NUM_CLASSES, which it is unless it is set",
            self.IMAGE_META_SIZE,
            f"{12 + self.NUM_CLASSES}",
        )
        yield (
            not callable(self.BACKBONE) or callable(self.COMPUTE_BACKBONE_SHAPE),
            "A callable BACKBONE needs COMPUTE_BACKBONE_SHAPE(image_shape) -> shapes of P2..P6",
            self.COMPUTE_BACKBONE_SHAPE,
            "a function that divides the image's sides by BACKBONE_STRIDES",
        )
        yield (
            len(self.RPN_ANCHOR_SCALES) <= len(self.BACKBONE_STRIDES),
            f"RPN_ANCHOR_SCALES must hold at most one scale per pyramid level (BACKBONE_STRIDES: "
            f"{len(self.BACKBONE_STRIDES)})",
            self.RPN_ANCHOR_SCALES,
            "five scales, e.g. (32, 64, 128, 256, 512)",
        )
        yield (
            self.mask_doublings() is not None,
            f"MASK_SHAPE must be MASK_POOL_SIZE ({self.MASK_POOL_SIZE}) times 2, 4 or 8 on both sides",
            self.MASK_SHAPE,
            f"[{2 * self.MASK_POOL_SIZE}, {2 * self.MASK_POOL_SIZE}]",
        )
        weights = self.CLASS_WEIGHTS
        yield (
            weights is None or (len(weights) == self.NUM_CLASSES and any(weights)),
            "CLASS_WEIGHTS must hold one number of at least 0 per class, background first, and not only zeros "
            f"({self.NUM_CLASSES})",
            weights,
            "None, which weighs all the same",
        )
        yield (
            self.USE_RPN_ROIS or not self.RPN_ONLY,
            "RPN_ONLY trains the region proposal network, so USE_RPN_ROIS must be True",
            self.USE_RPN_ROIS,
            "one of the two",
        )

    def _warn_of_levels_without_anchors(self) -> None:
        """Warn once of each config with fewer anchor scales than pyramid levels."""
        scales, levels = len(self.RPN_ANCHOR_SCALES), len(self.BACKBONE_STRIDES)
        if scales < levels and not self.__dict__.get("_levels_said"):
            self.__dict__["_levels_said"] = True
            log.warning(
                "Config: RPN_ANCHOR_SCALES has %d scales for %d pyramid levels: the RPN uses the first %d levels only.",
                scales,
                levels,
                scales,
            )

    def check_steps(self) -> None:
        """Check STEPS_PER_EPOCH and VALIDATION_STEPS, and round fractions of a step up."""
        self._check("STEPS_PER_EPOCH", "VALIDATION_STEPS")

    def has_mask_head(self) -> bool:
        """Whether the network has a mask head."""
        return bool(self.USE_MASK and not self.RPN_ONLY)

    def loss_names(self) -> tuple[str, ...]:
        """The losses of the network, of `LOSS_NAMES`."""
        return LOSS_NAMES[: 2 if self.RPN_ONLY else 5 if self.USE_MASK else 4]

    def mask_doublings(self) -> int | None:
        """How many doublings lead from MASK_POOL_SIZE to MASK_SHAPE, None where none does."""
        for doublings in (1, 2, 3):
            if list(self.MASK_SHAPE) == [self.MASK_POOL_SIZE * 2**doublings] * 2:
                return doublings
        return None


def as_config(config) -> Config:
    """Return a `Config` with the settings of any object that has them; a `Config` is returned as it is.

    config: an object, or a class that takes no arguments. matterport's code reads attributes only, so scripts bring
        classes of their own. Its upper-case names are copied.

    Raises: ValueError if the object has no setting.
    """
    if isinstance(config, type):
        config = config()
    if isinstance(config, Config):
        return config
    names = _names(config)
    if "NUM_CLASSES" not in names:
        raise ValueError(
            "config must be a mrcnn.config.Config, or have its attributes (NUM_CLASSES ...). "
            f"Received: {config!r} of {type(config)}. Try deriving its class from Config."
        )
    copy = Config()
    _set_all(copy, {name: getattr(config, name) for name in names})
    copy.check_names()
    return copy


def _set_all(config: Config, values: dict[str, Any]) -> None:
    """Set attributes; derived ones that follow from the others are not set, so that they go on following.

    Raises: ValueError if a value from which others are derived is of the wrong type.
    """
    for name, value in values.items():
        declared = getattr(type(config), name, None)
        read_only = isinstance(declared, property) and declared.fset is None
        if name not in _DERIVED and not read_only:
            is_array = name in _ARRAYS and _RULES[name].holds(value)
            setattr(config, name, np.array(value) if is_array else value)
    for name in (
        "BATCH_SIZE",
        "IMAGE_SHAPE",
    ):  # IMAGE_META_SIZE has no other value than that which follows
        if name in values:
            config._check(*_DERIVED[name])
            if _plain(getattr(config, name)) != _plain(values[name]):
                setattr(config, name, values[name])


def whole_steps(value: float) -> int:
    """Return a number of steps as a whole one, rounded up as Keras 2 did: scripts divide images by the batch size."""
    return math.ceil(value)


class _Rule(NamedTuple):
    """What a setting must be, whatever the others are."""

    text: str  # follows "NAME must be"
    holds: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: (
        value
    )  # a value that holds, to the type that the code expects
    remedy: str = ""  # the default unless it is given


def _number(low: float, high: float | None = None) -> _Rule:
    return _Rule(_range_text(low, high), lambda value: _is_number(value, low, high))


def _whole(low: int, high: int | None = None, remedy: str = "") -> _Rule:
    text = f"{_range_text(low, high)}, a whole number"
    return _Rule(text, lambda value: _is_whole(value, low, high), int, remedy)


def _steps(low: int) -> _Rule:
    return _Rule(
        f"at least {low}, a whole number",
        lambda value: _is_number(value, 0) and whole_steps(value) >= low,
        whole_steps,
    )


def _list(
    what: str, item_holds: Callable[[Any], bool], *lengths: int, convert=None, remedy: str = ""
) -> _Rule:
    """A list of one of these lengths, from the first to the last of them."""
    counts = range(lengths[0], lengths[-1] + 1)
    length = f"{lengths[0]}" if len(counts) == 1 else f"{lengths[0]} to {lengths[-1]}"
    return _Rule(
        f"a list of {length} {what}",
        lambda value: _is_list(value) and len(value) in counts and all(map(item_holds, value)),
        convert or (lambda value: value),
        remedy,
    )


def _whole_list(what: str, low: int, high: int, *lengths: int, remedy: str = "") -> _Rule:
    return _list(
        what,
        lambda side: _is_whole(side, low, high),
        *lengths,
        convert=_as_whole_list,
        remedy=remedy,
    )


def _choice(*names: str) -> _Rule:
    return _Rule(
        f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names
    )


def _or_none(rule: _Rule, text: str = "") -> _Rule:
    return rule._replace(
        text=text or f"{rule.text}, or None",
        holds=lambda value: value is None or rule.holds(value),
        convert=lambda value: value if value is None else rule.convert(value),
    )


def _is_number(value, low: float, high: float | None = None) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    return bool(low <= value <= (1e15 if high is None else high))  # infinity and NaN are none


def _is_whole(value, low: int, high: int | None = None) -> bool:
    return _is_number(value, low, high) and value % 1 == 0


def _is_positive(value) -> bool:
    return _is_number(value, 0.001)


def _is_list(value) -> bool:
    return isinstance(value, list | tuple | range) or (
        isinstance(value, np.ndarray) and value.ndim == 1
    )


def _as_whole_list(value):
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "iu" else value.astype(int)
    return value if all(isinstance(side, int) for side in value) else [int(side) for side in value]


def _range_text(low: float, high: float | None = None) -> str:
    return f"at least {low}" if high is None else f"from {low} to {high}"


def _is_optimizer(value) -> bool:
    # A file may name a function, module:name, that stays a name: the network can be used, but not trained.
    return callable(value) or (
        isinstance(value, str) and (value.lower() in OPTIMIZERS or ":" in value)
    )


def _is_backbone_shape(value) -> bool:
    return value is None or callable(value) or (isinstance(value, str) and ":" in value)


def _is_name(value) -> bool:
    return value is None or (
        isinstance(value, str | int) and re.search(r"[/\\\0]", str(value)) is None
    )


def _are_loss_weights(value) -> bool:
    return (
        isinstance(value, dict)
        and set(value) <= set(LOSS_NAMES)
        and all(_is_number(w, 0) for w in value.values())
    )


_MOST = 1_000_000  # of what is counted, such as boxes; a file that claims more is damaged
_SIDE = 16_384  # pixels; channels
_FLAG = _Rule(
    "True or False",
    lambda value: isinstance(value, bool | np.bool_) or _is_whole(value, 0, 1),
    bool,
)
_SHARE = _number(0, 1)
_DEVIATIONS = _list("numbers above 0, of y, x, log h, log w", _is_positive, 4)

# Each setting's own rule. A derived one comes after those from which it follows.
_RULES = {
    "NAME": _Rule(
        "a text with no / or \\ in it: it names files and folders", _is_name, remedy="letters, digits, - and _"
    ),
    "NUM_CLASSES": _whole(1, 100_000, remedy="1 + the number of your classes"),
    "BACKBONE": _Rule(
        f"one of {', '.join(BACKBONES)} or a callable",
        lambda value: callable(value) or (isinstance(value, str) and value in BACKBONES),
        remedy="one of these names",
    ),
    "COMPUTE_BACKBONE_SHAPE": _Rule("None or a function", _is_backbone_shape),
    "BACKBONE_STRIDES": _whole_list("whole numbers, of P2 to P6", 1, _SIDE, 1, 5),
    **dict.fromkeys(("GPU_COUNT", "IMAGES_PER_GPU", "GRADIENT_ACCUMULATION_STEPS"), _whole(1)),
    "BATCH_SIZE": _whole(1, remedy="setting IMAGES_PER_GPU, which it follows"),
    "STEPS_PER_EPOCH": _steps(1),
    "VALIDATION_STEPS": _steps(0),
    **dict.fromkeys(("WARMUP_STEPS", "VALIDATION_PICTURES", "MAX_IMAGE_ERRORS"), _whole(0)),
    "KEEP_LAST_N": _or_none(_whole(1, remedy="3"), "at least 1, or None to keep every checkpoint"),
    "SEED": _Rule(
        "None or a whole number from 0 to 4294967295",
        lambda value: value is None or _is_whole(value, 0, 2**32 - 1),
        lambda value: value if value is None else int(value),
        "0",
    ),
    # The image
    "IMAGE_RESIZE_MODE": _choice(*RESIZE_MODES),
    "IMAGE_MIN_DIM": _or_none(_whole(0, _SIDE)),
    "IMAGE_MAX_DIM": _whole(1, _SIDE),
    "IMAGE_MIN_SCALE": _or_none(_number(0, 16)),
    "IMAGE_CHANNEL_COUNT": _whole(1, 1000),
    "IMAGE_SHAPE": _whole_list(
        "whole numbers, [height, width, channels]", 1, _SIDE, 3, remedy="setting IMAGE_MAX_DIM, which it follows"
    ),
    "IMAGE_META_SIZE": _whole(1, remedy="leaving it out: it follows NUM_CLASSES"),
    "MEAN_PIXEL": _Rule(
        "a number, or a list of one per channel",
        lambda value: all(_is_number(mean, -1e6, 1e6) for mean in (value if _is_list(value) else [value])),
    ),
    # The network
    **dict.fromkeys(
        ("TOP_DOWN_PYRAMID_SIZE", "RPN_CHANNELS", "MASK_CHANNELS", "FPN_CLASSIF_FC_LAYERS_SIZE"), _whole(1, _SIDE)
    ),
    **dict.fromkeys(("POOL_SIZE", "MASK_POOL_SIZE", "RPN_ANCHOR_STRIDE"), _whole(1, 1000)),
    "MASK_SHAPE": _whole_list("whole numbers, [height, width]", 1, 8000, 2),
    "MINI_MASK_SHAPE": _whole_list("whole numbers of at least 1, (height, width)", 1, _SIDE, 2),
    "FPN_CANONICAL_SIZE": _Rule("a number above 0", _is_positive),
    "RPN_ANCHOR_SCALES": _list("numbers above 0", _is_positive, 1, 100),
    "RPN_ANCHOR_RATIOS": _list("numbers above 0", _is_positive, 1, 100),
    "RPN_BBOX_STD_DEV": _DEVIATIONS,
    "BBOX_STD_DEV": _DEVIATIONS,
    **dict.fromkeys(
        (
            "RPN_TRAIN_ANCHORS_PER_IMAGE", "PRE_NMS_LIMIT", "POST_NMS_ROIS_TRAINING", "POST_NMS_ROIS_INFERENCE",
            "TRAIN_ROIS_PER_IMAGE", "MAX_GT_INSTANCES", "DETECTION_MAX_INSTANCES",
        ),
        _whole(1, _MOST),
    ),
    **dict.fromkeys(
        (
            "DETECTION_MIN_CONFIDENCE", "DETECTION_NMS_THRESHOLD", "RPN_NMS_THRESHOLD", "RPN_POSITIVE_IOU",
            "RPN_NEGATIVE_IOU", "ROI_POSITIVE_RATIO", "ROI_POSITIVE_IOU", "REPEAT_THRESHOLD", "LEARNING_MOMENTUM",
        ),
        _SHARE,
    ),
    **dict.fromkeys(
        (
            "USE_MASK", "RPN_ONLY", "CLASS_AGNOSTIC_BOX", "CLASS_AGNOSTIC_MASK", "CLASS_AGNOSTIC_NMS", "USE_MINI_MASK",
            "EXACT_RESIZE", "ROIS_INCLUDE_GT", "USE_RPN_ROIS",
        ),
        _FLAG,
    ),
    "TRAIN_BN": _or_none(_FLAG),
    "PRECISION": _choice(*PRECISIONS),
    # The training
    "OPTIMIZER": _Rule("'sgd', 'adam', 'adamw' or a function (learning rate) -> Keras optimizer", _is_optimizer),
    "LEARNING_RATE_SCHEDULE": _Rule(
        "'constant', 'step' or 'cosine'",
        lambda value: isinstance(value, str) and value in ("constant", "step", "cosine"),
    ),
    "LEARNING_RATE_DROPS": _list("numbers from 0 to 1", lambda value: _is_number(value, 0, 1), 0, 100),
    **dict.fromkeys(("LEARNING_RATE", "WEIGHT_DECAY", "ADAMW_WEIGHT_DECAY", "FOCAL_GAMMA"), _number(0)),
    "GRADIENT_CLIP_NORM": _or_none(_number(0)),
    "EMA_DECAY": _number(0, 0.999999),
    "LOSS_WEIGHTS": _Rule(
        f"a dict that may name {', '.join(LOSS_NAMES)}, each with a number of at least 0",
        _are_loss_weights,
        remedy="those names",
    ),
    "CLASS_WEIGHTS": _or_none(
        _list("numbers of at least 0, one per class", lambda value: _is_number(value, 0), 1, 100_000)
    ),
}  # fmt: skip
# Settings that follow from others unless they are set -> those others.
_DERIVED = {
    "BATCH_SIZE": ("IMAGES_PER_GPU", "GPU_COUNT"),
    "IMAGE_SHAPE": ("IMAGE_RESIZE_MODE", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_CHANNEL_COUNT"),
    "IMAGE_META_SIZE": ("NUM_CLASSES",),
}
_ARRAYS = ("MEAN_PIXEL", "RPN_BBOX_STD_DEV", "BBOX_STD_DEV")


def _names(config) -> list[str]:
    return [name for name in dir(config) if name.isupper() and not name.startswith("_")]


def _short(value, length: int = 200) -> str:
    return repr(value)[:length]


def _near_64(side: int) -> int:
    return max(64, round(side / 64) * 64)


def _plain(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if callable(value):
        named = (
            value if hasattr(value, "__qualname__") else type(value)
        )  # a functools.partial has no name
        return f"{named.__module__}:{named.__qualname__}"
    return value


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[A-Z][A-Z0-9_]*", name) is not None


def _is_data(value, depth: int = 8) -> bool:
    """Whether a value is what JSON can hold, or an array, nested at most so deep."""
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_data(item, depth - 1) for item in items)
    return value is None or isinstance(value, str | int | float | np.ndarray | np.generic)


# The only functions that text in a file can become: setting -> name in mrcnn.app.demo. Files written by versions
# before the folders name the module mrcnn.demo.
_FUNCTIONS = {"BACKBONE": "backbone", "COMPUTE_BACKBONE_SHAPE": "DemoConfig.COMPUTE_BACKBONE_SHAPE"}
_DEMO_MODULES = ("mrcnn.app.demo", "mrcnn.demo")


def _as_read(config: Config, name: str, value):
    """The function that a value read from a file stands for, if it is a known one; otherwise the value."""
    if not isinstance(value, str):
        return value
    own = getattr(config, name, None)
    if callable(own) and _plain(own) == value:
        return own
    if name not in _FUNCTIONS or value not in [
        f"{module}:{_FUNCTIONS[name]}" for module in _DEMO_MODULES
    ]:
        return value
    return operator.attrgetter(_FUNCTIONS[name])(importlib.import_module("mrcnn.app.demo"))

"""Every knob of the network, its training and its use: default, meaning, check.

Subclass `Config` and override what differs. Values may also be set on an instance, before or after
`super().__init__()`. Sizes are pixels of the molded (resized, padded) image unless they say otherwise.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from typing import Any

import numpy as np

log = logging.getLogger("mrcnn")

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
BACKBONES = ("resnet50", "resnet101", "mobilenet_v2")
RESIZE_MODES = ("square", "pad64", "crop", "none")
LOSS_NAMES = ("rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss")


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
        self.check_names()

    # Derived values follow from the others, and may be assigned as well.
    @property
    def BATCH_SIZE(self) -> int:
        return self.__dict__.get("_BATCH_SIZE", self.IMAGES_PER_GPU * self.GPU_COUNT)

    @BATCH_SIZE.setter
    def BATCH_SIZE(self, value: int) -> None:
        self.__dict__["_BATCH_SIZE"] = int(value)

    @property
    def IMAGE_SHAPE(self) -> np.ndarray:
        """`[height, width, channels]` of the network's input."""
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        return self.__dict__.get("_IMAGE_SHAPE", np.array([side, side, self.IMAGE_CHANNEL_COUNT]))

    @IMAGE_SHAPE.setter
    def IMAGE_SHAPE(self, value) -> None:
        self.__dict__["_IMAGE_SHAPE"] = np.array(value)

    @property
    def IMAGE_META_SIZE(self) -> int:
        """id (1), original shape (3), molded shape (3), window (4), scale (1), one flag per class."""
        return self.__dict__.get("_IMAGE_META_SIZE", 1 + 3 + 3 + 4 + 1 + self.NUM_CLASSES)

    @IMAGE_META_SIZE.setter
    def IMAGE_META_SIZE(self, value: int) -> None:
        self.__dict__["_IMAGE_META_SIZE"] = int(value)

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
        _set_all(config, {name: _as_read(config, name, values[name]) for name in values if name not in unusable})
        return config

    def display(self) -> None:
        """Print every value."""
        print("\nConfigurations:")
        for name in _names(self):
            value = getattr(self, name)
            print(f"{name:30} {value.__qualname__ if callable(value) else value}")
        print()

    def check_names(self) -> None:
        """Warn of names that look like a misspelt setting; unknown names are allowed."""
        known = set(_names(Config))
        for name in _names(self):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
                if near:
                    log.warning("Config: %s is no setting of mrcnn; did you mean %s?", name, near[0])

    def validate(self) -> None:
        """Check what the network is built from.

        Raises: ValueError naming the attribute, what must hold, what was received and what to try.
        """
        shape, defaults = [int(side) for side in self.IMAGE_SHAPE], Config()
        checks = [
            (
                len(shape) == 3 and shape[0] > 0 and shape[1] > 0 and not shape[0] % 64 and not shape[1] % 64,
                "IMAGE_SHAPE: height and width must be multiples of 64, so that the image can be halved six times",
                shape,
                f"IMAGE_MIN_DIM and IMAGE_MAX_DIM such as {_near_64(shape[0])} (crop mode: IMAGE_MIN_DIM)",
            ),
            (
                shape[-1] == self.IMAGE_CHANNEL_COUNT,
                f"IMAGE_SHAPE's channels must equal IMAGE_CHANNEL_COUNT = {self.IMAGE_CHANNEL_COUNT}",
                shape,
                "setting IMAGE_CHANNEL_COUNT, which IMAGE_SHAPE follows",
            ),
            (
                np.size(self.MEAN_PIXEL) in (1, self.IMAGE_CHANNEL_COUNT),
                f"MEAN_PIXEL must have one value per channel (IMAGE_CHANNEL_COUNT = {self.IMAGE_CHANNEL_COUNT})",
                np.asarray(self.MEAN_PIXEL).tolist(),
                "one mean per channel, e.g. np.array([127.5])",
            ),
            (
                callable(self.BACKBONE) or self.BACKBONE in BACKBONES,
                f"BACKBONE must be one of {', '.join(BACKBONES)} or a callable",
                self.BACKBONE,
                "one of these names",
            ),
            (
                not callable(self.BACKBONE) or callable(self.COMPUTE_BACKBONE_SHAPE),
                "A callable BACKBONE needs COMPUTE_BACKBONE_SHAPE(image_shape) -> shapes of P2..P6",
                self.COMPUTE_BACKBONE_SHAPE,
                "a function that divides the image's sides by BACKBONE_STRIDES",
            ),
            (
                self.IMAGE_RESIZE_MODE in RESIZE_MODES,
                f"IMAGE_RESIZE_MODE must be one of {', '.join(RESIZE_MODES)}",
                self.IMAGE_RESIZE_MODE,
                "'square'",
            ),
            (
                len(self.RPN_ANCHOR_SCALES) == len(self.BACKBONE_STRIDES),
                f"RPN_ANCHOR_SCALES must hold one scale per pyramid level ({len(self.BACKBONE_STRIDES)})",
                self.RPN_ANCHOR_SCALES,
                "five scales, e.g. (32, 64, 128, 256, 512)",
            ),
            (
                self.mask_doublings() is not None,
                f"MASK_SHAPE must be MASK_POOL_SIZE ({self.MASK_POOL_SIZE}) times 2, 4 or 8 on both sides",
                list(self.MASK_SHAPE),
                f"[{2 * self.MASK_POOL_SIZE}, {2 * self.MASK_POOL_SIZE}]",
            ),
            (
                self.NUM_CLASSES >= 2,
                "NUM_CLASSES must count the background and your classes: at least 2",
                self.NUM_CLASSES,
                "1 + the number of your classes",
            ),
            *(
                (
                    _is_number(getattr(self, name), *bounds),
                    f"{name} must be {_range_text(*bounds)}",
                    getattr(self, name),
                    f"the default, {getattr(defaults, name)!r}",
                )
                for name, bounds in _RANGES.items()
            ),
            (
                all(_is_number(scale, 0.001) for scale in [*self.RPN_ANCHOR_SCALES, *self.RPN_ANCHOR_RATIOS])
                and len(self.RPN_ANCHOR_RATIOS) > 0,
                "RPN_ANCHOR_SCALES and RPN_ANCHOR_RATIOS must be above 0, and there must be a ratio",
                (self.RPN_ANCHOR_SCALES, self.RPN_ANCHOR_RATIOS),
                "(32, 64, 128, 256, 512) and [0.5, 1, 2]",
            ),
            (
                len(self.MINI_MASK_SHAPE) == 2
                and all(_is_number(side, 1, None, True) for side in self.MINI_MASK_SHAPE),
                "MINI_MASK_SHAPE must be (height, width), at least 1",
                self.MINI_MASK_SHAPE,
                "(56, 56)",
            ),
            (
                self.SEED is None or _is_number(self.SEED, 0, 2**32 - 1, True),
                "SEED must be None or a whole number from 0 to 4294967295",
                self.SEED,
                "0",
            ),
            (
                self.GRADIENT_CLIP_NORM is None or _is_number(self.GRADIENT_CLIP_NORM, 0),
                "GRADIENT_CLIP_NORM must be at least 0, or None",
                self.GRADIENT_CLIP_NORM,
                "5.0",
            ),
            (
                self.KEEP_LAST_N is None or _is_number(self.KEEP_LAST_N, 1, None, True),
                "KEEP_LAST_N must be at least 1, or None to keep every checkpoint",
                self.KEEP_LAST_N,
                "3",
            ),
            (
                not re.search(r"[/\\]", str(self.NAME)),
                "NAME names files and folders, so it must hold no / or \\",
                self.NAME,
                "letters, digits, - and _",
            ),
            (
                set(self.LOSS_WEIGHTS) <= set(LOSS_NAMES) and all(_is_number(w, 0) for w in self.LOSS_WEIGHTS.values()),
                f"LOSS_WEIGHTS may name {', '.join(LOSS_NAMES)}, each with a number of at least 0",
                self.LOSS_WEIGHTS,
                "those names",
            ),
            (
                self.PRECISION in PRECISIONS,
                f"PRECISION must be one of {', '.join(PRECISIONS)}",
                self.PRECISION,
                "'float32'",
            ),
            (
                self.CLASS_WEIGHTS is None
                or np.shape(self.CLASS_WEIGHTS) == (self.NUM_CLASSES,)
                and all(_is_number(weight, 0) for weight in self.CLASS_WEIGHTS)
                and any(self.CLASS_WEIGHTS),
                f"CLASS_WEIGHTS must hold one number of at least 0 per class, background first ({self.NUM_CLASSES})",
                self.CLASS_WEIGHTS,
                "None, which weighs all the same",
            ),
            (
                self.USE_RPN_ROIS or not self.RPN_ONLY,
                "RPN_ONLY trains the region proposal network, so USE_RPN_ROIS must be True",
                self.USE_RPN_ROIS,
                "one of the two",
            ),
            (
                self.OPTIMIZER in ("sgd", "adam", "adamw") or callable(self.OPTIMIZER) or ":" in str(self.OPTIMIZER),
                "OPTIMIZER must be 'sgd', 'adam', 'adamw' or a function (learning rate) -> Keras optimizer",
                self.OPTIMIZER,
                "'sgd'",
            ),
            (
                self.LEARNING_RATE_SCHEDULE in ("constant", "step", "cosine"),
                "LEARNING_RATE_SCHEDULE must be 'constant', 'step' or 'cosine'",
                self.LEARNING_RATE_SCHEDULE,
                "'constant'",
            ),
        ]
        for holds, rule, received, remedy in checks:
            if not holds:
                raise ValueError(f"{rule}. Received: {received!r}. Try {remedy}.")

    def learns_masks(self) -> bool:
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
    """Set attributes; derived ones that follow from the others are not set, so that they go on following."""
    for name, value in values.items():
        declared = getattr(type(config), name, None)
        read_only = isinstance(declared, property) and declared.fset is None
        if name not in _DERIVED and not read_only:
            setattr(config, name, np.array(value) if name in _ARRAYS else value)
    for name in _DERIVED:
        if name in values and _plain(getattr(config, name)) != _plain(values[name]):
            setattr(config, name, values[name])


_DERIVED = ("BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE")
_COUNTS = (
    "GPU_COUNT", "IMAGES_PER_GPU", "BATCH_SIZE", "STEPS_PER_EPOCH", "GRADIENT_ACCUMULATION_STEPS",
    "TOP_DOWN_PYRAMID_SIZE", "RPN_CHANNELS", "FPN_CLASSIF_FC_LAYERS_SIZE", "MASK_CHANNELS", "RPN_ANCHOR_STRIDE",
    "RPN_TRAIN_ANCHORS_PER_IMAGE", "PRE_NMS_LIMIT", "POST_NMS_ROIS_TRAINING", "POST_NMS_ROIS_INFERENCE",
    "TRAIN_ROIS_PER_IMAGE", "POOL_SIZE", "MASK_POOL_SIZE", "MAX_GT_INSTANCES", "DETECTION_MAX_INSTANCES",
)  # fmt: skip
# What each number must be: at least, at most (None: anything), whether whole.
_RANGES = {
    **dict.fromkeys(_COUNTS, (1, None, True)),
    **dict.fromkeys(("VALIDATION_STEPS", "WARMUP_STEPS", "VALIDATION_PICTURES", "MAX_IMAGE_ERRORS"), (0, None, True)),
    **dict.fromkeys(("LEARNING_RATE", "WEIGHT_DECAY", "ADAMW_WEIGHT_DECAY", "FOCAL_GAMMA", "IMAGE_MIN_SCALE"), (0,)),
    **dict.fromkeys(
        (
            "LEARNING_MOMENTUM", "DETECTION_MIN_CONFIDENCE", "DETECTION_NMS_THRESHOLD", "RPN_NMS_THRESHOLD",
            "RPN_POSITIVE_IOU", "RPN_NEGATIVE_IOU", "ROI_POSITIVE_RATIO", "ROI_POSITIVE_IOU", "REPEAT_THRESHOLD",
        ),
        (0, 1),
    ),
    "EMA_DECAY": (0, 0.999999),
    "STEPS_PER_EPOCH": (1, 10**9),  # fractions are rounded up: scripts divide images by the batch size
    "VALIDATION_STEPS": (0, 10**9),
}  # fmt: skip
_ARRAYS = ("MEAN_PIXEL", "RPN_BBOX_STD_DEV", "BBOX_STD_DEV", "IMAGE_SHAPE")


def _is_number(value, low, high=None, whole=False) -> bool:
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        return False
    return bool(low <= value and (high is None or value <= high) and (not whole or value == int(value)))


def _range_text(low, high=None, whole=False) -> str:
    return f"{f'at least {low}' if high is None else f'from {low} to {high}'}{', a whole number' * whole}"


def _names(config) -> list[str]:
    return [name for name in dir(config) if name.isupper() and not name.startswith("_")]


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
        return f"{value.__module__}:{value.__qualname__}"
    return value


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[A-Z][A-Z0-9_]*", name) is not None


def _is_data(value, depth: int = 8) -> bool:
    """Whether a value is what JSON can hold, or an array, nested at most so deep."""
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_data(item, depth - 1) for item in items)
    return value is None or isinstance(value, str | int | float | np.ndarray | np.generic)


# The only functions that text in a file can become: setting -> text -> the function, found in the module mrcnn.demo.
_FUNCTIONS = {
    "BACKBONE": {"mrcnn.demo:backbone": lambda demo: demo.backbone},
    "COMPUTE_BACKBONE_SHAPE": {
        "mrcnn.demo:DemoConfig.COMPUTE_BACKBONE_SHAPE": lambda demo: demo.DemoConfig.COMPUTE_BACKBONE_SHAPE
    },
    "OPTIMIZER": {},
}


def _as_read(config: Config, name: str, value):
    """The function that a value read from a file stands for, if it is a known one; otherwise the value."""
    if not isinstance(value, str):
        return value
    own = getattr(config, name, None)
    if callable(own) and _plain(own) == value:
        return own
    if value not in _FUNCTIONS.get(name, ()):
        return value
    return _FUNCTIONS[name][value](importlib.import_module("mrcnn.demo"))

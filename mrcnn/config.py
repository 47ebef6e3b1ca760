"""Every setting of a network, its training and its use: default, meaning, check.

Subclass `Config` and override what differs. Values may also be set on an instance, before or after
`super().__init__()`.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import logging
import math
import numbers
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import presets

log = logging.getLogger("mrcnn")

NETWORKS = ("mask_rcnn", "retinanet", "fcos")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Each has a row in the table of nn/backbones.py, which Keras is needed to import.
BACKBONES = (
    "resnet50",
    "resnet101",
    "resnet152",
    "vgg16",
    "mobilenet_v2",
    "efficientnet_lite2",
    "efficientnet_v2_b0",
    "efficientnet_v2_s",
    "convnext_tiny",
)
OPTIMIZERS = ("sgd", "adam", "adamw")
LEARNING_RATE_SCHEDULES = ("constant", "step", "cosine")
RESIZE_MODES = ("square", "pad64", "crop", "none", "torchvision", "detectron2")
# Modes in which an image keeps its own shape, so that the images of a batch may differ.
ANY_SIZE_MODES = ("pad64", "none", "torchvision", "detectron2")
PAD32_MODES = ("torchvision", "detectron2")
NORMS = ("none", "batch", "frozen", "group", "sync")
BOX_HEADS = ("2fc", "4conv1fc", "res5")
OBJECTNESS = ("softmax", "sigmoid")
INITIAL_WEIGHTS = ("glorot", "detectron2")
PROPOSAL_SELECTIONS = ("all_levels", "per_level")
ROI_ALIGNS = ("crop_and_resize", "aligned", "unaligned", "precise", "max")
LEVEL_RULES = ("round", "floor")
MASK_PASTES = ("matterport", "torchvision", "detectron2")
ROI_SAMPLINGS = ("ratio", "fill")
MASK_TARGETS = ("crop", "hard", "soft")
LOSS_DENOMINATORS = ("positives", "sampled")
WEIGHT_DECAY_RULES = ("matterport", "plain")
BOX_LOSSES = ("smooth_l1", "giou")
P6_INPUTS = ("p5", "c5")
SUPPRESSIONS = ("hard", "linear", "gaussian")
TTA_FLIP = "flip"
MASK_RCNN_LOSSES = (
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
)
# Those of all networks.
LOSS_NAMES = (*MASK_RCNN_LOSSES, "class_loss", "bbox_loss", "centerness_loss")
KEYPOINT_LOSS = "mrcnn_keypoint_loss"  # of a network with NUM_KEYPOINTS


class Config:
    """Settings with matterport's names and defaults.

    Sizes are pixels of the network's input, the resized and padded image, unless stated otherwise.
    IoU is the intersection over union of two boxes, from 0 to 1.
    """

    # Name of the experiment. It names the log folder and the checkpoints:
    # <name><date>T<time>/mask_rcnn_<name>_<epoch>.h5
    NAME: str | None = None

    # The network: "mask_rcnn", which is Faster R-CNN with USE_MASK = False; "retinanet" or "fcos",
    # whose other settings `Config.retinanet()` and `Config.fcos()` set.
    NETWORK: str = "mask_rcnn"

    # --- Batches and epochs ---

    # Number of GPUs, those of all hosts together; 1 if there is only a CPU.
    GPU_COUNT: int = 1
    # Images per GPU and step; the batch size is IMAGES_PER_GPU * GPU_COUNT. Lower it if the memory
    # is full. `mrcnn.training.schedule.scaled_learning_rate` fits the rate to another batch size.
    IMAGES_PER_GPU: int = 2
    # Training steps per epoch. After each epoch the weights are saved and validated.
    STEPS_PER_EPOCH: int = 1000
    # Validation steps after each epoch. More steps give more accurate losses and take longer.
    VALIDATION_STEPS: int = 50

    # --- Backbone ---

    # A name in `BACKBONES` above, or a function from the image tensor to the feature maps
    # [C1, C2, C3, C4, C5] of strides 2, 4, 8, 16 and 32.
    BACKBONE: str | Callable = "resnet101"
    # Only for a BACKBONE function with a pyramid: a function from the image shape to the
    # [5, (height, width)] of the pyramid levels P2 to P6.
    COMPUTE_BACKBONE_SHAPE: Callable | None = None
    # Pixels of the image per cell, of each level that the network reads, the finest first.
    # [4, 8, 16, 32, 64]: the pyramid P2 to P6 (FPN). [2, 4, 8, 16, 32, 64]: P1 as well, for objects
    # of few pixels, if BACKBONE is a name; P1 costs more than all other levels together, so that
    # Lin 2017 (section 3) leaves it out. [16]: no pyramid; the RPN and the heads read the
    # backbone's map of this stride, C4 (Faster R-CNN, Ren 2015).
    BACKBONE_STRIDES = [4, 8, 16, 32, 64]
    # Norm of a ResNet or EfficientNet-Lite, the others have their own: "batch", see TRAIN_BN;
    # "frozen", batch norm whose scale, shift and statistics never change; "group", group norm (Wu
    # 2018) with 32 groups, or fewer if 32 does not divide the channels, which trains from random
    # weights with small batches too; "sync", batch norm with the statistics of all devices together
    # (in a head also of the RoIs that pad a small sample, which "batch" leaves out); "none".
    BACKBONE_NORM = "batch"
    # Added to the variance in every norm. matterport: 0.001; torch: 0.00001.
    NORM_EPSILON = 0.001
    # ResNet: True, the stride of a block is that of its first 1x1 convolution (matterport,
    # detectron2's STRIDE_IN_1X1); False, of its 3x3 convolution (torchvision).
    STRIDE_IN_1X1 = True
    # Convolutions and the pool with a stride pad an image of even side: False, at its end only
    # (TensorFlow); True, on both sides (torch).
    SYMMETRIC_PADDING = False
    # True: a convolution before a norm has a bias, as in matterport's network. torchvision and
    # detectron2 have none: the norm's shift makes it redundant.
    BIAS_BEFORE_NORM = True

    # --- Feature pyramid and heads ---

    # Channels of the feature pyramid (FPN).
    TOP_DOWN_PYRAMID_SIZE = 256
    # Norm of the pyramid, of the class and box head, and of the mask head; see BACKBONE_NORM.
    FPN_NORM = "none"
    BOX_HEAD_NORM = "batch"
    MASK_HEAD_NORM = "batch"
    # Channels of the first convolution of the region proposal network (RPN).
    RPN_CHANNELS = 512
    # Number of 3x3 convolutions of the RPN (torchvision's second version: 2).
    RPN_CONV_LAYERS = 1
    # Scores of an anchor: "softmax" over background and object, or one logit with a "sigmoid".
    RPN_OBJECTNESS = "softmax"
    # Hidden layers of the class and box head: "2fc", two fully connected ones; "4conv1fc", four
    # convolutions and one fully connected (Wu 2018, section 5.2); "res5", only without a pyramid:
    # the ResNet's stage 5, which the mask head shares (ResNet-C4; He 2017, figure 4 left).
    BOX_HEAD = "2fc"
    # Cascade R-CNN (Cai 2018): the IoU from which a RoI is positive in each of up to 4 stages, for
    # example (0.5, 0.6, 0.7), the paper's. Each stage has a class and box head, whose RoIs are the
    # boxes of the stage before; the first IoU must be ROI_POSITIVE_IOU. (): off. See `nn.cascade`.
    CASCADE_IOUS: Sequence[float] = ()
    # Units of the fully connected layers of the class and box head (VGG16: 4096).
    FPN_CLASSIF_FC_LAYERS_SIZE = 1024
    # Initial weights of RPN and heads: "glorot", as matterport has them; "detectron2": He's before
    # a ReLU, and almost 0 in last layers, so that the first boxes are anchors and proposals.
    INITIAL_WEIGHTS = "glorot"
    # Channels of the mask head's convolutions.
    MASK_CHANNELS = 256
    # RetinaNet and FCOS: number of 3x3 convolutions of the class tower and of the box tower, and
    # the norm after each; see BACKBONE_NORM.
    TOWER_CONV_LAYERS = 4
    TOWER_NORM = "none"
    # RetinaNet and FCOS: the map from which P6 is made, "p5" or "c5".
    P6_INPUT = "p5"
    # Number of classes, the background included: 1 + your classes.
    NUM_CLASSES: int = 1

    # --- Parts of the network ---

    # False: Faster R-CNN, which predicts boxes and no masks. A dataset may then have `load_bbox`
    # instead of `load_mask`.
    USE_MASK: bool = True
    # True: only the region proposal network. Its results are scored boxes without a class.
    RPN_ONLY = False
    # True: one set of box deltas for all classes instead of one per class (Detectron's
    # CLS_AGNOSTIC_BBOX_REG).
    CLASS_AGNOSTIC_BOX = False
    # True: one mask for all classes instead of one per class (Detectron's CLS_AGNOSTIC_MASK).
    CLASS_AGNOSTIC_MASK = False

    # --- Keypoints ---

    # Keypoints of each object, the same ones for all classes; 0: no keypoint head. A dataset then
    # needs `load_keypoints`.
    NUM_KEYPOINTS: int = 0
    # Their names, in order; None: unnamed.
    KEYPOINT_NAMES: list[str] | None = None
    # Pairs of keypoints, numbered from 0, that change places in a mirrored image. None: those whose
    # names differ only in left and right.
    KEYPOINT_PAIRS: list[list[int]] | None = None
    # Pairs of keypoints, numbered from 0, that a line connects in drawings.
    KEYPOINT_SKELETON: list[list[int]] = []
    # Deviation of each keypoint's annotations, in roots of the object's area: COCO's metric (OKS)
    # scales distances by it. None: COCO's for COCO's names, otherwise 0.05.
    KEYPOINT_SIGMAS: list[float] | None = None
    # Height and width of the features of a RoI, for the keypoint head. Its heatmaps are 4 times as
    # high and wide.
    KEYPOINT_POOL_SIZE = 14
    # Number of the head's 3x3 convolutions, and their channels.
    KEYPOINT_CONV_LAYERS = 8
    KEYPOINT_CHANNELS = 512

    # --- Precision ---

    # "float32", "mixed_bfloat16" or "mixed_float16", of the convolutions. The mixed ones take half
    # the memory, and are faster on GPUs and on CPUs with avx512_bf16 or amx_bf16; on other CPUs
    # they are slower. The stem (C1), weights, boxes, NMS, RoIAlign and losses are always float32.
    PRECISION: str = "float32"

    # --- Anchors ---

    # Side of the anchors of each pyramid level: the root of their area; or several sides, a list
    # for each level. Without a pyramid the one level has anchors of all these sides. Use smaller
    # sides if the objects are smaller (`mrcnn check` shows how well the anchors fit).
    # FCOS: the side of a cell's square, the unit of its distances.
    RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
    # Ratios width / height of the anchors.
    RPN_ANCHOR_RATIOS = [0.5, 1, 2]
    # 1: anchors in each cell of a feature map; 2: in every second cell, and so on.
    RPN_ANCHOR_STRIDE = 1
    # True: sides of anchors are rounded to whole pixels, and the stride of a level is the padded
    # image's side divided by the level's, rounded down (torchvision).
    ROUND_ANCHORS = False

    # --- Region proposal network (RPN) ---

    # NMS removes a proposal whose IoU with a better one is above this. A higher value keeps more
    # proposals.
    RPN_NMS_THRESHOLD = 0.7
    # Anchors per image that the RPN losses use, at most half of them positive.
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    # An anchor is positive from this IoU with a ground-truth box, and negative below the second
    # IoU; anchors between them are ignored (Faster R-CNN, section 3.1.2; of RetinaNet as well).
    RPN_POSITIVE_IOU = 0.7
    RPN_NEGATIVE_IOU = 0.3
    # Which anchors become proposals: "all_levels", the best of all pyramid levels, clipped to the
    # padded image, after one NMS; "per_level" (FPN), the best of each level, clipped to the image
    # without its padding, after an NMS per level; then the best of all.
    PROPOSAL_SELECTION = "all_levels"
    # Proposals kept by score before NMS ("per_level": of each level), in training; in inference.
    # RetinaNet and FCOS: pairs of an anchor and a class of each level, in inference.
    PRE_NMS_LIMIT = 6000
    PRE_NMS_LIMIT_INFERENCE: int | None = None  # as in training
    # Proposals kept after NMS, in training and in inference.
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000

    # --- Ground-truth masks ---

    # True: crop each ground-truth mask to its box and resize it to MINI_MASK_SHAPE, (height,
    # width), to save memory. False: use masks of the full image.
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)

    # --- From an image to the network's input ---

    # "square": enlarge a smaller image until its short side is IMAGE_MIN_DIM, reduce it if its long
    #     side is above IMAGE_MAX_DIM; pad to a square of IMAGE_MAX_DIM.
    # "pad64": enlarge in the same manner, never reduce; pad height and width to multiples of 64.
    # "crop": enlarge in the same manner, never reduce; cut out a random square of IMAGE_MIN_DIM.
    # "none": neither scale nor pad; height and width must be multiples of 64.
    # "torchvision": scale the short side to IMAGE_MIN_DIM, but the long side to at most
    #     IMAGE_MAX_DIM; pad below and on the right to multiples of 32, with the mean. Its rounding
    #     and interpolation are torchvision's.
    # "detectron2": the same with detectron2's rounding and Pillow's antialiasing.
    # Without a fixed size (not "square" or "crop") the images of a training batch are padded to the
    # largest of them, and are either all tall or all wide, except in the last batches of an epoch.
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM: int = 800
    IMAGE_MAX_DIM: int = 1024
    # Minimum scale factor, in "square" within the limit of IMAGE_MAX_DIM: 2 enlarges an image at
    # least to twice its size, even if its short side is above IMAGE_MIN_DIM. 0: no minimum.
    IMAGE_MIN_SCALE = 0
    # Channels of the images: 3 for RGB, 1 for grey, 4 for RGB and depth.
    IMAGE_CHANNEL_COUNT = 3
    # Mean of each channel, RGB, on the scale of the pixels; subtracted from them.
    MEAN_PIXEL = np.array([123.7, 116.8, 103.9])
    # Standard deviation of each channel, or one for all, by which the difference is divided.
    STD_PIXEL = np.array([1.0])
    # True: scikit-image's resize, as matterport's package used it: slow, and equal in every bit.
    # False: OpenCV, whose pixels are truncated to integers as matterport's were: equal inside an
    # image, except for some pixels in a thousand.
    EXACT_RESIZE = False

    # --- RoIs that train the heads ---

    # RoIs per image that the losses of the heads use.
    TRAIN_ROIS_PER_IMAGE = 200
    # Share of positive RoIs among them, at most.
    ROI_POSITIVE_RATIO = 0.33
    # Number of negative RoIs: "ratio", as many as keep ROI_POSITIVE_RATIO (matterport); "fill", as
    # many as complete TRAIN_ROIS_PER_IMAGE (Fast R-CNN, section 2.3; Detectron, torchvision), and
    # trained statistics of batch norm are of the RoIs without padding, in the mask head of the
    # positive ones.
    ROI_SAMPLING = "ratio"
    # A RoI is positive if its IoU with a ground-truth box is at least this.
    ROI_POSITIVE_IOU = 0.5
    # True: add the ground-truth boxes to the proposals, so that the heads learn before the RPN
    # does (as in Detectron; not in matterport's package). Useful in short trainings.
    ROIS_INCLUDE_GT = False
    # Ground-truth objects per image that a training uses; of more, a random selection.
    MAX_GT_INSTANCES = 100

    # --- RoIAlign and the mask head ---

    # Height and width of the features of a RoI, for the class and box head. With BOX_HEAD "res5"
    # they are those after stage 5, which halves RoIs of twice the size.
    POOL_SIZE = 7
    # Height and width of the features of a RoI, for the mask head; unused with BOX_HEAD "res5",
    # whose mask head reads the features of POOL_SIZE.
    MASK_POOL_SIZE = 14
    # [height, width] of predicted masks: the features of the mask head times 2, 4 or 8, by one, two
    # or three transposed convolutions.
    MASK_SHAPE = [28, 28]
    # A RoI with this side (the root of its area) is read from P4; with half the side from P3, with
    # twice the side from P5 (FPN, equation 1).
    FPN_CANONICAL_SIZE = 224.0

    # FPN's equation 1: "round" to the nearest level (matterport) or "floor" (the paper).
    FPN_LEVEL_RULE = "round"
    # How a RoI is read from a feature map. "crop_and_resize" (matterport): one sample per bin, from
    # corner to corner. "aligned" (detectron2, the paper): the mean of several samples per bin.
    # "unaligned" (torchvision): the same half a cell further, RoIs of at least one cell.
    # "precise": the integral over the bin (PrRoI pooling, Jiang 2018). "max": RoI pooling (Fast
    # R-CNN).
    ROI_ALIGN = "crop_and_resize"
    # Samples per bin and axis of "aligned" and "unaligned"; 0: as many as cells, rounded up.
    ROI_ALIGN_SAMPLES = 2
    # True: "aligned" and "unaligned" with a fixed number of samples are one gather, which takes
    # more time and memory. For exports to a format without sparse matrices (ONNX), and for XLA.
    ROI_ALIGN_GATHER: bool = False
    # True: normalized boxes are pixels divided by the side, and detections are float. False
    # (matterport): the first and last pixel are 0 and 1, and detections are rounded to pixels.
    CONTINUOUS_BOXES = False
    # Limit of log dh and log dw; torchvision's and detectron2's is log(1000 / 16). None: no limit.
    MAX_LOG_SCALE: float | None = None

    # Box deltas (dy, dx, log dh, log dw) are divided by these before they are learned: of the RPN,
    # and of the box head.
    RPN_BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])
    BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])

    # --- Detections ---

    # Detections per image, at most.
    DETECTION_MAX_INSTANCES = 100
    # False: a RoI is detected as its best class only. True: as every class that scores enough.
    DETECTION_ALL_CLASSES = False
    # Detections with a lower score are dropped.
    DETECTION_MIN_CONFIDENCE: float = 0.7
    # NMS removes a detection whose IoU with a better one of its class is above this.
    DETECTION_NMS_THRESHOLD = 0.3
    # True: NMS compares detections of different classes too. Use it if one object is detected as
    # two classes.
    CLASS_AGNOSTIC_NMS = False
    # What a detection does to weaker ones of its class: "hard", NMS, which removes them;
    # "linear" or "gaussian", Soft-NMS (Bodla 2017, section 3), which lowers their scores with the
    # IoU: times 1 - IoU if it is above DETECTION_NMS_THRESHOLD, or times
    # exp(-IoU^2 / SOFT_NMS_SIGMA). Scores that fall below DETECTION_MIN_CONFIDENCE are dropped.
    DETECTION_NMS = "hard"
    SOFT_NMS_SIGMA = 0.5
    # Box voting (Gidaris 2015, section 5): the box of a detection becomes the mean, weighted by
    # score, of all boxes of its class before NMS whose IoU with it is at least this (the paper:
    # 0.5; Detectron: 0.8). Only boxes from DETECTION_MIN_CONFIDENCE on vote. None: off.
    BOX_VOTING_IOU: float | None = None
    # Test-time augmentation: the views in which an image is detected besides its own, "flip" and
    # factors of its size in the network, for example ("flip", 0.8, 1.2); with "flip" every size is
    # detected flipped as well. Each view takes the time of a detection. See `inference.tta`.
    TTA: tuple = ()
    # How a mask is resized to its box in the image. "matterport": to whole pixels. "torchvision":
    # to whole pixels, with a border of one mask pixel. "detectron2": each pixel's center is read.
    MASK_PASTE = "matterport"
    # A pixel belongs to the object if its probability is at least this.
    MASK_THRESHOLD = 0.5

    # --- Optimizer ---

    # "sgd" (with momentum), "adam", "adamw", or a function from the learning rate to a Keras
    # optimizer.
    OPTIMIZER: str | Callable = "sgd"
    LEARNING_RATE: float = 0.001
    # Momentum of "sgd".
    LEARNING_MOMENTUM = 0.9
    # "constant"; "step": divided by 10 at each of LEARNING_RATE_DROPS; "cosine": from the learning
    # rate down to a hundredth, over all epochs.
    LEARNING_RATE_SCHEDULE = "constant"
    # Shares of all epochs, from 0 to 1.
    LEARNING_RATE_DROPS = (2 / 3, 8 / 9)
    # Steps at the beginning of a training over which the learning rate grows linearly; 0: off.
    WARMUP_STEPS: int = 0
    # Steps whose gradients together change the weights once, as a batch larger by this factor
    # would, without its memory. On one device only.
    GRADIENT_ACCUMULATION_STEPS = 1
    # L2 regularization, a part of the loss.
    WEIGHT_DECAY = 0.0001
    # "matterport": of a weight w, WEIGHT_DECAY * mean(w^2), of all but norms. "plain": half of
    # WEIGHT_DECAY * sum(w^2), whose gradient is WEIGHT_DECAY * w, as in SGD of torch.
    WEIGHT_DECAY_RULE = "matterport"
    # Whether "plain" includes biases, and the scale and shift of norms.
    WEIGHT_DECAY_BIASES = True
    WEIGHT_DECAY_NORMS = False
    # Factor of the learning rate of biases; Detectron's is 2.
    BIAS_LEARNING_RATE_FACTOR = 1.0
    # Decoupled weight decay of "adamw", not a part of the loss; batch norm and biases are excluded.
    ADAMW_WEIGHT_DECAY = 0.05
    # Gradients with a larger global norm are scaled down to this one; None or 0: no limit.
    GRADIENT_CLIP_NORM: float | None = 5.0
    # Decay of an exponential moving average of the weights, over about 1 / (1 - decay) steps. The
    # averages are validated and saved. 0: the weights themselves are.
    EMA_DECAY = 0.0

    # --- Losses ---

    # Smooth L1 of the RPN's and of the box head's deltas is quadratic below this difference
    # (Detectron and torchvision: 1/9), and linear above; 0: L1.
    RPN_SMOOTH_L1_BETA = 1.0
    BOX_SMOOTH_L1_BETA = 1.0
    # The box losses are divided by 4 times the number of "positives" (matterport), or by the number
    # of "sampled" anchors and RoIs (the papers' code).
    LOSS_DENOMINATOR = "positives"
    # Mask targets: "crop", matterport's crop of the mask, rounded; RoIAlign of the mask, "soft"
    # (torchvision) or cut at 0.5, "hard" (detectron2).
    MASK_TARGETS = "crop"
    # Factor of each loss of `LOSS_NAMES`; of those that are not here, 1.
    LOSS_WEIGHTS = dict.fromkeys(MASK_RCNN_LOSSES, 1.0)
    # Factor of the RoIs of each class in the class loss, background first (RetinaNet: of each
    # class's sigmoid); None: 1 for all.
    CLASS_WEIGHTS: list[float] | None = None
    # gamma of the focal loss (Lin et al. 2017, equation 4; they use 2), for all class losses:
    # cross-entropy times (1 - p)^gamma, which reduces the loss of easy examples. 0: cross-entropy.
    FOCAL_GAMMA = 0.0
    # RetinaNet and FCOS: alpha of the focal loss, the weight of an object's own class against
    # 1 - alpha of all others.
    FOCAL_ALPHA = 0.25
    # RetinaNet: the loss of a positive anchor's box. "smooth_l1" of its deltas, see
    # BOX_SMOOTH_L1_BETA; "giou", generalized IoU of the decoded box (Rezatofighi 2019).
    BOX_LOSS = "smooth_l1"

    # False: train only the heads, with RoIs of the data generator (random_rois) instead of the
    # RPN's proposals.
    USE_RPN_ROIS = True
    # Batch norm. False: the statistics stay as loaded; use it for small batches. None or True: they
    # are learned, as they must be if the weights are random at first.
    TRAIN_BN: bool | None = False

    # --- The training loop ---

    # Seed of all random choices, from 0 to 2**32 - 1: the same seed gives the same batches and
    # samples. None: another one in each run.
    SEED: int | None = None
    # Repeat-factor sampling (LVIS, section 3; LVIS uses 0.001): an image whose rarest class has
    # frequency f below this threshold is repeated sqrt(threshold / f) times per epoch. 0: off.
    REPEAT_THRESHOLD = 0
    # Number of unreadable images that a training skips before it stops.
    MAX_IMAGE_ERRORS = 5
    # Images of the validation data on which average precision (AP) is measured after each epoch: a
    # number, evenly spread; "auto": all, or as many as take a fifth of the epoch; None: no AP. The
    # checkpoint with the highest AP is copied to best.h5. `mrcnn train` sets "auto".
    VALIDATION_AP_IMAGES: int | str | None = None
    # Number of epochs without a higher AP after which the training stops; None: it does not.
    EARLY_STOPPING_PATIENCE: int | None = None
    # Write images, curves and the page report.html into the folder of the run.
    RUN_REPORT: bool = False
    # Validation images that TensorBoard shows after each epoch, with detections and ground truth.
    VALIDATION_PICTURES: int = 4
    # Number of checkpoints of a run that are kept, the newest ones; None: all.
    KEEP_LAST_N: int | None = None

    def __init__(self):
        """Recompute the derived values, even if they were set before, and check the names."""
        for name, sources in _DERIVED.items():
            self.__dict__.pop(f"_{name}", None)
            has_plain_value = not isinstance(getattr(type(self), name), property)
            if has_plain_value:  # in a subclass; matterport's Config replaced it too
                self._check(*sources)
                self.__dict__[name] = vars(Config)[name].fget(self)
        self.check_names()

    # --- Presets ---

    @classmethod
    def matterport(cls) -> Config:
        """Return a config of matterport's network, which is that of the defaults."""
        return cls()

    @classmethod
    def detectron(cls) -> Config:
        """Return a config of detectron2's network (mask_rcnn_R_50_FPN_3x) and its training.

        Settings of a subclass stay as they are.
        """
        return cls()._with_preset(presets.DETECTRON)

    @classmethod
    def detectron_scratch(cls) -> Config:
        """Return a config like `detectron()`, with group norm, for training from random weights.

        Settings of a subclass stay as they are.
        """
        return cls()._with_preset(presets.DETECTRON_SCRATCH)

    @classmethod
    def detectron_c4(cls) -> Config:
        """Return a config of detectron2's network without a pyramid (mask_rcnn_R_50_C4_3x).

        Settings of a subclass stay as they are.
        """
        return cls()._with_preset(presets.DETECTRON_C4)

    @classmethod
    def lite(cls) -> Config:
        """Return a config of a small network for CPUs, and of its training from ImageNet weights.

        Settings of a subclass stay as they are.
        """
        return cls()._with_preset(presets.LITE)

    @classmethod
    def torchvision(cls, version: int = 1) -> Config:
        """Return a config of torchvision's network and its training.

        Settings of a subclass stay as they are.

        version: 1 for maskrcnn_resnet50_fpn, 2 for maskrcnn_resnet50_fpn_v2; with USE_MASK = False
            for fasterrcnn_resnet50_fpn and its second version.

        Raises:
            ValueError: there is no such version.
        """
        if version not in presets.TORCHVISION:
            raise ValueError(f"version must be 1 or 2. Received: {version!r}. Try 1.")
        return cls()._with_preset(presets.TORCHVISION[version])

    @classmethod
    def retinanet(cls, version: int = 1) -> Config:
        """Return a config of RetinaNet as torchvision has it, and of its training.

        Settings of a subclass stay as they are.

        version: 1 for retinanet_resnet50_fpn, 2 for retinanet_resnet50_fpn_v2.

        Raises:
            ValueError: there is no such version.
        """
        if version not in presets.RETINANET:
            raise ValueError(f"version must be 1 or 2. Received: {version!r}. Try 1.")
        return cls()._with_preset(presets.RETINANET[version])

    @classmethod
    def fcos(cls) -> Config:
        """Return a config of FCOS as torchvision has it (fcos_resnet50_fpn), and of its training.

        Settings of a subclass stay as they are.
        """
        return cls()._with_preset(presets.FCOS)

    def _with_preset(self, settings: dict[str, Any]) -> Config:
        classes = type(self).__mro__
        own = {name for owner in classes[: classes.index(Config)] for name in vars(owner)}
        for name, value in settings.items():
            if name not in own:
                setattr(self, name, copy.copy(value))
        return self

    # Derived values follow from the other settings, unless they are assigned.

    @property
    def BATCH_SIZE(self) -> int:
        """Images per training step, on all GPUs together."""
        return self.__dict__.get("_BATCH_SIZE", self.IMAGES_PER_GPU * self.GPU_COUNT)

    @BATCH_SIZE.setter
    def BATCH_SIZE(self, value: int) -> None:
        self.__dict__["_BATCH_SIZE"] = value

    @property
    def IMAGE_SHAPE(self) -> np.ndarray:
        """`[height, width, channels]` of the network's input."""
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        if self.IMAGE_RESIZE_MODE in PAD32_MODES:
            side = -(-side // 32) * 32
        return self.__dict__.get("_IMAGE_SHAPE", np.array([side, side, self.IMAGE_CHANNEL_COUNT]))

    @IMAGE_SHAPE.setter
    def IMAGE_SHAPE(self, value) -> None:
        if _RULES["IMAGE_SHAPE"].holds(value):
            value = np.array(value)
        self.__dict__["_IMAGE_SHAPE"] = value

    @property
    def IMAGE_META_SIZE(self) -> int:
        """id (1), original shape (3), molded shape (3), window (4), scale (1), a flag per class."""
        return self.__dict__.get("_IMAGE_META_SIZE", 1 + 3 + 3 + 4 + 1 + self.NUM_CLASSES)

    @IMAGE_META_SIZE.setter
    def IMAGE_META_SIZE(self, value: int) -> None:
        self.__dict__["_IMAGE_META_SIZE"] = value

    def to_dict(self) -> dict[str, Any]:
        """Return every value in a form that JSON can hold; callables by their name."""
        return {name: _plain(getattr(self, name)) for name in _names(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Return a config with the values of `to_dict`, for example read from JSON.

        The values are data: a file cannot name code to run. Names must be in upper case; other
        names, and values that are not plain data, are left out with a warning. A text becomes a
        function only if the class itself has this function, or if `_FUNCTIONS` lists it; otherwise
        it stays a text, `module:name`. Derived values are set only if they differ from the value
        that follows from the others.

        Raises:
            ValueError: a value from which others are derived has the wrong type.
        """
        if not isinstance(values, dict):
            raise ValueError(
                f"The config must be NAME: value pairs. Received: {_short(values, 60)}. "
                "Try the JSON of `to_dict`."
            )
        config = cls()
        settings, unusable = {}, []
        for name, value in values.items():
            if _is_setting(name) and _is_data(value):
                settings[name] = _as_read(config, name, value)
            else:
                unusable.append(_short(name, 60))
        if unusable:
            more = " ..." if len(unusable) > 5 else ""
            log.warning(
                "Config: left out %d names that are no settings, or whose values are no plain "
                "data: %s%s",
                len(unusable),
                ", ".join(unusable[:5]),
                more,
            )
        _set_all(config, settings)
        return config

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults, without derived ones."""
        defaults = Config().to_dict()
        changed = {}
        for name, value in self.to_dict().items():
            is_derived = isinstance(getattr(Config, name, None), property)
            if defaults.get(name, ...) != value and not is_derived:
                changed[name] = value
        return changed

    def display(self) -> None:
        """Print every value."""
        print("\nConfigurations:")
        for name in _names(self):
            value = getattr(self, name)
            print(f"{name:30} {_plain(value) if callable(value) else value}")
        print()

    def check_names(self) -> None:
        """Warn about names that are similar to a setting; other unknown names are allowed."""
        known = set(_names(Config))
        for name in _names(self):
            if name in known:
                continue
            similar = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            if similar:
                log.warning("Config: %s is no setting of mrcnn; did you mean %s?", name, similar[0])

    def validate(self) -> None:
        """Check the type and range of every setting, and then how they fit together.

        Integers given as floats (2.0) become int; a fractional number of steps is rounded up, with
        a line in the log.

        Raises:
            ValueError: names the setting, its condition, the value received and a remedy.
        """
        self._check(*_RULES)
        for relation in self._relations():
            if not relation.holds:
                received = _short(_plain(relation.received))
                raise ValueError(f"{relation.text}. Received: {received}. Try {relation.remedy}.")
        self._warn_of_levels_without_anchors()

    def _check(self, *names: str) -> None:
        """Check settings one by one."""
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

    def _relations(self) -> Iterator[_Relation]:
        """Yield the conditions on several settings; each assumes that those before it hold."""
        yield from self._image_relations()
        yield from self._class_relations()
        yield from self._network_relations()
        if not self.has_rpn():
            yield from self._dense_relations()
        if not self.has_anchors():
            yield from self._location_relations()

    def _image_relations(self) -> Iterator[_Relation]:
        height, width, depth = (int(side) for side in self.IMAGE_SHAPE)
        shape, channels = [height, width, depth], self.IMAGE_CHANNEL_COUNT
        step = 32 if self.IMAGE_RESIZE_MODE in PAD32_MODES else 64
        near = max(step, round(height / step) * step)
        yield _Relation(
            height % step == 0 and width % step == 0,
            f"IMAGE_SHAPE: height and width must be multiples of {step}, so that the image can be "
            "halved again and again",
            shape,
            f"IMAGE_MIN_DIM and IMAGE_MAX_DIM such as {near} (crop mode: IMAGE_MIN_DIM)",
        )
        yield _Relation(
            self.IMAGE_RESIZE_MODE not in ("square", *PAD32_MODES)
            or (self.IMAGE_MIN_DIM or 0) <= self.IMAGE_MAX_DIM,
            "IMAGE_MIN_DIM must be at most IMAGE_MAX_DIM",
            (self.IMAGE_MIN_DIM, self.IMAGE_MAX_DIM),
            f"IMAGE_MIN_DIM = {self.IMAGE_MAX_DIM}",
        )
        yield _Relation(
            depth == channels,
            f"IMAGE_SHAPE's channels must equal IMAGE_CHANNEL_COUNT = {channels}",
            shape,
            "setting IMAGE_CHANNEL_COUNT, which IMAGE_SHAPE follows",
        )
        yield _Relation(
            np.size(self.MEAN_PIXEL) in (1, channels),
            f"MEAN_PIXEL must have one value per channel (IMAGE_CHANNEL_COUNT = {channels})",
            self.MEAN_PIXEL,
            "one mean per channel, e.g. np.array([127.5])",
        )
        yield _Relation(
            np.size(self.STD_PIXEL) in (1, channels),
            f"STD_PIXEL must have one value per channel (IMAGE_CHANNEL_COUNT = {channels})",
            self.STD_PIXEL,
            "one deviation per channel, e.g. np.array([58.0])",
        )

    def _class_relations(self) -> Iterator[_Relation]:
        yield _Relation(
            self.NUM_CLASSES >= 2,
            "NUM_CLASSES must count the background and your classes: at least 2",
            self.NUM_CLASSES,
            "1 + the number of your classes",
        )
        yield _Relation(
            self.IMAGE_META_SIZE == 12 + self.NUM_CLASSES,
            "IMAGE_META_SIZE must be 12 + NUM_CLASSES, which it is unless it is set",
            self.IMAGE_META_SIZE,
            f"{12 + self.NUM_CLASSES}",
        )
        weights = self.CLASS_WEIGHTS
        yield _Relation(
            weights is None or (len(weights) == self.NUM_CLASSES and any(weights)),
            "CLASS_WEIGHTS must hold one number of at least 0 per class, background first, and "
            f"not only zeros ({self.NUM_CLASSES})",
            weights,
            "None, which weighs all the same",
        )

    def _network_relations(self) -> Iterator[_Relation]:
        yield _Relation(
            not callable(self.BACKBONE)
            or not self.has_pyramid()
            or callable(self.COMPUTE_BACKBONE_SHAPE),
            "A callable BACKBONE needs COMPUTE_BACKBONE_SHAPE(image_shape) -> shapes of P2..P6",
            self.COMPUTE_BACKBONE_SHAPE,
            "a function that divides the image's sides by BACKBONE_STRIDES",
        )
        levels = len(self.BACKBONE_STRIDES)
        yield _Relation(
            self.has_pyramid() or self.BACKBONE_STRIDES[0] in _STRIDES,
            "The one number in BACKBONE_STRIDES must be the stride of one of the maps C1 to C5: "
            f"one of {', '.join(map(str, _STRIDES))}",
            self.BACKBONE_STRIDES,
            "[16]",
        )
        yield _Relation(
            self.BOX_HEAD != "res5" or not self.has_pyramid(),
            'BOX_HEAD = "res5" reads the backbone\'s map C4, so BACKBONE_STRIDES must be [16]',
            self.BACKBONE_STRIDES,
            "BACKBONE_STRIDES = [16]",
        )
        yield _Relation(
            len(self.RPN_ANCHOR_SCALES) <= levels or not self.has_pyramid(),
            "RPN_ANCHOR_SCALES must hold at most one scale per pyramid level "
            f"(BACKBONE_STRIDES: {levels})",
            self.RPN_ANCHOR_SCALES,
            "five scales, e.g. (32, 64, 128, 256, 512)",
        )
        counts = set(map(len, self.anchor_scales()))
        yield _Relation(
            len(counts) == 1,
            "RPN_ANCHOR_SCALES must hold as many sides for each level, because the levels share "
            "their weights",
            self.RPN_ANCHOR_SCALES,
            "one side for each level, e.g. (32, 64, 128, 256, 512)",
        )
        can_gather = self.ROI_ALIGN in ("aligned", "unaligned") and self.ROI_ALIGN_SAMPLES > 0
        yield _Relation(
            can_gather or not self.ROI_ALIGN_GATHER,
            'ROI_ALIGN_GATHER needs ROI_ALIGN = "aligned" or "unaligned" and a fixed number of '
            "ROI_ALIGN_SAMPLES",
            (self.ROI_ALIGN, self.ROI_ALIGN_SAMPLES),
            "ROI_ALIGN_SAMPLES = 2, or ROI_ALIGN_GATHER = False",
        )
        setting = "POOL_SIZE" if self.BOX_HEAD == "res5" else "MASK_POOL_SIZE"
        pool_size = getattr(self, setting)
        yield _Relation(
            self.mask_doublings() is not None,
            f"MASK_SHAPE must be {setting} ({pool_size}) times 2, 4 or 8 on both sides",
            self.MASK_SHAPE,
            f"[{2 * pool_size}, {2 * pool_size}]",
        )
        yield from self._keypoint_relations()
        yield from self._cascade_relations()
        yield _Relation(
            self.USE_RPN_ROIS or not self.RPN_ONLY,
            "RPN_ONLY trains the region proposal network, so USE_RPN_ROIS must be True",
            self.USE_RPN_ROIS,
            "one of the two",
        )
        yield _Relation(
            len(self.TTA) == 0 or not self.RPN_ONLY,
            "TTA merges boxes with their classes, so RPN_ONLY must be False",
            self.TTA,
            "TTA = ()",
        )

    def _dense_relations(self) -> Iterator[_Relation]:
        """Yield the conditions on networks without an RPN, whose levels are P3 to P7."""
        preset = f"Config.{self.NETWORK}()"
        yield _Relation(
            list(self.BACKBONE_STRIDES) == [8, 16, 32, 64, 128],
            f"BACKBONE_STRIDES must be those of P3 to P7, which NETWORK = {self.NETWORK!r} reads",
            self.BACKBONE_STRIDES,
            f"{preset}, which sets them",
        )
        yield _Relation(
            len(self.RPN_ANCHOR_SCALES) == 5,
            "RPN_ANCHOR_SCALES must have an item for each of P3 to P7",
            self.RPN_ANCHOR_SCALES,
            f"five items, as in {preset}",
        )
        yield _Relation(
            bool(self.CONTINUOUS_BOXES),
            f"CONTINUOUS_BOXES must be True with NETWORK = {self.NETWORK!r}",
            self.CONTINUOUS_BOXES,
            f"{preset}, which sets it",
        )
        yield _Relation(
            not self.RPN_ONLY and self.RPN_ANCHOR_STRIDE == 1 and bool(self.USE_RPN_ROIS),
            f"NETWORK = {self.NETWORK!r} has no RPN: RPN_ONLY must be False, RPN_ANCHOR_STRIDE 1 "
            "and USE_RPN_ROIS True",
            (self.RPN_ONLY, self.RPN_ANCHOR_STRIDE, self.USE_RPN_ROIS),
            "to leave them as they are",
        )

    def _location_relations(self) -> Iterator[_Relation]:
        """Yield the conditions on FCOS, whose locations are the centers of square anchors."""
        sides = [level[0] for level in self.anchor_scales()]
        yield _Relation(
            sides == sorted(set(sides)) and list(self.RPN_ANCHOR_RATIOS) == [1],
            f"NETWORK = {self.NETWORK!r} needs one square anchor in a cell, larger on each level: "
            "RPN_ANCHOR_SCALES must grow, and RPN_ANCHOR_RATIOS must be [1]",
            (self.RPN_ANCHOR_SCALES, self.RPN_ANCHOR_RATIOS),
            f"Config.{self.NETWORK}(), which sets them",
        )
        yield _Relation(
            all(len(level) == 1 for level in self.anchor_scales()),
            f"RPN_ANCHOR_SCALES must have one side for each level with NETWORK = {self.NETWORK!r}",
            self.RPN_ANCHOR_SCALES,
            "(8, 16, 32, 64, 128)",
        )

    def _keypoint_relations(self) -> Iterator[_Relation]:
        count, names = self.NUM_KEYPOINTS, self.KEYPOINT_NAMES
        yield _Relation(
            not count or names is None or len(names) == len(set(names)) == count,
            f"KEYPOINT_NAMES must hold NUM_KEYPOINTS ({count}) different names",
            names,
            "None, for keypoints without names",
        )
        sigmas = self.KEYPOINT_SIGMAS
        yield _Relation(
            not count or sigmas is None or len(sigmas) == count,
            f"KEYPOINT_SIGMAS must hold NUM_KEYPOINTS ({count}) numbers",
            sigmas,
            "None, for COCO's or 0.05",
        )
        for setting in ("KEYPOINT_PAIRS", "KEYPOINT_SKELETON"):
            pairs = getattr(self, setting)
            largest = max((max(pair) for pair in pairs or ()), default=0)
            yield _Relation(
                not count or largest < count,
                f"{setting} must hold numbers of keypoints, from 0 to {count - 1}",
                pairs,
                f"the default, {getattr(Config, setting)}",
            )

    def _cascade_relations(self) -> Iterator[_Relation]:
        first = self.CASCADE_IOUS[0] if len(self.CASCADE_IOUS) else None
        has_own_heads = self.has_rpn() and not self.RPN_ONLY and self.BOX_HEAD != "res5"
        yield _Relation(
            first is None or has_own_heads,
            'CASCADE_IOUS must be () unless NETWORK is "mask_rcnn", RPN_ONLY is False and BOX_HEAD '
            'is "2fc" or "4conv1fc": each stage has a class and box head of its own',
            (self.NETWORK, bool(self.RPN_ONLY), self.BOX_HEAD),
            "CASCADE_IOUS = ()",
        )
        yield _Relation(
            first is None or first == self.ROI_POSITIVE_IOU,
            f"CASCADE_IOUS must begin with ROI_POSITIVE_IOU ({self.ROI_POSITIVE_IOU}), the IoU of "
            "the first stage",
            self.CASCADE_IOUS,
            f"ROI_POSITIVE_IOU = {first}",
        )

    def _warn_of_levels_without_anchors(self) -> None:
        """Warn once per config that has fewer anchor scales than pyramid levels."""
        scales, levels = len(self.RPN_ANCHOR_SCALES), len(self.BACKBONE_STRIDES)
        if scales < levels and not self.__dict__.get("_has_warned_of_levels"):
            self.__dict__["_has_warned_of_levels"] = True
            log.warning(
                "Config: RPN_ANCHOR_SCALES has %d scales for %d pyramid levels: the RPN uses the "
                "first %d levels only.",
                scales,
                levels,
                scales,
            )

    def check_steps(self) -> None:
        """Check STEPS_PER_EPOCH and VALIDATION_STEPS, and round fractions of a step up."""
        self._check("STEPS_PER_EPOCH", "VALIDATION_STEPS")

    def has_pyramid(self) -> bool:
        """Whether the network reads a feature pyramid; otherwise it reads one map (C4)."""
        return len(self.BACKBONE_STRIDES) > 1

    def finest_level(self) -> int:
        """Number of the finest level of the pyramid: 2 for P2, or 1 for P1; 3 without an RPN."""
        if not self.has_rpn():
            return 3
        has_p1 = self.BACKBONE_STRIDES[0] == 2 and not callable(self.BACKBONE)
        return 1 if has_p1 else 2

    def has_anchors(self) -> bool:
        """Whether the network learns boxes from anchors that overlap them; FCOS does not."""
        return self.NETWORK != "fcos"

    def anchor_scales(self) -> list[Sequence[float]]:
        """Sides of the anchors of each level that has anchors, in pixels."""
        levels: Any = self.RPN_ANCHOR_SCALES
        if not self.has_pyramid():
            return [levels]
        return [tuple(level) if _is_list(level) else (level,) for level in levels]

    def has_rpn(self) -> bool:
        """Whether the network has a region proposal network, and heads for its proposals."""
        return self.NETWORK == "mask_rcnn"

    def cascade_stages(self) -> range:
        """Numbers of the stages after the first: 2 and 3 for three CASCADE_IOUS; none if off."""
        return range(2, len(self.CASCADE_IOUS) + 1)

    def has_mask_head(self) -> bool:
        """Whether the network has a mask head."""
        return bool(self.USE_MASK and self.has_rpn() and not self.RPN_ONLY)

    def has_keypoint_head(self) -> bool:
        """Whether the network has a keypoint head."""
        return bool(self.NUM_KEYPOINTS and self.has_rpn() and not self.RPN_ONLY)

    def loss_names(self) -> tuple[str, ...]:
        """Names of the network's losses, of `LOSS_NAMES` and `KEYPOINT_LOSS`."""
        if not self.has_anchors():
            return ("class_loss", "bbox_loss", "centerness_loss")
        if not self.has_rpn():
            return ("class_loss", "bbox_loss")
        names = ["rpn_class_loss", "rpn_bbox_loss"]
        if not self.RPN_ONLY:
            names += ["mrcnn_class_loss", "mrcnn_bbox_loss"]
        if self.has_mask_head():
            names.append("mrcnn_mask_loss")
        if self.has_keypoint_head():
            names.append(KEYPOINT_LOSS)
        return tuple(names)

    def mask_doublings(self) -> int | None:
        """Number of doublings from the mask head's features to MASK_SHAPE, 1, 2 or 3, or None."""
        pool_size = self.POOL_SIZE if self.BOX_HEAD == "res5" else self.MASK_POOL_SIZE
        for doublings in (1, 2, 3):
            side = pool_size * 2**doublings
            if list(self.MASK_SHAPE) == [side, side]:
                return doublings
        return None


def as_config(config: Any) -> Config:
    """Return a `Config` with the settings of any object; a `Config` is returned unchanged.

    config: an object, or a class that takes no arguments. matterport's code only reads attributes,
        so that scripts have classes of their own. Their upper-case names are copied.

    Raises:
        ValueError: the object has no settings.
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
    own = Config()
    _set_all(own, {name: getattr(config, name) for name in names})
    own.check_names()
    return own


def _set_all(config: Config, values: dict[str, Any]) -> None:
    """Set attributes; derived values only if they differ from what follows from the others.

    Raises:
        ValueError: a value from which others are derived has the wrong type.
    """
    for name, value in values.items():
        declared = getattr(type(config), name, None)
        is_read_only = isinstance(declared, property) and declared.fset is None
        if name in _DERIVED or is_read_only:
            continue
        if name in _ARRAYS and _RULES[name].holds(value):
            value = np.array(value)
        setattr(config, name, value)
    for name in ("BATCH_SIZE", "IMAGE_SHAPE"):  # IMAGE_META_SIZE always follows from NUM_CLASSES
        if name in values:
            config._check(*_DERIVED[name])
            if _plain(getattr(config, name)) != _plain(values[name]):
                setattr(config, name, values[name])


def whole_steps(value: float) -> int:
    """Round a number of steps up, as Keras 2 did; scripts divide images by the batch size."""
    return math.ceil(value)


class _Relation(NamedTuple):
    """A condition on several settings."""

    holds: bool
    text: str  # the condition in words
    received: Any
    remedy: str  # follows "Try"


def _unchanged(value: Any) -> Any:
    return value


class _Rule(NamedTuple):
    """The condition on one setting."""

    text: str  # follows "NAME must be"
    holds: Callable[[Any], bool]
    convert: Callable[[Any], Any] = _unchanged  # of a valid value, to the type that the code uses
    remedy: str = ""  # follows "Try"; the default is the setting's default


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


class _Length(NamedTuple):
    """Allowed lengths of a list."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"


def _list(
    what: str,
    item_holds: Callable[[Any], bool],
    length: _Length,
    convert: Callable[[Any], Any] = _unchanged,
    remedy: str = "",
) -> _Rule:
    def holds(value: Any) -> bool:
        if not _is_list(value) or not length.least <= len(value) <= length.most:
            return False
        return all(map(item_holds, value))

    return _Rule(f"a list of {length} {what}", holds, convert, remedy)


def _whole_list(what: str, high: int, length: _Length, remedy: str = "") -> _Rule:
    return _list(what, lambda side: _is_whole(side, 1, high), length, _as_whole_list, remedy)


def _choice(*names: str) -> _Rule:
    text = f"one of {', '.join(names)}"
    return _Rule(text, lambda value: isinstance(value, str) and value in names)


def _or_none(rule: _Rule, text: str = "") -> _Rule:
    return rule._replace(
        text=text or f"{rule.text}, or None",
        holds=lambda value: value is None or rule.holds(value),
        convert=lambda value: None if value is None else rule.convert(value),
    )


def _is_number(value: Any, low: float, high: float | None = None) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    number: Any = value  # a Real, which type checkers do not compare with a float
    limit = 1e15 if high is None else high
    return bool(low <= number <= limit)  # infinity and NaN are outside


def _is_whole(value: Any, low: int, high: int | None = None) -> bool:
    return _is_number(value, low, high) and value % 1 == 0


def _is_positive(value: Any) -> bool:
    return _is_number(value, 0.001)


def _is_scale(value: Any) -> bool:
    scales = value if _is_list(value) else [value]
    return len(scales) > 0 and all(map(_is_positive, scales))


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, list | tuple | range)


def _as_whole_list(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "iu" else value.astype(int)
    return value if all(isinstance(side, int) for side in value) else [int(side) for side in value]


def _range_text(low: float, high: float | None = None) -> str:
    return f"at least {low}" if high is None else f"from {low} to {high}"


def _is_backbone(value: Any) -> bool:
    return callable(value) or (isinstance(value, str) and value in BACKBONES)


def _is_optimizer(value: Any) -> bool:
    # A file may name a function, module:name. It stays a text: the network cannot be trained then.
    if isinstance(value, str):
        return value.lower() in OPTIMIZERS or ":" in value
    return callable(value)


def _is_backbone_shape(value: Any) -> bool:
    return value is None or callable(value) or (isinstance(value, str) and ":" in value)


def _is_name(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, str | int) and re.search(r"[/\\\0]", str(value)) is None


def _is_schedule(value: Any) -> bool:
    return isinstance(value, str) and value in LEARNING_RATE_SCHEDULES


def _is_mean(value: Any) -> bool:
    means = value if _is_list(value) else [value]
    return all(_is_number(mean, -1e6, 1e6) for mean in means)


def _is_deviation(value: Any) -> bool:
    deviations = value if _is_list(value) else [value]
    return all(map(_is_positive, deviations))


def _are_loss_weights(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= {*LOSS_NAMES, KEYPOINT_LOSS}:
        return False
    return all(_is_number(weight, 0) for weight in value.values())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return _is_list(value) and len(value) == 2 and all(_is_whole(end, 0) for end in value)


def _is_view(value: Any) -> bool:
    return _is_number(value, 0.1, 10) or (isinstance(value, str) and value == TTA_FLIP)


def _is_count_or_auto(value: Any) -> bool:
    return value == "auto" if isinstance(value, str) else _is_whole(value, 1)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or _is_whole(value, 0, 1)


_STRIDES = (2, 4, 8, 16, 32)  # of the backbone's maps C1 to C5
_SIDE = 16_384  # largest number of pixels of a side, or of channels
_FLAG = _Rule("True or False", _is_flag, bool)
_SHARE = _number(0, 1)
_AT_LEAST_0 = _number(0)
_COUNT = _whole(1)
_COUNT_OR_0 = _whole(0)
_COUNT_OR_AUTO = _Rule('"auto" or a whole number of at least 1', _is_count_or_auto)
_BOXES = _whole(1, 1_000_000)  # a file that claims more of them is damaged
_CHANNELS = _whole(1, _SIDE)
_CELLS = _whole(1, 1000)
_PAIRS = _list("pairs of whole numbers", _is_pair, _Length(0, 10_000), remedy="[[0, 1]]")
_DEVIATIONS = _list("numbers above 0, of y, x, log h, log w", _is_positive, _Length(4, 4))
_ANCHORS = _list("numbers above 0", _is_positive, _Length(1, 100))
_SCALES = _list("numbers above 0, or lists of them", _is_scale, _Length(1, 100))

# Setting -> its rule. A derived setting comes after those that it follows from.
_RULES = {
    "NAME": _Rule(
        "a text with no / or \\ in it: it names files and folders",
        _is_name,
        remedy="letters, digits, - and _",
    ),
    "NUM_CLASSES": _whole(1, 100_000, remedy="1 + the number of your classes"),
    # Backbone
    "BACKBONE": _Rule(
        f"one of {', '.join(BACKBONES)} or a callable", _is_backbone, remedy="one of these names"
    ),
    "COMPUTE_BACKBONE_SHAPE": _Rule("None or a function", _is_backbone_shape),
    "BACKBONE_STRIDES": _whole_list("whole numbers, of each level", _SIDE, _Length(1, 6)),
    "BACKBONE_NORM": _choice(*NORMS),
    "NORM_EPSILON": _SHARE,
    "STRIDE_IN_1X1": _FLAG,
    "SYMMETRIC_PADDING": _FLAG,
    "BIAS_BEFORE_NORM": _FLAG,
    # Batches and epochs
    "GPU_COUNT": _COUNT,
    "IMAGES_PER_GPU": _COUNT,
    "BATCH_SIZE": _whole(1, remedy="setting IMAGES_PER_GPU, which it follows"),
    "STEPS_PER_EPOCH": _steps(1),
    "VALIDATION_STEPS": _steps(0),
    # The training loop
    "SEED": _or_none(
        _whole(0, 2**32 - 1, remedy="0"), "None or a whole number from 0 to 4294967295"
    ),
    "REPEAT_THRESHOLD": _SHARE,
    "MAX_IMAGE_ERRORS": _COUNT_OR_0,
    "VALIDATION_AP_IMAGES": _or_none(_COUNT_OR_AUTO),
    "EARLY_STOPPING_PATIENCE": _or_none(_whole(1, remedy="10"), "at least 1, or None"),
    "RUN_REPORT": _FLAG,
    "VALIDATION_PICTURES": _COUNT_OR_0,
    "KEEP_LAST_N": _or_none(_whole(1, remedy="3"), "at least 1, or None to keep every checkpoint"),
    # From an image to the network's input
    "IMAGE_RESIZE_MODE": _choice(*RESIZE_MODES),
    "IMAGE_MIN_DIM": _or_none(_whole(0, _SIDE)),
    "IMAGE_MAX_DIM": _whole(1, _SIDE),
    "IMAGE_MIN_SCALE": _or_none(_number(0, 16)),
    "IMAGE_CHANNEL_COUNT": _CELLS,
    "IMAGE_SHAPE": _whole_list(
        "whole numbers, [height, width, channels]",
        _SIDE,
        _Length(3, 3),
        remedy="setting IMAGE_MAX_DIM, which it follows",
    ),
    "IMAGE_META_SIZE": _whole(1, remedy="leaving it out: it follows NUM_CLASSES"),
    "MEAN_PIXEL": _Rule("a number, or a list of one per channel", _is_mean),
    "STD_PIXEL": _Rule("a number above 0, or a list of one per channel", _is_deviation),
    "EXACT_RESIZE": _FLAG,
    # Feature pyramid and heads
    "TOP_DOWN_PYRAMID_SIZE": _CHANNELS,
    "FPN_NORM": _choice(*NORMS),
    "BOX_HEAD_NORM": _choice(*NORMS),
    "MASK_HEAD_NORM": _choice(*NORMS),
    "RPN_CONV_LAYERS": _whole(1, 10),
    "RPN_OBJECTNESS": _choice(*OBJECTNESS),
    "BOX_HEAD": _choice(*BOX_HEADS),
    "CASCADE_IOUS": _list("IoUs from 0 to 1, one a stage", _SHARE.holds, _Length(0, 4)),
    "INITIAL_WEIGHTS": _choice(*INITIAL_WEIGHTS),
    "RPN_CHANNELS": _CHANNELS,
    "MASK_CHANNELS": _CHANNELS,
    "TOWER_CONV_LAYERS": _whole(1, 10),
    "TOWER_NORM": _choice(*NORMS),
    "P6_INPUT": _choice(*P6_INPUTS),
    "FPN_CLASSIF_FC_LAYERS_SIZE": _CHANNELS,
    "USE_MASK": _FLAG,
    "RPN_ONLY": _FLAG,
    "CLASS_AGNOSTIC_BOX": _FLAG,
    "CLASS_AGNOSTIC_MASK": _FLAG,
    "NUM_KEYPOINTS": _whole(0, 1000),
    "KEYPOINT_NAMES": _or_none(_list("names", _is_text, _Length(0, 1000))),
    "KEYPOINT_PAIRS": _or_none(_PAIRS),
    "KEYPOINT_SKELETON": _PAIRS,
    "KEYPOINT_SIGMAS": _or_none(_list("numbers above 0", _is_positive, _Length(0, 1000))),
    "KEYPOINT_POOL_SIZE": _CELLS,
    "KEYPOINT_CONV_LAYERS": _whole(1, 100),
    "KEYPOINT_CHANNELS": _CHANNELS,
    "NETWORK": _choice(*NETWORKS),
    "PRECISION": _choice(*PRECISIONS),
    "POOL_SIZE": _CELLS,
    "MASK_POOL_SIZE": _CELLS,
    "MASK_SHAPE": _whole_list("whole numbers, [height, width]", 8000, _Length(2, 2)),
    "FPN_CANONICAL_SIZE": _Rule("a number above 0", _is_positive),
    "FPN_LEVEL_RULE": _choice(*LEVEL_RULES),
    "ROI_ALIGN": _choice(*ROI_ALIGNS),
    "ROI_ALIGN_SAMPLES": _whole(0, 16),
    "ROI_ALIGN_GATHER": _FLAG,
    "CONTINUOUS_BOXES": _FLAG,
    "MAX_LOG_SCALE": _or_none(_number(0, 80)),
    # Anchors and region proposal network
    "RPN_ANCHOR_SCALES": _SCALES,
    "RPN_ANCHOR_RATIOS": _ANCHORS,
    "RPN_ANCHOR_STRIDE": _CELLS,
    "ROUND_ANCHORS": _FLAG,
    "RPN_NMS_THRESHOLD": _SHARE,
    "RPN_TRAIN_ANCHORS_PER_IMAGE": _BOXES,
    "RPN_POSITIVE_IOU": _SHARE,
    "RPN_NEGATIVE_IOU": _SHARE,
    "RPN_BBOX_STD_DEV": _DEVIATIONS,
    "PRE_NMS_LIMIT": _BOXES,
    "PRE_NMS_LIMIT_INFERENCE": _or_none(_BOXES),
    "PROPOSAL_SELECTION": _choice(*PROPOSAL_SELECTIONS),
    "POST_NMS_ROIS_TRAINING": _BOXES,
    "POST_NMS_ROIS_INFERENCE": _BOXES,
    # Ground truth and RoIs that train the heads
    "USE_MINI_MASK": _FLAG,
    "MINI_MASK_SHAPE": _whole_list(
        "whole numbers of at least 1, (height, width)", _SIDE, _Length(2, 2)
    ),
    "MAX_GT_INSTANCES": _BOXES,
    "TRAIN_ROIS_PER_IMAGE": _BOXES,
    "ROI_POSITIVE_RATIO": _SHARE,
    "ROI_SAMPLING": _choice(*ROI_SAMPLINGS),
    "ROI_POSITIVE_IOU": _SHARE,
    "ROIS_INCLUDE_GT": _FLAG,
    "USE_RPN_ROIS": _FLAG,
    "BBOX_STD_DEV": _DEVIATIONS,
    # Detections
    "DETECTION_MAX_INSTANCES": _BOXES,
    "DETECTION_MIN_CONFIDENCE": _SHARE,
    "DETECTION_NMS_THRESHOLD": _SHARE,
    "CLASS_AGNOSTIC_NMS": _FLAG,
    "DETECTION_NMS": _choice(*SUPPRESSIONS),
    "SOFT_NMS_SIGMA": _Rule("a number above 0", _is_positive),
    "BOX_VOTING_IOU": _or_none(_SHARE),
    "TTA": _list(f"views, each '{TTA_FLIP}' or a factor from 0.1 to 10", _is_view, _Length(0, 16)),
    "DETECTION_ALL_CLASSES": _FLAG,
    "MASK_PASTE": _choice(*MASK_PASTES),
    "MASK_THRESHOLD": _SHARE,
    # Optimizer and losses
    "OPTIMIZER": _Rule(
        "'sgd', 'adam', 'adamw' or a function (learning rate) -> Keras optimizer", _is_optimizer
    ),
    "LEARNING_RATE": _AT_LEAST_0,
    "LEARNING_MOMENTUM": _SHARE,
    "LEARNING_RATE_SCHEDULE": _Rule("'constant', 'step' or 'cosine'", _is_schedule),
    "LEARNING_RATE_DROPS": _list("numbers from 0 to 1", _SHARE.holds, _Length(0, 100)),
    "WARMUP_STEPS": _COUNT_OR_0,
    "GRADIENT_ACCUMULATION_STEPS": _COUNT,
    "WEIGHT_DECAY": _AT_LEAST_0,
    "ADAMW_WEIGHT_DECAY": _AT_LEAST_0,
    "WEIGHT_DECAY_RULE": _choice(*WEIGHT_DECAY_RULES),
    "WEIGHT_DECAY_BIASES": _FLAG,
    "WEIGHT_DECAY_NORMS": _FLAG,
    "BIAS_LEARNING_RATE_FACTOR": _AT_LEAST_0,
    "RPN_SMOOTH_L1_BETA": _AT_LEAST_0,
    "BOX_SMOOTH_L1_BETA": _AT_LEAST_0,
    "LOSS_DENOMINATOR": _choice(*LOSS_DENOMINATORS),
    "MASK_TARGETS": _choice(*MASK_TARGETS),
    "GRADIENT_CLIP_NORM": _or_none(_AT_LEAST_0),
    "EMA_DECAY": _number(0, 0.999999),
    "TRAIN_BN": _or_none(_FLAG),
    "LOSS_WEIGHTS": _Rule(
        f"a dict that may name {', '.join((*LOSS_NAMES, KEYPOINT_LOSS))}, each with a number of "
        "at least 0",
        _are_loss_weights,
        remedy="those names",
    ),
    "CLASS_WEIGHTS": _or_none(
        _list("numbers of at least 0, one per class", _AT_LEAST_0.holds, _Length(1, 100_000))
    ),
    "FOCAL_GAMMA": _AT_LEAST_0,
    "FOCAL_ALPHA": _SHARE,
    "BOX_LOSS": _choice(*BOX_LOSSES),
}
# Derived setting -> the settings that it follows from, unless it is set.
_DERIVED = {
    "BATCH_SIZE": ("IMAGES_PER_GPU", "GPU_COUNT"),
    "IMAGE_SHAPE": ("IMAGE_RESIZE_MODE", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_CHANNEL_COUNT"),
    "IMAGE_META_SIZE": ("NUM_CLASSES",),
}
_ARRAYS = ("MEAN_PIXEL", "STD_PIXEL", "RPN_BBOX_STD_DEV", "BBOX_STD_DEV")


def _names(config: Any) -> list[str]:
    return [name for name in dir(config) if name.isupper() and not name.startswith("_")]


def _short(value: Any, length: int = 200) -> str:
    return repr(value)[:length]


def _plain(value: Any) -> Any:
    """A value in the form that JSON can hold."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if callable(value):
        # A functools.partial has no name; its class has one.
        named: Any = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}:{named.__qualname__}"
    return value


def _is_setting(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch("[A-Z][A-Z0-9_]*", name) is not None


def _is_data(value: Any, depth: int = 8) -> bool:
    """Whether a value is an array, or JSON can hold it, with at most `depth` levels of nesting."""
    if isinstance(value, list | tuple | dict):
        items = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_data(item, depth - 1) for item in items)
    return value is None or isinstance(value, str | int | float | np.ndarray | np.generic)


# Setting -> names in mrcnn.app.demo, of the only functions that a text in a file can become. Files
# of earlier versions name the module mrcnn.demo.
_FUNCTIONS = {
    "BACKBONE": ("backbone", "narrow_backbone"),
    "COMPUTE_BACKBONE_SHAPE": ("DemoConfig.COMPUTE_BACKBONE_SHAPE",),
}
_DEMO_MODULES = ("mrcnn.app.demo", "mrcnn.demo")


def without_functions(settings: Any) -> Any:
    """Return settings read from a file but for those that name a function, such as a backbone.

    To check them, or to use a network that is built, without the module of the function.
    """
    if not isinstance(settings, dict):
        return settings
    named = [name for name in _FUNCTIONS if ":" in str(settings.get(name))]
    return {name: value for name, value in settings.items() if name not in named}


def _as_read(config: Config, name: str, value: Any) -> Any:
    """The function that a value read from a file names, if it is a known one; else the value."""
    if not isinstance(value, str):
        return value
    own = getattr(config, name, None)
    if callable(own) and _plain(own) == value:
        return own
    module, _, function = value.partition(":")
    if module in _DEMO_MODULES and function in _FUNCTIONS.get(name, ()):
        return operator.attrgetter(function)(importlib.import_module("mrcnn.app.demo"))
    return value

"""The network, top to bottom, as the paper's figure draws it, and the thin `MaskRCNN` facade.

    image -> ResNet C2..C5 -> FPN P2..P6 -> RPN -> proposals
        training:  proposals -> RoIs and targets -> class, box and mask heads -> losses (losses.py)
        inference: proposals -> class and box head -> detections -> mask head

Shape shorthand: B images, A anchors, N proposals or RoIs, T RoIs that train, D detections, C channels.
Words: anchors -> proposals (after NMS) -> rois (what a head sees) -> detections. `*_deltas` are encoded boxes,
`gt_*` is the truth, `target_*` what a head should say, `*_logits` and `*_probs` before and after the softmax.
Boxes are `(y1, x1, y2, x2)`, normalised inside the network, pixels at its border.

Papers: Mask R-CNN (He 2017), FPN (Lin 2017), Faster R-CNN (Ren 2015), ResNet (He 2015).
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as KL
from keras import ops

from .config import Config, as_config
from .data.dataset import Dataset
from .data.generator import DataGenerator, data_generator, load_image_gt
from .data.image import (
    mold_image,
    unmold_image,
)
from .data.roi_targets import build_detection_targets, generate_random_rois
from .data.rpn_targets import build_rpn_targets
from .inference.detection_methods import DetectionMethods
from .inference.detector import log
from .nn import boxes as box_math
from .nn import targets
from .nn.anchors import compute_backbone_shapes
from .nn.backbones import (  # noqa: F401  matterport's names
    backbone_graph,
    conv_block,
    identity_block,
    keep_float32,
    mobilenet_v2_graph,
    resnet_graph,
)
from .nn.image_meta import META_COLUMNS, compose_image_meta, parse_image_meta
from .nn.layers import (
    FLOAT32,
    Anchors,
    BatchNorm,
    Conv2D,
    Doubled,
    NormalizeBoxes,
    PerAnchor,
    PyramidAnchors,
    RoIConv2D,
    RoIConv2DTranspose,
    RoIDense,
    SameConv2D,
)
from .nn.matterport_names import (  # noqa: F401
    apply_box_deltas_graph,
    batch_pack_graph,
    clip_boxes_graph,
    denorm_boxes_graph,
    mrcnn_bbox_loss_graph,
    mrcnn_class_loss_graph,
    mrcnn_mask_loss_graph,
    norm_boxes_graph,
    overlaps_graph,
    parse_image_meta_graph,
    rpn_bbox_loss_graph,
    rpn_class_loss_graph,
    smooth_l1_loss,
    trim_zeros_graph,
)
from .nn.nms import (
    agnostic_non_max_suppression,
    class_non_max_suppression,
    non_max_suppression,
)
from .nn.roi_align import PyramidROIAlign, log2_graph  # noqa: F401
from .training.distributed import training_strategy
from .training.loop import Stage, TrainingData, train
from .training.network import Network, TrainingNetwork
from .training.optimizer import compile_network
from .training.run import TrainingRun
from .training.trainable import leaves, set_trainable
from .training.validation import MeanAveragePrecisionCallback
from .weights import weight_files as weights

__all__ = [
    "BatchNorm",
    "DataGenerator",
    "DetectionLayer",
    "DetectionTargetLayer",
    "MaskRCNN",
    "MeanAveragePrecisionCallback",
    "ProposalLayer",
    "PyramidROIAlign",
    "build_detection_targets",
    "build_rpn_targets",
    "compose_image_meta",
    "compute_backbone_shapes",
    "data_generator",
    "generate_random_rois",
    "load_image_gt",
    "log",
    "mold_image",
    "parse_image_meta",
    "unmold_image",
]

logger = logging.getLogger("mrcnn")


# Names that matterport's module imported, and that scripts take from it.
_MATTERPORTS_IMPORTS = {
    "K": "keras.backend",
    "KE": "keras.layers",  # keras.engine, of which scripts take Layer
    "KM": "keras.models",
    "datetime": "datetime",
    "math": "math",
    "multiprocessing": "multiprocessing",
    "random": "random",
    "re": "re",
    "utils": "mrcnn.utils",
}


def __getattr__(name):
    if name in _MATTERPORTS_IMPORTS:
        return importlib.import_module(_MATTERPORTS_IMPORTS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# --- Backbone: ResNet -------------------------------------------------------------------------------------------


# --- Feature pyramid --------------------------------------------------------------------------------------------


def fpn_graph(feature_maps, channels):
    """`[P2, P3, P4, P5, P6]` of equal depth from `[C2, C3, C4, C5]` (FPN, 3): top-down with lateral 1x1."""
    merged = {}
    for level, feature_map in zip((5, 4, 3, 2), reversed(feature_maps), strict=True):
        lateral = Conv2D(channels, (1, 1), name=f"fpn_c{level}p{level}")(feature_map)
        if level < 5:
            above = Doubled(name=f"fpn_p{level + 1}upsampled")(merged[level + 1])
            lateral = KL.Add(name=f"fpn_p{level}add")([above, lateral])
        merged[level] = lateral
    pyramid = [
        SameConv2D(channels, (3, 3), padding="same", name=f"fpn_p{level}")(merged[level])
        for level in (2, 3, 4, 5)
    ]
    # P6 serves the RPN's largest anchors only
    return [*pyramid, KL.MaxPooling2D(pool_size=(1, 1), strides=2, name="fpn_p6")(pyramid[-1])]


# --- Region proposal network ------------------------------------------------------------------------------------


def rpn_graph(feature_map, anchors_per_location, anchor_stride, channels=512):
    """Objectness and deltas of every anchor of one level (Faster R-CNN, 3.1).

    feature_map: `[B, H, W, C]`.

    Returns: rpn_class_logits `[B, A, (background, object)]`, rpn_probs alike, rpn_bbox `[B, A, 4]` deltas.
    """
    convolution = SameConv2D(
        channels,
        (3, 3),
        padding="same",
        activation="relu",
        strides=anchor_stride,
        name="rpn_conv_shared",
    )
    shared = convolution(feature_map)
    x = Conv2D(2 * anchors_per_location, (1, 1), name="rpn_class_raw")(shared)
    rpn_class_logits = PerAnchor((-1, 2), **FLOAT32)(x)  # [B, H * W * anchors_per_location, 2]
    rpn_probs = KL.Activation("softmax", name="rpn_class_xxx", **FLOAT32)(rpn_class_logits)
    x = Conv2D(4 * anchors_per_location, (1, 1), name="rpn_bbox_pred")(shared)
    rpn_bbox = PerAnchor((-1, 4), **FLOAT32)(x)
    return [rpn_class_logits, rpn_probs, rpn_bbox]


def build_rpn_model(anchor_stride, anchors_per_location, depth, channels=512):
    """The RPN as a model of its own, so that all levels share its weights.

    depth: channels of the feature maps it will see.
    """
    feature_map = keras.Input([None, None, depth], name="input_rpn_feature_map")
    outputs = rpn_graph(feature_map, anchors_per_location, anchor_stride, channels)
    return keras.Model(feature_map, outputs, name="rpn_model")


@keras.saving.register_keras_serializable("mrcnn")
class ProposalLayer(KL.Layer):
    """`[B, N, (y1, x1, y2, x2)]` normalised proposals: the best anchors, refined, clipped, non-max suppressed.

    Inputs: rpn_probs `[B, A, (background, object)]`, rpn_bbox `[B, A, 4]` deltas, anchors `[B, A, 4]` normalised.
    proposal_count: N; the rest of each row is zeros. Proposals are constants to what follows: no gradient passes.
    """

    def __init__(self, proposal_count, nms_threshold, config=None, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.proposal_count = proposal_count
        self.nms_threshold = nms_threshold

    def call(self, inputs):
        return self.steps(inputs)["proposals"]

    def steps(self, inputs):
        """Every intermediate by name, as `MaskRCNN.ancestor` offers them."""
        rpn_probs, rpn_bbox, anchors = (ops.stop_gradient(x) for x in inputs)
        limit = ops.minimum(self.config.PRE_NMS_LIMIT, ops.shape(anchors)[1])
        scores, top = tf.math.top_k(rpn_probs[:, :, 1], k=limit)
        deltas = tf.gather(rpn_bbox, top, batch_dims=1) * np.float32(self.config.RPN_BBOX_STD_DEV)
        pre_nms_anchors = tf.gather(anchors, top, batch_dims=1)  # [B, limit, 4]
        refined = box_math.decode(pre_nms_anchors, deltas)
        clipped = box_math.clip(refined, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
        keep, valid = non_max_suppression(clipped, scores, self.proposal_count, self.nms_threshold)
        is_valid = ops.cast(ops.arange(self.proposal_count)[None] < valid[:, None], "float32")
        proposals = tf.gather(clipped, keep, batch_dims=1) * is_valid[..., None]
        return {
            "pre_nms_anchors": pre_nms_anchors,
            "refined_anchors": refined,
            "refined_anchors_clipped": clipped,
            "rpn_non_max_suppression": keep[
                0, : valid[0]
            ],  # `[K]`: of the first image, as the original's node
            "proposals": proposals,
            "proposal_scores": tf.gather(scores, keep, batch_dims=1) * is_valid,
        }

    def compute_output_shape(self, input_shape):
        return (None, self.proposal_count, 4)


@keras.saving.register_keras_serializable("mrcnn")
class ScoredProposals(ProposalLayer):
    """`[B, N, (y1, x1, y2, x2, objectness)]` proposals, best first: the results of a network of the RPN alone."""

    def call(self, inputs):
        steps = self.steps(inputs)
        return ops.concatenate([steps["proposals"], steps["proposal_scores"][..., None]], axis=-1)

    def compute_output_shape(self, input_shape):
        return (None, self.proposal_count, 5)


# The steps that `ProposalSteps` returns, by matterport's names of their tensors.
PROPOSAL_STEPS = (
    "pre_nms_anchors",
    "refined_anchors",
    "refined_anchors_clipped",
    "rpn_non_max_suppression",
)


class ProposalSteps(KL.Layer):
    """One named intermediate of a ProposalLayer, on the same inputs; made only when somebody asks for it."""

    def __init__(self, proposal_layer, step, **kwargs):
        super().__init__(**kwargs)
        self.proposal_layer, self.step = proposal_layer, step

    def call(self, inputs):
        return self.proposal_layer.steps(inputs)[self.step]

    def compute_output_spec(self, inputs):
        if self.step == "rpn_non_max_suppression":
            return keras.KerasTensor((None,), "int32")
        return keras.KerasTensor((None, None, 4), "float32")


# --- RoI align --------------------------------------------------------------------------------------------------


# --- Training: which RoIs learn what ----------------------------------------------------------------------------


@keras.saving.register_keras_serializable("mrcnn")
class DetectionTargetLayer(KL.Layer):
    """RoIs sampled from the proposals and their targets; see `targets.detection_targets`.

    Inputs: proposals, gt_class_ids, gt_boxes (normalised)[, gt_masks]; without these no target_masks come out. The
    sample is drawn anew at every call, from a seed that `MaskRCNN.train` sets by `Config.SEED`.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.seed_generator = keras.random.SeedGenerator(config.SEED or 0)

    def call(self, inputs):
        proposals, gt_class_ids, gt_boxes, gt_masks = (*inputs, None)[:4]
        if self.config.ROIS_INCLUDE_GT:
            count = proposals.shape[1] + self.config.MAX_GT_INSTANCES
            truth = gt_boxes * ops.cast(gt_class_ids > 0, "float32")[..., None]
            proposals = tf.ensure_shape(
                ops.concatenate([proposals, truth], axis=1), [None, count, 4]
            )
        priorities = self.draw(*ops.shape(proposals)[:2])
        outputs = targets.detection_targets(
            proposals, gt_class_ids, gt_boxes, gt_masks, priorities, self.config
        )
        return [ops.stop_gradient(output) for output in outputs if output is not None]

    def draw(self, batch, count):
        """`[batch, count]` uniform numbers. Several devices draw for all their images, and each takes its own rows:
        the sample is the same on however many devices the batch is spread."""
        context = tf.distribute.get_replica_context()
        devices = context.num_replicas_in_sync if context else 1
        drawn = keras.random.uniform((devices * batch, count), seed=self.seed_generator)
        return drawn if devices == 1 else drawn[context.replica_id_in_sync_group * batch :][:batch]

    def compute_output_spec(self, inputs):
        dtypes = ["float32", "int32", "float32", "float32"][: len(inputs)]
        shapes = self.compute_output_shape([x.shape for x in inputs])
        return [
            keras.KerasTensor(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)
        ]

    def compute_output_shape(self, input_shape):
        count = self.config.TRAIN_ROIS_PER_IMAGE
        shapes = [
            (None, count, 4),
            (None, count),
            (None, count, 4),
            (None, count, *self.config.MASK_SHAPE),
        ]
        return shapes[: len(input_shape)]

    def compute_mask(self, inputs, mask=None):
        return [None] * len(inputs)


def detection_targets_graph(proposals, gt_class_ids, gt_boxes, gt_masks, config):
    """`DetectionTargetLayer` for one image: the same arguments and results without the batch axis."""
    inputs = [ops.expand_dims(x, 0) for x in (proposals, gt_class_ids, gt_boxes, gt_masks)]
    priorities = keras.random.uniform(ops.shape(inputs[0])[:2])
    return [output[0] for output in targets.detection_targets(*inputs, priorities, config)]


# --- Inference: what the heads say becomes detections -----------------------------------------------------------


def refine_detections(rois, probs, deltas, windows, config):
    """`[B, D, (y1, x1, y2, x2, class_id, score)]` normalised detections, best first, zero-padded.

    Each RoI keeps its best class, is refined by that class's deltas, clipped to the photo, dropped below
    DETECTION_MIN_CONFIDENCE, and suppressed by better ones of its class (CLASS_AGNOSTIC_NMS: of any class).

    rois: `[B, N, 4]` normalised. probs: `[B, N, NUM_CLASSES]`. deltas: `[B, N, NUM_CLASSES, 4]`, or `[B, N, 1, 4]`
    for all classes.
    windows: `[B, 4]` normalised, where the photo lies.
    """
    class_ids = ops.cast(ops.argmax(probs, axis=-1), "int32")
    scores = ops.max(probs, axis=-1)
    own = ops.zeros_like(class_ids) if deltas.shape[2] == 1 else class_ids
    own_deltas = tf.gather(deltas, own, batch_dims=2) * np.float32(config.BBOX_STD_DEV)
    refined = box_math.clip(box_math.decode(rois, own_deltas), windows[:, None, :])
    counts = class_ids > 0
    if config.DETECTION_MIN_CONFIDENCE:
        counts = counts & (scores >= config.DETECTION_MIN_CONFIDENCE)
    scores = scores * ops.cast(counts, "float32")
    limits = config.DETECTION_MAX_INSTANCES, config.DETECTION_NMS_THRESHOLD
    if config.CLASS_AGNOSTIC_NMS:
        kept = agnostic_non_max_suppression(refined, class_ids, scores, *limits)
    else:
        kept = class_non_max_suppression(refined, class_ids, scores, probs.shape[-1], *limits)
    kept_boxes, kept_classes, kept_scores = kept
    return ops.concatenate([kept_boxes, kept_classes[..., None], kept_scores[..., None]], axis=-1)


def refine_detections_graph(rois, probs, deltas, window, config):
    """`refine_detections` for one image: the same arguments and result without the batch axis."""
    return refine_detections(
        *(ops.expand_dims(x, 0) for x in (rois, probs, deltas, window)), config
    )[0]


@keras.saving.register_keras_serializable("mrcnn")
class DetectionLayer(KL.Layer):
    """`[B, D, (y1, x1, y2, x2, class_id, score)]` detections; see `refine_detections`.

    Inputs: rois, mrcnn_class, mrcnn_bbox, image_meta.
    """

    def __init__(self, config=None, **kwargs):
        super().__init__(**kwargs)
        self.config = config

    def call(self, inputs):
        rois, probs, deltas, image_meta = inputs
        meta = ops.cast(image_meta, "float32")
        height, width, _ = ops.unstack(meta[0, META_COLUMNS["image_shape"]], 3)
        windows = box_math.normalize(meta[:, META_COLUMNS["window"]], (height, width))
        return refine_detections(rois, probs, deltas, windows, self.config)

    def compute_output_shape(self, input_shape):
        return (None, self.config.DETECTION_MAX_INSTANCES, 6)


# --- Heads ------------------------------------------------------------------------------------------------------


def fpn_classifier_graph(
    rois,
    feature_maps,
    image_meta,
    pool_size,
    num_classes,
    train_bn=True,
    fc_layers_size=1024,
    canonical_size=224.0,
    agnostic=False,
):
    """The class and box head (FPN, 5.2): two hidden layers on the pooled RoI, shared by both outputs.

    rois: `[B, N, 4]` normalised. feature_maps: P2..P5. image_meta: `[B, IMAGE_META_SIZE]`.
    agnostic: one set of deltas for all classes.

    Returns: logits `[B, N, NUM_CLASSES]`, probs alike, deltas `[B, N, NUM_CLASSES, 4]` (agnostic: `[B, N, 1, 4]`).
    """
    x = PyramidROIAlign(
        [pool_size, pool_size], canonical_size, name="roi_align_classifier", **FLOAT32
    )([rois, image_meta, *feature_maps])
    # The first hidden layer is a convolution as large as its input, so that its weights keep matterport's shape.
    x = RoIConv2D(fc_layers_size, (pool_size, pool_size), name="mrcnn_class_conv1")(
        x
    )  # [B, N, 1, 1, fc]
    x = KL.Activation("relu")(BatchNorm(train_bn, name="mrcnn_class_bn1")(x))
    x = RoIConv2D(fc_layers_size, (1, 1), name="mrcnn_class_conv2")(x)
    x = KL.Activation("relu")(BatchNorm(train_bn, name="mrcnn_class_bn2")(x))
    shared = KL.Reshape((-1, fc_layers_size), name="pool_squeeze")(x)  # [B, N, fc]
    logits = RoIDense(num_classes, name="mrcnn_class_logits", **FLOAT32)(shared)
    probs = KL.Activation("softmax", name="mrcnn_class", **FLOAT32)(logits)
    rows = 1 if agnostic else num_classes
    x = RoIDense(rows * 4, name="mrcnn_bbox_fc", **FLOAT32)(shared)
    deltas = KL.Reshape((-1, rows, 4), name="mrcnn_bbox", **FLOAT32)(x)
    return logits, probs, deltas


def build_fpn_mask_graph(
    rois,
    feature_maps,
    image_meta,
    pool_size,
    num_classes,
    train_bn=True,
    channels=256,
    doublings=1,
    canonical_size=224.0,
):
    """`[B, N, h, w, NUM_CLASSES]` soft masks: four convolutions, then deconvolutions (Mask R-CNN, figure 4 right).

    num_classes: 1 for one mask for all classes.
    doublings: how often a deconvolution doubles the pooled size; 1 as in the paper.
    """
    x = PyramidROIAlign([pool_size, pool_size], canonical_size, name="roi_align_mask", **FLOAT32)(
        [rois, image_meta, *feature_maps]
    )
    for i in (1, 2, 3, 4):
        x = RoIConv2D(channels, (3, 3), padding="same", name=f"mrcnn_mask_conv{i}")(x)
        x = KL.Activation("relu")(BatchNorm(train_bn, name=f"mrcnn_mask_bn{i}")(x))
    for i in range(1, doublings + 1):
        name = "mrcnn_mask_deconv" if i == 1 else f"mrcnn_mask_deconv{i}"
        x = RoIConv2DTranspose(channels, (2, 2), strides=2, activation="relu", name=name)(x)
    return RoIConv2D(num_classes, (1, 1), activation="sigmoid", name="mrcnn_mask", **FLOAT32)(x)


def mask_rcnn_outputs(outputs, config) -> list:
    """The outputs of an inference network that `Detector` reads.

    Returns: detections `[B, D, 6]`, class probabilities `[B, N, NUM_CLASSES]` and, with a mask
        head, the mask of each detection's own class, `[B, D, h, w, 1]`. With RPN_ONLY all
        outputs, scored proposals first.
    """
    if config.RPN_ONLY:
        return list(outputs)
    detections, class_probs = outputs[:2]
    if not config.USE_MASK:
        return [detections, class_probs]
    return [detections, class_probs, select_class_masks(outputs[3], detections[..., 4])]


def select_class_masks(masks, class_ids):
    """`[B, D, h, w, 1]` the masks of the given classes; masks of all classes at once stay.

    masks: `[B, D, h, w, NUM_CLASSES]` or `[B, D, h, w, 1]`. class_ids: `[B, D]`.
    """
    if masks.shape[-1] == 1:
        return masks
    own = tf.gather(masks, tf.cast(class_ids, tf.int32), axis=-1, batch_dims=2)  # [B, D, h, w]
    return own[..., None]


# --- Networks that Keras saves and loads whole ---


def _network_from_config(mode: str, config: dict, custom_objects: dict | None):
    """Rebuild the network of a whole Keras file from what `Network.get_config` wrote there.

    Raises: ValueError if the backbone is a function of the user's that `custom_objects` lacks.
    """
    settings = Config.from_dict(config["config"])
    for setting in ("BACKBONE", "COMPUTE_BACKBONE_SHAPE"):
        value = getattr(settings, setting)
        if isinstance(value, str) and ":" in value:
            setattr(settings, setting, _registered_function(setting, value, custom_objects))
    model = MaskRCNN(mode, settings)
    model.class_names = config["class_names"]
    for layer in leaves(model.keras_model):
        layer.trainable = layer.name not in config["frozen"]
    return model.keras_model


def _registered_function(setting: str, value: str, custom_objects):
    """The function that a config calls `"module:name"`, by its name among the custom objects."""
    name = value.rpartition(":")[2]
    function = keras.saving.get_registered_object(name, custom_objects)
    if function is None:
        raise ValueError(
            f"A network with a {setting} function of your own cannot be rebuilt from its file "
            f"without that function. Received: {value}. "
            f'Try custom_objects={{"{name}": your function}}.'
        )
    return function


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNNInference(Network):
    """The network that detects, see `MaskRCNN.build`; Keras saves and loads it whole."""

    read_outputs = staticmethod(mask_rcnn_outputs)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return _network_from_config("inference", config, custom_objects)


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNNTraining(TrainingNetwork):
    """The network that trains, see `MaskRCNN.build`; Keras saves and loads it whole."""

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return _network_from_config("training", config, custom_objects)


# A whole `.h5` names its class without the package, so Keras needs the bare names too.
keras.saving.get_custom_objects().update(
    {cls.__name__: cls for cls in (MaskRCNNInference, MaskRCNNTraining)}
)


# --- MaskRCNN ---------------------------------------------------------------------------------------------------


def _run_attribute(name):
    """A property that reads and sets an attribute of the `TrainingRun`."""
    return property(
        lambda model: getattr(model._run, name),
        lambda model, value: setattr(model._run, name, value),
    )


class MaskRCNN(DetectionMethods):
    """The network and what users do with it: build, load weights, train, detect.

        model = MaskRCNN.from_weights("coco.h5")
        (result,) = model.detect([image])  # [H, W, 3] uint8
        for box, class_id, score in zip(result["rois"], result["class_ids"], result["scores"]):
            print(model.class_names[class_id], score, box)  # box: (y1, x1, y2, x2) in pixels
        result["masks"]  # [H, W, N] bool

    mode: "training" or "inference".
    config: a `Config`.
    model_dir: the folder of the log folders that training writes.

    `keras_model` is the Keras network, `class_names` come from the weight file or the dataset.
    """

    read_outputs = staticmethod(mask_rcnn_outputs)
    _run: TrainingRun

    # matterport's names for attributes of the training run.
    epoch = _run_attribute("epoch")
    log_dir = _run_attribute("folder")
    checkpoint_path = _run_attribute("checkpoint_path")

    def __new__(cls, *args, **kwargs):
        # Subclasses that repeat the body of matterport's __init__ do not call the one below.
        model = super().__new__(cls)
        model._run = TrainingRun()
        return model

    def __init__(self, mode: str, config: Any, model_dir: str | os.PathLike = "logs"):
        self.mode = mode
        self.config = config
        self.model_dir = str(model_dir)
        self.set_log_dir()
        self.keras_model = self.build(mode=mode, config=config)

    @property
    def config(self) -> Config:
        """The settings; an object of another class becomes a `Config` with its values."""
        return self._config

    @config.setter
    def config(self, config: Any) -> None:
        self._config, self._given_config = as_config(config), config

    @classmethod
    def from_weights(
        cls,
        path: str | os.PathLike,
        config: Config | None = None,
        model_dir: str | os.PathLike = "logs",
        mode: str = "inference",
    ) -> MaskRCNN:
        """Build the model that a weight file describes, and load its weights.

        path: an `.h5` file written by this package; other files need a `config`.
        """
        if config is None:
            config = _config_of_file(path)
            if mode == "inference":
                config.GPU_COUNT = config.IMAGES_PER_GPU = config.BATCH_SIZE = 1
        if mode == "inference":
            weights.check_sizes(path, config)
        model = cls(mode, config, model_dir)
        model.load_weights(path)
        return model

    def build(self, mode, config):
        """The Keras network: training gives named outputs for the losses, inference the seven of matterport.

        Training inputs: image, meta, rpn_match, rpn_bbox, gt_class_ids, gt_boxes (pixels), gt_masks[, rois].
        Inference inputs: image, meta, anchors (normalised).

        USE_MASK = False leaves out the mask head and with it gt_masks; RPN_ONLY leaves out both heads: rpn_bbox is the
        last input of training, and inference gives scored proposals, rpn_class and rpn_bbox.
        """
        if mode not in ("training", "inference"):
            raise ValueError(f"mode must be 'training' or 'inference'. Received: {mode!r}.")
        _ensure_log_handler()
        # Thresholds changed on self.config later take effect only if the layers hold that very object.
        config = self.config if config is self._given_config else as_config(config)
        config.validate()
        config.check_names()
        scope = (
            training_strategy(config).scope() if mode == "training" else contextlib.nullcontext()
        )
        with scope, _precision(config.PRECISION):
            network = self._build(mode, config)
        network.describe = self.metadata
        return network

    def _build(self, mode, config):
        height, width, channels = (int(side) for side in config.IMAGE_SHAPE)
        input_image = keras.Input([None, None, channels], name="input_image")
        input_image_meta = keras.Input([config.IMAGE_META_SIZE], name="input_image_meta")

        # Backbone and pyramid
        c1, *feature_maps = backbone_graph(input_image, config)
        if c1 is not None:
            keep_float32(input_image, c1)
        pyramid = fpn_graph(feature_maps, config.TOP_DOWN_PYRAMID_SIZE)

        # Region proposal network, the same on every level that has a scale: the first ones
        rpn_levels = pyramid[: len(config.RPN_ANCHOR_SCALES)]
        rpn = build_rpn_model(
            config.RPN_ANCHOR_STRIDE,
            len(config.RPN_ANCHOR_RATIOS),
            config.TOP_DOWN_PYRAMID_SIZE,
            config.RPN_CHANNELS,
        )
        per_level = zip(*(rpn(level) for level in rpn_levels), strict=True)
        names = ("rpn_class_logits", "rpn_class", "rpn_bbox")
        rpn_class_logits, rpn_class, rpn_bbox = (
            KL.Concatenate(axis=1, name=name, **FLOAT32)(list(outputs))
            for name, outputs in zip(names, per_level, strict=True)
        )

        any_size = config.IMAGE_RESIZE_MODE in ("pad64", "none")
        if mode == "training":
            if any_size:
                anchors = PyramidAnchors(config, name="anchors", **FLOAT32)(
                    [input_image, *rpn_levels]
                )
            else:
                anchors = Anchors(self.get_anchors(config.IMAGE_SHAPE), name="anchors", **FLOAT32)(
                    input_image
                )
            proposal_count = config.POST_NMS_ROIS_TRAINING
        else:
            anchors = keras.Input([None, 4], name="input_anchors")
            proposal_count = config.POST_NMS_ROIS_INFERENCE
        proposal_layer = ScoredProposals if config.RPN_ONLY else ProposalLayer
        rpn_rois = proposal_layer(
            proposal_count, config.RPN_NMS_THRESHOLD, config, name="ROI", **FLOAT32
        )([rpn_class, rpn_bbox, anchors])

        def class_head(rois):
            return fpn_classifier_graph(
                rois,
                pyramid[:4],
                input_image_meta,
                config.POOL_SIZE,
                config.NUM_CLASSES,
                config.TRAIN_BN,
                config.FPN_CLASSIF_FC_LAYERS_SIZE,
                config.FPN_CANONICAL_SIZE,
                config.CLASS_AGNOSTIC_BOX,
            )

        def mask_head(rois):
            return build_fpn_mask_graph(
                rois,
                pyramid[:4],
                input_image_meta,
                config.MASK_POOL_SIZE,
                1 if config.CLASS_AGNOSTIC_MASK else config.NUM_CLASSES,
                config.TRAIN_BN,
                config.MASK_CHANNELS,
                config.mask_doublings(),
                config.FPN_CANONICAL_SIZE,
            )

        if mode == "inference":
            inputs, outputs = (
                [input_image, input_image_meta, anchors],
                [rpn_rois, rpn_class, rpn_bbox],
            )
            if config.RPN_ONLY:
                KL.Identity()(input_image_meta)  # an input that no layer reads, as below
                return MaskRCNNInference(inputs, outputs, name="mask_rcnn")
            _, mrcnn_class, mrcnn_bbox = class_head(rpn_rois)
            detections = DetectionLayer(config, name="mrcnn_detection", **FLOAT32)(
                [rpn_rois, mrcnn_class, mrcnn_bbox, input_image_meta]
            )
            mrcnn_mask = [mask_head(detections[..., :4])] if config.USE_MASK else []
            outputs = [detections, mrcnn_class, mrcnn_bbox, *mrcnn_mask, *outputs]
            return MaskRCNNInference(inputs, outputs, name="mask_rcnn")

        inputs = [
            input_image,
            input_image_meta,
            keras.Input([None, 1], name="input_rpn_match", dtype="int32"),
            keras.Input([config.RPN_TRAIN_ANCHORS_PER_IMAGE, 4], name="input_rpn_bbox"),
        ]
        for for_the_losses in inputs[
            1:4
        ]:  # Keras 3.12, the last for Python 3.10, refuses an input that no layer reads
            KL.Identity()(for_the_losses)
        outputs = {
            "rpn_class_logits": rpn_class_logits,
            "rpn_class": rpn_class,
            "rpn_bbox": rpn_bbox,
        }
        if config.RPN_ONLY:
            return MaskRCNNTraining(inputs, outputs, name="mask_rcnn", config=config)

        input_gt_class_ids = keras.Input([None], name="input_gt_class_ids", dtype="int32")
        input_gt_boxes = keras.Input([None, 4], name="input_gt_boxes")
        image_size = (None, None) if any_size else (height, width)
        mask_shape = config.MINI_MASK_SHAPE if config.USE_MINI_MASK else image_size
        input_gt_masks = [
            keras.Input([*mask_shape, None], name="input_gt_masks", dtype="bool")
        ] * config.USE_MASK
        inputs += [input_gt_class_ids, input_gt_boxes, *input_gt_masks]
        gt_boxes = NormalizeBoxes(name="gt_boxes", **FLOAT32)([input_gt_boxes, input_image])
        proposals = rpn_rois
        if not config.USE_RPN_ROIS:
            inputs.append(
                keras.Input([config.POST_NMS_ROIS_TRAINING, 4], name="input_roi", dtype="int32")
            )
            proposals = NormalizeBoxes(name="input_roi_normalized", **FLOAT32)(
                [inputs[-1], input_image]
            )
        target_layer = DetectionTargetLayer(config, name="proposal_targets", **FLOAT32)
        rois, target_class_ids, target_bbox, *target_mask = target_layer(
            [proposals, input_gt_class_ids, gt_boxes, *input_gt_masks]
        )
        mrcnn_class_logits, mrcnn_class, mrcnn_bbox = class_head(rois)
        outputs |= {
            "rpn_rois": rpn_rois,
            "output_rois": rois,
            "target_class_ids": target_class_ids,
            "target_bbox": target_bbox,
            "mrcnn_class_logits": mrcnn_class_logits,
            "mrcnn_class": mrcnn_class,
            "mrcnn_bbox": mrcnn_bbox,
        }
        if config.USE_MASK:
            # Positives come first: the mask head sees no RoI that cannot count.
            mrcnn_mask = mask_head(rois[:, : targets.positive_slots(config)])
            outputs |= {"target_mask": target_mask[0], "mrcnn_mask": mrcnn_mask}
        return MaskRCNNTraining(inputs, outputs, name="mask_rcnn", config=config)

    # --- Weights and log folders ---

    def find_last(self) -> str:
        """Return the path of the newest checkpoint under model_dir.

        Raises: FileNotFoundError that names the folder if there is no checkpoint.
        """
        return weights.last_checkpoint(self.model_dir, str(self.config.NAME))

    def load_weights(
        self,
        filepath: str | os.PathLike,
        by_name: bool = False,
        exclude: Sequence[str] | None = None,
        remap_classes: dict[str, int] | None = None,
    ) -> weights.LoadReport:
        """Load a weight file; return and log which layers were loaded.

        filepath: matterport's `.h5`, one written here, or a backbone's ImageNet file.
        by_name: unused, layers are always matched by name.
        exclude: names of layers to skip.
        remap_classes: class name in the file -> class id here, to keep the rows of known classes.

        Raises: ValueError if the file is of another network; see `weights.load_weights`.
        """
        training_mode = self.mode == "training"
        if training_mode and os.path.isfile(filepath) and weights.is_backbone_file(filepath):
            return self.load_backbone_weights(filepath)
        # A detection in another thread sees the former weights or these, never a mixture.
        with self.detector.weights_lock.writing():
            report = weights.load_weights(
                self.keras_model,
                filepath,
                exclude=exclude or (),
                allow_head_mismatch=training_mode,
                remap_classes=remap_classes,
            )
            if self._is_fused:
                self.optimize_for_inference()
        if exclude and not training_mode:
            logger.warning(
                "Layers were excluded in inference mode: %s stay random.", ", ".join(exclude)
            )
        metadata = weights.read_metadata(filepath) or {}
        self.class_names = metadata.get("class_names", self.class_names)
        self.set_log_dir(filepath)
        self._run.resume = self.epoch > 0
        return report

    def load_backbone_weights(self, filepath: str | os.PathLike) -> weights.LoadReport:
        """Load a file that contains only the backbone, as `keras.applications` publishes them."""
        return weights.load_backbone_weights(self.keras_model, filepath, self.config.BACKBONE)

    def save_weights(self, filepath: str | os.PathLike) -> None:
        """Write an `.h5` file in matterport's layout, with the config and class names."""
        weights.save_weights(self.keras_model, filepath, metadata=self.metadata())

    def metadata(self) -> dict:
        """Return the description of the network that weight files contain."""
        return {"config": self.config.to_dict(), "class_names": self.class_names}

    def get_imagenet_weights(self) -> str:
        """Return the path of the backbone's ImageNet file; download it unless it is cached."""
        return weights.imagenet_weights(self.config.BACKBONE)

    def set_log_dir(self, model_path: str | os.PathLike | None = None) -> None:
        """Name the log folder and the checkpoints of the next training; no folder is created yet.

        model_path: a checkpoint `<log folder>/mask_rcnn_<name>_<epoch>.h5`, whose folder and epoch
            the training continues; None or another path starts a new run.
        """
        name = str(self.config.NAME)
        training_mode = self.mode == "training"
        if model_path is None or not self._run.continue_from(str(model_path), name):
            self._run.start_new(self.model_dir, name, claim=training_mode)
        elif training_mode:
            logger.info("Resuming after epoch %d in %s", self.epoch, self.log_dir)

    # --- Training ---

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Compile the network with a new optimizer; `train` does it by itself."""
        compile_network(self.keras_model, self.config, learning_rate, momentum)

    def set_trainable(self, layer_regex: str, keras_model=None, indent=0, verbose: int = 1) -> None:
        """Make exactly the layers trainable whose names match the regex.

        keras_model: default the whole network. indent: unused.
        verbose: as for `training.trainable.set_trainable`.
        """
        set_trainable(keras_model or self.keras_model, layer_regex, self.config, verbose=verbose)

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset | None,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation=None,
        custom_callbacks: Iterable[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Iterable[str] | None = None,
    ) -> keras.callbacks.History | None:
        """Train up to an epoch.

        train_dataset, val_dataset: prepared; val_dataset may be None.
        epochs: the epoch to reach, counted from the first `train` call or the loaded checkpoint.
        layers: "heads", "3+", "4+", "5+", "all", or a regex of layer names.
        augmentation: an imgaug augmenter, an albumentations transform, or a callable
            `(image, masks, rng) -> (image, masks)`.
        no_augmentation_sources: names of sources whose images are not augmented.

        Returns: Keras' history; None if the epoch has been reached already.
        """
        if self.mode != "training":
            raise ValueError(
                "train() needs a model in training mode. Try MaskRCNN(mode='training', ...)."
            )
        run = self._run
        run.network, run.config = self.keras_model, self.config
        self.class_names = list(getattr(train_dataset, "class_names", [])) or self.class_names
        run.class_names = self.class_names
        data = TrainingData(train_dataset, val_dataset, augmentation, no_augmentation_sources)
        stage = Stage(learning_rate, epochs, layers)
        return train(run, data, stage, self._make_detector, custom_callbacks)

    def _make_detector(self) -> MaskRCNN:
        """Return a model of the same network in inference mode, for one image per batch."""
        config = copy.copy(self.config)
        config.GPU_COUNT = config.IMAGES_PER_GPU = config.BATCH_SIZE = 1
        return type(self)("inference", config, self.model_dir)

    # --- Looking inside ---

    def ancestor(self, tensor: Any, name: str, checked: Any = None) -> Any:
        """Return the tensor of a name in the network, for `run_graph`, or None.

        name: of a layer, or of a step of the proposal layer: `ROI/pre_nms_anchors:0`,
            `ROI/refined_anchors:0`, `ROI/refined_anchors_clipped:0`,
            `ROI/rpn_non_max_suppression:0`.
        tensor, checked: unused.
        """
        layer_name, *step = name.split(":")[0].split("/")
        layers = {layer.name: layer for layer in self.keras_model.layers}
        layer = layers.get(layer_name)
        if layer is None:
            return None
        if not step or not isinstance(layer, ProposalLayer):
            return layer.output
        if step[0] not in PROPOSAL_STEPS:
            return None
        return ProposalSteps(layer, step[0])(layer.input)

    def find_trainable_layer(self, layer: Any) -> Any:
        """Return the layer, or the layer that it wraps."""
        while hasattr(layer, "layer"):
            layer = layer.layer
        return layer

    def get_trainable_layers(self) -> list:
        """Return all layers that have weights."""
        layers = [self.find_trainable_layer(layer) for layer in self.keras_model.layers]
        return [layer for layer in layers if layer.get_weights()]


def _config_of_file(path: str | os.PathLike) -> Config:
    """The config that a weight file of this package contains.

    Raises: ValueError if it has no config, or one that cannot rebuild the network.
    """
    if weights.is_backbone_file(path):
        raise ValueError(
            f"Weights of a whole network are needed. Received: {path}, which has only those of a "
            "backbone. Try training from it: mrcnn train DATA --backbone-weights FILE."
        )
    metadata = weights.read_metadata(path) or {}
    if "config" not in metadata:
        raise ValueError(
            f"The weight file must say what network it is for. Received: {path}, which carries no "
            "config (only files written by this package do). "
            "Try passing config= (on the command line --config)."
        )
    config = Config.from_dict(metadata["config"])
    if isinstance(config.BACKBONE, str) and ":" in config.BACKBONE:
        raise ValueError(
            "A network with a BACKBONE function of your own cannot be rebuilt from its file. "
            f"Received: {path} ({config.BACKBONE}). "
            "Try passing config= (on the command line --config FILE.py) with it."
        )
    return config


@contextlib.contextmanager
def _precision(policy):
    """Layers made in it compute in this dtype policy, but for those that say otherwise."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _ensure_log_handler() -> None:
    """Print log lines on stderr, unless the program has set up logging itself."""
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)

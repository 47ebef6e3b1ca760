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
import functools
import importlib
import logging
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from keras import layers as KL
from keras import ops
from rich.progress import track

from .config import Config, as_config
from .data.dataset import Dataset
from .data.generator import DataGenerator, data_generator, load_image_gt
from .data.image import (
    match_channels,
    mold_image,
    molded_photo,
    resize_image,
    to_uint8,
    unmold_image,
)
from .data.masks import unmold_crops, unmold_masks
from .data.roi_targets import build_detection_targets, generate_random_rois
from .data.rpn_targets import build_rpn_targets
from .formats.rle import unmold_rles
from .inference import fuse_batch_norm as folding
from .inference import tiles
from .nn import boxes as box_math
from .nn import losses, targets, winograd
from .nn.anchors import compute_backbone_shapes, pyramid_anchors
from .nn.backbones import (  # noqa: F401  matterport's names
    backbone_graph,
    conv_block,
    identity_block,
    keep_float32,
    mobilenet_v2_graph,
    resnet_graph,
)
from .nn.image_meta import META_COLUMNS, compose_image_meta, parse_image_meta, split_image_meta
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
from .nn.molding import mold_on_device
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


# What matterport's module imported, and so scripts take from it.
_MATTERPORTS_IMPORTS = {
    "K": "keras.backend",
    "KE": "keras.layers",  # keras.engine, of which scripts take Layer
    "KM": "keras.models",
    "datetime": "datetime",
    "multiprocessing": "multiprocessing",
    "random": "random",
    "utils": "mrcnn.utils",
}


def __getattr__(name):
    if name in _MATTERPORTS_IMPORTS:
        return importlib.import_module(_MATTERPORTS_IMPORTS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def log(text, array=None):
    """Print a line, and of an array its shape, range and type."""
    if array is not None:
        array = np.asarray(array)
        low, high = (f"{array.min():10.5f}", f"{array.max():10.5f}") if array.size else ("", "")
        text = f"{text:25}  shape: {array.shape!s:20}  min: {low:10}  max: {high:10}  {array.dtype}"
    print(text)


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


class OwnMasks(KL.Layer):
    """`[B, N, h, w, 1]` the soft mask of each detection's own class, with the weights of `mrcnn_mask`.

    The masks of the other classes, which nobody looks at, are four fifths of that layer's time with 81 classes.
    Inputs: features `[B, N, h, w, C]`, as `mrcnn_mask` gets them, and detections `[B, N, 6]`.
    """

    def __init__(self, mrcnn_mask, **kwargs):
        super().__init__(**kwargs)
        self.mrcnn_mask = mrcnn_mask

    def call(self, inputs):
        features, detections = inputs
        kernel = ops.transpose(self.mrcnn_mask.kernel[0, 0])  # [NUM_CLASSES, C]
        class_ids = ops.cast(detections[..., 4], "int32")
        own = class_ids if kernel.shape[0] > 1 else ops.zeros_like(class_ids)
        kernel, bias = (ops.take(weight, own, axis=0) for weight in (kernel, self.mrcnn_mask.bias))
        logits = ops.einsum("bnhwc,bnc->bnhw", features, kernel) + bias[..., None, None]
        return self.mrcnn_mask.activation(logits)[..., None]


def detecting_network(network):
    """What `detect` reads of an inference network: detections, class probabilities and, if it has any, own masks."""
    if (
        network.outputs[0]._keras_history.operation.name != "mrcnn_detection"
    ):  # RPN_ONLY: scored proposals
        return network
    outputs, layer, node = network.outputs[:2], *network.outputs[3]._keras_history[:2]
    if layer.name == "mrcnn_mask":
        (features,) = layer._inbound_nodes[node].input_tensors
        outputs = [*outputs, OwnMasks(layer, name="own_masks", **FLOAT32)([features, outputs[0]])]
    return keras.Model(network.inputs, outputs)


# --- Losses, under matterport's names ---------------------------------------------------------------------------


def smooth_l1_loss(y_true, y_pred):
    """Smooth L1, element by element; see `losses.smooth_l1`."""
    return losses.smooth_l1(y_true, y_pred)


def rpn_class_loss_graph(rpn_match, rpn_class_logits):
    """Scalar; see `losses.rpn_class_loss`."""
    return losses.mean(*losses.rpn_class_loss(rpn_match, rpn_class_logits))


def rpn_bbox_loss_graph(config, target_bbox, rpn_match, rpn_bbox):
    """Scalar; see `losses.rpn_bbox_loss`."""
    return losses.mean(*losses.rpn_bbox_loss(target_bbox, rpn_match, rpn_bbox))


def mrcnn_class_loss_graph(target_class_ids, pred_class_logits, active_class_ids):
    """Scalar; see `losses.mrcnn_class_loss`."""
    return losses.mean(
        *losses.mrcnn_class_loss(target_class_ids, pred_class_logits, active_class_ids)
    )


def mrcnn_bbox_loss_graph(target_bbox, target_class_ids, pred_bbox):
    """Scalar; see `losses.mrcnn_bbox_loss`."""
    return losses.mean(*losses.mrcnn_bbox_loss(target_bbox, target_class_ids, pred_bbox))


def mrcnn_mask_loss_graph(target_masks, target_class_ids, pred_masks):
    """Scalar; see `losses.mrcnn_mask_loss`."""
    return losses.mean(*losses.mrcnn_mask_loss(target_masks, target_class_ids, pred_masks))


# --- Networks as whole files ------------------------------------------------------------------------------------


def _network_from_config(cls, config, custom_objects=None):
    """The network of a file that Keras saved whole, from what `Network.get_config` put there.

    Raises: ValueError if its backbone is a function of the user's own that `custom_objects` does not name.
    """
    settings = Config.from_dict(config["config"])
    for setting in ("BACKBONE", "COMPUTE_BACKBONE_SHAPE"):
        value = getattr(settings, setting)
        if isinstance(value, str) and ":" in value:
            name = value.rpartition(":")[2]
            function = keras.saving.get_registered_object(name, custom_objects)
            if function is None:
                raise ValueError(
                    f"A network with a {setting} function of your own cannot be rebuilt from its file alone. "
                    f'Received: {value}. Try custom_objects={{"{name}": your function}}.'
                )
            setattr(settings, setting, function)
    model = MaskRCNN(cls.mode, settings)
    model.class_names = config["class_names"]
    for layer in leaves(model.keras_model):
        layer.trainable = layer.name not in config["frozen"]
    return model.keras_model


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNNInference(Network):
    """The network that detects; Keras saves and loads it whole. See `MaskRCNN.build`."""

    mode = "inference"
    from_config = classmethod(_network_from_config)


@keras.saving.register_keras_serializable("mrcnn")
class MaskRCNNTraining(TrainingNetwork):
    """The network that learns; Keras saves and loads it whole. See `MaskRCNN.build`."""

    mode = "training"
    from_config = classmethod(_network_from_config)


# In a whole `.h5` Keras looks for the class by its name alone.
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


class MaskRCNN:
    """The network and what one does with it: load, train, detect.

    mode: "training" or "inference". config: a `Config`. model_dir: where training writes its log folders.
    `keras_model` is the Keras network; `class_names` the names that came with the weights or the dataset.
    """

    class_names: list[str] | None
    _run: TrainingRun
    # matterport's names for what the training run holds.
    epoch = _run_attribute("epoch")
    log_dir = _run_attribute("folder")
    checkpoint_path = _run_attribute("checkpoint_path")

    def __new__(cls, *args, **kwargs):
        # Not in __init__: subclasses that repeat the body of matterport's do not call this one.
        model = super().__new__(cls)
        model.class_names = None
        model._anchor_cache = {}
        model._sent_anchors = None, None  # the array, and its copy on the device
        model._compiled = {}
        model._compiling = threading.Lock()  # threads may call detect() at once
        model._weights_lock = ReadWriteLock()  # and one of them load_weights()
        model._run = TrainingRun()
        model._folded = None  # the folding.Folded that detects in place of keras_model
        return model

    def __init__(self, mode, config, model_dir="logs"):
        _be_heard()
        self.mode = mode
        self.config = config
        self.model_dir = str(model_dir)
        self.set_log_dir()
        self.keras_model = self.build(mode=mode, config=config)

    @property
    def config(self) -> Config:
        """The settings; an object of another class that is assigned becomes a `Config` of its values."""
        return self._config

    @config.setter
    def config(self, config) -> None:
        self._config, self._given_config = as_config(config), config

    @classmethod
    def from_weights(cls, path, config=None, model_dir="logs", mode="inference") -> MaskRCNN:
        """A model built as the weight file says, with its weights loaded.

        path: an `.h5` file written by this package; other files need a `config`.
        """
        metadata = weights.read_metadata(path) or {}
        if config is None:
            if weights.is_backbone_file(path):
                raise ValueError(
                    f"Weights of a whole network are needed. Received: {path}, of a backbone alone, which detects "
                    "nothing. Try training from it: mrcnn train DATA --backbone-weights FILE."
                )
            if "config" not in metadata:
                raise ValueError(
                    f"The weight file must say what network it is for. Received: {path}, which carries no config "
                    "(only files written by this package do). Try passing config= (on the command line --config)."
                )
            config = Config.from_dict(metadata["config"])
            if isinstance(config.BACKBONE, str) and ":" in config.BACKBONE:
                raise ValueError(
                    f"A network with a BACKBONE function of your own cannot be rebuilt from its file. Received: {path} "
                    f"({config.BACKBONE}). Try passing config= (on the command line --config FILE.py) with it."
                )
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
        """The path of the newest checkpoint under model_dir.

        Raises: FileNotFoundError naming the folder where there is none.
        """
        return weights.last_checkpoint(self.model_dir, self.config.NAME)

    def load_weights(
        self, filepath, by_name=False, exclude=None, remap_classes=None
    ) -> weights.LoadReport:
        """Load a weight file; returns (and logs) what was and what was not loaded.

        filepath: matterport's `.h5`, one written here, or a backbone's ImageNet file. by_name: kept for its place,
        layers are always matched by name. exclude: names of layers to leave as they are. remap_classes: class
        name in the file -> class id here, to keep the rows of known classes.

        Raises: ValueError where the file is of another network; see `weights.load_weights`.
        """
        if (
            self.mode == "training"
            and os.path.isfile(filepath)
            and weights.is_backbone_file(filepath)
        ):
            return self.load_backbone_weights(filepath)
        with (
            self._weights_lock.writing()
        ):  # a detection sees the former weights or these, not some of each
            report = weights.load_weights(
                self.keras_model,
                filepath,
                exclude=exclude or (),
                allow_head_mismatch=self.mode == "training",
                remap_classes=remap_classes,
            )
            if self._folded is not None:
                self.optimize_for_inference()
        if self.mode == "inference" and exclude:
            logger.warning(
                "Layers were excluded in inference mode: %s stay random.", ", ".join(exclude)
            )
        metadata = weights.read_metadata(filepath) or {}
        self.class_names = metadata.get("class_names", self.class_names)
        self.set_log_dir(filepath)
        self._run.resume = self.epoch > 0
        return report

    def load_backbone_weights(self, filepath) -> weights.LoadReport:
        """Load a file of the backbone alone, as `keras.applications` gives them."""
        return weights.load_backbone_weights(self.keras_model, filepath, self.config.BACKBONE)

    def save_weights(self, filepath) -> None:
        """Write an `.h5` file in matterport's layout that knows its network (config and class names)."""
        weights.save_weights(self.keras_model, filepath, metadata=self.metadata())

    def metadata(self) -> dict:
        """What a weight file says of itself."""
        return {"config": self.config.to_dict(), "class_names": self.class_names}

    def get_imagenet_weights(self) -> str:
        """The path of the backbone's ImageNet file, downloaded where it is not cached."""
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

    # --- Detection ---

    def mold_inputs(self, images):
        """Photos as the network wants them.

        images: a list of `[H, W, C]` uint8 (or what `image.to_uint8` takes).

        Returns: molded_images `[B, h, w, C]` float32, image_metas `[B, IMAGE_META_SIZE]`, windows `[B, 4]` pixels;
        photos of different molded sizes come as a list.
        """
        _check_several(images, "mold_inputs")
        photos, metas, windows = self._resized(images)
        return _stacked([molded_photo(photo, self.config) for photo in photos]), metas, windows

    def _resized(self, images):
        """`mold_inputs` without the molding: the photos uint8, of the network's size."""
        config = self.config
        # A random crop is no way to look at a photo.
        mode = "pad64" if config.IMAGE_RESIZE_MODE == "crop" else config.IMAGE_RESIZE_MODE
        resized, metas, windows = [], [], []
        for i, image in enumerate(images):
            photo = self._photo(image, f"image {i}")
            padded, window, scale, _, _ = resize_image(
                photo,
                min_dim=config.IMAGE_MIN_DIM,
                max_dim=config.IMAGE_MAX_DIM,
                min_scale=config.IMAGE_MIN_SCALE,
                mode=mode,
                shape=config.IMAGE_SHAPE if mode == "square" else None,
                exact=config.EXACT_RESIZE,
            )
            if padded.shape[0] % 64 or padded.shape[1] % 64:
                raise ValueError(
                    f"In mode 'none' an image's sides must be multiples of 64. Received: image {i} of "
                    f"{padded.shape}. Try IMAGE_RESIZE_MODE = 'pad64' or 'square'."
                )
            resized.append(padded)
            metas.append(
                compose_image_meta(
                    0, photo.shape, padded.shape, window, scale, np.zeros(config.NUM_CLASSES, int)
                )
            )
            windows.append(window)
        return _stacked(resized), np.stack(metas), np.stack(windows)

    def _photo(self, image, name):
        image = np.asarray(image)
        if image.dtype.kind == "f" and image.size and image.min() < 0:
            logger.warning(
                "%s has negative values: it looks already molded, so its mean is added again. "
                "detect() wants the photo itself.",
                name,
            )
            if image.ndim == 3 and image.shape[2] == self.config.IMAGE_CHANNEL_COUNT:
                image = np.round(image + self.config.MEAN_PIXEL).astype(np.int32)
        photo = match_channels(to_uint8(image), self.config.IMAGE_CHANNEL_COUNT, name)
        if not photo.shape[0] or not photo.shape[1]:
            raise ValueError(f"An image must have pixels. Received: {name} of shape {photo.shape}.")
        return photo

    def detect(self, images, verbose=0, batch_size=None, masks="full") -> list[dict]:
        """Objects in photos of any number and any sizes.

        images: `[H, W, C]` photos, uint8: a list, or a generator, which is read no further than the photos after those
        that the network sees. verbose: 1 prints what goes in, and the milliseconds of each step.
        batch_size: how many photos the network sees at once, where their molded sizes are equal; default BATCH_SIZE.
        masks: "full", or what takes less memory, "crop" or "rle".

        Returns one dict per photo, in original pixels, best score first:
            rois: `[N, (y1, x1, y2, x2)]` int32. class_ids: `[N]` int32. scores: `[N]` float32.
            masks: `[H, W, N]` bool; as "crop" a list of N `[h, w]` bool, what of each lies in its roi; as "rle" a list
            of N run-length codes, as COCO has them; not there where USE_MASK is False.
        With RPN_ONLY: rois and scores (objectness) of the proposals alone.
        """
        self._need_inference("detect")
        _check_several(images, "detect")
        if masks not in MASK_FORMS:
            raise ValueError(
                f"masks must be one of {', '.join(MASK_FORMS)}. Received: {masks!r}. Try 'full'."
            )
        if batch_size is not None and batch_size < 1:
            raise ValueError(
                f"batch_size must be at least 1. Received: {batch_size}. Try None, for BATCH_SIZE."
            )
        if verbose:
            log(
                f"Processing {len(images)} images"
                if hasattr(images, "__len__")
                else "Processing images"
            )
        results = []
        # The next photos are prepared while the network sees these.
        for photos, molded, metas, windows, seconds in one_ahead(
            self._prepared(images, batch_size)
        ):
            if verbose:
                for photo in photos:
                    log("image", photo)
            shapes = [np.shape(photo) for photo in photos]
            results += self._detect(molded, metas, windows, shapes, verbose, masks, seconds)
        return results

    def optimize_for_inference(self) -> int:
        """Let `detect` use a copy of the network whose batch norm is folded into its convolutions; how many were.

        `keras_model`, and what is saved of it, stays as it was. `load_weights` folds the new weights; after changing
        weights in another way call it again. Scores stay within 1e-4.
        """
        self._need_inference("optimize_for_inference")
        with self._weights_lock.writing():
            self._folded = folding.Folded(detecting_network(self.keras_model))
            self._compiled = {}
            return len(self._folded.convolutions)

    def detect_tiled(self, image, tile=None, overlap=None, verbose=0) -> dict:
        """Objects in an image of any size, as satellites and microscopes give them, seen tile by tile.

        image: `[H, W, C]`, or whatever gives such arrays when sliced (`np.memmap`, zarr, HDF5): memory does not grow
        with it. tile: side in pixels of what `detect` is given at once; default IMAGE_MAX_DIM. overlap: pixels that
        neighbouring tiles share, more than your objects measure; default a fourth of the tile. verbose: 1 shows how
        far it is.

        Returns what `detect` gives for one image with `masks="crop"`; an object in several tiles is there once, see
        `tiles.detect_tiled`.
        """
        self._need_inference("detect_tiled")
        if self.config.RPN_ONLY:
            raise ValueError(
                "detect_tiled() needs a network with heads. Received: RPN_ONLY = True. Try detect()."
            )
        tile, most, counts = (
            tile or self.config.IMAGE_MAX_DIM,
            self.config.DETECTION_MAX_INSTANCES,
            [],
        )

        def found(part):
            (result,) = self.detect([part], masks="crop")
            counts.append(len(result["rois"]))
            return result

        progress = functools.partial(track, description="Tiles", disable=not verbose)
        result = tiles.detect_tiled(
            found, image, tile, tile // 4 if overlap is None else overlap, progress
        )
        if full := sum(count >= most for count in counts):
            logger.warning(
                "%d of %d tiles hold as many objects as one detection gives, DETECTION_MAX_INSTANCES = %d: others "
                "there may be missing. Try smaller tiles, or a higher limit.", full, len(counts), most,
            )  # fmt: skip
        return result

    def _prepared(self, images, batch_size):
        """Yields photos the network sees at once, what `mold_inputs` makes of them, and the seconds it took.

        A GPU gets uint8, a fourth of the bytes, and `predict` molds them there; on a CPU that would take longer.
        """
        own = (
            getattr(self.mold_inputs, "__func__", None) is not MaskRCNN.mold_inputs
        )  # it decides what goes in
        prepare = (
            self._resized if tf.config.list_logical_devices("GPU") and not own else self.mold_inputs
        )
        for photos in self._chunks(images, batch_size or self.config.BATCH_SIZE):
            start = time.perf_counter()
            prepared = prepare(photos)
            yield photos, *prepared, time.perf_counter() - start

    def _chunks(self, images, most):
        """Runs of at most so many neighbours whose molded size will be equal."""
        fixed = self.config.IMAGE_RESIZE_MODE == "square"
        chunk = []
        for image in images:
            if chunk and not fixed and np.shape(image)[:2] != np.shape(chunk[0])[:2]:
                yield chunk
                chunk = []
            chunk.append(image)
            if len(chunk) == most:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def detect_molded(self, molded_images, image_metas, verbose=0) -> list[dict]:
        """`detect` on images that are already molded; results in their own pixels.

        molded_images: `[B, h, w, C]` of `mold_inputs`. image_metas: `[B, IMAGE_META_SIZE]`.
        """
        self._need_inference("detect_molded")
        shapes = [image.shape for image in molded_images]
        windows = [(0, 0, *shape[:2]) for shape in shapes]
        return self._detect(
            np.asarray(molded_images), np.asarray(image_metas), windows, shapes, verbose
        )

    def _need_inference(self, what):
        if self.mode != "inference":
            raise ValueError(
                f"{what}() needs a model in inference mode. Try MaskRCNN(mode='inference', ...)."
            )

    def _detect(self, molded, metas, windows, shapes, verbose, masks="full", seconds=0.0):
        """The results of a batch; molded: or uint8, see `predict`. masks: as for `detect`. seconds: of preparing it."""
        begin = time.perf_counter()
        anchors = self._batch_of_anchors(molded)
        if verbose:
            log(
                "photos, molded on the GPU" if molded.dtype == np.uint8 else "molded_images", molded
            )
            log("image_metas", metas)
            log("anchors", anchors.numpy())
        start = time.perf_counter()
        found, *outputs = self.predict([molded, metas, anchors])
        seen = time.perf_counter()
        names = ("rois", "class_ids", "scores", "masks")
        results = []
        for i, shape in enumerate(shapes):
            if self.config.RPN_ONLY:
                results.append(self.unmold_proposals(found[i], shape, molded[i].shape, windows[i]))
                continue
            soft_masks = outputs[1][i] if self.config.USE_MASK else None
            unmolded = self.unmold_detections(
                found[i], soft_masks, shape, molded[i].shape, windows[i], masks
            )
            results.append(
                {name: rows for name, rows in zip(names, unmolded, strict=True) if rows is not None}
            )
            if verbose and len(unmolded[0]) == 0:
                log(self._why_nothing(outputs[0][i]))
        if verbose:
            steps = seconds + start - begin, seen - start, time.perf_counter() - seen
            log(
                "Preparing {:.0f} ms, network {:.0f} ms, finishing {:.0f} ms".format(
                    *(1000 * step for step in steps)
                )
            )
        return results

    def _why_nothing(self, probs) -> str:
        """The best score of a class that is no background, and what removed it."""
        best = float(probs[:, 1:].max())
        class_id = int(probs[:, 1:].max(axis=0).argmax()) + 1
        threshold = self.config.DETECTION_MIN_CONFIDENCE
        name = self.class_names[class_id] if self.class_names else f"class {class_id}"
        if best < threshold:
            return (
                f"Nothing detected: the best score was {best:.3f} ({name}), removed by DETECTION_MIN_CONFIDENCE = "
                f"{threshold}. Try a lower one, or train longer."
            )
        return f"Nothing detected: the best score was {best:.3f} ({name}), but the background scored higher there."

    def predict(self, inputs) -> list[np.ndarray]:
        """What `detect` reads of the network, for a list of its inputs; compiled once per setting of the thresholds.

        Images of uint8 are photos of the network's size, and are molded on the device.

        Returns: detections `[B, D, 6]`, probs `[B, P, NUM_CLASSES]`, masks `[B, D, h, w, 1]` of the detections' own
        classes (not with USE_MASK = False). With RPN_ONLY: all outputs, scored proposals first.
        """
        inputs = [tf.convert_to_tensor(x) for x in inputs]
        if inputs[0].dtype == tf.uint8:
            inputs[0] = mold_on_device(inputs[0], self.config)
        inputs = [
            tf.cast(x, spec.dtype) for x, spec in zip(inputs, self.keras_model.inputs, strict=True)
        ]
        with self._weights_lock.reading():
            return [output.numpy() for output in self._compiled_network()(*inputs)]

    def _compiled_network(self):
        """The function behind `predict`, for the thresholds of this moment."""
        config = self.config
        # Thresholds are read when the graph is traced: new values, new trace.
        key = (
            config.DETECTION_MIN_CONFIDENCE,
            config.DETECTION_NMS_THRESHOLD,
            config.DETECTION_MAX_INSTANCES,
            config.PRE_NMS_LIMIT,
            config.CLASS_AGNOSTIC_NMS,
        )
        with self._compiling:
            if key not in self._compiled:
                signature = [tf.TensorSpec(x.shape, x.dtype) for x in self.keras_model.inputs]
                network = self._folded or detecting_network(self.keras_model)
                # TensorFlow warns of functions that are traced often, and takes those of one `def` for one function.
                run = functools.partial(_run_network, network)
                self._compiled = {
                    key: tf.function(run, signature, autograph=False, jit_compile=False)
                }
            return self._compiled[key]

    def unmold_detections(
        self, detections, mrcnn_mask, original_image_shape, image_shape, window, masks="full"
    ):
        """One image's raw outputs in original pixels.

        detections: `[D, (y1, x1, y2, x2, class_id, score)]` normalised, zero-padded.
        mrcnn_mask: `[D, h, w, NUM_CLASSES]`, `[D, h, w, 1]` for all classes, or None. original_image_shape:
        `(H, W, ...)`.
        image_shape: `(h, w, ...)` of the molded image. window: `(y1, x1, y2, x2)` pixels of the photo in it.
        masks: their form, as for `detect`.

        Returns: boxes `[N, 4]` int32, class_ids `[N]` int32, scores `[N]`, masks `[H, W, N]` bool or None.
        """
        padding = np.flatnonzero(detections[:, 4] == 0)
        count = padding[0] if len(padding) else len(detections)
        class_ids = detections[:count, 4].astype(np.int32)
        scores = detections[:count, 5]
        photo_boxes = _photo_boxes(
            detections[:count, :4], original_image_shape, image_shape, window
        )
        real = box_math.area(photo_boxes) > 0
        if mrcnn_mask is None:
            return photo_boxes[real], class_ids[real], scores[real], None
        own = class_ids if mrcnn_mask.shape[-1] > 1 else 0
        soft = mrcnn_mask[np.arange(count), :, :, own][real]  # [N, h, w]
        photo_boxes, class_ids, scores = photo_boxes[real], class_ids[real], scores[real]
        unmolded = MASK_FORMS[masks](
            soft, photo_boxes, original_image_shape, exact=self.config.EXACT_RESIZE
        )
        return photo_boxes, class_ids, scores, unmolded

    def unmold_proposals(self, proposals, original_image_shape, image_shape, window) -> dict:
        """One image's scored proposals in original pixels: `rois` `[N, 4]` int32 and `scores` `[N]`, best first.

        proposals: `[P, (y1, x1, y2, x2, objectness)]` normalised, zero-padded; what lies beside the photo is left out.
        original_image_shape, image_shape, window: as for `unmold_detections`.
        """
        height, width = original_image_shape[:2]
        rois = _photo_boxes(proposals[:, :4], original_image_shape, image_shape, window)
        rois = box_math.clip(rois, np.array([0, 0, height, width], np.int32))
        real = (box_math.area(rois) > 0) & (proposals[:, 4] > 0)
        return {"rois": rois[real], "scores": proposals[real, 4]}

    def get_anchors(self, image_shape) -> np.ndarray:
        """`[A, (y1, x1, y2, x2)]` normalised anchors for a molded image of this shape, kept for the next call.

        The same in pixels is left in `self.anchors`.
        """
        key = tuple(int(side) for side in image_shape[:2])
        cached = self._anchor_cache.get(key)  # one look: another thread may replace the cache
        if cached is None:
            pixels = pyramid_anchors(self.config, key)
            cached = pixels, box_math.normalize(pixels, key)
            self._anchor_cache = {key: cached}
        self.anchors, normalized = cached
        return normalized

    def _batch_of_anchors(self, molded) -> tf.Tensor:
        """`[B, A, 4]` the anchors of a batch of molded images, sent to the device once for a size."""
        anchors = self.get_anchors(molded.shape[1:])
        array, sent = self._sent_anchors  # one look, as above
        if array is not anchors:
            sent = tf.constant(anchors[None])
            self._sent_anchors = anchors, sent
        return tf.broadcast_to(sent, (len(molded), *anchors.shape))

    # --- Looking inside ---

    def ancestor(self, tensor, name, checked=None):
        """The tensor of that name in the network, for `run_graph`; None where there is none.

        name: a layer's, or one of the proposal layer's steps: `ROI/pre_nms_anchors:0`, `ROI/refined_anchors:0`,
        `ROI/refined_anchors_clipped:0`, `ROI/rpn_non_max_suppression:0`. tensor, checked: kept for their place.
        """
        parts = name.split(":")[0].split("/")
        layer_names = {layer.name: layer for layer in self.keras_model.layers}
        layer = layer_names.get(parts[0])
        if layer is None:
            return None
        if len(parts) > 1 and isinstance(layer, ProposalLayer):
            steps = (
                "pre_nms_anchors",
                "refined_anchors",
                "refined_anchors_clipped",
                "rpn_non_max_suppression",
            )
            return ProposalSteps(layer, parts[1])(layer.input) if parts[1] in steps else None
        return layer.output if len(parts) == 1 or not isinstance(layer, ProposalLayer) else None

    def find_trainable_layer(self, layer):
        """The layer itself, or the one it wraps."""
        return self.find_trainable_layer(layer.layer) if hasattr(layer, "layer") else layer

    def get_trainable_layers(self) -> list:
        """All layers that have weights."""
        found = (self.find_trainable_layer(layer) for layer in self.keras_model.layers)
        return [layer for layer in found if layer.get_weights()]

    def run_graph(self, images, outputs, image_metas=None) -> dict[str, np.ndarray]:
        """Any tensors of the network, by name.

        images: a list of photos; or, with image_metas, an array of molded images.
        outputs: `[(name, tensor)]`, tensors of layers (`keras_model.get_layer(n).output`) or of `ancestor`.
        """
        self._need_inference("run_graph")
        outputs = dict(outputs)
        missing = [name for name, tensor in outputs.items() if tensor is None]
        if missing:
            raise ValueError(
                f"Every output must be a tensor. Received: None for {', '.join(missing)}."
            )
        if image_metas is None:
            molded, image_metas, _ = self.mold_inputs(images)
        else:
            molded = np.asarray(images)
        anchors = self._batch_of_anchors(molded)
        inside = keras.Model(self.keras_model.inputs, list(outputs.values()))
        inputs = [tf.cast(x, "float32") for x in (molded, image_metas, anchors)]
        values = tf.function(lambda *x: inside(list(x), training=False), autograph=False)(*inputs)
        values = tf.nest.flatten(values)  # Keras gives one output as it is, not in a list
        found = {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}
        for name, value in found.items():
            log(name, value)
        return found


class ReadWriteLock:
    """Lets any number of threads read at once; one that writes waits for them, and they wait for it."""

    def __init__(self):
        self._gate = threading.RLock()  # held by who writes or waits to: no one else begins to read
        self._readers, self._left = 0, threading.Condition()

    @contextlib.contextmanager
    def reading(self):
        with self._gate, self._left:
            self._readers += 1
        try:
            yield
        finally:
            with self._left:
                self._readers -= 1
                self._left.notify_all()

    @contextlib.contextmanager
    def writing(self):
        with self._gate:
            with self._left:
                self._left.wait_for(lambda: not self._readers)
            yield


def _run_network(network, *inputs):
    with winograd.where_it_pays():
        return network(list(inputs))


def _check_several(images, name) -> None:
    if getattr(images, "ndim", 4) < 4:
        raise ValueError(
            f"images must be a list of photos, or an array [B, H, W, C] of them. Received: an array of shape "
            f"{tuple(images.shape)}. Try {name}([image]); for a stack of grey photos list(images)."
        )


def _stacked(images):
    """One array, where they are of one shape."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


def _mask_crops(masks, bboxes, image_shape, exact):
    """A list of N `[h, w]` bool: what of each mask lies in its box."""
    return [crop for _, _, crop in unmold_crops(masks, bboxes, image_shape, exact)]


MASK_FORMS = {"full": unmold_masks, "crop": _mask_crops, "rle": unmold_rles}


def one_ahead(items):
    """The items of an iterable, each made in a thread while the one before is in use."""
    items, end = iter(items), object()
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = maker.submit(next, items, end)
            yield item


def _photo_boxes(boxes, original_image_shape, image_shape, window) -> np.ndarray:
    """`[N, 4]` int32 pixels of the photo: from the molded image's coordinates to the window's, then to the photo's.

    boxes: `[N, (y1, x1, y2, x2)]` normalised. The shapes and the window: as for `MaskRCNN.unmold_detections`.
    """
    y1, x1, y2, x2 = box_math.normalize(np.asarray(window), image_shape[:2])
    shift, scale = np.array([y1, x1, y1, x1]), np.array([y2 - y1, x2 - x1, y2 - y1, x2 - x1])
    # A window of one row or column has no extent in these coordinates: its boxes span the photo.
    spanning = np.tile([0.0, 0.0, 1.0, 1.0], (len(boxes), 1))
    boxes = np.divide(boxes - shift, scale, out=spanning, where=scale > 0)
    return box_math.denormalize(boxes, original_image_shape[:2])


@contextlib.contextmanager
def _precision(policy):
    """Layers made in it compute in this dtype policy, but for those that say otherwise."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _be_heard() -> None:
    """Show what is logged as plain lines on stderr, where the script has not set up logging and would see nothing."""
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)


# --- Box and meta helpers, under matterport's names -------------------------------------------------------------


def apply_box_deltas_graph(boxes, deltas):
    """See `boxes.decode`."""
    return box_math.decode(boxes, deltas)


def clip_boxes_graph(boxes, window):
    """See `boxes.clip`."""
    return box_math.clip(boxes, window)


def overlaps_graph(boxes1, boxes2):
    """See `boxes.iou`."""
    return box_math.iou(boxes1, boxes2)


def norm_boxes_graph(boxes, shape):
    """See `boxes.normalize`; `shape` is a tensor `[height, width]`."""
    return box_math.normalize(boxes, (shape[0], shape[1]))


def denorm_boxes_graph(boxes, shape):
    """See `boxes.denormalize`; `shape` is a tensor `[height, width]`."""
    return box_math.denormalize(boxes, (shape[0], shape[1]))


def parse_image_meta_graph(meta):
    """See `image.split_image_meta`."""
    return split_image_meta(meta)


def trim_zeros_graph(boxes, name="trim_zeros"):
    """The rows `[N, 4]` that are not all zero, and `[M]` bool which those are."""
    non_zeros = tf.reduce_any(boxes != 0, axis=1)
    return tf.boolean_mask(boxes, non_zeros, name=name), non_zeros


def batch_pack_graph(x, counts, num_rows):
    """`[sum(counts), ...]` the first `counts[i]` rows of each of the `num_rows` images of `x`."""
    return tf.concat([x[i, : counts[i]] for i in range(num_rows)], axis=0)

"""The network of RetinaNet (Lin 2017), top to bottom as in its figure, and the `RetinaNet` class.

    image -> backbone C3..C5 -> FPN P3..P7 -> class tower and box tower, the same on every level
        training:  anchors and objects -> targets of every anchor -> focal loss, box loss
        inference: the best anchors and classes -> boxes -> NMS -> detections

Shape shorthand: B images, A anchors of all levels, D detections, M ground-truth objects,
C channels, h and w the sides of a feature map. Naming: as in model.py.
Boxes are `(y1, x1, y2, x2)`: normalized in inference, in pixels in training.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers as KL

from .config import Config
from .detection_model import DetectionModel, network_from_config
from .nn import boxes as box_math
from .nn.backbones import feature_maps
from .nn.boxes import CROWD_IOU
from .nn.dense_detections import DenseDetectionLayer, dense_outputs
from .nn.dense_heads import class_prediction, prediction, tower
from .nn.dense_losses import dense_class_loss, giou_loss
from .nn.dense_pyramid import dense_pyramid
from .nn.dense_targets import AnchorTargetLayer, AnchorTargets
from .nn.image_meta import split_image_meta
from .nn.keras_ops import ops
from .nn.layers import FLOAT32, has_bias, mark_as_read
from .nn.losses import smooth_l1
from .training.network import Network, TrainingNetwork

# --- The head (section 4) ---


def build_head(config: Config) -> keras.Model:
    """The head as a model of its own, so that all levels share its weights.

    Input: feature map `[B, h, w, C]`. Outputs: class logits `[B, h * w * anchors, NUM_CLASSES]` of
    sigmoids, whose column 0 is the background, and deltas `[B, h * w * anchors, 4]`.
    """
    features = keras.Input([None, None, config.TOP_DOWN_PYRAMID_SIZE], name="input_head")
    anchors = len(config.RPN_ANCHOR_RATIOS) * len(config.anchor_scales()[0])
    use_bias = has_bias(config.TOWER_NORM, config)
    x = tower(features, "retinanet_class", config, use_bias)
    class_logits = class_prediction(x, "retinanet_class_logits", anchors, config)
    x = tower(features, "retinanet_box", config, use_bias)
    deltas = prediction(x, "retinanet_deltas", anchors, 4)
    return keras.Model(features, [class_logits, deltas], name="retinanet_head")


def decode_deltas(anchors: Any, deltas: Any, config: Config) -> Any:
    """`[..., 4]` the anchors `[..., 4]` moved and resized by predicted deltas `[..., 4]`."""
    deltas = deltas * np.float32(config.RPN_BBOX_STD_DEV)
    return box_math.decode(anchors, deltas, config.MAX_LOG_SCALE)


# --- Training: targets of every anchor (section 4.1, "Anchors") ---


def match_anchors(anchors: Any, gt_class_ids: Any, gt_boxes: Any, config: Config) -> AnchorTargets:
    """Match each anchor to the object of the highest IoU.

    An anchor is positive from RPN_POSITIVE_IOU on, or if no anchor overlaps some object more (then
    its own object is still the one that it overlaps most, as in torchvision), and negative below
    RPN_NEGATIVE_IOU unless it overlaps a crowd.

    anchors: `[B, A, 4]`. gt_class_ids: `[B, M]`, zero-padded, negative: a crowd.
    gt_boxes: `[B, M, 4]`. Both in pixels.
    """
    overlaps = box_math.iou(anchors, gt_boxes)  # [B, A, M]
    gt_class_ids = ops.cast(gt_class_ids, "int32")
    gt_overlaps = ops.where(gt_class_ids[:, None, :] > 0, overlaps, -1.0)
    crowd_overlaps = ops.where(gt_class_ids[:, None, :] < 0, overlaps, -1.0)
    best_iou, best_gt = ops.max(gt_overlaps, axis=-1), ops.argmax(gt_overlaps, axis=-1)
    best_of_object = ops.max(gt_overlaps, axis=1, keepdims=True)  # [B, 1, M]
    is_best = ops.any((gt_overlaps == best_of_object) & (best_of_object > 0), axis=-1)
    is_positive = is_best | (best_iou >= config.RPN_POSITIVE_IOU)
    is_in_crowd = ops.max(crowd_overlaps, axis=-1) >= CROWD_IOU
    is_neutral = is_in_crowd | (best_iou >= config.RPN_NEGATIVE_IOU)
    class_ids = ops.take_along_axis(gt_class_ids, best_gt, axis=1)
    class_ids = ops.where(is_positive, class_ids, ops.where(is_neutral, -1, 0))
    return AnchorTargets(class_ids, tf.gather(gt_boxes, best_gt, batch_dims=1))


# --- Losses (section 3, and section 4.1, "Focal loss") ---


def box_losses(deltas: Any, anchors: Any, targets: AnchorTargets, config: Config) -> Any:
    """`[B]` the sum of the box loss over the positive anchors of each image; see `BOX_LOSS`.

    deltas, anchors: `[B, A, 4]`, anchors in pixels.
    """
    is_positive = (targets.class_ids > 0)[..., None]
    # The others get equal boxes: no logarithm of zero, no overflow, gradient 0.
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    anchors = ops.where(is_positive, anchors, unit)
    boxes = ops.where(is_positive, targets.boxes, unit)
    deltas = ops.where(is_positive, deltas, 0.0)
    if config.BOX_LOSS == "giou":
        loss = giou_loss(decode_deltas(anchors, deltas, config), boxes)
    else:
        target_deltas = box_math.encode(anchors, boxes) / np.float32(config.RPN_BBOX_STD_DEV)
        loss = smooth_l1(target_deltas, deltas, config.BOX_SMOOTH_L1_BETA)
        loss = ops.sum(loss, axis=-1)
    return ops.sum(loss * ops.cast(is_positive[..., 0], "float32"), axis=-1)


def retinanet_losses(inputs: list, outputs: dict[str, Any], config: Config) -> dict[str, tuple]:
    """Return `(numerator, count)` of each loss: of an image per positive anchor, then the mean."""
    targets = AnchorTargets(outputs["anchor_class_ids"], outputs["anchor_boxes"])
    active = split_image_meta(inputs[1])["active_class_ids"]
    positives = ops.sum(ops.cast(targets.class_ids > 0, "float32"), axis=-1)  # [B]
    sums = {
        "class_loss": dense_class_loss(targets.class_ids, outputs["class_logits"], active, config),
        "bbox_loss": box_losses(outputs["deltas"], outputs["anchors"], targets, config),
    }
    images = ops.sum(ops.ones_like(positives))
    return {
        name: (ops.sum(value / ops.maximum(positives, 1.0)), images) for name, value in sums.items()
    }


# --- The two networks ---


def _build_inference(
    image: Any, image_meta: Any, levels: list, config: Config
) -> RetinaNetInference:
    """The predictions of every level -> detections."""
    anchors = keras.Input([None, 4], name="input_anchors")
    decode = functools.partial(decode_deltas, config=config)
    detect = DenseDetectionLayer(config, decode, name="retinanet_detection", **FLOAT32)
    detections, best_scores = detect([levels, anchors, image_meta])
    outputs = [detections, best_scores, *_joined(levels)]
    return RetinaNetInference([image, image_meta, anchors], outputs, name="retinanet")


def _build_training(
    image: Any, image_meta: Any, levels: list, anchors: Any, config: Config
) -> RetinaNetTraining:
    """The predictions and the targets of every anchor; outputs by name."""
    gt_class_ids = keras.Input([None], name="input_gt_class_ids", dtype="int32")
    gt_boxes = keras.Input([None, 4], name="input_gt_boxes")
    mark_as_read(image_meta)
    match = functools.partial(match_anchors, config=config)
    learned = AnchorTargetLayer(match, name="anchor_targets", **FLOAT32)
    class_ids, boxes = learned([anchors, gt_class_ids, gt_boxes])
    class_logits, deltas = _joined(levels)
    outputs = {
        "class_logits": class_logits,
        "deltas": deltas,
        "anchors": anchors,
        "anchor_class_ids": class_ids,
        "anchor_boxes": boxes,
    }
    inputs = [image, image_meta, gt_class_ids, gt_boxes]
    return RetinaNetTraining(inputs, outputs, name="retinanet", config=config)


def _joined(levels: list) -> list:
    """Class logits `[B, A, NUM_CLASSES]` and deltas `[B, A, 4]` of all levels."""
    names = ("class_logits", "deltas")
    return [
        KL.Concatenate(axis=1, name=name, **FLOAT32)(list(parts))
        for name, parts in zip(names, zip(*levels, strict=True), strict=True)
    ]


# --- Networks that Keras saves and loads whole ---


@keras.saving.register_keras_serializable("mrcnn")
class RetinaNetInference(Network):
    """The network that detects, see `RetinaNet.build`; Keras saves and loads it whole."""

    read_outputs = staticmethod(dense_outputs)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return network_from_config("inference", config, custom_objects)


@keras.saving.register_keras_serializable("mrcnn")
class RetinaNetTraining(TrainingNetwork):
    """The network that trains, see `RetinaNet.build`; Keras saves and loads it whole."""

    def losses(self, inputs, outputs):
        return retinanet_losses(inputs, outputs, self.config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return network_from_config("training", config, custom_objects)


# A whole `.h5` names its class without the package, so Keras needs the bare names too.
for network_class in (RetinaNetInference, RetinaNetTraining):
    keras.saving.get_custom_objects()[network_class.__name__] = network_class


# --- RetinaNet ---


class RetinaNet(DetectionModel):
    """RetinaNet: boxes and classes of every anchor at once, without proposals and masks.

        class FruitConfig(Config):
            NUM_CLASSES = 1 + 3

        model = RetinaNet("training", FruitConfig.retinanet(), "logs")
        model.train(train_dataset, val_dataset, learning_rate=0.00125, epochs=10, layers="all")

    mode, config, model_dir and the attributes: see `DetectionModel`.
    """

    network_name = "retinanet"
    read_outputs = staticmethod(dense_outputs)

    def build(self, mode: str, config: Any) -> keras.Model:
        """Build the Keras network of a mode.

        Inference: inputs image, image_meta, anchors (normalized); outputs detections, the best
        score of each class, class_logits, deltas.
        Training: inputs image, image_meta, gt_class_ids, gt_boxes (pixels); outputs by name, for
        the losses.
        """
        return super().build(mode, config)

    def _build(self, mode: str, config: Config) -> keras.Model:
        image = keras.Input([None, None, int(config.IMAGE_SHAPE[2])], name="input_image")
        image_meta = keras.Input([config.IMAGE_META_SIZE], name="input_image_meta")
        pyramid = dense_pyramid(feature_maps(image, config), config)
        head = build_head(config)
        levels = [list(head(level)) for level in pyramid]
        if mode == "inference":
            return _build_inference(image, image_meta, levels, config)
        anchors = self.anchors_of(image, pyramid, config, in_pixels=True)
        return _build_training(image, image_meta, levels, anchors, config)

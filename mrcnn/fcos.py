"""The network of FCOS (Tian 2019), top to bottom as in its figure 2, and the `FCOS` class.

    image -> backbone C3..C5 -> FPN P3..P7 -> class tower -> class logits
                                           -> box tower -> sides of the box, centerness
        training:  an object for each location -> losses
        inference: scores and boxes of all locations -> detections

A location is the center of a square anchor, whose side is the unit of the distances to the sides of
the object's box; see `nn.locations`.

Shape shorthand: B images, A locations of all levels, D detections, M ground-truth objects,
C channels, h and w the sides of a feature map.
Boxes are `(y1, x1, y2, x2)`: normalized in detections, in pixels in training and outside.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as KL

from .config import Config
from .detection_model import DetectionModel, network_from_config
from .nn.backbones import backbone_graph
from .nn.dense_detections import DenseDetectionLayer, dense_outputs
from .nn.dense_heads import class_prediction, prediction, tower
from .nn.dense_losses import dense_class_loss, giou_loss, sigmoid_cross_entropy
from .nn.dense_pyramid import dense_pyramid
from .nn.dense_targets import AnchorTargetLayer
from .nn.image_meta import split_image_meta
from .nn.keras_ops import ops
from .nn.layers import FLOAT32, mark_as_read
from .nn.locations import centerness, decode_sides, location_targets
from .training.network import Network, TrainingNetwork

# --- Heads (section 3.1) ---

# The outputs of the heads, in their order.
NAMES = ("class_logits", "sides", "centerness")


def build_heads(config: Config) -> keras.Model:
    """The heads as a model of its own, so that all levels share its weights.

    Input: feature map `[B, h, w, C]`. Outputs, of its h * w locations: class logits
    `[B, h * w, NUM_CLASSES]` of a sigmoid, distances `[B, h * w, (top, left, bottom, right)]` to
    the sides of the box, centerness `[B, h * w, 1]` logits.
    """
    feature_map = keras.Input([None, None, config.TOP_DOWN_PYRAMID_SIZE], name="input_heads")
    x = tower(feature_map, "fcos_class", config, use_bias=True)
    class_logits = class_prediction(x, "fcos_class_logits", 1, config)
    x = tower(feature_map, "fcos_box", config, use_bias=True)
    # A bias of 1, so that the ReLU lets gradients through at first.
    sides = KL.Activation("relu", **FLOAT32)(prediction(x, "fcos_sides", 1, 4, bias=1.0))
    centerness_logits = prediction(x, "fcos_centerness", 1, 1)
    return keras.Model(feature_map, [class_logits, sides, centerness_logits], name="fcos_heads")


# --- Losses (section 3.2) ---


def fcos_losses(inputs: list, outputs: dict[str, Any], config: Config) -> dict[str, tuple]:
    """Return `(numerator, count)` of each loss; all counts are the locations that learn objects."""
    anchors, class_ids = outputs["anchors"], outputs["anchor_class_ids"]
    boxes, has_object = outputs["anchor_boxes"], class_ids > 0
    is_object = ops.cast(has_object, "float32")  # [B, A]
    count = ops.sum(is_object)
    active_class_ids = split_image_meta(inputs[1])["active_class_ids"]
    class_loss = dense_class_loss(class_ids, outputs["class_logits"], active_class_ids, config)
    # Without an object any finite distances: no overflow, gradient 0.
    sides = ops.where(has_object[..., None], outputs["sides"], 1.0)
    bbox_loss = giou_loss(decode_sides(anchors, sides), boxes)
    centerness_loss = sigmoid_cross_entropy(
        centerness(anchors, boxes), outputs["centerness"][..., 0]
    )
    return {
        "class_loss": (ops.sum(class_loss), count),
        "bbox_loss": (ops.sum(bbox_loss * is_object), count),
        "centerness_loss": (ops.sum(centerness_loss * is_object), count),
    }


# --- The two networks ---


def _build_training(
    image: Any, image_meta: Any, outputs: dict[str, Any], anchors: Any, config: Config
) -> FCOSTraining:
    """The predictions and the targets of every location; outputs by name."""
    gt_class_ids = keras.Input([None], name="input_gt_class_ids", dtype="int32")
    gt_boxes = keras.Input([None, 4], name="input_gt_boxes")
    mark_as_read(image_meta)
    match = AnchorTargetLayer(location_targets, name="anchor_targets", **FLOAT32)
    class_ids, boxes = match([anchors, gt_class_ids, gt_boxes])
    targets = {"anchors": anchors, "anchor_class_ids": class_ids, "anchor_boxes": boxes}
    inputs = [image, image_meta, gt_class_ids, gt_boxes]
    return FCOSTraining(inputs, outputs | targets, name="fcos", config=config)


def _build_inference(
    image: Any, image_meta: Any, levels: list, outputs: dict[str, Any], config: Config
) -> FCOSInference:
    """The predictions of every level -> detections."""
    anchors = keras.Input([None, 4], name="input_anchors")
    detect = DenseDetectionLayer(config, decode_sides, name="fcos_detection", **FLOAT32)
    detections = detect([levels, anchors, image_meta])
    inputs = [image, image_meta, anchors]
    return FCOSInference(inputs, [*detections, *outputs.values()], name="fcos")


# --- Networks that Keras saves and loads whole ---


@keras.saving.register_keras_serializable("mrcnn")
class FCOSInference(Network):
    """The network that detects, see `FCOS.build`; Keras saves and loads it whole."""

    read_outputs = staticmethod(dense_outputs)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return network_from_config("inference", config, custom_objects)


@keras.saving.register_keras_serializable("mrcnn")
class FCOSTraining(TrainingNetwork):
    """The network that trains, see `FCOS.build`; Keras saves and loads it whole."""

    def losses(self, inputs, outputs):
        return fcos_losses(inputs, outputs, self.config)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return network_from_config("training", config, custom_objects)


# A whole `.h5` names its class without the package, so Keras needs the bare names too.
for network_class in (FCOSInference, FCOSTraining):
    keras.saving.get_custom_objects()[network_class.__name__] = network_class


# --- FCOS ---


class FCOS(DetectionModel):
    """FCOS: one box and one centerness for each location, without anchors to choose and proposals.

        config = Config.fcos()
        config.NUM_CLASSES = 1 + 3
        model = FCOS("training", config)
        model.train(train_dataset, val_dataset, config.LEARNING_RATE, epochs=10, layers="all")

    Arguments and methods are those of `DetectionModel`; results have boxes and no masks.
    """

    network_name = "fcos"
    read_outputs = staticmethod(dense_outputs)

    def build(self, mode: str, config: Any) -> keras.Model:
        """Build the Keras network of a mode.

        Inference: inputs image, image_meta, anchors (normalized); outputs detections, the best
        score of each class, class_logits, sides, centerness.
        Training: inputs image, image_meta, gt_class_ids, gt_boxes (pixels); outputs by name, for
        the losses.
        """
        return super().build(mode, config)

    def _build(self, mode: str, config: Config) -> keras.Model:
        image = keras.Input([None, None, int(config.IMAGE_SHAPE[2])], name="input_image")
        image_meta = keras.Input([config.IMAGE_META_SIZE], name="input_image_meta")
        _, _, *feature_maps = backbone_graph(image, config)  # C3 to C5
        pyramid = dense_pyramid(feature_maps, config)
        heads = build_heads(config)
        levels = [heads(level) for level in pyramid]
        outputs = {}
        for name, parts in zip(NAMES, zip(*levels, strict=True), strict=True):
            outputs[name] = KL.Concatenate(axis=1, name=name, **FLOAT32)(list(parts))
        if mode == "training":
            anchors = self.anchors_of(image, pyramid, config, in_pixels=True)
            return _build_training(image, image_meta, outputs, anchors, config)
        return _build_inference(image, image_meta, levels, outputs, config)

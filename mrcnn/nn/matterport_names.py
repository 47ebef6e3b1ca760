"""matterport's names of graph functions, losses and imported modules, for `mrcnn.model`.

Boxes are `(y1, x1, y2, x2)`. Our own code uses `nn.boxes`, `nn.losses` and `nn.image_meta`.
"""

from __future__ import annotations

import datetime
import logging
import math
import multiprocessing
import os
import random
import re
from typing import Any

import numpy as np
import tensorflow as tf
from keras import backend as K
from keras import layers as KE  # once keras.engine, of which scripts take Layer
from keras import models as KM

from ..config import Config
from . import boxes as box_math
from . import losses
from .anchors import compute_backbone_shapes
from .backbones import conv_block, identity_block, resnet_graph
from .detections import refine_detections
from .heads import class_head, mask_head
from .image_meta import compose_image_meta, parse_image_meta, split_image_meta
from .keras_ops import ops
from .layers import BatchNorm
from .roi_align import PyramidROIAlign, log2_graph
from .targets import detection_targets_graph

__all__ = [
    "BatchNorm",
    "K",
    "KE",
    "KM",
    "PyramidROIAlign",
    "apply_box_deltas_graph",
    "batch_pack_graph",
    "build_fpn_mask_graph",
    "clip_boxes_graph",
    "compose_image_meta",
    "compute_backbone_shapes",
    "conv_block",
    "datetime",
    "denorm_boxes_graph",
    "detection_targets_graph",
    "fpn_classifier_graph",
    "identity_block",
    "log2_graph",
    "logging",
    "math",
    "mrcnn_bbox_loss_graph",
    "mrcnn_class_loss_graph",
    "mrcnn_mask_loss_graph",
    "multiprocessing",
    "norm_boxes_graph",
    "np",
    "os",
    "overlaps_graph",
    "parse_image_meta",
    "parse_image_meta_graph",
    "random",
    "re",
    "refine_detections_graph",
    "resnet_graph",
    "rpn_bbox_loss_graph",
    "rpn_class_loss_graph",
    "smooth_l1_loss",
    "trim_zeros_graph",
]

# --- Boxes ---


def apply_box_deltas_graph(boxes: Any, deltas: Any) -> Any:
    """`[N, 4]` boxes moved by deltas `[N, (dy, dx, log(dh), log(dw))]`; see `boxes.decode`."""
    return box_math.decode(boxes, deltas)


def clip_boxes_graph(boxes: Any, window: Any) -> Any:
    """`[N, 4]` boxes clipped to the window `[4]`; see `boxes.clip`."""
    return box_math.clip(boxes, window)


def overlaps_graph(boxes1: Any, boxes2: Any) -> Any:
    """`[N, M]` IoU of boxes `[N, 4]` and `[M, 4]`; see `boxes.iou`."""
    return box_math.iou(boxes1, boxes2)


def norm_boxes_graph(boxes: Any, shape: Any) -> Any:
    """`[..., 4]` pixels to normalized coordinates; `shape` is a tensor `[height, width]`."""
    return box_math.normalize(boxes, (shape[0], shape[1]))


def denorm_boxes_graph(boxes: Any, shape: Any) -> Any:
    """`[..., 4]` normalized coordinates to pixels; `shape` is a tensor `[height, width]`."""
    return box_math.denormalize(boxes, (shape[0], shape[1]))


def trim_zeros_graph(boxes: Any, name: str = "trim_zeros") -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of `[N, 4]` that are not all zero, `[M, 4]`, and `[N]` bool which rows they are."""
    non_zeros = tf.reduce_any(boxes != 0, axis=1)
    return tf.boolean_mask(boxes, non_zeros, name=name), non_zeros


# --- Batches ---


def batch_pack_graph(x: Any, counts: Any, num_rows: int) -> tf.Tensor:
    """`[sum(counts), ...]`: the first `counts[i]` rows of `x[i]` for each of `num_rows` images.

    x: `[num_rows, N, ...]`. counts: `[num_rows]` int.
    """
    return tf.concat([x[i, : counts[i]] for i in range(num_rows)], axis=0)


def parse_image_meta_graph(meta: Any) -> dict[str, Any]:
    """The columns of image_meta rows `[B, IMAGE_META_SIZE]` by name."""
    return split_image_meta(meta)


# --- Heads and detections ---


def fpn_classifier_graph(
    rois: Any,
    feature_maps: list,
    image_meta: Any,
    pool_size: int,
    num_classes: int,
    train_bn: bool | None = True,
    fc_layers_size: int = 1024,
) -> tuple[Any, Any, Any]:
    """matterport's form of `class_head`: its settings as arguments.

    Returns: logits and probs `[B, N, num_classes]`, deltas `[B, N, num_classes, 4]`.
    """
    config: Any = Config()
    config.POOL_SIZE, config.NUM_CLASSES = pool_size, num_classes
    config.TRAIN_BN, config.FPN_CLASSIF_FC_LAYERS_SIZE = train_bn, fc_layers_size
    return class_head(rois, feature_maps, image_meta, config)


def build_fpn_mask_graph(
    rois: Any,
    feature_maps: list,
    image_meta: Any,
    pool_size: int,
    num_classes: int,
    train_bn: bool | None = True,
) -> Any:
    """matterport's form of `mask_head`: its settings as arguments.

    Returns: soft masks `[B, N, 2 * pool_size, 2 * pool_size, num_classes]`.
    """
    config: Any = Config()
    config.MASK_POOL_SIZE, config.NUM_CLASSES, config.TRAIN_BN = pool_size, num_classes, train_bn
    config.MASK_SHAPE = [2 * pool_size, 2 * pool_size]
    return mask_head(rois, feature_maps, image_meta, config)


def refine_detections_graph(rois: Any, probs: Any, deltas: Any, window: Any, config: Any) -> Any:
    """`[D, 6]` `refine_detections` of one image: arguments and result without the batch axis."""
    rois, probs = ops.expand_dims(rois, 0), ops.expand_dims(probs, 0)
    deltas, windows = ops.expand_dims(deltas, 0), ops.expand_dims(window, 0)
    return refine_detections(rois, probs, deltas, windows, config)[0]


# --- Losses, as scalars; for the shapes of the inputs see the functions of `losses` ---


def smooth_l1_loss(y_true: Any, y_pred: Any) -> Any:
    """`[...]` smooth L1 per element of `y_true` and `y_pred` `[...]`; see `losses.smooth_l1`."""
    return losses.smooth_l1(y_true, y_pred)


def rpn_class_loss_graph(rpn_match: Any, rpn_class_logits: Any) -> Any:
    """Scalar loss of `rpn_match` `[B, A, 1]` and `rpn_class_logits` `[B, A, 2]`."""
    return losses.mean(*losses.rpn_class_loss(rpn_match, rpn_class_logits))


def rpn_bbox_loss_graph(config: Any, target_bbox: Any, rpn_match: Any, rpn_bbox: Any) -> Any:
    """Scalar loss of `target_bbox` `[B, T, 4]`, `rpn_match` `[B, A, 1]`, `rpn_bbox` `[B, A, 4]`."""
    return losses.mean(*losses.rpn_bbox_loss(target_bbox, rpn_match, rpn_bbox))


def mrcnn_class_loss_graph(
    target_class_ids: Any, pred_class_logits: Any, active_class_ids: Any
) -> Any:
    """Scalar loss of target ids `[B, T]` and logits `[B, T, NUM_CLASSES]`."""
    return losses.mean(
        *losses.mrcnn_class_loss(target_class_ids, pred_class_logits, active_class_ids)
    )


def mrcnn_bbox_loss_graph(target_bbox: Any, target_class_ids: Any, pred_bbox: Any) -> Any:
    """Scalar loss of target deltas `[B, T, 4]`, ids `[B, T]`, deltas `[B, T, NUM_CLASSES, 4]`."""
    return losses.mean(*losses.mrcnn_bbox_loss(target_bbox, target_class_ids, pred_bbox))


def mrcnn_mask_loss_graph(target_masks: Any, target_class_ids: Any, pred_masks: Any) -> Any:
    """Scalar loss of masks `[B, T, h, w]`, ids `[B, T]`, masks `[B, T, h, w, NUM_CLASSES]`."""
    return losses.mean(*losses.mrcnn_mask_loss(target_masks, target_class_ids, pred_masks))

"""The graph of an export: from uint8 images of any size to detections in their pixels.

    images [B, H, W, C] uint8 -> resize, pad, minus the mean -> the network -> detections
        boxes [B, D, (y1, x1, y2, x2)] float32 pixels, class_ids [B, D], scores [B, D], count [B],
        masks [B, D, h, w] (soft), keypoints [B, D, h, w, K] (heatmaps)

Shape shorthand: B images, D detections at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..config import Config
from ..nn.anchors import pyramid_anchors
from ..nn.boxes import clip, normalize
from ..nn.portable import portable_ops
from .resize_graph import Placement, fixed_placement, resize_on_canvas, square_placement
from .settings import Shape


class Source(NamedTuple):
    """A network and what an export needs to know about it.

    network: called with `[image, meta, anchors]`, returns its outputs.
    read_outputs: see `inference.detector.Detector`.
    keras_model: the Keras network whose variables `network` reads.
    """

    network: Callable[[list], Any]
    read_outputs: Callable[[Any, Config], list]
    config: Config
    keras_model: Any = None


def output_names(config: Config) -> list[str]:
    """Return the names of a file's outputs, in their order."""
    names = ["boxes", "class_ids", "scores", "count"]
    if config.has_mask_head():
        names.append("masks")
    return [*names, "keypoints"] if config.has_keypoint_head() else names


def export_function(source: Source, shape: Shape, is_portable: bool) -> Any:
    """Return a `tf.function` of one argument, images, that returns a dict of `output_names`.

    is_portable: uses only operations that ONNX, OpenVINO and LiteRT know.
    """

    def detect(images):
        with portable_ops() if is_portable else contextlib.nullcontext():
            return _detect(images, source, shape)

    pixels = [shape.height, shape.width, source.config.IMAGE_CHANNEL_COUNT]
    spec = tf.TensorSpec([shape.batch, *pixels], tf.uint8, name="images")
    return tf.function(detect, [spec], autograph=False)


def _detect(images: tf.Tensor, source: Source, shape: Shape) -> dict[str, tf.Tensor]:
    config = source.config
    batch = tf.shape(images)[0] if shape.batch is None else tf.constant(shape.batch)
    placement = _placement(images, shape, config)
    canvas = resize_on_canvas(images, placement, config)
    canvas = tf.ensure_shape(canvas, [shape.batch, *placement.canvas, images.shape[3]])
    meta = tf.tile(_meta(placement, config)[None], tf.stack([batch, 1]))
    anchors = pyramid_anchors(config, placement.canvas)
    anchors = normalize(anchors, placement.canvas, config.CONTINUOUS_BOXES)[None]
    outputs = source.network([canvas, meta, tf.tile(anchors, tf.stack([batch, 1, 1]))])
    detections, _, *heads = source.read_outputs(outputs, config)
    return _named_outputs(detections, heads, placement, config)


def _placement(images: tf.Tensor, shape: Shape, config: Config) -> Placement:
    if shape.height is not None and shape.width is not None:
        return fixed_placement(shape.height, shape.width, config)
    height, width = tf.unstack(tf.shape(images)[1:3])
    return square_placement(height, width, config)


def _meta(placement: Placement, config: Config) -> tf.Tensor:
    """`[IMAGE_META_SIZE]` float32; see `nn.image_meta.compose_image_meta`.

    The columns that detection does not read are 0.
    """
    channels = config.IMAGE_CHANNEL_COUNT
    before = [0, placement.height, placement.width, channels, *placement.canvas, channels]
    columns = [tf.cast(x, tf.float32) for x in (*before, *placement.window)]
    unread = tf.zeros([config.IMAGE_META_SIZE - len(columns)])
    return tf.concat([tf.stack(columns), unread], axis=0)


def _named_outputs(detections, heads: list, placement: Placement, config: Config) -> dict:
    class_ids = tf.cast(detections[..., 4], tf.int32)
    is_real = tf.cast(class_ids > 0, tf.float32)
    boxes = image_boxes(detections[..., :4], placement, config.CONTINUOUS_BOXES)
    values = [
        boxes * is_real[..., None],
        class_ids,
        detections[..., 5],
        tf.reduce_sum(tf.cast(class_ids > 0, tf.int32), axis=-1),
    ]
    if config.has_mask_head():
        values.append(tf.squeeze(heads.pop(0), axis=-1))
    values += heads
    return dict(zip(output_names(config), values, strict=True))


def image_boxes(boxes: tf.Tensor, placement: Placement, is_continuous: bool) -> tf.Tensor:
    """`[B, D, (y1, x1, y2, x2)]` pixels of the given image, not rounded.

    The graph of `inference.postprocessing.image_boxes`.

    boxes: `[B, D, 4]` normalized to the canvas. is_continuous: see `Config.CONTINUOUS_BOXES`.
    """
    less, shift = (0.0, [0.0] * 4) if is_continuous else (1.0, [0.0, 0.0, 1.0, 1.0])
    height, width = (tf.cast(x, tf.float32) for x in (placement.height, placement.width))
    sides = tf.stack([height, width, height, width])
    canvas = np.array([*placement.canvas, *placement.canvas], np.float32)
    y1, x1, y2, x2 = (tf.cast(x, tf.float32) for x in placement.window)
    if is_continuous:
        window = tf.stack([y2 - y1, x2 - x1, y2 - y1, x2 - x1])
        pixels = (boxes * canvas - tf.stack([y1, x1, y1, x1])) * (sides / window)
        return clip(pixels, tf.stack([0.0, 0.0, height, width]))
    window = tf.stack([y2 - y1, x2 - x1, y2 - y1, x2 - x1]) - less
    in_window = (boxes * (canvas - less) - tf.stack([y1, x1, y1, x1])) / tf.maximum(window, 1.0)
    # A window of one row or column has no extent: its boxes span the image.
    in_window = tf.where(window > 0, in_window, [0.0, 0.0, 1.0, 1.0])
    return in_window * (sides - less) + np.array(shift, np.float32)

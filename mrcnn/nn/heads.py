"""The heads on the RoIs: class, box and mask.

Shape shorthand: B images, N RoIs, h and w the sides of a mask.
"""

from __future__ import annotations

from typing import Any

from keras import layers as KL

from .layers import FLOAT32, RoIConv2D, RoIConv2DTranspose, has_bias, norm
from .roi_align import roi_align


def class_head(
    rois: Any, pyramid: list, image_meta: Any, config: Any, counted: Any = None, stage: str = ""
) -> tuple[Any, Any, Any]:
    """The class and box head (FPN, 5.2): hidden layers on the pooled RoI, used by both outputs.

    rois: `[B, N, (y1, x1, y2, x2)]` normalized. pyramid: the levels from P2 on, `[B, H, W, C]`.
    image_meta: `[B, IMAGE_META_SIZE]`.
    counted: `[B, N]` bool, the RoIs of which the statistics of batch norm are; None: all.
    stage: in the names of the layers, "cascade2_" in the second stage of a cascade.

    Returns: as `class_outputs`.
    """
    width, side = config.FPN_CLASSIF_FC_LAYERS_SIZE, config.POOL_SIZE
    x = roi_align(rois, image_meta, pyramid, side, config, f"roi_align_{stage}classifier")
    if config.BOX_HEAD == "4conv1fc":
        for i in (1, 2, 3, 4):
            filters, kind = config.TOP_DOWN_PYRAMID_SIZE, config.BOX_HEAD_NORM
            x = _convolution(x, filters, f"{stage}box", i, kind, config, counted)
        x = RoIConv2D(width, (side, side), activation="relu", name=f"mrcnn_{stage}box_fc")(x)
    else:
        # Convolutions as large as their inputs, so that the weights have matterport's shapes.
        for i, size in ((1, side), (2, 1)):
            x = RoIConv2D(width, (size, size), name=f"mrcnn_{stage}class_conv{i}")(x)
            x = norm(x, config.BOX_HEAD_NORM, config, f"mrcnn_{stage}class_bn{i}", counted)
            x = KL.Activation("relu")(x)
    hidden = KL.Reshape((-1, width), name=f"{stage}pool_squeeze")(x)  # [B, N, width]
    return class_outputs(hidden, config, stage)


def class_outputs(hidden: Any, config: Any, stage: str = "") -> tuple[Any, Any, Any]:
    """The last layers of the class and box head, for hidden values `[B, N, C]` of each RoI.

    stage: as for `class_head`.

    Returns: logits `[B, N, NUM_CLASSES]`, probs `[B, N, NUM_CLASSES]`, deltas
        `[B, N, NUM_CLASSES, 4]` (CLASS_AGNOSTIC_BOX: `[B, N, 1, 4]`).
    """
    logits = KL.Dense(config.NUM_CLASSES, name=f"mrcnn_{stage}class_logits", **FLOAT32)(hidden)
    probs = KL.Activation("softmax", name=f"mrcnn_{stage}class", **FLOAT32)(logits)
    rows = 1 if config.CLASS_AGNOSTIC_BOX else config.NUM_CLASSES
    x = KL.Dense(rows * 4, name=f"mrcnn_{stage}bbox_fc", **FLOAT32)(hidden)
    deltas = KL.Reshape((-1, rows, 4), name=f"mrcnn_{stage}bbox", **FLOAT32)(x)
    return logits, probs, deltas


def mask_head(rois: Any, pyramid: list, image_meta: Any, config: Any, counted: Any = None) -> Any:
    """The mask head: four convolutions, then `mask_outputs`.

    rois, pyramid, image_meta, counted: as for `class_head`.

    Returns: soft masks `[B, N, h, w, NUM_CLASSES]` (CLASS_AGNOSTIC_MASK: `[B, N, h, w, 1]`).
    """
    channels = config.MASK_CHANNELS
    x = roi_align(rois, image_meta, pyramid, config.MASK_POOL_SIZE, config, "roi_align_mask")
    for i in (1, 2, 3, 4):
        x = _convolution(x, channels, "mask", i, config.MASK_HEAD_NORM, config, counted)
    return mask_outputs(x, config)


def mask_outputs(x: Any, config: Any) -> Any:
    """The last layers of the mask head: deconvolutions that double the size up to MASK_SHAPE.

    x: `[B, N, h', w', C]` features of each RoI.

    Returns: soft masks `[B, N, h, w, NUM_CLASSES]`, as `mask_head`.
    """
    channels = config.MASK_CHANNELS
    for i in range(1, (config.mask_doublings() or 1) + 1):
        name = "mrcnn_mask_deconv" if i == 1 else f"mrcnn_mask_deconv{i}"
        x = RoIConv2DTranspose(channels, (2, 2), strides=2, activation="relu", name=name)(x)
    count = 1 if config.CLASS_AGNOSTIC_MASK else config.NUM_CLASSES
    return RoIConv2D(count, (1, 1), activation="sigmoid", name="mrcnn_mask", **FLOAT32)(x)


def stage5_features(
    rois: Any, levels: list, image_meta: Any, stage5: Any, config: Any, name: str
) -> Any:
    """`[B, N, POOL_SIZE, POOL_SIZE, C]` features of each RoI of C4 after stage 5.

    Class, box and mask branch share them (ResNet-C4; Mask R-CNN, figure 4 left).

    rois, image_meta: as for `class_head`. levels: only C4, `[B, H, W, C / 2]`.
    stage5: the model of `build_stage5_model`. name: of the RoIAlign layer.
    """
    return stage5(roi_align(rois, image_meta, levels, 2 * config.POOL_SIZE, config, name))


def _convolution(x, channels, head, number, kind, config, counted):
    """`[B, N, h, w, channels]` a 3x3 convolution of a head, its norm, and ReLU."""
    name = f"mrcnn_{head}_conv{number}"
    use_bias = has_bias(kind, config)
    x = RoIConv2D(channels, (3, 3), padding="same", use_bias=use_bias, name=name)(x)
    x = norm(x, kind, config, f"mrcnn_{head}_bn{number}", counted)
    return KL.Activation("relu")(x)

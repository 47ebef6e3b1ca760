"""The stages of a Cascade R-CNN (Cai and Vasconcelos 2018, sections 4 and 5) after the first.

    RoIs -> head 1 -> boxes = RoIs of stage 2 -> head 2 -> boxes = RoIs of stage 3 -> head 3

The first head is that of every network. A later one learns from better RoIs, with a higher IoU of
`Config.CASCADE_IOUS` and with deltas in a smaller unit, BBOX_STD_DEV divided by its number.

Shape shorthand: B images, N RoIs, M ground-truth objects. Boxes are `(y1, x1, y2, x2)`, normalized.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers as KL

from . import boxes as box_math
from . import losses
from .detections import refine_boxes
from .heads import class_head
from .image_meta import normalized_windows, split_image_meta
from .keras_ops import ops
from .layers import FLOAT32
from .targets import detection_targets


class Stage(NamedTuple):
    """The RoIs of a stage, the outputs of its head and, in training, its targets."""

    rois: Any  # [B, N, 4]
    logits: Any  # [B, N, NUM_CLASSES], as probs
    probs: Any
    deltas: Any  # [B, N, NUM_CLASSES, 4], or [B, N, 1, 4] with CLASS_AGNOSTIC_BOX
    class_ids: Any = None  # [B, N]
    target_bbox: Any = None  # [B, N, 4]


def stage_config(config: Any, stage: int) -> Any:
    """Return a copy of the config with the IoU of stage 1, 2, ... and BBOX_STD_DEV `[4]` / stage.

    The deviations are detectron2's. Every RoI trains: nothing is drawn.
    """
    changed = copy.copy(config)
    changed.BBOX_STD_DEV = np.float32(config.BBOX_STD_DEV) / stage
    changed.ROI_POSITIVE_IOU = config.CASCADE_IOUS[stage - 1]
    changed.ROI_POSITIVE_RATIO, changed.ROI_SAMPLING = 1.0, "fill"
    return changed


class StageRoIs(KL.Layer):
    """RoIs `[B, N, 4]` of a stage: those of the stage before, refined, without a gradient.

    A RoI without an area becomes padding, as does one in a crowd in training. There, positives come
    first, and class ids `[B, N]` and deltas `[B, N, 4]` to learn follow as outputs.

    Inputs: rois, probs, deltas of the stage before, image_meta; in training also gt_class_ids
    `[B, M]`, gt_boxes `[B, M, 4]`. stage: its number.
    """

    def __init__(self, config: Any, stage: int, **kwargs):
        super().__init__(**kwargs)
        self.config, self.stage = config, stage

    def call(self, inputs):
        rois, probs, deltas, image_meta, *objects = inputs
        # The paper has one set of deltas for all classes, as with CLASS_AGNOSTIC_BOX. Otherwise a
        # RoI takes those of its best class: the first head stays that of every network.
        best = 1 + ops.argmax(probs[..., 1:], axis=-1)
        windows = normalized_windows(image_meta, self.config.CONTINUOUS_BOXES)
        before = stage_config(self.config, self.stage - 1)
        refined = refine_boxes(rois, deltas, best, windows, before)
        refined *= ops.cast(box_math.area(refined) > 0, "float32")[..., None]
        outputs = [refined]
        if objects:
            ids, boxes = objects
            config, equal = stage_config(self.config, self.stage), ops.ones_like(refined[..., 0])
            outputs = detection_targets(refined, ids, boxes, None, equal, config)[:3]
        return [ops.stop_gradient(output) for output in outputs]

    def compute_output_spec(self, inputs):
        shape = inputs[0].shape
        specs = [(shape, "float32"), (shape[:2], "int32"), (shape, "float32")]
        return [keras.KerasTensor(*spec) for spec in (specs if len(inputs) > 4 else specs[:1])]


def cascade_stages(outputs: dict[str, Any], objects: list, shared: Any, config: Any) -> dict:
    """The `Stage`s after the first by name, "cascade2" and so on.

    outputs: of the first stage, by the names of training. objects: in training, gt_class_ids
        `[B, M]` and gt_boxes `[B, M, 4]`. shared: the `SharedNetwork` of `model.py`.
    """
    last = Stage(outputs["output_rois"], None, outputs["mrcnn_class"], outputs["mrcnn_bbox"])
    stages = {}
    for number in config.cascade_stages():
        name = f"cascade{number}"
        refine = StageRoIs(config, number, name=f"{name}_rois", **FLOAT32)
        inputs = [last.rois, last.probs, last.deltas, shared.image_meta, *objects]
        rois, *targets = refine(inputs)
        is_roi = ops.any(rois != 0, axis=-1) if objects else None
        head = class_head(rois, shared.roi_levels, shared.image_meta, config, is_roi, f"{name}_")
        last = stages[name] = Stage(rois, *head, *targets)
    return stages


def cascade_inference(rois: Any, probs: Any, deltas: Any, shared: Any, config: Any) -> tuple:
    """The RoIs and deltas of the last stage, and the mean of all stages' class probabilities.

    Each head scores the RoIs of its own stage, as in detectron2. The deltas are in units of
    BBOX_STD_DEV `[4]`, as without a cascade.

    rois, probs, deltas: of the first stage, see `Stage`. shared: as for `cascade_stages`.
    """
    outputs = {"output_rois": rois, "mrcnn_class": probs, "mrcnn_bbox": deltas}
    stages = list(cascade_stages(outputs, [], shared, config).values())
    mean = KL.Average(name="cascade_class", **FLOAT32)([probs, *(stage.probs for stage in stages)])
    return stages[-1].rois, mean, stages[-1].deltas / (1 + len(stages))


def cascade_losses(outputs: dict[str, Any], image_meta: Any, config: Any) -> dict[str, tuple]:
    """`(numerator, count)` of the losses of the later stages, "mrcnn_class_loss/2" and so on.

    Training adds the losses of one name: each stage counts as much as the first (section 4.2 with
    lambda 1; detectron2). detectron2 also divides the gradient that enters the RoIs' features by
    the number of stages; on nuclei that gained nothing.

    outputs: with those of `cascade_stages`. image_meta: `[B, IMAGE_META_SIZE]`.
    """
    active = split_image_meta(image_meta)["active_class_ids"]
    halves = {}
    for number in config.cascade_stages():
        stage = outputs[f"cascade{number}"]
        is_roi = ops.any(stage.rois != 0, axis=-1)
        halves[f"mrcnn_class_loss/{number}"] = losses.mrcnn_class_loss(
            stage.class_ids, stage.logits, active, config.CLASS_WEIGHTS, config.FOCAL_GAMMA, is_roi
        )
        is_roi = is_roi if config.LOSS_DENOMINATOR == "sampled" else None
        halves[f"mrcnn_bbox_loss/{number}"] = losses.mrcnn_bbox_loss(
            stage.target_bbox, stage.class_ids, stage.deltas, config.BOX_SMOOTH_L1_BETA, is_roi
        )
    return halves
